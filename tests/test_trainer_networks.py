"""Activations and losses of one's own, residual connections and layer normalisation: derivatives by other routes."""

from __future__ import annotations

import functools
import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained import trained

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer
from sgdynamics.simulate.trainer.activations import ACTIVATIONS

WIDTHS = [4, 5, 5, 6, 6, 3]
SOFTPLUS = (
    lambda z: np.log(1 + np.exp(z)),
    lambda z: 1 / (1 + np.exp(-z)),
    lambda z: 1 / (2 + np.exp(z) + np.exp(-z)),
)
# The slope and the second derivative of log cosh(z - y), a smooth absolute error: diagonal. The other couples outputs:
# the square root of 1 + |z - y|^2.
LOG_COSH = (
    lambda z, y: np.log(np.cosh(z - y)).sum(axis=1),
    lambda z, y: np.tanh(z - y),
    lambda z, y: 1 / np.cosh(z - y) ** 2,
)


def _length(z, y):
    return np.sqrt(1 + ((z - y) ** 2).sum(axis=1))


def _length_second(z, y):
    length = _length(z, y)[:, None, None]
    outer = (z - y)[:, :, None] * (z - y)[:, None, :]
    return np.eye(z.shape[1]) / length - outer / length**3


LENGTH = (_length, lambda z, y: (z - y) / _length(z, y)[:, None], _length_second)
LOSSES = {"mse": "mse", "cross_entropy": "cross_entropy", "diagonal": LOG_COSH, "coupled": LENGTH}
NETWORKS = {
    "gelu": {"activation": "gelu"},
    "silu": {"activation": "silu"},
    "softplus": {"activation": SOFTPLUS},
    "residual": {"activation": "tanh", "residual": True},
    "residual of z": {"activation": "gelu", "residual": True},
    "normalised": {"activation": "tanh", "layer_norm": 0.1},
    "normalised exactly": {"activation": "silu", "layer_norm": 0.0},
    "normalised, linear": {"activation": "linear", "layer_norm": 1e-5},
    "both": {"activation": "gelu", "residual": True, "layer_norm": 1e-5},
    "both, of the value": {"activation": "relu", "residual": True, "layer_norm": 1e-2},
}
CASES = [(n, loss, b) for n, loss, b in itertools.product(NETWORKS, LOSSES, (True, False))]


def problem(name, loss, biases=True, examples=7):
    random = np.random.default_rng(5)
    net = trainer.network(WIDTHS, **NETWORKS[name], biases=biases, seed=1)
    net = net.with_flat(0.6 * random.standard_normal(net.size))
    x = random.standard_normal((examples, 4))
    y = random.integers(3, size=examples) if loss == "cross_entropy" else random.standard_normal((examples, 3))
    return net, x, y, LOSSES[loss]


def complex_step(function, net, direction, step=1e-30):
    return np.imag(function(net.with_flat(net.flat() + 1j * step * direction))) / step


def close(found, wanted, tolerance):
    assert np.max(np.abs(found - wanted)) <= tolerance * np.max(np.abs(wanted))


# ---------------------------------------------------------------------------------------------------------------------
# Values, written out


def written_out(net, x, phi, residual, constant):
    """The outputs of one example, feature by feature."""
    entering, stream = list(x), None
    for layer, weight in enumerate(net.weights):
        shift = net.biases[layer] if net.biases is not None else [0.0] * weight.shape[1]
        z = [sum(e * w for e, w in zip(entering, column, strict=True)) + b
             for column, b in zip(weight.T, shift, strict=True)]  # fmt: skip
        if layer == len(net.weights) - 1:
            return z
        values = [phi(one) for one in z]
        if residual and stream is not None and len(stream) == len(values):
            values = [one + before for one, before in zip(values, stream, strict=True)]
        entering = stream = values
        if constant is not None:
            mean = math.fsum(values) / len(values)
            spread = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / len(values) + constant)
            entering = [(one - mean) / spread for one in values]
    raise AssertionError


