"""What a worker process does: make one figure after another, and leave at once when the run that started it is gone.

What draws is imported where it is used: the run itself imports this module, too, and draws nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import xarray as xr
from threadpoolctl import threadpool_limits

from figures.engine.check import Check
from figures.engine.files import remove, replacing, share_as_worker, write_text
from figures.engine.randomness import mix_into_all_seeds

_kept_open: list[object] = []


@dataclass(frozen=True)
class Order:
    """One figure to make, early if it is long; those of one name of ``companions`` share runs that a process keeps."""

    module: str
    name: str
    claim: str
    fast: bool
    directory: Path
    fingerprint: str
    companions: str = ""
    long: bool = False


def begin(directory: Path, lifeline: Connection, threads: int, seed: int = 0) -> None:
    """Prepare a worker process.

    Parameters
    ----------
    directory : Path
        Where the figures go.
    lifeline : Connection
        The reading end of a pipe whose only writing end the run holds. Nothing is ever sent; it closes when the run
        stops, is interrupted or is killed, and the worker ends with it.
    threads : int
        How many threads sgdynamics may use here.
    seed : int
        A number that is mixed into all seeds; 0 leaves them as they are.
    """
    # The share of the directory comes first: whoever then finds the run alive is waited for by the next run, and
    # whoever finds it gone leaves before anything is written.
    _kept_open.append(share_as_worker(directory))
    if lifeline.poll(0):
        os._exit(1)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    os.environ.setdefault("SGDYNAMICS_THREADS", str(threads))
    import matplotlib as mpl

    mpl.use("Agg")
    mix_into_all_seeds(seed)


def _end_with(lifeline: Connection) -> None:
    lifeline.poll(None)
    os._exit(1)


def make(order: Order) -> str | None:
    """Make one figure: its data, its pictures and, last, the manifest that says it is finished.

    Returns
    -------
    str or None
        The traceback, if it raised.
    """
    try:
        _make(order)
    except Exception:
        return traceback.format_exc()
    return None


def _make(order: Order) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    from figures.engine.style import style

    stem = order.directory / order.name
    # The old manifest goes before anything it vouches for is replaced.
    remove(stem.with_suffix(".json"))
    module = importlib.import_module(order.module)
    started = time.perf_counter()

    # After the import, so that the libraries it brought are known. One process a figure keeps all processors busy.
    with threadpool_limits(limits=1):
        data = module.compute(order.fast)
        if not isinstance(data, xr.Dataset):
            raise TypeError(f"compute returned {type(data).__name__}, not an xarray.Dataset")
        data.attrs.setdefault("title", order.claim)
        data.attrs.setdefault("settings", "fast" if order.fast else "full")
        with replacing(stem.with_suffix(".nc")) as unfinished:
            data.to_netcdf(unfinished, engine="h5netcdf")
        data = xr.load_dataset(stem.with_suffix(".nc"), engine="h5netcdf")

        with style():
            picture = module.draw(data)
            if not isinstance(picture, Figure):
                raise TypeError(f"draw returned {type(picture).__name__}, not a matplotlib Figure")
            for kind, metadata in (("png", {}), ("svg", {"Date": None})):
                with replacing(stem.with_suffix(f".{kind}")) as unfinished:
                    picture.savefig(unfinished, format=kind, metadata=metadata)
                # Laid out once: both show the same panels in the same places.
                picture.set_layout_engine("none")
            plt.close("all")

        checks = [replace(check, figure=order.name) for check in module.checks(data)]
        if not checks or not all(isinstance(check, Check) for check in checks):
            raise TypeError("checks gave no checks: a figure has at least one number beside it")

    manifest = {
        "figure": order.name,
        "claim": order.claim,
        "fast": order.fast,
        "fingerprint": order.fingerprint,
        "seconds": round(time.perf_counter() - started, 2),
        "checks": [check.to_dict() for check in checks],
    }
    write_text(stem.with_suffix(".json"), json.dumps(manifest, indent=1, allow_nan=False) + "\n")
