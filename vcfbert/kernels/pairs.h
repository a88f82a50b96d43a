/* Pairs of copied haplotypes: what the forward pass and the sampling share. copying/pair_hmm.py has the model. */
#ifndef VCFBERT_PAIRS_H
#define VCFBERT_PAIRS_H

#include "array.h"

/* Codes of genotypes: constants.py. */
enum { MISSING = -1, HETEROZYGOUS = 1, HALF_REF = 3, HALF_ALT = 4 };

/* One target over t sites, cut into blocks. Haplotypes with the same alleles since the block began form a class and
 * share their state. Along the block classes split: one part keeps the class's number, the other gets the next one.
 *
 * The forward pass keeps in `unswitched`, `switched` and `mass` what the sampling needs of one span of blocks.
 * They have rows for every site and every block of the longest span. */
typedef struct {
    int64_t t, k, width;       /* sites; haplotypes; the same rounded up to whole vectors, with prior 0 beyond k */
    int64_t max_classes;       /* of a block, rounded up to whole vectors */
    const double *stay;        /* [t + 1]: probability of no switch before each site, 0 at both ends */
    const double *mismatch;    /* [t]: probability that the observed allele differs from the copied one */
    uint8_t *alleles;          /* [t, width]: of the haplotypes that the target may copy */
    int8_t *calls;             /* [t]: genotypes */
    float *prior;              /* [width]: probability of each haplotype after a switch */
    int64_t n_blocks;
    int64_t *first;            /* [n_blocks + 1]: each block's first site */
    uint16_t *classes;         /* [n_blocks, width]: each haplotype's class at the block's end */
    uint16_t *parents;         /* [n_blocks, max_classes]: the class that each one but the first was split from */
    int64_t *counts;           /* [t]: classes of the block's haplotypes by their alleles up to each site */
    float *unswitched;         /* [rows, width] */
    float *switched;           /* [rows, max_classes] */
    double *mass;              /* [rows] */
} Target;

/* A block of b sites whose haplotypes form u classes at its end. `unswitched`, `switched` and `mass` are R, M and
 * T of pair_forward.c. Their first row is at the block's start, and each site has one more row. The mass of a site is
 * the probability of its genotype given the genotypes before it. */
typedef struct {
    int64_t n_sites, k, width, n_classes, max_classes;
    const double *stay;        /* [b + 1]; the last is that of the site after the block */
    const double *mismatch;    /* [b] */
    const uint8_t *alleles;    /* [b, width] */
    const int8_t *calls;       /* [b] */
    const float *prior;        /* [width] */
    const uint16_t *classes;   /* [width] */
    const uint16_t *parents;   /* [u] */
    const int64_t *counts;     /* [b] */
    float *unswitched;         /* [b + 1, width] */
    float *switched;           /* [b + 1, max_classes] */
    double *mass;              /* [b + 1] */
} Block;

/* Factors of a site. The events before it: neither haplotype switches, only a given one does, or both do. The first two
 * are divided by all mass so far, which scales it to 1. The third applies to a mass of 1. `emission`: of its genotype
 * if the copied pair carries 0, 1 or 2 ALT alleles. */
typedef struct {
    float keep, jump_one, jump_both;
    float emission[3];
} Factors;

/* For a half call, emission is the probability of the known allele, which is equally likely to come from either
 * haplotype. */
static inline Factors factors_at(const Block *block, int64_t site) {
    double stay = block->stay[site], mass = block->mass[site];
    double wrong = block->mismatch[site], right = 1.0 - wrong;
    float keep = (float)(stay * stay / mass), jump_one = (float)(stay * (1.0 - stay) / mass);
    float jump_both = (float)((1.0 - stay) * (1.0 - stay));
    float like = (float)(right * right), unlike = (float)(wrong * wrong), half = (float)(right * wrong);
    switch (block->calls[site]) {
    case 0: return (Factors){keep, jump_one, jump_both, {like, half, unlike}};
    case 1: return (Factors){keep, jump_one, jump_both, {2.0f * half, like + unlike, 2.0f * half}};
    case 2: return (Factors){keep, jump_one, jump_both, {unlike, half, like}};
    case HALF_REF: return (Factors){keep, jump_one, jump_both, {(float)right, 0.5f, (float)wrong}};
    case HALF_ALT: return (Factors){keep, jump_one, jump_both, {(float)wrong, 0.5f, (float)right}};
    default: return (Factors){keep, jump_one, jump_both, {1.0f, 1.0f, 1.0f}};
    }
}

