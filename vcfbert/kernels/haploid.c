/* The haploid Li-Stephens HMMs: haploid.py.
 *
 * One pass over the states does all heads, so that alleles and prior are loaded once for them. The alleles of 32 typed
 * sites are the bits of one word, and a mask made of one bit chooses between two emission probabilities. The forward
 * pass keeps all messages of one span of typed sites, and of each other span only the one before it; the backward pass
 * computes the others again. So messages stay in the second-level cache.
 */
#include "array.h"
#include "intervals.h"
#include "vectors.h"

#include <math.h>

enum { LANES = 4, BITS = 32, COPIES = 4 };

typedef struct {
    int64_t n_heads, t, k, r, n_words, padded, span, n_spans; /* padded: states, rounded up to whole vectors */
    const int8_t *observed;                                   /* [n, t] */
    const int32_t *states;                                    /* [n, k] */
    const float *prior;                                       /* [n, k] */
    const float *stay, *mismatch, *key_mixture;               /* [n_heads, t] */
    const int32_t *number;                                    /* [groups, r, GROUP] */
    const int64_t *bounds;                                    /* [t + 2] */
    const int64_t *counts, *first_word;                       /* [t + 1] */
    const uint64_t *row_words; /* of the rows of each interval; bit i is 1 where a row has ALT at site i */
    const float *mixing; /* [l, 2, LANES], of the left and of the right end of an interval */
    float least;
} Problem;

/* What a thread works with; all of it lies in one piece of memory. */
typedef struct {
    uint32_t *words;   /* [n_words, r]: bit i of word w is the allele at typed site 32 w + i */
    uint32_t *carried; /* [n_words, padded]: those of a target's states */
    float *pi;         /* [padded]: the prior, 0 for padding */
    float *forward;    /* [span, n_heads, padded] */
    float *at_span;    /* [n_spans, n_heads, padded]: the message before each span, with sum 1 */
    float *backward;   /* [n_heads, padded] */
    float *posterior;  /* [padded, 2, LANES]: not yet scaled, at the two ends of an interval, used in turn */
    float *rows;       /* [rows of an interval, COPIES, 2 LANES] */
    int64_t *kept;     /* [rows of an interval] */
    float *at_sites;   /* [sites of an interval, 2 LANES] */
} Scratch;

/* Chooses the emission probability of states by their allele; without a call it is 1. */
typedef struct {
    Mask at_ref[LANES], exchanged[LANES]; /* bits of the probability at REF, and which of them differ at ALT */
} Emission;

INLINED void emission_of(const int n_heads, const Problem *p, int8_t call, int64_t site, Emission *emission) {
    for (int h = 0; h < n_heads; h++) {
        float miss = call < 0 ? 1.0f : p->mismatch[h * p->t + site], hit = call < 0 ? 1.0f : 1.0f - miss;
        Vector at_ref = (Vector){0} + (call == 1 ? miss : hit), at_alt = (Vector){0} + (call == 1 ? hit : miss);
        emission->at_ref[h] = (Mask)at_ref;
        emission->exchanged[h] = (Mask)at_ref ^ (Mask)at_alt;
    }
}

/* Fills the messages [stop - first, n_heads, padded] of a span, from the `message` before it, which sums to 1.
 *
 * Messages stay unscaled. Their sum divides the next step's stay probability, which saves a pass. `total` [n_heads]
 * gets the last sums.
 */
