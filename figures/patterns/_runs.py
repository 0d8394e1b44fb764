"""Runs of the two-pattern model that the figures of Li, Wei and Ma share: the reduced model and the network, paired."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from figures.engine.colors import BLUE, GREEN, VERMILION
from sgdynamics.models.patterns import TwoPatternSample, TwoPatternSetting
from sgdynamics.simulate.patterns import trajectory
from sgdynamics.theory.patterns import reduced_dynamics

LARGE, SMALL, NOISY = "large_then_small", "small", "small_with_activation_noise"
COLORS = {LARGE: BLUE, SMALL: VERMILION, NOISY: GREEN}
LABELS = {LARGE: "large, then small", SMALL: "small", NOISY: "small, noisy at first"}

WIDTH_P = 200
WIDTH_Q = 100_000

CURVES = ("loss", "loss_p_only", "loss_q_only", "loss_both", "curvature", "p_only_error")


def grid(setting: TwoPatternSetting, algorithm: str, points: int) -> list[int]:
    """About so many steps, evenly over the whole course, with the first, the last and both sides of the switch."""
    steps = setting.training.steps(algorithm)
    last, switch = int(steps.step[-1]), int(steps.attrs["switch_step"])
    return sorted({0, switch - 1, switch, last, *np.linspace(0, last, points, dtype=int).tolist()})


def network_run(
    setting: TwoPatternSetting,
    algorithm: str,
    seed: int,
    *,
    sample: TwoPatternSample | None = None,
    test: TwoPatternSample | None = None,
    width: int = WIDTH_Q,
    record: Iterable[int] | None = None,
) -> xr.Dataset:
    """A run of the network on the examples of a seed."""
    return trajectory(
        setting,
        setting.draw(seed) if sample is None else sample,
        algorithm,
        width_p=WIDTH_P,
        width_q=width,
        seed=seed,
        test=test,
        record=None if record is None else list(record),
    )


def reduced_run(setting: TwoPatternSetting, algorithm: str, seed: int, *, kernel: str = "relu") -> xr.Dataset:
    """The same run of the reduced model."""
    return reduced_dynamics(setting, setting.draw(seed), algorithm, kernel=kernel)


def before_switch(run: xr.Dataset) -> xr.Dataset:
    """The last iterate of the first phase, with the noise in its pre-activations where there is any."""
    return run.sel(step=int(run.attrs["switch_step"]) - 1, drop=True)
