"""The reference trainer: derivatives against complex steps, runs against recursions written out here."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import threadpoolctl
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from trained import replayed, trained

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer
from sgdynamics.simulate.trainer import batches as batches_module
from sgdynamics.simulate.trainer import curvature, losses, passes
from sgdynamics.simulate.trainer.activations import ACTIVATIONS as NONLINEARITIES
from sgdynamics.simulate.trainer.hidden import Hidden
from sgdynamics.simulate.trainer.network import unflatten
from sgdynamics.simulate.trainer.workspace import Workspace

ACTIVATIONS = ("linear", "tanh", "relu")
LOSSES = ("mse", "cross_entropy", "cross_entropy, soft")
WIDTHS = {1: [4, 3], 2: [4, 5, 3], 3: [4, 5, 6, 3], 4: [4, 5, 4, 3, 3], 5: [4, 3, 5, 4, 6, 3]}
CASES = [(a, loss, b, depth) for a in ACTIVATIONS for loss in LOSSES for b in (True, False) for depth in WIDTHS]


def problem(activation, loss, biases, widths, seed=0, examples=7, scale=1.0):
    random = np.random.default_rng(seed)
    net = trainer.network(widths, activation, biases=biases, seed=seed)
    # biases start at zero, where they would test less
    net = net.with_flat(scale * random.standard_normal(net.size))
    x = random.standard_normal((examples, widths[0]))
    if loss == "mse":
        return net, x, random.standard_normal((examples, widths[-1])), "mse"
    if loss == "cross_entropy":
        return net, x, random.integers(widths[-1], size=examples), "cross_entropy"
    return net, x, random.dirichlet(np.ones(widths[-1]), size=examples), "cross_entropy"


def complex_step(function, net, direction, step=1e-30):
    return np.imag(function(net.with_flat(net.flat() + 1j * step * direction))) / step


def close(found, wanted, tolerance):
    scale = max(np.max(np.abs(wanted)), 1e-3)
    assert np.max(np.abs(found - wanted)) <= tolerance * scale


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives


@pytest.mark.parametrize(("activation", "loss", "biases", "depth"), CASES)
def test_gradient_and_hessian_product_are_complex_steps(activation, loss, biases, depth):
    net, x, y, loss = problem(activation, loss, biases, WIDTHS[depth], seed=depth)
    for options in ({}, {"weight_decay": 0.3}):
        objective = trainer.Objective(net, x, y, loss, **options)
        value, slope, units = trainer.Objective.loss_value, trainer.Objective.gradient, np.eye(net.size)
        gradient = objective.gradient()
        close(gradient, np.array([complex_step(value, objective, e) for e in units]), 1e-12)
        v = np.random.default_rng(1).standard_normal(net.size)
        product = objective.hessian_vector_product(v)
        close(product, complex_step(slope, objective, v), 1e-12)
        close(trainer.hessian_operator(objective) @ v, product, 1e-14)
        matrix = trainer.hessian_matrix(objective)
        close(matrix, np.array([complex_step(slope, objective, e) for e in units]), 1e-12)
        close(matrix.T, matrix, 1e-14)
        rows = objective.example_gradients()
        assert rows.shape == (len(x), net.size)
        close(rows.mean(axis=0), gradient, 1e-13)
        curvatures = trainer.per_example_curvatures(objective, v)
        close(curvatures.mean(), v @ product, 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_per_example_statistics_are_those_of_one_example(loss):
    net, x, y, loss = problem("tanh", loss, True, [4, 5, 6, 3])
    v = np.random.default_rng(2).standard_normal(net.size)
    rows = trainer.Objective(net, x, y, loss).example_gradients()
    curvatures = trainer.per_example_curvatures(trainer.Objective(net, x, y, loss), v)
    for i in range(len(x)):
        alone = (net, x[i : i + 1], y[i : i + 1])
        close(rows[i], trainer.gradient(*alone, loss), 1e-13)
        close(curvatures[i], v @ trainer.hessian_vector_product(*alone, v, loss), 1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from(ACTIVATIONS), st.sampled_from(LOSSES), st.booleans())
def test_hessian_is_symmetric_and_linear(seed, activation, loss, biases):
    net, x, y, loss = problem(activation, loss, biases, [4, 5, 3], seed=seed)
    random = np.random.default_rng(seed)
    u, v = random.standard_normal((2, net.size))
    operator = trainer.hessian_operator(trainer.Objective(net, x, y, loss))
    hu, hv = operator @ u, operator @ v
    scale = np.linalg.norm(hu) * np.linalg.norm(v) + np.linalg.norm(hv) * np.linalg.norm(u)
    assert abs(v @ hu - u @ hv) <= 1e-13 * scale
    close(operator @ (2 * u - v), 2 * hu - hv, 1e-12)


@pytest.mark.parametrize(("activation", "loss", "biases", "depth"), CASES)
def test_derivatives_agree_with_torch(activation, loss, biases, depth):
    torch = pytest.importorskip("torch", reason="the automatic differentiation of torch is a second oracle")
    net, x, y, loss = problem(activation, loss, biases, WIDTHS[depth], seed=depth)
    shapes = [w.shape for w in net.weights]

    def value(flat):
        a, start = torch.tensor(x), 0
        for layer, (rows, cols) in enumerate(shapes):
            a = a @ flat[start : start + rows * cols].reshape(rows, cols)
            start += rows * cols
            if biases:
                a, start = a + flat[start : start + cols], start + cols
            if layer < len(shapes) - 1:
                a = {"linear": lambda z: z, "tanh": torch.tanh, "relu": torch.relu}[activation](a)
        if loss == "mse":
            return 0.5 * ((a - torch.tensor(y)) ** 2).sum() / len(x)
        return torch.nn.functional.cross_entropy(a, torch.tensor(y))

    w = torch.tensor(net.flat(), requires_grad=True)
    v = np.random.default_rng(1).standard_normal(net.size)
    (gradient,) = torch.autograd.grad(value(w), w, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ torch.tensor(v), w)
    assert trainer.loss_value(net, x, y, loss) == pytest.approx(value(w).item(), rel=1e-12)
    close(trainer.gradient(net, x, y, loss), gradient.detach().numpy(), 1e-10)
    close(trainer.hessian_vector_product(net, x, y, v, loss), product.numpy(), 1e-10)


def test_losses_by_hand():
    net = trainer.network([2, 2], "linear", seed=0).with_flat([1.0, 0.0, 0.0, 1.0, 0.5, -0.5])
    x = [[1.0, 2.0], [0.0, 0.0]]  # outputs (1.5, 1.5) and (0.5, -0.5)
    assert trainer.loss_value(net, x, [[0.5, 1.5], [0.5, 0.5]], "mse") == pytest.approx((0.5 * 1 + 0.5 * 1) / 2)
    softmax = np.exp(0.5) / (np.exp(0.5) + np.exp(-0.5))
    by_hand = (np.log(2) - np.log(softmax)) / 2
    assert trainer.loss_value(net, x, [0, 0], "cross_entropy") == pytest.approx(by_hand, rel=1e-14)
    assert trainer.Objective(net, x, [0, 0], "cross_entropy", weight_decay=0.1).loss_value() == pytest.approx(
        by_hand + 0.05 * 2.5
    )
    # a shift of all outputs by 1000 changes nothing
    far = net.with_flat([1.0, 0.0, 0.0, 1.0, 1000.5, 999.5])
    assert trainer.loss_value(far, x, [0, 0], "cross_entropy") == pytest.approx(by_hand, rel=1e-12)
    # a single output takes targets without a second axis
    one = trainer.network([2, 1], "linear", seed=0)
    assert trainer.loss_value(one, x, [1.0, 2.0], "mse") == trainer.loss_value(one, x, [[1.0], [2.0]], "mse")


def test_expected_loss_under_label_noise_is_the_loss_on_smoothed_labels():
    net, x, y, loss = problem("tanh", "cross_entropy", True, [4, 5, 3])
    values = [trainer.loss_value(net, x, np.full_like(y, c), loss) for c in range(3)]
    clean = trainer.loss_value(net, x, y, loss)
    expected = 0.8 * clean + 0.2 * np.mean(values)
    assert trainer.loss_value(net, x, trainer.smoothed_labels(y, 3, 0.2), loss) == pytest.approx(expected, rel=1e-13)
    assert trainer.loss_value(net, x, trainer.one_hot(y, 3), loss) == pytest.approx(clean, rel=1e-14)


def test_overflow_is_infinite_loss():
    net = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat([1e200])
    assert trainer.loss_value(net, [[1e100]], [0.0], "mse") == np.inf
    relu = trainer.network([2, 2, 1], "relu", biases=False, seed=0).with_flat(
        [1e200, 1e200, 1e200, 1e200, 1e200, -1e200]
    )
    assert trainer.loss_value(relu, [[1.0, 1.0]], [0.0], "mse") == np.inf
    assert not trainer.top_hessian_eigenvalues(relu, [[1e9, 1.0]], [0.0], loss="mse").converged


# ---------------------------------------------------------------------------------------------------------------------
# Networks


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.sampled_from(ACTIVATIONS), st.booleans())
def test_flat_and_with_flat_are_inverse(widths, activation, biases):
    net = trainer.network(widths, activation, biases=biases, seed=3)
    vector = np.arange(net.size, dtype=float)
    other = net.with_flat(vector)
    assert np.array_equal(other.flat(), vector)
    assert [w.shape for w in other.weights] == list(itertools.pairwise(widths))
    parts = []
    for layer, weight in enumerate(other.weights):
        parts.append(weight.ravel())
        if biases:
            parts.append(other.biases[layer])
    assert np.array_equal(np.concatenate(parts), vector)
    assert (other.biases is not None) == biases
    vector[0] = -1.0  # a network keeps no view of the vector it was made from
    assert other.flat()[0] == 0.0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_law_of_the_start(activation):
    net = trainer.network([100, 200, 150, 80], activation, init_scale=0.7, seed=1)
    for layer, weight in enumerate(net.weights):
        gain = 2 if activation == "relu" and layer < 2 else 1
        standardised = weight / (0.7 * np.sqrt(gain / weight.shape[0]))
        count = weight.size
        assert abs(standardised.mean()) * np.sqrt(count) < 4
        assert abs((standardised**2).mean() - 1) * np.sqrt(count / 2) < 4
    assert all((b == 0).all() for b in net.biases)


def test_seeds_of_networks():
    first, same, other = (trainer.network([3, 2], "tanh", seed=s).flat() for s in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    sequence = np.random.SeedSequence(0)
    assert np.array_equal(trainer.network([3, 2], "tanh", seed=sequence).flat(), first)
    assert not np.array_equal(trainer.network([3, 2], "tanh", seed=sequence.spawn(1)[0]).flat(), first)


# ---------------------------------------------------------------------------------------------------------------------
# Eigenvalues


def dense_spectrum(net, x, y, loss):
    # built here from complex steps of the gradient, not from the products under test
    slope = functools.partial(trainer.gradient, x=x, y=y, loss=loss)
    rows = [complex_step(slope, net, e) for e in np.eye(net.size)]
    return np.linalg.eigvalsh(np.array(rows))[::-1]


def spectrum_cases():
    for case in ("small", "large"):
        width = {"small": 6, "large": 20}[case]
        repeated = problem("linear", "mse", False, [width, 5], examples=40)
        yield f"{case}, every eigenvalue five times", repeated
        yield f"{case}, few examples", problem("linear", "mse", False, [width, 5], examples=2)
        yield f"{case}, indefinite", problem("tanh", "cross_entropy", True, [4, width, 6, 3], scale=1.5)
        yield f"{case}, relu", problem("relu", "mse", True, [4, width, 6, 3])
        net = trainer.network([1, 4 * width, 1], "tanh", biases=False, seed=0).with_flat(np.zeros(8 * width))
        yield f"{case}, repeated on both sides of zero", (net, np.array([[1.0]]), np.array([3.0]), "mse")
        yield f"{case}, all zero", (net, np.array([[1.0]]), np.array([0.0]), "mse")
    # A concave direction only: one example far on the wrong side of tanh, nothing else to learn from.
    net = trainer.network([1, 1, 1], "tanh", biases=False, seed=0).with_flat([1.0, 0.0])
    yield "small, saddle", (net, np.array([[1.0]]), np.array([3.0]), "mse")


@pytest.mark.parametrize("iterative", [False, True])
@pytest.mark.parametrize(
    ("name", "case"), list(spectrum_cases()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_top_eigenvalues_are_those_of_the_dense_hessian(name, case, iterative, monkeypatch):
    net, x, y, loss = case
    if iterative:
        if name.startswith("small"):
            return  # the dense route is taken whatever the limit
        monkeypatch.setattr(curvature, "DENSE_LIMIT", 0)
    wanted = dense_spectrum(net, x, y, loss)
    scale = np.abs(wanted).max()
    for k in sorted({1, 2, min(7, net.size), *([] if iterative else [net.size])}):
        found = trainer.top_hessian_eigenvalues(net, x, y, k=k, loss=loss, tol=1e-9)
        assert found.converged
        assert np.abs(found.values - wanted[:k]).max() <= 1e-6 * max(scale, 1e-12)
        assert found.residuals.max() <= 1e-9 * scale + 1e-15
        assert found.vectors.shape == (net.size, k)
        assert np.abs(found.vectors.T @ found.vectors - np.eye(k)).max() < 1e-10
        products = [trainer.hessian_vector_product(net, x, y, v, loss) for v in found.vectors.T]
        assert np.linalg.norm(np.array(products).T - found.vectors * found.values, axis=0) == pytest.approx(
            found.residuals, abs=1e-12 * max(scale, 1.0)
        )


def test_weight_decay_shifts_the_spectrum_also_below_zero(monkeypatch):
    # with the decay the spectrum moves rigidly; seen upside down, an all-negative top is found too
    net, x, y, loss = problem("tanh", "cross_entropy", True, [4, 5, 3])
    plain = trainer.top_hessian_eigenvalues(net, x, y, k=3, loss=loss)
    shifted = trainer.top_eigenpairs(trainer.Objective(net, x, y, loss, weight_decay=0.7), k=3)
    assert np.abs(shifted.values - plain.values - 0.7).max() < 1e-12
    random = np.random.default_rng(0)
    basis, _ = np.linalg.qr(random.standard_normal((700, 700)))
    spectrum = -np.concatenate([[1.0, 1.0, 1.5], np.linspace(2, 50, 697)])
    matrix = (basis * spectrum) @ basis.T
    found = curvature.iterative(lambda v: matrix @ v, 700, 4, 1e-7, None, 10**5)
    assert found.converged
    assert np.abs(found.values - np.sort(spectrum)[::-1][:4]).max() < 1e-6


def test_repeated_eigenvalues_beyond_the_dense_limit():
    x = np.random.default_rng(0).standard_normal((30, 70))
    net = trainer.network([70, 10], "linear", biases=False, seed=0)
    found = trainer.top_hessian_eigenvalues(net, x, np.zeros((30, 10)), k=12, loss="mse", tol=1e-9)
    gram = np.linalg.eigvalsh(x.T @ x / 30)[::-1]
    assert found.converged
    assert np.abs(found.values - np.repeat(gram, 10)[:12]).max() < 1e-6 * gram[0]


def test_caps_are_reported_and_warm_starts_pay():
    x, y, _, _ = trainer.split(*trainer.digits(), train=200, seed=0)
    net = trainer.network([64, 16, 10], "tanh", seed=0)
    objective, options = trainer.Objective(net, x, y, "cross_entropy"), {"k": 3, "tol": 1e-4}
    capped = trainer.top_eigenpairs(objective, max_products=8, **options)
    assert not capped.converged
    assert capped.iterations == 8
    assert np.isnan(capped.values).all()
    cold = trainer.top_eigenpairs(objective, **options)
    near = objective.with_flat(net.flat() * (1 + 1e-4))
    warm = trainer.top_eigenpairs(near, start=cold.vectors, **options)
    again = trainer.top_eigenpairs(near, **options)
    assert cold.converged
    assert warm.converged
    assert warm.iterations < again.iterations
    assert np.abs(warm.values - again.values).max() < 1e-6 * again.values[0]


def test_a_warm_start_that_was_overtaken_is_not_believed():
    random = np.random.default_rng(1)
    basis, _ = np.linalg.qr(random.standard_normal((600, 600)))
    spectrum = np.concatenate([[2.0, 1.9], np.linspace(0, 1, 598)])
    matrix = (basis * spectrum) @ basis.T
    found = curvature.iterative(lambda v: matrix @ v, 600, 1, 1e-3, basis[:, 1:2], 10**5)
    assert found.converged
    assert found.values[0] == pytest.approx(2.0, abs=1e-4)


def test_eigenvalues_of_the_trainable_block():
    net, x, y, loss = problem("tanh", "mse", True, [4, 5, 3])
    trainable = np.arange(net.size) >= 25  # the last layer alone
    hidden = np.tanh(x @ net.weights[0] + net.biases[0])
    features = np.column_stack([hidden, np.ones(len(x))])
    gram = np.linalg.eigvalsh(features.T @ features / len(x))[::-1]
    found = trainer.top_eigenpairs(trainer.Objective(net, x, y, loss, trainable=trainable), k=4, tol=1e-8)
    assert np.abs(found.values - np.repeat(gram, 3)[:4]).max() < 1e-9
    assert (found.vectors[~trainable] == 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# Batches

DATA = np.random.default_rng(5).standard_normal((23, 3))
TARGETS = np.random.default_rng(6).standard_normal((23, 2))


def drawn(x=DATA, y=TARGETS, loss="mse", **options):
    return [(a.copy(), b.copy()) for a, b in replayed(x, y, loss=loss, seed=options.pop("seed", 0), **options)]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("replacement", [True, False])
def test_batches_depend_on_the_seed_and_the_step_alone(replacement, monkeypatch):
    options = {"batch_size": 4, "replacement": replacement, "label_noise": 0.5}
    long = drawn(steps=50, **options)
    assert same(drawn(steps=50, **options), long)
    assert same(drawn(steps=20, **options), long[:20])
    assert not same(drawn(steps=50, seed=1, **options), long)
    for block in (1, 37):
        monkeypatch.setattr(batches_module, "BLOCK_VALUES", block)
        assert same(drawn(steps=50, **options), long)
    # noise does not change which examples are drawn
    assert all(
        np.array_equal(a, c)
        for (a, _), (c, _) in zip(drawn(steps=50, **options | {"label_noise": 0.0}), long, strict=True)
    )


@given(st.integers(1, 23), st.integers(0, 1000))
def test_reshuffling_visits_every_example_at_most_once_an_epoch(batch_size, seed):
    x = np.arange(23.0)[:, None]
    per_epoch = 23 // batch_size
    found = [a.ravel() for a, _ in replayed(x, x, steps=2 * per_epoch, batch_size=batch_size, loss="mse", seed=seed)]
    numbers = trainer.Batches(batch_size, seed=seed).numbers(23, steps=2 * per_epoch)
    assert np.array_equal(numbers, np.array(found).astype(int))
    for epoch in (found[:per_epoch], found[per_epoch:]):
        seen = np.concatenate(epoch)
        assert np.unique(seen).size == seen.size == per_epoch * batch_size


def test_draws_with_replacement_are_uniform():
    x = np.arange(10.0)[:, None]
    drawn_rows = replayed(x, x, steps=5000, batch_size=8, replacement=True, loss="mse", seed=0)
    found = np.concatenate([a.ravel() for a, _ in drawn_rows])
    counts = np.bincount(found.astype(int), minlength=10)
    z = (counts - 4000) / np.sqrt(40000 * 0.1 * 0.9)
    assert np.abs(z).max() < 4


def test_gaussian_label_noise():
    fresh = np.array([b - TARGETS for _, b in drawn(steps=2000, label_noise=0.3)])
    count = fresh.size
    assert abs(fresh.mean()) / (0.3 / np.sqrt(count)) < 4
    assert abs((fresh**2).mean() / 0.09 - 1) * np.sqrt(count / 2) < 4
    assert abs((fresh[1:] * fresh[:-1]).mean() / 0.09) * np.sqrt(count) < 4
    fixed = [b for _, b in drawn(steps=3, label_noise=0.3, label_noise_kind="fixed")]
    assert np.array_equal(fixed[0], fixed[2])
    assert not np.array_equal(fixed[0], TARGETS)


def test_replaced_labels():
    y = np.arange(23) % 4
    found = np.array([b for _, b in drawn(y=y, loss="cross_entropy", steps=3000, label_noise=0.2, classes=4)])
    count = found.size
    changed = (found != y).mean()
    assert abs(changed - 0.15) / np.sqrt(0.15 * 0.85 / count) < 4
    for c in range(4):  # a replaced label is any other class with the same probability
        share = ((found == c) & (y != c)).sum() / (y != c).sum() / 3000
        assert abs(share - 0.05) / np.sqrt(0.05 * 0.95 / ((y != c).sum() * 3000)) < 4
    certain = [b for _, b in drawn(y=y, loss="cross_entropy", steps=400, label_noise=1.0, classes=4)]
    counts = np.bincount(np.concatenate(certain), minlength=4)
    assert np.abs(counts - 2300).max() / np.sqrt(9200 * 0.25 * 0.75) < 4
    # rows of probabilities are replaced by rows of the identity, at the same places
    rows = drawn(y=trainer.one_hot(y, 4), loss="cross_entropy", steps=20, label_noise=0.2)
    assert all(np.array_equal(b, np.eye(4)[labels]) for (_, b), labels in zip(rows, found[:20], strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Least squares with label noise is the quadratic model

STEPS = 100
REGRESSION = np.random.default_rng(7).standard_normal((20, 3)) * [1.0, 0.7, 0.3]
ANSWERS = REGRESSION @ [1.0, -2.0, 0.5] + 0.1
LINEAR = trainer.network([3, 1], "linear", biases=False, seed=2)
RATES = schedules.cosine(0.6, STEPS, final=0.1)


def path(schedule=RATES, **options):
    run = trained(
        LINEAR,
        REGRESSION,
        ANSWERS,
        schedule,
        loss="mse",
        record=np.arange(STEPS + 1),
        keep_weights=True,
        seed=4,
        **options,
    )
    return run.weights.values, run


def centers_and_hessians(**options):
    """Every batch's minimiser c_t = H_t^-1 X_t^T y_t / n and Hessian H_t, from the replayed batches."""
    for x, y in replayed(REGRESSION, ANSWERS, steps=STEPS, loss="mse", seed=4, **options):
        hessian = x.T @ x / len(x)
        yield np.linalg.solve(hessian, x.T @ y / len(x)), hessian


