/* mdms/internal.h - what the files of mdms/'s core share. Nothing outside mdms/ includes it.
 *
 *   core.c     events in, to the part that they concern; the one write under way
 *   enrol.c    requests for key material: open, check the code, issue, answer
 *   retention.c  below which height the DCs may prune
 *   outbox.c   transactions of the MDMS: made, submitted until they are seen committed
 *   follow.c   blocks: fetched, verified, opened, stored
 *   members.c  membership: who certifies, whom to dial, changes asked for
 *   operators.c  which operators are let in no more: to the DCs
 *   dcs.c      links to the DCs: who they are and who we are
 */
#ifndef AMI_MDMS_INTERNAL_H
#define AMI_MDMS_INTERNAL_H

#include "base/check.h"
#include "base/table.h"
#include "mdms/core.h"

#define MDMS_HELLO_BYTES_MAX 128

enum dc_link_state { DC_DOWN, DC_HELLO_SENT, DC_HELLO_SEEN, DC_READY };

/* The link to one DC. */
struct dc_link {
    bool used; /* it is to be dialled */
    struct ami_id name;
    char address[AMI_ADDRESS_BYTES_MAX + 1];
    uint32_t peer_epoch; /* key epoch that it claims, and proves */
    bool unproven;       /* of a key that the ledger does not know here: blocks only */
    bool identified;     /* `who` proved itself on the link's channel */
    struct credential_identity who;
    env_link id; /* 0: none */
    enum dc_link_state state;
    uint64_t opened_us;
    uint8_t own_hello[MDMS_HELLO_BYTES_MAX];
    size_t own_hello_size;
    uint8_t peer_hello[MDMS_HELLO_BYTES_MAX];
    size_t peer_hello_size;
    uint64_t bad_blocks;
    uint64_t distrusted_until_us;
    uint64_t asked_to;           /* the last height that it was asked for */
    uint64_t whole_asked;        /* height for which it was asked whether it has the block whole */
    uint64_t mute_until_us;      /* and did not answer */
    uint64_t operators_sent;     /* number of the list of operators sent on this link; 0: none */
    uint64_t operators_at_us;    /* not before */
    uint32_t operators_due;      /* answers to what was sent */
    bool operators_refused;      /* by the last of them: it goes by another list, and shows it */
    struct listed_record listed; /* what it said of it last */
    bool listed_news, listed_in_write;
};

/* Every job begins with this, so that mdms_on_work knows whose it is. */
enum job_kind { JOB_ENROL, JOB_FOLLOW };
struct job {
    enum job_kind kind;
};

struct enrolment;  /* enrol.c */
struct follow_job; /* follow.c */

/* A revocation read from the store and not yet made a transaction. */
struct wanted_revocation {
    uint64_t request; /* key in TABLE_REQUESTS */
    struct revocation_record record;
};

struct mdms {
    struct mdms_config c;
    struct env env;
    struct state_record durable; /* as stored */
    struct state_record staged;  /* as the write under way leaves it */
    bool bind;                   /* the chain is new: the next write says which it is */
    struct mdms_write write;
    bool writing;
    uint64_t write_at_us; /* not before: after a failure */
    bool storage_full;
    enum ami_status failed;
    size_t jobs;

    struct dc_link dc[MDMS_DCS_MAX];

    /* members.c */
    struct committee committee; /* of the block above the last one stored */
    struct committee next_committee;
    bool has_next;
    uint64_t change_number; /* of the last change that was signed; 0: none */
    uint64_t changes_seen;  /* key in TABLE_CHANGES */
    bool wanted_change;     /* that one is to be judged */
    bool change_in_write;
    uint64_t staged_change_number; /* 0: it was refused */

    /* retention.c */
    struct retained_record retained, retained_staged;
    uint64_t pruned_below;     /* blocks below may come pruned: we have signed that */
    uint64_t retention_number; /* of the last one that was signed; 0: none */
    uint64_t retentions_seen;  /* key in TABLE_RETENTIONS */
    bool wanted_retention;     /* that one is to be judged */
    bool retention_in_write;
    uint64_t staged_retention_number; /* 0: it was refused */

    /* enrol.c */
    struct enrolment *enrolling; /* all under way, by device */
    struct enrolment *ready;     /* issued, to be stored next */
    struct enrolment *in_write;
    uint64_t home_next; /* round robin over the members */
    uint64_t refusals_second;
    unsigned refusals_logged; /* in that second */

    /* outbox.c */
    struct wanted_revocation wanted[MDMS_WRITE_REQUESTS_MAX];
    size_t wanted_count, wanted_in_write;
    uint64_t requests_at_us;
    uint64_t submitted; /* number of the last transaction handed to submit_to */
    int submit_to;      /* slot; -1: none */
    uint64_t submit_deadline_us;

    /* follow.c */
    struct follow_job *slot[MDMS_FOLLOW_WINDOW]; /* in order of height, the next to store first */
    size_t slot_count, slots_in_write;
    struct follow_job *abandoned; /* given up while they were worked on */
    int source;                   /* slot asked for blocks; -1: none */
    uint64_t fetch_at_us;         /* when to ask (again) */
    uint64_t heard_us;            /* last time the source gave something that we wanted */
    uint64_t source_since_us;     /* since when it is the source */
    uint64_t asked_last;          /* height of the last block asked for */
    uint64_t served_bytes;        /* that came for it */
    uint64_t poll_us;             /* between two questions while nothing comes */
    bool repeated;                /* a block came that was here already */
    uint64_t pruned_met_us;       /* when the first pruned block came; 0: none yet */
    uint64_t pruned_taken_to;     /* pruned blocks are taken below: nobody had this one whole */

