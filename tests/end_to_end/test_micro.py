"""Both flows with a micro generator: the same code as with ``mini``, in seconds."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar import pipeline as avatar_pipeline
from agile3d_cli.avatar.config import ApplyConfig, InvertConfig, ViewsConfig
from agile3d_cli.avatar.invert import Latent, invert, soften
from agile3d_cli.avatar.latents import build_head, load_head, personal_tensors
from agile3d_cli.avatar.likeness import fit_shape, landmark_points, landmarks_of
from agile3d_cli.avatar.pipeline import make_avatar
from agile3d_cli.avatar.render import GeneratorHead, render_plain
from agile3d_cli.avatar.traced import colours, trace
from agile3d_cli.bundle import (
    BaseReference,
    Portrait,
    StyleBundle,
    StyleReference,
    read_portrait,
    read_style,
    write_portrait,
)
from agile3d_cli.errors import PhotoError, RefusedError
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.template import face_template
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.deformation import look_up
from agile3d_cli.models.generator import PAINT_FADES, Subject
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.style import augment
from agile3d_cli.style import pipeline as style_pipeline
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.config import NewStyleConfig, Preset, TransferConfig
from agile3d_cli.style.displacement import style_displacement
from agile3d_cli.style.faces import BACKGROUND, GeneratorFaces
from agile3d_cli.style.pipeline import learn_style
from agile3d_cli.style.transfer import Transferred, transfer
from agile3d_cli.stylizer import FaceSampler, Progress, StylizerDescription

WIDE = 0.62
QUICK = InvertConfig(search_steps=12, paint_steps=40, paint_rate=0.08, rays=600, coarse=24, fine=8)
BRIEF = TransferConfig(steps=24, batch=2, patch=16, checkpoint=8)


def silent(*_: object) -> None:
    """A progress that nobody watches."""


@pytest.fixture(scope="module")
def latent(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> Latent:
    return invert(sitter[1], micro, QUICK, WIDE, silent)


def widened(points: Tensor) -> Tensor:
    """A style's shift of landmarks (P, 3): a wider, longer face, mirror-symmetric."""
    return torch.stack([0.15 * points[:, 0], 0.08 * points[:, 1], 0 * points[:, 2]], 1)


@pytest.fixture(scope="module")
def pairs(micro: BaseModel) -> Pairs:
    """Faces whose style is a darker, redder copy of them, with the widened landmarks."""
    known = GeneratorFaces(micro, 48).draw(8, torch.Generator().manual_seed(0))
    tint = torch.tensor([0.9, 0.4, 0.4])[:, None, None]
    drawn = ((known.images + 1) * tint - 1) * known.alphas + BACKGROUND * (1 - known.alphas)
    moved = []
    for z, label in zip(known.z, known.labels, strict=True):
        points = landmark_points(micro, z[None])
        after = points + widened(micro.landmarks)
        moved.append((camera.project(label[None], after[None]) - camera.project(label[None], points[None]))[0, :, :2])
    return Pairs(known.z, known.labels, drawn.half(), known.alphas.half(), torch.stack(moved))


# Rendering


@pytest.mark.parametrize("painted", [False, True])
def test_guided_rendering_is_the_plain_one(micro: BaseModel, painted: bool) -> None:
    subject = micro.generator.from_latent(torch.randn(1, 8, generator=torch.Generator().manual_seed(1)))
    if painted:
        noise = 0.3 * torch.randn(subject.planes.shape, generator=torch.Generator().manual_seed(2))
        subject = dataclasses.replace(subject, paint=subject.planes + noise)
    labels = torch.stack([camera.portrait_label(0.1), camera.portrait_label(2.0, 0.3, WIDE * camera.FOCAL)])
    fast = GeneratorHead(micro.generator, subject).render(labels, 64, -1.0)
    plain = [render_plain(micro.generator, subject, label[None], 64) for label in labels]
    image, alpha, depth = (torch.cat([getattr(p, name) for p in plain]) for name in ("image", "alpha", "depth"))
    # Measured: image 0.0015, alpha 0.0004, depth 0.0006 on average, image 0.023 at the 99th percentile; the largest
    # differences are single pixels of the outline.
    assert float((fast.image - image).abs().mean()) < 0.004
    assert float((fast.alpha - alpha).abs().mean()) < 0.001
    solid = alpha > 0.95
    assert float((fast.image - image).abs()[solid.expand_as(image)].quantile(0.99)) < 0.06
    assert float((fast.depth - depth).abs()[solid].mean()) < 0.002


