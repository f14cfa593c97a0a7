/* node/anchors.h - what dc-node goes by when it lets somebody in: X.509 roots and revocation lists,
 * the public seed set; and for how long all of that is good. And where the MDMS's newest list of
 * revoked operators is kept (ANCHORS_KEPT in the DC's folder), so that a restart takes nobody back;
 * the core gets it from the MDMS and decides (node/operators.c).
 *
 * Files that change are read again. What cannot be read changes nothing and is logged.
 *
 * Shell only: files and the clock are its own.
 */
#ifndef AMI_NODE_ANCHORS_H
#define AMI_NODE_ANCHORS_H

#include "channel/file.h"
#include "net/logline.h"
#include "net/trust.h"
#include "node/core.h"

#include <time.h>

#define ANCHORS_KEPT    "operators-revoked.list"
#define ANCHORS_LOOK_US (1u * 1000000u) /* how often files are looked at */

struct anchors {
    /* Set by the owner; all outlive it. */
    struct trust_watch watch; /* what has to be set of it */
    const char *dir;
    /* Its own. */
    uint8_t *operators; /* the list that was kept; NULL: none */
    size_t operators_size;
};

/* Reads all of it, and warns of what runs out or is missing. AMI_DAMAGED: the list that was kept is
 * none; AMI_NOT_FOUND and so on: a file that was named is not there or bad, with `why`. */
enum ami_status anchors_start(struct anchors *a, uint64_t mono_us, int64_t wall_ms,
                              struct why *why) AMI_MUST_CHECK;
void anchors_end(struct anchors *a);

/* Reads what has changed, and repeats warnings that are due; to be called every ANCHORS_LOOK_US.
 * True: as trust_watch_look. */
bool anchors_look(struct anchors *a, uint64_t mono_us, int64_t wall_ms) AMI_MUST_CHECK;

/* For struct node_config. `a` is a struct anchors. */
enum ami_status anchors_keep_operators(void *a, struct span list);

/* For the node's status. `a` is a struct anchors. */
void anchors_state(void *a, struct node_anchors *out);

#endif
