"""A blend lies between its styles, says what went into it, and is a style like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agile3d_cli.avatar.latents import open_style
from agile3d_cli.bundle import BaseReference, StyleBundle, read_style, write_style
from agile3d_cli.cli.app import main
from agile3d_cli.errors import ConfigError, UsageError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.registry import own_folder
from agile3d_cli.style import preview
from agile3d_cli.style.blend import between, blend_styles

NOTES = tuple(LicenseNote(f"pictures {k}", "MIT", "made in this test", True) for k in range(2))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview of few pixels."""
    monkeypatch.setattr(preview, "PREVIEW_SIZE", 16)
    monkeypatch.setattr(preview, "KEPT_SIZE", 16)


@pytest.fixture
def pair(micro: BaseModel, style: StyleDifference) -> tuple[StyleBundle, StyleBundle]:
    """A style, and one that moves nothing and has other colours."""
    name, change = next(iter(style.weights.items()))
    other = StyleDifference({name: -change}, None)
    entry = {"sha256": "a" * 64, "size": [9, 9]}
    bundles = (
        StyleBundle("one", micro.reference, style.tensors(), license="MIT", licenses=NOTES[:1], exemplars=(entry,)),
        StyleBundle("two", micro.reference, other.tensors(), license="CC0-1.0", licenses=NOTES, exemplars=(entry,)),
    )
    return bundles


def test_its_ends_are_the_styles_and_its_middle_is_half_of_each(
    micro: BaseModel, pair: tuple[StyleBundle, StyleBundle]
) -> None:
    first, second = (open_style(bundle, micro) for bundle in pair)
    assert first.displacement is not None
    for weight in (0.0, 0.5, 1.0):
        found = open_style(blend_styles(*pair, weight, "mixed", micro), micro)
        assert found.displacement is not None and set(found.weights) == {*first.weights, *second.weights}
        # Half precision.
        torch.testing.assert_close(found.displacement, (1 - weight) * first.displacement, rtol=1e-3, atol=1e-5)
        for name, value in found.weights.items():
            wanted = (1 - weight) * first.weights[name] + weight * second.weights.get(name, torch.zeros(()))
            torch.testing.assert_close(value, wanted, rtol=2e-3, atol=1e-5)


def test_styles_without_shape_blend_without_shape() -> None:
    plain = StyleDifference({"w": torch.ones(2)}, None)
    assert between(plain, StyleDifference({}, None), 0.25).displacement is None
    assert between(plain, StyleDifference({}, None), 0.25).weights["w"].tolist() == [0.75, 0.75]
    assert between(plain, StyleDifference({}, None, calm=0.8), 0.25).calm == 0.2
    assert between(StyleDifference({}, None, light=0.4), plain, 0.25).light == pytest.approx(0.3)


def test_it_says_what_went_in(micro: BaseModel, pair: tuple[StyleBundle, StyleBundle]) -> None:
    blend = blend_styles(*pair, 0.25, "mixed", micro)
    assert blend.licenses == NOTES and blend.license == "see licenses" and len(blend.exemplars) == 1
    assert blend_styles(pair[0], replace(pair[1], license="MIT"), 0.5, "mixed", micro).license == "MIT"
    assert [(part["name"], part["weight"]) for part in blend.training["blend"]] == [("one", 0.75), ("two", 0.25)]
    assert blend.summary == "75% one, 25% two" and blend.preview is not None


def test_what_cannot_be_blended_is_named(micro: BaseModel, pair: tuple[StyleBundle, StyleBundle]) -> None:
    with pytest.raises(ConfigError, match="--weight"):
        blend_styles(*pair, 1.5, "mixed", micro)
    foreign = replace(pair[1], base=BaseReference("micro", "0" * 64, {}))
    with pytest.raises(UsageError, match="another version"):
        blend_styles(pair[0], foreign, 0.5, "mixed", micro)


def test_the_command_adds_it_to_the_own_styles(
    installed: Path, pair: tuple[StyleBundle, StyleBundle], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for bundle in pair:
        write_style(tmp_path / f"{bundle.name}.safetensors", bundle)
    files = [str(tmp_path / f"{bundle.name}.safetensors") for bundle in pair]

    def run(*options: str) -> int:
        monkeypatch.setattr("sys.argv", ["agile3d", "styles", "blend", *files, "--quiet", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert run("--weight", "0.3") == 0
    assert read_style(own_folder("style") / "one-two.safetensors").summary == "70% one, 30% two"
    assert run("--weight", "0.6") == 2
    assert run("--weight", "0.6", "--force") == 0
    assert read_style(own_folder("style") / "one-two.safetensors").summary == "40% one, 60% two"
    assert run("--name", "x", "--weight", "2") == 2
    assert run("--name", "x", "--output", str(tmp_path / "out.safetensors")) == 0
    assert read_style(tmp_path / "out.safetensors").name == "x"
