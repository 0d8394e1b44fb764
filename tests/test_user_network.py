"""A network made of callables is measured and trained like the trainer's own, and says what it cannot do."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from trained import trained

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer

LOSS = "cross_entropy"
DECAY = 1e-2


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(3)
    return random.standard_normal((40, 6)), random.integers(4, size=40)


@pytest.fixture(scope="module")
def ours():
    return trainer.network([6, 5, 4], "tanh", seed=1)


def wrapped(net, **changes):
    """The trainer's own network as four callables: two ways to one number."""
    callables = {
        "loss": lambda w, x, y: trainer.loss_value(net.with_flat(w), x, y, LOSS),
        "gradient": lambda w, x, y: trainer.gradient(net.with_flat(w), x, y, LOSS),
        "hessian_vector_product": lambda w, x, y, v: trainer.hessian_vector_product(net.with_flat(w), x, y, v, LOSS),
    }
    return trainer.UserNetwork(net.flat(), **(callables | changes))


def plain(weights, x, y):
    """Cross-entropy of 6-5(tanh)-4 written out, with nothing of the library: loss and gradient."""
    first, shift, second, last = np.split(weights, [30, 35, 55])
    first, second = first.reshape(6, 5), second.reshape(5, 4)
    hidden = np.tanh(x @ first + shift)
    logits = hidden @ second + last
    logits -= logits.real.max(axis=1, keepdims=True)
    total = np.exp(logits).sum(axis=1)
    loss = (np.log(total) - logits[np.arange(len(y)), y]).mean()
    slope = (np.exp(logits) / total[:, None] - np.eye(4)[y]) / len(y)
    back = slope @ second.T * (1 - hidden**2)
    parts = (x.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0))
    return loss, np.concatenate([part.ravel() for part in parts])


def by_complex_step(weights, x, y, v):
    """Hessian product as the imaginary part of the gradient a little off the real axis."""
    return plain(weights + 1e-30j * v, x, y)[1].imag / 1e-30


@pytest.fixture(scope="module")
def written_out(ours):
    return trainer.UserNetwork(
        ours.flat,
        loss=lambda w, x, y: plain(w, x, y)[0],
        gradient=lambda w, x, y: plain(w, x, y)[1],
        hessian_vector_product=by_complex_step,
    )


INSTRUMENTS = {
    "covariance": partial(trainer.gradient_covariance, k=3),
    "covariance by examples": partial(trainer.gradient_covariance, k=3, route="examples", vectors=False),
    "batches": partial(trainer.batch_gradient_covariance, batches=np.arange(36).reshape(4, 9)),
    "steps": partial(
        trainer.projected_steps, directions=np.eye(59)[:, :2], batch_size=8, batches=[[0, 1, 2, 3, 4, 5, 6, 7]]
    ),
    "alignment": partial(trainer.alignments, directions=np.eye(59)[:, :2], batches=np.arange(36).reshape(4, 9)),
    "interaction": partial(trainer.gradient_interaction, batch_size=8),
    "sampled interaction": partial(trainer.sampled_interaction, batches=np.arange(36).reshape(4, 9)),
    "batch sharpness": partial(trainer.batch_sharpness, batches=np.arange(36).reshape(4, 9)),
    "line": partial(trainer.loss_along, directions=np.eye(59)[:, :2], distances=[-0.1, 0.2]),
    "critical rate": partial(trainer.critical_rate, direction=np.linspace(-1, 1, 59), learning_rate=0.1),
}


@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("frozen", [False, True])
def test_every_instrument_says_the_same_of_callables_as_of_the_network_itself(name, frozen, data, ours, written_out):
    options = {"weight_decay": DECAY, "trainable": np.arange(59) % 3 > 0 if frozen else None}
    expected = INSTRUMENTS[name](trainer.Objective(ours, *data, LOSS, **options))
    found = INSTRUMENTS[name](trainer.Objective(written_out, *data, **options))
    assert set(found) == set(expected) - {"gauss_newton_curvature"}
    for variable in found:
        scale = np.abs(expected[variable].values).max()
        np.testing.assert_allclose(found[variable].values, expected[variable].values, rtol=0, atol=1e-12 * scale)


def test_eigenvalues_of_callables_are_those_of_the_network(data, ours, written_out):
    mine, others = (
        trainer.Objective(net, *data, loss, weight_decay=DECAY) for net, loss in ((ours, LOSS), (written_out, "own"))
    )
    expected, found = trainer.top_eigenpairs(mine, k=4), trainer.top_eigenpairs(others, k=4)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-11)
    mine, others = (trainer.tracked_eigenpairs(k=2)(one) for one in (mine, others))
    np.testing.assert_allclose(others.sharpness, mine.sharpness)
    front = trainer.top_hessian_eigenvalues(written_out, *data, k=2, loss="own")
    np.testing.assert_allclose(front.values, found.values[:2] - DECAY, rtol=1e-11)


