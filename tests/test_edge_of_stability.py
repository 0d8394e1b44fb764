"""The minimal models of the edge of stability: every closed form against the recursions that define the models.

The recursions are written out here from their definition; nothing of the models is used to check the theory.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import sgdynamics
from sgdynamics.models.edge_of_stability import (
    FourFactors,
    ProductLoss,
    SecondOrderRegression,
    SelfStabilization,
    second_order_sharpness,
    second_order_step,
)
from sgdynamics.theory import quadratic
from sgdynamics.theory.edge_of_stability import (
    critical_end_excess,
    cycle_amplitude,
    cycle_drift,
    cycle_growth,
    cycle_invariant,
    cycle_period,
    end_excess,
    end_gap,
    error_budget,
    fitted_order,
    flip_coefficient,
    four_factor_edge_point,
    gap_drift,
    gradient_flow,
    imbalance_factor,
    minimum_sharpness,
    modified_flow,
    ornstein_uhlenbeck_variance,
    oscillation_variance,
    reduced_invariant,
    tracking_amplitude,
    two_cycle_rate,
    two_cycle_threshold,
)

OUTER = {
    "square": ProductLoss("square", target=1.5),
    "log_cosh": ProductLoss("log_cosh", target=0.5),
    "square_root": ProductLoss("square_root", target=-0.5),
    "quartic": ProductLoss("quartic", target=1.0),
}
every_outer = pytest.mark.parametrize("outer", OUTER)

# The outer functions once more, for SymPy and for plain numbers.
Z, T = sympy.symbols("z t", real=True)
SYMBOLIC = {
    "square": (Z - T) ** 2 / 2,
    "log_cosh": sympy.log(sympy.cosh(Z - T)),
    "square_root": sympy.sqrt(1 + (Z - T) ** 2) - 1,
    "quartic": (Z**2 - T**2) ** 2 / 4,
}
SLOPES = {
    "square": lambda z, t: z - t,
    "log_cosh": lambda z, t: math.tanh(z - t),
    "square_root": lambda z, t: (z - t) / math.sqrt(1 + (z - t) ** 2),
    "quartic": lambda z, t: z * (z * z - t * t),
}


def descend(slope, target, x, y, rate, steps):
    """Gradient descent on l(xy), from its definition."""
    for _ in range(steps):
        force = slope(x * y, target)
        x, y = x - rate * y * force, y - rate * x * force
    return x, y


def released(minimum, total, distance=1e-2):
    """A point with xy a little beside the minimum, on the imbalance at which x^2 + y^2 is ``total`` there."""
    imbalance = math.sqrt(total**2 - 4 * minimum**2)
    product = minimum + distance
    y = math.sqrt((imbalance + math.sqrt(imbalance**2 + 4 * product**2)) / 2)
    return product / y, y


def order(sizes, errors):
    """Slope of log error against log size."""
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Proofs: substituted in its definition, a formula leaves exactly 0

ETA, A, B, C = sympy.symbols("eta a b c", positive=True)
X, Y, S, L = sympy.symbols("x y s l", real=True)
ALPHA, BETA, RHO, SIZE = sympy.symbols("alpha beta rho size", positive=True)
E, AMPLITUDE = sympy.symbols("e X", real=True)


def proof_imbalance_factor():
    x, y = X - ETA * Y * L, Y - ETA * X * L
    yield y**2 - x**2 - imbalance_factor(ETA, L) * (Y**2 - X**2)


def proof_minimum_sharpness():
    """At l'(xy) = 0 the Hessian is l'' (y, x)(y, x)', whose eigenvalue is its trace."""
    hessian = A * sympy.Matrix([Y, X]) * sympy.Matrix([[Y, X]])
    made = minimum_sharpness(Y**2 - X**2, X * Y, A)
    yield sympy.sqrt(sympy.factor(made**2)) - sympy.sqrt(hessian.trace() ** 2)
    yield hessian.det()


def proof_four_factor_edge_point():
    """With x^2 - y^2 = c^2 and xy = 1 the four-parameter Hessian at the minimum has the trace 2(x^2 + y^2) = 2/eta."""
    rate = sympy.symbols("rate", positive=True)
    squared = four_factor_edge_point(rate) ** 4 + 4  # (x^2 + y^2)^2
    yield squared - (1 / rate) ** 2


def proof_flip_coefficient():
    """Two steps of xy at the edge, the imbalance held fixed: s - 2 K s^3."""
    imbalance = sympy.sqrt((2 / (ETA * A)) ** 2 - 4 * T**2)
    n = sympy.Symbol("n", positive=True)  # x^2 + y^2 = sqrt(D^2 + 4 z^2), expanded about n = 2/(eta a)
    spread = 8 * T * S + 4 * S**2
    total = n + spread / (2 * n) - spread**2 / (8 * n**3) + spread**3 / (16 * n**5)
    yield sympy.expand(n**2 + spread - (imbalance**2 + 4 * (T + S) ** 2).subs(ETA, 2 / (n * A)))
    force = A * S + B * S**2 / 2 + C * S**3 / 6
    once = sympy.expand(((T + S) - ETA * force * total + ETA**2 * force**2 * (T + S) - T).subs(n, 2 / (ETA * A)))
    coefficients = [sympy.simplify(once.coeff(S, k)) for k in range(4)]
    yield coefficients[0]
    yield coefficients[1] + 1
    a2, a3 = coefficients[2:]

    def once_to_third(s):
        return -s + a2 * s**2 + a3 * s**3

    twice = sympy.expand(once_to_third(sympy.expand(once_to_third(S))))
    yield twice.coeff(S, 1) - 1
    yield sympy.expand(twice.coeff(S, 2))
    yield twice.coeff(S, 3) + 2 * flip_coefficient(ETA, T, A, B, C)


def reduced(amplitude, excess):
    return 2 * amplitude * (excess - amplitude), -RHO * amplitude


def proof_reduced_invariant():
    amplitude = sympy.Symbol("X", nonnegative=True)
    invariant = reduced_invariant(E, amplitude, RHO)
    growth, drift = reduced(amplitude, E)
    yield (sympy.diff(invariant, amplitude) * growth + sympy.diff(invariant, E) * drift) * sympy.exp(2 * E / RHO)
    yield invariant.subs({E: 0}) - (amplitude - RHO / 2)  # its scale


def proof_tracking_amplitude():
    line = tracking_amplitude(E, RHO)
    growth, drift = reduced(line, E)
    yield sympy.diff(line, E) * drift - growth
    yield sympy.diff(line, E) - 1


def proof_critical_end_excess():
    """(X - 2e - rho)/(e + rho)^2 is conserved, and the same at both ends, where X = 0; they differ in sign."""
    invariant = (AMPLITUDE - 2 * E - RHO) / (E + RHO) ** 2
    growth, drift = 2 * AMPLITUDE * (E - AMPLITUDE), -(RHO + E) * AMPLITUDE
    yield sympy.diff(invariant, AMPLITUDE) * growth + sympy.diff(invariant, E) * drift
    start = sympy.Symbol("e0", positive=True)
    end = critical_end_excess(start, RHO)
    yield invariant.subs({AMPLITUDE: 0, E: end}) - invariant.subs({AMPLITUDE: 0, E: start})
    yield sympy.limit(end / start, start, 0) + 1


def self_stabilise(x, y):
    return -(1 + ETA * y) * x, y + ETA * (ALPHA - BETA * x**2 / 2)


def proof_cycle_amplitude():
    size = cycle_amplitude(ALPHA, BETA)
    x, y = self_stabilise(size, 0)
    yield x + size
    yield y


def proof_oscillation_variance():
    """With -grad L - Sigma/2 grad S as velocity the curvature stays; without sharpening Sigma vanishes."""
    slope, bend = sympy.Matrix(sympy.symbols("g1:3", real=True)), sympy.Matrix(sympy.symbols("n1:3", positive=True))
    sharpening = -slope.dot(bend)
    made = oscillation_variance(sympy.Symbol("A", positive=True), bend.dot(bend)).subs(
        sympy.Symbol("A", positive=True), sharpening
    )
    yield bend.dot(-slope - made / 2 * bend)
    yield oscillation_variance(-ALPHA, BETA)


def proof_cycle_growth():
    """The modulus of the conjugate eigenvalues is the root of the determinant."""
    log_size = sympy.Symbol("u", real=True)
    x, y = self_stabilise(sympy.exp(log_size), Y)
    step = sympy.Matrix([sympy.log(1 + ETA * Y) + log_size, y])
    yield sympy.expand_log(sympy.log(-x / sympy.exp(log_size)) - sympy.log(1 + ETA * Y))
    jacobian = step.jacobian([log_size, Y]).subs({Y: 0, log_size: sympy.log(2 * ALPHA / BETA) / 2})
    yield sympy.simplify(jacobian.det() - cycle_growth(ETA, ALPHA) ** 2)
    yield cycle_growth(ETA, ALPHA) - sympy.sqrt(cycle_growth(ETA, ALPHA) ** 2)


def proof_cycle_invariant():
    """Along d ln|x| = y, dy = alpha - beta x^2/2, with the kinetic term y^2/2."""
    invariant = cycle_invariant(SIZE, Y, ALPHA, BETA)
    yield sympy.diff(invariant, SIZE) * SIZE * Y + sympy.diff(invariant, Y) * (ALPHA - BETA * SIZE**2 / 2)
    yield sympy.diff(invariant, Y, 2) - 1
    yield invariant.subs({SIZE: 1, Y: 0}) - BETA / 4


def proof_two_cycle_rate():
    """The points of a cycle of gradient descent fix its two gradients; with momentum they come round as well."""
    one, other = sympy.symbols("w v", real=True)
    rate, beta = sympy.symbols("eta_0 beta", positive=True)
    at_one, at_other = (one - other) / rate, (other - one) / rate
    eta = sympy.Symbol("eta_m", positive=True)
    (heavy,) = sympy.solve(two_cycle_rate(eta, beta) - rate, eta)
    yield one - heavy * at_one + beta * (one - other) - other
    yield other - heavy * at_other + beta * (other - one) - one
    # Nesterov: the gradient is taken at w and v, the weights are where the step leads
    (ahead,) = sympy.solve(two_cycle_rate(eta, beta, nesterov=True) - rate, eta)
    after_one, after_other = one - ahead * at_one, other - ahead * at_other
    yield after_one + beta * (after_one - after_other) - other
    yield after_other + beta * (after_other - after_one) - one


def proof_two_cycle_threshold():
    """Where the matrix of two steps has the eigenvalue -1."""
    beta = sympy.Symbol("beta", positive=True)
    first, multiplier = sympy.symbols("a m", real=True)  # a = 1 - eta' h_+, and the other one is m over it
    matrices = [
        sympy.Matrix([[1 + beta - (1 + beta) * (1 - slope), -beta], [1, 0]]) for slope in (first, multiplier / first)
    ]
    two = matrices[0] * matrices[1]
    yield (two + sympy.eye(2)).det().subs(multiplier, two_cycle_threshold(beta))
    yield two.det() - beta**2
    yield two.trace() - ((1 + beta) ** 2 * multiplier - 2 * beta)
    yield (two - sympy.eye(2)).det().subs(multiplier, 1)  # born where gradient descent gives birth to it


def proof_ornstein_uhlenbeck_variance():
    """d Var/dt = D - 2k Var, from 0."""
    pull, diffusion, time = sympy.symbols("k D t", positive=True)
    variance = ornstein_uhlenbeck_variance(pull, diffusion, time)
    yield sympy.diff(variance, time) - diffusion + 2 * pull * variance
    yield variance.subs(time, 0)


PROOFS = {
    name.removeprefix("proof_"): function for name, function in list(globals().items()) if name.startswith("proof_")
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_formula_solves_its_definition(name):
    for residual in PROOFS[name]():
        assert sympy.simplify(sympy.together(residual)) == 0


def test_every_exact_symbolic_formula_of_the_edge_is_proved():
    of_stem = [item for item in sgdynamics.formulas(kind="formula") if item.stem == "edge_of_stability"]
    assert {item.__name__ for item in of_stem if item.status == "exact" and item.symbolic} == set(PROOFS)


# ---------------------------------------------------------------------------------------------------------------------
# The models: loss, gradient, Hessian and step against symbolic derivatives

points = st.tuples(st.floats(-2, 2), st.floats(-2, 2))
rates = st.floats(-3, -0.3).map(lambda power: 10**power)


@every_outer
def test_a_product_loss_is_what_its_outer_function_says(outer):
    x, y = sympy.symbols("x y", real=True)
    model = OUTER[outer]
    loss = SYMBOLIC[outer].subs(T, sympy.Rational(model.target)).subs(Z, x * y)
    gradient = [sympy.diff(loss, v) for v in (x, y)]
    hessian = sympy.hessian(loss, (x, y))
    at = sympy.lambdify((x, y), [loss, gradient, hessian], "mpmath")
    for point in ((0.3, 1.7), (-1.2, 0.4), (2.0, 3.0), (0.0, 0.9)):
        value, slope, curvature = at(*point)
        assert float(model.loss(*point)) == pytest.approx(float(value), rel=1e-13)
        np.testing.assert_allclose(model.gradient(*point), [float(v) for v in slope], rtol=1e-13, atol=1e-15)
        expected = np.array(curvature.tolist(), dtype=float)
        np.testing.assert_allclose(model.hessian(*point), expected, rtol=1e-12, atol=1e-14)
        assert float(model.sharpness(*point)) == pytest.approx(np.linalg.eigvalsh(expected)[-1], rel=1e-12)
    made = [sympy.diff(SYMBOLIC[outer], Z, k).subs(Z, T).subs(T, model.target) for k in (2, 3, 4)]
    assert model.derivatives == pytest.approx([float(v) for v in made], rel=1e-14)
    assert float(model.slope(0.3, 1.7)) == pytest.approx(SLOPES[outer](0.3 * 1.7, model.target), rel=1e-14)
    assert float(model.imbalance(0.3, 1.7)) == pytest.approx(1.7**2 - 0.3**2)


@settings(max_examples=25)
@given(exponent=st.floats(-8, 3))
def test_log_cosh_keeps_its_digits_near_and_far(exponent):
    z = 10**exponent
    exact = sympy.log(sympy.cosh(sympy.Float(z, 60))) if z < 100 else sympy.Float(z, 60) - sympy.log(2)
    assert float(ProductLoss("log_cosh").loss(z, 1.0)) == pytest.approx(float(exact), rel=1e-14)


@every_outer
@given(point=points, rate=rates)
def test_one_step_keeps_the_imbalance_but_for_its_factor(outer, point, rate):
    model = OUTER[outer]
    new = model.step(*point, rate)
    expected = descend(SLOPES[outer], model.target, *point, rate, 1)
    np.testing.assert_allclose(new, expected, rtol=1e-12, atol=1e-13)
    factor = imbalance_factor(rate, float(model.slope(*point)))
    assert model.imbalance(*new) == pytest.approx(factor * model.imbalance(*point), rel=1e-9, abs=1e-10)


weights = st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4)


@settings(max_examples=25)
@given(w=weights)
def test_the_four_factor_model_by_symbolic_derivatives(w):
    symbols = sympy.symbols("x y z w", real=True)
    loss = (sympy.Rational(5, 4) - sympy.prod(symbols)) ** 2 / 2
    at = dict(zip(symbols, map(sympy.Rational, w), strict=True))
    model = FourFactors(target=1.25)
    gradient = [float(sympy.diff(loss, v).subs(at)) for v in symbols]
    hessian = np.array(sympy.hessian(loss, symbols).subs(at).tolist(), dtype=float)
    assert float(model.loss(w)) == pytest.approx(float(loss.subs(at)), rel=1e-12)
    np.testing.assert_allclose(model.gradient(w), gradient, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(model.hessian(w), hessian, rtol=1e-12, atol=1e-13)
    assert model.sharpness(w) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-12)
    np.testing.assert_allclose(model.step(w, 0.1), np.array(w) - 0.1 * np.array(gradient), rtol=1e-12, atol=1e-13)


@settings(max_examples=25)
@given(point=points, rate=rates)
def test_the_coupled_map_of_zhu_is_the_four_factor_model_and_not_the_two_variable_loss(point, rate):
    """x' = x - eta (x^2 y^2 - 1) x y^2; the loss (1 - x^2 y^2)^2 / 2 of x and y alone has twice that gradient."""
    x, y = point
    residual = x * x * y * y - 1
    coupled = x - rate * residual * x * y * y, y - rate * residual * x * x * y
    np.testing.assert_allclose(ProductLoss("quartic", target=1.0).step(x, y, rate), coupled, rtol=1e-12, atol=1e-13)
    four = FourFactors().step([x, y, x, y], rate)
    np.testing.assert_allclose(four, [*coupled, *coupled], rtol=1e-12, atol=1e-13)
    u, v = sympy.symbols("u v")
    two_variable = (1 - u**2 * v**2) ** 2 / 2
    slope = float(sympy.diff(two_variable, u).subs({u: x, v: y}))
    halved = ProductLoss("quartic", target=1.0).step(x, y, 2 * rate)[0]
    assert x - rate * slope == pytest.approx(float(halved), rel=1e-12, abs=1e-12)
    if abs(slope) > 1e-3:
        assert abs((x - rate * slope) - coupled[0]) > 0.4 * rate * abs(slope)  # the pitfall: not the same step


