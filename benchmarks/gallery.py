"""Likeness in a gallery: whose photo does each avatar find first?

    python -m benchmarks.gallery [--photos FOLDER] [--count 20] [--style cartoon]

Makes the portrait of each photo, embeds the front view and ranks it among the embeddings of all photos
(``identity_rank`` of scores.py). Prints one JSON document and writes a sheet (photo, portrait, side view per person)
into the git-ignored reports folder. Chance is 1 / count for top-1 and 5 / count for top-5.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from agile3d_cli import camera
from agile3d_cli.avatar.config import ApplyConfig, InvertConfig
from agile3d_cli.avatar.invert import invert
from agile3d_cli.avatar.latents import build_head, open_style
from agile3d_cli.avatar.measure import embedding, photo_embedding
from agile3d_cli.bundle import read_style
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import save_png, to_array
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.registry import find_file
from agile3d_cli.scores import identity_rank

CELL = 256
PHOTOS = Path(__file__).parents[1] / "../shared/assets/photos-london-smiling"
"""102 people of the Face Research Lab London Set, where it lies beside the repository."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos of different people, one each")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--style", default="cartoon", help="none for the unstylized heads")
    parser.add_argument("--refine", type=int, default=ApplyConfig.refine)
    parser.add_argument("--identity", type=float, default=ApplyConfig.identity)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = load_base("mini")
    style = None if args.style == "none" else open_style(read_style(find_file(args.style, "style")), base)
    config = FaceConfig(template=base.framing)
    photos, portraits, rows, started = [], [], [], time.perf_counter()
    unseen = 0
    for path in sorted(args.photos.glob("*.jpg"))[: args.count]:
        face, _ = load_face(path, config)
        latent = invert(face, base, InvertConfig(paint_steps=args.refine), config.wide, lambda share: None)
        head = build_head(latent, base, style, args.identity, 1.0, 1.0)
        wide = camera.portrait_label(0.55, 0.0, camera.FOCAL * 0.62)
        views = head.render(torch.stack([face.label, wide]), CELL, 1.0).image
        found = embedding(views[0], None)
        # A portrait in which no face is found must not count as anyone's.
        unseen += found is None
        portraits.append(found if found is not None else torch.full((1, 128), 1e3))
        photos.append(photo_embedding(face))
        photo = F.interpolate(face.image[None], (CELL, CELL), mode="area")[0]
        rows.append(to_array(torch.cat([photo, views[0], views[1]], 2)))
        sys.stderr.write(f"{path.name}: distance {float((portraits[-1] - photos[-1]).norm()):.3f}\n")
    rank = identity_rank(torch.cat(portraits), torch.cat(photos))
    distances = (torch.cat(portraits) - torch.cat(photos)).norm(dim=1)
    half = (len(rows) + 1) // 2
    rows += [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1)
    saved = save_png(args.out / f"gallery-{Path(args.style).stem}.png", sheet)
    facts = {
        "photos": len(photos),
        "style": args.style,
        "top1": rank.top1,
        "top5": rank.top5,
        "identity_median": float(distances.median()),
        "faces_not_found": unseen,
        "seconds_per_photo": round((time.perf_counter() - started) / max(len(photos), 1), 1),
        "threads": args.threads,
        "sheet": str(saved),
    }
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
