/* The mean and variance of a row of numbers, in two passes. */
#ifndef VCFBERT_MOMENTS_H
#define VCFBERT_MOMENTS_H

#include "array.h"

static inline void row_moments(const float *value, int64_t m, double *mean, double *variance) {
    double total = 0.0, squares = 0.0;
    for (int64_t i = 0; i < m; i++) total += value[i];
    double centre = m > 0 ? total / (double)m : 0.0;
    for (int64_t i = 0; i < m; i++) squares += (value[i] - centre) * (value[i] - centre);
    *mean = centre;
    *variance = m > 0 ? squares / (double)m : 0.0;
}

#endif
