"""Formulas: five kinds of input, declared ranges, edges, facts, derivatives, sources."""

from __future__ import annotations

import inspect
import math
import pickle
import re
import subprocess
import sys
from fractions import Fraction

import dask.array
import mpmath
import numpy as np
import pytest
import sympy
import xarray as xr
from cases import also_sound
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics import citation, formulas
from sgdynamics._precise import PreciseExpression
from sgdynamics.domains import Interval, positive, unit_interval
from sgdynamics.formula import (
    Formula,
    decay,
    decayed,
    exp,
    formula,
    geometric_sum,
    law,
    log,
    sqrt,
    stable_below,
    triangular_sum,
    where,
)
from sgdynamics.models import quadratic as quadratic_model
from sgdynamics.outcome import Outcome, outcome_attributes
from sgdynamics.theory.quadratic import ema_variance, stability_edge, stationary_variance

FORMULAS = formulas(kind="formula")
IDS = [item.name for item in FORMULAS]


def numeric_parameters(item: Formula) -> list[str]:
    return [name for name, domain in item.domains.items() if isinstance(domain, Interval)]


# ---------------------------------------------------------------------------------------------------------------------
# Five kinds of input


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_floats_give_a_float_and_ints_are_floats(item):
    arguments = item.typical
    value = item(**arguments)
    assert type(value) is float
    assert math.isfinite(value)
    whole = {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in arguments.items()}
    assert item(**whole) == value


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_arrays_broadcast_in_every_parameter(item):
    arguments = item.typical
    value = item(**arguments)
    for name in numeric_parameters(item):
        swept = item(**{**arguments, name: np.full((2, 3), arguments[name])})
        assert swept.shape == (2, 3)
        np.testing.assert_allclose(swept, value, rtol=1e-15)


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_dataarrays_keep_their_labels_in_every_parameter(item):
    arguments = item.typical
    for name in numeric_parameters(item):
        values = xr.DataArray(np.full(3, arguments[name]), dims=name, coords={name: [10, 20, 30]})
        swept = item(**{**arguments, name: values})
        assert isinstance(swept, xr.DataArray)
        assert swept.dims == (name,)
        assert swept[name].values.tolist() == [10, 20, 30]
        np.testing.assert_allclose(swept.values, item(**arguments), rtol=1e-15)


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_dask_backed_dataarrays_stay_lazy_and_are_checked_when_computed(item):
    arguments = item.typical
    for name in numeric_parameters(item):
        lazy = xr.DataArray(np.full(4, arguments[name]), dims="point").chunk(point=2)
        swept = item(**{**arguments, name: lazy})
        assert swept.chunks == ((2, 2),)
        np.testing.assert_allclose(swept.compute().values, item(**arguments), rtol=1e-15)
        bad = lazy.copy(data=lazy.data * math.nan)
        unchecked = item(**{**arguments, name: bad})
        with pytest.raises(ValueError, match=rf"{name} must be .*, got nan"):
            unchecked.compute()


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_symbols_give_the_same_number_where_the_formula_is_symbolic_and_an_error_elsewhere(item):
    arguments = item.typical
    symbols = {name: sympy.Symbol(name, real=True) for name in numeric_parameters(item)}
    if not item.symbolic:
        with pytest.raises(TypeError, match="not symbolic"):
            item(**{**arguments, **symbols})
        return
    expression = item(**{**arguments, **symbols})
    assert isinstance(expression, sympy.Expr)
    at_point = expression.subs({symbol: sympy.Rational(arguments[name]) for name, symbol in symbols.items()})
    assert float(at_point) == pytest.approx(item(**arguments), rel=1e-13)


