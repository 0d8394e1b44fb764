r"""The regime atlas: which regime a learning rate is in, and how far every wall is."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import xarray as xr

from sgdynamics.domains import Numeric, checked, closed_unit_interval, count, optional, positive, real
from sgdynamics.formula import law
from sgdynamics.models.uv import UVNetwork, alignment_quantile, hessian_eigenvalues
from sgdynamics.models.uv._pointwise import pointwise
from sgdynamics.models.uv.dynamics import flow_root
from sgdynamics.models.uv.parameters import alignment_range, units_of_c
from sgdynamics.sweeps import spanned
from sgdynamics.theory.uv._choose import choose
from sgdynamics.theory.uv.critical import c_loss_at
from sgdynamics.theory.uv.doubling import period_doubling_limit, period_doublings
from sgdynamics.theory.uv.escape import largest_learning_rate
from sgdynamics.theory.uv.fixed_points import critical_learning_rate


class Regime(IntEnum):
    """What the first step does, up to LOSS_AND_SHARPNESS_CATAPULT; beyond, where the run ends.

    Of a run that converges only the first step is named: its sharpness may move the other way later.
    """

    LAZY = 0
    PROGRESSIVE_SHARPENING = 1
    SHARPNESS_REDUCTION = 2
    LOSS_CATAPULT = 3
    LOSS_AND_SHARPNESS_CATAPULT = 4
    PERIOD_TWO = 5
    PERIOD_DOUBLED = 6
    CHAOTIC = 7
    DIVERGENT = 8

    @property
    def sentence(self) -> str:
        """The regime, said to a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Regime.LAZY: "The first step lowers the loss and does not raise the sharpness; the start's kernel is stable.",
    Regime.PROGRESSIVE_SHARPENING: "The first step lowers the loss and raises the sharpness.",
    Regime.SHARPNESS_REDUCTION: "The first step lowers loss and sharpness, but the start's kernel is unstable.",
    Regime.LOSS_CATAPULT: "The first step raises the loss, not the sharpness; the run still converges.",
    Regime.LOSS_AND_SHARPNESS_CATAPULT: "The first step raises loss and sharpness; the run still converges.",
    Regime.PERIOD_TWO: "No minimum is stable; the run ends on a 2-cycle at the edge of stability.",
    Regime.PERIOD_DOUBLED: "No minimum is stable; the run ends on a cycle of period 4, 8, 16 or more.",
    Regime.CHAOTIC: "No minimum is stable; the run ends in chaos, or in one of its periodic windows.",
    Regime.DIVERGENT: "The run diverges.",
}

# Where the final kernel of a catapult varies by a thousandth over widths, read off orbits; no formula is known.
_WIDTH_DEPENDENT = 2.7
_BISECTIONS, _NEWTON_STEPS = 64, 4


class _FirstStep:
    r"""Whether the first step at a rate raises the top Hessian eigenvalue: the sign of a cubic in the rate.

    With :math:`x` the rate over the largest one, there :math:`l = \eta\lambda`, :math:`h = \eta\lambda^H`,
    :math:`\theta = \phi s/l` (scaled, see the module ``escape``) and :math:`u = 1 - \theta x`, the old eigenvalue lies
    between the two new ones where

    .. math:: s\,\bigl[h\,(xls - 4\phi) + lu\,(3xlsu - 4s - 2\phi)\bigr] > 0,

    the change of the two eigenvalues' sum and product, out of which the step's own factor x has been taken: nothing
    cancels, however small the change is. Below both new ones it lies only where the kernel more than doubles it, which
    is beyond the first rise.
    """

    def __init__(self, output: Any, ntk: Any, largest: Any, kappa: Any, target: Any) -> None:
        residual, root = output - target, np.sqrt(kappa)
        size = np.maximum(abs(output), abs(residual))
        size = np.where(size == 0, 1.0, size)
        self.output, self.residual = output / size, residual / size
        self.kernel = largest * ntk
        self.height = largest * (ntk + flow_root(output, ntk, kappa, 2 * output - target)) / 2
        self.drive = root * largest * residual
        self.bend = root * output / ntk * self.drive

    def cubic(self, x: Any) -> Any:
        left, along = 1 - self.bend * x, x * self.kernel * self.residual
        inner = self.height * (along - 4 * self.output)
        return self.residual * (inner + self.kernel * (left * (3 * along * left - 4 * self.residual - 2 * self.output)))

    def slope(self, x: Any) -> Any:
        left = 1 - self.bend * x
        inner = self.height * self.residual + self.bend * (4 * self.residual + 2 * self.output)
        return (
            self.residual * self.kernel * (inner + 3 * self.kernel * self.residual * (left * (1 - 3 * self.bend * x)))
        )

    def turns(self) -> tuple[Any, Any]:
        """Where the cubic has its two extrema, the roots of its slope; not finite where it has none."""
        over = np.where(self.residual == 0, 1.0, self.residual)
        rest = 3 + (self.height + self.bend * (4 + 2 * self.output / over)) / self.kernel
        root = np.sqrt(4 - rest)
        return rest / (3 * (2 + root)) / self.bend, (2 + root) / 3 / self.bend

    def rises(self, x: Any) -> Any:
        grown = x * (x * self.drive**2 - 4 * self.bend)  # the kernel, relative to itself
        return (self.cubic(x) > 0) | (self.kernel * (1 + grown) > 2 * self.height)


