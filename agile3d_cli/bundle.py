"""The three files of the project: style bundles, portraits and models, in memory and on disk.

The two flows meet only here: `new-style` writes a style bundle, `apply` reads it and writes a portrait. The container
and its checks are in ``safefile.py``; this file says which tensors and which facts each format holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.licenses import LicenseNote, read_notes
from agile3d_cli.safefile import Card, read_card, read_tensors, write_file

if TYPE_CHECKING:
    from torch import Tensor

NAME = r"[a-z0-9][a-z0-9_-]{0,39}"
"""What a style or model may be called; it is also its file name."""


@dataclass(frozen=True)
class BaseReference:
    """The generator that a style or a portrait belongs to."""

    name: str
    sha256: str
    """Hash of the model file."""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """All fields of the generator's config."""


@dataclass(frozen=True)
class StyleBundle:
    """A learnt style: the difference of the stylized generator from its base, and how it came about."""

    name: str
    base: BaseReference
    tensors: Mapping[str, Tensor]
    """The difference: low rank or sparse, half precision."""
    preview: Tensor | None = None
    """(H, W, 3) uint8."""
    summary: str = ""
    license: str = "unknown"
    """Terms of the style itself, SPDX."""
    author: str = ""
    created: str = ""
    """Day, as 2026-01-31."""
    stylizer: Mapping[str, Any] = field(default_factory=dict)
    """``name``, ``version``, ``config`` of the plugin."""
    exemplars: tuple[Mapping[str, Any], ...] = ()
    """``sha256`` and ``size`` [w, h] of each."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """``seed``, ``preset``, ``steps``, ``config``."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    licenses: tuple[LicenseNote, ...] = ()
    """Terms of everything that went in."""

    def __post_init__(self) -> None:
        _check_name("style", self.name)
        _check_preview(self.preview)


@dataclass(frozen=True)
class StyleReference:
    """The style of a portrait: by name and hash, and usually with the style itself inside."""

    name: str
    sha256: str
    """Hash of the style file; empty for a style that was never written to one."""
    bundle: StyleBundle | None = None
    """The style, so that the portrait can be shown without the style file."""


@dataclass(frozen=True)
class Portrait:
    """One person in one style: everything that rendering and export need besides the base generator."""

    latent: Tensor
    """w+ code, (L, W)."""
    camera: Tensor
    """(25,) label of the photo's camera."""
    base: BaseReference
    style: StyleReference | None = None
    """None for the unstylized reconstruction."""
    personal: Mapping[str, Tensor] = field(default_factory=dict)
    """Weight differences that belong to this person alone."""
    thumbnail: Tensor | None = None
    """(H, W, 3) uint8 crop of the photo."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings it was made with."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    licenses: tuple[LicenseNote, ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.camera.shape) != (25,):
            raise ConfigError(f"A portrait's camera has 25 numbers, not the shape {tuple(self.camera.shape)}.")
        _check_preview(self.thumbnail)


@dataclass(frozen=True)
class Model:
    """A network on disk with its card."""

    name: str
    architecture: Mapping[str, Any]
    """``kind`` and all config fields, plane axes included."""
    tensors: Mapping[str, Tensor]
    summary: str = ""
    license: str = "unknown"
    origin: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training recipe or conversion record."""
    licenses: tuple[LicenseNote, ...] = ()
    sha256: str = ""
    """Hash of the file it was read from; empty for one that is not written yet."""

    def __post_init__(self) -> None:
        _check_name("model", self.name)

    @property
    def reference(self) -> BaseReference:
        """How styles and portraits refer to this model."""
        return BaseReference(self.name, self.sha256, self.architecture)


def write_style(path: Path, style: StyleBundle) -> str:
    """Writes a style bundle; returns the file's SHA-256."""
    return write_file(path, _style_meta(style), _style_tensors(style))


def read_style(path: Path) -> StyleBundle:
    """Reads a style bundle. Raises MissingError or RefusedError."""
    card = read_card(path, "style")
    return _style(card, card.meta, read_tensors(card))


def write_portrait(path: Path, portrait: Portrait) -> str:
    """Writes a portrait; returns the file's SHA-256."""
    tensors = {"latent": portrait.latent, "camera": portrait.camera}
    if portrait.thumbnail is not None:
        tensors["thumbnail"] = portrait.thumbnail
    tensors |= {f"personal.{name}": tensor for name, tensor in portrait.personal.items()}
    style: dict[str, Any] | None = None
    if portrait.style is not None:
        style = {"name": portrait.style.name, "sha256": portrait.style.sha256, "embedded": None}
        if portrait.style.bundle is not None:
            style["embedded"] = _style_meta(portrait.style.bundle)
            tensors |= {f"style.{name}": value for name, value in _style_tensors(portrait.style.bundle).items()}
    meta = {"format": "portrait", "version": 1, "base": asdict(portrait.base), "style": style}
    meta |= {"settings": portrait.settings, "scores": portrait.scores, "licenses": _notes(portrait.licenses)}
    return write_file(path, meta, tensors)


