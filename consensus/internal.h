/* consensus/internal.h - the replica's state and what its files share. Nothing outside includes it.
 *
 *   replica.c   events in, timers, deadline, queries
 *   election.c  rules 1 and 2: timer, pre-votes, terms, grants
 *   propose.c   rules 3 and 4: what a leader proposes, votes collected, certificates made
 *   vote.c      rules 5 and 6: proposals judged, prepare and commit votes
 *   commit.c    rule 7: commit certificates carried out
 *   contact.c   rule 8: heartbeats, a leader that steps down
 *   leaders.c   rule 9: who is passed over in elections
 *   evidence.c  rule 12: contradictory statements noticed
 *   catchup.c   rule 10: blocks and bodies fetched
 *   record.c    rules 10 and 11: the durable record, read at start, written in every step that
 *               changes it
 *   certs.c     certificates checked and made
 *   blocks.c    the buffers that hold blocks
 *   waiting.c   what the next commit waits for, for people
 *   outbox.c    frames
 *
 * One step: the event's handler changes the state; replica.c then lets every part go on as far as
 * it can (`..._advance`), and last the write and the frames that have become due are emitted. A
 * handler never sends: it posts to the outbox, under the ticket of the write that must come first.
 */
#ifndef AMI_CONSENSUS_INTERNAL_H
#define AMI_CONSENSUS_INTERNAL_H

#include "consensus/replica.h"

#include "base/check.h"
#include "ledger/block.h"
#include "ledger/evidence.h"

#define BLOCK_SLOTS             6  /* see blocks.c */
#define COMMITS_KEPT            4  /* commit certificates above the tip, by height */
#define FETCH_WINDOW            64 /* blocks asked for at once */
#define BACKOFF_STEPS           8
#define NOBODY                  AMI_MEMBERS_MAX
#define FAILED_TERMS_MAX        ((AMI_MEMBERS_MAX - 1) / 3) /* the greatest f */
#define FORGET_TURNS_LOST       1  /* own turns of one term that came to nothing, see leaders.c */
#define SEEN_CERTS              64 /* of each kind, by height, see evidence.c */
#define SEEN_GRANTS             4  /* of each member, by term */
#define RECHECK_US              1000000u /* a certified block that did not validate is tried again */
#define WRITE_RETRY_DOUBLED_MAX 5        /* of a slot, from one try of a failed write to the next */
#define CATCHUP_SLACK           (512u << 10)
#define FETCH_BYTES             (2u << 20) /* about so many in one answer */
#define FETCH_TIMEOUTS_BRISK    4u /* election time-outs that a window may take of one that is */
#define FETCH_TIMEOUTS_MAX      8u /* asked again next, and of any; see catchup.c */

/* A block in memory. `valid`: it validated on the tip that is its parent. */
struct block_slot {
    bool used, valid, stored;
    uint8_t from; /* who sent the body; NOBODY: this node's own */
    struct block_header header;
    sm3_digest hash;
    uint32_t body_size;
    uint64_t retry_us; /* not to be checked again before */
    uint8_t *body;     /* block_bytes_max bytes */
};

enum out_kind {
    OUT_PREVOTE_REQUEST,
    OUT_PREVOTE,
    OUT_GRANT_REQUEST,
    OUT_GRANT,
    OUT_HEARTBEAT,
    OUT_HEARTBEAT_ELECTED, /* with the election certificate */
    OUT_HEARTBEAT_ACK,
    OUT_PROPOSAL,
    OUT_PREPARE,
    OUT_COMMIT,
    OUT_QC_PREPARE, /* made by this leader */
    OUT_QC_COMMIT,  /* made by this leader */
    OUT_QC_TIP,     /* of the last committed block */
    OUT_TERM_PROOF,
    OUT_FETCH_BLOCKS,
    OUT_FETCH_BODY,
    OUT_KINDS
};
_Static_assert(OUT_KINDS <= EFFECTS_SENDS_MAX, "one frame of each kind must fit");

/* Statements kept to compare others with. */
struct seen_vote {
    bool used;
    struct vote vote;
};
struct seen_cert {
    bool used;
    struct qc qc;
};
struct seen_grant {
    bool used;
    struct grant grant;
};
struct seen_proposal {
    bool used;
    struct proposal_head head;
    sm3_digest hash; /* of the block */
};

