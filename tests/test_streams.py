"""Random streams: published vectors, a plain integer twin, and the statistics of what comes out."""

import ast
import importlib
import itertools
import math
import os
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from sgdynamics import simulate
from sgdynamics.domains import describe_seed
from sgdynamics.simulate import _streams as streams
from sgdynamics.simulate._kernel import kernel
from sgdynamics.simulate._streams import Purpose, stream_key

# ---------------------------------------------------------------------------------------------------------------------
# The twin: SplitMix64, xoshiro256++ and Box-Muller in Python integers and libm

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix_output(state):
    z = (state + GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def rotated(word, count):
    return ((word << count) | (word >> (64 - count))) & MASK


def xoshiro(state):
    s0, s1, s2, s3 = state
    word = (rotated((s0 + s3) & MASK, 23) + s0) & MASK
    s2, s3, shifted = s2 ^ s0, s3 ^ s1, (s1 << 17) & MASK
    s1, s0 = s1 ^ s2, s0 ^ s3
    return word, (s0, s1, s2 ^ shifted, rotated(s3, 45))


def reference_words(seed, purpose, replica, pair):
    """All words of a stream."""
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    key = [*map(int, sequence.generate_state(2, np.uint64)), int(purpose), replica, pair]
    state = []
    for lane in range(4):
        for word in key:
            lane = splitmix_output(lane ^ word)
        state.append(lane)
    while True:
        word, state = xoshiro(state)
        yield word


def reference_pairs(seed, purpose, replica, pair):
    """All pairs of normals of a stream."""
    words = reference_words(seed, purpose, replica, pair)
    while True:
        first, second = next(words), next(words)
        radius = math.sqrt(-2.0 * math.log(((first >> 11) + 1) * 2.0**-53))
        quarter, half, rest = second >> 63, second >> 62 & 1, (second << 2) & MASK
        eighths = (rest - 2**64 if rest >> 63 else rest) * 2.0**-63
        angle = math.pi * (quarter / 2 + half + eighths / 4)
        yield radius * math.cos(angle), radius * math.sin(angle)


# ---------------------------------------------------------------------------------------------------------------------
# Kernels that bring a stream out


@kernel
def fill_from_state(state, out):
    current = (state[0], state[1], state[2], state[3])
    for i in range(out.size):
        out[i], current = streams.next_word(current)


@kernel
def fill_words(key, replica, pair, out):
    state = streams.open_stream(key, replica, pair)
    for i in range(out.size):
        out[i], state = streams.next_word(state)


@kernel
def fill_normals(key, replica, pair, out):
    state = streams.open_stream(key, replica, pair)
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1], state = streams.normal_pair(state)


def words_of(seed, replica=0, pair=0, count=1000, purpose=Purpose.QUADRATIC_STEPS):
    out = np.empty(count, dtype=np.uint64)
    fill_words(stream_key(seed, purpose), np.uint64(replica), np.uint64(pair), out)
    return out


def normals_of(seed, replica=0, pair=0, count=100_000, purpose=Purpose.QUADRATIC_STEPS):
    out = np.empty((count, 2))
    fill_normals(stream_key(seed, purpose), np.uint64(replica), np.uint64(pair), out)
    return out


# ---------------------------------------------------------------------------------------------------------------------
# The right generators


def test_splitmix64_gives_its_published_numbers():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + i * GOLDEN) & MASK for i in range(5)]
    assert [int(streams.absorb(np.uint64(state), np.uint64(0))) for state in states] == published
    assert [splitmix_output(state) for state in states] == published


def test_xoshiro256pp_gives_its_published_numbers():
    published = [
        41943041,
        58720359,
        3588806011781223,
        3591011842654386,
        9228616714210784205,
        9973669472204895162,
    ]
    out = np.empty(6, dtype=np.uint64)
    fill_from_state(np.array([1, 2, 3, 4], dtype=np.uint64), out)
    assert out.tolist() == published
    state, twin = (1, 2, 3, 4), []
    for _ in range(6):
        word, state = xoshiro(state)
        twin.append(word)
    assert twin == published


SEEDS = [0, 1, 2**40, np.random.SeedSequence(5), np.random.SeedSequence(5).spawn(2)[1], np.random.SeedSequence([1, 2])]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("replica", "pair"), [(0, 0), (3, 7), (2**40, 10**6)])
@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_stream_is_its_integer_twin(seed, replica, pair, purpose):
    expected = list(itertools.islice(reference_words(seed, purpose, replica, pair), 50))
    assert words_of(seed, replica, pair, 50, purpose).tolist() == expected


