"""Warm-up of the uv network: runs with rising rates against weights, and what they foretell."""

import math

import numpy as np
import pytest
import sympy
from scipy.integrate import quad
from scipy.optimize import brentq

from sgdynamics.simulate import trainer
from sgdynamics.simulate.uv import persistent_catapults, scheduled_trajectory, trajectory
from sgdynamics.theory.uv import (
    c_loss_at,
    catapult_count,
    catapult_final_ntk,
    critical_learning_rate,
    delayed_escape,
    largest_learning_rate,
    two_cycle,
    warm_up_reach,
)


def test_a_schedule_is_gradient_descent_on_the_weights():
    random = np.random.default_rng(0)
    hidden, readout = random.normal(size=(2, 6))
    rates = np.concatenate([np.linspace(0, 0.5, 30), np.full(20, 0.4)])
    target, kappa = 1.5, 0.3
    output, ntk = [], []
    for rate in [*rates, 0.0]:
        output.append(math.sqrt(kappa) * hidden @ readout)
        ntk.append(kappa * (hidden @ hidden + readout @ readout))
        slope = rate * (output[-1] - target) * math.sqrt(kappa)
        hidden, readout = hidden - slope * readout, readout - slope * hidden
    run = scheduled_trajectory(output[0], ntk[0], rates, kappa=kappa, target=target)
    np.testing.assert_allclose(run.output, output, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(run.ntk, ntk, rtol=1e-11)
    np.testing.assert_allclose(run.loss, (np.array(output) - target) ** 2 / 2, rtol=1e-9, atol=1e-13)
    np.testing.assert_array_equal(run.learning_rate[:-1], rates)


def test_a_constant_schedule_is_a_trajectory_and_divergence_is_a_result():
    for rate in (0.7, 1.9, 2.5):
        given = {"kappa": 0.1, "target": 0.5}
        run = scheduled_trajectory(0.3, 1.5, np.full(60, rate), **given)
        path = trajectory(0.3, 1.5, rate, steps=60, **given)
        for name in ("output", "ntk", "sharpness", "loss"):
            np.testing.assert_allclose(run[name], path[name], rtol=1e-9, atol=1e-12)
    gone = scheduled_trajectory(0.3, 1.5, np.full(60, 5.0), kappa=0.1)
    first = int(gone.divergence_step)
    assert 0 < first < 60
    assert np.isinf(gone.ntk[first:]).all()
    assert np.isfinite(gone.ntk[:first]).all()


def test_the_delayed_escape_undoes_what_the_warm_up_had_shrunk():
    u, g = sympy.symbols("u G", positive=True)
    above = (u - 1) * sympy.log(u - 1) - u  # the integral of ln(u - 1)
    assert sympy.simplify(sympy.diff(above, u) - sympy.log(u - 1)) == 0
    root = 1 + sympy.exp(1 + sympy.LambertW(g / sympy.E))
    residual = (above - (g - 1)).subs(u, root)
    for value in (0.9, 0.3, 0.05):
        assert abs(residual.subs(g, value).evalf(30)) < 1e-25
    for start in (0.0, 0.5, 0.95, 1.0, 1.3, 1.99):
        end = delayed_escape(start)
        total = quad(lambda v: math.log(abs(1 - v)), start, end, points=[1.0, 2.0], limit=200)[0]
        assert total == pytest.approx(0, abs=1e-7)
        assert end > 2
    assert delayed_escape(0.0) == pytest.approx(4.59112, abs=1e-5)
    assert delayed_escape(1.999) - 2 == pytest.approx(1e-3, rel=1e-2)  # close to the edge by as much as it was short


def regrown(start, steps_per_unit):
    """Gain at which the residual of a linear problem is again what it was, under a slow linear warm-up."""
    gains = start + np.arange(1, 5 * steps_per_unit) / steps_per_unit
    logs = np.cumsum(np.log(np.abs(1 - gains - 1e-9)))
    beyond = (gains > 2) & (logs > 0)
    return gains[np.argmax(beyond)]


def test_the_slower_the_warm_up_the_nearer_its_delay_to_the_law():
    for start in (0.0, 0.7, 1.5):
        errors = [abs(regrown(start, n) - delayed_escape(start)) for n in (50, 500, 5000)]
        assert errors[2] < errors[1] < errors[0]
        assert errors[2] < 0.01


def test_a_slow_warm_up_of_a_wide_network_diverges_if_it_began_too_low_and_noise_would_have_saved_it():
    survivable = brentq(lambda start: delayed_escape(start) - 4, 0.5, 0.99)
    assert survivable == pytest.approx(0.914, abs=1e-3)
    kappa, ntk = 1e-6, 1.0
    for start, gone in ((survivable - 0.1, True), (survivable + 0.15, False)):
        rates = np.linspace(start, 4.2, round(400 * (4.2 - start)))
        rates = rates[rates <= delayed_escape(start) + 0.05]
        held = np.append(rates, np.full(400, rates[-1]))
        run = scheduled_trajectory(1e-3, ntk, held, kappa=kappa)
        assert (run.divergence_step >= 0) == gone
    # the same warm-up from 0, with a little noise in the weights: the kernel is caught at its edge
    random, root = np.random.default_rng(1), math.sqrt(kappa)
    plus, minus = 1.0, 1.0
    for rate in np.linspace(0, 6, 4000):
        s = rate * root * (plus**2 - minus**2) / (4 * root)
        plus, minus = (1 - s) * plus + 1e-3 * random.normal(), (1 + s) * minus + 1e-3 * random.normal()
        assert plus**2 + minus**2 < 10
    assert 6 * (plus**2 + minus**2) / 2 < 2.5


@pytest.mark.parametrize("strength", [2.1, 2.2, 2.4])
def test_catapults_one_after_the_other_raise_the_rate_by_the_same_factor(strength):
    run = persistent_catapults(1e-3, 2.0, kappa=1e-5, strength=strength, peak=20.0, steps=9000)
    assert run.divergence_step < 0
    raises = np.unique(run.learning_rate.values)
    factors = raises[1:-1] / raises[:-2]
    assert factors == pytest.approx(strength / catapult_final_ntk(strength, 1e-4), rel=3e-3)
    foretold = catapult_count(raises[-2] / raises[0], strength)
    assert foretold == pytest.approx(raises.size - 2, rel=0.01)
    assert run.loss[-1] < 1e-12
    # at once it would have diverged
    assert trajectory(1e-3, 2.0, 20.0, kappa=1e-5, steps=200).divergence_step > 0


def test_the_count_of_catapults_is_off_by_the_fourth_order_and_ends_where_widths_begin_to_matter():
    errors = []
    for excess in (0.1, 0.05):
        exact = math.log(10) / math.log((2 + excess) / catapult_final_ntk(2 + excess, 1e-7))
        errors.append(abs(catapult_count(10.0, 2 + excess) / exact - 1) * excess)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)
    assert catapult_count(1.0, 2.5) == 0
    with pytest.raises(ValueError, match=r"catapult_count: c must be a number in \(2, 2.7\]"):
        catapult_count(10.0, 3.0)


