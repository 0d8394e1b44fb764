"""The reference trainer: real networks in NumPy, with exact gradients and Hessian products.

It knows nothing of the models and their theory and returns raw statistics: it is what they are tested against. What is
minimised is an :class:`Objective`: the loss of a network on examples, at the weights that the network has. Every
instrument is a function of an objective and gives a labelled Dataset; handed to :func:`trajectory` as ``measure`` it is
called along the run.

>>> from sgdynamics.models import schedules
>>> from sgdynamics.simulate import trainer
>>> x, y, x_test, y_test = trainer.split(*trainer.digits(), train=1200, seed=0)
>>> net = trainer.network([64, 32, 10], "tanh", seed=0)
>>> run = trainer.train(net, x, y, schedules.constant(0.5, 200), loss="cross_entropy", batch_size=32, seed=0)
>>> bool(run.loss[-1] < 0.5)
True
>>> end = trainer.Objective(net.with_flat(run.final_weights), x, y, "cross_entropy")
>>> trainer.top_eigenpairs(end, k=2).converged
True
>>> half = trainer.Batches(32, label_noise=0.1, seed=0)
>>> measured = trainer.trajectory(end, schedules.constant(0.5, 20), batches=half, measure=trainer.gradient_covariance)
>>> bool(measured.gradient_variance[-1] > 0)
True

============================================  =======================================================================
question                                      where to look
============================================  =======================================================================
networks and data                             ``network``, ``Network``, ``UserNetwork``, ``digits``, ``Digits``,
                                              ``split``, ``Split``, ``whitened``, ``one_hot``, ``smoothed_labels``
what is minimised and measured                ``Objective``
train one network, or many abreast            ``train``, ``trajectory``, ``ensemble``
how a step is made of a gradient              ``Update``, ``sgd``, ``momentum``, ``nudged_sgd``, ``dominant_sgd``,
                                              ``bulk_sgd``, ``steered_sgd``, ``projected_steps``
batches                                       ``Batches``, ``fresh_batches``, ``draw_batches``
loss, exact gradient, exact Hessian products  ``loss_value``, ``losses_at``, ``loss_along``, ``gradient``,
                                              ``hessian_vector_product``, ``hessian_operator``, ``hessian_matrix``,
                                              ``per_example_curvatures``
sharpest directions, alone and along a run    ``top_hessian_eigenvalues``, ``top_eigenpairs``, ``HessianEigenvalues``,
                                              ``hessian_eigenvectors``, ``EigenpairTracker``, ``tracked_eigenpairs``,
                                              ``matched_directions``, ``MatchedDirections``
noise of batch gradients                      ``gradient_covariance``, ``batch_gradient_covariance``,
                                              ``gradient_interaction``, ``sampled_interaction``, ``batch_sharpness``,
                                              ``alignments``
how much longer a step could be               ``critical_rate``
phases of early training                      ``network_thresholds``, ``network_saturation``, ``critical_c``
============================================  =======================================================================
"""

from __future__ import annotations

from sgdynamics.simulate.trainer.alignment import alignments
from sgdynamics.simulate.trainer.batches import Batches
from sgdynamics.simulate.trainer.covariance import batch_gradient_covariance, gradient_covariance
from sgdynamics.simulate.trainer.critical import critical_rate
from sgdynamics.simulate.trainer.curvature import HessianEigenvalues, top_eigenpairs, top_hessian_eigenvalues
from sgdynamics.simulate.trainer.dense import hessian_matrix
from sgdynamics.simulate.trainer.derivatives import (
    gradient,
    hessian_operator,
    hessian_vector_product,
    loss_value,
)
from sgdynamics.simulate.trainer.digits import Digits, Split, digits, split, whitened
from sgdynamics.simulate.trainer.example_curvatures import per_example_curvatures
from sgdynamics.simulate.trainer.interaction import batch_sharpness, gradient_interaction, sampled_interaction
from sgdynamics.simulate.trainer.labels import one_hot, smoothed_labels
from sgdynamics.simulate.trainer.lines import loss_along, losses_at
from sgdynamics.simulate.trainer.network import Network, network
from sgdynamics.simulate.trainer.objective import Objective
from sgdynamics.simulate.trainer.overshoot import projected_steps
from sgdynamics.simulate.trainer.phases import critical_c, network_saturation, network_thresholds
from sgdynamics.simulate.trainer.sampling import draw_batches, fresh_batches
from sgdynamics.simulate.trainer.stacked import ensemble
from sgdynamics.simulate.trainer.steering import (
    bulk_sgd,
    dominant_sgd,
    hessian_eigenvectors,
    nudged_sgd,
    steered_sgd,
)
from sgdynamics.simulate.trainer.tracking import (
    EigenpairTracker,
    MatchedDirections,
    matched_directions,
    tracked_eigenpairs,
)
from sgdynamics.simulate.trainer.training import train, trajectory
from sgdynamics.simulate.trainer.updates import Update, momentum, sgd
from sgdynamics.simulate.trainer.user_network import UserNetwork

__all__ = [
    "Batches",
    "Digits",
    "EigenpairTracker",
    "HessianEigenvalues",
    "MatchedDirections",
    "Network",
    "Objective",
    "Split",
    "Update",
    "UserNetwork",
    "alignments",
    "batch_gradient_covariance",
    "batch_sharpness",
    "bulk_sgd",
    "critical_c",
    "critical_rate",
    "digits",
    "dominant_sgd",
    "draw_batches",
    "ensemble",
    "fresh_batches",
    "gradient",
    "gradient_covariance",
    "gradient_interaction",
    "hessian_eigenvectors",
    "hessian_matrix",
    "hessian_operator",
    "hessian_vector_product",
    "loss_along",
    "loss_value",
    "losses_at",
    "matched_directions",
    "momentum",
    "network",
    "network_saturation",
    "network_thresholds",
    "nudged_sgd",
    "one_hot",
    "per_example_curvatures",
    "projected_steps",
    "sampled_interaction",
    "sgd",
    "smoothed_labels",
    "split",
    "steered_sgd",
    "top_eigenpairs",
    "top_hessian_eigenvalues",
    "tracked_eigenpairs",
    "train",
    "trajectory",
    "whitened",
]
