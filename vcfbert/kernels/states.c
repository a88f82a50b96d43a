/* The reference haplotypes of the longest IBS segments: states.py.
 *
 * The segments of the candidates are gathered, sorted by length, and entered at their sites until each site has its
 * `n_longest`. Most segments are too short for all of their sites and are passed over, 64 sites at a time: once some
 * candidates are ranked, it is known for each start of a segment which site it must reach at least.
 */
#include "ibs_segments.h"

typedef struct {
    double length;       /* cM, > 0; or a score */
    int32_t start, stop; /* its sites are start to stop - 1 */
    int32_t place;       /* of the haplotype among the candidates */
} Segment;

struct Workspace {
    int64_t t, words, n_longest, n_planes, n_segments, capacity;
    Segment *segments, *spare; /* [capacity] */
    int32_t *holder;           /* [t, n_longest]: places of the haplotypes of a site's longest segments, best first */
    int32_t *count;            /* [t]: segments of a site, n_longest at most */
    uint64_t *open;            /* [words]: the sites that still take segments */
    uint64_t *planes;          /* [words, n_planes]: bits of counters that overflow at a site's last segment */
    double *least;             /* [t]: cM of the last segment of a site; 0 while the site is open */
    double *border;            /* [t + 2]: cM of the sites, the first and the last of them twice */
    int32_t *reach;            /* [t + 1]: where a segment that starts at a site must end, at least, to be entered */
    int32_t *queue;            /* [t] */
    uint64_t *starts;          /* [words, LEVELS]: starts of segments that need 2^level sites, or not twice as many */
    double *scores;            /* [candidates] */
    int32_t *first;            /* [BUCKETS + 1] */
};

enum { FIRST_RANKING = 16, NEXT_RANKING = 4, LEVELS = 6, BUCKETS = 1024 };

static size_t lay_out(Workspace *work, char *memory, int64_t h) {
    size_t used = 0;
    room(memory, &used, 1, sizeof *work);
    work->segments = room(memory, &used, work->capacity, sizeof *work->segments);
    work->spare = room(memory, &used, work->capacity, sizeof *work->spare);
    work->holder = room(memory, &used, work->t * work->n_longest, sizeof *work->holder);
    work->count = room(memory, &used, work->t, sizeof *work->count);
    work->open = room(memory, &used, work->words, sizeof *work->open);
    work->planes = room(memory, &used, work->n_planes * work->words, sizeof *work->planes);
    work->least = room(memory, &used, work->t, sizeof *work->least);
    work->border = room(memory, &used, work->t + 2, sizeof *work->border);
    work->reach = room(memory, &used, work->t + 1, sizeof *work->reach);
    work->queue = room(memory, &used, work->t, sizeof *work->queue);
    work->starts = room(memory, &used, LEVELS * work->words, sizeof *work->starts);
    work->scores = room(memory, &used, h, sizeof *work->scores);
    work->first = room(memory, &used, BUCKETS + 1, sizeof *work->first);
    return used;
}

Workspace *new_workspace(int64_t t, int64_t h, int64_t n_longest) {
    /* After a ranking at most t * n_longest segments remain. A haplotype has at most (t + 1) / 2, and scores are sorted
     * in the same place. */
    int64_t scored = t * n_longest;
    Workspace work = {.t = t, .words = (t + 63) / 64, .n_longest = n_longest, .capacity = 2 * scored + 4096 + t};
    while (INT64_C(1) << work.n_planes < n_longest) work.n_planes++;
    char *memory = aligned_alloc(ALIGNMENT, lay_out(&work, NULL, h));
    if (!memory) return NULL;
    lay_out(&work, memory, h);
    memcpy(memory, &work, sizeof work);
    return (Workspace *)memory;
}

/* The first bits of a positive number: exponent and mantissa. They rise with the number. */
static inline int64_t leading_bits(double number) {
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (int64_t)(bits >> 46);
}

static inline int64_t bucket(int64_t top, double length) {
    int64_t below = top - leading_bits(length);
    return below < BUCKETS ? below : BUCKETS - 1;
}

