"""How exactly numbers are multiplied: what CUDA may round is said here, whatever the rest of the program has set.

TF32 keeps ten bits of what it multiplies. Torch lets CUDA's convolutions use it unless told otherwise, and its matrix
products if told so. In the published path float32 means float32; TF32 is a precision of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
"""What convolutions are made of. ``tf32`` differs from ``float32`` on CUDA only."""
EXACT, TF32 = "ieee", "tf32"
"""As torch calls them."""


def rounds(precision: str) -> bool:
    """Whether CUDA's convolutions may use TF32 at a key of ``PRECISIONS``."""
    return precision == "tf32"


@contextmanager
def multiplied(device: torch.device, tf32: bool = False) -> Iterator[None]:
    """Convolutions on a CUDA device in float32, or in TF32 if it is asked for, and matrix products in float32; what
    was set before is set again afterwards. Does nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    with _convolutions(tf32), _products():
        yield


@contextmanager
def _convolutions(tf32: bool) -> Iterator[None]:
    # From torch 2.9 on the older setting falls back on one for everything, so that off is not off.
    newer = getattr(torch.backends.cudnn, "conv", None)
    owner, name = (newer, "fp32_precision") if newer else (torch.backends.cudnn, "allow_tf32")
    wanted: object = tf32
    if newer:
        wanted = TF32 if tf32 else EXACT
    before = getattr(owner, name)
    setattr(owner, name, wanted)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _products() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # the newer setting was used, and torch does not tell the older one beside it
        older = "highest"
    if older != "highest":
        matmul.allow_tf32 = False
        try:
            yield
        finally:
            # Torch knows two ways that are one on CUDA, and the second is told to CPUs too.
            if older == "medium":
                torch.set_float32_matmul_precision(older)
            else:
                matmul.allow_tf32 = True
    elif getattr(matmul, "fp32_precision", None) == TF32:
        matmul.fp32_precision = EXACT
        try:
            yield
        finally:
            matmul.fp32_precision = TF32
    else:
        yield
