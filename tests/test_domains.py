"""The ranges of arguments: one number, a number that may be swept, an array."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sgdynamics.domains import ArrayOf, integer, nonnegative, one, positive, swept, whole

RATES = ArrayOf((1,), "an increasing 1-D array of finite numbers > 0", positive, increasing=True)
TABLE = ArrayOf((1, 2), "numbers >= 0 of one or two axes", nonnegative)
STEPS = ArrayOf((1,), "steps", whole, increasing=True)


@given(hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-2, 10)))
def test_an_array_is_taken_exactly_if_its_axes_and_all_its_entries_are_right(values):
    fits = values.ndim <= 2 and (values >= 0).all()
    for given_ in (values, values.tolist(), xr.DataArray(values), xr.DataArray(values).chunk(), values.T.copy().T):
        if fits:
            found = TABLE.check("f", "table", given_)
            assert type(found) is np.ndarray
            assert found.dtype == np.float64
            assert found.flags.c_contiguous
            assert (found == values).all()
        else:
            with pytest.raises(ValueError, match=r"f: table must be numbers >= 0 of one or two axes, got"):
                TABLE.check("f", "table", given_)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5))
def test_increasing_is_strict(values):
    if all(low < high for low, high in itertools.pairwise(values)):
        assert RATES.check("f", "rates", values).tolist() == values
    else:
        with pytest.raises(ValueError, match="f: rates must be an increasing"):
            RATES.check("f", "rates", values)


def test_whole_numbers_come_back_as_integers():
    found = STEPS.check("f", "steps", [0.0, 3.0])
    assert found.dtype == np.int64
    assert found.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([], ValueError),
        ([[1.0], [1.0, 2.0]], ValueError),
        (1.0, ValueError),
        ([math.nan], ValueError),
        ([math.inf], ValueError),
        (np.ma.masked_greater([1.0, 2.0], 1.5), ValueError),
        (["1"], TypeError),
        ([True], TypeError),
        ([1j], TypeError),
        (None, TypeError),
        ("1", TypeError),
    ],
    ids=repr,
)
def test_what_is_no_array_of_numbers_is_refused_by_name(value, kind):
    with pytest.raises(kind, match=r"f: rates must be an increasing 1-D array of finite numbers > 0.*, got"):
        RATES.check("f", "rates", value)


def test_one_number_is_no_array_and_a_swept_one_is_labelled():
    assert type(one(positive).check("f", "x", np.int64(2))) is float
    with pytest.raises(ValueError, match=re.escape("f: x must be one number, a finite number > 0, got [1.0]")):
        one(positive).check("f", "x", [1.0])
    assert swept(positive).check("f", "x", xr.DataArray([1.0, 2.0])).shape == (2,)
    with pytest.raises(ValueError, match="f: x must be a finite number > 0, or a DataArray of them, got"):
        swept(positive).check("f", "x", [1.0])


def test_an_integer_has_ends_and_any_size():
    assert integer(1).check("f", "n", 2**70) == 2**70
    assert integer(1, 14).check("f", "n", 14.0) == 14
    for wrong in (0, 15, 2.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"f: n must be an integer in 1\.\.14, got"):
            integer(1, 14).check("f", "n", wrong)
    with pytest.raises(TypeError, match="f: n must be an integer >= 1, got True"):
        integer(1).check("f", "n", True)
