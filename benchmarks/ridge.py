"""The floor that the embedded generator has to beat: a ridge regression from the latent straight onto planes.

    python -m benchmarks.ridge --kit HEAD_KIT --heads runs/heads [--fits 300] [--subjects 64]

Planes of ``--fits`` heads are fitted one by one to their own pictures, with the generator's decoder and deformation and
the losses of its training; then every texel is regressed on z and on what it chooses and stands for. Unseen heads are
compared as ``benchmarks.mini`` compares them, in the same pictures. Fitted planes are kept in ``--out``, so that an
interrupted run goes on. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.heads.interior import interior_points
from agile3d_cli.heads.template import build_template
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.prior.config import TrainConfig
from agile3d_cli.prior.decide import decide, undecide
from agile3d_cli.prior.points import HeadPoints
from agile3d_cli.prior.trainer import field_losses
from benchmarks.mini import SIZE, Heads, compare

STEPS, RATE = 80, 0.03
RIDGES = (1.0, 10.0, 100.0, 1000.0)
CHECKED = 30
"""Fits apart, on which the strength of the ridge is chosen."""
INTERIOR = 10000


def fit_planes(generator: TriplaneGenerator, data: HeadPoints, number: int, config: TrainConfig) -> Tensor:
    """Planes (3, C, S, S) of one subject: optimised from those of the mean style, decoder held."""
    rng = torch.Generator().manual_seed(number)
    with torch.no_grad():
        start = generator.backbone(generator.mapping.w_avg.expand(1, generator.config.num_ws, -1))
        palette = generator.colours_of_parts(generator.mapping(data.latent(number)[None]))
    planes = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([planes], lr=RATE, betas=(0.9, 0.99))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        batch = data.batch([number], config.points, rng)
        loss = sum(field_losses(generator, planes, palette, start, batch, config).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return planes.detach()[0]


def known_of(generator: TriplaneGenerator, z: Tensor) -> Tensor:
    """What the regression is given of z (N, z_dim): the latent, its shares, its traits."""
    with torch.no_grad():
        before, shares = generator.mapping.entry(z)
        return torch.cat([z, shares, generator.mapping.traits(before)], 1)


class Ridge:
    """Dual ridge regression with a free mean."""

    def __init__(self, known: Tensor, planes: Tensor, strength: float):
        self._middle, self._mean = known.mean(0), planes.mean(0)
        self._known, self._planes = known - self._middle, planes
        gram = self._known @ self._known.T
        self._inverse = torch.linalg.inv(gram + strength * torch.eye(len(gram)))

    def __call__(self, known: Tensor) -> Tensor:
        """(N, K) to planes (N, D)."""
        share = (known - self._middle) @ self._known.T @ self._inverse
        return self._mean + share @ self._planes - share.sum(1, keepdim=True) * self._mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, required=True, help="folder of the MakeHuman head kit")
    parser.add_argument("--heads", type=Path, required=True, help="folder of prior.subjects' shards")
    parser.add_argument("--model", default="mini", help="name or file of the generator")
    parser.add_argument("--fits", type=int, default=300)
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports/ridge"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator, config = load_base(args.model).generator, TrainConfig()
    interior = torch.from_numpy(interior_points(build_template(), INTERIOR)).float()
    data = HeadPoints(args.heads, generator, interior, held_out=0, features=config.features)
    args.out.mkdir(parents=True, exist_ok=True)
    # Planes are fitted to the losses that training had; the decision is for pictures.
    undecide(generator.decoder, config.opaque_step)
    rows = []
    for number in range(args.fits):
        path = args.out / f"planes-{number:04d}.safetensors"
        if not path.exists():
            save_file({"planes": fit_planes(generator, data, number, config).half()}, path)
        rows.append(load_file(path)["planes"])
    decide(generator.decoder, config.opaque_step)
    shape = rows[0].shape
    latents = torch.stack([data.latent(number) for number in range(args.fits)])
    planes, known = torch.stack(rows).float().flatten(1), known_of(generator, latents)
    fitted = args.fits - CHECKED
    errors = {r: (Ridge(known[:fitted], planes[:fitted], r)(known[fitted:]) - planes[fitted:]) for r in RIDGES}
    strength = min(RIDGES, key=lambda r: float(errors[r].square().mean()))
    ridge = Ridge(known, planes, strength)
    scores: dict[str, list[float]] = {"generator": [], "ridge": []}
    for head in Heads(args.kit).unseen(args.subjects):
        z = torch.from_numpy(head.z).float()[None]
        own = generator.from_latent(z)
        linear = Subject(ridge(known_of(generator, z)).reshape(1, *shape), own.backward, own.palette)
        for name, subject in (("generator", own), ("ridge", linear)):
            made = GeneratorHead(generator, subject).render(head.labels, SIZE, 0.0)
            for v, (label, view) in enumerate(zip(head.labels, head.views, strict=True)):
                seen = compare(view, made.image[v], made.alpha[v, 0], made.depth[v, 0], label)
                scores[name].append(seen["psnr"])
    gap = np.subtract(scores["generator"], scores["ridge"])
    facts = {name: round(float(np.mean(values)), 3) for name, values in scores.items()}
    facts |= {"gap": round(float(gap.mean()), 3), "gap_standard_error": round(float(gap.std() / len(gap) ** 0.5), 3)}
    sys.stdout.write(json.dumps({"psnr": facts, "fits": args.fits, "strength": strength}, indent=2) + "\n")


if __name__ == "__main__":
    main()
