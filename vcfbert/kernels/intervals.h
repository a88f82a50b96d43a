/* Where the row numbers of the intervals between typed sites lie: copying/intervals.py. */
#ifndef VCFBERT_INTERVALS_H
#define VCFBERT_INTERVALS_H

#include <stdint.h>

enum { WORD_SITES = 64, GROUP = 16 };

/* The place of the first of r haplotypes in interval `s` of [groups, r, GROUP]; the next is GROUP numbers further. */
static inline int64_t first_number(int64_t s, int64_t r) { return s / GROUP * GROUP * r + s % GROUP; }

#endif
