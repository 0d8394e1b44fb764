"""What is said about many steps of the uv network, against orbits run in the test."""

import itertools
import math

import mpmath
import mpmath as mp
import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from figures.engine.elsewhere import elsewhere
from sgdynamics.models.uv import (
    UVNetwork,
    alignment_quantile,
    cone_step,
    from_cone,
    function_step,
    hessian_eigenvalues,
    imbalance,
    start_ratio,
    to_cone,
)
from sgdynamics.theory.uv import (
    Regime,
    c_loss,
    c_max,
    c_sharp,
    catapult_final_ntk,
    critical_learning_rate,
    escape_margin,
    first_rise_probability,
    fixed_points,
    gradient_flow_ntk,
    jacobian,
    largest_learning_rate,
    loss_bound,
    mean_c_sharp,
    mean_largest_c,
    mirror_ntk,
    ntk_nullcline,
    period_doubling_limit,
    period_doublings,
    reflected_ntk,
    reflected_peak,
    regime,
    sharpness_change,
    sharpness_over_ntk,
    two_cycle,
    two_cycle_mean_ntk,
    two_cycle_mean_sharpness,
    two_cycle_multiplier,
    two_cycle_transverse_multiplier,
    wide_c_sharp,
)
from sgdynamics.theory.uv.atlas import _FirstStep

seeds = st.integers(0, 2**32 - 1)
log_kappas = st.floats(-9, 1).map(lambda power: 10**power)
alignments = st.one_of(st.floats(-1, 1), st.floats(-9, -1).map(lambda p: 10**p), st.sampled_from([-1.0, 1.0]))
scaled_targets = st.floats(-1.9, 1.9)
rates = st.floats(0.05, 3.9)


def point(kappa, alignment, ntk):
    return alignment * ntk / (2 * math.sqrt(kappa)), ntk


def test_chance_of_a_first_rise_at_width_2():
    """2 sqrt(c-2)/c, so 0.5657 at c = 2.5 and 2/3 at c = 3; and of 4e5 weights."""
    generator = np.random.default_rng(3)
    hidden, readout = generator.normal(size=(2, 400_000, 2))
    output, kernel = (hidden * readout).sum(-1), (hidden**2).sum(-1) + (readout**2).sum(-1)
    ratio = (output / kernel) ** 2
    for c, expected in ((2.5, 0.5657), (3.0, 0.6667)):
        assert first_rise_probability(c, 2) == pytest.approx(2 * math.sqrt(c - 2) / c, rel=1e-13)
        assert first_rise_probability(c, 2) == pytest.approx(expected, abs=1e-4)
        assert np.mean((1 - c + ratio * c**2) ** 2 > 1) == pytest.approx(expected, abs=0.005)


def test_chance_of_a_first_rise_at_width_1_and_a_large_rate():
    """All but the starts between two ratios that differ by 2/c^2 around 1/c."""
    assert first_rise_probability(1e16, 1) == 1.0


def test_sharpness_rises_in_one_step_of_a_wide_network_where_the_rule_says():
    """sign(H_1 - H_0) = sign(Delta [2(c-1) Delta - 3f]) at width 1e6."""
    generator = np.random.default_rng(9)
    kappa = 1e-6
    checked = 0
    for _ in range(4000):
        output, target = generator.normal(size=2) * 2
        ntk, c = generator.uniform(0.5, 3), generator.uniform(0.2, 4)
        with mpmath.workdps(40):
            f, y, k, trace = map(mpmath.mpf, (output, target, kappa, ntk))
            rate = mpmath.mpf(c) / trace

            def top(f, trace, y=y, k=k):
                return (trace + mpmath.sqrt(trace**2 + 4 * k * (f - y) * (3 * f - y))) / 2

            gap = f - y
            new = f - rate * trace * gap + rate**2 * k * f * gap**2
            new_trace = trace + rate * k * gap * (rate * trace * gap - 4 * f)
            measured = float(top(new, new_trace) - top(f, trace))
        predicted = sharpness_change(output, ntk, c / ntk, kappa, target)
        if abs(predicted) > 1e-9:
            checked += 1
            assert predicted * measured > 0
        threshold = wide_c_sharp(output / (output - target))
        assert (c > threshold) == (predicted > 0)
    assert checked > 3900


@pytest.mark.parametrize("target", [0.0, 1.0, 2.0])
def test_gradient_descent_with_a_small_rate_ends_at_the_kernel_of_gradient_flow(target):
    generator = np.random.default_rng(12)
    width, count, rate = 32, 200, 1e-3
    hidden, readout = generator.normal(size=(2, count, width))
    scale = 1 / math.sqrt(width)

    def values():
        return scale * (hidden * readout).sum(-1), scale**2 * ((hidden**2).sum(-1) + (readout**2).sum(-1))

    first = values()
    while np.abs(gap := values()[0] - target).max() > 1e-8:
        change = rate * scale * gap[:, None]
        hidden, readout = hidden - change * readout, readout - change * hidden
    predicted = gradient_flow_ntk(*first, 1 / width, target)
    np.testing.assert_allclose(values()[1], predicted, rtol=3e-4)


def test_the_kernel_rises_beyond_its_nullcline():
    for s, q in itertools.product([0.1, 0.5, 1.5], [0.0, 0.5, 1.5]):
        line = ntk_nullcline(s, q)
        for factor, sign in ((0.999999, -1), (1.000001, 1)):
            _, ntk = function_step(s + q, factor * line, 1.0, kappa=1.0, target=q)
            assert (ntk - factor * line) * sign > 0


