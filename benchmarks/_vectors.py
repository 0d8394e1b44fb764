"""Doubles in a vector: of the processor, and of everyone when all are held to shorter ones."""

from __future__ import annotations

import os

import llvmlite.binding
import numpy as np

# How Numba is told what to compile for; whether that is so is how a process knows that it is held.
_NUMBA = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
# The same for XLA, whose flags stand in one variable, and for C, by the first of the two that a compiler knows.
XLA_FLAG = "--xla_cpu_max_isa=AVX2"
C_FLAGS = ("-march=x86-64-v3", "-march=haswell")


def of_processor() -> int:
    """2 stands for all that is neither AVX2 nor AVX-512."""
    features = llvmlite.binding.get_host_cpu_features()
    return 8 if features.get("avx512f") else 4 if features.get("avx2") else 2


def held() -> bool:
    """Whether this process and those it starts were told to take vectors of four doubles."""
    return all(os.environ.get(name) == value for name, value in _NUMBA.items())


def width() -> int:
    """What is used here."""
    return min(of_processor(), 4) if held() else of_processor()


def hold() -> None:
    """From now on, for modules not yet loaded and processes not yet started: AVX2 and FMA, nothing longer or newer.

    Numba and C compile for x86-64-v3; NumPy, OpenBLAS, MKL, oneDNN, XLA and PyTorch choose among what they bring along.
    """
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", ())
    longer = [name for name in found if "512" in name or "V4" in name]
    already = os.environ.get("NPY_DISABLE_CPU_FEATURES", "")  # which NumPy does not find
    os.environ |= {
        **_NUMBA,
        "NPY_DISABLE_CPU_FEATURES": " ".join([already, *longer]).strip(),
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    }
