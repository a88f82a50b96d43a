/* Says which library suits this processor, and of which sources it was built. */
#include "array.h"

const char *vcfbert_sources(void) { return VCFBERT_SOURCES; }

int64_t vcfbert_has_avx2(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#else
    return 0;
#endif
}
