"""Scikit-learn's bundled handwritten digits, 1797 images of 8 x 8 pixels, in the standardisations of the literature."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdynamics._blas import one_blas_thread
from sgdynamics._showing import named_tuple_repr
from sgdynamics.domains import checked, choice, complain, integer, optional, seeds
from sgdynamics.simulate.trainer import arguments
from sgdynamics.simulate.trainer.streams import generator

__all__ = ["Digits", "Split", "digits", "split", "whitened"]

Array = NDArray[Any]


class Digits(NamedTuple):
    """Inputs (examples, inputs) and integer labels (examples,)."""

    x: Array
    y: Array

    def __repr__(self) -> str:
        return named_tuple_repr(self)


class Split(NamedTuple):
    """Training and test examples."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array

    def __repr__(self) -> str:
        return named_tuple_repr(self)


@checked(standardisation=choice("raw", "mean_image", "raw_deviation", "per_image"))
def digits(standardisation: Literal["raw", "mean_image", "raw_deviation", "per_image"] = "mean_image") -> Digits:
    r"""The digits, with statistics of all 1797 images. Nothing is downloaded.

    Parameters
    ----------
    standardisation : {"raw", "mean_image", "raw_deviation", "per_image"}
        - ``"raw"``: pixels in 0..16.
        - ``"mean_image"``: pixels / 16 minus the mean image.
        - ``"raw_deviation"``: pixels minus the mean image, divided by the one standard deviation (6.02) of all raw
          pixels, taken before the mean image is removed.
        - ``"per_image"``: every image minus its own mean, divided by its own standard deviation.

    Returns
    -------
    Digits
        NamedTuple of ``x``, shape (1797, 64), and labels ``y`` in 0..9, shape (1797,).

    Raises
    ------
    ValueError, TypeError
        If the standardisation is none of these.
    ImportError
        Without scikit-learn, which holds the images.

    Examples
    --------
    >>> x, y = digits("raw_deviation")
    >>> x.shape, y[:3], round(float((x**2).sum(axis=1).mean()), 1)
    ((1797, 64), array([0, 1, 2]), 33.2)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("digits: scikit-learn holds them: pip install 'sgdynamics[data]'") from None

    x, y = load_digits(return_X_y=True)
    if standardisation == "mean_image":
        x = x / 16
        x = x - x.mean(axis=0)
    elif standardisation == "raw_deviation":
        x = (x - x.mean(axis=0)) / x.std()
    elif standardisation == "per_image":
        x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    return Digits(x, y.astype(np.int64))


@checked(x=arguments.matrix, y=arguments.columns, train=integer(1), seed=seeds)
def split(x: ArrayLike, y: ArrayLike, train: int, seed: int | np.random.SeedSequence) -> Split:
    """A random split into training and test examples.

    Parameters
    ----------
    x : array, shape (examples, inputs)
        Inputs.
    y : array, shape (examples,) or (examples, outputs)
        Labels or targets. Whole numbers in one dimension come back as integers.
    train : int
        Number of training examples, in 1..examples.
    seed : int or numpy.random.SeedSequence
        Seed of the permutation, >= 0. Splits of different sizes with one seed are nested.

    Returns
    -------
    Split
        NamedTuple of ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range or lengths differ.

    Examples
    --------
    >>> [part.shape for part in split(*digits(), train=1024, seed=0)]
    [(1024, 64), (1024,), (773, 64), (773,)]
    """
    inputs: Array = x  # type: ignore[assignment]
    targets: Array = y  # type: ignore[assignment]
    arguments.length("split", "y", targets, len(inputs), "examples")
    if train > len(inputs):
        raise complain("split", "train", f"at most the {len(inputs)} examples", train)
    if targets.ndim == 1 and (targets == np.floor(targets)).all():
        targets = targets.astype(np.int64)
    order = generator(seed, "split").permutation(len(inputs))
    first, rest = order[:train], order[train:]
    return Split(inputs[first], targets[first], inputs[rest], targets[rest])


@checked(x=arguments.matrix, dimensions=integer(1), reference=optional(arguments.matrix))
def whitened(x: ArrayLike, dimensions: int, reference: ArrayLike | None = None) -> Array:
    r"""Inputs projected on the leading principal components of a reference and scaled to unit variance in each.

    Parameters
    ----------
    x : array, shape (examples, inputs)
        Inputs to transform.
    dimensions : int
        Number of components, >= 1 and at most the rank of the centred reference.
    reference : array, shape (others, inputs), optional
        Examples whose mean and covariance are used: training examples, when ``x`` are test examples. None takes ``x``.

    Returns
    -------
    array, shape (examples, dimensions)
        Leading component first. Signs make the largest entry of every component positive.

    Raises
    ------
    ValueError, TypeError
        If an argument is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> white = whitened(digits().x, 50)
    >>> bool(np.allclose(white.T @ white / len(white), np.eye(50)))
    True
    """
    inputs: Array = x  # type: ignore[assignment]
    base: Array = inputs if reference is None else reference  # type: ignore[assignment]
    if base.shape[1] != inputs.shape[1]:
        raise complain("whitened", "reference", f"of shape (others, {inputs.shape[1]})", f"shape {base.shape}")
    center = base.mean(axis=0)
    with one_blas_thread():
        _, singular, components = np.linalg.svd(base - center, full_matrices=False)
        rank = int((singular > 1e-10 * singular[0]).sum())
        if dimensions > rank:
            raise complain("whitened", "dimensions", f"at most the rank {rank} of the centred reference", dimensions)
        components, singular = components[:dimensions], singular[:dimensions]
        largest = np.abs(components).argmax(axis=1)
        components = components * np.sign(components[np.arange(dimensions), largest])[:, None]
        projected = (inputs - center) @ components.T
    return np.asarray(projected / (singular / np.sqrt(len(base))))
