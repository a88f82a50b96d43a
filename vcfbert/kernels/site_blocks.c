/* A panel's alleles in blocks of up to 64 sites: genotypes/site_blocks.py. */
#include "array.h"

/* Transposes 8 x 8 bits: bit j of byte i becomes bit i of byte j (Warren, Hacker's Delight, 7-3). */
static uint64_t transposed(uint64_t x) {
    uint64_t t = (x ^ (x >> 7)) & 0x00AA00AA00AA00AAULL;
    x = x ^ t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000CCCC0000CCCCULL;
    x = x ^ t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000F0F0F0F0ULL;
    return x ^ t ^ (t << 28);
}

/* The words of the 8 haplotypes of one byte column of packed [sites, stride]. */
static void words_of_column(const uint8_t *packed, int64_t sites, int64_t stride, int64_t column, uint64_t *words) {
    for (int h = 0; h < 8; h++) words[h] = 0;
    for (int64_t first = 0; first < sites; first += 8) {
        uint64_t square = 0;
        for (int64_t site = first; site < sites && site < first + 8; site++)
            square |= (uint64_t)packed[site * stride + column] << (8 * (site - first));
        square = transposed(square);
        /* Haplotype 0 is the highest bit of a byte. */
        for (int h = 0; h < 8; h++) words[h] |= (square >> (8 * (7 - h)) & 0xFF) << first;
    }
}

int64_t vcfbert_number_rows(const Array *packed, const Array *number, const Array *rows) {
    int64_t sites = packed->shape[0], stride = packed->shape[1], h = number->shape[0], room = rows->shape[0];
    uint16_t *own = number->data;
    uint64_t *found = rows->data, words[8];
    int64_t size = 16, n_rows = 0;
    while (size < 2 * room) size *= 2;
    int32_t *table = malloc((size_t)size * sizeof(int32_t)); /* numbers of rows by hash, -1 where free */
    if (table == NULL) return OUT_OF_MEMORY;
    memset(table, -1, (size_t)size * sizeof(int32_t));
    for (int64_t i = 0; i < h; i++) {
        if (i % 8 == 0) words_of_column(packed->data, sites, stride, i / 8, words);
        uint64_t word = words[i % 8], slot = (word * 0x9E3779B97F4A7C15ULL >> 20) & (uint64_t)(size - 1);
        while (table[slot] >= 0 && found[table[slot]] != word) slot = (slot + 1) & (uint64_t)(size - 1);
        if (table[slot] < 0) {
            if (n_rows == room) {
                n_rows++;
                break;
            }
            found[n_rows] = word;
            table[slot] = (int32_t)n_rows++;
        }
        own[i] = (uint16_t)table[slot];
    }
    free(table);
    return n_rows;
}

/* Eight bits as eight bytes of 0 or 1, the lowest bit first. */
static uint64_t spread(uint64_t bits) {
    uint64_t each = (bits & 0xFF) * 0x0101010101010101ULL & 0x8040201008040201ULL;
    return (each + 0x7F7F7F7F7F7F7F7FULL) >> 7 & 0x0101010101010101ULL;
}

int64_t vcfbert_unpack(const Array *first_row, const Array *rows, const Array *number, const Array *block,
                       const Array *place, const Array *haplotypes, const Array *out) {
    const int64_t *of_block = block->data, *at = place->data, *chosen = haplotypes->data;
    int64_t n = haplotypes->shape[0], l = block->shape[0], h = number->shape[1];
    for (int64_t start = 0, stop; start < l; start = stop) {
        stop = start + 1; /* the sites of one block, and whether they are next to each other */
        int together = 1;
        for (; stop < l && of_block[stop] == of_block[start]; stop++) together &= at[stop] == at[stop - 1] + 1;
        const uint64_t *own = (const uint64_t *)rows->data + ((const int64_t *)first_row->data)[of_block[start]];
        const uint16_t *row = (const uint16_t *)number->data + of_block[start] * h;
        for (int64_t i = 0; i < n; i++) {
            uint8_t *cell = (uint8_t *)out->data + i * l + start;
            uint64_t word = own[row[chosen[i]]];
            int64_t site = 0, count = stop - start;
            if (together) {
                word >>= at[start];
                for (; site + 8 <= count; site += 8, word >>= 8) {
                    uint64_t eight = spread(word);
                    for (int b = 0; b < 8; b++) cell[site + b] = (uint8_t)(eight >> (8 * b));
                }
                for (; site < count; site++, word >>= 1) cell[site] = word & 1;
            } else {
                for (; site < count; site++) cell[site] = word >> at[start + site] & 1;
            }
        }
    }
    return DONE;
}

