"""Schedules of mini-batch quadratics: greedy and optimal ones."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import random_model, seeds
from scipy.optimize import minimize_scalar

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, swa
from sgdynamics.theory.quadratic import (
    greedy_schedule,
    moments,
    optimal_schedule,
)


def end_risk(model, rates):
    second = model.displacement**2
    for rate in rates:
        second = (1 - rate * model.curvature) ** 2 * second + (
            rate * model.curvature
        ) ** 2 * model.batch_center_variance
    return 0.5 * np.sum(model.multiplicity * model.curvature * second)


@given(st.floats(-3, 3).map(lambda p: 10**p), st.floats(-3, 3).map(lambda p: 10**p), st.integers(1, 60))
def test_in_one_direction_the_greedy_rate_is_the_kalman_gain(curvature, variance, steps):
    """Precision adds: 1/v_t = 1/v_0 + t B/C, and the gain is the share of the new sample."""
    model = MiniBatchQuadratic(curvature, variance, displacement=2.0, batch_size=5)
    t = np.arange(1, steps + 1)
    kalman = 1 / (5 / variance * (variance / 5) * t + variance / 5 / 4)  # (1/C) / (1/v_0 + t/C)
    greedy = greedy_schedule(model, steps)
    np.testing.assert_allclose(greedy * curvature, kalman, rtol=1e-11)
    np.testing.assert_allclose(optimal_schedule(model, steps), greedy, rtol=1e-6)
    made = moments(model, greedy, record=t)
    second = made.variance[:, 0] + made.mean_error[:, 0] ** 2
    np.testing.assert_allclose(1 / second, 1 / 4 + t * 5 / variance, rtol=1e-10)


@given(seeds, st.integers(1, 30))
def test_no_single_step_beats_the_greedy_rate(seed, steps):
    generator, curvature, variance, start = random_model(seed)
    start = np.where(start == 0, 1.0, start)
    multiplicity = generator.uniform(0.5, 5, curvature.size)
    model = MiniBatchQuadratic(curvature, variance, multiplicity=multiplicity, displacement=start)
    rates = greedy_schedule(model, steps)
    here = end_risk(model, rates)
    for factor in (0.9, 1.1):
        assert end_risk(model, [*rates[:-1], factor * rates[-1]]) > here
    vertex = [end_risk(model, [*rates[:-1], factor * rates[-1]]) for factor in (1 - 1e-3, 1 + 1e-3)]
    assert math.isclose(vertex[0] - here, vertex[1] - here, rel_tol=1e-3, abs_tol=1e-14 * here)


def test_from_the_minimiser_there_is_nothing_to_gain():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0)
    np.testing.assert_array_equal(greedy_schedule(model, 4), np.zeros(4))
    np.testing.assert_array_equal(optimal_schedule(model, 4), np.zeros(4))


@pytest.fixture(scope="module")
def planned():
    """The problem: h = 1/i, K = 1000, C = 1/(h K), v_0 = 1/K, T = 200."""
    curvature = 1 / np.arange(1, 1001)
    model = MiniBatchQuadratic(curvature, 1 / (1000 * curvature), displacement=math.sqrt(1 / 1000))
    return model, optimal_schedule(model, 200)


def test_the_optimal_schedule(planned):
    model, best = planned
    j = np.arange(1, 201)
    other = elsewhere("noisy_quadratic_risk").values
    shapes = {
        "linear": (1 - (j - 1) / 200, other["linear"], 5e-9),
        "linear to zero": (1 - j / 200, 1.05975e-3, 5e-9),
        "late linear": (np.minimum(1, (201 - j) / 160), 1.0591e-3, 5e-8),
        "cosine": ((1 + np.cos(np.pi * (j - 1) / 200)) / 2, other["cosine"], 5e-9),
        "constant": (np.ones(200), other["constant"], 5e-9),
    }
    optimum = end_risk(model, best)
    assert abs(optimum - other["optimal"]) < 1e-9
    assert abs(best[0] - 0.994) < 5e-4
    assert abs(best[-1] - 0.051) < 5e-4
    tuned = {}
    for name, (shape, printed, digits) in shapes.items():
        found = minimize_scalar(
            lambda peak, shape=shape: end_risk(model, peak * shape), bounds=(0.05, 3), method="bounded"
        )
        assert abs(found.fun - printed) < digits
        tuned[name] = found
    assert optimum <= tuned["linear"].fun <= tuned["constant"].fun
    assert abs(tuned["constant"].x - 0.2553) < 5e-5
    assert abs(end_risk(model, greedy_schedule(model, 200)) - other["greedy"]) < 5e-9
    averaged, *neighbours = (
        moments(model, constant(base, 200), average=swa(200)).excess_risk.item() for base in (1.471, 1.4705, 1.4715)
    )
    assert neighbours[0] < other["average at 1.471"] < neighbours[1]  # the base rate is printed with four digits
    assert averaged < optimum  # an average is no schedule across a spectrum


def test_no_single_rate_of_the_optimal_schedule_can_be_improved(planned):
    model, best = planned
    here = end_risk(model, best)
    for step in (0, 1, 50, 120, 198, 199):
        changed = []
        for factor in (0.98, 1.02):
            rates = best.copy()
            rates[step] *= factor
            changed.append(end_risk(model, rates) - here)
        assert min(changed) > 0
        assert abs(changed[1] / changed[0] - 1) < 1e-3  # both sides of the vertex of a parabola


@given(seeds, st.integers(1, 25))
def test_the_optimal_schedule_is_stationary_and_beats_the_greedy_one(seed, steps):
    generator, curvature, variance, start = random_model(seed)
    model = MiniBatchQuadratic(curvature, variance + 0.01, displacement=np.where(start == 0, 1.0, start))
    best, greedy = optimal_schedule(model, steps), greedy_schedule(model, steps)
    here = end_risk(model, best)
    assert here <= end_risk(model, greedy) * (1 + 1e-12)
    step = int(generator.integers(steps))
    for factor in (0.8, 1.2):
        rates = best.copy()
        rates[step] *= factor
        assert end_risk(model, rates) >= here * (1 - 1e-12)


def test_plans_sweep_and_stay_lazy():
    noise = xr.DataArray([0.1, 1.0], dims="noise").chunk(noise=1)
    model = MiniBatchQuadratic([1.0, 0.2], noise, displacement=1.0)
    for plan in (greedy_schedule, optimal_schedule):
        made = plan(model, 6)
        assert made.chunks is not None
        assert made.step.values.tolist() == [1, 2, 3, 4, 5, 6]
        for index, value in enumerate((0.1, 1.0)):
            alone = plan(MiniBatchQuadratic([1.0, 0.2], value, displacement=1.0), 6)
            np.testing.assert_allclose(made.isel(noise=index), alone, rtol=1e-12)
