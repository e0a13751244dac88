"""Triton's rays against torch's steps: on CUDA where there is one, else by Triton's interpreter, if Triton is there."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from agile3d_cli.models import fused
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.ray_field import CLEAR, apart, march_rays, trial_rays
from agile3d_cli.models.texels import AXES

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

RAYS = 150 if DEVICE.type == "cuda" else 20
"""The interpreter is slow."""


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    """The module, compiled or interpreted."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE.type == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")  # looked at when Triton is imported
        pytest.importorskip("triton")
        yield importlib.import_module("agile3d_cli.models.fused_march")


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("samples", [(21, 19), (4, 1), (16, 16)])
def test_fused_rays_are_those_of_torch(kernels: ModuleType, axes: str, samples: tuple[int, int]) -> None:
    march = kernels.marching(kernels.Setting(block=64))
    field, origin, direction, first, draws, fine = trial_rays(32, 64, 33, axes, samples, DEVICE)
    few = slice(0, RAYS)
    for given in (draws[few], draws[:1], None):
        rays = (field, origin[few], direction[few], first[few], given, fine)
        found, wanted = march(*rays), march_rays(*rays)
        assert (wanted.seen > 0.5).any()
        # Measured: 1e-5 of values up to 3.
        assert apart(found, wanted) < 5e-5


def test_a_trial_comes_first(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ((32, 64, 33), "xy_xz_zx", (5, 2), DEVICE)
    assert callable(fused.tried.__wrapped__(*kind))
    monkeypatch.setattr(fused, "AGREES", 0.0)
    assert "do not agree" in fused.tried.__wrapped__(*kind)

    def broken(*_: object) -> None:
        raise RuntimeError("no C compiler\nand a long story")

    monkeypatch.setattr(kernels, "marching", broken)
    assert fused.tried.__wrapped__(*kind) == "Triton's rays cannot be made here (RuntimeError: no C compiler)."


def test_what_does_not_fit_is_left_to_torch() -> None:
    field, *_ = trial_rays(32, 64, 33)
    assert fused.fits(field, (48, 48)) and fused.fits(field, (4, 1))
    assert not fused.fits(field, (3, 48)) and not fused.fits(field, (200, 100)) and not fused.fits(field, (48, 0))
    for widths in ((24, 64, 33), (32, 64, 32), (8, 64, 33), (32, 256, 33)):
        assert not fused.fits(trial_rays(*widths)[0], (48, 48))
    decoder = dataclasses.replace(field.decoder, hidden=field.decoder.hidden.double())
    assert not fused.fits(dataclasses.replace(field, decoder=decoder), (48, 48))


def test_it_is_never_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    field, *_ = trial_rays(32, 64, 33)
    config, there = GeneratorConfig(), importlib.util.find_spec("json")
    monkeypatch.setattr(fused, "tried", lambda *kind: march_rays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(torch.version, "cuda", None)
        assert fused.fused_march(field, config) is None
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert fused.fused_march(field, config) is None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: there)
        assert fused.fused_march(field, config) is march_rays
    monkeypatch.setattr(fused, "tried", lambda *kind: "Triton's rays do not agree.")
    with pytest.warns(RuntimeWarning, match="do not agree. Views are made without them"):
        assert fused.fused_march(field, config) is None


def test_depth_is_compared_where_it_is_one() -> None:
    rays = trial_rays(32, 64, 33)
    wanted = march_rays(*rays)
    assert apart(wanted, wanted) == 0
    thin = wanted._replace(seen=torch.full_like(wanted.seen, CLEAR / 2), depth=torch.full_like(wanted.depth, torch.inf))
    assert apart(thin, thin) == 0
    other = wanted._replace(depth=wanted.depth + 0.25)
    assert apart(other, wanted) == pytest.approx(0.25)
    assert not apart(wanted._replace(mix=wanted.mix * torch.nan), wanted) <= 1
