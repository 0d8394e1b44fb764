"""The phase diagram of the uv network without target: a million networks, a thousand steps each."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks._measure import Contender, Goal, Run, Workload, faster, on_one_thread, slower
from benchmarks._native import library
from sgdynamics.simulate._blocks import run_all, slices
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv import phase_diagram
from sgdynamics.simulate.uv._zero_target import GAP, STRIDE, FreeRecords, FreeStarts, run_free

STEPS = 1000
BLOCK = 8192
# Cells that JAX, PyTorch and NumPy hold at once: what their step touches stays in the cache.
CHUNK = 2000
# Part of the steps that the slowest take.
SHARE = 1 / 20


@functools.cache
def starts(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared residual and kernel over learning rate times kernel and squared output over squared kernel."""
    ntk = np.repeat(np.linspace(5 / side, 5, side), side)
    height = ntk**2 * np.tile(np.geomspace(1e-4, 0.2499, side), side)
    return height, ntk


def gaps(side: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as squared residual and gap."""
    height, ntk = starts(side)
    return height, 4.0 - ntk


# ---------------------------------------------------------------------------------------------------------------------
# Ours


def ours(side: int, steps: int = STEPS, *, exits: bool = True) -> Run:
    height, ntk = starts(side)
    given = FreeStarts(height, ntk, 0.5 * (ntk + np.sqrt(ntk * ntk + 12 * height)))
    out = FreeRecords(*(np.empty(height.size) for _ in range(3)), np.empty(height.size, np.int64))

    def run() -> Any:
        run_all(
            functools.partial(
                run_free,
                GAP,
                FreeStarts(*(array[block] for array in given)),
                steps,
                STRIDE,
                exits,
                FreeRecords(*(array[block] for array in out)),
            )
            for block in slices(height.size, BLOCK)
        )
        return out.peak_height, out.final_sharpness, out.divergence_step, out.peak_sharpness

    return run


def _public(side: int) -> Run:
    rates = np.linspace(5 / side, 5, side)
    return lambda: phase_diagram(rates, [64], steps=STEPS, seeds=side, units="ntk")


# ---------------------------------------------------------------------------------------------------------------------
# Others


def _native(name: str) -> Callable[[int], Run]:
    def prepare(side: int) -> Run:
        function = getattr(library("uv_phase_diagram"), name)
        height, gap = gaps(side)
        size = height.size
        whole = -(-size // 96) * 96  # whole blocks of vectors; what is added is frozen at once
        given = np.zeros(whole), np.full(whole, 2.5)
        given[0][:size], given[1][:size] = height, gap
        out = [np.empty(whole) for _ in range(4)]

        def run() -> Any:
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*given, *out)]
            function(ctypes.c_long(whole), *pointers[:2], ctypes.c_long(STEPS), *pointers[2:])
            return tuple(array[:size] for array in out)

        return run

    return prepare


@kernel
def _scalar(
    heights: np.ndarray,
    gaps: np.ndarray,
    steps: int,
    peak: np.ndarray,
    final: np.ndarray,
    divergence: np.ndarray,
    highest: np.ndarray,
) -> None:
    for i in range(heights.size):
        height, gap = heights[i], gaps[i]
        peak[i], divergence[i], highest[i] = height, -1, 0.0
        for t in range(steps):
            rest = gap - 3.0 + height
            gap *= 1.0 + height
            height *= rest * rest
            ntk = 4.0 - gap
            final[i] = 0.5 * (ntk + np.sqrt(ntk * ntk + 12.0 * height))
            peak[i], highest[i] = max(peak[i], height), max(highest[i], final[i])
            if height >= 16.0:
                divergence[i] = t + 1
                peak[i] = final[i] = highest[i] = np.inf
                break
        ntk = 4.0 - gaps[i]
        highest[i] = max(highest[i], 0.5 * (ntk + np.sqrt(ntk * ntk + 12.0 * heights[i])))


def _numba(side: int) -> Run:
    height, gap = gaps(side)
    out = np.empty(height.size), np.empty(height.size), np.empty(height.size, np.int64), np.empty(height.size)

    def run() -> Any:
        _scalar(height, gap, STEPS, *out)
        return out

    run()
    return run


def _sharpness(library: Any, height: Any, gap: Any) -> Any:
    ntk = 4.0 - gap
    return 0.5 * (ntk + library.sqrt(ntk * ntk + 12.0 * height))


def _finished(library: Any, height: Any, gap: Any, peak: Any, highest: Any, divergence: Any) -> Any:
    """Peak, final sharpness, divergence step and peak sharpness, by NumPy or something like it."""
    gone = divergence > 0
    peak, final, highest = (
        library.where(gone, library.inf, values) for values in (peak, _sharpness(library, height, gap), highest)
    )
    return peak, final, divergence, highest


def _jax(way: str, roots: bool = True) -> Callable[[int], Run]:
    def prepare(side: int) -> Run:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)

        def step(t: Any, state: Any) -> Any:
            height, gap, peak, highest, divergence = state
            rest = gap - 3.0 + height
            gap, height = gap * (1.0 + height), height * (rest * rest)
            peak = jnp.where(height > peak, height, peak)
            if roots:
                now = _sharpness(jnp, height, gap)
                highest = jnp.where(now > highest, now, highest)
            return height, gap, peak, highest, jnp.where((divergence < 0) & (peak >= 16.0), t + 1, divergence)

        def first(height: Any, gap: Any) -> Any:
            return height, gap, height, _sharpness(jnp, height, gap), jnp.full(jnp.shape(height), -1)

        def every_step(height: Any, gap: Any) -> Any:
            return _finished(jnp, *jax.lax.fori_loop(0, STEPS, step, first(height, gap)))

        def until_done(height: Any, gap: Any) -> Any:
            def busy(carried: Any) -> Any:
                t, (height, gap, _, _, divergence) = carried
                ntk = 4.0 - gap
                frozen = (ntk < 2.0) & (height <= ntk * ntk * 2.0**-58)
                return (t < STEPS) & ~jnp.all((divergence > 0) | frozen)

            def stride(carried: Any) -> Any:
                t, state = carried
                return t + STRIDE, jax.lax.fori_loop(t, t + STRIDE, step, state)

            return _finished(jnp, *jax.lax.while_loop(busy, stride, (0, first(height, gap)))[1])

        if way == "natural":
            function = jax.jit(jax.vmap(every_step))
            shape = (-1,)
        else:
            block = every_step if way == "blocked" else until_done
            function = jax.jit(lambda *given: jax.lax.map(lambda part: block(*part), given))
            shape = (-1, CHUNK)
        given = [jnp.asarray(array.reshape(shape)) for array in gaps(side)]

        def run() -> Any:
            return tuple(np.asarray(array).reshape(-1) for array in jax.block_until_ready(function(*given)))

        run()
        return run

    return prepare


def _chunks(side: int, step: Callable[..., Any]) -> Any:
    """A part of the steps, chunk by chunk."""
    height, gap = gaps(side)
    out: list[list[Any]] = [[], [], [], []]
    for part in slices(height.size, CHUNK):
        found = step(height[part], gap[part], round(SHARE * STEPS))
        for kept, array in zip(out, found, strict=True):
            kept.append(array)
    return tuple(np.concatenate(parts) for parts in out)


def _numpy(side: int) -> Run:
    def in_place(heights: np.ndarray, gaps: np.ndarray, steps: int) -> Any:
        height, gap, peak = heights.copy(), gaps.copy(), heights.copy()
        rest, above = np.empty(height.size), np.empty(height.size, bool)
        highest = _sharpness(np, height, gap)
        ntk, now = np.empty(height.size), np.empty(height.size)
        below = np.zeros(height.size, np.int64)
        with np.errstate(all="ignore"):
            for _ in range(steps):
                np.subtract(gap, 3.0, out=rest)
                rest += height
                rest *= rest
                rest *= height
                height += 1.0
                gap *= height
                height, rest = rest, height
                np.fmax(peak, height, out=peak)
                np.less(peak, 16.0, out=above)
                below += above
                np.subtract(4.0, gap, out=ntk)
                np.multiply(ntk, ntk, out=now)
                np.multiply(height, 12.0, out=rest)
                now += rest
                np.sqrt(now, out=now)
                now += ntk
                now *= 0.5
                np.fmax(highest, now, out=highest)
            return _finished(np, height, gap, peak, highest, np.where(below < steps, below + 1, -1))

    return lambda: _chunks(side, in_place)


def _torch(side: int) -> Run:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

    def in_place(heights: np.ndarray, gaps: np.ndarray, steps: int) -> Any:
        height, gap = torch.tensor(heights), torch.tensor(gaps)
        peak, below = height.clone(), torch.zeros(height.shape, dtype=torch.int64)
        highest = _sharpness(torch, height, gap)
        for _ in range(steps):
            rest = gap.sub(3.0).add_(height)
            gap.addcmul_(gap, height)
            height.mul_(rest.mul_(rest))
            torch.fmax(peak, height, out=peak)
            below.add_(peak < 16.0)
            ntk = gap.neg().add_(4.0)
            now = ntk.square().add_(height, alpha=12.0).sqrt_().add_(ntk).mul_(0.5)
            torch.fmax(highest, now, out=highest)
        divergence = torch.where(below < steps, below + 1, -1)
        return tuple(array.numpy() for array in _finished(torch, height, gap, peak, highest, divergence))

    def run() -> Any:
        with torch.no_grad():
            return _chunks(side, in_place)

    return run


# ---------------------------------------------------------------------------------------------------------------------
# The comparison

OURS, FULL, PUBLIC = "sgdynamics", "sgdynamics without exits", "sgdynamics, phase_diagram()"
ONE, PUBLIC_ONE = "sgdynamics, one thread", "sgdynamics, phase_diagram(), one thread"
C_EXITS, C_FULL = "C in vectors with exits", "C in vectors without exits"
SCALAR = "Numba, a loop with an exit"
NATURAL, BLOCKED, WHILE = "JAX", "JAX in blocks", "JAX in blocks with an exit"
# what does less than the others
C_EXITS_LESS, C_FULL_LESS = f"{C_EXITS}, no peak sharpness", f"{C_FULL}, no peak sharpness"
BLOCKED_LESS, WHILE_LESS = f"{BLOCKED}, no peak sharpness", f"{WHILE}, no peak sharpness"
LESS = (C_EXITS_LESS, C_FULL_LESS, BLOCKED_LESS, WHILE_LESS)
PART = f"1/{round(1 / SHARE)} of the steps"
TORCH, NUMPY = f"PyTorch in place, in blocks ({PART})", f"NumPy in place, in blocks ({PART})"
SHARED = (TORCH, NUMPY)
MEMORY = "in vectors of four our steps take 1.3 times as long, and those of JAX, which wait for memory, 1.07 times"


def _contenders(threads: int) -> list[Contender]:
    alone = [Contender(ONE, on_one_thread(ours)), Contender(PUBLIC_ONE, on_one_thread(_public))] if threads > 1 else []
    native = [
        Contender(C_EXITS, _native("with_exits")),
        Contender(C_FULL, _native("without_exits")),
        Contender(C_EXITS_LESS, _native("with_exits_no_roots")),
        Contender(C_FULL_LESS, _native("without_exits_no_roots")),
    ]
    return [
        Contender(OURS, ours),
        Contender(PUBLIC, _public),
        Contender(FULL, lambda side: ours(side, exits=False)),
        *alone,
        *(native if threads == 1 else []),
        Contender(SCALAR, _numba),
        Contender(NATURAL, _jax("natural"), requires=("jax",)),
        Contender(BLOCKED, _jax("blocked"), requires=("jax",)),
        Contender(WHILE, _jax("exit"), requires=("jax",)),
        Contender(BLOCKED_LESS, _jax("blocked", roots=False), requires=("jax",)),
        Contender(WHILE_LESS, _jax("exit", roots=False), requires=("jax",)),
        Contender(TORCH, _torch, share=SHARE, requires=("torch",)),
        Contender(NUMPY, _numpy, share=SHARE),
    ]


def _check(results: Mapping[str, Any], side: int) -> None:
    """The same bits where the operations are the same; otherwise what chaotic catapults leave of the digits."""
    for name, found in results.items():
        if name in (PUBLIC, PUBLIC_ONE):
            assert found.outcome.size == side * side
            continue
        expected = ours(side, round(SHARE * STEPS) if name in SHARED else STEPS)()
        if name in (FULL, ONE, C_EXITS, C_FULL, C_EXITS_LESS, C_FULL_LESS):
            for one, other in zip(found[:3], expected[:3], strict=True):
                assert np.array_equal(one, other), name
            # the sharpness at the start, which may be its peak, comes from the gap there, which rounds a small kernel
            assert name in LESS or np.allclose(found[3], expected[3], rtol=1e-12, atol=0), name
            continue
        same = found[2] == expected[2]
        assert same.mean() >= 0.999, (name, same.mean())
        finite = same & (expected[2] < 0)
        for i in (0, 1) if name in LESS else (0, 1, 3):
            one, other = found[i], expected[i]
            distance = abs(one[finite] / other[finite] - 1)
            assert np.median(distance) < 1e-13, (name, np.median(distance))
            assert np.quantile(distance, 0.999) < 1e-6, (name, np.quantile(distance, 0.999))


def _goals(threads: int) -> list[Goal]:
    return [
        faster(OURS, BLOCKED, 30, threads=threads),
        faster(OURS, WHILE, 20, threads=threads),
        faster(OURS, NATURAL, 100, threads=threads, why=MEMORY),
        faster(OURS, SCALAR, 35, threads=threads),
        faster(FULL, (NATURAL, BLOCKED), 7, threads=threads),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Growth


def _nothing(results: Mapping[str, Any], size: int) -> None:
    """One contender has nobody to agree with; the tests hold it."""


def _growth(
    name: str, title: str, size_name: str, sizes: tuple[int, ...], run: Callable[[int], Run], power: float
) -> Workload:
    return Workload(
        name=name,
        title=title,
        size_name=size_name,
        sizes=sizes,
        contenders=lambda threads: [Contender(OURS, run)],
        check=_nothing,
        exponents={OURS: power},
    )


def _of_width(width: int) -> Run:
    rates = np.linspace(0.01, 5, 500)
    return lambda: phase_diagram(rates, [width], steps=STEPS, seeds=400, units="ntk")


WORKLOADS = (
    Workload(
        name="uv_phase_diagram",
        title="uv phase diagram",
        size_name="grid points per axis",
        sizes=(100, 300, 1000),
        contenders=_contenders,
        check=_check,
        threads=(1, 2),
        goals=(
            *_goals(1),
            slower(OURS, C_EXITS, 1.5),
            slower(
                FULL,
                C_FULL,
                1.35,
                why="lanes live in the cache, not in registers",
            ),
            *_goals(2),
            faster(OURS, ONE, 1.6, threads=2, why="a run of 15 ms, of which Python hands out the blocks one by one"),
            faster(
                PUBLIC,
                PUBLIC_ONE,
                1.6,
                threads=2,
                why="a tenth lies before and after the blocks, where there is one thread: starts and labels",
            ),
        ),
        note=(
            f"{STEPS} steps from fixed starts: learning rate times kernel in (0, 5], squared output over squared "
            "kernel (times kappa) from 1e-4 to 1/4, where the weights end; a fifth diverge, one in a hundred is still "
            "moving at the end. Everyone finds peak loss, final sharpness, divergence step and, where not said "
            "otherwise, peak sharpness; phase_diagram() also draws its starts and classifies. An exit: "
            "a cell, or a block of cells, whose results can no longer change in any bit is done."
        ),
    ),
    _growth(
        "uv_growth_steps",
        "uv phase diagram without exits, growth with the steps",
        "steps",
        (500, 2000, 8000),
        lambda steps: ours(100, steps, exits=False),
        1.0,
    ),
    _growth(
        "uv_growth_grid",
        "uv phase diagram, growth with the grid",
        "grid points per axis",
        (250, 500, 1000),
        ours,
        2.0,
    ),
    _growth(
        "uv_growth_width",
        "uv phase diagram, growth with the width",
        "width",
        (16, 1024, 65536),
        _of_width,
        0.0,
    ),
)
