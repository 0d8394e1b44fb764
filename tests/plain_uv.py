"""Two linear layers and one example, written out on their weights."""

import itertools

import numpy as np


def gradient_descent(hidden_weights, readout, x, target, rate, scale):
    """One step on U (n, d) and v (n,)."""
    output = scale * readout @ hidden_weights @ x
    slope = rate * (output - target) * scale
    return hidden_weights - slope * np.outer(readout, x), readout - slope * hidden_weights @ x


def observed(hidden_weights, readout, x, scale):
    """Output and squared gradient norm of the output."""
    hidden = hidden_weights @ x
    return scale * readout @ hidden, scale**2 * (hidden @ hidden + readout @ readout * (x @ x))


def dense_hessian(hidden_weights, readout, x, target, scale):
    """Second derivatives of (f - y)^2/2 in (U, v)."""
    width, inputs = hidden_weights.shape
    gradient = scale * np.concatenate([np.outer(readout, x).ravel(), hidden_weights @ x])
    second = np.zeros((gradient.size, gradient.size))
    for i, j in itertools.product(range(width), range(inputs)):
        second[i * inputs + j, width * inputs + i] = scale * x[j]
    output = scale * readout @ hidden_weights @ x
    return np.outer(gradient, gradient) + (output - target) * (second + second.T)
