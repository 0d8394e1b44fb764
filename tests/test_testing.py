"""The kit for tests of models: our own models pass it, broken ones do not, and what it draws is what is declared."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subjects import SUBJECTS

from sgdynamics import formulas, models, testing
from sgdynamics.domains import closed_unit_interval, count, nonnegative, positive, real, unit_interval
from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.uv import UVNetwork
from sgdynamics.simulate.trainer import Network, network
from sgdynamics.theory import quadratic

# How many examples of each law, of models and of the trainer's networks, which take long.
FEW, MANY = (3, 1), (8, 3)
EVERY_LAW = [
    pytest.param(
        law,
        id=f"{name}{f', {kind}' if kind else ''}: {law}{', many examples' if examples is MANY else ''}",
        marks=[pytest.mark.slow] * (examples is MANY),
    )
    for examples in (FEW, MANY)
    for name, kinds in SUBJECTS.items()
    for kind, subject in kinds.items()
    for law in testing.laws(subject, examples=examples[name == "Network"])
]


@pytest.mark.parametrize("law", EVERY_LAW)
def test_every_model_obeys_the_laws(law):
    law()


def test_every_model_that_has_a_gradient_is_a_subject():
    found = set()
    for stem in models.__all__:
        module = importlib.import_module(f"sgdynamics.models.{stem}")
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.isclass(thing) and any(
                hasattr(thing, word) for word in ("gradient", "batch_gradient", "gradient_step")
            ):
                found.add(name)
    assert found == set(SUBJECTS) - {"Network", "UserNetwork"}
    assert len(found) >= 13


# ---------------------------------------------------------------------------------------------------------------------
# A toy, sound and broken: L(w) = (w_1^2 + 3 w_2^2)/2 + w_1^2 w_2^2/4, with gradient noise of either sign

SHIFTS = [np.array([1.0, 0.5]), np.array([-1.0, -0.5])]


def loss(w):
    return 0.5 * (w[0] ** 2 + 3 * w[1] ** 2) + 0.25 * w[0] ** 2 * w[1] ** 2


def gradient(w):
    return np.array([w[0] + 0.5 * w[0] * w[1] ** 2, 3 * w[1] + 0.5 * w[0] ** 2 * w[1]])


def hessian(w):
    return np.array([[1 + 0.5 * w[1] ** 2, w[0] * w[1]], [w[0] * w[1], 3 + 0.5 * w[0] ** 2]])


def counted_out(w, rates, probability=0.5):
    """Mean and covariance by a recursion on all points, each with its probability."""
    points = {(): (1.0, w)}
    for rate in rates:
        points = {
            (*path, sign): (
                chance * (probability if sign else 1 - probability),
                at - rate * (gradient(at) + SHIFTS[sign]),
            )
            for path, (chance, at) in points.items()
            for sign in (0, 1)
        }
    chances, ends = (np.array(column) for column in zip(*points.values(), strict=True))
    return chances @ ends, np.cov(ends.T, aweights=chances, ddof=0)


def stream(replica, step):
    return np.random.default_rng([replica, step]).choice(2)


def run(rates, replicas, name=lambda replica, place: replica):
    losses = []
    with np.errstate(over="ignore", invalid="ignore"):
        for place, replica in enumerate(replicas):
            w, path = np.array([1.0, 0.5]), []
            for step, rate in enumerate(rates):
                w = w - rate * (gradient(w) + SHIFTS[stream(name(replica, place), step)])
                path.append(loss(w))
                if not np.isfinite(path[-1]):
                    path += [np.inf] * (len(rates) - len(path))
                    path[-1] = path[step] = np.inf
                    break
            losses.append(path)
    return np.array(losses)


TOY = testing.Subject(
    testing.vectors(2),
    loss,
    gradient,
    hessian=hessian,
    sharpness=lambda w: np.linalg.eigvalsh(hessian(w))[-1],
    batches=[(0.5, 0), (0.5, 1)],
    batch_gradient=lambda w, sign: gradient(w) + SHIFTS[sign],
    step=lambda w, rate, sign: w - rate * (gradient(w) + SHIFTS[sign]),
    moments=counted_out,
    run=run,
    diverging=np.full(60, 30.0),
)


GENERATOR = np.random.default_rng(0)


def shared_state(rates, replicas):
    """Noise from one generator for all calls, as is easily written."""
    return GENERATOR.normal(size=(len(replicas), rates.size))


def counts_on(rates, replicas):
    """What a loop gives that never looks whether it has left the floats."""
    with np.errstate(all="ignore"):
        w = np.ones((len(replicas), 2))
        losses = []
        for rate in rates:
            w = w - rate * gradient(w.T).T
            losses.append(loss(w.T))
    return np.transpose(losses)


def raises(rates, replicas):
    with np.errstate(all="raise"):
        return run(rates, replicas) if rates.max() < 1 else np.exp(rates * 1e3)[None]


BUGS = {
    "a factor in one coordinate of the gradient": (
        {"gradient": lambda w: gradient(w) * [1.0, 1.0 + 1e-6]},
        "gradient_is_the_derivative_of_the_loss",
    ),
    "a term that the loss forgot": ({"loss": lambda w: loss(w) - 0.25 * w[0] ** 2 * w[1] ** 2}, "gradient_is"),
    "no number for a gradient": ({"gradient": lambda w: gradient(w) * np.nan}, "gradient_is"),
    "no number for a gradient in places": (
        {"gradient": lambda w: gradient(w) * np.where(w[0] > 0.5, np.nan, 1.0)},
        "gradient_is",
    ),
    "a gradient without end": ({"gradient": lambda w: np.array([np.inf, 0.0])}, "gradient_is"),
    "no number for a loss": ({"loss": lambda w: np.nan}, "gradient_is"),
    "a sign in the mixed derivative": ({"hessian": lambda w: hessian(w) * [[1, -1], [-1, 1]]}, "hessian_is"),
    "a Hessian that is not symmetric": ({"hessian": lambda w: hessian(w) * [[1, 1], [0, 1]]}, "hessian_is"),
    "the largest diagonal entry for the sharpness": (
        {"sharpness": lambda w: np.diag(hessian(w)).max()},
        "sharpness_is",
    ),
    "the rate squared": (
        {"step": lambda w, rate, sign: w - rate**2 * (gradient(w) + SHIFTS[sign])},
        "a_step_is_exact",
    ),
    "coordinates in turn, not at once": (
        {"step": lambda w, rate, sign: one_after_the_other(w, rate, sign)},
        "a_step_is_exact",
    ),
    "batches that are biased": (
        {"batches": [(0.4, 0), (0.6, 1)], "moments": lambda w, r: counted_out(w, r, 0.6)},
        "the_mean_batch_gradient",
    ),
    "the variance of the wrong divisor": (
        {"moments": lambda w, r: (counted_out(w, r)[0], 2 * counted_out(w, r)[1])},
        "moments_are",
    ),
    "the mean path for the path of the mean": (
        {"moments": lambda w, r: (descent(w, r), counted_out(w, r)[1])},
        "moments_are",
    ),
    "noise by place, not by name": (
        {"run": lambda r, replicas: run(r, replicas, name=lambda replica, place: place)},
        "bits_depend_on_no_chunk",
    ),
    "one generator for all calls": ({"run": shared_state, "diverging": None}, "bits_depend_on_no_chunk"),
    "NaN where the loss has left the floats": ({"run": counts_on}, "divergence_is_a_result"),
    "an exception where the loss has left the floats": ({"run": raises}, "divergence_is_a_result"),
}


def descent(w, rates):
    for rate in rates:
        w = w - rate * gradient(w)
    return w


def one_after_the_other(w, rate, sign):
    w = w.copy()
    w[0] -= rate * (gradient(w) + SHIFTS[sign])[0]
    w[1] -= rate * (gradient(w) + SHIFTS[sign])[1]
    return w


def test_a_sound_toy_passes_every_law():
    assert len(testing.check(TOY)) == 8


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught_by_its_law(bug):
    changed, law = BUGS[bug]
    with pytest.raises(AssertionError, match=law):
        testing.check(dataclasses.replace(TOY, **changed), examples=40)


def test_half_a_subject_is_refused():
    with pytest.raises(TypeError, match=r"Subject: weights must be a strategy, .*, got 3"):
        testing.Subject(3, loss, gradient)
    wrong = {
        "batches must be given with batch_gradient": {"batches": [(1.0, 0)]},
        "moments must be given with batches and step": {"moments": counted_out},
        "diverging must be given with run": {"diverging": [1.0]},
        "batches must be with probabilities that sum to 1, got a sum of 0.9": {
            "batches": [(0.9, 0)],
            "batch_gradient": lambda w, batch: w,
        },
    }
    for message, fields in wrong.items():
        with pytest.raises(ValueError, match=message):
            testing.Subject(testing.vectors(2), loss, gradient, **fields)
    with pytest.raises(ValueError, match="examples must be an integer >= 1, got 0"):
        testing.laws(TOY, examples=0)


def test_without_hypothesis_the_kit_says_what_to_install_and_the_rest_works():
    code = """
