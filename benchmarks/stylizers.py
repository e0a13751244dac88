"""Stylizers compared on the same exemplars and faces: how near, how faithful, how varied, how quick?

    python -m benchmarks.stylizers [--exemplars FOLDER ...] [--held-out FOLDER] [--photos FOLDER] [--stylizer NAME ...]
        [--count 24] [--shown 8]

The installed stylizers are fitted to exemplars, and judged by pictures of the style that are held out: those of a
folder of their own, where there is one, else some of the exemplars. They redraw heads of the base generator, and photos
where a folder is given. Two rows are no stylizers: ``unstylized`` leaves the faces alone, ``colour transfer`` moves
their colours only. For each row:

- ``style_distance``: KID of Lite0 features to the held-out exemplars with its 95 % interval, in the head's region
  (``models.contrast``), so that backgrounds and shoulders, which exemplars often lack, count for nothing.
- ``nearer_than``: by how much it is smaller than that of each row that is no stylizer, with the 95 % interval of that
  difference (the same heads and held-out exemplars are resampled on both sides). Clear where the interval is above 0.
- ``landmark_drift_px``: how far the face mesh moves, pixels at 256, mean over faces; ``head_shift_px``: how far its
  middle moves. The style's own proportions count as drift, a moved head as both.
- ``identity_rank``: how often a redrawn face finds its own face first among all faces; a face not found finds nobody.
- ``diversity``: mean distance of the results' features over that of the exemplars'.
- ``seconds_fitting`` without the time for making faces, and ``seconds_per_picture``.

Prints one JSON document, and writes a sheet of faces by stylizers for each folder into the git-ignored reports folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from agile3d_cli.errors import Agile3dError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import save_png, to_array
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.contrast import head_region
from agile3d_cli.models.identity import embed_faces
from agile3d_cli.plugins import FoundStylizer, find_stylizers
from agile3d_cli.scores import rank_of_found, style_distance, style_gain
from agile3d_cli.style.exemplars import ExemplarSet, as_batch, read_exemplars
from agile3d_cli.style.faces import GeneratorFaces
from agile3d_cli.style.score import head_features
from agile3d_cli.stylizer import FaceBatch, FaceSampler, Stylizer
from benchmarks.heldout import held_out

SIZE = 256
ASSETS = (Path(__file__).parents[1] / "../shared/assets").resolve()
SETS = {ASSETS / "style-fluent3d/exemplars24": ASSETS / "style-fluent3d/heads", ASSETS / "style-toon-head": None}
"""Exemplars where they lie beside the repository, and the folder of further pictures of the same style."""
BASELINES = ("unstylized", "colour transfer")
"""Rows that are no stylizers."""
OTHER_FACES = 1_000_003
"""Added to the seed: the faces that are redrawn are not those of the fit."""
REAL = 32
"""Faces whose colours the colour transfer starts from."""
SHOWN = 8
"""Faces on a sheet, unless told otherwise."""
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class RememberedFaces:
    """Faces of the base generator; what was asked for once is there at once, and making them is timed."""

    def __init__(self, source: FaceSampler):
        self._source = source
        self._known: dict[tuple[int, bytes], FaceBatch] = {}
        self.seconds = 0.0

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        """``count`` faces; the same state of ``generator`` gives the same faces."""
        started = time.perf_counter()
        key = (count, generator.get_state().numpy().tobytes())
        if key not in self._known:
            self._known[key] = self._source.sample(count, generator)
        self.seconds += time.perf_counter() - started
        return self._known[key]


class ColourTransfer:
    """The least that a stylizer has to beat: mean and deviation of each channel, in the head's region."""

    def __init__(self, faces: Tensor, exemplars: Tensor):
        self._faces, self._exemplars = _colours(faces), _colours(exemplars)

    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the exemplars' colours."""
        (mean, deviation), (wanted_mean, wanted_deviation) = self._faces, self._exemplars
        return ((images - mean) / deviation * wanted_deviation + wanted_mean).clamp(-1, 1)


@dataclass(frozen=True)
class Faces:
    """Faces to redraw, and what is known of them."""

    images: Tensor
    """(N, 3, SIZE, SIZE) in [-1, 1]."""
    points: list[np.ndarray | None]
    """(468, 2) pixels each, None where no face is found."""
    codes: list[Tensor | None]
    """(1, 128) identity embedding each, None where no face is found."""


@dataclass(frozen=True)
class Wanted:
    """Features of the style."""

    fitted: list[Tensor]
    """Exemplars to fit to, each (3, S, S)."""
    shown: Tensor
    """The same at one size, (N, 3, SIZE, SIZE)."""
    held_out: Tensor
    """(M, D)."""
    spread: float
    """Mean distance of two exemplars, fitted or held out."""


