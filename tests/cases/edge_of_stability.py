"""Arguments for the functions and formulas of ``edge_of_stability``; see the package's page."""

import numpy as np

from sgdynamics.models.edge_of_stability import FourFactors, ProductLoss, SecondOrderRegression, SelfStabilization

NEURON = ProductLoss("log_cosh")
FORM = SecondOrderRegression([1.0, -0.5], offset=1.0)

INSTANCES = {
    "ProductLoss": NEURON,
    "FourFactors": FourFactors(),
    "SelfStabilization": SelfStabilization(),
    "SecondOrderRegression": FORM,
}


def _loss(w):
    return w[1] * (w[0] ** 2 / 2 - 1)


def _gradient(w):
    return np.array([w[0] * w[1], w[0] ** 2 / 2 - 1])


def _hessian(w):
    return np.array([[w[1], w[0]], [w[0], 0.0]])


PAIR = {"x": 1.0, "y": 2.0}
POINT = {"x": 1.0, "curvature": 2.0}
RUN = {"learning_rate": 0.1, "steps": 3, "record": [0, 3]}
FIELDS = {"gradient": _gradient, "hessian": _hessian, "start": [0.0, 1.0]}

SOUND = {
    "models.edge_of_stability.ProductLoss": {"outer": "log_cosh", "target": 0.5},
    **{
        f"models.edge_of_stability.ProductLoss.{name}": PAIR
        for name in ("loss", "slope", "gradient", "hessian", "sharpness", "imbalance")
    },
    "models.edge_of_stability.ProductLoss.step": {**PAIR, "learning_rate": 0.1},
    "models.edge_of_stability.FourFactors": {"target": 1.0},
    **{
        f"models.edge_of_stability.FourFactors.{name}": {"weights": [1.0, 2.0, 0.5, 0.7]}
        for name in ("loss", "gradient", "hessian", "sharpness")
    },
    "models.edge_of_stability.FourFactors.step": {"weights": [1.0, 2.0, 0.5, 0.7], "learning_rate": 0.1},
    "models.edge_of_stability.SelfStabilization": {"sharpening": 1.0, "restoring": 2.0, "asymmetry": 0.5},
    **{
        f"models.edge_of_stability.SelfStabilization.{name}": POINT
        for name in ("loss", "gradient", "hessian", "sharpness")
    },
    "models.edge_of_stability.SelfStabilization.step": {**POINT, "learning_rate": 0.1},
    "models.edge_of_stability.SecondOrderRegression": {"eigenvalues": [1.0, -0.5], "offset": 1.0},
    **{
        f"models.edge_of_stability.SecondOrderRegression.{name}": {"weights": [1.0, 2.0]}
        for name in ("residual", "loss", "gradient", "hessian", "sharpness")
    },
    "models.edge_of_stability.SecondOrderRegression.moment": {"weights": [1.0, 2.0], "order": 1},
    "models.edge_of_stability.SecondOrderRegression.step": {"weights": [1.0, 2.0], "learning_rate": 0.1},
    "models.edge_of_stability.second_order_step": {
        "residual": 1.0,
        "ntk": 2.0,
        "moment": 0.5,
        "learning_rate": 0.1,
        "first": 1.0,
        "second": -0.5,
    },
    "models.edge_of_stability.second_order_sharpness": {
        "residual": 1.0,
        "ntk": 2.0,
        "moment": 0.5,
        "first": 1.0,
        "second": -0.5,
    },
    "theory.edge_of_stability.gradient_flow": {"gradient": _gradient, "start": [0.0, 1.0], "time": 0.5},
    "theory.edge_of_stability.modified_flow": {**FIELDS, "learning_rate": 0.1, "time": 0.5},
    "theory.edge_of_stability.central_flow": {
        "loss": _loss,
        **FIELDS,
        "learning_rate": 0.1,
        "steps": 3,
        "points": 4,
        "directions": 1,
    },
    "theory.edge_of_stability.oscillation_covariance": {
        "gradient": [-1.0, 0.5],
        "curvature_gradients": [[[1.0, 0.5]]],
        "slack": [[0.1]],
    },
    "theory.edge_of_stability.error_budget": {"learning_rate": [0.1, 0.2]},
    "theory.edge_of_stability.fitted_order": {"learning_rate": [0.1, 0.2], "error": [1.0, 2.0]},
    "simulate.edge_of_stability.product_orbits": {"model": NEURON, **PAIR, **RUN},
    "simulate.edge_of_stability.four_factor_orbits": {"model": FourFactors(), **PAIR, "z": 0.5, "w": 0.7, **RUN},
    "simulate.edge_of_stability.self_stabilization_orbits": {"model": SelfStabilization(), **POINT, **RUN},
    "simulate.edge_of_stability.second_order_orbits": {
        "residual": 1.0,
        "ntk": 2.0,
        "moment": 0.5,
        "first": 1.0,
        "second": -0.5,
        **RUN,
    },
}

_SIGNED = ("x", "y", "z", "w", "curvature", "residual", "moment", "first", "second", "slope", "imbalance", "minimum")
ALSO_SOUND = {
    ("asymmetry", "-1"),
    *((name, parameter, "-1") for name, arguments in SOUND.items() for parameter in arguments if parameter in _SIGNED),
    ("models.edge_of_stability.ProductLoss", "target", "-1"),
    ("models.edge_of_stability.SecondOrderRegression", "offset", "-1"),
    ("theory.edge_of_stability.central_flow", "points", "None"),
    ("theory.edge_of_stability.oscillation_covariance", "slack", "None"),
    *(
        (f"theory.edge_of_stability.{name}", parameter, "-1")
        for name, parameters in {
            "imbalance_factor": ("slope",),
            "minimum_sharpness": ("imbalance", "minimum"),
            "flip_coefficient": ("minimum", "third_derivative", "fourth_derivative"),
            "gap_drift": ("minimum", "third_derivative", "fourth_derivative"),
            "reduced_invariant": ("excess",),
            "tracking_amplitude": ("excess",),
            "cycle_invariant": ("excess",),
            "oscillation_variance": ("sharpening",),
        }.items()
        for parameter in parameters
    ),
    *((name, "record", "None") for name in SOUND if name.startswith("simulate.edge_of_stability")),
}

WRONG_LENGTH = {
    **{
        f"models.edge_of_stability.FourFactors.{name}": ("weights", [1.0, 2.0])
        for name in ("loss", "gradient", "hessian", "sharpness", "step")
    },
    **{
        f"models.edge_of_stability.SecondOrderRegression.{name}": ("weights", [1.0, 2.0, 3.0])
        for name in ("residual", "moment", "loss", "gradient", "hessian", "sharpness", "step")
    },
    "models.edge_of_stability.ProductLoss": ("target", [1.0, 2.0]),
    "models.edge_of_stability.SelfStabilization": ("restoring", [1.0, 2.0]),
    "theory.edge_of_stability.gradient_flow": ("start", [[0.0, 1.0]]),
    "theory.edge_of_stability.modified_flow": ("learning_rate", [0.1, 0.2]),
    "theory.edge_of_stability.central_flow": ("start", [[0.0, 1.0]]),
    "theory.edge_of_stability.oscillation_covariance": ("curvature_gradients", [[[1.0, 0.5, 0.3]]]),
    "theory.edge_of_stability.error_budget": ("learning_rate", [0.1, 0.1]),
    "theory.edge_of_stability.fitted_order": ("error", [1.0, 2.0, 3.0]),
    "simulate.edge_of_stability.product_orbits": ("x", [[1.0, 2.0]]),
    "simulate.edge_of_stability.second_order_orbits": ("first", [1.0, 2.0]),
}
