"""Eight threads of a user's own that call everything at once get the bits that one gets, and BLAS is as it was."""

from __future__ import annotations

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import xarray as xr
from cases import merged
from test_arguments import FUNCTIONS
from threadpoolctl import threadpool_info, threadpool_limits

from sgdynamics import formulas
from sgdynamics._blas import one_blas_thread

THREADS = 8
SOUND = merged("SOUND")
# merge writes one file, and that is another test's; what reads a spectrum needs its file
CALLS = [name for name in SOUND if not name.startswith("ground.") and "from_csv" not in name]


def bits(value):
    """What a result is, to the last bit, in a form that can be compared."""
    if isinstance(value, xr.Dataset):
        return {name: bits(variable) for name, variable in value.variables.items()}, repr(sorted(value.attrs.items()))
    if isinstance(value, xr.DataArray):
        return bits(value.to_dataset(name="value"))
    if isinstance(value, xr.Variable):
        return value.dims, bits(value.values)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, float | np.generic):
        return np.asarray(value).dtype.str, np.asarray(value).tobytes()
    if isinstance(value, dict):
        return [(name, bits(entry)) for name, entry in value.items()]
    if isinstance(value, tuple | list | np.ndarray):
        return [bits(entry) for entry in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, bits(getattr(value, field.name))) for field in dataclasses.fields(value)]
    if value is None or isinstance(value, bool | int | str | bytes):
        return value
    return type(value).__name__


def call(name):
    result = FUNCTIONS[name](**SOUND[name])
    return bits(list(result) if hasattr(result, "__next__") else result)


def blas():
    return sorted(
        (entry["filepath"], entry["num_threads"]) for entry in threadpool_info() if entry["user_api"] == "blas"
    )


@pytest.mark.slow
def test_eight_threads_get_the_bits_of_one_and_leave_blas_as_it_was():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the filters belong to the process, and threads would change them in turn
        expected = {name: call(name) for name in CALLS}
        before, together = blas(), Barrier(THREADS)

        def everything(thread):
            together.wait()
            start = thread * len(CALLS) // THREADS  # another order in every thread
            return {name: call(name) for name in CALLS[start:] + CALLS[:start]}

        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(everything, range(THREADS)))
    assert len(CALLS) > 150
    for results in found:
        differing = [name for name in CALLS if results[name] != expected[name]]
        assert not differing
    assert blas() == before


def sizes():
    return {threads for _, threads in blas()}


def test_the_limit_of_blas_is_set_and_restored_whatever_threads_come_first_and_last():
    entered, left = Barrier(2), Barrier(2)

    def first():
        with one_blas_thread():
            entered.wait()
            left.wait()

    with threadpool_limits(limits=2, user_api="blas"), ThreadPoolExecutor(1) as pool:  # set in this thread
        running = pool.submit(first)  # held in another
        entered.wait()
        with one_blas_thread():
            within = sizes()
            left.wait()
            running.result()
            alone = sizes()
        after = sizes()
    assert within == alone == {1}
    assert after == {2}


def test_formulas_are_listed_alike_in_eight_threads():
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: [item.name for item in formulas()], range(THREADS)))
    assert all(names == found[0] for names in found)


def test_bits_tell_results_apart():
    assert bits(0.0) != bits(-0.0)
    assert bits(np.nextafter(1.0, 2.0)) != bits(1.0)
    assert bits(xr.DataArray([1.0], dims="step")) != bits(xr.DataArray([1.0], dims="mode"))
    assert bits({"a": np.zeros(2)}) == bits({"a": np.zeros(2)})
