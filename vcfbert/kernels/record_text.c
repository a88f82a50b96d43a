/* Records of imputed sites as VCF text: record_text.py. */
#include "decimals.h"
#include "records.h"

/* A number of thousandths: its text, padded, and the text's length. */
typedef struct {
    char text[7];
    uint8_t length;
} Spelling;

enum { N_SPELLINGS = 2 * ONE + 1, MAX_ZERO_CELL = 32 };

typedef struct {
    const Records *records;
    Spelling spelling[N_SPELLINGS];
    const char *zero; /* the text of n diploid samples whose dosages are 0, without GQ */
    int zero_length;  /* of one */
} Writer;

static char *put_text(char *out, const char *text, int64_t length) {
    memcpy(out, text, (size_t)length);
    return out + length;
}

/* Writes up to 7 characters beyond the end. */
static char *put_thousandths(char *out, char separator, const Spelling *spelling, int thousandths) {
    *out = separator;
    memcpy(out + 1, spelling[thousandths].text, sizeof(spelling->text));
    return out + 1 + spelling[thousandths].length;
}

static char *put_quality(char *out, int quality) {
    *out++ = ':';
    if (quality != NO_GQ) return put_whole(out, quality);
    *out++ = '.';
    return out;
}

static void spell_thousandths(Spelling *spelling) {
    for (int i = 0; i < N_SPELLINGS; i++) {
        char text[32] = {0};
        Decimal number = {i, i > 0 ? 3 : 0};
        for (; number.digits > 0 && number.digits % 10 == 0; number.scale--) number.digits /= 10;
        spelling[i].length = (uint8_t)(put_decimal(text, number) - text);
        memcpy(spelling[i].text, text, sizeof(spelling[i].text));
    }
}

static int zero_cell(const uint8_t *has, char *cell) {
    char *end = put_text(cell, "\t0|0", 4);
    if (has[HAS_DS]) end = put_text(end, ":0", 2);
    if (has[HAS_HDS]) end = put_text(end, ":0,0", 4);
    if (has[HAS_GP]) end = put_text(end, ":1,0,0", 6);
    return (int)(end - cell);
}

/* One sample of a biallelic record. */
static char *put_sample(char *out, const Writer *writer, int64_t site, int64_t sample) {
    const Records *records = writer->records;
    const Spelling *spelling = writer->spelling;
    const uint8_t *has = records->has;
    int64_t cell = site * records->n + sample;
    int a = records->hds[2 * cell], b = records->hds[2 * cell + 1], two = records->two[cell];
    int haploid = records->haploid[sample];
    *out++ = '\t', *out++ = (char)('0' + (a >= HALF));
    if (!haploid) *out++ = '|', *out++ = (char)('0' + (b >= HALF));
    if (has[HAS_DS]) out = put_thousandths(out, ':', spelling, a + b);
    if (has[HAS_HDS]) {
        out = put_thousandths(out, ':', spelling, a);
        if (!haploid) out = put_thousandths(out, ',', spelling, b);
    }
    if (has[HAS_GP]) {
        out = put_thousandths(out, ':', spelling, haploid ? ONE - a : ONE - a - b + two);
        out = put_thousandths(out, ',', spelling, haploid ? a : a + b - 2 * two);
        if (!haploid) out = put_thousandths(out, ',', spelling, two);
    }
    return has[HAS_GQ] ? put_quality(out, records->gq[cell]) : out;
}

static char *put_samples(char *out, const Writer *writer, int64_t site) {
    const Records *records = writer->records;
    int64_t n = records->n, sample = 0;
    const int16_t *hds = records->hds + site * 2 * n;
    while (sample < n) {
        int64_t run = sample;
        while (run < n && hds[2 * run] == 0 && hds[2 * run + 1] == 0 && !records->haploid[run]) run++;
        if (!records->has[HAS_GQ]) {
            out = put_text(out, writer->zero, (run - sample) * writer->zero_length);
        } else {
            for (int64_t i = sample; i < run; i++) {
                out = put_text(out, writer->zero, writer->zero_length);
                out = put_quality(out, records->gq[site * n + i]);
            }
        }
        sample = run;
        if (sample < n) out = put_sample(out, writer, site, sample++);
    }
    return out;
}

