"""What pairs cannot teach is taken over from the exemplars, and only where people look more like them for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from skimage.draw import polygon2mask
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.measure import SIZE
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.contour import Contour
from agile3d_cli.models.styled import StyleDifference, stylized
from agile3d_cli.style import finish
from agile3d_cli.style.brows import brow_colour, one_brow_colour, outlines
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.exemplars import FOUND, Exemplar, ExemplarSet, read_exemplars
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.finish import finished, with_hairline
from agile3d_cli.style.measure import landmarks
from agile3d_cli.style.people import people_in

CARTOONS = Path(__file__).parents[2] / "examples" / "cartoon-exemplars"
PLAIN = StyleDifference({}, None)
BLACK, LINE = torch.tensor([0.05, 0.05, 0.06]), Contour(0.012, 1.0, (0.05, 0.05, 0.05))


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("mini")


@pytest.fixture(scope="module")
def inked(base: BaseModel) -> ExemplarSet:
    """Five people with black brows, and with lines around heads and along hair."""
    style, label = with_hairline(replace(PLAIN, contour=LINE)), camera.portrait_label()[None]
    pictures = [head.render(label, SIZE, BACKGROUND).image[0] for _, head in people_in(base, style, 5)]
    return as_set([with_bold_brows(picture) for picture in pictures])


def as_set(pictures: list[Tensor]) -> ExemplarSet:
    side = SIZE, SIZE
    return ExemplarSet(tuple(Exemplar(Path("x.png"), one, "", side, FOUND, SIZE, None) for one in pictures), ())


def with_bold_brows(picture: Tensor) -> Tensor:
    """Brows as a pen draws them: their whole outlines filled."""
    points = landmarks(picture)
    assert points is not None
    filled = picture.clone()
    for outline in outlines(points, SIZE):
        filled[:, torch.from_numpy(polygon2mask((SIZE, SIZE), outline[:, ::-1]))] = 2 * BLACK[:, None] - 1
    return filled


def silent(*_: object) -> None:
    """Nobody is told."""


def judged(monkeypatch: pytest.MonkeyPatch, brows: float, hair: float) -> None:
    """Lets people be so much nearer to the exemplars' look with brows of one colour, and with a line along hair."""
    rng = torch.Generator().manual_seed(0)
    wanted, own = (torch.randn(20, 8, generator=rng) for _ in range(2))

    def looks(_: BaseModel, style: StyleDifference) -> Tensor:
        line = style.contour is not None and style.contour.hair > 0
        return own + 3 - brows * bool(style.weights) - hair * line

    monkeypatch.setattr(finish, "head_features", lambda _: wanted)
    monkeypatch.setattr(finish, "_looks", looks)


def test_lines_and_brows_of_ink_are_kept(base: BaseModel, inked: ExemplarSet, monkeypatch: pytest.MonkeyPatch) -> None:
    found = one_brow_colour(inked.images)
    assert found is not None and float((found - BLACK).abs().max()) < 0.01
    told: list[float] = []
    judged(monkeypatch, 1.0, 1.0)
    style = finished(base, PLAIN, inked, TransferConfig(), lambda _, share: told.append(share))
    assert style.contour is not None and style.contour.hair == 1 and told == [0, 0.5, 1]
    ws = base.generator.mapping(torch.randn(5, base.generator.config.z_dim))
    before, after = (model.palette(ws) for model in (base.generator, stylized(base.generator, style)))
    torch.testing.assert_close(after[:, 2], found.expand(5, 3), atol=1e-4, rtol=0)
    others = [0, 1, *range(3, before.shape[1])]
    torch.testing.assert_close(after[:, others], before[:, others])


@pytest.mark.parametrize(("brows", "hair"), [(-1.0, 1.0), (1.0, -1.0), (0.0, 0.0)])
def test_what_does_not_look_more_like_them_is_not_kept(
    base: BaseModel, inked: ExemplarSet, monkeypatch: pytest.MonkeyPatch, brows: float, hair: float
) -> None:
    judged(monkeypatch, brows, hair)
    style = finished(base, PLAIN, inked, TransferConfig(), silent)
    assert style.contour is not None and (style.contour.hair > 0) == (hair > 0) and bool(style.weights) == (brows > 0)


def test_each_can_be_switched_off(base: BaseModel, inked: ExemplarSet, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, 1.0, 1.0)
    assert finished(base, PLAIN, inked, TransferConfig(contour=False, brows=False), silent) == PLAIN
    lined = finished(base, PLAIN, inked, TransferConfig(brows=False), silent)
    assert lined.contour is not None and lined.contour.hair == 1 and not lined.weights


def test_people_are_looked_at_in_the_style(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "PEOPLE", 2)
    lined = replace(PLAIN, contour=LINE)
    plain, around, along = (finish._looks(base, style) for style in (PLAIN, lined, with_hairline(lined)))
    assert plain.shape == along.shape == (2, plain.shape[1])
    assert not torch.allclose(plain, around) and not torch.allclose(around, along)


def test_brows_of_many_colours_are_left(base: BaseModel, inked: ExemplarSet) -> None:
    assert one_brow_colour(read_exemplars(CARTOONS, base.framing).images[:6]) is None
    assert one_brow_colour(inked.images[:1]) is None and one_brow_colour([]) is None
    assert brow_colour(torch.zeros(3, 64, 64)) is None


def test_a_single_picture_is_not_judged_by(base: BaseModel, inked: ExemplarSet) -> None:
    style = finished(base, PLAIN, as_set(inked.images[:1]), TransferConfig(), silent)
    assert not style.weights and style.contour is not None and style.contour.hair == 0
