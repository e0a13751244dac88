"""The dials of ``apply``: whether the scores that they name go one way as a dial is turned.

    python -m benchmarks.dials STYLE EXEMPLARS [--photo examples/astronaut.jpg] [--people 16]

``--color`` and ``--structure`` are turned for random people, the same at every position; each is named after what the
style brings: ``style_distance`` to the exemplars falls, and landmarks move further from those of the plain heads.
``--identity`` is turned for a photo: ``identity``, the distance to the photo, falls. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.invert import invert
from agile3d_cli.avatar.latents import build_head, open_style
from agile3d_cli.avatar.measure import SIZE, embedding
from agile3d_cli.bundle import read_style
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.models.checkpoints import BaseModel, for_portraits, load_base
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.registry import find_file
from agile3d_cli.scores import style_distance
from agile3d_cli.style.exemplars import as_batch, read_exemplars
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.measure import landmarks
from agile3d_cli.style.people import people_in
from agile3d_cli.style.score import head_features

POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
RISING = ("landmarks_moved_px",)
"""Scores that grow with their dial; the others fall."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the scores at every position of every dial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("style", help="name or file of the style")
    parser.add_argument("exemplars", type=Path, help="folder of its exemplars")
    parser.add_argument("--photo", type=Path, default=Path("examples/astronaut.jpg"))
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    bundle = read_style(find_file(args.style, "style"))
    base = for_portraits(load_base(bundle.base.name))
    style = open_style(bundle, base)
    wanted = head_features(as_batch(read_exemplars(args.exemplars, base.framing), SIZE))
    color = [_front(base, turned(style, color=position), args.people) for position in POSITIONS]
    structure = [_front(base, turned(style, structure=position), args.people) for position in POSITIONS]
    found: dict[str, dict[str, object]] = {}
    rows = {
        "color": {"style_distance": [style_distance(head_features(images), wanted).value for images in color]},
        "structure": {"landmarks_moved_px": [_moved(structure[0], images) for images in structure]},
        "identity": {"identity": _identities(base, style, args.photo)},
    }
    for dial, scores in rows.items():
        for name, values in scores.items():
            ordered = values[::-1] if name in RISING else values
            falling = all(a > b for a, b in pairwise(ordered))
            found[dial] = {name: [round(value, 4) for value in values], "monotone": falling}
    facts = {"style": bundle.name, "people": args.people, "positions": POSITIONS, "dials": found}
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


def turned(style: StyleDifference, color: float = 1.0, structure: float = 1.0) -> StyleDifference:
    """The style with two dials at these positions."""
    weights = {name: color * value for name, value in style.weights.items()}
    moved = None if style.displacement is None else structure * style.displacement
    return StyleDifference(weights, moved, style.contour and style.contour.faded(color))


def _front(base: BaseModel, style: StyleDifference, people: int) -> Tensor:
    """Front views (people, 3, SIZE, SIZE)."""
    label = camera.portrait_label()[None]
    return torch.cat([head.render(label, SIZE, BACKGROUND).image for _, head in people_in(base, style, people)])


def _moved(before: Tensor, after: Tensor) -> float:
    """Root mean square way of landmarks from one set of pictures to the other, pixels; faces found in both."""
    pairs = [(landmarks(a), landmarks(b)) for a, b in zip(before, after, strict=True)]
    ways = [(b - a).square().sum(1) for a, b in pairs if a is not None and b is not None]
    return SIZE * float(torch.stack(ways).mean().sqrt())


def _identities(base: BaseModel, style: StyleDifference, photo: Path) -> list[float]:
    """Distance of the photo to its portrait in the style, at every position."""
    config = FaceConfig(template=base.framing)
    face, _ = load_face(photo, config)
    latent = invert(face, base, InvertConfig(), config.wide, lambda share: None)
    known = embedding(face.image, None)
    assert known is not None, "the photo's face was found before"
    found = []
    for position in POSITIONS:
        head = build_head(latent, base, style, position, 1.0, 1.0)
        code = embedding(head.render(face.label[None], SIZE, BACKGROUND).image[0], None)
        found.append(float("inf") if code is None else float((known - code).norm()))
    return found


if __name__ == "__main__":
    main()
