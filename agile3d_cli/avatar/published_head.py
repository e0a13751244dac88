"""Imported generator + styles -> a head's views at any size, made as its weights were trained to make them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.published import full_picture, published_subject, ray_picture


class PublishedHead:
    """One head of an imported generator. What its views share is made once, so keep it."""

    def __init__(self, generator: TriplaneGenerator, ws: Tensor):
        """A head of styles (1, num_ws, w_dim)."""
        self._subject, self._like = published_subject(generator, ws), ws

    @torch.no_grad()
    def render(self, labels: Tensor, size: int, background: float | None = 1.0) -> Rendering:
        """Views (N, 3, size, size) of labels (N, 25). ``background``, a grey in [-1, 1], shows where rays meet nothing,
        or with None the network's black or white; what was taught on whole photos has a background of its own."""
        views = [self._view(label[None].to(self._like), size, background) for label in labels]
        return Rendering(*(torch.cat(column) for column in zip(*views, strict=True)))

    def _view(self, label: Tensor, size: int, background: float | None) -> tuple[Tensor, Tensor, Tensor]:
        seen = ray_picture(self._subject, label, 0.5, None)
        image = full_picture(self._subject, seen.rendered) if self._subject.blocks else seen.rendered[:, :3]
        alpha, depth = sized(seen.seen, size).clamp(0, 1), sized(seen.held_depth, size)
        image = sized(image, size)
        if background is not None:
            empty = 1.0 if self._subject.config.published.white_back else -1.0
            image = image + (1 - alpha) * (background - empty)
        return image.clamp(-1, 1), alpha, depth


def sampled_styles(generator: TriplaneGenerator, z: Tensor, truncation: float) -> Tensor:
    """Styles (N, num_ws, w_dim) of latents (N, z_dim), for the camera in front: a head seen from other sides stays the
    same head."""
    front = camera.portrait_label()[None].to(z).expand(len(z), -1)
    return generator.mapping(z, front if generator.config.label_dim else None, truncation)


def sized(images: Tensor, size: int) -> Tensor:
    """Square images (N, C, S, S) at another size."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
