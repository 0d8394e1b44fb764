"""Deep linear networks, running: kernels against plain Python, theorems along runs, starts against whole matrices."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain, balanced_chain, balanced_network
from sgdynamics.models.schedules import constant
from sgdynamics.outcome import Outcome
from sgdynamics.simulate.deep_linear import (
    chain_flow,
    chain_trajectory,
    initial_ntk,
    initial_weights,
    network_flow,
    network_trajectory,
)
from sgdynamics.simulate.trainer import Objective, network, trajectory
from sgdynamics.theory.deep_linear import (
    balanced_sharpness,
    initial_ntk_moments,
    initial_ntk_variance,
    mode_strength,
    persistent_edge,
    two_layer_strength,
)

# ---------------------------------------------------------------------------------------------------------------------
# Chains


def plain_descent(weights, target, rate, steps):
    """The kernel's arithmetic, in its order, in plain Python."""
    w = [float(value) for value in weights]
    path = [list(w)]
    for _ in range(steps):
        residual = math.prod(w) - target
        after = [1.0]
        for value in w[:0:-1]:
            after.append(after[-1] * value)
        after.reverse()
        before, new = 1.0, []
        for value, rest in zip(w, after, strict=True):
            new.append(value - rate * (residual * (before * rest)))
            before *= value
        w = new
        path.append(list(w))
    return np.array(path)


@settings(max_examples=30)
@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=5), st.floats(-2.0, 2.0), st.floats(0.0, 0.3))
def test_the_kernel_has_the_bits_of_plain_python(weights, target, rate):
    runs = chain_trajectory(ScalarChain(target), weights, rate, steps=30, record=range(31))
    alive = 31 if int(runs.divergence_step) < 0 else int(runs.divergence_step)
    expected = plain_descent(weights, target, rate, alive - 1)
    np.testing.assert_array_equal(runs.weight.values[:alive], expected)
    assert np.isinf(runs.weight.values[alive:]).all()


def test_a_chain_of_ones_is_the_trainers_network():
    for depth, rate in ((2, 0.5), (4, 0.2), (5, 0.35)):
        net = network([1] * (depth + 1), "linear", biases=False, seed=depth)
        start = net.flat()
        objective = Objective(net, [[1.0]], [[0.7]], "mse")
        trained = trajectory(objective, constant(rate, 100), record=np.arange(101), keep_weights=True)
        runs = chain_trajectory(ScalarChain(0.7), start, rate, steps=100, record=range(101))
        np.testing.assert_allclose(runs.weight.values, trained.weights.values, rtol=0, atol=1e-10)
        np.testing.assert_allclose(runs.loss.values, trained.loss.values, rtol=0, atol=1e-10)


def test_sweeps_are_their_cells_whatever_the_threads_and_chunks(monkeypatch):
    random = np.random.default_rng(0)
    weights = random.uniform(0.3, 1.5, (300, 3))
    target = xr.DataArray([0.5, 1.5], dims="target")
    rates = np.array([0.1, 0.4, 1.5])
    monkeypatch.setenv("SGDYNAMICS_THREADS", "1")
    one = chain_trajectory(ScalarChain(target), weights, rates, steps=20, record=[0, 7, 20])
    monkeypatch.setenv("SGDYNAMICS_THREADS", "3")
    three = chain_trajectory(ScalarChain(target), weights, rates, steps=20, record=[0, 7, 20])
    xr.testing.assert_identical(one, three)
    assert dict(one.sizes) == {"replica": 300, "target": 2, "learning_rate": 3, "step": 3, "layer": 3}
    alone = chain_trajectory(ScalarChain(1.5), weights[250], 0.4, steps=20, record=[0, 7, 20])
    cell = one.isel(replica=250, target=1, learning_rate=1)
    for name in alone.data_vars:
        np.testing.assert_array_equal(cell[name].values, alone[name].values)
    lazy = chain_trajectory(
        ScalarChain(target.chunk(target=1)),
        xr.DataArray(weights, dims=("replica", "layer")).chunk(replica=100),
        rates,
        steps=20,
        record=[0, 7, 20],
    )
    assert lazy.loss.chunks is not None
    xr.testing.assert_identical(lazy.compute().transpose(*one.dims), one.transpose(*one.dims))


