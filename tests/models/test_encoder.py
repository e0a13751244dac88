"""Guesses: how experts are combined, what they look at, and that disturbed training pictures stay what they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agile3d_cli.models.backbone import Mapping
from agile3d_cli.models.config import GeneratorConfig, TraitsConfig
from agile3d_cli.models.encoder import EVIDENCE, Encoder, Guess, agreed, combined, evidence, shipped_encoder
from agile3d_cli.prior.encode import HELD_OUT, Seen, disturb, explained, fit_expert


def test_combining_is_bayes_rule_for_normal_evidence() -> None:
    # Two measurements of a standard normal value, with noise of deviation 0.5 and 2: the posterior is known.
    value, noise = torch.tensor([[0.8, -1.2]]), (0.5, 2.0)
    seen = [value + 0.3, value - 0.1]
    pairs = list(zip(seen, noise, strict=True))
    alone = [Guess(s / (1 + n * n), torch.full_like(s, (1 + n**-2) ** -0.5)) for s, n in pairs]
    together = combined(alone)
    precision = 1 + sum(n**-2 for n in noise)
    expected = sum(s * n**-2 for s, n in pairs) / precision
    torch.testing.assert_close(together.mean, expected)
    torch.testing.assert_close(together.deviation, torch.full_like(value, precision**-0.5))
    torch.testing.assert_close(combined(alone[:1]).mean, alone[0].mean)


def test_who_knows_nothing_changes_nothing() -> None:
    sure, ignorant = Guess(torch.tensor([[0.7]]), torch.tensor([[0.2]])), Guess(torch.zeros(1, 1), torch.ones(1, 1))
    torch.testing.assert_close(combined([sure, ignorant]).mean, sure.mean)
    torch.testing.assert_close(combined([sure, ignorant]).deviation, sure.deviation)


@pytest.fixture
def mapping() -> Mapping:
    """Six coordinates, the first two of the shape, and three traits that are curved functions of all of them."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        z_dim=6, w_dim=8, label_dim=0, normalize_z=False, plane_size=16, traits=TraitsConfig(3, 16)
    )
    return Mapping(config).requires_grad_(False)


def test_the_latent_agrees_with_the_traits_where_they_are_known(mapping: Mapping) -> None:
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    traits = mapping.traits(z)
    for sure in (0.03, 1e3):
        mean = torch.cat([torch.zeros(2, 4), traits], 1)
        deviation = torch.cat([torch.ones(2, 4), torch.full((2, 3), sure)], 1)
        found = agreed(Guess(mean, deviation), z[:, :2], mapping)
        miss = (mapping.traits(torch.cat([z[:, :2], found.mean], 1)) - traits).abs()
        if sure < 1:
            assert float(miss.max()) < 0.05 and float(found.mean.abs().max()) > 0.1
        else:
            assert float(found.mean.abs().max()) < 1e-3
        assert torch.equal(found.deviation, torch.ones(2, 4)) and not found.mean.requires_grad


def test_the_background_is_not_looked_at() -> None:
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 160, 160, generator=rng) * 2 - 1
    matte = torch.zeros(1, 1, 160, 160)
    matte[..., 40:120, 40:120] = 1
    other = torch.where(matte > 0, picture, -picture)
    seen = evidence(picture, matte)
    assert seen.shape == (1, EVIDENCE) and torch.equal(seen, evidence(other, matte))
    assert not torch.equal(seen, evidence(-picture, matte))


def test_the_shipped_encoder_reads_pictures_of_any_size() -> None:
    encoder = shipped_encoder()
    assert isinstance(encoder, Encoder) and not any(p.requires_grad for p in encoder.parameters())
    for size in (96, 256):
        shown = torch.zeros(2, 3, size, size), torch.ones(2, 1, size, size)
        guess = encoder(crop=shown, wide=shown)
        assert guess.mean.shape == guess.deviation.shape and torch.isfinite(guess.mean).all()
        assert float(guess.deviation.min()) > 0 and float(guess.deviation.max()) <= 1
        torch.testing.assert_close(guess.mean[0], guess.mean[1])


def test_disturbed_pictures_keep_person_and_background_apart() -> None:
    picture = np.zeros((96, 96, 4), np.uint8)
    picture[24:72, 24:72] = (200, 120, 40, 255)
    for seed in range(20):
        shown = disturb(picture, np.random.default_rng(seed))
        assert shown.shape == (96, 96, 4) and shown.min() >= 0 and shown.max() <= 1
        assert shown[40:56, 40:56, 3].min() == 1 and shown[:12, :, 3].max() == 0


def test_a_linear_expert_is_found_and_knows_how_sure_it_is() -> None:
    rng = torch.Generator().manual_seed(0)
    subjects, views = 900, 2
    z = torch.randn(subjects, 3, generator=rng)
    owner = torch.arange(subjects).repeat_interleave(views)
    rows = torch.randn(len(owner), EVIDENCE, generator=rng)
    # The first coordinate shows in forty numbers, the second faintly, the third nowhere.
    rows[:, :40] += z[owner, :1]
    rows[:, 40:80] += 0.1 * z[owner, 1:2]
    count = torch.full((subjects,), views)
    expert = fit_expert(Seen(rows, owner, count.cumsum(0) - count, count), z)
    last = owner >= subjects - HELD_OUT
    guess = expert(rows[last])
    error = (guess.mean - z[owner[last]]).square().mean(0).sqrt()
    assert error[0] < 0.6 and guess.deviation[0, 0] < 0.6 and guess.deviation[0, 2] > 0.9
    assert float(guess.mean[:, 2].abs().max()) < 0.2
    assert float(explained(guess, z[owner[last]])[0]) > 0.6
