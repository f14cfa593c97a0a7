/* meter/core.h - one meter as a state machine: it agrees a key with a DC and delivers its reports.
 *
 * In: reports measured, frames from DCs, links that open and close, instants of time, finished
 * writes. Out: through base/env.h. No heap, no clock, no file: a fleet, a single meter, the
 * simulator and a microcontroller run the same object. Its memory is `struct meter`, below 2 KiB.
 *
 * What it guarantees:
 *   - A report gets its sequence number once, is signed once and is durable before it is sent; what
 *     is sent again later, to whichever DC, is the same sequence, salt, m and signature.
 *   - An acknowledgement is believed only when its block's header and commit certificate were
 *     checked (meter/headers.h) and the inclusion proof leads from this meter's own signed part to
 *     the certified Merkle root. Only then is the report settled (moved out of the outbox).
 *   - It waits for nobody for ever: no answer, no good acknowledgement, a lie or a closed link make
 *     it go to another DC; under policy `gateway = leader` it then insists that this one be the
 *     gateway (protocol.md section 5).
 *   - Time-outs use the monotonic clock alone.
 *
 *          +-------------------- time-out, refused, closed --------------------+
 *          v                                                                   |
 *   METER_PAUSE -- flight 1 --> METER_AGREEING -- flight 2 good: flight 3 --> METER_IN_SESSION
 */
#ifndef AMI_METER_CORE_H
#define AMI_METER_CORE_H

#include "base/env.h"
#include "keyagree/enrol.h"
#include "keyagree/session.h"
#include "meter/headers.h"

/* Reports that may wait for their acknowledgement at once; far below AMI_SEQ_WINDOW. */
#define METER_IN_FLIGHT_MAX 12
/* Encoding of a report_submit: the durable record of a report, and what travels sealed. */
#define METER_RECORD_BYTES_MAX (8 + 16 + SM2_SIGNATURE_BYTES + 4 + AMI_REPORT_BYTES_MAX)
#define METER_NO_MEMBER        0xff

/* The two waiting times are least ones: where answers take long (a busy DC, a narrow link) four
 * times the usual time is waited, lest everybody begins anew and makes a busy DC busier. */
struct meter_timing {
    uint32_t answer_ms;      /* for flight 2; doubled when as many as there are DCs were asked */
    uint32_t answer_ms_max;  /* up to this */
    uint32_t ack_ms;         /* for a good acknowledgement; doubled likewise */
    uint32_t ack_ms_max;     /* up to this */
    uint32_t insist_ms;      /* waited so long for a leader: insist */
    uint32_t backoff_ms_min; /* before another try; doubled each time, half of it random */
    uint32_t backoff_ms_max;
    uint32_t resend_ms; /* before a report that was refused for the moment is sent again; doubled */
    uint32_t spread_ms; /* meters that lose the same DC come back spread over this time */
};
/* 2000, 16000, 4000, 60000, 4000, 100, 5000, 500, 50. */
struct meter_timing meter_timing_default(void);

enum meter_note_kind {
    METER_NOTE_AGREED,       /* value: microseconds from flight 1 to the session */
    METER_NOTE_REDIRECTED,   /* value: member index */
    METER_NOTE_FELL_BACK,    /* value: member index that was left */
    METER_NOTE_REFUSED,      /* value: status of a refused flight 1 */
    METER_NOTE_SENT,         /* value: sequence, first time that it leaves in this process */
    METER_NOTE_ACKNOWLEDGED, /* value: microseconds from the first sending to the belief */
    METER_NOTE_BAD_ACK,      /* value: status of the check */
    METER_NOTE_NACK          /* value: status */
};

/* The outbox as the core reads it; `ctx` is the meter's (meter_init). */
struct meter_disk {
    /* Copies the record of the unsettled durable report with the lowest sequence that is at least
     * `from`. AMI_NOT_FOUND; AMI_IO, AMI_DAMAGED. buffer: METER_RECORD_BYTES_MAX. */
    enum ami_status (*next)(void *ctx, uint64_t from, uint8_t *buffer, size_t *size);
};

