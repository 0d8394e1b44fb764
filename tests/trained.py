"""Runs, their batches and what they minimise, from options in one mapping, which is how tests draw them."""

import numpy as np

from sgdynamics.simulate import trainer

OBJECTIVE = ("weight_decay", "trainable")
BATCHES = ("replacement", "label_noise", "label_noise_kind", "seed")


def batches(*, batch_size=None, **options):
    """The batches of options for them and for other things."""
    return trainer.Batches(batch_size, **{name: options[name] for name in BATCHES if name in options})


def objective(net, x, y, loss, **options):
    """The objective of options for it and for other things."""
    return trainer.Objective(net, x, y, loss, **{name: options[name] for name in OBJECTIVE if name in options})


def trained(net, x, y, schedule, *, loss, batch_size=None, **options):
    """One run."""
    rest = {name: value for name, value in options.items() if name not in (*OBJECTIVE, *BATCHES)}
    drawn = batches(batch_size=batch_size, **options)
    return trainer.trajectory(objective(net, x, y, loss, **options), schedule, batches=drawn, **rest)


def trained_together(nets, x, y, schedule, *, loss, seed, batch_size=None, **options):
    """Many runs abreast, on data of all or of every run."""
    rest = {name: value for name, value in options.items() if name not in (*OBJECTIVE, *BATCHES)}
    own = np.ndim(x) == 3
    starts = [objective(net, x[i] if own else x, y[i] if own else y, loss, **options) for i, net in enumerate(nets)]
    if not own:
        starts = [starts[0].with_flat(net.flat()) for net in nets]
    drawn = [batches(batch_size=batch_size, **options, seed=one) for one in seed]
    return trainer.ensemble(starts, schedule, batches=drawn, **rest)


def replayed(x, y, *, steps, loss, classes=None, **options):
    """The batches of a run, without its network: any that the targets fit."""
    outputs = classes or (np.shape(y)[1] if np.ndim(y) == 2 else 1 if loss == "mse" else int(np.max(y)) + 1)
    net = trainer.network([np.shape(x)[1], outputs], "linear", seed=0)
    return batches(**options).drawn(trainer.Objective(net, x, y, loss), steps)
