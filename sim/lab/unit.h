/* sim/lab/unit.h - how long one operation takes here and now, and a packaged library's pairing.
 *
 * Processor time of this thread, so that a machine with other work still measures the operation;
 * medians of repetitions that last long enough for the clock. Figures of one run belong together.
 */
#ifndef AMI_SIM_LAB_UNIT_H
#define AMI_SIM_LAB_UNIT_H

#include "sim/lab/count.h"
#include "sim/lab/pair.h"

struct lab_time {
    double median_us, min_us, max_us;
};

/* Shorter repetitions, for runs whose times nobody reads. */
void lab_time_briefly(bool briefly);
/* `run` does one operation (or `size` of them in one call; the result is for one). */
struct lab_time lab_time_of(void (*run)(void *with), void *with, size_t size);

/* Work that two sides do: one call does `size` operations of each and adds the nanoseconds that
 * each side took. False: a result is wrong. */
struct lab_two_sided {
    bool (*run)(void *with, double ns[2]);
    void *with;
    size_t size;
    struct lab_time side[2], both; /* of one operation */
    bool wrong;
};
/* Several, taking turns, so that a machine that grows slow or busy does so for all of them. */
void lab_time_two_sided(struct lab_two_sided *list, size_t count);

/* One operation alone, with random input; P_pub's products with the tables that a DC has of it when
 * `dc`, without them otherwise (a meter has little memory for tables). */
struct lab_time lab_unit_time(enum lab_op op, struct lab_pair *p, bool dc);

/* Reduced Tate pairing on a supersingular curve over a field of 510 bits with a subgroup of 160
 * bits (80 bits of security, as the published schemes with pairings assume), and a product by a
 * scalar of 160 bits on that curve: PARI/GP (Debian package pari-gp), run as a program. */
struct lab_pairing {
    double pairing_us, mul_us;
    char version[64];
};
bool lab_pairing_measure(struct lab_pairing *out); /* false: there is no gp here, or it failed */

#endif
