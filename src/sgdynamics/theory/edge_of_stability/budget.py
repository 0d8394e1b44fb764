r"""What each continuous-time approximation gets wrong, and with which power of the learning rate.

The discrete map is iterated here with the exact steps of the models, so that the budget is a number of theory alone;
figures and tests hold it against the simulations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import Interval, Numeric, checked, complain, positive
from sgdynamics.formula import law
from sgdynamics.models.edge_of_stability import ProductLoss
from sgdynamics.theory.edge_of_stability.approximations import (
    gradient_flow,
    modified_flow,
    ornstein_uhlenbeck_variance,
)
from sgdynamics.theory.edge_of_stability.central_flow import central_flow
from sgdynamics.theory.edge_of_stability.end_gap import end_gap, gap_drift

Array = NDArray[np.float64]

# The smooth comparisons are made at this time. The quadratic starts far out, so that the error of the drift is not
# masked by that of the noise, which has the other sign; the sharpness of the run below the edge stays below 5.
TIME = 2.0
DISPLACEMENT = 10.0
BELOW = (1.0, 1.5)
# Excess of the minimum that gradient flow would reach, for the runs that meet the edge.
EXCESS = 0.3
TARGET = 1.0

_LOG_COSH = ProductLoss("log_cosh")
_SHIFTED = ProductLoss("log_cosh", target=TARGET)

rates_of_the_budget: Interval = Interval("a number in [0.01, 0.3]", low=0.01, high=0.3, low_open=False, high_open=False)


class _Line(NamedTuple):
    """One approximation: its name, the model, what its error is an error of, the order theory gives."""

    name: str
    model: str
    quantity: str
    order: float


_LINES = (
    _Line("gradient flow, quadratic", "quadratic", "iterate", 1),
    _Line("modified flow, quadratic", "quadratic", "iterate", 2),
    _Line("stochastic differential equation", "noisy quadratic", "expected excess risk", 1),
    _Line("modified stochastic differential equation", "noisy quadratic", "expected excess risk", 2),
    _Line("gradient flow, product", "log cosh of a product, below the edge", "iterate", 1),
    _Line("modified flow, product", "log cosh of a product, below the edge", "iterate", 2),
    _Line("central flow", "log cosh of a product, beyond the edge", "final sharpness", 2),
    _Line("central flow and end gap", "log cosh of a product, beyond the edge", "final sharpness", 4),
)


def _product(model: ProductLoss) -> tuple[Callable[[Array], float], Callable[[Array], Array], Callable[[Array], Array]]:
    """Loss, gradient and Hessian of weights as one vector."""
    return (
        lambda w: float(model.loss(w[0], w[1])),
        lambda w: np.array(model.gradient(w[0], w[1])),
        lambda w: np.asarray(model.hessian(w[0], w[1])),
    )


def _on_the_quadratic(rate: float, steps: int) -> list[float]:
    """Curvature 1, batch centers of variance 1: the two flows, then the two diffusions."""
    time = rate * steps
    mean, variance = DISPLACEMENT, 0.0
    for _ in range(steps):
        mean, variance = (1 - rate) * mean, (1 - rate) ** 2 * variance + rate**2
    pulls = (1.0, 1 + rate / 2)
    flows = [DISPLACEMENT * math.exp(-pull * time) for pull in pulls]
    risks = [
        0.5 * (flow**2 + float(ornstein_uhlenbeck_variance(pull, rate, time)))
        for flow, pull in zip(flows, pulls, strict=True)
    ]
    exact = 0.5 * (mean**2 + variance)
    return [*(abs(flow / mean - 1) for flow in flows), *(abs(risk / exact - 1) for risk in risks)]


def _below_the_edge(rate: float, steps: int) -> list[float]:
    x, y = BELOW
    for _ in range(steps):
        x, y = _LOG_COSH.step(x, y, rate)
    _, gradient, hessian = _product(_LOG_COSH)
    flows = (
        gradient_flow(gradient, BELOW, rate * steps),
        modified_flow(gradient, hessian, BELOW, rate, rate * steps),
    )
    return [float(np.hypot(flow[0] - x, flow[1] - y) / np.hypot(x, y)) for flow in flows]


def _edge_start(rate: Array) -> tuple[Array, Array]:
    """A point of product 0 whose gradient flow ends at a minimum that is too sharp by ``EXCESS``."""
    total = (2 + EXCESS) / rate  # x^2 + y^2 at that minimum
    imbalance = np.sqrt((total - 2 * TARGET) * (total + 2 * TARGET))
    return np.zeros_like(rate), np.sqrt(imbalance)


def _beyond_the_edge(rates: Array) -> list[Array]:
    x, y = _edge_start(rates)
    starts = np.stack([x, y], axis=1)
    drift = gap_drift(rates, TARGET, *_SHIFTED.derivatives)
    # the descent to the edge takes about 2 EXCESS/rho steps, the oscillation then dies like exp(-rho k / 2)
    for _ in range(math.ceil(40 / float(np.min(drift)))):
        x, y = _SHIFTED.step(x, y, rates)
    measured = _SHIFTED.sharpness(x, y)
    fields = _product(_SHIFTED)
    flow = np.array(
        [
            float(central_flow(*fields, start, rate, steps=40).sharpness[-1])
            for start, rate in zip(starts, rates, strict=True)
        ]
    )
    return [abs(value / measured - 1) for value in (flow, flow - end_gap(rates, drift))]


@law(quantity="report")
@checked(learning_rate=rates_of_the_budget)
def error_budget(learning_rate: Numeric) -> xr.Dataset:
    r"""Relative errors of the continuous-time approximations against the exact discrete map, and their orders.

    ============================================  =========================================================  =======
    approximation                                 compared with                                              order
    ============================================  =========================================================  =======
    gradient flow                                 gradient descent on a quadratic and on log cosh(xy), at    1
                                                  time 2
    modified flow                                 the same                                                   2
    stochastic differential equation              expected excess risk of SGD on a noisy quadratic, at       1
                                                  time 2
    the same with the modified drift              the same                                                   2
    central flow                                  final sharpness of gradient descent on log cosh(xy - 1)    2
                                                  that meets the edge
    central flow and end-gap law                  the same                                                   4
    ============================================  =========================================================  =======

    The error of the central flow is the end gap :math:`\rho/4` of the model, relative to :math:`2/\eta`.

    Status: exact errors at the given rates; the orders are asymptotic.

    Parameters
    ----------
    learning_rate : array_like, shape (rates,)
        At least two different rates in [0.01, 0.3]. The smallest one decides the cost.

    Returns
    -------
    Dataset
        ``error`` (approximation, learning_rate), ``fitted_order`` and ``expected_order`` (approximation), with the
        coordinates ``model`` and ``quantity`` along ``approximation``. The order is the slope of a straight line
        through log error against log rate over all rates given.

    Raises
    ------
    ValueError, TypeError
        If the rates are out of range, not 1-D, or all the same.

    Examples
    --------
    >>> budget = error_budget([0.1, 0.2])
    >>> float(budget.fitted_order.sel(approximation="central flow").round(1))
    2.0
    """
    rates = np.asarray(learning_rate, dtype=np.float64)
    if rates.ndim != 1 or np.unique(rates).size < 2:
        raise complain("error_budget", "learning_rate", "a 1-D array of at least two different rates", learning_rate)
    smooth = []
    for rate in rates:
        steps = max(1, round(TIME / rate))
        smooth.append([*_on_the_quadratic(float(rate), steps), *_below_the_edge(float(rate), steps)])
    errors = np.vstack([np.array(smooth).T, *_beyond_the_edge(rates)])
    made = xr.Dataset(
        {
            "error": (
                ("approximation", "learning_rate"),
                errors,
                {"long_name": "relative error", "units": "1"},
            ),
            "expected_order": (
                "approximation",
                [line.order for line in _LINES],
                {"long_name": "order in the learning rate, theory", "units": "1"},
            ),
        },
        coords={
            "approximation": ("approximation", [line.name for line in _LINES], {"long_name": "approximation"}),
            "learning_rate": ("learning_rate", rates, {"long_name": "learning rate", "units": "1/curvature"}),
            "model": ("approximation", [line.model for line in _LINES], {"long_name": "model"}),
            "quantity": ("approximation", [line.quantity for line in _LINES], {"long_name": "quantity"}),
        },
        attrs={"source": "derived", "version": sgdynamics.__version__},
    )
    orders = [fitted_order(rates, row) for row in errors]
    made["fitted_order"] = ("approximation", orders, {"long_name": "order in the learning rate, fitted", "units": "1"})
    return made


@law(quantity="exponent")
@checked(learning_rate=positive, error=positive)
def fitted_order(learning_rate: Numeric, error: Numeric) -> float:
    r"""Slope of the straight line through :math:`\log` error against :math:`\log \eta`, by least squares.

    Status: exact, of the given numbers.

    Parameters
    ----------
    learning_rate, error : array_like, shape (rates,)
        > 0, at least two different rates.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, not 1-D, or lengths disagree.

    Examples
    --------
    >>> round(fitted_order([0.1, 0.2, 0.4], [0.01, 0.04, 0.16]), 6)
    2.0
    """
    rates, errors = np.asarray(learning_rate), np.asarray(error)
    if rates.ndim != 1 or np.unique(rates).size < 2:
        raise complain("fitted_order", "learning_rate", "a 1-D array of at least two different rates", learning_rate)
    if errors.shape != rates.shape:
        raise complain("fitted_order", "error", f"of shape {rates.shape}, one per rate", errors.shape)
    logarithm = np.log(rates) - np.log(rates).mean()
    return float(logarithm @ np.log(errors) / (logarithm @ logarithm))
