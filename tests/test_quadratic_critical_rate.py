"""The critical rate of a step, against the loss looked at along the step."""

import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.theory.quadratic import critical_rate, equivalent_gain, moments, second_moment_edge, stationary


def test_in_one_direction_the_critical_gain_is_that_whose_plateau_the_run_is_at():
    v, x = sympy.symbols("v x", positive=True)
    after = (1 - x) ** 2 * v + x**2  # second moment one step later, in units of the center variance
    (root,) = sympy.solve(sympy.Eq(after, v), x)
    assert sympy.simplify(equivalent_gain(v) - root) == 0
    assert sympy.simplify(root.subs(v, x / (2 - x)) - x) == 0


MODELS = {
    "modes": MiniBatchQuadratic([3.0, 0.7, 0.02], [1.0, 0.2, 5.0], displacement=[1.0, -2.0, 3.0], batch_size=4),
    "rotated": FullQuadratic([[1.0, 0.3], [0.3, 0.5]], [[1.0, -0.2], [-0.2, 2.0]], displacement=[1.0, 0.5]),
    "examples": FiniteSumQuadratic([0.5, 1.5], [1.0, -1.0], displacement=1.0, sampling="replacement"),
    "regression": GaussianLeastSquares([1.0, 0.5], 0.1, displacement=1.0, batch_size=3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_one_more_step_at_the_critical_rate_leaves_the_expected_loss_as_it_is(name, steps):
    # the loss after the step is asked of the moments of a run with that step at its end
    model, schedule = MODELS[name], constant(0.1, steps)
    rate = critical_rate(model, schedule, record=[steps]).item()
    for factor, sign in ((0.9, -1), (1.0, 0), (1.1, 1)):
        risk = moments(model, np.append(schedule, factor * rate), record=[steps, steps + 1]).excess_risk.values
        if sign:
            assert np.sign(risk[1] - risk[0]) == sign
        else:
            assert risk[1] == pytest.approx(risk[0], rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_on_a_plateau_it_is_the_rate_for_every_spectrum(name):
    model = MODELS[name]
    for share in (0.2, 0.8):
        rate = share * second_moment_edge(model)
        assert critical_rate(model, constant(rate, 20_000)).item() == pytest.approx(rate, rel=1e-9)


@given(st.lists(st.floats(-2, 0).map(lambda power: 10**power), min_size=2, max_size=5), st.floats(0.05, 0.95))
def test_the_full_gradient_tells_a_plateau_of_noise_from_the_edge(curvature, share):
    rate = share * 2 / max(curvature)
    plateau = stationary(MiniBatchQuadratic(curvature, 1.0), rate).variance.values
    h = np.array(curvature)
    expected = 2 * np.sum(h**2 * plateau) / np.sum(h**3 * plateau)
    noisy = MiniBatchQuadratic(curvature, 1.0, displacement=1.0)
    made = critical_rate(noisy, constant(rate, 20_000), full_gradient=True).item()
    assert made == pytest.approx(expected, rel=1e-9)
    assert made > rate


def test_at_the_edge_without_noise_it_is_the_rate():
    # what is flatter has died out, the sharpest direction neither grows nor shrinks
    quiet = MiniBatchQuadratic([1.0, 0.3], 0.0, displacement=1.0)
    assert critical_rate(quiet, constant(2.0, 1000)).item() == pytest.approx(2.0, rel=1e-12)
    # and far below it, without noise, it is the edge of the slowest direction: descent goes on
    assert critical_rate(quiet, constant(0.1, 1000)).item() == pytest.approx(2 / 0.3, rel=1e-9)


def test_a_single_step_has_a_random_critical_rate():
    # of expected losses: one step's own critical rate scatters about it
    rng = np.random.default_rng(0)
    error, center = rng.normal(scale=np.sqrt(1 / 19), size=10_000), rng.normal(size=10_000)  # gain .1, stationary
    own = 2 * error / (error - center)  # where (e - s (e - c))^2 = e^2
    assert (own < 0).mean() > 0.1
    risk = np.mean((error - 0.1 * (error - center)) ** 2 - error**2)
    assert abs(risk) < 4 * np.std((error - 0.1 * (error - center)) ** 2 - error**2) / 100


def test_labels_and_laziness_are_kept():
    model = MODELS["modes"]
    rates = xr.DataArray([0.05, 0.1], dims="rate") * xr.DataArray(np.ones(20), dims="step")
    swept = critical_rate(model, rates, record=[5, 20])
    assert swept.dims == ("rate", "step")
    assert swept.attrs["long_name"]
    alone = critical_rate(model, constant(0.1, 20), record=[5, 20])
    np.testing.assert_array_equal(swept.isel(rate=1), alone)
    lazy = critical_rate(model, rates.chunk(rate=1), record=[5, 20])
    np.testing.assert_array_equal(lazy.compute(), swept)
    assert np.isnan(critical_rate(MiniBatchQuadratic(1.0, 0.0), constant(0.1, 2)).item())  # nothing to lose
