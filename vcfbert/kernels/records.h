/* What the records of imputed sites hold, as record_text.c and record_bcf.c read it: record_formatter.py. */
#ifndef VCFBERT_RECORDS_H
#define VCFBERT_RECORDS_H

#include "array.h"

enum { ONE = 1000, HALF = 500, NO_GQ = 100 };
enum { AF, MAF, DR2, ER2, N_NUMBERS };

/* Lines in one buffer; line i begins at starts[i], and one byte separates it from the next at starts[i + 1]. */
typedef struct {
    const char *text;
    const int64_t *starts;
} Lines;

/* l sites of n samples in r records. Record i has the sites first[i] to first[i + 1] - 1. */
typedef struct {
    int64_t n, n_records;
    const int64_t *first;    /* [r + 1] */
    const uint8_t *swapped;  /* [l], whether REF and ALT are written exchanged */
    const int32_t *pos;      /* [l], 1-based */
    Lines ref, alt, id;      /* [l]; a record has the ID of its first site */
    Lines info;              /* [l]: kept INFO, likewise of its first site */
    const uint8_t *n_info;   /* [l]: its number of fields */
    const int64_t *length;   /* [l]: bases of the reference that a record covers */
    const int16_t *hds;      /* [l, n, 2] in thousandths, 0 in place of a haploid sample's second */
    const int16_t *two;      /* [l, n], probabilities of two ALT alleles */
    const uint8_t *gq;       /* [l, n], or empty without GQ */
    const double *numbers;   /* [l, 4]: AF, MAF of the record (at its first site), DR2, ER2 or NaN */
    const uint8_t *typed;    /* [l] */
    const uint8_t *kept;     /* [r], whether the record is written */
    const uint8_t *haploid;  /* [n] */
    const uint8_t *has;      /* [4]: whether DS, HDS, GP and GQ are fields */
} Records;

enum { HAS_DS, HAS_HDS, HAS_GP, HAS_GQ };

static inline Records records_of(const Array columns[13], const Array contents[6], const Array *haploid,
                                 const Array *fields) {
    Records r = {
        .n = contents[0].shape[1], .n_records = columns[0].shape[0] - 1,
        .first = columns[0].data, .swapped = columns[1].data, .pos = columns[2].data,
        .ref = {columns[3].data, columns[4].data}, .alt = {columns[5].data, columns[6].data},
        .id = {columns[7].data, columns[8].data}, .info = {columns[9].data, columns[10].data},
        .n_info = columns[11].data, .length = columns[12].data,
        .hds = contents[0].data, .two = contents[1].data, .gq = contents[2].data, .numbers = contents[3].data,
        .typed = contents[4].data, .kept = contents[5].data, .haploid = haploid->data, .has = fields->data,
    };
    return r;
}

typedef struct {
    const char *text;
    int64_t length;
} String;

static inline String line_of(const Lines *lines, int64_t i) {
    String line = {lines->text + lines->starts[i], lines->starts[i + 1] - lines->starts[i] - 1};
    return line;
}

static inline String ref_of(const Records *records, int64_t site) {
    return line_of(records->swapped[site] ? &records->alt : &records->ref, site);
}

static inline String alt_of(const Records *records, int64_t site) {
    return line_of(records->swapped[site] ? &records->ref : &records->alt, site);
}

static inline int is_typed_record(const Records *records, int64_t start, int64_t k) {
    int typed = 0;
    for (int64_t site = start; site < start + k; site++) typed |= records->typed[site];
    return typed;
}

/* Dosage of ALT allele `alt` (from 0) of the record that begins at site `start`. */
static inline int hds_of(const Records *records, int64_t start, int64_t alt, int64_t sample, int haplotype) {
    return records->hds[((start + alt) * records->n + sample) * 2 + haplotype];
}

/* Probability of `allele`, 0 for REF, in thousandths. */
static inline int probability_of(const Records *records, int64_t start, int64_t k, int64_t allele, int64_t sample,
                                 int haplotype) {
    if (allele > 0) return hds_of(records, start, allele - 1, sample, haplotype);
    int sum = 0;
    for (int64_t alt = 0; alt < k; alt++) sum += hds_of(records, start, alt, sample, haplotype);
    return sum < ONE ? ONE - sum : 0;
}

/* The most probable allele. Of equal probabilities ALT is called and not REF. */
static inline int64_t called_allele(const Records *records, int64_t start, int64_t k, int64_t sample, int haplotype) {
    int64_t best = 1;
    int highest = -1;
    for (int64_t alt = 0; alt < k; alt++) {
        int q = hds_of(records, start, alt, sample, haplotype);
        if (q > highest) highest = q, best = alt + 1;
    }
    return probability_of(records, start, k, 0, sample, haplotype) > highest ? 0 : best;
}

/* Probability, in thousandths, that one haplotype has allele a and the other b, of a record with k ALT alleles. */
static inline int genotype_probability(const Records *records, int64_t start, int64_t k, int64_t sample, int64_t a,
                                       int64_t b) {
    int first[2], second[2];
    for (int i = 0; i < 2; i++) {
        first[i] = probability_of(records, start, k, i == 0 ? a : b, sample, 0);
        second[i] = probability_of(records, start, k, i == 0 ? a : b, sample, 1);
    }
    return (first[0] * second[1] + (a == b ? 0 : first[1] * second[0]) + HALF) / ONE;
}

#endif
