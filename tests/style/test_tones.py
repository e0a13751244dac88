"""A style's tones are solved: seen parts are met, what is hardly seen follows the others, unseen colours stay."""

from __future__ import annotations

import torch

from agile3d_cli.style.tones import part_maps


def colours(heads: int, parts: int) -> torch.Tensor:
    return torch.rand(heads, parts, 3, generator=torch.Generator().manual_seed(0))


def mapped(maps: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Colours (heads, parts, 3) by the map of each part."""
    return torch.einsum("pij,hpj->hpi", maps, torch.cat([known, torch.ones_like(known[..., :1])], 2))


def test_nothing_changes_where_nothing_was_seen() -> None:
    known = colours(4, 3)
    maps = part_maps(known, known * 0, torch.zeros(4, 3))
    torch.testing.assert_close(maps, torch.eye(3, 4).expand(3, 3, 4))


def test_each_part_has_its_own_colours_where_it_is_seen() -> None:
    known = colours(400, 2)
    seen = known.clone()
    seen[:, 0], seen[:, 1] = 0.5 * known[:, 0] + 0.2, torch.tensor([0.8, 0.4, 0.3])
    found = mapped(part_maps(known, seen, torch.ones(400, 2)), known)
    assert float((found - seen).abs().max()) < 0.08
    assert float((found[:, 1].std(0)).max()) < 0.03, "of one material, whatever the person's own colours"


def test_what_is_hardly_seen_follows_the_others() -> None:
    known = colours(100, 3)
    seen, weight = 0.5 * known + 0.2, torch.ones(100, 3)
    # The last part shows on no head, and the second on one, in a colour of its own.
    weight[:, 2] = 0
    weight[1:, 1], seen[0, 1] = 0, torch.tensor([1.0, 0.0, 1.0])
    found = mapped(part_maps(known, seen, weight), known)
    # Drawn a little towards no change: unchanged colours would be 0.3 off.
    assert float((found[:, 2] - (0.5 * known[:, 2] + 0.2)).abs().max()) < 0.06
    assert float((found[:, 1] - (0.5 * known[:, 1] + 0.2)).abs().mean()) < 0.15


def test_of_one_material_green_loses_its_purity_though_no_part_was_green() -> None:
    rng = torch.Generator().manual_seed(1)
    light = torch.rand(100, 1, generator=rng)
    # Skin and hair from dark to light, more and less red; the pictures are grey throughout.
    known = light * torch.tensor([0.9, 0.7, 0.6]) + 0.05 * torch.randn(100, 3, generator=rng) * torch.tensor([1, 0, 0])
    known = torch.stack([known, torch.tensor([0.2, 0.8, 0.2]).expand(100, 3)], 1)
    weight = torch.tensor([1.0, 0.0]).expand(100, 2)

    def purity(seen: torch.Tensor) -> float:
        found = mapped(part_maps(known, seen, weight), known)[0, 1]
        return float(found.max() - found.min())

    grey = known.mean(2, keepdim=True).expand_as(known)
    assert purity(grey) < 0.2 < 0.5 < purity(known)
