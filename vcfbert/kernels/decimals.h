/* Numbers as they are written: rounded to a number of significant digits, as C's %g and Python's format do. */
#ifndef VCFBERT_DECIMALS_H
#define VCFBERT_DECIMALS_H

#include <math.h>

#include "array.h"

static const double POWERS_OF_TEN[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14,
                                       1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* digits x 10^-scale, below 10 and without trailing zeros. */
typedef struct {
    int64_t digits;
    int scale;
} Decimal;

/* x 10^scale rounded half to even, exactly: x is a binary fraction. x < 1e6, scale <= 22 and x >= 1e-16. */
static inline int64_t scaled_exactly(double x, int scale) {
    int exponent;
    __extension__ typedef unsigned __int128 Wide;
    Wide whole = (Wide)ldexp(frexp(x, &exponent), 53);
    for (int i = 0; i < scale; i++) whole *= 10;
    int shift = 53 - exponent;
    Wide rest = whole & (((Wide)1 << shift) - 1), half = (Wide)1 << (shift - 1);
    int64_t digits = (int64_t)(whole >> shift);
    return digits + (rest > half || (rest == half && digits % 2 == 1));
}

/* 0 <= x < 10, with `significant` digits (at most 6). */
static inline Decimal decimal_of(double x, int significant) {
    Decimal number = {0, 0};
    if (x <= 0.0) return number;
    int shift = 0; /* numbers that small are rounding errors of others, and one more does not matter */
    while (x < 1e-15) x *= 1e15, shift += 15;
    int scale = significant - 1;
    while (x * POWERS_OF_TEN[scale - significant + 1] < 1.0) scale++;
    double product = x * POWERS_OF_TEN[scale];
    number.digits = (int64_t)product;
    double rest = product - (double)number.digits;
    if (fabs(rest - 0.5) > 1e-6) {
        number.digits += rest > 0.5;
    } else {
        number.digits = scaled_exactly(x, scale);
    }
    while (number.digits % 10 == 0) number.digits /= 10, scale--;
    number.scale = scale + shift;
    return number;
}

/* The double nearest to a decimal, for scales to 22. */
static inline double value_of(Decimal number) {
    double value = (double)number.digits;
    for (; number.scale > 22; number.scale -= 22) value /= POWERS_OF_TEN[22];
    return value / POWERS_OF_TEN[number.scale];
}

/* Writes a whole number >= 0; returns its end. */
static inline char *put_whole(char *out, int64_t number) {
    char reversed[20];
    int n = 0;
    do {
        reversed[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (n > 0) *out++ = reversed[--n];
    return out;
}

/* Writes a decimal as %g does; returns its end. */
static inline char *put_decimal(char *out, Decimal number) {
    char digits[20];
    int n = (int)(put_whole(digits, number.digits) - digits), exponent = n - 1 - number.scale;
    if (number.digits == 0 || exponent >= 0 || exponent < -4) {
        *out++ = digits[0];
        if (n > 1) *out++ = '.';
        for (int i = 1; i < n; i++) *out++ = digits[i];
    } else {
        *out++ = '0', *out++ = '.';
        for (int i = -1; i > exponent; i--) *out++ = '0';
        for (int i = 0; i < n; i++) *out++ = digits[i];
    }
    if (exponent >= -4 || number.digits == 0) return out;
    *out++ = 'e', *out++ = '-';
    if (exponent > -10) *out++ = '0';
    return put_whole(out, -exponent);
}

#endif
