"""A run: keep the figures that are current, make the others in one pool of warm processes, report on all."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from figures.engine.catalogue import catalogue
from figures.engine.check import Check
from figures.engine.files import sole_use
from figures.engine.fingerprint import fingerprint, shared_digest
from figures.engine.report import Entry, counted, write_report
from figures.engine.worker import Order, begin, make


def run(
    package: str, *, only: Collection[str] | None, fast: bool, directory: Path, jobs: int | None, seed: int = 0
) -> int:
    """Bring figures up to date and write the report on all that are.

    Parameters
    ----------
    package : str
        Importable package whose modules are the figures.
    only : collection of str, optional
        Figures to make; by default all.
    fast : bool
        Coarser versions, in seconds each.
    directory : Path
        Where everything goes.
    jobs : int, optional
        Number of processes; by default one for each processor.
    seed : int
        A number that is mixed into all seeds; 0 leaves them as they are.

    Returns
    -------
    int
        1 if a check in the report fails or a figure raised, otherwise 0.
    """
    known = catalogue(package)
    directory = directory.resolve()
    with sole_use(directory):
        shared = shared_digest(package)
        orders = [
            Order(
                figure.module,
                name,
                figure.claim,
                fast,
                directory,
                fingerprint(figure, fast=fast, shared=shared, seed=seed),
                figure.companions,
                figure.long and not fast,
            )
            for name, figure in known.items()
        ]
        asked = [order for order in orders if only is None or order.name in only]
        to_make = [order for order in asked if not _is_current(order)]
        for order in asked:
            if order not in to_make:
                print(f"kept  {order.name}")
        errors = _make_all(to_make, jobs or _processors(), seed)
        entries = [_entry(order, known[order.name].look, errors.get(order.name)) for order in orders]
        write_report(directory, entries, fast=fast)

    checks = [check for entry in entries for check in entry.checks]
    print(f"{counted(checks)}; {directory / 'report.html'}")
    for entry in entries:
        if entry.error is not None:
            print(f"\n{entry.name} raised:\n{entry.error}")
        for check in entry.checks:
            if check.verdict != "holds":
                print(f"{check.verdict}: {entry.name}: {check.claim}")
    return int(bool(errors) or any(check.verdict == "fails" for check in checks))


def _manifest(order: Order) -> dict[str, Any]:
    """What is known of a finished figure, current or not; nothing if there is none."""
    try:
        found = json.loads((order.directory / f"{order.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_current(order: Order) -> bool:
    present = all((order.directory / f"{order.name}.{kind}").exists() for kind in ("nc", "png", "svg"))
    return present and _manifest(order).get("fingerprint") == order.fingerprint


def _entry(order: Order, look: str, error: str | None) -> Entry:
    if error is None and _is_current(order):
        manifest = _manifest(order)
        checks = tuple(Check.from_dict(values) for values in manifest["checks"])
        return Entry(order.name, order.claim, checks=checks, seconds=manifest["seconds"], look=look)
    return Entry(order.name, order.claim, error=error)


def _make_all(orders: Collection[Order], jobs: int, seed: int) -> dict[str, str]:
    """Make the figures; returns the tracebacks of those that raised, by name."""
    if not orders:
        return {}
    waiting = _longest_first(orders)
    errors: dict[str, str] = {}
    homes: dict[str, ProcessPoolExecutor] = {}
    with (
        _processes(min(jobs, len(waiting)), waiting[0].directory, seed) as processes,
        tqdm(total=len(waiting), unit="figure", desc="figures", disable=None) as progress,
    ):
        running: dict[Future[str | None], tuple[Order, ProcessPoolExecutor]] = {}
        idle = list(processes)
        while running or (waiting and idle):
            for process in idle:
                order = _next(waiting, process, homes)
                if order is not None:
                    running[process.submit(make, order)] = order, process
            # Woken every second, so that the clock of the progress bar goes on.
            finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            idle = []
            for future in finished:
                order, process = running.pop(future)
                try:
                    error = future.result()
                    idle.append(process)
                except Exception:  # Not from the figure itself, which hands its traceback back: its process died.
                    error = traceback.format_exc()
                    homes = {companions: home for companions, home in homes.items() if home is not process}
                if error is not None:
                    errors[order.name] = error
                progress.write(_line(order, error))
                sys.stdout.flush()
                progress.update()
            progress.refresh()
    return errors | {order.name: "no process is left to make it" for order in waiting}


def _longest_first(orders: Collection[Order]) -> list[Order]:
    """As far as is known from earlier runs, so that no long one is left to run alone at the end.

    Where it is not known, those that say that they are long, then those that share runs: they keep one process busy
    for longest.
    """

    def length(order: Order) -> tuple[float, bool, bool]:
        return _manifest(order).get("seconds", float("inf")), order.long, bool(order.companions)

    return sorted(orders, key=length, reverse=True)


def _next(waiting: list[Order], process: ProcessPoolExecutor, homes: dict[str, ProcessPoolExecutor]) -> Order | None:
    """Take what a process is to make next: figures that share runs are made where the runs are.

    A process goes on with the companions of what it has made, then takes what has none, or companions whose runs
    nobody has yet; only where all else is done, those of another process.
    """
    ranks = {process: 0, None: 1}
    if not waiting:
        return None
    chosen = min(waiting, key=lambda order: ranks.get(homes.get(order.companions), 2) if order.companions else 1)
    if chosen.companions:
        homes.setdefault(chosen.companions, process)
    waiting.remove(chosen)
    return chosen


def _line(order: Order, error: str | None) -> str:
    if error is not None:
        return f"error {order.name}: {error.strip().splitlines()[-1]}"
    manifest = _manifest(order)
    checks = [Check.from_dict(values) for values in manifest["checks"]]
    return f"made  {order.name}  {manifest['seconds']:.1f} s  {counted(checks)}"


def _processors() -> int:
    # A container or a batch queue may grant fewer processors than the machine has.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def _processes(count: int, directory: Path, seed: int) -> Iterator[list[ProcessPoolExecutor]]:
    """Warm processes, each with a queue of its own, that cannot outlive this one nor a block left by an exception."""
    # Fresh interpreters, not forks: forking a process whose libraries have threads is not safe.
    context = multiprocessing.get_context("spawn")
    lifeline, held_here = context.Pipe(duplex=False)
    threads = max(1, _processors() // count)
    arguments = (directory, lifeline, threads, seed)
    made = [ProcessPoolExecutor(1, mp_context=context, initializer=begin, initargs=arguments) for _ in range(count)]
    try:
        with _deaf_to_interrupts():
            for process in made:
                process.submit(int)  # nothing: the first thing to do starts a process
        yield made
        for process in made:
            process.shutdown()
    finally:
        held_here.close()
        for process in made:
            process.shutdown(cancel_futures=True)
        lifeline.close()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which a terminal sends to all: this one decides, and they follow."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
