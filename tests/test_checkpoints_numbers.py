"""What is a parameter, and every type of number kept: one rule, and roundings held against lists written out."""

from __future__ import annotations

import json
import math
import re
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdynamics.checkpoints import DamagedFile, merge
from sgdynamics.checkpoints.number_types import number_type
from sgdynamics.checkpoints.roles import statistics_of
from sgdynamics.checkpoints.tensors import Tensor

# Exponent bits, bias, infinities, whether -0 is NaN: as the standard's tables have them.
BYTE_FLOATS = {
    "F8_E4M3": (4, 7, False, False),
    "F8_E5M2": (5, 15, True, False),
    "F8_E4M3FNUZ": (4, 8, False, True),
    "F8_E5M2FNUZ": (5, 16, False, True),
}


def decoded(kind: str, code: int) -> float:
    """One code, bit by bit."""
    exponent_bits, bias, infinite, one_zero = BYTE_FLOATS[kind]
    mantissa_bits = 7 - exponent_bits
    sign = -1 if code & 128 else 1
    power, fraction = (code & 127) >> mantissa_bits, code & (2**mantissa_bits - 1)
    if one_zero and code == 128:
        return math.nan
    if infinite and power == 2**exponent_bits - 1:
        return math.nan if fraction else sign * math.inf
    if not infinite and not one_zero and code & 127 == 127:
        return math.nan
    if power == 0:
        return sign * fraction * 2.0 ** (1 - bias - mantissa_bits)
    return sign * (1 + fraction / 2**mantissa_bits) * 2.0 ** (power - bias)


def tensor_file(path: Path, kind: str, values: np.ndarray, step: int = 0) -> Path:
    entry = {"dtype": kind, "shape": list(values.shape), "data_offsets": [0, values.nbytes]}
    header = json.dumps({"__metadata__": {"step": str(step)}, "x": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + values.tobytes())
    return path


@pytest.mark.parametrize("kind", BYTE_FLOATS)
def test_floats_of_one_byte_are_what_their_bits_say_and_round_to_the_nearest(kind):
    values = [decoded(kind, code) for code in range(256)]
    found = np.empty(256)
    number_type(kind).widen(np.arange(256, dtype=np.uint8), found)
    np.testing.assert_array_equal(found, values)
    rng = np.random.default_rng(0)
    finite = sorted({value for value in values if math.isfinite(value)})
    middles = [(low + high) / 2 for low, high in pairwise(finite)]
    wanted = np.concatenate([finite, middles, rng.standard_normal(2000) * np.exp2(rng.uniform(-18, 7, 2000))])
    wanted = wanted[np.abs(wanted) <= finite[-1]]
    codes = number_type(kind).narrow(wanted)
    for value, code in zip(wanted.tolist(), codes.tolist(), strict=True):
        distance = min(abs(value - other) for other in finite)
        assert abs(decoded(kind, code) - value) == distance
        if sum(abs(value - other) == distance for other in finite) == 2:
            assert code % 2 == 0
    beyond = number_type(kind).narrow(np.array([1e9, -1e9, math.nan, math.inf]))
    assert not any(math.isfinite(decoded(kind, code)) for code in beyond.tolist())


@pytest.mark.parametrize("kind", BYTE_FLOATS)
def test_floats_of_one_byte_are_those_of_the_common_package(kind):
    types = pytest.importorskip("ml_dtypes", reason="only compared with")
    theirs = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}.get(kind, f"float8_{kind[3:].lower()}")
    codes = np.arange(256, dtype=np.uint8)
    wanted = codes.view(getattr(types, theirs)).astype(np.float64)
    found = np.empty(256)
    number_type(kind).widen(codes, found)
    np.testing.assert_array_equal(found, wanted)
    numbers = np.random.default_rng(1).uniform(-50, 50, 10000).astype(np.float32).astype(np.float64)
    rounded = numbers.astype(getattr(types, theirs))
    again = np.empty(numbers.size)
    number_type(kind).widen(number_type(kind).narrow(numbers), again)
    np.testing.assert_array_equal(again, rounded.astype(np.float64))


