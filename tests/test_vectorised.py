"""What the compiler makes of the kernels: hot loops on whole vectors, and code that can be kept on disk."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from assembly import PACKED, SCALAR, need_vectors, operations

from benchmarks.start_up import FIRST_DIAGRAM, WITHOUT_DASK
from sgdynamics.models.patterns import TwoPatternSetting
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.models.schedules import constant
from sgdynamics.simulate import patterns, quadratic, trainer, uv
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate.uv import _edge_orbits, _lanes, _zero_target, diagram

# ---------------------------------------------------------------------------------------------------------------------
# What brings the kernels to run, on little


def orbits_with_target():
    uv.phase_diagram([1.0, 3.0], [64], steps=20, seeds=3, target=0.1)


def orbits_without_target():
    uv.phase_diagram([1.0, 3.0], [64], steps=20, seeds=diagram.BLOCK)


def orbits_on_the_line():
    _edge_orbits.follow_line(np.full(4, 1.5), 20, *np.full((3, 4), 0.3))


def ends_of_orbits_on_the_line():
    _edge_orbits.end_on_line(np.full(4, 1.5), 20, np.full(4, 0.3))


def orbits_on_the_cone():
    _edge_orbits.follow_cone(np.full(4, 1.5), 20, *np.full((2, 4), 0.3))


def quadratic_steps():
    quadratic.ensemble(MiniBatchQuadratic(np.ones(4), 1.0), constant(0.1, 5), replicas=3, seed=1)


def quadratic_jumps():
    model = MiniBatchQuadratic(np.ones(4), 1.0)
    quadratic.ensemble(model, constant(0.1, 5), replicas=3, seed=1, method="jumps")


def two_patterns():
    setting = TwoPatternSetting.desk().with_training(first_time=4.0, second_time=2.0)
    # noise in the pre-activations has loops of its own
    for algorithm in ("large_then_small", "small_with_activation_noise"):
        patterns.trajectory(setting, setting.draw(0), algorithm, width_p=10, width_q=10, seed=0)


def network_steps():
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((6, 4)), random.integers(3, size=6)
    for activation in ("tanh", "relu"):
        start = trainer.Objective(trainer.network([4, 16, 3], activation, seed=0), x, labels, "cross_entropy")
        trainer.trajectory(start, constant(0.1, 2))


def heavy_steps():
    start = trainer.Objective(trainer.network([1, 1], "linear", seed=0), [[1.0]], [0.0], "mse", weight_decay=0.1)
    trainer.trajectory(start, constant(0.1, 2), update=trainer.momentum(0.5))


ONCE = dict.fromkeys(("mul", "div", "sqrt", "fmadd"), 1)
# A kernel below ``simulate``, what runs it, and the operations that only its hot loop has: how many at least, which
# counts the lanes that are written out side by side.
KERNELS = [
    ("uv._lanes.run_lanes", orbits_with_target, {"mul": 1, "sqrt": 2 * _lanes.UNROLLED}),
    (
        "uv._zero_target.run_free",
        orbits_without_target,
        {**dict.fromkeys(("fmadd", "max"), _zero_target.UNROLLED), "sqrt": 1},
    ),
    ("uv._edge_orbits.follow_line", orbits_on_the_line, {"mul": 4 * _edge_orbits.UNROLLED, "div": 1, "fmadd": 1}),
    ("uv._edge_orbits.end_on_line", ends_of_orbits_on_the_line, {"mul": 2 * _edge_orbits.UNROLLED}),
    ("uv._edge_orbits.follow_cone", orbits_on_the_cone, {"mul": 4 * _edge_orbits.UNROLLED, "add": 1, "sub": 1}),
    ("quadratic._steps.run_steps", quadratic_steps, ONCE),
    ("quadratic._jumps._compose_plain", quadratic_jumps, ONCE),
    ("quadratic._jumps.run_jumps", quadratic_jumps, ONCE),
    ("_normals.fill_normals", two_patterns, ONCE),
    ("patterns._units_of_p._send", two_patterns, {"mul": 1, "add": 1}),
    ("patterns._units_of_p._advance", two_patterns, {"mul": 1, "add": 1, "sub": 1}),
    ("patterns._units_of_p._add", two_patterns, {"mul": 1, "add": 1}),
    ("patterns._units_of_q._advance", two_patterns, {"mul": 1, "add": 1, "sub": 1}),
    ("patterns._units_of_q._look", two_patterns, {"mul": 1, "add": 1}),
    ("trainer.fused.enter_tanh", network_steps, {"add": 1, "div": 1, "fmadd": 10}),
    ("trainer.fused.leave_tanh", network_steps, {"mul": 1, "sub": 1, "add": 1}),
    ("trainer.fused.enter_relu", network_steps, {"mul": 1, "add": 1}),
    ("trainer.fused.leave_relu", network_steps, {"add": 1}),
    ("trainer.fused.softmax_residual", network_steps, {"fmadd": 10}),
    ("trainer.fused.average", network_steps, {"div": 1, "add": 1}),
    ("trainer.fused.descend", network_steps, {"mul": 1, "sub": 1}),
    ("trainer.fused.roll", heavy_steps, {"mul": 1, "add": 1, "sub": 1}),
    ("trainer.fused.add_decay", heavy_steps, {"mul": 1, "add": 1}),
]


@pytest.mark.parametrize(("name", "run", "least"), KERNELS, ids=[name for name, *_ in KERNELS])
def test_the_hot_loop_runs_on_whole_vectors(name, run, least):
    need_vectors()
    run()
    module, function = name.rsplit(".", 1)
    found = operations(PACKED, getattr(importlib.import_module(f"sgdynamics.simulate.{module}"), function))
    assert {operation: count for operation, count in least.items() if found[operation] < count} == {}, found


def test_a_loop_that_waits_for_its_last_result_has_no_vectors():
    need_vectors()

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
    assert operations(SCALAR, orbit).keys() == operations(PACKED, images).keys() == {"mul", "sub"}
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


@pytest.mark.slow  # in small, with kernels of every kind: test_kernel_cache
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


COMPILED = """
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    exec({code!r})
made = [recorded.data["dispatcher"] for _, recorded in compiled.buffer if recorded.is_start]
print([one.__name__ for one in made if "sgdynamics" in one.__module__ and not one.targetoptions["forceinline"]])
"""


def test_the_first_diagram_loads_and_compiles_nothing_that_it_does_not_need():
    """But what the special functions of SciPy load by themselves: sparse matrices, before SciPy 1.17."""
    special = "import sys, scipy.special\nalone = set(sys.modules)\n"
    heavy = ["sympy", "matplotlib", "sklearn", "tqdm", "h5py", "scipy.stats", "scipy.optimize", "scipy.sparse"]
    loaded = f"\nprint([name for name in {heavy!r} if name in sys.modules and name not in alone])"
    code = special + WITHOUT_DASK + COMPILED.format(code=FIRST_DIAGRAM.format(size=200)) + loaded
    assert run_python(code, SGDYNAMICS_NUMBA_CACHE="0").splitlines()[-2:] == ["['run_few']", "[]"]
