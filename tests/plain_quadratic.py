"""Mini-batch quadratics written out, without a line of the library: runs, transfer matrices, weights of the centers."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import strategies as st

UPDATES = {
    "plain": {},
    "heavy ball": {"momentum": 0.7},
    "Nesterov": {"momentum": 0.7, "nesterov": True},
}
every_update = pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)


# ---------------------------------------------------------------------------------------------------------------------
# The model, written out


def run(gains, start, centers, momentum=0.0, nesterov=False):
    """e_0..e_T from the definition of each method, for any shape of start and centers[t]."""
    path, velocity, previous = [start], 0 * start, start
    for gain, center in zip(gains, centers, strict=True):
        if nesterov:
            ahead = path[-1] + momentum * (path[-1] - previous)
            new = ahead - gain * (ahead - center)
        else:
            velocity = momentum * velocity + (path[-1] - center)
            new = path[-1] - gain * velocity
        previous = path[-1]
        path.append(new)
    return np.array(path)


def linear_form(gains, **update):
    """Weight of the start and of every center in e_0..e_T, by feeding the recursion unit impulses."""
    steps = len(gains)
    return run(gains, np.float64(1), np.zeros(steps), **update), run(gains, np.zeros(steps), np.eye(steps), **update)


def transfer(gain, momentum, nesterov):
    """Matrix on (e_t, e_{t-1}); the center enters the first entry with weight ``gain``."""
    q = 1 - gain
    top = [(1 + momentum) * q, -momentum * q] if nesterov else [q + momentum, -momentum]
    return [top, [1, 0]]


def stationary_entry(matrix, noise, entry):
    """An entry (0: 11, 1: 12, 2: 22) of the covariance S = M S M' + n n', by linear algebra with 50 digits."""
    (a, b), (c, d) = matrix
    with mpmath.workdps(50):
        map_of_covariance = mpmath.matrix(
            [[a * a, 2 * a * b, b * b], [a * c, a * d + b * c, b * d], [c * c, 2 * c * d, d * d]]
        )
        shock = mpmath.matrix([noise[0] ** 2, noise[0] * noise[1], noise[1] ** 2])
        return mpmath.lu_solve(mpmath.eye(3) - map_of_covariance, shock)[entry]


def stationary_by_algebra(gain, momentum, nesterov):
    with mpmath.workdps(50):
        x, beta = mpmath.mpf(gain), mpmath.mpf(momentum)
        return stationary_entry(transfer(x, beta, nesterov), [x, 0], 0)


def ema_by_algebra(gain, beta):
    with mpmath.workdps(50):
        x, b = mpmath.mpf(gain), mpmath.mpf(beta)
        return stationary_entry([[1 - x, 0], [(1 - b) * (1 - x), b]], [x, (1 - b) * x], 2)


def past(gain, shifts, length=1600):
    """Weights of the last centers in a stationary iterate, ``shifts`` steps before the end of the window."""
    age = length - 1 - shifts - np.arange(length)
    return np.where(age >= 0, gain * (1 - gain) ** np.maximum(age, 0), 0.0)


def risks(curvature, variance, start, learning_rate, steps, multiplicity=1.0):
    """R(0..steps) at a constant learning rate, step by step."""
    gain, second = learning_rate * curvature, start**2
    curve = [0.5 * np.sum(multiplicity * curvature * second)]
    for _ in range(steps):
        second = (1 - gain) ** 2 * second + gain**2 * variance
        curve.append(0.5 * np.sum(multiplicity * curvature * second))
    return np.array(curve)


def close(made, expected, relative=1e-9):
    return abs(made - expected) <= relative * abs(expected)


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn

seeds = st.integers(0, 2**32 - 1)
stable_gains = st.floats(-8, math.log10(1.999)).map(lambda power: 10**power)
middle_gains = st.floats(0.03, 1.9)
decays = st.one_of(st.just(0.0), st.floats(-6, 0).map(lambda power: 1 - 10**power))
horizons = st.floats(0, 4).map(lambda power: round(10**power))
lags = st.integers(0, 40)
flags = st.booleans()
below_edge = st.floats(-8, -5e-4).map(lambda power: 10**power)  # as a fraction of the stability edge


def edge_of(momentum, nesterov):
    return 2 * (1 + momentum) / (1 + 2 * momentum) if nesterov else 2 * (1 + momentum)


def random_model(seed, modes=None):
    generator = np.random.default_rng(seed)
    modes = modes or int(generator.integers(1, 6))
    curvature, variance = 10 ** generator.uniform(-3, 0, (2, modes))
    start = generator.normal(size=modes) * (generator.random(modes) < 0.7)
    return generator, curvature, variance, start
