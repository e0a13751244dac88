"""Files of the flat prior's training: the model as it is shipped, and the state from which a run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from agile3d_cli.bundle import Model, write_model
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.flat import FlatPrior, architecture, tensors_of
from agile3d_cli.prior.flat.config import FlatConfig
from agile3d_cli.prior.terms import NOTES

STATE = "state.safetensors"
ENTRY = "agile3d"


def save_prior(path: Path, prior: FlatPrior, config: FlatConfig, steps: Mapping[str, int]) -> None:
    """Writes the model file; ``steps`` are those done, by stage."""
    model = Model(
        name="flat",
        architecture=architecture(prior),
        tensors=tensors_of(prior),
        summary="Small 2D head generator with an encoder, for stylizers",
        license="Apache-2.0",
        origin="made by this project",
        training={"program": "agile3d_cli.prior.flat", "steps_done": dict(steps), "config": asdict(config)},
        licenses=(LicenseNote("flat prior weights", "Apache-2.0", "made by this project", True), *NOTES[1:]),
    )
    write_model(path, model)


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Writes tensors with a JSON entry under another name, then puts the file in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(whole, temporary, {ENTRY: json.dumps(about)})
    os.replace(temporary, path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors on the CPU, and the JSON entry."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[ENTRY])  # noqa: SIM118
