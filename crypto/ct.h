/* crypto/ct.h - tools for code whose branches and addresses must not depend on secrets.
 *
 * A mask is all ones for true and zero for false. Private to crypto/.
 */
#ifndef AMI_CRYPTO_CT_H
#define AMI_CRYPTO_CT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* tests/crypto builds this room twice more, with secrets marked as undefined memory, so that any
 * branch or address that depends on one is reported: under valgrind (AMI_CT_CHECK), and with
 * clang's MemorySanitizer for AVX-512, which valgrind cannot run (AMI_CT_MSAN).
 *
 * CT_PUBLIC marks the few derived values whose disclosure is harmless; each use says why it is.
 *
 * CT_RESULT follows what a library has written that MemorySanitizer does not see into: it is
 * defined. CT_DERIVED is the same for a result that is secret if one of `count` spans is. */
#if defined(AMI_CT_CHECK)
#include <valgrind/memcheck.h>
#define CT_PUBLIC(data, size)                     ((void)VALGRIND_MAKE_MEM_DEFINED((data), (size)))
#define CT_RESULT(data, size)                     ((void)(data), (void)(size))
#define CT_DERIVED(data, size, parts, part_count) ((void)(data), (void)(size))
#elif defined(AMI_CT_MSAN)
#include "base/bytes.h"
#include <sanitizer/msan_interface.h>
#define CT_PUBLIC(data, size) __msan_unpoison((data), (size))
#define CT_RESULT(data, size) __msan_unpoison((data), (size))
#define CT_DERIVED(out_, size_, parts, part_count)                                                 \
    do {                                                                                           \
        __msan_unpoison((out_), (size_));                                                          \
        for (size_t i_ = 0; i_ < (part_count); i_++)                                               \
            if (__msan_test_shadow((parts)[i_].data, (parts)[i_].size) >= 0)                       \
                __msan_poison((out_), (size_));                                                    \
    } while (0)
#else
#define CT_PUBLIC(data, size)                     ((void)(data), (void)(size))
#define CT_RESULT(data, size)                     ((void)(data), (void)(size))
#define CT_DERIVED(data, size, parts, part_count) ((void)(data), (void)(size))
#endif

/* Hides a value's origin from the optimiser, which might otherwise turn a mask into a branch. */
static inline uint64_t ct_hide(uint64_t v)
{
#ifndef AMI_CT_MSAN /* which takes an undefined operand of assembly for a mistake */
    __asm__("" : "+r"(v));
#endif
    return v;
}

/* bit is 0 or 1. */
static inline uint64_t ct_mask(uint64_t bit)
{
    return ct_hide(0 - bit);
}

static inline uint64_t ct_mask_zero(uint64_t v)
{
    return ct_mask(1 ^ ((v | (0 - v)) >> 63));
}

/* Turns a mask into a decision that may steer a branch. */
static inline bool ct_reveal(uint64_t mask)
{
    CT_PUBLIC(&mask, sizeof mask);
    return mask != 0;
}

#endif
