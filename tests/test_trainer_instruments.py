"""The trainer's instruments: against closed forms of least squares, enumerations of batches and complex steps."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from figures.engine.elsewhere import elsewhere
from sgdynamics.models import schedules
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.simulate import trainer
from sgdynamics.simulate.trainer import curvature
from sgdynamics.theory.break_even import rise_multiple
from sgdynamics.theory.quadratic import critical_rate


def recipe(scale=1.0, seed=0):
    """The digits and the start of the papers' replica, with NumPy's own generator."""
    x, labels = trainer.digits("raw_deviation")
    chosen = np.random.default_rng(0).permutation(len(x))[:1024]
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((64, 32)) / 8, random.standard_normal((32, 10)) / np.sqrt(32)
    flat = np.concatenate([scale * first.ravel(), np.zeros(32), scale * second.ravel(), np.zeros(10)])
    net = trainer.network([64, 32, 10], "tanh", seed=0).with_flat(flat)
    return net, x[chosen], trainer.one_hot(labels[chosen], 10), labels[chosen]


def problem(seed=0, examples=9, widths=(4, 5, 3), activation="tanh", loss="mse", biases=True):
    random = np.random.default_rng(seed)
    net = trainer.network(list(widths), activation, biases=biases, seed=seed)
    net = net.with_flat(random.standard_normal(net.size))
    x = random.standard_normal((examples, widths[0]))
    y = random.standard_normal((examples, widths[-1])) if loss == "mse" else random.integers(widths[-1], size=examples)
    return net, x, y, loss


def close(found, wanted, tolerance=1e-10):
    scale = max(np.abs(np.asarray(wanted)).max(), 1e-12)
    assert np.max(np.abs(np.asarray(found) - np.asarray(wanted))) <= tolerance * scale


# ---------------------------------------------------------------------------------------------------------------------
# Covariance of per-example gradients


def test_covariance_of_the_digits_is_the_dense_one_by_both_routes():
    net, x, y, _ = recipe()
    rows = trainer.Objective(net, x, y, "mse").example_gradients()
    centred = rows - rows.mean(axis=0)
    wanted = np.linalg.eigvalsh(centred @ centred.T / 1024)[::-1]
    by_examples = trainer.gradient_covariance(trainer.Objective(net, x, y, "mse"), k=20, vectors=True)
    by_parameters = trainer.gradient_covariance(
        trainer.Objective(net, x, y, "mse"), k=20, route="parameters", vectors=True
    )
    for found in (by_examples, by_parameters):
        close(found.covariance_eigenvalues, wanted[:20])
        close(found.gradient_variance, (centred**2).sum() / 1024)
        basis = found.covariance_eigenvectors.values
        close(basis.T @ basis, np.eye(20))
        close(centred.T @ (centred @ basis) / 1024, basis * wanted[:20], 1e-9)
    other = elsewhere("gradients_of_digits").values
    assert wanted[0] == pytest.approx(other["covariance"], abs=0.005)
    assert by_examples.squared_gradient.item() == pytest.approx(other["squared gradient"], abs=5e-4)
    second_moment = trainer.gradient_covariance(
        trainer.Objective(net, x, y, "mse"), centred=False
    ).covariance_eigenvalues.item()
    assert second_moment == pytest.approx(other["second moment"], abs=0.005)
    assert 0 <= second_moment - wanted[0] <= by_examples.squared_gradient.item()


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["tanh", "relu", "linear"]),
    st.sampled_from(["mse", "cross_entropy"]),
    st.sampled_from([4, 15, 60]),
    st.sampled_from([0.0, 0.7]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_covariance_is_that_of_the_rows(seed, activation, loss, examples, decay, masked, centred, biases):
    net, x, y, loss = problem(seed, examples, activation=activation, loss=loss, biases=biases)
    mask = np.random.default_rng(seed).random(net.size) < 0.5 if masked else None
    if masked:
        mask[0] = True
    options = {"weight_decay": decay, "trainable": mask}
    rows = trainer.Objective(net, x, y, loss, **options).example_gradients()
    mean = rows.mean(axis=0)
    moved = rows - mean if centred else rows
    k = min(examples, net.size)
    wanted = np.zeros(k)
    spectrum = np.linalg.svd(moved, compute_uv=False) ** 2 / examples
    wanted[: spectrum.size] = spectrum[:k]
    scale = max((rows**2).sum() / examples, 1e-12)
    for route in ("examples", "parameters"):
        found = trainer.gradient_covariance(
            trainer.Objective(net, x, y, loss, **options), k=k, centred=centred, route=route, vectors=True
        )
        assert np.abs(found.covariance_eigenvalues.values - wanted).max() <= 1e-12 * scale
        assert abs(found.gradient_variance.item() - ((rows - mean) ** 2).sum() / examples) <= 1e-12 * scale
        assert abs(found.squared_gradient.item() - mean @ mean) <= 1e-12 * scale
        basis = found.covariance_eigenvectors.values
        close(basis.T @ basis, np.eye(k), 1e-9)
    if centred and examples <= net.size:
        assert abs(wanted[-1]) <= 1e-12 * scale  # centring makes one of them zero


def test_small_eigenvectors_survive_a_mean_gradient_that_is_much_larger():
    random = np.random.default_rng(0)
    x = random.standard_normal((6, 12)) * np.geomspace(1, 1e-4, 12)
    x[:, 0] = 1
    net = trainer.network([12, 1], "linear", biases=False, seed=0).with_flat(np.zeros(12))
    y = random.standard_normal(6) * 1e-3 + 1e4
    rows = trainer.Objective(net, x, y, "mse").example_gradients()
    centred = rows - rows.mean(axis=0)
    found = trainer.gradient_covariance(trainer.Objective(net, x, y, "mse"), k=5, vectors=True)
    basis, values = found.covariance_eigenvectors.values, found.covariance_eigenvalues.values
    assert np.linalg.norm(rows.mean(axis=0)) > 500 * np.sqrt(values[-1])
    assert np.abs(centred.T @ (centred @ basis) / 6 - basis * values).max() <= 1e-14 * values[0]
    # one weight far off, labels that differ by little: the variance is theirs
    line = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat([1e9])
    for found in (
        trainer.gradient_covariance(trainer.Objective(line, [[1.0], [1.0]], [0.25, -0.25], "mse")),
        trainer.gradient_interaction(trainer.Objective(line, [[1.0], [1.0]], [0.25, -0.25], "mse"), batch_size=1),
    ):
        assert found.gradient_variance.item() == 0.0625


def test_second_moment_exceeds_the_covariance_by_at_most_the_squared_gradient():
    for seed in range(20):
        net, x, y, loss = problem(seed)
        covariance = trainer.gradient_covariance(trainer.Objective(net, x, y, loss))
        moment = trainer.gradient_covariance(
            trainer.Objective(net, x, y, loss), centred=False
        ).covariance_eigenvalues.item()
        gap = moment - covariance.covariance_eigenvalues.item()
        assert -1e-12 <= gap <= covariance.squared_gradient.item() * (1 + 1e-12)


def least_squares(seed=0, examples=7, inputs=3, spike=0.0):
    """One linear layer: gradient x_i r_i, Hessian X^T X / n."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((examples, inputs))
    y = random.standard_normal(examples)
    x[:, 0] *= 1 + spike
    weights = random.standard_normal(inputs)
    net = trainer.network([inputs, 1], "linear", biases=False, seed=0).with_flat(weights)
    rows = x * (x @ weights - y)[:, None]
    return net, x, y, rows, x.T @ x / examples


