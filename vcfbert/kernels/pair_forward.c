/* The exact forward pass over pairs of copied haplotypes, for one unphased target: pair_hmm.py, in blocks of sites.
 *
 * The k x k matrix of pair masses is touched once per block, not once per site. Within a block the haplotypes that
 * carry the same alleles form u classes (the state-space reduction of Howie et al. 2012, Nat. Genet. 44:955, here for
 * pairs). A is the matrix at the block's start and pi the prior. The mass of a pair (i, j) of classes (u, v) after site
 * l has four parts, by which of the two haplotypes have switched since the block began:
 *
 *     A_l[i, j] = N_l[u, v] A[i, j] + O_l[i, v] pi[j] + pi[i] O_l[j, u] + Z_l[u, v] pi[i] pi[j]
 *
 * A site whose stay probability is s updates N, O and Z as below. Then its emission e(u, v), which depends on the
 * classes alone, multiplies them:
 *
 *     N[u, v] <- s^2 N[u, v]
 *     O[i, v] <- s^2 O[i, v] + s (1 - s) R[i]
 *     Z[u, v] <- s^2 Z[u, v] + s (1 - s) (M[u] + M[v]) + (1 - s)^2 T
 *
 * R[i] is the mass whose first haplotype is i and has not switched since the block began, whatever the second is. M[u]
 * pi[i] is the mass whose first haplotype is i, of class u, and has switched. T is all mass. R needs A only summed over
 * the classes of j. All masses are divided by T at every site, because float32 would underflow along a chromosome.
 *
 * The classes at a site are those that the alleles from the block's start to this site tell apart, so that early sites
 * take little time. A class that is split off begins with its parent's N, O, Z and M.
 */
#include <math.h>

#include "pairs.h"
#include "vectors.h"

/* Added where a product could underflow. Masses sum to 1, so it is far below rounding error. Without it, a pair that
 * many consecutive calls contradict would fall to 0 where nothing recombines, and could never regain mass. Denormal
 * numbers on the way there would be slow. */
static const float TINY = 1e-30f;

static double through(const Block *block, const Scratch *scratch);
static void rebuild(const Block *block, const float *matrix, float *out, const Scratch *scratch,
                    const uint16_t *next_classes, int64_t count);
static void class_sums(const float *matrix, int64_t width, const uint16_t *classes, int64_t n_classes, int32_t *rows,
                       float *sums);

double pair_forward(const Target *target, int64_t low, int64_t high, float *matrices, int64_t n_matrices, float *after,
                    const Scratch *scratch) {
    int64_t size = matrix_size(target->width);
    double likelihood = 0.0;
    class_sums(matrices, target->width, target->classes + low * target->width, class_count(target, low), scratch->rows,
               scratch->sums);
    for (int64_t number = low; number < high; number++) {
        Block block = block_of(target, number, low);
        likelihood += through(&block, scratch);
        if (number + 1 == target->n_blocks) break;
        const float *source = matrices + (number - low) % n_matrices * size;
        float *out = number + 1 == high ? after : matrices + (number + 1 - low) % n_matrices * size;
        const uint16_t *next_classes = target->classes + (number + 1) * target->width;
        rebuild(&block, source, out, scratch, next_classes, class_count(target, number + 1));
    }
    return likelihood;
}

static float sum(const float *values, int64_t n) {
    float total = 0.0f;
    for (int64_t i = 0; i < n; i++) total += values[i];
    return total;
}

/* Joins the block's classes again, the last one first, until one class has all haplotypes. There N = 1 and O = Z = 0.
 *
 * Sums of joined classes get rows of their own: differences of sums would lose what is small. */
