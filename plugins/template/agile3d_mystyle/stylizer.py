"""Exemplars -> where their colours lie; face -> the same face in those colours. No pixel moves, so the pose is kept.

Source: Pitie and Kokaram, The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer, 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.safefile import read_card, read_tensors, write_file
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_mystyle.config import MyStyleConfig

FACES = 32
"""Realistic faces whose colours are measured."""
FLOOR = 1e-4
"""Added to variances: one plain colour has none."""


class MyStyle:
    """Recolours faces; see ``agile3d_cli.stylizer.Stylizer`` for the contract."""

    def __init__(self, config: MyStyleConfig, mapping: Tensor | None = None) -> None:
        self.config = config
        # (3, 4): a new colour is the first three columns @ the old colour + the last column.
        self._mapping = mapping

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the colour map that takes realistic faces to the exemplars."""
        if not exemplars or any(picture.ndim != 3 or picture.shape[0] != 3 for picture in exemplars):
            raise ConfigError("The mystyle stylizer needs exemplars (3, S, S); give about 20 pictures of one style.")
        progress("looking at realistic faces", 0.0)
        mean, spread = _colours(list(faces.sample(FACES, torch.Generator().manual_seed(seed)).images))
        progress("comparing colours", 0.9)
        wanted_mean, wanted_spread = _colours(exemplars)
        root, back = _power(spread, 0.5), _power(spread, -0.5)
        turn = back @ _power(root @ wanted_spread @ root, 0.5) @ back
        self._mapping = torch.cat([turn, (wanted_mean - turn @ mean)[:, None]], 1).float()

    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style's colours."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ConfigError(f"stylize takes pictures (N, 3, H, W), not {tuple(images.shape)}.")
        mapping = self._fitted().to(images)
        styled = torch.einsum("dc,nchw->ndhw", mapping[:, :3], images) + mapping[:, 3, None, None]
        return images.lerp(styled, self.config.strength).clamp(-1, 1)

    def save(self, path: Path) -> None:
        """Writes settings and colour map."""
        meta = {"format": "stylizer", "version": 1, "stylizer": "mystyle", "config": asdict(self.config)}
        write_file(path, meta, {"mapping": self._fitted()})

    def _fitted(self) -> Tensor:
        if self._mapping is None:
            raise ConfigError("The mystyle stylizer has learnt no style yet; call fit or load first.")
        return self._mapping


def read_style(path: Path) -> MyStyle:
    """Reads what ``save`` wrote; RefusedError for anything else."""
    card = read_card(path, "stylizer")
    if card.meta.get("stylizer") != "mystyle" or card.shapes != {"mapping": (3, 4)}:
        raise RefusedError(f"{path} is not a file of the mystyle stylizer; fit it again.")
    try:
        return MyStyle(MyStyleConfig(**card.meta["config"]), read_tensors(card)["mapping"])
    except (KeyError, TypeError, ConfigError) as error:
        raise RefusedError(f"{path} holds settings that mystyle does not know ({error}); fit it again.") from error


def _colours(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (3,) and covariance (3, 3) of all pixels; each picture counts alike, whatever its size."""
    pixels = [picture.detach().cpu().double().flatten(1) for picture in pictures]
    mean = torch.stack([each.mean(1) for each in pixels]).mean(0)
    square = torch.stack([each @ each.T / each.shape[1] for each in pixels]).mean(0)
    return mean, square - mean[:, None] * mean + FLOOR * torch.eye(3)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.matmul(vectors * values.clamp(min=1e-12).pow(exponent), vectors.T)
