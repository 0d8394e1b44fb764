"""Many runs at once: each is the run that it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
from trained import trained, trained_together

from sgdynamics.models import schedules
from sgdynamics.simulate import trainer
from sgdynamics.simulate.trainer import stacked

RUNS, EXAMPLES, STEPS = 5, 11, 23
BATCHES = {
    "full": {},
    "reshuffled": {"batch_size": 3},
    "replacement": {"batch_size": 4, "replacement": True},
    "one": {"batch_size": 1, "replacement": True},
}
NOISES = [(0.0, "fresh"), (0.3, "fresh"), (0.3, "fixed")]


def data(loss, own, outputs=3):
    """Inputs and targets, of all runs or of every run; labels where they are shared, class probabilities where not."""
    random = np.random.default_rng(1)
    front = (RUNS,) if own else ()
    x = random.standard_normal((*front, EXAMPLES, 4))
    if loss == "mse":
        return x, random.standard_normal((*front, EXAMPLES, outputs))
    if own:
        return x, random.dirichlet(np.ones(outputs), size=(RUNS, EXAMPLES))
    return x, random.integers(outputs, size=EXAMPLES)


def starts(widths=(4, 6, 5, 3), activation="tanh", biases=True):
    nets = [trainer.network(widths, activation, biases=biases, seed=seed) for seed in range(RUNS)]
    random = np.random.default_rng(2)  # biases start at zero, where they would test less
    return [net.with_flat(0.7 * random.standard_normal(net.size)) for net in nets]


def one_by_one(nets, x, y, rates, seeds, **options):
    own = np.ndim(x) == 3
    rates = np.broadcast_to(rates, (len(nets), np.shape(rates)[-1]))
    return [
        trained(net, x[run] if own else x, y[run] if own else y, rates[run], seed=seeds[run], **options)
        for run, net in enumerate(nets)
    ]


def assert_same_runs(together, alone):
    assert together.sizes["run"] == len(alone)
    for run, one in enumerate(alone):
        beside = together.isel(run=run)
        assert set(beside.data_vars) <= set(one.data_vars)
        for name in beside.data_vars:
            scale = np.max(np.abs(one[name].values), initial=0.0, where=np.isfinite(one[name].values))
            np.testing.assert_allclose(beside[name], one[name], rtol=1e-12, atol=1e-12 * scale, err_msg=name)
        np.testing.assert_array_equal(beside.time, one.time)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_every_run_is_the_run_that_it_would_be_alone(loss, batches, noise, own):
    x, y = data(loss, own)
    size, kind = noise
    options = {"loss": loss, **BATCHES[batches], "label_noise": size, "label_noise_kind": kind, "weight_decay": 0.02}
    options |= {"record": [0, 1, 7, STEPS], "keep_weights": True}
    nets, seeds = starts(), [3, 4, 5, np.random.SeedSequence(6).spawn(1)[0], 3]
    rates = np.geomspace(0.05, 0.5, RUNS)[:, None] * schedules.linear(1.0, STEPS)
    together = trained_together(nets, x, y, rates, seed=seeds, **options)
    assert_same_runs(together, one_by_one(nets, x, y, rates, seeds, **options))
    assert (together.divergence_step == -1).all()


@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (4, 3, 5, 4, 3)], ids=str)
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
def test_networks_of_any_shape(activation, biases, widths):
    x, y = data("mse", own=False)
    nets, seeds = starts(widths, activation, biases), list(range(RUNS))
    options = {"loss": "mse", "batch_size": 5, "record": np.arange(STEPS + 1), "keep_weights": True}
    together = trained_together(nets, x, y, schedules.constant(0.05, STEPS), seed=seeds, **options)
    assert_same_runs(together, one_by_one(nets, x, y, schedules.constant(0.05, STEPS), seeds, **options))
    assert together.time.dims == ("step",)


def test_longer_than_a_block_of_random_numbers(monkeypatch):
    x, y = data("cross_entropy", own=False)
    options = {"loss": "cross_entropy", "batch_size": 3, "label_noise": 0.4}
    nets, seeds, rates = starts(), list(range(RUNS)), schedules.constant(0.1, STEPS)
    whole = trained_together(nets, x, y, rates, seed=seeds, **options)
    monkeypatch.setattr(stacked, "BLOCK_VALUES", 4 * 3 * RUNS)
    assert whole.equals(trained_together(nets, x, y, rates, seed=seeds, **options))


def test_a_run_does_not_see_those_beside_it():
    x, y = data("cross_entropy", own=False)
    nets, rates = starts(), schedules.constant(0.2, STEPS)
    options = {"loss": "cross_entropy", "batch_size": 4, "record": [5, STEPS], "keep_weights": True}
    order = [3, 0, 4]
    every = trained_together(nets, x, y, rates, seed=list(range(RUNS)), **options)
    some = trained_together([nets[run] for run in order], x, y, rates, seed=order, **options)
    assert some.equals(every.isel(run=order))


def test_groups_that_the_cache_holds_change_nothing(monkeypatch):
    x, y = data("cross_entropy", own=True)
    nets, rates = starts(), np.linspace(0.1, 0.3, RUNS)[:, None] * np.ones(STEPS)
    options = {"loss": "cross_entropy", "batch_size": 4, "record": [5, STEPS], "label_noise": 0.2}
    every = trained_together(nets, x, y, rates, seed=list(range(RUNS)), **options)
    monkeypatch.setattr(stacked, "CACHE", 0)
    assert every.equals(trained_together(nets, x, y, rates, seed=list(range(RUNS)), **options))


def test_one_that_diverges_stops_no_other():
    x, y = data("mse", own=False)
    nets, seeds = starts(activation="linear"), list(range(RUNS))
    rates = np.array([0.005, 1e200, 0.005, 40.0, 0.005])[:, None] * np.ones(STEPS)
    options = {"loss": "mse", "batch_size": 4, "record": [0, 1, 2, STEPS], "keep_weights": True}
    together = trained_together(nets, x, y, rates, seed=seeds, **options)
    assert_same_runs(together, one_by_one(nets, x, y, rates, seeds, **options))
    assert (together.divergence_step.values >= 0).tolist() == [False, True, False, True, False]
    assert np.isinf(together.final_weights.isel(run=[1, 3])).all()


def test_without_losses_nothing_else_changes():
    x, y = data("mse", own=True)
    nets, seeds, rates = starts(), list(range(RUNS)), schedules.constant(0.1, STEPS)
    options = {"loss": "mse", "batch_size": 4, "record": [2, STEPS]}
    with_losses = trained_together(nets, x, y, rates, seed=seeds, **options)
    without = trained_together(nets, x, y, rates, seed=seeds, evaluate_loss=False, **options)
    assert set(with_losses) - set(without) == {"loss", "batch_loss"}
    assert without.equals(with_losses.drop_vars(["loss", "batch_loss"]))


def test_the_starts_are_not_changed():
    x, y = data("mse", own=False)
    nets = starts()
    before = [net.flat() for net in nets]
    trained_together(nets, x, y, schedules.constant(0.1, 3), loss="mse", seed=list(range(RUNS)))
    assert all((net.flat() == flat).all() for net, flat in zip(nets, before, strict=True))


X, Y = data("mse", own=True)


def objectives(nets, **options):
    """One objective a run, on data of its own."""
    return [trainer.Objective(net, *here, "mse", **options) for net, *here in zip(nets, X, Y, strict=True)]


SOUND = {
    "objectives": objectives(starts()),
    "schedule": schedules.constant(0.1, 3),
    "batches": [trainer.Batches(2, seed=run) for run in range(RUNS)],
}
BUT_LAST = SOUND["objectives"][:-1]
SAME_SEED = [trainer.Batches(2, seed=0)] * (RUNS - 1)
MISFITS = [
    ("objectives", [*BUT_LAST, trainer.Objective(trainer.network([4, 6, 3], "tanh", seed=0), X[0], Y[0], "mse")]),
    ("objectives", [*BUT_LAST, *objectives(starts(activation="relu"))[:1]]),
    ("objectives", [*BUT_LAST, *objectives(starts(biases=False))[:1]]),
    ("objectives", [*BUT_LAST, BUT_LAST[0].with_flat(1j * BUT_LAST[0].flat())]),
    ("objectives", [*BUT_LAST, *objectives(starts(), weight_decay=0.1)[:1]]),
    ("objectives", [*BUT_LAST, *objectives(starts(), trainable=np.arange(starts()[0].size) > 3)[:1]]),
    ("objectives", []),
    ("objectives", [*BUT_LAST, BUT_LAST[0].batch([0, 1, 2])]),
    ("objectives", starts()),
    ("batches", SOUND["batches"][:2]),
    ("batches", [*SAME_SEED, trainer.Batches(3, seed=0)]),
    ("batches", [*SAME_SEED, trainer.Batches(2, label_noise=0.1, seed=0)]),
    ("batches", [trainer.Batches(EXAMPLES + 1, seed=run) for run in range(RUNS)]),
    ("batches", [0, 1, 2, 3, 4]),
    ("schedule", np.full((2, 3), 0.1)),
    ("schedule", np.full((1, RUNS, 3), 0.1)),
    ("record", [4]),
]


@pytest.mark.parametrize(("name", "value"), MISFITS, ids=[name for name, _ in MISFITS])
def test_runs_that_do_not_fit_together_are_refused(name, value):
    trainer.ensemble(**SOUND)
    with pytest.raises((ValueError, TypeError), match=rf"ensemble: {name}\S* must be"):
        trainer.ensemble(**{**SOUND, name: value})


def test_a_loss_that_is_not_named_or_differs_is_refused():
    own = (lambda z, y: ((z - y) ** 2).sum(axis=1), lambda z, y: 2 * (z - y))
    for other in (own, "cross_entropy"):
        targets = Y[0] if other is own else np.eye(3)[np.arange(EXAMPLES) % 3]
        with pytest.raises(ValueError, match=r"ensemble: objectives\[4\] must be of"):
            trainer.ensemble([*BUT_LAST, trainer.Objective(starts()[0], X[0], targets, other)], [0.1])
