"""Update rules that steer: by definition, and by what they do to a quadratic and to a network."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained import trained

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer

SIZE = 6


def basis(seed=0, k=2, size=SIZE):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, k)))[0]


def counted(vectors):
    calls = []

    def eigenvectors(weights):
        calls.append(weights.copy())
        return vectors

    return eigenvectors, calls


def run(rule, gradients, rate=0.1, weights=None):
    weights = np.zeros(gradients.shape[1]) if weights is None else weights
    state, path = None, [weights]
    for gradient in gradients:
        weights, state = rule(weights, gradient, rate, state)
        path.append(weights)
    return np.array(path)


# ---------------------------------------------------------------------------------------------------------------------
# By definition


@given(st.integers(0, 2**32 - 1), st.integers(1, SIZE), st.floats(0, 5), st.floats(0, 5), st.floats(0, 0.95))
def test_a_steered_step_is_its_definition(seed, k, top, bottom, beta):
    random = np.random.default_rng(seed)
    v = basis(seed, k)
    gradients = random.standard_normal((4, SIZE))
    found = run(trainer.steered_sgd(lambda w: v, top=top, bottom=bottom, beta=beta), gradients)
    weights, velocity = np.zeros(SIZE), np.zeros(SIZE)
    inside = v @ v.T
    for row, gradient in zip(found[1:], gradients, strict=True):
        velocity = beta * velocity + gradient  # the factors are not fed back into the velocity
        weights = weights - 0.1 * (top * inside @ velocity + bottom * (velocity - inside @ velocity))
        assert np.abs(row - weights).max() <= 1e-13 * (1 + np.abs(weights).max())


@given(st.integers(0, 2**32 - 1), st.integers(1, SIZE), st.sampled_from([0.0, 0.9]))
def test_factor_one_is_sgd_bit_for_bit(seed, k, beta):
    random = np.random.default_rng(seed)
    gradients, start = random.standard_normal((5, SIZE)), random.standard_normal(SIZE)
    plain = trainer.momentum(beta) if beta else trainer.sgd()
    nudged = trainer.nudged_sgd(lambda w: basis(seed, k), gamma=1.0, beta=beta)
    assert np.array_equal(run(nudged, gradients, 0.37, start), run(plain, gradients, 0.37, start))


@given(st.integers(0, 2**32 - 1), st.integers(1, SIZE))
def test_the_named_rules_are_projections_and_add_up_to_sgd(seed, k):
    random = np.random.default_rng(seed)
    v, gradient, start = basis(seed, k), random.standard_normal(SIZE), random.standard_normal(SIZE)

    def step(rule):
        return rule(start, gradient, 0.5, None)[0] - start

    bulk, dominant = step(trainer.bulk_sgd(lambda w: v)), step(trainer.dominant_sgd(lambda w: v))
    tolerance = 1e-15 * 8 * (1 + np.abs(start).max())  # the start is added and taken away
    assert np.abs(v.T @ bulk).max() <= tolerance
    assert np.abs(dominant - v @ (v.T @ dominant)).max() <= tolerance
    assert np.abs(bulk + dominant - step(trainer.sgd())).max() <= tolerance
    assert np.array_equal(bulk, step(trainer.nudged_sgd(lambda w: v, gamma=0.0)))
    assert np.array_equal(dominant, step(trainer.steered_sgd(lambda w: v, top=1.0, bottom=0.0)))
    # from the origin nothing is added, and the sum is that of the gradient to a rounding
    origin = np.zeros(SIZE)
    parts = [rule(lambda w: v)(origin, gradient, 1.0, None)[0] for rule in (trainer.bulk_sgd, trainer.dominant_sgd)]
    assert np.abs(sum(parts) + gradient).max() <= 1e-15 * np.linalg.norm(gradient)


def test_bulk_sgd_projects_out():
    v, gradient = basis(3, 2), np.random.default_rng(4).standard_normal(SIZE)
    found = trainer.nudged_sgd(lambda w: v, gamma=0.0)(np.zeros(SIZE), gradient, 1.0, None)[0]
    wanted, *_ = np.linalg.lstsq(v, gradient, rcond=None)
    assert np.abs(found + (gradient - v @ wanted)).max() <= 1e-14


def test_only_the_span_of_the_columns_counts():
    v, gradients = basis(5, 3), np.random.default_rng(6).standard_normal((3, SIZE))
    mixed = v @ np.array([[2.0, 1.0, 0.0], [0.0, -3.0, 1.0], [0.0, 0.0, 0.1]])
    pair = [run(trainer.nudged_sgd(lambda w, c=c: c, gamma=0.2), gradients) for c in (v, mixed)]
    assert np.abs(pair[0] - pair[1]).max() <= 1e-14


# ---------------------------------------------------------------------------------------------------------------------
# On a quadratic


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_the_rate_is_gamma_eta_inside_and_eta_outside(gamma):
    curvatures, rate = np.array([5.0, 3.0, 1.0, 0.5, 0.2, 0.1]), 0.15
    rotation = basis(7, SIZE)
    hessian = (rotation * curvatures) @ rotation.T
    rule = trainer.nudged_sgd(lambda w: rotation[:, :2], gamma=gamma)
    weights, state = rotation.sum(axis=1), None
    for _ in range(20):
        weights, state = rule(weights, hessian @ weights, rate, state)
    rates = rate * np.array([gamma, gamma, 1, 1, 1, 1])
    wanted = (1 - rates * curvatures) ** 20
    assert np.abs(rotation.T @ weights - wanted).max() <= 1e-12 * max(1, np.abs(wanted).max())
    # one step lowers the loss along a mode by gamma h g^2 (1 - gamma eta h / 2): the noise it feels is gamma^2
    noise = np.random.default_rng(8).standard_normal(SIZE)
    kick = rule(np.zeros(SIZE), noise, rate, None)[0] @ rotation[:, :2]
    plain = trainer.sgd()(np.zeros(SIZE), noise, rate, None)[0] @ rotation[:, :2]
    assert np.abs(kick**2 - gamma**2 * plain**2).max() <= 1e-15


def test_the_edge_of_the_nudged_modes_is_two_over_gamma_eta():
    rate, gamma = 0.5, 0.1
    for curvature, stable in ((39.0, True), (41.0, False)):
        rule = trainer.nudged_sgd(lambda w: np.array([[1.0], [0.0]]), gamma=gamma)
        weights, state = np.ones(2), None
        for _ in range(200):
            weights, state = rule(weights, np.array([curvature, 1.0]) * weights, rate, state)
        assert (abs(weights[0]) < 1) == stable
        assert abs(weights[1]) < 1e-10


# ---------------------------------------------------------------------------------------------------------------------
# Refreshing, state


@pytest.mark.parametrize(("refresh", "calls_at"), [(1, list(range(7))), (3, [0, 3, 6]), (10, [0]), (None, [0])])
def test_eigenvectors_are_asked_for_when_they_are_due(refresh, calls_at):
    eigenvectors, calls = counted(basis())
    gradients = np.random.default_rng(0).standard_normal((7, SIZE))
    path = run(trainer.nudged_sgd(eigenvectors, gamma=0.5, refresh=refresh), gradients)
    assert np.array_equal(calls, path[calls_at])


def test_constant_top_never_leaves_the_first_span():
    moving = lambda w: basis(int(abs(w[0]) * 1e6) % 97)  # noqa: E731
    gradients = np.random.default_rng(1).standard_normal((9, SIZE))
    path = run(trainer.dominant_sgd(moving, refresh=None), gradients)
    first = moving(np.zeros(SIZE))
    assert np.abs(path - path @ first @ first.T).max() <= 1e-14
    refreshed = run(trainer.dominant_sgd(moving), gradients)
    assert np.abs(refreshed - refreshed @ first @ first.T).max() > 1e-3


def test_a_rule_keeps_nothing_but_its_state_and_edits_nothing():
    v = basis()
    rule = trainer.nudged_sgd(lambda w: v, gamma=0.3, refresh=2, beta=0.5)
    gradients = np.random.default_rng(2).standard_normal((6, SIZE))
    copies = [gradients.copy(), v.copy()]
    first, again = run(rule, gradients), run(rule, gradients)
    assert np.array_equal(first, again)
    assert np.array_equal(gradients, copies[0])
    assert np.array_equal(v, copies[1])
    # broken off, saved and taken up again
    weights, state = np.zeros(SIZE), None
    for step, gradient in enumerate(gradients):
        before = (weights.copy(), pickle.dumps(state))
        moved, after = rule(weights, gradient, 0.1, state)
        assert np.array_equal(weights, before[0])
        assert pickle.dumps(state) == before[1]
        weights, state = moved, pickle.loads(pickle.dumps(after))
        assert np.array_equal(weights, first[step + 1])


def test_eigenvectors_may_spoil_their_argument():
    def spoiling(weights):
        weights[:] = 7.0
        return basis()

    gradients = np.random.default_rng(3).standard_normal((2, SIZE))
    start = np.ones(SIZE)
    run(trainer.bulk_sgd(spoiling), gradients, weights=start)
    assert (start == 1).all()


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.99), st.booleans(), st.floats(0, 3))
def test_the_rules_are_their_definitions_bit_for_bit(seed, beta, nesterov, rate):
    random = np.random.default_rng(seed)
    gradients, weights, velocity = random.standard_normal((5, SIZE)), random.standard_normal(SIZE), None
    found = run(trainer.momentum(beta, nesterov), gradients, rate, weights)
    plain = run(trainer.sgd(), gradients, rate, weights)
    for before, after, gradient in zip(plain, plain[1:], gradients, strict=False):
        assert np.array_equal(after, before - rate * gradient)
    for after, gradient in zip(found[1:], gradients, strict=True):
        velocity = gradient if velocity is None else beta * velocity + gradient
        weights = weights - rate * (gradient + beta * velocity if nesterov else velocity)
        assert np.array_equal(after, weights)


@pytest.mark.parametrize("rule", [trainer.sgd(), trainer.momentum(0.9), trainer.momentum(0.5, nesterov=True)])
def test_calling_a_rule_edits_nothing(rule):
    random = np.random.default_rng(5)
    weights, gradient, velocity = (random.standard_normal(SIZE) for _ in range(3))
    copies = [weights.copy(), gradient.copy(), velocity.copy()]
    for state in (None, velocity):
        moved, after = rule(weights, gradient, 0.1, state)
        assert not np.shares_memory(moved, weights)
        assert after is None or not np.shares_memory(after, gradient)
        for array, copy in zip((weights, gradient, velocity), copies, strict=True):
            assert np.array_equal(array, copy)
    whole = rule(np.array([1, 2]), np.array([3, 4]), 0.5, None)[0]
    assert whole.dtype == np.float64


# ---------------------------------------------------------------------------------------------------------------------
# On networks


@pytest.fixture(scope="module")
def digits():
    x, labels = trainer.digits("raw_deviation")
    net = trainer.network([64, 8, 10], "tanh", init_scale=0.3, seed=0)
    return net, x[:200], trainer.one_hot(labels[:200], 10)


def test_eigenvectors_of_the_hessian_are_those(digits):
    net, x, y = digits
    top = trainer.hessian_eigenvectors(trainer.Objective(net, x, y, "mse"), k=3, tol=1e-6)
    there = net.with_flat(net.flat() * 1.1)
    found = trainer.top_hessian_eigenvalues(there, x, y, k=3, loss="mse", tol=1e-6)
    assert np.array_equal(top(there.flat()), found.vectors)
    assert np.array_equal(top(there.flat()), top(there.flat()))
    subset = np.arange(0, 200, 7)
    some = trainer.hessian_eigenvectors(trainer.Objective(net, x, y, "mse").batch(subset), k=2)
    assert np.array_equal(
        some(net.flat()), trainer.top_hessian_eigenvalues(net, x[subset], y[subset], k=2, loss="mse").vectors
    )


def test_a_steered_run_has_the_same_bits_again_and_sgd_is_gamma_one(digits):
    net, x, y = digits
    top = trainer.hessian_eigenvectors(trainer.Objective(net, x, y, "mse"), k=3)
    options = {"loss": "mse", "batch_size": 20, "seed": 0}
    rates = schedules.constant(0.4, 12)

    def final(update):
        return trainer.train(net, x, y, rates, update=update, **options).final_weights.values

    rule = trainer.nudged_sgd(top, gamma=0.1, refresh=5)
    assert np.array_equal(final(rule), final(rule))
    assert np.array_equal(final(trainer.nudged_sgd(top, gamma=1.0, refresh=5)), final(None))
    assert not np.array_equal(final(rule), final(None))


@pytest.mark.parametrize("rule", [trainer.sgd(), trainer.momentum(0.9), trainer.momentum(0.5, nesterov=True)])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"trainable": np.arange(610) % 3 > 0}])
def test_a_rule_in_place_has_the_bits_of_the_same_rule_on_copies(digits, rule, options):
    net, x, y = digits
    settings = {"loss": "mse", "batch_size": 20, "record": [0, 3, 12], "keep_weights": True, "seed": 0} | options
    rates = schedules.linear(0.4, 12)
    found = trained(net, x, y, rates, update=rule, **settings)
    wanted = trained(net, x, y, rates, update=lambda *given: rule(*given), **settings)
    assert found.identical(wanted)


def test_a_rule_may_keep_what_it_is_given(digits):
    net, x, y = digits
    kept = []

    def keeping(weights, gradient, rate, state):
        kept.append((weights, weights.copy(), gradient, gradient.copy()))
        return weights - rate * gradient, kept

    trainable = np.arange(net.size) % 2 == 0
    trained(net, x, y, [0.3] * 6, loss="mse", batch_size=10, update=keeping, trainable=trainable, seed=0)
    assert len(kept) == 6
    for weights, weights_then, gradient, gradient_then in kept:
        assert np.array_equal(weights, weights_then)
        assert np.array_equal(gradient, gradient_then)


def test_nudging_lets_the_run_go_to_sharper_places(digits):
    net, x, y = digits
    sharpness = {}
    for gamma in (0.1, 1.0, 2.0):
        objective = trainer.Objective(net, x, y, "mse")
        top = trainer.hessian_eigenvectors(objective, k=5)
        run = trainer.trajectory(
            objective,
            schedules.constant(0.4, 300),
            update=trainer.nudged_sgd(top, gamma=gamma, refresh=10),
            measure=trainer.tracked_eigenpairs(k=1),
            measure_at=np.arange(0, 301, 20),
            evaluate_loss=False,
        )
        sharpness[gamma] = run.sharpness.values.max()
    assert sharpness[0.1] > 1.1 * sharpness[1.0]
    assert sharpness[1.0] > 1.1 * sharpness[2.0]


def test_a_steered_run_that_overflows_diverges_without_an_exception(digits):
    net, x, y = digits
    top = trainer.hessian_eigenvectors(trainer.Objective(net, x, y, "mse"), k=2)
    for gamma in (0.0, 1.0):
        run = trainer.train(
            net, x, y, schedules.constant(1e100, 6), loss="mse", update=trainer.nudged_sgd(top, gamma=gamma), seed=0
        )
        assert run.divergence_step > 0


def test_infinite_eigenvectors_are_divergence():
    rule = trainer.nudged_sgd(lambda w: np.full((SIZE, 2), np.inf), gamma=0.5)
    weights, _ = rule(np.zeros(SIZE), np.ones(SIZE), 0.1, None)
    assert not np.isfinite(weights).any()


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: trainer.nudged_sgd(lambda w: w, gamma=-0.1), "gamma"),
        (lambda: trainer.nudged_sgd(lambda w: w, gamma=np.nan), "gamma"),
        (lambda: trainer.nudged_sgd(lambda w: w, gamma=0.1, refresh=-1), "refresh"),
        (lambda: trainer.nudged_sgd(lambda w: w, gamma=0.1, refresh=0), "refresh"),
        (lambda: trainer.nudged_sgd(lambda w: w, gamma=0.1, beta=1.0), "beta"),
        (lambda: trainer.nudged_sgd(np.eye(2), gamma=0.1), "eigenvectors"),
        (lambda: trainer.steered_sgd(lambda w: w, top=-1.0, bottom=1.0), "top"),
        (lambda: trainer.steered_sgd(lambda w: w, top=1.0, bottom=np.inf), "bottom"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"{name} must be "):
        call()


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones(SIZE),
        np.eye(SIZE - 1),
        np.ones((SIZE, 0)),
        np.ones((SIZE, SIZE + 1)),
        np.ones((SIZE, 2)),  # one direction twice
        np.zeros((SIZE, 1)),
        np.full((SIZE, 1), "a"),
        None,
    ],
)
def test_eigenvectors_that_span_nothing_of_use_are_refused(vectors):
    rule = trainer.bulk_sgd(lambda w: vectors)
    with pytest.raises(ValueError, match=r"bulk_sgd: eigenvectors must be "):
        rule(np.zeros(SIZE), np.ones(SIZE), 0.1, None)


def test_more_eigenvectors_than_parameters_are_refused(digits):
    net, x, y = digits
    with pytest.raises(ValueError, match="k must be at most"):
        trainer.hessian_eigenvectors(trainer.Objective(net, x, y, "mse"), k=net.size + 1)
