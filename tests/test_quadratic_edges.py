"""Edges and tail indices: against dense Kronecker products, enumerations and numbers from elsewhere."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.stats import gamma

import sgdynamics.theory.quadratic.edges as edges
from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.theory.quadratic import (
    almost_sure_edge,
    mean_edge,
    mean_square_edge_gain,
    mean_square_growth,
    one_step_edge,
    reshuffled_edge,
    reshuffled_growth,
    second_moment_edge,
    stability_edge,
    stationary,
    tail_index,
    trace_rule_term,
)

UPDATES = {
    "plain": {},
    "heavy ball": {"momentum": 0.6},
    "Nesterov": {"momentum": 0.6, "nesterov": True},
}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
TWO = FiniteSumQuadratic([0.5, 1.5], center_covariance=1.0)


def psd(generator, n, d):
    roots = generator.normal(size=(n, d, d)) / np.sqrt(d)
    return roots @ roots.transpose(0, 2, 1)


def update_matrix(hessian, rate, momentum=0.0, nesterov=False):
    one = np.eye(len(hessian))
    if nesterov:
        ahead = one - rate * hessian
        return np.block([[(1 + momentum) * ahead, -momentum * ahead], [one, 0 * one]])
    return np.block([[(1 + momentum) * one - rate * hessian, -momentum * one], [one, 0 * one]])


def kronecker_radius(hessians, size, sampling, rate, **update):
    """Spectral radius of E[A (x) A] over all batches."""
    draw = itertools.combinations(range(len(hessians)), size)
    if sampling == "replacement":
        draw = itertools.product(range(len(hessians)), repeat=size)
    matrices = [update_matrix(hessians[list(batch)].mean(0), rate, **update) for batch in draw]
    return np.abs(np.linalg.eigvals(np.mean([np.kron(m, m) for m in matrices], axis=0))).max()


@every_update
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 3),
    size=st.integers(1, 2),
    sampling=st.sampled_from(["replacement", "without_replacement"]),
)
def test_at_the_mean_square_edge_the_kronecker_radius_is_one(update, seed, d, size, sampling):
    hessians = psd(np.random.default_rng(seed), 4, d)
    model = FiniteSumQuadratic(hessians, batch_size=size, sampling=sampling)
    edge = second_moment_edge(model, **update)
    assert edge <= mean_edge(model, **update) * (1 + 1e-12)
    assert math.isclose(kronecker_radius(hessians, size, sampling, edge, **update), 1, abs_tol=1e-7)
    assert kronecker_radius(hessians, size, sampling, 0.97 * edge, **update) < 1
    rate = 0.8 * edge
    growth = mean_square_growth(model, rate, **update)
    assert math.isclose(growth, kronecker_radius(hessians, size, sampling, rate, **update), rel_tol=1e-9)


def test_many_directions_are_applied_not_tabulated():
    hessians = psd(np.random.default_rng(0), 40, 22)
    mean = hessians.mean(0)
    one = np.eye(22)
    products = np.einsum("nij,nkl->ikjl", hessians, hessians).reshape(484, 484) / 40
    sums = np.kron(mean, one) + np.kron(one, mean)
    oracle = 1 / eigh(products, sums, eigvals_only=True)[-1]
    assert math.isclose(second_moment_edge(FiniteSumQuadratic(hessians)), oracle, rel_tol=1e-8)
    centers = np.random.default_rng(1).normal(size=(40, 22))
    model = FiniteSumQuadratic(hessians, centers)
    rate, force = 0.5 * oracle, model.forces.T @ model.forces / 40
    solved = np.linalg.solve(rate * sums - rate**2 * products, rate**2 * force.ravel()).reshape(22, 22)
    np.testing.assert_allclose(stationary(model, rate).covariance, solved, atol=1e-9 * np.abs(solved).max())


@pytest.mark.parametrize(("n", "d", "decay"), [(64, 10, 1.0), (256, 20, 0.5), (256, 20, 2.0)])
def test_rank_one_ensembles(n, d, decay):
    features = np.random.default_rng(0).standard_normal((n, d)) * np.arange(1, d + 1) ** (-decay / 2)
    hessians = features[:, :, None] * features[:, None, :]
    for size, edge in elsewhere("rank_one_edge").under(n, d, decay).values.items():
        model = FiniteSumQuadratic(hessians, batch_size=size, sampling="without_replacement")
        assert second_moment_edge(model) == pytest.approx(edge, abs=6e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_the_one_step_condition_is_sufficient(seed, d):
    hessians = psd(np.random.default_rng(seed), 5, d)
    model = FiniteSumQuadratic(hessians, batch_size=2, sampling="without_replacement")
    edge = one_step_edge(model)
    mean, factor = hessians.mean(0), (5 - 2) / (2 * 4)
    sigma = (hessians @ hessians).mean(0) - mean @ mean
    step = np.eye(d) - edge * mean
    assert math.isclose(np.linalg.eigvalsh(step @ step + edge**2 * factor * sigma)[-1], 1, rel_tol=1e-10)
    assert edge <= second_moment_edge(model) * (1 + 1e-10)
    if d == 1:
        assert math.isclose(edge, second_moment_edge(model), rel_tol=1e-10)


def test_the_one_step_condition_is_not_necessary():
    """Between the two rates distances may grow in a step, but the second moment dies out."""
    hessians = psd(np.random.default_rng(1), 5, 3)
    model = FiniteSumQuadratic(hessians)
    low, high = one_step_edge(model), second_moment_edge(model)
    assert high > 1.02 * low
    rate = (low + high) / 2
    matrices = [np.eye(3) - rate * hessian for hessian in hessians]
    assert np.linalg.eigvalsh(np.mean([m @ m for m in matrices], axis=0))[-1] > 1
    assert kronecker_radius(hessians, 1, "replacement", rate) < 1


def test_edges_of_half_and_three_halves():
    assert math.isclose(mean_edge(TWO), 2, rel_tol=1e-14)
    assert math.isclose(second_moment_edge(TWO), 1.6, rel_tol=1e-14)
    assert math.isclose(one_step_edge(TWO), 1.6, rel_tol=1e-12)
    assert math.isclose(almost_sure_edge(TWO), 8 / 3, rel_tol=1e-12)
    for rate, index in elsewhere("tail_index").values.items():
        kappa = tail_index(TWO, rate)
        assert kappa == pytest.approx(index, abs=6e-5)
        assert math.isclose((abs(1 - rate / 2) ** kappa + abs(1 - 1.5 * rate) ** kappa) / 2, 1, rel_tol=1e-12)
    assert tail_index(TWO, 4 / 3) == math.inf  # no batch expands the error
    assert tail_index(TWO, 2.7) == 0


def test_between_the_edges_the_law_has_infinite_variance():
    assert second_moment_edge(TWO) < almost_sure_edge(TWO)
    for rate in (1.7, 2.0, 2.5):
        assert 0 < tail_index(TWO, rate) < 2
        assert stationary(TWO, rate).variance.item() == math.inf
        assert mean_square_growth(TWO, rate) > 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.05, 3), min_size=2, max_size=6), st.integers(1, 3), st.booleans(), st.floats(0.3, 0.98))
def test_almost_sure_edge_and_tail_index_by_enumeration(values, size, again, fraction):
    size = min(size, len(values) - 1)
    sampling = "replacement" if again else "without_replacement"
    model = FiniteSumQuadratic(values, batch_size=size, sampling=sampling)
    draws = itertools.product(values, repeat=size) if again else itertools.combinations(values, size)
    means = np.array([np.mean(batch) for batch in draws])
    edge = almost_sure_edge(model)
    assert edge >= second_moment_edge(model) * (1 - 1e-9)
    assert abs(np.mean(np.log(np.abs(1 - edge * means)))) < 1e-8
    rates = edge * np.linspace(1e-3, 0.999, 400)
    with np.errstate(divide="ignore"):
        assert (np.log(np.abs(1 - np.outer(rates, means))).mean(axis=1) < 1e-9).all()
    kappa = tail_index(model, fraction * edge)
    factors = np.abs(1 - fraction * edge * means)
    if kappa == math.inf:
        assert factors.max() <= 1 + 1e-9
    elif kappa < 200:
        assert math.isclose(np.mean(factors**kappa), 1, rel_tol=1e-8)


@pytest.mark.parametrize("draws", [1, 4, 16])
def test_edges_of_gaussian_features_in_one_direction(draws):
    square, sure = (elsewhere("least_squares_edges").values[kind, draws] for kind in ("mean square", "almost sure"))
    model = GaussianLeastSquares(1.0, 1.0, batch_size=draws)
    assert second_moment_edge(model) == pytest.approx(square, abs=6e-5)
    edge = almost_sure_edge(model)
    assert edge == pytest.approx(sure, abs=6e-3)
    law = gamma(draws / 2, scale=2 / draws)
    levels = (np.arange(400_000) + 0.5) / 400_000
    assert abs(np.log(np.abs(1 - edge * law.ppf(levels))).mean()) < 2e-4
    rate = 1.1 * second_moment_edge(model)
    kappa = tail_index(model, rate)
    assert 0 < kappa < 2
    assert np.mean(np.abs(1 - rate * law.ppf(levels)) ** kappa) == pytest.approx(1, abs=2e-4)
    assert tail_index(model, second_moment_edge(model)) == pytest.approx(2, rel=1e-8)


@every_update
@pytest.mark.parametrize("draws", [1, 3])
def test_the_edge_of_least_squares_by_wick_and_kronecker(update, draws):
    variances = np.array([1.0, 0.6, 0.3])
    edge = second_moment_edge(GaussianLeastSquares(variances, 1.0, batch_size=draws), **update)
    terms = trace_rule_term(edge * variances, draws, **update)
    assert math.isclose(terms.sum(), 1, rel_tol=1e-9)
    # E[A (x) A] = A0 (x) A0 + eta^2 (J (x) J) E[D (x) D] (P (x) P) with the centered fourth moments
    hessian = np.diag(variances)
    momentum, nesterov = update.get("momentum", 0.0), update.get("nesterov", False)
    spread = np.zeros((3, 3, 3, 3))  # Cov(phi_i phi_j, phi_k phi_l) at [i, k, j, l]
    for i, j in itertools.product(range(3), repeat=2):
        spread[i, i, j, j] += variances[i] * variances[j]
        spread[i, j, j, i] += variances[i] * variances[j]
    spread = spread.reshape(9, 9) / draws
    inlet = np.vstack([np.eye(3), np.zeros((3, 3))])
    ahead = [(1 + momentum), -momentum] if nesterov else [1.0, 0.0]
    outlet = np.hstack([ahead[0] * np.eye(3), ahead[1] * np.eye(3)])
    matrix = update_matrix(hessian, edge, **update)
    total = np.kron(matrix, matrix) + edge**2 * np.kron(inlet, inlet) @ spread @ np.kron(outlet, outlet)
    assert math.isclose(np.abs(np.linalg.eigvals(total)).max(), 1, abs_tol=1e-7)
    if not update:
        assert math.isclose(mean_square_growth(GaussianLeastSquares(variances, 1.0, batch_size=draws), edge), 1)


@every_update
def test_in_one_direction_the_edge_is_the_closed_one(update):
    values = np.array([0.2, 1.0, 2.5])
    gain = mean_square_edge_gain(values.var() / values.mean() ** 2, **update)
    assert math.isclose(second_moment_edge(FiniteSumQuadratic(values), **update) * values.mean(), gain, rel_tol=1e-12)
    regular = mean_square_edge_gain(0.0, **update)
    assert math.isclose(regular, stability_edge(1.0, **update), rel_tol=1e-12)


@every_update
def test_where_all_batches_share_one_hessian_all_edges_agree(update):
    hessian = np.array([[1.0, 0.4], [0.4, 0.6]])
    expected = stability_edge(np.linalg.eigvalsh(hessian)[-1], **update)
    for model in (FullQuadratic(hessian, 1.0), FiniteSumQuadratic(hessian, [[1.0, 0.0], [0.0, 1.0]])):
        assert math.isclose(mean_edge(model, **update), expected, rel_tol=1e-12)
        assert math.isclose(second_moment_edge(model, **update), expected, rel_tol=1e-12)
        if not update:
            assert math.isclose(almost_sure_edge(model), expected, rel_tol=1e-12)
            assert tail_index(model, 0.9 * expected) == math.inf
            assert tail_index(model, 1.1 * expected) == 0
    plain = MiniBatchQuadratic([1.0, 0.5], 1.0)
    assert second_moment_edge(plain, **update) == mean_edge(plain, **update) == stability_edge(1.0, **update)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.05, 3), min_size=6, max_size=6), st.sampled_from([1, 2, 3]))
def test_the_edge_of_reshuffled_epochs(values, size):
    model = FiniteSumQuadratic(values, sampling="reshuffled", batch_size=size)
    edge = reshuffled_edge(model)
    sure = almost_sure_edge(FiniteSumQuadratic(values, sampling="without_replacement", batch_size=size))
    assert edge <= sure * (1 + 1e-10)
    assert math.isclose(reshuffled_growth(model, edge), 1, rel_tol=1e-6)
    if size == 1:
        assert math.isclose(edge, sure, rel_tol=1e-10)


def test_a_killing_rate_is_stable_again_beyond_the_edge():
    model = FiniteSumQuadratic([0.1, 10.0])
    edge = almost_sure_edge(model)
    assert edge < 1
    assert tail_index(model, 2.0) == 0
    assert tail_index(model, 10.0 - 1e-3) > 0


@pytest.mark.parametrize("size", [1, 2])
def test_an_example_that_is_never_drawn_moves_no_edge(size):
    plain = FiniteSumQuadratic([0.5, 1.5], batch_size=size, sampling="replacement")
    more = FiniteSumQuadratic([0.5, 40.0, 1.5], batch_size=size, sampling="replacement", probabilities=[0.5, 0.0, 0.5])
    for edge in (almost_sure_edge, second_moment_edge):
        assert edge(more) == pytest.approx(edge(plain), rel=1e-12)
    for rate in (0.1, 1.3, 1.9):  # no batch expands the error at the first
        assert tail_index(more, rate) == pytest.approx(tail_index(plain, rate), rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: second_moment_edge(FiniteSumQuadratic([1.0, 2.0], sampling="reshuffled")), "independent batches"),
        (lambda: mean_square_growth(FiniteSumQuadratic([1.0, 2.0], sampling="reshuffled"), 0.1), "independent batches"),
        (lambda: one_step_edge(FiniteSumQuadratic([1.0, 2.0], sampling="reshuffled")), "independent batches"),
        (lambda: tail_index(FiniteSumQuadratic([1.0, 2.0], sampling="reshuffled"), 0.1), "independent batches"),
        (lambda: almost_sure_edge(GaussianLeastSquares([1.0, 2.0], 1.0)), "one mode .* got 2 modes"),
        (
            lambda: almost_sure_edge(FiniteSumQuadratic(np.arange(1.0, 30), batch_size=5)),
            "at most 4096 different batches",
        ),
        (  # 5 of 13 with repetition are 17 over 5
            lambda: almost_sure_edge(FiniteSumQuadratic(np.arange(1.0, 14), batch_size=5, sampling="replacement")),
            "got 6188",
        ),
        (lambda: reshuffled_edge(TWO), "sampling 'reshuffled', got 'without_replacement'"),
        (
            lambda: reshuffled_edge(FiniteSumQuadratic(np.array([np.eye(2), 2 * np.eye(2)]), sampling="reshuffled")),
            "one mode, got 2 modes",
        ),
        (
            lambda: reshuffled_growth(FiniteSumQuadratic(np.ones(20), batch_size=2, sampling="reshuffled"), 0.1),
            "at most 100000 partitions",
        ),
    ],
)
def test_models_without_such_an_edge_are_named(call, message):
    with pytest.raises(ValueError, match=f"model must .*{message}"):
        call()


@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from([0.0, 1e-3, 0.5, 0.9, 0.999]), st.booleans(),
    st.floats(-4, 0),
)  # fmt: skip
def test_the_edge_with_momentum_is_a_root_of_its_polynomial_however_few_rates_are_tried(
    seed, size, momentum, nesterov, rare
):
    """One direction that few examples have puts the edge far below that of the mean."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=(5, size, size))
    hessians = factors @ factors.transpose(0, 2, 1)
    probabilities = np.array([10**rare, *np.ones(4)])
    model = FiniteSumQuadratic(hessians, probabilities=probabilities / probabilities.sum(), sampling="replacement")
    options = {"momentum": momentum, "nesterov": nesterov}
    edge = second_moment_edge(model, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges, "_GRID", 2)
        assert second_moment_edge(model, **options) == pytest.approx(edge, rel=1e-9)
    assert mean_square_growth(model, edge, **options) == pytest.approx(1, rel=1e-7)
    shares = np.linspace(0.01, 0.999, 40)
    growths = [mean_square_growth(model, share * edge, **options) for share in shares]
    assert max(growths) < 1
    assert mean_square_growth(model, 1.01 * edge, **options) > 1


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 1e6])
def test_in_any_unit_the_edge_with_momentum_is_one_of_the_roots_that_are_tried(scale, nesterov):
    factors = np.random.default_rng(3).normal(size=(4, 2, 2))
    model = FiniteSumQuadratic(scale * factors @ factors.transpose(0, 2, 1), sampling="replacement")
    edge = second_moment_edge(model, momentum=0.6, nesterov=nesterov)
    limit = mean_edge(model, momentum=0.6, nesterov=nesterov)
    assert edge < 0.9 * limit
    _, noise = edges.independent_noise(model, "")
    roots = edges._roots(noise, limit, 0.6, nesterov)
    assert np.abs(roots / edge - 1).min() < 1e-9


