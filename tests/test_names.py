"""A name stands for one thing, and says which: over all rows, and for whatever runs a model."""

import importlib
import inspect
import pkgutil
from collections import defaultdict

import pytest

import sgdynamics
from sgdynamics.formula import Formula

# One name in theory and in simulate is one quantity by two routes, or one verb for two models.
VERBS = ("trajectory", "ensemble", "orbits", "phase_diagram", "flow")
SHARED = {"ensemble", "trajectory", "critical_rate"}
# What runs for the sake of something else, and is named after that.
ABOUT = {
    "lyapunov": "an exponent",
    "top_lyapunov_exponent": "an exponent",
    "persistent_catapults": "the rates that runs choose",
    "train": "the front of a trajectory, whose name is fixed",
    "network_thresholds": "rates at which something begins",
    "network_saturation": "a sharpness at one time",
}
RUNNING = {"steps", "schedule", "record", "c", "time"}


def rows(floor):
    package = importlib.import_module(f"sgdynamics.{floor}")
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            yield info.name, importlib.import_module(f"sgdynamics.{floor}.{info.name}")


def functions(floor):
    for row, module in rows(floor):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or isinstance(thing, Formula):
                yield row, name, thing


def test_no_name_stands_for_two_things():
    homes = defaultdict(dict)
    for floor in ("models", "theory", "simulate"):
        for row, name, thing in functions(floor):
            homes[name].setdefault(id(thing), f"{floor}.{row}")
    twice = {name: sorted(places.values()) for name, places in homes.items() if len(places) > 1}
    assert set(twice) == SHARED, twice


def test_an_edge_is_a_learning_rate():
    edges = [item for item in sgdynamics.formulas() if item.name.split("_")[-1] in ("edge", "edges")]
    assert len(edges) > 10
    assert {item.quantity for item in edges} == {"learning rate"}


RUNS = [
    (f"{row}.{name}", name)
    for row, name, thing in functions("simulate")
    if RUNNING & set(inspect.signature(thing).parameters)
]


def test_there_are_runs_to_name():
    assert len(RUNS) > 15
    assert set(ABOUT) <= {name for _, name in RUNS}  # no exception for what is gone


@pytest.mark.parametrize(("where", "name"), RUNS, ids=[where for where, _ in RUNS])
def test_what_runs_a_model_is_named_by_its_verb(where, name):
    assert name.endswith(VERBS) or name in ABOUT


def test_none_of_the_old_words_is_left():
    old = ("_descent", "_runs", "finite_network", "predict_")
    names = [name for floor in ("theory", "simulate") for _, name, _ in functions(floor)]
    assert [name for name in names if name.endswith(old[:3]) or name.startswith(old[3])] == []
