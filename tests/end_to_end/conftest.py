"""A micro generator with a painted ellipsoid for a head: the same class as ``mini``, made in two seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.invert import Latent, invert
from agile3d_cli.avatar.likeness import landmarks_of
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.bundle import Model, write_model
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.template import face_template
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.checkpoints import BaseModel, architecture, generator_tensors, load_base
from agile3d_cli.models.config import DeformationConfig, FocusConfig, GeneratorConfig, TraitsConfig
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.models.triplane import plane_features

CONFIG = GeneratorConfig(
    z_dim=8,
    w_dim=16,
    label_dim=0,
    normalize_z=False,
    mapping_lr=0.5,
    plane_size=32,
    plane_channels=8,
    plane_axes="xy_xz_zy",
    channel_base=256,
    channel_max=16,
    decoder_hidden=16,
    feature_channels=3,
    density_gain=10.0,
    near=2.1,
    far=3.3,
    coarse_samples=64,
    fine_samples=64,
    mean_planes=True,
    traits=TraitsConfig(2, 8),
    parts=2,
    focus=FocusConfig(strength=2.0, centre=(0.0, 0.0, 0.1)),
    deformation=DeformationConfig(shapes=2, expressions=((1.0, -0.5),), grid=12, inverse_grid=16),
)
CENTRE, RADII = (0.0, 0.0, 0.05), (0.22, 0.3, 0.28)
"""The head: an ellipsoid, world units."""
WIDE = FaceConfig().wide
STEPS, POINTS = 220, 3000


@pytest.fixture(scope="session")
def micro_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro generator as a model file."""
    torch.manual_seed(0)
    generator = TriplaneGenerator(CONFIG)
    nodes = generator.deformation.focus.nodes(CONFIG.deformation.grid)
    x, y, z = nodes.unbind(-1)
    low = torch.exp(-((y + 0.2).square() + (z - 0.2).square()) / 0.02)
    zero = torch.zeros_like(x)
    # Wider, longer, and a chin that drops.
    for k, field in enumerate(((0.08 * x, zero, zero), (zero, 0.06 * y, zero), (zero, -0.03 * low, zero))):
        generator.deformation.basis[k] = torch.stack(field)
    _plant(generator)
    landmarks = _onto(torch.from_numpy(face_template().points).float())
    path = tmp_path_factory.mktemp("micro") / "micro.safetensors"
    model = Model(
        "micro",
        architecture(CONFIG),
        generator_tensors(generator, landmarks),
        license="MIT",
        licenses=(LicenseNote("micro", "MIT", "made in this test", True),),
    )
    write_model(path, model)
    return path


@pytest.fixture(scope="session")
def micro(micro_file: Path) -> BaseModel:
    return load_base(str(micro_file))


@pytest.fixture
def installed(micro_file: Path, own_home: Path) -> Path:
    """The micro generator among the user's own models."""
    target = own_home / "models" / micro_file.name
    target.parent.mkdir(parents=True)
    target.write_bytes(micro_file.read_bytes())
    return target


@pytest.fixture(scope="session")
def sitter(micro: BaseModel) -> tuple[Tensor, AlignedFace]:
    """A known latent (1, z_dim) and its photo: wearing a red bindi, which no latent has."""
    z = torch.tensor([[0.8, -0.6, 0.5, 0.3, -0.5, 0.2, 0.7, -0.2]])
    label = camera.portrait_label(0.15, -0.05)
    head = GeneratorHead(micro.generator, micro.generator.from_latent(z))
    close = head.render(label[None], 96, 0.4)
    around = head.render(camera.with_focal(label, camera.FOCAL * WIDE)[None], 96, 0.4)
    photo = AlignedFace(
        image=_spotted(close.image[0], 1.0),
        wide=_spotted(around.image[0], WIDE),
        matte=around.alpha[0],
        valid=torch.ones(1, 96, 96),
        label=label,
        landmarks=landmarks_of(micro, z, label).numpy(),
        yaw=8.6,
        pitch=-2.9,
        roll=0.0,
        crop=torch.tensor([[96.0, 0, 0], [0, 96, 0]]).numpy(),
        error=0.0,
    )
    return z, photo


