"""Networks' first steps: thresholds against plain NumPy, sweeps that are the same however run, regimes of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from figures.engine.elsewhere import elsewhere
from sgdynamics.simulate import trainer
from sgdynamics.simulate._thresholds import first_hit, last_before
from sgdynamics.simulate.trainer.phases import cells
from sgdynamics.theory.regimes import time_regimes

CELL = 2**0.1


def images(examples=256):
    x, labels = trainer.digits("per_image")
    chosen = np.random.default_rng(0).permutation(len(x))[:examples]
    return {"x": x[chosen], "y": trainer.one_hot(labels[chosen], 10), "loss": "mse"}


SMALL = {
    **images(32),
    "depth": [2, 3],
    "width": [6, 10],
    "c": CELL ** np.arange(1, 50, 6),
    "landscape_c": [1.0, 3.0, 6.0],
    "seeds": 2,
    "activation": "relu",
    "steps": 4,
}


# ------------------------------------------------------------------------------------------------------- plain NumPy


def plain_loss(weights, x, y, activation):
    values = [x]
    for weight in weights[:-1]:
        z = values[-1] @ weight
        values.append({"relu": np.maximum(z, 0), "tanh": np.tanh(z), "linear": z}[activation])
    return values, values[-1] @ weights[-1] - y


def plain_step(weights, rate, x, y, activation):
    values, residual = plain_loss(weights, x, y, activation)
    back, new = residual / len(x), list(weights)
    for layer in range(len(weights) - 1, -1, -1):
        new[layer] = weights[layer] - rate * values[layer].T @ back
        a = values[layer]
        slope = {"relu": a > 0, "tanh": 1 - a**2, "linear": np.ones_like(a)}[activation]
        back = (back @ weights[layer].T) * slope
    return new


def plain_sharpness(weights, x, y, activation, h=1e-5):
    """The whole Hessian, by central differences of the gradient."""
    sizes = [weight.size for weight in weights]

    def gradient(vector):
        parts = [p.reshape(w.shape) for p, w in zip(np.split(vector, np.cumsum(sizes)[:-1]), weights, strict=True)]
        moved = plain_step(parts, 1.0, x, y, activation)
        return np.concatenate([(p - m).ravel() for p, m in zip(parts, moved, strict=True)])

    here = np.concatenate([weight.ravel() for weight in weights])
    rows = [gradient(here + h * e) - gradient(here - h * e) for e in np.eye(here.size)]
    hessian = np.array(rows) / (2 * h)
    return np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1]


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
def test_a_cell_is_gradient_descent_in_plain_numpy(activation):
    x, y = SMALL["x"], SMALL["y"]
    options = {**SMALL, "depth": 3, "width": 5, "seeds": [3], "activation": activation, "landscape_c": [2.5, 4.0]}
    found = trainer.network_thresholds(**options).isel(seed=0)
    start = trainer.network([64, 5, 5, 10], activation, biases=False, seed=3).weights
    scale = plain_sharpness(start, x, y, activation)
    assert found.initial_sharpness.item() == pytest.approx(scale, rel=1e-5)
    scale = found.initial_sharpness.item()
    half = 0.5 / len(x)
    first = half * (plain_loss(start, x, y, activation)[1] ** 2).sum()
    assert found.initial_loss.item() == pytest.approx(first, rel=1e-12)
    if activation == "linear":  # where something rises
        assert found.peak_loss_ratio[3] > 1
        assert found.peak_sharpness_ratio[1] > 1
    for c in found.c.values[:4]:
        weights, peak = start, first
        for _ in range(4):
            weights = plain_step(weights, c / scale, x, y, activation)
            peak = max(peak, half * (plain_loss(weights, x, y, activation)[1] ** 2).sum())
        last = half * (plain_loss(weights, x, y, activation)[1] ** 2).sum()
        assert found.peak_loss_ratio.sel(c=c).item() == pytest.approx(peak / first, rel=1e-9)
        assert found.final_loss.sel(c=c).item() == pytest.approx(last, rel=1e-9)
    for c in found.landscape_c.values:
        weights, peak = start, scale
        for _ in range(4):
            weights = plain_step(weights, c / scale, x, y, activation)
            last = plain_sharpness(weights, x, y, activation)
            peak = max(peak, last)
        assert found.final_sharpness_ratio.sel(landscape_c=c).item() == pytest.approx(last / scale, rel=1e-3)
        assert found.peak_sharpness_ratio.sel(landscape_c=c).item() == pytest.approx(peak / scale, rel=1e-3)
        ways = [[a + s * (b - a) for a, b in zip(start, weights, strict=True)] for s in np.linspace(0.01, 1, 100)]
        top = max(half * (plain_loss(way, x, y, activation)[1] ** 2).sum() for way in ways)
        assert found.peak_segment_ratio.sel(landscape_c=c).item() == pytest.approx(top / first, rel=1e-9)


def test_grids_are_read_from_below():
    c = np.array([1.0, 2.0, 4.0, 8.0])
    for hit, value, side in (("0101", 2, 0), ("1000", 1, -1), ("0000", 8, 1)):
        found = first_hit(np.array([h == "1" for h in hit]), c)
        assert (found[0].item(), found[1].item()) == (value, side)
    # lost beyond, good below: the last good one before the first loss, also where a run survives again
    for lost, good, value, side in (
        ("0010", "1101", 2, 0),
        ("0000", "1111", 8, 1),
        ("1000", "0111", 1, -1),
        ("0010", "1000", 1, 0),
    ):
        found = last_before(np.array([h == "1" for h in lost]), np.array([h == "1" for h in good]), c)
        assert (found[0].item(), found[1].item()) == (value, side)


def test_a_dead_relu_network_is_bounded_but_does_not_learn():
    data = images(64)
    c = CELL ** np.arange(0, 90, 5)
    found = trainer.network_thresholds(**data, depth=2, width=32, c=c, seeds=3, activation="relu", steps=10)
    assert (found.c_bounded > 2 * found.c_max).any()
    dead = found.final_loss.isel(c=-1)
    assert np.allclose(dead.where(np.isfinite(dead), 0.5), 0.5, atol=0.05)  # the loss of zero outputs
    linear = trainer.network_thresholds(**data, depth=2, width=32, c=c, seeds=3, activation="linear", steps=10)
    assert (linear.c_max <= linear.c_bounded).all()
    assert np.isinf(linear.final_loss.isel(c=-1)).all()
    assert (linear.c_bounded_censored == 0).all()


def test_cross_entropy_takes_labels_and_targets_alike():
    data = images(48)
    options = {"depth": 2, "width": 8, "c": [1.0, 3.0, 30.0], "seeds": 2, "activation": "tanh", "steps": 5}
    targets = trainer.network_thresholds(data["x"], data["y"], loss="cross_entropy", **options)
    labels = trainer.network_thresholds(data["x"], data["y"].argmax(axis=1), loss="cross_entropy", **options)
    xr.testing.assert_identical(targets, labels)
    zero = trainer.network_thresholds(
        data["x"], data["y"], loss="cross_entropy", **options, start="zero_output"
    )  # fmt: skip
    assert np.allclose(zero.initial_loss, np.log(10))


# --------------------------------------------------------------------------------------------------- however it is run


def test_same_bits_for_any_processes_chunks_and_files(tmp_path):
    sound = SMALL | {"seeds": 7, "steps": 2}
    wanted = trainer.network_thresholds(**sound)
    assert wanted.c_loss.dims == ("depth", "width", "seed")
    xr.testing.assert_identical(trainer.network_thresholds(**sound, processes=2), wanted)
    for chunks in ({"depth": 1}, {"depth": 2}):
        depth = xr.DataArray([2, 3], {"depth": [2, 3]}, ["depth"]).chunk(chunks)
        lazy = trainer.network_thresholds(**sound | {"depth": depth, "directory": tmp_path})
        assert lazy.c_loss.chunks is not None
        assert lazy.c_sharp_mean.chunks is not None
        xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), wanted)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 28
    times = [path.stat().st_mtime_ns for path in kept]
    # a cell alone has the bits it has in company, and is not run again
    one = trainer.network_thresholds(**sound | {"depth": 3, "width": 6, "seeds": [1], "directory": tmp_path})
    xr.testing.assert_equal(
        one.peak_loss_ratio.isel(seed=0, drop=True),
        wanted.peak_loss_ratio.sel(depth=3, width=6, seed=1).drop_vars(("depth", "width", "seed")),
    )
    assert [path.stat().st_mtime_ns for path in kept] == times
    # other arguments are other cells
    trainer.network_thresholds(**sound | {"steps": 5, "depth": 2, "width": 6, "seeds": 1, "directory": tmp_path})
    assert len(list(tmp_path.iterdir())) == 29


def test_a_spoilt_file_is_made_again(tmp_path):
    options = SMALL | {"depth": 2, "width": 6, "seeds": 1, "directory": tmp_path}
    wanted = trainer.network_thresholds(**options)
    (path,) = tmp_path.iterdir()
    for content in (b"", path.read_bytes()[:200]):
        path.write_bytes(content)
        xr.testing.assert_identical(trainer.network_thresholds(**options), wanted)
    path.unlink()
    leftover = tmp_path / f".{path.name}.0123456789abcdef.unfinished"
    leftover.write_bytes(b"left by a run that was killed")
    xr.testing.assert_identical(trainer.network_thresholds(**options), wanted)
    assert list(tmp_path.iterdir()) == [path]
    # of one that was killed while another finished the same network
    leftover.write_bytes(b"left by a run that was killed")
    xr.testing.assert_identical(trainer.network_thresholds(**options), wanted)
    assert list(tmp_path.iterdir()) == [path]


def test_fingerprints_tell_every_argument_apart(monkeypatch):
    base = {"x": SMALL["x"], "targets": SMALL["y"], "activation": "relu", "loss": "mse", "start": "standard"}
    base |= {"c": np.array([1.0, 2.0]), "steps": 3, "landscape_c": None}
    from sgdynamics.simulate.trainer.phases.thresholds import FirstSteps

    prints = {FirstSteps(**base).fingerprint}
    for change in (
        {"x": SMALL["x"] + 1e-16 * (SMALL["x"] == 0) + 1e-12},
        {"targets": 1 - SMALL["y"]},
        {"activation": "tanh"},
        {"loss": "cross_entropy"},
        {"start": "zero_output"},
        {"c": np.array([1.0, 2.1])},
        {"steps": 4},
        {"landscape_c": np.array([1.0])},
    ):
        prints.add(FirstSteps(**base | change).fingerprint)
    monkeypatch.setattr(cells, "version", lambda library: "another")
    prints.add(FirstSteps(**base).fingerprint)
    assert len(prints) == 10


def test_progress_is_shown_with_the_time_left(capsys):
    trainer.network_thresholds(**SMALL | {"depth": 2, "seeds": 1, "progress": True})
    shown = capsys.readouterr().err
    assert "left" in shown
    assert "2 of 2" in shown


KILLED = """
    import sys
    import numpy as np
    from sgdynamics.simulate import trainer
    random = np.random.default_rng(0)
    x, y = random.standard_normal((64, 64)), random.standard_normal((64, 10))
    def sweep(directory):
        return trainer.network_thresholds(
            x, y, depth=[2, 3], width=[16, 24], c=2.0 ** np.arange(0, 4, 0.1), landscape_c=2.0 ** np.arange(0, 3, 0.2),
            seeds=4, activation="tanh", loss="mse", directory=directory, processes=2)
    if __name__ == "__main__":
        sweep(sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_ends_the_same(tmp_path):
    script = tmp_path / "killed_sweep.py"
    script.write_text(textwrap.dedent(KILLED))
    kept = tmp_path / "cells"
    kept.mkdir()
    run = subprocess.Popen([sys.executable, str(script), str(kept)], start_new_session=True)
    waited = time.monotonic() + 120
    while len(list(kept.glob("[!.]*.npz"))) < 3 and time.monotonic() < waited:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    workers_gone = time.monotonic() + 30
    while time.monotonic() < workers_gone:  # its workers end by themselves
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.killpg(run.pid, signal.SIGKILL)
        pytest.fail("workers outlived the run that started them")
    times = {path: path.stat().st_mtime_ns for path in kept.glob("[!.]*.npz")}
    assert 3 <= len(times) < 16
    sys.path.insert(0, str(tmp_path))
    try:
        from killed_sweep import sweep
    finally:
        sys.path.remove(str(tmp_path))
    again = sweep(kept)
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
    xr.testing.assert_identical(again, sweep(None))


@pytest.mark.slow
def test_a_killed_dask_worker_loses_nothing(tmp_path):
    from dask.distributed import Client, LocalCluster

    options = SMALL | {"depth": 2, "seeds": 8, "c": CELL ** np.arange(1, 50), "width": [32, 48]}
    width = xr.DataArray([32, 48], {"width": [32, 48]}, ["width"]).chunk(width=1)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        future = thread.submit(trainer.network_thresholds(**options | {"width": width, "directory": tmp_path}).compute)
        waited = time.monotonic() + 120
        while len(list(tmp_path.glob("[!.]*.npz"))) < 2 and time.monotonic() < waited:
            time.sleep(0.02)
        done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*.npz")}
        assert 2 <= len(done) < 16
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        found = future.result(timeout=300)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    xr.testing.assert_identical(found, trainer.network_thresholds(**options))


# ---------------------------------------------------------------------------------------------- what the paper measured


@pytest.mark.slow
def test_relu_digits_catapult_as_networks_trained_elsewhere():
    options = {**images(), "c": CELL ** np.arange(1, 60), "seeds": 5, "activation": "relu"}
    wide = trainer.network_thresholds(**options, depth=2, width=256)
    cell = CELL - 1
    known = elsewhere("network_thresholds").under("relu").values
    rises = known["2 x 256", "c_loss"]
    assert (abs(wide.c_loss - rises) <= cell * rises + 1e-9).all()
    narrow = trainer.network_thresholds(**options, depth=2, width=32)
    assert narrow.c_loss_mean > 3.5
    deep = trainer.network_thresholds(**options | {"c": CELL ** np.arange(10, 24)}, depth=5, width=256)
    rises = known["5 x 256", "c_loss"]
    assert deep.c_loss_mean.item() == pytest.approx(rises, abs=0.4 + cell * rises)
    assert wide.c_loss_mean < deep.c_loss_mean
    zero = trainer.network_thresholds(
        **options | {"c": CELL ** np.arange(8, 16)}, depth=5, width=128, start="zero_output"
    )  # fmt: skip
    assert (zero.c_loss > 2).all()
    assert (zero.c_loss <= 2 * CELL**2 + 1e-9).all()


@pytest.mark.slow
def test_linear_digits_diverge_as_networks_trained_elsewhere():
    options = {**images(), "seeds": 5, "activation": "linear"}
    shallow = trainer.network_thresholds(**options, depth=2, width=256, c=2 ** np.arange(0.5, 3, 0.05))
    cell = 2**0.05 - 1
    known = elsewhere("network_thresholds").under("linear", "2 x 256").values
    rises, bounded = known["c_loss"], known["c_bounded"]
    assert shallow.c_loss_mean.item() == pytest.approx(rises, abs=0.1 + cell * rises)
    assert shallow.c_bounded_mean.item() == pytest.approx(bounded, abs=0.2 + cell * bounded)
    deep = trainer.network_thresholds(**options, depth=5, width=256, c=2 ** np.arange(2, 3.6, 0.1))
    assert deep.c_bounded_mean > 5.5


# -------------------------------------------------------------------------------------------------- saturation, regimes


def test_saturated_sharpness_is_that_of_the_run():
    data = images(32)
    found = trainer.network_saturation(**data, depth=2, width=5, c=[0.5, 2.0], seeds=[1], activation="tanh", time=6.0)
    start = trainer.network([64, 5, 10], "tanh", biases=False, seed=1).weights
    scale = plain_sharpness(start, data["x"], data["y"], "tanh")
    for c, steps in ((0.5, 12), (2.0, 3)):
        weights = start
        for _ in range(steps):
            weights = plain_step(weights, c / found.initial_sharpness.item(), data["x"], data["y"], "tanh")
        wanted = plain_sharpness(weights, data["x"], data["y"], "tanh") / scale
        assert found.sharpness_ratio.sel(c=c).item() == pytest.approx(wanted, rel=1e-3)
    gone = trainer.network_saturation(
        **data, depth=2, width=64, c=[1.0, 40.0], seeds=1, activation="linear", time=400.0
    )  # fmt: skip
    assert np.isfinite(gone.sharpness_ratio.values[0, 0])
    assert gone.sharpness_ratio.values[0, 1] == np.inf


@settings(max_examples=30)
@given(st.floats(1.0, 3.0), st.floats(0.1, 2.0), st.floats(0.0, 0.05), st.floats(0.5, 2.0))
def test_the_bend_is_found_where_a_curve_begins_to_fall(knee, fall, slope, height):
    c = np.linspace(0, 4, 81)
    curve = height - slope * c - fall * np.maximum(c - knee, 0)
    curves = xr.DataArray(np.stack([curve, 2 * curve]), {"c": c}, ["network", "c"])
    found = trainer.critical_c(curves)
    assert np.all(abs(found - knee) <= 0.1)  # two points of the grid
    assert found.dims == ("network",)


def test_bad_curves_have_no_bend():
    c = np.linspace(0, 4, 21)
    curve = xr.DataArray(np.ones(21), {"c": c}, ["c"])
    for bad in (curve.where(curve.c < 3), curve.isel(c=slice(0, 5)), curve.assign_coords(c=c**2), curve.rename(c="d")):
        with pytest.raises(ValueError, match="ratio must be"):
            trainer.critical_c(bad)
    with pytest.raises(ValueError, match="window must be an odd"):
        trainer.critical_c(curve, window=6)


def a_run(gain, rate=0.1, every=10):
    step = every * np.arange(len(gain))
    return xr.Dataset({"sharpness": ("step", np.array(gain) / rate)}, {"step": step, "time": ("step", rate * step)})


LIFE = {
    0: np.geomspace(0.9, 0.52, 8),
    1: np.linspace(0.5, 0.54, 10),
    2: np.linspace(0.56, 1.79, 12),
    3: 2 + 0.15 * np.cos(np.arange(20)),
}


@settings(max_examples=60)
@given(st.lists(st.sampled_from([0, 1, 2, 3]), unique=True, min_size=1).map(sorted), st.floats(1e-3, 1e3))
def test_regimes_are_found_in_any_run_that_has_some_of_them(parts, rate):
    if 0 in parts or 2 in parts:  # a transient and sharpening are known by the plateau between them
        parts = sorted({*parts, 1})
    gain = np.concatenate([LIFE[part] for part in parts])
    wanted = np.concatenate([np.full(len(LIFE[part]), part) for part in parts])
    found = time_regimes(a_run(gain, rate))
    # the boundaries of the plateau belong to it within its factor
    transient = (gain > 0.55) & (wanted == 0)
    assert (found.regime.values[transient] == 0).all()
    assert (found.regime.values[wanted == 1] == 1).all()
    assert (found.regime.values[(wanted == 2)] == 2).all()
    assert (found.regime.values[(wanted == 3)] == 3).all()
    assert found.learning_rate.item() == pytest.approx(rate)
    for number, name in enumerate(("saturation", "sharpening", "edge"), 1):
        start = found[f"{name}_start"].item()
        inside = np.flatnonzero(found.regime.values == number)
        assert start == (10 * inside[0] if inside.size else -1)


@given(st.floats(2.3, 100), st.integers(1, 30), st.floats(0, 0.09), st.integers(1, 40), st.booleans())
def test_a_run_that_lands_at_the_edge_from_above_is_there(start, fall, swing, stay, dips):
    """Nothing before it is a plateau, however close to the edge; a dip on the way does not make it begin later."""
    above = np.geomspace(start, 2.25, fall)
    at_the_edge = 2 * (1 + swing * np.cos(np.arange(stay + 3)))
    if dips:
        at_the_edge[2::5] = 1.7
    labels = time_regimes(a_run(np.concatenate([above, at_the_edge]))).regime.values
    assert labels.tolist() == [0] * fall + [3] * at_the_edge.size


def test_a_run_that_stays_above_the_edge_or_falls_through_it_is_not_there():
    for gain in (np.geomspace(9, 2.3, 20), np.geomspace(5, 0.1, 40)):
        assert 3 not in time_regimes(a_run(gain)).regime.values


def test_a_catapult_that_begins_above_two_is_no_edge():
    gain = [2.6, 2.2, 1.2, 0.9, 0.9, 0.92, 1.3, 1.7, 1.95, 2.05, 1.98, 2.02]
    assert time_regimes(a_run(gain)).regime.values.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3]
    # a spike that touches the edge and falls back is none either
    spike = [1.0, 0.9, 1.9, 0.9, 0.9, 0.9]
    assert 3 not in time_regimes(a_run(spike)).regime.values


