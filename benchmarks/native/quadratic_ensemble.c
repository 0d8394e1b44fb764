/* Plain SGD on a mini-batch quadratic, every step drawn: xoshiro256++ in eight lanes of a register, one stream for
   every replica and pair of directions, Box-Muller with polynomials, fused multiply-adds, all state in registers from
   the first step to the last. Two groups of lanes at a time, so that one hides the latency of the other. */
#include <immintrin.h>
#include <stdint.h>

typedef __m512d Real;
typedef __m512i Word;

#define SET(x) _mm512_set1_pd(x)
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#define MUL(a, b) _mm512_mul_pd(a, b)
#define ADD(a, b) _mm512_add_pd(a, b)
#define SUB(a, b) _mm512_sub_pd(a, b)

typedef struct { Word s0, s1, s2, s3; } State;
typedef struct { Real left, right; } Pair;

static inline Word next_word(State *s) {
    Word total = _mm512_add_epi64(s->s0, s->s3);
    Word word = _mm512_add_epi64(_mm512_rol_epi64(total, 23), s->s0);
    Word shifted = _mm512_slli_epi64(s->s1, 17);
    s->s2 = _mm512_xor_si512(s->s2, s->s0);
    s->s3 = _mm512_xor_si512(s->s3, s->s1);
    s->s1 = _mm512_xor_si512(s->s1, s->s2);
    s->s0 = _mm512_xor_si512(s->s0, s->s3);
    s->s2 = _mm512_xor_si512(s->s2, shifted);
    s->s3 = _mm512_rol_epi64(s->s3, 45);
    return word;
}

/* Natural logarithm of a normal positive number; series of fdlibm. */
static inline Real logarithm(Real x) {
    Real mantissa = _mm512_getmant_pd(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);  /* [3/4, 3/2) */
    Real power = _mm512_getexp_pd(x);
    __mmask8 below = _mm512_cmp_pd_mask(mantissa, SET(1.0), _CMP_LT_OQ);
    power = _mm512_mask_add_pd(power, below, power, SET(1.0));
    Real f = SUB(mantissa, SET(1.0));
    Real s = _mm512_div_pd(f, ADD(SET(2.0), f));
    Real z = MUL(s, s), w = MUL(z, z);
    Real even = MUL(w, FMA(w, FMA(w, SET(1.531383769920937332e-01), SET(2.222219843214978396e-01)),
                           SET(3.999999999940941908e-01)));
    Real odd = MUL(z, FMA(w, FMA(w, FMA(w, SET(1.479819860511658591e-01), SET(1.818357216161805012e-01)),
                                 SET(2.857142874366239149e-01)),
                          SET(6.666666666666735130e-01)));
    Real half = MUL(MUL(SET(0.5), f), f);
    Real tail = FMA(s, ADD(half, ADD(odd, even)), MUL(power, SET(1.90821492927058770002e-10)));
    return FMA(power, SET(6.93147180369123816490e-01), SUB(f, SUB(half, tail)));
}

/* Two standard normals. The angle: two bits choose the quarter turn, 51 the place within an eighth on either side. */
static inline Pair normal_pair(State *state) {
    Word first = next_word(state), second = next_word(state);
    Real uniform = MUL(_mm512_cvtepu64_pd(_mm512_add_epi64(_mm512_srli_epi64(first, 11), _mm512_set1_epi64(1))),
                       SET(0x1p-53));
    Real radius = _mm512_sqrt_pd(MUL(SET(-2.0), logarithm(uniform)));
    /* the word without its top two bits, as a signed number in [-2^63, 2^63), is x / (pi/4) */
    Real x = MUL(_mm512_cvtepi64_pd(_mm512_slli_epi64(second, 2)), SET(0.78539816339744830962 * 0x1p-63));
    Real z = MUL(x, x);
    Real s = FMA(z, SET(1.58969099521155010221e-10), SET(-2.50507602534068634195e-08));
    s = FMA(z, FMA(z, s, SET(2.75573137070700676789e-06)), SET(-1.98412698298579493134e-04));
    s = FMA(z, FMA(z, s, SET(8.33333333332248946124e-03)), SET(-1.66666666666666324348e-01));
    Real sine = FMA(MUL(x, z), s, x);
    Real c = FMA(z, SET(-1.13596475577881948265e-11), SET(2.08757232129817482790e-09));
    c = FMA(z, FMA(z, c, SET(-2.75573143513906633035e-07)), SET(2.48015872894767294178e-05));
    c = FMA(z, FMA(z, c, SET(-1.38888888888741095749e-03)), SET(4.16666666666666019037e-02));
    Real cosine = FMA(MUL(z, z), c, FMA(z, SET(-0.5), SET(1.0)));
    /* a quarter turn swaps the two and changes one sign, half a turn changes both */
    __mmask8 swap = _mm512_movepi64_mask(second);
    Real sign = _mm512_and_pd(_mm512_castsi512_pd(_mm512_slli_epi64(second, 1)), SET(-0.0));
    radius = _mm512_xor_pd(radius, sign);
    Real along = _mm512_mask_mov_pd(cosine, swap, _mm512_xor_pd(sine, SET(-0.0)));
    Real across = _mm512_mask_mov_pd(sine, swap, cosine);
    return (Pair){MUL(radius, along), MUL(radius, across)};
}

