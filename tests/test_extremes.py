"""Every formula at the ends of its declared ranges and from 1e-308 to 1e308 within them.

Symbolic formulas are held against their own expression in 60 digits and more, and so are their derivatives; the others
against their definitions in ``oracles``.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from cases import STEMS
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from oracles import DISTRIBUTIONS, LEFT_TO_THEIR_ROWS, VALUES, power

from sgdynamics import formulas
from sgdynamics.domains import Interval
from sgdynamics.formula import Formula
from sgdynamics.theory.quadratic import stationary_variance, swa_variance_from_start, two_point_variance
from sgdynamics.theory.uv import c_loss

FORMULAS = formulas(kind="formula")
SYMBOLIC = [item for item in FORMULAS if item.symbolic]
EXACT = 1e-12
ROUNDING = 2.0**-50  # of an argument: eight units in the last place
TILT = mpmath.mpf(10) ** -30
LARGEST, SMALLEST = np.finfo(float).max, np.finfo(float).tiny


def ladder(domain: Interval) -> list[float]:
    """The ends of a range, their neighbours, and sizes from the smallest to the largest inside."""
    sizes = [10.0**power for power in (-307, -200, -154, -100, -30, -16, -8, -3, 0, 3, 8, 16, 30, 100, 154, 200, 308)]
    ends = [float(end) for end in (domain.low, domain.high, 1.0, 2.0) if math.isfinite(end)]
    near = [end * (1 + tilt) for end in ends for tilt in (-1e-8, -(2.0**-53), 0.0, 2.0**-52, 1e-8)]
    candidates = dict.fromkeys([0.0, 3.0, *sizes, *(-size for size in sizes), *near])
    with np.errstate(invalid="ignore"):
        return [value for value in candidates if domain.inside(np.float64(value))]


def arguments(item: Formula) -> st.SearchStrategy[dict[str, Any]]:
    """Each numeric parameter typical, at an extreme, or of any size."""
    entries = {}
    for name, value in item.typical.items():
        domain = item.domains[name]
        choices = ladder(domain) if isinstance(domain, Interval) else []
        entries[name] = st.sampled_from([value, *choices])
        if isinstance(domain, Interval) and domain.inside(np.float64(1e300)) and not domain.integer:
            entries[name] |= st.floats(-307, 308).map(lambda power, low=domain.low: max(low, 0.0) + 10.0**power)
        elif isinstance(domain, Interval) and domain.integer:
            entries[name] |= st.floats(0, 15).map(lambda power, low=domain.low: math.floor(max(low, 0.0) + 10.0**power))
    return st.fixed_dictionaries(entries)


@cache
def expression(item: Formula, static: tuple[tuple[str, Any], ...]) -> Any:
    """The value and the edge as functions of the numeric arguments."""
    if item.name in VALUES:
        return functools.partial(VALUES[item.name], **dict(static)), None
    symbols = {name: sympy.Symbol(name, real=True) for name in item.domains if name not in dict(static)}
    everything = {**symbols, **dict(static)}

    value = precise(symbols, item.function(**everything))
    return value, precise(symbols, item.edge.limit(everything)) if item.edge else None


def precise(symbols: dict[str, sympy.Symbol], part: Any) -> Any:
    """An expression as a function of its symbols, in the digits of the caller."""
    named = sympy.Function("power")
    part = sympy.sympify(part).replace(lambda of: of.is_Pow and of.exp.free_symbols, lambda of: named(of.base, of.exp))
    return sympy.lambdify(list(symbols.values()), part, [{"power": power}, "mpmath"])


@dataclass(frozen=True)
class Truth:
    value: Any
    # How far the value moves when every argument moves by a rounding; asked only of what is off by more than little.
    conditioned: Callable[[], float] = lambda: 0.0
    at_edge: bool = False  # within a rounding, where the value may be infinite


def digits(numbers: Iterable[float], factors: int) -> int:
    """As many as sums of products of up to ``factors`` such numbers need."""
    return int(60 + factors * sum(abs(math.log10(abs(number))) for number in numbers if number))


NO_VALUE = (ZeroDivisionError, ValueError, TypeError)


def truth(item: Formula, at: dict[str, Any]) -> Truth | None:
    """The value in many digits; None where the expression has no value of its own."""
    return _truth(item, tuple(at.items()))


@lru_cache(maxsize=4)
def _truth(item: Formula, arguments: tuple[tuple[str, Any], ...]) -> Truth | None:
    at = dict(arguments)
    numeric = {name: at[name] for name in item.numeric}
    value_of, edge_of = expression(item, tuple((name, value) for name, value in at.items() if name not in numeric))
    at_edge = False
    places = digits(numeric.values(), 4 if item.symbolic else 2)
    with mpmath.workdps(places):
        point = [mpmath.mpf(value) for value in numeric.values()]
        with contextlib.suppress(ZeroDivisionError):  # a pole: no edge
            if edge_of and at[item.edge.parameter] >= edge_of(*point):
                return Truth(mpmath.inf)
            at_edge = bool(edge_of and at[item.edge.parameter] * (1 + mpmath.mpf(ROUNDING)) >= edge_of(*point))
        try:
            value = value_of(*point)
        except NO_VALUE:
            return None
        if isinstance(value, mpmath.mpc) or mpmath.isnan(value):
            return None

    def conditioned() -> float:
        with mpmath.workdps(places):
            moved = mpmath.mpf(0)
            for place in range(len(point)):
                tilted = [*point]
                tilted[place] *= 1 + TILT
                try:
                    moved += abs(value_of(*tilted) - value) / TILT
                except NO_VALUE:  # nor has it one nearby
                    return math.inf
            return float(moved) * ROUNDING if not isinstance(moved, mpmath.mpc) else 0.0

    return Truth(value, conditioned, at_edge)


def wrong(value: float, true: Truth) -> str:
    if true.at_edge and value == math.inf:
        return ""
    if abs(true.value) > LARGEST * (1 - EXACT):
        return "" if value * mpmath.sign(true.value) > LARGEST * (1 - EXACT) else "not infinite"
    off = abs(mpmath.mpf(value) - true.value)
    return "" if off <= max(EXACT * abs(true.value), SMALLEST) or off <= true.conditioned() else "off"


def no_quantile(item: Formula, value: float, probability: float, **others: float) -> str:
    """Whether a value moved by its tolerance does not bracket the probability moved by a rounding."""
    if math.isinf(value):
        return "off"
    with mpmath.workdps(digits([probability, *others.values()], 2)):
        apart = max(EXACT * abs(mpmath.mpf(value)), SMALLEST)
        below, above = (
            DISTRIBUTIONS[item.name](value + sign * apart, *map(mpmath.mpf, others.values())) for sign in (-1, 1)
        )
        bracketed = below <= probability * (1 + mpmath.mpf(ROUNDING)) and above >= probability * (
            1 - mpmath.mpf(ROUNDING)
        )
    return "" if bracketed else "off"


def judged(item: Formula, value: float, at: dict[str, Any]) -> str:
    """What is wrong with a value, or nothing."""
    if math.isnan(value):
        return "nan"
    if item.name in LEFT_TO_THEIR_ROWS:
        return ""
    if item.name in DISTRIBUTIONS:
        return no_quantile(item, value, **at)
    possible = getattr(STEMS[item.stem], "possible", lambda at: True)(at)
    true = truth(item, at) if possible else None
    return wrong(value, true) if true else ""


def verdict(item: Formula, at: dict[str, Any]) -> str:
    """What is wrong with the value that a formula has, or nothing; a refusal must name a parameter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = item(**at)
    except ValueError as error:
        return "" if any(f"{item.__name__}: {name} must" in str(error) for name in at) else str(error)
    return judged(item, value, at)