INLINED void forward_span(const int n_heads, const Problem *p, const Scratch *scratch, const int8_t *calls,
                          int64_t first, int64_t stop, const float *message, float *total) {
    const int64_t size = n_heads * p->padded;
    for (int h = 0; h < n_heads; h++) total[h] = 1.0f;
    for (int64_t site = first; site < stop; site++) {
        const float *restrict before = site == first ? message : scratch->forward + (site - 1 - first) * size;
        float *restrict after = scratch->forward + (site - first) * size;
        const uint32_t *restrict carried = scratch->carried + site / BITS * p->padded;
        const float *restrict pi = scratch->pi;
        const int left = BITS - 1 - (int)(site % BITS);
        Emission emission;
        emission_of(n_heads, p, calls[site], site, &emission);
        Vector stays[LANES], jumps[LANES], sum[LANES];
        for (int h = 0; h < n_heads; h++) {
            float stay = p->stay[h * p->t + site];
            stays[h] = (Vector){0} + stay / total[h];
            jumps[h] = (Vector){0} + (1.0f - stay);
            sum[h] = (Vector){0};
        }
        for (int64_t j = 0; j < p->padded; j += WIDTH) {
            const Vector prior = *(const Vector *)(pi + j);
            const Mask alt = *(const Mask *)(carried + j) << left >> (BITS - 1);
            for (int h = 0; h < n_heads; h++) {
                Vector moved = stays[h] * *(const Vector *)(before + h * p->padded + j) + jumps[h] * prior;
                moved *= (Vector)(emission.at_ref[h] ^ (alt & emission.exchanged[h]));
                *(Vector *)(after + h * p->padded + j) = moved;
                sum[h] += moved;
            }
        }
        for (int h = 0; h < n_heads; h++) total[h] = SUM(sum[h]);
    }
}

/* Fills the message before each span, and all messages of the last span. */
INLINED void forward_pass(const int n_heads, const Problem *p, const Scratch *scratch, const int8_t *calls) {
    const int64_t size = n_heads * p->padded;
    float total[LANES];
    for (int h = 0; h < n_heads; h++)
        memcpy(scratch->at_span + h * p->padded, scratch->pi, (size_t)p->padded * sizeof(float));
    for (int64_t number = 0; number < p->n_spans; number++) {
        int64_t first = number * p->span, stop = number + 1 < p->n_spans ? first + p->span : p->t;
        forward_span(n_heads, p, scratch, calls, first, stop, scratch->at_span + number * size, total);
        if (number + 1 == p->n_spans) break;
        const float *restrict last = scratch->forward + (p->span - 1) * size;
        float *restrict next = scratch->at_span + (number + 1) * size;
        for (int h = 0; h < n_heads; h++) {
            for (int64_t j = h * p->padded; j < (h + 1) * p->padded; j++) next[j] = last[j] / total[h];
        }
    }
}

/* What the backward pass carries from one typed site to the one before it. */
typedef struct {
    float stays[LANES], jumps[LANES]; /* the move's probabilities; stays is divided by the sum of the message */
    float scale[2][LANES];            /* 1 / sum of the posterior at the two ends of an interval */
} Move;

/* Fills the unscaled copying probabilities at a typed site, and takes the backward message over it.
 *
 * `mismatched` [n_heads] gets the posterior of the states that do not carry the call.
 */
