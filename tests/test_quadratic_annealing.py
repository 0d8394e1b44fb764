"""Large rates first, on two linear patterns: regressions run example by example, where it helps and where it hurts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.theory.quadratic import learning_order_rate, moments, risk_odds_factor, risk_transfer

curvatures = st.floats(-3, 1).map(lambda power: 10**power)

SHARP, FLAT = 1.0, 0.02
LARGE, SMALL = 1.98, 0.2  # the order turns around at 1.96


@given(st.floats(0.01, 1.99), curvatures, curvatures)
def test_directions_shrink_alike_at_the_rate_where_their_order_turns_around(share, sharp, flat):
    rate = learning_order_rate(sharp, flat)
    assert abs(1 - rate * sharp) == pytest.approx(abs(1 - rate * flat), rel=1e-9, abs=1e-12)
    sharp, flat = max(sharp, flat), min(sharp, flat)
    if sharp > 1.01 * flat and abs(share - 1) > 0.01:
        assert (risk_odds_factor(share * rate, 1, sharp, flat) > 1) == (share < 1)


@given(st.floats(0.01, 1.9), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_odds_of_a_run_written_out(rate, steps, seed):
    odds = np.random.default_rng(seed).uniform(0.1, 10)
    sharp, flat = 1.0, math.sqrt(odds / 0.3)
    for _ in range(steps):
        sharp, flat = sharp - rate * sharp, flat - rate * 0.3 * flat
    if sharp**2 > 1e-250:
        assert 0.3 * flat**2 / sharp**2 == pytest.approx(odds * risk_odds_factor(rate, steps, 1.0, 0.3), rel=1e-6)
    assert risk_odds_factor(1.0, 1, 1.0, 0.3) == math.inf  # learned in one step


def linear_patterns(train_sizes, test_sizes, examples=400, seed=3):
    """Two linear patterns in one example: features of the training and the test set, and labels by a planted rule."""
    rng = np.random.default_rng(seed)
    base = np.linalg.qr(rng.normal(size=(examples, 2)))[0] * math.sqrt(examples)  # patterns do not overlap
    return base * np.sqrt(train_sizes), base[::-1] * np.sqrt(test_sizes)


def trained(features, test, schedule, level):
    """Gradient descent on the square loss, until the training loss has come down to a level: what the test loss is."""
    rule = np.array([1.0, 1.0])
    labels, weights = features @ rule, np.zeros(2)
    losses = []
    for rate in schedule:
        residuals = features @ weights - labels
        losses.append((0.5 * np.mean(residuals**2), 0.5 * np.mean((test @ (weights - rule)) ** 2)))
        if losses[-1][0] <= level:
            break
        weights = weights - rate * features.T @ residuals / len(labels)
    return losses[-1], len(losses) - 1


ANNEALED = np.concatenate([constant(LARGE, 250), constant(SMALL, 4000)])
LEVEL = 1e-5
SETS = {
    "flat pattern matters on test": ([0.1, 1.0], -1),
    "test like training": ([SHARP, FLAT], 0),
    "sharp pattern matters on test": ([10.0, 1e-3], 1),
}


@pytest.mark.parametrize("name", SETS)
def test_two_runs_to_one_training_loss(name):
    test_sizes, sign = SETS[name]
    features, test = linear_patterns([SHARP, FLAT], test_sizes)
    ends = {}
    for label, schedule in (("small", constant(SMALL, 4000)), ("annealed", ANNEALED)):
        (training, held_out), steps = trained(features, test, schedule, LEVEL)
        assert training <= LEVEL
        odds = FLAT / SHARP
        for rate in (LARGE, SMALL):
            odds = odds * risk_odds_factor(rate, int(np.sum(schedule[:steps] == rate)), SHARP, FLAT)
        predicted = risk_transfer(odds, test_sizes[0] / SHARP, test_sizes[1] / FLAT)
        assert held_out / training == pytest.approx(predicted, rel=1e-6)
        ends[label] = held_out / training
    if sign:
        assert sign * (ends["annealed"] - ends["small"]) > 0.5 * max(ends.values())
    else:  # in proportion: the order of learning leaves no trace
        assert ends["annealed"] == pytest.approx(ends["small"], rel=1e-9)


def test_a_rate_that_is_larger_but_not_beyond_the_turn_leaves_more_in_the_flat_direction():
    # ten steps at 0.5 and 135 at 0.05 take the sharp direction as far down
    assert pytest.approx(0.95**135, rel=0.01) == 0.5**10
    larger, small = (risk_odds_factor(rate, steps, SHARP, FLAT) for rate, steps in ((0.5, 10), (0.05, 135)))
    assert larger > 1.05 * small


def test_with_noise_the_large_rate_holds_the_sharp_direction_and_annealing_lets_it_go():
    # expected risks of SGD: equal steps, equal small rate at the end
    model = MiniBatchQuadratic([SHARP, FLAT], 1e-6, displacement=1.0)
    test = np.array([0.1, 1.0])
    held_out = {}
    steps = 500
    for label, schedule in (
        ("small", constant(SMALL, steps)),
        ("annealed", np.concatenate([constant(1.9, steps - 100), constant(SMALL, 100)])),
        ("large", constant(1.9, steps)),
    ):
        law = moments(model, schedule)
        held_out[label] = 0.5 * np.sum(test * (law.variance + law.mean_error**2).values)
    assert held_out["annealed"] < 1e-2 * held_out["small"]
    assert held_out["annealed"] < 0.5 * held_out["large"]


@given(st.floats(0, 1e6), st.floats(0, 10), st.floats(0, 10))
def test_transfer_is_a_mean_of_the_two_ratios(odds, sharp, flat):
    made = risk_transfer(odds, sharp, flat)
    assert min(sharp, flat) * (1 - 1e-12) <= made <= max(sharp, flat) * (1 + 1e-12)
    assert risk_transfer(0.0, sharp, flat) == sharp
