"""The contract of all stylizers, and what this one promises beyond it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.learn import LearntStyle
from agile3d_dualstylegan.state import VERSION, read_state
from agile3d_dualstylegan.stylizer import DualstyleganStylizer

from agile3d_cli.errors import ConfigError, MissingError, RefusedError
from agile3d_cli.safefile import read_card, read_tensors, write_file
from agile3d_cli.testing import PaintedFaces, StylizerContract, ignore_progress, paint_exemplars

TINY = DualstyleganConfig(
    size=64, faces=4, crowd=4, destyle_steps=2, structure_steps=2, style_steps=5, check_steps=3, batch=2
)
"""Settings under which a fit ends within two seconds; its prior is added by the tests."""


class TestContract(StylizerContract):
    package = "agile3d-dualstylegan"
    name = "dualstylegan"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def tiny(cls, tiny_prior: Path) -> None:
        """The contract's settings need the file of the prior."""
        cls.config = replace(TINY, prior=str(tiny_prior))


@pytest.fixture(scope="module")
def config(tiny_prior: Path) -> DualstyleganConfig:
    return replace(TINY, prior=str(tiny_prior))


@pytest.fixture(scope="module")
def fitted(config: DualstyleganConfig) -> DualstyleganStylizer:
    stylizer = DualstyleganStylizer(config)
    stylizer.fit(paint_exemplars(4), PaintedFaces(), ignore_progress, seed=2)
    return stylizer


@pytest.fixture(scope="module")
def style(fitted: DualstyleganStylizer) -> LearntStyle:
    assert isinstance(fitted._style, LearntStyle)
    return fitted._style


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return PaintedFaces().sample(3, torch.Generator().manual_seed(7)).images


def test_a_dial_of_zeros_is_the_plain_prior(
    style: LearntStyle, config: DualstyleganConfig, faces: torch.Tensor
) -> None:
    prior = style.prior
    with torch.no_grad():
        plain = torch.cat([prior.generator(prior.expected_styles(prior.codes(face[None]))) for face in faces])
    drawn = DualstyleganStylizer(replace(config, structure=0, color=0), style).stylize(faces)
    # Styles are means over chance, taken for each layer here and for each group of layers there. Measured: 1e-6.
    torch.testing.assert_close(drawn, plain.clamp(-1, 1), rtol=0, atol=1e-4)


def test_structure_and_colour_are_dialled_apart(
    style: LearntStyle, config: DualstyleganConfig, faces: torch.Tensor
) -> None:
    drawn = {
        weights: DualstyleganStylizer(replace(config, structure=weights[0], color=weights[1]), style).stylize(faces)
        for weights in ((0, 0), (1, 0), (0, 1), (1, 1))
    }
    pictures = list(drawn.values())
    assert all(not torch.equal(a, b) for k, a in enumerate(pictures) for b in pictures[:k])
    listed = replace(config, dial=(1.0,) * 7 + (0.0,) * 3)
    assert torch.equal(DualstyleganStylizer(listed, style).stylize(faces), drawn[1, 0])


def test_each_way_to_choose_a_style_gives_another(
    style: LearntStyle, config: DualstyleganConfig, faces: torch.Tensor
) -> None:
    ways = [{}, {"choice": "mean"}, {"choice": "sampled"}, {"choice": "sampled", "sample": 1}, {"exemplar": 1}]
    drawn = [DualstyleganStylizer(replace(config, **way), style).stylize(faces) for way in ways]
    assert all(bool(one.isfinite().all()) for one in drawn)
    assert all(not torch.equal(a, b) for k, a in enumerate(drawn) for b in drawn[:k])


def test_wrong_settings_are_named(style: LearntStyle, config: DualstyleganConfig) -> None:
    with pytest.raises(ConfigError, match=r"3 weights; this generator takes 10"):
        DualstyleganStylizer(replace(config, dial=(0.5,) * 3), style)
    with pytest.raises(ConfigError, match=r"weight of 1\.5"):
        replace(config, dial=(1.5,))
    with pytest.raises(ConfigError, match="'worst'; choose nearest, mean, sampled"):
        replace(config, choice="worst")
    with pytest.raises(ConfigError, match="48; take a power of two"):
        replace(config, size=48)
    with pytest.raises(ConfigError, match=r"batch is 1; it lies between"):
        replace(config, batch=1)
    with pytest.raises(ConfigError, match=r"There are 1 exemplars"):
        DualstyleganStylizer(replace(config, exemplar=2)).fit(paint_exemplars(1), PaintedFaces(), ignore_progress)
    with pytest.raises(MissingError, match=r"nothing\.safetensors"):
        DualstyleganStylizer(replace(config, prior="nothing.safetensors")).fit(
            paint_exemplars(1), PaintedFaces(), ignore_progress
        )


def test_a_file_with_other_tensors_is_refused(fitted: DualstyleganStylizer, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    fitted.save(path)
    card = read_card(path, "stylizer", (VERSION,))
    tensors = read_tensors(card)
    meta = {key: value for key, value in card.meta.items() if key != "checksum"}
    for given, said in (
        ({**tensors, "more": torch.zeros(1)}, "it holds more as well"),
        ({name: value for name, value in tensors.items() if name != "extrinsic"}, "extrinsic"),
        ({**tensors, "intrinsic": tensors["intrinsic"][:, :2]}, "of another size"),
        ({**tensors, "intrinsic": tensors["intrinsic"][:2]}, "a part of its exemplars"),
        ({**tensors, "gains": tensors["gains"][:2]}, "not those of the bands"),
    ):
        write_file(path, meta, given)
        with pytest.raises(RefusedError, match=said):
            read_state(path)
    write_file(path, {**meta, "stylizer": "other"}, tensors)
    with pytest.raises(RefusedError, match="belongs to the stylizer 'other'"):
        read_state(path)