@pytest.mark.parametrize("kind", BYTE_FLOATS)
def test_files_of_one_byte_floats_keep_their_type(tmp_path, kind):
    codes = [np.array([0x38, 0x41, 0xB8, 0x30], np.uint8), np.array([0x39, 0x45, 0x38, 0x31], np.uint8)]
    paths = [tensor_file(tmp_path / f"{k}.safetensors", kind, code, k) for k, code in enumerate(codes)]
    merge(paths, [0.25, 0.75], tmp_path / "out.safetensors")
    content = (tmp_path / "out.safetensors").read_bytes()
    assert f'"dtype": "{kind}"'.encode() in content
    for first, second, made in zip(*codes, content[-4:], strict=True):
        exact = 0.25 * decoded(kind, int(first)) + 0.75 * decoded(kind, int(second))
        gaps = [abs(decoded(kind, code) - exact) for code in range(256) if math.isfinite(decoded(kind, code))]
        assert abs(decoded(kind, made) - exact) == min(gaps)


def scaled_file(path: Path, weight: str, name: str, code: int, scale: float) -> Path:
    """Two floats of one byte, and one number beside them."""
    entries = {
        weight: {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]},
        name: {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]},
    }
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes([0x38 + code, 0x41]) + struct.pack("<f", scale))
    return path


