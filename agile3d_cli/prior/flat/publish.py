"""A finished training of the flat prior -> the model file that is shipped.

python -m agile3d_cli.prior.flat.publish --state runs/flat --out agile3d_cli/assets
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from agile3d_cli.bundle import Model, write_model
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.flat import FILE, FlatPrior, architecture, tensors_of
from agile3d_cli.prior.flat import files
from agile3d_cli.prior.terms import NOTES

log = logging.getLogger("agile3d.prior")


def publish(state: Path, out: Path) -> Path:
    """Writes the model file and returns its path."""
    generator, _ = files.load_generator(state / files.GENERATOR)
    prior = FlatPrior(generator, files.load_encoder(state / files.ENCODER))
    _, about = files.read(state / files.STATE)
    model = Model(
        name="flat",
        architecture=architecture(prior),
        tensors=tensors_of(prior),
        summary="Small 2D head generator with an encoder, for stylizers",
        license="Apache-2.0",
        origin="made by this project",
        training={"program": "agile3d_cli.prior.flat", "steps_done": about["steps"], "config": about["config"]},
        licenses=(LicenseNote("flat prior weights", "Apache-2.0", "made by this project", True), *NOTES[1:]),
    )
    path = out / FILE
    write_model(path, model)
    return path


def main() -> None:
    """Command line of the publication."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder of prior.flat's results")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model file")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    log.info("written %s", publish(args.state, args.out))


if __name__ == "__main__":
    main()
