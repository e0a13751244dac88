"""The identity network: known distances on real people, and a differentiable, similarity-proof way to the chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agile3d_cli.face.estimators import find_faces
from agile3d_cli.image import read_photo, to_tensor
from agile3d_cli.models.identity import (
    CHIP_POINTS,
    SAME_PERSON,
    cut_chips,
    embed,
    embed_faces,
    identity_distance,
    identity_network,
)

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "../shared/assets"
needs_photos = pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared photo sets are not on this machine")


def embedding_of(path: Path) -> torch.Tensor:
    photo = read_photo(path)
    five = find_faces(photo)[0].five[:, :2] / [photo.shape[1], photo.shape[0]]
    return embed_faces(to_tensor(photo)[None], torch.tensor(five)[None])


def test_network_is_the_known_one() -> None:
    assert sum(parameter.numel() for parameter in identity_network().parameters()) == 5_614_592
    v, u = torch.meshgrid(torch.linspace(-1, 1, 150), torch.linspace(-1, 1, 150), indexing="ij")
    chip = torch.stack([u, v, u * v])[None]
    # dlib's embeddings of such non-faces are about 1.3 long.
    assert 1 < embed(chip).norm() < 1.6


def test_chip_has_the_points_in_place_whatever_the_picture() -> None:
    # A picture with a bright dot at each point; the chip must show the dots where the network wants them.
    five = torch.tensor([[0.40, 0.35], [0.60, 0.40], [0.48, 0.50], [0.36, 0.60], [0.52, 0.64]])
    mouth = five[3:].mean(0)
    height, width = 300, 300
    v, u = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    dots = [torch.exp(-((u - x) ** 2 + (v - y) ** 2) / 0.0004) for x, y in (five[0], five[1], mouth)]
    chips = cut_chips(torch.stack(dots)[None], five[None])[0]
    for chip, (x, y) in zip(chips, CHIP_POINTS, strict=True):
        row, column = divmod(int(chip.argmax()), 150)
        assert abs(column + 0.5 - x) < 3 and abs(row + 0.5 - y) < 3


def test_size_and_turn_of_the_picture_do_not_matter() -> None:
    photo = to_tensor(read_photo(ROOT / "examples" / "astronaut.jpg"))[None]
    five = torch.tensor(find_faces(read_photo(ROOT / "examples" / "astronaut.jpg"))[0].five[None, :, :2]) / 512
    whole = embed_faces(photo, five)
    large = torch.nn.functional.interpolate(photo, (1024, 1024), mode="bicubic", align_corners=False)
    assert identity_distance(whole, embed_faces(large, five)) < 0.1
    turned = torch.stack([five[..., 1], 1 - five[..., 0]], -1)
    assert identity_distance(whole, embed_faces(photo.rot90(1, (2, 3)), turned)) < 0.02


def test_gradients_reach_the_picture() -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    picture.requires_grad_()
    five = torch.tensor([[[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]])
    (gradient,) = torch.autograd.grad(embed_faces(picture, five).square().sum(), picture)
    assert torch.isfinite(gradient).all() and (gradient != 0).float().mean() > 0.3


@needs_photos
def test_people_are_told_apart() -> None:
    neutral = sorted((ASSETS / "photos-london-neutral").glob("*.jpg"))[::6]
    a = torch.cat([embedding_of(path) for path in neutral])
    b = torch.cat(
        [embedding_of(ASSETS / "photos-london-smiling" / path.name.replace("_03", "_08")) for path in neutral]
    )
    distance = torch.cdist(a, b)
    same, other = distance.diag(), distance[~np.eye(len(a), dtype=bool)]
    # All 102 measured: 0.215 for one person, 0.823 for two; no pair of one person above the limit.
    assert abs(same.mean() - 0.215) < 0.04 and abs(other.mean() - 0.823) < 0.05
    assert same.max() < SAME_PERSON and (other < SAME_PERSON).float().mean() < 0.03
    assert torch.equal(distance.argmin(1), torch.arange(len(a)))
