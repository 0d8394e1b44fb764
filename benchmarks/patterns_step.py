"""A step of the two-pattern network with noise on all weights: what it costs beyond its two products of matrices.

Hidden units that see P, so many that the other ones do not matter; every contender starts from the same weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks._measure import Contender, Run, Workload, faster, slower, with_long_vectors
from sgdynamics._blas import one_blas_thread
from sgdynamics.models.patterns import TwoBlockNetwork, TwoPatternData, TwoPatternSetting, TwoPatternTraining
from sgdynamics.simulate._blocks import workers
from sgdynamics.simulate.patterns._units import Step
from sgdynamics.simulate.patterns.networks import _Network

EXAMPLES, DIMENSION = 1000, 200
STEPS, QUIET_STEPS = 25, 5
RATE, KEEP, START, NOISE = 0.5, 0.9995, 0.1, 0.02

DATA = TwoPatternData(DIMENSION, p_only=1.0, q_only=0.0, margin=1.0, separation=0.5)
SETTING = TwoPatternSetting(DATA, TwoPatternTraining(RATE, 0.01, 50.0, 0.0, weight_decay=1e-3), EXAMPLES)
OURS, ALONE, GEMMS = "sgdynamics", "sgdynamics, one thread", "its matrix products alone"
NUMPY, TORCH = "NumPy in place, SFC64", "PyTorch eager"
JAX, JAX_BY_HAND = "JAX scan, gradient by JAX", "JAX scan, gradient by hand"

# takes the number of steps and the deviation of the noise, goes on from where it is, returns the weights
Steps = Callable[[int, float], np.ndarray]


def problem(units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (examples, dimension), labels, second layer, weights at the start (units, dimension)."""
    sample = SETTING.draw(0)
    start = START * np.random.default_rng(1).standard_normal((units, DIMENSION))
    return sample.inputs, sample.label.astype(float), TwoBlockNetwork(units, 2).second_layer_p, start


def contender(name: str, begin: Callable[[int], Steps], requires: tuple[str, ...] = ()) -> Contender:
    """Runs return the weights after a few steps without noise, and those after the steps that are timed."""

    def prepare(units: int) -> Run:
        quiet = np.array(begin(units)(QUIET_STEPS, 0.0))
        steps = begin(units)
        return lambda: (quiet, steps(STEPS, NOISE))

    return Contender(name, prepare, requires=requires)


def ours(units: int, *, tasks: int | None = None) -> Steps:
    start = problem(units)[-1]
    network = _Network(SETTING, SETTING.draw(0), TwoBlockNetwork(units, 2), 0)
    for block in network.of_q:
        block.second_layer = np.zeros(2)  # as if there were none
    first = 0
    for block in network.of_p:
        block.weights[:] = start[first : first + len(block.weights)]
        first += len(block.weights)
    network.look(0.0)
    weight = np.full(EXAMPLES, 1 / EXAMPLES)

    def steps(count: int, noise: float) -> np.ndarray:
        step = Step(RATE, KEEP, noise / SETTING.training.noise_scale_p, 0.0)
        with one_blas_thread(), workers(network.tasks if tasks is None else tasks) as run:
            for _ in range(count):
                assert np.isfinite(network.output).all()
                network.advance(network.slope(weight), step, run)
        return np.concatenate([block.weights for block in network.of_p])

    return steps


def products(units: int) -> Run:
    """The two products at full size, in the layout in which they are fastest."""
    inputs, _, _, weights = problem(units)
    across = np.ascontiguousarray(inputs.T)
    before, gradient = np.empty((units, EXAMPLES)), np.empty((DIMENSION, units))

    def run() -> None:
        for _ in range(STEPS):
            np.dot(weights, across, out=before)
            np.dot(across, before.T, out=gradient)

    return run


def in_numpy(units: int) -> Steps:
    inputs, label, second_layer, weights = problem(units)
    generator = np.random.Generator(np.random.SFC64(0))
    before, active = np.empty((2, units, EXAMPLES))
    gradient, normals = np.empty((2, units, DIMENSION))

    def steps(count: int, noise: float) -> np.ndarray:
        for _ in range(count):
            np.dot(weights, inputs.T, out=before)
            np.maximum(before, 0.0, out=active)
            slope = -label / (1 + np.exp(label * (second_layer @ active))) / EXAMPLES
            np.multiply(before >= 0, slope, out=active)
            np.dot(active, inputs, out=gradient)
            np.multiply(gradient, RATE * second_layer[:, None], out=gradient)
            np.multiply(weights, KEEP, out=weights)
            np.subtract(weights, gradient, out=weights)
            if noise:
                generator.standard_normal(out=normals)
                np.multiply(normals, noise, out=normals)
                np.add(weights, normals, out=weights)
        return weights.copy()

    return steps


