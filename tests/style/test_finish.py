"""Lines are taken over from the exemplars; along hair, and light, only where people look more like them for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.measure import SIZE
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.contour import Contour
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.style import finish
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.exemplars import FOUND, Exemplar, ExemplarSet
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.finish import LIGHTS, finished, with_hairline
from agile3d_cli.style.people import people_in

CARTOONS = Path(__file__).parents[2] / "examples" / "cartoon-exemplars"
PLAIN = StyleDifference({}, None)
LINE = Contour(0.012, 1.0, (0.05, 0.05, 0.05))


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("mini")


@pytest.fixture(scope="module")
def inked(base: BaseModel) -> ExemplarSet:
    """Five people with lines around heads and along hair."""
    style, label = with_hairline(replace(PLAIN, contour=LINE)), camera.portrait_label()[None]
    return as_set([head.render(label, SIZE, BACKGROUND).image[0] for _, head in people_in(base, style, 5)])


def as_set(pictures: list[Tensor]) -> ExemplarSet:
    side = SIZE, SIZE
    return ExemplarSet(tuple(Exemplar(Path("x.png"), one, "", side, FOUND, SIZE, None) for one in pictures), ())


def silent(*_: object) -> None:
    """Nobody is told."""


def judged(monkeypatch: pytest.MonkeyPatch, hair: float, light: float = 0.0) -> None:
    """Lets people be so much nearer to the exemplars' look with a line along hair, and per strength of light."""
    rng = torch.Generator().manual_seed(0)
    wanted, own = (torch.randn(20, 8, generator=rng) for _ in range(2))

    def looks(_: BaseModel, style: StyleDifference) -> Tensor:
        lined = style.contour is not None and style.contour.hair > 0
        return own + 3 - hair * lined - light * style.light

    monkeypatch.setattr(finish, "head_features", lambda _: wanted)
    monkeypatch.setattr(finish, "_looks", looks)


@pytest.mark.parametrize("hair", [1.0, 0.0, -1.0])
def test_a_line_along_hair_is_kept_if_it_looks_like_them(
    base: BaseModel, inked: ExemplarSet, monkeypatch: pytest.MonkeyPatch, hair: float
) -> None:
    told: list[float] = []
    judged(monkeypatch, hair)
    style = finished(base, PLAIN, inked, TransferConfig(), lambda _, share: told.append(share))
    assert style.contour is not None and style.contour.hair == max(hair, 0) and told == [0, 0.5, 1]


@pytest.mark.parametrize(("gain", "light"), [(5.0, LIGHTS[1]), (0.0, 0.0), (-5.0, 0.0), (14.0, LIGHTS[0])])
def test_as_much_light_is_kept_as_looks_like_them(
    base: BaseModel, inked: ExemplarSet, monkeypatch: pytest.MonkeyPatch, gain: float, light: float
) -> None:
    """The last gains so much that twice the light is too much."""
    judged(monkeypatch, 0.0, gain)
    assert finished(base, PLAIN, inked, TransferConfig(), silent).light == light


def test_they_can_be_switched_off(base: BaseModel, inked: ExemplarSet, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, 1.0, 5.0)
    assert finished(base, PLAIN, inked, TransferConfig(contour=False, light=False), silent) == PLAIN
    assert finished(base, PLAIN, inked, TransferConfig(contour=False), silent).light > 0


def test_light_is_looked_at_in_the_style(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "PEOPLE", 2)
    dark, lit = (finish._looks(base, replace(PLAIN, light=light)) for light in (0.0, 0.3))
    assert not torch.allclose(dark, lit)


def test_people_are_looked_at_in_the_style(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "PEOPLE", 2)
    lined = replace(PLAIN, contour=LINE)
    plain, around, along = (finish._looks(base, style) for style in (PLAIN, lined, with_hairline(lined)))
    assert plain.shape == along.shape == (2, plain.shape[1])
    assert not torch.allclose(plain, around) and not torch.allclose(around, along)


def test_a_single_picture_is_not_judged_by(base: BaseModel, inked: ExemplarSet) -> None:
    style = finished(base, PLAIN, as_set(inked.images[:1]), TransferConfig(), silent)
    assert style.contour is not None and style.contour.hair == 0
