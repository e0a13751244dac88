"""A fitted style as a safetensors file and back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from agile3d_cli.errors import Agile3dError, RefusedError
from agile3d_cli.safefile import read_card, read_tensors, write_file
from agile3d_linear.blend import StyleLayers
from agile3d_linear.config import LinearConfig
from agile3d_linear.material import KNOTS, Material
from agile3d_linear.model import LinearStyle
from agile3d_linear.natural import STEPS, Natural

FORMAT, STYLIZER, VERSION = "stylizer", "linear", 5


def write_state(path: Path, config: LinearConfig, style: LinearStyle) -> None:
    """Writes a style; the tensor ``shape_shift`` is the displacement of ``LinearStylizer.shape_shift``."""
    layers = style.layers
    tensors = {
        "average": torch.from_numpy(style.average).float(),
        "shape_shift": torch.from_numpy(style.shift).float(),
        "face_traits": torch.from_numpy(style.traits).float(),
        "palette": torch.from_numpy(style.palette).float(),
        "skin_tones": torch.from_numpy(layers.skin_tones).float(),
        "skins": torch.from_numpy(layers.skins).half(),
        "patches": torch.from_numpy(layers.patches * 255).round().to(torch.uint8),
        "places": torch.from_numpy(layers.places).float(),
        "exemplar_shapes": torch.from_numpy(layers.shapes).float(),
        "exemplar_traits": torch.from_numpy(layers.traits).float(),
        "trust": torch.from_numpy(layers.trust).float(),
        "brightest": torch.tensor([layers.brightest]).float(),
        "material": torch.from_numpy(style.material.curve).float(),
        "material_share": torch.tensor([style.material.share, style.material.hair, *style.material.skins]).float(),
        "natural": torch.from_numpy(style.natural.curves).float(),
        "natural_share": torch.tensor([style.natural.share, style.natural.purity]).float(),
    }
    meta = {"format": FORMAT, "version": VERSION, "stylizer": STYLIZER, "config": asdict(config)}
    write_file(Path(path), meta, tensors)


def read_state(path: Path) -> tuple[LinearConfig, LinearStyle]:
    """Reads what ``write_state`` wrote.

    Raises:
        RefusedError: the file is damaged or another stylizer's.
    """
    card = read_card(Path(path), FORMAT, (VERSION,))
    if card.meta.get("stylizer") != STYLIZER:
        raise RefusedError(f"{path} belongs to the stylizer {card.meta.get('stylizer')!r}, not to {STYLIZER!r}.")
    tensors = read_tensors(card)
    try:
        values = {name: np.ascontiguousarray(tensor.float().numpy()) for name, tensor in tensors.items()}
        layers = StyleLayers(
            skin_tones=values.pop("skin_tones"),
            skins=values.pop("skins"),
            patches=values.pop("patches") / np.float32(255),
            places=values.pop("places"),
            shapes=values.pop("exemplar_shapes"),
            traits=values.pop("exemplar_traits"),
            trust=values.pop("trust"),
            brightest=float(values.pop("brightest")[0]),
        )
        share, hair, *skins = values.pop("material_share").tolist()
        natural, purity = values.pop("natural_share")
        style = LinearStyle(
            average=values.pop("average"),
            shift=values.pop("shape_shift"),
            layers=layers,
            traits=values.pop("face_traits"),
            palette=values.pop("palette"),
            material=Material(share, values.pop("material"), hair, (skins[0], skins[1])),
            natural=Natural(float(natural), values.pop("natural"), float(purity)),
        )
        config = LinearConfig(**card.meta["config"])
    except (KeyError, TypeError, ValueError, Agile3dError) as error:
        raise RefusedError(f"{path} is not a complete linear style ({error}); fit it again.") from error
    shapes = style.average.shape, style.shift.shape, style.material.curve.shape, style.natural.curves.shape
    if values or shapes != ((468, 3), (468, 3), (KNOTS, 3), (2, len(STEPS))):
        raise RefusedError(f"{path} holds other tensors than a linear style ({', '.join(values)}); fit it again.")
    return config, style