def in_torch(units: int, threads: int) -> Steps:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    inputs, label, second_layer, weights = (torch.from_numpy(array) for array in problem(units))
    weights.requires_grad_()
    normals = torch.empty_like(weights)

    def steps(count: int, noise: float) -> np.ndarray:
        for _ in range(count):
            output = torch.relu(inputs @ weights.T) @ second_layer
            loss = torch.nn.functional.softplus(-label * output).mean()
            (gradient,) = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                weights.mul_(KEEP).sub_(gradient, alpha=RATE)
                if noise:
                    weights.add_(normals.normal_(), alpha=noise)
        return np.array(weights.detach().numpy())

    return steps


def in_jax(units: int, *, by_hand: bool) -> Steps:
    import jax
    import jax.numpy as jnp

    inputs, label, second_layer, weights = (jnp.asarray(array) for array in problem(units))
    across = jnp.asarray(np.ascontiguousarray(inputs.T))

    def loss(weights: Any) -> Any:
        return jax.nn.softplus(-label * (jax.nn.relu(inputs @ weights.T) @ second_layer)).mean()

    def gradient(weights: Any) -> Any:
        """In the layout in which XLA has fast products of matrices, and relu's derivative fused into the second."""
        before = weights @ across
        slope = -label * jax.nn.sigmoid(-label * (second_layer @ jax.nn.relu(before))) / EXAMPLES
        return (jnp.where(before >= 0, slope, 0.0) @ inputs) * second_layer[:, None]

    slopes = gradient if by_hand else jax.grad(loss)

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def scan(weights: Any, key: Any, count: int, noisy: bool, noise: Any) -> Any:
        def step(weights: Any, key: Any) -> tuple[Any, None]:
            stepped = KEEP * weights - RATE * slopes(weights)
            return (stepped + noise * jax.random.normal(key, weights.shape) if noisy else stepped), None

        return jax.lax.scan(step, weights, jax.random.split(key, count))[0]

    state = {"weights": weights, "key": jax.random.key(0)}

    def steps(count: int, noise: float) -> np.ndarray:
        state["key"], key = jax.random.split(state["key"])
        state["weights"] = scan(state["weights"], key, count, noise > 0, noise).block_until_ready()
        return np.asarray(state["weights"])

    return steps


def _contenders(threads: int) -> list[Contender]:
    one_thread = [contender(ALONE, functools.partial(ours, tasks=1))] if threads > 1 else []
    return [
        contender(OURS, ours),
        *one_thread,
        Contender(GEMMS, products),
        contender(NUMPY, in_numpy),
        contender(JAX, functools.partial(in_jax, by_hand=False), ("jax",)),
        contender(JAX_BY_HAND, functools.partial(in_jax, by_hand=True), ("jax",)),
        contender(TORCH, functools.partial(in_torch, threads=threads), ("torch",)),
    ]


def _check(results: Mapping[str, Any], units: int) -> None:
    """Without noise the same weights, with noise weights of the same distribution; any number of threads, same bits."""
    quiet, noisy = results[OURS]
    error = 1 / math.sqrt(2 * noisy.size)
    for name, result in results.items():
        if name == GEMMS:
            continue
        np.testing.assert_allclose(result[0], quiet, rtol=1e-9, atol=1e-12, err_msg=name)
        if name == ALONE:
            assert np.array_equal(result[1], noisy)
            continue
        assert abs(result[1].std() / noisy.std() - 1) < 6 * error, name
        assert abs(result[1].mean() - noisy.mean()) < 9 * error * noisy.std(), name
    added = math.sqrt(START**2 * KEEP ** (2 * STEPS) + NOISE**2 * (1 - KEEP ** (2 * STEPS)) / (1 - KEEP**2))
    assert abs(noisy.std() / added - 1) < 0.02


BLAS = (
    "the two products alone leave no room: OpenBLAS takes AVX2 kernels on processors that are newer than itself, XLA "
    "those for AVX-512"
)
REST = (
    "normals, a pass over the activities, slopes and weights are 1.3 ms a step with vectors of four doubles, 1.1 with "
    "eight, and between them the products take some .4 longer than alone"
)
WORKLOADS = with_long_vectors(
    Workload(
        name="patterns_step",
        title=f"{STEPS} steps of the two-pattern network, {EXAMPLES} examples in {DIMENSION} dimensions",
        size_name="hidden units",
        sizes=(250, 500, 1000),
        contenders=_contenders,
        check=_check,
        goals=(
            slower(OURS, GEMMS, 1.1, why=REST),
            faster(OURS, (JAX, JAX_BY_HAND), 1.15, why=BLAS),
            faster(OURS, TORCH, 1.35),
            faster(OURS, ALONE, 1.5, threads=2),
        ),
        threads=(1, 2),
        exponents={OURS: 1.0},
    )
)
