"""Ensembles of mini-batch quadratics against closed forms and recursions written out here, and the laws they obey."""

import functools
import itertools
import math
import threading
import tracemalloc

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant, cosine, ema, linear, swa, two_point
from sgdynamics.simulate import _blocks as blocks
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._streams import Purpose, normal_pair, open_stream, stream_key
from sgdynamics.simulate._vector_math import fma
from sgdynamics.simulate.quadratic import _diagonal as diagonal
from sgdynamics.simulate.quadratic import ensemble

METHODS = ("steps", "jumps")
PLAIN, HEAVY_BALL, NESTEROV = {}, {"momentum": 0.7}, {"momentum": 0.7, "nesterov": True}
UPDATES = {"plain": PLAIN, "heavy ball": HEAVY_BALL, "Nesterov": NESTEROV}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES.keys())
every_method = pytest.mark.parametrize("method", METHODS)


def assert_mean(samples, predicted, detectable=0.01):
    """|z| < 4, in a test that would see a relative error of ``detectable``."""
    error = samples.std(axis=0) / math.sqrt(len(samples))
    assert np.all(4 * error <= detectable * np.abs(predicted))
    assert np.all(np.abs(samples.mean(axis=0) - predicted) < 4 * error)


def assert_variance(samples, predicted, detectable=0.02):
    """|z| < 4 for samples of mean zero, in a test that would see a relative error of ``detectable``."""
    error = predicted * math.sqrt(2 / len(samples))
    assert np.all(4 * error <= detectable * predicted)
    assert np.all(np.abs((samples**2).mean(axis=0) - predicted) < 4 * error)


@pytest.mark.parametrize("wrong", [0.96, 1.04])
def test_the_yardsticks_see_twice_what_they_promise(wrong):
    points = np.random.default_rng(0).standard_normal(100_000)
    assert_variance(points, 1.0)
    assert_mean(5 + points, 5.0)
    with pytest.raises(AssertionError):
        assert_variance(points, wrong)
    with pytest.raises(AssertionError):
        assert_mean(5 + points, 5.0 * wrong**0.5)


# ---------------------------------------------------------------------------------------------------------------------
# The model, written out


def recursion(rates, curvature, deviation, start, normals, momentum=0.0, nesterov=False):
    """x_0..x_T of one mode from the definition of each method, for any shape of start and normals[t]."""
    path = [start]
    velocity, previous = np.zeros_like(start), start
    for rate, normal in zip(rates, normals, strict=True):
        center, point = deviation * normal, path[-1]
        if nesterov:
            ahead = point + momentum * (point - previous)
            new = ahead - rate * curvature * (ahead - center)
        else:
            velocity = momentum * velocity + curvature * (point - center)
            new = point - rate * velocity
        previous = point
        path.append(new)
    return np.array(path)


def linear_form(rates, curvature, deviation, start, update):
    """Mean of x_0..x_T and the weight of every normal in them: the recursion, fed with unit impulses."""
    steps = len(rates)
    mean = recursion(rates, curvature, deviation, np.float64(start), np.zeros(steps), **update)
    weights = recursion(rates, curvature, deviation, np.zeros(steps), np.eye(steps), **update)
    return mean, weights


# ---------------------------------------------------------------------------------------------------------------------
# The same bits as plain Python


@kernel
def fused(a, b, c):
    return fma(a, b, c)


@kernel
def normals_of(key, replica, pair, out):
    """The normals of one stream, one pair after the other."""
    state = open_stream(key, np.uint64(replica), np.uint64(pair))
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1], state = normal_pair(state)


