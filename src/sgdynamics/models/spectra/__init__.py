r"""Measured spectra of curvature, from files and arrays of other packages, as modes of a model.

Packages export eigenvalues in four shapes, all of which :func:`read_spectrum` takes:

=====================================  ===========================================================================
what                                   for instance
=====================================  ===========================================================================
eigenvalues                            ``numpy.linalg.eigvalsh``; the top ones, with vectors or without, of
                                       hessian-eigenthings and PyHessian
eigenvalues and quadrature weights     PyHessian ``density()``: one row a Lanczos run, whose weights sum to 1
a density on a grid                    curvlinops ``lanczos_approximate_spectrum``: integrates to 1
eigenvalues and multiplicities         counts, a binned spectrum
=====================================  ===========================================================================

A measured Hessian has eigenvalues <= 0, and many near 0 that are noise of the measurement: which of them to believe
is for the caller to say, by ``smallest``. :func:`quadratic_from_spectrum` makes a model of the modes.
"""

from sgdynamics.models.spectra.reading import quadratic_from_spectrum, read_spectrum

__all__ = ["SOURCES", "quadratic_from_spectrum", "read_spectrum"]

SOURCES = ("sandler2023", "zhang2019")
