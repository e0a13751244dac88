"""Learning a 3D style from few pictures, against what the style truly looks like in 3D.

    python -m benchmarks.fewshot [--kit HEAD_KIT] [--exemplars FOLDER ...] [--quick] [--truth toon clay ink]
                                 [--seeds 3] [--method ...] [--keep FOLDER] [--device cuda]

Synthetic heads can be redrawn in a style by formula (``truths.py``), so for every person the true stylized head is
known from every side. Twenty exemplars show random people from random sides; each method (``rivals.py``) learns the
style from them and draws twenty other people, known by their latent, from three sides. Each seed has exemplars and
people of its own. Of drawn exemplars (``--exemplars``) no truth is known: style distance is that to pictures that are
held out, likeness that to the heads without the style. The methods:

- ``plain``: the head without a style, what doing nothing scores.
- ``ours``: ``agile3d new-style`` with the linear stylizer.
- ``direct``: the generator itself, all of its weights, fine-tuned by rendering the exemplars at their guessed latents.
- ``views``: no 3D style; each view of the plain head is stylized in 2D.
- ``unpaired``: as ours, with each stylized picture taken for another person's, seen by the same camera.
- ``cameras``: as ours, with cameras estimated on the stylized pictures instead of the exact ones.
- ``shape off``: as ours, without the style's displacement.
- ``pairs N``: as ours, with another number of stylized faces.

Scores, each with a standard error (over people, and wider where seeds differ by more than their people explain):
``style_distance`` (KID of Lite0 features, of nobody to the own truth), ``paired`` (mean absolute colour error to the
person's own truth, where both show the head), ``depth`` (median depth error of the face, shares of the box), ``views``
(colour disagreement of two views 15 degrees apart; the row ``truth`` says it of the true heads, whose lines and shades
follow the view), ``surface`` (the same without the line that a style draws around heads), ``rank1`` (how often the
person's own truth is found first among the seed's twenty, front against front), ``rank1_head`` (the same for the mean
embedding of three views, less what all heads of a set share), ``relief`` (depth range of the face over the truth's),
``seconds`` of processor time. Drawn exemplars leave out ``paired`` and ``depth``. Prints one JSON document, and writes
a sheet of the first seed for each style.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.device import choose_device
from agile3d_cli.image import save_png, to_array
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.scores import view_consistency
from agile3d_cli.style.faces import BACKGROUND, GeneratorFaces
from agile3d_cli.style.stylize import fit_stylizer
from benchmarks.fewshot_sets import EXEMPLAR_SIZE, LABELS, SIZE, Drawn, Person, StyleSet, Truth, codes_of
from benchmarks.rivals import QUICK, Model, Pupil, Work, lineless, methods, silent
from benchmarks.stylizers import SETS
from benchmarks.truths import STYLES

FACE = (0.14, -0.18, 0.2, 0.08)
"""Half-width, lowest, highest, least z of the face, world units: where depth is compared."""
ENDS = [0, -1]
"""Of the views, those that are compared with each other."""
Looks = Callable[[Rendering, Rendering], Tensor]
"""See ``StyleSet.looks``."""
UNKNOWN = ("paired", "depth")
"""Scores that say something only where the truth is known."""


def measure(model: Model, people: Sequence[Person], looks: Looks) -> tuple[dict[str, list[float]], Tensor, Tensor]:
    """Scores a person, features (P, D) of the front views, and a row of pictures a person (P, 3, SIZE, 2 * SIZE)."""
    rows: dict[str, list[float]] = {name: [] for name in ("paired", "depth", "views", "surface", "relief")}
    features, shown, codes = [], [], []
    for person in people:
        head = model.head(person.z)
        seen = _on_cpu(head.render(LABELS, SIZE, BACKGROUND))
        both = (seen.alpha > 0.9) & (person.alphas > 0.5)
        off = ((seen.image - person.images).abs().mean(1, keepdim=True) / 2)[:3]
        rows["paired"].append(float(off[both[:3]].mean()))
        face = both & _in_face(person.depths)
        rows["depth"].append(float((seen.depth - person.depths).abs()[:3][face[:3]].median()))
        rows["relief"].append(_range(seen.depth[0][face[0]]) / _range(person.depths[0][face[0]]))
        rows["views"].append(_disagreement(seen.image, seen.alpha, seen.depth))
        plain = _on_cpu(lineless(model).head(person.z).render(LABELS[ENDS], SIZE, BACKGROUND))
        rows["surface"].append(_disagreement(plain.image, plain.alpha, plain.depth))
        large = _on_cpu(head.render(LABELS[:3], EXEMPLAR_SIZE, BACKGROUND))
        codes.append(codes_of(large.image))
        features.append(looks(seen, large))
        shown.append(torch.cat([seen.image[0], seen.image[2]], 2))
    drawn, true = torch.stack(codes), torch.stack([person.codes for person in people])
    rows["rank1"] = _found_first(drawn[:, 0], true[:, 0])
    heads = [F.normalize(views.mean(1)) for views in (drawn, true)]
    rows["rank1_head"] = _found_first(*(F.normalize(head - head.mean(0)) for head in heads))
    return rows, torch.cat(features), torch.stack(shown)


def _disagreement(images: Tensor, alphas: Tensor, depths: Tensor) -> float:
    """Colour difference of the first and the last of the views, where both show the same place."""
    agreed = view_consistency(images[ENDS], alphas[ENDS], depths[ENDS], LABELS[ENDS])
    assert agreed is not None, "these two views of a head share most of its face"
    return float(agreed.color)


def _on_cpu(seen: Rendering) -> Rendering:
    return replace(seen, **{name: value.cpu() for name, value in vars(seen).items() if isinstance(value, Tensor)})


def _found_first(drawn: Tensor, true: Tensor) -> list[float]:
    """Whether each of ``drawn`` (P, D) is nearest to its own row of ``true``, 1 or 0."""
    return (torch.cdist(drawn, true).argmin(1) == torch.arange(len(drawn))).float().tolist()


def _in_face(depths: Tensor) -> Tensor:
    """(4, 1, SIZE, SIZE): which pixels show the face, by where their points lie."""
    origin, direction = camera.rays(LABELS, SIZE, SIZE)
    points = origin + direction * depths.flatten(1)[..., None]
    half, low, high, front = FACE
    x, y, z = points.unbind(-1)
    inside = (x.abs() < half) & (y > low) & (y < high) & (z > front)
    return inside.reshape(depths.shape)


def _range(depth: Tensor) -> float:
    low, high = torch.quantile(depth, torch.tensor([0.05, 0.95])).tolist()
    return float(high - low)


def run(
    source: StyleSet, base: BaseModel, work: Work, seeds: int, chosen: Sequence[str]
) -> tuple[dict[str, Any], Tensor]:
    """Every method on one style: its scores, and rows of pictures for the sheet."""
    rows: dict[str, dict[str, list[list[float]]]] = {}
    pictures: dict[str, Tensor] = {}
    for seed in range(seeds):
        people = source.people(seed, work.people)
        if source.known:
            own = [_disagreement(person.images, person.alphas, person.depths) for person in people]
            rows.setdefault("truth", {}).setdefault("views", []).append(own)
            pictures.setdefault("truth", torch.stack([torch.cat([p.images[0], p.images[2]], 2) for p in people]))
        for name, found, shown in measured(source, people, base, work, seed, chosen):
            for score, values in found.items():
                if source.known or score not in UNKNOWN:
                    rows.setdefault(name, {}).setdefault(score, []).append(values)
            pictures.setdefault(name, shown)
            sys.stderr.write(f"{source.name} seed {seed} {name}: {_told(rows[name])}\n")
    sheet = torch.cat([torch.cat(list(column[:6]), 1) for column in pictures.values()], 2)
    return {name: _summary(found) for name, found in rows.items()}, sheet


def measured(
    source: StyleSet, people: Sequence[Person], base: BaseModel, work: Work, seed: int, chosen: Sequence[str]
) -> Iterator[tuple[str, dict[str, list[float]], Tensor]]:
    """Each method taught by one seed's exemplars: its name, scores a person, and rows of pictures."""
    exemplars = source.exemplars(seed)
    started = time.process_time()
    stylizer, _, _ = fit_stylizer("linear", exemplars, GeneratorFaces(base, work.size), seed, silent)
    fitting = time.process_time() - started
    with tempfile.TemporaryDirectory() as place:
        pupil = Pupil(base, exemplars, stylizer, work, seed, Path(place))
        for name, make in methods(pupil, chosen).items():
            started = time.process_time()
            model = make()
            seconds = time.process_time() - started + (0 if name in ("plain", "direct") else fitting)
            found, features, shown = measure(model, people, source.looks)
            found["style_distance"] = source.distances(features, people, seed)
            found["seconds"] = [seconds]
            yield name, found, shown


