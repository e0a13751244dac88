"""Files of EG3D-type networks -> the generator's tensors under official names, and what the file says of rendering.

Official names, or those of MMagic's toolbox, which ``foreign_mmagic.py`` turns into official ones.
The container is told by its content, never by its name: network pickles (objects with the source text of their
classes), PyTorch's zip and older format, and safetensors. No class is imported and no source text is read: an object is
its state, and only the parameters and buffers of one generator are turned into tensors.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.models.foreign_files import guarded, is_zip, read_legacy, read_zip
from agile3d_cli.models.foreign_mmagic import MMAGIC, MMAGIC_ANCHOR, official
from agile3d_cli.models.foreign_steps import Entries, Shell, StepError, Thing, carry_out, check_key
from agile3d_cli.models.foreign_values import DEEPEST, STORAGES, TABLE, Plain, Storage, Strided, number_of

LARGEST_NETWORK = 2 << 30
"""Bytes of a file; the official ones have less than a quarter."""
MOST_MODULES, MOST_OPTIONS = 20_000, 2_000
"""Objects of a network, and entries of its options."""
PICKLES = (b"\x80", b"c", b"(", b"}", b"]")
"""How pickles begin, those of the oldest kinds too."""
LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How PyTorch's older files begin."""
HEADER_PLACE, HEADER_START = 8, b"{"
"""Where the header of a safetensors file begins, and how."""
HOLDERS = ("G_ema", "g_ema", "generator_ema", "params_ema", "state_dict", "G", "generator", "model")
"""Names under which files hold their generator, the averaged one first."""
OFFICIAL = "eg3d"
"""What the record of a conversion calls the official names."""
ANCHORS = {OFFICIAL: "backbone.mapping.w_avg", MMAGIC: MMAGIC_ANCHOR}
"""A tensor that every generator with these names has; what stands before its name is left away from all names."""
LOG = ("mmengine.logging.history_buffer", "HistoryBuffer")
"""Class of the numbers that MMagic's training notes beside its networks; a mere shell, as none of them is needed."""
SETTINGS = ("num_fp16_res", "conv_clamp", "sr_num_fp16_res", "mapping_kwargs", "img_channels", "img_resolution")
"""Arguments of the network that matter when it runs."""
SHELLS = ("torch.nn.modules.", "training.")
"""Modules whose classes are taken as mere shells: PyTorch's layers and the family's own."""
SHOWN = 4


@dataclass(frozen=True)
class ForeignNetwork:
    """A generator as its file holds it."""

    container: str
    """Kind of file, for the card."""
    tensors: Mapping[str, Tensor]
    """By official name."""
    rendering: Mapping[str, Any] | None
    """The family's ``rendering_kwargs``; None where the file says nothing."""
    rendered: int | None
    """Pixels of the picture that is rendered, ``neural_rendering_resolution``; None where the file says nothing."""
    settings: Mapping[str, Any]
    """Those of ``SETTINGS`` that the file tells."""
    layout: str = OFFICIAL
    """Whose names the file has."""
    doubles: tuple[bool, ...] = ()
    """Whether each block of super-resolution doubles its picture, where the tensors tell that instead of sizes."""
    entry: int | None = None
    """Pixels at which super-resolution begins; None where nobody says."""


def read_network(path: Path) -> ForeignNetwork:
    """The generator in a file.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is no such file, damaged, too large, or asks for anything but weights.
    """
    found: ForeignNetwork = guarded(path, lambda plain: _read(path, plain), LARGEST_NETWORK)
    return found


def _read(path: Path, plain: Plain) -> ForeignNetwork:
    with path.open("rb") as stream:
        head = stream.read(len(LEGACY_HEAD))
    # First of all: the length of a header may begin as a pickle does, but no pickle as a length within the file.
    length = int.from_bytes(head[:HEADER_PLACE], "little")
    if head[HEADER_PLACE : HEADER_PLACE + 1] == HEADER_START and HEADER_PLACE + length <= path.stat().st_size:
        return _generator(_read_safe(path), "safetensors file", plain)
    if is_zip(path):
        return _generator(read_zip(path, _TABLE, SHELLS), "PyTorch file", plain)
    if head == LEGACY_HEAD:
        return _generator(read_legacy(path.read_bytes(), _TABLE, SHELLS), "PyTorch file, older format", plain)
    if head.startswith(PICKLES):
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            root = carry_out(data, _TABLE, None, SHELLS, LARGEST_NETWORK)
        return _generator(root, "network pickle", plain)
    raise StepError("it is neither a network pickle nor a PyTorch or safetensors file")


def _read_safe(path: Path) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise RefusedError(f"{path} cannot be read as safetensors ({error}); copy it again.") from error


def _generator(root: Any, container: str, plain: Plain) -> ForeignNetwork:
    """The generator among what a file holds."""
    for _ in range(len(HOLDERS)):
        held = [root[name] for name in HOLDERS if name in root] if isinstance(root, dict) else []
        held = [value for value in held if isinstance(value, Thing | dict)]
        if not held:
            break
        root = held[0]
    if isinstance(root, Thing):
        return _of_object(root, container, plain)
    if not isinstance(root, dict):
        raise StepError("it holds no network")
    named = {str(name): value for name, value in root.items() if isinstance(value, Strided | Tensor)}
    return _named(ForeignNetwork(container, {}, None, None, {}), named, plain)


