"""The reduced dynamics of the two-pattern model, against the plain double loop and the numbers of the desk.

Six draws of the data, all three algorithms on each; the theory's kernels against random units.
"""

import functools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.models.patterns import (
    ALGORITHMS,
    TwoPatternData,
    TwoPatternSample,
    TwoPatternSetting,
    TwoPatternTraining,
)
from sgdynamics.theory.patterns import (
    annealed_variance,
    annealed_variance_ratio,
    curvature_ceiling,
    curvature_form,
    first_time_below,
    gap_map,
    mean_classifier_cosine,
    noisy_correlation,
    p_only_error,
    population_dynamics,
    q_time,
    reduced_dynamics,
    refreshed_curvature_form,
    refreshed_kernel,
    stationary_noise_variance,
)

DESK = TwoPatternSetting.desk()
LARGE, SMALL, NOISY = ALGORITHMS
SEEDS = range(6)
every_seed = pytest.mark.parametrize("seed", SEEDS)
# Of runs that no other test looks at: two draws of the data, and the others where there is time.
few_seeds = pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 1)) for seed in SEEDS]
)


@functools.cache
def run(seed, algorithm, setting=DESK, **options):
    return reduced_dynamics(setting, setting.draw(seed), algorithm, **options)


def end(seed, algorithm, variable, setting=DESK):
    return float(run(seed, algorithm, setting)[variable][-1])


def before_switch(made):
    """The last iterate of the first phase, noise in the pre-activations still on."""
    last = int(made.attrs["switch_step"])
    return made.isel(step=last - 1 if made.attrs["algorithm"] == NOISY else last)


def times(made):
    return first_time_below(made, "loss_p_only", 0.5), first_time_below(made, "loss_q_only", 0.35)


# ---------------------------------------------------------------------------------------------------------------------
# The recursion, written out


def double_loop(setting, sample, algorithm):
    """The outputs on the rays and the rule of P at every step, with 30 digits and no shortcut."""
    data, training = setting.data, setting.training
    lam, eta1, eta2 = training.weight_decay, training.large_rate, training.small_rate
    h = training.coarse_step or eta2
    first = eta1 if algorithm == LARGE else h
    count = math.ceil(training.first_time / first - 1e-9)
    rest = math.ceil((training.first_time + training.second_time - count * first) / h - 1e-9)
    size = [mpmath.mpf(first)] * count + [mpmath.mpf(h)] * rest
    rate = [mpmath.mpf(eta1 if algorithm == LARGE else eta2)] * count + [mpmath.mpf(eta2)] * rest
    noisy = [training.activation_noise if algorithm == NOISY else 0] * count + [0] * (rest + 1)
    xi = (1 - (1 - mpmath.mpf(eta1) * lam) ** 2) / mpmath.mpf(eta1) ** 2
    var = [mpmath.mpf(1)]
    for step, actual in zip(size, rate, strict=True):
        var.append((1 - step * lam) ** 2 * var[-1] + step * actual * xi)
    rays = [[data.amplitude, data.amplitude * b * mpmath.mpf(data.separation)] for b in (0, 1, -1)]
    examples, n, d = range(sample.examples), sample.examples, sample.dimension
    beta, memory, pulls, history = [mpmath.mpf(0)] * d, [mpmath.mpf(0)] * n, [], []
    for t in range(len(size) + 1):
        g = [mpmath.mpf(0)] * 3
        for s in range(t):
            shrink = mpmath.fprod(1 - size[j] * lam for j in range(s + 1, t))
            rho = mpmath.fprod(1 - size[j] * lam for j in range(s, t)) * mpmath.sqrt(var[s] / var[t])
            rho /= mpmath.sqrt((1 + noisy[s] ** 2) * (1 + noisy[t] ** 2))
            for k in range(3):
                for m in range(3):
                    dot = rays[k][0] * rays[m][0] + rays[k][1] * rays[m][1]
                    cos = dot / mpmath.sqrt(sum(c * c for c in rays[k]) * sum(c * c for c in rays[m]))
                    kernel = dot * (mpmath.pi - mpmath.acos(rho * cos)) / (2 * mpmath.pi)
                    g[k] += size[s] * shrink * kernel * pulls[s][m]
        out = [sum(b * x for b, x in zip(beta, sample.inputs[i], strict=True)) + memory[i] for i in examples]
        out = [out[i] + (sample.alpha[i] * g[sample.ray[i]] if sample.ray[i] >= 0 else 0) for i in examples]
        history.append((g, list(beta), out))
        if t == len(size):
            return history
        slope = [int(y) / (1 + mpmath.exp(int(y) * f)) / n for y, f in zip(sample.label, out, strict=True)]
        pulls.append([sum(sample.alpha[i] * slope[i] for i in examples if sample.ray[i] == k) for k in range(3)])
        keep = 1 - size[t] * lam
        beta = [keep * beta[j] + size[t] / 4 * sum(slope[i] * sample.inputs[i, j] for i in examples) for j in range(d)]
        norms = (sample.inputs**2).sum(axis=1)
        memory = [keep * memory[i] + size[t] / 4 * slope[i] * norms[i] for i in examples]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_reduced_dynamics_are_the_plain_double_loop(algorithm):
    data = TwoPatternData(3, p_only=0.3, q_only=0.3, margin=0.5, separation=0.3, amplitude=2.0, alpha_low=0.2)
    training = TwoPatternTraining(1.0, 0.05, 8.0, 4.0, weight_decay=0.03, coarse_step=0.5)
    setting = TwoPatternSetting(data, training, 9)
    sample = setting.draw(1)
    made = reduced_dynamics(setting, sample, algorithm)
    with mpmath.workdps(30):
        history = double_loop(setting, sample, algorithm)
    assert made.sizes["step"] == len(history)
    for t, (g, beta, out) in enumerate(history):
        np.testing.assert_allclose(made.ray_output[t], [float(x) for x in g], rtol=1e-12, atol=1e-12)
        loss = np.logaddexp(0, -sample.label * np.array([float(x) for x in out]))
        for name, mask in (("loss", slice(None)), ("loss_p_only", sample.has(0)), ("loss_q_only", sample.has(1))):
            assert float(made[name][t]) == pytest.approx(loss[mask].mean(), rel=1e-12)
        length = math.sqrt(sum(float(b) ** 2 for b in beta))
        assert float(made.cosine[t]) == pytest.approx(float(beta[0]) / length if length else 0.0, rel=1e-12)
    np.testing.assert_allclose(made.p_rule, [float(b) for b in history[-1][1]], rtol=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(ALGORITHMS))