def test_zhu_minima_are_as_sharp_in_four_parameters_as_in_the_coupled_map():
    for x in (0.4, 1.0, 3.0):
        sharpness = 2 * (x**2 + x**-2)
        assert FourFactors().sharpness([x, 1 / x, x, 1 / x]) == pytest.approx(sharpness, rel=1e-12)
        assert float(ProductLoss("quartic", target=1.0).sharpness(x, 1 / x)) == pytest.approx(sharpness, rel=1e-12)
        assert minimum_sharpness(x**-2 - x**2, 1.0, 2.0) == pytest.approx(sharpness, rel=1e-12)


@settings(max_examples=25)
@given(
    x=st.floats(-2, 2),
    curvature=st.floats(-3, 3),
    alpha=st.floats(0.1, 3),
    beta=st.floats(0.1, 3),
    zeta=st.sampled_from([0.0, 0.6, -2.5]),
    rate=rates,
)
def test_self_stabilisation_is_gradient_descent_on_a_cubic(x, curvature, alpha, beta, zeta, rate):
    a, v = sympy.symbols("a v")
    root = sympy.sqrt(sympy.Rational(beta))
    loss = root * v * a**2 / 2 - sympy.Rational(alpha) / root * v + sympy.Rational(zeta) * a**3 / 2
    at = {a: sympy.Rational(x), v: sympy.Rational(curvature) / root}
    gradient = [float(sympy.diff(loss, s).subs(at)) for s in (a, v)]
    model = SelfStabilization(sharpening=alpha, restoring=beta, asymmetry=zeta)
    assert float(model.loss(x, curvature)) == pytest.approx(float(loss.subs(at)), rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(model.gradient(x, curvature), gradient, rtol=1e-12, atol=1e-12)
    hessian = np.array(sympy.hessian(loss, (a, v)).subs(at).tolist(), dtype=float)
    np.testing.assert_allclose(model.hessian(x, curvature), hessian, rtol=1e-12, atol=1e-12)
    assert float(model.sharpness(x, curvature)) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-9, abs=1e-9)
    new = x - rate * gradient[0], curvature - rate * gradient[1] * math.sqrt(beta)
    np.testing.assert_allclose(model.step(x, curvature, rate), new, rtol=1e-12, atol=1e-12)
    y = curvature - 2 / rate  # the map as Damian et al. write it
    mapped = -(1 + rate * y) * x - 1.5 * rate * zeta * x**2, y + rate * (alpha - beta * x**2 / 2) + 2 / rate
    np.testing.assert_allclose(model.step(x, curvature, rate), mapped, rtol=1e-9, atol=1e-9)


