"""Exemplars to style with a micro generator: pairs, displacement, transfer, the whole flow, interruptions."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar import pipeline as avatar_pipeline
from agile3d_cli.avatar.config import ApplyConfig, InvertConfig, ViewsConfig
from agile3d_cli.avatar.invert import Latent, invert
from agile3d_cli.avatar.latents import build_head, load_head, personal_tensors
from agile3d_cli.avatar.likeness import landmark_points
from agile3d_cli.avatar.pipeline import make_avatar
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.bundle import Portrait, read_portrait, read_style, write_portrait
from agile3d_cli.errors import PhotoError
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.face.template import face_template
from agile3d_cli.image import read_photo, to_tensor
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.deformation import look_up
from agile3d_cli.models.styled import DETAILS, stylized
from agile3d_cli.style import augment, material, preview, score, surfaces
from agile3d_cli.style.augment import Pairs, PhotoPairs
from agile3d_cli.style.config import NewStyleConfig, Preset, TransferConfig
from agile3d_cli.style.displacement import style_displacement
from agile3d_cli.style.eg3d_layout import read_layout
from agile3d_cli.style.faces import BACKGROUND, GeneratorFaces
from agile3d_cli.style.log import NoLog
from agile3d_cli.style.measure import Moved
from agile3d_cli.style.pipeline import learn_style
from agile3d_cli.style.preview import KEPT_SIZE
from agile3d_cli.style.shards import StoredRows
from agile3d_cli.style.surfaces import all_heads
from agile3d_cli.style.transfer import Transferred, transfer
from agile3d_cli.stylizer import FaceSampler, Progress, StylizerDescription

WIDE = FaceConfig().wide
BRIEF = TransferConfig(steps=24, batch=2, patch=16, checkpoint=8)


def silent(*_: object) -> None:
    """A progress that nobody watches."""


def widened(points: Tensor) -> Tensor:
    """A style's shift of landmarks (P, 3): a wider, longer face, mirror-symmetric."""
    return torch.stack([0.15 * points[:, 0], 0.08 * points[:, 1], 0 * points[:, 2]], 1)


@pytest.fixture(scope="module")
def pairs(micro: BaseModel) -> Pairs:
    """Faces whose style is a darker, redder copy of them, with the widened landmarks."""
    known = GeneratorFaces(micro, 48).draw(8, torch.Generator().manual_seed(0))
    tint = torch.tensor([0.9, 0.4, 0.4])[:, None, None]
    drawn = ((known.images + 1) * tint - 1) * known.alphas + BACKGROUND * (1 - known.alphas)
    moved = []
    for z, label in zip(known.z, known.labels, strict=True):
        points = landmark_points(micro, z[None])
        after = points + widened(micro.landmarks)
        moved.append((camera.project(label[None], after[None]) - camera.project(label[None], points[None]))[0, :, :2])
    return Pairs(known.z, known.labels, drawn.half(), known.alphas.half(), torch.stack(moved))


def test_displacement_of_the_pairs_is_recovered(micro: BaseModel, pairs: Pairs) -> None:
    field = style_displacement(pairs, micro)
    deformation, mean = micro.generator.deformation, micro.landmarks
    assert mean is not None and field.shape == (3, 12, 12, 12)
    found = look_up(field[None], deformation.focus.forward(mean[None]))[0]
    wanted = widened(mean)
    # Measured: 5 % of the shift itself, from smoothing and the coarse grid.
    assert float((found - wanted).norm(dim=1).mean()) < 0.1 * float(wanted.norm(dim=1).mean())
    # Mirror-symmetric, as styles are.
    mirrored = found[torch.from_numpy(face_template().mirror).long()] * torch.tensor([-1, 1, 1])
    torch.testing.assert_close(found, mirrored, rtol=0, atol=2e-3)


