"""What formulas that no symbolic expression gives are by definition, in mpmath, in the digits of the caller.

``VALUES`` has the value, a function of the numeric arguments by position and of the others by name. ``DISTRIBUTIONS``
has what a quantile inverts: the function of the value, and of the arguments but the probability.
``LEFT_TO_THEIR_ROWS`` says why the others have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

Number = Any
WIDE = mp.mpf(10) ** 20  # from there on two terms of the expansion in 1/width have 60 digits


def integral(
    log_of: Callable[[Number], Number], start: Number, end: Number, largest: Number = 1, weight: Any = lambda at: 1
) -> Number:
    """Of the exponential of a concave function, of terms up to a size, that falls from start to end, times a weight."""
    with mp.workdps(50 + int(mp.log10(1 + largest))):
        return _integral(log_of, start, end, weight)


def _integral(log_of: Callable[[Number], Number], start: Number, end: Number, weight: Any) -> Number:
    start = +start  # in the digits of this place: else it differs from itself plus nothing, and no step is small enough
    way = mp.sign(end - start)

    def falls(by: Number) -> Number:
        return log_of(start) - log_of(start + way * by)

    distance = abs(end - start)
    width = min(mp.mpf(1), distance)
    while width < distance and falls(width) < 1:
        width = min(2 * width, distance)
    while falls(width) > 2:  # infinite at the end of a range
        width /= 2
    steps = [mp.mpf(2) ** power for power in range(-1, 8)]
    places = [0, *(step for step in steps if step * width < distance), min(steps[-1], distance / width)]
    digits, top = mp.mp.dps, log_of(start)

    def density(step: Number) -> Number:
        with mp.workdps(digits):
            at = start + way * step * width
            return weight(at) * mp.exp(log_of(at) - top)

    with mp.workdps(30):
        total = mp.quad(density, places)
    return total * width * mp.exp(top)


def power(base: Number, exponent: Number) -> Number:
    """A power to an exponent of any size, a whole one maybe, by one logarithm in so many more digits."""
    if not (isinstance(base, mp.mpf) and abs(exponent) > 10**30 and base > 0):
        return base**exponent
    with mp.workdps(mp.mp.dps + int(mp.log10(abs(exponent))) + 5):
        return mp.exp(exponent * mp.log(base))


def log_gamma(value: Number) -> Number:
    """In as many digits as are left of what it is compared with."""
    with mp.workdps(60 + int(mp.log10(value + 1))):
        return mp.loggamma(value)


# ---------------------------------------------------------------------------------------------------------------------
# The start of the uv network


def alignment_beyond(size: Number, width: Number) -> Number:
    """Probability of an alignment above a size >= 0: its square is Beta(1/2, n/2)."""
    if width < 10**4:
        return mp.betainc(width / 2, 0.5, 0, 1 - size**2, regularized=True) / 2
    scale = log_gamma((width + 1) / 2) - log_gamma(width / 2) - mp.log(mp.pi) / 2
    if width > WIDE:
        scale = mp.log(width / (2 * mp.pi)) / 2 - 1 / (4 * width)

    def log_density(at: Number) -> Number:
        return scale + (width / 2 - 1) * mp.log1p(-(at**2)) if at < 1 else -mp.inf

    return integral(log_density, size, mp.mpf(1), width) if size < 1 else mp.mpf(0)


def alignment_distribution(value: Number, width: Number) -> Number:
    beyond = alignment_beyond(min(abs(value), 1), width)
    return beyond if value < 0 else 1 - beyond


def ntk_distribution(value: Number, width: Number) -> Number:
    """Of a sum of 2n squares of normals, over 2n."""

    scale = mp.log(width / (2 * mp.pi)) / 2 - 1 / (12 * width)
    if width <= WIDE:
        scale = width * mp.log(width) - width - log_gamma(width)

    def log_density(at: Number) -> Number:
        if at == 0:
            return -mp.inf if width > 1 else mp.mpf(0)
        return scale - mp.log(at) + width * (mp.log(at) - at + 1)

    if value <= 0:
        return mp.mpf(0)
    if value * width < width - 1:
        return integral(log_density, value, mp.mpf(0), width)
    return 1 - integral(log_density, value, mp.inf, width)


def ratio_above(ratio: Number, width: Number) -> Number:
    """P(rho > ratio) of the start ratio, a quarter of the square of the alignment."""
    return 2 * alignment_beyond(mp.sqrt(min(max(4 * ratio, 0), 1)), width)


def first_rise_probability(c: Number, width: Number, units: str) -> Number:
    """The loss rises where 1 - c + c^2 rho is beyond 1 in size, with the rate in units of the kernel."""
    if units == "ntk":
        low, high = (c - 2) / c**2, 1 / c
    else:  # c h(rho) is the rate; both ends where it makes the factor -1 or 1: h = (c^2 + 3c)/(c^2 + 6), h = 1 + 3/c
        h = (c**2 + 3 * c) / (c**2 + 6)
        low, high = h * (h - 1) / 3, (1 + 3 / c) / c
    return 1 - ratio_above(low, width) + ratio_above(high, width)


def mean_over_starts(value: Callable[[Number], Number], largest: Number, width: Number) -> Number:
    """Mean of a function of the alignment sin(angle), up to a largest angle."""

    def log_density(angle: Number) -> Number:
        return (width - 1) * mp.log1p(-(mp.sin(angle) ** 2)) / 2 if width > 1 else mp.mpf(0)

    def weight(angle: Number) -> Number:
        return value(mp.sin(angle) ** 2)

    return integral(log_density, mp.mpf(0), largest, 1, weight) / integral(log_density, mp.mpf(0), largest)


def sharpness_over_ntk(square: Number, units: str) -> Number:
    return (1 + mp.sqrt(1 + 3 * square)) / 2 if units == "hessian" else mp.mpf(1)


def mean_c_loss(width: Number, units: str) -> Number:
    def c_loss(square: Number) -> Number:
        return 4 * sharpness_over_ntk(square, units) / (1 + mp.sqrt(max(1 - 2 * square, 0)))

    return mean_over_starts(c_loss, mp.pi / 4, width)


def mean_c_max(width: Number, units: str) -> Number:
    return mean_over_starts(lambda square: 4 * sharpness_over_ntk(square, units), mp.pi / 2, width)


def mean_c_sharp(width: Number, units: str) -> Number:
    return mean_over_starts(lambda square: c_sharp(square / 4, units), mp.pi / 2, width)


# ---------------------------------------------------------------------------------------------------------------------
# Points of the uv network


def c_loss_at(output: Number, ntk: Number, kappa: Number, target: Number, units: str) -> Number:
    rho = kappa * output * (output - target) / ntk**2
    if 8 * rho > 1:
        return mp.inf
    root = mp.sqrt(ntk**2 - 4 * kappa * output**2 + 4 * kappa * (2 * output - target) ** 2)
    top = (ntk + root) / 2 if units == "hessian" else ntk
    return 4 / (1 + mp.sqrt(1 - 8 * rho)) * top / ntk


def delayed_escape(start: Number) -> Number:
    """Where the integral of log|1 - u| from the start is 0 again, beyond 2."""

    def primitive(u: Number) -> Number:
        return (u - 1) * mp.log(abs(u - 1)) - u if u != 1 else mp.mpf(-1)

    low, high = mp.mpf(2), mp.mpf(5)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if primitive(middle) < primitive(start) else (low, middle)
    return low


def c_sharp(rho: Number, units: str) -> Number:
    h = (1 + mp.sqrt(1 + 12 * rho)) / 2
    cubic = [3 * rho**2, -6 * rho, 3 * (2 * rho + 1) + h, -6 - 4 * h]
    c = mp.findroot(lambda at: mp.polyval(cubic, at), (2, 5), solver="anderson", verify=False)
    return c * h if units == "hessian" else c


# ---------------------------------------------------------------------------------------------------------------------
# Averages and schedules


def apart(first: Number, second: Number) -> Number:
    """The first number, moved a little where it is the second: for forms that are 0/0 there."""
    return first + mp.mpf(10) ** (-mp.mp.dps // 3) if first == second else first


def contraction_factor(gain: Number, momentum: Number, nesterov: bool) -> Number:
    q = 1 - gain
    trace, determinant = ((1 + momentum) * q, momentum * q) if nesterov else (1 + momentum - gain, momentum)
    root = mp.sqrt(trace**2 - 4 * determinant)
    return max(abs(trace + root), abs(trace - root)) / 2


def ema_start_weight(gain: Number, beta: Number, steps: Number) -> Number:
    a = apart(1 - gain, beta)
    return beta**steps + (1 - beta) * a * (beta**steps - a**steps) / (beta - a)


def ema_schedule_gain(gain: Number, beta: Number, remaining: Number) -> Number:
    """The weight of the step in the average over that of the state before it and of itself."""
    a, power = apart(1 - gain, beta), remaining + 1
    return (1 - beta) * gain * (beta**power - a**power) / (gain * beta**power - (1 - beta) * a**power)


def two_point_schedule_gain(gain: Number, separation: Number, remaining: Number) -> Number:
    left = (1 - gain) ** remaining
    return gain if remaining >= separation else gain * left / (1 + left)


# ---------------------------------------------------------------------------------------------------------------------
# Power laws, minimal models, probabilities


def power_law_relaxation(time: Number, exponent: Number) -> Number:
    if time == 0:
        return mp.mpf(1)
    if exponent < 100:
        return exponent * mp.gammainc(exponent, 0, time) / time**exponent
    mode = max(exponent * mp.log(time / exponent), 0)

    def log_of(s: Number) -> Number:  # a curvature is exp(-s/k)
        return -s - time * mp.exp(-s / exponent)

    largest = max(time, exponent)
    below = integral(log_of, mode, mp.mpf(0), largest) if mode > 0 else 0
    return below + integral(log_of, mode, mp.inf, largest)


def decay_noise_left(gain: Number, steps: Number, exponent: Number) -> Number:
    power, span = exponent / (1 + exponent), 2 * gain * steps / (1 + exponent)
    if span > 10**3:  # the incomplete gamma function lacks e^-1000
        return late_decay_noise_left(gain, steps, exponent, mp.mpf(1))
    return power * mp.gammainc(power, 0, span) / span**power if power else mp.mpf(1)


def late_decay_noise_left(gain: Number, steps: Number, exponent: Number, amplitude: Number) -> Number:
    power, span = exponent / (1 + exponent), 2 * gain * steps / (1 + exponent)
    with mp.workdps(60):
        return amplitude ** (1 / (1 + exponent)) * mp.gamma(1 + power) / span**power


def memory_kernel(time: Number, curvature_exponent: Number) -> Number:
    power = 2 - 1 / curvature_exponent
    return mp.exp(log_gamma(power) - power * mp.log(2 * time)) / (2 * curvature_exponent)


def log_twice_best_flow(steps: Number, curvature_exponent: Number, source_exponent: Number, noise: Number) -> Number:
    """Where what is left of the start and the noise of the best decay add up to the least."""
    a, kappa = curvature_exponent, (source_exponent - 1) / curvature_exponent
    ratio = log_gamma(kappa + 1) + mp.log(steps) - mp.log(a) - mp.log(noise) - log_gamma(2 - 1 / a)
    return ratio / (kappa + 1 / a)


def best_schedule_risk(steps: Number, curvature_exponent: Number, source_exponent: Number, noise: Number) -> Number:
    a, kappa = curvature_exponent, (source_exponent - 1) / curvature_exponent
    flow = log_twice_best_flow(steps, a, source_exponent, noise)
    start = mp.exp(log_gamma(kappa) - kappa * flow) / (2 * a)
    return start + noise / steps * a * mp.exp(log_gamma(2 - 1 / a) + flow / a) / 2


def best_schedule_peak(steps: Number, curvature_exponent: Number, source_exponent: Number, noise: Number) -> Number:
    a = curvature_exponent
    return a * mp.exp(log_twice_best_flow(steps, a, source_exponent, noise)) / steps


def power_law_bias(time: Number, curvature_exponent: Number, source_exponent: Number) -> Number:
    kappa = (source_exponent - 1) / curvature_exponent
    return mp.exp(log_gamma(kappa) - kappa * mp.log(2 * time)) / (2 * curvature_exponent)


def power_law_optimal_rate(steps: Number, curvature_exponent: Number, source_exponent: Number, noise: Number) -> Number:
    kappa = (source_exponent - 1) / curvature_exponent
    balance = log_gamma(kappa + 1) - mp.log(2 * curvature_exponent * noise) - kappa * mp.log(2 * steps)
    return mp.exp(balance / (kappa + 1))


def power_law_crossover_steps(
    learning_rate: Number, curvature_exponent: Number, source_exponent: Number, noise: Number
) -> Number:
    kappa = (source_exponent - 1) / curvature_exponent
    ratio = log_gamma(kappa) - mp.log(2 * curvature_exponent * noise * learning_rate)
    return mp.exp(ratio / kappa) / (2 * learning_rate)


def predicted_final_sharpness(flow_sharpness: Number, learning_rate: Number, target: Number, depth: Number) -> Number:
    flattest = depth * target ** (2 - 2 / depth)
    return mp.inf if learning_rate * flattest >= 2 else min(flow_sharpness, 2 / learning_rate)


def end_excess(start_excess: Number, drift: Number) -> Number:
    if start_excess == 0:  # where the branches of W meet, half of the digits are lost
        return mp.mpf(0)
    g = 1 + 2 * start_excess / drift
    return -drift / 2 * (1 + mp.re(mp.lambertw(-g * mp.exp(-g))))


def p_only_error(cosine: Number, margin: Number) -> Number:
    size, exponent = abs(cosine), -((cosine * margin) ** 2) / 2

    def log_of(angle: Number) -> Number:
        return exponent / mp.sin(angle) ** 2 if angle > 0 or exponent == 0 else -mp.inf

    error = integral(log_of, mp.acos(size), mp.mpf(0)) / mp.pi if size < 1 else mp.mpf(0)
    return 1 - error if cosine < 0 else error


def crossed(limit: int) -> Callable[[Number, Number], Number]:
    def probability(gain: Number, signal: Number) -> Number:
        far = (min(max(bound, -(10**5)), 10**5) for bound in (-signal, -signal * (limit / gain - 1)))
        return mp.fsum(map(mp.ncdf, far))

    return probability


def adam_momentum_gain(relative_rate: Number, momentum: Number) -> Number:
    """The only positive root, in x over the smaller of the rate and the edge of the heavy ball."""
    unit = min(relative_rate, 2 * (1 + momentum) / (1 - momentum))
    square = (relative_rate / unit) ** 2
    cubic = [2 * momentum * unit, 2 * (1 + momentum), square * (1 - momentum) * unit, -2 * square * (1 + momentum)]
    largest = max(map(abs, cubic))
    while abs(cubic[0]) < largest * mp.mpf(10) ** -80:  # a term that no digit sees
        cubic = cubic[1:]
    roots = mp.polyroots(cubic, maxsteps=500, extraprec=400)
    return unit * max(mp.re(root) for root in roots)


VALUES: dict[str, Callable[..., Number]] = {
    "theory.deep_linear.predicted_final_sharpness": predicted_final_sharpness,
    "theory.diagnosis.power_law_relaxation": power_law_relaxation,
    "theory.edge_of_stability.end_excess": end_excess,
    "theory.patterns.p_only_error": p_only_error,
    "theory.quadratic.adam_momentum_gain": adam_momentum_gain,
    "theory.quadratic.contraction_factor": contraction_factor,
    "theory.quadratic.best_schedule_peak": best_schedule_peak,
    "theory.quadratic.best_schedule_risk": best_schedule_risk,
    "theory.quadratic.decay_noise_left": decay_noise_left,
    "theory.quadratic.late_decay_noise_left": late_decay_noise_left,
    "theory.quadratic.ema_start_weight": ema_start_weight,
    "theory.quadratic.memory_kernel": memory_kernel,
    "theory.quadratic.power_law_bias": power_law_bias,
    "theory.quadratic.power_law_crossover_steps": power_law_crossover_steps,
    "theory.quadratic.power_law_optimal_rate": power_law_optimal_rate,
    "theory.schedules.ema_schedule_gain": ema_schedule_gain,
    "theory.schedules.two_point_schedule_gain": two_point_schedule_gain,
    "theory.sharpest_directions.conditional_increase_probability": crossed(2),
    "theory.sharpest_directions.conditional_overshoot_probability": crossed(1),
    "theory.sharpest_directions.increase_probability": lambda gain: mp.mpf(1) / 2,
    "theory.sharpest_directions.overshoot_probability": lambda gain: 0.5 + mp.asin(mp.sqrt(gain / 2)) / mp.pi,
    "theory.uv.c_loss_at": c_loss_at,
    "theory.uv.c_sharp": c_sharp,
    "theory.uv.chaotic_density": lambda x: 1 / (mp.pi * mp.sqrt(x * (4 - x))),
    "theory.uv.delayed_escape": delayed_escape,
    "theory.uv.first_rise_probability": first_rise_probability,
    "theory.uv.mean_c_loss": mean_c_loss,
    "theory.uv.mean_c_max": mean_c_max,
    "theory.uv.mean_c_sharp": mean_c_sharp,
    "theory.uv.no_catapult_probability": lambda width: ratio_above(mp.mpf(1) / 8, width),
}

TWO_INTEGRALS = "an integral of an integral; the tests of its row have it at moderate arguments"
LEFT_TO_THEIR_ROWS = {
    "theory.patterns.p_learning_time": TWO_INTEGRALS,
    "theory.uv.mean_largest_c": TWO_INTEGRALS,
}

DISTRIBUTIONS: dict[str, Callable[..., Number]] = {
    "models.uv.alignment_quantile": alignment_distribution,
    "models.uv.ntk_quantile": ntk_distribution,
}