@dataclasses.dataclass(frozen=True)
class Balls:
    """Grey balls in place of a generator: what a renderer asks one for."""

    balls: tuple[tuple[tuple[float, float, float], float], ...]
    """Centre and radius of each."""
    config: GeneratorConfig

    def field(self, subject: Subject, points: Tensor) -> tuple[Tensor, Tensor]:
        away = [(points - torch.tensor(centre)).norm(dim=-1) - radius for centre, radius in self.balls]
        density = 100 * torch.sigmoid(-300 * torch.stack(away).amin(0))
        return density, torch.full((*points.shape[:2], 3), 0.5)


def test_what_floats_beside_the_head_is_not_drawn(micro: BaseModel) -> None:
    config = micro.generator.config
    head, crumb = ((0.0, 0.0, 0.0), 0.25), ((0.35, 0.3, 0.1), 0.06)
    nothing = Subject(torch.zeros(1, 3, 1, 2, 2), None)
    labels = torch.stack([camera.portrait_label(0.0, 0.0, WIDE * camera.FOCAL), camera.portrait_label(1.2)])
    alone, both = (
        GeneratorHead(Balls(balls, config), nothing).render(labels, 64) for balls in ((head,), (head, crumb))
    )
    shown = render_plain(Balls((head, crumb), config), nothing, labels[:1], 64)
    assert float((shown.alpha - alone.alpha[:1]).max()) > 0.9
    # Measured: 0.007, as the guide ends a little closer to the ball.
    torch.testing.assert_close(both.alpha, alone.alpha, rtol=0, atol=0.02)


def test_traced_pixels_are_the_rendered_ones(micro: BaseModel) -> None:
    subject = micro.generator.from_latent(torch.randn(1, 8, generator=torch.Generator().manual_seed(1)))
    other = subject.planes + 0.3 * torch.randn(subject.planes.shape, generator=torch.Generator().manual_seed(2))
    label = camera.portrait_label(0.2, -0.1)[None]
    origin, direction = camera.rays(label, 48, 48)
    traced = trace(micro.generator, subject, origin[0], direction[0])
    shown = GeneratorHead(micro.generator, dataclasses.replace(subject, paint=other)).render(label, 48)
    # Measured: 0.15 where a rendering looks again, at outlines.
    torch.testing.assert_close(traced.alpha, shown.alpha.reshape(-1), rtol=0, atol=0.3)
    # Only what lies in front is painted in a rendering, while traced pixels are as if all did.
    front = (shown.alpha.reshape(-1) > 0.99) & (traced.points[..., 2].amin(1) > PAINT_FADES[1])
    assert int(front.sum()) > 400
    colour = (shown.image[0].reshape(3, -1).T + 1) / 2
    found = colours(micro.generator, other, traced)
    miss = (found - colour)[front].abs()
    # Measured: 0.003 on average, 0.07 at most, as only the largest shares are kept.
    assert float(miss.mean()) < 0.006 and float(miss.max()) < 0.15
    assert not found[traced.alpha == 0].any()


def test_field_of_the_head_is_the_generator_s(micro: BaseModel) -> None:
    subject = micro.generator.from_latent(torch.zeros(1, 8))
    head = GeneratorHead(micro.generator, subject)
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    density, colour = head.field(points)
    expected, features = micro.generator.field(subject, points[None])
    assert torch.equal(density, expected[0]) and torch.equal(colour, features[0].clamp(0, 1))
    # The planted ellipsoid: solid within, empty without.
    deep = ((points - torch.tensor([0, 0, 0.05])) / torch.tensor([0.22, 0.3, 0.28])).norm(dim=1)
    assert (density[deep < 0.8] > 20).all() and (density[deep > 1.3] < 1).all()


# Photo to avatar


