"""No equation stands under two names: formulas of equal signature are told apart at random points."""

import itertools
import math
from collections import defaultdict

import numpy as np

import sgdynamics
from sgdynamics.domains import Interval
from sgdynamics.theory.quadratic import stationary_variance

# Pairs that agree and stay, because they are about different things.
DIFFERENT_THINGS = {
    ("theory.break_even.non_uniformity_bound", "theory.uv.critical_learning_rate"): (
        "a spread of curvatures and a learning rate; both happen to be 1/(a sqrt b)"
    ),
    ("theory.break_even.sharpness_bound", "theory.quadratic.stability_edge"): (
        "a bound that random curvature leaves, one of a pair, and the edge with momentum, which without momentum is 2/a"
    ),
    ("theory.deep_linear.two_layer_imbalance_factor", "theory.edge_of_stability.imbalance_factor"): (
        "the square loss in its residual and any loss in its slope, each beside the other laws of its model"
    ),
    ("theory.quadratic.adam_gain", "theory.quadratic.adam_momentum_gain"): (
        "the closed form without momentum and, with it, the root of a cubic, which has none"
    ),
    ("theory.quadratic.batch_efficiency", "theory.quadratic.decayed_minimiser"): (
        "a share of a learning rate and a share of the minimiser, which without momentum is also a/(a+b)"
    ),
    ("theory.quadratic.gradient_cosine", "theory.quadratic.line_search_gain"): (
        "a cosine that x/2 is in one direction alone and a gain that it is in all"
    ),
    ("theory.quadratic.stationary_variance", "theory.sharpest_directions.stationary_slope_variance"): (
        "iterates in units of the centers and slopes in units of batch slopes: the curvature cancels without momentum"
    ),
    ("theory.schedules.ema_heavy_ball_gain", "theory.schedules.ema_heavy_ball_momentum"): (
        "a gain and a momentum, one with its two arguments in the places of the other's"
    ),
    ("theory.sharpest_directions.increase_probability", "theory.sharpest_directions.stationary_minimiser"): (
        "a probability and a place, both one half at every gain; only the first needs Gaussian noise"
    ),
    ("theory.uv.mean_c_max", "theory.uv.wide_c_max"): (
        "a mean at any width and its limit for wide networks: both are 4 in kernel units, and differ in the others"
    ),
}

# Between these ends lie the points: within the unit interval, and above 1 for what begins there.
STRETCHES = ((0.1, 0.45), (0.5, 0.95), (1.05, 1.95))
POINTS = 9


def required(formula):
    """Domains of the arguments without which a formula is not called, the others keep their defaults."""
    parameters = formula.signature.parameters.values()
    return {item.name: formula.domains[item.name] for item in parameters if item.default is item.empty}


def value(formula, reals, wholes):
    reals, wholes = iter(reals), iter(wholes)
    given = {name: next(wholes if domain.integer else reals) for name, domain in required(formula).items()}
    try:
        return formula(**given)
    except ValueError:  # not in its domain
        return math.nan


def agree(one, other):
    """Wherever both have a finite value, if that is at a third of the points or more."""
    both = np.isfinite(one) & np.isfinite(other)
    return both.sum() >= POINTS // 3 and np.allclose(one[both], other[both], rtol=1e-9, atol=0)


def pairs_that_agree(formulas):
    """In any order of their arguments."""
    random = np.random.default_rng(0)
    signatures = defaultdict(list)
    for formula in formulas:
        domains = required(formula).values()
        if all(isinstance(domain, Interval) for domain in domains):
            wholes = sum(domain.integer for domain in domains)
            signatures[len(domains) - wholes, wholes].append(formula)
    found = set()
    for (reals, wholes), alike in signatures.items():
        points = [
            (random.uniform(*STRETCHES[i % 3], reals), random.choice(np.arange(2.0, 9.0), wholes, replace=False))
            for i in range(POINTS)
        ]
        values = {
            formula.name: [
                np.array([value(formula, x[list(first)], n[list(then)]) for x, n in points])
                for first in itertools.permutations(range(reals))
                for then in itertools.permutations(range(wholes))
            ]
            for formula in alike
        }
        for (name, one), (other_name, other) in itertools.combinations(sorted(values.items()), 2):
            if any(agree(one[0], made) for made in other):
                found.add((name, other_name))
    return found


def test_two_names_are_two_equations():
    assert pairs_that_agree(sgdynamics.formulas(kind="formula")) == set(DIFFERENT_THINGS)


class Twin:
    """The stationary variance written in another way."""

    name = "theory.another.variance"
    signature = stationary_variance.signature
    domains = stationary_variance.domains

    def __call__(self, gain):
        return 1 / (2 / gain - 1)


def test_a_twin_is_found():
    assert pairs_that_agree([stationary_variance, Twin()]) == {(Twin.name, stationary_variance.name)}
