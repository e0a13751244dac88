"""Which branch of the generator draws a face: by an attribute that the code names.

Source: Song et al., "AgileGAN" (SIGGRAPH 2021), section 5, where a classifier of the photo chooses. Here the prior's
codes have named coordinates. Drawings read differently from photos, so each side is divided in its own middle.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from agile3d_agilegan.config import ATTRIBUTES, AgileganConfig


@dataclass(frozen=True)
class Division:
    """How faces and exemplars are divided."""

    coordinate: int
    """Of the code."""
    middle: float
    """Faces above it take branch 1, others branch 0."""
    count: int
    """Branches: 1 or 2."""

    def branch_of(self, codes: Tensor) -> Tensor:
        """Branch (N,) of faces' codes (N, groups, w_dim)."""
        if self.count == 1:
            return (codes[:, 0, 0] * 0).long()
        return (attribute_of(codes, self.coordinate) > self.middle).long()


def attribute_of(codes: Tensor, coordinate: int) -> Tensor:
    """(N,) one coordinate of codes (N, groups, w_dim), mean over groups."""
    return codes[:, :, coordinate].mean(1)


def divide(exemplars: Tensor, faces: Tensor, config: AgileganConfig) -> tuple[Division, Tensor]:
    """Divides the codes of exemplars (M, groups, w_dim) and of realistic faces (K, groups, w_dim).

    Returns:
        The division, and the branch (M,) of each exemplar.
    """
    one = Division(0, 0.0, 1), exemplars.new_zeros(len(exemplars)).long()
    if not config.attribute:
        return one
    coordinate = ATTRIBUTES.index(config.attribute)
    known, real = attribute_of(exemplars, coordinate), attribute_of(faces, coordinate)
    upper = known > known.median()
    if min(int(upper.sum()), int((~upper).sum())) < config.fewest:
        return one
    if float(known[upper].mean() - known[~upper].mean()) < config.apart * float(real.std()):
        return one
    return Division(coordinate, float(real.median()), 2), upper.long()
