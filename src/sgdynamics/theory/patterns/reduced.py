r"""A wide network as a recursion for a few numbers: what the two algorithms learn, and when.

In the limit of wide blocks the noise part of the weights decides which units are active, and the driven part is linear
in what it has been taught. On the rays, with :math:`G_l(s)` the slope of the loss in the output on ray l,

.. math:: g_k(t) = - \sum_{s<t} h_s \prod_{j=s+1}^{t-1} (1-h_j\lambda) \sum_l K_{ts}(k, l)\, G_l(s), \qquad
    K_{ts}(k, l) = \langle x_k, x_l \rangle \frac{\pi - \arccos(\rho_{ts} \cos\theta_{kl})}{2\pi},

where :math:`\rho_{ts}` is the correlation of the noise part of a weight between steps s and t (times
:math:`1/\sqrt{1+a^2}` for each of the two with noise in the pre-activations). P is nearly orthogonal noise on which the
kernel is its linear part, 1/4, and its diagonal, 1/2: a linear rule :math:`\beta` and one memorised number per example,

.. math:: \dot\beta = \tfrac14 \tfrac1N \sum_i y_i \sigma_i x_i - \lambda\beta, \qquad
    \dot m_i = \tfrac14 \tfrac1N y_i \sigma_i |x_i|^2 - \lambda m_i, \qquad
    f_P(x_i) = \langle \beta, x_i \rangle + m_i,

of which only :math:`\beta` generalises. Deterministic, given the examples. Dropped: the output of the noise part
itself, a random function of size :math:`\tau_0` at any width, so that the recursion is that of a wide network for small
:math:`\tau_0` only; and what the noise does to the memorised numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit, roots_legendre

from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import checked, choice, complain, instance_of, one, optional, positive, real
from sgdynamics.formula import law
from sgdynamics.models.patterns import ALGORITHMS, TwoPatternData, TwoPatternSample, TwoPatternSetting
from sgdynamics.models.patterns.data import BOTH, P_ONLY, Q_ONLY
from sgdynamics.theory.patterns.errors import p_only_error

__all__ = ["first_time_below", "population_dynamics", "reduced_dynamics"]

Array = NDArray[np.float64]
RAYS = ("z", "z+zeta", "z-zeta")
KERNELS = ("relu", "linear")


@dataclass(frozen=True)
class _Examples:
    """What the recursion needs of the examples: a sample, or the nodes of a quadrature of the population."""

    inputs: Array  # (n, any)
    label: Array
    ray: NDArray[np.int8]
    alpha: Array
    kind: NDArray[np.int8]
    weight: Array  # share of the loss
    memory: Array  # share of the loss x |x|^2/4


class _RayMemory:
    """The history of pulls on the rays, and the network it makes at a later step."""

    def __init__(self, data: TwoPatternData, steps: xr.Dataset, weight_decay: float, kernel: str) -> None:
        size, noise = steps.step_size.values, steps.step_noise.values
        self.size = size
        self.keep = 1 - size * weight_decay
        # the correlation of a weight between two steps is exp of minus the information lost in between
        before = (self.keep * steps.weight_deviation.values)[:-1]
        lost = 0.5 * np.log1p((noise[:-1] / before) ** 2)
        noisy = 0.5 * np.log1p(steps.activation_noise.values**2)
        self.log_later = np.concatenate([[0.0], np.cumsum(lost)]) + noisy
        self.log_earlier = self.log_later - 2 * noisy
        self.linear = kernel == "linear"
        angle = math.atan(data.separation)
        self.half_angles = np.sin(np.array([[0.0], [angle / 2], [angle]])) ** 2
        r = data.separation
        square = data.amplitude**2
        # inner products of the rays and which angle (0, 1 or 2 times arctan r) is between them
        self.products = square * np.array([[1, 1, 1], [1, 1 + r**2, 1 - r**2], [1, 1 - r**2, 1 + r**2]])
        self.angles = np.array([[0, 1, 1], [1, 0, 2], [1, 2, 0]])
        self.pulls = np.zeros((size.size, 3))

    def values(self, t: int) -> Array:
        """Output on the rays at step t, from the pulls of all steps before."""
        if t == 0:
            return np.zeros(3)
        if self.linear:
            activity = np.full((3, t), 0.25)
        else:
            exponent = self.log_earlier[:t] - self.log_later[t]
            apart = -np.expm1(exponent)  # 1 - rho
            half = apart / 2 + (1 - apart) * self.half_angles  # sin^2 of half the angle, (1 - rho cos)/2
            activity = 0.5 - np.arcsin(np.sqrt(half)) / math.pi
        taught = activity @ self.pulls[:t]  # (angle, ray taught)
        values: Array = (self.products * taught[self.angles, np.arange(3)]).sum(axis=1)
        return values

    def teach(self, t: int, pull: Array) -> None:
        """Forget by one step of weight decay and add the pull of step t."""
        self.pulls[:t] *= self.keep[t]
        self.pulls[t] = self.size[t] * pull


def _run(
    setting: TwoPatternSetting, examples: _Examples, algorithm: str, kernel: str, stop_loss: float | None
) -> tuple[xr.Dataset, Array, Array, Array]:
    """The recursion: steps taken, output on the rays, rule of P (both by step), and loss by kind."""
    steps = setting.training.steps(algorithm)
    decay = setting.training.weight_decay
    size = steps.step_size.values
    memory = _RayMemory(setting.data, steps, decay, kernel)
    teaches = np.where(examples.ray[:, None] == np.arange(3), examples.alpha[:, None], 0.0)  # (n, ray)
    shares = np.where(examples.kind == np.array([[P_ONLY], [Q_ONLY], [BOTH]]), examples.weight, 0.0)
    rules = np.zeros((size.size, examples.inputs.shape[1]))
    rays = np.zeros((size.size, 3))
    losses = np.zeros((size.size, 3))
    memorised = np.zeros(examples.label.size)
    with one_blas_thread():
        for t in range(size.size):
            rays[t] = memory.values(t)
            margin = examples.label * (examples.inputs @ rules[t] + memorised + teaches @ rays[t])
            losses[t] = shares @ np.logaddexp(0.0, -margin)
            if t == size.size - 1 or (stop_loss is not None and losses[t].sum() <= stop_loss):
                break
            slope = examples.label * expit(-margin)
            keep = 1 - size[t] * decay
            rules[t + 1] = keep * rules[t] + size[t] / 4 * ((examples.weight * slope) @ examples.inputs)
            memorised = keep * memorised + size[t] * examples.memory * slope
            memory.teach(t, (examples.weight * slope) @ teaches)
    taken = slice(None, t + 1)
    return steps.isel(step=taken), rays[taken], rules[taken], losses[taken]


def _labelled(steps: xr.Dataset, rays: Array, losses: Array, shares: Array) -> xr.Dataset:
    """What every run tells: losses, output on the rays, curvature, error on Q-only examples."""
    with np.errstate(invalid="ignore"):
        means = np.where(shares > 0, losses / np.where(shares > 0, shares, 1.0), np.nan)
    wrong = np.where(rays == 0, 0.5, (rays * np.array([1, -1, -1]) < 0).astype(float))
    columns: dict[str, tuple[Any, str, str]] = {
        "loss": (losses.sum(axis=1), "training loss", "nat"),
        "loss_p_only": (means[:, 0], "training loss on P-only examples", "nat"),
        "loss_q_only": (means[:, 1], "training loss on Q-only examples", "nat"),
        "loss_both": (means[:, 2], "training loss on examples with both patterns", "nat"),
        "curvature": (rays[:, 0] - rays[:, 1:].mean(axis=1), "curvature between the rays", "output"),
        "q_only_error": (wrong @ [0.5, 0.25, 0.25], "error on Q-only examples", "1"),
    }
    made = xr.Dataset(
        {name: ("step", values, {"long_name": text, "units": units}) for name, (values, text, units) in columns.items()}
    )
    made["ray_output"] = (("step", "ray"), rays, {"long_name": "output on a ray", "units": "output"})
    made = made.assign_coords(step=steps.step, time=steps.time, ray=list(RAYS))
    return made.assign_attrs(steps.attrs | {"source": "derived"})


@law(quantity="report")
@checked(
    setting=instance_of(TwoPatternSetting),
    sample=instance_of(TwoPatternSample),
    algorithm=choice(*ALGORITHMS),
    kernel=choice(*KERNELS),
    stop_loss=optional(one(positive)),
)
def reduced_dynamics(
    setting: TwoPatternSetting,
    sample: TwoPatternSample,
    algorithm: str,
    *,
    kernel: str = "relu",
    stop_loss: float | None = None,
) -> xr.Dataset:
    r"""A run of the wide network without the output of its noise on given examples: the recursion of the module's page.

    Status: exact for infinitely many units, without the output of the noise.

    Parameters
    ----------
    setting : TwoPatternSetting
        Its data give rays and margin, its training the steps.
    sample : TwoPatternSample
        Training examples, such as ``setting.draw(seed)``: the same ones for algorithms that are to be compared.
    algorithm : str
        "large_then_small", "small" or "small_with_activation_noise".
    kernel : str
        "relu", or "linear" for the kernel 1/4 of a linear network, which can have no curvature: a control.
    stop_loss : float, optional
        End at the first step whose training loss is at most this, > 0, so that runs can be compared at equal loss.

    Returns
    -------
    xarray.Dataset
        Dim ``step`` with the coordinate ``time``: ``loss`` and its means over the examples of a kind ``loss_p_only``,
        ``loss_q_only``, ``loss_both`` (NaN for a kind of which there is no example), ``curvature``, ``ray_output``,
        ``q_only_error``, ``cosine`` of the linear rule of P to the first axis (0 where there is no rule) and the
        ``p_only_error`` that follows from it; and ``p_rule``, the final rule, with the dim ``direction``. While there
        is noise in the pre-activations, values are those that the noisy network shows.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Notes
    -----
    Time grows with the square of the number of steps: about half a second for 2900.

    Examples
    --------
    >>> setting = TwoPatternSetting.desk().with_training(first_time=40.0, second_time=40.0)
    >>> run = reduced_dynamics(setting, setting.draw(0), "small")
    >>> bool(run.loss_q_only[-1] < 0.35 < run.loss_p_only[-1])  # Q first
    True
    """
    share = 1 / sample.examples
    examples = _Examples(
        inputs=sample.inputs,
        label=sample.label.astype(np.float64),
        ray=sample.ray,
        alpha=sample.alpha,
        kind=sample.kind,
        weight=np.full(sample.examples, share),
        memory=share * (sample.inputs**2).sum(axis=1) / 4,
    )
    steps, rays, rules, losses = _run(setting, examples, algorithm, kernel, stop_loss)
    shares = np.array([sample.has(kind).mean() for kind in (P_ONLY, Q_ONLY, BOTH)])
    made = _labelled(steps, rays, losses, shares)
    length = np.sqrt((rules**2).sum(axis=1))
    cosine = np.clip(rules[:, 0] / np.where(length > 0, length, 1.0), -1.0, 1.0)
    made["cosine"] = ("step", cosine, {"long_name": "cosine of the rule of P to the truth", "units": "1"})
    error = p_only_error(cosine, setting.data.margin)
    made["p_only_error"] = ("step", error, {"long_name": "error on P-only examples", "units": "1"})
    made["p_rule"] = ("direction", rules[-1], {"long_name": "linear rule of P", "units": "output/input"})
    return made


@law(quantity="report")
@checked(setting=instance_of(TwoPatternSetting), algorithm=choice(*ALGORITHMS), kernel=choice(*KERNELS))
def population_dynamics(setting: TwoPatternSetting, algorithm: str, *, kernel: str = "relu") -> xr.Dataset:
    r"""The same run on infinitely many examples: averages over kinds, labels, rays and amplitudes, no sampling.

    The rule of P then lies along the truth from the first step, and nothing is memorised: what is left is how fast each
    pattern is learnt. The number of examples of the setting is not used.

    Status: exact for infinitely many examples and units, without the output of the noise.

    Parameters
    ----------
    setting : TwoPatternSetting
    algorithm : str
        "large_then_small", "small" or "small_with_activation_noise".
    kernel : str
        "relu" or "linear", see :func:`reduced_dynamics`.

    Returns
    -------
    xarray.Dataset
        As from :func:`reduced_dynamics`, with ``p_slope``, the component of the rule along the truth, in place of
        ``cosine``, ``p_only_error`` and ``p_rule``.

    Examples
    --------
    >>> setting = TwoPatternSetting.desk().with_training(first_time=40.0, second_time=40.0)
    >>> run = population_dynamics(setting, "small")
    >>> bool(run.loss_q_only[-1] < 0.35 < run.loss_p_only[-1])
    True
    """
    examples = _population(setting.data)
    steps, rays, rules, losses = _run(setting, examples, algorithm, kernel, None)
    shares = np.array([setting.data.p_only, setting.data.q_only, setting.data.both])
    made = _labelled(steps, rays, losses, shares)
    made["p_slope"] = ("step", rules[:, 0], {"long_name": "slope of the rule of P", "units": "output/input"})
    return made


def _population(data: TwoPatternData) -> _Examples:
    """Nodes and weights: half-normal in the component of P, uniform in alpha, three rays."""
    # a half-normal needs all its nodes on one side: Legendre on [0, 9] with the density as weight
    node, weight = roots_legendre(40)
    height = 4.5 * (node + 1)
    height_weight = 4.5 * weight * np.exp(-(height**2) / 2) * math.sqrt(2 / math.pi)
    projection = (data.margin + height) / math.sqrt(data.dimension)
    if data.alpha_low < 1:
        node, weight = roots_legendre(16)
        alpha, alpha_weight = data.alpha_low + (1 - data.alpha_low) * (node + 1) / 2, weight / 2
    else:
        alpha, alpha_weight = np.ones(1), np.ones(1)
    none, rays = np.array([-1]), np.arange(3)
    parts = [
        (P_ONLY, data.p_only, projection, height_weight, none, np.ones(1), np.zeros(1), np.ones(1)),
        (Q_ONLY, data.q_only, np.zeros(1), np.ones(1), rays, np.array([0.5, 0.25, 0.25]), alpha, alpha_weight),
        (BOTH, data.both, projection, height_weight, rays, np.array([0.5, 0.25, 0.25]), alpha, alpha_weight),
    ]
    columns = []
    for kind, share, inputs, input_weight, ray, ray_weight, position, position_weight in parts:
        x, k, a = np.meshgrid(inputs, ray, position, indexing="ij")
        w = share * np.einsum("i,j,k->ijk", input_weight, ray_weight, position_weight)
        sign = np.where(k <= 0, 1.0, -1.0)  # P-only examples of both labels are mirror images: one of them is enough
        columns.append([array.ravel() for array in (sign * x, sign, k, a, np.full(x.shape, kind), w)])
    inputs, label, ray, alpha, kinds, weights = (np.concatenate(column) for column in zip(*columns, strict=True))
    return _Examples(
        inputs=inputs[:, None],
        label=label,
        ray=ray.astype(np.int8),
        alpha=alpha,
        kind=kinds.astype(np.int8),
        weight=weights,
        memory=np.zeros(label.size),
    )


@law(quantity="time")
@checked(
    run=instance_of(xr.Dataset), variable=choice("loss", "loss_p_only", "loss_q_only", "loss_both"), level=one(real)
)
def first_time_below(run: xr.Dataset, variable: str, level: float) -> float:
    """The first training time at which a loss is at or below a level.

    Status: exact, of the recorded steps.

    Parameters
    ----------
    run : xarray.Dataset
        From :func:`reduced_dynamics` or :func:`population_dynamics`.
    variable : str
        "loss", "loss_p_only", "loss_q_only" or "loss_both".
    level : float

    Returns
    -------
    float
        +inf if the loss never gets there.

    Raises
    ------
    ValueError
        If the run has no such variable.

    Examples
    --------
    >>> import xarray as xr
    >>> run = xr.Dataset({"loss": ("step", [0.7, 0.4, 0.2])}, coords={"time": ("step", [0.0, 0.8, 1.6])})
    >>> first_time_below(run, "loss", 0.5), first_time_below(run, "loss", 0.1)
    (0.8, inf)
    """
    if variable not in run or "time" not in run.coords:
        raise complain("first_time_below", "run", f"a Dataset with {variable} by time", list(run))
    reached = run[variable].values <= level
    return float(run.time.values[np.argmax(reached)]) if reached.any() else math.inf
