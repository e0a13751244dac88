"""Latent <-> portrait file: how a person is stored, and how the stored head comes back.

A portrait holds the w+ code, z's leading shape coordinates, the person's displacement and painted planes (half
precision), and usually the style itself, so it can be shown and exported without any other file but the base model.
"""

from __future__ import annotations

from pathlib import Path

import torch

from agile3d_cli.avatar.calm import calming
from agile3d_cli.avatar.invert import Latent
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.bundle import Portrait, StyleBundle, read_portrait
from agile3d_cli.errors import RefusedError
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.styled import StyleDifference, read_difference, stylized

Z, DISPLACEMENT, PAINT = "z", "displacement", "paint"


def personal_tensors(latent: Latent) -> dict[str, torch.Tensor]:
    """A latent's tensors besides its w+ code, as a portrait stores them."""
    tensors = {Z: latent.z[0].float()}
    if latent.displacement is not None:
        tensors[DISPLACEMENT] = latent.displacement[0].half()
    if latent.paint is not None:
        tensors[PAINT] = latent.paint[0].half()
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def read_latent(portrait: Portrait, base: BaseModel, path: Path) -> Latent:
    """The latent of a portrait, checked against the generator's sizes.

    Raises:
        RefusedError: tensors are missing, unknown or of a wrong shape.
    """
    config, grid = base.generator.config, base.generator.config.deformation.grid
    shapes = {
        Z: (config.z_dim,),
        DISPLACEMENT: (3, grid, grid, grid),
        PAINT: (3, config.plane_channels, config.plane_size, config.plane_size),
    }
    personal = dict(portrait.personal)
    wrong = [name for name, value in personal.items() if tuple(value.shape) != shapes.get(name)]
    if wrong or Z not in personal or tuple(portrait.latent.shape) != (config.num_ws, config.w_dim):
        named = ", ".join(wrong) or "its latent"
        raise RefusedError(f"{path} does not fit the generator {base.reference.name!r} ({named}); make it anew.")
    device = next(base.generator.parameters()).device
    parts = {name: value[None].float().to(device) for name, value in personal.items()}
    ws = portrait.latent[None].float().to(device)
    return Latent(parts[Z], ws, parts.get(DISPLACEMENT), parts.get(PAINT))


def build_head(
    latent: Latent, base: BaseModel, style: StyleDifference | None, identity: float, structure: float, color: float
) -> GeneratorHead:
    """The head of a latent in a style, at the three dials' strengths (each 0 to 1); no style is the plain head."""
    if style is None:
        return GeneratorHead(base.generator, latent.subject(base.generator))
    painter = stylized(base.generator, style, color)
    moved = None if style.displacement is None else structure * style.displacement[None].to(latent.ws)
    if style.calm and base.landmarks is not None:
        calm = structure * style.calm * calming(base, latent.moved(base.generator))
        moved = calm if moved is None else moved + calm
    subject = latent.subject(base.generator, painter, moved, identity, color)
    contour = style.contour and style.contour.faded(color)
    return GeneratorHead(base.generator, subject, contour, color * style.light)


def open_style(bundle: StyleBundle, base: BaseModel) -> StyleDifference:
    """A bundle's difference, if it belongs to this base model.

    Raises:
        RefusedError: it was learnt on another one.
    """
    if bundle.base.sha256 != base.reference.sha256:
        raise RefusedError(
            f"The style {bundle.name!r} was learnt on another version of {bundle.base.name!r}; "
            "learn it anew with `agile3d new-style`, or install the version it names."
        )
    return read_difference(bundle.tensors, base.generator, bundle.name)


def load_head(portrait: Path, device: torch.device) -> GeneratorHead:
    """The head of a portrait file, as it was made.

    Raises:
        MissingError: the base model is not installed.
        RefusedError: the file is damaged or belongs to another base model.
    """
    stored = read_portrait(portrait)
    base = load_base(stored.base.name, device)
    if stored.base.sha256 != base.reference.sha256:
        raise RefusedError(f"{portrait} was made with another version of {stored.base.name!r}; make it anew.")
    latent = read_latent(stored, base, portrait)
    style = None
    if stored.style is not None:
        if stored.style.bundle is None:
            raise RefusedError(f"{portrait} does not hold its style {stored.style.name!r}; make it anew.")
        style = open_style(stored.style.bundle, base)
    dials = (float(stored.settings.get(dial, 1.0)) for dial in ("identity", "structure", "color"))
    return build_head(latent, base, style, *dials)
