"""What fitting finds out, as one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agile3d_linear.blend import StyleLayers
from agile3d_linear.material import NO_MATERIAL, Material
from agile3d_linear.natural import NOT_NATURAL, Natural


@dataclass(frozen=True)
class LinearStyle:
    """A style in numbers: where its landmarks lie, what its features look like, which tones it uses."""

    average: np.ndarray
    """(468, 3) the realistic average face in the standard frame."""
    shift: np.ndarray
    """(468, 3) from the realistic average face to the style's."""
    layers: StyleLayers
    traits: np.ndarray
    """(2, 3) mean and standard deviation of the realistic faces' traits, see ``StyleLayers.traits``."""
    palette: np.ndarray
    """(2, 3) mean and standard deviation of the exemplars' pixels, Lab."""
    material: Material = NO_MATERIAL
    natural: Natural = NOT_NATURAL

    def rounded(self) -> LinearStyle:
        """As it comes back from its file."""
        layers = StyleLayers(
            skin_tones=self.layers.skin_tones.astype(np.float32),
            skins=self.layers.skins.astype(np.float16).astype(np.float32),
            patches=np.clip(np.round(self.layers.patches * 255), 0, 255).astype(np.float32) / np.float32(255),
            places=self.layers.places.astype(np.float32),
            shapes=self.layers.shapes.astype(np.float32),
            traits=self.layers.traits.astype(np.float32),
            trust=self.layers.trust.astype(np.float32),
            brightest=float(np.float32(self.layers.brightest)),
        )
        return LinearStyle(
            self.average.astype(np.float32),
            self.shift.astype(np.float32),
            layers,
            self.traits.astype(np.float32),
            self.palette.astype(np.float32),
            Material(
                float(np.float32(self.material.share)),
                self.material.curve.astype(np.float32),
                float(np.float32(self.material.hair)),
                (float(np.float32(self.material.skins[0])), float(np.float32(self.material.skins[1]))),
            ),
            Natural(
                float(np.float32(self.natural.share)),
                self.natural.curves.astype(np.float32),
                float(np.float32(self.natural.purity)),
            ),
        )