@pytest.fixture(scope="session")
def quick() -> InvertConfig:
    """An inversion of a second."""
    return InvertConfig(search_steps=12, identity_steps=2, paint_steps=40, paint_rate=0.08, rays=600, coarse=24, fine=8)


@pytest.fixture(scope="session")
def latent(micro: BaseModel, sitter: tuple[Tensor, AlignedFace], quick: InvertConfig) -> Latent:
    """The sitter as the inversion finds it."""
    return invert(sitter[1], micro, quick, WIDE, lambda _: None)


@pytest.fixture(scope="session")
def style() -> StyleDifference:
    """Other mean planes, and all of space moved a little."""
    rng = torch.Generator().manual_seed(1)
    planes = 0.05 * torch.randn(3, 8, 32, 32, generator=rng)
    return StyleDifference({"backbone.mean_planes": planes}, 0.01 * torch.ones(3, 12, 12, 12))


def _spotted(image: Tensor, zoom: float) -> Tensor:
    """A red spot in the middle of the forehead; ``zoom`` is the picture's focal length over the crop's."""
    size = image.shape[-1]
    line = (torch.arange(size) + 0.5) / size - 0.5
    v, u = torch.meshgrid(line, line, indexing="ij")
    spot = torch.exp(-((v / zoom + 0.15).square() + (u / zoom).square()) / 0.004)
    return torch.lerp(image, torch.tensor([0.9, -0.9, -0.9])[:, None, None].expand_as(image), spot)


def _onto(points: Tensor) -> Tensor:
    """Points (P, 3) drawn onto the ellipsoid along their rays from its centre."""
    away = points - torch.tensor(CENTRE)
    return torch.tensor(CENTRE) + away / (away / torch.tensor(RADII)).norm(dim=1, keepdim=True)


def _plant(generator: TriplaneGenerator) -> None:
    """Fits mean planes and decoder to the ellipsoid, coloured in waves; the latent's paint stays faint."""
    with torch.no_grad():
        generator.backbone.mean_planes.normal_(0, 0.1)
        generator.palette.layer.weight.mul_(0.1)
        generator.palette.layer.bias.fill_(0.5)
        for block in generator.backbone.blocks:
            block.output.weight.mul_(0.15)
            if hasattr(block, "conv0"):
                block.conv0.noise_const.zero_()
            block.conv1.noise_const.zero_()
        ws = generator.mapping(torch.zeros(1, CONFIG.z_dim))
        own, palette = generator.backbone(ws) - generator.backbone.mean_planes, generator.colours_of_parts(ws)
    trained = [generator.backbone.mean_planes, *generator.decoder.parameters()]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    rng = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        surface = _onto(torch.randn(POINTS, 3, generator=rng))
        near = surface + 0.05 * torch.randn(POINTS, 3, generator=rng)
        around = (1.2 * torch.rand(POINTS, 3, generator=rng) - 0.6).clamp(-0.5, 0.5)
        points = torch.cat([near, around])
        inside = ((points - torch.tensor(CENTRE)) / torch.tensor(RADII)).norm(dim=1) < 1
        place = generator.deformation.focus.forward(points[None])
        raw = generator.decoder.raw(plane_features(generator.backbone.mean_planes + own, place, CONFIG.plane_axes))
        colour = generator.decoder.colour(raw, generator.decoder.tone(raw, palette))[0]
        wanted = 0.5 + 0.3 * torch.sin(14 * points + torch.tensor([0.0, 2.0, 4.0]))
        loss = F.binary_cross_entropy_with_logits(5 * raw[0, :, 0], inside.float())
        loss = loss + (colour - wanted)[inside].abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
