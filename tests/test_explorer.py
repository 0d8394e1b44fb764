"""The explorer says what the package says, to 1e-9, and can be used by keyboard, on a phone and in the dark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from browser import Browser, browser, needs_chromium

from figures.__main__ import main
from figures.engine.explorer import FORMULAS
from sgdynamics.models import schedules
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.uv import UVNetwork
from sgdynamics.simulate.uv import trajectory
from sgdynamics.theory.quadratic import moments
from sgdynamics.theory.schedules import average_to_gains

SETTINGS = 1000
RELATIVE = 1e-9

# Where the page lets its controls go, and what they lead to.
RANGES = {
    "gain": (0.01, 1.9),
    "momentum": (0.0, 0.95),
    "beta": (0.0, 0.99),
    "points": (1, 100),
    "separation": (1, 100),
    "stride": (1, 5),
    "variance": (1e-4, 10.0),
    "rho": (0.0, 0.12),
    "learning_rate": (0.001, 1.0),
    "batch_size": (1, 1024),
    "examples": (1024, 1024),
    "alignment": (0.001, 1.0),
    "path_constant": (0.1, 10.0),
    "drift": (1e-4, 0.1),
}
WHOLE = {"points", "separation", "stride", "batch_size", "examples"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("explorer")
    assert main(["--explorer", "--out", str(folder)]) == 0
    return (folder / "explorer.html").as_uri()


@pytest.fixture(scope="module")
def tab(address: str) -> Iterator[Browser]:
    with browser() as opened:
        opened.resize(1280)
        assert opened.open(address) == []
        yield opened


def evaluated(tab: Browser, function: str, settings: list) -> list:
    """What a function of the page makes of every setting, in all digits."""
    digits = "(_, value) => typeof value === 'number' ? String(value) : value"
    return json.loads(tab.run(f"JSON.stringify({json.dumps(settings)}.map(one => ({function})(...one)), {digits})"))


def numbers(values) -> np.ndarray:
    return (
        np.array([[float(v) for v in one] for one in values])
        if isinstance(values[0], list)
        else np.array([float(value) for value in values])
    )


def test_one_small_page_that_asks_for_nothing(address):
    text = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    assert len(text.encode()) <= 500_000
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "fetch(" not in text
    assert "/*" not in text.replace("/*$", "")


@needs_chromium
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_in_javascript_are_those_of_the_package(tab, name):
    formula, fixed = FORMULAS[name]
    free = [parameter for parameter in formula.numeric if parameter not in fixed]
    random = np.random.default_rng(list(name.encode()))
    drawn = {}
    for parameter in free:
        low, high = RANGES[parameter]
        values = random.uniform(low, high, SETTINGS)
        drawn[parameter] = np.round(values) if parameter in WHOLE else values
    expected = np.broadcast_to(formula(**drawn, **fixed), SETTINGS)
    found = numbers(evaluated(tab, f"formulas.{name}", np.stack([drawn[p] for p in free], axis=-1).tolist()))
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=0)


@needs_chromium
def test_averages_and_their_schedules(tab):
    random = np.random.default_rng(1)
    settings = [
        (float(random.uniform(0.0, 0.99)), int(random.integers(1, 60)), float(random.uniform(0.01, 0.99)))
        for _ in range(SETTINGS)
    ]
    for function, weights in (
        ("(beta, steps) => emaWeights(beta, steps)", lambda beta, steps: schedules.ema(beta, steps)),
        ("(beta, steps) => tailWeights(steps, steps, 1)", lambda beta, steps: schedules.tail(steps, steps)),
        ("(beta, steps) => tailWeights(steps, 2, steps)", lambda beta, steps: schedules.two_point(steps, steps)),
    ):
        found = evaluated(tab, f"(beta, steps, gain) => [({function})(beta, steps)]", settings)
        gains = evaluated(tab, f"(beta, steps, gain) => averageGains(({function})(beta, steps), gain)", settings)
        for (beta, steps, gain), (made,), schedule in zip(settings, found, gains, strict=True):
            average = weights(beta, steps)
            np.testing.assert_allclose(np.array(made, float), average, rtol=RELATIVE, atol=0)
            np.testing.assert_allclose(np.array(schedule, float), average_to_gains(average, gain), rtol=RELATIVE)


@needs_chromium
def test_the_risk_along_a_schedule(tab):
    random = np.random.default_rng(2)
    settings, expected = [], []
    for _ in range(SETTINGS):
        modes, steps = random.integers(1, 8), random.integers(1, 30)
        model = MiniBatchQuadratic(
            10 ** random.uniform(-2, 0, modes),
            random.uniform(0, 5, modes),
            displacement=random.normal(size=modes),
            batch_size=int(random.integers(1, 256)),
        )
        rates = random.uniform(0, 1.9, steps)
        made = {
            "curvature": model.curvature.tolist(),
            "centerVariance": model.center_variance.tolist(),
            "displacement": model.displacement.tolist(),
            "batchSize": model.batch_size,
        }
        settings.append((made, rates.tolist()))
        expected.append(moments(model, rates, record=np.arange(1, steps + 1)).excess_risk.values)
    for found, risk in zip(evaluated(tab, "scheduleRisk", settings), expected, strict=True):
        np.testing.assert_allclose(np.array(found, float), risk, rtol=RELATIVE)


@needs_chromium
def test_orbits_of_the_uv_network(tab):
    random = np.random.default_rng(3)
    width = 2.0 ** random.integers(1, 11, SETTINGS)
    target, c = random.uniform(0, 3, SETTINGS), random.uniform(0.1, 5, SETTINGS)
    starts = evaluated(tab, "uvStart", np.stack([width, target], axis=-1).tolist())
    kappa, output, kernel, sharpness = (
        numbers([start[name] for start in starts]) for name in ("kappa", "output", "kernel", "sharpness")
    )
    np.testing.assert_allclose(kappa, UVNetwork(width).kappa, rtol=RELATIVE)
    rate, steps = c / sharpness, 8
    columns = np.stack([output, kernel, rate, kappa, target, np.full(SETTINGS, steps)], axis=-1)
    orbits = evaluated(tab, "uvOrbit", columns.tolist())
    along = [xr.DataArray(value, dims="setting") for value in (output, kernel, rate, kappa, target)]
    expected = trajectory(*along[:3], kappa=along[3], target=along[4], steps=steps)
    assert np.allclose(expected.sharpness.isel(step=0), sharpness, rtol=RELATIVE)
    for name, key in (("loss", "loss"), ("sharpness", "sharpness"), ("output", "output")):
        found = numbers([orbit[key] for orbit in orbits])
        there = expected[name].transpose("setting", "step").values
        # a residual close to 0 is a difference of numbers of the size of the target
        scale = np.maximum(abs(there), 1.0) if name != "sharpness" else abs(there)
        inside = scale < 1e12
        assert inside.mean() > 0.9
        assert (abs(found[inside] - there[inside]) <= RELATIVE * scale[inside]).all()


@needs_chromium
def test_outcomes_are_read_off_the_orbit(tab):
    """Far below, between and far above the walls 2, about 2.6 and 4 of target 0."""
    named = evaluated(tab, "c => OUTCOMES[uvOutcome(uvRun(c, 512, 0, 200))]", [[1.0], [2.2], [3.0], [4.5]])
    assert named == ["monotone", "loss catapult", "loss and sharpness catapult", "diverged"]


@needs_chromium
def test_the_end_gap_of_a_run_is_what_the_law_says(tab):
    (found,) = evaluated(tab, "rate => 2 / rate - logCoshRun(rate, 0.5, 40000)[40000]", [[0.02]])
    assert float(found) == pytest.approx(1.5 * 0.02, rel=1e-3)


@needs_chromium
def test_the_address_keeps_what_is_set(tab, address):
    tab.run("document.getElementById('gain').value = 0.5")
    tab.run("document.getElementById('gain').dispatchEvent(new Event('input')) && 0")
    kept = tab.run("location.hash")
    assert "gain=" in kept
    before = tab.run("document.getElementById('quadratic-answer').textContent")
    tab.open("about:blank")
    assert tab.open(f"{address}#{kept.lstrip('#')}") == []
    assert tab.run("document.getElementById('quadratic-answer').textContent") == before
    tab.open("about:blank")
    assert tab.open(f"{address}#gain=nonsense&average=nothing&width=1e9&drawn=1-2") == []
    assert tab.run("state.gain === 0.1 && state.average === 'ema' && state.width === 1024")


@needs_chromium
def test_every_control_is_reached_and_moved_by_keyboard(tab, address):
    tab.open("about:blank")
    tab.open(address)
    count = tab.run("document.querySelectorAll('input, select, [tabindex], nav a').length")
    reached = set()
    for _ in range(count + 2):
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(tab.run("document.activeElement.id || document.activeElement.textContent"))
    assert {"gain", "average", "own", "schedule-plot", "width", "edgeRate"} <= reached
    tab.run("document.getElementById('schedule-plot').focus()")
    for key in ("ArrowRight", "ArrowDown"):
        tab.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert tab.run("state.shape === 'drawn' && Math.abs(drawn[1] - (1 - 1 / 40 - 0.05)) < 0.01")
    assert "drawn=" in tab.run("location.hash")


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wide_and_narrow_light_and_dark(tab, address, width, scheme):
    tab.resize(width)
    tab.media(prefers_color_scheme=scheme)
    tab.open("about:blank")
    assert tab.open(address) == []
    assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.run("[...document.querySelectorAll('svg')].every(one => one.childElementCount > 3)")
    light = tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")
    answers = tab.run("[...document.querySelectorAll('.answer')].map(one => one.textContent)")
    assert len(answers) == 5
    assert all(answer and not re.search("NaN|undefined", answer) for answer in answers)
