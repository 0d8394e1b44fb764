"""Arguments for ``checkpoints``; see the package's page."""

import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(tempfile.mkdtemp(prefix="sgdynamics-checkpoints-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
PATHS = [str(FOLDER / f"{step}.npz") for step in range(2)]
for path in PATHS:
    np.savez(path, **{"module.weight": np.ones(3)})

SOUND = {
    "ground.checkpoints.merge": {
        "paths": PATHS,
        "plan": [0.5, 0.5],
        "output": str(FOLDER / "merged.npz"),
        "in_this_order": False,
        "strip_prefix": ["module."],
        "copy": ["module.weight"],
        "optimiser_state": False,
        "dry_run": True,
        "progress": False,
    },
}

ALSO_SOUND = {("strip_prefix", "[]"), ("copy", "[]")}

WRONG_LENGTH = {"ground.checkpoints.merge": ("plan", [1.0])}