def twin_path(model, rates, seed, replica, update):
    """One replica in plain Python, operation by operation as in the kernel."""
    beta, nesterov = update.get("momentum", 0.0), update.get("nesterov", False)
    error = np.empty((len(rates) + 1, model.modes))
    normals = np.empty((len(rates), 2))
    for mode in range(model.modes):
        h, sigma = float(model.curvature[mode]), math.sqrt(model.batch_center_variance[mode])
        e = float(model.start[mode])
        w = e if nesterov else 0.0
        error[0, mode] = e
        normals_of(stream_key(seed, Purpose.QUADRATIC_STEPS), replica, mode // 2, normals)
        for t, rate in enumerate(map(float, rates)):
            z = normals[t, mode % 2]
            gain = rate * h
            q, b = 1.0 - gain, gain * sigma
            if beta == 0.0:
                e = fused(q, e, b * z)
            elif nesterov:
                e, w = fused((1.0 + beta) * q, e, fused(-beta * q, w, b * z)), e
            else:
                e, w = fused(q, e, fused(-rate * beta, w, b * z)), fused(h, e, fused(beta, w, -h * sigma * z))
            error[t + 1, mode] = e
    return error


@every_update
@pytest.mark.parametrize("modes", [1, 2, 7, 300])
def test_every_step_has_the_bits_of_its_twin(update, modes):
    """However many lanes: fewer than a vector, an odd number of modes, more pairs than run abreast."""
    generator = np.random.default_rng(modes)
    curvature, variance, displacement = generator.uniform(0.1, 3.0, (3, modes)) * [[1.0], [1.0], [-1.0]]
    model = MiniBatchQuadratic(curvature, variance, displacement=displacement, batch_size=3)
    rates = cosine(0.6, 12)
    runs = ensemble(model, rates, replicas=71, seed=9, record=np.arange(13), **update)
    for replica in (0, 5, 63, 64, 70):
        assert np.array_equal(runs.error.sel(replica=replica), twin_path(model, rates, 9, replica, update))


def twin_jumps(model, rates, seed, replica, record, update):
    """One replica by jumps: the weights of all normals of a jump in the state after it, turned to be triangular."""
    beta, nesterov = update.get("momentum", 0.0), update.get("nesterov", False)
    error = np.empty((len(record), model.modes))
    normals = np.empty((2 * len(record), 2))
    for mode in range(model.modes):
        h, sigma = float(model.curvature[mode]), math.sqrt(model.batch_center_variance[mode])
        state = np.array([model.start[mode], model.start[mode] if nesterov else 0.0])
        normals_of(stream_key(seed, Purpose.QUADRATIC_JUMPS), replica, mode // 2, normals)
        t = 0
        for at, step in enumerate(record):
            whole, columns = np.eye(2), []
            while t < step:
                rate = float(rates[t])
                q = 1 - rate * h
                if nesterov:
                    matrix, inlet = np.array([[(1 + beta) * q, -beta * q], [1, 0]]), np.array([rate * h * sigma, 0])
                else:
                    matrix, inlet = np.array([[q, -rate * beta], [h, beta]]), np.array([rate, -1]) * h * sigma
                whole = matrix @ whole
                columns = [matrix @ column for column in columns] + [inlet]
                t += 1
            upper = np.linalg.qr(np.array([[0.0, 0.0], [0.0, 0.0], *columns]), mode="r")
            root = (np.where(np.diag(upper) < 0, -1.0, 1.0)[:, None] * upper).T
            state = whole @ state + root @ normals[2 * at : 2 * at + 2, mode % 2]
            error[at, mode] = state[0]
    return error


@every_update
@pytest.mark.parametrize("modes", [1, 2, 7, 300])
def test_every_jump_is_that_of_its_twin(update, modes):
    generator = np.random.default_rng(modes)
    curvature, variance, displacement = generator.uniform(0.1, 2.0, (3, modes)) * [[1.0], [1.0], [-1.0]]
    model = MiniBatchQuadratic(curvature, variance, displacement=displacement, batch_size=3)
    rates, record = cosine(0.6, 12), [0, 3, 4, 12]
    runs = ensemble(model, rates, replicas=71, seed=9, record=record, method="jumps", **update)
    for replica in (0, 64, 70):
        twin = twin_jumps(model, rates, 9, replica, record, update)
        np.testing.assert_allclose(runs.error.sel(replica=replica), twin, rtol=0, atol=1e-12)


def test_jumps_keep_what_squares_would_lose():
    # deviations near the ends of the range of floats, whose squares are none
    model = MiniBatchQuadratic([1.0, 1.0], 1.0, displacement=0.0)
    still, *scaled = (
        ensemble(with_fields(model, center_variance=scale**2), [0.5] * 4, replicas=9, seed=1, method="jumps").error
        for scale in (1.0, 2.0**-500, 2.0**500)
    )
    assert np.array_equal(scaled[0], still * 2.0**-500)
    assert np.array_equal(scaled[1], still * 2.0**500)
    growing = ensemble(model, [2.0**120] * 5, replicas=9, seed=1, method="jumps").error  # about 2^600, squared 2^1200
    assert np.isfinite(growing).all()
    assert (np.abs(growing) > 2.0**550).all()


# ---------------------------------------------------------------------------------------------------------------------
# Closed forms

REPLICAS = 100_000
GAINS = np.array([0.2, 0.5, 1.0, 1.5, 1.8])


def samples(steps, method, seed, replicas=REPLICAS, gains=GAINS, **options):
    """Points after ``steps`` steps from the minimiser, one column per gain, in units of the center's deviation."""
    model = MiniBatchQuadratic(gains / 0.1, 4.0, batch_size=16)
    runs = ensemble(model, constant(0.1, steps), replicas=replicas, seed=seed, method=method, **options)
    return runs.error.isel(step=0).values / 0.5


@every_method
def test_stationary_variance(method):
    assert_variance(samples(60, method, 1), GAINS / (2 - GAINS))


@every_method
def test_stationary_points_are_gaussian(method):
    points = samples(60, method, 2) / np.sqrt(GAINS / (2 - GAINS))
    fourth = (points**4).mean(axis=0)
    assert np.all(np.abs(fourth - 3) < 4 * math.sqrt(96 / REPLICAS))
    assert np.all(np.abs(np.corrcoef(points.T) - np.eye(GAINS.size)) < 4 / math.sqrt(REPLICAS))


@every_method
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_variance_of_the_moving_average(method, beta):
    a = 1 - GAINS
    predicted = GAINS / (2 - GAINS) * (1 - beta) * (1 + a * beta) / ((1 + beta) * (1 - a * beta))
    assert_variance(samples(120, method, 3, average=ema(beta, 120)), predicted)


@every_method
@pytest.mark.parametrize("separation", [1, 5, 40])
def test_variance_of_the_midpoint(method, separation):
    predicted = GAINS / (2 - GAINS) * (1 + (1 - GAINS) ** separation) / 2
    assert_variance(samples(100, method, 4, average=two_point(100, separation)), predicted)


@every_method
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_stationary_variance_of_heavy_ball(method, beta):
    # AR(2): e_t = (1 + beta - g) e_{t-1} - beta e_{t-2} + g xi
    predicted = GAINS * (1 + beta) / ((1 - beta) * (2 * (1 + beta) - GAINS))
    assert_variance(samples(150, method, 5, momentum=beta), predicted)


@every_method
@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_stationary_variance_of_nesterov(method, beta):
    # AR(2): e_t = (1 + beta) q e_{t-1} - beta q e_{t-2} + g xi, stable for g < 2 (1 + beta)/(1 + 2 beta)
    gains = GAINS[:3]
    q = 1 - gains
    predicted = gains * (1 + beta * q) / ((1 - beta * q) * (1 + q + 2 * beta * q))
    assert_variance(samples(150, method, 6, gains=gains, momentum=beta, nesterov=True), predicted)


@every_method
def test_the_mean_decays_geometrically(method):
    gains, steps, start = np.array([0.05, 0.3, 1.7]), 6, 3.0
    model = MiniBatchQuadratic(gains, 1e-3, displacement=start)
    runs = ensemble(model, constant(1.0, steps), replicas=20_000, seed=7, record=[0, 1, 3, 6], method=method)
    for step in (1, 3, 6):
        assert_mean(runs.error.sel(step=step).values, start * (1 - gains) ** step)
    assert np.all(runs.error.sel(step=0) == start)


@every_method
def test_excess_risk_of_the_noisy_quadratic_model(method):
    # stationary: (1/2B) sum g/(2-g), each squared Gaussian with relative variance 2
    model = MiniBatchQuadratic([1.0, 0.5], [1.0, 2.0], batch_size=4, multiplicity=[1.0, 3.0])
    runs = ensemble(model, constant(0.8, 60), replicas=REPLICAS, seed=8, method=method)
    assert_mean(runs.excess_risk.values[:, 0], (0.8 / 1.2 + 3 * 0.4 / 1.6) / 8, detectable=0.02)


@every_method
@every_update
@pytest.mark.parametrize("rates", [cosine(0.9, 12), linear(0.1, 12, final=1.2)], ids=["cosine", "warm-up"])
def test_joint_law_of_the_recorded_points(method, update, rates):
    curvature, variance, start, record = np.array([0.4, 1.0, 1.9]), 4.0, 2.0, [0, 1, 2, 5, 12]
    model = MiniBatchQuadratic(curvature, variance, displacement=start, batch_size=2)
    runs = ensemble(model, rates, replicas=REPLICAS, seed=10, record=record, method=method, **update)
    for mode, h in enumerate(curvature):
        mean, weights = linear_form(rates, h, math.sqrt(variance / 2), start, update)
        covariance = (weights @ weights.T)[np.ix_(record, record)]
        points = runs.error.isel(mode=mode).values - mean[record]
        assert np.all(points[:, 0] == 0)
        covariance, points = covariance[1:, 1:], points[:, 1:]
        spread = np.sqrt(np.diag(covariance))
        assert np.all(np.abs(points.mean(axis=0)) < 4 * spread / math.sqrt(REPLICAS))
        deviation = np.sqrt((np.outer(spread, spread) ** 2 + covariance**2) / REPLICAS)
        assert np.all(np.abs(points.T @ points / REPLICAS - covariance) < 4 * deviation)


@every_method
@every_update
@pytest.mark.parametrize("weights", [ema(0.8, 12), swa(12, 4), two_point(12, 5)], ids=["ema", "swa", "two points"])
def test_law_of_the_averaged_point(method, update, weights):
    rates, curvature, variance, start = cosine(0.9, 12, final=0.3), np.array([0.4, 1.0, 1.9]), 0.5, 0.7
    model = MiniBatchQuadratic(curvature, variance, displacement=start)
    runs = ensemble(model, rates, replicas=REPLICAS, seed=11, average=weights, method=method, **update)
    assert runs.step.values.tolist() == [12]
    for mode, h in enumerate(curvature):
        mean, paths = linear_form(rates, h, math.sqrt(variance), start, update)
        points = runs.error.isel(mode=mode, step=0).values - weights @ mean
        predicted = np.sum((weights @ paths) ** 2)
        assert abs(points.mean()) < 4 * math.sqrt(predicted / REPLICAS)
        assert_variance(points, predicted)


# ---------------------------------------------------------------------------------------------------------------------
# Laws that hold path by path


@st.composite
def problems(draw):
    """Stable models and schedules of every kind."""
    count, steps = draw(st.integers(1, 5)), draw(st.integers(1, 20))
    finite = {"allow_subnormal": False}
    model = MiniBatchQuadratic(
        draw(arrays.arrays(float, count, elements=st.floats(0.01, 2.0, **finite))),
        draw(arrays.arrays(float, count, elements=st.floats(0.01, 10.0, **finite))),
        displacement=draw(arrays.arrays(float, count, elements=st.floats(-3, 3).map(lambda x: round(x, 3)))),
        batch_size=draw(st.integers(1, 64)),
    )
    rates = draw(arrays.arrays(float, steps, elements=st.floats(0.01, 1.0, **finite)))
    update = {"momentum": draw(st.sampled_from([0.0, 0.5, 0.9])), "nesterov": draw(st.booleans())}
    return model, rates, update, draw(st.integers(0, 2**32))


def with_fields(model, **changed):
    fields = {name: getattr(model, name) for name in MiniBatchQuadratic.domains}
    return MiniBatchQuadratic(**{**fields, **changed})


few = settings(max_examples=30, deadline=None)


@few
@given(problems(), st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True), st.sampled_from(METHODS))
def test_a_replica_is_the_same_in_any_company(problem, chosen, method):
    model, rates, update, seed = problem
    full = ensemble(model, rates, replicas=201, seed=seed, method=method, **update)
    part = ensemble(model, rates, replicas=chosen, seed=seed, method=method, **update)
    assert part.identical(full.sel(replica=chosen))


@few
@given(problems(), st.data())
def test_a_step_is_the_same_whatever_else_is_recorded(problem, data):
    model, rates, update, seed = problem
    every = ensemble(model, rates, replicas=3, seed=seed, record=np.arange(rates.size + 1), **update)
    record = sorted(data.draw(st.sets(st.integers(0, rates.size), min_size=1)))
    assert ensemble(model, rates, replicas=3, seed=seed, record=record, **update).identical(every.sel(step=record))
    last = ensemble(model, rates, replicas=3, seed=seed, **update)
    assert last.identical(every.sel(step=[rates.size]))


@few
@given(problems(), st.data())
def test_a_run_does_not_know_the_future_of_its_schedule(problem, data):
    model, rates, update, seed = problem
    stop = data.draw(st.integers(1, rates.size))
    full = ensemble(model, rates, replicas=3, seed=seed, record=[stop], **update)
    assert ensemble(model, rates[:stop], replicas=3, seed=seed, **update).identical(full)


@few
@given(problems(), st.sampled_from(METHODS))
def test_doubling_deviation_and_displacement_doubles_the_error_exactly(problem, method):
    model, rates, update, seed = problem
    double = with_fields(model, center_variance=4 * model.center_variance, displacement=2 * model.displacement)
    one, two = (ensemble(m, rates, replicas=3, seed=seed, method=method, **update) for m in (model, double))
    assert np.array_equal(two.error, 2 * one.error)
    assert np.array_equal(two.excess_risk, 4 * one.excess_risk)


@few
@given(problems(), st.sampled_from(METHODS))
def test_the_error_is_the_free_decay_plus_the_noise(problem, method):
    model, rates, update, seed = problem
    still, silent = with_fields(model, displacement=0.0), with_fields(model, center_variance=0.0)
    both, noise, decay = (
        ensemble(m, rates, replicas=3, seed=seed, method=method, **update).error for m in (model, still, silent)
    )
    scale = np.abs(noise).max() + np.abs(model.start).max()
    assert np.abs(both - noise - decay).max() <= 1e-12 * scale
    for mode in range(model.modes):
        alone, _ = linear_form(rates, model.curvature[mode], 0.0, model.start[mode], update)
        assert np.abs(decay.isel(mode=mode) - alone[-1]).max() <= 1e-12 * np.abs(alone).max()


@few
@given(problems(), st.floats(-5, 5))
def test_two_starts_with_the_same_batches_contract_exactly(problem, shift):
    model, rates, _, seed = problem
    moved = with_fields(model, displacement=model.displacement + shift)
    one, two = (ensemble(m, rates, replicas=3, seed=seed).error for m in (model, moved))
    contraction = np.prod(1 - np.outer(rates, model.curvature), axis=0)
    scale = np.abs(one).max() + np.abs(two).max() + abs(shift)
    assert np.abs(two - one - shift * contraction).max() <= 1e-12 * scale


@few
@given(problems(), st.sampled_from(METHODS))
def test_no_momentum_is_plain_sgd_by_every_name(problem, method):
    model, rates, _, seed = problem
    plain, ball, nesterov = (
        ensemble(model, rates, replicas=3, seed=seed, method=method, **options)
        for options in ({}, {"momentum": 0.0}, {"momentum": 0.0, "nesterov": True})
    )
    assert np.array_equal(plain.error, ball.error)
    assert np.array_equal(plain.error, nesterov.error)


@few
@given(problems(), st.booleans())
def test_jumps_meet_the_same_noise_with_and_without_momentum(problem, nesterov):
    model, rates, _, seed = problem
    options = {"replicas": 3, "seed": seed, "method": "jumps", "record": np.arange(rates.size + 1)}
    plain = ensemble(model, rates, **options)
    hardly = ensemble(model, rates, momentum=1e-30, nesterov=nesterov, **options)
    assert np.abs(plain.error - hardly.error).max() <= 1e-12 * np.abs(plain.error).max()


@few
@given(problems(), st.data())
def test_the_averaged_point_is_the_average_of_the_points(problem, data):
    model, rates, update, seed = problem
    weights = data.draw(arrays.arrays(float, rates.size + 1, elements=st.floats(0.125, 1)))
    weights /= weights.sum()
    path = ensemble(model, rates, replicas=3, seed=seed, record=np.arange(rates.size + 1), **update).error
    point = ensemble(model, rates, replicas=3, seed=seed, average=weights, **update).error
    assert point.dims == ("replica", "step", "mode")
    expected = np.einsum("s,rsm->rm", weights, path)
    assert np.abs(point.values[:, 0] - expected).max() <= 1e-13 * np.abs(path).max()


@few
@given(problems(), st.sampled_from(METHODS))
def test_excess_risk_is_the_model_s(problem, method):
    model, rates, update, seed = problem
    model = with_fields(model, multiplicity=np.arange(1.0, model.modes + 1))
    runs = ensemble(model, rates, replicas=3, seed=seed, method=method, **update)
    np.testing.assert_allclose(runs.excess_risk, model.excess_risk(runs.error.values), rtol=1e-13)


@few
@given(problems(), st.sampled_from(METHODS))
def test_what_the_model_holds_elsewhere_leaves_a_mode_alone(problem, method):
    model, rates, update, seed = problem
    fields = {name: getattr(model, name)[: model.modes - 1 or 1] for name in ("curvature", "center_variance")}
    fields["displacement"] = model.displacement[: fields["curvature"].size]
    fewer = MiniBatchQuadratic(**fields, batch_size=model.batch_size)
    one, two = (ensemble(m, rates, replicas=3, seed=seed, method=method, **update).error for m in (model, fewer))
    assert np.array_equal(one[..., : fewer.modes], two)


def test_no_noise_needs_no_luck():
    model = MiniBatchQuadratic([1.0, 0.5], 0.0, displacement=[1.0, 2.0])
    for method in METHODS:
        runs = ensemble(model, [0.5, 0.5], replicas=4, seed=0, method=method)
        assert np.array_equal(runs.error[:, 0], np.tile([0.25, 1.125], (4, 1)))


def test_the_two_methods_draw_different_numbers():
    model = MiniBatchQuadratic(np.ones(2), 1.0)
    one, two = (ensemble(model, [1.0], replicas=10_000, seed=3, method=method).error.values for method in METHODS)
    assert abs((one * two).mean()) < 4 / math.sqrt(one.size)


# ---------------------------------------------------------------------------------------------------------------------
# Threads


@few
@given(problems(), st.sampled_from(METHODS))
def test_the_number_of_threads_does_not_show(problem, method):
    model, rates, update, seed = problem
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for threads in (1, 2, 5):
            patch.setenv("SGDYNAMICS_THREADS", str(threads))
            results.append(ensemble(model, rates, replicas=400, seed=seed, method=method, **update))
    assert results[0].identical(results[1])
    assert results[0].identical(results[2])


def test_threads_run_side_by_side(monkeypatch):
    names, meeting, run = set(), threading.Barrier(3), diagonal.run_steps

    def watched(*args, **kwargs):
        meeting.wait(timeout=30)  # passes only when three threads are in here at once
        names.add(threading.current_thread().name)
        run(*args, **kwargs)

    model, replicas = MiniBatchQuadratic([1.0], 1.0), 6 * diagonal.BLOCK
    expected = ensemble(model, constant(0.1, 10), replicas=replicas, seed=0)
    monkeypatch.setattr(diagonal, "run_steps", watched)
    monkeypatch.setenv("SGDYNAMICS_THREADS", "3")
    assert ensemble(model, constant(0.1, 10), replicas=replicas, seed=0).identical(expected)
    assert names == {"sgdynamics_0", "sgdynamics_1", threading.current_thread().name}


def test_one_thread_is_the_caller_s():
    names = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGDYNAMICS_THREADS", "1")
        blocks.run_all([lambda: names.append(threading.current_thread())] * 3)
    assert names == [threading.current_thread()] * 3


@pytest.mark.parametrize("threads", ["1", "4"])
def test_an_error_in_a_task_is_raised_and_drops_the_rest(monkeypatch, threads):
    monkeypatch.setenv("SGDYNAMICS_THREADS", threads)
    done, gate = [], threading.Event()

    def fail():
        raise ZeroDivisionError("the first")

    def work():
        gate.wait(timeout=0.01)
        done.append(1)

    with pytest.raises(ZeroDivisionError, match="the first"):
        blocks.run_all([fail, *[work] * 1000])
    assert len(done) < 1000


@pytest.mark.parametrize("kind", [ArithmeticError, KeyboardInterrupt])
def test_of_several_errors_the_first_in_order_is_raised(monkeypatch, kind):
    monkeypatch.setenv("SGDYNAMICS_THREADS", "2")
    both, done = threading.Barrier(2, timeout=30), []

    def fail(text):
        both.wait()  # passes when the two have begun
        raise kind(text)

    with pytest.raises(kind, match="one"):
        blocks.run_all([functools.partial(fail, text) for text in ("one", "two")] + [lambda: done.append(1)])
    assert not done


def test_thread_count(monkeypatch):
    monkeypatch.delenv("SGDYNAMICS_THREADS", raising=False)
    assert blocks.thread_count() >= 1
    monkeypatch.setenv("SGDYNAMICS_THREADS", " 7 ")
    assert blocks.thread_count() == 7
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("SGDYNAMICS_THREADS", wrong)
        with pytest.raises(ValueError, match=f"SGDYNAMICS_THREADS must be an integer >= 1, got '{wrong}'"):
            blocks.thread_count()


# ---------------------------------------------------------------------------------------------------------------------
# Sweeps


def swept(name, values):
    return xr.DataArray(values, dims=name, coords={name: values})


def test_a_sweep_is_its_cells():
    rate, momentum = swept("learning_rate", [0.1, 0.5, 2.5]), swept("momentum", [0.0, 0.6])
    batch_size = swept("batch_size", [1, 8])
    model = MiniBatchQuadratic([1.0, 0.4, 0.2], 1.0, displacement=1.0, batch_size=batch_size)
    options = {"replicas": 130, "seed": 4, "record": [0, 3, 10]}
    for method in METHODS:
        runs = ensemble(model, constant(rate, 10), momentum=momentum, method=method, **options)
        assert runs.error.dims == ("learning_rate", "momentum", "batch_size", "replica", "step", "mode")
        assert runs.excess_risk.dims == runs.error.dims[:-1]
        for eta, beta, size in itertools.product(rate.values, momentum.values, batch_size.values):
            alone = MiniBatchQuadratic([1.0, 0.4, 0.2], 1.0, displacement=1.0, batch_size=size)
            cell = ensemble(alone, constant(eta, 10), momentum=beta, method=method, **options)
            chosen = runs.sel(learning_rate=eta, momentum=beta, batch_size=size, drop=True)
            assert chosen.identical(cell)


def test_averages_are_swept_too():
    beta, model = swept("beta", [0.0, 0.5, 0.9]), MiniBatchQuadratic([1.0], 1.0, displacement=1.0)
    for method in METHODS:
        runs = ensemble(model, constant(0.3, 9), replicas=5, seed=1, average=ema(beta, 9), method=method)
        assert runs.error.dims == ("beta", "replica", "step", "mode")
        for value in beta.values:
            cell = ensemble(model, constant(0.3, 9), replicas=5, seed=1, average=ema(value, 9), method=method)
            assert runs.sel(beta=value, drop=True).identical(cell)


def test_every_cell_of_a_sweep_meets_the_same_batches():
    # at gain 1 a run jumps to the center of its last batch
    rates = xr.DataArray([[0.3, 0.7, 1.0], [0.0, 1.9, 1.0]], dims=["schedule", "step"])
    runs = ensemble(MiniBatchQuadratic([1.0, 1.0], 1.0, displacement=7.0), rates, replicas=9, seed=2)
    assert np.array_equal(runs.error[0], runs.error[1])


def test_labels_of_modes_are_kept():
    curvature = xr.DataArray([1.0, 0.5], dims="mode", coords={"mode": ["stiff", "soft"]})
    runs = ensemble(MiniBatchQuadratic(curvature, 1.0), constant(0.1, 4), replicas=2, seed=0)
    assert runs.mode.values.tolist() == ["stiff", "soft"]


@pytest.mark.parametrize("lazy", ["schedule", "curvature", "batch_size", "momentum", "average"])
@every_method
def test_lazy_arguments_stay_lazy(lazy, method, monkeypatch):
    dims = {"schedule": "rate", "curvature": "case", "batch_size": "size", "momentum": "beta", "average": "decay"}
    given = {
        "schedule": constant(swept("rate", [0.1, 0.2, 0.3]), 8),
        "curvature": xr.DataArray([[1.0, 0.5], [0.1, 0.2], [2.0, 1.0]], dims=["case", "mode"]),
        "batch_size": swept("size", [1, 2, 3]),
        "momentum": swept("beta", [0.0, 0.3, 0.5]),
        "average": ema(swept("decay", [0.0, 0.5, 0.9]), 8),
    }

    def run(values):
        if lazy != "average":  # one swept dim is enough
            values = {**values, "average": None}
        model = MiniBatchQuadratic(values["curvature"], 1.0, displacement=1.0, batch_size=values["batch_size"])
        options = {"momentum": values["momentum"], "average": values["average"], "method": method}
        return ensemble(model, values["schedule"], replicas=4, seed=5, **options)

    expected = run(given)
    with monkeypatch.context() as patch:
        patch.setattr(diagonal, "run_all", lambda tasks: pytest.fail("computed too early"))
        result = run({**given, lazy: given[lazy].chunk({dims[lazy]: 1})})
        assert result.error.chunks is not None
        assert result.excess_risk.chunks is not None
        assert result.error.dims == expected.error.dims
    assert result.compute(scheduler="synchronous").identical(expected)
    assert result.compute(scheduler="threads", num_workers=2).identical(expected)


def test_lazy_values_outside_their_range_are_found_when_computed():
    rates = (constant(swept("rate", [0.4, 0.6]), 8) - 0.5).chunk(rate=1) * swept("sign", [-1.0])
    runs = ensemble(MiniBatchQuadratic([1.0], 1.0), rates, replicas=2, seed=0)
    with pytest.raises(ValueError, match="ensemble: schedule must be a schedule: finite learning rates >= 0"):
        runs.compute(scheduler="synchronous")


@pytest.mark.slow
def test_other_processes_compute_the_same_bits():
    distributed = pytest.importorskip("distributed")
    rates = constant(swept("rate", [0.1, 0.2, 0.3, 0.4]), 20)
    model = MiniBatchQuadratic([1.0, 0.5], 1.0, displacement=1.0)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        for method in METHODS:
            expected = ensemble(model, rates, replicas=200, seed=6, momentum=0.5, method=method)
            lazy = ensemble(model, rates.chunk(rate=1), replicas=200, seed=6, momentum=0.5, method=method)
            assert lazy.compute().identical(expected)


# ---------------------------------------------------------------------------------------------------------------------
# Results


@every_method
def test_parts_of_an_ensemble_join_to_the_whole(method):
    model, rates = MiniBatchQuadratic([1.0, 0.1, 0.3], 1.0, displacement=1.0), cosine(0.5, 30)
    whole, first, rest = (
        ensemble(model, rates, replicas=replicas, seed=1, record=[3, 30], method=method)
        for replicas in (997, np.arange(332), np.arange(332, 997))
    )
    assert xr.concat([first, rest], "replica").identical(whole)


def test_a_result_says_what_it_is():
    runs = ensemble(MiniBatchQuadratic([1.0, 0.5], 1.0), constant(0.1, 5), replicas=[4, 2], seed=12, record=[0, 5])
    assert runs.error.dims == ("replica", "step", "mode")
    assert runs.excess_risk.dims == ("replica", "step")
    assert runs.replica.values.tolist() == [4, 2]
    assert runs.step.values.tolist() == [0, 5]
    assert runs.step.dtype == np.int64
    assert runs.attrs["seed"] == "12"
    for part in (runs, *runs.variables.values()):
        assert all(isinstance(value, str | float) for value in part.attrs.values())
    assert all({"long_name", "units"} <= set(part.attrs) for part in runs.variables.values())


def test_results_survive_netcdf(tmp_path):
    seed = np.random.SeedSequence(2**70).spawn(3)[2]
    rates = constant(swept("learning_rate", [0.1, 5.0]), 2000)
    runs = ensemble(MiniBatchQuadratic([1.0, 0.5], 1.0), rates, replicas=3, seed=seed, record=[0, 2000])
    assert np.isinf(runs.error).any()
    runs.to_netcdf(tmp_path / "runs.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "runs.nc", engine="h5netcdf") as again:
        assert again.load().identical(runs)


@every_method
@every_update
@pytest.mark.parametrize("average", [None, swa(5000, 4000)], ids=["last", "averaged"])
def test_divergence_is_infinite_and_stays_so(method, update, average):
    model = MiniBatchQuadratic([5.0, 0.1], 1.0, displacement=1.0)
    rates = np.concatenate([constant(1.0, 4000), constant(0.1, 1000)])  # gain 5, then 1/2
    record = [1, 4000, 5000] if average is None else None
    runs = ensemble(model, rates, replicas=5, seed=0, record=record, method=method, average=average, **update)
    assert not np.isnan(runs.error).any()
    assert not np.isnan(runs.excess_risk).any()
    late = runs.sel(step=[5000])
    assert np.isinf(late.error[..., 0]).all()
    assert np.isfinite(late.error[..., 1]).all()
    assert (late.excess_risk == np.inf).all()
    if average is None:
        assert np.isfinite(runs.excess_risk.sel(step=1)).all()


@every_method
def test_an_average_that_leaves_the_diverged_end_out_is_finite(method):
    model, weights = MiniBatchQuadratic([5.0], 1.0, displacement=1.0), np.zeros(3001)
    weights[:2] = 0.5
    runs = ensemble(model, constant(1.0, 3000), replicas=5, seed=0, average=weights, method=method)
    assert np.isfinite(runs.error).all()


def peak_memory(steps, **options):
    model, rates = MiniBatchQuadratic([1.0, 0.3], 1.0), constant(0.1, steps)
    tracemalloc.start()
    try:
        ensemble(model, rates, replicas=4, seed=0, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@every_method
@pytest.mark.parametrize("record", [None, [10, 500, 1000]])
def test_unrecorded_steps_need_no_memory(method, record):
    peak_memory(100, method=method)
    short, long = (peak_memory(steps, method=method, record=record) for steps in (10**3, 10**5))
    assert abs(long - short) < 2**20


# ---------------------------------------------------------------------------------------------------------------------
# Garbage

MODEL = MiniBatchQuadratic([1.0, 0.5], 1.0)
GOOD = {"model": MODEL, "schedule": np.full(5, 0.1), "replicas": 3, "seed": 0}
GARBAGE = [
    ({"model": [1.0, 0.5]}, TypeError, "model must be a MiniBatchQuadratic"),
    ({"schedule": 0.1}, TypeError, "schedule must be a schedule: finite learning rates >= 0"),
    ({"schedule": []}, ValueError, "schedule must be a schedule"),
    ({"schedule": [0.1, -0.1]}, ValueError, "schedule must be a schedule.*got -0.1 at index"),
    ({"schedule": [0.1, np.nan]}, ValueError, "schedule must be a schedule.*got nan"),
    ({"schedule": [0.1, np.inf]}, ValueError, "schedule must be a schedule.*got inf"),
    ({"schedule": np.full((2, 5), 0.1)}, ValueError, r"schedule must be 1-D or a DataArray, got shape \(2, 5\)"),
    ({"schedule": xr.DataArray(np.ones(5), dims="time")}, ValueError, "a DataArray with a dim 'step'"),
    ({"schedule": xr.DataArray(np.ones((2, 5)), dims=["mode", "step"])}, ValueError, "schedule must be swept over"),
    ({"replicas": 0}, ValueError, "replicas must be a count >= 1"),
    ({"replicas": []}, ValueError, "replicas must be"),
    ({"replicas": [1, 1]}, ValueError, "replicas must be.*distinct"),
    ({"replicas": [-1]}, ValueError, "replicas must be.*>= 0"),
    ({"replicas": [0.5]}, ValueError, "replicas must be"),
    ({"seed": -1}, ValueError, "seed must be an integer >= 0 or a numpy SeedSequence, got -1"),
    ({"seed": "seven"}, TypeError, "seed must be"),
    ({"seed": None}, TypeError, "seed must be"),
    ({"record": [6]}, ValueError, r"record must be increasing steps in 0\.\.T = 5, got 6"),
    ({"record": [3, 2]}, ValueError, "record must be None or an increasing"),
    ({"record": [2, 2]}, ValueError, "record must be None or an increasing"),
    ({"record": []}, ValueError, "record must be None or an increasing"),
    ({"record": 5}, ValueError, "record must be None or an increasing"),
    ({"average": np.full(5, 0.2)}, ValueError, r"average must be 6 weights over x_0\.\.x_T, T = 5, got 5"),
    ({"average": np.full(6, 0.2)}, ValueError, "average must be.*sum to 1, got weights that sum to"),
    ({"average": [np.nan] * 6}, ValueError, "average must be"),
    ({"average": np.full((2, 6), 1 / 6)}, ValueError, "average must be 1-D or a DataArray"),
    ({"average": np.full(6, 1 / 6), "record": [4, 5]}, ValueError, r"record must be None or \[5\] with an average"),
    ({"momentum": 1.0}, ValueError, r"momentum must be a number in \[0, 1\), got 1.0"),
    ({"momentum": -0.1}, ValueError, "momentum must be"),
    ({"momentum": np.nan}, ValueError, "momentum must be"),
    ({"momentum": [0.1, 0.2]}, ValueError, "momentum must be a number or a DataArray"),
    ({"momentum": xr.DataArray([0.1, 0.2], dims="step")}, ValueError, "momentum must be swept over dims other than"),
    ({"nesterov": 1}, TypeError, "nesterov must be True or False"),
    ({"method": "leaps"}, ValueError, "method must be one of 'steps', 'jumps', got 'leaps'"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), GARBAGE)
def test_garbage_is_named(wrong, error, message):
    with pytest.raises(error, match=message):
        ensemble(**{**GOOD, **wrong})


def test_a_model_with_reserved_dims_is_refused():
    model = MiniBatchQuadratic(xr.DataArray([1.0, 2.0], dims="replica"), 1.0)
    with pytest.raises(ValueError, match="model must be swept over dims other than"):
        ensemble(model, [0.1], replicas=2, seed=0)


def test_arguments_are_left_as_they_were():
    rates, record, replicas = constant(0.1, 5), np.array([2, 5]), np.array([3, 1])
    for array in (rates, record, replicas):
        array.flags.writeable = False
    ensemble(MODEL, rates, replicas=replicas, seed=0, record=record)
    assert np.array_equal(rates, constant(0.1, 5))
