"""Arguments for the functions and formulas of ``sharpest_directions``; see the package's page."""

import xarray as xr

SLOPE = xr.DataArray([1.0, -0.5, 0.25], dims="measured_step")
RUN = xr.Dataset(
    {
        "gradient_projection": SLOPE,
        "curvature": 4 + 0 * SLOPE,
        "projection_second_moment": SLOPE**2 + 1,
        "batch_projection": xr.concat([SLOPE + 1, SLOPE - 1], "draw"),
    }
)
EVENT = {"learning_rate": 0.1, "curvature": 2.0, "slope": 1.0, "batch_slope": 0.5}

SOUND = {
    "theory.sharpest_directions.overshoots": EVENT,
    "theory.sharpest_directions.increases": EVENT,
    "theory.sharpest_directions.step_to_curvature": {
        "data": RUN,
        "learning_rate": 0.1,
        "blocks": 3,
        "dim": "measured_step",
    },
}

ALSO_SOUND = {
    *((name, part, "-1") for name in SOUND for part in ("curvature", "slope", "batch_slope") if part in SOUND[name]),
}

WRONG_LENGTH = {
    "theory.sharpest_directions.step_to_curvature": ("learning_rate", [0.1, 0.2]),
}