forms = st.lists(st.sampled_from([0.7, -0.3]), min_size=2, max_size=5).filter(lambda q: len(set(q)) == 2)


@given(q=forms, seed=st.integers(0, 10**6), offset=st.floats(-1, 1), rate=rates)
def test_second_order_regression_steps_alike_in_weights_and_in_functions(q, seed, offset, rate):
    w = np.random.default_rng(seed).normal(size=len(q))
    model = SecondOrderRegression(q, offset=offset)
    residual = 0.5 * sum(v * u * u for v, u in zip(q, w, strict=True)) - offset
    jacobian = np.array(q) * w
    assert model.residual(w) == pytest.approx(residual, rel=1e-12, abs=1e-14)
    assert model.loss(w) == pytest.approx(residual**2 / 2, rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(model.gradient(w), residual * jacobian, rtol=1e-12, atol=1e-14)
    hessian = np.outer(jacobian, jacobian) + residual * np.diag(q)
    np.testing.assert_allclose(model.hessian(w), hessian, rtol=1e-12, atol=1e-14)
    moments = [jacobian @ jacobian, jacobian @ (np.array(q) * jacobian)]
    assert [model.moment(w, k) for k in (0, 1)] == pytest.approx(moments, rel=1e-12, abs=1e-14)
    new = w - rate * residual * jacobian
    np.testing.assert_allclose(model.step(w, rate), new, rtol=1e-12, atol=1e-14)
    made = second_order_step(residual, *moments, rate, first=0.7, second=-0.3)
    expected = model.residual(new), model.moment(new, 0), model.moment(new, 1)
    np.testing.assert_allclose(made, expected, rtol=1e-10, atol=1e-12)
    top = np.linalg.eigvalsh(hessian)[-1]
    assert model.sharpness(w) == pytest.approx(top, rel=1e-12)
    assert float(second_order_sharpness(residual, *moments, first=0.7, second=-0.3)) == pytest.approx(
        top, rel=1e-7, abs=1e-9
    )


@given(output=st.floats(-2, 2), ntk=st.floats(4, 9), target=st.floats(-2, 2), kappa=st.floats(0.05, 1), rate=rates)
def test_the_uv_network_is_second_order_regression_with_opposite_eigenvalues(output, ntk, target, kappa, rate):
    """f' = f - eta lambda r + eta^2 kappa f r^2, lambda' = lambda + eta kappa r (eta lambda r - 4 f)."""
    r = output - target
    new_output = output - rate * ntk * r + rate**2 * kappa * output * r**2
    new_ntk = ntk + rate * kappa * r * (rate * ntk * r - 4 * output)
    root = math.sqrt(kappa)
    made = second_order_step(r, ntk, 2 * kappa * output, rate, first=root, second=-root)
    expected = new_output - target, new_ntk, 2 * kappa * new_output
    np.testing.assert_allclose(made, expected, rtol=1e-11, atol=1e-11)
    imbalance = ntk**2 - 4 * kappa * output**2
    top = (ntk + math.sqrt(4 * kappa * (2 * output - target) ** 2 + imbalance)) / 2
    sharpness = second_order_sharpness(r, ntk, 2 * kappa * output, first=root, second=-root)
    assert float(sharpness) == pytest.approx(top, rel=1e-10)


def test_the_square_of_a_product_is_the_uv_network_of_width_one():
    x, y, target, rate = 0.7, 1.4, 2.0, 0.3
    new = ProductLoss("square", target=target).step(x, y, rate)
    r, ntk = x * y - target, x * x + y * y
    assert new[0] * new[1] == pytest.approx(x * y - rate * ntk * r + rate**2 * x * y * r**2, rel=1e-13)
    assert new[0] ** 2 + new[1] ** 2 == pytest.approx(ntk + rate * r * (rate * ntk * r - 4 * x * y), rel=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProductLoss("quartic"), "target must be a finite number > 0 for the quartic"),
        (lambda: second_order_sharpness(1.0, 1.0, 0.0, first=0.5, second=0.5), "second must be different"),
        (lambda: SecondOrderRegression([[1.0, 2.0]]), "eigenvalues must be a 1-D array"),
        (lambda: SecondOrderRegression([1.0], offset=[1.0, 2.0]), "offset must be one"),
        (lambda: FourFactors(target=[1.0, 2.0]), "target must be one number, a finite number > 0"),
        (lambda: four_factor_edge_point(0.6), "learning_rate must be a number in"),
    ],
)
def test_what_is_no_model_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------------------------------------------------------
# The end-gap law


