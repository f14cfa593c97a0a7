/* node/recover.h - dc-node's ledger at its start and at its end: checked, and begun anew when
 * damaged.
 *
 * At the start another process looks at the whole file before this one opens it. When it is damaged
 * (or that process crashes) the ledger's folder is set aside, never deleted, and an empty one takes
 * its place; the node then fetches all blocks from its peers as any node that is behind.
 *
 * A clean end leaves a mark beside the ledger: how its file was left, and a copy of the vote
 * record. It serves two ends. A file that is as it was left need not be checked whole again, for a
 * while. And the record in it is the newest for certain: nothing was signed after it, since the
 * mark is removed before the next signature. So this is the one record that a node may go on from
 * after its ledger was lost (consensus rule 11); a record out of a damaged ledger never is.
 *
 * Shell only: files, processes, no threads yet, and nng not used yet.
 */
#ifndef AMI_NODE_RECOVER_H
#define AMI_NODE_RECOVER_H

#include "ledger/genesis.h"
#include "ledger/store.h"
#include "net/logline.h"
#include "net/loop.h"
#include "net/why.h"
#include "node/core.h"

#include <sys/types.h>

/* A check of the whole file is worth having this long. */
#define RECOVER_CHECKED_MS (7LL * 24 * 3600 * 1000)

/* The mark that was found. */
struct recover_mark {
    bool exists; /* whole, of this chain */
    struct ledger_closed closed;
    bool has_record;
    struct vote_record record;
    uint8_t bytes[NODE_RECORD_BYTES_MAX]; /* what closed and record point into */
};

struct recover_where {
    const char *dir;    /* of the node: keys, mark, ledger */
    const char *ledger; /* dir/ledger */
    const struct genesis *genesis;
    struct log_sink *log;
    const struct loop *loop; /* whose signals end a check */
    int lock_fd;             /* of the lock on `dir` */
};

/* A mark that is missing, damaged or of another chain does not exist. */
void recover_mark_read(struct recover_mark *out, const struct recover_where *w);
/* Durably. Call it before the node can sign anything. */
enum ami_status recover_mark_remove(const struct recover_where *w, struct why *why) AMI_MUST_CHECK;
/* After an end in good order, when the ledger is closed. record: the encoding of the vote record
 * that was written last, empty when there is none. checked_ms: when the whole file was checked last
 * (recover_check); 0: it is to be checked again. */
enum ami_status recover_mark_write(const struct recover_where *w, uint64_t starts,
                                   struct span record, int64_t checked_ms,
                                   struct why *why) AMI_MUST_CHECK;

/* Has the ledger checked, the whole of it unless the mark says that nobody touched it since it was,
 * and sets it aside when it is damaged. *checked_ms: when it was checked as a whole. AMI_CLOSED: a
 * signal came. AMI_IO, AMI_NO_MEMORY. */
enum ami_status recover_check(const struct recover_where *w, const struct recover_mark *mark,
                              int64_t *checked_ms, struct why *why) AMI_MUST_CHECK;

/* A process that goes on looking at the values of the ledger while the node runs, so that what rots
 * in its old parts is found before anybody asks for it; it, and not the node, is what a damaged
 * page crashes. */
struct recover_patrol {
    pid_t pid; /* 0: none */
    int in;
};
/* Begins it: once in round_ms it has looked at everything. Call it before this process opens the
 * ledger. forget(ctx) runs in the new process: what it should not hold. */
enum ami_status recover_patrol_begin(struct recover_patrol *p, const struct recover_where *w,
                                     int64_t round_ms, void (*forget)(void *ctx), void *ctx,
                                     struct why *why) AMI_MUST_CHECK;
/* Without waiting: AMI_OK: nothing was found so far. AMI_DAMAGED, once, with what was found.
 * AMI_IO, once: it came to an end by itself. */
enum ami_status recover_patrol_look(struct recover_patrol *p, struct why *why) AMI_MUST_CHECK;
void recover_patrol_end(struct recover_patrol *p);

#endif
