r"""The distribution of the two patterns, and samples of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sgdynamics._showing import Shown
from sgdynamics.domains import (
    Domain,
    as_floats,
    check_arguments,
    checked,
    choice,
    closed_unit_interval,
    complain,
    instance_of,
    integer,
    nonnegative,
    one,
    positive,
    seeds,
)
from sgdynamics.models._generators import generator_of

__all__ = ["BOTH", "P_ONLY", "Q_ONLY", "TwoPatternData", "TwoPatternSample"]

Array = NDArray[np.float64]
Labels = NDArray[np.int8]

P_ONLY, Q_ONLY, BOTH = 0, 1, 2
_NAMES = {"P only": P_ONLY, "Q only": Q_ONLY, "both": BOTH}

# What each random choice of a sample is keyed by: a change of one parameter leaves the other choices as they are.
_KIND, _LABEL, _BRANCH, _AMPLITUDE, _INPUT = range(5)


@dataclass(frozen=True)
class _Column:
    """One whole number per example, from a short list."""

    allowed: tuple[int, ...]

    @property
    def text(self) -> str:
        return f"a 1-D array with entries from {', '.join(map(str, self.allowed))}"

    def check(self, owner: str, name: str, value: Any) -> Labels:
        array = as_floats(owner, name, self.text, value)
        if array.ndim != 1:
            raise complain(owner, name, self.text, value)
        outside = ~np.isin(array, self.allowed)
        if outside.any():
            raise complain(owner, name, self.text, array[outside][0].item())
        return array.astype(np.int8)


@dataclass(frozen=True)
class _Numbers:
    """Finite numbers, at least ``low``, with a given number of axes."""

    text: str
    axes: int
    low: float = -math.inf

    def check(self, owner: str, name: str, value: Any) -> Array:
        array = as_floats(owner, name, self.text, value)
        if array.ndim != self.axes:
            raise complain(owner, name, self.text, value)
        wrong = ~(np.isfinite(array) & (array >= self.low))
        if wrong.any():
            raise complain(owner, name, self.text, array[wrong][0].item())
        return array


_KINDS = _Column((P_ONLY, Q_ONLY, BOTH))
_SIGNS = _Column((-1, 1))
_RAYS = _Column((-1, 0, 1, 2))
_INPUTS = _Numbers("a 2-D array of finite numbers, one row per example", axes=2)
_AMPLITUDES = _Numbers("a 1-D array of finite numbers >= 0, one per example", axes=1, low=0.0)


@dataclass(frozen=True, eq=False, repr=False)
class TwoPatternSample(Shown):
    r"""Examples of the two patterns.

    Parameters
    ----------
    inputs : array, shape (examples, dimension)
        First part :math:`x_1`; rows of zeros for Q-only examples.
    label : array of -1 and +1, shape (examples,)
        :math:`y`, kept as int8.
    kind : array, shape (examples,)
        0 for P-only, 1 for Q-only, 2 for both; kept as int8.
    ray : array, shape (examples,)
        The ray of the second part: 0 for :math:`z` (label +1), 1 for :math:`z+\zeta` and 2 for :math:`z-\zeta` (label
        -1), -1 for P-only examples; kept as int8.
    alpha : array, shape (examples,)
        Position :math:`\alpha \ge 0` along the ray; 0 for P-only examples.

    Raises
    ------
    ValueError, TypeError
        If an entry is outside its range, lengths disagree, or kind, label, ray and inputs contradict each other.

    Examples
    --------
    >>> sample = TwoPatternSample([[1.0, 0.0], [0.0, 0.0]], [1, -1], [0, 1], [-1, 2], [0.0, 1.0])
    >>> sample.examples, sample.dimension, sample.count("Q only")
    (2, 2, 1)
    """

    inputs: Any
    label: Any
    kind: Any
    ray: Any
    alpha: Any

    domains: ClassVar[Mapping[str, Domain]] = {
        "inputs": _INPUTS,
        "label": _SIGNS,
        "kind": _KINDS,
        "ray": _RAYS,
        "alpha": _AMPLITUDES,
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        examples = len(fields["inputs"])
        for name, value in fields.items():
            if len(value) != examples:
                raise ValueError(f"{owner}: {name} must have one entry per example, {examples}, got {len(value)}")
            object.__setattr__(self, name, value)
        self._agree(owner, "ray", "-1 for P-only examples and for no other", (self.ray == -1) == (self.kind == P_ONLY))
        self._agree(owner, "ray", "0 for label +1 only", (self.ray < 0) | ((self.ray == 0) == (self.label == 1)))
        self._agree(owner, "alpha", "0 for P-only examples", (self.alpha == 0) | (self.kind != P_ONLY))
        self._agree(owner, "inputs", "0 for Q-only examples", ~self.inputs.any(axis=1) | (self.kind != Q_ONLY))

    def _agree(self, owner: str, name: str, text: str, right: NDArray[np.bool_]) -> None:
        if not right.all():
            first = int(np.argmin(right))
            raise ValueError(f"{owner}: {name} must be {text}, got {getattr(self, name)[first]!r} for example {first}")

    @property
    def examples(self) -> int:
        """Number of examples N."""
        return len(self.inputs)

    @property
    def dimension(self) -> int:
        """Dimension d of the first part."""
        return int(self.inputs.shape[1])

    @checked(kind=integer(0))
    def has(self, kind: int) -> NDArray[np.bool_]:
        """Which examples are P-only (0), Q-only (1) or both (2).

        Parameters
        ----------
        kind : int
            0, 1 or 2.

        Returns
        -------
        array of bool, shape (examples,)
        """
        if kind > BOTH:
            raise complain("has", "kind", "0, 1 or 2", kind)
        mask: NDArray[np.bool_] = self.kind == kind
        return mask

    @checked(kind=choice(*_NAMES))
    def count(self, kind: Literal["P only", "Q only", "both"]) -> int:
        """How many examples are of a kind.

        Parameters
        ----------
        kind : str
            "P only", "Q only" or "both".

        Returns
        -------
        int
        """
        return int(self.has(_NAMES[kind]).sum())


@dataclass(frozen=True, eq=False, repr=False)
class TwoPatternData(Shown):
    r"""The distribution of the two patterns.

    An example is P-only, Q-only or carries both; its label :math:`y` is a fair sign.

    * :math:`P`: :math:`x_1 = y \gamma_0 w^* + \xi` with :math:`\xi \sim N(0, I_d/d)`, the sign of its component along
      the unit vector :math:`w^*` chosen so that :math:`y \langle w^*, \xi \rangle \ge 0`. Here :math:`w^*` is the first
      coordinate axis.
    * :math:`Q`: in the plane of two orthogonal vectors, :math:`x_2 = \alpha s z` for :math:`y = +1` and
      :math:`\alpha s (z \pm \zeta)`, a fair sign, for :math:`y = -1`; :math:`|z| = 1`, :math:`|\zeta| = r`. The rays
      :math:`z \pm \zeta` are not normalised.
    * A pattern that is missing is 0.

    Parameters
    ----------
    dimension : int
        :math:`d \ge 2` of the first part.
    p_only, q_only : float
        Probabilities of P-only and Q-only examples, in [0, 1], together at most 1.
    margin : float
        :math:`\gamma_0 \sqrt d \ge 0`: the margin :math:`\gamma_0` in units of the standard deviation
        :math:`1/\sqrt d` of one coordinate. The same unit everywhere in this stem.
    separation : float
        :math:`r > 0`.
    amplitude : float
        :math:`s > 0`.
    alpha_low : float
        :math:`\alpha` is uniform between this number, in [0, 1], and 1; with 1 it is fixed.

    Raises
    ------
    ValueError, TypeError
        If a value is outside its range or the two probabilities sum to more than 1.

    Examples
    --------
    >>> data = TwoPatternData(100, p_only=0.05, q_only=0.2, margin=0.0, separation=0.1, amplitude=4.0, alpha_low=1.0)
    >>> sample = data.draw(400, seed=0)
    >>> sample.inputs.shape, sample.count("P only")
    ((400, 100), 21)
    """

    dimension: int
    _: KW_ONLY
    p_only: float
    q_only: float
    margin: float
    separation: float
    amplitude: float = 1.0
    alpha_low: float = 0.0

    domains: ClassVar[Mapping[str, Domain]] = {
        "dimension": integer(2),
        "p_only": one(closed_unit_interval),
        "q_only": one(closed_unit_interval),
        "margin": one(nonnegative),
        "separation": one(positive),
        "amplitude": one(positive),
        "alpha_low": one(closed_unit_interval),
    }

    def __post_init__(self) -> None:
        owner = type(self).__name__
        fields = check_arguments(owner, self.domains, {name: getattr(self, name) for name in self.domains})
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.p_only + self.q_only > 1:
            raise complain(owner, "q_only", f"at most 1 - p_only = {1 - self.p_only:g}", self.q_only)

    @property
    def both(self) -> float:
        """Probability of an example that carries both patterns."""
        return 1 - (self.p_only + self.q_only)  # at least 0, however the two are rounded

    @property
    def mean_alpha(self) -> float:
        r""":math:`E \alpha` of an example that carries Q."""
        return (1 + self.alpha_low) / 2

    @property
    def mean_square_alpha(self) -> float:
        r""":math:`E \alpha^2` of an example that carries Q."""
        return (1 + self.alpha_low + self.alpha_low**2) / 3

    @property
    def rays(self) -> Array:
        r"""The rays :math:`s z`, :math:`s (z + \zeta)`, :math:`s (z - \zeta)` in their plane, shape (3, 2)."""
        r = self.separation
        return self.amplitude * np.array([[1.0, 0.0], [1.0, r], [1.0, -r]])

    @checked(sample=instance_of(TwoPatternSample))
    def second_inputs(self, sample: TwoPatternSample) -> Array:
        r"""The second part :math:`x_2` of every example in the plane of its rays.

        Parameters
        ----------
        sample : TwoPatternSample

        Returns
        -------
        array, shape (examples, 2)
            Zeros for P-only examples.
        """
        second: Array = sample.alpha[:, None] * self.rays[sample.ray]  # alpha is 0 where there is no ray
        return second

    @checked(examples=integer(1), seed=seeds)
    def draw(self, examples: int, seed: int | np.random.SeedSequence) -> TwoPatternSample:
        r"""Independent examples.

        Kinds, labels, branches of Q, :math:`\alpha` and :math:`\xi` come from separate NumPy generators (PCG64), keyed
        by the seed and what they are for, so that a change of one parameter leaves the other choices as they are and a
        smaller sample is the beginning of a larger one.

        Parameters
        ----------
        examples : int
            How many, >= 1.
        seed : int or SeedSequence
            The same seed gives the same examples; a SeedSequence is not changed by the call.

        Returns
        -------
        TwoPatternSample
        """
        sign = np.where(generator_of(seed, _LABEL).random(examples) < 0.5, 1, -1)
        noise = generator_of(seed, _INPUT).standard_normal((examples, self.dimension))
        noise[:, 0] = sign * (self.margin + np.abs(noise[:, 0]))
        return self._around(noise / math.sqrt(self.dimension), sign, seed)

    @checked(inputs=_INPUTS, label=_SIGNS, seed=seeds)
    def draw_around(self, inputs: Any, label: Any, seed: int | np.random.SeedSequence) -> TwoPatternSample:
        """Examples whose first part is given, such as real images: kinds and second parts are drawn as in ``draw``.

        Parameters
        ----------
        inputs : array, shape (examples, any)
            First parts; set to 0 for examples that come out Q-only.
        label : array of -1 and +1, shape (examples,)
            Their labels.
        seed : int or SeedSequence

        Returns
        -------
        TwoPatternSample

        Raises
        ------
        ValueError
            If there is not one label per row.
        """
        if len(inputs) != len(label):
            raise complain("draw_around", "label", f"one per row of inputs, {len(inputs)}", len(label))
        return self._around(inputs, label, seed)

    def _around(
        self, inputs: Array, sign: NDArray[np.integer[Any]], seed: int | np.random.SeedSequence
    ) -> TwoPatternSample:
        examples = len(inputs)
        which = generator_of(seed, _KIND).random(examples)
        kind = np.select([which < self.p_only, which < self.p_only + self.q_only], [P_ONLY, Q_ONLY], BOTH)
        branch = np.where(generator_of(seed, _BRANCH).random(examples) < 0.5, 1, 2)
        alpha = self.alpha_low + (1 - self.alpha_low) * generator_of(seed, _AMPLITUDE).random(examples)
        return TwoPatternSample(
            inputs=np.where((kind == Q_ONLY)[:, None], 0.0, inputs),
            label=sign,
            kind=kind,
            ray=np.where(kind == P_ONLY, -1, np.where(sign > 0, 0, branch)),
            alpha=np.where(kind == P_ONLY, 0.0, alpha),
        )
