"""Upper bounds of the mean-square edge, against the whole map on matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares
from sgdynamics.theory.break_even import sharpest_direction_edge
from sgdynamics.theory.quadratic import (
    mean_edge,
    one_step_edge,
    second_moment_edge,
    stationary,
    top_direction_edge,
    trace_edge,
)

seeds = st.integers(0, 2**32 - 1)


def examples(seed, count=6, size=3, rank=1, batch_size=2, sampling="without_replacement"):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(count, size, rank)) * 10 ** rng.uniform(-1, 1, (count, 1, 1))
    hessians = factors @ factors.swapaxes(1, 2)
    return FiniteSumQuadratic(hessians, rng.normal(size=(count, size)), batch_size=batch_size, sampling=sampling)


def second_moment_map(hessians, share, rate):
    """The matrix of one step on vec(Sigma), from Kronecker products."""
    mean = hessians.mean(0)
    one = np.eye(len(mean))
    step = np.kron(one - rate * mean, one - rate * mean)
    noise = np.mean([np.kron(h, h) for h in hessians], axis=0) - np.kron(mean, mean)
    return step + rate**2 * share * noise


@given(seeds, st.integers(1, 6))
def test_the_bounds_hold_and_so_does_the_order_of_all_edges(seed, batch_size):
    model = examples(seed, batch_size=batch_size)
    exact = second_moment_edge(model)
    assert one_step_edge(model) <= exact * (1 + 1e-9)
    for bound in (trace_edge(model), top_direction_edge(model)):
        assert exact <= bound * (1 + 1e-9)
    assert top_direction_edge(model) <= mean_edge(model) * (1 + 1e-12)


@given(seeds, st.integers(1, 6), st.sampled_from(["replacement", "without_replacement"]))
def test_the_traces_are_those_of_the_mixture(seed, batch_size, sampling):
    # with probability 1 - p a step of the full batch, with probability p one of a single example
    model = examples(seed, batch_size=batch_size, sampling=sampling)
    count = model.examples
    share = 1 / batch_size if sampling == "replacement" else (count - batch_size) / (batch_size * (count - 1))
    hessians, mean = model.hessians, model.mean_hessian
    sums = (1 - share) * np.sum(mean**2) + share * np.mean([np.sum(h**2) for h in hessians])
    assert trace_edge(model) == pytest.approx(2 * np.trace(mean) / sums, rel=1e-10)
    value, vectors = np.linalg.eigh(mean)
    top = vectors[:, -1]
    along = (1 - share) * value[-1] ** 2 + share * np.mean([(top @ h @ top) ** 2 for h in hessians])
    assert top_direction_edge(model) == pytest.approx(2 * value[-1] / along, rel=1e-9)
    # and the edge of the mixture is that of the batches
    edge = second_moment_edge(model)
    radius = np.abs(np.linalg.eigvals(second_moment_map(hessians, share, edge))).max()
    assert radius == pytest.approx(1, abs=1e-8)


@given(seeds, st.integers(1, 6), st.sampled_from(["replacement", "without_replacement"]))
def test_the_edge_of_the_top_direction_is_that_of_the_examples(seed, batch_size, sampling):
    model = examples(seed, batch_size=batch_size, sampling=sampling)
    same = sharpest_direction_edge(model.hessians, batch_size, sampling=sampling)
    assert top_direction_edge(model) == pytest.approx(same, rel=1e-9)


@given(seeds)
def test_the_stationary_covariance_solves_the_equation_of_the_noise(seed):
    # (2 C - eta D) vec(Sigma) = eta p vec(noise), that is, one step leaves it as it is
    model = examples(seed, sampling="without_replacement")
    share = (6 - 2) / (2 * 5)
    rate = 0.5 * second_moment_edge(model)
    noise = share * model.forces.T @ model.forces / model.examples
    size = len(noise)
    made = stationary(model, rate).covariance.values
    moved = second_moment_map(model.hessians, share, rate) @ made.ravel() + rate**2 * noise.ravel()
    np.testing.assert_allclose(moved.reshape(size, size), made, rtol=1e-8, atol=1e-10 * np.abs(made).max())


def test_equal_orthogonal_examples_meet_the_trace_bound():
    model = FiniteSumQuadratic([np.diag([2.0, 0, 0]), np.diag([0, 2.0, 0]), np.diag([0, 0, 2.0])])
    assert trace_edge(model) == pytest.approx(second_moment_edge(model), rel=1e-12)


def test_a_direction_hidden_from_the_trace_makes_the_bound_loose():
    # many flat directions dilute the trace; the sharp one decides
    flat = [np.diag([0.0, *row]) for row in np.eye(9) * 0.01]
    model = FiniteSumQuadratic([np.diag([10.0] + [0.0] * 9), *flat])
    assert trace_edge(model) > second_moment_edge(model)
    assert top_direction_edge(model) == pytest.approx(second_moment_edge(model), rel=1e-9)


@given(st.integers(1, 30), st.integers(1, 64))
def test_least_squares_on_equal_features(size, batch_size):
    # E phi phi' X phi phi' = 2X + tr(X) I: the trace bound is exact, at 2S/(S + 1 + d)
    model = GaussianLeastSquares(np.full(size, 3.0), 0.1, batch_size=batch_size)
    expected = 2 * batch_size / (batch_size + 1 + size) / 3
    assert trace_edge(model) == pytest.approx(expected, rel=1e-12)
    assert second_moment_edge(model) == pytest.approx(expected, rel=1e-9)


def test_without_curvature_noise_only_the_top_direction_is_exact():
    model = FullQuadratic([[2.0, 0.0], [0.0, 1.0]], 1.0)
    assert top_direction_edge(model) == mean_edge(model) == 1.0
    assert trace_edge(model) == 2 * 3 / 5


def test_reshuffled_examples_are_refused():
    model = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    for bound in (trace_edge, top_direction_edge):
        with pytest.raises(ValueError, match="independent batches"):
            bound(model)