def look_at(images: Tensor) -> Faces:
    """Finds the faces of pictures (N, 3, SIZE, SIZE) and who they are."""
    points: list[np.ndarray | None] = []
    codes: list[Tensor | None] = []
    for image in images:
        found = find_faces(to_array(image), FaceConfig())
        points.append(found[0].points[:, :2] if found else None)
        five = torch.from_numpy(five_of(found[0].points)[None, :, :2] / SIZE) if found else None
        codes.append(None if five is None else embed_faces(image[None], five))
    return Faces(images, points, codes)


def measure(drawn: Tensor, features: Tensor, faces: Faces, wanted: Wanted) -> dict[str, Any]:
    """Scores of redrawn faces (N, 3, SIZE, SIZE) with their style features (N, D)."""
    seen = look_at(drawn)
    rank = rank_of_found(seen.codes, faces.codes)
    moved = [b - a for a, b in zip(faces.points, seen.points, strict=True) if a is not None and b is not None]
    return {
        "style_distance": None if len(drawn) < 2 else _rounded(asdict(style_distance(features, wanted.held_out))),
        "landmark_drift_px": _mean([float(np.linalg.norm(each, axis=1).mean()) for each in moved]),
        "head_shift_px": _mean([float(np.linalg.norm(each.mean(0))) for each in moved]),
        "faces_not_found": sum(points is None for points in seen.points),
        "identity_rank": _rounded(asdict(rank)) if rank else None,
        "diversity": None if len(drawn) < 2 else round(float(torch.pdist(features).mean()) / wanted.spread, 4),
    }


def _gain(before: Tensor, after: Tensor, wanted: Wanted) -> dict[str, float]:
    return _rounded(asdict(style_gain(before, after, wanted.held_out)))


def split(exemplars: ExemplarSet, fitted: int, further: ExemplarSet | None) -> Wanted:
    """All exemplars and the further pictures; without any, ``fitted`` of the exemplars and the others."""
    batch = as_batch(exemplars, SIZE)
    features = head_features(batch)
    if further is not None:
        held_out = head_features(as_batch(further, SIZE))
        return Wanted(exemplars.images, batch, held_out, float(torch.pdist(features).mean()))
    numbers = np.linspace(0, len(batch) - 1, fitted).round().astype(int).tolist()
    others = sorted(set(range(len(batch))) - set(numbers))
    images = [exemplars.images[k] for k in numbers]
    return Wanted(images, batch[numbers], features[others], float(torch.pdist(features).mean()))


def compare(
    wanted: Wanted, chosen: Sequence[FoundStylizer], groups: dict[str, Faces], sampler: RememberedFaces, seed: int,
    kept: Path | None, shown: int = SHOWN,
) -> tuple[dict[str, Any], np.ndarray]:  # fmt: skip
    """Every row on one set of exemplars: the scores, and the sheet."""
    real = sampler.sample(REAL, torch.Generator().manual_seed(seed)).images
    makers: dict[str, Stylizer | ColourTransfer | None] = {
        "unstylized": None, "colour transfer": ColourTransfer(real, wanted.shown)
    }  # fmt: skip
    rows: dict[str, Any] = {}
    for found in chosen:
        rows[found.name] = {"package": found.package, "version": found.version}
        try:
            file = kept / f"{found.name}.safetensors" if kept else None
            makers[found.name], seconds = _fit(found, wanted.fitted, sampler, seed, file)
        except Agile3dError as error:
            rows[found.name] |= {"error": str(error)}
            continue
        rows[found.name] |= {"seconds_fitting": seconds}
    columns, features = {"exemplars": _spread(wanted.shown, shown)}, {}
    for name, maker in makers.items():
        started = time.perf_counter()
        drawn = {group: maker.stylize(faces.images) if maker else faces.images for group, faces in groups.items()}
        seconds = (time.perf_counter() - started) / sum(len(images) for images in drawn.values())
        columns[name] = _shown(drawn, shown)
        features[name] = {group: head_features(images) for group, images in drawn.items()}
        row: dict[str, Any] = rows.get(name, {}) | ({"seconds_per_picture": round(seconds, 3)} if maker else {})
        for group, faces in groups.items():
            row[group] = measure(drawn[group], features[name][group], faces, wanted)
            if name not in BASELINES and len(faces.images) > 1:
                row[group]["nearer_than"] = {
                    other: _gain(features[other][group], features[name][group], wanted) for other in BASELINES
                }
        rows[name] = row
    return {"fitted": len(wanted.fitted), "held_out": len(wanted.held_out), "rows": rows}, sheet(columns)


def sheet(columns: dict[str, Tensor]) -> np.ndarray:
    """Columns (N, 3, SIZE, SIZE) of pictures side by side under their names."""
    count, title = max(len(images) for images in columns.values()), 24
    page = Image.new("RGB", (SIZE * len(columns), title + SIZE * count), "white")
    draw = ImageDraw.Draw(page)
    for column, (name, images) in enumerate(columns.items()):
        draw.text((SIZE * column + 6, 6), name, fill="black")
        for row, image in enumerate(images):
            page.paste(Image.fromarray(to_array(image)), (SIZE * column, title + SIZE * row))
    return np.asarray(page)


