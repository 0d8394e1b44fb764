"""The uv network's maps, Hessian and start against weights: gradient descent in NumPy, dense Hessians, normal draws."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from plain_uv import dense_hessian, gradient_descent, observed

from sgdynamics.models.uv import (
    MultiExampleUV,
    UVNetwork,
    cone_step,
    from_cone,
    function_step,
    hessian_eigenvalues,
    imbalance,
    log_cone_step,
    to_cone,
)
from sgdynamics.theory.uv import (
    c_loss,
    c_loss_at,
    first_rise_rate,
    mean_start_ratio,
    no_catapult_probability,
)

seeds = st.integers(0, 2**32 - 1)
log_kappas = st.floats(-9, 1).map(lambda power: 10**power)
alignments = st.one_of(st.floats(-1, 1), st.floats(-9, -1).map(lambda p: 10**p), st.sampled_from([-1.0, 1.0]))
scaled_targets = st.floats(-1.9, 1.9)
rates = st.floats(0.05, 3.9)


def full(numbers):
    """Numbers that keep all their bits in other units: none so small that they have fewer."""
    return numbers.map(lambda number: number if abs(number) > 1e-100 else 0.0)


def point(kappa, alignment, ntk):
    return alignment * ntk / (2 * math.sqrt(kappa)), ntk


@pytest.mark.parametrize("width", [2, 8, 32, 128, 512])
@pytest.mark.parametrize("parametrization", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("target", [0.0, 2.0])
@pytest.mark.parametrize("inputs", [1, 3])
def test_the_map_equals_one_step_of_gradient_descent_on_the_weights(width, parametrization, target, inputs):
    generator = np.random.default_rng([width, int(2 * parametrization), int(target), inputs])
    for _ in range(5):
        scale = np.longdouble(width) ** (np.longdouble(parametrization - 1) / 2)
        x = generator.normal(size=inputs).astype(np.longdouble)  # with spare digits, as v.h cancels where f is small
        spread = width ** (-parametrization / 2)
        hidden, readout = (spread * generator.normal(size=shape) for shape in ((width, inputs), width))
        hidden, readout = hidden.astype(np.longdouble), readout.astype(np.longdouble)
        norm = np.sqrt(x @ x)
        model = UVNetwork(width, target=target, input_norm=float(norm), parametrization=parametrization)
        rate = generator.uniform(0.5, 3.0) / float(observed(hidden, readout, x, scale)[1])
        for _ in range(6):
            output, ntk = map(float, observed(hidden, readout, x, scale))
            made_output, made_ntk = model.step(output, ntk, rate)
            along, across = (hidden @ x / norm).astype(float), readout.astype(float)
            np.testing.assert_allclose(model.function_values(along, across)[1], ntk, rtol=1e-13)
            assert abs(model.function_values(along, across)[0] - output) * model.kappa**0.5 <= 1e-13 * ntk
            new_along, new_across = model.gradient_step(along, across, rate)
            hidden, readout = gradient_descent(hidden, readout, x, target, rate, scale)
            size = float(np.abs(hidden).max() + np.abs(readout).max())
            np.testing.assert_allclose(new_along, (hidden @ x / norm).astype(float), rtol=0, atol=1e-12 * size)
            np.testing.assert_allclose(new_across, readout.astype(float), rtol=0, atol=1e-12 * size)
            after_output, after_ntk = map(float, observed(hidden, readout, x, scale))
            if after_ntk > 1e6 or abs(after_output) * model.kappa**0.5 < 1e-6 * ntk:
                break  # diverged, or so near output 0 that the sum over units has cancelled
            size = max(abs(output), abs(after_output), rate * ntk * abs(output - target))
            assert abs(made_output - after_output) <= 1e-12 * size
            assert abs(made_ntk - after_ntk) <= 1e-12 * max(ntk, after_ntk)


def test_several_examples_step_like_gradient_descent_on_the_weights():
    generator = np.random.default_rng(1)
    for width, examples, inputs in itertools.product([1, 3, 40], [1, 2, 5], [1, 3]):
        x, y = generator.normal(size=(examples, inputs)), generator.normal(size=examples)
        hidden, readout = generator.normal(size=(width, inputs)), generator.normal(size=width)
        model = MultiExampleUV(x, y, width=width)
        rate = 0.3

        def state(hidden, readout, x=x, width=width):
            features = x @ hidden.T
            return features @ readout / math.sqrt(width), readout @ readout / width, features @ features.T / width

        before = state(hidden, readout)
        residual = (before[0] - y) / examples
        slope = np.einsum("a,i,aj->ij", residual, readout, x) / math.sqrt(width)
        new_readout = readout - rate * hidden @ x.T @ residual / math.sqrt(width)
        expected = state(hidden - rate * slope, new_readout)
        for made, right in zip(model.step(*before, rate), expected, strict=True):
            np.testing.assert_allclose(made, right, rtol=1e-11, atol=1e-12)
        gradients = np.array(
            [np.concatenate([np.outer(readout, row).ravel(), hidden @ row]) / math.sqrt(width) for row in x]
        )
        np.testing.assert_allclose(model.ntk(*before[1:]), gradients @ gradients.T, rtol=1e-11, atol=1e-12)


def random_network(generator, width, examples, inputs):
    """Inputs, targets, weights and what the model knows of them."""
    x, y = generator.normal(size=(examples, inputs)), generator.normal(size=examples)
    hidden, readout = generator.normal(size=(width, inputs)), generator.normal(size=width)
    features = x @ hidden.T
    state = features @ readout / math.sqrt(width), readout @ readout / width, features @ features.T / width
    return x, y, hidden, readout, MultiExampleUV(x, y, width=width), state


def gradient_of(weights, x, y, width):
    """Of the mean over examples of half the squared error; of complex weights too."""
    readout, hidden = weights[:width], weights[width:].reshape(width, -1)
    residual = (x @ hidden.T @ readout / math.sqrt(width) - y) / len(y) / math.sqrt(width)
    return np.concatenate([hidden @ (x.T @ residual), np.outer(readout, x.T @ residual).ravel()])


@pytest.mark.parametrize(("width", "examples", "inputs"), [(1, 1, 1), (1, 3, 2), (3, 2, 4), (9, 3, 2), (12, 4, 6)])
def test_the_hessian_of_several_examples_is_that_of_the_weights(width, examples, inputs):
    x, y, hidden, readout, model, state = random_network(np.random.default_rng(width), width, examples, inputs)
    weights = np.concatenate([readout, hidden.ravel()])
    step = 1e-30  # of a complex step, without a difference
    columns = [gradient_of(weights + 1j * step * unit, x, y, width).imag / step for unit in np.eye(weights.size)]
    expected = np.linalg.eigvalsh(np.array(columns))
    made = model.hessian_spectrum(*state)
    further = max(width - examples - 1, 0)
    bend = np.linalg.norm(x.T @ (state[0] - y)) / (examples * math.sqrt(width))
    zeros = np.zeros(weights.size - made.size - 2 * further)
    full = np.sort(np.concatenate([made, np.repeat([bend, -bend], further), zeros]))
    np.testing.assert_allclose(full, expected, rtol=0, atol=1e-12 * expected[-1])
    assert made[0] >= bend * (1 - 1e-12)
    if examples == 1:
        kappa = (x @ x.T).item() / width
        top, bottom = hessian_eigenvalues(state[0][0], model.ntk(*state[1:])[0, 0], target=y[0], kappa=kappa)
        assert made[[0, -1]] == pytest.approx([top, bottom])


def test_second_moments_that_no_weights_have_are_refused():
    model = MultiExampleUV([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0], width=4)
    with pytest.raises(ValueError, match="hidden_gram must be second moments that some weights have"):
        model.hessian_spectrum([1.0, 0.0], 0.0, [[1.0, 0.0], [0.0, 3.0]])
    assert np.isfinite(model.step([1.0, 0.0], 0.0, [[1.0, 0.0], [0.0, 3.0]], 0.1)[0]).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
def test_the_first_rise_on_several_examples_is_that_of_gradient_descent(seed, width, examples, inputs):
    x, y, hidden, readout, model, state = random_network(np.random.default_rng(seed), width, examples, inputs)
    weights = np.concatenate([readout, hidden.ravel()])
    slope = gradient_of(weights, x, y, width)

    def loss(rate):
        moved = weights - rate * slope
        outputs = x @ moved[width:].reshape(width, -1).T @ moved[:width] / math.sqrt(width)
        return ((outputs - y) ** 2).sum()

    edge = first_rise_rate(model, *state)
    assert loss(edge) == pytest.approx(loss(0.0), rel=1e-6)
    assert all(loss(share * edge) < loss(0.0) for share in np.linspace(0.01, 0.99, 40))
    assert loss(1.01 * edge) > loss(0.0)
    if examples == 1:
        ntk = model.ntk(*state[1:])[0, 0]
        c = c_loss_at(state[0][0], ntk, (x @ x.T).item() / width, y[0])
        assert edge * ntk == pytest.approx(c, rel=1e-6) or c == math.inf


def test_of_a_wide_network_the_first_rise_is_never_below_the_edge_of_its_kernel():
    # a network of small width may raise the loss before
    _, y, _, _, model, state = random_network(np.random.default_rng(0), 10**5, 3, 4)
    kernel = model.ntk(*state[1:])
    residual = state[0] - y
    felt = kernel @ residual
    assert first_rise_rate(model, *state) == pytest.approx(6 * (residual @ felt) / (felt @ felt), rel=1e-3)
    assert first_rise_rate(model, *state) > 6 / np.linalg.eigvalsh(kernel)[-1]
    assert first_rise_rate(model, y, *state[1:]) == 0.0
    below = []
    for seed in range(200):
        _, _, _, _, model, state = random_network(np.random.default_rng(seed), 1, 2, 2)
        below.append(first_rise_rate(model, *state) < 4 / np.linalg.eigvalsh(model.ntk(*state[1:]))[-1] * (1 - 1e-9))
    assert any(below)


def test_one_of_several_examples_alone_is_the_network_of_one():
    model = MultiExampleUV([[0.6, 0.8]], [2.0], width=5)
    outputs, readout_norm, hidden_gram = model.step([0.5], 1.25, [[0.75]], 0.4)
    output, ntk = UVNetwork(5, target=2.0).step(0.5, 2.0, 0.4)
    assert outputs[0] == pytest.approx(output, rel=1e-15)
    assert model.ntk(readout_norm, hidden_gram)[0, 0] == pytest.approx(ntk, rel=1e-15)


@given(log_kappas, alignments, st.floats(0.01, 3.9), scaled_targets)
def test_the_three_ways_to_step_agree(kappa, alignment, rate, q):
    output, ntk = point(kappa, alignment, 1.0)
    target = q / (rate * math.sqrt(kappa))
    direct = function_step(output, ntk, rate, kappa=kappa, target=target)
    start = to_cone(output, ntk, rate, kappa=kappa)
    plus, minus = cone_step(*start, q)
    through = from_cone(plus, minus, rate, kappa=kappa)
    size = (1 + abs(q) + rate) ** 3
    assert through[0] * math.sqrt(kappa) * rate == pytest.approx(direct[0] * math.sqrt(kappa) * rate, abs=1e-13 * size)
    assert through[1] * rate == pytest.approx(direct[1] * rate, abs=1e-13 * size)
    with np.errstate(divide="ignore"):
        logs = log_cone_step(*np.log(start), q)
    for log, made, before in zip(logs, (plus, minus), start, strict=True):
        # rounding of 1 - s or 1 + s next to 0 is that of the root
        assert math.exp(log) == pytest.approx(made, rel=1e-12, abs=1e-14 * math.sqrt(made * before))


@given(log_kappas, alignments, rates, scaled_targets)
def test_changing_the_sign_of_output_and_target_is_a_symmetry(kappa, alignment, rate, q):
    output, ntk = point(kappa, alignment, 1.0)
    target = q / (rate * math.sqrt(kappa))
    one = function_step(output, ntk, rate, kappa=kappa, target=target)
    other = function_step(-output, ntk, rate, kappa=kappa, target=-target)
    assert other == (-one[0], one[1])
    assert cone_step(0.3, 0.7, q) == cone_step(0.7, 0.3, -q)[::-1]


@given(log_kappas, full(alignments), rates, full(scaled_targets), st.integers(-20, 20))
def test_units_of_output_rate_and_input_do_not_matter(kappa, alignment, rate, q, power):
    """Powers of two, so that not one bit changes: outputs times 2^p, kappa times 4^-p ..."""
    output, ntk = point(kappa, alignment, 1.0)
    target = q / (rate * math.sqrt(kappa))
    scale = 2.0**power
    one = function_step(output, ntk, rate, kappa=kappa, target=target)
    larger = function_step(output * scale, ntk, rate, kappa=kappa / scale**2, target=target * scale)
    faster = function_step(output * scale, ntk * scale, rate / scale, kappa=kappa, target=target * scale)
    assert larger == (one[0] * scale, one[1])
    assert faster == (one[0] * scale, one[1] * scale)


@given(st.floats(-300, 300), st.floats(-150, 150), st.floats(-20, -1e-3))
def test_below_the_cone_the_imbalance_is_zero_in_any_unit(output, kappa, below):
    output, root = 2.0**output, 2.0**kappa
    ntk = 2 * root * output * 2.0**below
    for sign in (1, -1):
        assert imbalance(sign * output, ntk, root**2) == 0


@given(st.floats(0, 9), st.floats(0, 9), scaled_targets)
def test_the_cone_is_never_left_and_the_imbalance_follows_its_law(plus, minus, q):
    for _ in range(20):
        residual = (plus - minus) / 4 - q
        new_plus, new_minus = cone_step(plus, minus, q)
        assert new_plus >= 0
        assert new_minus >= 0
        factor, product = 1 - residual**2, plus * minus
        rounding = 1e-14 * abs(factor) * product  # of a factor next to 0
        assert new_plus * new_minus == pytest.approx(factor**2 * product, rel=1e-12, abs=max(rounding, 1e-300))
        plus, minus = new_plus, new_minus
        if plus + minus > 1e6:
            break


def test_the_boundary_of_the_cone_is_kept_and_tiny_coordinates_keep_their_digits():
    assert cone_step(1.5, 0.0, 0.5)[1] == 0.0
    assert cone_step(0.0, 1e200, 0.0)[0] == 0.0  # not 0 times infinity
    s = 1 + 2.0**-40
    plus, _ = cone_step(4 * s, 0.0, 0.0)
    assert plus == pytest.approx(4 * s * 2.0**-80, rel=1e-15)  # next to s = 1
    assert cone_step(1.5, 1e-290, 0.25)[1] == pytest.approx((1 + 0.125) ** 2 * 1e-290, rel=1e-14)


def test_diverging_steps_are_infinite_and_never_not_a_number():
    output, ntk = function_step(np.array([1e150, -1e150, 1e308]), np.array([1e155, 1e155, 1e308]), 2.0, kappa=1e-9)
    assert np.isinf(ntk).all()
    assert (output[:2] == [math.inf, -math.inf]).all()
    assert not np.isnan(output).any()
    assert cone_step(1e200, 1e190, 1.0)[0] == math.inf
    logs = (600.0, 590.0)
    for _ in range(20):
        logs = log_cone_step(*logs, 0.5)
    assert math.isfinite(logs[0])
    assert logs[0] > 1e9
    near, far = log_cone_step(590.0, 3.0, 0.5), log_cone_step(610.0, 3.0, 0.5)
    assert far[0] - near[0] == pytest.approx(60, abs=1e-10)  # the cube, on both sides of the switch


def test_points_that_no_weights_have_are_refused_but_not_those_that_rounding_makes():
    with pytest.raises(ValueError, match=r"ntk must be at least 2 sqrt\(kappa\) \|output\| = 2.0, .* got 1.0"):
        hessian_eigenvalues(1.0, 1.0, target=0.0, kappa=1.0)
    with pytest.raises(ValueError, match="ntk must be at least"):
        function_step(np.array([0.0, 3.0]), 2.0, 0.1, kappa=1.0)
    assert hessian_eigenvalues(1.0, 2.0 * (1 - 1e-12), target=0.0, kappa=1.0)[0] == pytest.approx(3.0)
    assert to_cone(1.0, 2.0 * (1 - 1e-12), 1.0, kappa=1.0)[1] == 0.0
    lazy = xr.DataArray([1.0, 1.0], dims="point").chunk(point=1)
    unchecked = hessian_eigenvalues(1.0, lazy, target=0.0, kappa=1.0)[0]
    with pytest.raises(ValueError, match="ntk must be at least"):
        unchecked.compute()


def test_pairs_take_arrays_labels_and_lazy_labels():
    outputs, targets = np.array([0.1, -0.2, 0.3]), np.array([[0.0], [1.0]])
    plain = function_step(outputs, 2.0, 0.5, kappa=0.25, target=targets)
    assert plain[0].shape == (2, 3)
    labelled = [xr.DataArray(outputs, dims="point"), xr.DataArray(targets[:, 0], dims="target")]
    swept = function_step(labelled[0], 2.0, 0.5, kappa=0.25, target=labelled[1])
    lazy = function_step(labelled[0].chunk(point=2), 2.0, 0.5, kappa=0.25, target=labelled[1])
    for one, other, third in zip(plain, swept, lazy, strict=True):
        assert third.chunks is not None
        np.testing.assert_array_equal(other.transpose("target", "point"), one)
        xr.testing.assert_identical(third.compute(), other)
    with pytest.raises(ValueError, match=r"target must be a scalar or a DataArray .* shape \(2, 1\)"):
        function_step(labelled[0], 2.0, 0.5, kappa=0.25, target=targets)
    with pytest.raises(ValueError, match=r"output \(3,\), target \(2,\)"):
        function_step(outputs, 2.0, 0.5, kappa=0.25, target=targets[:, 0])


@pytest.mark.parametrize(("width", "inputs"), [(5, 3), (1, 1), (1, 3), (4, 1), (7, 2)])
def test_trace_and_spectrum_of_the_hessian_are_those_of_the_dense_one(width, inputs):
    generator = np.random.default_rng(width + 10 * inputs)
    for _ in range(20):
        x, target = generator.normal(size=inputs), generator.normal()
        hidden, readout = generator.normal(size=(width, inputs)), generator.normal(size=width)
        scale = 1 / math.sqrt(width)
        dense = dense_hessian(hidden, readout, x, target, scale)
        output, ntk = observed(hidden, readout, x, scale)
        model = UVNetwork(width, target=target, input_norm=np.linalg.norm(x))
        data = model.hessian_spectrum(output, ntk, inputs=inputs)
        spectrum = np.repeat(data.curvature, data.multiplicity.astype(int))
        expected = np.linalg.eigvalsh(dense)
        np.testing.assert_allclose(np.sort(spectrum), expected, rtol=1e-10, atol=1e-10)
        assert np.trace(dense) == pytest.approx(ntk, rel=1e-12)
        top, bottom = hessian_eigenvalues(output, ntk, target=target, kappa=model.kappa)
        assert top == pytest.approx(expected[-1], rel=1e-11)  # the sharpness, always
        assert top + bottom == pytest.approx(ntk, rel=1e-11)


@given(log_kappas, alignments, st.sampled_from([-1, 1]), st.floats(-12, 2).map(lambda power: 10**power))
def test_hessian_eigenvalues_keep_their_digits(kappa, alignment, position, size):
    """Against the textbook form in 60 digits, next to a minimum too, where the lower one nearly cancels."""
    output, ntk = point(kappa, alignment, 2.0)
    target = output + position * size / math.sqrt(kappa)
    top, bottom = hessian_eigenvalues(output, ntk, target=target, kappa=kappa)
    with mpmath.workdps(60):
        f, y, k, trace = map(mpmath.mpf, (output, target, kappa, ntk))
        product = -k * (f - y) * (3 * f - y)
        root = mpmath.sqrt(max(trace**2 - 4 * product, 0))
        exact_top, exact_bottom = (trace + root) / 2, (trace - root) / 2
        # 3 f - y is rounded by its terms, as is the margin to the boundary of the cone
        slack = 1e-15 * float(exact_top + trace**2 / max(root, 1e-12))
        noise = 1e-15 * float(k * abs(f - y) * (3 * abs(f) + abs(y)) / exact_top)
    assert abs(top - exact_top) <= slack
    assert abs(bottom - exact_bottom) <= (1e-14 + 2 * slack / float(exact_top)) * abs(exact_bottom) + noise


def test_the_hessian_at_the_origin_and_far_out():
    assert hessian_eigenvalues(0.0, 0.0, target=0.0, kappa=1.0) == (0.0, 0.0)
    assert hessian_eigenvalues(0.0, 0.0, target=1.0, kappa=4.0) == (2.0, -2.0)
    top, bottom = hessian_eigenvalues(1e200, 2e200, target=0.0, kappa=1.0)
    assert top == pytest.approx(3e200)
    assert bottom == pytest.approx(-1e200)


def test_the_spectrum_sweeps():
    widths = xr.DataArray([2, 5], dims="width")
    data = UVNetwork(widths).hessian_spectrum(0.3, xr.DataArray([1.0, 2.0, 3.0], dims="ntk"), inputs=2)
    assert dict(data.sizes) == {"width": 2, "ntk": 3, "mode": 5}
    assert data.multiplicity.sum("mode").values.tolist() == [2 * 2 + 2, 5 * 2 + 5]
    with pytest.raises(ValueError, match="output must be a scalar or a DataArray"):
        UVNetwork(4).hessian_spectrum(np.array([0.1, 0.2]), 2.0)


@pytest.mark.parametrize("parametrization", [0.0, 0.5, 1.0])
def test_draws_of_the_start_follow_the_weights(parametrization):
    """Two-sample Kolmogorov-Smirnov distances of output and kernel; 1.95/sqrt(N/2) is passed with probability 0.999."""
    count, width = 20_000, 6
    generator = np.random.default_rng(5)
    model = UVNetwork(width, input_norm=1.5, init_scale=0.7, parametrization=parametrization)
    drawn = model.start(generator.random(count), generator.random(count))
    spread = 0.7 * width ** (-parametrization / 2)
    hidden, readout = spread * generator.normal(size=(2, count, width))
    scale = 1.5 * width ** (-(1 - parametrization) / 2)
    measured = scale * (hidden * readout).sum(-1), scale**2 * (hidden**2 + readout**2).sum(-1)
    assert model.init_variance == pytest.approx(spread**2)
    for one, other in zip(drawn, measured, strict=True):
        grid = np.concatenate([one, other])
        gap = np.searchsorted(np.sort(one), grid) - np.searchsorted(np.sort(other), grid)
        assert abs(gap).max() / count < 1.95 * math.sqrt(2 / count)
    assert (drawn[1] >= 2 * math.sqrt(model.kappa) * abs(drawn[0]) * (1 - 1e-12)).all()


def test_wrong_widths_and_rates_are_refused():
    for width in (0, 0.5, 2.5, -3):
        with pytest.raises(ValueError, match="width must be a whole number >= 1"):
            UVNetwork(width)
    with pytest.raises(ValueError, match=r"learning_rate must be a finite number >= 0, got -0.1"):
        UVNetwork(4).step(0.0, 2.0, -0.1)
    with pytest.raises(ValueError, match=r"rho must be a number in \[0, 1/4\], got 0.3"):
        c_loss(0.3)


def test_the_mean_start_ratio_at_width_8_and_its_tail_at_width_2():
    """E rho = 0.02778 and P(rho > 1/8) = 1 - 1/sqrt(2), from 4e5 normal weights."""
    generator = np.random.default_rng(8)
    for width, measured in ((8, "mean"), (2, "tail")):
        hidden, readout = generator.normal(size=(2, 400_000, width))
        ratio = ((hidden * readout).sum(-1) / ((hidden**2).sum(-1) + (readout**2).sum(-1))) ** 2
        if measured == "mean":
            assert mean_start_ratio(8) == pytest.approx(1 / 36, rel=1e-15)
            assert ratio.mean() == pytest.approx(mean_start_ratio(8), rel=0.02)
        else:
            assert no_catapult_probability(2) == pytest.approx(1 - 1 / math.sqrt(2), rel=1e-12)
            assert np.mean(ratio > 0.125) == pytest.approx(no_catapult_probability(2), abs=0.003)


def test_eigenvalues_in_symbols_are_the_roots_of_the_hessian_s_polynomial():
    first, second, target = sympy.symbols("u v y", real=True)
    hessian = sympy.hessian((first * second - target) ** 2 / 2, (first, second))
    made = hessian_eigenvalues(first * second, first**2 + second**2, target=target, kappa=1)
    assert sympy.expand(sum(made) - hessian.trace()) == 0
    assert sympy.expand(made[0] * made[1] - hessian.det()) == 0
    assert [float(part.subs({first: 2, second: 1, target: 4})) for part in made] == [4.0, 1.0]
