"""Compiled kernels on disk: kept without being asked, shared by processes, and never in the way."""

import os
import subprocess
import sys
import threading

import pytest

from sgdynamics.simulate import _kernel_cache
from sgdynamics.simulate._kernel import kernel

HALVES = """
from sgdynamics.simulate._kernel import inlined, kernel

@kernel
def half(x):
    return x / 2

def times(factor):
    @inlined
    def product(x):
        return factor * x
    return product

double, triple = times(2), times(3)

@kernel
def applied(function, x):
    return function(x)

def twice(function):
    @kernel
    def both(x):
        return function(function(x))
    return both
"""
CODE = """
import sys
from numba.core import event
sys.path.insert(0, {folder!r})
from halves import applied, double, half, triple, twice
with event.install_recorder("numba:compile") as compiled:
    taken = [applied(function, 3) for function in ({order})]
    held = [twice(function)(3) for function in ({order})]
    print(half(3), half(3j), *sorted(taken + held), len(compiled.buffer))
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that compiles kernels, also such as take or hold others, or finds them."""
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "halves.py").write_text(HALVES)

    def begin(variables, order="double, triple"):
        code = CODE.format(folder=str(tmp_path / "module"), order=order)
        environment = {name: value for name, value in os.environ.items() if name != "SGDYNAMICS_NUMBA_CACHE"}
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, env={**environment, **variables}, stdout=subprocess.PIPE, text=True)

    return begin


def ended(process):
    """The number of compilations, after all results are found right."""
    with process:
        out, _ = process.communicate()
    assert process.returncode == 0
    *results, count = out.split()
    assert results == ["1.5", "1.5j", "6", "9", "12", "27"]
    return int(count)


def test_two_processes_at_once_and_a_third_that_compiles_nothing(tmp_path, start):
    cache = tmp_path / "cache"
    where = {"XDG_CACHE_HOME": str(cache), "NUMBA_CACHE_DIR": ""}
    if sys.platform != "linux":
        where = {"NUMBA_CACHE_DIR": str(cache)}
    processes = [start(where) for _ in range(2)]
    assert all(ended(process) > 0 for process in processes)
    assert ended(start(where, "triple, double")) == 0
    assert [path.name for path in cache.iterdir()] == ["sgdynamics"]
    # another processor takes nothing of it
    assert ended(start({**where, "NUMBA_CPU_NAME": "generic"})) > 0


@pytest.mark.parametrize("hindrance", ["a file in the way", "switched off", "damaged"])
def test_where_nothing_can_be_kept_kernels_are_compiled(tmp_path, start, hindrance):
    cache = tmp_path / "cache"
    where = {"NUMBA_CACHE_DIR": str(cache)}
    if hindrance == "a file in the way":
        cache.write_text("")
    elif hindrance == "switched off":
        where["SGDYNAMICS_NUMBA_CACHE"] = "0"
    else:
        ended(start(where))
        for path in [*cache.rglob("*.nbi"), *cache.rglob("*.nbc")]:
            path.write_bytes(path.read_bytes()[:40])
    assert ended(start(where)) > 0
    if hindrance != "damaged":
        assert not list(tmp_path.rglob("*.nbc"))


@pytest.fixture
def fresh_folder(monkeypatch):
    _kernel_cache.folder.cache_clear()
    monkeypatch.delenv("SGDYNAMICS_NUMBA_CACHE", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    yield _kernel_cache.folder
    _kernel_cache.folder.cache_clear()


def test_without_a_home_nothing_is_kept(fresh_folder, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_kernel_cache.Path, "home", no_home)
    assert fresh_folder() is None


def test_another_version_of_the_sources_has_another_folder(fresh_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(_kernel_cache, "PACKAGE", tmp_path / "package")
    found = []
    for text in ("STRIDE = 8\n", "STRIDE = 16\n"):
        (tmp_path / "package" / "kernels.py").write_text(text)
        fresh_folder.cache_clear()
        found.append(fresh_folder())
        assert fresh_folder() == found[-1]
    assert found[0] != found[1]
    assert all(path.exists() for path in found)


def test_a_folder_that_was_not_used_for_a_month_goes(fresh_folder, monkeypatch, tmp_path):
    old, recent = (tmp_path / "sgdynamics" / name for name in ("old", "recent"))
    for path in (old, recent):
        path.mkdir(parents=True)
    os.utime(old, (0, 0))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert fresh_folder().exists()
    assert recent.exists()
    assert not old.exists()


def test_threads_and_two_kinds_of_arguments(tmp_path, monkeypatch, fresh_folder):
    """Saved one at a time, whatever the order, and no kind is taken for the other."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for _ in range(2):

        @kernel
        def half(x):
            return x / 2

        threads = [threading.Thread(target=half, args=(x,)) for x in (3, 3.0, 3j)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [half(3), half(3.0), half(3j)] == [1.5, 1.5, 1.5j]
    assert sum(half.stats.cache_hits.values()) == 3
    assert len(list(tmp_path.rglob("*.nbc"))) == 3


def test_who_waits_at_a_terminal_is_told_once(monkeypatch, capsys):
    _kernel_cache.say_once.cache_clear()
    _kernel_cache.say_once()
    assert not capsys.readouterr().err
    _kernel_cache.say_once.cache_clear()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _kernel_cache.say_once()
    _kernel_cache.say_once()
    assert capsys.readouterr().err.count("compiling, once") == 1
