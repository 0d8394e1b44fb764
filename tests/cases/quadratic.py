"""Arguments for the functions and formulas of ``quadratic``; see the package's page."""

from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic

MODEL = MiniBatchQuadratic([1.0, 0.5], 1.0, displacement=1.0)
FULL = FullQuadratic([[1.0, 0.3], [0.3, 0.5]], [[1.0, -0.2], [-0.2, 2.0]], displacement=1.0)
EXAMPLES = FiniteSumQuadratic([0.5, 1.5], [1.0, -1.0], displacement=1.0)
LINE = FiniteSumQuadratic([0.5, 1.5])
RESHUFFLED = FiniteSumQuadratic([0.5, 1.5], sampling="reshuffled")
REGRESSION = GaussianLeastSquares([1.0, 0.5], 0.1, displacement=1.0)

# What methods are called on, by the name of the class.
INSTANCES = {
    "MiniBatchQuadratic": MODEL,
    "FullQuadratic": FULL,
    "FiniteSumQuadratic": EXAMPLES,
    "GaussianLeastSquares": REGRESSION,
}

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
    "models.quadratic.FullQuadratic": {
        "hessian": [[1.0, 0.3], [0.3, 0.5]],
        "center_covariance": 1.0,
        "displacement": 0.0,
        "batch_size": 1,
    },
    "models.quadratic.FullQuadratic.excess_risk": {"error": 1.0},
    "models.quadratic.FullQuadratic.batch_loss": {"error": 1.0, "center": 0.0},
    "models.quadratic.FullQuadratic.batch_gradient": {"error": 1.0, "center": 0.0},
    "models.quadratic.FullQuadratic.step": {"error": 1.0, "center": 0.0, "learning_rate": 0.1},
    "models.quadratic.FiniteSumQuadratic": {
        "hessians": [0.5, 1.5],
        "centers": [1.0, -1.0],
        "center_covariance": 0.5,
        "displacement": 0.0,
        "batch_size": 1,
        "sampling": "replacement",
        "probabilities": [0.25, 0.75],
    },
    "models.quadratic.FiniteSumQuadratic.excess_risk": {"error": 1.0},
    "models.quadratic.FiniteSumQuadratic.batch_loss": {"error": 1.0, "drawn": [0, 1], "center_noise": 0.0},
    "models.quadratic.FiniteSumQuadratic.batch_gradient": {"error": 1.0, "drawn": [0, 1], "center_noise": 0.0},
    "models.quadratic.FiniteSumQuadratic.step": {
        "error": 1.0,
        "drawn": [0, 1],
        "learning_rate": 0.1,
        "center_noise": 0.0,
    },
    "models.quadratic.GaussianLeastSquares": {
        "feature_variance": [1.0, 0.5],
        "label_noise": 0.1,
        "displacement": 0.0,
        "batch_size": 1,
    },
    "models.quadratic.GaussianLeastSquares.excess_risk": {"error": 1.0},
    "models.quadratic.GaussianLeastSquares.batch_loss": {"error": 1.0, "features": [[1.0, 2.0]], "noise": 0.0},
    "models.quadratic.GaussianLeastSquares.batch_gradient": {"error": 1.0, "features": [[1.0, 2.0]], "noise": 0.0},
    "models.quadratic.GaussianLeastSquares.step": {
        "error": 1.0,
        "features": [[1.0, 2.0]],
        "learning_rate": 0.1,
        "noise": 0.0,
    },
    "theory.quadratic.autocovariance": {
        "model": FULL,
        "learning_rate": 0.1,
        "lags": [0, 2],
        "momentum": 0.5,
        "nesterov": False,
    },
    "theory.quadratic.mean_edge": {"model": FULL, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.second_moment_edge": {"model": EXAMPLES, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.mean_square_growth": {
        "model": EXAMPLES,
        "learning_rate": 0.1,
        "momentum": 0.5,
        "nesterov": False,
    },
    "theory.quadratic.one_step_edge": {"model": EXAMPLES},
    "theory.quadratic.trace_edge": {"model": EXAMPLES},
    "theory.quadratic.top_direction_edge": {"model": EXAMPLES},
    "theory.quadratic.critical_rate": {
        "model": MODEL,
        "schedule": [0.1, 0.2],
        "full_gradient": False,
        "record": [0, 2],
    },
    "theory.quadratic.noise_scale": {"model": MODEL, "schedule": [0.1, 0.2], "record": [0, 2]},
    "theory.quadratic.preconditioned": {"model": MODEL, "exponent": 0.5},
    "theory.quadratic.average_variance": {
        "gain": 0.5,
        "average": [0.5, 0.25, 0.25],
        "momentum": 0.5,
        "nesterov": False,
    },
    "theory.quadratic.almost_sure_edge": {"model": LINE, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.almost_sure_growth": {
        "model": LINE,
        "learning_rate": 0.1,
        "momentum": 0.5,
        "nesterov": False,
    },
    "theory.quadratic.tail_index": {"model": EXAMPLES, "learning_rate": 0.1},
    "theory.quadratic.reshuffled_growth": {
        "model": RESHUFFLED,
        "learning_rate": 0.1,
        "momentum": 0.5,
        "nesterov": False,
    },
    "theory.quadratic.reshuffled_edge": {"model": RESHUFFLED, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.moments": {
        "model": MODEL,
        "schedule": [0.1, 0.2],
        "average": [0.5, 0.25, 0.25],
        "momentum": 0.5,
        "nesterov": False,
        "batch_sizes": [1, 4],
        "record": [2],
    },
    "theory.quadratic.stationary": {"model": MODEL, "learning_rate": 0.1, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.stability": {"model": MODEL, "learning_rate": 0.1, "momentum": 0.5, "nesterov": False},
    "theory.quadratic.greedy_schedule": {"model": MODEL, "steps": 3},
    "theory.quadratic.optimal_schedule": {"model": MODEL, "steps": 3, "largest": 0.5},
    "theory.quadratic.forcing_and_memory": {"model": REGRESSION, "schedule": [0.1, 0.2], "record": [0, 2]},
    "theory.quadratic.best_power_decay": {"model": MODEL, "steps": 3, "rate": 0.1, "decay": 2.0, "exponent": 1.0},
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
    "simulate.quadratic.top_lyapunov_exponent": {
        "model": FiniteSumQuadratic([0.5, 1.5]),
        "learning_rate": 0.1,
        "steps": 3,
        "replicas": 2,
        "seed": 0,
        "momentum": 0.5,
        "nesterov": False,
    },
}

ALSO_SOUND = {
    ("centers", "-1"),
    ("center_noise", "-1"),
    ("noise", "-1"),
    ("probabilities", "None"),
    ("average", "None"),  # the last iterate
    ("center", "-1"),
    ("displacement", "-1"),
    ("error", "-1"),
    ("position", "-1"),  # any real number
    ("record", "None"),
    ("batch_sizes", "None"),
    ("smallest", "None"),
    ("trial_gain", "-1"),
    ("theory.quadratic.preconditioned", "exponent", "-1"),  # any real number
    ("largest", "None"),
    ("rate", "None"),
    ("decay", "None"),
    ("theory.quadratic.best_power_decay", "exponent", "None"),  # searched
}

NOT_SOUND = {("theory.quadratic.average_variance", "average", "None")}

WRONG_LENGTH = {
    "models.quadratic.MiniBatchQuadratic": ("center_variance", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.excess_risk": ("error", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.batch_loss": ("center", [1.0, 2.0, 3.0]),
    "models.quadratic.MiniBatchQuadratic.step": ("error", [1.0, 2.0, 3.0]),
    "models.quadratic.FullQuadratic": ("displacement", [1.0, 2.0, 3.0]),
    "models.quadratic.FullQuadratic.excess_risk": ("error", [1.0, 2.0, 3.0]),
    "models.quadratic.FullQuadratic.step": ("center", [1.0, 2.0, 3.0]),
    "models.quadratic.FiniteSumQuadratic": ("centers", [1.0, 2.0, 3.0]),
    "models.quadratic.FiniteSumQuadratic.step": ("center_noise", [1.0, 2.0, 3.0]),
    "models.quadratic.GaussianLeastSquares": ("displacement", [1.0, 2.0, 3.0]),
    "models.quadratic.GaussianLeastSquares.step": ("features", [[1.0, 2.0, 3.0]]),
    "theory.quadratic.moments": ("average", [0.5, 0.5]),
    "simulate.quadratic.ensemble": ("average", [0.5, 0.5]),
}