@pytest.mark.parametrize(("batch_size", "replacement"), [(None, False), (8, False), (8, True)])
def test_sgd_on_least_squares_contracts_towards_the_batch_centers(batch_size, replacement):
    options = {"batch_size": batch_size, "replacement": replacement, "label_noise": 0.5}
    w = [LINEAR.flat()]
    for rate, (center, hessian) in zip(RATES, centers_and_hessians(**options), strict=True):
        w.append(center + (np.eye(3) - rate * hessian) @ (w[-1] - center))
    weights, run = path(**options, averages={"ema": schedules.ema(0.9, STEPS), "half": schedules.swa(STEPS, 50)})
    assert np.abs(weights - w).max() < 1e-10
    y = w[0]
    for x in w[1:]:
        y = 0.9 * y + 0.1 * x
    assert np.abs(run.averaged_weights.sel(average="ema") - y).max() < 1e-10
    assert np.abs(run.averaged_weights.sel(average="half") - np.mean(w[51:], axis=0)).max() < 1e-10


@pytest.mark.parametrize(("batch_size", "replacement"), [(None, False), (8, False), (8, True)])
def test_momentum_on_least_squares_is_the_heavy_ball(batch_size, replacement):
    options = {"batch_size": batch_size, "replacement": replacement, "label_noise": 0.5}
    w, u = [LINEAR.flat()], np.zeros(3)
    for rate, (center, hessian) in zip(RATES, centers_and_hessians(**options), strict=True):
        u = 0.7 * u + hessian @ (w[-1] - center)
        w.append(w[-1] - rate * u)
    assert np.abs(path(update=trainer.momentum(0.7), **options)[0] - w).max() < 1e-10


