/* net/link.h - links: byte streams over TCP that carry frames, each behind a u32 length
 * (big-endian).
 *
 * Listeners take connections in, dialers make one and make it again when it breaks; both hand
 * frames to their owner's functions in the loop's thread. Every listener has limits against
 * strangers; what breaks one is dropped and counted by reason while everybody else is served.
 * Nothing queues without a bound: a full send queue says AMI_AGAIN, a paused link is not read, and
 * a receive buffer grows only as far as bytes really arrived.
 *
 * An endpoint may be secure: then every link of it is a channel of channel/, whose handshake is
 * made here. The owner hears of a link when it is open, and link_peer tells who is there; who fails
 * or is refused is dropped, and the owner hears why (on_refused). What was shown then is kept, and
 * link_judge judges it again: who would not be let in any more loses the links that are open, too.
 *
 * An address is "host:port" or "tcp://host:port"; a numeric IPv6 host stands in brackets; port 0
 * of a listener lets the system choose; host "*" of a listener means every interface.
 *
 * Caveats. All functions belong to the loop's thread, none calls an owner's function before it
 * returns. nng must not be used across fork(): fork before the first call of this header.
 * The system's limit on open files is raised to what is allowed; connections_max of all listeners
 * together must stay below it.
 */
#ifndef AMI_NET_LINK_H
#define AMI_NET_LINK_H

#include "base/env.h"
#include "channel/channel.h"
#include "channel/gate.h"
#include "net/loop.h"
#include "net/why.h"

#define LINK_LENGTH_BYTES 4  /* the prefix */
#define LINK_REMOTE_BYTES 64 /* "[address]:port" with its zero */
#define LINK_URL_BYTES    (AMI_ADDRESS_BYTES_MAX + 8)
#define LINK_LINGER_MS    1000 /* how long link_close waits for queued bytes to leave */
#define LINK_IDLE_MS      1000 /* idle_ms and silent_ms of the links between DCs and MDMS */
#define LINK_SILENT_MS    6000

/* Why a link was dropped. The names travel in metrics and logs: link_drop_name. */
enum link_drop_reason {
    LINK_DROP_GARBAGE,    /* a frame of size 0, or the owner could not decode what came */
    LINK_DROP_OVERSIZED,  /* a length above frame_bytes_max */
    LINK_DROP_HALF_FRAME, /* a frame was begun and did not go on in half_frame_ms */
    LINK_DROP_MUTE,       /* not known to its owner within stranger_ms */
    LINK_DROP_TOO_MANY,   /* more connections than connections_max, or than identity_max */
    LINK_DROP_REFUSED,    /* the owner refused it: failed handshake, broken rule */
    LINK_DROP_SILENT,     /* known, and nothing came for silent_ms, not even a sign of life */
    LINK_DROP_CHANNEL,    /* a secure endpoint: the handshake or a record failed, see on_refused */
    LINK_DROP_IDLE,       /* proven, and nothing passed for quiet_ms */
    LINK_DROP_REASONS
};
const char *link_drop_name(enum link_drop_reason reason); /* "half_frame"; never NULL */

struct link_limits {
    size_t frame_bytes_max; /* of a received frame, prefix excluded; 1..AMI_FRAME_PEER_BYTES_MAX */
    size_t queue_bytes_max; /* frames waiting to leave, prefixes included */
    uint32_t connections_max; /* listeners only. When full the oldest stranger makes room for a
                                 newcomer; when all are known the newcomer is dropped. Of a secure
                                 listener an eighth is kept for strangers: one more that proves
                                 itself takes the place of the oldest link of whoever has most. */
    uint32_t stranger_ms;     /* a link not marked known is dropped after so long; 0 never */
    uint32_t half_frame_ms;   /* time for a frame to arrive whole once it began, or for 64 KiB more
                                 of it: a block on a slow link takes long; 0 unlimited */
    size_t stranger_frame_bytes_max; /* frame_bytes_max of a link not marked known; 0: the same */
    /* A link that died without a word is noticed by its silence: the kernel alone would send into
     * the void for a quarter of an hour, and after an outage wait for as long as that had lasted.
     * Both sides of a link have to set these, or neither. */
    uint32_t idle_ms; /* a sign of life (a frame of size 0, which no owner sees) leaves when nothing
                         was sent for so long; 0 never */
    uint32_t silent_ms; /* a known link on which nothing came for so long is dropped; 0 never */
    /* Secure listeners: who has proven itself is no stranger, whether its owner knows it or not. */
    uint32_t identity_max; /* open links of one role, name and key; one more takes the place of its
                              oldest, which may be dead without our knowing. 0: no limit */
    uint32_t quiet_ms; /* in place of stranger_ms for a link that is open: dropped when no byte came
                          or left for so long. 0: stranger_ms goes for it, too */
};

