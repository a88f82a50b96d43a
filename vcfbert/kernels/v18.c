/* Features and ALT logits of haplotypes by V18, without gradient: v18_kernel.py.
 *
 * A query is done as a whole by one thread: the weights of its retrieved haplotypes, the input of the encoder, and the
 * encoder. Sites are the lanes of vectors, as in encoder.c. Lanes behind the last site hold finite numbers.
 */
#include "encoder.h"
#include "strips.h"

#include <math.h>

typedef struct {
    int64_t l, t, k, n_strips, lanes, dims, heads, masked; /* heads of the retrieval; the token of an untyped site */
    const float *table, *pooled, *af, *key_weights, *key_alleles; /* as in `V18Window` */
    const uint8_t *alleles;
    const uint8_t *tokens; /* as in `V18Queries` */
    const int8_t *sign;
    const int64_t *rows;
    const float *evidence, *mixture, *smoothing, *correction, *constant; /* as in `V18Weights` */
} Problem;

typedef struct {
    float *untyped;   /* [n_strips, dims, COLUMNS]: the table of untyped sites */
    float *pooled;    /* [n_strips, dims, COLUMNS] */
    float *signs;     /* [heads, t]: the query's signs times the weights of key sites */
    float *copying;   /* [heads, k]: weights of the retrieved haplotypes */
    float *fractions; /* [heads, lanes]: of ALT */
    float *spread;    /* [heads, lanes]: their standard deviations */
    float *fraction;  /* [lanes]: the mixture of the fractions */
    float *own;       /* [dims]: the part of the evidence that is the same at all sites */
} Scratch;

static Scratch scratch_in(char *memory, const Problem *p, size_t *used) {
    Scratch scratch;
    scratch.untyped = room(memory, used, p->dims * p->lanes, sizeof(float));
    scratch.pooled = room(memory, used, p->dims * p->lanes, sizeof(float));
    scratch.signs = room(memory, used, p->heads * p->t, sizeof(float));
    scratch.copying = room(memory, used, p->heads * p->k, sizeof(float));
    scratch.fractions = room(memory, used, p->heads * p->lanes, sizeof(float));
    scratch.spread = room(memory, used, p->heads * p->lanes, sizeof(float));
    scratch.fraction = room(memory, used, p->lanes, sizeof(float));
    scratch.own = room(memory, used, p->dims, sizeof(float));
    return scratch;
}

static float dot(const float *a, const float *b, int64_t n) {
    float sum = 0.0f;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Fills `copying`: softmax(-distance) over the retrieved, and `own`, from each head's effective number of them. */
static void weigh_retrieved(const Problem *p, const Scratch *scratch, int64_t query) {
    const int8_t *sign = p->sign + query * p->t;
    const int64_t *rows = p->rows + query * p->k;
    memset(scratch->own, 0, (size_t)p->dims * sizeof(float));
    for (int64_t h = 0; h < p->heads; h++) {
        float *signs = scratch->signs + h * p->t, *weight = scratch->copying + h * p->k;
        for (int64_t i = 0; i < p->t; i++) signs[i] = (float)sign[i] * p->key_weights[h * p->t + i];
        float nearest = INFINITY, sum = 0.0f, squares = 0.0f;
        for (int64_t j = 0; j < p->k; j++) {
            weight[j] = dot(signs, p->key_alleles + rows[j] * p->t, p->t);
            if (weight[j] < nearest) nearest = weight[j];
        }
        for (int64_t j = 0; j < p->k; j++) sum += weight[j] = expf(nearest - weight[j]);
        for (int64_t j = 0; j < p->k; j++) {
            weight[j] /= sum;
            squares += weight[j] * weight[j];
        }
        const float log_count = -0.25f * logf(fmaxf(squares, 1e-6f));
        for (int64_t c = 0; c < p->dims; c++)
            scratch->own[c] += log_count * p->evidence[c * 3 * p->heads + 2 * p->heads + h];
    }
}

/* Fills `fractions`, `spread` and `fraction`. */
static void pool_alleles(const Problem *p, const Scratch *scratch, int64_t query) {
    memset(scratch->fractions, 0, (size_t)(p->heads * p->lanes) * sizeof(float));
    for (int64_t j = 0; j < p->k; j++) {
        const uint8_t *alleles = p->alleles + p->rows[query * p->k + j] * p->l;
        for (int64_t h = 0; h < p->heads; h++) {
            const float weight = scratch->copying[h * p->k + j];
            float *fraction = scratch->fractions + h * p->lanes;
            for (int64_t i = 0; i < p->l; i++) fraction[i] += weight * (float)alleles[i];
        }
    }
    if (p->k == 0)
        for (int64_t h = 0; h < p->heads; h++)
            memcpy(scratch->fractions + h * p->lanes, p->af, (size_t)p->l * sizeof(float));
    memset(scratch->fraction, 0, (size_t)p->lanes * sizeof(float));
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t i = 0; i < p->lanes; i++) {
            const float fraction = scratch->fractions[h * p->lanes + i], variance = fraction * (1.0f - fraction);
            scratch->spread[h * p->lanes + i] = sqrtf(variance > 1e-6f ? variance : 1e-6f);
            scratch->fraction[i] += p->mixture[h] * fraction;
        }
}

