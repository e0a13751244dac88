"""The training of the embedded generator, on a ball whose every point is known."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.heads.parameters import HAIR_STYLES, Z_DIM, parameters
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.heads.traits import part_colours
from agile3d_cli.models.backbone import Mapping
from agile3d_cli.models.config import (
    BankConfig,
    ChoicesConfig,
    DeformationConfig,
    FocusConfig,
    GeneratorConfig,
    TraitsConfig,
)
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.prior import trainer as training
from agile3d_cli.prior.config import MINI, TrainConfig
from agile3d_cli.prior.decide import DECISIVE, SOLID_FROM, decide, undecide
from agile3d_cli.prior.points import APART, PAIRED, HeadPoints, PointBatch, _grown
from agile3d_cli.prior.starts import starting_latents
from agile3d_cli.prior.trainer import STATE, Trainer, losses
from agile3d_cli.prior.traits import learn_traits, name_hues, start_palette

CENTRE, RADIUS, SIZE, VIEWS = torch.tensor([0.0, 0.0, 0.05]), 0.25, 24, 9
CONFIG = GeneratorConfig(
    z_dim=4,
    w_dim=8,
    label_dim=0,
    normalize_z=False,
    mapping_lr=0.5,
    plane_size=16,
    plane_channels=8,
    plane_axes="xy_xz_zy",
    channel_base=64,
    channel_max=8,
    decoder_hidden=16,
    feature_channels=3,
    density_gain=10.0,
    mean_planes=True,
    bias_maps=8,
    choices=ChoicesConfig(((1, (0.0, 0.5)),), ((3, 0.2),)),
    traits=TraitsConfig(2, 4),
    parts=2,
    bank=BankConfig(shares=(0, 2), size=8),
    decoder_layers=2,
    focus=FocusConfig(strength=2.0),
    deformation=DeformationConfig(shapes=1, grid=6, inverse_grid=8),
)
TRAIN = TrainConfig(batch=2, points=256, steps=120, warmup=5, rate=1e-2, decoder_rate=1e-2, mean_rate=4e-2)


def ball_views(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (V, S, S, 4) uint8 and depth (V, S, S) half precision; a point's colour tells where it is."""
    origin, direction = camera.rays(labels, SIZE, SIZE)
    away = origin - CENTRE
    half = (away * direction).sum(-1)
    root = half.square() - away.square().sum(-1) + RADIUS**2
    hit = root > 0
    depth = torch.where(hit, -half - root.clamp(min=0).sqrt(), 0)
    colour = 0.5 + (origin + direction * depth[..., None])
    pixels = torch.cat([colour * hit[..., None], hit[..., None].float()], -1)
    shape = (len(labels), SIZE, SIZE)
    return (pixels * 255 + 0.5).to(torch.uint8).reshape(*shape, 4), depth.half().reshape(shape)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of three balls each."""
    folder = tmp_path_factory.mktemp("balls")
    labels = torch.stack([camera.portrait_label(0.7 * k, 0.1 * (k % 3), 0.62 * camera.FOCAL) for k in range(VIEWS)])
    pixels, depth = ball_views(labels)
    for number in range(2):
        z = torch.randn(3, 4, generator=torch.Generator().manual_seed(number))
        # A spot of the ball is called an eye.
        part = (depth > 0).to(torch.uint8) + ((depth > 0) & (pixels[..., 0] > 180)).to(torch.uint8)
        repeated = {"pixels": pixels, "depth": depth, "part": part, "labels": labels}
        shard = {name: value.expand(3, *value.shape).contiguous() for name, value in repeated.items()}
        save_file(shard | {"z": z}, folder / f"heads-{number:04d}.safetensors")
    return folder


def interior(count: int = 500) -> Tensor:
    rng = torch.Generator().manual_seed(9)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=1)
    return CENTRE + 0.8 * RADIUS * torch.rand(count, 1, generator=rng) * direction


def made() -> TriplaneGenerator:
    torch.manual_seed(0)
    return TriplaneGenerator(CONFIG)


@pytest.fixture
def data(shards: Path) -> HeadPoints:
    return HeadPoints(shards, made(), interior(), held_out=2)


def test_points_lie_where_they_say(data: HeadPoints) -> None:
    assert (len(data), data.train, data.size) == (6, 4, SIZE)
    batch = data.batch([0, 3], 2000, torch.Generator().manual_seed(0))
    distance = (batch.surface - CENTRE).norm(dim=-1)
    # Stored depth is good to 0.001 of a world unit (half precision), warped points to 1e-6.
    solid = batch.solid > 0
    assert solid.any() and not solid.all()
    assert (distance[solid] < RADIUS + 2e-3).all() and ((distance - RADIUS).abs() < 0.02).all()
    assert ((batch.empty - CENTRE).norm(dim=-1) > RADIUS - 1e-3).all()
    assert ((batch.inside - CENTRE).norm(dim=-1) < RADIUS).all()
    # The colour is that of the hit, at most the shell's depth away.
    assert ((batch.colour - 0.5 - batch.surface).abs() < 0.02).all()
    assert torch.equal(batch.z, torch.stack([data.latent(0), data.latent(3)]))
    # The spot, which is called an eye, is where the ball is red.
    assert torch.equal(batch.part == PARTS.index("eyes"), batch.colour[..., 0] > 180 / 255)
    assert set(batch.part.unique().tolist()) == {PARTS.index("skin"), PARTS.index("eyes")}


def test_points_are_brought_to_the_mean_head(shards: Path) -> None:
    generator = made()
    shift = torch.tensor([0.0, 0.03, 0.0])
    generator.deformation.basis[0] = shift[:, None, None, None]
    data = HeadPoints(shards, generator, interior(), held_out=2)
    batch = data.batch([1], 500, torch.Generator().manual_seed(0))
    # The subject is the mean head moved by z's first coordinate times the shift; undone, the ball lies lower or higher.
    centre = CENTRE - data.latent(1)[0] * shift
    assert (((batch.surface - centre).norm(dim=-1) - RADIUS).abs() < 0.02).all()


def test_the_same_seed_gives_the_same_batches(shards: Path, data: HeadPoints) -> None:
    again = HeadPoints(shards, made(), interior(), held_out=2)
    batches = [data.at_step(step, 2, 64, 3) for step in range(5)]
    # Whatever was asked before: an interrupted training goes on with the batch it would have had.
    for step in (4, 1):
        a, b = batches[step], again.at_step(step, 2, 64, 3)
        assert all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    assert not torch.equal(batches[0].surface, batches[2].surface)


def test_every_subject_is_seen_once_before_one_is_seen_again(data: HeadPoints) -> None:
    for epoch in range(3):
        seen = torch.cat([data.at_step(2 * epoch + k, 2, 16, 3).z for k in range(2)])
        assert torch.equal(seen.sort(0).values, torch.stack([data.latent(i) for i in range(data.train)]).sort(0).values)


def test_small_features_are_shown_more_often(shards: Path) -> None:
    shares = []
    for features in (0.0, 0.5, 1.0):
        data = HeadPoints(shards, made(), interior(), held_out=2, features=features)
        batch = data.batch([0], 4000, torch.Generator().manual_seed(0))
        shares.append(float((batch.colour[..., 0] > 180 / 255).float().mean()))
    # Measured: 0.10, 0.15, 0.21.
    assert shares[1] > shares[0] + 0.03 and shares[2] > shares[1] + 0.03
    # What surrounds the spot is drawn with it; alone it would be the close half.
    assert shares[2] < 0.4


def test_what_small_features_are_shown_too_often_counts_less(shards: Path) -> None:
    data = HeadPoints(shards, made(), interior(), held_out=2, features=0.5)
    batch = data.batch([0], 4000, torch.Generator().manual_seed(0))
    spot = batch.part == PARTS.index("eyes")
    assert 0.3 < float(batch.weight[spot].mean()) < 0.9 and float(batch.weight[~spot].mean()) > 0.9
    even = HeadPoints(shards, made(), interior(), held_out=2, features=0.0)
    assert torch.equal(even.batch([0], 400, torch.Generator().manual_seed(0)).weight, torch.ones(1, 400))


def test_neighbours_lie_beside_empty_points(data: HeadPoints) -> None:
    batch = data.batch([0, 1], 600, torch.Generator().manual_seed(0))
    paired = batch.empty[:, ::PAIRED]
    assert batch.beside.shape == paired.shape and paired.shape[1] > 100
    away = (batch.beside - paired).norm(dim=-1)
    torch.testing.assert_close(away, torch.full_like(away, APART))


def test_heads_that_are_made_meanwhile_are_trained_on(shards: Path, tmp_path: Path) -> None:
    first, second = sorted(shards.iterdir())
    shutil.copy(first, tmp_path)
    data = HeadPoints(tmp_path, made(), interior(), held_out=1)
    kept = data.latent(2)
    assert (data.train, data.grow()) == (2, 0)
    shutil.copy(second, tmp_path)
    data.backward(2)
    assert (data.grow(), data.train, len(data)) == (3, 5, 6)
    assert torch.equal(data.latent(5), kept) and torch.equal(data.latent(2), load_file(second)["z"][0])
    fresh = data._deformation.weights(data.latent(2)[None])
    assert torch.equal(data.backward(2), data._deformation.invert(data._deformation.displacement(fresh))[0].half())


def test_no_shards_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"prior\.subjects"):
        HeadPoints(tmp_path, made(), interior())


@pytest.fixture
def kept_signals() -> Iterator[None]:
    """Puts back the handler that a training run sets."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_training_learns_the_ball_and_keeps_its_state(data: HeadPoints, tmp_path: Path, kept_signals: None) -> None:
    trainer = Trainer(made(), TRAIN, tmp_path)
    held = data.batch([4, 5], 500, torch.Generator().manual_seed(1))
    before = {name: float(value.detach()) for name, value in losses(trainer.generator, held, TRAIN).items()}
    trainer.run(data, minutes=5)
    after = {name: float(value.detach()) for name, value in losses(trainer.generator, held, TRAIN).items()}
    assert trainer.step == TRAIN.steps
    assert after["density"] < 0.6 * before["density"] and after["colour"] < 0.8 * before["colour"]
    assert after["part"] < 0.5 * before["part"]

    other = Trainer(made(), TRAIN, tmp_path)
    other.load()
    assert other.step == trainer.step
    for name, value in trainer.generator.state_dict().items():
        assert torch.equal(other.generator.state_dict()[name], value)
    for name, value in trainer.average.items():
        assert torch.equal(other.average[name], value)
    for index, state in trainer.optimizer.state_dict()["state"].items():
        restored = other.optimizer.state_dict()["state"][index]
        assert all(torch.equal(torch.as_tensor(restored[key]), torch.as_tensor(state[key])) for key in state)
    # One more step is the same step.
    batch = data.batch([0, 1], 64, torch.Generator().manual_seed(2))
    terms = [one._update(batch, 0.5) for one in (trainer, other)]
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])
    assert all(
        torch.equal(a, b) for a, b in zip(trainer.generator.parameters(), other.generator.parameters(), strict=True)
    )


