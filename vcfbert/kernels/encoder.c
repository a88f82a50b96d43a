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
#include "array.h"
#include "strips.h"

#include <math.h>

enum { BLOCK = 2 }; /* strips done together */

typedef enum { SET, ADD, GELU } Kind; /* what is done with the sums of a product and the bias */

typedef struct {
    int64_t l, n_strips, dims, hidden, heads, width; /* width: of a head */
    const float *attention_norm, *projection, *projection_bias, *out, *out_bias; /* of one layer */
    const float *mlp_norm, *mlp_in, *mlp_in_bias, *mlp_out, *mlp_out_bias;
} Layer;

typedef struct {
    float *x;          /* [n_strips, dims, COLUMNS]: the residual stream */
    float *projected;  /* [n_strips, 3 dims, COLUMNS]: queries, keys, values */
    float *attended;   /* [n_strips, dims, COLUMNS] */
    float *scores;     /* [n_strips COLUMNS, COLUMNS]: of all keys and the queries of a strip */
    float *normalised; /* [BLOCK, dims, COLUMNS] */
    float *hidden;     /* [BLOCK, hidden, COLUMNS] */
} Scratch;

static Scratch scratch_in(char *memory, const Layer *p, size_t *size) {
    Scratch scratch;
    *size = 0;
    scratch.x = room(memory, size, p->n_strips * p->dims * COLUMNS, sizeof(float));
    scratch.projected = room(memory, size, 3 * p->n_strips * p->dims * COLUMNS, sizeof(float));
    scratch.attended = room(memory, size, p->n_strips * p->dims * COLUMNS, sizeof(float));
    scratch.scores = room(memory, size, p->n_strips * COLUMNS * COLUMNS, sizeof(float));
    scratch.normalised = room(memory, size, BLOCK * p->dims * COLUMNS, sizeof(float));
    scratch.hidden = room(memory, size, BLOCK * p->hidden * COLUMNS, sizeof(float));
    return scratch;
}

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
INLINED void soften(const Layer *p, float *scores, Vector inverse[2]) {
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

INLINED void mixed_values(const int n_rows, const Layer *p, const float *values, const float *weights,
                          const Vector inverse[2], float *out) {
    Vector sum[ROWS][2];
    for (int r = 0; r < n_rows; r++) sum[r][0] = sum[r][1] = (Vector){0};
    for (int64_t s = 0; s < p->n_strips; s++)
        add_products(n_rows, sum, values + s * 3 * p->dims * COLUMNS, COLUMNS, 1, weights + s * COLUMNS * COLUMNS,
                     COLUMNS);
    for (int r = 0; r < n_rows; r++)
        for (int half = 0; half < 2; half++)
            *(Vector *)(out + r * COLUMNS + half * WIDTH) = sum[r][half] * inverse[half];
}

/* Self-attention of one head for the queries of one strip. */
static void attend(const Layer *p, const Scratch *scratch, int64_t head, int64_t strip) {
    const int64_t stride = 3 * p->dims * COLUMNS, first = head * p->width * COLUMNS, keys = first + p->dims * COLUMNS;
    const float *query = scratch->projected + strip * stride + first;
    for (int64_t j = 0; j < p->n_strips * COLUMNS; j += ROWS) {
        Vector sum[ROWS][2];
        for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = (Vector){0};
        const float *key = scratch->projected + j / COLUMNS * stride + keys + j % COLUMNS;
        add_products(ROWS, sum, key, 1, COLUMNS, query, p->width);
        for (int r = 0; r < ROWS; r++)
            for (int half = 0; half < 2; half++)
                *(Vector *)(scratch->scores + (j + r) * COLUMNS + half * WIDTH) = sum[r][half];
    }
    Vector inverse[2];
    soften(p, scratch->scores, inverse);
    const float *values = scratch->projected + keys + p->dims * COLUMNS;
    float *out = scratch->attended + strip * p->dims * COLUMNS + first;
    int64_t c = 0;
    for (; c + ROWS <= p->width; c += ROWS)
        mixed_values(ROWS, p, values + c * COLUMNS, scratch->scores, inverse, out + c * COLUMNS);
    for (; c < p->width; c++) mixed_values(1, p, values + c * COLUMNS, scratch->scores, inverse, out + c * COLUMNS);
}

static void run_layer(const Layer *p, const Scratch *scratch) {
    const int64_t size = p->dims * COLUMNS; /* of a strip */
    for (int64_t s = 0; s < p->n_strips; s += BLOCK) {
        const int64_t n = least(BLOCK, p->n_strips - s);
        normalise(scratch->x + s * size, p->attention_norm, p->dims, scratch->normalised, n);
        linear(SET, p->projection, p->projection_bias, 3 * p->dims, p->dims, scratch->normalised,
               scratch->projected + 3 * s * size, n);
    }
    for (int64_t head = 0; head < p->heads; head++)
        for (int64_t s = 0; s < p->n_strips; s++) attend(p, scratch, head, s);
    for (int64_t s = 0; s < p->n_strips; s += BLOCK) {
        const int64_t n = least(BLOCK, p->n_strips - s);
        float *x = scratch->x + s * size;
        linear(ADD, p->out, p->out_bias, p->dims, p->dims, scratch->attended + s * size, x, n);
        normalise(x, p->mlp_norm, p->dims, scratch->normalised, n);
        linear(GELU, p->mlp_in, p->mlp_in_bias, p->hidden, p->dims, scratch->normalised, scratch->hidden, n);
        linear(ADD, p->mlp_out, p->mlp_out_bias, p->dims, p->hidden, scratch->hidden, x, n);
    }
}

/* Fills strips [n_strips, dims, COLUMNS] from rows [l, dims], with 0 behind the last site. */
static void fill_strips(const float *rows, const Layer *p, float *strips) {
    memset(strips, 0, (size_t)(p->n_strips * p->dims * COLUMNS) * sizeof(float));
    for (int64_t i = 0; i < p->l; i++)
        for (int64_t c = 0; c < p->dims; c++)
            strips[(i / COLUMNS * p->dims + c) * COLUMNS + i % COLUMNS] = rows[i * p->dims + c];
}

static void fill_rows(const float *strips, const Layer *p, float *rows) {
    for (int64_t i = 0; i < p->l; i++)
        for (int64_t c = 0; c < p->dims; c++)
            rows[i * p->dims + c] = strips[(i / COLUMNS * p->dims + c) * COLUMNS + i % COLUMNS];
}

/* The arrays of `EncoderWeights` of one layer. */
static void use_layer(const Array *weights, int64_t layer, Layer *p) {
    const float **own[] = {&p->attention_norm, &p->projection, &p->projection_bias, &p->out,     &p->out_bias,
                           &p->mlp_norm,       &p->mlp_in,     &p->mlp_in_bias,     &p->mlp_out, &p->mlp_out_bias};
    const int64_t d = p->dims, m = p->hidden;
    const int64_t size[] = {2 * d, 3 * d * d, 3 * d, d * d, d, 2 * d, m * d, m, d * m, d};
    for (int i = 0; i < 10; i++) *own[i] = (const float *)weights[i].data + layer * size[i];
}

int64_t vcfbert_encode(const Array *sequences, const Array *x, const Array *weights, int64_t heads, const Array *out) {
    const int64_t layers = weights[1].shape[0];
    Layer p = {.l = x->shape[1], .dims = x->shape[2], .heads = heads, .hidden = weights[6].shape[1]};
    p.n_strips = (p.l + COLUMNS - 1) / COLUMNS;
    p.width = p.dims / heads;
    size_t size;
    scratch_in(NULL, &p, &size);
    char *memory = aligned_alloc(ALIGNMENT, size);
    if (memory == NULL) return OUT_OF_MEMORY;
    const Scratch scratch = scratch_in(memory, &p, &size);
    for (int64_t i = 0; i < sequences->shape[0]; i++) {
        const int64_t at = ((const int64_t *)sequences->data)[i] * p.l * p.dims;
        fill_strips((const float *)x->data + at, &p, scratch.x);
        for (int64_t layer = 0; layer < layers; layer++) {
            use_layer(weights, layer, &p);
            run_layer(&p, &scratch);
        }
        normalise(scratch.x, weights[10].data, p.dims, scratch.attended, p.n_strips);
        fill_rows(scratch.attended, &p, (float *)out->data + at);
    }
    free(memory);
    return DONE;
}
