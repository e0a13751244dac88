"""Large bases, with random pipelines a thousand times smaller: how they are opened, taught and used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

pytest.importorskip("diffusers", reason="agile3d-diffusion is optional: pip install ./plugins/agile3d-diffusion")
pytest.importorskip("transformers")
pytest.importorskip("agile3d_diffusion", reason="agile3d-diffusion is not installed here")

from agile3d_diffusion.config import DiffusionConfig
from agile3d_diffusion.foreign_lora import read_dialect
from agile3d_diffusion.large import open_pipeline
from agile3d_diffusion.large_style import edges_of
from agile3d_diffusion.state import read_stylizer
from agile3d_diffusion.stylizer import DiffusionStylizer
from agile3d_diffusion.terms import terms_of
from agile3d_diffusion.testing import make_controlnet, make_ip_adapter, make_loras, make_sd, make_sdxl

from agile3d_cli.errors import ConfigError, DeviceError, MissingError, RefusedError
from agile3d_cli.testing import PaintedFaces, ignore_progress, paint_exemplars

# diffusers passes an argument to the hub's client that is no longer used there; not ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd(tmp_path_factory.mktemp("large") / "sd")


def settings(base: Path, **changes: Any) -> DiffusionConfig:
    quick = DiffusionConfig(base=str(base), size=32, fit_steps=1, batch=2, steps=2, faces=2, rank=2)
    return replace(quick, **changes)


def fitted(config: DiffusionConfig) -> DiffusionStylizer:
    stylizer = DiffusionStylizer(config)
    stylizer.fit(paint_exemplars(3), PaintedFaces(), ignore_progress, seed=1)
    return stylizer


def faces() -> Tensor:
    return PaintedFaces().sample(2, torch.Generator().manual_seed(9)).images


def test_a_style_of_sd_draws_the_same_from_its_file_and_says_its_terms(sd: Path, tmp_path: Path) -> None:
    stylizer = fitted(settings(sd, rate=1e-2))
    drawn = stylizer.stylize(faces())
    assert drawn.shape == (2, 3, 64, 64) and bool(drawn.isfinite().all()) and float(drawn.abs().max()) <= 1
    # 1e-6: sums in another order.
    torch.testing.assert_close(stylizer.stylize(faces()[1:]), drawn[1:], rtol=0, atol=1e-6)
    stylizer.save(tmp_path / "style.safetensors")
    loaded = read_stylizer(tmp_path / "style.safetensors")
    assert torch.equal(loaded.stylize(faces()), drawn)
    untaught = fitted(settings(sd, fit_steps=0)).stylize(faces())
    assert float((untaught - drawn).abs().max()) > 1e-4, "the LoRA that was learnt is in use"
    assert [(note.license, note.commercial) for note in stylizer.licenses[1:]] == [("creativeml-openrail-m", True)]


def test_sdxl_is_taught_with_both_text_encoders(tmp_path: Path) -> None:
    stylizer = fitted(settings(make_sdxl(tmp_path / "xl")))
    assert bool(stylizer.stylize(faces()[:1]).isfinite().all())
    assert stylizer.licenses[1].license == "unknown" and not stylizer.licenses[1].commercial


def test_both_dialects_of_lora_change_the_same_layers_by_the_same(sd: Path, tmp_path: Path) -> None:
    kohya, peft, changes = make_loras(tmp_path / "loras")
    assert read_dialect(kohya) == ("kohya", 4) and read_dialect(peft) == ("peft", 4)
    for path in (kohya, peft):
        pipeline = open_pipeline(settings(sd, lora=str(path)), fetch=False)
        for name, change in changes.items():
            part, _, place = name.partition(".")
            found = [layer for key, layer in getattr(pipeline, part).named_modules() if key.endswith(place)]
            assert len(found) == 1
            torch.testing.assert_close(found[0].get_delta_weight("given"), change, rtol=1e-6, atol=1e-6)


def test_a_given_lora_and_the_learnt_one_work_together(sd: Path, tmp_path: Path) -> None:
    kohya, _, _ = make_loras(tmp_path / "loras")
    alone = fitted(settings(sd)).stylize(faces()[:1])
    together = fitted(settings(sd, lora=str(kohya))).stylize(faces()[:1])
    assert float((alone - together).abs().max()) > 1e-3


def test_foreign_files_that_are_no_lora_are_refused(sd: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no LoRA file"):
        read_dialect(tmp_path / "none.safetensors")
    pickled = tmp_path / "lora.safetensors"
    pickled.write_bytes(b"\x80\x04\x95not for us")
    with pytest.raises(RefusedError, match="not a safetensors file"):
        read_dialect(pickled)
    other = tmp_path / "other.safetensors"
    save_file({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, other)
    with pytest.raises(RefusedError, match="hada_w1_a"):
        read_dialect(other)
    elsewhere = tmp_path / "elsewhere.safetensors"
    layer = "unet.mid_block.attentions.7.transformer_blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.zeros(2, 8), f"{layer}.lora_B.weight": torch.zeros(8, 2)}, elsewhere)
    with pytest.raises(RefusedError, match="LoRA made for it"):
        open_pipeline(settings(sd, lora=str(elsewhere)), fetch=False)


def test_a_controlnet_has_its_say(sd: Path, tmp_path: Path) -> None:
    net = str(make_controlnet(tmp_path / "net"))
    drawn = {
        structure: fitted(settings(sd, controlnet=net, structure=structure, fit_steps=0)).stylize(faces()[:1])
        for structure in (0.0, 1.0)
    }
    assert float((drawn[0.0] - drawn[1.0]).abs().max()) > 1e-4


def test_edges_are_where_the_picture_changes() -> None:
    picture = torch.zeros(1, 3, 32, 32)
    picture[..., 16:] = 1
    edges = edges_of(picture)
    assert edges.shape == picture.shape and set(edges.unique().tolist()) == {0.0, 1.0}
    columns = edges[0, 0].sum(0).nonzero().flatten().tolist()
    assert columns and set(columns) <= {14, 15, 16, 17}


def test_an_ip_adapter_shows_the_exemplars_to_the_base(sd: Path, tmp_path: Path) -> None:
    adapter = str(make_ip_adapter(tmp_path / "ip", sd))
    config = settings(sd, ip_adapter=adapter, ip_weight=1.0)
    stylizer = fitted(config)
    stylizer.save(tmp_path / "style.safetensors")
    drawn = stylizer.stylize(faces()[:1])
    assert torch.equal(read_stylizer(tmp_path / "style.safetensors").stylize(faces()[:1]), drawn)
    silent = fitted(replace(config, ip_weight=0.0)).stylize(faces()[:1])
    assert float((silent - drawn).abs().max()) > 1e-4
    with pytest.raises(MissingError, match="image_encoder"):
        open_pipeline(settings(sd, ip_adapter=str(tmp_path / "style.safetensors")), fetch=False)


def test_slices_save_memory_and_change_nothing_but_rounding(sd: Path) -> None:
    config = settings(sd, fit_steps=0)
    sliced = fitted(replace(config, memory="sliced")).stylize(faces()[:1])
    torch.testing.assert_close(sliced, fitted(config).stylize(faces()[:1]), rtol=0, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_offloading_needs_an_accelerator(sd: Path) -> None:
    with pytest.raises(DeviceError, match="sliced"):
        open_pipeline(settings(sd, memory="offload"), fetch=False)


def test_pickled_weights_single_files_and_missing_bases_are_refused(
    sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = make_sd(tmp_path / "pickled")
    weights = pickled / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(RefusedError, match="safetensors"):
        open_pipeline(settings(pickled), fetch=False)
    with pytest.raises(RefusedError, match="single file"):
        open_pipeline(settings(sd / "README.md"), fetch=False)
    with pytest.raises(MissingError, match="no folder"):
        open_pipeline(settings(tmp_path / "nowhere"), fetch=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="not on this machine"):
        open_pipeline(settings(Path("agile3d/no-such-base")), fetch=True)


def test_only_a_base_that_is_named_now_may_be_fetched(sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import AutoPipelineForImage2Image

    asked: list[bool] = []

    def refuse(where: str, *, local_files_only: bool, **further: object) -> None:
        asked.append(local_files_only)
        raise OSError("not in a test")

    monkeypatch.setattr(AutoPipelineForImage2Image, "from_pretrained", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for base, fetch in ((Path("owner/model"), True), (Path("owner/model"), False), (sd, True)):
        with pytest.raises((MissingError, RefusedError)):
            open_pipeline(settings(base), fetch=fetch)
    assert asked == [False, True, True]


def test_terms_come_from_the_models_own_cards(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    cards = {
        "---\nlicense: apache-2.0\n---\n": ("apache-2.0", True),
        "---\ntags: [x]\nlicense: other\nlicense_name: some-research-terms\n---\n": ("some-research-terms", False),
        "license: mit\n": ("unknown", False),
    }
    for text, wanted in cards.items():
        (base / "README.md").write_text(text)
        (note,) = terms_of(DiffusionConfig(base=str(base)))
        assert (note.license, note.commercial) == wanted


def test_a_base_without_a_unet_is_not_trained(sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        unet = None

    monkeypatch.setattr("agile3d_diffusion.large_style.open_pipeline", lambda config, fetch: Other())
    with pytest.raises(ConfigError, match="fit_steps to 0"):
        fitted(settings(sd))
