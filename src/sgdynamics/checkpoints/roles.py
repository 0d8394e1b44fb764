r"""What of a checkpoint is a parameter, and is averaged, and what is not: one rule.

===========  ==============================================================  =====================================
role         which tensors                                                   what the merge has
===========  ==============================================================  =====================================
equal        the same bytes in all checkpoints, whatever they are            these
parameter    floating point, real or complex                                 the average
statistic    those whose names say mean or variance of a layer's inputs      the average; to be measured anew
counter      one whole number, which does not fall from step to step         the last checkpoint's
flag         true or false                                                   the last checkpoint's
state        what an optimiser keeps: ``optimizer/...``, ``exp_avg``         the last checkpoint's
copied       what the caller names                                           the last checkpoint's
===========  ==============================================================  =====================================

Everything else is refused: whole numbers that differ and count nothing are, for instance, quantised weights, and
floats of one byte with a scale of their own are no numbers without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sgdynamics.checkpoints.tensors import Tensor


class Role(StrEnum):
    """What a merge does with a tensor."""

    EQUAL = "equal"
    PARAMETER = "parameter"
    STATISTIC = "statistic"
    COUNTER = "counter"
    FLAG = "flag"
    STATE = "state"
    COPIED = "copied"

    @property
    def is_averaged(self) -> bool:
        """Whether the merge computes something."""
        return self in (Role.PARAMETER, Role.STATISTIC)


_OPTIMISER = re.compile(
    r"(^|[./])(optimi[sz]ers?(_states?)?|opt_state|exp_avg(_sq)?|momentum_buffer)([./]|$)", re.IGNORECASE
)
# running_mean, moving_variance:0, batchnorm0_running_var, bn._variance, moving_mean_71
_MEAN_OR_VARIANCE = re.compile(r"(?P<before>.*?)_?(?P<what>mean|avg|average|var|variance|std)")
_RUNNING = re.compile(r"(^|_)(running|moving|ema|global|pop|population)_?$")
# Haiku keeps a mean or variance as ``var_ema/average``, and what it is made of beside it.
_MOVING = re.compile(r"(.*[./])?(?P<what>mean|var)_ema[./](average|hidden)")
_VARIANCE = ("var", "variance", "std")
_SCALES = re.compile(r"scale|zero_?point|absmax|amax", re.IGNORECASE)
# The same as a word of any part of a name, with what stands before it.
_SCALES_WORD = re.compile(r"(^|_)(scales?|zero_?points?|absmax|amax)(?=$|_)", re.IGNORECASE)


def _leaf(name: str) -> tuple[str, str]:
    """The module that a tensor belongs to, and its own name without the numbers that frameworks append."""
    module, leaf = re.fullmatch(r"(.*[./])?(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    return module or "", re.sub(r"(:\d+)?$", "", re.sub(r"_\d+(:\d+)?$", "", leaf.lower()))


def statistics_of(tensors: Mapping[str, Tensor]) -> dict[str, bool]:
    """Tensors whose names say that they are means or variances that layers keep, and whether they are variances.

    The name says so by a word for the running of a mean or variance, or by its counterpart: a mean and a variance of
    one shape in one module.
    """
    found: dict[str, bool] = {}
    bare: dict[tuple[str, str, tuple[int, ...]], dict[bool, str]] = {}
    for name, tensor in tensors.items():
        module, leaf = _leaf(name)
        moving = _MOVING.fullmatch(name)
        if moving and tensor.type.is_floating:
            found[name] = moving["what"] == "var"
            continue
        match = _MEAN_OR_VARIANCE.fullmatch(leaf)
        if not match or not tensor.type.is_floating:
            continue
        is_variance = match["what"] in _VARIANCE
        if _RUNNING.search(match["before"]) or leaf.startswith("_"):
            found[name] = is_variance
        else:
            bare.setdefault((module, match["before"], tensor.shape), {})[is_variance] = name
    for pair in bare.values():
        if len(pair) == 2:
            found |= {name: is_variance for is_variance, name in pair.items()}
    return found


def roles_of(
    tensors: Mapping[str, Tensor],
    are_equal: Callable[[str], bool],
    numbers: Callable[[str], list[NDArray[np.generic]]],
    copy: Collection[str],
) -> dict[str, Role]:
    """What a merge does with every tensor.

    Parameters
    ----------
    tensors : mapping
        By name.
    are_equal : callable
        Whether a tensor has the same bytes in all checkpoints.
    numbers : callable
        The values of a small tensor in all checkpoints, in order.
    copy : collection of str
        Names that the caller wants from the last checkpoint.

    Raises
    ------
    ValueError
        With the names of what cannot be merged.
    """
    unknown = sorted(set(copy) - set(tensors))
    if unknown:
        raise ValueError(f"merge: copy must be names of tensors, got {', '.join(map(repr, unknown[:3]))}")
    statistics = statistics_of(tensors)
    roles = {name: _role(name, tensor, are_equal, numbers, copy, statistics) for name, tensor in tensors.items()}
    refused = [name for name, role in roles.items() if role is None]
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise ValueError(
            f"merge: paths must hold numbers that can be averaged: {refused[0]!r}{more}, {tensors[refused[0]]}, are "
            "whole numbers that differ between the checkpoints and count nothing, as quantised weights do; merge the "
            "checkpoints before they were quantised, or take the tensors from the last one by copy (--copy)"
        )
    known = {name: role for name, role in roles.items() if role is not None}
    _check_scales(tensors, known)
    return known


def _role(
    name: str,
    tensor: Tensor,
    are_equal: Callable[[str], bool],
    numbers: Callable[[str], list[NDArray[np.generic]]],
    copy: Collection[str],
    statistics: Mapping[str, bool],
) -> Role | None:
    if name in copy:
        return Role.COPIED
    if tensor.count == 0 and tensor.type.is_floating:
        return Role.PARAMETER
    if are_equal(name):
        return Role.EQUAL
    if _OPTIMISER.search(name):
        return Role.STATE
    if tensor.type.is_floating:
        return Role.STATISTIC if name in statistics else Role.PARAMETER
    if not tensor.type.is_whole:
        return Role.FLAG
    if tensor.count == 1:
        counted = [int(value.reshape(-1)[0]) for value in numbers(name)]
        if counted == sorted(counted):
            return Role.COUNTER
    return None


def _parts(name: str) -> list[str]:
    return [part for part in re.split("[./]", name) if part]


def _is_scale_of(scale: str, name: str) -> bool:
    """Whether a name is that of a scale of a tensor: in its module, or elsewhere and naming its module.

    ``l.weight`` has the scale ``l.weight_scale``, and ``scales.l`` or ``l.quantizer.scale``.
    """
    (module, _), (beside, leaf) = _leaf(name), _leaf(scale)
    if beside == module:
        return bool(_SCALES.search(leaf))
    cleaned = [_SCALES_WORD.sub("", part) for part in _parts(scale)]
    named = [part for part in cleaned if part]
    own = _parts(module)
    # a number is no name: of ``layers.0`` both
    own = own[max((place for place, part in enumerate(own) if not part.isdigit()), default=0) :]
    said = (named[place : place + len(own)] for place in range(len(named) - len(own) + 1))
    return cleaned != _parts(scale) and bool(own) and own in said


def _check_scales(tensors: Mapping[str, Tensor], roles: Mapping[str, Role]) -> None:
    """Floats of one byte are averaged where no scale of theirs differs."""
    averaged = [name for name, role in roles.items() if role.is_averaged]
    for name in averaged:
        if not tensors[name].kind.startswith("F8_"):
            continue
        scale = next((other for other in averaged if other != name and _is_scale_of(other, name)), None)
        if scale is not None:
            raise ValueError(
                f"merge: paths must hold numbers that can be averaged: {name!r}, {tensors[name]}, has a scale "
                f"{scale!r} that differs between the checkpoints; merge the checkpoints before they were quantised"
            )