struct link_counters {
    uint64_t opened;
    uint64_t closed; /* for whatever reason */
    uint64_t dropped[LINK_DROP_REASONS];
    uint64_t frames_in, frames_out;
    uint64_t bytes_in, bytes_out; /* prefixes included */
    uint64_t reads;               /* that brought bytes_in */
    uint64_t sends_refused;       /* link_send said AMI_AGAIN */
    uint64_t dials_failed;        /* dialers only */
    /* Secure endpoints: handshakes begun (a first flight was looked at, or sent), channels that
     * came to be open, flights that the gate turned away unseen, and channels that failed, by
     * reason, before they were open or later. FAULT_CUT counts those that were open and ended
     * without a close, which is all that is to be seen of a cut line or of a process that was
     * killed; on_closed has them as AMI_UNREACHABLE, and on_refused does not. */
    uint64_t handshakes_begun, channels_opened, turned_away;
    uint64_t faults[CHANNEL_FAULTS];
};

/* How an endpoint's links are secured. Borrowed for as long as the endpoint lives. */
struct link_security {
    struct channel_config config;
    struct gate *gate; /* listeners: which first flights are answered; NULL: all */
};

/* What an endpoint's owner wants to be told; any function may be NULL. */
struct link_events {
    void *ctx;
    /* A link is there; of a secure endpoint: its channel is open. `remote` is "address:port" of the
     * other side, valid during the call. */
    void (*on_open)(void *ctx, env_link link, const char *remote);
    /* One frame, without its prefix, never empty; the bytes are valid during the call. */
    void (*on_frame)(void *ctx, env_link link, struct span frame);
    /* The link is gone; its id is never used again. AMI_CLOSED: the other side or we closed it;
     * AMI_UNREACHABLE: the network broke it; AMI_TIMEOUT, AMI_TOO_LARGE, AMI_BAD_ENCODING,
     * AMI_FULL: dropped by a limit. Comes once for every on_open, also after link_close. */
    void (*on_closed)(void *ctx, env_link link, enum ami_status why);
    /* After AMI_AGAIN: at least half the queue is free again. */
    void (*on_writable)(void *ctx, env_link link);
    /* Dialers: an attempt failed; the next follows by itself. */
    void (*on_unreachable)(void *ctx, const char *why);
    /* A secure endpoint: a channel failed, before it was open or later. `who` and `standing` are
     * channel_claimant's. */
    void (*on_refused)(void *ctx, const char *remote, enum channel_fault fault,
                       const struct credential_identity *who, enum channel_standing standing);
    const struct link_security *security; /* NULL: in the clear */
};

struct links;         /* all links of a process */
struct link_listener; /* owned by its links */
struct link_dialer;   /* owned by its links */

/* NULL when out of memory. */
struct links *links_new(struct loop *loop);

/* Closes all at once: no owner's function is called any more, queued frames are lost; a channel on
 * which none waited says that it ends. Blocks for the moment that nng's callbacks need to end. NULL
 * is allowed. */
void links_free(struct links *links);

/* Listens. AMI_IN_USE when another socket has the address, AMI_BAD_ARGUMENT for an address that is
 * none (of this machine), AMI_IO; `why` names the address. */
enum ami_status link_listen(struct links *links, const char *address,
                            const struct link_limits *limits, const struct link_events *events,
                            struct link_listener **out, struct why *why) AMI_MUST_CHECK;

/* "host:port" with the port that the system chose, for a port of 0. */
const char *link_listener_address(const struct link_listener *listener);

