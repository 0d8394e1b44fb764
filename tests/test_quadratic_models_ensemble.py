"""Ensembles of coupled and random quadratics against twins in plain Python, exact recursions and their laws."""

import itertools
import math
import pickle
import tracemalloc

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from test_streams import reference_words

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares
from sgdynamics.models.schedules import constant, cosine, swa
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._streams import Purpose, box_muller, open_stream, stream_key, whole_number
from sgdynamics.simulate.quadratic import _coupled as coupled
from sgdynamics.simulate.quadratic import ensemble, top_lyapunov_exponent
from sgdynamics.simulate.quadratic._problems import problem_of

PLAIN, HEAVY_BALL, NESTEROV = {}, {"momentum": 0.6}, {"momentum": 0.6, "nesterov": True}
UPDATES = {"plain": PLAIN, "heavy ball": HEAVY_BALL, "Nesterov": NESTEROV}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES.keys())

HESSIAN = np.array([[1.0, 0.4, 0.0], [0.4, 0.8, -0.3], [0.0, -0.3, 1.5]])
SINGULAR = np.outer([1.0, -0.5, 2.0], [1.0, -0.5, 2.0])
SCATTER = np.random.default_rng(0).standard_normal((5, 3, 2))
HESSIANS = 0.5 * SCATTER @ SCATTER.transpose(0, 2, 1)
CENTERS = np.random.default_rng(1).standard_normal((5, 3))

FULL = FullQuadratic(HESSIAN, SINGULAR, displacement=[1.0, -1.0, 0.5], batch_size=2)
LEAST_SQUARES = GaussianLeastSquares([1.0, 0.6, 0.3, 0.1], 0.2, displacement=[1.0, 0.5, -1.0, 2.0], batch_size=3)
FINITE_SUMS = {
    "replacement": FiniteSumQuadratic(HESSIANS, CENTERS, displacement=0.5, batch_size=2, sampling="replacement"),
    "noise": FiniteSumQuadratic(HESSIANS, center_covariance=SINGULAR, batch_size=2, sampling="replacement"),
    "probabilities": FiniteSumQuadratic(0.8, CENTERS, probabilities=[0.1, 0.0, 0.4, 0.2, 0.3], sampling="replacement"),
    "without": FiniteSumQuadratic(
        HESSIAN, CENTERS, center_covariance=SINGULAR, batch_size=3, sampling="without_replacement"
    ),
    "reshuffled": FiniteSumQuadratic([0.2, 0.5, 1.0, 1.4], [1.0, 2.0, 3.0, 5.0], batch_size=2, sampling="reshuffled"),
}
MODELS = {"full": FULL, **FINITE_SUMS, "least squares": LEAST_SQUARES}
# Every kernel costs a compilation; that of this model differs from others in nothing that they do not have.
SLOW = {"noise"}
every_model = pytest.mark.parametrize(
    "model", [pytest.param(m, marks=[pytest.mark.slow] * (name in SLOW), id=name) for name, m in MODELS.items()]
)
FEW = st.sampled_from([FULL, FINITE_SUMS["replacement"], FINITE_SUMS["reshuffled"], LEAST_SQUARES])


# ---------------------------------------------------------------------------------------------------------------------
# Draws


@kernel
def normals_from(first, second):
    return box_muller(first, second)


class Draws:
    """A stream of words, and what is made of them, in Python numbers."""

    def __init__(self, seed, purpose, replica, pair=0):
        self.words = reference_words(seed, purpose, replica, pair)

    def normals(self, count):
        made = []
        while len(made) < count:
            made += normals_from(np.uint64(next(self.words)), np.uint64(next(self.words)))
        return made[:count]

    def below(self, bound):
        """By the definition of the method: the whole multiples of ``bound`` are kept."""
        while True:
            product = (next(self.words) >> 32) * bound
            if product % 2**32 >= 2**32 % bound:
                return product // 2**32

    def likely(self, cumulative):
        uniform = (next(self.words) >> 11) * 2.0**-53
        return next(i for i, total in enumerate(cumulative) if uniform < total)


@kernel
def fill_below(key, bound, out):
    state = open_stream(key, np.uint64(0), np.uint64(0))
    for i in range(out.size):
        out[i], state = whole_number(bound, state)


@pytest.mark.parametrize("bound", [1, 2, 7, 1000, 3 * 2**30, 2**32 - 1])
def test_whole_numbers_have_the_bits_of_their_twin(bound):
    found = np.empty(2000, np.int64)
    fill_below(stream_key(5, Purpose.QUADRATIC_FINITE_SUM), np.uint64(bound), found)
    twin = Draws(5, Purpose.QUADRATIC_FINITE_SUM, 0)
    assert found.tolist() == [twin.below(bound) for _ in range(2000)]


