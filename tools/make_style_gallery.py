"""Makes docs/styles.webp: shipped styles on the astronaut and on people of the generator.

python tools/make_style_gallery.py [STYLE.safetensors ...] [--out docs/styles.webp]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from agile3d_cli import camera
from agile3d_cli.avatar.config import ApplyConfig
from agile3d_cli.avatar.latents import load_head
from agile3d_cli.avatar.pipeline import make_avatar
from agile3d_cli.bundle import read_style
from agile3d_cli.image import to_array
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.styled import read_difference
from agile3d_cli.style.people import people_in

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "examples" / "astronaut.jpg"
SIZE, PEOPLE = 224, 4
YAWS = (0.0, 0.6)
BACKGROUND = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("styles", type=Path, nargs="*", default=sorted((ROOT / "styles").glob("*.safetensors")))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "styles.webp")
    args = parser.parse_args()
    labels = torch.stack([camera.portrait_label(yaw, 0.0, 0.85 * camera.FOCAL) for yaw in YAWS])
    names = ["none", *(path.stem for path in args.styles)]
    rows = [_row_of(style, labels) for style in ("none", *map(str, args.styles))]
    picture = Image.fromarray(np.concatenate(rows))
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(names):
        draw.text((6, row * SIZE + 4), name, fill="black")
    picture.save(args.out, quality=78, method=6)


def _row_of(style: str, labels: torch.Tensor) -> np.ndarray:
    """The astronaut and people of the generator in a style, each from the front and turned."""
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        result = make_avatar(PHOTO, Path(folder), ApplyConfig(style=style, size=256), lambda *_: None)
        head = load_head(result.portrait, torch.device("cpu"))
        cells += list(head.render(labels, SIZE, BACKGROUND).image)
    base = load_base("mini")
    found = read_style(Path(style)) if style != "none" else None
    difference = read_difference(found.tensors if found else {}, base.generator, style)
    for _, styled in people_in(base, difference, PEOPLE):
        cells += list(styled.render(labels, SIZE, BACKGROUND).image)
    return np.concatenate([to_array(cell) for cell in cells], 1)


if __name__ == "__main__":
    main()