def test_nesterov_on_least_squares():
    beta, rate = 0.7, 0.4
    options = {"label_noise": 0.5}
    x = previous = LINEAR.flat()
    w = [x]
    for center, hessian in centers_and_hessians(**options):
        previous, x = x, w[-1] - rate * hessian @ (w[-1] - center)  # a plain step from the look-ahead point
        w.append(x + beta * (x - previous))
    average = {"x": schedules.ema(beta / (1 + beta), STEPS)}
    constant = schedules.constant(rate, STEPS)
    weights, run = path(constant, update=trainer.momentum(beta, nesterov=True), averages=average, **options)
    assert np.abs(weights - w).max() < 1e-10
    assert np.abs(run.averaged_weights.values[0] - x).max() < 1e-10
    # without noise, the transfer matrix [[(1+beta)q, -beta q], [1, 0]] in every direction
    h, directions = np.linalg.eigh(REGRESSION.T @ REGRESSION / 20)
    weights, _ = path(constant, update=trainer.momentum(beta, nesterov=True))
    errors = (weights - np.linalg.lstsq(REGRESSION, ANSWERS, rcond=None)[0]) @ directions
    q = 1 - rate * h
    assert np.abs(errors[2:] - ((1 + beta) * q * errors[1:-1] - beta * q * errors[:-2])).max() < 1e-12