@pytest.mark.parametrize("q", [0.0, 0.25, 1.0, 1.75, 2.5])
def test_the_four_fixed_points_stay_and_have_their_eigenvalues(q):
    data = fixed_points(q)
    s, kernel = sympy.symbols("s l")
    exact = sympy.Rational(q)
    scaled = sympy.Matrix([s * (1 - kernel + s * (s + exact)), kernel + s * (kernel * s - 4 * (s + exact))])
    names = {
        "minima": (1 - 2 * exact, 1),
        "origin": ((1 - exact) ** 2, (1 + exact) ** 2),
        "beyond": (9, 5 + 2 * exact),
        "before": (9, 5 - 2 * exact),
    }
    for name, eigenvalues in names.items():
        at = data.sel(fixed_point=name)
        place = {s: sympy.Rational(at.residual.item()), kernel: sympy.Rational(at.ntk.item())}
        assert scaled.subs(place) - sympy.Matrix([place[s], place[kernel]]) == sympy.zeros(2, 1)
        found = sympy.Matrix(scaled.jacobian([s, kernel]).subs(place))
        if at.ntk >= 0:
            made = np.array(jacobian(at.residual.item(), at.ntk.item(), q), dtype=float)
            np.testing.assert_allclose(made, np.array(found, dtype=float), rtol=1e-14)
        expected = sorted(map(float, eigenvalues))
        assert sorted(map(float, at.eigenvalue.values)) == pytest.approx(expected, rel=1e-14)
        multiset = found.eigenvals(multiple=True)
        assert sorted(map(float, multiset)) == pytest.approx(expected, rel=1e-12)
        assert bool(at.physical) == (at.ntk.item() >= 2 * abs(at.residual.item() + q))
        stretched = [abs(value) > 1 for value in expected]
        if name != "minima" and all(abs(value) != 1 for value in expected):
            kind = {2: "repeller", 1: "saddle"}[sum(stretched)]
            assert data.kind.attrs["flag_meanings"].split()[int(at.kind)] == kind


def test_jacobian_on_the_line_of_minima_for_every_kernel():
    kernel, q = sympy.symbols("l q", positive=True)
    matrix = sympy.Matrix(jacobian(0, kernel, q))
    assert {sympy.nsimplify(value) for value in matrix.eigenvals()} == {1 - kernel, 1}


def test_fixed_points_sweep_over_labels_only():
    data = fixed_points(xr.DataArray([0.0, 1.0, 2.0], dims="q"))
    assert data.eigenvalue.dims == ("q", "fixed_point", "mode")
    assert data.sel(fixed_point="origin").kind.values.tolist() == [3, 1, 3]
    with pytest.raises(ValueError, match="q must be a finite number >= 0, or a DataArray"):
        fixed_points(np.array([0.0, 1.0]))


def test_doublings_are_where_cycles_lose_stability():
    """1, sqrt(5)-1, 1.2880318, 1.2992279, 1.3016289 within 2e-6, by watching the period of the attractor."""

    def period(q):
        x = 0.4
        for _ in range(200_000):
            x = x * (1 + q - x) ** 2
        first = x
        for count in range(1, 65):
            x = x * (1 + q - x) ** 2
            if abs(x - first) < 1e-7:
                return count
        return 128

    made = period_doublings(5)
    assert made == pytest.approx([1, math.sqrt(5) - 1, 1.2880318, 1.2992279, 1.3016289], abs=2e-6)
    assert [period(q - 3e-5) for q in made] == [1, 2, 4, 8, 16]
    assert [period(q + 3e-5) for q in made] == [2, 4, 8, 16, 32]
    assert period_doublings(6)[5] == pytest.approx(1.3021433, abs=1e-6)


def test_doublings_accumulate_geometrically():
    gaps = np.diff(period_doublings(12))
    assert gaps[-2] / gaps[-1] == pytest.approx(4.6692016, abs=1e-4)
    assert period_doubling_limit() == pytest.approx(1.30228, abs=1e-4)
    assert period_doubling_limit() == pytest.approx(period_doublings(14)[-1] + gaps[-1] / 4.669**2 / 3.669, abs=1e-10)
    with pytest.raises(ValueError, match=r"count must be an integer in 1..14, got 15"):
        period_doublings(15)


def test_two_cycles_that_do_not_exist_are_refused():
    for function in (two_cycle, two_cycle_multiplier, two_cycle_mean_ntk):
        with pytest.raises(ValueError, match=r"q must be a finite number >= 1, .* got 0.9"):
            function(0.9)
    with pytest.raises(ValueError, match=r"q must be a number in \[1, sqrt\(5\)-1\]"):
        two_cycle_mean_sharpness(1.3)
    assert two_cycle(1.0) == (1.0, 1.0)
    low, high = two_cycle(1 + 1e-12)
    assert high - low == pytest.approx(2e-6, rel=1e-4)  # born with a root


def test_gradient_descent_ends_on_the_two_cycle_with_its_imbalance_gone():
    generator = np.random.default_rng(64)
    width, rate, target = 64, 0.55, 2.0
    hidden, readout = generator.normal(size=(2, width)) / math.sqrt(width)
    for _ in range(3000):
        change = rate * (hidden @ readout - target)
        hidden, readout = hidden - change * readout, readout - change * hidden
    ends = []
    for _ in range(2):
        ends.append(rate * hidden @ readout)
        change = rate * (hidden @ readout - target)
        hidden, readout = hidden - change * readout, readout - change * hidden
    assert sorted(ends) == pytest.approx(two_cycle(1.1), abs=1e-6)
    assert imbalance(hidden @ readout, hidden @ hidden + readout @ readout, 1.0) < 1e-12


@pytest.mark.parametrize("q", [1.05, 1.2, 1.5, 1.9])
def test_imbalance_shrinks_over_a_two_cycle_by_its_transverse_multiplier(q):
    low, _ = two_cycle(q)
    plus, minus = 4 * low, 1e-14
    for _ in range(2):
        plus, minus = cone_step(plus, minus, q)
    assert minus / 1e-14 == pytest.approx(two_cycle_transverse_multiplier(q), abs=1e-9)
    assert two_cycle_transverse_multiplier(q) < 1


def test_no_catapult_below_2_no_end_beyond_4():
    made = catapult_final_ntk(np.array([0.5, 1.9, 4.0, 5.0]))
    np.testing.assert_allclose(made, [0.5, 1.9, math.inf, math.inf], rtol=1e-14)


