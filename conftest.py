"""Examples in the documentation strings hold to twelve digits: what a processor makes of the last ones is its own."""

from __future__ import annotations

import ctypes
import doctest
import re
import sys
from collections.abc import Generator

import pytest

# A number with a point or an exponent, written out: not one that goes on in an ellipsis.
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+)(?![\w.])")
RELATIVE = 1e-12

# What fesetround of the C library of Linux takes on x86-64.
NEAREST, ROUNDINGS = 0, {"upward": 0x800, "zero": 0xC00}

as_written = doctest.OutputChecker.check_output


def check_output(self: doctest.OutputChecker, want: str, got: str, optionflags: int) -> bool:
    """As usual, after numbers that differ from the expected ones by rounding are put in the digits expected."""
    wanted = NUMBER.findall(want)
    if len(wanted) == len(NUMBER.findall(got)):
        expected = iter(wanted)

        def in_its_digits(found: re.Match[str]) -> str:
            text = next(expected)
            return text if abs(float(found[0]) - float(text)) <= RELATIVE * abs(float(text)) else found[0]

        got = NUMBER.sub(in_its_digits, got)
    return as_written(self, want, got, optionflags)


doctest.OutputChecker.check_output = check_output  # type: ignore[method-assign]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rounding", choices=ROUNDINGS, help="run the examples with all results rounded this way (Linux on x86-64)"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    rounding = item.config.getoption("--rounding")
    if not (rounding and isinstance(item, pytest.DoctestItem)):
        return (yield)
    set_rounding, kept = ctypes.CDLL(None).fesetround, sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # so that no constant read in another rounding stays on the disk
    set_rounding(ROUNDINGS[rounding])
    try:
        return (yield)
    finally:
        set_rounding(NEAREST)
        sys.dont_write_bytecode = kept
