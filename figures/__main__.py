"""The command ``python -m figures``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from figures.engine.catalogue import catalogue


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, not {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 on is needed, not {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m figures", description="Compute, draw and check the figures.")
    parser.add_argument("--fast", action="store_true", help="coarser grids and fewer samples: all figures in minutes")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="make these only; the report shows all that are current"
    )
    parser.add_argument("--list", action="store_true", help="list the figures with their claims and stop")
    parser.add_argument("--explorer", action="store_true", help="write explorer.html and stop")
    parser.add_argument("--out", type=Path, default=Path("out/figures"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="other randomness, for N > 0")
    parser.add_argument("--jobs", type=_count, metavar="N", help="processes; default: one for each processor")
    return parser


def main(arguments: Sequence[str] | None = None, *, package: str = "figures") -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments, by default those of the process.
    package : str
        Importable package whose modules are the figures.

    Returns
    -------
    int
        Exit code: 0 if every check holds or is known not to be reproduced or comparable, 1 if a check fails or a figure
        raised, 2 if the arguments are wrong or the directory is in use, 130 if interrupted.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    known = catalogue(package)
    if options.list:
        for figure in known.values():
            print(f"{figure.name}\n    {figure.claim}")
        return 0
    if options.explorer:
        from figures.engine.explorer import write_explorer

        print(write_explorer(options.out))
        return 0
    unknown = sorted(set(options.only or ()) - set(known))
    if unknown:
        parser.error(f"no figure is called {', '.join(unknown)}; the figures are {', '.join(known) or '(none)'}")

    # Imported here, not above: every worker process imports this module first, and --list need not wait for libraries.
    from figures.engine.files import DirectoryInUse
    from figures.engine.runner import run

    try:
        return run(
            package,
            only=options.only,
            fast=options.fast,
            directory=options.out,
            jobs=options.jobs,
            seed=options.seed,
        )
    except DirectoryInUse as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the finished figures are kept, and the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
