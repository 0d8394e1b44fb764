"""Batch sizes that change along a run, against runs unrolled by hand, and what a ramp is worth beside a decay."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import close, every_update, linear_form

from sgdynamics.models.quadratic import GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, power_decay
from sgdynamics.theory.quadratic import decay_noise_left, moments, stationary_variance

seeds = st.integers(0, 2**32 - 1)


@every_update
@given(seed=seeds)
def test_every_center_counts_as_its_batch_is_large(update, seed):
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(2, 25))
    rates, sizes = rng.uniform(0.0, 0.6, steps), rng.integers(1, 50, steps)
    curvature, variance, start = rng.uniform(0.2, 1.5, 2), rng.uniform(0.5, 2, 2), rng.normal(size=2)
    model = MiniBatchQuadratic(curvature, variance, displacement=start, batch_size=7)
    record = np.arange(steps + 1)
    made = moments(model, rates, batch_sizes=sizes, record=record, **update)
    averaged = moments(model, rates, batch_sizes=sizes, average=ema(0.5, steps), **update)
    for mode in range(2):
        from_start, centers = linear_form(rates * curvature[mode], **update)
        np.testing.assert_allclose(made.mean_error[:, mode], from_start * start[mode], rtol=1e-9, atol=1e-12)
        expected = (centers**2 / sizes).sum(axis=1) * variance[mode]
        np.testing.assert_allclose(made.variance[:, mode], expected, rtol=1e-9, atol=1e-12)
        weighed = ema(0.5, steps) @ centers
        assert close(averaged.variance.values[0, mode], np.sum(weighed**2 / sizes) * variance[mode], 1e-9)


@every_update
def test_stretches_of_one_rate_and_one_size_are_jumped_to_the_same_point(update):
    sizes = np.repeat([1, 16, 4], [300, 200, 250])
    model = MiniBatchQuadratic([1.0, 0.05], 1.0, displacement=1.0)
    made = moments(model, constant(0.4, 750), batch_sizes=sizes, **update)
    for mode, curvature in enumerate((1.0, 0.05)):
        _, centers = linear_form(np.full(750, 0.4 * curvature), **update)
        assert close(made.variance.values[0, mode], np.sum(centers[-1] ** 2 / sizes), 1e-9)


def test_one_size_is_that_of_the_model_and_sweeps_keep_their_labels():
    model = MiniBatchQuadratic(1.0, 1.0, displacement=1.0)
    large = MiniBatchQuadratic(1.0, 1.0, displacement=1.0, batch_size=8)
    rates = constant(0.3, 20)
    ramp = moments(model, rates, batch_sizes=np.full(20, 8))
    assert ramp.excess_risk.item() == pytest.approx(moments(large, rates).excess_risk.item(), rel=1e-12)
    sizes = xr.DataArray([[1] * 20, [8] * 20], dims=["run", "step"])
    np.testing.assert_allclose(
        moments(large, rates, batch_sizes=sizes).excess_risk.values[:, 0],
        [moments(one, rates).excess_risk.item() for one in (model, large)],
        rtol=1e-12,
    )


def test_ramps_of_other_models_and_lengths_are_refused():
    with pytest.raises(ValueError, match="moments: batch_sizes must be None for a GaussianLeastSquares"):
        moments(GaussianLeastSquares([1.0], 0.1), [0.1, 0.1], batch_sizes=[1, 2])
    with pytest.raises(ValueError, match="moments: batch_sizes must have one value per step, 2, got 3"):
        moments(MiniBatchQuadratic(1.0, 1.0), [0.1, 0.1], batch_sizes=[1, 2, 4])


def ramp_for(exponent, steps):
    """Batch sizes that make a constant rate as quiet as a decay of size 1000, in the time that the decay flows."""
    length = round(steps / (1 + exponent))
    flow = np.arange(length, -1, -1) / length  # that is left; of s steps left the decay has s^(p+1)
    return np.round(-1000 * steps * np.diff(flow ** (1 / (1 + exponent))))


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_a_ramp_does_in_fewer_steps_what_a_decay_does_with_as_many_examples(exponent):
    gain, steps = 0.002, 6000
    model = MiniBatchQuadratic(1.0, 1.0, batch_size=1000)
    sizes = ramp_for(exponent, steps)
    settle = 4000
    ramp = moments(
        model, constant(gain, settle + sizes.size), batch_sizes=np.concatenate([np.full(settle, 1000), sizes])
    )
    decay = moments(model, np.concatenate([constant(gain, settle), power_decay(gain, steps, exponent)]))
    plateau = stationary_variance(gain) / 1000
    assert sizes.size == round(steps / (1 + exponent))
    assert sizes.sum() == pytest.approx(1000 * steps, rel=0.001)  # the examples of both
    assert ramp.variance.item() / plateau == pytest.approx(decay_noise_left(gain, steps, exponent), rel=0.02)
    assert ramp.variance.item() == pytest.approx(decay.variance.item(), rel=0.02)


def test_at_large_gains_a_ramp_is_no_decay():
    gain, steps = 1.0, 60
    sizes = ramp_for(1.0, steps)
    model = MiniBatchQuadratic(1.0, 1.0, batch_size=1000)
    ramp = moments(model, constant(gain, sizes.size), batch_sizes=sizes).variance.item()
    decay = moments(model, power_decay(gain, steps, 1.0)).variance.item()
    assert abs(ramp / decay - 1) > 0.5
