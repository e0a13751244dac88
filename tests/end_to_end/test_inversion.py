"""Photo to latent with a micro generator: shape, search and paint."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.invert import TONE, Latent, invert, soften
from agile3d_cli.avatar.latents import build_head
from agile3d_cli.avatar.likeness import fit_shape, landmarks_of
from agile3d_cli.avatar.photo import photo_pixels
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.avatar.resemble import BROWS, LIGHTER, _astray, resemble
from agile3d_cli.avatar.residual import add_roughness_gradient, roughness
from agile3d_cli.avatar.search import _choosing, search_latent
from agile3d_cli.avatar.traced import Appearance
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.deformation import look_up
from agile3d_cli.models.encoder import Guess
from agile3d_cli.models.generator import PAINT_FADES, Subject, TriplaneGenerator
from agile3d_cli.models.identity import embed_faces
from agile3d_cli.models.styled import StyleDifference

WIDE = FaceConfig().wide


def silent(*_: object) -> None:
    """A progress that nobody watches."""


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


def test_a_sure_guess_is_kept_and_a_vague_one_is_left(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    z, face = sitter
    config = InvertConfig(search_steps=24)
    target = photo_pixels(face, WIDE, z)
    wrong = z[:, 3:] + 0.5
    assert float(wrong.abs().max()) < config.reach
    moved = []
    for deviation in (1e-3, 1.0):
        guess = Guess(wrong, torch.full_like(wrong, deviation))
        rng = torch.Generator().manual_seed(0)
        found = search_latent(micro, None, guess, target, config, rng, silent)
        moved.append(float((found[:, 3:] - wrong).abs().max()))
    # Measured: 0.007 and 0.24.
    assert moved[0] < 0.02 and moved[1] > 0.15


def test_no_latent_is_found_where_the_generator_has_seen_none(
    micro: BaseModel, sitter: tuple[Tensor, AlignedFace]
) -> None:
    z, face = sitter
    far = torch.full_like(z[:, 3:], 4.0)
    config = InvertConfig(search_steps=2)
    target, guess = photo_pixels(face, WIDE, z), Guess(far, torch.ones_like(far))
    found = search_latent(micro, None, guess, target, config, torch.Generator().manual_seed(0), silent)
    choosing = _choosing(micro.generator.config)[None, 3:]
    assert float(found[:, 3:][~choosing].abs().max()) <= config.reach
    assert (found[:, 3:][choosing] > 3.0).all()


def test_the_style_whose_outline_fits_is_gone_on_with(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    z, face = sitter
    # The photo's matte is the mean head's: a start that shows nobody fits worse, whatever its number.
    target, guess = photo_pixels(face, WIDE, z), Guess(z[:, 3:], torch.ones_like(z[:, 3:]))
    starts = torch.zeros(2, 8)
    starts[0, 3:], starts[1, 4] = 3.0, 0.1
    base = dataclasses.replace(micro, starts=starts)
    config = InvertConfig(tries=1, try_steps=2, search_steps=3)
    shares: list[float] = []
    found = search_latent(base, None, guess, target, config, torch.Generator().manual_seed(0), shares.append)
    assert float((found[:, 3:] - z[:, 3:]).abs().max()) < 1.5 and shares == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_the_identity_network_brings_the_latent_nearer(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    z, face = sitter
    generator = micro.generator
    start = z.clone()
    start[:, 3:] = 0
    backward = generator.from_latent(z).backward
    wanted = embed_faces(face.image[None], torch.from_numpy(five_of(face.landmarks)[None, :, :2]).float())

    def distance(ws: Tensor) -> float:
        head = GeneratorHead(generator, Subject(generator.backbone(ws), backward))
        shown = head.render(face.label[None], 96, 0.4).image
        five = torch.from_numpy(five_of(face.landmarks)[None, :, :2]).float()
        return float((embed_faces(shown, five) - wanted).norm())

    config = InvertConfig(identity_steps=12, identity_prior=0.0)
    shares: list[float] = []
    plain = generator.mapping(start)
    found = resemble(generator, plain, backward, face, config, shares.append)
    assert found.shape == plain.shape and shares == [(k + 1) / 12 for k in range(12)]
    assert distance(found) < distance(plain)
    # Nothing to gain, nothing moved: the pull towards the start wins.
    config = dataclasses.replace(config, identity_prior=1e6, identity_rate=1e-3)
    assert float((resemble(generator, plain, backward, face, config, silent) - plain).abs().max()) < 5e-3


def test_resembling_leaves_the_surface(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    z, face = sitter
    start = z.clone()
    start[:, 3:] = 0
    backward = micro.generator.from_latent(z).backward
    plain = micro.generator.mapping(start)
    before = (
        GeneratorHead(micro.generator, Subject(micro.generator.backbone(plain), backward))
        .render(face.label[None], 64)
        .depth
    )
    changes = []
    for weight in (0.0, 300.0):
        config = InvertConfig(identity_steps=12, identity_prior=0.0, identity_surface=weight)
        ws = resemble(micro.generator, plain, backward, face, config, silent)
        after = GeneratorHead(micro.generator, Subject(micro.generator.backbone(ws), backward))
        changes.append(float((after.render(face.label[None], 64).depth - before).abs().mean()))
    assert changes[1] < 0.5 * changes[0]


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


def test_where_a_style_draws_only_tones_of_the_photo_show(micro: BaseModel, latent: Latent) -> None:
    assert latent.paint is not None
    generator, size = micro.generator, latent.paint.shape[-1]
    painter = copy.deepcopy(generator)
    with torch.no_grad():
        # The left half of the planes is checkered by the style, the right half is the base's own.
        checks = (torch.arange(size)[:, None] + torch.arange(size)[None]) % 2 * 2.0 - 1
        painter.backbone.mean_planes[..., : size // 2] += checks[:, : size // 2]

    def added(styled: TriplaneGenerator) -> Tensor:
        subject = latent.subject(generator, styled)
        assert subject.paint is not None
        return subject.paint - subject.planes

    free, bound = added(generator), added(painter)
    torch.testing.assert_close(free, latent.paint)
    torch.testing.assert_close(bound[..., : size // 4], soften(latent.paint, TONE)[..., : size // 4])
    torch.testing.assert_close(bound[..., -1], latent.paint[..., -1], atol=1e-3, rtol=0)


def test_the_gradient_of_roughness_is_its_derivative() -> None:
    paint = torch.randn(1, 3, 2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(roughness(paint, 1.5, 0.3), paint)
    found = torch.ones_like(paint)
    add_roughness_gradient(found, paint.detach(), 1.5, 0.3)
    torch.testing.assert_close(found - 1, expected)


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


def test_inversion_is_repeatable(
    quick: InvertConfig, micro: BaseModel, sitter: tuple[Tensor, AlignedFace], latent: Latent
) -> None:
    again = invert(sitter[1], micro, quick, WIDE, silent)
    for name in ("z", "ws", "displacement", "paint"):
        assert torch.equal(getattr(again, name), getattr(latent, name))


def test_no_steps_leave_the_landmark_fit(micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    shares: list[float] = []
    none = InvertConfig(search_steps=0, identity_steps=0, paint_steps=0)
    plain = invert(sitter[1], micro, none, WIDE, shares.append)
    assert plain.paint is None and not plain.z[:, 3:].any() and shares == []


def test_five_landmarks_leave_the_mean_shape(
    quick: InvertConfig, micro: BaseModel, sitter: tuple[Tensor, AlignedFace]
) -> None:
    # What estimators without a face mesh find.
    face = dataclasses.replace(sitter[1], landmarks=sitter[1].landmarks[:5])
    found = invert(face, micro, quick, WIDE, silent)
    assert found.displacement is None and not found.z[:, :3].any() and found.z[:, 3:].any()
    searched = found.subject(micro.generator, identity=0)
    mean = micro.generator.from_latent(torch.zeros(1, 8))
    assert searched.backward is not None and torch.equal(searched.backward, mean.backward)


def test_nobody_in_the_mask_paints_nothing(
    quick: InvertConfig, micro: BaseModel, sitter: tuple[Tensor, AlignedFace]
) -> None:
    face = dataclasses.replace(sitter[1], matte=torch.zeros_like(sitter[1].matte))
    found = invert(face, micro, quick, WIDE, silent)
    assert found.paint is None or not found.paint.any()


def test_progress_rises_to_one(quick: InvertConfig, micro: BaseModel, sitter: tuple[Tensor, AlignedFace]) -> None:
    shares: list[float] = []
    config = dataclasses.replace(quick, search_steps=2, identity_steps=2, paint_steps=3, rays=16)
    invert(sitter[1], micro, config, WIDE, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 7


def test_brows_go_astray_where_they_grow_and_the_photo_is_lighter() -> None:
    parts = torch.zeros(4, len(PARTS))
    parts[:3, BROWS], parts[3, 0] = 1.0, 1.0
    parts.requires_grad_(True)
    before = torch.tensor([1.1, 0.4, 0.0, 0.5])
    step = 0.3
    light, wanted = [0.1, 0.1, 0.6, 0.1], [0.9, 0.1 + LIGHTER + step, 0.6 + LIGHTER / 2, 0.9]
    colour, photo = (torch.tensor(row)[:, None].expand(4, 3) for row in (light, wanted))
    astray = _astray(Appearance(torch.zeros(4, 1), colour, parts), before, photo)
    # The first was a brow before, the third is nearly as dark in the photo, the fourth has become skin.
    assert float(astray.detach()) == pytest.approx(0.6 * step / 2.0)
    (slope,) = torch.autograd.grad(astray, parts)
    assert slope[:, BROWS].tolist() == pytest.approx([0.0, step / 2.0, 0.0, 0.0], abs=1e-6)
