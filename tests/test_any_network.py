"""The adapters of the documentation: frameworks' networks measured by our instruments, against our own networks."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer

# the framework's own notice of what it will drop
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
PAGE = (Path(__file__).parents[1] / "docs" / "any_network.md").read_text(encoding="utf-8")
TORCH, JAX, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(8)
    return random.standard_normal((50, 7)), random.integers(5, size=50)


@pytest.fixture(scope="module")
def ours():
    net = trainer.network([7, 6, 5], "tanh", seed=2)
    for shift in net.biases:
        shift[:] = np.random.default_rng(0).standard_normal(shift.shape)
    return net


def _torch(ours):
    torch = pytest.importorskip("torch", reason="torch is not installed; the benchmarks' environment has it")
    module = torch.nn.Sequential(torch.nn.Linear(7, 6), torch.nn.Tanh(), torch.nn.Linear(6, 5)).double()
    with torch.no_grad():
        for linear, weight, shift in zip(module[::2], ours.weights, ours.biases, strict=True):
            linear.weight[:], linear.bias[:] = torch.from_numpy(weight.T.copy()), torch.from_numpy(shift)
    names = {}
    exec(TORCH, names)
    order = np.concatenate([np.arange(42).reshape(7, 6).T.ravel(), np.arange(42, 48),
                            48 + np.arange(30).reshape(6, 5).T.ravel(), np.arange(78, 83)])  # fmt: skip
    return names["torch_network"](module, torch.nn.functional.cross_entropy), order


def _jax(ours):
    pytest.importorskip("jax", reason="jax is not installed; the benchmarks' environment has it")
    names = {}
    exec(JAX, names)
    jax = names["jax"]

    def loss(parameters, x, y):
        first, shift, second, last = parameters
        logits = jax.numpy.tanh(x @ first + shift) @ second + last
        return -jax.nn.log_softmax(logits)[jax.numpy.arange(len(y)), y].mean()

    pairs = zip(ours.weights, ours.biases, strict=True)
    return names["jax_network"]([part for pair in pairs for part in pair], loss), np.arange(83)


@pytest.fixture(scope="module", params=[_torch, _jax], ids=["torch", "jax"])
def theirs(request, ours):
    return request.param(ours)


def test_eigenvalues_covariance_and_overshoot_are_those_of_our_network(data, ours, theirs):
    net, order = theirs
    np.testing.assert_allclose(net.flat(), ours.flat()[order])
    expected = trainer.top_hessian_eigenvalues(ours, *data, k=5, loss="cross_entropy")
    mine, others = trainer.Objective(ours, *data, "cross_entropy"), trainer.Objective(net, *data)
    found = trainer.top_eigenpairs(others, k=5)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-10)
    directions = expected.vectors
    for name, options, turned in (
        ("gradient_covariance", {"k": 5}, {}),
        ("projected_steps", {"batch_size": 10, "directions": directions}, {"directions": directions[order]}),
        ("alignments", {"directions": directions}, {"directions": directions[order]}),
        ("gradient_interaction", {"batch_size": 10}, {}),
    ):
        instrument = getattr(trainer, name)
        expected_numbers = instrument(mine, **options)
        for variable, values in instrument(others, **(options | turned)).items():
            scale = np.abs(expected_numbers[variable]).max().item()
            np.testing.assert_allclose(values, expected_numbers[variable], rtol=0, atol=1e-10 * scale)


def test_training_takes_the_same_path(data, ours, theirs):
    net, order = theirs
    how = {"batch_size": 10, "seed": 1, "update": trainer.momentum(0.9)}
    expected = trainer.train(ours, *data, schedules.linear(0.2, 40), loss="cross_entropy", **how)
    found = trainer.train(net, *data, schedules.linear(0.2, 40), loss="own", **how)
    np.testing.assert_allclose(found.final_weights, expected.final_weights.values[order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("adapter", [TORCH, JAX])
def test_an_adapter_is_no_longer_than_thirty_lines(adapter):
    (function,) = [node for node in ast.parse(adapter).body if isinstance(node, ast.FunctionDef)]
    assert function.end_lineno - function.lineno < 30


def test_what_the_page_does_with_a_network_runs_as_printed(data, ours):
    x, y = data

    def at(call):
        return lambda weights, *rest: call(ours.with_flat(weights), *rest)

    def product(net, x, y, v):
        return trainer.hessian_vector_product(net, x, y, v, "cross_entropy")

    net = trainer.UserNetwork(
        ours.flat(),
        loss=at(lambda net, x, y: trainer.loss_value(net, x, y, "cross_entropy")),
        gradient=at(lambda net, x, y: trainer.gradient(net, x, y, "cross_entropy")),
        hessian_vector_product=at(product),
    )
    names = {"torch_network": lambda *given: net, "torch": MagicMock(), "model": None, "x": x, "y": y}
    exec(USE, names)
    assert names["net"] is net
    assert names["sharpest"].shape[0] == net.size
