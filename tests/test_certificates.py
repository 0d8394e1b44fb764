"""Every flag that certifies something is given where it is earned, and has data at which it must not be given."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from cases import merged

from sgdynamics.outcome import Outcome
from sgdynamics.simulate import trainer

SOUND = {name: arguments for name, arguments in merged("SOUND").items() if name.count(".") == 2}
RANDOM = np.random.default_rng(0)
STEP = np.arange(400)
NOISE = RANDOM.normal(size=(400, 3))
TRIED = np.array([0.0, 0.1, 0.2])


def public(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    made: Callable[..., Any] = getattr(importlib.import_module(f"sgdynamics.{module}"), function)
    return made


def remembering(memory: float) -> Any:
    """A loss about 1 that forgets its past in some 1/(1 - memory) records."""
    random, values = np.random.default_rng(1), [0.0]
    for kick in random.normal(size=399):
        values.append(memory * values[-1] + kick * (1 - memory**2) ** 0.5)
    return 1 + 0.1 * np.array(values)


# by name, arguments that earn the flag and arguments that do not
DIAGNOSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "theory.diagnosis.half_rate_vertex": tuple(
        {"loss": loss, "trial_rate": TRIED, "learning_rate": 0.1, "seed": 0}
        for loss in (2 + (TRIED - NOISE[:40, :1] / 100 - 0.05) ** 2, 2 + NOISE[:40] / 10)
    ),
    "theory.diagnosis.gradient_cosines": tuple(
        {"gradient": NOISE[:count], "independent_gradient": NOISE[100 : 100 + count], "blocks": blocks, "seed": 0}
        for count, blocks in ((40, 5), (40, 3))
    ),
    "theory.diagnosis.distance_plateau": ({"weights": NOISE}, {"weights": np.linspace(0, 1, 400)[:, None] + 0 * NOISE}),
    "theory.diagnosis.fit_loss_curve": tuple(
        {"step": STEP, "loss": loss + NOISE[:, 0] / 1000} for loss in (1 + (1 + STEP / 4) ** -0.7, 1 + 0.0 * STEP)
    ),
    "theory.diagnosis.diagnose": tuple(
        {"run": {"loss": remembering(memory)}, "seed": 0} for memory in (0.0, 0.999)
    ),
}  # fmt: skip
LONG = {"steps": 4000, "record": [4000]}
ORBITS = {
    name: tuple({**SOUND[name], **options, **length} for length in (LONG, {"steps": 2, "record": [2]}))
    for name, options in {
        "simulate.deep_linear.chain_trajectory": {},
        "simulate.deep_linear.network_trajectory": {"tol": 0.13},  # its inputs leave a loss of 1/8
        "simulate.edge_of_stability.product_orbits": {"learning_rate": 0.1},
        "simulate.edge_of_stability.four_factor_orbits": {"learning_rate": 0.05},
        "simulate.edge_of_stability.second_order_orbits": {"learning_rate": 0.1},
    }.items()
}


@pytest.mark.parametrize("name", DIAGNOSES)
def test_what_the_data_do_not_bound_is_not_identifiable(name):
    earned, not_earned = (public(name)(**arguments) for arguments in DIAGNOSES[name])
    assert (earned.identifiable == 1).any()
    unbounded = not_earned.identifiable == 0
    assert unbounded.any()
    for found in (earned, not_earned):  # the flag is the interval
        bounded = np.isfinite(found.lower) & np.isfinite(found.upper)
        np.testing.assert_array_equal(found.identifiable == 1, bounded)


@pytest.mark.parametrize("name", ORBITS)
def test_a_run_that_has_not_arrived_has_not_converged(name):
    earned, not_earned = (public(name)(**arguments) for arguments in ORBITS[name])
    assert (earned.outcome == Outcome.CONVERGED).any()
    assert not (not_earned.outcome == Outcome.CONVERGED).any()


def test_a_search_that_was_stopped_has_not_converged():
    net = trainer.network([30, 20, 5], "tanh", seed=0)
    objective = trainer.Objective(net, RANDOM.normal(size=(12, 30)), RANDOM.integers(5, size=12), "cross_entropy")
    exact = np.linalg.eigvalsh(trainer.hessian_matrix(objective))[-1]
    found, stopped = (trainer.top_eigenpairs(objective, max_products=most) for most in (2000, 3))
    assert found.converged
    assert found.values[0] == pytest.approx(exact, rel=2e-2)
    assert not stopped.converged


def test_every_certifying_flag_is_in_a_table():
    """Of the laws and simulations that run in a moment, those whose result has such a flag."""
    flagged = set()
    for name, arguments in SOUND.items():
        if not name.startswith(("theory.diagnosis", "simulate.deep_linear", "simulate.edge", "simulate.trainer.top")):
            continue
        found = public(name)(**arguments)
        meanings = found.outcome.attrs["flag_meanings"] if "outcome" in getattr(found, "variables", ()) else ""
        if (
            hasattr(found, "identifiable")
            or "converged" in meanings.split()
            or (hasattr(found, "converged") and not isinstance(found, xr.Dataset))
        ):
            flagged.add(name)
    searches = {"simulate.trainer.top_eigenpairs", "simulate.trainer.top_hessian_eigenvalues"}
    assert flagged == DIAGNOSES.keys() | ORBITS.keys() | searches
