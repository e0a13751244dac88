"""Several processes that learn one style together, each on an accelerator of its own, or a processor's share.

They are started by ``accelerate launch --multi_gpu --num_processes N -m agile3d_cli new-style ...``, or on cores by
``torchrun``. The first makes the pictures and writes all files; the others read what it made, and take part in the
transfer.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from agile3d_cli.device import choose_device
from agile3d_cli.errors import MissingError

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = datetime.timedelta(days=2)
"""How long the others wait for the first: stylizing thousands of pictures takes hours."""
Result = TypeVar("Result")


class Together:
    """This process among those that learn one style."""

    def __init__(self, processes: Accelerator | None = None, device: torch.device | None = None):
        """Alone, unless ``processes`` are several, on ``device``, without one the CPU."""
        self._processes = processes
        self.device = device or torch.device("cpu")
        self.count = 1 if processes is None else processes.num_processes
        self.number = 0 if processes is None else processes.process_index

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    def in_turn(self, make: Callable[[], Result]) -> Result:
        """What ``make`` returns: called by the first process, then by the others, which find what it left on disk."""
        if self._processes is None:
            return make()
        with self._processes.main_process_first():
            return make()

    def add_up(self, values: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""
        if self._processes is None:
            return
        sums: list[Tensor] = self._processes.reduce(list(values), "sum")
        for own, total in zip(values, sums, strict=True):
            own.copy_(total)


def join(device: str) -> Together:
    """Joins the processes that were started together.

    Args:
        device: the user's word, see ``choose_device``; of several accelerators each process takes one.

    Raises:
        DeviceError: this machine has no such device.
        MissingError: several were started, and the package that joins them is not installed.
    """
    chosen = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Together(device=chosen)
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as error:
        raise MissingError("Several processes need the package accelerate: pip install 'agile3d[train]'.") from error
    processes = Accelerator(cpu=chosen.type == "cpu", kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    return Together(processes, processes.device)
