/* Samples pairs of copied haplotypes backwards from their exact posterior, and phased alleles given the pairs.
 *
 * Works on what the forward pass kept of each block; pair_forward.c defines A, N, O, Z, R, M and T. pair_hmm.py draws
 * the same random numbers for the same events. */
#include "pairs.h"

/* The next number of SplitMix64, uniform in [0, 1). */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    return (double)(split_mix(z) >> 11) * 0x1p-53;
}

/* Fills `masses` with A_l[i, j] of the block's first `n` sites, from A[i, j] = `start` at its start. */
static void pair_masses(const Block *block, const Factors *factors, float start, int64_t i, int64_t j, int64_t n,
                        float *masses) {
    int64_t width = block->width, row = block->max_classes, u = block->classes[i], v = block->classes[j];
    float prior_i = block->prior[i], prior_j = block->prior[j];
    /* N A[i, j], O[i, v], O[j, u] and Z[u, v]. */
    float neither = start, second = 0.0f, first = 0.0f, both = 0.0f;
    for (int64_t l = 0; l < n; l++) {
        const Factors *at = &factors[l];
        float e = at->emission[block->alleles[l * width + i] + block->alleles[l * width + j]];
        float moved = block->switched[l * row + u] + block->switched[l * row + v];
        neither *= at->keep * e;
        second = e * (at->keep * second + at->jump_one * block->unswitched[l * width + i]);
        first = e * (at->keep * first + at->jump_one * block->unswitched[l * width + j]);
        both = e * (at->keep * both + at->jump_one * moved + at->jump_both);
        masses[l] = neither + second * prior_j + prior_i * (first + both * prior_j);
    }
}

/* Mass of all pairs whose first haplotype is i after site l: R[i] + pi[i] M[u]. */
static float mass_at(const Block *block, int64_t l, int64_t i) {
    float switched = block->switched[(l + 1) * block->max_classes + block->classes[i]];
    return block->unswitched[(l + 1) * block->width + i] + block->prior[i] * switched;
}

/* The place at which the running sum of `masses` [k] exceeds `left`. */
static int64_t sampled(const float *masses, int64_t k, double left) {
    for (int64_t i = 0; i < k; i++) {
        left -= masses[i];
        if (left < 0.0) return i;
    }
    int64_t greatest = 0;  /* reached by rounding alone */
    for (int64_t i = 1; i < k; i++)
        if (masses[i] > masses[greatest]) greatest = i;
    return greatest;
}

/* The first haplotype at site l, whatever the second is. `random`: uniform in [0, 1). */
static int64_t sampled_first(const Block *block, const Scratch *scratch, int64_t l, double random) {
    float *masses = scratch->of_haplotype[0];
    for (int64_t i = 0; i < block->k; i++) masses[i] = mass_at(block, l, i);
    return sampled(masses, block->k, random * block->mass[l + 1]);
}

/* The second haplotype at site l given that the first is i. `matrix`: A at the block's start. */
static int64_t sampled_second(const Block *block, const Scratch *scratch, const float *matrix, int64_t l, int64_t i,
                              double random) {
    int64_t k = block->k, width = block->width, row = block->max_classes, n_classes = block->n_classes;
    float *restrict neither = scratch->of_class[0], *restrict second = scratch->of_class[1];
    float *restrict both = scratch->of_class[2], *restrict first = scratch->of_haplotype[0];
    float *restrict masses = scratch->of_haplotype[1], *restrict start = scratch->of_haplotype[2];
    const float *prior = block->prior;
    for (int64_t v = 0; v < n_classes; v++) neither[v] = 1.0f, second[v] = both[v] = 0.0f;
    row_of(matrix, width, i, start);
    memset(first, 0, sizeof(float) * k);
    for (int64_t s = 0; s <= l; s++) {
        const Factors *at = &scratch->factors[s];
        const uint8_t *alleles = block->alleles + s * width;
        const float *unswitched = block->unswitched + s * width, *switched = block->switched + s * row;
        float keep = at->keep, jump = at->jump_one, ref = at->emission[alleles[i]], alt = at->emission[alleles[i] + 1];
        float arriving = jump * switched[block->classes[i]] + at->jump_both;
        for (int64_t v = 0; v < n_classes; v++) {
            float e = alleles[scratch->member[v]] ? alt : ref;
            neither[v] *= keep * e;
            second[v] = e * (keep * second[v] + jump * unswitched[i]);
            both[v] = e * (keep * both[v] + jump * switched[v] + arriving);
        }
        for (int64_t j = 0; j < k; j++)
            first[j] = (alleles[j] ? alt : ref) * (keep * first[j] + jump * unswitched[j]);
    }
    for (int64_t j = 0; j < k; j++) {
        int64_t v = block->classes[j];
        masses[j] = neither[v] * start[j] + prior[j] * (second[v] + prior[i] * both[v]) + prior[i] * first[j];
    }
    return sampled(masses, k, random * mass_at(block, l, i));
}

