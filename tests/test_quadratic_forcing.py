"""Loss curves as forcing and memory, against double sums; the best schedules of power laws, by direct optimisation."""

import math

import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from sgdynamics.models.quadratic import GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.schedules import constant, linear
from sgdynamics.simulate.quadratic import ensemble
from sgdynamics.theory.quadratic import (
    best_decay_exponent,
    best_schedule_peak,
    best_schedule_risk,
    forcing_and_memory,
    memory_kernel,
    moments,
    optimal_schedule,
    power_law_bias,
    stationary,
)


def double_sum(h, start, label_noise, draws, schedule):
    """Risks R_0..R_T from the equation of forcing and memory, the memory of every step summed anew."""
    rho = [(1 - rate * h) ** 2 + (rate * h) ** 2 / draws for rate in schedule]
    risks = []
    for t in range(len(schedule) + 1):
        total = 0.5 * np.sum(h * start**2 * np.prod(rho[:t], axis=0))
        for s in range(t):
            kept = np.prod(rho[s + 1 : t], axis=0)
            total += schedule[s] ** 2 / draws * (2 * risks[s] + label_noise) * 0.5 * np.sum(h**2 * kept)
        risks.append(total)
    return np.array(risks)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_the_exact_law_is_the_double_sum(seed, draws):
    rng = np.random.default_rng(seed)
    h, start = rng.uniform(0.05, 1, 4), rng.normal(size=4)
    schedule = rng.uniform(0, 0.5, 12)
    model = GaussianLeastSquares(h, 0.7, displacement=start, batch_size=draws)
    law = forcing_and_memory(model, schedule, record=np.arange(13))
    np.testing.assert_allclose(law.excess_risk, double_sum(h, start, 0.7, draws, schedule), rtol=1e-10)
    np.testing.assert_allclose(law.forcing + law.memory, law.excess_risk, rtol=1e-12)
    # and it is what the moments of the model say, by matrices
    known = moments(model, schedule, record=np.arange(13)).excess_risk
    np.testing.assert_allclose(law.excess_risk, known, rtol=1e-9)


def test_simulated_runs_follow_it():
    model = GaussianLeastSquares([1.0, 0.5, 0.1], 0.5, displacement=1.0, batch_size=2)
    schedule = linear(0.4, 60)
    run = ensemble(model, schedule, replicas=40_000, seed=1)
    risks = 0.5 * (np.array([1.0, 0.5, 0.1]) * run.error.values.reshape(-1, 3) ** 2).sum(axis=1)
    predicted = forcing_and_memory(model, schedule).excess_risk.item()
    assert abs(risks.mean() - predicted) < 4 * risks.std() / math.sqrt(risks.size)


def test_continuous_time_is_off_by_a_share_of_the_gain_and_first_order_by_more():
    off = []
    for rate in (0.2, 0.1, 0.05):
        model = GaussianLeastSquares([1.0, 0.5], 1.0, displacement=1.0, batch_size=4)
        law = forcing_and_memory(model, constant(rate, round(40 / rate)))
        off.append([law[name].item() / law.excess_risk.item() - 1 for name in ("continuous_risk", "first_order_risk")])
    continuous, first = np.abs(np.array(off)).T
    np.testing.assert_allclose(continuous[1:] / continuous[:-1], 0.5, rtol=0.15)
    assert continuous[0] < 0.15
    assert np.all(first > continuous)


def test_at_rest_first_order_is_off_by_the_trace_however_slow_time_runs():
    h, draws = np.full(50, 0.02), 1
    rate = 0.9  # times the trace, 1: gains are small, their sum is not
    model = GaussianLeastSquares(h, 1.0, batch_size=draws)
    law = forcing_and_memory(model, constant(rate, 3000))
    assert law.first_order_risk.item() / law.continuous_risk.item() == pytest.approx(1 - rate / (2 * draws), rel=1e-3)
    assert law.continuous_risk.item() == pytest.approx(stationary(model, rate).excess_risk.item(), rel=0.05)
    assert law.first_order_risk.item() < 0.6 * law.excess_risk.item()


def test_records_sweeps_and_divergence():
    model = GaussianLeastSquares([1.0, 0.5], 0.1, displacement=1.0)
    swept = xr.DataArray([[0.1] * 5, [0.2] * 5], dims=["rate", "step"])
    law = forcing_and_memory(model, swept, record=[0, 5])
    assert law.excess_risk.dims == ("rate", "step")
    assert law.excess_risk.values[1, 1] == forcing_and_memory(model, [0.2] * 5).excess_risk.item()
    assert forcing_and_memory(model, constant(10.0, 2000)).excess_risk.item() == math.inf
    with pytest.raises(ValueError, match=r"forcing_and_memory: record must hold steps in 0\.\.2, got 3"):
        forcing_and_memory(model, [0.1, 0.1], record=[3])


# ---------------------------------------------------------------------------------------------------------------------
# Power laws


@pytest.mark.parametrize("exponent", [1.25, 1.5, 3.0])
def test_the_kernel_is_the_limit_of_its_sum(exponent):
    h = np.arange(1, 10**6 + 1) ** -exponent
    errors = [
        abs(0.5 * np.sum(h**2 * np.exp(-2 * h * time)) / memory_kernel(time, exponent) - 1) for time in (5.0, 5000.0)
    ]
    assert errors[1] < 2e-3
    assert errors[1] < errors[0]


