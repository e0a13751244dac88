"""Checkpoint -> the shipped model file ``mini.safetensors``, with its landmarks and its card's facts.

python -m agile3d_cli.prior.publish --kit HEAD_KIT --state runs/mini/state.safetensors --out agile3d_cli/assets
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch
from safetensors import safe_open

from agile3d_cli.bundle import Model, write_model
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.template import build_template
from agile3d_cli.models.checkpoints import architecture, generator_tensors
from agile3d_cli.models.generator import mean_style
from agile3d_cli.prior.config import MINI, TrainConfig
from agile3d_cli.prior.decide import decide
from agile3d_cli.prior.landmarks import mean_head_landmarks
from agile3d_cli.prior.starts import starting_latents
from agile3d_cli.prior.terms import NOTES
from agile3d_cli.prior.trainer import averaged
from agile3d_cli.prior.traits import name_hues

log = logging.getLogger("agile3d.prior")


def publish(kit: Path, state: Path, out: Path) -> Path:
    """Writes the model file and returns its path."""
    generator = averaged(state)
    decide(generator.decoder, TrainConfig.opaque_step)
    name_hues(generator, TrainConfig.seed)
    generator.mapping.w_avg.copy_(mean_style(generator, 4096))
    landmarks = torch.from_numpy(mean_head_landmarks(build_template(), Kit(kit))).float()
    with safe_open(state, "pt") as stored:
        facts = stored.metadata()
    model = Model(
        name="mini",
        architecture=architecture(MINI),
        tensors=generator_tensors(generator, landmarks, starting_latents()),
        summary="Embedded 3D head generator: canonical tri-planes learnt from synthetic heads",
        license="Apache-2.0",
        origin="made by this project",
        training={"program": "agile3d_cli.prior", "steps_done": int(facts["step"]), **json.loads(facts["config"])},
        licenses=NOTES,
    )
    path = out / "mini.safetensors"
    write_model(path, model)
    return path


def main() -> None:
    """Command line of the publication."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, required=True, help="folder of the MakeHuman head kit")
    parser.add_argument("--state", type=Path, required=True, help="checkpoint of prior.train")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model file")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    log.info("written %s", publish(args.kit, args.state, args.out))


if __name__ == "__main__":
    main()
