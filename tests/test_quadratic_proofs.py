"""Formulas of mini-batch quadratics, proved: substituted in its defining recursion, each leaves exactly 0."""

import itertools
import math

import pytest
import sympy
from plain_quadratic import (
    transfer,
)

import sgdynamics
from sgdynamics.theory.quadratic import (
    almost_sure_edge_gain,
    batch_efficiency,
    chord_excess,
    covariance_ratio,
    decayed_minimiser,
    decayed_variance,
    ema_variance,
    equivalent_gain,
    examples_for_steps,
    half_rate_excess,
    heavy_ball_equivalent_gain,
    held_out_loss,
    iterate_cosine,
    learning_order_rate,
    line_search_gain,
    mean_square_edge_gain,
    mean_square_factor,
    plateau_noise_scale,
    random_curvature_second_moment,
    random_curvature_variance,
    reshuffled_variance,
    risk_odds_factor,
    risk_transfer,
    shell_fluctuation,
    sign_descent_variance,
    squared_distance,
    stability_edge,
    stationary_risk,
    stationary_variance,
    stepped_loss,
    steps_for_batch,
    swa_start_weight,
    swa_variance_from_start,
    tail_variance,
    trace_rule_term,
    two_point_variance,
    used_batch_loss,
)

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
    # with momentum: all correlations in one series, weighted by powers of the decay, which their recursion sums up
    decay = sympy.Symbol("decay", positive=True)
    for nesterov in (False, True):
        (m, n), _ = transfer(X, BETA, nesterov)
        run_variance = -(X**2) / solve_recursion(sympy.Integer(1), X, nesterov, 0)
        made = ema_variance(X, decay, momentum=BETA, nesterov=nesterov)
        series = (made / run_variance * (1 + decay) / (1 - decay) - 1) / 2
        yield decay * m / (1 - n) + decay * m * series + n * decay**2 * (1 + series) - series


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


def proof_swa_variance_from_start():
    """One more step adds one more squared weight, (1 - a^{T+1})^2; the others keep theirs."""
    yield swa_variance_from_start(FROM_A, 1) - FROM_A**2
    yield (
        (N + 1) ** 2 * swa_variance_from_start(FROM_A, N + 1)
        - N**2 * swa_variance_from_start(FROM_A, N)
        - (1 - A ** (N + 1)) ** 2
    )


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
    y, draws, kurtosis = sympy.symbols("y S kappa", positive=True)
    for nesterov, fourth in itertools.product((None, False, True), (3, kurtosis)):
        options = {} if nesterov is None else {"momentum": BETA, "nesterov": nesterov}
        options |= {} if fourth == 3 else {"kurtosis": fourth}
        terms = [trace_rule_term(gain, draws, **options) for gain in (X, y)]
        ahead = terms[0] / (X * (1 - sum(terms)))
        error = sum(terms) / (1 - sum(terms))  # sum of lambda times these
        # of the gradient: E phi^4 v of its own feature, E phi^2 E psi^2 of all the others, less the squared mean
        noise = (fourth * X**2 * ahead + X * (error - X * ahead) - X**2 * ahead + X) / draws
        variance = -noise / solve_recursion(sympy.Integer(1), X, bool(nesterov), 0)
        (m, n), _ = transfer(X, BETA, bool(nesterov))
        neighbours = m * variance / (1 - n)
        if nesterov:
            variance = ((1 + BETA) ** 2 + BETA**2) * variance - 2 * BETA * (1 + BETA) * neighbours
        residual = variance - ahead
        yield residual.subs(BETA, 0) if nesterov is None else residual


def best_step():
    """Best rate of one step and what it gains, from slope, bend and noise of the expected loss along it."""
    slope, bend, noise, batch, rate = sympy.symbols("slope bend noise B eta", positive=True)
    expected = -rate * slope + rate**2 * (bend + noise / batch) / 2
    best = sympy.solve(sympy.diff(expected, rate), rate)[0]
    return batch, noise / bend, best, -expected.subs(rate, best)


def proof_batch_efficiency():
    batch, scale, best, gain = best_step()
    for found in (best, gain):
        yield found - batch_efficiency(batch, scale) * sympy.limit(found, batch, sympy.oo)


def proof_steps_for_batch():
    batch, scale, _, gain = best_step()
    yield steps_for_batch(batch, scale) - sympy.limit(gain, batch, sympy.oo) / gain


def proof_examples_for_steps():
    """Steps times batch size, over the product for small batches."""
    batch, _, _, gain = best_step()
    steps = sympy.limit(gain, batch, sympy.oo) / gain
    yield examples_for_steps(steps) - batch * steps / sympy.limit(batch * steps, batch, 0)