def test_the_best_decay_from_the_calculus_of_variations():
    u, v, a, multiplier = sympy.symbols("u v a lambda", positive=True)
    rate = sympy.Symbol("eta", positive=True)
    kernel = u ** (1 / a - 2)
    (best,) = sympy.solve(sympy.diff(kernel * rate + multiplier / rate, rate), rate)
    left = sympy.integrate(sympy.powsimp(1 / (best / sympy.sqrt(multiplier)).subs(u, v)), (v, 0, u), conds="none")
    # steps left go like a power of the time left, and the rate like a power of the steps left
    time_power = sympy.simplify(u * sympy.diff(sympy.log(u ** (1 / (2 * a))), u))
    rate_power = sympy.simplify(u * sympy.diff(sympy.log(best), u))
    numeric = {a: sympy.Rational(3, 2), u: 2}
    assert (
        left.subs(a, sympy.Rational(3, 2)).doit().subs(u, 2) / left.subs(a, sympy.Rational(3, 2)).doit().subs(u, 1)
        - 2 ** time_power.subs(numeric)
    ).simplify() == 0
    assert sympy.simplify(rate_power / time_power - best_decay_exponent(a)) == 0


@given(st.floats(1.05, 3.0), st.floats(1.1, 5.0), st.floats(-3, 1), st.floats(1, 6))
def test_the_best_risk_is_the_least_of_both_terms(a, b, log_noise, log_steps):
    noise, steps = 10**log_noise, 10**log_steps

    def total(log_flow):
        flow = math.exp(log_flow)
        # noise of the best decay, by the inequality of Cauchy and Schwarz: (integral of sqrt K)^2 / T
        root = 2 * a * flow * math.sqrt(memory_kernel(flow, a))
        return power_law_bias(flow, a, b) + noise / steps * root**2

    found = minimize_scalar(total, bracket=(0.0, 5.0), tol=1e-12)
    assert best_schedule_risk(steps, a, b, noise) == pytest.approx(found.fun, rel=1e-8)
    assert best_schedule_peak(steps, a, b, noise) == pytest.approx(2 * a * math.exp(found.x) / steps, rel=1e-3)


def power_law(a, b, noise, modes):
    index = np.arange(1, modes + 1.0)
    return MiniBatchQuadratic(index**-a, noise * index**a, displacement=index ** ((a - b) / 2))


def rate_times_root_of_memory(model, schedule):
    """Along a schedule, with the exact kernel of the spectrum."""
    left = np.append(np.cumsum(schedule[::-1])[::-1][1:], 0.0)
    h = np.asarray(model.curvature)
    noise = 0.5 * (h**3 * np.asarray(model.batch_center_variance))
    return schedule * np.sqrt([np.sum(noise * np.exp(-2 * h * time)) for time in left])


def test_easy_tasks_want_a_power_from_the_start():
    a, b, noise, steps = 1.5, 2.5, 0.1, 400
    model = power_law(a, b, noise, 200)
    best = optimal_schedule(model, steps)
    kept = rate_times_root_of_memory(model, best)
    assert np.ptp(kept[:-1]) / kept.mean() < 0.02  # one number along the whole run
    assert best[0] == best.max() == pytest.approx(best_schedule_peak(steps, a, b, noise), rel=0.15)
    risk = moments(model, best).excess_risk.item()
    assert risk == pytest.approx(best_schedule_risk(steps, a, b, noise), rel=0.25)
    # the exponent in steps comes slowly: the kernel is finite at the end
    late, early = (np.log(best[-left] / best[-2 * left]) / np.log(0.5) for left in (20, 200))
    assert late < early < best_decay_exponent(a)


def test_hard_tasks_want_a_plateau_and_the_same_decay():
    model = power_law(1.5, 1.2, 1.0, 200)
    best = optimal_schedule(model, 400, largest=1.0)
    at_limit = best > 0.999
    assert at_limit[: at_limit.sum()].all()  # first the limit, then below it
    assert 100 < at_limit.sum() < 400
    kept = rate_times_root_of_memory(model, best)[~at_limit][1:-1]
    assert np.ptp(kept) / kept.mean() < 0.03


def test_without_a_limit_hard_tasks_want_no_plateau_at_all():
    # additive noise does not punish what overshoots: single steps far beyond the edge 2
    model = power_law(1.5, 1.1, 1e-3, 60)
    assert optimal_schedule(model, 40).max() > 20


def test_other_noise_has_another_exponent():
    # noise of one variance in all directions: the kernel falls like 3 - 1/a, the power is no longer 2 a - 1
    index = np.arange(1, 201.0)
    model = MiniBatchQuadratic(index**-1.5, 0.1, displacement=index**-0.5)
    best = optimal_schedule(model, 400, largest=0.3)
    below = best < 0.299
    kept = rate_times_root_of_memory(model, best)[below][1:-1]
    assert np.ptp(kept) / kept.mean() < 0.03  # the rule of the kernel holds all the same
    first = np.argmax(below)
    assert np.log(best[first] / best[(first + 400) // 2]) / np.log(2) > 1.1 * best_decay_exponent(1.5)


def test_a_limit_of_the_rate_is_kept_and_the_best_one_is_found():
    model = MiniBatchQuadratic([1.0, 0.2], 0.05, displacement=[1.0, 2.0])
    limited = optimal_schedule(model, 6, largest=0.7)
    assert limited.max() == 0.7
    free = optimal_schedule(model, 6)
    np.testing.assert_allclose(optimal_schedule(model, 6, largest=10.0), free, rtol=1e-6)

    def risk(schedule):
        return moments(model, schedule).excess_risk.item()

    searches = [minimize(risk, np.full(6, start), bounds=[(0, 0.7)] * 6, tol=1e-14).fun for start in (0.05, 0.3, 0.7)]
    assert risk(limited) <= min(searches) * (1 + 1e-6)
    assert risk(free) < risk(limited)
