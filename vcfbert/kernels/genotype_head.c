/* Genotype probabilities of pairs of haplotypes by V17 and V18: genotype_kernel.py.
 *
 * A strip of sites is done for all haplotypes and pairs at once. What depends on one haplotype, its part of the hidden
 * layer that is linear in the sum of the pair, is computed once for each.
 */
#include "array.h"
#include "strips.h"

#define LOG2_E 1.44269504f

typedef struct {
    int64_t u, l, dims, hidden, n;                                       /* haplotypes, sites, ..., pairs */
    const float *features, *logit;                                       /* [u, l, dims], [u, l] */
    const int64_t *pairs;                                                /* [n, 2] */
    const float *of_sum, *of_difference, *of_site, *coupling, *constant; /* as in `GenotypeHeadWeights` */
} Problem;

typedef struct {
    float *features; /* [u, dims, COLUMNS] */
    float *of_sum;   /* [u, hidden, COLUMNS] */
    float *alt;      /* [u, COLUMNS] */
    float *of_site;  /* [hidden, COLUMNS] */
    float *apart;    /* [dims, COLUMNS]: |first - second| of a pair */
} Scratch;

static Scratch scratch_in(char *memory, const Problem *p, size_t *size) {
    Scratch scratch;
    *size = 0;
    scratch.features = room(memory, size, p->u * p->dims * COLUMNS, sizeof(float));
    scratch.of_sum = room(memory, size, p->u * p->hidden * COLUMNS, sizeof(float));
    scratch.alt = room(memory, size, p->u * COLUMNS, sizeof(float));
    scratch.of_site = room(memory, size, p->hidden * COLUMNS, sizeof(float));
    scratch.apart = room(memory, size, p->dims * COLUMNS, sizeof(float));
    return scratch;
}

/* x times the normal distribution function at x, by formula 7.1.26 of Abramowitz and Stegun: within 2e-7 |x|. */
INLINED void gelu(Vector *value) {
    Vector x = *value, size = LARGER(x, -x), t = 1.0f / (size * 0.23164190f + 1.0f), density = x * x * -0.72134752f;
    power_of_2(&density);
    Vector tail = t * 0.53070271f - 0.72657601f;
    tail = tail * t + 0.71070687f;
    tail = tail * t - 0.14224837f;
    tail = (tail * t + 0.12741480f) * t * density;
    *value = LARGER(x, (Vector){0}) - size * tail;
}

/* Fills the scratch for the strip of sites from `site` on; lanes behind the last site repeat it. */
static void prepare(const Problem *p, const Scratch *scratch, int64_t site) {
    for (int64_t lane = 0; lane < COLUMNS; lane++) {
        const int64_t i = least(site + lane, p->l - 1);
        for (int64_t h = 0; h < p->u; h++) {
            const float *row = p->features + (h * p->l + i) * p->dims;
            float *to = scratch->features + h * p->dims * COLUMNS + lane;
            for (int64_t c = 0; c < p->dims; c++) to[c * COLUMNS] = row[c];
            scratch->alt[h * COLUMNS + lane] = p->logit[h * p->l + i];
        }
        for (int64_t m = 0; m < p->hidden; m++) scratch->of_site[m * COLUMNS + lane] = p->of_site[i * p->hidden + m];
    }
    for (int64_t part = 0; part < 2 * p->u; part++) {
        Vector *alt = (Vector *)scratch->alt + part;
        *alt *= LOG2_E;
        squash(alt);
    }
    for (int64_t h = 0; h < p->u; h++) {
        const float *features = scratch->features + h * p->dims * COLUMNS;
        float *to = scratch->of_sum + h * p->hidden * COLUMNS;
        for (int64_t m = 0; m < p->hidden; m += ROWS) {
            Vector sum[ROWS][2] = {{{0}}};
            add_products(ROWS, sum, p->of_sum + m * p->dims, p->dims, 1, features, p->dims);
            for (int r = 0; r < ROWS; r++)
                for (int half = 0; half < 2; half++)
                    *(Vector *)(to + (m + r) * COLUMNS + half * WIDTH) = sum[r][half];
        }
    }
}

