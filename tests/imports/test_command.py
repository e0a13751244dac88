"""`agile3d models import`, `show --tensors` and `remove`, and what the rest of the program makes of an import."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from agile3d_cli import camera
from agile3d_cli.bundle import BaseReference, StyleBundle, write_style
from agile3d_cli.cli.app import app
from agile3d_cli.errors import PhotoError, UsageError
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.foreign import eg3d_names, left_away
from agile3d_cli.models.published import render_published
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.safefile import file_sha256
from agile3d_cli.style.config import NewStyleConfig
from agile3d_cli.style.dry_run import look_ahead
from agile3d_cli.style.pipeline import learn_style

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, dict[str, Any]]]
PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
GUIDE = Path(__file__).parents[2] / "docs" / "import.md"
GOLDEN = Path(__file__).parents[2] / "../shared/parity/eg3d-mini"


@pytest.fixture
def run(canary: Path) -> Run:
    """The program, in an empty current folder."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def run_json(run: Run) -> RunJson:
    """Exit code and document."""

    def run_command(*words: Any) -> tuple[int, dict[str, Any]]:
        result = run(*words, "--json")
        return result.exit_code, json.loads(result.stdout)

    return run_command


def test_an_import_shows_what_its_file_shows(
    tiny: Any, tmp_path: Path, own_home: Path, canary: Path, run_json: RunJson
) -> None:
    file = tiny.pickle(tmp_path / "FFHQ Tiny.pkl")
    code, document = run_json("models", "import", file)
    assert code == 0 and document["model"] == "ffhq-tiny" and document["notes"] == []
    assert Path(document["file"]) == own_home / "models" / "ffhq-tiny.safetensors"
    assert document["architecture"] == {"kind": "triplane-generator", **json.loads(json.dumps(tiny.config.to_dict()))}
    source = document["training"]["source"]
    assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() and source["file"] == file.name
    assert document["training"]["rendering"]["ray_end"] == tiny.config.far
    assert all(left_away(name) for name in document["training"]["left_away"])
    assert not canary.exists()
    # By seed, from the base that the program loads: the pictures of the network that was pickled.
    base = load_base("ffhq-tiny")
    z = torch.randn(1, tiny.config.z_dim, generator=torch.Generator().manual_seed(3))
    label = camera.portrait_label(0.3, 0.1)[None]
    shown, wanted = (
        render_published(network, network.mapping(z, label, 0.7), label) for network in (base.generator, tiny.generator)
    )
    assert shown.image is not None and shown.image.shape == (1, 3, 32, 32)
    assert torch.equal(shown.image, wanted.image) and torch.equal(shown.depth, wanted.depth)
    assert base.reference.sha256 == document["sha256"]


def test_tensors_can_be_compared_one_by_one(tiny: Any, tmp_path: Path, run: Run, run_json: RunJson) -> None:
    assert run("models", "import", tiny.pickle(tmp_path / "t.pkl"), "--quiet").exit_code == 0
    code, document = run_json("models", "show", "t", "--tensors")
    assert code == 0
    listed = {entry["official"]: entry for entry in document["tensors"] if entry["official"]}
    assert sorted(listed) == sorted(eg3d_names(tiny.config).values())
    for name, entry in listed.items():
        value = tiny.tensors[name]
        assert (entry["shape"], entry["dtype"]) == (list(value.shape), "float32")
        assert entry["sha256"] == hashlib.sha256(value.numpy().tobytes()).hexdigest()
    assert "backbone.mapping.w_avg" in run("models", "show", "t", "--tensors").stdout
    _, document = run_json("models", "show", "mini", "--tensors")
    assert document["tensors"] and all(entry["official"] is None for entry in document["tensors"])
    assert "tensors" not in run_json("models", "show", "t")[1]


