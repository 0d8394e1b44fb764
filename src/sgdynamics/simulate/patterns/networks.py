r"""Training the finite network on examples of two patterns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

import sgdynamics
from sgdynamics._blas import one_blas_thread
from sgdynamics.domains import (
    checked,
    choice,
    complain,
    describe_seed,
    increasing_steps,
    instance_of,
    integer,
    optional,
    seeds,
)
from sgdynamics.models.patterns import (
    ALGORITHMS,
    TwoBlockNetwork,
    TwoPatternSample,
    TwoPatternSetting,
    TwoPatternTraining,
)
from sgdynamics.models.patterns.data import BOTH, Q_ONLY
from sgdynamics.simulate._blocks import Task, slices, workers
from sgdynamics.simulate._normals import Floats
from sgdynamics.simulate._streams import Purpose, Seed, stream_key
from sgdynamics.simulate.patterns._batches import Batches
from sgdynamics.simulate.patterns._units import Step
from sgdynamics.simulate.patterns._units_of_p import UnitsOfP
from sgdynamics.simulate.patterns._units_of_q import UnitsOfQ
from sgdynamics.sweeps import steps_to_record

__all__ = ["trajectory"]

# Units in one block, the same for any number of threads. A product of matrices takes longer in small blocks; what is
# done to units that see Q is short, and stays in a core's cache.
BLOCK_OF_P = 500
BLOCK_OF_Q = 16384

# Multiply-adds of the units that see P from which a step is long enough to be handed out to threads.
LONG_STEP = 5e7

# Test examples where none are given.
TEST_EXAMPLES = 4000

KINDS = ("p_only", "q_only", "both")

RAYS = ("z", "z+zeta", "z-zeta")

TEXTS = {
    "loss": ("training loss", "nat"),
    "loss_p_only": ("training loss on P-only examples", "nat"),
    "loss_q_only": ("training loss on Q-only examples", "nat"),
    "loss_both": ("training loss on examples with both patterns", "nat"),
    "curvature": ("curvature between the rays", "output"),
    "ray_output": ("output on a ray", "output"),
    "p_only_error": ("error on P-only examples", "1"),
    "q_only_error": ("error on Q-only examples", "1"),
    "both_error": ("error on examples with both patterns", "1"),
}


class _Test(NamedTuple):
    """Examples with both patterns; without the second one they are P-only."""

    inputs: Floats
    label: Floats
    ray: Any
    alpha: Floats


class _Network:
    """All blocks of units, and the examples that they look at."""

    def __init__(
        self, setting: TwoPatternSetting, sample: TwoPatternSample, shape: TwoBlockNetwork, seed: Seed
    ) -> None:
        training = setting.training
        self.shape, self.sample = shape, sample
        self.label = sample.label.astype(np.float64)
        self.carries_p = np.flatnonzero(~sample.has(Q_ONLY))
        # what an example takes of each ray: alpha of its own, 0 of the others
        self.shares = sample.alpha * (sample.ray == np.arange(len(RAYS))[:, None])
        self.inputs, self.rays = np.ascontiguousarray(sample.inputs[self.carries_p].T), setting.data.rays
        self.pull = np.empty_like(self.inputs)
        noise = stream_key(seed, Purpose.PATTERNS_ACTIVATION)
        key_p, key_q = stream_key(seed, Purpose.PATTERNS_P), stream_key(seed, Purpose.PATTERNS_Q)
        self.of_p = [
            UnitsOfP(units, shape.second_layer_p, self.inputs, training.noise_scale_p, key_p, noise)
            for units in slices(shape.width_p, BLOCK_OF_P)
        ]
        self.of_q = [
            UnitsOfQ(units, shape.second_layer_q, self.rays, training.noise_scale_q, key_q, noise)
            for units in slices(shape.width_q, BLOCK_OF_Q)
        ]
        self.look(0.0)

    @property
    def tasks(self) -> int:
        """How many tasks a step is worth cutting into."""
        long = 2 * self.inputs.size * self.shape.width_p >= LONG_STEP
        return len(self.of_p) + len(self.of_q) if long else 1

    def look(self, activation_noise: float) -> None:
        """Let every block look at the examples."""
        blocks: list[UnitsOfP | UnitsOfQ] = [*self.of_p, *self.of_q]
        for block in blocks:
            block.look(activation_noise)
        self._collect()

    def advance(self, slope: Floats, step: Step, run: Callable[[Iterable[Task]], None]) -> None:
        """Take a step, given the derivative of the loss with respect to every output, and look again."""
        slope_p, slope_q = slope[self.carries_p], self.shares @ slope
        np.multiply(step.size * slope_p, self.inputs, out=self.pull)
        pull_q = (step.size * slope_q)[:, None] * self.rays
        tasks = [functools.partial(_step, block, self.pull, step) for block in self.of_p]
        tasks += [functools.partial(_step, block, pull_q, step) for block in self.of_q]
        run(tasks)
        self._collect()

    def _collect(self) -> None:
        """Sum over blocks, in their order."""
        self.ray_output = _sum(block.output for block in self.of_q)
        self.output = self.ray_output @ self.shares
        self.output[self.carries_p] += _sum(block.output for block in self.of_p)

    def slope(self, weight: Floats) -> Floats:
        """Derivative of the weighted loss with respect to every output."""
        slope: Floats = -weight * self.label / (1.0 + np.exp(self.label * self.output))
        return slope

    def report(self, test: _Test) -> dict[str, Any]:
        """Everything that is recorded about an iterate."""
        losses = np.logaddexp(0.0, -self.label * self.output)
        found: dict[str, Any] = {"loss": losses.mean()}
        for number, kind in enumerate(KINDS):
            if self.sample.has(number).any():
                found[f"loss_{kind}"] = losses[self.sample.has(number)].mean()
        found["curvature"] = self.ray_output[0] - (self.ray_output[1] + self.ray_output[2]) / 2
        found["ray_output"] = self.ray_output
        p_part = _sum(block.output_at(test.inputs) for block in self.of_p)
        found["p_only_error"] = np.mean(test.label * p_part <= 0)
        found["q_only_error"] = 0.5 * (self.ray_output[0] <= 0) + 0.25 * np.sum(self.ray_output[1:] >= 0)
        found["both_error"] = np.mean(test.label * (p_part + test.alpha * self.ray_output[test.ray]) <= 0)
        return found


def _step(block: UnitsOfP | UnitsOfQ, pull: Floats, step: Step) -> None:
    """What a block does in a step, in whatever thread."""
    with np.errstate(all="ignore"):
        block.advance(pull, step)
        block.look(step.activation_noise)


def _sum(parts: Iterable[Floats]) -> Floats:
    """A new array: blocks write into their own outputs again and again."""
    return np.asarray(sum(parts))


def _test_examples(setting: TwoPatternSetting, test: TwoPatternSample | None, seed: Seed) -> _Test:
    if test is None:
        data = setting.with_data(p_only=0.0, q_only=0.0).data
        root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        key = np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, int(Purpose.PATTERNS_P)))
        test = data.draw(TEST_EXAMPLES, key)
    both = test.has(BOTH)
    if not both.any():
        raise complain("trajectory", "test", "a sample with examples that carry both patterns", test)
    return _Test(test.inputs[both], test.label[both].astype(np.float64), test.ray[both], test.alpha[both])


@checked(
    setting=instance_of(TwoPatternSetting),
    sample=instance_of(TwoPatternSample),
    algorithm=choice(*ALGORITHMS),
    width_p=integer(2),
    width_q=integer(2),
    seed=seeds,
    batch_size=optional(integer(1)),
    test=optional(instance_of(TwoPatternSample)),
    record=optional(increasing_steps),
)
def trajectory(
    setting: TwoPatternSetting,
    sample: TwoPatternSample,
    algorithm: str,
    *,
    width_p: int,
    width_q: int,
    seed: Seed,
    batch_size: int | None = None,
    test: TwoPatternSample | None = None,
    record: ArrayLike | None = None,
) -> xr.Dataset:
    r"""Train the two-block network itself: every unit, every step, nothing decoupled and nothing averaged.

    .. math:: f(x) = w^\top \mathrm{relu}(W x_1) + v^\top \mathrm{relu}(V x_2), \qquad
        U_{t+1} = (1 - h_t \lambda) U_t - h_t \nabla L(U_t) + \sigma_t \epsilon_t, \quad U \in \{W, V\},

    with the steps :math:`h_t` and noises :math:`\sigma_t` of ``setting.training.steps(algorithm)``. The units that see
    Q need the plane of the rays and no more, so that a million of them fit on a desk.

    Parameters
    ----------
    setting : TwoPatternSetting
        Its number of examples is not used.
    sample : TwoPatternSample
        Training examples.
    algorithm : str
        One of ``sgdynamics.models.patterns.ALGORITHMS``. Under ``"small_with_activation_noise"`` the noise in the
        pre-activations is fresh in every step, unit and example for units that see P, and in every step, unit and ray
        for units that see Q: examples along one ray share it in proportion to :math:`\alpha`.
    width_p, width_q : int
        Units that see P and units that see Q; even.
    seed : int or SeedSequence
        Of the start, the noise and the test examples. The same start and the same normals for every algorithm.
    batch_size : int, optional
        None: full batches and the injected Gaussian noise. A number B: no injected noise, but batches of B examples
        drawn with replacement; a coarse step of :math:`h/\eta` ordinary ones takes as many times B examples, which has
        the same noise per training time.
    test : TwoPatternSample, optional
        Test examples; those that carry both patterns are used, and once more without the second one. None draws 4000.
    record : array of int, optional
        Increasing steps at which results are kept. None keeps the last one.

    Returns
    -------
    Dataset
        Over ``step`` (with ``time``, the sum of step sizes):

        ``loss``, ``loss_p_only``, ``loss_q_only``, ``loss_both``
            Training loss, of all examples and by kind, without weight decay and with the activation noise of that step.
            A kind of which there are no examples is missing.
        ``curvature``
            :math:`g(z) - \tfrac12 (g(z+\zeta) + g(z-\zeta))` with :math:`g` the part of the units that see Q, and
            ``ray_output``, over ``ray``, its values on the three rays; with the amplitude, and at :math:`\alpha = 1`.
        ``p_only_error``, ``q_only_error``, ``both_error``
            Test error by kind, without activation noise in the units that see P; that of Q-only examples is exact.
        ``divergence_step``
            The first step at which an output is not finite, or -1. Everything is +inf from there on.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range, or examples have another dimension than the setting's data.

    Notes
    -----
    A wide network's step is split over threads (``SGDYNAMICS_THREADS``), block of units by block; a short step is not
    worth handing out. Several runs can be made side by side. The bits are the same however many there are of either.

    Examples
    --------
    >>> setting = TwoPatternSetting.desk().with_training(first_time=40.0, second_time=20.0)
    >>> sample = setting.draw(0)
    >>> end = trajectory(setting, sample, "large_then_small", width_p=50, width_q=2000, seed=0)
    >>> bool(end.loss[-1] < 0.69), int(end.step[-1])
    (True, 75)
    """
    shape = TwoBlockNetwork(width_p, width_q)
    for name, examples in (("sample", sample), ("test", test)):
        if examples is not None and examples.dimension != setting.data.dimension:
            text = f"of dimension {setting.data.dimension}, that of the setting"
            raise complain("trajectory", name, text, examples.dimension)
    course = setting.training.steps(algorithm)
    last = int(course.step[-1])
    kept = steps_to_record("trajectory", record, last)
    batches = None if batch_size is None else Batches(setting.training, course, batch_size, sample.examples, seed)
    with one_blas_thread(), np.errstate(all="ignore"):
        network = _Network(setting, sample, shape, seed)
        with workers(network.tasks) as run:
            tests = _test_examples(setting, test, seed)
            rows, diverged = _train(network, setting.training, course, batches, tests, kept, run)
    data = xr.Dataset(
        {name: (("step", "ray") if name == "ray_output" else "step", values) for name, values in rows.items()},
        coords={"step": kept, "time": ("step", course.time.values[kept]), "ray": list(RAYS)},
    )
    for name in rows:
        data[name].attrs = dict(zip(("long_name", "units"), TEXTS[name], strict=True))
    data["divergence_step"] = (
        (),
        np.int32(diverged),
        {"long_name": "first step without a finite output", "units": "1"},
    )
    data["time"].attrs = dict(course.time.attrs)
    data["step"].attrs = {"long_name": "step", "units": "1"}
    return data.assign_attrs(
        algorithm=algorithm,
        switch_step=course.attrs["switch_step"],
        noise="injected" if batch_size is None else f"batches of {batch_size}",
        source="li2019",
        seed=describe_seed(seed),
        version=sgdynamics.__version__,
    )


def _train(
    network: _Network,
    training: TwoPatternTraining,
    course: xr.Dataset,
    batches: Batches | None,
    test: _Test,
    kept: Any,
    run: Callable[[Iterable[Task]], None],
) -> tuple[dict[str, Floats], int]:
    """Everything that is recorded, by name, and the step of divergence."""
    size, noise = course.step_size.values, course.step_noise.values
    activation = course.activation_noise.values * course.weight_deviation.values
    if activation[0]:
        network.look(activation[0])
    examples = network.sample.examples
    full = np.full(examples, 1 / examples)
    rows: list[dict[str, Any]] = []
    wanted = set(kept.tolist())
    diverged = -1
    for t in range(int(kept[-1]) + 1):
        if not np.isfinite(network.output).all():
            diverged = t
            break
        if t in wanted:
            rows.append(network.report(test))
        if t == kept[-1]:
            break
        weight = full if batches is None else batches.draw(t)
        step = Step(
            size=float(size[t]),
            keep=float(1 - size[t] * training.weight_decay),
            noise=float(noise[t]) if batches is None else 0.0,
            activation_noise=float(activation[t + 1]),
        )
        network.advance(network.slope(weight), step, run)
    names = rows[0] if rows else network.report(test)
    gone = {name: np.full(np.shape(value), np.inf) for name, value in names.items()}
    rows += [gone] * (kept.size - len(rows))
    return {name: np.array([row[name] for row in rows]) for name in names}, diverged
