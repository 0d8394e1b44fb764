/* Mean logarithms of the slopes along orbits of x' = x (r - x)^2, r = 1 + q: as many orbits to a register as it holds,
   four registers at a time so that one hides the latency of the others, products renormalised every sixteen steps.
   Every step of every orbit is taken. */
#include "vectors.h"

#define GROUPS 4
#define STRIDE 16

INLINE Real split(Real product, Word *total) {
    Word power = (((Word)product >> 52) & 2047) - 1023;
    *total += power;
    return product * (Real)((1023 - power) << 52);
}

INLINE void step(Real *x, Real r, Real roof, Real *along, Real *across) {
    Real rest = r - *x;
    *along *= rest * FMA(SET(-3.0), *x, r);
    *across *= 2.0 - rest;
    *x = MIN(*x * (rest * rest), roof);
}

/* count is a multiple of WIDTH * GROUPS */
void exponents(const double *q, double start, int64_t transient, int64_t steps, int64_t count, double *along,
               double *across) {
    for (int64_t first = 0; first < count; first += WIDTH * GROUPS) {
        Real x[GROUPS], r[GROUPS], roof[GROUPS], up[GROUPS] = {{0}}, out[GROUPS] = {{0}};
        Word up_power[GROUPS] = {{0}}, out_power[GROUPS] = {{0}};
        for (int g = 0; g < GROUPS; g++) {
            Real value = load(q + first + g * WIDTH);
            x[g] = SET(start);
            r[g] = 1.0 + value;
            roof[g] = (2.0 + value) * (1.0 - 0x1p-52);
        }
        for (int64_t t = -transient; t < steps;) {
            if (t == 0 || t == -transient)
                for (int g = 0; g < GROUPS; g++) {
                    up[g] = out[g] = SET(1.0);
                    up_power[g] = out_power[g] = (Word){0};
                }
            int64_t left = (t < 0 ? 0 : steps) - t;
            int64_t taken = left < STRIDE ? left : STRIDE;
            for (int64_t k = 0; k < taken; k++)
                for (int g = 0; g < GROUPS; g++) step(&x[g], r[g], roof[g], &up[g], &out[g]);
            for (int g = 0; g < GROUPS; g++) {
                up[g] = split(up[g], &up_power[g]);
                out[g] = split(out[g], &out_power[g]);
            }
            t += taken;
        }
        for (int g = 0; g < GROUPS; g++)
            for (int lane = 0; lane < WIDTH; lane++) {
                int64_t i = first + g * WIDTH + lane;
                along[i] = (log(fabs(up[g][lane])) + up_power[g][lane] * log(2.0)) / steps;
                across[i] = 2.0 * (log(fabs(out[g][lane])) + out_power[g][lane] * log(2.0)) / steps;
            }
    }
}