/* Fills the encoder's input `x`. */
static void embed(const Problem *p, const Scratch *scratch, int64_t query, float *x) {
    for (int64_t s = 0; s < p->n_strips; s++)
        for (int64_t c = 0; c < p->dims; c++) {
            const float *evidence = p->evidence + c * 3 * p->heads;
            for (int half = 0; half < 2; half++) {
                const int64_t lane = s * COLUMNS + half * WIDTH, at = (s * p->dims + c) * COLUMNS + half * WIDTH;
                Vector sum = *(const Vector *)(scratch->untyped + at) + scratch->own[c];
                sum += *(const Vector *)(scratch->fraction + lane) * *(const Vector *)(scratch->pooled + at);
                for (int64_t h = 0; h < p->heads; h++) {
                    sum += *(const Vector *)(scratch->fractions + h * p->lanes + lane) * evidence[h];
                    sum += *(const Vector *)(scratch->spread + h * p->lanes + lane) * evidence[p->heads + h];
                }
                *(Vector *)(x + at) = sum;
            }
        }
    const float *untyped = p->table + p->masked * p->l * p->dims;
    for (int64_t i = 0; i < p->l; i++) {
        const int64_t token = p->tokens[query * p->l + i];
        if (token == p->masked) continue;
        const float *own = p->table + token * p->l * p->dims;
        for (int64_t c = 0; c < p->dims; c++)
            x[(i / COLUMNS * p->dims + c) * COLUMNS + i % COLUMNS] += own[i * p->dims + c] - untyped[i * p->dims + c];
    }
}

static float within(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/* Fills `logit` [l]: of the smoothed fraction, with the correction from the features in `strips`. */
static void predict_alt(const Problem *p, const Scratch *scratch, const float *strips, float *logit) {
    for (int64_t s = 0; s < p->n_strips; s++) {
        Vector sum[2] = {{0}, {0}};
        for (int64_t c = 0; c < p->dims; c++)
            for (int half = 0; half < 2; half++)
                sum[half] += *(const Vector *)(strips + (s * p->dims + c) * COLUMNS + half * WIDTH) * p->correction[c];
        for (int64_t i = s * COLUMNS; i < least(p->l, (s + 1) * COLUMNS); i++) {
            const float share = *p->smoothing, af = within(p->af[i], 1e-4f, 1.0f - 1e-4f);
            const float alt = within((1.0f - share) * scratch->fraction[i] + share * af, 1e-6f, 1.0f - 1e-6f);
            logit[i] = logf(alt / (1.0f - alt)) + ((const float *)sum)[i % COLUMNS] + *p->constant;
        }
    }
}

int64_t vcfbert_run_v18(const Array *sequences, const Array *window, const Array *queries, const Array *network,
                        const Array *encoder_weights, int64_t heads, const Array *features, const Array *logit) {
    Problem p = {
        .l = window[0].shape[1], .t = window[3].shape[1], .k = queries[2].shape[1], .dims = window[0].shape[2],
        .heads = window[3].shape[0], .masked = window[0].shape[0] - 1,
        .table = window[0].data, .pooled = window[1].data, .af = window[2].data, .key_weights = window[3].data,
        .key_alleles = window[4].data, .alleles = window[5].data,
        .tokens = queries[0].data, .sign = queries[1].data, .rows = queries[2].data,
        .evidence = network[0].data, .mixture = network[1].data, .smoothing = network[2].data,
        .correction = network[3].data, .constant = network[4].data,
    };
    p.n_strips = (p.l + COLUMNS - 1) / COLUMNS;
    p.lanes = p.n_strips * COLUMNS;
    size_t size = 0, used = 0;
    scratch_in(NULL, &p, &size);
    vcfbert_encoder_in(NULL, &size, encoder_weights, heads, p.l, p.dims);
    char *memory = aligned_alloc(ALIGNMENT, size);
    if (memory == NULL) return OUT_OF_MEMORY;
    const Scratch scratch = scratch_in(memory, &p, &used);
    const Encoder encoder = vcfbert_encoder_in(memory, &used, encoder_weights, heads, p.l, p.dims);
    memset(scratch.untyped, 0, (size_t)(p.dims * p.lanes) * sizeof(float));
    memset(scratch.pooled, 0, (size_t)(p.dims * p.lanes) * sizeof(float));
    put_in_strips(p.table + p.masked * p.l * p.dims, p.l, p.dims, scratch.untyped);
    put_in_strips(p.pooled, p.l, p.dims, scratch.pooled);
    for (int64_t i = 0; i < sequences->shape[0]; i++) {
        const int64_t query = ((const int64_t *)sequences->data)[i];
        weigh_retrieved(&p, &scratch, query);
        pool_alleles(&p, &scratch, query);
        embed(&p, &scratch, query, encoder.x);
        vcfbert_run_encoder(&encoder);
        put_in_rows(encoder.attended, p.l, p.dims, (float *)features->data + query * p.l * p.dims);
        predict_alt(&p, &scratch, encoder.attended, (float *)logit->data + query * p.l);
    }
    free(memory);
    return DONE;
}
