/* The choice of states by IBS segments (states.c), for all ways of finding candidates. */
#ifndef VCFBERT_IBS_SEGMENTS_H
#define VCFBERT_IBS_SEGMENTS_H

#include "array.h"

typedef struct Workspace Workspace;

/* Scratch memory for `t` typed sites and at most `h` candidates, to be freed by `free`; NULL if there is none. */
Workspace *new_workspace(int64_t t, int64_t h, int64_t n_longest);

/* Fills `states` [k] from the haplotypes `order` [m], m >= k, as best_states in states.py says. `panel` [h, words];
 * `ref` and `alt` [words]: the target's homozygous REF and ALT sites; `cm` [t]. */
void best_states(Workspace *work, const uint64_t *panel, const uint64_t *ref, const uint64_t *alt, const double *cm,
                 const int32_t *order, int64_t m, int64_t k, int32_t *states);

/* Bits of the sites of a word where a haplotype conflicts with the target. */
static inline uint64_t conflicts_of(uint64_t carried, uint64_t ref, uint64_t alt) {
    return (carried & ref) | (~carried & alt);
}

#endif
