"""Makes ``painted_prior.safetensors``, the tiny flat prior of painted faces that the tests start from.

    python plugins/agile3d-agilegan/tests/make_painted_prior.py

About three minutes on one core. A generator learns to draw the painted face that a code means, and an encoder to tell
codes from pictures, so that what is told is drawn again.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.bundle import Model, write_model
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.flat import FlatPrior, architecture, expected_style, tensors_of
from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config
from agile3d_cli.testing import paint_faces

GENERATOR = StyleGAN2Config((16, 16, 16, 12, 8), w_dim=8, mapping_layers=1)
ENCODER = FlatEncoderConfig(w_dim=8, groups=(5, 5), size=64, widths=(8, 16, 16, 16), last=8)
STEPS, BATCH, RATE = 1800, 8, 1e-2


def painted(codes: Tensor) -> Tensor:
    """The faces (N, 3, 64, 64) that codes (N, 8) mean: the first three numbers are the skin, two more the place."""
    return paint_faces(0.05 * codes[:, 3:5], (torch.tensor([0.3, 0.1, 0.1]) + 0.4 * codes[:, :3]).clamp(-1, 1))


def main() -> None:
    torch.manual_seed(0)
    generator, encoder = StyleGAN2(GENERATOR), FlatEncoder(ENCODER)
    generator.mapping.requires_grad_(False)
    learning = [p for p in (*generator.parameters(), *encoder.parameters()) if p.requires_grad and p.dim()]
    learner = torch.optim.Adam(learning, lr=RATE)
    for k in range(STEPS):
        learner.param_groups[0]["lr"] = RATE * (1 - 0.95 * k / STEPS)
        codes = torch.randn(BATCH, 8)
        # On the sphere that the mapping sees, so that no number of a code is lost.
        codes = F.normalize(codes, dim=1) * codes.shape[1] ** 0.5
        pictures = painted(codes)
        mean, spread = encoder(pictures)
        both = torch.cat([codes[:, None].expand(-1, 2, -1), mean])
        drawn = generator(encoder.styles(expected_style(generator.mapping, both)))
        missed = (codes[:, None] - mean).square() * torch.exp(-spread)
        loss = 4 * F.mse_loss(drawn, pictures.repeat(2, 1, 1, 1)) + 0.02 * (spread + missed).mean()
        learner.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        learner.step()
    prior = FlatPrior(generator, encoder)
    model = Model(
        name="painted",
        architecture=architecture(prior),
        tensors=tensors_of(prior),
        summary="Painted faces, for tests",
        license="Apache-2.0",
        origin="made by this project",
        training={"steps": STEPS},
        licenses=(LicenseNote("painted prior", "Apache-2.0", "made by this project", True),),
    )
    write_model(Path(__file__).with_name("painted_prior.safetensors"), model)


if __name__ == "__main__":
    main()
