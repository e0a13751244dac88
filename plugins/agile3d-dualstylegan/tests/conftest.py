"""A tiny flat prior that knows painted faces, made by least squares: learning one takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from agile3d_cli.bundle import Model, write_model
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.flat import NOISE, FlatPrior, architecture, tensors_of
from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig, resized
from agile3d_cli.models.stylegan2 import Block, StyleGAN2, StyleGAN2Config
from agile3d_cli.testing import paint_faces

NUMBERS = 12
"""Of a code: place (2), colour (3), and numbers that are always ``STEADY``; the camera's two are among them."""
STEADY = 3.0
DRAWN_AT = 2
"""Block whose output draws: that of 16 pixels."""
BACKGROUND = 0.8
"""Of painted faces."""
FACES = 600


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a prior of 64 pixels whose codes are the place and the colour of a painted face."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGAN2(StyleGAN2Config((48, 48, 48, 12, 8), NUMBERS, 0)).requires_grad_(False)
        encoder = FlatEncoder(FlatEncoderConfig(NUMBERS, (10,), 64, (8, 16, 24), 8)).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    codes = torch.full((FACES, NUMBERS), STEADY)
    codes[:, :5] = torch.rand(FACES, 5, generator=rng) * 2 - 1
    faces = paint_faces(0.08 * codes[:, :2], 0.8 * codes[:, 2:5])
    _teach_generator(generator, generator.mapping(codes), resized(faces, 16) - BACKGROUND)
    _teach_encoder(encoder, codes, faces)
    prior = FlatPrior(generator, encoder)
    note = LicenseNote("tiny prior", "Apache-2.0", "made by a test", True)
    model = Model("tiny", architecture(prior), tensors_of(prior), "A tiny prior", "Apache-2.0", "a test", {}, (note,))
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    write_model(path, model)
    return path


def _teach_generator(generator: StyleGAN2, styles: Tensor, pictures: Tensor) -> None:
    """One output draws: its style says how much there is of 16 smooth spots in each colour, which no style changes."""
    for name, value in generator.named_parameters():
        if name.endswith("affine.weight") or ".output.weight" in name:
            value.zero_()
    for name, value in generator.state_dict().items():
        if NOISE in name:
            value.zero_()
    blocks = [block for block in generator.blocks if isinstance(block, Block)]
    generator.const.copy_(torch.eye(16).repeat_interleave(3, 0).reshape(48, 4, 4))
    x = generator.const[None]
    for block in blocks[: DRAWN_AT + 1]:
        for conv in block.convolutions:
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = torch.eye(48)
            x = conv(x, styles[:1])
    output = blocks[DRAWN_AT].output
    for color in range(3):
        output.weight[color, color::3] = 1 / output.gain
        patterns, wanted = x[0, color::3].flatten(1).double(), pictures[:, color].flatten(1).double()
        found = torch.linalg.lstsq(styles.double(), wanted, driver="gelsd").solution @ torch.linalg.pinv(patterns)
        output.affine.weight[color::3] = found.T.float() / output.affine.gain
        output.affine.bias[color::3] = 0
    # What is enlarged grows dark at its border, so the background comes last.
    blocks[-1].output.bias.fill_(BACKGROUND)


def _teach_encoder(encoder: FlatEncoder, codes: Tensor, faces: Tensor) -> None:
    """The trunk is random, and codes are read off it."""
    seen = encoder.trunk(faces).flatten(1).double()
    middle = seen.mean(0)
    square = (seen - middle).T @ (seen - middle) + 1.0 * torch.eye(seen.shape[1]).double()
    weight = torch.linalg.solve(square, (seen - middle).T @ (codes - codes.mean(0)).double())
    encoder.output.weight.zero_()
    encoder.output.bias.zero_()
    encoder.output.weight[:NUMBERS] = weight.T.float()
    encoder.output.bias[:NUMBERS] = (codes.mean(0).double() - middle @ weight).float()
