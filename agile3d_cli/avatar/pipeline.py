"""photo + style -> portrait: the stages of the flow, called in order, nothing else.

Source: AgileGAN3D (arXiv 2303.14297): align, invert, decode with the stylized generator, render.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from agile3d_cli.avatar.config import ApplyConfig, InvertConfig, ViewsConfig
from agile3d_cli.avatar.invert import Latent, invert
from agile3d_cli.avatar.latents import build_head, load_head, open_style, personal_tensors
from agile3d_cli.avatar.measure import measure
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.avatar.report import Report, report_facts, write_report
from agile3d_cli.avatar.views import can_write_mp4, front_view, save_turntable, sheet_views, turntable
from agile3d_cli.bundle import Portrait, StyleBundle, StyleReference, read_style, write_portrait
from agile3d_cli.device import choose_device
from agile3d_cli.errors import OutputError
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import save_png, to_array
from agile3d_cli.licenses import join_notes
from agile3d_cli.models.checkpoints import BaseModel, for_portraits, load_base
from agile3d_cli.registry import find_file
from agile3d_cli.safefile import file_sha256
from agile3d_cli.scores import Scores

__all__ = ["AvatarResult", "load_head", "make_avatar"]

Progress = Callable[[str, float], None]
DEFAULT_BASE = "mini"
SHEET_SIZE = 256
THUMBNAIL = 128


@dataclass(frozen=True)
class AvatarResult:
    """The files of one portrait and what is known of it."""

    photo: Path
    portrait: Path
    front: Path
    views: list[Path]
    turntable: Path
    report: Path
    camera: Mapping[str, Any]
    """``label`` (25 numbers), ``yaw_deg``, ``pitch_deg``, ``roll_deg``."""
    scores: Mapping[str, Any]
    seconds: Mapping[str, float]
    """Time of each stage."""
    notes: list[str]


def make_avatar(photo: Path, output: Path, config: ApplyConfig, progress: Progress) -> AvatarResult:
    """Turns one photo into a portrait in ``output``.

    Raises:
        PhotoError, NoFaceError: the photo cannot be used.
        MissingError, RefusedError: the style or the generator cannot be used.
        OutputError: the folder cannot be written.
    """
    seconds: dict[str, float] = {}
    torch.manual_seed(config.seed)
    with _stage("models", seconds):
        device = choose_device(config.device)
        bundle, style_hash = _read_style(config.style)
        base = for_portraits(load_base(DEFAULT_BASE if bundle is None else bundle.base.name, device))
        style = None if bundle is None else open_style(bundle, base)
    with _stage("face", seconds):
        face_config = FaceConfig(estimator=config.pose, template=base.framing)
        face, notes = load_face(photo, face_config, config.face)
    _make_folder(output)
    with _stage("inversion", seconds):
        settings = InvertConfig(paint_steps=config.refine, seed=config.seed)
        latent = invert(face, base, settings, face_config.wide, lambda share: progress("likeness", share))
    with _stage("head", seconds):
        head = build_head(latent, base, style, config.identity, config.structure, config.color)
        plain = head if style is None else build_head(latent, base, None, 1, 1, 1)
    with _stage("views", seconds):
        pictures = _write_pictures(head, face, output, config, progress)
    with _stage("scores", seconds):
        measured = measure(head, plain, face)
    portrait = output / "portrait.safetensors"
    _write_portrait(portrait, latent, face, base, bundle, style_hash, config, measured)
    report = Report(
        photo=photo.name,
        style=None if bundle is None else bundle.name,
        label=face.label,
        scores=measured,
        seconds=seconds,
        licenses=join_notes(base.licenses, () if bundle is None else bundle.licenses),
        pictures=pictures,
        settings=asdict(config),
        notes=tuple(notes),
    )
    written = write_report(output, report)
    facts = report_facts(report)
    facts["camera"]["roll_deg"] = round(face.roll, 3)
    return AvatarResult(
        photo=photo,
        portrait=portrait,
        front=pictures["Front"],
        views=[path for caption, path in pictures.items() if caption.startswith("View")],
        turntable=pictures["Turntable"],
        report=written,
        camera=facts["camera"],
        scores=facts["scores"],
        seconds=facts["seconds"],
        notes=notes,
    )


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _read_style(name: str) -> tuple[StyleBundle | None, str]:
    if name == "none":
        return None, ""
    path = find_file(name, "style")
    return read_style(path), file_sha256(path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}); choose another --output.") from error


def _write_pictures(
    head: GeneratorHead, face: AlignedFace, output: Path, config: ApplyConfig, progress: Progress
) -> dict[str, Path]:
    """Front view, the five views and the sheet they make, turntable; captions and files."""
    import numpy as np

    views = ViewsConfig()
    front = save_png(output / "front.png", front_view(head, face.label, config.size))
    progress("views", 0.1)
    singles = sheet_views(head, SHEET_SIZE, views, lambda share: progress("views", 0.1 + 0.2 * share))
    sheet = save_png(output / "views.png", np.concatenate(singles, axis=1))
    files = {"Front": front, "Sheet": sheet}
    for yaw, picture in zip(views.sheet_yaws, singles, strict=True):
        side = "front" if yaw == 0 else f"{'left' if yaw > 0 else 'right'}{abs(yaw):.0f}"
        files[f"View {yaw:+.0f}°"] = save_png(output / f"view-{side}.png", picture)
    frames = turntable(head, views, lambda share: progress("views", 0.3 + 0.7 * share))
    files["Turntable"] = save_turntable(output / "turntable.webp", frames, views.fps)
    if can_write_mp4():
        save_turntable(output / "turntable.mp4", frames, views.fps)
    return files


def _write_portrait(
    path: Path,
    latent: Latent,
    face: AlignedFace,
    base: BaseModel,
    bundle: StyleBundle | None,
    style_hash: str,
    config: ApplyConfig,
    measured: Scores,
) -> None:
    small = F.interpolate(face.image[None], (THUMBNAIL, THUMBNAIL), mode="area")[0]
    reference = None if bundle is None else StyleReference(bundle.name, style_hash, replace(bundle, preview=None))
    write_portrait(
        path,
        Portrait(
            latent=latent.ws[0].detach().cpu().contiguous(),
            camera=face.label.cpu(),
            base=base.reference,
            style=reference,
            personal=personal_tensors(latent),
            thumbnail=torch.from_numpy(to_array(small)),
            settings=asdict(config),
            scores=measured.as_json(),
            licenses=join_notes(base.licenses, () if bundle is None else bundle.licenses),
        ),
    )
