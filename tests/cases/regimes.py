"""Arguments for the functions of ``regimes``; see the package's page."""

import xarray as xr

RUN = xr.Dataset(
    {"sharpness": ("step", [9.0, 5.0, 5.1, 12.0, 19.5, 20.0])},
    {"step": [0, 1, 2, 3, 4, 5], "time": ("step", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])},
)

SOUND = {"theory.regimes.time_regimes": {"run": RUN, "rise": 0.1, "band": 0.1}}
