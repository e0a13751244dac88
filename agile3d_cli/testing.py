"""Contract tests that every stylizer passes unchanged; plugin authors reuse them in their own test suites.

In a test file of the plugin::

    from agile3d_cli.testing import StylizerContract

    class TestMyStyle(StylizerContract):
        package = "agile3d-mystyle"
        name = "mystyle"
        config = MyStyleConfig(steps=5)

Faces and exemplars are painted here, so the tests need no weights, no files and no network. They ask how a stylizer
behaves, not how good it looks. Needs pytest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from agile3d_cli.camera import portrait_label
from agile3d_cli.errors import Agile3dError, ConfigError, RefusedError
from agile3d_cli.plugins import FoundStylizer, find_stylizers
from agile3d_cli.stylizer import DrawsFeatures, FaceBatch, KnowsShape, Stylizer

SIZE = 64
"""Width and height of the painted pictures, pixels."""


def ignore_progress(stage: str, fraction: float) -> None:
    """A progress callback that checks what it is told."""
    assert isinstance(stage, str) and stage
    assert 0.0 <= fraction <= 1.0


def paint_faces(shift: Tensor, skin: Tensor, size: int = SIZE, eyes: float = 0.05) -> Tensor:
    """Simple faces: a shaded oval with eyes and a mouth before a plain background.

    Args:
        shift: (N, 2) the head's place, u right and v down, fractions from the centre.
        skin: (N, 3) colour in [-1, 1].
        size: width and height, pixels.
        eyes: radius of the eyes, fraction of the picture.

    Returns:
        (N, 3, size, size) in [-1, 1].
    """
    axis = (torch.arange(size) + 0.5) / size - 0.5
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    x, y = u - shift[:, 0, None, None], v - shift[:, 1, None, None]
    pictures = torch.full((len(shift), 3, size, size), 0.8)
    pictures = _over(pictures, (x / 0.28) ** 2 + (y / 0.36) ** 2, skin[:, :, None, None] * (1 - 0.5 * x[:, None] ** 2))
    for side in (-0.11, 0.11):
        pictures = _over(pictures, ((x - side) ** 2 + (y + 0.06) ** 2) / eyes**2, torch.tensor(-0.9))
    return _over(pictures, (x / 0.1) ** 2 + ((y - 0.18) / 0.025) ** 2, torch.tensor(-0.4)).clamp(-1, 1)


def _over(below: Tensor, radius: Tensor, color: Tensor) -> Tensor:
    """Lays a colour over pictures where ``radius`` is below 1, with a soft edge."""
    cover = torch.sigmoid((1 - radius) * 12)[:, None]
    return below * (1 - cover) + color * cover


def paint_exemplars(count: int, seed: int = 0) -> list[Tensor]:
    """Pictures of one style: bluish faces with large eyes, in two sizes."""
    generator = torch.Generator().manual_seed(seed)
    shift = (torch.rand(count, 2, generator=generator) - 0.5) * 0.04
    skin = torch.tensor([-0.4, 0.1, 0.7]) + (torch.rand(count, 3, generator=generator) - 0.5) * 0.2
    return [
        paint_faces(shift[i : i + 1], skin[i : i + 1], SIZE if i % 2 else SIZE + 32, eyes=0.085)[0]
        for i in range(count)
    ]


class PaintedFaces:
    """A face sampler without a generator: painted faces whose landmarks lie on an oval dome."""

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        """``count`` faces; the same state of ``generator`` gives the same faces."""
        shift = (torch.rand(count, 2, generator=generator) - 0.5) * 0.1
        skin = torch.tensor([0.6, 0.2, 0.0]) + (torch.rand(count, 3, generator=generator) - 0.5) * 0.5
        turn = torch.linspace(0, 2 * torch.pi, 468)
        reach = torch.linspace(0.05, 0.95, 468)
        flat = torch.stack([0.28 * reach * turn.cos(), 0.36 * reach * turn.sin()], -1) + 0.5
        depth = (-0.3 * (1 - reach**2).sqrt())[None, :, None].expand(count, -1, -1)
        landmarks = torch.cat([flat[None] + shift[:, None], depth], -1)
        label = portrait_label().expand(count, 25).clone()
        return FaceBatch(paint_faces(shift, skin), label, landmarks)


class StylizerContract:
    """Subclass it, name the subclass ``Test...`` and fill in the three fields below."""

    package: ClassVar[str] = ""
    """The distribution that brings the stylizer."""
    name: ClassVar[str] = ""
    """The stylizer's name."""
    config: ClassVar[Any] = None
    """Settings under which fitting ends within seconds; None takes the defaults."""
    exemplars: ClassVar[int] = 6
    """How many painted exemplars it is fitted to."""
    batch_tolerance: ClassVar[float] = 1e-4
    """Largest difference of a picture alone and in a batch; sums are taken in another order."""

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls) -> FoundStylizer:
        """The stylizer as the program finds it."""
        for stylizer in find_stylizers():
            if stylizer.name == cls.name:
                return stylizer
        raise AssertionError(f"{cls.name!r} is not found; install {cls.package} into this environment")

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, found: FoundStylizer) -> Stylizer:
        """A stylizer that has learnt the painted style."""
        stylizer = cls.build(found)
        stylizer.fit(paint_exemplars(cls.exemplars), PaintedFaces(), ignore_progress, seed=1)
        return stylizer

    @pytest.fixture(scope="class")
    @classmethod
    def faces(cls) -> Tensor:
        """Four faces that were not used for fitting."""
        return PaintedFaces().sample(4, torch.Generator().manual_seed(99)).images

    @classmethod
    def build(cls, found: FoundStylizer) -> Stylizer:
        """A new stylizer with the test's settings."""
        assert found.description is not None, found.error
        return found.description.build(cls.config if cls.config is not None else found.description.config())

    def test_it_is_found_and_described(self, found: FoundStylizer) -> None:
        assert found.error is None and found.package == self.package and found.description is not None
        assert found.description.summary and "\n" not in found.description.summary
        assert found.description.config() == found.description.config(), "settings compare by value"

    def test_listing_it_imports_no_torch(self) -> None:
        code = (
            "import sys; from agile3d_cli.plugins import find_stylizers; "
            "print(*(s.name for s in find_stylizers()), 'torch' in sys.modules)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert self.name in run.stdout.split() and run.stdout.split()[-1] == "False"

    def test_shape_and_range_are_kept(self, fitted: Stylizer, faces: Tensor) -> None:
        for pictures in (faces, torch.nn.functional.interpolate(faces[:1], size=96), faces[:0]):
            styled = fitted.stylize(pictures)
            assert styled.shape == pictures.shape and styled.dtype == pictures.dtype
            assert not styled.requires_grad and bool(styled.isfinite().all())
            assert float(styled.abs().sum() and styled.abs().max()) <= 1

    def test_inputs_are_left_alone(self, fitted: Stylizer, faces: Tensor) -> None:
        before = faces.clone()
        fitted.stylize(faces)
        assert torch.equal(faces, before)

    def test_it_does_something_to_every_face(self, fitted: Stylizer, faces: Tensor) -> None:
        assert bool(((fitted.stylize(faces) - faces).abs().mean((1, 2, 3)) > 0.01).all())

    def test_different_faces_stay_different(self, fitted: Stylizer) -> None:
        skin = torch.tensor([[0.8, 0.5, 0.3], [-0.3, -0.5, -0.6]])
        styled = fitted.stylize(paint_faces(torch.zeros(2, 2), skin))
        assert float((styled[0] - styled[1]).abs().mean()) > 0.01

    def test_the_same_call_gives_the_same_picture(self, fitted: Stylizer, faces: Tensor) -> None:
        first = fitted.stylize(faces)
        torch.manual_seed(torch.initial_seed() + 1)
        assert torch.equal(first, fitted.stylize(faces))

    def test_a_picture_does_not_depend_on_its_batch(self, fitted: Stylizer, faces: Tensor) -> None:
        alone = torch.cat([fitted.stylize(faces[i : i + 1]) for i in range(len(faces))])
        torch.testing.assert_close(fitted.stylize(faces), alone, rtol=0, atol=self.batch_tolerance)

    def test_the_head_stays_where_it_is(self, fitted: Stylizer) -> None:
        """A face that lies further to the right lies further to the right in the style, too."""
        skin = torch.tensor([[0.6, 0.2, 0.0]]).expand(2, 3)
        pair = paint_faces(torch.tensor([[-0.06, 0.0], [0.06, 0.0]]), skin)
        styled = fitted.stylize(pair)
        moved = float(_middle(styled[1]) - _middle(styled[0]))
        assert 0.06 <= moved <= 0.18, f"the face moved by 0.12 of the picture, its stylized version by {moved:.3f}"

    def test_a_known_shape_is_a_shift_of_the_landmarks(self, fitted: Stylizer) -> None:
        if isinstance(fitted, KnowsShape):
            shift = fitted.shape_shift
            assert shift.shape == (468, 3) and bool(shift.isfinite().all())
            # More than three eye distances is a mistake of units.
            assert float(shift.norm(dim=1).max()) < 3

    def test_drawn_features_are_a_share(self, fitted: Stylizer) -> None:
        if isinstance(fitted, DrawsFeatures):
            assert 0 <= fitted.features_drawn <= 1

    def test_the_same_seed_gives_the_same_stylizer(self, found: FoundStylizer, fitted: Stylizer, faces: Tensor) -> None:
        again = self.build(found)
        again.fit(paint_exemplars(self.exemplars), PaintedFaces(), ignore_progress, seed=1)
        assert torch.equal(again.stylize(faces), fitted.stylize(faces))

    def test_it_comes_back_from_its_file(
        self, found: FoundStylizer, fitted: Stylizer, faces: Tensor, tmp_path: Path
    ) -> None:
        assert found.description is not None
        fitted.save(tmp_path / "one.safetensors")
        fitted.save(tmp_path / "two.safetensors")
        assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one.safetensors", "two.safetensors"]
        loaded = found.description.load(tmp_path / "one.safetensors")
        assert torch.equal(loaded.stylize(faces), fitted.stylize(faces))

    def test_a_damaged_file_is_refused(self, found: FoundStylizer, fitted: Stylizer, tmp_path: Path) -> None:
        assert found.description is not None
        path = tmp_path / "style.safetensors"
        fitted.save(path)
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(RefusedError):
            found.description.load(path)
        path.write_bytes(b"\x80\x04\x95not for us")
        with pytest.raises(RefusedError):
            found.description.load(path)

    def test_one_exemplar_is_enough(self, found: FoundStylizer, faces: Tensor) -> None:
        stylizer = self.build(found)
        stylizer.fit(paint_exemplars(1), PaintedFaces(), ignore_progress, seed=1)
        assert bool(stylizer.stylize(faces).isfinite().all())

    def test_wrong_inputs_are_named(self, found: FoundStylizer, fitted: Stylizer) -> None:
        with pytest.raises(ConfigError):
            self.build(found).fit([], PaintedFaces(), ignore_progress)
        with pytest.raises(Agile3dError):
            self.build(found).stylize(torch.zeros(1, 3, SIZE, SIZE))
        for wrong in (torch.zeros(3, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)):
            with pytest.raises(ConfigError):
                fitted.stylize(wrong)


def _middle(picture: Tensor) -> Tensor:
    """Where the parts that differ from the border lie on average, fraction of the width."""
    border = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], 1).median(1).values
    weight = (picture - border[:, None, None]).abs().mean(0).sum(0)
    weight = (weight - 0.1 * weight.max()).clamp_min(0)
    place = (torch.arange(len(weight)) + 0.5) / len(weight)
    return (weight * place).sum() / weight.sum().clamp_min(1e-9)
