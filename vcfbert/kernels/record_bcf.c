/* Records of imputed sites as BCF2 (section 6 of the VCF specification), for little-endian machines: record_bcf.py. */
#include "decimals.h"
#include "records.h"

enum { INT8 = 1, INT16 = 2, INT32 = 3, FLOAT = 5, CHAR = 7 };
enum { MISSING_INT8 = 0x80, END_INT8 = 0x81, END_INT16 = 0x8001 };

static const uint32_t MISSING_FLOAT = 0x7F800001, END_FLOAT = 0x7F800002;

/* Numbers of the header's dictionary, in the order of KEYS in record_bcf.py. */
enum { KEY_PASS, KEY_AF, KEY_MAF, KEY_DR2, KEY_ER2, KEY_IMP, KEY_TYPED, KEY_GT, KEY_DS, KEY_HDS, KEY_GP, KEY_GQ };

typedef struct {
    const Records *records;
    const uint8_t *keys;
    const float *thousandths; /* [2001]: the float nearest to i / 1000 */
    int ploidy;               /* the highest of the samples */
    int has_haploid;
} Encoder;

static uint8_t *put(uint8_t *out, const void *data, size_t size) {
    memcpy(out, data, size);
    return out + size;
}

static uint8_t *put_int32(uint8_t *out, int64_t value) {
    int32_t own = (int32_t)value;
    return put(out, &own, sizeof(own));
}

/* The type of a vector, with its length. */
static uint8_t *put_type(uint8_t *out, int64_t length, int type) {
    if (length < 15) {
        *out++ = (uint8_t)(length << 4 | type);
        return out;
    }
    *out++ = (uint8_t)(15 << 4 | type);
    if (length < 128) {
        *out++ = 1 << 4 | INT8;
        *out++ = (uint8_t)length;
    } else if (length < 32768) {
        int16_t own = (int16_t)length;
        *out++ = 1 << 4 | INT16;
        out = put(out, &own, sizeof(own));
    } else {
        *out++ = 1 << 4 | INT32;
        out = put_int32(out, length);
    }
    return out;
}

static uint8_t *put_key(uint8_t *out, uint8_t key) {
    *out++ = 1 << 4 | INT8;
    *out++ = key;
    return out;
}

static uint8_t *put_string(uint8_t *out, String string) {
    if (string.length == 1 && *string.text == '.') return put_type(out, 0, CHAR);
    return put(put_type(out, string.length, CHAR), string.text, (size_t)string.length);
}

static uint8_t *put_numbers(uint8_t *out, const Encoder *encoder, int key, int number, int64_t start, int64_t k) {
    out = put_type(put_key(out, encoder->keys[key]), k, FLOAT);
    for (int64_t i = 0; i < k; i++) {
        double value = encoder->records->numbers[(start + i) * N_NUMBERS + number];
        if (isnan(value)) {
            out = put(out, &MISSING_FLOAT, sizeof(MISSING_FLOAT));
        } else {
            float own = (float)value_of(decimal_of(value, number <= MAF ? 5 : 4));
            out = put(out, &own, sizeof(own));
        }
    }
    return out;
}

/* All of a record before the samples, its two lengths excepted. */
static uint8_t *put_shared(uint8_t *out, const Encoder *encoder, int64_t record, int64_t contig) {
    const Records *records = encoder->records;
    int64_t start = records->first[record], k = records->first[record + 1] - start;
    int has_er2 = 0, n_fields = 1;
    for (int64_t site = start; site < start + k; site++) has_er2 |= !isnan(records->numbers[site * N_NUMBERS + ER2]);
    for (int i = 0; i < 4; i++) n_fields += records->has[i];
    out = put_int32(out, contig);
    out = put_int32(out, records->pos[start] - 1);
    out = put_int32(out, records->length[start]);
    out = put(out, &MISSING_FLOAT, sizeof(MISSING_FLOAT)); /* QUAL */
    out = put_int32(out, (k + 1) << 16 | (4 + has_er2 + records->n_info[start]));
    out = put_int32(out, (int64_t)n_fields << 24 | records->n);
    out = put_string(out, line_of(&records->id, start));
    out = put_string(out, ref_of(records, start));
    for (int64_t i = 0; i < k; i++) out = put_string(out, alt_of(records, start + i));
    out = put_key(out, encoder->keys[KEY_PASS]);
    out = put_numbers(out, encoder, KEY_AF, AF, start, k);
    out = put_numbers(out, encoder, KEY_MAF, MAF, start, 1);
    out = put_numbers(out, encoder, KEY_DR2, DR2, start, k);
    if (has_er2) out = put_numbers(out, encoder, KEY_ER2, ER2, start, k);
    out = put_key(out, encoder->keys[is_typed_record(records, start, k) ? KEY_TYPED : KEY_IMP]);
    *out++ = 0; /* a flag has no value */
    String info = line_of(&records->info, start);
    return put(out, info.text, (size_t)info.length);
}