INLINED void backward_step(const int n_heads, const Problem *p, const Scratch *scratch, int8_t call, int64_t site,
                           const float *message, Move *move, float *mismatched) {
    const float *restrict forward = message, *restrict pi = scratch->pi;
    float *restrict backward = scratch->backward;
    float *restrict posterior = scratch->posterior + site % 2 * LANES;
    const uint32_t *restrict carried = scratch->carried + site / BITS * p->padded;
    const int left = BITS - 1 - (int)(site % BITS);
    const Mask called_alt = (Mask){0} - (call == 1);
    Emission emission;
    emission_of(n_heads, p, call, site, &emission);
    Vector stays[LANES], jumps[LANES], sum[LANES], other[LANES], expected[LANES];
    for (int h = 0; h < n_heads; h++) {
        stays[h] = (Vector){0} + move->stays[h];
        jumps[h] = (Vector){0} + move->jumps[h];
        sum[h] = other[h] = expected[h] = (Vector){0};
    }
    for (int64_t j = 0; j < p->padded; j += WIDTH) {
        const Vector prior = *(const Vector *)(pi + j);
        const Mask alt = *(const Mask *)(carried + j) << left >> (BITS - 1);
        const Mask differs = alt ^ called_alt;
        Vector product[LANES] = {{0}};
        for (int h = 0; h < n_heads; h++) {
            Vector after = stays[h] * *(const Vector *)(backward + h * p->padded + j) + jumps[h];
            product[h] = after * *(const Vector *)(forward + h * p->padded + j);
            sum[h] += product[h];
            other[h] += (Vector)((Mask)product[h] & differs);
            after *= (Vector)(emission.at_ref[h] ^ (alt & emission.exchanged[h]));
            *(Vector *)(backward + h * p->padded + j) = after;
            expected[h] += after * prior;
        }
        store_transposed(product, posterior + j * 2 * LANES, 2 * LANES);
    }
    for (int h = 0; h < n_heads; h++) {
        float stay = p->stay[h * p->t + site], scale = 1.0f / SUM(sum[h]);
        move->scale[site % 2][h] = scale;
        move->stays[h] = stay / SUM(expected[h]);
        move->jumps[h] = 1.0f - stay;
        mismatched[h] = SUM(other[h]) * scale;
    }
}

/* The leave-one-out ALT probability: the call's emission is divided out of the posterior. NaN where it is missing. */
static float without_call(const Problem *p, int8_t call, int64_t site, const float *mismatched) {
    float mean = 0.0f;
    for (int64_t h = 0; h < p->n_heads; h++) {
        float miss = p->mismatch[h * p->t + site], other = mismatched[h] / miss;
        mean += p->key_mixture[h * p->t + site] * (other / (other + (1.0f - mismatched[h]) / (1.0f - miss)));
    }
    return call < 0 ? NAN : call == 1 ? 1.0f - mean : mean;
}

/* Sums the copying probabilities over the states of each row of interval `s`, at its left and its right end.
 *
 * Fills the sums `rows` [n, 2 LANES] and `kept` [n], the rows that they belong to. Returns n. Rows below `least` are
 * dropped. Many states share a row. States that follow each other are added to different copies of it, so that an
 * addition seldom waits for the last.
 */
static int64_t sum_by_row(const Problem *p, const Scratch *scratch, const int32_t *states, int64_t s,
                          const float *scale) {
    const int32_t *number = p->number + first_number(s, p->r);
    float *rows = scratch->rows;
    memset(rows, 0, (size_t)p->counts[s] * COPIES * 2 * LANES * sizeof(float));
    for (int64_t j = 0; j < p->k; j++) {
        float *row = rows + ((int64_t)number[(int64_t)states[j] * GROUP] * COPIES + j % COPIES) * 2 * LANES;
        *(Vector *)row += *(const Vector *)(scratch->posterior + j * 2 * LANES);
    }
    const Vector scales = *(const Vector *)scale;
    int64_t n_kept = 0;
    for (int64_t row = 0; row < p->counts[s]; row++) {
        const Vector *copies = (const Vector *)(rows + row * COPIES * 2 * LANES);
        Vector sums = copies[0];
        for (int i = 1; i < COPIES; i++) sums += copies[i];
        sums *= scales;
        /* An even site is in the first half. */
        if (s % 2 == 0) sums = SHUFFLED(sums, sums, 4, 5, 6, 7, 0, 1, 2, 3);
        *(Vector *)(rows + n_kept * 2 * LANES) = sums;
        scratch->kept[n_kept] = row;
        n_kept += SUM(sums) >= p->least;
    }
    return n_kept;
}

