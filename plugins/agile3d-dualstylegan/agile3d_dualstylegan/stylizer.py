"""The stylizer: exemplars -> a learnt style; face -> codes of both paths -> the same face in the style.

Source: Yang et al., "Pastiche Master: Exemplar-Based High-Resolution Portrait Style Transfer" (CVPR 2022). Written from
the paper; the stages of the fit are in ``learn.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.flat import expected_style
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.dial import STRUCTURE
from agile3d_dualstylegan.enlarge import brought_to
from agile3d_dualstylegan.folder import FolderStyle, dial_of, fitting_exemplar, open_folder
from agile3d_dualstylegan.learn import LearntStyle, learn
from agile3d_dualstylegan.network import DualStyleGAN
from agile3d_dualstylegan.pairs import extrinsic, intrinsic, nearness
from agile3d_dualstylegan.strokes import at_dial

LEAST = 16
"""Edge of the smallest exemplar, pixels."""


class DualstyleganStylizer:
    """Redraws faces in the style of its exemplars; see ``agile3d_cli.stylizer.Stylizer`` for the contract."""

    def __init__(
        self, config: DualstyleganConfig | None = None, style: LearntStyle | FolderStyle | None = None
    ) -> None:  # fmt: skip
        self.config = config or DualstyleganConfig()
        self._take(style)

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the style; of a published folder only which exemplar's code is taken, where settings leave it open."""
        for one in exemplars:
            if one.ndim != 3 or one.shape[0] != 3 or one.shape[1] != one.shape[2] or one.shape[1] < LEAST:
                raise ConfigError(f"An exemplar is (3, S, S) with S of {LEAST} or more, not {tuple(one.shape)}.")
        if not exemplars:
            raise ConfigError("The dualstylegan stylizer was given no exemplars; give about 20 pictures of one style.")
        if self.config.exemplar > len(exemplars) and not self.config.folder:
            raise ConfigError(f"There are {len(exemplars)} exemplars; DualstyleganConfig.exemplar asks for more.")
        if not self.config.folder:
            self._take(learn(exemplars, faces, self.config, seed, progress))
            return
        progress("reading the published style", 0.0)
        style = open_folder(self.config)
        if self.config.choice == "nearest" and not self.config.exemplar:
            chosen = fitting_exemplar(style, exemplars)
            style = replace(style, code=style.published.codes[chosen], chosen=chosen)
        self._take(style)
        progress("done", 1.0)

    @torch.no_grad()
    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style; each picture on its own, on the CPU."""
        style, weights = self._fitted()
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ConfigError(f"stylize takes pictures (N, 3, S, S), not {tuple(images.shape)}.")
        size = images.shape[-2], images.shape[-1]
        drawn = [brought_to(self._one(style, weights, image[None].float().cpu()), size) for image in images]
        return torch.cat(drawn).clamp(-1, 1).to(images) if drawn else torch.zeros_like(images)

    def save(self, path: Path) -> None:
        """Writes the style; see ``state.py``."""
        from agile3d_dualstylegan.state import write_state

        write_state(path, self.config, self._fitted()[0])

    def _take(self, style: LearntStyle | FolderStyle | None) -> None:
        """Takes over a style, with the network as the settings' dial has it."""
        self._style = style
        self._weights: tuple[float, ...] = ()
        self._network: DualStyleGAN | None = None
        if isinstance(style, FolderStyle):
            self._weights = dial_of(self.config, style.published.generator.config.num_ws)
        elif style is not None:
            self._weights = dial_of(self.config, style.network.config.num_ws)
            self._network = at_dial(style.network, style.prior.generator, self._weights)

    def _fitted(self) -> tuple[LearntStyle | FolderStyle, tuple[float, ...]]:
        if self._style is None:
            raise ConfigError("The dualstylegan stylizer has learnt no style yet; call fit or load first.")
        return self._style, self._weights

    def _one(self, style: LearntStyle | FolderStyle, weights: tuple[float, ...], image: Tensor) -> Tensor:
        """A face (1, 3, S, S) in the style, at the generator's size."""
        if isinstance(style, FolderStyle):
            return style.draw(image, weights)
        assert self._network is not None
        codes, mapping = intrinsic(style.prior, image), style.prior.generator.mapping
        known, shares = self._asked(style, codes)
        drawn: Tensor = self._network(expected_style(mapping, codes), extrinsic(mapping, known, shares, codes), weights)
        share = sum(weights[STRUCTURE:]) / len(weights[STRUCTURE:])
        if not share:
            return drawn
        return style.contrast(brought_to(drawn.clamp(-1, 1), (2 * drawn.shape[-1], 2 * drawn.shape[-1])), share)

    def _asked(self, style: LearntStyle, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (E, num_ws, w_dim) of exemplars, and their shares (1, E) in a face with codes (1, num_ws, w_dim)."""
        known, count = style.extrinsic, len(style.extrinsic)
        if self.config.exemplar:
            return known, torch.eye(count)[self.config.exemplar - 1 : self.config.exemplar]
        if self.config.choice == "mean":
            return known, torch.full((1, count), 1 / count)
        if self.config.choice == "sampled":
            rng = torch.Generator().manual_seed(self.config.sample)
            return style.sampler.draw(1, rng), torch.ones(1, 1)
        return known, nearness(codes, style.intrinsic, style.favour)
