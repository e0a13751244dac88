"""The flat prior and its training, on a teacher of a few channels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from agile3d_cli import camera
from agile3d_cli.bundle import read_model
from agile3d_cli.errors import RefusedError
from agile3d_cli.heads.parameters import Z_DIM
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.config import ChoicesConfig, DeformationConfig, FocusConfig, GeneratorConfig, TraitsConfig
from agile3d_cli.models.flat import FILE, expected_style, read_flat
from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig, resized
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config
from agile3d_cli.prior.flat import files as flat_files
from agile3d_cli.prior.flat import teacher as flat_teacher
from agile3d_cli.prior.flat.code import PITCH, YAW, camera_angles, camera_code, camera_labels, flat_code
from agile3d_cli.prior.flat.config import FLAT, FLAT_ENCODER, FlatConfig, sized
from agile3d_cli.prior.flat.disturb import disturbed
from agile3d_cli.prior.flat.heads import head_pool
from agile3d_cli.prior.flat.losses import place_weights, signal_to_noise
from agile3d_cli.prior.flat.teacher import Pool, Teacher
from agile3d_cli.prior.flat.trainer import FlatTrainer

SIZE = 16
TEACHER = GeneratorConfig(
    z_dim=6,
    w_dim=16,
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
    decoder_layers=2,
    focus=FocusConfig(strength=2.0),
    deformation=DeformationConfig(shapes=1, grid=6, inverse_grid=8),
)
CONFIG = FlatConfig(
    student=StyleGAN2Config((24, 16, 8), w_dim=8, mapping_layers=2),
    encoder=FlatEncoderConfig(w_dim=8, groups=(2, 4), size=SIZE, widths=(8, 16), last=8),
    pictures=8,
    held_out=4,
    latents=500,
    batch=4,
    encoder_batch=4,
    mapping_batch=64,
    warmup=3,
)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarser grid for small pictures."""
    for name, value in (("GUIDE", 24), ("GUIDE_SAMPLES", 24), ("PROBES", 8), ("FINE_SAMPLES", 6), ("EDGE_SAMPLES", 8)):
        monkeypatch.setattr(flat_teacher, name, value)
    monkeypatch.setattr(flat_teacher, "GROWTH", 12)


def teacher(many: bool = True) -> Teacher:
    torch.manual_seed(0)
    return Teacher(TriplaneGenerator(TEACHER).eval().requires_grad_(False), SIZE, CONFIG.spread, many)


def painted(count: int) -> Pool:
    """Pictures whose colours and halves tell their codes."""
    codes = torch.randn(count, 8, generator=torch.Generator().manual_seed(4))
    pictures = torch.sigmoid(codes[:, :3, None, None]).repeat(1, 1, SIZE, SIZE)
    pictures[:, :, : SIZE // 2] *= torch.sigmoid(codes[:, 3, None, None, None])
    shown = torch.cat([pictures, torch.ones(count, 1, SIZE, SIZE)], 1)
    return Pool(codes, (shown * 255).to(torch.uint8))


def trainer(out: Path) -> FlatTrainer:
    made = FlatTrainer(teacher(), CONFIG, torch.device("cpu"), out)
    made.held = painted(4)
    return made


def test_the_shipped_sizes_are_small() -> None:
    student, encoder = StyleGAN2(FLAT), FlatEncoder(FLAT_ENCODER)
    count = [sum(p.numel() for p in network.parameters()) for network in (student, encoder)]
    assert count[0] <= 2.6e6 and count[1] <= 0.9e6
    assert FLAT.size == 256 and FLAT.w_dim == Z_DIM + 2
    assert sum(FLAT_ENCODER.groups) == FLAT.num_ws and FLAT_ENCODER.w_dim == FLAT.w_dim


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_every_style_has_its_code_whatever_the_size(size: int) -> None:
    config = sized(FlatConfig(), size)
    assert config.student.size == size and sum(config.encoder.groups) == config.student.num_ws


def test_cameras_come_back_from_their_numbers() -> None:
    code = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    labels = camera_labels(code)
    # Measured: 2e-5 at the far ends, where the tangent is flat.
    torch.testing.assert_close(camera_code(labels), code, rtol=1e-3, atol=1e-3)
    yaw, pitch = camera_angles(code)
    assert (yaw.abs() < YAW).all() and (pitch.abs() < PITCH).all() and float(yaw.std()) > math.radians(15)
    for row in range(5):
        torch.testing.assert_close(labels[row], camera.portrait_label(float(yaw[row]), float(pitch[row])))


def test_cameras_beyond_the_range_are_brought_to_its_edge() -> None:
    far = torch.stack([camera.portrait_label(1.4, 0.0), camera.portrait_label(0.0, -0.9)])
    code = camera_code(far)
    assert code.isfinite().all() and code.abs().max() < 7
    assert code[0, 0] > 3 and code[1, 1] < -3


def test_a_code_is_the_latent_and_the_camera() -> None:
    z = torch.randn(3, Z_DIM, generator=torch.Generator().manual_seed(1))
    seen = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.3, 0.2]])
    code = flat_code(0.9 * z, camera_labels(seen), 0.9)
    torch.testing.assert_close(code, torch.cat([z, seen], 1), rtol=1e-4, atol=1e-4)


