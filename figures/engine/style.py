"""One look for all figures: theory is a line, measurement is points with bars of one standard error.

The runner draws every figure inside ``style()``; a figure says only how many panels it has and what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

# Widths in inches of one and of two columns of a paper.
SINGLE = 3.4
DOUBLE = 7.0


@contextmanager
def style() -> Iterator[None]:
    """The common look, for as long as the block lasts."""
    with plt.style.context(Path(__file__).with_name("sgdynamics.mplstyle")), mpl.rc_context({"backend": "Agg"}):
        yield


def panels(
    rows: int = 1, columns: int = 1, *, width: float = SINGLE, height: float | None = None, **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes.

    Parameters
    ----------
    rows, columns : int
        How many panels.
    width : float
        ``SINGLE`` or ``DOUBLE``, in inches.
    height : float, optional
        In inches; by default three quarters of a panel's width for each row.
    **options : Any
        For ``pyplot.subplots``, such as ``sharex``.

    Returns
    -------
    tuple
        The figure, and one Axes or an array of them, as from ``pyplot.subplots``.
    """
    size = (width, height if height is not None else 0.75 * rows * width / columns)
    return plt.subplots(rows, columns, figsize=size, **options)


def theory_line(
    axes: Axes, x: ArrayLike, y: ArrayLike, *, label: str | None = None, color: str | None = None, **options: Any
) -> Line2D:
    """Draw what theory says: a line, over the points.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    x, y : array_like
        One line.
    label : str, optional
        Its name in the legend.
    color : str, optional
        One of the palette; the next one by default.
    **options : Any
        For ``Axes.plot``, such as ``linestyle`` for a second theory.
    """
    (line,) = axes.plot(x, y, label=label, color=color, **({"zorder": 3} | options))
    return line


def measured_points(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    standard_error: ArrayLike | None = None,
    *,
    label: str | None = None,
    color: str | None = None,
    **options: Any,
) -> ErrorbarContainer:
    """Draw what was measured: open points, with bars of one standard error where there is one.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    x, y : array_like
        The points.
    standard_error : array_like, optional
        Of ``y``.
    label : str, optional
        Their name in the legend.
    color : str, optional
        One of the palette, that of the line they belong to; the next one by default.
    **options : Any
        For ``Axes.errorbar``, such as ``marker`` for a second measurement.
    """
    look: dict[str, Any] = {
        "marker": "o",
        "linestyle": "none",
        "markerfacecolor": "white",
        "elinewidth": 0.8,
        "zorder": 2.5,
    }
    return axes.errorbar(x, y, yerr=standard_error, label=label, color=color, **(look | options))


def compared(
    axes: Axes,
    data: xr.Dataset,
    name: str,
    *,
    color: str,
    label: str | None = None,
    marker: str | None = None,
    scale: float = 1.0,
    **options: Any,
) -> None:
    """Draw theory and measurement of one quantity, each along the one dim that it has.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    data : Dataset
        Holds the line ``x``, the points ``x_measured`` and, where there are any, their bars ``x_standard_error``.
    name : str
        The quantity x.
    color, label : str
        The colour of both; the name of the line in the legend.
    marker : str, optional
        Of the points, where their look tells them apart; the name is theirs then.
    scale : float
        What all are multiplied by.
    **options : Any
        For the line, such as ``linestyle``.
    """
    line, points, error = data[name], data[f"{name}_measured"], data.get(f"{name}_standard_error")
    of_line, of_points = (label, None) if marker is None else (None, label)
    theory_line(axes, line[line.dims[0]], scale * line, color=color, label=of_line, **options)
    bars, place = None if error is None else scale * error, points[points.dims[0]]
    measured_points(axes, place, scale * points, bars, color=color, label=of_points, marker=marker or "o")


def theory_strokes(
    axes: Axes,
    values: ArrayLike,
    *,
    sideways: bool = False,
    before: float = 0.35,
    after: float = 0.35,
    label: str | None = None,
    **options: Any,
) -> None:
    """Draw what theory says of a list of cases: a stroke each, at 0, 1, 2, ...

    Parameters
    ----------
    axes : Axes
        Where to draw.
    values : array_like
        One for each case; what is not finite has no stroke.
    sideways : bool
        Whether the cases are below each other, and the values along x.
    before, after : float
        How far a stroke reaches to either side of its case.
    label : str, optional
        The name of all in the legend.
    **options : Any
        For ``theory_line``, such as ``color``.
    """
    for place, value in enumerate(np.asarray(values)):
        if np.isfinite(value):
            along, across = [place - before, place + after], [value, value]
            x, y = (across, along) if sideways else (along, across)
            theory_line(axes, x, y, label=label, **options)
            label = None


def ticks(axis: Axis, places: ArrayLike) -> None:
    """Label an axis, linear or logarithmic, at these places and nowhere else, by plain numbers."""
    numbers = np.asarray(places).tolist()
    axis.set_ticks(numbers, labels=[f"{number:g}" for number in numbers])
    axis.set_minor_locator(NullLocator())
