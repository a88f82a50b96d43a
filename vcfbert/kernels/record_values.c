/* What the records of imputed sites say of their samples, in whole thousandths: record_values.py. */
#include <math.h>

#include "moments.h"

enum { ONE = 1000, HALF = 500, MAX_GQ = 99, NO_GQ = 100, NOT_PROBABILITIES = 1 };

static const float TOLERANCE = 0.0005f;

/* One call's arguments. l sites of n samples. */
typedef struct {
    int64_t n, n_haploid;
    const float *dosage;    /* [l, n, 2] */
    const int8_t *calls;    /* [l, n, 2] */
    const float *genotype;  /* [l, n, 3] or null */
    const float *loo;       /* [l, n, 2] or null */
    const uint8_t *haploid; /* [n] */
    const uint8_t *swapped; /* [l] */
    int16_t *hds;           /* [l, n, 2] */
    int16_t *two;           /* [l, n] */
    uint8_t *gq;            /* [l, n] or null */
    int64_t *total;         /* [l] */
    double *dr2, *er2;      /* [l] */
    float *value;           /* scratch [2 n] */
    double *scaled;         /* scratch [most sites of a record, n, 2] */
} Block;

static int16_t thousandths(float probability) {
    int32_t q = (int32_t)rintf(probability * (float)ONE);
    return (int16_t)(q < 0 ? 0 : q > ONE ? ONE : q);
}

static int16_t thousandths_of_double(double probability) {
    int32_t q = (int32_t)lrint(probability * (double)ONE);
    return (int16_t)(q < 0 ? 0 : q > ONE ? ONE : q);
}

static int is_typed(const int8_t *calls, int64_t m) {
    int any = 0;
    for (int64_t i = 0; i < m; i++) any |= calls[i] >= 0;
    return any;
}

/* Fills `value` [2 n] with a site's dosages, in which typed haplotypes have their alleles. */
static void with_calls(const Block *block, int64_t site, int typed, float *value) {
    int64_t m = 2 * block->n;
    const float *dosage = block->dosage + site * m;
    const int8_t *calls = block->calls + site * m;
    memcpy(value, dosage, (size_t)m * sizeof(float));
    for (int64_t i = 0; typed && i < m; i++)
        if (calls[i] >= 0) value[i] = (float)calls[i];
}

/* DR2: see estimated_r2 in imputed.py. Changes `value`. */
static double estimated_r2(const Block *block, float *value) {
    int64_t m = block->n_haploid > 0 ? 0 : 2 * block->n;
    for (int64_t i = 0; block->n_haploid > 0 && i < block->n; i++) {
        value[m++] = value[2 * i];
        if (!block->haploid[i]) value[m++] = value[2 * i + 1];
    }
    double p, variance;
    row_moments(value, m, &p, &variance);
    double expected = p * (1.0 - p), r2 = expected > 1e-9 ? variance / expected : 0.0;
    return r2 < 0.0 ? 0.0 : r2 > 1.0 ? 1.0 : r2;
}

/* ER2: see empirical_r2 in imputed.py. */
static double empirical_r2(const Block *block, int64_t site) {
    int64_t m = 2 * block->n;
    const float *x = block->loo + site * m;
    const int8_t *y = block->calls + site * m;
    double n = 0.0, x_sum = 0.0, y_sum = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        double x_mean = n > 0.0 ? x_sum / n : 0.0, y_mean = n > 0.0 ? y_sum / n : 0.0;
        for (int64_t i = 0; i < m; i++) {
            if (y[i] < 0 || !isfinite(x[i]) || (i % 2 == 1 && block->haploid[i / 2])) continue;
            if (pass == 0) {
                n++, x_sum += x[i], y_sum += y[i];
            } else {
                double dx = x[i] - x_mean, dy = y[i] - y_mean;
                xx += dx * dx, yy += dy * dy, xy += dx * dy;
            }
        }
    }
    double varies = (xx < yy ? xx : yy) / (n > 1.0 ? n : 1.0);
    return varies > 1e-12 ? xy * xy / (xx * yy) : NAN;
}

