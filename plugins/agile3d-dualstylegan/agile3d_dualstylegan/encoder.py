"""The face encoder that published styles share: aligned face -> one code for each style of the generator.

Source: Richardson et al., "Encoding in Style" (pSp, CVPR 2021); the network itself is ``agile3d_cli.models.irse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.models.foreign_stylegan import fill, generator_from
from agile3d_cli.models.irse import UNITS, EncoderConfig, PyramidEncoder
from agile3d_cli.models.stylegan2 import StyleGAN2

ENCODER, DECODER = "encoder.", "decoder."
"""What names of tensors begin with."""
FROM_MEAN = "start_from_latent_avg"
"""Option of a file by which its mean is added."""


@dataclass(frozen=True)
class FaceEncoder:
    """An encoder as it was published."""

    network: PyramidEncoder
    mean: Tensor | None
    """(styles or 1, w_dim), added to every code; None where the encoder was trained without."""
    decoder: StyleGAN2
    """The generator that it was trained with."""

    def codes(self, images: Tensor) -> Tensor:
        """Codes (N, styles, w_dim) of aligned faces (N, 3, 256, 256) in [-1, 1].

        They are Z+ for a file ``encoder.pt``, and go through ``generator.mapping``; W+ for ``encoder_wplus.pt``. Larger
        pictures are averaged down to 256 pixels before (the published scripts do not resample them).
        """
        codes: Tensor = self.network(images)
        return codes if self.mean is None else codes + self.mean


def encoder_from(tensors: Mapping[str, Tensor], options: Mapping[str, Any], mean: Tensor | None) -> FaceEncoder:
    """The encoder of a published file's ``state_dict``, ``opts`` and ``latent_avg``.

    Raises:
        RefusedError: tensors are missing, unknown, of a wrong shape or not finite, or do not fit each other.
    """
    own, decoder = ({n.removeprefix(p): v for n, v in tensors.items() if n.startswith(p)} for p in (ENCODER, DECODER))
    odd = sorted(name for name in tensors if not name.startswith((ENCODER, DECODER)))
    if odd:
        raise RefusedError(f"The checkpoint is not a pSp encoder: unknown {odd[0]}.")
    config = config_of(own)
    with torch.device("meta"):
        network = PyramidEncoder(config)
    fill(network, own, {name: name for name in network.state_dict()}, "a pSp encoder")
    found = FaceEncoder(network, _mean(options, mean, config), generator_from(decoder))
    if (found.decoder.config.num_ws, found.decoder.config.w_dim) != (config.codes, config.widths[-1]):
        raise RefusedError("The checkpoint is not a pSp encoder: its encoder and its decoder are of different sizes.")
    return found


def config_of(tensors: Mapping[str, Tensor]) -> EncoderConfig:
    """Sizes of an encoder from the shapes of its tensors.

    Raises:
        RefusedError: they are not those of a pyramid encoder.
    """
    firsts = [last - count for last, count in zip(accumulate(UNITS), UNITS, strict=True)]
    codes = sum(name.startswith("styles.") and name.endswith(".linear.weight") for name in tensors)
    try:
        one, two, three, four = (len(tensors[f"body.{unit}.res_layer.1.weight"]) for unit in firsts)
        reduction = one // len(tensors["body.0.res_layer.5.fc1.weight"])
        if min(one, two, three, four) < max(reduction, 1) or reduction < 1 or not codes:
            raise ValueError(reduction)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise RefusedError("The checkpoint is not a pSp encoder: its layers cannot be counted.") from error
    return EncoderConfig((one, two, three, four), codes, reduction)


def _mean(options: Mapping[str, Any], mean: Tensor | None, config: EncoderConfig) -> Tensor | None:
    if not options.get(FROM_MEAN):
        return None
    width = config.widths[-1]
    if mean is None or tuple(mean.shape) not in ((width,), (1, width), (config.codes, width)):
        raise RefusedError("The checkpoint's encoder starts from a latent_avg, which is missing or of another size.")
    if not torch.isfinite(mean).all():
        raise RefusedError("The checkpoint's latent_avg holds numbers that are not finite; the file is damaged.")
    return mean.reshape(-1, width).float()
