"""The sharpest directions of a small network on the digits: what two papers claim of them, on runs that tests share.

The runs are those of the figures, kept for as long as the process lives.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from figures.break_even import _digits_sharpness as digits
from sgdynamics.outcome import Outcome
from sgdynamics.simulate import trainer
from sgdynamics.theory.break_even import predicted_break_even
from sgdynamics.theory.sharpest_directions import overshoot_probability, step_to_curvature

ALL = digits.EXAMPLES
RATES, SIZES, SEEDS = (0.1, 0.4), (8, 32, 128, ALL), (0, 1, 2)
ROWS = ((0.1, 32), (0.4, 8), (0.4, 32), (0.8, 128), (0.4, ALL))


def recipe(scale, seed=0):
    """Data and start of the papers' replica, with NumPy's own generator."""
    x, labels = trainer.digits("raw_deviation")
    chosen = np.random.default_rng(0).permutation(len(x))[:ALL]
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((64, 32)) / 8, random.standard_normal((32, 10)) / np.sqrt(32)
    flat = np.concatenate([scale * first.ravel(), np.zeros(32), scale * second.ravel(), np.zeros(10)])
    net = trainer.network([64, 32, 10], "tanh", seed=0).with_flat(flat)
    return net, x[chosen], trainer.one_hot(labels[chosen], 10), labels[chosen]


# --------------------------------------------------------------------------------------------- without running anything


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_hessian_products_are_central_differences_of_the_gradient(loss):
    net, x, targets, _ = recipe(0.3)
    direction = np.random.default_rng(1).standard_normal(net.size)
    direction /= np.linalg.norm(direction)
    step = 1e-4
    forward, backward = (
        trainer.gradient(net.with_flat(net.flat() + sign * step * direction), x, targets, loss) for sign in (1, -1)
    )
    central = (forward - backward) / (2 * step)
    product = trainer.hessian_vector_product(net, x, targets, direction, loss)
    assert np.linalg.norm(product - central) < 1e-7 * np.linalg.norm(central)


def test_the_sign_of_the_sharpest_direction_changes_no_measure():
    net, x, targets, _ = recipe(0.3)
    top = trainer.top_hessian_eigenvalues(net, x, targets, loss="mse").vectors[:, 0]
    rows = trainer.draw_batches(ALL, 32, draws=200, seed=0)
    found = []
    for direction in (top, -top):
        one = trainer.projected_steps(
            trainer.Objective(net, x, targets, "mse"), directions=direction, batch_size=32, batches=rows
        )
        # The same weights twice: a measure over steps needs more than one.
        steps = xr.concat([one, one], "step").squeeze("direction")
        found.append(step_to_curvature(steps, 0.4, blocks=2, dim="step"))
    for name in ("mean_minimiser", "increase_probability", "overshoot_probability"):
        assert abs(found[0][name] - found[1][name]) < 1e-12


def test_the_minimum_by_slope_and_curvature_is_that_of_the_loss_on_the_line():
    net, x, targets, _ = recipe(0.3)
    rate = 0.01
    top = trainer.top_hessian_eigenvalues(net, x, targets, loss="mse").vectors[:, 0]
    rows = trainer.draw_batches(ALL, 32, draws=20, seed=0)
    one = trainer.projected_steps(
        trainer.Objective(net, x, targets, "mse"), directions=top, batch_size=32, batches=rows
    )
    slope, curvature, steps = (
        one[name].values.ravel() for name in ("gradient_projection", "curvature", "batch_projection")
    )
    predicted = (slope * steps).mean() / (rate * curvature * (steps**2).mean())
    multiples = np.linspace(-2, 2, 5)
    distances = -rate * multiples[:, None] * steps
    line = trainer.loss_along(trainer.Objective(net, x, targets, "mse"), directions=top, distances=distances.ravel())
    mean = line.line_loss.values.reshape(distances.shape).mean(axis=1)
    square, linear, _ = np.polyfit(multiples, mean, 2)
    assert -linear / (2 * square) == pytest.approx(predicted, rel=0.1)


def test_gram_matrices_have_the_spectrum_of_the_covariance():
    net, x, targets, _ = recipe(1.0)
    rows = trainer.Objective(net, x[:60], targets[:60], "mse").example_gradients()
    centred = rows - rows.mean(axis=0)
    dense = np.linalg.eigvalsh(centred.T @ centred / len(rows))[::-1][: len(rows)]
    gram = np.linalg.eigvalsh(centred @ centred.T / len(rows))[::-1]
    assert np.allclose(gram, dense, rtol=0, atol=1e-10 * dense[0])
    assert gram[-1] < 1e-12 * gram[0]  # centring makes one eigenvalue zero
    assert gram[-2] > 1e-12 * gram[0]


def test_the_second_moment_exceeds_the_covariance_by_at_most_the_squared_gradient():
    net, x, targets, _ = recipe(1.0)
    found = [
        trainer.gradient_covariance(trainer.Objective(net, x, targets, "mse"), centred=centred)
        for centred in (True, False)
    ]
    centred, whole = (one.covariance_eigenvalues.item() for one in found)
    squared = found[0].squared_gradient.item()
    assert (whole, centred, squared) == (
        pytest.approx(13.07, abs=0.005),
        pytest.approx(9.95, abs=0.005),
        pytest.approx(7.855, abs=5e-4),
    )
    assert centred <= whole <= centred + squared


def test_few_batches_inflate_the_covariance_of_the_digits():
    net, x, _, labels = recipe(1.0)
    top = trainer.gradient_covariance(trainer.Objective(net, x, labels, "cross_entropy")).covariance_eigenvalues.item()
    rows = trainer.draw_batches(ALL, 128, draws=25, seed=0)
    found = trainer.batch_gradient_covariance(trainer.Objective(net, x, labels, "cross_entropy"), batches=rows)
    assert found.largest_eigenvalue > 1.3 * found.batch_factor * top


def test_at_the_usual_scale_of_the_start_the_sharpness_hardly_moves():
    path = digits.run(0.1, 128, 0, init_scale=1.0)
    assert abs(path.sharpness[-1] / path.sharpness[0] - 1) < 0.15


# ----------------------------------------------------------------------------------------------------------- plain runs


@pytest.fixture(scope="module")
def largest():
    """Largest sharpness by learning rate, batch size and seed."""
    values = [[[digits.run(r, s, seed).sharpness.max().item() for seed in SEEDS] for s in SIZES] for r in RATES]
    return np.array(values)


@pytest.fixture(scope="module")
def windows():
    """The late windows of some runs."""
    return {cell: digits.late(*cell, 0) for cell in (*ROWS, (0.8, ALL), (0.4, 128))}


@pytest.fixture(scope="module")
def steps(windows):
    """What the late windows say of steps and parabolas."""
    return {cell: step_to_curvature(windows[cell], cell[0], dim="step") for cell in ROWS}


@pytest.mark.slow
def test_largest_sharpness_rises_with_the_batch_size_and_falls_with_the_rate(largest):
    mean = largest.mean(axis=2)
    assert (np.diff(mean, axis=1) > 0).all()
    assert (mean[1] < mean[0]).all()


@pytest.mark.slow
def test_late_the_minimum_is_at_half_the_mean_step_at_any_rate_and_batch_size(steps):
    assert all(0.42 <= found.mean_minimiser <= 0.58 for found in steps.values())


@pytest.mark.slow
def test_the_share_of_steps_past_the_minimum_follows_from_the_gain(steps):
    for found in steps.values():
        predicted = overshoot_probability(min(found.gain.item(), 2 - 1e-9))
        assert abs(found.overshoot_probability - predicted) < 0.06


@pytest.mark.slow
def test_late_the_second_moment_about_breaks_even_but_not_on_small_batches(windows):
    def factor(rate, size):
        late, share = windows[rate, size], 0.0 if size == ALL else 1 / size
        return float(((1 - rate * late.curvature) ** 2 + rate**2 * share * late.curvature_variance).mean())

    assert all(0.7 <= factor(*cell) <= 1.6 for cell in ((0.8, 128), (0.8, ALL), (0.4, 128)))
    assert factor(0.4, 8) < 0.5


@pytest.mark.slow
def test_on_the_full_batch_the_sharpness_passes_its_edge_and_comes_back(windows):
    gain = 0.8 * digits.run(0.8, ALL, 0).sharpness
    assert gain.max() > 2.5
    assert 2.0 < 0.8 * windows[0.8, ALL].sharpness.mean() < 2.3


@pytest.mark.slow
def test_the_edge_at_its_crossing_predicts_the_sharpness(largest):
    for rate, size in ((0.4, 128), (0.4, ALL), (0.8, 128)):
        found = predicted_break_even(digits.run(rate, size, 0))
        assert found.outcome == Outcome.EDGE_REACHED
        assert abs(found.sharpness_error.sel(route="measured")) < 0.2
        assert abs(found.sharpness_error.sel(route="early")) < 0.2
    for size in SIZES[1:]:
        assert predicted_break_even(digits.run(0.1, size, 0)).outcome == Outcome.EDGE_NOT_REACHED
    assert predicted_break_even(digits.run(0.4, 8, 0)).outcome == Outcome.STALLED_BELOW_EDGE


# ------------------------------------------------------------------------------------------------------- gradient noise


@pytest.mark.slow
def test_at_equal_loss_gradients_vary_less_where_batches_are_small():
    def mean(rate, size):
        return np.mean([digits.covariance_at_loss(rate, size, seed, 0.85) for seed in SEEDS], axis=0)

    assert mean(0.3, 8)[1] < 0.9 * mean(0.3, ALL)[1]  # the trace
    assert mean(1.0, 32)[0] < 0.9 * mean(1.0, ALL)[0]  # the largest eigenvalue


@pytest.mark.slow
def test_at_equal_time_gradients_vary_more_where_batches_are_small():
    # Averaged over late times: at any one of them a full batch at its edge may be in a spike.
    small, whole = (
        [
            digits.covariance_path(0.4, size, seed, loss="mse", measurements=10).covariance_top[-4:].mean().item()
            for seed in SEEDS
        ]
        for size in (8, ALL)
    )
    assert np.mean(small) > 1.1 * np.mean(whole)


@pytest.mark.slow
def test_at_a_larger_rate_the_gradient_covariance_is_worse_conditioned():
    def condition(rate, seed):
        path = digits.covariance_path(rate, 8, seed, loss="mse", measurements=12).isel(step=slice(2, None))
        return (path.gradient_variance / path.covariance_top).mean().item()

    assert all(condition(0.4, seed) < condition(0.1, seed) for seed in SEEDS)


# ------------------------------------------------------------------------------------------------------------- steering


@pytest.mark.slow
def test_smaller_steps_along_the_sharpest_directions_lead_to_sharper_regions():
    smaller, plain, larger = (
        np.mean([digits.nudged(gamma, seed).sharpness.max() for seed in SEEDS]) for gamma in (0.1, 1.0, 2.0)
    )
    assert smaller > 1.1 * plain
    assert plain > 1.1 * larger


@pytest.mark.slow
def test_steering_orders_the_sharpness_and_dominant_steps_raise_the_loss():
    for seed in SEEDS[:2]:
        runs = [digits.steered(rule, seed) for rule in ("dominant", "constant top", "normal", "bulk")]
        ends = [run.sharpness[-1].item() for run in runs]
        assert ends == sorted(ends)
        assert runs[0].loss[-1] > runs[0].loss[0]
