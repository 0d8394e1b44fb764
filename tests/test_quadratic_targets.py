"""Steps that mini-batch quadratics need to a target, against walking to it."""

import gc
import itertools
import math

import mpmath
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import (
    random_model,
    risks,
    seeds,
)
from scipy.optimize import brentq

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.outcome import Outcome
from sgdynamics.theory.quadratic import (
    stationary,
    steps_to_target,
    targets,
)


def crossings_of(curve, target):
    below = curve <= target
    return (np.flatnonzero(below[1:] != below[:-1]) + 1).tolist()


def found_crossings(found):
    return [step for step in found.crossing_step.values.ravel().tolist() if step >= 0]


@given(seeds, st.floats(0.05, 2.05), st.floats(0.001, 0.999))
def test_every_crossing_of_a_target_is_found(seed, learning_rate, height):
    """By enumeration of the first 2000 steps, learning rates beyond the edge included."""
    _, curvature, variance, start = random_model(seed)
    curve = risks(curvature, variance, start, learning_rate, 2000)
    target = curve.min() + (min(curve.max(), 10.0) - curve.min()) * height**2
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), learning_rate, target)
    steps = found_crossings(found)
    assert [step for step in steps if step <= 2000] == crossings_of(curve, target)
    assert found.crossing_count == len(steps)
    first = int(np.argmax(curve <= target)) if (curve <= target).any() else -1
    if first >= 0 or not steps:
        assert found.first_step == first
    assert found.outcome == (Outcome.REACHED if found.first_step >= 0 else Outcome.NEVER_REACHED)


def test_a_risk_that_dips_and_returns_has_two_crossings():
    """A steep displaced mode falls while a flat noisy one slowly heats up."""
    curvature, variance, start = np.array([1.0, 0.001]), np.array([0.01, 4e7]), np.array([3.0, 0.0])
    curve = risks(curvature, variance, start, 0.2, 3000)
    for target in (0.5, 0.2, 0.1):
        found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 0.2, target)
        assert found_crossings(found) == crossings_of(curve, target)
        assert found.crossing_count == 2
    assert steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 0.2, 0.01).first_step == -1


def test_a_risk_that_falls_rises_and_falls_has_three_crossings():
    curvature, variance = np.array([1.0, 0.05, 0.0005]), np.array([0.0, 3200.0, 0.0])
    start = np.array([3.0, 0.0, 60.0])
    curve = risks(curvature, variance, start, 0.5, 12000)
    target = 1.4
    expected_crossings = crossings_of(curve, target)
    assert len(expected_crossings) == 3
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 0.5, target)
    assert found_crossings(found) == expected_crossings


def test_a_target_between_plateau_and_nothing_is_never_reached():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0, displacement=1.0)
    plateau = stationary(model, 0.5).excess_risk.item()
    found = steps_to_target(model, 0.5, [plateau * (1 + 1e-6), plateau * (1 - 1e-6)])
    curve = risks(np.array([1.0, 0.1]), 1.0, np.ones(2), 0.5, 1000)
    assert found.first_step.values.tolist() == [int(np.argmax(curve <= plateau * (1 + 1e-6))), -1]
    assert found.outcome.values.tolist() == [Outcome.REACHED, Outcome.NEVER_REACHED]
    assert found.crossing_count.values.tolist() == [1, 0]
    assert np.isnan(found.real_step[1])


def test_a_start_below_the_target_needs_no_step():
    quiet, noisy = MiniBatchQuadratic(1.0, 0.1, displacement=0.1), MiniBatchQuadratic(1.0, 10.0, displacement=0.1)
    assert steps_to_target(quiet, 0.5, 1.0).first_step == 0
    assert steps_to_target(quiet, 0.5, 1.0).crossing_count == 0
    leaving = steps_to_target(noisy, 0.5, 1.0)
    assert leaving.first_step == 0
    assert found_crossings(leaving) == crossings_of(risks(np.ones(1), 10.0, np.array([0.1]), 0.5, 100), 1.0)


