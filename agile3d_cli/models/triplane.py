"""Planes + points -> features -> density and colour.

Source: EG3D (Chan et al., CVPR 2022), section 4.1: features of the three projections are averaged, a small decoder
with softplus gives density and colour features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.layers import Linear, at_once, softplus
from agile3d_cli.models.texels import AXES, gathered, summed, table_of, texels_of

DARKEST = 0.01
"""A part's colour keeps this far from black and white, so that a place can differ from it."""
THINNEST = -40.0
"""Before the softplus of density, less than this is as nothing (4e-18); see ``volume.THICKEST`` for why it ends."""
TABLE_POINTS = 4096
"""From so many points on, a look-up is worth a table of texels."""
PART = 1 << 12
"""Points that a CPU decodes at a time where no gradient is wanted, so that they stay in its cache."""


def plane_features(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """Bilinear look-up and average over the three planes.

    Args:
        planes: (N, 3, C, H, W).
        normalised: (N, P, 3) in [-1, 1]; outside the features are zero.
        axes: key of ``AXES``.

    Returns:
        (N, P, C).
    """
    many = normalised.shape[1] >= TABLE_POINTS
    if many and planes.device.type == "cpu" and not normalised.requires_grad:
        return torch.stack([_by_texels(own, points, axes) for own, points in zip(planes, normalised, strict=True)])
    return plane_features_plain(planes, normalised, axes)


def _by_texels(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """Planes (3, C, H, W) at points (P, 3) -> (P, C)."""
    size = (planes.shape[-2], planes.shape[-1])
    if planes.requires_grad:
        return gathered(planes, texels_of(normalised, size, axes))
    table = table_of(planes)
    return torch.cat([summed(table, texels_of(part, size, axes)) for part in normalised.split(PART)])


def plane_features_plain(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """``plane_features`` by torch's own sampling, which gradients flow through."""
    n, _, channels, height, width = planes.shape
    grid = torch.stack([normalised[..., list(pair)] for pair in AXES[axes]], 1)
    found = F.grid_sample(
        planes.reshape(n * 3, channels, height, width), grid.reshape(n * 3, 1, -1, 2), align_corners=False
    )
    return found.reshape(n, 3, channels, -1).mean(1).transpose(1, 2)


class Palette(nn.Module):
    """Styles to the colours of a head's parts."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        last = config.w_dim - config.choices.features
        self._traits = slice(last - config.traits.count, last)
        self.layer = Linear(config.traits.count, 3 * config.parts)

    def forward(self, ws: Tensor) -> Tensor:
        """ws (N, num_ws, w_dim) -> (N, parts, 3) RGB, mostly in [0, 1]."""
        colours: Tensor = self.layer(self.traits_of(ws))
        return colours.unflatten(1, (-1, 3))

    def traits_of(self, ws: Tensor) -> Tensor:
        """The part of ws that colours follow from, (N, traits)."""
        return ws[:, -1, self._traits]


class Decoder(nn.Module):
    """Features (..., C) to density (...,) per world unit and colour features (..., F) in (0, 1).

    Where it tells parts apart, a place's colour is that of its part, see ``Palette``, and what the place adds to it.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.colours, self._plain = config.feature_channels, list(config.plain_parts)
        self.hidden = Linear(config.plane_channels, config.decoder_hidden)
        width = config.decoder_hidden
        self.more = nn.ModuleList(Linear(width, width) for _ in range(config.decoder_layers - 1))
        self.output = Linear(config.decoder_hidden, 1 + config.feature_channels + config.parts)
        self.density_gain = config.density_gain

    def forward(self, features: Tensor, palette: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (N, P, C), palettes (N, parts, 3) -> density (N, P) and colours (N, P, F)."""
        raw = self.raw(features)
        return self.density(raw[..., 0]), self.colour(raw, None if palette is None else self.tone(raw, palette))

    def colour(self, raw: Tensor, tone: Tensor | None) -> Tensor:
        """Colour features (..., F) of ``raw``, on top of what ``tone`` gave."""
        own = self.own(raw)
        return torch.sigmoid(own if tone is None else own + tone) * 1.002 - 0.001

    def own(self, raw: Tensor) -> Tensor:
        """What the place itself has of ``colour``, before squashing."""
        return raw[..., 1 : 1 + self.colours]

    def tone(self, raw: Tensor, palette: Tensor) -> Tensor:
        """The palette's colours (N, parts, 3) at ``raw`` places (N, P, K), before squashing, (N, P, 3).

        What places of plain parts would add beside lightness is taken off here, so that paint can still add it.
        """
        mixed = self._mixture(palette) @ self.shares(raw)
        tone = torch.logit(mixed[:, :3], DARKEST)
        if self._plain:
            own = raw[..., 1:4].transpose(1, 2)
            tone = tone - mixed[:, 3:] * (own - own.mean(1, keepdim=True))
        return tone.transpose(1, 2)

    def shares(self, raw: Tensor) -> Tensor:
        """How much of each part ``raw`` places (N, P, K) are, (N, parts, P)."""
        # Channels first: short rows, one softmax each, are several times slower.
        return raw[..., 1 + self.colours :].transpose(1, 2).contiguous().softmax(1)

    def _mixture(self, palette: Tensor) -> Tensor:
        """What shares of parts are summed up with, (N, 3 or 4, parts): colours, and whether the part is plain."""
        if not self._plain:
            return palette.transpose(1, 2)
        plain = palette.new_zeros(len(palette), palette.shape[1], 1)
        plain[:, self._plain] = 1
        return torch.cat([palette, plain], 2).transpose(1, 2)

    def raw(self, features: Tensor) -> Tensor:
        """Before the squashing functions: density, F colours, the parts' logits, (..., 1 + F + parts)."""
        if features.requires_grad or features.dim() < 2:
            return self._raw(features)
        return torch.cat([self._raw(part) for part in features.split(at_once(features, PART), -2)], -2)

    def _raw(self, features: Tensor) -> Tensor:
        x = softplus(self.hidden(features))
        for layer in self.more:
            x = softplus(layer(x))
        return self.output(x)

    def density(self, raw: Tensor) -> Tensor:
        """Raw density output to density per world unit."""
        return F.softplus((raw * self.density_gain - 1).clamp(min=THINNEST)) * self.density_gain
