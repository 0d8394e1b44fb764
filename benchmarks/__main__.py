"""Time the quadratic against what one would otherwise write, interleaved, and print medians of paired ratios.

CPU time of one thread; accuracy is checked before anything is timed.
"""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from collections.abc import Callable

os.environ.setdefault("SGDYNAMICS_THREADS", "1")

import numpy as np

from sgdynamics.models import schedules
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import moments

ROUNDS = 5
MODEL = MiniBatchQuadratic(np.geomspace(0.01, 1.0, 100), 1.0, displacement=1.0)
RATES = schedules.cosine(0.5, 1000)
REPLICAS = 500


def numpy_in_place() -> float:
    """The loop that one would write, in place and with NumPy's fastest generator."""
    random = np.random.Generator(np.random.SFC64(0))
    error = np.ones((REPLICAS, MODEL.modes))
    noise = np.empty_like(error)
    for rate in RATES:
        gain = rate * MODEL.curvature
        random.standard_normal(out=noise)
        noise *= gain
        error *= 1 - gain
        error += noise
    return float((0.5 * error**2 @ MODEL.curvature).mean())


def drawn_steps() -> float:
    return float(ensemble(MODEL, RATES, replicas=REPLICAS, seed=0).excess_risk.mean())


def exact_jumps() -> float:
    return float(ensemble(MODEL, RATES, replicas=REPLICAS, seed=0, method="jumps").excess_risk.mean())


def closed_form() -> float:
    return float(moments(MODEL, RATES).excess_risk[0])


def cpu_seconds(work: Callable[[], float]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    contenders = (drawn_steps, numpy_in_place, exact_jumps, closed_form)
    exact = closed_form()
    for work in contenders:  # also compiles the kernels
        assert abs(work() - exact) < 0.05 * exact, work.__name__
    rounds = [{work: cpu_seconds(work) for work in contenders} for _ in range(ROUNDS)]
    normals = REPLICAS * MODEL.modes * RATES.size
    print(f"{normals:.0e} normals through {MODEL.modes} modes, CPU time, one thread, median of {ROUNDS} rounds\n")
    print("| contender | ms | drawn steps take, times as long |\n|---|---|---|")
    for work in contenders:
        median = statistics.median(times[work] for times in rounds)
        ratio = statistics.median(times[drawn_steps] / times[work] for times in rounds)
        print(f"| {work.__name__} | {1e3 * median:.2f} | {ratio:.3g} |")

    large = MiniBatchQuadratic(np.geomspace(1e-5, 1.0, 10_000), 1.0, displacement=1.0)
    rates = schedules.cosine(0.5, 100_000)
    seconds = cpu_seconds(lambda: float(moments(large, rates).excess_risk[0]))
    tracemalloc.start()
    moments(large, rates[:1000])
    peak = tracemalloc.get_traced_memory()[1]
    print(f"\nexact moments of 1e4 modes over 1e5 distinct rates: {seconds:.2f} s, {peak / 1e6:.0f} MB at the peak")


if __name__ == "__main__":
    main()
