"""Deep linear networks: every closed form against products and derivatives written out here.

A chain is f = w_1 ... w_D with the loss (f - y)^2 / 2; a network is W_D ... W_1 with the loss |W - A|^2 / 2.
"""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

import sgdynamics
from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain, balanced_chain, balanced_network
from sgdynamics.simulate.trainer import hessian_vector_product, loss_value, network, top_hessian_eigenvalues
from sgdynamics.theory.deep_linear import (
    balanced_eigenvalue,
    balanced_sharpness,
    balanced_spectrum,
    cycle_low,
    cycle_multiplier,
    cycle_rate,
    equal_chain_sharpness,
    infinite_depth_learning_time,
    initial_ntk_moments,
    initial_ntk_relative_variance,
    initial_ntk_variance,
    mode_strength,
    persistent_edge,
    predicted_final_sharpness,
    standard_initial_ntk,
    two_layer_flow_sharpness,
    two_layer_imbalance_factor,
    two_layer_learning_time,
    two_layer_strength,
)

DEPTHS = (1, 2, 3, 4)

# ---------------------------------------------------------------------------------------------------------------------
# The models, written out


def descend(weights, target, rate, steps):
    """Gradient descent on a chain from the definition of the gradient."""
    w = [float(value) for value in weights]
    for _ in range(steps):
        residual = math.prod(w) - target
        w = [value - rate * residual * math.prod(w[:i] + w[i + 1 :]) for i, value in enumerate(w)]
    return w


def product(matrices):
    """W_D ... W_1."""
    made = matrices[0]
    for matrix in matrices[1:]:
        made = matrix @ made
    return made


def flat(matrices):
    return np.concatenate([matrix.ravel() for matrix in matrices])


def layers_of(vector, matrices):
    parts = np.split(vector, np.cumsum([matrix.size for matrix in matrices])[:-1])
    return [part.reshape(matrix.shape) for part, matrix in zip(parts, matrices, strict=True)]


def loss_of(vector, matrices, target, covariance):
    """The loss as an analytic function, so that its derivative is an imaginary part."""
    error = product(layers_of(vector, matrices)) - target
    return 0.5 * np.sum((error @ covariance) * error)


def complex_step_gradient(matrices, target, covariance):
    vector = flat(matrices).astype(complex)
    unit = 1e-30j * np.eye(vector.size)
    return np.array([loss_of(vector + step, matrices, target, covariance).imag / 1e-30 for step in unit])


def complex_step_hessian(matrices, target, covariance):
    """Central differences of complex steps: exact for a polynomial of the degree of a few layers, but for rounding."""
    vector = flat(matrices)
    h = 1e-3
    rows = []
    for direction in np.eye(vector.size):
        ahead, behind, further, back = (
            complex_step_gradient(layers_of(vector + k * h * direction, matrices), target, covariance)
            for k in (1, -1, 2, -2)
        )
        rows.append((8 * (ahead - behind) - (further - back)) / (12 * h))
    return np.array(rows)


def random_network(widths, seed, scale=1.0):
    random = np.random.default_rng(seed)
    return [
        scale * random.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in)
        for fan_in, fan_out in itertools.pairwise(widths)
    ]


def random_covariance(size, seed):
    root = np.random.default_rng(seed).standard_normal((size, size + 1))
    return root @ root.T / size


def at_depth(formula, depth, **arguments):
    """A formula in symbols at one depth; a number would turn its fractions into floats."""
    symbol = sympy.Symbol("D", positive=True, integer=True)
    return formula(depth=symbol, **arguments).subs(symbol, depth)


def chain_hessian(depth):
    """The Hessian of a chain in symbols, and its weights."""
    weights = sympy.symbols(f"w:{depth}", positive=True)
    target = sympy.Symbol("y", positive=True)
    return sympy.hessian((sympy.prod(weights) - target) ** 2 / 2, weights), weights, target


# ---------------------------------------------------------------------------------------------------------------------
# Proofs


def proof_balanced_sharpness():
    """At equal weights the Hessian maps the vector of ones to itself times the sharpness."""
    t = sympy.Symbol("t", positive=True)
    for depth in DEPTHS:
        hessian, weights, target = chain_hessian(depth)
        at = hessian.subs({target: t**depth, **dict.fromkeys(weights, t)})
        yield from at * sympy.ones(depth, 1) - at_depth(
            balanced_sharpness, depth, singular_value=t**depth
        ) * sympy.ones(depth, 1)


def proof_persistent_edge():
    """There one step of gradient descent multiplies a common small change of all weights by -1."""
    w, t = sympy.symbols("w t", positive=True)
    for depth in DEPTHS:
        stepped = w - at_depth(persistent_edge, depth, singular_value=t**depth) * (w**depth - t**depth) * w ** (
            depth - 1
        )
        yield sympy.diff(stepped, w).subs(w, t) + 1


