"""Many small networks: SGD of sixteen at once against one after another, their matrix products and JAX's vmap.

Every run has its own start and its own batches; the weights that they end at must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks._measure import Contender, Run, Workload, faster
from sgdynamics.simulate import trainer

RUNS, STEPS, BATCH, RATE = 16, 200, 32, 0.1
OURS, LOOP, PRODUCTS, VMAP = "ensemble", "trajectory, one after another", "their matrix products alone", "JAX vmap"
LIMIT = (
    "of 2.20 ms that a step of the loop takes on an AMD EPYC with AVX-512 the products, which are the same, take 1.58; "
    "stacked into one call each 1.45, and 1.21 at the peak of 58.6 GFLOP/s: with nothing else left to do, 1.5 and 1.8 "
    "times as fast as the loop. One product as large as all sixteen is no faster than the stack, 1.55, so that batches "
    "which all runs share would gain nothing"
)
TANH = "tanh and its slope take 1.4 times as long in vectors of four; a step of JAX, products and all, hardly longer"


def _widths(hidden: int) -> list[int]:
    """One hidden layer of 32 units, two where they are wider."""
    return [64, 32, 10] if hidden == 32 else [64, hidden, hidden, 10]


def _nets(hidden: int) -> list[trainer.Network]:
    return [trainer.network(_widths(hidden), "tanh", seed=run) for run in range(RUNS)]


def _objectives(hidden: int) -> list[trainer.Objective]:
    nets = _nets(hidden)
    first = trainer.Objective(nets[0], *trainer.digits(), "cross_entropy")
    return [first.with_flat(net.flat()) for net in nets]


def _batches(run: int) -> trainer.Batches:
    return trainer.Batches(BATCH, replacement=True, seed=run)


def _ours(hidden: int) -> Run:
    rates = np.full(STEPS, RATE)
    starts = _objectives(hidden)
    batches = [_batches(run) for run in range(RUNS)]
    return lambda: trainer.ensemble(starts, rates, batches=batches, evaluate_loss=False).final_weights.values


def _loop(hidden: int) -> Run:
    rates = np.full(STEPS, RATE)
    starts = _objectives(hidden)
    return lambda: np.array(
        [
            trainer.trajectory(start, rates, batches=_batches(run), evaluate_loss=False).final_weights
            for run, start in enumerate(starts)
        ]
    )


def _products(hidden: int) -> Run:
    """Of one network after the other, into arrays that are there."""
    widths, random = _widths(hidden), np.random.default_rng(0)
    values = [random.standard_normal((BATCH, width)) for width in widths]
    deltas = [random.standard_normal((BATCH, width)) for width in widths]
    weights = _nets(hidden)[0].weights
    slopes = [np.empty_like(w) for w in weights]
    calls = [(values[k], w, values[k + 1]) for k, w in enumerate(weights)]
    calls += [(deltas[k + 1], weights[k].T, deltas[k]) for k in range(len(weights) - 1, 0, -1)]
    calls += [(values[k].T, deltas[k + 1], slopes[k]) for k in range(len(weights))]

    def run() -> None:
        for _ in range(RUNS * STEPS):
            for left, right, out in calls:
                np.matmul(left, right, out)

    return run


def _vmap(hidden: int) -> Run:
    import jax
    import jax.numpy as jnp

    images, digits = trainer.digits()
    x, labels = jnp.asarray(images), jnp.asarray(digits)
    nets = _nets(hidden)
    layers = range(len(nets[0].weights))
    biases = [net.biases or [] for net in nets]
    start = [(jnp.stack([net.weights[k] for net in nets]), jnp.stack([shifts[k] for shifts in biases])) for k in layers]
    rows = np.array([_batches(run).numbers(len(images), STEPS) for run in range(RUNS)])

    def loss(parameters: Any, x: Any, labels: Any) -> Any:
        for w, b in parameters[:-1]:
            x = jnp.tanh(x @ w + b)
        w, b = parameters[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ w + b), labels[:, None], axis=1).mean()

    def step(parameters: Any, chosen: Any) -> tuple[Any, None]:
        slopes = jax.grad(loss)(parameters, x[chosen], labels[chosen])
        return jax.tree.map(lambda w, slope: w - RATE * slope, parameters, slopes), None

    train = jax.jit(jax.vmap(lambda parameters, rows: jax.lax.scan(step, parameters, rows)[0]))
    drawn = jnp.asarray(rows)

    def run() -> np.ndarray:
        ends = jax.block_until_ready(train(start, drawn))
        return np.concatenate([np.asarray(part).reshape(RUNS, -1) for pair in ends for part in pair], axis=1)

    return run


def _contenders(threads: int) -> list[Contender]:
    return [
        Contender(OURS, _ours),
        Contender(LOOP, _loop),
        Contender(PRODUCTS, _products),
        Contender(VMAP, _vmap, requires=("jax",)),
    ]


def _check(results: Mapping[str, Any], size: int) -> None:
    for name in set(results) - {OURS, PRODUCTS}:
        np.testing.assert_allclose(results[name], results[OURS], rtol=1e-9, atol=1e-9, err_msg=name)


WORKLOADS = (
    Workload(
        name="trainer_stacked",
        title=f"{STEPS} SGD steps of {RUNS} networks, batches of {BATCH}: 64-32-10, and 64-h-h-10 for wider ones",
        size_name="hidden width h",
        sizes=(32, 128),
        contenders=_contenders,
        check=_check,
        goals=(faster(OURS, LOOP, 1.05), faster(OURS, VMAP, 1, why=TANH)),
        note=f"1.9 times as fast as the loop at 64-32-10, where calls weigh more. The limit at 64-128-128-10: {LIMIT}.",
    ),
)
