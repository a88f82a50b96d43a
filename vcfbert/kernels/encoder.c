/* The transformer encoder of V17 and V18, without gradient: encoder_kernel.py.
 *
 * Activations are kept with sites as the lanes of vectors: strips of COLUMNS sites, in each one row a feature. So a
 * LayerNorm and a softmax are sums over rows, and each of the six matrix products reads one operand as it lies and
 * broadcasts the numbers of the other. Nothing is transposed but the input and the output. A sequence is done as a
 * whole by one thread, so that its activations stay in the second-level cache and its sums do not depend on others.
 *
 * Queries, keys and values of a strip are rows of one matrix, [3 dims, COLUMNS]. The lanes behind the last site hold
 * finite numbers that no site reads.
 */
#include "encoder.h"

#include "strips.h"

#include <math.h>

enum { BLOCK = 2 }; /* strips done together */

typedef enum { SET, ADD, GELU } Kind; /* what is done with the sums of a product and the bias */

typedef struct {
    const float *attention_norm, *projection, *projection_bias, *out, *out_bias;
    const float *mlp_norm, *mlp_in, *mlp_in_bias, *mlp_out, *mlp_out_bias;
} Layer;

/* GELU by its approximation with tanh, as x times the logistic function of 2 sqrt(2 / pi) (x + .044715 x^3). */
INLINED void gelu(Vector *value) {
    Vector x = *value, share = x * (x * x * 0.1029432f + 2.3022082f); /* in powers of 2 */
    squash(&share);
    *value = x * share;
}

INLINED void linear_tile(const Kind kind, const int n_rows, const float *weight, const float *bias, int64_t n_k,
                         const float *b, float *out) {
    Vector sum[ROWS][2];
    for (int r = 0; r < n_rows; r++) sum[r][0] = sum[r][1] = (Vector){0} + bias[r];
    add_products(n_rows, sum, weight, n_k, 1, b, n_k);
    for (int r = 0; r < n_rows; r++)
        for (int half = 0; half < 2; half++) {
            Vector *to = (Vector *)(out + r * COLUMNS + half * WIDTH);
            if (kind == GELU) gelu(&sum[r][half]);
            *to = kind == ADD ? *to + sum[r][half] : sum[r][half];
        }
}

/* Applies `weight` [n_rows, n_k] and `bias` [n_rows] to strips of `b` [n_k, COLUMNS], giving [n_rows, COLUMNS] each. */
INLINED void linear(const Kind kind, const float *weight, const float *bias, int64_t n_rows, int64_t n_k, const float *b,
                    float *out, int64_t n_strips) {
    int64_t row = 0;
    for (; row + ROWS <= n_rows; row += ROWS)
        for (int64_t s = 0; s < n_strips; s++)
            linear_tile(kind, ROWS, weight + row * n_k, bias + row, n_k, b + s * n_k * COLUMNS,
                        out + (s * n_rows + row) * COLUMNS);
    for (; row < n_rows; row++)
        for (int64_t s = 0; s < n_strips; s++)
            linear_tile(kind, 1, weight + row * n_k, bias + row, n_k, b + s * n_k * COLUMNS,
                        out + (s * n_rows + row) * COLUMNS);
}

/* LayerNorm of each site of `n_strips` strips [dims, COLUMNS]; `norm` [2, dims]: weight and bias. */
static void normalise(const float *x, const float *norm, int64_t dims, float *out, int64_t n_strips) {
    for (int64_t part = 0; part < 2 * n_strips; part++) {
        const int64_t at = part / 2 * dims * COLUMNS + part % 2 * WIDTH;
        Vector mean = {0}, spread = {0}, scale;
        for (int64_t c = 0; c < dims; c++) mean += *(const Vector *)(x + at + c * COLUMNS);
        mean /= (float)dims;
        for (int64_t c = 0; c < dims; c++) {
            Vector difference = *(const Vector *)(x + at + c * COLUMNS) - mean;
            spread += difference * difference;
        }
        spread = spread / (float)dims + 1e-5f;
        for (int i = 0; i < WIDTH; i++) scale[i] = 1.0f / sqrtf(spread[i]);
        for (int64_t c = 0; c < dims; c++) {
            Vector difference = *(const Vector *)(x + at + c * COLUMNS) - mean;
            *(Vector *)(out + at + c * COLUMNS) = difference * scale * norm[c] + norm[dims + c];
        }
    }
}

