"""Imported generators are fine-tuned on pieces of their rendering: these fit the whole picture, and depths are held."""

from __future__ import annotations

import dataclasses
import runpy
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.published_head import PublishedHead, sampled_styles
from agile3d_cli.bundle import BaseReference, Model, read_style, write_model
from agile3d_cli.errors import Agile3dError, PhotoError
from agile3d_cli.models.checkpoints import BaseModel, architecture, generator_tensors, load_base
from agile3d_cli.models.config import GeneratorConfig, PublishedConfig, SuperresolutionConfig
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.published import render_published
from agile3d_cli.models.published_plain import render_published_plain
from agile3d_cli.models.styled import MEAN, StyleDifference, read_difference, stylized
from agile3d_cli.style import faces, material
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.config import NewStyleConfig, Preset, TransferConfig
from agile3d_cli.style.faces import BACKGROUND, TRUNCATION, GeneratorFaces
from agile3d_cli.style.people import people_in
from agile3d_cli.style.pipeline import learn_style
from agile3d_cli.style.rendered import MARGIN, RenderedGuidance, scale_of
from agile3d_cli.style.together import Together
from agile3d_cli.style.transfer import transfer

FLOW = Path(__file__).with_name("test_new_style.py")
SIZE = 128
STEPS = TransferConfig(steps=60, batch=2, checkpoint=20)


