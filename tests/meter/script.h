/* tests/meter/script.h - one meter core among scripted DCs, in memory and on virtual time.
 *
 * The DCs answer with the real functions of keyagree/ and ledger/ and with real certificates; what
 * makes them useful is that each can be told to lose, refuse, delay or lie.
 */
#ifndef AMI_TESTS_METER_SCRIPT_H
#define AMI_TESTS_METER_SCRIPT_H

#include "meter/core.h"
#include "tests/ledger/fixture.h"
#include "wire/report.h"

#define SCRIPT_DCS     4
#define SCRIPT_REPORTS 256
#define SCRIPT_FRAMES  512

enum ack_mode {
    ACK_GOOD,
    ACK_NONE,
    ACK_WRONG_PATH,    /* one bit of the path changed */
    ACK_WRONG_INDEX,   /* another place in the tree */
    ACK_OTHER_LEAF,    /* a true proof of another meter's report */
    ACK_OTHER_CONTENT, /* the second part of another transaction */
    ACK_OTHER_HEIGHT,  /* a certified block that does not hold the report */
    ACK_BAD_CERT,      /* the certificate's signatures are of another block */
    ACK_FEW_VOTES,     /* q - 1 votes */
    ACK_PREPARE_CERT,  /* a prepare certificate */
    ACK_NO_PROOF,      /* no block_proof at all */
    ACK_ENDS           /* SESSION_ENDED instead, with `refer_to` */
};

struct script_dc {
    bool open;
    struct agree_key agree;
    struct agree_part part;
    /* Orders; the counts run down. */
    unsigned lose_flight1, lose_flight2, lose_flight3, lose_data, lose_ack;
    bool demands_insist; /* refuses with `refuse` unless the meter insists */
    enum ami_status refuse;
    int refer_to; /* -1: nobody */
    enum ack_mode ack;
    enum ami_status nack;
    unsigned nacks;
    bool starved; /* its link's queue is full */
    /* What it saw. */
    unsigned flights1, insisted, sessions, reports, data_refused;
    uint8_t last_record[METER_RECORD_BYTES_MAX];
    size_t last_size;
    /* Its session. */
    struct agree_terms terms;
    struct agree_pending pending;
    struct session session;
    bool opening, confirmed;
};

struct script_report {
    uint64_t sequence;
    size_t size;
    uint8_t record[METER_RECORD_BYTES_MAX];
    bool durable, settled;
};

struct script_frame {
    env_link link;
    size_t size;
    uint8_t bytes[METER_RECORD_BYTES_MAX + 128];
};

struct script {
    struct fixture *f;
    const struct scheme *scheme;
    struct env env;
    struct headers headers;
    struct meter_shared shared;
    struct device_keys keys;
    struct fixture_device other; /* another meter */
    struct meter meter;
    struct script_dc dc[SCRIPT_DCS];
    uint64_t now_us, alarm_us;
    uint64_t height;
    uint64_t session_next;
    struct agree_part u; /* the meter's part of U, as the ledger holds it */
    /* The outbox. */
    struct script_report report[SCRIPT_REPORTS];
    size_t report_count, settled_count;
    struct meter_put put[SCRIPT_REPORTS];
    struct meter_write *writes[SCRIPT_REPORTS];
    size_t write_count;
    bool hold_writes; /* nothing becomes durable meanwhile */
    enum ami_status store_fails;
    bool no_settling; /* the store's queue has no room for what is acknowledged */
    unsigned early;   /* reports that left before they were durable */
    /* Frames on their way to the DCs. */
    struct script_frame frame[SCRIPT_FRAMES];
    size_t frame_first, frame_count;
    unsigned notes[METER_NOTE_NACK + 1];
    uint64_t last_note[METER_NOTE_NACK + 1];
};

struct script *script_new(const struct scheme *scheme, enum gateway_policy policy);
void script_free(struct script *s);
/* Forgets the meter's memory and makes it anew from the outbox, as after a crash. */
void script_restart_meter(struct script *s);
void script_open(struct script *s, unsigned dc);
void script_close(struct script *s, unsigned dc);
/* The meter measures `count` reports of one reading each. */
void script_measure(struct script *s, unsigned count);
/* Delivers frames, completes writes and moves time from alarm to alarm, for so long. */
void script_run(struct script *s, uint64_t ms);
/* As script_run, but ends when everything measured is settled. Returns whether it is. */
bool script_run_settled(struct script *s, uint64_t ms);

#endif