def _summary(found: dict[str, list[list[float]]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard error of values that are listed by seed, then by person."""
    facts = {}
    for score, values in found.items():
        error = standard_error(np.array(values))
        mean = float(np.mean(values))
        facts[score] = {"mean": round(mean, 5), "standard_error": None if error is None else round(error, 5)}
    return facts


def standard_error(table: np.ndarray) -> float | None:
    """Of the mean of values (seeds, people), each seed with people of its own; None for a single value.

    People count as independent unless seeds differ by more than that explains: the larger one of the mean squares
    within and between seeds, as in a one-way analysis of variance with random effects.
    """
    seeds, people = table.shape
    squares = []
    if people > 1:
        squares.append(table.var(1, ddof=1).mean())
    if seeds > 1:
        squares.append(people * table.mean(1).var(ddof=1))
    return float(np.sqrt(max(squares) / table.size)) if squares else None


def _told(found: dict[str, list[list[float]]]) -> str:
    return ", ".join(f"{score} {np.mean(values):.4f}" for score, values in found.items())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, help="folder of the MakeHuman head kit, for styles by formula")
    parser.add_argument("--keep", type=Path, help="folder of true heads, which are drawn there once (minutes)")
    parser.add_argument("--device", default="cpu", help="of the generators: auto, cpu, cuda or mps")
    parser.add_argument("--truth", nargs="+", default=[style.name for style in STYLES], help="styles by formula")
    parser.add_argument("--exemplars", type=Path, nargs="+", default=[], help="folders of drawn exemplars")
    parser.add_argument(
        "--method", nargs="+", default=["plain", "ours", "direct", "views", "unpaired", "cameras", "shape", "pairs"]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a third of the work for each method")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args(arguments)
    if not args.kit and not args.exemplars:
        parser.error("styles by formula need --kit, drawn ones --exemplars")
    torch.set_num_threads(args.threads)
    base = load_base("mini", choose_device(args.device))
    work = QUICK if args.quick else Work()
    found = {}
    with tempfile.TemporaryDirectory() as place:
        by_formula = [style for style in STYLES if args.kit and style.name in args.truth]
        sources: list[StyleSet] = [Truth(style, args.kit, base, args.keep or Path(place)) for style in by_formula]
        sources += [Drawn(folder, SETS.get(folder.resolve()), base) for folder in args.exemplars]
        for source in sources:
            facts, sheet = run(source, base, work, args.seeds, args.method)
            saved = save_png(args.out / f"fewshot-{source.name}.png", to_array(sheet))
            found[source.name] = {"methods": facts, "sheet": str(saved), "columns": list(facts)}
    counts = {"people": work.people, "seeds": args.seeds, "threads": args.threads}
    sys.stdout.write(json.dumps({**counts, "work": vars(work), "styles": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
