"""Growth of almost every path with momentum, against a known constant, all short words, and runs of the optimiser."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.simulate.quadratic import top_lyapunov_exponent
from sgdynamics.theory.quadratic import (
    almost_sure_edge,
    almost_sure_edge_gain,
    almost_sure_growth,
    mean_edge,
    mean_square_growth,
    second_moment_edge,
    stability_edge,
)

TWO = FiniteSumQuadratic([0.5, 1.5])
VISWANATH = 1.1319882487943  # growth of random Fibonacci sequences


def updated(now, last, kept, momentum, nesterov):
    ahead = now + momentum * (now - last)
    return (kept * ahead if nesterov else ahead - (1 - kept) * now), now


def growth_of_paths(curvatures, chances, rate, momentum, nesterov=False, steps=3000, replicas=2000, seed=0):
    """Logarithmic growth per step of runs that are rescaled at every step, and its standard error."""
    rng = np.random.default_rng(seed)
    now, last, grown = rng.normal(size=replicas), rng.normal(size=replicas), np.zeros(replicas)
    for step in range(steps + 200):
        kept = 1 - rate * rng.choice(curvatures, replicas, p=chances)
        now, last = updated(now, last, kept, momentum, nesterov)
        size = np.hypot(now, last)
        now, last = now / size, last / size
        if step >= 200:
            grown += np.log(size)
    return grown.mean() / steps, grown.std() / steps / math.sqrt(replicas)


def growth_of_words(curvatures, rate, momentum, nesterov, length):
    """Mean over all sequences of batches of the logarithm by which the last one makes two starts grow."""
    now, last = np.array([1.0, 0.3]), np.array([0.2, -1.0])
    for _ in range(length):
        parts = [updated(now, last, 1 - rate * h, momentum, nesterov) for h in curvatures]
        before = np.hypot(now, last)
        now, last = (np.concatenate(side) for side in zip(*parts, strict=True))
        logs = np.log(np.hypot(now, last) / np.tile(before, len(curvatures)))
    return logs.mean()


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9])
def test_of_two_curvatures_the_growth_is_that_of_random_fibonacci_sequences(momentum):
    root = math.sqrt(momentum)
    model = FiniteSumQuadratic([1 + momentum - root, 1 + momentum + root])  # trace of an update plus and minus the root
    found = almost_sure_growth(model, 1.0, momentum=momentum)
    expected = math.log(VISWANATH) + math.log(momentum) / 2
    assert found.growth.item() == pytest.approx(expected, abs=1e-5)
    assert found.growth_low.item() < expected < found.growth_high.item()
    assert found.growth_high.item() - found.growth_low.item() < 1e-3


def test_random_fibonacci_sequences_cease_to_shrink_at_the_momentum_of_their_constant():
    momentum = VISWANATH**-2
    root = math.sqrt(momentum)
    model = FiniteSumQuadratic([1 + momentum - root, 1 + momentum + root])
    growth = [almost_sure_growth(model, 1.0, momentum=share * momentum) for share in (0.99, 1.0, 1.01)]
    assert growth[0].growth_high < 0 < growth[2].growth_low
    assert abs(growth[1].growth) < 1e-5


LAWS = {
    "two": ([0.5, 1.5], [0.5, 0.5]),
    "rare": ([0.0, 4.0], [0.75, 0.25]),
    "many": (np.linspace(0.2, 1.8, 9), None),
    "close": ([0.95, 1.05], [0.3, 0.7]),
}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("rate", "momentum"), [(0.7, 0.9), (1.7, 0.4), (2.6, 0.6)])
@pytest.mark.parametrize("name", LAWS)
def test_paths_grow_as_fast_as_the_bounds_allow(name, rate, momentum, nesterov):
    curvatures, chances = LAWS[name]
    options = {} if chances is None else {"probabilities": chances, "sampling": "replacement"}
    found = almost_sure_growth(FiniteSumQuadratic(curvatures, **options), rate, momentum=momentum, nesterov=nesterov)
    measured, error = growth_of_paths(curvatures, chances, rate, momentum, nesterov, steps=1000, replicas=500)
    assert found.growth_low <= found.growth <= found.growth_high
    assert abs(measured - found.growth.item()) < 4 * error + 2e-4  # the start and the end count once
    assert error < 3e-3


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("rate", "momentum"), [(1.7, 0.4), (2.6, 0.2), (2.4, 0.6)])
def test_all_words_of_sixteen_batches_grow_as_fast(rate, momentum, nesterov):
    found = almost_sure_growth(TWO, rate, momentum=momentum, nesterov=nesterov)
    words = growth_of_words([0.5, 1.5], rate, momentum, nesterov, 16)
    assert found.growth.item() == pytest.approx(words, abs=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.05, 3.0), min_size=2, max_size=5), st.floats(0.05, 3.0), st.floats(0.05, 0.95))
def test_growth_is_between_the_determinant_and_the_mean_square(curvatures, rate, momentum):
    model = FiniteSumQuadratic(curvatures)
    found = almost_sure_growth(model, rate, momentum=momentum)
    assert found.growth_low <= found.growth <= found.growth_high
    # a product of determinant beta^t grows at least as its root, and never faster than in mean square
    assert found.growth > math.log(momentum) / 2 - 1e-4
    assert found.growth <= math.log(mean_square_growth(model, rate, momentum=momentum)) / 2 + 1e-4


def test_the_mean_of_the_logarithm_of_each_batch_alone_is_another_number():
    rate, momentum = 2.4, 0.4
    radii = [abs(np.linalg.eigvals([[1 + momentum - rate * h, -momentum], [1, 0]])).max() for h in (0.5, 1.5)]
    found = almost_sure_growth(TWO, rate, momentum=momentum)
    assert abs(np.mean(np.log(radii)) - found.growth) > 50 * (found.growth_high - found.growth_low)


def test_without_momentum_or_without_noise_bounds_are_the_value():
    plain = almost_sure_growth(TWO, 2.4)
    expected = (math.log(0.2) + math.log(2.6)) / 2
    assert plain.growth == plain.growth_low == plain.growth_high == pytest.approx(expected, rel=1e-14)
    assert almost_sure_growth(TWO, 2.0).growth == -math.inf
    for rate, radius in ((0.1, None), (2.0, math.sqrt(0.8))):
        same = almost_sure_growth(FiniteSumQuadratic([0.7, 0.7]), rate, momentum=0.8)
        roots = np.roots([1, -(1.8 - 0.7 * rate), 0.8])
        assert same.growth_low == same.growth_high == pytest.approx(math.log(radius or max(abs(roots))), rel=1e-12)
    assert almost_sure_growth(TWO, 2.4, momentum=1e-7).growth == pytest.approx(expected, abs=1e-4)


def test_a_step_of_nesterov_that_kills_the_error_ends_almost_every_path():
    assert almost_sure_growth(TWO, 2.0, momentum=0.4, nesterov=True).growth_high == -math.inf
    near = [almost_sure_growth(TWO, 2.0 + shift, momentum=0.4, nesterov=True).growth for shift in (1e-2, 1e-4, 1e-6)]
    assert near[0] > near[1] > near[2]


def test_simulated_products_have_the_growth_that_is_bounded():
    rates = xr.DataArray([0.7, 1.7, 2.4], dims="rate")
    model = FiniteSumQuadratic([0.5, 1.5, 0.1, 0.9], batch_size=2)
    law = almost_sure_growth(model, rates, momentum=0.6)
    run = top_lyapunov_exponent(model, rates, momentum=0.6, steps=500, replicas=100, seed=1)
    assert law.growth.dims == ("rate",)
    assert np.all(abs(run.lyapunov_exponent - law.growth) < 4 * run.standard_error + 1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# The edge


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("curvatures", [(0.5, 1.5), (0.0, 0.0, 3.0), (0.2, 0.7, 1.0, 2.1)])
@pytest.mark.parametrize("momentum", [0.3, 0.8])
def test_bounds_prove_paths_stable_below_the_edge_and_unstable_above(momentum, curvatures, nesterov):
    model = FiniteSumQuadratic(curvatures)
    edge = almost_sure_edge(model, momentum=momentum, nesterov=nesterov)
    square = second_moment_edge(model, momentum=momentum, nesterov=nesterov)
    assert edge > square
    rates = xr.DataArray([*np.geomspace(square, 0.99 * edge, 5), 1.01 * edge], dims="rate")
    found = almost_sure_growth(model, rates, momentum=momentum, nesterov=nesterov)
    assert np.all(found.growth_high[:-1] < 0)
    assert found.growth_low[-1] > 0


def test_runs_cease_to_shrink_at_the_edge():
    for momentum in (0.3, 0.8):
        edge = almost_sure_edge(TWO, momentum=momentum)
        growth, error = growth_of_paths([0.5, 1.5], None, edge, momentum, steps=1500, replicas=500)
        assert abs(growth) < 4 * error + 1e-4
        for factor, sign in ((0.97, -1), (1.03, 1)):
            growth, error = growth_of_paths([0.5, 1.5], None, factor * edge, momentum, steps=1500, replicas=500)
            assert sign * growth > 4 * error


def test_a_thousand_quantiles_of_the_cauchy_law_have_nearly_its_closed_edge():
    curvatures = 1 + 0.3 * np.tan(math.pi * ((np.arange(1000) + 0.5) / 1000 - 0.5))
    for momentum in (0.2, 0.5, 0.8):
        closed = almost_sure_edge_gain(0.3, momentum=momentum)
        low, at, high = (_growth_at(curvatures, factor * closed, momentum) for factor in (0.9, 1.0, 1.1))
        # a sum over midpoints misses log 2 of an integral over a logarithmic pole
        assert at == pytest.approx(-math.log(2) / 1000, abs=3e-5)
        assert low < -5e-3 < 4e-3 < high


def _growth_at(curvatures, rate, momentum):  # of negative curvatures, too, which models refuse
    from sgdynamics.theory.quadratic._random_products import estimated_growth

    kept = 1 + momentum - rate * curvatures
    updates = np.zeros((kept.size, 2, 2))
    updates[:, 0, 0], updates[:, 0, 1], updates[:, 1, 0] = kept, -momentum, 1.0
    return estimated_growth(updates, np.full(kept.size, 1 / kept.size), 256)


def test_where_all_batches_share_one_curvature_the_edge_is_that_of_the_mean():
    for model in (FiniteSumQuadratic([2.0, 2.0]), FullQuadratic([[2.0]], 1.0), MiniBatchQuadratic([2.0, 1.0], 1.0)):
        for nesterov in (False, True):
            edge = almost_sure_edge(model, momentum=0.6, nesterov=nesterov)
            assert edge == mean_edge(model, momentum=0.6, nesterov=nesterov)
            assert edge == pytest.approx(stability_edge(2.0, momentum=0.6, nesterov=nesterov), rel=1e-14)


def test_the_edge_of_swept_momenta_is_that_of_each():
    momenta = xr.DataArray([0.0, 0.5], dims="momentum")
    expected = [almost_sure_edge(TWO), almost_sure_edge(TWO, momentum=0.5)]
    np.testing.assert_array_equal(almost_sure_edge(TWO, momentum=momenta), expected)


def test_what_is_not_bounded_is_refused():
    wide = FiniteSumQuadratic(np.array([np.eye(2), np.diag([1.0, 2.0])]))
    shuffled = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
    for call, message in (
        (lambda: almost_sure_growth(wide, 0.1, momentum=0.5), "one mode, got 2 modes"),
        (lambda: almost_sure_edge(wide, momentum=0.5), "one mode .* got 2 modes"),
        (lambda: almost_sure_growth(shuffled, 0.1), "independent batches .* got sampling 'reshuffled'"),
        (lambda: almost_sure_edge(shuffled, momentum=0.5), "independent batches .* got sampling 'reshuffled'"),
        (lambda: almost_sure_edge(GaussianLeastSquares([1.0], 1.0), momentum=0.5), "momentum must be 0 .* got 0.5"),
        (lambda: almost_sure_growth(TWO, -1.0), "learning_rate must be"),
        (lambda: almost_sure_growth(TWO, 1.0, momentum=1.0), "momentum must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_bounds_close_like_the_reciprocal_of_the_cells():
    from sgdynamics.theory.quadratic._random_products import bounded_growth

    pair = np.array([[[1.0, -1.0], [1.0, 0.0]], [[-1.0, -1.0], [1.0, 0.0]]])
    widths = [np.diff(bounded_growth(pair, np.full(2, 0.5), cells)).item() for cells in (256, 1024, 4096)]
    for wide, narrow in itertools.pairwise(widths):
        assert 2.5 < wide / narrow < 5


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_weak_noise_grows_as_second_order_perturbation_theory_says(share):
    """Where the rate is small, noise adds eta s^2/(8 h) to half the logarithm of the momentum."""
    spread, momentum = 1e-2, 1 - 1e-12
    edge = 4 * (1 - momentum) / (spread / 2) ** 2
    found = almost_sure_growth(FiniteSumQuadratic([1 - spread / 2, 1 + spread / 2]), share * edge, momentum=momentum)
    assert found.growth.item() == pytest.approx((share - 1) * (1 - momentum) / 2, rel=2e-2, abs=0)
