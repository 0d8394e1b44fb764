"""What comes back of what goes in, as a checker of types sees it and as it is when it is run.

``assert_type`` fails on ``Any``; ``number``, ``array`` and ``labelled`` look at the value itself.
"""

from __future__ import annotations

from typing import TypeAlias, assert_type

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.models import deep_linear, edge_of_stability, schedules, uv
from sgdynamics.models.quadratic import FiniteSumQuadratic, MiniBatchQuadratic
from sgdynamics.registry import BibTeX, Formulas
from sgdynamics.theory import break_even, quadratic, sharpest_directions
from sgdynamics.theory import schedules as laws
from sgdynamics.theory import uv as uv_laws

Array: TypeAlias = NDArray[np.float64]

PLAIN, WHOLE = np.array([0.1, 0.2]), np.arange(1, 4)
LABELLED = xr.DataArray([0.1, 0.2], dims="gain")
ALONG_STEPS = xr.DataArray([0.1, 0.2], dims="step")


def number(value: float) -> None:
    assert isinstance(value, float)


def array(value: Array) -> None:
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.float64


def labelled(value: xr.DataArray) -> None:
    assert isinstance(value, xr.DataArray)


def formulas() -> None:
    """Every formula has the type of the same class: these stand for all."""
    number(assert_type(quadratic.stationary_variance(0.1), float))
    number(assert_type(quadratic.stationary_variance(1, momentum=0.9, nesterov=True), float))
    number(assert_type(quadratic.stationary_variance(np.float64(0.1)), float))
    array(assert_type(quadratic.ema_variance(PLAIN, 0.9), Array))
    array(assert_type(quadratic.ema_variance([0.1, 0.2], beta=0.9), Array))
    array(assert_type(quadratic.steps_for_batch(4, WHOLE), Array))
    labelled(assert_type(quadratic.ema_variance(LABELLED, 0.9), xr.DataArray))
    labelled(assert_type(quadratic.ema_variance(0.1, beta=LABELLED), xr.DataArray))
    number(assert_type(uv_laws.c_loss(0.05, "ntk"), float))
    number(assert_type(uv_laws.c_max(0.05, units="hessian"), float))
    number(assert_type(break_even.batch_variance_factor(100, 10), float))
    number(assert_type(sgdynamics.theory.quadratic.stationary_variance(0.1), float))


def arrays_along_steps() -> None:
    array(assert_type(schedules.constant(0.1, 3), Array))
    array(assert_type(schedules.linear(1, 3, final=0.5), Array))
    array(assert_type(schedules.cosine(PLAIN, 3), Array))
    array(assert_type(schedules.warmup_stable_decay([0.1, 0.2], 4, 1, 2, shape="cosine"), Array))
    array(assert_type(schedules.step_decay(0.1, 4, factor=0.5, every=2), Array))
    array(assert_type(schedules.inverse_sqrt(0.1, 4, warmup=2), Array))
    array(assert_type(schedules.power_decay(0.1, 4, exponent=2.0), Array))
    array(assert_type(schedules.ema(0.9, 4), Array))
    labelled(assert_type(schedules.linear(LABELLED, 3), xr.DataArray))
    labelled(assert_type(schedules.linear(0.1, 3, final=LABELLED), xr.DataArray))
    labelled(assert_type(schedules.step_decay(0.1, 4, factor=LABELLED, every=2), xr.DataArray))
    labelled(assert_type(schedules.ema(beta=LABELLED, steps=4), xr.DataArray))


def averages_and_gains() -> None:
    average = schedules.tail(2, points=2)
    array(assert_type(laws.average_to_gains(average, 0.1), Array))
    array(assert_type(laws.gains_to_average([0.1, 0.2], base_gains=PLAIN), Array))
    labelled(assert_type(laws.average_to_gains(average, LABELLED), xr.DataArray))
    labelled(assert_type(laws.gains_to_average(ALONG_STEPS, 0.3), xr.DataArray))
    array(assert_type(laws.gains_from_weights(0.5, [0.25, 0.25]), Array))
    array(assert_type(laws.wsm_average([0.5, 0.25]), Array))
    labelled(assert_type(laws.wsm_average(ALONG_STEPS), xr.DataArray))
    array(assert_type(laws.binomial_average(PLAIN), Array))
    start, weights = laws.center_weights(PLAIN)
    assert_type(start, float | Array)
    array(assert_type(weights, Array))
    for part in laws.center_weights(ALONG_STEPS):
        labelled(assert_type(part, xr.DataArray))
    array(assert_type(laws.average_center_weights(average, 0.1)[1], Array))
    labelled(assert_type(laws.average_center_weights(average, LABELLED)[1], xr.DataArray))
    array(assert_type(laws.schedule_free_weights(PLAIN, 0.9)[1], Array))
    labelled(assert_type(laws.schedule_free_weights(PLAIN, LABELLED)[0], xr.DataArray))