def test_the_drift_is_the_one_of_each_model():
    limits = {"log_cosh": 3, "square_root": 2, "quartic": 1}
    for outer, limit in limits.items():
        model = ProductLoss(outer, target=1.0 if outer == "quartic" else 0.0)
        values = map(sympy.Rational, (model.target, *model.derivatives))
        drift = gap_drift(ETA, T, A, S, L).subs(dict(zip((T, A, S, L), values, strict=True)))
        assert sympy.limit(drift / ETA**2, ETA, 0) == limit
    q = sympy.Symbol("q", positive=True)
    uv = gap_drift(ETA, q / ETA, 1, 0, 0)
    assert sympy.simplify(uv - (1 - q**2) / q**2) == 0


# gap of released runs, over its prediction, at two rates: (outer, target, what multiplies eta)
LAWS = {
    "log_cosh": (0.0, 1.5),
    "square_root": (0.0, 1.0),
    "quartic": (1.0, 0.5),
    "log_cosh off centre": (1.0, 1.5),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_end_gap_law_holds_to_second_order_in_the_learning_rate(name):
    target, factor = LAWS[name]
    outer = name.split()[0]
    model = ProductLoss(outer, target=target)
    second = model.derivatives[0]
    used, errors = (0.2, 0.14, 0.1) if outer != "quartic" else (0.1, 0.07, 0.05), []
    for rate in used:
        drift = gap_drift(rate, target, *model.derivatives)
        x, y = released(target, (2 + 12 * drift) / (rate * second))
        x, y = descend(SLOPES[outer], target, x, y, rate, math.ceil(36 / drift))
        gap = 2 / rate - second * (x * x + y * y)
        errors.append(abs(gap / end_gap(rate, drift) - 1))
        assert gap == pytest.approx(factor * rate, rel=6 * rate**2 + 0.02)
    assert order(used, errors) == pytest.approx(2, abs=0.15)
    assert errors[0] < 1.1 * gap_drift(used[0], target, *model.derivatives)


def test_the_start_does_not_matter_high_above_the_edge_and_is_mirrored_close_to_it():
    """Not e_0 >> rho: no end-gap law, but e_inf = -e_0. Both are one solution of the reduced dynamics."""
    rate, ends = 0.05, []
    drift = 3 * rate**2
    for excess in (1e-2 * drift, 0.1 * drift, drift, 10 * drift, 20 * drift):
        x, y = released(0.0, (2 + excess) / rate, distance=1e-5)
        x, y = descend(SLOPES["log_cosh"], 0.0, x, y, rate, math.ceil(40 / min(drift, excess)))
        end = rate * (x * x + y * y) - 2
        assert end == pytest.approx(end_excess(excess, drift), rel=0.02)
        ends.append(end)
    assert ends[0] == pytest.approx(-1e-2 * drift, rel=0.02)  # reflected
    assert abs(ends[0]) < 0.05 * drift / 2  # where the law would say rho/2
    assert ends[-1] == pytest.approx(ends[-2], rel=5e-3)


def test_uv_runs_just_below_the_critical_rate_approach_the_law_algebraically():
    """Five drifts above the edge they end 9% short of rho/2, however close to the critical rate."""
    for multiple in (0.5, 5):
        errors, gaps = [], (0.01, 0.005, 0.0025)
        for gap in gaps:
            q = 1 - gap
            drift = gap_drift(1.0, q, 1.0, 0.0, 0.0)
            x, y = released(q, 2 + multiple * drift, distance=1e-5)
            x, y = descend(SLOPES["square"], q, x, y, 1.0, math.ceil(50 / drift / min(multiple, 1)))
            end = x * x + y * y - 2
            errors.append(abs(end / critical_end_excess(multiple * drift, drift) - 1))
        assert order(gaps, errors) == pytest.approx(1, abs=0.2)
        assert errors[-1] < 0.02
    assert critical_end_excess(5.0, 1.0) == pytest.approx(-0.5 / 1.1, rel=1e-12)
    assert abs(end_excess(5.0, 1.0) / critical_end_excess(5.0, 1.0) - 1) > 0.09  # the other solution is not theirs


def test_a_balanced_start_keeps_no_law():
    """x = y stays so: the end is the flattest minimum, S = 4 for the quartic, however far that is from the edge."""
    x, y = descend(SLOPES["quartic"], 1.0, 1.2, 1.2, 0.3, 2000)
    assert x == y == pytest.approx(1, abs=1e-12)
    assert 2 / 0.3 - 2 * (x * x + y * y) > 10 * end_gap(0.3, gap_drift(0.3, 1.0, 2.0, 6.0, 6.0))
    x, y = descend(SLOPES["quartic"], 1.0, 1.01, 1.01, 0.55, 4000)  # and where that is too sharp it never ends
    assert abs(x * y - 1) > 0.05
    assert gap_drift(0.55, 1.0, 2.0, 6.0, 6.0) < 0


@given(start=st.floats(-6, 4), drift=st.floats(-4, 0))
def test_the_end_of_the_reduced_dynamics_by_its_invariant(start, drift):
    rho = 10**drift
    excess = rho * 10**start
    end = end_excess(excess, rho)
    tau, g = -2 * end / rho, 2 * excess / rho  # both ends at amplitude 0: log(1 - tau) + tau = log(1 + g) - g
    with mpmath.workdps(60):
        left = mpmath.log(1 + mpmath.mpf(g)) - mpmath.mpf(g)
        exact = 1 + mpmath.lambertw(-mpmath.exp(left - 1)).real
    assert tau == pytest.approx(float(exact), rel=1e-11)


@pytest.mark.parametrize("excess", [0.02, 0.3])
def test_the_end_of_the_reduced_dynamics_by_integration(excess):
    rho = 0.1

    def field(_, state):
        return [2 * state[0] * (state[1] - state[0]), -rho * state[0]]

    solution = solve_ivp(field, (0, 4e4), [1e-9, excess], method="LSODA", rtol=1e-10, atol=1e-14)
    assert solution.y[1, -1] == pytest.approx(end_excess(excess, rho), rel=1e-5)
    on_the_way = [reduced_invariant(e, max(x, 0.0), rho) for x, e in solution.y.T[::50]]
    assert np.ptp(on_the_way) < 1e-6 * abs(on_the_way[0])


def test_released_runs_track_the_line_down_to_the_edge():
    """X = e + rho/2, with X = K s^2 of the runs: K = 2/3 for log cosh."""
    rate = 0.02
    drift = gap_drift(rate, 0.0, 1.0, 0.0, -2.0)
    x, y = released(0.0, (2 + 12 * drift) / rate)
    deviations = []
    for _ in range(40):
        x, y = descend(SLOPES["log_cosh"], 0.0, x, y, rate, 200)
        excess = rate * abs(y * y - x * x) - 2
        amplitude = flip_coefficient(rate, 0.0, 1.0, 0.0, -2.0) * (x * y) ** 2
        if 0 < excess < 6 * drift:
            deviations.append(amplitude / tracking_amplitude(excess, drift) - 1)
    assert len(deviations) > 3
    assert np.abs(deviations).max() < 0.02


def test_zhu_end_gap_and_log_cosh_end_gap_of_the_published_examples():
    """(2/eta - S_end)/eta = 0.490 for Zhu et al. at 0.05, 1.505 for log cosh at 0.1, from different starts."""
    for excess, distance in ((0.05, 1e-2), (0.1, -1e-3)):
        x, y = released(1.0, (2 + excess) / (2 * 0.05), distance)
        x, y = descend(SLOPES["quartic"], 1.0, x, y, 0.05, 20_000)
        assert (2 / 0.05 - 2 * (x * x + y * y)) / 0.05 == pytest.approx(0.490, abs=0.002)
        x, y = released(0.0, (2 + 2 * excess) / 0.1, distance)
        x, y = descend(SLOPES["log_cosh"], 0.0, x, y, 0.1, 4000)
        assert (2 / 0.1 - (x * x + y * y)) / 0.1 == pytest.approx(1.505, abs=0.005)


# ---------------------------------------------------------------------------------------------------------------------
# The self-stabilisation cycle


def self_stabilising_orbit(rate, alpha, beta, x, y, steps):
    path = [(x, y)]
    for _ in range(steps):
        x, y = -(1 + rate * y) * x, y + rate * (alpha - beta * x * x / 2)
        path.append((x, y))
    return np.array(path)


def crossings(values):
    """Steps at which a sequence crosses 0 upwards, interpolated."""
    before = np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))
    return before + values[before] / (values[before] - values[before + 1])


