"""Where to compute: a word of the user to a torch device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agile3d_cli.errors import DeviceError

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU.

    Apple's "mps" is only taken when asked for: not every operation exists there.

    Raises:
        DeviceError: this machine or this build of torch has no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        built = "" if torch.version.cuda else f" (torch {torch.__version__} is a build without CUDA)"
        raise DeviceError(f"There is no CUDA device here{built}; use --device cpu, or look at `agile3d doctor`.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no Apple GPU for torch here; use --device cpu, or look at `agile3d doctor`.")
    if name not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"There is no device {name!r}; choose one of auto, cpu, cuda, mps.")
    return torch.device(name)
