"""Every model of the library, and the trainer's networks, as subjects of the laws that users hold their own models to.

By name of the class: several subjects each, by what is special about them.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import plain_uv
import xarray as xr
from hypothesis import strategies as st

from sgdynamics import simulate
from sgdynamics.domains import Interval
from sgdynamics.models.break_even import SelfStabilizingMode, SelfStabilizingModes
from sgdynamics.models.deep_linear import DeepLinearNetwork, ScalarChain
from sgdynamics.models.edge_of_stability import FourFactors, ProductLoss, SecondOrderRegression, SelfStabilization
from sgdynamics.models.patterns import TwoBlockNetwork, TwoPatternData
from sgdynamics.models.quadratic import FiniteSumQuadratic, FullQuadratic, GaussianLeastSquares, MiniBatchQuadratic
from sgdynamics.models.uv import UVNetwork
from sgdynamics.simulate import trainer
from sgdynamics.testing import Subject, of_network, vectors
from sgdynamics.theory.quadratic import moments

HUGE = np.full(400, 50.0)  # a schedule under which everything leaves the floats


def flat(parts):
    return np.concatenate([np.ravel(part) for part in parts])


def cut(weights, shapes):
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(weights, ends), shapes, strict=True)]


def pair(model, **more):
    """A model whose methods take two weights."""
    return Subject(
        vectors(2),
        lambda w: model.loss(*w),
        lambda w: flat(model.gradient(*w)),
        hessian=lambda w: model.hessian(*w),
        sharpness=lambda w: model.sharpness(*w),
        step=lambda w, rate: flat(model.step(*w, rate)),
        **more,
    )


def layered(model, shapes, **more):
    """A model whose methods take one vector or a list of layers."""
    single = len(shapes) == 1

    def of(weights):
        return weights if single else cut(weights, shapes)

    return Subject(
        vectors(sum(int(np.prod(shape)) for shape in shapes), decades=0.5),
        lambda w: model.loss(of(w)),
        lambda w: flat(model.gradient(of(w))),
        hessian=lambda w: model.hessian(of(w)),
        sharpness=lambda w: model.sharpness(of(w)),
        step=lambda w, rate: flat(model.step(of(w), rate)),
        **more,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Mini-batch quadratics: Gaussian noise enters moments by its own first ones, so that few points may stand for it


def signs(scales):
    """Every combination of signs: independent, of mean 0, and of these standard deviations."""
    return [(0.5 ** len(scales), np.array(s) * scales) for s in itertools.product([-1.0, 1.0], repeat=len(scales))]


def quadratic(model, hessian, batches):
    def at(start):
        fields = {name: getattr(model, name) for name in type(model).domains}
        if fields.get("sampling") == "without_replacement":
            fields["probabilities"] = None
        return type(model)(**{**fields, "displacement": start})

    def two_moments(start, rates):
        data = moments(at(start), rates).isel(step=-1)
        return data.mean_error.values, (data.covariance if "covariance" in data else data.variance).values

    def run(rates, replicas):
        record = np.arange(rates.size + 1)
        return simulate.quadratic.ensemble(model, rates, replicas=replicas, seed=3, record=record).excess_risk.values

    return Subject(
        vectors(model.modes),
        model.excess_risk,
        lambda w: hessian @ w,
        hessian=lambda w: hessian,
        batches=batches,
        batch_gradient=lambda w, batch: model.batch_gradient(w, *batch),
        step=lambda w, rate, batch: model.step(w, batch[0], rate, *batch[1:]),
        moments=two_moments,
        run=run,
        diverging=HUGE,
    )


def centers(covariance, size):
    deviations, turn = np.linalg.eigh(np.asarray(covariance) / size)
    return [(p, (turn @ center,)) for p, center in signs(np.sqrt(deviations))]


def drawn(model):
    """Every batch that the sampling can draw, with center noise of both signs along every axis of every draw."""
    examples, size = range(model.examples), model.batch_size
    if model.sampling == "replacement":
        weights = model.probabilities
        chosen = [(np.prod(weights[list(d)]), d) for d in itertools.product(examples, repeat=size)]
    else:
        subsets = list(itertools.combinations(examples, size))
        chosen = [(1 / len(subsets), d) for d in subsets]
    deviation = np.sqrt(np.diag(model.center_covariance))
    noise = signs(np.tile(deviation, size)) if deviation.any() else [(1.0, np.zeros(size * model.modes))]
    return [(p * q, (d, z.reshape(size, model.modes))) for (p, d), (q, z) in itertools.product(chosen, noise)]


def fresh_examples(model):
    """Three points per feature, which have the first five moments of a normal one, and two of the label noise."""
    root = np.sqrt(3.0)
    normal = [(1 / 6, -root), (2 / 3, 0.0), (1 / 6, root)]
    made = []
    for features in itertools.product(normal, repeat=model.modes):
        chance = np.prod([p for p, _ in features])
        feature = np.sqrt(model.feature_variance) * [z for _, z in features]
        made += [(0.5 * chance, (feature[None], [s * np.sqrt(model.label_noise)])) for s in (-1.0, 1.0)]
    return made


DIAGONAL = MiniBatchQuadratic([2.0, 0.3], [1.0, 4.0], displacement=[1.0, -2.0], batch_size=4)
FULL = FullQuadratic([[1.0, 0.3], [0.3, 0.5]], [[1.0, -0.2], [-0.2, 2.0]], displacement=1.0, batch_size=3)
MATRICES = [[[1.0, 0.2], [0.2, 0.5]], [[0.3, -0.1], [-0.1, 2.0]], [[0.5, 0.0], [0.0, 0.0]]]
POINTS = [[1.0, 0.0], [-0.5, 2.0], [0.3, 0.3]]
WITH = FiniteSumQuadratic(
    MATRICES, POINTS, displacement=1.0, batch_size=2, probabilities=[0.5, 0.3, 0.2], sampling="replacement"
)
WITHOUT = FiniteSumQuadratic(MATRICES, POINTS, displacement=1.0, batch_size=2, sampling="without_replacement")
NOISY = FiniteSumQuadratic(
    [0.5, 1.5], [1.0, -1.0], center_covariance=0.7, displacement=1.0, batch_size=2, sampling="replacement"
)
REGRESSION = GaussianLeastSquares([1.0, 0.4], 0.1, displacement=1.0)

QUADRATICS = {
    "MiniBatchQuadratic": {
        "": quadratic(DIAGONAL, np.diag(DIAGONAL.curvature), centers(np.diag(DIAGONAL.center_variance), 4))
    },
    "FullQuadratic": {"": quadratic(FULL, FULL.hessian, centers(FULL.center_covariance, 3))},
    "FiniteSumQuadratic": {
        name: quadratic(model, model.mean_hessian, drawn(model))
        for name, model in {"replacement": WITH, "without replacement": WITHOUT, "center noise": NOISY}.items()
    },
    "GaussianLeastSquares": {"": quadratic(REGRESSION, np.diag([1.0, 0.4]), fresh_examples(REGRESSION))},
}

# ---------------------------------------------------------------------------------------------------------------------
# Networks of few weights

UV = UVNetwork(2, target=1.5, input_norm=0.8)


def uv_hessian(weights):
    hidden, readout = weights[:2], weights[2:]
    return plain_uv.dense_hessian(hidden[:, None], readout, np.ones(1), UV.target, UV.kappa**0.5)


def uv_run(rates, replicas):
    """One rate of the schedule for all steps, as trajectories have it."""
    output = xr.DataArray(0.1 + 0.01 * np.asarray(replicas), dims="start")
    return simulate.uv.trajectory(output, 4.0, rates[0], kappa=UV.kappa, target=1.5, steps=rates.size).loss.values


uv = Subject(
    vectors(4),
    lambda w: UV.loss(UV.function_values(w[:2], w[2:])[0]),
    lambda w: w - flat(UV.gradient_step(w[:2], w[2:], 1.0)),
    hessian=uv_hessian,
    sharpness=lambda w: UV.hessian_spectrum(*UV.function_values(w[:2], w[2:])).curvature.max(),
    step=lambda w, rate: flat(UV.gradient_step(w[:2], w[2:], rate)),
    run=uv_run,
    diverging=HUGE,
)

CHAIN = ScalarChain(1.3)
DEEP = DeepLinearNetwork([[1.0, 0.3]], input_covariance=[[1.0, 0.5], [0.5, 1.0]])
DEEP_SHAPES = [(2, 2), (1, 2)]


def chain_run(rates, replicas):
    weights = 0.5 + 0.01 * np.asarray(replicas)[:, None] * [1.0, 2.0, -1.0]
    record = np.arange(rates.size + 1)
    return simulate.deep_linear.chain_trajectory(CHAIN, weights, rates[0], steps=rates.size, record=record).loss.values


def product_run(model):
    def run(rates, replicas):
        x, record = 0.5 + 0.01 * np.asarray(replicas), np.arange(rates.size + 1)
        return simulate.edge_of_stability.product_orbits(
            model, x, 2.0 + x, rates[0], steps=rates.size, record=record
        ).loss.values

    return run


PRODUCTS = {
    outer: ProductLoss(outer, target=target)
    for outer, target in {"square": 0.7, "log_cosh": 0.0, "square_root": -0.5, "quartic": 1.2}.items()
}

# ---------------------------------------------------------------------------------------------------------------------
# Directions that stabilise themselves: their second weight is the curvature over the root of the restoring force,
# a power of two here, so that a change of units rounds nothing

RELATIVE, FORCES = [0.5, 1.0, 1.5], [-0.1, 0.2, -0.1]
FIELDS = {"sharpening": 0.02, "restoring": 0.25, "oscillation_floor": 0.0, "curvature_floor": 0.0}


def above_the_floor(modes):
    """Points from which no step of a rate up to 1 reaches the floor of the curvature."""
    x = vectors(modes, Interval("in [-3, 3]", low=-3.0, high=3.0))
    return st.tuples(x, vectors(modes, Interval("in [20, 40]", low=20.0, high=40.0))).map(np.concatenate)


def stabilizing(model, points, batches, modes=1, **more):
    root, single = np.sqrt(model.restoring), modes == 1

    def point(weights):
        x, curvature = weights[:modes], root * weights[modes:]
        return (x[0], curvature[0]) if single else (x, curvature)

    def back(x, curvature):
        return flat([x, np.asarray(curvature) / root])

    def batch_gradient(weights, batch):
        x, curvature = weights[:modes], root * weights[modes:]
        chosen = list(batch)
        relative = np.reshape(model.relative_curvatures, (3, modes))[chosen].mean(axis=0)
        force = np.broadcast_to(np.reshape(model.forces, (3, -1)), (3, modes))[chosen].mean(axis=0)
        return flat(
            [relative * curvature * x - force, (0.5 * model.restoring * relative * x * x - model.sharpening) / root]
        )

    if batches:
        pairs = list(itertools.combinations(range(3), 2))
        more |= {
            "batches": [(1 / len(pairs), batch) for batch in pairs],
            "batch_gradient": batch_gradient,
            "step": lambda w, rate, batch: back(*model.step(*point(w), rate, drawn=batch)),
        }
    else:
        more |= {"step": lambda w, rate: back(*model.step(*point(w), rate))}
    return Subject(
        points,
        lambda w: model.loss(*point(w)),
        lambda w: flat(model.gradient(*point(w))),
        sharpness=lambda w: model.sharpness(*point(w)),
        **more,
    )


MODE = SelfStabilizingMode(RELATIVE, FORCES, **FIELDS)
MODES = SelfStabilizingModes(np.transpose([RELATIVE, [1.2, 0.6, 1.2]]), **FIELDS)
TWIN = SelfStabilization(sharpening=0.3, restoring=4.0)


def mode_run(rates, replicas):
    runs = simulate.break_even.ensemble(
        SelfStabilizingMode(RELATIVE, FORCES, batch_size=2, **FIELDS),
        rates[0],
        steps=rates.size,
        replicas=replicas,
        seed=5,
        record=np.arange(rates.size + 1),
    )
    return runs.sharpness.values


# ---------------------------------------------------------------------------------------------------------------------
# Two patterns

PATTERNS = TwoBlockNetwork(2, 2)
DATA = TwoPatternData(2, p_only=0.2, q_only=0.3, margin=0.5, separation=0.2)
SAMPLE = DATA.draw(6, seed=1)
BLOCKS = [(2, 2), (2, 2)]

patterns = Subject(
    vectors(8, decades=0.5),
    lambda w: PATTERNS.loss(*cut(w, BLOCKS), SAMPLE, DATA),
    lambda w: flat(PATTERNS.gradient(*cut(w, BLOCKS), SAMPLE, DATA)),
    step=lambda w, rate: flat(PATTERNS.step(*cut(w, BLOCKS), SAMPLE, DATA, learning_rate=rate)),
)

# ---------------------------------------------------------------------------------------------------------------------
# The trainer's networks

RANDOM = np.random.default_rng(0)
INPUTS, TARGETS, LABELS = RANDOM.normal(size=(5, 1)), RANDOM.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1])


def trained(activation, loss, **more):
    y, net = (TARGETS if loss == "mse" else LABELS), trainer.network([1, 2, 2], activation, seed=4)

    def run(rates, replicas):
        """Replicas are seeds of batches."""
        record, rows = np.arange(rates.size + 1), []
        for seed in np.asarray(replicas):
            rows.append(
                trainer.train(net, INPUTS, y, rates, loss=loss, batch_size=2, record=record, seed=int(seed)).loss
            )
        return np.array(rows)

    return dataclasses.replace(of_network(net, INPUTS, y, loss, smooth=activation != "relu"), run=run, **more)


NETWORKS = {
    "tanh, squares": trained("tanh", "mse", diverging=HUGE),
    "linear, squares": trained("linear", "mse", diverging=HUGE),
    "tanh, cross-entropy": trained("tanh", "cross_entropy"),
    "relu, cross-entropy": trained("relu", "cross_entropy"),
}
YOUR_OWN = of_network(
    trainer.UserNetwork(
        [1.0],
        loss=lambda w, x, y: np.mean((x @ w - y) ** 2) / 2,
        gradient=lambda w, x, y: x.T @ (x @ w - y) / len(x),
        hessian_vector_product=lambda w, x, y, v: x.T @ (x @ v) / len(x),
    ),
    INPUTS,
    TARGETS[:, 0],
)

SUBJECTS = {
    **QUADRATICS,
    "UVNetwork": {"": uv},
    "ScalarChain": {"": layered(CHAIN, [(3,)], run=chain_run, diverging=HUGE)},
    "DeepLinearNetwork": {"": layered(DEEP, DEEP_SHAPES)},
    "ProductLoss": {
        outer: pair(model, run=product_run(model), diverging=HUGE if outer in ("square", "quartic") else None)
        for outer, model in PRODUCTS.items()
    },
    "FourFactors": {"": layered(FourFactors(target=1.4), [(4,)])},
    "SecondOrderRegression": {"": layered(SecondOrderRegression([1.0, -0.5, 0.3], offset=0.4), [(3,)])},
    "SelfStabilization": {"": stabilizing(TWIN, vectors(2), batches=False, hessian=None)},
    "SelfStabilizingMode": {"": stabilizing(MODE, above_the_floor(1), batches=True, run=mode_run)},
    "SelfStabilizingModes": {"": stabilizing(MODES, above_the_floor(2), batches=False, modes=2)},
    "TwoBlockNetwork": {"": patterns},
    "Network": NETWORKS,
    "UserNetwork": {"": YOUR_OWN},
}
