"""The parts of the fit: codes, branches, the network that is learnt, and its losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from agile3d_agilegan.branches import Division, divide
from agile3d_agilegan.codes import Codes, mixed, refined, told
from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.drawing import started_from
from agile3d_agilegan.score import StyleScore
from agile3d_agilegan.transfer import Material, Transfer
from torch import Tensor

from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.layers import upsample
from agile3d_cli.models.perceptual import perceptual_distance
from agile3d_cli.testing import PaintedFaces, paint_exemplars

FEW = AgileganConfig(steps=4, half_share=0.5, shown=2, drawn=2, pool=6, measure_every=1, fewest=1, apart=0.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exemplars() -> Tensor:
    return torch.stack([picture for picture in paint_exemplars(6) if picture.shape[-1] == 64])


def made(prior: FlatPrior, sides: list[int], config: AgileganConfig = FEW) -> Transfer:
    pictures = torch.nn.functional.interpolate(exemplars(), scale_factor=2)
    codes = told(prior, pictures)
    pool = mixed(codes, 6, torch.Generator().manual_seed(0))
    division = Division(0, 0.0, max(sides) + 1)
    material = Material(pictures, codes, torch.tensor(sides), pool, division.branch_of(pool))
    score = StyleScore(prior, pictures, codes.mean, division)
    return Transfer(prior, material, score, config, seed=0)


def test_the_tiny_prior_knows_painted_faces(prior: FlatPrior) -> None:
    """Else the other tests would say little."""
    pictures = PaintedFaces().sample(6, torch.Generator().manual_seed(5)).images
    with torch.no_grad():
        drawn = prior.generator(prior.expected_styles(prior.codes(pictures)))
    assert float((drawn - pictures).abs().mean()) < 0.12


def test_refined_codes_redraw_better_and_stay_near(prior: FlatPrior) -> None:
    pictures = exemplars()
    codes = told(prior, pictures)
    better = refined(prior, pictures, codes, 12)

    def missed(found: Codes) -> float:
        with torch.no_grad():
            drawn = prior.generator(prior.expected_styles(found.mean))
            return float(perceptual_distance(drawn, pictures).mean() * 0.15 + (drawn - pictures).abs().mean())

    assert missed(better) < missed(codes)
    assert torch.equal(better.spread, codes.spread)
    assert float((better.mean - codes.mean).abs().max()) < 12 * 0.08 * 1.5, "a descent moves by about its rate"


def test_refining_for_no_steps_changes_nothing(prior: FlatPrior) -> None:
    codes = told(prior, exemplars())
    assert torch.equal(refined(prior, exemplars(), codes, 0).mean, codes.mean)


def test_drawn_codes_have_the_spread_that_was_told() -> None:
    codes = Codes(torch.tensor([[[1.0, -2.0]]]).expand(4000, 1, 2), torch.tensor([[[0.5, 2.0]]]).expand(4000, 1, 2))
    drawn = codes.drawn(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean((0, 1)), torch.tensor([1.0, -2.0]), rtol=0, atol=0.15)
    torch.testing.assert_close(drawn.std((0, 1)), torch.tensor([0.5, 2.0]), rtol=0.05, atol=0)


def test_half_of_the_mixed_codes_are_the_priors(prior: FlatPrior) -> None:
    codes = told(prior, exemplars())
    found = mixed(codes, 400, torch.Generator().manual_seed(0))
    invented = found[:200]
    assert torch.equal(invented[:, 0], invented[:, 1]), "one person for all layers"
    assert abs(float(invented.std()) - 1) < 0.1
    middle = codes.mean.mean(0)
    assert float((found[200:].mean(0) - middle).abs().max()) < 0.5


def test_each_side_is_divided_in_its_own_middle() -> None:
    drawings, faces = normal(8, 3, 6, seed=1) - 4, normal(40, 3, 6, seed=2) + 2
    config = AgileganConfig(attribute="old", fewest=4, apart=0.1)
    division, sides = divide(drawings, faces, config)
    assert (division.coordinate, division.count) == (1, 2)
    assert sorted(sides.tolist()) == [0] * 4 + [1] * 4
    assert bool(drawings[sides == 1][:, :, 1].mean(1).min() > drawings[sides == 0][:, :, 1].mean(1).max())
    assert int(division.branch_of(faces).sum()) == 20


@pytest.mark.parametrize("settings", [{"attribute": ""}, {"fewest": 5}, {"apart": 9.0}])
def test_what_does_not_divide_has_one_branch(settings: dict[str, object]) -> None:
    given = {"fewest": 4, "apart": 0.1} | settings
    division, sides = divide(normal(8, 3, 6), normal(40, 3, 6, seed=2), AgileganConfig(**given))
    assert division.count == 1 and not sides.any() and not division.branch_of(normal(5, 3, 6)).any()


def test_the_network_starts_as_the_prior_doubled(prior: FlatPrior) -> None:
    drawing = started_from(prior.generator, 2, seed=0).eval()
    ws = prior.expected_styles(normal(2, 2, 8))
    with torch.no_grad():
        wanted = prior.generator(ws)
        for branch in (0, 1):
            torch.testing.assert_close(drawing(ws, branch), upsample(wanted))
            torch.testing.assert_close(drawing(ws, branch, half=True), prior.generator(ws, size=32))
    assert drawing.size == 128 and not any(p.requires_grad for p in drawing.generator.mapping.parameters())


def test_before_the_first_step_nothing_has_moved(prior: FlatPrior) -> None:
    transfer = made(prior, [0, 0, 0])
    assert float(transfer._departed(0, half=False).detach()) == 0
    rows = torch.tensor([1, 4])
    with torch.no_grad():
        pictures = prior.generator(prior.expected_styles(transfer.material.pool[rows]))
        assert float(transfer._layout(pictures, rows)) < 1e-6
        # The same change to every face is style and costs nothing once the mean follows; another one for each does.
        for _ in range(80):
            shifted = float(transfer._layout(pictures + 0.3, rows))
        apart = float(transfer._layout(pictures + torch.tensor([0.3, -0.3])[:, None, None, None], rows))
    assert shifted < 1e-3 < 0.25 < apart


def test_branches_part_after_the_first_half_and_share_head_and_tail(prior: FlatPrior) -> None:
    transfer = made(prior, [0, 1, 1])
    transfer._step(0, half=True)
    one, two = transfer.drawing.generator.branches
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    transfer._divide()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    kept = [p.detach().clone() for p in one.parameters()]
    transfer._step(1, half=False)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), kept, strict=True)), "an odd step is branch 1's"
    assert any(not torch.equal(a, b) for a, b in zip(two.parameters(), kept, strict=True))


def test_exemplars_are_redrawn_better_than_before(prior: FlatPrior) -> None:
    transfer = made(prior, [0, 0, 0], replace(FEW, steps=40, measure_every=40, crowd_weight=0.0))
    styles, wanted = prior.expected_styles(transfer.material.codes.mean), transfer.material.exemplars
    with torch.no_grad():
        before = float(perceptual_distance(transfer.drawing(styles, 0), wanted).mean())
    learnt = transfer.run(lambda share: None).drawing
    with torch.no_grad():
        after = float(perceptual_distance(learnt(styles, 0), wanted).mean())
    # Measured: 0.875 after these few steps.
    assert after < 0.95 * before


def test_the_same_seed_learns_the_same_and_the_prior_stays(prior: FlatPrior) -> None:
    before = {name: value.clone() for name, value in prior.generator.state_dict().items()}
    one, two = (made(prior, [0, 0, 0]).run(lambda share: None) for _ in range(2))
    for a, b in zip(one.drawing.parameters(), two.drawing.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(value, prior.generator.state_dict()[name]) for name, value in before.items())


def test_a_nearer_style_scores_better(prior: FlatPrior) -> None:
    """Exemplars in a blue light: a network that draws in it is nearer to them than the unstylized one."""
    codes, light = normal(6, 2, 8), torch.tensor([-0.4, 0.0, 0.4])
    drawing = started_from(prior.generator, 1, seed=0).eval()
    with torch.no_grad():
        lit = upsample(prior.generator(prior.expected_styles(codes[:3]))) + light[:, None, None]
        score = StyleScore(prior, lit.clamp(-1, 1), codes[3:], Division(0, 0.0, 1))
        plain = score.of(drawing)
        drawing.finish.output.bias.copy_(light.repeat_interleave(4))
        blue = score.of(drawing)
    assert plain.drift < 0.02 and blue.style < plain.style