/* A called allele as BCF holds it: phased. */
static int genotype_code(int64_t allele) { return (int)((allele + 1) << 1 | 1); }

static uint8_t *put_genotypes(uint8_t *out, const Encoder *encoder, int64_t start, int64_t k) {
    const Records *records = encoder->records;
    int wide = genotype_code(k) > 127, ploidy = encoder->ploidy;
    out = put_type(put_key(out, encoder->keys[KEY_GT]), ploidy, wide ? INT16 : INT8);
    for (int64_t i = 0; i < records->n; i++) {
        for (int h = 0; h < ploidy; h++) {
            int absent = h == 1 && records->haploid[i];
            int64_t allele = absent ? 0 : called_allele(records, start, k, i, h);
            int code = genotype_code(allele);
            if (wide) {
                uint16_t own = (uint16_t)(absent ? END_INT16 : code);
                out = put(out, &own, sizeof(own));
            } else {
                *out++ = (uint8_t)(absent ? END_INT8 : code);
            }
        }
    }
    return out;
}

static uint8_t *put_float(uint8_t *out, float value) { return put(out, &value, sizeof(value)); }

static uint8_t *put_ends(uint8_t *out, int64_t count) {
    for (int64_t i = 0; i < count; i++) out = put(out, &END_FLOAT, sizeof(END_FLOAT));
    return out;
}

static uint8_t *put_dosages(uint8_t *out, const Encoder *encoder, int64_t start, int64_t k) {
    const Records *records = encoder->records;
    out = put_type(put_key(out, encoder->keys[KEY_DS]), k, FLOAT);
    for (int64_t i = 0; i < records->n; i++) {
        for (int64_t alt = 0; alt < k; alt++) {
            int ds = hds_of(records, start, alt, i, 0) + hds_of(records, start, alt, i, 1);
            out = put_float(out, encoder->thousandths[ds]);
        }
    }
    return out;
}

static uint8_t *put_haplotypes(uint8_t *out, const Encoder *encoder, int64_t start, int64_t k) {
    const Records *records = encoder->records;
    int ploidy = encoder->ploidy;
    out = put_type(put_key(out, encoder->keys[KEY_HDS]), ploidy * k, FLOAT);
    for (int64_t i = 0; i < records->n; i++) {
        int own = records->haploid[i] ? 1 : ploidy;
        for (int h = 0; h < own; h++) {
            for (int64_t alt = 0; alt < k; alt++)
                out = put_float(out, encoder->thousandths[hds_of(records, start, alt, i, h)]);
        }
        out = put_ends(out, (ploidy - own) * k);
    }
    return out;
}

static uint8_t *put_probabilities(uint8_t *out, const Encoder *encoder, int64_t start, int64_t k) {
    const Records *records = encoder->records;
    int64_t width = encoder->ploidy == 1 ? k + 1 : (k + 1) * (k + 2) / 2;
    out = put_type(put_key(out, encoder->keys[KEY_GP]), width, FLOAT);
    for (int64_t i = 0; i < records->n; i++) {
        int haploid = records->haploid[i];
        for (int64_t b = 0; b <= k; b++) {
            for (int64_t a = haploid ? b : 0; a <= b; a++) {
                int p = haploid ? probability_of(records, start, k, b, i, 0)
                                : genotype_probability(records, start, k, i, a, b);
                out = put_float(out, encoder->thousandths[p]);
            }
        }
        if (haploid) out = put_ends(out, width - (k + 1));
    }
    return out;
}

static uint8_t *put_qualities(uint8_t *out, const Encoder *encoder, int64_t start) {
    const Records *records = encoder->records;
    const uint8_t *gq = records->gq + start * records->n;
    out = put_type(put_key(out, encoder->keys[KEY_GQ]), 1, INT8);
    for (int64_t i = 0; i < records->n; i++) *out++ = gq[i] == NO_GQ ? MISSING_INT8 : gq[i];
    return out;
}

/* The four fields of n samples in a biallelic record. They are written as if all samples were diploid, and then
 * changed where one is haploid. Stores go to unaligned places, one after the other. */
static void biallelic_genotypes(uint8_t *restrict out, const int16_t *restrict hds, int64_t n) {
    for (int64_t i = 0; i < 2 * n; i++) out[i] = (uint8_t)(hds[i] >= HALF ? 2 << 1 | 1 : 1 << 1 | 1);
}

