"""Face -> rough collage: the face in the style's proportions with the features of the exemplar that is most like it.

That is what gets noisy and clean again; diffusion blends what was cut and pasted. A base that has seen nothing but
realistic heads would hardly come up with a style's eyes by itself, but it can redraw what it is shown.

In: exemplars and realistic faces, then a face. Out: the collage, and where exemplars show in it. To start from
what was roughly cut and pasted is one of the uses that Meng et al., SDEdit, 2022, describe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from agile3d_diffusion.layout import (
    CHEEKS,
    CHIN,
    FEATURES,
    LEFT_BROW,
    LEFT_EYE,
    LIP,
    REACH,
    RIGHT_BROW,
    RIGHT_EYE,
    SIDE,
    SOFT,
    around,
    bend,
    layout,
    seen_through,
)
from agile3d_diffusion.proportions import drawn_landmarks, in_style, landmarks_of, shift_between

CUTOUTS, SHIFT, CONTRAST = "cutouts", "shift", "contrast"
"""Names in a style's file."""
SKIN, BEARD, BROWS, EYES = 2.0, 6.0, 1.0, 2.0
"""Weights in the choice of an exemplar: of colours, and of whether an eye is open."""
CLOSED, OPEN = 0.3, 0.55
"""Contrast of closed and of open eyes over the usual one of the same crowd."""
TONE = 0.5
"""How far the skin goes towards the exemplar's, whose skin comes the rest of the way."""
LIKE = 0.5
"""Colours at this distance from the skin's hardly count as skin."""


class Cast:
    """The exemplars as collages need them."""

    def __init__(self, cutouts: Tensor, shift: Tensor, contrast: Tensor) -> None:
        """What ``of`` measured.

        Args:
            cutouts: (E, 3, SIDE, SIDE) uint8 exemplars in the layout.
            shift: (468, 3) what the style does to landmarks.
            contrast: (2,) usual contrast of eyes in realistic faces, and in exemplars.
        """
        self.state = {CUTOUTS: cutouts, SHIFT: shift, CONTRAST: contrast}
        cut = cutouts.float() / 127.5 - 1
        self._cut = torch.cat([cut, cut.flip(-1)])
        self._shift, self._contrast = shift.double().numpy(), contrast.float()
        self._looks = torch.stack([look(one, self._contrast[1]) for one in self._cut])

    @classmethod
    def of(cls, exemplars: Sequence[Tensor], real: Sequence[Tensor]) -> Cast | None:
        """From exemplars (3, S, S) and realistic faces in the style's colours; None where no faces are found."""
        drawn, seen = drawn_landmarks(exemplars), [landmarks_of(one) for one in real]
        known = [(one, points) for one, points in zip(real, seen, strict=True) if points is not None]
        if drawn is None or not known:
            return None
        cut = torch.stack([laid_out(one, points) for one, points in zip(exemplars, drawn, strict=True)])
        shift = shift_between(np.stack([points for _, points in known]), drawn)
        usual = [_usual_contrast(torch.stack([laid_out(one, points) for one, points in known])), _usual_contrast(cut)]
        return cls(
            ((cut + 1) * 127.5).round().to(torch.uint8), torch.from_numpy(shift).float(), torch.stack(usual).float()
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Cast:
        """What ``state`` was; ValueError where it is something else."""
        if state.keys() != {CUTOUTS, SHIFT, CONTRAST}:
            raise ValueError(f"it holds {', '.join(sorted(state))}")
        cutouts, shift, contrast = state[CUTOUTS], state[SHIFT], state[CONTRAST]
        fits = cutouts.ndim == 4 and len(cutouts) and cutouts.shape[1:] == (3, SIDE, SIDE)
        if not fits or cutouts.dtype != torch.uint8 or shift.shape != (468, 3) or contrast.shape != (2,):
            raise ValueError("they have other shapes")
        return cls(cutouts, shift, contrast)

    def collage(
        self, face: Tensor, landmarks: np.ndarray, shape: float = 1.0, features: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The collage (3, S, S) of a face (3, S, S) in [-1, 1], and where exemplars show in it, (1, S, S) in [0, 1].

        Args:
            face: in the style's colours.
            landmarks: (468, 3) its landmarks.
            shape: how far it takes on the style's proportions.
            features: how much of the exemplar's features is laid over it.
        """
        size, wanted = face.shape[-1], in_style(landmarks, shape * self._shift)
        bent = seen_through(bend(wanted, landmarks, size, held=True), face[None].float().cpu())[0]
        own = laid_out(bent, wanted)
        chosen = self._cut[int((self._looks - look(own, self._contrast[0])).norm(dim=1).argmin())]
        before, goal = skin_of(own)[:, None, None], skin_of(chosen)[:, None, None]
        tone = before + TONE * (goal - before)
        bent = bent + features * _likeness(bent, before) * (tone - before)
        chosen = chosen + _likeness(chosen, goal) * (tone - goal)
        both = torch.cat([chosen, around(FEATURES, REACH, SOFT)[None]])
        over = seen_through(bend(wanted, layout()[0], size, held=False), both[None], "zeros")[0]
        cover = features * over[3:].clamp(0, 1)
        return (bent + cover * (over[:3] - bent)).clamp(-1, 1).to(face), cover.to(face)


def laid_out(picture: Tensor, landmarks: np.ndarray) -> Tensor:
    """A picture (3, S, S) with its face in the layout, (3, SIDE, SIDE)."""
    return seen_through(bend(layout()[0], landmarks, SIDE, held=False), picture[None].float().cpu())[0]


def skin_of(cutout: Tensor) -> Tensor:
    """(3,) colour of the cheeks."""
    places = (layout()[0][list(CHEEKS)] * SIDE).astype(int)
    return cutout[:, places[:, 1], places[:, 0]].median(1).values


def look(cutout: Tensor, usual: Tensor) -> Tensor:
    """(14,) what makes one face like another: skin, beard, brows, and whether each eye is open."""
    skin = skin_of(cutout)
    beard = [_mean(cutout, around(part, 0.03, 0.02)) - skin for part in (LIP, CHIN)]
    brows = torch.stack([_mean(cutout, around(part, 0.01, 0.02)) for part in (LEFT_BROW, RIGHT_BROW)]).mean(0)
    opened = ((_contrasts(cutout) / usual - CLOSED) / (OPEN - CLOSED)).clamp(0, 1)
    return torch.cat([SKIN * skin, *(BEARD * one for one in beard), BROWS * brows, EYES * opened])


def _contrasts(cutout: Tensor) -> Tensor:
    """(2,) deviation of lightness in each eye."""
    light = cutout.mean(0)
    return torch.stack([light[around(eye, 0.03, 0.02) > 0.5].std() for eye in (LEFT_EYE, RIGHT_EYE)])


def _usual_contrast(cutouts: Tensor) -> Tensor:
    """() that of open eyes: some of a crowd may be closed."""
    return torch.stack([_contrasts(one) for one in cutouts]).quantile(0.75).clamp(min=1e-3)


def _mean(cutout: Tensor, weight: Tensor) -> Tensor:
    return (cutout * weight).sum((1, 2)) / weight.sum()


def _likeness(picture: Tensor, skin: Tensor) -> Tensor:
    """(1, S, S) how much each pixel looks like skin."""
    return (-(picture - skin).square().sum(0, keepdim=True) / LIKE**2).exp()
