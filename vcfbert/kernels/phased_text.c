/* The calls of phased panels from VCF text: genotypes/phased_text.py.
 *
 * A call is four bytes: two alleles, 0 or 1, with | between them and a tab behind them, or a newline behind the last. So
 * two calls are one word. Its difference from two calls of REF is the alleles, and no other bit may be left of it.
 */
#include "array.h"

enum { CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO, FORMAT, N_COLUMNS };
enum { CALL = 4, PAIR = 2 * CALL, GROUP = 2 * PAIR, MAX_DIGITS = 9 };

static const char REF_CALLS[GROUP + 1] = "0|0\t0|0\t0|0\t0|0\t";
static const uint64_t ALLELES = 0x0001000100010001;

static int is_letter(uint8_t byte) { return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z'; }

static int is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

static int may_be_in(int column, uint8_t byte) {
    switch (column) {
    case POS: return is_digit(byte);
    case REF:
    case ALT: return is_letter(byte);
    case QUAL: return is_digit(byte) || byte == '.';
    default: return byte > ' ' && byte <= '~';
    }
}

/* Whether the columns of the record that begins at `at` are plain. `fields` gets where they and the calls begin. */
static int find_columns(const uint8_t *text, int64_t at, int64_t stop, int64_t *fields) {
    for (int column = 0; column < N_COLUMNS; column++) {
        fields[column] = at;
        while (at < stop && may_be_in(column, text[at])) at++;
        if (at == fields[column] || at == stop || text[at] != '\t') return 0;
        at++;
    }
    fields[N_COLUMNS] = at;
    return text[fields[CHROM]] != '#' && text[fields[POS]] != '0' && fields[ID] - fields[POS] <= MAX_DIGITS + 1 &&
           at - fields[FORMAT] == 3 && memcmp(text + fields[FORMAT], "GT", 2) == 0;
}

/* The alleles of a word of two calls as four bits, the first highest. */
static inline uint64_t four_bits(uint64_t alleles) { return alleles * 0x0008000400020001 >> 48 & 15; }

/* Packs four calls. `wrong` gets the bits that no call has. */
static inline uint8_t pack_group(const uint8_t *calls, uint64_t ref, uint64_t *wrong) {
    uint64_t first, second;
    memcpy(&first, calls, PAIR);
    memcpy(&second, calls + PAIR, PAIR);
    first ^= ref, second ^= ref;
    *wrong |= (first | second) & ~ALLELES;
    return (uint8_t)(four_bits(first) << 4 | four_bits(second));
}

/* Packs n calls, whose last byte is a newline; returns whether all are plain. */
static int pack_calls(const uint8_t *calls, int64_t n, uint8_t *packed) {
    const int64_t whole = (n - 1) / 4, left = (n - 4 * whole) * CALL;
    uint64_t ref, wrong = 0;
    memcpy(&ref, REF_CALLS, PAIR);
    for (int64_t group = 0; group < whole; group++) packed[group] = pack_group(calls + group * GROUP, ref, &wrong);
    uint8_t last[GROUP];
    memcpy(last, REF_CALLS, GROUP);
    memcpy(last, calls + whole * GROUP, (size_t)left);
    last[left - 1] = '\t';
    packed[whole] = pack_group(last, ref, &wrong);
    return wrong == 0;
}

/* Whether the record that begins at `start` is plain and complete; fills its rows of `fields` and `packed`. */
static int pack_record(const Array *text, int64_t start, int64_t n_samples, int64_t *fields, uint8_t *packed) {
    const uint8_t *bytes = text->data;
    if (!find_columns(bytes, start, text->shape[0], fields)) return 0;
    int64_t calls = fields[N_COLUMNS], stop = calls + n_samples * CALL;
    return stop <= text->shape[0] && bytes[stop - 1] == '\n' && pack_calls(bytes + calls, n_samples, packed);
}

int64_t vcfbert_pack_phased_text(const Array *text, int64_t start, int64_t n_samples, const Array *fields,
                                 const Array *packed) {
    const int64_t room = fields->shape[0], stride = packed->shape[1];
    for (int64_t record = 0; record < room; record++) {
        int64_t *own = (int64_t *)fields->data + record * (N_COLUMNS + 1);
        uint8_t *row = (uint8_t *)packed->data + record * stride;
        if (!pack_record(text, start, n_samples, own, row)) {
            memset(own, 0, (N_COLUMNS + 1) * sizeof *own);
            memset(row, 0, (size_t)stride);
            return record;
        }
        start = own[N_COLUMNS] + n_samples * CALL;
    }
    return room;
}