def test_divergence_is_a_result():
    runs = chain_trajectory(ScalarChain(1.0), [2.0, 1.0, 1.0], [0.1, 5.0, 1e200], steps=50)
    assert runs.outcome.values.tolist() == [Outcome.CONVERGED, Outcome.DIVERGED, Outcome.DIVERGED]
    assert runs.divergence_step.values[0] == -1
    for name in ("loss", "sharpness", "flow_sharpness", "imbalance", "output"):
        values = runs[name].isel(learning_rate=slice(1, None))
        assert not np.isnan(values).any()
        assert np.isinf(values.isel(step=-1)).all()
    assert runs.outcome.dtype == np.int8
    assert runs.divergence_step.dtype == np.int32
    single = chain_trajectory(ScalarChain(1.0), [1.5], 2.1, steps=400)  # one layer grows only geometrically
    assert Outcome(int(single.outcome)) is Outcome.DIVERGED


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_the_balanced_chain_converges_below_its_edge_and_cycles_above(depth):
    start = 1.01 * balanced_chain(1.0, depth)
    edge = persistent_edge(1.0, depth)
    assert edge == 2 / depth
    runs = chain_trajectory(
        ScalarChain(1.0), start, np.array([1.95, 2.05]) / depth, steps=4000, record=[3998, 3999, 4000]
    )
    assert runs.outcome.values.tolist() == [Outcome.CONVERGED, Outcome.UNSETTLED]
    assert float(runs.sharpness[0, -1]) == pytest.approx(balanced_sharpness(1.0, depth), rel=1e-9)
    cycle = runs.output.values[1]
    assert cycle[-1] == pytest.approx(cycle[-3], abs=1e-9)
    assert abs(cycle[-1] - cycle[-2]) > 0.1


def monotone_steps(seed, depth, starts, low, high, steps):
    """Ratios of S over steps from eta S in (1.5, 2.82) and positive weights; then those that end with another sign."""
    random = np.random.default_rng(seed)
    weights = random.uniform(low, high, (starts, depth))
    scaled = random.uniform(1.5, 2.82, starts)
    model = ScalarChain(1.0)
    rates = xr.DataArray(scaled / model.flow_sharpness(weights), dims="start")
    runs = chain_trajectory(
        model, xr.DataArray(weights, dims=("start", "layer")), rates, steps=steps, record=range(steps + 1)
    )
    flow, weight = (runs[name].transpose("start", "step", ...).values for name in ("flow_sharpness", "weight"))
    inside = (weight > 0).all(axis=-1) & np.isfinite(flow)
    scaled = flow * rates.values[:, None]
    eligible = (scaled[:, :-1] > 1.5) & (scaled[:, :-1] < 2.82) & np.isfinite(flow[:, 1:]) & inside[:, :-1]
    with np.errstate(invalid="ignore"):
        ratio = flow[:, 1:] / flow[:, :-1]
    return ratio[eligible & inside[:, 1:]], ratio[eligible & ~inside[:, 1:]]


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize(("low", "high"), [(0.8, 1.2), (0.3, 1.0)])
def test_descent_does_not_raise_the_sharpness_of_the_flow_solution(depth, low, high):
    ratios, _ = monotone_steps(depth, depth, starts=150, low=low, high=high, steps=60)
    assert ratios.size > 1000
    assert ratios.max() <= 1 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_descent_does_not_raise_the_sharpness_of_the_flow_solution_in_many_steps(depth):
    sizes = []
    for low, high in ((0.8, 1.2), (0.3, 1.0), (0.3, 2.0)):
        ratios, _ = monotone_steps(10 + depth, depth, starts=800, low=low, high=high, steps=150)
        assert ratios.max() <= 1 + 1e-9
        sizes.append(ratios.size)
    assert sum(sizes) > 1e5


