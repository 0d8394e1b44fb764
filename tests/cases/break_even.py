"""Arguments for the functions and formulas of ``break_even``; see the package's page."""

import numpy as np
import xarray as xr

from sgdynamics.models.break_even import SelfStabilizingMode, SelfStabilizingModes

CURVATURES = [0.5, 1.0, 1.5]
MODE = SelfStabilizingMode(CURVATURES, [-0.1, 0.2, -0.1], sharpening=0.01)
MODES = SelfStabilizingModes(np.transpose([CURVATURES, [1.2, 0.6, 1.2]]), sharpening=[0.02, 0.01])
FIELDS = {
    "forces": 0.0,
    "sharpening": 0.01,
    "restoring": 1.0,
    "batch_size": 2,
    "sampling": "replacement",
    "start": 0.1,
    "start_curvature": 1.0,
    "oscillation_floor": 1e-6,
    "curvature_floor": 1e-3,
}
PAIR = {"x": 0.1, "curvature": 2.0}
PAIRS = {"x": [0.1, 0.2], "curvature": [2.0, 1.0]}
STEP = {"learning_rate": 0.1, "drawn": [0, 2]}

STEPS = np.arange(0, 601, 50)
GROWN = np.minimum(1 + 0.05 * STEPS, 16.0)
RUN = xr.Dataset(
    {
        "sharpness": ("step", GROWN),
        "curvature_variance": ("step", GROWN**2),
        "gradient_variance": ("step", 0.3 * GROWN),
    },
    {"step": STEPS, "time": ("step", 0.1 * STEPS)},
    {"sampling": "replacement", "batch_size": 4.0, "examples": 1024.0},
)

PATH = {
    "path": lambda distance: 1 / distance,
    "start": 1.0,
    "nearest": 1e-3,
    "learning_rate": 0.1,
    "batch_size": 4,
    "examples": 1024,
    "alignment": 0.05,
    "replacement": False,
}
ENSEMBLE = {
    "hessians": None,
    "batch_size": 2,
    "features": [[1.0, 0.5], [0.3, -1.0], [2.0, 0.1]],
    "sampling": "without_replacement",
}

INSTANCES = {"SelfStabilizingMode": MODE, "SelfStabilizingModes": MODES}

_SHARED = ("gradient", "projection_variance", "curvature_variance", "loss", "sharpness", "gradient_variance", "dead")
SOUND = {
    "models.break_even.SelfStabilizingMode": {"relative_curvatures": CURVATURES, **FIELDS},
    "models.break_even.SelfStabilizingModes": {"relative_curvatures": np.transpose([CURVATURES] * 2), **FIELDS},
    **{f"models.break_even.SelfStabilizingMode.{name}": PAIR for name in (*_SHARED, "example_losses", "hessian")},
    **{f"models.break_even.SelfStabilizingModes.{name}": PAIRS for name in _SHARED},
    "models.break_even.SelfStabilizingMode.step": {**PAIR, **STEP},
    "models.break_even.SelfStabilizingModes.step": {**PAIRS, **STEP},
    "models.break_even.SelfStabilizingModes.trace": {"curvature": [2.0, 1.0]},
    "models.break_even.SelfStabilizingModes.condition_ratio": {"curvature": [2.0, 1.0]},
    "models.break_even.SelfStabilizingModes.free_curvature": {"time": 3.0},
    "models.break_even.draw_ensemble": {
        "examples": 5,
        "relative_variance": 0.5,
        "force_deviation": 0.1,
        "law": "gamma",
        "modes": 2,
        "exact_moments": True,
        "seed": 0,
    },
    "simulate.break_even.ensemble": {
        "model": MODES,
        "learning_rate": 0.1,
        "steps": 3,
        "replicas": 2,
        "seed": 0,
        "window": 0.5,
        "record": [0, 3],
        "edge": 10.0,
        "nudge": 0.5,
        "nudged": 1,
        "refresh": 2,
    },
    "models.break_even.gaussian_features": {"examples": 5, "dimensions": 3, "decay": 1.0, "seed": 0},
    "theory.break_even.break_even_crossing": PATH,
    "theory.break_even.proof_conditions": PATH,
    "theory.break_even.clipped_modes": {"modes": MODES, "learning_rate": 0.1, "time": 100.0},
    **{
        f"theory.break_even.{name}": ENSEMBLE for name in ("mean_square_edge", "sharpest_direction_edge", "strict_edge")
    },
    "theory.break_even.direction_edges": {
        "curvatures": CURVATURES,
        "batch_size": 2,
        "sampling": "without_replacement",
    },
    "theory.break_even.trace_rule_edge": {"eigenvalues": [1.0, 0.5], "batch_factor": 0.25},
    "theory.break_even.kernel_norm_edge": {"eigenvalues": [1.0, 0.5], "batch_factor": 0.25, "outputs": 2},
    "theory.break_even.predicted_break_even": {
        "run": RUN,
        "learning_rate": 0.1,
        "batch_size": 4,
        "examples": 1024,
        "sampling": "without_replacement",
        "reference": RUN,
        "early": 0.5,
        "tol": 0.15,
    },
}