@pytest.mark.parametrize("share", 10.0 ** -np.array([3, 9, 12, 13, 14, 16, 30, 300]))
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_pole_of_a_rare_curvature_hides_no_crossing(share, scale):
    """Half of .5 and half of 1.5 cross at 8/3; at 2.7 a rare example would kill the error in one step."""
    curvatures, chances = np.array([0.5, 1.5, 1 / 2.7]) * scale, [(1 - share) / 2, (1 - share) / 2, share]
    edge = almost_sure_edge(FiniteSumQuadratic(curvatures, sampling="replacement", probabilities=chances))

    def mean_log(rate):
        with mpmath.workdps(40):
            return sum(
                mpmath.mpf(float(p)) * mpmath.log(abs(1 - mpmath.mpf(rate) * mpmath.mpf(float(h))))
                for p, h in zip(chances, curvatures, strict=True)
            )

    assert mean_log(edge * (1 - 1e-13)) < 0 < mean_log(edge * (1 + 1e-13))
    assert edge * scale == pytest.approx(8 / 3, abs=0.01)


@pytest.mark.parametrize("ratio", 10.0 ** -np.array([6, 11, 13, 16, 30, 100]))
def test_a_small_curvature_is_not_a_flat_one(ratio):
    """Directions that do not mix are as in a model of modes, however unlike their curvatures."""
    variance = [1.0, 1 / ratio]
    full = stationary(FullQuadratic(np.diag([1.0, ratio]), np.diag(variance)), 0.5)
    modes = stationary(MiniBatchQuadratic([1.0, ratio], variance), 0.5)
    np.testing.assert_allclose(np.diagonal(full.covariance), modes.variance, rtol=1e-12)
    rare = FiniteSumQuadratic(
        np.array([np.diag([1.0, 0.0]), np.diag([0.0, 100.0])]),
        sampling="replacement",
        probabilities=[1 - ratio, ratio],
    )
    assert second_moment_edge(rare) == pytest.approx(0.02, rel=1e-12)
    slow = mean_square_growth(FullQuadratic(np.diag([1.0, ratio]), np.eye(2)), 1.0)
    assert slow == pytest.approx((1 - ratio) ** 2, rel=1e-15)


def test_a_flat_direction_is_not_a_small_curvature():
    rng = np.random.default_rng(3)
    for _ in range(20):
        features = rng.normal(size=(3, 5))
        model = FiniteSumQuadratic(features[:, :, None] * features[:, None, :])
        turned = np.linalg.qr(features.T)[0]
        inside = FiniteSumQuadratic(np.einsum("ji,njk,kl->nil", turned, model.hessians, turned))
        assert second_moment_edge(model) == pytest.approx(second_moment_edge(inside), rel=1e-10)
        rate = second_moment_edge(model) / 2
        assert mean_square_growth(model, rate) == pytest.approx(mean_square_growth(inside, rate), rel=1e-10)
