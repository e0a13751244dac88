"""The optional native part: what torch's steps are slowest at when imported generators are rendered, compiled.

Never needed, and built only when asked for (``agile3d models native``): one file is handed to a C++ compiler, and the
library lies in the user's cache, under a name that holds source, compiler options and processor. It is used if it is
there, and only if it agrees with ``ray_field.march_rays``, its twin, on a small trial; else one sentence says why not.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.errors import Agile3dError
from agile3d_cli.models.folded import Smooth, smooth
from agile3d_cli.models.layers import SLOPE
from agile3d_cli.models.ray_field import March, Marched, RayField, march_rays, trial_rays

SOURCE = Path(__file__).with_name("native.cpp")
OPTIONS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-ffp-contract=fast", "-fno-math-errno")
WIDTHS = (32, 64, 33)
"""Features, hidden and outputs that the source is written for."""
SAMPLES = (4, 256)
"""Fewest and most samples of a pass."""
AGREES = 1e-4
"""How far the trial may be off, of values up to 3; measured: 5e-6."""
MINUTES = 5


@dataclass(frozen=True)
class Native:
    """What a library does."""

    march: March
    """As ``ray_field.march_rays``, of what ``fits``."""
    smooth: Smooth
    """As ``folded.smooth``."""


class NativeError(Agile3dError):
    """The native part cannot be built or used."""


def built() -> Path:
    """Where the library of this source, these options and this processor lies, or would lie."""
    text = SOURCE.read_bytes() + repr((OPTIONS, _tuning(), _processor())).encode()
    import platformdirs

    folder = platformdirs.user_cache_path("agile3d", appauthor=False) / "native"
    return folder / f"native-{hashlib.sha256(text).hexdigest()[:16]}.so"


def build() -> Path:
    """Compiles the library, tries it, and puts it where ``compiled`` finds it.

    Raises:
        NativeError: there is no compiler, it fails, or the result does not agree with its twin.
    """
    target = built()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NativeError(f"{target.parent} cannot be written to ({error}).") from error
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        command = [*_compiler(), *OPTIONS, *_tuning(), str(SOURCE), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeError(f"The compiler could not be run: {error}.") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise NativeError(f"The compiler {command[0]} failed: {last}")
        _tried(made)
        os.replace(made, target)
    compiled.cache_clear()
    return target


@cache
def compiled() -> Native | None:
    """The native part; None where it was not built, or a warning says why not."""
    path = built()
    if not path.is_file():
        return None
    try:
        return _tried(path)
    except NativeError as error:
        warnings.warn(f"{error} Views are made without it.", RuntimeWarning, stacklevel=2)
        return None


def fits(field: RayField, samples: tuple[int, int]) -> bool:
    """Whether a field and samples (coarse, fine) are of the kind that the source is written for."""
    widths = (*field.decoder.hidden.shape, field.decoder.output.shape[1])
    least, most = SAMPLES
    on_cpu = field.planes.table.device.type == "cpu" and field.planes.size[0] == field.planes.size[1]
    return widths == WIDTHS and on_cpu and all(least <= count <= most for count in samples)


def _compiler() -> list[str]:
    """The command of a C++ compiler: what CXX says, one on the path, or that of ``agile3d[native]``."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name.split()[0]):
            return name.split()
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise NativeError("There is no C++ compiler. Install one, or: pip install 'agile3d[native]'")


def _tuning() -> tuple[str, ...]:
    return ("-mcpu=native",) if platform.machine() in ("arm64", "aarch64") else ("-march=native",)


def _processor() -> tuple[str, ...]:
    """What the code is made for; another processor that shares the cache gets a library of its own."""
    flags = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return platform.system(), platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability(), flags