def test_mirrored_rays_and_permuted_examples_change_nothing(seed, algorithm):
    data = TwoPatternData(4, p_only=0.3, q_only=0.3, margin=0.5, separation=0.3, amplitude=2.0)
    setting = TwoPatternSetting(data, TwoPatternTraining(0.8, 0.1, 6.0, 3.0, weight_decay=0.02), 15)
    sample = setting.draw(seed)
    order = np.random.default_rng(seed).permutation(15)
    mirrored = np.array([0, 2, 1, -1])[sample.ray]  # the last entry serves -1
    other = TwoPatternSample(
        sample.inputs[order], sample.label[order], sample.kind[order], mirrored[order], sample.alpha[order]
    )
    one, two = reduced_dynamics(setting, sample, algorithm), reduced_dynamics(setting, other, algorithm)
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-11)
    np.testing.assert_allclose(one.ray_output.values[:, [0, 2, 1]], two.ray_output, rtol=1e-9, atol=1e-12)


def test_the_curvature_starts_at_the_rate_of_the_closed_form_and_stays_below_the_ceiling():
    made = population_dynamics(DESK.with_training(small_rate=1e-9), SMALL)  # a pattern frozen from the first step
    rate = float(made.curvature[1] / made.time[1])
    assert rate == pytest.approx(1 / q_time(0.1, 4.0, 0.95), rel=1e-4)
    weak = DESK.with_data(amplitude=0.4, p_only=0.0, q_only=1.0).with_training(first_time=6000.0)
    held = float(before_switch(population_dynamics(weak, LARGE)).curvature)
    assert held == pytest.approx(curvature_ceiling(0.1, 3e-4, 0.4), rel=0.06)  # pulls of nearly 1/2
    assert held < curvature_ceiling(0.1, 3e-4, 0.4)


def test_the_population_is_the_limit_of_many_examples():
    short = DESK.with_training(first_time=160.0, second_time=80.0)
    large = TwoPatternSetting(short.data, short.training, 10_000)
    for setting, algorithm in ((large, LARGE), (large, SMALL)):
        exact = population_dynamics(setting, algorithm)
        sampled = reduced_dynamics(setting, setting.draw(0), algorithm)
        for name in ("loss_p_only", "loss_q_only", "loss_both"):
            np.testing.assert_allclose(sampled[name], exact[name], atol=0.015)
        np.testing.assert_allclose(sampled.curvature, exact.curvature, atol=0.05)


