"""Official tensors + what their file says of rendering -> the configuration of the same generator here.

Sizes are read off the tensors, everything else comes from the file's rendering options. Where a file says nothing of
rendering, as plain state dictionaries do, the values of the published FFHQ and AFHQ networks are taken, and said.
Source: EG3D (Chan et al., CVPR 2022), supplement; the meaning of the options was checked against recorded tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from reprlib import repr as shortened
from typing import Any

from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.config import GeneratorConfig, PublishedConfig, SuperresolutionConfig
from agile3d_cli.models.foreign_mmagic import MMAGIC, SAID, published_like
from agile3d_cli.models.foreign_networks import ForeignNetwork

ASSUMED = {
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1.0,
    "depth_resolution": 48,
    "depth_resolution_importance": 48,
    "c_scale": 1.0,
}
ASSUMED_SIZE, ASSUMED_RENDERED = 512, 128
"""Rendering of the published networks whose pictures have ``ASSUMED_SIZE`` pixels."""
ONLY: dict[str, tuple[Any, ...]] = {
    "clamp_mode": ("softplus",),
    "superresolution_noise_mode": ("none",),
    "disparity_space_sampling": (False,),
    "decoder_lr_mul": (1,),
    "density_noise": (0,),
}
"""Options of which one value is understood."""
ENTRY = 128
"""The published super-resolutions begin at so many pixels, or at the size of their first block if that is less."""
HALF_PRECISION_CLAMP = 256.0
"""Where layers were trained in half precision, their activations are held in this range, on a CPU too."""
MOST_SAMPLES, MOST_RENDERED = 1024, 1024
SR_ENTRY = "sr_in_size"
"""What MMagic calls the pixels at which super-resolution begins."""


def eg3d_config(network: ForeignNetwork, rendered: int | None = None) -> tuple[GeneratorConfig, list[str]]:
    """The configuration of a generator, and what had to be assumed, one sentence each.

    Args:
        network: as its file holds it.
        rendered: pixels of the rendered picture, over what the file says.

    Raises:
        RefusedError: the tensors are not of this family, or an option is not understood.
    """
    tensors, notes = network.tensors, list[str]()
    if network.layout == MMAGIC:
        network, notes = _with_mmagic_options(network, rendered)
    try:
        larger = _superresolution(network)
        size = larger.sizes[-1] if larger.sizes else 0
        options = network.rendering
        if options is None:
            if size != ASSUMED_SIZE:
                raise RefusedError(
                    f"The file says nothing of rendering, and its pictures have {size} pixels, not {ASSUMED_SIZE} as "
                    "those of the FFHQ and AFHQ networks; give its options with --rendering."
                )
            options = ASSUMED
            notes.append("The file says nothing of rendering; the options of EG3D FFHQ were taken (--rendering).")
        elif "c_scale" not in options and not options.get("c_gen_conditioning_zero"):
            options = {**options, "c_scale": 1.0}
            notes.append("The file does not say by how much it scales camera labels (c_scale); 1 was taken.")
        _understood(options, network.settings)
        pixels = rendered if rendered is not None else network.rendered
        if pixels is None:
            pixels = ASSUMED_RENDERED
            notes.append(f"The file does not say how many pixels it renders; {pixels} were taken (--rendered).")
        _in_range("rendered pixels", pixels, 4, MOST_RENDERED)
        config = GeneratorConfig(
            **_sizes(tensors),
            box=float(_number(options, "box_warp", 0.01, 100)),
            near=float(_number(options, "ray_start", 0.001, 100)),
            far=float(_number(options, "ray_end", 0.001, 100)),
            coarse_samples=_count(options, "depth_resolution"),
            fine_samples=_count(options, "depth_resolution_importance"),
            mapping_lr=float(_number(_mapping(network.settings), "lr_multiplier", 1e-6, 1)),
            superresolution=SuperresolutionConfig(pixels, larger.entry, larger.sizes, larger.channels, larger.clamp),
            published=PublishedConfig(
                label_scale=0.0
                if options.get("c_gen_conditioning_zero")
                else float(_number(options, "c_scale", 0, 100)),
                white_back=bool(options.get("white_back", False)),
                folded=True,
            ),
        )
    except ConfigError as error:
        raise RefusedError(f"The checkpoint is no EG3D generator: {error}") from error
    return config, notes


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields that the shapes of the tensors tell."""
    w_dim = _shape(tensors, "backbone.mapping.w_avg", 1)[0]
    embed = tensors.get("backbone.mapping.embed.weight")
    label_dim = 0 if embed is None else embed.shape[-1]
    layers = _numbered(tensors, "backbone.mapping.fc{}.weight", range(64))
    first = _shape(tensors, "backbone.mapping.fc0.weight", 2)[1]
    steps = [2**k for k in range(2, 13)]
    resolutions = [r for r in steps if f"backbone.synthesis.b{r}.conv1.weight" in tensors]
    if not resolutions or resolutions != steps[: len(resolutions)]:
        raise RefusedError(f"The checkpoint's backbone has the resolutions {resolutions}, not 4, 8, 16 and so on.")
    widths = {r: _shape(tensors, f"backbone.synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions}
    last, widest = resolutions[-1], max(widths.values())
    base = widths[last] * last
    if any(width != min(base // r, widest) for r, width in widths.items()):
        raise RefusedError(f"The checkpoint's backbone has the widths {list(widths.values())}, unlike its family.")
    hidden, channels = _shape(tensors, "decoder.net.0.weight", 2)
    return {
        "z_dim": first - (w_dim if label_dim else 0),
        "w_dim": w_dim,
        "label_dim": label_dim,
        "mapping_layers": len(layers),
        "plane_size": last,
        "plane_channels": channels,
        "channel_base": base,
        "channel_max": widest,
        "decoder_hidden": hidden,
        "feature_channels": _shape(tensors, "decoder.net.2.weight", 2)[0] - 1,
    }


def _with_mmagic_options(network: ForeignNetwork, rendered: int | None) -> tuple[ForeignNetwork, list[str]]:
    """A network with MMagic's names and what its configuration would say, and what of that was assumed."""
    known = published_like(network.tensors, network.doubles)
    if known is None and (network.rendering is None or network.entry is None):
        blocks = [network.tensors[f"superresolution.block{k}.conv1.bias"].shape[0] for k in range(len(network.doubles))]
        raise RefusedError(
            "The file has MMagic's names, but the sizes of none of the EG3D networks that MMagic publishes (its "
            f"super-resolution has {blocks} channels), so its configuration is not known; give rendering options "
            f"and {SR_ENTRY} with --rendering."
        )
    if known is None:
        return network, [SAID]
    assumed: dict[str, Any] = {}
    if network.rendering is None:
        assumed |= known.rendering
        network = replace(network, rendering=known.rendering)
    if network.entry is None:
        assumed[SR_ENTRY] = known.entry
        network = replace(network, entry=known.entry)
    if network.rendered is None and rendered is None:
        assumed["neural_rendering_resolution"] = known.rendered
        network = replace(network, rendered=known.rendered)
    if not assumed:
        return network, [SAID]
    told = ", ".join(f"{name} {value}" for name, value in assumed.items())
    return network, [
        f"MMagic's files hold no options; those of its {known.name} were taken (--rendering): {told}.",
        SAID,
    ]


def _superresolution(network: ForeignNetwork) -> SuperresolutionConfig:
    """The blocks that are there, by the sizes of the noise that they never add, or by which of them double."""
    tensors, name = network.tensors, "superresolution.block{}.conv1.noise_const"
    if network.doubles:
        entry = int(_in_range(SR_ENTRY, network.entry, 4, MOST_RENDERED))
        sizes = tuple(entry << sum(network.doubles[: k + 1]) for k in range(len(network.doubles)))
        blocks = [name.format(k) for k in range(len(network.doubles))]
    else:
        blocks = _numbered(tensors, name, range(8))
        sizes = tuple(_shape(tensors, block, 2)[-1] for block in blocks)
        entry = min(ENTRY, *sizes) if sizes else ENTRY
    if not sizes and any(name.startswith("superresolution.") for name in tensors):
        raise RefusedError(f"The checkpoint's super-resolution has no {name.format(0)}, which tells its size.")
    channels = tuple(_shape(tensors, block.replace("noise_const", "weight"), 4)[0] for block in blocks)
    half = network.settings.get("sr_num_fp16_res", 1)
    return SuperresolutionConfig(
        entry=entry,
        sizes=sizes,
        channels=channels,
        clamp=HALF_PRECISION_CLAMP if half else 0.0,
    )


def _understood(options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for name, known in ONLY.items():
        if name in options and options[name] not in known:
            raise RefusedError(
                f"The checkpoint is rendered with {name} = {shortened(options[name])}; {known[0]!r} is known."
            )
    if settings.get("conv_clamp") is not None and settings.get("num_fp16_res"):
        raise RefusedError(
            "The checkpoint's backbone works in half precision, which is not known; only its float32 is."
        )


def _numbered(tensors: Mapping[str, Tensor], pattern: str, numbers: range) -> list[str]:
    """The names that are there, from the first to before the first that is not."""
    names: list[str] = []
    for number in numbers:
        if pattern.format(number) not in tensors:
            break
        names.append(pattern.format(number))
    return names


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in tensors:
        raise RefusedError(f"The checkpoint is no EG3D generator: it has no {name}.")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise RefusedError(f"The checkpoint's {name} has the shape {shape}; {dimensions} edges are expected.")
    return shape


def _mapping(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    found = settings.get("mapping_kwargs")
    usual = {"lr_multiplier": GeneratorConfig.mapping_lr}
    return usual | found if isinstance(found, dict) else usual


def _number(options: Mapping[str, Any], name: str, low: float, high: float) -> int | float:
    if name not in options:
        raise RefusedError(f"The checkpoint's rendering options say nothing of {name}; give them with --rendering.")
    return _in_range(name, options[name], low, high)


def _count(options: Mapping[str, Any], name: str) -> int:
    return int(_number(options, name, 2, MOST_SAMPLES))


def _in_range(name: str, value: Any, low: float, high: float) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RefusedError(
            f"The checkpoint's {name} is {shortened(value)}; a number from {low:g} to {high:g} is expected."
        )
    return value