def test_streams_that_are_opened_together_are_those_opened_alone():
    replicas, pairs = np.array([0, 3, 2**40], np.uint64), np.array([[0], [7]], np.uint64)
    state = streams.open_many(stream_key(5, Purpose.UV_START), replicas, pairs)
    made = []
    for _ in range(5):
        words, state = streams.next_words(state)
        made.append(words)
    for (row, column), replica in np.ndenumerate(np.broadcast_to(replicas, (2, 3))):
        twin = reference_words(5, Purpose.UV_START, int(replica), int(pairs[row, 0]))
        assert [int(words[row, column]) for words in made] == list(itertools.islice(twin, 5))


def test_normals_are_their_twin_to_rounding():
    expected = list(itertools.islice(reference_pairs(3, Purpose.QUADRATIC_STEPS, 4, 5), 5000))
    np.testing.assert_allclose(normals_of(3, 4, 5, 5000), expected, rtol=0, atol=6e-15)


@pytest.mark.parametrize("first", [0, 1, 2**11, MASK])
@pytest.mark.parametrize("second", [0, 2**62, 2**63, MASK])
def test_the_extreme_words_give_finite_normals(first, second):
    left, right = streams.box_muller(np.uint64(first), np.uint64(second))
    assert math.hypot(left, right) <= math.sqrt(2 * 53 * math.log(2)) * (1 + 1e-15)
    # the largest first word is the largest uniform number, 1: the point at the origin
    assert (left == 0 and right == 0) == (first == MASK)


# ---------------------------------------------------------------------------------------------------------------------
# Keys


def test_an_integer_seed_stands_for_its_seed_sequence():
    assert np.array_equal(words_of(11), words_of(np.random.SeedSequence(11)))


def test_asking_a_seed_sequence_for_a_key_does_not_use_it_up():
    sequence = np.random.SeedSequence(11)
    first = words_of(sequence)
    sequence.spawn(3)
    assert np.array_equal(first, words_of(sequence))


def test_no_two_keys_share_a_word():
    keys = itertools.product([0, 1, 2], range(20), range(20), Purpose)
    words = np.concatenate([words_of(seed, replica, pair, 4, purpose) for seed, replica, pair, purpose in keys])
    assert np.unique(words).size == words.size


def test_purposes_are_distinct():
    assert len({purpose.value for purpose in Purpose}) == len(Purpose.__members__)


def test_a_seed_is_described_in_words_that_make_it_again():
    for seed in SEEDS:
        again = eval(describe_seed(seed), {"SeedSequence": np.random.SeedSequence})
        assert np.array_equal(stream_key(seed, Purpose.QUADRATIC_STEPS), stream_key(again, Purpose.QUADRATIC_STEPS))


# ---------------------------------------------------------------------------------------------------------------------
# Statistics: fixed seeds, |z| < 4


def test_every_bit_is_fair():
    words = words_of(1, count=200_000)
    bits = np.unpackbits(words.view(np.uint8)).reshape(words.size, 64)
    z = (bits.mean(axis=0) - 0.5) * 2 * math.sqrt(words.size)
    assert np.abs(z).max() < 4


def test_normals_have_the_moments_of_the_standard_normal():
    z = normals_of(2, count=1_000_000).ravel()
    # mean and variance of z^k: (k-1)!! and (2k-1)!! - ((k-1)!!)^2
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]:
        assert abs((z**power).mean() - mean) < 4 * math.sqrt(variance / z.size)


def test_normals_pass_kolmogorov_smirnov():
    z = normals_of(3, count=200_000)
    for sample in (z[:, 0], z[:, 1], z.ravel()):
        assert stats.kstest(sample, "norm").pvalue > 1e-3


def test_tails_have_the_right_mass():
    z = np.abs(normals_of(4, count=2_000_000).ravel())
    for edge in (3.0, 4.0, 4.5):
        expected = z.size * 2 * stats.norm.sf(edge)
        assert abs((z > edge).sum() - expected) < 4 * math.sqrt(expected)


def correlations(one, other):
    """z-scores of the correlations of values and of squares."""
    size = len(one)
    yield (one * other).mean() * math.sqrt(size)
    yield ((one**2 - 1) * (other**2 - 1)).mean() * math.sqrt(size) / 2


