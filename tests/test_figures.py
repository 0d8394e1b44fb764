"""Figures: verdicts follow from the numbers, a killed run ends the same, the report says everything."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import importlib
import io
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from figures.__main__ import main
from figures.engine import locks, runner
from figures.engine.catalogue import catalogue
from figures.engine.check import Check, Claim, law, perturbed
from figures.engine.colors import PALETTE
from figures.engine.files import DirectoryInUse, replacing, share_as_worker, sole_use
from figures.engine.findings import FINDINGS, Finding
from figures.engine.labels import axis, described
from figures.engine.report import Entry, write_report
from figures.engine.runner import _is_current, _longest_first, _next
from figures.engine.style import (
    DOUBLE,
    SINGLE,
    compared,
    measured_points,
    panels,
    style,
    theory_line,
    theory_strokes,
    ticks,
)
from figures.engine.worker import Order

CHECKOUT = Path(__file__).parents[1]
FIGURES = catalogue("figures")
ABOUT = {"claim": "one equals one", "source": "derived", "status": "exact"}


# --------------------------------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("predicted", "measured", "limits", "verdict"),
    [
        (1.0, 1.0, {}, "holds"),
        (1.0, 1.0 + 1e-15, {}, "fails"),
        (2.0, 2.0 + 1e-9, {"tolerance": 1e-9}, "holds"),
        (2.0, 2.0 + 3e-9, {"tolerance": 1e-9}, "fails"),
        (0.0, 1e-13, {"absolute": 1e-12}, "holds"),
        (0.0, 1e-13, {"tolerance": 1e-12}, "fails"),
        (0.0, 1e-13, {"tolerance": 1e-12, "scale": 1.0}, "holds"),
        (math.inf, math.inf, {"tolerance": 0.1}, "holds"),
        (math.inf, 1e300, {"tolerance": 0.1}, "fails"),
        (1.0, math.nan, {"tolerance": 0.1}, "fails"),
        (1.0, math.inf, {"tolerance": 0.1}, "fails"),
    ],
)
def test_close_holds_within_its_tolerance(predicted, measured, limits, verdict):
    assert Claim(**ABOUT).close(predicted, measured, **limits).verdict == verdict


@pytest.mark.parametrize(
    ("kind", "measured", "standard_error", "verdict", "word"),
    [
        ("variance", 1.0, 0.0049, "holds", ""),
        ("variance", 1.0, 0.0051, "fails", "too weak"),
        ("mean", 1.0, 0.0024, "holds", ""),
        ("mean", 1.0, 0.0026, "fails", "too weak"),
        ("mean", 1.00399, 0.001, "holds", ""),
        ("mean", 1.00401, 0.001, "fails", ""),
        ("mean", math.nan, 0.001, "fails", ""),
    ],
)
def test_statistical_holds_within_four_standard_errors_that_are_small_enough(
    kind, measured, standard_error, verdict, word
):
    check = Claim(**ABOUT).statistical(1.0, measured, standard_error, kind)
    assert check.verdict == verdict
    assert word in check.note
    assert check.detectable == 4 * standard_error


def test_a_weaker_statistical_check_needs_a_reason():
    numbers = {"predicted": 1.0, "measured": 1.1, "standard_error": 0.05, "kind": "mean"}
    check = Claim(**ABOUT).statistical(**numbers, weakest=0.25, reason="twenty networks are all we can train")
    assert check.verdict == "holds"
    assert "twenty networks" in check.note
    with pytest.raises(ValueError, match="reason"):
        Claim(**ABOUT).statistical(**numbers, weakest=0.25)
    with pytest.raises(ValueError, match="reason"):
        Claim(**ABOUT).statistical(**numbers, reason="none")


def test_a_mean_predicted_to_be_zero_needs_a_scale():
    numbers = {"predicted": 0.0, "measured": 0.001, "standard_error": 0.001, "kind": "mean"}
    assert Claim(**ABOUT).statistical(**numbers).verdict == "fails"
    assert Claim(**ABOUT).statistical(**numbers, scale=1.0).verdict == "holds"


@pytest.mark.parametrize(
    ("make", "limits", "holding", "failing"),
    [
        (Claim.below, {}, [0.5, 1.0, -math.inf], [1.1, math.nan, math.inf]),
        (Claim.below, {"tolerance": 0.2}, [1.19], [1.21]),
        (Claim.below, {"standard_error": 0.1}, [1.39], [1.41]),
        (Claim.above, {}, [1.5, 1.0, math.inf], [0.9, math.nan]),
        (Claim.above, {"standard_error": 0.1}, [0.61], [0.59]),
    ],
)
def test_bounds(make, limits, holding, failing):
    for measured in holding:
        assert make(Claim(**ABOUT), 1.0, measured, **limits).verdict == "holds"
    for measured in failing:
        assert make(Claim(**ABOUT), 1.0, measured, **limits).verdict == "fails"


def test_a_sign_is_a_sign_beyond_the_noise():
    assert Claim(**ABOUT).negative(-1e-9).verdict == "holds"
    assert Claim(**ABOUT).negative(1e-9).verdict == "fails"
    assert Claim(**ABOUT).positive(0.0).verdict == "fails"
    assert Claim(**ABOUT).positive(0.41, 0.1).verdict == "holds"
    assert Claim(**ABOUT).positive(0.39, 0.1).verdict == "fails"


def test_an_array_reports_its_worst_entry_and_where_it_is():
    gain = xr.DataArray([0.1, 0.5], dims="gain", coords={"gain": [0.1, 0.5]})
    decay = xr.DataArray([0.0, 0.9, 0.99], dims="decay", coords={"decay": [0.0, 0.9, 0.99]})
    measured = (decay + gain).copy()  # the dims come in the other order
    measured.loc[{"gain": 0.5, "decay": 0.9}] += 0.01
    check = Claim(**ABOUT).close(gain + decay, measured, tolerance=1e-3)
    assert (check.predicted, check.measured, check.verdict) == (1.4, pytest.approx(1.41), "fails")
    assert check.note == "worst of 6, at gain=0.5, decay=0.9"
    assert Claim(**ABOUT).close(gain + decay, measured, tolerance=1e-2).verdict == "holds"


def test_an_array_is_as_weak_as_its_weakest_entry():
    check = Claim(**ABOUT).statistical([1, 1], [1.001, 1], [0.001, 0.01], "variance")
    assert (check.measured, check.detectable, check.verdict) == (1.001, 0.04, "fails")


def test_arrays_with_and_without_labels_are_not_mixed():
    labelled = xr.DataArray([1.0, 2.0], dims="gain")
    with pytest.raises(ValueError, match="measured has no dimension names"):
        Claim(**ABOUT).close(labelled, np.ones(2))
    with pytest.raises(ValueError, match="exact"):
        Claim(**ABOUT).close(labelled.assign_coords(gain=[1, 2]), labelled.assign_coords(gain=[1, 3]))


@pytest.mark.parametrize(
    ("wrong", "predicted"),
    [
        ({"status": "obvious"}, 1.0),
        ({"status": None}, 1.0),
        ({"claim": " "}, 1.0),
        ({"source": ""}, 1.0),
        ({"source": None}, 1.0),
        ({}, math.nan),
        ({}, []),
    ],
)
def test_a_check_that_says_too_little_is_refused(wrong, predicted):
    with pytest.raises(ValueError):  # noqa: PT011 - each says its own
        Claim(**(ABOUT | wrong)).close(predicted, 1.0)


def test_a_law_says_what_it_is_and_where_it_comes_from():
    stamped = xr.DataArray(1.0, attrs={"status": "bound", "source": "theory.here"})
    check = law("as the law says").below(stamped, 0.5)
    assert (check.status, check.source) == ("bound", "theory.here")
    with pytest.raises(ValueError, match="neither the claim nor its prediction says status and source: as nobody says"):
        law("as nobody says").below(1.0, 0.5)


def test_what_a_figure_holds_of_one_quantity_is_compared_by_its_name():
    data = xr.Dataset({"risk_predicted": 1.0, "risk_measured": 1.002, "risk_standard_error": 0.001})
    assert Claim(**ABOUT).agreement(data, "risk", "mean") == Claim(**ABOUT).statistical(1.0, 1.002, 0.001, "mean")


@pytest.mark.parametrize("standard_error", [0.0, -1.0, math.nan, math.inf])
def test_a_standard_error_is_positive_and_finite(standard_error):
    with pytest.raises(ValueError, match="positive and finite"):
        Claim(**ABOUT).statistical(1.0, 1.0, standard_error, "mean")


def test_every_finding_is_said_so_that_it_can_be_judged():
    assert {finding.verdict for finding in FINDINGS.values()} == {"not reproduced", "not comparable"}
    for claim, finding in FINDINGS.items():
        assert finding.starts >= 1, claim
        assert len(finding.experiment) > 40, claim
        assert finding.sentence.endswith("."), claim
        assert len(finding.sentence) > 60, claim
        if finding.verdict == "not reproduced":
            assert (finding.effect is None) != (finding.power is None), claim


LISTED = ABOUT | {"claim": "networks do this", "status": "heuristic"}


def _find(monkeypatch, verdict, **power):
    finding = Finding(verdict=verdict, experiment="ours", starts=20, sentence="They do not.", **power)
    monkeypatch.setitem(FINDINGS, "networks do this", finding)


def test_not_reproduced_needs_an_experiment_that_would_have_seen_the_effect(monkeypatch):
    absent, error = Claim(**LISTED).positive, 0.1
    assert absent(0.1, error).verdict == "fails"
    _find(monkeypatch, "not reproduced", effect=0.5)
    close, wide = absent(0.1, error), absent(0.1, 1.1 * error)
    assert close.power == pytest.approx(0.8413, abs=1e-3)  # one standard error beyond the four that are asked for
    assert close.verdict == "not reproduced"
    assert wide.power == pytest.approx(0.7074, abs=1e-3)
    assert wide.verdict == "fails"
    assert absent(-0.1).verdict == "fails"  # no error, no power
    assert absent(0.6, error).verdict == "holds"
    _find(monkeypatch, "not reproduced", power=0.9)
    assert absent(-0.1).verdict == "not reproduced"


def test_findings_are_only_of_claims_about_networks(monkeypatch):
    claim = Claim(**LISTED)
    _find(monkeypatch, "not comparable")
    assert claim.close(1.0, 2.0, tolerance=0.1).verdict == "not comparable"
    assert claim.close(1.0, 2.0, tolerance=0.1).power is None
    assert claim.close(1.0, 1.0, tolerance=0.1).verdict == "holds"
    assert claim.close(1.0, math.nan, tolerance=0.1).verdict == "fails"
    weak = Claim(**LISTED).statistical(1.0, 1.0, 1.0, "mean")
    assert weak.verdict == "fails"
    for status in ("exact", "bound", "asymptotic"):
        with pytest.raises(ValueError, match="holds or fails"):
            Claim(**(LISTED | {"status": status})).close(1.0, 2.0, tolerance=0.1)


def test_the_report_says_what_was_found(monkeypatch, tmp_path):
    _find(monkeypatch, "not reproduced", effect=0.5)
    absent = Claim(**LISTED).positive(0.1, 0.1)
    (tmp_path / "one.png").write_bytes(b"")
    write_report(tmp_path, [Entry("one", "One.", checks=(absent,))], fast=False)
    text = _page(tmp_path).text
    assert "0 of 1 checks hold, 1 not reproduced." in text
    assert (
        "They do not. Experiment: ours, 20 starts. An effect of 0.5 would have been seen with probability 0.84." in text
    )
    _find(monkeypatch, "not comparable")
    write_report(tmp_path, [Entry("one", "One.", checks=(absent,))], fast=False)
    assert "1 not comparable" in _page(tmp_path).text


def test_a_verdict_cannot_be_typed_in():
    written = Claim(**ABOUT).close(1.0, 2.0).to_dict()
    assert Check.from_dict(written).to_dict() == written
    for verdict in ("holds", "not reproduced", "not comparable"):
        with pytest.raises(ValueError, match="the verdict is 'fails'"):
            Check.from_dict(written | {"verdict": verdict})


def test_numbers_that_json_lacks_are_words():
    check = Claim(**ABOUT).close(math.inf, -math.inf)
    written = json.loads(json.dumps(check.to_dict(), allow_nan=False))
    assert (written["predicted"], written["measured"]) == ("inf", "-inf")
    assert Check.from_dict(written) == check


# ---------------------------------------------------------------------------------------------------------- toy figures


TOY = '''"""{claim} This sentence is not the claim."""

import time

import numpy as np
import xarray as xr

from figures.engine.check import exact
from figures.engine.style import measured_points, panels, theory_line


def compute(fast):
    time.sleep({seconds})
    scale = np.linspace(1, 2, 3)
    sample = scale * np.random.default_rng({seed}).standard_normal((100_000 if fast else 200_000, 3))
    (replicas, _), variance = sample.shape, sample.var(axis=0)
    return xr.Dataset(
        dict(variance=("scale", variance), standard_error=("scale", variance * np.sqrt(2 / replicas))),
        coords=dict(scale=scale),
    )


def draw(data):
    figure, axes = panels()
    line = theory_line(axes, data.scale, data.scale**2, label="theory")
    measured_points(axes, data.scale, data.variance, data.standard_error, color=line.get_color(), label="measured")
    axes.set(title="variance < & >", xlabel="scale")
    axes.legend()
    return figure


def checks(data):
    yield exact("variance is the scale squared, <not> its cube & more").statistical(
        {factor} * data.scale**2, data.variance, data.standard_error, "variance"
    )
    yield exact("no variance is infinite").close(np.inf, np.inf)
    yield exact("variances grow").positive(data.variance.diff("scale"))
'''


@dataclass
class Toys:
    """A package of toy figures beside a toy sgdynamics, and the command run on it, in a process of its own or here."""

    home: Path

    def __post_init__(self) -> None:
        for package in ("toys", "sgdynamics"):
            (self.home / package).mkdir()
            (self.home / package / "__init__.py").touch()

    @property
    def package(self) -> Path:
        return self.home / "toys"

    def add(
        self, name: str, claim: str = "Toys work.", seconds: float = 0.0, seed: int = 1, factor: float = 1.0
    ) -> None:
        source = TOY.format(claim=claim, seconds=seconds, seed=seed, factor=factor)
        (self.package / f"{name}.py").write_text(source)

    def start(self, out: Path, *arguments: str) -> subprocess.Popen[str]:
        # What runs in the background of a shell is deaf to interrupts, and so is all that it starts.
        heard = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = f"{heard}; from figures.__main__ import main; sys.exit(main(package='toys'))"
        return _started([sys.executable, "-c", command, "--out", str(out), *arguments], self.home)

    def run(self, out: Path, *arguments: str) -> tuple[int, str]:
        process = self.start(out, *arguments)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def run_here(self, out: Path, *arguments: str) -> tuple[int, str]:
        """Only the workers are processes, and they begin with what draws: where one looks at what is said and left."""
        said, prepared = io.StringIO(), multiprocessing.get_context("forkserver")
        prepared.set_forkserver_preload(
            ["distributed", "figures.engine.style", "figures.engine.worker", "h5netcdf.legacyapi"]
        )
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            patch.setattr(runner.multiprocessing, "get_context", lambda method: prepared)
            patch.setattr(sys, "path", [*sys.path, str(self.home)])
            try:
                code = main(["--out", str(out), *arguments], package="toys")
            except SystemExit as left:
                code = int(left.code or 0)
        return code, said.getvalue()


def _started(command: list[str], *places: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(map(str, places))
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([path, str(CHECKOUT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _contents(out: Path, *kinds: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix in kinds}


def _wait_until(happened: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _no_worker_is_left(out: Path) -> bool:
    with open(out / ".workers", "a") as workers:
        try:
            fcntl.flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Page(HTMLParser):
    """Checks that every element is closed in order, and collects what a test asks for."""

    VOID = frozenset({"input", "meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _page(out: Path) -> Page:
    page = Page()
    page.feed((out / "report.html").read_text())
    page.close()
    assert not page.open
    return page


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    toys = Toys(tmp_path_factory.mktemp("toys"))
    toys.add("first", "Toys work, mostly.", seconds=0.1, seed=1)
    toys.add("second", "Toys <work> & play.", seconds=0.3, seed=2)
    toys.add("third", seconds=0.2, seed=3)
    return toys


@pytest.fixture(scope="module")
def finished(toys: Toys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, float, str]]:
    """The output of an uninterrupted run, how long it took and what it said."""
    out = tmp_path_factory.mktemp("finished") / "deep" / "out"
    started = time.monotonic()
    code, output = toys.run(out, "--jobs", "2")
    assert code == 0, output
    return out, time.monotonic() - started, output


# ---------------------------------------------------------------------------------------------------------------- a run


def test_a_run_saves_data_pictures_and_numbers(finished):
    out, _, output = finished
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    each = {f"{name}.{kind}" for name in ("first", "second", "third") for kind in ("nc", "png", "svg", "json")}
    assert names == each | {"report.html", "report.json"}
    assert "9 of 9 checks hold" in output
    assert {line.split()[1] for line in output.splitlines() if line.startswith("made")} == {"first", "second", "third"}
    with xr.open_dataset(out / "first.nc", engine="h5netcdf") as data:
        assert data.attrs == {"title": "Toys work, mostly.", "settings": "full"}
        assert data.variance.dtype == float


def test_the_list_of_checks_is_plain_json(finished):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    checks = json.loads((finished[0] / "report.json").read_text(), parse_constant=refuse)
    assert [check["figure"] for check in checks] == ["first"] * 3 + ["second"] * 3 + ["third"] * 3
    assert {check["verdict"] for check in checks} == {"holds"}
    required = {"figure", "claim", "source", "status", "predicted", "measured", "tolerance", "standard_error"}
    assert all(set(check) >= required | {"detectable", "verdict", "note"} for check in checks)
    assert checks[1]["predicted"] == "inf"


def test_the_report_is_one_page_with_every_picture_and_number(finished):
    page = _page(finished[0])
    pictures = page.all("img")
    assert [picture["alt"] for picture in pictures] == ["Toys work, mostly.", "Toys <work> & play.", "Toys work."]
    assert all((picture["src"] or "").startswith("data:image/png;base64,") for picture in pictures)
    assert page.all("html")[0] == {"lang": "en"}
    assert not any(script.get("src") for script in page.all("script"))
    assert not page.all("link")
    assert "9 of 9 checks hold" in page.text
    assert page.text.count("variance is the scale squared, <not> its cube & more") == 3
    local = [attributes["href"] or "" for attributes in page.all("a")]
    anchors = {attributes.get("id") for _, attributes in page.elements}
    for href in local:
        assert href[1:] in anchors if href.startswith("#") else (finished[0] / href).exists()


def test_every_statistical_check_sees_twice_its_detectable_error(finished):
    checks = [Check.from_dict(values) for values in json.loads((finished[0] / "report.json").read_text())]
    statistical = [check for check in checks if check.comparison == "close" and check.standard_error is not None]
    assert len(statistical) == 3
    for check in statistical:
        assert check.verdict == "holds"
        for factor in (2.0, -2.0):
            wrong = perturbed(check, factor)
            assert wrong.verdict == "fails"
            assert wrong.predicted == pytest.approx(check.predicted * (1 + factor * check.detectable))


def test_perturbing_moves_bounds_against_the_measurement():
    for bound, measured in ((Claim.below, 0.5), (Claim.above, 1.5)):
        check = bound(Claim(**ABOUT), 1.0, measured)
        assert check.detectable == 0.5
        assert perturbed(check, 0.9).verdict == "holds"
        assert perturbed(check).verdict == "fails"
    with pytest.raises(ValueError, match="sign"):
        perturbed(Claim(**ABOUT).positive(1.0))


def test_a_finished_figure_is_kept_until_its_source_or_the_flag_changes(tmp_path):
    toys = Toys(tmp_path)
    toys.add("first", seed=1)
    toys.add("second", seed=2)
    out = tmp_path / "out"

    def made(*arguments: str) -> set[str]:
        code, output = toys.run_here(out, *arguments, "--jobs", "1")
        assert code == 0, output
        made = {line.split()[1] for line in output.splitlines() if line.startswith("made")}
        kept = {line.split()[1] for line in output.splitlines() if line.startswith("kept")}
        assert made | kept == {"first", "second"}
        assert not made & kept
        return made

    assert made() == {"first", "second"}
    before = _contents(out, ".nc", ".png", ".svg", ".json", ".html")
    assert made() == set()
    assert _contents(out, ".nc", ".png", ".svg", ".json", ".html") == before
    toys.add("second", seed=6)
    assert made() == {"second"}
    assert made("--fast") == {"first", "second"}
    with xr.open_dataset(out / "first.nc", engine="h5netcdf") as data:
        assert data.attrs["settings"] == "fast"

    # The others are neither made nor shown once they are no longer current.
    toys.add("second", seed=7)
    code, output = toys.run_here(out, "--fast", "--only", "first")
    assert code == 0
    assert "kept  first" in output
    assert "3 of 3 checks hold" in output
    page = _page(out)
    assert len(page.all("img")) == 1
    assert "Not made, or no longer current: second." in page.text


def test_a_figure_is_current_only_with_all_its_files(finished, tmp_path):
    out, _, _ = finished
    manifest = json.loads((out / "first.json").read_text())
    order = Order("toys", "first", "", False, tmp_path, manifest["fingerprint"])
    files = [out / f"first.{kind}" for kind in ("json", "nc", "png", "svg")]
    for missing in files:
        for path in files:
            shutil.copy(path, tmp_path)
        assert _is_current(order)
        (tmp_path / missing.name).unlink()
        assert not _is_current(order)
    shutil.copy(files[-1], tmp_path)
    (tmp_path / "first.json").write_text("{")
    assert not _is_current(order)


def test_the_fingerprint_knows_helpers_versions_and_the_library(toys, tmp_path, monkeypatch):
    from figures.engine import fingerprint

    package = tmp_path / "fingerprinted"
    shutil.copytree(toys.package, package, ignore=shutil.ignore_patterns("__pycache__"))
    library = tmp_path / "library"
    library.mkdir()
    (library / "module.py").write_text("one = 1\n")
    monkeypatch.setattr(fingerprint, "package_directory", lambda name: {"sgdynamics": library}.get(name, package))
    seen = [fingerprint.shared_digest("fingerprinted")]
    assert fingerprint.shared_digest("fingerprinted") == seen[0]
    for path in (
        library / "module.py",
        library / "references.bib",
        package / "_helper.py",
        package / "look.mplstyle",
        package / "a.toml",
    ):
        path.write_text("another\n")
        seen.append(fingerprint.shared_digest("fingerprinted"))
    monkeypatch.setattr(fingerprint, "versions", lambda: {"numpy": "another"})
    seen.append(fingerprint.shared_digest("fingerprinted"))
    assert len(set(seen)) == len(seen)
    (package / "first.py").write_text("another\n")
    (package / "engine").mkdir()
    (package / "engine" / "report.py").write_text("how it is shown\n")
    assert fingerprint.shared_digest("fingerprinted") == seen[-1]


def test_figures_are_found_in_their_rows_by_their_names(tmp_path):
    toys = Toys(tmp_path)
    for row in ("uv", "quadratic", "engine"):
        (toys.package / row).mkdir()
        (toys.package / row / "__init__.py").touch()
    toys.add("quadratic/zebra", "Rows work.")
    toys.add("uv/ape")
    toys.add("engine/check")
    (toys.package / "uv" / "_starts.py").touch()
    code, output = toys.run_here(tmp_path / "out", "--list")
    assert code == 0
    assert output.split("\n")[:3:2] == ["ape", "zebra"]
    code, output = toys.run_here(tmp_path / "out", "--jobs", "1", "--only", "zebra")
    assert code == 0, output
    assert (tmp_path / "out" / "zebra.nc").exists()
    toys.add("uv/zebra")
    with pytest.raises(ValueError, match="two figures are called zebra"):
        toys.run_here(tmp_path / "out", "--list")


def test_a_wrong_figure_fails_and_a_broken_one_stops_no_other(tmp_path):
    toys = Toys(tmp_path)
    toys.add("good")
    toys.add("wrong", factor=1.05)
    (toys.package / "broken.py").write_text('"""Broken."""\n\n\ndef compute(fast):\n    raise OSError("a < b")\n')
    (toys.package / "unreadable.py").write_text("def compute(:\n")
    (toys.package / "dying.py").write_text('"""Dying."""\nimport os\n\n\ndef compute(fast):\n    os._exit(3)\n')
    out = tmp_path / "out"
    code, output = toys.run_here(out, "--jobs", "1", "--only", "good", "wrong", "broken", "unreadable")
    assert code == 1
    assert 'raise OSError("a < b")' in output
    assert "error unreadable: SyntaxError" in output
    assert "5 of 6 checks hold, 1 fails" in output
    assert "fails: wrong: variance is the scale squared" in output
    page = _page(out)
    assert 'raise OSError("a < b")' in page.text
    assert "Not made, or no longer current: dying." in page.text
    verdicts = {(check["figure"], check["verdict"]) for check in json.loads((out / "report.json").read_text())}
    assert ("wrong", "fails") in verdicts
    assert ("good", "fails") not in verdicts
    assert not (out / "broken.json").exists()

    code, output = toys.run_here(out, "--jobs", "1", "--only", "good")
    assert code == 1, "the report still has a failing check"
    code, output = toys.run_here(out, "--jobs", "1", "--only", "dying")
    assert code == 1
    assert "error dying" in output


def test_names_are_listed_and_wrong_ones_answered_with_the_list(toys, tmp_path):
    code, output = toys.run_here(tmp_path / "out", "--list")
    assert code == 0
    assert output.split("\n")[:4] == ["first", "    Toys work, mostly.", "second", "    Toys <work> & play."]
    code, output = toys.run_here(tmp_path / "out", "--only", "frist", "first")
    assert code == 2
    assert "no figure is called frist; the figures are first, second, third" in output
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_share_a_directory(toys, tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        lock.write("4321")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, output = toys.run_here(tmp_path)
    assert code == 2
    assert "another run (process 4321) is writing into" in output
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


HOLDER = """
import sys
from pathlib import Path
from figures.engine import locks, runner
if sys.argv[2] == "without":
    locks.fcntl = None
