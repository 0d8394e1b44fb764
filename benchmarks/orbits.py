"""Orbits where no minimum is stable: Lyapunov exponents and attractors over a sweep of the learning rate.

The map is x' = x (r - x)^2 with r = 1 + q, for q from 0.8, where a minimum is still stable, to full chaos at 2. Along
the line a neighbour moves away by |(r - x)(r - 3x)| per step, away from it by (2 - r + x)^2.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np

from benchmarks._measure import Contender, Run, Workload, faster
from benchmarks._native import library
from sgdynamics.simulate.uv import bifurcation, lyapunov

START = 0.3
TRANSIENT, STEPS = 1000, 9000
LOW, HIGH = 0.8, 2.0
# past the last wide window
CHAOTIC = 1.9
KEEP = 64
# Here the doublings end; below, no orbit is chaotic for a while before it settles.
DOUBLED = 1.302


def sweep(size: int, low: float = LOW) -> np.ndarray:
    return np.linspace(low, HIGH, size)


# ---------------------------------------------------------------------------------------------------------------------
# Exponents. A result is the values of q, transient and steps, and the two exponents.


def _ours(low: float) -> Callable[[int], Run]:
    def prepare(size: int) -> Run:
        q = sweep(size, low)

        def run() -> Any:
            found = lyapunov(q, steps=STEPS, transient=TRANSIENT, start=START)
            return q, TRANSIENT, STEPS, found.exponent.values, found.transverse_exponent.values

        run()
        return run

    return prepare


def _native(size: int) -> Run:
    code = library("orbits")
    q = sweep(size)
    padded = np.full(-(-size // 32) * 32, HIGH)
    padded[:size] = q
    along, across = np.empty(padded.size), np.empty(padded.size)
    pointer = ctypes.POINTER(ctypes.c_double)
    arrays = [array.ctypes.data_as(pointer) for array in (padded, along, across)]
    number = ctypes.c_int64

    def run() -> Any:
        code.exponents(
            arrays[0], ctypes.c_double(START), number(TRANSIENT), number(STEPS), number(padded.size), *arrays[1:]
        )
        return q, TRANSIENT, STEPS, along[:size].copy(), across[:size].copy()

    return run


@numba.njit(error_model="numpy", nogil=True)
def _scalar(q: Any, start: float, transient: int, steps: int, along: Any, across: Any) -> None:
    for i in range(q.size):
        x, r, up, out = start, 1.0 + q[i], 0.0, 0.0
        for t in range(-transient, steps):
            rest = r - x
            if t >= 0:
                up += np.log(abs(rest * (r - 3.0 * x)))
                out += np.log(abs(2.0 - rest))
            x = min(x * rest * rest, (2.0 + q[i]) * (1.0 - 2.0**-52))
        along[i], across[i] = up / steps, 2.0 * out / steps


def _scalar_numba(size: int) -> Run:
    q = sweep(size)
    along, across = np.empty(size), np.empty(size)
    _scalar(q[:1], START, 1, 1, along[:1], across[:1])

    def run() -> Any:
        _scalar(q, START, TRANSIENT, STEPS, along, across)
        return q, TRANSIENT, STEPS, along.copy(), across.copy()

    return run


def _numpy(share: float, every: int) -> Callable[[int], Run]:
    """All parameters at once, in place; logarithms every so many steps."""
    transient, steps = round(TRANSIENT * share), round(STEPS * share)

    def prepare(size: int) -> Run:
        q = sweep(size)
        r, roof = 1.0 + q, (2.0 + q) * (1.0 - 2.0**-52)

        def run() -> Any:
            x, up, out = np.full(size, START), np.zeros(size), np.zeros(size)
            first, second, rest, slope = np.ones(size), np.ones(size), np.empty(size), np.empty(size)
            for t in range(-transient, steps):
                np.subtract(r, x, out=rest)
                if t >= 0:
                    np.multiply(x, -3.0, out=slope)
                    np.add(slope, r, out=slope)
                    np.multiply(first, rest, out=first)
                    np.multiply(first, slope, out=first)
                    np.subtract(2.0, rest, out=slope)
                    np.multiply(second, slope, out=second)
                    if (t + 1) % every == 0 or t + 1 == steps:
                        for product, total in ((first, up), (second, out)):
                            np.abs(product, out=product)
                            np.log(product, out=product)
                            np.add(total, product, out=total)
                            product.fill(1.0)
                np.multiply(rest, rest, out=rest)
                np.multiply(x, rest, out=x)
                np.minimum(x, roof, out=x)
            return q, transient, steps, up / steps, 2.0 * out / steps

        return run

    return prepare


def _jax(share: float, every: int, block: int | None) -> Callable[[int], Run]:
    """A scan per parameter, vmapped, over the parameters at once or block after block."""
    transient, steps = round(TRANSIENT * share), round(STEPS * share)

    def prepare(size: int) -> Run:
        import jax
        from jax import lax
        from jax import numpy as jnp

        q = sweep(size)

        def step(x: Any, r: Any) -> tuple[Any, Any, Any]:
            rest = r - x
            moved = jnp.minimum(x * rest * rest, (r + 1.0) * (1.0 - 2.0**-52))
            return moved, rest * (r - 3.0 * x), 2.0 - rest

        def exponents(value: Any) -> tuple[Any, Any]:
            r = 1.0 + value

            def move(x: Any, _: Any) -> tuple[Any, None]:
                return step(x, r)[0], None

            def look(carry: Any, length: int) -> tuple[Any, None]:
                x, up, out = carry
                first, second = 1.0, 1.0
                for _ in range(length):
                    x, one, other = step(x, r)
                    first, second = first * one, second * other
                return (x, up + jnp.log(jnp.abs(first)), out + jnp.log(jnp.abs(second))), None

            x, _ = lax.scan(move, START, None, length=transient)
            carry, _ = lax.scan(lambda carry, _: look(carry, every), (x, 0.0, 0.0), None, length=steps // every)
            if steps % every:
                carry, _ = look(carry, steps % every)
            return carry[1] / steps, 2.0 * carry[2] / steps

        cells = jax.vmap(exponents)
        if block is None or block >= size:
            compiled, shaped = jax.jit(cells), jnp.asarray(q)
        else:
            compiled, shaped = jax.jit(lambda rows: lax.map(cells, rows)), jnp.asarray(q.reshape(-1, block))

        def run() -> Any:
            along, across = jax.block_until_ready(compiled(shaped))
            return q, transient, steps, np.asarray(along).ravel(), np.asarray(across).ravel()

        run()
        return run

    return prepare


def _pynamicalsys(share: float) -> Callable[[int], Run]:
    """One call per parameter: the map of output and side of the cone, both exponents by QR of its tangents."""

    def prepare(size: int) -> Run:
        from pynamicalsys import DiscreteDynamicalSystem

        @numba.njit
        def mapping(u: Any, parameters: Any) -> Any:
            q = parameters[0]
            rest, other = 1.0 + q - u[0], 1.0 + u[0] - q
            m = other * other * u[1]
            x = rest * rest * (u[0] + 0.25 * u[1]) - 0.25 * m
            return np.array([min(x, (2.0 + q) * (1.0 - 2.0**-52)), m])

        @numba.njit
        def jacobian(u: Any, parameters: Any, *unused: Any) -> Any:
            q = parameters[0]
            rest, other = 1.0 + q - u[0], 1.0 + u[0] - q
            across = other * other
            down = 2.0 * other * u[1]
            p = u[0] + 0.25 * u[1]
            return np.array(
                [
                    [rest * rest - 2.0 * rest * p - 0.25 * down, 0.25 * (rest * rest - across)],
                    [down, across],
                ]
            )

        system = DiscreteDynamicalSystem(mapping=mapping, jacobian=jacobian, system_dimension=2, number_of_parameters=1)
        q = sweep(size)[:: round(1 / share)]

        def run() -> Any:
            found = [
                system.lyapunov([START, 0.0], TRANSIENT + STEPS, parameters=value, transient_time=TRANSIENT)
                for value in q.tolist()
            ]
            along, across = np.array(found).T
            return q, TRANSIENT, STEPS, along, across

        run()
        return run

    return prepare


OURS = "lyapunov"
NUMPY, NUMPY_RARELY = "NumPy in place (1/50 of the steps)", "NumPy in place, logarithm every 16 steps (1/50)"
JAX, JAX_BLOCKS = "JAX scan, vmapped (1/10 of the steps)", "JAX scan, in blocks (1/10)"
JAX_RARELY = "JAX scan, in blocks, logarithm every 16 steps (1/10)"
LOOPED = "pynamicalsys, looped (1/100 of the parameters)"
C = "C in vectors, every step"


def _contenders(threads: int) -> list[Contender]:
    ours = [Contender(OURS, _ours(LOW)), Contender("lyapunov, nothing but chaos (q from 1.9)", _ours(CHAOTIC))]
    if threads > 1:
        return [*ours, Contender(JAX_RARELY, _jax(0.1, 16, 1000), 0.1, ("jax",))]
    return [
        *ours,
        Contender(C, _native),
        Contender("scalar Numba", _scalar_numba),
        Contender(NUMPY, _numpy(0.02, 1), 0.02),
        Contender(NUMPY_RARELY, _numpy(0.02, 16), 0.02),
        Contender(JAX, _jax(0.1, 1, None), 0.1, ("jax",)),
        Contender(JAX_BLOCKS, _jax(0.1, 1, 1000), 0.1, ("jax",)),
        Contender(JAX_RARELY, _jax(0.1, 16, 1000), 0.1, ("jax",)),
        Contender(LOOPED, _pynamicalsys(0.01), 0.01, ("pynamicalsys",)),
    ]


def _check(results: Mapping[str, Any], size: int) -> None:
    """Equal where orbits settle; where they are chaotic, and rounding decides the orbit, equal on average."""
    for name, (q, transient, steps, *exponents) in results.items():
        found = lyapunov(q, steps=steps, transient=transient, start=START)
        settled = (found.exponent.values < -0.05) & (q < DOUBLED)
        # in order of size, in which QR returns them
        ours, theirs = np.sort([found.exponent.values, found.transverse_exponent.values], 0), np.sort(exponents, 0)
        # the first tangents of a QR point anywhere, and that is averaged over too
        tolerance = 10.0 / steps if name == LOOPED else 1e-6
        for gap in theirs - ours:
            np.testing.assert_allclose(gap[settled], 0.0, atol=tolerance, err_msg=name)
            rest = gap[~settled]
            if rest.size > 1:
                assert abs(rest.mean()) <= 5 * rest.std() / rest.size**0.5 + 1e-6, (name, size, rest.mean())


# ---------------------------------------------------------------------------------------------------------------------
# Attractors. A result is the values of q and the last outputs, (q, KEEP).


def _our_attractors(imbalance: float) -> Callable[[int], Run]:
    def prepare(size: int) -> Run:
        q = sweep(size)
        transient = TRANSIENT + STEPS - KEEP

        def run() -> Any:
            found = bifurcation(q, transient=transient, keep=KEEP, start=START, imbalance=imbalance)
            return q, found.output.values

        run()
        return run

    return prepare


def _numpy_attractors(share: float) -> Callable[[int], Run]:
    """The steps that are left out come first; those that are kept are all run."""
    steps = round((TRANSIENT + STEPS) * share)

    def prepare(size: int) -> Run:
        q = sweep(size)
        r, roof = 1.0 + q, (2.0 + q) * (1.0 - 2.0**-52)

        def run() -> Any:
            x, rest, last = np.full(size, START), np.empty(size), np.empty((KEEP, size))
            for t in range(KEEP - steps, KEEP):
                if t >= 0:
                    last[t] = x
                np.subtract(r, x, out=rest)
                np.multiply(rest, rest, out=rest)
                np.multiply(x, rest, out=x)
                np.minimum(x, roof, out=x)
            return q, last.T

        return run

    return prepare


@numba.njit(error_model="numpy", nogil=True)
def _scalar_last(q: Any, start: float, transient: int, last: Any) -> None:
    for i in range(q.size):
        x, r = start, 1.0 + q[i]
        for t in range(-transient, last.shape[1]):
            if t >= 0:
                last[i, t] = x
            rest = r - x
            x = min(x * (rest * rest), (2.0 + q[i]) * (1.0 - 2.0**-52))


def _scalar_attractors(size: int) -> Run:
    q, last = sweep(size), np.empty((size, KEEP))
    _scalar_last(q[:1], START, 1, last[:1])

    def run() -> Any:
        _scalar_last(q, START, TRANSIENT + STEPS - KEEP, last)
        return q, last.copy()

    return run


def _jax_attractors(share: float, block: int | None) -> Callable[[int], Run]:
    steps = round((TRANSIENT + STEPS) * share)

    def prepare(size: int) -> Run:
        import jax
        from jax import lax
        from jax import numpy as jnp

        q = sweep(size)

        def orbit(value: Any) -> Any:
            def step(x: Any, _: Any) -> tuple[Any, Any]:
                rest = 1.0 + value - x
                return jnp.minimum(x * (rest * rest), (2.0 + value) * (1.0 - 2.0**-52)), x

            x = lax.fori_loop(0, steps - KEEP, lambda _, x: step(x, None)[0], START)
            return lax.scan(step, x, None, length=KEEP)[1]

        cells = jax.vmap(orbit)
        if block is None or block >= size:
            compiled, shaped = jax.jit(cells), jnp.asarray(q)
        else:
            compiled, shaped = jax.jit(lambda rows: lax.map(cells, rows)), jnp.asarray(q.reshape(-1, block))

        def run() -> Any:
            return q, np.asarray(compiled(shaped)).reshape(size, KEEP)

        run()
        return run

    return prepare


def _pynamicalsys_attractors(share: float) -> Callable[[int], Run]:
    def prepare(size: int) -> Run:
        from pynamicalsys import DiscreteDynamicalSystem

        @numba.njit
        def mapping(u: Any, parameters: Any) -> Any:
            q = parameters[0]
            rest = 1.0 + q - u[0]
            return np.array([min(u[0] * (rest * rest), (2.0 + q) * (1.0 - 2.0**-52))])

        system = DiscreteDynamicalSystem(mapping=mapping, system_dimension=1, number_of_parameters=1)
        q = sweep(size)[:: round(1 / share)]
        total = TRANSIENT + STEPS - 1

        def run() -> Any:
            paths = [
                system.trajectory(START, total, parameters=value, transient_time=total - KEEP) for value in q.tolist()
            ]
            return q, np.array(paths).reshape(q.size, -1)

        run()
        return run

    return prepare


LINE = "bifurcation"
NUMPY_LAST, JAX_LAST = "NumPy in place (1/20 of the steps)", "JAX loop, vmapped (1/10 of the steps)"
JAX_LAST_BLOCKS = "JAX loop, in blocks (1/10)"


def _attractor_contenders(threads: int) -> list[Contender]:
    ours = [
        Contender(LINE, _our_attractors(0.0)),
        Contender("bifurcation, two-dimensional map", _our_attractors(0.2)),
    ]
    if threads > 1:
        return ours
    return [
        *ours,
        Contender("scalar Numba", _scalar_attractors),
        Contender(NUMPY_LAST, _numpy_attractors(0.05), 0.05),
        Contender(JAX_LAST, _jax_attractors(0.1, None), 0.1, ("jax",)),
        Contender(JAX_LAST_BLOCKS, _jax_attractors(0.1, 1000), 0.1, ("jax",)),
        Contender(LOOPED, _pynamicalsys_attractors(0.01), 0.01, ("pynamicalsys",)),
    ]


def _check_attractors(results: Mapping[str, Any], size: int) -> None:
    """The same cycles; where there is none, the same range on average."""
    for name, (q, last) in results.items():
        exponent = lyapunov(q, steps=10_000, transient=10_000, start=START).exponent.values
        ours = bifurcation(q, transient=10_000, keep=last.shape[1], start=START).output.values
        # at the very end unequal layers diverge
        settled, chaotic = (exponent < -0.1) & (q < DOUBLED), (exponent > 0.1) & np.isfinite(last[:, -1])
        np.testing.assert_allclose(np.sort(last)[settled], np.sort(ours)[settled], rtol=1e-6, err_msg=name)
        if chaotic.sum() > 1:
            gap = last[chaotic].mean(1) - ours[chaotic].mean(1)
            assert abs(gap.mean()) <= 5 * gap.std() / gap.size**0.5 + 1e-6, (name, size, gap.mean())


LIMIT = (
    "two products, a difference and a minimum in two cycles for eight orbits, the limit of the processor, would take 7 "
    "ms for all 1e8 steps at 3.7 GHz: 14 times as fast as this NumPy and 6 as this JAX, were there nothing else to do; "
    "stopping where orbits repeat saves some of it, and the points that are returned, with kernel and sharpness, take "
    "10 ms"
)

WORKLOADS = (
    Workload(
        name="orbits",
        title="Lyapunov exponents over a sweep",
        size_name="learning rates",
        sizes=(100, 1000, 10_000),
        contenders=_contenders,
        check=_check,
        threads=(1, 2),
        goals=(
            faster(OURS, (NUMPY, NUMPY_RARELY), 10.0),
            faster(OURS, (JAX, JAX_BLOCKS, JAX_RARELY), 12.0),
            faster(OURS, LOOPED, 500.0),
        ),
        note=(
            f"{TRANSIENT + STEPS} iterations for every q, of which the first {TRANSIENT} are not averaged over. Both "
            "exponents, along the line and across it, which is all there is of the two-dimensional map. Ours stops "
            "where an orbit repeats to the last bit; nobody else does. From q = 1.9 on hardly any does. pynamicalsys "
            "takes the two from QR of the two-dimensional tangents, every step."
        ),
    ),
    Workload(
        name="attractors",
        title="Attractors over a sweep",
        size_name="learning rates",
        sizes=(100, 1000, 10_000),
        contenders=_attractor_contenders,
        check=_check_attractors,
        threads=(1, 2),
        goals=(
            faster(LINE, NUMPY_LAST, 5.0, why=LIMIT),
            faster(LINE, (JAX_LAST, JAX_LAST_BLOCKS), 2.0, why=LIMIT),
            faster(LINE, LOOPED, 500.0, why="its loop over one orbit is compiled, and has no tangents to carry"),
        ),
        note=(
            f"The last {KEEP} of {TRANSIENT + STEPS} points of every orbit. Ours returns kernel and sharpness beside "
            f"the output. In two dimensions, from unequal layers, every step is taken. The limit: {LIMIT}."
        ),
    ),
)
