r"""Each continuous-time picture of gradient descent errs with its own power of the learning rate: one, two or four.

Relative errors against the exact discrete map. Left, flows: gradient flow on the loss, and on the loss with a quarter
of :math:`\eta|\nabla L|^2` added, for a quadratic and for a product of weights below the edge. Middle, diffusions: the
expected excess risk of SGD on a noisy quadratic. Right, beyond the edge: the final sharpness by the central flow, and
the same less the end gap. The numbers are the fitted slopes, those of theory in brackets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.engine.check import Check, asymptotic, exact
from figures.engine.colors import BLUE, GREEN, ORANGE, VERMILION
from figures.engine.style import DOUBLE, measured_points, panels, theory_line, ticks
from sgdynamics.models.edge_of_stability import ProductLoss
from sgdynamics.simulate.edge_of_stability import product_orbits
from sgdynamics.theory.edge_of_stability import end_gap, error_budget, fitted_order, gap_drift

PANELS = {
    "flows": {
        "gradient flow, quadratic": ("gradient flow, quadratic", BLUE),
        "gradient flow, product": ("gradient flow, product", GREEN),
        "modified flow, quadratic": ("modified flow, quadratic", VERMILION),
        "modified flow, product": ("modified flow, product", ORANGE),
    },
    "diffusions": {
        "stochastic differential equation": ("SDE", BLUE),
        "modified stochastic differential equation": ("modified SDE", VERMILION),
    },
    "beyond the edge": {
        "central flow": ("central flow", BLUE),
        "central flow and end gap": ("less the end gap", VERMILION),
    },
}
WINDOW = (0.02, 0.1)


def _simulated(rates: np.ndarray) -> xr.DataArray:
    """The two lines beyond the edge once more, with the runs of the simulation."""
    model = ProductLoss("log_cosh", target=1.0)
    start = np.sqrt(np.sqrt((2.3 / rates) ** 2 - 4))
    drift = gap_drift(rates, model.target, *model.derivatives)
    runs = [
        product_orbits(model, 0.0, y, rate, steps=int(40 / rho))
        for y, rate, rho in zip(start, rates, drift, strict=True)
    ]
    sharpness = np.array([run.sharpness.item() for run in runs])
    errors = [abs(value / sharpness - 1) for value in (2 / rates, 2 / rates - end_gap(rates, drift))]
    return xr.DataArray(errors, dims=("edge_line", "learning_rate"), coords={"learning_rate": rates})


def compute(fast: bool) -> xr.Dataset:
    rates = np.geomspace(*WINDOW, 5 if fast else 9)
    data = error_budget(rates)
    simulated = _simulated(rates).assign_coords(edge_line=list(PANELS["beyond the edge"]))
    orders = [fitted_order(rates, row) for row in simulated.values]
    return data.assign(
        simulated_error=simulated.assign_attrs(long_name="relative error against the simulation", units="1"),
        simulated_order=(
            "edge_line",
            orders,
            {"long_name": "order in the learning rate, fitted to the simulation", "units": "1"},
        ),
    )


def draw(data: xr.Dataset) -> Figure:
    figure, axes = panels(1, 3, width=DOUBLE, height=3.1)
    rates = data.learning_rate.values
    wide = np.geomspace(rates[0] / 1.15, rates[-1] * 1.15, 20)
    for panel, (title, lines) in zip(axes, PANELS.items(), strict=True):
        for name, (label, color) in lines.items():
            here = data.sel(approximation=name)
            expected = float(here.expected_order)
            middle = np.exp(np.log(rates).mean())
            height = np.exp(np.log(here.error.values).mean())
            text = f"{label}: {float(here.fitted_order):.2f} ({expected:.0f})"
            theory_line(panel, wide, height * (wide / middle) ** expected, color=color, label=text, linewidth=1.0)
            if name in data.edge_line:
                measured_points(panel, rates, data.simulated_error.sel(edge_line=name), color=color)
            else:
                measured_points(panel, rates, here.error, color=color)
        panel.set(xscale="log", yscale="log", xlabel=r"learning rate  $\eta$", title=title)
        ticks(panel.xaxis, [0.02, 0.05, 0.1])
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * (high / low) ** (0.12 * len(lines)))  # room for the legend
        panel.legend(loc="upper left", fontsize=6.5, handlelength=1.2, borderaxespad=0.1)
    axes[0].set_ylabel("relative error")
    return figure


def checks(data: xr.Dataset) -> Iterator[Check]:
    for name in data.approximation.values:
        here = data.sel(approximation=name)
        yield asymptotic(f"order in the learning rate: {name}").close(
            float(here.expected_order),
            float(here.fitted_order),
            absolute=0.12,
            note=f"slope of log error against log rate over {WINDOW[0]} to {WINDOW[1]}, {here.quantity.item()}",
        )
    yield exact("errors of the central flow are those against the simulation, with and without the end gap").close(
        data.error.sel(approximation=data.edge_line.values).values,
        data.simulated_error.values,
        scale=np.broadcast_to(data.simulated_error.values[0], data.simulated_error.shape),
        tolerance=1e-4,
        note="relative to the error of the central flow; the digits beyond depend on the rounding of tanh",
    )
    yield asymptotic("relative error of the central flow is a quarter of the drift, 3 eta^2/4 for log cosh").close(
        0.75 * data.learning_rate**2, data.error.sel(approximation="central flow", drop=True), tolerance=0.02
    )