def maps_of_numbers() -> None:
    for given in (uv.function_step(0.1, 1.0, 0.5, kappa=1.0), uv.cone_step(1.0, 1.0, 0.1), uv_laws.two_cycle(1.1)):
        number(assert_type(given, tuple[float, float])[0])
    array(assert_type(uv.to_cone(PLAIN, 1.0, 0.5, kappa=1.0)[0], Array))
    labelled(assert_type(uv.from_cone(LABELLED, 1.0, 0.5, kappa=1.0)[1], xr.DataArray))
    labelled(assert_type(uv.log_cone_step(0.1, LABELLED, 0.1)[0], xr.DataArray))
    number(assert_type(uv.hessian_eigenvalues(0.1, 1.0, target=0.0, kappa=1.0), tuple[float, float])[0])
    labelled(assert_type(uv.hessian_eigenvalues(LABELLED, 1.0, target=0.0, kappa=1.0)[0], xr.DataArray))
    number(assert_type(uv_laws.catapult_final_ntk(2.5), float))
    labelled(assert_type(uv_laws.jacobian(0.0, LABELLED, 0.5)[0][0], xr.DataArray))
    number(assert_type(quadratic.average_variance(0.1, [0.5, 0.5]), float))
    labelled(assert_type(quadratic.average_variance(LABELLED, [0.5, 0.5]), xr.DataArray))
    second = edge_of_stability.second_order_sharpness(LABELLED, 1.0, 0.5, first=1.0, second=-1.0)
    labelled(assert_type(second, xr.DataArray))
    product = edge_of_stability.ProductLoss("square")
    number(assert_type(product.loss(1.0, 2.0), float))
    labelled(assert_type(product.sharpness(1.0, LABELLED), xr.DataArray))
    array(assert_type(product.gradient(PLAIN, 2.0)[0], Array))
    array(assert_type(product.hessian(1.0, 2.0), Array))
    number(assert_type(edge_of_stability.SelfStabilization(1.0).step(0.1, 2.0, 1.0), tuple[float, float])[0])


def laws_of_models() -> None:
    """Of random Hessians numbers come back; a swept diagonal model gives what it spans."""
    model = FiniteSumQuadratic([0.5, 1.5])
    reshuffled = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    number(assert_type(quadratic.mean_edge(model), float))
    number(assert_type(quadratic.second_moment_edge(model, momentum=0.5), float))
    number(assert_type(quadratic.almost_sure_edge(model), float))
    number(assert_type(quadratic.tail_index(model, 1.45), float))
    number(assert_type(quadratic.mean_square_growth(model, 1.0), float))
    labelled(assert_type(quadratic.mean_square_growth(model, LABELLED), xr.DataArray))
    number(assert_type(quadratic.reshuffled_growth(reshuffled, 1.0), float))
    labelled(assert_type(quadratic.reshuffled_edge(reshuffled, momentum=LABELLED), xr.DataArray))
    assert_type(quadratic.optimal_schedule(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), 3), Array | xr.DataArray)
    array(assert_type(deep_linear.balanced_chain(9.0, 2), Array))
    labelled(assert_type(deep_linear.balanced_chain(LABELLED, 2), xr.DataArray))
    labelled(assert_type(sharpest_directions.overshoots(0.1, LABELLED, 1.0, 1.0), xr.DataArray))
    assert isinstance(assert_type(sharpest_directions.increases(0.1, 8.0, 1.0, 1.0), np.bool), np.bool)


def the_library() -> None:
    assert_type(sgdynamics.formulas(), Formulas)
    assert_type(sgdynamics.citation(quadratic.stationary_variance), BibTeX)


ALL = (formulas, arrays_along_steps, averages_and_gains, maps_of_numbers, laws_of_models, the_library)
