/* sim/lab/count.h - how often the code under test really does each costly operation, and how long
 * that takes.
 *
 * The linker puts a wrapper in front of each of crypto/'s functions (--wrap, see
 * sim/CMakeLists.txt), in programs that link the laboratory and in no other: production code is the
 * same object code, without a branch or a counter in it. Calls within one file of crypto/ are not
 * seen, nor is what a counted operation does itself through others (a signature's product is part
 * of the signature). So each operation is counted once, under the name of the outermost function.
 *
 * One counter at a time, one thread.
 */
#ifndef AMI_SIM_LAB_COUNT_H
#define AMI_SIM_LAB_COUNT_H

#include <stdbool.h>
#include <stdint.h>

/* NAME, what, group */
#define LAB_OPS(X)                                                                                 \
    X(BASE, "k G", PUBLIC_KEY)                                                                     \
    X(TABLE, "a G + b P_pub by tables", PUBLIC_KEY)                                                \
    X(MUL, "k P", PUBLIC_KEY)                                                                      \
    X(PUBLIC, "Q + b P, public b", PUBLIC_KEY)                                                     \
    X(PUBLIC_SHORT, "Q + b P, public b of 128 bits", PUBLIC_KEY)                                   \
    X(RECOVER, "W + lambda P_pub", PUBLIC_KEY)                                                     \
    X(TO_CURVE, "hash to curve", PUBLIC_KEY)                                                       \
    X(DECODE, "point decoded (square root)", PUBLIC_KEY)                                           \
    X(SIGN, "signature", PUBLIC_KEY)                                                               \
    X(VERIFY, "verification", PUBLIC_KEY)                                                          \
    X(ENCAPSULATE, "encapsulation", PUBLIC_KEY)                                                    \
    X(DECAPSULATE, "decapsulation", PUBLIC_KEY)                                                    \
    X(RANDOM, "random scalar", PUBLIC_KEY)                                                         \
    X(SCALAR, "product modulo n", PUBLIC_KEY)                                                      \
    X(HASH, "SM3", HASH)                                                                           \
    X(HMAC, "HMAC-SM3", HASH)                                                                      \
    X(KDF, "key derivation", HASH)                                                                 \
    X(SEAL, "SM4-GCM sealing", SYMMETRIC)                                                          \
    X(OPEN, "SM4-GCM opening", SYMMETRIC)

#define LAB_OP_ENUM(NAME, what, group) LAB_OP_##NAME,
enum lab_op { LAB_OPS(LAB_OP_ENUM) LAB_OP_KINDS };
enum lab_op_group { LAB_GROUP_PUBLIC_KEY, LAB_GROUP_HASH, LAB_GROUP_SYMMETRIC, LAB_GROUPS };

struct lab_counts {
    uint64_t count[LAB_OP_KINDS];
    uint64_t ns[LAB_OP_KINDS]; /* wall clock inside the operation; 0 when not timed */
};

/* Counts into `into`, which is zeroed, until lab_count_end. Reading the clock around each operation
 * costs some tens of nanoseconds: leave it out where only numbers are wanted. */
void lab_count_begin(struct lab_counts *into, bool timed);
void lab_count_end(void);
/* Between these, nothing is counted; what runs in between may not be timed. */
void lab_count_pause(bool paused);

const char *lab_op_what(enum lab_op op);
enum lab_op_group lab_op_group(enum lab_op op);

#endif