def test_the_population_has_amplitudes_of_all_sizes():
    data = TwoPatternData(4, p_only=0.0, q_only=1.0, margin=0.0, separation=0.3, amplitude=2.0, alpha_low=0.3)
    setting = TwoPatternSetting(data, TwoPatternTraining(0.8, 0.1, 16.0, 0.0, weight_decay=0.02), 10)
    alpha = 0.3 + 0.7 * (np.arange(200) + 0.5) / 200
    ray = np.repeat([0, 0, 1, 2], 200)
    label = np.where(ray == 0, 1, -1)
    sample = TwoPatternSample(np.zeros((800, 4)), label, np.full(800, 1), ray, np.tile(alpha, 4))
    exact, sampled = (
        population_dynamics(setting, SMALL),
        reduced_dynamics(setting, sample, SMALL),
    )
    np.testing.assert_allclose(sampled.ray_output, exact.ray_output, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sampled.loss, exact.loss, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Random units and chains


@pytest.mark.parametrize(("angle", "correlation"), [(0.1, 1.0), (0.1, 0.9), (0.5, 0.5), (math.pi / 2, 0.7)])
def test_the_refreshed_kernel_is_the_share_of_random_units_active_at_both_times(angle, correlation):
    generator = np.random.default_rng(5)
    units = 2_000_000
    now = generator.standard_normal((2, units))
    later = correlation * now + math.sqrt(1 - correlation**2) * generator.standard_normal((2, units))
    active = (now[0] > 0) & (math.cos(angle) * later[0] + math.sin(angle) * later[1] > 0)
    share = refreshed_kernel(angle, correlation)
    assert abs(active.mean() - share) < 1.5e-3
    assert abs(active.mean() - share) < 4 * math.sqrt(share * (1 - share) / units)


def test_the_curvature_form_is_that_of_random_units():
    generator = np.random.default_rng(2)
    rays = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1]])
    units = generator.standard_normal((400_000, 2))
    features = np.array([1, -0.5, -0.5]) @ ((units @ rays.T > 0)[:, :, None] * rays).transpose(1, 0, 2).reshape(3, -1)
    assert (features.reshape(-1, 2) ** 2).sum(axis=1).mean() == pytest.approx(curvature_form(0.1), rel=0.02)


def test_activation_noise_makes_the_correlation_of_pre_activations():
    generator = np.random.default_rng(3)
    unit, noise = generator.standard_normal(400_000), generator.standard_normal((2, 400_000))
    rho = 0.8
    later = rho * unit + 0.6 * generator.standard_normal(400_000)
    measured = np.corrcoef(unit + 0.5 * noise[0], later + 0.5 * noise[1])[0, 1]
    assert abs(measured - noisy_correlation(rho, 0.5)) < 4 / math.sqrt(400_000)


def test_noise_is_stationary_under_the_large_rate_and_follows_the_variance_recursion_after_annealing():
    generator = np.random.default_rng(4)
    large, small, decay = 8.0, 0.08, 0.01
    deviation = math.sqrt(1 / stationary_noise_variance(large, decay))  # stationary variance 1
    weights = generator.standard_normal(40_000)
    for _ in range(50):
        weights = (1 - large * decay) * weights - large * deviation * generator.standard_normal(weights.size)
    assert abs(weights.var() - 1) < 0.02
    noise = np.empty_like(weights)
    for _ in range(3000):  # pairs of steps
        noise[:] = generator.standard_normal(weights.size)
        keep = 1 - small * decay
        weights = keep**2 * weights + small * deviation * math.sqrt(1 + keep**2) * noise
    assert weights.var() == pytest.approx(annealed_variance(large, small, decay, 6000), rel=0.03)
    variance = 1.0
    for _ in range(6000):
        variance = (1 - small * decay) ** 2 * variance + (small * deviation) ** 2
    assert variance == pytest.approx(annealed_variance(large, small, decay, 6000), rel=1e-10)
    assert variance == pytest.approx(0.009671, rel=1e-3)
    assert annealed_variance_ratio(large, small, decay) == pytest.approx(0.009604, rel=1e-4)


