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
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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
