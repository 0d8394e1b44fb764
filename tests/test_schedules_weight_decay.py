"""Decoupled weight decay as an average, against optimisers run in the test."""

import math

import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.schedules import constant, linear
from sgdynamics.theory.schedules import update_weights, weight_decay_steps

decays = st.floats(-6, 0).map(lambda power: 10**power)


def adamw(gradients, schedule, weight_decay, start, betas=(0.9, 0.95), eps=1e-8):
    """The weights at the end and every update u_t of the rule w - eta (u + lambda w)."""
    w, first, second, updates = start, 0.0, 0.0, []
    for t, (gradient, rate) in enumerate(zip(gradients, schedule, strict=True), 1):
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        update = first / (1 - betas[0] ** t) / (math.sqrt(second / (1 - betas[1] ** t)) + eps)
        w = w * (1 - rate * weight_decay) - rate * update
        updates.append(update)
    return w, np.array(updates)


@given(st.integers(0, 2**32 - 1), decays, st.integers(1, 60))
def test_adamw_is_the_average_of_its_updates(seed, weight_decay, steps):
    rng = np.random.default_rng(seed)
    schedule = rng.uniform(0, 0.9, steps)
    end, updates = adamw(rng.normal(size=steps), schedule, weight_decay, 3.0)
    law = update_weights(schedule, weight_decay)
    assert end == pytest.approx(
        law.start_weight.item() * 3.0 - law.weight.values @ updates / weight_decay, rel=1e-9, abs=1e-9
    )
    assert law.weight.sum().item() + law.start_weight.item() == pytest.approx(1, rel=1e-12)


def test_coupled_decay_is_not():
    # decay inside the gradient goes through Adam's normalisation: the updates then hold the weights themselves
    schedule, weight_decay = np.full(50, 0.1), 0.5
    w, updates = 3.0, []
    second = 0.0
    for _ in range(50):
        gradient = 1.0 + weight_decay * w
        second = 0.95 * second + 0.05 * gradient**2
        updates.append(1.0 / math.sqrt(second + 1e-12))
        w -= 0.1 * gradient / math.sqrt(second + 1e-12)
    law = update_weights(schedule, weight_decay)
    assert abs(law.start_weight.item() * 3.0 - law.weight.values @ updates / weight_decay - w) > 0.1


@given(st.floats(-9, -0.1).map(lambda power: 10**power), decays)
def test_time_scale_of_a_constant_rate(rate, weight_decay):
    steps = weight_decay_steps(rate, weight_decay)
    assert math.exp(-1) == pytest.approx(math.exp(steps * math.log1p(-rate * weight_decay)), rel=1e-9)
    assert weight_decay_steps(1 / weight_decay, weight_decay) == math.inf


def test_time_scale_to_first_order():
    eta, lam = sympy.symbols("eta lambda", positive=True)
    small = sympy.series(weight_decay_steps(eta, lam), eta, 0, 1).removeO()
    assert sympy.simplify(small - (1 / (eta * lam) - sympy.Rational(1, 2))) == 0


def test_memory_of_a_constant_rate_and_of_a_linear_decay():
    steps, gain = 100_000, 1e-3
    steady = update_weights(constant(gain, steps), 1.0)
    assert steady.age.item() == pytest.approx((1 - gain) / gain, rel=1e-9)  # mean of a geometric law
    assert steady.effective_updates.item() == pytest.approx((2 - gain) / gain, rel=1e-9)
    decayed = update_weights(linear(gain, steps), 1.0)
    assert decayed.age.item() == pytest.approx(math.sqrt(math.pi * steps / (2 * gain)), rel=0.01)
    assert decayed.weight.values[-1] < 1e-3 * decayed.weight.values.max()


def test_a_warm_up_is_remembered_by_short_runs_alone():
    warm = np.linspace(0.0, 1e-2, 100)
    for steps, remembered in ((200, True), (5000, False)):
        law = update_weights(np.append(warm, np.full(steps, 1e-2)), 1.0)
        assert (law.weight.values[:100].sum() > 0.05) == remembered


def test_labels_are_kept_and_a_decay_that_turns_weights_around_is_refused():
    swept = update_weights(xr.DataArray([[0.1, 0.2], [0.3, 0.1]], dims=["run", "step"]), 0.5)
    assert swept.weight.dims == ("run", "step")
    np.testing.assert_array_equal(swept.isel(run=1).weight, update_weights([0.3, 0.1], 0.5).weight)
    with pytest.raises(ValueError, match=r"update_weights: schedule must be rates below 1/weight_decay, got 2\.0"):
        update_weights([0.1, 2.0], 0.5)
