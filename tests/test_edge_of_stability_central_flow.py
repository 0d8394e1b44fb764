"""The central flow: its complementarity problem by its optimality conditions, and the flow against gradient descent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics.models.edge_of_stability import ProductLoss
from sgdynamics.theory.edge_of_stability import (
    _complementarity,
    central_flow,
    oscillation_covariance,
    oscillation_variance,
)

seeds = st.integers(0, 10**6)


def order(sizes, errors):
    """Slope of log error against log size."""
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


# ---------------------------------------------------------------------------------------------------------------------
# The complementarity problem


def remainder(gradient, bends, slack, covariance):
    """R_ij of the problem, term by term."""
    k = len(bends)
    velocity = gradient + 0.5 * sum(covariance[i, j] * bends[i, j] for i in range(k) for j in range(k))
    return slack + np.array([[bends[i, j] @ velocity for j in range(k)] for i in range(k)])


@given(seed=seeds, k=st.integers(1, 4), scale=st.floats(-12, 12), rank=st.integers(0, 4))
def test_the_covariance_solves_the_complementarity_problem(seed, k, scale, rank):
    """In any units, with and without slack, with fewer independent curvature gradients than there are pairs too."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(k, k * (k + 1) // 2 + 3))
    bends = generator.normal(size=(k, k, n)) * 10 ** generator.uniform(-3, 3)
    bends = (bends + bends.swapaxes(0, 1)) / 2
    gradient = generator.normal(size=n) * 10**scale
    root = generator.normal(size=(k, rank))
    slack = root @ root.T * np.abs(bends).max() * 10 ** (scale + generator.uniform(-1, 1))
    made = oscillation_covariance(gradient, bends, slack)
    left = remainder(gradient, bends, slack, made)
    pushed = 0.5 * k * np.abs(bends).max() ** 2 * np.abs(made).max()
    size, height = np.abs(made).max(), np.abs(slack).max() + np.abs(bends).max() * np.abs(gradient).max() + pushed
    assert np.linalg.eigvalsh(made)[0] >= -1e-9 * size
    assert np.linalg.eigvalsh(left)[0] >= -1e-9 * height
    assert np.abs(made @ left).max() <= 1e-8 * size * height


def test_where_linear_equations_will_do_they_say_what_the_interior_point_method_says(monkeypatch):
    """With independent curvature gradients and with dependent ones, where other solutions have R = 0 as well."""
    generator, problems, taken = np.random.default_rng(0), [], {True: 0, False: 0}
    for k, n, together in [(2, 2, False), (2, 2, True), (2, 4, True), (3, 4, False), (3, 7, True)] * 20:
        bends = generator.normal(size=(k, k, n))
        bends = (bends + bends.swapaxes(0, 1)) / 2
        bends[~np.eye(k, dtype=bool)] *= together
        root = generator.normal(size=(k, k))  # of a solution with R = 0
        problems.append((-bends @ np.einsum("ij,ijn->n", root @ root.T, bends), bends))
    fast = [_complementarity.complementary(*problem) for problem in problems]
    for constant, bends in problems:
        scaled = _complementarity._Problem(constant / np.abs(constant).max(), bends / np.abs(bends).max())
        if _complementarity._all_at_the_edge(scaled) is not None:
            taken[bool(np.linalg.matrix_rank(scaled.pushes, 1e-12) < len(scaled.pushes))] += 1
    assert min(taken.values()) >= 10
    monkeypatch.setattr(_complementarity, "_all_at_the_edge", lambda problem: None)
    for problem, found in zip(problems, fast, strict=True):
        slow = _complementarity.complementary(*problem)
        np.testing.assert_allclose(found, slow, rtol=0, atol=1e-8 * np.abs(slow).max())


def test_what_no_curvature_gradient_sees_is_left_inside():
    """R = 0 asks for X_11 = 2 alone: the smallest such X is singular, and not in the middle of all."""
    bends = np.zeros((2, 2, 1))
    bends[0, 0] = 1.0
    made = _complementarity.complementary(np.diag([-1.0, 0.0]), bends)
    assert made[0, 0] == pytest.approx(2, rel=1e-12)
    assert np.linalg.eigvalsh(made)[0] > 0.1


def test_slack_beside_curvature_gradients_that_are_not_independent():
    """Nothing moves the curvature between the two directions, so that the slack there is met by both together."""
    bends = [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]
    made = oscillation_covariance([-1.0, -2.0], bends, [[1.0, 0.9], [0.9, 1.0]])
    np.testing.assert_allclose(made, [[2.2357363, -2.7769538], [-2.7769538, 3.4491870]], atol=1e-6)