/* Turns `scores` [n_strips COLUMNS, COLUMNS] of the keys into powers of 2 relative to each query's greatest, and the
 * rows behind the last site into 0. `inverse` [2] gets 1 / their sum. */
INLINED void soften(const Encoder *p, float *scores, Vector inverse[2]) {
    const float unit = 1.44269504f / sqrtf((float)p->width);
    for (int half = 0; half < 2; half++) {
        float *column = scores + half * WIDTH;
        Vector greatest = *(Vector *)column, sum = {0};
        for (int64_t j = 1; j < p->l; j++) greatest = LARGER(greatest, *(Vector *)(column + j * COLUMNS));
        greatest *= unit;
        for (int64_t j = 0; j < p->l; j++) {
            Vector weight = *(Vector *)(column + j * COLUMNS) * unit - greatest;
            power_of_2(&weight);
            *(Vector *)(column + j * COLUMNS) = weight;
            sum += weight;
        }
        for (int64_t j = p->l; j < p->n_strips * COLUMNS; j++) *(Vector *)(column + j * COLUMNS) = (Vector){0};
        inverse[half] = 1.0f / sum;
    }
}

INLINED void mixed_values(const int n_rows, const Encoder *p, const float *values, const Vector inverse[2], float *out) {
    Vector sum[ROWS][2];
    for (int r = 0; r < n_rows; r++) sum[r][0] = sum[r][1] = (Vector){0};
    for (int64_t s = 0; s < p->n_strips; s++)
        add_products(n_rows, sum, values + s * 3 * p->dims * COLUMNS, COLUMNS, 1, p->scores + s * COLUMNS * COLUMNS,
                     COLUMNS);
    for (int r = 0; r < n_rows; r++)
        for (int half = 0; half < 2; half++)
            *(Vector *)(out + r * COLUMNS + half * WIDTH) = sum[r][half] * inverse[half];
}

/* Self-attention of one head for the queries of one strip. */
static void attend(const Encoder *p, int64_t head, int64_t strip) {
    const int64_t stride = 3 * p->dims * COLUMNS, first = head * p->width * COLUMNS, keys = first + p->dims * COLUMNS;
    const float *query = p->projected + strip * stride + first;
    for (int64_t j = 0; j < p->n_strips * COLUMNS; j += ROWS) {
        Vector sum[ROWS][2];
        for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = (Vector){0};
        const float *key = p->projected + j / COLUMNS * stride + keys + j % COLUMNS;
        add_products(ROWS, sum, key, 1, COLUMNS, query, p->width);
        for (int r = 0; r < ROWS; r++)
            for (int half = 0; half < 2; half++)
                *(Vector *)(p->scores + (j + r) * COLUMNS + half * WIDTH) = sum[r][half];
    }
    Vector inverse[2];
    soften(p, p->scores, inverse);
    const float *values = p->projected + keys + p->dims * COLUMNS;
    float *out = p->attended + strip * p->dims * COLUMNS + first;
    int64_t c = 0;
    for (; c + ROWS <= p->width; c += ROWS)
        mixed_values(ROWS, p, values + c * COLUMNS, inverse, out + c * COLUMNS);
    for (; c < p->width; c++) mixed_values(1, p, values + c * COLUMNS, inverse, out + c * COLUMNS);
}

