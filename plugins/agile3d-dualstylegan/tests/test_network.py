"""DualStyleGAN's generator: recorded tensors are met, official names and shapes load, others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from agile3d_dualstylegan.dial import SCRIPT_TRUNCATION, STYLES, dial, fused, keeping_color
from agile3d_dualstylegan.network import DualStyleGAN, config_of, generator_from, names
from torch import Tensor, nn

from agile3d_cli.errors import RefusedError
from agile3d_cli.models.stylegan2 import Block, StyleGAN2Config, added, configuration_f, truncated

Opened = Callable[[str], Any]
"""The fixture ``golden``: opens a folder of recorded tensors."""
MICRO = StyleGAN2Config((4, 4, 5, 4, 3), 8, 2)


def weights_of(case: dict[str, Any], count: int) -> tuple[float, ...]:
    """The dial of a recorded case: the reference takes 18 weights at any size, and a limit."""
    told = case.get("interp_weights", "all 0")
    every = [float(told.removeprefix("all "))] * STYLES if isinstance(told, str) else told
    return fused(every[:count], case.get("fuse_index", STYLES))


def styles_of(known: Any, network: DualStyleGAN, case: dict[str, Any]) -> Tensor:
    """The face's styles of a recorded case."""
    given = [known[f"in.{name}"] for name in case["styles"]]
    count = network.config.num_ws
    mapped = given if case.get("input_is_latent") else [network.generator.mapping(z) for z in given]
    rows = [w if w.ndim == 3 else w[:, None].expand(-1, count, -1) for w in mapped]
    split = case.get("inject_index", count)
    ws = torch.cat([rows[0][:, :split], rows[-1][:, split:]], 1)
    return truncated(ws, torch.zeros(ws.shape[-1]), case["truncation"]) if "truncation" in case else ws


def exemplar_of(known: Any, network: DualStyleGAN, case: dict[str, Any]) -> Tensor:
    """The exemplar's styles of a recorded case."""
    code: Tensor = known["in." + str(case["exstyles"] or "ex_w_plus").split(" ")[0]]
    return code if code.ndim == 3 else code[:, None].expand(-1, network.config.num_ws, -1)


def modules_of(network: DualStyleGAN) -> dict[str, nn.Module]:
    """The reference's path of a module -> ours."""
    found: dict[str, nn.Module] = {}
    convs = [conv for block in network.generator.blocks if isinstance(block, Block) for conv in block.convolutions]
    outputs = [block.output for block in network.generator.blocks if isinstance(block, Block)]
    for k, conv in enumerate(convs):
        found[f"generator.convs.{k - 1}" if k else "generator.conv1"] = conv
    for k, output in enumerate(outputs):
        found[f"generator.to_rgbs.{k - 1}" if k else "generator.to_rgb1"] = output
    return found | {f"res.{k}": module for k, module in enumerate([*network.residuals, *network.colors])}


