"""One word for one thing, over every public function of models, theory and simulate."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re

import pytest

import sgdynamics
from sgdynamics import formulas
from sgdynamics._showing import Shown
from sgdynamics.cli import _parser as command
from sgdynamics.formula import Formula
from sgdynamics.simulate.trainer import Batches
from sgdynamics.theory.schedules import gain_kept, merge_plan

# Aliases of words beside other things: callables for activations and losses, sizes for units.
ALIASES = {"Shape", "AnyActivation", "AnyLoss"}
# Figures walk over the words of this row as strings.
PATTERNS = ("models.patterns", "theory.patterns", "simulate.patterns")


def public():
    """Every public function and class that is called, by its full name."""
    found = {}
    for floor in ("models", "theory", "simulate"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for stem in package.__all__:
            row = importlib.import_module(f"sgdynamics.{floor}.{stem}")
            for name in row.__all__:
                item = getattr(row, name)
                if isinstance(item, type | Formula) or inspect.isfunction(item):
                    found[f"{floor}.{stem}.{name}"] = item
                    if isinstance(item, type):
                        methods = {key: getattr(item, key) for key in vars(item) if not key.startswith("_")}
                        found |= {f"{floor}.{stem}.{name}.{key}": one for key, one in methods.items() if callable(one)}
    return found


PUBLIC = public()


def uses(word):
    """The public names that have a parameter of this name, with it."""
    found = {}
    for name, item in PUBLIC.items():
        try:
            parameters = inspect.signature(item).parameters
        except ValueError:  # what NumPy and others make
            continue
        if word in parameters:
            found[name] = parameters[word]
    return found


def test_everything_public_is_looked_at():
    assert len(PUBLIC) > 400
    assert len(uses("learning_rate")) > 50


def test_a_seed_is_asked_for():
    """Except where it draws no result: a map beside its ``seeds``, and resampling of data that are given."""
    given = {name for name, parameter in uses("seed").items() if parameter.default is not inspect.Parameter.empty}
    assert given == {
        "simulate.uv.phase_diagram",
        "theory.diagnosis.diagnose",
        "theory.diagnosis.gradient_cosines",
        "theory.diagnosis.half_rate_vertex",
    }
    assert {uses("seed")[name].default for name in given} == {0}


def test_runs_are_replicas_and_networks_of_a_map_are_seeds():
    """Results have the dim ``replica`` or ``seed``; no function has both words."""
    maps = {
        "simulate.uv.phase_diagram",
        "simulate.trainer.network_saturation",
        "simulate.trainer.network_thresholds",
        "theory.patterns.gap_map",
    }
    assert set(uses("seeds")) == maps
    assert len(uses("replicas")) >= 5
    assert not maps & set(uses("replicas"))


def test_a_rate_is_a_learning_rate_except_where_a_schedule_is_made():
    made = {name for name in PUBLIC if name.startswith("models.schedules.")} | {"theory.quadratic.best_power_decay"}
    assert set(uses("rate")) <= made
    for other in ("lr", "eta", "step_size", "rates", "learning_rates"):
        assert not uses(other), other


def test_tolerances_are_called_tol():
    assert len(uses("tol")) >= 8
    for other in ("tolerance", "rtol", "atol", "eps", "epsilon", "accuracy_goal"):
        assert not uses(other), other


@pytest.mark.parametrize(
    ("word", "default"), [("momentum", 0.0), ("nesterov", False), ("replacement", False), ("at_rest", False)]
)
def test_one_default_everywhere(word, default):
    defaults = {parameter.default for parameter in uses(word).values()} - {inspect.Parameter.empty}
    assert defaults == {default}


def test_a_merge_is_planned_alike_from_python_and_from_the_command():
    given = command().parse_args(["plan", "--base-learning-rate", "0.1", "--steps", "10"])
    for function in (merge_plan, gain_kept):
        assert inspect.signature(function).parameters["at_rest"].default is given.at_rest
    assert inspect.signature(merge_plan).parameters["rule"].default == given.rule


def test_a_missing_argument_is_told_with_the_function():
    tried = 0
    for name, item in PUBLIC.items():
        owner = name.rsplit(".", 1)[1]
        if isinstance(item, type) or len(name.split(".")) > 3 or not inspect.signature(item).parameters:
            continue
        first = next(iter(inspect.signature(item).parameters.values()))
        if first.default is not first.empty or first.kind is first.VAR_POSITIONAL:
            continue
        with pytest.raises(TypeError) as error:
            item()
        assert str(error.value).startswith(owner), name
        assert repr(first.name) in str(error.value), name
        tried += 1
    assert tried > 350


def test_a_missing_argument_is_told_in_short():
    with pytest.raises(TypeError, match=r"^moments: missing 'schedule'$"):
        sgdynamics.theory.quadratic.moments(sgdynamics.models.quadratic.MiniBatchQuadratic(1.0, 1.0))


def test_help_says_how_a_formula_is_called_and_what_it_rests_on():
    items = formulas(kind="formula")
    assert items
    for item in items:
        said = pydoc.plain(pydoc.render_doc(item))
        assert f"{item.__name__}(" in said
        assert all(name in said for name in item.signature.parameters)
        assert f"Status: {item.status}" in said
        assert ", ".join(item.assumptions) in said
        assert item.source in said


def test_words_are_typed_as_the_words_that_are_taken():
    """Annotations of rules, activations, samplings and other words are the options that the check knows."""
    tried = 0
    for name, item in PUBLIC.items():
        if isinstance(item, type) or name.startswith(PATTERNS):
            continue
        for parameter, domain in getattr(item, "domains", {}).items():
            options = getattr(getattr(domain, "domain", domain), "options", None)
            if options is None or parameter == "kind":
                continue
            said = str(
                inspect.signature(inspect.unwrap(getattr(item, "function", item))).parameters[parameter].annotation
            )
            if "Literal" in said:
                assert set(re.findall(r"'([^']+)'", said.replace('"', "'"))) == set(options), (name, parameter)
            else:
                assert said in ALIASES, (name, parameter, said)
            tried += 1
    assert tried > 25


def test_a_way_to_draw_has_one_word():
    """Models, laws and what runs say of themselves."""
    ways = {"full_batch", "replacement", "without_replacement", "reshuffled"}
    taken = [getattr(item, "domains", {}).get("sampling") for item in PUBLIC.values()]
    options = [set(getattr(domain, "domain", domain).options) for domain in taken if domain is not None]
    assert len(options) > 5
    assert set().union(*options) == ways
    assert {Batches(size, replacement=again, seed=0).sampling for size in (None, 2) for again in (True, False)} < ways


def test_every_model_shows_itself_and_is_compared_by_value():
    """Classes of models are of one base, which does both; an ensemble is a named tuple."""
    classes = {name: item for name, item in PUBLIC.items() if name.startswith("models.") and isinstance(item, type)}
    assert len(classes) >= 18
    others = {name for name, item in classes.items() if not issubclass(item, Shown)}
    assert others == {"models.break_even.ExampleEnsemble"}
    assert all("__repr__" in vars(classes[name]) for name in others)
    for item in classes.values():
        if issubclass(item, Shown):
            assert (item.__repr__, item.__eq__, item._repr_html_) == (Shown.__repr__, Shown.__eq__, Shown._repr_html_)


def test_a_citation_is_returned_and_prints_nothing(capsys):
    assert "@" in sgdynamics.citation(merge_plan)
    assert capsys.readouterr().out == ""
