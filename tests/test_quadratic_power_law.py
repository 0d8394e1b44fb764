"""Power-law spectra: bias, optimal rate and crossover, against sums and integrals."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import close
from scipy.optimize import minimize_scalar
from scipy.special import zeta

from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.theory.quadratic import (
    moments,
    power_law_bias,
    power_law_crossover_steps,
    power_law_optimal_rate,
)


def power_law_sum(steps, learning_rate, a, b, modes):
    """Half the sum over i of i^-b (1 - eta i^-a)^{2t}, to infinity: the rest by its first two terms in 1/i."""
    i = np.arange(1.0, modes + 1)
    head = (i**-b * np.exp(2 * steps * np.log1p(-learning_rate * i**-a))).sum()
    return 0.5 * head, 0.5 * (zeta(b, modes + 1) - 2 * steps * learning_rate * zeta(a + b, modes + 1))


def test_the_power_law_of_the_bias():
    assert abs(power_law_sum(3000, 0.5, 1.5, 2.0, 10**6)[0] - 2.169272e-3) < 5e-10
    assert abs(power_law_bias(1500.0, 1.5, 2.0) - 2.169973e-3) < 5e-10
    model = MiniBatchQuadratic.power_law(10**6, 1.5, 2.0)
    assert abs(moments(model, constant(0.5, 3000)).excess_risk.item() - 2.169272e-3) < 5e-10


@pytest.mark.parametrize(("a", "b"), [(1.5, 2.0), (1.0, 1.7), (2.0, 3.5)])
def test_the_bias_approaches_its_power_law_like_one_over_steps(a, b):
    steps = np.array([200, 400, 800, 1600])
    exact = np.array([sum(power_law_sum(t, 0.5, a, b, 10**6)) for t in steps])
    gap = np.abs(exact / power_law_bias(0.5 * steps, a, b) - 1)
    assert gap[-1] < 2e-3
    np.testing.assert_allclose(gap[:-1] / gap[1:], 2, rtol=0.05)


curvature_exponents, source_exponents = st.floats(0.6, 3), st.floats(1.2, 4)
powers_of_ten = st.floats(-3, 3).map(lambda power: 10**power)


@given(curvature_exponents, source_exponents, powers_of_ten)
def test_the_power_law_is_the_integral_over_the_spectrum(a, b, time):
    k = (b - 1) / a
    # with v = (2 tau u)^kappa the integrand has no singularity left
    integral = mpmath.quad(lambda v: mpmath.exp(-(v ** (1 / k))), [0, 1, 2**k, 5**k, 20**k, 60**k]) / k
    assert close(power_law_bias(time, a, b), integral / (2 * a) * (2 * time) ** -k, 1e-6)


@given(curvature_exponents, source_exponents, st.floats(2, 6).map(lambda power: 10**power), powers_of_ten)
def test_the_optimal_rate_balances_bias_and_noise(a, b, steps, noise):
    k = (b - 1) / a
    best = power_law_optimal_rate(steps, a, b, noise)

    def risk(log_rate):
        return math.gamma(k) / (2 * a) * (2 * math.exp(log_rate) * steps) ** -k + noise * math.exp(log_rate)

    found = minimize_scalar(risk, bracket=(math.log(best) - 1.3, math.log(best) + 0.9), tol=1e-10)
    assert abs(found.x - math.log(best)) < 1e-5


def test_the_optimal_rate_of_a_real_spectrum_approaches_the_law():
    """Off by the order of the rate itself: the plateau is x/(2-x), not x/2."""
    a, b, noise_variance = 1.5, 2.0, 1.0
    h = np.arange(1, 20001.0) ** -a
    noise = (h**2).sum() * noise_variance / 4
    gaps, rates = [], []
    for steps in (10**4, 10**5, 10**6):

        def risk(log_rate, steps=steps):
            gain = math.exp(log_rate) * h
            left = np.exp(2 * steps * np.log1p(-gain))
            start = h ** (b / a - 1)
            return 0.5 * (h * (start * left + noise_variance * gain / (2 - gain) * (1 - left))).sum()

        law = power_law_optimal_rate(steps, a, b, noise)
        found = minimize_scalar(risk, bracket=(math.log(law) - 0.5, math.log(law) + 0.4), tol=1e-9)
        gaps.append(abs(found.x - math.log(law)))
        rates.append(law)
    assert gaps[-1] < 0.01
    order = np.diff(np.log(gaps)) / np.diff(np.log(rates))
    np.testing.assert_allclose(order, 1, atol=0.15)


@given(curvature_exponents, source_exponents, powers_of_ten, powers_of_ten)
def test_at_the_crossover_bias_and_noise_are_equal(a, b, learning_rate, noise):
    steps = power_law_crossover_steps(learning_rate, a, b, noise)
    k = (b - 1) / a
    bias = math.gamma(k) / (2 * a) * (2 * learning_rate * steps) ** -k
    assert close(bias, noise * learning_rate, 1e-9)
