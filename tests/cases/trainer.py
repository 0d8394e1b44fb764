"""Arguments for the functions and formulas of ``trainer``; see the package's page."""

import numpy as np
import xarray as xr

from sgdynamics.simulate import trainer

NET = trainer.network([3, 2, 2], "tanh", seed=0)
X, Y = np.linspace(-1, 1, 12).reshape(4, 3), np.linspace(0, 1, 8).reshape(4, 2)
DATA = {"net": NET, "x": X, "y": Y, "loss": "mse"}
OBJECTIVE = trainer.Objective(**DATA)
DIRECTION = np.ones(NET.size)
DIRECTIONS = np.eye(NET.size)[:, :2]
ROWS = [[0, 1], [2, 3], [1, 2]]
BATCHES = trainer.Batches(2, seed=0)
INSTANCES = {"Objective": OBJECTIVE, "Batches": BATCHES}
MEASURED = {"objective": OBJECTIVE}


def eigenvectors(weights):
    """Three coordinates."""
    return np.eye(weights.size)[:, :3]


SWEPT = {"x": X, "y": Y, "depth": 2, "width": 2, "c": [1.0, 3.0], "seeds": 1, "activation": "tanh", "loss": "mse"}
SWEPT |= {"start": "standard", "processes": 1, "directory": None, "progress": False}
CURVE = xr.DataArray(np.linspace(1, 0, 9) ** 2, {"c": np.arange(9.0)}, ["c"])
STEERED = {"eigenvectors": eigenvectors, "refresh": 1, "beta": 0.0}
DRAWING = {"examples": 4, "batch_size": 2, "draws": 3, "replacement": False, "seed": 0}

SOUND = {
    "simulate.trainer.network": {
        "widths": [3, 2],
        "activation": "tanh",
        "init_scale": 1.0,
        "biases": True,
        "residual": False,
        "layer_norm": None,
        "seed": 0,
    },
    "simulate.trainer.Objective": {**DATA, "weight_decay": 0.0, "trainable": None},
    "simulate.trainer.Objective.batch": {"chosen": [0, 1]},
    "simulate.trainer.Objective.hessian_vector_product": {"v": DIRECTION},
    "simulate.trainer.Batches": {
        "size": 2,
        "replacement": True,
        "label_noise": 0.0,
        "label_noise_kind": "fresh",
        "seed": 0,
    },
    "simulate.trainer.Batches.numbers": {"examples": 4, "steps": 2},
    "simulate.trainer.Batches.drawn": {**MEASURED, "steps": 2},
    "simulate.trainer.loss_value": DATA,
    "simulate.trainer.gradient": DATA,
    "simulate.trainer.hessian_vector_product": {**DATA, "v": DIRECTION},
    "simulate.trainer.hessian_matrix": MEASURED,
    "simulate.trainer.hessian_operator": MEASURED,
    "simulate.trainer.per_example_curvatures": {**MEASURED, "v": DIRECTION, "part": "whole"},
    "simulate.trainer.top_hessian_eigenvalues": {**DATA, "k": 1, "tol": 1e-3},
    "simulate.trainer.top_eigenpairs": {**MEASURED, "k": 1, "tol": 1e-3, "start": None, "max_products": 100},
    "simulate.trainer.train": {
        **DATA,
        "schedule": [0.1, 0.1],
        "batch_size": 2,
        "update": None,
        "record": None,
        "seed": 0,
    },
    "simulate.trainer.trajectory": {
        **MEASURED,
        "schedule": [0.1, 0.1],
        "batches": BATCHES,
        "update": None,
        "averages": None,
        "record": None,
        "measure": None,
        "measure_at": None,
        "evaluate_loss": True,
        "keep_weights": False,
        "progress": False,
    },
    "simulate.trainer.ensemble": {
        "objectives": [OBJECTIVE, OBJECTIVE],
        "schedule": [0.1, 0.1],
        "batches": [trainer.Batches(2, seed=0), trainer.Batches(2, seed=1)],
        "record": None,
        "evaluate_loss": True,
        "keep_weights": False,
    },
    "simulate.trainer.draw_batches": DRAWING,
    "simulate.trainer.fresh_batches": DRAWING,
    "simulate.trainer.gradient_covariance": {
        **MEASURED,
        "k": 2,
        "centred": True,
        "route": "smaller",
        "vectors": True,
    },
    "simulate.trainer.batch_gradient_covariance": {**MEASURED, "batches": ROWS, "replacement": False},
    "simulate.trainer.alignments": {**MEASURED, "directions": DIRECTIONS, "batches": ROWS},
    "simulate.trainer.loss_along": {**MEASURED, "directions": DIRECTIONS, "distances": [-1.0, 0.5]},
    "simulate.trainer.critical_rate": {
        **MEASURED,
        "direction": DIRECTIONS[:, 0],
        "learning_rate": 0.1,
        "rise": 0.2,
        "accuracy": 0.1,
    },
    "simulate.trainer.losses_at": {**MEASURED, "weights": DIRECTIONS.T},
    "simulate.trainer.projected_steps": {
        **MEASURED,
        "directions": DIRECTIONS,
        "batch_size": 2,
        "batches": ROWS,
        "replacement": False,
    },
    "simulate.trainer.gradient_interaction": {**MEASURED, "batch_size": 2, "replacement": False},
    "simulate.trainer.sampled_interaction": {**MEASURED, "batches": ROWS},
    "simulate.trainer.batch_sharpness": {**MEASURED, "batches": ROWS},
    "simulate.trainer.matched_directions": {"old": DIRECTIONS, "new": DIRECTIONS},
    "simulate.trainer.tracked_eigenpairs": {"k": 2, "tol": 1e-3, "subset": [0, 1]},
    "simulate.trainer.hessian_eigenvectors": {**MEASURED, "k": 2, "tol": 1e-3},
    "simulate.trainer.network_thresholds": {
        **SWEPT,
        "steps": 2,
        "landscape_c": [1.0],
        "margin": 0.0,
        "sharpness_margin": 1e-3,
    },
    "simulate.trainer.network_saturation": {**SWEPT, "time": 3.0},
    "simulate.trainer.critical_c": {"ratio": CURVE, "window": 5},
    "simulate.trainer.sgd": {},
    "simulate.trainer.steered_sgd": {**STEERED, "top": 0.5, "bottom": 1.0},
    "simulate.trainer.nudged_sgd": {**STEERED, "gamma": 0.1},
    "simulate.trainer.dominant_sgd": STEERED,
    "simulate.trainer.bulk_sgd": STEERED,
    "simulate.trainer.momentum": {"beta": 0.5, "nesterov": False},
    "simulate.trainer.digits": {"standardisation": "mean_image"},
    "simulate.trainer.split": {"x": X, "y": Y, "train": 3, "seed": 0},
    "simulate.trainer.whitened": {"x": X, "dimensions": 1, "reference": None},
    "simulate.trainer.one_hot": {"labels": [0, 1], "classes": 2},
    "simulate.trainer.smoothed_labels": {"labels": [0, 1], "classes": 2, "label_noise": 0.1},
}