PLAIN = {
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "linear": lambda z: z,
    "gelu": lambda z: z * 0.5 * math.erfc(-z / math.sqrt(2)),
    "silu": lambda z: z / (1 + math.exp(-z)),
    SOFTPLUS: lambda z: math.log1p(math.exp(z)),
}


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_those_written_out(name, biases):
    net, x, y, loss = problem(name, "mse", biases)
    options = NETWORKS[name]
    how = PLAIN[options["activation"]], options.get("residual", False), options.get("layer_norm")
    outputs = np.array([written_out(net, row, *how) for row in x])
    expected = 0.5 * ((outputs - y) ** 2).sum() / len(x)
    assert trainer.loss_value(net, x, y, loss) == pytest.approx(expected, rel=1e-13)
    mean_length = np.sqrt(1 + ((outputs - y) ** 2).sum(axis=1)).mean()
    assert trainer.loss_value(net, x, y, LENGTH) == pytest.approx(mean_length, rel=1e-13)


def test_gelu_and_silu_keep_their_digits():
    z = np.concatenate([np.linspace(-30, 30, 241), [1e-300, -1e-300, 0.0, -0.0, 700.0]])
    for name in ("gelu", "silu"):
        wanted = np.array([PLAIN[name](one) for one in z])
        # a rounding of z is z^2 as large in the tail of the normal distribution
        assert (np.abs(ACTIVATIONS[name].value(z) - wanted) <= 1e-15 * (4 + z * z) * np.abs(wanted)).all()
    # far out they are the identity and zero, and bend no more
    far = np.array([-1e200, -1e3, 1e3, 1e200])
    with np.errstate(over="ignore"):
        for name in ("gelu", "silu"):
            activation = ACTIVATIONS[name]
            assert activation.value(far).tolist() == [0, 0, 1e3, 1e200]
            assert activation.slope(far).tolist() == [0, 0, 1, 1]
            assert activation.bend(far).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh"])
def test_derivatives_of_activations_are_complex_steps(name):
    z = np.linspace(-6, 6, 97)
    activation = ACTIVATIONS[name]
    kept = activation.value(z) if activation.of_value else z
    np.testing.assert_allclose(activation.slope(kept), activation.value(z + 1e-30j).imag / 1e-30, rtol=0, atol=1e-14)
    turned = activation.value(z + 1e-30j) if activation.of_value else z + 1e-30j
    np.testing.assert_allclose(activation.bend(kept), activation.slope(turned).imag / 1e-30, rtol=0, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives


@pytest.mark.parametrize(("name", "loss", "biases"), CASES)
def test_gradients_and_hessian_products_are_complex_steps(name, loss, biases):
    net, x, y, loss = problem(name, loss, biases)
    random = np.random.default_rng(2)
    for options in ({}, {"weight_decay": 0.3, "trainable": random.random(net.size) < 0.7}):
        objective = trainer.Objective(net, x, y, loss, **options)
        gradient = objective.gradient()
        v = random.standard_normal(net.size)
        kept = v * options.get("trainable", 1.0)
        assert gradient @ v == pytest.approx(complex_step(trainer.Objective.loss_value, objective, kept), rel=1e-11)
        product = objective.hessian_vector_product(v)
        close(product, complex_step(trainer.Objective.gradient, objective, kept), 1e-12)
    curvatures = trainer.per_example_curvatures(trainer.Objective(net, x, y, loss), v)
    rows = trainer.Objective(net, x, y, loss).example_gradients()
    for i in range(len(x)):
        alone = (net, x[i : i + 1], y[i : i + 1])
        close(rows[i], trainer.gradient(*alone, loss), 1e-13)
        assert curvatures[i] == pytest.approx(v @ trainer.hessian_vector_product(*alone, v, loss), rel=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_finite_differences_of_the_loss(name):
    net, x, y, loss = problem(name, "coupled")
    gradient, step = trainer.gradient(net, x, y, loss), 1e-6
    for direction in np.random.default_rng(3).standard_normal((5, net.size)):
        ends = [trainer.loss_value(net.with_flat(net.flat() + s * step * direction), x, y, loss) for s in (-1, 1)]
        assert gradient @ direction == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(NETWORKS)), st.sampled_from(list(LOSSES)))