def _sharpness_rises(x: Any, **start: Any) -> tuple[Any]:
    return (_FirstStep(**start).rises(x),)


def _sharpness_wall(**start: Any) -> tuple[Any]:
    """Smallest rate, over the largest one, beyond which the first step raises the sharpness; +inf for none."""
    step = _FirstStep(**start)
    one, other = (np.clip(np.where(np.isfinite(turn), turn, 0.0), 0.0, 1.0) for turn in step.turns())
    ends = [np.zeros_like(one), np.minimum(one, other), np.maximum(one, other), np.ones_like(one)]
    wall = np.full(np.shape(one), np.inf)
    # between its extrema the cubic is monotonic
    for start_, end in zip(ends[-2::-1], ends[:0:-1], strict=True):  # the lowest comes last
        low, high = start_, end
        crosses = (step.cubic(low) <= 0) & (step.cubic(high) > 0)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            above = step.cubic(middle) > 0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        for _ in range(_NEWTON_STEPS):  # for roots far below what bisection tells from 0
            slope = step.slope(high)
            better = high - step.cubic(high) / np.where(slope == 0, 1.0, slope)
            high = np.where((slope != 0) & (better >= start_) & (better <= end), better, high)
        wall = np.where(crosses, high, wall)
    return (np.where(step.cubic(0.0) > 0, 0.0, wall),)


