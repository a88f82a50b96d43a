/* The transformer encoder of V17 and V18, for one sequence at a time: encoder.c. */
#ifndef VCFBERT_ENCODER_H
#define VCFBERT_ENCODER_H

#include "array.h"

typedef struct {
    int64_t l, n_strips, dims, hidden, heads, width, layers; /* width: of a head */
    const Array *weights;                                    /* those of `EncoderWeights` */
    float *x;          /* [n_strips, dims, COLUMNS]: the residual stream; first the input */
    float *projected;  /* [n_strips, 3 dims, COLUMNS]: queries, keys, values */
    float *attended;   /* [n_strips, dims, COLUMNS]; at last the output */
    float *scores;     /* [n_strips COLUMNS, COLUMNS]: of all keys and the queries of a strip */
    float *normalised; /* [BLOCK, dims, COLUMNS] */
    float *inner;      /* [BLOCK, hidden, COLUMNS] */
} Encoder;

/* An encoder of sequences [l, dims], with room for its activations from byte `*used` of `memory` on. */
Encoder vcfbert_encoder_in(char *memory, size_t *used, const Array *weights, int64_t heads, int64_t l, int64_t dims);

/* Runs the sequence in `encoder->x`, and leaves its features in `encoder->attended`. */
void vcfbert_run_encoder(const Encoder *encoder);

#endif