TOGETHER = """
import runpy, sys
from dataclasses import replace
from pathlib import Path
from accelerate import Accelerator
from agile3d_cli.prior.points import HeadPoints
from agile3d_cli.prior.trainer import Trainer
known = runpy.run_path(sys.argv[1])
several = Accelerator(cpu=True)
assert several.num_processes == 2
data = HeadPoints(Path(sys.argv[2]), known["made"](), known["interior"](), held_out=2)
trainer = Trainer(known["made"](), replace(known["TRAIN"], steps=4), Path(sys.argv[3]), several)
trainer.run(data, minutes=5)
"""


def test_two_processes_do_what_one_does_with_both_batches(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    program = tmp_path / "program.py"
    program.write_text(TOGETHER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(program)]
    around = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*launch, __file__, str(shards), str(tmp_path / "out")], check=True, timeout=300, env=around)
    found = load_file(tmp_path / "out" / STATE)

    def of_both(generator: TriplaneGenerator, both: list[PointBatch], config: TrainConfig) -> dict[str, Tensor]:
        rows = [losses(generator, batch, config) for batch in both]
        return {name: (rows[0][name] + rows[1][name]) / 2 for name in rows[0]}

    monkeypatch.setattr(training, "losses", of_both)
    data = HeadPoints(shards, made(), interior(), held_out=2)
    alone = Trainer(made(), TRAIN, tmp_path)
    for step in range(4):
        both = [data.at_step(2 * step + k, TRAIN.batch, TRAIN.points, TRAIN.seed) for k in range(2)]
        alone._update(both, step / 4)  # type: ignore[arg-type]
    for name, value in alone.generator.state_dict().items():
        torch.testing.assert_close(found[f"model.{name}"], value, rtol=1e-4, atol=1e-5)


