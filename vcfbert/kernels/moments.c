/* The mean and variance of rows: imputed.py. */
#include "array.h"

int64_t vcfbert_moments(const Array *values, const Array *mean, const Array *variance) {
    int64_t n_rows = values->shape[0], m = values->shape[1];
    for (int64_t row = 0; row < n_rows; row++) {
        const float *value = (const float *)values->data + row * m;
        double total = 0.0, squares = 0.0;
        for (int64_t i = 0; i < m; i++) total += value[i];
        double centre = m > 0 ? total / (double)m : 0.0;
        for (int64_t i = 0; i < m; i++) squares += (value[i] - centre) * (value[i] - centre);
        ((double *)mean->data)[row] = centre;
        ((double *)variance->data)[row] = m > 0 ? squares / (double)m : 0.0;
    }
    return DONE;
}
