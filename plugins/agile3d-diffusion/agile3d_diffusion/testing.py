"""For tests: random pipelines shaped like large bases, a thousand times smaller, and what is added to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WORDS = 32
"""Width of the text encoders."""
UNET: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "attention_head_dim": 8,
}


def make_sd(folder: Path) -> Path:
    """A pipeline as SD 1.5's, with a model card."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, cross_attention_dim=WORDS, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **UNET
    )
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text()),
        tokenizer=_tokenizer(folder.with_name(folder.name + "-words")),
        unet=unet,
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\nA base for tests.\n")
    return folder


def make_sdxl(folder: Path) -> Path:
    """A pipeline as SDXL's: two text encoders, and sizes that the U-net is told."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        cross_attention_dim=2 * WORDS,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WORDS + 6 * 8,
        **UNET,
    )
    words = _tokenizer(folder.with_name(folder.name + "-words"))
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text()),
        text_encoder_2=CLIPTextModelWithProjection(_text()),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=_scheduler(),
        force_zeros_for_empty_prompt=True,
    )
    pipeline.save_pretrained(folder)
    return folder


def make_controlnet(folder: Path) -> Path:
    """A ControlNet for ``make_sd``; its last layers are not zero, so that it says something."""
    torch.manual_seed(1)
    net = ControlNetModel(cross_attention_dim=WORDS, conditioning_embedding_out_channels=(16, 16), **UNET)
    for name, value in net.named_parameters():
        if "controlnet" in name and name.endswith("weight"):
            torch.nn.init.normal_(value, std=0.3)
    net.save_pretrained(folder)
    return folder


def make_ip_adapter(folder: Path, base: Path) -> Path:
    """An IP-Adapter for ``make_sd`` with its image encoder, in the files' own names."""
    torch.manual_seed(2)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * WORDS, 16),
        "image_proj.proj.bias": torch.zeros(4 * WORDS),
        "image_proj.norm.weight": torch.ones(WORDS),
        "image_proj.norm.bias": torch.zeros(WORDS),
    }
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            tensors |= {f"ip_adapter.{number}.to_{x}_ip.weight": torch.randn(width, WORDS) for x in "kv"}
    save_file(tensors, folder / "ip-adapter.safetensors")
    return folder / "ip-adapter.safetensors"


def make_loras(folder: Path) -> tuple[Path, Path, dict[str, torch.Tensor]]:
    """The same LoRA of ``make_sd`` in both dialects, and by how much it changes layers, (out, in) by name."""
    rng = torch.Generator().manual_seed(3)
    kohya: dict[str, torch.Tensor] = {}
    peft: dict[str, torch.Tensor] = {}
    changes: dict[str, torch.Tensor] = {}
    attention, text = "down_blocks.1.attentions.0.transformer_blocks.0.attn1", "encoder.layers.0.self_attn"
    for head, part, prefix, name in (
        ("unet", "unet", "", f"{attention}.to_q"),
        ("unet", "unet", "", f"{attention}.to_out.0"),
        ("te", "text_encoder", "text_model.", f"{text}.q_proj"),
        ("te", "text_encoder", "text_model.", f"{text}.out_proj"),
    ):
        down, up = torch.randn(4, 32, generator=rng), torch.randn(32, 4, generator=rng)
        key = f"lora_{head}_{(prefix + name).replace('.', '_')}"
        kohya |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}
        # This dialect has no alpha in the file: the scale, alpha / rank, is folded in.
        peft |= {f"{part}.{prefix}{name}.lora_A.weight": down, f"{part}.{prefix}{name}.lora_B.weight": up / 2}
        changes[f"{part}.{name}"] = up @ down / 2
    folder.mkdir(exist_ok=True)
    save_file(kohya, folder / "kohya.safetensors")
    save_file(peft, folder / "peft.safetensors")
    return folder / "kohya.safetensors", folder / "peft.safetensors", changes


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )


def _text() -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=WORDS, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=64,
        projection_dim=WORDS, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Knows letters only."""
    folder.mkdir()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
