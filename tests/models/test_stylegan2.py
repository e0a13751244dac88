"""StyleGAN2's networks and its encoders: recorded tensors are met, names and shapes are the official ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.discriminator import Discriminator, with_deviation
from agile3d_cli.models.foreign_stylegan import (
    config_of,
    discriminator_from,
    discriminator_names,
    generator_from,
    generator_names,
)
from agile3d_cli.models.irse import EncoderConfig, FaceRecognition, PyramidEncoder, VariationalEncoder
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config, configuration_f, fresh_noise, truncated

Opened = Callable[[str], Any]
"""The fixture ``golden``: opens a folder of recorded tensors."""
MICRO = StyleGAN2Config((6, 4, 3), 8, 2)
QUARTER = (16, 32, 64, 128)


@pytest.mark.parametrize("folder", ["stylegan2-generator-small", "stylegan2-generator-wide"])
def test_generator_meets_the_recorded_pictures(folder: str, golden: Opened) -> None:
    known = golden(folder)
    network = generator_from(known.weights())
    z, mean = known["in.z"], known["in.latent_avg"]
    styles = {
        "z_buffers": network.mapping(z)[:, None].expand(-1, 10, -1),
        "w_plus_buffers": known["in.w_plus"],
        "truncated": truncated(network.mapping(z)[:, None].expand(-1, 10, -1), mean, 0.7),
        "z_plus_buffers": network.mapping(known["in.z_plus"]),
        "mixed_noise_list": torch.cat(
            [network.mapping(known[f"in.{name}"])[:, None].expand(-1, n, -1) for name, n in (("z", 4), ("z2", 6))], 1
        ),
    }
    assert len(known.cases.keys() & styles) >= 3
    for case in known.cases.keys() & styles:
        ws = styles[case]
        known.meets(ws, f"{case}.latent")
        known.meets(network(ws, known.noise() if case == "mixed_noise_list" else None), f"{case}.image")


def test_generator_meets_the_recorded_gradient(golden: Opened) -> None:
    known = golden("stylegan2-generator-small")
    network = generator_from(known.weights()).double()
    ws = known["in.w_plus"].double().requires_grad_(True)
    weighed = (network(ws) * known["in.path_noise"].double() / network.config.size).sum()
    (gradient,) = torch.autograd.grad(weighed, ws)
    known.meets(gradient, "path_length.gradient")
    known.meets(gradient.square().sum(2).mean(1).sqrt(), "path_length.lengths")


@pytest.mark.parametrize("folder", ["stylegan2-discriminator-small", "stylegan2-discriminator-wide"])
def test_discriminator_meets_the_recorded_logits(folder: str, golden: Opened) -> None:
    known = golden(folder)
    weights = known.weights()
    network = discriminator_from(weights, StyleGAN2Config((len(weights["final_conv.1.bias"]),) * 5))
    for count in (count for count in (1, 2, 4, 8) if f"batch{count}" in known.cases):
        known.meets(network(known["in.images"][:count]), f"batch{count}.logits")
    images = known["in.images"][:4].double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network.double()(images).sum(), images)
    known.meets(gradient, "r1.gradient")
    known.meets(gradient.square().sum((1, 2, 3)).mean(), "r1.penalty")


def test_pyramid_encoder_meets_the_recorded_codes(golden: Opened) -> None:
    known = golden("psp-encoder-small")
    encoder = PyramidEncoder(EncoderConfig(QUARTER, 14))
    encoder.load_state_dict(known.weights("encoder."))
    decoder, mean = generator_from(known.weights("decoder.")), known["in.latent_avg"]
    with torch.no_grad():
        codes, other = encoder.eval()(known["in.image"]), encoder(known["in.image2"])
    known.meets(codes, "z_plus_plain.codes")
    known.meets(codes + mean, "w_plus.codes")
    mixed = (other + mean).clone()
    mixed[:, 8:] = 0.5 * known["in.inject"][:, 8:] + 0.5 * mixed[:, 8:]
    known.meets(mixed, "inject.codes")
    shown = {
        "z_plus_plain": decoder.mapping(codes),
        "z_plus": decoder.mapping(codes + mean),
        "w_plus": codes + mean,
        "inject": mixed,
    }
    for case, ws in shown.items():
        known.meets(F.avg_pool2d(decoder(ws), 4), f"{case}.image_64")


def test_variational_encoder_meets_the_recorded_codes(golden: Opened) -> None:
    known = golden("agilegan-encoder-small")
    encoder = VariationalEncoder(EncoderConfig(QUARTER))
    weights = known.weights("encoder.")
    encoder.load_state_dict(weights)
    with torch.no_grad():
        mean, spread = encoder.eval()(known["in.image"])
    known.meets(mean, "encode.mu")
    known.meets(spread, "encode.logvar")
    known.meets(known["in.eps"] * torch.exp(spread / 2) + mean, "encode.sample")
    decoder = generator_from(known.weights("decoder."))
    ws = decoder.mapping(mean)
    known.meets(ws, "encode.w_plus")
    known.meets(F.avg_pool2d(decoder(ws), 16), "encode.reconstruction_64")


def test_face_recognition_meets_the_recorded_embeddings(golden: Opened) -> None:
    known = golden("arcface-irse50")
    network = FaceRecognition()
    network.load_state_dict(known.weights())
    with torch.no_grad():
        found = network.eval().identity(known["in.images"])
    known.meets(found, "features.embedding")
    known.meets(1 - (found[0] * found[1]).sum(), "loss.identity")


FULL: list[tuple[str, int, Callable[[], set[str]]]] = [
    ("stylegan2-generator-small", 0, lambda: set(generator_names(configuration_f(1024)).values())),
    ("stylegan2-discriminator-small", 0, lambda: set(discriminator_names(configuration_f(1024)).values())),
    ("stylegan2-discriminator-small", 1, lambda: set(discriminator_names(configuration_f(512)).values())),
]


@pytest.mark.parametrize(("folder", "part", "names"), FULL)
def test_every_official_name_is_known(folder: str, part: int, names: Callable[[], set[str]], golden: Opened) -> None:
    official = {name for name in golden(folder).official(part) if not name.endswith(".kernel")}
    assert names() == official


def test_official_shapes_load(golden: Opened) -> None:
    blank = {name: torch.zeros(shape) for name, shape in golden("stylegan2-generator-small").official().items()}
    assert generator_from(blank).config == configuration_f(1024)
    official = golden("psp-encoder-small").official()
    with torch.device("meta"):
        encoder, face = PyramidEncoder(), FaceRecognition()
        hierarchical = VariationalEncoder()
    for network, names in (
        (encoder, official),
        (hierarchical, golden("agilegan-encoder-small").official()),
        (face, {f"encoder.{name}": shape for name, shape in golden("arcface-irse50").official().items()}),
    ):
        own = {f"encoder.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
        assert own == {name: shape for name, shape in names.items() if name.startswith("encoder.")}


def blank(network: StyleGAN2) -> dict[str, Tensor]:
    """A generator's tensors as a file of the common layout holds them."""
    state = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in generator_names(network.config).items()}
    return tensors | {"input.input": state["const"][None]}


