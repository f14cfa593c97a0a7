/* consensus/replica.h - one data concentrator's part in the agreement: a pure state machine.
 *
 * In: events (a message of another DC, an instant of time, a finished write, a finished check of a
 * block, a block built). Out: effects (write this, send that, check or build a block, a block is
 * committed, the next deadline). It never reads a clock, a random source, a file or a socket and
 * never allocates; the caller's shell or the simulator carries the effects out. docs/consensus.md
 * tells the rules (numbers in comments are those of its section "Rules").
 *
 * Order of work for the caller, after every replica_step:
 *   1. hand `persist` to the store (one synced transaction; at most one is in flight);
 *   2. send all of `send` at once. There is nothing to hold back: the replica itself waits for
 *      PERSISTED before it emits a message that reveals a vote, a grant, a term or a block;
 *   3. carry out validate, build, need_body, deliver; set the alarm to deadline_us.
 * An answer to any of these (PERSISTED, VALIDATED, BUILT, STORED_BODY) is an event of its own; it
 * may come at any later time, but never from inside replica_step.
 *
 * Bytes: spans in an event are read during the step only (the replica copies what it keeps). Spans
 * and pointers in the effects point into the effects' arena or into the replica's block buffers:
 *   - send, notes, need_body, build: valid until the next replica_step with this `effects`;
 *   - persist: block bodies stay valid and unchanged until its PERSISTED event; the other spans are
 *     in the arena and must be copied if the write takes longer than until the next step (at most
 *     EFFECTS_PERSIST_SMALL_BYTES_MAX bytes together);
 *   - validate: header and body stay valid and unchanged until its VALIDATED event;
 *   - deliver: valid until the next replica_step.
 * A body larger than parameters.block_bytes_max is refused wherever it comes from.
 */
#ifndef AMI_CONSENSUS_REPLICA_H
#define AMI_CONSENSUS_REPLICA_H

#include "ledger/genesis.h"
#include "ledger/members.h"

/* --- configuration --------------------------------------------------------------------------- */

/* Rules that the simulator can switch off to see that its checkers notice. 0 everywhere else. */
enum rule_off {
    RULE_OFF_QUORUM = 1u << 0,        /* quorum 2f+1 whatever n is */
    RULE_OFF_PERSIST_VOTES = 1u << 1, /* votes and highQC are not written */
    RULE_OFF_GRANT_HIGH = 1u << 2,    /* grants carry no highQC */
    RULE_OFF_COMMIT_TERM = 1u << 3,   /* commit votes in an older term */
    RULE_OFF_MONOTONE = 1u << 4,      /* prepare votes need not rise */
    RULE_OFF_PARENT = 1u << 5,        /* any old committed block may be extended */
    RULE_OFF_PARENT_COMMIT = 1u << 6, /* voters: M's block may be extended uncertified */
    RULE_OFF_BOUND = 1u << 7,         /* a leader is not bound to M */
    RULE_OFF_ONE_PHASE = 1u << 8, /* a prepare certificate commits (Algorithm 2 to the letter) */
    RULE_OFF_PROGRESS = 1u << 9,  /* no deposing by missing progress */
    RULE_OFF_PREVOTE = 1u << 10,  /* pre-votes are given although a leader is heard */
    RULE_OFF_SLOTS = 1u << 11,    /* all nodes ask in the same slot */
    RULE_OFF_VOTE_APPLIED = 1u << 12, /* no votes for blocks already applied */
    RULE_OFF_BAD_LEADERS = 1u << 13,  /* nobody is passed over in elections */
    RULE_OFF_EPOCH = 1u << 14         /* certificates of earlier epochs count */
};

struct replica_config {
    const struct members *members;       /* outlives the replica, as all pointers here */
    const struct parameters *parameters; /* election, heartbeat and progress times, body limit */
    const struct sign_key *key;          /* of ROLE_DC_SIGN; its certificate is member[self]'s */
    uint8_t self;       /* own member index; AMI_MEMBERS_MAX: no member of this epoch, which then
                           must not sign and follows, fetches and commits */
    uint32_t rules_off; /* mask of enum rule_off */
    uint8_t seed[32];   /* for jitter and hedged signatures; fresh per start */
    uint64_t now_us;    /* monotonic clock at the start */

