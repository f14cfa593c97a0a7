/* node/core.h - a whole data concentrator as a state machine: replica, gateway, ledger, admin.
 *
 * In: frames on links, instants of time, finished work, finished writes. Out: through base/env.h.
 * The shell (node/main.c) runs it on nng and LMDB; the simulator runs the same objects on virtual
 * time. It reads the ledger through `struct node_disk`, because a read is answered at once, and
 * writes it through env->store, because a write takes time: the `write` given there is a
 * `struct node_write`.
 *
 * Order of events is the caller's order; nothing here blocks, sleeps or allocates by what a
 * stranger says.
 */
#ifndef AMI_NODE_CORE_H
#define AMI_NODE_CORE_H

#include "base/env.h"
#include "channel/channel.h"
#include "keyagree/scheme.h"
#include "ledger/committee.h"
#include "ledger/store.h"
#include "node/disk.h"

/* Where a link came in. */
enum node_port {
    NODE_PORT_PEER = 1,   /* another DC, the MDMS or a reader dialled us */
    NODE_PORT_METER = 2,  /* meters, fleets, devices that enrol */
    NODE_PORT_ADMIN = 3,  /* dc-cli */
    NODE_PORT_DIALLED = 4 /* we dialled a DC */
};

/* One write handed to env->store: the batch borrows from the rest; node_on_stored takes it back. */
struct node_write {
    struct store_batch batch;
    uint64_t ticket;
    bool commits; /* the next three are the committed block's */
    uint64_t height;
    sm3_digest tip;
    int64_t timestamp_ms;
    uint8_t retention[RETENTION_TX_BYTES];
    uint8_t *memory;  /* of the small parts */
    uint8_t *records; /* of the registry's changes */
};

/* What a listening port went through since the start; kept by the shell's links. */
#define NODE_DROP_REASONS_MAX 9
struct node_port_counters {
    uint64_t open_now, opened, closed;
    uint64_t bytes_in, bytes_out, frames_in, frames_out;
    size_t reasons;
    const char *reason[NODE_DROP_REASONS_MAX]; /* why links were dropped */
    uint64_t dropped[NODE_DROP_REASONS_MAX];   /* and how many */
    /* A port of channels; as in struct link_counters. */
    bool secured;
    uint64_t handshakes_begun, channels_opened, turned_away;
    uint64_t faults[CHANNEL_FAULTS];
    uint32_t budget_left, budget_most; /* of first flights, for all sources together */
};

/* One key of this DC. It stays where it is as long as the node lives. */
struct node_key {
    const struct sign_key *sign;   /* of ROLE_DC_SIGN */
    const struct agree_key *agree; /* names the DC and the key's epoch */
    bool may_sign;                 /* consensus rule 11 */
    uint64_t starts, begun;        /* for the vote record */
};

/* A DC to be dialled. */
struct node_peer {
    struct ami_id name;
    char address[AMI_ADDRESS_BYTES_MAX + 1];
};

/* What links go by, for the status. */
struct node_anchors {
    const struct credential *own;
    int64_t until_s; /* of the first X.509 root or list to end; INT64_MAX: none does */
};

struct node_config {
    const struct genesis *genesis; /* outlives the node, as all pointers here */
    /* The key that votes on the next block, when this DC is a member then; else its newest. */
    struct node_key key;
    /* Membership (consensus rule 13); each may be NULL. use_key: the committee has another key of
     * this DC from the next block on. What it gives must count as used durably before it returns;
     * AMI_NOT_FOUND: it is not here. dial: these are to be dialled from now on, and nobody else. */
    enum ami_status (*use_key)(void *ctx, uint32_t key_epoch, struct node_key *out);
    void (*dial)(void *ctx, const struct node_peer *peer, size_t count);
    void *membership_ctx;
    const struct scheme *scheme;
    const struct point_table *p_pub_table;
    struct registry *registry; /* at the committed height; the node owns its staging from now on */
    struct node_disk disk;
    const struct vote_record *record; /* NULL: none */
    uint64_t height;                  /* committed */
    sm3_digest tip;                   /* its block's hash; the chain id at height 0 */
    int64_t tip_timestamp_ms;
    const struct qc *tip_commit; /* NULL at height 0 */
    size_t sessions_max;
    size_t pool_txs_max;
    size_t pool_bytes_max;
    /* Rules switched off, by the simulator alone, to see that its checks notice. */
    uint32_t rules_off;   /* enum rule_off of consensus/replica.h */
    bool meter_unchecked; /* registry_leave_meters_unchecked */
    /* The newest list of revoked operators (channel/file.h). operators: what was kept; empty: none.
     * keep_operators: it is durable when this returns AMI_OK; NULL: nothing is kept (a simulation).
     */
    struct span operators;
    enum ami_status (*keep_operators)(void *ctx, struct span list);
    void *operators_ctx;
    /* For the status; NULL: links are not secured (a simulation). */
    void (*anchors)(void *ctx, struct node_anchors *out);
    void *anchors_ctx;
    /* For the status; NULL: the shell has no ports. `port` is PEER, METER or ADMIN. */
    void (*port_counters)(void *ctx, enum node_port port, struct node_port_counters *out);
    void *port_ctx;
};

struct node;

/* Room for any vote record. */
#define NODE_RECORD_BYTES_MAX (32u << 10)

/* NULL with *status: out of memory, what the replica says of its record, or what is wrong with the
 * kept list of operators. */
struct node *node_new(const struct node_config *config, const struct env *env,
                      enum ami_status *status);
void node_free(struct node *n);

/* Events. `dialled`: whom NODE_PORT_DIALLED reached, as `dial` named it; else NULL. */
void node_on_open(struct node *n, env_link link, enum node_port port, const struct ami_id *dialled);
/* Right after node_on_open: who has proven itself on this link's channel (channel/), and under
 * which record suite they speak. What the link says of itself later has to agree. A link of PEER,
 * DIALLED or ADMIN without it is somebody of whom nothing is known but what its hello proves; ADMIN
 * answers nothing then. */
void node_on_identity(struct node *n, env_link link, const struct credential_identity *who,
                      uint8_t suite);
/* A channel was refused, by either side, or failed: for the log. `who` may be NULL; `standing` says
 * what it is worth. */
void node_on_refused(struct node *n, enum node_port port, const char *remote,
                     enum channel_fault fault, const struct credential_identity *who,
                     enum channel_standing standing);
void node_on_frame(struct node *n, env_link link, struct span frame);
void node_on_writable(struct node *n, env_link link);
void node_on_closed(struct node *n, env_link link);
void node_on_time(struct node *n);
void node_on_work(struct node *n, void *job);
void node_on_stored(struct node *n, struct node_write *write, enum ami_status status);

/* Where this DC listens, as the ledger or the genesis file says; NULL: it was never a member. */
const struct member_address *node_address(const struct node *n);

/* Whether this credential is one of an operator that is let in no more: for channels (struct
 * credential_trust). */
bool node_operator_revoked(const struct node *n, const struct credential_identity *who);

/* Whether the shell may stop counting a link as a stranger's (it has said something sensible). */
bool node_link_known(const struct node *n, env_link link);

#endif