static uint8_t phred(double wrong) {
    if (wrong <= 1e-10) return MAX_GQ;
    long quality = lrint(-10.0 * log10(wrong > 1.0 ? 1.0 : wrong));
    return (uint8_t)(quality < 0 ? 0 : quality > MAX_GQ ? MAX_GQ : quality);
}

static uint8_t phred_of_float(float wrong) {
    if (wrong <= 1e-10f) return MAX_GQ;
    long quality = lrintf(-10.0f * log10f(wrong > 1.0f ? 1.0f : wrong));
    return (uint8_t)(quality < 0 ? 0 : quality > MAX_GQ ? MAX_GQ : quality);
}

/* GQ of two independent haplotypes, which carry ALT with `a` and `b`, called ALT n_alt times. */
static uint8_t independent_gq(double a, double b, int n_alt) {
    double none = (1.0 - a) * (1.0 - b), one = a * (1.0 - b) + b * (1.0 - a), two = a * b;
    return phred(n_alt == 0 ? one + two : n_alt == 1 ? none + two : none + one);
}

/* GQ of a biallelic record's samples. `value` [2 n] are the dosages, `hds` [2 n] what is written of them. */
static void biallelic_gq(const Block *block, int64_t site, const float *value, const int16_t *hds) {
    int64_t n = block->n;
    const int8_t *calls = block->calls + site * 2 * n;
    int swapped = block->swapped[site];
    for (int64_t i = 0; i < n; i++) {
        uint8_t *gq = block->gq + site * n + i;
        int known = (calls[2 * i] >= 0) + (calls[2 * i + 1] >= 0);
        float a = swapped ? 1.0f - value[2 * i] : value[2 * i];
        float b = swapped ? 1.0f - value[2 * i + 1] : value[2 * i + 1];
        int first = hds[2 * i] >= HALF, n_alt = first + (hds[2 * i + 1] >= HALF);
        if (block->haploid[i]) {
            *gq = calls[2 * i] >= 0 ? NO_GQ : phred(first ? 1.0f - a : a);
        } else if (known == 2) {
            *gq = NO_GQ;
        } else if (block->genotype != NULL && known == 0) { /* GP does not contain the known allele of a half call */
            const float *gp = block->genotype + (site * n + i) * 3;
            float none = gp[swapped ? 2 : 0], two = gp[swapped ? 0 : 2];
            *gq = phred_of_float(n_alt == 0 ? gp[1] + two : n_alt == 1 ? none + two : none + gp[1]);
        } else {
            *gq = independent_gq(a, b, n_alt);
        }
    }
}

/* Probabilities of two ALT alleles, rounded so that GP agrees with DS. Returns 0 if one is no probability. */
static int two_alts(const Block *block, int64_t site, const int16_t *hds) {
    int64_t n = block->n;
    int16_t *two = block->two + site * n;
    for (int64_t i = 0; i < n; i++) two[i] = (int16_t)((hds[2 * i] * hds[2 * i + 1] + HALF) / ONE);
    if (block->genotype == NULL) return 1;
    const float *gp = block->genotype + site * n * 3;
    const int8_t *calls = block->calls + site * 2 * n;
    for (int64_t i = 0; i < n; i++) {
        float p = gp[3 * i + 2];
        if (!(p >= -TOLERANCE && p <= 1.0f + TOLERANCE)) return 0;
        int ds = hds[2 * i] + hds[2 * i + 1];
        if (calls[2 * i] < 0 && calls[2 * i + 1] < 0) {
            /* The written orientation's P(two ALT) is the panel's P(no ALT) at an exchanged site. */
            two[i] = (int16_t)(thousandths(p) + (block->swapped[site] ? ds - ONE : 0));
        }
        int low = ds > ONE ? ds - ONE : 0, high = ds / 2;
        two[i] = (int16_t)(two[i] > high ? high : two[i] < low ? low : two[i]);
    }
    return 1;
}

