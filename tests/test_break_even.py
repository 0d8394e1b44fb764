"""The break-even point: every closed form against its recursion, the models against their losses, runs made by hand."""

import itertools
import math

import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import sgdynamics
from figures.engine.elsewhere import elsewhere
from sgdynamics.models.break_even import (
    SelfStabilizingMode,
    SelfStabilizingModes,
    draw_ensemble,
    gaussian_features,
)
from sgdynamics.outcome import Outcome
from sgdynamics.theory import break_even, quadratic

ETA, LAM, S2, C = sympy.symbols("eta lambda s2 c", positive=True)
KAPPA2, SIGMA2, RATE, BETA = sympy.symbols("kappa2 sigma2 a beta", positive=True)

# ---------------------------------------------------------------------------------------------------------------------
# Proofs. In one direction psi' = (1 - eta h) psi with a curvature h of the batch, of mean lambda and variance c s2.


def factor(curvature, variance):
    """E (1 - eta h)^2 from the first two moments of h."""
    h = sympy.Symbol("h")
    expanded = sympy.Poly(sympy.expand((1 - ETA * h) ** 2), h)
    moments = {0: 1, 1: curvature, 2: curvature**2 + variance}
    return sum(coefficient * moments[power] for (power,), coefficient in expanded.terms())


def edge_curvature(rate, noise, relative):
    """Where the spread of the curvatures is proportional to their mean."""
    return quadratic.mean_square_edge_gain(noise * relative) / rate


def proof_batch_variance_factor():
    """E h_i h_j for two different examples is lambda^2 - s2/(n-1), since all pairs add to the square of the sum."""
    n, size = sympy.symbols("n S", positive=True)
    different = (n**2 * LAM**2 - n * (S2 + LAM**2)) / (n * (n - 1))
    square = (size * (S2 + LAM**2) + size * (size - 1) * different) / size**2
    yield square - LAM**2 - break_even.batch_variance_factor(n, size) * S2
    independent = (size * (S2 + LAM**2) + size * (size - 1) * LAM**2) / size**2
    yield independent - LAM**2 - break_even.batch_variance_factor(n, size, replacement=True) * S2


def proof_gradient_noise_interaction():
    """E g H g / gbar^2 with g = h psi and the mean curvature in the middle."""
    psi = sympy.Symbol("psi", positive=True)
    interaction = (LAM**2 + C * S2) * psi**2 * LAM / (LAM * psi) ** 2
    yield interaction - break_even.gradient_noise_interaction(LAM, S2, C)


def proof_edge_curvature_poisson():
    scale = sympy.Symbol("k", positive=True)
    at = break_even.edge_curvature_poisson(ETA, C, scale)
    yield factor(at, C * scale * at) - 1


def proof_edge_curvature_at_distance():
    alpha, psi = sympy.symbols("alpha psi", positive=True)
    at = break_even.edge_curvature_at_distance(ETA, C, alpha, psi)
    yield factor(at, C * alpha * at / psi**2) - 1  # the gradient variance psi^2 s^2 is alpha lambda


def proof_break_even_curvature():
    constant, n, size, root = sympy.symbols("C n S r", positive=True)
    for replacement, noise in ((False, (n - size) / (size * (n - 1))), (True, 1 / size)):
        alpha = (root**2 - 1) * ETA * constant**2 / (8 * noise)  # so that the square root is r
        at = break_even.break_even_curvature(
            ETA, size, n, alignment=alpha, path_constant=constant, replacement=replacement
        )
        at = sympy.simplify(at)
        psi = constant / at  # on the path
        yield factor(at, noise * alpha * at / psi**2) - 1


def proof_break_even_distance():
    alpha = sympy.Symbol("alpha", positive=True)
    psi = break_even.break_even_distance(LAM, ETA, C, alpha)
    yield factor(LAM, C * alpha * LAM / psi**2) - 1


def averaged(y, v):
    """Increments of E x^2 and of the curvature in one step of the averaged recursion."""
    return (
        (factor(y, C * KAPPA2 * y**2) - 1) * v + ETA**2 * C * SIGMA2,
        ETA * (RATE - BETA * v / 2),
    )


def proof_frozen_second_moment():
    yield averaged(LAM, break_even.frozen_second_moment(ETA, LAM, C, KAPPA2, SIGMA2))[0]


def proof_plateau_second_moment():
    yield averaged(LAM, break_even.plateau_second_moment(RATE, BETA))[1]


def fixed_point(formula):
    """Residual of the averaged second moment at a fixed point, with 1 - Q eps = r^2 to take the root away."""
    root = sympy.Symbol("r", positive=True)
    sigma2 = (1 - root**2) * 2 * RATE / ((1 + KAPPA2 * C) * ETA**2 * C * BETA)
    at = sympy.simplify(formula(ETA, C, KAPPA2, sigma2, sharpening=RATE, restoring=BETA))
    return averaged(at, 2 * RATE / BETA)[0].subs(SIGMA2, sigma2)


def proof_plateau_curvature():
    yield fixed_point(break_even.plateau_curvature)


def proof_collapse_curvature():
    yield fixed_point(break_even.collapse_curvature)


def proof_plateau_projection_variance():
    """Var_i (h_i y x - b_i) at x^2 = 2a/beta, with uncorrelated h and b."""
    x = sympy.sqrt(2 * RATE / BETA)
    yield (
        KAPPA2 * (LAM * x) ** 2
        + SIGMA2
        - break_even.plateau_projection_variance(LAM, KAPPA2, SIGMA2, sharpening=RATE, restoring=BETA)
    )


def proof_critical_interaction_aware_sharpness():
    square, moment = sympy.symbols("g2 m", positive=True)
    at = break_even.critical_interaction_aware_sharpness(ETA, square, moment)
    yield -ETA * square + ETA**2 * at * moment / 2


def proof_rise_multiple():
    decrease, bend, loss, rise = sympy.symbols("A B L r", positive=True)
    multiple = break_even.rise_multiple(decrease, bend, loss, rise)
    yield -multiple * decrease + multiple**2 * bend / 2 - rise * loss
    # in balance, of a step that leaves the loss as it is
    balanced = break_even.rise_multiple(decrease, 2 * decrease, loss, rise)
    yield (2 * balanced - 1) ** 2 - (1 + 4 * rise * loss / decrease)


def proof_break_even_slope():
    alpha, constant, n, size = sympy.symbols("alpha C n S", positive=True)
    given = {"alignment": alpha, "path_constant": constant}
    # with replacement the factor is positive for every size, without it is one positive number as well
    curvature = break_even.break_even_curvature(ETA, size, n, **given, replacement=True)
    slope = break_even.break_even_slope(ETA, size, n, **given, replacement=True)
    root = sympy.Symbol("R", positive=True)  # of 1 + 8 alpha c/(eta C^2)
    known = {alpha: (root**2 - 1) * ETA * constant**2 * size / 8}
    yield (ETA * sympy.diff(curvature, ETA) / curvature - slope).subs(known)