@pytest.mark.parametrize(("c", "start"), [(2.0, 0.1), (1.9, 0.1), (0.5, 0.1), (0.21, 0.1), (2.3, 1e-5), (3.7, 0.02)])
def test_the_final_kernel_is_that_of_the_map_in_plain_python_on_both_sides_of_2(c, start):
    output, ntk = start, c
    for _ in range(100_000):
        output, ntk = output * (1 - ntk + output**2), ntk - (4 - ntk) * output**2
    assert catapult_final_ntk(c, start) == pytest.approx(ntk, rel=1e-12)


@pytest.mark.parametrize(
    ("c", "start"), [(2.0, 1e-8), (2.0, 7.07e-5), (1.99995, 1e-8), (2.00005, 1e-5), (1e-5, 1e-8), (0.2, 0.1)]
)
def test_catapults_that_take_too_many_steps_are_refused_and_so_are_starts_of_no_weights(c, start):
    with pytest.raises(ValueError, match=r"catapult_final_ntk: c must be away from 2 and from twice the start"):
        catapult_final_ntk(c, start)
    with pytest.raises(ValueError, match=r"catapult_final_ntk: c must be at least twice the start"):
        catapult_final_ntk(0.1, 0.06)


def sharpness_gain(output, ntk, kappa, target, rate):
    """Change of the top Hessian eigenvalue in one step, in 60 digits."""
    with mp.workdps(60):
        f, trace, k, y, eta = map(mp.mpf, (output, ntk, kappa, target, rate))

        def top(at, kernel):
            return (kernel + mp.sqrt(kernel**2 - 4 * k * at**2 + 4 * k * (2 * at - y) ** 2)) / 2

        change = eta * (f - y)
        after, kernel = f - change * (trace - k * f * change), trace + k * change * (trace * change - 4 * f)
        return top(after, kernel) - top(f, trace)


@given(st.floats(0, 12), st.floats(-12, 0), st.sampled_from([-1, 1]), st.floats(-3, 3), st.sampled_from([-1, 0, 1]))
def test_the_first_sharpness_rise_keeps_its_digits_at_any_width_and_alignment(width, alignment, sign, size, side):
    """Nothing rises below the wall, however low that is, and what is just above it does."""
    width, alignment, target = float(int(10**width)), sign * 10**alignment, side * 10**size
    data = regime(1.0, width, target=target, alignment=alignment, units="ntk")
    wall = data.location.sel(wall="first sharpness rise").item()
    escape = data.location.sel(wall="escape").item()
    start = data.output.item(), data.ntk.item(), 1 / width, target
    if wall > 0:
        top = min(wall, escape)
        for share in [1e-9, 1e-6, 1e-3, *np.linspace(0.02, 0.98, 25), 1 - 1e-9]:
            assert sharpness_gain(*start, top * share / start[1]) <= 0
    if 0 < wall < math.inf:
        assert sharpness_gain(*start, wall * (1 + 1e-9) / start[1]) > 0
    if wall == 0:
        assert sharpness_gain(*start, 1e-12 * escape / start[1]) > 0


def test_walls_of_a_tiny_alignment_and_of_a_wide_network():
    data = regime([3.0], 64, alignment=1e-9)
    assert data.location.sel(wall="first sharpness rise").item() == pytest.approx(2.5, rel=1e-14)
    assert Regime(data.regime.item()) is Regime.LOSS_AND_SHARPNESS_CATAPULT
    wide = regime(1.0, 10**12, units="ntk")
    expected = c_sharp((wide.output / wide.ntk).item() ** 2 / 10**12)
    assert wide.location.sel(wall="first sharpness rise").item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("below", [2.16e-5, 9e-6, 1e-8, 1e-11])
def test_walls_far_below_the_escape_are_no_walls_at_zero(below):
    """Next to the alignment at which the first step of any rate begins to sharpen, where 5 outputs are 2 targets."""
    data = regime(1.0, 10_000, target=1.0, alignment=0.004 - below)
    made = data.location.sel(wall="first sharpness rise").item()
    with mp.workdps(60):
        f, trace, k = mp.mpf(data.output.item()), mp.mpf(data.ntk.item()), mp.mpf(1) / 10_000

        def top(f, trace):
            return (trace + mp.sqrt(trace**2 - 4 * k * f**2 + 4 * k * (2 * f - 1) ** 2)) / 2

        def gain(rate):
            s = rate * (f - 1)
            change = k * s * s
            return top(f - s * trace + change * f, trace - 4 * k * s * f + change * trace) - top(f, trace)

        low, high = mp.mpf("1e-9"), mp.mpf("0.05")
        assert gain(low / trace) < 0 < gain(high / trace)
        for _ in range(80):
            low, high = (low, (low + high) / 2) if gain((low + high) / 2 / trace) > 0 else ((low + high) / 2, high)
        wall = float(high * top(f, trace) / trace)
    # the output less 2/5 of the target has no more digits
    assert made == pytest.approx(wall, rel=1e-13 + 2e-15 / below * 0.004)
    assert wall < data.location.sel(wall="escape").item() / 400


def test_regimes_of_targets_at_the_ends_of_the_range_of_a_float():
    size, side = xr.DataArray(np.linspace(-300, 300, 1201), dims="size"), xr.DataArray([-1.0, 1.0], dims="side")
    data = regime(np.array([1e-3, 0.5, 1.5, 10.0]), 16, target=side * 10.0**size)
    assert data.regime.sizes == {"c": 4, "size": 1201, "side": 2}
    assert not np.isnan(data.location).any()
    assert (data.regime.isel(c=0) < Regime.PERIOD_TWO).all()
    assert (data.regime.isel(c=-1) == Regime.DIVERGENT).all()