def test_many_heads_at_once_look_like_heads_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    mini = load_base("mini").generator
    pools = [Teacher(mini, 48, 0.9, many).draw(1, torch.Generator().manual_seed(3)) for many in (True, False)]
    (codes, images, alphas), (same, wanted, covered) = (pool.take(slice(None)) for pool in pools)
    assert torch.equal(codes, same)
    # Measured: 40 to 46 dB at 256 pixels.
    assert float(signal_to_noise(images, wanted)) > 32 and float((alphas - covered).abs().mean()) < 0.01


def test_the_same_chance_draws_the_same_heads() -> None:
    one = teacher()
    pools = [one.draw(3, torch.Generator().manual_seed(2)) for _ in range(2)]
    assert pools[0].pictures.shape == (3, 4, SIZE, SIZE) and pools[0].pictures.dtype == torch.uint8
    assert torch.equal(pools[0].pictures, pools[1].pictures) and torch.equal(pools[0].codes, pools[1].codes)
    assert len(one.fill(11, math.inf, torch.Generator().manual_seed(2))) == 11
    assert len(one.fill(50, 0.0, torch.Generator().manual_seed(2))) == flat_teacher.HEADS


def test_disturbed_pictures_stay_pictures() -> None:
    _, images, alphas = painted(6).take(slice(None))
    rows = [disturbed(images, alphas / 2, torch.Generator().manual_seed(1), np.random.default_rng(0)) for _ in range(2)]
    assert torch.equal(*rows) and rows[0].shape == images.shape
    assert rows[0].abs().max() <= 1 and not torch.equal(rows[0], images)


def test_the_face_counts_most() -> None:
    weight = place_weights(torch.ones(1, 1, 32, 32), CONFIG)[0, 0]
    assert weight[16, 16] > 2.9 and weight[0, 0] < 1.5 and torch.allclose(weight, weight.flip(0))
    assert (place_weights(torch.zeros(1, 1, 32, 32), CONFIG) == CONFIG.background_weight).all()


