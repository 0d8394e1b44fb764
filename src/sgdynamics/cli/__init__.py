"""The command ``sgdynamics``: plan a merge of checkpoints, carry it out, diagnose a run, translate an average.

Tables for people, ``--json`` for programs. What is wrong with the input is said on one line, with exit status 2.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TextIO

import sgdynamics
from sgdynamics.cli import _diagnose, _forecast, _merge, _plan, _schedule
from sgdynamics.cli._options import Parser

__all__ = ["SOURCES", "main"]

SOURCES = ("sandler2023",)

_COMMANDS: dict[str, ModuleType] = {
    "plan": _plan,
    "merge": _merge,
    "diagnose": _diagnose,
    "schedule": _schedule,
    "forecast": _forecast,
}
# Characters of a message that are shown; what follows is the rest of some long value.
_LONGEST = 400


def _parser() -> Parser:
    parser = Parser(
        prog="sgdynamics",
        description="Decays by averaging: plan a merge of checkpoints and carry it out, see whether a run is limited "
        "by noise, and translate averages into schedules.",
    )
    parser.add_argument("--version", action="version", version=f"sgdynamics {sgdynamics.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        added = commands.add_parser(name, help=command.HELP, description=command.__doc__)
        command.add_options(added)
        added.add_argument("--json", action="store_true", help="everything, as one JSON object")
    return parser


def _of_input(command: str, error: Exception) -> bool:
    """Whether an error is about the input: those of the library and of the command say of what; others are faults."""
    from sgdynamics.checkpoints import DamagedFile

    if isinstance(error, OSError | DamagedFile):
        return True
    return re.match(rf"--|FILE\b|{command}: |\w+: .+ must ", str(error), re.DOTALL) is not None


def _complaint(command: str, error: Exception) -> str:
    """What is wrong on one line, in terms of the command line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    else:
        text = str(error)
    text = " ".join(text.split())
    said = re.match(r"(\w+): (\w+) must ", text)
    if said:  # by a function, of its parameter
        parameter = said[2]
        text = _COMMANDS[command].OPTIONS.get(parameter, "--" + parameter.replace("_", "-")) + text[said.end(2) :]
    else:
        text = text.removeprefix(f"{command}: ").removeprefix("fit: ")
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return f"sgdynamics {command}: {shown}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; None takes that of the process.

    Returns
    -------
    int
        Exit status: 0, 2 where the input was wrong, 130 where it was interrupted. Where the line itself cannot be
        read, argparse exits with 2. A fault of the program is raised, and ends in its traceback.

    Examples
    --------
    >>> main("schedule --average ema --beta 0.9 --steps 3 --gain 0.1".split())
    One schedule with gains in [0, 1] reproduces the average. ...
    <BLANKLINE>
    step      gain
       1     0.025
       2  0.018182
       3      0.01
    0
    """
    given = _parser().parse_args(arguments)
    try:
        _say(_COMMANDS[given.command].run(given))
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError) as error:
        if not _of_input(given.command, error):
            raise
        _complain(_complaint(given.command, error))
        return 2
    except MemoryError as error:
        _complain(f"sgdynamics {given.command}: there is no room in memory for as much as was asked for: {error}")
        return 2
    return 0


def _complain(text: str) -> None:
    if sys.stderr is None:  # closed: the status alone can tell
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _say(text: str) -> None:
    """To the standard output, which may take nothing: a closed pipe, a full disk."""
    try:
        print(_in(getattr(sys.stdout, "encoding", None), text), flush=True)  # closed, it is None
    except OSError as error:
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # whoever read the table has seen enough
            raise


def _silence(stream: TextIO) -> None:
    """What is left in its buffer would fail once more when the interpreter ends, with a status of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _in(encoding: str | None, text: str) -> str:
    """The text, with what an encoding does not have in the spelling of Python, as it is for errors."""
    return text if encoding is None else text.encode(encoding, "backslashreplace").decode(encoding)