@given(st.floats(-150, 150), st.floats(-150, 150), st.floats(-6, 0), st.floats(-20, 20), st.sampled_from([-1, 0, 1, 2]))
def test_the_largest_rate_is_right_in_any_units_and_on_the_boundary_of_the_cone(ntk, kappa, alignment, size, kind):
    """In particular where the output is twice the target and the imbalance is 0, or the rounding of 0."""
    ntk, kappa = 10**ntk, 10**kappa
    output = 10**alignment * ntk / (2 * math.sqrt(kappa))
    target = output / 2 if kind == 2 else kind * 10**size * output
    with mp.workdps(60):
        f, trace, k, y = map(mp.mpf, (output, ntk, kappa, target))
        squared = max(trace**2 - 4 * k * f**2, 0) + 4 * k * (f - 2 * y) ** 2
        expected = float(8 / (trace + mp.sqrt(squared)))
    assert largest_learning_rate(output, ntk, kappa, target) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("width", [2, 8, 64])
def test_at_target_zero_4_in_kernel_units_separates_convergence_from_divergence(width):
    """4 - l_t = (4 - l_0) prod (1 + phi^2); at 3.99 none of 40 starts diverges, at 4.01 all do."""
    model = UVNetwork(width)
    generator = np.random.default_rng(width)
    output, ntk = model.start(generator.random(40), generator.random(40))
    for c in (3.99, 4.01):
        phi, kernel = c / ntk * math.sqrt(model.kappa) * output, np.full(40, c)
        product = np.ones(40)
        for _ in range(3000):
            alive = kernel < 1e6
            square = np.where(alive, phi**2, 0.0)
            phi, kernel = np.where(alive, phi * (1 - kernel + square), phi), kernel + square * (kernel - 4)
            product = product * (1 + square)
            still = alive & (product < 1e9)
            np.testing.assert_allclose((4 - kernel)[still], ((4 - c) * product)[still], rtol=1e-9)
        assert (kernel > 1e6).all() if c > 4 else (kernel < 4).all(), c


@given(alignments, st.floats(0.05, 0.999), scaled_targets, st.floats(0.2, 1.9))
def test_below_the_largest_rate_no_orbit_leaves_the_triangle(alignment, fraction, position, target):
    """For every target; the corners of the triangle are the fixed points, 4(2+q) and 4(2-q) from the origin."""
    output, ntk = point(1.0, alignment, 2.0)
    target = math.copysign(target, position)
    rate = fraction * largest_learning_rate(output, ntk, 1.0, target)
    q = rate * target
    assert abs(q) < 2
    plus, minus = to_cone(output, ntk, rate, kappa=1.0)
    for _ in range(300):
        assert plus / (4 * (2 + q)) + minus / (4 * (2 - q)) <= 1 + 1e-9
        plus, minus = cone_step(plus, minus, q)


def test_the_largest_rates_of_mean_field_networks_from_output_zero():
    """2.47 for y = 1 and 1.56 for y = 2, in kernel units; 4 at target 0."""
    for target, edge in elsewhere("largest_rate_by_target").values.items():
        assert 2 * largest_learning_rate(0.0, 2.0, 1.0, target) == pytest.approx(edge, abs=0.01)
    assert largest_learning_rate(0.3, 2.0, 1.0, 0.0) * 2.0 == pytest.approx(c_max(0.0225), rel=1e-15)
    assert escape_margin(0.3, 2.0, largest_learning_rate(0.3, 2.0, 1.0, 1.2), 1.0, 1.2) == pytest.approx(0, abs=1e-14)


def test_critical_rates_of_parametrizations():
    """sqrt(n)/(|y||x|) in the neural tangent parametrization, 1/(|y||x|) in mean field."""
    for parametrization, expected in ((0.0, 8 / 6), (1.0, 1 / 6)):
        model = UVNetwork(64, target=-2.0, input_norm=3.0, parametrization=parametrization)
        assert critical_learning_rate(model.kappa, model.target) == pytest.approx(expected, rel=1e-14)
    assert critical_learning_rate(1.0, 0.0) == math.inf


def survivors(plus, minus, q, steps):
    """Which orbits of the multiplicative map stay bounded."""
    bounded = np.ones(plus.shape, bool)
    for _ in range(steps):
        s = (plus - minus) / 4 - q
        plus, minus = (1 - s) ** 2 * plus, (1 + s) ** 2 * minus
        bounded &= plus + minus < 1e6
        plus, minus = np.where(bounded, plus, 0.0), np.where(bounded, minus, 0.0)
    return bounded, plus, minus


def test_starts_within_the_triangle_stay_bounded_and_those_without_diverge():
    """For 40 000 random starts and targets up to the escape; within is a theorem, without is not proved."""
    generator = np.random.default_rng(21)
    q = generator.uniform(0, 1.95, 40_000)
    corner = 4 * (2 + q), 4 * (2 - q)
    place = generator.uniform(0, 1.4, (2, 40_000)) ** 1.5
    plus, minus = place[0] * corner[0], place[1] * corner[1]
    margin = 1 - place[0] - place[1]
    bounded, _, _ = survivors(plus, minus, q, 1500)
    clear = abs(margin) > 1e-3
    assert clear.sum() > 39_000
    np.testing.assert_array_equal(bounded[clear], (margin > 0)[clear])
    in_formula = escape_margin(*from_cone(plus, minus, 1.0, kappa=1.0), 1.0, 1.0, q)
    np.testing.assert_allclose(in_formula, (4 - q**2) * margin, rtol=1e-10, atol=1e-12)


def test_beyond_twice_the_critical_rate_the_triangle_is_gone():
    """A start with V > 0 diverges: the theorem needs q < 2."""
    q, plus, minus = 2.5, 26.0, 0.5
    output, ntk = from_cone(plus, minus, 1.0, kappa=1.0)
    assert escape_margin(output, ntk, 1.0, 1.0, q) > 0
    assert not survivors(np.array([plus]), np.array([minus]), q, 200)[0].any()


def test_within_the_triangle_the_scaled_residual_is_below_two():
    s, q, kernel = sympy.symbols("s q l", real=True)
    margin = escape_margin(s + q, kernel, sympy.Integer(1), sympy.Integer(1), q)
    plus, minus = kernel + 2 * (s + q), kernel - 2 * (s + q)  # never negative
    assert sympy.expand(margin + minus - (2 - q) * (2 - s)) == 0
    assert sympy.expand(margin + plus - (2 + q) * (2 + s)) == 0