_POINTS = [name for name, arguments in SOUND.items() if "x" in arguments or list(arguments) == ["curvature"]]
ALSO_SOUND = {
    *((name, part, "-1") for name in _POINTS for part in ("x", "curvature") if not name.endswith("condition_ratio")),
    *((f"models.break_even.{name}", "start", "-1") for name in ("SelfStabilizingMode", "SelfStabilizingModes")),
    *((f"models.break_even.{name}.step", "drawn", "None") for name in ("SelfStabilizingMode", "SelfStabilizingModes")),
    ("models.break_even.draw_ensemble", "modes", "None"),
    ("simulate.break_even.ensemble", "record", "None"),
    ("simulate.break_even.ensemble", "edge", "None"),
    *(
        (f"theory.break_even.{name}", "hessians", "None")
        for name in ("mean_square_edge", "sharpest_direction_edge", "strict_edge")
    ),
    *(
        ("theory.break_even.predicted_break_even", name, "None")
        for name in ("learning_rate", "batch_size", "examples", "sampling", "reference")
    ),
}
ALSO_SOUND -= {("models.break_even.SelfStabilizingModes.condition_ratio", "curvature", "-1")}

WRONG_LENGTH = {
    "models.break_even.SelfStabilizingMode": ("forces", [1.0, -1.0]),
    "models.break_even.SelfStabilizingModes": ("sharpening", [0.1, 0.2, 0.3]),
    **{
        f"models.break_even.SelfStabilizingModes.{name}": ("x", [0.1, 0.2, 0.3])
        for name in ("loss", "sharpness", "gradient_variance")
    },
    "models.break_even.SelfStabilizingModes.trace": ("curvature", [0.1, 0.2, 0.3]),
    "models.break_even.SelfStabilizingModes.condition_ratio": ("curvature", [0.1, 0.2, 0.3]),
    "models.break_even.draw_ensemble": ("relative_variance", [0.1, 0.2]),
    "models.break_even.gaussian_features": ("decay", [0.1, 0.2]),
    "simulate.break_even.ensemble": ("window", [0.5, 0.5]),
    "theory.break_even.break_even_crossing": ("start", [1.0, 2.0]),
    "theory.break_even.proof_conditions": ("alignment", [1.0, 2.0]),
    "theory.break_even.clipped_modes": ("learning_rate", [0.1, 0.2]),
    **{
        f"theory.break_even.{name}": ("features", [1.0, 2.0])
        for name in ("mean_square_edge", "sharpest_direction_edge", "strict_edge")
    },
    "theory.break_even.direction_edges": ("curvatures", [[1.0, 2.0]]),
    "theory.break_even.trace_rule_edge": ("eigenvalues", [[1.0, 2.0]]),
    "theory.break_even.kernel_norm_edge": ("outputs", [1, 2]),
    "theory.break_even.predicted_break_even": ("learning_rate", [0.1, 0.2]),
}