def test_every_instrument_on_least_squares_is_its_closed_form():
    examples, batch_size = 7, 3
    net, x, y, rows, hessian = least_squares()
    mean = rows.mean(axis=0)
    covariance = (rows - mean).T @ (rows - mean) / examples
    factor = (examples - batch_size) / (batch_size * (examples - 1))
    values, vectors = np.linalg.eigh(hessian)
    values, vectors = values[::-1], vectors[:, ::-1]

    found = trainer.gradient_covariance(trainer.Objective(net, x, y, "mse"), k=3)
    close(found.covariance_eigenvalues, np.linalg.eigvalsh(covariance)[::-1])
    close(found.gradient_variance, np.trace(covariance))

    objective, tracker = trainer.Objective(net, x, y, "mse"), trainer.tracked_eigenpairs(k=3)
    tracked = tracker(objective)
    close(tracked.hessian_eigenvalues, values)
    assert tracked.sharpness.item() == tracked.hessian_eigenvalues.values[0]
    close(np.abs(tracker.directions(objective).T @ vectors), np.eye(3), 1e-9)

    for replacement, c in ((False, factor), (True, 1 / batch_size)):
        found = trainer.gradient_interaction(
            trainer.Objective(net, x, y, "mse"), batch_size=batch_size, replacement=replacement
        )
        moment = np.outer(mean, mean) + c * covariance
        close(found.squared_gradient, mean @ mean)
        close(found.gradient_variance, np.trace(covariance))
        close(found.batch_second_moment, np.trace(moment))
        close(found.interaction, np.trace(hessian @ moment))
        close(found.noise_curvature, np.trace(hessian @ covariance))
        close(found.gradient_curvature, mean @ hessian @ mean)
        close(found.gradient_noise_interaction, np.trace(hessian @ moment) / (mean @ mean))
        close(found.interaction_aware_sharpness, np.trace(hessian @ moment) / np.trace(moment))

    steps = trainer.projected_steps(trainer.Objective(net, x, y, "mse"), directions=vectors, batch_size=batch_size)
    close(steps.gradient_projection, mean @ vectors)
    close(steps.curvature, values)
    close(steps.gauss_newton_curvature, values)
    close(steps.projection_variance, np.diagonal(vectors.T @ covariance @ vectors))
    close(steps.projection_second_moment, (mean @ vectors) ** 2 + factor * steps.projection_variance.values)
    close(steps.curvature_variance, ((x @ vectors) ** 2).var(axis=0))

    cosines = rows @ vectors / np.linalg.norm(rows, axis=1)[:, None]
    found = trainer.alignments(trainer.Objective(net, x, y, "mse"), directions=5.0 * vectors)
    close(found.gradient_cosine, mean @ vectors / np.linalg.norm(mean))
    close(found.example_cosine, cosines.mean(axis=0))
    close(found.example_absolute_cosine, np.abs(cosines).mean(axis=0))
    close(found.example_cosine_deviation, cosines.std(axis=0))

    distances = np.array([-2.0, -0.3, 0.0, 1.0, 7.0])
    line = trainer.loss_along(trainer.Objective(net, x, y, "mse"), directions=vectors, distances=distances)
    residual = x @ net.flat() - y
    parabola = [
        [((residual + a * (x @ column)) ** 2).sum() / (2 * examples) for a in distances] for column in vectors.T
    ]
    close(line.line_loss, parabola)
    close(line.start_loss, (residual**2).sum() / (2 * examples))
    close(line.slope, mean @ vectors)
    close(line.curvature, values)
    taylor = line.start_loss + line.slope * line.distance + line.curvature * line.distance**2 / 2
    close(taylor.transpose("direction", "distance"), parabola)

    every = np.array(list(itertools.combinations(range(examples), batch_size)))
    gradients = np.array([rows[list(some)].mean(axis=0) for some in every])
    curved = np.array(
        [g @ (x[some].T @ x[some] / batch_size) @ g for g, some in zip(gradients, every.tolist(), strict=True)]
    )
    lengths = (gradients**2).sum(axis=1)
    found = trainer.batch_sharpness(trainer.Objective(net, x, y, "mse"), batches=every)
    close(found.batch_sharpness, (curved / lengths).mean())
    close(found.batch_sharpness_of_means, curved.mean() / lengths.mean())
    close(found.largest_ratio, (curved / lengths).max())
    # over all subsets the sampled interaction is the exact one
    sampled = trainer.sampled_interaction(trainer.Objective(net, x, y, "mse"), batches=every)
    exact = trainer.gradient_interaction(trainer.Objective(net, x, y, "mse"), batch_size=batch_size)
    for name in (
        "squared_gradient",
        "batch_second_moment",
        "interaction",
        "gradient_noise_interaction",
        "interaction_aware_sharpness",
    ):
        close(sampled[name], exact[name])
    found = trainer.alignments(trainer.Objective(net, x, y, "mse"), directions=vectors, batches=every)
    cosines = gradients @ vectors / np.sqrt(lengths)[:, None]
    close(found.batch_cosine, cosines.mean(axis=0))
    close(found.batch_absolute_cosine, np.abs(cosines).mean(axis=0))
    close(found.batch_cosine_deviation, cosines.std(axis=0, ddof=1))
    found = trainer.batch_gradient_covariance(trainer.Objective(net, x, y, "mse"), batches=every)
    close(found.batch_gradient_variance, gradients.var(axis=0, ddof=1).sum())
    close(found.batch_covariance_eigenvalues[:3], np.linalg.eigvalsh(np.cov(gradients.T))[::-1])


