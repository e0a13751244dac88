"""Shards of pictures with known latents -> the weights of the encoder ``mini_encoder.safetensors``.

    python -m agile3d_cli.prior.encode --heads runs/heads --out agile3d_cli/assets

The pictures are looked at once, twice disturbed as photos are (light, blur, compression, shift, an uncertain mask, a
covered part), and what was seen is kept in ``--seen``; then each expert is one ridge regression. On subjects apart from
it the strength of the ridge is chosen, each coordinate is shrunk to what holds of it, and measured how far it is off.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.models.backbone import Mapping
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.encoder import VIEWS, Encoder, Expert, Guess, agreed, combined, evidence
from agile3d_cli.prior.config import MINI
from agile3d_cli.prior.points import CLOSE_VIEWS

log = logging.getLogger("agile3d.prior")
CHECKED, HELD_OUT = 200, 50
"""Subjects apart: for the strength and the spread of guesses, and for the figures that are told."""
RIDGES = (3e3, 1e4, 3e4, 1e5)
MOST_TURNED = 0.75
"""Yaw, radians, up to which a view counts as a portrait."""


@dataclass(frozen=True)
class EncodeConfig:
    """One training of the encoder."""

    disturbed: int = 2
    """How often each picture is looked at."""
    seed: int = 0


def disturb(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (S, S, 4) uint8 with its mask, as a camera and a matte network might give it."""
    size = picture.shape[0]
    zoom, shift = 1 + 0.05 * rng.normal(), 0.012 * size * rng.normal(size=2)
    half = size / 2
    move = (1 / zoom, 0, half - half / zoom + shift[0], 0, 1 / zoom, half - half / zoom + shift[1])
    image = Image.fromarray(picture).transform((size, size), Image.Transform.AFFINE, move, Image.Resampling.BICUBIC)
    pixels = np.asarray(image).astype(np.float32) / 255
    colour, matte = pixels[..., :3], pixels[..., 3]
    colour = colour ** np.exp(0.1 * rng.normal()) * (1 + 0.03 * rng.normal(size=3)) + 0.015 * rng.normal()
    small = int(size * rng.uniform(0.5, 1))
    compressed = io.BytesIO()
    picture8 = Image.fromarray((colour.clip(0, 1) * 255).astype(np.uint8)).resize((small, small))
    picture8.save(compressed, "JPEG", quality=int(rng.uniform(40, 95)))
    colour = np.asarray(Image.open(compressed).resize((size, size), Image.Resampling.BILINEAR)).astype(np.float32) / 255
    soft = F.avg_pool2d(torch.from_numpy(matte)[None, None], 5, 1, 2)[0, 0].numpy()
    matte = (soft - rng.uniform(0.3, 0.7)) * rng.uniform(3, 8) + 0.5
    if rng.random() < 0.15:
        high, wide = (int(size * rng.uniform(0.1, 0.35)) for _ in range(2))
        top, left = int(rng.integers(size - high)), int(rng.integers(size - wide))
        colour[top : top + high, left : left + wide] = rng.uniform(size=3)
    return np.concatenate([colour, matte[..., None]], -1).clip(0, 1).astype(np.float32)


def portraits(labels: Tensor) -> dict[str, list[int]]:
    """Which views of one subject, labels (V, 25), are like photos, by the kind of picture."""
    yaw = [abs(camera.angles(label)[0]) for label in labels]
    chosen = [k for k in range(len(yaw)) if yaw[k] < MOST_TURNED]
    return {"crop": [k for k in chosen if k < CLOSE_VIEWS], "wide": [k for k in chosen if k >= CLOSE_VIEWS]}


def look(heads: Path, seen: Path, config: EncodeConfig, part: int = 0, parts: int = 1) -> None:
    """Evidence of every ``parts``-th shard from ``part`` on, one file each; what exists is kept."""
    seen.mkdir(parents=True, exist_ok=True)
    for shard in sorted(heads.glob("heads-*.safetensors"))[part::parts]:
        target = seen / shard.name
        if target.exists():
            continue
        stored = load_file(shard)
        rng = np.random.default_rng([config.seed, int(shard.stem.split("-")[1])])
        rows: dict[str, list[Tensor]] = {view: [] for view in VIEWS}
        owners: dict[str, list[int]] = {view: [] for view in VIEWS}
        for subject, labels in enumerate(stored["labels"]):
            for view, numbers in portraits(labels).items():
                for number in numbers * config.disturbed:
                    shown = torch.from_numpy(disturb(stored["pixels"][subject, number].numpy(), rng))
                    shown = shown.permute(2, 0, 1)[None]
                    rows[view].append(evidence(shown[:, :3] * 2 - 1, shown[:, 3:]).half())
                    owners[view].append(subject)
        tensors = {view: torch.cat(rows[view]) for view in VIEWS}
        tensors |= {f"{view}.owner": torch.tensor(owners[view]) for view in VIEWS}
        temporary = target.with_suffix(".part")
        save_file(tensors | {"z": stored["z"]}, temporary)
        os.replace(temporary, target)
        log.info("looked at %s", shard.name)


