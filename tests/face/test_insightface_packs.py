"""The second estimator: what happens without packs, with a broken one, and what is made of its answers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.face import insightface_packs
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import read_photo

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
INSIGHTFACE = FaceConfig(estimator="insightface")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and no network, so that nothing can be found elsewhere or fetched."""
    monkeypatch.setenv("AGILE3D_HOME", str(tmp_path / "agile3d"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "user")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    return tmp_path


def make_pack(folder: Path, content: bytes = b"not a network") -> Path:
    folder.mkdir(parents=True)
    (folder / "det.onnx").write_bytes(content)
    return folder


def test_without_packs_the_message_says_where_they_go(places: Path) -> None:
    with pytest.raises(MissingError, match="insightface model pack") as caught:
        load_face(ASTRONAUT, INSIGHTFACE)
    assert caught.value.exit_code == 4 and str(places / "agile3d") in str(caught.value)


def test_broken_pack_is_refused(places: Path) -> None:
    pack = make_pack(places / "user" / ".insightface" / "models" / "buffalo_l")
    with pytest.raises(RefusedError, match=str(pack)):
        load_face(ASTRONAUT, INSIGHTFACE)


def test_own_folder_and_known_packs_come_first(places: Path) -> None:
    make_pack(places / "user" / ".insightface" / "models" / "buffalo_l")
    own = places / "agile3d" / "models" / "insightface"
    make_pack(own / "aardvark")
    (own / "empty").mkdir()
    assert insightface_packs.find_pack() == own / "aardvark"
    make_pack(own / "antelopev2")
    assert insightface_packs.find_pack() == own / "antelopev2"


@pytest.mark.parametrize("with_68", [False, True])
def test_five_points_give_a_pose_near_that_of_the_mesh(
    places: Path, monkeypatch: pytest.MonkeyPatch, with_68: bool
) -> None:
    make_pack(places / "agile3d" / "models" / "insightface" / "buffalo_l")
    five = find_faces(read_photo(ASTRONAUT))[0].five
    many = np.full((68, 3), np.nan)
    many[[36, 39]], many[[42, 45]], many[30], many[48], many[54] = five
    answers = [
        SimpleNamespace(kps=five[:, :2] * 0.2, det_score=0.7, landmark_3d_68=None),
        SimpleNamespace(kps=five[:, :2], det_score=0.9, landmark_3d_68=many if with_68 else None),
    ]
    fake = SimpleNamespace(get=lambda photo: answers)
    monkeypatch.setattr(insightface_packs, "_open", lambda pack, threshold: fake)
    face, notes = load_face(ASTRONAUT, INSIGHTFACE)
    whole, _ = load_face(ASTRONAUT)
    assert face.landmarks.shape == (5, 3) and len(notes) == 1
    assert abs(face.yaw - whole.yaw) < 8 and abs(face.pitch - whole.pitch) < 12
