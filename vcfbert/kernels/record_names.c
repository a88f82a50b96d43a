/* Names in VCF text that its header does not declare: genotypes/record_names.py. */
#include "array.h"

enum { CHROM = 0, FILTER = 6, INFO = 7, FORMAT = 8, N_COLUMNS = 9 };
enum { CONTIG = 1, FILTER_NAME, INFO_KEY, FORMAT_KEY };

static const uint64_t OFFSET = 14695981039346656037u, PRIME = 1099511628211u; /* FNV-1a */

/* Whether the name is new; it is then in the table, whose size is a power of two. */
static int is_new(const uint8_t *name, int64_t n, uint64_t kind, const Array *table) {
    uint64_t hash = OFFSET ^ kind, *slots = table->data;
    const uint64_t mask = (uint64_t)table->shape[0] - 1;
    for (int64_t i = 0; i < n; i++) hash = (hash ^ name[i]) * PRIME;
    hash ^= hash >> 32;
    if (hash == 0) hash = 1;
    for (uint64_t place = hash & mask;; place = (place + 1) & mask) {
        if (slots[place] == hash) return 0;
        if (slots[place] == 0) {
            slots[place] = hash;
            return 1;
        }
    }
}

/* Counts the names of a column, and those of them that are new up to `most`. */
static int64_t names_of(const uint8_t *column, int64_t n, int kind, const Array *table, int64_t most, int64_t *fresh) {
    const uint8_t between = kind == FORMAT_KEY ? ':' : ';';
    int64_t count = 0;
    for (int64_t at = 0; at <= n; count++) {
        const uint8_t *end = memchr(column + at, between, (size_t)(n - at));
        int64_t length = (end ? end - column : n) - at;
        const uint8_t *value = kind == INFO_KEY ? memchr(column + at, '=', (size_t)length) : NULL;
        int64_t named = value ? value - (column + at) : length;
        int missing = named == 0 || (named == 1 && column[at] == '.');
        if (!missing && *fresh <= most) *fresh += is_new(column + at, named, (uint64_t)kind, table);
        at += length + 1;
    }
    return count;
}

int64_t vcfbert_undeclared(const Array *text, int64_t start, int64_t stop, const Array *table, int64_t most,
                           const Array *most_keys) {
    const uint8_t *bytes = text->data;
    int64_t fresh = 0, *largest = most_keys->data;
    while (start < stop && fresh <= most) {
        const uint8_t *newline = memchr(bytes + start, '\n', (size_t)(stop - start));
        const int64_t end = newline ? newline - bytes : stop;
        int64_t at = start, keys = 0;
        for (int column = 0; column < N_COLUMNS && at <= end; column++) {
            const uint8_t *tab = memchr(bytes + at, '\t', (size_t)(end - at));
            const int64_t length = (tab ? tab - bytes : end) - at;
            if (column == CHROM) {
                if (length) fresh += is_new(bytes + at, length, CONTIG, table);
            } else if (column >= FILTER) {
                keys += names_of(bytes + at, length, FILTER_NAME + column - FILTER, table, most, &fresh);
            }
            at += length + 1;
        }
        if (keys > largest[0]) largest[0] = keys;
        start = end + 1;
    }
    return fresh;
}
