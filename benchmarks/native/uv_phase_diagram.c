/* The uv phase diagram without target, VECTORS vectors of cells abreast, which share one exit.

   S' = S (c - 3 + S)^2, c' = c (1 + S). Every STRIDE steps: who passed 16 takes these steps once more and counts them;
   with exits, a block whose cells all diverged or froze is done. The peak of the sharpness takes a root in
   every step; two entries leave it out. */
#include "vectors.h"

#define STRIDE 8
#define MOST 6

INLINE void advance(Real *s, Real *c) {
    Real rest = (*c - 3.0) + *s;
    *c = FMA(*c, *s, *c);
    *s = *s * (rest * rest);
}

INLINE void counted(Real *s, Real *c, Real *peak, Real *age) {
    advance(s, c);
    *peak = MAX(*s, *peak);
    *age += choose(*peak < 16.0, SET(1.0), SET(0.0));
}

INLINE Real twice_sharpness(Real s, Real c) {
    Real l = 4.0 - c;
    return l + ROOT(FMA(SET(12.0), s, l * l));
}

INLINE void run(const int VECTORS, const int exits, const int roots, long cells, const double *height,
                const double *gap, long steps, double *peak, double *sharpness, double *divergence_step,
                double *peak_sharpness) {
    for (long first = 0; first < cells; first += WIDTH * VECTORS) {
        Real s[MOST], c[MOST], p[MOST], top[MOST], age[MOST];
        for (int w = 0; w < VECTORS; w++) {
            s[w] = p[w] = load(height + first + WIDTH * w);
            c[w] = load(gap + first + WIDTH * w);
            age[w] = SET(0.0);
            if (roots) top[w] = twice_sharpness(s[w], c[w]);
        }
        for (long t = 0; t < steps; t += STRIDE) {
            Real s0[MOST], c0[MOST], p0[MOST];
            Word busy = {0};
            for (int w = 0; w < VECTORS; w++) s0[w] = s[w], c0[w] = c[w], p0[w] = p[w];
            _Pragma("GCC unroll 8") for (int k = 0; k < STRIDE; k++)
                _Pragma("GCC unroll 8") for (int w = 0; w < VECTORS; w++) {
                    advance(&s[w], &c[w]);
                    p[w] = MAX(s[w], p[w]);
                    if (roots) top[w] = MAX(twice_sharpness(s[w], c[w]), top[w]);
                }
            for (int w = 0; w < VECTORS; w++) {
                Word gone = p[w] >= 16.0, now_gone = gone & ~(p0[w] >= 16.0);
                if (ANY(now_gone)) {
                    Real old = p0[w], count = SET((double)t);
                    for (int k = 0; k < STRIDE; k++) counted(&s0[w], &c0[w], &old, &count);
                    age[w] = choose(now_gone, count, age[w]);
                }
                Real l = 4.0 - c[w];
                busy |= ~(gone | ((l < 2.0) & (s[w] <= l * l * 0x1p-58)));
            }
            if (exits && !ANY(busy)) break;
        }
        for (int w = 0; w < VECTORS; w++) {
            long at = first + WIDTH * w;
            Word gone = p[w] >= 16.0;
            store(peak + at, choose(gone, SET(INFINITY), p[w]));
            store(sharpness + at, choose(gone, SET(INFINITY), 0.5 * twice_sharpness(s[w], c[w])));
            store(divergence_step + at, choose(gone, age[w] + 1.0, SET(-1.0)));
            if (roots) store(peak_sharpness + at, choose(gone, SET(INFINITY), 0.5 * top[w]));
        }
    }
}

/* The numbers of vectors that were fastest. Cells: a multiple of WIDTH * vectors; steps: of STRIDE. */

#define ENTRY(name, VECTORS, exits, roots)                                                                             \
    void name(long cells, const double *height, const double *gap, long steps, double *peak, double *sharpness,        \
              double *divergence_step, double *peak_sharpness) {                                                       \
        run(VECTORS, exits, roots, cells, height, gap, steps, peak, sharpness, divergence_step, peak_sharpness);       \
    }

ENTRY(with_exits, 4, 1, 1)
ENTRY(without_exits, 4, 0, 1)
ENTRY(with_exits_no_roots, 4, 1, 0)
ENTRY(without_exits_no_roots, MOST, 0, 0)
