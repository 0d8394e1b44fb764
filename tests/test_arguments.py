"""Bad input to any public function is answered with the parameter, the value and the range.

The cases are made from the signatures: every parameter in turn is given every kind of garbage, the others are sound.
What a parameter may legitimately be is listed by hand in :mod:`cases`, and is then required to work.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil

import numpy as np
import pytest
from cases import also_sound, merged

import sgdynamics
import sgdynamics.checkpoints
import sgdynamics.logs
from sgdynamics.formula import Formula

SOUND = merged("SOUND")
INSTANCES = merged("INSTANCES")
WRONG_LENGTH = merged("WRONG_LENGTH")
GARBAGE = {"nan": math.nan, "inf": math.inf, "-1": -1, "'a'": "a", "None": None, "[]": []}


def public_modules():
    for floor in ("models", "theory", "simulate"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith("_"):
                yield floor, info.name, importlib.import_module(f"sgdynamics.{floor}.{info.name}")
    yield "ground", "checkpoints", sgdynamics.checkpoints
    yield "ground", "logs", sgdynamics.logs


def public_functions():
    for floor, stem, module in public_modules():
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                yield f"{floor}.{stem}.{name}", thing
            elif inspect.isclass(thing) and hasattr(thing, "domains"):
                yield f"{floor}.{stem}.{name}", thing
                for method, member in inspect.getmembers(thing):
                    if not method.startswith("_") and hasattr(member, "domains") and callable(member):
                        owner = member if inspect.ismethod(member) else getattr(INSTANCES[name], method)
                        yield f"{floor}.{stem}.{name}.{method}", owner


FUNCTIONS = dict(public_functions())


@pytest.fixture(autouse=True, scope="module")
def spectrum_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("spectrum") / "spectrum.csv"
    path.write_text("1.0\n0.5\n", encoding="utf-8")
    SOUND["models.quadratic.MiniBatchQuadratic.from_csv"]["path"] = str(path)


def run(function, arguments):
    result = function(**arguments)
    return list(result) if inspect.isgenerator(result) else result


def test_every_public_function_is_covered_and_declares_every_parameter():
    assert set(FUNCTIONS) == set(SOUND)
    for name, function in FUNCTIONS.items():
        assert set(SOUND[name]) == set(inspect.signature(function).parameters) == set(function.domains), name


def test_batches_are_drawn_without_replacement_unless_asked():
    defaults = {}
    for floor, stem, module in public_modules():
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing) or isinstance(thing, Formula):
                parameters = inspect.signature(thing).parameters
                if "replacement" in parameters:
                    defaults[f"{floor}.{stem}.{name}"] = parameters["replacement"].default
    named = {"simulate.trainer.Batches", "simulate.trainer.draw_batches", "theory.break_even.batch_variance_factor"}
    assert named < set(defaults)
    assert all(default is False for default in defaults.values()), defaults


@pytest.mark.parametrize("name", SOUND)
def test_sound_arguments_work(name):
    run(FUNCTIONS[name], SOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_garbage_is_reported_by_parameter_value_and_range(name):
    function = FUNCTIONS[name]
    for parameter in SOUND[name]:
        for label, garbage in GARBAGE.items():
            arguments = {**SOUND[name], parameter: garbage}
            if also_sound(name, parameter, label):
                run(function, arguments)
                continue
            if (name, parameter, label) == ("models.quadratic.MiniBatchQuadratic.from_csv", "path", "'a'"):
                with pytest.raises(FileNotFoundError):
                    run(function, arguments)
                continue
            with pytest.raises((ValueError, TypeError)) as caught:
                run(function, arguments)
            message = str(caught.value)
            case = f"{name}({parameter}={label}): {message}"
            assert parameter in message, case
            assert "must" in message, case
            assert repr(garbage) in message or str(float("nan" if label == "nan" else "inf")) in message, case


@pytest.mark.parametrize("name", WRONG_LENGTH)
def test_a_wrong_length_is_reported_by_parameter(name):
    parameter, value = WRONG_LENGTH[name]
    with pytest.raises(ValueError, match=parameter):
        run(FUNCTIONS[name], {**SOUND[name], parameter: value})


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if not isinstance(function, Formula)])
def test_a_missing_or_unknown_parameter_is_a_type_error(name):
    with pytest.raises(TypeError, match="no_such_parameter") as caught:
        run(FUNCTIONS[name], {**SOUND[name], "no_such_parameter": 1})
    assert str(caught.value).startswith((f"{FUNCTIONS[name].__name__}: ", f"{FUNCTIONS[name].__name__}.__init__() "))


@pytest.mark.parametrize("name", SOUND)
def test_masked_entries_are_refused_in_every_parameter(name):
    masked = np.ma.masked_array([0.25, 0.5, math.nan], mask=[False, False, True])
    for parameter in SOUND[name]:
        if getattr(FUNCTIONS[name].domains[parameter], "takes_masked", False):
            continue  # what is masked is missing there, by its own tests
        with pytest.raises(ValueError, match=rf"{parameter} must be .*, none of them masked, got 1 masked of 3"):
            run(FUNCTIONS[name], {**SOUND[name], parameter: masked})
        for hidden in ([masked], (1.0, masked), [[1.0], (2.0, masked)], {"a": masked}, [{"a": [masked]}]):
            with pytest.raises(ValueError, match=rf"{parameter} must be .*, none of them masked, got 1 masked of 3"):
                run(FUNCTIONS[name], {**SOUND[name], parameter: hidden})


def test_the_package_lists_its_formulas_once():
    names = [item.name for item in sgdynamics.formulas(kind="formula")]
    assert len(names) == len(set(names)) > 30
