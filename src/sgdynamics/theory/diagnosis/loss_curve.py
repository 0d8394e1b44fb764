r"""What a loss curve says of noise level, exponent and effective rate, and what it does not say."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import gammainc, gammaln, hyp1f1

from sgdynamics.domains import Numeric, checked, complain, one, positive
from sgdynamics.formula import exp, formula, law, log, where
from sgdynamics.logs import in_order
from sgdynamics.logs.axis import StepAxis
from sgdynamics.parameters import Parameter
from sgdynamics.theory.diagnosis._arguments import confidence_level, gappy
from sgdynamics.theory.diagnosis.estimates import BLOCKS, Array, Estimate, block_means, table
from sgdynamics.theory.diagnosis.memory import FEWEST, line

# The search: exponents, and rates in units of one over the longest time.
_EXPONENTS = (0.02, 20.0)
_GRID = 48
_BINS = 64
_CLOSER = 5


@formula(
    exponent=Parameter("k", "of the density of curvatures", positive, 0.7),
    quantity="relative loss",
    status="exact",
    source="derived",
    assumptions=("curvatures with a power-law density up to a sharp top", "small gains", "no noise"),
)
def power_law_relaxation(time: Numeric, exponent: Numeric) -> Numeric:
    r"""Excess risk over its start, where the risk is spread over curvatures :math:`h \le 1` with density :math:`k
    h^{k-1}`.

    .. math:: \int_0^1 k h^{k-1} e^{-ht}\, dh = k\, \gamma(k, t)\, t^{-k} \to \Gamma(k+1)\, t^{-k}

    The time is twice the learning rate times the steps, in units of the inverse of the largest curvature. For
    :math:`h_i = i^{-a}` and a risk :math:`\propto i^{-b}` at the start, :math:`k = (b-1)/a`.

    Returns
    -------
    Numeric
        In (0, 1].

    Examples
    --------
    >>> power_law_relaxation(0.0, 0.5), power_law_relaxation(2.0, 1.0)  # (1 - e^-2)/2
    (1.0, 0.432332...)
    """
    # both forms are sums of positive terms; each is used where it neither overflows nor underflows
    early = time < exponent + 1
    small, large = where(early, time, 0.0), where(early, exponent + 1, time)
    rising = exp(-small) * hyp1f1(1.0, exponent + 1, small)
    falling = gammainc(exponent, large) * exp(gammaln(exponent + 1) - exponent * log(large))
    return where(early, rising, falling)


def _binned(step: Array, loss: Array) -> tuple[Array, Array, Array]:
    """Mean step, mean loss and count of bins that grow with the step: fine while a curve falls, broad once it rests."""
    since = (step - step[0]) / np.diff(step).min()
    edges = np.geomspace(1.0, since[-1] + 1.0, _BINS + 1)
    place = np.searchsorted(edges, since + 1.0, side="right")
    _, place = np.unique(place, return_inverse=True)
    count = np.bincount(place).astype(float)
    return np.bincount(place, step) / count, np.bincount(place, loss) / count, count


class _Profile:
    """Sums of squares on a grid of exponents and rates, the two linear parameters (level, height >= 0) solved for."""

    def __init__(self, step: Array, loss: Array, count: Array, exponent: Array, rate: Array) -> None:
        self.exponent, self.rate = exponent, rate
        shape = power_law_relaxation(rate[None, :, None] * step, exponent[:, None, None])
        weight = count / count.sum()
        self.mean, self.scatter = weight @ loss, weight @ (loss - weight @ loss) ** 2
        self.middle = shape @ weight
        self.size = np.maximum((shape**2) @ weight - self.middle**2, np.finfo(float).tiny)
        self.product = np.maximum(shape @ (weight * (loss - self.mean)), 0.0)  # a height below 0 is no decay
        self.misfit = np.maximum(self.scatter - self.product**2 / self.size, 0.0)
        height = self.product / self.size
        level = self.mean - height * self.middle
        # a level below 0 is no loss: the fit through level 0
        below = level < 0
        through = self._at_level(np.zeros_like(level), shape, weight, loss)
        self.height, self.level = np.where(below, through[1], height), np.where(below, 0.0, level)
        self.misfit = np.where(below, through[0], self.misfit)
        self.total = count.sum()

    def _at_level(self, level: Array, shape: Array, weight: Array, loss: Array) -> tuple[Array, Array]:
        second = (shape**2) @ weight
        first = shape @ (weight * loss) - level * self.middle
        height = np.maximum(first, 0.0) / second
        misfit = (
            weight @ loss**2 - 2 * level * (weight @ loss) + level**2 - 2 * height * first + height**2 * second
        )  # fmt: skip
        return np.maximum(misfit, 0.0), height

    def reach(self, limit: float) -> tuple[Array, Array, Array, Array]:
        """Smallest and largest level and height, on the grid, whose sum of squares stays below the limit."""
        room = np.maximum(limit - self.misfit, 0.0)
        inside = self.misfit <= limit
        steepness = np.sqrt(room / self.size)
        spread = np.sqrt(room * (1 + self.middle**2 / self.size))
        heights = (self.height - steepness, self.height + steepness)
        # without a height there is the mean alone
        flat = self.mean + np.sqrt(max(limit - self.scatter, 0.0))
        highest = np.where(self.height < steepness, np.minimum(self.level + spread, flat), self.level + spread)
        levels = (self.level - spread, highest)
        return tuple(np.maximum(values[inside], 0.0) for values in (*levels, *heights))


def _rise(step: Array, loss: Array, profile: _Profile, confidence: float, room: float) -> float:
    """How far above the least sum of squares an interval goes.

    That of independent bins, or, where the errors remember each other for longer than short bins are, what moves the
    level by the half width of the interval of the mean residual.
    """
    best = np.unravel_index(int(np.argmin(profile.misfit)), profile.misfit.shape)
    shape = power_law_relaxation(profile.rate[best[1]] * step, profile.exponent[best[0]])
    rest = loss - profile.level[best] - profile.height[best] * shape
    blocks = max(min(BLOCKS, rest.size // 2), FEWEST)
    middle = line(block_means(rest, blocks), np.arange(float(blocks)), rest.size // blocks, of="middle")
    independent = (room - 1) * float(profile.misfit[best])
    if middle is None:
        return independent
    low, high = middle.interval(confidence)
    return max(independent, ((high - low) / 2) ** 2)


@law(quantity="report")
@checked(step=StepAxis(), loss=gappy, confidence=one(confidence_level))
def fit_loss_curve(step: Numeric, loss: Numeric, *, confidence: float = 0.95) -> xr.Dataset:
    r"""Noise level, power-law exponent and effective rate of a loss curve, with profile-likelihood intervals.

    .. math:: L(t) = \text{level} + \text{height} \cdot \rho(\text{rate} \cdot t, k)

    with :math:`\rho` of :func:`power_law_relaxation`: the loss at the start lies one height above the level, rate is
    :math:`2 \eta h_\text{max}` and the late decay is :math:`t^{-k}`.

    Needs the loss at steps from the start of a stretch of constant learning rate. From late times alone height and rate
    are one number, from early times alone there is no exponent, from a curve that still falls there is no level:
    intervals then end at infinity, and the quantity is reported as not identifiable.

    Status: heuristic on a network; under the model, exact for small gains. Intervals assume errors of one variance;
    they are widened by what the residuals remember of each other.

    Parameters
    ----------
    step : array, shape (n,)
        Steps (or times, in any unit) since the start, >= 0; put in order by ``logs.in_order``.
    loss : array, shape (n,)
        Losses >= 0 at these steps; masked ones are left out.
    confidence : float
        Of every interval, in (0, 1).

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``lower``, ``upper`` and ``identifiable`` by ``quantity``: ``level``, ``height``, ``exponent``,
        ``rate``; the attribute ``notes`` of what was done to the records.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, lengths disagree or there are fewer than 12 losses.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.arange(2000.0)
    >>> loss = 0.1 + 0.9 * power_law_relaxation(0.2 * step, 0.5)
    >>> loss += 0.002 * np.random.default_rng(0).normal(size=step.size)
    >>> fit_loss_curve(step, loss).identifiable.values
    array([1, 1, 1, 1], dtype=int8)
    """
    from scipy.stats import f as fisher

    owner = "fit_loss_curve"
    steps, losses = np.asarray(step), np.asarray(loss)
    there = ~np.isnan(losses) if steps.shape == losses.shape else np.ones(steps.size, dtype=bool)
    notes: tuple[str, ...] = ()
    if steps.shape == losses.shape and np.ptp(steps[there]) > 0:
        steps, places, notes = in_order(steps[there], loss=losses[there])
        losses = losses[there][places]
    if steps.shape != losses.shape or steps.size < 12:
        raise ValueError(
            f"{owner}: loss must be at least 12 numbers, one for each step, got {losses.size} for {steps.size} steps"
        )
    if steps[0] < 0:
        raise complain(owner, "step", ">= 0", float(steps[0]))
    if (losses < 0).any():
        raise complain(owner, "loss", ">= 0", float(losses.min()))
    middle, mean, count = _binned(steps, losses)
    exponents = np.geomspace(*_EXPONENTS, _GRID)
    smallest_gap = float(np.diff(np.append(0.0, steps[steps > 0])).min())
    rates = np.geomspace(1e-2 / steps[-1], 1e2 / smallest_gap, 2 * _GRID)
    coarse = _Profile(middle, mean, count, exponents, rates)
    freedom = mean.size - 4
    room = 1 + float(fisher.ppf(confidence, 1, freedom)) / freedom
    floor = 1e-24 * float(np.mean(losses**2))  # rounding, where a curve fits exactly

    profile, open_ends = coarse, {}
    for _ in range(_CLOSER):  # look closer at what the data allow, with a margin
        least = float(profile.misfit.min())
        allowed = profile.misfit <= least + 9 * (_rise(steps, losses, profile, confidence, room) + floor)
        spans = []
        for axis, grid in ((1, profile.exponent), (0, profile.rate)):
            found = np.flatnonzero(allowed.any(axis=axis))
            spans.append((grid[max(found[0] - 1, 0)], grid[min(found[-1] + 1, grid.size - 1)]))
        profile = _Profile(middle, mean, count, np.geomspace(*spans[0], _GRID), np.geomspace(*spans[1], 2 * _GRID))
    best = np.unravel_index(int(np.argmin(profile.misfit)), profile.misfit.shape)
    bound = float(profile.misfit.min()) + _rise(steps, losses, profile, confidence, room) + floor
    estimates: dict[str, Estimate] = {}
    lows_level, highs_level, lows_height, highs_height = profile.reach(bound)
    inside = profile.misfit <= bound
    for name, axis, grid, whole in (
        ("exponent", 1, profile.exponent, exponents),
        ("rate", 0, profile.rate, rates),
    ):
        found = np.flatnonzero(inside.any(axis=axis))
        low, high = float(grid[max(found[0] - 1, 0)]), float(grid[min(found[-1] + 1, grid.size - 1)])
        open_ends[name] = (low <= whole[1], high >= whole[-2])
        estimates[name] = Estimate(
            float(grid[best[1 - axis]]),
            -np.inf if open_ends[name][0] else low,
            np.inf if open_ends[name][1] else high,
            {"exponent": "exponent k of the late decay", "rate": "2 learning rate * largest curvature, per step"}[name],
        )
    # height times a power of the rate is what late times show; a level that may vanish is no level
    height_open = any(open_ends["rate"])
    level = (float(lows_level.min()), float(highs_level.max()))
    return table(
        {
            "level": Estimate(
                float(profile.level[best]),
                level[0] if level[0] > 0 else -np.inf,
                level[1],
                "loss that is left, floor and noise together",
            ),
            "height": Estimate(
                float(profile.height[best]),
                float(lows_height.min()),
                np.inf if height_open else float(highs_height.max()),
                "loss above the level at step 0",
            ),
            **estimates,
        },
        confidence=confidence,
    ).assign_attrs(notes="\n".join(notes))