/* Fills the dosages of interval `s` from the sums of its `n_kept` rows. */
static void sum_by_site(const Problem *p, const Scratch *scratch, int64_t s, int64_t n_kept, float *dosage) {
    const int64_t start = p->bounds[s], n_sites = p->bounds[s + 1] - start;
    const int64_t width = (n_sites + WORD_SITES - 1) / WORD_SITES; /* words of a row */
    const uint64_t *words = p->row_words + p->first_word[s];
    memset(scratch->at_sites, 0, (size_t)n_sites * 2 * LANES * sizeof(float));
    for (int64_t n = 0; n < n_kept; n++) {
        const Vector sums = *(const Vector *)(scratch->rows + n * 2 * LANES);
        for (int64_t word = 0; word < width; word++) {
            float *at_sites = scratch->at_sites + word * WORD_SITES * 2 * LANES;
            for (uint64_t left = words[scratch->kept[n] * width + word]; left != 0; left &= left - 1) {
                *(Vector *)(at_sites + __builtin_ctzll(left) * 2 * LANES) += sums;
            }
        }
    }
    for (int64_t site = 0; site < n_sites; site++) {
        Vector mixed = *(const Vector *)(scratch->at_sites + site * 2 * LANES);
        mixed *= *(const Unaligned *)(p->mixing + (start + site) * 2 * LANES);
        dosage[start + site] = SUM(mixed);
    }
}

INLINED void copy_target(const int n_heads, const Problem *p, const Scratch *scratch, int64_t target, float *dosage,
                         float *loo) {
    const int8_t *calls = p->observed + target * p->t;
    const int32_t *states = p->states + target * p->k;
    const int64_t size = n_heads * p->padded;
    for (int64_t word = 0; word < p->n_words; word++) {
        uint32_t *restrict carried = scratch->carried + word * p->padded;
        const uint32_t *restrict words = scratch->words + word * p->r;
        for (int64_t j = 0; j < p->k; j++) carried[j] = words[states[j]];
        /* Padding carries what a state does, or its backward message would grow without bound. */
        for (int64_t j = p->k; j < p->padded; j++) carried[j] = carried[0];
    }
    memcpy(scratch->pi, p->prior + target * p->k, (size_t)p->k * sizeof(float));
    forward_pass(n_heads, p, scratch, calls);
    for (int64_t j = 0; j < size; j++) scratch->backward[j] = 1.0f;
    memset(scratch->posterior, 0, (size_t)p->padded * 2 * LANES * sizeof(float));
    Move move __attribute__((aligned(64)));
    memset(&move, 0, sizeof move);
    for (int h = 0; h < n_heads; h++) move.stays[h] = 1.0f;
    for (int64_t s = p->t; s >= 0; s--) {
        if (s == 0) {
            memset(move.scale[1], 0, sizeof move.scale[1]);
        } else {
            float mismatched[LANES], total[LANES];
            if (s < p->t && s % p->span == 0) { /* the typed site s - 1 is the last of its span */
                const float *before = scratch->at_span + (s / p->span - 1) * size;
                forward_span(n_heads, p, scratch, calls, s - p->span, s, before, total);
            }
            const float *message = scratch->forward + (s - 1) % p->span * size;
            backward_step(n_heads, p, scratch, calls[s - 1], s - 1, message, &move, mismatched);
            loo[s - 1] = without_call(p, calls[s - 1], s - 1, mismatched);
        }
        if (p->bounds[s] < p->bounds[s + 1]) {
            int64_t n_kept = sum_by_row(p, scratch, states, s, move.scale[0]);
            sum_by_site(p, scratch, s, n_kept, dosage);
        }
    }
}

/* The largest of n values, or 0. */
static int64_t most(const int64_t *values, int64_t n) {
    int64_t largest = 0;
    for (int64_t i = 0; i < n; i++) largest = values[i] > largest ? values[i] : largest;
    return largest;
}

