"""The harness of the benchmarks on made-up times, and every workload once on little: no time is asserted."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import _measure, _native, _report, _vectors
from benchmarks._measure import Contender, Missing, Workload, exponent, faster, measure, slower, within

# ---------------------------------------------------------------------------------------------------------------------
# Made-up times


def workload(**changes):
    facts = {
        "name": "made_up",
        "title": "Made up",
        "size_name": "things",
        "sizes": (10, 100, 1000),
        "contenders": lambda threads: [],
        "check": lambda results, size: None,
    }
    return Workload(**facts | changes)


def measured(times, threads=1, absent=None):
    return {"workload": "made_up", "threads": threads, "times": times, "absent": absent or {}}


# In each round all are slowed down alike: the median of ratios is not the ratio of medians.
ROUNDS = [{"ours": slow * mine, "theirs": slow * 12.0} for slow, mine in ((1, 4.0), (9, 3.0), (2, 2.0))]


def test_goals_are_judged_by_the_median_of_the_ratios_within_a_round():
    goals = (
        faster("ours", "theirs", 4.0),
        faster("ours", ["theirs", "absent"], 4.1, why="a reason"),
        slower("ours", "theirs", 0.25),
        slower("ours", "theirs", 0.24, why="another"),
        within("ours", 4.0),
        within("ours", 3.9),
        faster("ours", "absent", 2.0),
        within("absent", 1.0, why="not to be shown"),
        within("ours", 1.0, threads=2),
    )
    found = _report.judged(workload(goals=goals), measured({1000: ROUNDS}))
    assert [goal["verdict"] for goal in found] == ["met", "missed", "met", "missed", "met", "missed"] + [
        "not measured"
    ] * 2
    assert [goal["value"] for goal in found] == [4.0, 4.0, 0.25, 0.25, 4.0, 4.0, None, None]
    assert [goal["why"] for goal in found] == ["", "a reason", "", "another", "", "", "", ""]
    assert [goal["bound"] for goal in found][:3] == [">= 4", ">= 4.1", "<= 0.25"]


def test_goals_are_for_the_number_of_threads_they_name():
    goals = (within("ours", 1.0), within("ours", 100.0, threads=2))
    for threads, verdict in ((1, "missed"), (2, "met")):
        (found,) = _report.judged(workload(goals=goals), measured({1000: ROUNDS}, threads))
        assert found["verdict"] == verdict


def test_the_largest_size_is_quoted():
    times = {1000: ROUNDS, 10: [{"ours": 1.0, "theirs": 1.0}]}
    (found,) = _report.judged(workload(goals=(faster("ours", "theirs", 2.0),)), measured(times))
    assert found["value"] == 4.0


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_a_power_law_has_its_exponent(power):
    times = {size: [{"ours": 3e-6 * size**power * slow} for slow in (1.0, 2.0, 1.5)] for size in (3, 10, 700, 2000)}
    assert exponent(times, "ours") == pytest.approx(power, abs=1e-12)


def test_an_exponent_leaves_out_the_sizes_that_a_contender_sat_out():
    times = {size: [{"ours": size**2.0} | ({"slow": size**3.0} if size < 1000 else {})] for size in (10, 100, 1000)}
    assert exponent(times, "slow") == pytest.approx(3.0, abs=1e-12)


@pytest.mark.parametrize(("expected", "verdict"), [(1.0, "met"), (1.09, "met"), (1.11, "missed"), (0.89, "missed")])
def test_exponents_are_held_within_a_tenth(expected, verdict):
    times = {size: [{"ours": 1e-3 * size}] for size in (10, 100, 1000)}
    (found,) = _report.judged(workload(exponents={"ours": expected}), measured(times))
    assert found["verdict"] == verdict
    assert not _report.judged(workload(exponents={"ours": expected}), measured(times, threads=2))
    # one size has no slope
    assert not _report.judged(workload(exponents={"ours": expected}), measured({10: times[10]}))


def test_seconds_are_written_in_a_unit_that_fits():
    assert [_report._seconds(value) for value in (12.34, 0.5, 2e-3, 5e-6, 5e-8)] == [
        "12.3 s",
        "500 ms",
        "2 ms",
        "5 us",
        "0.05 us",
    ]


def test_what_was_found_is_written_as_markdown_json_and_picture(tmp_path):
    times = {size: [{"ours": 1e-3 * size, "theirs": 2e-3 * size}] * 3 for size in (10, 100)}
    made = workload(goals=(faster("ours", "theirs", 3.0, why="it is made up"),), note="A note.")
    results = [(made, measured(times, absent={"jax": "not installed: jax"})), (made, measured(times, threads=2))]
    _report.write(results, tmp_path)
    text = (tmp_path / "results.md").read_text()
    for line in (
        "### Made up: CPU time, one thread",
        "### Made up: wall time, 2 threads",
        "| ours | 100 ms | 1 |",
        "| theirs | 200 ms | 2 |",
        "| jax | - | not installed: jax |",
        "| ours: times as fast as theirs | >= 3 | 2 | **missed** it is made up |",
        "A note.",
    ):
        assert line in text.splitlines()
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["machine"]["numpy"] == np.__version__
    first, second = data["results"]
    assert first["goals"][0]["verdict"] == "missed"
    assert first["times"]["100"][0] == {"ours": 0.1, "theirs": 0.2}
    assert (first["threads"], second["threads"], second["goals"]) == (1, 2, [])
    assert (tmp_path / "made_up.png").stat().st_size > 10_000


def test_the_workloads_are_listed_where_nothing_but_the_package_is_installed():
    """What only an extra brings is loaded by a run that needs it, not by a module that is looked through."""
    asked = [(re.match(r"[\w.-]+", text)[0].lower(), "extra ==" in text) for text in metadata.requires("sgdynamics")]
    always = {name for name, extra in asked if not extra}
    extras = {name for name, extra in asked if extra} - always - {"sgdynamics"}
    modules = sorted(
        module
        for module, brought_by in metadata.packages_distributions().items()
        if {name.lower() for name in brought_by} & extras
    )
    assert "safetensors" in modules
    assert "numpy" not in modules
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({modules!r})\n"  # whoever imports them is told that they are not there
        "from benchmarks.__main__ import workloads\n"
        "print(*workloads())"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert listed.split() == list(WORKLOADS)


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def contender(name, result=0, calls=None, **facts):
    def prepare(size):
        def run():
            if calls is not None:
                calls.append((name, size))
            return result

        return run

    return Contender(name, prepare, **facts)


@pytest.fixture
def one_second(monkeypatch):
    """Every run takes a second."""

    def repeated(run, repeats, threads):
        for _ in range(repeats):
            run()
        return 1.0

    monkeypatch.setattr(_measure, "_repeated", repeated)


def measured_of(*contenders, sizes=(1, 2), **changes):
    return measure(workload(contenders=lambda threads: contenders, **changes), 1, sizes, lambda text: None)


def test_contenders_take_turns(one_second):
    calls = []
    found = measured_of(contender("a", calls=calls), contender("b", calls=calls), sizes=(7,))
    assert found["times"] == {7: [{"a": 1.0, "b": 1.0}] * _measure.ROUNDS}
    # twice to warm up and once to see how long it takes, before the rounds
    assert [name for name, _ in calls] == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * _measure.ROUNDS


def test_a_whole_process_is_not_warmed_up_and_its_first_run_is_a_round(monkeypatch):
    calls, ticks = [], itertools.count(step=3)
    monkeypatch.setattr(_measure, "clock", lambda threads: next(ticks))
    found = measured_of(contender("a", calls=calls), contender("b", calls=calls), sizes=(7,), processes=True)
    assert [name for name, _ in calls] == ["a", "b"] * _measure.ROUNDS
    assert found["times"] == {7: [{"a": 3.0, "b": 3.0}] * _measure.ROUNDS}


def test_a_quick_look_is_one_round(one_second):
    calls = []
    made = workload(contenders=lambda threads: [contender("a", calls=calls)])
    assert measure(made, 1, (7,), lambda text: None, rounds=1)["times"] == {7: [{"a": 1.0}]}
    assert len(calls) == 4


def test_a_share_of_the_work_counts_as_all_of_it(one_second):
    found = measured_of(contender("all"), contender("a twentieth", share=0.05))
    assert all(one == {"all": 1.0, "a twentieth": 20.0} for rounds in found["times"].values() for one in rounds)


def test_a_contender_without_its_module_is_left_out_and_named(one_second):
    def never(size):
        raise AssertionError

    absent = Contender("theirs", never, requires=("numpy", "no_such_module"))
    found = measured_of(contender("ours"), absent)
    assert found["absent"] == {"theirs": "not installed: no_such_module"}
    assert all(one.keys() == {"ours"} for rounds in found["times"].values() for one in rounds)
    assert "| theirs | - | not installed: no_such_module |" in _report.markdown(workload(), found)


@pytest.mark.parametrize(
    ("compilers", "reason"),
    [({}, "no C compiler"), ({"cc": "/bin/cc"}, "does not compile: error: no such instruction")],
)
def test_a_contender_that_cannot_be_built_is_left_out_and_named(one_second, monkeypatch, compilers, reason):
    def refused(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "In file a.c\nerror: no such instruction\n1 error")

    monkeypatch.setattr(_native.shutil, "which", compilers.get)
    monkeypatch.setattr(_native.subprocess, "run", refused)
    _native.library.cache_clear()
    found = measured_of(contender("ours"), Contender("C", lambda size: _native.library("anything")))
    assert found["absent"] == {"C": reason}


def raising(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    "prepare", [raising(ImportError("half\ninstalled")), lambda size: raising(ImportError("half"))]
)
def test_a_contender_that_fails_is_left_out_and_named_and_the_others_go_on(one_second, prepare):
    found = measured_of(contender("ours"), Contender("theirs", prepare), contender("third"))
    assert found["absent"] == {"theirs": "ImportError: half"}
    assert all(one.keys() == {"ours", "third"} for rounds in found["times"].values() for one in rounds)


def test_ours_must_not_fail():
    with pytest.raises(MemoryError, match="ours"):
        measured_of(Contender("ours", raising(MemoryError("ours"))), contender("theirs"))


def test_results_are_checked_before_anything_is_timed(monkeypatch):
    monkeypatch.setattr(_measure, "ROUNDS", None)  # no round could begin

    def check(results, size):
        assert results["a"] == results["b"], size

    with pytest.raises(AssertionError):
        measured_of(contender("a", 1), contender("b", 2), sizes=(3,), check=check)


def test_a_contender_that_is_slow_sits_out_the_larger_sizes(monkeypatch):
    monkeypatch.setattr(_measure, "_repeated", lambda run, repeats, threads: run())
    slow, quick = contender("slow", 2 * _measure.LONGEST), contender("quick", 1.0)
    times = measured_of(slow, quick)["times"]
    assert [set(rounds[0]) for rounds in times.values()] == [{"slow", "quick"}, {"quick"}]


def test_short_runs_are_repeated_until_they_can_be_timed(monkeypatch):
    monkeypatch.setattr(_measure, "_repeated", lambda run, repeats, threads: 1e-4)
    repeats, seconds = _measure._enough(lambda: None, 1)
    assert repeats * seconds >= _measure.SHORTEST
    assert repeats * seconds < 3 * _measure.SHORTEST


@pytest.mark.parametrize(("seconds", "runs"), [(0.9, 2), (1.1, 1)])
def test_a_long_run_is_not_warmed_up_twice(monkeypatch, seconds, runs):
    calls = []

    def repeated(run, repeats, threads):
        calls.append(repeats)
        return seconds

    monkeypatch.setattr(_measure, "_repeated", repeated)
    assert _measure._enough(lambda: None, 1) == (1, seconds)
    assert calls == [1] * runs


def test_with_long_vectors_the_quoted_size_is_measured_and_a_quick_look_is_at_the_smallest(monkeypatch):
    monkeypatch.setattr(_vectors, "width", lambda: 8)
    plain, long = _measure.with_long_vectors(workload())
    assert (plain.sizes, plain.smallest) == ((10, 100, 1000), 10)
    assert (long.sizes, long.smallest) == ((1000,), 10)


def test_the_clock_of_one_thread_counts_children_and_not_waiting():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    started = _measure.clock(1)
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert _measure.clock(1) - started > 0.25


# ---------------------------------------------------------------------------------------------------------------------
# The command


def run_command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert command.main() == 0
    return capsys.readouterr().out


def test_unknown_names_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit) as refused:
        run_command(monkeypatch, capsys, "start_up", "no_such_workload")
    assert refused.value.code == 2
    text = capsys.readouterr().err
    assert "no workload no_such_workload" in text
    assert "start_up" in text


def test_names_are_listed(monkeypatch, capsys):
    assert run_command(monkeypatch, capsys, "--list").split() == list(command.workloads())


def test_the_environment_says_one_number_of_threads_to_everyone():
    for threads in (1, 2):
        said = command.environment(threads)
        assert {said[name] for name in said if re.fullmatch(r".*_(NUM_)?THREADS", name)} == {str(threads)}
        assert len([name for name in said if re.fullmatch(r".*_(NUM_)?THREADS", name)]) >= 5


# What Numba compiles for, and what NumPy and its BLAS choose of what they bring along.
IN_USE = """
import json, numba, numpy as np, threadpoolctl
from benchmarks import _report

