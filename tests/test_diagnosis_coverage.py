"""How often intervals hold the truth, and verdicts are right, over many runs with their own draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from sgdynamics.outcome import Outcome
from sgdynamics.theory.diagnosis import (
    diagnose,
    distance_plateau,
    fit_loss_curve,
    gradient_cosines,
    power_law_relaxation,
)

CURVATURE = np.repeat(np.geomspace(0.02, 1, 5), 8)
RATE = 0.4


def gradients(seed, steps, displacement):
    random = np.random.default_rng([2024, seed])
    gain = RATE * CURVATURE
    error = displacement + random.normal(size=CURVATURE.size) * np.sqrt(gain / (2 - gain) / CURVATURE)
    rows = []
    for _ in range(steps):
        rows.append(CURVATURE * (error - random.normal(size=(2, CURVATURE.size)) / np.sqrt(CURVATURE)))
        error = error - RATE * rows[-1][0]
    return np.moveaxis(np.array(rows), 1, 0)


@pytest.mark.parametrize("runs", [25, pytest.param(150, marks=pytest.mark.slow)])
def test_the_vertex_is_held_as_often_as_its_interval_says_and_the_verdict_is_right(runs):
    held, right = 0, 0
    for seed in range(runs):
        found = gradient_cosines(*gradients(seed, 600, 0.0))
        held += float(found.lower[0]) <= 0.5 <= float(found.upper[0])
        right += Outcome(int(found.outcome)) is Outcome.NOISE_LIMITED
    assert abs(held / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)
    assert right / runs > 0.9


def test_descent_is_seen_and_never_taken_for_balance():
    outcomes = [
        Outcome(int(gradient_cosines(*gradients(seed, 150, np.where(CURVATURE < 0.1, 60.0, 0.0))).outcome))
        for seed in range(20)
    ]
    assert Outcome.NOISE_LIMITED not in outcomes
    assert outcomes.count(Outcome.STILL_DESCENDING) > 17


@pytest.mark.parametrize(
    ("steps", "memory"),
    [(100, 0.0), (100, 0.99), *(pytest.param(1000, memory, marks=pytest.mark.slow) for memory in (0.9, 0.999))],
)
def test_the_change_of_a_loss_that_remembers_itself_is_held_or_refused(steps, memory):
    """The loss is stationary: its expected change is 0, however far it wanders."""
    runs, held, identified, verdicts = 40, 0, 0, []
    for seed in range(runs):
        random = np.random.default_rng([17, seed])
        noise = np.sqrt(1 - memory**2) * random.normal(size=steps)
        start = memory * random.normal()
        loss = 2 + 0.05 * lfilter([1], [1, -memory], noise, zi=[start])[0]
        found = diagnose({"loss": loss})
        change = found.sel(quantity="loss_change")
        held += float(change.lower) <= 0 <= float(change.upper)
        verdicts.append(Outcome(int(found.outcome)))
        identified += int(change.identifiable)
    assert held / runs > 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    assert verdicts.count(Outcome.UNDECIDED) / runs > 0.85
    assert identified / runs < 0.15 if memory >= 0.99 else identified / runs > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.5, 0.9, 0.99])
def test_the_parts_of_a_loss_curve_are_held_where_errors_remember_each_other(memory):
    runs, steps, truth = 40, np.arange(1000.0), np.array([0.1, 0.9, 0.8, 0.2])
    clean = truth[0] + truth[1] * power_law_relaxation(truth[3] * steps, truth[2])
    held = np.zeros(4)
    for seed in range(runs):
        random = np.random.default_rng([19, seed])
        noise = np.sqrt(1 - memory**2) * random.normal(size=steps.size)
        errors = lfilter([1], [1, -memory], noise, zi=[memory * random.normal()])[0]
        found = fit_loss_curve(steps, clean + 0.01 * errors)
        held += (found.lower.values <= truth) & (truth <= found.upper.values)
    assert (held / runs > 0.95 - 3.5 * np.sqrt(0.95 * 0.05 / runs)).all()


@pytest.mark.slow
def test_plateau_and_gain_are_held_as_often_as_their_intervals_say():
    runs, size, gain = 250, 40, 0.2
    truth = np.array([2 * size * gain / (2 - gain), gain])
    held = np.zeros(2)
    for seed in range(runs):
        random = np.random.default_rng([7, seed])
        path = [np.sqrt(gain / (2 - gain)) * random.normal(size=size)]
        for _ in range(800):
            path.append((1 - gain) * path[-1] + gain * random.normal(size=size))
        found = distance_plateau(np.array(path))
        held += (found.lower.values <= truth) & (truth <= found.upper.values)
    assert (np.abs(held / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)).all()


@pytest.mark.slow
def test_the_parts_of_a_loss_curve_are_held_as_often_as_their_intervals_say():
    runs, steps = 60, np.arange(1000.0)
    truth = np.array([0.1, 0.9, 0.8, 0.2])
    clean = truth[0] + truth[1] * power_law_relaxation(truth[3] * steps, truth[2])
    held = np.zeros(4)
    for seed in range(runs):
        noise = np.random.default_rng([11, seed]).normal(size=steps.size)
        found = fit_loss_curve(steps, clean + 0.01 * noise)
        held += (found.lower.values <= truth) & (truth <= found.upper.values)
    assert (np.abs(held / runs - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)).all()