    /* What was durable. Nothing but the committed tip is believed when may_sign is false (rule 11:
     * the record is missing, damaged or older than the key file's counter): the replica then signs
     * nothing and writes no vote record; it follows, fetches and commits. */
    bool may_sign;
    uint64_t starts; /* these two go into every vote record */
    uint64_t begun;
    /* NULL: a new node (may_sign true) or none (false). One of an earlier epoch counts as none: who
     * has nothing newer has signed nothing in this epoch. */
    const struct vote_record *record;
    uint64_t first_height;    /* of the epoch (rule 13): the tip is at least the block below; 1 for
                                 the first epoch */
    uint64_t known_height;    /* somebody said that blocks exist up to there; 0: nobody */
    uint64_t tip_height;      /* last committed block; 0: none */
    sm3_digest tip;           /* its hash; the chain id at height 0 */
    int64_t tip_timestamp_ms; /* its header's; the genesis file's at height 0 */
    const struct qc *tip_commit; /* its commit certificate, perhaps of the epoch before; NULL
                                    at height 0 */
};

struct replica;

/* Size of the one allocation that holds a replica: about six times block_bytes_max. Pages that no
 * block was ever put in are never touched. */
size_t replica_size(const struct parameters *parameters);

/* A replica belongs to one epoch: it commits nothing of another. When the last block of its epoch
 * is delivered, the caller makes a new one with the next epoch's members on that block; from then
 * on it gives the old one nothing any more, and carries out no write, validation or build of that
 * step.
 *
 * Makes a replica in `memory`, zero-filled, of replica_size bytes, aligned as malloc does; the
 * caller frees that memory. AMI_BAD_ARGUMENT: self is no member, or no member that may sign, or the
 * tip lies below the epoch. AMI_WRONG_CHAIN, AMI_WRONG_EPOCH, AMI_DAMAGED: the record belongs to
 * something else or contradicts itself or the tip. Call replica_step with a TIME event next, for
 * the first deadline. */
enum ami_status replica_init(struct replica **out, void *memory,
                             const struct replica_config *config) AMI_MUST_CHECK;

/* --- events ---------------------------------------------------------------------------------- */

enum replica_event_type {
    REPLICA_TIME = 1,
    REPLICA_MESSAGE,
    REPLICA_PERSISTED,
    REPLICA_VALIDATED,
    REPLICA_BUILT,
    REPLICA_STORED_BODY,
    REPLICA_WORK,
    REPLICA_PROGRESS,
    REPLICA_DISK,
    REPLICA_CLAIM,
    REPLICA_STEP_DOWN
};

struct replica_event {
    enum replica_event_type type;
    uint64_t now_us; /* monotonic clock; an earlier value than before counts as no time passed */
    int64_t wall_ms; /* for the time window of a fresh block only */
    union {
        /* A frame of a DC whose link is authenticated. Takes the types from PREVOTE_REQUEST to
         * BODY and TERM_PROOF; others, and FETCH_BLOCKS and FETCH_BODY, which the caller answers
         * from its store, are ignored. Whatever the bytes are, the step is safe. */
        struct {
            /* Member index that the link proved. AMI_MEMBERS_MAX: it proved none; only BLOCK and
             * BODY are taken then, and count as no contact with anybody. */
            uint8_t from;
            enum message_type type;
            struct span body; /* the frame without its two leading bytes */
        } message;
        /* The write of persist.ticket is done. AMI_OK: it survives a crash. Anything else: nothing
         * of it was written; the replica tries again after a while. */
        struct {
            uint64_t ticket;
            enum ami_status status;
        } persisted;
        /* Answer to `validate`. */
        struct {
            sm3_digest block;
            enum ami_status status;
        } validated;
        /* Answer to `build`: a block on that parent, already valid by construction. header NULL:
         * there is nothing to put into one now; the replica asks again after WORK(true). */
        struct {
            uint64_t ticket; /* of the request */
            const struct block_header *header;
            struct span body;
        } built;
        /* Answer to `need_body`. header NULL: the store does not have it. */
        struct {
            sm3_digest block;
            const struct block_header *header;
            struct span body;
        } stored_body;
        /* WORK: true: it is time to cut a block of waiting transactions; false: there is nothing
         * any more. Meant for a leader, harmless elsewhere; true may be repeated. The flag is
         * cleared when a `build` is emitted: say it again when more waits. A new leader asks once
         * without having been told.
         * PROGRESS (rule 8): true: the timer of a pending transaction has run out, which counts as
         * the own timer's expiry in rule 1 until false is said or a new leader is seen (note
         * REPLICA_NOTE_LEADER: the caller then restarts its timers). A commit alone does not clear
         * it.
         * DISK: true: writes hang or fail; a leader steps down (rule 8), and until false is said
         * no vote is made, as it could not be stored. A failed write is tried again all the same,
         * at growing intervals.
         * STEP_DOWN has none: somebody wants another leader than this one. It leads no more, helps
         * whoever asks, and asks itself only when nobody else was elected in two time-outs and all
         * slots. Nothing is lost: the next leader takes up an open block (rule 3). No leader:
         * nothing happens. */
        bool flag;
        /* CLAIM: somebody spoke of a later epoch or a higher block than this one knows of. A reason
         * to ask for blocks up to there, and for nothing else: it may be false. */
        uint64_t height;
    } u;
};

