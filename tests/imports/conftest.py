"""Makes files as the EG3D family writes them: object trees with the source text of their classes, in a pickle."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 (the format under test)
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agile3d_cli.models.config import GeneratorConfig, PublishedConfig, SuperresolutionConfig
from agile3d_cli.models.foreign import eg3d_names
from agile3d_cli.models.generator import TriplaneGenerator

CANARY = "touched"
SOURCE = f"open({CANARY!r}, 'w').close()\nraise SystemExit('source text was run')\n"
"""What a network pickle holds in place of the classes' source."""
TINY = GeneratorConfig(
    z_dim=8,
    w_dim=16,
    plane_size=8,
    plane_channels=4,
    channel_base=64,
    channel_max=8,
    decoder_hidden=8,
    feature_channels=5,
    near=2.2,
    far=3.2,
    coarse_samples=5,
    fine_samples=6,
    superresolution=SuperresolutionConfig(rendered=8, entry=16, sizes=(16, 32), channels=(6, 4)),
    published=PublishedConfig(folded=True),
)
BUFFERS = ("w_avg", "noise_const", "resample_filter")
MODULES = {
    "torch_utils.persistence": ("_reconstruct_persistent_obj",),
    "dnnlib.util": ("EasyDict",),
    "training.triplane": ("OSGDecoder",),
    "training.volumetric_rendering.renderer": ("ImportanceRenderer",),
}


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("nothing is ever rebuilt")


class EasyDict(dict):
    """A dictionary of a name of its own."""


class Persistent(nn.Module):
    """Pickled as a call with its state and the source text of its class."""

    def __reduce__(self) -> Any:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": "Layer", "state": self.__dict__}
        return _reconstruct_persistent_obj, (meta,)


class OSGDecoder(nn.Module):
    """Pickled by the name of its class."""


class ImportanceRenderer(nn.Module):
    """Has no tensors that count."""

    def __init__(self) -> None:
        super().__init__()
        self.plane_axes = torch.eye(3).expand(3, 3, 3).clone()


@contextmanager
def known_modules() -> Iterator[None]:
    """The modules that such pickles name, while one is written."""
    for path, names in MODULES.items():
        parts = path.split(".")
        for k in range(len(parts)):
            sys.modules.setdefault(".".join(parts[: k + 1]), types.ModuleType(parts[k]))
        for name in names:
            value = globals()[name]
            value.__module__ = path
            setattr(sys.modules[path], name, value)
    try:
        yield
    finally:
        for path in MODULES:
            parts = path.split(".")
            for k in range(len(parts)):
                sys.modules.pop(".".join(parts[: k + 1]), None)


def grown(tensors: dict[str, Tensor]) -> Persistent:
    """An object tree that has these tensors by name."""
    root = Persistent()
    for name, value in tensors.items():
        module: nn.Module = root
        *parents, last = name.split(".")
        for k, part in enumerate(parents):
            if not hasattr(module, part):
                path = ".".join(parents[: k + 1])
                kinds = {"decoder": OSGDecoder, "decoder.net": nn.Sequential}
                if part == "2":
                    module.add_module("1", nn.Softplus())
                module.add_module(part, kinds.get(path, Persistent)())
            module = getattr(module, part)
        if last in BUFFERS:
            module.register_buffer(last, value)
        else:
            module.register_parameter(last, nn.Parameter(value))
    root.backbone.gain = np.float64(0.5)  # type: ignore[union-attr, assignment]
    root.backbone.register_buffer("passing", torch.ones(2), persistent=False)  # type: ignore[union-attr, operator]
    root.renderer = ImportanceRenderer()
    return root


def rendering_of(config: GeneratorConfig) -> dict[str, Any]:
    """The family's options of a configuration."""
    return {
        "superresolution_module": "training.superresolution.SuperresolutionHybrid2X",
        "c_gen_conditioning_zero": False,
        "c_scale": 1.0,
        "superresolution_noise_mode": "none",
        "clamp_mode": "softplus",
        "disparity_space_sampling": False,
        "decoder_lr_mul": 1.0,
        "sr_antialias": True,
        "white_back": False,
        "depth_resolution": config.coarse_samples,
        "depth_resolution_importance": config.fine_samples,
        "ray_start": config.near,
        "ray_end": config.far,
        "box_warp": config.box,
        "avg_camera_pivot": [0, 0, 0.2],
    }


@dataclass(frozen=True)
class Network:
    """A generator, and the same under official names."""

    config: GeneratorConfig
    generator: TriplaneGenerator
    tensors: dict[str, Tensor]

    def tree(self, **options: Any) -> Persistent:
        """As an object; ``options`` go over its rendering options."""
        root = grown(self.tensors)
        root.rendering_kwargs = rendering_of(self.config) | options  # type: ignore[assignment]
        root.neural_rendering_resolution = self.config.superresolution.rendered  # type: ignore[assignment]
        root._init_kwargs = EasyDict(  # type: ignore[assignment]
            mapping_kwargs=EasyDict(num_layers=2), num_fp16_res=0, conv_clamp=None, sr_num_fp16_res=4, img_channels=3
        )
        root._last_planes = None  # type: ignore[assignment]
        return root

    def pickle(self, path: Path, protocol: int = 4, **options: Any) -> Path:
        """As a network pickle."""
        path.write_bytes(pickled(self.whole(**options), protocol))
        return path

    def whole(self, **options: Any) -> dict[str, Any]:
        """What a network pickle holds."""
        first = grown({"mapping.w_avg": torch.zeros(2)} | {"backbone.x": torch.ones(1)})
        tree = self.tree(**options)
        facts = EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=32)
        return {"G": self.tree(), "D": first, "G_ema": tree, "training_set_kwargs": facts, "augment_pipe": None}


def pickled(value: Any, protocol: int = 4) -> bytes:
    """The bytes of a pickle."""
    stream = io.BytesIO()
    with known_modules():
        pickle.dump(value, stream, protocol)
    return stream.getvalue()


def network(config: GeneratorConfig, seed: int = 0) -> Network:
    """A generator with random weights, none of them zero."""
    torch.manual_seed(seed)
    generator = TriplaneGenerator(config).eval().requires_grad_(False)
    for value in generator.state_dict().values():
        value.add_(0.1 * torch.randn_like(value))
    state = generator.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in eg3d_names(config).items()}
    blur = torch.ones(4, 4) / 16
    for resolution in config.resolutions:
        tensors[f"backbone.synthesis.b{resolution}.resample_filter"] = blur
    for k, size in enumerate(config.superresolution.sizes):
        for conv in ("conv0", "conv1"):
            tensors[f"superresolution.block{k}.{conv}.noise_const"] = torch.randn(size, size)
            tensors[f"superresolution.block{k}.{conv}.noise_strength"] = torch.tensor(0.3)
    return Network(config, generator, {name: value.clone() for name, value in sorted(tensors.items())})


@pytest.fixture(scope="session")
def tiny() -> Network:
    """A generator of a few thousand numbers."""
    return network(TINY)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Network]:
    """``make_network(field=value)``: a tiny generator with other fields."""
    return lambda **fields: network(replace(TINY, **fields))


@pytest.fixture(scope="session")
def as_pickle() -> Callable[..., bytes]:
    """``as_pickle(value)``: the bytes of a pickle that may hold objects of the family."""
    return pickled


@pytest.fixture
def family() -> Iterator[None]:
    """The family's modules are there while a test writes a file."""
    with known_modules():
        yield


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there as soon as anything of a test's file was run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / CANARY
