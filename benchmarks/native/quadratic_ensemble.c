/* Plain SGD on a mini-batch quadratic, every step drawn: xoshiro256++ in the lanes of a register, one stream for every
   replica and pair of directions, Box-Muller with polynomials, fused multiply-adds, all state in registers from the
   first step to the last. Two groups of lanes at a time, so that one hides the latency of the other. */
#include "vectors.h"

typedef struct { Bits s0, s1, s2, s3; } State;
typedef struct { Real left, right; } Pair;

INLINE Bits turned(Bits word, int by) { return (word << by) | (word >> (64 - by)); }

INLINE Bits next_word(State *s) {
    Bits word = turned(s->s0 + s->s3, 23) + s->s0, shifted = s->s1 << 17;
    s->s2 ^= s->s0;
    s->s3 ^= s->s1;
    s->s1 ^= s->s2;
    s->s0 ^= s->s3;
    s->s2 ^= shifted;
    s->s3 = turned(s->s3, 45);
    return word;
}

/* Natural logarithm of a normal number in (0, 1]; series of fdlibm. The mantissa is taken in [3/4, 3/2). */
INLINE Real logarithm(Real x) {
    Bits power = ((Bits)x + ((uint64_t)1024 << 52) - 0x3FE8000000000000u) >> 52; /* 1024 too large, and so never negative */
    Real mantissa = (Real)((Bits)x - (power << 52) + ((uint64_t)1024 << 52));
    Real whole = (Real)(power | 0x4330000000000000u) - (0x1p52 + 1024.0);
    Real f = mantissa - 1.0, s = f / (2.0 + f), z = s * s, w = z * z;
    Real even = w * FMA(w, FMA(w, SET(1.531383769920937332e-01), SET(2.222219843214978396e-01)),
                        SET(3.999999999940941908e-01));
    Real odd = z * FMA(w, FMA(w, FMA(w, SET(1.479819860511658591e-01), SET(1.818357216161805012e-01)),
                              SET(2.857142874366239149e-01)),
                       SET(6.666666666666735130e-01));
    Real half = 0.5 * f * f;
    Real tail = FMA(s, half + (odd + even), whole * 1.90821492927058770002e-10);
    return FMA(whole, SET(6.93147180369123816490e-01), f - (half - tail));
}

/* Two standard normals. The angle: two bits choose the quarter turn, 52 the place within an eighth on either side. */
INLINE Pair normal_pair(State *state) {
    Bits first = next_word(state), second = next_word(state);
    Real uniform = to_real((first >> 11) + 1) * 0x1p-53;
    Real radius = ROOT(-2.0 * logarithm(uniform));
    Real x = ((Real)((second << 2 >> 12) | 0x3FF0000000000000u) - 1.5) * 1.57079632679489661923;
    Real z = x * x;
    Real s = FMA(z, SET(1.58969099521155010221e-10), SET(-2.50507602534068634195e-08));
    s = FMA(z, FMA(z, s, SET(2.75573137070700676789e-06)), SET(-1.98412698298579493134e-04));
    s = FMA(z, FMA(z, s, SET(8.33333333332248946124e-03)), SET(-1.66666666666666324348e-01));
    Real sine = FMA(x * z, s, x);
    Real c = FMA(z, SET(-1.13596475577881948265e-11), SET(2.08757232129817482790e-09));
    c = FMA(z, FMA(z, c, SET(-2.75573143513906633035e-07)), SET(2.48015872894767294178e-05));
    c = FMA(z, FMA(z, c, SET(-1.38888888888741095749e-03)), SET(4.16666666666666019037e-02));
    Real cosine = FMA(z * z, c, FMA(z, SET(-0.5), SET(1.0)));
    /* a quarter turn swaps the two and changes one sign, half a turn changes both */
    Word swap = (Word)second < 0;
    radius = (Real)((Bits)radius ^ ((second << 1) & 0x8000000000000000u));
    return (Pair){radius * choose(swap, -sine, cosine), radius * choose(swap, cosine, sine)};
}

INLINE uint64_t absorb(uint64_t state, uint64_t word) {
    uint64_t z = (state ^ word) + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

typedef struct { State state; Real e_left, e_right, h_left, h_right, s_left, s_right; } Lanes;

/* A vector of lanes from `first` on, numbered replica by replica and pair by pair; the last stands in for those beyond
   it. */
INLINE Lanes open_lanes(const double *h, const double *sigma, const double *start, long modes, long first, long last,
                        uint64_t seed) {
    Lanes at;
    Bits words[4];
    long pairs = (modes + 1) / 2;
    for (int i = 0; i < WIDTH; i++) {
        long lane = first + i < last ? first + i : last, replica = lane / pairs, pair = lane % pairs;
        long left = 2 * pair, right = left + 1 < modes ? left + 1 : left;
        for (int k = 0; k < 4; k++) words[k][i] = absorb(absorb(absorb(k, seed), replica), pair);
        at.e_left[i] = start[left], at.e_right[i] = start[right];
        at.h_left[i] = h[left], at.h_right[i] = h[right];
        at.s_left[i] = sigma[left], at.s_right[i] = sigma[right];
    }
    at.state = (State){words[0], words[1], words[2], words[3]};
    return at;
}

INLINE void step(Lanes *at, double rate) {
    Pair z = normal_pair(&at->state);
    Real left = rate * at->h_left, right = rate * at->h_right;
    at->e_left = FMA(1.0 - left, at->e_left, left * at->s_left * z.left);
    at->e_right = FMA(1.0 - right, at->e_right, right * at->s_right * z.right);
}

INLINE void close_lanes(const Lanes *at, long modes, long first, long last, double *error) {
    long pairs = (modes + 1) / 2;
    for (int i = 0; i < WIDTH && first + i <= last; i++) {
        double *out = error + (first + i) / pairs * modes + 2 * ((first + i) % pairs);
        out[0] = at->e_left[i];
        if (2 * ((first + i) % pairs) + 1 < modes) out[1] = at->e_right[i];
    }
}

/* Rows of `error` (replicas, modes) from `begin` to `end`, and their excess risk. */
void run(const double *h, const double *sigma, const double *start, const double *rates, long modes, long steps,
         long begin, long end, uint64_t seed, double *error, double *risk) {
    long pairs = (modes + 1) / 2, last = end * pairs - 1;
    for (long first = begin * pairs; first <= last; first += 2 * WIDTH) {
        Lanes one = open_lanes(h, sigma, start, modes, first, last, seed);
        Lanes two = open_lanes(h, sigma, start, modes, first + WIDTH, last, seed);
        for (long t = 0; t < steps; t++) {
            step(&one, rates[t]);
            step(&two, rates[t]);
        }
        close_lanes(&one, modes, first, last, error);
        close_lanes(&two, modes, first + WIDTH, last, error);
    }
    for (long r = begin; r < end; r++) {
        double total = 0.0;
        for (long j = 0; j < modes; j++) total += 0.5 * h[j] * error[r * modes + j] * error[r * modes + j];
        risk[r] = total;
    }
}
