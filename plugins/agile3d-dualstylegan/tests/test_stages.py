"""The stages of the fit and the parts they stand on, each alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from agile3d_dualstylegan import register
from agile3d_dualstylegan.destyle import destylize
from agile3d_dualstylegan.enlarge import brought_to
from agile3d_dualstylegan.imagine import learn_sampler
from agile3d_dualstylegan.learn import started
from agile3d_dualstylegan.losses import contextual, differing, rearranged, unmatched
from agile3d_dualstylegan.pairs import balance, extrinsic, intrinsic, nearness
from agile3d_dualstylegan.prior import cut, open_prior
from agile3d_dualstylegan.strokes import at_dial
from agile3d_dualstylegan.structure import learn_structure

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.flat import FlatPrior, read_flat
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.perceptual import features
from agile3d_cli.testing import ignore_progress, paint_faces


@pytest.fixture(scope="module")
def prior(tiny_prior: Path) -> FlatPrior:
    return read_flat(tiny_prior)


def painted(count: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(3)
    return paint_faces((torch.rand(count, 2, generator=rng) - 0.5) * 0.1, torch.rand(count, 3, generator=rng))


def test_a_prior_that_is_cut_draws_the_same_smaller(prior: FlatPrior, tiny_prior: Path) -> None:
    small = cut(prior, 32)
    codes = prior.codes(painted(2))
    assert small.generator.config.size == 32 and small.encoder.config.groups == (8,)
    assert torch.equal(small.codes(painted(2)), codes)
    assert torch.equal(small.generator(small.styles(codes)), prior.generator(prior.styles(codes), size=32))
    assert cut(prior, 128) is prior
    with pytest.raises(ConfigError, match="draws 16 pixels"):
        open_prior(str(tiny_prior), 16)


def test_exemplars_are_moved_to_where_faces_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = paint_faces(torch.tensor([[0.05, -0.03], [0.05, -0.03]]), torch.zeros(2, 3), 128)
    turn = torch.linspace(0, 6.28, 468)
    oval = torch.stack([0.28 * turn.cos(), 0.36 * turn.sin()], 1).double()
    monkeypatch.setattr(register, "_points", lambda image: oval + 0.5 + torch.tensor([0.05, -0.03]))
    wanted = torch.cat([0.9 * oval + 0.5, torch.zeros(468, 1)], 1)[None]
    found = register.registered(pictures, wanted)
    smaller = resized(paint_faces(torch.zeros(2, 2), torch.zeros(2, 3), 128), 116)
    smaller = torch.nn.functional.pad(smaller, (6, 6, 6, 6), mode="replicate")
    assert float((found - smaller).abs().mean()) < 0.25 * float((pictures - smaller).abs().mean())
    monkeypatch.setattr(register, "_points", lambda image: None)
    assert torch.equal(register.registered(pictures, wanted), pictures)


def test_destylized_exemplars_lie_nearer_than_what_the_encoder_tells(prior: FlatPrior) -> None:
    exemplars = painted(3).flip(1)
    told, found = (destylize(prior, exemplars, steps, ignore_progress) for steps in (0, 12))
    assert torch.equal(told.extrinsic, intrinsic(prior, exemplars))
    off = [(each.faces - exemplars).abs().mean((1, 2, 3)) for each in (told, found)]
    assert bool((off[1] < off[0]).all())
    alone = destylize(prior, exemplars[:1], 12, ignore_progress)
    # Adam divides by gradients near zero; it moves codes by up to 0.9, and the worst difference measured is 6e-3.
    torch.testing.assert_close(alone.extrinsic, found.extrinsic[:1], rtol=0, atol=2e-2)


def test_stage_one_is_style_mixing_and_stage_two_carries_structure(prior: FlatPrior) -> None:
    network, weights = started(prior, 0), (1.0,) * 10
    codes = intrinsic(prior, painted(2))
    own, other = (prior.generator.mapping(codes[k : k + 1]) for k in range(2))
    mixed = prior.generator(torch.cat([own[:, :7], other[:, 7:]], 1))
    with torch.no_grad():
        torch.testing.assert_close(network(own, other, weights), mixed, rtol=0, atol=1e-5)
    face, other = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(9))
    other[:, -2:] = face[:, -2:]
    one, two = (prior.generator.mapping(codes)[:, None].expand(-1, 10, -1) for codes in (face, other))
    wanted = prior.generator(torch.cat([one[:, :5], two[:, 5:]], 1))
    with torch.no_grad():
        before = (network(one, two, weights) - wanted).abs().mean()
    learn_structure(network, 24, 4, torch.Generator().manual_seed(0), ignore_progress)
    with torch.no_grad():
        after = (network(one, two, weights) - wanted).abs().mean()
        plain = at_dial(network, prior.generator, (0.0,) * 10)(one, two, (0.0,) * 10)
    assert float(after) < float(before)
    assert torch.equal(plain, prior.generator(one))


def test_fine_layers_follow_their_weights(prior: FlatPrior) -> None:
    network = started(prior, 0)
    last = network.generator.blocks[4]
    with torch.no_grad():
        last.conv0.bias += 1
        last.output.bias += 1
    found = at_dial(network, prior.generator, (0.0,) * 7 + (0.25, 0.5, 0.75)).generator.blocks[4]
    start = prior.generator.blocks[4]
    torch.testing.assert_close(found.conv0.bias, start.conv0.bias + 0.25)
    torch.testing.assert_close(found.output.bias, start.output.bias + 0.75)


def test_an_exemplar_neither_turns_a_head_nor_counts_alike_for_all(prior: FlatPrior) -> None:
    codes = torch.randn(3, 10, 12, generator=torch.Generator().manual_seed(0))
    even = torch.zeros(3)
    shares = nearness(codes, codes, even)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    assert shares.argmax(1).tolist() == [0, 1, 2]
    turned = codes.clone()
    turned[:, :, -2:] += 1
    assert torch.equal(nearness(turned, codes, even), shares)
    asked = torch.eye(3)
    assert torch.equal(
        extrinsic(prior.generator.mapping, codes, asked, codes),
        extrinsic(prior.generator.mapping, turned, asked, codes),
    )


def test_balanced_exemplars_are_asked_for_alike_and_in_order() -> None:
    # Faces and exemplars on a line: all faces are nearest to the first exemplar.
    line = torch.zeros(12, 1, 6)
    line[:, 0, 0] = torch.linspace(-3, -1, 12)
    exemplars = torch.zeros(3, 1, 6)
    exemplars[:, 0, 0] = torch.linspace(-1, 2, 3)
    assert nearness(line, exemplars, torch.zeros(3)).argmax(1).tolist() == [0] * 12
    shares = nearness(line, exemplars, balance(line, exemplars))
    torch.testing.assert_close(shares.mean(0), torch.full((3,), 1 / 3), rtol=0, atol=1e-3)
    assert shares.argmax(1).tolist() == sorted(shares.argmax(1).tolist())


def test_losses_are_zero_for_the_same_and_know_what_they_tell_apart() -> None:
    faces = painted(2)
    flipped, inverted = features(faces.flip(3)), features(-faces)
    seen = features(faces)
    for loss in (differing, unmatched, rearranged):
        torch.testing.assert_close(loss(seen, seen), torch.zeros(2), rtol=0, atol=1e-5)
    assert bool((contextual(seen, seen) < contextual(seen, inverted)).all())
    # Where things are: statistics do not know it, layouts do.
    assert bool((unmatched(seen, flipped) < 0.1 * differing(seen, flipped)).all())
    assert bool((rearranged(seen, flipped) > 0.01).all())


def test_the_sampler_draws_among_the_exemplars() -> None:
    codes = torch.randn(5, 10, 12, generator=torch.Generator().manual_seed(1))
    sampler = learn_sampler(codes, 0, ignore_progress)
    drawn = sampler.draw(64, torch.Generator().manual_seed(2))
    assert torch.equal(drawn, sampler.draw(64, torch.Generator().manual_seed(2)))
    # Every exemplar has a draw nearer to it than the mean of all is.
    apart = torch.cdist(codes.flatten(1), drawn.flatten(1)).amin(1)
    assert bool((apart < torch.cdist(codes.flatten(1), codes.mean(0, keepdim=True).flatten(1))[:, 0]).all())


def test_enlarged_pictures_have_steeper_edges_and_the_same_plains() -> None:
    step = torch.cat([torch.full((1, 3, 32, 16), -0.5), torch.full((1, 3, 32, 16), 0.75)], 3)
    found = brought_to(step, (64, 64))
    plain = torch.nn.functional.interpolate(step, (64, 64), mode="bicubic", align_corners=False)
    assert float(found.diff(dim=3).abs().amax()) > float(plain.diff(dim=3).abs().amax())
    torch.testing.assert_close(found[..., :24], torch.full((1, 3, 64, 24), -0.5))
    torch.testing.assert_close(found[..., 40:], torch.full((1, 3, 64, 24), 0.75))
    assert torch.equal(brought_to(step, (32, 32)), step)
    assert brought_to(step, (20, 20)).shape == (1, 3, 20, 20)