@pytest.mark.parametrize("start", [1.05, 0.95])
def test_the_cycle_of_damian_has_its_period_variance_and_growth(start):
    """eta = 0.01, alpha = beta = 1: period 444 +- 2 steps, <x^2> = 2 +- 0.02, growth (1 + 2 alpha eta^2)^(1/2)."""
    path = self_stabilising_orbit(0.01, 1.0, 1.0, start * math.sqrt(2), 0.0, 2500)
    turns = crossings(path[:, 1])
    assert np.diff(turns) == pytest.approx(444, abs=2)
    assert np.diff(turns) == pytest.approx(cycle_period(0.01, 1.0), rel=0.003)
    first, last = (int(turn) for turn in turns[[0, 3]])
    assert np.mean(path[first:last, 0] ** 2) == pytest.approx(2, abs=0.02)
    assert np.mean(path[first:last, 0] ** 2) == pytest.approx(oscillation_variance(1.0, 1.0), abs=0.02)
    tops = [path[int(a) : int(b), 1].max() for a, b in itertools.pairwise(turns)]
    growth = (tops[3] / tops[0]) ** (1 / (turns[3] - turns[0]))
    assert growth - 1 == pytest.approx(cycle_growth(0.01, 1.0) - 1, rel=0.02)


def test_a_large_cycle_takes_longer():
    """20% off gives 447 to 450 steps, twice the amplitude 511 and more, half of it 472."""
    for start, low, high in ((1.2, 447, 450), (0.8, 447, 450), (2.0, 511, 530), (0.5, 471, 480)):
        turns = crossings(self_stabilising_orbit(0.01, 1.0, 1.0, start * math.sqrt(2), 0.0, 2000)[:, 1])
        assert np.all((np.diff(turns)[:3] > low) & (np.diff(turns)[:3] < high))
    assert cycle_period(0.01, 1.0) < 445