@pytest.mark.parametrize("bound", [7, 3 * 2**30])
def test_whole_numbers_are_equally_likely(bound):
    # without the second draws every third value of 3 * 2^30 would come twice as often
    found = np.empty(100_000, np.int64)
    fill_below(stream_key(6, Purpose.QUADRATIC_FINITE_SUM), np.uint64(bound), found)
    for residues in (found % 3 if bound > 7 else found, found * 7 // bound):
        assert stats.chisquare(np.bincount(residues)).pvalue > 1e-4


def drawn_examples(model, steps, replicas, seed):
    """Which example each step met: close to the minimum a small step goes along the force of its example."""
    rate = 1e-6
    runs = ensemble(model, constant(rate, steps), replicas=replicas, seed=seed, record=np.arange(steps + 1)).error
    moves = runs.diff("step").values[..., None, :] / rate
    return np.abs(moves - model.forces).sum(axis=-1).argmin(axis=-1)


def test_examples_are_as_likely_as_they_should_be():
    model = FiniteSumQuadratic(HESSIANS, CENTERS)
    drawn = drawn_examples(model, 40, 2000, 1)
    assert stats.chisquare(np.bincount((5 * drawn[:, ::2] + drawn[:, 1::2]).ravel(), minlength=25)).pvalue > 1e-4
    model = FINITE_SUMS["probabilities"]
    counts = np.bincount(drawn_examples(model, 40, 2000, 2).ravel(), minlength=5)
    assert counts[1] == 0
    likely = np.array([0.1, 0.4, 0.2, 0.3])
    assert stats.chisquare(counts[[0, 2, 3, 4]], counts.sum() * likely).pvalue > 1e-4


def test_an_epoch_is_a_permutation_and_all_are_equally_likely():
    curvatures = [0.2, 0.5, 1.0, 1.4]
    drawn = drawn_examples(FiniteSumQuadratic(curvatures, np.arange(4.0), sampling="reshuffled"), 12, 4000, 3)
    epochs = drawn.reshape(-1, 4)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(4), (len(epochs), 1)))
    _, counts = np.unique(epochs @ [64, 16, 4, 1], return_counts=True)
    assert counts.size == 24
    assert stats.chisquare(counts).pvalue > 1e-4
    # one epoch says nothing about the next
    assert stats.chisquare(np.bincount(4 * drawn[:, 3] + drawn[:, 4], minlength=16)).pvalue > 1e-4


def test_a_batch_without_replacement_is_any_subset():
    curvatures, centers = np.array([0.2, 0.5, 1.0, 1.4]), 2.0 ** np.arange(4)
    model = FiniteSumQuadratic(curvatures, centers, batch_size=2, sampling="without_replacement")
    runs = ensemble(model, constant(1e-6, 6), replicas=4000, seed=4, record=np.arange(7)).error
    forces = [model.forces[list(pair), 0].mean() for pair in itertools.combinations(range(4), 2)]
    moves = runs.diff("step").values[..., 0].ravel() / 1e-6
    distances = np.abs(moves[:, None] - forces)
    assert distances.min(axis=1).max() < 1e-3
    assert stats.chisquare(np.bincount(distances.argmin(axis=1), minlength=6)).pvalue > 1e-4


# ---------------------------------------------------------------------------------------------------------------------
# The same bits as plain Python


def product(matrix, vector, start):
    """Start plus matrix times vector, added up from the left."""
    added = []
    for i, row in enumerate(matrix):
        total = 0.0
        for entry, value in zip(row, vector, strict=True):
            total += entry * value
        added.append(start[i] + total)
    return added


def gaussian(root, draws):
    normals = draws.normals(len(root))
    found = []
    for i, row in enumerate(root):
        total = 0.0
        for j in range(i + 1):
            total += row[j] * normals[j]
        found.append(total)
    return found


def twin_gradient(model, draws, epoch, step, point):
    """The gradient of the batch of a step, operation by operation; ``epoch`` is the order of the examples."""
    size = model.modes
    if isinstance(model, FullQuadratic):
        noise = gaussian(problem_of(model).batches.root.tolist(), draws)
        return product(model.hessian.tolist(), [p - z for p, z in zip(point, noise, strict=True)], [0.0] * size)
    out = [0.0] * size
    if isinstance(model, GaussianLeastSquares):
        deviation = np.sqrt(model.feature_variance).tolist()
        for _ in range(model.batch_size):
            *normals, label = draws.normals(size + 1)
            feature = [z * s for z, s in zip(normals, deviation, strict=True)]
            residual = -math.sqrt(model.label_noise) * label
            for phi, e in zip(feature, point, strict=True):
                residual += phi * e
            out = [total + residual * phi for total, phi in zip(out, feature, strict=True)]
        return [total / model.batch_size for total in out]

    shared = bool((model.hessians == model.hessians[0]).all())
    noisy = bool(model.center_covariance.any())
    offset = [0.0] * size if shared else list(point)
    for k in range(model.batch_size):
        if len(set(model.probabilities.tolist())) > 1:
            example = draws.likely(itertools.accumulate(model.probabilities.tolist()))
        elif model.sampling == "replacement":
            example = draws.below(model.examples)
        else:
            in_epoch = model.examples // model.batch_size if model.sampling == "reshuffled" else 1
            place = step % in_epoch * model.batch_size + k
            other = place + draws.below(model.examples - place)
            epoch[place], epoch[other] = epoch[other], epoch[place]
            example = epoch[place]
        if noisy:
            noise = gaussian(problem_of(model).batches.root.tolist(), draws)
            offset = [a - z for a, z in zip(offset if shared else point, noise, strict=True)]
        out = [total - force for total, force in zip(out, model.forces[example].tolist(), strict=True)]
        if not shared:
            out = product(model.hessians[example].tolist(), offset, out)
    out = [total / model.batch_size for total in out]
    if shared:
        offset = [p + z / model.batch_size for p, z in zip(point, offset, strict=True)]
        out = product(model.hessians[0].tolist(), offset, out)
    return out


