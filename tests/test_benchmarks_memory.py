"""The script that measures the memory of the usual jobs."""

import subprocess
import sys

import pytest

from benchmarks import memory

WITH_FILES = "merging five checkpoints of 1e8 parameters, 400 MB each"  # 2 GB of them


def test_what_a_process_holds_is_seen(tmp_path):
    code = f"""
from benchmarks.memory import peak
print(*(peak(code, {str(tmp_path)!r}) for code in ("", "x = b'1' * (200 << 20)")))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    alone, more = map(float, printed.split())
    assert alone < 50
    assert 195 < more - alone < 210
    with pytest.raises(subprocess.CalledProcessError):
        memory.peak("1 / 0", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("work", sorted(memory.JOBS.keys() - {WITH_FILES}))
def test_jobs_run(work, tmp_path):
    assert memory.peak(memory.IMPORTS + memory.JOBS[work], str(tmp_path)) > 50