def read_portrait(path: Path) -> Portrait:
    """Reads a portrait. Raises MissingError or RefusedError."""
    card = read_card(path, "portrait")
    tensors = read_tensors(card)
    meta = card.meta
    for name in ("latent", "camera"):
        if name not in tensors:
            raise RefusedError(f"{path} is damaged: the portrait has no {name}.")
    style = None
    if meta.get("style") is not None:
        entry = _table(card, meta, "style")
        embedded = entry.get("embedded")
        bundle = None if embedded is None else _style(card, _table(card, entry, "embedded"), _below(tensors, "style."))
        style = StyleReference(_text(card, entry, "name"), _text(card, entry, "sha256"), bundle)
    return _built(
        card,
        lambda: Portrait(
            latent=tensors["latent"],
            camera=tensors["camera"],
            base=_base(card, meta),
            style=style,
            personal=_below(tensors, "personal."),
            thumbnail=tensors.get("thumbnail"),
            settings=_table(card, meta, "settings"),
            scores=_table(card, meta, "scores"),
            licenses=_read_licenses(card, meta),
        ),
    )


def write_model(path: Path, model: Model) -> str:
    """Writes a model; returns the file's SHA-256."""
    meta = {"format": "model", "version": 1, "name": model.name, "architecture": model.architecture}
    meta |= {"summary": model.summary, "license": model.license, "origin": model.origin}
    meta |= {"training": model.training, "licenses": _notes(model.licenses)}
    return write_file(path, meta, model.tensors)


def read_model(path: Path) -> Model:
    """Reads a model. Raises MissingError or RefusedError."""
    card = read_card(path, "model")
    meta = card.meta
    return _built(
        card,
        lambda: Model(
            name=_text(card, meta, "name"),
            architecture=_table(card, meta, "architecture"),
            tensors=read_tensors(card),
            summary=_text(card, meta, "summary", ""),
            license=_text(card, meta, "license", "unknown"),
            origin=_text(card, meta, "origin", ""),
            training=_table(card, meta, "training"),
            licenses=_read_licenses(card, meta),
            sha256=card.sha256,
        ),
    )


def _style_meta(style: StyleBundle) -> dict[str, Any]:
    meta = {"format": "style", "version": 1, "name": style.name, "summary": style.summary, "license": style.license}
    meta |= {"author": style.author, "created": style.created, "base": asdict(style.base)}
    meta |= {"stylizer": style.stylizer, "exemplars": list(style.exemplars), "training": style.training}
    return meta | {"scores": style.scores, "licenses": _notes(style.licenses)}


def _style_tensors(style: StyleBundle) -> dict[str, Tensor]:
    if "preview" in style.tensors:
        raise ConfigError("A style's tensors hold one called 'preview'; that name is taken by its picture.")
    return {**style.tensors, **({} if style.preview is None else {"preview": style.preview})}


def _style(card: Card, meta: Mapping[str, Any], tensors: dict[str, Tensor]) -> StyleBundle:
    exemplars = meta.get("exemplars", [])
    if not isinstance(exemplars, list) or not all(isinstance(item, dict) for item in exemplars):
        raise RefusedError(f"{card.path} is damaged: 'exemplars' is not a list of tables.")
    return _built(
        card,
        lambda: StyleBundle(
            name=_text(card, meta, "name"),
            base=_base(card, meta),
            tensors={name: tensor for name, tensor in tensors.items() if name != "preview"},
            preview=tensors.get("preview"),
            summary=_text(card, meta, "summary", ""),
            license=_text(card, meta, "license", "unknown"),
            author=_text(card, meta, "author", ""),
            created=_text(card, meta, "created", ""),
            stylizer=_table(card, meta, "stylizer"),
            exemplars=tuple(exemplars),
            training=_table(card, meta, "training"),
            scores=_table(card, meta, "scores"),
            licenses=_read_licenses(card, meta),
        ),
    )


def _built(card: Card, make: Any) -> Any:
    """What ``make`` returns; a value that the dataclass refuses is the file's fault here."""
    try:
        return make()
    except ConfigError as error:
        raise RefusedError(f"{card.path} is damaged: {error}") from error


def _base(card: Card, meta: Mapping[str, Any]) -> BaseReference:
    base = _table(card, meta, "base", required=True)
    return BaseReference(_text(card, base, "name"), _text(card, base, "sha256"), _table(card, base, "architecture"))


def _table(card: Card, meta: Mapping[str, Any], key: str, required: bool = False) -> dict[str, Any]:
    value = meta.get(key) if required else meta.get(key, {})
    if not isinstance(value, dict):
        raise RefusedError(f"{card.path} is damaged: {key!r} is not a table in its metadata.")
    return value


def _text(card: Card, meta: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = meta.get(key, default)
    if not isinstance(value, str):
        raise RefusedError(f"{card.path} is damaged: {key!r} is not a text in its metadata.")
    return value


def _notes(notes: tuple[LicenseNote, ...]) -> list[dict[str, Any]]:
    return [note.as_json() for note in notes]


def _read_licenses(card: Card, meta: Mapping[str, Any]) -> tuple[LicenseNote, ...]:
    notes = meta.get("licenses", [])
    if not isinstance(notes, list) or not all(isinstance(note, dict) for note in notes):
        raise RefusedError(f"{card.path} is damaged: 'licenses' is not a list of tables.")
    return read_notes(notes)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"The {kind} name {name!r} is not allowed; use lower-case letters, digits, dashes and underscores."
        )


def _check_preview(picture: Tensor | None) -> None:
    if picture is not None and (picture.ndim != 3 or picture.shape[2] != 3 or str(picture.dtype) != "torch.uint8"):
        raise ConfigError(f"A picture in a file is (H, W, 3) uint8, not {picture.dtype} {tuple(picture.shape)}.")