@dataclass(frozen=True)
class Seen:
    """All evidence of one kind of picture."""

    rows: Tensor
    """(R, EVIDENCE) half precision."""
    owner: Tensor
    """(R,) number of the subject."""
    first: Tensor
    count: Tensor
    """(subjects,) where a subject's rows begin, and how many they are."""


def gathered(seen: Path, view: str) -> tuple[Seen, Tensor]:
    """One kind of picture of all shards, and z (subjects, z_dim)."""
    rows, owners, latents, before = [], [], [], 0
    for path in sorted(seen.glob("heads-*.safetensors")):
        stored = load_file(path)
        rows.append(stored[view])
        owners.append(stored[f"{view}.owner"] + before)
        latents.append(stored["z"])
        before += len(stored["z"])
    owner = torch.cat(owners)
    count = torch.bincount(owner, minlength=before)
    return Seen(torch.cat(rows), owner, count.cumsum(0) - count, count), torch.cat(latents)


def fit_expert(seen: Seen, z: Tensor) -> Expert:
    """An expert for z (subjects, D), from all but the last ``CHECKED`` + ``HELD_OUT`` subjects."""
    expert = Expert(z.shape[1])
    train, apart = len(z) - CHECKED - HELD_OUT, len(z) - HELD_OUT
    known, check = seen.owner < train, (seen.owner >= train) & (seen.owner < apart)
    rows = seen.rows[known].float()
    expert.mean.copy_(rows.mean(0))
    expert.deviation.copy_(rows.std(0) + 1e-2)
    rows, wanted = expert.standard(rows), z[seen.owner[known]]
    other, truth = expert.standard(seen.rows[check].float()), z[seen.owner[check]]
    gram, right, middle = rows.T @ rows, rows.T @ (wanted - wanted.mean(0)), wanted.mean(0)
    best: tuple[float, Tensor] | None = None
    for ridge in RIDGES:
        weight = torch.linalg.solve(gram + ridge * torch.eye(len(gram)), right)
        error = float((other @ weight + middle - truth).square().mean())
        if best is None or error < best[0]:
            best = error, weight
    assert best is not None
    said = other @ best[1]
    share = ((said * (truth - middle)).sum(0) / said.square().sum(0)).clamp(0, 1)
    left = (said * share + middle - truth).square().mean(0).sqrt()
    with torch.no_grad():
        expert.layer.weight.copy_((best[1] * share).T)
        expert.layer.bias.copy_(middle)
        expert.sure.copy_(left.clamp(max=1))
    return expert


@torch.no_grad()
def explained(guess: Guess, z: Tensor) -> Tensor:
    """Share of the variance of each coordinate that a guess explains, (D,)."""
    return 1 - (guess.mean - z).square().mean(0) / z.var(0, unbiased=False)


def make_encoder(seen: Path, mapping: Mapping) -> tuple[Encoder, dict[str, Tensor]]:
    """Both experts, and what they explain together of the subjects held out: the share of each coordinate and trait,
    and that of each coordinate and trait of the latent that agrees with both."""
    shape = MINI.deformation.components
    encoder = Encoder(MINI.z_dim - shape + MINI.traits.count)
    apart: list[Seen] = []
    for view in VIEWS:
        rows, z = gathered(seen, view)
        wanted = torch.cat([z[:, shape:], mapping.traits(mapping.entry(z)[0])], 1)
        encoder.experts[view] = fit_expert(rows, wanted)
        apart.append(rows)
    both = [s for s in range(len(z) - HELD_OUT, len(z)) if all(rows.count[s] for rows in apart)]
    firsts = [rows.rows[rows.first[both]].float() for rows in apart]
    guess = combined([encoder.experts[view](first) for view, first in zip(VIEWS, firsts, strict=True)])
    latent = torch.cat([z[both, :shape], agreed(guess, z[both, :shape], mapping).mean], 1)
    again = torch.cat([latent[:, shape:], mapping.traits(mapping.entry(latent)[0])], 1)
    return encoder.eval(), {
        "guess": explained(guess, wanted[both]),
        "agreed": explained(Guess(again, torch.ones_like(again)), wanted[both]),
    }


def main() -> None:
    """Command line of the encoder's training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, required=True, help="folder of prior.subjects' shards")
    parser.add_argument("--seen", type=Path, default=Path("runs/seen"), help="folder for what was looked at")
    parser.add_argument("--out", type=Path, required=True, help="folder of mini_encoder.safetensors")
    parser.add_argument("--model", default="mini", help="name or file of the generator that says what traits are")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--look", metavar="I/N", help="only look, at every N-th shard from the I-th on")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    config = EncodeConfig()
    with torch.inference_mode():
        look(args.heads, args.seen, config, *(map(int, args.look.split("/")) if args.look else ()))
    if args.look:
        return
    with torch.no_grad():
        encoder, shares = make_encoder(args.seen, load_base(args.model).generator.mapping)
    tensors = {name: value.half().contiguous() for name, value in encoder.state_dict().items()}
    save_file(tensors, args.out / "mini_encoder.safetensors", {"agile3d": json.dumps({"training": asdict(config)})})
    told = {name: [round(float(share), 3) for share in values] for name, values in shares.items()}
    sys.stdout.write(json.dumps({"explained": told}) + "\n")


if __name__ == "__main__":
    main()
