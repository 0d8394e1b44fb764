"""The search for the largest eigenvalues, against dense diagonalisation, and the passes kept for Hessian products."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.simulate import trainer
from sgdynamics.simulate.trainer import curvature
from sgdynamics.simulate.trainer.lanczos import DIRECTIONS, Eigenpairs, largest_eigenpairs
from sgdynamics.simulate.trainer.linearization import BLOCK

ENOUGH = 10**4


def matrix_of(spectrum, seed):
    """A symmetric matrix with this spectrum and its eigenvectors as columns."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum), len(spectrum))))
    matrix = (basis * spectrum) @ basis.T
    return (matrix + matrix.T) / 2, basis


@st.composite
def spectra(draw):
    """Bulks, outliers, clusters, copies and zeros, of either sign and any scale, shuffled; and the cluster's width."""
    size = draw(st.integers(3, 90))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "outliers", "cluster", "copies", "rank", "negative", "decay"]))
    values = random.standard_normal(size)
    if kind == "outliers":
        values[: size // 3] *= 30
    elif kind == "cluster":
        values[: size // 3] = 3 + 1e-7 * values[: size // 3]
    elif kind == "copies":
        values = np.round(values)
    elif kind == "rank":
        values[2:] = 0.0
    elif kind == "negative":
        values = -np.abs(values)
    elif kind == "decay":
        values = 10.0 ** np.linspace(0, -12, size)
    unit = 10.0 ** draw(st.integers(-6, 6))
    return random.permutation(values) * unit, np.ptp(values[: size // 3]) * unit if kind == "cluster" else 0.0


@settings(max_examples=80)
@given(spectra(), st.integers(0, 2**32 - 1), st.data())
def test_largest_eigenvalues_are_those_of_the_dense_matrix(drawn, seed, data):
    spectrum, width = drawn
    matrix, basis = matrix_of(spectrum, seed)
    size = len(spectrum)
    k = data.draw(st.integers(1, min(size, 8)))
    tol = data.draw(st.sampled_from([1e-4, 1e-7, 1e-10]))
    warm = data.draw(st.booleans())
    start = basis[:, np.argsort(-spectrum)[:k]] + 1e-3 if warm else None
    found = curvature.iterative(lambda v: matrix @ v, size, k, tol, start, ENOUGH)
    wanted, scale = np.sort(spectrum)[::-1][:k], np.abs(spectrum).max()
    assert found.values.shape == (k,)
    assert found.vectors.shape == (size, k)
    assert np.abs(found.vectors.T @ found.vectors - np.eye(k)).max() < 1e-12
    assert (np.diff(found.values) <= 0).all()
    rest = matrix @ found.vectors - found.vectors * found.values
    residuals = np.linalg.norm(rest, axis=0)
    assert np.abs(residuals - found.residuals).max() <= 1e-12 * scale  # what is said is so
    if k == 1:
        assert residuals[0] <= tol * abs(found.values[0]) + 1e-12 * scale  # what is asked for is had
    assert found.converged == bool((found.residuals <= tol * np.abs(found.values).max()).all())
    # Ky Fan: the values along orthonormal vectors never add up to more. One alone may be above its eigenvalue: two
    # vectors halfway between two eigenvectors have the mean of both, and are off by no more than their residuals.
    assert (np.cumsum(found.values) <= np.cumsum(wanted) + 1e-12 * scale).all()
    off = np.linalg.norm(rest, 2) + 1e-12 * scale
    assert (found.values <= wanted + off).all()
    # The search ends where nothing is larger by more than the tolerance; which of a cluster it has seen is left open.
    assert (found.values >= wanted - 2 * off - tol * scale - width).all()


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-2, 1e-4, 1e-6]), st.integers(1, 5))
def test_residuals_hold_through_restarts(seed, tol, k):
    # a dense bulk up to the top needs more directions than are held
    spectrum = np.linspace(0, 1, 400) ** 0.5
    matrix, _ = matrix_of(spectrum, 0)
    start = np.random.default_rng(seed).standard_normal(400)
    used = []
    found = largest_eigenpairs(lambda v: used.append(v) or matrix @ v, start, k, tol)
    residuals = np.linalg.norm(found.vectors @ matrix - found.values[:, None] * found.vectors, axis=1)
    assert residuals == pytest.approx(found.residuals, abs=1e-13)
    assert residuals.max() <= tol * found.values[0]
    assert tol > 1e-3 or len(used) > DIRECTIONS  # it did restart
    assert np.abs(found.vectors @ found.vectors.T - np.eye(k)).max() < 1e-12


def test_a_space_that_ends_early_is_left_with_what_was_asked_for():
    # one distinct eigenvalue, two, and none at all: a single vector sees no more, and copies are found nevertheless
    for spectrum in ([2.0] * 60, [3.0] * 30 + [-1.0] * 30, [0.0] * 60):
        matrix, _ = matrix_of(np.array(spectrum), 0)
        found = curvature.iterative(lambda v, matrix=matrix: matrix @ v, 60, 4, 1e-8, None, ENOUGH)
        assert found.converged
        assert found.values == pytest.approx([spectrum[0]] * 4, abs=1e-12)
        assert found.residuals.max() < 1e-12
    used = []
    largest_eigenpairs(lambda v: used.append(v) or 2 * v, np.ones(50), 1, 1e-6)
    assert len(used) == 1


def test_products_are_counted_and_limited():
    matrix, _ = matrix_of(np.linspace(-1, 1, 200), 0)
    used = []

    def product(v):
        used.append(v)
        return matrix @ v

    free = curvature.iterative(product, 200, 1, 1e-6, None, ENOUGH)
    assert free.iterations == len(used)
    for limit in (1, free.iterations - 1):
        used.clear()
        capped = curvature.iterative(product, 200, 1, 1e-6, None, limit)
        assert len(used) == capped.iterations == limit
        assert not capped.converged
        assert np.isnan(capped.values).all()
    exact = curvature.iterative(product, 200, 1, 1e-6, None, free.iterations)
    assert exact.converged
    assert (exact.values == free.values).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("when", [0, 3])
def test_an_operator_that_overflows_is_infinite(bad, when):
    used = []

    def product(v):
        used.append(v)
        image = np.arange(100.0) * v
        if len(used) > when:
            image[7] = bad
        return image

    found = curvature.iterative(product, 100, 2, 1e-8, None, ENOUGH)
    assert np.isposinf(found.values).all()
    assert np.isposinf(found.residuals).all()
    assert not found.converged
    assert found.iterations == when + 1


def placed(seed, gap, size=2000):
    """Two large eigenvalues at random places of a small bulk, and the eigenvector of the second: an old one."""
    random = np.random.default_rng(seed)
    spectrum = random.permutation(np.concatenate([[1 + gap, 1.0], 0.02 * random.random(size - 2)]))
    return spectrum, (spectrum == 1.0)[:, None].astype(float)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_what_is_said_to_have_converged_is_the_largest(k, warm):
    missed, runs = 0, 0
    for seed in range(720):
        gap, tol = [0.05, 0.1, 0.15, 0.19, 0.3, 1.0][seed % 6], [1e-1, 1e-2, 1e-3, 1e-4][seed // 6 % 4]
        spectrum, old = placed(seed, gap)
        found = curvature.iterative(lambda v, d=spectrum: d * v, 2000, k, tol, old if warm else None, ENOUGH)
        wanted = np.sort(spectrum)[::-1][:k]
        runs += found.converged
        missed += found.converged and np.abs(found.values - wanted).max() > gap / 2
    assert runs == 720
    assert missed <= 2  # one in a thousand; a guard that lets one in a hundred pass misses seven


def test_a_search_with_restarts_does_not_forget_what_it_may_have_missed():
    # the second start has a part of 1e-9 in what is larger, far below what a random one has: seen after restarts only
    spectrum = np.concatenate([[1.3], np.linspace(0.9, 1, 400)])
    start = np.random.default_rng(0).standard_normal(401)
    for part in (1.0, 1e-9):
        start[0] = part
        found = largest_eigenpairs(lambda v: spectrum * v, start, 1, 1e-3)
        assert found.values[0] == pytest.approx(1.3, abs=1e-6)


@settings(max_examples=40)
@given(spectra(), st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(-900, 900))
def test_eigenvalues_scale_with_the_operator(drawn, seed, k, exponent):
    spectrum, _ = drawn
    matrix, _ = matrix_of(spectrum, seed)
    scale = 2.0 ** (exponent // 2)  # twice, so that every factor is a number
    plain, scaled = (
        curvature.iterative(lambda v, s=s: (matrix @ v * s) * s, len(spectrum), k, 1e-4, None, ENOUGH)
        for s in (1.0, scale)
    )
    assert (scaled.values == (plain.values * scale) * scale).all()
    assert (scaled.residuals == (plain.residuals * scale) * scale).all()
    assert (scaled.iterations, scaled.converged) == (plain.iterations, plain.converged)


@pytest.mark.parametrize("widths", [[30, 4], [70, 10]], ids=["dense", "iterative"])
@pytest.mark.parametrize("unit", [1e-150, 1e-80, 1e80, 1e150])
def test_hessians_of_any_size_have_their_eigenvalues(widths, unit):
    x = np.random.default_rng(0).standard_normal((40, widths[0]))
    net = trainer.network(widths, "linear", biases=False, seed=0)
    found = trainer.top_hessian_eigenvalues(net, x * unit, np.zeros((40, widths[1])), loss="mse", tol=1e-6)
    wanted = np.linalg.svd(x, compute_uv=False)[0] ** 2 / 40
    assert found.converged
    assert found.values[0] / unit / unit == pytest.approx(wanted, rel=1e-9)
    assert 0 <= found.residuals[0] / unit / unit <= 1e-6 * wanted


def test_a_hessian_beyond_the_numbers_is_infinite():
    x = np.random.default_rng(0).standard_normal((40, 70))
    net = trainer.network([70, 10], "linear", biases=False, seed=0)
    found = trainer.top_hessian_eigenvalues(net, x * 1e155, np.zeros((40, 10)), loss="mse")
    assert np.isposinf(found.values).all()
    assert not found.converged


def test_a_start_without_a_part_in_the_block_is_a_cold_one():
    matrix, _ = matrix_of(np.linspace(0, 1, 100) ** 4, 0)
    cold = curvature.iterative(lambda v: matrix @ v, 100, 2, 1e-8, None, ENOUGH)
    zero = curvature.iterative(lambda v: matrix @ v, 100, 2, 1e-8, np.zeros((100, 2)), ENOUGH)
    assert (cold.values == zero.values).all()
    assert cold.iterations == zero.iterations


def test_a_search_apart_from_known_eigenvectors_ends_once_there_is_nothing_above():
    spectrum = np.concatenate([[3.0, 3.0, 2.0], np.linspace(0, 1, 297)])
    known = Eigenpairs(np.array([3.0, 2.0]), np.eye(300)[[0, 2]], np.zeros(2))
    used = []

    def product(v):
        used.append(v)
        return spectrum * v

    start = np.random.default_rng(0).standard_normal(300)
    copy = largest_eigenpairs(product, start, 1, 1e-6, apart_from=known)
    assert copy.values[0] == pytest.approx(3.0, abs=1e-9)
    assert np.abs(copy.vectors @ known.vectors.T).max() < 1e-14
    best = known.best_with(copy)
    assert best.values == pytest.approx([3.0, 3.0], abs=1e-9)
    used.clear()
    nothing = largest_eigenpairs(product, start, 1, 1e-6, apart_from=best)  # the next one is 2, far below
    early = len(used)
    assert nothing.values[0] <= 2.0 + 1e-12
    used.clear()
    found = largest_eigenpairs(lambda v: product(v) * (np.arange(300) > 1), start, 1, 1e-6)
    assert found.values[0] == pytest.approx(2.0, abs=1e-9)
    assert early < len(used)


@pytest.mark.parametrize("warm", [False, True])
def test_a_search_for_what_matters_ends_early_where_nothing_does(warm):
    missed, products = 0, {}
    for seed in range(200):
        spectrum, old = placed(seed, gap=0.5)
        unit = 10.0 ** (seed % 13 - 6)
        for part in (-math.inf, 0.7, 0.9, 1.1, 3.0):
            start = old if warm else None
            at_least = 1.5 * unit * part
            found = curvature.iterative(
                lambda v, d=spectrum * unit: d * v, len(spectrum), 1, 1e-4, start, ENOUGH, at_least
            )
            assert found.values[0] <= 1.5 * unit * (1 + 1e-12)
            if part < 1 and found.values[0] < at_least:
                missed += 1
            elif part < 1:
                assert found.values[0] == pytest.approx(1.5 * unit, rel=1e-6)
            products[part] = products.get(part, 0) + found.iterations
    assert missed <= 2  # of four hundred searches in which something matters
    assert products[0.7] == pytest.approx(products[-math.inf], rel=0.02)  # what matters is found as by any search
    assert products[3.0] < products[1.1] < products[-math.inf]


# -- the passes kept for products ------------------------------------------------------------------------------------


def complex_step(net, x, y, v, loss, **options):
    """H v from gradients at complex weights."""
    step = 1e-30
    return trainer.Objective(net.with_flat(net.flat() + 1j * step * v), x, y, loss, **options).gradient().imag / step


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("examples", [1, BLOCK, 2 * BLOCK + 3])
def test_products_are_those_of_complex_steps_for_any_number_of_examples(activation, loss, biases, examples):
    random = np.random.default_rng(examples)
    x, y = random.standard_normal((examples, 6)), random.integers(0, 4, examples)
    targets = np.eye(4)[y] if loss == "mse" else y
    for widths in ([6, 4], [6, 5, 4], [6, 5, 7, 4]):
        net = trainer.network(widths, activation, biases=biases, seed=1)
        operator = trainer.hessian_operator(trainer.Objective(net, x, targets, loss))
        for v in random.standard_normal((3, net.size)):
            wanted = complex_step(net, x, targets, v, loss)
            close = {"rtol": 1e-10, "atol": 1e-12 * np.abs(wanted).max()}
            assert np.allclose(operator @ v, wanted, **close)
            assert (operator @ v == operator @ v).all()  # memory is used again, and nothing stays in it
            assert np.allclose(trainer.hessian_vector_product(net, x, targets, v, loss), wanted, **close)


def test_complex_directions_and_weights_share_an_operator_with_real_ones():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((30, 6)), random.integers(0, 4, 30)
    net = trainer.network([6, 5, 7, 4], "tanh", seed=1)
    first, second = random.standard_normal((2, net.size))
    operator = trainer.hessian_operator(trainer.Objective(net, x, y, "cross_entropy"))
    real = operator @ first
    assert np.allclose(operator @ (first + 2j * second), real + 2j * (operator @ second), rtol=1e-13, atol=1e-15)
    assert (operator @ first == real).all()
    # the third derivative, as the imaginary part of a product at complex weights
    step = 1e-30
    bent = trainer.hessian_operator(
        trainer.Objective(net.with_flat(net.flat() + 1j * step * second), x, y, "cross_entropy")
    )
    third = (bent @ first).imag / step
    near = [
        trainer.hessian_vector_product(net.with_flat(net.flat() + h * second), x, y, first, "cross_entropy")
        for h in (1e-4, -1e-4)
    ]
    assert np.abs(third - (near[0] - near[1]) / 2e-4).max() < 1e-6 * np.abs(third).max()


def test_an_operator_serves_several_threads():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((400, 16)), random.integers(0, 4, 400)
    net = trainer.network([16, 32, 4], "tanh", seed=1)
    operator = trainer.hessian_operator(trainer.Objective(net, x, y, "cross_entropy"))
    directions = random.standard_normal((40, net.size))
    alone = [operator @ v for v in directions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda v: operator @ v, directions))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))