def test_photos_show_the_displacement_too(micro: BaseModel, pairs: Pairs) -> None:
    mean, labels = micro.landmarks, pairs.labels
    assert mean is not None
    after = (mean + widened(mean)).expand(len(labels), -1, -1)
    moved = (camera.project(labels, after) - camera.project(labels, mean.expand_as(after)))[..., :2]
    nothing = StoredRows("stylized", (), torch.Size([0, 3, 48, 48]))
    none = Pairs(pairs.z[:0], labels[:0], nothing, nothing, pairs.moved[:0])
    field = style_displacement(none, micro, PhotoPairs(labels, nothing, nothing, moved))
    found = look_up(field[None], micro.generator.deformation.focus.forward(mean[None]))[0]
    wanted = widened(mean)
    assert float((found - wanted).norm(dim=1).mean()) < 0.1 * float(wanted.norm(dim=1).mean())


class Widening:
    """A stylizer that knows what it does."""

    def __init__(self, shift: Tensor):
        self.shape_shift = shift


def test_a_stylizer_that_knows_its_shift_is_believed(micro: BaseModel, pairs: Pairs) -> None:
    mean = micro.landmarks
    assert mean is not None
    left, right = five_of(mean.numpy())[:2]
    wanted = widened(mean)
    drawn_the_same = dataclasses.replace(pairs, moved=torch.zeros_like(pairs.moved))
    stylizer = Widening(wanted / float(((right - left) ** 2).sum() ** 0.5))
    field = style_displacement(drawn_the_same, micro, stylizer=stylizer)  # type: ignore[arg-type]
    found = look_up(field[None], micro.generator.deformation.focus.forward(mean[None]))[0]
    assert float((found - wanted).norm(dim=1).mean()) < 0.1 * float(wanted.norm(dim=1).mean())


def test_one_bad_picture_does_not_bend_the_style(micro: BaseModel, pairs: Pairs) -> None:
    spoilt = pairs.moved.clone()
    spoilt[3] += 0.1
    good, found = (style_displacement(dataclasses.replace(pairs, moved=m), micro) for m in (pairs.moved, spoilt))
    assert float((good - found).abs().mean()) < 0.1 * float(good.abs().mean())


def test_transfer_learns_the_style(micro: BaseModel, pairs: Pairs, tmp_path: Path) -> None:
    field = torch.zeros(3, 12, 12, 12)
    first = learn(pairs, micro, field, dataclasses.replace(BRIEF, steps=1), tmp_path / "one", silent)
    long = dataclasses.replace(BRIEF, steps=60, rate=0.05)
    learnt = learn(pairs, micro, field, long, tmp_path / "many", silent)
    # Measured: 0.07 and 0.34 of it.
    assert learnt.losses["colour"] < 0.15 * first.losses["colour"]
    assert learnt.losses["edges"] < 0.6 * first.losses["edges"]
    assert learnt.steps == 60 and learnt.difference.displacement is field
    assert set(learnt.difference.weights) > {"backbone.mean_planes", "backbone.details"}
    assert not any("affine" in name or "decoder" in name for name in learnt.difference.weights)
    # The base is untouched.
    assert not any(parameter.requires_grad for parameter in micro.generator.parameters())


def test_pictures_that_disagree_are_bent(micro: BaseModel, pairs: Pairs, tmp_path: Path) -> None:
    """The same style with each picture shown a little aside."""
    sides = torch.randint(-2, 3, (len(pairs), 2), generator=torch.Generator().manual_seed(4)).tolist()
    aside = torch.stack([torch.roll(p, tuple(side), (1, 2)) for p, side in zip(pairs.stylized, sides, strict=True)])
    shown, long = dataclasses.replace(pairs, stylized=aside), dataclasses.replace(BRIEF, steps=120, laid_rate=4e-3)
    stiff = dataclasses.replace(long, laid=False)
    bent, as_shown = (learn(shown, micro, None, c, tmp_path / str(c.laid), silent) for c in (long, stiff))
    assert bent.losses["bent"] > 0 and as_shown.losses["bent"] == 0
    assert bent.losses["edges"] < 0.9 * as_shown.losses["edges"]
    # Bends belong to the pictures; the style keeps none of them.
    assert bent.difference.weights.keys() == as_shown.difference.weights.keys()
    assert all(name in dict(micro.generator.named_parameters()) or name == DETAILS for name in bent.difference.weights)


