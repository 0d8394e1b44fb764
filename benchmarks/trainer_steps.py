"""SGD and gradient descent of a small network: NumPy's products with compiled loops between them, against the products
alone and the frameworks.

All start from the same weights and take the same batches; the weights they end at must agree. Only ours evaluates the
loss over all examples at the end and labels what it returns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks._measure import Contender, Run, Workload, faster, slower, with_long_vectors
from sgdynamics.simulate import trainer

BATCH = 32
RATE = 0.1
OURS, PRODUCTS, TORCH = "train", "its matrix products alone", "PyTorch eager"


class Task(NamedTuple):
    """A start, examples, and the rows of each batch; no rows are the full batch."""

    net: trainer.Network
    x: np.ndarray
    labels: np.ndarray
    steps: int
    rows: np.ndarray | None


def _batches(size: int | None) -> trainer.Batches:
    return trainer.Batches(size, replacement=True, seed=0)


def _mini_batches(width: int) -> Task:
    x, labels = trainer.digits()
    net = trainer.network([64, width, width, 10], "tanh", seed=0)
    return Task(net, x, labels, 1000, _batches(BATCH).numbers(len(x), 1000))


def _full_batch(examples: int) -> Task:
    x, labels = trainer.digits()
    net = trainer.network([64, 128, 128, 10], "tanh", seed=0)
    return Task(net, x[:examples], labels[:examples], 50, None)


def _flat(parameters: Sequence[tuple[Any, Any]]) -> np.ndarray:
    return np.concatenate([np.ravel(part) for pair in parameters for part in pair])


def _ours(task: Task) -> Run:
    objective, rates = trainer.Objective(task.net, task.x, task.labels, "cross_entropy"), np.full(task.steps, RATE)
    batches = _batches(None if task.rows is None else BATCH)
    return lambda: trainer.trajectory(objective, rates, batches=batches).final_weights.values


def _products(task: Task) -> Run:
    """The eight products of a step, into arrays that are there."""
    examples, random = len(task.x) if task.rows is None else BATCH, np.random.default_rng(0)
    values = [random.standard_normal((examples, width)) for width in task.net.widths]
    deltas = [random.standard_normal((examples, width)) for width in task.net.widths]
    weights = [w.copy() for w in task.net.weights]
    slopes = [np.empty_like(w) for w in weights]
    calls = [(values[k], w, values[k + 1]) for k, w in enumerate(weights)]
    calls += [(deltas[k + 1], weights[k].T, deltas[k]) for k in range(len(weights) - 1, 0, -1)]
    calls += [(values[k].T, deltas[k + 1], slopes[k]) for k in range(len(weights))]

    def run() -> None:
        for _ in range(task.steps):
            for left, right, out in calls:
                np.matmul(left, right, out)

    return run


def _numpy(task: Task) -> Run:
    def gradients(parameters: list[Any], x: np.ndarray, labels: np.ndarray) -> list[Any]:
        values = [x]
        for w, b in parameters[:-1]:
            values.append(np.tanh(values[-1] @ w + b))
        w, b = parameters[-1]
        z = values[-1] @ w + b
        exponentials = np.exp(z - z.max(axis=1, keepdims=True))
        delta = exponentials / exponentials.sum(axis=1, keepdims=True)
        delta[np.arange(len(x)), labels] -= 1
        delta /= len(x)
        found = []
        for (w, _), value in zip(reversed(parameters), reversed(values), strict=True):
            found.append((value.T @ delta, delta.sum(axis=0)))
            if value is not x:
                delta = delta @ w.T * (1 - value**2)
        return found[::-1]

    def run() -> np.ndarray:
        parameters = [(w.copy(), b.copy()) for w, b in _pairs(task.net)]
        for step in range(task.steps):
            x, labels = (task.x, task.labels) if task.rows is None else (a[task.rows[step]] for a in task[1:3])
            for (w, b), (slope, shift) in zip(parameters, gradients(parameters, x, labels), strict=True):
                w -= RATE * slope
                b -= RATE * shift
        return _flat(parameters)

    return run


def _pairs(net: trainer.Network) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    assert net.biases is not None
    return zip(net.weights, net.biases, strict=True)


def _jax(task: Task) -> Run:
    import jax
    import jax.numpy as jnp

    x, labels = jnp.asarray(task.x), jnp.asarray(task.labels)
    start = [(jnp.asarray(w), jnp.asarray(b)) for w, b in _pairs(task.net)]

    def loss(parameters: Any, x: Any, labels: Any) -> Any:
        for w, b in parameters[:-1]:
            x = jnp.tanh(x @ w + b)
        w, b = parameters[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(x @ w + b), labels[:, None], axis=1).mean()

    def step(parameters: Any, rows: Any) -> tuple[Any, None]:
        batch = (x, labels) if rows is None else (x[rows], labels[rows])
        slopes = jax.grad(loss)(parameters, *batch)
        return jax.tree.map(lambda w, slope: w - RATE * slope, parameters, slopes), None

    train = jax.jit(lambda parameters, rows: jax.lax.scan(step, parameters, rows, length=task.steps)[0])
    rows = None if task.rows is None else jnp.asarray(task.rows)
    return lambda: _flat(jax.block_until_ready(train(start, rows)))


def _torch(task: Task, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    x, labels = torch.from_numpy(task.x), torch.from_numpy(task.labels)
    rows = None if task.rows is None else torch.from_numpy(task.rows)
    widths = task.net.widths
    linear = [torch.nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(widths)]
    hidden = [module for layer in linear[:-1] for module in (layer, torch.nn.Tanh())]
    net = torch.nn.Sequential(*hidden, linear[-1])
    loss = torch.nn.CrossEntropyLoss()

    def run() -> np.ndarray:
        with torch.no_grad():
            for layer, (w, b) in zip(linear, _pairs(task.net), strict=True):
                layer.weight.copy_(torch.from_numpy(w).T)
                layer.bias.copy_(torch.from_numpy(b))
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
        for step in range(task.steps):
            x_batch, batch_labels = (x, labels) if rows is None else (x[rows[step]], labels[rows[step]])
            optimizer.zero_grad()
            loss(net(x_batch), batch_labels).backward()
            optimizer.step()
        return _flat([(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear])

    return run


def _contenders(task: Callable[[int], Task]) -> Callable[[int], list[Contender]]:
    def contenders(threads: int) -> list[Contender]:
        return [
            Contender(OURS, lambda size: _ours(task(size))),
            Contender(PRODUCTS, lambda size: _products(task(size))),
            Contender("NumPy as one would write it", lambda size: _numpy(task(size))),
            Contender("JAX jit, scan", lambda size: _jax(task(size)), requires=("jax",)),
            Contender(TORCH, lambda size: _torch(task(size), threads), requires=("torch",)),
        ]

    return contenders


def _check(results: Mapping[str, Any], size: int) -> None:
    ours = results[OURS]
    for name, weights in results.items():
        if name != PRODUCTS:
            error = float(np.abs(weights - ours).max())
            assert error <= 1e-9, (name, error)


WHY = "tanh, softmax, biases and update are read and written once a step; the faster the products, the more they weigh"
BLAS = "the products alone leave too little: OpenBLAS takes AVX2 kernels on processors that are newer than itself"
NOTE = "tanh, cross-entropy, float64. Ours includes the loss over all examples at the end and a labelled result."

WORKLOADS = (
    *with_long_vectors(
        Workload(
            name="trainer_step",
            title="1000 SGD steps, 64-h-h-10, batches of 32",
            size_name="hidden width h",
            sizes=(32, 64, 128),
            contenders=_contenders(_mini_batches),
            check=_check,
            goals=(slower(OURS, PRODUCTS, 1.6, why=WHY), faster(OURS, TORCH, 2.5, why=BLAS)),
            note=NOTE,
        )
    ),
    *with_long_vectors(
        Workload(
            name="trainer_full_batch",
            title="50 full-batch steps, 64-128-128-10",
            size_name="examples",
            sizes=(200, 600, 1797),
            contenders=_contenders(_full_batch),
            check=_check,
            goals=(slower(OURS, PRODUCTS, 1.25, why=WHY),),
            exponents={OURS: 1.0},
            note=NOTE,
        )
    ),
)
