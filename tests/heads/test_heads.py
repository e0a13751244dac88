"""Synthetic heads: the latent's maps, the linear template, exact rays and the grids that carry the mean head."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from agile3d_cli import camera
from agile3d_cli.errors import MissingError
from agile3d_cli.heads.correspondence import (
    LEAST_VOLUME,
    Anchors,
    lowest_determinant,
    solve_grids,
    trilinear,
    without_folds,
)
from agile3d_cli.heads.glasses import THICKNESS, frames
from agile3d_cli.heads.headwear import depth_under, shell
from agile3d_cli.heads.kit import Kit, Part, sample
from agile3d_cli.heads.parameters import (
    BROWS,
    CHOICES,
    EXPRESSION_RANGE,
    EYES,
    GLASSES,
    HAIR_STYLES,
    LAYOUT,
    MIRROR,
    SWITCHES,
    Z_DIM,
    Parameters,
    expression_weights,
    group,
    index,
    parameters,
)
from agile3d_cli.heads.template import EXPRESSIONS, FULL_SHAPES, Template, build_template
from agile3d_cli.heads.traits import COUNT, traits
from agile3d_cli.models.config import FocusConfig
from agile3d_cli.models.deformation import Deformation, Focus, look_up
from agile3d_cli.prior.config import MINI

if TYPE_CHECKING:
    from agile3d_cli.heads.subject import Subject

KIT = Path(__file__).parents[2] / "../shared/assets/makehuman-head-kit"
needs_embree = pytest.mark.skipif(find_spec("embreex") is None, reason="embreex is not installed (extra: train)")
needs_anny = pytest.mark.skipif(find_spec("anny") is None, reason="anny is not installed (extra: train)")
needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason="the MakeHuman head kit is not on this machine")
SAMPLES = FULL_SHAPES + 4
"""Heads behind the tests' templates; the shipped one uses many more."""


def latent(seed: int) -> np.ndarray:
    return np.random.default_rng([1, seed]).normal(size=Z_DIM)


def numbers(p: Parameters) -> dict[str, np.ndarray]:
    """The fields of a subject that change smoothly."""
    return {
        name: np.atleast_1d(np.asarray(value, float))
        for name, value in vars(p).items()
        if not isinstance(value, str | bool | int)
    }


def test_layout_covers_z_once() -> None:
    z = np.arange(Z_DIM)
    assert np.array_equal(np.concatenate([group(z, name) for name, _ in LAYOUT]), z)
    with pytest.raises(KeyError):
        group(z, "wings")
    with pytest.raises(ValueError, match="expected"):
        parameters(np.zeros(Z_DIM + 1))


def test_every_latent_is_a_valid_head() -> None:
    for seed in range(200):
        # Six standard deviations and more: still in range.
        p = parameters((1 + seed % 8) * latent(seed))
        for share in (p.tone, p.age, p.male, p.lip_colour, p.freckles, p.eye_shadow, p.beard, p.stubble, p.ambient):
            assert 0 <= share <= 1
        assert p.hair_style in HAIR_STYLES and 0 <= p.brow_style < len(BROWS) and 0 <= p.eye_colour < len(EYES)
        assert (p.hair_colour >= 0).all() and (p.hair_colour <= 1).all() and (p.cloth <= 1).all()
        assert (p.glasses_colour <= 1).all() and (p.headwear_colour <= 1).all() and np.abs(p.gaze).max() < 4
        assert np.linalg.norm(p.light) == pytest.approx(1)
        assert (p.expression >= 0).all() and (p.expression <= np.array(EXPRESSION_RANGE)[:, 0]).all()


def test_choices_and_switches_are_those_that_the_generator_is_told() -> None:
    found = []
    for name, bias in CHOICES:
        for option in range(len(bias)):
            z = np.zeros(Z_DIM)
            group(z, name)[option] = 3
            found.append((name, option, str(vars(parameters(z))[name])))
    # Each option of each group is another thing.
    assert len({(name, value) for name, _, value in found}) == len(found) == sum(len(bias) for _, bias in CHOICES)
    for field, number in (("glasses", GLASSES), ("hair_mirrored", MIRROR)):
        place, threshold = SWITCHES[number]
        for away in (-0.1, 0.1):
            z = np.zeros(Z_DIM)
            z[place] = threshold + away
            assert vars(parameters(z))[field] == (away > 0)
    told = MINI.choices
    assert told.groups == tuple((index(name), bias) for name, bias in CHOICES) and told.switches == SWITCHES


