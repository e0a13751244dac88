"""CPU seconds of turning a head into a mesh, stage by stage, and the gain of the narrow band over the whole grid.

    python -m benchmarks.mesh [--resolution 192 ...] [--rounds 3]

One thread; CPU time, so that other work on the machine counts little; the two ways take turns and the best round
counts. The head is a formula, far cheaper to ask than a generator, so the gain there is nearer to that of points asked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.density import DensityGrid, density_grid
from agile3d_cli.avatar.export import placed
from agile3d_cli.avatar.formula import FormulaHead
from agile3d_cli.avatar.glb import glb_bytes
from agile3d_cli.avatar.mesh import Mesh, extract_mesh
from agile3d_cli.avatar.surface import crossing_surface, outer_shell

Result = TypeVar("Result")
LEVEL = 20.0


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, nargs="+", default=[128, 192, 256])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = FormulaHead()
    print("grid | band s | dense s | ratio | points asked | equal | surface s | whole mesh s | GLB s | faces | closed")
    for resolution in args.resolution:
        band_time = dense_time = float("inf")
        for _ in range(args.rounds):
            seconds, band = timed(partial(density_grid, head, resolution, LEVEL))
            band_time = min(band_time, seconds)
            seconds, dense = timed(partial(density_grid, head, resolution, LEVEL, dense=True))
            dense_time = min(dense_time, seconds)
        surface_time, surface = timed(partial(_shell, band))
        full = _shell(dense)
        equal = all(np.array_equal(a, b) for a, b in zip(surface, full, strict=True))
        config = MeshConfig(resolution=resolution, level=LEVEL)
        whole_time, mesh = timed(partial(extract_mesh, head, config))
        file_time, _ = timed(partial(_file, mesh))
        print(
            f"{resolution:4d} | {band_time:6.2f} | {dense_time:7.2f} | {dense_time / band_time:4.1f}x | "
            f"{band.evaluated:11.1%} | {'yes' if equal else 'NO':5} | {surface_time:9.2f} | {whole_time:12.2f} | "
            f"{file_time:5.2f} | {len(mesh.faces):6d} | {'yes' if mesh.watertight else 'NO'}"
        )


def _shell(grid: DensityGrid) -> tuple[np.ndarray, np.ndarray]:
    return outer_shell(*crossing_surface(grid, LEVEL))


def _file(mesh: Mesh) -> bytes:
    return glb_bytes(placed(mesh))


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of one call, and what it returned."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


if __name__ == "__main__":
    main()