static void begin(const Block *block, const Scratch *scratch) {
    int64_t u = block->n_classes, width = block->width;
    memset(scratch->class_prior, 0, sizeof(float) * u);
    for (int64_t j = 0; j < block->k; j++) {
        scratch->member[block->classes[j]] = j;
        scratch->class_prior[block->classes[j]] += block->prior[j];
    }
    for (int64_t v = 0; v < u; v++) scratch->sums_row[v] = v;
    for (int64_t v = u - 1; v > 0; v--) {
        int64_t parent = block->parents[v], joined = 2 * u - 1 - v;
        const float *own = scratch->sums + scratch->sums_row[v] * width;
        const float *other = scratch->sums + scratch->sums_row[parent] * width;
        float *both = scratch->sums + joined * width;
        for (int64_t i = 0; i < width; i++) both[i] = own[i] + other[i];
        scratch->parent_row[v] = scratch->sums_row[parent];
        scratch->parent_prior[v] = scratch->class_prior[parent];
        scratch->sums_row[parent] = joined;
        scratch->class_prior[parent] += scratch->class_prior[v];
    }
    for (int64_t i = 0; i < width; i++) scratch->neither[i] = 1.0f;
    memset(scratch->one, 0, sizeof(float) * width);
    scratch->both[0] = block->switched[0] = 0.0f;
    memcpy(block->unswitched, scratch->sums + scratch->sums_row[0] * width, sizeof(float) * width);
    block->mass[0] = sum(block->unswitched, width);
}

/* Splits class v, the last one so far, off its parent. `switched`: M. */
static void split_off(const Block *block, const Scratch *scratch, int64_t v, float *switched) {
    int64_t parent = block->parents[v], width = block->width, u_row = block->max_classes;
    float *both = scratch->both;
    memcpy(scratch->neither + v * width, scratch->neither + parent * width, sizeof(float) * width);
    memcpy(scratch->one + v * width, scratch->one + parent * width, sizeof(float) * width);
    memcpy(both + v * u_row, both + parent * u_row, sizeof(float) * v);
    for (int64_t u = 0; u <= v; u++) both[u * u_row + v] = both[u * u_row + parent];
    switched[v] = switched[parent];
    scratch->sums_row[parent] = scratch->parent_row[v];
    scratch->class_prior[parent] = scratch->parent_prior[v];
}

/* One site for one class of the second haplotype, of prior `weight`; arrays [width]. Returns the sum of `one`. */
static float step(const float *restrict sums, float *restrict neither, float *restrict one, const float *restrict seen,
                  const float *restrict before, float *restrict after, int64_t width, const Factors *at, float weight) {
    float total = 0.0f, keep = at->keep, jump = at->jump_one;
    for (int64_t i = 0; i < width; i++) {
        float stayed = neither[i] * seen[i] * keep + TINY;
        float arrived = seen[i] * (keep * one[i] + jump * before[i]);
        neither[i] = stayed;
        one[i] = arrived;
        after[i] += stayed * sums[i] + weight * arrived;
        total += arrived;
    }
    return total;
}

/* One site for one class of the first haplotype; arrays [u]. Returns the prior mean of `both`. */
static float step_class(float *restrict both, const float *restrict seen, const float *restrict switched,
                        const float *restrict prior, int64_t n_classes, const Factors *at, float arriving) {
    float total = 0.0f, keep = at->keep, jump = at->jump_one;
    for (int64_t v = 0; v < n_classes; v++) {
        both[v] = seen[v] * (keep * both[v] + jump * switched[v] + arriving);
        total += both[v] * prior[v];
    }
    return total;
}

/* The forward pass over a block. Returns the log probability of its genotypes.
 *
 * `scratch->sums` is filled on entry. On return `scratch` has the values of the last site, and the block's R, M and
 * T are filled. */
