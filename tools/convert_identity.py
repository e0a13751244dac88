"""Makes agile3d_cli/assets/identity.safetensors from the 8-bit dlib weights of the npm package @vladmandic/face-api.

    python tools/convert_identity.py face_recognition_model-weights_manifest.json face_recognition_model.bin

Values stay 8-bit, each tensor with its scale and low end, in the layout and under the names of ``models.identity``; the
few tensors that the package keeps in full precision become 8-bit per output channel where that changes nothing that
matters (below 0.01 in distance), so the whole is 5.6 MB. Weights: Davis E. King, CC0; packing: MIT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from agile3d_cli.models.identity import BLOCKS

OUTPUT = Path(__file__).parents[1] / "agile3d_cli" / "assets" / "identity.safetensors"
PARTS = {"conv/filters": "conv.weight", "conv/bias": "conv.bias", "scale/weights": "scale", "scale/biases": "offset"}


def main(manifest: Path, weights: Path) -> None:
    tensors: dict[str, np.ndarray] = {}
    names = _names()
    data, start = weights.read_bytes(), 0
    for entry in json.loads(manifest.read_text())[0]["weights"]:
        packing = entry.get("quantization")
        kind = np.dtype(packing["dtype"] if packing else "float32")
        values = np.frombuffer(data, kind, int(np.prod(entry["shape"])), start).reshape(entry["shape"])
        start += values.nbytes
        name = names.pop(entry["name"])
        # Filters come as (height, width, in, out), the last layer as (in, out).
        values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T
        if packing:
            tensors[f"{name}:scale"] = np.array(packing["scale"], np.float32)
            tensors[f"{name}:low"] = np.array(packing["min"], np.float32)
        elif values.ndim == 4:
            values = _pack(values, name, tensors)
        tensors[name] = np.ascontiguousarray(values)
    if names or start != len(data):
        raise SystemExit(f"Left over: {sorted(names)}, {len(data) - start} bytes.")
    save_file(tensors, OUTPUT, metadata={"source": "dlib face recognition ResNet, Davis E. King, CC0 1.0"})
    sys.stdout.write(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes\n")


def _names() -> dict[str, str]:
    names = {"fc": "last.weight"}
    for part, ours in PARTS.items():
        names[f"conv32_down/{part}"] = f"first.{ours}"
        for index, (block, _, _) in enumerate(BLOCKS):
            names[f"conv{block}/conv1/{part}"] = f"blocks.{index}.first.{ours}"
            names[f"conv{block}/conv2/{part}"] = f"blocks.{index}.second.{ours}"
    return names


def _pack(values: np.ndarray, name: str, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Full precision filters (out, in, h, w) to 8 bits with a scale and low end per output channel."""
    low = values.min((1, 2, 3), keepdims=True)
    scale = np.maximum((values.max((1, 2, 3), keepdims=True) - low) / 255, 1e-12)
    tensors[f"{name}:scale"], tensors[f"{name}:low"] = scale.astype(np.float32), low.astype(np.float32)
    return np.rint((values - low) / scale).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
