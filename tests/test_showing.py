"""Objects show themselves on a few lines at any size, and are compared by value."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sgdynamics._showing import Shown
from sgdynamics.models import break_even, deep_linear, edge_of_stability, patterns, quadratic, schedules, uv
from sgdynamics.simulate import trainer

MODES = 10_000
MANY = np.linspace(0.5, 1.0, MODES)


def models():
    sample = patterns.TwoPatternData(64, p_only=0.3, q_only=0.3, margin=0.7, separation=0.5).draw(50, seed=0)
    ensemble = break_even.draw_ensemble(1000, relative_variance=0.1, modes=20, seed=0)
    return [
        quadratic.MiniBatchQuadratic(MANY, 1 / MANY),
        quadratic.MiniBatchQuadratic([1.0, 0.1], 1.0, batch_size=4),
        quadratic.MiniBatchQuadratic(xr.DataArray(MANY.reshape(2, -1), dims=["rate", "mode"]), 1.0),
        quadratic.FullQuadratic(np.diag(MANY[:300]), np.eye(300)),
        quadratic.FiniteSumQuadratic(MANY),
        quadratic.GaussianLeastSquares(MANY, 1.0),
        uv.UVNetwork(np.arange(1, MODES + 1)),
        deep_linear.ScalarChain(3.0),
        edge_of_stability.ProductLoss("square"),
        break_even.SelfStabilizingModes(*ensemble, sharpening=0.1),
        ensemble,
        sample,
        trainer.digits(),
        trainer.network([64, 300, 10], "tanh", seed=0),
    ]


MODELS = models()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_at_most_five_lines(model):
    lines = repr(model).splitlines()
    assert len(lines) <= 5
    assert max(map(len, lines)) <= 110
    assert type(model).__name__ in lines[0]


@pytest.mark.parametrize("model", [m for m in MODELS if isinstance(m, Shown)], ids=lambda model: type(model).__name__)
def test_equal_by_value(model):
    other = pickle.loads(pickle.dumps(model))
    assert other is not model
    assert other == model
    assert hash(other) == hash(model)
    assert copy.deepcopy(model) == model
    assert "<table>" in model._repr_html_()


def test_unequal_where_a_value_a_shape_a_label_or_the_class_differs():
    one = quadratic.MiniBatchQuadratic([1.0, 0.1], 1.0)
    assert one == quadratic.MiniBatchQuadratic([1, 0.1], [1, 1], batch_size=1)
    assert one != quadratic.MiniBatchQuadratic([1.0, 0.1], 1.0, batch_size=2)
    assert one != quadratic.MiniBatchQuadratic([1.0, np.nextafter(0.1, 1)], 1.0)
    assert one != quadratic.MiniBatchQuadratic([1.0], 1.0)
    assert one != quadratic.MiniBatchQuadratic(xr.DataArray([1.0, 0.1], dims="mode"), 1.0)
    assert one != quadratic.GaussianLeastSquares([1.0, 0.1], 1.0)
    assert uv.UVNetwork(8) != uv.UVNetwork(8, target=1.0)
    net = trainer.network([2, 3, 1], "tanh", seed=0)
    assert net == trainer.network([2, 3, 1], "tanh", seed=0)
    assert net != trainer.network([2, 3, 1], "tanh", seed=1)
    assert net != trainer.network([2, 3, 1], "relu", seed=0).with_flat(net.flat())
    assert net != trainer.network([2, 3, 1], "tanh", biases=False, seed=0)
    assert one != "MiniBatchQuadratic"


def test_nothing_lazy_is_computed_to_be_shown():
    dask = pytest.importorskip("dask.array", reason="needs dask")

    def refuse(block):
        raise AssertionError("computed")

    lazy = xr.DataArray(dask.ones(5, chunks=5).map_blocks(refuse, meta=np.empty(0)), dims="mode")
    assert "lazy, mode: 5" in repr(quadratic.MiniBatchQuadratic(lazy, 1.0))


def test_eigenvalues_show_themselves_without_their_vectors():
    net, digits = trainer.network([64, 16, 10], "tanh", seed=0), trainer.digits()
    found = trainer.top_hessian_eigenvalues(net, digits.x[:50], digits.y[:50], k=3, loss="cross_entropy")
    text = repr(found)
    assert f"{found.values[0]:.6g}" in text
    assert "1210 x 3" in text
    assert len(text) < 250


def test_batch_size_is_a_whole_number_in_every_model():
    four = [
        quadratic.MiniBatchQuadratic(1.0, 1.0, batch_size=4.0),
        quadratic.FullQuadratic(np.eye(2), 1.0, batch_size=4.0),
        quadratic.GaussianLeastSquares([1.0], 1.0, batch_size=4.0),
    ]
    assert [type(model.batch_size) for model in four] == [int, int, int]


@given(st.integers(3, 200), st.integers(3, 200), st.integers(3, 200), st.floats(1e-6, 1e6))
def test_a_schedule_says_its_pieces(warmup, plateau, decay, rate):
    """Of a warm-up, a plateau and a decay of more than two steps each, wherever they meet."""
    steps = warmup + plateau + decay
    rates = schedules.warmup_stable_decay(rate, steps, warmup=warmup, decay=decay)
    text = schedules.describe(rates)
    ends = f"from {rates[0]:.4g} to {rate:.4g}", f"from {rates[-decay]:.4g} to 0"
    assert text == f"{steps} steps: {warmup} in a line {ends[0]}, {plateau} at {rate:.4g}, {decay} in a line {ends[1]}"


@pytest.mark.parametrize("first_at_rate", [False, True])
@given(st.integers(4, 300_000), st.floats(1e-3, 1e3), st.floats(0.0, 0.9))
def test_half_a_cosine_is_told_from_a_line(first_at_rate, steps, rate, final):
    cosine = schedules.cosine(rate, steps, final * rate, first_at_rate=first_at_rate)
    assert "in half a cosine" in schedules.describe(cosine)
    assert "in a line" in schedules.describe(schedules.linear(rate, steps, final * rate, first_at_rate=first_at_rate))


def test_many_pieces_are_counted():
    assert "in 40 pieces" in schedules.describe(schedules.step_decay(1.0, 400, 0.9, 10))
    with pytest.raises(ValueError, match="one schedule, 1-D"):
        schedules.describe(np.ones((2, 3)))
