"""What a merge risks, and how far it is from the decay: in all, and by the decade of gain."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdynamics.theory.schedules._along_steps import Array
from sgdynamics.theory.schedules.merging.quadratic_form import Steps
from sgdynamics.theory.schedules.merging.window import Window

# Variables of a Dataset: dims, values, attributes.
Variables = dict[str, tuple[Any, ...]]

_PARTS = {
    "base": "the last checkpoint",
    "target": "the decay",
    "merged": "the merged point",
}


def risks(
    window: Window, base: Array, target: Array, checkpoints: Steps, candidates: Array
) -> tuple[dict[str, tuple[Any, str, str]], tuple[Variables, Variables]]:
    """Exact risks and distances of the candidates (merged, lowest, closest), of the last checkpoint and the target."""
    averages = np.zeros((5, base.size + 1))
    averages[:3, checkpoints] = candidates
    averages[3:, -1] = 1.0
    points, gaps = window.moments(np.array([base, base, base, base, target]), averages)
    merged, lowest, closest, last, decayed = range(5)
    risk, distance = points.risk.sum(axis=-1), gaps.risk.sum(axis=-1)
    total = float(risk[decayed])
    described: dict[str, tuple[Any, str, str]] = {}
    for name, row in {"base": last, "target": decayed, "merged": merged}.items():
        described |= {
            f"{name}_risk": (risk[row], f"expected excess risk of {_PARTS[name]}", "loss"),
            f"{name}_bias": (points.bias[row].sum(), f"part of it that the start leaves, {_PARTS[name]}", "loss"),
            f"{name}_noise": (points.noise[row].sum(), f"part of it that the batches make, {_PARTS[name]}", "loss"),
        }
    described |= {
        "residual": (distance[merged] / total, "distance to the target over its risk", "1"),
        "residual_bias": (gaps.start[merged].sum() / total, "part of the residual from the start", "1"),
        "residual_velocity": (gaps.velocity[merged].sum() / total, "part of the residual from its velocity", "1"),
        "residual_noise": (gaps.noise[merged].sum() / total, "part of the residual from the batches", "1"),
        "noise_floor": (risk[lowest], "lowest expected excess risk of any merge of the checkpoints", "loss"),
        "residual_floor": (distance[closest] / total, "lowest residual of any merge of the checkpoints", "1"),
    }
    if risk[decayed] < risk[last]:
        kept = (risk[last] - risk[merged]) / (risk[last] - risk[decayed])
        described["gain_kept"] = (kept, "share of what the decay gains over the last checkpoint", "1")
    by_band = {
        "residual": gaps.risk[merged] / total,
        "target_risk": points.risk[decayed],
        "merged_risk": points.risk[merged],
        "base_risk": points.risk[last],
    }
    return described, _bands(window.curvature * base.max(), by_band)


def _bands(gain: Array, by_mode: dict[str, Array]) -> tuple[Variables, Variables]:
    """Sums over the decades of gain that have modes, and the edges of these decades."""
    decade = np.floor(np.log10(gain)).astype(int)
    found, place = np.unique(decade, return_inverse=True)
    sums = {name: np.bincount(place, values, found.size) for name, values in by_mode.items()}
    edges = {"lowest_gain": 10.0**found, "highest_gain": 10.0 ** (found + 1)}
    return (
        {
            f"band_{name}": (
                "band",
                values,
                {"long_name": f"{name.replace('_', ' ')} in the band", "units": "1" if name == "residual" else "loss"},
            )
            for name, values in sums.items()
        },
        {name: ("band", values, {"long_name": name.replace("_", " "), "units": "1"}) for name, values in edges.items()},
    )
