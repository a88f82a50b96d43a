/* What all kernels share: numpy arrays as Python passes them (__init__.py).
 *
 * Every function `vcfbert_NAME` is the twin of the Python function NAME under @compiled, which says in numpy what it
 * computes, with shapes. Arrays are contiguous and their types are checked before the call. Shapes that disagree are
 * the caller's error, as are indices out of range.
 */
#ifndef VCFBERT_ARRAY_H
#define VCFBERT_ARRAY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void *data;
    int64_t shape[4];
} Array;

enum { DONE = 0, OUT_OF_MEMORY = -1 };

/* Scratch memory is one piece, so that one malloc and one free do for a call. */
enum { ALIGNMENT = 64 };

/* Room for `n` elements of `size` bytes from byte `*used` of `memory` on, and `*used` after them. With a `memory` of
 * NULL it only counts. */
static inline void *room(char *memory, size_t *used, int64_t n, size_t size) {
    char *here = memory ? memory + *used : NULL;
    *used += ((size_t)n * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return here;
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The size of the largest of n parts. Part i has the elements `first[i]` to `first[i + 1] - 1`. */
static inline int64_t largest_part(const int64_t *first, int64_t n) {
    int64_t largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (first[i + 1] - first[i] > largest) largest = first[i + 1] - first[i];
    return largest;
}

#endif