def test_a_step_out_of_the_orthant_may_raise_it_manifold():
    jumps = np.concatenate([monotone_steps(1, depth, 400, 0.3, 2.0, 60)[1] for depth in (3, 4, 6)])
    assert jumps.size > 20
    assert jumps.max() > 10


@pytest.mark.parametrize("depth", [3, 4])
def test_descent_from_above_the_edge_ends_just_below_it(depth):
    weights = np.exp(0.5 * np.random.default_rng(depth).standard_normal((200, depth)))
    weights *= 1.02 / weights.prod(axis=1, keepdims=True) ** (1 / depth)
    model = ScalarChain(1.0)
    sharp = model.flow_sharpness(weights)
    weights, sharp = (
        weights[sharp > 1.3 * depth],
        sharp[sharp > 1.3 * depth],
    )  # the edge lies above the flattest minimum
    rates = xr.DataArray(2.1 / sharp, dims="replica")
    runs = chain_trajectory(model, weights, rates, steps=10_000, record=[0, 10_000])
    assert (runs.outcome == Outcome.CONVERGED).all()
    end = (runs.sharpness.isel(step=-1) * rates).values
    assert end.max() <= 2
    assert end.min() > 1.85
    assert np.median(end) > 1.92


# ---------------------------------------------------------------------------------------------------------------------
# Flow


@settings(max_examples=12)
@given(st.lists(st.floats(0.3, 1.6), min_size=2, max_size=5, unique=True), st.floats(0.4, 2.0), st.booleans())
def test_flow_reaches_the_minimum_that_conservation_names(weights, target, wrong_sign):
    weights = sorted(weights)
    weights = [value + 0.05 * i for i, value in enumerate(weights)]  # no ties: they end at a saddle
    if wrong_sign:
        weights[0] = -weights[0]
    model = ScalarChain(target)
    found = chain_flow(model, weights, [0.0, 1.0, 600.0])
    assert float(found.loss[-1]) < 1e-12
    np.testing.assert_allclose(found.flow_sharpness, model.flow_sharpness(weights), rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.weight.values[-1]), model.flow_solution(weights), rtol=1e-5)
    np.testing.assert_allclose(found.imbalance, model.imbalance(weights), atol=1e-7)


def drift(rate, start, model, time):
    """How far the imbalance of descent has moved by a time."""
    steps = round(time / rate)
    layers = start
    for _ in range(steps):
        layers = model.step(layers, rate)
    return max(
        np.abs(after - before).max()
        for after, before in zip(model.imbalance(layers), model.imbalance(start), strict=True)
    )


def test_flow_conserves_the_imbalance_and_descent_in_first_order():
    random = np.random.default_rng(4)
    model = DeepLinearNetwork(random.standard_normal((2, 3)))
    start = [layers[0] for layers in initial_weights([3, 4, 3, 2], replicas=1, seed=5)]
    found = network_flow(model, start, np.linspace(0, 2, 5))
    np.testing.assert_allclose(found.imbalance.values, np.tile(found.imbalance.values[0], (5, 1)), rtol=1e-8)
    assert float(found.loss[-1]) < 0.5 * float(found.loss[0])
    errors = [drift(rate, start, model, 2.0) for rate in (0.004, 0.002, 0.001)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.05)


@pytest.mark.parametrize("depth", [2, 3])
def test_balanced_modes_follow_their_own_curves(depth):
    model = DeepLinearNetwork(np.diag([2.0, 0.7]))
    times = np.linspace(0.0, 3.0, 7)
    found = network_flow(model, balanced_network(np.diag([0.05, 0.05]), depth), times)
    for mode, value in enumerate((2.0, 0.7)):
        expected = mode_strength(times, 0.05, value, depth)
        np.testing.assert_allclose(found.singular_value[:, mode], expected.values, rtol=1e-7)
        if depth == 2:
            np.testing.assert_allclose(expected, two_layer_strength(times, 0.05, value), rtol=1e-8)


