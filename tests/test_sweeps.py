"""One rule for what arguments span, held over every public function of theory and simulate.

A plain 1-D array spans an axis of the argument's own name, or it is refused; a DataArray sweeps over its dims, or it is
refused. Nothing takes an array for a number, drops an axis, or ends in an error of another library.
"""

import numbers

import numpy as np
import pytest
import xarray as xr
from test_arguments import FUNCTIONS, SOUND, run

from sgdynamics.domains import Interval, one, optional, positive, swept
from sgdynamics.formula import Formula
from sgdynamics.sweeps import AXES, SEQUENCES, spanned, steps_to_record

NUMBERS = (Interval, type(one(positive)), type(swept(positive)))
# Starts of orbits are numbered: plain arrays of them lie along "start".
NUMBERED = "simulate.edge_of_stability."
# A number may stand for a sequence along the steps, or goes with one: they are swept together.
CONSTANT = {
    ("theory.schedules.merge_plan", "base_learning_rate"),
    ("theory.schedules.gains_from_weights", "start_weight"),
}


def interval(domain):
    """The domain of a number, also where None is allowed."""
    inner = getattr(domain, "domain", domain)
    return inner if isinstance(inner, NUMBERS) else None


def cases():
    for name, function in FUNCTIONS.items():
        if name.split(".")[0] not in ("theory", "simulate") or isinstance(function, Formula):
            continue
        for parameter, domain in function.domains.items():
            value = SOUND[name].get(parameter)
            sound = isinstance(value, numbers.Real)
            if interval(domain) is not None and sound and (name, parameter) not in CONSTANT:
                yield name, parameter, value


CASES = list(cases())


def parts(result):
    """The arrays of a result, which may be rows of them."""
    if isinstance(result, xr.Dataset):
        yield from result.data_vars.values()
    elif isinstance(result, tuple | list):
        for part in result:
            yield from parts(part)
    else:
        yield result


def test_there_is_something_to_hold():
    assert len(CASES) > 150


@pytest.mark.parametrize(("name", "parameter", "value"), CASES, ids=[f"{name}({which})" for name, which, _ in CASES])
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "labelled"])
def test_an_array_spans_an_axis_or_is_refused(name, parameter, value, plain):
    given = np.array([value, value]) if plain else xr.DataArray([value, value], dims="point")
    wanted = {parameter, "start"} if plain and name.startswith(NUMBERED) else {parameter} if plain else {"point"}
    found = refusal = None
    try:
        found = run(FUNCTIONS[name], {**SOUND[name], parameter: given})
    except (ValueError, TypeError) as error:
        refusal = str(error)
    if refusal is not None:
        assert parameter in refusal
        assert "must" in refusal
        return
    spans = [wanted & set(part.dims) if isinstance(part, xr.DataArray) else plain and 2 in np.shape(part)
             for part in parts(found)]  # fmt: skip
    assert any(spans)


@pytest.mark.parametrize("axis", AXES)
def test_a_plain_array_is_labelled_by_its_values(axis):
    made = spanned("f", axis, np.array([1.0, 2.0]), axis=axis)
    assert made.dims == (axis,)
    assert made[axis].values.tolist() == [1.0, 2.0]
    assert made[axis].attrs == AXES[axis]


@pytest.mark.parametrize("axis", SEQUENCES)
def test_a_sequence_is_no_number(axis):
    assert spanned("f", "schedule", np.ones(3), axis=axis).dims == (axis,)
    for wrong in (1.0, np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"f: schedule must be 1-D or a DataArray, got shape \("):
            spanned("f", "schedule", wrong, axis=axis)


def test_what_a_result_has_of_its_own_is_no_axis_of_a_sweep():
    with pytest.raises(ValueError, match="x must be swept over dims other than"):
        spanned("f", "x", xr.DataArray([1.0], dims="step"), reserved=["step", "seed"])


def test_one_number_is_no_array_and_no_symbol():
    import sympy

    for domain in (one(positive), optional(one(positive))):
        assert domain.check("f", "x", 3) == 3.0
        assert domain.check("f", "x", np.array(3.0)) == 3.0
        for wrong in ([1.0, 2.0], np.ones(2), xr.DataArray([1.0]), sympy.Symbol("x"), True, "1", -1.0):
            with pytest.raises((ValueError, TypeError), match=r"f: x must be .*finite number > 0"):
                domain.check("f", "x", wrong)


def test_the_last_step_is_kept_where_nothing_is_said():
    assert steps_to_record("f", None, 7).tolist() == [7]
    assert steps_to_record("f", [0, 7], 7).tolist() == [0, 7]
    with pytest.raises(ValueError, match=r"f: record must be increasing steps in 0\.\.T = 7, got 8"):
        steps_to_record("f", [0, 8], 7)
