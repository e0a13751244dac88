"""What work on a device takes: by the device's own clock where it has one."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Result = TypeVar("Result")


@dataclass
class Clock:
    """Milliseconds of work on a device, all of each stage."""

    device: torch.device
    spent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def time(self, stage: str, work: Callable[[], Result]) -> Result:
        """Runs a stage and keeps its time."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = work()
            end.record()
            end.synchronize()
            self.spent[stage].append(start.elapsed_time(end))
            return result
        self._wait()
        before = time.perf_counter()
        result = work()
        self._wait()
        self.spent[stage].append(1000 * (time.perf_counter() - before))
        return result

    def medians(self) -> dict[str, float]:
        """Of each stage."""
        return {stage: statistics.median(times) for stage, times in self.spent.items()}

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
