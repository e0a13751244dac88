"""The contract of all stylizers, and what this one promises beyond it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from agile3d_linear.config import LinearConfig
from agile3d_linear.stylizer import LinearStylizer
from torch import Tensor

from agile3d_cli.camera import angles
from agile3d_cli.errors import ConfigError
from agile3d_cli.face.align import AlignedFace, align_face
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.pose import solve_pose
from agile3d_cli.face.template import face_template
from agile3d_cli.image import read_photo, to_array
from agile3d_cli.stylizer import FaceBatch
from agile3d_cli.testing import StylizerContract, ignore_progress

EXAMPLES = Path(__file__).parents[3] / "examples"
UPPER_LIDS, LOWER_LIDS = (159, 386), (145, 374)


class TestContract(StylizerContract):
    package = "agile3d-linear"
    name = "linear"
    config = LinearConfig(layout=128, faces=16)


class OneFace:
    """A face sampler that knows one sitter and the mirror image."""

    def __init__(self, face: AlignedFace) -> None:
        mirrored = face.landmarks[face_template().mirror] * [-1, 1, 1] + [1, 0, 0]
        landmarks = torch.from_numpy(np.stack([face.landmarks, mirrored])).float()
        self.batch = FaceBatch(torch.stack([face.image, face.image.flip(2)]), face.label.expand(2, 25), landmarks)

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        return self.batch


def align(path: Path) -> AlignedFace:
    config = FaceConfig(size=256, matte=False)
    photo = read_photo(path)
    return align_face(photo, find_faces(photo, config)[0], config)


@pytest.fixture(scope="module")
def sitter() -> AlignedFace:
    return align(EXAMPLES / "astronaut.jpg")


@pytest.fixture(scope="module")
def cartoon(sitter: AlignedFace) -> LinearStylizer:
    """Fitted to the shipped cartoon heads, coarsely."""
    exemplars = [align(path).image for path in sorted((EXAMPLES / "cartoon-exemplars").glob("*.webp"))[::3]]
    stylizer = LinearStylizer(LinearConfig(layout=192))
    stylizer.fit(exemplars, OneFace(sitter), ignore_progress)
    return stylizer


def with_dials(stylizer: LinearStylizer, **dials: float) -> LinearStylizer:
    return LinearStylizer(LinearConfig(layout=192, **dials), stylizer.style)


def points(image: Tensor) -> np.ndarray:
    (face, *_) = find_faces(to_array(image), FaceConfig(matte=False))
    return face.points / image.shape[-1]


def test_the_shift_is_symmetric_and_opens_the_eyes(cartoon: LinearStylizer) -> None:
    shift = cartoon.shape_shift
    assert shift.shape == (468, 3)
    mirror = torch.from_numpy(face_template().mirror)
    torch.testing.assert_close(shift[mirror] * torch.tensor([-1.0, 1.0, 1.0]), shift, rtol=0, atol=1e-5)
    # y points up: the cartoon's lids are further apart than the sitter's.
    assert bool((shift[list(UPPER_LIDS), 1] > shift[list(LOWER_LIDS), 1]).all())


def test_pose_and_place_are_kept(cartoon: LinearStylizer, sitter: AlignedFace) -> None:
    before, after = points(sitter.image), points(cartoon.stylize(sitter.image[None])[0])
    turned = np.subtract(angles(solve_pose(after).label), angles(solve_pose(before).label))
    # Measured: yaw 1, pitch 4 degrees; the detector reads the drawn proportions as a slight nod.
    assert np.abs(np.degrees(turned)).max() < 8
    assert np.abs(after[:, :2].mean(0) - before[:, :2].mean(0)).max() < 0.03


def test_structure_moves_the_chin_to_the_style(cartoon: LinearStylizer, sitter: AlignedFace) -> None:
    """Cartoon jaws are broad: skin where the photo has neck and wall."""
    none, half, full = (with_dials(cartoon, structure=s).stylize(sitter.image[None])[0] for s in (0.0, 0.5, 1.0))
    assert float((full - none).abs().mean()) > float((half - none).abs().mean()) > 0.005


def test_dark_and_light_skin_stay_so(cartoon: LinearStylizer, sitter: AlignedFace) -> None:
    dark = ((sitter.image + 1) * 0.45 - 1).clamp(-1, 1)
    styled = cartoon.stylize(torch.stack([sitter.image, dark]))
    cheek = (slice(None), slice(140, 160), slice(90, 105))
    light_skin, dark_skin = styled[0][cheek].mean(), styled[1][cheek].mean()
    assert float(light_skin - dark_skin) > 0.3


def test_a_turned_face_is_drawn_turned(cartoon: LinearStylizer, sitter: AlignedFace) -> None:
    """A mirrored photo gives about the mirrored result: nothing of the layout's own sides shows in the form."""
    styled = cartoon.stylize(torch.stack([sitter.image, sitter.image.flip(2)]))
    mirrored = points(styled[1])[face_template().mirror] * [-1, 1, 1] + [1, 0, 0]
    # Measured 0.004; light and gaze of the exemplars are not symmetric.
    assert np.linalg.norm((mirrored - points(styled[0]))[:, :2], axis=1).mean() < 0.012


def test_a_picture_without_a_face_is_only_smoothed(cartoon: LinearStylizer) -> None:
    noise = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(3)) * 2 - 1
    styled = cartoon.stylize(noise)
    assert float(styled.std()) < 0.5 * float(noise.std())
    assert math.isclose(float(styled.mean()), float(noise.mean()), abs_tol=0.3)


def test_settings_have_ranges() -> None:
    with pytest.raises(ConfigError, match="exaggeration"):
        LinearConfig(exaggeration=-1)