import sys
sys.modules["hypothesis"] = None
import sgdynamics
from sgdynamics.theory import quadratic
assert quadratic.stationary_variance(0.5) > 0
try:
    import sgdynamics.testing
except ImportError as error:
    assert "pip install sgdynamics[testing]" in str(error)
else:
    raise SystemExit("imported")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_ten_lines_of_the_documentation_pass():
    page = Path(__file__).parent.parent / "docs" / "howto" / "test_your_model.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(compile(code, str(page), "exec"), names)
    imports = [line for line in code.splitlines() if line.startswith(("import", "from"))]
    assert len(imports) + len([line for line in code[code.index("valley =") :].splitlines() if line]) <= 10
    (parametrize,) = names["test_the_valley"].pytestmark
    for law in parametrize.args[1]:
        names["test_the_valley"](law)
    assert [law.name for law in parametrize.args[1]] == [
        "gradient_is_the_derivative_of_the_loss",
        "hessian_is_the_derivative_of_the_gradient",
        "a_step_is_exact",
    ]


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn


@given(st.data(), st.sampled_from([real, positive, nonnegative, unit_interval, closed_unit_interval, count]))
def test_numbers_lie_in_their_range(data, domain):
    value = data.draw(testing.numbers(domain))
    assert domain.check("test", "value", value) == value
    assert data.draw(testing.vectors(3, domain)).shape == (3,)