def test_the_hessian_is_symmetric(seed, name, loss):
    net, x, y, loss = problem(name, loss)
    u, v = np.random.default_rng(seed).standard_normal((2, net.size))
    operator = trainer.hessian_operator(trainer.Objective(net, x, y, loss))
    hu, hv = operator @ u, operator @ v
    scale = np.linalg.norm(hu) * np.linalg.norm(v) + np.linalg.norm(hv) * np.linalg.norm(u)
    assert abs(v @ hu - u @ hv) <= 1e-12 * scale


@pytest.mark.parametrize("name", NETWORKS)
def test_the_whole_hessian_is_that_of_complex_steps(name):
    net, x, y, loss = problem(name, "coupled")
    for trainable in (None, np.arange(net.size) % 3 > 0):
        objective = trainer.Objective(net, x, y, loss, weight_decay=0.1, trainable=trainable)
        units = np.eye(net.size) if trainable is None else np.diag(trainable.astype(float))
        wanted = np.array([complex_step(trainer.Objective.gradient, objective, unit) for unit in units])
        close(trainer.hessian_matrix(objective), wanted, 1e-12)


def test_products_with_complex_directions():
    net, x, y, loss = problem("both", "coupled")
    u, v = np.random.default_rng(4).standard_normal((2, net.size))
    operator = trainer.hessian_operator(trainer.Objective(net, x, y, loss))
    close(operator @ (u + 1j * v), operator @ u + 1j * (operator @ v), 1e-13)


@pytest.mark.parametrize("name", ["gelu", "silu", "residual", "normalised", "both", "both, of the value"])
def test_derivatives_agree_with_torch(name):
    torch = pytest.importorskip("torch", reason="the automatic differentiation of torch is a second oracle")
    net, x, y, loss = problem(name, "cross_entropy")
    options = NETWORKS[name]
    phi = {"tanh": torch.tanh, "relu": torch.relu, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}
    x_there, y_there = torch.tensor(x), torch.tensor(y)

    def value(flat):
        entering, stream = x_there, None
        for layer, weight in enumerate(net.weights):
            rows, cols = weight.shape
            z = entering @ flat[: rows * cols].reshape(rows, cols) + flat[rows * cols : (rows + 1) * cols]
            flat = flat[(rows + 1) * cols :]
            if layer == len(net.weights) - 1:
                return torch.nn.functional.cross_entropy(z, y_there)
            values = phi[options["activation"]](z)
            if options.get("residual") and stream is not None and stream.shape == values.shape:
                values = values + stream
            entering = stream = values
            if "layer_norm" in options:
                entering = torch.nn.functional.layer_norm(values, values.shape[1:], eps=options["layer_norm"])
        raise AssertionError

    weights = torch.tensor(net.flat(), requires_grad=True)
    v = np.random.default_rng(1).standard_normal(net.size)
    (gradient,) = torch.autograd.grad(value(weights), weights, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ torch.tensor(v), weights)
    assert trainer.loss_value(net, x, y, loss) == pytest.approx(value(weights).item(), rel=1e-12)
    close(trainer.gradient(net, x, y, loss), gradient.detach().numpy(), 1e-11)
    close(trainer.hessian_vector_product(net, x, y, v, loss), product.numpy(), 1e-11)


# ---------------------------------------------------------------------------------------------------------------------
# Callables are the built-in ones where they say the same