/* Probability that a haplotype that carries `copied` is copied as `allele`. */
static double seen(int allele, int copied, double mismatch) { return allele == copied ? 1.0 - mismatch : mismatch; }

/* The alleles `out` [2] of a call, given that haplotypes with alleles x and y are copied with errors. */
static void sample_alleles(int call, int x, int y, double mismatch, uint64_t *random, int8_t *out) {
    if (call == HETEROZYGOUS) {
        double alt_first = seen(1, x, mismatch) * seen(0, y, mismatch);
        double ref_first = seen(0, x, mismatch) * seen(1, y, mismatch);
        out[0] = uniform(random) * (alt_first + ref_first) < alt_first;
        out[1] = !out[0];
    } else if (call >= HALF_REF) {
        int known = call - HALF_REF;
        double by_first = seen(known, x, mismatch), by_second = seen(known, y, mismatch);
        int first = uniform(random) * (by_first + by_second) < by_first;
        out[0] = (int8_t)(first ? known : MISSING);
        out[1] = (int8_t)(first ? MISSING : known);
    } else {
        out[0] = out[1] = (int8_t)(call < 0 ? MISSING : call / 2);
    }
}

/* One phasing of a block, with A = `matrix` at its start; `out` [b, 2]. */
static void sample_block(const Block *block, const float *matrix, const Scratch *scratch, int64_t *copied,
                         uint64_t *random, int8_t *out) {
    int64_t i = copied[0], j = copied[1], width = block->width;
    float *masses = scratch->masses;
    pair_masses(block, scratch->factors, pair_at(matrix, i, j), i, j, block->n_sites, masses);
    for (int64_t l = block->n_sites - 1; l >= 0; l--) {
        double stay = block->stay[l + 1], jump = 1.0 - stay, prior_i = block->prior[i], prior_j = block->prior[j];
        /* The pair at l given the one at l + 1, by which of the two haplotypes switched between the sites. */
        double neither = stay * stay * masses[l];
        double second = neither + stay * jump * prior_j * mass_at(block, l, i);
        double first = second + stay * jump * prior_i * mass_at(block, l, j);
        double total = first + jump * jump * prior_i * prior_j * block->mass[l + 1];
        double at = uniform(random) * total;
        if (at >= neither) {
            if (at >= first) i = sampled_first(block, scratch, l, uniform(random));
            if (at < second || at >= first)
                j = sampled_second(block, scratch, matrix, l, i, uniform(random));
            else
                i = sampled_second(block, scratch, matrix, l, j, uniform(random));
            pair_masses(block, scratch->factors, pair_at(matrix, i, j), i, j, l, masses);
        }
        const uint8_t *alleles = block->alleles + l * width;
        sample_alleles(block->calls[l], alleles[i], alleles[j], block->mismatch[l], random, out + 2 * l);
    }
    copied[0] = i;
    copied[1] = j;
}

void pair_sample(const Target *target, int64_t low, int64_t high, const float *matrices, int64_t n_phasings,
                 int64_t *copied, uint64_t *randoms, int8_t *out, const Scratch *scratch) {
    for (int64_t number = high - 1; number >= low; number--) {
        Block block = block_of(target, number, low);
        for (int64_t l = 0; l < block.n_sites; l++) scratch->factors[l] = factors_at(&block, l);
        for (int64_t j = 0; j < block.k; j++) scratch->member[block.classes[j]] = j;
        const float *matrix = matrices + (number - low) * matrix_size(block.width);
        for (int64_t phasing = 0; phasing < n_phasings; phasing++) {
            int8_t *own = out + 2 * (phasing * target->t + target->first[number]);
            sample_block(&block, matrix, scratch, copied + 2 * phasing, randoms + phasing, own);
        }
    }
}
