"""Arguments for the functions and formulas of ``forecast``; see the package's page."""

import numpy as np

from sgdynamics.models.schedules import constant, cosine
from sgdynamics.theory.forecast import fit

STEP = np.arange(10, 201, 10)
RUNS = [(rates, STEP, 2 + (1 + np.cumsum(rates)[STEP - 1]) ** -0.5 + 0.1 * rates[STEP - 1])
        for rates in (constant(1.0, 200), cosine(1.0, 200))]  # fmt: skip
FITTED = fit(RUNS, batch_size=32)

SOUND = {
    "theory.forecast.fit": {"runs": RUNS, "confidence": 0.9, "batch_size": 32},
    "theory.forecast.predict": {
        "fitted": FITTED,
        "schedule": [1.0, 0.5],
        "record": [2],
        "average": [0.25, 0.25, 0.5],
        "batch_size": 64,
    },
    "theory.forecast.next_run": {
        "fitted": FITTED,
        "schedule": [1.0, 0.5],
        "candidates": {"longer": constant(1.0, 20)},
        "records": 12,
    },
    "theory.forecast.quadratic_at": {"fitted": FITTED, "schedule": [1.0, 0.5]},
    "theory.forecast.best_schedule": {"fitted": FITTED, "steps": 5, "peak": 1.0, "warmup": 1},
    "theory.forecast.last_iterate_bound": {"schedule": [1.0, 0.5], "distance": 1.0, "gradient_bound": 1.0},
}

ALSO_SOUND = {("average", "None"), ("batch_size", "None"), ("record", "None")}

WRONG_LENGTH = {"theory.forecast.predict": ("average", [0.5, 0.5])}