static void biallelic_dosages(uint8_t *restrict out, const int16_t *restrict hds, const float *restrict thousandths,
                              int64_t n) {
    for (int64_t i = 0; i < n; i++) memcpy(out + 4 * i, thousandths + hds[2 * i] + hds[2 * i + 1], 4);
}

static void biallelic_haplotypes(uint8_t *restrict out, const int16_t *restrict hds, const float *restrict thousandths,
                                 int64_t n) {
    for (int64_t i = 0; i < 2 * n; i++) memcpy(out + 4 * i, thousandths + hds[i], 4);
}

static void biallelic_probabilities(uint8_t *restrict out, const int16_t *restrict hds, const int16_t *restrict two,
                                    const float *restrict thousandths, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int ds = hds[2 * i] + hds[2 * i + 1], both = two[i];
        float p[3] = {thousandths[ONE - ds + both], thousandths[ds - 2 * both], thousandths[both]};
        memcpy(out + 12 * i, p, 12);
    }
}

static uint8_t *put_biallelic(uint8_t *out, const Encoder *encoder, int64_t site) {
    const Records *records = encoder->records;
    int64_t n = records->n;
    const int16_t *hds = records->hds + site * 2 * n;
    uint8_t *gt = put_type(put_key(out, encoder->keys[KEY_GT]), 2, INT8), *haplotypes = NULL, *gp = NULL;
    biallelic_genotypes(gt, hds, n);
    out = gt + 2 * n;
    if (records->has[HAS_DS]) {
        out = put_type(put_key(out, encoder->keys[KEY_DS]), 1, FLOAT);
        biallelic_dosages(out, hds, encoder->thousandths, n);
        out += 4 * n;
    }
    if (records->has[HAS_HDS]) {
        haplotypes = put_type(put_key(out, encoder->keys[KEY_HDS]), 2, FLOAT);
        biallelic_haplotypes(haplotypes, hds, encoder->thousandths, n);
        out = haplotypes + 8 * n;
    }
    if (records->has[HAS_GP]) {
        gp = put_type(put_key(out, encoder->keys[KEY_GP]), 3, FLOAT);
        biallelic_probabilities(gp, hds, records->two + site * n, encoder->thousandths, n);
        out = gp + 12 * n;
    }
    for (int64_t i = 0; encoder->has_haploid && i < n; i++) {
        if (!records->haploid[i]) continue;
        gt[2 * i + 1] = END_INT8;
        if (haplotypes != NULL) put_ends(haplotypes + 8 * i + 4, 1);
        if (gp == NULL) continue;
        float p[2] = {encoder->thousandths[ONE - hds[2 * i]], encoder->thousandths[hds[2 * i]]};
        put_ends(put(gp + 12 * i, p, sizeof(p)), 1);
    }
    return out;
}

static uint8_t *put_record(uint8_t *out, const Encoder *encoder, int64_t record, int64_t contig) {
    const uint8_t *has = encoder->records->has;
    int64_t start = encoder->records->first[record], k = encoder->records->first[record + 1] - start;
    uint8_t *shared = out + 8, *samples = put_shared(shared, encoder, record, contig), *end = samples;
    if (k == 1 && encoder->ploidy == 2) {
        end = put_biallelic(end, encoder, start);
    } else {
        end = put_genotypes(end, encoder, start, k);
        if (has[HAS_DS]) end = put_dosages(end, encoder, start, k);
        if (has[HAS_HDS]) end = put_haplotypes(end, encoder, start, k);
        if (has[HAS_GP]) end = put_probabilities(end, encoder, start, k);
    }
    if (has[HAS_GQ]) end = put_qualities(end, encoder, start);
    put_int32(put_int32(out, samples - shared), end - samples);
    return end;
}

int64_t vcfbert_encode_records(const Array columns[13], const Array contents[6], const Array *haploid,
                               const Array *fields, int64_t contig, const Array *keys, const Array *thousandths,
                               const Array *out, const Array *ends) {
    Records records = records_of(columns, contents, haploid, fields);
    Encoder encoder = {&records, keys->data, thousandths->data, 1, 0};
    for (int64_t i = 0; i < records.n; i++) {
        if (records.haploid[i]) encoder.has_haploid = 1;
        else encoder.ploidy = 2;
    }
    uint8_t *place = out->data;
    for (int64_t record = 0; record < records.n_records; record++) {
        if (records.kept[record]) place = put_record(place, &encoder, record, contig);
        ((int64_t *)ends->data)[record] = place - (uint8_t *)out->data;
    }
    return DONE;
}
