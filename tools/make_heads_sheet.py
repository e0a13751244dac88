"""Makes docs/heads.webp: 100 random synthetic heads from three sides, to be looked at before a long training.

python tools/make_heads_sheet.py HEAD_KIT [OUTPUT]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from agile3d_cli import camera
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import build_masks
from agile3d_cli.heads.subject import Subject
from agile3d_cli.heads.template import build_template
from agile3d_cli.prior.subjects import latent

OUTPUT = Path(__file__).parents[1] / "docs" / "heads.webp"
FIRST, COUNT, COLUMNS = 2_000_000, 100, 10
SIZE, FINER = 112, 2
VIEWS = ((0.0, 0.0, 1.0), (0.75, 0.05, 0.7), (2.6, 0.15, 0.6))
"""Yaw and pitch in radians, focal length over the portrait camera's."""


def main(kit_folder: Path, output: Path) -> None:
    template, kit = build_template(), Kit(kit_folder)
    masks = build_masks(template, kit)
    cells = []
    for number in range(COUNT):
        subject = Subject(latent(FIRST + number), template, kit, masks)
        pictures = []
        for yaw, pitch, zoom in VIEWS:
            view = subject.render(camera.portrait_label(yaw, pitch, zoom * camera.FOCAL), SIZE * FINER)
            picture = view.image + (1 - view.alpha[..., None]) * 0.9
            pictures.append(picture.reshape(SIZE, FINER, SIZE, FINER, 3).mean((1, 3)))
        cells.append(np.concatenate(pictures, 1))
    rows = [np.concatenate(cells[k : k + COLUMNS], 1) for k in range(0, COUNT, COLUMNS)]
    Image.fromarray((np.concatenate(rows) * 255).astype(np.uint8)).save(output, quality=75, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUTPUT)
