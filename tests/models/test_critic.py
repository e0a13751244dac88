"""The critic learns what tells two kinds of pictures apart and how to draw; augmentation follows its certainty."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.augmentation import AdaptiveAugmentation, AugmentationConfig
from agile3d_cli.models.critic import Critic, CriticConfig, certainty, critic_loss, drawing_loss
from agile3d_cli.testing import paint_faces

SMALL = CriticConfig(width=8)


def faces(count: int, blue: bool, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    skin = torch.tensor([-0.4, 0.1, 0.7] if blue else [0.6, 0.2, 0.0]) + 0.2 * torch.rand(count, 3, generator=rng)
    return paint_faces((torch.rand(count, 2, generator=rng) - 0.5) * 0.1, skin)


def teach(critic: Critic, steps: int = 12) -> None:
    real, drawn = faces(4, True), faces(4, False)
    critic.settle(real)
    learner = torch.optim.Adam([p for p in critic.parameters() if p.requires_grad], lr=5e-3, betas=(0.0, 0.99))
    for _ in range(steps):
        learner.zero_grad()
        critic_loss(critic(real), critic(drawn)).backward()
        learner.step()
    critic.eval()


def test_it_judges_patches_at_every_scale() -> None:
    logits = Critic(SMALL)(faces(2, True))
    assert [tuple(part.shape) for part in logits] == [(2, 256), (2, 64), (2, 16), (2, 4)]


def test_the_same_seed_gives_the_same_critic_and_leaves_chance_alone() -> None:
    torch.manual_seed(5)
    one, after = Critic(SMALL, seed=3), torch.rand(1)
    torch.manual_seed(6)
    two = Critic(SMALL, seed=3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.mixers[0].weight, Critic(SMALL, seed=4).mixers[0].weight)


def test_settled_features_are_standard() -> None:
    critic, images = Critic(SMALL), faces(3, True)
    critic.settle(images)
    for k, feature in enumerate(critic._taken(images)):
        scaled = (feature - critic.get_buffer(f"mean{k}")) / critic.get_buffer(f"spread{k}")
        assert float(scaled.mean((0, 2, 3)).abs().max()) < 1e-4
        # The least spread keeps channels that say nothing from being blown up.
        assert bool((scaled.std((0, 2, 3)) <= 1).all()) and float(scaled.std((0, 2, 3)).median()) > 0.9


@torch.no_grad()
def judged(critic: Critic, images: Tensor) -> list[Tensor]:
    return list(critic(images))


def test_it_tells_unseen_pictures_of_two_kinds_apart() -> None:
    critic = Critic(SMALL)
    teach(critic)
    real, drawn = judged(critic, faces(4, True, seed=9)), judged(critic, faces(4, False, seed=9))
    assert float(drawing_loss(real)) < float(drawing_loss(drawn)) - 0.5
    assert certainty(real) > 0.5 > certainty(drawn)


def test_only_heads_learn_and_pictures_follow_it() -> None:
    critic = Critic(SMALL)
    kept = {name: value.clone() for name, value in critic.state_dict().items() if name.startswith(("mix", "join"))}
    teach(critic)
    assert all(torch.equal(value, critic.state_dict()[name]) for name, value in kept.items())
    start = faces(2, False)
    shift = torch.zeros(1, 3, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(drawing_loss(critic(start + shift)), shift)
    # The exemplars are bluer, so blue is what the pictures lack most.
    assert int(gradient.flatten().argmin()) == 2 and float(gradient[0, 2, 0, 0]) < 0


def test_losses_are_those_of_the_hinge() -> None:
    real, drawn = [torch.tensor([[2.0, 0.0]])], [torch.tensor([[-3.0, 1.0]])]
    assert float(critic_loss(real, drawn)) == pytest.approx(0.5 + 1.0)
    assert float(drawing_loss(drawn)) == pytest.approx(1.0)
    assert certainty([torch.tensor([[1.0, -2.0, 3.0, 4.0]]), torch.tensor([[1.0]])]) == pytest.approx(0.75)


def test_wrong_sizes_of_a_critic_are_told() -> None:
    for wrong in ((4,), (1, 0), ()):
        with pytest.raises(ConfigError, match="scales"):
            CriticConfig(scales=wrong)


def test_at_no_probability_pictures_are_only_mirrored() -> None:
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = AdaptiveAugmentation(seed=1)(images)
    same = (found - images).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (found - images.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert bool((same ^ mirrored).all()) and bool(same.any()) and bool(mirrored.any())


def test_disturbances_are_repeated_by_their_seed_and_differ_between_pictures() -> None:
    config = AugmentationConfig(start=0.8)
    images = faces(1, True).expand(4, -1, -1, -1)
    one, two = (AdaptiveAugmentation(config, seed=2)(images) for _ in range(2))
    assert torch.equal(one, two)
    assert float(torch.pdist(one.flatten(1)).min()) > 0


def test_gradients_pass_through_the_disturbances() -> None:
    images = faces(2, True).requires_grad_(True)
    AdaptiveAugmentation(AugmentationConfig(start=0.5), seed=0)(images).square().sum().backward()
    assert images.grad is not None and bool(images.grad.isfinite().all()) and float(images.grad.abs().sum()) > 0


def test_small_moves_stay_small() -> None:
    """A mark in the middle stays within four spreads of it."""
    config = AugmentationConfig(start=0.8, light=0, contrast=0, saturation=0, cut=0)
    mark = F.pad(torch.ones(64, 1, 4, 4), (30, 30, 30, 30)).expand(-1, 3, -1, -1)
    weight = AdaptiveAugmentation(config, seed=3)(mark).mean(1)
    line = (torch.arange(64) + 0.5) / 64 - 0.5
    across = (weight * line).sum((1, 2)) / weight.sum((1, 2))
    assert 0.02 < float(across.std()) < config.shift and float(across.abs().max()) < 4 * config.shift


def test_probability_follows_the_certainty_within_its_bounds() -> None:
    augmentation = AdaptiveAugmentation(AugmentationConfig(speed=0.3, most=0.8))
    for _ in range(4):
        augmentation.follow(0.9)
    assert augmentation.probability == pytest.approx(0.8)
    augmentation.follow(0.1)
    assert augmentation.probability == pytest.approx(0.5)
    for _ in range(3):
        augmentation.follow(-1.0)
    assert augmentation.probability == 0.0
