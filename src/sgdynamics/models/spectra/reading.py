"""Curvatures and multiplicities out of what other packages export, and the model on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked, choice, complain, count, integer, nonnegative, optional, positive, real
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.spectra.parts import KINDS, Array, Source, guessed_kind, parts_of

_source = Source()


@checked(
    source=_source,
    kind=optional(choice(*KINDS)),
    dimension=optional(positive),
    smallest=optional(positive),
    unknown=integer(0),
    bins=optional(integer(1)),
)
def read_spectrum(
    source: Any,
    *,
    kind: str | None = None,
    dimension: float | None = None,
    smallest: float | None = None,
    unknown: int = 0,
    bins: int | None = None,
) -> xr.Dataset:
    r"""Curvatures and their multiplicities, from a file or from arrays.

    Parameters
    ----------
    source : path, array, or pair of arrays
        A ``.csv`` or ``.txt`` file, a ``.npy`` file, a ``.npz`` file with named arrays, an array of eigenvalues, or a
        pair of eigenvalues and what stands beside them. Text has one row a mode, cells divided by commas, semicolons,
        tabs or blanks, and is a bare column or has headings, which may be a comment as ``numpy.savetxt`` writes them.
        Eigenvectors (a second array with one axis more, or with another name) are passed over. Pickled arrays are
        refused.
    kind : {"eigenvalues", "weights", "density", "multiplicities"}, optional
        What the numbers beside the eigenvalues are. None: by their name in a file, otherwise weights if every row sums
        to 1, and a density if the grid increases and the integral is 1.
    dimension : float, optional
        Number of parameters :math:`d`: weights and densities are of one direction, and are multiplied by it. None
        leaves them at a total of 1, an average direction.
    smallest : float, optional
        Eigenvalues below it are dropped, the negative ones among them. None refuses eigenvalues <= 0.
    unknown : int
        With ``dimension``, of the eigenvalues alone: spread the directions whose curvature was not measured (or was
        dropped) over this many modes between ``smallest`` and the smallest eigenvalue kept, evenly in the logarithm. 0
        leaves them out, as flat.
    bins : int, optional
        Gather the modes in this many bins, even in the logarithm; multiplicities add up, and the curvature of a bin is
        its mean, so that the trace stays.

    Returns
    -------
    xarray.Dataset
        ``curvature`` and ``multiplicity`` along ``mode``, from the smallest curvature up. Attributes
        ``dropped_multiplicity`` and ``dropped_trace`` of what lay below ``smallest``, and ``kind``.

    Raises
    ------
    ValueError, TypeError
        If there are eigenvalues <= 0 and no ``smallest``, nothing is left, the kind cannot be told, or the numbers do
        not fit together.

    Notes
    -----
    A quadrature of few Lanczos steps, and a density smoothed by bumps, place weight where no eigenvalue is; near 0 they
    say little.

    Examples
    --------
    >>> spectrum = read_spectrum([-0.01, 0.002, 0.5, 2.0], smallest=0.1)
    >>> spectrum.curvature.values, spectrum.dropped_multiplicity
    (array([0.5, 2. ]), 2.0)
    >>> runs = ([[0.1, 1.0], [0.2, 1.2]], [[0.9, 0.1], [0.8, 0.2]])  # two Lanczos runs
    >>> read_spectrum(runs, dimension=1000).multiplicity.values
    array([450., 400.,  50., 100.])
    """
    owner = "read_spectrum"
    values, beside, named = parts_of(owner, source)
    kind = kind or named or guessed_kind(owner, values, beside)
    if (beside is None) != (kind == "eigenvalues"):
        raise complain(owner, "kind", "'eigenvalues' if and only if there is nothing beside them", kind)
    multiplicity = _multiplicity(owner, kind, values, beside, dimension)
    curvature, multiplicity = values.ravel(), multiplicity.ravel()
    order = np.argsort(curvature, kind="stable")
    curvature, multiplicity = curvature[order], multiplicity[order]
    curvature, multiplicity = curvature[multiplicity > 0], multiplicity[multiplicity > 0]
    bad = curvature <= 0
    if smallest is None and bad.any():
        share = float(multiplicity[bad].sum() / multiplicity.sum())
        raise complain(
            owner,
            "smallest",
            f"given where eigenvalues are <= 0 (here {int(bad.sum())} of them, {share:.3g} of the multiplicity, down "
            f"to {float(curvature[0]):.3g}): a curvature > 0 below which they are dropped",
            None,
        )
    kept = ~bad if smallest is None else curvature >= smallest
    if not kept.any():
        raise complain(owner, "smallest", f"at most the largest eigenvalue {float(curvature.max())!r}", smallest)
    dropped = {
        "dropped_multiplicity": float(multiplicity[~kept].sum()),
        "dropped_trace": float(curvature[~kept] @ multiplicity[~kept]),
    }
    curvature, multiplicity = curvature[kept], multiplicity[kept]
    if unknown:
        curvature, multiplicity = _with_prior(owner, kind, curvature, multiplicity, dimension, smallest, unknown)
    if bins is not None:
        curvature, multiplicity = _binned(curvature, multiplicity, bins)
    return xr.Dataset(
        {
            "curvature": ("mode", curvature, {"long_name": "curvature", "units": "1"}),
            "multiplicity": ("mode", multiplicity, {"long_name": "number of directions", "units": "1"}),
        },
        attrs={"kind": kind, "source": str(source) if isinstance(source, Path) else "arrays", **dropped},
    )


def _multiplicity(owner: str, kind: str, values: Array, beside: Array | None, dimension: float | None) -> Array:
    if beside is None:
        return np.ones_like(values)
    if beside.shape != values.shape:
        raise complain(owner, "source", f"two arrays of one shape, {values.shape}", beside.shape)
    if (beside < 0).any():
        raise complain(owner, "source", f"eigenvalues with {kind} >= 0", float(beside.min()))
    if not beside.any():
        raise complain(owner, "source", f"eigenvalues with some {kind} > 0", 0.0)
    if kind == "multiplicities":
        return beside
    if kind == "density":
        if values.ndim != 1 or values.size < 2 or (np.diff(values) <= 0).any():
            raise complain(owner, "source", "an increasing grid of at least 2 points beside a density", values.tolist())
        spacing = np.diff(values)
        beside = beside * (np.append(spacing, 0.0) + np.append(0.0, spacing)) / 2  # the trapezoidal rule
    made: Array = beside / beside.sum() * (1.0 if dimension is None else dimension)
    return made


def _with_prior(
    owner: str,
    kind: str,
    curvature: Array,
    multiplicity: Array,
    dimension: float | None,
    smallest: float | None,
    modes: int,
) -> tuple[Array, Array]:
    """Directions that were not measured, even in the logarithm below the smallest curvature that was."""
    if kind not in ("eigenvalues", "multiplicities"):
        raise complain(owner, "unknown", f"0 for {kind}, which cover every direction", modes)
    if dimension is None or smallest is None:
        name, value = ("dimension", dimension) if dimension is None else ("smallest", smallest)
        raise complain(owner, name, "given where unknown > 0", value)
    left = float(dimension - multiplicity.sum())
    if left <= 0:
        raise complain(owner, "dimension", f"larger than the {multiplicity.sum():g} eigenvalues kept", dimension)
    edges = np.geomspace(smallest, curvature[0], modes + 1)
    prior = np.sqrt(edges[1:] * edges[:-1])
    return np.append(prior, curvature), np.append(np.full(modes, left / modes), multiplicity)


def _binned(curvature: Array, multiplicity: Array, bins: int) -> tuple[Array, Array]:
    logs = np.log(curvature)
    width = max(logs[-1] - logs[0], np.finfo(float).tiny)
    place = np.minimum((bins * (logs - logs[0]) / width).astype(int), bins - 1)
    counts: Array = np.bincount(place, multiplicity, bins).astype(np.float64)
    trace = np.bincount(place, multiplicity * curvature, bins)
    filled = counts > 0
    return trace[filled] / counts[filled], counts[filled]


@checked(
    source=_source,
    kind=optional(choice(*KINDS)),
    dimension=optional(positive),
    smallest=optional(positive),
    unknown=integer(0),
    bins=optional(integer(1)),
    center_variance=optional(nonnegative),
    displacement=real,
    batch_size=count,
)
def quadratic_from_spectrum(
    source: Any,
    *,
    kind: str | None = None,
    dimension: float | None = None,
    smallest: float | None = None,
    unknown: int = 0,
    bins: int | None = None,
    center_variance: float | None = None,
    displacement: float = 0.0,
    batch_size: Numeric = 1,
) -> MiniBatchQuadratic:
    r"""A mini-batch quadratic on a measured spectrum.

    Parameters
    ----------
    source, kind, dimension, smallest, unknown, bins
        As for :func:`read_spectrum`.
    center_variance : float, optional
        Of every direction at batch size 1. None: :math:`1/h`, gradient noise of covariance :math:`H`, which near a
        minimum of a log-likelihood is the noise of one example.
    displacement : float
        Start of every direction.
    batch_size : Numeric
        >= 1.

    Returns
    -------
    MiniBatchQuadratic

    Raises
    ------
    ValueError, TypeError
        As for :func:`read_spectrum`.

    Examples
    --------
    >>> model = quadratic_from_spectrum(([0.1, 1.0], [90, 10]), kind="multiplicities")
    >>> model.multiplicity, model.center_variance
    (array([90., 10.]), array([10.,  1.]))
    """
    spectrum = read_spectrum(source, kind=kind, dimension=dimension, smallest=smallest, unknown=unknown, bins=bins)
    curvature = spectrum.curvature.values
    return MiniBatchQuadratic(
        curvature,
        1 / curvature if center_variance is None else center_variance,
        multiplicity=spectrum.multiplicity.values,
        displacement=displacement,
        batch_size=batch_size,
    )