enum lead_stage {
    LEAD_RECOVER = 1, /* M's block has to be dealt with first (rule 3) */
    LEAD_IDLE,
    LEAD_BUILDING,
    LEAD_OWN,     /* the own prepare vote is on its way to the disk */
    LEAD_PREPARE, /* proposed, prepare votes come in */
    LEAD_COMMIT,  /* prepare certificate made, commit votes come in */
    LEAD_STORE    /* committed, the block is on its way to the disk */
};

struct replica {
    /* --- fixed ------------------------------------------------------------------------------ */
    const struct members *members;
    const struct parameters *parameters;
    const struct sign_key *key;
    uint8_t self, n;
    unsigned f, q;
    uint32_t rules_off;
    bool may_sign;
    uint64_t first_height; /* of the epoch */
    uint64_t starts, begun;
    uint8_t seed[32];
    uint64_t draws;
    uint64_t timeout_us, slot_us, heartbeat_us;
    uint32_t body_max;

    uint64_t now_us;
    int64_t wall_ms;

    /* --- the durable record (as it will be after the next write) ------------------------------ */
    uint64_t term;
    bool has_term_cert, has_granted, has_prepare, has_commit, has_high;
    struct prevote_cert term_cert;
    struct grant granted;
    struct vote prepare, commit;
    struct qc high;

    /* The committed tip is what is on the disk. */
    uint64_t tip_height;
    sm3_digest tip;
    int64_t tip_timestamp_ms;
    bool has_tip_commit;
    struct qc tip_commit;

    /* --- writes: `next_ticket` is the write that will hold what changes now ------------------- */
    uint64_t next_ticket, durable;
    uint64_t term_ticket, grant_ticket, prepare_ticket, commit_ticket;
    bool dirty;
    bool disk_stalled; /* the caller says so */
    uint64_t write_retry_us;
    unsigned writes_failed;  /* in a row */
    struct block_slot *keep; /* its body goes with the next write */
    struct {
        bool active;
        uint64_t ticket;
        struct block_slot *body, *commit;
    } write;

    /* --- blocks ------------------------------------------------------------------------------ */
    struct block_slot slot[BLOCK_SLOTS];
    struct block_slot *high_slot; /* block of highQC, above the tip */
    struct block_slot *delivered; /* by this step */
    struct block_slot *checking;  /* at the caller's, being validated */
    bool check_new, check_fresh, check_certified;

    /* --- the proposal of the present leader that this node may vote for ----------------------- */
    struct {
        struct block_slot *slot;
        uint64_t term;
        bool fresh;
        int64_t received_wall_ms;
    } prop;

    /* --- election ---------------------------------------------------------------------------- */
    enum replica_role role;
    uint64_t timer_us;             /* the own timer expires (rule 1) */
    uint64_t ask_us;               /* own slot: ask for pre-votes then */
    bool progress_expired;         /* rule 8 */
    unsigned attempts;             /* failed ones since the last commit */
    uint8_t rank[AMI_MEMBERS_MAX]; /* order of slots for term + 1 */
    uint32_t askers;               /* members that asked for pre-votes of term + 1 */
    uint8_t prevoted_for; /* NOBODY, or who has this node's pre-vote until prevoted_until_us */
    uint64_t prevoted_until_us;
    struct prevote prevote_out;
    uint64_t attempt_end_us, attempt_retry_us;
    uint32_t prevotes_mask;
    sm2_signature prevote_sig[AMI_MEMBERS_MAX];
    uint32_t grants_mask;
    struct election_cert election; /* as it grows, and then as this leader shows it */

    /* Who leads `term`, and from what. */
    struct {
        bool known;
        uint8_t leader;
        uint64_t since_us;
        bool has_m;
        struct qc m;
    } elected;

    /* --- bad leaders ------------------------------------------------------------------------- */
    struct {
        uint8_t failed[FAILED_TERMS_MAX]; /* who is to blame for the last f failed terms: a ring */
        unsigned failed_count, failed_next;
        unsigned turns[AMI_MEMBERS_MAX]; /* in which a member asked for pre-votes of term + 1 */
        uint64_t turn_until_us[AMI_MEMBERS_MAX];
        unsigned held_turn;  /* of the one that has this node's pre-vote */
        unsigned turns_lost; /* own ones in this term */
    } bad;