held = locks.lock(Path(sys.argv[1]), shared=sys.argv[3] == "shared")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("system", ["with", "without"])
def test_a_lock_is_held_until_its_holder_dies_with_fcntl_and_without(system, tmp_path, monkeypatch):
    if system == "without":
        monkeypatch.setattr(locks, "fcntl", None)
    path = tmp_path / ".lock"

    @contextlib.contextmanager
    def holder(kind: str) -> Iterator[None]:
        command = [sys.executable, "-c", HOLDER, str(path), system, kind]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield
        process.kill()
        process.communicate(timeout=30)

    with holder("alone"):
        for shared in (False, True):
            with pytest.raises(BlockingIOError):
                locks.lock(path, shared=shared, wait=False)
    with holder("shared"), holder("shared"):
        locks.lock(path, shared=True, wait=False).close()
        with pytest.raises(BlockingIOError):
            locks.lock(path, wait=False)
    locks.lock(path, wait=False).close()  # all of them were killed


def test_one_run_at_a_time_where_there_is_no_fcntl(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    (tmp_path / ".first.nc.unfinished").touch()
    with sole_use(tmp_path):
        assert not (tmp_path / ".first.nc.unfinished").exists()
        first, second = share_as_worker(tmp_path), share_as_worker(tmp_path)
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"), sole_use(tmp_path):
            pass
        first.close()
        second.close()
    with sole_use(tmp_path):
        pass


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with contextlib.suppress(RuntimeError), replacing(path) as unfinished:
        unfinished.write_text("ne")
        assert path.read_text() == "old"
        raise RuntimeError
    assert [found.name for found in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"
    with replacing(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"


# ---------------------------------------------------------------------------------------------------------------- kills


def _kill_at_random_moments(start: Callable[[], subprocess.Popen[str]], out: Path, seconds: float, kills: int) -> None:
    """Start, kill, start again; a run that ends before it is killed does not count and leaves nothing to the next."""
    moments = random.Random(20230509)
    while kills:
        process, started = start(), time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.05, 0.9) * seconds)
            seconds = time.monotonic() - started  # it was quicker than was thought
        process.kill()
        # Not to the end of the output, which a worker may hold open for a moment longer.
        if process.wait() == -signal.SIGKILL:
            kills -= 1
            _assert_whole(out)
        else:
            shutil.rmtree(out)
        assert process.stdout is not None
        process.stdout.close()


def _assert_whole(out: Path) -> None:
    """Whatever carries a final name can be read, at any moment."""
    for path in out.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            json.loads(path.read_text())
    for path in out.glob("*.nc"):
        xr.load_dataset(path, engine="h5netcdf")
    for path in out.glob("*.png"):
        plt.imread(path)


def _assert_same(out: Path, reference: Path) -> None:
    names = {path.name for path in reference.glob("*.nc")}
    assert names
    assert {path.name for path in out.glob("*.nc")} == names
    for name in names:
        expected = xr.load_dataset(reference / name, engine="h5netcdf")
        assert xr.load_dataset(out / name, engine="h5netcdf").identical(expected)
    assert _contents(out, ".png", ".svg") == _contents(reference, ".png", ".svg")
    assert (out / "report.json").read_bytes() == (reference / "report.json").read_bytes()
    assert not list(out.glob("*.unfinished"))


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_data(toys, finished, tmp_path, kills):
    reference, seconds, _ = finished
    out = tmp_path / "out"
    _kill_at_random_moments(lambda: toys.start(out, "--jobs", "2"), out, seconds, kills)
    out.mkdir(exist_ok=True)  # it was killed before it came to that
    (out / ".third.nc.unfinished").write_text("half")
    code, output = toys.run(out, "--jobs", "2")
    assert code == 0, output
    _assert_same(out, reference)


def test_interrupted_it_stops_its_workers_and_keeps_what_is_finished(tmp_path):
    toys, out = Toys(tmp_path), tmp_path / "out"
    toys.add("quick")
    toys.add("slow", seconds=300)
    process = toys.start(out, "--jobs", "2")
    _wait_until((out / "quick.json").exists)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; the finished figures are kept" in output
    assert "Traceback" not in output
    assert _no_worker_is_left(out)
    code, output = toys.run(out, "--only", "quick")
    assert code == 0
    assert "kept  quick" in output


def test_workers_do_not_outlive_a_killed_run(tmp_path):
    toys, out = Toys(tmp_path), tmp_path / "out"
    toys.add("slow", seconds=300)
    process = toys.start(out)
    _wait_until(lambda: (out / ".workers").exists() and not _no_worker_is_left(out))
    process.kill()
    process.communicate(timeout=30)
    _wait_until(lambda: _no_worker_is_left(out), seconds=10)


# ----------------------------------------------------------------------------------------------------- the real figures


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_a_claim_and_its_three_parts(name):
    module = importlib.import_module(FIGURES[name].module)
    assert FIGURES[name].claim.endswith(".")
    assert all(callable(getattr(module, part)) for part in ("compute", "draw", "checks"))
    # Its fingerprint covers its own source and the shared modules, so it takes nothing from another figure.
    tree = ast.parse(FIGURES[name].path.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not imported & {other.module for other in FIGURES.values()}


@pytest.mark.slow
def test_the_real_figures_killed_ten_times_end_with_the_same_data(tmp_path):
    names = [name for name in ("sandler2023_schedules", "sandler2023_two_points") if name in FIGURES]
    if not names:
        pytest.skip("none of the quick figures is there")
    command = [sys.executable, "-m", "figures", "--fast", "--jobs", "2", "--only", *names, "--out"]
    reference, out = tmp_path / "reference", tmp_path / "out"
    started = time.monotonic()
    first = _started([*command, str(reference)])
    output, _ = first.communicate(timeout=600)
    assert first.returncode == 0, output
    seconds = time.monotonic() - started
    _kill_at_random_moments(lambda: _started([*command, str(out)]), out, seconds, kills=10)
    last = _started([*command, str(out)])
    output, _ = last.communicate(timeout=600)
    assert last.returncode == 0, output
    _assert_same(out, reference)


# ---------------------------------------------------------------------------------------------------------------- style


def test_lines_and_points_of_one_thing_share_a_colour_and_the_look_is_ours():
    with style():
        figure, axes = panels(1, 2, width=DOUBLE)
        line = theory_line(axes[0], [1, 2], [1, 4])
        points = measured_points(axes[0], [1, 2], [1, 4], [0.1, 0.1], color=line.get_color())
        assert line.get_color() == PALETTE[0]
        assert points.lines[0].get_color() == PALETTE[0]
        assert points.lines[0].get_linestyle() == "None"
        assert tuple(entry["color"] for entry in mpl.rcParams["axes.prop_cycle"]) == PALETTE
        assert tuple(figure.get_size_inches()) == pytest.approx((DOUBLE, 0.75 * DOUBLE / 2))
        assert figure.get_constrained_layout()
        assert panels()[0].get_size_inches()[0] == SINGLE
    plt.close("all")


def _one_quantity() -> xr.Dataset:
    line = axis("gain", [0.1, 0.2, 0.4]) ** 2
    measured = axis("measured_gain", [0.1, 0.4]) ** 2
    return xr.Dataset({"risk": line, "risk_measured": measured, "risk_standard_error": measured / 10})


def test_theory_and_measurement_of_a_quantity_are_drawn_along_their_own_dims():
    with style():
        _, axes = panels()
        compared(axes, _one_quantity(), "risk", color=PALETTE[1], label="risk", scale=100.0, linestyle="--")
        (line, points), (bars,) = axes.lines, axes.collections
        assert (line.get_label(), line.get_linestyle(), line.get_color()) == ("risk", "--", PALETTE[1])
        np.testing.assert_allclose(line.get_xydata(), [[0.1, 1.0], [0.2, 4.0], [0.4, 16.0]])
        np.testing.assert_allclose(points.get_xydata(), [[0.1, 1.0], [0.4, 16.0]])
        np.testing.assert_allclose(bars.get_segments()[1], [[0.4, 14.4], [0.4, 17.6]])
        compared(axes, _one_quantity(), "risk", color=PALETTE[2], marker="s", label="its points")
        assert axes.get_legend_handles_labels()[1] == ["risk", "its points"]
        assert axes.lines[-1].get_marker() == "s"
    plt.close("all")


def test_strokes_stand_at_their_cases_and_ticks_are_plain_numbers():
    with style():
        _, axes = panels()
        theory_strokes(axes, [2.0, math.inf, 3.0], label="theory", color=PALETTE[0])
        theory_strokes(axes, [5.0], sideways=True, after=0.5, color=PALETTE[0])
        drawn = [line.get_xydata().tolist() for line in axes.lines]
        assert drawn == [[[-0.35, 2], [0.35, 2]], [[1.65, 3], [2.35, 3]], [[5, -0.35], [5, 0.5]]]
        assert axes.get_legend_handles_labels()[1] == ["theory"]
        axes.set_xscale("log")
        ticks(axes.xaxis, [0.5, 1, 20])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "1", "20"]
        assert not axes.get_xticklabels(minor=True)
    plt.close("all")


def test_every_variable_has_a_name_and_a_unit():
    data = _one_quantity().assign(step_length=1.0, known=xr.DataArray(2.0, attrs={"long_name": "as known"}))
    data.risk_measured.attrs["status"] = "exact"
    found = described(data, {"risk": ("excess risk", "loss"), "gain": "gain x"}, source="derived", seed=0.0)
    assert found.attrs == {"source": "derived", "seed": 0.0}
    names = {name: (variable.attrs["long_name"], variable.attrs["units"]) for name, variable in found.variables.items()}
    assert names == {
        "risk": ("excess risk", "loss"),
        "risk_measured": ("excess risk, measured", "loss"),
        "risk_standard_error": ("standard error of excess risk", "loss"),
        "gain": ("gain x", "1"),
        "measured_gain": ("gain x", "1"),
        "step_length": ("step length", "1"),
        "known": ("as known", "1"),
    }
    assert found.risk_measured.attrs["status"] == "exact"


def test_a_run_begins_with_what_takes_longest(tmp_path):
    def order(name, seconds=None, **options):
        if seconds is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps({"seconds": seconds}))
        return Order("toys", name, "", False, tmp_path, "", **options)

    known = [order("short", 1.0), order("slow", 50.0, companions="runs"), order("brief", 2.0, long=True)]
    new = [order("a"), order("b", companions="runs"), order("c", long=True)]
    assert [one.name for one in _longest_first(known + new)] == ["c", "b", "a", "slow", "brief", "short"]
    assert [name for name, figure in FIGURES.items() if figure.long] == ["kalra2023_network_phase_diagram"]


def test_figures_that_share_runs_are_made_where_the_runs_are():
    def order(name, companions=""):
        return Order("toys", name, "", False, Path(), "", companions)

    waiting = [order("a", "runs"), order("long"), order("b", "runs"), order("c", "others"), order("d", "runs")]
    homes = {}
    first, second = object(), object()
    taken = [_next(waiting, process, homes).name for process in (first, second, second, first, second)]
    assert taken == ["a", "long", "c", "b", "d"]  # the last one only because nothing else is left
    assert _next(waiting, first, homes) is None
    assert {name: figure.companions for name, figure in FIGURES.items()}["merging_digits"] == "quadratic._digits_chains"
