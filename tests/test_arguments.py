"""Bad input to any public function is answered with the parameter, the value and the range.

The cases are made from the signatures: every parameter in turn is given every kind of garbage, the others are sound.
What a parameter may legitimately be is listed here by hand, and is then required to work.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil

import numpy as np
import pytest

import sgdynamics
from sgdynamics.formula import Formula
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.simulate import trainer

MODEL = MiniBatchQuadratic([1.0, 0.5], 1.0, displacement=1.0)
NET = trainer.network([3, 2, 2], "tanh", seed=0)
X, Y = np.linspace(-1, 1, 12).reshape(4, 3), np.linspace(0, 1, 8).reshape(4, 2)
DATA = {"net": NET, "x": X, "y": Y, "loss": "mse"}
DIRECTION = np.ones(NET.size)

SOUND = {
    "models.quadratic.MiniBatchQuadratic": {
        "curvature": [1.0, 0.5],
        "center_variance": 1.0,
        "multiplicity": 1.0,
        "displacement": 0.0,
        "batch_size": 1,
    },
    "models.quadratic.MiniBatchQuadratic.isotropic": {
        "curvature": 1.0,
        "center_variance": 1.0,
        "dimension": 3,
        "displacement": 0.0,
        "batch_size": 1,
    },
    "models.quadratic.MiniBatchQuadratic.noisy_quadratic": {"modes": 3, "exponent": 1.0, "batch_size": 1},
    "models.quadratic.MiniBatchQuadratic.power_law": {
        "modes": 3,
        "curvature_exponent": 1.5,
        "source_exponent": 2.0,
        "center_variance": 0.0,
        "batch_size": 1,
    },
    "models.quadratic.MiniBatchQuadratic.log_uniform": {
        "low": 0.1,
        "high": 1.0,
        "modes": 3,
        "center_variance": 1.0,
        "displacement": 0.0,
        "batch_size": 1,
    },
    "models.quadratic.MiniBatchQuadratic.from_csv": {
        "path": None,  # filled in by the test
        "center_variance": 1.0,
        "smallest": None,
        "batch_size": 1,
    },
    "models.quadratic.MiniBatchQuadratic.excess_risk": {"error": 1.0},
    "models.quadratic.MiniBatchQuadratic.batch_loss": {"error": 1.0, "center": 0.0},
    "models.quadratic.MiniBatchQuadratic.batch_gradient": {"error": 1.0, "center": 0.0},
    "models.quadratic.MiniBatchQuadratic.step": {"error": 1.0, "center": 0.0, "learning_rate": 0.1},
    "models.schedules.constant": {"rate": 0.1, "steps": 4},
    "models.schedules.linear": {"rate": 0.1, "steps": 4, "final": 0.0},
    "models.schedules.cosine": {"rate": 0.1, "steps": 4, "final": 0.0},
    "models.schedules.step_decay": {"rate": 0.1, "steps": 4, "factor": 0.5, "every": 2},
    "models.schedules.warmup_stable_decay": {"rate": 0.1, "steps": 4, "warmup": 1, "decay": 1},
    "models.schedules.ema": {"beta": 0.5, "steps": 4},
    "models.schedules.swa": {"steps": 4, "start": 1},
    "models.schedules.tail": {"steps": 4, "points": 2, "stride": 2},
    "models.schedules.two_point": {"steps": 4, "separation": 2},
    "theory.schedules.center_weights": {"gains": [0.1, 0.2]},
    "theory.schedules.gains_from_weights": {"start_weight": 0.5, "weights": [0.25, 0.25]},
    "theory.schedules.average_center_weights": {
        "average": [0.5, 0.25, 0.25],
        "base_gains": [0.1, 0.2],
        "momentum": 0.5,
        "nesterov": False,
    },
    "theory.schedules.average_to_gains": {"average": [0.5, 0.25, 0.25], "base_gains": [0.1, 0.2]},
    "theory.schedules.gains_to_average": {"gains": [0.1, 0.2], "base_gains": [0.5, 0.5]},
    "theory.schedules.equivalence": {"average": [0.5, 0.25, 0.25], "base_gains": [0.1, 0.2]},
    "theory.schedules.wsm_average": {"fractions": [0.5, 0.25]},
    "theory.schedules.binomial_average": {"fractions": [0.5, 0.25]},
    "theory.schedules.average_for_every_curvature": {"fractions": [1.0, 0.25]},
    "theory.schedules.merge_plan": {
        "target_schedule": [0.2, 0.1],
        "base_learning_rate": 0.2,
        "checkpoints": [0, 2],
        "rule": "risk",
        "model": MODEL,
        "curvature": 1.0,
    },
    "theory.schedules.schedule_free_weights": {"gains": [0.1, 0.2], "interpolation": 0.5},
    "theory.quadratic.moments": {
        "model": MODEL,
        "schedule": [0.1, 0.2],
        "average": [0.5, 0.25, 0.25],
        "momentum": 0.5,
        "nesterov": False,
        "record": [2],
    },
    "theory.quadratic.stationary": {"model": MODEL, "learning_rate": 0.1, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.stability": {"model": MODEL, "learning_rate": 0.1, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.greedy_schedule": {"model": MODEL, "steps": 3},
    "theory.quadratic.optimal_schedule": {"model": MODEL, "steps": 3},
    "theory.quadratic.steps_to_target": {"model": MODEL, "learning_rate": 0.1, "target": 0.3},
    "simulate.quadratic.ensemble": {
        "model": MODEL,
        "schedule": [0.1, 0.2],
        "replicas": 2,
        "seed": 0,
        "average": [0.5, 0.25, 0.25],
        "momentum": 0.5,
        "nesterov": False,
        "record": [2],
        "method": "steps",
    },
    "simulate.trainer.network": {"widths": [3, 2], "activation": "tanh", "init_scale": 1.0, "biases": True, "seed": 0},
    "simulate.trainer.loss_value": {**DATA, "weight_decay": 0.0, "trainable": None},
    "simulate.trainer.gradient": {**DATA, "weight_decay": 0.0, "trainable": None},
    "simulate.trainer.per_example_gradients": {**DATA, "weight_decay": 0.0, "trainable": None},
    "simulate.trainer.hessian_vector_product": {**DATA, "v": DIRECTION, "weight_decay": 0.0, "trainable": None},
    "simulate.trainer.hessian_operator": {**DATA, "weight_decay": 0.0, "trainable": None},
    "simulate.trainer.per_example_curvatures": {**DATA, "v": DIRECTION, "weight_decay": 0.0},
    "simulate.trainer.top_hessian_eigenvalues": {
        **DATA,
        "k": 1,
        "tol": 1e-3,
        "start": None,
        "weight_decay": 0.0,
        "trainable": None,
        "max_products": 100,
    },
    "simulate.trainer.train": {
        **DATA,
        "schedule": [0.1, 0.1],
        "batch_size": 2,
        "replacement": True,
        "update": None,
        "weight_decay": 0.0,
        "trainable": None,
        "label_noise": 0.0,
        "label_noise_kind": "fresh",
        "averages": None,
        "record": None,
        "measure": None,
        "keep_weights": False,
        "seed": 0,
    },
    "simulate.trainer.batches": {
        "x": X,
        "y": Y,
        "steps": 2,
        "batch_size": 2,
        "replacement": True,
        "label_noise": 0.0,
        "label_noise_kind": "fresh",
        "classes": None,
        "loss": "mse",
        "seed": 0,
    },
    "simulate.trainer.sgd": {},
    "simulate.trainer.momentum": {"beta": 0.5, "nesterov": False},
    "simulate.trainer.digits": {"standardisation": "mean_image"},
    "simulate.trainer.split": {"x": X, "y": Y, "train": 3, "seed": 0},
    "simulate.trainer.whitened": {"x": X, "dimensions": 1, "reference": None},
    "simulate.trainer.one_hot": {"labels": [0, 1], "classes": 2},
    "simulate.trainer.smoothed_labels": {"labels": [0, 1], "classes": 2, "label_noise": 0.1},
}

GARBAGE = {"nan": math.nan, "inf": math.inf, "-1": -1, "'a'": "a", "None": None, "[]": []}

# (parameter, garbage) that is sound wherever the parameter occurs; what is meant stands beside it.
SOUND_ANYWHERE = {
    ("average", "None"),  # the last iterate
    ("averages", "None"),
    ("base_gains", "-1"),  # gains may be any numbers
    ("batch_size", "None"),  # the trainer's full batch
    ("center", "-1"),
    ("classes", "None"),
    ("curvature", "None"),  # asked for by one rule of merge_plan
    ("displacement", "-1"),
    ("error", "-1"),
    ("measure", "None"),
    ("record", "None"),
    ("reference", "None"),
    ("smallest", "None"),
    ("start", "None"),
    ("trainable", "None"),
    ("update", "None"),
}
# The same parameter name asks for more in these functions.
NOT_SOUND_IN = {
    ("models.quadratic.MiniBatchQuadratic", "curvature", "None"),
    ("models.quadratic.MiniBatchQuadratic.isotropic", "curvature", "None"),
    ("theory.schedules.average_center_weights", "average", "None"),
    ("theory.schedules.average_to_gains", "average", "None"),
    ("theory.schedules.equivalence", "average", "None"),
    ("models.schedules.swa", "start", "None"),
    ("simulate.trainer.one_hot", "classes", "None"),
    ("simulate.trainer.smoothed_labels", "classes", "None"),
    *((name, "batch_size", "None") for name in SOUND if name.startswith("models.")),
    ("models.quadratic.MiniBatchQuadratic.from_csv", "path", "'a'"),
}


def public_functions():
    for floor in ("models", "theory", "simulate"):
        package = importlib.import_module(f"sgdynamics.{floor}")
        for info in pkgutil.iter_modules(package.__path__):
            if info.name.startswith("_"):
                continue
            module = importlib.import_module(f"sgdynamics.{floor}.{info.name}")
            for name in module.__all__:
                thing = getattr(module, name)
                if inspect.isfunction(thing):
                    yield f"{floor}.{info.name}.{name}", thing
                elif inspect.isclass(thing) and hasattr(thing, "domains"):
                    yield f"{floor}.{info.name}.{name}", thing
                    for method, member in inspect.getmembers(thing):
                        if not method.startswith("_") and hasattr(member, "domains") and callable(member):
                            owner = member if inspect.ismethod(member) else getattr(MODEL, method)
                            yield f"{floor}.{info.name}.{name}.{method}", owner


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


@pytest.mark.parametrize("name", SOUND)
def test_sound_arguments_work(name):
    run(FUNCTIONS[name], SOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_garbage_is_reported_by_parameter_value_and_range(name):
    function = FUNCTIONS[name]
    for parameter in SOUND[name]:
        for label, garbage in GARBAGE.items():
            arguments = {**SOUND[name], parameter: garbage}
            if (parameter, label) in SOUND_ANYWHERE and (name, parameter, label) not in NOT_SOUND_IN:
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


WRONG_LENGTH = {
    "models.quadratic.MiniBatchQuadratic": ("center_variance", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.excess_risk": ("error", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.batch_loss": ("center", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.step": ("error", [1.0, 2.0, 3.0]),
    "theory.schedules.average_center_weights": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.average_to_gains": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.gains_to_average": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.equivalence": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.merge_plan": ("checkpoints", [0, 1]),
    "theory.quadratic.moments": ("average", [0.5, 0.5]),
    "simulate.quadratic.ensemble": ("average", [0.5, 0.5]),
    "simulate.trainer.loss_value": ("y", Y[:3]),
    "simulate.trainer.gradient": ("x", X[:, :2]),
    "simulate.trainer.hessian_vector_product": ("v", [1.0, 2.0]),
    "simulate.trainer.top_hessian_eigenvalues": ("trainable", [True]),
    "simulate.trainer.train": ("y", Y[:3]),
}


@pytest.mark.parametrize("name", WRONG_LENGTH)
def test_a_wrong_length_is_reported_by_parameter(name):
    parameter, value = WRONG_LENGTH[name]
    with pytest.raises(ValueError, match=parameter):
        run(FUNCTIONS[name], {**SOUND[name], parameter: value})


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if not isinstance(function, Formula)])
def test_a_missing_or_unknown_parameter_is_a_type_error(name):
    with pytest.raises(TypeError):
        run(FUNCTIONS[name], {**SOUND[name], "no_such_parameter": 1})


def test_the_package_lists_its_formulas_once():
    names = [item.name for item in sgdynamics.formulas()]
    assert len(names) == len(set(names)) > 30
