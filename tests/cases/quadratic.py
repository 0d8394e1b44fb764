"""Arguments for the functions and formulas of ``quadratic``; see the package's page."""

from sgdynamics.models.quadratic import MiniBatchQuadratic

MODEL = MiniBatchQuadratic([1.0, 0.5], 1.0, displacement=1.0)

# What methods are called on, by the name of the class.
INSTANCES = {"MiniBatchQuadratic": MODEL}

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
}

ALSO_SOUND = {
    ("average", "None"),  # the last iterate
    ("center", "-1"),
    ("displacement", "-1"),
    ("error", "-1"),
    ("position", "-1"),  # any real number
    ("record", "None"),
    ("smallest", "None"),
    ("trial_gain", "-1"),
}

WRONG_LENGTH = {
    "models.quadratic.MiniBatchQuadratic": ("center_variance", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.excess_risk": ("error", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.batch_loss": ("center", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.step": ("error", [1.0, 2.0, 3.0]),
    "theory.quadratic.moments": ("average", [0.5, 0.5]),
    "simulate.quadratic.ensemble": ("average", [0.5, 0.5]),
}

# Arguments that every formula takes.
TYPICAL = {
    "batch_size": 4.0,
    "beta": 0.75,
    "center_variance": 2.0,
    "curvature": 0.5,
    "curvature_exponent": 1.5,
    "dimension": 50.0,
    "gain": 0.5,
    "lag": 3.0,
    "learning_rate": 0.25,
    "momentum": 0.5,
    "nesterov": False,
    "noise": 0.1,
    "points": 4.0,
    "position": 0.25,
    "separation": 5.0,
    "source_exponent": 2.0,
    "steps": 7.0,
    "stride": 2.0,
    "time": 100.0,
    "trial_gain": 0.5,
    "variance": 0.75,
}