static inline int64_t class_count(const Target *target, int64_t number) {
    return target->counts[target->first[number + 1] - 1];
}

/* Block `number` of a target, of which the span of blocks from `span_start` on is kept. */
static inline Block block_of(const Target *target, int64_t number, int64_t span_start) {
    int64_t first = target->first[number], row = first - target->first[span_start] + number - span_start;
    return (Block){
        .n_sites = target->first[number + 1] - first,
        .k = target->k,
        .width = target->width,
        .n_classes = class_count(target, number),
        .max_classes = target->max_classes,
        .stay = target->stay + first,
        .mismatch = target->mismatch + first,
        .alleles = target->alleles + first * target->width,
        .calls = target->calls + first,
        .prior = target->prior,
        .classes = target->classes + number * target->width,
        .parents = target->parents + number * target->max_classes,
        .counts = target->counts + first,
        .unswitched = target->unswitched + row * target->width,
        .switched = target->switched + row * target->max_classes,
        .mass = target->mass + row,
    };
}

/* Matrices of pairs are symmetric. Only tiles of LANES x LANES pairs on or above the diagonal are kept: those of the
 * first column of tiles, of the second, and so on, from the top down to the diagonal. */
enum { LANES = 8, TILE = LANES * LANES };

static inline int64_t column_start(int64_t column) { return TILE * (column * (column + 1) / 2); }
static inline int64_t matrix_size(int64_t width) { return column_start(width / LANES); }

static inline float pair_at(const float *matrix, int64_t i, int64_t j) {
    int64_t row = i < j ? i : j, column = i < j ? j : i;
    return matrix[column_start(column / LANES) + row * LANES + column % LANES];
}

/* Fills `row` [width] with row i of a matrix. It is used when the matrix has left the caches, so it asks for whole
 * rows of tiles. */
static inline void row_of(const float *matrix, int64_t width, int64_t i, float *row) {
    int64_t own = i / LANES;
    for (int64_t column = own; column < width / LANES; column++)
        memcpy(row + column * LANES, matrix + column_start(column) + i * LANES, sizeof(float) * LANES);
    for (int64_t j = 0; j < own * LANES; j++) row[j] = matrix[column_start(own) + j * LANES + i % LANES];
}

/* Working memory. Rows of u are max_classes long. pair_forward.c defines the letters. */
typedef struct {
    float *sums;                /* [2 u, width]: A, summed over each class of the second haplotype */
    float *neither;             /* [u, width]: N, the class of the second haplotype first */
    float *one;                 /* [u, width]: O, the class first */
    float *both;                /* [u, u]: Z */
    float *class_prior;         /* [u]: of the classes so far */
    int64_t *sums_row;          /* [u]: each class's row in `sums` */
    float *parent_prior;        /* [u]: prior of each class's parent, once the class has been split off */
    int64_t *parent_row;        /* [u]: the same of its row in `sums` */
    int64_t *member;            /* [u]: one haplotype of each class */
    int32_t *rows, *next_rows;  /* [width]: where each haplotype's class has its row, here and in the next block */
    float *of_haplotype[3];     /* [width] */
    float *of_class[3];         /* [u] */
    Factors *factors;           /* [max_sites] */
    float *masses;              /* [max_sites] */
} Scratch;

/* The output function of SplitMix64 (Steele et al. 2014, OOPSLA). */
static inline uint64_t split_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* The forward pass over the span of blocks low to high - 1. Returns the log probability of their genotypes.
 *
 * `matrices` has A at the starts of `n_matrices` blocks, of which the first is given; if there are fewer than
 * blocks, they are used in turn. `after` gets A at the span's end, unless the chromosome ends there. */
double pair_forward(const Target *target, int64_t low, int64_t high, float *matrices, int64_t n_matrices, float *after,
                    const Scratch *scratch);

/* Samples `out` [n_phasings, t, 2] backwards over blocks high - 1 to low, the span of the latest forward pass, with
 * `matrices` at the starts of all its blocks. `copied` [n_phasings, 2] has the pairs at the site after the span on
 * entry, and those at its first site on return. `randoms` [n_phasings]: the generators' states. After the last site
 * `stay` is 0, so any pair whose prior is not 0 may stand there. */
void pair_sample(const Target *target, int64_t low, int64_t high, const float *matrices, int64_t n_phasings,
                 int64_t *copied, uint64_t *randoms, int8_t *out, const Scratch *scratch);

#endif