static double through(const Block *block, const Scratch *scratch) {
    int64_t width = block->width, u_row = block->max_classes, n_classes = 1;
    float *const *seen = scratch->of_haplotype, *const *class_seen = scratch->of_class;
    double likelihood = 0.0;
    begin(block, scratch);
    for (int64_t l = 0; l < block->n_sites; l++) {
        Factors at = factors_at(block, l);
        const float *e = at.emission, *before = block->unswitched + l * width;
        const uint8_t *alleles = block->alleles + l * width;
        float *after = block->unswitched + (l + 1) * width, *switched = block->switched + l * u_row, total = 0.0f;
        for (; n_classes < block->counts[l]; n_classes++) split_off(block, scratch, n_classes, switched);
        /* Emission by the allele of the second haplotype. */
        for (int64_t j = 0; j < width; j++) {
            seen[0][j] = alleles[j] ? e[1] : e[0];
            seen[1][j] = alleles[j] ? e[2] : e[1];
        }
        for (int64_t v = 0; v < n_classes; v++) {
            class_seen[0][v] = seen[0][scratch->member[v]];
            class_seen[1][v] = seen[1][scratch->member[v]];
        }
        memset(after, 0, sizeof(float) * width);
        for (int64_t v = 0; v < n_classes; v++) {
            int allele = alleles[scratch->member[v]];
            const float *sums = scratch->sums + scratch->sums_row[v] * width;
            float *neither = scratch->neither + v * width, *one = scratch->one + v * width;
            float weight = scratch->class_prior[v], arriving = at.jump_one * switched[v] + at.jump_both;
            float mass = step(sums, neither, one, seen[allele], before, after, width, &at, weight) +
                         step_class(scratch->both + v * u_row, class_seen[allele], switched, scratch->class_prior,
                                    n_classes, &at, arriving);
            switched[u_row + v] = mass;
            total += mass * weight;
        }
        block->mass[l + 1] = total + sum(after, width);
        likelihood += log(block->mass[l + 1]);
    }
    /* M of the block's last classes at all sites. */
    for (int64_t l = 0; l <= block->n_sites; l++)
        for (int64_t v = l ? block->counts[l - 1] : 1; v < n_classes; v++)
            block->switched[l * u_row + v] = block->switched[l * u_row + block->parents[v]];
    return likelihood;
}

/* Transposes a tile. Its rows are vectors because GCC cannot tell that tiles of several arrays do not overlap. It would
 * go through loops over them one number at a time. */
