"""Orbits of the minimal models: kernels against plain recursions, the published numbers, sweeps, divergence."""

import math

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.edge_of_stability import FourFactors, ProductLoss, SelfStabilization
from sgdynamics.outcome import Outcome
from sgdynamics.simulate.edge_of_stability import (
    four_factor_orbits,
    product_orbits,
    second_order_orbits,
    self_stabilization_orbits,
)
from sgdynamics.theory.edge_of_stability import end_gap, error_budget, gap_drift
from sgdynamics.theory.uv import final_excess

OUTER = {
    "square": ProductLoss("square", target=1.5),
    "log_cosh": ProductLoss("log_cosh", target=0.5),
    "square_root": ProductLoss("square_root", target=-0.5),
    "quartic": ProductLoss("quartic", target=1.0),
}


# ---------------------------------------------------------------------------------------------------------------------
# The steps once more, one number at a time and in the order of operations of the kernels


def product_twin(model, x, y, rate):
    z, t = x * y, model.target
    slope = {
        "square": lambda: z - t,
        "log_cosh": lambda: math.tanh(z - t),
        "square_root": lambda: (z - t) / math.sqrt(1.0 + (z - t) * (z - t)),
        "quartic": lambda: z * (z - t) * (z + t),
    }[model.outer]()
    return x - rate * y * slope, y - rate * x * slope


def four_twin(x, y, z, w, rate):
    turn = rate * (x * y * z * w - 1.0)
    return x - turn * (y * z * w), y - turn * (x * z * w), z - turn * (x * y * w), w - turn * (x * y * z)


def stabilising_twin(x, s, rate):
    return (1.0 - rate * s) * x, s + rate * (1.5 - 0.5 * x * x / 2.0)


def second_order_twin(z, t0, t1, rate, first=0.7, second=-0.3):
    t2 = (first + second) * t1 - first * second * t0
    t3 = (first + second) * t2 - first * second * t1
    turn = rate * z
    return (
        z - turn * t0 + 0.5 * turn * turn * t1,
        t0 - 2.0 * turn * t1 + turn * turn * t2,
        t1 - 2.0 * turn * t2 + turn * turn * t3,
    )


def iterate(step, state, steps):
    """The orbit from step 0 on, infinite from the first step at which a component leaves 1e30."""
    path = [state]
    for _ in range(steps):
        try:
            state = step(*state)
        except OverflowError:
            state = (math.inf,) * len(state)
        if not all(abs(value) <= 1e30 for value in state):
            break
        path.append(state)
    missing = steps + 1 - len(path)
    return np.array(path + [(math.inf,) * len(state)] * missing), (len(path) if missing else -1)


starts = st.floats(-3, 3)
rates = st.floats(-3, 0.5).map(lambda power: 10**power)


def assert_same_bits(data, names, step, state, steps):
    path, diverged = iterate(step, state, steps)
    for name, column in zip(names, path.T, strict=True):
        np.testing.assert_array_equal(data[name].values, column)
    assert int(data.divergence_step) == diverged
    assert (int(data.outcome) == Outcome.DIVERGED) == (diverged >= 0)
    assert (np.isinf(data.loss.values) == np.isinf(path[:, 0])).all()
    assert not np.isnan(data.sharpness.values).any()
    assert not np.isnan(data.gap.values).any()


@pytest.mark.parametrize("outer", ["square", "square_root", "quartic"])
@settings(max_examples=40)
@given(x=starts, y=starts, rate=rates)
def test_product_orbits_are_the_recursion_bit_for_bit(outer, x, y, rate):
    model = OUTER[outer]
    data = product_orbits(model, x, y, rate, steps=60, record=np.arange(61))
    assert_same_bits(data, ("x", "y"), lambda a, b: product_twin(model, a, b, rate), (x, y), 60)


