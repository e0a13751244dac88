"""The gates of the embedded generator: held-out heads, random heads, and how long a view takes.

    python -m benchmarks.mini --kit HEAD_KIT [--subjects 64] [--heads 100]

``held_out``: synthetic heads that were never trained on, rendered from their known latents and compared with the exact
pictures. All figures are taken in the head's box (what is above the chin in the exact picture) on middle grey.
``random``: what our own face detector and identity network say of random latents. ``views``: wall-clock seconds.
Prints one JSON document and writes sheets into ``--out``. Likeness to photos is measured by ``benchmarks.gallery``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from skimage.measure import marching_cubes
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.likeness import fit_shape, landmarks_of
from agile3d_cli.avatar.measure import embedding
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import build_masks
from agile3d_cli.heads.subject import Subject, View
from agile3d_cli.heads.template import build_template
from agile3d_cli.image import save_png, to_array
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.encoder import agreed
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.prior.subjects import latent

FIRST = 1_000_000
"""Number of the first held-out subject; training counts from 0."""
SIZE, FINER = 128, 2
WIDE = camera.FOCAL * 0.62
CHIN = -0.27
"""Height of the lower end of the head's box, world units."""
FACE = (0.14, -0.18, 0.2, 0.08)
"""Half-width, lowest, highest, least z of the face, world units: where depth is compared."""
MARGIN = 3
"""Rays at least so many pixels away from the exact outline count as empty."""
SIDES = (-0.5236, 0.0, 0.5236)
GRID, LEVEL = 96, 10.0


@dataclass(frozen=True)
class UnseenHead:
    """A synthetic head that was never trained on, and its exact pictures, ``FINER`` times as fine as compared."""

    z: np.ndarray
    labels: Tensor
    """(3, 25): two portraits and a view from aside."""
    subject: Subject
    views: list[View]


class Heads:
    """Maker of synthetic heads."""

    def __init__(self, kit_folder: Path):
        self._template, self._kit = build_template(), Kit(kit_folder)
        self._masks = build_masks(self._template, self._kit)

    def subject(self, number: int) -> Subject:
        """The head of a number."""
        return Subject(latent(number), self._template, self._kit, self._masks)

    def unseen(self, count: int) -> Iterator[UnseenHead]:
        """The heads that generators are compared on."""
        for k in range(count):
            rng = np.random.default_rng([5, k])
            yaws = [*rng.normal(0, 0.25, 2), rng.choice([-1, 1]) * rng.uniform(0.6, 1.4)]
            labels = torch.stack([camera.portrait_label(yaw, rng.normal(0, 0.1), WIDE) for yaw in yaws])
            subject = self.subject(FIRST + k)
            views = [subject.render(label, SIZE * FINER) for label in labels]
            yield UnseenHead(latent(FIRST + k), labels, subject, views)


def held_out(base: BaseModel, heads: Heads, subjects: int, out: Path) -> dict[str, object]:
    """Compares renderings with the exact pictures of unseen subjects: from the known latent, and from the encoder's."""
    generator = base.generator
    rows, cells, encoded = [], [], []
    for k, unseen in enumerate(heads.unseen(subjects)):
        z, labels, exact = unseen.z, unseen.labels, unseen.views
        head = GeneratorHead(generator, generator.from_latent(torch.from_numpy(z).float()[None]))
        made = head.render(labels, SIZE, 0.0)
        if base.encoder is not None:
            guessed = GeneratorHead(generator, generator.from_latent(_encoded(base, unseen.subject, z, labels[0])))
            again = guessed.render(labels[:1], SIZE, 0.0)
            row = compare(exact[0], again.image[0], again.alpha[0, 0], again.depth[0, 0], labels[0])
            encoded.append(row["psnr"])
        for v, (label, view) in enumerate(zip(labels, exact, strict=True)):
            row = compare(view, made.image[v], made.alpha[v, 0], made.depth[v, 0], label)
            rows.append(row | {"front": v < 2})
        cell = _pair(exact[0], made.image[0])
        if base.encoder is not None:
            cell = np.concatenate([cell, to_array(again.image[0])], 1)
        cells.append((rows[-3]["psnr"], cell))
        if k < 16:
            rows[-1]["connected"] = _connected(head)
    save_png(out / "mini-held-out.png", _grid([cell for _, cell in cells[:24]], 4))
    worst = sorted(range(subjects), key=lambda k: cells[k][0])[:20]
    save_png(out / "mini-worst.png", _grid([cells[k][1] for k in worst], 4))
    named = {"psnr": "mean", "psnr_face": "mean", "iou": "mean", "face_depth": "median", "empty_opacity": "mean"}
    result: dict[str, object] = {}
    for name, kind in named.items():
        values = np.array([row[name] for row in rows if name in row and np.isfinite(row[name])])
        result[name] = round(float(getattr(np, kind)(values)), 4)
        result[f"{name}_standard_error"] = round(float(values.std() / np.sqrt(len(values))), 4)
    result["connected_share"] = round(float(np.mean([row["connected"] for row in rows if "connected" in row])), 4)
    fronts = [row["psnr"] for row in rows if row["front"]][::2]
    if encoded:
        result["psnr_encoder"], result["psnr_same_views"] = (round(float(np.mean(x)), 4) for x in (encoded, fronts))
    return result | {"subjects": subjects, "views": len(rows)}


