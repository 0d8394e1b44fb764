"""For the tests of your own models: what to draw, and the laws that every model of this library obeys.

:func:`numbers`, :func:`spectra`, :func:`schedules`, :func:`averages` and :func:`built` (models, networks) draw from the
ranges that are declared; a :class:`Subject` says what your model computes, and :func:`laws` holds it to what must be
true of that. Needs hypothesis: ``pip install sgdynamics[testing]``.
"""

try:
    import hypothesis  # noqa: F401
except ImportError:
    raise ImportError("sgdynamics.testing needs hypothesis: pip install sgdynamics[testing]") from None

from sgdynamics.testing.laws import Law, check, laws
from sgdynamics.testing.strategies import arguments, averages, built, numbers, schedules, spectra, values, vectors
from sgdynamics.testing.subject import Subject, of_network

__all__ = [
    "Law",
    "Subject",
    "arguments",
    "averages",
    "built",
    "check",
    "laws",
    "numbers",
    "of_network",
    "schedules",
    "spectra",
    "values",
    "vectors",
]