def twin_step(model, draws, epoch, step, rate, point, memory, momentum=0.0, nesterov=False):
    if nesterov:
        ahead = [p + momentum * (p - m) for p, m in zip(point, memory, strict=True)]
        gradient = twin_gradient(model, draws, epoch, step, ahead)
        return [p - rate * g for p, g in zip(ahead, gradient, strict=True)], point
    gradient = twin_gradient(model, draws, epoch, step, point)
    memory = [momentum * m + g for m, g in zip(memory, gradient, strict=True)]
    return [p - rate * m for p, m in zip(point, memory, strict=True)], memory


def twin_path(model, rates, seed, replica, update):
    """One replica in plain Python."""
    draws = Draws(seed, problem_of(model).purpose, replica)
    epoch = list(range(getattr(model, "examples", 0)))
    point = model.start.tolist()
    memory = point if update.get("nesterov") else [0.0] * model.modes
    path = [point]
    for step, rate in enumerate(rates.tolist()):
        point, memory = twin_step(model, draws, epoch, step, rate, point, memory, **update)
        path.append(point)
    return np.array(path)


@every_model
@every_update
def test_every_step_has_the_bits_of_its_twin(model, update):
    rates = cosine(0.6, 25)
    runs = ensemble(model, rates, replicas=[0, 5], seed=9, record=np.arange(26), **update)
    for replica in (0, 5):
        assert np.array_equal(runs.error.sel(replica=replica), twin_path(model, rates, 9, replica, update))


def test_the_purpose_of_each_model_is_its_own():
    assert problem_of(FULL).purpose == Purpose.QUADRATIC_FULL
    assert problem_of(LEAST_SQUARES).purpose == Purpose.QUADRATIC_LEAST_SQUARES
    assert {problem_of(model).purpose for model in FINITE_SUMS.values()} == {Purpose.QUADRATIC_FINITE_SUM}


