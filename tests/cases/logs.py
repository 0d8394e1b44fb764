"""Arguments for ``logs``; see the package's page."""

from pathlib import Path

LOG = Path(__file__).parent.parent / "logs" / "commas.csv"

SOUND = {
    "ground.logs.read": {
        "path": LOG,
        "column": "train_loss",
        "step_column": "global_step",
        "rate_column": "lr",
        "from_step": 1,
    },
    "ground.logs.in_order": {"step": [0, 10, 20], "loss": [3.0, 2.0, 1.0]},
}

ALSO_SOUND = {
    ("column", "None"),  # found by its heading
    ("step_column", "None"),
    ("rate_column", "None"),
    ("from_step", "None"),
    ("ground.logs.in_order", "loss", "None"),
}

WRONG_LENGTH = {"ground.logs.in_order": ("loss", [1.0])}
