r"""How a recorded run relates to the laws: ratios of sums over steps, never means of ratios.

The slope along a sharp direction crosses zero again and again, and with it every ratio of a single step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import sgdynamics
from sgdynamics.domains import Domain, Numeric, checked, complain, instance_of, integer, positive, swept
from sgdynamics.formula import law
from sgdynamics.theory.sharpest_directions.parabola import increases, overshoots

Array = NDArray[np.float64]

_STEPWISE = ("gradient_projection", "curvature", "projection_second_moment")
_BATCHES = "batch_projection"


class _Word:
    text = "the name of a dimension"

    def check(self, owner: str, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise complain(owner, name, self.text, value, TypeError)
        return value


_word: Domain = _Word()


def _finite(owner: str, data: xr.Dataset, names: tuple[str, ...]) -> None:
    for name in names:
        if not np.isfinite(data[name]).all():
            text = f"a run without overflow; choose the steps before the divergence, {name} must be finite"
            raise complain(owner, "data", text, "infinite or NaN")


def _blocks(sums: xr.DataArray, dim: str, blocks: int) -> Array:
    """Sums over contiguous blocks of steps, along the first axis; lengths differ by one step at most."""
    values = sums.transpose(dim, ...).values
    starts = np.arange(blocks) * values.shape[0] // blocks
    return np.asarray(np.add.reduceat(values, starts, axis=0), dtype=np.float64)


def _ratio(above: xr.DataArray, below: xr.DataArray, dim: str, blocks: int) -> tuple[xr.DataArray, xr.DataArray]:
    """The ratio of the sums over steps, and its standard error over blocks by the delta method."""
    above, below = xr.broadcast(above.astype(float), below.astype(float))
    top, bottom = _blocks(above, dim, blocks), _blocks(below, dim, blocks)
    total = bottom.sum(axis=0)
    value = top.sum(axis=0) / total
    spread = ((top - value * bottom) ** 2).sum(axis=0) * blocks / (blocks - 1)
    like = above.transpose(dim, ...).isel({dim: 0}, drop=True)
    return like.copy(data=value), like.copy(data=np.sqrt(spread) / np.abs(total))


@law(quantity="report")
@checked(data=instance_of(xr.Dataset), learning_rate=swept(positive), blocks=integer(2), dim=_word)
def step_to_curvature(
    data: xr.Dataset, learning_rate: Numeric, *, blocks: int = 10, dim: str = "measured_step"
) -> xr.Dataset:
    r"""How the steps of a run compare with the parabola of the loss along given directions.

    .. math:: \hat A = \frac{\sum_t \bar g_t^2}{\sum_t \eta\lambda_t\,E q_t^2}

    is 1/2 at stationarity, at every gain; so is the share of steps that raise the loss. The share that overshoots
    follows :func:`overshoot_probability` of the gain.

    Status: exact, of the given numbers.

    Parameters
    ----------
    data : Dataset
        ``gradient_projection``, ``curvature`` and ``projection_second_moment`` along ``dim``, as
        ``simulate.trainer.projected_steps`` measures them along a run. Where it has ``batch_projection`` with a dim
        ``draw``, overshoots and increases are counted over steps and draws. Other dims, such as ``direction``, stay.
    learning_rate : Numeric
        :math:`\eta > 0`, a number or a DataArray, for instance along ``dim``.
    blocks : int
        Contiguous blocks of steps, >= 2, over which standard errors are taken; each should outlast the memory of the
        run, a few times :math:`1/(\eta\lambda)` steps.
    dim : str
        The dimension of the steps.

    Returns
    -------
    Dataset
        ``mean_minimiser`` :math:`\hat A`, ``gain`` (mean of :math:`\eta\lambda`), and with batches
        ``increase_probability`` and ``overshoot_probability``; each with ``..._standard_error``. A direction without
        any slope has the minimiser NaN, one of no curvature in sum an infinite one.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, a variable or the dimension is missing, there are fewer steps than blocks,
        or a number is not finite because the run diverged.

    Examples
    --------
    Two steps of gradient descent on a parabola of curvature 4:

    >>> import xarray as xr
    >>> slope = xr.DataArray([1.0, -1.0], dims="measured_step")
    >>> run = xr.Dataset(
    ...     {"gradient_projection": slope, "curvature": 4 + 0 * slope, "projection_second_moment": slope**2}
    ... )
    >>> found = step_to_curvature(run, 0.5, blocks=2)
    >>> found.mean_minimiser.item(), found.gain.item()
    (0.5, 2.0)
    """
    owner = "step_to_curvature"
    missing = [name for name in _STEPWISE if name not in data]
    if missing:
        raise complain(owner, "data", f"a Dataset with {', '.join(_STEPWISE)}", f"one without {', '.join(missing)}")
    if any(dim not in data[name].dims for name in _STEPWISE):
        raise complain(owner, "dim", "a dimension of every variable of the data", dim)
    steps = data.sizes[dim]
    if steps < blocks:
        raise complain(owner, "blocks", f"at most the number of steps, {steps}", blocks)
    batches = data[_BATCHES] if _BATCHES in data and "draw" in data[_BATCHES].dims else None
    _finite(owner, data, (*_STEPWISE, *(() if batches is None else (_BATCHES,))))
    slope, curvature, square = (data[name] for name in _STEPWISE)
    gain = learning_rate * curvature
    one = xr.ones_like(slope)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {
            "mean_minimiser": (slope**2, gain * square, "mean minimiser, ratio of sums over steps"),
            "gain": (gain, one, "mean of learning rate times curvature"),
        }
        if batches is not None:
            at = (learning_rate, curvature, slope, batches)
            risen, passed = increases(*at).mean("draw"), overshoots(*at).mean("draw")
            ratios |= {
                "increase_probability": (risen, one, "share of steps that raise the loss along the direction"),
                "overshoot_probability": (passed, one, "share of steps past the least loss along the direction"),
            }
        made = {}
        for name, (above, below, text) in ratios.items():
            value, error = _ratio(above, below, dim, blocks)
            made[name] = value.assign_attrs(long_name=text, units="1")
            made[f"{name}_standard_error"] = error.assign_attrs(long_name=f"standard error of the {text}", units="1")
    attributes = {"source": "jastrzebski2018", "blocks": float(blocks), "version": sgdynamics.__version__}
    return xr.Dataset(made, attrs=attributes)
