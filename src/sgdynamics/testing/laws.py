r"""The laws that a model is held to: what its parts say of each other, at points that hypothesis chooses.

No law takes a difference quotient, and every tolerance is relative to the numbers that were added. A derivative is held
to what it differentiates by the fundamental theorem of calculus,

.. math:: L(b) - L(a) = \int_0^1 \nabla L(a + t(b-a)) \cdot (b-a) \, dt,

between points that are far apart, with a quadrature that knows its error; expectations are counted out over every
sequence of batches.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad_vec

from sgdynamics.domains import integer
from sgdynamics.testing.subject import Subject

__all__ = ["Law", "check", "laws"]

Array = NDArray[Any]
Draw = Callable[..., Any]

# Relative to the largest of the numbers that are added: what rounding may do in a few hundred operations, and how
# closely an integral is asked for.
ROUNDING, QUADRATURE = 1e-12, 1e-9
INTERVALS = 24  # of a quadrature, at most: smooth integrands need two, and what a kink leaves is in the error
SEQUENCES = 256  # of batches, at most, that are counted out
REPLICAS, THREADS = 12, 8


def _require(holds: Any, law: str, said: str) -> None:
    if not holds:
        raise AssertionError(f"{law}: {said}")


def _array(value: Any) -> Array:
    return np.asarray(value, dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives


def _difference_is_integral(
    law: str, integrand: Callable[[Array], Any], difference: Any, size: float, ends: Any
) -> None:
    """Hold a difference between two points to the integral of what is claimed to be its derivative."""
    start, end = ends
    _require(not math.isnan(size), law, f"at {start} or {end} there is NaN in place of a number")
    if math.isinf(size):  # beyond the floats, where no difference is left
        return
    with np.errstate(all="ignore"):
        slopes = _array([integrand(start), integrand(end)])
    _require(np.isfinite(slopes).all(), law, f"at {start} or {end} the derivative is not finite: {slopes.tolist()}")
    scale = size + float(np.abs(slopes).max())
    if not (0 < scale < math.inf):
        return
    integral, error = quad_vec(
        lambda t: _array(integrand(start + t * (end - start))),
        0.0,
        1.0,
        epsabs=0.1 * QUADRATURE * scale,
        epsrel=0.0,
        limit=INTERVALS,
    )
    off = float(np.abs(difference - integral).max())
    _require(
        off <= QUADRATURE * scale + error,
        law,
        f"between {start} and {end} the difference is {difference}, the integral along the line {integral}",
    )


def _ends(subject: Subject, draw: Draw) -> tuple[Array, Array]:
    """Two points, far apart or nearer to each other, with fewer kinks between them."""
    start, end = draw(subject.weights), draw(subject.weights)
    return start, start + draw(st.sampled_from([1.0, 0.1, 0.01])) * (end - start)


def gradient_is_the_derivative_of_the_loss(subject: Subject, draw: Draw) -> None:
    """Differences of the loss are integrals of the gradient."""
    law = "gradient_is_the_derivative_of_the_loss"
    start, end = _ends(subject, draw)
    before, after = float(subject.loss(start)), float(subject.loss(end))
    _require(np.shape(subject.gradient(start)) == start.shape, law, f"must have the shape {start.shape}")
    _difference_is_integral(
        law,
        lambda at: _array(subject.gradient(at)) @ (end - start),
        after - before,
        abs(before) + abs(after),
        (start, end),
    )


def hessian_is_the_derivative_of_the_gradient(subject: Subject, draw: Draw) -> None:
    """Differences of the gradient are integrals of the Hessian, which is symmetric."""
    law = "hessian_is_the_derivative_of_the_gradient"
    start, end = _ends(subject, draw)
    hessian = _array(subject.hessian(start))  # type: ignore[misc]
    _require(hessian.shape == (start.size,) * 2, law, f"must have the shape {(start.size,) * 2}, got {hessian.shape}")
    slant = np.abs(hessian - hessian.T).max()
    _require(slant <= ROUNDING * np.abs(hessian).max(), law, f"must be symmetric, at {start} it is off by {slant}")
    before, after = _array(subject.gradient(start)), _array(subject.gradient(end))
    _difference_is_integral(
        law,
        lambda at: _array(subject.hessian(at)) @ (end - start),  # type: ignore[misc]
        after - before,
        float(np.abs([before, after]).max()),
        (start, end),
    )


def sharpness_is_the_largest_eigenvalue(subject: Subject, draw: Draw) -> None:
    """The sharpness is what linear algebra finds in the Hessian."""
    at = draw(subject.weights)
    eigenvalues = np.linalg.eigvalsh(_array(subject.hessian(at)))  # type: ignore[misc]
    said = float(subject.sharpness(at))  # type: ignore[misc]
    _require(
        abs(said - eigenvalues[-1]) <= ROUNDING * eigenvalues.size * np.abs(eigenvalues).max(),
        "sharpness_is_the_largest_eigenvalue",
        f"at {at} the eigenvalues are {eigenvalues}, the sharpness {said}",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Steps and batches

_rates = st.one_of(st.just(0.0), st.floats(-4, 0).map(lambda power: 10.0**power))


def _stepped(subject: Subject, at: Array, rate: float, batch: tuple[Any, ...]) -> Array:
    return _array(subject.step(at.copy(), rate, *batch))  # type: ignore[misc]


def a_step_is_exact(subject: Subject, draw: Draw) -> None:
    """A step is the weights less the rate times the gradient, and none at all at rate 0."""
    at, rate, slope, batch = draw(subject.weights), draw(_rates), subject.gradient, ()
    if subject.batches is not None and subject.batch_gradient is not None:
        _, one = draw(st.sampled_from(list(subject.batches)))
        batch_gradient = subject.batch_gradient
        batch, slope = (one,), lambda weights: batch_gradient(weights, one)  # type: ignore[assignment]
    gradient = _array(slope(at))
    off = np.abs(_stepped(subject, at, rate, batch) - (at - rate * gradient)).max()
    scale = np.abs(at).max() + rate * np.abs(gradient).max()
    _require(
        off <= (ROUNDING * scale if rate else 0.0),
        "a_step_is_exact",
        f"from {at} at rate {rate}{f' on batch {batch[0]}' if batch else ''} it is off by {off}",
    )


def the_mean_batch_gradient_is_the_gradient(subject: Subject, draw: Draw) -> None:
    """Batches are unbiased."""
    at = draw(subject.weights)
    parts = [p * _array(subject.batch_gradient(at, batch)) for p, batch in subject.batches]  # type: ignore[misc,union-attr]
    gradient, mean = _array(subject.gradient(at)), np.sum(parts, axis=0)
    _require(
        np.abs(mean - gradient).max() <= ROUNDING * np.abs(parts).sum(axis=0).max(),
        "the_mean_batch_gradient_is_the_gradient",
        f"at {at} the mean over batches is {mean}, the gradient {gradient}",
    )


def moments_are_those_of_every_sequence_of_batches(subject: Subject, draw: Draw) -> None:
    """Mean and covariance after a few steps, with every sequence of batches counted at its probability."""
    batches = list(subject.batches)  # type: ignore[arg-type]
    longest = max(1, int(math.log(SEQUENCES) / math.log(max(2, len(batches)))))
    at = draw(subject.weights)
    rates = np.array(draw(st.lists(_rates, min_size=1, max_size=min(3, longest))))
    points, chances = [], []
    for sequence in itertools.product(batches, repeat=rates.size):
        point, chance = at, 1.0
        for rate, (probability, batch) in zip(rates, sequence, strict=True):
            point, chance = _stepped(subject, point, float(rate), (batch,)), chance * probability
        points.append(point)
        chances.append(chance)
    expected = np.average(points, axis=0, weights=chances)
    apart = np.array(points) - expected
    covariance = np.einsum("s,si,sj->ij", chances, apart, apart)
    mean, spread = map(_array, subject.moments(at, rates))  # type: ignore[misc]
    spread_expected = covariance if spread.ndim == 2 else np.diag(covariance)
    scale = np.abs(points).max()
    where = f"from {at} under the rates {rates}"
    law = "moments_are_those_of_every_sequence_of_batches"
    _require(
        np.abs(mean - expected).max() <= ROUNDING * scale,
        law,
        f"{where} the mean is {expected}, the moments say {mean}",
    )
    _require(
        np.abs(spread - spread_expected).max() <= ROUNDING * scale**2,
        law,
        f"{where} the covariance is {spread_expected}, the moments say {spread}",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def _same_bits(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def bits_depend_on_no_chunk_and_no_thread(subject: Subject, draw: Draw) -> None:
    """A run is the same in any company, wherever the replicas are cut, and beside others in other threads."""
    law, run, rates = "bits_depend_on_no_chunk_and_no_thread", subject.run, _array(subject.rates)
    assert run is not None
    whole = _array(run(rates, np.arange(REPLICAS)))
    _require(
        whole.shape[0] == REPLICAS, law, f"must have the {REPLICAS} replicas along the first axis, got {whole.shape}"
    )
    cuts = sorted(draw(st.sets(st.integers(1, REPLICAS - 1), max_size=5)))
    order = np.array(draw(st.permutations(range(REPLICAS))))
    chunks = np.split(order, cuts)
    alone = [_array(run(rates, chunk)) for chunk in chunks]
    _require(
        all(_same_bits(part, whole[chunk]) for part, chunk in zip(alone, chunks, strict=True)),
        law,
        f"cut into {[chunk.tolist() for chunk in chunks]} the runs differ from those of all replicas at once",
    )
    with ThreadPoolExecutor(THREADS) as pool:
        beside = list(pool.map(lambda _: _array(run(rates, np.arange(REPLICAS))), range(THREADS)))
    _require(
        all(_same_bits(part, whole) for part in beside),
        law,
        f"in {THREADS} threads at once the runs differ from one alone",
    )


def divergence_is_a_result(subject: Subject, draw: Draw) -> None:
    """Losses that leave the floats are +inf: no NaN, no warning, no exception."""
    law, run = "divergence_is_a_result", subject.run
    assert run is not None
    replicas = np.array(sorted(draw(st.sets(st.integers(0, 99), min_size=1, max_size=4))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            losses = _array(run(_array(subject.diverging), replicas))
        except Exception as error:
            raise AssertionError(f"{law}: must return what happened, raised {error!r}") from error
    _require(not np.isnan(losses).any(), law, f"the losses must not be NaN, got {losses}")
    _require((losses[..., -1] == math.inf).all(), law, f"the last loss must be +inf, got {losses[..., -1]}")


# ---------------------------------------------------------------------------------------------------------------------
# All of them

# What each law speaks of.
_LAWS: dict[Callable[[Subject, Draw], None], tuple[str, ...]] = {
    gradient_is_the_derivative_of_the_loss: (),
    hessian_is_the_derivative_of_the_gradient: ("hessian",),
    sharpness_is_the_largest_eigenvalue: ("hessian", "sharpness"),
    a_step_is_exact: ("step",),
    the_mean_batch_gradient_is_the_gradient: ("batches",),
    moments_are_those_of_every_sequence_of_batches: ("moments",),
    bits_depend_on_no_chunk_and_no_thread: ("run",),
    divergence_is_a_result: ("diverging",),
}


@dataclass(frozen=True)
class Law:
    """One law of one subject; calling it looks at it, and raises AssertionError with the example where it fails.

    Attributes
    ----------
    subject : Subject
    function : callable
        What draws the examples and looks.
    examples : int
        How many.
    """

    subject: Subject
    function: Callable[[Subject, Draw], None]
    examples: int

    @property
    def name(self) -> str:
        """The law in words joined by underscores."""
        return self.function.__name__

    def __repr__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Look at the law."""

        @settings(
            max_examples=self.examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(st.data())
        def holds(data: st.DataObject) -> None:
            self.function(self.subject, data.draw)

        holds()


def laws(subject: Subject, *, examples: int = 25) -> list[Law]:
    """The laws that a subject can be held to, one by one.

    Parameters
    ----------
    subject : Subject
    examples : int
        How many examples of each are looked at, >= 1.

    Returns
    -------
    list of Law
        For ``pytest.mark.parametrize("law", laws(subject), ids=repr)`` and a test that calls ``law()``.

    Raises
    ------
    ValueError
        If ``examples`` is outside its range.
    """
    examples = integer(1).check("laws", "examples", examples)
    return [Law(subject, function, examples) for function, needs in _LAWS.items() if subject.has(needs)]


def check(subject: Subject, *, examples: int = 25) -> list[str]:
    r"""Hold a subject to all its laws.

    Parameters
    ----------
    subject : Subject
    examples : int
        How many examples of each are looked at, >= 1.

    Returns
    -------
    list of str
        The laws that were looked at.

    Raises
    ------
    AssertionError
        At the first law that fails, with its name and the example.

    Examples
    --------
    A valley :math:`L = \tfrac14 x^4 + y^2`:

    >>> import numpy as np
    >>> from sgdynamics import testing
    >>> valley = testing.Subject(
    ...     testing.vectors(2),
    ...     loss=lambda w: w[0] ** 4 / 4 + w[1] ** 2,
    ...     gradient=lambda w: [w[0] ** 3, 2 * w[1]],
    ...     hessian=lambda w: [[3 * w[0] ** 2, 0], [0, 2]],
    ...     step=lambda w, rate: w - rate * np.array([w[0] ** 3, 2 * w[1]]),
    ... )
    >>> len(testing.check(valley))
    3
    """
    looked_at = laws(subject, examples=examples)
    for law in looked_at:
        law()
    return [law.name for law in looked_at]
