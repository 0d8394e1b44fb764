"""The reference trainer: real networks in NumPy, with exact gradients and Hessian products.

It knows nothing of the models and their theory and returns raw statistics: it is what they are tested against.

>>> from sgdynamics.models import schedules
>>> from sgdynamics.simulate import trainer
>>> x, y, x_test, y_test = trainer.split(*trainer.digits(), train=1200, seed=0)
>>> net = trainer.network([64, 32, 10], "tanh", seed=0)
>>> run = trainer.train(net, x, y, schedules.constant(0.5, 200), loss="cross_entropy", batch_size=32, seed=0)
>>> bool(run.loss[-1] < 0.5)
True
>>> top = trainer.top_hessian_eigenvalues(net.with_flat(run.final_weights), x, y, k=2, loss="cross_entropy")
>>> top.converged
True
"""

from __future__ import annotations

from sgdynamics.simulate.trainer.batches import batches
from sgdynamics.simulate.trainer.curvature import HessianEigenvalues, top_hessian_eigenvalues
from sgdynamics.simulate.trainer.derivatives import (
    gradient,
    hessian_operator,
    hessian_vector_product,
    loss_value,
    per_example_curvatures,
    per_example_gradients,
)
from sgdynamics.simulate.trainer.digits import Digits, Split, digits, split, whitened
from sgdynamics.simulate.trainer.labels import one_hot, smoothed_labels
from sgdynamics.simulate.trainer.network import Network, network
from sgdynamics.simulate.trainer.training import train
from sgdynamics.simulate.trainer.updates import Update, momentum, sgd

__all__ = [
    "Digits",
    "HessianEigenvalues",
    "Network",
    "Split",
    "Update",
    "batches",
    "digits",
    "gradient",
    "hessian_operator",
    "hessian_vector_product",
    "loss_value",
    "momentum",
    "network",
    "one_hot",
    "per_example_curvatures",
    "per_example_gradients",
    "sgd",
    "smoothed_labels",
    "split",
    "top_hessian_eigenvalues",
    "train",
    "whitened",
]
