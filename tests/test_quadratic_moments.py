"""Long runs of plain SGD: pieces made abreast give what the recursion gives, step by step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.quadratic import moments


def walked(curvature, schedule, record):
    """Mean from 1 and variance of centers of variance 1, by the recursion."""
    mean, variance, found = np.ones_like(curvature), np.zeros_like(curvature), {0: (1.0, 0.0)}
    for step, rate in enumerate(schedule, 1):
        gain = rate * curvature
        mean = (1 - gain) * mean
        variance = (1 - gain) ** 2 * variance + gain**2
        found[step] = mean, variance
    return [np.array([found[step][part] * np.ones_like(curvature) for step in record]) for part in (0, 1)]


stretch = st.tuples(st.sampled_from(["constant", "cosine", "noise"]), st.integers(1, 700), st.floats(-4, 0.27))


@settings(max_examples=30)
@given(parts=st.lists(stretch, min_size=1, max_size=5), seed=st.integers(0, 99), every=st.integers(1, 900))
def test_pieces_of_a_long_run_are_the_run(parts, seed, every):
    random = np.random.default_rng(seed)
    shapes = {
        "constant": np.ones,
        "cosine": lambda steps: (1 + np.cos(np.linspace(0, np.pi, steps))) / 2,
        "noise": lambda steps: random.random(steps),
    }
    schedule = np.concatenate([10.0**size * shapes[name](steps) for name, steps, size in parts])
    curvature = 10.0 ** random.uniform(-6, 0, 7)
    record = np.unique(np.append(random.integers(0, schedule.size + 1, 3), np.arange(every, schedule.size + 1, every)))
    made = moments(MiniBatchQuadratic(curvature, 1.0, displacement=1.0), schedule, record=record)
    mean, variance = walked(curvature, schedule, record)
    np.testing.assert_allclose(made.mean_error, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.variance, variance, rtol=1e-9)


def test_a_piece_with_a_wrong_rate_is_seen():
    schedule = np.linspace(0.9, 0.0, 5000)
    right = moments(MiniBatchQuadratic([0.01, 1.0], 1.0), schedule).variance.values
    schedule[4711] *= 1.01
    assert moments(MiniBatchQuadratic([0.01, 1.0], 1.0), schedule).variance.values != pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("steps", [3, 300, 30_000])
def test_a_run_beyond_the_edge_ends_at_infinity_and_a_noiseless_one_at_its_mean(steps):
    schedule = np.linspace(900.0, 1000.0, steps)
    made = moments(MiniBatchQuadratic([1.0, 1.0, 1e-9], [1.0, 0.0, 1.0], displacement=[0.0, 0.0, 1.0]), schedule)
    assert made.variance.values[0, 0] > 1e10
    assert made.variance.values[0, 1] == 0
    assert made.mean_error.values[0, :2].tolist() == [0, 0]
    assert made.mean_error.values[0, 2] == pytest.approx(np.exp(np.log1p(-schedule * 1e-9).sum()), rel=1e-10)