def proof_heavy_ball_equivalent_gain():
    plain = heavy_ball_equivalent_gain(X, BETA)
    yield plain / (2 - plain) - stationary_variance(X, momentum=BETA)
    dampening = sympy.Symbol("tau", positive=True)
    plain = heavy_ball_equivalent_gain(X, BETA, dampening)
    yield from stationary_residuals(
        [[1 - X * (1 - dampening), -X * BETA], [1 - dampening, BETA]],
        plain / (2 - plain),
        (
            X * (1 - dampening),
            dampening - 1,
        ),
    )


def stationary_residuals(matrix, variance, shock):
    """What is left where the variance of the first component is put into the covariances that a step keeps."""
    entries = sympy.symbols("s11 s12 s22")
    covariance = sympy.Matrix([[entries[0], entries[1]], [entries[1], entries[2]]])
    moved = sympy.Matrix(matrix) * covariance * sympy.Matrix(matrix).T + sympy.Matrix(shock) * sympy.Matrix(shock).T
    (solution,) = sympy.linsolve([(moved - covariance)[i] for i in (0, 1, 3)], entries)
    yield solution[0] - variance


def decayed_step():
    """A heavy-ball step with decoupled decay on (w, u), at rate 1 and curvature x, and where the center enters."""
    decay = sympy.Symbol("delta", positive=True)
    return decay, [[1 - decay - X, -BETA], [X, BETA]], [X, -X]


def proof_decayed_variance():
    decay, matrix, shock = decayed_step()
    yield from stationary_residuals(matrix, decayed_variance(X, decay, momentum=BETA), shock)
    yield decayed_variance(X, 0, momentum=BETA) - stationary_variance(X, momentum=BETA)


def proof_decayed_minimiser():
    decay, matrix, shock = decayed_step()
    rest = (sympy.eye(2) - sympy.Matrix(matrix)).solve(sympy.Matrix(shock))
    yield rest[0] - decayed_minimiser(X, decay, momentum=BETA)


def proof_plateau_noise_scale():
    batch = sympy.Symbol("B", positive=True)
    for nesterov in (False, True):
        made = plateau_noise_scale(X, batch, momentum=BETA, nesterov=nesterov)
        yield solve_recursion(batch / made, X, nesterov)


def proof_almost_sure_edge_gain():
    """On the unit circle, at an angle whose cosine and sine are c and s, the root satisfies its equation."""
    width = sympy.Symbol("q", positive=True)
    x = almost_sure_edge_gain(width, momentum=BETA)
    cosine, sine = (1 + BETA - x) / (1 + BETA), width * x / (1 - BETA)
    yield cosine**2 + sine**2 - 1
    root = cosine + sympy.I * sine
    (root_squared,) = [root**2 - (1 + BETA - x + sympy.I * width * x) * root + BETA]
    yield sympy.re(sympy.expand(root_squared.subs({width: sympy.Rational(2, 5), BETA: sympy.Rational(1, 3)})))
    yield sympy.im(sympy.expand(root_squared.subs({width: sympy.Rational(2, 5), BETA: sympy.Rational(1, 3)})))


def proof_learning_order_rate():
    sharp, flat = sympy.symbols("h_s h_f", positive=True)
    rate = learning_order_rate(sharp, flat)
    yield (1 - rate * sharp) ** 2 - (1 - rate * flat) ** 2


def proof_risk_odds_factor():
    sharp, flat, rate = sympy.symbols("h_s h_f eta", positive=True)
    yield risk_odds_factor(rate, 0, sharp, flat) - 1
    for steps in range(3):
        one_more = risk_odds_factor(rate, steps + 1, sharp, flat) / risk_odds_factor(rate, steps, sharp, flat)
        yield one_more - (1 - rate * flat) ** 2 / (1 - rate * sharp) ** 2


def proof_risk_transfer():
    h, k, e = (sympy.symbols(f"{name}_s {name}_f", positive=True) for name in "hke")
    risks = [[c * square**2 / 2 for c, square in zip(curvature, e, strict=True)] for curvature in (h, k)]
    yield risk_transfer(risks[0][1] / risks[0][0], k[0] / h[0], k[1] / h[1]) - sum(risks[1]) / sum(risks[0])


def proof_sign_descent_variance():
    """Detailed balance between e and e + eta, in E = exp(e / 2s) and R = exp(eta / 2s); then the second moment."""
    at, ratio, eta, scale, t = sympy.symbols("E R eta s t", positive=True)
    up = (at + 1 / at) / (1 + at**2)
    density_above = (at * ratio + 1 / (at * ratio)) / (at**2 * ratio)
    yield up - density_above / (1 + 1 / (at * ratio) ** 2)
    moments = sympy.exp(eta * scale * t**2 / 2)  # E exp(t e) of a normal law of variance eta s
    tilted = sympy.simplify(sympy.diff(moments, t, 2) / moments).subs(t, 1 / (2 * scale))
    yield tilted - sign_descent_variance(eta, scale)


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
    of_stem = [formula for formula in sgdynamics.formulas(kind="formula") if formula.stem == "quadratic"]
    assert {formula.__name__ for formula in of_stem if formula.status == "exact" and formula.symbolic} == set(PROOFS)
