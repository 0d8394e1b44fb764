"""Arguments for the functions and formulas of ``deep_linear``; see the package's page."""

import numpy as np

from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain

CHAIN = ScalarChain(1.0)
NETWORK = DeepLinearNetwork([[1.0, 0.0], [0.0, 0.5]])
WEIGHTS = [0.5, 1.5, 1.0]
MATRICES = [np.ones((3, 2)), np.full((2, 3), 0.1)]

INSTANCES = {"ScalarChain": CHAIN, "DeepLinearNetwork": NETWORK}

_ON_CHAINS = ("output", "loss", "gradient", "hessian", "sharpness", "imbalance", "flow_solution", "flow_sharpness")
_ON_NETWORKS = ("output", "loss", "gradient", "hessian", "sharpness", "imbalance")

SOUND = {
    "models.deep_linear.ScalarChain": {"target": 1.0},
    **{f"models.deep_linear.ScalarChain.{name}": {"weights": WEIGHTS} for name in _ON_CHAINS},
    "models.deep_linear.ScalarChain.step": {"weights": WEIGHTS, "learning_rate": 0.1},
    "models.deep_linear.balanced_chain": {"target": 1.0, "depth": 3},
    "models.deep_linear.DeepLinearNetwork": {"target": [[1.0, 0.0]], "input_covariance": [[1.0, 0.5], [0.5, 1.0]]},
    **{f"models.deep_linear.DeepLinearNetwork.{name}": {"weights": MATRICES} for name in _ON_NETWORKS},
    "models.deep_linear.DeepLinearNetwork.step": {"weights": MATRICES, "learning_rate": 0.1},
    "models.deep_linear.DeepLinearNetwork.imbalance_change": {"weights": MATRICES, "learning_rate": 0.1},
    "models.deep_linear.balanced_network": {"target": [[1.0, 0.0]], "depth": 3, "width": 2},
    "theory.deep_linear.balanced_spectrum": {
        "target": [[1.0, 0.0]],
        "depth": 3,
        "input_covariance": [[1.0, 0.5], [0.5, 1.0]],
    },
    "theory.deep_linear.mode_strength": {"time": [0.0, 1.0], "start": 0.1, "singular_value": 1.0, "depth": 3},
    "theory.deep_linear.initial_ntk_moments": {"widths": [3, 2]},
    "simulate.deep_linear.chain_trajectory": {
        "model": CHAIN,
        "weights": WEIGHTS,
        "learning_rate": 0.1,
        "steps": 3,
        "record": [3],
        "tol": 1e-12,
    },
    "simulate.deep_linear.network_trajectory": {
        "model": NETWORK,
        "weights": MATRICES,
        "learning_rate": 0.1,
        "steps": 3,
        "record": [3],
        "tol": 1e-12,
    },
    "simulate.deep_linear.chain_flow": {"model": CHAIN, "weights": WEIGHTS, "time": [0.0, 1.0], "tol": 1e-8},
    "simulate.deep_linear.network_flow": {"model": NETWORK, "weights": MATRICES, "time": [0.0, 1.0], "tol": 1e-8},
    "simulate.deep_linear.initial_ntk": {"widths": [3, 2], "replicas": 2, "seed": 0},
    "simulate.deep_linear.initial_weights": {"widths": [3, 2], "replicas": 2, "seed": 0, "scale": 1.0},
}

ALSO_SOUND = {
    ("imbalance", "-1"),  # any real number
    ("input_covariance", "None"),
    ("record", "None"),
    ("residual", "-1"),
    ("width", "None"),
    ("models.deep_linear.ScalarChain", "target", "-1"),
    ("theory.deep_linear.equal_chain_sharpness", "target", "-1"),
    ("theory.deep_linear.two_layer_flow_sharpness", "target", "-1"),
    ("theory.deep_linear.initial_ntk_moments", "widths", "[]"),  # a network of depth 1
    ("simulate.deep_linear.initial_ntk", "widths", "[]"),
}

NOT_SOUND = {(f"theory.deep_linear.{name}", "width", "None") for name in (
    "initial_ntk_variance", "initial_ntk_relative_variance", "standard_initial_ntk",
)}  # fmt: skip

WRONG_LENGTH = {
    "models.deep_linear.DeepLinearNetwork": ("input_covariance", [[1.0]]),
    "models.deep_linear.DeepLinearNetwork.output": ("weights", [np.ones((3, 2)), np.ones((2, 2))]),
    "models.deep_linear.DeepLinearNetwork.loss": ("weights", [np.ones((2, 3))]),
    "models.deep_linear.DeepLinearNetwork.gradient": ("weights", [np.ones((3, 2)), np.ones((1, 3))]),
    "models.deep_linear.DeepLinearNetwork.step": ("weights", [np.ones((4, 3, 2)), np.ones((5, 2, 3))]),
    "models.deep_linear.balanced_network": ("target", [1.0, 2.0]),
    "theory.deep_linear.balanced_spectrum": ("input_covariance", [[1.0]]),
    "theory.deep_linear.mode_strength": ("start", [1.0, 2.0]),
    "simulate.deep_linear.chain_trajectory": ("weights", np.ones((2, 2, 2))),
    "simulate.deep_linear.network_trajectory": ("weights", [np.ones((3, 2))]),
    "simulate.deep_linear.chain_flow": ("weights", np.ones((2, 2))),
    "simulate.deep_linear.network_flow": ("weights", [np.ones((4, 2, 2))]),
    "simulate.deep_linear.initial_weights": ("widths", [3]),
}
