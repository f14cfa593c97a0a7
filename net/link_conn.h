/* net/link_conn.h - what the files of links share; inside of net/ only.
 *
 *   link.c        what owners call
 *   link_conn.c   one link: bytes in and out, its channel, its life, its deadlines
 *   link_ends.c   listeners and dialers, which make links
 */
#ifndef AMI_NET_LINK_CONN_H
#define AMI_NET_LINK_CONN_H

#include "net/link.h"

#include <nng/nng.h>

/* Links in the order in which they were added. */
struct conn_list {
    struct conn *oldest, *newest;
    uint32_t count;
};

struct endpoint {
    struct links *links;
    struct link_limits limits;
    struct link_events events;
    struct link_counters counters;
    struct link_dialer *dialer; /* NULL: a listener's */
    uint32_t open_now;
    struct conn_list strangers; /* of a listener: who has not said who it is */
    struct conn_list proven;    /* of a secure listener: whose channel is open */
};

struct buffer {
    uint8_t *data;
    size_t capacity;
    size_t size;
};

struct conn {
    env_link id;
    struct endpoint *end;
    nng_stream *stream;
    nng_aio *receive_aio, *send_aio;
    struct loop_task received_task, sent_task, kick_task;
    bool receiving, sending; /* an operation is out; its task will come */
    bool known, paused, closing, shut, wants_writable;
    bool signs;              /* the other side takes signs of life */
    bool announced;          /* on_open was called */
    bool leaving;            /* conn_farewell is under way */
    struct channel *channel; /* NULL: in the clear */
    uint8_t *shown;          /* the peer's credential; NULL: not proven yet */
    size_t shown_size;
    enum ami_status close_status;

    struct buffer in; /* in.size: end of what was received */
    size_t in_start;  /* what lies before was given out */
    struct buffer pending, writing;
    size_t written; /* of writing */

    uint64_t opened_us;
    uint64_t half_since_us;     /* 0: no frame is half here */
    size_t half_bytes;          /* what was here of it then */
    uint64_t heard_us, said_us; /* when bytes last came, and frames were last queued */
    uint64_t moved_us;          /* when bytes last came or left */
    uint64_t linger_until_us;
    struct conn_list *list; /* one of its endpoint's; NULL: none */
    struct conn *older, *newer;
};

struct link_listener {
    struct endpoint end;
    struct link_listener *next;
    nng_stream_listener *nng;
    nng_aio *accept_aio;
    struct loop_task accepted_task;
    struct loop_alarm again_alarm;
    bool accepting, stopped;
    char address[LINK_URL_BYTES];
};

struct link_dialer {
    struct endpoint end;
    struct link_dialer *next;
    nng_stream_dialer *nng;
    nng_aio *dial_aio;
    struct loop_task dialled_task;
    struct loop_alarm retry_alarm;
    struct conn *conn;
    bool dialling, stopped;
    unsigned attempt;
    uint32_t retry_ms_max;
    char url[LINK_URL_BYTES];
};

struct links {
    struct loop *loop;
    struct conn **slots;
    uint32_t slots_size;
    uint32_t *free_slots;
    uint32_t free_count;
    uint64_t serial; /* of the last link */
    struct link_listener *listeners;
    struct link_dialer *dialers;
    struct loop_alarm deadline_alarm;
    uint64_t deadline_us;
    struct loop_task judge_task;
    bool judging, judge_again; /* a pass is under way; another one behind it */
    uint32_t judge_slot;       /* the next one to be judged */
    int64_t judge_ms;          /* as of when */
};

struct conn *conn_find(const struct links *links, env_link id);
/* Makes a link of a fresh stream, or frees the stream. */
struct conn *conn_open(struct endpoint *end, nng_stream *stream);
void conn_free(struct conn *c);
void conn_drop(struct conn *c, enum link_drop_reason reason);
/* Starts a write of what waits, when none is out. */
void conn_write(struct conn *c);
size_t conn_queued(const struct conn *c);
/* Room for one frame of so many bytes behind its prefix; NULL when there is no memory. */
uint8_t *conn_frame_reserve(struct conn *c, size_t size);
/* What was written there leaves. */
void conn_frame_commit(struct conn *c, size_t size);
/* Ends the link when what is queued has left, or soon. */
void conn_linger(struct conn *c);
/* Out of its list, if it is in one. */
void conn_unlist(struct conn *c);
/* All ends: says so where nothing waits before it, so that the other side knows that nothing is
 * missing. True: send_aio is to be waited for, which takes FAREWELL_MS at most. */
bool conn_farewell(struct conn *c);
void links_judge_next(void *arg);
/* When silence is too long; UINT64_MAX: it is not judged. */
uint64_t conn_silence_ends(const struct conn *c);
void links_deadline_add(struct links *links, uint64_t at_us);
void links_check_deadlines(void *arg);
void link_listener_free(struct link_listener *l);
void link_dialer_free(struct link_dialer *d);
void link_dialer_lost(struct link_dialer *d, uint64_t lived_us);

#endif