def test_a_generator_comes_back_from_the_common_layout() -> None:
    network = StyleGAN2(MICRO)
    tensors = blank(network)
    assert config_of(tensors) == MICRO and MICRO.size == 16 and MICRO.num_ws == 6
    again = generator_from(tensors | {"convs.0.conv.blur.kernel": torch.zeros(4, 4)})
    ws = again.mapping(torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(again(ws), network(ws)) and again(ws).shape == (2, 3, 16, 16)
    noise = fresh_noise(MICRO, 2, torch.Generator().manual_seed(1))
    assert [tuple(n.shape) for n in noise] == [(2, 1, s, s) for s in (4, 8, 8, 16, 16)]
    for conv in (again.blocks[1].conv0, again.blocks[2].conv1):
        conv.noise_strength.fill_(0.5)
    assert not torch.equal(again(ws, noise), again(ws))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input.input": None}, "counted"),
        ({"convs.0.conv.weight": None}, r"missing convs\.0\.conv\.weight"),
        ({"extra.weight": torch.zeros(2)}, r"unknown extra\.weight"),
        ({"convs.0.conv.weight": torch.zeros(1, 5, 6, 3, 3)}, "another size"),
        ({"conv1.activate.bias": torch.full((6,), float("nan"))}, "not finite"),
    ],
)
def test_what_is_no_generator_is_refused(change: dict[str, Tensor | None], said: str) -> None:
    tensors = {name: value for name, value in (blank(StyleGAN2(MICRO)) | change).items() if value is not None}
    with pytest.raises(RefusedError, match=said):
        generator_from(tensors)


def test_sizes_that_make_no_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="channels"):
        StyleGAN2Config((4,))
    with pytest.raises(ConfigError, match="multiple"):
        with_deviation(torch.zeros(6, 2, 4, 4))


def test_the_discriminator_compares_strided_groups() -> None:
    x = torch.zeros(8, 2, 4, 4)
    # Pictures 0, 2, 4 and 6 differ, the others are alike.
    x[::2] = torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None, None, None]
    spread = with_deviation(x)[:, -1, 0, 0]
    torch.testing.assert_close(spread[::2], torch.full((4,), 1.25).sqrt())
    torch.testing.assert_close(spread[1::2], torch.full((4,), 1e-4))
    assert Discriminator(MICRO)(torch.zeros(2, 3, 16, 16)).shape == (2, 1)
