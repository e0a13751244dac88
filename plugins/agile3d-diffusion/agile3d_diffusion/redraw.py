"""Face + tiny base with a style's LoRA -> the same face in the style, step by step from noisy to clean.

At each noise level two predictions are made from the same noise: what the base sees in the noisy face, and what the
style sees in the noisy drawing. The drawing moves towards the style's, and takes along the part of the face that the
base could not explain. So the head stays where it is, and what a small base cannot draw is not lost. What is in the
style already can be held, at every level anew, so that the rest is drawn to go with it.

Sources: Meng et al., SDEdit, 2022 (``keep`` 0); Kulikov et al., FlowEdit: inversion-free text-based editing, 2024
(``keep`` 1); Avrahami et al., Blended diffusion, 2022 (``held``). Noise levels are counted as standard deviations over
a clean picture, as in Karras et al., 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_diffusion.adapter import switched_off
from agile3d_diffusion.tiny import LEARNT, TinyBase, noise_levels

SEED = 7
"""Of the noise, which is the same for every picture, so that a picture's drawing depends on nothing else."""


def levels_of(strength: float, steps: int) -> list[int]:
    """Falling noise levels, from ``strength`` (0 ... 1) of those that the base knows down to almost clean."""
    highest = max(1, round(strength * (LEARNT - 1)))
    return [round(highest * (steps - step) / steps) for step in range(steps)]


@torch.no_grad()
def redraw(
    base: TinyBase, faces: Tensor, strength: float, steps: int, keep: float, held: Tensor | None = None
) -> Tensor:
    """Faces (N, 3, S, S) in [-1, 1] in the style of the LoRA that ``base`` carries.

    Args:
        base: at its size S.
        faces: what is redrawn.
        strength: how noisy the beginning is, above 0, up to 1.
        steps: how many levels.
        keep: share of what the base does not explain of the face that goes into the drawing, 0 ... 1.
        held: (N, 1, S, S) how far each pixel stays as it is, 0 ... 1; none does if left out.
    """
    rng = torch.Generator().manual_seed(SEED)
    shares, drawing = noise_levels().double(), faces
    levels = levels_of(strength, steps)
    spread = [float((1 / shares[level] - 1).sqrt()) for level in levels] + [0.0]
    for number, level in enumerate(levels):
        noise = torch.randn(1, *faces.shape[1:], generator=rng).to(faces)
        scale, time = float(shares[level].sqrt()), torch.full((len(faces),), level, device=faces.device)
        with switched_off(base):
            plain = base(scale * (faces + spread[number] * noise), time)
        styled = base(scale * (drawing + spread[number] * noise), time)
        wanted = styled + keep * (faces - plain)
        if held is not None:
            wanted = wanted.lerp(faces, held)
        drawing = wanted + spread[number + 1] / spread[number] * (drawing - wanted)
    return drawing.clamp(-1, 1)