def _tried(path: Path) -> Native:
    """Loads a library and compares it with its twins on small random numbers."""
    try:
        library = ctypes.CDLL(str(path))
        found = Native(partial(_march, library.agile3d_march), partial(_smooth, library.agile3d_smooth))
    except (OSError, AttributeError) as error:
        raise NativeError(f"The native part {path} cannot be loaded ({error}).") from error
    library.agile3d_march.restype = ctypes.c_int
    library.agile3d_smooth.restype = None
    rng = torch.Generator().manual_seed(0)
    rays = trial_rays(*WIDTHS)
    picture = torch.randn(1, 32, 15, 41, generator=rng).contiguous(memory_format=torch.channels_last)
    after = (picture, torch.randn(32, generator=rng), torch.randn(1, 1, 12, 40, generator=rng), 2.0)
    ours, wanted = torch.empty(2, 1, 12, 40, 32).permute(0, 1, 4, 2, 3)
    found.smooth(*after, ours)
    smooth(*after, wanted)
    pairs = [*zip(found.march(*rays), march_rays(*rays), strict=True), (ours, wanted)]
    for ours, wanted in pairs:
        if not torch.isfinite(ours).all() or float((ours - wanted).abs().max()) > AGREES:
            raise NativeError(f"The native part {path} does not agree with its twin; build it anew.")
    return found


def _march(
    function: Callable[..., int],
    field: RayField,
    origin: Tensor,
    direction: Tensor,
    first: Tensor,
    draws: Tensor | None,
    fine: int,
) -> Marched:
    """Rays (R, 3) with coarse depths (R, S) and draws (R or 1, fine)."""
    count, colours = len(first), field.decoder.output.shape[1] - 1
    origin, direction, first = origin.contiguous(), direction.contiguous(), first.contiguous()
    draws = None if draws is None else draws.contiguous()
    output = field.decoder.output
    density, colour, bias = output[:, 0].contiguous(), output[:, 1:].contiguous(), field.decoder.output_bias
    hidden, hidden_bias = field.decoder.hidden.contiguous(), field.decoder.hidden_bias.contiguous()
    mix, rest = first.new_empty(count, colours), first.new_empty(4, count)
    pairs = (ctypes.c_int * (2 * len(field.planes.pairs)))(*(axis for pair in field.planes.pairs for axis in pair))
    failed = function(
        _at(field.planes.table),
        ctypes.c_int(field.planes.size[0]),
        ctypes.c_int(len(field.planes.pairs)),
        pairs,
        ctypes.c_float(2 / field.box),
        *(_at(tensor) for tensor in (hidden, hidden_bias, density, colour, bias)),
        ctypes.c_int64(count),
        *(_at(tensor) for tensor in (origin, direction, first)),
        ctypes.c_int(first.shape[1]),
        _at(draws),
        ctypes.c_int64(0 if draws is None or len(draws) == 1 else fine),
        ctypes.c_int(fine),
        *(_at(tensor) for tensor in (mix, *rest)),
        ctypes.c_int(torch.get_num_threads()),
    )
    assert not failed, "fits() lets only what the source is written for pass"
    return Marched(mix, *rest)


def _smooth(
    function: Callable[..., None], x: Tensor, bias: Tensor, noise: Tensor | None, clamp: float, found: Tensor
) -> None:
    """Float32 on the CPU, with channels in sixteens; all else is left to the twin."""
    _, channels, height, width = found.shape
    if x.dtype != torch.float32 or x.device.type != "cpu" or channels % 16:
        smooth(x, bias, noise, clamp, found)
        return
    x = x.contiguous(memory_format=torch.channels_last)
    assert found.is_contiguous(memory_format=torch.channels_last), "channels last is how pictures lie here"
    bias, noise = bias.contiguous(), None if noise is None else noise.contiguous()
    sizes = (ctypes.c_int(count) for count in (height, width, channels))
    edges = (ctypes.c_float(SLOPE), ctypes.c_float(clamp))
    threads = ctypes.c_int(torch.get_num_threads())
    function(_at(x), *sizes, _at(bias), _at(noise), *edges, _at(found), threads)


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