@pytest.mark.parametrize("covariance", [HESSIAN, SINGULAR, np.zeros((3, 3)), np.diag([4.0, 0.0, 9.0]), np.eye(3)])
def test_the_root_of_a_covariance(covariance):
    root = problem_of(FullQuadratic(HESSIAN, covariance)).batches.root
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-14)
    assert np.array_equal(root, np.tril(root))
    assert (np.diag(root) >= 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# First and second moments, by enumeration of the batches


def batches_of(model):
    """Every batch of one step: its probability, its Hessian, its force and the covariance of its force."""
    if isinstance(model, FullQuadratic):
        return [
            (1.0, model.hessian, np.zeros(model.modes), model.hessian @ model.batch_center_covariance @ model.hessian)
        ]
    size = model.batch_size
    if model.sampling == "replacement":
        chosen = list(itertools.product(range(model.examples), repeat=size))
        likely = [math.prod(model.probabilities[list(c)]) for c in chosen]
    else:
        chosen = list(itertools.combinations(range(model.examples), size))
        likely = [1 / len(chosen)] * len(chosen)
    mean = np.einsum("n,nij->ij", model.probabilities, model.hessians)
    pull = np.einsum("n,nij,nj->i", model.probabilities, model.hessians, model.centers)
    force = np.einsum("nij,nj->ni", model.hessians, model.centers - np.linalg.solve(mean, pull))
    noise = np.array([h @ model.center_covariance @ h for h in model.hessians]) / size**2
    every = [list(c) for c in chosen]
    return [
        (p, model.hessians[c].mean(axis=0), force[c].mean(axis=0), noise[c].sum(axis=0))
        for p, c in zip(likely, every, strict=True)
    ]


def affine_map(hessian, force, noise, rate, momentum=0.0, nesterov=False):
    """One step as s -> A s + b + noise of covariance Q, for the pair s of the error and what the step remembers."""
    size = len(hessian)
    one, zero = np.eye(size), np.zeros((size, size))
    if nesterov:
        keep = one - rate * hessian
        matrix = np.block([[(1 + momentum) * keep, -momentum * keep], [one, zero]])
        push = np.block([[rate * one], [zero]])
    else:
        matrix = np.block([[one - rate * hessian, -rate * momentum * one], [hessian, momentum * one]])
        push = np.block([[rate * one], [-one]])
    return matrix, push @ force, push @ noise @ push.T


def exact_moments(model, rates, update):
    """Mean and second moment of the error after all steps."""
    size = model.modes
    mean = np.concatenate([model.start, model.start if update.get("nesterov") else np.zeros(size)])
    second = np.outer(mean, mean)
    for rate in rates:
        new_mean, new_second = np.zeros_like(mean), np.zeros_like(second)
        for likely, *batch in batches_of(model):
            a, b, q = affine_map(*batch, rate, **update)
            new_mean += likely * (a @ mean + b)
            crossed = np.outer(a @ mean, b)
            new_second += likely * (a @ second @ a.T + crossed + crossed.T + np.outer(b, b) + q)
        mean, second = new_mean, new_second
    return mean[:size], second[:size, :size]


def assert_moments(points, mean, second, detectable=0.02):
    """|z| < 4 for every mean and second moment; of the variances an error of 2% would be seen."""
    count = len(points)
    spread = np.sqrt(np.diag(second))
    assert np.all(np.abs(points.mean(axis=0) - mean) < 4 * points.std(axis=0) / math.sqrt(count))
    products = np.einsum("ri,rj->rij", points, points)
    error = products.std(axis=0) / math.sqrt(count)
    assert np.all(np.abs(products.mean(axis=0) - second) < 4 * error + 1e-14 * np.outer(spread, spread))
    assert np.all(4 * np.diag(error) <= detectable * np.diag(second))


REPLICAS = 200_000


@every_update
@pytest.mark.parametrize(
    "name", ["full", "replacement", pytest.param("noise", marks=pytest.mark.slow), "probabilities", "without"]
)
def test_first_and_second_moments(name, update):
    model, rates = MODELS[name], cosine(0.4, 12, final=0.1)
    if update.get("momentum"):
        rates = rates / 2
    points = ensemble(model, rates, replicas=REPLICAS, seed=21, **update).error.values[:, 0]
    assert_moments(points, *exact_moments(model, rates, update))


def test_the_yardstick_sees_twice_what_it_promises():
    points = np.random.default_rng(0).standard_normal((REPLICAS, 2))
    assert_moments(points, np.zeros(2), np.eye(2))
    for wrong in (0.96, 1.04):
        with pytest.raises(AssertionError):
            assert_moments(points, np.zeros(2), wrong * np.eye(2))
    with pytest.raises(AssertionError):
        assert_moments(points, np.full(2, 0.02), np.eye(2))


@pytest.mark.slow
def test_stationary_variance_of_two_curvatures():
    # E e^2 = eta E h^2 sigma^2 / (2 E h - eta E h^2)
    model = FiniteSumQuadratic([0.5, 1.5], center_covariance=1.0)
    points = ensemble(model, constant(0.8, 60), replicas=REPLICAS, seed=22).error.values[:, 0]
    assert_moments(points, np.zeros(1), np.array([[1.0]]))


def test_moments_of_least_squares():
    # E phi phi^T M phi phi^T = 2 L M L + tr(L M) L for Gaussian features
    model, rates = LEAST_SQUARES, cosine(0.5, 12, final=0.1)
    features, count = np.diag(model.feature_variance), model.batch_size
    mean = model.start
    second = np.outer(mean, mean)
    for rate in rates:
        mean = mean - rate * features @ mean
        curved = (1 + 1 / count) * features @ second @ features
        curved += (np.trace(features @ second) + model.label_noise) / count * features
        second = second - rate * (features @ second + second @ features) + rate**2 * curved
    points = ensemble(model, rates, replicas=REPLICAS, seed=23).error.values[:, 0]
    assert_moments(points, mean, second)


def test_full_moments_with_gradient_noise_only_in_one_direction():
    # C = v v^T: only the direction H v is ever pushed at the first step
    model = FullQuadratic(HESSIAN, SINGULAR)
    points = ensemble(model, [0.3], replicas=1000, seed=24).error.values[:, 0]
    direction = HESSIAN @ [1.0, -0.5, 2.0]
    along = points @ direction / (direction @ direction)
    np.testing.assert_allclose(points, np.outer(along, direction), atol=1e-14)
    assert abs(along.std() / 0.3 - 1) < 4 / math.sqrt(2 * 1000)


def epoch_maps(model, rate):
    """Every ordered partition of the examples into batches, as one affine map of the error, for one dimension."""
    size, count = model.batch_size, model.examples
    orders = np.array(list(itertools.permutations(range(count))))
    h = model.hessians[orders, 0, 0].reshape(len(orders), -1, size).mean(axis=2)
    mean = np.mean(model.hessians[:, 0, 0])
    force = model.hessians[:, 0, 0] * (
        model.centers[:, 0] - np.mean(model.hessians[:, 0, 0] * model.centers[:, 0]) / mean
    )
    f = force[orders].reshape(len(orders), -1, size).mean(axis=2)
    keep, shift = np.ones(len(orders)), np.zeros(len(orders))
    for k in range(count // size):
        keep, shift = (1 - rate * h[:, k]) * keep, (1 - rate * h[:, k]) * shift + rate * f[:, k]
    return keep, shift


def test_moments_at_the_end_of_an_epoch():
    curvatures, centers = [0.2, 0.5, 1.0, 1.4, 0.9, 2.0], [1.0, 2.0, 3.0, 5.0, -1.0, 0.0]
    model = FiniteSumQuadratic(curvatures, centers, batch_size=2, displacement=3.0, sampling="reshuffled")
    keep, shift = epoch_maps(model, 0.3)
    mean, second = model.start[0], model.start[0] ** 2
    for _ in range(4):
        second = np.mean(keep**2) * second + 2 * np.mean(keep * shift) * mean + np.mean(shift**2)
        mean = np.mean(keep) * mean + np.mean(shift)
    steps = 4 * model.examples // model.batch_size
    points = ensemble(model, constant(0.3, steps), replicas=REPLICAS, seed=25).error.values[:, 0]
    assert_moments(points, np.array([mean]), np.array([[second]]))


@pytest.mark.slow
def test_reshuffling_leaves_less_noise_at_the_end_of_an_epoch():
    # a = 1 - x: x^2 N/(N-1) (S2 - S1^2/N)/(1 - a^(2N)) over x/(2-x)
    centers, steps = np.random.default_rng(3).standard_normal(8), 48
    found = {}
    for sampling in ("replacement", "reshuffled"):
        model = FiniteSumQuadratic(1.0, centers, sampling=sampling)
        runs = ensemble(model, constant(0.3, steps), replicas=REPLICAS, seed=26)
        found[sampling] = runs.error.values[:, 0, 0] ** 2
    ratio = found["reshuffled"].mean() / found["replacement"].mean()
    relative = [square.std() / square.mean() / math.sqrt(REPLICAS) for square in found.values()]
    error = ratio * math.hypot(*relative)
    assert 4 * error < 0.02 * ratio
    assert abs(ratio - elsewhere("reshuffled_variance").values[0.3, 8]) < 4 * error


# ---------------------------------------------------------------------------------------------------------------------
# Laws that hold path by path

few = settings(max_examples=15, deadline=None)
rates_of = st.lists(st.floats(0.01, 0.5), min_size=1, max_size=12).map(np.array)
updates = st.sampled_from(list(UPDATES.values()))


@few
@given(FEW, rates_of, updates, st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True), st.integers(0, 99))
def test_a_replica_is_the_same_in_any_company(model, rates, update, chosen, seed):
    full = ensemble(model, rates, replicas=201, seed=seed, **update)
    assert ensemble(model, rates, replicas=chosen, seed=seed, **update).identical(full.sel(replica=chosen))


@few
@given(FEW, rates_of, updates, st.data())
def test_a_step_is_the_same_whatever_else_is_recorded_and_whatever_comes(model, rates, update, data):
    every = ensemble(model, rates, replicas=3, seed=1, record=np.arange(rates.size + 1), **update)
    record = sorted(data.draw(st.sets(st.integers(0, rates.size), min_size=1)))
    assert ensemble(model, rates, replicas=3, seed=1, record=record, **update).identical(every.sel(step=record))
    stop = data.draw(st.integers(1, rates.size))
    assert ensemble(model, rates[:stop], replicas=3, seed=1, **update).identical(every.sel(step=[stop]))
    assert np.array_equal(every.error.sel(step=0), np.tile(model.start, (3, 1)))


@few
@given(FEW, rates_of, updates)
def test_the_number_of_threads_and_the_cut_into_chunks_do_not_show(model, rates, update):
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for threads in (1, 2, 5):
            patch.setenv("SGDYNAMICS_THREADS", str(threads))
            results.append(ensemble(model, rates, replicas=300, seed=2, **update))
    assert results[0].identical(results[1])
    assert results[0].identical(results[2])
    parts = [ensemble(model, rates, replicas=part, seed=2, **update) for part in (np.arange(77), np.arange(77, 300))]
    assert xr.concat(parts, "replica").identical(results[0])


@few
@given(FEW, rates_of)
def test_no_momentum_is_plain_sgd_by_every_name(model, rates):
    plain = ensemble(model, rates, replicas=3, seed=3)
    assert ensemble(model, rates, replicas=3, seed=3, momentum=0.0, nesterov=True).identical(plain)


@few
@given(FEW, rates_of, updates, st.data())
def test_the_averaged_point_is_the_average_of_the_points(model, rates, update, data):
    weights = np.array(data.draw(st.lists(st.floats(0.125, 1), min_size=rates.size + 1, max_size=rates.size + 1)))
    weights /= weights.sum()
    path = ensemble(model, rates, replicas=3, seed=4, record=np.arange(rates.size + 1), **update).error
    point = ensemble(model, rates, replicas=3, seed=4, average=weights, **update).error
    assert point.dims == ("replica", "step", "mode")
    expected = np.einsum("s,rsm->rm", weights, path)
    assert np.abs(point.values[:, 0] - expected).max() <= 1e-13 * np.abs(path).max()


@every_model
def test_excess_risk_is_the_model_s(model):
    runs = ensemble(model, cosine(0.3, 6), replicas=20, seed=5, record=[0, 2, 6])
    np.testing.assert_allclose(runs.excess_risk, model.excess_risk(runs.error.values), rtol=1e-12)


@pytest.mark.parametrize("name", ["full", "replacement", "probabilities", "reshuffled", "least squares"])
def test_two_runs_that_meet_the_same_batches_differ_by_a_run_without_noise(name):
    model, rates = MODELS[name], cosine(0.4, 9)
    shift = np.arange(1.0, model.modes + 1)
    fields = {field: getattr(model, field) for field in type(model).domains}
    if fields.get("sampling", "replacement") != "replacement":
        fields["probabilities"] = None
    quiet = {field: 0.0 for field in ("centers", "center_covariance", "label_noise") if field in fields}
    one = ensemble(model, rates, replicas=4, seed=6).error
    two = ensemble(type(model)(**{**fields, "displacement": model.start + shift}), rates, replicas=4, seed=6).error
    alone = ensemble(type(model)(**{**fields, **quiet, "displacement": shift}), rates, replicas=4, seed=6).error
    np.testing.assert_allclose(two - one, alone, atol=1e-12)


def swept(name, values):
    return xr.DataArray(values, dims=name, coords={name: values})


@pytest.mark.parametrize("name", ["full", "reshuffled", "least squares"])
def test_a_sweep_is_its_cells_and_lazy_where_asked(name, monkeypatch):
    model, rate, momentum = MODELS[name], swept("learning_rate", [0.1, 0.3, 9.0]), swept("momentum", [0.0, 0.5])
    options = {"replicas": 70, "seed": 7, "record": [0, 3, 10]}
    runs = ensemble(model, constant(rate, 10), momentum=momentum, **options)
    assert runs.error.dims == ("learning_rate", "momentum", "replica", "step", "mode")
    assert runs.excess_risk.dims == runs.error.dims[:-1]
    for eta, beta in itertools.product(rate.values, momentum.values):
        cell = ensemble(model, constant(eta, 10), momentum=beta, **options)
        assert runs.sel(learning_rate=eta, momentum=beta, drop=True).identical(cell)
    with monkeypatch.context() as patch:
        patch.setattr(coupled, "run_all", lambda tasks: pytest.fail("computed too early"))
        lazy = ensemble(model, constant(rate, 10).chunk(learning_rate=1), momentum=momentum, **options)
        assert lazy.error.chunks is not None
    assert lazy.compute(scheduler="synchronous").identical(runs)
    assert lazy.compute(scheduler="threads", num_workers=2).identical(runs)


def test_every_cell_of_a_sweep_meets_the_same_batches():
    # at gain 1 a run jumps to the center of its last batch
    rates = xr.DataArray([[0.3, 0.7, 1.0], [0.0, 1.9, 1.0]], dims=["schedule", "step"])
    for model in (
        FullQuadratic(np.eye(2), SINGULAR[:2, :2], displacement=7.0),
        FiniteSumQuadratic(1.0, CENTERS[:4], batch_size=2, center_covariance=1.0, sampling="reshuffled"),
    ):
        runs = ensemble(model, rates, replicas=9, seed=2)
        np.testing.assert_allclose(runs.error[0], runs.error[1], atol=1e-13)


@every_model
def test_what_runs_a_model_can_be_sent_to_another_process(model):
    problem = problem_of(model)
    again = pickle.loads(pickle.dumps(problem))
    assert type(again.batches) is type(problem.batches)
    assert all(np.array_equal(a, b) for a, b in zip(again.batches, problem.batches, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# Results


@pytest.mark.parametrize("name", ["full", "replacement", "least squares"])
@every_update
def test_divergence_is_infinite_and_stays_so(name, update):
    model = MODELS[name]
    rates = np.concatenate([constant(50.0, 600), constant(0.1, 100)])
    runs = ensemble(model, rates, replicas=5, seed=0, record=[1, 600, 700], **update)
    assert not np.isnan(runs.error).any()
    assert not np.isnan(runs.excess_risk).any()
    assert np.isfinite(runs.sel(step=1).error).all()
    assert (runs.sel(step=[600, 700]).error == np.inf).all()
    assert (runs.sel(step=[600, 700]).excess_risk == np.inf).all()
    late = ensemble(model, rates, replicas=5, seed=0, average=swa(700, 500), **update)
    assert (late.error == np.inf).all()
    early = ensemble(model, rates, replicas=5, seed=0, average=np.eye(701)[1], **update)
    assert np.array_equal(early.error, runs.error.sel(step=[1]))


def test_between_the_edges_almost_every_run_settles():
    # E (1 - eta h)^2 = 1.21 > 1, E log|1 - eta h| = -0.58 < 0
    model = FiniteSumQuadratic([0.5, 1.5], displacement=1.0)
    runs = ensemble(model, constant(1.8, 400), replicas=2000, seed=8).error
    assert (abs(runs) < 1e-6).all()


def test_a_result_says_what_it_is():
    runs = ensemble(LEAST_SQUARES, constant(0.1, 5), replicas=[4, 2], seed=12, record=[0, 5])
    assert runs.error.dims == ("replica", "step", "mode")
    assert runs.excess_risk.dims == ("replica", "step")
    assert runs.replica.values.tolist() == [4, 2]
    assert runs.attrs["seed"] == "12"
    for part in (runs, *runs.variables.values()):
        assert all(isinstance(value, str | float) for value in part.attrs.values())
    assert all({"long_name", "units"} <= set(part.attrs) for part in runs.variables.values())


@pytest.mark.parametrize("name", ["full", "replacement", "least squares"])
def test_unrecorded_steps_need_no_memory(name):
    def peak(steps):
        tracemalloc.start()
        try:
            ensemble(MODELS[name], constant(0.01, steps), replicas=4, seed=0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert abs(peak(10**5) - peak(10**3)) < 2**21


@pytest.mark.parametrize("name", ["full", "replacement", "least squares"])
def test_jumps_are_refused(name):
    model = MODELS[name]
    with pytest.raises(ValueError, match=f"method must be 'steps' for a {type(model).__name__}, got 'jumps'"):
        ensemble(model, [0.1], replicas=2, seed=0, method="jumps")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"record": [6]}, r"record must be increasing steps in 0\.\.T = 5, got 6"),
        ({"average": np.full(5, 0.2)}, r"average must be 6 weights"),
        ({"momentum": [0.1, 0.2]}, "momentum must be a number or a DataArray"),
        ({"schedule": xr.DataArray(np.ones((2, 5)), dims=["mode", "step"])}, "schedule must be swept over"),
    ],
)
def test_garbage_is_named(wrong, message):
    good = {"model": FULL, "schedule": np.full(5, 0.1), "replicas": 3, "seed": 0}
    with pytest.raises(ValueError, match=message):
        ensemble(**{**good, **wrong})


