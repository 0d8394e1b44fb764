"""Runs of the uv network against weight space, the trainer, plain Python and the numbers of its theory."""

import itertools
import math
import sys

import mpmath as mp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.uv import UVNetwork
from sgdynamics.outcome import Outcome
from sgdynamics.simulate import trainer
from sgdynamics.simulate.uv import (
    _cycles,
    _scaling,
    bifurcation,
    diagram,
    lyapunov,
    over_seeds,
    phase_diagram,
    thresholds,
    trajectory,
)
from sgdynamics.theory.uv import catapult_final_ntk, critical_learning_rate, two_cycle

few = settings(max_examples=30, deadline=None)


def along(values, dim):
    return xr.DataArray(values, dims=dim, coords={dim: values})


# ---------------------------------------------------------------------------------------------------------------------
# The model, written out in weights


def weights_path(hidden, readout, pull, target, rate, steps):
    """f, the kernel, the top Hessian eigenvalue and the loss of f = pull v.h under gradient descent."""
    rows = []
    for _ in range(steps + 1):
        output = pull * readout @ hidden
        error = output - target
        kernel = pull**2 * (hidden @ hidden + readout @ readout)
        # the Hessian in the plane of (v, h) and (h, v): the only place where it is not +-pull * error
        gradient = pull * np.concatenate([readout, hidden])
        swap = np.kron([[0.0, 1.0], [1.0, 0.0]], np.eye(len(hidden)))
        hessian = np.outer(gradient, gradient) + pull * error * swap
        rows.append((output, kernel, np.linalg.eigvalsh(hessian)[-1], error**2 / 2))
        step = rate * pull * error
        hidden, readout = hidden - step * readout, readout - step * hidden
    return np.array(rows).T


@pytest.mark.parametrize("target", [0.0, 2.0, -1.0])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("width", [1, 5])
def test_a_trajectory_is_gradient_descent_on_the_weights(width, rate, target):
    rng = np.random.default_rng(width)
    hidden, readout = rng.standard_normal((2, width)) * 0.8
    pull = width**-0.5
    expected = weights_path(hidden, readout, pull, target, rate, 12)
    found = trajectory(expected[0, 0], expected[1, 0], rate, kappa=pull**2, target=target, steps=12)
    for name, path in zip(("output", "ntk", "sharpness", "loss"), expected, strict=True):
        np.testing.assert_allclose(found[name], path, rtol=1e-9, atol=1e-11)
    assert found.step.values.tolist() == list(range(13))
    assert int(found.divergence_step) == -1