def _fit(
    found: FoundStylizer, exemplars: Sequence[Tensor], sampler: RememberedFaces, seed: int, kept: Path | None
) -> tuple[Stylizer, float | None]:
    """A fitted stylizer and the seconds that it took itself; None for one that was kept in the file ``kept``."""
    if found.description is None or found.error is not None:
        raise Agile3dError(found.error or "it offers no stylizer")
    if kept is not None and kept.is_file():
        return found.description.load(kept), None
    stylizer = found.description.build(found.description.config())
    waited, started = sampler.seconds, time.perf_counter()
    stylizer.fit(exemplars, sampler, lambda stage, fraction: None, seed)
    seconds = round(time.perf_counter() - started - (sampler.seconds - waited), 2)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        stylizer.save(kept)
    return stylizer, seconds


def _photos(folder: Path, base: BaseModel, count: int) -> Tensor:
    """Aligned portraits (N, 3, SIZE, SIZE) of at most ``count`` photos of a folder, evenly chosen."""
    config = FaceConfig(size=SIZE, matte=False, template=base.framing)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    chosen = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return torch.stack([load_face(paths[k], config)[0].image for k in chosen])


def _colours(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) of pictures (N, 3, SIZE, SIZE) in the head's region."""
    pixels = images.movedim(1, 0)[:, :, head_region(SIZE, SIZE)[0, 0] > 0].flatten(1)
    return pixels.mean(1)[:, None, None], pixels.std(1).clamp(min=1e-3)[:, None, None]


def _shown(groups: dict[str, Tensor], count: int) -> Tensor:
    """``count`` pictures or fewer of all groups: each further group gets its share, the first what they leave."""
    first, *others = groups.values()
    further = [_spread(images, count // len(groups)) for images in others]
    return torch.cat([_spread(first, count - sum(map(len, further))), *further])


def _spread(images: Tensor, count: int) -> Tensor:
    """At most ``count`` pictures, evenly chosen."""
    count = min(count, len(images))
    return images[[row * len(images) // count for row in range(count)]]


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in values.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exemplars", type=Path, nargs="+", help="folders of exemplars, one style each")
    parser.add_argument("--held-out", type=Path, help="folder of further pictures of the one style of --exemplars")
    parser.add_argument("--fitted", type=int, default=16, help="exemplars to fit to where no folder is held out")
    parser.add_argument("--photos", type=Path, help="folder of photos to redraw too")
    parser.add_argument("--count", type=int, default=24, help="heads, and photos at most")
    parser.add_argument("--shown", type=int, default=SHOWN, help="rows of a sheet")
    parser.add_argument("--stylizer", nargs="+", help="only these")
    parser.add_argument("--keep", type=Path, help="folder of fitted stylizers: what it holds is not fitted again")
    parser.add_argument("--base", default="mini", help="name or file of the generator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args(arguments)
    if args.held_out and len(args.exemplars or ()) != 1:
        parser.error("--held-out is for one folder of --exemplars")
    folders = {
        folder: args.held_out or SETS.get(folder.resolve()) for folder in args.exemplars or SETS if folder.is_dir()
    }
    if not folders:
        parser.error("no exemplars lie beside the repository; name folders with --exemplars")
    base = load_base(args.base)
    sets: dict[str, tuple[ExemplarSet, ExemplarSet | None]] = {}
    for folder, others in folders.items():
        pictures = read_exemplars(folder, base.framing)
        if others is None and not 1 <= args.fitted <= len(pictures.exemplars) - 2:
            parser.error(f"{folder} has {len(pictures.exemplars)} usable pictures; --fitted must leave two of them")
        further = held_out(others, pictures, base.framing) if others else None
        sets["-".join(folder.resolve().parts[-2:])] = pictures, further
    torch.set_num_threads(args.threads)
    chosen = [found for found in find_stylizers() if args.stylizer is None or found.name in args.stylizer]
    sampler = RememberedFaces(GeneratorFaces(base, SIZE))
    heads = sampler.sample(args.count, torch.Generator().manual_seed(args.seed + OTHER_FACES)).images
    groups = {"heads": look_at(heads)}
    if args.photos:
        groups["photos"] = look_at(_photos(args.photos, base, args.count))
    compared: dict[str, Any] = {}
    for name, (pictures, further) in sets.items():
        sys.stderr.write(f"{name}\n")
        facts, page = compare(
            split(pictures, args.fitted, further), chosen, groups, sampler, args.seed,
            args.keep and args.keep / name, args.shown,
        )  # fmt: skip
        facts |= {"notes": pictures.notes, "sheet": str(save_png(args.out / f"stylizers-{name}.png", page))}
        compared[name] = facts
    counts = {group: len(faces.images) for group, faces in groups.items()}
    result = {"base": args.base, "faces": counts, "seed": args.seed, "threads": args.threads, "sets": compared}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