def test_interaction_by_examples_and_by_parameters_agree_on_a_network():
    for examples in (9, 60):
        net, x, y, loss = problem(3, examples, loss="cross_entropy")
        mask = np.random.default_rng(1).random(net.size) < 0.6
        options = {"weight_decay": 0.2, "trainable": mask}
        rows = trainer.Objective(net, x, y, loss, **options).example_gradients()
        hessian = trainer.hessian_operator(trainer.Objective(net, x, y, loss, **options)) @ np.eye(net.size)
        covariance = np.cov(rows.T, ddof=0)
        found = trainer.gradient_interaction(trainer.Objective(net, x, y, loss, **options), batch_size=4)
        close(found.noise_curvature, np.trace(hessian @ covariance))
        assert found.attrs["hessian_products"] == 1 + min(examples, net.size)


def test_batches_of_all_subsets_have_the_covariance_and_the_second_moment_that_is_stated():
    examples = 7
    net, x, y, loss = problem(1, examples)
    rows = trainer.Objective(net, x, y, loss).example_gradients()
    covariance = np.cov(rows.T, ddof=0)
    direction = np.random.default_rng(2).standard_normal((net.size, 2))
    for batch_size in range(1, examples + 1):
        every = np.array(list(itertools.combinations(range(examples), batch_size)))
        factor = (examples - batch_size) / (batch_size * (examples - 1))
        gradients = np.array([rows[list(some)].mean(axis=0) for some in every])
        assert np.abs(np.cov(gradients.T, ddof=0) - factor * covariance).max() <= 1e-12 * np.abs(covariance).max()
        found = trainer.projected_steps(
            trainer.Objective(net, x, y, loss), directions=direction, batch_size=batch_size, batches=every
        )
        close((found.batch_projection**2).mean("draw"), found.projection_second_moment, 1e-12)
        close(found.batch_projection.mean("draw"), found.gradient_projection, 1e-12)
        close(found.batch_curvature.mean("draw"), found.curvature, 1e-12)
        variance = found.batch_curvature.var("draw").values
        assert np.abs(variance - factor * found.curvature_variance.values).max() <= 1e-12 * variance.max() + 1e-12
    with_replacement = np.array(list(itertools.product(range(examples), repeat=3)))
    found = trainer.projected_steps(
        trainer.Objective(net, x, y, loss),
        directions=direction,
        batch_size=3,
        batches=with_replacement,
        replacement=True,
    )
    close((found.batch_projection**2).mean("draw"), found.projection_second_moment, 1e-12)