def test_the_mean_classifier_has_the_cosine_of_the_formula():
    data = TwoPatternData(100, p_only=1.0, q_only=0.0, margin=0.0, separation=0.1)
    cosines = []
    for seed in range(200):
        sample = data.draw(380, seed)
        mean = sample.label @ sample.inputs
        cosines.append(mean[0] / np.linalg.norm(mean))
    assert np.mean(cosines) == pytest.approx(0.843, abs=0.007)
    assert np.mean(cosines) == pytest.approx(mean_classifier_cosine(100, 380, 0.0), abs=0.007)


def test_the_error_of_a_rule_is_counted_on_fresh_examples():
    data = TwoPatternData(10, p_only=1.0, q_only=0.0, margin=0.5, separation=0.1)
    sample = data.draw(100_000, 0)
    rule = np.zeros(10)
    rule[:2] = 0.8, 0.6
    error, measured = p_only_error(0.8, 0.5), np.mean(sample.label * (sample.inputs @ rule) < 0)
    assert abs(measured - error) < 4 * math.sqrt(error * (1 - error) / 100_000)


# ---------------------------------------------------------------------------------------------------------------------
# The desk: what is learnt first, and what it costs


@every_seed
def test_the_large_rate_fits_p_and_holds_q_back_until_annealing(seed):
    made = before_switch(run(seed, LARGE))
    assert float(made.loss_p_only) <= 0.46
    assert float(made.loss_q_only) >= 0.50
    assert float(made.curvature) <= 0.80


@every_seed
def test_the_small_rate_learns_q_long_before_p(seed):
    p, q = times(run(seed, SMALL))
    assert q <= 80
    assert p >= 400


@every_seed
def test_the_order_of_learning_reverses(seed):
    p, q = times(run(seed, LARGE))
    assert p < 1500 < q < 1560
    p, q = times(run(seed, SMALL))
    assert q < p


def test_the_small_rate_errs_more_on_p_only_examples():
    gaps = [end(seed, SMALL, "p_only_error") - end(seed, LARGE, "p_only_error") for seed in SEEDS]
    assert min(gaps) >= 0.03
    assert 0.045 <= np.mean(gaps) <= 0.09


@every_seed
def test_after_annealing_q_is_fitted_and_p_kept(seed):
    made = run(seed, LARGE)
    assert end(seed, LARGE, "loss_q_only") <= 0.10
    assert end(seed, LARGE, "q_only_error") == 0.0
    assert abs(end(seed, LARGE, "p_only_error") - float(before_switch(made).p_only_error)) < 0.02
    fresh = DESK.data.draw(20_000, 1000 + seed)
    both = fresh.has(2)
    output = fresh.inputs @ made.p_rule.values + fresh.alpha * made.ray_output.values[-1][fresh.ray]
    assert not (fresh.label * output < 0)[both].any()


@few_seeds
def test_activation_noise_imitates_the_large_rate(seed):
    assert abs(end(seed, NOISY, "p_only_error") - end(seed, LARGE, "p_only_error")) <= 0.01
    made = before_switch(run(seed, NOISY))
    assert 0.65 <= float(made.loss_q_only) <= 0.72
    assert abs(float(made.curvature)) <= 0.03


@few_seeds
def test_with_a_margin_the_small_rate_errs_several_times_as_often(seed):
    setting = TwoPatternSetting.desk_with_margin()
    large, small = end(seed, LARGE, "p_only_error", setting), end(seed, SMALL, "p_only_error", setting)
    assert large <= 0.003
    assert small >= 0.005
    assert small / large >= 4


