"""Every check of every figure is fed data in which its claim is otherwise, and has to say so.

The data are those of the quick figures, made by ``python -m figures --fast`` or, where they are not current, here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pytest
import xarray as xr
from false_data import alterations

from figures.engine.catalogue import catalogue
from figures.engine.check import Check, Claim, heuristic
from figures.engine.fingerprint import fingerprint, shared_digest
from figures.engine.runner import _is_current
from figures.engine.worker import Order

FIGURES = catalogue("figures")
MADE = Path(os.environ.get("SGDYNAMICS_FIGURES", Path(__file__).parents[1] / "out" / "figures"))

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def shared() -> str:
    return shared_digest("figures")


def _quick(name: str, shared: str, home: Path) -> xr.Dataset:
    """The data of the quick figure, as it is read back from its file."""
    mark = fingerprint(FIGURES[name], fast=True, shared=shared)
    if _is_current(Order("figures", name, "", True, MADE, mark)):
        return xr.load_dataset(MADE / f"{name}.nc", engine="h5netcdf")
    importlib.import_module(FIGURES[name].module).compute(True).to_netcdf(home / "data.nc", engine="h5netcdf")
    return xr.load_dataset(home / "data.nc", engine="h5netcdf")


class Compared(dict[str, tuple[Check, np.ndarray]]):
    """The checks of a figure by their claims, with all that each of them measured."""

    def __init__(self, module: ModuleType, data: xr.Dataset, *, false: bool = False) -> None:
        super().__init__()
        compare = Claim._compared

        def seen(claim, comparison, predicted, measured, **rest):
            check = compare(claim, comparison, predicted, measured, **rest)
            self[check.claim] = check, np.array(measured, dtype=float)
            return check

        with patch.object(Claim, "_compared", seen):
            checks = module.checks(data)
            self.count = sum(1 for _ in (_until_it_raises(checks) if false else checks))


def _until_it_raises(checks: Iterator[Check]) -> Iterator[Check]:
    """What comes before a check that cannot be made of such data, an infinite standard error for one."""
    try:
        yield from checks
    except (ValueError, KeyError, IndexError, ZeroDivisionError):
        return


def _blind(module: ModuleType, data: xr.Dataset) -> set[str]:
    """Claims whose verdict stays the same whatever is done to what was measured."""
    true = Compared(module, data)
    assert true.count == len(true), "two checks of one figure make the same claim"
    blind = set(true)
    for _, false in alterations(data):
        found = Compared(module, false, false=True)
        for claim in blind & set(found):
            # Only where the measurement is another one: a changed prediction would prove nothing about it.
            (check, numbers), (before, measured) = found[claim], true[claim]
            moved = numbers.shape != measured.shape or not np.array_equal(numbers, measured, equal_nan=True)
            if moved and (check.verdict == "holds") != (before.verdict == "holds"):
                blind.remove(claim)
        if not blind:
            break
    return blind


# --------------------------------------------------------------------------------- what only the full figures have


def _spread(mean: xr.DataArray, spread: float, **dims: int) -> xr.DataArray:
    """Values about a mean, independent along all dims."""
    for dim, count in dims.items():
        mean = mean.expand_dims({dim: np.arange(count)})
    noise = np.random.default_rng(7).standard_normal(mean.shape)
    return mean * (1 + spread * noise)


def _many_pairs(data: xr.Dataset) -> xr.Dataset:
    gains = {name: _spread(xr.DataArray(0.0025), 1.5, pair=200) for name in ("gain", "gain_at_loss")}
    return data.assign(gains)


def _many_conditions(data: xr.Dataset) -> xr.Dataset:
    mean = xr.DataArray([[20.0, 20.0], [16.0, 19.0]], dims=("digits_rate", "digits_batch_size"))
    mean = mean.assign_coords(digits_rate=[0.1, 0.4], digits_batch_size=[8, 32])
    return data.drop_vars("digits_condition").drop_dims("seed").assign(digits_condition=_spread(mean, 0.01, seed=10))


def _many_paths(data: xr.Dataset) -> xr.Dataset:
    mean = xr.DataArray([[1.1, 0.9], [0.9, 0.7]], dims=("path_rate", "path_batch_size"))
    mean = mean.assign_coords(path_rate=[0.1, 0.4], path_batch_size=[8, 1024])
    bare = data.drop_dims(["path_rate", "path_batch_size", "path_seed"])
    return bare.assign(largest_covariance_top=_spread(mean, 0.02, path_seed=8))


def _many_draws(data: xr.Dataset) -> xr.Dataset:
    full = {
        name: _spread(data[name].isel(patch_seed=0, drop=True), 0.02, patch_seed=20)
        for name in ("clean_error", "patch_error", "short_patch_error")
    }
    return data.drop_dims("patch_seed").assign(full)


def _many_narrow_networks(data: xr.Dataset) -> xr.Dataset:
    thresholds = {
        f"narrow_{name}": _spread(xr.DataArray(mean), 0.05, narrow_seed=100)
        for name, mean in (("c_loss", 5.0), ("c_sharp", 8.0))
    }
    width = xr.DataArray([16, 32, 64, 128], dims="zero_width", coords={"zero_width": [16, 32, 64, 128]})
    from_zero = _spread(2 + 1.6 / width**0.5, 0.002, zero_seed=20)
    censored = {f"{name}_censored": xr.zeros_like(values) for name, values in thresholds.items()}
    full = thresholds | censored | {"zero_output_c_loss": from_zero}
    return data.drop_dims(["zero_width", "zero_seed"]).assign(full)


IN_FULL: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "jastrzebski2018_nudged_sgd": _many_pairs,
    "jastrzebski2020_conditioning": _many_conditions,
    "jastrzebski2020_variance_reduction": _many_paths,
    "kalra2023_network_phase_diagram": _many_narrow_networks,
    "li2019_digits": _many_draws,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_FULL)
def test_so_do_those_of_the_full_figures(name, shared, tmp_path):
    module, data = importlib.import_module(FIGURES[name].module), _quick(name, shared, tmp_path)
    full = IN_FULL[name](data)
    assert set(Compared(module, data)) < set(Compared(module, full))
    assert _blind(module, full) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_check_sees_that_its_claim_is_false(name, shared, tmp_path):
    data = _quick(name, shared, tmp_path)
    assert _blind(importlib.import_module(FIGURES[name].module), data) == set()


# ------------------------------------------------------------------------------------------------- the mechanism itself


def _module(checks) -> ModuleType:
    module = ModuleType("figure")
    module.checks = checks
    return module


RUN = xr.Dataset({"sharpness": ("step", [1.0, 0.8, 0.9, 1.5, 2.0])}, {"step": np.arange(5)})


def test_a_minimum_that_includes_the_start_is_found_out():
    def minimum(data):
        ratio = data.sharpness / data.sharpness[0]
        yield heuristic("falls below its start").below(1.0, ratio.min("step"))

    def later(data):
        ratio = data.sharpness / data.sharpness[0]
        yield heuristic("falls below its start").below(0.95, ratio[1:].min("step"))

    assert _blind(_module(minimum), RUN) == {"falls below its start"}
    assert _blind(_module(later), RUN) == set()


def test_what_is_ordered_or_picked_by_construction_is_found_out():
    def ordered(data):
        yield heuristic("grows").positive(np.diff(np.unique(data.sharpness)))

    def picked(data):
        near = data.sharpness.where(abs(data.sharpness - 2) < 0.1)
        yield heuristic("is 2").close(2.0, near.fillna(2.0).mean(), absolute=0.1)

    def constant(data):
        yield heuristic("is 3").close(3.0, 3.0)

    def prediction(data):
        yield heuristic("as foretold").close(data.sharpness[0], 1.0)

    for checks in (ordered, picked, constant, prediction):
        (claim,) = Compared(_module(checks), RUN)
        assert _blind(_module(checks), RUN) == {claim}