def test_an_objective_answers_the_questions_of_a_user_network(data, ours, written_out):
    """Its four answers, handed over as callables, are the same objective again."""

    def at(w, x, y):
        return trainer.Objective(ours.with_flat(w), x, y, LOSS, weight_decay=DECAY)

    again = trainer.UserNetwork(
        ours.flat(),
        loss=lambda *here: at(*here).loss_value(),
        gradient=lambda *here: at(*here).gradient(),
        hessian_vector_product=lambda w, x, y, v: at(w, x, y).hessian_vector_product(v),
        example_gradients=lambda *here: at(*here).example_gradients(),
    )
    first, second = at(ours.flat(), *data), trainer.Objective(again, *data)
    assert second.loss_value() == first.loss_value()
    assert np.array_equal(second.gradient(), first.gradient())
    assert np.array_equal(second.hessian_vector_product(np.ones(59)), first.hessian_vector_product(np.ones(59)))
    assert np.array_equal(second.example_gradients(), first.example_gradients())
    matrices = [trainer.hessian_matrix(one) for one in (first, second)]
    np.testing.assert_allclose(matrices[1], matrices[0], rtol=0, atol=1e-14)
    assert second.mean.knows_gauss_newton is False


def test_per_example_gradients_may_come_in_one_call(data, ours):
    calls = []

    def rows(w, x, y):
        calls.append(len(x))
        return trainer.Objective(ours.with_flat(w), x, y, LOSS).example_gradients()

    net = wrapped(ours, example_gradients=rows)
    found = trainer.Objective(net, *data, weight_decay=DECAY).example_gradients()
    wanted = trainer.Objective(ours, *data, LOSS, weight_decay=DECAY).example_gradients()
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    assert calls == [40]


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("update", [None, trainer.momentum(0.9)])
def test_training_takes_the_same_path(batch_size, update, data, ours):
    options = {"batch_size": batch_size, "update": update, "weight_decay": DECAY, "record": [0, 7, 30], "seed": 4}
    options["trainable"] = np.arange(59) % 4 > 0
    schedule = schedules.linear(0.3, 30)
    expected = trained(ours, *data, schedule, loss=LOSS, **options)
    found = trained(wrapped(ours), *data, schedule, loss="own", **options)
    np.testing.assert_allclose(found.final_weights, expected.final_weights, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-13)
    np.testing.assert_allclose(found.batch_loss, expected.batch_loss, rtol=1e-13)


def test_examples_may_have_any_shape_and_type():
    """A table look-up: tokens in, one weight for each out."""
    tokens, targets = np.array([[0, 1], [2, 2], [1, 1]]), np.array([1.0, -1.0, 0.5])

    def residual(w, x, y):
        assert x.dtype == tokens.dtype
        return w[x].sum(axis=1) - y

    def gradient(w, x, y):
        found = np.zeros_like(w)
        np.add.at(found, x, residual(w, x, y)[:, None] / len(x))
        return found

    net = trainer.UserNetwork(np.zeros(3), loss=lambda *at: (residual(*at) ** 2).mean() / 2, gradient=gradient)
    run = trainer.train(net, tokens, targets, np.full(2000, 0.3), loss="own", seed=0)
    assert run.loss.item() < 1e-12
    np.testing.assert_allclose(run.final_weights, [0.75, 0.25, -0.5], atol=1e-5)


def test_a_run_of_callables_that_blows_up_is_a_result(data, ours):
    run = trainer.train(wrapped(ours), *data, np.full(50, 1e200), loss="own", seed=0)
    assert run.divergence_step.item() >= 1
    assert np.isposinf(run.final_weights).all()


@pytest.mark.parametrize(
    ("changes", "call", "words"),
    [
        ({"gradient": lambda w, x, y: w[:3]}, lambda net, data: trainer.gradient(net, *data, "own"), "gradient"),
        ({"loss": lambda w, x, y: x}, lambda net, data: trainer.loss_value(net, *data, "own"), "loss"),
        (
            {"hessian_vector_product": None},
            lambda net, data: trainer.top_hessian_eigenvalues(net, *data, loss="own"),
            "hessian_vector_product",
        ),
        ({}, lambda net, data: trainer.gradient(net, *data, "mse"), "'own' for a UserNetwork"),
        ({}, lambda net, data: trainer.gradient(net, data[0], data[1][:3], "own"), "y must be of length 40"),
        (
            {},
            lambda net, data: trained(net, *data, [0.1], loss="own", label_noise=0.1, seed=0),
            "label_noise must be 0",
        ),
        (
            {},
            lambda net, data: trainer.per_example_curvatures(
                trainer.Objective(net, *data), np.ones(59), part="gauss_newton"
            ),
            "part must be 'whole'",
        ),
    ],
)
def test_what_callables_cannot_do_is_said(changes, call, words, data, ours):
    with pytest.raises(ValueError, match=words):
        call(wrapped(ours, **changes), data)


def test_the_loss_of_callables_is_not_asked_of_a_network_of_the_trainers(data, ours):
    with pytest.raises(ValueError, match="loss must be one of 'mse', 'cross_entropy'"):
        trainer.gradient(ours, *data, "own")


@pytest.mark.parametrize("weights", [[], [[1.0]], [np.nan], "one"])
def test_weights_are_a_vector_of_finite_numbers(weights):
    with pytest.raises((ValueError, TypeError), match="UserNetwork: weights"):
        trainer.UserNetwork(weights, loss=lambda *_: 0.0, gradient=lambda *_: weights)
    with pytest.raises(TypeError, match="UserNetwork: gradient"):
        trainer.UserNetwork([1.0], loss=lambda *_: 0.0, gradient=None)
