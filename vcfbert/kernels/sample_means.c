/* Means over sampled phasings: sample_means.py. Sites are done few at a time, so that the output stays in the cache. */
#include "array.h"

enum { SITES = 32 };

/* Means of one sample at n <= SITES sites, all nearest to one key site. */
typedef struct {
    float first[SITES], second[SITES], both[SITES];
} Means;

/* Adds one phasing, whose two haplotypes have ALT with the probabilities p and q [n]. `share`: of each phasing. */
static void add_phasing(const float *restrict p, const float *restrict q, int64_t n, float share,
                        Means *restrict sums) {
    for (int64_t i = 0; i < n; i++) {
        sums->first[i] += share * p[i];
        sums->second[i] += share * q[i];
        sums->both[i] += share * p[i] * q[i];
    }
}

int64_t vcfbert_fill_means(const Array *keys, const Array *phasings, const Array *first, const Array *haplotype,
                           const Array *genotype) {
    const Array *dosage = phasings, *number = phasings + 1, *flipped = phasings + 2, *samples = phasings + 3;
    const int64_t l = dosage->shape[1], n_phasings = number->shape[0], n = number->shape[1];
    const int64_t t = flipped->shape[1], n_samples = haplotype->shape[1];
    const float *alt = dosage->data, share = 1.0f / (float)n_phasings;
    const int64_t *haplotypes = number->data, *place = samples->data, *bounds = first->data;
    for (int64_t k = 0; k < keys->shape[0]; k++) {
        const int64_t key = ((const int64_t *)keys->data)[k], last = bounds[key + 1];
        for (int64_t start = bounds[key]; start < last; start += SITES) {
            const int64_t n_sites = last - start < SITES ? last - start : SITES;
            for (int64_t sample = 0; sample < n; sample++) {
                Means sums = {{0}, {0}, {0}};
                for (int64_t s = 0; s < n_phasings; s++) {
                    const int64_t *pair = haplotypes + (s * n + sample) * 2;
                    const int flip = ((const uint8_t *)flipped->data)[(s * t + key) * n + sample];
                    add_phasing(alt + pair[flip] * l + start, alt + pair[1 - flip] * l + start, n_sites, share, &sums);
                }
                float *to = (float *)haplotype->data + (start * n_samples + place[sample]) * 2;
                for (int64_t i = 0; i < n_sites; i++) {
                    to[i * n_samples * 2] = sums.first[i];
                    to[i * n_samples * 2 + 1] = sums.second[i];
                }
                if (genotype->shape[0] == 0) continue;
                to = (float *)genotype->data + (start * n_samples + place[sample]) * 3;
                for (int64_t i = 0; i < n_sites; i++) {
                    const float both = sums.both[i], either = sums.first[i] + sums.second[i] - both;
                    to[i * n_samples * 3] = 1.0f - either;
                    to[i * n_samples * 3 + 1] = either - both;
                    to[i * n_samples * 3 + 2] = both;
                }
            }
        }
    }
    return DONE;
}
