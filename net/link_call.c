#include <nng/nng.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "crypto/secret.h"
#include "net/link.h"
#include "net/link_url.h"

#define CHUNK_BYTES (64u << 10) /* a buffer grows by so much beyond what has arrived */

struct link_caller {
    nng_stream_dialer *dialer;
    nng_stream *stream;
    nng_aio *aio; /* one operation at a time, waited for */
    size_t frame_bytes_max;
    uint8_t *buffer; /* of what is received */
    size_t capacity;
    struct channel *channel; /* NULL: in the clear */
    uint8_t *sealed;         /* room for a record, as large as the largest so far */
    size_t sealed_capacity;
    char url[LINK_URL_BYTES];
};

/* Milliseconds left until `deadline_us`, at least 1 so that nng's "infinite" is never meant. */
static nng_duration left_ms(uint64_t deadline_us)
{
    uint64_t now = clock_mono_us();
    uint64_t ms = now < deadline_us ? (deadline_us - now + 999) / 1000 : 0;
    return ms < 1 ? 1 : ms > 86400000 ? 86400000 : (nng_duration)ms;
}

static uint64_t deadline_of(uint32_t timeout_ms)
{
    return clock_mono_us() + (uint64_t)timeout_ms * 1000;
}

static enum ami_status say(const struct link_caller *c, int error, struct why *why)
{
    enum ami_status status = link_status_of_nng(error);
    if (status == AMI_TIMEOUT)
        return why_set(why, status, "%s did not answer in time", c->url);
    if (status == AMI_CLOSED)
        return why_set(why, status, "%s closed the connection", c->url);
    return why_set(why, status, "%s cannot be reached: %s", c->url, nng_strerror(error));
}

/* One whole transfer of `iov`, whose places are moved along. */
static enum ami_status transfer(struct link_caller *c, bool out, nng_iov *iov, unsigned count,
                                uint64_t deadline_us, struct why *why)
{
    for (;;) {
        while (count > 0 && iov->iov_len == 0) {
            iov++;
            count--;
        }
        if (count == 0)
            return AMI_OK;
        AMI_CHECK(nng_aio_set_iov(c->aio, count, iov) == 0);
        nng_aio_set_timeout(c->aio, left_ms(deadline_us));
        if (out)
            nng_stream_send(c->stream, c->aio);
        else
            nng_stream_recv(c->stream, c->aio);
        nng_aio_wait(c->aio);
        int error = nng_aio_result(c->aio);
        size_t done = nng_aio_count(c->aio);
        if (error == 0 && done == 0)
            error = NNG_ECLOSED;
        if (error == 0 && clock_mono_us() > deadline_us)
            error = NNG_ETIMEDOUT; /* a trickle does not stretch the time */
        if (error != 0)
            return say(c, error, why);
        for (unsigned i = 0; i < count; i++) {
            size_t part = done < iov[i].iov_len ? done : iov[i].iov_len;
            iov[i].iov_buf = (uint8_t *)iov[i].iov_buf + part;
            iov[i].iov_len -= part;
            done -= part;
        }
        AMI_CHECK(done == 0);
    }
}

static enum ami_status send_plain(struct link_caller *c, struct span frame, uint64_t deadline_us,
                                  struct why *why)
{
    AMI_CHECK(frame.size > 0 &&
              frame.size <= AMI_FRAME_PEER_BYTES_MAX + CHANNEL_OVERHEAD_BYTES_MAX);
    uint8_t prefix[LINK_LENGTH_BYTES];
    store_be32(prefix, (uint32_t)frame.size);
    nng_iov iov[2] = {{.iov_buf = prefix, .iov_len = sizeof prefix},
                      {.iov_buf = (void *)(uintptr_t)frame.data, .iov_len = frame.size}};
    return transfer(c, true, iov, 2, deadline_us, why);
}

