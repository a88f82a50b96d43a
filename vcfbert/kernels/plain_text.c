/* The calls of plain records from VCF text: genotypes/plain_text.py.
 *
 * A call is four bytes: two alleles with a separator between them and a tab behind them, or a newline behind the last.
 * In a phased panel the alleles are 0 or 1, and the separator is |. So two calls are one word. Its difference from two calls of REF is the alleles, and no other bit may be left of it.
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

/* The number of an allele, -1 where it is missing, or -2 where it is none of 0, 1 and '.'. */
static inline int16_t number_of(uint8_t byte) { return byte == '.' ? -1 : byte == '0' || byte == '1' ? byte - '0' : -2; }

/* Fills [n, 3] with two alleles and 1 where the call is phased; returns whether all calls are plain. */
static int number_calls(const uint8_t *calls, int64_t n, int16_t *numbers) {
    int plain = 1;
    for (int64_t i = 0; i < n; i++, calls += CALL, numbers += 3) {
        numbers[0] = number_of(calls[0]), numbers[1] = number_of(calls[2]), numbers[2] = calls[1] == '|';
        plain &= numbers[0] > -2 && numbers[1] > -2 && (calls[1] == '|' || calls[1] == '/');
        plain &= calls[3] == (i + 1 < n ? '\t' : '\n');
    }
    return plain;
}

/* The calls of the record that begins at `start`, if it is complete; fills its row of `fields`. Otherwise NULL. */
static const uint8_t *calls_of(const Array *text, int64_t start, int64_t n_samples, int64_t *fields) {
    const uint8_t *bytes = text->data;
    if (!find_columns(bytes, start, text->shape[0], fields)) return NULL;
    int64_t calls = fields[N_COLUMNS], stop = calls + n_samples * CALL;
    return stop <= text->shape[0] && bytes[stop - 1] == '\n' ? bytes + calls : NULL;
}

int64_t vcfbert_pack_phased_text(const Array *text, int64_t start, int64_t n_samples, const Array *fields,
                                 const Array *packed) {
    const int64_t room = fields->shape[0], stride = packed->shape[1];
    for (int64_t record = 0; record < room; record++) {
        int64_t *own = (int64_t *)fields->data + record * (N_COLUMNS + 1);
        uint8_t *row = (uint8_t *)packed->data + record * stride;
        const uint8_t *calls = calls_of(text, start, n_samples, own);
        if (calls == NULL || !pack_calls(calls, n_samples, row)) {
            memset(own, 0, (N_COLUMNS + 1) * sizeof *own);
            memset(row, 0, (size_t)stride);
            return record;
        }
        start = own[N_COLUMNS] + n_samples * CALL;
    }
    return room;
}

int64_t vcfbert_number_call_text(const Array *text, int64_t start, int64_t n_samples, const Array *fields,
                                 const Array *numbers) {
    const int64_t room = fields->shape[0], stride = 3 * n_samples;
    for (int64_t record = 0; record < room; record++) {
        int64_t *own = (int64_t *)fields->data + record * (N_COLUMNS + 1);
        int16_t *row = (int16_t *)numbers->data + record * stride;
        const uint8_t *calls = calls_of(text, start, n_samples, own);
        if (calls == NULL || !number_calls(calls, n_samples, row)) {
            memset(own, 0, (N_COLUMNS + 1) * sizeof *own);
            memset(row, 0, (size_t)stride * sizeof *row);
            return record;
        }
        start = own[N_COLUMNS] + n_samples * CALL;
    }
    return room;
}