@pytest.mark.parametrize(("kappa", "target", "output"), [(0.01, 2.0, 0.5), (0.001, -1.0, 0.3), (0.1, 1.0, 0.0)])
def test_catapult_by_catapult_a_run_settles_up_to_the_critical_rate(kappa, target, output):
    critical = critical_learning_rate(kappa, target)
    reach = warm_up_reach(output, 2.0, kappa, target)
    assert reach == pytest.approx(critical / largest_learning_rate(output, 2.0, kappa, target), rel=1e-12)
    assert reach > 1
    options = {"kappa": kappa, "target": target, "strength": 2.3, "steps": 8000}
    settled = persistent_catapults(output, 2.0, peak=0.97 * critical, **options)
    assert settled.learning_rate[-1] == pytest.approx(0.97 * critical)
    assert settled.loss[-1] < 1e-20
    restless = persistent_catapults(output, 2.0, peak=1.02 * critical, **options)
    assert restless.learning_rate[-1] == pytest.approx(1.02 * critical)
    scaled = np.sort(1.02 * critical * math.sqrt(kappa) * np.abs(restless.output[-2:]))
    np.testing.assert_allclose(scaled, two_cycle(1.02), rtol=1e-6)
    assert trajectory(output, 2.0, 0.97 * critical, kappa=kappa, target=target, steps=500).divergence_step > 0


def test_the_reach_of_warm_up_at_infinity_and_where_it_buys_nothing():
    assert warm_up_reach(0.1, 2.0, 0.01, 0.0) == math.inf
    widths = np.array([100.0, 400.0])
    assert np.divide(*warm_up_reach(0.0, 2.0, 1 / widths, 0.5)[::-1]) == pytest.approx(2, rel=1e-2)
    assert warm_up_reach(2.0, 4.0, 1.0, 2.0) < 1  # a balanced start: it survives beyond where minima are stable


def test_doubling_finds_the_rate_to_start_from():
    # the loss alone, of a network of two layers, against the closed form of the first rise
    net = trainer.network([1, 12, 1], "linear", biases=False, seed=2)
    x, y = 0.7, 1.3
    first, second = (weights.ravel() for weights in net.weights)
    output, ntk = x * first @ second, x**2 * (first @ first + second @ second)
    slope = trainer.gradient(net, [[x]], [y], "mse")
    found = trainer.critical_rate(
        trainer.Objective(net, [[x]], [y], "mse"), direction=slope, learning_rate=1e-4, accuracy=0.05
    )
    exact = c_loss_at(output, ntk, x**2, y) / ntk
    assert found.critical_rate.item() == pytest.approx(exact, rel=0.05)
    assert found.evaluations == pytest.approx(math.log2(exact / 1e-4) + 5, abs=2)  # doublings, and a few bisections


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: scheduled_trajectory(0.1, 1.0, [[0.1]], kappa=1.0), "schedule"),
        (lambda: scheduled_trajectory(0.1, 1.0, [-0.1], kappa=1.0), "schedule"),
        (lambda: scheduled_trajectory([0.1], 1.0, [0.1], kappa=1.0), "output"),
        (lambda: scheduled_trajectory(1.0, 0.1, [0.1], kappa=1.0), "ntk"),
        (lambda: persistent_catapults(0.1, 1.0, kappa=1.0, strength=4.0, peak=1.0, steps=1), "strength"),
        (lambda: persistent_catapults(0.1, 1.0, kappa=1.0, strength=3.0, peak=0.0, steps=1), "peak"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"\w+: {name} must be "):
        call()