@pytest.mark.parametrize(
    ("weight", "scale"),
    [
        ("l.weight", "l.weight_scale_inv"),
        ("l.weight", "scales.l"),
        ("l.weight", "l_scale"),
        ("l.weight", "l.weight_quantizer._scale"),
        ("layers.0.weight", "amax.layers.0.weight"),
        ("params/Dense_0/kernel", "overwritten/Dense_0/kernel_scale"),
    ],
)
def test_floats_of_one_byte_with_a_scale_that_differs_are_refused(tmp_path, weight, scale):
    def file(step: int, value: float) -> Path:
        return scaled_file(tmp_path / f"step-{step}.safetensors", weight, scale, step, value)

    with pytest.raises(ValueError, match=rf"has a scale '{re.escape(scale)}' that differs"):
        merge([file(1, 0.5), file(2, 0.25)], [0.5, 0.5], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    merge([file(1, 0.5), file(2, 0.5)], [0.5, 0.5], tmp_path / "out.safetensors")


@pytest.mark.parametrize("other", ["ln.scale", "logit_scale", "layers.1.scale", "upscale.l.weight", "l2.weight_scale"])
@pytest.mark.parametrize("weight", ["l.weight", "layers.0.weight"])
def test_floats_of_one_byte_are_averaged_beside_numbers_that_scale_something_else(tmp_path, weight, other):
    paths = [scaled_file(tmp_path / f"step-{step}.safetensors", weight, other, step, float(step)) for step in (1, 2)]
    assert merge(paths, [0.5, 0.5], tmp_path / "out.safetensors").averaged == (weight, other)


# ---------------------------------------------------------------------------------------------------------------------
# What is a parameter


def run_of(folder: Path, *states: dict[str, np.ndarray], suffix: str = ".safetensors") -> list[Path]:
    paths = [folder / f"step-{step}{suffix}" for step in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        np.savez(path, **state) if suffix == ".npz" else safetensors.save_file(state, path)
    return paths


def test_quantised_weights_are_refused_by_name(tmp_path):
    states = [
        {"l.qweight": np.array([[3, -7]], np.int8), "l.scale": np.array([scale], np.float32)} for scale in (0.1, 0.2)
    ]
    states[1]["l.qweight"] = np.array([[5, -2]], np.int8)
    with pytest.raises(ValueError, match=r"'l\.qweight', .*whole numbers that differ .* as quantised weights do"):
        merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    merged = merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors", copy=["l.qweight", "l.scale"])
    assert merged.roles == {"l.qweight": "copied", "l.scale": "copied"}
    states[1]["l.qweight"] = states[0]["l.qweight"]  # only the scale was trained
    merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")
    assert safetensors.load_file(tmp_path / "out.safetensors")["l.scale"] == np.float32(0.15)
    with pytest.raises(ValueError, match="copy must be names of tensors, got 'nothing'"):
        merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors", copy=["nothing"])


@settings(max_examples=40)
@given(counts=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=4), shape=st.sampled_from([(), (1,)]))
def test_one_whole_number_is_a_counter_exactly_if_it_never_falls(tmp_path_factory, counts, shape):
    folder = tmp_path_factory.mktemp("run")
    paths = run_of(folder, *({"n": np.full(shape, count, np.int64)} for count in counts))
    weights = np.full(len(counts), 1 / len(counts))
    if counts == sorted(counts):
        merged = merge(paths, weights, folder / "out.safetensors")
        assert safetensors.load_file(merged.output)["n"] == counts[-1]
        assert merged.roles["n"] == ("equal" if len(set(counts)) == 1 else "counter")
    else:
        with pytest.raises(ValueError, match="count nothing"):
            merge(paths, weights, folder / "out.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_equal_everywhere_is_copied_bit_for_bit(tmp_path, suffix):
    mask = np.where(np.tri(4, dtype=bool), 0.0, -np.inf).astype(np.float32)
    constants = {
        "attn.bias": mask,
        "attn.IGNORE": np.array(-np.inf, np.float32),
        "frozen": np.random.default_rng(0).standard_normal((300, 7)),
        "rope.inv_freq": np.array([1.0, 0.1, 0.01]),
        "ids": np.arange(6)[None],
    }
    states = [{**constants, "w": np.full(3, float(k))} for k in range(3)]
    weights = [0.1, 0.2, 0.7000000000000001]
    merged = merge(run_of(tmp_path, *states, suffix=suffix), weights, tmp_path / f"out{suffix}")
    found = (safetensors.load_file if suffix == ".safetensors" else np.load)(merged.output)
    for name, value in constants.items():
        assert merged.roles[name] == "equal"
        assert found[name].tobytes() == value.tobytes()
    assert merged.averaged == ("w",)


def test_what_is_not_a_number_everywhere_is_kept_and_told(tmp_path):
    states = [{"padding": np.array([np.nan, 1.0]), "w": np.full(2, float(k))} for k in range(2)]
    with pytest.warns(UserWarning, match="'padding' holds NaN in all checkpoints"):
        merged = merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")
    assert np.isnan(safetensors.load_file(merged.output)["padding"][0])


def test_infinity_that_is_not_everywhere_is_damage(tmp_path):
    states = [{"mask": np.array([0.0, -np.inf])}, {"mask": np.array([-np.inf, 0.0])}]
    with pytest.raises(DamagedFile, match=r"step-0\.safetensors: tensor 'mask' holds NaN or infinity"):
        merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")


def test_what_an_optimiser_keeps_is_not_averaged(tmp_path):
    kept = ("optimizer/w/m", "opt_state.0.nu", "w.exp_avg", "optimiser.steps")
    states = [{name: np.full(2, value) for name in (*kept, "w", "optimism.bias")} for value in (1.0, 3.0)]
    merged = merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")
    assert {name for name, role in merged.roles.items() if role == "state"} == set(kept)
    found = safetensors.load_file(merged.output)
    assert all((found[name] == 3.0).all() for name in kept)
    assert (found["w"] == 2.0).all()
    assert (found["optimism.bias"] == 2.0).all()


def test_flags_are_the_last_checkpoints(tmp_path):
    states = [{"mask": np.array([True, False]), "w": np.ones(2)}, {"mask": np.array([False, False]), "w": np.zeros(2)}]
    merged = merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")
    assert merged.roles == {"mask": "flag", "w": "parameter"}
    assert not safetensors.load_file(merged.output)["mask"].any()


STATISTICS = {
    "PyTorch": ("layer1.0.bn1.running_mean", "layer1.0.bn1.running_var"),
    "Haiku": ("net/bn/~/mean_ema/average", "net/bn/~/var_ema/average"),
    "Haiku, what it is made of": ("net/bn/~/mean_ema/hidden", "net/bn/~/var_ema/hidden"),
    "Keras 3": ("bn/moving_mean", "bn/moving_variance"),
    "TensorFlow": ("batch_normalization/moving_mean:0", "batch_normalization/moving_variance:0"),
    "TensorFlow, again": ("resnet/bn/moving_mean_71", "resnet/bn/moving_variance_71"),
    "MXNet": ("batchnorm0_running_mean", "batchnorm0_running_var"),
    "Paddle": ("bn._mean", "bn._variance"),
    "Flax": ("batch_stats/block/bn/mean", "batch_stats/block/bn/var"),
    "a normaliser": ("obs_rms.mean", "obs_rms.var"),
    "Chainer": ("bn/avg_mean", "bn/avg_var"),
}
PARAMETERS = ("bn.weight", "mean.weight", "head.mean", "variance_head.bias", "moving.weight", "meaning", "bn.scale")


@pytest.mark.parametrize("names", STATISTICS.values(), ids=STATISTICS)
def test_statistics_of_any_framework_are_known_and_named(tmp_path, names):
    shapes = {name: Tensor("<f4", (3,)) for name in (*names, *PARAMETERS)}
    assert statistics_of(shapes) == {names[0]: False, names[1]: True}
    states = [{name: np.full(3, value) for name in names} | {"w": np.full(3, value)} for value in (1.0, 2.0)]
    with pytest.warns(UserWarning, match="measure them anew") as told:
        merged = merge(run_of(tmp_path, *states), [0.5, 0.5], tmp_path / "out.safetensors")
    assert all(repr(name) in str(told[0].message) for name in names)
    assert [name for name, role in merged.roles.items() if role == "statistic"] == sorted(names)


@pytest.mark.parametrize(
    "single",
    ["bn._variance", "bn/~/var_ema/average", "a/moving_mean_71", "batchnorm0_running_var", "b/moving_variance:0"],
)
def test_a_name_that_says_so_needs_no_counterpart(single):
    assert list(statistics_of({single: Tensor("<f4", (3,))})) == [single]


def test_a_variance_below_zero_is_refused(tmp_path):
    states = [{"bn.running_var": np.array([1.0, value]), "w": np.ones(2)} for value in (4.0, 1.0)]
    paths = run_of(tmp_path, *states)
    with pytest.raises(ValueError, match=r"variance 'bn\.running_var' is below zero"):
        merge(paths, [-0.5, 1.5], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.warns(UserWarning, match="measure them anew"):
        merge(paths, [-0.5, 1.5], tmp_path / "out.safetensors", copy=["bn.running_var"])
    np.testing.assert_array_equal(safetensors.load_file(tmp_path / "out.safetensors")["bn.running_var"], [1.0, 1.0])
    plain = run_of(tmp_path, *({"w": state["bn.running_var"]} for state in states))
    merge(plain, [-0.5, 1.5], tmp_path / "out.safetensors")  # a parameter may be


# ---------------------------------------------------------------------------------------------------------------------
# Ordinary input


@pytest.mark.parametrize("as_list", [False, True])
def test_weights_in_float32_are_weights(tmp_path, as_list):
    weights = np.full(11, 1 / 11, np.float32)
    assert abs(weights.astype(np.float64).sum() - 1) > 1e-9
    paths = run_of(tmp_path, *({"w": np.full(2, 3.0)} if k else {"w": np.ones(2)} for k in range(11)))
    merge(paths, weights.tolist() if as_list else weights, tmp_path / "out.safetensors")
    np.testing.assert_allclose(safetensors.load_file(tmp_path / "out.safetensors")["w"], 31 / 11, rtol=1e-7)
    with pytest.raises(ValueError, match="weights that sum to"):
        merge(paths, weights * 1.001, tmp_path / "out.safetensors")


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    orders=st.lists(st.sampled_from("CF"), min_size=2, max_size=4),
    packed=st.booleans(),
)
def test_arrays_stored_by_columns_and_by_rows_are_the_same_arrays(tmp_path_factory, shape, orders, packed):
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(len(orders))
    values = [rng.standard_normal(shape) for _ in orders]
    for k, (value, order) in enumerate(zip(values, orders, strict=True)):
        (np.savez_compressed if packed else np.savez)(folder / f"{k}.npz", x=np.asarray(value, order=order))
    weights = np.full(len(orders), 1 / len(orders))
    merge([folder / f"{k}.npz" for k in range(len(orders))], weights, folder / "out.npz")
    found = np.load(folder / "out.npz")["x"]
    np.testing.assert_allclose(found, np.mean(values, axis=0), rtol=1e-14, atol=1e-15)
    assert found.flags.f_contiguous == np.asarray(values[-1], order=orders[-1]).flags.f_contiguous
