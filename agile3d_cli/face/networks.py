"""The shipped ONNX networks: opened when first used, once per process."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np

from agile3d_cli.errors import MissingError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def run_network(name: str, batch: np.ndarray, threads: int) -> list[np.ndarray]:
    """Outputs of the shipped network ``name`` for one float32 input (N, C, H, W), in the model file's order."""
    session = _session(name, threads)
    outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: batch})
    return outputs


@cache
def _session(name: str, threads: int) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads give the cores back instead of spinning.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with as_file(files("agile3d_cli") / "assets" / f"{name}.onnx") as path:
        if not path.is_file():
            raise MissingError(f"The shipped network {path} is missing; install agile3d again.")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