@given(alignments, st.floats(0.05, 0.999), scaled_targets, log_kappas)
def test_below_the_largest_rate_no_loss_exceeds_its_bound(alignment, fraction, target, kappa):
    output, ntk = point(kappa, alignment, 2.0)
    target = target / math.sqrt(kappa)
    rate = fraction * largest_learning_rate(output, ntk, kappa, target)
    plus, minus = to_cone(output, ntk, rate, kappa=kappa)
    q = rate * math.sqrt(kappa) * target
    for _ in range(100):
        s = (plus - minus) / 4 - q
        loss = s**2 / (2 * rate**2 * kappa)
        assert loss <= loss_bound(rate, kappa) * (1 + 1e-9)
        plus, minus = (1 - s) ** 2 * plus, (1 + s) ** 2 * minus


def test_the_bound_of_the_loss_is_met_in_the_corners_and_fails_without_the_triangle():
    for q in (0.0, 0.7, -1.9):
        for side in (1, -1):  # just within the corner s = 2 side
            corner = 4 * (2 + side * q)
            plus, minus = (0.9999 * corner, 0.0) if side > 0 else (0.0, 0.9999 * corner)
            output, ntk = from_cone(plus, minus, 1.0, kappa=1.0)
            assert escape_margin(output, ntk, 1.0, 1.0, q) > 0
            assert (output - q) ** 2 / 2 == pytest.approx(loss_bound(1.0, 1.0), rel=1e-3)
    # beyond q = 2 a positive margin says the reverse, s > 2; a negative one lets the loss grow past the bound
    output, ntk = from_cone(26.0, 0.5, 1.0, kappa=1.0)
    assert escape_margin(output, ntk, 1.0, 1.0, 2.5) > 0
    assert output - 2.5 > 2
    output, ntk = 0.1, 4.05
    for _ in range(12):
        output, ntk = output * (1 - ntk + output**2), ntk + output**2 * (ntk - 4)
    assert output**2 / 2 > 100 * loss_bound(1.0, 1.0)


def normal_starts(width, count, seed):
    """Output and kernel of normal weights, at unit scales in the neural tangent parametrization."""
    hidden, readout = np.random.default_rng(seed).normal(size=(2, count, width))
    return (hidden * readout).sum(1) / math.sqrt(width), (hidden**2 + readout**2).sum(1) / width


@pytest.mark.parametrize("width", [2, 16])
def test_the_mean_of_c_sharp_is_that_of_normal_weights(width):
    output, ntk = normal_starts(width, 20_000, width)

    def top(output, ntk):
        return (ntk + np.sqrt(ntk**2 + 12 * output**2 / width)) / 2

    before, low, high = top(output, ntk), np.zeros(output.size), np.full(output.size, 6.0)
    for _ in range(45):
        c = (low + high) / 2
        rate = c / ntk
        moved = output * (1 - c + rate**2 * output**2 / width)
        rises = top(moved, ntk + rate * output**2 / width * (c - 4)) > before
        low, high = np.where(rises, low, c), np.where(rises, c, high)
    for units, found in (("ntk", low), ("hessian", low * before / ntk)):
        assert abs(found.mean() - mean_c_sharp(width, units)) < 4 * found.std() / math.sqrt(found.size)
        exact, weight = special.roots_jacobi(400, width / 2 - 1, width / 2 - 1)
        by_jacobi = np.average(c_sharp(start_ratio(exact), units), weights=weight)
        assert mean_c_sharp(width, units) == pytest.approx(by_jacobi, rel=1e-9)
    wide = np.array([mean_c_sharp(10.0**power) for power in (3, 5)]) - 2.5
    assert wide[0] / wide[1] == pytest.approx(100, rel=0.02)  # falls as 1/n


@pytest.mark.parametrize(("width", "target"), [(2, 0.7), (6, 2.0)])
def test_the_mean_largest_rate_is_that_of_normal_weights_that_are_run(width, target):
    output, ntk = normal_starts(width, 3000, 5)
    low, high = np.zeros(3000), 8.5 / ntk
    for _ in range(16):
        rate = (low + high) / 2
        root = rate / math.sqrt(width)
        bounded, _, _ = survivors(rate * ntk + 2 * root * output, rate * ntk - 2 * root * output, root * target, 400)
        low, high = np.where(bounded, rate, low), np.where(bounded, high, rate)
    found = low * ntk
    made = mean_largest_c(width, target / math.sqrt(width) / 2)
    assert abs(found.mean() - made) < 4 * found.std() / math.sqrt(3000) + 2e-3 * made


@pytest.mark.parametrize(("width", "tolerance"), [(1, 3e-5), (2, 3e-7), (8, 1e-9), (100, 1e-9)])
@pytest.mark.parametrize("ratio", [0.1, 2.0])
def test_the_mean_largest_rate_is_its_double_integral(width, tolerance, ratio):
    def density(angle, log_size):
        return math.cos(angle) ** (width - 1) * math.exp(width * (log_size - math.expm1(log_size)))

    def weighed(angle, log_size):
        pull = 4 * ratio * math.exp(-log_size)
        return 8 / (1 + math.sqrt(1 + pull**2 - 2 * pull * math.sin(angle))) * density(angle, log_size)

    reach, turn = 9 / math.sqrt(width), min(math.pi / 2, 9 / math.sqrt(width))
    ends = (-reach - 30 / width, min(4.5, reach), -turn, turn)
    value, total = (integrate.dblquad(f, *ends, epsabs=0, epsrel=tolerance / 10)[0] for f in (weighed, density))
    assert mean_largest_c(width, ratio) == pytest.approx(value / total, rel=tolerance)


