"""Published files: read exactly from what PyTorch writes, drawn in the portrait's framing; misfits are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.network import BranchedGenerator, names
from agile3d_agilegan.official import ffhq_square, framed, read_encoder, read_official, unframed
from agile3d_agilegan.state import read_state
from agile3d_agilegan.stylizer import AgileganStylizer
from torch import Tensor

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models.foreign_stylegan import mapping_names
from agile3d_cli.models.irse import EncoderConfig, VariationalEncoder
from agile3d_cli.models.stylegan2 import StyleGAN2Config
from agile3d_cli.testing import PaintedFaces, ignore_progress, paint_exemplars

Opened = Callable[[str], Any]
"""The fixture ``golden``: opens a folder of recorded tensors."""
MICRO = StyleGAN2Config((4, 4, 4, 4, 4, 2), 8, 1)
ENCODER = EncoderConfig((4, 4, 8, 8), MICRO.num_ws, 2)


def written(path: Path, value: Any) -> Path:
    """A genuine file of PyTorch."""
    torch.save(value, path)  # noqa: TID251 (the format under test)
    return path


def encoder_content(config: EncoderConfig = ENCODER) -> dict[str, Any]:
    """What an encoder's file holds."""
    torch.manual_seed(1)
    own = {f"encoder.{name}": value for name, value in VariationalEncoder(config).state_dict().items()}
    state = BranchedGenerator(MICRO).state_dict()
    styles = {f"decoder.{theirs}": state[ours] for ours, theirs in mapping_names(MICRO.mapping_layers).items()}
    return {"state_dict": own | styles | {"decoder.input.input": torch.zeros(1, 4, 4, 4)}, "opts": {"lr": 0.1}}


def generator_content() -> dict[str, Any]:
    """What a style's file holds."""
    torch.manual_seed(2)
    network = BranchedGenerator(MICRO)
    state = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in names(network.config).items()}
    return {"g_ema": tensors | {"input.input": state["const"][None]}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Both files."""
    return written(tmp_path / "encoder.pt", encoder_content()), written(tmp_path / "style.pt", generator_content())


def test_the_encoder_of_a_file_meets_the_recorded_codes(golden: Opened, tmp_path: Path) -> None:
    known = golden("agilegan-encoder-small")
    parts = ("encoder.", "decoder.style.")
    tensors = {f"{part}{name}": value for part in parts for name, value in known.weights(part).items()}
    encoder, mapping = read_encoder(written(tmp_path / "encoder.pt", {"state_dict": tensors, "opts": {}}))
    mean, spread = encoder(known["in.image"])
    known.meets(mean, "encode.mu")
    known.meets(spread, "encode.logvar")
    known.meets(mapping(mean), "encode.w_plus")


def test_what_is_framed_and_unframed_is_the_same_picture() -> None:
    line = torch.linspace(-1, 1, 64)
    smooth = (line[:, None] * line).expand(1, 3, 64, 64) * torch.tensor([1.0, 0.5, -0.5])[None, :, None, None]
    again = unframed(framed(smooth, 256))
    kept = slice(10, 246)
    wanted = torch.nn.functional.interpolate(smooth, 256, mode="bilinear", align_corners=False)
    # Where FFHQ's square lies in the portrait; a few rows at its lower end lie beyond it.
    assert float((again - wanted)[..., kept, kept].abs().max()) < 0.02


def test_the_square_holds_the_face_in_its_middle() -> None:
    centre, half = ffhq_square()
    assert centre[0] == pytest.approx(0.5, abs=1e-6) and 0.3 < centre[1] < 0.5 and 0.5 < half < 0.7


def test_a_published_style_needs_no_training(files: tuple[Path, Path], prior_file: Path, tmp_path: Path) -> None:
    config = AgileganConfig(encoder=str(files[0]), generator=str(files[1]), prior=str(prior_file), faces=4, branch=1)
    stylizer = AgileganStylizer(config)
    stylizer.fit(paint_exemplars(2), PaintedFaces(), ignore_progress)
    faces = PaintedFaces().sample(2, torch.Generator().manual_seed(9)).images
    drawn = stylizer.stylize(faces)
    network = read_official(*files)
    wanted = torch.cat([network(face[None], 1) for face in faces])
    assert wanted.shape == (2, 3, 128, 128)
    # Numbers are kept in half precision.
    assert float((drawn - torch.nn.functional.interpolate(wanted, (64, 64), mode="area")).abs().max()) < 0.02
    stylizer.save(tmp_path / "kept.safetensors")
    settings, style = read_state(tmp_path / "kept.safetensors")
    assert torch.equal(AgileganStylizer(settings, style).stylize(faces), drawn)
    other = AgileganStylizer(replace(config, branch=0), style).stylize(faces)
    assert float((other - drawn).abs().mean()) > 1e-3


def test_the_attribute_chooses_the_published_branch(files: tuple[Path, Path], prior_file: Path) -> None:
    config = AgileganConfig(encoder=str(files[0]), generator=str(files[1]), prior=str(prior_file), faces=8)
    stylizer = AgileganStylizer(config)
    stylizer.fit(paint_exemplars(2), PaintedFaces(), ignore_progress)
    faces = PaintedFaces().sample(8, torch.Generator().manual_seed(0)).images
    sides = stylizer.style.division.branch_of(stylizer.style.prior.codes(faces))
    assert int(sides.sum()) == 4, "the middle is that of the realistic faces"


def test_files_that_do_not_fit_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere\.pt"):
        read_official(tmp_path / "nowhere.pt", files[1])
    with pytest.raises(RefusedError, match=r"style\.pt.*state_dict"):
        read_official(files[1], files[1])
    with pytest.raises(RefusedError, match=r"encoder\.pt.*g_ema"):
        read_official(files[0], files[0])
    fewer = written(tmp_path / "fewer.pt", encoder_content(replace(ENCODER, codes=8)))
    with pytest.raises(RefusedError, match="another size"):
        read_official(fewer, files[1])


@pytest.mark.parametrize("lost", ["encoder.fc_var.bias", "decoder.style.1.bias", "encoder.latlayer1.weight"])
def test_an_incomplete_encoder_is_refused(lost: str, tmp_path: Path) -> None:
    content = encoder_content()
    tensors: dict[str, Tensor] = content["state_dict"]
    del tensors[lost]
    with pytest.raises(RefusedError, match=lost.split(".", 1)[1]):
        read_encoder(written(tmp_path / "encoder.pt", content))