def _encoded(base: BaseModel, truth: Subject, z: np.ndarray, label: Tensor) -> Tensor:
    """The latent (1, z_dim) that encoder and landmark fit give for the exact pictures at a camera."""
    assert base.encoder is not None and base.landmarks is not None
    crop = camera.with_focal(label, camera.FOCAL)
    pictures = {}
    for name, view in (("crop", truth.render(crop, 2 * SIZE)), ("wide", truth.render(label, 2 * SIZE))):
        image = torch.from_numpy(view.image).permute(2, 0, 1).float()[None]
        pictures[name] = (2 * image - 1, torch.from_numpy(view.alpha).float()[None, None])
    seen = landmarks_of(base, torch.from_numpy(z).float()[None], crop)
    shape = fit_shape(base.generator.deformation, seen, base.landmarks, crop)
    with torch.no_grad():
        guess = base.encoder(**pictures)
    return torch.cat([shape.z, agreed(guess, shape.z, base.generator.mapping).mean], 1)


def compare(view: View, image: Tensor, alpha: Tensor, depth: Tensor, label: Tensor) -> dict[str, float]:
    """Scores, in the head's box, of a picture (3, SIZE, SIZE) in [-1, 1] on middle grey, its alpha and depth."""
    shrink = (SIZE, FINER, SIZE, FINER)
    exact_alpha = view.alpha.reshape(shrink).mean((1, 3))
    exact = view.image.reshape(*shrink, 3).mean((1, 3)) + (1 - exact_alpha[..., None]) * 0.5
    shown = ((image.permute(1, 2, 0) + 1) / 2).numpy()
    origin, direction = (rays[0].numpy().reshape(SIZE, SIZE, 3) for rays in camera.rays(label[None], SIZE, SIZE))
    deep = np.where(view.depth > 0, view.depth, np.nan).reshape(shrink)
    deep = deep[:, 0, :, 0]
    points = origin + direction * deep[..., None]
    box = np.zeros((SIZE, SIZE), bool)
    inside = (exact_alpha > 0.5) & (np.nan_to_num(points[..., 1], nan=-1) > CHIN)
    seen_rows, seen_columns = np.nonzero(inside)
    box[seen_rows.min() : seen_rows.max() + 1, seen_columns.min() : seen_columns.max() + 1] = True
    error = ((shown - exact) ** 2).mean(-1)
    width, low, high, front = FACE
    x, y, z = np.moveaxis(np.nan_to_num(points, nan=9), -1, 0)
    face = (np.abs(x) < width) & (y > low) & (y < high) & (z > front) & (view.part[::FINER, ::FINER] == 1)
    solid, wanted = (alpha.numpy() > 0.5) & box, (exact_alpha > 0.5) & box
    near = F.max_pool2d(torch.from_numpy(exact_alpha)[None].float(), 2 * MARGIN + 1, 1, MARGIN)[0].numpy()
    empty = near == 0
    return {
        "psnr": -10 * float(np.log10(error[box].mean())),
        "psnr_face": -10 * float(np.log10(error[face].mean())) if face.sum() > 50 else np.nan,
        "iou": float((solid & wanted).sum() / (solid | wanted).sum()),
        "face_depth": float(np.median(np.abs(depth.numpy() - deep)[face])) if face.sum() > 50 else np.nan,
        "empty_opacity": float(alpha.numpy()[empty].mean()),
    }


