"""Which column of a log is the step, which the loss, which the learning rate, by the usual spellings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

# Best first; a counter of updates goes before a counter of calls to the logger.
_STEPS = (
    ("global_step", "trainer_global_step", "train_global_step", "optimizer_step", "optimiser_step"),
    ("step", "steps", "train_step", "training_step", "num_steps"),
    ("update", "updates", "num_updates", "num_update"),
    ("iteration", "iterations", "iter", "iters", "it", "n_iter", "num_iter", "train_iter", "train_iteration"),
    ("global_steps", "batch", "batches", "minibatch", "batch_idx"),
)
_LOSSES = (
    ("loss",),
    ("train_loss", "training_loss", "loss_train", "loss_training", "trainloss", "train_loss_step", "loss_step"),
    ("batch_loss", "mini_batch_loss", "train_loss_batch", "lm_loss", "train_lm_loss", "nll", "train_nll", "value"),
)
_RATES = (
    ("lr", "learning_rate", "learningrate", "train_lr", "train_learning_rate", "lr_train", "learning_rate_train"),
)
_ANY_RATE = re.compile(r"(^|_)(lr|learning_rate)(_|$)")
_ANY_LOSS = re.compile(r"(^|_)loss(_|$)")
_RUNS = ("run", "run_name", "runs", "run_id", "experiment", "tag", "metric")
# Weights & Biases adds the range of the records that it gathers into one.
# A unit after a name, and units that are a factor.
_UNIT = re.compile(r"\s*[(\[{](?P<unit>[^)\]}]*)[)\]}]\s*$")
_FACTOR = re.compile(
    r".*\d.*|[kmg]|kilo.*|mega.*|giga.*|hundreds?|thousands?|millions?|billions?|percent|%", re.IGNORECASE
)
_RANGE = re.compile(r"(?<=.)__(MIN|MAX)$")


class Ambiguous(ValueError):
    """Several columns that may be meant."""

    def __init__(self, columns: list[str]) -> None:
        super().__init__(columns)
        self.columns = columns


def plain(heading: str) -> str:
    """What a heading measures, without the run, in lower case and underscores."""
    metric = heading.rsplit(" - ", 1)[-1]
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric).lower()).strip("_")


def factor(heading: str) -> str | None:
    """The unit of a heading if it is a factor, as in ``step [k]`` and ``lr (1e-3)``."""
    unit = _UNIT.search(heading)
    said = unit["unit"].strip() if unit else ""
    return said if said != "1" and _FACTOR.fullmatch(said) else None


def run_of(heading: str) -> str | None:
    """The run in a heading of Weights & Biases, ``run - metric``."""
    run, dash, _ = heading.rpartition(" - ")
    return run if dash else None


def of_run(headings: Iterable[str], run: str | None) -> list[str]:
    """The columns of one run, and those of all runs."""
    return [name for name in headings if run is None or run_of(name) in (None, run)]


def measured(headings: Iterable[str]) -> list[str]:
    """The columns that are no range around another one."""
    known = list(headings)
    return [name for name in known if _RANGE.sub("", name) == name or _RANGE.sub("", name) not in known]


def step_column(headings: Iterable[str]) -> str | None:
    """The column of steps, if there is one; a unit may stand after its name."""
    known = list(headings)
    found = _best(known, _STEPS)
    if found is not None:
        return found
    bare = {name: _UNIT.sub("", name) for name in known}
    by_bare = _best(dict.fromkeys(bare.values()), _STEPS)
    fitting = [name for name, short in bare.items() if short == by_bare]
    if len(fitting) > 1:
        raise Ambiguous(fitting)
    return fitting[0] if fitting else None


def loss_column(headings: Iterable[str]) -> str | None:
    """The column of the training loss, if there is one; any loss, where it is the only one."""
    return _best(headings, _LOSSES, _ANY_LOSS.search)


def rate_column(headings: Iterable[str]) -> str | None:
    """The column of the learning rate, if there is one."""
    return _best(headings, _RATES, _ANY_RATE.search)


def run_column(headings: Iterable[str]) -> str | None:
    """The column that says which run a record is of, if there is one."""
    return _best(headings, (_RUNS,))


def named(headings: Iterable[str], wanted: str) -> str | None:
    """The column that is meant by a heading, or by the run or the metric that only one heading has."""
    known = list(headings)
    if wanted in known:
        return wanted
    ways: tuple[Callable[[str], object], ...] = (
        lambda name: name.lower() == wanted.lower(),
        lambda name: wanted in name.split(" - "),
        lambda name: plain(name) == plain(wanted),
    )
    for same in ways:
        found = [name for name in measured(known) if same(name)]
        if len(found) > 1:
            raise Ambiguous(found)
        if found:
            return found[0]
    return None


def _best(
    headings: Iterable[str],
    spellings: tuple[tuple[str, ...], ...],
    otherwise: Callable[[str], object] | None = None,
) -> str | None:
    known = measured(headings)
    tests: list[Callable[[str], object]] = [lambda name, words=words: name in words for words in spellings]  # type: ignore[misc]
    for test in [*tests, *([otherwise] if otherwise else [])]:
        found = [name for name in known if test(plain(name))]
        if len(found) > 1:
            raise Ambiguous(found)
        if found:
            return found[0]
    return None
