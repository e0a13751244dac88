"""Guide of a head -> how bright a style's light makes its places: more where the surface faces the light, less where
matter is close all around.

Material such as clay shows by how light models it. That light stands still before the head, so it is part of a place's
colour: views agree, and meshes have it too.
Crowdedness for occlusion: as volumes blurred widely tell it, e.g. Luft et al., "Image enhancement by unsharp masking
the depth buffer", SIGGRAPH 2006, which does so in the picture.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

TOWARDS = np.array([-0.45, 0.65, 0.62])
"""Where the light comes from: above, in front, and from the viewer's left, as portraits are mostly lit."""
MATTER = 8.0
"""Density from which on a node is full of matter."""
SMOOTH, AGAIN, WIDE = 1.3, 1.0, 3.5
"""Nodes by which matter is blurred before its slope is taken, by which the slope is, and before it tells crowds."""
FACING, CROWDED = 0.55, 0.45
"""Cosine to the light, and share of matter around, of a usual place on a face, which stays as bright as it is."""
DEEP = 1.6
"""How much matter around counts beside the cosine."""


class Relief:
    """How the surfaces of one head lie, from its guide: density (1, 1, G, G, G), [z, y, x]."""

    def __init__(self, guide: Tensor, box: float):
        """``box`` is the half-width of the cube that the guide fills, world units."""
        matter = (guide[0, 0] / MATTER).clamp(max=1).cpu().numpy()
        inwards = np.stack(np.gradient(gaussian_filter(matter, SMOOTH))[::-1])
        outwards = -inwards / (np.linalg.norm(inwards, axis=0) + 1e-6)
        towards = TOWARDS / np.linalg.norm(TOWARDS)
        facing = gaussian_filter(np.tensordot(towards, outwards, 1), AGAIN)
        bright = facing - FACING - DEEP * (gaussian_filter(matter, WIDE) - CROWDED)
        self._bright, self._box = torch.from_numpy(bright)[None, None].to(guide), box

    def __call__(self, points: Tensor) -> Tensor:
        """The logarithm (P,) of brightness at world points (P, 3) in a light of strength 1; 0 at usual places."""
        places = (points / self._box).to(self._bright)[None, :, None, None]
        return F.grid_sample(self._bright, places, padding_mode="border", align_corners=True)[0, 0, :, 0, 0]
