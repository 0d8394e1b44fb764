"""A battery for the random streams: words and normals of one stream, and of many streams whose keys are neighbours.

Neighbouring streams are read across: the first words of all of them, then the second words. What is wrong with keys
shows there. Every test of the battery is itself tested on a generator that it must find out.

Tests and their names: Knuth, The Art of Computer Programming 2 (gaps, permutations, collisions, serial); Marsaglia
(birthday spacings, ranks); L'Ecuyer & Simard, TestU01 (Hamming weights, linear complexity, spectrum).
"""

import itertools
import math

import numpy as np
import pytest
from scipy import fft, special, stats

from sgdynamics.simulate._kernel import inlined, kernel
from sgdynamics.simulate._normals import fill_normals, open_streams
from sgdynamics.simulate._streams import Purpose, absorb, next_word, open_stream, stream_key

# Words in a sample, and the least probability on either side that a test lets pass; there are about 400 of them.
COUNT = 2**20
LEAST = 1e-4
# What a test must find out, it finds beyond doubt.
CERTAIN = 1e-12


# ---------------------------------------------------------------------------------------------------------------------
# Words of many streams, read across


@kernel
def open_all(keys, replicas, pairs, states):
    for i in range(states.shape[1]):
        states[0, i], states[1, i], states[2, i], states[3, i] = open_stream(keys[i], replicas[i], pairs[i])


@kernel
def read_across(states, out):
    """The next word of every stream, then the next of every stream, until all of ``out`` is full."""
    for t in range(out.shape[0]):
        for i in range(out.shape[1]):
            word, state = next_word((states[0, i], states[1, i], states[2, i], states[3, i]))
            states[0, i], states[1, i], states[2, i], states[3, i] = state
            out[t, i] = word


def opened(keys, replicas=0, pairs=0):
    """States of the streams of all keys, replicas and pairs, side by side."""
    keys = np.atleast_2d(keys)
    size = np.broadcast_shapes((len(keys),), np.shape(replicas), np.shape(pairs))
    replicas, pairs = (np.broadcast_to(value, size).astype(np.uint64) for value in (replicas, pairs))
    states = np.empty((4, *size), np.uint64)
    open_all(np.ascontiguousarray(np.broadcast_to(keys, (*size, 4))), replicas, pairs, states)
    return states


