/* How a link works.
 *
 * In: one nng receive is out at a time, into the free end of `in`. Its callback, in a thread of
 * nng's, does nothing but post received_task. In the loop's thread the bytes are cut into frames,
 * the frames are given to the owner, and the next receive starts, unless the link is paused.
 *
 * Out: link_send appends to `pending` and posts kick_task, so that all frames of one round leave in
 * one write. While a write is out its bytes stand in `writing`; then the two change places.
 *
 * Life: open -> (closing: only `pending` and `writing` still leave) -> shut: the stream is closed
 * and nng's operations come back -> on_closed, freed. Only conn_settle frees, at the end of a task,
 * so that an owner's function may close or drop the link that it was called for.
 *
 * Secure endpoints: a link's frames go to its channel first (conn_channel), which answers, says
 * that it is open, which is when the owner hears of the link, or gives out what was inside. A sign
 * of life is an empty record then.
 *
 * Signs of life: who let the other in, and knows it, sends the first one; who dialled answers with
 * its own from then on, as a stranger's would count as garbage.
 *
 * Places: an endpoint lists its strangers and, where it is secure, those who have proven who they
 * are. A newcomer pushes out the oldest stranger; who proves itself pushes out its own oldest link
 * when it has its share, or the oldest of whoever has most when all have too many together.
 *
 * Deadlines (strangers, half frames, lingering, silence) share one alarm: it stands at the earliest
 * known one and, when it comes, all links are looked at.
 */
#include "net/link_conn.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define WRITE_EARLY_BYTES (128u << 10) /* so much pending starts a write within the round */

const char *link_drop_name(enum link_drop_reason reason)
{
    static const char *const names[LINK_DROP_REASONS] = {
        "garbage", "oversized", "half_frame", "mute", "too_many",
        "refused", "silent",    "channel",    "idle",
    };
    return (unsigned)reason < LINK_DROP_REASONS ? names[reason] : "unknown";
}

/* --- what owners call ------------------------------------------------------------------------ */

struct links *links_new(struct loop *loop)
{
    struct links *links = calloc(1, sizeof *links);
    if (links == NULL)
        return NULL;
    links->loop = loop;
    links->deadline_us = UINT64_MAX;
    links->deadline_alarm = (struct loop_alarm){.fire = links_check_deadlines, .arg = links};
    links->judge_task = (struct loop_task){.run = links_judge_next, .arg = links};
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        /* When the system refuses, the old limit stands, and accepting waits when it is reached. */
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    return links;
}

void links_free(struct links *links)
{
    if (links == NULL)
        return;
    loop_alarm_set(links->loop, &links->deadline_alarm, UINT64_MAX);
    loop_cancel(links->loop, &links->judge_task);
    for (uint32_t i = 0; i < links->slots_size; i++)
        if (links->slots[i] != NULL)
            links->slots[i]->leaving = conn_farewell(links->slots[i]);
    for (uint32_t i = 0; i < links->slots_size; i++) {
        struct conn *c = links->slots[i];
        if (c == NULL)
            continue;
        if (c->leaving)
            nng_aio_wait(c->send_aio);
        nng_stream_close(c->stream);
        conn_free(c);
    }
    while (links->dialers != NULL) {
        struct link_dialer *d = links->dialers;
        links->dialers = d->next;
        link_dialer_free(d);
    }
    while (links->listeners != NULL) {
        struct link_listener *l = links->listeners;
        links->listeners = l->next;
        link_listener_free(l);
    }
    free(links->slots);
    free(links->free_slots);
    free(links);
}

enum ami_status link_send(struct links *links, env_link id, struct span frame)
{
    AMI_CHECK(frame.size > 0);
    struct conn *c = conn_find(links, id);
    if (c == NULL || c->closing || !c->announced)
        return AMI_CLOSED;
    const size_t overhead =
        LINK_LENGTH_BYTES + (c->channel != NULL ? CHANNEL_OVERHEAD_BYTES_MAX : 0);
    size_t queue_max = c->end->limits.queue_bytes_max;
    if (overhead > queue_max || frame.size > queue_max - overhead)
        return AMI_TOO_LARGE;
    if (conn_queued(c) + overhead + frame.size > queue_max) {
        c->wants_writable = true;
        c->end->counters.sends_refused++;
        return AMI_AGAIN;
    }
    uint8_t *out = conn_frame_reserve(c, frame.size + overhead - LINK_LENGTH_BYTES);
    if (out == NULL)
        return AMI_NO_MEMORY;
    size_t size = frame.size;
    if (c->channel != NULL)
        size = channel_seal(c->channel, out, frame);
    else
        memcpy(out, frame.data, frame.size);
    conn_frame_commit(c, size);
    c->end->counters.frames_out++;
    if (!c->sending && c->pending.size >= WRITE_EARLY_BYTES)
        conn_write(c);
    return AMI_OK;
}

size_t link_queued_bytes(const struct links *links, env_link id)
{
    const struct conn *c = conn_find(links, id);
    return c == NULL ? 0 : conn_queued(c);
}

void link_mark_known(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL || c->known)
        return;
    c->known = true;
    if (c->list == &c->end->strangers)
        conn_unlist(c);
    c->heard_us = clock_mono_us();
    if (c->end->limits.silent_ms != 0)
        links_deadline_add(links, conn_silence_ends(c));
    if (c->end->limits.idle_ms == 0)
        return;
    /* The first sign of life leaves at once: the other side waits for it. */
    c->signs = true;
    c->said_us = 0;
    links_deadline_add(links, c->heard_us);
}

void link_judge(struct links *links, int64_t wall_ms)
{
    links->judge_ms = wall_ms;
    /* Begun anew each time, one that is asked for often would never come to the last links. */
    links->judge_again = links->judging;
    if (links->judging)
        return;
    links->judging = true;
    links->judge_slot = 0;
    loop_post(links->loop, &links->judge_task);
}

void link_pause(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL)
        return;
    c->paused = true;
    c->half_since_us = 0;
}

void link_resume(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL || !c->paused)
        return;
    c->paused = false;
    c->heard_us = c->moved_us = clock_mono_us();
    if (c->known && c->end->limits.silent_ms != 0)
        links_deadline_add(links, conn_silence_ends(c));
    loop_post(links->loop, &c->kick_task);
}

void link_close(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL || c->closing)
        return;
    uint8_t *out = c->channel == NULL || !c->announced
                       ? NULL
                       : conn_frame_reserve(c, CHANNEL_OVERHEAD_BYTES_MAX);
    size_t size = out == NULL ? 0 : channel_close(c->channel, out);
    if (size > 0)
        conn_frame_commit(c, size);
    conn_linger(c);
}

const struct credential_identity *link_peer(const struct links *links, env_link id)
{
    const struct conn *c = conn_find(links, id);
    return c == NULL || c->channel == NULL || !c->announced ? NULL : channel_peer(c->channel);
}

uint8_t link_suite(const struct links *links, env_link id)
{
    const struct conn *c = conn_find(links, id);
    return c == NULL || c->channel == NULL || !c->announced ? 0 : c->channel->suite;
}

void link_drop(struct links *links, env_link id, enum link_drop_reason reason)
{
    AMI_CHECK((unsigned)reason < LINK_DROP_REASONS);
    struct conn *c = conn_find(links, id);
    if (c != NULL)
        conn_drop(c, reason);
}
