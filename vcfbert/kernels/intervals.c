/* The distinct alleles that haplotypes carry between typed sites: copying/intervals.py. */
#include "array.h"
#include "intervals.h"

/* Where the alleles of the haplotypes are stored. */
typedef struct {
    const int64_t *first_row;
    const uint64_t *rows;
    const uint16_t *number; /* [b, h] */
    int64_t h;
} Blocks;

/* Consecutive sites of a block that belong to one interval. */
typedef struct {
    const uint64_t *rows;   /* of the block */
    const uint16_t *number; /* [h] */
    int64_t shift, length;  /* first site in the block, number of sites */
} Part;

static Part part_of(const Blocks *blocks, int64_t block, int64_t shift, int64_t length) {
    Part part = {blocks->rows + blocks->first_row[block], blocks->number + block * blocks->h, shift, length};
    return part;
}

/* The alleles of a haplotype at a part's sites, the first site in the lowest bit. */
static uint64_t alleles_at(const Part *part, int64_t haplotype) {
    uint64_t row = part->rows[part->number[haplotype]] >> part->shift;
    return part->length == WORD_SITES ? row : row & ((1ULL << part->length) - 1);
}

/* Appends `length` alleles to the words of a row, which holds `site` of them. */
static void append(uint64_t *words, int64_t site, uint64_t alleles, int64_t length) {
    int64_t place = site % WORD_SITES;
    words[site / WORD_SITES] |= alleles << place;
    if (place + length > WORD_SITES) words[site / WORD_SITES + 1] |= alleles >> (WORD_SITES - place);
}

static uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
    return hash ^ hash >> 29;
}

/* Rows are of a word or two, for which a call of memcmp takes longer than the comparison. */
static int alike(const uint64_t *one, const uint64_t *other, int64_t n_words) {
    for (int64_t i = 0; i < n_words; i++)
        if (one[i] != other[i]) return 0;
    return 1;
}

typedef struct {
    const uint64_t *words;
    int64_t n_words;
    int32_t number;
} Row;

static int by_alleles(const void *one, const void *other) {
    const Row *a = one, *b = other;
    for (int64_t i = 0; i < a->n_words; i++) {
        uint64_t differs = a->words[i] ^ b->words[i];
        if (differs != 0) return a->words[i] & (differs & -differs) ? 1 : -1; /* at the first such site */
    }
    return 0;
}

/* Numbers `n` distinct rows anew, in the order of their alleles: `rank` [n]. */
static void rank_rows(const uint64_t *words, int64_t n_words, int64_t n, Row *sorted, int32_t *rank) {
    for (int64_t i = 0; i < n; i++) sorted[i] = (Row){words + i * n_words, n_words, (int32_t)i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_alleles);
    for (int64_t i = 0; i < n; i++) rank[sorted[i].number] = (int32_t)i;
}

int64_t vcfbert_number_alike(const Array *intervals, const Array *first_row, const Array *rows, const Array *row_number,
                             const Array *block, const Array *shift, const Array *length, const Array *first_part,
                             const Array *haplotypes, const Array *number, const Array *counts) {
    const Blocks blocks = {first_row->data, rows->data, row_number->data, row_number->shape[1]};
    const int64_t *chosen = haplotypes->data, *part_at = first_part->data;
    int64_t r = haplotypes->shape[0], most = largest_part(part_at, first_part->shape[0] - 1) + 1, size = 16;
    while (size < 2 * r) size *= 2;
    int32_t *table = malloc((size_t)size * sizeof(int32_t)); /* numbers of distinct rows by hash, -1 where free */
    uint64_t *found = malloc((size_t)((r + 1) * most) * sizeof(uint64_t)); /* distinct rows, part by part */
    Part *parts = malloc((size_t)most * sizeof(Part));
    Row *sorted = malloc((size_t)(r + 1) * sizeof *sorted);
    if (table == NULL || found == NULL || parts == NULL || sorted == NULL) {
        free(table), free(found), free(parts), free(sorted);
        return OUT_OF_MEMORY;
    }
    for (int64_t i = 0; i < intervals->shape[0]; i++) {
        int64_t s = ((const int64_t *)intervals->data)[i], n_parts = part_at[s + 1] - part_at[s], n_found = 0;
        int32_t *own = (int32_t *)number->data + first_number(s, r);
        memset(table, -1, (size_t)size * sizeof(int32_t));
        for (int64_t p = 0; p < n_parts; p++) {
            int64_t part = part_at[s] + p;
            parts[p] = part_of(&blocks, ((const int64_t *)block->data)[part], ((const int64_t *)shift->data)[part],
                               ((const int64_t *)length->data)[part]);
        }
        for (int64_t j = 0; j < r; j++) {
            uint64_t *row = found + n_found * n_parts, hash = 0;
            for (int64_t p = 0; p < n_parts; p++) {
                row[p] = alleles_at(parts + p, chosen[j]);
                hash = mixed(hash, row[p]);
            }
            uint64_t slot = hash & (uint64_t)(size - 1);
            while (table[slot] >= 0 && !alike(found + table[slot] * n_parts, row, n_parts))
                slot = (slot + 1) & (uint64_t)(size - 1);
            if (table[slot] < 0) table[slot] = (int32_t)n_found++;
            own[j * GROUP] = table[slot];
        }
        rank_rows(found, n_parts, n_found, sorted, table);
        for (int64_t j = 0; j < r; j++) own[j * GROUP] = table[own[j * GROUP]];
        ((int64_t *)counts->data)[s] = n_found > 0 ? n_found : 1;
    }
    free(table), free(found), free(parts), free(sorted);
    return DONE;
}

int64_t vcfbert_fill_words(const Array *intervals, const Array *first_row, const Array *rows, const Array *row_number,
                           const Array *block, const Array *shift, const Array *length, const Array *first_part,
                           const Array *haplotypes, const Array *number, const Array *width, const Array *first_word,
                           const Array *words) {
    const Blocks blocks = {first_row->data, rows->data, row_number->data, row_number->shape[1]};
    const int64_t *chosen = haplotypes->data, *part_at = first_part->data;
    int64_t r = haplotypes->shape[0];
    uint8_t *filled = malloc((size_t)r + 1); /* of each row */
    if (filled == NULL) return OUT_OF_MEMORY;
    for (int64_t i = 0; i < intervals->shape[0]; i++) {
        int64_t s = ((const int64_t *)intervals->data)[i], n_words = ((const int64_t *)width->data)[s];
        const int32_t *own = (const int32_t *)number->data + first_number(s, r);
        uint64_t *first = (uint64_t *)words->data + ((const int64_t *)first_word->data)[s];
        memset(filled, 0, (size_t)r);
        for (int64_t j = 0; j < r; j++) {
            int64_t number_of_row = own[j * GROUP];
            if (filled[number_of_row]) continue;
            filled[number_of_row] = 1;
            uint64_t *row = first + number_of_row * n_words;
            int64_t site = 0;
            for (int64_t p = part_at[s]; p < part_at[s + 1]; p++) {
                Part part = part_of(&blocks, ((const int64_t *)block->data)[p], ((const int64_t *)shift->data)[p],
                                    ((const int64_t *)length->data)[p]);
                append(row, site, alleles_at(&part, chosen[j]), part.length);
                site += part.length;
            }
        }
    }
    free(filled);
    return DONE;
}
