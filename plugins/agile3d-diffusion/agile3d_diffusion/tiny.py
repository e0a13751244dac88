"""The tiny base: a small diffusion model of head pictures, which works offline and is trained by ``train_base``.

A U-net over pixels: a picture of 128 becomes 32 x 32 patches of 4 x 4 pixels, and the network names the clean picture
behind a noisy one. That it predicts the picture and not the noise matters here: a patch has almost as many numbers as
the network has channels, and noise fills all of them.

Sources: Ho et al., Denoising diffusion probabilistic models, 2020; Nichol and Dhariwal, Improved denoising diffusion
probabilistic models, 2021 (the cosine schedule); Li and He, Back to basics: let denoising generative models denoise,
2025 (predicting pictures, with the loss of velocities).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models.byte_steps import from_bytes, in_bytes
from agile3d_cli.safefile import read_card, read_tensors, write_file

SIZE = 128
"""Width and height of the pictures that the tiny base draws."""
PATCH = 4
TIMES = 1000
"""Noise levels: 0 is almost clean, TIMES - 1 almost pure noise."""
LEARNT = 750
"""Levels that the tiny base knows: redrawing starts from a picture, so it never meets the noisiest quarter."""
WIDTHS = (48, 96, 160)
"""Channels at 32, 16 and 8 patches."""
STEPS = ".steps"
"""After a weight's name in a file: the size of a byte's step, for each output."""
SHIPPED = Path(__file__).parent / "tiny.safetensors"


class TinyBase(nn.Module):
    """Noisy pictures and their noise levels -> the clean pictures behind them."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, size: int = SIZE) -> None:
        super().__init__()
        self.widths, self.size = widths, size
        plain = len(widths) - 1
        self.unet = UNet2DModel(
            sample_size=size // PATCH,
            in_channels=3 * PATCH**2,
            out_channels=3 * PATCH**2,
            block_out_channels=widths,
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            attention_head_dim=32,
            norm_num_groups=16,
        )

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) at noise levels (N,) in 0 ... LEARNT - 1 -> the clean pictures, same shape."""
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(noisy, PATCH), time).sample, PATCH)


def noise_levels() -> Tensor:
    """(TIMES,) share of the clean picture's variance at each level, falling."""
    return DDPMScheduler(TIMES, beta_schedule="squaredcos_cap_v2").alphas_cumprod


def packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored: matrices and kernels in bytes, biases and norms in half precision."""
    made = dict[str, Tensor]()
    for name, value in weights.items():
        if value.ndim > 1:
            made[name], made[name + STEPS] = in_bytes(value, 1)
        else:
            made[name] = value.half()
    return made


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``packed`` was given, within its error."""
    return {
        name: from_bytes(value, stored[name + STEPS]) if value.dtype == torch.int8 else value.float()
        for name, value in stored.items()
        if not name.endswith(STEPS)
    }


def write_tiny(path: Path, base: TinyBase, about: dict[str, Any]) -> str:
    """Writes the weights, packed; ``about`` says where they come from. The file's SHA-256."""
    meta = {
        "format": "model",
        "version": 1,
        "architecture": {"name": "agile3d-diffusion-tiny", "widths": list(base.widths), "size": base.size},
        "about": about,
    }
    return write_file(path, meta, packed(base.state_dict()))


def read_tiny(path: Path = SHIPPED) -> TinyBase:
    """Reads what ``write_tiny`` wrote.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is something else.
    """
    if not path.is_file():
        raise MissingError(
            f"There is no tiny base at {path}; train it with `python -m agile3d_diffusion.train_base` (see the "
            "package's README) and copy its tiny.safetensors there, or name a large base in the settings."
        )
    card = read_card(path, "model")
    shape = card.meta.get("architecture", {})
    if shape.get("name") != "agile3d-diffusion-tiny":
        raise RefusedError(f"{path} is no tiny base of agile3d-diffusion; train one with agile3d_diffusion.train_base.")
    try:
        base = TinyBase(tuple(shape["widths"]), shape["size"])
        base.load_state_dict(unpacked(read_tensors(card)))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RefusedError(f"{path} does not fit the network that it names ({error}); copy it again.") from error
    return base.eval().requires_grad_(False)
