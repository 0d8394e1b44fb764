"""What is compared, and how it is timed: contenders in turn, round after round, so that they share the machine's drift.

At one thread the clock is the CPU time of the process, its threads and its children, on one processor; at more it is
the time on the wall. A ratio is the median over rounds of the ratios within a round.
"""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks import _vectors

ROUNDS = 5
ROUNDS_OF_OTHER_SIZES = 3
# A measurement repeats what is shorter than this.
SHORTEST = 0.05
# New memory is nothing beside a run that is longer than this: it is not run once more before the rounds.
LONG = 1.0
# Characters of an error that are shown.
LONGEST_REASON = 120
# A contender that needs longer for one run sits out the larger sizes.
LONGEST = 20.0

# How many threads our own kernels take.
THREADS = "SGDYNAMICS_THREADS"

Run = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    ``prepare`` takes the size, does what is not to be timed (inputs, compilation) and returns the run. ``share`` is the
    part of the work that a run does, for what would take minutes: its time counts divided by that. ``requires`` names
    the modules without which it is left out. The first contender of a workload is ours and must run; another that
    cannot be prepared or run is absent, with the reason.
    """

    name: str
    prepare: Callable[[int], Run]
    share: float = 1.0
    requires: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        return [name for name in self.requires if importlib.util.find_spec(name) is None]


class Missing(Exception):
    """Raised by ``prepare`` where something that no import can tell is absent, such as a compiler."""


@dataclass(frozen=True)
class Goal:
    """A bound on a number made of the times in seconds of a round.

    ``of`` takes the times of one round by contender; the median over rounds is held to ``low`` and ``high``. ``why``
    says where a miss comes from.
    """

    text: str
    of: Callable[[Mapping[str, float]], float]
    low: float = -math.inf
    high: float = math.inf
    threads: int = 1
    why: str = ""


def faster(ours: str, than: str | Sequence[str], ratio: float, *, threads: int = 1, why: str = "") -> Goal:
    """Ours is at least ``ratio`` times as fast as the fastest of the others that took part."""
    others = [than] if isinstance(than, str) else list(than)

    def of(times: Mapping[str, float]) -> float:
        return min(times[name] for name in others if name in times) / times[ours]

    best = others[0] if len(others) == 1 else f"the best of {', '.join(others)}"
    return Goal(f"{ours}: times as fast as {best}", of, low=ratio, threads=threads, why=why)


def slower(ours: str, than: str, ratio: float, *, threads: int = 1, why: str = "") -> Goal:
    """Ours takes at most ``ratio`` times as long."""
    text = f"{ours}: times as long as {than}"
    return Goal(text, lambda times: times[ours] / times[than], high=ratio, threads=threads, why=why)


def within(ours: str, seconds: float, *, threads: int = 1, why: str = "") -> Goal:
    """Ours takes at most so many seconds."""
    return Goal(f"{ours}: seconds", lambda times: times[ours], high=seconds, threads=threads, why=why)


@dataclass(frozen=True)
class Workload:
    """The same work for every contender, at growing sizes of which the last is quoted.

    ``check`` takes the results of the first runs at a size, by contender, and fails where they disagree.
    ``exponents`` are the expected powers of the size in the time of a contender; ``environment`` holds variables of the
    process that measures. ``processes``: every run is a whole process, the first like any other. ``quick`` is the size
    of a quick look where it is not the first of ``sizes``.
    """

    name: str
    title: str
    size_name: str
    sizes: Sequence[int]
    contenders: Callable[[int], Sequence[Contender]]  # takes the number of threads
    check: Callable[[Mapping[str, Any], int], None]  # results and the size
    goals: Sequence[Goal] = ()
    threads: Sequence[int] = (1,)
    exponents: Mapping[str, float] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: bool = False
    quick: int | None = None
    note: str = ""

    @property
    def smallest(self) -> int:
        return self.sizes[0] if self.quick is None else self.quick


def with_long_vectors(workload: Workload) -> tuple[Workload, ...]:
    """The workload itself and, where the processor has AVX-512, its quoted size with OpenBLAS told to use it.

    OpenBLAS knows processors by name and takes shorter vectors on those that are newer than itself.
    """
    if _vectors.width() < 8:
        return (workload,)
    told = {"OPENBLAS_CORETYPE": "SkylakeX"}
    long = replace(
        workload,
        name=f"{workload.name}_long_vectors",
        title=f"{workload.title}; {'='.join(*told.items())}",
        sizes=workload.sizes[-1:],
        quick=workload.smallest,
        threads=(1,),
        goals=[goal for goal in workload.goals if goal.threads == 1],
        exponents=None,
        environment=told,
    )
    return workload, long


def on_one_thread(prepare: Callable[[int], Run]) -> Callable[[int], Run]:
    """The same run of ours on one thread, in a process where it would have more."""

    def prepared(size: int) -> Run:
        run = prepare(size)

        def alone() -> Any:
            before = os.environ[THREADS]  # whoever starts a measurement sets it
            os.environ[THREADS] = "1"
            try:
                return run()
            finally:
                os.environ[THREADS] = before

        return alone

    return prepared


def clock(threads: int) -> float:
    if threads > 1:
        return time.perf_counter()
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _repeated(run: Run, repeats: int, threads: int) -> float:
    """Seconds of one of so many runs."""
    started = clock(threads)
    for _ in range(repeats):
        run()
    return (clock(threads) - started) / repeats


def _enough(run: Run, threads: int) -> tuple[int, float]:
    """How many runs make a measurement that is long enough, and the seconds of one."""
    repeats = 1
    seconds = _repeated(run, repeats, threads)  # the first runs after compilation still touch new memory
    if seconds > LONG:
        return repeats, seconds
    while (seconds := _repeated(run, repeats, threads)) * repeats < SHORTEST:
        repeats = max(2 * repeats, math.ceil(1.2 * SHORTEST / max(seconds, 1e-7)))
    return repeats, seconds


def _in_one_line(error: Exception) -> str:
    """Why a contender is absent; an error that it did not expect by its kind and first line."""
    if isinstance(error, Missing):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:LONGEST_REASON]}"


def measure(
    workload: Workload, threads: int, sizes: Sequence[int], say: Callable[[str], None], rounds: int | None = None
) -> dict[str, Any]:
    """Times of every round by size and contender, and why contenders are absent; sizes but the last have few rounds."""
    absent: dict[str, str] = {}
    times: dict[int, list[dict[str, float]]] = {}
    rounds = ROUNDS if rounds is None else rounds
    ours, *others = workload.contenders(threads)
    waiting = [ours, *others]
    for size in sizes:
        runs: dict[str, tuple[Run, int, float]] = {}
        results: dict[str, Any] = {}
        first: dict[str, float] = {}
        for contender in list(waiting):
            missing = contender.missing()
            if missing:
                absent[contender.name] = f"not installed: {', '.join(missing)}"
                waiting.remove(contender)
                continue
            try:
                run = contender.prepare(size)
                started = clock(threads)
                results[contender.name] = run()
                repeats, seconds = 1, clock(threads) - started
                if not workload.processes:
                    repeats, seconds = _enough(run, threads)
            except Exception as error:
                if contender is ours:
                    raise
                results.pop(contender.name, None)
                absent[contender.name] = _in_one_line(error)
                waiting.remove(contender)
                continue
            first[contender.name] = seconds / contender.share
            say(f"{workload.name}, {threads} thread(s), {size}: {contender.name} {seconds:.3g} s")
            runs[contender.name] = run, repeats, contender.share
            if seconds > LONGEST:
                waiting.remove(contender)
        workload.check(results, size)
        del results
        made = [first] if workload.processes else []
        left = (rounds if size == sizes[-1] else min(rounds, ROUNDS_OF_OTHER_SIZES)) - len(made)
        times[size] = made + [
            {name: _repeated(run, repeats, threads) / share for name, (run, repeats, share) in runs.items()}
            for _ in range(left)
        ]
    return {"workload": workload.name, "threads": threads, "times": times, "absent": absent}


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def exponent(times: Mapping[int, Sequence[Mapping[str, float]]], name: str) -> float:
    """Slope of the logarithm of the median time over that of the size, by least squares."""
    points = [
        (math.log(size), math.log(median([one[name] for one in rounds])))
        for size, rounds in times.items()
        if all(name in one for one in rounds)
    ]
    mean_x = math.fsum(x for x, _ in points) / len(points)
    mean_y = math.fsum(y for _, y in points) / len(points)
    return math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / math.fsum((x - mean_x) ** 2 for x, _ in points)