@pytest.mark.parametrize("parametrization", [0.0, 1.0])
def test_largest_rates_of_random_starts_are_those_found_by_bisection(parametrization):
    generator = np.random.default_rng(4)
    model = UVNetwork(4, target=2.0, parametrization=parametrization)
    output, ntk = model.start(generator.random(200), generator.random(200))
    low, high = np.zeros(200), 6 / ntk
    for _ in range(24):
        rate = (low + high) / 2
        bounded, _, _ = survivors(*to_cone(output, ntk, rate, kappa=model.kappa), rate * 2 * model.kappa**0.5, 600)
        low, high = np.where(bounded, rate, low), np.where(bounded, high, rate)
    np.testing.assert_allclose(low, largest_learning_rate(output, ntk, model.kappa, 2.0), rtol=2e-3)


def first_step(output, ntk, rate, kappa, target):
    """Whether loss and sharpness rise, from the map in function space."""

    def top(f, trace):
        return trace + np.sqrt(trace**2 + 4 * kappa * (f - target) * (3 * f - target))

    gap = output - target
    new = output - rate * ntk * gap + rate**2 * kappa * output * gap**2
    new_ntk = ntk + rate * kappa * gap * (rate * ntk * gap - 4 * output)
    return abs(new - target) > abs(gap), top(new, new_ntk) > top(output, ntk)


@pytest.mark.parametrize(
    ("width", "target", "parametrization"),
    [(512, 0.0, 0.0), (4, 0.0, 0.0), (16, 2.0, 0.0), (64, 2.0, 1.0), (3, 1.5, 1.0)],
)
@pytest.mark.parametrize("alignment", [0.05, -0.3])
def test_the_regime_of_every_rate_is_what_the_run_does(width, target, parametrization, alignment):
    c = np.linspace(0.23, 4.7, 150)
    data = regime(c, width, target=target, units="ntk", parametrization=parametrization, alignment=alignment)
    clear = (abs(data.margin.drop_sel(wall=["merging", "first kernel rise"])) > 0.02).all("wall").values
    assert clear.sum() > 100
    found = data.regime.values
    output, ntk, kappa = data.output.item(), data.ntk.item(), width ** (parametrization - 1)
    rate = c / ntk
    q = rate * math.sqrt(kappa) * target
    bounded, plus, minus = survivors(*to_cone(output, ntk, rate, kappa=kappa), q, 4000)
    np.testing.assert_array_equal((found == Regime.DIVERGENT)[clear], ~bounded[clear])

    ends = [(plus - minus) / 4]
    for _ in range(64):
        plus, minus = cone_step(plus, minus, q)
        ends.append((plus - minus) / 4)
    returns = np.abs(np.array(ends[1:]) - ends[0]) < 1e-6
    period = np.where(returns.any(axis=0), 1 + returns.argmax(axis=0), 0)
    converged = bounded & (found < Regime.PERIOD_TWO)
    assert (period[clear & converged] == 1).all()
    assert (((plus + minus) / 2)[clear & converged] <= 2 + 1e-9).all()  # at a stable minimum
    assert (period[clear & (found == Regime.PERIOD_TWO)] == 2).all()
    assert set(period[clear & (found == Regime.PERIOD_DOUBLED)]) <= {4, 8, 16, 32}
    assert not set(period[clear & (found == Regime.CHAOTIC)]) & {1, 2}

    loss_rises, sharpness_rises = first_step(output, ntk, rate, kappa, target)
    catapults = np.isin(found, [Regime.LOSS_CATAPULT, Regime.LOSS_AND_SHARPNESS_CATAPULT])
    sharpens = np.isin(found, [Regime.PROGRESSIVE_SHARPENING, Regime.LOSS_AND_SHARPNESS_CATAPULT])
    np.testing.assert_array_equal(catapults[clear & converged], loss_rises[clear & converged])
    np.testing.assert_array_equal(sharpens[clear & converged], sharpness_rises[clear & converged])
    quiet = clear & converged & ~catapults & ~sharpens
    np.testing.assert_array_equal((found == Regime.SHARPNESS_REDUCTION)[quiet], c[quiet] > 2)


