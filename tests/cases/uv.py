"""Arguments for the functions and formulas of ``uv``; see the package's page."""

from fractions import Fraction

import xarray as xr

from sgdynamics.models.uv import MultiExampleUV, UVNetwork

# What methods are called on, by the name of the class.
INSTANCES = {
    "UVNetwork": UVNetwork(2, target=1.0),
    "MultiExampleUV": MultiExampleUV([[1.0, 0.0], [0.0, 2.0]], [0.0, 1.0], width=4),
}


def possible(at: dict) -> bool:
    """Whether some weights have this output and kernel: the cone, in rational numbers."""
    if not {"output", "ntk", "kappa"} <= set(at):
        return True
    output, ntk, kappa = (Fraction(float(at[name])) for name in ("output", "ntk", "kappa"))
    return 4 * kappa * output**2 <= ntk**2


POINT = {"output": 0.5, "ntk": 4.0}
GRAM = [[1.0, 0.5], [0.5, 3.0]]
DIAGRAM = xr.Dataset(
    {
        "outcome": (("c", "seed"), [[30, 30], [2, 32]]),
        "initial_sharpness": (("c", "seed"), [[1.0, 1.0], [1.0, 1.0]]),
        "final_sharpness": (("c", "seed"), [[0.5, 0.5], [float("inf"), 0.1]]),
        "peak_loss_ratio": (("c", "seed"), [[1.0, 1.0], [float("inf"), 9.0]]),
        "peak_sharpness_ratio": (("c", "seed"), [[1.0, 1.0], [float("inf"), 2.0]]),
    },
    coords={"c": [1.0, 4.5]},
)

SOUND = {
    "models.uv.UVNetwork": {
        "width": 4,
        "target": 1.0,
        "input_norm": 1.0,
        "init_scale": 1.0,
        "parametrization": 0.0,
    },
    "models.uv.UVNetwork.loss": {"output": 0.5},
    "models.uv.UVNetwork.start": {"alignment_probability": 0.25, "ntk_probability": 0.5},
    "models.uv.UVNetwork.step": {**POINT, "learning_rate": 0.1},
    "models.uv.UVNetwork.function_values": {"hidden": [1.0, 0.5], "readout": [0.5, 0.25]},
    "models.uv.UVNetwork.gradient_step": {"hidden": [1.0, 0.5], "readout": [0.5, 0.25], "learning_rate": 0.1},
    "models.uv.UVNetwork.hessian_spectrum": {**POINT, "inputs": 3},
    "models.uv.MultiExampleUV": {"inputs": [[1.0, 0.0], [0.0, 2.0]], "targets": [0.0, 1.0], "width": 4},
    "models.uv.MultiExampleUV.step": {
        "outputs": [1.0, 0.0],
        "readout_norm": 2.0,
        "hidden_gram": GRAM,
        "learning_rate": 0.1,
    },
    "models.uv.MultiExampleUV.ntk": {"readout_norm": 2.0, "hidden_gram": GRAM},
    "models.uv.MultiExampleUV.residual": {"outputs": [1.0, 0.0]},
    "models.uv.MultiExampleUV.hessian_spectrum": {"outputs": [1.0, 0.0], "readout_norm": 2.0, "hidden_gram": GRAM},
    "models.uv.function_step": {**POINT, "learning_rate": 0.1, "kappa": 1.0, "target": 1.0},
    "models.uv.to_cone": {**POINT, "learning_rate": 0.1, "kappa": 1.0},
    "models.uv.from_cone": {"plus": 1.0, "minus": 0.5, "learning_rate": 0.1, "kappa": 1.0},
    "models.uv.cone_step": {"plus": 1.0, "minus": 0.5, "q": 0.5},
    "models.uv.log_cone_step": {"log_plus": 0.5, "log_minus": 0.25, "q": 0.5},
    "models.uv.hessian_eigenvalues": {**POINT, "target": 1.0, "kappa": 1.0},
    "theory.uv.catapult_final_ntk": {"c": 2.5, "start": 1e-3},
    "theory.uv.first_rise_rate": {
        "model": INSTANCES["MultiExampleUV"],
        "outputs": [1.0, 0.0],
        "readout_norm": 2.0,
        "hidden_gram": GRAM,
    },
    "theory.uv.fixed_points": {"q": 0.5},
    "theory.uv.jacobian": {"residual": 0.5, "ntk": 2.0, "q": 0.5},
    "theory.uv.period_doublings": {"count": 3},
    "theory.uv.period_doubling_limit": {},
    "theory.uv.two_cycle": {"q": 1.125},
    "theory.uv.regime": {
        "c": 2.5,
        "width": 16,
        "target": 1.0,
        "units": "ntk",
        "input_norm": 1.0,
        "init_scale": 1.0,
        "parametrization": 0.5,
        "alignment": 0.25,
    },
    "simulate.uv.trajectory": {**POINT, "learning_rate": 0.1, "kappa": 1.0, "target": 1.0, "steps": 3, "momentum": 0.5},
    "simulate.uv.scheduled_trajectory": {**POINT, "schedule": [0.1, 0.2], "kappa": 1.0, "target": 1.0},
    "simulate.uv.persistent_catapults": {
        **POINT,
        "kappa": 1.0,
        "target": 1.0,
        "strength": 2.5,
        "peak": 0.5,
        "steps": 3,
    },
    "simulate.uv.phase_diagram": {
        "c": [1.0, 3.0],
        "width": [4],
        "steps": 3,
        "seeds": 2,
        "units": "ntk",
        "target": 1.0,
        "seed": 0,
        "input_norm": 1.0,
        "init_scale": 1.0,
        "parametrization": 0.5,
        "start": "random",
        "margin": 0.1,
    },
    "simulate.uv.thresholds": {"diagram": DIAGRAM, "margin": 0.1},
    "simulate.uv.over_seeds": {"diagram": DIAGRAM},
    "simulate.uv.lyapunov": {"q": [0.5, 1.5], "steps": 3, "transient": 2, "start": 0.3},
    "simulate.uv.bifurcation": {
        "q": [0.5, 1.5],
        "transient": 2,
        "keep": 3,
        "start": 0.3,
        "imbalance": 0.1,
        "continuation": True,
    },
}

ALSO_SOUND = {
    ("alignment", "-1"),
    ("log_minus", "-1"),
    ("log_plus", "-1"),
    ("output", "-1"),
    ("output_over_residual", "-1"),
    ("target", "-1"),
    ("theory.uv.regime", "alignment", "None"),  # the typical start
    ("theory.uv.jacobian", "residual", "-1"),
    ("theory.uv.jacobian", "q", "-1"),
    ("models.uv.cone_step", "q", "-1"),
    ("models.uv.log_cone_step", "q", "-1"),
}

WRONG_LENGTH = {
    "models.uv.UVNetwork.gradient_step": ("hidden", [1.0, 2.0, 3.0]),
    "models.uv.MultiExampleUV": ("targets", [1.0, 2.0, 3.0]),
    "models.uv.MultiExampleUV.step": ("outputs", [1.0, 2.0, 3.0]),
    "models.uv.MultiExampleUV.ntk": ("hidden_gram", [[1.0]]),
    "models.uv.MultiExampleUV.residual": ("outputs", [1.0, 2.0, 3.0]),
    "models.uv.MultiExampleUV.hessian_spectrum": ("outputs", [1.0, 2.0, 3.0]),
    "theory.uv.first_rise_rate": ("outputs", [1.0, 2.0, 3.0]),
}
