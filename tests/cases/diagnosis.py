"""Arguments for the functions and formulas of ``diagnosis``; see the package's page."""

import numpy as np

RANDOM = np.random.default_rng(0)
TEST = {"margin": 0.1, "confidence": 0.9, "blocks": 5, "seed": 0}
PATH = np.cumsum(RANDOM.normal(size=(60, 3)), axis=0)

SOUND = {
    "theory.diagnosis.half_rate_vertex": {
        "loss": 1 + (np.array([0.0, 0.1, 0.2]) - RANDOM.normal(0.05, 0.01, (20, 1))) ** 2,
        "trial_rate": [0.0, 0.1, 0.2],
        "learning_rate": 0.1,
        **TEST,
    },
    "theory.diagnosis.gradient_cosines": {
        "gradient": RANDOM.normal(size=(20, 3)),
        "independent_gradient": RANDOM.normal(size=(20, 3)),
        **TEST,
    },
    "theory.diagnosis.distance_plateau": {"weights": PATH, "stride": 2, "confidence": 0.9},
    "theory.diagnosis.fit_loss_curve": {
        "step": np.arange(30),
        "loss": 1 / (1 + np.arange(30)) + 0.1,
        "confidence": 0.9,
    },
    "theory.diagnosis.diagnose": {
        "run": {"loss": 1 / (1 + np.arange(30)), "weights": PATH[:30]},
        "learning_rate": 0.1,
        **TEST,
    },
}

ALSO_SOUND = {("theory.diagnosis.diagnose", "learning_rate", "None")}  # for trial losses alone

WRONG_LENGTH = {
    "theory.diagnosis.half_rate_vertex": ("trial_rate", [0.0, 0.1]),
    "theory.diagnosis.gradient_cosines": ("independent_gradient", [[0.0, 0.1, 0.2]]),
    "theory.diagnosis.fit_loss_curve": ("loss", [1.0, 0.5]),
    "theory.diagnosis.diagnose": ("run", {"loss": [1.0], "weights": [[1.0], [2.0]]}),
}