def test_traits_follow_what_they_stand_for() -> None:
    z = np.random.default_rng(1).normal(size=Z_DIM)
    known = traits(parameters(z))
    assert known.shape == (COUNT,) and np.isfinite(known).all()
    other = z.copy()
    group(other, "headwear_colour")[:] += 0.5
    # The fifth of six colours is the headwear's.
    assert set(np.nonzero(traits(parameters(other)) != known)[0]) == {12, 13, 14}
    blue = z.copy()
    group(blue, "eye_colour")[:] = np.eye(len(EYES))[EYES.index("blue")] * 9
    group(blue, "skin")[0] = -3
    np.testing.assert_array_equal(traits(parameters(blue))[18:24], np.eye(len(EYES))[EYES.index("blue")])
    group(blue, "skin")[0] = 3
    np.testing.assert_array_equal(traits(parameters(blue))[18:24], np.eye(len(EYES))[EYES.index("brown")])


def test_frames_go_around_the_eyes_and_keep_clear_of_the_skin() -> None:
    angle = np.random.default_rng(0).normal(size=(4000, 3))
    skin = 0.2 * angle / np.linalg.norm(angle, axis=1, keepdims=True)
    eyes = np.array([[-0.075, 0.09, 0.2], [0.075, 0.09, 0.2]])
    for form in np.random.default_rng(1).normal(size=(5, 3)):
        vertices, faces = frames(eyes, skin, form)
        assert faces.min() == 0 and faces.max() == len(vertices) - 1
        # Mirror-symmetric up to the drawn skin, and outside of the head.
        assert abs(vertices[:, 0].max() + vertices[:, 0].min()) < 0.02
        assert np.linalg.norm(vertices, axis=1).min() > 0.2 - THICKNESS
        # Nothing in front of the pupils.
        assert np.linalg.norm(vertices[:, :2] - eyes[1, :2], axis=1).min() > 0.02


def test_shells_lie_over_their_region_and_rise_from_the_edge() -> None:
    rng = np.random.default_rng(0)
    mean = rng.uniform(-0.3, 0.3, (300, 3))
    faces = rng.integers(0, 300, (500, 3))
    normals = np.tile([0.0, 0, 1], (300, 1))
    for kind in ("beanie", "scarf"):
        vertices, kept, depth = shell(kind, mean, normals, mean, faces)
        assert np.array_equal(depth, depth_under(kind, mean)) and (depth[kept] > 0).any(1).all()
        out = vertices[:, 2] - mean[:, 2]
        assert out.min() > 0.005 and out.max() < 0.04 and out[depth > 0.05].min() > out[depth < 0].max()
    forehead, crown, chin = [0.0, 0.15, 0.25], [0.0, 0.38, 0.0], [0.0, -0.2, 0.2]
    assert (depth_under("beanie", np.array([forehead, crown, chin])) > 0).tolist() == [False, True, False]
    assert (depth_under("scarf", np.array([forehead, crown, chin])) > 0).tolist() == [False, True, False]


def test_maps_are_smooth() -> None:
    # Half the step, half the change: no jumps in any continuous property.
    for seed in range(5):
        z, step = latent(seed), 1e-4 * latent(seed + 100)
        here, half, whole = (numbers(parameters(z + share * step)) for share in (0, 0.5, 1))
        for name in here:
            np.testing.assert_allclose(
                half[name] - here[name], (whole[name] - here[name]) / 2, rtol=0, atol=2e-7, err_msg=name
            )


def test_the_generator_reads_shape_and_expression_as_the_heads_do() -> None:
    z = latent(0)
    weights = Deformation(MINI).weights(torch.from_numpy(z)[None].float())[0].numpy()
    expected = np.concatenate([group(z, "shape"), expression_weights(group(z, "expression"))])
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-6)


def test_missing_kit_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"parts\.npz"):
        Kit(tmp_path)