def test_linear_network_without_biases_on_one_example_is_the_uv_model():
    x, y, steps = 0.8, 1.5, 60
    net = trainer.network([1, 16, 1], "linear", biases=False, init_scale=1.2, seed=3)
    first, second = (w.ravel() for w in net.weights)
    f, ntk = x * first @ second, x**2 * (first @ first + second @ second)
    rate = 2.5 / ntk  # beyond 2, where the loss first rises
    wanted = [(f, ntk)]
    for _ in range(steps):  # f' = f - eta r ntk + (eta r x)^2 f, ntk' = ntk - 4 eta r x^2 f + (eta r x)^2 ntk
        r = f - y
        f, ntk = f - rate * r * ntk + (rate * r * x) ** 2 * f, ntk - 4 * rate * r * x**2 * f + (rate * r * x) ** 2 * ntk
        wanted.append((f, ntk))

    def measure(here):
        first, second = here.net.weights
        return {"output": x * (first @ second).item(), "ntk": x**2 * (here.flat() @ here.flat())}

    schedule = schedules.constant(rate, steps)
    objective = trainer.Objective(net, [[x]], [y], "mse")
    run = trainer.trajectory(objective, schedule, record=np.arange(steps + 1), measure=measure)
    found = np.stack([run.output, run.ntk], axis=1)
    assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()
    assert np.abs(run.loss - 0.5 * (found[:, 0] - y) ** 2).max() < 1e-12
    assert run.loss.max() > 1.2 * run.loss[0]
    assert run.loss[-1] < 1e-6


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def small(loss="cross_entropy", **options):
    net, x, y, loss = problem("tanh", loss, True, [4, 5, 3], examples=30, scale=0.5)
    settings = {"loss": loss, "batch_size": 6, "seed": 9} | options
    schedule = settings.pop("schedule", schedules.linear(0.3, 40))
    return trained(net, x, y, schedule, **settings), (net, x, y, loss)