ALSO_SOUND = {
    ("simulate.trainer.alignments", "batches", "None"),
    ("simulate.trainer.loss_along", "distances", "-1"),
    ("simulate.trainer.projected_steps", "batches", "None"),
    ("simulate.trainer.Batches", "size", "None"),
    ("simulate.trainer.trajectory", "batches", "None"),
    ("simulate.trainer.ensemble", "batches", "None"),
    ("averages", "None"),
    ("batch_size", "None"),  # the full batch
    ("directory", "None"),
    ("landscape_c", "None"),
    ("layer_norm", "None"),
    ("measure", "None"),
    ("measure_at", "None"),
    ("record", "None"),
    ("reference", "None"),
    ("refresh", "None"),  # never again
    ("subset", "None"),
    ("start", "None"),
    ("trainable", "None"),
    ("update", "None"),
}

NOT_SOUND = {
    *((f"simulate.trainer.{name}", "batch_size", "None") for name in ("draw_batches", "fresh_batches")),
    *((f"simulate.trainer.{name}", "batch_size", "None") for name in ("projected_steps", "gradient_interaction")),
    *((f"simulate.trainer.network_{name}", "start", "None") for name in ("thresholds", "saturation")),
    ("simulate.trainer.one_hot", "classes", "None"),
    ("simulate.trainer.smoothed_labels", "classes", "None"),
}

WRONG_LENGTH = {
    "simulate.trainer.network_thresholds": ("y", Y[:3]),
    "simulate.trainer.network_saturation": ("y", Y[:3]),
    "simulate.trainer.loss_value": ("y", Y[:3]),
    "simulate.trainer.gradient": ("x", X[:, :2]),
    "simulate.trainer.hessian_vector_product": ("v", [1.0, 2.0]),
    "simulate.trainer.Objective": ("trainable", [True]),
    "simulate.trainer.Objective.hessian_vector_product": ("v", [1.0, 2.0]),
    "simulate.trainer.top_eigenpairs": ("start", [1.0]),
    "simulate.trainer.ensemble": ("batches", [BATCHES]),
    "simulate.trainer.train": ("y", Y[:3]),
    "simulate.trainer.alignments": ("directions", np.eye(3)),
    "simulate.trainer.loss_along": ("directions", [1.0]),
    "simulate.trainer.critical_rate": ("direction", [1.0]),
    "simulate.trainer.losses_at": ("weights", [[1.0]]),
    "simulate.trainer.projected_steps": ("batches", [[0, 1, 2]]),
    "simulate.trainer.matched_directions": ("new", np.eye(3)),
}
