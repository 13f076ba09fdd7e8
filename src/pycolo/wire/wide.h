/* The sum of many 16-bit words, for processors with AVX2: see checksum.pxi, and ADR 0039 for why this is C. */
#ifndef PYCOLO_WIDE_H
#define PYCOLO_WIDE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define HAS_WIDE_SUM() (__builtin_cpu_supports("avx2") != 0)

#define WIDE_STEP(sum, at) \
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16( \
        _mm256_xor_si256(bias, _mm256_loadu_si256((const __m256i *)(at))), ones))

/* Of blocks of 128 bytes, at most 1024 of them, words in the machine's order. What is subtracted from each word makes
 * it signed, so that one instruction adds pairs of them; in the end that is put back. */
__attribute__((target("avx2")))
static uint64_t wide_sum(const uint8_t *octets, ptrdiff_t blocks)
{
    const __m256i bias = _mm256_set1_epi16(-32768), ones = _mm256_set1_epi16(1);
    const uint8_t *end = octets + 128 * blocks;
    int64_t total = (int64_t)blocks * 64 * 32768;
    __m256i even = _mm256_setzero_si256(), odd = even;
    __m128i four;

    for (; octets != end; octets += 128) {
        WIDE_STEP(even, octets);
        WIDE_STEP(odd, octets + 32);
        WIDE_STEP(even, octets + 64);
        WIDE_STEP(odd, octets + 96);
    }
    even = _mm256_add_epi32(even, odd);
    four = _mm_add_epi32(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return (uint64_t)(total + _mm_cvtsi128_si32(four) + _mm_extract_epi32(four, 1));
}

#else

#define HAS_WIDE_SUM() 0
#define wide_sum(octets, blocks) 0

#endif
#endif
