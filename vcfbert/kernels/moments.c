/* The mean and variance of rows: imputed.py. */
#include "moments.h"

int64_t vcfbert_moments(const Array *values, const Array *mean, const Array *variance) {
    int64_t n_rows = values->shape[0], m = values->shape[1];
    const float *value = values->data;
    double *means = mean->data, *variances = variance->data;
    for (int64_t row = 0; row < n_rows; row++) row_moments(value + row * m, m, means + row, variances + row);
    return DONE;
}