def test_a_triple_is_the_activation_that_it_writes_out():
    triple = (np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2))
    named, own = (trainer.network(WIDTHS, activation, seed=0) for activation in ("tanh", triple))
    assert np.array_equal(named.flat(), own.flat())
    assert (named.activation, own.activation) == ("tanh", "own")
    x, y = np.random.default_rng(0).standard_normal((2, 30, 4))
    how = {"loss": "mse", "batch_size": 8, "record": [0, 5, 50], "label_noise": 0.1, "seed": 3}
    runs = [trained(net, x, y[:, :3], schedules.linear(0.1, 50), **how) for net in (named, own)]
    for quantity in ("final_weights", "loss", "batch_loss"):
        np.testing.assert_allclose(runs[0][quantity], runs[1][quantity], rtol=0, atol=1e-13)


def test_networks_can_be_pickled():
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4))
    for activation in ("tanh", "gelu", (np.sin, np.cos, np.negative)):
        net = trainer.network([4, 5, 5, 4], activation, residual=True, layer_norm=0.1, seed=0)
        again = pickle.loads(pickle.dumps(net))
        assert repr(again) == repr(net)
        assert np.array_equal(trainer.gradient(again, x, y, "mse"), trainer.gradient(net, x, y, "mse"))
    assert pickle.loads(pickle.dumps(ACTIVATIONS["tanh"])) is ACTIVATIONS["tanh"]  # in place, as fast as before


def _softmax(z):
    weights = np.exp(z - z.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


OWN = {
    "mse": (
        lambda z, y: 0.5 * ((z - y) ** 2).sum(axis=1),
        lambda z, y: z - y,
        lambda z, y: np.ones_like(z),
    ),
    "cross_entropy": (
        lambda z, y: -np.log(_softmax(z)[np.arange(len(y)), y]),  # integers stay integers
        lambda z, y: _softmax(z) - np.eye(3)[y],
        lambda z, y: (p := _softmax(z))[:, :, None] * (np.eye(3) - p[:, None, :]),
    ),
}
INSTRUMENTS = {
    "eigenvalues": lambda objective: trainer.tracked_eigenpairs(k=3)(objective)[["sharpness"]],
    "covariance": functools.partial(trainer.gradient_covariance, k=2, vectors=False),
    "steps": functools.partial(trainer.projected_steps, directions=np.eye(154)[:, :2], batch_size=4),
    "alignment": functools.partial(trainer.alignments, directions=np.eye(154)[:, :2]),
    "interaction": functools.partial(trainer.gradient_interaction, batch_size=4),
    "line": functools.partial(trainer.loss_along, directions=np.eye(154)[:, 0], distances=[-0.1, 0.2]),
}


@pytest.mark.parametrize("loss", OWN)
@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_triple_is_the_loss_that_it_writes_out(instrument, loss):
    net, x, y, _ = problem("both", loss)
    expected = INSTRUMENTS[instrument](trainer.Objective(net, x, y, loss))
    found = INSTRUMENTS[instrument](trainer.Objective(net, x, y, OWN[loss]))
    assert found.attrs["loss"] == "own"
    assert set(found) == set(expected)
    for name, values in expected.items():
        scale = np.abs(values).max().item()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("loss", OWN)
def test_training_with_a_loss_of_ones_own(loss):
    net, x, y, _ = problem("both", loss, examples=40)
    how = {"batch_size": 8, "record": [0, 7, 30], "update": trainer.momentum(0.5), "weight_decay": 0.01, "seed": 4}
    named, own = (trained(net, x, y, schedules.linear(0.1, 30), loss=one, **how) for one in (loss, OWN[loss]))
    assert own.attrs["loss"] == "own"
    for quantity in ("final_weights", "loss", "batch_loss"):
        np.testing.assert_allclose(named[quantity], own[quantity], rtol=1e-11)
    objectives = [trainer.Objective(net, x, y, one) for one in (loss, OWN[loss])]
    drawn = zip(*(trainer.Batches(8, seed=4).drawn(one, steps=9) for one in objectives), strict=True)
    assert all(np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in drawn)


def test_a_run_of_a_small_modern_network_is_its_steps_one_by_one():
    net, x, y, loss = problem("both", "cross_entropy", examples=40)
    run = trainer.train(net, x, y, schedules.linear(0.3, 40), loss=loss, batch_size=6, record=[3, 40], seed=9)
    w = net.flat()
    drawn = trainer.Batches(6, seed=9).drawn(trainer.Objective(net, x, y, loss), steps=40)
    for rate, (x_batch, y_batch) in zip(schedules.linear(0.3, 40), drawn, strict=True):
        w = w - rate * trainer.gradient(net.with_flat(w), x_batch, y_batch, loss)
    assert np.array_equal(run.final_weights, w)
    assert run.loss[-1] == trainer.loss_value(net.with_flat(w), x, y, loss)
    assert run.attrs["network"] == "Network 4-5-5-6-6-3, gelu, residual, layer norm, 154 parameters"


# ---------------------------------------------------------------------------------------------------------------------
# What the architecture implies


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_a_normalised_layer_does_not_see_the_scale_of_linear_layers_before_it(seed, scale):
    net = trainer.network([4, 5, 6, 3], "linear", biases=False, layer_norm=0.0, seed=seed)
    x, y = np.random.default_rng(seed).standard_normal((2, 8, 4))
    weights = net.flat()
    weights[:20] *= scale
    value = trainer.loss_value(net, x, y[:, :3], "mse")
    assert trainer.loss_value(net.with_flat(weights), x, y[:, :3], "mse") == pytest.approx(value, rel=1e-9)
    # so the gradient is perpendicular to them, as Euler has it of functions that do not change with scale
    gradient = trainer.gradient(net, x, y[:, :3], "mse")
    cosine = gradient[:20] @ net.flat()[:20] / np.linalg.norm(gradient[:20]) / np.linalg.norm(net.flat()[:20])
    assert abs(cosine) < 1e-9


def test_a_constant_under_the_root_and_a_residual_connection_see_the_scale():
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4))
    for options in ({"layer_norm": 1.0}, {"layer_norm": 0.0, "residual": True}):
        net = trainer.network([4, 5, 5, 3], "linear", biases=False, seed=0, **options)
        weights = net.flat()
        weights[20:45] *= 2.0
        value = trainer.loss_value(net, x, y[:, :3], "mse")
        assert abs(trainer.loss_value(net.with_flat(weights), x, y[:, :3], "mse") / value - 1) > 1e-3