/* Sorts the longest first, equal ones as they are: by buckets of like lengths, and within them by insertion. */
static void sort_segments(Workspace *work) {
    Segment *from = work->segments, *to = work->spare;
    int64_t n = work->n_segments, top = 0;
    int32_t *first = work->first; /* of each bucket, whose numbers fall with the length */
    for (int64_t i = 0; i < n; i++) {
        int64_t bits = leading_bits(from[i].length);
        top = bits > top ? bits : top;
    }
    memset(first, 0, (BUCKETS + 1) * sizeof *first);
    for (int64_t i = 0; i < n; i++) first[bucket(top, from[i].length) + 1]++;
    for (int64_t i = 0; i < BUCKETS; i++) first[i + 1] += first[i];
    for (int64_t i = 0; i < n; i++) to[first[bucket(top, from[i].length)]++] = from[i];
    for (int64_t i = 1; i < n; i++) {
        Segment moved = to[i];
        int64_t j = i;
        for (; j > 0 && to[j - 1].length < moved.length; j--) to[j] = to[j - 1];
        if (j < i) to[j] = moved;
    }
    work->segments = to, work->spare = from;
}

/* The bits of sites start to stop - 1 that lie in a word. */
static inline uint64_t sites_in_word(int64_t word, int64_t start, int64_t stop) {
    uint64_t from = start > 64 * word ? ~UINT64_C(0) << (start - 64 * word) : ~UINT64_C(0);
    return stop < 64 * word + 64 ? from & ~(~UINT64_C(0) << (stop - 64 * word)) : from;
}

/* Makes all sites open. */
static void open_sites(Workspace *work) {
    int64_t before = (INT64_C(1) << work->n_planes) - work->n_longest; /* where each counter starts */
    memset(work->count, 0, (size_t)work->t * sizeof *work->count);
    memset(work->least, 0, (size_t)work->t * sizeof *work->least);
    for (int64_t word = 0; word < work->words; word++) {
        work->open[word] = sites_in_word(word, 0, work->t);
        for (int64_t plane = 0; plane < work->n_planes; plane++)
            work->planes[word * work->n_planes + plane] = before >> plane & 1 ? ~UINT64_C(0) : 0;
    }
}

/* Counts a segment of `length` cM at the open `sites` of a word, and closes those where it is the last. */
static inline void count_segment(Workspace *work, int64_t word, uint64_t sites, double length) {
    uint64_t *planes = work->planes + word * work->n_planes;
    for (int64_t plane = 0; plane < work->n_planes; plane++) {
        uint64_t carried = planes[plane] & sites;
        planes[plane] ^= sites;
        sites = carried;
    }
    work->open[word] &= ~sites;
    for (; sites; sites &= sites - 1) work->least[64 * word + __builtin_ctzll(sites)] = length;
}

/* Enters all segments at their sites, and keeps those that are among the longest of one. `last`: also notes whose
 * segments the sites have. */
static void rank_segments(Workspace *work, int last) {
    int64_t kept = 0;
    sort_segments(work);
    open_sites(work);
    for (int64_t i = 0; i < work->n_segments; i++) {
        Segment segment = work->segments[i];
        uint64_t entered = 0;
        for (int64_t word = segment.start / 64; 64 * word < segment.stop; word++) {
            uint64_t sites = work->open[word] & sites_in_word(word, segment.start, segment.stop);
            entered |= sites;
            count_segment(work, word, sites, segment.length);
            for (; last && sites; sites &= sites - 1) {
                int64_t site = 64 * word + __builtin_ctzll(sites);
                work->holder[site * work->n_longest + work->count[site]++] = segment.place;
            }
        }
        work->segments[kept] = segment;
        kept += entered != 0;
    }
    work->n_segments = kept;
}