def test_landmarks_give_the_shape(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    z, face = sitter
    assert micro.landmarks is not None
    shape = fit_shape(micro.generator.deformation, torch.from_numpy(face.landmarks), micro.landmarks, face.label)
    # The prior pulls shapes by a hundredth; the expression's sigmoid is flat, so its coordinate is looser.
    torch.testing.assert_close(shape.z[:, :2], z[:, :2], rtol=0, atol=0.03)
    torch.testing.assert_close(shape.z[:, 2:], z[:, 2:3], rtol=0, atol=0.15)
    assert shape.error < 5e-4 and float(shape.displacement.abs().max()) < 2e-3


def test_what_no_shape_reaches_becomes_a_displacement(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    z, face = sitter
    mean = micro.landmarks
    assert mean is not None
    # A nose pushed aside: no shape of this generator does that.
    nose = torch.exp(-(mean - mean[mean[:, 2].argmax()]).square().sum(1) / 0.01)
    seen = landmarks_of(micro, z, face.label)
    seen[:, 0] += 0.02 * nose
    shape = fit_shape(micro.generator.deformation, seen, mean, face.label)
    assert shape.error > 0.002
    deformation = micro.generator.deformation
    forward = deformation.displacement(deformation.weights(shape.z)) + shape.displacement
    points = mean + look_up(forward, deformation.focus.forward(mean[None]))[0]
    left = camera.project(face.label[None], points[None])[0, :, :2] - seen[:, :2]
    assert float(left.square().sum(1).mean().sqrt()) < 0.45 * shape.error


def test_inversion_finds_the_sitter(micro: BaseModel, sitter: tuple[Tensor, AlignedFace], latent: Latent) -> None:
    z, face = sitter
    torch.testing.assert_close(latent.z[:, :2], z[:, :2], rtol=0, atol=0.03)
    assert latent.paint is not None and latent.displacement is not None

    def error(identity: float) -> float:
        head = GeneratorHead(micro.generator, latent.subject(micro.generator, identity=identity))
        shown = head.render(face.label[None], 96, 0.4)
        return float((shown.image[0] - face.image).abs().mean())

    # The red spot is no latent's: only painting brings it. First its broad tones, then its detail.
    errors = [error(identity) for identity in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.6 * errors[0]


def test_paint_moves_no_surface(micro: BaseModel, latent: Latent, style: StyleDifference) -> None:
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    flat = dataclasses.replace(style, displacement=None)
    bare = GeneratorHead(micro.generator, latent.subject(micro.generator, identity=0)).field(points)
    painted = build_head(latent, micro, None, 1, 1, 1).field(points)
    styled = build_head(latent, micro, flat, 1, 1, 1).field(points)
    assert torch.equal(bare[0], painted[0]) and torch.equal(bare[0], styled[0])
    assert not torch.equal(bare[1], painted[1]) and not torch.equal(painted[1], styled[1])
    # Behind the ears nothing of it is seen.
    behind = micro.generator.to_canonical(latent.subject(micro.generator), points[None])[0, :, 2] < PAINT_FADES[0]
    assert behind.any() and torch.equal(bare[1][behind], painted[1][behind])
    assert torch.equal(bare[1][behind], styled[1][behind])


def test_softening_keeps_constants_and_the_mean() -> None:
    planes = torch.randn(2, 3, 4, 40, 40, generator=torch.Generator().manual_seed(0))
    constant = torch.arange(24.0).reshape(2, 3, 4, 1, 1).expand(2, 3, 4, 40, 40)
    torch.testing.assert_close(soften(constant, 2.0), constant)
    inner = F.pad(planes[..., 12:-12, 12:-12], (12, 12, 12, 12))
    soft = soften(inner, 2.0)
    torch.testing.assert_close(soft.mean((-1, -2)), inner.mean((-1, -2)), rtol=0, atol=1e-6)
    assert float(soft.std()) < 0.3 * float(inner.std())
    # The same along both axes, each plane for itself.
    torch.testing.assert_close(soften(inner.transpose(-1, -2), 2.0), soft.transpose(-1, -2))
    torch.testing.assert_close(soften(inner[1:, 2:], 2.0), soft[1:, 2:])
    # A point becomes a bell of the asked width.
    point = torch.zeros(1, 1, 1, 41, 41)
    point[..., 20, 20] = 1
    bell, away = soften(point, 2.0)[0, 0, 0], torch.arange(41.0) - 20
    assert float((bell.sum(0) * away.square()).sum()) == pytest.approx(4.0, rel=0.03)


def test_inversion_is_repeatable(micro: BaseModel, sitter: tuple[Tensor, AlignedFace], latent: Latent) -> None:
    again = invert(sitter[1], micro, QUICK, WIDE, silent)
    for name in ("z", "ws", "displacement", "paint"):
        assert torch.equal(getattr(again, name), getattr(latent, name))


def test_no_steps_leave_the_landmark_fit(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    shares: list[float] = []
    plain = invert(sitter[1], micro, InvertConfig(search_steps=0, paint_steps=0), WIDE, shares.append)
    assert plain.paint is None and not plain.z[:, 3:].any() and shares == []


def test_five_landmarks_leave_the_mean_shape(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    # What estimators without a face mesh find.
    face = dataclasses.replace(sitter[1], landmarks=sitter[1].landmarks[:5])
    found = invert(face, micro, QUICK, WIDE, silent)
    assert found.displacement is None and not found.z[:, :3].any() and found.z[:, 3:].any()
    searched = found.subject(micro.generator, identity=0)
    mean = micro.generator.from_latent(torch.zeros(1, 8))
    assert searched.backward is not None and torch.equal(searched.backward, mean.backward)


def test_nobody_in_the_mask_paints_nothing(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    face = dataclasses.replace(sitter[1], matte=torch.zeros_like(sitter[1].matte))
    found = invert(face, micro, QUICK, WIDE, silent)
    assert found.paint is None or not found.paint.any()


def test_progress_rises_to_one(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    shares: list[float] = []
    config = dataclasses.replace(QUICK, search_steps=2, paint_steps=3, rays=16)
    invert(sitter[1], micro, config, WIDE, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 5


# Portrait files


def write(path: Path, latent: Latent, base: BaseReference, style: StyleReference | None) -> Path:
    settings = {"identity": 0.8, "structure": 0.5, "color": 0.9}
    portrait = Portrait(
        latent.ws[0].cpu(), camera.portrait_label(), base, style, personal_tensors(latent), settings=settings
    )
    write_portrait(path, portrait)
    return path


@pytest.fixture(scope="module")
def style() -> StyleDifference:
    rng = torch.Generator().manual_seed(1)
    planes = 0.05 * torch.randn(3, 8, 32, 32, generator=rng)
    return StyleDifference({"backbone.mean_planes": planes}, 0.01 * torch.ones(3, 12, 12, 12))


def test_a_stored_head_is_the_same_head(
    micro: BaseModel, installed: Path, latent: Latent, style: StyleDifference, tmp_path: Path
) -> None:
    bundle = StyleBundle("tinted", micro.reference, style.tensors())
    label = camera.portrait_label(0.3)[None]
    for chosen, reference, dials in (
        (None, None, (1.0, 1.0, 1.0)),
        (style, StyleReference("tinted", "", bundle), (0.8, 0.5, 0.9)),
    ):
        path = write(tmp_path / "portrait.safetensors", latent, micro.reference, reference)
        back = load_head(path, torch.device("cpu")).render(label, 48)
        here = build_head(latent, micro, chosen, *dials).render(label, 48)
        # Half precision of paint, displacement and style: measured 8e-4 at most.
        torch.testing.assert_close(back.image, here.image, rtol=0, atol=4e-3)
        assert float((back.image - here.image).abs().mean()) < 5e-5


def test_portraits_of_other_generators_are_refused(
    micro: BaseModel, installed: Path, latent: Latent, style: StyleDifference, tmp_path: Path
) -> None:
    other = BaseReference("micro", "0" * 64, micro.reference.architecture)
    path = tmp_path / "portrait.safetensors"
    with pytest.raises(RefusedError, match="another version"):
        load_head(write(path, latent, other, None), torch.device("cpu"))
    foreign = StyleReference("tinted", "", StyleBundle("tinted", other, style.tensors()))
    with pytest.raises(RefusedError, match="another version"):
        load_head(write(path, latent, micro.reference, foreign), torch.device("cpu"))
    with pytest.raises(RefusedError, match="does not hold its style"):
        load_head(write(path, latent, micro.reference, StyleReference("tinted", "")), torch.device("cpu"))
    short = dataclasses.replace(latent, ws=latent.ws[:, :-1])
    with pytest.raises(RefusedError, match="does not fit"):
        load_head(write(path, short, micro.reference, None), torch.device("cpu"))


def test_dials_reach_from_the_plain_head_to_the_style(micro: BaseModel, latent: Latent, style: StyleDifference) -> None:
    label = camera.portrait_label()[None]
    plain = build_head(latent, micro, None, 1, 1, 1).render(label, 32).image
    off = build_head(latent, micro, style, 1.0, 0.0, 0.0).render(label, 32).image
    torch.testing.assert_close(off, plain, rtol=0, atol=1e-5)
    changes = [
        float((build_head(latent, micro, style, 1.0, share, share).render(label, 32).image - plain).abs().mean())
        for share in (0.5, 1.0)
    ]
    assert 0 < changes[0] < changes[1]


def test_photo_to_portrait(
    micro: BaseModel,
    installed: Path,
    sitter: tuple[Tensor, AlignedFace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(avatar_pipeline, "DEFAULT_BASE", "micro")
    monkeypatch.setattr(avatar_pipeline, "load_face", lambda *_: (sitter[1], ["a note"]))
    monkeypatch.setattr(avatar_pipeline, "ViewsConfig", lambda: ViewsConfig(frames=3, frame_size=48))
    monkeypatch.setattr(avatar_pipeline, "SHEET_SIZE", 64)
    monkeypatch.setattr(avatar_pipeline, "InvertConfig", lambda **_: QUICK)
    config = ApplyConfig(style="none", refine=5, size=96)
    result = make_avatar(Path("sitter.png"), tmp_path / "out", config, silent)
    for path in (result.portrait, result.front, result.turntable, result.report, *result.views):
        assert path.parent == tmp_path / "out" and path.stat().st_size > 0
    assert len(result.views) == 5 and result.notes == ["a note"]
    np.testing.assert_allclose(result.camera["label"], sitter[1].label.numpy(), atol=1e-5)
    stored = read_portrait(result.portrait)
    assert stored.style is None and stored.base.sha256 == micro.reference.sha256
    shown = load_head(result.portrait, torch.device("cpu")).render(sitter[1].label[None], 96, 0.4)
    assert float((shown.image[0] - sitter[1].image).abs().mean()) < 0.05


# Exemplars to style


def test_displacement_of_the_pairs_is_recovered(micro: BaseModel, pairs: Pairs) -> None:
    field = style_displacement(pairs, micro)
    deformation, mean = micro.generator.deformation, micro.landmarks
    assert mean is not None and field.shape == (3, 12, 12, 12)
    found = look_up(field[None], deformation.focus.forward(mean[None]))[0]
    wanted = widened(mean)
    # Measured: 5 % of the shift itself, from smoothing and the coarse grid.
    assert float((found - wanted).norm(dim=1).mean()) < 0.1 * float(wanted.norm(dim=1).mean())
    # Mirror-symmetric, as styles are.
    mirrored = found[torch.from_numpy(face_template().mirror).long()] * torch.tensor([-1, 1, 1])
    torch.testing.assert_close(found, mirrored, rtol=0, atol=2e-3)


def test_one_bad_picture_does_not_bend_the_style(micro: BaseModel, pairs: Pairs) -> None:
    spoilt = pairs.moved.clone()
    spoilt[3] += 0.1
    good, found = (style_displacement(dataclasses.replace(pairs, moved=m), micro) for m in (pairs.moved, spoilt))
    assert float((good - found).abs().mean()) < 0.1 * float(good.abs().mean())


def test_transfer_learns_the_style(micro: BaseModel, pairs: Pairs, tmp_path: Path) -> None:
    field = torch.zeros(3, 12, 12, 12)
    first = transfer(pairs, micro, field, dataclasses.replace(BRIEF, steps=1), tmp_path / "one", silent)
    long = dataclasses.replace(BRIEF, steps=60, rate=0.05)
    learnt = transfer(pairs, micro, field, long, tmp_path / "many", silent)
    # Measured: 0.07 and 0.34 of it.
    assert learnt.losses["colour"] < 0.15 * first.losses["colour"]
    assert learnt.losses["edges"] < 0.6 * first.losses["edges"]
    assert learnt.steps == 60 and learnt.difference.displacement is field
    assert set(learnt.difference.weights) > {"backbone.mean_planes"}
    assert not any("affine" in name or "decoder" in name for name in learnt.difference.weights)
    # The base is untouched.
    assert not any(parameter.requires_grad for parameter in micro.generator.parameters())


def interrupted(after: int) -> Callable[[str, float], None]:
    """A progress that stops the transfer after so many steps."""
    count = 0

    def tell(stage: str, _: float) -> None:
        nonlocal count
        count += stage == "transfer"
        if count > after:
            raise KeyboardInterrupt

    return tell


def test_an_interrupted_transfer_ends_with_the_same_bits(micro: BaseModel, pairs: Pairs, tmp_path: Path) -> None:
    whole = transfer(pairs, micro, None, BRIEF, tmp_path / "whole", silent)
    with pytest.raises(KeyboardInterrupt):
        transfer(pairs, micro, None, BRIEF, tmp_path / "parts", interrupted(11))
    resumed = transfer(pairs, micro, None, BRIEF, tmp_path / "parts", silent)
    assert_same(whole, resumed)
    # Once more from the finished state: nothing is left to do.
    again = transfer(pairs, micro, None, BRIEF, tmp_path / "parts", interrupted(0))
    assert all(torch.equal(again.difference.weights[k], whole.difference.weights[k]) for k in whole.difference.weights)


def assert_same(a: Transferred, b: Transferred) -> None:
    assert set(a.difference.weights) == set(b.difference.weights)
    assert all(torch.equal(a.difference.weights[name], b.difference.weights[name]) for name in a.difference.weights)
    assert a.losses == b.losses


@dataclasses.dataclass(frozen=True)
class TintConfig:
    """No settings."""


class Tint:
    """A stylizer that darkens green and blue."""

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        batch = faces.sample(1, torch.Generator().manual_seed(seed))
        assert len(exemplars) == 5 and batch.landmarks.shape == (1, 468, 3)

    def stylize(self, images: Tensor) -> Tensor:
        return (images + 1) * torch.tensor([0.9, 0.5, 0.5])[:, None, None] - 1

    def save(self, path: Path) -> None:
        raise NotImplementedError


TINT = StylizerDescription(
    "tint", "", TintConfig, lambda _: Tint(), lambda _: Tint(), (LicenseNote("t", "MIT", "", True),)
)


@pytest.fixture
def small_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow exemplars -> style with a stylizer of this file, few pairs, and no face detector for ellipsoids."""

    def fit(name: str, exemplars, faces: FaceSampler, seed: int, progress: Progress):
        tint = Tint()
        tint.fit(exemplars.images, faces, progress, seed)
        return tint, TINT, {"name": name, "version": "1", "config": {}}

    monkeypatch.setattr(style_pipeline, "fit_stylizer", fit)
    monkeypatch.setattr(style_pipeline, "PREVIEW_SIZE", 32)
    monkeypatch.setattr(style_pipeline, "PRESET_WORK", {"fast": Preset(pairs=12, size=48, steps=16)})
    monkeypatch.setattr(style_pipeline, "TransferConfig", lambda steps, seed: dataclasses.replace(BRIEF, steps=steps))
    monkeypatch.setattr(augment, "_landmarks", lambda _: torch.zeros(468, 2))


def exemplar_folder(place: Path) -> Path:
    """Five of the example pictures."""
    folder = place / "exemplars"
    folder.mkdir()
    pictures = sorted((Path(__file__).parents[2] / "examples" / "cartoon-exemplars").glob("*.png"))
    for picture in pictures[:5]:
        shutil.copy(picture, folder)
    return folder


def test_exemplars_to_style_and_on_to_a_portrait(
    small_flow: None,
    installed: Path,
    micro: BaseModel,
    sitter: tuple[Tensor, AlignedFace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = exemplar_folder(tmp_path)
    config = NewStyleConfig("tinted", stylizer="tint", base="micro")
    whole = learn_style(folder, tmp_path / "whole", config, silent)
    bundle = read_style(whole.bundle)
    assert bundle.base.sha256 == micro.reference.sha256 and bundle.training["pairs"] == 20
    assert len(bundle.exemplars) == 5 and bundle.stylizer["name"] == "tint" and bundle.preview is not None
    assert whole.preview.is_file() and whole.report.is_file() and whole.stopped == "length"

    def stop_at(stage: str, share: float) -> None:
        if stage == "transfer" and share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_style(folder, tmp_path / "parts", config, stop_at)
    resumed = learn_style(folder, tmp_path / "parts", dataclasses.replace(config, resume=True), silent)
    again = read_style(resumed.bundle)
    assert set(again.tensors) == set(bundle.tensors)
    assert all(torch.equal(again.tensors[name], bundle.tensors[name]) for name in bundle.tensors)

    monkeypatch.setattr(avatar_pipeline, "load_face", lambda *_: (sitter[1], []))
    monkeypatch.setattr(avatar_pipeline, "ViewsConfig", lambda: ViewsConfig(frames=2, frame_size=32))
    monkeypatch.setattr(avatar_pipeline, "SHEET_SIZE", 32)
    monkeypatch.setattr(avatar_pipeline, "InvertConfig", lambda **_: QUICK)
    result = make_avatar(Path("sitter.png"), tmp_path / "out", ApplyConfig(style=str(whole.bundle), size=64), silent)
    label = sitter[1].label[None]
    shown = load_head(result.portrait, torch.device("cpu")).render(label, 64)
    plain = GeneratorHead(micro.generator, micro.generator.from_latent(sitter[0])).render(label, 64)
    solid = (shown.alpha > 0.9) & (plain.alpha > 0.9)
    red, green, _ = ((shown.image - plain.image)[:, k][solid[:, 0]].mean() for k in range(3))
    # Sixteen steps are a beginning: measured a difference of 0.075.
    assert green < red - 0.04


def test_work_on_other_pictures_is_not_taken_up(
    small_flow: None, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    shard = augment._shard
    monkeypatch.setattr(augment, "_shard", lambda *words: made.append(1) or shard(*words))
    config = NewStyleConfig("tinted", stylizer="tint", base="micro", resume=True)
    folder = exemplar_folder(tmp_path)

    def learn_until_transfer() -> int:
        def stop(stage: str, _: float) -> None:
            if stage == "transfer":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            learn_style(folder, tmp_path / "out", config, stop)
        return len(made)

    assert [learn_until_transfer(), learn_until_transfer()] == [2, 2]
    first, second = sorted(folder.glob("*.png"))[:2]
    shutil.copy(first, second)
    assert learn_until_transfer() == 4


def test_a_stylizer_without_faces_is_told(
    small_flow: None, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "_landmarks", lambda _: None)
    config = NewStyleConfig("tinted", stylizer="tint", base="micro")
    with pytest.raises(PhotoError, match="No face was found in any of the 20"):
        learn_style(exemplar_folder(tmp_path), tmp_path / "out", config, silent)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_both_flows_run_on_a_gpu(
    micro_file: Path, micro: BaseModel, pairs: Pairs, sitter: tuple[Tensor, AlignedFace], latent: Latent, tmp_path: Path
) -> None:
    base = load_base(str(micro_file), "cuda")
    field = style_displacement(pairs, base)
    torch.testing.assert_close(field, style_displacement(pairs, micro), rtol=0, atol=1e-4)
    learnt = transfer(pairs, base, field, BRIEF, tmp_path / "state", silent)
    known = GeneratorFaces(base, 48).draw(2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(known.labels, pairs.labels[:2])
    assert known.landmarks.shape == (2, 468, 3)
    here = invert(sitter[1], base, QUICK, WIDE, silent)
    torch.testing.assert_close(here.z.cpu()[:, :3], latent.z[:, :3], rtol=0, atol=1e-3)
    label = sitter[1].label[None]
    shown = build_head(here, base, learnt.difference, 1, 1, 1).render(label, 48)
    assert shown.image.is_cuda and torch.isfinite(shown.image).all()
    path = write(tmp_path / "portrait.safetensors", here, base.reference, None)
    assert read_portrait(path).personal["z"].device.type == "cpu"
