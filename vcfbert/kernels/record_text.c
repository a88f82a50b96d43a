/* Records of imputed sites as VCF text: record_text.py. */
#include "decimals.h"
#include "records.h"

enum { N_SPELLINGS = 2 * ONE + 1, MAX_CELL = 48 };

/* A number of thousandths after a separator, padded, and the length of both. */
typedef struct {
    char text[7];
    uint8_t length;
} Spelling;

typedef struct {
    const Records *records;
    Spelling spelling[N_SPELLINGS];
    char *zeros;         /* the text of n diploid samples whose dosages are 0, without GQ */
    int64_t zero_length; /* of one */
} Writer;

static char *put_text(char *out, const char *text, int64_t length) {
    memcpy(out, text, (size_t)length);
    return out + length;
}

/* Writes eight characters, of which those from the end on are overwritten later. */
static char *put_thousandths(char *out, char separator, const Spelling *spelling, int thousandths) {
    memcpy(out, spelling + thousandths, sizeof(Spelling));
    *out = separator;
    return out + spelling[thousandths].length;
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
        spelling[i].length = (uint8_t)(put_decimal(text + 1, number) - text);
        memcpy(spelling[i].text, text, sizeof(spelling[i].text));
    }
}

/* A sample of dosages a and b, without GQ. */
static char *put_values(char *out, const uint8_t *has, const Spelling *spelling, int a, int b, int two, int haploid) {
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
    return out;
}

static char *put_samples(char *out, const Writer *writer, int64_t site) {
    const Records *records = writer->records;
    const Spelling *spelling = writer->spelling;
    const uint8_t *haploid = records->haploid;
    const uint8_t has[4] = {records->has[0], records->has[1], records->has[2], records->has[3]}; /* no alias of out */
    const int64_t n = records->n, zero_length = writer->zero_length;
    const int16_t *hds = records->hds + site * 2 * n, *two = records->two + site * n;
    int64_t sample = 0;
    while (sample < n) {
        int64_t run = sample;
        while (!has[HAS_GQ] && run < n && hds[2 * run] == 0 && hds[2 * run + 1] == 0 && !haploid[run]) run++;
        out = put_text(out, writer->zeros, (run - sample) * zero_length);
        sample = run;
        if (sample == n) break;
        out = put_values(out, has, spelling, hds[2 * sample], hds[2 * sample + 1], two[sample], haploid[sample]);
        if (has[HAS_GQ]) out = put_quality(out, records->gq[site * n + sample]);
        sample++;
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
    out = put_string(put_info(out, records, start, k), line_of(&records->info, start));
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

int64_t vcfbert_spell_records(const Array columns[13], const Array contents[6], const Array *haploid,
                              const Array *fields, const Array *chrom, const Array *format, const Array *out,
                              const Array *ends) {
    Records records = records_of(columns, contents, haploid, fields);
    Writer *writer = malloc(sizeof(Writer) + (size_t)(records.n + 1) * MAX_CELL);
    if (writer == NULL) return OUT_OF_MEMORY;
    char *place = out->data;
    writer->records = &records, writer->zeros = (char *)(writer + 1);
    spell_thousandths(writer->spelling);
    writer->zero_length = put_values(writer->zeros, records.has, writer->spelling, 0, 0, 0, 0) - writer->zeros;
    for (int64_t i = 1; i < records.n; i++)
        memcpy(writer->zeros + i * writer->zero_length, writer->zeros, (size_t)writer->zero_length);
    for (int64_t record = 0; record < records.n_records; record++) {
        if (records.kept[record]) place = put_record(place, writer, record, chrom, format);
        ((int64_t *)ends->data)[record] = place - (char *)out->data;
    }
    memset(place, 0, sizeof(Spelling)); /* what was written beyond the end */
    free(writer);
    return DONE;
}