static int biallelic(const Block *block, int64_t site, int typed) {
    int64_t n = block->n;
    float *value = block->value;
    int16_t *hds = block->hds + site * 2 * n;
    int invalid = 0, swapped = block->swapped[site];
    with_calls(block, site, typed, value);
    for (int64_t i = 0; i < 2 * n; i++) invalid |= !(value[i] >= -TOLERANCE && value[i] <= 1.0f + TOLERANCE);
    if (invalid) return NOT_PROBABILITIES;
    for (int64_t i = 0; i < 2 * n; i++) hds[i] = thousandths(value[i]);
    for (int64_t i = 0; swapped && i < 2 * n; i++) hds[i] = (int16_t)(ONE - hds[i]);
    int32_t total = 0;
    for (int64_t i = 0; block->n_haploid > 0 && i < n; i++) hds[2 * i + 1] *= !block->haploid[i];
    for (int64_t i = 0; i < 2 * n; i++) total += hds[i];
    block->total[site] = total;
    if (!two_alts(block, site, hds)) return NOT_PROBABILITIES;
    if (block->gq != NULL) biallelic_gq(block, site, value, hds);
    block->dr2[site] = estimated_r2(block, value);
    return DONE;
}

/* The allele of haplotype h (0 or 1) of sample i that is written: the most probable, ALT before REF. */
static int64_t called(const Block *block, int64_t start, int64_t k, int64_t i, int h) {
    int64_t best = 1, sum = 0;
    int16_t highest = -1;
    for (int64_t alt = 0; alt < k; alt++) {
        int16_t q = block->hds[((start + alt) * block->n + i) * 2 + h];
        sum += q;
        if (q > highest) highest = q, best = alt + 1;
    }
    return ONE - sum > highest ? 0 : best;
}

/* Probability that haplotype h of sample i has the allele, of the unrounded dosages. */
static double chance(const Block *block, int64_t k, int64_t i, int h, int64_t allele) {
    double p = 0.0;
    if (allele > 0) {
        p = block->scaled[((allele - 1) * block->n + i) * 2 + h];
    } else {
        for (int64_t alt = 0; alt < k; alt++) p += block->scaled[(alt * block->n + i) * 2 + h];
        p = 1.0 - p;
    }
    return p < 0.0 ? 0.0 : p > 1.0 ? 1.0 : p;
}

/* GQ of a multiallelic record, in the row of its first site. */
static void multiallelic_gq(const Block *block, int64_t start, int64_t k) {
    int64_t n = block->n;
    for (int64_t i = 0; i < n; i++) {
        int own = 1, ploidy = block->haploid[i] ? 1 : 2;
        for (int64_t alt = 0; alt < k; alt++)
            for (int h = 0; h < ploidy; h++) own &= block->calls[((start + alt) * n + i) * 2 + h] >= 0;
        int64_t first = called(block, start, k, i, 0);
        double right = chance(block, k, i, 0, first);
        if (ploidy == 2) {
            int64_t second = called(block, start, k, i, 1);
            right *= chance(block, k, i, 1, second);
            if (first != second) right += chance(block, k, i, 0, second) * chance(block, k, i, 1, first);
        }
        block->gq[start * n + i] = own ? NO_GQ : phred(1.0 - right);
    }
}

/* k sites as one record. Dosages of a haplotype that sum to more than 1 are rescaled to 1. */
static int multiallelic(const Block *block, int64_t start, int64_t k) {
    int64_t n = block->n, m = 2 * n;
    int invalid = 0;
    for (int64_t alt = 0; alt < k; alt++) {
        with_calls(block, start + alt, 1, block->value);
        for (int64_t i = 0; i < m; i++) block->scaled[alt * m + i] = block->value[i];
    }
    for (int64_t i = 0; i < m; i++) {
        double sum = 0.0;
        for (int64_t alt = 0; alt < k; alt++) sum += block->scaled[alt * m + i];
        double share = sum <= 1.0 ? 1.0 : 1.0 / sum;
        for (int64_t alt = 0; alt < k; alt++) block->scaled[alt * m + i] *= share;
    }
    for (int64_t i = 0; i < k * m; i++)
        invalid |= !(block->scaled[i] >= -(double)TOLERANCE && block->scaled[i] <= 1.0 + (double)TOLERANCE);
    if (invalid) return NOT_PROBABILITIES;
    for (int64_t alt = 0; alt < k; alt++) {
        int64_t total = 0;
        int16_t *hds = block->hds + (start + alt) * m;
        for (int64_t i = 0; i < m; i++) {
            block->value[i] = (float)block->scaled[alt * m + i];
            hds[i] = i % 2 == 1 && block->haploid[i / 2] ? 0 : thousandths_of_double(block->scaled[alt * m + i]);
            total += hds[i];
        }
        block->total[start + alt] = total;
        block->dr2[start + alt] = estimated_r2(block, block->value);
        memset(block->two + (start + alt) * n, 0, (size_t)n * sizeof(int16_t));
    }
    if (block->gq != NULL) multiallelic_gq(block, start, k);
    return DONE;
}