def proof_balanced_eigenvalue():
    """The squared gradient of one entry of the map, at balanced diagonal layers."""
    p, r = sympy.symbols("p r", positive=True)
    for depth in DEPTHS:
        entries = [sympy.Matrix(2, 2, sympy.symbols(f"w{layer}_:4")) for layer in range(depth)]
        entry = sympy.prod(entries[::-1])[0, 1]
        at = dict(zip(itertools.chain(*entries), list(sympy.diag(p, r)) * depth, strict=True))
        squares = sum(sympy.diff(entry, w).subs(at) ** 2 for w in at)
        yield squares - at_depth(balanced_eigenvalue, depth, output_value=p**depth, input_value=r**depth)


def proof_equal_chain_sharpness():
    w = sympy.Symbol("w", positive=True)
    for depth in DEPTHS:
        hessian, weights, target = chain_hessian(depth)
        at = hessian.subs(dict.fromkeys(weights, w)) * sympy.ones(depth, 1)
        yield from at - at_depth(equal_chain_sharpness, depth, weight=w, target=target) * sympy.ones(depth, 1)


def proof_two_layer_flow_sharpness():
    """The minimum with the same difference of squares: there the product is the target and S the sum of squares."""
    u, v = sympy.symbols("u v", positive=True)
    yield two_layer_flow_sharpness(u**2 - v**2, u * v) ** 2 - (u**2 + v**2) ** 2


def proof_two_layer_imbalance_factor():
    u, v, y = sympy.symbols("u v y", real=True)
    rate = sympy.Symbol("eta", positive=True)
    residual = u * v - y
    stepped = (u - rate * residual * v) ** 2 - (v - rate * residual * u) ** 2
    yield stepped - two_layer_imbalance_factor(rate, residual) * (u**2 - v**2)


def proof_two_layer_strength():
    t, a, s = sympy.symbols("t a s", positive=True)
    strength = two_layer_strength(t, a, s)
    yield sympy.diff(strength, t) - 2 * strength * (s - strength)
    yield strength.subs(t, 0) - a


def learning_time_residuals(function, speed):
    """dt/dp is one over the speed, and no time passes where nothing is learned."""
    p, q, s = sympy.symbols("p q s", positive=True)
    time = function(p, q, s)
    yield sympy.diff(time, p) * speed(p, s) - 1
    yield time.subs(q, p)


def proof_two_layer_learning_time():
    yield from learning_time_residuals(two_layer_learning_time, lambda p, s: 2 * s * p * (1 - p))


def proof_infinite_depth_learning_time():
    yield from learning_time_residuals(infinite_depth_learning_time, lambda p, s: s**2 * p**2 * (1 - p))


def mean_of_kernel_power(depth, width, power, fan_in=lambda layer: 1):
    """E K^p for p = 1, 2 from independent chi-squares, by the law of a Gaussian matrix that is known in one direction.

    c and e are chi-squares of n and n - 1 degrees of freedom over n, z is normal; none of them exceeds degree 2 in K^2.
    """
    c = sympy.symbols(f"c1:{depth}")
    e = sympy.symbols(f"e1:{depth}")
    z2 = sympy.Symbol("z2")
    below = [sympy.prod(c[:layer]) for layer in range(depth)]  # q
    slope, kernel = sympy.Integer(1), fan_in(depth) * below[-1]
    for layer in range(depth - 1, 0, -1):
        slope = below[-1] / below[layer] * z2 / width + slope * e[layer - 1]
        kernel += fan_in(layer) * below[layer - 1] * slope
    moments = {
        **{symbol: (1, 1 + 2 / width) for symbol in c},
        **{symbol: (1 - 1 / width, (1 - 1 / width) * (1 + 1 / width)) for symbol in e},
        z2: (1, 3),
    }
    terms = sympy.Poly(sympy.expand(kernel**power), *moments).terms()
    return sum(
        weight * sympy.prod((1, *moment)[order] for order, moment in zip(orders, moments.values(), strict=True))
        for orders, weight in terms
    )


def proof_initial_ntk_variance():
    n = sympy.Symbol("n", positive=True)
    for depth in (1, 2, 3, 4):
        assert sympy.simplify(mean_of_kernel_power(depth, n, 1) - depth) == 0
        yield mean_of_kernel_power(depth, n, 2) - depth**2 - at_depth(initial_ntk_variance, depth, width=n)


def proof_initial_ntk_relative_variance():
    n = sympy.Symbol("n", positive=True)
    for depth in (2, 3):
        relative = mean_of_kernel_power(depth, n, 2) / mean_of_kernel_power(depth, n, 1) ** 2 - 1
        yield relative - at_depth(initial_ntk_relative_variance, depth, width=n)


def cycle_residuals():
    """Two steps of descent on a balanced mode, from the smaller point of its cycle, whose D-th power is rational."""
    z, rho = sympy.symbols("z rho", positive=True)
    for depth in (2, 3, 4):
        value = rho**depth * (1 + z ** (2 * depth - 1)) / (1 + z ** (depth - 1))  # of which rho is the smaller point
        rate = at_depth(cycle_rate, depth, ratio=z, singular_value=value)

        def step(w, depth=depth, value=value, rate=rate):
            return w - rate * (w**depth - value) * w ** (depth - 1)

        yield depth, z, rho, value, step


