"""Folder or hub name -> a pipeline of diffusers, ready for use: no pickle opened, no code run, memory as wished.

Pipelines are loaded with ``use_safetensors=True``, so one whose weights lie there only as pickles is an error. Nothing
is fetched unless the user has just named a base on the hub, and never with ``--offline``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from agile3d_cli.errors import DeviceError, MissingError, RefusedError
from agile3d_diffusion.config import DiffusionConfig
from agile3d_diffusion.foreign_lora import load_lora

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def open_pipeline(config: DiffusionConfig, fetch: bool) -> Any:
    """The image-to-image pipeline of the settings, frozen, with LoRA, ControlNet and IP-Adapter where they are named.

    Raises:
        MissingError: something that the settings name is not here.
        RefusedError: it is there, and no safetensors or not what it should be.
        DeviceError: ``memory`` is "offload" without an accelerator.
    """
    from diffusers import AutoPipelineForImage2Image, ControlNetModel
    from diffusers.utils import logging as diffusers_messages
    from transformers.utils import logging as transformers_messages

    for messages in (diffusers_messages, transformers_messages):
        # Our own progress and errors say what there is to say.
        messages.set_verbosity_error()
        messages.disable_progress_bar()
    if config.memory == "offload" and not torch.cuda.is_available():
        raise DeviceError('memory is "offload", which needs an accelerator; this machine has none. Use "sliced".')
    further = {"controlnet": _opened(ControlNetModel, config.controlnet, fetch)} if config.controlnet else {}
    pipeline = _opened(AutoPipelineForImage2Image, config.base, fetch, **further)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if config.memory != "full":
        pipeline.enable_attention_slicing()
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
    if config.ip_adapter:
        _add_ip_adapter(pipeline, Path(config.ip_adapter), config.ip_weight)
    if config.lora:
        load_lora(pipeline, Path(config.lora))
    if config.memory == "offload":
        pipeline.enable_model_cpu_offload()
    return pipeline


def _opened(kind: Any, where: str, fetch: bool, **further: Any) -> Any:
    """A model or pipeline from a folder or the hub."""
    folder = Path(where)
    if folder.is_file():
        raise RefusedError(
            f"{where} is a single file; give the folder of a pipeline (with model_index.json), as diffusers saves it."
        )
    if not folder.is_dir() and not HUB_NAME.fullmatch(where):
        raise MissingError(
            f'There is no folder {where}; give a pipeline\'s folder, a hub name "owner/model" or "tiny".'
        )
    online = fetch and not folder.is_dir() and os.environ.get("HF_HUB_OFFLINE", "") not in ("1", "true", "True", "ON")
    try:
        return kind.from_pretrained(where, use_safetensors=True, local_files_only=not online, **further)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        if folder.is_dir():
            raise RefusedError(f"{where} cannot be opened as a base with safetensors weights: {reason}") from error
        raise MissingError(
            f"{where} is not on this machine and was not fetched ({reason}); download it, or give its folder."
        ) from error


def _add_ip_adapter(pipeline: Any, path: Path, weight: float) -> None:
    """Loads an IP-Adapter and the image encoder that lies beside it."""
    from safetensors.torch import load_file
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    encoder = path.parent / "image_encoder"
    for wanted, is_there in ((path, path.is_file()), (encoder, encoder.is_dir())):
        if not is_there:
            raise MissingError(f"There is no {wanted}; an IP-Adapter is a .safetensors file beside its image_encoder.")
    try:
        flat = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RefusedError(f"{path} is not a safetensors file ({error}); other kinds are not opened.") from error
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in flat.items():
        head, _, rest = name.partition(".")
        if head not in parts or not rest:
            raise RefusedError(f"{path} is no IP-Adapter: it holds {name!r} beside image_proj.* and ip_adapter.*.")
        parts[head][rest] = value
    # Put in before the adapter: without an image encoder, diffusers would look for one by itself.
    seer = _opened(CLIPVisionModelWithProjection, str(encoder), fetch=False).eval().requires_grad_(False)
    size = seer.config.image_size
    eye = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    pipeline.register_modules(image_encoder=seer, feature_extractor=eye)
    try:
        pipeline.load_ip_adapter(parts, subfolder="", weight_name="", image_encoder_folder=None)
    except (ValueError, RuntimeError, KeyError) as error:
        raise RefusedError(f"{path} does not fit this base ({error}); give an IP-Adapter made for it.") from error
    pipeline.set_ip_adapter_scale(weight)
