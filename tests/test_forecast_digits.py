"""Merge or decay on a real network: the trainer's checkpoints, merged, against what two loss curves foretell."""

import numpy as np
import pytest

from sgdynamics.checkpoints import merge
from sgdynamics.models.schedules import constant, cosine, linear
from sgdynamics.simulate import trainer
from sgdynamics.theory.forecast import fit, predict

RATE, WARMUP, STEPS, REPLICAS, NOISE = 0.5, 100, 4000, 4, 0.2
SAVED = np.arange(3000, STEPS + 1, 100)
RECORD = np.arange(25, STEPS + 1, 25)


def warmed(*parts):
    return np.concatenate((RATE * np.arange(1, WARMUP + 1) / WARMUP, *parts))


def run(schedule, replica, saved=()):
    """Losses at the recorded steps, weights at the saved ones, and the loss as a function of weights."""
    x, y, x_test, y_test = trainer.split(*trainer.digits(), train=1200, seed=replica)
    net = trainer.network([64, 32, 10], "tanh", seed=replica)
    expected = trainer.smoothed_labels(y_test, 10, NOISE)

    def loss(weights):
        return float(trainer.loss_value(net.with_flat(weights), x_test, expected, "cross_entropy"))

    losses, kept, done = [], [], 0

    def update(weights, gradient, rate, state):
        nonlocal done
        moved = weights - rate * gradient
        done += 1
        if done in RECORD:
            losses.append(loss(moved))
        if done in saved:
            kept.append(moved.copy())
        return moved, state

    batches = trainer.Batches(32, label_noise=NOISE, seed=1000 + replica)
    trainer.trajectory(trainer.Objective(net, x, y, "cross_entropy"), schedule, batches=batches, update=update)
    return np.array(losses), kept, loss


@pytest.mark.slow
def test_the_better_of_merge_and_decay_is_foretold_from_two_curves(tmp_path):
    plateau = warmed(constant(RATE, STEPS - WARMUP))
    other = warmed(cosine(RATE, STEPS - WARMUP, final=0.1 * RATE))
    decay = warmed(constant(RATE, 3000 - WARMUP), linear(RATE, STEPS - 3000))
    ends, curves, merged = [], [], []
    for replica in range(REPLICAS):
        losses, kept, loss = run(plateau, replica, set(SAVED.tolist()))
        paths = []
        for step, weights in zip(SAVED, kept, strict=True):
            paths.append(str(tmp_path / f"step-{step}.npz"))
            np.savez(paths[-1], weights=weights)
        merge(paths, np.full(SAVED.size, 1 / SAVED.size), tmp_path / "merged.npz")
        merged.append(loss(np.load(tmp_path / "merged.npz")["weights"]))
        curves.append((losses, run(other, replica)[0]))
        ends.append(run(decay, replica)[0][-1])
    mean = np.mean(curves, axis=0)
    late = RECORD >= 3 * WARMUP
    fitted = fit([(rates, RECORD[late], losses[late]) for rates, losses in zip((plateau, other), mean, strict=True)])
    average = np.zeros(STEPS + 1)
    average[SAVED] = 1 / SAVED.size
    foretold = np.array(
        [
            predict(fitted, plateau, average=average).loss.item(),
            predict(fitted, decay).loss.item(),
            predict(fitted, plateau).loss.item(),
        ]
    )
    measured = np.array([np.mean(merged), np.mean(ends), mean[0][-8:].mean()])
    # levels to 2%, and both gains over the last checkpoint by at least half of what is foretold
    np.testing.assert_allclose(foretold, measured, rtol=0.02)
    gained, expected = measured[2] - measured[:2], foretold[2] - foretold[:2]
    assert (expected > 0.002).all()
    assert (gained > expected / 2).all()
    # the law says of the two that the merge is no worse, and so it is
    assert foretold[0] <= foretold[1]
    assert measured[0] <= measured[1] + 0.002