def test_beyond_the_edge_a_dip_is_still_found():
    curvature, variance, start = np.array([1.0, 0.3]), np.array([1e-6, 0.0]), np.array([0.0, 2.0])
    curve = risks(curvature, variance, start, 2.1, 300)
    assert len(crossings_of(curve, 1e-2)) == 2
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 2.1, 1e-2)
    assert found_crossings(found) == crossings_of(curve, 1e-2)
    hopeless = steps_to_target(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), 2.5, 0.1)
    assert hopeless.outcome == Outcome.NEVER_REACHED


def test_a_million_million_steps_are_found_without_walking():
    model = MiniBatchQuadratic(1.0, 0.0, displacement=1.0)
    found = steps_to_target(model, 1e-12, 0.5 * math.exp(-2))
    assert abs(found.first_step.item() - 1e12) <= 2
    assert math.isclose(found.real_step.item(), -1 / math.log1p(-1e-12), rel_tol=1e-9)


@given(seeds, st.floats(0.05, 1.95), st.integers(1, 60))
def test_a_target_that_is_hit_exactly_is_reached(seed, learning_rate, step):
    """The risk at a step, as computed here: one rounding this way or that."""
    _, curvature, variance, start = random_model(seed)
    *curve, hit, following = risks(curvature, variance, start, learning_rate, step + 1)
    model = MiniBatchQuadratic(curvature, variance, displacement=start)
    for target in (np.nextafter(hit, 0), hit, np.nextafter(hit, np.inf)):
        if min(curve) > target * (1 + 1e-9) and 0 < following < target * (1 - 1e-9):
            found = steps_to_target(model, learning_rate, target)
            assert abs(found.real_step - step) < 1e-6
            assert found.first_step in (step, step + 1)


def real_step(curvature, variance, start, learning_rate, batch_size, target, bracket):
    """The real k at which the risk, with powers of real order, meets the target."""
    gain = learning_rate * curvature
    plateau = variance / batch_size * gain / (2 - gain)

    def gap(k):
        left = np.abs(1 - gain) ** (2 * k)
        return 0.5 * curvature @ (start**2 * left + plateau * (1 - left)) - target

    return brentq(gap, bracket - 1.5, bracket + 1.5, xtol=1e-13, rtol=1e-14)


@pytest.mark.parametrize("learning_rate", [0.1, 0.7, 1.5])
@pytest.mark.parametrize("target", [0.4, 0.2])
def test_the_derivatives_are_those_of_the_real_step(learning_rate, target):
    curvature, variance, start = np.array([0.3, 0.07, 0.9]), np.array([0.3, 0.1, 0.2]), np.array([2.0, 2.0, 1.0])
    model = MiniBatchQuadratic(curvature, variance, displacement=start, batch_size=3)
    found = steps_to_target(model, learning_rate, target)
    bracket = found.real_step.item()

    def at(rate=learning_rate, batch_size=3.0, goal=target):
        return real_step(curvature, variance, start, rate, batch_size, goal, bracket)

    def slope(name, value, step=1e-5):
        return (at(**{name: value * (1 + step)}) - at(**{name: value * (1 - step)})) / (2 * step * value)

    assert math.isclose(bracket, at(), rel_tol=1e-10)
    assert found.first_step == math.ceil(bracket)
    assert math.isclose(found.real_step_per_learning_rate, slope("rate", learning_rate), rel_tol=1e-5)
    assert math.isclose(found.real_step_per_batch_size, slope("batch_size", 3.0), rel_tol=1e-5)
    assert math.isclose(found.real_step_per_target, slope("goal", target), rel_tol=1e-5)


def test_where_one_step_does_it_all_there_is_no_derivative():
    found = steps_to_target(MiniBatchQuadratic(1.0, 0.1, displacement=1.0), 1.0, 0.2)
    assert found.first_step == 1
    assert np.isnan(found.real_step_per_learning_rate)


def test_steps_to_target_sweep_over_named_axes():
    model = MiniBatchQuadratic([1.0, 0.1], 0.1, displacement=1.0, batch_size=xr.DataArray([1.0, 4.0], dims="batch"))
    found = steps_to_target(model, np.array([0.1, 0.5]), np.array([0.3, 0.1, 0.01]))
    assert found.first_step.sizes == {"learning_rate": 2, "target": 3, "batch": 2}
    for rate, target, batch in itertools.product([0.1, 0.5], [0.3, 0.1, 0.01], range(2)):
        curve = risks(np.array([1.0, 0.1]), 0.1 / [1, 4][batch], np.ones(2), rate, 500)
        first = int(np.argmax(curve <= target)) if (curve <= target).any() else -1
        assert found.first_step.sel(learning_rate=rate, target=target).isel(batch=batch) == first


