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

#endif