@law(quantity="report")
@checked(
    c=positive,
    width=count,
    target=real,
    units=units_of_c,
    input_norm=positive,
    init_scale=positive,
    parametrization=closed_unit_interval,
    alignment=optional(alignment_range),
)
def regime(
    c: Numeric,
    width: Numeric,
    *,
    target: Numeric = 0.0,
    units: Literal["ntk", "hessian"] = "hessian",
    input_norm: Numeric = 1.0,
    init_scale: Numeric = 1.0,
    parametrization: Numeric = 0.0,
    alignment: Numeric = None,
) -> xr.Dataset:
    r"""Regime of a learning rate, and every wall between regimes with its location and distance.

    The start has the mean kernel :math:`2\sigma^2|x|^2` and the given alignment of its layers, by default the median of
    its absolute value, with an output of positive sign.

    Kinds of walls: a ``theorem`` is a closed form; a ``numeric root`` solves an exact equation; a ``fit`` is read off
    orbits. What the first step does is exact for this start, and of runs that converge the regime names the first step
    alone: a run whose first step is LAZY may sharpen later. The end of the run below the escape is exact for almost
    every start up to period 2; further up the cascade it is that of the edge line, onto which orbits fall.

    Status: exact in its walls, but for the fit; see each.

    Parameters
    ----------
    c : Numeric
        Learning rate times sharpness of the start, > 0; a number, a 1-D array, which becomes the dim ``c``, or a
        DataArray.
    width : Numeric
        :math:`n \ge 1`; a number, a 1-D array, which becomes the dim ``width``, or a DataArray.
    target : Numeric
        :math:`y`; a number or a DataArray, as all that follow.
    units : {"ntk", "hessian"}
        Whether the kernel or the top Hessian eigenvalue is the sharpness in c and in all walls.
    input_norm, init_scale, parametrization : Numeric
        As of :class:`~sgdynamics.models.uv.UVNetwork`.
    alignment : Numeric, optional
        :math:`\delta_0 = 2\sqrt\kappa f_0/\lambda_0` in [-1, 1].

    Returns
    -------
    xarray.Dataset
        ``regime`` (int8, see :class:`Regime`), ``scaled_target`` :math:`q`, and along ``wall``: ``location`` in units
        of c (+inf where there is no such wall, 0 where every rate is beyond it), ``margin`` (c less location, positive
        beyond the wall) and ``kind``. ``output``, ``ntk`` and ``sharpness`` describe the start.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or an array without labels.

    Examples
    --------
    >>> data = regime(3.0, 512)
    >>> Regime(data.regime.item()).name
    'LOSS_AND_SHARPNESS_CATAPULT'
    >>> float(data.margin.sel(wall="escape").round(2))
    -1.0
    """
    c, width = spanned("regime", "c", c, axis="c"), spanned("regime", "width", width, axis="width")
    others = {
        "target": target,
        "input_norm": input_norm,
        "init_scale": init_scale,
        "parametrization": parametrization,
        "alignment": alignment,
    }
    for name, value in others.items():
        if value is not None:
            spanned("regime", name, value)
    model = UVNetwork(
        width, target=target, input_norm=input_norm, init_scale=init_scale, parametrization=parametrization
    )
    kappa, target = xr.DataArray(model.kappa), xr.DataArray(target)
    ntk = model.mean_ntk + 0 * kappa
    aligned = alignment_quantile(0.75, width) if alignment is None else alignment
    output = aligned * ntk / (2 * kappa**0.5)
    sharpness, _ = hessian_eigenvalues(output, ntk, target=target, kappa=kappa)
    unit = sharpness if units == "hessian" else ntk

    largest = largest_learning_rate(output, ntk, kappa, target)
    start = {"output": output, "ntk": ntk, "largest": largest, "kappa": kappa, "target": target}
    (sharpness_wall,) = pointwise("regime", _sharpness_wall, 1, **start)
    residual = output - target
    still = residual == 0
    ntk_rises = choose(still, np.inf, 4 * output / choose(still, 1.0, residual))
    critical = critical_learning_rate(kappa, target)
    chaos = period_doubling_limit()
    walls = {
        "first loss rise": ("theorem", c_loss_at(output, ntk, kappa, target, units)),
        "first sharpness rise": ("numeric root", sharpness_wall * (largest * unit)),
        "first kernel rise": ("theorem", np.maximum(ntk_rises, 0.0) * unit / ntk),
        "unstable kernel": ("theorem", 2 * unit / ntk),
        "width dependence": ("fit", choose(target == 0, _WIDTH_DEPENDENT, np.inf) * unit / ntk),
        "unstable minima": ("theorem", critical * unit),
        "period 4": ("theorem", (math.sqrt(5) - 1) * critical * unit),
        "period 8": ("numeric root", period_doublings(3)[-1] * critical * unit),
        "chaos": ("numeric root", chaos * critical * unit),
        "merging": ("theorem", (math.sqrt(27) / 2 - 1) * critical * unit),
        "escape": ("theorem", largest * unit),
        "escape from the edge line": ("theorem", 2 * critical * unit),
    }
    location = xr.concat(xr.broadcast(*(value for _, value in walls.values())), "wall")
    location = location.transpose(..., "wall").assign_coords(wall=list(walls))

    rate = c / unit
    scaled = rate * (kappa**0.5 * abs(target))
    reach = rate * kappa**0.5
    factor = 1 - rate * ntk + (reach * output) * (reach * residual)
    # beyond the escape nothing is asked of the sharpness
    (rises,) = pointwise("regime", _sharpness_rises, 1, x=np.minimum(rate / largest, 1.0), **start)
    loss_rises, sharpness_rises = abs(factor) > 1, rises > 0
    label = choose(
        loss_rises,
        choose(sharpness_rises, Regime.LOSS_AND_SHARPNESS_CATAPULT, Regime.LOSS_CATAPULT),
        choose(
            sharpness_rises,
            Regime.PROGRESSIVE_SHARPENING,
            choose(rate * ntk > 2, Regime.SHARPNESS_REDUCTION, Regime.LAZY),
        ),
    )
    for edge, beyond in (
        (1.0, Regime.PERIOD_TWO),
        (math.sqrt(5) - 1, Regime.PERIOD_DOUBLED),
        (chaos, Regime.CHAOTIC),
    ):
        label = choose(scaled >= edge, beyond, label)
    label = choose(rate >= largest, Regime.DIVERGENT, label)

    data = xr.Dataset(
        {
            "regime": label.astype(np.int8),
            "scaled_target": scaled,
            "location": location,
            "margin": (c - location).transpose(..., "wall"),
            "kind": ("wall", [kind for kind, _ in walls.values()]),
            "output": output,
            "ntk": ntk,
            "sharpness": sharpness,
        }
    )
    data.regime.attrs = {
        "long_name": "what the first step does or, where a run does not come to rest, its end",
        "flag_values": np.array(list(Regime), dtype=np.int8),
        "flag_meanings": " ".join(member.name.lower() for member in Regime),
    }
    texts = {
        "scaled_target": "learning rate over the critical one",
        "location": f"normalised rate of the wall, in {units} units",
        "margin": f"normalised rate less that of the wall, in {units} units",
        "kind": "how the wall is known",
        "output": "output of the start",
        "ntk": "kernel of the start",
        "sharpness": "top Hessian eigenvalue of the start",
    }
    for name, text in texts.items():
        data[name].attrs = {"long_name": text, "units": "1"}
    return data.assign_attrs(source="derived", units_of_c=units)
