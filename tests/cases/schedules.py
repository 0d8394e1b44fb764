"""Arguments for the functions and formulas of ``schedules``; see the package's page."""

from sgdynamics.models.quadratic import MiniBatchQuadratic

MODEL = MiniBatchQuadratic([1.0, 0.5], 1.0, displacement=1.0)

SOUND = {
    "models.schedules.constant": {"rate": 0.1, "steps": 4},
    "models.schedules.linear": {"rate": 0.1, "steps": 4, "final": 0.0, "first_at_rate": False},
    "models.schedules.cosine": {"rate": 0.1, "steps": 4, "final": 0.0, "first_at_rate": False},
    "models.schedules.step_decay": {"rate": 0.1, "steps": 4, "factor": 0.5, "every": 2},
    "models.schedules.warmup_stable_decay": {"rate": 0.1, "steps": 4, "warmup": 1, "decay": 1, "shape": "cosine"},
    "models.schedules.power_decay": {"rate": 0.1, "steps": 4, "exponent": 2.0, "decay": 2.0},
    "models.schedules.inverse_sqrt": {"rate": 0.1, "steps": 4, "warmup": 2},
    "models.schedules.describe": {"schedule": [0.1, 0.2]},
    "models.schedules.ema": {"beta": 0.5, "steps": 4},
    "models.schedules.swa": {"steps": 4, "start": 1},
    "models.schedules.tail": {"steps": 4, "points": 2, "stride": 2},
    "models.schedules.two_point": {"steps": 4, "separation": 2},
    "theory.schedules.center_weights": {"gains": [0.1, 0.2]},
    "theory.schedules.update_weights": {"schedule": [0.1, 0.2], "weight_decay": 0.5},
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
        "momentum": 0.5,
        "at_rest": True,
        "optimiser": "sgd",
    },
    "theory.schedules.gain_kept": {
        "weights": [0.5, 0.5],
        "target_schedule": [0.2, 0.1],
        "base_learning_rate": 0.2,
        "checkpoints": [0, 2],
        "momentum": 0.5,
        "at_rest": True,
    },
    "theory.schedules.schedule_of_merge": {
        "weights": [0.5, 0.25, 0.25],
        "base_learning_rate": [0.1, 0.2],
        "model": MODEL,
        "largest": 0.5,
    },
    "theory.schedules.schedule_free_weights": {"gains": [0.1, 0.2], "interpolation": 0.5},
}

ALSO_SOUND = {
    ("models.schedules.power_decay", "decay", "None"),  # all steps
    ("average", "None"),  # the last iterate
    ("base_gains", "-1"),  # gains may be any numbers
    ("curvature", "None"),  # asked for by one rule of merge_plan
    ("theory.schedules.schedule_of_merge", "largest", "None"),  # twice the base learning rate
    ("theory.schedules.ema_heavy_ball_gain", "gain", "-1"),
    ("theory.schedules.ema_heavy_ball_momentum", "gain", "-1"),
}

NOT_SOUND = {
    ("theory.schedules.average_center_weights", "average", "None"),
    ("theory.schedules.average_to_gains", "average", "None"),
    ("theory.schedules.equivalence", "average", "None"),
}

WRONG_LENGTH = {
    "theory.schedules.average_center_weights": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.average_to_gains": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.gains_to_average": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.equivalence": ("base_gains", [0.1, 0.1, 0.1]),
    "theory.schedules.merge_plan": ("checkpoints", [0, 1]),
    "theory.schedules.gain_kept": ("weights", [1.0]),
    "theory.schedules.schedule_of_merge": ("weights", [0.5, 0.5]),
}


def possible(at: dict) -> bool:
    """Whether a step is one of the run."""
    return at.get("step", 0) <= at.get("steps", at.get("step", 0))
