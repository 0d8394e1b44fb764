"""Class labels as rows of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics.domains import Domain, checked, closed_unit_interval, complain, integer, one
from sgdynamics.simulate.trainer import arguments

__all__ = ["one_hot", "smoothed_labels"]

label_vector: Domain = arguments.vector


def _rows(owner: str, labels: NDArray[Any], classes: int) -> NDArray[np.float64]:
    good = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    if not good.all():
        raise complain(owner, "labels", f"integer labels in 0..{classes - 1}", labels[~good][0].item())
    return np.eye(classes)[labels.astype(np.int64)]


@checked(labels=label_vector, classes=integer(1))
def one_hot(labels: ArrayLike, classes: int) -> NDArray[np.float64]:
    """Labels as rows of the identity.

    Parameters
    ----------
    labels : array of int, shape (examples,)
        In 0..classes - 1.
    classes : int
        Number of classes, >= 1.

    Returns
    -------
    array, shape (examples, classes)

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> one_hot([1, 0], 3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    return _rows("one_hot", labels, classes)  # type: ignore[arg-type]


@checked(labels=label_vector, classes=integer(1), label_noise=one(closed_unit_interval))
def smoothed_labels(labels: ArrayLike, classes: int, label_noise: float) -> NDArray[np.float64]:
    r"""The class probabilities of labels under label noise: the expected loss under the noise is the loss on these.

    Parameters
    ----------
    labels : array of int, shape (examples,)
        In 0..classes - 1.
    classes : int
        Number of classes :math:`C`, >= 1.
    label_noise : float
        Probability :math:`p` that a label is replaced by one drawn uniformly from all classes, in [0, 1].

    Returns
    -------
    array, shape (examples, classes)
        :math:`(1-p)\,[j = y_i] + p/C`.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> smoothed_labels([1], 2, 0.2)
    array([[0.1, 0.9]])
    """
    return (1 - label_noise) * _rows("smoothed_labels", labels, classes) + label_noise / classes  # type: ignore[arg-type]
