"""A head becomes one closed surface where its density crosses the level, in its own colours."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.density import OUTLINE, density_grid, surface_level
from agile3d_cli.avatar.formula import HAIR, LIP, SKIN, FormulaHead
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.avatar.mesh import Mesh, extract_mesh
from agile3d_cli.avatar.simplify import pulled_apart
from agile3d_cli.avatar.surface import crossing_surface, is_watertight, outer_shell, vertex_normals, volume
from agile3d_cli.avatar.texture import _texels
from agile3d_cli.camera import portrait_label, project, rays, split_label
from agile3d_cli.errors import Agile3dError, ConfigError

SMALL = MeshConfig(resolution=64, level=20.0, smoothing=0, detail=0)


class Ball:
    """A ball of radius 0.3 with linear density from its centre: the surface at density 10 has radius 0.3 exactly."""

    box = 0.5

    def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (10 + 100 * (0.3 - points.norm(dim=1))).clamp(min=0), points.abs()

    def render(self, labels: torch.Tensor, size: int, background: float = 1.0) -> Rendering:
        raise NotImplementedError


def test_ball_has_the_volume_area_and_normals_of_a_ball() -> None:
    mesh = extract_mesh(Ball(), MeshConfig(resolution=96, level=10.0, smoothing=0, detail=0))
    radius = np.linalg.norm(mesh.vertices, axis=1)
    # Opacity is interpolated, the density is linear: the error is a small part of a cell (0.0104); measured 0.0002.
    assert np.abs(radius - 0.3).max() < 0.0004
    loaded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert loaded.is_watertight and loaded.is_winding_consistent and mesh.watertight
    assert loaded.volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)
    smooth = extract_mesh(Ball(), MeshConfig(resolution=96, level=10.0, smoothing=6, detail=0))
    outwards = (smooth.normals * smooth.vertices).sum(1) / np.linalg.norm(smooth.vertices, axis=1)
    assert outwards.min() > 0.995


def test_smoothing_keeps_the_volume_and_flattens_the_steps() -> None:
    class Hard(Ball):
        def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 50.0 * (points.norm(dim=1) < 0.3), points.abs()

    raw, smooth = (extract_mesh(Hard(), replace(SMALL, level=10.0, smoothing=rounds)) for rounds in (0, 10))
    assert volume(smooth.vertices, smooth.faces) == pytest.approx(volume(raw.vertices, raw.faces), rel=2e-3)
    spread = [np.linalg.norm(mesh.vertices, axis=1).std() for mesh in (raw, smooth)]
    assert spread[1] < 0.6 * spread[0]


@pytest.mark.parametrize("resolution", [64, 104])
def test_narrow_band_gives_the_dense_mesh(head: FormulaHead, resolution: int) -> None:
    config = replace(SMALL, resolution=resolution, smoothing=3)
    band, dense = extract_mesh(head, config), extract_mesh(head, replace(config, dense=True))
    assert band.evaluated < 0.4 and dense.evaluated == 1.0
    for name in ("vertices", "faces", "normals", "colors"):
        assert np.array_equal(getattr(band, name), getattr(dense, name)), name


def test_band_follows_a_thin_spike_between_coarse_nodes() -> None:
    class Spiked(Ball):
        def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            density, color = super().field(points)
            # Two cells thick, off the coarse planes, reaching far out of the ball.
            spike = (points[:, 1:] - 0.0234).abs().amax(1) < 0.017
            return torch.where(spike & (points[:, 0] > 0) & (points[:, 0] < 0.47), 50.0, density), color

    grids = [density_grid(Spiked(), 64, 10.0, dense).values > 10.0 for dense in (False, True)]
    assert np.array_equal(grids[0], grids[1])


def test_floating_pieces_and_cavity_walls_are_left_out(head: FormulaHead) -> None:
    littered = FormulaHead(floaters=((0.4, 0.4, 0.4), (-0.4, 0.1, 0.4)), hollows=((0.0, 0.1, 0.0),))
    clean, cleaned = extract_mesh(head, SMALL), extract_mesh(littered, SMALL)
    assert trimesh.Trimesh(cleaned.vertices, cleaned.faces, process=False).body_count == 1
    assert np.array_equal(clean.vertices, cleaned.vertices) and np.array_equal(clean.faces, cleaned.faces)


def test_neck_is_closed_by_a_flat_cap_of_its_rim_colour(mesh: Mesh) -> None:
    cap = mesh.vertices[:, 1] <= -0.5 + 1e-6
    assert mesh.vertices[:, 1].min() == pytest.approx(-0.5, abs=1e-6)
    radius = np.hypot(mesh.vertices[cap, 0], mesh.vertices[cap, 2] + 0.05)
    # The neck's radius is 0.11 where the density is half its greatest, 200; the edge is 0.006 soft.
    assert radius.max() == pytest.approx(0.11 + 0.006 * math.log(200 / mesh.level - 1), abs=0.002)
    assert np.abs(mesh.colors[cap] - SKIN).max() < 0.01
    assert mesh.watertight


def test_field_that_ends_at_the_wall_is_cut_there_too() -> None:
    class Ending(FormulaHead):
        def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            density, color = super().field(points)
            return torch.where((points.abs() < 0.5).all(1), density, 0.0), color

    open_head, ending = (extract_mesh(kind(), SMALL) for kind in (FormulaHead, Ending))
    assert np.array_equal(open_head.vertices, ending.vertices)


def test_colours_are_those_of_the_field(mesh: Mesh) -> None:
    def at(*place: float) -> np.ndarray:
        return mesh.colors[np.linalg.norm(mesh.vertices - place, axis=1).argmin()]

    assert np.abs(at(0.0, 0.39, -0.04) - HAIR).max() < 0.01
    assert np.abs(at(0.0, 0.18, 0.21) - SKIN).max() < 0.01
    assert np.abs(at(0.0, -0.1, 0.23) - LIP).max() < 0.05


def test_detail_adds_vertices_at_colour_edges_only_and_keeps_it_closed(head: FormulaHead) -> None:
    plain, fine = (extract_mesh(head, replace(SMALL, detail=rounds)) for rounds in (0, 2))
    assert len(fine.vertices) > 1.2 * len(plain.vertices)
    assert fine.watertight
    assert trimesh.Trimesh(fine.vertices, fine.faces, process=False).is_winding_consistent
    assert volume(fine.vertices, fine.faces) == pytest.approx(volume(plain.vertices, plain.faces), rel=1e-6)
    added = fine.vertices[len(plain.vertices) :]
    assert (np.linalg.norm(added - (0.0, -0.3, 0.06), axis=1) > 0.05).all()  # the plain neck gains none


def test_simplified_mesh_stays_closed(head: FormulaHead) -> None:
    pytest.importorskip("fast_simplification")
    mesh = extract_mesh(head, replace(SMALL, faces=3000))
    assert mesh.watertight and len(mesh.faces) <= 3300


def test_rugged_head_full_of_tunnels_stays_closed_when_simplified() -> None:
    pytest.importorskip("fast_simplification")

    class Sponge(Ball):
        def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            waves = torch.sin(points[:, 0] * 61) * torch.sin(points[:, 1] * 67) * torch.sin(points[:, 2] * 71)
            return (10 + 100 * (0.3 - points.norm(dim=1)) + 60 * waves).clamp(min=0), points.abs()

    whole = extract_mesh(Sponge(), replace(SMALL, level=20.0))
    assert len(whole.vertices) - len(whole.faces) // 2 < -20  # Euler's number: many tunnels
    mesh = extract_mesh(Sponge(), replace(SMALL, level=20.0, faces=6000))
    loaded = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert mesh.watertight and loaded.is_watertight and loaded.is_winding_consistent
    assert len(mesh.faces) < 6600
    assert loaded.volume == pytest.approx(volume(whole.vertices, whole.faces), rel=0.1)


def test_solids_that_touch_along_an_edge_are_pulled_apart() -> None:
    corners = np.array([[0, 0, 0], [0, 0, 1], [1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]], float)
    solid = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    # The same tetrahedron on the other side of the edge (0, 1), turned by half a turn.
    faces = np.concatenate([solid, np.array([0, 1, 5, 4])[solid]])
    assert not is_watertight(corners, faces)
    apart = pulled_apart(corners, faces)
    assert is_watertight(*apart) and volume(*apart) == pytest.approx(volume(corners, faces), abs=1e-4)
    assert len(apart[0]) == len(corners) + 2
    fold = np.concatenate([solid, [[0, 2, 4], [2, 0, 4]]])
    assert np.array_equal(pulled_apart(corners, fold)[1], solid)
    assert pulled_apart(corners, solid)[0] is corners


def test_measured_level_follows_the_density_at_half_light() -> None:
    class Ramp(Ball):
        def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 2000 * (0.3 - points[:, [0, 2]].abs().amax(1)).clamp(min=0), points.abs()

    # A density that grows by k per unit has summed up ln 2 where it is sqrt(2 k ln 2).
    assert surface_level(Ramp()) == pytest.approx(OUTLINE * math.sqrt(4000 * math.log(2)), rel=0.01)


def test_mesh_at_the_measured_level_has_the_outline_and_depth_of_the_pictures(head: FormulaHead, mesh: Mesh) -> None:
    label = portrait_label(0.3, 0.1)[None]
    view = head.render(label, 64, samples=300)
    seen = project(label, torch.from_numpy(mesh.vertices)[None])[0].numpy()
    corners = seen[mesh.faces]
    depth = np.full(64 * 64, np.inf)
    for face, texel, weight in _texels(corners[..., :2].astype(float) * 64, 64):
        np.minimum.at(depth, texel, (corners[face, :, 2] * weight).sum(1))
    alpha = view.alpha.reshape(-1).numpy()
    assert ((alpha > 0.5) != np.isfinite(depth)).mean() < 0.04  # measured 0.032; the outline has 0.04
    # Depth along the ray, as the renderer counts it, against depth along the optical axis: the rays' slant.
    slant = (rays(label, 64, 64)[1][0] @ split_label(label)[0][0, :3, 2]).numpy()
    difference = depth / slant - view.depth.reshape(-1).numpy()
    assert (
        np.abs(np.median(difference[(alpha > 0.99) & np.isfinite(depth)])) < 0.008
    )  # a cell is 0.0104; measured 0.0066


def test_watertight_is_measured() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    assert is_watertight(corners, faces) and volume(corners, faces) == pytest.approx(1 / 6)
    assert not is_watertight(corners, faces[:3])
    assert not is_watertight(corners, np.concatenate([faces[:3], faces[3:, ::-1]]))
    assert not is_watertight(corners, faces[:0])
    seam = np.concatenate([corners, corners[:1]])
    assert is_watertight(seam, np.array([[4, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
    two = np.concatenate([corners, corners * 0.5 + 2]), np.concatenate([faces, faces + 4])
    assert len(outer_shell(*two)[0]) == 4
    assert np.allclose(np.linalg.norm(vertex_normals(corners, faces), axis=1), 1)


def test_empty_head_is_an_expected_error() -> None:
    class Nothing(Ball):
        def field(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(points)), points.abs()

    with pytest.raises(Agile3dError, match="empty"):
        extract_mesh(Nothing(), MeshConfig(resolution=64))
    with pytest.raises(Agile3dError, match="no surface at density 20"):
        extract_mesh(Nothing(), SMALL)


@pytest.mark.parametrize("wrong", [{"resolution": 100}, {"level": -1.0}, {"faces": 3}, {"texture": 8}, {"detail": 9}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        MeshConfig(**wrong)  # type: ignore[arg-type]


def test_grid_of_every_second_node_gives_the_same_shape() -> None:
    grid = density_grid(Ball(), 64, 10.0)
    fine, coarse = (outer_shell(*crossing_surface(each, 10.0)) for each in (grid, grid.halved()))
    assert is_watertight(*coarse) and len(coarse[1]) < 0.3 * len(fine[1])
    assert volume(*coarse) == pytest.approx(volume(*fine), rel=0.01)