def test_a_symbol_comes_out_as_the_textbook_expression():
    x = sympy.Symbol("x")
    assert stationary_variance(x) == x / (2 - x)


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_masked_entries_are_refused_and_an_empty_mask_is_none(item):
    arguments = item.typical
    for name in item.numeric:
        entries = np.ma.masked_array([arguments[name], arguments[name]], mask=[False, True])
        with pytest.raises(ValueError, match=f"{item.__name__}: {name} must .* none of them masked, got 1 masked of 2"):
            item(**{**arguments, name: entries})
        entries.mask = False
        result = item(**{**arguments, name: entries})
        assert type(result) is np.ndarray
        lazy = xr.DataArray(dask.array.from_array(np.ma.masked_array([arguments[name]], mask=[True])), dims="point")
        with pytest.raises(ValueError, match=f"{name} must be .* got (nan|1 masked of 1)"):
            item(**{**arguments, name: lazy}).compute()


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_a_missing_or_unknown_parameter_names_the_formula(item):
    with pytest.raises(TypeError, match=f"^{item.__name__}: .*no_such_parameter"):
        item(**item.typical, no_such_parameter=1)
    if item.symbolic:
        with pytest.raises(TypeError, match=rf"^{item.__name__}\.derivative: .*no_such_parameter"):
            item.derivative(item.numeric[0])(**item.typical, no_such_parameter=1)


def test_an_unlabelled_array_next_to_a_labelled_one_is_refused():
    with pytest.raises(ValueError, match="beta must be a scalar or a DataArray"):
        ema_variance(xr.DataArray([0.1, 0.2], dims="gain"), np.array([0.5, 0.9]))


def test_symbols_are_left_to_their_assumptions():
    with pytest.raises(ValueError, match="gain must be a finite number > 0"):
        stationary_variance(sympy.Symbol("x", negative=True))
    with pytest.raises(ValueError, match="gain must be a finite number > 0"):
        stationary_variance(sympy.Integer(-1))


# ---------------------------------------------------------------------------------------------------------------------
# Ranges and edges

GARBAGE = [math.nan, math.inf, -1, "a", None, []]


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_garbage_in_any_parameter_is_reported_by_name_value_and_range(item):
    arguments = item.typical
    for name, domain in item.domains.items():
        for garbage in GARBAGE:
            if also_sound(item.name, name, repr(garbage)):
                continue
            with pytest.raises((ValueError, TypeError)) as caught:
                item(**{**arguments, name: garbage})
            message = str(caught.value)
            assert name in message
            assert domain.text in message
            assert repr(garbage) in message


@pytest.mark.parametrize("item", [item for item in FORMULAS if len(numeric_parameters(item)) > 1], ids=lambda i: i.name)
def test_shapes_that_do_not_broadcast_are_reported_by_name(item):
    arguments = item.typical
    first, second, *_ = numeric_parameters(item)
    wrong = {first: np.full(3, arguments[first]), second: np.full(2, arguments[second])}
    with pytest.raises(ValueError, match=rf"{first} \(3,\), {second} \(2,\)"):
        item(**{**arguments, **wrong})


@pytest.mark.parametrize("item", [item for item in FORMULAS if item.edge], ids=lambda i: i.name)
def test_beyond_the_edge_every_kind_of_number_is_infinite(item):
    arguments = item.typical
    name = item.edge.parameter
    limit = float(item.edge.limit(arguments))
    assert math.isfinite(item(**{**arguments, name: limit * (1 - 1e-9)}))
    for value in (limit, 2 * limit, 1e300):
        assert item(**{**arguments, name: value}) == math.inf
    mixed = np.array([limit / 2, limit, 3 * limit])
    assert np.isinf(item(**{**arguments, name: mixed})).tolist() == [False, True, True]
    lazy = item(**{**arguments, name: xr.DataArray(mixed, dims="point").chunk(point=1)})
    assert np.isinf(lazy.compute().values).tolist() == [False, True, True]


# What is finite and not 0 on the way to its edge, beyond which it is infinite all the same.
FINITE_UP_TO_THE_EDGE = {
    "theory.deep_linear.predicted_final_sharpness",
    "theory.patterns.annealed_variance",
    "theory.patterns.noise_correlation",
    "theory.quadratic.covariance_ratio",
    "theory.quadratic.decayed_minimiser",
    "theory.quadratic.heavy_ball_equivalent_gain",
    "theory.quadratic.swa_variance_from_start",
    "theory.quadratic.two_point_variance",
    "theory.schedules.weight_decay_steps",
}