    /* operators.c */
    uint64_t operators_number;
    size_t operators_size; /* 0: there is none */
    uint8_t operators[AMI_REVOKED_BYTES_MAX];

    struct mdms_stats stats;
    uint8_t *frame; /* AMI_FRAME_PEER_BYTES_MAX: where outgoing frames are put together */
};

/* core.c */
uint64_t mdms_now_us(const struct mdms *m);
void mdms_random(struct mdms *m, void *out, size_t size);
void mdms_log(struct mdms *m, enum env_log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
struct writer mdms_frame(struct mdms *m, enum message_type type);
enum ami_status mdms_send(struct mdms *m, env_link link, struct span frame);
/* Hands a job to the pool and counts it. */
enum ami_status mdms_work(struct mdms *m, void (*run)(void *job), struct job *job);
/* Reads of the store. What cannot be read or is no record must not pass for "not there": somebody
 * would be told a lie for good, or a number given out twice. So any status but AMI_OK and
 * AMI_NOT_FOUND stops the core (mdms_failed). */
enum ami_status mdms_get(struct mdms *m, enum mdms_table table, const struct mdms_key *key,
                         struct span *value) AMI_MUST_CHECK;
enum ami_status mdms_seek(struct mdms *m, enum mdms_table table, const struct mdms_key *from,
                          struct span *key, struct span *value) AMI_MUST_CHECK;
/* The same for a record that does not parse. Returns AMI_DAMAGED. */
enum ami_status mdms_damaged(struct mdms *m, enum mdms_table table);

/* members.c */
enum ami_status members_init(struct mdms *m) AMI_MUST_CHECK;
const struct members *members_at(const struct mdms *m, uint64_t height);
/* `first`: the first part of the membership transaction in this block; empty: it has none. */
void members_stage_change(struct mdms *m, struct span first, uint64_t height);
void members_on_block(struct mdms *m, struct span first, uint64_t height); /* it is stored */
void members_dial(struct mdms *m);
void members_read(struct mdms *m);
bool members_stage(struct mdms *m); /* adds to the write; true when there was something */
void members_on_stored(struct mdms *m, enum ami_status status);

/* retention.c */
enum ami_status retention_init(struct mdms *m) AMI_MUST_CHECK;
/* False: it is no word of ours, and who showed it is not to be trusted. */
bool retention_on_shown(struct mdms *m, uint8_t member, struct span encoded);
/* A block goes with the write that is being put together. below: of a retention transaction in it,
 * 0: none; unread: its reports that were pruned. */
void retention_stage_block(struct mdms *m, uint64_t height, uint64_t below, uint64_t unread);
void retention_read(struct mdms *m);
bool retention_stage(struct mdms *m); /* adds to the write; true when there was something */
void retention_on_stored(struct mdms *m, enum ami_status status);

/* operators.c */
void dcs_operators_on_taken(struct mdms *m, uint8_t member, struct span body);
/* False: it is no list of ours, and who showed it is not to be trusted. */
bool dcs_operators_on_shown(struct mdms *m, uint8_t member, struct span body);
bool dcs_operators_stage(struct mdms *m); /* adds to the write; true when there was something */
void dcs_operators_on_stored(struct mdms *m, enum ami_status status);
uint64_t dcs_operators_on_time(struct mdms *m);

/* dcs.c */
void dcs_on_open(struct mdms *m, env_link link, uint8_t member);
int dcs_member_of(const struct mdms *m, env_link link); /* -1: not a DC's link */
void dcs_on_frame(struct mdms *m, uint8_t member, enum message_type type, struct span body);
void dcs_on_closed(struct mdms *m, uint8_t member);
uint64_t dcs_on_time(struct mdms *m);
bool dcs_ready(const struct mdms *m, int member);
/* The next ready member after `after`, with wrap-around, -1: none. To fetch from: not one that lied
 * lately; otherwise not one that is unproven. */
int dcs_next(const struct mdms *m, int after, bool to_fetch);
/* The committee has changed: who is unproven and can prove itself now, or never, begins anew. */
void dcs_on_committee(struct mdms *m);

/* enrol.c. `member`: the DC that relays, with its token; -1: the device itself. */
void enrol_on_request(struct mdms *m, env_link link, bool relayed, uint64_t token,
                      struct span body);
void enrol_on_work(struct mdms *m, struct enrolment *e);
bool enrol_stage(struct mdms *m); /* adds to the write; true when there was something */
void enrol_on_stored(struct mdms *m, enum ami_status status);
size_t enrol_count(const struct mdms *m); /* under way */
void enrol_free(struct mdms *m);

/* outbox.c */
/* Gives the next number to a transaction; `first` is its first part, encoded with that number. */
void outbox_stage_tx(struct mdms *m, uint8_t kind, struct span first);
/* Does the ledger know this key, or will it before the next number? */
bool outbox_on_ledger(struct mdms *m, uint8_t role, const struct ami_id *device, uint32_t epoch);
bool outbox_stage(struct mdms *m); /* binding to the chain, revocations */
void outbox_on_stored(struct mdms *m, enum ami_status status);
void outbox_on_links(struct mdms *m);   /* a link became ready or went */
void outbox_on_settled(struct mdms *m); /* a followed block held transactions of ours */
uint64_t outbox_on_time(struct mdms *m);

/* follow.c */
void follow_on_block(struct mdms *m, uint8_t member, struct span body);
void follow_on_work(struct mdms *m, struct follow_job *job);
bool follow_stage(struct mdms *m);
void follow_on_stored(struct mdms *m, enum ami_status status);
void follow_on_links(struct mdms *m);
/* This DC is asked for no block for a while. */
void follow_distrust(struct mdms *m, uint8_t member);
uint64_t follow_on_time(struct mdms *m);
void follow_free(struct mdms *m);

#endif
