"""What the compiler makes of a kernel: the operations that it takes on whole vectors of doubles, and on one."""

import functools
import re
from collections import Counter

import numba
import numpy as np
import pytest

# The operation of x86 instructions on doubles: on a vector of more than two, or on one.
PACKED = re.compile(r"\bv(add|sub|mul|div|max|sqrt|fn?m(?:add|sub))\d*pd\b.*%[yz]mm")
SCALAR = re.compile(r"\bv(add|sub|mul|div|max|sqrt|fn?m(?:add|sub))\d*sd\b")


def operations(pattern, kernel):
    """How many instructions of each such operation there are in a kernel that was called."""
    # What comes from the disk shows no assembly; beside its machine code lies what that was made of, to link with.
    libraries = (made.library for made in kernel.overloads.values())
    code = [str(library._codegen._tm.emit_assembly(library._get_module_for_linking())) for library in libraries]
    return Counter(found[1] for text in code for found in pattern.finditer(text))


@functools.cache
def doubles_every_element():
    @numba.njit
    def doubled(x, out):
        for i in range(out.size):
            out[i] = 2.0 * x[i] * x[i]

    doubled(np.ones(9), np.empty(9))
    return operations(PACKED, doubled)


def need_vectors():
    """Skip where even the simplest loop has no vectors of more than two doubles, whatever the machine or the target."""
    if not doubles_every_element():
        pytest.skip("the target of the compiler has neither AVX nor AVX-512")