@pytest.mark.parametrize(
    "item", [item for item in FORMULAS if item.edge and item.name not in FINITE_UP_TO_THE_EDGE], ids=lambda i: i.name
)
def test_the_edge_is_where_the_value_has_grown_without_bound_or_a_ratio_to_it_has_vanished(item):
    """As a power of the distance from the edge: a limit that is wrong is a point like any other."""
    name = item.edge.parameter
    limit = float(item.edge.limit(item.typical))
    before, close = (item(**{**item.typical, name: limit * (1 - room)}) for room in (1e-6, 1e-9))
    assert abs(math.log10(close / before)) > 1.4  # a distance goes as the root, by 1.5; variances go by 3


def test_the_first_bad_entry_of_an_array_is_named():
    with pytest.raises(ValueError, match=re.escape("got -0.5 at index (1, 0)")):
        stationary_variance(np.array([[0.1, 0.2], [-0.5, 0.3]]))


# ---------------------------------------------------------------------------------------------------------------------
# Facts


ASSUME_NOTHING = {"theory.quadratic.equivalent_gain"}  # true by definition


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_facts_are_complete(item):
    assert item.status in ("exact", "bound", "asymptotic", "heuristic")
    assert item.source == "derived" or item.source.split(",")[0] in bibliography_keys()
    assert item.__doc__
    assert "Parameters" in item.__doc__
    assert "Examples" in item.__doc__
    assert list(inspect.signature(item).parameters) == list(item.domains)
    assert item.assumptions or item.name in ASSUME_NOTHING


def bibliography_keys() -> set[str]:
    from importlib.resources import files

    return set(re.findall(r"@\w+\{(\w+),", files("sgdynamics").joinpath("references.bib").read_text(encoding="utf-8")))


def test_formulas_are_filtered_and_shown_as_a_table():
    assert [item.name for item in formulas(about="average exponential variance")] == ["theory.quadratic.ema_variance"]
    chosen = formulas(stem="uv", status="asymptotic")
    assert chosen
    assert chosen == tuple(item for item in FORMULAS if item.stem == "uv" and item.status == "asymptotic")
    table = chosen.to_pandas()
    assert table.index.tolist() == [item.name for item in chosen]
    assert repr(chosen).count("\n") == len(chosen) + 1
    assert "<table" in chosen._repr_html_()
    assert not formulas(about="no such words")
    assert formulas(about="no such words").to_pandas().empty
    with pytest.raises(ValueError, match="status must be one of"):
        formulas(status="true")
    with pytest.raises(ValueError, match="stem must be one of"):
        formulas(stem="ema")


@pytest.mark.parametrize("item", FORMULAS, ids=IDS)
def test_symbolic_formulas_have_a_latex_form(item):
    if not item.symbolic:
        with pytest.raises(ValueError, match="must be asked of a symbolic formula"):
            item.latex()
        return
    assert "nan" not in item.latex()


def test_a_formula_is_pickled_by_reference():
    assert pickle.loads(pickle.dumps(ema_variance)) is ema_variance


def test_every_parameter_needs_a_range():
    with pytest.raises(TypeError, match="do not match parameters"):

        @formula(quantity="gain", status="exact", source="derived", gain=positive)
        def incomplete(gain, beta):
            return gain * beta


def test_a_status_outside_the_four_is_refused():
    with pytest.raises(ValueError, match="status must be one of"):

        @formula(quantity="gain", status="true", source="derived", gain=positive)
        def boastful(gain):
            return gain


def test_a_quantity_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"quantity must be one of \['angle'.*got 'happiness'"):

        @formula(quantity="happiness", status="exact", source="derived", gain=positive)
        def nameless(gain):
            return gain

    with pytest.raises(ValueError, match="quantity must be one of"):
        law(quantity="happiness")(print)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_labelled_result_says_what_it_is(lazy):
    gain = xr.DataArray([0.1, 0.5], dims="gain", attrs={"long_name": "gain", "units": "1"})
    found = stationary_variance(gain.chunk() if lazy else gain)
    assert found.name == "stationary_variance"
    assert found.attrs == {
        "long_name": "stationary variance",
        "units": "1",
        "status": "exact",
        "source": "theory.quadratic.stationary_variance",
    }
    assert (found.chunks is not None) == lazy
    assert stability_edge(gain).attrs["units"] == "1/curvature"


