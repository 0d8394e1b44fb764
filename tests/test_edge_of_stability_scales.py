"""Minimal models of the edge in other units of weights and loss: powers of two change no digit of what is said."""

import mpmath as mp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.edge_of_stability import FourFactors, ProductLoss
from sgdynamics.outcome import Outcome
from sgdynamics.simulate.edge_of_stability import four_factor_orbits, product_orbits, second_order_orbits
from sgdynamics.theory.edge_of_stability import central_flow, gradient_flow, modified_flow

units = st.integers(-40, 40).map(lambda power: 2.0**power)


@settings(max_examples=10)
@given(units, st.sampled_from([("square", 2), ("quartic", 6)]), st.sampled_from([30, 3000]))
def test_what_becomes_of_a_product_does_not_depend_on_the_unit_of_the_weights(unit, loss, steps):
    outer, power = loss
    usual, other = (
        product_orbits(ProductLoss(outer, target=c**2), [0.3 * c, 3.0 * c], 1.5 * c, 0.2 / c**power, steps=steps)
        for c in (1.0, unit)
    )
    assert other.outcome.values.tolist() == usual.outcome.values.tolist()
    assert other.divergence_step.values.tolist() == usual.divergence_step.values.tolist()
    assert Outcome.CONVERGED in usual.outcome.values or steps < 3000


@settings(max_examples=5)
@given(units)
def test_what_becomes_of_four_factors_does_not_depend_on_the_unit(unit):
    for steps, outcome in ((20, Outcome.UNSETTLED), (500, Outcome.CONVERGED)):
        start = [0.9 * unit, 1.2 * unit, 1.1 * unit, 0.7 * unit]
        run = four_factor_orbits(FourFactors(target=unit**4), *start, 0.1 / unit**6, steps=steps)
        assert run.outcome.item() == outcome


@settings(max_examples=5)
@given(units)
def test_what_becomes_of_a_quadratic_residual_does_not_depend_on_the_unit_of_the_rate(unit):
    for steps, outcome in ((20, Outcome.UNSETTLED), (2000, Outcome.CONVERGED)):
        run = second_order_orbits(0.1 * unit, 1.7 * unit, 0.0, 1 / unit, first=0.1, second=-0.1, steps=steps)
        assert run.outcome.item() == outcome


def product(c, strength):
    """Loss, gradient and Hessian of (xy - c^2)^2, times a strength, as if weights were in units of c."""

    def loss(w):
        return strength * (w[0] * w[1] - c * c) ** 2 / 2

    def gradient(w):
        return strength * (w[0] * w[1] - c * c) * w[::-1]

    def hessian(w):
        beside = 2 * w[0] * w[1] - c * c
        return strength * np.array([[w[1] ** 2, beside], [beside, w[0] ** 2]])

    return loss, gradient, hessian


@settings(max_examples=5)
@given(units, units)
def test_the_central_flow_is_the_same_in_any_unit_of_weights_and_loss(unit, strength):
    usual, other = (
        central_flow(*product(c, s), np.array([0.5, 1.9]) * c, 0.517 / (c * c * s), steps=10, directions=2)
        for c, s in ((1.0, 1.0), (unit, strength))
    )
    assert usual.variance.max() > 0
    np.testing.assert_allclose(other.weights / unit, usual.weights, rtol=1e-12)
    np.testing.assert_allclose(other.variance / unit**2, usual.variance, rtol=1e-9, atol=1e-12)


@settings(max_examples=5)
@given(units, units)
def test_flows_are_the_same_in_any_unit_of_weights_and_loss(unit, strength):
    def run(c, s):
        _, gradient, hessian = product(c, s)
        start, time = np.array([0.5, 1.9]) * c, 2 / (c * c * s)
        return (
            gradient_flow(gradient, start, time) / c,
            modified_flow(gradient, hessian, start, 0.1 / (c * c * s), time) / c,
            gradient_flow(lambda w: gradient(w + np.array([c, 2 * c])), [0.0, 0.0], time) / c,
        )

    for one, other in zip(run(1.0, 1.0), run(unit, strength), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12)


def test_a_flow_at_rest_stays():
    assert gradient_flow(lambda w: 0 * w, [0.0, 0.0], 1.0).tolist() == [0.0, 0.0]


@given(st.floats(-30, 30), st.floats(-30, 30), st.sampled_from([-1.0, 1.0]), st.floats(-8, 8))
def test_a_small_eigenvalue_of_the_quartic_keeps_its_digits(log_x, log_y, sign, log_target):
    """By the determinant over the other eigenvalue, in 80 digits."""
    x, y, target = 10**log_x, sign * 10**log_y, 10**log_target
    made = float(ProductLoss("quartic", target=target).sharpness(x, y))
    with mp.workdps(200):
        a, b, t = mp.mpf(x), mp.mpf(y), mp.mpf(target)
        z = a * b
        bend, slope = 3 * z * z - t * t, z * (z * z - t * t)
        trace, beside = bend * (a * a + b * b), slope + bend * z
        root = mp.sqrt((bend * (b * b - a * a)) ** 2 + 4 * beside**2)
        expected = (trace + root) / 2
        # rounding of z and of what is subtracted from t moves it by no more
        pairs = [(3 * z * z, t * t), (z * z, t * t), (7 * z * z, 3 * t * t)]
        share = sum((more + less) / abs(more - less) for more, less in pairs if more != less)
        assert abs(made - expected) <= 1e-14 * share * abs(expected)