def test_inversions_start_from_every_hair_style_parted_both_ways() -> None:
    people = [parameters(z.double().numpy()) for z in starting_latents()]
    bare = {(p.hair_style, p.hair_mirrored) for p in people}
    shorn = {"buzz", "bald"}
    assert {style for style, _ in bare} == set(HAIR_STYLES)
    assert {style for style, mirrored in bare if not mirrored} == set(HAIR_STYLES) - shorn
    assert {p.headwear for p in people} == {"none"} and not any(p.glasses for p in people)


def test_traits_are_learnt_from_latents_alone() -> None:
    torch.manual_seed(0)
    mapping = Mapping(MINI)
    # Measured: 0.45, where knowing nothing leaves 1.
    assert learn_traits(mapping, 3, draws=3000, steps=200) < 0.6


def test_the_palette_starts_with_the_colours_of_parts() -> None:
    torch.manual_seed(0)
    generator = TriplaneGenerator(MINI)
    learn_traits(generator.mapping, 3, draws=6000, steps=300)
    left = start_palette(generator, 3, draws=2000)
    z = torch.randn(200, Z_DIM, generator=torch.Generator().manual_seed(8))
    wanted = torch.stack([torch.from_numpy(part_colours(parameters(row.double().numpy()))).float() for row in z])
    found = generator.colours_of_parts(generator.mapping(z))
    assert found is not None
    miss = (found.detach() - wanted).square().mean((0, 2)).sqrt()
    spread = wanted.std(0).mean(1)
    named = [PARTS.index(name) for name in ("skin", "hair", "cloth", "headwear")]
    # Measured: 0.16 to 0.31 of the colours' spread, with traits that were learnt for seconds.
    assert (miss[named] < 0.5 * spread[named]).all() and abs(float(miss.square().mean().sqrt()) - left) < 0.02