/* Sets how far a segment must reach to be longer than the last segment of one of its sites. */
static void set_reach(Workspace *work) {
    const double *border = work->border, *least = work->least;
    int32_t *queue = work->queue; /* sites from start to stop - 1 that have less than all sites behind them */
    int64_t t = work->t, head = 0, tail = 0;
    memset(work->starts, 0, (size_t)(LEVELS * work->words) * sizeof *work->starts);
    for (int64_t start = 0, stop = 0; start <= t; start++) {
        if (head < tail && queue[head] < start) head++;
        while (stop <= t && (head == tail || !(border[stop + 1] - border[start] > least[queue[head]]))) {
            while (head < tail && stop < t && least[queue[tail - 1]] >= least[stop]) tail--;
            if (stop < t) queue[tail++] = (int32_t)stop;
            stop++;
        }
        work->reach[start] = (int32_t)stop;
        if (start < t && start / 64 == stop / 64) {
            int64_t level = 63 - __builtin_clzll((uint64_t)(stop - start));
            work->starts[start / 64 * LEVELS + level] |= UINT64_C(1) << start % 64;
        }
    }
}

static inline void append(Workspace *work, int64_t start, int64_t stop, double length, int64_t place) {
    work->segments[work->n_segments++] = (Segment){length, (int32_t)start, (int32_t)stop, (int32_t)place};
}

/* Appends the segment of sites start to stop - 1 if it is long enough. */
static inline void gather(Workspace *work, int64_t start, int64_t stop, int64_t place) {
    if (stop >= work->reach[start]) append(work, start, stop, work->border[stop + 1] - work->border[start], place);
}

/* Gathers the segments of one haplotype, whose alleles are `carried` [words]. */
static void gather_segments(Workspace *work, const uint64_t *carried, const uint64_t *ref, const uint64_t *alt,
                            int64_t place) {
    int64_t start = 0;
    for (int64_t word = 0; word < work->words; word++) {
        uint64_t conflicts = conflicts_of(carried[word], ref[word], alt[word]);
        if (!conflicts) continue;
        int64_t first = 64 * word, highest = 63 - __builtin_clzll(conflicts);
        gather(work, start, first + __builtin_ctzll(conflicts), place);
        uint64_t alike = ~conflicts, found = 0;
        for (int64_t level = 0; level < LEVELS; level++) {
            found |= alike & work->starts[word * LEVELS + level];
            alike &= alike >> (1 << level);
        }
        found &= conflicts << 1 & ~(~UINT64_C(0) << highest);
        for (; found; found &= found - 1) {
            int64_t from = __builtin_ctzll(found);
            gather(work, first + from, first + from + __builtin_ctzll(conflicts >> from), place);
        }
        start = first + highest + 1;
    }
    gather(work, start, work->t, place);
}

/* Gathers and ranks the segments of all m candidates. */
static void gather_all(Workspace *work, const uint64_t *panel, const uint64_t *ref, const uint64_t *alt,
                       const double *cm, const int32_t *order, int64_t m) {
    int64_t t = work->t, next = FIRST_RANKING;
    work->n_segments = 0;
    open_sites(work);
    work->border[0] = cm[0];
    memcpy(work->border + 1, cm, (size_t)t * sizeof *cm);
    work->border[t + 1] = cm[t - 1];
    set_reach(work);
    for (int64_t place = 0; place < m; place++) {
        if (place == next || work->n_segments + t > work->capacity) {
            rank_segments(work, 0);
            set_reach(work);
            if (place == next) next *= NEXT_RANKING;
        }
        gather_segments(work, panel + order[place] * work->words, ref, alt, place);
    }
    rank_segments(work, 1);
}

/* Sums up 1 / rank over sites for each of m candidates. */
static void score(Workspace *work, int64_t m) {
    memset(work->scores, 0, (size_t)m * sizeof *work->scores);
    for (int64_t site = 0; site < work->t; site++)
        for (int64_t rank = 0; rank < work->count[site]; rank++)
            work->scores[work->holder[site * work->n_longest + rank]] += 1.0 / (double)(rank + 1);
}

void best_states(Workspace *work, const uint64_t *panel, const uint64_t *ref, const uint64_t *alt, const double *cm,
                 const int32_t *order, int64_t m, int64_t k, int32_t *states) {
    if (work->t > 0) gather_all(work, panel, ref, alt, cm, order, m);
    score(work, m);
    work->n_segments = 0;
    for (int64_t place = 0; place < m; place++)
        if (work->scores[place] > 0.0) append(work, 0, 0, work->scores[place], place);
    sort_segments(work);
    int64_t n_scored = work->n_segments < k ? work->n_segments : k;
    for (int64_t i = 0; i < n_scored; i++) states[i] = order[work->segments[i].place];
    for (int64_t place = 0, i = n_scored; i < k; place++)
        if (!(work->scores[place] > 0.0)) states[i++] = order[place];
}

