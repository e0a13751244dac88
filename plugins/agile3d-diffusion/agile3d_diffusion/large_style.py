"""A large base at work: exemplars -> LoRA of its U-net (DreamBooth with prior preservation); faces -> drawings.

Sources: Meng et al., SDEdit, 2022 (image to image); Ruiz et al., DreamBooth, 2023; Zhang et al., ControlNet, 2023;
Ye et al., IP-Adapter, 2023. All networks are diffusers'.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_diffusion.config import DiffusionConfig
from agile3d_diffusion.detail import enlarge, resized
from agile3d_diffusion.foreign_lora import NAME as GIVEN
from agile3d_diffusion.large import open_pipeline
from agile3d_diffusion.learn import jittered, small
from agile3d_diffusion.redraw import SEED
from agile3d_diffusion.terms import terms_of

NAME = "style"
"""Of the adapter that is learnt."""
PARTS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Layers of the U-net that learn: its attention."""
SHOWN = "shown"
"""The exemplars as the IP-Adapter sees them, in a style's file."""


class LargeStyle:
    """A style of a large base; ``fit`` or ``take`` comes first."""

    def __init__(self, config: DiffusionConfig, fetch: bool) -> None:
        from peft import LoraConfig

        self.config = config
        self._pipe = open_pipeline(config, fetch)
        self._unet = getattr(self._pipe, "unet", None)
        self._shown: Tensor | None = None
        if config.fit_steps and self._unet is None:
            raise ConfigError(
                f"{config.base} has no U-net, and only such bases are trained here; set fit_steps to 0 to draw with it "
                "as it is, or with a LoRA of its own."
            )
        if config.fit_steps:
            with warnings.catch_warnings():
                # Two adapters, the given one and the learnt one, are meant.
                warnings.filterwarnings("ignore", "Already found a `peft_config`")
                self._unet.add_adapter(LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=PARTS), NAME)
            self._unet.set_adapters([NAME, *([GIVEN] if _has(self._unet, GIVEN) else [])])
        self._own = {}
        if self._unet is not None:
            self._own = {name: value for name, value in self._unet.named_parameters() if f".{NAME}." in name}

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int) -> dict[str, Tensor]:
        """What a file needs to hold of the style."""
        c = self.config
        progress("; ".join(f"{note.item}: licence {note.license}" for note in terms_of(c)), 0.0)
        shown = small(exemplars, c.size)
        if c.ip_adapter:
            self._shown = self._seen(shown)
        if c.fit_steps:
            progress("looking at realistic faces", 0.02)
            real = faces.sample(c.faces, torch.Generator().manual_seed(seed)).images
            self._learn(shown, small(list(real), c.size), progress, seed)
        state = {name: value.detach().half() for name, value in self._own.items()}
        if self._shown is not None:
            state[SHOWN] = self._shown
        self.take(state)
        return state

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Takes on a style; RefusedError where its tensors do not fit the base."""
        shapes = {name: value.shape for name, value in state.items() if name != SHOWN}
        if shapes != {name: value.shape for name, value in self._own.items()}:
            raise RefusedError(f"The style's weights do not fit {self.config.base}; fit the style again.")
        if (SHOWN in state) != bool(self.config.ip_adapter):
            raise RefusedError("The style does not hold what its IP-Adapter needs; fit the style again.")
        with torch.no_grad():
            for name, value in self._own.items():
                value.copy_(state[name])
        self._shown = state.get(SHOWN)

    def draw(self, face: Tensor) -> Tensor:
        """One face (3, S, S) in [-1, 1] in the style, same shape."""
        c = self.config
        if c.memory != "offload":
            self._pipe.to(face.device)
        picture = (resized(face[None].float(), c.size).clamp(-1, 1) + 1) / 2
        asked: dict[str, Any] = {"prompt": c.prompt, "image": picture, "strength": c.strength, "output_type": "pt"}
        asked |= {"num_inference_steps": math.ceil(c.steps / c.strength), "guidance_scale": c.guidance}
        asked["generator"] = torch.Generator().manual_seed(SEED)
        if c.controlnet:
            seen = picture if c.control == "picture" else edges_of(picture)
            asked |= {"control_image": seen, "controlnet_conditioning_scale": c.structure}
        if self._shown is not None:
            plain = torch.zeros_like(self._shown)
            both = torch.cat([plain, self._shown]) if c.guidance > 1 else self._shown
            asked["ip_adapter_image_embeds"] = [both.to(face.device)]
        result = self._pipe(**asked)
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise ConfigError(f"The safety checker of {c.base} refused a drawing; try a lower strength.")
        return enlarge(2 * result.images.float() - 1, face[None].float(), c.detail)[0]

    def _seen(self, pictures: Tensor) -> Tensor:
        """(1, 1, D) the exemplars as the IP-Adapter's image encoder sees them, on average."""
        each = [Image.fromarray(_bytes(picture)) for picture in pictures]
        with torch.no_grad():
            codes, _ = self._pipe.encode_image(each, pictures.device, 1)
        return codes.float().mean(0)[None, None]

    def _learn(self, exemplars: Tensor, prior: Tensor, progress: Progress, seed: int) -> None:
        """Trains the LoRA on exemplars with ``prompt`` and realistic faces with ``prior_prompt``."""
        c, rng = self.config, torch.Generator().manual_seed(seed)
        for name, value in self._own.items():
            value.requires_grad_(True)
            with torch.no_grad():
                fresh = 2 * torch.rand(value.shape, generator=rng) - 1
                value.copy_(fresh * value[0].numel() ** -0.5 if "lora_A" in name else torch.zeros_like(value))
        ask, ask_prior = self._words(c.prompt), self._words(c.prior_prompt)
        optimizer = torch.optim.AdamW(list(self._own.values()), lr=c.rate, weight_decay=1e-2)
        for step in range(c.fit_steps):
            chosen = exemplars[torch.randint(len(exemplars), (c.batch,), generator=rng)]
            loss = self._loss(jittered(chosen, rng), ask, rng)
            if c.prior > 0:
                chosen = prior[torch.randint(len(prior), ((c.batch + 1) // 2,), generator=rng)]
                loss = loss + c.prior * self._loss(chosen, ask_prior, rng)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(self._own.values()), 1.0)
            optimizer.step()
            progress("learning the style", 0.1 + 0.9 * (step + 1) / c.fit_steps)
        for value in self._own.values():
            value.requires_grad_(False)

    def _loss(self, pictures: Tensor, words: dict[str, Tensor], rng: torch.Generator) -> Tensor:
        """Mean squared error of what this base predicts: noise, velocity or clean picture."""
        from diffusers import DDPMScheduler

        vae, noiser = self._pipe.vae, DDPMScheduler.from_config(self._pipe.scheduler.config)
        with torch.no_grad():
            clean = torch.cat([vae.encode(one[None]).latent_dist.mode() for one in pictures])
        clean = clean * vae.config.scaling_factor
        time = torch.randint(noiser.config.num_train_timesteps, (len(clean),), generator=rng)
        noise = torch.randn(clean.shape, generator=rng)
        added = {name: value.expand(len(clean), *value.shape[1:]) for name, value in words.items() if name != "words"}
        if self._shown is not None:
            added["image_embeds"] = [self._shown.expand(len(clean), -1, -1)]
        seen = self._unet(
            noiser.add_noise(clean, noise, time),
            time,
            encoder_hidden_states=words["words"].expand(len(clean), -1, -1),
            added_cond_kwargs=added,
        ).sample
        kind = noiser.config.prediction_type
        wanted = {"epsilon": noise, "sample": clean}.get(kind)
        return F.mse_loss(seen, noiser.get_velocity(clean, noise, time) if wanted is None else wanted)

    @torch.no_grad()
    def _words(self, prompt: str) -> dict[str, Tensor]:
        """What the U-net is told of a prompt: ``words`` (1, L, D), and what SDXL wants beside it."""
        if getattr(self._pipe, "text_encoder_2", None) is None:
            found = self._pipe.encode_prompt(prompt, "cpu", 1, False)
            return {"words": found[0]}
        found = self._pipe.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        size = self.config.size
        return {
            "words": found[0],
            "text_embeds": found[2],
            "time_ids": torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32),
        }


def edges_of(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, S, S) in [0, 1] -> white edges on black, same shape (Canny)."""
    from skimage.feature import canny

    drawn = [canny(one.mean(0).cpu().numpy(), sigma=1.5) for one in pictures]
    return torch.from_numpy(np.stack(drawn)).to(pictures)[:, None].expand(-1, 3, -1, -1)


def _bytes(picture: Tensor) -> np.ndarray:
    """(3, S, S) in [-1, 1] to (S, S, 3) uint8."""
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def _has(unet: Any, name: str) -> bool:
    return any(f".{name}." in key for key, _ in unet.named_parameters())