def test_the_period_is_right_to_second_order_in_the_learning_rate():
    rates, errors = (0.4, 0.2, 0.1), []
    for rate in rates:
        jacobian = np.array([[1, rate], [-2 * 1.5 * rate, 1]])
        turn = np.angle(np.linalg.eigvals(jacobian)).max()
        errors.append(abs(cycle_period(rate, 1.5) / (2 * math.pi / turn) - 1))
    assert order(rates, errors) == pytest.approx(2, abs=0.2)
    assert errors[-1] < 0.015


def test_the_cycle_invariant_drifts_with_the_learning_rate_only():
    drifts = []
    for rate in (0.02, 0.01, 0.005):
        path = self_stabilising_orbit(rate, 1.0, 2.0, 0.4, 0.3, round(5 / rate))
        values = cycle_invariant(abs(path[:, 0]), path[:, 1], 1.0, 2.0)
        drifts.append(np.ptp(values))
    assert order((0.02, 0.01, 0.005), drifts) == pytest.approx(1, abs=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Flows, diffusions and the error budget


@given(pull=st.floats(-3, 1), time=st.floats(-6, 3))
def test_the_variance_of_the_linear_diffusion_solves_its_equation(pull, time):
    k, t = 10**pull, 10**time
    with mpmath.workdps(50):
        exact = 3 / (2 * mpmath.mpf(k)) * (1 - mpmath.exp(-2 * mpmath.mpf(k) * mpmath.mpf(t)))
    assert ornstein_uhlenbeck_variance(k, 3.0, t) == pytest.approx(float(exact), rel=1e-13)


def test_pull_and_diffusion_corrected_together_are_an_order_better_than_neither_and_pull_alone_is_worse():
    """The variance of SGD with fresh batch centers, step by step, relative to their own; curvature 1."""
    time, gains = 2.0, np.array([0.1, 0.05, 0.025])
    plain, both, pull = [], [], []
    for gain in gains:
        exact = 0.0
        for _ in range(round(time / gain)):
            exact = (1 - gain) ** 2 * exact + gain**2
        corrected = 1 + gain / 2, gain * (1 + gain)
        plain.append(ornstein_uhlenbeck_variance(1.0, gain, time) / exact - 1)
        both.append(ornstein_uhlenbeck_variance(*corrected, time) / exact - 1)
        pull.append(ornstein_uhlenbeck_variance(corrected[0], gain, time) / exact - 1)
    assert order(gains, np.abs(plain)) == pytest.approx(1, abs=0.1)
    assert order(gains, np.abs(both)) == pytest.approx(2, abs=0.1)
    assert order(gains, np.abs(pull)) == pytest.approx(1, abs=0.1)
    assert all(abs(one) > 1.5 * abs(neither) for one, neither in zip(pull, plain, strict=True))


def test_flows_end_where_their_equations_say():
    """On x^4/4: x(t) = x_0 / sqrt(1 + 2 x_0^2 t); an unstable one leaves the floats."""
    end = gradient_flow(lambda w: w**3, [2.0], 1.5)
    assert end[0] == pytest.approx(2 / math.sqrt(1 + 2 * 4 * 1.5), rel=1e-10)
    modified = modified_flow(lambda w: w**3, lambda w: np.array([[3 * w[0] ** 2]]), [2.0], 0.1, 1.5)
    velocity = solve_ivp(lambda _, w: -(w**3) - 0.05 * 3 * w**5, (0, 1.5), [2.0], rtol=1e-11, atol=1e-13)
    assert modified[0] == pytest.approx(velocity.y[0, -1], rel=1e-8)
    assert gradient_flow(lambda w: w, [3.0], 0.0).tolist() == [3.0]
    assert np.isinf(gradient_flow(lambda w: -(w**3), [1.0], 1.0)).all()


def test_the_modified_flow_is_gradient_flow_on_the_modified_loss():
    def gradient(w):
        return np.array([w[0] ** 3 + w[1], w[0] + 2 * w[1]])

    def hessian(w):
        return np.array([[3 * w[0] ** 2, 1.0], [1.0, 2.0]])

    a, b, rate = *sympy.symbols("a b"), sympy.Rational(1, 5)
    loss = a**4 / 4 + a * b + b**2
    slope = [sympy.diff(loss, v) for v in (a, b)]
    modified = loss + rate / 4 * sum(s**2 for s in slope)
    field = sympy.lambdify((a, b), [sympy.diff(modified, v) for v in (a, b)])
    expected = gradient_flow(lambda w: np.array(field(*w)), [1.0, -0.5], 0.7)
    np.testing.assert_allclose(modified_flow(gradient, hessian, [1.0, -0.5], 0.2, 0.7), expected, rtol=1e-9)


def test_every_approximation_has_the_order_that_theory_gives_it():
    budget = error_budget([0.05, 0.07, 0.1])
    np.testing.assert_allclose(budget.fitted_order, budget.expected_order, atol=0.12)
    assert (budget.error > 0).all()


def test_the_error_of_the_central_flow_is_the_end_gap():
    budget = error_budget([0.05, 0.1])
    error = budget.error.sel(approximation="central flow")
    np.testing.assert_allclose(error, 0.75 * budget.learning_rate**2, rtol=0.01)


def test_the_budget_of_the_quadratic_by_hand():
    """Gradient flow against (1 - eta)^n at time 2: the leading error is eta h^2 t / 2."""
    rate, steps = 0.04, 50
    error = error_budget([rate, 0.1]).error.sel(learning_rate=rate)
    exact = (1 - rate) ** steps
    assert float(error.sel(approximation="gradient flow, quadratic")) == pytest.approx(
        math.exp(-2) / exact - 1, rel=1e-9
    )
    flow = math.exp(-2 * (1 + rate / 2))
    assert float(error.sel(approximation="modified flow, quadratic")) == pytest.approx(abs(flow / exact - 1), rel=1e-9)


@given(slope=st.floats(-3, 5), scale=st.floats(-3, 3))
def test_a_power_law_has_its_exponent(slope, scale):
    rates = np.array([0.01, 0.03, 0.2, 0.5])
    assert fitted_order(rates, 10**scale * rates**slope) == pytest.approx(slope, abs=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# What the discrete cycle gains or loses


def test_the_drift_of_the_cycle_follows_from_its_expansion_and_three_averages():
    a, y, eta, alpha, beta, b, mean = sympy.symbols("a y eta alpha beta b m", positive=True)
    x = sympy.Symbol("x")
    # two flips with a quadratic term: what is left of it is cubic, b^2 x^3 a step
    twice = -(-x - b * x**2) - b * (-x - b * x**2) ** 2
    assert sympy.expand(sympy.series(twice, x, 0, 4).removeO() - (x - 2 * b**2 * x**3)) == 0
    zeta = sympy.Symbol("zeta")
    amplitude = a * (1 + eta * y) - (sympy.Rational(3, 2) * eta * zeta) ** 2 * a**3
    excess = y + eta * (alpha - beta * a**2 / 2)

    def invariant(size, excess):
        return excess**2 / 2 - alpha * sympy.log(size) + beta * size**2 / 4

    change = sympy.series(invariant(amplitude, excess) - invariant(a, y), eta, 0, 3).removeO()
    assert sympy.simplify(change.coeff(eta, 1)) == 0
    second = sympy.Poly(sympy.expand(sympy.simplify(change.coeff(eta, 2))), a, y)
    averages = {
        (0, 0): 1,
        (2, 0): 2 * alpha / beta,
        (4, 0): (4 * alpha**2 + 8 * alpha * mean) / beta**2,
        (0, 2): mean,
        (2, 2): 2 * alpha * mean / beta,
    }
    drift = sum(coefficient * averages[powers] for powers, coefficient in second.terms())
    assert sympy.simplify(eta**2 * drift - cycle_drift(eta, alpha, beta, zeta) * mean) == 0
    # the averages: time derivatives along da/dt = a y, dy/dt = alpha - beta a^2/2 that are none over a cycle
    push = alpha - beta * a**2 / 2

    def rate_of(f):
        return sympy.expand(sympy.diff(f, a) * a * y + sympy.diff(f, y) * push)

    for whole, used in ((y, push), (y**3 / 3, y**2 * push), (y * push, push**2 - beta * a**2 * y**2)):
        assert sympy.expand(rate_of(whole) - used) == 0


def gained(rate, zeta, alpha, beta, start):
    """Gain of the invariant and the sum of squared excesses, between averages over a first and a last cycle."""
    steps = round(30 * math.pi / math.sqrt(2 * alpha) / rate)
    x, y = start, 0.4
    xs, ys = np.empty(steps), np.empty(steps)
    for t in range(steps):
        xs[t], ys[t] = x, y
        x, y = -(1 + rate * y) * x - 1.5 * rate * zeta * x * x, y + rate * (alpha - beta * x * x / 2)
    size, excess = np.abs(np.diff(xs)) / 2, (ys[1:] + ys[:-1]) / 2
    level = excess**2 / 2 - alpha * np.log(size) + beta * size**2 / 4
    cycle = round(2 * math.pi / math.sqrt(2 * alpha) / rate)
    total = np.cumsum(excess**2)
    return level[-cycle:].mean() - level[:cycle].mean(), total[-cycle:].mean() - total[:cycle].mean()


@pytest.mark.parametrize("zeta", [0.0, 0.3, -0.3, 0.6])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_the_invariant_drifts_as_foretold_and_turns_where_it_should(zeta, alpha, beta):
    start = 1.2 * math.sqrt(2 * alpha / beta)
    drifts = [np.divide(*gained(rate, zeta, alpha, beta, start)) for rate in (0.01, 0.005)]
    foretold = [cycle_drift(rate, alpha, beta, zeta) for rate in (0.01, 0.005)]
    assert drifts == pytest.approx(foretold, rel=0.02)
    assert drifts[1] == pytest.approx(foretold[1], rel=0.01)
    assert np.sign(foretold[0]) == np.sign(2 * beta / 9 - zeta**2)


def test_printed_levels_of_another_simulation_come_out_of_one_start_and_one_length():
    # their start and length are not stated: of both laws and runs, eight numbers, two are fitted here
    asymmetries, rate = np.array([0.0, 0.3, 0.5, 0.6]), math.sqrt(1e-5)

    def mean_square(level):  # of the excess over a cycle: integral of y du over that of du/y, with u the logarithm of x
        def height(u):
            return math.exp(2 * u) / 4 - u - level

        rest = math.log(2) / 2
        low, high = brentq(height, rest - 9, rest), brentq(height, rest, rest + 2)
        angle = (np.arange(400) + 0.5) * math.pi / 400
        u, width = (low + high) / 2 - (high - low) / 2 * np.cos(angle), np.sin(angle)
        excess = np.sqrt(2 * (level - np.exp(2 * u) / 4 + u))
        return np.sum(excess * width) / np.sum(width / excess)

    foretold = []
    for zeta in asymmetries:
        level = 0.46656
        for _ in range(200):
            level += 8513 / 200 * cycle_drift(rate, 1.0, 1.0, zeta) * mean_square(level)
        foretold.append(level)
    assert foretold == pytest.approx([0.523, 0.499, 0.460, 0.436], abs=1e-3)

    x, y = np.full(4, math.sqrt(2)), np.full(4, -0.79)
    for _ in range(8500):
        x, y = -(1 + rate * y) * x - 1.5 * rate * asymmetries * x * x, y + rate * (1 - x * x / 2)
    assert y * y / 2 + x * x / 4 - np.log(x * x) / 2 == pytest.approx([0.519, 0.497, 0.461, 0.438], abs=1e-3)


def test_at_the_turning_asymmetry_next_to_nothing_is_left_and_beyond_the_oscillation_dies():
    turning = math.sqrt(2) / 3
    assert cycle_drift(0.01, 1.0, 1.0, turning) == pytest.approx(0, abs=1e-18)
    gain, squares = gained(0.005, turning, 1.0, 1.0, 1.6)
    assert abs(gain / squares) < 0.02 * cycle_drift(0.005, 1.0, 1.0)
    for zeta, dies in ((0.0, False), (0.8, True)):
        x, y = 1.7, 0.0
        for _ in range(60_000):
            x, y = -(1 + 0.01 * y) * x - 0.015 * zeta * x * x, y + 0.01 * (1 - x * x / 2)
            if abs(y) > 3:
                break
        assert (abs(y) < 0.03) == dies


# ---------------------------------------------------------------------------------------------------------------------
# Momentum


def with_momentum(slope, start, rate, beta, steps, nesterov=False):
    """The last two points, where the gradient is taken."""
    before, now = start, start
    points = []
    for _ in range(steps):
        at = now + beta * (now - before) if nesterov else now
        step = at - rate * slope(at) if nesterov else now - rate * slope(now) + beta * (now - before)
        points, before, now = [*points[-1:], at], now, step
    return np.sort(points, axis=0)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [0.1, 0.4])
def test_two_cycles_with_momentum_are_those_of_gradient_descent_at_another_rate(beta, nesterov):
    def slope(w):  # of a well that flattens, without symmetry, curvature 1 at 0
        return w / (1 + w**2) + 0.2 * w**2 / (1 + w**2) ** 2

    plain = 2.02
    rate = plain / two_cycle_rate(1.0, beta, nesterov=nesterov)
    expected = with_momentum(slope, 0.05, plain, 0.0, 20_000)
    assert expected[1] - expected[0] > 0.1
    np.testing.assert_allclose(with_momentum(slope, 0.05, rate, beta, 20_000, nesterov), expected, atol=1e-9)
    # below the edge of momentum there is no cycle, though the rate is beyond that of gradient descent
    below = 1.98 / two_cycle_rate(1.0, beta, nesterov=nesterov)
    if not nesterov:
        assert below > 2
    np.testing.assert_allclose(with_momentum(slope, 0.05, below, beta, 20_000, nesterov), 0, atol=1e-9)


def test_the_edge_of_momentum_is_that_of_quadratics():
    for beta in (0.0, 0.5, 0.9):
        for nesterov in (False, True):
            edge = quadratic.stability_edge(3.0, momentum=beta, nesterov=nesterov)
            assert two_cycle_rate(edge, beta, nesterov=nesterov) == pytest.approx(2 / 3, rel=1e-14)


def test_momentum_lets_a_cycle_double_sooner():
    # w w on one example of target 1: the multiplier of the cycle is 9 - 2 (1 + q)^2 at the rate q of gradient descent
    def slope(w):
        return w * (w * w - 1)

    for beta in (0.2, 0.5):
        threshold = math.sqrt((9 - two_cycle_threshold(beta)) / 2) - 1
        assert 1 < threshold < math.sqrt(5) - 1
        for factor, doubled in ((0.998, False), (1.002, True)):
            rate = factor * threshold * (1 + beta)
            points, now, before = [], 1.05, 1.05
            for _ in range(40_000):
                now, before = now - rate * slope(now) + beta * (now - before), now
                points = [*points[-3:], now]
            assert (abs(points[3] - points[1]) > 1e-3) == doubled
            assert abs(points[3] - points[2]) > 0.1