def _connected(head: GeneratorHead) -> float:
    """Share of the whole surface's area that the largest connected part has."""
    line = torch.linspace(-head.box, head.box, GRID) * (1 - 1e-4)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    density = head.field(points)[0].reshape(GRID, GRID, GRID).numpy()
    vertices, faces, *_ = marching_cubes(np.pad(density, 1), LEVEL)
    parts = trimesh.Trimesh(vertices, faces, process=False).split(only_watertight=False)
    areas = np.array([part.area for part in parts])
    return float(areas.max() / areas.sum())


def random_heads(generator: TriplaneGenerator, exact_heads: Heads, heads: int, out: Path) -> dict[str, object]:
    """Detector and identity network on random latents, and on the exact pictures of as many subjects."""
    labels = torch.stack([camera.portrait_label(yaw) for yaw in SIDES])
    made, cells = [], []
    found = np.zeros((heads, len(SIDES)), bool)
    across = []
    for k in range(heads):
        z = torch.from_numpy(latent(FIRST + 10_000 + k)).float()[None]
        views = GeneratorHead(generator, generator.from_latent(z)).render(labels, 256, 0.8).image
        codes = [embedding(image, None) if find_faces(to_array(image), FaceConfig()) else None for image in views]
        found[k] = [code is not None for code in codes]
        known = [code for code in codes if code is not None]
        if len(known) == len(SIDES):
            across.append(float(torch.pdist(torch.cat(known)).mean()))
        if codes[1] is not None:
            made.append(codes[1])
        cells.append(to_array(F.interpolate(views[1:2], (128, 128), mode="area")[0]))
    save_png(out / "mini-random.png", _grid(cells, 10))
    exact = []
    for k in range(min(heads, 50)):
        view = exact_heads.subject(FIRST + 10_000 + k).render(labels[1], 256)
        picture = torch.from_numpy(view.image + (1 - view.alpha[..., None]) * 0.9).permute(2, 0, 1).float() * 2 - 1
        code = embedding(picture, None)
        if code is not None:
            exact.append(code)
    spread, teacher = (float(torch.pdist(torch.cat(codes)).mean()) for codes in (made, exact))
    return {
        "heads": heads,
        "face_found_front": round(float(found[:, 1].mean()), 4),
        "face_found_30_degrees": round(float(found[:, [0, 2]].mean()), 4),
        "identity_spread": round(spread, 4),
        "identity_spread_of_teacher": round(teacher, 4),
        "identity_between_views_median": round(float(np.median(across)), 4),
    }


def views(generator: TriplaneGenerator) -> dict[str, float]:
    """Wall-clock seconds of first and further views, the median of five."""
    z = torch.from_numpy(latent(FIRST)).float()[None]
    label = camera.portrait_label(0.2)[None]
    first, further, large = list[float](), list[float](), list[float]()
    for _ in range(5):
        start = time.perf_counter()
        head = GeneratorHead(generator, generator.from_latent(z))
        head.render(label, 256)
        first.append(time.perf_counter() - start)
        for size, times in ((256, further), (512, large)):
            start = time.perf_counter()
            head.render(label, size)
            times.append(time.perf_counter() - start)
    names = ("first_256", "further_256", "further_512")
    return {n: round(float(np.median(t)), 3) for n, t in zip(names, (first, further, large), strict=True)}


def _pair(view: View, image: Tensor) -> np.ndarray:
    exact = view.image + (1 - view.alpha[..., None]) * 0.5
    exact = exact.reshape(SIZE, FINER, SIZE, FINER, 3).mean((1, 3))
    return np.concatenate([(exact * 255).astype(np.uint8), to_array(image)], 1)


def _grid(cells: list[np.ndarray], columns: int) -> np.ndarray:
    while len(cells) % columns:
        cells = [*cells, np.full_like(cells[0], 255)]
    rows = [np.concatenate(cells[k : k + columns], 1) for k in range(0, len(cells), columns)]
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, required=True, help="folder of the MakeHuman head kit")
    parser.add_argument("--model", default="mini", help="name or file of the generator")
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = load_base(args.model)
    generator, heads = base.generator, Heads(args.kit)
    facts = {
        "held_out": held_out(base, heads, args.subjects, args.out),
        "random": random_heads(generator, heads, args.heads, args.out),
        "views": views(generator),
        "threads": args.threads,
    }
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