/* The coupling [2] of a pair, before tanh. */
INLINED void couple(const Problem *p, const Scratch *scratch, const int64_t pair[2], Vector coupling[2]) {
    const Vector *first = (const Vector *)(scratch->features + pair[0] * p->dims * COLUMNS);
    const Vector *second = (const Vector *)(scratch->features + pair[1] * p->dims * COLUMNS);
    const Vector *first_sum = (const Vector *)(scratch->of_sum + pair[0] * p->hidden * COLUMNS);
    const Vector *second_sum = (const Vector *)(scratch->of_sum + pair[1] * p->hidden * COLUMNS);
    const Vector *of_site = (const Vector *)scratch->of_site;
    for (int64_t c = 0; c < 2 * p->dims; c++) {
        Vector difference = first[c] - second[c];
        ((Vector *)scratch->apart)[c] = LARGER(difference, -difference);
    }
    coupling[0] = coupling[1] = (Vector){0} + *p->constant;
    for (int64_t m = 0; m < p->hidden; m += ROWS) {
        Vector sum[ROWS][2];
        for (int r = 0; r < ROWS; r++)
            for (int half = 0; half < 2; half++) {
                const int64_t at = 2 * (m + r) + half;
                sum[r][half] = first_sum[at] + second_sum[at] + of_site[at];
            }
        add_products(ROWS, sum, p->of_difference + m * p->dims, p->dims, 1, scratch->apart, p->dims);
        for (int r = 0; r < ROWS; r++)
            for (int half = 0; half < 2; half++) {
                gelu(&sum[r][half]);
                coupling[half] += sum[r][half] * p->coupling[m + r];
            }
    }
}

/* Probabilities of 0, 1 and 2 ALT alleles, from those of ALT and from the coupling before tanh: heads.py. */
INLINED void genotypes(const Vector *alt, const Vector *other, const Vector *coupling, Vector of[3]) {
    Vector a = *alt, b = *other, first = a * (1.0f - b), second = (1.0f - a) * b, both = a * b, none = (1.0f - a) * (1.0f - b);
    Vector rise = SMALLER(first, second), fall = SMALLER(both, none), zero = {0};
    Vector share = *coupling * (2.0f * LOG2_E);
    squash(&share);
    share = share * 2.0f - 1.0f; /* tanh(x) = 2 / (1 + exp(-2 x)) - 1 */
    Vector c = LARGER(zero, share) * rise + SMALLER(zero, share) * fall; /* of NaN: NaN */
    of[0] = none + c;
    of[1] = first + second - 2.0f * c;
    of[2] = both + c;
}

int64_t vcfbert_predict_pairs(const Array *strips, const Array *features, const Array *logit, const Array *pairs,
                              const Array *head, const Array *haplotype, const Array *genotype) {
    const Problem p = {
        .u = features->shape[0], .l = features->shape[1], .dims = features->shape[2], .hidden = head[0].shape[0],
        .n = pairs->shape[0], .features = features->data, .logit = logit->data, .pairs = pairs->data,
        .of_sum = head[0].data, .of_difference = head[1].data, .of_site = head[2].data, .coupling = head[3].data,
        .constant = head[4].data,
    };
    size_t size;
    scratch_in(NULL, &p, &size);
    char *memory = aligned_alloc(ALIGNMENT, size);
    if (memory == NULL) return OUT_OF_MEMORY;
    const Scratch scratch = scratch_in(memory, &p, &size);
    for (int64_t s = 0; s < strips->shape[0]; s++) {
        const int64_t site = ((const int64_t *)strips->data)[s] * COLUMNS;
        prepare(&p, &scratch, site);
        for (int64_t i = 0; i < p.n; i++) {
            const int64_t *pair = p.pairs + 2 * i;
            Vector coupling[2], of[2][3];
            couple(&p, &scratch, pair, coupling);
            const float *first = scratch.alt + pair[0] * COLUMNS, *second = scratch.alt + pair[1] * COLUMNS;
            for (int half = 0; half < 2; half++)
                genotypes((const Vector *)first + half, (const Vector *)second + half, &coupling[half], of[half]);
            for (int64_t lane = 0; lane < least(COLUMNS, p.l - site); lane++) {
                const int64_t cell = (site + lane) * p.n + i;
                ((float *)haplotype->data)[2 * cell] = first[lane];
                ((float *)haplotype->data)[2 * cell + 1] = second[lane];
                for (int g = 0; g < 3; g++)
                    ((float *)genotype->data)[3 * cell + g] = ((const float *)&of[lane / WIDTH][g])[lane % WIDTH];
            }
        }
    }
    free(memory);
    return DONE;
}