/* What meters share that talk through the same links. */
struct meter_shared {
    const struct genesis *genesis; /* outlives it, as all pointers here */
    struct headers *headers;
    const struct env *env; /* its functions are called with the meter's ctx, not with env->ctx */
    struct meter_disk disk;
    struct meter_timing timing;
    void (*note)(void *ctx, enum meter_note_kind kind, uint64_t value); /* or NULL */
    bool ack_unchecked; /* acknowledgements are believed: the simulator's, to see what that costs */
    uint32_t open;      /* bit k: the link to DC k is open. Kept by the shell. */
    uint8_t leader;     /* who led when somebody last said so; a hint */
    uint64_t answer_us, ack_us; /* how long answers and acknowledgements usually take */
    struct meter_led {
        uint64_t term;  /* the highest in which the DC said that it leads */
        uint64_t at_us; /* when it said so; 0: never */
    } led[METER_DCS];   /* by place */
};
void meter_shared_init(struct meter_shared *s, const struct genesis *genesis,
                       struct headers *headers, const struct env *env);

/* Whether a DC's LEADS is to be heard: its meters are then told (meter_on_leads) and it is the
 * leader as far as anybody knows. Nobody signs it and telling all meters costs time, so a DC is
 * heard once in a term and not more often than every METER_LEADS_US; who misses it finds the leader
 * by asking. */
#define METER_LEADS_US 500000u
bool meter_shared_hears(struct meter_shared *s, env_link link, uint64_t term,
                        uint64_t now_us) AMI_MUST_CHECK;

/* Writes handed to env->store. A PUT is memory of the caller of meter_report, a SETTLE is part of
 * the meter. Either stays untouched until meter_on_stored. */
enum meter_write_kind { METER_WRITE_PUT = 1, METER_WRITE_SETTLE = 2 };
struct meter_write {
    uint8_t kind;
    uint8_t slot;  /* the core's */
    uint8_t flags; /* the core's */
    uint64_t sequence;
};
struct meter_put {
    struct meter_write write;
    size_t size;
    uint8_t record[METER_RECORD_BYTES_MAX]; /* encoding of report_submit */
};

struct meter_slot {
    struct meter_write write; /* sequence 0: free; kind METER_WRITE_SETTLE: being settled */
    uint64_t sent_us;         /* first time sent by this process; 0: not yet */
    sm3_digest first;         /* SM3 of the encoded report_meter_part */
};

enum meter_phase { METER_OFF, METER_PAUSE, METER_AGREEING, METER_IN_SESSION };

/* Fields are the core's; the functions below tell what others may know. */
struct meter {
    struct meter_shared *shared;
    void *ctx;
    struct device_keys keys;
    union {
        struct agree_state agree; /* METER_AGREEING */
        struct session session;   /* METER_IN_SESSION */
    } u;
    uint64_t session_id; /* 0: no session */
    uint8_t phase;
    uint8_t home, target;
    uint8_t hops;        /* redirections followed in a row */
    uint8_t attempts;    /* since the last success, for the back-off */
    uint8_t vain;        /* times that acknowledgements were waited for in vain */
    uint8_t window;      /* reports that may be in flight: one more with each acknowledgement, half
                            as many when a DC is too busy */
    uint8_t busy;        /* times in a row that a DC was too busy */
    bool starved;        /* the link's queue was full: waits for meter_on_writable */
    bool settled_said;   /* a DC says that reports are settled which we hold unacknowledged */
    uint32_t came;       /* bit k: came to member k because it said that it leads, since the last
                            success: it is believed once, lest a liar keeps a meter for ever */
    uint32_t tried;      /* bit k: member k was asked since the last success */
    uint32_t failed_us;  /* bit k: member k let us wait in vain or lied since the last success */
    uint32_t ended;      /* bit k: member k ended a session, and no acknowledgement has come since:
                            the second time it has failed us, lest it goes on for ever */
    uint32_t refused_by; /* bit k: member k refuses us for good (refusal) */
    uint16_t refusal;    /* AMI_REVOKED or AMI_UNKNOWN_DEVICE, the last that was said */
    uint16_t storage;    /* status of a write that failed */
    uint32_t tag;
    uint64_t wake_us;    /* PAUSE: try again; AGREEING: no answer; IN_SESSION: no acknowledgement */
    uint64_t resend_us;  /* IN_SESSION: refused reports may be sent again */
    uint64_t settle_us;  /* the store may have room again for what is acknowledged */
    uint64_t began_us;   /* of this agreement or session */
    uint64_t waiting_us; /* since when nothing good has come; 0: all is well */
    uint64_t next_sequence;
    uint64_t durable_below; /* every report with a lower sequence is durable */
    uint64_t load_from;     /* unsettled reports with a lower sequence are in slots */
    struct meter_slot slot[METER_IN_FLIGHT_MAX];
};
_Static_assert(sizeof(struct meter) <= 2048, "a fleet holds 100,000 of them");

