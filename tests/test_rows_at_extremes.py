"""Formulas of the noise, the patterns and the sharpest directions at the ends of their domains, by 700 digits."""

from __future__ import annotations

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy

from sgdynamics.theory import break_even, patterns, sharpest_directions

FORMULAS = [
    break_even.collapse_curvature,
    break_even.gradient_noise_interaction,
    break_even.plateau_curvature,
    break_even.plateau_projection_variance,
    break_even.stochastic_sharpness_gap,
    patterns.annealed_variance,
    patterns.annealed_variance_ratio,
    patterns.curvature_ceiling,
    patterns.curvature_form,
    patterns.lazy_width,
    patterns.mean_classifier_cosine,
    patterns.memory_integral,
    patterns.p_time,
    patterns.q_time,
    patterns.refreshed_curvature_form,
    patterns.refreshing_angle,
    patterns.small_angle_curvature_form,
    patterns.time_separation,
    sharpest_directions.mean_minimiser,
]
SIZES = [0.0, *(10.0**n for n in (-308, -200, -100, -30, -16, -8, -3, -1)), 0.5, 1.0, 1.5, 3.0]
SIZES += [10.0**n for n in (3, 8, 16, 100, 200, 308)]
LARGEST = mpmath.mpf(float(np.finfo(float).max))


def points(domain):
    sizes = [0, 1, 2, 10, 10**6] if domain.integer else SIZES
    return [size for size in sizes if domain.inside(np.float64(size))]


@functools.cache
def digits(formula):
    symbols = sympy.symbols(list(formula.domains), real=True)
    return sympy.lambdify(symbols, formula.function(**dict(zip(formula.domains, symbols, strict=True))), "mpmath")


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda item: item.__name__)
def test_values_hold_at_the_ends_of_the_domains(formula):
    random = np.random.default_rng(0)
    grids = [points(domain) for domain in formula.domains.values()]
    if math.prod(map(len, grids)) <= 80:
        cases = list(itertools.product(*grids))
    else:
        cases = [tuple(random.choice(grid) for grid in grids) for _ in range(80)]
    compared = 0
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