static enum ami_status receive_plain(struct link_caller *c, struct span *frame,
                                     uint64_t deadline_us, struct why *why)
{
    uint8_t prefix[LINK_LENGTH_BYTES];
    nng_iov iov = {.iov_buf = prefix, .iov_len = sizeof prefix};
    AMI_TRY(transfer(c, false, &iov, 1, deadline_us, why));
    size_t size = load_be32(prefix);
    if (size == 0)
        return why_set(why, AMI_BAD_ENCODING, "%s sent a frame of no bytes", c->url);
    size_t size_max = c->frame_bytes_max;
    if (c->channel != NULL)
        size_max = c->channel->state == CHANNEL_UP ? size_max + CHANNEL_OVERHEAD_BYTES_MAX
                                                   : CHANNEL_FLIGHT_BYTES_MAX;
    if (size > size_max)
        return why_set(why, AMI_TOO_LARGE,
                       "%s announces a frame of %zu bytes, more than the %zu allowed", c->url, size,
                       size_max);
    for (size_t have = 0; have < size;) {
        /* Memory follows what has arrived, not what the prefix promises. */
        size_t want = size - have < CHUNK_BYTES ? size - have : CHUNK_BYTES;
        if (c->capacity - have < want) {
            size_t capacity = c->capacity * 2 > have + want ? c->capacity * 2 : have + want;
            uint8_t *buffer = realloc(c->buffer, capacity);
            if (buffer == NULL)
                return why_set(why, AMI_NO_MEMORY, "no memory for an answer of %zu bytes", size);
            c->buffer = buffer;
            c->capacity = capacity;
        }
        iov = (nng_iov){.iov_buf = c->buffer + have, .iov_len = want};
        AMI_TRY(transfer(c, false, &iov, 1, deadline_us, why));
        have += want;
    }
    *frame = span_of(c->buffer, size);
    return AMI_OK;
}

/* --- channels -------------------------------------------------------------------------------- */

/* One frame for the channel, and its answer sent. */
static enum ami_status channel_turn(struct link_caller *c, struct channel_result *result,
                                    uint64_t deadline_us, struct why *why)
{
    uint8_t reply[CHANNEL_FLIGHT_BYTES_MAX];
    struct span frame;
    AMI_TRY(receive_plain(c, &frame, deadline_us, why));
    *result = channel_receive(c->channel, c->buffer, frame.size, reply, clock_wall_ms());
    if (result->reply_size > 0)
        AMI_TRY(send_plain(c, span_of(reply, result->reply_size), deadline_us, why));
    if (result->event != CHANNEL_FAILED)
        return AMI_OK;
    return why_set(why, AMI_NOT_ALLOWED, "no channel with %s: %s", c->url,
                   channel_fault_text(channel_why(c->channel)));
}

static enum ami_status open_channel(struct link_caller *c, const struct channel_config *config,
                                    uint64_t deadline_us, struct why *why)
{
    uint8_t random[CHANNEL_RANDOM_BYTES], first[CHANNEL_FIRST_BYTES];
    struct channel_result result = {.event = CHANNEL_NOTHING};
    c->channel = calloc(1, sizeof *c->channel);
    if (c->channel == NULL)
        return why_set(why, AMI_NO_MEMORY, "no memory for a channel with %s", c->url);
    secret_random(random, sizeof random);
    channel_start(c->channel, config, true, random, clock_wall_ms());
    secret_wipe(random, sizeof random);
    channel_first(c->channel, first);
    AMI_TRY(send_plain(c, span_of(first, sizeof first), deadline_us, why));
    while (result.event != CHANNEL_OPEN)
        AMI_TRY(channel_turn(c, &result, deadline_us, why));
    return AMI_OK;
}

static enum ami_status send_until(struct link_caller *c, struct span frame, uint64_t deadline_us,
                                  struct why *why)
{
    if (c->channel == NULL)
        return send_plain(c, frame, deadline_us, why);
    AMI_CHECK(frame.size > 0 && frame.size <= AMI_FRAME_PEER_BYTES_MAX);
    const size_t room = frame.size + CHANNEL_OVERHEAD_BYTES_MAX;
    if (c->channel->state != CHANNEL_UP)
        return why_set(why, AMI_CLOSED, "%s closed the connection", c->url);
    if (c->sealed_capacity < room) {
        uint8_t *sealed = realloc(c->sealed, room);
        if (sealed == NULL)
            return why_set(why, AMI_NO_MEMORY, "no memory for a question of %zu bytes", frame.size);
        c->sealed = sealed;
        c->sealed_capacity = room;
    }
    size_t size = channel_seal(c->channel, c->sealed, frame);
    return send_plain(c, span_of(c->sealed, size), deadline_us, why);
}

