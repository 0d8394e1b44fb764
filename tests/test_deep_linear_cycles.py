"""Two-cycles of one mode of a deep linear network, against the map itself."""

import functools

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.theory.deep_linear import cycle_low, cycle_multiplier, cycle_rate, persistent_edge
from sgdynamics.theory.edge_of_stability import two_cycle_rate, two_cycle_threshold
from sgdynamics.theory.uv import two_cycle_multiplier

ratios = st.floats(-3, 1).map(lambda power: 1 + 10**power)
values = st.floats(-3, 3).map(lambda power: 10**power)
depths = st.integers(2, 8)


def step(factor, rate, value, depth):
    return factor - rate * (factor**depth - value) * factor ** (depth - 1)


def product(matrices):
    return functools.reduce(np.matmul, matrices, np.eye(2))


@given(ratios, values, depths)
def test_two_steps_come_back_and_one_step_multiplies_by_the_ratio(ratio, value, depth):
    with mpmath.workdps(40):
        z, s = mpmath.mpf(ratio), mpmath.mpf(value)
        low = (s * (1 + z ** (depth - 1)) / (1 + z ** (2 * depth - 1))) ** (mpmath.mpf(1) / depth)
        rate = (z - 1) / ((s - low**depth) * low ** (depth - 2))
        high = step(low, rate, s, depth)
        assert mpmath.almosteq(high, z * low, 1e-30)
        assert mpmath.almosteq(step(high, rate, s, depth), low, 1e-30)
        assert cycle_low(ratio, value, depth) == pytest.approx(float(low), rel=1e-12)
        assert cycle_rate(ratio, value, depth) == pytest.approx(float(rate), rel=1e-12)
        slopes = [mpmath.diff(lambda w: step(w, rate, s, depth), w) for w in (low, high)]
        expected = float(slopes[0] * slopes[1])
        assert cycle_multiplier(ratio, depth) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@given(st.floats(0, 25).map(lambda power: 10**power + 1), values, st.integers(2, 12))
def test_cycles_of_any_width_keep_their_digits(ratio, value, depth):
    with mpmath.workdps(1000):
        z, s = mpmath.mpf(ratio), mpmath.mpf(value)
        low = (s * (1 + z ** (depth - 1)) / (1 + z ** (2 * depth - 1))) ** (mpmath.mpf(1) / depth)
        rate = (z - 1) / ((s - low**depth) * low ** (depth - 2))
        slopes = [
            1 - rate * ((2 * depth - 1) * w ** (2 * depth - 2) - (depth - 1) * s * w ** (depth - 2))
            for w in (low, z * low)
        ]
        expected = low, rate, slopes[0] * slopes[1]
    found = cycle_low(ratio, value, depth), cycle_rate(ratio, value, depth), cycle_multiplier(ratio, depth)
    assert found == pytest.approx(tuple(map(float, expected)), rel=1e-12)


@given(values, depths)
def test_the_cycle_is_born_at_the_edge(value, depth):
    edge = persistent_edge(value, depth)
    assert cycle_rate(1 + 1e-9, value, depth) == pytest.approx(edge, rel=1e-12)
    rates = cycle_rate(1 + np.geomspace(1e-3, 30, 40), value, depth)
    assert (np.diff(rates) > 0).all()
    assert rates[0] > edge
    assert cycle_multiplier(1 + 1e-9, depth) == pytest.approx(1, abs=1e-7)


def test_two_layers_are_the_cycle_of_the_uv_network():
    z, s = sympy.symbols("z s", positive=True)
    assert sympy.simplify(cycle_rate(z, s, 2) - (z - 1 + 1 / z) / s) == 0
    for ratio in (1.2, 1.6, 2.0):
        q = ratio - 1 + 1 / ratio  # rate over the critical one of the uv network, whose edge is q = 1
        assert cycle_multiplier(ratio, 2) == pytest.approx(two_cycle_multiplier(q), rel=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_descent_on_balanced_matrices_cycles_in_the_modes_beyond_their_edge_alone(depth):
    # matrices, not the map of one number: the target's values are 2 and 1, the rate lies between their edges
    target = np.diag([2.0, 1.0])
    ratio = 1.08  # where the cycle is stable at all three depths
    assert abs(cycle_multiplier(ratio, depth)) < 1
    rate = cycle_rate(ratio, 2.0, depth)
    assert persistent_edge(2.0, depth) < rate < persistent_edge(1.0, depth)
    layers = [np.diag(np.array([2.0, 1.0]) ** (1 / depth) * [1.01, 1.0]) for _ in range(depth)]
    both = []
    for _ in range(1001):
        both = [*both[-1:], layers[0][0, 0]]
        after = [product(layers[k + 1 :]) for k in range(depth)]
        before = [product(layers[:k]) for k in range(depth)]
        error = product(layers) - target
        layers = [w - rate * (b.T @ error @ a.T) for w, b, a in zip(layers, before, after, strict=True)]
    low, high = sorted(both)
    assert low == pytest.approx(cycle_low(ratio, 2.0, depth), rel=1e-9)
    assert high == pytest.approx(ratio * low, rel=1e-9)
    assert layers[0][1, 1] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("beta", [0.2, 0.5])
def test_with_momentum_the_cycles_are_those_of_a_smaller_rate(depth, beta):
    ratio = 1.08
    assert cycle_multiplier(ratio, depth) > two_cycle_threshold(beta)
    rate = (1 + beta) * cycle_rate(ratio, 2.0, depth)
    assert two_cycle_rate(rate, beta) == pytest.approx(cycle_rate(ratio, 2.0, depth), rel=1e-14)
    assert rate > persistent_edge(2.0, depth, momentum=beta)
    for chosen, cycles in ((rate, True), (0.99 * persistent_edge(2.0, depth, momentum=beta), False)):
        before = now = 1.01 * 2.0 ** (1 / depth)
        for _ in range(20_000):
            now, before = step(now, chosen, 2.0, depth) + beta * (now - before), now
        if cycles:
            low = cycle_low(ratio, 2.0, depth)
            assert sorted([before, now]) == pytest.approx([low, ratio * low], rel=1e-9)
        else:
            assert now == pytest.approx(2.0 ** (1 / depth), rel=1e-9)


def test_beyond_a_multiplier_of_minus_one_the_cycle_is_left():
    for depth in (2, 4):
        ratio = 1 + 10 ** np.linspace(-2, 1, 2000)
        lost = ratio[np.argmax(cycle_multiplier(ratio, depth) < -1.3)]
        rate, low = cycle_rate(lost, 1.0, depth), cycle_low(lost, 1.0, depth)
        factor = low * (1 + 1e-6)
        for _ in range(200):
            factor = step(factor, rate, 1.0, depth)
        assert min(abs(factor / low - 1), abs(factor / (lost * low) - 1)) > 1e-3