def words_across(states, count=COUNT):
    out = np.empty((-(-count // states.shape[1]), states.shape[1]), np.uint64)
    read_across(states, out)
    return out.ravel()[:count]


KEY = stream_key(2026, Purpose.QUADRATIC_STEPS)
MANY = np.arange(2**16)
FIRST, SECOND = np.array(list(itertools.combinations(range(1, 65), 2))).T
POWERS = 2 ** np.arange(64, dtype=np.uint64)

STREAMS = {
    "one stream": lambda: opened(KEY),
    "neighbouring replicas": lambda: opened(KEY, MANY),
    "neighbouring pairs": lambda: opened(KEY, 0, MANY),
    "a grid of replicas and pairs": lambda: opened(KEY, MANY // 256, MANY % 256),
    "first words of neighbouring replicas": lambda: opened(KEY, np.arange(COUNT)),
    "first words of neighbouring pairs": lambda: opened(KEY, 0, np.arange(COUNT)),
    "replica and pair, and the other way round": lambda: opened(
        KEY, np.ravel([FIRST, SECOND], "F"), np.ravel([SECOND, FIRST], "F")
    ),
    "replicas that differ in high bits": lambda: opened(KEY, MANY.astype(np.uint64) << np.uint64(48)),
    "pairs that differ in high bits": lambda: opened(KEY, 0, MANY.astype(np.uint64) << np.uint64(48)),
    "replicas and pairs of one bit": lambda: opened(KEY, np.repeat(POWERS, 64), np.tile(POWERS, 64)),
    "neighbouring seeds": lambda: opened([stream_key(seed, Purpose.QUADRATIC_STEPS) for seed in range(4096)]),
    "children of a seed": lambda: opened(
        [stream_key(child, Purpose.QUADRATIC_STEPS) for child in np.random.SeedSequence(3).spawn(4096)]
    ),
    "purposes": lambda: opened(
        np.tile([stream_key(2026, purpose) for purpose in Purpose], (128, 1)), np.repeat(np.arange(128), len(Purpose))
    ),
}


# ---------------------------------------------------------------------------------------------------------------------
# Counts, which add up over samples


@inlined
def weight(word):
    """Number of ones."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def count_bytes(words, counts):
    for word in words:
        for k in range(8):
            counts[k, (word >> np.uint64(8 * k)) & np.uint64(255)] += 1


@kernel
def count_pairs(words, shifts, counts):
    """Pairs of bytes of two successive words."""
    for i in range(0, words.size - 1, 2):
        for k in range(shifts.size):
            left, right = words[i] >> shifts[k], words[i + 1] >> shifts[k]
            counts[k, ((left & np.uint64(255)) << np.uint64(8)) | (right & np.uint64(255))] += 1


@kernel
def count_gaps(words, shifts, counts):
    """Words between two in which four bits are zero."""
    for k in range(shifts.size):
        gap = 0
        for word in words:
            if (word >> shifts[k]) & np.uint64(15) == 0:
                counts[k, min(gap, counts.shape[1] - 1)] += 1
                gap = 0
            else:
                gap += 1


@kernel
def count_permutations(words, counts):
    """Orders of five successive words, numbered by how many later ones are smaller."""
    for i in range(0, words.size - 4, 5):
        number = 0
        for j in range(5):
            smaller = 0
            for k in range(j + 1, 5):
                smaller += words[i + k] < words[i + j]
            number = number * (5 - j) + smaller
        counts[number] += 1


@kernel
def count_weights(words, bins, counts):
    """Classes of the numbers of ones of two successive words."""
    for i in range(0, words.size - 1, 2):
        counts[5 * bins[weight(words[i])] + bins[weight(words[i + 1])]] += 1


@kernel
def count_ranks(words, size, counts):
    """Full rank, one less, two or more less, of binary matrices of ``size`` rows of ``size`` bits."""
    width = size // 64
    rows = np.empty((size, width), np.uint64)
    for first in range(0, words.size - size * width + 1, size * width):
        for i in range(size):
            for j in range(width):
                rows[i, j] = words[first + i * width + j]
        rank = 0
        for i in range(size):
            part = 0
            while part < width and rows[i, part] == 0:
                part += 1
            if part < width:
                rank += 1
                lowest = rows[i, part] & (~rows[i, part] + np.uint64(1))
                for k in range(i + 1, size):
                    mask = np.uint64(0) - np.uint64(rows[k, part] & lowest != 0)  # no branch: none could guess it
                    for j in range(part, width):
                        rows[k, j] ^= rows[i, j] & mask
        counts[min(size - rank, 2)] += 1


@kernel
def move_up(register):
    """Shift by one bit a number of several words, the lowest first."""
    for j in range(register.size - 1, 0, -1):
        register[j] = (register[j] << np.uint64(1)) | (register[j - 1] >> np.uint64(63))
    register[0] <<= np.uint64(1)


@kernel
def count_complexities(words, shift, length, counts):
    """Linear complexity of one bit of ``length`` words (Berlekamp & Massey), less its mean, from -3 to 3."""
    size = length // 64 + 1
    for first in range(0, words.size - length + 1, length):
        connection, before, recent = np.zeros(size, np.uint64), np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        connection[0], before[0] = 1, 1
        complexity = 0
        for n in range(length):
            move_up(recent)
            move_up(before)
            recent[0] |= (words[first + n] >> shift) & np.uint64(1)
            parity = 0
            for j in range(size):
                parity ^= weight(connection[j] & recent[j]) & 1
            if parity:
                if 2 * complexity <= n:
                    complexity = n + 1 - complexity
                    for j in range(size):
                        connection[j], before[j] = connection[j] ^ before[j], connection[j]
                else:
                    for j in range(size):
                        connection[j] ^= before[j]
        counts[min(max(complexity - length // 2, -3), 3) + 3] += 1


# ---------------------------------------------------------------------------------------------------------------------
# Probabilities of what was counted

LOW, USED, HIGH = 0, 11, 56  # the lowest bits, the lowest that a uniform number uses, the highest
SHIFTS = np.array([LOW, USED, HIGH], np.uint64)
BINS = np.digitize(np.arange(65), [30, 32, 33, 35])
WEIGHTS = np.bincount(BINS, stats.binom.pmf(np.arange(65), 64, 0.5))
GAPS = np.append((1 / 16) * (15 / 16) ** np.arange(64), (15 / 16) ** 64)
COMPLEXITY_LENGTH = 1024


def rank_probabilities():
    full = np.prod(1 - 0.5 ** np.arange(1.0, 60))
    one_less = 2 * full  # full / (1 - 1/2)^2 / 2
    return np.array([full, one_less, 1 - full - one_less])


def complexity_probabilities():
    """Of the complexity of 2m random bits less m: 2^(2d-1) below, 1/2 at it, 2^(-2d) above (Rueppel 1986)."""
    below, above = 2.0 ** (-2 * np.array([2.0, 1.0]) - 1), 2.0 ** (-2 * np.array([1.0, 2.0]))
    inner = np.concatenate([below, [0.5], above])
    return np.concatenate([[2.0**-7 / (1 - 1 / 4)], inner, [2.0**-6 / (1 - 1 / 4)]])


def chi_square(counts, probabilities):
    expected = counts.sum() * probabilities
    return float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1))


def uniform(cells):
    return np.full(cells, 1 / cells)


# Name: what adds a sample to the counts, and the probabilities of each row of counts.
COUNTED = {
    "bytes": (count_bytes, [uniform(256)] * 8),
    "serial pairs": (lambda words, counts: count_pairs(words, SHIFTS, counts), [uniform(2**16)] * 3),
    "gaps": (lambda words, counts: count_gaps(words, SHIFTS, counts), [GAPS] * 3),
    "permutations": (lambda words, counts: count_permutations(words, counts[0]), [uniform(120)]),
    "weights": (lambda words, counts: count_weights(words, BINS, counts[0]), [np.outer(WEIGHTS, WEIGHTS).ravel()]),
}


def counted(samples, names=COUNTED):
    """Probabilities of what is counted, over all samples."""
    counts = {name: np.zeros(np.shape(COUNTED[name][1]), np.int64) for name in names}
    for words in samples:
        for name in names:
            COUNTED[name][0](words, counts[name])
    return {name: [*map(chi_square, counts[name], COUNTED[name][1])] for name in names}


def poisson(count, mean):
    """Probability of at least so many, half of it for the very number."""
    return float(stats.poisson.sf(count, mean) + stats.poisson.pmf(count, mean) / 2)


def largest(tails, count):
    """Probability that the least of so many tail probabilities is as small."""
    return float(-np.expm1(count * np.log1p(-np.min(tails))))


def kolmogorov(probabilities):
    """Of a distance as large from the uniform law."""
    part = np.sort(probabilities)
    steps = np.arange(part.size + 1) / part.size
    distance = max((part - steps[:-1]).max(), (steps[1:] - part).max())
    return float(special.kolmogorov(distance * math.sqrt(part.size)))


def birthdays(words):
    """Equal spacings between 4096 birthdays in 2^32 days."""
    mean = (words.size // 4096) * 4096**3 / 2**34
    for shift in (0, 32):
        days = ((words >> np.uint64(shift)).astype(np.uint32)).reshape(-1, 4096).astype(np.int64)
        spacings = np.sort(np.diff(np.sort(days, axis=1), axis=1), axis=1)
        yield poisson(int((np.diff(spacings, axis=1) == 0).sum()), mean)


def collisions(words):
    """Equal halves of words."""
    for shift in (0, 32):
        half = np.sort((words >> np.uint64(shift)).astype(np.uint32))
        yield poisson(int((np.diff(half) == 0).sum()), words.size**2 / 2**33)


def ranks(words):
    for size in (64, 512):
        counts = np.zeros(3, np.int64)
        count_ranks(words[: 2**19], size, counts)
        yield chi_square(counts, rank_probabilities())


def complexity(words):
    for shift in SHIFTS:
        counts = np.zeros(7, np.int64)
        count_complexities(words[: 2**19], shift, COMPLEXITY_LENGTH, counts)
        yield chi_square(counts, complexity_probabilities())


def spectrum(words):
    """Periodogram and autocorrelations of the values and of the numbers of ones."""
    values = (words.astype(np.float64) * 2.0**-64 - 0.5) * math.sqrt(12)
    weights = (np.bitwise_count(words) - 32.0) / 4
    for signal in (values, weights):
        power = np.abs(fft.rfft(signal)) ** 2 / signal.size
        inner = np.exp(-power[1:-1])
        yield kolmogorov(inner)
        yield largest(inner, inner.size)
        lags = np.abs(fft.irfft(power)[1 : signal.size // 2]) * math.sqrt(signal.size)
        yield largest(2 * special.ndtr(-lags), lags.size)


def bits(words):
    """Every bit, every two bits of a word, and every bit with every bit of the next word."""
    words = words[: 2**17]
    sign = 2 * np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little").astype(np.float32) - 1
    one = sign.sum(axis=0)
    two = (sign.T @ sign)[np.triu_indices(64, 1)]
    next_one = sign[:-1].T @ sign[1:]
    for sums in (one, two, next_one):
        z = np.ravel(sums).astype(np.float64) / math.sqrt(len(words))
        yield float(stats.chi2.sf((z**2).sum(), z.size))
        yield largest(2 * special.ndtr(-np.abs(z)), z.size)


OTHERS = {test.__name__: test for test in (birthdays, collisions, ranks, complexity, spectrum, bits)}
EVERY = COUNTED.keys() | OTHERS.keys()


def battery(words, names=EVERY):
    """Name of the test: probabilities, each uniform between 0 and 1 for good words."""
    others = {name: list(test(words)) for name, test in OTHERS.items() if name in names}
    return counted([words], names & COUNTED.keys()) | others


def beyond(found, least):
    """What is less likely than ``least`` on either side."""
    return {name: values for name, values in found.items() if not all(least < p < 1 - least for p in values)}


# Quick tests look at keys of each kind, replica, pair, seed and purpose, next to each other; the slow ones at all.
NEXT_TO_EACH_OTHER = {"one stream", "a grid of replicas and pairs", "neighbouring seeds", "purposes"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in NEXT_TO_EACH_OTHER)) for name in STREAMS]
)
def test_words_pass_the_battery(name):
    assert not beyond(battery(words_across(STREAMS[name]())), LEAST)


# ---------------------------------------------------------------------------------------------------------------------
# Generators that the battery must find out


@kernel
def congruential(state, out):
    """Knuth's MMIX."""
    for i in range(out.size):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        out[i] = state


@kernel
def shift_register(state, out):
    """Marsaglia's xorshift64, whose words are its state."""
    for i in range(out.size):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        out[i] = state


@kernel
def linear(states, adds, out):
    """The generator of the streams with its state as output, or with one sum instead of the scrambler."""
    state = (states[0, 0], states[1, 0], states[2, 0], states[3, 0])
    for i in range(out.size):
        out[i] = state[0] + state[3] if adds else state[0]
        _, state = next_word(state)


def filled(fill, *arguments):
    out = np.empty(COUNT, np.uint64)
    fill(*arguments, out)
    return out


def shifted_streams():
    """Replica r + 1 begins one step after replica r."""
    one = words_across(opened(KEY), 2**16 + 16)
    return np.concatenate([one[t : t + 2**16] for t in range(16)])


def added_to_the_state():
    states = np.repeat(opened(KEY), MANY.size, axis=1)
    states[0] += MANY.astype(np.uint64)
    return words_across(states)


def same_weights():
    """Every second word is the one before, turned."""
    words, turns = words_across(opened(KEY)), words_across(opened(KEY, 1)) % np.uint64(63) + np.uint64(1)
    words[1::2] = (words[::2] << turns[::2]) | (words[::2] >> (np.uint64(64) - turns[::2]))
    return words


def echoes():
    """One word in sixteen has the high half of the one 1000 words before."""
    words = words_across(opened(KEY))
    late = np.arange(1000, COUNT, 16)
    high = np.uint64(0xFFFFFFFF00000000)
    words[late] = (words[late - 1000] & high) | (words[late] & ~high)
    return words


# The words, and the tests that cannot miss what is wrong with them.
BAD = {
    "a counter times an odd number": (
        lambda: np.arange(COUNT, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        {"bytes", "serial pairs", "gaps", "permutations", "birthdays", "ranks", "complexity", "spectrum", "bits"},
    ),
    "a congruential generator, for its low bits": (
        lambda: filled(congruential, np.uint64(1)),
        {"bytes", "serial pairs", "gaps", "complexity", "bits"},
    ),
    "a shift register": (lambda: filled(shift_register, KEY[0]), {"ranks", "complexity"}),
    "the streams without a scrambler": (lambda: filled(linear, opened(KEY), False), {"ranks", "complexity"}),
    "the streams with one sum, for their lowest bit": (lambda: filled(linear, opened(KEY), True), {"complexity"}),
    "streams that are one stream": (shifted_streams, {"collisions", "spectrum"}),
    "the replica added to the state": (added_to_the_state, {"serial pairs", "weights", "spectrum", "bits"}),
    "words of 65536 kinds": (lambda: np.tile(words_across(opened(KEY), 2**16), 16), {"collisions", "spectrum"}),
    "words of one weight after each other": (same_weights, {"weights"}),
    "echoes": (echoes, {"collisions", "spectrum"}),
}


@pytest.mark.parametrize("name", BAD)
def test_the_battery_finds_bad_words_out(name):
    make, culprits = BAD[name]
    assert beyond(battery(make(), culprits), CERTAIN).keys() == culprits


def test_every_test_finds_some_bad_words_out():
    assert set().union(*(tests for _, tests in BAD.values())) == EVERY


# ---------------------------------------------------------------------------------------------------------------------
# Many more words


def chunks(states, count):
    for _ in range(count):
        yield words_across(states)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one stream", "neighbouring replicas"])
def test_half_a_billion_words_have_the_right_counts(name):
    assert not beyond(counted(chunks(STREAMS[name](), 512)), LEAST)


@pytest.mark.slow
def test_the_probabilities_themselves_are_uniform():
    samples = [battery(words) for words in chunks(STREAMS["a grid of replicas and pairs"](), 24)]
    found = {name: kolmogorov(np.ravel([one[name] for one in samples])) for name in samples[0]}
    assert min(found.values()) > LEAST, found


# ---------------------------------------------------------------------------------------------------------------------
# Avalanche: one bit of the key against every bit of the state and of the first word


def ones_and_distances(first, second):
    """How often each bit differs, and in how many bits each two words differ."""
    differ = first ^ second
    ones = np.unpackbits(differ.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little").sum(axis=0)
    return ones, np.bitwise_count(differ)


def avalanche(before, after):
    """Probabilities of the flips of all bits of words, and of the numbers of flips; ``after`` has one row a flip."""
    ones, distances = zip(*(ones_and_distances(before, row) for row in after), strict=True)
    z = (2 * np.ravel(ones).astype(np.float64) - before.size) / math.sqrt(before.size)
    counts = np.bincount(np.ravel(distances), minlength=65)
    middle = slice(16, 49)
    chance = stats.binom.pmf(np.arange(65), 64, 0.5)
    rest = [counts.sum() - counts[middle].sum()], [1 - chance[middle].sum()]
    return {
        "bits": [float(stats.chi2.sf((z**2).sum(), z.size)), largest(2 * special.ndtr(-np.abs(z)), z.size)],
        "distances": [chi_square(np.append(counts[middle], rest[0]), np.append(chance[middle], rest[1]))],
    }


# Those with an even number of ones: no flip leads from one of them to another.
INDICES = np.arange(2**15, dtype=np.uint64)
INDICES = INDICES[np.bitwise_count(INDICES) % 2 == 0]


def flipped_replica(bit):
    return opened(KEY, INDICES ^ bit, 5)


def flipped_pair(bit):
    return opened(KEY, 5, INDICES ^ bit)


def flipped_seed(bit):
    return opened([stream_key(int(seed ^ bit), Purpose.UV_START) for seed in INDICES[:500]])


def flipped_key(bit):
    """A bit of what a seed sequence gives, through the hash that makes the key."""
    words = np.random.SeedSequence(1).generate_state(2 * INDICES.size, np.uint64).reshape(2, -1)
    states = np.broadcast_to(np.arange(4, dtype=np.uint64)[:, np.newaxis], (4, INDICES.size)).copy()
    for word in (words[0] ^ bit, words[1], np.full(INDICES.size, Purpose.UV_START, np.uint64)):
        states = absorb.py_func(states, word)
    return states


@pytest.mark.parametrize("opens", [flipped_replica, flipped_pair, flipped_seed, flipped_key])
def test_a_bit_of_the_key_flips_every_bit_half_the_time(opens):
    before, after = opens(np.uint64(0)), [opens(bit) for bit in POWERS]
    for lane in range(4):
        assert not beyond(avalanche(before[lane], [states[lane] for states in after]), LEAST)
    words = [words_across(states, states.shape[1]) for states in (before, *after)]
    assert not beyond(avalanche(words[0], words[1:]), LEAST)


def test_a_product_alone_is_no_avalanche():
    odd = np.uint64(0x9E3779B97F4A7C15)
    found = avalanche(INDICES * odd, [(INDICES ^ bit) * odd for bit in POWERS])
    assert beyond(found, CERTAIN).keys() == found.keys()


# ---------------------------------------------------------------------------------------------------------------------
# Normals of many streams: arrays of shape (steps, streams, 2)


def normals_across(states, steps):
    out = np.empty((steps, states.shape[1], 2))
    for row in out:
        left, right = np.empty((2, len(row)))
        fill_normals(states, left, right)
        row[:, 0], row[:, 1] = left, right
    return out


def neighbouring_pairs():
    states = np.empty((4, 128), np.uint64)
    open_streams(stream_key(2026, Purpose.QUADRATIC_STEPS), np.uint64(3), 0, states)
    return states


NORMALS = {
    "neighbouring pairs": lambda: normals_across(neighbouring_pairs(), 4096),
    "neighbouring replicas": lambda: normals_across(opened(KEY, np.arange(128)), 4096),
    "first normals of neighbouring replicas": lambda: normals_across(opened(KEY, np.arange(2**18)), 2).reshape(
        -1, 128, 2
    ),
    "neighbouring seeds": lambda: normals_across(STREAMS["neighbouring seeds"](), 128).reshape(-1, 128, 2),
}


def anderson_darling(probabilities):
    """Of the uniform law: Marsaglia & Marsaglia (2004)."""
    part = np.sort(probabilities)
    odd = 2 * np.arange(part.size) + 1
    a = -part.size - np.dot(odd, np.log(part) + np.log1p(-part[::-1])) / part.size
    if a < 2:
        series = (2.00012, 0.247105, -0.0649821, 0.0347962, -0.0116720, 0.00168691)
        return float(1 - math.exp(-1.2337141 / a) / math.sqrt(a) * np.polynomial.polynomial.polyval(a, series))
    series = (1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146)
    return float(-math.expm1(-math.exp(np.polynomial.polynomial.polyval(a, series))))


def shape(z):
    """The whole law: Kolmogorov-Smirnov, Anderson-Darling, and 1024 cells of one probability."""
    part = special.ndtr(z.ravel())
    yield kolmogorov(part)
    yield anderson_darling(part)
    yield chi_square(np.bincount((1024 * part).astype(np.int64), minlength=1024), uniform(1024))


def tails(z):
    """Numbers beyond 3, 4 and 4.5 on each side, and the largest of all."""
    for side in (z, -z):
        for edge in (3.0, 4.0, 4.5):
            yield poisson(int((side > edge).sum()), z.size * special.ndtr(-edge))
    yield largest(2 * special.ndtr(-np.abs(z).max()), z.size)


def polar(z):
    """The two normals of a pair: squared radius, angle, and both in a table of 32 by 32."""
    radius = -np.expm1(-(z**2).sum(axis=2).ravel() / 2)
    angle = (np.arctan2(z[..., 1], z[..., 0]).ravel() / (2 * math.pi)) % 1.0
    yield kolmogorov(radius)
    yield kolmogorov(angle)
    cells = (32 * radius).astype(np.int64).clip(0, 31) * 32 + (32 * angle).astype(np.int64).clip(0, 31)
    yield chi_square(np.bincount(cells, minlength=1024), uniform(1024))


def sums(z):
    """Of 64 neighbouring streams, and of 64 successive steps, as one standard normal each."""
    for axis in (1, 0):
        total = z.reshape(*z.shape[:axis], -1, 64, *z.shape[axis + 1 :]).sum(axis=axis + 1).ravel() / 8
        yield kolmogorov(special.ndtr(total))
        yield float(stats.chi2.sf((total**2).sum(), total.size))


def dependence(z):
    """Every two streams at one step and one step apart: their values, squares and signs."""
    columns = z.reshape(len(z), -1)
    for values in (columns, (columns**2 - 1) / math.sqrt(2), np.sign(columns)):
        together = (values.T @ values)[np.triu_indices(columns.shape[1], 1)] / math.sqrt(len(z))
        later = (values[:-1].T @ values[1:]).ravel() / math.sqrt(len(z) - 1)
        for scores in (together, later):
            yield float(stats.chi2.sf((scores**2).sum(), scores.size))
            yield largest(2 * special.ndtr(-np.abs(scores)), scores.size)


NORMAL_TESTS = {test.__name__: test for test in (shape, tails, polar, sums, dependence)}


def normal_battery(z, names=frozenset(NORMAL_TESTS)):
    return {name: list(test(z)) for name, test in NORMAL_TESTS.items() if name in names}


@pytest.mark.parametrize("name", NORMALS)
def test_normals_pass_the_battery(name):
    assert not beyond(normal_battery(NORMALS[name]()), LEAST)


def good_normals():
    return np.random.default_rng(1).standard_normal((4096, 128, 2))


def cut_off():
    z = good_normals()
    return np.where(np.abs(z) > 4, z / 2, z)


def sums_of_uniforms():
    return np.random.default_rng(1).random((4096, 128, 2, 12), np.float32).sum(axis=3, dtype=np.float64) - 6


def box_muller_of_successive_words():
    """Neave (1973): the pairs of a small multiplier lie on a spiral."""
    values, state = np.empty(2**20), 1
    for i in range(values.size):
        state = state * 131 % 2**35
        values[i] = (state + 0.5) / 2**35
    radius, turn = np.sqrt(-2 * np.log(values[::2])), 2 * math.pi * values[1::2]
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1).reshape(4096, 128, 2)


def a_common_part():
    """Correlations of 1e-3 between all streams."""
    z = good_normals()
    return math.sqrt(1 - 1e-3) * z + math.sqrt(1e-3) * np.random.default_rng(2).standard_normal((4096, 1, 2))


def scales_together():
    """Uncorrelated, but large at the same steps."""
    scale = np.exp(0.1 * np.random.default_rng(2).standard_normal((4096, 1, 1)) - 0.01)
    return good_normals() * scale


BAD_NORMALS = {
    "cut off at 4": (cut_off, {"tails"}),
    "sums of twelve uniform numbers": (sums_of_uniforms, {"shape", "tails", "polar"}),
    "Box-Muller of a congruential generator": (box_muller_of_successive_words, {"polar"}),
    "a common part": (a_common_part, {"sums"}),
    "a common scale": (scales_together, {"dependence"}),
}


@pytest.mark.parametrize("name", BAD_NORMALS)
def test_the_battery_finds_bad_normals_out(name):
    make, culprits = BAD_NORMALS[name]
    assert beyond(normal_battery(make(), culprits), CERTAIN).keys() == culprits


def test_good_normals_of_another_generator_pass():
    assert not beyond(normal_battery(good_normals()), LEAST)


def test_every_test_finds_some_bad_normals_out():
    assert set().union(*(tests for _, tests in BAD_NORMALS.values())) == NORMAL_TESTS.keys()