    /* --- contacts ---------------------------------------------------------------------------- */
    uint64_t heard_us[AMI_MEMBERS_MAX];
    bool heard[AMI_MEMBERS_MAX];
    uint64_t spoke_us[AMI_MEMBERS_MAX]; /* the same, but for what a new leader takes for granted */
    bool spoke[AMI_MEMBERS_MAX];
    uint64_t round, ack_round;
    uint64_t votes_sent_us;

    bool work; /* the caller has something to put into a block */
    uint64_t build_ticket;

    /* --- leading ----------------------------------------------------------------------------- */
    struct {
        enum lead_stage stage;
        bool build_new;
        bool committed_own; /* a block was committed in this term: the election is known */
        struct block_slot *slot;
        uint32_t elected_mask; /* followers that hold the election certificate */
        uint64_t heartbeat_at_us;
        uint64_t retry_us, retry_step_us;
        uint32_t prepare_mask, commit_mask;
        struct vote prepare[AMI_MEMBERS_MAX], commit[AMI_MEMBERS_MAX];
        struct qc prepare_qc, commit_qc;
    } lead;

    /* --- commits ----------------------------------------------------------------------------- */
    struct {
        bool used;
        struct qc qc;
    } commits[COMMITS_KEPT];       /* at [height % COMMITS_KEPT], above the tip */
    struct block_slot *committing; /* to go with the next write, or in it */
    struct qc committing_qc;

    /* --- evidence ----------------------------------------------------------------------------- */
    struct {
        struct seen_vote vote[2][AMI_MEMBERS_MAX]; /* prepare, commit: the last of each member */
        struct seen_cert cert[2][SEEN_CERTS];
        struct seen_grant grant[AMI_MEMBERS_MAX][SEEN_GRANTS];
        struct seen_proposal proposal[AMI_MEMBERS_MAX];
        uint8_t shown[AMI_MEMBERS_MAX]; /* bit: enum evidence_kind */
    } seen;

    /* --- catching up ------------------------------------------------------------------------- */
    struct {
        uint64_t target;   /* committed height heard of */
        uint64_t since_us; /* behind, or no progress, since then */
        bool asked, noted;
        uint64_t from, last; /* heights asked for */
        uint8_t peer;
        uint32_t
            liars; /* members that sent a certified block with other bytes: they are not asked */
        uint64_t asked_us, deadline_us;
        uint64_t certified; /* greatest height of a commit certificate */
        unsigned halved;    /* so often, the window */
        uint64_t hold_us;   /* nothing is asked for before */
        uint32_t size_seen; /* of the largest block in the last answers */
        unsigned silent;    /* peers in a row that did not answer */
        unsigned got;       /* blocks since they were asked for */
        uint64_t first;     /* missing, when it was last looked for */
        bool hole;          /* the next one to be handed on is not here */
        bool complete;      /* all up to the target are here */
        uint8_t *queue;     /* certified blocks above the tip, see catchup.c */
        size_t queue_size, head, tail;
    } fetch;
    struct {
        bool active, store_asked, store_new, store_waiting;
        sm3_digest block;
        uint32_t signers; /* 0: only the own store is asked */
        uint8_t peer;
        uint64_t deadline_us;
    } wish;

    struct replica_waiting waiting; /* without `have` */

    /* --- out --------------------------------------------------------------------------------- */
    struct {
        uint32_t to;
        uint64_t ticket;
    } out[OUT_KINDS];
    struct effects *fx; /* during a step */

    union {
        struct proposal proposal;
        struct heartbeat heartbeat;
        struct certified_block block;
        struct prevote_request prevote_request;
        struct vote_record record;
    } scratch;
};

static inline uint32_t bit_of(uint8_t member)
{
    return 1u << member;
}
static inline uint32_t all_others(const struct replica *r)
{
    return ((1u << r->n) - 1u) & ~bit_of(r->self);
}
static inline bool rule_is_off(const struct replica *r, enum rule_off rule)
{
    return (r->rules_off & (uint32_t)rule) != 0;
}
/* A vote that cannot be stored is not even made. */
static inline bool may_vote(const struct replica *r)
{
    return r->may_sign && !r->disk_stalled;
}
static inline bool leads(const struct replica *r)
{
    return r->role == REPLICA_LEADER;
}

/* replica.c */
void replica_note(struct replica *r, enum replica_note_type type, uint8_t member, uint64_t height,
                  enum ami_status status);
/* Hedging of a signature, and a number in [0, below). */
void replica_draw(struct replica *r, uint8_t out[SM2_WIDE_BYTES]);
uint64_t replica_jitter(struct replica *r, uint64_t below);

