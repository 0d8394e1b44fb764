"""What decays leave of a plateau, against recursions and integrals written out; the best of them against a grid."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import inverse_sqrt, linear, power_decay, warmup_stable_decay
from sgdynamics.theory.quadratic import (
    best_power_decay,
    decay_noise_left,
    late_decay_noise_left,
    moments,
    optimal_schedule,
)

exponents = st.floats(0.0, 6.0)
spans = st.floats(-2, 2).map(lambda power: 10**power)


def share_left(profile, gain, steps):
    """Variance after a decay from the plateau, step by step, over that of the plateau."""
    variance = gain / (2 - gain)
    for left in range(steps - 1, -1, -1):
        x = gain * profile(left / steps)
        variance = (1 - x) ** 2 * variance + x**2
    return variance / (gain / (2 - gain))


ENDS = {  # shape, exponent and amplitude of its end
    "linear": (lambda s: s, 1.0, 1.0),
    "square": (lambda s: s**2, 2.0, 1.0),
    "cosine": (lambda s: (1 - math.cos(math.pi * s)) / 2, 2.0, math.pi**2 / 4),
    "one minus root": (lambda s: 1 - math.sqrt(1 - s), 1.0, 0.5),
}


@given(exponents, spans)
def test_share_left_in_the_limit_of_small_gains_solves_its_equation(exponent, span):
    # dv/ds in units of the plateau, s from 1 to 0: 2 x D s^p (v - s^p)
    solved = solve_ivp(
        lambda t, v: -2 * span * (1 - t) ** exponent * (v - (1 - t) ** exponent),
        (0.0, 1.0),
        [1.0],
        rtol=1e-10,
        atol=1e-12,
        method="LSODA",
    )
    assert decay_noise_left(1e-3 * span, 1e3, exponent) == pytest.approx(solved.y[0, -1], rel=1e-6)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
def test_runs_come_to_it_linearly_in_the_gain(exponent):
    errors = []
    for steps in (500, 1000, 2000):
        made = decay_noise_left(5 / steps, steps, exponent)
        errors.append(abs(share_left(lambda s: s**exponent, 5 / steps, steps) / made - 1))
    assert errors[0] < 0.02
    assert errors[1] / errors[0] == pytest.approx(0.5, rel=0.15)
    assert errors[2] / errors[1] == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("name", ENDS)
def test_long_decays_are_told_by_their_ends(name):
    profile, exponent, amplitude = ENDS[name]
    off = [
        abs(share_left(profile, 0.01, steps) / late_decay_noise_left(0.01, steps, exponent, amplitude) - 1)
        for steps in (3000, 30_000)
    ]
    assert off[1] < 0.05
    assert off[1] < off[0] or off[1] < 0.01


def test_the_limit_of_the_one_is_the_other():
    for exponent in (0.0, 0.3, 1.0, 4.0):
        assert decay_noise_left(0.5, 1e6, exponent) == pytest.approx(
            late_decay_noise_left(0.5, 1e6, exponent), rel=1e-9
        )
    assert late_decay_noise_left(0.1, 500, 1.0, 0.5) == pytest.approx(decay_noise_left(0.1, 500, 1.0) / math.sqrt(2))


@given(exponents, spans)
def test_longer_decays_leave_less_and_no_decay_leaves_all(exponent, span):
    left = decay_noise_left(0.01, 100 * span, exponent)
    assert 0 < left <= 1 + 1e-12
    assert decay_noise_left(0.01, 200 * span, exponent) <= left * (1 + 1e-12)
    assert decay_noise_left(0.01, 100 * span, 0.0) == 1
    assert decay_noise_left(1e-9, 1.0, exponent) == pytest.approx(1, abs=1e-8)


def test_steep_powers_win_in_long_decays_and_lose_in_short_ones():
    steep, flat = (np.array([decay_noise_left(0.01, steps, p) for steps in (20, 20_000)]) for p in (4.0, 1.0))
    assert steep[0] > flat[0]
    assert steep[1] < flat[1]


def test_large_gains_are_another_law():
    assert abs(share_left(lambda s: s, 1.5, 40) / decay_noise_left(1.5, 40, 1.0) - 1) > 0.2


# ---------------------------------------------------------------------------------------------------------------------
# Schedules of these shapes


def test_shapes_of_schedules_written_out():
    for name, word in (("linear", "linear"), ("cosine", "cosine"), ("one minus root", "one_minus_sqrt")):
        profile, *_ = ENDS[name]
        expected = [0.1, 0.2] + [0.2] * 3 + [0.2 * profile(left / 5) for left in range(4, -1, -1)]
        np.testing.assert_allclose(warmup_stable_decay(0.2, 10, 2, 5, shape=word), expected, atol=1e-16)
    np.testing.assert_allclose(power_decay(0.3, 7, 1.0), linear(0.3, 7), atol=1e-16)
    np.testing.assert_allclose(power_decay(0.3, 6, 2.0, 2.5), 0.3 * np.array([1, 1, 1, 0.64, 0.16, 0]), atol=1e-16)
    np.testing.assert_array_equal(power_decay(0.3, 6, 0.0), np.full(6, 0.3))
    made = inverse_sqrt(0.4, 100, 16)
    assert made[15] == 0.4 == made.max()
    assert made[63] == pytest.approx(0.2)
    swept = power_decay(xr.DataArray([0.1, 0.2], dims="rate"), 5, 1.5)
    assert swept.dims == ("rate", "step")


def test_a_decay_without_a_horizon_leaves_what_its_last_rates_make():
    # one over the root falls slowly: the variance follows the plateau of the current rate
    schedule = inverse_sqrt(0.2, 20_000, 100)
    model = MiniBatchQuadratic(1.0, 1.0)
    assert moments(model, schedule).variance.item() == pytest.approx(schedule[-1] / (2 - schedule[-1]), rel=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# The best of them

MODEL = MiniBatchQuadratic([1.0, 0.1, 0.02], 1.0, displacement=3.0)


def risk_of(rate, decay, exponent, steps, model=MODEL):
    return moments(model, power_decay(rate, steps, exponent, decay)).excess_risk.item()


def test_no_cooldown_of_a_whole_length_is_better_than_the_best():
    best = best_power_decay(MODEL, 120, rate=0.6, exponent=1.0)
    assert best.excess_risk.item() == pytest.approx(risk_of(0.6, best.decay.item(), 1.0, 120), rel=1e-12)
    tried = [risk_of(0.6, decay, 1.0, 120) for decay in range(1, 121)]
    assert best.excess_risk.item() <= min(tried) * (1 + 1e-9)
    assert abs(best.decay.item() - (1 + np.argmin(tried))) <= 1


def test_no_grid_finds_a_better_one_and_no_power_beats_the_best_schedule():
    best = best_power_decay(MODEL, 60)
    grid = [
        risk_of(rate, decay, exponent, 60)
        for rate in np.geomspace(0.05, 2, 10)
        for decay in np.linspace(6, 60, 6)
        for exponent in (0.25, 0.5, 1.0, 2.0, 3.0)
    ]
    assert best.excess_risk.item() <= min(grid)
    assert moments(MODEL, optimal_schedule(MODEL, 60)).excess_risk.item() <= best.excess_risk.item()
    assert 0 < best.decay.item() <= 60
    assert best.rate.item() <= 2


def test_without_noise_there_is_nothing_to_cool_down_and_sweeps_keep_their_labels():
    quiet = MiniBatchQuadratic([1.0, 0.1], 0.0, displacement=1.0)
    assert best_power_decay(quiet, 50, rate=0.5, exponent=1.0).decay.item() == pytest.approx(1, rel=1e-3)
    noise = xr.DataArray([0.01, 1.0], dims="noise")
    swept = best_power_decay(MiniBatchQuadratic([1.0, 0.1], noise, displacement=1.0), 50, rate=0.5, exponent=1.0)
    assert swept.decay.dims == ("noise",)
    assert swept.decay.values[0] < swept.decay.values[1]
    all_given = best_power_decay(MODEL, 50, rate=0.5, exponent=1.0, decay=20)
    assert all_given.excess_risk.item() == pytest.approx(risk_of(0.5, 20, 1.0, 50), rel=1e-12)
    assert all_given.excess_risk.attrs == moments(MODEL, np.full(3, 0.5)).excess_risk.attrs  # one name for one quantity
