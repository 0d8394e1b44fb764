"""The uv network: every map and closed form against gradient descent on weights, written out in NumPy and SymPy.

f = a v.(U x), loss (f - y)^2/2, one example; nothing else is assumed.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from plain_uv import dense_hessian, gradient_descent, observed
from scipy import special
from scipy.integrate import quad
from scipy.optimize import brentq

import sgdynamics
from sgdynamics.models.uv import (
    UVNetwork,
    alignment_quantile,
    cone_step,
    from_cone,
    function_step,
    hessian_eigenvalues,
    imbalance,
    ntk_quantile,
    start_ratio,
    to_cone,
)
from sgdynamics.theory.uv import (
    c_loss,
    c_loss_at,
    c_max,
    c_sharp,
    catapult_final_ntk,
    chaotic_density,
    critical_learning_rate,
    edge_map,
    edge_sharpness,
    escape_margin,
    final_excess,
    first_loss_ratio,
    first_rise_probability,
    gradient_flow_ntk,
    largest_learning_rate,
    linear_sharpness_growth,
    mean_c_loss,
    mean_c_max,
    mean_start_ratio,
    mirror_ntk,
    no_catapult_probability,
    ntk_nullcline,
    peak_square_output,
    peak_time,
    sharpness_change,
    sharpness_over_ntk,
    two_cycle,
    two_cycle_mean_ntk,
    two_cycle_mean_sharpness,
    two_cycle_mean_square_residual,
    two_cycle_multiplier,
    two_cycle_transverse_multiplier,
    wide_c_loss,
    wide_c_max,
    wide_c_sharp,
)

# ---------------------------------------------------------------------------------------------------------------------
# The model, written out


def balanced_start(rho):
    """Weights (h, v) of width 2 with kappa = 1, kernel 1 and the given kappa f^2/lambda^2."""
    overlap = math.sqrt(rho)
    tilt = math.asin(2 * overlap) / 2  # h and v of the same length: f = sin(2 tilt)/2
    return np.array([math.cos(tilt), math.sin(tilt)]) / math.sqrt(2), np.array(
        [math.sin(tilt), math.cos(tilt)]
    ) / math.sqrt(2)


def sharpness_of(hidden, readout, target=0.0):
    return np.linalg.eigvalsh(dense_hessian(hidden[:, None], readout, np.ones(1), target, 1.0))[-1]


def loss_multiplier(rho, rate):
    """L_1/L_0 of gradient descent on weights, target 0, kernel 1."""
    hidden, readout = balanced_start(rho)
    before = (hidden @ readout) ** 2
    after = gradient_descent(hidden[:, None], readout, np.ones(1), 0.0, rate, 1.0)
    return float(after[0][:, 0] @ after[1]) ** 2 / before


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn

seeds = st.integers(0, 2**32 - 1)
ratios = st.one_of(st.floats(1e-3, 0.25), st.floats(-9, -2).map(lambda power: 10**power))


# ---------------------------------------------------------------------------------------------------------------------
# Proofs: gradient descent on symbolic weights, differentiated by SymPy

ETA, LAM, R, Q, N, HIGH = sympy.symbols("eta lambda r q n x_high", positive=True)
ROOT = sympy.Symbol("k", positive=True)  # sqrt(kappa)
Y = sympy.Symbol("y", real=True)
S = sympy.Symbol("s", positive=True)


def weights(width):
    return sympy.symbols(f"h1:{width + 1}", real=True), sympy.symbols(f"v1:{width + 1}", real=True)


def output_of(h, v):
    return ROOT * sum(a * b for a, b in zip(h, v, strict=True))


def kernel_of(h, v):
    made = output_of(h, v)
    return sum(sympy.diff(made, w) ** 2 for w in (*h, *v))


def stepped(h, v, target=Y, rate=ETA):
    loss = (output_of(h, v) - target) ** 2 / 2
    new = [w - rate * sympy.diff(loss, w) for w in (*h, *v)]
    return new[: len(h)], new[len(h) :]


def after(expression, h, v, **kind):
    new_h, new_v = stepped(h, v, **kind)
    return expression.subs(dict(zip((*h, *v), (*new_h, *new_v), strict=True)), simultaneous=True)


def hessian_of(h, v, target):
    return sympy.hessian((output_of(h, v) - target) ** 2 / 2, (*h, *v))


H, V = weights(2)
F, KERNEL = output_of(H, V), kernel_of(H, V)
RESIDUAL = ETA * ROOT * (F - Y)


def proof_imbalance():
    made, within = imbalance(F, KERNEL, ROOT**2).args[0]
    # which holds for all weights: see the lengths below
    assert sympy.simplify((within.gts - within.lts) / (KERNEL - 2 * ROOT * abs(F))).is_positive
    yield after(made, H, V) - (1 - RESIDUAL**2) ** 2 * made
    flow = [-sympy.diff((F - Y) ** 2 / 2, w) for w in (*H, *V)]
    yield sum(sympy.diff(made, w) * speed for w, speed in zip((*H, *V), flow, strict=True))
    lengths = [sum((a + sign * b) ** 2 for a, b in zip(H, V, strict=True)) for sign in (1, -1)]
    yield made - ROOT**4 * lengths[0] * lengths[1]


def proof_start_ratio():
    yield start_ratio(2 * ROOT * F / KERNEL) - ROOT**2 * F**2 / KERNEL**2


def proof_sharpness_over_ntk():
    h, v = weights(1)
    f, kernel = output_of(h, v), kernel_of(h, v)
    top = kernel * sharpness_over_ntk(ROOT**2 * f**2 / kernel**2)
    yield (hessian_of(h, v, 0) - top * sympy.eye(2)).det()


def proof_first_loss_ratio():
    ratio = after(F, H, V, target=0) ** 2 / F**2
    yield ratio - first_loss_ratio(ETA * KERNEL, ROOT**2 * F**2 / KERNEL**2)


def proof_c_loss():
    rho = (1 - S**2) / 8  # every ratio up to 1/8
    yield 1 - c_loss(rho) + rho * c_loss(rho) ** 2 + 1
    in_kernel = c_loss(rho, "hessian") / (1 + sympy.sqrt(1 + 12 * rho)) * 2
    yield 1 - in_kernel + rho * in_kernel**2 + 1


def proof_c_max():
    """At c = 4 the kernel does not move, whatever the weights."""
    rho = ROOT**2 * F**2 / KERNEL**2
    yield after(KERNEL, H, V, target=0, rate=c_max(rho) / KERNEL) - KERNEL
    h, v = weights(1)
    kernel = kernel_of(h, v)
    top = c_max(ROOT**2 * output_of(h, v) ** 2 / kernel**2, "hessian") * kernel / 4
    yield (hessian_of(h, v, 0) - top * sympy.eye(2)).det()


def proof_escape_margin():
    made = escape_margin(F, KERNEL, ETA, ROOT**2, Y)
    yield after(made, H, V) - (1 + RESIDUAL * ETA * ROOT * F) * made
    yield made.subs(Y, 0) - (4 - ETA * KERNEL)


def proof_largest_learning_rate():
    f = sympy.Symbol("f", real=True)
    rate = largest_learning_rate(f, LAM, ROOT**2, Y)
    yield 4 + rate**2 * ROOT**2 * Y * (f - Y) - rate * LAM


def proof_mean_start_ratio():
    """A and B are independent chi^2_n, and (A-B)/(A+B) is independent of A+B."""
    variance, mean = 2 * N, N
    square_of_difference = 2 * variance
    square_of_sum = 2 * variance + (2 * mean) ** 2
    yield mean_start_ratio(N) - square_of_difference / square_of_sum / 4


def proof_gradient_flow_ntk():
    f = sympy.Symbol("f", real=True)
    made = gradient_flow_ntk(f, LAM, ROOT**2, Y)
    yield (made**2 - 4 * ROOT**2 * Y**2) - (LAM**2 - 4 * ROOT**2 * f**2)  # conserved, see proof_imbalance


def proof_critical_learning_rate():
    """Beyond it a step multiplies the residual by less than -1 at the flattest minimum, h = v."""
    target = sympy.Symbol("y", positive=True)
    h, v = weights(1)
    slope = sympy.diff(after(output_of(h, v), h, v, target=target), h[0]) / sympy.diff(output_of(h, v), h[0])
    at_minimum = slope.subs({h[0]: sympy.sqrt(target / ROOT), v[0]: sympy.sqrt(target / ROOT)})
    yield at_minimum.subs(ETA, critical_learning_rate(ROOT**2, target)) + 1
    yield critical_learning_rate(ROOT**2, -target) - critical_learning_rate(ROOT**2, target)
    beta = sympy.Symbol("beta", positive=True)
    slope = at_minimum.subs(ETA, critical_learning_rate(ROOT**2, target, momentum=beta))  # 1 - eta h
    yield (sympy.Matrix([[beta + slope, -beta], [1, 0]]) + sympy.eye(2)).det()


def proof_ntk_nullcline():
    s, q, kernel = S, Q, sympy.Symbol("l")
    yield after(ETA * KERNEL, H, V) - (
        ETA * KERNEL + RESIDUAL * (ETA * KERNEL * RESIDUAL - 4 * (RESIDUAL + ETA * ROOT * Y))
    )
    yield (s * (kernel * s - 4 * (s + q))).subs(kernel, ntk_nullcline(s, q))


def proof_edge_map():
    (h,), (v,) = weights(1)
    x = ETA * ROOT * output_of((h,), (v,))
    yield (after(x, (h,), (v,)) - edge_map(x, ETA * ROOT * Y)).subs(v, h)


def proof_edge_sharpness():
    (h,), (v,) = weights(1)
    x, q = (ETA * ROOT * output_of((h,), (v,))).subs(v, h), ETA * ROOT * Y
    curvature = ETA * hessian_of((h,), (v,), Y).subs(v, h)
    along, across = sympy.Matrix([1, 1]), sympy.Matrix([1, -1])
    yield from curvature * along - (3 * x - q) * along
    yield from curvature * across - (q - x) * across
    yield edge_sharpness(S + Q, 2 * S) - (3 * (S + Q) - 2 * S)  # the larger is the one along
    yield edge_sharpness(S, 2 * (S + Q)) - (2 * (S + Q) - S)


CYCLE = (HIGH, 1 / HIGH)
CYCLE_Q = HIGH + 1 / HIGH - 1


def test_the_cycle_of_the_proofs_is_one():
    for here, there in (CYCLE, CYCLE[::-1]):
        assert sympy.simplify(here * (1 + CYCLE_Q - here) ** 2 - there) == 0


def proof_two_cycle_multiplier():
    x, q = sympy.symbols("x q")
    slope = sympy.diff(x * (1 + q - x) ** 2, x)
    yield two_cycle_multiplier(CYCLE_Q) - math.prod(slope.subs({x: at, q: CYCLE_Q}) for at in CYCLE)


def proof_two_cycle_transverse_multiplier():
    yield two_cycle_transverse_multiplier(CYCLE_Q) - math.prod((1 + at - CYCLE_Q) ** 2 for at in CYCLE)


def proof_two_cycle_mean_ntk():
    yield two_cycle_mean_ntk(CYCLE_Q) - sum(2 * at for at in CYCLE) / 2


def proof_two_cycle_mean_sharpness():
    yield two_cycle_mean_sharpness(CYCLE_Q) - sum(3 * at - CYCLE_Q for at in CYCLE) / 2


def proof_two_cycle_mean_square_residual():
    yield two_cycle_mean_square_residual(CYCLE_Q) - sum((at - CYCLE_Q) ** 2 for at in CYCLE) / 2


PROOFS = {
    name.removeprefix("proof_"): function for name, function in list(globals().items()) if name.startswith("proof_")
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_formula_follows_from_gradient_descent_on_weights(name):
    for residual in PROOFS[name]():
        assert sympy.simplify(sympy.expand(sympy.nsimplify(residual))) == 0


def test_every_exact_symbolic_formula_of_the_uv_network_is_proved():
    of_stem = [formula for formula in sgdynamics.formulas(kind="formula") if formula.stem == "uv"]
    assert {formula.__name__ for formula in of_stem if formula.status == "exact" and formula.symbolic} == set(PROOFS)


def test_the_steps_in_function_space_follow_from_gradient_descent_on_weights():
    expected = after(F, H, V), after(KERNEL, H, V)
    made = function_step(F, KERNEL, ETA, kappa=ROOT**2, target=Y)
    assert [sympy.expand(one - other) for one, other in zip(made, expected, strict=True)] == [0, 0]


def test_plus_and_minus_are_multiplied():
    plus, minus = to_cone(F, KERNEL, ETA, kappa=ROOT**2)
    expected = after(plus, H, V), after(minus, H, V)
    made = cone_step(plus, minus, ETA * ROOT * Y)
    assert [sympy.expand(one - other) for one, other in zip(made, expected, strict=True)] == [0, 0]
    back = from_cone(plus, minus, ETA, kappa=ROOT**2)
    assert [sympy.expand(one - other) for one, other in zip(back, (F, KERNEL), strict=True)] == [0, 0]


def test_on_the_line_of_escape_a_step_triples_an_angle():
    s, q = sympy.symbols("s q", real=True)
    kernel = 4 + q * s
    after_output = s * (1 - kernel + s * (s + q))
    assert sympy.expand(after_output - (s**3 - 3 * s)) == 0
    angle = sympy.Symbol("theta", real=True)
    tripled = (s**3 - 3 * s).subs(s, 2 * sympy.cos(angle))
    assert sympy.simplify(sympy.expand_trig(2 * sympy.cos(3 * angle)) - tripled) == 0


# ---------------------------------------------------------------------------------------------------------------------
# The law of the start


@pytest.mark.parametrize("width", [1, 2, 3, 8, 1000, 10**6, 10**9])
@pytest.mark.parametrize("probability", [0.0, 1e-9, 0.1, 0.4999, 0.5, 0.7, 1 - 1e-6])
def test_the_alignment_is_a_beta_quantile(width, probability):
    made = alignment_quantile(probability, width)
    assert special.betainc(width / 2, width / 2, (1 + made) / 2) == pytest.approx(probability, rel=1e-7, abs=1e-8)
    if width == 1:
        assert made == pytest.approx(math.sin(math.pi * (probability - 0.5)), rel=1e-12, abs=1e-15)
    if width == 2:
        assert made == pytest.approx(2 * probability - 1, rel=1e-14)
    if width == 10**9 and probability > 0:
        assert made * math.sqrt(width) == pytest.approx(special.ndtri(probability), rel=1e-6, abs=1e-9)
    if 0 < probability <= 0.5:
        assert alignment_quantile(1 - probability, width) == pytest.approx(-made, rel=1e-6)


@pytest.mark.parametrize("width", [1, 2, 7, 300, 10**6, 10**9])
@pytest.mark.parametrize("probability", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_the_kernel_is_a_chi_square_quantile(width, probability):
    made = ntk_quantile(probability, width)

    def density(deviation):  # of a chi^2_2n variable over 2n, by Stirling's series
        step = deviation / math.sqrt(width)
        stirling = 1 / (12 * width) - 1 / (360 * width**3) + 1 / (1260 * width**5) - 1 / (1680 * width**7)
        return math.exp(width * (math.log1p(step) - step) - stirling - math.log1p(step)) / math.sqrt(2 * math.pi)

    if width >= 7:
        low = max(-12.0, -math.sqrt(width) * (1 - 1e-12))
        total = quad(density, low, (made - 1) * math.sqrt(width), epsabs=0, epsrel=1e-9, limit=200)[0]
        assert total == pytest.approx(probability, rel=1e-7)
    else:
        assert special.chdtr(2 * width, 2 * width * made) == pytest.approx(probability, rel=1e-11)
    if width == 1:
        assert made == pytest.approx(-math.log1p(-probability), rel=1e-13)
    if width == 2:
        assert (1 + 2 * made) * math.exp(-2 * made) == pytest.approx(1 - probability, rel=1e-12)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 40])
def test_the_chance_of_no_catapult_is_the_tail_of_the_beta_law(width):
    with mpmath.workdps(30):
        half = mpmath.mpf(width) / 2
        edge = (1 + 1 / mpmath.sqrt(2)) / 2
        exact = 2 * mpmath.betainc(half, half, edge, 1, regularized=True)
    assert no_catapult_probability(width) == pytest.approx(float(exact), rel=1e-11)


# ---------------------------------------------------------------------------------------------------------------------
# The first step


@given(c=st.floats(0.1, 12), width=st.integers(1, 60))
def test_chance_of_a_first_rise_is_the_beta_mass_of_the_ratios_that_rise(c, width):
    """In both units, by bisecting the condition on the alignment and integrating the Beta law between the roots."""
    for units in ("ntk", "hessian"):

        def rises(square, units=units):
            rho = square / 4
            scale = (1 + math.sqrt(1 + 12 * rho)) / 2 if units == "hessian" else 1.0
            rate = c / scale
            return abs(1 - rate + rho * rate**2) - 1

        squares = np.linspace(0, 1, 400) ** 1.013  # no root on a point of the grid
        values = [rises(square) for square in squares]
        roots = [0.0]
        for low, high, first, second in zip(squares[:-1], squares[1:], values[:-1], values[1:], strict=True):
            if first * second < 0:
                roots.append(brentq(rises, low, high, xtol=1e-15))
        roots.append(1.0)
        total = 0.0
        for low, high in itertools.pairwise(roots):
            if rises((low + high) / 2) > 0:
                total += special.betainc(0.5, width / 2, high) - special.betainc(0.5, width / 2, low)
        assert first_rise_probability(c, width, units) == pytest.approx(total, rel=1e-9, abs=1e-9)


@given(ratios, st.floats(0.01, 6))
def test_the_loss_of_the_first_step_is_that_of_gradient_descent(rho, c):
    assert first_loss_ratio(c, rho) == pytest.approx(loss_multiplier(rho, c), rel=1e-6, abs=1e-9)


@given(st.floats(1e-6, 0.1249))
def test_beyond_c_loss_and_only_beyond_it_the_first_step_raises_the_loss(rho):
    for units in ("ntk", "hessian"):
        edge = c_loss(rho, units) / (sharpness_of(*balanced_start(rho)) if units == "hessian" else 1.0)
        assert loss_multiplier(rho, edge * (1 - 1e-7)) < 1 < loss_multiplier(rho, edge * (1 + 1e-7))
        assert 2 <= edge <= 4


@pytest.mark.parametrize("rho", [0.1251, 0.2, 0.25])
def test_without_c_loss_no_rate_up_to_c_max_raises_the_first_loss(rho):
    assert c_loss(rho) == c_loss(rho, "hessian") == math.inf
    for rate in np.linspace(0.01, 1 / rho, 500):
        assert loss_multiplier(rho, rate) <= 1 + 1e-12
    assert loss_multiplier(rho, 1.001 / rho) > 1  # beyond 1/rho >= 4 it rises again
    assert 1 / rho >= c_max(rho)


def test_an_infinite_network_has_c_loss_2_and_the_mean_grows_as_four_ratios():
    assert c_loss(0.0) == 2.0
    for rho in (1e-4, 1e-6):
        assert (c_loss(rho) - 2) / rho == pytest.approx(4, rel=40 * rho)
        assert (c_loss(rho, "hessian") - 2) / rho == pytest.approx(10, rel=40 * rho)
        assert (c_max(rho, "hessian") - 4) / rho == pytest.approx(12, rel=40 * rho)


@given(
    st.integers(1, 6),
    seeds,
    st.sampled_from([-2.0, 0.0, 0.5, 3.0]),
)
def test_c_loss_at_any_point_and_target_is_where_gradient_descent_raises_the_loss(width, seed, target):
    generator = np.random.default_rng(seed)
    hidden, readout = generator.normal(size=(2, width))
    output, ntk = observed(hidden[:, None], readout, np.ones(1), 1.0)
    edge = c_loss_at(output, ntk, 1.0, target)

    def multiplier(c):
        new = gradient_descent(hidden[:, None], readout, np.ones(1), target, c / ntk, 1.0)
        return abs(observed(*new, np.ones(1), 1.0)[0] - target) / abs(output - target)

    ratio = output * (output - target) / ntk**2
    if edge == math.inf:
        assert all(multiplier(c) <= 1 + 1e-12 for c in np.linspace(0.01, 1 / ratio, 200))
        return
    assert multiplier(edge * (1 - 1e-6)) < 1 < multiplier(edge * (1 + 1e-6))
    in_hessian_units = c_loss_at(output, ntk, 1.0, target, units="hessian")
    assert in_hessian_units == pytest.approx(edge * sharpness_of(hidden, readout, target) / ntk, rel=1e-11)


@pytest.mark.parametrize("width", [1, 4, 64, 10**6])
def test_from_output_zero_c_loss_is_2_at_every_width_in_kernel_units_only(width):
    model = UVNetwork(width, target=2.0)
    assert c_loss_at(0.0, 2.0, model.kappa, 2.0) == 2.0
    hessian_units = c_loss_at(0.0, 2.0, model.kappa, 2.0, units="hessian")
    assert hessian_units == pytest.approx(1 + math.sqrt(1 + 4 / width), rel=1e-12)
    for c in (1.5, 1.99, 2.01, 3.0):
        output, _ = model.step(0.0, 2.0, c / 2.0)
        assert model.loss(output) / model.loss(0.0) == pytest.approx((1 - c) ** 2, rel=1e-12)


@pytest.mark.parametrize("rho", [1e-9, 1e-3, 0.03, 0.1, 0.125, 0.2, 0.2499999])
def test_c_sharp_is_where_the_dense_hessian_of_the_stepped_weights_is_as_sharp_as_before(rho):
    hidden, readout = balanced_start(rho)
    before = sharpness_of(hidden, readout)

    def gain(c):
        new_hidden, new_readout = gradient_descent(hidden[:, None], readout, np.ones(1), 0.0, c, 1.0)
        return sharpness_of(new_hidden[:, 0], new_readout) - before

    made = c_sharp(rho)
    margin = 1e-7 if rho > 1e-6 else 1e-3  # the eigenvalues differ by less than their rounding
    assert gain(made * (1 - margin)) < 0 < gain(made * (1 + margin))
    assert c_sharp(rho, "hessian") == pytest.approx(made * before, rel=1e-12)
    h = (1 + math.sqrt(1 + 12 * rho)) / 2
    cubic = (made - 4) * h + 3 * (rho * made - 1) * (2 - made + rho * made**2)
    assert abs(cubic) < 1e-13


def test_c_sharp_lies_between_the_catapult_and_divergence_in_the_wide_limit():
    assert c_sharp(0.0) == c_sharp(0.0, "hessian") == 2.5
    assert (c_loss(0.0), c_max(0.0)) == (2.0, 4.0)


@pytest.mark.parametrize("units", ["ntk", "hessian"])
def test_mean_critical_rates_at_width_128_and_their_wide_limits(units):
    """2.00794, 2.01951 and 4.02288 at width 128, by quadrature over the Beta law in the alignment."""

    def mean(value, width, edge):
        def weighed(angle, function):
            return function(math.sin(angle) ** 2 / 4) * math.cos(angle) ** (width - 1)

        parts = [quad(weighed, 0, edge, args=(f,), epsabs=0, epsrel=1e-11, limit=400)[0] for f in (value, lambda _: 1)]
        return parts[0] / parts[1]

    def scale(rho):
        return (1 + math.sqrt(1 + 12 * rho)) / 2 if units == "hessian" else 1.0

    def loss_edge(rho):
        return 4 * scale(rho) / (1 + math.sqrt(max(1 - 8 * rho, 0)))

    for width in (1, 2, 8, 32, 128, 512):
        assert mean_c_loss(width, units) == pytest.approx(mean(loss_edge, width, math.pi / 4), rel=1e-8)
        assert mean_c_max(width, units) == pytest.approx(mean(lambda r: 4 * scale(r), width, math.pi / 2), rel=1e-9)
    pins = {"ntk": (2.00794, 4.0), "hessian": (2.01951, 4.02288)}[units]
    assert (mean_c_loss(128, units), mean_c_max(128, units)) == pytest.approx(pins, abs=5e-6)
    table = {"ntk": (2.1445, 2.0335, 2.0020), "hessian": (2.3000, 2.0786, 2.0049)}[units]
    assert mean_c_loss(np.array([8, 32, 512]), units) == pytest.approx(table, abs=5e-5)
    large = np.array([256, 1024, 4096, 10**9])
    for exact, wide in ((mean_c_loss, wide_c_loss), (mean_c_max, wide_c_max)):
        gaps = np.abs(exact(large, units) - wide(large, units))
        if units == "ntk" and exact is mean_c_max:
            assert gaps.max() < 1e-12
            continue
        order = np.log2(gaps[:2] / gaps[1:3]) / 2
        assert order == pytest.approx([2, 2], abs=0.1)
        assert gaps[3] < 1e-14 + 1e-9 * abs(wide(10**9, units) - wide(1, units))


# ---------------------------------------------------------------------------------------------------------------------
# Which way the sharpness goes


def test_the_wide_sharpness_change_is_first_order_in_kappa():
    errors = []
    for kappa in (1e-3, 1e-4, 1e-5):
        output, ntk = function_step(0.7, 2.0, 0.9, kappa=kappa, target=-0.4)
        gain = (
            hessian_eigenvalues(output, ntk, target=-0.4, kappa=kappa)[0]
            - hessian_eigenvalues(0.7, 2.0, target=-0.4, kappa=kappa)[0]
        )
        errors.append(abs(gain - sharpness_change(0.7, 2.0, 0.9, kappa, -0.4)))
    assert np.diff(np.log10(errors)) == pytest.approx([-2, -2], abs=0.05)
    assert (wide_c_sharp(1.0), wide_c_sharp(0.0)) == (2.5, 1.0)  # target 0; output 0
    assert wide_c_sharp(-0.7) < 0  # rises at every rate


@pytest.mark.parametrize("c", [0.5, 1.0, 2.2, 2.4, 2.6])
def test_growth_of_the_sharpness_in_the_linear_regime_and_its_threshold_at_every_horizon(c):
    for steps in (1, 2, 7):
        errors = []
        for rho in (1e-6, 1e-7):
            with mpmath.workdps(40):
                output, ntk, sharpness = mpmath.sqrt(rho), mpmath.mpf(1), []
                for step in range(steps + 1):
                    if step in (0, steps):
                        sharpness.append((ntk + mpmath.sqrt(ntk**2 + 12 * output**2)) / 2)
                    square = (c * output) ** 2
                    output, ntk = output * (1 - c * ntk + square), ntk + square * (c * ntk - 4) / c
                errors.append(sharpness[1] / sharpness[0] - 1 - linear_sharpness_growth(c, steps, rho))
            assert (linear_sharpness_growth(c, steps, rho) > 0) == (c > 2.5)
        assert math.log10(abs(errors[0] / errors[1])) == pytest.approx(2, abs=0.05)
    assert linear_sharpness_growth(2.0, 7, 0.01) == pytest.approx(-0.28, rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Fixed points, the edge line and its doublings


def test_the_two_cycle_at_a_tenth_beyond_the_critical_rate():
    """{0.7298438, 1.3701562}, multiplier 0.18, mean eta lambda 2.1, mean eta lambda^H 2.05."""
    low, high = two_cycle(1.1)
    assert (low, high) == pytest.approx((0.7298438, 1.3701562), abs=1e-7)
    assert (edge_map(low, 1.1), edge_map(high, 1.1)) == pytest.approx((high, low), rel=1e-14)
    assert two_cycle_multiplier(1.1) == pytest.approx(0.18, rel=1e-12)
    assert two_cycle_mean_ntk(1.1) == pytest.approx(2.1, rel=1e-14)
    assert two_cycle_mean_sharpness(1.1) == pytest.approx(2.05, rel=1e-14)
    assert (edge_sharpness(low, 1.1) + edge_sharpness(high, 1.1)) / 2 == pytest.approx(2.05, rel=1e-14)
    assert two_cycle_mean_square_residual(1.1) == pytest.approx(((low - 1.1) ** 2 + (high - 1.1) ** 2) / 2, rel=1e-12)


def test_the_lyapunov_exponent_at_the_escape_rate_is_the_logarithm_of_three():
    def weighed(angle):  # the density is uniform in the angle
        x = 4 * math.cos(angle) ** 2
        return math.log(abs((3 - x) * (3 - 3 * x))) * 8 * math.cos(angle) * math.sin(angle) * chaotic_density(x)

    zeros = [0.0, math.pi / 6, math.pi / 3, math.pi / 2]
    total = sum(quad(weighed, low, high, limit=200)[0] for low, high in itertools.pairwise(zeros))
    assert total == pytest.approx(math.log(3), abs=1e-7)


def test_oscillations_below_the_critical_rate_end_below_the_edge_by_the_gap():
    errors = []
    for fraction in (0.98, 0.99, 0.995):
        output, kernel = fraction + 1e-4, 2.1
        plus, minus = kernel + 2 * output, kernel - 2 * output
        for _ in range(8000):
            s = (plus - minus) / 4 - fraction
            plus, minus = (1 - s) ** 2 * plus, (1 + s) ** 2 * minus
        errors.append((plus + minus) / 2 - 2 - final_excess(fraction))
    assert (plus + minus) / 2 == pytest.approx(1.99518, abs=2e-5)
    assert np.log2(np.abs(errors[:-1]) / np.abs(errors[1:])) == pytest.approx([2, 2], abs=0.3)
    assert abs(errors[-1]) < 0.06 * abs(final_excess(0.995))


# ---------------------------------------------------------------------------------------------------------------------
# The catapult, and the escape


def run_catapult(c, start, steps):
    """phi and l from the definition, at target 0."""
    phi, kernel, peak, peak_step = start, c, start**2, 0
    for step in range(1, steps + 1):
        phi, kernel = phi * (1 - kernel + phi**2), kernel + phi**2 * (kernel - 4)
        if phi**2 > peak:
            peak, peak_step = phi**2, step
    return kernel, peak, peak_step


def test_just_above_its_threshold_the_catapult_is_a_mirror():
    """1.9483 and 1.8929 at c = 2.05 and 2.1; peaks 0.00129 and 0.00534."""
    ends, peaks = [], []
    for excess in (0.1, 0.05, 0.025):
        kernel, peak, _ = run_catapult(2 + excess, 1e-6, 4000)
        assert catapult_final_ntk(2 + excess, 1e-6) == pytest.approx(kernel, rel=1e-12)
        ends.append(kernel - mirror_ntk(2 + excess))
        peaks.append(peak / peak_square_output(2 + excess) - 1)
    assert np.log2(np.abs(ends[:-1]) / np.abs(ends[1:])) == pytest.approx([2, 2], abs=0.1)
    assert np.log2(np.abs(peaks[:-1]) / np.abs(peaks[1:])) == pytest.approx([1, 1], abs=0.2)
    assert abs(peaks[-1]) < 0.05
    assert catapult_final_ntk(2.05, 1e-6) == pytest.approx(1.948, abs=0.002)
    assert catapult_final_ntk(2.5, 1e-6) == pytest.approx(1.282, abs=0.005)


def test_the_time_to_the_peak_grows_with_the_logarithm_of_the_width():
    widths = 2.0 ** np.arange(20, 61, 8)
    for c in (2.3, 2.5, 3.0):
        times = np.array([np.mean([run_catapult(c, a / math.sqrt(n), 400)[2] for a in (1, 1.2, 1.5)]) for n in widths])
        slope = np.polyfit(np.log(widths), times, 1)[0]
        assert slope == pytest.approx(1 / (2 * math.log(c - 1)), rel=0.02)
        predicted = peak_time(c, widths)
        assert np.ptp(times - predicted) < 1.5  # a bounded number of steps apart
        assert np.all(np.abs(times / predicted - 1)[-1] < 0.09)