def test_residual_layers_of_zero_weights_pass_on_what_they_get():
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4))
    deep = trainer.network([4, 5, 5, 5, 4], "gelu", residual=True, seed=0)
    for layer in (1, 2):
        deep.weights[layer][:] = 0.0
    shallow = trainer.network([4, 5, 4], "gelu", seed=0)
    shallow.weights[0][:], shallow.weights[1][:] = deep.weights[0], deep.weights[3]
    assert trainer.loss_value(deep, x, y, "mse") == trainer.loss_value(shallow, x, y, "mse")


def test_gains_and_shifts_of_a_normalisation_are_those_of_the_next_layer():
    net, x, y, loss = problem("normalised", "mse")
    random = np.random.default_rng(6)
    gain, shift = random.uniform(0.5, 2, 5), random.standard_normal(5)
    # N(h) g + s into W, b is N(h) into diag(g) W, s W + b
    weight, bias = net.weights[1].copy(), net.biases[1].copy()
    net.weights[1][:] = gain[:, None] * weight
    net.biases[1][:] += shift @ weight
    first = np.tanh(x @ net.weights[0] + net.biases[0])
    centred = first - first.mean(axis=1, keepdims=True)
    entering = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 0.1) * gain + shift
    behind = trainer.network(WIDTHS[1:], "tanh", layer_norm=0.1, seed=0)
    rest = np.concatenate([weight.ravel(), bias, net.flat()[25 + 30 :]])
    wanted = trainer.loss_value(behind.with_flat(rest), entering, y, loss)
    assert trainer.loss_value(net, x, y, loss) == pytest.approx(wanted, rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# The door


def test_without_a_second_derivative_what_needs_curvature_is_refused():
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4))
    pair = trainer.network([4, 5, 4], SOFTPLUS[:2], seed=0)
    whole = trainer.network([4, 5, 4], SOFTPLUS, seed=0)
    assert np.array_equal(trainer.gradient(pair, x, y, LENGTH[:2]), trainer.gradient(whole, x, y, LENGTH))
    for net, loss, name in ((pair, "mse", "activation"), (whole, LENGTH[:2], "loss")):
        with pytest.raises(ValueError, match=rf"{name} must be a triple \(value, slope, second derivative\)"):
            trainer.top_hessian_eigenvalues(net, x, y, loss=loss)


