/* The panel's sorted orders, and the target's neighbours in them: pbwt.py. After Durbin 2014. */
#include "ibs_segments.h"

/* Sweep of pbwt.py */
typedef struct {
    int64_t t, h, words, every;
    const uint64_t *columns;
    const int32_t *alt_before, *ref_count, *kept;
} Sweep;

static Sweep read_sweep(const Array *fields, int64_t every) {
    return (Sweep){
        .t = fields[0].shape[0],
        .h = fields[3].shape[1],
        .words = fields[0].shape[1],
        .every = every,
        .columns = fields[0].data,
        .alt_before = fields[1].data,
        .ref_count = fields[2].data,
        .kept = fields[3].data,
    };
}

static inline int64_t bit(const uint64_t *bits, int64_t number) { return bits[number / 64] >> (number % 64) & 1; }

/* Transposes 64 x 64 bits: bit j of word i becomes bit i of word j (Warren, Hacker's Delight, 7-3). */
static void transpose(uint64_t *square) {
    uint64_t mask = UINT64_C(0x00000000FFFFFFFF);
    for (int width = 32; width > 0; width /= 2, mask ^= mask << width) {
        for (int i = 0; i < 64; i = (i + width + 1) & ~width) {
            uint64_t exchanged = ((square[i] >> width) ^ square[i + width]) & mask;
            square[i] ^= exchanged << width;
            square[i + width] ^= exchanged;
        }
    }
}

/* Fills `rows` [64, n_words]: bit h of row i is the allele of haplotype h at site i of a word of `panel`. */
static void rows_of_sites(const Array *panel, int64_t word, int64_t n_words, uint64_t *rows) {
    int64_t h = panel->shape[0], words = panel->shape[1];
    for (int64_t column = 0; column < n_words; column++) {
        uint64_t square[64] = {0};
        for (int64_t i = 0; i < 64 && 64 * column + i < h; i++)
            square[i] = ((const uint64_t *)panel->data)[(64 * column + i) * words + word];
        transpose(square);
        for (int64_t i = 0; i < 64; i++) rows[i * n_words + column] = square[i];
    }
}

/* Moves the haplotypes with ALT in `row` [n_words] behind those with REF. Fills `column` [n_words] with their alleles
 * in the order before, and `alt_before` [n_words]; returns the number of haplotypes with REF. */
static int64_t sort_step(const uint64_t *row, int64_t h, int64_t n_words, int32_t *order, int32_t *with_alt,
                         uint64_t *column, int32_t *alt_before) {
    int64_t n_ref = 0, n_alt = 0;
    for (int64_t word = 0; word < n_words; word++) {
        uint64_t alleles = 0;
        alt_before[word] = (int32_t)n_alt;
        for (int64_t place = 64 * word; place < least(64 * word + 64, h); place++) {
            int32_t haplotype = order[place];
            uint64_t allele = (uint64_t)bit(row, haplotype);
            alleles |= allele << place % 64;
            /* Writing to both sides avoids a branch that cannot be predicted. */
            order[n_ref] = haplotype;
            with_alt[n_alt] = haplotype;
            n_ref += (int64_t)(1 - allele);
            n_alt += (int64_t)allele;
        }
        column[word] = alleles;
    }
    memcpy(order + n_ref, with_alt, (size_t)n_alt * sizeof *order);
    return n_ref;
}

int64_t vcfbert_sort_haplotypes(const Array *panel, int64_t backwards, int64_t every, const Array *sweep) {
    int64_t h = panel->shape[0], t = sweep[0].shape[0], n_words = sweep[0].shape[1], word = -1;
    int32_t *ref_count = sweep[2].data, *kept = sweep[3].data, *order, *with_alt;
    uint64_t *rows;
    char *memory = NULL;
    for (int pass = 0; pass < 2; pass++) {
        size_t used = 0;
        order = room(memory, &used, h, sizeof *order);
        with_alt = room(memory, &used, h, sizeof *with_alt);
        rows = room(memory, &used, 64 * n_words, sizeof *rows);
        if (!memory && !(memory = aligned_alloc(ALIGNMENT, used))) return OUT_OF_MEMORY;
    }
    for (int64_t place = 0; place < h; place++) order[place] = (int32_t)place;
    memcpy(kept, order, (size_t)h * sizeof *order);
    for (int64_t step = 0; step < t; step++) {
        int64_t site = backwards ? t - 1 - step : step;
        if (site / 64 != word) rows_of_sites(panel, word = site / 64, n_words, rows);
        ref_count[step] = (int32_t)sort_step(rows + site % 64 * n_words, h, n_words, order, with_alt,
                                             (uint64_t *)sweep[0].data + step * n_words,
                                             (int32_t *)sweep[1].data + step * n_words);
        if ((step + 1) % every == 0 || step + 1 == t)
            memcpy(kept + (step + every) / every * h, order, (size_t)h * sizeof *order);
    }
    free(memory);
    return DONE;
}

/* The place after a step of what is in `place` before it and carries `allele` at the step's site. */
static inline int64_t moved(const Sweep *sweep, int64_t step, int64_t place, int64_t allele) {
    int64_t word = step * sweep->words + place / 64;
    uint64_t before = sweep->columns[word] & ((UINT64_C(1) << place % 64) - 1);
    int64_t alt = sweep->alt_before[word] + __builtin_popcountll(before);
    return allele ? sweep->ref_count[step] + alt : place - alt;
}

/* The haplotype in `place` after a step. */
static inline int64_t haplotype_at(const Sweep *sweep, int64_t step, int64_t place) {
    int64_t number = (step + sweep->every) / sweep->every, last = least(number * sweep->every, sweep->t);
    for (int64_t later = step + 1; later < last; later++)
        place = moved(sweep, later, place, bit(sweep->columns + later * sweep->words, place));
    return sweep->kept[number * sweep->h + place];
}