def test_the_sign_of_a_direction_changes_no_verdict():
    net, x, y, _ = recipe(0.3)
    vectors = trainer.top_hessian_eigenvalues(net, x, y, k=3, loss="mse").vectors
    batches = trainer.draw_batches(1024, 32, draws=500, seed=0)
    rate = 0.4

    def verdicts(directions):
        found = trainer.projected_steps(
            trainer.Objective(net, x, y, "mse"), directions=directions, batch_size=32, batches=batches
        )
        minimiser = found.gradient_projection**2 / (rate * found.curvature * found.projection_second_moment)
        along = found.batch_projection * found.gradient_projection
        squares = rate * found.curvature * found.batch_projection**2
        return np.array([minimiser, (along < squares / 2).mean("draw"), (along < squares).mean("draw")])

    close(verdicts(vectors), verdicts(vectors * [-1, 1, -1]), 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Lines and curvatures


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_losses_at_many_weights_are_the_losses_there_bit_for_bit(loss):
    net, x, y, loss = problem(4, widths=(4, 5, 3), activation="tanh", loss=loss)
    weights = net.flat() * np.array([[1.0], [-2.0], [1e200]])
    found = trainer.losses_at(trainer.Objective(net, x, y, loss, weight_decay=0.3), weights=weights)
    expected = [trainer.Objective(net.with_flat(row), x, y, loss, weight_decay=0.3).loss_value() for row in weights]
    np.testing.assert_array_equal(found, expected)
    assert np.isinf(found[2])


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_curvatures_by_four_routes(loss, activation):
    net, x, y, loss = problem(4, widths=(4, 5, 4, 3), activation=activation, loss=loss)
    directions = np.random.default_rng(5).standard_normal((net.size, 3))
    options = {"weight_decay": 0.3}
    distances = [-1.0, 0.5, 2.0]
    line = trainer.loss_along(trainer.Objective(net, x, y, loss, **options), directions=directions, distances=distances)
    steps = trainer.projected_steps(trainer.Objective(net, x, y, loss, **options), directions=directions, batch_size=2)
    per_example = trainer.per_example_curvatures(trainer.Objective(net, x, y, loss, **options), directions)
    assert per_example.shape == (len(x), 3)
    for j, direction in enumerate(directions.T):
        complex_net = net.with_flat(net.flat() + 1e-30j * direction)
        slope = trainer.Objective(complex_net, x, y, loss, **options).loss_value().imag / 1e-30
        bend = trainer.Objective(complex_net, x, y, loss, **options).gradient().imag @ direction / 1e-30
        product = direction @ trainer.Objective(net, x, y, loss, **options).hessian_vector_product(direction)
        for found in (line.slope[j], steps.gradient_projection[j]):
            close(found, slope)
        for found in (line.curvature[j], steps.curvature[j], product, per_example[:, j].mean()):
            close(found, bend)
        close(
            per_example[:, j],
            trainer.per_example_curvatures(trainer.Objective(net, x, y, loss, **options), direction),
            1e-14,
        )
        for i, distance in enumerate(distances):
            there = net.with_flat(net.flat() + distance * direction)
            assert line.line_loss.values[j, i] == trainer.Objective(there, x, y, loss, **options).loss_value()


def test_gauss_newton_part_is_that_of_the_linearised_network():
    net, x, labels, _ = problem(6, loss="cross_entropy")
    direction = np.random.default_rng(7).standard_normal(net.size)

    def outputs(net):
        first, second = net.weights
        return np.tanh(x @ first + net.biases[0]) @ second + net.biases[1]

    moved = outputs(net.with_flat(net.flat() + 1e-30j * direction)).imag / 1e-30
    close(
        trainer.per_example_curvatures(trainer.Objective(net, x, outputs(net), "mse"), direction, part="gauss_newton"),
        (moved**2).sum(axis=1),
    )
    softmax = np.exp(outputs(net))
    softmax /= softmax.sum(axis=1, keepdims=True)
    wanted = (softmax * moved**2).sum(axis=1) - (softmax * moved).sum(axis=1) ** 2
    found = trainer.per_example_curvatures(
        trainer.Objective(net, x, labels, "cross_entropy"), direction, part="gauss_newton"
    )
    close(found, wanted)
    assert (found >= 0).all()
    whole = trainer.per_example_curvatures(trainer.Objective(net, x, labels, "cross_entropy"), direction)
    assert np.abs(whole - found).max() > 0.01 * np.abs(whole).max()  # away from a fit the rest counts
    at_fit = trainer.per_example_curvatures(trainer.Objective(net, x, outputs(net), "mse"), direction)
    close(at_fit, (moved**2).sum(axis=1))


def test_hessian_product_is_the_central_difference():
    net, x, y, _ = recipe(0.3)
    v = np.random.default_rng(0).standard_normal(net.size)
    v /= np.linalg.norm(v)
    step = 1e-4
    ends = [trainer.gradient(net.with_flat(net.flat() + s * v), x, y, "mse") for s in (step, -step)]
    close(trainer.hessian_vector_product(net, x, y, v, "mse"), (ends[0] - ends[1]) / (2 * step), 1e-7)


def test_a_loss_that_overflows_on_the_line_is_infinite():
    net, x, y, _ = problem(0)[0], *problem(0)[1:3], None
    found = trainer.loss_along(
        trainer.Objective(net, x, y, "mse"), directions=np.ones(net.size), distances=[0.0, 1e200]
    )
    assert np.isfinite(found.line_loss.values[0, 0])
    assert found.line_loss.values[0, 1] == np.inf


# ---------------------------------------------------------------------------------------------------------------------
# Sampled numbers and their errors


def z_score(found, name, wanted):
    return (found[name].item() - wanted) / found[f"{name}_standard_error"].item()


def test_sampled_numbers_lie_within_their_errors():
    net, x, y, _ = recipe()
    exact = trainer.gradient_interaction(trainer.Objective(net, x, y, "mse"), batch_size=32)
    names = ("batch_second_moment", "interaction", "gradient_noise_interaction", "interaction_aware_sharpness")
    scores = []
    for seed in range(6):
        batches = trainer.draw_batches(1024, 32, draws=100, seed=seed)
        found = trainer.sampled_interaction(trainer.Objective(net, x, y, "mse"), batches=batches)
        assert all(found[name].attrs["draws"] == 100 for name in names)
        scores.append([z_score(found, name, exact[name].item()) for name in names])
    assert np.abs(scores).max() < 4
    assert 0.3 < np.std(scores) < 2  # the errors are no larger than they say


def test_batch_sharpness_lies_within_its_error_of_all_batches():
    examples, batch_size = 12, 4
    net, x, y, loss = problem(8, examples)
    every = np.array(list(itertools.combinations(range(examples), batch_size)))
    exact = trainer.batch_sharpness(trainer.Objective(net, x, y, loss), batches=every)
    scores = []
    for seed in range(8):
        found = trainer.batch_sharpness(
            trainer.Objective(net, x, y, loss), batches=trainer.draw_batches(examples, batch_size, draws=200, seed=seed)
        )
        scores.append([z_score(found, n, exact[n].item()) for n in ("batch_sharpness", "batch_sharpness_of_means")])
    assert np.abs(scores).max() < 4
    assert 0.3 < np.std(scores) < 2
    # mean of ratios and ratio of means are two things
    assert abs(exact.batch_sharpness - exact.batch_sharpness_of_means) > 0.01 * exact.batch_sharpness


def test_alignments_lie_within_their_errors():
    examples, batch_size = 12, 3
    net, x, y, loss = problem(9, examples)
    directions = np.random.default_rng(1).standard_normal((net.size, 2))
    names = ("batch_cosine", "batch_absolute_cosine", "batch_cosine_deviation")
    every = np.array(list(itertools.combinations(range(examples), batch_size)))
    exact = trainer.alignments(trainer.Objective(net, x, y, loss), directions=directions, batches=every)
    found = trainer.alignments(
        trainer.Objective(net, x, y, loss),
        directions=directions,
        batches=trainer.draw_batches(examples, batch_size, draws=2000, seed=3),
    )
    scores = [(found[name] - exact[name]) / found[f"{name}_standard_error"] for name in names]
    assert np.abs(scores).max() < 4
    assert np.abs(exact.example_absolute_cosine).max() <= 1


def test_few_batches_estimate_the_trace_but_inflate_a_flat_spectrum():
    # a spike: the estimate is right within its error; no spike: it measures the floor, whatever the spectrum
    def ratios(net, x, y, loss, draws_of_25):
        exact = trainer.gradient_covariance(trainer.Objective(net, x, y, loss))
        found = [
            trainer.batch_gradient_covariance(
                trainer.Objective(net, x, y, loss), batches=trainer.draw_batches(1024, 128, draws=25, seed=seed)
            )
            for seed in range(draws_of_25)
        ]
        factor = (1024 - 128) / (128 * 1023)
        traces = [z_score(one, "batch_gradient_variance", factor * exact.gradient_variance.item()) for one in found]
        assert np.abs(traces).max() < 4
        assert all(one.batch_factor.item() == factor for one in found)
        top = factor * exact.covariance_eigenvalues.item()
        values = np.array([one.batch_covariance_eigenvalues.values for one in found])
        assert np.abs(values[:, -1]).max() < 1e-12 * values[:, 0].min()  # centring costs one
        assert [one.smallest_nonzero_eigenvalue.item() for one in found] == values[:, 23].tolist()
        return np.array([z_score(one, "largest_eigenvalue", top) for one in found]), values[:, 0] / top

    net, x, y, *_ = least_squares(0, 1024, 40, spike=30.0)
    scores, inflation = ratios(net, x, y, "mse", 8)
    assert np.abs(scores).max() < 4
    assert inflation.mean() == pytest.approx(1, abs=0.25)
    net, x, _, labels = recipe()
    _, inflation = ratios(net, x, labels, "cross_entropy", 8)
    assert inflation.mean() > 1.3
    random = np.random.default_rng(0)
    flat = trainer.network([400, 1], "linear", biases=False, seed=0).with_flat(np.zeros(400))
    _, inflation = ratios(flat, random.standard_normal((1024, 400)), random.choice([-1.0, 1.0], 1024), "mse", 8)
    assert inflation.min() > 5


def test_drawn_batches():
    rows = trainer.draw_batches(10, 4, draws=3000, seed=0)
    assert all(len(set(row)) == 4 for row in rows.tolist())
    counts = np.bincount(rows.ravel(), minlength=10)
    assert np.abs(counts - 1200).max() < 4 * np.sqrt(3000 * 0.4 * 0.6)
    assert np.array_equal(trainer.draw_batches(10, 4, draws=7, seed=0), rows[:7])
    assert not np.array_equal(trainer.draw_batches(10, 4, draws=7, seed=1), rows[:7])
    again = trainer.draw_batches(3, 50, draws=4, replacement=True, seed=0)
    assert again.shape == (4, 50)
    assert again.max() == 2
    fresh = trainer.fresh_batches(10, 4, draws=7, seed=0)
    calls = [fresh(None) for _ in range(3)]
    assert np.array_equal(np.concatenate(calls), rows[:21])


def test_the_batches_of_a_run_can_be_replayed_by_number():
    net, x, y, loss = problem(2, 9)
    objective, batches = trainer.Objective(net, x, y, loss), trainer.Batches(3, seed=4)
    for chosen, (x_batch, y_batch) in zip(batches.numbers(9, steps=5), batches.drawn(objective, steps=5), strict=True):
        assert np.array_equal(x[chosen], x_batch)
        direction = np.ones(net.size)
        found = trainer.projected_steps(objective, directions=direction, batch_size=3, batches=[chosen])
        close(found.batch_projection, [[trainer.gradient(net, x_batch, y_batch, loss) @ direction]], 1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Tracking


def crossing(top, side):
    """What has a Hessian in its first layer with eigenvalues top^2 and side^2 along two fixed coordinates."""
    net = trainer.network([2, 2, 2], "linear", biases=False, seed=0).with_flat([0, 0, 0, 0, top, 0, 0, side])
    x, y = np.array([[np.sqrt(2.0), 0.0], [0.0, 0.5]]), np.zeros((2, 2))
    return trainer.Objective(net, x, y, "mse", trainable=np.arange(8) < 4)


def test_tracking_through_a_crossing():
    path = np.linspace(0, 1, 10)  # crosses between two of them
    tracker = trainer.tracked_eigenpairs(k=4)
    for t in path:
        followed = np.array([(2 - t) ** 2, (1 + t) ** 2, (2 - t) ** 2 / 8, (1 + t) ** 2 / 8])
        found = tracker(crossing(2 - t, 1 + t))
        close(found.hessian_eigenvalues, np.sort(followed)[::-1])
        close(found.tracked_eigenvalues, followed)
        close(found.overlap, np.ones(4))
        close(found.subspace_overlap, 1)
        assert found.sharpness.item() == found.hessian_eigenvalues.values[0]
        assert found.converged
    # by index the two largest have changed places
    assert (np.diff(found.tracked_eigenvalues.values)[[0, 2]] > 0).all()


def test_a_direction_that_leaves_shows_in_its_overlap():
    tracker = trainer.tracked_eigenpairs(k=1)
    before = tracker(crossing(1.2, 1.0))
    after = tracker(crossing(1.0, 1.2))
    assert before.overlap.item() == 1
    assert after.overlap.item() < 1e-10
    assert after.subspace_overlap.item() < 1e-10
    close(after.tracked_eigenvalues, [1.44])


def test_degenerate_directions_turn_inside_a_subspace_that_stays():
    angle = 0.7
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    old = np.eye(5)[:, :2]
    found = trainer.matched_directions(old, old @ turned)
    assert found.order.tolist() == [0, 1]
    close(found.overlaps, [np.cos(angle)] * 2)
    assert found.subspace_overlap == pytest.approx(1, abs=1e-12)
    swapped = trainer.matched_directions(np.eye(6)[:, :3], -np.eye(6)[:, [2, 0, 1]])
    assert swapped.order.tolist() == [1, 2, 0]
    assert swapped.overlaps.tolist() == [1, 1, 1]
    # one by one the largest overlap would be given away twice
    greedy = trainer.matched_directions(np.eye(3)[:, :2], np.array([[0.8, 0.6], [0.6, -0.8], [0, 0]])[:, [1, 0]])
    assert greedy.order.tolist() == [1, 0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_matching_is_the_best_permutation_and_blind_to_signs(seed, k):
    random = np.random.default_rng(seed)
    old, new = (np.linalg.qr(random.standard_normal((8, k)))[0] for _ in range(2))
    found = trainer.matched_directions(old, new)
    overlaps = np.abs(old.T @ new)
    best = max(
        sum(overlaps[j, place] for j, place in enumerate(order)) for order in itertools.permutations(range(k))
    )  # fmt: skip
    assert found.overlaps.sum() == pytest.approx(best, abs=1e-12)
    assert 0 <= found.subspace_overlap <= 1 + 1e-12
    flipped = trainer.matched_directions(old, new * random.choice([-1, 1], k))
    assert np.array_equal(found.order, flipped.order)


@pytest.mark.parametrize("iterative", [False, True])
def test_a_warm_start_misses_nothing_along_a_run(iterative, monkeypatch):
    if iterative:
        monkeypatch.setattr(curvature, "DENSE_LIMIT", 0)
    net, x, y, _ = recipe(0.3)
    small = x[:200, ::2]
    net = trainer.network([32, 12, 10], "tanh", init_scale=0.5, seed=0)
    rates, every = schedules.constant(0.3, 60), np.arange(0, 61, 6)
    objective = trainer.Objective(net, small, y[:200], "mse")
    run = trainer.trajectory(objective, rates, record=every, keep_weights=True)
    tracker = trainer.tracked_eigenpairs(k=3, tol=1e-6)
    for weights in run.weights.values:
        at = objective.with_flat(weights)
        found = tracker(at)
        cold = trainer.top_eigenpairs(at, k=5, tol=1e-8)
        close(found.hessian_eigenvalues, cold.values[:3], 1e-5)
        assert found.converged
        assert (np.sort(found.tracked_eigenvalues.values)[::-1] == found.hessian_eigenvalues.values).all()
        assert 0 <= found.subspace_overlap <= 1 + 1e-12


def test_a_subset_is_the_hessian_of_its_examples():
    net, x, y, _ = recipe(0.3)
    subset = np.arange(5, 1024, 20)
    objective, tracker = trainer.Objective(net, x, y, "mse"), trainer.tracked_eigenpairs(k=2, subset=subset, tol=1e-6)
    wanted = trainer.top_hessian_eigenvalues(net, x[subset], y[subset], k=2, loss="mse", tol=1e-6)
    found = tracker(objective)
    close(found.hessian_eigenvalues, wanted.values, 1e-6)
    assert tracker.directions(objective).shape == (net.size, 2)
    assert tracker(objective.with_flat(net.flat())) is found  # the same weights are not searched again
    assert tracker(objective.batch(np.arange(1024)[::-1])) is not found  # the same weights on other examples are
    net.weights[0][:] *= 2
    assert tracker(objective) is not found  # and so are those of a network that was edited


def test_eigenpairs_where_the_hessian_overflows_are_infinite():
    objective, tracker = trainer.Objective(*problem(0)), trainer.tracked_eigenpairs(k=2)
    tracker(objective)
    with np.errstate(all="ignore"):
        found = tracker(objective.with_flat(objective.flat() * 1e300))
    assert (found.hessian_eigenvalues == np.inf).all()
    assert not found.converged
    after = tracker(objective)
    assert np.isfinite(after.hessian_eigenvalues).all()
    close(after.overlap, [1, 1])


# ---------------------------------------------------------------------------------------------------------------------
# The critical rate of a step


def found_rate(net, x, y, direction, learning_rate=0.1, accuracy=1e-9):
    found = trainer.critical_rate(
        trainer.Objective(net, x, y, "mse"), direction=direction, learning_rate=learning_rate, accuracy=accuracy
    )
    return found.critical_rate.item()


@given(st.integers(0, 2**32 - 1), st.floats(-8, 8), st.floats(1e-6, 0.3))
def test_the_critical_rate_of_a_parabola_from_wherever_the_search_begins(seed, power, accuracy):
    net, x, y, rows, hessian = least_squares(seed)
    gradient, step = rows.mean(axis=0), rows[:3].mean(axis=0)
    for u in (gradient, step if step @ gradient > 0 else -step):
        wanted = 2 * (u @ gradient) / (u @ hessian @ u)
        assert found_rate(net, x, y, u, 2.0**power, accuracy) == pytest.approx(wanted, rel=accuracy + 1e-6)


def test_the_critical_rate_along_a_run_is_that_of_the_quadratic():
    net, x, y, _, hessian = least_squares(3)
    values, vectors = np.linalg.eigh(hessian)
    error = vectors.T @ (net.flat() - np.linalg.lstsq(x, y, rcond=None)[0])
    quiet = MiniBatchQuadratic(values, 0.0, displacement=error)
    rates = schedules.constant(0.3 / values.max(), 6)
    search = functools.partial(
        trainer.critical_rate, direction=trainer.Objective.gradient, learning_rate=rates[0], accuracy=1e-9
    )
    run = trainer.trajectory(trainer.Objective(net, x, y, "mse"), rates, measure=search, measure_at=np.arange(7))
    close(run.critical_rate, critical_rate(quiet, rates, full_gradient=True, record=np.arange(7)), 1e-6)
    close(run.critical_sharpness * run.critical_rate, np.full(7, 2.0))


def test_at_the_edge_of_full_batch_descent_the_critical_rate_is_the_rate():
    net, x, y, _, hessian = least_squares(1)
    edge = 2 / np.linalg.eigvalsh(hessian).max()

    def after(share, steps):
        run = trainer.train(net, x, y, schedules.constant(share * edge, steps), loss="mse", seed=0)
        end = net.with_flat(run.final_weights)
        return found_rate(end, x, y, trainer.gradient(end, x, y, "mse"))

    assert after(1.0, 4000) == pytest.approx(edge, rel=1e-6)
    assert after(1.0, 3) > 1.01 * edge  # what is flatter has not died out yet
    assert after(0.5, 20) > edge  # an average of curvatures is at most the largest


def test_the_two_cycle_of_two_layers_has_its_rate_between_its_critical_rates():
    # one weight a layer, target 1: the edge is rate 1, and beyond it the loss rises and falls in turn
    errors = []
    for beyond in (0.02, 0.01):
        rate = 1 + beyond
        net = trainer.network([1, 1, 1], "linear", biases=False, seed=0).with_flat([1.1, 1.0])
        objective = trainer.Objective(net, [[1.0]], [1.0], "mse")
        run = trainer.trajectory(objective, schedules.constant(rate, 4000), record=[3999, 4000], keep_weights=True)
        found = []
        for weights in run.weights.values:
            at = net.with_flat(weights)
            found.append(found_rate(at, [[1.0]], [1.0], trainer.gradient(at, [[1.0]], [1.0], "mse")))
        assert min(found) < rate < max(found)
        errors.append(abs(np.mean(found) - rate))
    assert errors[1] < 0.6 * errors[0]  # the mean is the rate to first order


def test_on_a_plateau_of_noise_the_critical_rate_is_the_rate_far_from_the_edge():
    # runs of one parameter, side by side as the outputs of one network: the loss is their mean, the edge is at 2
    runs, rate = 20_000, 0.3
    random = np.random.default_rng(0)
    weights, centers = random.normal(size=(2, runs)) * np.array([[math.sqrt(rate / (2 - rate))], [1.0]])
    net = trainer.network([1, runs], "linear", biases=False, seed=0).with_flat(weights)
    step = weights - centers
    found = found_rate(net, [[1.0]], np.zeros((1, runs)), step)
    each = 2 * weights * step - found * step**2
    assert abs(found - rate) < 4 * each.std() / np.mean(step**2) / math.sqrt(runs)
    assert found_rate(net, [[1.0]], np.zeros((1, runs)), weights) == pytest.approx(2.0)


def test_the_rate_that_raises_the_loss_by_a_share_of_itself_is_that_of_its_parabola():
    net, x, y, rows, hessian = least_squares(4)
    gradient, loss = rows.mean(axis=0), trainer.loss_value(net, x, y, "mse")
    step, rate = rows[0], 0.05
    for rise in (0.2, 2.0):
        found = trainer.critical_rate(
            trainer.Objective(net, x, y, "mse"), direction=step, learning_rate=rate, rise=rise, accuracy=1e-9
        ).critical_rate.item()
        multiple = rise_multiple(rate * step @ gradient, rate**2 * step @ hessian @ step, loss, rise)
        assert found / rate == pytest.approx(multiple, rel=1e-7)


def test_a_step_that_only_raises_the_loss_and_one_that_does_nothing():
    net = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    assert found_rate(net, [[1.0]], [0.0], [-1.0]) == 0
    assert found_rate(net, [[1.0]], [0.0], [0.0]) == np.inf
    net, x, y, loss = problem(0)
    last = np.arange(net.size) == net.size - 1
    options = {"learning_rate": 1.0, "direction": trainer.gradient(net, x, y, loss)}
    masked = trainer.critical_rate(trainer.Objective(net, x, y, loss, trainable=last), **options)
    alone = trainer.critical_rate(
        trainer.Objective(net, x, y, loss), **options | {"direction": options["direction"] * last}
    )
    assert masked.critical_rate == alone.critical_rate


def test_where_the_loss_overflows_it_has_risen():
    # the cross entropy of an example that is told apart falls for ever, until the outputs overflow
    net = trainer.network([1, 2], "linear", biases=False, seed=0).with_flat([1.0, 0.0])
    found = trainer.critical_rate(
        trainer.Objective(net, [[1.0]], [0], "cross_entropy"), direction=[-1.0, 1.0], learning_rate=1.0
    ).critical_rate.item()
    assert found > 1e100
    # and two of different labels hold each other: the critical rate is where the second one's loss has grown as much
    low = trainer.critical_rate(
        trainer.Objective(net, [[1.0], [-0.1]], [0, 0], "cross_entropy"),
        direction=[-1.0, 1.0],
        learning_rate=1e-3,
        accuracy=1e-9,
    ).critical_rate.item()

    def loss(z):
        return np.log1p(np.exp(-z)) + np.log1p(np.exp(0.1 * z))

    assert loss(1 + 2 * low) == pytest.approx(loss(1.0), rel=1e-7)


def test_a_rise_within_one_doubling_is_not_seen():
    # along w w of target 1 the loss has a valley at w = 1 and at -1, and a hill at 0 that is above the start at 1.2
    net = trainer.network([1, 1, 1], "linear", biases=False, seed=0).with_flat([1.2, 1.2])
    options = {"x": [[1.0]], "y": [1.0], "direction": [1.0, 1.0]}
    assert found_rate(net, **options, learning_rate=0.1) == pytest.approx(1.2 - math.sqrt(0.56))
    assert found_rate(net, **options, learning_rate=2.0) == pytest.approx(2.4)


# ---------------------------------------------------------------------------------------------------------------------
# Along a run


def instruments():
    tracker = trainer.tracked_eigenpairs(k=3)
    fresh = trainer.fresh_batches(9, 3, draws=4, seed=1)
    return {
        "sharpest": tracker,
        "noise": functools.partial(trainer.gradient_covariance, k=2, vectors=True),
        "steps": functools.partial(trainer.projected_steps, directions=tracker.directions, batch_size=3, batches=fresh),
        "batch sharpness": functools.partial(trainer.batch_sharpness, batches=fresh),
        "norm": lambda here: np.linalg.norm(here.flat()),
        "first_bias": lambda here: xr.DataArray(here.net.biases[0], dims="unit"),
    }


def test_instruments_along_a_run_say_what_they_say_alone():
    net, x, y, loss = problem(2, 9)
    rates = schedules.constant(0.02, 12)
    objective, batches = trainer.Objective(net, x, y, loss), trainer.Batches(3, seed=0)
    plain = trainer.trajectory(objective, rates, batches=batches, record=np.arange(13), keep_weights=True)
    looked = {"measure_at": np.arange(0, 13, 4), "batches": batches}
    run = trainer.trajectory(objective, rates, measure=instruments(), **looked)
    assert np.array_equal(run.final_weights, plain.final_weights)
    assert run.measured_step.values.tolist() == [0, 4, 8, 12]
    close(run.measured_time, [0, 0.08, 0.16, 0.24])
    assert run.sharpness.dims == ("measured_step",)
    assert run.tracked_eigenvalues.dims == ("measured_step", "direction")
    assert run.covariance_eigenvectors.dims == ("measured_step", "parameter", "covariance_eigenvalue")
    assert run.batch_projection.shape == (4, 4, 3)
    assert run.sharpness.attrs == {"long_name": "largest eigenvalue of the Hessian", "units": "curvature"}
    assert run.direction.values.tolist() == [1, 2, 3]
    assert run.attrs["hessian_products"] > 0
    alone = instruments()
    for row, step in enumerate(run.measured_step.values):
        at = objective.with_flat(plain.weights.sel(step=step).values)
        for name in ("sharpest", "noise", "steps", "batch sharpness"):
            found = alone[name](at)
            for variable in found.data_vars:
                assert np.array_equal(run[variable].values[row], found[variable].values.astype(float))
        assert run.norm.values[row] == np.linalg.norm(at.flat())
        assert np.array_equal(run.first_bias.values[row], at.net.biases[0])
    again = trainer.trajectory(objective, rates, measure=instruments(), **looked)
    xr.testing.assert_identical(run, again)


def test_at_recorded_steps_and_without_the_loss(tmp_path, capsys):
    measure, rates = {"noise": trainer.gradient_covariance}, schedules.constant(0.02, 4)
    options = {"measure": measure, "record": [0, 4], "evaluate_loss": False, "progress": True}
    run = trainer.trajectory(trainer.Objective(*problem(2, 9)), rates, **options)
    assert "loss" not in run
    assert run.gradient_variance.dims == ("step",)
    assert "measured_step" not in run.coords
    printed = capsys.readouterr()
    assert "noise: 2 times" in printed.err
    assert "training: 100%" in printed.err
    assert "4/4" in printed.err
    assert not printed.out
    assert not any("second" in name for name in run.attrs)
    run.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read.load(), run)


def test_measurements_of_a_run_that_diverges_are_infinite():
    objective, rates = trainer.Objective(*problem(2, 9)), schedules.constant(1e80, 8)
    for first in (0, 3):  # with and without a measurement before it diverges
        run = trainer.trajectory(objective, rates, measure=instruments(), measure_at=[first, 5, 8])
        assert 0 < run.divergence_step <= 3
        for name in ("sharpness", "gradient_variance", "batch_projection", "norm"):
            assert (run[name].values[1:] == np.inf).all()
            assert np.isfinite(run[name].values[0]).all() == (first == 0)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"measure": {}}, "measure"),
        ({"measure": {"a": 1.0}}, "measure"),
        ({"measure": {1: lambda here: 1.0}}, "measure"),
        ({"measure": {"loss": lambda here: 1.0}}, "measure"),
        ({"measure": {"a": lambda here: {"b": 1.0}, "b": lambda here: 1.0}}, "measure"),
        ({"measure": {"a": lambda here: {1: 1.0}}}, "measure"),
        ({"measure": {"a": lambda here: np.ones(2)}}, "measure"),
        ({"measure": {"a": lambda here: xr.DataArray(["a"], dims="b")}}, "measure"),
        ({"measure": {"a": lambda here: xr.DataArray([1.0], dims="step")}}, "measure"),
        ({"measure": {"a": lambda here: xr.DataArray(np.ones(1 + (here.flat()[0] != 2.0)), dims="b")}}, "measure"),
        (
            {"measure": lambda here: {"a": xr.DataArray([1.0], dims="b"), "c": xr.DataArray([1.0, 2.0], dims="b")}},
            "measure",
        ),
        (
            {"measure": lambda here: {n: xr.DataArray([1.0], {"b": [i]}, dims="b") for i, n in enumerate("ac")}},
            "measure",
        ),
        ({"measure_at": [0, 3]}, "measure_at"),
        ({"measure_at": [1, 0]}, "measure_at"),
    ],
)
def test_measurements_that_do_not_fit_are_refused(change, name):
    net = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat([2.0])
    options = {"record": [0, 1, 2], "measure": {"a": lambda here: 1.0}}
    with pytest.raises((ValueError, TypeError), match=rf"trajectory: {name}\b.* must be "):
        trainer.trajectory(trainer.Objective(net, [[1.0]], [1.0], "mse"), [0.1, 0.1], **options | change)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused

NET, X, Y, _ = problem(0)
OBJECTIVE = trainer.Objective(NET, X, Y, "mse")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: trainer.gradient_covariance(OBJECTIVE, k=10), "k"),
        (lambda: trainer.gradient_covariance(OBJECTIVE, k=0), "k"),
        (lambda: trainer.gradient_covariance(OBJECTIVE, route="dense"), "route"),
        (lambda: trainer.gradient_covariance(OBJECTIVE.with_flat(NET.flat() + 1j)), "objective"),
        (lambda: trainer.gradient_covariance(NET), "objective"),
        (lambda: trainer.batch_gradient_covariance(OBJECTIVE, batches=[[0], [1]]), "batches"),
        (lambda: trainer.batch_gradient_covariance(OBJECTIVE, batches=[[0], [1], [9]]), "batches"),
        (lambda: trainer.batch_sharpness(OBJECTIVE, batches=[[0, 1]]), "batches"),
        (lambda: trainer.batch_sharpness(OBJECTIVE, batches=[0, 1]), "batches"),
        (lambda: trainer.batch_sharpness(OBJECTIVE, batches=[[0.5], [1]]), "batches"),
        (lambda: trainer.batch_sharpness(OBJECTIVE, batches=lambda here: [[-1], [1]]), "batches"),
        (lambda: trainer.sampled_interaction(OBJECTIVE, batches=[[0, 1]]), "batches"),
        (lambda: trainer.gradient_interaction(OBJECTIVE, batch_size=10), "batch_size"),
        (lambda: trainer.projected_steps(OBJECTIVE, directions=np.ones(NET.size), batch_size=10), "batch_size"),
        (lambda: trainer.projected_steps(OBJECTIVE, directions=np.ones(5), batch_size=2), "directions"),
        (lambda: trainer.projected_steps(OBJECTIVE, directions=lambda here: np.ones(5), batch_size=2), "directions"),
        (
            lambda: trainer.projected_steps(OBJECTIVE, directions=np.ones(NET.size), batch_size=2, batches=[[0]]),
            "batches",
        ),
        (lambda: trainer.loss_along(OBJECTIVE, directions=np.ones(NET.size), distances=[[1.0]]), "distances"),
        (lambda: trainer.critical_rate(OBJECTIVE, direction=np.ones(5), learning_rate=0.1), "direction"),
        (lambda: trainer.critical_rate(OBJECTIVE, direction=lambda here: np.ones(5), learning_rate=0.1), "direction"),
        (lambda: trainer.critical_rate(OBJECTIVE, direction=np.ones((NET.size, 1)), learning_rate=0.1), "direction"),
        (lambda: trainer.critical_rate(OBJECTIVE, direction=np.ones(NET.size), learning_rate=0.0), "learning_rate"),
        (
            lambda: trainer.critical_rate(OBJECTIVE, direction=np.ones(NET.size), learning_rate=0.1, accuracy=1.0),
            "accuracy",
        ),
        (lambda: trainer.draw_batches(5, 6, draws=1, seed=0), "batch_size"),
        (lambda: trainer.fresh_batches(5, 6, draws=1, seed=0), "batch_size"),
        (lambda: trainer.draw_batches(5, 2, draws=0, seed=0), "draws"),
        (lambda: trainer.tracked_eigenpairs(k=NET.size + 1)(OBJECTIVE), "k"),
        (lambda: trainer.tracked_eigenpairs(subset=[9])(OBJECTIVE), "subset"),
        (lambda: trainer.tracked_eigenpairs(subset=[-1]), "subset"),
        (lambda: OBJECTIVE.batch([9]), "chosen"),
        (lambda: OBJECTIVE.batch([]), "chosen"),
        (lambda: OBJECTIVE.hessian_vector_product([1.0]), "v"),
        (lambda: OBJECTIVE.with_flat([1.0]), "vector"),
        (lambda: trainer.Batches(9, seed=0).numbers(5, steps=1), "size"),
        (lambda: trainer.matched_directions(np.eye(3), np.eye(2)), "new"),
        (lambda: trainer.per_example_curvatures(OBJECTIVE, v=np.ones(NET.size), part="hessian"), "part"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"\w+: {name} must be "):
        call()