/* --- effects --------------------------------------------------------------------------------- */

/* At most one frame of a kind leaves in a step; there are fewer kinds than this. */
#define EFFECTS_SENDS_MAX 20
#define EFFECTS_NOTES_MAX 16
/* At most: everybody who signed two certificates of one slot. */
#define EFFECTS_EVIDENCE_MAX AMI_MEMBERS_MAX
/* Vote record, header, commit certificate, header of the kept body. */
#define EFFECTS_PERSIST_SMALL_BYTES_MAX (32u << 10)
/* One proposal with body and certificates, heartbeats with an election certificate, and the rest.
 */
#define EFFECTS_ARENA_BYTES (AMI_BLOCK_BYTES_MAX + (512u << 10))

enum replica_role {
    REPLICA_FOLLOWER = 1,
    REPLICA_PRECANDIDATE, /* asks for pre-votes */
    REPLICA_CANDIDATE,    /* asks for grants */
    REPLICA_LEADER
};

/* What people may want to know of; the caller makes log lines and events of them. */
enum replica_note_type {
    REPLICA_NOTE_TERM = 1,     /* a new term was adopted */
    REPLICA_NOTE_ELECTION,     /* this node asks for pre-votes of `term` */
    REPLICA_NOTE_GRANTED,      /* this node granted `term` to `member` */
    REPLICA_NOTE_LEADER,       /* `member` leads `term` (perhaps this node itself) */
    REPLICA_NOTE_STEPPED_DOWN, /* this node led `term`; status: NO_QUORUM, IO (disk), TIMEOUT
                                  (progress), OK (a newer term, or STEP_DOWN) */
    REPLICA_NOTE_REFUSED,      /* a proposal of `member` was refused: status */
    REPLICA_NOTE_DIVERGED,     /* a certified block does not validate here: status. Grave. */
    REPLICA_NOTE_WRITE_FAILED, /* status */
    REPLICA_NOTE_CATCHING_UP,  /* blocks up to `height` are fetched */
    REPLICA_NOTE_CAUGHT_UP
};
struct replica_note {
    enum replica_note_type type;
    uint8_t member;
    uint64_t term;
    uint64_t height;
    enum ami_status status;
};

struct effects {
    /* Write this, in one synced transaction. */
    bool has_persist;
    struct {
        uint64_t ticket;         /* rises by one; answered by PERSISTED */
        struct span vote_record; /* encoding; empty when may_sign is false */
        struct span
            body_header;  /* with body: a block to keep by its hash, not committed yet. Keep */
        struct span body; /* such blocks until one of their height is committed, and the
                             block of the record's `high` as long as it is that */
        sm3_digest body_hash;
        bool commit; /* the block below is committed. It was VALIDATED or BUILT on the present tip;
                        if the registry has staged another one since, stage it again */
        const struct block_header *header;
        sm3_digest block;
        struct span block_header; /* encodings */
        struct span block_commit;
        struct span block_body;
    } persist;

    /* Send these at once: `to` has bit i set for member i. Links that are down are skipped. */
    size_t send_count;
    struct {
        uint32_t to;
        enum message_type type;
        struct span frame; /* version and type byte included */
    } send[EFFECTS_SENDS_MAX];

    /* Check this block on top of the present tip: Algorithm 2's checks and the state root. At most
     * one is outstanding, and neither this nor `build` while a commit is being written: the tip and
     * what is staged on it stand still until the answer. */
    bool has_validate;
    struct {
        const struct block_header *header;
        sm3_digest block;
        struct span body;
        bool fresh;     /* judge its time window, against received_wall_ms */
        bool certified; /* it carries a quorum's certificate already */
        int64_t received_wall_ms;
    } validate;

    /* This node leads: put waiting transactions into a block on this parent (block_build). At most
     * one is outstanding; a later one, a `validate` or a commit replaces it; the
     * answer is then ignored. */
    bool has_build;
    struct {
        uint64_t ticket;
        uint64_t term;
        uint64_t parent_height;
        sm3_digest parent;
        int64_t parent_timestamp_ms;
    } build;

