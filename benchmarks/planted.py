"""An EG3D-type generator of official size with random weights, in whose planes a lumpy head is planted.

Random weights alone make fog. Noise maps are the one thing in the weights that tells places apart, so the last one
holds a bowl: added up over the planes it is an ellipsoid, and the decoder is set so that density rises steeply there.
"""

from __future__ import annotations

import torch

from agile3d_cli.models.backbone import Block
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.layers import ModulatedConv
from agile3d_cli.models.triplane import plane_features_plain

BOWL = 6.0
"""Height of the bowl over what random features make of a place."""
STEEP = 40.0
"""Raw density rises by so much from the surface to the middle."""
SURFACE = 10.0
"""Raw density at the surface."""
SHARE = 0.12
"""Of the cube that the head fills."""


@torch.no_grad()
def planted(config: GeneratorConfig, seed: int = 0) -> TriplaneGenerator:
    """The generator, frozen; biases and noise strengths are not zero either."""
    torch.manual_seed(seed)
    generator = TriplaneGenerator(config).eval().requires_grad_(False)
    for module in generator.modules():
        if isinstance(module, ModulatedConv):
            module.bias.normal_(0, 0.1)
            if module.noise:
                module.noise_strength.normal_(0, 0.05)
    line = (torch.arange(config.plane_size) + 0.5) * (2 / config.plane_size) - 1
    last = generator.backbone.blocks[-1]
    assert isinstance(last, Block)
    last.conv1.noise_const.copy_(1 - line.square()[:, None] - line.square()[None])
    last.conv1.noise_strength.fill_(BOWL)
    last.output.weight[:: config.plane_channels] = 0.1
    decoder = generator.decoder
    decoder.hidden.weight[0] = 0
    decoder.hidden.weight[0, 0] = 1 / decoder.hidden.gain
    decoder.hidden.bias[0] = 20
    decoder.output.weight[0, 1:] *= 0.5
    decoder.output.weight[0, 0] = 1 / decoder.output.gain
    z = torch.randn(1, config.z_dim, generator=torch.Generator().manual_seed(seed))
    ws = generator.mapping(z, torch.zeros(1, config.label_dim) if config.label_dim else None)
    points = 2 * torch.rand(1, 20000, 3, generator=torch.Generator().manual_seed(seed)) - 1
    raw = decoder.raw(plane_features_plain(generator.backbone(ws), points, config.plane_axes))[0, :, 0]
    surface, middle = raw.quantile(1 - SHARE), raw.quantile(0.999)
    gain = STEEP / (middle - surface)
    decoder.output.weight[0] *= gain
    decoder.output.bias[0] = (decoder.output.bias[0] - surface) * gain + SURFACE
    return generator