def test_what_has_no_solution_is_refused():
    """A direction beyond the edge, by its slack, whose curvature nothing moves."""
    with pytest.raises(ArithmeticError, match="oscillation_covariance: no covariance was found"):
        oscillation_covariance([-1.0], [[[1.0], [0.0]], [[0.0], [0.0]]], [[0.0, 0.0], [0.0, -1.0]])


def test_a_second_direction_that_is_watched_leaves_the_flow_of_a_product_as_it_was():
    """Two weights have three curvature gradients, which depend on each other."""
    model = ProductLoss("log_cosh", target=1.0)
    fields = (
        lambda w: float(model.loss(*w)),
        lambda w: np.array(model.gradient(*w)),
        lambda w: model.hessian(*w),
    )
    one, two = (
        central_flow(*fields, start=[0.02, 4.0], learning_rate=0.15, steps=30, directions=k).weights for k in (1, 2)
    )
    np.testing.assert_allclose(two[-1], one[-1], rtol=1e-6)


@given(seed=seeds)
def test_one_direction_is_the_closed_form(seed):
    gradient, bend = np.random.default_rng(seed).normal(size=(2, 3))
    made = oscillation_covariance(gradient, bend[None, None])
    assert made[0, 0] == pytest.approx(oscillation_variance(-gradient @ bend, bend @ bend), rel=1e-12)


@given(seed=seeds)
def test_independent_curvatures_give_the_positive_part_of_the_drive(seed):
    """With orthonormal H_11, sqrt 2 H_12, H_22 the problem is the projection of 2G on positive matrices."""
    drive = np.random.default_rng(seed).normal(size=(2, 2))
    drive = (drive + drive.T) / 2
    half = np.sqrt(0.5)
    bends = np.array([[[1, 0, 0], [0, half, 0]], [[0, half, 0], [0, 0, 1]]])
    gradient = -np.array([drive[0, 0], np.sqrt(2) * drive[0, 1], drive[1, 1]])
    values, vectors = np.linalg.eigh(drive)
    expected = 2 * (vectors * np.maximum(values, 0)) @ vectors.T
    np.testing.assert_allclose(oscillation_covariance(gradient, bends), expected, atol=1e-6)


def test_one_oscillation_may_hold_both_directions():
    """Curvatures that share a direction: what flattens the first lowers the second by more than the drive raises it."""
    bends = np.zeros((2, 2, 2))
    bends[0, 0], bends[1, 1] = [1.0, 0.8], [0.8, 1.0]
    made = oscillation_covariance([-1.0, 0.0], bends)
    np.testing.assert_allclose(made, [[2 / 1.64, 0], [0, 0]], atol=1e-12)  # alone, the second would need 1.6/1.64


