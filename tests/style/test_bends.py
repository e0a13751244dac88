"""Bends: stylized pictures give way a little, so that what they draw lies at one place of the head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.style.bends import NODES, bends_of, no_bends, read_bent, strain

SIZE = 40


def window() -> Tensor:
    """All pixels but the outermost five."""
    line = torch.arange(5, SIZE - 5)
    return line[:, None] * SIZE + line[None]


def test_a_picture_that_is_not_bent_is_read_as_it_is() -> None:
    picture = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    read = read_bent(picture, no_bends(1, picture)[0], window())
    torch.testing.assert_close(read, picture[:, 5:-5, 5:-5].permute(1, 2, 0), atol=1e-5, rtol=0)


def test_a_bend_says_where_a_place_is_read() -> None:
    picture = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    bend = no_bends(1, picture)[0]
    bend[0], bend[1] = 3 / SIZE, -2 / SIZE
    read = read_bent(picture, bend, window())
    torch.testing.assert_close(read, picture[:, 3:-7, 8:-2].permute(1, 2, 0), atol=1e-5, rtol=0)
    # One that grows to the right moves the right alone.
    bend[1], bend[0] = 0, torch.linspace(0, 3 / SIZE, NODES)
    read = read_bent(picture, bend, window())
    assert (read[:, 0] - picture[:, 5:-5, 5].T).abs().mean() < (read[:, -1] - picture[:, 5:-5, -6].T).abs().mean()


def test_what_all_pictures_have_in_common_is_the_styles() -> None:
    bends = torch.randn(5, 2, NODES, NODES, generator=torch.Generator().manual_seed(0))
    apart = bends_of(bends, [0, 1, 2, 3, 4])
    torch.testing.assert_close(apart.mean(0), torch.zeros(2, NODES, NODES), atol=1e-6, rtol=0)
    torch.testing.assert_close(bends_of(bends + 7, [3]), apart[3:4], atol=1e-5, rtol=0)


def test_uneven_bends_strain_more_than_even_ones() -> None:
    even, uneven = torch.ones(1, 2, NODES, NODES), torch.ones(1, 2, NODES, NODES)
    uneven[..., ::2] = -1
    assert float(strain(no_bends(3, even))) == 0
    assert float(strain(uneven)) > 10 * float(strain(even)) > 0
    torch.testing.assert_close(strain(torch.cat([even, uneven])), strain(even) + strain(uneven))


def test_shifted_drawings_are_laid_over_each_other() -> None:
    """One drawing, shown shifted eight times: learnt as it stands it is blurred, with bends it is found again."""
    rng = torch.Generator().manual_seed(1)
    drawing = F.interpolate(torch.rand(1, 1, 9, 9, generator=rng), size=SIZE, mode="bicubic")[0].expand(3, -1, -1)
    shifts = torch.randint(-3, 4, (8, 2), generator=rng)
    shifts[-1] -= shifts.sum(0)
    shown = [torch.roll(drawing, tuple(shift), (1, 2)) for shift in shifts.tolist()]
    wanted = drawing[:, 5:-5, 5:-5].permute(1, 2, 0)

    def learnt(rate: float) -> float:
        guess, bends = torch.zeros_like(wanted).requires_grad_(), no_bends(8, wanted).requires_grad_()
        optimizer = torch.optim.Adam([{"params": [guess], "lr": 0.05}, {"params": [bends], "lr": rate}])
        for _ in range(150):
            apart = bends_of(bends, list(range(8)))
            read = torch.stack([read_bent(one, bend, window()) for one, bend in zip(shown, apart, strict=True)])
            optimizer.zero_grad()
            ((read - guess).abs().mean() + 1e-3 * strain(apart)).backward()
            optimizer.step()
        return float((guess - wanted).abs().mean().detach())

    # Measured: a twelfth.
    assert learnt(0.004) < 0.3 * learnt(0.0)
