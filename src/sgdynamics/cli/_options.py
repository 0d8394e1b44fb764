"""Options that several commands share, and how a wrong line is answered."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sgdynamics.models.quadratic import MiniBatchQuadratic

# Modes of a spectrum that is unknown.
MODES = 40

CURVATURES = "--spectrum FILE or --log-uniform LOW HIGH"

# What parameters of the models are called on the command line.
SPECTRUM_OPTIONS = {
    "source": "--spectrum FILE",
    "low": "LOW of --log-uniform",
    "high": "HIGH of --log-uniform",
    "model": CURVATURES,
}


# Options that say more of a spectrum, for nothing without one.
_OF_FILES, _OF_ALL = ("smallest", "kind", "dimension"), ("center-variance", "batch-size")
SPECTRUM_NAMES = (*_OF_FILES, *_OF_ALL)

# For those who know neither end of a spectrum.
_CHOOSING = (
    "LOW and HIGH are the smallest and the largest curvature that matter. HIGH is the largest eigenvalue of the "
    "Hessian, the sharpness: a run at a constant learning rate seldom has more than 2 divided by that rate (times 1 "
    "plus the momentum), and often half of it. LOW is 1 divided by the learning rate and by the number of steps of the "
    "whole run: flatter directions have not moved. LOW hardly changes what is said, HIGH does: try it at a tenth, too."
)


# Updates of a run: no run has more, but counts of tokens do, and a rate for each of them would fill the memory.
LONGEST = 10**8


class Parser(argparse.ArgumentParser):
    """Says what is wrong on one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; try {self.prog} --help\n")


def whole_from(least: int, most: int | None = None) -> type:
    """A reader of whole numbers."""
    range_ = f">= {least}" if most is None else f"in {least}..{most}"

    class Whole(int):
        def __new__(cls, text: str) -> Whole:
            try:
                value = super().__new__(cls, text)
            except ValueError:
                value = super().__new__(cls, least - 1)
            if value < least or (most is not None and value > most):
                raise argparse.ArgumentTypeError(f"must be a whole number {range_}, got {text!r}")
            return value

    return Whole


def add_spectrum(parser: argparse.ArgumentParser) -> None:
    """What is known of the curvature."""
    group = parser.add_argument_group("what is known of the curvature", _CHOOSING)
    known = group.add_mutually_exclusive_group()
    known.add_argument(
        "--spectrum", metavar="FILE", help="measured eigenvalues, or a density: .csv, .txt, .npy or .npz"
    )
    known.add_argument(
        "--log-uniform", type=float, nargs=2, metavar=("LOW", "HIGH"), help="unknown: even in the logarithm between two"
    )
    group.add_argument("--smallest", type=float, help="drop measured eigenvalues below it")
    group.add_argument("--kind", help="of the file: eigenvalues, weights, density or multiplicities (default: guess)")
    group.add_argument("--dimension", type=float, help="number of parameters, for weights and densities")
    group.add_argument(
        "--center-variance", type=float, help="of the batch minima at batch size 1 (default: 1/curvature)"
    )
    group.add_argument("--batch-size", type=float, help="(default: 1)")


def refuse_idle(given: argparse.Namespace, options: Iterable[str], needed: str) -> None:
    """Refuse options that would change nothing, because they belong to something that is not asked for."""
    for option in options:
        if getattr(given, option.replace("-", "_")) is not None:
            raise ValueError(f"--{option} goes with {needed}, which is not given")


def model_of(given: argparse.Namespace) -> MiniBatchQuadratic | None:
    """The model that the options describe, if they do."""
    from sgdynamics.models.quadratic import MiniBatchQuadratic
    from sgdynamics.models.spectra import quadratic_from_spectrum

    batch_size = 1 if given.batch_size is None else given.batch_size
    if given.spectrum is not None:
        return quadratic_from_spectrum(
            given.spectrum,
            kind=given.kind,
            dimension=given.dimension,
            smallest=given.smallest,
            center_variance=given.center_variance,
            batch_size=batch_size,
        )
    refuse_idle(given, _OF_FILES, "--spectrum FILE")
    if given.log_uniform is None:
        refuse_idle(given, _OF_ALL, CURVATURES)
        return None
    low, high = given.log_uniform
    broad = MiniBatchQuadratic.log_uniform(low, high, MODES, batch_size=batch_size)
    variance = 1 / broad.curvature if given.center_variance is None else given.center_variance
    return MiniBatchQuadratic(broad.curvature, variance, batch_size=batch_size)
