"""Lanes without target: the bits of plain Python, with and without exits, in any company, and twelve digits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.simulate.uv import _lanes, _scaling, _verdicts, _zero_target
from sgdynamics.simulate.uv._zero_target import GAP, GROUP, KERNEL, FreeRecords, FreeStarts, run_few, run_free
from sgdynamics.simulate.uv.diagram import FOUND


def starts_of(rng, size, low, high):
    """Kernels and alignments over many decades, and what the sharpness is there, in floats or a little off."""
    ntk = np.exp(rng.uniform(np.log(low), np.log(high), size))
    residual = 0.5 * ntk * rng.choice([-1, 1], size) * rng.uniform(0, 1, size) ** rng.integers(0, 9, size)
    height = residual * residual
    sharpness = 0.5 * (ntk + np.sqrt(ntk * ntk + 12 * height)) * (1 + 1e-16 * rng.integers(-3, 4, size))
    return FreeStarts(height, ntk, sharpness)


def empty_records(size):
    return FreeRecords(*(np.full(size, np.nan) for _ in range(3)), np.full(size, -7))


def run(form, starts, steps, stride=_zero_target.STRIDE, exits=True):
    out = empty_records(starts.height.size)
    run_free(form, starts, steps, stride, exits, out)
    return out


def run_plainly(form, starts, steps):
    out = empty_records(starts.height.size)
    run_few(form, starts, steps, out)
    return out


def assert_same_bits(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        assert np.array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        assert np.array_equal(one, other)


def fma(a, b, c):
    return float(Fraction(a) * Fraction(b) + Fraction(c))


def twin(form, height, ntk, sharpness, steps):
    """One lane in plain Python, every step taken with its root."""
    square, second = height, ntk if form == KERNEL else 4.0 - ntk
    peak, top, now = height, sharpness, sharpness
    for t in range(1, steps + 1):
        rest = (1.0 - second) + square if form == KERNEL else (second - 3.0) + square
        second = fma(second - 4.0 if form == KERNEL else second, square, second)
        square = square * (rest * rest)
        if not square < 16.0:
            return math.inf, math.inf, math.inf, t
        kernel = second if form == KERNEL else 4.0 - second
        now = 0.5 * (kernel + math.sqrt(fma(12.0, square, kernel * kernel)))
        peak, top = max(peak, square), max(top, now)
    return peak, now, top, -1


RANGES = {GAP: (0.25, 7.0), KERNEL: (1e-12, 0.25)}
both_forms = pytest.mark.parametrize("form", [GAP, KERNEL], ids=["gap", "kernel"])


@both_forms
@pytest.mark.parametrize("steps", [1, 7, 8, 9, 61, 200])
@pytest.mark.parametrize("runner", [run, run_plainly])
def test_lanes_have_the_bits_of_plain_python_without_exits(form, steps, runner):
    starts = starts_of(np.random.default_rng(steps), 143, *RANGES[form])
    found = runner(form, starts, steps)
    for i in range(143):
        expected = twin(form, *(float(array[i]) for array in starts), steps)
        assert tuple(array[i] for array in found) == expected
    if steps == 200 and form is GAP:
        assert 0.1 < (found.divergence_step > 0).mean() < 0.9
        assert (found.peak_sharpness > starts.sharpness)[found.divergence_step < 0].any()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 7, GROUP - 1, GROUP, GROUP + 1, 700, 4133]),
    st.integers(1, 700),
    st.sampled_from([1, 4, 8, 12, 39, 40]),
    st.sampled_from([GAP, KERNEL]),
)
def test_exits_and_the_steps_between_looks_do_not_show(seed, size, steps, stride, form):
    starts = starts_of(np.random.default_rng(seed), size, *RANGES[form])
    plain = run(form, starts, steps, exits=False)
    assert_same(run(form, starts, steps), plain)
    assert_same(run(form, starts, steps, stride, exits=False), plain)
    assert_same(run(form, starts, steps, stride), plain)
    assert_same(run_plainly(form, starts, steps), plain)


@both_forms
def test_a_cell_is_the_same_in_any_company(form):
    starts = starts_of(np.random.default_rng(1), 1000, *RANGES[form])
    whole = run(form, starts, 150)
    for part in (slice(0, 1), slice(3, 10), slice(400, 1000), slice(None, None, -1)):
        some = FreeStarts(*(np.ascontiguousarray(array[part]) for array in starts))
        assert_same(run(form, some, 150), [array[part] for array in whole])


def test_records_may_lie_where_the_starts_were():
    starts = starts_of(np.random.default_rng(2), 900, *RANGES[GAP])
    apart = run(GAP, starts, 100)
    out = FreeRecords(starts.height, starts.ntk, starts.sharpness, np.empty(900, np.int64))
    run_free(GAP, starts, 100, _zero_target.STRIDE, True, out)
    assert_same(out, apart)


@both_forms
def test_nothing_moves_where_there_is_no_residual(form):
    ntk = np.array([0.01, 0.2] if form == KERNEL else [0.25, 1.5, 2.5, 4.0, 6.0])
    for runner in (run, run_plainly):
        found = runner(form, FreeStarts(np.zeros(ntk.size), ntk, ntk.copy()), 1000)
        assert_same(found, (np.zeros(ntk.size), ntk, ntk, np.full(ntk.size, -1)))


def test_the_two_forms_and_that_of_the_residual_agree_to_twelve_digits():
    rng = np.random.default_rng(3)
    starts = starts_of(rng, 4000, 1e-3, 2.4)
    residual, size = np.sqrt(starts.height), 4000
    state = (residual, (starts.ntk - 2 * residual) * (starts.ntk + 2 * residual), starts.ntk)
    expected = _lanes.Records(*(np.empty(size) for _ in range(3)), np.empty(size, np.int64), np.empty((3, 0)))
    others = (np.zeros(size), starts.height, starts.sharpness)
    _lanes.run_lanes(_lanes.RESIDUAL, np.arange(size), _lanes.Starts(*state, *others), 2000, -1, expected)
    landed = expected.final_sharpness
    for form, some in (
        (GAP, (starts.ntk >= _zero_target.LOW) & (landed > 1 / 32)),
        (KERNEL, (starts.ntk < _zero_target.LOW) & (landed > starts.ntk / 32)),
    ):
        assert some.sum() > 1000
        found = run(form, starts, 2000)
        assert (found.divergence_step < 0).all()
        np.testing.assert_allclose(found.final_sharpness[some], landed[some], rtol=1e-12)
        np.testing.assert_allclose(found.peak_sharpness, expected.peak_sharpness, rtol=1e-12)


def test_the_sign_of_the_gap_decides_over_divergence():
    """However close to 4 the kernel starts."""
    ntk = np.array([4 - 4e-16, 4 - 1e-12, 4 + 1e-12, 4 + 1e-15])
    height = np.full(4, 1e-2)
    found = run(GAP, FreeStarts(height, ntk, 2 + np.sqrt(4 + 3 * height)), 10**5)
    assert (found.divergence_step > 0).tolist() == [False, False, True, True]


# ---------------------------------------------------------------------------------------------------------------------
# What is before and behind the lanes, array by array and in a kernel


def numbers(rng, shape, extremes):
    """Over many decades, and in places what a run can overflow or fall to."""
    made = np.exp(rng.uniform(-40, 40, shape))
    return np.where(rng.random(shape) < 0.2, rng.choice([*extremes, 0.0, 1.0], shape), made)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_starts_are_scaled_to_the_same_bits_array_by_array_and_in_a_kernel(seed, rows, shared):
    rng = np.random.default_rng(seed)
    alone, whole = (rows, 1), (1 if shared else rows, 50)
    c, kappa = np.exp(rng.uniform(-9, 3, (2, *alone)))
    target = rng.choice([0.0, 1e-3, -2.5], alone)
    ntk, sharpness = numbers(rng, (2, *whole), [5e-324, 1e308, np.inf])
    output = rng.choice([-1.0, 1.0], whole) * numbers(rng, whole, [5e-324, 1e300])
    for per in (ntk, sharpness):
        given = (c, kappa, target, output, ntk, sharpness, per)
        (one, few), (other, many) = _scaling.scaled(*given), _scaling.scaled_by_kernel(*given)
        assert list(few) == list(many)
        assert_same_bits(one, other)
        assert all(array.flags.c_contiguous for array in one)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 1e-9, 0.5, np.inf]))
def test_verdicts_are_the_same_array_by_array_and_in_a_kernel(seed, margin):
    rng = np.random.default_rng(seed)
    size = 200
    starts, records = numbers(rng, (3, size), [5e-324, np.inf, np.nan]), numbers(rng, (3, size), [5e-324, np.inf])
    near = rng.random((2, size)) < 0.5  # peaks at their start, or a little above it
    records[1:] = np.where(near, starts[1:] * (1 + rng.choice([0, 1e-9], size)), records[1:])
    step, period = rng.integers(-3, 3, size).clip(-1), rng.integers(-1, 4, size)
    found = []
    for verdict in (_verdicts.judge, _verdicts.judge_by_kernel):
        made = _verdicts.Found(*(np.empty(size, FOUND[name][2]) for name in _verdicts.Found._fields))
        verdict(*starts, *records, step, period, margin, made)
        found.append(made)
    assert_same_bits(*found)