def learn(
    pairs: Pairs,
    base: BaseModel,
    field: Tensor | None,
    config: TransferConfig,
    state: Path,
    progress: Progress,
    log: NoLog | None = None,
    wanted: Tensor | None = None,
) -> Transferred:
    """The transfer, from the pairs' surfaces on."""
    heads = all_heads(pairs, base, field, state.parent / f"{state.name}-surfaces", silent)
    return transfer(pairs, heads, base, field, config, state, progress, log, wanted=wanted)


def interrupted(after: int) -> Callable[[str, float], None]:
    """A progress that stops the transfer after so many steps."""
    count = 0

    def tell(stage: str, _: float) -> None:
        nonlocal count
        count += stage == "transfer"
        if count > after:
            raise KeyboardInterrupt

    return tell


def test_an_interrupted_transfer_ends_with_the_same_bits(micro: BaseModel, pairs: Pairs, tmp_path: Path) -> None:
    whole = learn(pairs, micro, None, BRIEF, tmp_path / "whole", silent)
    with pytest.raises(KeyboardInterrupt):
        learn(pairs, micro, None, BRIEF, tmp_path / "parts", interrupted(11))
    resumed = learn(pairs, micro, None, BRIEF, tmp_path / "parts", silent)
    assert_same(whole, resumed)
    # Once more from the finished state: nothing is left to do.
    again = learn(pairs, micro, None, BRIEF, tmp_path / "parts", interrupted(0))
    assert all(torch.equal(again.difference.weights[k], whole.difference.weights[k]) for k in whole.difference.weights)