def _of_object(network: Thing, container: str, plain: Plain) -> ForeignNetwork:
    """The tensors of an object tree, and the options that the outermost object tells."""
    walk = _Walk()
    walk.enter(network, "", 0)
    state = network.state
    told = state.get("_init_kwargs")
    told = told if isinstance(told, dict) else {}
    # The object's own options come first: they may have been changed since it was built.
    rendering = state.get("rendering_kwargs", told.get("rendering_kwargs"))
    found = ForeignNetwork(
        container=container,
        tensors={},
        rendering=_options(rendering) if isinstance(rendering, dict) else None,
        rendered=_options({"": state.get("neural_rendering_resolution")})[""],
        settings=_options({name: told[name] for name in SETTINGS if name in told}),
    )
    return _named(found, walk.found, plain)


def _named(network: ForeignNetwork, named: Mapping[str, Any], plain: Plain) -> ForeignNetwork:
    """The network with the tensors of one generator of those that a file names."""
    layout, tensors = _unprefixed(named, plain)
    if layout != MMAGIC:
        return replace(network, tensors=tensors)
    tensors, doubles = official(tensors)
    return replace(network, tensors=tensors, layout=layout, doubles=doubles)


def _options(told: dict[Any, Any]) -> dict[str, Any]:
    """Options as JSON would hold them: numbers, texts, lists and tables."""
    try:
        options: dict[str, Any] = json.loads(json.dumps(Plain(0, MOST_OPTIONS).of(told)))
    except TypeError as error:
        raise StepError("its options are neither numbers nor texts") from error
    return options


class _Walk:
    """Parameters and buffers of an object and of those inside of it, by dotted name."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._modules = 0

    def enter(self, module: Any, prefix: str, depth: int) -> None:
        self._modules += 1
        if self._modules > MOST_MODULES or depth > DEEPEST:
            raise StepError("its objects are too many or nested too deep")
        if not isinstance(module, Thing) or not isinstance(module.state, dict):
            raise StepError(f"its part {prefix.rstrip('.')!r} is no network" if prefix else "it holds no network")
        passing = module.state.get("_non_persistent_buffers_set") or ()
        for part in ("_parameters", "_buffers"):
            for name, value in _table(module.state, part).items():
                if value is not None and name not in passing:
                    self.found[f"{prefix}{name}"] = value
        for name, child in _table(module.state, "_modules").items():
            if child is not None:
                self.enter(child, f"{prefix}{name}.", depth + 1)


def _table(state: Mapping[str, Any], part: str) -> dict[Any, Any]:
    value = state.get(part, {})
    if not isinstance(value, dict):
        raise StepError(f"an object's {part} are not named")
    return value


def _unprefixed(named: Mapping[str, Any], plain: Plain) -> tuple[str, dict[str, Tensor]]:
    """The tensors of one generator without what precedes all names, and whose names; of several the averaged one."""
    begun = {
        layout: sorted((name.removesuffix(anchor) for name in named if name.endswith(anchor)), key=len)
        for layout, anchor in ANCHORS.items()
    }
    layout = next((layout for layout, prefixes in begun.items() if prefixes), None)
    if layout is None:
        shown = ", ".join(sorted(named)[:SHOWN]) or "no tensors"
        raise StepError(
            f"it holds no EG3D generator with the official names or MMagic's "
            f"(neither {' nor '.join(ANCHORS.values())}, but {shown})"
        )
    prefixes = begun[layout]
    prefix = next((prefix for prefix in prefixes if "ema" in prefix), prefixes[0])
    chosen = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
    tensors = {name: plain.of(value) for name, value in chosen.items()}
    odd = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if odd:
        raise StepError(f"its {odd[0]} is no tensor")
    return layout, tensors


def _persistent(meta: Any) -> Thing:
    """In place of the call that would run the source text of an object's class: its state, the text unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise StepError("an object is not described as an object")
    return Thing(meta["class_name"], meta.get("state"))


def _nested(data: Any) -> Storage:
    """In place of a call that would load a file within the file: the numbers that it holds."""
    if not isinstance(data, bytes):
        raise StepError("the numbers of a tensor are not numbers")
    storage = read_legacy(data)
    if not isinstance(storage, Storage):
        raise StepError("the numbers of a tensor are something else")
    return storage


def _set(items: Any = ()) -> set[Any]:
    return set(map(check_key, items))


_TABLE: dict[tuple[str, str], Any] = {
    **TABLE,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch.storage", "_load_from_bytes"): _nested,
    LOG: Shell(".".join(LOG)),
    **{(module, "EasyDict"): Entries for module in ("dnnlib", "dnnlib.util")},
    **{(module, "set"): _set for module in ("builtins", "__builtin__")},
    **{(module, "scalar"): number_of for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{("torch", str(dtype).removeprefix("torch.")): str(dtype) for dtype in STORAGES.values()},
}