def test_the_trainer_s_linear_network_is_the_uv_network():
    net = trainer.network([1, 16, 1], "linear", biases=False, seed=3)
    x, y, rate, steps = -1.5, 2.0, 0.2, 100
    first, second = net.weights
    run = trainer.trajectory(
        trainer.Objective(net, [[x]], [[y]], "mse"),
        np.full(steps, rate),
        measure=lambda here: {"output": (x * here.net.weights[0] @ here.net.weights[1]).item()},
        record=np.arange(steps + 1),
    )
    kappa = x**2
    output = (x * first @ second).item()
    ntk = kappa * (np.sum(first**2) + np.sum(second**2))
    found = trajectory(output, ntk, rate, kappa=kappa, target=y, steps=steps)
    np.testing.assert_allclose(run.output, found.output, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(run.loss, found.loss, rtol=1e-10, atol=1e-10)
    assert np.abs(run.output - output).max() > 0.5


@pytest.mark.parametrize(("beta", "rate"), [(0.3, 0.3), (0.9, 0.15), (0.5, 0.6)])
def test_the_trainer_s_heavy_ball_is_that_of_the_uv_network(beta, rate):
    net = trainer.network([1, 7, 1], "linear", biases=False, seed=4)
    x, y, steps = 0.8, 1.5, 60
    run = trainer.trajectory(
        trainer.Objective(net, [[x]], [[y]], "mse"),
        np.full(steps, rate),
        update=trainer.momentum(beta),
        measure=lambda here: {"sharpness": np.linalg.eigvalsh(trainer.hessian_operator(here) @ np.eye(net.size))[-1]},
        record=np.arange(steps + 1),
        keep_weights=True,
    )
    weights = run.weights.values
    output = x * (weights[:, :7] * weights[:, 7:]).sum(axis=1)
    ntk = x**2 * (weights**2).sum(axis=1)
    found = trajectory(output[0], ntk[0], rate, kappa=x**2, target=y, steps=steps, momentum=beta)
    np.testing.assert_allclose(found.output, output, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.ntk, ntk, rtol=1e-9)
    np.testing.assert_allclose(found.sharpness, run.sharpness, rtol=1e-9)
    np.testing.assert_allclose(found.loss, run.loss, rtol=1e-8, atol=1e-12)
    assert np.abs(output - output[0]).max() > 0.1


def test_without_momentum_and_with_next_to_none_trajectories_are_one():
    given = {"kappa": 0.1, "target": 1.0, "steps": 40}
    plain = trajectory(0.5, 2.0, along([0.3, 1.1], "rate"), **given)
    tiny = trajectory(0.5, 2.0, along([0.3, 1.1], "rate"), momentum=1e-14, **given)
    np.testing.assert_allclose(tiny.output, plain.output, rtol=1e-9, atol=1e-9)
    assert tiny.output.dims == plain.output.dims
    gone = trajectory(0.5, 2.0, 9.0, momentum=0.5, **given)
    assert 0 < gone.divergence_step < 20
    assert (gone.loss[int(gone.divergence_step) :] == np.inf).all()


@pytest.mark.parametrize("beta", [0.3, 0.5])
def test_catapults_with_momentum_begin_at_its_edge_and_are_a_mirror_at_first_only(beta):
    excess = along([-0.02, 0.02, 0.04, 0.08], "c")
    kernel = (1 + beta) * (2 + excess)
    path = trajectory(1e-6, kernel, 1.0, kappa=1.0, steps=20_000, momentum=beta)
    end = path.ntk.isel(step=-1) / (1 + beta)
    assert end[0] == pytest.approx(1.98, rel=1e-9)  # below the edge nothing happens, though 2 is far behind
    errors = (2 - excess - end)[1:].values
    assert (errors > 0).all()
    assert np.log2(errors[1:] / errors[:-1]) == pytest.approx([2, 2], abs=0.25)
    # and where gradient descent at the rate over 1 + beta still converges, momentum diverges
    assert catapult_final_ntk(3.6) < 2
    assert trajectory(1e-6, 3.6 * (1 + beta), 1.0, kappa=1.0, steps=2000, momentum=beta).divergence_step > 0


@pytest.mark.parametrize("beta", [0.2, 0.5])
def test_beyond_the_critical_rate_with_momentum_runs_end_on_the_cycle_of_another_rate(beta):
    q, model = 1.05, UVNetwork(9, target=2.0)
    critical = critical_learning_rate(model.kappa, 2.0, momentum=beta)
    options = {"kappa": model.kappa, "target": 2.0, "steps": 6000, "momentum": beta}
    ntk = 4 * model.kappa**0.5 + 0.1
    path = trajectory(1.9, ntk, q * critical, **options)
    scaled = np.sort(q * critical / (1 + beta) * model.kappa**0.5 * path.output[-2:])
    np.testing.assert_allclose(scaled, two_cycle(q), rtol=1e-8)
    assert trajectory(1.9, ntk, 0.9 * critical, **options).loss[-1] < 1e-20


def full(numbers):
    """Numbers that keep all their bits in other units: none so small that they have fewer."""
    return numbers.map(lambda number: number if abs(number) > 1e-100 else 0.0)


@few
@given(
    full(st.floats(-3, 3)),
    st.floats(0.05, 3),
    full(st.floats(-2, 2)),
    st.floats(-6, 0),
    st.floats(0.1, 1.9),
    st.integers(-20, 20),
)
def test_symmetries_of_a_trajectory(alignment, size, target, log_kappa, rate, power):
    """Signs of output and target go together; scaling kappa by 4^k is scaling outputs by 2^-k, bit for bit."""
    kappa = 10**log_kappa
    ntk, output = size, math.tanh(alignment) * size / (2 * kappa**0.5)
    base = trajectory(output, ntk, rate, kappa=kappa, target=target, steps=20)
    mirrored = trajectory(-output, ntk, rate, kappa=kappa, target=-target, steps=20)
    unit = 2.0**power
    scaled = trajectory(output / unit, ntk, rate, kappa=kappa * unit**2, target=target / unit, steps=20)
    finite = np.isfinite(base.loss)
    np.testing.assert_allclose(mirrored.output.where(finite, -np.inf), -base.output, rtol=1e-6, atol=1e-9)
    assert np.array_equal(scaled.ntk, base.ntk)
    assert np.array_equal(scaled.output.where(finite), base.output.where(finite) / unit, equal_nan=True)
    for path in (base.output, base.ntk, base.sharpness, base.loss):
        assert not np.isnan(path).any()
    assert (base.ntk >= 2 * kappa**0.5 * abs(base.output) * (1 - 1e-12)).all()


def test_from_its_minimum_a_network_never_moves():
    for rate in (0.1, 5.0):
        found = trajectory(1.0, 3.0, rate, kappa=1.0, target=1.0, steps=50)
        assert (found.loss == 0).all()
        np.testing.assert_allclose(found.ntk, 3.0, rtol=1e-14)


def test_a_learning_rate_of_nothing_moves_nothing():
    found = trajectory(0.5, 2.0, 1e-250, kappa=1.0, target=3.0, steps=10)
    np.testing.assert_allclose(found.sharpness, float(found.sharpness[0]), rtol=1e-14)
    np.testing.assert_allclose(found.output, 0.5, rtol=1e-14)


def test_no_weights_have_a_kernel_below_twice_the_output():
    with pytest.raises(ValueError, match="ntk must be at least 2 sqrt"):
        trajectory(1.0, 1.0, 0.1, kappa=1.0, steps=1)
    with pytest.raises(ValueError, match="output must be a number or a DataArray"):
        trajectory([1.0, 2.0], 4.0, 0.1, kappa=1.0, steps=1)
    with pytest.raises(ValueError, match="output must be swept over dims other than 'step'"):
        trajectory(along([1.0, 2.0], "step"), 4.0, 0.1, kappa=1.0, steps=1)


# ---------------------------------------------------------------------------------------------------------------------
# The same bits as plain Python that never stops early


def twin(form, a, b, c, q, height, sharpness, steps):
    """One lane in plain Python, every step taken: final and peak sharpness, peak height, divergence step."""
    peak, now = sharpness, sharpness
    for t in range(1, steps + 1):
        if form == "residual":
            shrink = (1.0 - a) * (1.0 + a) if abs(a) > 0.5 else 1.0 - a * a
            a = a * (1.0 - c + a * (a + q))
            b = shrink * (shrink * b)
            c = math.sqrt(b + 4.0 * (a + q) * (a + q))
            residual = a
            now = 0.5 * (c + math.sqrt(b + 4.0 * (2.0 * a + q) * (2.0 * a + q)))
        else:
            a, b = (1.0 - c) * ((1.0 - c) * a), (1.0 + c) * ((1.0 + c) * b)
            c = residual = 0.25 * (a - b) - q
            now = 0.5 * (0.5 * (a + b) + math.sqrt(a * b + 4.0 * (2.0 * c + q) * (2.0 * c + q)))
        if not (abs(residual) < 4 + 3 * abs(q) and b < 1e150):
            return math.inf, math.inf, math.inf, t
        height, peak = max(height, residual * residual), max(peak, now)
    return now, peak, height, -1


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 100, 403])
@pytest.mark.parametrize("target", [1e-3, 0.7, -2.5])  # 0 has lanes of its own, see test_uv_lanes
def test_lanes_have_the_bits_of_plain_python_without_exits(target, steps):
    rng = np.random.default_rng(steps)
    size = 150
    alignment, kappa = rng.uniform(-1, 1, size), 10 ** rng.uniform(-4, 0, size)
    ntk = rng.uniform(0.2, 4, size)
    output = alignment * ntk / (2 * kappa**0.5)
    top = 0.5 * (ntk + np.sqrt(ntk**2 - 4 * kappa * output**2 + 4 * kappa * (2 * output - target) ** 2))
    rate = rng.uniform(0.05, 4.5, size) / top
    columns = (rate, kappa, np.full(size, target), output, ntk, top, np.ones(size))
    start, lanes = _scaling.scaled(*(values[:, np.newaxis] for values in columns))
    records, _ = diagram._run_block(start, lanes, steps)
    for i in range(size):
        form, state = ("residual", start.residual_form) if start.settles[i] else ("cone", start.cone_form)
        numbers = [float(x[i]) for x in (*state, start.q, start.height, start.sharpness)]
        expected = twin(form, *numbers, steps)
        assert (
            records.final_sharpness[i],
            records.peak_sharpness[i],
            records.peak_height[i],
            records.divergence_step[i],
        ) == expected
    if steps == 403:
        assert (records.divergence_step > 0).any()
        assert (records.divergence_step < 0).any()
        assert start.settles.any()
        assert start.settles.all() == (target == 1e-3)