/* certs.c. The check functions: AMI_OK or why not. */
enum ami_status cert_check_qc(const struct replica *r, const struct qc *qc) AMI_MUST_CHECK;
bool cert_commits(const struct replica *r, const struct qc *qc); /* is of the kind that commits */
/* By rank; of equal rank the one that commits is greater. */
int cert_compare(const struct qc *a, const struct qc *b);
enum ami_status cert_make_qc(const struct replica *r, struct qc *out, const struct vote *votes,
                             uint32_t voters) AMI_MUST_CHECK;
enum ami_status cert_check_prevote(const struct replica *r, const struct prevote *p) AMI_MUST_CHECK;
void cert_sign_prevote(struct replica *r, struct prevote *p);
enum ami_status cert_check_prevotes(const struct replica *r,
                                    const struct prevote_cert *c) AMI_MUST_CHECK;
enum ami_status cert_check_grant(const struct replica *r, const struct grant *g) AMI_MUST_CHECK;
void cert_sign_grant(struct replica *r, struct grant *g);
enum ami_status cert_check_election(const struct replica *r,
                                    const struct election_cert *c) AMI_MUST_CHECK;
enum ami_status cert_check_proposal(const struct replica *r, const struct proposal_core *core,
                                    struct span encoded) AMI_MUST_CHECK;
void cert_sign_proposal(struct replica *r, const struct proposal_core *core, uint8_t *encoded,
                        size_t size);
/* M of rule 3: the certificate of highest rank in the grants; NULL: none. */
const struct qc *cert_highest(const struct election_cert *c);
/* Checks the signature at the end of `encoded` (or puts it there). */
enum ami_status cert_check_tail(const struct replica *r, uint8_t member, const char *label,
                                struct span encoded) AMI_MUST_CHECK;
void cert_sign_tail(struct replica *r, const char *label, uint8_t *encoded, size_t size);
bool cert_same_chain(const struct replica *r, const sm3_digest *chain, uint32_t epoch);

/* blocks.c */
struct block_slot *blocks_find(struct replica *r, const sm3_digest *hash);
/* The slot that holds this block, filled if need be with the body that `from` sent. NULL: too
 * large, or no slot is free. */
struct block_slot *blocks_put(struct replica *r, uint8_t from, const struct block_header *h,
                              const sm3_digest *hash, struct span body);
/* The block is certified and came with this body: it takes the place of one not validated yet. */
void blocks_renew(struct replica *r, struct block_slot *s, uint8_t from, struct span body);
void blocks_drop(struct replica *r, struct block_slot *s);
bool blocks_follows_tip(const struct replica *r, const struct block_slot *s);
/* Asks the caller to check the block, unless one is being checked. */
void blocks_check(struct replica *r, struct block_slot *s, bool fresh, bool certified);
void blocks_cancel_build(struct replica *r);
uint64_t blocks_deadline(const struct replica *r);
void blocks_on_validated(struct replica *r, const sm3_digest *hash, enum ami_status status);

/* election.c */
void election_start(struct replica *r);
bool election_expired(const struct replica *r);
void election_contact(struct replica *r); /* the leader was heard */
void election_set_timer(struct replica *r, uint64_t at_us);
void election_adopt(struct replica *r, uint64_t term, const struct prevote_cert *cert);
/* A certificate was checked: highQC and term follow it. */
void election_learn_qc(struct replica *r, const struct qc *qc);
enum ami_status election_learn(struct replica *r, const struct election_cert *c, uint64_t term,
                               uint8_t leader) AMI_MUST_CHECK;
/* False: there is nothing to show (term 0). */
bool election_term_proof(const struct replica *r, struct term_proof *out);
void election_progress(struct replica *r, bool expired);
void election_on_prevote_request(struct replica *r, uint8_t from, struct span body);
void election_on_prevote(struct replica *r, uint8_t from, struct span body);
void election_on_grant_request(struct replica *r, uint8_t from, struct span body);
void election_on_grant(struct replica *r, uint8_t from, struct span body);
void election_on_term_proof(struct replica *r, uint8_t from, struct span body);
void election_advance(struct replica *r);
uint64_t election_deadline(const struct replica *r);
uint64_t election_backoff_us(const struct replica *r);