@pytest.mark.parametrize("rate", [1 + 2.3e-10, 1 - 2.3e-10, 1 + 1e-8, 1 - 1e-12, 1.0])
@pytest.mark.parametrize("target", [1e-12, 1e-21, 1e-30, 1e-60])
def test_steps_are_counted_where_a_step_leaves_next_to_nothing(rate, target):
    """One direction without noise is at (1 - x)^{2k}/2."""
    left, expected = 0.5, 0
    while left > target:
        left, expected = left * (1 - rate) ** 2, expected + 1
    model = MiniBatchQuadratic([1.0], 0.0, displacement=[1.0])
    assert steps_to_target(model, rate, target)["first_step"].item() == expected


@pytest.mark.parametrize("gain", [2.0, 2.5, 30.0])
@pytest.mark.parametrize(("slow", "target"), [(1e-6, 1e-10), (0.3, 0.1)])  # millions of steps, and one
def test_a_mode_that_nothing_moves_counts_for_nothing(gain, slow, target):
    one = {"curvature": [slow], "center_variance": 0.0, "displacement": [1.0]}
    both = {"curvature": [gain, slow], "center_variance": [0.0, 0.0], "displacement": [0.0, 1.0]}
    alone, beside = (steps_to_target(MiniBatchQuadratic(**model), 1.0, target) for model in (one, both))
    xr.testing.assert_allclose(beside, alone, rtol=1e-12)


def risk_in_many_digits(rate, start, step):
    """A curvature of 1 and a center variance of 1, with 60 digits."""
    left = (1 - mpmath.mpf(rate)) ** 2
    spread = step if left == 1 else (1 - left**step) / (1 - left)
    return (mpmath.mpf(start) ** 2 * left**step + mpmath.mpf(rate) ** 2 * spread) / 2


@given(st.floats(-15.5, -1), st.sampled_from([-1, 0, 1]), st.floats(0, 3), st.integers(2, 3000))
def test_close_to_the_edge_a_step_is_found_to_its_digits(distance, side, start, step):
    """There the plateau is larger than any target by as much as the gain is close to 2."""
    rate = 2 + side * 10**distance
    with mpmath.workdps(60):
        before, after = (risk_in_many_digits(rate, start, k) for k in (step - 1, step))
        target = float(before + (after - before) / 1000)
        if before == after or abs(after / before - 1) < 1e-9:
            return
        found = steps_to_target(MiniBatchQuadratic(1.0, 1.0, displacement=start), rate, target)
        assert found_crossings(found) == [step]
        k = found.real_step.item()
        assert abs(risk_in_many_digits(rate, start, k) / target - 1) < 1e-11
        per_step = mpmath.diff(lambda k: risk_in_many_digits(rate, start, k), k)
        per_rate = mpmath.diff(lambda rate: risk_in_many_digits(rate, start, k), rate) if side else None
    if side:
        scale = abs(float(target / per_step)) / k
        assert math.isclose(found.real_step_per_learning_rate, -per_rate / per_step, rel_tol=1e-11 * max(1, scale))


def test_on_the_edge_without_noise_the_risk_stays_where_it_is():
    model = MiniBatchQuadratic([1.0, 0.5], 0.0, displacement=[1.0, 1.0])
    assert steps_to_target(model, 2.0, [0.3, 0.5, 0.6, 0.8]).first_step.values.tolist() == [-1, 1, 1, 0]
    assert steps_to_target(model, 2.0, 0.3).crossing_count == 0


def test_a_search_keeps_nothing():
    gc.freeze()  # what was there before is not looked at: thousands of tests are objects, too
    try:
        steps_to_target(MiniBatchQuadratic(1.0, 0.1, displacement=1.0), 0.3, [0.05, 0.1, 0.2])
        gc.collect()
        assert not [thing for thing in gc.get_objects() if type(thing) is targets._Curve]
    finally:
        gc.unfreeze()
