"""Draws what the latent of ``mini`` does: truncation, interpolation and single directions, one row each.

python tools/make_mini_sheets.py --out docs/mini-latent.webp
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.heads.parameters import index
from agile3d_cli.image import to_array
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.prior.subjects import latent

SIZE, MARGIN, COLUMNS = 160, 22, 7
FIRST = 1_020_000
"""Number of the first subject drawn, none of which was trained on."""
DIRECTIONS = (
    ("male", index("shape", 0)),
    ("old", index("shape", 1)),
    ("heavy", index("shape", 2)),
    ("skin tone", index("skin", 0)),
    ("hair colour", index("hair", 0)),
    ("first expression", index("expression", 0)),
    ("light from the side", index("light", 0)),
)


def draw(generator: TriplaneGenerator, z: Tensor, truncation: float = 1.0) -> np.ndarray:
    """One head (SIZE, SIZE, 3), turned a little."""
    head = GeneratorHead(generator, generator.from_latent(z, truncation=truncation))
    label = camera.portrait_label(0.35, 0.05, 0.75 * camera.FOCAL)
    return to_array(head.render(label[None], SIZE, 0.8).image[0])


def rows(generator: TriplaneGenerator) -> list[tuple[str, list[np.ndarray]]]:
    """Titles and pictures of all rows."""
    a, b, c, d = (torch.from_numpy(latent(FIRST + k)).float()[None] for k in range(4))
    steps = torch.linspace(0, 1, COLUMNS)
    found = [
        ("truncation 0 to 1.2", [draw(generator, a, 1.2 * float(t)) for t in steps]),
        ("the same of another", [draw(generator, b, 1.2 * float(t)) for t in steps]),
        # Along the arc, as the straight way between normal vectors passes where hardly any lie.
        (
            "interpolation",
            [draw(generator, c * torch.cos(t * np.pi / 2) + d * torch.sin(t * np.pi / 2)) for t in steps],
        ),
    ]
    for name, number in DIRECTIONS:
        pictures = []
        for value in torch.linspace(-2, 2, COLUMNS):
            z = 0.5 * a
            z[0, number] = value
            pictures.append(draw(generator, z))
        found.append((f"{name}, -2 to 2", pictures))
    return found


def main() -> None:
    """Command line of the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/mini-latent.webp"))
    parser.add_argument("--model", default="mini", help="name or file of the generator")
    args = parser.parse_args()
    drawn = rows(load_base(args.model).generator)
    sheet = Image.new("RGB", (COLUMNS * SIZE, len(drawn) * (SIZE + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, pictures) in enumerate(drawn):
        top = number * (SIZE + MARGIN)
        pen.text((6, top + 4), title, "black", font_size=14)
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * SIZE, top + MARGIN))
    sheet.save(args.out, quality=75, method=6)


if __name__ == "__main__":
    main()
