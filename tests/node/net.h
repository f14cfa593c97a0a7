/* tests/node/net.h - whole nodes in memory on virtual time, for tests of node/'s core.
 *
 * Four DCs or so with real keys, a perfect network with a fixed delay, disks that are arrays, a
 * work pool that is done at once. A test drives it by letting time pass until a condition holds,
 * and may kill a node, start it again from what was durable, and speak to it as the MDMS, a meter
 * or another DC through links of its own.
 */
#ifndef AMI_TESTS_NODE_NET_H
#define AMI_TESTS_NODE_NET_H

#include "keyagree/session.h"
#include "node/internal.h"
#include "tests/ledger/fixture.h"

#define NET_NODES_MAX 7

struct net;

/* Frames that a test's own end of a link received. */
struct net_inbox {
    struct net_inbox *next;
    size_t size;
    uint8_t bytes[];
};

/* The test's end of a link to a node. */
struct net_peer {
    struct net *net;
    unsigned node;
    env_link near_id, far_id; /* the test's and the node's */
    bool open;
    struct net_inbox *inbox;
};

struct net *net_new(unsigned nodes, enum gateway_policy policy, uint64_t seed);
/* The same, and lets time pass until somebody leads. */
struct net *net_with_leader(unsigned nodes, enum gateway_policy policy, uint64_t seed);
void net_free(struct net *net);

struct fixture *net_fixture(struct net *net);
struct node *net_node(struct net *net, unsigned i); /* NULL while it is down */
unsigned net_count(const struct net *net);
uint64_t net_now_us(const struct net *net);

/* Lets time pass until done(arg), at most limit_ms. True when it held. */
bool net_until(struct net *net, uint64_t limit_ms, bool (*done)(struct net *net, void *arg),
               void *arg);
/* For net_until: somebody leads (arg is not used); all that run have the height *(uint64_t *)arg.
 */
bool net_has_leader(struct net *net, void *arg);
bool net_all_at(struct net *net, void *arg);
bool net_is_level(struct net *net, void *arg); /* all that run have one height; arg is not used */
void net_run_ms(struct net *net, uint64_t ms);
void net_run_us(struct net *net, uint64_t us);

void net_kill(struct net *net, unsigned i);  /* what was not durable is lost */
void net_start(struct net *net, unsigned i); /* from its disk */
enum ami_status net_try_start(struct net *net, unsigned i) AMI_MUST_CHECK; /* it may not start */
/* What node i had its disk prune since the start. */
struct net_pruning {
    unsigned steps;
    unsigned beside; /* steps that began while another write was under way */
    uint32_t bytes;  /* of the last one, at most */
    uint32_t least;  /* of any */
};
struct net_pruning net_pruning(const struct net *net, unsigned i);
/* The retention on the disk of a node that is down; empty: none. */
void net_disk_retention(struct net *net, unsigned i, struct span encoded);

/* A DC that is not in the genesis file, with its key; it is not started. Returns its index. */
unsigned net_add(struct net *net);
/* Another key for node i, of the next epoch. */
void net_add_key(struct net *net, unsigned i);
/* Node i's newest key, for fixture_dc_enrol and fixture_membership. */
const struct fixture_device *net_key(struct net *net, unsigned i);
/* Its vote record is gone: with its newest key it may not sign any more (rule 11). It is down. */
void net_lose_record(struct net *net, unsigned i);

/* Whether node i's newest key may sign, as its shell says when it is asked next. */
void net_may_sign(struct net *net, unsigned i, bool may);

/* From now on so many per cent of the frames between DCs are lost; handshakes are not. */
void net_loss(struct net *net, unsigned percent);

/* What every link of node i is said to have queued from now on. */
void net_queued(struct net *net, unsigned i, size_t bytes);

/* How long every job takes from now on. */
void net_work(struct net *net, uint64_t us);

/* What node i's disk says to writes from now on; AMI_OK: they succeed. */
void net_disk(struct net *net, unsigned i, enum ami_status status);
/* Writes that node i's disk was asked for since the start. */
uint64_t net_disk_writes(const struct net *net, unsigned i);
/* Blocks that were read from it since the start. */
uint64_t net_disk_reads(const struct net *net, unsigned i);
/* How long each write of node i takes from now on. */
void net_disk_us(struct net *net, unsigned i, uint64_t us);
/* While it is mute nothing that node i sends arrives; its links stay up. */
void net_mute(struct net *net, unsigned i, bool mute);
/* What arrives at node i from other DCs from now on; its links stay up. */
enum net_hearing { HEARS_ALL, HEARS_ON_OWN_LINKS /* those that it dialled */, HEARS_NOTHING };
void net_hearing(struct net *net, unsigned i, enum net_hearing what);
/* A node that is down loses its vote record; it starts again without the right to sign. */
void net_forget_record(struct net *net, unsigned i);

