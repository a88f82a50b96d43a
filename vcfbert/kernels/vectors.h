/* Vectors of eight numbers, by the extension that GCC and clang share. Without AVX2 each becomes two of four.
 *
 * They are never passed by value, because their place in a call depends on the processor.
 */
#ifndef VCFBERT_VECTORS_H
#define VCFBERT_VECTORS_H

#include <stdint.h>

enum { WIDTH = 8 };

typedef float Vector __attribute__((vector_size(32)));
typedef float Unaligned __attribute__((vector_size(32), aligned(4)));
typedef int32_t Mask __attribute__((vector_size(32)));
typedef uint32_t Bits __attribute__((vector_size(32)));
typedef float Quad __attribute__((vector_size(16)));

#define INLINED static inline __attribute__((always_inline))

#if defined(__clang__)
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (Mask){__VA_ARGS__})
#endif

#define SUM(v) (((v)[0] + (v)[4] + ((v)[2] + (v)[6])) + ((v)[1] + (v)[5] + ((v)[3] + (v)[7])))

/* Stores rows of four, [8, 4] with `stride` floats from one to the next, from the columns `of` [4]. */
INLINED void store_transposed(const Vector *of, float *to, int64_t stride) {
    Vector first_low = SHUFFLED(of[0], of[1], 0, 8, 1, 9, 4, 12, 5, 13);
    Vector first_high = SHUFFLED(of[0], of[1], 2, 10, 3, 11, 6, 14, 7, 15);
    Vector last_low = SHUFFLED(of[2], of[3], 0, 8, 1, 9, 4, 12, 5, 13);
    Vector last_high = SHUFFLED(of[2], of[3], 2, 10, 3, 11, 6, 14, 7, 15);
    Vector rows[4] = {
        SHUFFLED(first_low, last_low, 0, 1, 8, 9, 4, 5, 12, 13), /* rows 0 and 4 */
        SHUFFLED(first_low, last_low, 2, 3, 10, 11, 6, 7, 14, 15),
        SHUFFLED(first_high, last_high, 0, 1, 8, 9, 4, 5, 12, 13),
        SHUFFLED(first_high, last_high, 2, 3, 10, 11, 6, 7, 14, 15),
    };
    for (int i = 0; i < 4; i++) {
        *(Quad *)(to + i * stride) = ((const Quad *)&rows[i])[0];
        *(Quad *)(to + (i + 4) * stride) = ((const Quad *)&rows[i])[1];
    }
}

#endif
