"""A style's line on views: where it lies, how wide it is, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agile3d_cli.avatar.contour import with_contour
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.camera import portrait_label
from agile3d_cli.models.checkpoints import load_base
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


def haired(hair: Tensor) -> Rendering:
    """A white head that is all over the picture, with grey hair."""
    view = seen(torch.ones(1, 1, SIZE, SIZE), torch.full((1, 1, SIZE, SIZE), 2.5))
    return replace(view, image=view.image - hair)


def outlined(view: Rendering, hair: Tensor, line: Contour) -> Tensor:
    """How much of each pixel is ink, (SIZE, SIZE), where the line runs along hair."""
    drawn = with_contour(view, line, GREY, hair)
    return ((view.image - drawn.image) / (view.image - INK[0]))[0, 0]


def test_hair_is_outlined_on_skin_but_no_lock_and_no_gap() -> None:
    hair = disc(30.0)
    hair[..., SIZE // 2, SIZE // 2], hair[..., 4, 4] = 0.0, 1.0
    view, line = haired(hair), replace(LINE, hair=1.0)
    drawn = outlined(view, hair, line)
    row = drawn[SIZE // 2, : SIZE // 2]
    assert abs(float(row.sum()) - 4) < 0.6 and not row[: 64 - 34].any() and not row[64 - 26 :].any(), "on both sides"
    assert not drawn[:12, :12].any() and not drawn[60:68, 60:68].any()
    torch.testing.assert_close(outlined(view, hair, replace(line, hair=0.5)), 0.5 * drawn, atol=1e-5, rtol=0)
    for contour, share in ((LINE, hair), (line, 0 * hair), (line, None)):
        assert torch.equal(with_contour(view, contour, GREY, share).image, view.image)


def test_hair_that_goes_on_as_paint_has_no_line_there() -> None:
    hair, line = disc(30.0), replace(LINE, hair=1.0)
    painted = (haired(hair).image - disc(50.0) * (1 - hair))[..., SIZE // 2 + 20 :, :]
    view = haired(hair)
    view.image[..., SIZE // 2 + 20 :, :] = painted
    drawn = outlined(view, hair, line)
    assert drawn[: SIZE // 2].sum() > 300 and drawn[SIZE // 2 + 27 :].sum() < 3


def test_it_grows_with_the_picture_and_fades() -> None:
    view = seen(disc(40.0), torch.full((1, 1, SIZE, SIZE), 2.5))
    wide, faint = inked(view, replace(LINE, width=8 / SIZE)), inked(view, LINE.faded(0.25))
    assert abs(float(wide[SIZE // 2, : SIZE // 2].sum()) - 8) < 0.6
    torch.testing.assert_close(faint, 0.25 * inked(view), atol=1e-5, rtol=0)
    assert not inked(view, LINE.faded(0.0)).any()


def test_lines_blend() -> None:
    other = Contour(0.01, 0.5, (1.0, 0.5, 0.0), 1.0)
    half = contour_between(LINE, other, 0.5)
    assert half is not None and half.colour == (0.5, 0.5, 0.0) and abs(half.opacity - 0.75) < 1e-6 and half.hair == 0.5
    assert contour_between(None, None, 0.5) is None
    assert contour_between(None, other, 0.25) == other.faded(0.25)
    assert contour_between(LINE, None, 0.25) == LINE.faded(0.75)


def test_a_heads_hairline_is_drawn_and_nothing_else_changes() -> None:
    base = load_base("mini").generator
    subject = base.from_latent(0.7 * torch.randn(1, base.config.z_dim, generator=torch.Generator().manual_seed(2)))
    label = portrait_label()[None]
    plain, lined = (
        GeneratorHead(base, subject, replace(LINE, width=0.01, hair=hair)).render(label, 96) for hair in (0.0, 1.0)
    )
    assert torch.equal(plain.alpha, lined.alpha) and torch.equal(plain.depth, lined.depth)
    changed = (plain.image - lined.image).abs().amax(1)[0] > 0.1
    # Above the brows and beside the face, not within it, and thin.
    assert 40 < int(changed.sum()) < 400 and int(changed[:40].sum()) > 20 and not changed[48:62, 40:56].any()