INLINED void transpose(Vector tile[LANES]) {
    Vector pairs[LANES], quads[LANES];
    for (int r = 0; r < LANES; r += 2) {
        pairs[r] = SHUFFLED(tile[r], tile[r + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[r + 1] = SHUFFLED(tile[r], tile[r + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int r = 0; r < LANES; r += 4)
        for (int i = 0; i < 2; i++) {
            quads[r + 2 * i] = SHUFFLED(pairs[r + i], pairs[r + i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            quads[r + 2 * i + 1] = SHUFFLED(pairs[r + i], pairs[r + i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int r = 0; r < LANES / 2; r++) {
        tile[r] = SHUFFLED(quads[r], quads[r + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        tile[r + 4] = SHUFFLED(quads[r], quads[r + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* Adds a tile of pairs, and its mirror image, to the `sums` of the classes of their first haplotypes. `rows`
 * [width]: where each haplotype's class has its row. */
INLINED void add_by_class(Vector tile[LANES], const int32_t *rows, int64_t above, int64_t left, float *sums) {
    for (int r = 0; r < LANES; r++) *(Vector *)(sums + rows[above + r] + left) += tile[r];
    if (left == above) return;
    transpose(tile);
    for (int r = 0; r < LANES; r++) *(Vector *)(sums + rows[left + r] + above) += tile[r];
}

/* Asks for tiles that are read and written soon. Matrices do not fit into the caches, and the processor alone begins
 * too late to fetch what is only written. */
static inline void fetch_ahead(const float *read, const float *written) {
    enum { AHEAD = 8 * TILE, LINE = 16 };
    for (int at = 0; at < TILE; at += LINE) {
        __builtin_prefetch(read + AHEAD + at, 0);
        __builtin_prefetch(written + AHEAD + at, 1);
    }
}

/* Scales N and O so that A sums to 1 at the block's end, and turns O into Q[i, v] = O[i, v] + pi[i] Z[u, v] / 2. */
static void add_both(const Block *block, const Scratch *scratch) {
    int64_t width = block->width, u_row = block->max_classes;
    float scale = (float)(1.0 / block->mass[block->n_sites]);
    for (int64_t i = 0; i < width; i += LANES) {
        Vector weight = 0.5f * *(const Vector *)(block->prior + i);
        for (int64_t u = 0; u < block->n_classes; u += LANES) {
            Vector both[LANES];  /* first of the haplotypes' classes, then of theirs and the classes from u on */
            for (int r = 0; r < LANES; r++)
                both[r] = *(const Vector *)(scratch->both + block->classes[i + r] * u_row + u);
            transpose(both);
            for (int64_t r = 0; r < LANES && u + r < block->n_classes; r++) {
                Vector *one = (Vector *)(scratch->one + (u + r) * width + i);
                Vector *neither = (Vector *)(scratch->neither + (u + r) * width + i);
                *one = (*one + weight * both[r]) * scale;
                *neither *= scale;
            }
        }
    }
}

/* Fills `out` with A at the block's end, scaled to sum 1, from `matrix`, A at its start. The two may not overlap.
 *
 * Destroys N and O, and fills `scratch->sums` with the sums of `out` by the `count` classes of the next block. A
 * is X + Y, with Y[i, j] = pi[i] Q[j, u] and X[i, j] = N[u, v] A[i, j] + pi[j] Q[i, v]. Tiles of both have neighbouring
 * pairs in neighbouring places, one transposed. */
static void rebuild(const Block *block, const float *matrix, float *out, const Scratch *scratch,
                    const uint16_t *next_classes, int64_t count) {
    int64_t width = block->width;
    const uint16_t *classes = block->classes;
    const float *prior = block->prior, *q = scratch->one, *neither = scratch->neither;
    add_both(block, scratch);
    int32_t *rows = scratch->rows, *next_rows = scratch->next_rows;
    for (int64_t j = 0; j < width; j++) {
        rows[j] = (int32_t)(classes[j] * width);
        next_rows[j] = (int32_t)(next_classes[j] * width);
    }
    memset(scratch->sums, 0, sizeof(float) * count * width);
    for (int64_t left = 0; left < width; left += LANES)
        for (int64_t above = 0; above <= left; above += LANES, matrix += TILE, out += TILE) {
            Vector tile[LANES];
            for (int r = 0; r < LANES; r++)
                tile[r] = prior[left + r] * *(const Vector *)(q + rows[left + r] + above) + TINY;
            transpose(tile);
            for (int r = 0; r < LANES; r++) {
                int64_t at = rows[above + r] + left;
                tile[r] += *(const Vector *)(neither + at) * *(const Vector *)(matrix + r * LANES);
                tile[r] += prior[above + r] * *(const Vector *)(q + at);
                *(Vector *)(out + r * LANES) = tile[r];
            }
            fetch_ahead(matrix, out);
            add_by_class(tile, next_rows, above, left, scratch->sums);
        }
}

/* Fills `sums` [n_classes, width]: the rows of `matrix` summed by class. */
static void class_sums(const float *matrix, int64_t width, const uint16_t *classes, int64_t n_classes, int32_t *rows,
                       float *sums) {
    memset(sums, 0, sizeof(float) * n_classes * width);
    for (int64_t j = 0; j < width; j++) rows[j] = (int32_t)(classes[j] * width);
    for (int64_t left = 0; left < width; left += LANES)
        for (int64_t above = 0; above <= left; above += LANES, matrix += TILE) {
            Vector tile[LANES];
            memcpy(tile, matrix, sizeof tile);
            add_by_class(tile, rows, above, left, sums);
        }
}
