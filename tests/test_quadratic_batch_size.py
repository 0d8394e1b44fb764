"""What a larger batch is worth, against the moments of one step; the proofs stand with those of the row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.quadratic import FiniteSumQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import (
    batch_efficiency,
    critical_rate,
    examples_for_steps,
    moments,
    noise_scale,
    plateau_noise_scale,
    steps_for_batch,
)

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


def test_noise_scale_of_examples_written_out():
    # two examples drawn with replacement: gradients h_i (e - c_i), at a point that does not move
    hessians, centers, error = np.array([0.5, 1.5]), np.array([1.0, -1.0]), 3.0
    model = FiniteSumQuadratic(hessians, centers, displacement=error, sampling="replacement", batch_size=5)
    gradients = hessians * (error + model.minimizer.item() - centers)
    expected = gradients.var() / gradients.mean() ** 2
    assert noise_scale(model, [0.0], record=[0]).item() == pytest.approx(expected, rel=1e-12)


def test_noise_scale_is_where_a_batch_gains_half():
    shape = {"curvature": [2.0, 0.5], "displacement": [1.0, 3.0]}
    # noise such that sum h^3 C over sum h^3 e^2 is 8 examples
    bend = 8.0 * 1.0 + 0.125 * 9.0
    variance = 8 * bend / (8.0 + 0.125)
    scale = noise_scale(MiniBatchQuadratic(center_variance=variance, **shape), [0.0], record=[0]).item()
    assert scale == pytest.approx(8, rel=1e-12)
    gains = []
    for batch in (8, 10**15):
        at = MiniBatchQuadratic(center_variance=variance, batch_size=batch, **shape)
        best = critical_rate(at, [0.0], record=[0]).item() / 2
        gains.append(-np.diff(moments(at, [best], record=[0, 1]).excess_risk.values).item())
    assert gains[0] == pytest.approx(gains[1] / 2, rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_on_a_plateau_the_noise_scale_is_a_matter_of_the_run(momentum):
    for gain, batch, variance in ((0.1, 64, 3.0), (1.5, 4, 0.01)):
        model = MiniBatchQuadratic(gain, variance, batch_size=batch)
        errors = ensemble(model, constant(1.0, 400), replicas=200_000, seed=2, momentum=momentum).error.values
        measured = variance / np.mean(errors**2)  # of gradients h (e - c), h^2 C over h^2 E e^2
        predicted = plateau_noise_scale(gain, batch, momentum=momentum)
        assert abs(measured / predicted - 1) < 4 * np.sqrt(2 / errors.size)
        if not momentum:
            assert noise_scale(model, constant(1.0, 400)).item() == pytest.approx(predicted, rel=1e-9)
    assert plateau_noise_scale(3.7, 4, momentum=momentum) == np.inf  # beyond the edge there is no plateau


def test_noise_scale_grows_while_a_run_learns_and_stays_on_its_plateau():
    model = GaussianLeastSquares([1.0, 0.3], 0.5, displacement=10.0, batch_size=4)
    along = noise_scale(model, constant(0.3, 400), record=np.arange(0, 401, 20)).values
    assert along[0] < along[1] < along[2]
    assert along[-1] == pytest.approx(along[-2], rel=1e-6)
