"""The public functions that are not formulas, on labelled and lazy input: a sweep is its cells, and stays lazy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from sgdynamics.models import schedules
from sgdynamics.models import uv as uv_model
from sgdynamics.models.break_even import SelfStabilizingModes
from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain
from sgdynamics.models.edge_of_stability import ProductLoss
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.simulate import break_even as simulated_break_even
from sgdynamics.simulate import edge_of_stability
from sgdynamics.simulate.deep_linear import chain_trajectory, network_trajectory
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.simulate.uv import bifurcation, lyapunov, phase_diagram, trajectory
from sgdynamics.theory import break_even, quadratic, uv
from sgdynamics.theory import schedules as averages

STEPS = 6
NEURON = ProductLoss("log_cosh")
POINTS = [0.1, 0.4, 0.7]
MODEL = MiniBatchQuadratic([1.0, 0.3], [0.5, 2.0], displacement=[1.0, -0.5], batch_size=2)
FULL = FullQuadratic([[1.0, 0.3], [0.3, 0.5]], [[1.0, -0.2], [-0.2, 2.0]], displacement=1.0)
EXAMPLES = FiniteSumQuadratic([np.diag([0.5, 1.0]), [[1.0, 0.3], [0.3, 0.2]]], [[1.0, 0.0], [0.0, 1.0]])
SCALARS = FiniteSumQuadratic([0.5, 1.5])
RESHUFFLED = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
REGRESSION = GaussianLeastSquares([1.0, 0.5], 0.1, displacement=1.0)
CLIPPED = SelfStabilizingModes(np.ones((4, 2)), sharpening=[0.02, 0.01], batch_size=4)
RATES = schedules.linear(0.5, STEPS)


def model(displacement):
    """A model that is swept over a scalar."""
    modes = displacement * xr.DataArray([1.0, -0.5], dims="mode") if isinstance(displacement, xr.DataArray) else None
    return MiniBatchQuadratic(
        [1.0, 0.3],
        [0.5, 2.0],
        displacement=modes if modes is not None else displacement * np.array([1.0, -0.5]),
        batch_size=2,
    )


def chain(scale):
    """Weights of a chain that is swept over their scale."""
    weights = np.array([1.0, 2.0, 0.5])
    return scale * (xr.DataArray(weights, dims="layer") if isinstance(scale, xr.DataArray) else weights)


# Every function as one of a number that may be swept: what it does to a float it must do to every cell.
CASES = {
    "constant": lambda point: schedules.constant(point, STEPS),
    "linear": lambda point: schedules.linear(point, STEPS, final=0.1),
    "linear, final": lambda point: schedules.linear(0.1, STEPS, final=point),
    "cosine": lambda point: schedules.cosine(point, STEPS),
    "step_decay": lambda point: schedules.step_decay(point, STEPS, 0.5, 2),
    "step_decay, factor": lambda point: schedules.step_decay(0.5, STEPS, point, 2),
    "warmup_stable_decay": lambda point: schedules.warmup_stable_decay(point, STEPS, 2, 2),
    "power_decay": lambda point: schedules.power_decay(point, STEPS, 2.0),
    "inverse_sqrt": lambda point: schedules.inverse_sqrt(point, STEPS, 2),
    "ema": lambda point: schedules.ema(point, STEPS),
    "center_weights": lambda point: averages.center_weights(schedules.linear(point, STEPS)),
    "gains_from_weights": lambda point: averages.gains_from_weights(
        *averages.center_weights(schedules.linear(point, STEPS, final=0.1))
    ),
    "average_to_gains": lambda point: averages.average_to_gains(schedules.ema(point, STEPS), 0.3),
    "average_to_gains, base": lambda point: averages.average_to_gains(schedules.ema(0.5, STEPS), point),
    "average_to_gains, both": lambda point: averages.average_to_gains(
        schedules.ema(point, STEPS), schedules.constant(point, STEPS)
    ),
    "gains_to_average": lambda point: averages.gains_to_average(schedules.linear(point, STEPS), 0.8),
    "average_center_weights": lambda point: averages.average_center_weights(
        schedules.ema(0.5, STEPS), 0.3, momentum=point
    ),
    "wsm_average": lambda point: averages.wsm_average(schedules.linear(point, STEPS)),
    "binomial_average": lambda point: averages.binomial_average(schedules.linear(point, STEPS)),
    "schedule_free_weights": lambda point: averages.schedule_free_weights(schedules.constant(0.3, STEPS), point),
    "moments, schedule": lambda point: quadratic.moments(MODEL, schedules.linear(point, STEPS), record=[0, 3, STEPS]),
    "moments, model": lambda point: quadratic.moments(model(point), RATES),
    "moments, average": lambda point: quadratic.moments(MODEL, RATES, average=schedules.ema(point, STEPS)),
    "moments, momentum": lambda point: quadratic.moments(MODEL, RATES, momentum=point),
    "stationary": lambda point: quadratic.stationary(MODEL, point),
    "stability": lambda point: quadratic.stability(MODEL, point, momentum=0.5),
    "moments, full": lambda point: quadratic.moments(FULL, schedules.linear(point, STEPS), record=[0, 3, STEPS]),
    "moments, examples": lambda point: quadratic.moments(EXAMPLES, RATES, average=schedules.ema(point, STEPS)),
    "moments, regression": lambda point: quadratic.moments(REGRESSION, RATES, momentum=point),
    "stationary, full": lambda point: quadratic.stationary(FULL, point, momentum=0.5),
    "stationary, examples": lambda point: quadratic.stationary(EXAMPLES, point),
    "stationary, regression": lambda point: quadratic.stationary(REGRESSION, 0.1, momentum=point),
    "autocovariance": lambda point: quadratic.autocovariance(EXAMPLES, point, [0, 2]),
    "mean_edge": lambda point: quadratic.mean_edge(FULL, momentum=point),
    "second_moment_edge": lambda point: quadratic.second_moment_edge(EXAMPLES, momentum=point),
    "mean_square_growth": lambda point: quadratic.mean_square_growth(EXAMPLES, point),
    "almost_sure_growth": lambda point: quadratic.almost_sure_growth(SCALARS, 2 + point, momentum=0.5),
    "tail_index": lambda point: quadratic.tail_index(SCALARS, 2 + point),
    "reshuffled_growth": lambda point: quadratic.reshuffled_growth(RESHUFFLED, point),
    "greedy_schedule": lambda point: quadratic.greedy_schedule(model(point), STEPS),
    "optimal_schedule": lambda point: quadratic.optimal_schedule(model(point), STEPS),
    "ensemble, schedule": lambda point: ensemble(MODEL, schedules.linear(point, STEPS), replicas=3, seed=0),
    "ensemble, model": lambda point: ensemble(model(point), RATES, replicas=3, seed=0, momentum=0.5),
    "function_step": lambda point: uv_model.function_step(point, 2.0, 0.3, kappa=0.25, target=1.0),
    "cone_step": lambda point: uv_model.cone_step(1.0, point, 0.5),
    "hessian_eigenvalues": lambda point: uv_model.hessian_eigenvalues(point, 2.0, target=1.0, kappa=0.25),
    "hessian_spectrum": lambda point: uv_model.UVNetwork(4, target=1.0).hessian_spectrum(point, 2.0),
    "start": lambda point: uv_model.UVNetwork(4).start(point, point),
    "two_cycle": lambda point: uv.two_cycle(1 + point),
    "fixed_points": lambda point: uv.fixed_points(point),
    "catapult_final_ntk": lambda point: uv.catapult_final_ntk(2 + point),
    "regime": lambda point: uv.regime(5 * point, 16, target=1.0),
    "regime, target": lambda point: uv.regime(1.5, 16, target=point, units="ntk", alignment=0.1),
    "break_even.ensemble, rate": lambda point: simulated_break_even.ensemble(
        CLIPPED, point, steps=5, replicas=2, seed=0
    ),
    "break_even.ensemble, nudge": lambda point: simulated_break_even.ensemble(
        CLIPPED, 0.1, steps=5, replicas=2, seed=0, nudge=point, nudged=1
    ),
    "product_orbits, rate": lambda point: edge_of_stability.product_orbits(NEURON, 0.5, 2.0, point, steps=STEPS),
    "product_orbits, start": lambda point: edge_of_stability.product_orbits(NEURON, point, 2.0, 0.1, steps=STEPS),
    "ensemble, average": lambda point: ensemble(MODEL, RATES, replicas=3, seed=0, average=schedules.ema(point, STEPS)),
    "trajectory": lambda point: trajectory(point, 2.0, 0.5, kappa=1.0, target=1.0, steps=5),
    "phase_diagram": lambda point: phase_diagram([0.5, 2.5], [4, 16], steps=20, seeds=3, target=point),
    "lyapunov": lambda point: lyapunov(point, steps=20),
    "bifurcation": lambda point: bifurcation(point, transient=5, keep=3, imbalance=0.1),
    "clipped_modes, rate": lambda point: break_even.clipped_modes(CLIPPED, point, 1500.0),
    "clipped_modes, time": lambda point: break_even.clipped_modes(CLIPPED, 0.1, 2000 * point),
    "chain, weights": lambda point: chain_trajectory(ScalarChain(1.5), chain(point), 0.1, steps=STEPS),
    "chain, target": lambda point: ScalarChain(point).sharpness([1.0, 2.0, 0.5]),
    "chain_trajectory, rate": lambda point: chain_trajectory(ScalarChain(1.0), [1.0, 1.5], point, steps=STEPS),
    "chain_trajectory, target": lambda point: chain_trajectory(ScalarChain(point), [1.0, 1.5], 0.2, steps=STEPS),
    "network_trajectory": lambda point: network_trajectory(
        DeepLinearNetwork([[1.0, 0.5]]), [[[1.0, 0.2], [0.1, 0.3]], [[0.5, 1.0]]], point, steps=STEPS
    ),
}


def variables(result) -> list:
    """The parts of a result, in order; a Dataset by its variables."""
    if isinstance(result, xr.Dataset):
        return [result[name] for name in result.data_vars]
    return list(result) if isinstance(result, tuple) else [result]


def swept():
    return xr.DataArray(POINTS, dims="point", coords={"point": POINTS})


@pytest.mark.parametrize("name", CASES)
def test_a_labelled_sweep_is_its_cells(name):
    parts = variables(CASES[name](swept()))
    for place, point in enumerate(POINTS):
        for part, alone in zip(parts, variables(CASES[name](point)), strict=True):
            if "point" not in part.dims:
                continue  # what does not depend on the swept parameter, for instance the floor
            cell = part.isel(point=place)
            assert cell.point == point
            np.testing.assert_allclose(cell.values, np.asarray(alone), rtol=1e-13, atol=1e-15)
    assert any("point" in part.dims for part in parts)


@pytest.mark.parametrize("name", CASES)
def test_a_lazy_sweep_stays_lazy_and_has_the_same_bits(name):
    eager = variables(CASES[name](swept()))
    lazy = variables(CASES[name](swept().chunk(point=2)))
    for one, other in zip(lazy, eager, strict=True):
        if "point" in other.dims:
            assert one.chunks is not None
        xr.testing.assert_identical(one.compute().transpose(*other.dims), other)


PLAIN = (*schedules.__all__, "center_weights", "gains_from_weights", "wsm_average", "binomial_average")


@pytest.mark.parametrize("name", [name for name in CASES if name.split(",")[0] in PLAIN])
def test_arrays_sweep_along_their_own_axes_where_no_label_is_needed(name):
    for part, labelled in zip(variables(CASES[name](np.array(POINTS))), variables(CASES[name](swept())), strict=True):
        np.testing.assert_allclose(part, labelled.values, rtol=1e-14)


def test_steps_are_labelled():
    rates = schedules.linear(swept(), STEPS)
    assert rates.step.values.tolist() == list(range(1, STEPS + 1))
    weights = averages.gains_to_average(rates, 0.8)
    assert weights.step.values.tolist() == list(range(STEPS + 1))
    data = quadratic.moments(MODEL, rates, record=[0, 3])
    assert data.step.values.tolist() == [0, 3]
    assert data.excess_risk.dims == ("point", "step")
    assert data.variance.dims == ("point", "step", "mode")


def test_a_result_survives_a_file(tmp_path):
    for name in ("moments, schedule", "stationary", "stability", "ensemble, schedule"):
        data = CASES[name](swept())
        path = tmp_path / f"{name}.nc"
        data.to_netcdf(path, engine="h5netcdf")
        with xr.open_dataset(path, engine="h5netcdf") as read:
            xr.testing.assert_equal(read.load(), data)