/* Counters live as long as the endpoint. */
const struct link_counters *link_listener_counters(const struct link_listener *listener);

/* Connections open now. */
uint32_t link_listener_open_now(const struct link_listener *listener);

/* Takes no more connections; links that came through it live on. The handle stays valid. */
void link_listener_stop(struct link_listener *listener);

/* Begins to dial and goes on for ever: after a failure or a loss it waits 100 ms, 200 ms, .. up to
 * retry_ms_max (0: 5,000), each time a random part of it, and tries again. limits.connections_max
 * is not used. A dialled link is known from the start, stranger_ms does not apply to it.
 * AMI_BAD_ARGUMENT for an address that cannot be one. */
enum ami_status link_dial(struct links *links, const char *address,
                          const struct link_limits *limits, uint32_t retry_ms_max,
                          const struct link_events *events, struct link_dialer **out,
                          struct why *why) AMI_MUST_CHECK;

const struct link_counters *link_dialer_counters(const struct link_dialer *dialer);

/* Dials at once instead of waiting for the rest of the back-off. */
void link_dialer_hurry(struct link_dialer *dialer);

/* Ends the dialer: its link, if any, is closed as by link_close (on_closed still comes), no new one
 * is made, and the handle is void. */
void link_dialer_stop(struct link_dialer *dialer);

/* Queues a copy of one frame (1.. bytes). Frames queued in one round of the loop leave in one
 * write. AMI_AGAIN: the queue is full, nothing was queued, on_writable follows. AMI_CLOSED: no such
 * link (any more). AMI_TOO_LARGE: it would not fit into an empty queue. AMI_NO_MEMORY. */
enum ami_status link_send(struct links *links, env_link link, struct span frame) AMI_MUST_CHECK;

/* Bytes queued and not yet handed to the system; 0 for an unknown link. */
size_t link_queued_bytes(const struct links *links, env_link link);

/* The owner knows who this is: stranger_ms no longer applies. */
void link_mark_known(struct links *links, env_link link);

/* Who is at the other end of a secure link that is open; NULL for any other. Valid until the next
 * call of this header. */
const struct credential_identity *link_peer(const struct links *links, env_link link);

/* Its record suite; 0 for a link in the clear, or one that is not open. */
uint8_t link_suite(const struct links *links, env_link link);

/* What is trusted has changed, or time has passed: the peers of all open channels are judged again
 * as of wall_ms, in the order of the links, one in each round of the loop, since a certificate
 * takes as long to check as when it was shown first. Whom an endpoint would not let in any more
 * loses the link; it is counted, and on_refused told, as for a newcomer. Behind a pass that is
 * under way there is another one.
 */
void link_judge(struct links *links, int64_t wall_ms);

/* Stops reading: no on_frame until link_resume, also not for frames that have arrived. The
 * other side's writes fill the system's buffers and then wait. Time-outs for half frames rest. */
void link_pause(struct links *links, env_link link);
void link_resume(struct links *links, env_link link);

/* Reads no more, writes what is queued for at most LINK_LINGER_MS, closes. on_closed follows. */
void link_close(struct links *links, env_link link);

/* Closes at once, queued frames are lost, and counts the reason. on_closed follows. */
void link_drop(struct links *links, env_link link, enum link_drop_reason reason);

/* --- for programs without a loop (dc-cli, enrolment) ----------------------------------------- */

/* Connects, sends one frame, waits for one frame, closes; timeout_ms covers all of it. Not to be
 * called in the loop's thread. `security`: a channel is opened first, NULL: in the clear. The reply
 * is copied to reply[0..*reply_size). AMI_UNREACHABLE (also: the connection was cut), AMI_TIMEOUT,
 * AMI_CLOSED, AMI_BAD_ARGUMENT (the address), AMI_NOT_ALLOWED (either side refused the channel),
 * AMI_TOO_LARGE when the reply is larger than reply_max; `why` names the address. */
enum ami_status link_call(const char *address, const struct channel_config *security,
                          struct span request, uint32_t timeout_ms, uint8_t *reply,
                          size_t reply_max, size_t *reply_size, struct why *why) AMI_MUST_CHECK;

#endif
