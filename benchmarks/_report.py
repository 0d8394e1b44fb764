"""What was measured, as Markdown, as JSON and as a picture for every workload."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import _vectors
from benchmarks._measure import Workload, exponent, median

PACKAGES = (
    "sgdynamics",
    "numpy",
    "scipy",
    "numba",
    "jax",
    "torch",
    "curvlinops-for-pytorch",
    "hessian-eigenthings",
    "PyHessian",
    "pynamicalsys",
)
# Okabe and Ito's colours, and a marker for each
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"
EXPONENT_TOLERANCE = 0.1


def machine() -> dict[str, str]:
    """What the times were measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = sorted({line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")})
        model = ", ".join(names) or model
    except OSError:
        pass
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    told = f", as everyone was told, of {_vectors.of_processor()}" if _vectors.held() else ""
    return {"processor": model, "doubles in a vector": f"{_vectors.width()}{told}", **versions}


def _quoted(measured: Mapping[str, Any]) -> tuple[int, list[dict[str, float]]]:
    size = max(measured["times"])
    return size, measured["times"][size]


def judged(workload: Workload, measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every goal for this number of threads with its number and whether it is met."""
    _, rounds = _quoted(measured)
    found = []
    for goal in workload.goals:
        if goal.threads != measured["threads"]:
            continue
        bound = f">= {goal.low:g}" if goal.low > float("-inf") else f"<= {goal.high:.4g}"
        try:
            value = median([goal.of(times) for times in rounds])
        except (KeyError, ValueError):  # what it compares with did not take part
            found.append({"goal": goal.text, "bound": bound, "value": None, "verdict": "not measured", "why": ""})
            continue
        met = goal.low <= value <= goal.high
        verdict, why = ("met", "") if met else ("missed", goal.why)
        found.append({"goal": goal.text, "bound": bound, "value": value, "verdict": verdict, "why": why})
    for name, expected in (
        (workload.exponents or {}).items() if measured["threads"] == 1 < len(measured["times"]) else ()
    ):
        value = exponent(measured["times"], name)
        met = abs(value - expected) <= EXPONENT_TOLERANCE
        found.append(
            {
                "goal": f"{name}: power of the {workload.size_name} in the time",
                "bound": f"{expected:g} +- {EXPONENT_TOLERANCE:g}",
                "value": value,
                "verdict": "met" if met else "missed",
                "why": "",
            }
        )
    return found


def _seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1 or unit == "us":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError


def markdown(workload: Workload, measured: Mapping[str, Any]) -> str:
    """The table of one workload at one number of threads, and its goals."""
    size, rounds = _quoted(measured)
    threads = measured["threads"]
    kind = "CPU time, one thread" if threads == 1 else f"wall time, {threads} threads"
    first = next(iter(rounds[0]))
    counted = "One round" if len(rounds) == 1 else f"Medians of {len(rounds)} rounds and of the ratios within a round"
    lines = [
        f"### {workload.title}: {kind}",
        "",
        f"{workload.size_name}: {size}. {counted}.",
        "",
        f"| contender | time | times that of *{first}* |",
        "|---|---|---|",
    ]
    for name in rounds[0]:
        time, ratio = median([one[name] for one in rounds]), median([one[name] / one[first] for one in rounds])
        lines.append(f"| {name} | {_seconds(time)} | {ratio:.3g} |")
    lines += [f"| {name} | - | {why} |" for name, why in measured["absent"].items()]
    goals = judged(workload, measured)
    if goals:
        lines += ["", "| goal | bound | measured | |", "|---|---|---|---|"]
        for goal in goals:
            value = "-" if goal["value"] is None else f"{goal['value']:.3g}"
            verdict = f"**{goal['verdict']}**" if goal["verdict"] != "met" else "met"
            lines.append(f"| {goal['goal']} | {goal['bound']} | {value} | {verdict} {goal['why']} |".replace("  ", " "))
    if workload.note:
        lines += ["", workload.note]
    return "\n".join(lines) + "\n"


def picture(workload: Workload, measured: Mapping[str, Any], path: Path) -> None:
    """Time against size, a line for every contender, its name at the end of it."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    names = list(dict.fromkeys(name for rounds in measured["times"].values() for name in rounds[0]))
    ends = []
    for i, name in enumerate(names):
        points = [
            (size, median([one[name] for one in rounds]))
            for size, rounds in sorted(measured["times"].items())
            if name in rounds[0]
        ]
        x, y = zip(*points, strict=True)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            x,
            y,
            marker=MARKERS[i % len(MARKERS)],
            color=colour,
            linestyle=("-", "--")[i // len(COLOURS) % 2],
            markersize=4,
            linewidth=2.5 if i == 0 else 1.2,
        )
        ends.append((y[-1], x[-1], name, colour))
    axes.set(xscale="log", yscale="log", xlabel=workload.size_name)
    axes.set_title(textwrap.fill(workload.title, 60), fontsize=9, loc="left")
    axes.set_ylabel("CPU time, one thread [s]" if measured["threads"] == 1 else "wall time, two threads [s]")
    axes.grid(which="major", alpha=0.3)
    _label_ends(axes, ends)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def _label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names right of the axes at the heights of their last points, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    transform = axes.transScale + axes.transLimits
    heights = sorted((float(transform.transform((x, y))[1]), y, x, name, colour) for y, x, name, colour in ends)
    spacing, placed = 0.055, -1.0
    top = 1.0 - spacing * len(heights)
    for i, (height, y, x, name, colour) in enumerate(heights):
        placed = max(placed + spacing, min(height, top + spacing * (i + 1)))
        axes.annotate(
            name,
            (x, y),
            xytext=(1.03, placed),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.6, "relpos": (0.0, 0.5)},
        )
    axes.set_ylim(low, high)


def write(results: Sequence[tuple[Workload, Mapping[str, Any]]], folder: Path) -> None:
    """``results.json``, ``results.md`` and the pictures."""
    about = machine()
    text = ["# Benchmarks", "", ", ".join(f"{name} {value}" for name, value in about.items()), ""]
    data = []
    for workload, measured in results:
        text.append(markdown(workload, measured))
        data.append({**measured, "title": workload.title, "goals": judged(workload, measured)})
        if measured["threads"] == 1 and len(measured["times"]) > 1:
            picture(workload, measured, folder / f"{workload.name}.png")
            text.append(f"![{workload.title}: time against size]({workload.name}.png)\n")
    (folder / "results.md").write_text("\n".join(text))
    (folder / "results.json").write_text(json.dumps({"machine": about, "results": data}, indent=1))
