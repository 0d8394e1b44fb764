"""Self-stabilising runs: against a plain twin bit for bit, exact recursions, and the plateaus they must reach."""

import math
import os
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.break_even import SelfStabilizingMode, SelfStabilizingModes, draw_ensemble
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.outcome import Outcome
from sgdynamics.simulate._streams import Purpose, stream_key
from sgdynamics.simulate.break_even import ensemble
from sgdynamics.simulate.quadratic import ensemble as quadratic_ensemble
from sgdynamics.theory.sharpest_directions import (
    conditional_increase_probability,
    conditional_overshoot_probability,
    increases,
    overshoot_probability,
    overshoots,
    step_to_curvature,
)

EXAMPLES = 1024


def factor(size, examples=EXAMPLES):
    return (examples - size) / (size * (examples - 1))


def quality(size, relative_variance, examples=EXAMPLES):
    return 1 + relative_variance * factor(size, examples)


def plateau(rate, size, deviation, sharpening, relative_variance):
    """The fixed point of v = rho v + eta^2 c sigma^2, v = 2a, by bisection on its upper branch."""
    c = factor(size)

    def excess(y):
        rho = (1 - rate * y) ** 2 + rate**2 * y**2 * relative_variance * c
        return (rho - 1) * 2 * sharpening + rate**2 * c * deviation**2

    low, high = 1 / (rate * quality(size, relative_variance)), 2.1 / rate
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return low


def mode(size, deviation=0.5, sharpening=0.01, relative_variance=0.25, seed=0, law="gaussian", **more):
    drawn = draw_ensemble(EXAMPLES, relative_variance=relative_variance, force_deviation=deviation, law=law, seed=seed)
    return SelfStabilizingMode(*drawn, sharpening=sharpening, batch_size=size, **more)


RATES = 0.01 * 0.7 ** np.arange(10)


def modes(size, relative_variance=0.25, seed=0, law="gaussian", examples=512, count=10):
    drawn = draw_ensemble(
        examples, relative_variance=relative_variance, force_deviation=0.05, modes=count, law=law, seed=seed
    )
    return SelfStabilizingModes(*drawn, sharpening=RATES[:count], batch_size=size, start_curvature=0.5)


# ---------------------------------------------------------------------------------------------------------------------
# The twin: plain Python integers and floats

MASK = 2**64 - 1