@given(testing.spectra(most=4))
def test_spectra_fall_and_are_positive(curvature):
    assert 1 <= curvature.size <= 4
    assert (curvature > 0).all()
    assert (np.diff(curvature) <= 0).all()


@given(st.data(), st.integers(1, 9))
def test_schedules_and_averages_have_their_length_and_sum(data, steps):
    rates, weights = data.draw(testing.schedules(steps=steps, peak=0.5)), data.draw(testing.averages(steps=steps))
    assert rates.shape == (steps,)
    assert weights.shape == (steps + 1,)
    assert 0 <= rates.min() <= rates.max() <= 0.5
    assert abs(weights.sum() - 1) <= 1e-15 * np.abs(weights).sum() * weights.size


CLASSES = {
    MiniBatchQuadratic: {"curvature": testing.spectra()},
    FullQuadratic: {},
    GaussianLeastSquares: {},
    FiniteSumQuadratic: {"hessians": st.just([0.5, 1.5]), "probabilities": None},
    UVNetwork: {},
    ScalarChain: {},
    DeepLinearNetwork: {"target": [[1.0, 0.5]]},
    network: {"widths": [2, 3, 2]},
}


@pytest.mark.parametrize("thing", CLASSES, ids=lambda thing: thing.__name__)
def test_models_and_networks_are_built_from_what_they_declare(thing):
    @settings(max_examples=20)
    @given(testing.built(thing, **CLASSES[thing]))
    def holds(made):
        assert isinstance(made, Network if thing is network else thing)

    holds()


# Of the formulas of several arguments some cannot occur together.
ONE_ARGUMENT = [item for item in formulas(kind="formula") if len(item.domains) == 1]


@pytest.mark.parametrize("item", ONE_ARGUMENT, ids=lambda item: item.name)
def test_formulas_of_one_argument_take_what_they_declare(item):
    @settings(max_examples=20)
    @given(testing.arguments(item))
    def holds(drawn):
        assert not np.isnan(item(**drawn))

    holds()


@given(testing.built(MiniBatchQuadratic, curvature=testing.spectra(decades=1.0)), st.data())
def test_the_averaged_point_of_no_noise_is_the_average_of_the_means(model, data):
    quiet = MiniBatchQuadratic(model.curvature, 0.0, displacement=model.displacement)
    rates = data.draw(testing.schedules(peak=1 / model.curvature[0]))
    weights = data.draw(testing.averages(steps=rates.size))
    path = quadratic.moments(quiet, rates, record=np.arange(rates.size + 1)).mean_error.values
    point = quadratic.moments(quiet, rates, average=weights).mean_error.values[-1]
    scale = np.abs(weights).sum() * np.abs(path).max(axis=0)
    assert (np.abs(point - weights @ path) <= 1e-12 * scale).all()


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(TypeError, match="arguments: model of moments must be given: nothing can be drawn that is a"):
        testing.arguments(quadratic.moments)
    with pytest.raises(TypeError, match="arguments: UVNetwork has no parameter 'depth', only"):
        testing.arguments(UVNetwork, depth=3)
    with pytest.raises(TypeError, match="arguments: thing must declare the ranges of its parameters as domains"):
        testing.arguments(len)
    with pytest.raises(ValueError, match="numbers: decades must be a finite number > 0, got -1"):
        testing.numbers(real, decades=-1)