@numba.njit
def double(x):
    for i in range(x.size):
        x[i] = 2.0 * x[i]

double(np.ones(100))
(assembly,) = double.inspect_asm().values()
core = np._core._multiarray_umath
chosen = [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]
print(json.dumps({
    "registers": [name for name in ("zmm", "ymm") if name in assembly],
    "numpy": [name for name in chosen if "512" in name or "V4" in name],
    "blas": sorted({pool["architecture"] for pool in threadpoolctl.threadpool_info() if "architecture" in pool}),
    "head": _report.machine()["doubles in a vector"],
}))
"""


@pytest.mark.skipif(_vectors.of_processor() < 4, reason="a processor with AVX2 is held to it")
def test_everyone_is_held_to_shorter_vectors(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    run_command(monkeypatch, capsys, "--vectors", "256", "--list")
    assert _vectors.held()
    assert _vectors.width() == 4
    told = command.environment(1)
    assert {"--xla_cpu_max_isa=AVX2", "--xla_cpu_multi_thread_eigen=false"} == set(told["XLA_FLAGS"].split())
    ended = subprocess.run([sys.executable, "-c", IN_USE], env=told, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    assert found["registers"] == ["ymm"]
    assert found["numpy"] == []
    assert set(found["blas"]) <= {"Haswell"}
    assert found["head"].startswith("4, as everyone was told, of ")


def test_nobody_is_held_to_shorter_vectors_unless_told(monkeypatch):
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    assert not _vectors.held()
    assert _vectors.width() == _vectors.of_processor()
    assert "max_isa" not in command.environment(1)["XLA_FLAGS"]
    assert "told" not in _report.machine()["doubles in a vector"]


@pytest.mark.skipif(_vectors.of_processor() < 4, reason="a processor with AVX2 is held to it")
def test_c_is_compiled_for_shorter_vectors_where_they_are_asked_for(monkeypatch):
    commands = []

    def refused(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "error: no")

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(_native.shutil, "which", {"cc": "/bin/cc"}.get)
    monkeypatch.setattr(_native.subprocess, "run", refused)
    _vectors.hold()
    _native.library.cache_clear()
    with pytest.raises(Missing):
        _native.library("anything")
    assert [[flag for flag in one if flag.startswith("-m")] for one in commands] == [
        ["-march=x86-64-v3"],
        ["-march=haswell"],
    ]


def test_a_workload_runs_in_a_process_of_its_own(monkeypatch, tmp_path, capsys):
    made = workload(contenders=lambda threads: [contender("ours"), contender("theirs")], threads=(1, 2))
    started = []

    def child_here(arguments, env, check):
        started.append((arguments[-1] == "--quick", env["SGDYNAMICS_THREADS"]))
        name, threads, path = arguments[4:7]
        command.child(name, int(threads), "--quick" in arguments, command.Path(path))
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(command, "workloads", lambda: {"made_up": made})
    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=child_here))  # others start processes, too
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, allowed: None, raising=False)
    monkeypatch.setattr(_measure, "_repeated", lambda run, repeats, threads: 1.0)
    text = run_command(monkeypatch, capsys, "made_up", "--quick", "--out", str(tmp_path / "out"))
    assert started == [(True, "1"), (True, "2")]
    assert "| theirs | 1 s | 1 |" in text
    (first, second) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert (list(first["times"]), list(second["times"])) == (["10"], ["10"])
    # the same again is not measured again; what is asked for in full, or of other code, is
    again = ("made_up", "--out", str(tmp_path / "out"))
    assert run_command(monkeypatch, capsys, *again, "--quick").count("measured before") == 2
    assert len(started) == 2
    assert "measured before" not in run_command(monkeypatch, capsys, *again)
    monkeypatch.setattr(command, "code", lambda: "other")
    run_command(monkeypatch, capsys, *again)
    assert len(started) == 6


def test_a_workload_that_fails_does_not_end_the_others(monkeypatch, tmp_path, capsys):
    made = {name: workload(name=name) for name in ("broken", "whole")}

    def run(workload, threads, quick):
        return None if workload.name == "broken" else measured({10: ROUNDS})

    monkeypatch.setattr(command, "workloads", lambda: made)
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--out", str(tmp_path)])
    assert command.main() == 1
    assert "failed: broken" in capsys.readouterr().err
    assert [one["workload"] for one in json.loads((tmp_path / "results.json").read_text())["results"]] == ["made_up"]


# ---------------------------------------------------------------------------------------------------------------------
# The workloads

WORKLOADS = command.workloads()
# Present wherever the tests run; whoever asks for more is not run here.
PRESENT = {"numpy", "scipy", "numba", "sgdynamics", "xarray"}


def small(made):
    """Far below the sizes that are timed, and even."""
    return 2 * max(1, made.sizes[0] // 16)


def test_workloads_have_names_of_their_own_and_goals_about_their_contenders():
    assert "start_up" in WORKLOADS
    for name, made in WORKLOADS.items():
        assert name == made.name
        assert list(made.sizes) == sorted(set(made.sizes))
        for threads in made.threads:
            names = [one.name for one in made.contenders(threads)]
            assert len(set(names)) == len(names)
            if threads == 1:
                assert set(made.exponents or {}) <= set(names)
            times = dict.fromkeys(names, 1.0)
            for goal in made.goals:
                if goal.threads == threads:
                    assert math.isfinite(goal.of(times)), goal.text
        assert {goal.threads for goal in made.goals} <= set(made.threads), name


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "name", [name for name, made in WORKLOADS.items() if name != "start_up" and not made.environment]
)
def test_contenders_agree_on_little(name):
    made = WORKLOADS[name]
    size = small(made)
    results = {}
    for one in made.contenders(1):
        if set(one.requires) <= PRESENT:
            try:
                results[one.name] = one.prepare(size)()
            except Missing:
                continue
    assert results
    made.check(results, size)