def test_the_ends_of_the_band_and_of_the_plateau_belong_to_them():
    lower = [1.0, 0.5, 0.625, 0.75, 1.5, 1.5, 1.5]  # 2 (1 - 1/4), and a plateau up to 0.5 (1 + 1/4)
    labels = time_regimes(a_run(lower, rate=1.0), band=0.25, rise=0.25).regime.values
    assert labels.tolist() == [0, 1, 1, 2, 3, 3, 3]
    upper = [3.0, 2.5, 2.5, 2.5]  # 2 (1 + 1/4)
    assert time_regimes(a_run(upper, rate=1.0), band=0.25).regime.values.tolist() == [0, 3, 3, 3]


def test_regimes_refuse_what_they_cannot_read():
    good = a_run([1.0, 0.5, 0.5, 2.0])
    for bad in (
        good.drop_vars("sharpness"),
        good.drop_vars("time"),
        good.isel(step=[0, 1]),
        good.assign(sharpness=good.sharpness * np.inf),
        good.assign_coords(time=("step", [0.0, 1.0, 3.0, 7.0])),
    ):
        with pytest.raises(ValueError, match="run must be"):
            time_regimes(bad)


@pytest.mark.slow
def test_a_small_start_on_digits_goes_through_all_four_regimes():
    from figures.uv.kalra2023_four_regimes import _run

    run = _run(0.5, 0.6, 1200, 40)
    assert 0 < run.saturation_start < run.sharpening_start < run.edge_start
    late = run.gain.where(run.step > 800).mean()
    assert late.item() == pytest.approx(2, rel=0.1)
