"""When the rays of an imported generator are taken in a few steps of Triton's (``fused_march.py``) on CUDA.

Never needed: where Triton is not there, or what a field is made of does not fit, torch's steps are taken. The kernels
are compiled when a field of their kind is first seen (some seconds, kept in Triton's cache), and used only if they
agree with ``ray_field.march_rays`` on a small trial; else one sentence says why not.
"""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache

import torch

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.precision import multiplied
from agile3d_cli.models.ray_field import March, RayField, apart, march_rays, trial_rays

WIDTHS = (16, 128)
"""Fewest and most features, hidden units and colours, each a power of two."""
SAMPLES = (4, 256)
"""Fewest of the coarse pass and most of both."""
AGREES = 1e-4
"""How far the trial may be off, of values up to 3."""
TENSOR_CORES = (8, 0)
"""Compute capability from which on they take TF32."""


def fused_march(field: RayField, config: GeneratorConfig) -> March | None:
    """Marching for the field of a generator that lies on CUDA; None where it is torch's turn."""
    samples, decoder = (config.coarse_samples, config.fine_samples), field.decoder
    if torch.version.cuda is None or not importlib.util.find_spec("triton") or not fits(field, samples):
        return None
    features, hidden = decoder.hidden.shape
    widths = (features, hidden, decoder.output.shape[1])
    found = tried(widths, config.plane_axes, samples, field.planes.table.device)
    if isinstance(found, str):
        warnings.warn(f"{found} Views are made without them.", RuntimeWarning, stacklevel=2)
        return None
    return found


def fits(field: RayField, samples: tuple[int, int]) -> bool:
    """Whether the kernels are written for a field and (coarse, fine) samples."""
    (features, hidden), outputs, (coarse, fine) = field.decoder.hidden.shape, field.decoder.output.shape[1], samples
    tensors = (field.planes.table, field.decoder.hidden, field.decoder.output)
    return (
        all(WIDTHS[0] <= width <= WIDTHS[1] and not width & (width - 1) for width in (features, hidden, outputs - 1))
        and coarse >= SAMPLES[0]
        and fine >= 1
        and coarse + fine <= SAMPLES[1]
        and all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors)
    )


@cache
def tried(widths: tuple[int, int, int], axes: str, samples: tuple[int, int], device: torch.device) -> March | str:
    """The kernels, after a trial, or why they are not used."""
    try:
        from agile3d_cli.models.fused_march import Setting, marching

        old = device.type == "cuda" and torch.cuda.get_device_capability(device) < TENSOR_CORES
        march = marching(Setting(product="ieee") if old else Setting())
        rays = trial_rays(*widths, axes, samples, device)
        with multiplied(device):
            far = apart(march(*rays), march_rays(*rays))
    except Exception as error:  # whatever a compiler may say
        said = (str(error).strip().splitlines() or [""])[0]
        return f"Triton's rays cannot be made here ({type(error).__name__}: {said})."
    return march if far <= AGREES else f"Triton's rays do not agree with torch's ({far:.2g} apart)."
