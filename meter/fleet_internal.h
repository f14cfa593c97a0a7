/* meter/fleet_internal.h - what the files of the fleet share. Nothing outside meter/ includes it.
 */
#ifndef AMI_METER_FLEET_INTERNAL_H
#define AMI_METER_FLEET_INTERNAL_H

#include "base/check.h"
#include "base/table.h"
#include "meter/fleet.h"
#include "net/progress.h"
#include "net/writer.h"

#define FLEET_LANES_MAX    16         /* connections to each DC */
#define FLEET_GROUP_WRITES 512        /* writes in one group */
#define FLEET_GROUPS       32         /* groups under way or being filled */
#define FLEET_PUTS         4096       /* reports on their way to the outbox */
#define FLEET_BACKLOG_MAX  48         /* unsettled reports of a meter whose source is bounded */
#define FLEET_QUEUE_BYTES  (2u << 20) /* of a link */
#define FLEET_QUEUE_SOFT   (1u << 20) /* beyond it only third flights are queued */
/* First flights on the way per connection: many more would only wait in the DC's queue until they
 * are too old. */
#define FLEET_AGREEING_MAX 256
#define FLEET_UNBLOCK_US   5000u
/* Between two transactions of the store while meters are busy: each costs a sync and some ten pages
 * of its own, however many reports share it. */
#define FLEET_STORE_US        40000u
#define FLEET_TICK_US         1000000u
#define FLEET_TIMERS_PER_FIRE 2000 /* then the loop looks at its links again */
/* Many meters' timers are looked at together, so often, or four times in the time between two
 * reports of a meter: reports that are due within so short a time are signed side by side, at a
 * third of the price. Few meters need not wait for that. */
#define FLEET_SLACK_US         5000u
#define FLEET_SLACK_METERS     64
#define FLEET_UNKNOWN_GRACE_US (20u * 1000000u) /* an enrolment takes a block to be known */

struct fleet_meter {
    struct meter core;
    struct fleet *fleet;
    struct meter_state state;
    uint64_t core_at_us, measure_at_us;
    size_t heap_at;   /* place in the heap of timers + 1; 0: not in it */
    size_t paused_at; /* place among the paused ones of its lane + 1; 0: not in it */
    uint32_t index;
    uint32_t unsettled; /* in the outbox, or on the way there */
    uint8_t lane;
    bool held;    /* its backlog is full */
    bool done;    /* its source has nothing more */
    bool blocked; /* waits for room on a link */
    bool counted; /* among those in session */
    uint16_t outcast;
    struct fleet_link *agreeing; /* where its first flight is on the way */
    uint64_t routed;             /* session id under which frames find it */
    struct fleet_meter *next_blocked;
    UT_hash_handle by_session;
};

struct fleet_put {
    struct meter_put put;
    struct fleet_meter *owner;
    struct fleet_put *next_free;
    struct meter_state state;
    uint16_t readings;
    bool has_source;
    sm3_digest source;
    uint64_t source_row;
};

/* A committee on its way to the disk. `write.kind` is one that no meter uses. */
#define FLEET_WRITE_EPOCH 3
struct fleet_epoch {
    struct meter_write write;
    uint32_t epoch;
    size_t size;
    uint8_t bytes[]; /* membership_proof */
};

struct fleet_group {
    size_t count;
    bool busy; /* with the storage thread */
    struct meter_write *write[FLEET_GROUP_WRITES];
    struct fleet_meter *owner[FLEET_GROUP_WRITES];
    uint16_t readings[FLEET_GROUP_WRITES]; /* of settled reports */
};

/* One connection. */
struct fleet_link {
    struct fleet *fleet;
    struct fleet_lane *lane;
    struct link_dialer *dialer;
    char address[AMI_ADDRESS_BYTES_MAX + 1]; /* dialled; empty: none */
    env_link link;                           /* 0: none */
    uint8_t place;                           /* of its DC */
    bool welcomed;
    uint16_t refused;  /* status of the last welcome that was none */
    uint32_t agreeing; /* first flights on the way */
    struct fleet_meter *blocked_first, *blocked_last;
};

/* One connection to each DC, and the meters that use them. */
struct fleet_lane {
    struct meter_shared shared;
    struct fleet_link link[METER_DCS]; /* by place */
    /* Meters that wait before they try again, in no order: whom a new leader concerns. */
    struct fleet_meter **paused;
    size_t paused_count;
};

/* Reports that are made together: measured, not signed yet. */
struct fleet_making {
    size_t count;
    struct meter_making of[METER_MAKING_MAX];
    struct fleet_put *put[METER_MAKING_MAX];
    uint8_t report[METER_MAKING_MAX][AMI_REPORT_BYTES_MAX];
};

/* Second flights that came in one round of the loop. */
struct fleet_answers {
    size_t count;
    struct fleet_meter *meter[METER_ANSWERS_MAX];
    struct meter_answer of[METER_ANSWERS_MAX];
    uint8_t bytes[METER_ANSWERS_MAX][1024];
};