def proof_noise_alignment():
    noise, loss, norm = sympy.symbols("t L f", positive=True)
    yield ETA**2 * C * noise / 2 - ETA**2 * C * break_even.noise_alignment(noise, loss, norm) * norm * loss


PROOFS = {
    name.removeprefix("proof_"): function for name, function in list(globals().items()) if name.startswith("proof_")
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_formula_solves_its_recursion(name):
    for residual in PROOFS[name]():
        assert sympy.simplify(residual) == 0


def test_every_exact_symbolic_formula_of_the_break_even_point_is_proved():
    of_stem = [item for item in sgdynamics.formulas(kind="formula") if item.stem == "break_even"]
    closed = {"plateau_curvature", "collapse_curvature"}  # exact for their recursion, which is not so for the model
    assert {item.__name__ for item in of_stem if item.status == "exact" and item.symbolic} | closed == set(PROOFS)


# ---------------------------------------------------------------------------------------------------------------------
# One direction: numbers, and brute force over all batches


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
def test_the_curvature_of_a_batch_has_the_variance_of_all_batches(size):
    h = np.array([0.3, 1.2, 0.9, 2.0, 0.1, 4.0, 1.1, 0.7])
    batches = [np.mean(batch) for batch in itertools.combinations(h, size)]
    expected = break_even.batch_variance_factor(8, size) * h.var()
    assert np.var(batches) == pytest.approx(expected, abs=1e-15)
    again = [np.mean(batch) for batch in itertools.product(h[:4], repeat=min(size, 3))]
    expected = break_even.batch_variance_factor(4, min(size, 3), replacement=True) * h[:4].var()
    assert np.var(again) == pytest.approx(expected, rel=1e-12)


def test_one_example_has_its_own_variance_and_the_full_batch_none():
    assert break_even.batch_variance_factor(8, 1) == 1
    assert break_even.batch_variance_factor(8, 8) == 0
    assert break_even.batch_variance_factor(1, 1) == 0
    with pytest.raises(ValueError, match="batch_size must be at most examples = 8"):
        break_even.batch_variance_factor(8, 9)


def test_at_the_edge_of_one_direction_gradient_noise_interaction_is_two_over_the_rate_and_batch_sharpness_is_not():
    h = np.random.default_rng(3).gamma(1.0, 1.0, 8)
    for size in (1, 2, 3, 5):
        batches = np.array([np.mean(batch) for batch in itertools.combinations(h, size)])
        noise = break_even.batch_variance_factor(8, size)
        rate = quadratic.mean_square_edge_gain(noise * h.var() / h.mean() ** 2) / h.mean()
        assert np.mean((1 - rate * batches) ** 2) == pytest.approx(1, abs=1e-12)
        psi = 0.7
        slopes = batches * psi
        interaction = np.mean(slopes**2) * h.mean() / (h.mean() * psi) ** 2
        assert rate * interaction == pytest.approx(2, abs=1e-12)
        assert rate * break_even.gradient_noise_interaction(h.mean(), h.var(), noise) == pytest.approx(2, abs=1e-12)
        # batch sharpness: as a mean of ratios, and as a ratio of means
        assert rate * np.mean(batches) < 2 < rate * np.mean(batches**3) / np.mean(batches**2)


@given(st.floats(-3, 1), st.floats(-3, 3), st.floats(-3, 2))
def test_the_bounds_hold_wherever_the_direction_is_stable_and_are_reached(log_rate, log_relative, log_noise):
    rate, relative, noise = 10**log_rate, 10**log_relative, 10**log_noise
    curvature = edge_curvature(rate, noise, relative)
    spread = math.sqrt(relative) * curvature
    assert curvature <= break_even.sharpness_bound(rate)
    assert spread <= break_even.non_uniformity_bound(rate, noise) * (1 + 1e-12)
    # each bound alone is reached: without spread, and at half of the largest curvature
    assert edge_curvature(rate, 0.0, relative) == pytest.approx(break_even.sharpness_bound(rate))
    there = quadratic.mean_square_factor(1.0, noise * (rate * break_even.non_uniformity_bound(rate, noise)) ** 2)
    assert there == pytest.approx(1)


def test_the_full_batch_may_be_as_uneven_as_it_likes():
    assert break_even.non_uniformity_bound(0.1, 0.0) == math.inf


# ---------------------------------------------------------------------------------------------------------------------
# The break-even curvature

TABLE = {  # curvature at the break-even point for C = 1, alpha = 0.05, n = 1024
    0.02: [35.83, 58.03, 80.20, 93.58, 100],
    0.05: [20.00, 29.30, 36.01, 38.89, 40],
    0.1: [12.36, 16.58, 18.90, 19.72, 20],
    0.2: [7.32, 8.99, 9.71, 9.93, 10],
}
SIZES = [1, 4, 16, 64, 1024]


def crossing(rate, size, *, alpha=0.05, constant=1.0, n=1024):
    """The crossing by bisection in the distance; nothing of ours."""
    noise = alpha * (n - size) / (size * (n - 1))
    low, high = 1e-9, 1e9
    for _ in range(200):
        middle = math.sqrt(low * high)
        if 2 / rate - noise / middle**2 - constant / middle > 0:
            high = middle
        else:
            low = middle
    return constant / low


@pytest.mark.parametrize("rate", TABLE)
def test_the_break_even_curvature_is_that_of_the_table_by_a_search_of_the_crossing_and_in_closed_form(rate):
    for size, known in zip(SIZES, TABLE[rate], strict=True):
        closed = break_even.break_even_curvature(rate, size, 1024, alignment=0.05, path_constant=1.0)
        searched = break_even.break_even_crossing(
            lambda distance: 1 / distance,
            1.0,
            nearest=1e-3,
            learning_rate=rate,
            batch_size=size,
            examples=1024,
            alignment=0.05,
        )
        assert closed == pytest.approx(known, abs=0.005 + 1e-9)
        assert closed == pytest.approx(crossing(rate, size), rel=1e-6)
        assert searched.curvature.item() == pytest.approx(closed, rel=1e-6)
        assert searched.gradient_variance.item() == pytest.approx(0.05 * closed, rel=1e-6)
        assert searched.outcome.item() == Outcome.REACHED
        psi = break_even.break_even_distance(closed, rate, break_even.batch_variance_factor(1024, size), 0.05)
        if size < 1024:
            assert searched.distance.item() == pytest.approx(psi, rel=1e-6)


exponent = st.floats(-3, 1)


@given(exponent, exponent, exponent, st.integers(1, 63))
def test_the_break_even_curvature_falls_with_the_rate_and_rises_with_the_batch(log_rate, log_alpha, log_constant, size):
    rate, alpha, constant = 10**log_rate, 10**log_alpha, 10**log_constant
    given_path = {"alignment": alpha, "path_constant": constant}

    def at(rate, size):
        return break_even.break_even_curvature(rate, size, 64, **given_path)

    assert at(1.01 * rate, size) < at(rate, size) < at(rate, size + 1)
    assert break_even.break_even_curvature.derivative("learning_rate")(rate, size, 64, **given_path) < 0
    assert break_even.break_even_curvature.derivative("batch_size")(rate, size, 64, **given_path) > 0
    noise, relative = break_even.batch_variance_factor(64, size), alpha
    assert edge_curvature(rate, noise, relative) < edge_curvature(
        rate, break_even.batch_variance_factor(64, size + 1), relative
    )


def test_derivatives_of_the_break_even_curvature_are_differences():
    setting = {"alignment": 0.05, "path_constant": 1.0}

    def at(rate):
        return break_even.break_even_curvature(rate, 4, 1024, **setting)

    slope = break_even.break_even_curvature.derivative("learning_rate")(0.1, 4, 1024, **setting)
    assert slope == pytest.approx((at(0.1 + 1e-6) - at(0.1 - 1e-6)) / 2e-6, rel=1e-7)


def test_the_slope_against_the_rate_is_minus_one_for_the_full_batch_and_minus_a_half_where_noise_rules():
    def slope(size, alpha):
        low, high = (
            break_even.break_even_curvature(rate, size, 1024, alignment=alpha, path_constant=1.0)
            for rate in (0.02, 0.2)
        )
        return math.log10(high / low)

    assert slope(1024, 0.05) == pytest.approx(-1, abs=1e-12)
    assert -0.55 < slope(1, 50.0) < -0.45


@given(st.floats(-12, -6), st.floats(-2, 2))
def test_weak_noise_lowers_the_break_even_curvature_without_loss_of_digits(log_noise, log_rate):
    rate, noise = 10**log_rate, 10**log_noise
    # scaled so that 8 alpha c/(eta C^2) = 8 noise: lambda = 2/eta (1 - 2 noise + 8 noise^2 - ..)
    at = break_even.break_even_curvature(rate, 1, 1024, alignment=noise * rate, path_constant=1.0)
    assert at == pytest.approx(2 / rate * (1 - 2 * noise + 8 * noise**2), rel=1e-14)


@pytest.mark.parametrize("times", [1 + 1e-9, 1.01, 3.0, 1e6])
def test_the_break_even_point_does_not_depend_on_where_the_run_comes_from(times):
    setting = {"learning_rate": 0.1, "batch_size": 1, "examples": 1024, "alignment": 0.05}
    edge = 1 / break_even.break_even_curvature(0.1, 1, 1024, alignment=0.05, path_constant=1.0)
    found = break_even.break_even_crossing(lambda d: 1 / d, times * edge, nearest=1e-3, **setting)
    assert found.distance.item() == pytest.approx(edge, rel=1e-13)


def test_any_path_is_crossed_where_it_first_meets_the_edge_and_said_so_where_it_does_not():
    setting = {"learning_rate": 0.1, "batch_size": 4, "examples": 1024, "alignment": 0.05}
    quadratic_path = break_even.break_even_crossing(lambda d: 1 + 0.5 / d**2, 1.0, nearest=1e-3, **setting)
    noise = 0.05 * 1020 / (4 * 1023)
    assert quadratic_path.distance.item() == pytest.approx(math.sqrt((0.5 + noise) / 19), rel=1e-12)
    never = break_even.break_even_crossing(lambda d: 1.0, 1.0, nearest=0.5, **setting)
    assert never.outcome.item() == Outcome.NEVER_REACHED
    at_once = break_even.break_even_crossing(lambda d: 30 / d, 1.0, nearest=0.5, **setting)
    assert at_once.outcome.item() == Outcome.REACHED
    assert (at_once.distance.item(), at_once.curvature.item()) == (1.0, 30.0)
    with pytest.raises(ValueError, match="path must be finite"):
        break_even.break_even_crossing(lambda d: math.inf, 1.0, nearest=0.5, **setting)
    with pytest.raises(TypeError, match="path must be a callable from a distance"):
        break_even.break_even_crossing(lambda d: "steep", 1.0, nearest=0.5, **setting)
    with pytest.raises(ValueError, match="nearest must be below start"):
        break_even.break_even_crossing(lambda d: 1.0, 1.0, nearest=1.0, **setting)


def test_the_conditions_of_the_proof_are_told_apart():
    setting = {"nearest": 1e-2, "learning_rate": 0.1, "batch_size": 4, "examples": 1024, "alignment": 0.05}
    sound = break_even.proof_conditions(lambda d: 1 / d, 1.0, **setting)
    assert sound.holds.values.all()
    assert sound.margin.sel(condition="path sharpens").item() == pytest.approx(1, rel=0.02)
    assert sound.margin.sel(condition="stable at the start").item() == pytest.approx(
        1 - (1 + 0.05 * 1020 / (4 * 1023)) / 20
    )
    bumpy = break_even.proof_conditions(lambda d: 10 + 12 * math.sin(3 * math.log(d)), 1.0, **setting)
    assert not bumpy.holds.sel(condition=["path sharpens", "room shrinks", "crossed once"]).values.any()
    unstable = break_even.proof_conditions(lambda d: 30 / d, 1.0, **setting)
    assert unstable.holds.values.tolist() == [False, True, True, True, True]
    setting["batch_size"] = 1024
    full = break_even.proof_conditions(lambda d: 1 / d, 1.0, **setting)
    assert full.holds.values.all()
    assert full.margin.sel(condition="edge falls with distance").item() == 0
    held = break_even.proof_conditions(lambda d: min(1 / d, 20.0), 1.0, **setting)  # comes to its edge and stays there
    assert held.margin.sel(condition="crossed once").item() == 1


# ---------------------------------------------------------------------------------------------------------------------
# The plateau

PLATEAUS = [  # learning rate, batch size, force deviation, a, kappa^2, y*; n = 1024
    (0.1, 16, 0.0, 0.01, 0.25, 19.697),
    (0.1, 16, 0.5, 0.01, 0.25, 19.658),
    (0.1, 16, 1.0, 0.01, 0.25, 19.542),
    (0.1, 16, 1.5, 0.01, 0.25, 19.344),
    (0.2, 64, 1.0, 0.01, 0.25, 9.890),
    (0.1, 16, 1.0, 0.01, 0.0, 19.845),
    (0.1, 16, 1.0, 0.02, 0.0, 19.923),
    (0.05, 16, 1.0, 0.02, 0.0, 39.962),
]


@pytest.mark.parametrize(("rate", "size", "deviation", "sharpening", "kappa2", "known"), PLATEAUS)
def test_the_plateau_is_that_of_the_table(rate, size, deviation, sharpening, kappa2, known):
    noise = break_even.batch_variance_factor(1024, size)
    at = break_even.plateau_curvature(rate, noise, kappa2, deviation**2, sharpening=sharpening)
    assert at == pytest.approx(known, abs=6e-4)
    # the averaged recursion stays where it is put, and E x^2 is 2a
    v = break_even.plateau_second_moment(sharpening)
    assert v == 2 * sharpening
    rho = (1 - rate * at) ** 2 + rate**2 * at**2 * kappa2 * noise
    assert rho * v + rate**2 * noise * deviation**2 == pytest.approx(v, rel=1e-10)
    if deviation:
        assert break_even.frozen_second_moment(rate, at, noise, kappa2, deviation**2) == pytest.approx(v, rel=1e-9)
        low = break_even.collapse_curvature(rate, noise, kappa2, deviation**2, sharpening=sharpening)
        assert break_even.frozen_second_moment(rate, low, noise, kappa2, deviation**2) == pytest.approx(v, rel=1e-9)
        assert low < at
    else:
        assert at == pytest.approx(edge_curvature(rate, noise, kappa2), rel=1e-14)


def test_the_most_noise_that_leaves_a_plateau_leaves_one_fixed_point():
    # Q = 2, eps = 1/2: v = 2a/beta stays, and so does y
    for formula in (break_even.plateau_curvature, break_even.collapse_curvature):
        assert formula(1.0, 1.0, 1.0, 1.0, sharpening=1.0) == 0.5
        assert formula(1.0, 1.0, 1.0, 1.0 + 1e-12, sharpening=1.0) == math.inf
        assert formula.status != "exact"  # the recursion closes the moments of a run
    assert (1 - 0.5 * (2 - 0.5 * 2)) * 2 + 1 == 2


def test_batch_sharpness_is_at_least_two_at_the_edge_where_no_batch_is_concave():
    def at_the_edge(batches):
        mean, spread = np.mean(batches), np.var(batches)
        rate = quadratic.mean_square_edge_gain(spread / mean**2) / mean
        assert rate * break_even.gradient_noise_interaction(mean, spread, 1.0) == pytest.approx(2)
        return rate * np.mean(batches**3) / np.mean(batches**2)

    assert at_the_edge(np.array([-2.0, 3.0])) == pytest.approx(0.2249, abs=1e-4)
    random = np.random.default_rng(0)
    for _ in range(50):
        assert at_the_edge(10.0 ** random.uniform(-3, 3, 5)) >= 2 * (1 - 1e-12)


@pytest.mark.parametrize(("examples", "directions", "decay"), [(64, 10, 1.0), (256, 20, 0.5)])
def test_single_draws_have_the_edges_that_an_independent_program_found(examples, directions, decay):
    """That of the sharpest direction over the exact one, at batch sizes 1, 4 and 16."""
    features = gaussian_features(examples, directions, decay=decay, seed=0)
    ratio = [
        break_even.sharpest_direction_edge(features=features, batch_size=size)
        / break_even.mean_square_edge(features=features, batch_size=size)
        for size in (1, 4, 16)
    ]
    known = elsewhere("sharpest_direction_over_edge").under(examples, directions, decay).values.values()
    np.testing.assert_allclose(ratio, list(known), atol=5.1e-3)


def test_too_much_noise_leaves_no_plateau():
    quiet = break_even.plateau_curvature(0.1, 1.0, 0.25, 1.5, sharpening=0.01)
    assert math.isfinite(quiet)
    assert break_even.plateau_curvature(0.1, 1.0, 0.25, 1.7, sharpening=0.01) == math.inf
    assert break_even.collapse_curvature(0.1, 1.0, 0.25, 1.7, sharpening=0.01) == math.inf


def test_the_sharpness_gap_is_the_limit_of_weak_noise_and_wrong_by_a_quarter_of_it():
    ratios = []
    for sigma2 in (0.4, 0.04, 0.004):
        gap = 20 - break_even.plateau_curvature(0.1, 0.0625, 0.0, sigma2, sharpening=0.01)
        ratios.append(gap / break_even.stochastic_sharpness_gap(0.1, 0.0625, sigma2, sharpening=0.01) - 1)
    strength = 0.01 * 0.0625 * np.array([0.4, 0.04, 0.004]) / 0.02
    np.testing.assert_allclose(ratios, strength / 4, rtol=0.02)
    doubled = break_even.stochastic_sharpness_gap(0.1, 0.0625, 0.1, sharpening=0.01, restoring=2.0)
    assert doubled == pytest.approx(2 * 0.1 * 0.0625 * 0.1 / 0.04)


def test_the_gradient_variance_at_the_plateau_falls_to_a_quarter_at_twice_the_rate():
    one, two = (
        break_even.plateau_projection_variance(edge_curvature(rate, 0.0, 0.485), 0.485, 0.0, sharpening=0.02)
        for rate in (0.05, 0.1)
    )
    assert one / two == pytest.approx(4)
    assert one == pytest.approx(0.485 * 40**2 * 0.04)


@pytest.mark.parametrize(("rate", "known"), [(0.05, 76792), (0.1, 18698), (0.2, 4424)])
def test_the_steps_to_break_even_are_those_of_the_table(rate, known):
    noise = break_even.batch_variance_factor(1024, 16)
    steps = break_even.break_even_steps(rate, noise, 0.249, sharpening=0.01, start_curvature=1.0)
    assert steps == pytest.approx(known, rel=2e-4)
    assert break_even.break_even_steps(rate, noise, 0.249, sharpening=0.01, start_curvature=50.0) == 0


def test_no_run_breaks_even_before_its_bound():
    mode = SelfStabilizingMode(
        *draw_ensemble(64, relative_variance=0.1, law="gamma", seed=1), sharpening=0.05, batch_size=8
    )
    generator = np.random.default_rng(2)
    bound = break_even.break_even_steps(
        0.2, mode.batch_factor, mode.relative_variance, sharpening=0.05, start_curvature=9.0
    )
    edge = edge_curvature(0.2, mode.batch_factor, mode.relative_variance)
    x, y, steps = 0.01, 9.0, 0
    while y < edge:
        x, y = mode.step(x, y, 0.2, drawn=generator.permutation(64)[:8])
        steps += 1
    assert bound <= steps < 2 * bound


def test_modes_are_clipped_at_their_plateau_and_the_bulk_is_left_alone():
    rates = 0.01 * 0.7 ** np.arange(10)
    modes = SelfStabilizingModes(np.ones((4, 10)), sharpening=rates, start_curvature=0.5, batch_size=4)
    sweep = xr.DataArray([0.05, 0.1, 0.2], dims="learning_rate", coords={"learning_rate": [0.05, 0.1, 0.2]})
    # averaged over the last tenth of a run to the time 4000
    found = break_even.clipped_modes(modes, sweep, 3800.0)
    np.testing.assert_allclose(found.condition_ratio, [0.0528, 0.1017, 0.2033], rtol=0.01)
    np.testing.assert_allclose(found.trace, [128.1, 102.5, 69.8], rtol=0.01)
    np.testing.assert_allclose(found.sharpness, [38.5, 20, 10])
    assert break_even.clipped_modes(modes, sweep, 4000.0).clipped.sum("mode").values.tolist() == [1, 3, 5]
    np.testing.assert_allclose(found.curvature.isel(mode=-1), 0.5 + 3800 * rates[-1])


# ---------------------------------------------------------------------------------------------------------------------
# Rules for several directions


def test_the_shares_are_those_of_the_trace_rule_and_of_the_kernel_norm():
    assert quadratic.trace_rule_term(0.5, 1 / 0.25) == pytest.approx(0.125 / 1.375)
    assert break_even.kernel_norm_share(0.5, 0.25) == pytest.approx(0.125 / 1.5)
    values, noise = np.array([1.0, 0.5, 0.1, 0.0]), 0.3
    rate = break_even.trace_rule_edge(values, noise)
    assert sum(noise * rate * v / (2 - rate * v * (1 + noise)) for v in values) == pytest.approx(1, rel=1e-12)
    rate = break_even.kernel_norm_edge(values, noise, outputs=2)
    assert sum(noise * rate * v / (2 - rate * v) for v in values) == pytest.approx(2, rel=1e-12)
    assert break_even.trace_rule_edge(values, 0.0) == break_even.kernel_norm_edge(values, 0.0) == 2
    assert break_even.trace_rule_edge(4 * values, 0.0) == break_even.kernel_norm_edge(4 * values, 0.0) == 0.5


@given(st.lists(st.floats(-3, 1), min_size=1, max_size=6), st.floats(-4, 0))
def test_the_kernel_norm_never_sets_a_lower_edge_than_the_trace_rule(log_values, log_noise):
    values, noise = 10.0 ** np.array(log_values), 10**log_noise
    trace, kernel = break_even.trace_rule_edge(values, noise), break_even.kernel_norm_edge(values, noise)
    assert 0 < trace <= kernel * (1 + 1e-12) <= 2 / values.max() * (1 + 1e-9)
    assert break_even.trace_rule_edge(3 * values, noise) == pytest.approx(trace / 3, rel=1e-9)


@pytest.mark.parametrize(("size", "alignment"), [(1024, 0.05), (1, 0.05), (1, 50.0), (16, 0.0)])
def test_the_slope_of_the_break_even_curvature_is_that_of_a_small_change_of_the_rate(size, alignment):
    given = {"alignment": alignment, "path_constant": 1.0}
    rates = 0.1 * np.exp([-1e-4, 1e-4])
    change = np.diff(np.log(break_even.break_even_curvature(rates, size, 1024, **given))).item() / 2e-4
    slope = break_even.break_even_slope(0.1, size, 1024, **given)
    assert slope == pytest.approx(change, rel=1e-6)
    assert -1 <= slope <= -0.5
    if size == 1024 or not alignment:
        assert slope == -1
    if alignment == 50:
        assert slope == pytest.approx(-0.5, abs=0.05)


def test_the_published_fall_of_the_gradient_noise_is_inside_the_law_of_the_path_and_outside_that_of_the_plateau():
    # largest eigenvalues .87 and 3.01 of the gradient covariance at the rates .1 and .01
    slope = math.log(0.87 / 3.01) / math.log(10)
    assert -1 < slope < -0.5
    assert slope == pytest.approx(-0.54, abs=0.005)
    plateau = [
        break_even.plateau_projection_variance(2 / rate, 0.5, 0.0, sharpening=0.02) for rate in (0.01, 0.1)
    ]  # fmt: skip
    assert math.log10(plateau[1] / plateau[0]) == pytest.approx(-2)


def test_where_the_sharpest_direction_is_that_of_the_noise_the_edge_is_lowest():
    # psi' = (1 - eta h) psi with variance of the slope alpha lambda at the distance psi: the ratio of both eigenvalues
    hessian, noise = np.diag([2.0, 0.5]), 0.3 * np.array([1.0, 0.2])
    edges = []
    for angle in (0.0, 0.4, math.pi / 2):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        covariance = turn @ np.diag(noise) @ turn.T
        alignment = covariance[0, 0] / hessian[0, 0]
        edges.append(break_even.edge_curvature_at_distance(0.5, 1.0, alignment, 0.4))
        # the edge by the second moment itself: s2 = K_11/psi^2, at the curvature that it says
        curvature, spread = edges[-1], alignment * edges[-1] / 0.4**2
        assert (1 - 0.5 * curvature) ** 2 + 0.25 * spread == pytest.approx(1, rel=1e-12)
    assert edges == sorted(edges)
    collinear = break_even.edge_curvature_at_distance(0.5, 1.0, noise[0] / hessian[0, 0], 0.4)
    assert edges[0] == pytest.approx(collinear, rel=1e-12)


def test_a_fifth_more_loss_is_no_test_of_an_edge():
    """Of runs in balance: the multiple goes with the loss over its first-order decrease, whatever the edge."""
    random = np.random.default_rng(0)
    runs = 400_000
    found = []
    for gain, floor in ((0.2, 0.0), (0.2, 30.0), (1.5, 0.0), (1.5, 30.0)):
        psi = random.normal(size=runs) * math.sqrt(gain / (2 - gain))
        step = gain * (psi - random.normal(size=runs))
        loss, decrease, bend = np.mean(psi**2) / 2 + floor, np.mean(step * psi), np.mean(step**2)
        multiple = np.linspace(1, 20, 400_001)
        change = -multiple * decrease + multiple**2 * bend / 2
        measured = multiple[np.argmax(change > 0.2 * loss)]
        exact = gain / (2 - gain)
        expected = break_even.rise_multiple(gain * exact, 2 * gain * exact, exact / 2 + floor)
        assert measured == pytest.approx(expected, rel=0.01)
        found.append(expected)
    quiet_far, floor_far, quiet_near, floor_near = found
    assert quiet_far > quiet_near  # without a floor it falls with the gain
    assert floor_near > quiet_far  # with one, a run near its edge looks more stable than one far from it
    assert floor_far > floor_near
    # full-batch descent at its edge: the loss over the first-order decrease is a quarter
    assert break_even.rise_multiple(2 * 2.0, 4 * 2.0, 1.0) == pytest.approx(0.5 + math.sqrt(0.25 + 0.05))


def test_the_critical_interaction_is_where_one_step_keeps_the_expected_loss():
    generator = np.random.default_rng(5)
    slopes = generator.standard_normal((6, 3)) + 1.0
    hessian = np.diag([3.0, 1.0, 0.2])
    mean, moment = slopes.mean(axis=0), (slopes.T @ slopes) / 6
    ias = np.trace(hessian @ moment) / np.trace(moment)
    rate = 2 * (mean @ mean) / (ias * np.trace(moment))
    change = np.mean([-rate * mean @ g + rate**2 * g @ hessian @ g / 2 for g in slopes])
    assert change == pytest.approx(0, abs=1e-12)
    assert break_even.critical_interaction_aware_sharpness(rate, mean @ mean, np.trace(moment)) == pytest.approx(ias)


def test_a_minimum_beyond_the_frobenius_bound_is_unstable_and_the_bound_is_met_where_noise_is_all():
    features = gaussian_features(32, 4, decay=0.0, seed=6)
    hessian = features.T @ features / 32
    norm2 = (hessian**2).sum()

    def alignment(w):
        slopes = features * (features @ w)[:, None]
        centred = slopes - slopes.mean(axis=0)
        noise = np.einsum("ni,ij,nj->", centred, hessian, centred) / 32
        return break_even.noise_alignment(noise, w @ hessian @ w / 2, norm2)

    points = np.random.default_rng(7).standard_normal((200, 4))
    smallest = min(alignment(w) for w in points)
    rate = 2.0
    assert math.sqrt(norm2) > break_even.frobenius_bound(rate, 1.0, smallest)
    for w in points[:20]:
        after = [0.5 * v @ hessian @ v for v in (w - rate * features * (features @ w)[:, None])]
        assert np.mean(after) > 0.5 * w @ hessian @ w
    assert break_even.frobenius_bound(0.1, 0.25, 4.0) == pytest.approx(10)
    assert break_even.frobenius_bound(0.1, 0.0, 4.0) == math.inf


# ---------------------------------------------------------------------------------------------------------------------
# The models

X, V = sympy.symbols("x v", real=True)
ENSEMBLE = draw_ensemble(12, relative_variance=0.4, force_deviation=0.3, seed=8)
ONE = SelfStabilizingMode(*ENSEMBLE, sharpening=0.3, restoring=2.0, batch_size=3)


def example_loss(i):
    y = sympy.sqrt(2) * V
    h, b = (float(values[i]) for values in ENSEMBLE)
    return h * y * X**2 / 2 - b * X - 0.3 / 2 * y


def test_the_mode_is_the_loss_that_it_says():
    at = {X: 0.4, V: 1.7}
    y = math.sqrt(2) * 1.7
    losses = [example_loss(i) for i in range(12)]
    mean = sum(losses) / 12
    np.testing.assert_allclose(ONE.example_losses(0.4, y), [float(loss.subs(at)) for loss in losses], rtol=1e-12)
    assert ONE.loss(0.4, y) == pytest.approx(float(mean.subs(at)))
    slopes = np.array([[float(sympy.diff(loss, name).subs(at)) for name in (X, V)] for loss in losses])
    np.testing.assert_allclose(ONE.gradient(0.4, y), slopes.mean(axis=0), rtol=1e-9)
    hessian = np.array(sympy.hessian(mean, (X, V)).subs(at)).astype(float)
    np.testing.assert_allclose(ONE.hessian(0.4, y), hessian, rtol=1e-9, atol=1e-12)
    assert ONE.sharpness(0.4, y) == pytest.approx(np.linalg.eigvalsh(hessian)[-1])
    covariance = np.cov(slopes.T, bias=True)
    assert ONE.projection_variance(0.4, y) == pytest.approx(covariance[0, 0], rel=1e-9)
    assert ONE.gradient_variance(0.4, y) == pytest.approx(np.trace(covariance), rel=1e-9)
    assert ONE.curvature_variance(0.4, y) == pytest.approx(np.var(ENSEMBLE.relative_curvatures * y))


def test_a_step_is_that_of_descent_on_the_batch_and_floors_hold():
    drawn, rate, y = [0, 4, 7], 0.2, math.sqrt(2) * 1.7
    batch = sum(example_loss(i) for i in drawn) / 3
    at = {X: 0.4, V: 1.7}
    x = 0.4 - rate * float(sympy.diff(batch, X).subs(at))
    v = 1.7 - rate * float(sympy.diff(batch, V).subs(at))
    np.testing.assert_allclose(ONE.step(0.4, y, rate, drawn), [x, math.sqrt(2) * v], rtol=1e-12)
    full = SelfStabilizingMode(np.ones(4), sharpening=0.3)
    assert full.step(0.4, 2.5, 0.4) == pytest.approx((1e-6, 2.5 + 0.4 * (0.3 - 0.08)))
    assert full.step(-0.4, 2.5, 0.399)[0] < 0
    assert full.step(-1e-6, 0.1, 0.1)[0] == -1e-6
    assert full.step(3.0, 1e-3, 0.1)[1] == 1e-3


def test_a_mode_is_dead_where_its_oscillation_holds_it_on_the_floor():
    mode = SelfStabilizingMode(np.ones(4), sharpening=0.02)
    assert mode.dead(1.0, 1e-3)
    assert not mode.dead(1.0, 2e-3)
    assert not mode.dead(0.1, 1e-3)
    x, y, steps = 1.0, 1e-3, 0
    while mode.dead(x, y):
        x, y = mode.step(x, y, 0.5)
        steps += 1
    assert steps == pytest.approx(math.log(1 / 0.04) / (2 * 0.5 * 1e-3), rel=0.01)


def test_several_modes_are_copies_of_one():
    curvatures, forces = draw_ensemble(9, relative_variance=0.3, force_deviation=0.2, modes=2, seed=9)
    setting = {"restoring": 2.0, "batch_size": 3}
    both = SelfStabilizingModes(curvatures, forces, sharpening=[0.2, 0.1], start=[0.1, -0.1], **setting)
    alone = [SelfStabilizingMode(curvatures[:, j], forces[:, j], sharpening=0.2 - 0.1 * j, **setting) for j in (0, 1)]
    x, y, drawn = np.array([0.3, -0.7]), np.array([2.0, 1.0]), [[0, 3, 8], [1, 2, 4]]
    made = both.step(x, y, 0.1, drawn)
    for j, mode in enumerate(alone):
        apart = mode.step(x[j], y[j], 0.1, drawn)
        np.testing.assert_allclose(made[0][:, j], apart[0], rtol=1e-14)
        np.testing.assert_allclose(made[1][:, j], apart[1], rtol=1e-14)
        assert both.relative_variance[j] == pytest.approx(mode.relative_variance)
        assert both.projection_variance(x, y)[j] == pytest.approx(mode.projection_variance(x[j], y[j]))
    pairs = list(zip(alone, x, y, strict=True))
    assert both.loss(x, y) == pytest.approx(sum(mode.loss(*at) for mode, *at in pairs))
    assert both.gradient_variance(x, y) == pytest.approx(sum(mode.gradient_variance(*at) for mode, *at in pairs))
    assert both.sharpness(x, y) == pytest.approx(max(mode.sharpness(*at) for mode, *at in pairs))
    assert (both.trace(y), both.condition_ratio(y)) == (3.0, 0.5)
    np.testing.assert_allclose(both.free_curvature([0.0, 10.0]), [[1, 1], [3, 2]])
    assert both.step(x, y, 0.1)[0].shape == (2,)


@pytest.mark.parametrize("law", ["gaussian", "gamma"])
def test_ensembles_have_the_moments_they_are_asked_for(law):
    h, b = draw_ensemble(40, relative_variance=0.7, force_deviation=0.4, law=law, modes=3, seed=10)
    np.testing.assert_allclose(h.mean(axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(h.var(axis=0), 0.7, rtol=1e-12)
    np.testing.assert_allclose(b.var(axis=0), 0.16, rtol=1e-12)
    np.testing.assert_allclose(((h - 1) * b).mean(axis=0), 0, atol=1e-15)
    loose, free = draw_ensemble(
        40_000, relative_variance=0.7, force_deviation=0.4, law=law, exact_moments=False, seed=10
    )
    assert loose.mean() == pytest.approx(1, rel=1e-12)
    assert free.mean() == pytest.approx(0, abs=1e-12)
    fourth = {"gaussian": 3.0, "gamma": 3 + 6 * 0.7}[law]
    assert abs(loose.var() / 0.7 - 1) < 4 * math.sqrt((fourth - 1) / 40_000) + 4 * 2 * math.sqrt(0.7 / 40_000)
    assert abs(free.std() / 0.4 - 1) < 4 / math.sqrt(80_000)
    again = draw_ensemble(40, relative_variance=0.7, force_deviation=0.4, law=law, modes=3, seed=10)
    assert np.array_equal(h, again.relative_curvatures)
    assert np.array_equal(draw_ensemble(5, relative_variance=0.0, seed=0).relative_curvatures, np.ones(5))
    with pytest.raises(ValueError, match="examples must be an integer >= 4"):
        draw_ensemble(3, relative_variance=0.7, force_deviation=0.4, seed=0)


@pytest.mark.parametrize("law", ["gaussian", "gamma"])
@pytest.mark.parametrize("variance", [1e-300, 1e-40, 1e-25, 1e-10, 1e6])
def test_ensembles_of_any_variance_have_it_to_the_rounding_of_their_mean_or_say_that_they_cannot(law, variance):
    if law == "gamma" and variance > 1:
        with pytest.raises(ValueError, match="relative_variance must be small enough"):
            draw_ensemble(4, relative_variance=variance, law=law, seed=0)
        return
    curvatures = draw_ensemble(64, relative_variance=variance, law=law, seed=0).relative_curvatures
    assert abs(curvatures.std() - variance**0.5) <= 1e-12 * variance**0.5 + np.finfo(float).eps


def test_modes_refuse_examples_that_are_not_centered():
    with pytest.raises(ValueError, match="relative_curvatures must be of mean 1"):
        SelfStabilizingMode([1.0, 1.5], sharpening=0.1)
    with pytest.raises(ValueError, match="forces must be of mean 0"):
        SelfStabilizingMode([0.5, 1.5], [0.1, 0.2], sharpening=0.1)
    with pytest.raises(ValueError, match="batch_size must be at most the number of examples, 2"):
        SelfStabilizingMode([0.5, 1.5], sharpening=0.1, batch_size=3)
    assert SelfStabilizingMode([0.5, 1.5], sharpening=0.1, batch_size=4, sampling="replacement").batch_factor == 0.25
    with pytest.raises(ValueError, match=r"drawn must be example numbers in 0\.\.1"):
        SelfStabilizingMode([0.5, 1.5], sharpening=0.1).step(0.1, 1.0, 0.1, [2])


# ---------------------------------------------------------------------------------------------------------------------
# Predictions for a run


def made_run(sharpness, *, rate=0.1, every=50, relative=1.0, size=4, noise=0.3, **attributes):
    step = every * np.arange(len(sharpness))
    sharpness = np.asarray(sharpness, dtype=float)
    return xr.Dataset(
        {
            "sharpness": ("step", sharpness),
            "curvature_variance": (("step", "direction"), np.stack([relative * sharpness**2, 0 * sharpness], axis=1)),
            "gradient_variance": ("step", noise * sharpness),
        },
        {"step": step, "time": ("step", rate * step)},
        {"sampling": "replacement", "batch_size": float(size), **attributes},
    )


@pytest.mark.parametrize("unit", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("rounding", [0.0, 1e-14])
def test_a_constant_sharpness_is_beyond_its_edge_from_the_start_or_never_at_it(unit, rounding):
    wobble = 1 + rounding * np.random.default_rng(0).standard_normal(60)
    edge = 2 / (0.1 * 1.25)
    for share in (0.1, 0.6, 0.8, 1.0 + 1e-12, 1.5):
        run = made_run(share * edge * unit * wobble, rate=0.1 / unit)
        found = break_even.predicted_break_even(run)
        step = 0 if share > 1 else math.inf
        assert (found.break_even_step == step).all()
        early = found.break_even_sharpness.sel(route="early").item()
        assert early == pytest.approx(edge * unit, rel=1e-9)
    # a window that ends beyond the edge has crossed it
    steep = break_even.predicted_break_even(made_run(np.array([10.0, 26.0, 30.0, 31.0])))
    assert 0 < steep.break_even_step.sel(route="early") < 50


@pytest.mark.parametrize("name", ["curvature_variance", "gradient_variance"])
def test_a_negative_variance_is_no_measurement(name):
    run = made_run(np.linspace(1, 20, 50))
    run[name][3] = -1e-9
    with pytest.raises(ValueError, match=f"predicted_break_even: run must be a Dataset with {name} >= 0"):
        break_even.predicted_break_even(run)


def test_a_run_that_is_clipped_at_its_edge_is_predicted_by_both_routes():
    edge = 2 / (0.1 * 1.25)
    run = made_run(np.minimum(1 + 0.2 * np.arange(100), edge))
    found = break_even.predicted_break_even(run)
    np.testing.assert_allclose(found.break_even_step, (edge - 1) / 0.2 * 50, rtol=1e-9)
    np.testing.assert_allclose(found.break_even_sharpness, edge, rtol=1e-12)
    np.testing.assert_allclose(found.gradient_variance, 0.3 * edge, rtol=1e-9)
    np.testing.assert_allclose(found.sharpness_error, 0, atol=1e-9)
    assert found.outcome.item() == Outcome.EDGE_REACHED
    assert found.holds.values.all()
    rho = (1 - 0.1 * run.sharpness.values) ** 2 + 0.01 * run.sharpness.values**2 / 4
    np.testing.assert_allclose(found.second_moment_factor, rho, rtol=1e-12)


def test_a_small_rate_reaches_no_edge_and_a_sharpness_that_stops_short_says_that_the_assumptions_fail():
    free = 1 + 5.5 * (1 - np.exp(-np.arange(100) / 10))
    reference = made_run(free, rate=0.01, every=500)
    small = break_even.predicted_break_even(made_run(free, rate=0.1, size=8), reference=reference)
    assert small.outcome.item() == Outcome.EDGE_NOT_REACHED
    assert np.isinf(small.break_even_step.values).all()
    stalled = break_even.predicted_break_even(
        made_run(np.minimum(free, 2.5), rate=0.4, every=12, size=8), reference=reference
    )
    assert stalled.outcome.item() == Outcome.STALLED_BELOW_EDGE
    assert not stalled.holds.sel(condition=["edge is reached", "edge holds the sharpness"]).values.any()
    assert stalled.margin.sel(condition="edge is reached").item() < -0.2
    assert math.isfinite(stalled.break_even_step.sel(route="early").item())
    # without the reference: by the share of the edge
    assert break_even.predicted_break_even(made_run(free, rate=0.1, size=8)).outcome.item() == Outcome.EDGE_NOT_REACHED
    again = break_even.predicted_break_even(made_run(np.minimum(free, 2.5), rate=0.4, every=12, size=8))
    assert again.outcome.item() == Outcome.STALLED_BELOW_EDGE


def test_the_reference_tells_the_early_route_when_the_edge_is_met():
    reference = made_run(1 + 5.5 * (1 - np.exp(-np.arange(400) / 40)), rate=0.01, every=500)  # 5 units of time apart
    edge = 2 / (0.4 * 1.25)
    free = 1 + 5.5 * (1 - np.exp(-np.arange(300) * 4 / 200))
    run = made_run(np.minimum(free, edge), rate=0.4, every=10)
    found = break_even.predicted_break_even(run, reference=reference)
    exact = -200 / 0.4 * math.log(1 - (edge - 1) / 5.5)
    assert found.break_even_step.sel(route="early").item() == pytest.approx(exact, rel=1e-3)
    assert exact <= found.break_even_step.sel(route="measured").item() < exact + 10
    timeless = reference.drop_vars("time").assign_attrs(learning_rate=0.01)
    xr.testing.assert_identical(break_even.predicted_break_even(run, reference=timeless), found)
    with pytest.raises(ValueError, match="reference must be a run with time or the attribute learning_rate"):
        break_even.predicted_break_even(run, reference=reference.drop_vars("time"))
    alone = break_even.predicted_break_even(run).break_even_step.sel(route="early").item()
    assert alone < 0.99 * exact  # a line through a curve that bends down is too early
    assert found.margin.sel(condition="sharpness follows the reference").item() == pytest.approx(0.15, abs=0.01)


def test_a_share_that_is_all_but_the_tolerance_has_reached_the_edge():
    """In halves and quarters, so that every number is a float."""
    run = made_run(np.full(20, 3.0), rate=0.5, relative=0.0)
    at, above = (break_even.predicted_break_even(run, tol=tol) for tol in (0.25, 0.25 - 2**-40))
    assert (at.outcome.item(), at.break_even_step.sel(route="measured").item()) == (Outcome.EDGE_REACHED, 0)
    assert above.outcome.item() == Outcome.STALLED_BELOW_EDGE
    assert math.isinf(above.break_even_step.sel(route="measured").item())
    at = break_even.predicted_break_even(made_run(np.full(20, 4.0), rate=0.5, relative=0.0))
    assert at.break_even_step.values.tolist() == [0, 0]  # a run that begins at its edge


def test_a_reference_that_begins_beyond_the_edge_meets_it_where_it_begins():
    run = made_run(np.linspace(1, 10, 50))
    reference = made_run(np.linspace(100, 120, 30))
    reference = reference.assign_coords(time=reference.time + 1000)
    found = break_even.predicted_break_even(run, reference=reference)
    assert found.break_even_step.sel(route="early").item() == pytest.approx(1000 / 0.1, rel=1e-12)


def test_a_run_that_is_half_way_from_the_start_is_told_by_its_first_two_measurements():
    found = break_even.predicted_break_even(made_run(8.0 + np.arange(9) ** 2))  # by 1, and then by ever more; to 16
    assert found.break_even_step.sel(route="early").item() == pytest.approx(8 * 50, rel=1e-9)
    assert found.break_even_step.sel(route="measured").item() < 150


def test_a_spread_that_changes_leaves_that_much_less_of_the_tolerance():
    run = made_run(np.linspace(1, 5, 40))
    spread = np.linspace(1.0, 1.5, 40)
    run["curvature_variance"] = run.curvature_variance * xr.DataArray(spread, dims="step")
    edge = 2 / (0.1 * (1 + 0.25 * spread))
    found = break_even.predicted_break_even(run).margin.sel(condition="spread follows the curvature").item()
    assert found == pytest.approx(0.15 - np.max(np.abs(edge / edge[-1] - 1)), rel=1e-9)


def test_a_run_below_its_reference_has_that_much_less_room():
    free = np.linspace(2, 10, 40)
    found = break_even.predicted_break_even(made_run(0.7 * free), reference=made_run(free))
    assert found.margin.sel(condition="sharpness follows the reference").item() == pytest.approx(0.7 - 0.85, rel=1e-9)


def test_of_few_measurements_the_last_one_is_late():
    found = break_even.predicted_break_even(made_run([8.0, 12.0, 20.0])).margin  # to an edge of 16
    assert found.sel(condition="edge holds the sharpness").item() == pytest.approx(0.15 - (20 / 16 - 1), rel=1e-9)


def test_two_measurements_are_enough():
    found = break_even.predicted_break_even(made_run([8.0, 24.0]))  # the edge is at 2/(0.1 * 1.25) = 16
    assert found.break_even_step.sel(route="measured").item() == pytest.approx(25, rel=1e-12)
    with pytest.raises(ValueError, match="run must be of at least two measurements"):
        break_even.predicted_break_even(made_run([8.0]), learning_rate=0.1)


def test_runs_are_told_apart_by_their_batches_and_their_end():
    run = made_run(np.minimum(1 + 0.2 * np.arange(100), 16), examples=64.0)
    shuffled = break_even.predicted_break_even(run, sampling="reshuffled")
    assert not shuffled.holds.sel(condition="batches are independent").item()
    assert shuffled.attrs["batch_factor"] == pytest.approx(60 / (4 * 63))
    assert break_even.predicted_break_even(run, sampling="full_batch").attrs["batch_factor"] == 0
    assert break_even.predicted_break_even(run, learning_rate=0.2).attrs["learning_rate"] == 0.2
    cut = run.copy(deep=True)
    cut.sharpness[40:] = math.inf
    lost = break_even.predicted_break_even(cut)
    assert lost.outcome.item() == Outcome.DIVERGED
    assert lost.sizes["step"] == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.drop_vars("sharpness"), "run must be a Dataset with sharpness"),
        (lambda run: run.drop_vars("curvature_variance"), "run must be a Dataset with curvature_variance"),
        (lambda run: run.expand_dims(seed=2), "run must be one run"),
        (lambda run: run.assign_coords(time=run.time**2), "run must be of a constant learning rate"),
        (lambda run: run.drop_vars("time"), "learning_rate must be given"),
        (lambda run: run.assign_attrs(sampling="reshuffled"), "examples must be given"),
        (lambda run: run.assign_attrs(sampling="by hand"), "sampling must be one of"),
        (lambda run: run.assign(sharpness=-run.sharpness), "run must be of at least two measurements"),
    ],
)
def test_a_run_that_lacks_something_says_what(change, message):
    run = change(made_run(1 + 0.2 * np.arange(20)))
    with pytest.raises(ValueError, match=message):
        break_even.predicted_break_even(run)


def test_a_run_needs_a_batch_size():
    run = made_run(1 + 0.2 * np.arange(20))
    del run.attrs["batch_size"]
    with pytest.raises(ValueError, match="batch_size must be given"):
        break_even.predicted_break_even(run)
    assert break_even.predicted_break_even(run, batch_size=4).attrs["batch_factor"] == 0.25


def test_forces_without_deviation_are_zero_for_any_number_of_examples():
    for examples in (2, 3, 64):
        for exact in (True, False):
            drawn = draw_ensemble(examples, relative_variance=1.0, exact_moments=exact, seed=0)
            assert (drawn.forces == 0).all()
            assert np.isfinite(drawn.relative_curvatures).all()
