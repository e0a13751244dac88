"""Synthetic heads -> the weights of ``mini``; resumable, checkpoints every few minutes.

    python -m agile3d_cli.prior.train --kit HEAD_KIT --heads runs/heads --out runs/mini --minutes 60

On several accelerators: ``accelerate launch -m agile3d_cli.prior.train ...``, where ``--batch`` is of each.
Stops at ``--minutes`` or at the configured steps; run again to go on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from agile3d_cli.device import choose_device
from agile3d_cli.heads.correspondence import anchors, solve_grids, without_folds
from agile3d_cli.heads.interior import interior_points
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.template import build_template
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.layers import ModulatedConv
from agile3d_cli.prior.config import MINI, TrainConfig
from agile3d_cli.prior.decide import undecide
from agile3d_cli.prior.points import HeadPoints
from agile3d_cli.prior.trainer import STATE, Trainer
from agile3d_cli.prior.traits import learn_traits, start_palette

log = logging.getLogger("agile3d.prior")
INTERIOR = 30000
"""Points deep inside the head that are known to be opaque."""
AFFINE_START, OUTPUT_START = 0.5, 0.1
"""Smaller first weights: the backbone starts as a small deviation from the mean planes."""


def new_generator(kit: Path, seed: int) -> TriplaneGenerator:
    """An untrained ``mini`` with its deformation solved from the template."""
    torch.manual_seed(seed)
    generator = TriplaneGenerator(MINI)
    template = build_template()
    grids, left = solve_grids(anchors(template, Kit(kit)), MINI.focus, MINI.box / 2, MINI.deformation.grid)
    shapes, strengths = MINI.deformation.shapes, [strength for strength, _ in MINI.deformation.expressions]
    bent = without_folds(grids[shapes:], strengths, generator.deformation.focus)
    generator.deformation.basis.copy_(torch.cat([grids[:shapes], bent]))
    log.info("deformation solved, worst component leaves %.4f", float(np.max(left)))
    assert generator.backbone.mean_planes is not None, "mini has mean planes"
    with torch.no_grad():
        generator.backbone.mean_planes.normal_(0, 0.05)
        for module in generator.modules():
            if isinstance(module, ModulatedConv):
                module.affine.weight.mul_(AFFINE_START)
                if module.plain:
                    module.weight.mul_(OUTPUT_START)
                else:
                    module.noise_const.zero_()
    return generator


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, required=True, help="folder of the MakeHuman head kit")
    parser.add_argument("--heads", type=Path, required=True, help="folder of prior.subjects' shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--minutes", type=float, default=60, help="wall-clock budget of this run")
    parser.add_argument(
        "--steps", type=int, default=TrainConfig.steps, help="length of the whole training; 0: --minutes"
    )
    parser.add_argument("--batch", type=int, default=TrainConfig.batch, help="subjects a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where to learn: cpu, cuda or mps; the run can go on elsewhere")
    parser.add_argument("--start", help="model name or file whose weights a new run begins with")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all learning rates; below 1 with --start")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    config = TrainConfig()
    rates = {name: args.rate * getattr(config, name) for name in ("rate", "decoder_rate", "mean_rate", "bank_rate")}
    config = replace(config, steps=args.steps, batch=args.batch, **rates)
    if (args.out / STATE).exists():
        generator = TriplaneGenerator(MINI)
    elif args.start:
        generator = TriplaneGenerator(MINI)
        generator.load_state_dict(load_base(args.start).generator.state_dict())
        undecide(generator.decoder, config.opaque_step)
    else:
        generator = new_generator(args.kit, config.seed)
        learn_traits(generator.mapping, config.seed)
        start_palette(generator, config.seed)
    several = Accelerator(cpu=args.device == "cpu") if "WORLD_SIZE" in os.environ else None
    device = choose_device(args.device) if several is None else several.device
    trainer = Trainer(generator.to(device), config, args.out, several)
    trainer.load()
    interior = torch.from_numpy(interior_points(build_template(), INTERIOR)).float()
    trainer.run(HeadPoints(args.heads, trainer.generator, interior, features=config.features), args.minutes)


if __name__ == "__main__":
    main()
