/* tests/node/net_internal.h - what the files of the network share. Nobody else includes it.
 *
 *   net.c         nodes: made, started from their disks, killed, looked at
 *   net_events.c  virtual time, links, and the environment of the nodes' cores
 *   net_disk.c    a node's disk
 *   net_peer.c    the test's own links: a stranger, a DC, the MDMS, dc-cli
 *   net_meter.c   a meter on one of them
 */
#ifndef AMI_TESTS_NODE_NET_INTERNAL_H
#define AMI_TESTS_NODE_NET_INTERNAL_H

#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

struct event {
    struct event *next;
    uint64_t at_us;
    enum { EVENT_FRAME, EVENT_OPEN, EVENT_CLOSED, EVENT_WORK, EVENT_STORED } type;
    unsigned node;  /* whose, or the test's own */
    unsigned start; /* of that node; events of an earlier life are dropped */
    env_link link;
    enum node_port port;
    struct ami_id dialled;
    void *job;
    void (*run)(void *job);
    size_t size;
    uint8_t bytes[];
};

struct end {
    env_link other;
    unsigned node; /* where this end is; TEST_END: with the test */
    bool open;
    struct net_peer *peer;
};

struct stored_block {
    uint8_t *bytes; /* encoding of certified_block */
    size_t size;
    sm3_digest hash;
};

struct kept_body {
    struct kept_body *next;
    sm3_digest hash;
    size_t size;
    uint8_t bytes[]; /* encoding of body_reply */
};

/* A key of a DC; the first one of a genesis member is in the fixture, too. */
struct host_key {
    struct fixture_device device;
    struct agree_key agree;
    bool mute; /* consensus rule 11 */
};

struct host {
    size_t queued;
    struct net *net;
    unsigned index, starts;
    struct node *node;
    uint64_t alarm_us;
    struct host_key key[2];
    unsigned keys;
    struct ami_id want[AMI_MEMBERS_MAX]; /* to be dialled */
    size_t wants;
    env_link to[NET_NODES_MAX]; /* dialled; 0: none */
    struct registry *registry;
    enum ami_status disk; /* what it says to writes */
    uint64_t disk_us;     /* how long one takes */
    uint64_t writes, reads;
    unsigned writing; /* under way */
    struct net_pruning pruning;
    bool mute, forgot;
    enum net_hearing hearing;
    struct net_peer *asker; /* the test's link to its admin port */
    /* What is durable. */
    struct stored_block *block;
    size_t blocks;
    struct kept_body *kept;
    uint8_t record[NODE_RECORD_BYTES_MAX];
    size_t record_size;
    struct store_retention retention;
    uint8_t operators[AMI_REVOKED_BYTES_MAX];
    size_t operators_size;
    enum ami_status operators_kept; /* what keeping a list says */
    int64_t wall_ahead_ms;
    /* Of the present life. */
    struct vote_record loaded;
    struct block_header tip_header;
    struct qc tip_commit;
};

struct net {
    struct fixture *f;
    unsigned count;
    uint64_t now_us, rng, work_us;
    uint64_t connect_us; /* links are made and ended then */
    unsigned loss_percent;
    struct event *queue;
    struct host host[NET_NODES_MAX];
    struct end *end; /* by link id */
    size_t ends;
    struct net_peer *peers[256];
    size_t peer_count;
    struct point_table *p_pub;
    struct credential_identity asker; /* who comes in by the admin port; role 0: nobody */
    enum credential_kind asker_kind;  /* of the next one; 0: implicit */
    uint8_t scratch[AMI_FRAME_PEER_BYTES_MAX];
};

#define TEST_END 1000u

/* --- net.c */

int net_host_of(const struct net *net, const struct ami_id *name); /* -1: nobody's */
void net_make_agree_key(struct net *net, struct agree_key *out, enum key_role role,
                        const struct ami_id *name, uint32_t epoch, struct agree_part *part);

/* --- net_events.c */

struct env host_env(struct host *h);
env_link net_new_end(struct net *net, unsigned node);
/* A link between two ends, of which `from` may be the test's; `name`: whom a node dials, or
 * believes that it dials. */
void net_open_pair(struct net *net, unsigned from, unsigned to, enum node_port to_port,
                   const struct ami_id *name, env_link ids[2]);
enum ami_status net_send_frame(struct net *net, env_link link, struct span frame);
void net_close_link(struct net *net, env_link link);

/* --- net_disk.c */

struct node_disk host_disk(struct host *h);
void host_disk_write(struct host *h, const struct store_batch *b);
enum ami_status host_disk_header(void *ctx, uint64_t height, struct block_header *header,
                                 struct qc *commit);
void host_keep_retention(struct host *h, struct span encoded);

/* --- net_peer.c */

bool net_has_frame(struct net *net, void *peer); /* for net_until: or its link is closed */

#endif