def test_a_stream_is_uncorrelated_with_itself():
    z = normals_of(5, count=400_000)
    flat = z.ravel()
    pairs = [(z[:, 0], z[:, 1])] + [(flat[:-lag], flat[lag:]) for lag in (1, 2, 3, 4, 5, 8, 100)]
    scores = [score for one, other in pairs for score in correlations(one, other)]
    assert np.abs(scores).max() < 4


def test_neighbouring_streams_are_uncorrelated():
    base = normals_of(6, 10, 10, 400_000)
    neighbours = [
        normals_of(6, 11, 10, 400_000),
        normals_of(6, 10, 11, 400_000),
        normals_of(6, 11, 9, 400_000),
        normals_of(7, 10, 10, 400_000),
        normals_of(6, 10, 10, 400_000, Purpose.QUADRATIC_JUMPS),
    ]
    scores = [
        score
        for other in neighbours
        for shift in (0, 1)
        for score in correlations(base[: base.shape[0] - shift].ravel(), other[shift:].ravel())
    ]
    assert np.abs(scores).max() < 4


def test_across_replicas_the_first_normals_are_independent_standard_normals():
    key, count = stream_key(8, Purpose.QUADRATIC_JUMPS), 50_000
    first = np.empty((count, 3, 2))
    for replica in range(count):
        for pair in range(3):
            fill_normals(key, np.uint64(replica), np.uint64(pair), first[replica, pair : pair + 1])
    columns = first.reshape(count, 6).T
    for column in columns:
        assert stats.kstest(column, "norm").pvalue > 1e-3
        assert np.abs(list(correlations(column[:-1], column[1:]))).max() < 4
    for one, other in itertools.combinations(columns, 2):
        assert np.abs(list(correlations(one, other))).max() < 4


# ---------------------------------------------------------------------------------------------------------------------
# How kernels are compiled


def simulation_modules():
    """Every module below ``simulate``; of the trainer, which runs without Numba, what it runs with it."""
    fused = "sgdynamics.simulate.trainer.fused"
    return [
        info.name
        for info in pkgutil.walk_packages(simulate.__path__, "sgdynamics.simulate.")
        if info.name == fused or not info.name.startswith("sgdynamics.simulate.trainer")
    ]


def test_kernels_keep_ieee_rules_and_release_the_gil():
    modules = map(importlib.import_module, simulation_modules())
    members = {id(member): member for module in modules for member in vars(module).values()}
    compiled = [member for member in members.values() if hasattr(member, "targetoptions")]
    assert len(compiled) > 40
    for function in compiled:
        options = function.targetoptions
        assert options["nogil"]
        assert options["error_model"] == "numpy"
        assert not options["fastmath"]
        assert not options.get("parallel", False)


def test_kernels_see_infinities_and_nan():
    @kernel
    def facts(value):
        return math.isnan(value), math.isinf(value), value / 0.0

    assert facts(math.nan)[:2] == (True, False)
    assert facts(math.inf)[:2] == (False, True)
    assert facts(1.0)[2] == math.inf


def run_python(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, check=True, capture_output=True, text=True
    ).stdout


def test_the_floor_itself_does_not_load_numba():
    code = "import sys, sgdynamics.simulate, sgdynamics.models.quadratic; print('numba' in sys.modules)"
    assert run_python(code).strip() == "False"


@pytest.mark.parametrize(("wanted", "kept"), [("", True), ("0", False)])
def test_compiled_code_is_kept_unless_it_is_not_wanted(tmp_path, wanted, kept):
    code = """
import numpy as np
from sgdynamics.simulate._normals import open_streams
from sgdynamics.simulate._streams import Purpose, stream_key
states = np.empty((4, 1), np.uint64)
open_streams(stream_key(1, Purpose.QUADRATIC_STEPS), np.uint64(2), 3, states)
print(states[:, 0].tolist())
"""
    variables = {"SGDYNAMICS_NUMBA_CACHE": wanted, "NUMBA_CACHE_DIR": str(tmp_path)}
    first = next(reference_words(1, Purpose.QUADRATIC_STEPS, 2, 3))
    state = ast.literal_eval(run_python(code, **variables))
    assert xoshiro(state)[0] == first
    assert any(tmp_path.rglob("*.nbi")) is kept