def test_names_terms_and_removal(tiny: Any, tmp_path: Path, run: Run, run_json: RunJson) -> None:
    file = tiny.pickle(tmp_path / "t.pkl")
    assert run("models", "import", file).exit_code == 0
    again = run("models", "import", file)
    assert again.exit_code == 2 and "already a model 't'" in again.stderr
    assert run("models", "import", file, "--force").exit_code == 0
    assert run("models", "import", file, "--name", "No Name").exit_code == 2
    assert run("models", "import", file, "--plane-axes", "zy", "--name", "u").exit_code == 2
    free = ("models", "import", file, "--name", "free", "--license", "CC0-1.0", "--origin", "https://example.org/t")
    assert run(*free, "--plane-axes", "xy_xz_zy").exit_code == 0
    models = {entry["name"]: entry for entry in run_json("models", "list")[1]["models"]}
    assert models["free"]["license"] == "CC0-1.0" and "non-commercial" in models["t"]["license"]
    assert run_json("models", "show", "free")[1]["model"]["architecture"]["plane_axes"] == "xy_xz_zy"
    chains = {chain["name"]: chain for chain in run_json("licenses")[1]["licenses"]}
    assert not chains["t"]["commercial"] and chains["free"]["commercial"]
    assert {note["origin"] for note in chains["free"]["licenses"]} == {"https://example.org/t"}
    refused = run_json("licenses", "--commercial-only")
    assert refused[0] == 5 and "t" in refused[1]["refused"] and "free" not in refused[1]["refused"]
    assert run("models", "verify").exit_code == 0
    assert run("models", "remove", "t").exit_code == 0
    assert run("models", "remove", "t").exit_code == 4
    assert run("models", "remove", "mini").exit_code == 2
    assert run("models", "import", tmp_path / "none.pkl").exit_code == 4


def test_the_same_file_gives_the_same_bytes(tiny: Any, tmp_path: Path, run_json: RunJson) -> None:
    file = tiny.pickle(tmp_path / "t.pkl")
    assert len({run_json("models", "import", file, "--force")[1]["sha256"] for _ in range(2)}) == 1


def test_our_own_files_are_imported_under_another_name(tiny: Any, tmp_path: Path, run_json: RunJson) -> None:
    _, first = run_json("models", "import", tiny.pickle(tmp_path / "t.pkl"))
    code, second = run_json("models", "import", first["file"], "--name", "u")
    assert code == 0 and second["architecture"] == first["architecture"]
    assert second["license"] == first["license"] and second["training"] == first["training"]


def test_options_can_be_given_where_the_file_has_none(tiny: Any, tmp_path: Path, run: Run, run_json: RunJson) -> None:
    save_file(tiny.tensors, tmp_path / "t.safetensors")
    bare = run("models", "import", tmp_path / "t.safetensors")
    assert bare.exit_code == 5 and "--rendering" in bare.stderr
    options = {"ray_start": 2, "ray_end": 3, "box_warp": 2, "depth_resolution": 4, "depth_resolution_importance": 5}
    told = tmp_path / "options.json"
    told.write_text(json.dumps({"rendering_kwargs": options, "neural_rendering_resolution": 4}))
    code, document = run_json("models", "import", tmp_path / "t.safetensors", "--rendering", told)
    assert code == 0 and document["architecture"]["superresolution"]["rendered"] == 4
    assert (document["architecture"]["far"], document["architecture"]["fine_samples"]) == (3, 5)
    assert document["notes"] and document["notes"] == document["training"]["assumed"]
    for text in ("[1]", "{", "{}"):
        told.write_text(text)
        words = ("models", "import", tmp_path / "t.safetensors", "--rendering", told, "--name", "v")
        assert run(*words).exit_code == 5
    assert run(*words[:-3], tmp_path / "none.json").exit_code == 4


