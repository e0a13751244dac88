"""LoRA files of others -> a large base, in the two dialects in which they are written; safetensors only.

kohya's programs write ``lora_unet_*`` and ``lora_te*_*`` with ``lora_down``, ``lora_up`` and ``alpha``; peft and
diffusers write ``unet.*`` and ``text_encoder*.*`` with ``lora_A`` and ``lora_B``. diffusers translates; here it is
checked that the file is what it seems and that every one of its layers found its place.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from agile3d_cli.errors import MissingError, RefusedError

NAME = "given"
"""Of the adapter in the base."""
FIRST_FACTOR = {
    "kohya": re.compile(r"lora_(unet|te\d?)_.*\.lora_down\.weight"),
    "peft": re.compile(r"(unet|text_encoder(_2)?)\..*\.lora_A\.weight"),
}
"""What a layer is counted by."""
KNOWN = {
    "kohya": re.compile(r"lora_(unet|te\d?)_.*\.(lora_down\.weight|lora_up\.weight|alpha)"),
    "peft": re.compile(r"(unet|text_encoder(_2)?)\..*\.(lora_[AB]\.weight|alpha)"),
}


def read_dialect(path: Path) -> tuple[str, int]:
    """The dialect of a file, "kohya" or "peft", and how many layers it has.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is no safetensors file, or not a LoRA of these two dialects.
    """
    if not path.is_file():
        raise MissingError(f"There is no LoRA file {path}; check the path.")
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise RefusedError(f"{path} is not a safetensors file ({error}); other kinds are not opened.") from error
    for dialect, known in KNOWN.items():
        layers = sum(bool(FIRST_FACTOR[dialect].fullmatch(name)) for name in names)
        if layers and all(known.fullmatch(name) for name in names):
            return dialect, layers
    example = next((n for n in names if not any(known.fullmatch(n) for known in KNOWN.values())), "two dialects mixed")
    raise RefusedError(
        f"{path} is no LoRA that is read here ({example}): give one with kohya's lora_unet_*.lora_down.weight or with "
        "peft's unet.*.lora_A.weight."
    )


def load_lora(pipeline: Any, path: Path) -> None:
    """Puts a LoRA file into a pipeline, as the adapter ``NAME``; RefusedError where it does not fit the base."""
    _, layers = read_dialect(path)
    try:
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, adapter_name=NAME, use_safetensors=True, local_files_only=True
        )
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise RefusedError(f"{path} does not fit this base ({_short(error)}); give a LoRA made for it.") from error
    placed = sum(
        f"lora_A.{NAME}." in name
        for part in pipeline.components.values()
        if hasattr(part, "named_parameters")
        for name, _ in part.named_parameters()
    )
    if placed != layers:
        raise RefusedError(f"{path} has {layers} layers, {placed} of which this base knows; give a LoRA made for it.")


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
