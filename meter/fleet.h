/* meter/fleet.h - the shell around many meters: one event loop, shared links, one store.
 *
 *   fleet.c         meters, their timers, measuring, when it is over
 *   fleet_links.c   connections to the DCs, shared; frames to the meter that they are for
 *   fleet_disk.c    writes of many meters in one synced transaction
 *   fleet_stats.c   what happened, as JSON and as a line of progress
 *
 * A reading's way: source -> report encoded -> meter core (number, signature) -> group of writes ->
 * LMDB -> core (seal) -> link; and back: link -> headers or core -> group of writes -> archive.
 */
#ifndef AMI_METER_FLEET_H
#define AMI_METER_FLEET_H

#include "meter/source.h"
#include "net/link.h"
#include "net/logline.h"

struct fleet;

struct fleet_config {
    const struct genesis *genesis; /* outlives the fleet, as all pointers here */
    struct meter_store *store;
    const char *mode;           /* "fleet", for the statistics */
    const struct ami_id *names; /* only these meters; NULL: all of the directory */
    size_t name_count;
    size_t meters_max;      /* only the first so many; 0: all */
    unsigned connections;   /* to each DC */
    uint64_t keep;          /* reports of a meter that its archive keeps */
    uint32_t backlog;       /* a meter with so many unsettled reports measures no more until some
                               are settled; 0: a file's meters 48, others as many as come */
    uint64_t warm_up_ms;    /* what happens before is left out of this run's statistics */
    uint64_t measure_ms;    /* stops measuring after so long; 0: when the source ends */
    uint64_t drain_ms;      /* then waits so long for acknowledgements */
    const char *stats_path; /* rewritten every second; NULL: none */
    bool quiet;             /* no progress on stderr */
    struct log_sink *log;
};

/* Loads keys and outbox. AMI_NOT_FOUND (no such meter, or none at all), AMI_FOREIGN_KEY,
 * AMI_DAMAGED, AMI_NO_MEMORY. */
enum ami_status fleet_new(struct fleet **out, const struct fleet_config *config,
                          struct why *why) AMI_MUST_CHECK;
void fleet_free(struct fleet *f); /* NULL is allowed */

/* Meters in order of their names. */
size_t fleet_count(const struct fleet *f);
const struct ami_id *fleet_name(const struct fleet *f, size_t meter);
uint32_t fleet_epoch(const struct fleet *f, size_t meter);
const struct meter_state *fleet_state(const struct fleet *f, size_t meter);
struct loop *fleet_loop(struct fleet *f);

/* A source that said SOURCE_HOLD has something now. */
void fleet_poke(struct fleet *f);
/* Stops measuring as if the time were over, then drains. `why` (may be NULL) is an error of the
 * source: it is said at the end and makes the run fail. */
void fleet_stop_measuring(struct fleet *f, const struct why *why);

/* Until the source ends (or measure_ms, or a signal) and everything is acknowledged or drain_ms is
 * over. AMI_OK: everything was acknowledged, or a signal asked to stop. AMI_UNREACHABLE: no DC
 * could ever be reached. AMI_TIMEOUT: reports stay in the outbox. AMI_FULL, AMI_IO: writing failed.
 * AMI_REVOKED, AMI_UNKNOWN_DEVICE: nobody takes any meter's reports. AMI_WRONG_CHAIN,
 * AMI_WRONG_SCHEME: what the DCs said. */
enum ami_status fleet_run(struct fleet *f, struct source *source, struct why *why) AMI_MUST_CHECK;

#endif
