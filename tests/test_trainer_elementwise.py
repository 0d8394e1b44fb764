"""Compiled loops between matrix products against the plain functions that they stand for."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer
from sgdynamics.simulate.trainer import elementwise, fused

EPSILON = np.finfo(float).eps
SPECIAL = [0.0, -0.0, 5e-324, -1e-310, 1e-300, 0.5, -1.0, 19.0, -750.0, 1e16, 1e308, -1e308, np.inf, -np.inf, np.nan]
NUMBERS = st.one_of(st.sampled_from(SPECIAL), st.floats(), st.floats(-5, 5))
COUNTS = {
    "enter_tanh": (True, False),
    "leave_tanh": (True, False),
    "enter_relu": (True, False),
    "leave_relu": (True, False),
    "softmax_residual": (True, False),
    "average": (True, False),
}


def test_every_compiled_loop_has_a_plain_function_and_is_compared_here():
    loops = {name for name, member in vars(fused).items() if hasattr(member, "py_func") and name[0] != "_"}
    loops -= {"exp_of_negative", "tanh"}
    assert loops == {name for name, member in vars(elementwise).items() if hasattr(member, "__wrapped__")} - {"kernels"}
    assert loops == {*COUNTS, "descend", "roll", "add_decay"}


@st.composite
def layers(draw):
    """Values of a layer, others like them, and biases or None; of one run or several."""
    runs = draw(st.sampled_from([(), (1,), (3,)]))
    shape = (*runs, draw(st.integers(1, 9)), draw(st.integers(1, 19)))
    z, other = (draw(arrays_of.arrays(np.float64, shape, elements=NUMBERS)) for _ in range(2))
    biases = draw(st.none() | arrays_of.arrays(np.float64, (*runs, shape[-1]), elements=NUMBERS))
    return z, other, biases


def both(name, *given_arguments):
    """What the plain function and the loop leave in copies of their arguments."""
    left = []
    for function in (getattr(elementwise, name).__wrapped__, getattr(fused, name)):
        arguments = [np.array(one) if isinstance(one, np.ndarray) else one for one in given_arguments]
        with np.errstate(all="ignore"):
            function(*arguments)
        left.append(arguments)
    return left


def assert_within(found, wanted, units, scale=None):
    """Not further apart than so many units in the last place of the scale, and the same infinities, NaN and signs."""
    with np.errstate(all="ignore"):
        apart = np.abs(found - wanted)
        unit = np.spacing(np.abs(wanted if scale is None else scale))
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    assert (same | (apart <= units * unit)).all(), (found[~same], wanted[~same])


def assert_bits(found, wanted):
    np.testing.assert_array_equal(found, wanted)
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(wanted)[numbers])


@given(layers())
def test_tanh_is_that_of_numpy_to_rounding(case):
    z, _, biases = case
    (wanted, _), (found, _) = both("enter_tanh", z, biases)
    assert_within(found, wanted, 4)
    assert_bits(np.sign(found), np.sign(wanted))


@given(layers(), st.sampled_from(["enter_relu", "leave_relu", "leave_tanh", "average"]), st.integers(1, 2000))
def test_what_only_adds_and_multiplies_has_the_same_bits(case, name, examples):
    z, other, biases = case
    if name == "enter_relu":
        arguments = (z, biases)
    elif name == "average":
        arguments = (z, examples, biases)
    else:
        arguments = (z, other, biases)
    plain, compiled = both(name, *arguments)
    assert_bits(compiled[0], plain[0])
    if biases is not None:
        assert_bits(compiled[-1], plain[-1])


@given(arrays_of.arrays(np.float64, (2, 3, 11), elements=NUMBERS), NUMBERS)
def test_a_descent_has_the_same_bits(vectors, rate):
    plain, compiled = both("descend", vectors[0, 0], vectors[1, 0], rate)
    assert_bits(compiled[0], plain[0])
    plain, compiled = both("descend", *vectors, np.array([[0.1], [rate], [2.0]]))
    assert_bits(compiled[0], plain[0])


@given(arrays_of.arrays(np.float64, (3, 11), elements=NUMBERS), NUMBERS, NUMBERS)
def test_momentum_and_weight_decay_have_the_same_bits(vectors, beta, rate):
    plain, compiled = both("roll", *vectors, beta, rate)
    for found, wanted in zip(compiled[:2], plain[:2], strict=True):
        assert_bits(found, wanted)
    stacked = [np.stack([vector, -vector, vector / 3]) for vector in vectors]
    plain, compiled = both("roll", *stacked, beta, np.array([[0.1], [rate], [2.0]]))
    for found, wanted in zip(compiled[:2], plain[:2], strict=True):
        assert_bits(found, wanted)
    plain, compiled = both("add_decay", *vectors[:2], rate, np.empty(11))
    assert_bits(compiled[0], plain[0])


@given(layers(), st.integers(0, 2**32 - 1))
def test_softmax_is_that_of_numpy_to_rounding(case, seed):
    z, _, biases = case
    targets = np.random.default_rng(seed).dirichlet(np.ones(z.shape[-1]), size=z.shape[:-1])
    room = np.full_like(z, np.nan), np.full_like(z[..., :1], np.nan)
    plain, compiled = both("softmax_residual", z, biases, targets, *room)
    np.testing.assert_array_equal(compiled[0], plain[0])  # which zero is the larger, NumPy leaves open
    # every exponential is off by at most two units, and their sum by one more for every addition
    classes = z.shape[-1]
    assert_within(compiled[4], plain[4], 2 + classes)
    with np.errstate(all="ignore"):
        probabilities = np.exp(plain[0]) / plain[4]
        scale = np.where(np.isnan(probabilities), 0.0, probabilities) + targets
    assert_within(compiled[3], plain[3], 6 + classes, scale)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40), st.sampled_from(sorted(COUNTS)))
def test_a_number_has_the_same_bits_whatever_stands_beside_it(seed, examples, width, name):
    random = np.random.default_rng(seed)
    z, other, targets = 3 * random.standard_normal((3, 2, examples, width))
    wide = random.standard_normal((2, width + 5))
    biases = wide[:, 3 : 3 + width]  # as they lie in rows of all parameters
    arguments = {
        "softmax_residual": (z, biases, targets, np.empty_like(z), np.empty((2, examples, 1))),
        "average": (z, 7, biases),
    }.get(name, (z, biases) if name.startswith("enter") else (z, other, biases))
    loop = getattr(fused, name)
    alone = []
    for run in range(2):
        alone.append([np.array(one[run]) if isinstance(one, np.ndarray) else one for one in arguments])
        loop(*alone[run])
    rows = [np.array(one[0, :1]) if np.ndim(one) == 3 else None for one in arguments]
    loop(*arguments)
    for place, one in enumerate(arguments):
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, [alone[0][place], alone[1][place]])
    if name in ("enter_tanh", "enter_relu"):
        rows[1] = np.array(biases[0])
        loop(*rows)
        np.testing.assert_array_equal(rows[0], arguments[0][0, :1])


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("biases", [True, False])
def test_runs_are_those_of_the_plain_functions(monkeypatch, activation, loss, biases):
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((40, 4)), random.integers(3, size=40)
    y = labels if loss == "cross_entropy" else np.eye(3)[labels]
    net = trainer.network([4, 6, 5, 3], activation, biases=biases, seed=0)
    start = trainer.Objective(net.with_flat(random.standard_normal(net.size)), x, y, loss, weight_decay=0.01)
    batches = [trainer.Batches(8, seed=seed) for seed in range(2)]

    def everything():
        rates = schedules.constant(0.05, 60)
        alone = trainer.trajectory(start, rates, batches=batches[0], record=[0, 30, 60])
        together = trainer.ensemble([start, start], rates, batches=batches)
        return [
            *(alone[name].values[1:] for name in ("loss", "batch_loss")),
            *(run.final_weights.values for run in (alone, together)),
            start.gradient(),
        ]

    compiled = everything()
    monkeypatch.setattr(elementwise, "kernels", lambda: None)
    for found, wanted in zip(compiled, everything(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("rate", [3.0, 1e3, 1e150, 1e300])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_divergence_comes_at_the_same_step(monkeypatch, activation, loss, rate):
    x, y = np.random.default_rng(0).standard_normal((20, 4)), np.eye(3)[np.arange(20) % 3]
    start = trainer.Objective(trainer.network([4, 6, 3], activation, seed=0), x, y, loss)
    found = []
    for _ in range(2):
        run = trainer.trajectory(start, schedules.constant(rate, 12), record=np.arange(13))
        found.append((run.divergence_step.item(), np.isinf(run.loss.values).tolist()))
        monkeypatch.setattr(elementwise, "kernels", lambda: None)
    assert found[0] == found[1]
    assert rate < 1e150 or loss == "cross_entropy" or found[0][0] > 0


TRAINED = """
import sys
{before}
import numpy as np
from sgdynamics.models import schedules
from sgdynamics.simulate import trainer
x, y = np.random.default_rng(0).standard_normal((20, 4)), np.arange(20) % 3
start = trainer.Objective(trainer.network([4, 6, 3], "tanh", seed=0), x, y, "cross_entropy")
run = trainer.trajectory(start, schedules.constant(0.1, 50), batches=trainer.Batches(4, seed=0))
together = trainer.ensemble([start] * 2, schedules.constant(0.1, 50), batches=[trainer.Batches(4, seed=0)] * 2)
print("numba" in sys.modules and sys.modules["numba"] is not None)
print(*run.final_weights.values.tolist(), *together.final_weights.values.ravel().tolist())
"""


@functools.cache
def trained(before="", variables=()):
    """Whether Numba was loaded, and the numbers, in a process of their own."""
    environment = {**os.environ, **dict(variables)}
    command = [sys.executable, "-c", TRAINED.format(before=before)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded, numbers = result.stdout.splitlines()
    return loaded == "True", np.array(numbers.split(), dtype=float)


@pytest.mark.parametrize(
    ("before", "variables"), [("sys.modules['numba'] = None", ()), ("", (("NUMBA_DISABLE_JIT", "1"),))]
)
def test_networks_train_without_numba(before, variables):
    (plainly_loaded, plain), (loaded, usual) = trained(before, variables), trained()
    assert plainly_loaded == bool(variables)
    assert loaded
    np.testing.assert_allclose(plain, usual, rtol=1e-12, atol=1e-13)


def test_complex_numbers_and_what_does_not_lie_side_by_side_go_the_plain_way(monkeypatch):
    z = np.random.default_rng(0).standard_normal((4, 10))
    cases = [z + 1e-30j, z[:, ::2], np.asfortranarray(z), z.astype(np.float32)]

    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(fused, "enter_tanh", never)
    for case in cases:
        wanted = np.tanh(case)
        elementwise.enter_tanh(case, None)
        np.testing.assert_array_equal(case, wanted)
    with pytest.raises(AssertionError):
        elementwise.enter_tanh(z, None)
