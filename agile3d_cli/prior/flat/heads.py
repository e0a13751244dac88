"""Synthetic heads -> pictures with codes: exact ones, at hand without drawing, in place of the base generator's own."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from agile3d_cli.prior.config import CLOSE
from agile3d_cli.prior.flat.code import flat_code
from agile3d_cli.prior.flat.config import FlatConfig
from agile3d_cli.prior.flat.teacher import Pool
from agile3d_cli.style.faces import BACKGROUND


def head_pool(folder: Path, size: int, config: FlatConfig, device: torch.device) -> Pool:
    """The close views of the shards in a folder, at most ``config.pictures``, brought to ``size``.

    The first heads come first, so the pictures held out show other people than the rest.
    """
    codes: list[Tensor] = []
    pictures: list[Tensor] = []
    for path in sorted(folder.glob("heads-*.safetensors")):
        if sum(map(len, codes)) >= config.pictures:
            break
        with safe_open(path, "pt") as shard:
            z, labels = shard.get_tensor("z"), shard.get_tensor("labels")[:, :CLOSE]
            pixels = shard.get_tensor("pixels")[:, :CLOSE].flatten(0, 1).permute(0, 3, 1, 2)
        codes.append(flat_code(z.repeat_interleave(CLOSE, 0), labels.flatten(0, 1), config.spread))
        pictures.append(_over_grey(pixels, size))
    if not codes:
        raise SystemExit(f"{folder} holds no heads-*.safetensors; make them with python -m agile3d_cli.prior.subjects.")
    return Pool(torch.cat(codes)[: config.pictures].to(device), torch.cat(pictures)[: config.pictures].to(device))


def _over_grey(pixels: Tensor, size: int) -> Tensor:
    """Colour and coverage (N, 4, H, H) uint8 as ``Pool.pictures``."""
    shown = pixels.float() / 255
    grey, alpha = (BACKGROUND + 1) / 2, shown[:, 3:]
    shown = torch.cat([shown[:, :3] * alpha + grey * (1 - alpha), alpha], 1)
    shown = F.interpolate(shown, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return (shown.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
