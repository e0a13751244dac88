"""The contract of all stylizers with the tiny base, and what it promises beyond it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", reason="agile3d-diffusion is optional: pip install ./plugins/agile3d-diffusion")
pytest.importorskip("peft")
pytest.importorskip("agile3d_diffusion", reason="agile3d-diffusion is not installed here")

from agile3d_diffusion import adapter
from agile3d_diffusion.colours import colour_map, recoloured
from agile3d_diffusion.config import DiffusionConfig
from agile3d_diffusion.detail import enlarge, resized
from agile3d_diffusion.learn import jittered, learn
from agile3d_diffusion.redraw import levels_of, redraw
from agile3d_diffusion.state import read_stylizer
from agile3d_diffusion.stylizer import DiffusionStylizer
from agile3d_diffusion.tiny import LEARNT, SHIPPED, TinyBase, noise_levels, packed, read_tiny, unpacked, write_tiny

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.contrast import head_region
from agile3d_cli.plugins import choose_stylizer
from agile3d_cli.testing import PaintedFaces, StylizerContract, ignore_progress, paint_exemplars, paint_faces

QUICK = DiffusionConfig(fit_steps=2, batch=2, steps=2, faces=4, rank=2)


class TestContract(StylizerContract):
    package = "agile3d-diffusion"
    name = "diffusion"
    config = QUICK


def small_base(seed: int = 0) -> TinyBase:
    """A random base of 16 pixels with LoRA layers."""
    torch.manual_seed(seed)
    base = TinyBase((16, 32), 16).eval().requires_grad_(False)
    adapter.attach(base, 2)
    adapter.restart(base, seed)
    return base


def pictures(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_an_untrained_lora_changes_nothing_and_a_trained_one_can_be_switched_off() -> None:
    base, seen, level = small_base(), pictures(2, 16), torch.tensor([3, 300])
    with torch.no_grad():
        with adapter.switched_off(base):
            plain = base(seen, level)
        assert torch.equal(base(seen, level), plain)
        adapter.take(base, {name: torch.full_like(value, 0.05) for name, value in adapter.learnt(base).items()})
        assert float((base(seen, level) - plain).abs().max()) > 1e-3
        with adapter.switched_off(base):
            assert torch.equal(base(seen, level), plain)


def test_without_a_style_a_face_that_is_kept_comes_back_as_it_was() -> None:
    """LoRA that changes nothing: both predictions agree, and what the base does not explain is put back."""
    face = 0.9 * pictures(1, 16)
    drawn = redraw(small_base(), face, strength=1.0, steps=5, keep=1.0)
    # 1.3e-6 measured.
    torch.testing.assert_close(drawn, face, rtol=0, atol=1e-5)


def test_a_perfect_base_keeps_a_face_at_any_strength() -> None:
    class Knowing(TinyBase):
        def forward(self, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return face

    face = 0.9 * pictures(1, 16)
    drawn = redraw(Knowing((16, 32), 16), face, strength=1.0, steps=4, keep=0.0)
    torch.testing.assert_close(drawn, face, rtol=0, atol=1e-6)


def test_levels_fall_from_the_strength_to_almost_clean() -> None:
    assert levels_of(1.0, 3) == [LEARNT - 1, 499, 250]
    assert levels_of(0.01, 4)[0] == 7 and min(levels_of(0.01, 4)) >= 1
    shares = noise_levels()
    assert bool((shares.diff() < 0).all()) and 0.99 < float(shares[0]) < 1


def test_the_learning_brings_the_exemplars_nearer_and_says_how_far_it_is() -> None:
    base, told = small_base(), list[float]()
    exemplars, prior = paint_faces(torch.zeros(9, 2), pictures(9, 1)[:, :, 0, 0], 16), pictures(4, 16)
    before = adapter.learnt(base)
    steps = learn(base, exemplars, prior, steps=30, batch=4, rate=2e-2, prior_weight=0.3, seed=1, told=told.append)
    assert steps == 30 and told == sorted(told) and told[-1] == 1
    seen = 0.5**0.5 * exemplars + 0.5**0.5 * torch.randn(exemplars.shape, generator=torch.Generator().manual_seed(5))
    level = torch.full((9,), 500)
    with torch.no_grad():
        after_error = (base(seen, level) - exemplars).square().mean()
        adapter.take(base, before)
        before_error = (base(seen, level) - exemplars).square().mean()
    assert float(after_error) < 0.8 * float(before_error), (float(after_error), float(before_error))


def test_jitter_keeps_the_head_where_it_is() -> None:
    exemplars = paint_faces(torch.zeros(64, 2), torch.full((64, 3), -0.8), 32)
    moved = jittered(exemplars, torch.Generator().manual_seed(0))
    place = (torch.arange(32) + 0.5) / 32 - 0.5
    weight = (0.8 - moved).clamp(min=0).sum(1)
    for axis in (1, 2):
        middles = (weight.sum(axis) * place).sum(1) / weight.sum((1, 2))
        # Shifts of 0.03 at most, each way alike; a hundredth more for what turning does to the painted mouth.
        assert float(middles.abs().max()) < 0.04 and 0.003 < float(middles.std()) < 0.03
    assert not torch.equal(moved[0], moved[1])


def test_colours_go_where_they_are_wanted_and_no_pixel_moves() -> None:
    # Pale, so that no colour leaves [-1, 1] and is clipped; of the head's own size, so that it fills the place.
    shown = [0.3 * picture for picture in paint_exemplars(6)]
    faces = [0.3 * picture for picture in PaintedFaces().sample(6, torch.Generator().manual_seed(0)).images]
    moved = recoloured(torch.stack(faces), colour_map(faces, shown))
    mean, wanted = (
        torch.stack([one[:, head_region(*one.shape[-2:])[0, 0] > 0].mean(1) for one in some]).mean(0)
        for some in (moved, shown)
    )
    torch.testing.assert_close(mean, wanted, rtol=0, atol=1e-5)
    assert torch.equal(recoloured(moved, colour_map(faces, shown), share=0.0), moved)


def test_detail_comes_from_the_face_where_the_drawing_follows_it() -> None:
    face = pictures(1, 128)
    small = resized(face, 32)
    followed, own = enlarge(small, face, 1.0), enlarge(-small, face, 1.0)
    plain = enlarge(small, face, 0.0)
    assert torch.equal(own, resized(-small, 128).clamp(-1, 1)), "a drawing against the face takes nothing over"
    assert float((followed - face).square().mean()) < 0.1 * float((plain - face).square().mean())
    assert torch.equal(enlarge(face, face, 1.0), face)


def test_the_tiny_base_is_small_knows_heads_and_says_where_it_comes_from() -> None:
    assert SHIPPED.stat().st_size < 10_000_000
    base = read_tiny()
    assert sum(value.numel() for value in base.parameters()) < 5_000_000
    described = choose_stylizer("diffusion").description
    assert described is not None and all(note.commercial for note in described.licenses)


def test_a_base_comes_back_from_its_file_and_another_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, path = TinyBase((16, 32), 16).eval(), tmp_path / "base.safetensors"
    write_tiny(path, base, {"license": "CC0-1.0"})
    loaded, seen = read_tiny(path), pictures(1, 16)
    # Eight bits: 0.017 measured.
    torch.testing.assert_close(loaded(seen, torch.tensor([5])), base(seen, torch.tensor([5])), rtol=0, atol=4e-2)
    write_tiny(path, TinyBase((16, 32), 16), {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RefusedError):
        read_tiny(path)


def test_kernels_are_stored_in_bytes_and_the_rest_in_half_precision() -> None:
    weights = {"kernel": pictures(3, 8), "bias": torch.tensor([0.5, -2.0])}
    stored = packed(weights)
    assert {name: value.dtype for name, value in stored.items()} == {
        "kernel": torch.int8, "kernel.steps": torch.float32, "bias": torch.float16
    }  # fmt: skip
    back = unpacked(stored)
    assert back.keys() == weights.keys() and torch.equal(back["bias"], weights["bias"])
    torch.testing.assert_close(back["kernel"], weights["kernel"], rtol=0, atol=1 / 250)


def test_a_style_of_another_tiny_base_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = DiffusionStylizer(replace(QUICK, fit_steps=0))
    stylizer.fit(paint_exemplars(2), PaintedFaces(), ignore_progress, seed=0)
    stylizer.save(tmp_path / "style.safetensors")
    assert read_stylizer(tmp_path / "style.safetensors").config == stylizer.config
    other = tmp_path / "tiny.safetensors"
    write_tiny(other, TinyBase(), {})
    monkeypatch.setattr("agile3d_diffusion.state.SHIPPED", other)
    with pytest.raises(RefusedError, match="another version of the tiny base"):
        read_stylizer(tmp_path / "style.safetensors")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strength": 0.0}, "strength"),
        ({"steps": 0}, "steps"),
        ({"memory": "swap"}, "full, sliced, offload"),
        ({"size": 500}, "multiple of 8"),
        ({"lora": "a.safetensors"}, "needs a large base"),
        ({"base": ""}, "base is empty"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DiffusionConfig(**wrong)  # type: ignore[arg-type]