def test_only_with_replacement_a_batch_may_be_larger_than_the_data():
    assert trainer.gradient_interaction(OBJECTIVE, batch_size=10, replacement=True).batch_second_moment > 0


def test_ratios_where_nothing_is_left_to_learn_are_zero():
    net = trainer.network([1, 1], "linear", biases=False, seed=0).with_flat([1.0])
    x, y = [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]
    found = trainer.gradient_interaction(trainer.Objective(net, x, y, "mse"), batch_size=1)
    assert found.interaction_aware_sharpness.item() == found.gradient_noise_interaction.item() == 0
    assert trainer.batch_sharpness(trainer.Objective(net, x, y, "mse"), batches=[[0], [1]]).batch_sharpness.item() == 0
    assert trainer.alignments(trainer.Objective(net, x, y, "mse"), directions=[1.0]).gradient_cosine.item() == 0
    # a vanishing mean over gradients that do not
    balanced = trainer.gradient_interaction(
        trainer.Objective(net.with_flat([0.0]), [[1.0], [1.0]], [1.0, -1.0], "mse"), batch_size=1
    )
    assert balanced.gradient_noise_interaction.item() == np.inf
    assert balanced.interaction_aware_sharpness.item() == 1


def test_instruments_where_gradients_overflow_are_infinite():
    net = NET.with_flat(NET.flat() * 1e200)
    for found in (
        trainer.gradient_covariance(trainer.Objective(net, X, Y, "mse"), vectors=True),
        trainer.gradient_interaction(trainer.Objective(net, X, Y, "mse"), batch_size=2),
        trainer.batch_sharpness(trainer.Objective(net, X, Y, "mse"), batches=[[0], [1]]),
        trainer.batch_gradient_covariance(trainer.Objective(net, X, Y, "mse"), batches=[[0], [1], [2]]),
    ):
        for name in found.data_vars:
            assert not np.isnan(found[name]).any()
    assert trainer.gradient_covariance(trainer.Objective(net, X, Y, "mse")).gradient_variance.item() == np.inf