def test_the_examples_of_the_docs_run(tiny: Any, tmp_path: Path, run: Run, own_home: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert run("models", "import", tiny.pickle(tmp_path / "t.pkl")).exit_code == 0
    base = load_base("t")
    bias = torch.zeros_like(base.generator.decoder.output.bias)
    learnt = StyleDifference({"decoder.output.bias": bias + 0.5}, None)
    felt = StyleBundle("felt", base.reference, learnt.tensors())
    (own_home / "styles").mkdir()
    write_style(own_home / "styles" / "felt.safetensors", felt)
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    assert "ffhqrebalanced512-128" in code and "resolution=256" in code
    # A tiny network of random numbers has no head: what is as dense as its middle is taken for one.
    middle = "resolution=32, level=float(subject.field(torch.zeros(1, 3))[0][0]) - 0.01"
    found: dict[str, Any] = {}
    exec(code.replace("ffhqrebalanced512-128", "t").replace("resolution=256", middle), found)
    assert found["views"].image.shape == (5, 3, 32, 32) and len(found["surface"].faces)
    with Image.open("felt.png") as picture:
        assert picture.size == (512, 512) and len(set(picture.convert("L").tobytes())) > 20
    with Image.open("view.png") as picture:
        assert picture.size == (32, 32) and len(set(picture.convert("L").tobytes())) > 20
    # The options and limits that the page tells are those of the program.
    shown = run("models", "import", "--help").stdout
    assert all(option in shown and option in text for option in ("--rendered", "--rendering", "--license", "--origin"))
    assert "--remove" in run("models", "native", "--help").stdout and "models native" in text


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded EG3D tensors are not on this machine")
def test_the_recorded_network_is_imported(make_network: Any, as_pickle: Any, tmp_path: Path, run_json: RunJson) -> None:
    tensors = load_file(GOLDEN / "weights.safetensors")
    config = json.loads((GOLDEN / "config.json").read_text())["config"]
    network = make_network()
    network = type(network)(network.config, network.generator, tensors)
    tree = network.tree()
    tree.rendering_kwargs, tree.neural_rendering_resolution = config["kwargs"]["rendering_kwargs"], 32
    (tmp_path / "mini-eg3d.pkl").write_bytes(as_pickle({"G_ema": tree}))
    code, document = run_json("models", "import", tmp_path / "mini-eg3d.pkl")
    assert code == 0 and document["notes"] == []
    architecture = document["architecture"]
    assert (architecture["z_dim"], architecture["channel_base"], architecture["channel_max"]) == (32, 1024, 32)
    assert architecture["superresolution"]["entry"] == 64 and architecture["superresolution"]["sizes"] == [64, 128]
    assert (architecture["coarse_samples"], architecture["near"], architecture["far"]) == (12, 2.25, 3.3)


def test_flows_that_an_import_cannot_serve_say_so(tiny: Any, tmp_path: Path, run: Run, own_home: Path) -> None:
    assert run("models", "import", tiny.pickle(tmp_path / "t.pkl")).exit_code == 0
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(3):
        Image.new("RGB", (64, 64), (40 * k, 90, 120)).save(folder / f"{k}.png")
    config = NewStyleConfig(name="s", base="t")
    with pytest.raises(PhotoError, match="No face is found in 20 pictures of the generator 't'"):
        learn_style(folder, tmp_path / "faces", config, lambda stage, share: None)
    with pytest.raises(UsageError, match="--photos shows a style's shapes to generators that deform"):
        learn_style(folder, tmp_path / "out", replace(config, photos=folder), lambda stage, share: None)
    assert not (tmp_path / "out").exists()
    plan = look_ahead(folder, config).plan
    assert plan.seconds["augment"] is None and plan.seconds["transfer"] is None
    assert plan.size == load_base("t").generator.config.superresolution.sizes[-1]
    said = "The generator 't' is an imported one: where the landmarks of its heads lie is not known"
    model = own_home / "models" / "t.safetensors"
    style = StyleBundle("s", BaseReference("t", file_sha256(model), {}), {"d": torch.zeros(1)})
    write_style(tmp_path / "s.safetensors", style)
    result = run("apply", PHOTO, "--style", tmp_path / "s.safetensors", "--output", tmp_path / "out")
    assert result.exit_code == 2 and said in result.stderr