def proof_cycle_low():
    for depth, z, rho, value, _ in cycle_residuals():
        yield at_depth(cycle_low, depth, ratio=z, singular_value=value) - rho


def proof_cycle_rate():
    for _, z, rho, _, step in cycle_residuals():
        yield step(rho) - z * rho
        yield step(z * rho) - rho


def proof_cycle_multiplier():
    w = sympy.Symbol("w", positive=True)
    for depth, z, rho, _, step in cycle_residuals():
        slope = sympy.diff(step(w), w)
        found = at_depth(cycle_multiplier, depth, ratio=z)
        # of rational functions of z: equal at more points than they have degrees; the unit of rho does not matter
        for point in range(2, 8 * depth + 2):
            at = {z: point, rho: 1}
            yield (slope.subs(w, rho) * slope.subs(w, z * rho) - found).subs(at)


def proof_standard_initial_ntk():
    """Without the factors 1/sqrt(fan_in) every layer counts with its fan-in."""
    n, d = sympy.symbols("n d", positive=True)
    for depth in (1, 2, 3):
        mean = mean_of_kernel_power(depth, n, 1, fan_in=lambda layer: d if layer == 1 else n)
        yield mean - at_depth(standard_initial_ntk, depth, width=n, inputs=d)


PROOFS = {
    name.removeprefix("proof_"): function for name, function in list(globals().items()) if name.startswith("proof_")
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_formula_follows_from_its_definition(name):
    for residual in PROOFS[name]():
        numerator = sympy.together(sympy.expand(residual, power_exp=True)).as_numer_denom()[0]
        assert sympy.simplify(sympy.expand(numerator, power_exp=True)) == 0


def test_every_exact_symbolic_formula_of_deep_linear_networks_is_proved():
    of_stem = [formula for formula in sgdynamics.formulas(kind="formula") if formula.stem == "deep_linear"]
    assert {formula.__name__ for formula in of_stem if formula.status == "exact" and formula.symbolic} == set(PROOFS)


# ---------------------------------------------------------------------------------------------------------------------
# Chains

weight = st.floats(-2.0, 2.0)
positive_weight = st.floats(-1.5, 1.5).map(math.exp)
targets = st.floats(-1.0, 1.0).map(math.exp)
chains = st.lists(weight, min_size=1, max_size=6)
positive_chains = st.lists(positive_weight, min_size=2, max_size=6)


@given(chains, targets)
def test_the_derivatives_of_a_chain_are_those_of_its_product(weights, target):
    model = ScalarChain(target)
    w = np.array(weights)
    others = [math.prod(weights[:i] + weights[i + 1 :]) for i in range(w.size)]
    output = math.prod(weights)
    np.testing.assert_allclose(model.output(w), output, rtol=1e-14)
    np.testing.assert_allclose(model.loss(w), 0.5 * (output - target) ** 2, rtol=1e-13)
    np.testing.assert_allclose(model.gradient(w), (output - target) * np.array(others), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model.step(w, 0.1), descend(w, target, 0.1, 1), rtol=1e-12, atol=1e-14)
    units = [[np.array([matrix]).reshape(1, 1)] for matrix in w]
    hessian = complex_step_hessian([unit[0] for unit in units], np.array([[target]]), np.eye(1))
    scale = np.abs(hessian).max() + 1
    np.testing.assert_allclose(model.hessian(w), hessian, atol=1e-7 * scale)
    assert model.sharpness(w) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], abs=1e-6 * scale)


def test_several_targets_are_swept_over_one_chain():
    weights, goals = [0.5, -1.5, 2.0], np.array([-1.0, 0.0, 3.0])
    made = ScalarChain(goals)
    for name in ("output", "loss", "gradient", "hessian", "sharpness"):
        apart = [getattr(ScalarChain(goal), name)(weights) for goal in goals.tolist()]
        np.testing.assert_allclose(np.broadcast_to(getattr(made, name)(weights), np.shape(apart)), apart, rtol=1e-14)


@given(positive_chains, targets)
def test_the_hessian_of_a_chain_is_a_diagonal_plus_rank_one(weights, target):
    u = 1 / np.array(weights)
    f = math.prod(weights)
    expected = f * (2 * f - target) * np.outer(u, u) - np.diag(f * (f - target) * u**2)
    made = ScalarChain(target).hessian(weights)
    np.testing.assert_allclose(made, expected, rtol=1e-11, atol=1e-12 * np.abs(made).max())


@given(chains, targets, st.randoms(use_true_random=False))
def test_the_order_of_the_weights_does_not_matter(weights, target, random):
    model = ScalarChain(target)
    shuffled = random.sample(weights, len(weights))
    for name in ("output", "loss", "sharpness", "imbalance", "flow_sharpness"):
        first, second = (getattr(model, name)(w) for w in (weights, shuffled))
        assert first == pytest.approx(second, rel=1e-9, abs=1e-11), name