def absorbed(state, word):
    z = ((state ^ word) + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def words(key, replica):
    def turned(word, count):
        return ((word << count) | (word >> (64 - count))) & MASK

    s0, s1, s2, s3 = (absorbed(absorbed(int(lane), replica), 0) for lane in key)
    while True:
        yield (turned((s0 + s3) & MASK, 23) + s0) & MASK
        s2, s3, shifted = s2 ^ s0, s3 ^ s1, (s1 << 17) & MASK
        s1, s0 = s1 ^ s2, s0 ^ s3
        s2, s3 = s2 ^ shifted, turned(s3, 45)


def below(bound, stream):
    while True:
        product = (next(stream) >> 32) * bound
        if product % 2**32 >= 2**32 % bound:
            return product >> 32


def twin(model, rate, steps, replica, seed, window=1.0, nudge=1.0, nudged=0, refresh=1):
    """One replica, from the definition of the map: the path, the means and the first steps at the edge."""
    several = isinstance(model, SelfStabilizingModes)
    key = stream_key(seed, Purpose.BREAK_EVEN_M2 if several else Purpose.BREAK_EVEN_M1)
    stream, n, size = words(key, replica), model.examples, model.batch_size
    h, b = (np.reshape(values, (n, -1)).tolist() for values in (model.relative_curvatures, model.forces))
    d = len(h[0])
    a, x, y = (np.broadcast_to(v, d).tolist() for v in (model.sharpening, model.start, model.start_curvature))
    variance = np.broadcast_to(model.relative_variance, d).tolist()
    noise = np.broadcast_to(model.force_variance, d).tolist()
    joint = np.broadcast_to(model.curvature_force_covariance, d).tolist()
    c, beta = model.batch_factor, model.restoring
    edges = [2 / (rate * (1 + c * k)) for k in variance]
    order, path, first, chosen = list(range(n)), [(list(x), list(y))], [-1] * d, []
    sums = {name: [0.0] * d for name in ("y", "square", "slope", "curved", "spread", "up", "over")}
    counted = max(1, round(window * steps))
    for t in range(steps + 1):
        first = [t if was < 0 and y[j] >= edges[j] else was for j, was in enumerate(first)]
        if t == steps:
            break
        drawn = []
        for i in range(size if size < n or model.sampling == "replacement" else 0):
            if model.sampling == "replacement":
                drawn.append(below(n, stream))
                continue
            other = i + below(n - i, stream)
            order[i], order[other] = order[other], order[i]
            drawn.append(order[i])
        if nudged and t % refresh == 0:
            chosen = sorted(range(d), key=lambda j: -y[j])[:nudged]
        for j in range(d):
            hb, bb = (1.0, 0.0) if not drawn else (0.0, 0.0)
            for i in drawn:
                hb, bb = hb + h[i][j], bb + b[i][j]
            if drawn:
                hb, bb = hb * (1 / size), bb * (1 / size)
            own = rate * nudge if j in chosen else rate
            s = y[j] * x[j]
            q, square = hb * s - bb, x[j] * x[j]
            if t >= steps - counted:
                spread = s * s * variance[j] + noise[j] - 2 * s * joint[j]
                sums["y"][j] += y[j]
                sums["square"][j] += square
                sums["slope"][j] += s * s
                sums["curved"][j] += own * y[j] * (s * s + c * spread)
                sums["spread"][j] += spread
                sums["up"][j] += 0.5 * (own * y[j]) * q * q > q * s
                sums["over"][j] += own * y[j] * q * q > q * s
            moved = x[j] - own * q
            y[j] = max(y[j] + rate * (a[j] - 0.5 * beta * hb * square), model.curvature_floor)
            x[j] = math.copysign(max(abs(moved), model.oscillation_floor), moved)
        path.append((list(x), list(y)))
    return np.array(path), {name: np.array(total) / counted for name, total in sums.items()}, np.array(first)


NAMES = {
    "y": "mean_curvature",
    "square": "second_moment",
    "slope": "squared_slope",
    "curved": "curved_square",
    "spread": "projection_variance",
    "up": "increase_probability",
    "over": "overshoot_probability",
}

TWINS = {
    "one mode": (lambda: mode(4, sharpening=0.5), {"window": 0.3}),
    "one example": (lambda: mode(1, sharpening=0.5), {}),
    "full batch": (lambda: mode(EXAMPLES, sharpening=0.5), {}),
    "with replacement": (lambda: mode(7, sharpening=0.5, sampling="replacement"), {}),
    "the floor of the curvature": (lambda: mode(2, deviation=20.0, sharpening=0.5), {}),
    "modes": (lambda: modes(3), {}),
    "nudged modes": (lambda: modes(3), {"nudge": 0.25, "nudged": 2, "refresh": 3}),
    "accentuated modes": (lambda: modes(3), {"nudge": 2.0, "nudged": 3}),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_run_is_its_plain_twin_bit_for_bit(name):
    make, how = TWINS[name]
    model, steps, seed = make(), 400, 5
    found = ensemble(model, 0.3, steps=steps, replicas=[3], seed=seed, record=range(steps + 1), **how)
    path, means, first = twin(model, 0.3, steps, 3, seed, **{"window": 0.75} | how)
    run = found.isel(replica=0)
    assert np.array_equal(run.oscillation.values.reshape(-1, steps + 1), path[:, 0].T)
    assert np.array_equal(run.curvature.values.reshape(-1, steps + 1), path[:, 1].T)
    assert np.array_equal(np.ravel(run.break_even_step), first)
    for short, long in NAMES.items():
        assert np.array_equal(np.ravel(run[long]), means[short]), long
    if name == "the floor of the curvature":
        assert (path[:, 1] == model.curvature_floor).any()


def test_every_step_is_the_models_own_step():
    """Full batches, so that the batch is known."""
    model = mode(EXAMPLES, sharpening=0.5)
    run = ensemble(model, 0.2, steps=50, replicas=1, seed=0, record=range(51)).isel(replica=0)
    x, y = run.oscillation.values, run.curvature.values
    moved, grown = model.step(x[:-1], y[:-1], 0.2)
    np.testing.assert_allclose(x[1:], moved, rtol=1e-14)
    np.testing.assert_allclose(y[1:], grown, rtol=1e-14)
    np.testing.assert_allclose(run.sharpness, model.sharpness(x, y), rtol=1e-14)


@settings(max_examples=6)
@given(st.permutations(range(5)), st.integers(1, 5))
def test_a_run_does_not_depend_on_the_other_replicas_or_on_the_threads(order, threads):
    model = modes(3, count=3)
    together = ensemble(model, [0.1, 0.3], steps=60, replicas=5, seed=1)
    with mock.patch.dict(os.environ, SGDYNAMICS_THREADS=str(threads)):
        apart = ensemble(model, [0.1, 0.3], steps=60, replicas=order[:2], seed=1)
        alone = ensemble(model, 0.3, steps=60, replicas=order[:2], seed=1)
    xr.testing.assert_identical(apart, together.sel(replica=order[:2]))
    xr.testing.assert_identical(alone.drop_attrs(), apart.sel(learning_rate=0.3, drop=True).drop_attrs())


def test_a_sweep_is_its_cells_and_stays_lazy():
    model = mode(4)
    rates = xr.DataArray([0.1, 0.2, 0.3], dims="rate")
    nudges = xr.DataArray([0.5, 1.0], dims="nudge")
    how = {"steps": 40, "replicas": 2, "seed": 0, "nudged": 1, "record": [0, 40]}
    swept = ensemble(model, rates, nudge=nudges, **how)
    for i in range(3):
        for j in range(2):
            cell = ensemble(model, float(rates[i]), nudge=float(nudges[j]), **how)
            xr.testing.assert_identical(swept.isel(rate=i, nudge=j).drop_attrs(), cell.drop_attrs())
    lazy = ensemble(model, rates.chunk({"rate": 1}), nudge=nudges, **how)
    assert lazy.mean_curvature.chunks is not None
    xr.testing.assert_identical(lazy.compute(), swept)


def test_divergence_is_a_result():
    """Without a floor a kick turns the curvature negative; then nothing holds the weight."""
    drawn = draw_ensemble(EXAMPLES, relative_variance=2.0, force_deviation=1.0, seed=0)
    model = SelfStabilizingMode(*drawn, sharpening=0.01, start=1e40, start_curvature=1e30, curvature_floor=0.0)
    found = ensemble(model, 0.5, steps=50, replicas=1, seed=0, record=[0, 1, 50])
    assert found.divergence_step.item() == 1
    assert found.outcome.item() == Outcome.DIVERGED
    assert np.isinf(found.curvature.values[0]).tolist() == [False, True, True]
    for name in ("mean_curvature", "second_moment", "mean_minimiser", "projection_variance", "largest_curvature"):
        assert found[name].item() == math.inf
    assert found.sharpness.values[0, -1] == math.inf
    alive = ensemble(mode(4), 0.1, steps=50, replicas=1, seed=0)
    assert (alive.divergence_step.item(), alive.outcome.item()) == (-1, Outcome.UNSETTLED)


def test_bad_combinations_are_refused():
    with pytest.raises(ValueError, match="nudged must be at most the number of modes, 1"):
        ensemble(mode(4), 0.1, steps=1, replicas=1, seed=0, nudged=2)
    with pytest.raises(ValueError, match=r"record must be increasing steps in 0\.\.T = 3"):
        ensemble(mode(4), 0.1, steps=3, replicas=1, seed=0, record=[4])
    with pytest.raises(ValueError, match="nudge must be a number or a DataArray"):
        ensemble(mode(4), 0.1, steps=3, replicas=1, seed=0, nudge=[0.1, 0.2])
    with pytest.raises(ValueError, match="learning_rate must be swept over dims"):
        ensemble(mode(4), xr.DataArray([0.1], dims="step"), steps=3, replicas=1, seed=0)


# ---------------------------------------------------------------------------------------------------------------------
# Exact facts


@pytest.mark.parametrize("sampling", ["without_replacement", "replacement"])
def test_at_a_frozen_curvature_mean_and_second_moment_obey_their_recursions(sampling):
    """Few examples, large batches: with and without replacement differ."""
    n, size, rate, y, replicas, steps = 12, 6, 0.4, 3.0, 20000, 12
    rng = np.random.default_rng(2)
    h, b = rng.gamma(2, 0.5, n), rng.standard_normal(n)
    h, b = h / h.mean(), b - b.mean()
    model = SelfStabilizingMode(
        h, b, sharpening=0.0, restoring=1e-200, batch_size=size, sampling=sampling, start=1.0, start_curvature=y
    )
    record = np.arange(steps + 1)
    found = ensemble(model, rate, steps=steps, replicas=replicas, seed=3, record=record).oscillation
    c = 1 / size if sampling == "replacement" else (n - size) / (size * (n - 1))
    mean, square = 1.0, 1.0
    for step in record:
        x = found.sel(step=step).values
        if step:
            for values, exact in ((x, mean), (x**2, square)):
                assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(replicas)
        rho = (1 - rate * y) ** 2 + rate**2 * y**2 * c * h.var()
        joint = ((h - 1) * b).mean()
        square = rho * square + rate**2 * c * b.var() - 2 * rate * c * joint * (rate * y) * mean
        mean = (1 - rate * y) * mean


def test_batches_without_replacement_are_all_equally_likely():
    """Curvatures 1, 2, 4, 8, 16 name the examples: a first step tells which were drawn, a later one too."""
    h = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    model = SelfStabilizingMode(h / h.mean(), sharpening=0.0, restoring=1e-200, batch_size=2, start_curvature=1.0)
    found = ensemble(model, 0.01, steps=3, replicas=20000, seed=4, record=[0, 1, 2, 3]).oscillation
    for step in (1, 3):
        ratio = found.sel(step=step).values / found.sel(step=step - 1).values
        batch = np.rint((1 - ratio) / 0.01 * 2 * h.mean()).astype(int)
        values, counts = np.unique(batch, return_counts=True)
        assert len(values) == 10
        assert (abs(counts - 2000) < 4 * math.sqrt(20000 * 0.1 * 0.9)).all()


def test_a_full_batch_without_noise_stays_at_the_edge_and_needs_its_floor():
    """Without a floor x underflows and y passes 2/eta; with one it comes back."""
    floors = {"held": 1e-6, "free": 0.0}
    found = {
        name: ensemble(
            mode(EXAMPLES, deviation=0.0, oscillation_floor=floor), 0.1, steps=80_000, replicas=1, seed=0, window=0.25
        )
        for name, floor in floors.items()
    }
    assert found["held"].mean_curvature.item() == pytest.approx(20, rel=0.02)
    assert found["held"].second_moment.item() == pytest.approx(0.02, rel=0.06)
    assert found["free"].mean_curvature.item() > 60


# ---------------------------------------------------------------------------------------------------------------------
# Claims about the plateau: what one unrecorded draw gave must lie among draws of ours

# rate, batch, sigma, a, kappa^2; y and A_hat of the one draw
ROWS = [
    (0.1, 16, 0.0, 0.01, 0.25, 19.620, 0.4990),
    (0.1, 16, 0.5, 0.01, 0.25, 19.599, 0.4995),
    (0.1, 16, 1.0, 0.01, 0.25, 19.508, 0.4999),
    (0.1, 16, 1.5, 0.01, 0.25, 19.314, 0.4997),
    (0.2, 64, 1.0, 0.01, 0.25, 9.884, 0.4999),
    (0.1, 16, 1.0, 0.01, 0.0, 19.843, 0.5001),
    (0.1, 16, 1.0, 0.02, 0.0, 19.921, 0.5001),
    (0.05, 16, 1.0, 0.02, 0.0, 39.958, 0.5000),
]


def draws_of(count, make, rate, **how):
    """As many draws of the examples, one run of each."""
    found = [ensemble(make(seed), rate, replicas=1, seed=seed, **how) for seed in range(count)]
    return xr.concat([run.isel(replica=0, step=-1, drop=True) for run in found], "draw")


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_curvature_hovers_at_the_fixed_point_of_the_averaged_recursion(row):
    rate, size, deviation, sharpening, relative_variance, one_y, one_minimiser = row
    found = draws_of(
        40,
        lambda seed: mode(size, deviation, sharpening, relative_variance, seed, law="gamma"),
        rate,
        steps=400_000,
    )
    y = plateau(rate, size, deviation, sharpening, relative_variance)
    tolerance = 0.01 if deviation >= 1 else 0.015 if deviation else 0.025
    assert (abs(found.mean_curvature / y - 1) < tolerance).all()
    assert abs(found.second_moment / (2 * sharpening) - 1).max() < 0.03
    assert float(found.mean_curvature.quantile(0.01)) <= one_y <= float(found.mean_curvature.quantile(0.99))
    low, high = (float(found.mean_minimiser.quantile(part)) for part in (0.01, 0.99))
    assert low - 5e-5 <= one_minimiser <= high + 5e-5  # it was rounded
    assert 0.48 < float(found.mean_minimiser.min()) <= float(found.mean_minimiser.max()) < 0.53
    assert found.dead_share.max() == 0
    if deviation >= 1:  # at weaker noise the oscillation is far from Gaussian
        gain = rate * found.mean_curvature
        assert abs(found.overshoot_probability - overshoot_probability(gain)).max() < 0.015
    if relative_variance == 0:
        gap, noise = 2 / rate - found.mean_curvature.mean(), rate * factor(size) * deviation**2 / (4 * sharpening)
        assert abs(float(gap) / noise - 1) < 0.25


@pytest.mark.slow
def test_break_even_comes_after_the_curvature_could_have_grown_to_its_edge_and_never_before():
    means = {}
    for rate, steps, allowed in ((0.05, 84_000, 0.02), (0.1, 21_000, 0.05), (0.2, 6_000, 0.20)):
        found = draws_of(40, lambda seed: mode(16, 0.5, seed=seed), rate, steps=steps)
        ideal = (2 / (rate * quality(16, 0.25)) - 1) / (rate * 0.01)
        assert (found.break_even_step >= ideal).all()
        assert float(found.break_even_step.mean()) < (1 + allowed) * ideal
        one = {0.05: 77279, 0.1: 19058, 0.2: 4741}[rate]
        assert found.break_even_step.quantile(0.01) <= one <= found.break_even_step.quantile(0.99)
        quiet = ensemble(mode(16, 0.0), rate, steps=steps, replicas=2, seed=0)
        assert (quiet.break_even_step - ideal < 10).all()
        assert (quiet.break_even_step >= ideal).all()
        means[rate] = float(found.break_even_step.mean())
    assert means[0.05] / means[0.2] == pytest.approx(16.3, rel=0.05)
    assert means[0.1] / means[0.2] == pytest.approx(4.0, rel=0.05)


@pytest.mark.slow
def test_larger_rates_and_smaller_batches_break_even_at_lower_curvature():
    """Kappa^2 = 0.485, Gamma: plateau within 5% of its fixed point, slope variance as the square of the curvature."""
    found = {
        (rate, size): draws_of(
            6,
            lambda seed, size=size: mode(size, 0.05, 0.02, 0.485, seed, law="gamma"),
            rate,
            steps=200_000,
            window=0.5,
        )
        for rate, size in ((0.05, 64), (0.05, 256), (0.1, 16), (0.1, 64), (0.1, 256), (0.2, 64), (0.2, 256))
    }
    mean = {cell: float(runs.mean_curvature.mean()) for cell, runs in found.items()}
    for (rate, size), runs in found.items():
        y = plateau(rate, size, 0.05, 0.02, 0.485)
        assert (abs(runs.mean_curvature / y - 1) < 0.05).all()
        assert ((runs.mean_minimiser > 0.48) & (runs.mean_minimiser < 0.53)).all()
        assert abs(runs.second_moment / 0.04 - 1).max() < 0.06
        slopes = runs.projection_variance - 0.05**2
        assert float((slopes / (0.485 * 0.04 * y**2)).mean()) == pytest.approx(1, abs=0.06)
    for size in (64, 256):
        assert mean[0.05, size] > mean[0.1, size] > mean[0.2, size]
        for rate in (0.05, 0.1):
            assert mean[2 * rate, size] / mean[rate, size] == pytest.approx(0.5, rel=0.03)
            ratio = float(found[rate, size].projection_variance.mean() - 0.0025) / float(
                found[2 * rate, size].projection_variance.mean() - 0.0025
            )
            assert 3.5 < ratio < 4.5
    assert mean[0.1, 16] < mean[0.1, 64] < mean[0.1, 256]
    assert mean[0.2, 64] < mean[0.2, 256]


def test_with_multiplicative_noise_alone_the_overshoot_law_fails():
    """The oscillation flips sign at every step and its steps are always too long: nothing Gaussian about it."""
    found = ensemble(mode(16, 0.0), 0.1, steps=60_000, replicas=2, seed=0, window=0.5)
    law = overshoot_probability(0.1 * found.mean_curvature)
    assert (found.overshoot_probability - law > 0.03).all()
    assert abs(found.mean_minimiser - 0.5).max() < 0.03  # stationarity is enough for the minimiser


# ---------------------------------------------------------------------------------------------------------------------
# Several modes

# gamma, K, the top four of one draw
NUDGES = [(1.0, 0), (0.1, 1), (0.1, 3), (0.5, 1), (2.0, 3)]


def top_modes(count, make, rate, **how):
    runs = draws_of(count, make, rate, window=0.1, **how)
    assert runs.dead_share.max() == 0
    return runs.mean_curvature.values


@pytest.mark.parametrize(("nudge", "nudged"), NUDGES)
def test_nudging_moves_the_cap_of_the_sharpest_modes_to_two_over_the_nudged_rate(nudge, nudged):
    y = top_modes(20, lambda seed: modes(16, seed=seed), 0.1, steps=40_000, nudge=nudge, nudged=nudged)
    free = 0.5 + RATES * 4000 * 0.95
    mean, inside = y.mean(axis=0), nudged or 1
    own = 2 / (0.1 * nudge)
    if nudge <= 1:
        expected = np.minimum(free, np.where(np.arange(10) < inside, own, 20))
        assert mean[:inside] == pytest.approx(expected[:inside], rel=0.05)
        assert (mean[inside:] <= 1.1 * 20).all()
        low, high = np.quantile(y[:, :4], [0.01, 0.99], axis=0)
        other = np.array(elsewhere("nudged_curvatures").under(nudge, nudged).along(1, 2, 3, 4))
        assert ((low - 0.05 <= other) & (other <= high + 0.05)).all()
    else:  # the largest are chosen anew at every step: all that would exceed the lower cap meet it
        assert mean[:4] == pytest.approx([own] * 4, rel=0.05)
        assert mean[4:] == pytest.approx(free[4:], rel=0.01)


def test_too_few_accentuated_modes_share_a_cap_above_their_own():
    y = top_modes(6, lambda seed: modes(16, seed=seed), 0.1, steps=40_000, nudge=2.0, nudged=1)
    assert y.mean(axis=0)[:4] == pytest.approx([12.6] * 4, rel=0.05)


def test_the_condition_ratio_doubles_with_the_rate_because_the_top_is_clipped():
    rows = {0.05: (38.5, 128.1, 0.0528), 0.1: (20.0, 102.5, 0.1017), 0.2: (10.0, 69.8, 0.2033)}
    traces = []
    for rate, (top, trace, ratio) in rows.items():
        y = top_modes(2, lambda seed: modes(512, 0.98, seed), rate, steps=round(4000 / rate))
        assert y.max(axis=1) == pytest.approx(top, rel=0.01)
        assert y.sum(axis=1) == pytest.approx(trace, rel=0.01)
        assert y.min(axis=1) / y.max(axis=1) == pytest.approx(ratio, rel=0.05)
        assert y[:, -1] == pytest.approx(2.03, rel=0.01)
        traces.append(y.sum(axis=1).mean())
    assert traces[0] > traces[1] > traces[2]


def test_small_batches_of_uneven_examples_leave_dead_modes_which_are_counted():
    found = ensemble(modes(4, 0.98, law="gamma"), 0.2, steps=20_000, replicas=8, seed=0, window=0.1)
    dead = found.dead_share > 0.99
    assert dead.any()
    assert (found.mean_curvature.where(dead) < 0.01).sum() == dead.sum()


# ---------------------------------------------------------------------------------------------------------------------
# The laws of the sharpest directions, on ensembles of linear SGD


def linear(gain, steps, replicas, seed, displacement=0.0):
    """Slopes and batch slopes of a quadratic of curvature 1 and noise of variance 1: a step is the rate times these."""
    model = MiniBatchQuadratic([1.0], 1.0, displacement=displacement)
    path = quadratic_ensemble(
        model, constant(gain, steps), replicas=replicas, seed=seed, record=np.arange(steps + 1)
    ).error
    path = path.isel(mode=0, drop=True).transpose("step", "replica").values
    return path[:-1], (path[:-1] - path[1:]) / gain


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.0, 1.9])
def test_an_ensemble_has_its_minimiser_at_half_raises_the_loss_half_the_time_and_overshoots_by_the_arcsine(gain):
    slope, batch = (values[200:] for values in linear(gain, 600, 2000, seed=7))
    dims = ("measured_step", "direction")
    square = slope**2 + 1
    data = xr.Dataset(
        {
            "gradient_projection": (dims, slope),
            "curvature": (dims, np.ones_like(slope)),
            "projection_second_moment": (dims, square),
            "batch_projection": (("measured_step", "draw", "direction"), batch[:, None]),
        }
    )
    found = step_to_curvature(data, gain)
    pooled = (slope**2).sum() / (gain * square).sum()
    assert 0.49 < pooled < 0.51
    assert 0.49 < float(found.increase_probability.mean()) < 0.51
    assert float(found.overshoot_probability.mean()) == pytest.approx(overshoot_probability(gain), abs=0.005)


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.9, 2.5])
def test_the_first_step_of_an_ensemble_misses_as_often_as_its_signal_says(gain):
    replicas, signal = 40_000, 1.3
    slope, batch = (values[0] for values in linear(gain, 1, replicas, seed=8, displacement=signal))
    for event, law in ((overshoots, conditional_overshoot_probability), (increases, conditional_increase_probability)):
        share, exact = event(gain, 1.0, slope, batch).mean(), law(gain, signal)
        assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / replicas)
