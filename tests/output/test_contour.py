"""A style's line on views: where it lies, how wide it is, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agile3d_cli.avatar.contour import with_contour
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.models.contour import Contour, contour_between

SIZE, GREY = 128, 0.5
LINE = Contour(4 / SIZE, 1.0, (0.0, 0.5, 0.0))
INK = torch.tensor([-1.0, 0.0, -1.0])


def disc(radius: float, u: float = 0.5) -> Tensor:
    """(1, 1, SIZE, SIZE): how much of each pixel a disc covers."""
    line = torch.arange(SIZE) + 0.5
    v, h = torch.meshgrid(line - SIZE / 2, line - SIZE * u, indexing="ij")
    return (radius + 0.5 - (v**2 + h**2).sqrt()).clamp(0, 1)[None, None]


def seen(alpha: Tensor, depth: Tensor) -> Rendering:
    """A white head on grey."""
    return Rendering((alpha + (1 - alpha) * GREY).expand(-1, 3, -1, -1), alpha, depth)


def inked(view: Rendering, line: Contour = LINE) -> Tensor:
    """How much of each pixel is ink, (SIZE, SIZE)."""
    drawn = with_contour(view, line, GREY)
    assert torch.equal(drawn.alpha, view.alpha) and torch.equal(drawn.depth, view.depth)
    return (view.image - drawn.image)[0, 0] / (view.image[0, 0] - INK[0])


def test_it_runs_along_the_rim_inside() -> None:
    view = seen(disc(40.0), torch.full((1, 1, SIZE, SIZE), 2.5))
    row = inked(view)[SIZE // 2]
    assert abs(float(row[: SIZE // 2].sum()) - 4) < 0.6, "four pixels wide"
    assert not row[:22].any() and not row[30:98].any(), "nothing outside, nothing in the middle"
    middle = with_contour(view, LINE, GREY).image[0, :, SIZE // 2, 26]
    torch.testing.assert_close(middle, INK)
    # A rim pixel is line over what it covers, background over the rest: no white fringe.
    rim = (view.alpha > 0.05) & (view.alpha < 0.45)
    drawn = with_contour(view, LINE, GREY).image[:, :1][rim]
    assert rim.any() and float((drawn - (view.alpha[rim] * INK[0] + (1 - view.alpha[rim]) * GREY)).abs().max()) < 0.3


def test_what_hides_something_is_outlined_and_a_slope_is_not() -> None:
    alpha = torch.ones(1, 1, SIZE, SIZE)
    near = disc(30.0) > 0.5
    jump = inked(seen(alpha, torch.where(near, 2.3, 2.6)))
    assert float(jump[near[0, 0]].sum()) > 500 and not jump[~near[0, 0]].any(), "on the nearer side alone"
    slope = torch.linspace(2.2, 2.8, SIZE).expand(1, 1, SIZE, SIZE)
    assert not inked(seen(alpha, slope)).any()
    assert not inked(seen(alpha, torch.where(near, 2.59, 2.6))).any(), "hair on skin is no jump"
    lock = torch.full_like(alpha, 2.3)
    lock[..., 40, 60] = 2.6
    assert not inked(seen(alpha, lock)).any(), "a gap of one pixel between locks is none"
    assert not inked(seen(alpha, alpha)).any() and not inked(seen(0 * alpha, alpha)).any(), "all head, no head"


def test_it_grows_with_the_picture_and_fades() -> None:
    view = seen(disc(40.0), torch.full((1, 1, SIZE, SIZE), 2.5))
    wide, faint = inked(view, replace(LINE, width=8 / SIZE)), inked(view, LINE.faded(0.25))
    assert abs(float(wide[SIZE // 2, : SIZE // 2].sum()) - 8) < 0.6
    torch.testing.assert_close(faint, 0.25 * inked(view), atol=1e-5, rtol=0)
    assert not inked(view, LINE.faded(0.0)).any()


def test_lines_blend() -> None:
    other = Contour(0.01, 0.5, (1.0, 0.5, 0.0))
    half = contour_between(LINE, other, 0.5)
    assert half is not None and half.colour == (0.5, 0.5, 0.0) and abs(half.opacity - 0.75) < 1e-6
    assert contour_between(None, None, 0.5) is None
    assert contour_between(None, other, 0.25) == other.faded(0.25)
    assert contour_between(LINE, None, 0.25) == LINE.faded(0.75)