def test_coarse_steps_with_the_noise_of_fine_ones_change_nothing():
    made = {}
    for step in (0.8, 0.08):
        setting = DESK.with_training(small_rate=0.08, coarse_step=step, first_time=200.0, second_time=0.0)
        made[step] = run(0, SMALL, setting).isel(step=-1)
    for name in ("loss", "loss_p_only", "loss_q_only", "p_only_error", "curvature"):
        assert float(made[0.8][name]) == pytest.approx(float(made[0.08][name]), rel=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_training_loss_paradox(seed):
    at = round(740 / 0.8)
    small, large = run(seed, SMALL).isel(step=at), run(seed, LARGE).isel(step=at)
    assert float(small.loss) <= float(large.loss) - 0.2
    assert float(small.loss_p_only) > float(large.loss_p_only)
    assert (run(seed, SMALL).loss[200:1875].values < run(seed, LARGE).loss[200:1875].values).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rate_ratio_of_ten_closes_the_gap(seed):
    control = DESK.with_training(small_rate=0.08)
    small = run(seed, SMALL, control)
    assert abs(float(small.p_only_error[-1]) - end(seed, LARGE, "p_only_error")) <= 0.015
    assert abs(float(small.p_only_error[-1]) - end(seed, LARGE, "p_only_error", control)) <= 0.015
    assert float(small.curvature[-1]) < 0.75 * float(small.curvature.max())  # learnt, then lost again


def test_a_linear_kernel_has_no_curvature_and_no_gap():
    runs = {name: run(0, name, kernel="linear") for name in (LARGE, SMALL)}
    for made in runs.values():
        assert float(abs(made.curvature).max()) < 1e-12
        assert float(made.loss_q_only.min()) >= 0.68
    assert float(runs[LARGE].p_only_error[-1]) == float(runs[SMALL].p_only_error[-1])


@every_seed
def test_the_gap_is_there_at_equal_training_loss_too(seed):
    at = {}
    for name in (LARGE, SMALL):
        made = run(seed, name)
        assert float(made.loss.min()) <= 0.07
        at[name] = made.isel(step=np.argmax(made.loss.values <= 0.07))
    assert float(at[SMALL].p_only_error) - float(at[LARGE].p_only_error) >= 0.02


@few_seeds
def test_a_run_that_stops_at_a_loss_is_the_same_run_cut_short(seed):
    for name in (LARGE, SMALL):
        made, whole = run(seed, name, stop_loss=0.07), run(seed, name)
        assert float(made.loss[-1]) <= 0.07 < float(made.loss[-2])
        for variable in ("loss", "p_only_error", "curvature"):
            np.testing.assert_array_equal(made[variable], whole[variable][: made.sizes["step"]])


def test_the_small_rate_never_reaches_the_final_loss_of_the_large_one():
    longer = DESK.with_training(second_time=3000.0)
    assert float(run(0, SMALL, longer).loss.min()) > end(0, LARGE, "loss")


def test_unit_constants_at_dimension_one_hundred_give_the_wrong_order():
    setting = TwoPatternSetting.unit_constants(100)
    p, q = times(reduced_dynamics(setting, setting.draw(0), SMALL))
    assert p < q  # the small rate learns P first: there is no order to reverse
    made = gap_map(setting, seeds=1)
    assert not made.order_reversed.any()
    assert not bool(made.predicted)


@pytest.mark.slow
def test_uniform_positions_narrow_the_gap():
    setting = TwoPatternSetting.desk_with_uniform_alpha()
    gaps = [end(seed, SMALL, "p_only_error", setting) - end(seed, LARGE, "p_only_error", setting) for seed in SEEDS]
    fixed = [end(seed, SMALL, "p_only_error") - end(seed, LARGE, "p_only_error") for seed in SEEDS]
    assert 0.01 <= np.mean(gaps) <= np.mean(fixed) - 0.02


@pytest.mark.slow
def test_the_map_sees_the_walls_that_the_time_scales_predict():
    made = gap_map(DESK, seeds=1, rate_ratio=[10.0, 1000.0], separation=[0.02, 0.1, 0.3]).isel(seed=0)
    assert made.order_reversed.dims == ("rate_ratio", "separation")
    reversed_at = made.order_reversed.sel(rate_ratio=1000.0)
    assert reversed_at.values.tolist()[1:] == [1.0, 0.0]  # at 0.3 the large rate holds Q
    assert made.predicted.sel(rate_ratio=1000.0).values.tolist()[1:] == [1.0, 0.0]
    assert not made.predicted.sel(rate_ratio=10.0).any()
    assert float(made.paired_gap.sel(rate_ratio=10.0, separation=0.1)) < 0.015
    single = float(gap_map(DESK, seeds=[0]).paired_gap.item())
    assert single == float(made.paired_gap.sel(rate_ratio=1000.0, separation=0.1))


def test_a_refreshed_form_is_what_is_left_of_the_curvature_between_two_steps():
    """One pull at the start, read later: the form at that correlation, shrunk by the weight decay in between."""
    setting = DESK.with_data(p_only=0.0, q_only=1.0).with_training(first_time=80.0, second_time=0.8)
    made = population_dynamics(setting, LARGE)
    rho = 1 - 0.8 * 3e-4
    first = float(made.curvature[1])
    assert first == pytest.approx(0.8 * 16 / 4 * refreshed_curvature_form(0.1, rho), rel=1e-9)