def test_plain_parts_keep_their_lightness_and_get_their_named_hue() -> None:
    torch.manual_seed(0)
    generator = TriplaneGenerator(MINI)
    z = torch.randn(50, Z_DIM, generator=torch.Generator().manual_seed(8))
    ws = generator.mapping(z)
    start_palette(generator, 3, draws=500)
    named = generator.palette(ws).detach()
    with torch.no_grad():
        generator.palette.layer.weight.mul_(0.5).add_(0.2 * torch.randn(generator.palette.layer.weight.shape))
    learnt = generator.palette(ws).detach()
    name_hues(generator, 3, draws=500)
    found = generator.palette(ws).detach()
    plain = list(MINI.plain_parts)
    others = [k for k in range(len(PARTS)) if k not in plain]
    assert torch.equal(found[:, others], learnt[:, others])
    torch.testing.assert_close(found.mean(2), learnt.mean(2))
    hue = [colours[:, plain] - colours[:, plain].mean(2, keepdim=True) for colours in (found, named)]
    torch.testing.assert_close(*hue, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reach", [1, 2, 5, 12])
def test_masks_grow_alike_everywhere(reach: int) -> None:
    mask = torch.rand(3, 30, 34, generator=torch.Generator().manual_seed(reach)) > 0.99
    wide = torch.nn.functional.max_pool2d(mask.float(), 2 * reach + 1, 1, reach) > 0
    assert torch.equal(_grown(mask, reach), wide)


def test_publishing_decides_what_training_left_at_the_odds() -> None:
    torch.manual_seed(0)
    decoder = TriplaneGenerator(CONFIG).decoder.requires_grad_(False)
    features = 6 * torch.randn(4000, CONFIG.plane_channels)
    before, colour = decoder(features)
    decide(decoder, TRAIN.opaque_step)
    after, same = decoder(features)
    solid = 1 - torch.exp(-before * TRAIN.opaque_step)
    sure = 1 - torch.exp(-after * TRAIN.opaque_step)
    assert torch.equal(colour, same) and DECISIVE > 1
    assert (solid > SOLID_FROM).any() and (solid < SOLID_FROM).any()
    assert torch.equal(sure > SOLID_FROM, solid > SOLID_FROM)
    middle = (solid > 0.05) & (solid < 0.95)
    assert ((sure - SOLID_FROM).abs() >= (solid - SOLID_FROM).abs() - 1e-5)[middle].all()
    undecide(decoder, TRAIN.opaque_step)
    torch.testing.assert_close(decoder(features)[0], before, rtol=1e-4, atol=1e-4)
