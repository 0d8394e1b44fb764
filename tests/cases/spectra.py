"""Arguments for the functions of ``spectra``; see the package's page."""

_READ = {
    "source": [0.1, 0.5, 1.0],
    "kind": "eigenvalues",
    "dimension": 10,
    "smallest": 0.05,
    "unknown": 2,
    "bins": 3,
}

SOUND = {
    "models.spectra.read_spectrum": _READ,
    "models.spectra.quadratic_from_spectrum": {**_READ, "center_variance": 1.0, "displacement": 0.5, "batch_size": 2},
}

ALSO_SOUND = {
    ("kind", "None"),  # told from the numbers
    ("bins", "None"),
    ("center_variance", "None"),  # 1/curvature
    ("displacement", "-1"),
}