static enum ami_status receive_until(struct link_caller *c, struct span *frame,
                                     uint64_t deadline_us, struct why *why)
{
    struct channel_result result = {.event = CHANNEL_NOTHING};
    if (c->channel == NULL)
        return receive_plain(c, frame, deadline_us, why);
    while (result.event != CHANNEL_DATA || result.data.size == 0) { /* empty: a sign of life */
        enum ami_status status = channel_turn(c, &result, deadline_us, why);
        if (status == AMI_CLOSED && channel_cut(c->channel) == FAULT_CUT)
            return why_set(why, AMI_UNREACHABLE, "%s: %s", c->url, channel_fault_text(FAULT_CUT));
        AMI_TRY(status);
        if (result.event == CHANNEL_CLOSED)
            return why_set(why, AMI_CLOSED, "%s closed the connection", c->url);
    }
    if (result.data.size > c->frame_bytes_max)
        return why_set(why, AMI_TOO_LARGE,
                       "%s sent a frame of %zu bytes, more than the %zu allowed", c->url,
                       result.data.size, c->frame_bytes_max);
    *frame = result.data;
    return AMI_OK;
}

static void caller_close(struct link_caller *c)
{
    uint8_t out[CHANNEL_OVERHEAD_BYTES_MAX];
    if (c == NULL)
        return;
    /* So that the other side knows that nobody cut it. It may be gone: then this is not needed. */
    const size_t size = c->channel == NULL ? 0 : channel_close(c->channel, out);
    if (size > 0)
        (void)send_plain(c, span_of(out, size), deadline_of(LINK_LINGER_MS), NULL);
    if (c->stream != NULL)
        nng_stream_close(c->stream);
    if (c->dialer != NULL)
        nng_stream_dialer_close(c->dialer);
    if (c->aio != NULL)
        nng_aio_free(c->aio);
    if (c->stream != NULL)
        nng_stream_free(c->stream);
    if (c->dialer != NULL)
        nng_stream_dialer_free(c->dialer);
    if (c->channel != NULL)
        channel_wipe(c->channel);
    free(c->channel);
    free(c->sealed);
    if (c->buffer != NULL)
        secret_wipe(c->buffer, c->capacity); /* answers were opened in it */
    free(c->buffer);
    free(c);
}

static enum ami_status caller_open(const char *address, uint32_t timeout_ms, size_t frame_bytes_max,
                                   const struct channel_config *security, struct link_caller **out,
                                   struct why *why)
{
    const uint64_t deadline_us = deadline_of(timeout_ms);
    AMI_CHECK(frame_bytes_max > 0 && frame_bytes_max <= AMI_FRAME_PEER_BYTES_MAX);
    char url[LINK_URL_BYTES];
    AMI_TRY(link_url(address, false, url, why));
    struct link_caller *c = calloc(1, sizeof *c);
    if (c == NULL)
        return why_set(why, AMI_NO_MEMORY, "no memory to dial %s", address);
    memcpy(c->url, url, sizeof url);
    c->frame_bytes_max = frame_bytes_max;
    int error = nng_stream_dialer_alloc(&c->dialer, url);
    if (error == 0)
        error = nng_stream_dialer_set_bool(c->dialer, NNG_OPT_TCP_NODELAY, true);
    if (error == 0)
        error = nng_aio_alloc(&c->aio, NULL, NULL);
    if (error == 0) {
        nng_aio_set_timeout(c->aio, left_ms(deadline_us));
        nng_stream_dialer_dial(c->dialer, c->aio);
        nng_aio_wait(c->aio);
        error = nng_aio_result(c->aio);
    }
    if (error != 0) {
        enum ami_status status = say(c, error, why);
        caller_close(c);
        return status;
    }
    c->stream = (nng_stream *)nng_aio_get_output(c->aio, 0);
    if (security != NULL) {
        enum ami_status status = open_channel(c, security, deadline_us, why);
        if (status != AMI_OK) {
            caller_close(c);
            return status;
        }
    }
    *out = c;
    return AMI_OK;
}

enum ami_status link_call(const char *address, const struct channel_config *security,
                          struct span request, uint32_t timeout_ms, uint8_t *reply,
                          size_t reply_max, size_t *reply_size, struct why *why)
{
    uint64_t deadline_us = deadline_of(timeout_ms);
    struct link_caller *c = NULL;
    struct span frame = {0};
    AMI_TRY(caller_open(address, timeout_ms, reply_max, security, &c, why));
    enum ami_status status = send_until(c, request, deadline_us, why);
    if (status == AMI_OK)
        status = receive_until(c, &frame, deadline_us, why);
    if (status == AMI_OK) {
        AMI_CHECK(frame.size <= reply_max);
        memcpy(reply, frame.data, frame.size);
        *reply_size = frame.size;
    }
    caller_close(c);
    return status;
}