@pytest.mark.parametrize("update", [None, trainer.momentum(0.9), trainer.momentum(0.5, nesterov=True)])
def test_what_is_recorded_does_not_change_the_path(update):
    options = {"update": update, "label_noise": 0.1, "weight_decay": 0.01}
    plain, _ = small(**options)
    averages = {"ema": schedules.ema(0.8, 40)}
    full, (net, x, y, loss) = small(**options, record=np.arange(41), keep_weights=True, averages=averages)
    assert np.array_equal(plain.final_weights, full.final_weights)
    assert np.array_equal(plain.loss, full.loss[-1:])
    assert np.array_equal(plain.batch_loss, full.batch_loss[-1:])
    assert np.array_equal(full.weights[-1], full.final_weights)
    assert np.array_equal(full.weights[0], net.flat())
    some, _ = small(**options, record=[0, 7, 33], keep_weights=True)
    assert np.array_equal(some.weights, full.weights[[0, 7, 33]])
    assert np.isnan(full.batch_loss[0])
    replay = replayed(x, y, steps=40, batch_size=6, label_noise=0.1, classes=3, loss=loss, seed=int(full.seed))
    for step, (x_batch, y_batch) in enumerate(replay, 1):
        before = net.with_flat(full.weights[step - 1])
        batch_loss = trainer.Objective(before, x_batch, y_batch, loss, weight_decay=0.01).loss_value()
        assert full.batch_loss[step] == pytest.approx(batch_loss, rel=1e-12)
        here = net.with_flat(full.weights[step])
        assert full.loss[step] == trainer.Objective(here, x, y, loss, weight_decay=0.01).loss_value()


def test_same_seed_same_bits_and_same_batches_for_every_rate():
    first, _ = small()
    again, _ = small()
    assert first.identical(again)
    assert not np.array_equal(first.final_weights, small(seed=10)[0].final_weights)
    # the same first batch whatever the rate: the first step is linear in the rate
    start = small(schedule=[0.0])[0].final_weights
    one, two = (small(schedule=[rate])[0].final_weights - start for rate in (0.1, 0.2))
    assert np.abs(two - 2 * one).max() < 1e-15


