"""Orbits on the line and off it, against one number at a time: every exponent and every last point."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.simulate.uv import bifurcation, lyapunov

few = settings(max_examples=15, deadline=None)


def line_orbit(q, start, steps):
    """Points of one orbit, one step at a time."""
    roof = (2.0 + q) * (1.0 - 2.0**-52)
    path = [start]
    for _ in range(steps):
        rest = 1.0 + q - path[-1]
        path.append(min(path[-1] * (rest * rest), roof))
    return path


def cone_orbit(q, p, m, steps):
    """Points of one orbit of the two sides of the cone; None once it is beyond return."""
    path = [(p, m)]
    for _ in range(steps):
        if path[-1] is not None:
            p, m = path[-1]
            s = 0.25 * (p - m) - q
            up, down = 1.0 - s, 1.0 + s
            p, m = up * (up * p), down * (down * m)
            path.append((p, m) if abs(0.25 * (p - m) - q) < 4.0 + 3.0 * q else None)
        else:
            path.append(None)
    return path


def exponents(q, start, transient, steps):
    path = np.array(line_orbit(q, start, transient + steps - 1)[transient:])
    with np.errstate(divide="ignore"):
        along, across = np.log(abs((1 + q - path) * (1 + q - 3 * path))), 2 * np.log(abs(1 + path - q))
    return math.fsum(along) / steps, math.fsum(across) / steps


# points, cycles of 2, 4, 8 and many, the window of three, and chaos; not a multiple of anything
ROUTE = np.concatenate([np.linspace(0.05, 1.31, 173), np.linspace(1.6, 2.0, 112), [1.6992, 1.7, 1.701]])


@pytest.mark.parametrize(("transient", "steps"), [(0, 1), (3, 15), (0, 16), (500, 333), (17, 3001)])
def test_exponents_are_those_of_every_step_whether_an_orbit_repeats_or_not(transient, steps):
    found = lyapunov(ROUTE, steps=steps, transient=transient)
    expected = np.array([exponents(q, 0.3, transient, steps) for q in ROUTE.tolist()])
    np.testing.assert_allclose(found.exponent, expected[:, 0], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found.transverse_exponent, expected[:, 1], rtol=1e-12, atol=1e-12)


def test_cycles_are_not_followed_to_the_end():
    """A billion steps at once, to the last digits; of a part of a turn too."""
    found = lyapunov([0.9, 1.1], steps=10**9 + 7, transient=10**9)
    np.testing.assert_allclose(found.exponent, [math.log(0.8), math.log(0.18) / 2], rtol=1e-8)
    np.testing.assert_allclose(found.transverse_exponent, [0.0, math.log(0.8)], rtol=1e-8, atol=1e-12)
    # 10^9 is even, so that an odd orbit ends on the other point
    ends = [bifurcation(1.1, transient=10**9 + odd, keep=1).output.item() for odd in (0, 1)]
    np.testing.assert_allclose(sorted(ends), [0.7298438, 1.3701562], atol=1e-6)
    assert ends[1] == pytest.approx(ends[0] * (2.1 - ends[0]) ** 2, rel=1e-14)
    assert ends[0] == bifurcation(1.1, transient=10**4, keep=1).output.item()


def test_no_slope_is_a_logarithm_of_minus_infinity():
    # through the top of the map; through its zero, where the orbit stays and leaves at the rate of 0
    assert lyapunov(0.5, start=0.5, steps=40, transient=0).exponent == -math.inf
    assert lyapunov(1.0, start=2.0, steps=40, transient=0).exponent == -math.inf
    assert lyapunov(1.0, start=2.0, steps=40, transient=1).exponent.item() == pytest.approx(math.log(4), rel=1e-14)
    assert lyapunov(1.0, start=2.0, steps=40, transient=1).transverse_exponent == -math.inf


@pytest.mark.parametrize("transient", [0, 1, 40, 1003])
@pytest.mark.parametrize("imbalance", [0.0, 0.2])
@pytest.mark.parametrize("chained", [False, True])
def test_last_points_are_those_of_every_step_bit_for_bit(transient, imbalance, chained):
    values = np.concatenate([ROUTE, [2.0001, 2.4]])
    found = bifurcation(values, transient=transient, keep=3, imbalance=imbalance, continuation=chained)
    root = math.sqrt(0.09 + 0.25 * imbalance**2)
    begin = 2.0 * (root + 0.3), 0.5 * imbalance * imbalance / (root + 0.3)
    state = begin
    for q, output, ntk in zip(values.tolist(), found.output.values, found.ntk.values, strict=True):
        p, m = state if chained else begin
        if m == 0.0 and q <= 2.0 and 0.25 * p <= 2.0 + q:  # beyond it no orbit comes back
            path = [(4.0 * x, 0.0) for x in line_orbit(q, 0.25 * p, transient + 3)]
        else:
            path = cone_orbit(q, p, m, transient + 3)
        state = path[-1] or begin
        kept = path[transient:-1]
        assert output.tolist() == [math.inf if at is None else 0.25 * (at[0] - at[1]) - q + q for at in kept]
        assert ntk.tolist() == [math.inf if at is None else 0.5 * (at[0] + at[1]) for at in kept]


@few
@given(st.integers(1, 600), st.integers(1, 80), st.sampled_from(["1", "2"]))
def test_neither_threads_nor_neighbours_change_a_bit(count, steps, threads):
    values = np.linspace(0.7, 2.0, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SGDYNAMICS_THREADS", threads)
        whole = lyapunov(values, steps=steps, transient=200)
        ends = bifurcation(values, transient=steps, keep=1, imbalance=0.1)
    at = count // 3
    assert whole.isel(q=at).drop_vars("q").identical(lyapunov(values[at], steps=steps, transient=200))
    alone = bifurcation(values[at], transient=steps, keep=1, imbalance=0.1)
    assert ends.isel(q=at).drop_vars("q").identical(alone)
