"""The parts of a diagnosis that work on plain arrays, each against the same thing written out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sgdynamics.theory.diagnosis import diagnose
from sgdynamics.theory.diagnosis.loss_curve import _BINS, _binned
from sgdynamics.theory.diagnosis.memory import Trend, line
from sgdynamics.theory.diagnosis.plateau import _fit

# The grid that a line is tried on: memories from half a block to so many times the record, and shares of the errors.
LONGEST = {"slope": 50.0, "middle": 0.3}
SHARES = (0.1, 0.4, 0.8, 1.0)


def covariance(blocks, length, memory):
    """Of block means, record by record."""
    record = np.arange(blocks * length)
    single = np.exp(-np.abs(record[:, None] - record) / memory)
    return single.reshape(blocks, length, blocks, length).mean(axis=(1, 3))


def by_least_squares(means, place, length, of):
    """Generalised least squares with every covariance of the grid, and what is left of its likelihood."""
    blocks = means.size
    design = np.stack([np.ones(blocks), place - place.mean()], axis=1)
    wanted = 1 if of == "slope" else 0
    residual_maker = np.eye(blocks) - design @ np.linalg.inv(design.T @ design) @ design.T
    freedom = blocks - 2
    tried = [(0.0, np.eye(blocks), 0.5)]
    for memory in np.geomspace(0.5 * length, LONGEST[of] * length * blocks, 12):
        within = covariance(blocks, length, memory)
        within = within / (np.trace(residual_maker @ within) / freedom)
        for share in SHARES:
            tried.append((memory, (1 - share) * np.eye(blocks) + share * within, 0.5 / (12 * len(SHARES))))
    location, scale, weight, memories = [], [], [], []
    for memory, matrix, prior in tried:
        inverse = np.linalg.inv(matrix)
        normal = design.T @ inverse @ design
        fitted = np.linalg.solve(normal, design.T @ inverse @ means)
        square = (means - design @ fitted) @ inverse @ (means - design @ fitted)
        determinants = np.linalg.slogdet(matrix)[1] + np.linalg.slogdet(normal)[1]
        location.append(fitted[wanted])
        scale.append(math.sqrt(square / freedom * np.linalg.inv(normal)[wanted, wanted]))
        weight.append(math.log(prior) - 0.5 * determinants - 0.5 * freedom * math.log(square))
        memories.append(memory)
    weight = np.exp(np.array(weight) - max(weight))
    order = [*range(1, len(tried)), 0]  # the independent errors come last
    weight = (weight / weight.sum())[order]
    return np.array(location)[order], np.array(scale)[order], weight, np.array(memories)[order]


@pytest.mark.parametrize("of", ["slope", "middle"])
@pytest.mark.parametrize(("blocks", "length", "wander"), [(6, 3, 0.0), (9, 4, 2.0), (12, 1, 0.5)])
def test_a_line_is_the_mixture_of_generalised_least_squares(of, blocks, length, wander):
    random = np.random.default_rng([blocks, length])
    means = 2 + 0.1 * np.arange(blocks) + random.normal(size=blocks) + wander * np.cumsum(random.normal(size=blocks))
    place = length * (np.arange(blocks) + 0.5)
    found = line(means, place, length, of=of)
    location, scale, weight, memory = by_least_squares(means, place, length, of)
    np.testing.assert_allclose(found.location, location, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
    np.testing.assert_allclose(found.probability, weight, rtol=1e-6, atol=1e-12)
    assert found.freedom == blocks - 2
    assert found.long_memory == pytest.approx(weight[memory > 0.1 * length * blocks].sum(), rel=1e-6)
    assert found.estimate == pytest.approx(weight @ location, rel=1e-8)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.99), st.integers(2, 10))
def test_intervals_lie_between_the_quantiles_of_a_mixture(seed, confidence, freedom):
    random = np.random.default_rng(seed)
    scale, location = 10.0 ** random.uniform(-3, 3, size=4), random.normal(size=4)
    probability = random.dirichlet(np.ones(4))
    trend = Trend(location, scale, probability, freedom, 0.0)
    low, high = trend.interval(confidence)
    for end, level in ((low, (1 - confidence) / 2), (high, (1 + confidence) / 2)):
        assert probability @ stats.t.cdf((end - location) / scale, freedom) == pytest.approx(level, abs=1e-9)
    plain = np.subtract(*stats.t.interval(confidence, freedom, loc=location[-1], scale=scale[-1])[::-1])
    assert trend.inflation(confidence) == pytest.approx(max(1.0, (high - low) / plain), rel=1e-9)


@pytest.mark.parametrize("signed", [True, False])
@given(st.floats(0.02, 0.95), st.booleans(), st.floats(-3, 3))
def test_a_plateau_that_is_reached_exactly_is_found(signed, size, alternates, log_plateau):
    factor = -size if signed and alternates else size
    lags, plateau = np.array([1.0, 2, 3, 5, 9, 30]), 10.0**log_plateau
    found, angle = _fit(plateau * (1 - factor**lags)[None], lags, signed=signed)
    # the angle lies on a grid between whose points a parabola leads
    assert np.tanh(angle[0]) == pytest.approx(factor, abs=2e-4)
    assert found[0] == pytest.approx(plateau, rel=1e-3)


@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.sampled_from([1.0, 7.0, 0.125]))
def test_bins_grow_with_the_step(seed, records, gap):
    random = np.random.default_rng(seed)
    step = gap * (1000 + np.cumsum(random.integers(1, 5, size=records))).astype(float)
    step[1] = step[0] + gap  # the shortest distance is the unit
    step = np.sort(step)
    loss = random.normal(size=records)
    bins = {}
    for here, value in zip(step, loss, strict=True):
        since = (here - step[0]) / np.diff(step).min()
        whole = (step[-1] - step[0]) / np.diff(step).min()
        number = _BINS * math.log(since + 1) / math.log(whole + 1)
        near = round(number) if abs(number - round(number)) < 1e-9 else math.floor(number)  # an edge belongs above
        bins.setdefault(near, []).append((here, value))
    found = _binned(step, loss)
    wanted = [(*np.mean(rows, axis=0), len(rows)) for _, rows in sorted(bins.items())]
    assert found[2].sum() == records
    np.testing.assert_allclose(np.transpose(found), wanted, rtol=1e-12, atol=1e-12)


def test_two_slopes_are_enough_for_a_vertex_and_one_is_not():
    two = diagnose({"slope_before": [1.0, 1.2], "slope_after": [-1.0, -1.2]})
    assert float(two.sel(quantity="vertex").estimate) == pytest.approx(0.5)
    one = diagnose({"slope_before": [1.0, np.nan], "slope_after": [-1.0, np.nan]})
    assert "vertex" not in one.quantity
