/* Vectors of doubles as wide as the target has them: AVX-512, AVX2, 64-bit Arm, or pairs that the compiler breaks up. */
#include <math.h>
#include <stdint.h>

#if defined __AVX512F__
#include <immintrin.h>
#define WIDTH 8
#elif defined __AVX2__ && defined __FMA__
#include <immintrin.h>
#define WIDTH 4
#else
#define WIDTH 2
#ifdef __aarch64__
#include <arm_neon.h>
#endif
#endif

typedef double Real __attribute__((vector_size(8 * WIDTH)));
typedef int64_t Word __attribute__((vector_size(8 * WIDTH)));
typedef uint64_t Bits __attribute__((vector_size(8 * WIDTH)));

#define INLINE static inline __attribute__((always_inline))
#define SET(x) ((Real){0} + (x))

#if WIDTH == 8
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#define ROOT(a) _mm512_sqrt_pd(a)
#define MAX(a, b) _mm512_max_pd(a, b)
#define MIN(a, b) _mm512_min_pd(a, b)
#define ANY(mask) (_mm512_test_epi64_mask((__m512i)(mask), (__m512i)(mask)) != 0)
#elif WIDTH == 4
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)
#define ROOT(a) _mm256_sqrt_pd(a)
#define MAX(a, b) _mm256_max_pd(a, b)
#define MIN(a, b) _mm256_min_pd(a, b)
#define ANY(mask) (_mm256_movemask_pd((__m256d)(mask)) != 0)
#elif defined __aarch64__
#define FMA(a, b, c) ((Real)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#define ROOT(a) ((Real)vsqrtq_f64((float64x2_t)(a)))
#define MAX(a, b) ((Real)vmaxnmq_f64((float64x2_t)(a), (float64x2_t)(b)))
#define MIN(a, b) ((Real)vminnmq_f64((float64x2_t)(a), (float64x2_t)(b)))
#define ANY(mask) (((mask)[0] | (mask)[1]) != 0)
#else
INLINE Real FMA(Real a, Real b, Real c) { return (Real){fma(a[0], b[0], c[0]), fma(a[1], b[1], c[1])}; }
INLINE Real ROOT(Real a) { return (Real){sqrt(a[0]), sqrt(a[1])}; }
INLINE Real MAX(Real a, Real b) { return (Real){a[0] > b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1]}; }
INLINE Real MIN(Real a, Real b) { return (Real){a[0] < b[0] ? a[0] : b[0], a[1] < b[1] ? a[1] : b[1]}; }
#define ANY(mask) (((mask)[0] | (mask)[1]) != 0)
#endif

/* Lanes of a where the mask has ones, of b where it has zeros. */
INLINE Real choose(Word mask, Real a, Real b) { return (Real)((mask & (Word)a) | (~mask & (Word)b)); }

/* Whole numbers below 2^84 of two halves that lie each in the digits of a double. */
INLINE Real to_real(Bits whole) {
    Real high = (Real)((whole >> 32) | 0x4530000000000000u), low = (Real)((whole & 0xffffffffu) | 0x4330000000000000u);
    return (high - 0x1.00000001p84) + low;
}

INLINE Real load(const double *from) {
    Real value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(double *to, Real value) { __builtin_memcpy(to, &value, sizeof value); }
