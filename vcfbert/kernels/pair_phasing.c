/* Samples phasings of unphased genotypes from the model of pairs of copied haplotypes: pair_hmm.py. */
#include <math.h>

#include "pairs.h"

/* Arguments in the order of UnphasedTargets in pair_hmm.py. */
typedef struct {
    Array genotypes, panel_alleles, states, prior, stay, mismatch, seeds;
} Given;

typedef struct {
    int64_t max_classes, max_sites;  /* of a block */
    int64_t n_matrices, n_starts;    /* kept at once: at the starts of a span's blocks, and at the starts of spans */
} Limits;

typedef struct {
    Target target;
    Scratch scratch;
    float *matrices;      /* [n_matrices, matrix size]: A at the starts of a span's blocks */
    float *starts;        /* [n_starts, matrix size]: A at the spans' starts */
    int32_t *renamed;     /* [2 max_classes] */
    int64_t *copied;      /* [n_phasings, 2] */
    uint64_t *randoms;    /* [n_phasings] */
} Workspace;

static int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t root_above(int64_t n) { return (int64_t)ceil(sqrt((double)n)); }
static int64_t whole_vectors(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Lays a workspace out in `memory`, of which it takes `*used` bytes. */
static Workspace lay_out(char *memory, size_t *used, int64_t t, int64_t width, int64_t n_phasings,
                         const Limits *limits) {
    int64_t u = whole_vectors(limits->max_classes), rows = 2 * t, matrix = matrix_size(width);
    Workspace work = {0};
    Target *target = &work.target;
    target->alleles = room(memory, used, t * width, sizeof *target->alleles);
    target->calls = room(memory, used, t, sizeof *target->calls);
    target->prior = room(memory, used, width, sizeof *target->prior);
    target->first = room(memory, used, t + 1, sizeof *target->first);
    target->classes = room(memory, used, t * width, sizeof *target->classes);
    target->parents = room(memory, used, t * u, sizeof *target->parents);
    target->counts = room(memory, used, t, sizeof *target->counts);
    target->unswitched = room(memory, used, rows * width, sizeof *target->unswitched);
    target->switched = room(memory, used, rows * u, sizeof *target->switched);
    target->mass = room(memory, used, rows, sizeof *target->mass);
    Scratch *scratch = &work.scratch;
    scratch->sums = room(memory, used, 2 * u * width, sizeof *scratch->sums);
    scratch->neither = room(memory, used, u * width, sizeof *scratch->neither);
    scratch->one = room(memory, used, u * width, sizeof *scratch->one);
    scratch->both = room(memory, used, u * u, sizeof *scratch->both);
    scratch->class_prior = room(memory, used, u, sizeof *scratch->class_prior);
    scratch->parent_prior = room(memory, used, u, sizeof *scratch->parent_prior);
    scratch->sums_row = room(memory, used, u, sizeof *scratch->sums_row);
    scratch->parent_row = room(memory, used, u, sizeof *scratch->parent_row);
    scratch->member = room(memory, used, u, sizeof *scratch->member);
    scratch->rows = room(memory, used, width, sizeof *scratch->rows);
    scratch->next_rows = room(memory, used, width, sizeof *scratch->next_rows);
    for (int i = 0; i < 3; i++) {
        scratch->of_haplotype[i] = room(memory, used, width, sizeof *scratch->of_haplotype[i]);
        scratch->of_class[i] = room(memory, used, u, sizeof *scratch->of_class[i]);
    }
    scratch->factors = room(memory, used, limits->max_sites, sizeof *scratch->factors);
    scratch->masses = room(memory, used, limits->max_sites, sizeof *scratch->masses);
    work.renamed = room(memory, used, 2 * u, sizeof *work.renamed);
    work.copied = room(memory, used, 2 * n_phasings, sizeof *work.copied);
    work.randoms = room(memory, used, n_phasings, sizeof *work.randoms);
    /* Last, because memory beyond what is touched costs nothing. */
    work.starts = room(memory, used, limits->n_starts * matrix, sizeof *work.starts);
    work.matrices = room(memory, used, limits->n_matrices * matrix, sizeof *work.matrices);
    return work;
}

/* Copies what belongs to one target. Haplotypes beyond k are the last one again, with prior 0. */
static void load(const Given *given, int64_t number, Target *target) {
    int64_t n = given->states.shape[0], h = given->panel_alleles.shape[1], k = target->k;
    const int32_t *states = (const int32_t *)given->states.data + number * k;
    const float *prior = (const float *)given->prior.data + number * k;
    const uint8_t *panel = given->panel_alleles.data;
    const int8_t *genotypes = given->genotypes.data;
    for (int64_t l = 0; l < target->t; l++) {
        uint8_t *row = target->alleles + l * target->width;
        for (int64_t j = 0; j < target->width; j++) row[j] = panel[l * h + states[least(j, k - 1)]];
        target->calls[l] = genotypes[l * n + number];
    }
    for (int64_t j = 0; j < target->width; j++) target->prior[j] = j < k ? prior[j] : 0.0f;
}

/* Splits `own` [width], of `count` classes, by a site's `alleles`. Returns the number of classes, and leaves
 * `own` unchanged if they exceed `max_classes`. */
static int64_t split(uint16_t *own, uint16_t *parents, const uint8_t *alleles, int64_t width, int64_t count,
                     int64_t max_classes, int32_t *renamed) {
    int64_t classes = count;
    for (int64_t name = 0; name < 2 * count; name++) renamed[name] = -1;
    for (int64_t j = 0; j < width; j++) {
        int32_t *name = &renamed[2 * own[j] + alleles[j]], other = renamed[2 * own[j] + !alleles[j]];
        if (*name < 0) *name = other < 0 ? own[j] : (int32_t)classes++;
    }
    if (classes > max_classes) return classes;
    for (int64_t c = 0; c < count; c++)
        for (int allele = 0; allele < 2; allele++)
            if (renamed[2 * c + allele] >= count) parents[renamed[2 * c + allele]] = (uint16_t)c;
    for (int64_t j = 0; j < width; j++) own[j] = (uint16_t)renamed[2 * own[j] + alleles[j]];
    return classes;
}

/* Cuts a target's sites into blocks of at most `max_classes` classes and `max_sites` sites. */
static void cut(Target *target, const Limits *limits, int32_t *renamed) {
    int64_t site = 0;
    for (target->n_blocks = 0; site < target->t; target->n_blocks++) {
        uint16_t *own = target->classes + target->n_blocks * target->width;
        uint16_t *parents = target->parents + target->n_blocks * target->max_classes;
        int64_t first = site, count = 1;
        memset(own, 0, sizeof(uint16_t) * target->width);
        for (; site < target->t && site - first < limits->max_sites; site++) {
            const uint8_t *alleles = target->alleles + site * target->width;
            int64_t classes = split(own, parents, alleles, target->width, count, limits->max_classes, renamed);
            if (classes > limits->max_classes) break;
            count = target->counts[site] = classes;
        }
        target->first[target->n_blocks] = first;
    }
    target->first[target->n_blocks] = site;
}

/* Fills `out` [n_phasings, t, 2] for one target, whose seed is given. Returns the log likelihood of its calls. */
static double phase(Workspace *work, const Limits *limits, int64_t n_phasings, uint64_t seed, int8_t *out) {
    Target *target = &work->target;
    int64_t width = target->width, matrix = matrix_size(width);
    cut(target, limits, work->renamed);
    /* If all blocks' matrices do not fit, those at the starts of sqrt(blocks) spans are kept, and the others are
     * computed again. */
    int64_t n_blocks = target->n_blocks;
    int64_t size = n_blocks <= limits->n_matrices ? n_blocks : root_above(n_blocks);
    int64_t n_spans = (n_blocks + size - 1) / size;
    for (int64_t j = 0; j < width; j++)
        for (int64_t i = 0; i < (j / LANES + 1) * LANES; i++)
            work->starts[column_start(j / LANES) + i * LANES + j % LANES] = target->prior[i] * target->prior[j];
    double likelihood = 0.0;
    for (int64_t span = 0; span < n_spans; span++) {
        int64_t low = span * size, high = least(low + size, n_blocks);
        /* The backward pass begins in the last span, which therefore keeps every block's matrix. */
        int64_t kept = span == n_spans - 1 && n_phasings ? greatest(high - low, 2) : 2;
        memcpy(work->matrices, work->starts + span * matrix, sizeof(float) * matrix);
        float *after = work->starts + least(span + 1, n_spans - 1) * matrix;
        likelihood += pair_forward(target, low, high, work->matrices, kept, after, &work->scratch);
    }
    if (n_phasings == 0) return likelihood;
    int64_t likeliest = 0;
    for (int64_t j = 1; j < target->k; j++)
        if (target->prior[j] > target->prior[likeliest]) likeliest = j;
    for (int64_t phasing = 0; phasing < n_phasings; phasing++) {
        work->copied[2 * phasing] = work->copied[2 * phasing + 1] = likeliest;
        work->randoms[phasing] = split_mix(seed ^ split_mix((uint64_t)phasing + 1));
    }
    for (int64_t span = n_spans - 1; span >= 0; span--) {
        int64_t low = span * size, high = least(low + size, n_blocks);
        if (span < n_spans - 1) {
            memcpy(work->matrices, work->starts + span * matrix, sizeof(float) * matrix);
            float *after = work->starts + (span + 1) * matrix;
            pair_forward(target, low, high, work->matrices, greatest(high - low, 2), after, &work->scratch);
        }
        pair_sample(target, low, high, work->matrices, n_phasings, work->copied, work->randoms, out, &work->scratch);
    }
    return likelihood;
}

int64_t vcfbert_sample_pairs(const Given *given, const Array *targets, int64_t max_classes, int64_t max_sites,
                             int64_t max_bytes, const Array *likelihood, const Array *out) {
    int64_t t = given->genotypes.shape[0], k = given->states.shape[1], n_phasings = out->shape[1];
    int64_t width = whole_vectors(k);
    if (t == 0 || targets->shape[0] == 0) return DONE;
    int64_t fitting = least(t, max_bytes / (int64_t)(sizeof(float) * matrix_size(width)));
    Limits limits = {max_classes, least(max_sites, t), greatest(fitting, root_above(t) + 1), root_above(t) + 1};
    size_t bytes = 0, used = 0;
    lay_out(NULL, &bytes, t, width, n_phasings, &limits);
    char *memory = aligned_alloc(ALIGNMENT, bytes);
    if (!memory) return OUT_OF_MEMORY;
    Workspace work = lay_out(memory, &used, t, width, n_phasings, &limits);
    Target *target = &work.target;
    target->t = t;
    target->k = k;
    target->width = width;
    target->max_classes = whole_vectors(max_classes);
    target->stay = given->stay.data;
    target->mismatch = given->mismatch.data;
    for (int64_t i = 0; i < targets->shape[0]; i++) {
        int64_t number = ((const int64_t *)targets->data)[i];
        load(given, number, target);
        uint64_t seed = ((const uint64_t *)given->seeds.data)[number];
        int8_t *own = (int8_t *)out->data + number * n_phasings * t * 2;
        ((double *)likelihood->data)[number] = phase(&work, &limits, n_phasings, seed, own);
    }
    free(memory);
    return DONE;
}