/* Counts a biallelic record's genotypes by their probability. */
static void count_certainty(const Block *block, int64_t site, int64_t *counts) {
    int64_t certain = 0;
    const int16_t *hds = block->hds + site * 2 * block->n, *two = block->two + site * block->n;
    for (int64_t i = 0; i < block->n; i++) {
        int a = hds[2 * i], b = hds[2 * i + 1], both = block->haploid[i] ? 0 : two[i];
        if (a + b == 0) {
            certain++;
        } else if ((a >= HALF) != (b >= HALF)) {
            counts[a + b - 2 * both]++;
        } else {
            counts[a >= HALF ? both : ONE - a - b + both]++;
        }
    }
    counts[ONE] += certain;
}

static int record(const Block *block, int64_t start, int64_t k, double min_dr2, uint8_t *typed, uint8_t *kept) {
    int64_t m = 2 * block->n;
    int any = 0, high = 0;
    for (int64_t site = start; site < start + k; site++) {
        typed[site] = (uint8_t)is_typed(block->calls + site * m, m);
        any |= typed[site];
    }
    int status = k == 1 ? biallelic(block, start, any) : multiallelic(block, start, k);
    if (status != DONE) return status;
    for (int64_t site = start; site < start + k; site++) {
        block->er2[site] = typed[site] && block->loo != NULL ? empirical_r2(block, site) : NAN;
        high |= block->dr2[site] >= min_dr2;
    }
    *kept = any || high;
    return DONE;
}

int64_t vcfbert_round_records(const Array imputed[4], const Array *first, const Array *haploid, const Array *swapped,
                              double min_dr2, const Array values[8], const Array *certainty) {
    int64_t n_records = first->shape[0] - 1, n = imputed[0].shape[1];
    const int64_t *begin = first->data;
    size_t m = 2 * (size_t)n + 1, most = (size_t)largest_part(begin, n_records);
    void *scratch = malloc(m * sizeof(float) + most * m * sizeof(double));
    if (scratch == NULL) return OUT_OF_MEMORY;
    int64_t n_haploid = 0;
    for (int64_t i = 0; i < n; i++) n_haploid += ((const uint8_t *)haploid->data)[i];
    Block block = {
        .n = n, .n_haploid = n_haploid, .dosage = imputed[0].data, .calls = imputed[1].data,
        .genotype = imputed[2].shape[0] > 0 ? imputed[2].data : NULL,
        .loo = imputed[3].shape[0] > 0 ? imputed[3].data : NULL,
        .haploid = haploid->data, .swapped = swapped->data,
        .hds = values[0].data, .two = values[1].data, .gq = values[2].shape[0] > 0 ? values[2].data : NULL,
        .total = values[3].data, .dr2 = values[4].data, .er2 = values[5].data,
        .scaled = scratch, .value = (float *)((double *)scratch + most * m),
    };
    uint8_t *typed = values[6].data, *kept = values[7].data;
    int status = DONE;
    for (int64_t r = 0; r < n_records && status == DONE; r++) {
        status = record(&block, begin[r], begin[r + 1] - begin[r], min_dr2, typed, kept + r);
        if (status == DONE && kept[r] && begin[r + 1] - begin[r] == 1 && !typed[begin[r]])
            count_certainty(&block, begin[r], certainty->data);
    }
    free(scratch);
    return status;
}