def test_textures_are_sampled_between_texels_with_v_up() -> None:
    texture = np.random.default_rng(0).random((4, 6, 3)).astype(np.float32)
    rows, columns = np.divmod(np.arange(15), 5)
    # Row 0 is the top, where v is 1; texel centres give the texel, middles the mean.
    uv = np.stack([(columns + 0.5) / 6, 1 - (rows + 0.5) / 4], 1)
    np.testing.assert_allclose(sample(texture, uv), texture[rows, columns], rtol=0, atol=1e-6)
    middle = sample(texture, uv + np.array([0.5 / 6, 0]))
    np.testing.assert_allclose(middle, (texture[rows, columns] + texture[rows, columns + 1]) / 2, rtol=0, atol=1e-6)


def test_parts_ride_on_the_base() -> None:
    part = Part(np.array([[0, 1, 2]]), np.array([[0.5, 0.25, 0.25]]), np.zeros((1, 3)), *3 * (np.zeros(0),))
    base = np.random.default_rng(0).random((3, 3))
    np.testing.assert_allclose(part.vertices(base)[0], 0.5 * base[0] + 0.25 * base[1] + 0.25 * base[2])
    np.testing.assert_allclose(part.vertices(base + 1), part.vertices(base) + 1)


@needs_embree
def test_rays_hit_a_known_triangle() -> None:
    from agile3d_cli.heads.raycast import Scene

    near = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    scene = Scene(np.stack([near, near + np.array([0, 0, 1])]))
    origins = np.array([[0.2, 0.3, 0], [0.9, 0.9, 0], [0.2, 0.3, 1.5]])
    directions = np.tile([0.0, 0, 1], (3, 1))
    hits = scene.first_hits(origins, directions)
    assert hits.face.tolist() == [0, -1, 1]
    np.testing.assert_allclose(hits.distance, [1, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(hits.barycentric[0], [0.5, 0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(scene.distances(origins, directions)[[0, 2]], [1, 0.5], atol=1e-6)
    assert scene.distances(origins, directions)[1] > 1e6
    # A transparent first surface is crossed; the distance still counts from the start.
    through = scene.first_hits(origins, directions, lambda face, _: face == 1)
    assert through.face.tolist() == [1, -1, 1]
    np.testing.assert_allclose(through.distance, [2, 0, 0.5], atol=1e-5)


def test_trilinear_matrix_is_the_generator_s_look_up() -> None:
    rng = np.random.default_rng(0)
    field, place = rng.random((5, 5, 5)), 1.98 * rng.random((50, 3)) - 0.99
    found = look_up(torch.from_numpy(field)[None, None], torch.from_numpy(place)[None])[0, :, 0]
    np.testing.assert_allclose(trilinear(place, 5) @ field.ravel(), found.numpy(), atol=1e-12)


def test_solved_grids_meet_a_linear_field() -> None:
    rng = np.random.default_rng(0)
    points = 0.8 * rng.random((4000, 3)) - 0.4
    slope = 0.1 * rng.normal(size=(2, 3, 3))
    anchored = Anchors(points, np.einsum("kij,pj->kpi", slope, points), np.ones(len(points)))
    grids, left = solve_grids(anchored, FocusConfig(), 0.5, 9)
    # A linear field has no second differences; only the tiny pull to zero is left.
    assert left.max() < 1e-5
    nodes = Focus(FocusConfig(), 0.5).nodes(9).numpy()
    np.testing.assert_allclose(grids.numpy(), np.einsum("kij,zyxj->kizyx", slope, nodes), atol=1e-4)


def test_fields_that_fold_are_weakened_and_others_left() -> None:
    focus = Focus(FocusConfig(strength=2.0), 0.5)
    x = focus.nodes(9)[..., 0]
    zero = torch.zeros_like(x)
    # Squeezing x by 30 % and turning it inside out.
    fields = torch.stack([torch.stack([-0.3 * x, zero, zero]), torch.stack([-0.75 * x, zero, zero])])
    assert lowest_determinant(fields[0], focus) == pytest.approx(0.7, abs=1e-5)
    assert lowest_determinant(2 * fields[1], focus) == pytest.approx(-0.5, abs=1e-5)
    kept = without_folds(fields, (1.0, 2.0), focus)
    assert torch.equal(kept[0], fields[0])
    assert LEAST_VOLUME <= lowest_determinant(2 * kept[1], focus) < LEAST_VOLUME + 0.1


@pytest.fixture(scope="module")
def template() -> Template:
    return build_template(samples=SAMPLES)


@needs_anny
def test_template_is_linear_and_framed(template: Template) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, FULL_SHAPES))
    e, f = rng.random((2, len(EXPRESSIONS)))
    middle = template.vertices((a + b) / 2, (e + f) / 2)
    np.testing.assert_allclose(middle, (template.vertices(a, e) + template.vertices(b, f)) / 2, rtol=0, atol=1e-6)
    rest = template.vertices(np.zeros(FULL_SHAPES), np.zeros(len(EXPRESSIONS)))
    np.testing.assert_allclose(rest, template.mean, rtol=0, atol=1e-7)
    head = template.mean[np.unique(template.faces)]
    head = head[head[:, 1] > -0.3]
    assert np.abs(head).max() < 0.5 and head[:, 2].max() > 0.25 and abs(head[:, 0].mean()) < 0.01


@needs_anny
def test_template_is_the_same_each_time(template: Template) -> None:
    again = build_template(samples=SAMPLES)
    assert np.array_equal(again.mean, template.mean) and np.array_equal(again.shapes, template.shapes)


@pytest.fixture(scope="module")
def subject(template: Template) -> Subject:
    from agile3d_cli.heads.masks import NAMES, build_masks
    from agile3d_cli.heads.subject import Subject

    kit = Kit(KIT)
    masks = build_masks(template, kit)
    shares = masks.weights[:, [name not in ("cloth", "breast") for name in NAMES]]
    assert shares.min() >= 0 and shares.max() <= 1.01
    z = latent(3)
    z[SWITCHES[GLASSES][0]] = 2
    group(z, "headwear")[1] = 4
    return Subject(z, template, kit, masks)


@needs_anny
@needs_embree
@needs_kit
def test_depth_of_a_view_lies_on_the_mesh(subject: Subject) -> None:
    from agile3d_cli.heads.subject import PARTS

    label, size = camera.portrait_label(0.4, 0.1), 48
    view = subject.render(label, size)
    assert view.image.min() >= 0 and view.image.max() <= 1 and set(np.unique(view.alpha)) == {0.0, 1.0}
    assert not view.depth[view.alpha == 0].any() and not view.image[view.alpha == 0].any()
    assert np.array_equal(view.part > 0, view.alpha > 0)
    assert {PARTS[k - 1] for k in np.unique(view.part) if k} >= {"skin", "eyes", "glasses", "headwear"}
    seen = view.alpha.ravel() > 0
    assert 0.3 < seen.mean() < 0.99
    origin, direction = (rays[0].numpy() for rays in camera.rays(label[None].double(), size, size))
    points = origin[seen] + direction[seen] * view.depth.ravel()[seen, None]
    # Each point lies on some triangle: cast again from just before it.
    hits = subject.scene.first_hits(points - 1e-3 * direction[seen], direction[seen], subject._opaque)
    # Measured: 2.1e-6 on one ray of 1,511; Embree traces in single precision.
    np.testing.assert_allclose(hits.distance, 1e-3, rtol=0, atol=4e-6)
    corners = subject.vertices[subject.faces[hits.face]]
    np.testing.assert_allclose((corners * hits.barycentric[..., None]).sum(1), points, rtol=0, atol=3e-6)
    # And is seen in its pixel.
    place = camera.project(label[None].double(), torch.from_numpy(points)[None])[0, :, :2].numpy()
    rows, columns = np.divmod(np.nonzero(seen)[0], size)
    np.testing.assert_allclose(place, np.stack([columns + 0.5, rows + 0.5], 1) / size, rtol=0, atol=1e-6)


@needs_anny
@needs_embree
@needs_kit
def test_views_are_the_same_each_time(subject: Subject) -> None:
    label = camera.portrait_label(-0.8, 0.2)
    first, second = subject.render(label, 32), subject.render(label, 32)
    assert np.array_equal(first.image, second.image) and np.array_equal(first.depth, second.depth)