static inline uint64_t absorb(uint64_t state, uint64_t word) {
    uint64_t z = (state ^ word) + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

typedef struct { State state; Real e_left, e_right, h_left, h_right, s_left, s_right; } Lanes;

/* Eight lanes from `first` on, numbered replica by replica and pair by pair; the last stands in for those beyond it. */
static inline Lanes open_lanes(const double *h, const double *sigma, const double *start, long modes, long first,
                               long last, uint64_t seed) {
    uint64_t words[4][8];
    double parts[6][8];
    long pairs = (modes + 1) / 2;
    for (int i = 0; i < 8; i++) {
        long lane = first + i < last ? first + i : last, replica = lane / pairs, pair = lane % pairs;
        long left = 2 * pair, right = left + 1 < modes ? left + 1 : left;
        for (int k = 0; k < 4; k++) words[k][i] = absorb(absorb(absorb(k, seed), replica), pair);
        parts[0][i] = start[left], parts[1][i] = start[right];
        parts[2][i] = h[left], parts[3][i] = h[right];
        parts[4][i] = sigma[left], parts[5][i] = sigma[right];
    }
    return (Lanes){{_mm512_loadu_si512(words[0]), _mm512_loadu_si512(words[1]), _mm512_loadu_si512(words[2]),
                    _mm512_loadu_si512(words[3])},
                   _mm512_loadu_pd(parts[0]), _mm512_loadu_pd(parts[1]), _mm512_loadu_pd(parts[2]),
                   _mm512_loadu_pd(parts[3]), _mm512_loadu_pd(parts[4]), _mm512_loadu_pd(parts[5])};
}

static inline void step(Lanes *at, double rate) {
    Pair z = normal_pair(&at->state);
    Real left = MUL(SET(rate), at->h_left), right = MUL(SET(rate), at->h_right);
    at->e_left = FMA(SUB(SET(1.0), left), at->e_left, MUL(MUL(left, at->s_left), z.left));
    at->e_right = FMA(SUB(SET(1.0), right), at->e_right, MUL(MUL(right, at->s_right), z.right));
}

static inline void close_lanes(const Lanes *at, long modes, long first, long last, double *error) {
    double left[8], right[8];
    _mm512_storeu_pd(left, at->e_left);
    _mm512_storeu_pd(right, at->e_right);
    long pairs = (modes + 1) / 2;
    for (int i = 0; i < 8 && first + i <= last; i++) {
        double *out = error + (first + i) / pairs * modes + 2 * ((first + i) % pairs);
        out[0] = left[i];
        if (2 * ((first + i) % pairs) + 1 < modes) out[1] = right[i];
    }
}

/* Rows of `error` (replicas, modes) from `begin` to `end`, and their excess risk. */
void run(const double *h, const double *sigma, const double *start, const double *rates, long modes, long steps,
         long begin, long end, uint64_t seed, double *error, double *risk) {
    long pairs = (modes + 1) / 2, last = end * pairs - 1;
    for (long first = begin * pairs; first <= last; first += 16) {
        Lanes one = open_lanes(h, sigma, start, modes, first, last, seed);
        Lanes two = open_lanes(h, sigma, start, modes, first + 8, last, seed);
        for (long t = 0; t < steps; t++) {
            step(&one, rates[t]);
            step(&two, rates[t]);
        }
        close_lanes(&one, modes, first, last, error);
        close_lanes(&two, modes, first + 8, last, error);
    }
    for (long r = begin; r < end; r++) {
        double total = 0.0;
        for (long j = 0; j < modes; j++) total += 0.5 * h[j] * error[r * modes + j] * error[r * modes + j];
        risk[r] = total;
    }
}
