"""Edges of the break-even point against Monte Carlo, enumeration and dense matrices that share no code with them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from sgdynamics.models.break_even import SelfStabilizingMode, draw_ensemble, gaussian_features
from sgdynamics.models.quadratic import FiniteSumQuadratic
from sgdynamics.theory import quadratic
from sgdynamics.theory.break_even import (
    batch_variance_factor,
    direction_edges,
    frozen_second_moment,
    kernel_norm_edge,
    mean_square_edge,
    sharpest_direction_edge,
    strict_edge,
    trace_rule_edge,
)


def dense_growth(hessians, size, replacement=False):
    """Spectral radius of the whole d^2 x d^2 map less 1, as a function of the rate; nothing of ours."""
    n, d = hessians.shape[:2]
    noise = 1 / size if replacement else (n - size) / (size * (n - 1))
    mean = hessians.mean(axis=0)
    squares = np.mean([np.kron(h, h) for h in hessians], axis=0) - np.kron(mean, mean)

    def excess(rate):
        step = np.eye(d) - rate * mean
        return np.linalg.eigvalsh(np.kron(step, step) + rate**2 * noise * squares)[-1] - 1

    return excess


def dense_edge(hessians, size, replacement=False):
    """The root of spectral radius 1, by bisection."""
    high = 2 / np.linalg.eigvalsh(hessians.mean(axis=0))[-1]
    return brentq(dense_growth(hessians, size, replacement), 1e-6 * high, high * (1 + 1e-9), xtol=1e-14)


def outer(features):
    return features[:, :, None] * features[:, None, :]


# ---------------------------------------------------------------------------------------------------------------------
# One direction


@pytest.mark.parametrize("size", [1, 4])
def test_the_second_moment_of_a_million_runs_is_that_of_the_recursion(size):
    n, curvature, rate, deviation, steps, runs = 16, 2.0, 0.4, 0.3, 6, 1_000_000
    h, b = draw_ensemble(n, relative_variance=0.5, force_deviation=deviation, law="gamma", seed=20)
    b = b + 0.1 * (h - 1)  # correlated, so that the mean matters
    b -= b.mean()
    noise = (n - size) / (size * (n - 1))
    correlation = np.mean((h - 1) * b)
    batches = list(itertools.combinations(range(n), size))
    curvatures, forces = (np.array([values[list(batch)].mean() for batch in batches]) for values in (h, b))
    generator = np.random.default_rng(21)
    x = np.ones(runs)
    mean, square = 1.0, 1.0
    for _ in range(steps):
        drawn = generator.integers(0, len(batches), runs)
        x = x - rate * (curvature * curvatures[drawn] * x - forces[drawn])
        rho = quadratic.mean_square_factor(rate * curvature, noise * h.var())
        square = rho * square + rate**2 * noise * (b.var() - 2 * curvature * correlation * mean)
        mean *= 1 - rate * curvature
        error = (x**2).std() / math.sqrt(runs)
        assert abs((x**2).mean() - square) < 4 * error
    assert abs(x.mean() - mean) < 4 * x.std() / math.sqrt(runs)


def test_the_second_moment_neither_grows_nor_shrinks_at_the_edge_and_does_either_beside_it():
    h = draw_ensemble(16, relative_variance=0.5, law="gamma", seed=22).relative_curvatures * 3
    for size in (1, 4, 16):
        noise = batch_variance_factor(16, size) * h.var()
        edge = quadratic.mean_square_edge_gain(noise / h.mean() ** 2) / h.mean()
        batches = np.array([np.mean(batch) for batch in itertools.combinations(h, size)])
        growth = [np.mean((1 - share * edge * batches) ** 2) for share in (0.99, 1.0, 1.01)]
        assert growth[0] < 1 < growth[2]
        assert growth[1] == pytest.approx(1, abs=1e-12)


def test_at_a_frozen_curvature_the_mode_settles_at_its_second_moment():
    mode = SelfStabilizingMode(
        *draw_ensemble(32, relative_variance=0.3, force_deviation=0.5, seed=23), sharpening=0.0, batch_size=4
    )
    generator = np.random.default_rng(24)
    x = np.zeros(40_000)
    order = np.argsort(generator.random((x.size, 32)), axis=1)
    for _ in range(60):
        x, _ = mode.step(x, 8.0, 0.1, drawn=generator.permuted(order, axis=1)[:, :4])
    expected = frozen_second_moment(0.1, 8.0, mode.batch_factor, 0.3, 0.25)
    assert abs((x**2).mean() - expected) < 4 * (x**2).std() / 200


def test_an_epoch_of_single_examples_is_the_same_in_every_order_so_that_its_edge_is_that_of_a_path():
    h = np.array([0.2, 0.5, 1.0, 2.5])
    products = [np.prod([(1 - 0.7 * c) ** 2 for c in order]) for order in itertools.permutations(h)]
    assert np.ptp(products) < 1e-15
    found = direction_edges(h).edge_learning_rate
    rates = np.linspace(0.0101, 4.99, 5000)
    exponents = np.mean(np.log(np.abs(1 - rates[:, None] * h)), axis=1)
    first = int(np.argmax(exponents > 0))
    lyapunov = brentq(lambda rate: np.mean(np.log(np.abs(1 - rate * h))), rates[first - 1], rates[first])
    assert found.sel(edge="reshuffled").item() == found.sel(edge="almost_sure").item()
    assert found.sel(edge="almost_sure").item() == pytest.approx(lyapunov, rel=1e-10)


def reshuffled_by_hand(h):
    """Pairings of eight examples; the first crossing of the mean epoch multiplier."""

    def pairings(left):
        if not left:
            yield []
            return
        for other in left[1:]:
            rest = [i for i in left if i not in (left[0], other)]
            for more in pairings(rest):
                yield [(left[0], other), *more]

    batches = np.array([[h[list(pair)].mean() for pair in pairing] for pairing in pairings(list(range(8)))])
    assert len(batches) == 105

    def excess(rate):
        return np.mean(np.prod((1 - rate * batches) ** 2, axis=1)) - 1

    rates = np.linspace(1e-3, 20, 4001)
    first = next(i for i, rate in enumerate(rates) if excess(rate) > 0)
    return brentq(excess, rates[first - 1], rates[first])


def test_reshuffled_pairs_break_even_later_than_fresh_ones_but_not_always_later_than_full_descent():
    below = 0
    for seed in range(25):
        h = np.random.default_rng(seed).gamma(0.5, 2.0, 8)
        found = direction_edges(h, 2).edge_learning_rate
        by_hand = reshuffled_by_hand(h)
        assert found.sel(edge="reshuffled").item() == pytest.approx(by_hand, rel=1e-9)
        assert found.sel(edge="mean_square").item() < by_hand
        assert found.sel(edge="mean_square").item() < found.sel(edge="mean").item()
        below += by_hand < found.sel(edge="mean").item()
    assert 0 < below < 25


def test_edges_of_one_direction_are_left_out_where_they_cannot_be_enumerated():
    h = np.random.default_rng(1).gamma(0.5, 2.0, 60)
    assert direction_edges(h, 7).edge.values.tolist() == ["mean", "mean_square", "strict"]
    assert "almost_sure" in direction_edges(h, 1).edge
    # 8!/(4!^2 2!) = 35 partitions are enumerated, 14!/(2!^7 7!) = 135135 are not
    assert "reshuffled" in direction_edges(h[:8], 4).edge
    assert "reshuffled" not in direction_edges(h[:14], 2).edge
    # batches of one are no more than the examples, and parted in one way, however many; of pairs there are 8 million
    many = direction_edges(np.ones(4100)).edge_learning_rate
    assert many.edge.values.tolist() == ["mean", "mean_square", "strict", "almost_sure", "reshuffled"]
    np.testing.assert_allclose(many, 2, rtol=1e-12)
    assert "almost_sure" not in direction_edges(np.ones(4100), 2).edge
    again = direction_edges(h, 2, sampling="replacement").edge_learning_rate
    assert again.sel(edge="strict").item() == pytest.approx(2 / h.max())
    assert again.sel(edge="mean_square").item() == pytest.approx(2 * h.mean() / (h.mean() ** 2 + h.var() / 2))
    assert direction_edges(h, 2).edge_learning_rate.sel(edge="strict").item() == pytest.approx(
        2 / np.sort(h)[-2:].mean()
    )


@pytest.mark.parametrize("unit", [1e-100, 1e-8, 1.0, 1e8, 1e100])
def test_an_eigenvalue_is_negative_by_more_than_rounding_in_any_unit(unit):
    flat, saddle = (unit * np.array([np.diag([2.0, low]), np.diag([1.0, 0.5])]) for low in (-1e-15, -1e-9))
    assert strict_edge(flat) == pytest.approx(1 / unit, rel=1e-12)
    assert strict_edge(saddle) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Several directions

# n, d, decay, S: exact, one direction, trace rule, kernel norm, full batch
TABLE = {
    (64, 10, 1.0, 1): (0.4513, 0.5969, 0.4773, 0.5760, 1.928),
    (64, 10, 1.0, 4): (1.1530, 1.2594, 1.2043, 1.3887, 1.928),
    (64, 10, 1.0, 16): (1.7308, 1.7431, 1.7512, 1.8298, 1.928),
    (256, 20, 0.5, 1): (0.2405, 0.7451, 0.2352, 0.2506, 2.008),
    (256, 20, 0.5, 4): (0.8080, 1.4153, 0.7908, 0.8395, 2.008),
    (256, 20, 0.5, 16): (1.7047, 1.8259, 1.6802, 1.7576, 2.008),
    (256, 20, 2.0, 1): (0.7595, 0.8690, 0.6470, 0.8850, 2.116),
    (256, 20, 2.0, 4): (1.5185, 1.5624, 1.3859, 1.6447, 2.116),
}


def all_edges(n, d, decay, size, seed):
    features = gaussian_features(n, d, decay=decay, seed=seed)
    spectrum = np.linalg.eigvalsh(features.T @ features / n)
    noise = batch_variance_factor(n, size)
    return (
        mean_square_edge(features=features, batch_size=size),
        sharpest_direction_edge(features=features, batch_size=size),
        trace_rule_edge(spectrum, noise),
        kernel_norm_edge(spectrum, noise),
        2 / spectrum[-1],
    )


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_the_edges_of_the_table_follow_from_its_construction(case):
    found = all_edges(*case, seed=0)
    np.testing.assert_allclose(found[:4], TABLE[case][:4], atol=1.01e-4)
    assert found[4] == pytest.approx(TABLE[case][4], abs=6e-4)
    trace_over_exact = found[2] / found[0]
    assert abs(trace_over_exact - 1) < (0.16 if case[2] == 2 else 0.06)


@pytest.mark.parametrize("case", [case for case in TABLE if case[1] == 10], ids=str)
def test_the_exact_edge_is_where_the_dense_map_has_spectral_radius_one(case):
    n, d, decay, size = case
    features = gaussian_features(n, d, decay=decay, seed=0)
    assert mean_square_edge(features=features, batch_size=size) == pytest.approx(
        dense_edge(outer(features), size), rel=1e-9
    )


def test_above_twenty_directions_the_map_is_applied_and_gives_what_the_dense_one_gives():
    features = gaussian_features(60, 24, decay=0.5, seed=1)
    excess = dense_growth(outer(features), 3)
    found = mean_square_edge(features=features, batch_size=3)
    assert excess(found * (1 - 1e-8)) < 0 < excess(found * (1 + 1e-8))
    assert mean_square_edge(outer(features), 3) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("sampling", ["without_replacement", "replacement"])
def test_hessians_of_any_rank_and_sign_have_the_edge_of_their_dense_map(sampling):
    generator = np.random.default_rng(2)
    for size in (1, 2, 5):
        roots = generator.standard_normal((6, 4, 4))
        hessians = roots @ roots.transpose(0, 2, 1) + 0.5 * (roots + roots.transpose(0, 2, 1))
        assert (np.linalg.eigvalsh(hessians) < 0).any()
        found = mean_square_edge(hessians, size, sampling=sampling)
        assert found == pytest.approx(dense_edge(hessians, size, sampling == "replacement"), rel=1e-9)
        assert found <= sharpest_direction_edge(hessians, size, sampling=sampling) * (1 + 1e-12)


@given(
    st.integers(2, 12),
    st.integers(1, 6),
    st.floats(0, 2.5),
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.floats(-3, 3),
)
def test_the_exact_edge_is_never_above_that_of_one_direction_and_never_below_the_strict_one(
    n, d, decay, seed, size, log_scale
):
    features = gaussian_features(n, d, decay=decay, seed=seed)
    size = min(size, n)
    exact = mean_square_edge(features=features, batch_size=size)
    assert exact <= sharpest_direction_edge(features=features, batch_size=size) * (1 + 1e-10)
    assert strict_edge(features=features, batch_size=size) <= exact * (1 + 1e-10)
    # a larger batch is stabler, units of the curvature are units of the rate, and a turn of the axes changes nothing
    assert exact <= mean_square_edge(features=features, batch_size=min(size + 1, n)) * (1 + 1e-10)
    scaled = mean_square_edge(features=features * 10 ** (log_scale / 2), batch_size=size)
    assert scaled == pytest.approx(exact / 10**log_scale, rel=1e-9)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    assert mean_square_edge(outer(features @ turn), size) == pytest.approx(exact, rel=1e-8)


def test_single_draws_lie_within_the_scatter_of_many():
    for case, known in TABLE.items():
        if case[1] != 10:
            continue
        ratios = []
        for seed in range(40):
            exact, one, *_ = all_edges(*case, seed=seed)
            assert exact <= one
            ratios.append(one / exact)
        low, high = np.quantile(ratios, [0.01, 0.99])
        assert low <= known[1] / known[0] <= high


def test_the_edge_is_that_of_the_quadratic_with_these_examples():
    features = gaussian_features(12, 3, decay=1.0, seed=3)
    for sampling in ("without_replacement", "replacement"):
        model = FiniteSumQuadratic(outer(features), batch_size=4, sampling=sampling)
        expected = quadratic.second_moment_edge(model)
        assert mean_square_edge(features=features, batch_size=4, sampling=sampling) == pytest.approx(expected, rel=1e-9)


def test_runs_settle_below_the_exact_edge_and_grow_between_it_and_that_of_one_direction():
    features = gaussian_features(48, 16, decay=0.0, seed=4)
    exact = mean_square_edge(features=features)
    optimistic = sharpest_direction_edge(features=features)
    assert optimistic > 2 * exact
    hessians = outer(features)
    for rate, grows in ((0.9 * exact, False), (0.5 * (exact + optimistic), True)):
        moment = np.eye(16)
        sizes = []
        for _ in range(200):
            steps = np.eye(16) - rate * hessians
            moment = np.mean(steps @ moment @ steps, axis=0)
            sizes.append(np.trace(moment))
            moment = moment / (np.trace(moment) if grows else 1)
        assert (sizes[-1] > 1) if grows else (sizes[-1] < sizes[100] < sizes[0])


def test_the_strict_edge_is_that_of_the_worst_batch():
    features = gaussian_features(7, 3, decay=0.5, seed=5)
    hessians = outer(features)
    for size in (1, 3, 7):
        worst = max(
            np.linalg.eigvalsh(hessians[list(batch)].mean(axis=0))[-1]
            for batch in itertools.combinations(range(7), size)
        )
        assert strict_edge(features=features, batch_size=size) == pytest.approx(2 / worst, rel=1e-12)
        assert strict_edge(hessians, size) == pytest.approx(2 / worst, rel=1e-12)
    assert strict_edge(hessians, 3, sampling="replacement") == strict_edge(hessians, 1)
    with pytest.raises(ValueError, match="batch_size must be such that at most 100000 batches are enumerated"):
        strict_edge(features=gaussian_features(60, 2, seed=0), batch_size=10)
    many = gaussian_features(100_001, 2, seed=0)
    worst = (many[:-1] ** 2).sum(axis=1).max()
    assert strict_edge(features=many[:-1], batch_size=1) == pytest.approx(2 / worst, rel=1e-12)
    with pytest.raises(ValueError, match="not 100001"):
        strict_edge(features=many, batch_size=1)


def test_flat_directions_do_not_count_unless_an_example_bends_them():
    features = gaussian_features(12, 3, decay=1.0, seed=6)
    padded = np.hstack([features, np.zeros((12, 2))])
    assert mean_square_edge(features=padded, batch_size=2) == pytest.approx(
        mean_square_edge(features=features, batch_size=2), rel=1e-12
    )
    few = gaussian_features(3, 6, decay=0.0, seed=6)  # fewer examples than directions
    assert mean_square_edge(features=few) == pytest.approx(mean_square_edge(outer(few)), rel=1e-9)
    bent = np.array([np.diag([1.0, 1.0]), np.diag([1.0, -1.0])])
    with pytest.raises(ValueError, match="hessians must be flat where their mean is"):
        mean_square_edge(bent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "hessians must be None where features are given, and given where they are not"),
        ({"hessians": [[[1.0]]], "features": [[1.0]]}, "hessians must be None where features are given"),
        ({"hessians": [[1.0, 0.0], [0.0, 1.0]]}, "hessians must be symmetric matrices"),
        ({"hessians": [[[1.0, 0.5], [0.0, 1.0]]]}, "hessians must be symmetric matrices"),
        ({"hessians": [[[-1.0]]]}, "hessians must be with a positive semidefinite mean"),
        ({"features": [[0.0, 0.0]]}, "features must be vectors that are not all 0"),
        ({"features": [1.0, 2.0]}, "features must be vectors of shape"),
        ({"features": [[math.nan]]}, "features must be None or vectors of shape .* got nan"),
        ({"features": [[1.0], [2.0]], "batch_size": 3}, "batch_size must be at most examples = 2, got 3"),
        ({"features": [[1.0], [2.0]], "sampling": "reshuffled"}, "sampling must be one of"),
    ],
)
def test_ensembles_that_are_none_are_refused(arguments, message):
    for function in (mean_square_edge, sharpest_direction_edge, strict_edge):
        with pytest.raises(ValueError, match=message):
            function(**arguments)


def test_two_hundred_directions_take_little_memory():
    import tracemalloc

    features = gaussian_features(500, 200, decay=1.0, seed=7)
    tracemalloc.start()
    exact = mean_square_edge(features=features, batch_size=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # a 200^2 x 200^2 matrix has 12.8e9 bytes
    assert exact <= sharpest_direction_edge(features=features, batch_size=4)
    spectrum = np.linalg.eigvalsh(features.T @ features / 500)
    assert exact == pytest.approx(trace_rule_edge(spectrum, 496 / (4 * 499)), rel=0.1)
