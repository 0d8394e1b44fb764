r"""A small learning rate learns the easy-to-generalise pattern first, a large one last, and noise acts as a large one.

The two-pattern model at the size of a desk. Training loss of examples with pattern P only, with Q only and with both,
against training time. Lines are the reduced model of a wide network, points a network of 100 000 units that see Q and
200 that see P, on the same examples. Dotted: where the large rate is lowered and the noise in the pre-activations
switched off. While that noise is on, the output of the network on Q is itself noise, far off the scale, and its
points are left out; what it learns of P is not disturbed. Where the weights' own noise is small, as the theory has
it, Q stays at chance in the network as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, heuristic
from figures.engine.colors import BLACK, GREY
from figures.engine.style import DOUBLE, measured_points, panels, theory_line
from figures.patterns._desk import POINTS, desk_run
from figures.patterns._runs import (
    COLORS,
    CURVES,
    LABELS,
    LARGE,
    NOISY,
    SMALL,
    before_switch,
    grid,
    network_run,
    reduced_run,
)
from sgdynamics.models.patterns import TwoPatternSetting
from sgdynamics.theory.patterns import (
    P_LEVEL,
    Q_LEVEL,
    first_time_below,
    p_learning_time,
    population_dynamics,
    q_learning_time,
)

ALGORITHMS = (LARGE, SMALL, NOISY)
KINDS = {"loss_p_only": "P only", "loss_q_only": "Q only", "loss_both": "both"}
# A training time in the middle of the large rate's phase.
MIDDLE = 740.0
# The output of random weights, which the reduced model leaves out, is as large as their deviation. The desk
# has 3; here it is small.
SMALL_SCALES = (0.1, 0.03)


def _both_routes(setting: TwoPatternSetting, algorithm: str) -> xr.Dataset:
    """Curves of the network and of the reduced model, numbers that summarise them."""
    every = reduced_run(setting, algorithm, 0)
    reduced = every.sel(step=np.unique([*range(0, every.sizes["step"], 15), *grid(setting, algorithm, POINTS)]))
    network = desk_run(algorithm)
    found = {}
    for route, run, dim in (("reduced", reduced, "point"), ("network", network, "record")):
        curves = run[list(CURVES)].drop_vars("step").rename({name: f"{name}_{route}" for name in CURVES})
        found[route] = curves.rename(step=dim).reset_coords("time").rename(time=f"time_{route}")
    switch = {
        f"switch_{name}_{route}": before_switch(run)[name]
        for route, run in (("reduced", reduced), ("network", network))
        for name in CURVES
    }
    return xr.merge([found["reduced"], found["network"], xr.Dataset(switch)])


def _times(setting: TwoPatternSetting, seed: int) -> xr.Dataset:
    """When each pattern is learnt in the reduced model, and what the two algorithms have in the middle."""
    rows = []
    for algorithm in (LARGE, SMALL):
        run = reduced_run(setting, algorithm, seed)
        middle = run.isel(step=int(np.searchsorted(run.time, MIDDLE)))
        rows.append(
            xr.Dataset(
                {
                    "p_time": first_time_below(run, "loss_p_only", P_LEVEL),
                    "q_time": first_time_below(run, "loss_q_only", Q_LEVEL),
                    "middle_loss": middle.loss.item(),
                    "middle_loss_p_only": middle.loss_p_only.item(),
                }
            )
        )
    return xr.concat(rows, xr.Variable("rate", ["large", "small"])).assign_coords(seed=seed)


def _alone() -> xr.Dataset:
    """Times to given losses where no example has both patterns, without noise: closed forms, and the recursion."""
    rows = {}
    for name, levels, rate, time in (("p", (0.65, 0.6, 0.55), 0.5, 1200.0), ("q", (0.6, 0.5, 0.35), 0.1, 120.0)):
        setting = TwoPatternSetting.desk().with_data(p_only=0.5, q_only=0.5)
        setting = setting.with_training(
            large_rate=rate, small_rate=rate, first_time=time, second_time=0.0, weight_decay=1e-9, coarse_step=None
        )
        data, run = setting.data, population_dynamics(setting, SMALL)
        for level in levels:
            foretold = (
                p_learning_time(level, data.dimension, data.margin, data.p_only)
                if name == "p"
                else q_learning_time(level, data.separation, data.amplitude, data.q_only)
            )
            rows[f"{name} {level:g}"] = foretold, first_time_below(run, f"loss_{name}_only", level) - rate / 2
    columns = np.transpose(list(rows.values()))
    return xr.Dataset(
        {"alone_predicted": ("level", columns[0]), "alone_measured": ("level", columns[1])},
        coords={"level": list(rows)},
    )


def _noisy_q(scale: float, seed: int) -> xr.Dataset:
    """Loss of the network on Q-only examples: mean over the phase with noise, and at the end."""
    setting = TwoPatternSetting.desk().with_training(noise_scale_q=scale)
    run = network_run(setting, NOISY, seed, record=grid(setting, NOISY, POINTS))
    noisy = run.time < setting.training.first_time - 1
    loss = run.loss_q_only
    return xr.Dataset({"noisy_q_loss": loss.where(noisy).mean("step"), "noisy_q_loss_at_end": loss.isel(step=-1)})


def _small_scales(fast: bool) -> xr.Dataset:
    # no average is taken: every one of the runs must be at chance
    scales, seeds = (SMALL_SCALES[:1], 1) if fast else (SMALL_SCALES, 2)
    rows = [xr.concat([_noisy_q(scale, seed) for seed in range(seeds)], "noisy_seed") for scale in scales]
    return xr.concat(rows, "scale").drop_vars(("step", "time"), errors="ignore").assign_coords(scale=list(scales))


def compute(fast: bool) -> xr.Dataset:
    setting = TwoPatternSetting.desk()
    # the steps of all three algorithms are as many here, so that the runs share their axes
    curves = xr.concat(
        [_both_routes(setting, algorithm) for algorithm in ALGORITHMS], xr.Variable("algorithm", list(ALGORITHMS))
    )
    times = xr.concat([_times(setting, seed) for seed in range(1 if fast else 6)], "seed")
    data = xr.merge([curves, times, _alone(), _small_scales(fast)])
    data.attrs["switch_time"] = setting.training.first_time
    return data


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=2.6, sharey=True)
    for column, (name, title) in zip(axes, KINDS.items(), strict=True):
        column.axvline(data.attrs["switch_time"], color=GREY, linewidth=0.8, linestyle=":")
        column.axhline(np.log(2), color=GREY, linewidth=0.6)
        for algorithm in ALGORITHMS:
            run = data.sel(algorithm=algorithm)
            color = COLORS[algorithm]
            theory_line(column, run.time_reduced, run[f"{name}_reduced"], color=color, label=LABELS[algorithm])
            shown = run.time_network >= (
                data.attrs["switch_time"] + 1 if algorithm == NOISY and name != "loss_p_only" else 30
            )
            points = run[f"{name}_network"].where(shown)
            measured_points(column, run.time_network, points, color=color, markersize=3)
        column.set(title=title, xlabel="training time (sum of rates)", ylim=(0, 0.85))
    axes[0].set_ylabel("training loss (nat)")
    axes[0].text(2300, np.log(2) + 0.015, "chance", color=GREY, fontsize=7, ha="right")
    axes[2].text(data.attrs["switch_time"] - 40, 0.8, "switch", color=GREY, fontsize=7, ha="right")
    axes[0].plot([], [], color=BLACK, label="reduced model")
    axes[0].errorbar([], [], color=BLACK, marker="o", markerfacecolor="white", linestyle="none", label="network")
    axes[0].legend(loc="lower left", fontsize=6.5, borderaxespad=0.1, labelspacing=0.3)
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    large, small, noisy = (data.sel(algorithm=name) for name in ALGORITHMS)
    yield heuristic("the small rate learns Q early: its loss is below 0.35 by time 80", "li2019, abstract").below(
        80.0, data.q_time.sel(rate="small"), note="reduced model, every draw of the data"
    )
    yield heuristic("and P late: its loss is below 0.5 not before time 400", "li2019, abstract").above(
        400.0, data.p_time.sel(rate="small"), note="reduced model, every draw of the data"
    )
    yield asymptotic("each pattern alone, without noise, comes down to given losses when the closed forms say").close(
        data.alone_predicted, data.alone_measured, tolerance=0.02, note="of Q up to a tenth of the separation"
    )
    yield heuristic(
        "with the large rate at first the order is reversed, in every draw of the data", "li2019, abstract"
    ).above(
        0.0,
        data.q_time.sel(rate="large") - data.p_time.sel(rate="large"),
        note="time of Q less time of P, reduced model",
    )
    yield heuristic(
        "the training loss misleads: in the middle of the large rate's phase the small one has the lower loss",
        "li2019, abstract",
    ).above(
        0.2,
        data.middle_loss.sel(rate="large") - data.middle_loss.sel(rate="small"),
        note=f"reduced model at time {MIDDLE:g}",
    )
    yield heuristic("and yet the higher loss on P-only examples", "li2019, abstract").above(
        0.0,
        data.middle_loss_p_only.sel(rate="small") - data.middle_loss_p_only.sel(rate="large"),
        note=f"reduced model at time {MIDDLE:g}",
    )
    for route, text in (("reduced", "reduced model"), ("network", "network")):
        yield heuristic(
            f"the large rate holds Q back until annealing: its loss there stays above 0.45 ({text})", "li2019, abstract"
        ).above(0.45, large[f"switch_loss_q_only_{route}"])
        yield heuristic(
            f"after annealing Q is learnt at once and P not forgotten: loss of Q below 0.1 ({text})", "li2019, abstract"
        ).below(0.10, large[f"loss_q_only_{route}"].isel({"point" if route == "reduced" else "record": -1}))
    yield heuristic("the network ends with the curvature of the reduced model").close(
        large.curvature_reduced.isel(point=-1),
        large.curvature_network.isel(record=-1),
        tolerance=0.12,
        note="large rate, then small",
    )
    yield heuristic("and has its loss on Q-only examples just before annealing").close(
        large.switch_loss_q_only_reduced, large.switch_loss_q_only_network, absolute=0.07
    )
    yield heuristic(
        "noise in the pre-activations of the small rate gives the test error of the large one (reduced model)",
        "li2019, abstract",
    ).close(large.p_only_error_reduced.isel(point=-1), noisy.p_only_error_reduced.isel(point=-1), absolute=0.01)
    gap = small.p_only_error_network.isel(record=-1) - large.p_only_error_network.isel(record=-1)
    closed = small.p_only_error_network.isel(record=-1) - noisy.p_only_error_network.isel(record=-1)
    yield heuristic("in the network it closes at least half of the gap", "li2019, abstract").above(
        0.5, closed / gap, note="share of the difference in P-only test error between small and large rate"
    )
    yield heuristic("with noise in the pre-activations Q stays at chance in the reduced model").close(
        np.log(2), noisy.switch_loss_q_only_reduced, absolute=0.05
    )
    yield heuristic(
        "with noise in the pre-activations Q stays at chance in the network too, where its weights are small"
    ).close(np.log(2), data.noisy_q_loss, absolute=0.05, note="mean over the phase with noise")
    yield heuristic("and is not learnt in the phase without noise either, there").above(
        0.5, data.noisy_q_loss_at_end, note="loss on Q-only examples at the end"
    )
    yield heuristic("with noise in the pre-activations Q stays at chance in the network of large weights too").close(
        np.log(2),
        noisy.loss_q_only_network.where(noisy.time_network < data.attrs["switch_time"] - 1).mean(),
        absolute=0.1,
        note="mean over the phase with noise",
    )