@pytest.mark.parametrize("activation", ["swish", "GELU", np.tanh, (np.tanh,), (np.tanh, 1.0), (np.tanh,) * 4, None])
def test_a_wrong_activation_names_the_way_out(activation):
    text = (
        "network: activation must be one of 'linear', 'tanh', 'relu', 'gelu', 'silu', or two or three callables of the "
        r"pre-activation z: \(value, slope\) or \(value, slope, second derivative\), got"
    )
    with pytest.raises((ValueError, TypeError), match=text):
        trainer.network([3, 2], activation, seed=0)


@pytest.mark.parametrize("loss", ["hinge", np.abs, (np.abs,), (np.abs, None), None])
def test_a_wrong_loss_names_the_way_out(loss):
    net, x, y, _ = problem("gelu", "mse")
    text = (
        "gradient: loss must be one of 'mse', 'cross_entropy', or two or three callables of outputs and targets: "
        r"\(value, slope\) or \(value, slope, second derivative\); 'own' for a UserNetwork, got"
    )
    with pytest.raises((ValueError, TypeError), match=text):
        trainer.gradient(net, x, y, loss)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({0: lambda z, y: (z**2).sum()}, r"callables whose value has shape \(7,\), got 'shape \(\)'"),
        ({1: lambda z, y: z.sum(axis=1)}, r"callables whose slope has shape \(7, 3\)"),
        ({2: lambda z, y: np.ones(7)}, r"callables whose second derivative has shape \(7, 3, 3\)"),
    ],
)
def test_callables_that_return_something_else_are_named(changes, words):
    net, x, y, _ = problem("gelu", "mse")
    loss = [changes.get(place, one) for place, one in enumerate(LENGTH)]
    with pytest.raises(ValueError, match=words):
        trainer.hessian_vector_product(net, x, y, np.ones(net.size), loss)


def test_an_activation_that_changes_the_shape_is_named():
    net = trainer.network([4, 5, 3], (np.sum, np.cos), seed=0)
    with pytest.raises(ValueError, match="callables of z that return arrays of its shape"):
        trainer.loss_value(net, np.ones((2, 4)), np.ones((2, 3)), "mse")


def test_label_noise_is_for_losses_that_the_trainer_knows():
    net, x, y, loss = problem("gelu", "coupled")
    with pytest.raises(ValueError, match="label_noise must be 0 for a loss of one's own"):
        trained(net, x, y, [0.1], loss=loss, label_noise=0.1, seed=0)


@pytest.mark.parametrize("widths", [[3, 2], [3, 3, 3], [4, 5, 6, 5, 2]])
def test_a_residual_connection_needs_two_hidden_layers_of_one_width(widths):
    with pytest.raises(ValueError, match="residual must be False where no hidden layer is as wide as"):
        trainer.network(widths, "relu", residual=True, seed=0)


def test_runs_abreast_are_of_plain_networks():
    net, x, y, loss = problem("both", "mse")
    with pytest.raises(ValueError, match=r"neither residual nor normalised \(trajectory takes all\)"):
        trainer.ensemble([trainer.Objective(net, x, y, loss)] * 2, [0.1])


def test_masked_targets_are_refused():
    net, x, y, loss = problem("gelu", "mse")
    with pytest.raises(ValueError, match="none of them masked"):
        trainer.gradient(net, x, np.ma.masked_less(y, 0), loss)
