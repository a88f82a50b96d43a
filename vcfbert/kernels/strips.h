/* Products and powers of activations that are kept in strips: COLUMNS sites side by side, one row a feature. */
#ifndef VCFBERT_STRIPS_H
#define VCFBERT_STRIPS_H

#include "vectors.h"

enum { ROWS = 4, COLUMNS = 2 * WIDTH }; /* of a tile of a product */

/* Of NaN they give the second operand. */
#if defined(__AVX__)
#include <immintrin.h>
#define LARGER(a, b) ((Vector)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define SMALLER(a, b) ((Vector)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define NEAREST(x) ((Mask)_mm256_cvtps_epi32((__m256)(x)))
#else
#define CHOSEN(mask, a, b) ((Vector)(((Mask)(a) & (mask)) | ((Mask)(b) & ~(mask))))
#define LARGER(a, b) CHOSEN((a) > (b), a, b)
#define SMALLER(a, b) CHOSEN((a) < (b), a, b)
/* x >= -126; conversion rounds towards 0. The smallest integer, of NaN, wraps around. */
#define NEAREST(x) ((Mask)((Bits)__builtin_convertvector((x) + 126.5f, Mask) - 126u))
#endif

/* 2^x for x in [-126, 126], and at those bounds beyond them. The polynomial has the least relative error of its degree
 * between -1/2 and 1/2; with rounding it is below 3e-7. */
INLINED void power_of_2(Vector *x) {
    Vector limited = SMALLER((Vector){0} + 126.0f, LARGER((Vector){0} - 126.0f, *x)); /* of NaN: NaN */
    Mask whole = NEAREST(limited);
    Vector rest = limited - __builtin_convertvector(whole, Vector);
    Vector power = rest * 1.32764694e-03f + 9.67554165e-03f;
    power = power * rest + 5.55071328e-02f;
    power = power * rest + 2.40221197e-01f;
    power = power * rest + 6.93146967e-01f;
    power = power * rest + 1.00000007f;
    *x = power * (Vector)(((Bits)whole + 127u) << 23);
}

/* 1 / (1 + 2^-x). */
INLINED void squash(Vector *x) {
    Vector inverse = -*x;
    power_of_2(&inverse);
    *x = 1.0f / (inverse + 1.0f);
}

/* sum[r] += sum over k of a[r * row + k * step] b[k], for `b` [n_k, COLUMNS]. */
INLINED void add_products(const int n_rows, Vector sum[][2], const float *a, int64_t row, int64_t step, const float *b,
                          int64_t n_k) {
    for (int64_t k = 0; k < n_k; k++) {
        Vector left = *(const Vector *)(b + k * COLUMNS), right = *(const Vector *)(b + k * COLUMNS + WIDTH);
        for (int r = 0; r < n_rows; r++) {
            Vector value = (Vector){0} + a[r * row + k * step];
            sum[r][0] += value * left;
            sum[r][1] += value * right;
        }
    }
}

/* Copies rows [l, dims] into strips [ceil(l / COLUMNS), dims, COLUMNS]. */
INLINED void put_in_strips(const float *rows, int64_t l, int64_t dims, float *strips) {
    for (int64_t i = 0; i < l; i++)
        for (int64_t c = 0; c < dims; c++)
            strips[(i / COLUMNS * dims + c) * COLUMNS + i % COLUMNS] = rows[i * dims + c];
}

/* Copies strips into rows. */
INLINED void put_in_rows(const float *strips, int64_t l, int64_t dims, float *rows) {
    for (int64_t i = 0; i < l; i++)
        for (int64_t c = 0; c < dims; c++)
            rows[i * dims + c] = strips[(i / COLUMNS * dims + c) * COLUMNS + i % COLUMNS];
}

#endif
