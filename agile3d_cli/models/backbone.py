"""z -> ws -> planes: the mapping network and the StyleGAN2 backbone whose output image is the feature planes.

Source: Chan et al., "Efficient Geometry-aware 3D GANs" (EG3D, CVPR 2022), section 4; Karras et al. 2020 for both
networks (skip outputs, no residual connections). Written from the papers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.models.config import ChoicesConfig, GeneratorConfig
from agile3d_cli.models.layers import Linear, ModulatedConv, activate, upsample

DECIDED = 0.99
"""Share of an option from which nothing of the others is seen."""


class Mapping(nn.Module):
    """Latent and camera label to styles."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        c, self.config = config, config
        if c.label_dim:
            self.embed = Linear(c.label_dim, c.w_dim)
        first = c.z_dim + c.choices.features + (c.w_dim if c.label_dim else 0)
        sizes = [first] + [c.w_dim] * (c.mapping_layers - 1) + [c.w_dim - c.traits.count - c.choices.features]
        self.layers = nn.ModuleList(Linear(a, b, lr=c.mapping_lr) for a, b in pairwise(sizes))
        if c.traits.count:
            self.traits = Traits(c)
        self.register_buffer("w_avg", torch.zeros(c.w_dim))

    def forward(self, z: Tensor, label: Tensor | None = None, truncation: float = 1.0, cutoff: int = 0) -> Tensor:
        """(N, z_dim) and, where the network is conditioned, labels (N, label_dim) -> ws (N, num_ws, w_dim).

        ``truncation`` pulls the first ``cutoff`` styles (0: all) towards the average.
        """
        x, shares = self.entry(z)
        traits = self.traits(x) if self.config.traits.count else z[:, :0]
        if self.config.label_dim:
            assert label is not None, "a conditioned generator needs camera labels"
            x = torch.cat([x, _unit(self.embed(label * self.config.published.label_scale))], 1)
        for layer in self.layers:
            x = activate(layer(x))
        x = torch.cat([x, traits, shares], 1)
        ws = x[:, None].repeat(1, self.config.num_ws, 1)
        if truncation != 1:
            stop = cutoff or self.config.num_ws
            ws[:, :stop] = self.w_avg.lerp(ws[:, :stop], truncation)
        return ws

    def entry(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layers are given of z (N, z_dim), and the shares of its choices (N, features) alone."""
        shares = chosen(z, self.config.choices) if self.config.choices.features else z[:, :0]
        x = _unit(z) if self.config.normalize_z else z
        return torch.cat([x, self.config.choices.gain * shares], 1), shares


class Traits(nn.Module):
    """Latent with its shares (N, z_dim + features) to traits (N, count), each about standard normal."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        width, t = config.z_dim + config.choices.features, config.traits
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise((width, t.hidden, t.hidden, t.count)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = activate(layer(x))
        return self.layers[-1](x)


def chosen(z: Tensor, choices: ChoicesConfig) -> Tensor:
    """What the choosing coordinates of z (N, z_dim) choose, as shares in [0, 1], (N, features)."""
    parts = []
    for start, bias in choices.groups:
        logits = z[:, start : start + len(bias)] + z.new_tensor(bias)
        parts.append((choices.sharpness * logits).softmax(1))
    switched = [torch.sigmoid(choices.sharpness * (z[:, i : i + 1] - threshold)) for i, threshold in choices.switches]
    crossed = [parts[group] * switched[switch] for group, switch in choices.crossed]
    return torch.cat(parts + switched + crossed, 1)


def decided(z: Tensor, choices: ChoicesConfig) -> Tensor:
    """z (N, z_dim) with every choice made: what is chosen now is chosen by a share of ``DECIDED`` or more.

    Between two options lies what no head has, such as half a braid or the ghost of a pair of glasses.
    """
    z, margin = z.clone(), math.log(DECIDED / (1 - DECIDED)) / choices.sharpness
    for start, bias in choices.groups:
        group = z[:, start : start + len(bias)]
        logits = group + z.new_tensor(bias)
        # As many options may come near as there are.
        apart = margin + math.log(len(bias)) / choices.sharpness
        best, which = logits.max(1, keepdim=True)
        second = logits.scatter(1, which, -math.inf).amax(1, keepdim=True)
        raised = best + (apart - (best - second)).clamp(min=0) / 2
        moved = torch.minimum(logits, raised - apart).scatter(1, which, raised)
        z[:, start : start + len(bias)] = moved - z.new_tensor(bias)
    for number, threshold in choices.switches:
        away = z[:, number] - threshold
        z[:, number] = threshold + torch.where(away > 0, away.clamp(min=margin), away.clamp(max=-margin))
    return z


class Block(nn.Module):
    """One resolution: (up-)convolutions and the output that is added to the upsampled skip image."""

    def __init__(self, config: GeneratorConfig, resolution: int):
        super().__init__()
        c, channels, folded = config, config.channels(resolution), config.published.folded
        self.resolution = resolution
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            self.conv0 = ModulatedConv(
                c.channels(resolution // 2), channels, c.w_dim, resolution, up=True, folded=folded
            )
        self.conv1 = ModulatedConv(channels, channels, c.w_dim, resolution, folded=folded)
        self.output = ModulatedConv(
            channels, 3 * c.plane_channels, c.w_dim, resolution, kernel=1, plain=True, folded=folded
        )
        if resolution <= c.bias_maps:
            self.bias_map = nn.Parameter(torch.zeros(channels, resolution, resolution))

    def forward(self, x: Tensor | None, ws: list[Tensor]) -> Tensor:
        """The features that the next block and the output start from; ``ws``: the styles of conv0 (except at 4) and
        conv1, each (N, w_dim)."""
        x = self.const[None].expand(ws[0].shape[0], -1, -1, -1) if x is None else self.conv0(x, ws[0])
        if hasattr(self, "bias_map"):
            x = x + self.bias_map.to(x.dtype)
        return self.conv1(x, ws[-1])


TONES = (slice(0, 3), slice(6, 9))
"""Traits (``heads/traits.py``) that say how light a person's skin is, and the brows."""
ACCENT_SIZE = 48
"""Edge of a style's accents, texels; they are enlarged to the planes' size."""


class Backbone(nn.Module):
    """Styles to planes (N, 3, plane_channels, plane_size, plane_size)."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, resolution) for resolution in config.resolutions)
        bank = config.bank
        if bank.shares:
            self.bank = nn.Parameter(torch.zeros(len(bank.shares), 3 * config.plane_channels, bank.size, bank.size))
        if config.tinted:
            self.tint = Linear(config.w_dim, 6 * config.plane_channels)
            nn.init.zeros_(self.tint.weight)
        self.mean_planes: nn.Parameter | None = None
        """Of ``means_shape``, added to everybody's planes; styles bring them along for generators that have none."""
        if config.mean_planes:
            self.mean_planes = nn.Parameter(torch.zeros(self.means_shape))
        self.accents: nn.Parameter | None = None
        """A style's, of ``accents_shape``: what it adds to the planes for each deviation of the person's tones. What a
        place adds to its part's colour is drawn on every skin alike; lips of one red on all skins need this."""
        self.details: nn.Parameter | None = None
        """A style's, of ``details_shape``, see ``details.py``; not part of the planes, which have no room for them."""

    @property
    def means_shape(self) -> tuple[int, ...]:
        """(3, C, S, S) of the planes."""
        return (3, self.config.plane_channels, self.config.plane_size, self.config.plane_size)

    @property
    def accents_shape(self) -> tuple[int, ...]:
        """(tones, 3 * C, A, A), or nothing where styles do not know these traits."""
        if self.config.traits.count < TONES[-1].stop:
            return ()
        return (len(TONES), 3 * self.config.plane_channels, ACCENT_SIZE, ACCENT_SIZE)

    @property
    def details_shape(self) -> tuple[int, ...]:
        """(1, C, S, S), or nothing where planes do not lie in a mean head's space."""
        if not self.config.deformation.components:
            return ()
        return (1, self.config.plane_channels, self.config.plane_size, self.config.plane_size)

    def forward(self, ws: Tensor) -> Tensor:
        """ws (N, num_ws, w_dim); a block's output shares its style with the next block's first convolution."""
        return self.planes(self.features(ws), ws)

    def features(self, ws: Tensor) -> Iterator[Tensor]:
        """What each block's output is made from, (N, C, S, S), smallest first."""
        x = None
        for number, block in enumerate(self.blocks):
            first = max(2 * number - 1, 0)
            x = block(x, [ws[:, k] for k in range(first, 2 * number + 1)])
            yield x

    def planes(self, features: Iterable[Tensor], ws: Tensor) -> Tensor:
        """``forward`` from ``features`` on, which stay the same while only outputs and mean planes are trained."""
        image = None
        for number, (block, x) in enumerate(zip(self.blocks, features, strict=True)):
            assert isinstance(block, Block)
            out: Tensor = block.output(x, ws[:, 2 * number + 1]).float()
            image = out if image is None else upsample(image) + out
        assert image is not None
        if self.config.bank.shares:
            first = self.config.w_dim - self.config.choices.features
            mix = ws[:, -1, [first + number for number in self.config.bank.shares]]
            mixed = torch.einsum("nk,kchw->nchw", mix, self.bank)
            image = image + enlarged(mixed, image.shape[-1])
        planes = image.unflatten(1, (3, self.config.plane_channels))
        if self.mean_planes is not None:
            planes = planes + self.mean_planes
        if self.config.tinted:
            scale, shift = self.tint(ws[:, -1]).reshape(-1, 2, 3, self.config.plane_channels, 1, 1).unbind(1)
            planes = planes * (1 + scale) + shift
        if self.accents is not None:
            first = self.config.w_dim - self.config.choices.features - self.config.traits.count
            tones = torch.stack([ws[:, -1, first + tone.start : first + tone.stop].mean(1) for tone in TONES], 1)
            added = torch.einsum("nk,kchw->nchw", tones, self.accents)
            planes = planes + enlarged(added, planes.shape[-1]).view_as(planes)
        return planes


def enlarged(images: Tensor, size: int) -> Tensor:
    """Square images (N, C, S, S) bilinearly at ``size``, as two products: with gradients a third of the work."""
    lines = torch.eye(images.shape[-1], dtype=images.dtype, device=images.device)[None]
    across = F.interpolate(lines, size, mode="linear", align_corners=False)[0]
    return across.T @ images @ across


def _unit(x: Tensor) -> Tensor:
    """Brings (N, C) to unit second moment."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
