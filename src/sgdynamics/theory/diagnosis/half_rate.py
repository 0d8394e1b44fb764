r"""Is the loss limited by noise? Where the parabola along a step has its lowest point, and how gradients align.

Along a step :math:`\Delta_t = w_t - w_{t-1}` the expected loss is a parabola through the start and the end of the step.
Where the run is stationary both have the same height, whatever the spectrum and whatever the optimiser, so that the
lowest point lies at half the step. While the run still descends it lies beyond. With fresh batches at both ends the
slopes there are unbiased, whatever the sampling of the run itself, and their ratio says where:

.. math:: \text{vertex} = \frac{s_0}{s_0 - s_1}, \qquad s_0 = \operatorname{E}[g'_t \cdot \Delta_t], \quad
    s_1 = \operatorname{E}[g'_{t+1} \cdot \Delta_t],

with gradients :math:`g'_t` at :math:`w_{t-1}` of batches drawn afresh, which no step of the run has to do with.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked, complain, integer, one, positive
from sgdynamics.formula import law
from sgdynamics.outcome import Outcome
from sgdynamics.theory.diagnosis._arguments import confidence_level, margin_width, matrix, series
from sgdynamics.theory.diagnosis.estimates import BLOCKS, Array, Estimate, block_means, ratio_of_means, table

# Of fresh batches that look as if they were not.
_CHANCE = 1e-3
_VERTEX = "lowest point of the expected loss along a step, as a fraction of the step"


def verdict(vertex: Estimate, margin: float) -> Outcome:
    """What an interval of the vertex says, where ``margin`` around one half counts as balance."""
    if vertex.lower >= 0.5 - margin and vertex.upper <= 0.5 + margin:
        return Outcome.NOISE_LIMITED
    if vertex.lower > 0.5:
        return Outcome.STILL_DESCENDING
    if vertex.upper < 0.5:
        return Outcome.LOSS_RISING
    return Outcome.UNDECIDED


def vertex_of_slopes(before: Array, after: Array, *, blocks: int, confidence: float, seed: int) -> Estimate:
    """From the slopes of fresh batch losses along every step, at its start and at its end."""
    return ratio_of_means(
        before, before - after, blocks=blocks, confidence=confidence, seed=seed, long_name=_VERTEX
    )  # fmt: skip


def vertex_of_trials(
    loss: Array, trial: Array, learning_rate: float, *, blocks: int, confidence: float, seed: int
) -> Estimate:
    """From losses at trial steps along every batch gradient: least squares of a parabola, then the ratio of means."""
    position = trial / learning_rate
    powers = np.vander(position - position.mean(), 3, increasing=True)
    # slope and curvature of every row, as two linear functions of its losses; less the mean, which cancels
    slope, curvature = np.linalg.pinv(powers)[1:] @ (loss - loss.mean(axis=1, keepdims=True)).T
    numerator = 2 * curvature * position.mean() - slope
    return ratio_of_means(
        numerator, 2 * curvature, blocks=blocks, confidence=confidence, seed=seed, long_name=_VERTEX
    )  # fmt: skip


@law(quantity="report")
@checked(
    loss=matrix,
    trial_rate=series,
    learning_rate=one(positive),
    margin=one(margin_width),
    confidence=one(confidence_level),
    blocks=integer(2),
    seed=integer(0),
)
def half_rate_vertex(
    loss: Numeric,
    trial_rate: Numeric,
    learning_rate: float,
    *,
    margin: float = 0.1,
    confidence: float = 0.95,
    blocks: int = BLOCKS,
    seed: int = 0,
) -> xr.Dataset:
    r"""Whether a run is limited by noise, from losses at trial steps along its batch gradients.

    Needs, at many steps of the run, the loss on data that the batch does not hold (training set or held out) after
    trial steps :math:`w_{t-1} - \lambda g_t`, for at least three :math:`\lambda`, 0 one of them for choice.

    Status: exact in expectation where the loss is quadratic along the step and the step is plain SGD; the verdict is
    a test.

    Parameters
    ----------
    loss : array, shape (steps, trials)
        Losses, one row a step, in the order of the run.
    trial_rate : array, shape (trials,)
        :math:`\lambda`.
    learning_rate : float
        :math:`\eta > 0` of the run.
    margin : float
        An interval within this distance of one half counts as balance, in (0, 0.5).
    confidence : float
        Of the interval, in (0, 1).
    blocks : int
        Number of contiguous blocks that the bootstrap draws from, >= 2; fewer than four bound nothing.
    seed : int
        Of the bootstrap.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower``, ``upper`` and ``identifiable`` by ``quantity``, here ``vertex``; ``outcome``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or there are fewer than two steps or three trial rates.

    Examples
    --------
    >>> import numpy as np
    >>> trial = np.array([0.0, 0.1, 0.2])
    >>> losses = 1 + (trial - np.tile([[0.049], [0.05], [0.051]], (20, 1))) ** 2  # a vertex at 0.05, with noise
    >>> half_rate_vertex(losses, trial, 0.1).verdict
    'Noise-limited: descent and noise are in balance; averaging or a lower learning rate helps.'
    """
    losses, trial = np.asarray(loss), np.asarray(trial_rate)
    if losses.shape[1] != trial.size:
        raise ValueError(
            f"half_rate_vertex: trial_rate must have one rate for each of the {losses.shape[1]} columns of loss, "
            f"got {trial.size}"
        )
    if losses.shape[0] < 2:
        raise complain("half_rate_vertex", "loss", "of at least two steps", f"shape {losses.shape}")
    if np.unique(trial).size < 3:
        raise complain("half_rate_vertex", "trial_rate", "at least three different rates", trial.tolist())
    vertex = vertex_of_trials(losses, trial, float(learning_rate), blocks=blocks, confidence=confidence, seed=seed)
    return table({"vertex": vertex}, confidence=confidence, outcome=verdict(vertex, margin))


def cosines(gradient: Array, independent: Array | None, **how: float) -> dict[str, Estimate]:
    """Ratios of expectations, of consecutive gradients and of gradients at one point."""
    size = np.einsum("tp,tp->t", gradient, gradient)
    consecutive = np.einsum("tp,tp->t", gradient[1:], gradient[:-1])
    found = {
        "consecutive_cosine": ratio_of_means(
            consecutive,
            size[1:],
            long_name="cosine of consecutive batch gradients",
            lasting=True,
            **how,  # type: ignore[arg-type]
        )
    }
    if independent is not None:
        found["independent_cosine"] = ratio_of_means(
            np.einsum("tp,tp->t", gradient, independent),
            size,
            long_name="cosine of gradients of two batches at one point",
            lasting=True,
            **how,  # type: ignore[arg-type]
        )
    return found


@law(quantity="report")
@checked(
    gradient=matrix,
    independent_gradient=matrix,
    margin=one(margin_width),
    confidence=one(confidence_level),
    blocks=integer(2),
    seed=integer(0),
)
def gradient_cosines(
    gradient: Numeric,
    independent_gradient: Numeric,
    *,
    margin: float = 0.1,
    confidence: float = 0.95,
    blocks: int = BLOCKS,
    seed: int = 0,
) -> xr.Dataset:
    r"""Whether a run of plain SGD is limited by noise, from its batch gradients alone.

    Needs the gradients :math:`g_t` of consecutive steps, and at the same points those of one more batch each, drawn
    afresh from all examples. The vertex rests on these alone, so that the run itself may draw its batches in any way,
    without replacement too. Where it draws them independently and is stationary, the cosine of consecutive gradients is
    the negative of that of two batches at one point (:math:`- x/2` and :math:`x/2` at gain :math:`x`), for every
    spectrum; where they are seen not to be independent, ``notes`` say so.

    Status: exact in expectation for a quadratic loss and plain SGD at a constant learning rate, averaged over whole
    epochs where batches are reshuffled; cosines are ratios of expectations. The verdict is a test.

    Parameters
    ----------
    gradient : array, shape (steps, parameters)
        Batch gradients of consecutive steps, each at the weights before its step.
    independent_gradient : array, shape (steps, parameters)
        Gradients at the same weights, of batches drawn independently of the run and of each other.
    margin, confidence, blocks, seed
        As for :func:`half_rate_vertex`.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower``, ``upper`` and ``identifiable`` by ``quantity``: ``vertex``, ``consecutive_cosine``,
        ``independent_cosine``; ``outcome``; the attribute ``notes``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, shapes disagree or there are fewer than three steps.

    Examples
    --------
    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> error, rows = np.zeros(400), []
    >>> for _ in range(300):  # curvature 1, learning rate 0.5, from its stationary law
    ...     taken, other = error - random.normal(size=(2, 400))
    ...     rows.append((taken, other))
    ...     error = error - 0.5 * taken
    >>> gradients, others = np.moveaxis(rows[50:], 1, 0)
    >>> gradient_cosines(gradients, others).estimate.values.round(2)
    array([ 0.5 , -0.25,  0.25])
    """
    taken, other = np.asarray(gradient), np.asarray(independent_gradient)
    if taken.shape != other.shape:
        raise ValueError(
            f"gradient_cosines: independent_gradient must have the shape of gradient, {taken.shape}, got {other.shape}"
        )
    if taken.shape[0] < 3:
        raise complain("gradient_cosines", "gradient", "at least three consecutive steps", f"shape {taken.shape}")
    how = {"blocks": blocks, "confidence": confidence, "seed": seed}
    vertex = vertex_of_slopes(*slopes(-taken, other), **how)  # type: ignore[arg-type]
    found = {"vertex": vertex, **cosines(taken, other, **how)}
    data = table(found, confidence=confidence, outcome=verdict(vertex, margin))
    return data.assign_attrs(notes=sampling_note(-taken, taken, other, blocks))


def slopes(displacement: Array, independent: Array) -> tuple[Array, Array]:
    """Slopes of fresh batch losses along every step but the last, at its start and at its end."""
    before = np.einsum("tp,tp->t", independent[:-1], displacement[:-1])
    after = np.einsum("tp,tp->t", independent[1:], displacement[:-1])
    return before, after


def sampling_note(displacement: Array, gradient: Array, independent: Array, blocks: int) -> str:
    """What the batch of the next step knows of a step, which one drawn afresh does not; empty where it is nothing."""
    from scipy.stats import ttest_1samp

    known = np.einsum("tp,tp->t", gradient[1:] - independent[1:], displacement[:-1])
    means = block_means(known, min(blocks, known.size))
    if means.size < 3 or not np.ptp(means) or ttest_1samp(means, 0.0).pvalue > _CHANCE:
        return ""
    return (
        "Batches of consecutive steps are not independent, as when an epoch goes through all examples: slopes and the "
        "vertex use the independent gradients alone, and hold; consecutive gradients align otherwise than of fresh "
        "batches."
    )