/* The inverse of words_of_column: sites first to stop - 1 of a block into packed [stop - first, stride]. */
static void column_of_words(const uint64_t *words, int64_t first, int64_t stop, int64_t stride, int64_t column,
                            uint8_t *packed) {
    for (int64_t from = first; from < stop; from += 8) {
        uint64_t square = 0;
        for (int h = 0; h < 8; h++) square |= (words[h] >> from & 0xFF) << (8 * (7 - h));
        square = transposed(square);
        for (int64_t site = from; site < stop && site < from + 8; site++, square >>= 8)
            packed[(site - first) * stride + column] = square & 0xFF;
    }
}

int64_t vcfbert_pack(const Array *first_site, const Array *first_row, const Array *rows, const Array *number,
                     int64_t start, const Array *out) {
    const int64_t *site_of = first_site->data, *row_of = first_row->data;
    int64_t l = out->shape[0], stride = out->shape[1], h = number->shape[1], block = 0;
    for (int64_t done = 0; done < l; block++) {
        int64_t first = start + done - site_of[block], stop = site_of[block + 1] - site_of[block];
        if (first >= stop) continue;
        if (stop > first + l - done) stop = first + l - done;
        const uint64_t *own = (const uint64_t *)rows->data + row_of[block];
        const uint16_t *row = (const uint16_t *)number->data + block * h;
        for (int64_t column = 0; column < stride; column++) {
            uint64_t words[8] = {0};
            for (int64_t i = 8 * column; i < h && i < 8 * column + 8; i++) words[i % 8] = own[row[i]];
            column_of_words(words, first, stop, stride, column, (uint8_t *)out->data + done * stride);
        }
        done += stop - first;
    }
    return DONE;
}

int64_t vcfbert_gather_bits(const Array *first_row, const Array *rows, const Array *number, const Array *block,
                            const Array *place, const Array *haplotypes, const Array *out) {
    const int64_t *of_block = block->data, *at = place->data, *row_of = first_row->data, *chosen = haplotypes->data;
    int64_t n = haplotypes->shape[0], l = block->shape[0], h = number->shape[1], words = out->shape[1];
    size_t most = (size_t)largest_part(row_of, number->shape[0]) + 1;
    uint64_t *gathered = malloc(most * sizeof *gathered); /* the bits of each row of a block */
    if (gathered == NULL) return OUT_OF_MEMORY;
    for (int64_t start = 0, stop; start < l; start = stop) {
        /* The sites of one block and one word of `out`. */
        for (stop = start + 1; stop < l && of_block[stop] == of_block[start] && stop % 64 != 0;) stop++;
        int64_t first = row_of[of_block[start]], n_rows = row_of[of_block[start] + 1] - first;
        for (int64_t r = 0; r < n_rows; r++) {
            uint64_t row = ((const uint64_t *)rows->data)[first + r], bits = 0;
            for (int64_t site = start; site < stop; site++) bits |= (row >> at[site] & 1) << site % 64;
            gathered[r] = bits;
        }
        const uint16_t *own = (const uint16_t *)number->data + of_block[start] * h;
        uint64_t *word = (uint64_t *)out->data + start / 64;
        for (int64_t i = 0; i < n; i++) word[i * words] |= gathered[own[chosen[i]]];
    }
    free(gathered);
    return DONE;
}

int64_t vcfbert_count_alleles(const Array *first_site, const Array *first_row, const Array *rows, const Array *number,
                              const Array *haplotypes, const Array *counts) {
    const int64_t *site_of = first_site->data, *row_of = first_row->data, *chosen = haplotypes->data;
    int64_t n_blocks = number->shape[0], h = number->shape[1];
    size_t most = (size_t)largest_part(row_of, n_blocks) + 1;
    int64_t *of_row = malloc(most * sizeof *of_row); /* haplotypes with each row */
    if (of_row == NULL) return OUT_OF_MEMORY;
    for (int64_t b = 0; b < n_blocks; b++) {
        const uint64_t *own = (const uint64_t *)rows->data + row_of[b];
        const uint16_t *row = (const uint16_t *)number->data + b * h;
        int64_t n_rows = row_of[b + 1] - row_of[b], *count = (int64_t *)counts->data + site_of[b];
        memset(of_row, 0, (size_t)n_rows * sizeof(int64_t));
        for (int64_t i = 0; i < haplotypes->shape[0]; i++) of_row[row[chosen[i]]]++;
        memset(count, 0, (size_t)(site_of[b + 1] - site_of[b]) * sizeof(int64_t));
        for (int64_t r = 0; r < n_rows; r++)
            for (uint64_t left = own[r]; left != 0; left &= left - 1) count[__builtin_ctzll(left)] += of_row[r];
    }
    free(of_row);
    return DONE;
}
