"""The largest resident memory of the usual jobs, each in a process of its own: ``python -m benchmarks.memory``.

What is imported and compiled is in it. The table is on the page on sweeps larger than memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

IMPORTS = """
import numpy as np
from sgdynamics.models import schedules
"""

DIGITS = """
from sgdynamics.simulate import trainer
x, y = trainer.digits()
net = trainer.network([64, 128, 128, 10], "tanh", seed=0)
"""

# The files that the merge takes: five of 1e8 float32, in the folder where the jobs run.
CHECKPOINTS = """
import numpy as np
from safetensors.numpy import save_file
tensors = {f"layer{k}": np.random.default_rng(k).standard_normal(10_000_000, np.float32) for k in range(10)}
for step in range(5):
    save_file(tensors, f"{step}.safetensors")
"""

JOBS = {
    "one network of the phase diagram": """
from sgdynamics.simulate.uv import phase_diagram
phase_diagram([1.0], [64], steps=10, seeds=1)
""",
    "phase diagram of 1000 by 1000 networks, 1000 steps": """
from sgdynamics.simulate.uv import phase_diagram
phase_diagram(np.linspace(0.5, 4.5, 1000), np.arange(1, 1001), steps=1000, seeds=1)
""",
    "ensemble of 1e5 replicas of 10 directions, 1000 steps: 1e9 normals": """
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.simulate.quadratic import ensemble
ensemble(MiniBatchQuadratic(np.geomspace(0.01, 1, 10), 1.0), schedules.cosine(0.5, 1000), replicas=100_000, seed=1)
""",
    "Lyapunov exponents of 1e4 parameters, 1e4 steps": """
from sgdynamics.simulate.uv import lyapunov
lyapunov(np.linspace(0.1, 1.9, 10_000), steps=10_000)
""",
    "exact moments of 140 directions, 72,000 steps": """
from sgdynamics.models.quadratic import MiniBatchQuadratic
from sgdynamics.theory.quadratic import moments
moments(MiniBatchQuadratic(np.geomspace(0.001, 1, 140), 1.0), schedules.cosine(0.5, 72_000))
""",
    "training 64-128-128-10 on the digits, 1000 steps": f"""{DIGITS}
trainer.train(net, x, y, schedules.constant(0.1, 1000), loss="cross_entropy", batch_size=32, seed=0)
""",
    "the eight largest eigenvalues of its Hessian": f"""{DIGITS}
trainer.top_hessian_eigenvalues(net, x, y, k=8, loss="cross_entropy")
""",
    "a forecast fitted to two curves of 4000 steps": """
from sgdynamics.theory.forecast import fit
step = np.arange(100, 4001, 50)
def logged(rates):
    return rates, step, 2 + 30 * (1 + 20 * np.cumsum(rates)[step - 1]) ** -0.5 + 0.1 * rates[step - 1]
fit([logged(schedules.constant(1.0, 4000)), logged(schedules.cosine(1.0, 4000, final=0.1))])
""",
    "merging five checkpoints of 1e8 parameters, 400 MB each": """
from sgdynamics.checkpoints import merge
merge([f"{step}.safetensors" for step in range(5)], [0.2] * 5, "merged.safetensors")
""",
}


def peak(code: str, folder: str) -> float:
    """MiB of a process that runs the code; never below those of the process that asks, so that this imports little."""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Row by row, as they are measured."""
    print("| work | memory |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        peak(CHECKPOINTS, folder)
        for work, code in JOBS.items():
            print(f"| {work} | {peak(IMPORTS + code, folder):.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