def test_runs_in_threads_have_the_same_bits_and_restore_blas():
    x, y = trainer.digits()
    net = trainer.network([64, 32, 10], "tanh", seed=0)

    def blas_threads():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]

    results = {}

    def run(seed):
        found = trained(net, x, y, schedules.constant(0.3, 12), loss="cross_entropy", seed=seed, label_noise=0.1)
        results[seed] = found.final_weights.values

    run(0)
    before, alone = blas_threads(), results[0]
    inside = []
    trained(net, x, y, [0.1], loss="cross_entropy", measure=lambda here: inside.append(blas_threads()) or {}, seed=0)
    workers = [threading.Thread(target=run, args=(seed,)) for seed in (1, 0, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert np.array_equal(results[0], alone)
    assert blas_threads() == before
    assert set(inside[0]) == {1}


def test_streaming_averages_are_averages_of_the_iterates():
    steps = 200  # beyond one block of iterates
    random = np.random.default_rng(0).standard_normal(steps + 1)
    averages = {
        "ema": schedules.ema(0.95, steps),
        "uniform": schedules.swa(steps, 30),
        "two_point": schedules.two_point(steps, 77),
        "signed": random / random.sum(),
    }
    options = {"schedule": schedules.constant(0.2, steps), "averages": averages}
    run, (net, x, y, loss) = small(**options, record=np.arange(steps + 1), keep_weights=True)
    iterates = run.weights.values
    for name, weights in averages.items():
        mean = run.averaged_weights.sel(average=name).values
        assert np.abs(mean - weights @ iterates).max() < 1e-12 * np.abs(weights).sum()
        assert run.averaged_loss.sel(average=name) == trainer.loss_value(net.with_flat(mean), x, y, loss)
    assert np.abs(run.averaged_weights.sel(average="uniform") - iterates[31:].mean(axis=0)).max() < 1e-13


def test_frozen_parameters_stay():
    trainable = np.arange(43) % 3 == 0

    def drift(weights, gradient, rate, state):
        assert (gradient[~trainable] == 0).all()
        return weights - rate * gradient + 0.01, None

    for update in (None, trainer.momentum(0.9), drift):
        run, (net, x, y, loss) = small(trainable=trainable, weight_decay=0.1, update=update)
        assert np.array_equal(run.final_weights[~trainable], net.flat()[~trainable])
        assert (run.final_weights.values[trainable] != net.flat()[trainable]).all()
        last = net.with_flat(run.final_weights)
        assert (
            run.loss.item() == trainer.Objective(last, x, y, loss, weight_decay=0.1, trainable=trainable).loss_value()
        )
    gradient = trainer.Objective(net, x, y, loss, weight_decay=0.1, trainable=trainable).gradient()
    assert np.array_equal(
        gradient, np.where(trainable, trainer.Objective(net, x, y, loss, weight_decay=0.1).gradient(), 0)
    )
    product = trainer.Objective(net, x, y, loss, trainable=trainable).hessian_vector_product(np.ones(43))
    assert np.array_equal(
        product, np.where(trainable, trainer.hessian_operator(trainer.Objective(net, x, y, loss)) @ trainable, 0)
    )


def test_weight_decay_is_a_part_of_the_gradient():
    def by_hand(weights, gradient, rate, state):
        return weights - rate * (gradient + 0.2 * weights), None

    inside, outside = small(weight_decay=0.2)[0], small(update=by_hand)[0]
    assert np.abs(inside.final_weights - outside.final_weights).max() < 1e-13


def test_update_rules_may_work_in_place():
    def in_place(weights, gradient, rate, state):
        weights -= rate * gradient
        return weights, state

    for record in ([40], np.arange(41)):
        found = small(update=in_place, weight_decay=0.1, record=record, keep_weights=True)[0]
        wanted = small(weight_decay=0.1, record=record, keep_weights=True)[0]
        assert found.drop_attrs().identical(wanted.drop_attrs())


def test_a_run_is_its_steps_one_by_one():
    run, (net, x, y, loss) = small(replacement=False, label_noise=0.3, label_noise_kind="fixed")
    w = net.flat()
    options = {"steps": 40, "batch_size": 6, "replacement": False, "label_noise": 0.3, "label_noise_kind": "fixed"}
    for rate, (x_batch, y_batch) in zip(
        schedules.linear(0.3, 40), replayed(x, y, classes=3, loss=loss, seed=9, **options), strict=True
    ):
        w = w - rate * trainer.gradient(net.with_flat(w), x_batch, y_batch, loss)
    assert np.array_equal(run.final_weights, w)
    assert run.time.item() == pytest.approx(schedules.linear(0.3, 40).sum())


# ---------------------------------------------------------------------------------------------------------------------
# Arrays that are made once


def filled(examples, widths, activation, loss):
    """A workspace that an earlier pass has left full of numbers without meaning."""
    space = Workspace(widths, NONLINEARITIES[activation].in_place, losses.LOSSES[loss], examples)
    for array in (*space.values, *space.deltas, space.column):
        array[:] = np.nan
    return space


@pytest.mark.parametrize("examples", [1, 7, 33])
@pytest.mark.parametrize(("activation", "loss", "biases", "depth"), CASES)
def test_a_workspace_has_the_bits_of_the_plain_passes(activation, loss, biases, depth, examples):
    net, x, y, loss = problem(activation, loss, biases, WIDTHS[depth], seed=depth, examples=2 * examples)
    targets = losses.as_targets(y, net.widths[-1], loss)
    space = filled(examples, net.widths, activation, loss)
    for rows in (slice(examples), slice(examples, None)):  # the second pass writes over the first
        found, wanted = np.full(net.size, np.nan), np.full(net.size, np.nan)
        into = [unflatten(vector, net.widths, biases) for vector in (found, wanted)]
        value = passes.value_and_gradient(
            net.layers(), Hidden(NONLINEARITIES[activation]), losses.LOSSES[loss], x[rows], targets[rows], into[1]
        )
        assert space.write_gradient(net.layers(), x[rows], targets[rows], into[0], want_loss=True) == value
        assert np.array_equal(found, wanted)
        assert space.loss_value(net.layers(), x[rows], targets[rows]) == value
        assert value == trainer.loss_value(net, x[rows], y[rows], loss)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_pass_makes_no_arrays(activation, loss):
    net, x, y, loss = problem(activation, loss, True, [20, 300, 200, 10], examples=64)
    targets = losses.as_targets(y, 10, loss)
    space = Workspace(net.widths, NONLINEARITIES[activation].in_place, losses.LOSSES[loss], 64)
    into = unflatten(np.empty(net.size), net.widths, True)
    rule, weights, gradient = trainer.momentum(0.9), np.zeros(net.size), np.zeros(net.size)
    state = rule.overwrite(weights, gradient, 0.1, None)
    tracemalloc.start()
    space.write_gradient(net.layers(), x, targets, into, want_loss=False)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    space.write_gradient(net.layers(), x, targets, into, want_loss=False)
    rule.overwrite(weights, gradient, 0.1, state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 64 * 200 * 8  # NumPy's buffer for broadcasting, but no values of a layer


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_in_place_are_activations(name):
    special = [0.0, -0.0, 1.0, -1.0, 1e-300, -1e300, np.inf, -np.inf, np.nan]
    random = np.random.default_rng(0)
    real = np.concatenate([special, random.standard_normal(60)]).reshape(3, 23)
    activation = NONLINEARITIES[name]
    with np.errstate(all="ignore"):
        for z in (real, real[:, 9:] + 1j * random.standard_normal((3, 14))):
            value = np.array(activation.value(z))
            found = z.copy()
            activation.in_place.enter(found, None)
            assert np.array_equal(found, value, equal_nan=True)
            assert np.array_equal(np.signbit(found.real), np.signbit(value.real))
            delta = random.standard_normal(z.shape).astype(z.dtype)
            wanted = delta * activation.slope(value)
            activation.in_place.leave(delta, value.copy(), None)
            assert np.array_equal(delta, wanted, equal_nan=True)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_losses_leave_their_arguments_alone(loss):
    random = np.random.default_rng(0)
    outputs, targets = random.standard_normal((5, 3)), random.dirichlet(np.ones(3), 5)
    for z in (outputs, outputs + 1e-30j):
        given = z.copy()
        value, slope = losses.LOSSES[loss].value_and_slope(z, targets)
        assert np.array_equal(z, given)
        wanted = z - targets if loss == "mse" else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) - targets
        assert np.abs(slope - wanted).max() < 1e-15
        total = (np.log(np.exp(z).sum(axis=1)) - (targets * z).sum(axis=1)).sum()
        assert abs(value - (0.5 * ((z - targets) ** 2).sum() if loss == "mse" else total)) < 1e-14


def test_batches_are_arrays_of_their_own():
    x, y = np.random.default_rng(0).standard_normal((50, 3)), np.arange(50.0)
    options = {"steps": 30, "batch_size": 4, "label_noise": 0.1, "loss": "mse", "seed": 3}
    kept = list(replayed(x, y, **options))
    for (a, b), (x_batch, y_batch) in zip(kept, replayed(x, y, **options), strict=True):
        assert np.array_equal(a, x_batch)
        assert np.array_equal(b, y_batch)
        assert (a[:, None] == x).all(axis=2).any(axis=1).all()


def test_divergence_is_a_result():
    net = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    record = np.arange(0, 2001, 50)
    # |w| doubles: (1 - 3)^t; its square overflows at 2^512
    options = {"averages": {"last": schedules.tail(2000, 1)}, "measure": lambda here: {"size": abs(here.flat()[0])}}
    objective = trainer.Objective(net, [[1.0]], [0.0], "mse")
    run = trainer.trajectory(objective, schedules.constant(3.0, 2000), record=record, keep_weights=True, **options)
    assert run.divergence_step.dtype == np.int32
    assert run.divergence_step == 512
    after = record >= 512
    for name in ("loss", "batch_loss", "weights", "size"):
        assert (run[name].values[after] == np.inf).all()
        assert np.isfinite(run[name].values[1:][~after[1:]]).all()
    assert (run.final_weights == np.inf).all()
    assert (run.averaged_weights == np.inf).all()
    assert (run.averaged_loss == np.inf).all()
    assert small()[0].divergence_step == -1
    # nothing was recorded before it diverged: the names are known all the same
    late = trainer.trajectory(objective, [1e200, 1.0], measure=options["measure"])
    assert late["size"].values.tolist() == [np.inf]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_absurd_rates_raise_no_exception(activation, loss):
    net, x, y, loss = problem(activation, loss, True, [4, 5, 5, 3])
    run = trained(
        net, x, y, schedules.constant(1e80, 30), loss=loss, record=np.arange(31), batch_size=2, weight_decay=0.1, seed=0
    )
    assert run.divergence_step > 0
    assert not np.isnan(run.loss).any()
    assert not np.isnan(run.batch_loss[1:]).any()


def test_a_run_saves_and_loads(tmp_path):
    averages = {"ema": schedules.ema(0.5, 40), "swa": schedules.swa(40)}
    run, _ = small(record=[0, 40], keep_weights=True, averages=averages, measure=lambda here: {"sharpness": 1.0})
    run.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as loaded:
        assert loaded.load().equals(run)
        assert loaded.attrs["seed"] == "9"
        assert set(loaded.attrs) == set(run.attrs)
    assert all(isinstance(value, str | float) for value in run.attrs.values())
    for variable in run.variables.values():
        assert all(isinstance(value, str | float) for value in variable.attrs.values())
    assert dict(run.weights.sizes) == {"step": 2, "parameter": 43}
    assert dict(run.averaged_weights.sizes) == {"average": 2, "parameter": 43}


def test_seed_sequences_are_named():
    run, _ = small(seed=np.random.SeedSequence(5, spawn_key=(2,)))
    assert run.seed == "SeedSequence(5, spawn_key=(2,))"


# ---------------------------------------------------------------------------------------------------------------------
# Digits


def test_digits_are_standardised_as_named():
    raw, y = trainer.digits("raw")
    assert raw.shape == (1797, 64)
    assert (raw.min(), raw.max()) == (0, 16)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    centred = trainer.digits("mean_image").x
    assert np.abs(centred.mean(axis=0)).max() < 1e-15
    assert np.abs(centred - (raw - raw.mean(axis=0)) / 16).max() < 1e-15
    scaled = trainer.digits("raw_deviation").x
    assert np.abs(scaled.mean(axis=0)).max() < 1e-14
    assert raw.std() == pytest.approx(6.02, abs=0.005)
    assert (scaled**2).sum(axis=1).mean() == pytest.approx(33, abs=0.5)
    each = trainer.digits("per_image").x
    assert np.abs(each.mean(axis=1)).max() < 1e-14
    assert np.abs(each.std(axis=1) - 1).max() < 1e-14


def test_splits_are_permutations():
    x, y = trainer.digits()
    x_train, y_train, x_test, y_test = trainer.split(x, y, train=1200, seed=3)
    assert (len(x_train), len(x_test)) == (1200, 597)
    assert y_train.dtype == np.int64
    together = np.column_stack([np.vstack([x_train, x_test]), np.concatenate([y_train, y_test])])
    original = np.column_stack([x, y])
    assert np.array_equal(together[np.lexsort(together.T)], original[np.lexsort(original.T)])
    assert np.array_equal(trainer.split(x, y, train=100, seed=3).x_train, x_train[:100])
    assert not np.array_equal(trainer.split(x, y, train=1200, seed=4).x_train, x_train)


def test_whitening_uses_the_reference():
    x = trainer.digits().x
    white = trainer.whitened(x[:400], 50)
    assert np.abs(white.mean(axis=0)).max() < 1e-12
    assert np.abs(white.T @ white / 400 - np.eye(50)).max() < 1e-10
    assert np.abs(trainer.whitened(x, 50, x[:400])[:400] - white).max() < 1e-12
    with pytest.raises(ValueError, match="dimensions"):
        trainer.whitened(x[:400], 64)  # some pixels are always blank


# ---------------------------------------------------------------------------------------------------------------------
# The door

NET = trainer.network([3, 2], "tanh", seed=0)
X, Y, LABELS = DATA, TARGETS, np.arange(23) % 2
BASE = {"net": NET, "x": X, "y": Y, "loss": "mse"}
OBJECTIVE = trainer.Objective(NET, X, Y, "mse", weight_decay=0.1, trainable=np.ones(8, bool))
CALLS = {
    trainer.network: {
        "widths": [3, 2],
        "activation": "tanh",
        "init_scale": 1.0,
        "biases": True,
        "residual": False,
        "layer_norm": 1e-5,
        "seed": 0,
    },
    trainer.Objective: {**BASE, "weight_decay": 0.1, "trainable": np.ones(8, bool)},
    trainer.Batches: {
        "size": 2,
        "replacement": True,
        "label_noise": 0.1,
        "label_noise_kind": "fresh",
        "seed": 0,
    },
    trainer.loss_value: BASE,
    trainer.gradient: BASE,
    trainer.per_example_curvatures: {"objective": OBJECTIVE, "v": np.ones(8), "part": "whole"},
    trainer.hessian_vector_product: {**BASE, "v": np.ones(8)},
    trainer.hessian_operator: {"objective": OBJECTIVE},
    trainer.top_hessian_eigenvalues: {**BASE, "k": 1, "tol": 1e-3},
    trainer.top_eigenpairs: {"objective": OBJECTIVE, "k": 1, "tol": 1e-3, "start": np.ones(8), "max_products": 10},
    trainer.momentum: {"beta": 0.9, "nesterov": False},
    trainer.train: {
        **BASE,
        "schedule": [0.1, 0.1],
        "batch_size": 2,
        "update": trainer.sgd(),
        "record": [0, 2],
        "seed": 0,
    },
    trainer.trajectory: {
        "objective": OBJECTIVE,
        "schedule": [0.1, 0.1],
        "batches": trainer.Batches(2, replacement=True, label_noise=0.1, seed=0),
        "update": trainer.sgd(),
        "averages": {"ema": [0.2, 0.3, 0.5]},
        "record": [0, 2],
        "measure": lambda here: {"size": 1.0},
        "measure_at": [0, 1],
        "evaluate_loss": True,
        "keep_weights": True,
        "progress": False,
    },
    trainer.digits: {"standardisation": "raw"},
    trainer.split: {"x": X, "y": Y, "train": 5, "seed": 0},
    trainer.whitened: {"x": X, "dimensions": 2, "reference": X},
    trainer.one_hot: {"labels": LABELS, "classes": 2},
    trainer.smoothed_labels: {"labels": LABELS, "classes": 2, "label_noise": 0.1},
}
OPTIONAL = {
    "layer_norm",
    "trainable",
    "start",
    "batch_size",
    "size",
    "batches",
    "update",
    "averages",
    "record",
    "measure",
    "measure_at",
    "reference",
}
GARBAGE = [np.nan, np.inf, -1, "a", None, [], [0.1] * 29, [[np.nan] * 3] * 23, object(), 1j]


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_bad_arguments_are_named(function):
    good = CALLS[function]
    function(**good)
    assert set(function.domains) == set(good)
    for name, domain in function.domains.items():
        for value in GARBAGE:
            if value is None and name in OPTIONAL:
                continue
            if (
                name in ("schedule", "v", "start")
                and isinstance(value, list)
                and value == [0.1] * 29
                and name == "schedule"
            ):
                continue  # any length is a schedule; the average no longer fits, which is tested below
            with pytest.raises((ValueError, TypeError), match=rf"{function.__name__}: {name}\b.* must be ") as caught:
                function(**good | {name: value})
            assert len(str(caught.value)) > len(f"{function.__name__}: {name} must be ")
        assert domain.text


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"x": DATA[:, :2]}, "x"),
        ({"x": DATA[:5]}, "y"),
        ({"y": TARGETS[:, :1]}, "y"),
        ({"y": TARGETS[:, 0]}, "y"),
        ({"loss": "cross_entropy"}, "y"),
        ({"loss": "cross_entropy", "y": LABELS + 1}, "y"),
        ({"loss": "cross_entropy", "y": LABELS + 0.5}, "y"),
        ({"trainable": np.zeros(8, bool)}, "trainable"),
        ({"trainable": np.ones(7, bool)}, "trainable"),
        ({"trainable": np.ones(8)}, "trainable"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(change, name):
    with pytest.raises((ValueError, TypeError), match=rf"Objective: {name}\b.* must be "):
        trainer.Objective(**CALLS[trainer.Objective] | change)
    if name != "trainable":  # the fault is the caller's
        for front in (trainer.loss_value, trainer.gradient, trainer.top_hessian_eigenvalues):
            with pytest.raises((ValueError, TypeError), match=rf"{front.__name__}: {name}\b.* must be "):
                front(**BASE | change)


NOISY_LABELS = trainer.Objective(NET, X, LABELS, "cross_entropy")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"objective": NOISY_LABELS, "batches": trainer.Batches(label_noise=1.5, seed=0)}, "batches.label_noise"),
        ({"record": [0, 3]}, "record"),
        ({"record": [2, 1]}, "record"),
        ({"averages": {"a": [0.5, 0.5]}}, "averages"),
        ({"averages": {"a": [0.5, 0.5, 0.5]}}, "averages"),
        ({"averages": {1: [0.2, 0.3, 0.5]}}, "averages"),
        ({"averages": {"a": [[0.2, 0.3, 0.5]]}}, "averages"),
        ({"schedule": [0.1, -0.1]}, "schedule"),
        ({"schedule": [[0.1, 0.1]]}, "schedule"),
        ({"batches": trainer.Batches(24, seed=0)}, "batches.size"),
        ({"measure": lambda here: 1.0}, "measure"),
        ({"measure": lambda here: {"loss": 1.0}}, "measure"),
        ({"measure": lambda here: {"size": "large"}}, "measure"),
        ({"measure": lambda here: {"size": np.ones(2)}}, "measure"),
        ({"measure": lambda here: {str(here.flat()[0]): 1.0}}, "measure"),
        ({"update": lambda w, g, r, s: (w[:2], s)}, "update"),
        ({"update": lambda w, g, r, s: (list(w), s)}, "update"),
        ({"update": lambda w, g, r, s: w}, "update"),
        ({"objective": OBJECTIVE.with_flat(NET.flat() + 1j)}, "objective"),
        ({"objective": NET}, "objective"),
    ],
)
def test_runs_that_do_not_fit_are_refused(change, name):
    with pytest.raises((ValueError, TypeError), match=rf"trajectory: {name}\b.* must be "):
        trainer.trajectory(**CALLS[trainer.trajectory] | change)


