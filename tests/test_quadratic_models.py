"""The mini-batch quadratic itself: loss, gradient, spectra, what it refuses."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_quadratic import (
    random_model,
    seeds,
)

from sgdynamics.models.quadratic import MiniBatchQuadratic


@given(seeds, st.integers(1, 6))
def test_the_gradient_is_the_slope_of_the_loss(seed, modes):
    generator, curvature, variance, start = random_model(seed, modes)
    multiplicity = generator.uniform(0.5, 5, modes)
    model = MiniBatchQuadratic(curvature, variance, multiplicity=multiplicity, displacement=start, batch_size=2)
    error, center = generator.normal(size=(2, modes))
    gradient = model.batch_gradient(error, center)
    for mode in range(modes):
        nudge = 1e-4 * np.eye(modes)[mode]
        slope = (model.batch_loss(error + nudge, center) - model.batch_loss(error - nudge, center)) / 2e-4
        assert math.isclose(slope, multiplicity[mode] * gradient[mode], rel_tol=1e-7, abs_tol=1e-9)
    np.testing.assert_allclose(model.step(error, center, 0.3), error - 0.3 * gradient, rtol=1e-14)
    np.testing.assert_array_equal(model.start, start)


@given(seeds, st.integers(1, 4), st.integers(1, 100))
def test_the_expected_loss_is_excess_and_floor(seed, modes, batch_size):
    """Over centers at plus or minus one standard deviation."""
    generator, curvature, variance, _ = random_model(seed, modes)
    model = MiniBatchQuadratic(
        curvature, variance, multiplicity=generator.uniform(0.5, 5, modes), batch_size=batch_size
    )
    error = generator.normal(size=modes)
    centers = np.array(list(itertools.product([-1, 1], repeat=modes))) * np.sqrt(variance / batch_size)
    assert math.isclose(model.batch_loss(error, centers).mean(), model.excess_risk(error) + model.floor, rel_tol=1e-12)
    assert math.isclose(model.batch_loss(np.zeros(modes), centers).mean(), model.floor, rel_tol=1e-12)


def test_an_isotropic_model_is_one_mode_of_many_directions():
    model = MiniBatchQuadratic.isotropic(2.0, 3.0, 50, displacement=0.5, batch_size=4)
    assert model.modes == 1
    assert math.isclose(model.excess_risk(model.start), 0.5 * 50 * 2 * 0.25)
    assert math.isclose(model.floor, 0.5 * 50 * 2 * 3 / 4)


def test_the_noisy_quadratic_model_has_gradient_noise_of_the_shape_of_its_curvature():
    model = MiniBatchQuadratic.noisy_quadratic(100, exponent=1.5, batch_size=8)
    np.testing.assert_allclose(model.curvature, np.arange(1, 101) ** -1.5, rtol=1e-14)
    np.testing.assert_allclose(model.curvature**2 * model.batch_center_variance, model.curvature / 8, rtol=1e-14)
    np.testing.assert_array_equal(model.displacement, np.ones(100))
    default = MiniBatchQuadratic.noisy_quadratic(3)
    np.testing.assert_allclose(default.curvature, [1, 1 / 2, 1 / 3], rtol=1e-15)


def test_a_power_law_model_has_both_exponents():
    model = MiniBatchQuadratic.power_law(50, 1.5, 2.0, center_variance=0.1)
    index = np.arange(1, 51.0)
    np.testing.assert_allclose(model.curvature, index**-1.5, rtol=1e-14)
    np.testing.assert_allclose(model.curvature * model.displacement**2, index**-2, rtol=1e-13)
    np.testing.assert_array_equal(model.center_variance, np.full(50, 0.1))


def test_a_log_uniform_model_is_evenly_spaced_in_its_logarithm():
    model = MiniBatchQuadratic.log_uniform(1e-4, 1.0, 9, center_variance=2.0, displacement=3.0)
    np.testing.assert_allclose(np.log10(model.curvature), np.linspace(-4, 0, 9), atol=1e-13)
    assert model.displacement.tolist() == [3.0] * 9
    with pytest.raises(ValueError, match="low must be smaller than high"):
        MiniBatchQuadratic.log_uniform(1.0, 0.1, 5)


def test_a_measured_spectrum_is_read(tmp_path):
    table, column = tmp_path / "table.csv", tmp_path / "column.csv"
    table.write_text("curvature, multiplicity,center_variance,displacement\n2.0,3,0.5,1\n\n0.1,7,0.25,-1\n")
    model = MiniBatchQuadratic.from_csv(table, batch_size=4)
    for name, values in (
        ("curvature", [2.0, 0.1]),
        ("multiplicity", [3.0, 7.0]),
        ("center_variance", [0.5, 0.25]),
        ("displacement", [1.0, -1.0]),
    ):
        assert getattr(model, name).tolist() == values
    assert model.batch_size == 4
    column.write_text("3.0\n1.0\n-0.001\n0.5\n")
    assert MiniBatchQuadratic.from_csv(str(column), center_variance=1.0, smallest=0.6).curvature.tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {"center_variance": 1.0}, "at least one row"),
        ("curvature,color\n1,2\n", {"center_variance": 1.0}, "must name columns among"),
        ("displacement\n1\n", {"center_variance": 1.0}, "curvature one of them"),
        ("curvature\n1\nhigh\n", {"center_variance": 1.0}, "one number per column"),
        ("1\n2\n", {}, "center_variance must be given exactly once"),
        ("curvature,center_variance\n1,1\n", {"center_variance": 1.0}, "center_variance must be given exactly once"),
        ("1\n-2\n", {"center_variance": 1.0}, "curvature must be"),
    ],
)
def test_a_file_that_holds_no_spectrum_is_refused(tmp_path, text, options, message):
    path = tmp_path / "spectrum.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        MiniBatchQuadratic.from_csv(path, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        (([1.0, 0.0], 1.0), {}, "curvature"),
        (([1.0, math.nan], 1.0), {}, "curvature"),
        ((1.0, -1.0), {}, "center_variance"),
        (([1.0, 0.5], [1.0, 1.0, 1.0]), {}, "center_variance"),
        ((1.0, 1.0), {"multiplicity": 0.0}, "multiplicity"),
        ((1.0, 1.0), {"displacement": math.inf}, "displacement"),
        ((1.0, 1.0), {"batch_size": 0}, "batch_size"),
        (([1.0, 0.5], 1.0), {"batch_size": [1, 2]}, "batch_size"),
    ],
)
def test_a_model_that_cannot_be_is_named(arguments, options, name):
    with pytest.raises(ValueError, match=f"MiniBatchQuadratic: {name} must"):
        MiniBatchQuadratic(*arguments, **options)
