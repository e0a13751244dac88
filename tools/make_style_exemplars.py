"""Draws exemplars of the styles by formula in ``benchmarks/truths.py``, from the parts that ``mini`` was made of (CC0).

python -m tools.make_style_exemplars HEAD_KIT {toon,clay,ink} FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from agile3d_cli import camera
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import build_masks
from agile3d_cli.heads.template import build_template
from agile3d_cli.image import save_png
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.prior.subjects import latent
from agile3d_cli.style.exemplars import TERMS
from benchmarks.truths import STYLES, StyledSubject

COUNT, SIZE, FINER = 24, 512, 2
FIRST = 4_000_000
"""Number of the first subject, whom nothing else shows."""
TRUNCATION = 0.8
YAW, PITCH = 0.3, 0.06
"""Turned by at most this much, radians; deviation of the pitch."""
BACKGROUND = np.array([0.71, 0.78, 0.84])

TERMS_TEXT = "SPDX-License-Identifier: CC0-1.0\nOrigin: drawn by tools/make_style_exemplars.py from CC0 head parts\n"


def main(kit_folder: Path, name: str, folder: Path) -> None:
    style = next(style for style in STYLES if style.name == name)
    landmarks = load_base("mini").landmarks
    assert landmarks is not None, "the styles bend places of mini's own head"
    template, kit = build_template(), Kit(kit_folder)
    masks = build_masks(template, kit)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(FIRST)
    for number in range(COUNT):
        z = TRUNCATION * latent(FIRST + number)
        subject = StyledSubject(z, template, kit, masks, landmarks.numpy(), style)
        label = camera.portrait_label(rng.uniform(-YAW, YAW), PITCH * rng.normal())
        view = subject.render(torch.as_tensor(label), SIZE * FINER)
        alpha = view.alpha[..., None]
        picture = (view.image * alpha + (1 - alpha) * BACKGROUND).reshape(SIZE, FINER, SIZE, FINER, 3).mean((1, 3))
        save_png(folder / f"{number:02d}.png", (picture * 255).round().astype(np.uint8))
    (folder / TERMS).write_text(TERMS_TEXT, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
