"""What the library says that it holds: every public law, with its facts, and the answer to a question first."""

import importlib
import typing

import pytest

import sgdynamics
from sgdynamics import theory
from sgdynamics.domains import positive
from sgdynamics.formula import Formula, Status, formula, law
from sgdynamics.registry import Law, formulas
from sgdynamics.vocabulary import QUANTITIES

STATUSES = typing.get_args(Status)


def public(floor, stem):
    """What a row exports that is called, but for types."""
    module = importlib.import_module(f"sgdynamics.{floor}.{stem}")
    for name in module.__all__:
        item = getattr(module, name)
        if callable(item) and not isinstance(item, type):
            yield f"{floor}.{stem}.{name}", item


def test_every_public_law_of_theory_is_listed_and_no_other():
    listed = {item.name: item for item in formulas()}
    expected = {name: item for stem in theory.__all__ for name, item in public("theory", stem)}
    assert {name for name in listed if name.startswith("theory.")} == set(expected)
    for name, item in expected.items():
        assert listed[name] is item or listed[name].function is item
        assert listed[name].status in STATUSES
        assert listed[name].source


def test_a_formula_that_is_made_later_is_listed_too():
    before = len(formulas())

    @formula(gain=positive, quantity="gain", status="exact", source="derived")
    def made_in_a_test(gain):
        """A gain."""
        return gain

    assert len(formulas()) == before + 1
    assert made_in_a_test in formulas()


def test_a_formula_of_another_test_is_not_listed():
    assert {item.function.__module__.partition(".")[0] for item in formulas(kind="formula")} == {"sgdynamics"}


def test_a_law_that_does_not_say_how_it_is_known_is_refused():
    def nameless(model):
        """Something.

        Status: certain.
        """

    with pytest.raises(ValueError, match=r"theory\.quadratic\.nameless: its documentation must say 'Status: '"):
        Law("theory.quadratic.nameless", law(quantity="gain")(nameless))


def test_a_law_that_does_not_say_what_it_is_about_is_refused():
    def vague(model):
        """Something.

        Status: exact.
        """

    with pytest.raises(ValueError, match=r"vague: its quantity must be declared by @law"):
        Law("theory.quadratic.vague", vague)


def test_every_quantity_is_that_of_something_and_has_one_unit():
    assert {item.quantity for item in formulas()} == set(QUANTITIES)
    units = formulas().to_pandas().groupby("quantity").units.nunique()
    assert (units == 1).all()
    edges = [item for item in formulas() if item.name.endswith("_edge") or item.name.endswith("_edges")]
    assert {item.quantity for item in edges} == {"learning rate"}  # anything else says what it is of an edge


QUESTIONS = {
    "SWA variance at rest": "theory.quadratic.tail_variance",
    "largest stable rate with momentum": "theory.quadratic.stability_edge",
    "c_crit at width n": "theory.uv.wide_c_loss",
    "final NTK of a catapult": "theory.uv.catapult_final_ntk",
    "break-even curvature": "theory.break_even.break_even_curvature",
    "gain of averaging two points": "theory.quadratic.two_point_variance",
    "overshoot under Nudged-SGD": "theory.sharpest_directions.overshoot_probability",
    "kernel of P": "theory.patterns.refreshed_kernel",
    "end gap at the edge of stability": "theory.edge_of_stability.end_gap",
    "steps to a target": "theory.quadratic.steps_to_target",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_first_answer_to_a_question_is_the_law_that_answers_it(question):
    assert formulas(about=question)[0].name == QUESTIONS[question]


def test_what_is_asked_for_is_what_is_given():
    assert all(isinstance(item, Formula) for item in formulas(kind="formula"))
    laws = formulas(kind="law")
    assert all(isinstance(item, Law) for item in laws)
    assert len(laws) + len(formulas(kind="formula")) == len(formulas())
    assert {item.source for item in formulas(paper="mccandlish2018", kind="formula")} == {"mccandlish2018"}
    assert {item.stem for item in formulas(stem="uv")} == {"uv"}
    assert [item.name for item in formulas(quantity="momentum")] == ["theory.schedules.ema_heavy_ball_momentum"]
    assert {item.status for item in formulas(status="bound")} == {"bound"}
    assert not formulas(about="nothing of the kind is known here")
    for wrong in (
        {"kind": "theorem"},
        {"paper": "nobody2000"},
        {"stem": "qwerty"},
        {"quantity": "joy"},
        {"status": "true"},
    ):
        with pytest.raises(ValueError, match=f"formulas: {next(iter(wrong))} must be one of"):
            formulas(**wrong)


def test_a_law_is_its_function_and_shows_itself():
    (moments,) = [item for item in formulas(kind="law") if item.name == "theory.quadratic.moments"]
    assert repr(moments) == "<law theory.quadratic.moments: exact>"
    assert moments.function is sgdynamics.theory.quadratic.moments
    assert list(moments.domains)[:2] == ["model", "schedule"]
    row = formulas(about="moments", kind="law").to_pandas().loc["theory.quadratic.moments"]
    assert row.status == "exact"
    assert "any law of the centers" in row.assumptions
    assert "theory.quadratic.moments" in repr(formulas(stem="quadratic", kind="law"))
