/* bench/city.h - many meters that report in turn, in random order, for the benches of stores; and
 * what a store wrote and computed meanwhile.
 */
#ifndef AMI_BENCH_CITY_H
#define AMI_BENCH_CITY_H

#include "base/bytes.h"
#include "net/options.h"
#include "net/why.h"

struct city {
    size_t count;
    struct ami_id *name; /* "meter-000000" on */
    uint32_t *order;     /* who reports when, in a round */
    uint64_t random;
};

/* AMI_NO_MEMORY. city_free takes one that failed, too. */
enum ami_status city_make(struct city *c, size_t count) AMI_MUST_CHECK;
void city_free(struct city *c);

uint64_t city_draw(struct city *c, uint64_t below);
/* Another order. */
void city_shuffle(struct city *c);

/* Bytes that this process has handed to the system so far (wchar of /proc/self/io), and its
 * computing in microseconds. */
uint64_t written_bytes(void);
double computed_us(void);

/* A folder of its own under `parent`, for `work`, which is gone afterwards. AMI_IO, or the work's.
 */
enum ami_status in_folder(const char *parent, const char *program,
                          enum ami_status (*work)(void *ctx, const char *dir), void *ctx,
                          struct why *why) AMI_MUST_CHECK;

/* The program of a bench of one store. The exit status. */
int store_bench(const struct command_spec *single, int argc, char **argv);

#endif
