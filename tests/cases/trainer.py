"""Arguments for the functions and formulas of ``trainer``; see the package's page."""

import numpy as np

from sgdynamics.simulate import trainer

NET = trainer.network([3, 2, 2], "tanh", seed=0)
X, Y = np.linspace(-1, 1, 12).reshape(4, 3), np.linspace(0, 1, 8).reshape(4, 2)
DATA = {"net": NET, "x": X, "y": Y, "loss": "mse"}
DIRECTION = np.ones(NET.size)

SOUND = {
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

ALSO_SOUND = {
    ("averages", "None"),
    ("batch_size", "None"),  # the full batch
    ("classes", "None"),
    ("measure", "None"),
    ("record", "None"),
    ("reference", "None"),
    ("start", "None"),
    ("trainable", "None"),
    ("update", "None"),
}

NOT_SOUND = {
    ("simulate.trainer.one_hot", "classes", "None"),
    ("simulate.trainer.smoothed_labels", "classes", "None"),
}

WRONG_LENGTH = {
    "simulate.trainer.loss_value": ("y", Y[:3]),
    "simulate.trainer.gradient": ("x", X[:, :2]),
    "simulate.trainer.hessian_vector_product": ("v", [1.0, 2.0]),
    "simulate.trainer.top_hessian_eigenvalues": ("trainable", [True]),
    "simulate.trainer.train": ("y", Y[:3]),
}
