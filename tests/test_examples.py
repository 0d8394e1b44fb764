"""How examples in documentation strings are held: to twelve digits, in any rounding."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

checker = doctest.OutputChecker()


@pytest.mark.parametrize(
    ("want", "got", "holds"),
    [
        ("0.2682\n", "0.26820000000000005\n", True),
        ("0.2682\n", "0.26820000001\n", False),
        ("(1.6, 2.0)\n", "(1.5999999999999999, 2.0)\n", True),
        ("(1.6, 2.0)\n", "(1.5999999999999999, 2.1)\n", False),
        ("1e-05\n", "1.0000000000000002e-05\n", True),
        ("-0.5\n", "0.5\n", False),
        ("0.0\n", "1e-17\n", False),  # nothing says how small that is
        ("0.3333\n", "0.3333333333333333\n", False),
        ("0.3333...\n", "0.3333333333333333\n", True),
        ("0.3334...\n", "0.3333333333333333\n", False),
        ("1\n", "1.0\n", False),
        ("1000000000000000\n", "1000000000000001\n", False),  # no rounding in integers
        ("x.y2.5\n", "x.y2.500000000000001\n", False),
        ("inf\n", "inf\n", True),
    ],
)
def test_numbers_hold_to_twelve_digits(want, got, holds):
    assert checker.check_output(want, got, doctest.ELLIPSIS) is holds


FRAGILE = '''
"""
>>> 0.1 + 0.7
0.7999999999999999
>>> (0.1 + 0.7) * 10 // 1
7.0
"""
'''


@pytest.mark.skipif(sys.platform != "linux", reason="the rounding is set as in the C library of Linux on x86-64")
def test_an_example_that_hangs_on_rounding_is_found(tmp_path):
    """0.8 to twelve digits in any rounding, but its tenfold is not 8 in all of them."""
    (tmp_path / "fragile.py").write_text(FRAGILE)
    conftest = Path(__file__).parents[1] / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text())
    command = [sys.executable, "-m", "pytest", "-q", "--doctest-modules", "-p", "no:cacheprovider", "fragile.py"]
    found = {
        rounding: subprocess.run([*command, *rounding], cwd=tmp_path, capture_output=True, text=True)
        for rounding in ((), ("--rounding", "zero"), ("--rounding", "upward"))
    }
    assert [one.returncode for one in found.values()] == [0, 0, 1]
    assert "Expected:\n    7.0\nGot:\n    8.0\n" in found["--rounding", "upward"].stdout
