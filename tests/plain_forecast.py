"""The law of a loss curve, run step by step, and runs made of it."""

import numpy as np
from scipy.special import gamma

from sgdynamics.models.schedules import constant, cosine

WARMUP = np.arange(1, 101) / 100
STEPS = 4000
RECORD = np.arange(100, STEPS + 1, 40)
PLATEAU = np.r_[WARMUP, constant(1.0, STEPS - 100)]
DECAYED = np.r_[WARMUP, cosine(1.0, STEPS - 100, final=0.1)]
TRUE = {"floor": 2.0, "start": 20.0, "noise": 0.004, "exponent": 0.5, "cutoff": 0.1, "noise_exponent": 1.1,
        "following": 0.3, "early": 0.3}  # fmt: skip


def law(schedule, record, floor, start, noise, exponent, cutoff, noise_exponent, following, early):
    """The law step by step, on a fine grid of curvatures; the reference is the end of the plateau."""
    reference = PLATEAU.sum()
    height = np.arange(np.log(1e-9), np.log(40 * cutoff), 0.15)
    curvature = np.exp(height)
    weight = 0.15 * (curvature / cutoff) ** noise_exponent * np.exp(-curvature / cutoff) / gamma(noise_exponent)
    total, variance, found = 0.0, np.zeros_like(curvature), {0: floor + start}
    for step, rate in enumerate(schedule, 1):
        middle = total + rate / 2
        total += rate
        fading = ((1 + 2 * cutoff * reference) / (1 + 2 * cutoff * middle)) ** exponent
        brought = rate ** (2 - following) * (1 - early + early * fading)
        variance = np.maximum(1 - rate * curvature, 0) ** 2 * variance + brought
        found[step] = floor + start * (1 + 2 * cutoff * total) ** -exponent + noise * weight @ variance
    return np.array([found[step] for step in record])


def runs(errors, seed, **changed):
    """A plateau and a cosine, with independent relative errors."""
    random = np.random.default_rng(seed)
    return [
        (rates, RECORD, law(rates, RECORD, **TRUE | changed) * np.exp(errors * random.normal(size=RECORD.size)))
        for rates in (PLATEAU, DECAYED)
    ]