def test_walls_at_target_zero_are_the_closed_forms_in_both_units():
    widths = np.array([4, 64, 10**6])
    for units in ("ntk", "hessian"):
        data = regime(3.0, widths, units=units, alignment=0.4)
        walls = data.location.transpose("wall", "width")
        rho = start_ratio(0.4)
        scale = sharpness_over_ntk(rho) if units == "hessian" else 1.0
        expected = {
            "first loss rise": c_loss(rho, units),
            "first sharpness rise": c_sharp(rho, units),
            "first kernel rise": 4 * scale,
            "unstable kernel": 2 * scale,
            "unstable minima": math.inf,
            "chaos": math.inf,
            "escape": c_max(rho, units),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(walls.sel(wall=name), np.full(3, value), rtol=1e-10)
        np.testing.assert_allclose(data.margin, 3.0 - data.location)
        assert data.attrs["units_of_c"] == units
    kinds = dict(zip(data.wall.values, data.kind.values, strict=True))
    assert (kinds["escape"], kinds["chaos"], kinds["width dependence"]) == ("theorem", "numeric root", "fit")


def test_walls_of_the_cascade_are_multiples_of_the_critical_rate():
    data = regime(1.0, 64, target=2.0, parametrization=1.0, units="ntk", alignment=0.0)
    walls = data.location.to_series()
    assert walls["unstable minima"] == pytest.approx(1.0)  # c = eta lambda_0 = 2 eta, eta_c = 1/2
    expected = {"period 4": math.sqrt(5) - 1, "period 8": 1.2880318, "chaos": 1.302283, "merging": 1.598076}
    assert {name: walls[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert walls["escape"] == pytest.approx(1.5616, abs=1e-4)
    assert walls["first loss rise"] == 2.0
    assert walls["first sharpness rise"] < 1.1
    assert walls["first kernel rise"] == 0.0
    assert math.isinf(walls["width dependence"])
    assert (
        Regime(regime(1.1, 64, target=2.0, parametrization=1.0, units="ntk", alignment=0.0).regime.item())
        is Regime.PERIOD_TWO
    )


@settings(max_examples=25)
@given(st.floats(0.1, 5), st.integers(1, 1000), st.floats(-3, 3), st.floats(-1, 1))
def test_the_atlas_is_blind_to_the_sign_of_output_and_target_together(c, width, target, alignment):
    one = regime(c, width, target=target, alignment=alignment)
    other = regime(c, width, target=-target, alignment=-alignment)
    xr.testing.assert_equal(one.drop_vars("output"), other.drop_vars("output"))
    assert one.location.sel(wall="escape") <= one.location.sel(wall="escape from the edge line") * (1 + 1e-9)


def test_the_atlas_starts_from_the_median_alignment_and_sweeps_over_named_axes():
    data = regime(np.array([0.5, 3.0]), np.array([8, 64]))
    assert data.regime.dims == ("c", "width")
    assert data.margin.dims == ("c", "width", "wall")
    aligned = 2 * data.output / np.sqrt(data.width) / data.ntk  # kappa = 1/n
    chance = special.betainc(0.5, data.width / 2, aligned**2)
    np.testing.assert_allclose(chance, [0.5, 0.5], rtol=1e-12)
    with pytest.raises(ValueError, match="c must be a number, 1-D or a DataArray"):
        regime(np.ones((2, 2)), 8)
    with pytest.raises(ValueError, match="target must be a number or a DataArray"):
        regime(1.0, 8, target=np.array([0.0, 1.0]))
    assert all(member.sentence.endswith(".") for member in Regime)


def test_the_final_kernel_varies_by_a_thousandth_over_widths_from_the_fitted_wall_on():
    wall = regime(1.0, 10**9, units="ntk").location.sel(wall="width dependence").item()
    starts = np.geomspace(1e-8, 1e-6, 60)
    for excess, varies in ((-0.05, False), (0.05, True)):
        ends = catapult_final_ntk(wall + excess, starts)
        assert (np.ptp(ends) > 1e-3) == varies
    assert abs(catapult_final_ntk(2.3) - mirror_ntk(2.3)) < 0.1


@pytest.mark.parametrize("width", [4, 8, 16, 32, 64, 512])
def test_mean_largest_rates_at_target_2_are_those_once_found_by_simulation(width):
    in_ntk, in_hessian = (elsewhere("largest_rate_by_width").values[units, width] for units in ("ntk", "hessian"))
    generator = np.random.default_rng(width)
    model = UVNetwork(width, target=2.0)
    output, ntk = model.start(generator.random(100_000), generator.random(100_000))
    largest = largest_learning_rate(output, ntk, model.kappa, 2.0)
    sharpness, _ = hessian_eigenvalues(output, ntk, target=2.0, kappa=model.kappa)
    assert np.mean(largest * ntk) == pytest.approx(in_ntk, abs=0.03)
    ratio = 2.0 * model.kappa**0.5 / model.mean_ntk
    assert abs(np.mean(largest * ntk) - mean_largest_c(width, ratio)) < 4 * np.std(largest * ntk) / 100_000**0.5
    assert np.mean(largest * sharpness) == pytest.approx(in_hessian, abs=0.03)


def test_a_run_whose_first_step_is_lazy_may_end_at_twice_its_sharpness_and_the_label_does_not_deny_it():
    data = regime([0.3], 4, target=20.0)
    assert Regime(data.regime.item()) is Regime.LAZY
    output, ntk, rate = data.output.item(), data.ntk.item(), 0.3 / data.sharpness.item()
    sharpness = []
    for _ in range(400):
        sharpness.append(hessian_eigenvalues(output, ntk, target=20.0, kappa=0.25)[0])
        residual = output - 20.0
        factor = 1 - rate * ntk + rate**2 * 0.25 * output * residual
        kernel = ntk + rate * 0.25 * residual * (rate * residual * ntk - 4 * output)
        output, ntk = 20.0 + factor * residual, kernel
    assert abs(residual) < 1e-9
    assert sharpness[1] <= sharpness[0]
    assert sharpness[-1] / sharpness[0] == pytest.approx(1.94, abs=5e-3)
    for member in (Regime.LAZY, Regime.PROGRESSIVE_SHARPENING, Regime.SHARPNESS_REDUCTION, Regime.LOSS_CATAPULT):
        assert member.sentence.startswith("The first step ")


def test_runs_end_as_the_atlas_says_but_at_its_walls():
    """20,000 random starts, each run by the recursion; periodic windows belong to the chaotic regime, as it says."""
    random, count, steps = np.random.default_rng(11), 20_000, 1500
    width = np.floor(10 ** random.uniform(0, 4, count))
    target = 10 ** random.uniform(-2, 2, count) * random.choice([-1, 1], count)
    start = {"target": target, "alignment": random.uniform(-1, 1, count)}
    start = {name: xr.DataArray(value, dims="start") for name, value in start.items()}
    width = xr.DataArray(width, dims="start")
    escape = regime(xr.DataArray(np.ones(count), dims="start"), width, **start).location.sel(wall="escape")
    data = regime(escape * random.uniform(0, 1.2, count), width, **start)

    rate = (data.margin + data.location).isel(wall=-1).values / data.sharpness.values
    root = width.values**-0.5
    q, s, kernel = rate * root * target, rate * root * (data.output.values - target), rate * data.ntk.values
    plus, minus = kernel + 2 * (s + q), np.maximum(kernel - 2 * (s + q), 0.0)
    imbalance, lost, last = plus * minus, np.zeros(count, bool), []
    for _ in range(steps):
        # below the critical rate by the imbalance, beyond it by the sides of the cone: each keeps its digits there
        settling = s * (1 - kernel + s * (s + q))
        plus, minus, imbalance = (1 - s) ** 2 * plus, (1 + s) ** 2 * minus, (1 - s * s) ** 2 * imbalance
        s = np.where(abs(q) > 1, (plus - minus) / 4 - q, settling)
        lost |= ~(abs(s) < 4 + 3 * abs(q))
        s, plus, minus, imbalance = (np.where(lost, 0.0, part) for part in (s, plus, minus, imbalance))
        kernel = np.where(abs(q) > 1, (plus + minus) / 2, np.sqrt(imbalance + 4 * (s + q) ** 2))
        last = [*last[-32:], s]

    ends = np.full(count, Regime.CHAOTIC)
    for period in (32, 16, 8, 4, 2):
        back = abs(last[-1] - last[-1 - period]) < 1e-5
        ends[back] = Regime.PERIOD_TWO if period == 2 else Regime.PERIOD_DOUBLED
    ends[np.max(np.abs(last), axis=0) < 5e-3] = Regime.LAZY  # chaos too comes by 0, and does not stay
    ends[lost] = Regime.DIVERGENT
    said = np.where(data.regime < Regime.PERIOD_TWO, Regime.LAZY, data.regime)
    windows = (said == Regime.CHAOTIC) & ((ends == Regime.PERIOD_TWO) | (ends == Regime.PERIOD_DOUBLED))
    wrong = (said != ends) & ~windows
    assert wrong.mean() < 0.005
    assert windows.mean() < 0.005
    walls = np.array([1.0, math.sqrt(5) - 1, period_doubling_limit()])
    at_walls = (abs(abs(q)[:, None] / walls - 1) < 0.01).any(axis=1) | (abs(data.margin.sel(wall="escape")) < 0.01)
    assert (at_walls | ~wrong).all()
    assert len(set(said.tolist())) == 5


# ---------------------------------------------------------------------------------------------------------------------
# A catapult just above 2


def test_the_invariant_of_a_shallow_catapult_is_kept_to_fifth_order():
    # u = l - 2 of order t, p = phi^2 of order t^2
    u, p, t = sympy.symbols("u p t")
    kept = u**2 / 2 + u**3 / 3 + u**4 / 8 + p
    new_u, new_p = u + p * (u - 2), p * (1 - (u + 2) + p) ** 2
    change = sympy.expand((kept.subs({u: new_u, p: new_p}, simultaneous=True) - kept).subs({u: t * u, p: t**2 * p}))
    assert all(sympy.simplify(change.coeff(t, order)) == 0 for order in range(6))
    assert sympy.simplify(change.coeff(t, 6)) != 0
    # it starts at u = e, p = 0 and ends at p = 0 again: to third order in e the end is reflected_ntk - 2
    e = sympy.symbols("e", positive=True)
    end = reflected_ntk(2 + e) - 2
    left = sympy.expand(kept.subs({u: end, p: 0}) - kept.subs({u: e, p: 0}))
    assert all(left.coeff(e, order) == 0 for order in range(5))
    # at its peak u = p
    peak = reflected_peak(2 + e)
    left = sympy.expand(kept.subs({u: peak, p: peak}) - kept.subs({u: e, p: 0}))
    assert all(left.coeff(e, order) == 0 for order in range(4))


def test_shallow_catapults_end_and_peak_where_foretold():
    errors = []
    for excess in (0.1, 0.05, 0.025):
        output, ntk, largest = mpmath.mpf(10) ** -12, 2 + mpmath.mpf(excess), 0
        while ntk > 2 or output**2 > 1e-22:
            output, ntk = output * (1 - ntk + output**2), ntk + output**2 * (ntk - 4)
            largest = max(largest, output**2)
        errors.append(abs(float(ntk) - reflected_ntk(2 + excess)))
        assert float(largest) == pytest.approx(reflected_peak(2 + excess), rel=excess**2)
        # to first order only, the older laws
        assert abs(float(ntk) - mirror_ntk(2 + excess)) > 5 * errors[-1]
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(order, 4, atol=0.3)


@pytest.mark.parametrize("probability", [1e-100, 1e-10, 0.1, 0.4, 0.9])
def test_the_alignment_of_widths_without_end_is_normal(probability):
    assert alignment_quantile(probability, 1e20) == pytest.approx(special.ndtri(probability) / 1e10, rel=1e-12)


def test_the_first_step_raises_the_sharpness_where_that_of_the_next_point_is_larger():
    random = np.random.default_rng(0)
    count = 20_000
    ntk, kappa = 10.0 ** random.uniform(-1, 1, size=count), 10.0 ** random.uniform(-3, 1, size=count)
    output, target = random.uniform(-1, 1, size=count) * ntk / (2 * np.sqrt(kappa)), random.normal(size=count)
    rate = 10.0 ** random.uniform(-1, 2.5, size=count) / ntk
    before, _ = hessian_eigenvalues(output, ntk, target=target, kappa=kappa)
    moved = function_step(output, ntk, rate, kappa=kappa, target=target)
    after, lower = hessian_eigenvalues(*moved, target=target, kappa=kappa)
    clear = abs(after - before) > 1e-9 * np.maximum(after, before)
    assert clear.mean() > 0.99
    rises = _FirstStep(output=output, ntk=ntk, largest=rate, kappa=kappa, target=target).rises(1.0)
    assert np.array_equal(rises[clear], (after > before)[clear])
    # half the target times the root of kappa is between any lower eigenvalue and any upper one
    half = np.sqrt(kappa) * abs(target) / 2
    assert (lower <= half * (1 + 1e-9)).all()
    assert (before >= half * (1 - 1e-9)).all()


@given(st.integers(0, 2**32 - 1))
def test_a_cubic_turns_where_its_slope_vanishes(seed):
    random = np.random.default_rng(seed)
    ntk, kappa = 10.0 ** random.uniform(-1, 1, size=20), 10.0 ** random.uniform(-3, 0, size=20)
    output, target = random.uniform(-1, 1, size=20) * ntk / (2 * np.sqrt(kappa)), random.normal(size=20)
    step = _FirstStep(output=output, ntk=ntk, largest=1 / ntk, kappa=kappa, target=target)
    with np.errstate(invalid="ignore", divide="ignore"):
        for turn in step.turns():
            near = np.abs(step.slope(turn * 1.01)) + np.abs(step.slope(turn * 0.99))
            there = np.isfinite(turn)
            assert (np.abs(step.slope(turn)) <= 1e-6 * near)[there].all()