/* How meters that lost their DC came back: microseconds after the last time that many did. */
struct fleet_return {
    uint64_t began_us, half_us, most_us, all_us; /* 0: not yet */
};

/* Counts by magnitude with a resolution of about 3 %. */
struct histogram {
    uint64_t count[64 * 32];
    uint64_t total;
};

struct fleet_stats {
    uint64_t agreements, redirects, fallbacks, refusals, nacks, bad_acks;
    uint64_t leads_told;       /* meters that were told of a new leader */
    uint64_t reports_sent_now; /* frames that left for the first time in this process */
    uint64_t reports_acknowledged_now, readings_acknowledged_now;
    uint64_t frames_bad;
    uint64_t max_gap_us, last_ack_us;
    uint64_t since_us; /* begin of what is counted here */
    struct histogram agreement_us, commit_us;
};

struct fleet {
    struct fleet_config c;
    struct env env;
    struct loop *loop;
    struct links *links;
    struct disk_writer *writer;
    struct headers *headers;
    unsigned lanes;
    struct fleet_lane *lane;
    struct fleet_meter *meter;
    size_t count;
    struct fleet_meter **paused;  /* the lanes' lists, one behind the other */
    struct fleet_meter *sessions; /* by_session */
    /* The instant stands beside the meter, so that ordering does not touch the meters. */
    struct fleet_timer {
        uint64_t at_us;
        struct fleet_meter *meter;
    } * heap;
    size_t heap_count;
    uint64_t timers_from_us; /* they are not looked at again before */
    struct loop_alarm timers, tick, unblock;
    bool blocked_any;

    struct fleet_put *puts, *free_puts;
    const struct fleet_put *fresh; /* durable just now, and still in memory */
    struct fleet_group *group;     /* FLEET_GROUPS */
    struct fleet_group *filling;
    struct loop_alarm flush_alarm;
    uint64_t flushed_us;
    struct meter_op *ops;        /* storage thread */
    enum ami_status disk_status; /* storage thread: of the first write that failed */
    struct why disk_why;
    size_t writes_out; /* handed to the storage thread or about to be */

    struct source *source;
    struct source_batch *batch;
    struct fleet_making *making;
    struct fleet_answers *answers;
    struct loop_task answer_task;
    size_t in_session;
    struct fleet_return back;
    uint32_t backlog;
    uint64_t started_us, stop_us, drain_until_us;
    bool warm; /* the warm-up is over */
    bool measuring, stopping, over;
    bool ever_welcomed;
    size_t done_count, outcast_count;
    enum ami_status result;
    struct why result_why;
    struct why source_why;
    bool source_failed;

    uint64_t outbox_reports, outbox_readings; /* durable, not settled */
    struct fleet_stats stats;
    struct progress progress;
};

/* fleet.c */
void fleet_set_timer(struct fleet_meter *m);
void fleet_touch(struct fleet_meter *m); /* after every event of a core */
void fleet_fail(struct fleet *f, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void fleet_after_settle(struct fleet_meter *m);
struct fleet_meter *fleet_find(struct fleet *f, const struct ami_id *name);
void fleet_check_over(struct fleet *f);

/* fleet_links.c */
enum ami_status fleet_links_open(struct fleet *f, struct why *why);
enum ami_status fleet_env_send(void *ctx, env_link link, struct span frame);
void fleet_links_tick(struct fleet *f);
void fleet_links_answer(void *arg); /* the fleet's answer_task */
/* The meter's first flight is no longer on the way. */
void fleet_links_agreed(struct fleet_meter *m);

/* fleet_disk.c */
bool fleet_disk_init(struct fleet *f);
void fleet_disk_end(struct fleet *f); /* carries out what was put, ends the thread */
void fleet_disk_free(struct fleet *f);
struct fleet_put *fleet_put_take(struct fleet *f); /* NULL: all are under way */
void fleet_put_give(struct fleet *f, struct fleet_put *p);
enum ami_status fleet_env_store(void *ctx, void *write);
/* Whether so many writes can be put now. */
bool fleet_disk_room(const struct fleet *f, size_t writes);
/* Keeps a committee for the next start. When there is no room for it just now, the DCs tell it
 * then. */
void fleet_put_epoch(struct fleet *f, uint32_t epoch, struct span proof);
enum ami_status fleet_disk_next(void *ctx, uint64_t from, uint8_t *buffer, size_t *size);

/* fleet_stats.c */
void histogram_add(struct histogram *h, uint64_t value);
uint64_t histogram_at(const struct histogram *h, double share); /* 0.5: the median; 0 when empty */
void fleet_note(void *ctx, enum meter_note_kind kind, uint64_t value);
void fleet_stats_begin(struct fleet *f); /* the warm-up is over: counts anew */
void fleet_stats_write(struct fleet *f);
void fleet_progress(struct fleet *f);

#endif