    /* This block is committed and durable: acknowledge its meters, drop its transactions. */
    bool has_deliver;
    struct delivered {
        const struct block_header *header;
        sm3_digest block;
        const struct qc *commit;
        struct span body;
    } deliver;

    /* Look this block up in the store and answer with STORED_BODY. */
    bool has_need_body;
    sm3_digest need_body;

    uint64_t deadline_us; /* a TIME event is due then; UINT64_MAX: none */

    /* Rule 12: what these members signed convicts them (ledger/evidence.h). Put it on the ledger.
     * One piece for each member and kind since the start; valid as long as `send` is. */
    size_t evidence_count;
    struct {
        uint8_t kind, accused;
        uint64_t term, height; /* 0: none in particular */
        struct span encoded;   /* of `evidence` */
    } evidence[EFFECTS_EVIDENCE_MAX];

    size_t note_count;
    struct replica_note note[EFFECTS_NOTES_MAX]; /* surplus ones are dropped */

    size_t arena_used;
    uint8_t arena[EFFECTS_ARENA_BYTES]; /* the struct is large: allocate one, once */
};

void replica_step(struct replica *r, const struct replica_event *event, struct effects *fx);

/* --- queries (no side effects) --------------------------------------------------------------- */

enum replica_role replica_role(const struct replica *r);
uint64_t replica_term(const struct replica *r);
/* False: nobody is known to lead the present term. */
bool replica_leader(const struct replica *r, uint8_t *leader);
/* Last committed and durable block. */
uint64_t replica_height(const struct replica *r);
sm3_digest replica_tip(const struct replica *r);
/* NULL at height 0. */
const struct qc *replica_tip_commit(const struct replica *r);
bool replica_may_sign(const struct replica *r);
/* Members heard within the last election timeout, this one included: as leader by their
 * acknowledgements, otherwise by any message. */
unsigned replica_contacts(const struct replica *r);
unsigned replica_quorum(const struct replica *r);
/* A leader with a quorum of contacts, or a follower that hears such a leader. */
bool replica_has_quorum(const struct replica *r);
/* Highest committed height heard of (may be a false claim while it is not certified). */
uint64_t replica_known_height(const struct replica *r);
/* The certificate of highest rank; NULL: none yet. */
const struct qc *replica_high(const struct replica *r);

/* What the next commit waits for, as this node sees it. */
enum replica_stage {
    REPLICA_STAGE_IDLE = 1,  /* a leader is heard, no block is open here */
    REPLICA_STAGE_NO_LEADER, /* nobody is heard that leads; this node does not ask for votes now */
    REPLICA_STAGE_PREVOTES,  /* this node asks for pre-votes of the term above its own */
    REPLICA_STAGE_GRANTS,    /* this node asks for grants of its term */
    REPLICA_STAGE_RECOVER,   /* this leader gets at what rule 3 binds it to */
    REPLICA_STAGE_BUILD,     /* this leader's block is being put together */
    REPLICA_STAGE_OWN_WRITE, /* this node's own vote is on its way to the disk */
    REPLICA_STAGE_PREPARE,   /* this leader waits for prepare votes */
    REPLICA_STAGE_COMMIT,    /* this leader waits for commit votes */
    REPLICA_STAGE_CHECK,     /* this follower has not voted for the proposal yet */
    REPLICA_STAGE_VOTED,     /* this follower has voted and waits for the leader's certificate */
    REPLICA_STAGE_STORE      /* certified; on its way to the disk */
};
struct replica_waiting {
    enum replica_stage stage;
    uint64_t height;   /* of the open block; 0: none */
    uint64_t since_us; /* since when stage and height are the same */
    uint64_t led_us;   /* when a leader was last there (replica_has_quorum) */
    uint32_t have;     /* PREVOTES, GRANTS, PREPARE, COMMIT: bit i set when member i's is here */
};
void replica_waiting(const struct replica *r, struct replica_waiting *out);
/* When a member last said something that was checked; false: never since the start. */
bool replica_heard(const struct replica *r, uint8_t member, uint64_t *at_us);
/* The block of this height that was fetched and waits for those below it; its certificate was
 * checked, nothing else. `out` borrows it, until the next step. False: there is none. */
bool replica_fetched(const struct replica *r, uint64_t height, struct certified_block *out);
/* Whether blocks up to replica_known_height are missing: whom they are asked of, and since when
 * none was applied. False: nothing is missing. */
bool replica_behind(const struct replica *r, uint8_t *from, uint64_t *since_us);

#endif
