"""The mini-batch quadratic: every closed form against recursions, sums of squared weights and enumerations.

In one direction e_t = e_{t-1} - g_t (e_{t-1} - xi_t), with centers of variance sigma^2; nothing else is assumed.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, hyp2f1, zeta

import sgdynamics
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, ema, linear, swa, tail, two_point, warmup_stable_decay
from sgdynamics.outcome import Outcome
from sgdynamics.theory.quadratic import (
    batch_full_gradient_cosine,
    chord_excess,
    contraction_factor,
    covariance_ratio,
    ema_start_weight,
    ema_variance,
    equivalent_gain,
    far_points_variance,
    gradient_cosine,
    greedy_schedule,
    half_rate_excess,
    held_out_loss,
    iterate_cosine,
    lagged_gradient_cosine,
    line_search_gain,
    mean_square_edge_gain,
    mean_square_factor,
    moments,
    optimal_schedule,
    power_law_bias,
    power_law_crossover_steps,
    power_law_optimal_rate,
    random_curvature_second_moment,
    random_curvature_variance,
    reshuffled_variance,
    shell_fluctuation,
    squared_distance,
    stability,
    stability_edge,
    stationary,
    stationary_risk,
    stationary_variance,
    stepped_loss,
    steps_to_target,
    swa_start_weight,
    swa_variance,
    tail_variance,
    trace_rule_term,
    two_point_variance,
    used_batch_loss,
)

UPDATES = {
    "plain": {},
    "heavy ball": {"momentum": 0.7},
    "Nesterov": {"momentum": 0.7, "nesterov": True},
}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)

# ---------------------------------------------------------------------------------------------------------------------
# The model, written out


def run(gains, start, centers, momentum=0.0, nesterov=False):
    """e_0..e_T from the definition of each method, for any shape of start and centers[t]."""
    path, velocity, previous = [start], 0 * start, start
    for gain, center in zip(gains, centers, strict=True):
        if nesterov:
            ahead = path[-1] + momentum * (path[-1] - previous)
            new = ahead - gain * (ahead - center)
        else:
            velocity = momentum * velocity + (path[-1] - center)
            new = path[-1] - gain * velocity
        previous = path[-1]
        path.append(new)
    return np.array(path)


def linear_form(gains, **update):
    """Weight of the start and of every center in e_0..e_T, by feeding the recursion unit impulses."""
    steps = len(gains)
    return run(gains, np.float64(1), np.zeros(steps), **update), run(gains, np.zeros(steps), np.eye(steps), **update)


def transfer(gain, momentum, nesterov):
    """Matrix on (e_t, e_{t-1}); the center enters the first entry with weight ``gain``."""
    q = 1 - gain
    top = [(1 + momentum) * q, -momentum * q] if nesterov else [q + momentum, -momentum]
    return [top, [1, 0]]


def stationary_entry(matrix, noise, entry):
    """An entry (0: 11, 1: 12, 2: 22) of the covariance S = M S M' + n n', by linear algebra with 50 digits."""
    (a, b), (c, d) = matrix
    with mpmath.workdps(50):
        map_of_covariance = mpmath.matrix(
            [[a * a, 2 * a * b, b * b], [a * c, a * d + b * c, b * d], [c * c, 2 * c * d, d * d]]
        )
        shock = mpmath.matrix([noise[0] ** 2, noise[0] * noise[1], noise[1] ** 2])
        return mpmath.lu_solve(mpmath.eye(3) - map_of_covariance, shock)[entry]


def stationary_by_algebra(gain, momentum, nesterov):
    with mpmath.workdps(50):
        x, beta = mpmath.mpf(gain), mpmath.mpf(momentum)
        return stationary_entry(transfer(x, beta, nesterov), [x, 0], 0)


def ema_by_algebra(gain, beta):
    with mpmath.workdps(50):
        x, b = mpmath.mpf(gain), mpmath.mpf(beta)
        return stationary_entry([[1 - x, 0], [(1 - b) * (1 - x), b]], [x, (1 - b) * x], 2)


def past(gain, shifts, length=1600):
    """Weights of the last centers in a stationary iterate, ``shifts`` steps before the end of the window."""
    age = length - 1 - shifts - np.arange(length)
    return np.where(age >= 0, gain * (1 - gain) ** np.maximum(age, 0), 0.0)


def risks(curvature, variance, start, learning_rate, steps, multiplicity=1.0):
    """R(0..steps) at a constant learning rate, step by step."""
    gain, second = learning_rate * curvature, start**2
    curve = [0.5 * np.sum(multiplicity * curvature * second)]
    for _ in range(steps):
        second = (1 - gain) ** 2 * second + gain**2 * variance
        curve.append(0.5 * np.sum(multiplicity * curvature * second))
    return np.array(curve)


def close(made, expected, relative=1e-9):
    return abs(made - expected) <= relative * abs(expected)


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn

seeds = st.integers(0, 2**32 - 1)
stable_gains = st.floats(-8, math.log10(1.999)).map(lambda power: 10**power)
middle_gains = st.floats(0.03, 1.9)
decays = st.one_of(st.just(0.0), st.floats(-6, 0).map(lambda power: 1 - 10**power))
horizons = st.floats(0, 4).map(lambda power: round(10**power))
lags = st.integers(0, 40)
flags = st.booleans()
below_edge = st.floats(-8, -5e-4).map(lambda power: 10**power)  # as a fraction of the stability edge


def edge_of(momentum, nesterov):
    return 2 * (1 + momentum) / (1 + 2 * momentum) if nesterov else 2 * (1 + momentum)


def random_model(seed, modes=None):
    generator = np.random.default_rng(seed)
    modes = modes or int(generator.integers(1, 6))
    curvature, variance = 10 ** generator.uniform(-3, 0, (2, modes))
    start = generator.normal(size=modes) * (generator.random(modes) < 0.7)
    return generator, curvature, variance, start


# ---------------------------------------------------------------------------------------------------------------------
# Proofs: substituted in its defining recursion, a formula leaves exactly 0

A, X, BETA, S = sympy.symbols("a x beta s", positive=True)
N, K = sympy.symbols("n k", integer=True, positive=True)
FROM_A = 1 - A  # the gain, where powers of a = 1 - x are at stake


def solve_recursion(variance, x, nesterov, noise=1):
    """Residual of the stationary second moments of (e_t, e_{t-1}) under the transfer matrix."""
    (m, n), _ = transfer(x, BETA, nesterov)
    neighbours = m * variance / (1 - n)  # E e_t e_{t-1} = m V + n E e_{t-1} e_{t-2}
    return m**2 * variance + n**2 * variance + 2 * m * n * neighbours + x**2 * noise - variance


def proof_stationary_variance():
    yield stationary_variance(X) - ((1 - X) ** 2 * stationary_variance(X) + X**2)
    for nesterov in (False, True):
        yield solve_recursion(stationary_variance(X, momentum=BETA, nesterov=nesterov), X, nesterov)


def proof_stationary_risk():
    rate, curvature, noise, batch = sympy.symbols("eta h C B", positive=True)
    for nesterov in (False, True):
        risk = stationary_risk(rate, curvature, noise, batch, momentum=BETA, nesterov=nesterov)
        yield solve_recursion(2 * risk / curvature, rate * curvature, nesterov, noise / batch)


def proof_ema_variance():
    a, run_variance = 1 - X, X**2 / (1 - (1 - X) ** 2)
    mixed = (1 - BETA) * run_variance / (1 - a * BETA)  # E x_t y_t = beta a E x_{t-1} y_{t-1} + (1 - beta) V
    made = ema_variance(X, BETA)
    yield BETA**2 * made + 2 * BETA * (1 - BETA) * a * mixed + (1 - BETA) ** 2 * run_variance - made


def proof_two_point_variance():
    run_variance = FROM_A**2 / (1 - A**2)

    def covariance(lag):  # of two iterates, read off the variance of their midpoint
        return 2 * two_point_variance(FROM_A, lag) - run_variance

    yield covariance(1) - A * run_variance
    yield covariance(K + 1) - A * covariance(K)


def proof_tail_variance():
    """n^2 V_n / V adds all correlations; its second difference in n is the one new correlation, twice."""
    for stride in (1, 2, 5):
        correlation = A**stride

        def total(points, stride=stride):
            return points**2 * tail_variance(FROM_A, points, stride) * (1 - A**2) / FROM_A**2

        yield total(1) - 1
        yield total(2) - (2 + 2 * correlation)
        yield total(N + 2) - 2 * total(N + 1) + total(N) - 2 * correlation ** (N + 1)


def proof_swa_start_weight():
    yield swa_start_weight(FROM_A, 1) - A
    yield (N + 1) * swa_start_weight(FROM_A, N + 1) - N * swa_start_weight(FROM_A, N) - A ** (N + 1)


def proof_swa_variance():
    """One more step adds one more squared weight, (1 - a^{T+1})^2; the others keep theirs."""
    yield swa_variance(FROM_A, 1) - FROM_A**2
    yield (N + 1) ** 2 * swa_variance(FROM_A, N + 1) - N**2 * swa_variance(FROM_A, N) - (1 - A ** (N + 1)) ** 2


def proof_equivalent_gain():
    made = equivalent_gain(S)
    yield (1 - made) ** 2 * S + made**2 - S  # plain SGD at this gain stays at this variance


def proof_stability_edge():
    """At the edge -1 is an eigenvalue of the transfer matrix."""
    curvature = sympy.Symbol("h", positive=True)
    for nesterov in (False, True):
        gain = stability_edge(curvature, momentum=BETA, nesterov=nesterov) * curvature
        yield (sympy.Matrix(transfer(gain, BETA, nesterov)) + sympy.eye(2)).det()


def proof_iterate_cosine():
    yield iterate_cosine(FROM_A, 0) - 1
    yield iterate_cosine(FROM_A, K + 1) - A * iterate_cosine(FROM_A, K)


def proof_squared_distance():
    run_variance = FROM_A**2 / (1 - A**2)

    def covariance(lag):
        return run_variance - squared_distance(FROM_A, lag) / 2

    yield covariance(0) - run_variance
    yield covariance(K + 1) - A * covariance(K)


def proof_chord_excess():
    weights = sympy.Matrix([1 - S, S])
    for lag in (0, 1, 2, 7):
        correlations = sympy.Matrix([[1, A**lag], [A**lag, 1]])
        yield chord_excess(FROM_A, lag, S) - (weights.T * correlations * weights)[0]


def proof_held_out_loss():
    excess = held_out_loss(X) - 1
    yield (1 - X) ** 2 * excess + X**2 - excess


def proof_used_batch_loss():
    run_variance = FROM_A**2 / (1 - A**2)

    def covariance(lag):  # of the iterate and the center it used
        return (1 + run_variance - used_batch_loss(FROM_A, lag)) / 2

    yield covariance(0) - FROM_A
    yield covariance(K + 1) - A * covariance(K)
    yield used_batch_loss(FROM_A, 0) - A**2 * (1 + run_variance)


def expected(square, **variances):
    """E of a polynomial of second degree in independent centered variables."""
    made = sympy.expand(square)
    return sum(made.coeff(sympy.Symbol(name), 2) * variance for name, variance in variances.items())


def proof_stepped_loss():
    error, used, fresh, trial = sympy.symbols("e xi fresh trial")
    square = (error - trial * (error - used) - fresh) ** 2
    yield stepped_loss(X, trial) - expected(square, e=X**2 / (1 - (1 - X) ** 2), xi=1, fresh=1)


def excess_after(trial):
    return expected(
        (sympy.Symbol("e") * (1 - trial) + trial * sympy.Symbol("xi")) ** 2, e=X**2 / (1 - (1 - X) ** 2), xi=1
    )


def proof_line_search_gain():
    trial = sympy.Symbol("trial")
    yield sympy.diff(excess_after(trial), trial).subs(trial, line_search_gain(X))
    yield excess_after(X) - excess_after(0)  # which is why


def proof_half_rate_excess():
    yield half_rate_excess(X) * excess_after(0) - excess_after(X / 2)


def proof_shell_fluctuation():
    """Var z^2 = E z^4 - 1 = 2 for a standard normal z, so that Var sum s z^2 = 2 sum s^2."""
    spectrum = sympy.symbols("s1:5", positive=True)
    total, squares = sum(spectrum), sum(s**2 for s in spectrum)
    yield shell_fluctuation(total**2 / squares) ** 2 - 2 * squares / total**2


def proof_covariance_ratio():
    """The covariances of (e_t, e_{t-1}) in one direction with those in another, shaken by the same center."""
    y = sympy.Symbol("y", positive=True)
    made = covariance_ratio(X, y)
    yield (1 - X) * (1 - y) * made + X * y - made
    for nesterov in (False, True):
        made = covariance_ratio(X, y, momentum=BETA, nesterov=nesterov)
        (m, n), _ = transfer(X, BETA, nesterov)
        (o, p), _ = transfer(y, BETA, nesterov)
        earlier = made * (m + n * o) / (1 - n * p)  # E e_t f_{t-1} = m E e f + n E e_{t-1} f_t
        later = made * (o + p * m) / (1 - n * p)
        yield m * o * made + m * p * earlier + n * o * later + n * p * made + X * y - made


def over_two_gains(function):
    """Mean over the gains x (1 +- s), of relative variance s^2."""
    return (function(X * (1 + S)) + function(X * (1 - S))) / 2


def random_gain_residual(variance, nesterov, noise):
    """As ``solve_recursion``, with a gain that is drawn anew in every step."""

    def mean(of):
        return over_two_gains(lambda x: of(*transfer(x, BETA, nesterov)[0]))

    neighbours = mean(lambda m, n: m) * variance / (1 - mean(lambda m, n: n))
    kept = mean(lambda m, n: m**2 + n**2) * variance + 2 * mean(lambda m, n: m * n) * neighbours
    return kept + noise * over_two_gains(lambda x: x**2) - variance


def proof_mean_square_factor():
    yield mean_square_factor(X, S**2) - over_two_gains(lambda x: (1 - x) ** 2)


def proof_mean_square_edge_gain():
    """Without noise any variance stays what it is: the one factor in which the spread of the gain appears is 0."""
    for nesterov in (None, False, True):
        options = {} if nesterov is None else {"momentum": BETA, "nesterov": nesterov}
        residual = random_gain_residual(sympy.Integer(1), bool(nesterov), 0)
        if nesterov is None:
            residual = residual.subs(BETA, 0)
        numerator = sympy.together(residual).as_numer_denom()[0]
        (factor,) = [factor for factor, _ in sympy.factor_list(numerator)[1] if S in factor.free_symbols]
        yield factor.subs(X, mean_square_edge_gain(S**2, **options))


def proof_random_curvature_variance():
    yield random_gain_residual(random_curvature_variance(X, S**2), False, 1).subs(BETA, 0)
    for nesterov in (False, True):
        made = random_curvature_variance(X, S**2, momentum=BETA, nesterov=nesterov)
        yield random_gain_residual(made, nesterov, 1)


def proof_random_curvature_second_moment():
    start = sympy.Symbol("start", positive=True)
    yield random_curvature_second_moment(X, S**2, 0, start) - start
    for steps in range(4):
        before, after = (random_curvature_second_moment(X, S**2, steps + i, start) for i in (0, 1))
        yield over_two_gains(lambda x, before=before: (1 - x) ** 2 * before + x**2) - after


def proof_reshuffled_variance():
    """All orders of an epoch of a few centers of mean 0."""
    for centers, size in (([1, -1], 1), ([1, 2, -3], 1), ([1, 2, 0, -3], 2), ([4, -1, -1, -2], 1)):
        count = len(centers) // size
        total = 0
        for order in itertools.permutations(centers):
            end = 0
            for batch in range(count):
                end = (1 - X) * end + X * sympy.Rational(sum(order[batch * size : (batch + 1) * size]), size)
            total += sympy.expand(end**2)
        noise = total / math.factorial(len(centers))
        unit = sympy.Rational(sum(c**2 for c in centers), len(centers) * size)
        made = reshuffled_variance(X, sympy.Integer(count), sympy.Integer(size))
        yield (1 - X) ** (2 * count) * made + noise / unit - made


def proof_trace_rule_term():
    """Two directions of gains x and y; eta = 1, label noise of variance 1. Second moments where gradients are taken."""
    y, draws = sympy.symbols("y S", positive=True)
    for nesterov in (None, False, True):
        options = {} if nesterov is None else {"momentum": BETA, "nesterov": nesterov}
        terms = [trace_rule_term(gain, draws, **options) for gain in (X, y)]
        ahead = terms[0] / (X * (1 - sum(terms)))
        error = sum(terms) / (1 - sum(terms))  # sum of lambda times these
        noise = (X**2 * ahead + X * (error + 1)) / draws  # of the gradient
        variance = -noise / solve_recursion(sympy.Integer(1), X, bool(nesterov), 0)
        (m, n), _ = transfer(X, BETA, bool(nesterov))
        neighbours = m * variance / (1 - n)
        if nesterov:
            variance = ((1 + BETA) ** 2 + BETA**2) * variance - 2 * BETA * (1 + BETA) * neighbours
        residual = variance - ahead
        yield residual.subs(BETA, 0) if nesterov is None else residual


PROOFS = {
    name.removeprefix("proof_"): function for name, function in list(globals().items()) if name.startswith("proof_")
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_formula_solves_its_recursion(name):
    for residual in PROOFS[name]():
        if sympy.sympify(residual).is_rational_function():
            assert sympy.expand(sympy.together(residual).as_numer_denom()[0]) == 0
            continue
        numerator = sympy.together(sympy.expand(residual, power_exp=True)).as_numer_denom()[0]
        assert sympy.simplify(sympy.expand(numerator, power_exp=True)) == 0


def test_every_exact_symbolic_formula_of_the_quadratic_is_proved():
    of_stem = [formula for formula in sgdynamics.formulas() if formula.stem == "quadratic"]
    assert {formula.__name__ for formula in of_stem if formula.status == "exact" and formula.symbolic} == set(PROOFS)


# ---------------------------------------------------------------------------------------------------------------------
# Stationary laws over wide domains


@given(below_edge, decays, flags)
@example(1e-8 / 2, 0.0, False)
@example(0.9995, 0.0, False)
def test_stationary_variance_solves_the_lyapunov_equation(fraction, momentum, nesterov):
    gain = fraction * edge_of(momentum, nesterov)
    made = stationary_variance(gain, momentum=momentum, nesterov=nesterov)
    assert close(made, stationary_by_algebra(gain, momentum, nesterov), 1e-11)
    risk = stationary_risk(gain / 3, 3.0, 5.0, 7.0, momentum=momentum, nesterov=nesterov)
    assert close(risk, 3 * 5 / 7 * stationary_by_algebra(gain / 3 * 3, momentum, nesterov) / 2, 1e-11)


@given(stable_gains, decays)
def test_ema_variance_solves_the_lyapunov_equation(gain, beta):
    assert close(ema_variance(gain, beta), ema_by_algebra(gain, beta), 1e-11)


@given(stable_gains, horizons, st.integers(1, 50))
@example(1e-8, 10**4, 1)
@example(1.0, 10, 3)
@example(1.999, 10**4, 1)
def test_tail_variance_adds_all_correlations(gain, points, stride):
    correlation = np.exp(stride * np.log(abs(1 - gain))) if gain != 1 else 0.0
    correlation *= -1 if gain > 1 and stride % 2 else 1
    i = np.arange(1, points)
    inflation = 1 + 2 * math.fsum((1 - i / points) * correlation**i)
    expected_variance = gain**2 / (gain * (2 - gain)) * inflation / points
    assert close(tail_variance(gain, points, stride), expected_variance, 1e-9)


@given(stable_gains, horizons)
@example(1.0, 1)
@example(1.999, 1)
def test_two_point_variance_is_that_of_the_midpoint(gain, separation):
    with mpmath.workdps(40):
        x = mpmath.mpf(gain)
        variance = x**2 / (1 - (1 - x) ** 2)
        expected_variance = (2 * variance + 2 * (1 - x) ** separation * variance) / 4
    assert close(two_point_variance(gain, separation), expected_variance, 1e-11)
    assert close(two_point_variance(gain, separation), tail_variance(gain, 2, separation), 1e-11)


@given(st.floats(0.1, 1.9), st.integers(1, 12), st.integers(1, 12), st.floats(0, 0.8))
def test_variances_of_averages_are_sums_of_squared_weights(gain, points, stride, beta):
    age = np.arange(600)
    iterates = np.array([np.where(age >= s, gain * (1 - gain) ** np.maximum(age - s, 0.0), 0) for s in range(150)])

    def squares(average):
        return ((average @ iterates[: average.size]) ** 2).sum()

    assert close(tail_variance(gain, points, stride), squares(np.bincount(stride * np.arange(points)) / points))
    assert close(two_point_variance(gain, stride), squares(np.bincount([0, stride]) / 2))
    assert close(ema_variance(gain, beta), squares((1 - beta) * beta ** np.arange(150)))
    assert close(stationary_variance(gain), squares(np.ones(1)))


@given(stable_gains, horizons)
@example(1e-8, 1)
@example(1e-8, 10**4)
@example(0.5, 1)
@example(0.004999, 100)
@example(0.005001, 100)
def test_swa_from_a_fixed_start_is_the_unrolled_average(gain, steps):
    """The iterate m steps later still holds a^m of the start and 1 - a^m of what came since."""
    left, moved, bias, squares = 1.0, 0.0, 0.0, 0.0
    for _ in range(steps):
        left, moved = left * (1 - gain), moved + gain * (1 - moved)
        bias, squares = bias + left, squares + moved**2
    assert close(swa_variance(gain, steps), squares / steps**2, 1e-10)
    assert abs(swa_start_weight(gain, steps) - bias / steps) <= 1e-10 * abs(bias / steps) + 1e-15


@pytest.mark.parametrize("gain", [1e-12, 1e-8, 1e-4, 1e-2, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("steps", [1, 2, 7, 100, 2000])
def test_swa_variance_does_not_cancel(gain, steps):
    with mpmath.workdps(60):
        weights = [1 - (1 - mpmath.mpf(gain)) ** m for m in range(1, steps + 1)]
        assert close(swa_variance(gain, steps), sum(w * w for w in weights) / steps**2, 1e-13)
    labelled = swa_variance(xr.DataArray([gain], dims="gain").chunk(), steps)
    np.testing.assert_allclose(labelled, [swa_variance(gain, steps)], rtol=1e-15)
    np.testing.assert_allclose(swa_variance([gain], steps), [swa_variance(gain, steps)], rtol=1e-15)


@given(stable_gains, st.integers(1, 2000))
def test_swa_from_a_stationary_start_is_the_tail(gain, steps):
    """Its own spread adds to that of the weights of the centers."""
    total = swa_variance(gain, steps) + swa_start_weight(gain, steps) ** 2 * stationary_variance(gain)
    assert close(total, tail_variance(gain, steps), 1e-10)


@given(stable_gains, decays, horizons)
@example(0.1, 0.9, 50)
@example(1.0, 0.0, 3)
@example(1.0, 0.5, 3)
def test_ema_start_weight_is_the_unrolled_recursion(gain, beta, steps):
    iterate, averaged = 1.0, 1.0
    for _ in range(steps):
        iterate *= 1 - gain
        averaged = beta * averaged + (1 - beta) * iterate
    made = ema_start_weight(gain, beta, steps)
    assert math.isclose(made, averaged, rel_tol=1e-9 if gain <= 1 else 0, abs_tol=1e-13 if gain > 1 else 1e-300)


# ---------------------------------------------------------------------------------------------------------------------
# Laws and limits


@given(stable_gains)
def test_without_averaging_or_momentum_every_variance_is_that_of_sgd(gain):
    plain = stationary_variance(gain)
    for made in (
        stationary_variance(gain, momentum=1e-12),
        stationary_variance(gain, momentum=0.0, nesterov=True),
        ema_variance(gain, 0.0),
        tail_variance(gain, 1),
        tail_variance(gain, 1, 17),
        far_points_variance(gain, 1),
        2 * far_points_variance(gain, 2),
    ):
        assert close(made, plain, 1e-8)


@given(st.floats(-3, math.log10(1.99)).map(lambda power: 10**power), st.integers(2, 20))
def test_far_apart_iterates_are_independent(gain, points):
    far = math.ceil(60 / min(gain, 2 - gain))
    assert close(tail_variance(gain, points, far), far_points_variance(gain, points), 1e-12)
    assert close(equivalent_gain(two_point_variance(gain, far)), 2 * gain / (4 - gain), 1e-12)
    assert close(equivalent_gain(far_points_variance(gain, points)), 1 / (points / gain - (points - 1) / 2), 1e-12)


@pytest.mark.parametrize("points", [2, 5])
def test_points_become_independent_as_fast_as_correlations_die(points):
    """The asymptotic form is off by 2 (1 - 1/n) a^s, to leading order in a^s."""
    gain, strides = 0.3, np.array([10, 20, 40])
    exact = [((sum(past(gain, s * i) for i in range(points)) / points) ** 2).sum() for s in strides]
    gap = np.array(exact) / far_points_variance(gain, points) - 1
    np.testing.assert_allclose(gap / (2 * (1 - 1 / points) * (1 - gain) ** strides), 1, atol=0.05)
    np.testing.assert_allclose(np.diff(np.log(gap)) / np.diff(strides), math.log(1 - gain), rtol=0.01)


@given(stable_gains, decays)
def test_slow_averages_and_low_rates_add_like_conductances(gain, beta):
    u, g = 1 / gain - 0.5, 1 / (1 - beta) - 0.5
    made = equivalent_gain(ema_variance(gain, beta))
    assert close(1 / made - 0.5, (u + g) / (1 + 1 / (4 * u * g)), 1e-9)


@given(below_edge, decays)
def test_the_equivalent_gain_of_heavy_ball_is_a_harmonic_mean(fraction, momentum):
    gain = fraction * edge_of(momentum, False)
    made = equivalent_gain(stationary_variance(gain, momentum=momentum))
    assert close(1 / made, (1 - momentum) / gain + momentum / (1 + momentum), 1e-9)


@given(stable_gains)
def test_the_equivalent_gain_of_sgd_is_its_gain(gain):
    assert close(equivalent_gain(stationary_variance(gain)), gain, 1e-13)


@given(st.floats(-8, 8).map(lambda power: 10**power))
def test_the_equivalent_gain_has_the_variance_it_was_asked_for(variance):
    gain = equivalent_gain(variance)
    assert 0 < gain < 2
    left = (1 - mpmath.mpf(gain)) ** 2 * variance + mpmath.mpf(gain) ** 2  # one step later
    assert close(left, variance, 1e-13 * max(1, 1 / variance))
    assert equivalent_gain(0.0) == 0


def test_an_ema_of_a_hundred_steps_cuts_the_rate_by_curvature():
    gains = np.array([1e-4, 1e-3, 1e-2, 0.1, 1.0])
    cut = equivalent_gain(ema_variance(gains, 0.99)) / gains
    printed, digits = [0.990, 0.910, 0.501, 0.0913, 0.0100], [5e-4, 5e-4, 5e-4, 5e-5, 6e-5]
    assert np.all(np.abs(cut - printed) < digits)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_equivalent_gain_does_not_depend_on_the_batch_size(batch_size):
    model = MiniBatchQuadratic(1.0, 3.0, batch_size=batch_size)
    averaged = moments(model, constant(0.2, 2000), average=ema(0.9, 2000)).variance.item()
    variance = averaged / model.batch_center_variance.item()
    assert close(equivalent_gain(variance), equivalent_gain(ema_variance(0.2, 0.9)), 1e-12)


def test_variances_move_the_right_way():
    gains = np.geomspace(1e-8, 1.99, 200)
    for momentum, nesterov in itertools.product((0.0, 0.5, 0.9), (False, True)):
        inside = gains * edge_of(momentum, nesterov) / 2
        assert np.all(np.diff(stationary_variance(inside, momentum=momentum, nesterov=nesterov)) > 0)
    assert np.all(np.diff(ema_variance(0.1, 1 - np.geomspace(1, 1e-6, 100))) < 0)
    assert np.all(np.diff(tail_variance(0.1, np.arange(1, 200))) < 0)
    assert np.all(np.diff(tail_variance(0.1, 5, np.arange(1, 100))) < 0)
    assert np.all(np.diff(two_point_variance(0.1, np.arange(1, 100))) < 0)
    assert np.all(np.diff(equivalent_gain(np.geomspace(1e-8, 1e8, 100))) > 0)


# ---------------------------------------------------------------------------------------------------------------------
# The edge


@given(st.floats(-8, 1).map(lambda power: 10**power), decays, flags)
@example(3.0, 0.5, False)
@example(1.0, 0.9, True)
def test_the_contraction_factor_is_the_spectral_radius(gain, momentum, nesterov):
    radius = np.abs(np.linalg.eigvals(np.array(transfer(gain, momentum, nesterov)))).max()
    made = contraction_factor(gain, momentum=momentum, nesterov=nesterov)
    assert abs(made - radius) <= 1e-7 * radius  # a double root is sensitive to the square root of a rounding
    margin = gain / edge_of(momentum, nesterov) - 1
    if abs(margin) > 1e-6:
        assert (made < 1) == (margin < 0)


@given(stable_gains)
def test_plain_sgd_contracts_by_one_minus_its_gain(gain):
    assert math.isclose(contraction_factor(gain), abs(1 - gain), rel_tol=1e-15, abs_tol=1e-16)
    assert math.isclose(contraction_factor(gain, nesterov=True), abs(1 - gain), rel_tol=1e-15, abs_tol=1e-16)


def test_claim_08_edges_of_heavy_ball_and_nesterov():
    for nesterov, edge, inside, outside in ((False, 3.0, 0.97957, 1.01962), (True, 1.5, 0.98399, 1.01599)):
        options = {"momentum": 0.5, "nesterov": nesterov}
        for gain, radius in ((edge - 0.01, inside), (edge + 0.01, outside)):
            assert abs(contraction_factor(gain, **options) - radius) < 5e-6
            eigenvalues = np.linalg.eigvals(np.array(transfer(gain, 0.5, nesterov)))
            assert abs(np.abs(eigenvalues).max() - radius) < 5e-6
        assert stability_edge(1.0, **options) == edge
        assert abs(contraction_factor(edge, **options) - 1) < 1e-15
        assert math.isfinite(stationary_variance(edge - 0.01, **options))
        assert stationary_variance(edge + 0.01, **options) == math.inf


def test_at_and_beyond_the_edge_a_variance_is_infinite_in_every_kind_of_input():
    gains = np.array([1.9, 2.0, 2.1])
    cases = [
        lambda gain: stationary_variance(gain),
        lambda gain: stationary_variance(1.5 * gain, momentum=0.5),
        lambda gain: stationary_variance(0.75 * gain, momentum=0.5, nesterov=True),
        lambda gain: ema_variance(gain, 0.9),
        lambda gain: two_point_variance(gain, 3),
        lambda gain: tail_variance(gain, 4, 2),
        lambda gain: far_points_variance(gain, 4),
        lambda gain: swa_variance(gain, 4),
        lambda gain: stationary_risk(gain / 4, 4.0, 1.0),
        lambda gain: stationary_risk(0.75 * gain / 4, 4.0, 1.0, momentum=0.5, nesterov=True),
    ]
    for case in cases:
        alone = [case(gain) for gain in gains]
        assert math.isfinite(alone[0])
        assert alone[1:] == [math.inf, math.inf]
        np.testing.assert_array_equal(case(gains), alone)
        labelled = xr.DataArray(gains, dims="gain", coords={"gain": gains})
        np.testing.assert_array_equal(case(labelled), alone)
        lazy = case(labelled.chunk())
        assert lazy.chunks
        np.testing.assert_array_equal(lazy, alone)


def test_claim_21_the_stationary_law_of_a_model():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0)
    law = stationary(model, 0.5)
    assert abs(law.excess_risk.item() - 0.1679487179) < 5e-11
    assert math.isclose(law.floor.item(), 0.55, rel_tol=1e-15)
    np.testing.assert_allclose(law.variance, [1 / 3, 0.05 / 1.95], rtol=1e-14)
    variances = np.array([1 / 3, 0.05 / 1.95])
    assert math.isclose(law.effective_dimension.item(), variances.sum() ** 2 / (variances**2).sum(), rel_tol=1e-13)


@every_update
def test_the_stationary_law_of_a_model_is_the_end_of_a_long_run(update):
    model = MiniBatchQuadratic([1.0, 0.3], [1.0, 2.0], multiplicity=[3.0, 1.0], displacement=1.0, batch_size=4)
    law, end = stationary(model, 0.5, **update), moments(model, constant(0.5, 4000), **update)
    np.testing.assert_allclose(law.variance, end.variance[0], rtol=1e-12)
    np.testing.assert_allclose(law.excess_risk, end.excess_risk[0], rtol=1e-12)
    swept = stationary(model, xr.DataArray([0.5, 1.0], dims="rate"), **update)
    np.testing.assert_allclose(swept.excess_risk[0], law.excess_risk, rtol=1e-14)


def test_the_stationary_law_beyond_the_edge_is_infinite():
    law = stationary(MiniBatchQuadratic([1.0, 0.1], 1.0), 2.5)
    assert law.excess_risk == np.inf
    np.testing.assert_allclose(law.variance, [np.inf, 1 / 7])


def test_stability_has_three_verdicts_that_agree():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0)
    for update in UPDATES.values():
        edge = edge_of(update.get("momentum", 0.0), update.get("nesterov", False))
        found = stability(model, xr.DataArray([0.9 * edge, edge, 1.1 * edge], dims="rate"), **update)
        np.testing.assert_array_equal(found.outcome, [Outcome.STABLE, Outcome.MARGINAL, Outcome.DIVERGED])
        np.testing.assert_allclose(found.edge, edge, rtol=1e-15)
        for column, rate in enumerate((0.9 * edge, edge, 1.1 * edge)):
            matrices = [
                np.array(transfer(rate * h, update.get("momentum", 0.0), update.get("nesterov", False)))
                for h in (1, 0.1)
            ]
            radius = max(np.abs(np.linalg.eigvals(matrix)).max() for matrix in matrices)
            assert math.isclose(found.mean_factor[column], radius, rel_tol=1e-12)
            squared = max(np.abs(np.linalg.eigvals(np.kron(matrix, matrix))).max() for matrix in matrices)
            assert math.isclose(found.mean_square_factor[column], squared, rel_tol=1e-7)
            assert math.isclose(found.lyapunov_exponent[column], math.log(radius), rel_tol=1e-9, abs_tol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Claims in numbers


def test_claim_02_the_variance_of_sgd():
    assert abs(stationary_variance(0.1) - 0.0526315789) < 5e-11


def test_claim_03_an_average_of_ten_steps():
    assert abs(ema_variance(0.1, 0.9) - 0.0263886864) < 5e-11
    assert abs(equivalent_gain(ema_variance(0.1, 0.9)) - 0.0514204545) < 5e-11


def test_claim_04_an_average_of_a_hundred_steps():
    assert abs(ema_variance(0.1, 0.99) - 0.00458836918) < 5e-12
    assert abs(equivalent_gain(ema_variance(0.1, 0.99)) - 0.00913482440) < 5e-12


def test_claim_05_two_points():
    assert abs(two_point_variance(0.1, 10) - 0.0354915379) < 5e-11
    assert abs(equivalent_gain(two_point_variance(0.1, 10)) - 0.0685501264) < 5e-11
    assert abs(equivalent_gain(far_points_variance(0.1, 2)) - 0.0512820513) < 5e-11


def test_claim_06_tails():
    assert abs(tail_variance(0.1, 20, 1) - 0.0291952366) < 5e-11
    assert abs(equivalent_gain(tail_variance(0.1, 20)) - 0.0567341074) < 5e-11
    assert abs(tail_variance(0.1, 10, 5) - 0.0167541404) < 5e-11


def test_claim_07_momentum():
    heavy_ball = stationary_variance(0.1, momentum=0.9)
    assert abs(heavy_ball - 0.5135135135) < 5e-11
    assert abs(equivalent_gain(heavy_ball) - 0.6785714286) < 5e-11
    assert abs(stationary_variance(0.1, momentum=0.9, nesterov=True) - 0.2706339713) < 5e-11  # 0.181/0.6688


def test_claim_18_half_the_rate_is_the_best_trial_step():
    assert line_search_gain(0.3) == 0.15
    excess = [stepped_loss(0.3, trial) - 1 for trial in (0.0, 0.15, 0.3)]
    assert math.isclose(excess[0], excess[2], rel_tol=1e-14)
    assert abs(excess[0] - 0.176471) < 5e-7
    assert abs(excess[1] - 0.15) < 1e-15
    assert math.isclose(excess[1] / excess[0], half_rate_excess(0.3), rel_tol=1e-14)


def gradients_in_a_cloud(dimension, chains, seed):
    """Two consecutive SGD gradients, one of an independent batch and the full one, at stationarity at gain 0.3."""
    generator = np.random.default_rng(seed)
    error, centers = 0.0, generator.normal(size=(3, chains, dimension))
    for age in range(60):
        error = error + 0.3 * 0.7**age * generator.normal(size=(chains, dimension))
    used, independent = error - centers[0], error - centers[1]
    following = error - 0.3 * used - centers[2]
    return used, independent, following, error


def cosine_of(first, second):
    return (first * second).sum(-1) / np.sqrt((first**2).sum(-1) * (second**2).sum(-1))


def mean_sample_correlation(correlation, dimension):
    """E of the cosine of two Gaussian vectors of independent, identically correlated entries."""
    shrink = 2 / dimension * math.exp(2 * (gammaln((dimension + 1) / 2) - gammaln(dimension / 2)))
    return correlation * shrink * hyp2f1(0.5, 0.5, dimension / 2 + 1, correlation**2)


def test_claim_19_angles_between_gradients():
    used, independent, following, full = gradients_in_a_cloud(50, 4000, seed=19)
    for pair, predicted, printed in (
        ((used, independent), gradient_cosine(0.3), 0.15),
        ((used, following), lagged_gradient_cosine(0.3), -0.15),
        ((used, full), batch_full_gradient_cosine(0.3), 0.387),
    ):
        assert abs(predicted - printed) < 5e-4
        cosines = cosine_of(*pair)
        assert abs(cosines.mean() - predicted) < 0.01
        exact = mean_sample_correlation(predicted, 50)
        assert abs(cosines.mean() - exact) < 4 * cosines.std() / math.sqrt(cosines.size)
        lengths = [math.sqrt(np.mean(np.sum(vector**2, -1))) for vector in pair]
        products = (pair[0] * pair[1]).sum(-1) / (lengths[0] * lengths[1])
        assert abs(products.mean() - predicted) < 4 * products.std() / math.sqrt(products.size)


@given(middle_gains)
def test_cosines_are_off_by_the_inverse_dimension(gain):
    for predicted in (gradient_cosine(gain), lagged_gradient_cosine(gain), batch_full_gradient_cosine(gain)):
        gap = [1 - mean_sample_correlation(predicted, d) / predicted for d in (1000, 2000, 4000)]
        if abs(predicted) < 0.9:
            np.testing.assert_allclose(np.array(gap[:-1]) / gap[1:], 2, rtol=0.02)
            assert math.isclose(gap[2] * 4000, (1 - predicted**2) / 2, rel_tol=0.02)


def test_claim_20_distances_and_losses():
    assert abs(squared_distance(0.3, 4) - 0.268200) < 5e-7
    # the printed losses are in units of h d, half of which is the floor
    assert abs(used_batch_loss(0.3, 4) / 2 - 0.516205) < 5e-7
    assert abs(used_batch_loss(0.3, 0) / 2 - 0.288235) < 5e-7
    assert abs(held_out_loss(0.3) / 2 - 0.588235) < 5e-7
    assert abs(stepped_loss(0.3, 1.0) / held_out_loss(0.3) - 1.7) < 1e-14


def test_claim_25_noise_left_by_a_linear_decay():
    left = moments(MiniBatchQuadratic(1.0, 1.0), linear(0.1, 20000)).variance.item()
    assert abs(left - 0.000991667) < 5e-10
    assert abs(math.sqrt(math.pi) / 4 * math.sqrt(0.1 / 20000) - 0.000990832) < 5e-10


# ---------------------------------------------------------------------------------------------------------------------
# Geometry: every law is about inner products of weights of the centers


@given(middle_gains, lags, st.floats(-1, 2), st.floats(-1, 2))
def test_geometry_is_that_of_the_weights_of_the_centers(gain, lag, position, trial):
    now, later = past(gain, lag + 2), past(gain, 2)
    used, fresh, held_out = np.eye(1600)[[1600 - 3 - lag, 1598, 1599]]
    variance = now @ now
    assert math.isclose(now @ later / variance, iterate_cosine(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose((later - now) @ (later - now), squared_distance(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    chord = (1 - position) * now + position * later
    assert math.isclose(chord @ chord / variance, chord_excess(gain, lag, position), rel_tol=1e-9, abs_tol=1e-9)
    assert close(held_out_loss(gain), (later - held_out) @ (later - held_out))
    assert math.isclose((later - used) @ (later - used), used_batch_loss(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    stepped = later - trial * (later - fresh) - held_out
    assert close(stepped_loss(gain, trial), stepped @ stepped)
    half = later - gain / 2 * (later - fresh)
    assert close(half_rate_excess(gain), half @ half / variance)


@given(middle_gains, st.integers(1, 40))
def test_angles_are_ratios_of_inner_products_of_weights(gain, lag):
    first = past(gain, lag + 1) - np.eye(1600)[1600 - 1 - lag]
    later = past(gain, 1) - np.eye(1600)[1599]
    length = later @ later
    assert math.isclose(first @ later / length, lagged_gradient_cosine(gain, lag), rel_tol=1e-9, abs_tol=1e-12)
    assert close(gradient_cosine(gain), past(gain, 1) @ past(gain, 1) / length)
    assert close(
        batch_full_gradient_cosine(gain), past(gain, 1) @ later / math.sqrt(length * (past(gain, 1) @ past(gain, 1)))
    )


@given(seeds, st.floats(0.01, 1.95))
def test_half_the_rate_is_the_best_trial_step_for_every_spectrum(seed, learning_rate):
    _, curvature, variance, _ = random_model(seed)
    curvature = curvature / curvature.max()
    second = variance * (learning_rate * curvature) ** 2 / (1 - (1 - learning_rate * curvature) ** 2)

    def risk(trial):
        return curvature @ ((1 - trial * curvature) ** 2 * second + (trial * curvature) ** 2 * variance)

    assert math.isclose(risk(learning_rate), risk(0), rel_tol=1e-11)
    lowest = risk(learning_rate / 2)
    for nudge in (0.1, 0.3):  # a parabola: as high on either side of its vertex
        either = [risk(learning_rate / 2 * (1 + sign * nudge)) for sign in (1, -1)]
        assert min(either) > lowest
        assert math.isclose(*either, rel_tol=1e-11)
    np.testing.assert_allclose(line_search_gain(learning_rate * curvature) / curvature, learning_rate / 2, rtol=1e-14)


def test_the_cloud_is_a_thin_shell():
    spectrum = np.array([1.0, 1.0, 0.5, 0.2, 0.1])
    lengths = (spectrum * np.random.default_rng(5).normal(size=(100_000, 5)) ** 2).sum(-1)
    fluctuation = shell_fluctuation(spectrum.sum() ** 2 / (spectrum**2).sum())
    assert abs(lengths.std() / lengths.mean() / fluctuation - 1) < 0.02
    assert shell_fluctuation(50.0) == 0.2
    model = MiniBatchQuadratic(1.0, 1.0, multiplicity=200)
    assert math.isclose(shell_fluctuation(stationary(model, 0.5).effective_dimension.item()), 0.1, rel_tol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Moments at every step


@given(seeds, st.integers(1, 60), st.sampled_from(sorted(UPDATES)), st.data())
def test_moments_are_those_of_the_unrolled_run(seed, steps, update, data):
    generator, curvature, variance, start = random_model(seed)
    rates = 10 ** generator.uniform(-4, 0.3, steps)
    if data.draw(flags):  # plateaus
        rates = np.repeat(rates, 3)[:steps]
    record = sorted(data.draw(st.sets(st.integers(0, steps), min_size=1, max_size=5)))
    multiplicity, batch_size = generator.uniform(0.5, 9, curvature.size), 10 ** generator.uniform(0, 2)
    batch_size = math.ceil(batch_size)
    model = MiniBatchQuadratic(
        curvature, variance, multiplicity=multiplicity, displacement=start, batch_size=batch_size
    )
    made = moments(model, rates, record=record, **UPDATES[update])
    assert made.step.values.tolist() == record
    for mode, h in enumerate(curvature):
        start_weights, weights = linear_form(h * rates, **UPDATES[update])
        mean, spread = start_weights * start[mode], (weights**2).sum(-1) * variance[mode] / batch_size
        np.testing.assert_allclose(made.mean_error[:, mode], mean[record], rtol=1e-9, atol=1e-13 * abs(mean).max())
        np.testing.assert_allclose(made.variance[:, mode], spread[record], rtol=1e-9, atol=1e-300)
    total = 0.5 * ((made.mean_error**2 + made.variance) * multiplicity * curvature).sum("mode")
    np.testing.assert_allclose(made.excess_risk, total, rtol=1e-12)


@given(seeds, st.integers(1, 60), st.sampled_from(sorted(UPDATES)))
def test_moments_of_an_average_are_those_of_the_unrolled_run(seed, steps, update):
    generator, curvature, variance, start = random_model(seed)
    rates = 10 ** generator.uniform(-4, 0.2, steps)
    model = MiniBatchQuadratic(curvature, variance, displacement=start)
    signed = generator.normal(size=steps + 1)
    averages = (
        ema(0.8, steps),
        swa(steps, steps // 2),
        tail(steps, steps // 3 + 1, 3),
        two_point(steps, steps),
        signed - signed.mean() + 1 / (steps + 1),
    )
    for average in averages:
        made = moments(model, rates, average=average, **UPDATES[update])
        assert made.step.values.tolist() == [steps]
        for mode, h in enumerate(curvature):
            start_weights, weights = linear_form(h * rates, **UPDATES[update])
            scale = np.abs(average) @ np.abs(start_weights)
            spread = ((average @ weights) ** 2).sum() * variance[mode]
            noise = (np.abs(average) @ np.abs(weights)).max() ** 2 * variance[mode]
            assert math.isclose(
                made.mean_error[0, mode], average @ start_weights * start[mode], rel_tol=1e-9, abs_tol=1e-12 * scale
            )
            assert math.isclose(made.variance[0, mode], spread, rel_tol=1e-9, abs_tol=1e-24 * noise)


@given(st.floats(-8, 0).map(lambda power: 10**power), horizons, decays, flags)
@example(1e-8, 10**4, 0.0, False)
def test_jumps_over_constant_stretches_are_the_steps_one_by_one(fraction, steps, momentum, nesterov):
    """Against the recursion of the covariance with 30 digits."""
    steps = min(steps, 300)
    gain = fraction * edge_of(momentum, nesterov) * 0.999
    made = moments(
        MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(gain, steps), momentum=momentum, nesterov=nesterov
    )
    with mpmath.workdps(30):
        (a, b), _ = transfer(mpmath.mpf(gain), mpmath.mpf(momentum), nesterov)
        # at rest e_{-1} = e_0 for both: the first step of heavy ball has no velocity
        mean, previous, p, q, r = mpmath.mpf(1), mpmath.mpf(1), 0, 0, 0
        for _ in range(steps):
            mean, previous = a * mean + b * previous, mean
            p, q, r = a * a * p + 2 * a * b * q + b * b * r + mpmath.mpf(gain) ** 2, a * p + b * q, p
    assert close(made.variance.item(), p, 1e-11)
    assert abs(made.mean_error.item() - mean) < 1e-12 * max(1, abs(mean)) / (1.001 - fraction)


@given(stable_gains, st.floats(0, 6).map(lambda power: round(10**power)))
@example(1e-8, 10**6)
def test_a_million_steps_of_one_rate_cost_no_digits(gain, steps):
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(gain, steps))
    with mpmath.workdps(40):
        left = (1 - mpmath.mpf(gain)) ** steps
        variance = mpmath.mpf(gain) ** 2 * (1 - left**2) / (1 - (1 - mpmath.mpf(gain)) ** 2)
    assert close(made.variance.item(), variance, 1e-9)
    assert abs(made.mean_error.item() - left) < 1e-9


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("steps", [63, 65, 400])
def test_critical_damping_is_no_special_case(momentum, steps):
    gain = (1 - math.sqrt(momentum)) ** 2
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(gain, steps), momentum=momentum)
    start_weights, weights = linear_form(np.full(steps, gain), momentum=momentum)
    assert math.isclose(made.mean_error.item(), start_weights[-1], abs_tol=1e-12)
    assert math.isclose(made.variance.item(), (weights[-1] ** 2).sum(), rel_tol=1e-12)


@every_update
def test_a_jump_and_a_walk_meet(update):
    """A last rate that differs by nothing that matters, and records in between, break up the stretches."""
    model = MiniBatchQuadratic([1.0, 0.01], 1.0, displacement=[1.0, 2.0])
    schedule = np.concatenate(
        [constant(0.3, 500), linear(0.3, 50), constant(0.1, 300), warmup_stable_decay(0.2, 200, 20, 30)]
    )
    everywhere = moments(model, schedule, record=np.arange(schedule.size + 1), **update)
    record = [0, 499, 500, 540, 700, 1050]
    jumped = moments(model, schedule, record=record, **update)
    for name in ("mean_error", "variance", "excess_risk"):
        np.testing.assert_allclose(jumped[name], everywhere[name].isel(step=record), rtol=1e-11, atol=1e-15)
    gains = schedule[:, None] * model.curvature
    for mode in range(2):
        start_weights, weights = linear_form(gains[:, mode], **update)
        np.testing.assert_allclose(jumped.variance[:, mode], (weights[record] ** 2).sum(-1), rtol=1e-10)
        np.testing.assert_allclose(
            jumped.mean_error[:, mode], start_weights[record] * model.displacement[mode], rtol=1e-10, atol=1e-14
        )


@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.99])
def test_near_the_edge_of_heavy_ball_a_jump_starts_from_any_state(momentum):
    edge = 2 * (1 + momentum)
    schedule = np.concatenate(
        [linear(edge, 40), constant(0.98 * edge, 200), linear(0.3, 20), constant(0.7 * edge, 100)]
    )
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), schedule, momentum=momentum, record=[100, 240, 360])
    start_weights, weights = linear_form(schedule, momentum=momentum)
    np.testing.assert_allclose(made.variance[:, 0], (weights[[100, 240, 360]] ** 2).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(made.mean_error[:, 0], start_weights[[100, 240, 360]], rtol=1e-9, atol=1e-12)


@given(seeds, st.sampled_from(sorted(UPDATES)))
def test_moments_obey_the_symmetries_of_the_model(seed, update):
    generator, curvature, variance, start = random_model(seed)
    rates, options = 10 ** generator.uniform(-3, 0, 80), UPDATES[update]
    rates[5:75] = rates[5]

    def at(curvature=curvature, variance=variance, start=start, rates=rates, multiplicity=1.0):
        return moments(
            MiniBatchQuadratic(curvature, variance, displacement=start, multiplicity=multiplicity), rates, **options
        ).isel(step=0)

    one = at()
    noisier, further = at(variance=7 * variance), at(start=-3 * start)
    np.testing.assert_allclose(noisier.variance, 7 * one.variance, rtol=1e-12)
    np.testing.assert_allclose(noisier.mean_error, one.mean_error, rtol=1e-12)
    np.testing.assert_allclose(further.mean_error, -3 * one.mean_error, rtol=1e-12)
    np.testing.assert_allclose(further.variance, one.variance, rtol=1e-12)
    scaled = at(curvature=curvature / 8, rates=8 * rates)
    np.testing.assert_allclose(scaled.variance, one.variance, rtol=1e-10)
    np.testing.assert_allclose(scaled.mean_error, one.mean_error, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(8 * scaled.excess_risk, one.excess_risk, rtol=1e-10)
    twice = at(multiplicity=2.0)
    np.testing.assert_allclose(twice.excess_risk, 2 * one.excess_risk, rtol=1e-13)
    doubled = at(np.tile(curvature, 2), np.tile(variance, 2), np.tile(start, 2))
    np.testing.assert_allclose(doubled.excess_risk, 2 * one.excess_risk, rtol=1e-13)


@given(seeds, st.integers(1, 100), st.integers(1, 100))
def test_a_run_can_be_continued(seed, first, second):
    """Variance after a, then b: what b adds, and what b leaves of the variance of a."""
    generator, curvature, variance, _ = random_model(seed)
    rates = 10 ** generator.uniform(-3, 0, first + second)
    model = MiniBatchQuadratic(curvature, variance, displacement=1.0)
    before, after, whole = (moments(model, part).isel(step=0) for part in (rates[:first], rates[first:], rates))
    np.testing.assert_allclose(whole.mean_error, before.mean_error * after.mean_error, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(whole.variance, after.variance + after.mean_error**2 * before.variance, rtol=1e-11)


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("steps", [40, 20000])
def test_divergence_is_a_result(update, steps):
    model = MiniBatchQuadratic([1.0, 0.01], [1.0, 1.0], displacement=1.0)
    schedules = (constant(50.0, steps), np.linspace(50, 60, steps))
    for schedule, average in itertools.product(schedules, (None, ema(0.9, steps))):
        made = moments(model, schedule, average=average, **update).isel(step=0)
        for value in made.data_vars.values():
            assert not np.isnan(value).any()
        if steps > 40:
            assert made.variance[0] == made.excess_risk == np.inf
        assert made.variance[0] > 1e20
        assert made.variance[1] < 10


@every_update
def test_what_never_moves_stays_put_beside_a_mode_that_diverges(update):
    model = MiniBatchQuadratic([1.0, 1.0, 1.0], [0.0, 1.0, 0.0], displacement=[1.0, 0.0, 0.0])
    for schedule in (constant(5.0, 5000), np.linspace(5, 6, 5000)):
        made = moments(model, schedule, **update).isel(step=0)
        np.testing.assert_array_equal(np.abs(made.mean_error), [np.inf, 0, 0])
        np.testing.assert_array_equal(made.variance, [0, np.inf, 0])


@every_update
def test_a_random_run_has_these_moments(update):
    """Centers at plus or minus one: only their first two moments matter."""
    rates = np.array([0.5, 0.9, 0.2, 0.7, 0.7, 0.1])
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=rates.size))).T
    ends = run(rates, np.full(signs.shape[1], 2.0), signs, **update)[-1]
    made = moments(MiniBatchQuadratic(1.0, 1.0, displacement=2.0), rates, **update)
    assert math.isclose(made.mean_error.item(), ends.mean(), rel_tol=1e-12)
    assert math.isclose(made.variance.item(), ends.var(), rel_tol=1e-12)
    assert math.isclose(made.excess_risk.item(), np.mean(ends**2) / 2, rel_tol=1e-12)


def test_closed_forms_are_the_limits_of_moments():
    model, rates = MiniBatchQuadratic(1.0, 1.0, displacement=1.0), constant(0.1, 3000)
    for average, predicted in (
        (None, stationary_variance(0.1)),
        (ema(0.9, 3000), ema_variance(0.1, 0.9)),
        (two_point(3000, 10), two_point_variance(0.1, 10)),
        (tail(3000, 10, 5), tail_variance(0.1, 10, 5)),
        (swa(3000), swa_variance(0.1, 3000)),
    ):
        assert close(moments(model, rates, average=average).variance.item(), predicted, 1e-12)
    biases = moments(model, rates, average=swa(3000)), moments(model, constant(0.1, 30), average=ema(0.9, 30))
    assert close(biases[0].mean_error.item(), swa_start_weight(0.1, 3000), 1e-12)
    assert close(biases[1].mean_error.item(), ema_start_weight(0.1, 0.9, 30), 1e-12)


@pytest.mark.parametrize("lazy", [False, True])
def test_moments_sweep_over_named_dims_and_stay_lazy(lazy):
    batch_size = xr.DataArray([1.0, 8.0], dims="batch", coords={"batch": [1, 8]})
    curvature = xr.DataArray([[1.0, 0.1], [0.5, 0.2]], dims=("problem", "mode"))
    rates = xr.DataArray([0.1, 0.5, 0.9], dims="rate")
    if lazy:
        curvature, rates = curvature.chunk(problem=1), rates.chunk(rate=2)
    model = MiniBatchQuadratic(curvature, 2.0, displacement=1.0, batch_size=batch_size)
    schedule = linear(rates, 20, 0.05)
    plain = moments(model, schedule, record=[0, 7, 20])
    averaged = moments(model, schedule, average=ema(0.5, 20), momentum=0.3)
    for made in (plain, averaged):
        assert (made.excess_risk.chunks is not None) == lazy
        assert set(made.variance.dims) == {"problem", "batch", "rate", "step", "mode"}
    assert plain.sizes == {"problem": 2, "batch": 2, "rate": 3, "step": 3, "mode": 2}
    for problem, batch, rate in itertools.product(range(2), range(2), range(3)):
        here = {"problem": problem, "batch": batch, "rate": rate}
        alone = MiniBatchQuadratic(curvature.values[problem], 2.0, displacement=1.0, batch_size=[1, 8][batch])
        one = linear([0.1, 0.5, 0.9][rate], 20, 0.05)
        expected_plain = moments(alone, one, record=[0, 7, 20])
        np.testing.assert_allclose(plain.excess_risk.isel(here), expected_plain.excess_risk, rtol=1e-12)
        expected_averaged = moments(alone, one, average=ema(0.5, 20), momentum=0.3)
        np.testing.assert_allclose(averaged.variance.isel(here), expected_averaged.variance, rtol=1e-12)


def test_moments_refuse_what_does_not_fit():
    model = MiniBatchQuadratic(1.0, 1.0)
    with pytest.raises(ValueError, match=r"record must hold steps in 0\.\.5, got 6"):
        moments(model, constant(0.1, 5), record=[6])
    with pytest.raises(ValueError, match="average must have T \\+ 1 = 6 weights"):
        moments(model, constant(0.1, 5), average=swa(4))
    with pytest.raises(ValueError, match="average must have T \\+ 1 = 6 weights"):
        moments(model, constant(0.1, 5), average=swa(5), record=[3])
    with pytest.raises(ValueError, match="schedule must be 1-D"):
        moments(model, constant([0.1, 0.2], 5))
    with pytest.raises(ValueError, match="momentum must be"):
        moments(model, constant(0.1, 5), momentum=1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Steps to a target


def crossings_of(curve, target):
    below = curve <= target
    return (np.flatnonzero(below[1:] != below[:-1]) + 1).tolist()


def found_crossings(found):
    return [step for step in found.crossing_step.values.ravel().tolist() if step >= 0]


@given(seeds, st.floats(0.05, 2.05), st.floats(0.001, 0.999))
def test_every_crossing_of_a_target_is_found(seed, learning_rate, height):
    """By enumeration of the first 2000 steps, learning rates beyond the edge included."""
    _, curvature, variance, start = random_model(seed)
    curve = risks(curvature, variance, start, learning_rate, 2000)
    target = curve.min() + (min(curve.max(), 10.0) - curve.min()) * height**2
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), learning_rate, target)
    steps = found_crossings(found)
    assert [step for step in steps if step <= 2000] == crossings_of(curve, target)
    assert found.crossing_count == len(steps)
    first = int(np.argmax(curve <= target)) if (curve <= target).any() else -1
    if first >= 0 or not steps:
        assert found.first_step == first
    assert found.outcome == (Outcome.REACHED if found.first_step >= 0 else Outcome.NEVER_REACHED)


def test_a_risk_that_dips_and_returns_has_two_crossings():
    """A steep displaced mode falls while a flat noisy one slowly heats up."""
    curvature, variance, start = np.array([1.0, 0.001]), np.array([0.01, 4e7]), np.array([3.0, 0.0])
    curve = risks(curvature, variance, start, 0.2, 3000)
    for target in (0.5, 0.2, 0.1):
        found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 0.2, target)
        assert found_crossings(found) == crossings_of(curve, target)
        assert found.crossing_count == 2
    assert steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 0.2, 0.01).first_step == -1


def test_a_risk_that_falls_rises_and_falls_has_three_crossings():
    curvature, variance = np.array([1.0, 0.05, 0.0005]), np.array([0.0, 3200.0, 0.0])
    start = np.array([3.0, 0.0, 60.0])
    curve = risks(curvature, variance, start, 0.5, 12000)
    target = 1.4
    expected_crossings = crossings_of(curve, target)
    assert len(expected_crossings) == 3
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 0.5, target)
    assert found_crossings(found) == expected_crossings


def test_a_target_between_plateau_and_nothing_is_never_reached():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0, displacement=1.0)
    plateau = stationary(model, 0.5).excess_risk.item()
    found = steps_to_target(model, 0.5, [plateau * (1 + 1e-6), plateau * (1 - 1e-6)])
    curve = risks(np.array([1.0, 0.1]), 1.0, np.ones(2), 0.5, 1000)
    assert found.first_step.values.tolist() == [int(np.argmax(curve <= plateau * (1 + 1e-6))), -1]
    assert found.outcome.values.tolist() == [Outcome.REACHED, Outcome.NEVER_REACHED]
    assert found.crossing_count.values.tolist() == [1, 0]
    assert np.isnan(found.real_step[1])


def test_a_start_below_the_target_needs_no_step():
    quiet, noisy = MiniBatchQuadratic(1.0, 0.1, displacement=0.1), MiniBatchQuadratic(1.0, 10.0, displacement=0.1)
    assert steps_to_target(quiet, 0.5, 1.0).first_step == 0
    assert steps_to_target(quiet, 0.5, 1.0).crossing_count == 0
    leaving = steps_to_target(noisy, 0.5, 1.0)
    assert leaving.first_step == 0
    assert found_crossings(leaving) == crossings_of(risks(np.ones(1), 10.0, np.array([0.1]), 0.5, 100), 1.0)


def test_beyond_the_edge_a_dip_is_still_found():
    curvature, variance, start = np.array([1.0, 0.3]), np.array([1e-6, 0.0]), np.array([0.0, 2.0])
    curve = risks(curvature, variance, start, 2.1, 300)
    assert len(crossings_of(curve, 1e-2)) == 2
    found = steps_to_target(MiniBatchQuadratic(curvature, variance, displacement=start), 2.1, 1e-2)
    assert found_crossings(found) == crossings_of(curve, 1e-2)
    hopeless = steps_to_target(MiniBatchQuadratic(1.0, 1.0, displacement=1.0), 2.5, 0.1)
    assert hopeless.outcome == Outcome.NEVER_REACHED


def test_a_million_million_steps_are_found_without_walking():
    model = MiniBatchQuadratic(1.0, 0.0, displacement=1.0)
    found = steps_to_target(model, 1e-12, 0.5 * math.exp(-2))
    assert abs(found.first_step.item() - 1e12) <= 2
    assert math.isclose(found.real_step.item(), -1 / math.log1p(-1e-12), rel_tol=1e-9)


@given(seeds, st.floats(0.05, 1.95), st.integers(1, 60))
def test_a_target_that_is_hit_exactly_is_reached(seed, learning_rate, step):
    """The risk at a step, as computed here: one rounding this way or that."""
    _, curvature, variance, start = random_model(seed)
    *curve, hit, following = risks(curvature, variance, start, learning_rate, step + 1)
    model = MiniBatchQuadratic(curvature, variance, displacement=start)
    for target in (np.nextafter(hit, 0), hit, np.nextafter(hit, np.inf)):
        if min(curve) > target * (1 + 1e-9) and 0 < following < target * (1 - 1e-9):
            found = steps_to_target(model, learning_rate, target)
            assert abs(found.real_step - step) < 1e-6
            assert found.first_step in (step, step + 1)


def real_step(curvature, variance, start, learning_rate, batch_size, target, bracket):
    """The real k at which the risk, with powers of real order, meets the target."""
    gain = learning_rate * curvature
    plateau = variance / batch_size * gain / (2 - gain)

    def gap(k):
        left = np.abs(1 - gain) ** (2 * k)
        return 0.5 * curvature @ (start**2 * left + plateau * (1 - left)) - target

    return brentq(gap, bracket - 1.5, bracket + 1.5, xtol=1e-13, rtol=1e-14)


@pytest.mark.parametrize("learning_rate", [0.1, 0.7, 1.5])
@pytest.mark.parametrize("target", [0.4, 0.2])
def test_the_derivatives_are_those_of_the_real_step(learning_rate, target):
    curvature, variance, start = np.array([0.3, 0.07, 0.9]), np.array([0.3, 0.1, 0.2]), np.array([2.0, 2.0, 1.0])
    model = MiniBatchQuadratic(curvature, variance, displacement=start, batch_size=3)
    found = steps_to_target(model, learning_rate, target)
    bracket = found.real_step.item()

    def at(rate=learning_rate, batch_size=3.0, goal=target):
        return real_step(curvature, variance, start, rate, batch_size, goal, bracket)

    def slope(name, value, step=1e-5):
        return (at(**{name: value * (1 + step)}) - at(**{name: value * (1 - step)})) / (2 * step * value)

    assert math.isclose(bracket, at(), rel_tol=1e-10)
    assert found.first_step == math.ceil(bracket)
    assert math.isclose(found.real_step_per_learning_rate, slope("rate", learning_rate), rel_tol=1e-5)
    assert math.isclose(found.real_step_per_batch_size, slope("batch_size", 3.0), rel_tol=1e-5)
    assert math.isclose(found.real_step_per_target, slope("goal", target), rel_tol=1e-5)


def test_where_one_step_does_it_all_there_is_no_derivative():
    found = steps_to_target(MiniBatchQuadratic(1.0, 0.1, displacement=1.0), 1.0, 0.2)
    assert found.first_step == 1
    assert np.isnan(found.real_step_per_learning_rate)


def test_steps_to_target_sweep_over_named_axes():
    model = MiniBatchQuadratic([1.0, 0.1], 0.1, displacement=1.0, batch_size=xr.DataArray([1.0, 4.0], dims="batch"))
    found = steps_to_target(model, np.array([0.1, 0.5]), np.array([0.3, 0.1, 0.01]))
    assert found.first_step.sizes == {"learning_rate": 2, "target": 3, "batch": 2}
    for rate, target, batch in itertools.product([0.1, 0.5], [0.3, 0.1, 0.01], range(2)):
        curve = risks(np.array([1.0, 0.1]), 0.1 / [1, 4][batch], np.ones(2), rate, 500)
        first = int(np.argmax(curve <= target)) if (curve <= target).any() else -1
        assert found.first_step.sel(learning_rate=rate, target=target).isel(batch=batch) == first


# ---------------------------------------------------------------------------------------------------------------------
# Planning


def end_risk(model, rates):
    second = model.displacement**2
    for rate in rates:
        second = (1 - rate * model.curvature) ** 2 * second + (
            rate * model.curvature
        ) ** 2 * model.batch_center_variance
    return 0.5 * np.sum(model.multiplicity * model.curvature * second)


@given(st.floats(-3, 3).map(lambda p: 10**p), st.floats(-3, 3).map(lambda p: 10**p), st.integers(1, 60))
def test_in_one_direction_the_greedy_rate_is_the_kalman_gain(curvature, variance, steps):
    """Precision adds: 1/v_t = 1/v_0 + t B/C, and the gain is the share of the new sample."""
    model = MiniBatchQuadratic(curvature, variance, displacement=2.0, batch_size=5)
    t = np.arange(1, steps + 1)
    kalman = 1 / (5 / variance * (variance / 5) * t + variance / 5 / 4)  # (1/C) / (1/v_0 + t/C)
    greedy = greedy_schedule(model, steps)
    np.testing.assert_allclose(greedy * curvature, kalman, rtol=1e-11)
    np.testing.assert_allclose(optimal_schedule(model, steps), greedy, rtol=1e-6)
    made = moments(model, greedy, record=t)
    second = made.variance[:, 0] + made.mean_error[:, 0] ** 2
    np.testing.assert_allclose(1 / second, 1 / 4 + t * 5 / variance, rtol=1e-10)


@given(seeds, st.integers(1, 30))
def test_no_single_step_beats_the_greedy_rate(seed, steps):
    generator, curvature, variance, start = random_model(seed)
    start = np.where(start == 0, 1.0, start)
    multiplicity = generator.uniform(0.5, 5, curvature.size)
    model = MiniBatchQuadratic(curvature, variance, multiplicity=multiplicity, displacement=start)
    rates = greedy_schedule(model, steps)
    here = end_risk(model, rates)
    for factor in (0.9, 1.1):
        assert end_risk(model, [*rates[:-1], factor * rates[-1]]) > here
    vertex = [end_risk(model, [*rates[:-1], factor * rates[-1]]) for factor in (1 - 1e-3, 1 + 1e-3)]
    assert math.isclose(vertex[0] - here, vertex[1] - here, rel_tol=1e-3, abs_tol=1e-14 * here)


def test_from_the_minimiser_there_is_nothing_to_gain():
    model = MiniBatchQuadratic([1.0, 0.1], 1.0)
    np.testing.assert_array_equal(greedy_schedule(model, 4), np.zeros(4))
    np.testing.assert_array_equal(optimal_schedule(model, 4), np.zeros(4))


@pytest.fixture(scope="module")
def planned():
    """The problem of claim 26: h = 1/i, K = 1000, C = 1/(h K), v_0 = 1/K, T = 200."""
    curvature = 1 / np.arange(1, 1001)
    model = MiniBatchQuadratic(curvature, 1 / (1000 * curvature), displacement=math.sqrt(1 / 1000))
    return model, optimal_schedule(model, 200)


def test_claim_26_the_optimal_schedule(planned):
    model, best = planned
    j = np.arange(1, 201)
    shapes = {
        "linear": (1 - (j - 1) / 200, 1.05760e-3, 5e-9),
        "linear to zero": (1 - j / 200, 1.05975e-3, 5e-9),
        "late linear": (np.minimum(1, (201 - j) / 160), 1.0591e-3, 5e-8),
        "cosine": ((1 + np.cos(np.pi * (j - 1) / 200)) / 2, 1.09329e-3, 5e-9),
        "constant": (np.ones(200), 1.27899e-3, 5e-9),
    }
    optimum = end_risk(model, best)
    assert abs(optimum - 1.049908e-3) < 1e-9
    assert abs(best[0] - 0.994) < 5e-4
    assert abs(best[-1] - 0.051) < 5e-4
    tuned = {}
    for name, (shape, printed, digits) in shapes.items():
        found = minimize_scalar(
            lambda peak, shape=shape: end_risk(model, peak * shape), bounds=(0.05, 3), method="bounded"
        )
        assert abs(found.fun - printed) < digits
        tuned[name] = found
    assert optimum <= tuned["linear"].fun <= tuned["constant"].fun
    assert abs(tuned["constant"].x - 0.2553) < 5e-5
    assert abs(end_risk(model, greedy_schedule(model, 200)) - 1.52103e-3) < 5e-9
    averaged, *neighbours = (
        moments(model, constant(base, 200), average=swa(200)).excess_risk.item() for base in (1.471, 1.4705, 1.4715)
    )
    assert neighbours[0] < 9.58845e-4 < neighbours[1]  # the base rate is printed with four digits
    assert averaged < optimum  # an average is no schedule across a spectrum


def test_no_single_rate_of_the_optimal_schedule_can_be_improved(planned):
    model, best = planned
    here = end_risk(model, best)
    for step in (0, 1, 50, 120, 198, 199):
        changed = []
        for factor in (0.98, 1.02):
            rates = best.copy()
            rates[step] *= factor
            changed.append(end_risk(model, rates) - here)
        assert min(changed) > 0
        assert abs(changed[1] / changed[0] - 1) < 1e-3  # both sides of the vertex of a parabola


@given(seeds, st.integers(1, 25))
def test_the_optimal_schedule_is_stationary_and_beats_the_greedy_one(seed, steps):
    generator, curvature, variance, start = random_model(seed)
    model = MiniBatchQuadratic(curvature, variance + 0.01, displacement=np.where(start == 0, 1.0, start))
    best, greedy = optimal_schedule(model, steps), greedy_schedule(model, steps)
    here = end_risk(model, best)
    assert here <= end_risk(model, greedy) * (1 + 1e-12)
    step = int(generator.integers(steps))
    for factor in (0.8, 1.2):
        rates = best.copy()
        rates[step] *= factor
        assert end_risk(model, rates) >= here * (1 - 1e-12)


def test_plans_sweep_and_stay_lazy():
    noise = xr.DataArray([0.1, 1.0], dims="noise").chunk(noise=1)
    model = MiniBatchQuadratic([1.0, 0.2], noise, displacement=1.0)
    for plan in (greedy_schedule, optimal_schedule):
        made = plan(model, 6)
        assert made.chunks is not None
        assert made.step.values.tolist() == [1, 2, 3, 4, 5, 6]
        for index, value in enumerate((0.1, 1.0)):
            alone = plan(MiniBatchQuadratic([1.0, 0.2], value, displacement=1.0), 6)
            np.testing.assert_allclose(made.isel(noise=index), alone, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Power laws


def power_law_sum(steps, learning_rate, a, b, modes):
    """Half the sum over i of i^-b (1 - eta i^-a)^{2t}, to infinity: the rest by its first two terms in 1/i."""
    i = np.arange(1.0, modes + 1)
    head = (i**-b * np.exp(2 * steps * np.log1p(-learning_rate * i**-a))).sum()
    return 0.5 * head, 0.5 * (zeta(b, modes + 1) - 2 * steps * learning_rate * zeta(a + b, modes + 1))


def test_claim_29_the_power_law_of_the_bias():
    assert abs(power_law_sum(3000, 0.5, 1.5, 2.0, 10**6)[0] - 2.169272e-3) < 5e-10
    assert abs(power_law_bias(1500.0, 1.5, 2.0) - 2.169973e-3) < 5e-10
    model = MiniBatchQuadratic.power_law(10**6, 1.5, 2.0)
    assert abs(moments(model, constant(0.5, 3000)).excess_risk.item() - 2.169272e-3) < 5e-10


@pytest.mark.parametrize(("a", "b"), [(1.5, 2.0), (1.0, 1.7), (2.0, 3.5)])
def test_the_bias_approaches_its_power_law_like_one_over_steps(a, b):
    steps = np.array([200, 400, 800, 1600])
    exact = np.array([sum(power_law_sum(t, 0.5, a, b, 10**6)) for t in steps])
    gap = np.abs(exact / power_law_bias(0.5 * steps, a, b) - 1)
    assert gap[-1] < 2e-3
    np.testing.assert_allclose(gap[:-1] / gap[1:], 2, rtol=0.05)


curvature_exponents, source_exponents = st.floats(0.6, 3), st.floats(1.2, 4)
powers_of_ten = st.floats(-3, 3).map(lambda power: 10**power)


@given(curvature_exponents, source_exponents, powers_of_ten)
def test_the_power_law_is_the_integral_over_the_spectrum(a, b, time):
    k = (b - 1) / a
    # with v = (2 tau u)^kappa the integrand has no singularity left
    integral = mpmath.quad(lambda v: mpmath.exp(-(v ** (1 / k))), [0, 1, 2**k, 5**k, 20**k, 60**k]) / k
    assert close(power_law_bias(time, a, b), integral / (2 * a) * (2 * time) ** -k, 1e-6)


@given(curvature_exponents, source_exponents, st.floats(2, 6).map(lambda power: 10**power), powers_of_ten)
def test_the_optimal_rate_balances_bias_and_noise(a, b, steps, noise):
    k = (b - 1) / a
    best = power_law_optimal_rate(steps, a, b, noise)

    def risk(log_rate):
        return math.gamma(k) / (2 * a) * (2 * math.exp(log_rate) * steps) ** -k + noise * math.exp(log_rate)

    found = minimize_scalar(risk, bracket=(math.log(best) - 1.3, math.log(best) + 0.9), tol=1e-10)
    assert abs(found.x - math.log(best)) < 1e-5


def test_the_optimal_rate_of_a_real_spectrum_approaches_the_law():
    """Off by the order of the rate itself: the plateau is x/(2-x), not x/2."""
    a, b, noise_variance = 1.5, 2.0, 1.0
    h = np.arange(1, 20001.0) ** -a
    noise = (h**2).sum() * noise_variance / 4
    gaps, rates = [], []
    for steps in (10**4, 10**5, 10**6):

        def risk(log_rate, steps=steps):
            gain = math.exp(log_rate) * h
            left = np.exp(2 * steps * np.log1p(-gain))
            start = h ** (b / a - 1)
            return 0.5 * (h * (start * left + noise_variance * gain / (2 - gain) * (1 - left))).sum()

        law = power_law_optimal_rate(steps, a, b, noise)
        found = minimize_scalar(risk, bracket=(math.log(law) - 0.5, math.log(law) + 0.4), tol=1e-9)
        gaps.append(abs(found.x - math.log(law)))
        rates.append(law)
    assert gaps[-1] < 0.01
    order = np.diff(np.log(gaps)) / np.diff(np.log(rates))
    np.testing.assert_allclose(order, 1, atol=0.15)


@given(curvature_exponents, source_exponents, powers_of_ten, powers_of_ten)
def test_at_the_crossover_bias_and_noise_are_equal(a, b, learning_rate, noise):
    steps = power_law_crossover_steps(learning_rate, a, b, noise)
    k = (b - 1) / a
    bias = math.gamma(k) / (2 * a) * (2 * learning_rate * steps) ** -k
    assert close(bias, noise * learning_rate, 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Sensitivities


@given(below_edge, st.floats(0.01, 0.95), flags)
def test_sensitivities_of_the_plateau_are_its_derivatives(fraction, momentum, nesterov):
    gain = fraction * edge_of(momentum, nesterov)
    options = {"momentum": momentum, "nesterov": nesterov}
    with mpmath.workdps(45):
        per_gain = mpmath.diff(lambda x: stationary_by_algebra(x, momentum, nesterov), mpmath.mpf(gain), h=gain * 1e-12)
        per_momentum = mpmath.diff(lambda b: stationary_by_algebra(gain, b, nesterov), mpmath.mpf(momentum), h=1e-14)
        variance = stationary_by_algebra(gain, momentum, nesterov)
    assert close(stationary_variance.derivative("gain")(gain, **options), per_gain, 1e-7)
    assert close(stationary_variance.derivative("momentum")(gain, **options), per_momentum, 1e-6)
    # R = h C V(eta h) / 2B at h = 3, C = 5, B = 7
    at = (gain / 3, 3.0, 5.0, 7.0)
    assert close(stationary_risk.derivative("learning_rate")(*at, **options), 3 * 5 / 7 * 3 * per_gain / 2, 1e-7)
    assert close(stationary_risk.derivative("batch_size")(*at, **options), -3 * 5 / 49 * variance / 2, 1e-9)
    assert close(stationary_risk.derivative("center_variance")(*at, **options), 3 / 7 * variance / 2, 1e-9)


@given(st.floats(-3, 3).map(lambda power: 10**power), st.floats(0.01, 0.99), flags)
def test_sensitivities_of_the_edge_are_its_derivatives(curvature, momentum, nesterov):
    options = {"momentum": momentum, "nesterov": nesterov}
    edge = edge_of(momentum, nesterov) / curvature
    assert close(stability_edge.derivative("curvature")(curvature, **options), -edge / curvature, 1e-12)
    slope = (edge_of(momentum + 1e-6, nesterov) - edge_of(momentum - 1e-6, nesterov)) / 2e-6 / curvature
    assert close(stability_edge.derivative("momentum")(curvature, **options), slope, 1e-7)


def test_beyond_the_edge_there_is_no_sensitivity():
    assert math.isnan(stationary_variance.derivative("gain")(2.1))
    assert math.isnan(stationary_risk.derivative("batch_size")(3.0, 1.0, 1.0))


# ---------------------------------------------------------------------------------------------------------------------
# The model itself


@given(seeds, st.integers(1, 6))
def test_the_gradient_is_the_slope_of_the_loss(seed, modes):
    generator, curvature, variance, start = random_model(seed, modes)
    multiplicity = generator.uniform(0.5, 5, modes)
    model = MiniBatchQuadratic(curvature, variance, multiplicity=multiplicity, displacement=start, batch_size=2)
    error, center = generator.normal(size=(2, modes))
    gradient = model.batch_gradient(error, center)
    for mode in range(modes):
        nudge = 1e-4 * np.eye(modes)[mode]
        slope = (model.batch_loss(error + nudge, center) - model.batch_loss(error - nudge, center)) / 2e-4
        assert math.isclose(slope, multiplicity[mode] * gradient[mode], rel_tol=1e-7, abs_tol=1e-9)
    np.testing.assert_allclose(model.step(error, center, 0.3), error - 0.3 * gradient, rtol=1e-14)
    np.testing.assert_array_equal(model.start, start)


@given(seeds, st.integers(1, 4), st.integers(1, 100))
def test_the_expected_loss_is_excess_and_floor(seed, modes, batch_size):
    """Over centers at plus or minus one standard deviation."""
    generator, curvature, variance, _ = random_model(seed, modes)
    model = MiniBatchQuadratic(
        curvature, variance, multiplicity=generator.uniform(0.5, 5, modes), batch_size=batch_size
    )
    error = generator.normal(size=modes)
    centers = np.array(list(itertools.product([-1, 1], repeat=modes))) * np.sqrt(variance / batch_size)
    assert math.isclose(model.batch_loss(error, centers).mean(), model.excess_risk(error) + model.floor, rel_tol=1e-12)
    assert math.isclose(model.batch_loss(np.zeros(modes), centers).mean(), model.floor, rel_tol=1e-12)


def test_an_isotropic_model_is_one_mode_of_many_directions():
    model = MiniBatchQuadratic.isotropic(2.0, 3.0, 50, displacement=0.5, batch_size=4)
    assert model.modes == 1
    assert math.isclose(model.excess_risk(model.start), 0.5 * 50 * 2 * 0.25)
    assert math.isclose(model.floor, 0.5 * 50 * 2 * 3 / 4)


def test_the_noisy_quadratic_model_has_gradient_noise_of_the_shape_of_its_curvature():
    model = MiniBatchQuadratic.noisy_quadratic(100, exponent=1.5, batch_size=8)
    np.testing.assert_allclose(model.curvature, np.arange(1, 101) ** -1.5, rtol=1e-14)
    np.testing.assert_allclose(model.curvature**2 * model.batch_center_variance, model.curvature / 8, rtol=1e-14)
    np.testing.assert_array_equal(model.displacement, np.ones(100))
    default = MiniBatchQuadratic.noisy_quadratic(3)
    np.testing.assert_allclose(default.curvature, [1, 1 / 2, 1 / 3], rtol=1e-15)


def test_a_power_law_model_has_both_exponents():
    model = MiniBatchQuadratic.power_law(50, 1.5, 2.0, center_variance=0.1)
    index = np.arange(1, 51.0)
    np.testing.assert_allclose(model.curvature, index**-1.5, rtol=1e-14)
    np.testing.assert_allclose(model.curvature * model.displacement**2, index**-2, rtol=1e-13)
    np.testing.assert_array_equal(model.center_variance, np.full(50, 0.1))


def test_a_log_uniform_model_is_evenly_spaced_in_its_logarithm():
    model = MiniBatchQuadratic.log_uniform(1e-4, 1.0, 9, center_variance=2.0, displacement=3.0)
    np.testing.assert_allclose(np.log10(model.curvature), np.linspace(-4, 0, 9), atol=1e-13)
    assert model.displacement.tolist() == [3.0] * 9
    with pytest.raises(ValueError, match="low must be smaller than high"):
        MiniBatchQuadratic.log_uniform(1.0, 0.1, 5)


def test_a_measured_spectrum_is_read(tmp_path):
    table, column = tmp_path / "table.csv", tmp_path / "column.csv"
    table.write_text("curvature, multiplicity,center_variance,displacement\n2.0,3,0.5,1\n\n0.1,7,0.25,-1\n")
    model = MiniBatchQuadratic.from_csv(table, batch_size=4)
    for name, values in (
        ("curvature", [2.0, 0.1]),
        ("multiplicity", [3.0, 7.0]),
        ("center_variance", [0.5, 0.25]),
        ("displacement", [1.0, -1.0]),
    ):
        assert getattr(model, name).tolist() == values
    assert model.batch_size == 4
    column.write_text("3.0\n1.0\n-0.001\n0.5\n")
    assert MiniBatchQuadratic.from_csv(str(column), center_variance=1.0, smallest=0.6).curvature.tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {"center_variance": 1.0}, "at least one row"),
        ("curvature,color\n1,2\n", {"center_variance": 1.0}, "must name columns among"),
        ("displacement\n1\n", {"center_variance": 1.0}, "curvature one of them"),
        ("curvature\n1\nhigh\n", {"center_variance": 1.0}, "one number per column"),
        ("1\n2\n", {}, "center_variance must be given exactly once"),
        ("curvature,center_variance\n1,1\n", {"center_variance": 1.0}, "center_variance must be given exactly once"),
        ("1\n-2\n", {"center_variance": 1.0}, "curvature must be"),
    ],
)
def test_a_file_that_holds_no_spectrum_is_refused(tmp_path, text, options, message):
    path = tmp_path / "spectrum.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        MiniBatchQuadratic.from_csv(path, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        (([1.0, 0.0], 1.0), {}, "curvature"),
        (([1.0, math.nan], 1.0), {}, "curvature"),
        ((1.0, -1.0), {}, "center_variance"),
        (([1.0, 0.5], [1.0, 1.0, 1.0]), {}, "center_variance"),
        ((1.0, 1.0), {"multiplicity": 0.0}, "multiplicity"),
        ((1.0, 1.0), {"displacement": math.inf}, "displacement"),
        ((1.0, 1.0), {"batch_size": 0}, "batch_size"),
        (([1.0, 0.5], 1.0), {"batch_size": [1, 2]}, "batch_size"),
    ],
)
def test_a_model_that_cannot_be_is_named(arguments, options, name):
    with pytest.raises(ValueError, match=f"MiniBatchQuadratic: {name} must"):
        MiniBatchQuadratic(*arguments, **options)


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("offset", [1e-12, -1e-12, 1e-6, -1e-6])
def test_the_contraction_factor_keeps_its_digits_next_to_critical_damping(momentum, offset):
    with mpmath.workprec(200):
        beta = mpmath.mpf(momentum)
        gain = float((1 - mpmath.sqrt(beta)) ** 2 * (1 + offset))
        trace = 1 + beta - mpmath.mpf(gain)
        root = mpmath.sqrt(trace**2 - 4 * beta)
        radius = max(abs((trace + root) / 2), abs((trace - root) / 2))
    # the gain itself is rounded, and the radius moves with its square root
    assert contraction_factor(gain, momentum=momentum) == pytest.approx(float(radius), rel=1e-9)