@given(positive_chains, targets)
def test_two_signs_may_be_turned_and_the_target_with_one(weights, target):
    turned = [-weights[0], -weights[1], *weights[2:]]
    one = [-weights[0], *weights[1:]]
    for name in ("loss", "sharpness", "flow_sharpness"):
        expected = pytest.approx(getattr(ScalarChain(target), name)(weights), rel=1e-10)
        assert getattr(ScalarChain(target), name)(turned) == expected
        assert getattr(ScalarChain(-target), name)(one) == expected


@given(st.lists(st.floats(-2.0, 2.0), min_size=2, max_size=6), targets)
def test_the_flow_solution_is_the_root_that_brent_finds(weights, target):
    squares = np.array(weights) ** 2
    low, high = -squares.min(), target ** (2 / squares.size)
    tau = brentq(lambda t: np.prod(squares + t) - target**2, low, high, xtol=1e-300, rtol=1e-15)
    model = ScalarChain(target)
    found = model.flow_solution(weights)
    np.testing.assert_allclose(np.prod(found), target, rtol=1e-12)
    np.testing.assert_allclose(found, np.sqrt(squares + tau), rtol=1e-6, atol=1e-7)
    assert model.flow_sharpness(weights) == pytest.approx(target**2 * np.sum(1 / found**2), rel=1e-11)
    assert model.flow_sharpness(weights) == pytest.approx(model.sharpness(found), rel=1e-10)


@given(positive_chains, targets)
def test_a_minimum_is_its_own_flow_solution_and_no_flatter_than_the_balanced_one(weights, target):
    w = np.array(weights) * (target / math.prod(weights)) ** (1 / len(weights))
    model = ScalarChain(target)
    np.testing.assert_allclose(model.flow_solution(w), w, rtol=1e-9)
    floor = balanced_sharpness(target, w.size)
    assert model.sharpness(w) >= floor * (1 - 1e-12)
    assert model.sharpness(balanced_chain(target, w.size)) == pytest.approx(floor, rel=1e-12)


def test_a_chain_towards_zero_loses_its_smallest_weight():
    model = ScalarChain(0.0)
    np.testing.assert_allclose(model.flow_solution([2.0, 1.0, -0.5]), np.sqrt([3.75, 0.75, 0.0]), rtol=1e-14)
    assert model.flow_sharpness([2.0, 1.0, 0.5]) == pytest.approx(3.75 * 0.75, rel=1e-14)


@given(st.floats(0.6, 2.0), targets, st.integers(1, 8))
def test_equal_weights_have_the_named_eigenvalue_from_half_the_target_on(growth, target, depth):
    w = (growth * target) ** (1 / depth)
    top = ScalarChain(target).sharpness(np.full(depth, w))
    assert equal_chain_sharpness(w, target, depth) == pytest.approx(top, rel=1e-10)