def test_every_source_can_be_cited(capsys):
    text = citation(quadratic_model.MiniBatchQuadratic([1.0], 1.0))
    assert not capsys.readouterr().out
    assert repr(text) == text
    assert text.count("@") == len(quadratic_model.SOURCES)
    for item in FORMULAS:
        assert "@" in citation(item)
    assert citation(quadratic_model) == text
    with pytest.raises(ValueError, match="thing must be a part of sgdynamics that has sources"):
        citation(math.sqrt)


def test_every_named_source_is_in_the_bibliography():
    import importlib

    for floor in ("models", "theory", "simulate"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for name in package.__all__:
            assert set(getattr(getattr(package, name), "SOURCES", ())) <= bibliography_keys()


def test_outcomes_have_sentences_and_cf_attributes():
    for outcome in Outcome:
        assert outcome.sentence.endswith(".")
        assert -128 <= outcome <= 127
    attributes = outcome_attributes(Outcome.REACHED, Outcome.NEVER_REACHED)
    assert attributes["flag_values"].dtype == np.int8
    assert len(attributes["flag_meanings"].split()) == attributes["flag_values"].size


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives


@pytest.mark.parametrize("item", [item for item in FORMULAS if item.symbolic], ids=lambda i: i.name)
def test_derivatives_agree_with_central_differences(item):
    arguments = item.typical
    for name in numeric_parameters(item):
        if getattr(item.domains[name], "integer", False):
            continue  # differences over whole numbers are no derivatives
        h = 1e-5 * arguments[name]
        above, below = ({**arguments, name: arguments[name] + sign * h} for sign in (1, -1))
        slope = (item(**above) - item(**below)) / (2 * h)
        assert item.derivative(name)(**arguments) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_derivatives_sweep_and_end_at_the_edge():
    slope = stationary_variance.derivative("gain")(np.array([0.5, 1.0, 2.5]))
    np.testing.assert_allclose(slope, [2 / 1.5**2, 2.0, math.nan])
    labelled = stationary_variance.derivative("gain")(xr.DataArray([0.5, 1.0], dims="gain"))
    assert labelled.dims == ("gain",)


def test_a_derivative_needs_a_numeric_parameter_of_a_symbolic_formula():
    with pytest.raises(ValueError, match="parameter must be one of"):
        stationary_variance.derivative("nesterov")
    numeric_only = next(item for item in FORMULAS if not item.symbolic)
    with pytest.raises(ValueError, match="asked of a symbolic formula"):
        numeric_only.derivative(next(iter(numeric_only.domains)))


# ---------------------------------------------------------------------------------------------------------------------
# The dispatch and its cancellation-free sums


@pytest.mark.parametrize(("ours", "reference"), [(sqrt, "sqrt"), (log, "log"), (exp, "exp")])
def test_elementary_functions_take_every_kind(ours, reference):
    x = sympy.Symbol("x")
    assert ours(x) == getattr(sympy, reference)(x)
    assert ours(0.7) == getattr(np, reference)(0.7)
    assert ours(xr.DataArray([0.7], dims="a").chunk()).chunks == ((1,),)


def test_where_takes_every_kind():
    x = sympy.Symbol("x")
    assert where(x > 0, 1, x).subs(x, -3) == -3
    assert where(True, 1.0, 2.0) == 1.0
    assert where(np.array([True, False]), 1.0, 2.0).tolist() == [1.0, 2.0]


gains = st.one_of(st.floats(-12, -0.01).map(lambda e: 10**e), st.floats(1.0, 2.0), st.just(0.0))
counts = st.integers(0, 400)


@given(gain=gains, count=counts)
def test_powers_and_sums_equal_exact_rational_arithmetic(gain, count):
    a = 1 - Fraction(gain)
    power, total, triangle = 1, 0, 0  # over the denominator's power that has been reached: no fraction is reduced
    for _ in range(count):
        total += power
        triangle += total
        power, total, triangle = power * a.numerator, total * a.denominator, triangle * a.denominator
    whole = a.denominator**count
    exact = {
        decay: Fraction(power, whole),
        decayed: 1 - Fraction(power, whole),
        geometric_sum: Fraction(total, whole),
        triangular_sum: Fraction(triangle, whole),
    }
    for function, value in exact.items():
        # alternating powers may cancel to less than one rounding of the terms themselves
        assert float(function(np.float64(gain), np.float64(count))) == pytest.approx(float(value), rel=2e-12, abs=1e-13)


@given(gain=st.floats(-9, -3).map(lambda e: 10**e), count=st.integers(1, 10**6))
def test_sums_keep_their_digits_where_the_textbook_forms_cancel(gain, count):
    with mpmath.workprec(200):  # 60 digits
        x, n = mpmath.mpf(gain), mpmath.mpf(count)
        a = 1 - x
        exact_sum = (1 - a**n) / x
        exact_triangle = (n - a * exact_sum) / x
    assert float(geometric_sum(np.float64(gain), np.float64(count))) == pytest.approx(float(exact_sum), rel=1e-13)
    assert float(triangular_sum(np.float64(gain), np.float64(count))) == pytest.approx(float(exact_triangle), rel=1e-12)


def test_gain_one_keeps_nothing():
    assert decay(1.0, 0.0) == 1.0
    assert decay(1.0, 3.0) == 0.0
    assert decayed(1.0, 3.0) == 1.0
    assert geometric_sum(1.0, 3.0) == 1.0


def test_static_ranges_compare_numbers_only():
    assert unit_interval.inside(np.array([-0.1, 0.0, 0.5, 1.0, math.nan])).tolist() == [False, True, True, False, False]
    assert positive.check("f", "gain", 3) == 3.0


def test_an_edge_may_depend_on_other_parameters():
    @formula(
        gain=positive,
        momentum=unit_interval,
        edge=stable_below(gain=lambda momentum: 2 + 2 * momentum),
        quantity="gain",
        status="exact",
        source="derived",
    )
    def moving(gain, momentum=0.0):
        return gain

    assert moving(2.5) == math.inf
    assert moving(2.5, 0.5) == 2.5


# ---------------------------------------------------------------------------------------------------------------------
# What an import costs


@pytest.mark.parametrize(
    "module", ["sgdynamics", "sgdynamics.models", "sgdynamics.theory", "sgdynamics.simulate.trainer"]
)
def test_importing_models_theory_and_trainer_loads_nothing_heavy(module):
    heavy = ("numba", "sympy", "sklearn", "matplotlib", "scipy.optimize", "scipy.stats", "dask", "tqdm")
    code = (
        f"import sys, {module}, sgdynamics.models.quadratic, sgdynamics.theory.schedules\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("exponent", [3.0, 2.5, -(2.0**60), 2.0**129, -(2.0**400), 1e308, 5e19, math.inf])
@pytest.mark.parametrize("base", [0.7, -0.7, 1 - 2.0**-53, 1 + 2.0**-52, -1.0, 2.0, 0.0, 1e-300, math.inf])
def test_a_power_to_any_exponent_is_that_of_repeated_multiplication(base, exponent):
    x, n = sympy.symbols("x n", real=True)
    for whole, odd in ((n, 0), (n + 1, 1)):  # beside a large even number there is an odd one that is no float
        with mpmath.workprec(2600):
            try:
                expected = mpmath.mpf(base) ** (mpmath.mpf(exponent) + odd)
                expected = math.nan if isinstance(expected, mpmath.mpc) else float(expected)
            except (ZeroDivisionError, ValueError):
                expected = math.nan
        found = PreciseExpression({"x": x, "n": n}, x**whole).value(base, exponent)
        assert found == pytest.approx(expected, rel=2.0**-52, abs=0.0, nan_ok=True)


def test_a_large_power_keeps_the_digits_that_cancel():
    """(1 + 1/n)^n is e - e/(2n) and more: from n = 10^40 on, the second term is beyond the digits of a float."""
    n = sympy.Symbol("n", positive=True)
    rest = PreciseExpression({"n": n}, n * (sympy.E - (1 + 1 / n) ** n))
    for size in (1e10, 1e40, 1e150, 1e300):
        assert rest.value(size) == pytest.approx(math.e / 2 - 11 * math.e / 24 / size, rel=1e-15)
