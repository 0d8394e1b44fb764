"""Runs of the two-pattern network against plain NumPy, the trainer, and the numbers that are known of it."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sgdynamics.models.patterns import (
    TwoBlockNetwork,
    TwoPatternData,
    TwoPatternSample,
    TwoPatternSetting,
    TwoPatternTraining,
)
from sgdynamics.simulate import trainer
from sgdynamics.simulate._blocks import workers
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._streams import Purpose, normal_pair, open_stream, stream_key
from sgdynamics.simulate.patterns import _units, _units_of_p, _units_of_q, networks, trajectory
from sgdynamics.simulate.patterns._batches import Batches
from sgdynamics.theory.patterns import reduced_dynamics

DESK = TwoPatternSetting.desk()
SHORT = DESK.with_training(first_time=24.0, second_time=16.0)
ALGORITHMS = ("large_then_small", "small", "small_with_activation_noise")


# ---------------------------------------------------------------------------------------------------------------------
# Plain Python: the normals one by one, and a step that is written out


@kernel
def each_stream(key, replica, out):
    for stream in range(out.shape[2]):
        state = open_stream(key, replica, np.uint64(stream))
        for draw in range(out.shape[0]):
            out[draw, 0, stream], out[draw, 1, stream], state = normal_pair(state)


def stream_normals(seed, purpose, count, draws, replica=0):
    """Pairs of normals (draw, 2, stream), each stream by itself."""
    out = np.empty((draws, 2, count))
    each_stream(stream_key(seed, purpose), np.uint64(replica), out)
    return out


def weight_normals(seed, width_p, width_q, dimension, draws):
    """Standard normals of both blocks, (draw, unit, entry): the start first."""
    half = (dimension + 1) // 2
    p = stream_normals(seed, Purpose.PATTERNS_P, width_p * half, draws).reshape(draws, 2, width_p, half)
    p = np.concatenate([p[:, 0], p[:, 1]], axis=2)[:, :, :dimension]
    q = stream_normals(seed, Purpose.PATTERNS_Q, width_q, draws)
    return p, np.moveaxis(q, 1, 2)


def activation_normals(seed, width_p, width_q, examples, draws):
    """Standard normals in the pre-activations: (draw, example, unit) and (draw, ray, unit)."""
    half = (examples + 1) // 2
    p = stream_normals(seed, Purpose.PATTERNS_ACTIVATION, width_p * half, draws).reshape(draws, 2, width_p, half)
    p = np.concatenate([p[:, 0], p[:, 1]], axis=2)[:, :, :examples]
    q = stream_normals(seed, Purpose.PATTERNS_ACTIVATION, 2 * width_q, draws, replica=1)
    return np.moveaxis(p, 1, 2), np.stack([q[:, 0, ::2], q[:, 1, ::2], q[:, 0, 1::2]], axis=1)


def signs(width):
    return np.repeat([1.0, -1.0], width // 2) / np.sqrt(width)


def plain_run(setting, sample, algorithm, width_p, width_q, seed):
    """Losses and ray outputs of every iterate, from the definition; final weights."""
    course = setting.training.steps(algorithm)
    steps = int(course.step[-1])
    w, v = signs(width_p), signs(width_q)
    tau_p, tau_q = setting.training.noise_scale_p, setting.training.noise_scale_q
    noise_p, noise_q = weight_normals(seed, width_p, width_q, sample.dimension, steps + 1)
    first, second = tau_p * noise_p[0], tau_q * noise_q[0]
    carrying = np.flatnonzero(sample.kind != 1)
    inputs, rays = sample.inputs, setting.data.rays
    planar = setting.data.second_inputs(sample)
    noisy = bool(course.activation_noise.any())
    if noisy:
        p_draws, q_draws = activation_normals(seed, width_p, width_q, carrying.size, steps + 1)
    rows = []
    for t in range(steps + 1):
        before_p, before_q = inputs @ first.T, planar @ second.T
        deviation = float(course.activation_noise[t] * course.weight_deviation[t])
        ray_noise = np.zeros((3, width_q))
        if noisy and deviation:
            sizes = np.linalg.norm(inputs[carrying], axis=1)[:, None]
            before_p[carrying] += deviation * tau_p * sizes * p_draws[t]
            ray_noise = deviation * tau_q * np.linalg.norm(rays, axis=1)[:, None] * q_draws[t]
            before_q += sample.alpha[:, None] * ray_noise[sample.ray]
        output = np.maximum(before_p, 0) @ w + np.maximum(before_q, 0) @ v
        losses = np.log1p(np.exp(-sample.label * output))
        values = np.maximum(rays @ second.T + ray_noise, 0) @ v
        rows.append([losses.mean(), *(losses[sample.kind == kind].mean() for kind in range(3)), *values])
        slope = -sample.label / (1 + np.exp(sample.label * output)) / sample.examples
        slope_p = ((before_p >= 0) * slope[:, None]).T @ inputs * w[:, None]
        slope_q = ((before_q >= 0) * slope[:, None]).T @ planar * v[:, None]
        if t == steps:
            break
        h, sigma = float(course.step_size[t]), float(course.step_noise[t])
        keep = 1 - h * setting.training.weight_decay
        first = keep * first - h * slope_p + sigma * tau_p * noise_p[t + 1]
        second = keep * second - h * slope_q + sigma * tau_q * noise_q[t + 1]
    return np.array(rows), first, second


@pytest.mark.parametrize("alpha_low", [1.0, 0.0])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_is_the_written_out_one(algorithm, alpha_low):
    setting = SHORT.with_data(dimension=7, p_only=0.2, alpha_low=alpha_low)
    sample = setting.data.draw(41, seed=3)
    expected, first, _ = plain_run(setting, sample, algorithm, 6, 20, seed=5)
    test = setting.with_data(p_only=0.0, q_only=0.0).data.draw(50, seed=4)
    found = trajectory(
        setting,
        sample,
        algorithm,
        width_p=6,
        width_q=20,
        seed=5,
        test=test,
        record=np.arange(len(expected)),
    )
    names = ("loss", "loss_p_only", "loss_q_only", "loss_both")
    for name, column in zip(names, expected.T, strict=False):
        np.testing.assert_allclose(found[name], column, rtol=1e-9, err_msg=name)
    values = expected[:, 4:]
    np.testing.assert_allclose(found.ray_output, values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.curvature, values @ [1, -0.5, -0.5], rtol=1e-9, atol=1e-9)
    p_part = np.maximum(test.inputs @ first.T, 0) @ signs(6)
    assert found.p_only_error[-1] == np.mean(test.label * p_part <= 0)
    both = p_part + test.alpha * values[-1][test.ray]
    assert found.both_error[-1] == np.mean(test.label * both <= 0)
    assert found.q_only_error[-1] == 0.5 * (values[-1, 0] <= 0) + 0.25 * (values[-1, 1:] >= 0).sum()


def test_several_blocks_are_one_network(monkeypatch):
    """How the units are cut into blocks changes no more than the rounding of sums."""
    sample = SHORT.draw(0)
    options = {"width_p": 30, "width_q": 100, "seed": 1, "record": [1, 20, 50]}
    for algorithm in ALGORITHMS:
        whole = trajectory(SHORT, sample, algorithm, **options)
        with monkeypatch.context() as patched:
            patched.setattr(networks, "BLOCK_OF_P", 7)
            patched.setattr(networks, "BLOCK_OF_Q", 16)
            parts = trajectory(SHORT, sample, algorithm, **options)
        for name in ("loss", "loss_q_only", "curvature"):
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-9)


@pytest.mark.parametrize("algorithm", ["large_then_small", "small_with_activation_noise"])
def test_the_same_bits_for_any_number_of_threads(algorithm, monkeypatch):
    """Also where the steps of a run are handed out to threads, block by block."""
    monkeypatch.setattr(networks, "BLOCK_OF_P", 31)
    monkeypatch.setattr(networks, "BLOCK_OF_Q", 600)
    sample = SHORT.draw(0)
    runs = []
    for threads, long_step in (("1", 0.0), ("2", 0.0), ("5", 0.0), ("2", np.inf)):
        monkeypatch.setenv("SGDYNAMICS_THREADS", threads)
        monkeypatch.setattr(networks, "LONG_STEP", long_step)
        runs.append(trajectory(SHORT, sample, algorithm, width_p=130, width_q=2000, seed=1))
    for other in runs[1:]:
        assert runs[0].identical(other)


def test_long_steps_are_cut_into_tasks_and_short_ones_are_not():
    sample = DESK.draw(0)
    assert networks._Network(DESK, sample, TwoBlockNetwork(500, 40_000), 0).tasks == 1
    assert networks._Network(DESK, sample, TwoBlockNetwork(1000, 40_000), 0).tasks == 2 + 3


def test_workers_stay_from_round_to_round(monkeypatch):
    monkeypatch.setenv("SGDYNAMICS_THREADS", "2")
    seen = []
    together = threading.Barrier(2, timeout=10)

    def task():
        together.wait()
        seen.append(threading.get_ident())

    def fail():
        raise ArithmeticError

    with workers(5) as run:
        for _ in range(20):
            run([task, task])
        with pytest.raises(ArithmeticError):
            run([fail, fail])
        run([task, task])
    assert len(seen) == 42
    assert len(set(seen)) == 2
    assert threading.get_ident() in seen


def test_overflow_in_another_thread_is_no_warning():
    sample = SHORT.draw(0)
    network = networks._Network(SHORT, sample, TwoBlockNetwork(4, 40), 0)
    step = _units.Step(0.8, 1.0, 0.0, 5e307)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(networks._step, network.of_q[0], np.zeros((3, 2)), step).result()
        pool.submit(networks._step, network.of_p[0], np.full(network.pull.shape, 1e308), step).result()
    assert not np.isfinite(network.of_q[0].output).all()
    assert not np.isfinite(network.of_p[0].output).all()


def test_what_is_recorded_has_no_influence():
    sample = SHORT.draw(0)
    options = {"width_p": 20, "width_q": 100, "seed": 1}
    every = trajectory(SHORT, sample, "small_with_activation_noise", record=np.arange(51), **options)
    last = trajectory(SHORT, sample, "small_with_activation_noise", **options)
    assert every.isel(step=[50]).identical(last)


def test_a_seed_sequence_is_not_used_up():
    sequence = np.random.SeedSequence(7)
    sample = SHORT.draw(sequence)
    first, second = (trajectory(SHORT, sample, "small", width_p=4, width_q=8, seed=sequence) for _ in range(2))
    assert first.identical(second)


# Kernels against plain Python, bit for bit, at sizes with remainders


def test_one_pass_without_noise_has_the_bits_of_two():
    random = np.random.default_rng(0)
    weights, second_layer, rays = random.standard_normal((2, 257)), random.standard_normal(257), DESK.data.rays
    before, output = np.full((3, 257), np.nan), np.full(3, np.nan)
    _units_of_q._look_and_send(weights, rays, second_layer, before, output)
    looked, sent = np.full((3, 257), np.nan), np.full(3, np.nan)
    _units_of_q._look(weights, rays, looked, np.zeros((3, 257)))
    _units_of_q._send(looked, second_layer, sent)
    np.testing.assert_array_equal(before, looked)
    np.testing.assert_array_equal(output, sent)


SIZES = [(1, 1), (3, 2), (5, 17), (9, 40), (4, 101)]


@pytest.mark.parametrize(("units", "examples"), SIZES)
def test_what_is_sent_is_the_sum_in_the_order_of_the_units(units, examples):
    rng = np.random.default_rng(units)
    before, second_layer = rng.standard_normal((units, examples)), rng.standard_normal(units)
    before[0, 0] = 0.0
    expected = []
    for column in before.T:
        total = 0.0
        for weight, value in zip(second_layer.tolist(), column.tolist(), strict=True):
            total += weight * max(value, 0.0)
        expected.append(total)
    active, output = before.copy(), np.full(examples, np.nan)
    _units_of_p._send(active, second_layer, output)
    assert output.tolist() == expected
    assert np.array_equal(active, before >= 0)


def test_what_is_sent_is_not_finite_where_a_pre_activation_is_not():
    before = np.ones((3, 20))
    before[1, 4] = np.nan
    output = np.empty(20)
    _units_of_p._send(before, np.ones(3), output)
    assert np.array_equal(np.isnan(output), np.arange(20) == 4)


@pytest.mark.parametrize(("units", "columns"), SIZES)
def test_a_step_adds_to_every_weight_its_own_normal(units, columns):
    rng = np.random.default_rng(columns)
    half = (columns + 1) // 2
    weights, gradient = rng.standard_normal((units, columns)), rng.standard_normal((columns, units))
    second_layer, deviation = rng.standard_normal(units), rng.standard_normal(columns)
    left, right = rng.standard_normal((2, units * half))
    keep, noise = 0.99, 0.3
    stepped, added = weights.copy(), weights.copy()
    _units_of_p._advance(stepped, gradient, second_layer, keep, noise, left, right)
    _units_of_p._add(added, deviation, left, right)
    for i, j in np.ndindex(weights.shape):
        normal = left[i * half + j] if j < half else right[i * half + j - half]
        assert stepped[i, j] == keep * weights[i, j] - second_layer[i] * gradient[j, i] + noise * normal
        assert added[i, j] == weights[i, j] + deviation[j] * normal


# ---------------------------------------------------------------------------------------------------------------------
# Normals


def test_the_normals_of_many_streams_are_those_of_each():
    key = stream_key(11, Purpose.PATTERNS_Q)
    normals = _units.Normals(key, np.uint64(0), 5, 301)
    single = stream_normals(11, Purpose.PATTERNS_Q, 306, 40)[:, :, 5:]
    for draw in range(40):
        assert np.array_equal(np.stack(normals.draw()), single[draw])


# ---------------------------------------------------------------------------------------------------------------------
# The reference trainer


def two_logit_network(first, second, dimension):
    r"""The two-block network as a plain one: inputs (x1, x2) side by side, outputs (0, f).

    The cross-entropy of the logits (0, f) is log(1 + exp(-y f)) for label +1 as class 1 and -1 as class 0. Weights
    from a pattern to the units that do not see it are zero and not trained; neither is the second layer.
    """
    width_p, width_q = len(first), len(second)
    net = trainer.network([dimension + 2, width_p + width_q, 2], "relu", biases=False, seed=0)
    net.weights[0][:] = 0.0
    net.weights[0][:dimension, :width_p] = first.T
    net.weights[0][dimension:, width_p:] = second.T
    net.weights[1][:, 0] = 0.0
    net.weights[1][:, 1] = np.concatenate([signs(width_p), signs(width_q)])
    seen = np.zeros_like(net.weights[0], dtype=bool)
    seen[:dimension, :width_p] = seen[dimension:, width_p:] = True
    return net, np.concatenate([seen.ravel(), np.zeros(net.weights[1].size, bool)])


@pytest.mark.parametrize("algorithm", ["large_then_small", "small"])
def test_the_trainer_runs_the_same_network(algorithm):
    steps, width_p, width_q, seed = 50, 100, 2000, 9
    setting = SHORT
    sample = setting.draw(2)
    course = setting.training.steps(algorithm)
    assert course.step[-1] == steps
    noise_p, noise_q = weight_normals(seed, width_p, width_q, sample.dimension, steps + 1)
    noise_p *= setting.training.noise_scale_p
    noise_q *= setting.training.noise_scale_q
    net, trained = two_logit_network(noise_p[0], noise_q[0], sample.dimension)
    flat_noise = [
        np.concatenate([two_logit_network(p, q, sample.dimension)[0].weights[0].ravel(), np.zeros(2 * (2100))])
        for p, q in zip(noise_p[1:], noise_q[1:], strict=True)
    ]

    def noisy_step(weights, gradient, rate, state):
        t = state or 0
        keep = 1 - rate * setting.training.weight_decay
        return keep * weights - rate * gradient + float(course.step_noise[t]) * flat_noise[t], t + 1

    inputs = np.hstack([sample.inputs, setting.data.second_inputs(sample)])
    run = trainer.trajectory(
        trainer.Objective(net, inputs, (sample.label + 1) // 2, "cross_entropy", trainable=trained),
        course.step_size.values[:-1],
        update=noisy_step,
        record=np.arange(steps + 1),
        keep_weights=True,
    )
    found = trajectory(
        setting, sample, algorithm, width_p=width_p, width_q=width_q, seed=seed, record=np.arange(steps + 1)
    )
    np.testing.assert_allclose(found.loss, run.loss, rtol=1e-8)
    assert abs(found.loss[-1] - found.loss[0]) > 0.3
    final = net.with_flat(run.final_weights.values).weights[0]
    rays = np.maximum(setting.data.rays @ final[sample.dimension :, width_p:], 0) @ signs(width_q)
    np.testing.assert_allclose(found.ray_output[-1], rays, rtol=1e-8)


def test_the_model_s_step_is_the_trainer_s_gradient():
    """One step without noise, against the exact gradient of the model and of the trainer."""
    sample = SHORT.draw(2)
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((6, sample.dimension)), rng.standard_normal((20, 2))
    shape = TwoBlockNetwork(6, 20)
    net, trained = two_logit_network(first, second, sample.dimension)
    x = np.hstack([sample.inputs, SHORT.data.second_inputs(sample)])
    y = (sample.label + 1) // 2
    assert trainer.loss_value(net, x, y, "cross_entropy") == pytest.approx(
        shape.loss(first, second, sample, SHORT.data), rel=1e-12
    )
    whole = net.with_flat(trainer.Objective(net, x, y, "cross_entropy", trainable=trained).gradient()).weights[0]
    slope_p, slope_q = shape.gradient(first, second, sample, SHORT.data)
    np.testing.assert_allclose(whole[: sample.dimension, :6].T, slope_p, atol=1e-14)
    np.testing.assert_allclose(whole[sample.dimension :, 6:].T, slope_q, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Mini-batches


def test_full_batches_in_the_limit_of_large_ones():
    """Batches of very many draws have hardly any noise, and a tiny start hardly any that is injected."""
    quiet = SHORT.with_training(noise_scale_p=1e-9, noise_scale_q=1e-9, small_rate=0.4, first_time=8.0, second_time=8.0)
    sample = quiet.draw(0)
    options = {"width_p": 40, "width_q": 200, "seed": 1, "record": [0, 10, 20]}
    injected = trajectory(quiet, sample, "large_then_small", **options)
    batches = trajectory(quiet, sample, "large_then_small", batch_size=400_000, **options)
    np.testing.assert_allclose(batches.loss, injected.loss, rtol=5e-3)
    single = trajectory(quiet, sample, "large_then_small", batch_size=1, **options)
    assert abs(single.loss[1] / injected.loss[1] - 1) > 0.01


def test_a_coarse_step_takes_the_batches_of_the_fine_ones_it_stands_for():
    """Steps of 0.8 at rate 0.0008: a thousand times the batch, so that variance times step size is that per time."""
    course = DESK.training.steps("large_then_small")
    batches = Batches(DESK.training, course, 3, 40, seed=0)
    assert set(batches.sizes[:1875]) == {3}
    assert set(batches.sizes[1875:-1]) == {3000}
    weights = np.array([batches.draw(2000) for _ in range(400)])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert abs(weights.var() / (39 / 40**2 / 3000) - 1) < 4 * (2 / 400 / 40) ** 0.5
    assert abs(weights[:, 0].mean() - 1 / 40) < 4 * (39 / 40**2 / 3000 / 400) ** 0.5
    singles = np.array([batches.draw(0) for _ in range(400)])
    np.testing.assert_allclose(np.sort(np.unique(singles)), np.arange(3) / 3, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# What wide networks learn


@functools.cache
def desk_run(algorithm, seed, width):
    course = DESK.training.steps(algorithm)
    record = [course.attrs["switch_step"], course.step[-1]]
    return trajectory(DESK, DESK.draw(seed), algorithm, width_p=500, width_q=width, seed=seed, record=record)


@functools.cache
def reduced_run(algorithm, seed):
    return reduced_dynamics(DESK, DESK.draw(seed), algorithm)


def test_the_output_of_random_weights_is_as_large_at_any_width_and_proportional_to_them():
    """What the reduced model leaves out: a random function that no width makes small, only small weights do."""

    def outputs(scale, width):
        setting = SHORT.with_training(noise_scale_q=scale)
        sample = setting.draw(0)
        runs = [
            trajectory(setting, sample, "small", width_p=2, width_q=width, seed=seed, record=[0]).ray_output[0]
            for seed in range(40)
        ]
        return np.array(runs)

    sizes = {width: np.sqrt(np.mean(outputs(3.0, width) ** 2)) for width in (200, 20_000)}
    # forty runs tell their root mean square to a ninth
    assert max(sizes.values()) < 1.7 * min(sizes.values())
    assert min(sizes.values()) > 3
    np.testing.assert_allclose(outputs(0.3, 200), outputs(3.0, 200) / 10, rtol=1e-12)
    assert not reduced_dynamics(SHORT, SHORT.draw(0), "small").ray_output[0].any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_small_rate_ends_worse_on_p_only_examples(seed):
    large, small = desk_run("large_then_small", seed, 100_000), desk_run("small", seed, 100_000)
    assert small.p_only_error[-1] - large.p_only_error[-1] > 0.015
    for run in (large, small):
        assert run.q_only_error[-1] == 0
        assert run.both_error[-1] == 0
    # the large rate holds Q back until annealing, and has learnt P by then
    assert large.loss_q_only[0] > 0.45 > 0.1 > large.loss_q_only[1]
    assert large.loss_p_only[0] < small.loss_p_only[0]
    assert abs(large.p_only_error[1] - large.p_only_error[0]) < 0.02
    # a lower training loss than the large rate has for all of its phase, and yet the worse test error
    assert small.loss[0] < large.loss[0] - 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_network_follows_the_reduced_model(seed):
    network, reduced = desk_run("large_then_small", seed, 100_000), reduced_run("large_then_small", seed)
    assert abs(network.curvature[-1] / reduced.curvature[-1] - 1) < 0.12
    switch = int(network.attrs["switch_step"])
    assert abs(network.loss_q_only[0] - reduced.loss_q_only.sel(step=switch)) < 0.07


@pytest.mark.slow
def test_the_curvature_of_the_small_rate_grows_with_width_towards_the_reduced_model():
    narrow, wide = (desk_run("small", 0, width).curvature[-1] for width in (100_000, 400_000))
    assert narrow < wide < reduced_run("small", 0).curvature[-1]


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, and divergence


def test_kinds_that_are_missing_have_no_loss():
    data = TwoPatternData(100, p_only=0.0, q_only=0.5, margin=0.0, separation=0.1, amplitude=4.0, alpha_low=1.0)
    found = trajectory(SHORT, data.draw(30, seed=0), "small", width_p=4, width_q=8, seed=0)
    assert "loss_p_only" not in found
    assert np.isfinite(found.loss_q_only).all()


def test_divergence_is_a_result():
    wild = SHORT.with_training(noise_scale_q=1e308)
    found = trajectory(wild, wild.draw(0), "small", width_p=4, width_q=8, seed=0, record=[0, 1, 3])
    assert int(found.divergence_step) == 0
    for name in ("loss", "curvature", "p_only_error", "q_only_error", "both_error", "ray_output"):
        assert (found[name] == np.inf).all(), name


def test_an_unstable_rate_is_refused_and_oscillates_where_it_is_allowed():
    with pytest.raises(ValueError, match="large_rate must be below the stability limit"):
        DESK.with_training(large_rate=3.0)
    bold = TwoPatternSetting(
        DESK.data,
        TwoPatternTraining(3.0, 8e-4, 60.0, 0.0, weight_decay=3e-4, noise_scale_q=0.3),
        400,
        allow_unstable=True,
    )
    found = trajectory(bold, bold.draw(0), "large_then_small", width_p=20, width_q=2000, seed=0, record=[10, 20])
    assert (found.loss_q_only > np.log(2)).all()


def test_arguments_that_do_not_fit_are_named():
    sample = SHORT.draw(0)
    options = {"width_p": 4, "width_q": 8, "seed": 0}
    with pytest.raises(ValueError, match="sample must be of dimension 50"):
        trajectory(SHORT.with_data(dimension=50), sample, "small", **options)
    with pytest.raises(ValueError, match=r"record must be increasing steps in 0\.\.T = 50, got 51"):
        trajectory(SHORT, sample, "small", record=[51], **options)
    with pytest.raises(ValueError, match="width_q must be an even integer"):
        trajectory(SHORT, sample, "small", width_p=4, width_q=7, seed=0)
    lonely = TwoPatternSample(np.ones((1, 100)), [1], [0], [-1], [0.0])
    with pytest.raises(ValueError, match="test must be a sample with examples that carry both"):
        trajectory(SHORT, sample, "small", test=lonely, **options)