def test_a_chain_sweeps_by_labels_and_stays_lazy():
    weights = xr.DataArray(np.linspace(0.3, 1.5, 12).reshape(2, 2, 3), dims=("a", "layer", "b"))
    target = xr.DataArray([0.5, 2.0, 1.0], dims="b")
    model, lazy = ScalarChain(target), ScalarChain(target.chunk(b=1))
    for name in ("output", "loss", "gradient", "hessian", "sharpness", "imbalance", "flow_solution", "flow_sharpness"):
        made = getattr(model, name)(weights)
        for a, b in itertools.product(range(2), range(3)):
            alone = getattr(ScalarChain(target.values[b]), name)(weights.values[a, :, b])
            np.testing.assert_allclose(made.isel(a=a, b=b).values, alone, rtol=1e-13, atol=1e-14)
        waiting = getattr(lazy, name)(weights.chunk(layer=1))
        assert waiting.chunks is not None
        np.testing.assert_array_equal(waiting.compute().transpose(*made.dims), made)
    stepped = model.step(weights, xr.DataArray([0.1, 0.2], dims="rate"))
    expected = descend(weights.values[1, :, 2], 1.0, 0.2, 1)
    np.testing.assert_allclose(stepped.isel(a=1, b=2, rate=1).values, expected, rtol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Networks


@pytest.mark.parametrize("widths", [(2, 3), (2, 3, 2), (3, 2, 4, 1), (2, 2, 2, 2, 2)])
def test_the_derivatives_of_a_network_are_those_of_its_product(widths):
    weights = random_network(widths, seed=1)
    target = np.random.default_rng(2).standard_normal((widths[-1], widths[0]))
    covariance = random_covariance(widths[0], seed=3)
    model = DeepLinearNetwork(target, input_covariance=covariance)
    np.testing.assert_allclose(model.output(weights), product(weights), rtol=1e-13)
    assert model.loss(weights) == pytest.approx(loss_of(flat(weights), weights, target, covariance), rel=1e-13)
    gradient = complex_step_gradient(weights, target, covariance)
    np.testing.assert_allclose(flat(model.gradient(weights)), gradient, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(flat(model.step(weights, 0.3)), flat(weights) - 0.3 * gradient, rtol=1e-12, atol=1e-13)
    hessian = complex_step_hessian(weights, target, covariance)
    np.testing.assert_allclose(model.hessian(weights), hessian, atol=1e-9)
    assert model.sharpness(weights) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-8)


def test_many_networks_at_once_are_each_of_them():
    many = [np.stack(layers) for layers in zip(*(random_network((3, 2, 2), seed) for seed in range(4)), strict=True)]
    model = DeepLinearNetwork(np.ones((2, 3)), input_covariance=random_covariance(3, seed=0))
    for seed in range(4):
        alone = random_network((3, 2, 2), seed)
        assert model.loss(many)[seed] == pytest.approx(model.loss(alone), rel=1e-13)
        assert model.sharpness(many)[seed] == pytest.approx(model.sharpness(alone), rel=1e-13)
        for name in ("gradient", "imbalance"):
            for one, other in zip(getattr(model, name)(many), getattr(model, name)(alone), strict=True):
                np.testing.assert_allclose(one[seed], other, rtol=1e-12, atol=1e-14)


def test_the_trainer_has_the_same_loss_and_hessian_on_inputs_of_that_covariance():
    net = network([3, 2, 4, 2], "linear", biases=False, seed=5)
    weights = [matrix.T for matrix in net.weights]
    random = np.random.default_rng(6)
    x, target = random.standard_normal((7, 3)), random.standard_normal((2, 3))
    model = DeepLinearNetwork(target, input_covariance=x.T @ x / 7)
    y = x @ target.T
    assert model.loss(weights) == pytest.approx(loss_value(net, x, y, "mse"), rel=1e-12)
    size = net.size
    rows = np.array([hessian_vector_product(net, x, y, v, "mse") for v in np.eye(size)])
    # the trainer lists W' row by row
    order = np.concatenate(
        [
            start + np.arange(matrix.size).reshape(matrix.shape).T.ravel()
            for start, matrix in zip(np.cumsum([0, 6, 8]), net.weights, strict=True)
        ]
    )
    np.testing.assert_allclose(model.hessian(weights), rows[np.ix_(order, order)], rtol=1e-10, atol=1e-12)
    top = top_hessian_eigenvalues(net, x, y, loss="mse").values[0]
    assert model.sharpness(weights) == pytest.approx(top, rel=1e-10)


@given(st.integers(0, 10**6))
def test_an_orthogonal_change_of_the_hidden_units_changes_nothing(seed):
    weights = random_network((3, 2, 3, 2), seed)
    random = np.random.default_rng(seed)
    model = DeepLinearNetwork(random.standard_normal((2, 3)), input_covariance=random_covariance(3, seed))
    first, second = (np.linalg.qr(random.standard_normal((size, size)))[0] for size in (2, 3))
    turned = [first @ weights[0], second @ weights[1] @ first.T, weights[2] @ second.T]
    assert model.loss(turned) == pytest.approx(model.loss(weights), rel=1e-11)
    spectra = [np.linalg.eigvalsh(model.hessian(layers)) for layers in (weights, turned)]
    np.testing.assert_allclose(*spectra, atol=1e-11 * np.abs(spectra[0]).max())
    for rotation, before, after in zip((first, second), model.imbalance(weights), model.imbalance(turned), strict=True):
        np.testing.assert_allclose(after, rotation @ before @ rotation.T, atol=1e-12)


@given(st.integers(0, 10**6), st.floats(-6.0, 0.0).map(lambda e: 10**e))
def test_one_step_changes_the_imbalance_by_exactly_the_named_amount(seed, rate):
    weights = random_network((3, 2, 4, 2), seed)
    target = np.random.default_rng(seed).standard_normal((2, 3))
    model = DeepLinearNetwork(target, input_covariance=random_covariance(3, seed))
    stepped = model.step(weights, rate)
    gradients = layers_of(complex_step_gradient(weights, target, model.input_covariance), weights)
    for j, named in enumerate(model.imbalance_change(weights, rate)):
        before = weights[j + 1].T @ weights[j + 1] - weights[j] @ weights[j].T
        after = stepped[j + 1].T @ stepped[j + 1] - stepped[j] @ stepped[j].T
        np.testing.assert_allclose(model.imbalance(weights)[j], before, atol=1e-14 * np.abs(before).max())
        scale = max(1.0, np.abs(after).max(), np.abs(before).max())
        np.testing.assert_allclose(named, after - before, rtol=0, atol=1e-12 * scale)
        expected = rate**2 * (gradients[j + 1].T @ gradients[j + 1] - gradients[j] @ gradients[j].T)
        np.testing.assert_allclose(named, expected, rtol=1e-10, atol=1e-12 * rate**2 * scale)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize(("outputs", "inputs", "width"), [(2, 2, None), (2, 3, 4), (3, 2, 2), (1, 3, 2)])
def test_a_balanced_network_has_the_product_and_no_imbalance(depth, outputs, inputs, width):
    target = np.random.default_rng(depth).standard_normal((outputs, inputs))
    weights = balanced_network(target, depth, width)
    assert len(weights) == depth
    np.testing.assert_allclose(product(weights), target, atol=1e-13)
    assert all(np.abs(matrix).max() < 1e-13 for matrix in DeepLinearNetwork(target).imbalance(weights))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("case", ["square", "wide", "tall", "rank one", "whitened"])
def test_the_balanced_spectrum_is_that_of_the_dense_hessian(depth, case):
    outputs, inputs = {"square": (2, 2), "wide": (2, 3), "tall": (3, 2), "rank one": (3, 3), "whitened": (2, 3)}[case]
    random = np.random.default_rng(depth)
    target = random.standard_normal((outputs, inputs))
    if case == "rank one":
        target = np.outer(random.standard_normal(3), random.standard_normal(3))
    covariance = None if case == "whitened" else random_covariance(inputs, seed=7)
    model = DeepLinearNetwork(target, input_covariance=covariance)
    found = balanced_spectrum(target, depth, input_covariance=covariance)
    dense = np.linalg.eigvalsh(model.hessian(balanced_network(target, depth)))[::-1]
    expected = np.sort(found.values.ravel())[::-1]
    both = np.zeros(max(dense.size, expected.size)), np.zeros(max(dense.size, expected.size))
    both[0][: dense.size], both[1][: expected.size] = np.sort(dense)[::-1], expected
    np.testing.assert_allclose(both[0], both[1], atol=1e-9 * dense[0])
    if case == "whitened":
        values = np.linalg.svd(target, compute_uv=False)
        assert dense[0] == pytest.approx(balanced_sharpness(values[0], depth), rel=1e-12)
        assert found.values[0, 1] == pytest.approx(balanced_eigenvalue(values[0], values[1], depth), rel=1e-12)
        assert found.values[1, 0] == pytest.approx(balanced_eigenvalue(values[1], values[0], depth), rel=1e-12)


@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_unbalanced_minima_of_a_network_are_sharper(seed, spread):
    random = np.random.default_rng(seed)
    target = random.standard_normal((2, 3))
    first, second, third = balanced_network(target, 3, 3)
    lower, upper = (np.eye(3) + spread * random.standard_normal((3, 3)) for _ in range(2))
    weights = [lower @ first, upper @ second @ np.linalg.inv(lower), third @ np.linalg.inv(upper)]
    model = DeepLinearNetwork(target)
    floor = balanced_sharpness(np.linalg.svd(target, compute_uv=False)[0], 3)
    assert model.sharpness(weights) >= floor * (1 - 1e-9)
    if max(np.abs(matrix).max() for matrix in model.imbalance(weights)) > 0.1:
        assert model.sharpness(weights) > floor * (1 + 1e-6)


def test_sharpness_at_the_balanced_minimum():
    target = np.diag([2.5, 1.0])
    assert DeepLinearNetwork(target).sharpness(balanced_network(target, 4)) == pytest.approx(15.8114, abs=5e-5)
    assert balanced_sharpness(2.5, 4) == pytest.approx(15.8114, abs=5e-5)
    assert ScalarChain(2.0).sharpness(balanced_chain(2.0, 4)) == pytest.approx(11.3137, abs=5e-5)
    assert balanced_sharpness(2.0, 4) == pytest.approx(11.3137, abs=5e-5)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_the_persistent_edge_parts_convergence_from_a_two_cycle(depth):
    start = [1.01] * depth
    below = descend(start, 1.0, 1.95 / depth, 2000)
    assert abs(math.prod(below) - 1) < 1e-12
    assert persistent_edge(1.0, depth) * depth == 2
    here = descend(start, 1.0, 2.05 / depth, 4000)
    after = descend(here, 1.0, 2.05 / depth, 1)
    again = descend(after, 1.0, 2.05 / depth, 1)
    assert again == pytest.approx(here, abs=1e-9)
    assert abs(after[0] - here[0]) > 0.03


def test_the_predicted_final_sharpness_is_where_descent_ends():
    start = [2.5, 0.5, 0.7, 0.9]
    model = ScalarChain(1.0)
    for rate, relative in ((0.05, 1e-3), (0.3, 0.01), (0.4, 0.01)):
        end = model.sharpness(descend(start, 1.0, rate, 4000))
        assert predicted_final_sharpness(model.flow_sharpness(start), rate, 1.0, 4) == pytest.approx(end, rel=relative)
    assert predicted_final_sharpness(6.0, 0.51, 1.0, 4) == math.inf


# ---------------------------------------------------------------------------------------------------------------------
# Two layers: the imbalance factor decides whether the sharpness of the flow solution falls


@given(st.floats(0.3, 2.0), st.floats(0.3, 2.0), st.floats(0.1, 2.0), st.floats(0.01, 2.0))
def test_two_layers_fall_exactly_while_the_residual_is_small(u, v, target, rate):
    model = ScalarChain(target)
    before = model.flow_sharpness([u, v])
    assert two_layer_flow_sharpness(u * u - v * v, target) == pytest.approx(before, rel=1e-11)
    stepped = descend([u, v], target, rate, 1)
    factor = two_layer_imbalance_factor(rate, u * v - target)
    assert stepped[0] ** 2 - stepped[1] ** 2 == pytest.approx(factor * (u * u - v * v), rel=1e-9, abs=1e-12)
    rises = model.flow_sharpness(stepped) > before * (1 + 1e-12)
    if rises:
        assert rate * abs(u * v - target) > math.sqrt(2) * (1 - 1e-9)
    # the theorem fails where it must: beyond sqrt(2) an imbalance grows
    if rate * abs(u * v - target) > 1.5 and abs(u * u - v * v) > 0.1:
        assert rises


# ---------------------------------------------------------------------------------------------------------------------
# Learning curves

fractions = st.floats(-6, -0.01).map(lambda e: 10**e)


@given(st.floats(-6, 0).map(lambda e: 10**e), st.floats(0.1, 5.0), st.floats(0.01, 0.99))
def test_the_integrated_curve_of_two_layers_is_the_closed_form(start, value, fraction):
    time = two_layer_learning_time(fraction, start / (1.2 * value), value) if start < value else 1.0
    times = np.array([0.0, abs(time) + 0.1, 2 * abs(time) + 0.2])
    made = mode_strength(times, start, value, 2)
    np.testing.assert_allclose(made.values, two_layer_strength(times, start, value), rtol=1e-8)


@given(fractions, fractions, st.floats(0.1, 5.0))
def test_the_learning_time_inverts_the_learning_curve(fraction, start, value):
    time = two_layer_learning_time(fraction, start, value)
    if time >= 0:
        assert two_layer_strength(time, start * value, value) == pytest.approx(fraction * value, rel=1e-9)
    assert time == pytest.approx(-two_layer_learning_time(start, fraction, value), rel=1e-9, abs=1e-12)


def test_starts_whose_ratio_to_the_mode_is_no_float_grow_by_the_closed_form():
    """In 60 digits; starts 1e305 and 1e320 times below the mode, and as far above it."""
    modes = [(1.0, 1e-305, 340.0), (3.0, 1e-305, 117.0), (1e-160, 1e160, 1e-158), (1e160, 1e-160, 3.7e-158)]
    for value, start, time in modes:
        with mpmath.workdps(60):
            s, a, t = map(mpmath.mpf, (value, start, time))
            expected = float(s * a / (s * mpmath.exp(-2 * s * t) - a * mpmath.expm1(-2 * s * t)))
        assert two_layer_strength(time, start, value) == pytest.approx(expected, rel=1e-13)


def test_deep_networks_approach_the_learning_time_of_infinite_depth():
    start, end, value = 0.2, 0.8, 1.5

    def error(depth):
        limit = infinite_depth_learning_time(end, start, value)
        strength = mode_strength([0.0, limit / depth], start * value, value, depth).values[-1]
        return abs(strength / value - end)

    assert math.log2(error(200) / error(400)) == pytest.approx(1, abs=0.05)


def test_one_layer_learns_every_mode_at_one_rate():
    times = np.array([0.0, 0.5, 3.0])
    np.testing.assert_allclose(mode_strength(times, 0.1, 2.0, 1), 2 - 1.9 * np.exp(-times), rtol=1e-9)
    assert mode_strength(0.0, 0.1, 2.0, 3).values.tolist() == pytest.approx([0.1])


# ---------------------------------------------------------------------------------------------------------------------
# The start


def exact_variance(depth, width):
    """The sum over pairs of layers, in rational numbers; T and S are moments of a product of Gaussian matrices."""
    n = Fraction(width)
    g = 1 + 2 / n
    total = depth * g ** (depth - 1)
    for first in range(1, depth):
        spread = square = Fraction(1)
        for second in range(first + 1, depth + 1):
            total += 2 * g ** (first - 1 + depth - second) * spread
            spread, square = spread + 2 * square / n**2, spread + (1 + 1 / n) * square
    return total - depth**2


@given(st.integers(1, 60), st.floats(0, 12).map(lambda e: round(10**e)))
def test_the_variance_of_the_kernel_keeps_its_digits_at_any_width(depth, width):
    exact = exact_variance(depth, width)
    assert initial_ntk_variance(depth, width) == pytest.approx(float(exact), rel=1e-12)
    assert initial_ntk_relative_variance(depth, width) == pytest.approx(float(exact / depth**2), rel=1e-12)
    mean, variance = initial_ntk_moments([width] * (depth - 1))
    assert mean == depth
    assert variance == pytest.approx(float(exact), rel=1e-9, abs=1e-11 * depth**2)


def test_chains_of_width_one_have_the_moments_of_powers_of_normals():
    # K = f^2 sum 1/w^2 over all but the first weight's own square: E w^2 = 1, E w^4 = 3
    for depth in range(1, 7):
        second = depth * 3 ** (depth - 1) + depth * (depth - 1) * 3 ** max(depth - 2, 0)
        assert initial_ntk_variance(depth, 1) == pytest.approx(second - depth**2, rel=1e-12)


def test_wide_networks_spread_as_one_over_the_width():
    for depth in (2, 3, 10):
        limit = 2 * depth * (depth - 1) * (2 * depth - 1) / 3
        gaps = [abs(initial_ntk_variance(depth, n) * n / limit - 1) for n in (1e5, 2e5)]
        assert gaps[0] < 1e-3
        assert depth == 2 or math.log2(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.01)


def test_the_widths_may_differ_and_their_order_backwards_does_not_matter():
    first, second = initial_ntk_moments([3, 7, 5]), initial_ntk_moments([5, 7, 3])
    assert first.variance == pytest.approx(second.variance, rel=1e-12)
    assert initial_ntk_moments([3, 5, 7]).variance != pytest.approx(first.variance, rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: balanced_sharpness(1.0, 0), "depth must be a whole number >= 1, got 0"),
        (lambda: balanced_sharpness(1.0, 2.5), "depth must be a whole number >= 1, got 2.5"),
        (lambda: initial_ntk_variance(3, 0.5), "width must be a whole number >= 1, got 0.5"),
        (lambda: balanced_chain(1.0, 0), "depth must be an integer >= 1, got 0"),
        (lambda: balanced_chain(1.0, 1.5), "depth must be an integer >= 1, got 1.5"),
        (lambda: balanced_network(np.eye(3), 2, 2), "width must be at least 3"),
        (lambda: balanced_network(np.eye(3), 2, 0), "width must be None or an integer >= 1"),
        (lambda: DeepLinearNetwork(np.ones(3)), "target must be a 2-D array"),
        (lambda: DeepLinearNetwork(np.eye(2), input_covariance=[[1, 2], [2, 1]]), "positive semidefinite"),
        (lambda: DeepLinearNetwork(np.eye(2), input_covariance=[[1, 1], [0, 1]]), "input_covariance must be"),
        (lambda: DeepLinearNetwork(np.eye(2)).loss([np.ones((3, 2)), np.ones((2, 4))]), "weights must be matrices"),
        (lambda: DeepLinearNetwork(np.eye(2)).loss([np.ones((2, 3))]), "weights must be matrices whose product is"),
        (lambda: ScalarChain(1.0).loss(xr.DataArray([1.0], dims="step")), "dim 'layer'"),
        (lambda: ScalarChain([1.0, 2.0]).loss(np.ones((3, 2))), "weights must be chains, as many as"),
        (lambda: ScalarChain(1.0).step(np.ones((3, 2)), [0.1, 0.2]), "weights must be chains, as many as"),
        (lambda: ScalarChain(xr.DataArray([1.0], dims="y")).loss(np.ones((3, 2))), "weights must be one chain"),
        (lambda: ScalarChain(xr.DataArray([1.0], dims="layer")).loss([1.0]), "weights must be alone in having"),
        (lambda: initial_ntk_moments([3, 0]), "widths must be a sequence of widths"),
        (lambda: mode_strength([1.0, 0.5], 0.1, 1.0, 2), "time must be a 1-D array of strictly increasing times"),
    ],
)
def test_bad_input_names_parameter_and_range(call, match):
    with pytest.raises((ValueError, TypeError), match=match):
        call()


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    st.floats(-3, 3),
    st.integers(-150, 150),
)
def test_the_end_of_gradient_flow_is_the_same_in_any_unit(powers, target, unit):
    """A power of two moves it by the rounding of the target's power at most; beyond the square's range too."""
    weights = 10.0 ** np.array(powers)
    power = unit // len(powers) if len(powers) > 1 else unit
    usual = ScalarChain(10.0**target).flow_solution(weights)
    other = ScalarChain(np.ldexp(10.0**target, power * len(powers))).flow_solution(np.ldexp(weights, power))
    np.testing.assert_allclose(np.ldexp(other, -power), usual, rtol=1e-12)


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=4), st.floats(-100, 100))
def test_the_end_of_gradient_flow_fits_the_target_however_far_apart_the_weights_are(powers, target):
    reached = ScalarChain(10.0**target).flow_solution(10.0 ** np.array(powers))
    logs = np.log(reached)
    assert logs.sum() == pytest.approx(target * np.log(10.0), rel=1e-12, abs=1e-12 * (1 + np.abs(logs).sum()))


def test_the_end_of_gradient_flow_where_squares_are_no_numbers():
    assert ScalarChain(1e200).flow_solution([1e-200]) == pytest.approx([1e200], rel=1e-12)
    assert ScalarChain(1e-300).flow_solution([1e-170, 1e-170]) == pytest.approx([1e-150, 1e-150], rel=1e-12)
    for weights in ([1e180, 1e-180], [1e-280, 1e280], [1e250, 1e-180, 2e-180]):
        reached = ScalarChain(np.prod(weights)).flow_solution(weights)
        np.testing.assert_allclose(reached, weights, rtol=1e-12)  # they are there already
    assert ScalarChain(0.0).flow_solution([0.0, 2.0]).tolist() == [0.0, 2.0]
    assert ScalarChain(0.0).flow_solution([0.0, 0.0]).tolist() == [0.0, 0.0]
