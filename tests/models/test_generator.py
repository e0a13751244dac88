"""The generator as a whole: determinism, configuration, model files, style differences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.bundle import Model, write_model
from agile3d_cli.errors import ConfigError, MissingError, RefusedError
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.models import styled
from agile3d_cli.models.backbone import DECIDED, Mapping, chosen, decided, enlarged
from agile3d_cli.models.checkpoints import architecture, generator_tensors, load_base
from agile3d_cli.models.config import (
    EG3D_FFHQ_512,
    BankConfig,
    ChoicesConfig,
    DeformationConfig,
    FocusConfig,
    GeneratorConfig,
    SuperresolutionConfig,
    TraitsConfig,
)
from agile3d_cli.models.contour import Contour
from agile3d_cli.models.generator import (
    FEATURES,
    HIDING,
    LOCKS,
    LOCKS_SHADE,
    OTHER,
    PAINT_FADES,
    PAINTED_COLOUR,
    SHADE,
    SKIN,
    SKIN_SHADE,
    Look,
    Subject,
    TriplaneGenerator,
    front_share,
    mean_style,
)
from agile3d_cli.models.styled import ACCENTS, StyleDifference, colour_kept, read_difference, stylized
from agile3d_cli.models.triplane import DARKEST, plane_features
from agile3d_cli.prior.config import MINI

MICRO = GeneratorConfig(
    z_dim=6,
    w_dim=8,
    label_dim=0,
    normalize_z=False,
    plane_size=16,
    plane_channels=4,
    plane_axes="xy_xz_zy",
    channel_base=128,
    channel_max=8,
    decoder_hidden=8,
    feature_channels=3,
    mean_planes=True,
    bias_maps=8,
    focus=FocusConfig(strength=3.0, centre=(0.0, 0.0, 0.15)),
    deformation=DeformationConfig(shapes=2, expressions=((0.5, -1.0),), grid=8, inverse_grid=10),
)
PARTED = dataclasses.replace(MICRO, traits=TraitsConfig(3, 4), parts=3)
CONDITIONED = dataclasses.replace(
    MICRO, label_dim=25, normalize_z=True, mean_planes=False, deformation=DeformationConfig()
)


def made(config: GeneratorConfig, seed: int = 0) -> TriplaneGenerator:
    torch.manual_seed(seed)
    generator = TriplaneGenerator(config)
    with torch.no_grad():
        generator.deformation.basis.normal_(0, 0.005)
        for name, parameter in generator.named_parameters():
            if name.endswith(("mean_planes", "bias_map", "noise_strength")):
                parameter.normal_(0, 0.1)
    return generator.eval().requires_grad_(False)


def points(count: int = 300) -> torch.Tensor:
    return torch.rand(1, count, 3, generator=torch.Generator().manual_seed(3)) - 0.5


def written(tmp_path: Path, generator: TriplaneGenerator, landmarks: torch.Tensor | None) -> Path:
    path = tmp_path / "micro.safetensors"
    model = Model("micro", architecture(generator.config), generator_tensors(generator, landmarks), license="MIT")
    write_model(path, model)
    return path


@pytest.mark.parametrize("config", [MICRO, CONDITIONED])
def test_nothing_is_remembered_between_calls(config: GeneratorConfig) -> None:
    generator = made(config)
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    label = camera.portrait_label(0.2).expand(2, -1) if config.label_dim else None
    first = generator.from_latent(z, label)
    found = generator.field(first, points().expand(2, -1, -1))
    generator.from_latent(-z, label)
    generator.field(generator.from_latent(z[:1], None if label is None else label[:1]), points())
    again = generator.field(generator.from_latent(z, label), points().expand(2, -1, -1))
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_a_batch_is_its_members() -> None:
    generator = made(MICRO)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    together = generator.from_latent(z)
    for k in range(3):
        alone = generator.from_latent(z[k : k + 1])
        assert together.backward is not None and alone.backward is not None
        torch.testing.assert_close(together.planes[k], alone.planes[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.backward[k], alone.backward[0], rtol=0, atol=1e-6)


def test_field_is_empty_outside_the_box() -> None:
    generator = made(MICRO)
    density, _ = generator.field(generator.from_latent(torch.zeros(1, 6)), 1.4 * points(2000))
    outside = (1.4 * points(2000)).abs().amax(-1) >= 0.5
    assert outside.any() and not density[outside].any() and (density[~outside] > 0).all()


def test_the_planes_border_is_empty_space() -> None:
    plain, bordered = (made(dataclasses.replace(MICRO, border=border)) for border in (0, 2))
    subject = plain.from_latent(torch.zeros(1, 6))
    places = points(4000)
    density, colour = plain.field(subject, places)
    held, same = bordered.field(subject, places)
    normalised = plain.deformation.focus.forward(plain.to_canonical(subject, places))
    # Two of sixteen texels on each side: a quarter of the planes' width.
    within = normalised.abs().amax(-1) < 0.75
    assert within.any() and not within.all()
    assert torch.equal(held, density * within) and torch.equal(same, colour)


def test_a_displacement_moves_the_field() -> None:
    # The same shift of space everywhere: the field of the shifted subject is the field, shifted.
    generator = made(MICRO)
    z, shift = torch.zeros(1, 6), torch.tensor([0.0, 0.02, 0.01])
    weights = torch.zeros(1, 3)
    ws = generator.mapping(z)
    still = generator.subject(ws, weights)
    moved = generator.subject(ws, weights, shift[None, :, None, None, None].expand(1, 3, 8, 8, 8))
    inner = 0.8 * points()
    for a, b in zip(generator.field(still, inner), generator.field(moved, inner + shift), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_paint_colours_without_moving_surfaces() -> None:
    generator = made(MICRO)
    plain = generator.from_latent(torch.zeros(1, 6))
    other = torch.randn(plain.planes.shape, generator=torch.Generator().manual_seed(7))
    density, colour = generator.field(Subject(plain.planes, plain.backward, paint=other), points())
    before, own = generator.field(plain, points())
    assert torch.equal(density, before)
    # In front the paint's colours, behind the subject's own, and both in turn between.
    painted = generator.field(Subject(other, plain.backward), points())[1]
    share = front_share(generator.to_canonical(plain, points()))
    assert (share == 0).any() and (share == 1).any() and ((share > 0) & (share < 1)).any()
    ahead, behind = share[0, :, 0] == 1, share[0, :, 0] == 0
    assert torch.equal(colour[:, behind], own[:, behind])
    torch.testing.assert_close(colour[:, ahead], painted[:, ahead])
    torch.testing.assert_close(colour, own + share * (painted - own))


def test_paint_changes_no_part_into_another() -> None:
    generator = made(PARTED)
    plain = generator.from_latent(torch.randn(1, 6, generator=torch.Generator().manual_seed(2)))
    assert plain.palette is not None
    other = torch.randn(plain.planes.shape, generator=torch.Generator().manual_seed(7))
    place = generator.deformation.focus.forward(points())
    own, over = (generator.decoder.raw(plane_features(p, place, PARTED.plane_axes)) for p in (plain.planes, other))
    tone = generator.decoder.tone(own, plain.palette)
    found = generator.canonical_field(plain.planes, points(), plain.palette, other)[1]
    ahead = (front_share(points()) == 1)[0, :, 0]
    assert ahead.any()
    torch.testing.assert_close(found[:, ahead], generator.decoder.colour(over, tone)[:, ahead])
    assert not torch.allclose(generator.decoder.tone(over, plain.palette), tone, atol=0.1)


def raw_at(generator: TriplaneGenerator, planes: Tensor) -> Tensor:
    place = generator.deformation.focus.forward(points())
    return generator.decoder.raw(plane_features(planes, place, PARTED.plane_axes))


def test_a_style_says_itself_which_part_is_where() -> None:
    generator = made(PARTED)
    plain = generator.from_latent(torch.randn(1, 6, generator=torch.Generator().manual_seed(2)))
    assert plain.palette is not None
    style = torch.randn(plain.planes.shape, generator=torch.Generator().manual_seed(7))
    drawn = raw_at(generator, style)
    look = Look(points(), raw_at(generator, plain.planes), points()[..., 0])
    found = generator.colours(dataclasses.replace(plain, style=style), look)
    told = generator.decoder.colour(drawn, generator.decoder.tone(drawn, plain.palette))
    share = front_share(points())
    own = generator.colours(plain, look)
    torch.testing.assert_close(found, own + share * (told - own))
    # What was painted over the same planes changes nothing, and a style that is the head itself leaves paint as it is.
    same = dataclasses.replace(plain, style=style, paint=plain.planes)
    assert torch.equal(generator.colours(same, look), found)
    paint = style.flip(-1)
    weak = dataclasses.replace(plain, style=plain.planes, paint=paint, strength=0.0)
    torch.testing.assert_close(
        generator.colours(weak, look), generator.colours(dataclasses.replace(plain, paint=paint), look)
    )


def test_paint_shows_in_a_style_where_the_part_stays() -> None:
    generator = made(dataclasses.replace(PARTED, parts=len(PARTS)))
    with torch.no_grad():
        generator.decoder.output.weight[4:].mul_(8)
    plain = generator.from_latent(torch.randn(1, 6, generator=torch.Generator().manual_seed(2)))
    assert plain.palette is not None
    rng = torch.Generator().manual_seed(7)
    own, change, paint = (size * torch.randn(plain.planes.shape, generator=rng) for size in (8, 2, 8))
    plain, style = dataclasses.replace(plain, planes=own), own + change
    raw, drawn, over = (raw_at(generator, planes) for planes in (plain.planes, style, paint))
    look = Look(points(), raw, points()[..., 0])
    found = generator.colours(dataclasses.replace(plain, style=style, paint=paint), look)
    shares = [one[..., 4:].softmax(-1) for one in (raw, drawn)]
    kept = torch.tensor([part not in FEATURES for part in range(len(PARTS))])
    still = (shares[0] * shares[1])[..., kept].sum(-1, keepdim=True)
    added = over[..., 1:4] - raw[..., 1:4]
    lightness = added.mean(-1, keepdim=True)
    other = ((lightness.abs() - SHADE) / (OTHER - SHADE)).clamp(0, 1)
    assert (other == 0).any() and (other == 1).any()
    # Light and shade of a photo look like dirt on drawn skin and like stains on drawn hair.
    bare, hair, cropped = (
        (shares[0] * shares[1])[..., PARTS.index(part)][..., None] for part in ("skin", "hair", "painted_hair")
    )
    stains = (1 - LOCKS_SHADE) * (hair + cropped)
    for share in (bare, hair, cropped):
        assert share.max() > 0.3 and share.min() < 0.1
    other = other * (1 - stains)
    added = lightness + (PAINTED_COLOUR + (1 - PAINTED_COLOUR) * other) * (added - lightness)
    smooth = 1 - (1 - SKIN_SHADE) * bare * (1 - other) - stains
    shaded = generator.decoder.colour(drawn, generator.decoder.tone(drawn, plain.palette) + still * smooth * added)
    # What is another thing is as it is without the style.
    itself = generator.decoder.colour(over, generator.decoder.tone(raw, plain.palette))
    wanted = torch.lerp(shaded, itself, other * still)
    before, after = (share[..., HIDING].sum(-1, keepdim=True) for share in shares)
    wanted = torch.lerp(wanted, itself, before * (1 - after))
    ahead = (front_share(points()) == 1)[0, :, 0]
    torch.testing.assert_close(found[:, ahead], wanted[:, ahead], atol=1e-4, rtol=0)


def test_paint_on_grey_material_is_grey() -> None:
    generator = made(PARTED)
    plain = generator.from_latent(torch.randn(1, 6, generator=torch.Generator().manual_seed(2)))
    assert plain.palette is not None
    rng = torch.Generator().manual_seed(7)
    style, paint = (size * torch.randn(plain.planes.shape, generator=rng) for size in (1, 8))
    look = Look(points(), raw_at(generator, plain.planes), points()[..., 0])
    ahead = (front_share(points()) == 1)[0, :, 0]

    def drawn(purity: float, painted: bool = True) -> Tensor:
        subject = dataclasses.replace(plain, style=style, purity=purity, paint=paint if painted else None)
        return generator.colours(subject, look)[0, ahead]

    bare, dull, pure, half = drawn(0.0, painted=False), drawn(0.0), drawn(1.0), drawn(0.5)
    torch.testing.assert_close(half, (dull + pure) / 2)
    # As light as the paint makes it, in the material's own hue: a share of its colour, or of its distance to white.
    torch.testing.assert_close(dull.mean(-1), pure.mean(-1), atol=1e-3, rtol=0)
    darker = dull.mean(-1) < bare.mean(-1)
    assert darker.any() and not darker.all()
    shares = torch.where(darker[:, None], dull / bare, (1 - dull) / (1 - bare))
    assert float((shares.amax(-1) - shares.amin(-1)).abs().max()) < 1e-4
    assert float((pure - dull).abs().max()) > 0.02, "where nothing is held back, paint brings its own hue"


def test_a_dark_thing_in_a_style_is_as_far_from_the_rest_as_the_style_has_it() -> None:
    generator = made(dataclasses.replace(PARTED, parts=len(PARTS)))
    rng = torch.Generator().manual_seed(4)
    raw, drawn = (0.3 * torch.randn(1, 50, 4 + len(PARTS), generator=rng) for _ in range(2))
    for places in (raw, drawn):
        places[..., 4:] = -40.0
        places[..., 4 + PARTS.index("skin")] = 40.0
    palette = 0.4 + 0.4 * torch.rand(1, len(PARTS), 3, generator=rng)
    subject = Subject(torch.zeros(0), None, palette)
    dark = torch.full((1, 50, 3), -OTHER)
    itself = generator.decoder.colour(raw, generator.decoder.tone(raw, palette) + dark)
    skin = generator.decoder.colour(drawn, generator.decoder.tone(drawn, palette))
    lightness = [torch.logit(colour.mean(-1)) for colour in (skin, itself)]
    for contrast in (0.0, 0.25, 1.0):
        styled = generator._styled(dataclasses.replace(subject, contrast=contrast), raw, drawn, dark, itself)
        wanted = torch.lerp(*lightness, contrast)
        torch.testing.assert_close(torch.logit(styled.mean(-1)), wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(styled, itself, atol=1e-5, rtol=0)


def test_how_much_colour_a_style_keeps_is_read_from_its_palette() -> None:
    base = made(PARTED)
    layer = base.palette.layer.weight.detach().unflatten(0, (-1, 3))
    grey = layer.mean(1, keepdim=True)
    for purity, contrast in ((0.25, 1.0), (1.0, 0.5), (2.0, 3.0)):
        change = (contrast * grey + purity * (layer - grey) - layer).flatten(0, 1)
        painter = stylized(base, StyleDifference({"palette.layer.weight": change}, None))
        wanted = (min(1.0, purity), min(1.0, contrast))
        assert colour_kept(base, painter) == pytest.approx(wanted, abs=1e-5)


def test_features_are_those_of_the_face() -> None:
    assert {PARTS[part] for part in FEATURES} == {"eyes", "brows", "lashes", "teeth", "iris"}
    assert set(PARTS[HIDING]) == {"hair", "glasses", "headwear"}
    assert PARTS[SKIN] == ("skin",) and PARTS[LOCKS] == ("hair", "painted_hair")


def test_a_style_draws_no_eye_on_hair() -> None:
    generator = made(dataclasses.replace(PARTED, parts=len(PARTS)))
    rng = torch.Generator().manual_seed(4)
    raw, drawn = (torch.randn(1, 50, 4 + len(PARTS), generator=rng) for _ in range(2))
    raw[..., 4:] = drawn[..., 4:] = -40.0
    raw[:, :, 4 + PARTS.index("hair")] = drawn[:, :25, 4 + PARTS.index("iris")] = 40.0
    drawn[:, 25:, 4 + PARTS.index("hair")] = 40.0
    plain = torch.rand(1, 50, 3, generator=rng)
    subject = Subject(torch.zeros(0), None, torch.rand(1, len(PARTS), 3, generator=rng))
    found = generator._styled(subject, raw, drawn, None, plain)
    torch.testing.assert_close(found[:, :25], plain[:, :25])
    assert subject.palette is not None
    told = generator.decoder.colour(drawn, generator.decoder.tone(drawn, subject.palette))
    torch.testing.assert_close(found[:, 25:], told[:, 25:])
    assert not torch.allclose(found[:, 25:], plain[:, 25:], atol=0.05)


def test_a_place_has_the_colour_of_its_part() -> None:
    generator = made(PARTED)
    palette = torch.tensor([[[0.2, 0.4, 0.6], [0.9, 0.5, 0.1], [0.0, 1.0, 0.5]]])
    raw = torch.zeros(1, 4, 7)
    raw[0, :3, 4:] = 100 * torch.eye(3)
    colour = generator.decoder.colour(raw, generator.decoder.tone(raw, palette))[0]
    wanted = torch.cat([palette[0], palette[0].mean(0, keepdim=True)]).clamp(DARKEST, 1 - DARKEST)
    torch.testing.assert_close(colour, 1.002 * wanted - 0.001)
    # What a place adds goes on top.
    raw[..., 1:4] = 0.7
    brighter = generator.decoder.colour(raw, generator.decoder.tone(raw, palette))[0]
    assert (brighter > colour).all()


def test_places_of_plain_parts_differ_in_lightness_alone() -> None:
    plain = made(dataclasses.replace(PARTED, plain_parts=(1,)))
    palette = torch.full((1, 3, 3), 0.5)
    raw = torch.zeros(1, 2, 7)
    raw[..., 1:4] = torch.tensor([0.9, 0.3, -0.3])
    raw[0, 0, 5], raw[0, 1, 6] = 100, 100
    tone = plain.decoder.tone(raw, palette)
    colour = plain.decoder.colour(raw, tone)[0]
    torch.testing.assert_close(colour[0], 1.002 * torch.sigmoid(torch.full((3,), 0.3)) - 0.001)
    torch.testing.assert_close(colour[1], 1.002 * torch.sigmoid(raw[0, 1, 1:4]) - 0.001)
    # Paint still adds colours there.
    over = raw.clone()
    over[..., 1:4] += torch.tensor([0.0, 0.0, 1.0])
    bluer = plain.decoder.colour(over, tone)[0]
    assert float((bluer - colour)[:, 2].min()) > 0.2 and torch.equal(bluer[:, :2], colour[:, :2])


def test_parts_need_traits() -> None:
    with pytest.raises(ConfigError, match="traits"):
        dataclasses.replace(MICRO, parts=3)
    with pytest.raises(ConfigError, match="plain_parts"):
        dataclasses.replace(PARTED, plain_parts=(3,))


def test_paint_fades_from_the_face_to_the_back() -> None:
    low, high = PAINT_FADES
    z = torch.tensor([-0.5, low - 1e-3, (low + high) / 2, high + 1e-3, 0.5])
    share = front_share(torch.stack([torch.full_like(z, 0.3), z, z], -1)[None])
    torch.testing.assert_close(share, torch.tensor([0, 0, 0.5, 1, 1])[None, :, None])
    slope = front_share(torch.linspace(-0.5, 0.5, 1001)[None, :, None].expand(1, -1, 3)).diff(dim=1)
    assert (slope >= 0).all() and float(slope.max()) < 0.02


def test_truncation_goes_from_the_average_to_the_code() -> None:
    torch.manual_seed(0)
    mapping = Mapping(CONDITIONED)
    mapping.w_avg.normal_()
    z, label = torch.randn(1, 6), camera.portrait_label()[None]
    full = mapping(z, label)
    torch.testing.assert_close(mapping(z, label, 0.0), mapping.w_avg.expand_as(full))
    half = mapping(z, label, 0.5, cutoff=2)
    torch.testing.assert_close(half[:, :2], (full[:, :2] + mapping.w_avg) / 2)
    assert torch.equal(half[:, 2:], full[:, 2:])
    # A conditioned network sees only z's direction.
    torch.testing.assert_close(mapping(3 * z, label), full)


def test_mean_style_is_the_mean() -> None:
    generator = made(MICRO)
    z = torch.randn(64, 6, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(mean_style(generator, 64, 5), generator.mapping(z)[:, 0].mean(0))


@pytest.mark.parametrize("config", [MINI, MICRO, CONDITIONED, EG3D_FFHQ_512])
def test_configuration_round_trip(config: GeneratorConfig) -> None:
    import json

    assert GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_odd_configurations_are_refused() -> None:
    data = MICRO.to_dict()
    with pytest.raises(ConfigError, match="wings"):
        GeneratorConfig.from_dict(data | {"wings": 2})
    with pytest.raises(ConfigError, match="z_dim"):
        GeneratorConfig.from_dict({key: value for key, value in data.items() if key != "z_dim"})
    for change in ({"plane_size": 48}, {"plane_axes": "yz"}, {"near": 4.0}, {"z_dim": 2}):
        with pytest.raises(ConfigError):
            dataclasses.replace(MICRO, **change)
    with pytest.raises(ConfigError, match="doubles"):
        SuperresolutionConfig(entry=64, sizes=(256,), channels=(8,))
    with pytest.raises(ConfigError, match="channel counts"):
        SuperresolutionConfig(entry=64, sizes=(128,))


def test_model_file_round_trip(tmp_path: Path) -> None:
    generator, landmarks = made(MICRO), torch.rand(468, 3)
    base = load_base(str(written(tmp_path, generator, landmarks)))
    assert base.landmarks is not None and torch.equal(base.landmarks, landmarks)
    assert base.generator.config == MICRO and base.reference.name == "micro" and len(base.reference.sha256) == 64
    assert not any(parameter.requires_grad for parameter in base.generator.parameters())
    # Half precision on disk: 11 significant bits of every tensor.
    for name, value in base.generator.state_dict().items():
        torch.testing.assert_close(value, generator.state_dict()[name], rtol=2**-11, atol=1e-7)


def test_model_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    generator = made(MICRO)
    tensors, plan = generator_tensors(generator, None), architecture(MICRO)
    without = {name: value for name, value in tensors.items() if name != "mapping.w_avg"}
    cases: list[tuple[dict, dict]] = [
        ({**plan, "kind": "poem"}, tensors),
        ({**plan, "wings": 2}, tensors),
        ({**plan, "focus": {"strength": 1.0}}, tensors),
        ({**plan, "deformation": {"wings": 2, "expressions": []}}, tensors),
        ({**plan, "plane_size": 32}, tensors),
        (plan, without),
        (plan, tensors | {"more": torch.zeros(2)}),
    ]
    for number, (fields, values) in enumerate(cases):
        path = tmp_path / f"bad{number}.safetensors"
        write_model(path, Model("bad", fields, values))
        with pytest.raises(RefusedError, match="bad"):
            load_base(str(path))
    with pytest.raises(MissingError):
        load_base("nosuchmodel")


def test_style_difference_round_trip() -> None:
    base = made(MICRO)
    difference = StyleDifference(
        {"backbone.mean_planes": 0.1 * torch.randn(3, 4, 16, 16)}, 0.01 * torch.randn(3, 8, 8, 8)
    )
    back = read_difference(difference.tensors(), base, "mine")
    assert all(tensor.dtype == torch.float16 for tensor in difference.tensors().values())
    assert set(back.weights) == set(difference.weights)
    for a, b in ((back.weights, difference.weights), ({"d": back.displacement}, {"d": difference.displacement})):
        for name in a:
            assert torch.equal(a[name], b[name].half().float())
    full, half = stylized(base, back), stylized(base, back, 0.5)
    change = back.weights["backbone.mean_planes"]
    torch.testing.assert_close(full.backbone.mean_planes - base.backbone.mean_planes, change)
    torch.testing.assert_close(half.backbone.mean_planes - base.backbone.mean_planes, 0.5 * change)
    # The base itself is left as it was, and nothing else differs.
    same = [name for name, value in full.state_dict().items() if torch.equal(value, base.state_dict()[name])]
    assert set(base.state_dict()) - set(same) == {"backbone.mean_planes"}


def test_calm_and_light_are_stored_with_their_style() -> None:
    style = StyleDifference({}, None, calm=0.75, light=0.5)
    assert read_difference(style.tensors(), made(MICRO), "mine") == style
    plain = StyleDifference({}, None)
    assert not plain.tensors() and read_difference({}, made(MICRO), "mine") == plain
    for one in ("calm", "light"):
        with pytest.raises(RefusedError, match=one):
            read_difference({one: style.tensors()[one]}, made(CONDITIONED), "mine")


def test_a_contour_is_stored_with_its_style() -> None:
    line = Contour(0.01, 0.75, (0.125, 0.25, 0.5), 0.5)
    stored = StyleDifference({}, None, line).tensors()
    back = read_difference(stored, made(MICRO), "mine").contour
    assert back is not None and torch.allclose(back.tensor(), line.tensor())
    # Before lines along hair were drawn, a bundle held five numbers.
    earlier = read_difference({"contour": line.tensor()[:5]}, made(MICRO), "mine").contour
    assert earlier is not None and earlier.hair == 0 and torch.equal(earlier.tensor()[:5], back.tensor()[:5])
    assert read_difference({}, made(MICRO), "mine").contour is None
    for bad in (torch.full((5,), torch.nan), torch.full((5,), 1.5), -line.tensor(), torch.zeros(4)):
        with pytest.raises(RefusedError, match="contour"):
            read_difference({"contour": bad}, made(MICRO), "mine")


def test_a_styles_accents_follow_the_persons_tones() -> None:
    base = made(dataclasses.replace(MICRO, w_dim=16, traits=TraitsConfig(9, 4)))
    change = torch.randn(base.backbone.accents_shape, generator=torch.Generator().manual_seed(5))
    difference = StyleDifference({ACCENTS: change}, None)
    back = read_difference(difference.tensors(), base, "mine")
    torch.testing.assert_close(back.weights[ACCENTS], change, atol=0.02, rtol=0)
    ws = base.mapping(torch.randn(2, base.config.z_dim, generator=torch.Generator().manual_seed(6)))
    # Traits are the last nine of the sixteen.
    ws[0, -1, 7:10], ws[0, -1, 13:16] = torch.tensor([1.0, 2.0, 3.0]), -1.0
    full, half = (stylized(base, difference, color).backbone(ws) - base.backbone(ws) for color in (1.0, 0.5))
    wanted = enlarged(2 * change[:1] - change[1:], base.config.plane_size).unflatten(1, (3, -1))
    torch.testing.assert_close(full[:1], wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(half, 0.5 * full, atol=1e-5, rtol=1e-4)
    assert base.backbone.accents is None, "the base is left as it was"
    with pytest.raises(RefusedError, match="accents"):
        read_difference(difference.tensors(), made(MICRO), "mine")


def test_large_differences_are_stored_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styled, "LARGE", 1000)
    base, rng = made(MICRO), torch.Generator().manual_seed(3)
    scale = torch.tensor([1e-3, 0.1, 4.0]).reshape(3, 1, 1, 1)
    change = scale * torch.randn(3, 4, 16, 16, generator=rng)
    change[0, 0] = 0
    stored = StyleDifference({"backbone.mean_planes": change}, None).tensors()
    assert stored["weights.backbone.mean_planes"].dtype == torch.int8 and len(stored) == 2
    back = read_difference(stored, base, "mine").weights["backbone.mean_planes"]
    # Half a step is the most that rounding may cost, channel by channel.
    steps = change.abs().amax((2, 3), keepdim=True) / 127
    assert ((back - change).abs() <= 0.5001 * steps).all() and not back[0, 0].any()
    assert torch.equal(
        StyleDifference({"backbone.mean_planes": back}, None).tensors()["weights.backbone.mean_planes"],
        stored["weights.backbone.mean_planes"],
    )
    name, steps_name = sorted(stored, reverse=True)
    bad: list[dict[str, Tensor]] = [
        {name: stored[name]},
        {steps_name: stored[steps_name]},
        {name: stored[name], steps_name: stored[steps_name][:1]},
        {name: stored[name].float(), steps_name: stored[steps_name]},
        {name: stored[name].to(torch.int32), steps_name: stored[steps_name]},
    ]
    for tensors in bad:
        with pytest.raises(RefusedError, match="mine"):
            read_difference(tensors, base, "mine")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights.backbone.mean_planes", torch.zeros(3, 4, 8, 8)),
        ("weights.backbone.wings", torch.zeros(3)),
        ("weights.deformation.basis", torch.zeros(3, 3, 8, 8, 8)),
        ("displacement", torch.zeros(3, 9, 9, 9)),
        ("calm", torch.tensor([1.5])),
        ("calm", torch.tensor([float("nan")])),
        ("calm", torch.tensor([0.5, 0.5])),
        ("light", torch.tensor([-0.1])),
        ("backbone.mean_planes", torch.zeros(3, 4, 16, 16)),
    ],
)
def test_differences_that_do_not_fit_are_refused(name: str, value: torch.Tensor) -> None:
    with pytest.raises(RefusedError, match="mine"):
        read_difference({name: value}, made(MICRO), "mine")


def test_only_deforming_generators_take_a_displacement() -> None:
    with pytest.raises(RefusedError, match="displacement"):
        read_difference({"displacement": torch.zeros(3, 8, 8, 8)}, made(CONDITIONED), "mine")


CHOOSING = dataclasses.replace(
    MICRO,
    choices=ChoicesConfig(((3, (0.0, 0.4)),), ((5, -0.5),), crossed=((0, 0),)),
    traits=TraitsConfig(2, 5),
    bank=BankConfig((1, 4), 8),
    decoder_layers=2,
)


def test_choosing_coordinates_become_shares() -> None:
    z = torch.zeros(2, 6)
    z[0, 3], z[1, 5] = 1.0, -1.5
    found = chosen(z, CHOOSING.choices)
    first = torch.sigmoid(torch.tensor(8.0) * torch.tensor([0.6, -0.4]))
    torch.testing.assert_close(found[:, 0], first)
    torch.testing.assert_close(found[:, :2].sum(1), torch.ones(2))
    torch.testing.assert_close(found[:, 2], torch.sigmoid(torch.tensor([4.0, -8.0])))
    torch.testing.assert_close(found[:, 3:], found[:, :2] * found[:, 2:3])
    # The style ends with them.
    assert torch.equal(made(CHOOSING).mapping(z)[:, 0, -5:], found) and found.shape[1] == 5


def test_deciding_keeps_what_is_chosen_and_ends_the_doubt() -> None:
    choices = CHOOSING.choices
    z = 0.2 * torch.randn(400, CHOOSING.z_dim, generator=torch.Generator().manual_seed(4))
    before, after = chosen(z, choices), chosen(decided(z, choices), choices)
    options = sum(len(bias) for _, bias in choices.groups)
    switches = slice(options, options + len(choices.switches))
    start = 0
    for _, bias in choices.groups:
        group = slice(start, start + len(bias))
        assert torch.equal(before[:, group].argmax(1), after[:, group].argmax(1))
        assert float(after[:, group].amax(1).min()) > DECIDED - 1e-4
        start += len(bias)
    assert torch.equal(before[:, switches] > 0.5, after[:, switches] > 0.5)
    assert float((after[:, switches] - 0.5).abs().min()) > DECIDED - 0.5 - 1e-4
    # What was decided already stays, and so does all that chooses nothing.
    torch.testing.assert_close(decided(decided(z, choices), choices), decided(z, choices))
    free = [k for k in range(CHOOSING.z_dim) if k not in (3, 4, 5)]
    assert torch.equal(decided(z, choices)[:, free], z[:, free]) and not torch.equal(decided(z, choices), z)


def test_traits_stand_in_every_style_before_the_shares() -> None:
    generator = made(CHOOSING)
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    before, shares = generator.mapping.entry(z)
    found = generator.mapping(z)[..., -7:-5]
    wanted = generator.mapping.traits(before)
    assert torch.equal(before[:, :6], z) and shares.shape == (2, 5)
    assert wanted.shape == (2, 2) and torch.equal(found, wanted[:, None].expand_as(found))
    # They follow z alone: other first layers leave them.
    generator.mapping.layers[0].weight.add_(1)
    assert torch.equal(generator.mapping(z)[..., -7:-5], found)
    with pytest.raises(ConfigError, match="traits"):
        dataclasses.replace(CHOOSING, traits=TraitsConfig(3))


def test_enlarging_is_bilinear() -> None:
    small = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(small, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged(small, 16), expected, rtol=0, atol=2e-6)


def test_the_bank_adds_its_planes_by_their_shares() -> None:
    generator = made(CHOOSING)
    ws = generator.mapping(torch.randn(2, 6, generator=torch.Generator().manual_seed(1)))
    without = generator.backbone(ws)
    generator.backbone.bank.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
    mix = ws[:, -1][:, [-4, -1]]
    wanted = torch.stack([sum(m * p for m, p in zip(row, generator.backbone.bank, strict=True)) for row in mix])
    wanted = torch.nn.functional.interpolate(wanted, (16, 16), mode="bilinear", align_corners=False)
    added = (generator.backbone(ws) - without).flatten(1, 2)
    torch.testing.assert_close(added, wanted, atol=1e-5, rtol=1e-4)


def test_a_choosing_generator_comes_back_from_its_file(tmp_path: Path) -> None:
    generator = made(CHOOSING)
    back = load_base(str(written(tmp_path, generator, None))).generator
    assert back.config == CHOOSING
    z = torch.randn(1, 6, generator=torch.Generator().manual_seed(4))
    one, two = (g.field(g.from_latent(z), points()) for g in (generator, back))
    # Weights are kept in half precision.
    torch.testing.assert_close(one[1], two[1], atol=5e-3, rtol=0)
