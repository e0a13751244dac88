"""What the tests of the package and of the plugins share: recorded tensors of reference networks.

They lie beside the repository, with their own README; tests that need them skip without them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

PARITY = Path(__file__).parent / "../shared/parity"
TOLERANCE = 2e-5
"""Of the largest value of a tensor."""
# A stranger's package that is not installed here: tests/end_to_end/test_template.py runs its tests where it is.
collect_ignore = ["plugins/template"]


class Golden:
    """One folder: weights under their original names, inputs, outputs and cases."""

    def __init__(self, folder: str):
        self.folder = PARITY / folder
        self.cases: dict[str, dict[str, Any]] = json.loads((self.folder / "cases.json").read_text())
        self.tensors = load_file(self.folder / "inputs_outputs.safetensors")

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Weights whose names start with ``prefix``, without it."""
        spec = importlib.util.spec_from_file_location("formula", PARITY / "formula.py")
        assert spec is not None and spec.loader is not None
        formula = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(formula)
        found = formula.load_weights(self.folder, prefix=prefix)
        return {name[len(prefix) :]: torch.from_numpy(value) for name, value in found.items()}

    def noise(self, name: str = "noise") -> list[Tensor]:
        """The noise maps of one name, in order."""
        count = sum(key.startswith(f"in.{name}.") for key in self.tensors)
        return [self.tensors[f"in.{name}.{k}"] for k in range(count)]

    def meets(self, found: Tensor, name: str) -> None:
        """Asserts that a tensor is the recorded one."""
        wanted = self[name]
        torch.testing.assert_close(found.to(wanted.dtype), wanted, rtol=0, atol=TOLERANCE * float(wanted.abs().max()))

    def official(self, part: int = 0) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the network of official size, the ``part``-th of the folder's list."""
        lists: list[dict[str, tuple[int, ...]]] = []
        comment = True
        for line in (self.folder / "keys_full.txt").read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                if comment:
                    lists.append({})
                name, shape, _ = line.split("\t")
                lists[-1][name] = tuple(json.loads(shape))
            comment = line.startswith("#") or (comment and not line.strip())
        return lists[part]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """Opens a folder of recorded tensors."""
    if not PARITY.is_dir():
        pytest.skip("the recorded tensors are not on this machine")
    return Golden
