"""Ensembles of mini-batch quadratics: every step drawn, exact jumps, and closed forms.

100 modes, 1000 steps of plain SGD at a constant rate. Contenders that would take minutes do the first steps only; all
are held to the exact mean and variance after the steps that they did.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks._measure import Contender, Run, Workload, faster, on_one_thread, slower
from benchmarks._native import library
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import contraction_factor, moments, stationary_variance

MODES, STEPS, RATE = 100, 1000, 0.5
CURVATURE = np.linspace(0.1, 1.0, MODES)
GAIN = RATE * CURVATURE
MODEL = MiniBatchQuadratic(CURVATURE, 1.0, displacement=1.0)
RECORDS = 10


def exact(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every mode after so many steps."""
    return (1.0 - GAIN) ** steps, GAIN / (2.0 - GAIN) * (1.0 - (1.0 - GAIN) ** (2 * steps))


def check_law(name: str, error: np.ndarray, steps: int) -> None:
    """|z| < 4.5 for the mean and the variance of every mode."""
    mean, variance = exact(steps)
    replicas = len(error)
    from_mean = np.abs(error.mean(axis=0) - mean) / np.sqrt(variance / replicas)
    from_variance = np.abs(((error - mean) ** 2).mean(axis=0) / variance - 1.0) / np.sqrt(2.0 / replicas)
    assert from_mean.max() < 4.5, (name, from_mean.max())
    # the square of a normal has a long tail upwards: few replicas allow a little more
    assert from_variance.max() < 4.5 + 6.0 / np.sqrt(replicas), (name, from_variance.max())


# ---------------------------------------------------------------------------------------------------------------------
# Every step drawn: functions of replicas and steps that return a run, whose result is error and excess risk


def ours(replicas: int, steps: int) -> Run:
    def run() -> tuple[np.ndarray, np.ndarray]:
        runs = ensemble(MODEL, constant(RATE, steps), replicas=replicas, seed=1)
        return runs.error.values[:, 0], runs.excess_risk.values[:, 0]

    return run


