"""``mini`` -> a small 2D face prior: a StyleGAN2 that draws its heads, and a variational encoder of such pictures.

    python -m agile3d_cli.prior.flat --out runs/flat --minutes 2.5 --device cuda

With ``--heads`` the pictures are exact ones, those that ``mini`` was trained on (``prior/subjects.py``).
Makes ``flat.safetensors``, which is shipped as it is, and ``sheet.png``; run again to go on from the state it left.
Source: AgileGAN (Song et al., SIGGRAPH 2021), sections 3 and 4, whose prior is learnt from photos; here the pictures
are drawn by the base generator and the codes behind them are known.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from agile3d_cli.device import choose_device
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.prior.flat.config import FlatConfig, sized
from agile3d_cli.prior.flat.heads import head_pool
from agile3d_cli.prior.flat.teacher import Teacher
from agile3d_cli.prior.flat.trainer import STAGES, FlatTrainer


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results and of the state")
    parser.add_argument("--base", default="mini", help="name or file of the generator to learn from")
    parser.add_argument("--minutes", type=float, default=2.5, help="wall-clock budget from when the base is loaded")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=256, help="edge of the pictures, pixels; smaller to try things")
    parser.add_argument("--batch", type=int, default=FlatConfig.batch)
    parser.add_argument("--pictures", type=int, default=FlatConfig.pictures, help="most pictures that are drawn")
    parser.add_argument("--held-out", type=int, default=FlatConfig.held_out, help="pictures for the figures")
    parser.add_argument(
        "--heads", type=Path, help="folder of synthetic heads to learn from instead of drawing pictures"
    )
    parser.add_argument("--start", type=Path, help="file of an earlier result that a new training begins with")
    parser.add_argument("--stage", choices=STAGES[1:], default=STAGES[1], help="stage that --start begins with")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all learning rates")
    parser.add_argument("--draw-share", type=float, default=FlatConfig.draw_share)
    parser.add_argument("--student-share", type=float, default=FlatConfig.student_share, help="of the time, student's")
    parser.add_argument("--half-share", type=float, default=FlatConfig.half_share, help="of that, at half the size")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    config = sized(FlatConfig(), args.size)
    config = replace(
        config,
        batch=args.batch,
        encoder_batch=args.batch * FlatConfig.encoder_batch // FlatConfig.batch,
        mapping_batch=args.batch * FlatConfig.mapping_batch // FlatConfig.batch,
        pictures=args.pictures,
        held_out=args.held_out,
        draw_share=args.draw_share,
        student_share=args.student_share,
        half_share=args.half_share,
        mapping_rate=args.rate * config.mapping_rate,
        rate=args.rate * config.rate,
        encoder_rate=args.rate * config.encoder_rate,
    )
    device = choose_device(args.device)
    generator = load_base(args.base, device).generator
    trainer = FlatTrainer(Teacher(generator, args.size, config.spread), config, device, args.out)
    if args.start is not None:
        trainer.start_from(args.start, args.stage)
    trainer.load()
    pool = None if args.heads is None else head_pool(args.heads, args.size, config, device)
    trainer.run(args.minutes, pool)


if __name__ == "__main__":
    main()