/* Index of the DC that leads in the highest term among those that run; -1: none. */
int net_leader(struct net *net);
/* Greatest and least committed height among those that run. */
uint64_t net_height_max(struct net *net);
uint64_t net_height_min(struct net *net);
/* Block at a height on a node's disk; false when it has none. */
bool net_block(struct net *net, unsigned i, uint64_t height, struct certified_block *out);

/* Heights that several nodes hold are the same block, and every certificate is of its epoch. */
bool net_is_one_chain(struct net *net);

/* A link to a node's port, as a stranger would open it. */
struct net_peer *net_dial(struct net *net, unsigned node, enum node_port port);
/* A link that the node opened, as it believes, to this DC, and that the test answers. */
struct net_peer *net_answer(struct net *net, unsigned node, const struct ami_id *dialled);
/* The same, as this DC with this key, and a signature that proves nothing. With a key that the
 * node's ledger does not have it is a source of blocks. */
struct net_peer *net_answer_as(struct net *net, unsigned node, const struct ami_id *dialled,
                               const struct ami_id *name, uint32_t key_epoch);
/* Waits until such a one is asked for blocks; from which height. 0: it is not. */
uint64_t net_asked(struct net_peer *p);
void net_send(struct net_peer *p, struct span frame);
/* Takes the next frame of this type off the inbox, dropping others before it; false when time ran
 * out. The body stays valid until the next call. */
bool net_expect(struct net_peer *p, enum message_type type, uint64_t limit_ms, struct span *body);

/* Asks a node's admin port, as dc-cli does: {"ask": ask}. The caller frees the answer. */
json_t *net_ask(struct net *net, unsigned node, const char *ask);
/* The same with the whole question, and the status that the node answers with. */
json_t *net_ask_status(struct net *net, unsigned node, const char *question,
                       enum ami_status *status);
/* Who asks from now on; at first an operator with every label. role 0: somebody of whom nothing is
 * known. */
void net_ask_as(struct net *net, enum credential_role role, struct label label);
/* `kind`: of the credential that net_ask_as and net_ask_named take next; at first implicit. */
void net_ask_under(struct net *net, enum credential_kind kind);
void net_ask_named(struct net *net, const char *name, enum credential_role role,
                   struct label label); /* with another name than alice */
/* Of the credential that an asker of this name has. */
sm3_digest net_fingerprint(const char *name);
/* By so much node i's wall clock is ahead from now on. */
void net_wall_ahead(struct net *net, unsigned i, int64_t ms);
/* What node i's shell says when it is to keep a list of revoked operators. */
void net_operators_kept(struct net *net, unsigned i, enum ami_status status);

/* The handshake of a peer link, as the MDMS or as member `member` with its real key. */
struct net_peer *net_dial_as_mdms(struct net *net, unsigned node);
struct net_peer *net_dial_as_member(struct net *net, unsigned node, unsigned member);
/* TX_SUBMIT of one transaction. */
void net_submit(struct net_peer *p, struct span encoded_tx);

/* A meter with real agreeing and signing keys, and its enrolment on the ledger. */
struct net_meter {
    struct fixture_device device;
    struct agree_key agree;
    struct session session;
    uint64_t session_id;
    struct net_peer *link;
    unsigned node;
    struct block_proof proof; /* the newest that came on the link */
};
/* Makes its keys and submits its enrolment to `node`; waits until every running node has it. */
void net_meter_enrol(struct net *net, struct net_meter *m, unsigned number, unsigned node);
/* AMI_OK: the session stands. Otherwise the refusal's status; *redirect: member or -1. */
enum ami_status net_meter_agree(struct net *net, struct net_meter *m, unsigned node, bool insist,
                                int *redirect);
/* Makes (once per sequence) and sends a report. */
void net_meter_report(struct net *net, struct net_meter *m, uint64_t sequence);
/* Waits for the acknowledgement of it and checks everything that a meter checks. AMI_OK, the
 * nack's status, AMI_BAD_PROOF, AMI_TIMEOUT. */
enum ami_status net_meter_ack(struct net *net, struct net_meter *m, uint64_t sequence,
                              uint64_t limit_ms, uint64_t *height);
/* These reports, one to a block: each is acknowledged before the next is made. */
void net_meter_reports(struct net *net, struct net_meter *m, uint64_t from, uint64_t to);
/* First part of this meter's report, as it signed it. */
struct report_meter_part net_meter_part(struct net *net, const struct net_meter *m,
                                        uint64_t sequence);

#endif
