"""What a checker of types finds in the code of a user: no ``Any`` where a number or a labelled array comes back."""

from __future__ import annotations

import ast
import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typing_examples

ROOT = Path(__file__).parent.parent
EXAMPLES = Path(typing_examples.__file__)

# README and the pages that show sessions. Functions without annotations of their own make these what they are:
OWN_FUNCTIONS = {"merge_on_a_network", "test_your_model"}
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if ">>> " in page.read_text(encoding="utf-8") and page.stem not in OWN_FUNCTIONS
]


@pytest.mark.parametrize("example", typing_examples.ALL, ids=lambda example: example.__name__)
def test_what_comes_back_is_what_its_type_says(example):
    example()


def module_of(page: Path) -> str:
    """The session of a page as a module that asks for the type of everything that is shown or named."""
    lines = []
    for example in doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8")):
        for statement in ast.parse(example.source).body:
            source = ast.unparse(statement)
            if isinstance(statement, ast.Expr) and "sympy" not in source:  # SymPy has no types
                lines.append(f"reveal_type({source})")
                continue
            lines.append(source)
            if isinstance(statement, ast.Assign):
                stored = [name for target in statement.targets for name in ast.walk(target)]
                lines += [f"reveal_type({name.id})" for name in stored if isinstance(name, ast.Name)]
    return "\n".join(lines) + "\n"


# What the checker has to find: Any in the place of a number, and a float that is said to be labelled.
MISTAKEN = """
from typing import Any
from typing_extensions import assert_type
import xarray as xr
from sgdynamics.theory.quadratic import stationary_variance
def number(anything: Any) -> None:
    assert_type(anything, float)
assert_type(stationary_variance(0.1), xr.DataArray)
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """A folder of a user's modules, one of the examples and one of each page."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(EXAMPLES, folder)
    (folder / "mistaken.py").write_text(MISTAKEN, encoding="utf-8")
    for page in PAGES:
        (folder / f"{page.stem.lower()}_page.py").write_text(module_of(page), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def mypy_says(outside) -> str:
    pytest.importorskip("mypy", reason="needs mypy")
    cache = os.environ.get("MYPY_CACHE_DIR", str(outside / "cache"))
    # functions of a session need no annotations; SymPy has none
    less = ["--allow-untyped-defs", "--allow-untyped-calls", "--disable-error-code=import-untyped"]
    command = [sys.executable, "-m", "mypy", "--strict", *less, "--cache-dir", cache, "."]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, cwd=outside, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_mypy_finds_the_mistakes_that_are_there_and_no_other(mypy_says):
    mistakes = [line for line in mypy_says.splitlines() if " error: " in line]
    assert [line.split(": ")[0] for line in mistakes] == ["mistaken.py:7", "mistaken.py:8"]


# What NumPy leaves open of the shape and kind of its arrays, what is written so by the page itself, and what other
# libraries leave open.
LEFT_OPEN = re.compile(r"tuple\[Any, \.\.\.\]|dtype\[Any\]|def \(.*\) -> Any|SearchStrategy\[Any\]")


def untyped(revealed: str) -> bool:
    """Whether a type is Any, or has it beside others."""
    return "Any" in LEFT_OPEN.sub("", revealed)


@pytest.mark.slow
def test_mypy_finds_no_any_in_the_pages(mypy_says):
    revealed = re.findall(r'(\w+_page\.py:\d+): note: Revealed type is "(.*)"', mypy_says)
    assert len(revealed) > 100
    assert not [(where, kind) for where, kind in revealed if untyped(kind)]


@pytest.mark.slow
def test_pyright_agrees(outside):
    pyright = shutil.which("pyright") or pytest.skip("needs pyright")
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, EXAMPLES.name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    report = json.loads(subprocess.run(command, cwd=outside, env=environment, capture_output=True, check=False).stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    assert not [one["message"] for one in report["generalDiagnostics"] if one["severity"] == "error"]


@pytest.mark.slow
def test_nearly_every_public_type_is_known():
    pyright = shutil.which("pyright") or pytest.skip("needs pyright")
    command = [
        pyright,
        "--verifytypes",
        "sgdynamics",
        "--ignoreexternal",
        "--outputjson",
        "--pythonpath",
        sys.executable,
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = subprocess.run(command, cwd=ROOT.parent, env=environment, capture_output=True, check=False)
    report = json.loads(found.stdout)["typeCompleteness"]
    assert report["completenessScore"] >= 0.95