@given(x=starts, y=starts, rate=rates)
@settings(max_examples=40)
def test_log_cosh_orbits_are_the_recursion_for_as_long_as_rounding_lets_them(x, y, rate):
    """The hyperbolic tangents of two libraries may differ in the last bit."""
    model = OUTER["log_cosh"]
    data = product_orbits(model, x, y, rate, steps=3, record=np.arange(4))
    path, _ = iterate(lambda a, b: product_twin(model, a, b, rate), (x, y), 3)
    np.testing.assert_allclose(np.stack([data.x, data.y], axis=1), path, rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(w=st.tuples(starts, starts, starts, starts), rate=rates)
def test_four_factor_orbits_are_the_recursion_bit_for_bit(w, rate):
    data = four_factor_orbits(FourFactors(), *w, rate, steps=40, record=np.arange(41))
    assert_same_bits(data, "xyzw", lambda *state: four_twin(*state, rate), w, 40)


@settings(max_examples=40)
@given(x=starts, curvature=st.floats(-5, 50), rate=rates)
def test_self_stabilisation_orbits_are_the_recursion_bit_for_bit(x, curvature, rate):
    model = SelfStabilization(sharpening=1.5, restoring=0.5)
    data = self_stabilization_orbits(model, x, curvature, rate, steps=40, record=np.arange(41))
    assert_same_bits(data, ("x", "curvature"), lambda *s: stabilising_twin(*s, rate), (x, curvature), 40)


@settings(max_examples=20)
@given(x=starts, curvature=st.floats(-5, 50), rate=rates, zeta=st.floats(-1, 1))
def test_asymmetric_orbits_are_the_recursion_bit_for_bit(x, curvature, rate, zeta):
    model = SelfStabilization(sharpening=1.5, restoring=0.5, asymmetry=zeta)
    data = self_stabilization_orbits(model, x, curvature, rate, steps=40, record=np.arange(41))

    def twin(x, curvature):
        new, after = stabilising_twin(x, curvature, rate)
        return new - 1.5 * rate * zeta * x * x, after

    assert set(data) == {"x", "curvature", "loss", "sharpness", "gap", "outcome", "divergence_step"}
    assert_same_bits(data, ("x", "curvature"), twin, (x, curvature), 40)


@settings(max_examples=40)
@given(z=starts, share=st.floats(0, 1), ntk=st.floats(0.1, 5), rate=rates)
def test_second_order_orbits_are_the_recursion_bit_for_bit(z, share, ntk, rate):
    moment = ntk * (0.7 * share - 0.3 * (1 - share))
    data = second_order_orbits(z, ntk, moment, rate, first=0.7, second=-0.3, steps=40, record=np.arange(41))
    assert_same_bits(data, ("residual", "ntk", "moment"), lambda *s: second_order_twin(*s, rate), (z, ntk, moment), 40)


@pytest.mark.parametrize("outer", ["square", "square_root", "quartic"])
def test_orbits_abreast_are_the_recursion_bit_for_bit_through_divergences(outer):
    """More than a block and no multiple of a vector, records apart, far longer than it takes to diverge."""
    generator = np.random.default_rng(3)
    x, y = generator.uniform(-3, 3, (2, 131))
    data = product_orbits(OUTER[outer], x, y, 0.4, steps=203, record=[0, 1, 66, 70, 203])
    for i in range(x.size):
        path, diverged = iterate(lambda a, b: product_twin(OUTER[outer], a, b, 0.4), (x[i], y[i]), 203)
        np.testing.assert_array_equal(np.stack([data.x[i], data.y[i]], axis=1), path[data.step.values])
        assert int(data.divergence_step[i]) == diverged
    assert (outer == "square_root") == (data.divergence_step < 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# Sweeps


def grid(**options):
    return product_orbits(
        OUTER["quartic"], np.linspace(0.1, 3, 33), np.linspace(2, 0.5, 33), [0.01, 0.1, 0.5], steps=50, **options
    )


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_number_of_threads_changes_no_bit(monkeypatch, threads):
    expected = grid()
    monkeypatch.setenv("SGDYNAMICS_THREADS", threads)
    xr.testing.assert_identical(grid(), expected)


def test_a_sweep_is_its_cells_and_stays_lazy():
    data = grid(record=[0, 7, 50])
    assert dict(data.loss.sizes) == {"start": 33, "learning_rate": 3, "step": 3}
    alone = product_orbits(OUTER["quartic"], float(data.x[5, 0, 0]), float(data.y[5, 0, 0]), 0.1, steps=50)
    for name in ("x", "y", "loss", "sharpness", "gap"):
        assert float(data[name][5, 1, -1]) == alone[name].item()
    lazy = xr.DataArray(dask.array.from_array(np.linspace(0.1, 3, 33), chunks=8), dims="start")
    swept = product_orbits(OUTER["quartic"], lazy, np.linspace(2, 0.5, 33), [0.01, 0.1, 0.5], steps=50)
    assert swept.x.chunks is not None
    xr.testing.assert_allclose(swept.compute(), grid(), rtol=0, atol=0)


def test_a_result_survives_a_file(tmp_path):
    data = grid()
    data.to_netcdf(tmp_path / "orbits.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "orbits.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read.load(), data)


def test_divergence_is_a_result():
    data = product_orbits(OUTER["quartic"], [3.0, 1.1], [3.0, 0.9], 0.3, steps=200)
    assert data.divergence_step.dtype == np.int32
    assert data.divergence_step.values[0] > 0
    assert data.divergence_step.values[1] == -1
    assert data.outcome.values.tolist() == [Outcome.DIVERGED, Outcome.CONVERGED]
    assert np.isinf(data.sharpness.values[0]).all()
    assert np.isfinite(data.sharpness.values[1]).all()


def test_misfits_are_refused():
    with pytest.raises(ValueError, match="x must be as many starts as y"):
        product_orbits(OUTER["quartic"], [1.0, 2.0], [1.0, 2.0, 3.0], 0.1, steps=1)
    with pytest.raises(ValueError, match=r"record must be increasing steps in 0\.\.T = 3"):
        product_orbits(OUTER["quartic"], 1.0, 1.0, 0.1, steps=3, record=[4])
    with pytest.raises(ValueError, match="x must be swept over dims other than 'step'"):
        product_orbits(OUTER["quartic"], xr.DataArray([1.0], dims="step"), 1.0, 0.1, steps=3)
    with pytest.raises(ValueError, match="second must be different from first"):
        second_order_orbits(1.0, 1.0, 0.0, 0.1, first=0.5, second=0.5, steps=3)


def test_orbits_that_have_all_diverged_are_not_run_on():
    data = product_orbits(OUTER["quartic"], [3.0, 2.9], 3.0, 0.3, steps=10**12, record=[1, 10**12])
    assert (data.divergence_step > 0).all()
    assert np.isinf(data.x.isel(step=-1)).all()


# ---------------------------------------------------------------------------------------------------------------------
# Published numbers


def many_starts(minimum, second, rate, excesses, count=30):
    """Starts beside minima above the edge, both sides, small and large."""
    generator = np.random.default_rng(7)
    total = (2 + generator.uniform(*excesses, count)) / (second * rate)
    imbalance = np.sqrt(total**2 - 4 * minimum**2)
    product = minimum + generator.choice([-1, 1], count) * 10 ** generator.uniform(-4, -1.5, count)
    y = np.sqrt((imbalance + np.sqrt(imbalance**2 + 4 * product**2)) / 2)
    return product / y, y


@pytest.mark.parametrize(
    ("outer", "rate", "gap", "tolerance", "steps"),
    [
        ("quartic", 0.01, 0.4996, 0.001, 500_000),
        ("quartic", 0.02, 0.4984, 0.001, 120_000),
        ("quartic", 0.05, 0.490, 0.002, 20_000),
        ("quartic", 0.1, 0.4615, 0.002, 5000),
        ("log_cosh", 0.1, 1.505, 0.005, 3000),
        ("log_cosh", 0.02, 1.500, 0.001, 60_000),
        ("square_root", 0.05, 1.001, 0.003, 20_000),
    ],
)
def test_thirty_starts_end_at_one_gap(outer, rate, gap, tolerance, steps):
    model = ProductLoss(outer, target=1.0 if outer == "quartic" else 0.0)
    x, y = many_starts(model.target, model.derivatives[0], rate, (0.1, 0.3))
    data = product_orbits(model, x, y, rate, steps=steps)
    assert (data.outcome == Outcome.CONVERGED).all()
    measured = data.gap.values / rate
    np.testing.assert_allclose(measured, gap, atol=tolerance)
    assert np.ptp(measured) < tolerance
    drift = gap_drift(rate, model.target, *model.derivatives)
    np.testing.assert_allclose(data.gap, end_gap(rate, drift), rtol=1.1 * drift)


def test_the_four_factor_model_of_zhu_ends_where_its_coupled_map_does_and_from_other_starts_too():
    x, y = many_starts(1.0, 2.0, 0.05, (0.1, 0.3))
    coupled = product_orbits(ProductLoss("quartic", target=1.0), x, y, 0.05, steps=20_000)
    four = four_factor_orbits(FourFactors(), x, y, x, y, 0.05, steps=20_000)
    np.testing.assert_allclose(four.gap, coupled.gap, rtol=1e-6)
    nearby = four_factor_orbits(FourFactors(), x * 1.01, y, x * 0.99, y, 0.05, steps=20_000)
    assert (nearby.gap > 0).all()


def test_the_two_variable_loss_of_zhu_has_its_edge_at_half_the_learning_rate():
    """Its gradient is twice that of the coupled map: where that one rests, this one ends at 1/eta, not 2/eta."""
    x, y = many_starts(1.0, 2.0, 0.1, (0.1, 0.3))
    four = four_factor_orbits(FourFactors(), x, y, x, y, 0.05, steps=5000)
    two_variable = product_orbits(ProductLoss("quartic", target=1.0), x, y, 2 * 0.05, steps=5000)
    assert (four.gap > 15).all()
    np.testing.assert_allclose(two_variable.sharpness, 1 / 0.05 - 0.0461, atol=2e-3)


def test_uv_orbits_just_below_the_critical_rate_end_where_both_laws_say():
    """q = 0.99 and 0.995 from e_0 = 0.1: final l = 1.99070 and 1.99518, predicted 1.98985 and 1.99496."""
    for q, measured, predicted in ((0.99, 1.99070, 1.98985), (0.995, 1.99518, 1.99496)):
        total = 2.1
        imbalance = math.sqrt(total**2 - 4 * q**2)
        y = math.sqrt((imbalance + math.sqrt(imbalance**2 + 4 * (q + 1e-3) ** 2)) / 2)
        data = product_orbits(ProductLoss("square", target=q), (q + 1e-3) / y, y, 1.0, steps=60_000)
        assert data.sharpness.item() == pytest.approx(measured, abs=1e-4)
        drift = gap_drift(1.0, q, 1.0, 0.0, 0.0)
        assert 2 - end_gap(1.0, drift) == pytest.approx(predicted, abs=1e-5)
        assert final_excess(q) == pytest.approx(-drift / 2, rel=1e-12)


def test_second_order_regression_with_opposite_eigenvalues_is_the_uv_network():
    """f' = f - eta lambda r + eta^2 kappa f r^2, lambda' = lambda + eta kappa r (eta lambda r - 4 f)."""
    output, ntk, target, kappa, rate = 0.3, 2.6, 1.0, 0.05, 0.9
    root = kappa**0.5
    state = output - target, ntk, 2 * kappa * output
    data = second_order_orbits(*state, rate, first=root, second=-root, steps=200, record=[20, 200])
    found = []
    for _ in range(200):
        r = output - target
        output, ntk = (
            output - rate * ntk * r + rate**2 * kappa * output * r**2,
            ntk + rate * kappa * r * (rate * ntk * r - 4 * output),
        )
        found.append((r, ntk))
    assert data.ntk.values == pytest.approx([found[19][1], found[199][1]], rel=1e-9)
    assert (data.outcome == Outcome.CONVERGED).all()
    assert float(data.ntk[-1]) < 2 / rate < 2.6


def test_small_asymmetry_leaves_the_kernel_close_below_the_edge():
    """Agarwala et al.: with eigenvalues 1 and -eps an open set of starts ends slightly below 2/eta."""
    generator = np.random.default_rng(3)
    positive, negative = generator.uniform(1.0, 1.6, 200) ** 2, generator.uniform(5.0, 60.0, 200) ** 2
    second = -0.005
    ntk, moment = positive + second**2 * negative, positive + second**3 * negative
    residual = 0.5 * (positive + second * negative)
    data = second_order_orbits(residual, ntk, moment, 1.0, first=1.0, second=second, steps=20_000)
    ended = data.ntk.values[(data.outcome == Outcome.CONVERGED).values].ravel()
    assert ended.size > 50
    assert (ended < 2).all()
    assert np.mean(ended > 1.9) > 0.1


def test_the_budget_and_the_simulation_agree_on_where_a_run_ends():
    """The last two lines of the budget, with the run of the simulation in place of the iterated step."""
    rates = np.array([0.1, 0.2])
    y = np.sqrt(np.sqrt((2.3 / rates) ** 2 - 4))
    model = ProductLoss("log_cosh", target=1.0)
    for k, rate in enumerate(rates):
        run = product_orbits(model, 0.0, y[k], rate, steps=4000)
        error = (2 / rate) / run.sharpness.item() - 1
        budget = error_budget(rates).error.sel(approximation="central flow")
        assert float(budget[k]) == pytest.approx(error, rel=1e-4)


def test_the_cycle_of_the_simulation_has_its_period_and_variance():
    data = self_stabilization_orbits(
        SelfStabilization(), 1.05 * 2**0.5, 200.0, 0.01, steps=1400, record=np.arange(1401)
    )
    excess = data.curvature.values - 200
    up = np.flatnonzero((excess[:-1] < 0) & (excess[1:] >= 0))
    assert np.diff(up) == pytest.approx(444, abs=2)
    assert float((data.x[up[0] : up[-1]] ** 2).mean()) == pytest.approx(2, abs=0.02)
    assert data.attrs["source"] == "damian2022"
