"""Arguments for the functions and formulas of ``patterns``; see the package's page."""

import xarray as xr

from sgdynamics.models.patterns import (
    TwoBlockNetwork,
    TwoPatternData,
    TwoPatternSample,
    TwoPatternSetting,
    TwoPatternTraining,
)

DATA = TwoPatternData(3, p_only=0.2, q_only=0.2, margin=0.5, separation=0.2, amplitude=2.0, alpha_low=0.5)
TRAINING = TwoPatternTraining(0.5, 0.1, 2.0, 1.0, weight_decay=0.01)
SETTING = TwoPatternSetting(DATA, TRAINING, 12)
SAMPLE = TwoPatternSample([[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]], [1, -1, -1], [0, 1, 2], [-1, 2, 1], [0.0, 1.0, 0.5])
NETWORK = TwoBlockNetwork(2, 2)
WEIGHTS = {"first": [[1.0, 0.5], [0.5, -1.0]], "second": [[1.0, 0.0], [0.0, 1.0]]}

# What methods are called on, by the name of the class.
INSTANCES = {
    "TwoBlockNetwork": NETWORK,
    "TwoPatternData": DATA,
    "TwoPatternSample": SAMPLE,
    "TwoPatternSetting": SETTING,
    "TwoPatternTraining": TRAINING,
}

SAMPLE_IN_3D = SETTING.draw(0)

SOUND = {
    "simulate.patterns.trajectory": {
        "setting": SETTING,
        "sample": SAMPLE_IN_3D,
        "algorithm": "small",
        "width_p": 2,
        "width_q": 4,
        "seed": 0,
        "batch_size": 2,
        "test": None,
        "record": [0, 5],
    },
    "models.patterns.TwoBlockNetwork": {"width_p": 2, "width_q": 4},
    "models.patterns.TwoBlockNetwork.ray_values": {"second": WEIGHTS["second"], "data": DATA},
    "models.patterns.TwoBlockNetwork.output": {**WEIGHTS, "sample": SAMPLE, "data": DATA},
    "models.patterns.TwoBlockNetwork.loss": {**WEIGHTS, "sample": SAMPLE, "data": DATA},
    "models.patterns.TwoBlockNetwork.gradient": {**WEIGHTS, "sample": SAMPLE, "data": DATA},
    "models.patterns.TwoBlockNetwork.step": {
        **WEIGHTS,
        "sample": SAMPLE,
        "data": DATA,
        "learning_rate": 0.1,
        "weight_decay": 0.01,
        "noise_first": 0.0,
        "noise_second": 0.0,
    },
    "models.patterns.TwoPatternData": {
        "dimension": 3,
        "p_only": 0.2,
        "q_only": 0.2,
        "margin": 0.0,
        "separation": 0.1,
        "amplitude": 1.0,
        "alpha_low": 0.0,
    },
    "models.patterns.TwoPatternData.draw": {"examples": 4, "seed": 0},
    "models.patterns.TwoPatternData.draw_around": {"inputs": [[1.0, 2.0], [3.0, 4.0]], "label": [1, -1], "seed": 0},
    "models.patterns.TwoPatternData.second_inputs": {"sample": SAMPLE},
    "models.patterns.TwoPatternSample": {
        "inputs": [[1.0, 0.0], [0.0, 0.0]],
        "label": [1, -1],
        "kind": [0, 1],
        "ray": [-1, 2],
        "alpha": [0.0, 1.0],
    },
    "models.patterns.TwoPatternSample.count": {"kind": "both"},
    "models.patterns.TwoPatternSample.has": {"kind": 1},
    "models.patterns.TwoPatternSetting": {"data": DATA, "training": TRAINING, "examples": 12, "allow_unstable": False},
    "models.patterns.TwoPatternSetting.draw": {"seed": 0},
    "models.patterns.TwoPatternSetting.unit_constants": {
        "dimension": 16,
        "p_fraction": 0.5,
        "q_only": 0.2,
        "rate_ratio": 100.0,
    },
    "models.patterns.TwoPatternTraining": {
        "large_rate": 0.5,
        "small_rate": 0.1,
        "first_time": 2.0,
        "second_time": 1.0,
        "weight_decay": 0.01,
        "coarse_step": 0.5,
        "noise_scale_p": 0.1,
        "noise_scale_q": 3.0,
        "activation_noise": 2.0,
    },
    "models.patterns.TwoPatternTraining.steps": {"algorithm": "small"},
    "theory.patterns.first_time_below": {
        "run": xr.Dataset({"loss": ("step", [0.7, 0.4])}, coords={"time": ("step", [0.0, 0.5])}),
        "variable": "loss",
        "level": 0.5,
    },
    "theory.patterns.gap_map": {
        "setting": SETTING,
        "seeds": 1,
        "rate_ratio": [2.0],
        "separation": None,
        "weight_decay": 0.02,
    },
    "theory.patterns.population_dynamics": {"setting": SETTING, "algorithm": "small", "kernel": "relu"},
    "theory.patterns.predicted_learning": {"setting": SETTING},
    "theory.patterns.reduced_dynamics": {
        "setting": SETTING,
        "sample": SAMPLE,
        "algorithm": "small",
        "kernel": "relu",
        "stop_loss": 0.1,
    },
    "theory.patterns.reversal_conditions": {"setting": SETTING},
}

ALSO_SOUND = {
    ("coarse_step", "None"),
    ("cosine", "-1"),
    ("level", "-1"),
    ("noise_first", "-1"),
    ("noise_second", "-1"),
    ("stop_loss", "None"),
    # None keeps what the setting has
    ("theory.patterns.gap_map", "rate_ratio", "None"),
    ("theory.patterns.gap_map", "separation", "None"),
    ("theory.patterns.gap_map", "weight_decay", "None"),
    ("simulate.patterns.trajectory", "batch_size", "None"),
    ("simulate.patterns.trajectory", "record", "None"),
    ("simulate.patterns.trajectory", "test", "None"),
}

WRONG_LENGTH = {
    "models.patterns.TwoPatternSample": ("label", [1]),
    "models.patterns.TwoPatternData.draw_around": ("label", [1]),
    "models.patterns.TwoBlockNetwork.output": ("first", [[1.0, 0.5]]),
    "models.patterns.TwoBlockNetwork.ray_values": ("second", [[1.0, 0.5]]),
}
