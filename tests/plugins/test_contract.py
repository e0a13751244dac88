"""The contract suite accepts a good stylizer and catches bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.plugins import FoundStylizer
from agile3d_cli.safefile import read_card, read_tensors, write_file
from agile3d_cli.stylizer import FaceSampler, Progress, StylizerDescription
from agile3d_cli.testing import PaintedFaces, StylizerContract, paint_exemplars, paint_faces


@dataclass(frozen=True)
class TintConfig:
    """Settings of the stylizer below."""

    strength: float = 0.5
    """Share of the exemplars' mean colour, 0 to 1."""


class Tint:
    """The simplest stylizer: mixes in the mean colour of the exemplars."""

    def __init__(self, config: TintConfig) -> None:
        self.config = config
        self.color: Tensor | None = None

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        if not exemplars:
            raise ConfigError("There are no exemplars.")
        self.color = torch.stack([picture.mean((1, 2)) for picture in exemplars]).mean(0)
        progress("colours", 1.0)

    def stylize(self, images: Tensor) -> Tensor:
        if self.color is None:
            raise ConfigError("The stylizer is not fitted.")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ConfigError(f"Pictures are (N, 3, H, W), not {tuple(images.shape)}.")
        return images.lerp(self.color[:, None, None].expand_as(images), self.config.strength)

    def save(self, path: Path) -> None:
        assert self.color is not None
        config = {"strength": self.config.strength}
        write_file(path, {"format": "model", "version": 1, "config": config}, {"color": self.color})


def load(path: Path) -> Tint:
    card = read_card(path, "model")
    tint = Tint(TintConfig(**card.meta["config"]))
    tint.color = read_tensors(card)["color"]
    return tint


class TestTint(StylizerContract):
    package = "agile3d-tint"
    name = "tint"

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls) -> FoundStylizer:
        notes = (LicenseNote("code", "Apache-2.0", "this test", True),)
        description = StylizerDescription("tint", "Mixes in the mean colour.", TintConfig, Tint, load, notes)
        return FoundStylizer("tint", "agile3d-tint", "1", description)

    def test_listing_it_imports_no_torch(self) -> None:
        """Another process cannot see this plugin; ``test_finding`` tests the same."""


class Frozen(Tint):
    """Always answers with one picture: collapsed."""

    def stylize(self, images: Tensor) -> Tensor:
        return paint_faces(torch.zeros(1, 2), torch.zeros(1, 3), images.shape[-1]).expand_as(images).clone()


class Restless(Tint):
    """Answers differently each time."""

    def stylize(self, images: Tensor) -> Tensor:
        return (images + torch.rand_like(images) * 0.1).clamp(-1, 1)


class Mirrored(Tint):
    """Turns the head the other way."""

    def stylize(self, images: Tensor) -> Tensor:
        return super().stylize(images).flip(-1)


class Mixing(Tint):
    """Normalises over the batch."""

    def stylize(self, images: Tensor) -> Tensor:
        return (images - images.mean(0, keepdim=True)).clamp(-1, 1)


@pytest.mark.parametrize(
    ("stylizer", "test"),
    [
        (Frozen, "test_different_faces_stay_different"),
        (Frozen, "test_the_head_stays_where_it_is"),
        (Mirrored, "test_the_head_stays_where_it_is"),
        (Restless, "test_the_same_call_gives_the_same_picture"),
        (Mixing, "test_a_picture_does_not_depend_on_its_batch"),
    ],
)
def test_bad_stylizers_are_caught(stylizer: type[Tint], test: str) -> None:
    fitted = stylizer(TintConfig())
    fitted.fit(paint_exemplars(2), PaintedFaces(), lambda stage, fraction: None)
    faces = PaintedFaces().sample(4, torch.Generator().manual_seed(0)).images
    inputs = {"fitted": fitted, "faces": faces}
    method = getattr(StylizerContract(), test)
    wanted = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    with pytest.raises(AssertionError):
        method(**{name: inputs[name] for name in wanted})


def test_painted_faces_repeat_and_fit_their_landmarks() -> None:
    first = PaintedFaces().sample(3, torch.Generator().manual_seed(5))
    second = PaintedFaces().sample(3, torch.Generator().manual_seed(5))
    assert torch.equal(first.images, second.images) and torch.equal(first.landmarks, second.landmarks)
    assert (
        first.images.shape == (3, 3, 64, 64) and first.landmarks.shape == (3, 468, 3) and first.labels.shape == (3, 25)
    )
    assert float(first.images.abs().max()) <= 1
    assert [tuple(picture.shape) for picture in paint_exemplars(2)] == [(3, 96, 96), (3, 64, 64)]