/* leaders.c */
void leaders_term_ends(struct replica *r); /* r->term is about to be left */
void leaders_on_commit(struct replica *r);
bool leaders_passed_over(const struct replica *r, uint8_t member);
void leaders_turn_lost(struct replica *r);             /* an own turn came to nothing */
void leaders_asks(struct replica *r, uint8_t member);  /* for pre-votes of term + 1 */
void leaders_takes(struct replica *r, uint8_t member); /* it gets the pre-vote */
/* It had no more turns than it should have: the own one can wait for it. */
bool leaders_is_fair(const struct replica *r, uint8_t member);
/* Of two that ask at once, a is preferred to b: it had fewer turns, or its slot comes first. */
bool leaders_precedes(const struct replica *r, uint8_t a, uint8_t b);
/* The holder of a pre-vote keeps it although the other asks. */
bool leaders_holds(const struct replica *r, uint8_t holder, uint8_t other);

/* propose.c */
void lead_start(struct replica *r);
void lead_stop(struct replica *r, enum ami_status why, bool expired);
void lead_on_built(struct replica *r, uint64_t ticket, const struct block_header *h,
                   struct span body);
void lead_on_vote(struct replica *r, uint8_t from, struct span body);
void lead_advance(struct replica *r);
uint64_t lead_deadline(const struct replica *r);

/* vote.c */
void vote_on_proposal(struct replica *r, uint8_t from, struct span body);
bool vote_has_room(const struct replica *r, const struct block_slot *s);
bool vote_prepare(struct replica *r, const struct block_slot *s, uint64_t height,
                  const sm3_digest *hash);
void vote_advance(struct replica *r);
void vote_again(struct replica *r); /* the leader was heard: votes still open are sent again */

/* commit.c */
void commit_learn(struct replica *r, const struct qc *qc, uint8_t from); /* checked already */
void commit_on_announce(struct replica *r, uint8_t from, struct span body);
void commit_advance(struct replica *r);
void commit_stored(struct replica *r); /* r->committing is durable */

/* contact.c */
void contact_on_heartbeat(struct replica *r, uint8_t from, struct span body);
void contact_on_ack(struct replica *r, uint8_t from, struct span body);
void contact_heard(struct replica *r, uint8_t member);
void contact_assume(struct replica *r, uint8_t member); /* it counts as a contact for a while */
unsigned contact_count(const struct replica *r);
void contact_advance(struct replica *r);
uint64_t contact_deadline(const struct replica *r);

/* evidence.c. Statements that pass by. Checked: the signature is the member's; otherwise it is only
 * compared. A vote or proposal is checked. */
void seen_vote(struct replica *r, const struct vote *v);
void seen_qc(struct replica *r, const struct qc *qc, bool checked);
void seen_grant(struct replica *r, const struct grant *g, bool checked);
void seen_election(struct replica *r, const struct election_cert *c, bool checked);
void seen_proposal(struct replica *r, const struct proposal_core *core, struct span encoded);

/* catchup.c */
void catchup_target(struct replica *r, uint64_t height, uint8_t from);
void catchup_certified(struct replica *r, uint64_t height, uint8_t from); /* not only claimed */
void catchup_on_block(struct replica *r, uint8_t from, struct span body);
void catchup_on_body(struct replica *r, uint8_t from, struct span body);
void catchup_on_stored_body(struct replica *r, const sm3_digest *hash, const struct block_header *h,
                            struct span body);
/* `from` sent a certified block with bytes that are not the block's. */
void catchup_blame(struct replica *r, uint8_t from);
/* The body of this block is wanted: from the own store, then from `signers` in turn. */
void catchup_wish(struct replica *r, const sm3_digest *block, uint32_t signers);
void catchup_progress(struct replica *r); /* the tip moved */
void catchup_advance(struct replica *r);
uint64_t catchup_deadline(const struct replica *r);

/* record.c */
enum ami_status record_load(struct replica *r, const struct replica_config *c) AMI_MUST_CHECK;
void record_changed(struct replica *r, uint64_t *ticket); /* part of the next write */
void record_on_persisted(struct replica *r, uint64_t ticket, enum ami_status status);
void record_flush(struct replica *r);
uint64_t record_deadline(const struct replica *r);

/* waiting.c */
void waiting_start(struct replica *r);
void waiting_note(struct replica *r); /* at the end of a step */

/* outbox.c */
void outbox_post(struct replica *r, enum out_kind kind, uint32_t to, uint64_t ticket);
void outbox_clear(struct replica *r, enum out_kind kind);
void outbox_flush(struct replica *r);

#endif