def test_surfaces_are_traced_once(
    micro: BaseModel, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[int] = []
    monkeypatch.setattr(surfaces, "SHARD", 2)
    trace = surfaces.trace
    monkeypatch.setattr(surfaces, "trace", lambda *row: (traced.append(1), trace(*row))[1])
    whole = all_heads(pairs, micro, None, tmp_path / "whole", silent)
    assert len(traced) == len(pairs)

    def stop(stage: str, share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        all_heads(pairs, micro, None, tmp_path / "parts", stop)
    done = sum(1 for _ in (tmp_path / "parts").glob("*.safetensors"))
    traced.clear()
    found = all_heads(pairs, micro, None, tmp_path / "parts", silent)
    assert done >= 2 and len(traced) == len(pairs) - 2 * done
    for one, two in zip(whole, found, strict=True):
        assert torch.equal(one.traced.points, two.traced.points) and torch.equal(one.traced.shares, two.traced.shares)
        assert torch.equal(one.traced.alpha, two.traced.alpha) and torch.equal(one.ws, two.ws)
        assert all(torch.equal(a, b) for a, b in zip(one.features, two.features, strict=True))
    # Another shape has other surfaces.
    traced.clear()
    grid = micro.generator.deformation.config.grid
    all_heads(pairs, micro, torch.full((3, grid, grid, grid), 0.01), tmp_path / "parts", silent)
    assert len(traced) == len(pairs)


def test_a_transfer_without_gain_stops_early_and_with_the_same_bits(
    micro: BaseModel, pairs: Pairs, tmp_path: Path
) -> None:
    long = dataclasses.replace(BRIEF, steps=60, early=True)
    # Nothing that is learnt here brings anybody nearer to noise.
    noise = torch.rand(6, 384, generator=torch.Generator().manual_seed(0))
    whole = learn(pairs, micro, None, long, tmp_path / "whole", silent, wanted=noise)
    # The fifth look, after 15 steps, is the first that can tell.
    assert whole.early and 21 <= whole.steps < 40
    with pytest.raises(KeyboardInterrupt):
        learn(pairs, micro, None, long, tmp_path / "parts", interrupted(whole.steps - 3), wanted=noise)
    assert_same(whole, learn(pairs, micro, None, long, tmp_path / "parts", silent, wanted=noise))
    # Without exemplars, or unless told so, the plan is the length.
    assert learn(pairs, micro, None, dataclasses.replace(long, steps=20), tmp_path / "plain", silent).steps == 20


class Heard(NoLog):
    """What a run told."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, number: int, terms: Mapping[str, float]) -> None:
        assert set(terms) == {"colour", "edges", "bent", "smooth", "small"} and all(
            math.isfinite(x) for x in terms.values()
        )
        self.steps.append(number)


def test_every_step_is_told_once_more_after_an_interruption(micro: BaseModel, pairs: Pairs, tmp_path: Path) -> None:
    first, second = Heard(), Heard()
    with pytest.raises(KeyboardInterrupt):
        learn(pairs, micro, None, BRIEF, tmp_path / "parts", interrupted(11), first)
    learn(pairs, micro, None, BRIEF, tmp_path / "parts", silent, second)
    # The last state was saved at step 8; the twelfth was told before the interruption.
    assert first.steps == list(range(1, 13)) and second.steps == list(range(9, 25))


def test_the_colours_of_parts_are_the_styles_unless_told_otherwise(
    micro: BaseModel, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The random parts of a random generator are mixed everywhere.
    monkeypatch.setattr("agile3d_cli.style.tones.SURE", 0.3)
    few = dataclasses.replace(BRIEF, steps=6)
    changed = learn(pairs, micro, None, few, tmp_path / "with", silent).difference
    tones = {name for name in changed.weights if name.startswith("palette.")}
    assert tones == {"palette.layer.weight", "palette.layer.bias"}
    # The pairs are darker than the heads.
    ws = micro.generator.mapping(pairs.z)
    before, after = (each.colours_of_parts(ws) for each in (micro.generator, stylized(micro.generator, changed)))
    assert before is not None and after is not None
    assert float((after - before).mean((0, 1)).max()) < 0
    kept = learn(pairs, micro, None, dataclasses.replace(few, tones=False), tmp_path / "without", silent)
    assert not any(name.startswith("palette.") for name in kept.difference.weights)


def assert_same(a: Transferred, b: Transferred) -> None:
    assert set(a.difference.weights) == set(b.difference.weights)
    assert all(torch.equal(a.difference.weights[name], b.difference.weights[name]) for name in a.difference.weights)
    assert a.losses == b.losses


@dataclasses.dataclass(frozen=True)
class TintConfig:
    """No settings."""


class Tint:
    """A stylizer that darkens green and blue."""

    features_drawn = 0.4

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        batch = faces.sample(1, torch.Generator().manual_seed(seed))
        assert len(exemplars) == 5 and batch.landmarks.shape == (1, 468, 3)

    def stylize(self, images: Tensor) -> Tensor:
        return (images + 1) * torch.tensor([0.9, 0.5, 0.5])[:, None, None] - 1

    def save(self, path: Path) -> None:
        raise NotImplementedError


TINT = StylizerDescription(
    "tint", "", TintConfig, lambda _: Tint(), lambda _: Tint(), (LicenseNote("t", "MIT", "", True),)
)


def unmoved(real: Tensor, drawn: Tensor) -> Moved:
    """The measures of a pair of ellipsoids, in which no detector finds a face."""
    return Moved(torch.zeros(468, 2), (real - drawn).abs().mean(), torch.ones(384))


def make_small(patch: pytest.MonkeyPatch) -> None:
    """The flow exemplars -> style with a stylizer of this file, few pairs, and no face detector for ellipsoids."""

    def fit(name: str, exemplars, faces: FaceSampler, seed: int, progress: Progress, work: Path):
        tint = Tint()
        tint.fit(exemplars.images, faces, progress, seed)
        return tint, TINT, {"name": name, "version": "1", "config": {}}

    patch.setattr(material, "fit_stylizer", fit)
    patch.setattr(preview, "PREVIEW_SIZE", 32)
    patch.setattr(score, "PEOPLE", 3)
    patch.setattr(material, "PRESET_WORK", {"fast": Preset(pairs=12, size=48, steps=16)})
    patch.setattr(material, "TransferConfig", lambda steps, **more: dataclasses.replace(BRIEF, steps=steps))
    patch.setattr(augment, "measure_pair", unmoved)


@pytest.fixture
def small_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """See ``make_small``."""
    make_small(monkeypatch)


def exemplar_folder(place: Path) -> Path:
    """Five of the example pictures."""
    folder = place / "exemplars"
    folder.mkdir()
    pictures = sorted((Path(__file__).parents[2] / "examples" / "cartoon-exemplars").glob("*.webp"))
    for picture in pictures[:5]:
        shutil.copy(picture, folder)
    return folder


@pytest.mark.slow
def test_exemplars_to_style_and_on_to_a_portrait(
    quick: InvertConfig,
    small_flow: None,
    installed: Path,
    micro: BaseModel,
    sitter: tuple[Tensor, AlignedFace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = exemplar_folder(tmp_path)
    config = NewStyleConfig("tinted", stylizer="tint", base="micro")
    (folder / "notes.txt").touch()
    told: list[str] = []
    whole = learn_style(
        folder, tmp_path / "whole", dataclasses.replace(config, log=tmp_path / "log"), silent, told.append
    )
    assert len(list((tmp_path / "log").iterdir())) == 1, "one file of events"
    bundle = read_style(whole.bundle)
    assert bundle.base.sha256 == micro.reference.sha256 and bundle.training["pairs"] == 20
    assert len(bundle.exemplars) == 5 and bundle.stylizer["name"] == "tint" and bundle.preview is not None
    assert bundle.preview.shape == (4 * KEPT_SIZE, 4 * KEPT_SIZE, 3)
    assert float(bundle.tensors["calm"]) == pytest.approx(0.4 * TransferConfig().calm)
    assert whole.preview.is_file() and whole.report.is_file() and whole.stopped == "length"
    assert not (tmp_path / "whole" / ".work" / "surfaces").exists()
    assert len(told) == 1 and "notes.txt" in told[0] and tuple(told) == whole.notes
    report = json.loads(whole.report.read_text())
    assert report["notes"] == told
    # An ellipsoid has no face to be found; the rest is measured.
    measured = bundle.scores
    assert measured["identity"] is None and report["scores"]["identity"] == "not measured"
    assert 0.5 < measured["relief"] < 1.5 and measured["view_consistency"]["color"] < 0.1
    assert measured["style_distance"]["low"] <= measured["style_distance"]["value"] and measured["sharpness"] > 0
    none = {"no face": 0, "drift": 0, "identity": 0, "look": 0}
    assert report["dataset"] == {"faces": {"made": 20, "kept": 20, "dropped": none}}

    def stop_at(stage: str, share: float) -> None:
        if stage == "transfer" and share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_style(folder, tmp_path / "parts", config, stop_at)
    resumed = learn_style(folder, tmp_path / "parts", dataclasses.replace(config, resume=True), silent)
    again = read_style(resumed.bundle)
    assert set(again.tensors) == set(bundle.tensors)
    assert all(torch.equal(again.tensors[name], bundle.tensors[name]) for name in bundle.tensors)

    monkeypatch.setattr(avatar_pipeline, "load_face", lambda *_: (sitter[1], []))
    monkeypatch.setattr(avatar_pipeline, "ViewsConfig", lambda: ViewsConfig(frames=2, frame_size=32))
    monkeypatch.setattr(avatar_pipeline, "SHEET_SIZE", 32)
    monkeypatch.setattr(avatar_pipeline, "InvertConfig", lambda **_: quick)
    result = make_avatar(Path("sitter.png"), tmp_path / "out", ApplyConfig(style=str(whole.bundle), size=64), silent)
    label = sitter[1].label[None]
    shown = load_head(result.portrait, torch.device("cpu")).render(label, 64)
    plain = GeneratorHead(micro.generator, micro.generator.from_latent(sitter[0])).render(label, 64)
    solid = (shown.alpha > 0.9) & (plain.alpha > 0.9)
    red, green, _ = ((shown.image - plain.image)[:, k][solid[:, 0]].mean() for k in range(3))
    # Sixteen steps are a beginning: measured a difference of 0.075.
    assert green < red - 0.04


@pytest.mark.slow
def test_work_on_other_pictures_is_not_taken_up(
    small_flow: None, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    shard = augment._shard
    monkeypatch.setattr(augment, "_shard", lambda *words: made.append(1) or shard(*words))
    config = NewStyleConfig("tinted", stylizer="tint", base="micro", resume=True)
    folder = exemplar_folder(tmp_path)

    def learn_until_transfer() -> int:
        def stop(stage: str, _: float) -> None:
            if stage == "transfer":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            learn_style(folder, tmp_path / "out", config, stop)
        return len(made)

    assert [learn_until_transfer(), learn_until_transfer()] == [2, 2]
    first, *_ = sorted(folder.glob("*.webp"))
    with Image.open(first) as picture:
        mirrored = ImageOps.mirror(picture)
    mirrored.save(first, lossless=True)
    assert learn_until_transfer() == 4


def test_a_stylizer_without_faces_is_told(
    small_flow: None, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "measure_pair", lambda *_: None)
    config = NewStyleConfig("tinted", stylizer="tint", base="micro")
    with pytest.raises(PhotoError, match="No face was found in any of the 20"):
        learn_style(exemplar_folder(tmp_path), tmp_path / "out", config, silent)


def until_transfer(folder: Path, output: Path, config: NewStyleConfig) -> None:
    """Runs the flow up to the pairs' surfaces."""

    def stop(stage: str, _: float) -> None:
        if stage == "surfaces":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_style(folder, output, config, stop)


def test_stylized_faces_stay_for_a_longer_preset(
    small_flow: None, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    shard = augment._shard
    monkeypatch.setattr(augment, "_shard", lambda *words: made.append(1) or shard(*words))
    work = {"fast": Preset(pairs=10, size=32, steps=8), "full": Preset(pairs=30, size=32, steps=8)}
    monkeypatch.setattr(material, "PRESET_WORK", work)
    folder, config = exemplar_folder(tmp_path), NewStyleConfig("tinted", stylizer="tint", base="micro")
    until_transfer(folder, tmp_path / "out", config)
    (tmp_path / "out" / ".work" / "transfer.safetensors").write_text("of the shorter run")
    until_transfer(folder, tmp_path / "out", dataclasses.replace(config, preset="full", resume=True))
    assert len(made) == 3 and not (tmp_path / "out" / ".work" / "transfer.safetensors").exists()
    # Without --resume nothing is taken over.
    until_transfer(folder, tmp_path / "out", dataclasses.replace(config, preset="full"))
    assert len(made) == 6


def test_photos_join_the_dataset_with_their_cameras(
    small_flow: None, installed: Path, micro: BaseModel, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(Path(__file__).parents[2] / "examples" / "astronaut.jpg", photos)
    (photos / "broken.jpg").write_text("no picture")
    Image.new("RGB", (64, 64)).save(photos / "empty.png")
    config = NewStyleConfig(
        "tinted", stylizer="tint", base="micro", photos=photos, dataset=tmp_path / "eg3d", preset="fast"
    )
    until_transfer(exemplar_folder(tmp_path), tmp_path / "out", config)
    rows = read_layout(tmp_path / "eg3d")
    assert rows is not None and len(rows) == 21
    face, _ = load_face(photos / "astronaut.jpg", FaceConfig(size=48, matte=False, template=micro.framing))
    path, label = rows[-1]
    torch.testing.assert_close(label, face.label, rtol=0, atol=1e-6)
    tinted = Tint().stylize(face.image[None])[0]
    # PNG keeps 8 bits, the shard half precision.
    assert float((to_tensor(read_photo(path)) - tinted).abs().max()) < 0.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_both_flows_run_on_a_gpu(
    quick: InvertConfig,
    micro_file: Path,
    micro: BaseModel,
    pairs: Pairs,
    sitter: tuple[Tensor, AlignedFace],
    latent: Latent,
    tmp_path: Path,
) -> None:
    base = load_base(str(micro_file), "cuda")
    field = style_displacement(pairs, base)
    torch.testing.assert_close(field, style_displacement(pairs, micro), rtol=0, atol=1e-4)
    learnt = learn(pairs, base, field, BRIEF, tmp_path / "state", silent)
    known = GeneratorFaces(base, 48).draw(2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(known.labels, pairs.labels[:2])
    assert known.landmarks.shape == (2, 468, 3)
    here = invert(sitter[1], base, quick, WIDE, silent)
    torch.testing.assert_close(here.z.cpu()[:, :3], latent.z[:, :3], rtol=0, atol=1e-3)
    label = sitter[1].label[None]
    shown = build_head(here, base, learnt.difference, 1, 1, 1).render(label, 48)
    assert shown.image.is_cuda and torch.isfinite(shown.image).all()
    path = tmp_path / "portrait.safetensors"
    write_portrait(path, Portrait(here.ws[0].cpu(), label[0], base.reference, None, personal_tensors(here)))
    assert read_portrait(path).personal["z"].device.type == "cpu"