@given(seed=seeds)
def test_the_covariance_turns_with_its_basis(seed):
    generator = np.random.default_rng(seed)
    bends = generator.normal(size=(2, 2, 4))
    bends = (bends + bends.swapaxes(0, 1)) / 2
    gradient, angle = generator.normal(size=4), generator.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    made = oscillation_covariance(gradient, np.einsum("ai,ijn,bj->abn", turn, bends, turn))
    np.testing.assert_allclose(turn.T @ made @ turn, oscillation_covariance(gradient, bends), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Two oscillating weights whose curvatures a.v and b.v are driven by a well in v


A, B = np.array([1.0, 0.3, 0.2]), np.array([0.2, 1.0, -0.3])
STEADY, CHANGING = np.ones(3), np.array([1.0, 2.0, 0.5])
TIME = 2.0


class TwoDirections:
    """L = (a.v) x^2/2 + (b.v) y^2/2 + sum_m k_m (v_m - c_m)^2/2, started with both curvatures at the edge."""

    def __init__(self, rate, well=CHANGING, below=0.0):
        self.rate, self.well, curvatures = rate, well, np.array([A, B])
        corner = np.linalg.lstsq(curvatures, np.full(2, 2 / rate), rcond=None)[0]
        self.start = np.concatenate([[0.0, 0.0], corner - np.linalg.lstsq(curvatures, [below, below], rcond=None)[0]])
        self.center = corner + np.linalg.lstsq(curvatures, [1.5, 1.0], rcond=None)[0] + np.cross(A, B)

    def loss(self, w):
        x, v = w[:2], w[2:]
        return A @ v * x[0] ** 2 / 2 + B @ v * x[1] ** 2 / 2 + self.well @ (v - self.center) ** 2 / 2

    def gradient(self, w):
        x, v = w[:2], w[2:]
        push = A * x[0] ** 2 / 2 + B * x[1] ** 2 / 2 + self.well * (v - self.center)
        return np.array([A @ v * x[0], B @ v * x[1], *push])

    def hessian(self, w):
        x, v = w[:2], w[2:]
        made = np.diag([A @ v, B @ v, *self.well])
        made[0, 2:] = made[2:, 0] = A * x[0]
        made[1, 2:] = made[2:, 1] = B * x[1]
        return made

    def variances(self, v):
        """Sigma of both directions by hand: curvatures that stay, 2 x 2 linear equations."""
        drive = -self.well * (v - self.center)
        return np.linalg.solve(np.array([[A @ A, A @ B], [A @ B, B @ B]]) / 2, [A @ drive, B @ drive])

    def flow(self, time=TIME, **options):
        steps = round(time / self.rate)
        return central_flow(self.loss, self.gradient, self.hessian, self.start, self.rate, steps=steps, **options)

    def descend(self, time=TIME):
        """Gradient descent from the point where both weights flip with the amplitude of the flow."""
        w = self.start.copy()
        w[:2] = np.sqrt(self.variances(w[2:]))
        path = [w]
        for _ in range(round(time / self.rate)):
            path.append(path[-1] - self.rate * self.gradient(path[-1]))
        return np.array(path)


def test_under_a_steady_drive_two_directions_follow_gradient_descent_to_first_order_in_the_learning_rate():
    """A well alike in all directions moves v along the edge and leaves the drive of both curvatures as it is."""
    rates, weights, losses = (0.02, 0.01, 0.005), [], []
    for rate in rates:
        model = TwoDirections(rate, STEADY)
        flow, path = model.flow(points=round(TIME / rate), directions=2), model.descend()
        np.testing.assert_allclose(flow.sharpness[1:], 2 / rate, rtol=1e-6)
        np.testing.assert_allclose(path[1:, :2] ** 2, flow.weight_variance[1:, :2], rtol=1e-6)
        weights.append(np.abs(path[:, 2:] - flow.weights.values[:, 2:]).max())
        losses.append(np.abs([model.loss(w) for w in path[1:]] - flow.loss.values[1:]).max())
        assert np.abs(flow.weights.values[-1] - flow.weights.values[0]).max() > 0.5
    assert order(rates, weights) == pytest.approx(1, abs=0.1)
    assert order(rates, losses) == pytest.approx(1, abs=0.1)
    assert weights[-1] < 1e-3


def test_a_drive_that_changes_within_a_cycle_is_followed_in_the_end_but_not_on_the_way():
    """A cycle takes a time of order 1 whatever the rate; the flow, an average over cycles, cannot be closer."""
    lags = []
    for rate in (0.02, 0.005):
        model = TwoDirections(rate)
        flow, path = model.flow(points=round(TIME / rate), directions=2), model.descend()
        lags.append(np.abs(path[1:, :2] ** 2 - flow.weight_variance.values[1:, :2]).max())
    assert min(lags) > 0.1
    assert lags[1] > 0.8 * lags[0]
    model = TwoDirections(0.02)
    flow, path = model.flow(time=40, points=2000, directions=2), model.descend(time=40)
    np.testing.assert_allclose(path[-1, 2:], flow.weights.values[-1, 2:], rtol=1e-6)
    np.testing.assert_allclose(path[-1, :2] ** 2, flow.weight_variance.values[-1, :2], rtol=1e-4)


def test_the_variances_of_two_directions_are_those_of_linear_equations():
    model = TwoDirections(0.02)
    flow = model.flow(points=200, directions=2)
    for at in (40, 120, 199):
        middle = (flow.weights.values[at, 2:] + flow.weights.values[at + 1, 2:]) / 2
        np.testing.assert_allclose(flow.weight_variance[at + 1, :2], model.variances(middle), rtol=2e-3)


def test_the_integration_is_of_second_order_in_the_substep():
    model = TwoDirections(0.02)
    ends = {points: model.flow(points=points, directions=2).weights.values[-1] for points in (100, 200, 400, 1600)}
    errors = [np.abs(ends[points] - ends[1600]).max() for points in (100, 200, 400)]
    assert order((4, 2, 1), errors) == pytest.approx(2, abs=0.3)


def test_watching_more_directions_than_come_to_the_edge_changes_nothing():
    model = TwoDirections(0.02)
    two, four = (model.flow(directions=count).weights.values[-1] for count in (2, 4))
    np.testing.assert_allclose(four, two, rtol=1e-9, atol=1e-9)


def test_watching_too_few_lets_the_other_one_through():
    model = TwoDirections(0.02, below=0.2)
    one = model.flow(directions=1)
    watched = model.flow(directions=2)
    assert float(watched.sharpness.max()) < 100 + 1e-3
    curvatures = one.weights.values[:, 2:] @ np.array([A, B]).T
    # the flow chatters between the two: it holds the larger one only by crossing the edge again and again
    assert curvatures.max() - 100 > 10 * max(float(watched.sharpness.max()) - 100, 1e-9)


def test_below_the_edge_the_central_flow_is_gradient_flow():
    model = ProductLoss("log_cosh")
    flow = central_flow(
        lambda w: float(model.loss(*w)),
        lambda w: np.array(model.gradient(*w)),
        lambda w: model.hessian(*w),
        [1.0, 1.5],
        0.1,
        steps=20,
        points=400,
    )
    expected = 1.5**2 - 1.0**2  # which gradient flow conserves
    x, y = flow.weights.values.T
    np.testing.assert_allclose(y**2 - x**2, expected, rtol=1e-4)
    assert float(flow.variance.max()) == 0
    assert flow.loss.equals(flow.flow_loss.assign_attrs(flow.loss.attrs))
    assert (np.diff(flow.flow_loss) < 0).all()


def test_released_products_end_at_the_edge_where_gradient_descent_ends_below_it():
    """The flow stays at 2/eta for good; the run of log cosh ends 3/2 eta lower, an error of second order."""
    model, rates, errors = ProductLoss("log_cosh", target=1.0), (0.2, 0.14, 0.1), []
    for rate in rates:
        start = np.array([0.0, np.sqrt(np.sqrt((2.3 / rate) ** 2 - 4))])
        flow = central_flow(
            lambda w: float(model.loss(*w)),
            lambda w: np.array(model.gradient(*w)),
            lambda w: model.hessian(*w),
            start,
            rate,
            steps=40,
        )
        assert float(flow.sharpness[-1]) == pytest.approx(2 / rate, rel=1e-6)
        x, y = start
        for _ in range(round(12 / rate**2)):
            force = np.tanh(x * y - 1)
            x, y = x - rate * y * force, y - rate * x * force
        assert x * y == pytest.approx(1, abs=1e-6)
        errors.append(float(flow.sharpness[-1]) / (x * x + y * y) - 1)
    assert order(rates, errors) == pytest.approx(2, abs=0.1)
    assert errors[-1] == pytest.approx(0.75 * rates[-1] ** 2, rel=0.02)


def test_a_start_beyond_the_edge_and_other_misfits_are_refused():
    model = TwoDirections(0.02)
    fields = {"loss": model.loss, "gradient": model.gradient, "hessian": model.hessian}
    call = {**fields, "learning_rate": 0.02, "steps": 10}
    with pytest.raises(ValueError, match="start must be a point of sharpness at most"):
        central_flow(**call, start=model.start * 1.01)
    with pytest.raises(ValueError, match="points must be at least steps = 10"):
        central_flow(**call, start=model.start, points=5)
    with pytest.raises(ValueError, match="directions must be at most"):
        central_flow(**call, start=model.start, directions=6)
    with pytest.raises(ValueError, match="gradient must be a callable that returns"):
        central_flow(**{**call, "gradient": lambda w: w[:2]}, start=model.start)
    with pytest.raises(ValueError, match="slack must be of shape"):
        oscillation_covariance([1.0], [[[1.0]]], [[1.0, 0.0], [0.0, 1.0]])


def test_whatever_the_scales_there_is_a_solution_or_it_is_said_that_none_was_found():
    """Systems become singular where coordinates differ by ten orders; that is no error of linear algebra."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(600):
        k, n = rng.integers(1, 6), rng.integers(1, 15)
        bends = rng.normal(size=(k, k, n))
        bends = (bends + bends.swapaxes(0, 1)) / 2
        if rng.random() < 0.5:
            bends = bends * 10.0 ** rng.uniform(-6, 6, n)
        if rng.random() < 0.3:
            bends = bends @ rng.normal(size=(n, n)) * (rng.random(n) < 0.5)
        root = rng.normal(size=(k, rng.integers(1, k + 1)))
        slack = root @ root.T * 10.0 ** rng.uniform(-8, 8) * rng.integers(2)
        gradient = rng.normal(size=n) * 10.0 ** rng.uniform(-8, 8)
        try:
            covariance = oscillation_covariance(gradient, bends, slack=slack)
        except ArithmeticError:
            continue
        found += 1
        left = remainder(gradient, bends, slack, covariance)
        velocity = np.abs(gradient) + 0.5 * np.einsum("ij,ijn->n", np.abs(covariance), np.abs(bends))
        size, height = np.abs(covariance).max(), np.abs(slack).max() + (np.abs(bends) @ velocity).max()
        assert np.linalg.eigvalsh(covariance)[0] >= -1e-9 * size
        assert np.linalg.eigvalsh(left)[0] >= -1e-9 * height
        assert np.abs(covariance @ left).max() <= 1e-9 * size * height
    assert found > 540
