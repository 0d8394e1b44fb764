"""What a larger batch is worth, against the moments of one step; the proofs stand with those of the row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.theory.quadratic import batch_efficiency, critical_rate, examples_for_steps, moments, steps_for_batch

powers = st.floats(-6, 6).map(lambda power: 10**power)


@given(powers, powers)
def test_steps_and_examples_trade_on_a_hyperbola(batch_size, noise_scale):
    steps = steps_for_batch(batch_size, noise_scale)
    # examples B T over the fewest, those of the smallest batches, noise_scale T_min
    examples = (1 + batch_size / noise_scale) if steps > 1 else None
    if examples is not None and steps - 1 > 1e-3:
        assert examples_for_steps(steps) == pytest.approx(examples, rel=1e-9)
    assert 0 < batch_efficiency(batch_size, noise_scale) <= 1


@given(st.integers(1, 1000))
def test_half_the_critical_rate_is_the_best_rate_of_a_batch(batch_size):
    # a sum over directions in the test, the moments of the library in the model
    curvature, displacement, variance = [2.0, 0.5], [1.0, 3.0], [4.0, 1.0]
    model = MiniBatchQuadratic(curvature, variance, displacement=displacement, batch_size=batch_size)
    directions = list(zip(curvature, displacement, variance, strict=True))
    bend = sum(h**3 * d**2 for h, d, _ in directions)
    scale = sum(h**3 * c for h, _, c in directions) / bend
    full_rate = sum(h**2 * d**2 for h, d, _ in directions) / bend
    best = full_rate * batch_efficiency(batch_size, scale)
    assert critical_rate(model, constant(0.1, 1), record=[0]).item() == pytest.approx(2 * best, rel=1e-12)
    here, after = moments(model, [best], record=[0, 1]).excess_risk.values
    gain = sum(h**2 * d**2 for h, d, _ in directions) * full_rate / 2
    assert (here - after) / gain == pytest.approx(batch_efficiency(batch_size, scale), rel=1e-9)


def test_a_fixed_rate_has_no_such_scale():
    # the law is about rates chosen for the batch: at one rate small batches may make no progress at all
    model = MiniBatchQuadratic([1.0], [100.0], displacement=[1.0], batch_size=1)
    here, after = moments(model, [1.0], record=[0, 1]).excess_risk.values
    assert after > here
