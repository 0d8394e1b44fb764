"""What to draw in a property test, made from the ranges that parameters declare.

Numbers are drawn by the logarithm of their size, so that small and large ones are as likely as those in between, and
shrink towards 1. How many powers of ten they span is the argument ``decades``.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from sgdynamics.domains import (
    ArrayOf,
    Domain,
    Interval,
    _Flag,
    _Integer,
    _Number,
    _Optional,
    _Replicas,
    _Seed,
    average,
    increasing_steps,
    integer,
    positive,
    real,
)
from sgdynamics.models import schedules as named
from sgdynamics.models.quadratic._matrices import Semidefinite
from sgdynamics.models.schedules import schedule_of_rates

__all__ = ["arguments", "averages", "built", "numbers", "schedules", "spectra", "values", "vectors"]

Array = NDArray[np.float64]
Strategy = st.SearchStrategy


def numbers(domain: Interval = real, *, decades: float = 3.0) -> Strategy[float]:
    """Numbers of a range.

    Parameters
    ----------
    domain : Interval
        For instance :data:`sgdynamics.domains.positive`. Between two bounds every number is drawn; without an upper
        bound, distances from the lower one; without any, both signs.
    decades : float
        Sizes are 10 to the power of -decades..decades, > 0; whole numbers go up to 10 to the power of ``decades``.

    Returns
    -------
    SearchStrategy of float
        A bound that belongs to the range is drawn often.

    Raises
    ------
    ValueError
        If ``decades`` is outside its range.
    """
    decades = float(positive.check("numbers", "decades", decades))
    low, high = domain.low, domain.high
    if domain.integer:
        first = math.floor(low) + 1 if domain.low_open else math.ceil(low)
        last = math.ceil(high) - 1 if domain.high_open and math.isfinite(high) else min(high, first + 10**decades)
        return st.integers(first, math.floor(last)).map(float)
    if math.isfinite(low) and math.isfinite(high):
        return st.floats(low, high, exclude_min=domain.low_open, exclude_max=domain.high_open, allow_subnormal=False)
    sizes = st.floats(-decades, decades).map(lambda power: 10.0**power)
    if math.isfinite(low):
        above = sizes.map(lambda size: low + size)
        return above if domain.low_open else st.one_of(above, st.just(low))
    if math.isfinite(high):
        below = sizes.map(lambda size: high - size)
        return below if domain.high_open else st.one_of(below, st.just(high))
    return st.one_of(sizes, sizes.map(lambda size: -size), st.just(0.0))


def vectors(size: int, domain: Interval = real, *, decades: float = 1.0) -> Strategy[Array]:
    """Arrays of so many numbers of a range, for instance the weights of a model.

    Parameters
    ----------
    size : int
        Length, >= 1.
    domain : Interval
    decades : float
        As of :func:`numbers`.

    Returns
    -------
    SearchStrategy of array, shape (size,)
    """
    size = integer(1).check("vectors", "size", size)
    return st.lists(numbers(domain, decades=decades), min_size=size, max_size=size).map(np.array)


@st.composite
def spectra(draw: Any, *, most: int = 6, decades: float = 3.0) -> Array:
    """Curvatures > 0 in falling order: a few of any size, equal ones, or a power law.

    Parameters
    ----------
    most : int
        Largest number of modes, >= 1.
    decades : float
        As of :func:`numbers`.

    Returns
    -------
    SearchStrategy of array, shape (modes,)
    """
    most = integer(1).check("spectra", "most", most)
    modes = draw(st.integers(1, most))
    top = draw(numbers(positive, decades=decades))
    kind = draw(st.sampled_from(["any", "equal", "power law"]))
    if kind == "equal":
        return np.full(modes, top)
    if kind == "power law":
        return np.asarray(top * np.arange(1.0, modes + 1) ** -draw(st.floats(0.1, 3.0)))
    return np.sort(draw(vectors(modes, positive, decades=decades)))[::-1]


@st.composite
def schedules(draw: Any, *, steps: int | None = None, most: int = 12, peak: float = 1.0) -> Array:
    """Learning rates in 0..peak: each of the named schedules, or any numbers.

    Parameters
    ----------
    steps : int, optional
        Number of steps, >= 1; drawn up to ``most`` where it is None.
    most : int
    peak : float
        Largest rate, > 0.

    Returns
    -------
    SearchStrategy of array, shape (steps,)
    """
    peak = float(positive.check("schedules", "peak", peak))
    most = integer(1).check("schedules", "most", most)
    steps = draw(st.integers(1, most)) if steps is None else integer(1).check("schedules", "steps", steps)
    rates = st.floats(0.0, peak, allow_subnormal=False)
    kind = draw(st.sampled_from(["constant", "any", "linear", "cosine", "step decay", "warm-up"]))
    if kind == "any":
        return np.array(draw(st.lists(rates, min_size=steps, max_size=steps)))
    rate = draw(rates)
    if kind == "step decay":
        return np.asarray(named.step_decay(rate, steps, draw(st.floats(0.125, 1.0)), draw(st.integers(1, steps))))
    if kind == "warm-up":
        warmup = draw(st.integers(0, steps))
        return np.asarray(named.warmup_stable_decay(rate, steps, warmup, draw(st.integers(0, steps - warmup))))
    if kind == "constant":
        return np.asarray(named.constant(rate, steps))
    shape = named.linear if kind == "linear" else named.cosine
    return np.asarray(shape(rate, steps, draw(rates), first_at_rate=draw(st.booleans())))


@st.composite
def averages(draw: Any, *, steps: int | None = None, most: int = 12) -> Array:
    """Weights over the iterates that sum to 1: each of the named averages, or any, some of them negative.

    Parameters
    ----------
    steps : int, optional
        Number of steps, >= 1; drawn up to ``most`` where it is None.
    most : int

    Returns
    -------
    SearchStrategy of array, shape (steps + 1,)
    """
    most = integer(1).check("averages", "most", most)
    steps = draw(st.integers(1, most)) if steps is None else integer(1).check("averages", "steps", steps)
    kind = draw(st.sampled_from(["last", "any", "ema", "tail", "two points"]))
    if kind == "ema":
        return np.asarray(named.ema(draw(st.floats(0.0, 0.99)), steps))
    if kind == "tail":
        return named.swa(steps, draw(st.integers(0, steps - 1)))
    if kind == "two points":
        return named.two_point(steps, draw(st.integers(1, steps)))
    weights = np.zeros(steps + 1)
    if kind == "any":
        weights[:-1] = draw(st.lists(st.floats(-1.0, 1.0, allow_subnormal=False), min_size=steps, max_size=steps))
    weights[-1] = 1 - weights[:-1].sum()
    return weights


@st.composite
def _semidefinite(draw: Any, domain: Semidefinite) -> Any:
    """A number where one is taken, as it fits any dimension; else a matrix with a spectrum in any direction."""
    if 0 in domain.axes:
        return draw(numbers(positive))
    spectrum = draw(spectra(most=4, decades=1.0))
    turn, _ = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=(spectrum.size,) * 2))
    matrix = (turn * spectrum) @ turn.T
    return (matrix + matrix.T) / 2


def values(domain: Domain) -> Strategy[Any]:
    """What a declared range accepts.

    Parameters
    ----------
    domain : Domain
        As in the ``domains`` of a function, a formula or a model. Ranges without an upper bound are drawn within a few
        powers of ten.

    Returns
    -------
    SearchStrategy

    Raises
    ------
    TypeError
        If the range is of a kind of which nothing can be drawn: objects, callables, files.

    Examples
    --------
    >>> from sgdynamics.models.uv import UVNetwork
    >>> values(UVNetwork.domains["init_scale"]).example() > 0  # doctest: +SKIP
    True
    """
    if domain is schedule_of_rates:
        return schedules()
    if domain is average:
        return averages()
    return _values(domain)


@functools.singledispatch
def _values(domain: Any) -> Strategy[Any]:
    if hasattr(domain, "options"):  # words, whatever else is taken beside them
        return st.sampled_from(domain.options)
    raise TypeError(f"values: domain must be a range of which values can be drawn, got {domain.text!r}")


_values.register(Interval, numbers)
_values.register(Semidefinite, _semidefinite)
_values.register(_Flag, lambda domain: st.booleans())
_values.register(_Number, lambda domain: numbers(domain.interval))
_values.register(_Seed, lambda domain: st.integers(0, 2**32 - 1))
_values.register(_Integer, lambda domain: st.integers(domain.low, int(min(domain.low + 12, domain.high))))
_values.register(_Optional, lambda domain: st.one_of(st.none(), values(domain.domain)))


_indices = st.sets(st.integers(0, 99), min_size=1, max_size=8).map(sorted)
_values.register(_Replicas, lambda domain: st.one_of(st.integers(1, 8), _indices))


@_values.register(ArrayOf)
def _array(domain: ArrayOf) -> Strategy[Any]:
    if domain == increasing_steps:
        return _indices
    raise TypeError(f"values: domain must be a range of which values can be drawn, got {domain.text!r}")  # what length?


def arguments(thing: Callable[..., Any], **given: Any) -> Strategy[dict[str, Any]]:
    """Arguments of a function, a formula or a model, each from the range that it declares.

    Parameters
    ----------
    thing : callable
        What has ``domains``: a function of the library, your own under :func:`sgdynamics.domains.checked`, or a class
        with such an attribute.
    given : strategies or values
        By parameter: what to draw instead, or the value itself. Needed where ranges do not say all, for instance of
        models or of arrays whose lengths must agree.

    Returns
    -------
    SearchStrategy of dict
        Parameters of which nothing can be drawn are left to their default.

    Raises
    ------
    TypeError
        If the thing declares no ranges, has no such parameter, or one of which nothing can be drawn, without a default.
    """
    domains = getattr(thing, "domains", None)
    if domains is None:
        raise TypeError(f"arguments: thing must declare the ranges of its parameters as domains, got {thing!r}")
    name, parameters = getattr(thing, "__name__", repr(thing)), inspect.signature(thing).parameters
    unknown = sorted(set(given) - set(domains))
    if unknown:
        raise TypeError(f"arguments: {name} has no parameter {unknown[0]!r}, only {sorted(domains)}")
    drawn: dict[str, Strategy[Any]] = {}
    for parameter, domain in domains.items():
        if parameter in given:
            value = given[parameter]
            drawn[parameter] = value if isinstance(value, Strategy) else st.just(value)
            continue
        try:
            drawn[parameter] = values(domain)
        except TypeError:
            if parameters[parameter].default is inspect.Parameter.empty:
                raise TypeError(
                    f"arguments: {parameter} of {name} must be given: nothing can be drawn that is {domain.text}"
                ) from None
    return st.fixed_dictionaries(drawn)


@st.composite
def built(draw: Any, /, thing: Callable[..., Any], **given: Any) -> Any:
    """Models, networks or whatever a callable makes of :func:`arguments`.

    Parameters
    ----------
    thing : callable
    given : strategies or values
        As of :func:`arguments`.

    Returns
    -------
    SearchStrategy
        Arguments that cannot occur together, which the thing refuses by ValueError, are drawn anew.

    Examples
    --------
    >>> from sgdynamics.models.quadratic import MiniBatchQuadratic
    >>> from sgdynamics.simulate.trainer import network
    >>> quadratics = built(MiniBatchQuadratic, curvature=spectra())
    >>> networks = built(network, widths=[3, 4, 2])
    """
    chosen = draw(arguments(thing, **given))
    try:
        return thing(**chosen)
    except ValueError:
        reject()