typedef struct {
    int64_t h, width, n_near;
    int32_t *near;     /* [2 * width]: the neighbours after a step; room for `h` */
    int32_t *distance; /* [h]: the least distance of each haplotype in places, 0 if not found */
    uint64_t *found;   /* [ceil(h / 64)]: the haplotypes found */
    int32_t *first;    /* [h + 2] */
    int32_t *order;    /* [h] */
    uint8_t *skipped;  /* [h] */
} Search;

/* Finds the haplotypes within `width` places of the target after each step, as _visit in pbwt.py. */
static void visit(Search *search, const Sweep *sweep, int backwards, const uint64_t *panel, const uint64_t *ref,
                  const uint64_t *alt) {
    int64_t words = (sweep->t + 63) / 64, place = 0;
    search->n_near = 0;
    for (int64_t step = 0; step < sweep->t; step++) {
        int64_t site = backwards ? sweep->t - 1 - step : step, allele = bit(alt, site);
        if (!allele && !bit(ref, site)) {
            int64_t n_alt = 0;
            for (int64_t i = 0; i < search->n_near; i++) n_alt += bit(panel + search->near[i] * words, site);
            allele = 2 * n_alt > search->n_near;
        }
        place = moved(sweep, step, place, allele);
        search->n_near = 0;
        for (int side = 0; side < 2; side++) {
            int64_t change = side ? 1 : -1, i = side ? place : place - 1;
            for (int32_t places = 0; i >= 0 && i < search->h && places < search->width; i += change) {
                int64_t haplotype = haplotype_at(sweep, step, i);
                if (search->skipped[haplotype]) continue;
                search->near[search->n_near++] = (int32_t)haplotype;
                int32_t known = search->distance[haplotype];
                places++;
                if (known == 0 || places < known) search->distance[haplotype] = places;
                search->found[haplotype / 64] |= UINT64_C(1) << haplotype % 64;
            }
        }
    }
}

/* Fills `order` with the haplotypes found, the nearest first, ties in the panel's order. Forgets them, and returns how
 * many they are. */
static int64_t nearest_first(Search *search) {
    int64_t words = (search->h + 63) / 64, furthest = least(search->width, search->h);
    memset(search->first, 0, (size_t)(furthest + 2) * sizeof *search->first);
    for (int64_t word = 0; word < words; word++)
        for (uint64_t found = search->found[word]; found; found &= found - 1)
            search->first[search->distance[64 * word + __builtin_ctzll(found)] + 1]++;
    for (int64_t distance = 0; distance <= furthest; distance++) search->first[distance + 1] += search->first[distance];
    for (int64_t word = 0; word < words; word++) {
        for (uint64_t found = search->found[word]; found; found &= found - 1) {
            int64_t haplotype = 64 * word + __builtin_ctzll(found);
            search->order[search->first[search->distance[haplotype]]++] = (int32_t)haplotype;
            search->distance[haplotype] = 0;
        }
        search->found[word] = 0;
    }
    return search->first[furthest];
}

static size_t lay_out(Search *search, char *memory) {
    size_t used = 0;
    int64_t h = search->h;
    search->near = room(memory, &used, h, sizeof *search->near);
    search->distance = room(memory, &used, h, sizeof *search->distance);
    search->found = room(memory, &used, (h + 63) / 64, sizeof *search->found);
    search->first = room(memory, &used, h + 2, sizeof *search->first);
    search->order = room(memory, &used, h, sizeof *search->order);
    search->skipped = room(memory, &used, h, sizeof *search->skipped);
    return used;
}

int64_t vcfbert_fill_sorted_states(const Array *forward, const Array *backward, int64_t every, const Array *panel,
                                   const Array *refs, const Array *alts, const Array *cm, const Array *exclude,
                                   int64_t neighbours, int64_t n_longest, const Array *targets, const Array *out) {
    int64_t h = panel->shape[0], words = panel->shape[1], t = cm->shape[0], e = exclude->shape[1], k = out->shape[1];
    const Sweep sweeps[2] = {read_sweep(forward, every), read_sweep(backward, every)};
    Search search = {.h = h};
    size_t bytes = lay_out(&search, NULL);
    char *memory = aligned_alloc(ALIGNMENT, bytes);
    Workspace *work = new_workspace(t, h, n_longest);
    if (!memory || !work) {
        free(memory);
        free(work);
        return OUT_OF_MEMORY;
    }
    memset(memory, 0, bytes);
    lay_out(&search, memory);
    for (int64_t i = 0; i < targets->shape[0]; i++) {
        int64_t target = ((const int64_t *)targets->data)[i], m = 0;
        const int64_t *own = (const int64_t *)exclude->data + target * e;
        const uint64_t *ref = (const uint64_t *)refs->data + target * words;
        const uint64_t *alt = (const uint64_t *)alts->data + target * words;
        for (int64_t j = 0; j < e; j++)
            if (own[j] >= 0) search.skipped[own[j]] = 1;
        if (t == 0) /* there is no order, so the first of the panel are taken */
            for (int64_t j = 0; j < h; j++)
                if (!search.skipped[j]) search.order[m++] = (int32_t)j;
        for (search.width = neighbours; m < k; search.width *= 2) {
            visit(&search, &sweeps[0], 0, panel->data, ref, alt);
            visit(&search, &sweeps[1], 1, panel->data, ref, alt);
            m = nearest_first(&search);
        }
        best_states(work, panel->data, ref, alt, cm->data, search.order, m, k, (int32_t *)out->data + target * k);
        for (int64_t j = 0; j < e; j++)
            if (own[j] >= 0) search.skipped[own[j]] = 0;
    }
    free(memory);
    free(work);
    return DONE;
}