def test_pictures_shrink_by_areas_and_grow() -> None:
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(resized(images, 4), images)
    torch.testing.assert_close(resized(images, 2)[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    assert resized(images, 8).shape == (1, 1, 8, 8)


def test_each_stage_learns(tmp_path: Path) -> None:
    made, pool = trainer(tmp_path), painted(16)
    told = {}
    for stage, step, count in (
        ("mapping", lambda: made._map(), 60),
        ("student", lambda: made._draw(pool, SIZE), 60),
        ("encoder", lambda: made._tell(pool, 0.0), 60),
        ("encoder", lambda: made._tell(pool, 1.0), 20),
    ):
        totals = []
        for _ in range(count):
            terms = step()
            made._update(stage, terms, made._optimizers()[stage], 1.0)
            totals.append(sum(float(value.detach()) for value in terms.values()))
        told[stage, count] = sum(totals[:5]) / 5, sum(totals[-5:]) / 5
    # Measured: 0.62 of where it began for the student.
    assert told["mapping", 60][1] < 0.9 * told["mapping", 60][0]
    assert told["student", 60][1] < 0.75 * told["student", 60][0]
    assert told["encoder", 60][1] < 0.95 * told["encoder", 60][0]
    codes, images, _ = pool.take(slice(None))
    assert float(signal_to_noise(made.drawn(codes), images).mean()) > 12


def test_a_run_saves_resumes_and_its_files_load(tmp_path: Path) -> None:
    made = FlatTrainer(teacher(), CONFIG, torch.device("cpu"), tmp_path)
    made.run(0.08)
    assert made.done and min(made.steps.values()) > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        FILE, flat_files.STATE, "sheet.png",
    }  # fmt: skip

    other = FlatTrainer(teacher(), replace(CONFIG, seed=5), torch.device("cpu"), tmp_path)
    other.load()
    assert other.steps == made.steps and other.done
    assert torch.equal(other.rng.get_state(), made.rng.get_state())
    for name, module in made._modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, other._modules()[name].state_dict()[key])
    other.config = made.config
    pool = painted(8)
    terms = [one._tell(pool, 1.0) for one in (made, other)]
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])
    for one, own in zip((made, other), terms, strict=True):
        one._update("encoder", own, one.teller, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(made.encoder.parameters(), other.encoder.parameters(), strict=True))

    assert read_model(tmp_path / FILE).training["config"]["spread"] == CONFIG.spread
    prior = read_flat(tmp_path / FILE)
    student, encoder = prior.generator, prior.encoder
    ws = other._ws(student, pool.codes)
    # Half precision; measured: 2e-3.
    torch.testing.assert_close(student(ws).clamp(-1, 1), made.drawn(pool.codes), rtol=0, atol=2e-2)
    mean, spreads = encoder(pool.take(slice(None))[1])
    assert mean.shape == spreads.shape == (8, 2, 8)
    assert encoder.styles(mean).shape == (8, CONFIG.student.num_ws, 8)


