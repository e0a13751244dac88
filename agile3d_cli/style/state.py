"""State of a running transfer on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from agile3d_cli.style.stopping import Watch

SECONDS = 30.0
"""After so long a state is saved whatever the step: with a large generator, steps take seconds."""


def write_state(
    path: Path,
    trained: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    rng: torch.Generator,
    watch: Watch,
    step: int,
) -> None:
    """Writes weights, optimiser, random state and what was seen, whole or not at all."""
    tensors = {f"trained.{name}": value.detach().clone() for name, value in trained.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value).clone() for key, value in values.items()}
    tensors["rng"] = rng.get_state()
    tensors |= {f"watch.{name}": value for name, value in watch.tensors().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, {"step": str(step)})
    os.replace(temporary, path)


def read_state(
    path: Path, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, rng: torch.Generator, watch: Watch
) -> tuple[int, Watch]:
    """Restores what ``write_state`` wrote and returns its step and watch; 0 and ``watch`` where there is no file."""
    if not path.exists():
        return 0, watch
    with safe_open(path, "pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
        step = int(stored.metadata()["step"])
    state: dict[int, dict[str, Tensor]] = {}
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "trained":
                trained[rest].copy_(value)
            elif kind == "optimizer":
                index, name = rest.split(".")
                state.setdefault(int(index), {})[name] = value
            elif kind == "watch":
                seen[rest] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    rng.set_state(tensors["rng"])
    return step, watch.resumed(seen)