# ---------------------------------------------------------------------------------------------------------------------
# Networks


def test_network_descent_is_the_recursion_for_every_rate_and_replica():
    random = np.random.default_rng(6)
    target = random.standard_normal((2, 3))
    model = DeepLinearNetwork(target, input_covariance=np.diag([1.0, 2.0, 0.5]))
    start = initial_weights([3, 4, 2], replicas=3, seed=7)
    rates = xr.DataArray([0.02, 0.1, 30.0], dims="rate")
    runs = network_trajectory(model, start, rates, steps=12, record=[0, 5, 12])
    assert runs.loss.dims == ("rate", "replica", "step")
    for r, rate in enumerate((0.02, 0.1)):
        for replica in range(3):
            first, second = (layers[replica] for layers in start)
            for step in range(13):
                error = (second @ first - target) @ np.diag([1.0, 2.0, 0.5])
                if step in (0, 5, 12):
                    here = runs.sel(step=step).isel(rate=r, replica=replica)
                    expected = 0.5 * np.sum(error * (second @ first - target))
                    assert float(here.loss) == pytest.approx(expected, rel=1e-10)
                    imbalance = np.linalg.norm(second.T @ second - first @ first.T)
                    assert float(here.imbalance[0]) == pytest.approx(imbalance, rel=1e-10)
                    assert float(here.sharpness) == pytest.approx(model.sharpness([first, second]), rel=1e-9)
                first, second = first - rate * second.T @ error, second - rate * error @ first.T
    assert (runs.outcome.isel(rate=2) == Outcome.DIVERGED).all()
    assert np.isinf(runs.loss.isel(rate=2, step=-1)).all()
    assert not any(np.isnan(runs[name]).any() for name in runs.data_vars)
    lazy = network_trajectory(model, start, rates.chunk(rate=1), steps=12, record=[0, 5, 12])
    assert lazy.loss.chunks is not None
    xr.testing.assert_identical(lazy.compute(), runs)