/* Lays the scratch memory out in `memory`; returns its size. */
static size_t lay_out(const Problem *p, char *memory, Scratch *scratch) {
    const int64_t most_rows = most(p->counts, p->t + 1), most_sites = largest_part(p->bounds, p->t + 1);
    const int64_t size = p->n_heads * p->padded;
    size_t used = 0;
    scratch->words = room(memory, &used, p->n_words * p->r, sizeof *scratch->words);
    scratch->carried = room(memory, &used, p->n_words * p->padded, sizeof *scratch->carried);
    scratch->pi = room(memory, &used, p->padded, sizeof *scratch->pi);
    scratch->forward = room(memory, &used, p->span * size, sizeof *scratch->forward);
    scratch->at_span = room(memory, &used, p->n_spans * size, sizeof *scratch->at_span);
    scratch->backward = room(memory, &used, size, sizeof *scratch->backward);
    scratch->posterior = room(memory, &used, p->padded * 2 * LANES, sizeof *scratch->posterior);
    scratch->rows = room(memory, &used, most_rows * COPIES * 2 * LANES, sizeof *scratch->rows);
    scratch->kept = room(memory, &used, most_rows, sizeof *scratch->kept);
    scratch->at_sites = room(memory, &used, most_sites * 2 * LANES, sizeof *scratch->at_sites);
    return used;
}

static void pack_alleles(const Problem *p, const uint8_t *alleles, uint32_t *words) {
    memset(words, 0, (size_t)(p->n_words * p->r) * sizeof *words);
    for (int64_t site = 0; site < p->t; site++) {
        uint32_t *restrict word = words + site / BITS * p->r;
        const uint8_t *restrict allele = alleles + site * p->r;
        for (int64_t row = 0; row < p->r; row++) word[row] |= (uint32_t)allele[row] << site % BITS;
    }
}

int64_t vcfbert_copy_targets(const Array *targets, const Array *hmm, const Array *decoder, int64_t span,
                             double max_dropped, const Array *dosage, const Array *loo) {
    const Array *observed = hmm, *alleles = hmm + 1, *states = hmm + 2, *prior = hmm + 3, *stay = hmm + 4;
    const Array *mismatch = hmm + 5, *key_mixture = hmm + 6, *number = decoder, *bounds = decoder + 1;
    const Array *counts = decoder + 2, *first_word = decoder + 3, *words = decoder + 4, *mixing = decoder + 5;
    const int64_t t = alleles->shape[0], k = states->shape[1], l = mixing->shape[0];
    const Problem p = {
        .n_heads = stay->shape[0], .t = t, .k = k, .r = alleles->shape[1], .n_words = (t + BITS - 1) / BITS,
        .padded = (k + WIDTH - 1) / WIDTH * WIDTH, .span = span, .n_spans = (t + span - 1) / span,
        .observed = observed->data, .states = states->data, .prior = prior->data, .stay = stay->data,
        .mismatch = mismatch->data, .key_mixture = key_mixture->data, .number = number->data, .bounds = bounds->data,
        .counts = counts->data, .first_word = first_word->data, .row_words = words->data,
        .mixing = mixing->data, .least = (float)max_dropped / (float)k,
    };
    Scratch scratch;
    const size_t size = lay_out(&p, NULL, &scratch);
    char *memory = aligned_alloc(ALIGNMENT, size);
    if (memory == NULL) return OUT_OF_MEMORY;
    lay_out(&p, memory, &scratch);
    memset(scratch.pi, 0, (size_t)p.padded * sizeof *scratch.pi);
    pack_alleles(&p, alleles->data, scratch.words);
    for (int64_t i = 0; i < targets->shape[0]; i++) {
        const int64_t target = ((const int64_t *)targets->data)[i];
        float *own_dosage = (float *)dosage->data + target * l, *own_loo = (float *)loo->data + target * t;
        switch (p.n_heads) { /* each number of heads gets loops of its own */
        case 1: copy_target(1, &p, &scratch, target, own_dosage, own_loo); break;
        case 2: copy_target(2, &p, &scratch, target, own_dosage, own_loo); break;
        case 3: copy_target(3, &p, &scratch, target, own_dosage, own_loo); break;
        default: copy_target(4, &p, &scratch, target, own_dosage, own_loo); break;
        }
    }
    free(memory);
    return DONE;
}
