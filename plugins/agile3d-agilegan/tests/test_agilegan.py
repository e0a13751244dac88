"""The contract of all stylizers, and what this one promises beyond it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.score import StyleScore
from agile3d_agilegan.state import VERSION, read_state
from agile3d_agilegan.stylizer import AgileganStylizer
from agile3d_agilegan.trust import in_palette
from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.safefile import read_card, read_tensors, write_file
from agile3d_cli.testing import PaintedFaces, StylizerContract, ignore_progress, paint_exemplars

TINY = AgileganConfig(
    steps=10, shown=2, drawn=2, faces=4, crowd=4, pool=12, refine=2, measure_every=5, fewest=3, apart=0.0
)
"""Fits in seconds, with two branches for six exemplars."""


class TestContract(StylizerContract):
    package = "agile3d-agilegan"
    name = "agilegan"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def settings(cls, prior_file: Path) -> None:
        cls.config = replace(TINY, prior=str(prior_file))


@pytest.fixture(scope="module")
def fitted(prior_file: Path) -> AgileganStylizer:
    stylizer = AgileganStylizer(replace(TINY, prior=str(prior_file)))
    stylizer.fit(paint_exemplars(6), PaintedFaces(), ignore_progress, seed=1)
    return stylizer


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return PaintedFaces().sample(3, torch.Generator().manual_seed(99)).images


def with_settings(stylizer: AgileganStylizer, **settings: float) -> AgileganStylizer:
    return AgileganStylizer(replace(stylizer.config, **settings), stylizer.style)


def test_dials_at_nothing_draw_what_the_prior_draws(fitted: AgileganStylizer, faces: Tensor) -> None:
    none = with_settings(fitted, coarse=0, middle=0, fine=0).stylize(faces)
    prior: FlatPrior = fitted.style.prior
    plain = prior.generator(prior.expected_styles(prior.codes(faces))).clamp(-1, 1)
    # Drawn at 128 pixels by the blur of the skip path, and brought back to 64 by areas.
    assert float((none - plain).abs().mean()) < 0.02
    half, full = with_settings(fitted, coarse=0.5, middle=0.5, fine=0.5).stylize(faces), fitted.stylize(faces)
    assert 0 < float((half - none).abs().mean()) < float((full - none).abs().mean())


def test_each_dial_acts_on_its_own(fitted: AgileganStylizer, faces: Tensor) -> None:
    full = fitted.stylize(faces)
    for dial in ("coarse", "middle", "fine"):
        assert float((with_settings(fitted, **{dial: 0.0}).stylize(faces) - full).abs().mean()) > 1e-4


def test_the_user_or_the_face_chooses_the_branch(fitted: AgileganStylizer, faces: Tensor) -> None:
    division = fitted.style.division
    assert division.count == 2
    chosen = division.branch_of(fitted.style.prior.codes(faces)).tolist()
    one, two = (with_settings(fitted, branch=branch).stylize(faces) for branch in (0, 1))
    assert float((one - two).abs().mean()) > 1e-4
    for k, branch in enumerate(chosen):
        assert torch.equal(fitted.stylize(faces[k : k + 1]), (one, two)[branch][k : k + 1])


def test_what_is_no_face_only_takes_the_colours(fitted: AgileganStylizer) -> None:
    line = torch.linspace(0, 1, 64)
    board = ((line[:, None] * 4).floor() + (line * 4).floor()) % 2 * 2 - 1
    picture = board.expand(1, 3, 64, 64).contiguous()
    assert torch.equal(fitted.stylize(picture), in_palette(picture, fitted.style.palette))


def test_training_ends_early_and_keeps_the_best(prior_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score is best at its second measurement and never again."""
    told = iter([0.5, 0.3, 0.4, 0.6, 0.1])
    measured = StyleScore.of
    monkeypatch.setattr(
        StyleScore, "of", lambda self, drawing: replace(measured(self, drawing), style=next(told), drift=0.0)
    )
    stylizer = AgileganStylizer(replace(TINY, prior=str(prior_file), half_share=0.0, measure_every=2, patience=2))
    stylizer.fit(paint_exemplars(6), PaintedFaces(), ignore_progress)
    score = stylizer.style.score
    assert stylizer.style.steps == 4 and score is not None and score.total == 0.3 and next(told) == 0.1


def test_the_file_holds_no_more_than_it_needs(fitted: AgileganStylizer, tmp_path: Path) -> None:
    fitted.save(tmp_path / "style.safetensors")
    card = read_card(tmp_path / "style.safetensors", "stylizer", (VERSION,))
    assert not [name for name in card.shapes if "noise_const" in name or "drawing.generator.mapping" in name]
    assert card.meta["kind"] == "learnt" and card.meta["score"]["style"] == fitted.style.score.style


@pytest.mark.parametrize("lost", ["palette", "gains", "drawing.finish.output.bias", "generator.const"])
def test_an_incomplete_file_is_refused(fitted: AgileganStylizer, lost: str, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    fitted.save(path)
    card = read_card(path, "stylizer", (VERSION,))
    tensors = {name: value for name, value in read_tensors(card).items() if name != lost}
    write_file(path, {key: value for key, value in card.meta.items() if key != "checksum"}, tensors)
    with pytest.raises(RefusedError, match="complete"):
        read_state(path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"coarse": -1}, "coarse"),
        ({"attribute": "tall"}, "male"),
        ({"generator": "x.pt"}, "both"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_have_ranges(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        AgileganConfig(**settings)