def with_risk(error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return error, 0.5 * (error**2 @ CURVATURE)


def numpy_in_place(replicas: int, steps: int) -> Run:
    generator = np.random.Generator(np.random.SFC64(1))
    block = 256  # replicas that stay in the cache
    normals = np.empty((block, MODES))

    def run() -> tuple[np.ndarray, np.ndarray]:
        error = np.ones((replicas, MODES))
        for first in range(0, replicas, block):
            part = error[first : first + block]
            room = normals[: len(part)]
            for _ in range(steps):
                generator.standard_normal(out=room)
                room *= GAIN
                part *= 1.0 - GAIN
                part += room
        return with_risk(error)

    return run


def numpy_naive(replicas: int, steps: int) -> Run:
    generator = np.random.default_rng(1)

    def run() -> tuple[np.ndarray, np.ndarray]:
        error = np.ones((replicas, MODES))
        for _ in range(steps):
            center = generator.standard_normal((replicas, MODES))
            error = error - GAIN * (error - center)
        return with_risk(error)

    return run


@kernel
def _scalar(gain: np.ndarray, replicas: int, steps: int, error: np.ndarray) -> None:
    np.random.seed(1)  # noqa: NPY002 - compiled code has a stream of its own
    for r in range(replicas):
        for j in range(gain.size):
            e = 1.0
            for _ in range(steps):
                e -= gain[j] * (e - np.random.standard_normal())  # noqa: NPY002 - what people write
            error[r, j] = e


@kernel
def _scalar_generator(
    generator: np.random.Generator, gain: np.ndarray, replicas: int, steps: int, error: np.ndarray
) -> None:
    for r in range(replicas):
        for j in range(gain.size):
            e = 1.0
            for _ in range(steps):
                e -= gain[j] * (e - generator.standard_normal())
            error[r, j] = e


def scalar_numba(replicas: int, steps: int) -> Run:
    def run() -> tuple[np.ndarray, np.ndarray]:
        error = np.empty((replicas, MODES))
        _scalar(GAIN, replicas, steps, error)
        return with_risk(error)

    return run


def scalar_numba_generator(replicas: int, steps: int) -> Run:
    generator = np.random.Generator(np.random.SFC64(1))

    def run() -> tuple[np.ndarray, np.ndarray]:
        error = np.empty((replicas, MODES))
        _scalar_generator(generator, GAIN, replicas, steps, error)
        return with_risk(error)

    return run


def jax_scan(replicas: int, steps: int, generator: str) -> Run:
    import jax
    import jax.numpy as jnp

    gain = jnp.asarray(GAIN)

    @jax.jit
    def compute(key: Any) -> Any:
        def step(error: Any, key: Any) -> tuple[Any, None]:
            center = jax.random.normal(key, error.shape, error.dtype)
            return error - gain * (error - center), None

        error, _ = jax.lax.scan(step, jnp.ones((replicas, MODES)), jax.random.split(key, steps))
        return error, 0.5 * (error**2 @ jnp.asarray(CURVATURE))

    key = jax.random.key(1, impl=generator)

    def run() -> tuple[np.ndarray, np.ndarray]:
        error, risk = jax.block_until_ready(compute(key))
        return np.asarray(error), np.asarray(risk)

    return run


def torch_in_place(replicas: int, steps: int, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    gain = torch.as_tensor(GAIN)

    def run() -> tuple[np.ndarray, np.ndarray]:
        error = torch.ones(replicas, MODES, dtype=torch.float64)
        center = torch.empty_like(error)
        for _ in range(steps):
            center.normal_()
            center.mul_(gain)
            error.mul_(1.0 - gain).add_(center)
        return with_risk(error.numpy())

    return run


def native(replicas: int, steps: int, threads: int) -> Run:
    compiled = library("quadratic_ensemble").run
    compiled.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 4 + [ctypes.c_uint64] + [ctypes.c_void_p] * 2
    inputs = [CURVATURE, np.ones(MODES), np.ones(MODES), np.full(steps, RATE)]
    pool = ThreadPoolExecutor(threads)

    def run() -> tuple[np.ndarray, np.ndarray]:
        error, risk = np.empty((replicas, MODES)), np.empty(replicas)
        pointers = [array.ctypes.data for array in inputs]

        def part(begin: int) -> None:
            end = min(begin + 64, replicas)
            compiled(*pointers, MODES, steps, begin, end, 1, error.ctypes.data, risk.ctypes.data)

        list(pool.map(part, range(0, replicas, 64)))
        return error, risk

    return run


def one_part(make: Callable[..., Run], parts: int, *args: Any) -> Callable[[int], Run]:
    """Prepares the first of so many equal parts of the steps; the result says how many steps it has done."""

    def prepare(replicas: int) -> Run:
        steps = STEPS // parts
        run = make(replicas, steps, *args)
        return lambda: (*run(), steps)

    return prepare


# Contender, function, parts of which it does one, further arguments, modules
ALTERNATIVES = {
    "NumPy in place, SFC64": (numpy_in_place, 20, (), ()),
    "NumPy, PCG64": (numpy_naive, 20, (), ()),
    "scalar Numba, np.random": (scalar_numba, 50, (), ()),
    "scalar Numba, Generator": (scalar_numba_generator, 10, (), ()),
    "JAX scan, threefry": (jax_scan, 20, ("threefry2x32",), ("jax",)),
    "JAX scan, rbg": (jax_scan, 50, ("rbg",), ("jax",)),
    "PyTorch in place": (torch_in_place, 20, ("threads",), ("torch",)),
}
C = "C in vectors"


def named(name: str) -> str:
    return f"{name} (1/{ALTERNATIVES[name][1]} of the steps)"


NUMPY = [named(name) for name in ALTERNATIVES if name.startswith("NumPy")]
JAX = [named(name) for name in ALTERNATIVES if name.startswith("JAX")]
TORCH = named("PyTorch in place")


def _contenders(threads: int) -> list[Contender]:
    found = [Contender("ours", one_part(ours, 1))]
    if threads > 1:
        found.append(Contender("ours, one thread", on_one_thread(one_part(ours, 1))))
    found.append(Contender(C, one_part(native, 1, threads)))
    for name, (make, parts, args, requires) in ALTERNATIVES.items():
        if threads > 1 and "Numba" in name:  # one thread only
            continue
        given = [threads if argument == "threads" else argument for argument in args]
        found.append(Contender(named(name), one_part(make, parts, *given), share=1 / parts, requires=requires))
    return found


def _check(results: Mapping[str, Any], size: int) -> None:
    for name, (error, risk, steps) in results.items():
        check_law(name, error, steps)
        np.testing.assert_allclose(risk, 0.5 * (error**2 @ CURVATURE), rtol=1e-12, err_msg=name)
    if "ours, one thread" in results:
        for one, two in zip(results["ours"], results["ours, one thread"], strict=True):
            assert np.array_equal(one, two)


# ---------------------------------------------------------------------------------------------------------------------
# Ten records: every step, jumps, closed form


def records(steps: int) -> np.ndarray:
    return np.arange(steps // RECORDS, steps + 1, steps // RECORDS)


def recorded(steps: int, method: str, replicas: int) -> Run:
    rates, record = constant(RATE, steps), records(steps)

    def run() -> tuple[np.ndarray, np.ndarray]:
        runs = ensemble(MODEL, rates, replicas=replicas, seed=1, record=record, method=method)
        return runs.error.values, runs.excess_risk.values

    return run


def by_formula(record: np.ndarray) -> np.ndarray:
    """The expected excess risk at every record, which is what the replicas estimate, from the public formulas."""
    keep = contraction_factor(GAIN) ** record[:, None]
    squared = keep * keep
    return 0.5 * ((stationary_variance(GAIN) * (1.0 - squared) + squared) @ CURVATURE)


def by_moments(steps: int) -> np.ndarray:
    """The same for any schedule, with labels."""
    return moments(MODEL, constant(RATE, steps), record=records(steps)).excess_risk.values


def _jump_contenders(steps: int, threads: int) -> list[Contender]:
    return [
        Contender("every step", functools.partial(recorded, steps, "steps")),
        Contender("jumps", functools.partial(recorded, steps, "jumps")),
        Contender("closed form", lambda replicas: functools.partial(by_formula, records(steps))),
        Contender("moments", lambda replicas: functools.partial(by_moments, steps)),
    ]


def _check_jumps(steps: int, results: Mapping[str, Any], size: int) -> None:
    expected = results["closed form"]
    np.testing.assert_allclose(results["moments"], expected, rtol=1e-12)
    for name in ("every step", "jumps"):
        error, risk = results[name]
        for at, step in enumerate(records(steps)):
            check_law(name, error[:, at], int(step))
        z = (risk.mean(axis=0) - expected) / (risk.std(axis=0) / np.sqrt(size))
        assert np.abs(z).max() < 4.5, (name, z)


def _jumps(name: str, title: str, steps: int, sizes: tuple[int, ...], why: str) -> Workload:
    return Workload(
        name=name,
        title=title,
        size_name="replicas",
        sizes=sizes,
        contenders=functools.partial(_jump_contenders, steps),
        check=functools.partial(_check_jumps, steps),
        goals=(
            faster("jumps", "every step", 50.0, why=why),
            faster("closed form", "every step", 1e4),
        ),
        note=f"{RECORDS} records of {steps} steps, {MODES} modes. The closed form is the expected excess risk.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Growth


def _growing(run_of_size: Callable[[int], Run]) -> Callable[[int], list[Contender]]:
    return lambda threads: [Contender("ours", run_of_size)]


def _of_modes(modes: int) -> Run:
    model = MiniBatchQuadratic(np.linspace(0.1, 1.0, modes), 1.0)
    return lambda: ensemble(model, constant(RATE, STEPS), replicas=1000, seed=1)


def _finite(results: Mapping[str, Any], size: int) -> None:
    runs = results["ours"]
    assert all(np.isfinite(part).all() for part in (runs if isinstance(runs, tuple) else runs.data_vars.values()))


GROWTH = {
    "replicas": ((1000, 2000, 4000, 8000), lambda size: ours(size, STEPS)),
    "steps": ((1000, 2000, 4000, 8000), lambda size: ours(1000, size)),
    "modes": ((50, 100, 200, 400), _of_modes),
}

# ---------------------------------------------------------------------------------------------------------------------

SIZES = (100, 1000, 10_000)

SHORT_VECTORS = (
    "in vectors of four, eight normals are some 115 operations: on four units 29 cycles at the best, 1.0 s for 1e9 at "
    "3.7 GHz. Loops by themselves take 48: words 9, quotients 8, radii 13 (8 of them the unit of square roots), "
    "directions 11, steps 7"
)

WORKLOADS = (
    Workload(
        name="quadratic_ensemble",
        title="Mini-batch quadratic ensemble, every step drawn",
        size_name="replicas",
        sizes=SIZES,
        contenders=_contenders,
        check=_check,
        goals=(
            faster("ours", NUMPY, 6.0, why=SHORT_VECTORS),
            faster("ours", JAX, 12.0, why=SHORT_VECTORS),
            faster("ours", TORCH, 12.0, why=SHORT_VECTORS),
            slower("ours", C, 1.25),
            faster(
                "ours",
                "ours, one thread",
                1.8,
                threads=2,
                why="157 tasks that wait for nothing: with both processors to itself it gains 1.97, two processes 1.99",
            ),
        ),
        threads=(1, 2),
        note=f"{MODES} modes, {STEPS} steps: 1e9 normals at 10,000 replicas.",
    ),
    _jumps(
        "quadratic_jumps",
        "Exact jumps of 1000 steps and closed form against every step",
        RECORDS * STEPS,
        (100, 1000, 3000),
        "",
    ),
    _jumps(
        "quadratic_short_jumps",
        "Exact jumps of 100 steps and closed form against every step",
        STEPS,
        SIZES,
        "a jump takes 1/100 of the normals, but every record is written to memory, whichever way it was reached",
    ),
    *(
        Workload(
            name=f"growth_{name}",
            title=f"Growth of a quadratic ensemble with its {name}",
            size_name=name,
            sizes=sizes,
            contenders=_growing(run_of_size),
            check=_finite,
            exponents={"ours": 1.0},
        )
        for name, (sizes, run_of_size) in GROWTH.items()
    ),
)
