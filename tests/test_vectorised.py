"""What the compiler makes of the kernels: hot loops on whole vectors, and code that can be kept on disk."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest

from benchmarks.start_up import FIRST_DIAGRAM, WITHOUT_DASK
from sgdynamics.models.patterns import TwoPatternSetting
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate import patterns, quadratic, uv
from sgdynamics.simulate._kernel import kernel

FEATURES = llvmlite.binding.get_host_cpu_features()
# The operation of x86 instructions on doubles: on a vector of more than two, or on one.
PACKED = re.compile(r"\bv(add|sub|mul|div|sqrt|fn?m(?:add|sub))\d*pd\b.*%[yz]mm")
SCALAR = re.compile(r"\bv(add|sub|mul|div|sqrt|fn?m(?:add|sub))\d*sd\b")


def operations(pattern, dispatcher):
    """The operations of such instructions in all that was compiled."""
    return {found[1] for text in dispatcher.inspect_asm().values() for found in pattern.finditer(text)}


# ---------------------------------------------------------------------------------------------------------------------
# What brings the kernels to run, on little


def orbits_with_target():
    uv.phase_diagram([1.0, 3.0], [64], steps=20, seeds=3, target=0.1)


def orbits_without_target():
    uv.phase_diagram([1.0, 3.0], [64], steps=20, seeds=3)


def exponents():
    uv.lyapunov([0.9, 1.9], steps=20, transient=2)


def attractors():
    uv.bifurcation([0.9, 1.9], transient=2, keep=3, imbalance=0.1)


def quadratic_steps():
    quadratic.ensemble(MiniBatchQuadratic(np.ones(4), 1.0), constant(0.1, 5), replicas=3, seed=1)


def quadratic_jumps():
    model = MiniBatchQuadratic(np.ones(4), 1.0)
    quadratic.ensemble(model, constant(0.1, 5), replicas=3, seed=1, method="jumps")


def two_patterns():
    setting = TwoPatternSetting.desk().with_training(first_time=4.0, second_time=2.0)
    patterns.finite_network(setting, setting.draw(0), "large_then_small", width_p=10, width_q=10, seed=0)


# A kernel below ``simulate``, what runs it, and the operations that only its hot loop has.
KERNELS = [
    ("uv._lanes.run_lanes", orbits_with_target, {"mul", "sqrt"}),
    ("uv._zero_target.run_free", orbits_without_target, {"mul", "sqrt", "fmadd"}),
    ("uv._edge_orbits.follow_line", exponents, {"mul", "div", "fmadd"}),
    ("uv._edge_orbits.follow_cone", attractors, {"mul", "add", "sub"}),
    ("quadratic._steps.run_steps", quadratic_steps, {"mul", "div", "sqrt", "fmadd"}),
    ("quadratic._jumps._compose_plain", quadratic_jumps, {"mul", "div", "sqrt", "fmadd"}),
    ("quadratic._jumps.run_jumps", quadratic_jumps, {"mul", "div", "sqrt", "fmadd"}),
    ("_normals.fill_normals", two_patterns, {"mul", "div", "sqrt", "fmadd"}),
    ("patterns._units_of_p._send", two_patterns, {"mul", "add"}),
    ("patterns._units_of_p._advance", two_patterns, {"mul", "add", "sub"}),
    ("patterns._units_of_p._add", two_patterns, {"mul", "add"}),
    ("patterns._units_of_q._advance", two_patterns, {"mul", "add", "sub"}),
    ("patterns._units_of_q._look", two_patterns, {"mul", "add"}),
]

needs_vectors = pytest.mark.skipif(
    not (FEATURES.get("avx2") or FEATURES.get("avx512f")), reason="the processor has neither AVX2 nor AVX-512"
)


@needs_vectors
@pytest.mark.parametrize(("name", "run", "expected"), KERNELS, ids=[name for name, *_ in KERNELS])
def test_the_hot_loop_runs_on_whole_vectors(name, run, expected):
    run()
    module, function = name.rsplit(".", 1)
    compiled = getattr(importlib.import_module(f"sgdynamics.simulate.{module}"), function)
    assert expected <= operations(PACKED, compiled)


@needs_vectors
def test_a_loop_that_waits_for_its_last_result_has_no_vectors():
    @kernel
    def orbit(x, out):
        for i in range(out.size):
            x = 3.9 * x * (1.0 - x)
            out[i] = x

    @kernel
    def images(x, out):
        for i in range(out.size):
            out[i] = 3.9 * x[i] * (1.0 - x[i])

    out = np.empty(10)
    orbit(0.3, out)
    images(np.full(10, 0.3), out)
    assert operations(SCALAR, orbit) == operations(PACKED, images) == {"mul", "sub"}
    assert not operations(PACKED, orbit)


# ---------------------------------------------------------------------------------------------------------------------
# Processes of their own


def run_python(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, check=True, capture_output=True, text=True
    ).stdout


COUNTED = """
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    exec({code!r})
print(len(compiled.buffer))
"""


def compiled_in_two_processes(code, folder):
    """Numbers of compilations, of kernels and of what is inlined, in a process and in the next one."""
    variables = {"SGDYNAMICS_NUMBA_CACHE": "1", "NUMBA_CACHE_DIR": str(folder)}
    return [int(run_python(COUNTED.format(code=code), **variables).split()[-1]) for _ in range(2)]


def test_the_second_process_compiles_nothing_for_its_first_diagram(tmp_path):
    first, second = compiled_in_two_processes(FIRST_DIAGRAM.format(size=20), tmp_path)
    assert first > 0
    assert second == 0


@pytest.mark.slow
def test_the_second_process_compiles_no_kernel(tmp_path):
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from test_vectorised import KERNELS
for run in {{run for _, run, _ in KERNELS}}:
    run()
"""
    first, second = compiled_in_two_processes(code, tmp_path)
    assert first > 0
    assert second == 0


def test_the_first_diagram_loads_nothing_that_it_does_not_need():
    heavy = ["sympy", "matplotlib", "sklearn", "tqdm", "h5py", "scipy.stats", "scipy.optimize", "scipy.sparse"]
    loaded = f"\nprint([name for name in {heavy!r} if name in sys.modules])"
    assert run_python(WITHOUT_DASK + FIRST_DIAGRAM.format(size=20) + loaded).splitlines()[-1] == "[]"