# ---------------------------------------------------------------------------------------------------------------------
# Lyapunov exponents


def assert_exponent(found, predicted, detectable=0.02):
    error = float(found.standard_error)
    assert 4 * error <= detectable
    assert abs(float(found.lyapunov_exponent) - predicted) < 4 * error


@pytest.mark.parametrize("update", [PLAIN, HEAVY_BALL, NESTEROV], ids=UPDATES)
@pytest.mark.parametrize("name", ["replacement", "reshuffled", "least squares"])
def test_the_growth_of_a_replica_has_the_bits_of_its_twin(name, update):
    model, steps, rate = MODELS[name], 30, 0.7
    fields = {field: getattr(model, field) for field in type(model).domains}
    fields["probabilities"] = None
    fields |= {"centers": 0.0, "label_noise": 0.0}
    quiet = type(model)(**{field: fields[field] for field in type(model).domains})
    exponents = []
    for replica in (3, 8):
        purpose = problem_of(model).purpose
        draws, direction = Draws(1, purpose, replica, 1), Draws(1, purpose, replica, 2)
        point = [direction.normals(2)[0] for _ in range(model.modes)]
        memory = point if update.get("nesterov") else [0.0] * model.modes
        epoch, total = list(range(getattr(model, "examples", 0))), 0.0
        for step in range(steps + steps // 10):
            point, memory = twin_step(quiet, draws, epoch, step, rate, point, memory, **update)
            largest = max(map(abs, (*point, *memory) if update else point))
            point, memory = ([value / largest for value in values] for values in (point, memory))
            if step >= steps // 10:
                total += math.log(largest)
        exponents.append(total / steps)
    found = top_lyapunov_exponent(model, rate, steps=steps, replicas=[3, 8], seed=1, **update)
    assert float(found.lyapunov_exponent) == np.mean(exponents)
    assert float(found.standard_error) == np.std(exponents, ddof=1) / math.sqrt(2)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("sampling", ["replacement", "without_replacement"])
def test_one_direction_grows_by_the_mean_logarithm(batch_size, sampling):
    curvatures, rate = np.array([0.2, 0.9, 1.7, 3.1]), 1.3
    model = FiniteSumQuadratic(curvatures, batch_size=batch_size, sampling=sampling)
    batches = itertools.product if sampling == "replacement" else None
    chosen = batches(curvatures, repeat=batch_size) if batches else itertools.combinations(curvatures, batch_size)
    predicted = np.mean([math.log(abs(1 - rate * np.mean(batch))) for batch in chosen])
    assert_exponent(top_lyapunov_exponent(model, rate, steps=500, replicas=400, seed=2), predicted)


def test_a_reshuffled_epoch_of_single_examples_grows_by_a_fixed_factor():
    curvatures, rate = np.array([0.2, 0.9, 1.7, 3.1]), 1.3
    model = FiniteSumQuadratic(curvatures, sampling="reshuffled")
    found = top_lyapunov_exponent(model, rate, steps=400, replicas=8, seed=3)
    assert abs(float(found.lyapunov_exponent) - np.log(abs(1 - rate * curvatures)).mean()) < 1e-13
    assert float(found.standard_error) < 1e-13


def test_one_feature_grows_by_the_mean_logarithm():
    # z^2 is chi-squared; the logarithm is singular where the rate meets 1/z^2
    rate, density = 1.2, stats.chi2(1).pdf
    pole = 1 / rate
    predicted = sum(
        integrate.quad(lambda h: math.log(abs(1 - rate * h)) * density(h), low, high, limit=200)[0]
        for low, high in ((0, pole / 2), (pole / 2, pole), (pole, 2 * pole), (2 * pole, 60))
    )
    found = top_lyapunov_exponent(GaussianLeastSquares(1.0, 0.3), rate, steps=1000, replicas=1000, seed=4)
    assert_exponent(found, predicted)


@every_update
def test_one_curvature_for_all_batches_grows_by_the_spectral_radius(update):
    for rate in (0.3, 1.9):
        matrix, _, _ = affine_map(HESSIAN, np.zeros(3), np.zeros((3, 3)), rate, **update)
        radius = np.abs(np.linalg.eigvals(matrix)).max()
        for model in (FULL, FiniteSumQuadratic(HESSIAN, CENTERS, batch_size=2)):
            found = top_lyapunov_exponent(model, rate, steps=2000, replicas=4, seed=5, **update)
            assert abs(float(found.lyapunov_exponent) - math.log(radius)) < 4e-3


def test_of_directions_that_part_the_fastest_counts():
    values = np.array([[0.2, 0.9, 1.7], [2.5, 1.0, 0.4]])
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    model = FiniteSumQuadratic([turn @ np.diag(pair) @ turn.T for pair in values.T])
    rate = 1.1
    predicted = np.log(abs(1 - rate * values)).mean(axis=1).max()
    assert_exponent(top_lyapunov_exponent(model, rate, steps=1000, replicas=400, seed=6), predicted)


@pytest.mark.parametrize("update", [HEAVY_BALL, NESTEROV], ids=["heavy ball", "Nesterov"])
def test_momentum_on_random_curvatures_against_products_of_matrices(update):
    curvatures, rate, steps, count = np.array([0.3, 2.8]), 1.4, 400, 2000
    maps = np.array([affine_map(np.array([[h]]), np.zeros(1), np.zeros((1, 1)), rate, **update)[0] for h in curvatures])
    random = np.random.default_rng(7)
    state, total = random.standard_normal((count, 2)), np.zeros(count)
    for step in range(steps + 40):
        state = np.einsum("rij,rj->ri", maps[random.integers(0, 2, count)], state)
        length = np.linalg.norm(state, axis=1)
        state /= length[:, None]
        total += np.log(length) * (step >= 40)
    reference, spread = total.mean() / steps, total.std() / steps / math.sqrt(count)
    found = top_lyapunov_exponent(FiniteSumQuadratic(curvatures), rate, steps=steps, replicas=count, seed=7, **update)
    error = math.hypot(spread, float(found.standard_error))
    assert error < 0.005
    assert abs(float(found.lyapunov_exponent) - reference) < 4 * error


def test_nothing_overflows_and_a_vanishing_product_is_minus_infinity():
    model = FiniteSumQuadratic([1.0, 3.0])
    rates = swept("learning_rate", [0.0, 1.0, 1e3, 1e300])
    found = top_lyapunov_exponent(model, rates, steps=5000, replicas=3, seed=8)
    assert found.lyapunov_exponent.values[0] == 0.0
    assert found.lyapunov_exponent.values[1] == -np.inf
    assert found.lyapunov_exponent.values[3] == pytest.approx(math.log(1e300) + math.log(3) / 2, rel=1e-4)
    assert np.isfinite(found.standard_error).all()
    infinite = top_lyapunov_exponent(FiniteSumQuadratic([1e10, 2e10]), 1e305, steps=10, replicas=3, seed=8)
    assert float(infinite.lyapunov_exponent) == np.inf


def test_exponents_sweep_and_do_not_show_threads(monkeypatch):
    model, rate, momentum = (
        FINITE_SUMS["replacement"],
        swept("learning_rate", [0.3, 1.5]),
        swept("momentum", [0.0, 0.5]),
    )
    options = {"steps": 50, "replicas": 150, "seed": 9}
    found = top_lyapunov_exponent(model, rate, momentum=momentum, **options)
    assert found.lyapunov_exponent.dims == ("learning_rate", "momentum")
    for eta, beta in itertools.product(rate.values, momentum.values):
        cell = top_lyapunov_exponent(model, eta, momentum=beta, **options)
        assert found.sel(learning_rate=eta, momentum=beta, drop=True).identical(cell)
    for threads in ("1", "3"):
        monkeypatch.setenv("SGDYNAMICS_THREADS", threads)
        assert top_lyapunov_exponent(model, rate, momentum=momentum, **options).identical(found)


def test_one_replica_has_no_standard_error():
    with pytest.raises(ValueError, match="replicas must be at least two"):
        top_lyapunov_exponent(LEAST_SQUARES, 0.1, steps=5, replicas=1, seed=0)
