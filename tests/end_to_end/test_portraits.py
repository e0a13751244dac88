"""Latent to portrait file and back, dials, and the whole flow from a photo, with a micro generator."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar import pipeline as avatar_pipeline
from agile3d_cli.avatar.config import ApplyConfig, InvertConfig, ViewsConfig
from agile3d_cli.avatar.invert import Latent
from agile3d_cli.avatar.latents import build_head, load_head, personal_tensors
from agile3d_cli.avatar.pipeline import make_avatar
from agile3d_cli.bundle import (
    BaseReference,
    Portrait,
    StyleBundle,
    StyleReference,
    read_portrait,
    write_portrait,
)
from agile3d_cli.errors import RefusedError
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.styled import StyleDifference


def silent(*_: object) -> None:
    """A progress that nobody watches."""


def write(path: Path, latent: Latent, base: BaseReference, style: StyleReference | None) -> Path:
    settings = {"identity": 0.8, "structure": 0.5, "color": 0.9}
    portrait = Portrait(
        latent.ws[0].cpu(), camera.portrait_label(), base, style, personal_tensors(latent), settings=settings
    )
    write_portrait(path, portrait)
    return path


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


def test_a_turned_style_is_the_style_at_these_dials(
    micro: BaseModel, latent: Latent, style: StyleDifference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # benchmarks are not installed
    turned = importlib.import_module("benchmarks.dials").turned
    label = camera.portrait_label()[None]
    bare = dataclasses.replace(latent, paint=None)
    for color, structure in ((0.3, 1.0), (1.0, 0.6)):
        wanted = build_head(bare, micro, style, 1.0, structure, color).render(label, 32).image
        found = build_head(bare, micro, turned(style, color, structure), 1.0, 1.0, 1.0).render(label, 32).image
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_photo_to_portrait(
    quick: InvertConfig,
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
    monkeypatch.setattr(avatar_pipeline, "InvertConfig", lambda **_: quick)
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
