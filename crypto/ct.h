/* crypto/ct.h - tools for code whose branches and addresses must not depend on secrets.
 *
 * A mask is all ones for true and zero for false. Private to crypto/.
 */
#ifndef AMI_CRYPTO_CT_H
#define AMI_CRYPTO_CT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the build that tests/crypto runs under valgrind, secrets are marked as undefined memory and
 * any branch or address that depends on them is reported. CT_PUBLIC marks the few derived values
 * whose disclosure is harmless; each use says why it is. */
#ifdef AMI_CT_CHECK
#include <valgrind/memcheck.h>
#define CT_PUBLIC(data, size) ((void)VALGRIND_MAKE_MEM_DEFINED((data), (size)))
#else
#define CT_PUBLIC(data, size) ((void)(data), (void)(size))
#endif

/* Hides a value's origin from the optimiser, which might otherwise turn a mask into a branch. */
static inline uint64_t ct_hide(uint64_t v)
{
    __asm__("" : "+r"(v));
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

static inline uint64_t ct_mask_equal(uint64_t a, uint64_t b)
{
    return ct_mask_zero(a ^ b);
}

/* Turns a mask into a decision that may steer a branch. */
static inline bool ct_reveal(uint64_t mask)
{
    CT_PUBLIC(&mask, sizeof mask);
    return mask != 0;
}

#endif