/* ctx: handed to the environment's and the disk's functions for this meter. next_sequence: the
 * number of the next report (from 1); load_from: no unsettled report has a lower one. */
void meter_init(struct meter *m, struct meter_shared *shared, void *ctx,
                const struct device_keys *keys, uint64_t next_sequence, uint64_t load_from);
/* Wipes keys and session. */
void meter_wipe(struct meter *m);
/* Begins to look for a DC. */
void meter_start(struct meter *m);

/* Makes a report of the encoded readings `report` (m of wire/report.h): number, salt, signature,
 * record; and hands `put` to env->store. AMI_TOO_LARGE; AMI_AGAIN (the store's queue is full,
 * nothing happened); the status of an earlier failed write. */
enum ami_status meter_report(struct meter *m, struct meter_put *put,
                             struct span report) AMI_MUST_CHECK;

/* The same for several meters at once, each in the list once: signing side by side is several times
 * faster. At most METER_MAKING_MAX; their statuses are what meter_report would have returned. */
#define METER_MAKING_MAX 32
struct meter_making {
    struct meter *meter;
    struct meter_put *put;
    struct span report;
    enum ami_status status;
};
void meter_reports(struct meter_making *list, size_t count);

/* Events. DCs are named by their places in `headers`; links are place + 1. `type` is AGREE_FLIGHT2,
 * REFUSED, SESSION_ENDED or SESSION_DATA; others are ignored (BLOCK_PROOF goes to headers_add). */
void meter_on_frame(struct meter *m, env_link link, enum message_type type, struct span body);
/* The DC at this link leads now, as it says, and has time for all meters within spread_us; they
 * come spread over that or over their own spread_ms, whichever is longer. meter_shared_hears has
 * been asked. Concerns meters in METER_PAUSE alone. */
#define METER_SPREAD_US_MAX (60u * 1000000u) /* whatever a DC says */
void meter_on_leads(struct meter *m, env_link link, uint64_t spread_us);
/* AGREE_FLIGHT2 for several meters at once; what meter_on_frame does, several times faster side by
 * side. At most METER_ANSWERS_MAX. */
#define METER_ANSWERS_MAX 32
struct meter_answer {
    struct meter *meter;
    env_link link;
    struct span body;
};
void meter_on_flight2s(const struct meter_answer *list, size_t count);
void meter_on_open(struct meter *m, env_link link);   /* shared->open has the bit already */
void meter_on_closed(struct meter *m, env_link link); /* shared->open has lost the bit already */
void meter_on_writable(struct meter *m, env_link link);
void meter_on_time(struct meter *m);
void meter_on_stored(struct meter *m, struct meter_write *write, enum ami_status status);

/* The meter of a SETTLE. */
struct meter *meter_of_settle(struct meter_write *write);
/* Reports that are durable and not known to be settled; while it is true draining goes on. */
bool meter_unsettled(const struct meter *m);
/* AMI_REVOKED or AMI_UNKNOWN_DEVICE once more than f members have said so since the last success:
 * at least one of them is honest. AMI_OK otherwise. */
enum ami_status meter_outcast(const struct meter *m);

/* What the meter signs, rebuilt from a record: for the checks of tests and proofs.
 * AMI_BAD_ENCODING. */
enum ami_status meter_record_part(struct report_meter_part *out, const struct device_keys *keys,
                                  const struct report_submit *record) AMI_MUST_CHECK;

#endif