/* The number of sites where a haplotype that carries `carried` [words] conflicts with the target. */
static inline int32_t count_conflicts(const uint64_t *carried, const uint64_t *ref, const uint64_t *alt,
                                      int64_t words) {
    int32_t count = 0;
    for (int64_t word = 0; word < words; word++)
        count += __builtin_popcountll(conflicts_of(carried[word], ref[word], alt[word]));
    return count;
}

/* Fills `order` with the haplotypes that are not `excluded` [h], by number of conflicts, and returns how many. */
static int64_t by_conflicts(const uint64_t *panel, int64_t h, int64_t words, const uint64_t *ref, const uint64_t *alt,
                            const uint8_t *excluded, int32_t *counts, int32_t *first, int32_t *order) {
    memset(first, 0, (size_t)(64 * words + 2) * sizeof *first);
    for (int64_t j = 0; j < h; j++) {
        counts[j] = count_conflicts(panel + j * words, ref, alt, words);
        first[counts[j] + 1] += !excluded[j];
    }
    for (int64_t count = 0; count <= 64 * words; count++) first[count + 1] += first[count];
    for (int64_t j = 0; j < h; j++)
        if (!excluded[j]) order[first[counts[j]]++] = (int32_t)j;
    return first[64 * words];
}

int64_t vcfbert_count_mismatches(const Array *panel, const Array *refs, const Array *alts, const Array *states,
                                 const Array *out) {
    int64_t words = panel->shape[1], n = states->shape[0], k = states->shape[1];
    for (int64_t target = 0; target < n; target++) {
        const uint64_t *ref = (const uint64_t *)refs->data + target * words;
        const uint64_t *alt = (const uint64_t *)alts->data + target * words;
        const int32_t *state = (const int32_t *)states->data + target * k;
        int32_t *count = (int32_t *)out->data + target * k;
        for (int64_t i = 0; i < k; i++)
            count[i] = count_conflicts((const uint64_t *)panel->data + state[i] * words, ref, alt, words);
    }
    return DONE;
}

int64_t vcfbert_fill_states(const Array *panel, const Array *refs, const Array *alts, const Array *cm,
                            const Array *exclude, int64_t n_longest, const Array *targets, const Array *out) {
    int64_t h = panel->shape[0], words = panel->shape[1], t = cm->shape[0], e = exclude->shape[1], k = out->shape[1];
    int32_t *counts, *first, *order;
    uint8_t *excluded;
    char *memory = NULL;
    for (int pass = 0; pass < 2; pass++) {
        size_t used = 0;
        counts = room(memory, &used, h, sizeof *counts);
        first = room(memory, &used, 64 * words + 2, sizeof *first);
        order = room(memory, &used, h, sizeof *order);
        excluded = room(memory, &used, h, sizeof *excluded);
        if (!memory && !(memory = aligned_alloc(ALIGNMENT, used))) return OUT_OF_MEMORY;
    }
    Workspace *work = new_workspace(t, h, n_longest);
    if (!work) {
        free(memory);
        return OUT_OF_MEMORY;
    }
    memset(excluded, 0, (size_t)h);
    for (int64_t i = 0; i < targets->shape[0]; i++) {
        int64_t target = ((const int64_t *)targets->data)[i];
        const int64_t *own = (const int64_t *)exclude->data + target * e;
        const uint64_t *ref = (const uint64_t *)refs->data + target * words;
        const uint64_t *alt = (const uint64_t *)alts->data + target * words;
        for (int64_t j = 0; j < e; j++)
            if (own[j] >= 0) excluded[own[j]] = 1;
        int64_t m = by_conflicts(panel->data, h, words, ref, alt, excluded, counts, first, order);
        best_states(work, panel->data, ref, alt, cm->data, order, m, k, (int32_t *)out->data + target * k);
        for (int64_t j = 0; j < e; j++)
            if (own[j] >= 0) excluded[own[j]] = 0;
    }
    free(work);
    free(memory);
    return DONE;
}