def test_a_balanced_network_converges_below_the_persistent_edge_and_not_above():
    target = np.diag([2.5, 1.0])
    edge = persistent_edge(2.5, 4)
    start = balanced_network(0.99 * target, 4)
    runs = network_trajectory(
        DeepLinearNetwork(target), start, edge * np.array([0.9, 0.97, 1.03]), steps=3000, record=[2999, 3000]
    )
    assert runs.outcome.values.tolist() == [Outcome.CONVERGED, Outcome.CONVERGED, Outcome.UNSETTLED]
    assert float(runs.sharpness[0, -1]) == pytest.approx(15.8114, abs=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Random starts


def kernel_of_matrices(weights, inputs):
    """K in NTK parametrisation from matrices of variance 1/fan_in, by the chain rule."""
    replicas = weights[0].shape[0]
    forward = [np.ones((replicas, inputs))]
    for layer in weights:
        forward.append(np.einsum("rij,rj->ri", layer, forward[-1]))
    gradient, kernel = np.ones((replicas, 1)), 0.0
    for layer, h in zip(weights[::-1], forward[-2::-1], strict=True):
        kernel = kernel + (h**2).sum(axis=1) * (gradient**2).sum(axis=1) / layer.shape[2]
        gradient = np.einsum("rij,ri->rj", layer, gradient)
    return kernel


def within_four_errors(sample, mean, variance):
    """Mean and variance of a sample against their exact values."""
    count = sample.size
    deviations = (sample - mean) ** 2
    assert abs(sample.mean() - mean) < 4 * sample.std() / math.sqrt(count)
    assert abs(deviations.mean() - variance) < 4 * deviations.std() / math.sqrt(count)


@pytest.mark.parametrize("widths", [(), (4,), (3, 5), (4, 4, 4), (2, 6, 3, 4)])
def test_the_kernel_of_whole_matrices_has_the_exact_moments(widths):
    weights = initial_weights([3, *widths, 1], replicas=60_000, seed=11)
    kernel = kernel_of_matrices(weights, 3)
    mean, variance = initial_ntk_moments(widths)
    if widths:
        within_four_errors(kernel, mean, variance)
    else:
        np.testing.assert_allclose(kernel, 1.0)


@pytest.mark.parametrize(("depth", "width"), [*itertools.product((2, 3, 5, 10), (16, 64))])
def test_the_law_of_the_kernel_has_the_exact_moments_table(depth, width):
    start = initial_ntk([width] * (depth - 1), replicas=4000, seed=12)
    within_four_errors(start.ntk.values, depth, initial_ntk_variance(depth, width))
    squares = start.output.values**2
    assert abs(squares.mean() - 1) < 4 * squares.std() / math.sqrt(squares.size)


def test_the_law_and_the_matrices_share_their_distribution():
    widths = (3, 4)
    law = np.sort(initial_ntk(widths, replicas=40_000, seed=13).ntk.values)
    matrices = kernel_of_matrices(initial_weights([2, *widths, 1], replicas=40_000, seed=13), 2)
    points = np.quantile(law, [0.05, 0.25, 0.5, 0.75, 0.95])
    below = (matrices[:, None] < points).mean(axis=0)
    expected = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    error = np.sqrt(2 * expected * (1 - expected) / 40_000)
    assert (np.abs(below - expected) < 4 * error).all()


def test_a_replica_has_its_bits_whichever_others_are_asked_for(monkeypatch):
    monkeypatch.setenv("SGDYNAMICS_THREADS", "1")
    every = initial_ntk([5, 4], replicas=200, seed=1)
    matrices = initial_weights([3, 5, 1], replicas=200, seed=1)
    monkeypatch.setenv("SGDYNAMICS_THREADS", "4")
    some = initial_ntk([5, 4], replicas=[130, 7], seed=1)
    np.testing.assert_array_equal(some.ntk, every.ntk[[130, 7]])
    for one, other in zip(initial_weights([3, 5, 1], replicas=[130, 7], seed=1), matrices, strict=True):
        np.testing.assert_array_equal(one, other[[130, 7]])
    assert not np.isclose(initial_ntk([5, 4], replicas=200, seed=2).ntk, every.ntk).any()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: initial_ntk([3, 0], replicas=2, seed=0), "widths must be a sequence of widths"),
        (lambda: initial_ntk([2.5], replicas=2, seed=0), "widths must be a sequence of widths"),
        (lambda: initial_weights([3], replicas=2, seed=0), "widths must be a sequence of at least two"),
        (lambda: initial_weights([3, 1], replicas=2, seed=0, scale=[1.0, 2.0]), "scale must be one number"),
        (lambda: chain_trajectory(ScalarChain([1.0, 2.0]), [1.0, 1.0], 0.1, steps=2), "model must be a chain"),
        (lambda: chain_trajectory(ScalarChain(1.0), [1.0, 1.0], 0.1, steps=2, record=[3]), "record must be increasing"),
        (lambda: chain_trajectory(ScalarChain(1.0), [1.0], np.ones((2, 2)), steps=2), "learning_rate must be a number"),
        (
            lambda: chain_trajectory(ScalarChain(1.0), [1.0], xr.DataArray([0.1], dims="step"), steps=2),
            "learning_rate must be swept over dims other than",
        ),
        (lambda: chain_flow(ScalarChain([1.0, 2.0]), [1.0], 1.0), "model must be a chain with one number"),
        (lambda: chain_flow(ScalarChain(1.0), [1.0], [2.0, 1.0]), "time must be a 1-D array of strictly increasing"),
        (
            lambda: network_trajectory(DeepLinearNetwork(np.eye(2)), [np.eye(3)], 0.1, steps=2),
            "weights must be matrices",
        ),
    ],
)
def test_bad_input_names_parameter_and_range(call, match):
    with pytest.raises((ValueError, TypeError), match=match):
        call()