static char *put_multiallelic_sample(char *out, const Writer *writer, int64_t start, int64_t k, int64_t sample) {
    const Records *records = writer->records;
    const Spelling *spelling = writer->spelling;
    int ploidy = records->haploid[sample] ? 1 : 2;
    for (int h = 0; h < ploidy; h++) {
        *out++ = h == 0 ? '\t' : '|';
        out = put_whole(out, called_allele(records, start, k, sample, h));
    }
    for (int64_t alt = 0; records->has[HAS_DS] && alt < k; alt++) {
        int ds = hds_of(records, start, alt, sample, 0) + (ploidy == 2 ? hds_of(records, start, alt, sample, 1) : 0);
        out = put_thousandths(out, alt == 0 ? ':' : ',', spelling, ds);
    }
    for (int h = 0; records->has[HAS_HDS] && h < ploidy; h++) {
        for (int64_t alt = 0; alt < k; alt++)
            out = put_thousandths(out, h + alt == 0 ? ':' : ',', spelling, hds_of(records, start, alt, sample, h));
    }
    for (int64_t b = 0; records->has[HAS_GP] && b <= k; b++) {
        for (int64_t a = ploidy == 2 ? 0 : b; a <= b; a++) {
            int p = ploidy == 2 ? genotype_probability(records, start, k, sample, a, b)
                                : probability_of(records, start, k, b, sample, 0);
            out = put_thousandths(out, b == 0 ? ':' : ',', spelling, p);
        }
    }
    return records->has[HAS_GQ] ? put_quality(out, records->gq[start * records->n + sample]) : out;
}

static char *put_numbers(char *out, const Records *records, const char *name, int number, int64_t start, int64_t k) {
    out = put_text(out, name, (int64_t)strlen(name));
    for (int64_t i = 0; i < k; i++) {
        double value = records->numbers[(start + i) * N_NUMBERS + number];
        if (i > 0) *out++ = ',';
        if (isnan(value)) {
            *out++ = '.';
        } else {
            out = put_decimal(out, decimal_of(value, number <= MAF ? 5 : 4));
        }
    }
    return out;
}

static char *put_info(char *out, const Records *records, int64_t start, int64_t k) {
    int has_er2 = 0;
    for (int64_t site = start; site < start + k; site++) has_er2 |= !isnan(records->numbers[site * N_NUMBERS + ER2]);
    out = put_numbers(out, records, "AF=", AF, start, k);
    out = put_numbers(out, records, ";MAF=", MAF, start, 1);
    out = put_numbers(out, records, ";DR2=", DR2, start, k);
    if (has_er2) out = put_numbers(out, records, ";ER2=", ER2, start, k);
    return is_typed_record(records, start, k) ? put_text(out, ";TYPED", 6) : put_text(out, ";IMP", 4);
}

static char *put_string(char *out, String string) { return put_text(out, string.text, string.length); }

static char *put_record(char *out, const Writer *writer, int64_t record, const Array *chrom, const Array *format) {
    const Records *records = writer->records;
    int64_t start = records->first[record], k = records->first[record + 1] - start;
    out = put_text(out, chrom->data, chrom->shape[0]);
    *out++ = '\t';
    out = put_whole(out, records->pos[start]);
    *out++ = '\t';
    out = put_string(out, line_of(&records->id, start));
    *out++ = '\t';
    out = put_string(out, ref_of(records, start));
    for (int64_t i = 0; i < k; i++) {
        *out++ = i == 0 ? '\t' : ',';
        out = put_string(out, alt_of(records, start + i));
    }
    out = put_text(out, "\t.\tPASS\t", 8);
    out = put_info(out, records, start, k);
    *out++ = '\t';
    out = put_text(out, format->data, format->shape[0]);
    if (k == 1) {
        out = put_samples(out, writer, start);
    } else {
        for (int64_t i = 0; i < records->n; i++) out = put_multiallelic_sample(out, writer, start, k, i);
    }
    *out++ = '\n';
    return out;
}

int64_t vcfbert_spell_records(const Array columns[9], const Array contents[6], const Array *haploid,
                              const Array *fields, const Array *chrom, const Array *format, const Array *out,
                              const Array *ends) {
    Records records = records_of(columns, contents, haploid, fields);
    char cell[MAX_ZERO_CELL];
    int length = zero_cell(records.has, cell);
    Writer *writer = malloc(sizeof(Writer) + (size_t)(records.n * length));
    if (writer == NULL) return OUT_OF_MEMORY;
    char *zero = (char *)(writer + 1), *place = out->data;
    for (int64_t i = 0; i < records.n; i++) memcpy(zero + i * length, cell, (size_t)length);
    writer->records = &records, writer->zero = zero, writer->zero_length = length;
    spell_thousandths(writer->spelling);
    for (int64_t record = 0; record < records.n_records; record++) {
        if (records.kept[record]) place = put_record(place, writer, record, chrom, format);
        ((int64_t *)ends->data)[record] = place - (char *)out->data;
    }
    memset(place, 0, 8); /* the padding of the last number */
    free(writer);
    return DONE;
}