def generator(rendered: int = 32, entry: int = 32) -> TriplaneGenerator:
    """A small one of the family with random weights, which shows coloured fog."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        z_dim=16, w_dim=16, plane_size=32, plane_channels=8, channel_base=512, channel_max=16, decoder_hidden=16,
        feature_channels=8, coarse_samples=10, fine_samples=10,
        superresolution=SuperresolutionConfig(rendered, entry, (2 * entry, 4 * entry), (12, 8)),
        published=PublishedConfig(folded=True),
    )  # fmt: skip
    model = TriplaneGenerator(config)
    # Otherwise the fog is pale, and too thin to have a depth.
    model.decoder.output.weight.data[1:] *= 12
    model.decoder.output.bias.data[0] = 4.0
    # As in trained networks, the larger picture is the smaller one with some detail.
    for block in model.superresolution.blocks:
        block.output.weight.data.mul_(0.03)
    return model.eval().requires_grad_(False)


def base_of(model: TriplaneGenerator) -> BaseModel:
    return BaseModel(model, None, None, None, BaseReference("fog", "0" * 64, {}), ())


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return base_of(generator())


def pairs_of(model: TriplaneGenerator, count: int = 4, own: bool = False) -> Pairs:
    """Heads whose pictures are their own, or these with colours that went round."""
    rng = torch.Generator().manual_seed(1)
    z = torch.randn(count, 16, generator=rng)
    labels = torch.stack([camera.portrait_label(0.1 * k - 0.15, 0.05) for k in range(count)])
    images = render_published(model, sampled_styles(model, z, TRUNCATION), labels).image
    assert images is not None
    drawn = images if own else images.clamp(-1, 1).roll(1, 1) * 0.7
    return Pairs(z, labels, drawn.float(), torch.ones(count, 1, *drawn.shape[-2:]), torch.zeros(count, 468, 2))


def guidance(model: TriplaneGenerator, pairs: Pairs, changed: TriplaneGenerator | None = None) -> RenderedGuidance:
    still = {MEAN: torch.zeros(model.backbone.means_shape)}
    return RenderedGuidance(changed or model, model, pairs, still, still, TransferConfig(batch=4), 1.0)


@pytest.mark.parametrize(("rendered", "entry"), [(32, 32), (32, 64), (48, 64)])
def test_a_piece_is_cut_from_where_it_lies_in_the_whole(rendered: int, entry: int) -> None:
    model = generator(rendered, entry)
    pairs = pairs_of(model, own=True)
    terms = guidance(model, pairs).terms(torch.Generator().manual_seed(0), Together())
    moved = dataclasses.replace(pairs, stylized=pairs.stylized.roll(entry // 4, -1))  # type: ignore[attr-defined]
    other = guidance(model, moved).terms(torch.Generator().manual_seed(0), Together())
    # What is left is the smaller picture, which is not quite the larger one made smaller.
    assert float(terms["colour"]) < 0.3 * float(other["colour"]) and float(terms["depth"]) == 0


def test_the_superresolution_sees_the_edge_of_a_piece_in_its_margin_only(base: BaseModel) -> None:
    enlarge, rng = base.generator.superresolution, torch.Generator().manual_seed(0)
    features, ws = torch.randn(1, 8, 32, 32, generator=rng), torch.randn(1, base.generator.config.num_ws, 16)
    whole, square = enlarge(features, ws), 18
    piece = enlarge.piece(features[..., 5 : 5 + square, 9 : 9 + square], ws, square)
    cut, margin = whole[..., 20 : 20 + 4 * square, 36 : 36 + 4 * square], 4 * MARGIN
    inside = slice(margin, -margin)
    assert (piece - cut)[..., inside, inside].abs().max() < 1e-4 < (piece - cut).abs().max()


def test_planes_of_any_size_learn_alike(base: BaseModel) -> None:
    pairs = pairs_of(base.generator)
    larger = stylized(base.generator, StyleDifference({}, None))
    for block in larger.backbone.blocks:
        for weights in (block.output.weight, block.output.bias):  # type: ignore[union-attr]
            weights.data *= 3
    assert scale_of(larger, pairs) == pytest.approx(3 * scale_of(base.generator, pairs))
    still, moved = ({MEAN: torch.full(base.generator.backbone.means_shape, value)} for value in (0.0, 3.0))
    one, three = (
        RenderedGuidance(larger, larger, pairs, change, still, TransferConfig(batch=1), scale).terms(
            torch.Generator().manual_seed(0), Together()
        )["small"]
        for change, scale in (({MEAN: moved[MEAN] / 3}, 1.0), (moved, 3.0))
    )
    assert torch.allclose(one, three) and float(one) > 0


def test_processes_share_a_step(base: BaseModel) -> None:
    model, pairs = base.generator, pairs_of(base.generator)

    def terms(number: int, count: int) -> Tensor:
        together = Together()
        together.number, together.count = number, count
        found = guidance(model, pairs).terms(torch.Generator().manual_seed(3), together)
        return torch.stack(list(found.values()))

    assert torch.allclose(terms(0, 2) + terms(1, 2), terms(0, 1), atol=1e-6)


def test_depths_are_held_near_the_bases(base: BaseModel) -> None:
    model, pairs = base.generator, pairs_of(base.generator)
    thinner = stylized(model, StyleDifference({"decoder.output.bias": torch.tensor([-3.0] + [0.0] * 8)}, None))
    terms = guidance(model, pairs, thinner).terms(torch.Generator().manual_seed(0), Together())
    assert float(terms["depth"]) > 0.01


def test_rays_that_meet_nothing_have_slopes(base: BaseModel) -> None:
    empty = stylized(base.generator, StyleDifference({"decoder.output.bias": torch.tensor([-300.0] + [0.0] * 8)}, None))
    bias = empty.decoder.output.bias.requires_grad_(True)
    terms = guidance(base.generator, pairs_of(base.generator), empty).terms(torch.Generator(), Together())
    torch.stack(list(terms.values())).sum().backward()
    assert bias.grad is not None and bias.grad.isfinite().all() and terms["depth"].item() > 0.01


def test_a_learning_that_goes_astray_is_told(base: BaseModel, tmp_path: Path) -> None:
    pairs = pairs_of(base.generator)
    broken = dataclasses.replace(pairs, stylized=pairs.stylized * float("nan"))  # type: ignore[operator]
    with pytest.raises(Agile3dError, match=r"went astray at step 1 \(colour nan, edges nan"):
        learnt(base, broken, tmp_path / "state.safetensors")


def learnt(base: BaseModel, pairs: Pairs, state: Path, stop: int = 0) -> StyleDifference:
    """A transfer, interrupted after ``stop`` steps where that is not 0."""
    told = 0

    def progress(stage: str, share: float) -> None:
        nonlocal told
        told += 1
        if told == stop:
            raise KeyboardInterrupt

    return transfer(pairs, None, base, None, STEPS, state, progress).difference


@pytest.fixture(scope="module")
def style(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> StyleDifference:
    return learnt(base, pairs_of(base.generator), tmp_path_factory.mktemp("work") / "state.safetensors")


def test_fine_tuning_learns_the_pictures(base: BaseModel, style: StyleDifference) -> None:
    pairs, styled = pairs_of(base.generator), stylized(base.generator, style)

    def error(model: TriplaneGenerator) -> float:
        drawn = torch.stack([guidance(base.generator, pairs, model).picture(k) for k in range(len(pairs))])
        return float((drawn - pairs.stylized[:]).abs().mean())  # type: ignore[index]

    assert error(styled) < 0.6 * error(base.generator)
    unchanged = [name for name in style.weights if not name.startswith(("backbone.", "decoder.", "superresolution."))]
    assert unchanged == [] and style.displacement is None


def test_what_was_learnt_is_read_back(base: BaseModel, style: StyleDifference) -> None:
    stored = read_difference(style.tensors(), base.generator, "fog")
    label = camera.portrait_label(0.1)[None]
    ((plain, one),) = people_in(base, style, 1)
    ((_, two),) = people_in(base, stored, 1)
    seen = [head.render(label, SIZE).image for head in (plain, one, two)]
    assert (seen[1] - seen[2]).abs().max() < 0.03 < (seen[0] - seen[1]).abs().max()


def test_the_fast_path_shows_what_the_plain_one_learns(base: BaseModel) -> None:
    change = 0.3 * torch.randn(base.generator.backbone.means_shape, generator=torch.Generator().manual_seed(4))
    painter, label = stylized(base.generator, StyleDifference({MEAN: change}, None)), camera.portrait_label(0.2)[None]
    ws = sampled_styles(painter, torch.randn(1, 16, generator=torch.Generator().manual_seed(5)), TRUNCATION)
    quick, plain = render_published(painter, ws, label).image, render_published_plain(painter, ws, label).image
    usual = render_published(base.generator, ws, label).image
    assert quick is not None and plain is not None and usual is not None
    assert (quick - plain).abs().max() < 1e-4 < 0.01 < (quick - usual).abs().max()


def test_an_interrupted_one_ends_with_the_same_bits(base: BaseModel, tmp_path: Path, style: StyleDifference) -> None:
    with pytest.raises(KeyboardInterrupt):
        learnt(base, pairs_of(base.generator), tmp_path / "state.safetensors", stop=47)
    again = learnt(base, pairs_of(base.generator), tmp_path / "state.safetensors")
    assert all(torch.equal(value, style.weights[name]) for name, value in again.weights.items())


def test_slow_steps_are_saved_sooner(base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, state = pairs_of(base.generator), tmp_path / "state.safetensors"

    def saved_after(stop: int) -> int:
        with pytest.raises(KeyboardInterrupt):
            learnt(base, pairs, state, stop)
        with safe_open(state, "pt") as stored:
            return int(stored.metadata()["step"])

    assert saved_after(23) == 20
    monkeypatch.setitem(vars(sys.modules[transfer.__module__]), "SECONDS", 0.0)
    assert saved_after(5) == 24


def test_a_view_is_what_the_weights_show_at_any_size(base: BaseModel) -> None:
    ws = sampled_styles(base.generator, torch.randn(1, 16, generator=torch.Generator().manual_seed(2)), TRUNCATION)
    labels = torch.stack([camera.portrait_label(yaw) for yaw in (0.0, 0.4)])
    wanted = render_published(base.generator, ws.expand(2, -1, -1), labels)
    assert wanted.image is not None
    head = PublishedHead(base.generator, ws)
    seen = head.render(labels, SIZE, None)
    assert torch.allclose(seen.image, wanted.image.clamp(-1, 1), atol=1e-4)
    assert seen.alpha.shape == seen.depth.shape == (2, 1, SIZE, SIZE) and head.render(labels, 40).image.shape[-1] == 40
    # Where rays meet nothing the grey behind shows.
    grey = head.render(labels, SIZE, BACKGROUND).image
    added = ((1 - seen.alpha) * (BACKGROUND + 1)).expand_as(grey)
    held = (grey.abs() == 1) | (seen.image.abs() == 1)
    assert torch.allclose((grey - seen.image)[~held], added[~held], atol=1e-4) and float(added.max()) > 0.01


def test_a_generator_without_faces_is_told(base: BaseModel) -> None:
    with pytest.raises(PhotoError, match="No face is found in 20 pictures of the generator 'fog'"):
        GeneratorFaces(base, 64).draw(1, torch.Generator().manual_seed(0))


def test_pictures_become_a_style_of_an_imported_generator(
    base: BaseModel, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = base.generator.config
    (own_home / "models").mkdir()
    write_model(
        own_home / "models" / "fog.safetensors",
        Model("fog", architecture(config), generator_tensors(base.generator), license="CC0-1.0"),
    )
    flow = runpy.run_path(str(FLOW))
    flow["make_small"](monkeypatch)
    monkeypatch.setattr(material, "PRESET_WORK", {"fast": Preset(pairs=10, size=48, steps=60)})
    # Nobody finds a face in fog, either.
    middle = torch.full((468, 3), 0.5)
    monkeypatch.setattr(faces, "face_mesh", lambda image: middle)
    folder, settings = flow["exemplar_folder"](tmp_path), NewStyleConfig("felt", stylizer="tint", base="fog")
    result = learn_style(folder, tmp_path / "out", settings, lambda *_: None)
    bundle = read_style(result.bundle)
    assert bundle.base.name == "fog" and bundle.license and not result.applies
    assert bundle.scores["view_consistency"] and bundle.scores["style_distance"] and bundle.scores["relief"] > 0.5
    style = read_difference(bundle.tensors, load_base("fog").generator, "felt")
    ((plain, styled),) = people_in(load_base("fog"), style, 1)
    label = camera.portrait_label()[None]
    before, after = (head.render(label, 64, None).image for head in (plain, styled))
    tinted = flow["Tint"]().stylize(before)
    assert (after - tinted).abs().mean() < 0.7 * (before - tinted).abs().mean()