static void run_layer(const Encoder *p, const Layer *of) {
    const int64_t size = p->dims * COLUMNS; /* of a strip */
    for (int64_t s = 0; s < p->n_strips; s += BLOCK) {
        const int64_t n = least(BLOCK, p->n_strips - s);
        normalise(p->x + s * size, of->attention_norm, p->dims, p->normalised, n);
        linear(SET, of->projection, of->projection_bias, 3 * p->dims, p->dims, p->normalised,
               p->projected + 3 * s * size, n);
    }
    for (int64_t head = 0; head < p->heads; head++)
        for (int64_t s = 0; s < p->n_strips; s++) attend(p, head, s);
    for (int64_t s = 0; s < p->n_strips; s += BLOCK) {
        const int64_t n = least(BLOCK, p->n_strips - s);
        float *x = p->x + s * size;
        linear(ADD, of->out, of->out_bias, p->dims, p->dims, p->attended + s * size, x, n);
        normalise(x, of->mlp_norm, p->dims, p->normalised, n);
        linear(GELU, of->mlp_in, of->mlp_in_bias, p->hidden, p->dims, p->normalised, p->inner, n);
        linear(ADD, of->mlp_out, of->mlp_out_bias, p->dims, p->hidden, p->inner, x, n);
    }
}

static Layer layer_of(const Encoder *p, int64_t layer) {
    Layer own;
    const float **at[] = {&own.attention_norm, &own.projection, &own.projection_bias, &own.out,     &own.out_bias,
                          &own.mlp_norm,       &own.mlp_in,     &own.mlp_in_bias,     &own.mlp_out, &own.mlp_out_bias};
    const int64_t d = p->dims, m = p->hidden;
    const int64_t size[] = {2 * d, 3 * d * d, 3 * d, d * d, d, 2 * d, m * d, m, d * m, d};
    for (int i = 0; i < 10; i++) *at[i] = (const float *)p->weights[i].data + layer * size[i];
    return own;
}

Encoder vcfbert_encoder_in(char *memory, size_t *used, const Array *weights, int64_t heads, int64_t l, int64_t dims) {
    Encoder p = {.l = l, .n_strips = (l + COLUMNS - 1) / COLUMNS, .dims = dims, .hidden = weights[6].shape[1],
                 .heads = heads, .width = dims / heads, .layers = weights[1].shape[0], .weights = weights};
    p.x = room(memory, used, p.n_strips * dims * COLUMNS, sizeof(float));
    p.projected = room(memory, used, 3 * p.n_strips * dims * COLUMNS, sizeof(float));
    p.attended = room(memory, used, p.n_strips * dims * COLUMNS, sizeof(float));
    p.scores = room(memory, used, p.n_strips * COLUMNS * COLUMNS, sizeof(float));
    p.normalised = room(memory, used, BLOCK * dims * COLUMNS, sizeof(float));
    p.inner = room(memory, used, BLOCK * p.hidden * COLUMNS, sizeof(float));
    return p;
}

void vcfbert_run_encoder(const Encoder *p) {
    for (int64_t layer = 0; layer < p->layers; layer++) {
        const Layer own = layer_of(p, layer);
        run_layer(p, &own);
    }
    normalise(p->x, p->weights[10].data, p->dims, p->attended, p->n_strips);
}

/* Fills strips [n_strips, dims, COLUMNS] from rows [l, dims], with 0 behind the last site. */
static void fill_strips(const float *rows, const Encoder *p, float *strips) {
    memset(strips, 0, (size_t)(p->n_strips * p->dims * COLUMNS) * sizeof(float));
    put_in_strips(rows, p->l, p->dims, strips);
}

int64_t vcfbert_encode(const Array *sequences, const Array *x, const Array *weights, int64_t heads, const Array *out) {
    const int64_t l = x->shape[1], dims = x->shape[2];
    size_t size = 0, used = 0;
    vcfbert_encoder_in(NULL, &size, weights, heads, l, dims);
    char *memory = aligned_alloc(ALIGNMENT, size);
    if (memory == NULL) return OUT_OF_MEMORY;
    const Encoder encoder = vcfbert_encoder_in(memory, &used, weights, heads, l, dims);
    for (int64_t i = 0; i < sequences->shape[0]; i++) {
        const int64_t at = ((const int64_t *)sequences->data)[i] * l * dims;
        fill_strips((const float *)x->data + at, &encoder, encoder.x);
        vcfbert_run_encoder(&encoder);
        put_in_rows(encoder.attended, l, dims, (float *)out->data + at);
    }
    free(memory);
    return DONE;
}
