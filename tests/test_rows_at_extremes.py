"""Formulas of the noise, the patterns and the sharpest directions at the ends of their domains, by 700 digits."""

from __future__ import annotations

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.domains import flag
from sgdynamics.formula import Formula
from sgdynamics.theory import break_even, patterns, sharpest_directions

ALL = [
    thing
    for package in (break_even, patterns, sharpest_directions)
    for thing in map(package.__dict__.get, package.__all__)
    if isinstance(thing, Formula)
]
FORMULAS = [item for item in ALL if item.symbolic]
CASES = 60
SIZES = [0.0, *(10.0**n for n in (-308, -200, -100, -30, -16, -8, -3, -1)), 0.5, 1.0, 1.5, 3.0]
SIZES += [10.0**n for n in (3, 8, 16, 100, 200, 308)]
LARGEST = mpmath.mpf(float(np.finfo(float).max))


def points(domain):
    if domain is flag:
        return [False]
    sizes = [0, 1, 2, 10, 10**6] if domain.integer else SIZES
    return [size for size in sizes if domain.inside(np.float64(size))]


def drawn(formula):
    """Every combination of sizes, or some of them."""
    random = np.random.default_rng(0)
    grids = [points(domain) for domain in formula.domains.values()]
    if math.prod(map(len, grids)) <= CASES:
        cases = list(itertools.product(*grids))
    else:
        cases = [tuple(random.choice(grid) for grid in grids) for _ in range(CASES)]
    if "batch_size" not in formula.domains:
        return cases
    examples, batch_size = map(list(formula.domains).index, ("examples", "batch_size"))
    return [case for case in cases if 1 < case[examples] >= case[batch_size]]


@functools.cache
def digits(formula):
    symbols = {name: sympy.Symbol(name, real=True) for name in formula.domains}
    given = {name: False if formula.domains[name] is flag else symbol for name, symbol in symbols.items()}
    return sympy.lambdify(list(symbols.values()), formula.function(**given), "mpmath")


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda item: item.__name__)
def test_values_hold_at_the_ends_of_the_domains(formula):
    compared, cases = 0, drawn(formula)
    for case in cases:
        value = formula(**dict(zip(formula.domains, case, strict=True)))
        assert not math.isnan(value), case
        with mpmath.workdps(700):
            try:
                wanted = digits(formula)(*(mpmath.mpf(float(number)) for number in case))
            except ZeroDivisionError:
                continue
            if math.isinf(value):  # beyond an edge, or beyond the numbers
                edge = formula.edge is not None or isinstance(wanted, mpmath.mpc)
                assert edge or abs(wanted) > LARGEST / 4, case
                continue
            assert abs(wanted - value) <= 1e-9 * abs(wanted) + mpmath.mpf("1e-307"), case
        compared += 1
    assert compared >= len(cases) / 5


@pytest.mark.parametrize(("limit", "formula"), [(1, "overshoot"), (2, "increase")])
def test_probabilities_at_a_known_slope_hold_at_the_ends_of_their_domains(limit, formula):
    formula = getattr(sharpest_directions, f"conditional_{formula}_probability")
    for case in itertools.product(*map(points, formula.domains.values())):
        with mpmath.workdps(60):
            gain, signal = map(mpmath.mpf, case)
            bounds = (min(max(bound, -1000), 1000) for bound in (-signal, -signal * (limit / gain - 1)))
            wanted = sum(map(mpmath.ncdf, bounds))
            assert abs(wanted - formula(*case)) <= 1e-12 * wanted + mpmath.mpf("1e-300"), case


@settings(max_examples=50)
@given(st.floats(-300, 300), st.floats(-16, -0.01), st.integers(0, 2**32))
def test_next_to_an_edge_the_rounding_of_a_product_is_not_what_is_left(exponent, gap, seed):
    learning_rate = 10.0**exponent * np.random.default_rng(seed).uniform(1, 2)
    curvature = 2 * (1 - 10.0**gap) / learning_rate
    if curvature < 2 / learning_rate:
        with mpmath.workdps(60):
            wanted = 1 / mpmath.sqrt(mpmath.mpf(2) / learning_rate - mpmath.mpf(curvature))
            assert abs(break_even.break_even_distance(curvature, learning_rate, 1.0, 1.0) - wanted) <= 1e-14 * wanted
