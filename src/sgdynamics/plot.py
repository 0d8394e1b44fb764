"""Pictures of what the library returns, in one call each: ``pip install "sgdynamics[plot]"``.

Every function draws into the axes that it is given, or makes a figure, and returns the axes. Matplotlib is imported
when the first picture is drawn, here and nowhere else in the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sgdynamics.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["forecast", "outcomes", "schedule", "spectrum"]

# One colour an outcome wherever it is drawn, told apart by the colour-blind too.
_COLORS = {
    Outcome.STABLE: "#56B4E9",
    Outcome.MARGINAL: "#F0E442",
    Outcome.DIVERGED: "#4D4D4D",
    Outcome.REACHED: "#009E73",
    Outcome.NEVER_REACHED: "#D55E00",
    Outcome.EQUIVALENT: "#009E73",
    Outcome.EQUIVALENT_OUTSIDE_UNIT_INTERVAL: "#E69F00",
    Outcome.NOT_EQUIVALENT: "#D55E00",
    Outcome.MONOTONE: "#0072B2",
    Outcome.LOSS_CATAPULT: "#56B4E9",
    Outcome.LOSS_AND_SHARPNESS_CATAPULT: "#E69F00",
    Outcome.PERIODIC: "#009E73",
    Outcome.CHAOTIC: "#CC79A7",
    Outcome.CONVERGED: "#0072B2",
    Outcome.UNSETTLED: "#F0E442",
    Outcome.NOISE_LIMITED: "#0072B2",
    Outcome.STILL_DESCENDING: "#009E73",
    Outcome.LOSS_RISING: "#D55E00",
    Outcome.UNDECIDED: "#BBBBBB",
    Outcome.EDGE_REACHED: "#D55E00",
    Outcome.EDGE_NOT_REACHED: "#0072B2",
    Outcome.STALLED_BELOW_EDGE: "#E69F00",
}


def outcomes(diagram: xr.Dataset | xr.DataArray, *, ax: Axes | None = None) -> Axes:
    """A map of outcomes, each in its colour and named in the legend.

    Parameters
    ----------
    diagram : Dataset or DataArray
        A result with a variable ``outcome`` (or ``majority``) over two dims, or that variable. What has a dim of
        networks is summarised first: ``over_seeds(diagram)``.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If there are no outcomes, or not two dims of them.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdynamics.simulate.uv import over_seeds, phase_diagram
    >>> diagram = phase_diagram(np.linspace(0.5, 4.5, 9), [8, 64], steps=100, seeds=5)
    >>> axes = outcomes(over_seeds(diagram))
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('c', 'width')
    """
    values = _outcomes_of(diagram)
    across, up = map(str, reversed(_with_width_up(values).dims))
    values = values.transpose(up, across)
    found = [Outcome(int(code)) for code in np.unique(values)]
    places = np.searchsorted([int(outcome) for outcome in found], values.values)

    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    axes = _axes(ax)
    colors = [_COLORS[outcome] for outcome in found]
    norm = BoundaryNorm(np.arange(len(found) + 1) - 0.5, max(len(found), 1))
    axes.pcolormesh(_edges(values[across]), _edges(values[up]), places, cmap=ListedColormap(colors), norm=norm)
    axes.set(xlabel=across, ylabel=up)
    for name, scale in ((across, axes.set_xscale), (up, axes.set_yscale)):
        if _is_geometric(values[name].values):
            scale("log")
    names = [outcome.name.lower().replace("_", " ") for outcome in found]
    patches = [Patch(color=color, label=name) for color, name in zip(colors, names, strict=True)]
    axes.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return axes


def schedule(schedules: Any, *, ax: Axes | None = None) -> Axes:
    """Learning rates by step.

    Parameters
    ----------
    schedules : array, DataArray, or mapping of names to arrays
        One schedule, or several with names for the legend.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from sgdynamics.models import schedules
    >>> axes = schedule({"linear": schedules.linear(0.1, 100), "cosine": schedules.cosine(0.1, 100)})
    >>> axes.get_ylabel()
    'learning rate'
    """
    named = schedules if isinstance(schedules, Mapping) else {None: schedules}
    axes = _axes(ax)
    for name, rates in named.items():
        values = np.asarray(rates)
        if values.ndim != 1 or not values.size:
            raise ValueError(f"schedule: schedules must be schedules, 1-D and not empty, got shape {values.shape}")
        axes.step(np.arange(values.size + 1), np.append(values[:1], values), label=name)
    axes.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    if None not in named:
        axes.legend(frameon=False)
    return axes


def spectrum(source: Any, *, ax: Axes | None = None) -> Axes:
    """How many directions have at least a given curvature, both in logarithms.

    Parameters
    ----------
    source : model, Dataset or array
        What has ``curvature`` and ``multiplicity`` (a mini-batch quadratic, the result of ``read_spectrum``), what has
        ``values`` (Hessian eigenvalues), or an array of eigenvalues. Those <= 0 cannot be drawn and are left out.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from sgdynamics.models.quadratic import MiniBatchQuadratic
    >>> axes = spectrum(MiniBatchQuadratic.power_law(1000, 1.2, 1.1))
    >>> axes.get_xscale()
    'log'
    """
    curvature = np.ravel(getattr(source, "curvature", getattr(source, "values", source)))
    if curvature.dtype.kind not in "iuf":
        raise ValueError(f"spectrum: source must have curvatures, or be an array of eigenvalues, got {source!r}")
    multiplicity = np.broadcast_to(np.ravel(getattr(source, "multiplicity", 1.0)), curvature.shape)
    order = np.argsort(curvature)[::-1]
    order = order[curvature[order] > 0]
    if not order.size:
        raise ValueError("spectrum: source must have a curvature > 0, got none")
    axes = _axes(ax)
    axes.plot(curvature[order], np.cumsum(multiplicity[order]), marker="o", markersize=3, drawstyle="steps-post")
    axes.set(xscale="log", yscale="log", xlabel="curvature", ylabel="directions of at least this curvature")
    return axes


def forecast(
    foretold: xr.Dataset | Mapping[str, xr.Dataset],
    runs: Iterable[tuple[Any, Any, Any]] = (),
    *,
    ax: Axes | None = None,
) -> Axes:
    """Losses that are foretold, with their intervals, beside the runs that they were fitted to.

    Parameters
    ----------
    foretold : Dataset or mapping of names to Datasets
        From ``theory.forecast.predict``.
    runs : iterable of (schedule, step, loss)
        As ``theory.forecast.fit`` takes them.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes
    """
    named = {"forecast": foretold} if isinstance(foretold, xr.Dataset) else foretold
    axes = _axes(ax)
    lowest, highest = np.inf, -np.inf
    for place, (_, step, loss) in enumerate(runs):
        axes.plot(step, loss, color="0.6", lw=1, label=None if place else "runs that were fitted")
        lowest = min(lowest, float(np.min(loss[len(loss) // 4 :])))
        highest = max(highest, float(loss[len(loss) // 10]))
    for place, (name, one) in enumerate(named.items()):
        color = f"C{place}"
        if one.sizes["step"] == 1:
            reach = np.stack([one.loss - one.loss_low, one.loss_high - one.loss])
            axes.errorbar(one.step, one.loss, reach, fmt="o", capsize=3, color=color, label=name)
        else:
            axes.fill_between(one.step, one.loss_low, one.loss_high, color=color, alpha=0.25, lw=0)
            axes.plot(one.step, one.loss, color=color, label=name)
        lowest = min(lowest, float(one.loss_low[-1]))
        highest = max(highest, float(one.loss[one.sizes["step"] // 10]))
    room = 0.05 * (highest - lowest)
    axes.set(xlabel="step", ylabel="loss", ylim=(lowest - room, highest + room))
    axes.legend(frameon=False)
    return axes


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _outcomes_of(diagram: xr.Dataset | xr.DataArray) -> xr.DataArray:
    if isinstance(diagram, xr.Dataset):
        name = next((name for name in ("outcome", "majority") if name in diagram), None)
        if name is None:
            raise ValueError(f"outcomes: diagram must have a variable 'outcome', got {list(diagram.data_vars)}")
        diagram = diagram[name]
    if diagram.ndim != 2:
        hint = "; summarise networks by over_seeds first" if "seed" in diagram.dims else ""
        raise ValueError(f"outcomes: diagram must have two dims, got {list(diagram.dims)}{hint}")
    return diagram


def _with_width_up(values: xr.DataArray) -> xr.DataArray:
    """Learning rates go across, whatever else there is goes up."""
    rates = [name for name in values.dims if name in ("c", "learning_rate", "rate")]
    return values.transpose(..., *rates[:1])


def _edges(coordinate: xr.DataArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Ends of the cells around the values, in the logarithm where these are even in it."""
    values = np.asarray(coordinate.values, dtype=float)
    if values.size == 1:
        return np.asarray([values[0] - 0.5, values[0] + 0.5])
    if _is_geometric(values):
        return np.asarray(np.exp(_edges(coordinate.copy(data=np.log(values)))))
    inner = (values[1:] + values[:-1]) / 2
    return np.asarray([2 * values[0] - inner[0], *inner, 2 * values[-1] - inner[-1]])


def _is_geometric(values: np.ndarray[Any, Any]) -> bool:
    values = np.asarray(values, dtype=float)
    if values.size < 2 or (values <= 0).any():
        return False
    even, even_logs = np.ptp(np.diff(values)), np.ptp(np.diff(np.log(values)))
    return bool(even_logs / abs(np.log(values[-1] / values[0])) < even / abs(values[-1] - values[0]))
