"""What a solver returns satisfies the equation that defines it, on random problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, MiniBatchQuadratic
from sgdynamics.theory import break_even, edge_of_stability, quadratic, schedules, uv

Sides = Iterator[tuple[Any, Any]]


def semidefinite(random: Any, size: int, rank: int) -> Any:
    factor = random.normal(size=(size, rank))
    return factor @ factor.T


def matrices(random: Any) -> FiniteSumQuadratic:
    return FiniteSumQuadratic([semidefinite(random, 2, 1 + part % 2) for part in range(4)])


def numbers(random: Any, **options: Any) -> FiniteSumQuadratic:
    return FiniteSumQuadratic(np.exp(random.normal(size=4)), **options)


def modes(random: Any) -> MiniBatchQuadratic:
    curvature, variance, start = np.exp(random.normal(size=(3, 3)))
    return MiniBatchQuadratic(curvature, variance, displacement=start)


def second_moment_edge(random: Any) -> Sides:
    model, momentum = matrices(random), random.uniform(0, 0.99)
    edge = quadratic.second_moment_edge(model, momentum=momentum)
    yield quadratic.mean_square_growth(model, edge, momentum=momentum), 1.0


def reshuffled_edge(random: Any) -> Sides:
    model = numbers(random, sampling="reshuffled", batch_size=2)
    yield quadratic.reshuffled_growth(model, quadratic.reshuffled_edge(model)), 1.0


def almost_sure_edge(random: Any) -> Sides:
    model = numbers(random)
    left = abs(1 - quadratic.almost_sure_edge(model) * model.hessians.ravel())
    yield 1 + np.mean(np.log(left)), 1.0


def tail_index(random: Any) -> Sides:
    model = numbers(random)
    rate = random.uniform(0.2, 0.9) * quadratic.almost_sure_edge(model)
    index = quadratic.tail_index(model, rate)
    if 0 < index < 100:  # infinite where no batch is beyond its own edge
        yield np.mean(abs(1 - rate * model.hessians.ravel()) ** index), 1.0


def stationary(random: Any) -> Sides:
    model = FullQuadratic(semidefinite(random, 2, 3), semidefinite(random, 2, 3))
    rate = 0.5 / np.linalg.eigvalsh(model.hessian)[-1]
    covariance = quadratic.autocovariance(model, rate, [0]).isel(lag=0).values
    step = np.eye(2) - rate * model.hessian
    brought = rate**2 * model.hessian @ model.center_covariance @ model.hessian
    yield step @ covariance @ step.T + brought, covariance


def steps_to_target(random: Any) -> Sides:
    model = modes(random)
    rate = random.uniform(0.05, 0.5) / model.curvature.max()
    risk = quadratic.moments(model, np.full(400, rate), record=np.arange(401)).excess_risk.values
    target = math.sqrt(risk[0] * risk[-1])
    first = int(quadratic.steps_to_target(model, rate, target).first_step)
    if risk.min() < target and first >= 0:
        yield first, int(np.argmax(risk <= target))


def greedy_schedule(random: Any) -> Sides:
    """No other rate brings the risk of the next step lower: the slope is 0."""
    model = modes(random)
    rates = np.asarray(quadratic.greedy_schedule(model, 3))
    second = model.displacement**2
    for rate in rates:
        gain = rate * model.curvature
        slope = model.curvature**2 * (gain * model.center_variance - (1 - gain) * second)
        yield 1 + slope.sum() / abs(slope).sum(), 1.0
        second = (1 - gain) ** 2 * second + gain**2 * model.center_variance


def oscillation_covariance(random: Any) -> Sides:
    """Both matrices semidefinite, their product 0, for random gradients of the curvatures."""
    size, count = random.integers(2, 8), random.integers(1, 4)
    gradient, raw = random.normal(size=size), random.normal(size=(count, count, size))
    bends = (raw + raw.swapaxes(0, 1)) / 2
    made = edge_of_stability.oscillation_covariance(gradient, bends)
    free = bends @ gradient
    rest = free + np.einsum("ijn,kln,kl->ij", bends, bends, made) / 2
    scale = abs(free).max()
    yield 1 + min(np.linalg.eigvalsh(rest)[0] / scale, 0), 1.0
    yield 1 + min(np.linalg.eigvalsh(made)[0] / max(abs(made).max(), 1e-300), 0), 1.0
    yield 1 + abs(rest @ made).max() / (scale * max(abs(made).max(), 1e-300)), 1.0


def two_cycle(random: Any) -> Sides:
    q = random.uniform(1.01, 1.9)
    low, high = (float(x) for x in uv.two_cycle(q)[:2])
    yield uv.edge_map(low, q), high
    yield uv.edge_map(high, q), low


def largest_learning_rate(random: Any) -> Sides:
    kappa, ntk, target = np.exp(random.normal(size=3))
    output = random.uniform(-0.49, 0.49) * ntk / math.sqrt(kappa)
    rate = uv.largest_learning_rate(output, ntk, kappa, target)
    yield 1 + uv.escape_margin(output, ntk, rate, kappa, target), 1.0


def c_loss(random: Any) -> Sides:
    rho = random.uniform(0, 0.12)
    yield uv.first_loss_ratio(uv.c_loss(rho), rho), 1.0


def mean_square_edge_gain(random: Any) -> Sides:
    spread = math.exp(random.normal())
    yield quadratic.mean_square_factor(quadratic.mean_square_edge_gain(spread), spread), 1.0


def equivalent_gain(random: Any) -> Sides:
    gain = random.uniform(0.01, 1.9)
    yield quadratic.equivalent_gain(quadratic.stationary_variance(gain)), gain


def gains_from_weights(random: Any) -> Sides:
    gains = random.uniform(0.05, 0.95, size=5)
    start, weights = schedules.center_weights(gains)
    yield schedules.gains_from_weights(start, weights), gains


def gains_to_average(random: Any) -> Sides:
    base, gains = random.uniform(0.3, 0.9, size=4), random.uniform(0.1, 0.3, size=4)
    yield schedules.average_to_gains(schedules.gains_to_average(gains, base), base), gains


def trace_rule_edge(random: Any) -> Sides:
    eigenvalues, factor = np.exp(random.normal(size=3)), 0.25
    edge = break_even.trace_rule_edge(eigenvalues, factor)
    yield np.sum(quadratic.trace_rule_term(edge * eigenvalues, 1 / factor)), 1.0


def kernel_norm_edge(random: Any) -> Sides:
    eigenvalues, factor = np.exp(random.normal(size=3)), 0.25
    edge = break_even.kernel_norm_edge(eigenvalues, factor)
    yield np.sum(break_even.kernel_norm_share(edge * eigenvalues, factor)), 1.0


def break_even_curvature(random: Any) -> Sides:
    alignment, constant = np.exp(random.normal(size=2))
    options = {"batch_size": 4, "examples": 1024, "replacement": False}
    found = break_even.break_even_curvature(0.1, alignment=alignment, path_constant=constant, **options)
    factor = break_even.batch_variance_factor(1024, 4, replacement=False)
    yield break_even.edge_curvature_at_distance(0.1, factor, alignment, constant / found), found


EQUATIONS: dict[str, Callable[[Any], Sides]] = {
    function.__name__: function
    for function in (
        second_moment_edge, reshuffled_edge, almost_sure_edge, tail_index, stationary, steps_to_target, greedy_schedule,
        oscillation_covariance, two_cycle, largest_learning_rate, c_loss, mean_square_edge_gain, equivalent_gain,
        gains_from_weights, gains_to_average, trace_rule_edge, kernel_norm_edge, break_even_curvature,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", EQUATIONS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_solution_satisfies_its_equation(name, seed):
    for made, wanted in EQUATIONS[name](np.random.default_rng(seed)):
        np.testing.assert_allclose(made, wanted, rtol=1e-7, atol=1e-9 * np.max(np.abs(wanted)))
