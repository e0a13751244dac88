"""Makes agile3d_cli/assets/face_template.safetensors: the average 468-point face in world units.

Input: landmarks of frontal neutral photos, and of the same people smiling. The average is symmetrised, laid onto the
five world points by a similarity, and freed of perspective, so that the standard frontal camera sees the average face
of the photos. Weights fall with how much a point moves between people and expressions.

    python tools/make_face_template.py ../shared/assets/photos-london-neutral ../shared/assets/photos-london-smiling

Source of the shipped file: 102 neutral and 102 smiling faces of the Face Research Lab London Set (DeBruine and Jones,
2017, CC BY 4.0); only the averages of landmark positions are kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from agile3d_cli.camera import five_points_world, portrait_label, split_label

OUTPUT = Path(__file__).parents[1] / "agile3d_cli" / "assets" / "face_template.safetensors"
FLIP = np.array([1.0, -1.0, -1.0])
FIVE = ((33, 133), (362, 263), (1, 4), (61,), (291,))


def main() -> None:
    sets = [_load(Path(folder)) for folder in sys.argv[1:3]]
    average = _average(sets[0], np.ones(468))
    mirror = _mirror(average)
    average = (average + average[mirror] * [-1, 1, 1]) / 2
    points = _into_world(average)
    weights = _weights(sets, average, mirror)
    save_file(
        {
            "points": points.astype(np.float32),
            "weights": weights.astype(np.float32),
            "mirror": mirror.astype(np.int16),
        },
        OUTPUT,
        metadata={"source": "averages of the Face Research Lab London Set, CC BY 4.0, doi 10.6084/m9.figshare.5047666"},
    )
    sys.stdout.write(f"{OUTPUT}: extent {np.ptp(points, axis=0).round(3)}\n")


def _load(folder: Path) -> np.ndarray:
    with np.load(folder / "landmarks468.npz") as file:
        return file["xyz"].astype(np.float64) * FLIP


def _align(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``source`` (P, 3) moved onto ``target`` by the best similarity."""
    weight = weights / weights.sum()
    centre, goal = weight @ source, weight @ target
    u, s, vt = np.linalg.svd((source - centre).T @ ((target - goal) * weight[:, None]))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    factor = (s * sign).sum() / (weight @ ((source - centre) ** 2).sum(1))
    return factor * (source - centre) @ (u * sign) @ vt + goal


def _average(faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    average = faces[0]
    for _ in range(10):
        average = np.mean([_align(face, average, weights) for face in faces], 0)
        average = average - average.mean(0)
        average /= np.sqrt((average**2).sum(1).mean())
    return average


def _mirror(points: np.ndarray) -> np.ndarray:
    """Index of each point's partner on the other side."""
    from scipy.optimize import linear_sum_assignment

    # The face may be turned a little: first find its plane of symmetry from the alignment points.
    five = _five(points)
    along = five[1] - five[0] + five[4] - five[3]
    along /= np.linalg.norm(along)
    middle = (five[0] + five[1]) / 2
    mirrored = points - 2 * ((points - middle) @ along)[:, None] * along
    distance = np.linalg.norm(mirrored[:, None] - points[None], axis=-1)
    partner = linear_sum_assignment(distance)[1]
    if not np.array_equal(partner[partner], np.arange(468)):
        raise SystemExit("The average face is not symmetric enough to pair its points.")
    return partner


def _five(points: np.ndarray) -> np.ndarray:
    return np.stack([points[list(group)].mean(0) for group in FIVE])


def _into_world(average: np.ndarray) -> np.ndarray:
    """World points whose picture by the frontal camera is the average face (x, y), up to a similarity."""
    camera = split_label(portrait_label(0.0, 0.0))[0].double().numpy()
    world = _onto_five_points(average)
    # Photos show perspective: a near point lies too far out. Undo it for the standard distance.
    depth = camera[2, 3] - world[:, 2]
    world[:, :2] *= (depth / depth.mean())[:, None]
    return _onto_five_points(world)


def _onto_five_points(points: np.ndarray) -> np.ndarray:
    target = five_points_world().double().numpy()
    target = (target + target[[1, 0, 2, 4, 3]] * [-1, 1, 1]) / 2
    five = _five(points)
    centre, goal = five.mean(0), target.mean(0)
    u, s, vt = np.linalg.svd((five - centre).T @ (target - goal))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    factor = (s * sign).sum() / ((five - centre) ** 2).sum()
    return factor * (points - centre) @ (u * sign) @ vt + goal


def _weights(sets: list[np.ndarray], average: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    faces = np.concatenate(sets)
    weights = np.ones(468)
    for _ in range(5):
        spread = np.mean([((_align(face, average, weights) - average)[:, :2] ** 2).sum(1) for face in faces], 0)
        spread = (spread + spread[mirror]) / 2
        weights = 1 / (spread + np.median(spread))
    return weights / weights.max()


if __name__ == "__main__":
    main()