def as_recorded(folder: str, value: Tensor, like: Tensor) -> Tensor:
    """What a folder keeps of a map."""
    if value.ndim < 4:
        return value
    value = value[:1]
    if folder.endswith("-wide"):
        value = value[:, ::32]
    if folder.endswith("-1024"):
        value = value[:, :: max(value.shape[1] // 8, 1)]
        value = F.avg_pool2d(value, max(value.shape[-1] // 16, 1))
    assert value.shape == like.shape
    return value


FOLDERS = [
    "dualstylegan-small",
    "dualstylegan-wide",
    pytest.param("dualstylegan-1024", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_recorded_picture_is_met(folder: str, golden: Opened) -> None:
    # Worst difference measured: 9e-6 of a tensor's largest value.
    known = golden(folder)
    network = generator_from(known.weights())
    seen: dict[str, Tensor] = {}
    for path, module in modules_of(network).items():
        module.register_forward_hook(lambda _, __, result, path=path: seen.__setitem__(path, result))
    for name, case in known.cases.items():
        seen.clear()
        ws, extrinsic = styles_of(known, network, case), exemplar_of(known, network, case)
        weights = weights_of(case, network.config.num_ws)
        if case.get("return_feat"):
            for part, value in zip(("features", "skip"), network.features(ws, extrinsic, weights), strict=True):
                known.meets(value, f"{name}.{part}")
            continue
        image = network(ws, extrinsic, weights, known.noise() if case["noise"] != "buffers" else None)
        known.meets(ws, f"{name}.latent")
        if folder.endswith("-1024"):
            known.meets(F.avg_pool2d(image, 8), f"{name}.image_pooled")
            known.meets(image[:, :, 480:544, 480:544], f"{name}.image_crop")
        else:
            known.meets(image, f"{name}.image")
        skip: Tensor | None = None
        for path in [path for path in seen if "to_rgb" in path]:
            skip = seen[path] = added(skip, seen[path])
        seen["style"] = network.transform(extrinsic).flatten(0, -2)
        seen["generator.style"] = network.generator.mapping(known[f"in.{case['styles'][0]}"]).flatten(0, -2)
        for key in [key for key in known.tensors if key.startswith(f"{name}.at.")]:
            path = key.removeprefix(f"{name}.at.").removesuffix(".call2")
            known.meets(as_recorded(folder, seen[path], known[key]), key)


def test_exemplar_codes_are_mapped_and_colours_kept_as_recorded(golden: Opened) -> None:
    known = golden("dualstylegan-small")
    mapping = generator_from(known.weights()).generator.mapping
    known.meets(mapping(known["in.ex_z_plus"]), "in.ex_w_plus")
    kept = keeping_color(known["in.ex_z_plus"], known["in.z_plus"])
    known.meets(mapping(kept), "in.ex_w_plus_keep_color")


def test_the_dials_of_the_published_scripts_are_ours(golden: Opened) -> None:
    case = golden("dualstylegan-1024").cases["script"]
    assert dial() == tuple(case["interp_weights"]) and case["truncation"] == SCRIPT_TRUNCATION


@pytest.mark.parametrize(("part", "size"), [(0, 1024), (1, 512)])
def test_every_official_name_and_shape_loads(part: int, size: int, golden: Opened) -> None:
    official = golden("dualstylegan-small").official(part)
    assert set(names(configuration_f(size)).values()) == {n for n in official if not n.endswith(".kernel")}
    blank = {name: torch.zeros(()).expand(shape) for name, shape in official.items()}
    assert generator_from(blank).config == config_of(blank) == configuration_f(size)


def stored(network: DualStyleGAN) -> dict[str, Tensor]:
    """As a published file holds a generator."""
    state = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in names(network.config).items()}
    return tensors | {"generator.input.input": state["generator.const"][None]}


def test_a_generator_comes_back_from_the_published_layout() -> None:
    network = DualStyleGAN(MICRO)
    again = generator_from(stored(network) | {"generator.convs.0.conv.blur.kernel": torch.zeros(4, 4)})
    assert again.config == MICRO and not any(value.requires_grad for value in again.parameters())
    assert network.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", sorted(names(MICRO).values()))
def test_a_tensor_that_is_lost_cut_or_damaged_is_refused(name: str) -> None:
    tensors = stored(DualStyleGAN(MICRO))
    lost = {key: value for key, value in tensors.items() if key != name}
    broken = tensors | {name: torch.full_like(tensors[name], float("nan"))}
    whole = tensors[name]
    cut = tensors | {name: whole.flatten()[:-1] if whole.numel() > 1 else torch.zeros(2)}
    for given in (lost, cut, broken):
        with pytest.raises(RefusedError, match="The checkpoint"):
            generator_from(given)
    if name.startswith(("res.", "style.")):
        with pytest.raises(RefusedError, match=f"missing {name}"):
            generator_from(lost)


@pytest.mark.parametrize("extra", ["res.10.weight", "res.7.conv.0.weight", "style.3.weight", "generator.odd", "odd"])
def test_a_tensor_too_many_is_refused(extra: str) -> None:
    with pytest.raises(RefusedError, match=f"unknown {extra}"):
        generator_from(stored(DualStyleGAN(MICRO)) | {extra: torch.zeros(8, 8)})


def test_what_is_no_generator_is_refused() -> None:
    with pytest.raises(RefusedError, match="not a DualStyleGAN generator"):
        generator_from({})
    with pytest.raises(RefusedError, match="not a DualStyleGAN generator"):
        generator_from({"input.input": torch.zeros(1, 4, 4, 4)})
    plain = {n.removeprefix("generator."): v for n, v in stored(DualStyleGAN(MICRO)).items()}
    with pytest.raises(RefusedError, match="not a DualStyleGAN generator"):
        generator_from(plain)


@pytest.mark.parametrize(("levels", "w_dim"), [(3, 8), (40, 8), (5, 0)])
def test_sizes_that_make_no_generator_are_refused(levels: int, w_dim: int) -> None:
    told = {"input.input": torch.zeros(1, 4, 4, 4), "conv1.conv.modulation.weight": torch.zeros(4, w_dim)}
    told |= {f"to_rgbs.{k}.conv.weight": torch.zeros(1) for k in range(levels - 1)}
    told |= {f"convs.{2 * k + 1}.activate.bias": torch.zeros(4) for k in range(levels - 1)}
    with pytest.raises(RefusedError, match="sizes"):
        generator_from({f"generator.{name}": value for name, value in told.items()})
