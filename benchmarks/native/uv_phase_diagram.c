/* The uv phase diagram without target in AVX-512, 8 * VECTORS cells abreast, which share one exit.

   S' = S (c - 3 + S)^2, c' = c (1 + S). Every STRIDE steps: who passed 16 takes these steps once more and counts them;
   with exits, a block whose cells all diverged or froze is done. The peak of the sharpness takes a root in
   every step; two entries leave it out. */

#include <immintrin.h>
#include <math.h>

typedef __m512d V;
#define SET _mm512_set1_pd
#define INLINE static inline __attribute__((always_inline))
#define STRIDE 8

INLINE void advance(V *s, V *c) {
    V rest = _mm512_add_pd(_mm512_sub_pd(*c, SET(3.0)), *s);
    *c = _mm512_fmadd_pd(*c, *s, *c);
    *s = _mm512_mul_pd(*s, _mm512_mul_pd(rest, rest));
}

INLINE void counted(V *s, V *c, V *peak, V *age) {
    advance(s, c);
    *peak = _mm512_max_pd(*s, *peak);
    *age = _mm512_mask_add_pd(*age, _mm512_cmp_pd_mask(*peak, SET(16.0), _CMP_LT_OQ), *age, SET(1.0));
}

INLINE V twice_sharpness(V s, V c) {
    V l = _mm512_sub_pd(SET(4.0), c);
    return _mm512_add_pd(l, _mm512_sqrt_pd(_mm512_fmadd_pd(SET(12.0), s, _mm512_mul_pd(l, l))));
}

INLINE void run(const int VECTORS, const int exits, const int roots, long cells, const double *height,
                const double *gap, long steps, double *peak, double *sharpness, double *divergence_step,
                double *peak_sharpness) {
    for (long first = 0; first < cells; first += 8 * VECTORS) {
        V s[8], c[8], p[8], top[8], age[8];
        for (int w = 0; w < VECTORS; w++) {
            s[w] = p[w] = _mm512_loadu_pd(height + first + 8 * w);
            c[w] = _mm512_loadu_pd(gap + first + 8 * w);
            age[w] = _mm512_setzero_pd();
            if (roots) top[w] = twice_sharpness(s[w], c[w]);
        }
        for (long t = 0; t < steps; t += STRIDE) {
            V s0[8], c0[8], p0[8];
            unsigned busy = 0;
            for (int w = 0; w < VECTORS; w++) s0[w] = s[w], c0[w] = c[w], p0[w] = p[w];
            _Pragma("GCC unroll 8") for (int k = 0; k < STRIDE; k++)
                _Pragma("GCC unroll 8") for (int w = 0; w < VECTORS; w++) {
                    advance(&s[w], &c[w]);
                    p[w] = _mm512_max_pd(s[w], p[w]);
                    if (roots) top[w] = _mm512_max_pd(twice_sharpness(s[w], c[w]), top[w]);
                }
            for (int w = 0; w < VECTORS; w++) {
                __mmask8 gone = _mm512_cmp_pd_mask(p[w], SET(16.0), _CMP_GE_OQ);
                __mmask8 before = _mm512_cmp_pd_mask(p0[w], SET(16.0), _CMP_GE_OQ);
                if (gone != before) {
                    V old = p0[w], count = SET((double)t);
                    for (int k = 0; k < STRIDE; k++) counted(&s0[w], &c0[w], &old, &count);
                    age[w] = _mm512_mask_mov_pd(age[w], gone & ~before, count);
                }
                V l = _mm512_sub_pd(SET(4.0), c[w]);
                __mmask8 frozen = _mm512_mask_cmp_pd_mask(
                    _mm512_cmp_pd_mask(l, SET(2.0), _CMP_LT_OQ), s[w],
                    _mm512_mul_pd(_mm512_mul_pd(l, l), SET(0x1p-58)), _CMP_LE_OQ);
                busy |= (unsigned char)~(gone | frozen);
            }
            if (exits && !busy) break;
        }
        for (int w = 0; w < VECTORS; w++) {
            V now = _mm512_mul_pd(SET(0.5), twice_sharpness(s[w], c[w]));
            __mmask8 gone = _mm512_cmp_pd_mask(p[w], SET(16.0), _CMP_GE_OQ);
            _mm512_storeu_pd(peak + first + 8 * w, _mm512_mask_mov_pd(p[w], gone, SET(INFINITY)));
            _mm512_storeu_pd(sharpness + first + 8 * w, _mm512_mask_mov_pd(now, gone, SET(INFINITY)));
            _mm512_storeu_pd(divergence_step + first + 8 * w,
                             _mm512_mask_add_pd(SET(-1.0), gone, age[w], SET(1.0)));
            if (roots)
                _mm512_storeu_pd(peak_sharpness + first + 8 * w,
                                 _mm512_mask_mov_pd(_mm512_mul_pd(SET(0.5), top[w]), gone, SET(INFINITY)));
        }
    }
}

/* The numbers of vectors that were fastest. Cells: a multiple of 8 * vectors; steps: of STRIDE. */

#define ENTRY(name, VECTORS, exits, roots)                                                                             \
    void name(long cells, const double *height, const double *gap, long steps, double *peak, double *sharpness,        \
              double *divergence_step, double *peak_sharpness) {                                                       \
        run(VECTORS, exits, roots, cells, height, gap, steps, peak, sharpness, divergence_step, peak_sharpness);       \
    }

ENTRY(with_exits, 4, 1, 1)
ENTRY(without_exits, 4, 0, 1)
ENTRY(with_exits_no_roots, 4, 1, 0)
ENTRY(without_exits_no_roots, 6, 0, 0)