def judge(item: Formula, at: dict[str, Any]) -> None:
    found = verdict(item, at)
    assert not found, f"{item.name}({at}) is {found}: {item(**at)}"


@pytest.mark.parametrize("examples", [5, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("item", FORMULAS, ids=lambda item: item.name)
def test_a_value_is_right_at_any_size_of_the_arguments(item, examples):
    @settings(max_examples=examples, phases=[Phase.generate])
    @given(at=arguments(item))
    def holds(at):
        judge(item, at)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("item", FORMULAS, ids=lambda item: item.name)
def test_a_value_is_right_at_every_end_of_every_range(item):
    for name in item.numeric:
        for value in ladder(item.domains[name]):
            judge(item, {**item.typical, name: value})


def test_a_wrong_value_is_noticed():
    at = {"gain": 0.5, "beta": 0.75, "momentum": 0.0, "nesterov": False}
    (item,) = [item for item in SYMBOLIC if item.name == "theory.quadratic.ema_variance"]
    true = truth(item, at)
    assert not wrong(item(**at), true)
    assert wrong(item(**at) * (1 + 1e-11), true)
    assert wrong(math.inf, true)
    assert wrong(0.0, true)
    assert wrong(-math.inf, truth(item, {**at, "gain": 2.0}))


@pytest.mark.parametrize("item", FORMULAS, ids=lambda item: item.name)
def test_every_formula_has_a_truth_and_a_value_off_by_little_is_not_it(item):
    at = item.typical
    assert not judged(item, item(**at), at)
    if item.name in LEFT_TO_THEIR_ROWS:
        assert LEFT_TO_THEIR_ROWS[item.name]
        return
    for value in (item(**at) * (1 + 1e-10), math.inf, math.nan, item(**at) + 1):
        assert judged(item, value, at)


def test_the_precise_route_is_the_ordinary_one():
    """Where floats suffice, evaluating in many digits changes the last digit at most."""
    for item in SYMBOLIC:
        at = {name: np.float64(value) if name in item.numeric else value for name, value in item.typical.items()}
        assert item._precisely(at, math.nan) == pytest.approx(item(**item.typical), rel=1e-13)


def test_extremes_in_an_array_leave_its_other_entries_alone():
    mixed = stationary_variance(np.array([0.5, 1e-300, 1.5]), momentum=np.array([[0.5], [1e-200]]))
    assert mixed.shape == (2, 3)
    for row, momentum in enumerate((0.5, 1e-200)):
        for column, gain in enumerate((0.5, 1e-300, 1.5)):
            assert mixed[row, column] == stationary_variance(gain, momentum=momentum)
    assert mixed[0, 1] == pytest.approx(1e-300, rel=1e-15)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives


@pytest.mark.parametrize("item", SYMBOLIC, ids=lambda item: item.name)
def test_derivatives_are_those_of_the_expression_at_any_size_of_the_arguments(item):
    @settings(max_examples=2, phases=[Phase.generate])
    @given(at=arguments(item), name=st.sampled_from(item.numeric))
    def holds(at, name):
        try:
            found = item.derivative(name)(**at)
        except ValueError:  # refused as the value is
            assume(False)
        for factors in (2, 8):  # what is right in few digits needs no more
            true = slope(item, at, name, factors)
            if true is not None and SMALLEST / EXACT < abs(true) < LARGEST and not wrong(found, Truth(true)):
                return
        if true is not None:
            assert not wrong(found, Truth(true)), (at, name, found, true)

    holds()


@cache
def derivative(item: Formula, name: str, static: tuple[tuple[str, Any], ...]) -> Any:
    """The derivative that SymPy takes, as a function of the numeric arguments."""
    symbols = {key: sympy.Symbol(key, real=True) for key in item.numeric}
    return precise(symbols, sympy.diff(item.function(**symbols, **dict(static)), symbols[name]))


def slope(item: Formula, at: dict[str, Any], name: str, factors: int) -> Any:
    """The derivative in many digits; None where it is none, or where the value is infinite."""
    given_value = truth(item, at)
    if given_value is None or mpmath.isinf(given_value.value):
        return None
    taken = derivative(item, name, tuple((key, value) for key, value in at.items() if key not in item.numeric))
    with mpmath.workdps(digits((at[key] for key in item.numeric), factors)):
        try:
            value = taken(*(mpmath.mpf(at[key]) for key in item.numeric))
        except (*NO_VALUE, NameError):  # NameError: SymPy leaves it unevaluated
            return None
        return None if isinstance(value, mpmath.mpc) or mpmath.isnan(value) else value


def test_derivatives_at_gain_one_and_at_small_gains():
    assert two_point_variance.derivative("gain")(1.0, 5) == 1.0
    assert swa_variance_from_start.derivative("gain")(1e-9, 10) == pytest.approx(7.7e-9, rel=1e-7)


def test_a_derivative_without_end_is_infinite_and_at_the_end_of_a_range_one_sided():
    assert c_loss.derivative("rho")(0.125) == pytest.approx(math.inf)
    assert stationary_variance.derivative("gain")(1.0) == 2.0