def test_a_finished_run_draws_nothing_anew(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.progress = dict.fromkeys(made.progress, 1.0)
    before = made.student.const.detach().clone()
    made.run(10)
    assert torch.equal(made.student.const, before)


def test_what_is_no_number_is_taken_back(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made._update("mapping", made._map(), made.mapper, 1.0)
    made._keep(made.mapper, True)
    kept = [value.clone() for value in made.student.state_dict().values()]
    with torch.no_grad():
        next(made.student.mapping.parameters()).fill_(math.nan)
    made._keep(made.mapper, False)
    assert all(torch.equal(a, b) for a, b in zip(kept, made.student.state_dict().values(), strict=True))
    made._update("mapping", made._map(), made.mapper, 1.0)
    assert all(value.isfinite().all() for value in made.student.state_dict().values())


def test_pictures_grow_with_the_time_and_pools_divide() -> None:
    codes, images, alphas = painted(6).take(slice(2, 5), SIZE // 2)
    assert codes.shape == (3, 8) and images.shape == (3, 3, SIZE // 2, SIZE // 2) and alphas.shape[1] == 1
    whole = painted(6).take(slice(2, 5))[1]
    torch.testing.assert_close(images, torch.nn.functional.avg_pool2d(whole, 2), rtol=0, atol=1e-5)
    first, others = painted(6).split(2)
    assert (len(first), len(others), others.size) == (2, 4, SIZE)
    assert torch.equal(torch.cat([first.codes, others.codes]), painted(6).codes)


def test_a_generator_draws_smaller_pictures_by_its_first_blocks() -> None:
    student = StyleGAN2(CONFIG.student)
    ws = torch.randn(2, CONFIG.student.num_ws, 8)
    assert student(ws, size=8).shape == (2, 3, 8, 8) and torch.equal(student(ws, size=SIZE), student(ws))


def test_exact_heads_become_a_pool(tmp_path: Path) -> None:
    z = torch.randn(2, Z_DIM, generator=torch.Generator().manual_seed(1))
    labels = camera_labels(torch.linspace(-1, 1, 12).reshape(6, 2)).expand(2, 6, 25)
    pixels = torch.zeros(2, 6, 8, 8, 4, dtype=torch.uint8)
    pixels[:, :, :4] = torch.tensor([200, 100, 50, 255], dtype=torch.uint8)
    save_file({"z": z, "labels": labels.contiguous(), "pixels": pixels}, tmp_path / "heads-0000.safetensors")
    pool = head_pool(tmp_path, 4, FlatConfig(pictures=8, spread=0.5), torch.device("cpu"))
    assert len(pool) == 8 and pool.size == 4
    torch.testing.assert_close(pool.codes[:5, :Z_DIM], 2 * z[:1].expand(5, -1))
    torch.testing.assert_close(pool.codes[5:, :Z_DIM], 2 * z[1:].expand(3, -1))
    torch.testing.assert_close(camera_labels(pool.codes[:5, Z_DIM:]), labels[0, :5], rtol=1e-3, atol=1e-3)
    assert pool.pictures[0, :, 0, 0].tolist() == [200, 100, 50, 255]
    assert pool.pictures[0, :, 3, 3].tolist() == [198, 198, 198, 0]
    with pytest.raises(SystemExit, match=r"prior\.subjects"):
        head_pool(tmp_path / "none", 4, FlatConfig(), torch.device("cpu"))


def test_a_larger_training_begins_with_a_smaller_one(tmp_path: Path) -> None:
    small = trainer(tmp_path / "small")
    small.save()
    wide = replace(CONFIG, student=StyleGAN2Config((24, 16, 8, 4), w_dim=8, mapping_layers=2))
    wide = replace(wide, encoder=replace(CONFIG.encoder, groups=(2, 6)))
    larger = FlatTrainer(teacher(), wide, torch.device("cpu"), tmp_path / "larger")
    larger.start_from(tmp_path / "small" / FILE, "student")
    assert larger.progress == {"mapping": 1, "student": 0, "encoder": 0}
    codes = painted(3).codes
    drawn = larger.drawn(codes)
    assert drawn.shape[-1] == 2 * SIZE
    # What is new draws nothing; half precision.
    seen = larger.student(larger._ws(larger.student, codes), size=SIZE)
    torch.testing.assert_close(seen, small.student(small._ws(small.student, codes)), rtol=0, atol=2e-2)
    rows = torch.cat([larger.latents[:500], torch.zeros(500, 2)], 1)
    with torch.no_grad():
        missed = (larger.readout(larger.student.mapping(rows))[:, :-2] - larger.known[:500]).square().mean()
    # Measured: 0.38 of 0.995.
    assert float(missed) < 0.6 * float(larger.known[:500].square().mean())


def test_a_published_prior_comes_back(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.save()
    prior = read_flat(tmp_path / FILE)
    _, images, _ = painted(3).take(slice(None))
    codes = prior.codes(images)
    assert codes.shape == (3, 2, 8) and prior.styles(codes).shape == (3, CONFIG.student.num_ws, 8)
    drawn = prior.generator(prior.expected_styles(codes)).clamp(-1, 1)
    torch.testing.assert_close(drawn, made.redrawn(images), rtol=0, atol=2e-2)
    with pytest.raises(RefusedError, match="triplane-generator"):
        read_flat(Path(flat_teacher.__file__).parents[2] / "assets/mini.safetensors")


def test_a_short_code_stands_for_what_it_leaves_open() -> None:
    mapping = StyleGAN2(CONFIG.student).mapping
    codes = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    whole = codes / codes.square().mean(-1, keepdim=True).sqrt()
    with torch.no_grad():
        torch.testing.assert_close(expected_style(mapping, whole), mapping(whole), rtol=1e-4, atol=1e-4)
        nothing, usual = (
            expected_style(mapping, torch.zeros(1, 8)),
            mapping(torch.randn(20_000, 8)).mean(0, keepdim=True),
        )
        # Measured: 0.12 of the styles' spread, for a mean over 32 draws.
        assert float((nothing - usual).norm()) < 0.4 * float(mapping(whole).std(0).norm())
        turned = expected_style(mapping, 0.3 * whole) - nothing
        # Half of the way or less: the direction alone would be taken for certain.
        assert float(turned.norm()) < 0.7 * float((mapping(whole) - nothing).norm())