def test_the_front_of_a_run_names_its_own_arguments():
    for change, name in (
        ({"x": DATA[:5]}, "y"),
        ({"batch_size": 24}, "batch_size"),
        ({"net": NET.with_flat(NET.flat() + 1j)}, "net"),
    ):
        with pytest.raises(ValueError, match=rf"train: {name}\b.* must be "):
            trainer.train(**CALLS[trainer.train] | change)


def test_fronts_are_fronts():
    plain = trainer.Objective(**BASE)
    v = np.linspace(-1, 1, 8)
    assert trainer.loss_value(**BASE) == plain.loss_value()
    assert np.array_equal(trainer.gradient(**BASE), plain.gradient())
    assert np.array_equal(trainer.hessian_vector_product(**BASE, v=v), plain.hessian_vector_product(v))
    found, wanted = trainer.top_hessian_eigenvalues(**BASE, k=3), trainer.top_eigenpairs(plain, k=3)
    assert all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))
    options = {"record": [0, 2], "update": trainer.momentum(0.5)}
    run = trainer.trajectory(plain, [0.1, 0.2], batches=trainer.Batches(3, seed=1), **options)
    assert trainer.train(**BASE, schedule=[0.1, 0.2], batch_size=3, seed=1, **options).identical(run)


def test_an_objective_moves_and_shows_itself():
    assert OBJECTIVE.with_flat(OBJECTIVE.flat()).loss_value() == OBJECTIVE.loss_value()
    some = OBJECTIVE.batch([2, 2, 0])
    assert (some.examples, some.size, some.trainable_size) == (3, 8, 8)
    one = [OBJECTIVE.batch([row]).loss_value() for row in (2, 2, 0)]
    assert some.loss_value() == pytest.approx(np.mean(one), rel=1e-14)
    assert repr(OBJECTIVE).startswith("Objective(net=Network 3-2, tanh, 8 parameters, x=<23 x 3")
    assert trainer.Objective(NET, X, Y, "mse", weight_decay=0.1, trainable=np.ones(8, bool)) == OBJECTIVE
    assert some != OBJECTIVE