def test_most_lanes_stop_early_and_keep_their_bits_for_ever():
    short, long = (phase_diagram(np.linspace(0.1, 4.5, 45), [4, 64], steps=t, seeds=20) for t in (2000, 20_000))
    settled = (short.outcome != Outcome.DIVERGED) & (abs(short.final_sharpness - long.final_sharpness) == 0)
    assert settled.mean() > 0.7
    xr.testing.assert_identical(short.divergence_step, long.divergence_step)
    xr.testing.assert_identical(short.peak_loss_ratio, long.peak_loss_ratio)


def test_periods_are_found_and_others_are_not():
    """Orbits of the line at known q: cycles of 2, 4, 8, 3 and chaos."""
    targets = np.array([1.1, 1.28, 1.295, 1.7, 1.35, 1.5])
    path = bifurcation(targets, transient=20_000, keep=1)
    plus = 4 * path.output.values[:, 0]
    states = np.stack([plus, np.zeros(6), plus / 4 - targets])
    period = np.empty(6, np.int64)
    _cycles.find_periods(np.arange(6), states, targets, period)
    assert period.tolist() == [2, 4, 8, 3, -1, -1]


# ---------------------------------------------------------------------------------------------------------------------
# Same bits in any company

GRID = {"c": [0.5, 1.9, 2.4, 3.1, 3.9, 4.4], "width": [1, 2, 7, 64]}
WAYS = {
    "random": {},
    "target": {"target": 2.0, "parametrization": 1.0, "steps": 300},
    "zero output": {"target": 1.0, "start": "zero_output"},
    "kernel": {"units": "ntk", "init_scale": 0.7, "input_norm": 2.0},
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def small(c=GRID["c"], width=GRID["width"], **options):
    return phase_diagram(c, width, **{"steps": 60, "seeds": 5, "seed": 11, **options})


@every_way
def test_threads_blocks_and_chunks_do_not_show(way, monkeypatch):
    whole = small(**way)
    assert whole.outcome.dims == ("c", "width", "seed")
    for threads, block in itertools.product((1, 3), (1, 37)):
        monkeypatch.setenv("SGDYNAMICS_THREADS", str(threads))
        monkeypatch.setattr(diagram, "BLOCK", block)
        xr.testing.assert_identical(small(**way), whole)
    c, width = (along(GRID[name], name) for name in ("c", "width"))
    lazy = small(c.chunk(c=4), width.chunk(width=1), **way)
    assert all(lazy[name].chunks is not None for name in lazy.data_vars)
    xr.testing.assert_identical(lazy.compute(), whole)


@every_way
def test_a_cell_is_the_same_in_any_company(way):
    whole = small(**way)
    xr.testing.assert_identical(small(seeds=[3, 1], **way), whole.isel(seed=[3, 1]))
    xr.testing.assert_identical(small(c=[2.4], width=[7], **way), whole.sel(c=[2.4], width=[7]))
    alone = small(c=2.4, width=7, seeds=[4], **way)
    for name in whole.data_vars:
        assert alone[name].item() == whole[name].sel(c=2.4, width=7, seed=4).item()


def test_one_start_meets_all_learning_rates_and_targets():
    whole, other = small(), small(target=1.0)
    assert (whole.initial_ntk == whole.initial_ntk.isel(c=0)).all()
    xr.testing.assert_equal(whole.initial_ntk, other.initial_ntk)
    assert not np.array_equal(whole.initial_ntk, small(seed=12).initial_ntk)
    assert np.unique(whole.initial_ntk.isel(c=0)).size == 20


def test_a_grid_that_is_never_held_at_once():
    """Lazy blocks are made and reduced one by one."""
    c = along(np.linspace(0.5, 4.5, 60), "c").chunk(c=10)
    lazy = phase_diagram(c, [4, 16], steps=50, seeds=20)
    share = (lazy.outcome == Outcome.DIVERGED).mean("seed")
    assert share.chunks is not None
    eager = phase_diagram(c.compute(), [4, 16], steps=50, seeds=20)
    assert np.array_equal(share.compute(), (eager.outcome == Outcome.DIVERGED).mean("seed"))
    xr.testing.assert_identical(thresholds(lazy).compute(), thresholds(eager))
    assert thresholds(lazy).c_max.chunks is not None


def test_what_is_no_axis_sweeps_with_labels():
    targets = along([0.0, 1.0], "target")
    both = small(target=targets)
    assert both.outcome.dims == ("c", "width", "target", "seed")
    for target in (0.0, 1.0):
        xr.testing.assert_equal(both.sel(target=target, drop=True), small(target=target))
    with pytest.raises(ValueError, match="target must be a number or a DataArray"):
        small(target=[0.0, 1.0])
    with pytest.raises(ValueError, match="dims other than 'seed'"):
        small(target=along([0.0, 1.0], "seed"))


# ---------------------------------------------------------------------------------------------------------------------
# Starts

SEEDS = 40_000


@pytest.mark.parametrize("width", [1, 2, 9, 1000])
def test_starts_follow_the_law_of_normal_weights(width):
    found = phase_diagram([1.0], [width], steps=1, seeds=SEEDS, parametrization=0.5, init_scale=1.3).squeeze()
    ntk, ratio = found.initial_ntk.values, (found.initial_sharpness / found.initial_ntk).values
    assert kstest(ntk * width / 1.3**2, chi2(2 * width).cdf).pvalue > 1e-4
    # H/lambda = (1 + sqrt(1 + 12 rho))/2, and rho has mean 1/(4(n+1))
    rho = ((2 * ratio - 1) ** 2 - 1) / 12
    assert abs(rho.mean() - 1 / (4 * (width + 1))) < 4 * rho.std() / SEEDS**0.5
    assert abs(np.corrcoef(rho, ntk)[0, 1]) < 4 / SEEDS**0.5
    if width == 2:
        assert abs((rho > 1 / 8).mean() - (1 - 0.5**0.5)) < 4 * (0.2929 * 0.7071 / SEEDS) ** 0.5


def test_both_signs_of_the_output_are_drawn():
    """With a target the sharpness tells them apart: 2f - y is smaller on one side."""
    found = phase_diagram([1.0], [9], steps=1, seeds=4000, target=np.float64(1.0), parametrization=1.0).squeeze()
    flipped = phase_diagram([1.0], [9], steps=1, seeds=4000, target=np.float64(-1.0), parametrization=1.0).squeeze()
    share = (found.initial_sharpness > flipped.initial_sharpness).mean().item()
    assert abs(share - 0.5) < 4 * 0.5 / 4000**0.5


def test_without_a_last_layer_the_output_is_zero_and_the_kernel_halves():
    found = phase_diagram([1.0], [6], steps=1, seeds=SEEDS, start="zero_output").squeeze()
    np.testing.assert_allclose(found.initial_sharpness, found.initial_ntk, rtol=1e-15)
    assert kstest(found.initial_ntk * 6, chi2(6).cdf).pvalue > 1e-4
    assert (found.outcome == Outcome.MONOTONE).all()


# ---------------------------------------------------------------------------------------------------------------------
# Outcomes


@every_way
def test_labels_say_what_the_numbers_say(way):
    found = small(c=np.linspace(0.2, 4.8, 30), seeds=20, **way)
    diverged = found.outcome == Outcome.DIVERGED
    assert np.array_equal(diverged, found.divergence_step > 0)
    assert np.array_equal(diverged, np.isinf(found.final_sharpness))
    assert np.array_equal(diverged, np.isinf(found.peak_loss_ratio))
    assert np.array_equal(found.period > 0, found.outcome == Outcome.PERIODIC)
    rises, sharpens = found.peak_loss_ratio > 1 + 1e-9, found.peak_sharpness_ratio > 1 + 1e-9
    calm = ~diverged & ~found.outcome.isin([Outcome.PERIODIC, Outcome.CHAOTIC])
    assert np.array_equal(calm & ~rises, found.outcome == Outcome.MONOTONE)
    assert np.array_equal(calm & rises & ~sharpens, found.outcome == Outcome.LOSS_CATAPULT)
    assert np.array_equal(calm & rises & sharpens, found.outcome == Outcome.LOSS_AND_SHARPNESS_CATAPULT)
    assert diverged.any()
    assert found.outcome.dtype == np.int8
    assert found.divergence_step.dtype == np.int32
    assert (found.peak_loss_ratio >= 1).all()
    assert not any(np.isnan(found[name]).any() for name in found.data_vars)


def test_a_diagram_agrees_with_its_trajectories():
    found = phase_diagram([0.7, 1.8, 2.3, 2.8, 4.6], [3, 20], steps=40, seeds=10).stack(cell=["c", "width", "seed"])
    kappa = 1 / found.width.drop_vars(["cell", "c", "width", "seed"])
    top, ntk = (found[name].drop_vars(["cell", "c", "width", "seed"]) for name in ("initial_sharpness", "initial_ntk"))
    output = (top * (top - ntk) / (3 * kappa)) ** 0.5
    rate = found.c.drop_vars(["cell", "c", "width", "seed"]) / top
    path = trajectory(output, ntk, rate, kappa=kappa, steps=40)
    alive = (found.outcome != Outcome.DIVERGED).values
    np.testing.assert_allclose(
        found.final_sharpness.values[alive], path.sharpness.isel(step=-1).values[alive], rtol=1e-6
    )
    ratio = (path.loss.max("step") / path.loss.isel(step=0)).values
    np.testing.assert_allclose(found.peak_loss_ratio.values[alive], ratio[alive], rtol=1e-6)
    # beyond the level of no return the range of floats is left soon after
    assert (path.divergence_step.values[~alive] >= found.divergence_step.values[~alive]).all()


@few
@given(st.floats(-3, 3), st.floats(0, 1), st.floats(0, 5), st.booleans(), st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_from_the_level_of_no_return_the_kernel_does_not_fall_over_two_steps(excess, alignment, log_ntk, negative, q):
    s = (4 + 3 * q) * (1 + 10**excess) * (-1 if negative else 1)
    start = kernel = 2 * abs(s + q) * (1 + alignment * 10**log_ntk)
    for _ in range(2):
        s, kernel = s * (1 - kernel + s * (s + q)), kernel + s * (s * kernel - 4 * (s + q))
    assert kernel >= start * (1 - 1e-9)


def test_from_the_level_of_no_return_a_residual_may_fall_once_and_a_rare_orbit_ends_at_a_minimum():
    """Why divergence is said of almost every orbit."""
    # output and kernel at rate and kappa 1 and target 1: from a residual of 8, beyond 7
    path = trajectory(9.0, 73.0, 1.0, kappa=1.0, target=1.0, steps=5)
    assert path.loss.values[0] == 32
    assert not path.loss.values[1:].any()
    assert int(path.divergence_step) == -1
    path = trajectory(9.0, 73.5, 1.0, kappa=1.0, target=1.0, steps=100)
    assert path.loss.values[1] < path.loss.values[0]
    assert int(path.divergence_step) > 1


@few
@given(st.floats(-4, 4), st.floats(0, 1), st.floats(0, 5), st.booleans())
def test_from_the_level_of_no_return_nothing_comes_back(excess, alignment, log_ntk, negative):
    """A residual of that size, any kernel above the cone: the next residuals pass any bound."""
    for q in (0.0, 0.3, 1.0, 1.7, 5.0):
        residual = (4 + 3 * q) * (1 + 10**excess) * (-1 if negative else 1)
        output = residual + q
        ntk = 2 * abs(output) * (1 + alignment * 10**log_ntk)
        path = trajectory(output, ntk, 1.0, kappa=1.0, target=q, steps=400)
        assert int(path.divergence_step) > 0 or float(path.loss[1]) == 0


def first_out_of_range(output, ntk, rate, kappa, target, steps):
    """Step of divergence in 80 digits: the first at which output, kernel, sharpness or loss are no floats any more."""
    with mp.workdps(80):
        f, ntk, eta, k, y = map(mp.mpf, (output, ntk, rate, kappa, target))
        for step in range(steps + 1):
            squared = max(ntk**2 - 4 * k * f * f, 0) + 4 * k * (2 * f - y) ** 2
            if max(abs(f), (ntk + mp.sqrt(squared)) / 2, (f - y) ** 2 / 2) > sys.float_info.max:
                return step
            change = eta * (f - y)
            f, ntk = f - change * (ntk - k * f * change), ntk + k * change * (ntk * change - 4 * f)
    return -1


def test_an_orbit_diverges_when_it_leaves_the_range_of_a_float_and_not_before():
    rng = np.random.default_rng(3)
    for i in range(150):
        kappa, ntk = 10 ** rng.uniform(-6, 2), 10 ** rng.uniform(-2, 2)
        output = rng.uniform(-1, 1) * ntk / (2 * math.sqrt(kappa))
        target = (i % 2) * 10 ** rng.uniform(-2, 1)
        rate = 10 ** rng.uniform(0.3, 1.5) * 4 / ntk
        if i % 10 == 0:  # squares of the kernel overflow at once
            output, ntk, rate = 10 ** rng.uniform(-100, 0), 10 ** rng.uniform(100, 250), 1.0
        path = trajectory(output, ntk, rate, kappa=kappa, target=target, steps=30)
        assert path.divergence_step.item() == first_out_of_range(output, ntk, rate, kappa, target, 30)


def test_a_start_beyond_return_has_diverged_at_step_0():
    found = phase_diagram([0.5, 20.0, 48.7414, 80.0], [1, 2], steps=1, seeds=40, units="ntk")
    # without target (2h - l)^2 = l^2 + 12 kappa f^2
    squared = ((2 * found.initial_sharpness - found.initial_ntk) ** 2 - found.initial_ntk**2) / 12
    beyond = found.c / found.initial_ntk * squared**0.5 >= 4
    np.testing.assert_array_equal(found.divergence_step == 0, beyond)
    assert beyond.any()
    assert not beyond.all()
    assert (found.outcome.where(beyond, Outcome.DIVERGED) == Outcome.DIVERGED).all()
    lone = phase_diagram([48.7414], [2], steps=1, seeds=[5], units="ntk")
    assert lone.divergence_step.item() == 0
    assert lone.outcome.item() == Outcome.DIVERGED


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_overflow_in_one_step_is_divergence(target):
    found = phase_diagram([1.0, 1e20, 1e200, 1e300], [1, 5], steps=3, seeds=4, target=target)
    late = found.sel(c=[1e20, 1e200, 1e300])
    assert (late.outcome == Outcome.DIVERGED).all()
    assert (late.divergence_step <= 1).all()
    assert (late.final_sharpness == np.inf).all()
    assert np.isfinite(found.initial_sharpness).all()
    path = trajectory(1.0, 2.5, along([1e20, 1e60, 1e200, 1e300], "c"), kappa=1.0, target=target + 1e-3, steps=12)
    for name in ("output", "ntk", "sharpness", "loss"):
        values = path[name]
        assert not np.isnan(values).any()
        assert (values.where(path.step >= path.divergence_step, np.inf) == np.inf).all()
        assert np.isfinite(values.where(path.step < path.divergence_step, 0.0)).all()
    assert (path.divergence_step > 0).all()
    assert int(path.divergence_step.sel(c=1e200)) == 1


def test_beyond_the_critical_rate_runs_end_in_cycles_or_chaos():
    """Very wide mean-field networks without a last layer have q = 2c."""
    found = phase_diagram(
        [0.45, 0.55, 0.64, 0.675],
        [10**8],
        steps=2000,
        seeds=3,
        units="ntk",
        target=2.0,
        parametrization=1.0,
        start="zero_output",
    ).squeeze("width")
    assert (found.outcome.sel(c=[0.55, 0.64]) == Outcome.PERIODIC).all()
    assert found.period.isel(seed=0).values.tolist() == [0, 2, 4, 0]
    assert (found.outcome.sel(c=0.675) == Outcome.CHAOTIC).all()
    assert not found.outcome.sel(c=0.45).isin([Outcome.PERIODIC, Outcome.CHAOTIC, Outcome.DIVERGED]).any()


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds


def handmade(loss, sharpness, final, c=(1.0, 2.0, 3.0)):
    """A diagram of given ratios, shape (c, seed)."""
    dims = ("c", "seed")
    diverged = np.isinf(final)
    return xr.Dataset(
        {
            "outcome": (dims, np.where(diverged, Outcome.DIVERGED, Outcome.MONOTONE).astype(np.int8)),
            "initial_sharpness": (dims, np.ones(np.shape(final))),
            "final_sharpness": (dims, np.asarray(final)),
            "peak_loss_ratio": (dims, np.asarray(loss)),
            "peak_sharpness_ratio": (dims, np.asarray(sharpness)),
        },
        coords={"c": list(c)},
    )


def test_thresholds_are_read_from_below_and_say_what_is_missing():
    inf = np.inf
    found = thresholds(
        handmade(
            loss=[[1.0, 1.5, 1.0], [2.0, 1.0, 1.0], [inf, inf, 1.0]],
            sharpness=[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [inf, 1.1, 1.0]],
            final=[[1.0, inf, 1.0], [1.0, 1.0, 1.0], [inf, 1.0, 1.0]],
        )
    )
    assert found.c_loss.values.tolist() == [2.0, 1.0, 3.0]
    assert found.c_loss_censored.values.tolist() == [0, -1, 1]
    assert found.c_sharp.values.tolist() == [3.0, 3.0, 3.0]
    assert found.c_sharp_censored.values.tolist() == [0, 0, 1]
    assert found.c_max.values.tolist() == [2.0, 1.0, 3.0]
    assert found.c_max_censored.values.tolist() == [0, -1, 1]
    assert float(found.c_loss_mean) == 2.0
    assert float(found.c_loss_standard_error) == pytest.approx(3**-0.5)
    assert int(found.c_loss_censored_count) == 2
    one = thresholds(handmade([[1.0], [1.0], [1.0]], [[1.0], [1.0], [1.0]], [[1.0], [1.0], [1.0]]))
    assert float(one.c_max_standard_error) == np.inf


def test_a_margin_leaves_small_rises_out():
    data = handmade([[1.0], [1.01], [2.0]], [[1.0], [1.0], [1.2]], [[1.0], [1.0], [1.0]])
    assert float(thresholds(data).c_loss.squeeze()) == 2.0
    assert float(thresholds(data, margin=0.05).c_loss.squeeze()) == 3.0
    assert int(thresholds(data, margin=0.3).c_sharp_censored.squeeze()) == 1


def test_thresholds_need_a_diagram_along_increasing_c():
    for wrong in (xr.Dataset(), small().isel(c=0), small().isel(c=slice(None, None, -1))):
        with pytest.raises(ValueError, match="diagram must be"):
            thresholds(wrong)
    with pytest.raises(ValueError, match="diagram must be"):
        over_seeds(small().isel(seed=0))


def test_averages_are_of_ratios_and_over_survivors():
    ones = np.ones((2, 3))
    data = handmade(ones, ones, [[0.5, 1.0, 2.5], [3.0, np.inf, 1.0]], c=(1.0, 2.0))
    data["initial_sharpness"] = ("c", "seed"), [[1.0, 2.0, 5.0], [1.0, 1.0, 1.0]]
    found = over_seeds(data)
    assert found.sharpness_ratio_mean.values.tolist() == [0.5, 2.0]
    assert found.sharpness_ratio_standard_error.values.tolist() == [0.0, 1.0]
    assert found.sharpness_ratio_median.values.tolist() == [0.5, 3.0]
    assert found.survivors.values.tolist() == [3, 2]
    assert found.majority.values.tolist() == [Outcome.MONOTONE] * 2
    np.testing.assert_allclose(found.majority_share, [1.0, 2 / 3])
    gone = over_seeds(handmade(ones, ones, np.full((2, 3), np.inf), c=(1.0, 2.0)))
    assert (gone.sharpness_ratio_mean == np.inf).all()
    assert (gone.sharpness_ratio_standard_error == np.inf).all()
    assert (gone.majority == Outcome.DIVERGED).all()


@pytest.mark.parametrize("chunks", [{"c": 2, "seed": 4}, {"c": 3}, {"width": 1}])
def test_reading_a_lazy_diagram_gives_the_same_bits(chunks):
    eager = phase_diagram(np.linspace(1, 4.6, 7), [8, 64], steps=50, seeds=9)
    lazy = eager.chunk(chunks)
    for read in (over_seeds, thresholds):
        made = read(lazy)
        assert all(array.chunks is not None for array in made.data_vars.values())
        xr.testing.assert_identical(made.compute(), read(eager))
    axis = along(np.linspace(1, 4.6, 7), "c").chunk(c=2)
    whole = over_seeds(phase_diagram(axis, [8, 64], steps=50, seeds=9))
    assert whole.majority.chunks is not None
    np.testing.assert_array_equal(whole.majority, over_seeds(eager).majority)


def test_the_first_step_raises_the_loss_from_its_exact_threshold_on():
    """(1 - sqrt(1 - 8 rho))/(2 rho) in units of the kernel, none at all for rho > 1/8."""
    c = np.linspace(1.99, 3.995, 402)
    found = phase_diagram(c, [2, 8], steps=1, seeds=300, units="ntk")
    ratio = (found.initial_sharpness / found.initial_ntk).isel(c=0)
    rho = ((2 * ratio - 1) ** 2 - 1) / 12
    exact = ((1 - (1 - 8 * rho).clip(min=0.0) ** 0.5) / (2 * rho)).where(rho < 1 / 8, np.inf)
    read = thresholds(found)
    known = read.c_loss_censored == 0
    assert np.array_equal(known, exact <= c[-1])
    assert (abs(read.c_loss - 0.0025 - exact).where(known, 0.0) <= 0.00251).all()
    share = (found.peak_loss_ratio > 1).sel(width=2).mean("seed")
    expected = 2 * (share.c - 2).clip(min=0.0) ** 0.5 / share.c
    assert (abs(share - expected) <= 4 * (expected * (1 - expected) / 300) ** 0.5 + 1e-12).all()


# ---------------------------------------------------------------------------------------------------------------------
# What runs do, against laws and numbers from elsewhere


def chi_start(rng, width, seeds):
    """f_0 and the kernel of standard networks from two chi-squared numbers each."""
    plus, minus = rng.chisquare(width, (2, seeds)) / width
    return width**0.5 * (plus - minus) / 2, plus + minus


def test_without_target_four_over_the_kernel_divides_survival_from_divergence():
    found = phase_diagram([3.99, 4.01], [2, 8, 64], steps=5000, seeds=100, units="ntk")
    diverged = found.outcome == Outcome.DIVERGED
    assert not diverged.sel(c=3.99).any()
    assert diverged.sel(c=4.01).all()
    output, ntk = chi_start(np.random.default_rng(0), 8, 50)
    path = trajectory(
        along(output, "run").drop_vars("run"), along(ntk, "run").drop_vars("run"), 1.2, kappa=1 / 8, steps=30
    )
    gap, scaled = 4 - 1.2 * path.ntk, 1.2**2 / 8 * path.output**2
    survives = path.divergence_step < 0
    left, right = gap.shift(step=-1).where(survives), (gap * (1 + scaled)).where(survives)
    assert abs(left / right - 1).max() < 1e-9


def test_wide_networks_sharpen_from_five_halves_and_their_trace_from_four():
    c = np.arange(2.4, 2.6, 0.005)
    found = thresholds(phase_diagram(c, [4096], steps=10, seeds=300))
    assert int(found.c_sharp_censored_count.item()) == 0
    assert abs(found.c_sharp_mean.item() - 2.50) <= 0.02
    output, ntk = chi_start(np.random.default_rng(1), 4096, 50)
    grid = np.arange(3.9, 4.1, 0.005)
    output, ntk = (xr.DataArray(values, dims="run") for values in (output, ntk))
    path = trajectory(output, ntk, xr.DataArray(grid, dims="c") / ntk, kappa=1 / 4096, steps=10)
    rises = (path.ntk.max("step") > ntk * (1 + 1e-12)).transpose("run", "c")
    assert rises.any("c").all()
    assert (abs(grid[rises.argmax("c").values] - 4.0) <= 0.02).all()


@pytest.mark.parametrize("target", [0.0, 1.0, 2.0])
def test_small_steps_end_where_gradient_flow_does(target):
    rng = np.random.default_rng(2)
    output, ntk = (xr.DataArray(values, dims="run") for values in chi_start(rng, 32, 20))
    path = trajectory(output, ntk, 1e-3, kappa=1 / 32, target=target, steps=25_000)
    assert (abs(path.output.isel(step=-1) - target) < 1e-8).all()
    flow = (ntk**2 + 4 / 32 * (target**2 - output**2)) ** 0.5
    assert (abs(path.ntk.isel(step=-1) / flow - 1) < 3e-4).all()


def test_the_two_cycle_past_the_critical_rate():
    cycle = [0.7298438, 1.3701562]
    found = bifurcation(1.1, transient=2000, keep=2, imbalance=0.3)
    np.testing.assert_allclose(np.sort(found.output), cycle, atol=1e-6)
    assert found.ntk.mean().item() == pytest.approx(2.1, abs=1e-6)
    assert found.sharpness.mean().item() == pytest.approx(2.05, abs=1e-6)
    exponents = lyapunov(1.1, steps=1000, transient=2000)
    assert 2 * exponents.exponent.item() == pytest.approx(math.log(0.18), abs=1e-9)
    assert 2 * exponents.transverse_exponent.item() == pytest.approx(2 * math.log(3 - 2.2), abs=1e-9)
    # in weights: 64 units, mean field, target 2, learning rate 0.55
    rng = np.random.default_rng(0)
    hidden, readout = rng.standard_normal((2, 64)) / 8
    outputs = []
    for _ in range(4000):
        outputs.append(readout @ hidden)
        step = 0.55 * (outputs[-1] - 2)
        hidden, readout = hidden - step * readout, readout - step * hidden
    np.testing.assert_allclose(np.sort(0.55 * np.array(outputs[-2:])), cycle, atol=1e-6)


def test_lyapunov_exponents_along_the_route_to_chaos():
    q = [0.9, 1.35, 1.7, 2.0]
    found = lyapunov(q, steps=300_000).exponent
    assert found.sel(q=0.9).item() == pytest.approx(math.log(0.8), abs=1e-3)
    assert found.sel(q=1.35).item() == pytest.approx(elsewhere("lyapunov_exponent").values[1.35], abs=0.01)
    assert found.sel(q=1.7).item() < -0.4
    assert found.sel(q=2.0).item() == pytest.approx(math.log(3), abs=0.01)


def test_the_line_attracts_wherever_it_is_chaotic():
    found = lyapunov([1.05, 1.5, 1.99], steps=1_000_000).transverse_exponent
    np.testing.assert_allclose(found, [math.log(0.9), -1.488, -0.12], atol=0.005)


def test_a_catapult_from_infinite_width_is_a_mirror():
    path = trajectory(1e-6, along([2.05, 2.5], "c"), 1.0, kappa=1.0, steps=5000)
    for c in (2.05, 2.5):
        kernel = elsewhere("catapult_kernel").values[c]
        assert path.ntk.isel(step=-1).sel(c=c).item() == pytest.approx(kernel, abs=0.002)


def test_mean_time_to_the_peak_grows_with_the_logarithm_of_the_width():
    rng = np.random.default_rng(3)
    for width, expected in elsewhere("catapult_time").values.items():
        output, ntk = (xr.DataArray(values, dims="run") for values in chi_start(rng, width, 3000))
        top = (ntk + (ntk**2 + 12 / width * output**2) ** 0.5) / 2
        path = trajectory(output, ntk, 2.5 / top, kappa=1 / width, steps=60)
        assert path.loss.argmax("step").mean().item() == pytest.approx(expected, abs=0.4)


def test_cells_of_the_phase_diagram():
    def ratio(c, width, seeds):
        found = phase_diagram([c], [width], steps=500, seeds=seeds)
        return over_seeds(found).sharpness_ratio_median.item()

    known = elsewhere("sharpness_ratio")
    for (width, c), value in known.values.items():
        assert ratio(c, width, 4000) == pytest.approx(value, abs=known.errors[width, c])
    assert (phase_diagram([4.1], [512], steps=500, seeds=1000).outcome == Outcome.DIVERGED).mean() >= 0.99


def test_most_networks_of_every_cell_do_what_the_table_says():
    """Coarse phase diagram without target; near ties are left out."""
    monotone, loss, both, gone = (
        Outcome.MONOTONE,
        Outcome.LOSS_CATAPULT,
        Outcome.LOSS_AND_SHARPNESS_CATAPULT,
        Outcome.DIVERGED,
    )
    c = [0.5, 1.0, 1.9, 2.1, 2.3, 2.5, 3.0, 3.5, 3.9, 4.1, 4.6]
    table = {
        4: [monotone] * 4 + [None] * 3 + [both] * 2 + [None, gone],
        8: [monotone] * 3 + [None, loss, loss] + [both] * 3 + [None, gone],
        16: [monotone] * 3 + [None, loss, loss] + [both] * 3 + [None, gone],
        64: [monotone] * 3 + [loss] * 3 + [both] * 3 + [gone] * 2,
        2048: [monotone] * 3 + [loss] * 3 + [both] * 3 + [gone] * 2,
    }
    found = over_seeds(phase_diagram(c, list(table), steps=500, seeds=400)).majority
    for width, expected in table.items():
        for rate, label in zip(c, expected, strict=True):
            assert label is None or found.sel(c=rate, width=width).item() == label, (width, rate)


@pytest.mark.parametrize("parametrization", [0.0, 1.0])
@pytest.mark.parametrize("target", [0.0, 0.5, 2.0])
def test_survival_is_decided_by_one_sign_at_the_start(target, parametrization):
    """V = 4 + q s - l is multiplied by 1 + s phi; where it is positive and q < 2 a run is bounded, else it diverges."""
    c = np.linspace(0.05, 5.0, 100)
    found = phase_diagram(
        c, [4, 30, 300], steps=3000, seeds=30, units="ntk", target=target, parametrization=parametrization
    )
    kappa = found.width.astype(float) ** (parametrization - 1)
    top, ntk = found.initial_sharpness, found.initial_ntk
    # the output from the two eigenvalues: 4 kappa (f - y)(3f - y) = (2H - l)^2 - l^2, both roots
    product = top * (top - ntk) / kappa
    roots = [(2 * target + sign * (target**2 + 3 * product) ** 0.5) / 3 for sign in (1, -1)]
    rate = found.c / ntk
    margins = [4 + rate**2 * kappa * target * (output - target) - rate * ntk for output in roots]
    inside = [margin > 0.01 for margin in margins]
    outside = [(margin < -0.01) & (rate * kappa**0.5 * target < 2) for margin in margins]
    diverged = found.outcome == Outcome.DIVERGED
    assert not diverged.where(inside[0] & inside[1], False).any()
    assert diverged.where(outside[0] & outside[1], True).all()
    assert (outside[0] & outside[1]).any()


def test_largest_surviving_rates_from_zero_output():
    for target, expected, step in ((1.0, 2.47, 0.002), (2.0, 1.56, 0.002)):
        c = np.arange(expected - 0.1, expected + 0.1, step)
        path = trajectory(0.0, 2.0, along(c, "c") / 2, kappa=1.0, target=target, steps=3000)
        surviving = c[(path.divergence_step < 0).values]
        assert surviving.max() == pytest.approx(expected, abs=0.01)
    path = trajectory(0.0, 2.0, 0.55, kappa=1.0, target=2.0, steps=3000)
    np.testing.assert_allclose(np.sort(0.55 * path.output[-2:]), [0.7298438, 1.3701562], atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The line


def test_exponents_are_means_of_logarithms():
    for q, transient, steps in ((0.8, 0, 5), (1.2, 3, 40), (1.9, 16, 64), (1.3, 7, 1)):
        x, up, out = 0.3, [], []
        for t in range(transient + steps):
            if t >= transient:
                up.append(math.log(abs((1 + q - x) * (1 + q - 3 * x))))
                out.append(2 * math.log(abs(1 + x - q)))
            x = x * ((1 + q - x) * (1 + q - x))
        found = lyapunov(q, steps=steps, transient=transient)
        assert found.exponent.item() == pytest.approx(math.fsum(up) / steps, rel=1e-10)
        assert found.transverse_exponent.item() == pytest.approx(math.fsum(out) / steps, rel=1e-10)


@pytest.mark.parametrize("steps", [1, 15, 16, 17, 20, 32, 48, 200, 1000])
def test_a_vanishing_slope_is_minus_infinity_for_any_number_of_steps(steps):
    """A cycle through the top of the map: from 1.5 = r, and from r at once."""
    assert lyapunov(0.5, steps=steps).exponent.item() == -math.inf
    assert lyapunov(1.0, steps=steps, transient=0, start=2.0).exponent.item() == -math.inf


@few
@given(st.floats(0.0, 2.5), st.floats(-3, 3), st.sampled_from([0.0, 1e-3, 1e-12]))
def test_starts_beyond_the_interval_diverge_and_others_do_not(q, excess, imbalance):
    start = (2 + q) * (1 + 10**excess)
    found = bifurcation([q], transient=20, keep=4, start=start, imbalance=imbalance)
    assert np.isinf(found.output).all()
    exponents = lyapunov([q], steps=20, start=start)
    assert (exponents.exponent == np.inf).all()
    assert (exponents.transverse_exponent == np.inf).all()
    if q <= 2:
        inside = bifurcation([q], transient=20, keep=4, start=(2 + q) / (1 + 10**excess)).output
        assert (inside <= 2 + q).all()


def test_a_start_far_beyond_the_interval_is_shown_and_gone():
    """One step from 10 is 722.5, the next 1.5e77."""
    for transient, seen in ((0, [10.0, math.inf]), (1, [math.inf, math.inf]), (200, [math.inf, math.inf])):
        assert bifurcation([0.5], transient=transient, keep=2, start=10.0).output.values.tolist() == [seen]


def test_exponents_where_there_is_nothing_to_average():
    found = lyapunov([0.5, 2.1, 3.0], steps=200)
    assert found.exponent.values.tolist() == [-math.inf, math.inf, math.inf]
    assert found.transverse_exponent.values[1:].tolist() == [math.inf, math.inf]


@few
@given(st.lists(st.floats(0.05, 2.0), min_size=1, max_size=40), st.integers(1, 60))
def test_every_q_is_on_its_own(values, steps):
    whole = lyapunov(values, steps=steps, transient=20)
    part = lyapunov(values[-1], steps=steps, transient=20)
    assert whole.exponent[-1].item() == part.exponent.item()
    assert whole.transverse_exponent[-1].item() == part.transverse_exponent.item()
    rows = bifurcation(values, transient=20, keep=3, imbalance=0.1)
    assert np.array_equal(rows.output[-1], bifurcation(values[-1], transient=20, keep=3, imbalance=0.1).output)


def test_the_full_map_collapses_on_the_line():
    q = np.array([0.8, 1.05, 1.2, 1.25])
    full, line = (bifurcation(q, transient=5000, keep=64, imbalance=d) for d in (0.3, 0.0))
    past = q > 1
    np.testing.assert_allclose(np.sort(full.output[past]), np.sort(line.output[past]), atol=1e-9)
    np.testing.assert_allclose(full.ntk[past], 2 * full.output[past], rtol=1e-9)
    np.testing.assert_allclose(line.sharpness, np.maximum(3 * line.output - line.q, line.q - line.output), rtol=1e-12)
    np.testing.assert_allclose(full.output[~past], 0.8, rtol=1e-12)


def test_an_orbit_is_continued_along_the_parameter():
    q = [1.1, 1.1001, 1.1002]
    chained = bifurcation(q, transient=3, keep=2, continuation=True)
    x, rows = 0.3, []
    for value in q:
        path = []
        for _ in range(5):
            path.append(x)
            x = x * (1 + value - x) ** 2
        rows.append(path[3:])
    np.testing.assert_allclose(chained.output, rows, rtol=1e-13)
    lazy = bifurcation(along(q, "q").chunk(q=1), transient=3, keep=2, continuation=True)
    assert lazy.output.chunks is not None
    assert np.array_equal(lazy.output, chained.output)
    with pytest.raises(ValueError, match="q must be 1-D where the orbit is continued"):
        bifurcation(1.1, transient=3, keep=2, continuation=True)


def test_an_orbit_that_escapes_is_infinite_and_the_next_begins_anew():
    found = bifurcation([3.0, 1.1], transient=500, keep=2, continuation=True)
    assert np.isinf(found.output[0]).all()
    np.testing.assert_allclose(np.sort(found.output[1]), [0.7298438, 1.3701562], atol=1e-6)
    # at q = 2 rounding must not carry an orbit over the rim, nor hold it there
    edge = bifurcation(2.0, transient=0, keep=200_000).output
    assert 0 <= edge.min() < 1e-6
    assert 4 - 1e-6 < edge.max() < 4
    assert abs(edge.mean() - 2) < 0.05


def test_bad_axes_are_named():
    for function in (lyapunov, lambda q, steps: bifurcation(q, transient=1, keep=steps)):
        with pytest.raises(ValueError, match="q must be a number, 1-D or a DataArray"):
            function(np.ones((2, 2)), steps=3)
    with pytest.raises(ValueError, match="q must be swept over dims other than"):
        bifurcation(along([1.0], "sample"), transient=1, keep=1)


@pytest.mark.slow
def test_thresholds_approach_their_wide_values():
    """Mean first rise 2.0195 and mean largest rate 4.0229 at width 128, in Hessian units."""
    c = np.arange(1.95, 2.4, 0.001)
    first = thresholds(phase_diagram(c, [128], steps=1, seeds=20_000))
    mean, error = first.c_loss_mean.item() - 0.0005, first.c_loss_standard_error.item()
    assert abs(mean - 2.01951) < 4 * error + 1e-4
    assert first.c_loss_censored_count.item() <= 2
    c = np.arange(3.9, 4.5, 0.002)
    last = thresholds(phase_diagram(c, [128], steps=4000, seeds=5000))
    mean, error = last.c_max_mean.item() + 0.001, last.c_max_standard_error.item()
    assert abs(mean - 4.02288) < 4 * error + 2e-4
