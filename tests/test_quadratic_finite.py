"""Examples of their own curvature: every closed form against all batches, all orders and all sequences."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import FiniteSumQuadratic, GaussianLeastSquares
from sgdynamics.models.schedules import constant
from sgdynamics.theory.break_even import batch_variance_factor
from sgdynamics.theory.quadratic import (
    mean_square_factor,
    moments,
    random_curvature_second_moment,
    random_curvature_variance,
    reshuffled_growth,
    reshuffled_variance,
    stationary,
    stationary_variance,
    trace_rule_term,
)
from sgdynamics.theory.schedules import average_to_gains

UPDATES = {
    "plain": {},
    "heavy ball": {"momentum": 0.6},
    "Nesterov": {"momentum": 0.6, "nesterov": True},
}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)


def examples(seed, n, d):
    generator = np.random.default_rng(seed)
    roots = generator.normal(size=(n, d, d)) / np.sqrt(d)
    return roots @ roots.transpose(0, 2, 1), generator.normal(size=(n, d)), generator.normal(size=d)


def errors(hessians, centers, start, rates, sequence, momentum=0.0, nesterov=False):
    """x_0..x_T for one sequence of batches, from the definition, less the population minimiser."""
    minimizer = np.linalg.solve(hessians.mean(0), np.einsum("nij,nj->i", hessians, centers) / len(hessians))
    x = minimizer + start
    path, velocity, previous = [x], 0 * x, x
    for rate, batch in zip(rates, sequence, strict=True):
        ahead = x + momentum * (x - previous) if nesterov else x
        gradient = sum(hessians[i] @ (ahead - centers[i]) for i in batch) / len(batch)
        velocity = gradient if nesterov else momentum * velocity + gradient
        previous, x = x, ahead - rate * velocity
        path.append(x)
    return np.array(path) - minimizer


def all_batches(n, size, sampling):
    if sampling == "replacement":
        return list(itertools.product(range(n), repeat=size))
    return list(itertools.combinations(range(n), size))


@every_update
@pytest.mark.parametrize(("sampling", "size"), [("replacement", 1), ("replacement", 2), ("without_replacement", 2)])
def test_moments_are_those_of_all_sequences_of_batches(update, sampling, size):
    """Correlated centers: the first two moments, of iterates and of an average, by enumeration."""
    hessians, centers, start = examples(3, 3, 2)
    rates, average = [0.3, 0.5, 0.2], np.array([0.1, 0.2, 0.3, 0.4])
    batches = all_batches(3, size, sampling)
    paths = np.array(
        [errors(hessians, centers, start, rates, s, **update) for s in itertools.product(batches, repeat=3)]
    )
    model = FiniteSumQuadratic(hessians, centers, displacement=start, batch_size=size, sampling=sampling)
    data = moments(model, rates, record=range(4), **update)
    np.testing.assert_allclose(data.mean_error, paths.mean(0), atol=1e-12)
    second = np.einsum("sti,stj->tij", paths, paths) / len(paths)
    np.testing.assert_allclose(data.second_moment, second, atol=1e-12)
    np.testing.assert_allclose(data.excess_risk, model.excess_risk(paths).mean(0), rtol=1e-12)
    averaged = np.einsum("t,sti->si", average, paths)
    data = moments(model, rates, average=average, **update)
    np.testing.assert_allclose(data.mean_error[0], averaged.mean(0), atol=1e-12)
    np.testing.assert_allclose(data.covariance[0], np.cov(averaged.T, ddof=0), atol=1e-12)


@every_update
@pytest.mark.parametrize("size", [1, 2, 4])
def test_reshuffled_moments_are_those_of_all_orders_at_every_step(update, size):
    _, centers, start = examples(8, 4, 2)
    hessian = np.array([[1.0, 0.4], [0.4, 0.6]])
    hessians = np.broadcast_to(hessian, (4, 2, 2))
    batches = 4 // size
    epochs = [[order[k * size : (k + 1) * size] for k in range(batches)] for order in itertools.permutations(range(4))]
    count = 2 * batches
    rates = np.linspace(0.7, 0.3, count)
    average = np.full(count + 1, 1 / (count + 1))
    sequences = [a + b for a in epochs for b in epochs]
    paths = np.array([errors(hessians, centers, start, rates, s, **update) for s in sequences])
    model = FiniteSumQuadratic(hessian, centers, displacement=start, batch_size=size, sampling="reshuffled")
    data = moments(model, rates, record=range(count + 1), **update)
    np.testing.assert_allclose(data.mean_error, paths.mean(0), atol=1e-12)
    for step in range(count + 1):
        np.testing.assert_allclose(data.covariance[step], np.cov(paths[:, step].T, ddof=0), atol=1e-12)
    data = moments(model, rates, average=average, **update)
    np.testing.assert_allclose(data.covariance[0], np.cov(paths.mean(1).T, ddof=0), atol=1e-12)


@every_update
def test_center_noise_is_fresh_for_every_draw(update):
    """Two-point noise has the moments of the Gaussian one; an example drawn twice has two of them."""
    curvatures, centers, sigma, rates = np.array([0.5, 1.7]), np.array([1.0, -0.5]), 0.8, [0.4, 0.6]
    draws = list(itertools.product([0, 1], [-sigma, sigma]))
    paths = []
    for sequence in itertools.product(itertools.product(draws, repeat=2), repeat=2):
        minimizer = (curvatures * centers).mean() / curvatures.mean()
        momentum, nesterov = update.get("momentum", 0.0), update.get("nesterov", False)
        x = previous = minimizer + 0.3
        velocity = 0.0
        for rate, batch in zip(rates, sequence, strict=True):
            ahead = x + momentum * (x - previous) if nesterov else x
            gradient = np.mean([curvatures[i] * (ahead - centers[i] - noise) for i, noise in batch])
            velocity = gradient if nesterov else momentum * velocity + gradient
            previous, x = x, ahead - rate * velocity
        paths.append(x - minimizer)
    model = FiniteSumQuadratic(
        curvatures, centers, center_covariance=sigma**2, displacement=0.3, batch_size=2, sampling="replacement"
    )
    data = moments(model, rates, **update)
    assert math.isclose(data.mean_error.item(), np.mean(paths), rel_tol=1e-12)
    assert math.isclose(data.second_moment.item(), np.mean(np.square(paths)), rel_tol=1e-12)


@every_update
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), sampling=st.sampled_from(["replacement", "without_replacement"]))
def test_the_stationary_law_is_where_the_moments_stay(update, seed, sampling):
    hessians, centers, _ = examples(seed, 5, 3)
    model = FiniteSumQuadratic(hessians, centers, center_covariance=0.3, batch_size=3, sampling=sampling)
    rate = 0.15 / np.linalg.eigvalsh(hessians)[:, -1].max()
    law = stationary(model, rate, **update)
    # E over batches of one step of the state (e, u) or (e, last step), by enumeration
    batches = all_batches(5, 3, sampling)
    momentum, nesterov = update.get("momentum", 0.0), update.get("nesterov", False)
    one, square, noise = np.eye(3), 0, 0
    for batch in batches:
        h = hessians[list(batch)].mean(0)
        force = np.einsum("nij,nj->i", hessians[list(batch)], centers[list(batch)] - model.minimizer) / 3
        fresh = 0.3 * (hessians[list(batch)] @ hessians[list(batch)]).sum(0) / 9
        if nesterov:
            ahead = one - rate * h
            matrix = np.block([[ahead, momentum * ahead], [-rate * h, momentum * ahead]])
            inlet = np.vstack([rate * one, rate * one])
        else:
            matrix = np.block([[one - rate * h, -rate * momentum * one], [h, momentum * one]])
            inlet = np.vstack([rate * one, -one])
        square = square + np.kron(matrix, matrix) / len(batches)
        noise = noise + inlet @ (np.outer(force, force) + fresh) @ inlet.T / len(batches)
    solved = np.linalg.solve(np.eye(36) - square, noise.ravel()).reshape(6, 6)[:3, :3]
    np.testing.assert_allclose(law.covariance, solved, rtol=1e-9, atol=1e-10 * np.abs(solved).max())


def test_random_curvature_of_half_and_three_halves():
    """By hand: v = 1 at a rate of 0.8; edge 1.6."""
    model = FiniteSumQuadratic([0.5, 1.5], center_covariance=1.0, displacement=2.0)
    assert math.isclose(stationary(model, 0.8).variance.item(), 1.0, rel_tol=1e-14)
    assert math.isclose(random_curvature_variance(0.8, 0.25), 1.0, rel_tol=1e-14)
    assert stationary(model, 1.6).variance.item() == random_curvature_variance(1.6, 0.25) == math.inf
    data = moments(model, constant(0.8, 5), record=range(6))
    closed = random_curvature_second_moment(0.8, 0.25, np.arange(6), 4.0)
    np.testing.assert_allclose(data.second_moment[:, 0, 0], closed, rtol=1e-13)


@every_update
def test_the_closed_variance_of_random_curvature_is_that_of_the_model(update):
    values, probabilities = np.array([0.2, 1.0, 2.5]), np.array([0.5, 0.3, 0.2])
    model = FiniteSumQuadratic(values, center_covariance=1.0, probabilities=probabilities, sampling="replacement")
    mean = probabilities @ values
    relative = probabilities @ values**2 / mean**2 - 1
    law = stationary(model, 0.2, **update)
    assert math.isclose(law.variance.item(), random_curvature_variance(0.2 * mean, relative, **update), rel_tol=1e-12)


def test_the_factor_of_a_batch_without_replacement_by_all_batches():
    curvatures = np.array([0.2, 0.5, 1.0, 1.4, 2.0, 0.9])
    mean, relative = curvatures.mean(), curvatures.var() / curvatures.mean() ** 2
    for size in range(1, 7):
        batches = [np.mean(batch) for batch in itertools.combinations(curvatures, size)]
        enumerated = np.mean((1 - 0.7 * np.array(batches)) ** 2)
        made = mean_square_factor(0.7 * mean, relative * batch_variance_factor(6, size))
        assert math.isclose(made, enumerated, rel_tol=1e-12)
        if size == 2:
            assert math.isclose(enumerated, 0.15729333333333334, rel_tol=1e-12)
    assert batch_variance_factor(1, 1) == batch_variance_factor(6, 6) == 0
    with pytest.raises(ValueError, match="batch_size must be at most examples = 6"):
        batch_variance_factor(6, 7)


def test_the_ratio_of_reshuffled_to_independent_batches():
    ratio = elsewhere("reshuffled_variance").values[0.3, 8]
    assert math.isclose(reshuffled_variance(0.3, 8) / stationary_variance(0.3), ratio, abs_tol=5e-11)
    # epoch by epoch over all 720 orders of six centers
    centers = np.random.default_rng(2).normal(size=6)
    centers -= centers.mean()
    ends = [sum(0.3 * 0.7 ** (5 - k) * c for k, c in enumerate(order)) for order in itertools.permutations(centers)]
    enumerated = np.mean(np.square(ends)) / (1 - 0.7**12)
    assert math.isclose(reshuffled_variance(0.3, 6) * np.mean(centers**2), enumerated, rel_tol=1e-12)
    model = FiniteSumQuadratic(0.5, centers[:, None], sampling="reshuffled")
    assert math.isclose(stationary(model, 0.6).variance.item(), enumerated, rel_tol=1e-12)
    paired = FiniteSumQuadratic(0.5, centers[:, None], sampling="reshuffled", batch_size=2)
    expected = reshuffled_variance(0.3, 3, 2) * np.mean(centers**2) / 2
    assert math.isclose(stationary(paired, 0.6).variance.item(), expected, rel_tol=1e-12)
    whole = FiniteSumQuadratic(0.5, centers[:, None], sampling="reshuffled", batch_size=6)
    assert stationary(whole, 0.6).variance.item() == pytest.approx(0, abs=1e-25)


@given(st.floats(-8, math.log10(1.99)), st.integers(1, 300), st.integers(1, 20))
def test_the_reshuffled_variance_keeps_its_digits(power, batches, size):
    gain = 10**power
    with mpmath.workdps(60):
        x, n = mpmath.mpf(gain), batches * size
        a = 1 - x
        first = mpmath.fsum(a**k for k in range(batches))
        second = mpmath.fsum(a ** (2 * k) for k in range(batches))
        exact = x**2 * (second - first**2 / batches) / (1 - a ** (2 * batches)) * n / max(n - 1, 1)
    made = reshuffled_variance(gain, batches, size)
    assert abs(made - exact) <= 1e-10 * abs(exact) + 1e-300


@every_update
def test_reshuffled_stationary_moments_are_reached_at_epoch_ends(update):
    _, centers, _ = examples(1, 6, 2)
    hessian = np.array([[1.0, 0.4], [0.4, 0.6]])
    model = FiniteSumQuadratic(hessian, centers, center_covariance=0.1, sampling="reshuffled", batch_size=2)
    law, late = stationary(model, 0.6, **update), moments(model, constant(0.6, 600), **update)
    np.testing.assert_allclose(late.covariance[0], law.covariance, rtol=1e-10)


def test_the_growth_of_an_epoch_by_all_orders():
    curvatures = np.array([0.1, 0.4, 2.0, 0.7, 1.1, 0.3])
    for size in (1, 2, 3):
        model = FiniteSumQuadratic(curvatures, sampling="reshuffled", batch_size=size)
        orders = np.array(list(itertools.permutations(curvatures))).reshape(720, -1, size).mean(-1)
        for rate in (0.3, 1.9):
            assert math.isclose(
                reshuffled_growth(model, rate), np.mean(np.prod((1 - rate * orders) ** 2, 1)), rel_tol=1e-12
            )


# ---------------------------------------------------------------------------------------------------------------------
# Least squares


@every_update
def test_one_step_of_least_squares_by_gaussian_quadrature(update):
    """Products of Gauss-Hermite nodes integrate the polynomials of the second moment exactly."""
    variances, noise, start = np.array([1.0, 0.4]), 0.3, np.array([1.0, -2.0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    weights = weights / weights.sum()
    model = GaussianLeastSquares(variances, noise, displacement=start, batch_size=2)
    mean, second = np.zeros(2), np.zeros((2, 2))
    for index in itertools.product(range(4), repeat=4):
        features = nodes[list(index)].reshape(2, 2) * np.sqrt(variances)
        chance = np.prod(weights[list(index)])
        for signs in itertools.product([-1, 1], repeat=2):
            made = model.step(start, features, 0.35, np.sqrt(noise) * np.array(signs))
            mean += chance * made / 4
            second += chance * np.outer(made, made) / 4
    data = moments(model, [0.35], **update)  # the first step has no momentum yet
    np.testing.assert_allclose(data.mean_error[0], mean, rtol=1e-12)
    np.testing.assert_allclose(data.second_moment[0], second, rtol=1e-11)


def test_the_recursion_of_least_squares_written_out():
    variances, noise, rate, draws = np.array([1.0, 0.5, 0.1]), 0.2, 0.3, 3
    v = np.array([1.0, 4.0, 9.0])
    model = GaussianLeastSquares(variances, noise, displacement=[1.0, -2.0, 3.0], batch_size=draws)
    data = moments(model, constant(rate, 30), record=range(31))
    for step in range(31):
        np.testing.assert_allclose(np.diagonal(data.second_moment[step]), v, rtol=1e-12)
        bracket = variances**2 * v + variances * (variances @ v)
        v = (1 - rate * variances) ** 2 * v + rate**2 / draws * (bracket + variances * noise)
    law = stationary(model, rate).variance.values
    bracket = variances**2 * law + variances * (variances @ law)
    kept = (1 - rate * variances) ** 2 * law + rate**2 / draws * (bracket + variances * noise)
    np.testing.assert_allclose(kept, law, rtol=1e-12)
    terms = trace_rule_term(rate * variances, draws)
    assert math.isclose(stationary(model, rate).excess_risk, noise * terms.sum() / (1 - terms.sum()) / 2, rel_tol=1e-12)


@every_update
def test_the_stationary_law_of_least_squares_is_reached(update):
    model = GaussianLeastSquares([1.0, 0.5, 0.3], 0.2, displacement=1.0, batch_size=2)
    late, law = moments(model, constant(0.15, 1500), **update), stationary(model, 0.15, **update)
    np.testing.assert_allclose(late.variance[0], law.variance, rtol=1e-9)
    np.testing.assert_allclose(late.covariance[0], law.covariance, atol=1e-9)
    assert math.isclose(late.excess_risk.item(), law.excess_risk.item(), rel_tol=1e-9)


def test_large_batches_are_additive_noise():
    """The two differ by a relative O(1/S)."""
    variances, gaps = np.array([1.0, 0.5, 0.1]), []
    for draws in (100, 200, 400, 800):
        law = stationary(GaussianLeastSquares(variances, 1.0, batch_size=draws), 0.5)
        additive = stationary_variance(0.5 * variances) / variances / draws
        gaps.append(np.max(np.abs(law.variance.values / additive - 1)))
    np.testing.assert_allclose(np.diff(np.log(gaps)) / np.log(2), -1, atol=0.02)


# ---------------------------------------------------------------------------------------------------------------------
# Where a theorem must fail


def test_an_average_is_no_schedule_pathwise_where_curvature_is_random():
    generator = np.random.default_rng(0)
    average, steps, rate = np.full(41, 1 / 41), 40, 0.4
    gains = average_to_gains(average, np.full(steps, rate))

    def gap(curvatures):
        centers = generator.normal(size=steps)
        x = y = 1.0
        base = [x]
        for curvature, center, gain in zip(curvatures, centers, gains, strict=True):
            x = x - rate * curvature * (x - center)
            y = y - gain * curvature * (y - center)
            base.append(x)
        return abs(np.mean(base) - y)

    assert gap(np.ones(steps)) < 1e-14
    assert gap(generator.choice([0.5, 1.5], size=steps)) > 1e-3


def test_curvature_of_its_own_for_every_example_cannot_be_reshuffled_in_closed_form():
    model = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    for call in (lambda: moments(model, [0.1]), lambda: stationary(model, 0.1)):
        with pytest.raises(ValueError, match="model must have one Hessian for all examples where it is reshuffled"):
            call()


# ---------------------------------------------------------------------------------------------------------------------
# The models


def test_the_minimiser_is_not_the_mean_center():
    model = FiniteSumQuadratic([0.5, 1.5], [3.0, 1.0])
    assert model.minimizer.tolist() == [1.5]
    np.testing.assert_allclose(model.forces.sum(0), 0, atol=1e-15)


def test_pointwise_facts_of_examples_by_all_batches():
    hessians, centers, start = examples(4, 4, 2)
    model = FiniteSumQuadratic(hessians, centers, displacement=start, batch_size=2, sampling="without_replacement")
    batches = np.array(all_batches(4, 2, "without_replacement"))
    losses = model.batch_loss(start, batches)
    assert math.isclose(losses.mean(), model.excess_risk(start) + model.floor, rel_tol=1e-12)
    np.testing.assert_allclose(model.batch_gradient(start, batches).mean(0), model.mean_hessian @ start, atol=1e-13)
    for mode in range(2):
        nudge = 1e-4 * np.eye(2)[mode]
        slope = (model.batch_loss(start + nudge, batches) - model.batch_loss(start - nudge, batches)) / 2e-4
        np.testing.assert_allclose(model.batch_gradient(start, batches)[:, mode], slope, atol=1e-8)
    path = errors(hessians, centers, start, [0.3], [batches[2]])
    np.testing.assert_allclose(model.step(start, batches[2], 0.3), path[1], atol=1e-14)
    with pytest.raises(ValueError, match=r"drawn must be an array of example numbers in 0\.\.3"):
        model.step(start, [4], 0.1)


def test_what_is_shared_is_given_to_every_example():
    model = FiniteSumQuadratic(2.0, np.arange(6.0).reshape(3, 2))
    assert model.hessians.shape == (3, 2, 2)
    assert model.minimizer.tolist() == [2.0, 3.0]
    assert FiniteSumQuadratic(np.eye(2)).examples == 1
    assert FiniteSumQuadratic([1.0, 2.0, 3.0], 4.0).centers.tolist() == [[4.0]] * 3


def test_a_direction_flat_for_all_examples_is_left_alone():
    hessians = np.array([np.diag([0.5, 0.0]), np.diag([1.5, 0.0])])
    law = stationary(FiniteSumQuadratic(hessians, center_covariance=1.0), 0.8)
    np.testing.assert_allclose(law.covariance, [[1.0, 0.0], [0.0, 0.0]], atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0.5, -1.5],), {}, "hessians must be .* got -1.5"),
        ((0.0,), {}, "hessians must be .* got zeros"),
        (([np.eye(2), [[0.0, 1.0], [1.0, 0.0]]],), {}, "hessians must be .* got the eigenvalue -1.0 of matrix 1"),
        (([np.eye(2), [[0.0, 1.0], [0.0, 0.0]]],), {}, r"hessians must be .* got 1.0 at index \(1, 0, 1\)"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), {}, r"centers must have one point per example, shape \(2, 1\)"),
        ((np.eye(2), [1.0, 2.0]), {}, r"centers must have one point per example, shape \(2, 2\)"),
        ((1.0, np.zeros((2, 2, 2))), {}, "centers must have shape"),
        (([1.0, 2.0],), {"center_covariance": np.eye(2)}, "center_covariance must be a number or"),
        (([1.0, 2.0],), {"displacement": [1.0, 2.0]}, "displacement must have one value per mode, 1"),
        (([1.0, 2.0],), {"displacement": [[1.0]]}, "displacement must be a scalar or"),
        (([1.0, 2.0],), {"batch_size": 3, "sampling": "without_replacement"}, "batch_size must be at most .* got 3"),
        (([1.0, 2.0, 3.0],), {"batch_size": 2, "sampling": "reshuffled"}, "batch_size must divide .* got 2"),
        (([1.0, 2.0],), {"sampling": "cyclic"}, "sampling must be one of .* got 'cyclic'"),
        (
            ([1.0, 2.0],),
            {"probabilities": [0.5, 0.6], "sampling": "replacement"},
            "probabilities must be >= 0 and sum to 1",
        ),
        (([1.0, 2.0],), {"probabilities": [0.5, 0.3, 0.2]}, "probabilities must have one value per example, 2"),
        (
            ([1.0, 2.0],),
            {"probabilities": [0.5, 0.5], "sampling": "without_replacement"},
            "probabilities must be None for sampling 'without_replacement'",
        ),
    ],
)
def test_examples_that_cannot_be_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=f"FiniteSumQuadratic: {message}"):
        FiniteSumQuadratic(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0, 0.0], 1.0), {}, "feature_variance must be a finite number > 0"),
        (([[1.0]], 1.0), {}, "feature_variance must be a scalar or"),
        (([1.0], [1.0]), {}, "label_noise must be one number"),
        (([1.0], -1.0), {}, "label_noise must be a finite number >= 0"),
        (([1.0, 2.0], 1.0), {"displacement": [1.0, 2.0, 3.0]}, "displacement must have one value per mode, 2"),
        (([1.0], 1.0), {"batch_size": 1.5}, "batch_size must be an integer >= 1"),
    ],
)
def test_a_regression_that_cannot_be_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=f"GaussianLeastSquares: {message}"):
        GaussianLeastSquares(*arguments, **options)