def test_other_misfits_are_refused():
    with pytest.raises(ValueError, match="vector must be"):
        NET.with_flat(np.ones(7))
    with pytest.raises(ValueError, match="vector must be"):
        NET.with_flat(np.full(8, np.nan))
    with pytest.raises(ValueError, match="k must be"):
        trainer.top_hessian_eigenvalues(NET, X, Y, k=9, loss="mse")
    with pytest.raises(ValueError, match="start must be"):
        trainer.top_eigenpairs(trainer.Objective(NET, X, Y, "mse"), start=np.ones(7))
    with pytest.raises(ValueError, match="net must be"):
        trainer.top_hessian_eigenvalues(NET.with_flat(NET.flat() + 1j), X, Y, loss="mse")
    with pytest.raises(ValueError, match="y must be"):
        trainer.loss_value(NET, X, np.full((23, 2), 0.6), "cross_entropy")
    with pytest.raises(ValueError, match="train must be"):
        trainer.split(X, Y, train=24, seed=0)


def test_the_trainer_loads_nothing_heavy():
    heavy = {"numba", "sklearn", "sympy", "sgdynamics.formula", "sgdynamics.models.quadratic"}
    code = f"import sys, sgdynamics.simulate.trainer; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_masked_entries_are_missing_and_refused():
    mask = np.zeros(np.shape(X), dtype=bool)
    free = np.ma.masked_array(X, mask)
    assert trainer.loss_value(NET, free, Y, "mse") == trainer.loss_value(NET, X, Y, "mse")  # nothing is missing
    mask[0, 0] = True
    hidden = np.ma.masked_array(X, mask)
    for call in (trainer.loss_value, trainer.gradient):
        with pytest.raises(ValueError, match=f"{call.__name__}: x must be .* none of them masked"):
            call(NET, hidden, Y, "mse")
    with pytest.raises(ValueError, match=r"top_hessian_eigenvalues: x must be .* none of them masked"):
        trainer.top_hessian_eigenvalues(NET, hidden, Y, loss="mse")
