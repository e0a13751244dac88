"""A long transfer ends where people come no nearer to the exemplars, and with rates that have fallen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from agile3d_cli.style import stopping
from agile3d_cli.style.stopping import LATELY, LOOKS, PEOPLE, Watch
from agile3d_cli.style.together import Together

STEPS = 200
EVERY = STEPS // LOOKS


@dataclass
class People:
    """Stands for the guidance: people whose features are so far from the exemplars' at each look."""

    away: list[float]
    pairs: range = range(30)
    asked: list[int] = field(default_factory=list)

    def picture(self, number: int) -> Tensor:
        self.asked.append(number)
        own = torch.randn(8, generator=torch.Generator().manual_seed(number))
        return own + self.away[(len(self.asked) - 1) // PEOPLE]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are their own features."""
    monkeypatch.setattr(stopping, "head_features", lambda pictures: pictures)


def watched(away: list[float]) -> tuple[Watch, People]:
    """A transfer's watch at its end, or where it stopped."""
    people = People(away)
    watch = Watch(STEPS, torch.randn(20, 8, generator=torch.Generator().manual_seed(99)))
    for step in range(1, STEPS + 1):
        watch = watch.look(step, people, Together())  # type: ignore[arg-type]
        if watch.stopped is not None:
            break
    return watch, people


def test_it_goes_on_while_people_come_nearer() -> None:
    watch, people = watched([4.0 - 0.15 * k for k in range(LOOKS)])
    assert watch.stopped is None and watch.end == STEPS
    assert people.asked == list(range(PEOPLE)) * LOOKS and watch.looks is not None and len(watch.looks) == LOOKS


def test_it_stops_when_they_do_not_any_more() -> None:
    watch, _ = watched([3.0, 2.0, 1.5, 1.2] + [1.0] * LOOKS)
    # The fifth look is the first of those that are alike; LATELY looks later nothing was gained since.
    assert watch.stopped == (5 + LATELY) * EVERY and watch.end == watch.stopped + STEPS // 10
    assert watch.look(watch.stopped + EVERY, None, Together()) is watch  # type: ignore[arg-type]


def test_it_does_not_stop_where_nothing_would_be_saved() -> None:
    watch, _ = watched([4.0 - 0.15 * k for k in range(LOOKS - 3)] + [2.0] * 3)
    assert watch.stopped is None


def test_rates_rise_and_fall_to_their_end_in_lines() -> None:
    plan = Watch(STEPS)
    assert plan.pace(0) == 1 / 20 and plan.pace(STEPS) == pytest.approx(0.05)
    assert plan.pace(100) == pytest.approx(1 - 0.95 / 2)
    early = replace(plan, stopped=100)
    assert early.pace(100) == plan.pace(100) and early.pace(early.end) == pytest.approx(0.05)
    assert early.pace(110) == pytest.approx((early.pace(100) + 0.05) / 2)


def test_without_exemplars_nobody_is_looked_at() -> None:
    assert Watch(STEPS).look(EVERY, None, Together()).looks is None  # type: ignore[arg-type]


def test_a_saved_watch_goes_on_as_it_was() -> None:
    watch, _ = watched([3.0, 2.0, 1.5, 1.2] + [1.0] * LOOKS)
    begun = Watch(STEPS, watch.wanted)
    again = begun.resumed(watch.tensors())
    assert (again.stopped, again.steps) == (watch.stopped, STEPS) and again.wanted is watch.wanted
    assert again.looks is not None and watch.looks is not None and torch.equal(again.looks, watch.looks)
    assert begun.resumed(begun.tensors()) == begun
