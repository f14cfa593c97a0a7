/* meter/cmd_enrol.c - `ami-meter enrol`: keys from the MDMS, for one device or thousands, the first
 * or those of the next key epoch.
 *
 * Many requests are under way at once over one link to the MDMS, or to a DC that passes them on. A
 * request and the secrets behind it are durable before it leaves, and the keys are durable before
 * the next device takes its place: after a crash the same request goes out again and gets the
 * stored reply.
 */
#include "base/check.h"
#include "base/table.h"
#include "meter/cli.h"
#include "net/file.h"
#include "net/link.h"
#include "net/progress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_MAX     256 /* requests under way */
#define REPLY_US       (5u * 1000000u)
#define RETRY_US       500000u
#define TICK_US        100000u
#define PENDING_BYTES  (SM3_BYTES + KEYFILE_BYTES_MAX)
#define REFUSALS_SHOWN 10

static const char *mdms_url, *dc_url, *code_text, *codes_path;
static int64_t timeout_ms = 60000, key_epoch = 1;
static bool quiet;

static const struct option_spec options[] = {
    CLI_OPTION_GENESIS,
    CLI_OPTION_DIR,
    {.name = "mdms",
     .kind = OPTION_TEXT,
     .value = &mdms_url,
     .argument = "URL",
     .help = "where the MDMS listens for devices"},
    {.name = "dc",
     .kind = OPTION_TEXT,
     .value = &dc_url,
     .argument = "URL",
     .help = "instead: the meter address of a DC, which passes the requests on"},
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &cli_common.id,
     .argument = "ID",
     .help = "one device"},
    {.name = "code",
     .kind = OPTION_TEXT,
     .value = &code_text,
     .argument = "CODE",
     .help = "its install code"},
    {.name = "codes",
     .kind = OPTION_TEXT,
     .value = &codes_path,
     .argument = "FILE",
     .help = "instead: a list of ids and codes, as written by `ami-mdms codes`"},
    {.name = "epoch",
     .kind = OPTION_INT,
     .value = &key_epoch,
     .min = 1,
     .max = UINT32_MAX,
     .argument = "E",
     .help = "key epoch (default 1; the next one renews the keys of enrolled meters)"},
    {.name = "timeout",
     .kind = OPTION_DURATION,
     .value = &timeout_ms,
     .min = 100,
     .max = 86400000,
     .argument = "TIME",
     .help = "give up when nothing goes on for so long (default 60s)"},
    {.name = "quiet",
     .letter = 'q',
     .kind = OPTION_FLAG,
     .value = &quiet,
     .help = "no progress on stderr"},
    CLI_OPTION_MAP,
    {0},
};

struct device {
    struct ami_id id;
    struct install_code code;
    size_t line;
};

/* A request under way. */
struct request {
    struct enrol_pending pending;
    uint64_t send_at_us; /* when to send (again) */
    bool answered;
    struct device_file file; /* when answered */
    enum ami_status last;    /* of the last refusal that was for the moment only */
    UT_hash_handle hh;       /* by pending.name.text */
};

struct enrol {
    struct genesis *g;
    struct meter_store *store;
    struct device *device;
    size_t count, next;
    struct request *requests;
    size_t answered; /* of those under way */

    struct loop *loop;
    struct links *links;
    struct loop_alarm tick;
    env_link link;
    bool welcomed, ever;
    uint64_t good_us; /* when something last went on */
    struct progress progress;

    size_t enrolled, already, refused;
    struct {
        struct ami_id id;
        enum ami_status status;
    } refusal[REFUSALS_SHOWN];
    enum ami_status result;
    struct why *why;
};

/* --- ids and codes --------------------------------------------------------------------------- */

static enum ami_status add_device(struct enrol *e, const char *id, const char *code,
                                  const char *where, size_t line, struct why *why)
{
    struct device *d = &e->device[e->count];
    struct why reason = {{0}};
    d->line = line;
    if (cli_id(&d->id, id, &reason) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING, "%s%s", where, reason.text);
    if (install_code_parse(&d->code, code) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING,
                       "%sthe install code of %s is none, or mistyped: expected seven groups of "
                       "four characters",
                       where, d->id.text);
    e->count++;
    return AMI_OK;
}

static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t size = strlen(s);
    while (size > 0 && strchr(" \t\r", s[size - 1]) != NULL)
        s[--size] = '\0';
    return s;
}

static enum ami_status parse_codes(struct enrol *e, char *text, struct why *why)
{
    size_t lines = 1, number = 0;
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    e->device = calloc(lines, sizeof *e->device);
    if (e->device == NULL)
        return AMI_NO_MEMORY;
    for (char *line = text, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        number++;
        line = trim(line);
        if (*line == '\0' || (number == 1 && strcmp(line, "id,code") == 0))
            continue;
        char where[256];
        snprintf(where, sizeof where, "%.200s:%zu: ", codes_path, number);
        char *comma = strchr(line, ',');
        if (comma == NULL)
            return why_set(why, AMI_BAD_ENCODING, "%sexpected \"id,code\"", where);
        *comma = '\0';
        AMI_TRY(add_device(e, trim(line), trim(comma + 1), where, number, why));
    }
    if (e->count == 0)
        return why_set(why, AMI_BAD_ENCODING, "%s: the list is empty", codes_path);
    return AMI_OK;
}

static int by_id(const void *a, const void *b)
{
    const struct device *x = a, *y = b;
    return ami_id_compare(&x->id, &y->id);
}

static enum ami_status read_codes(struct enrol *e, struct why *why)
{
    uint8_t *text;
    size_t size;
    AMI_TRY(file_read(codes_path, 1u << 30, &text, &size, why));
    enum ami_status status = parse_codes(e, (char *)text, why);
    secret_wipe(text, size);
    free(text);
    AMI_TRY(status);
    qsort(e->device, e->count, sizeof *e->device, by_id);
    for (size_t i = 1; i < e->count; i++)
        if (ami_id_equal(&e->device[i - 1].id, &e->device[i].id))
            return why_set(why, AMI_BAD_ENCODING, "%s: lines %zu and %zu both name %s", codes_path,
                           e->device[i - 1].line, e->device[i].line, e->device[i].id.text);
    return AMI_OK;
}

static enum ami_status read_devices(struct enrol *e, struct why *why)
{
    if ((mdms_url == NULL) == (dc_url == NULL))
        return why_set(why, AMI_BAD_ARGUMENT, "give either --mdms or --dc");
    if (codes_path != NULL) {
        if (cli_common.id != NULL || code_text != NULL)
            return why_set(why, AMI_BAD_ARGUMENT, "give either --codes, or --id and --code");
        return read_codes(e, why);
    }
    if (cli_common.id == NULL || code_text == NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "give --id and --code, or --codes");
    e->device = calloc(1, sizeof *e->device);
    return e->device == NULL ? AMI_NO_MEMORY : add_device(e, cli_common.id, code_text, "", 0, why);
}

/* --- the end --------------------------------------------------------------------------------- */

static void stop(struct enrol *e, enum ami_status status)
{
    if (e->result == AMI_OK)
        e->result = status;
    loop_stop(e->loop);
}

static void drop_request(struct enrol *e, struct request *r)
{
    HASH_DEL(e->requests, r);
    secret_wipe(r, sizeof *r);
    free(r);
}

/* --- requests -------------------------------------------------------------------------------- */

static sm3_digest code_mark(const sm3_digest *code_hash)
{
    struct span part = span_of(code_hash->b, sizeof code_hash->b);
    return sm3_labelled("amiledger pending code v1", &part, 1);
}

/* Takes up an enrolment that a former run began with the same code. */
static enum ami_status resume(struct enrol *e, struct request *r, const struct ami_id *id,
                              const sm3_digest *mark)
{
    uint8_t bytes[PENDING_BYTES];
    size_t size = 0;
    enum ami_status status = meter_store_pending(e->store, id, bytes, sizeof bytes, &size);
    if (status == AMI_OK && size <= SM3_BYTES)
        status = AMI_DAMAGED;
    /* Another code than last time: that request will never be answered well. */
    if (status == AMI_OK && memcmp(bytes, mark->b, SM3_BYTES) != 0)
        status = AMI_NOT_FOUND;
    if (status == AMI_OK)
        status = pending_file_parse(&r->pending, &e->g->network,
                                    span_of(bytes + SM3_BYTES, size - SM3_BYTES), NULL);
    if (status == AMI_OK && r->pending.epoch != (uint32_t)key_epoch)
        status = why_set(e->why, AMI_WRONG_EPOCH,
                         "the enrolment of %s for key epoch %u is under way with this code: "
                         "finish it first",
                         id->text, (unsigned)r->pending.epoch);
    secret_wipe(bytes, sizeof bytes);
    return status;
}

static enum ami_status begin(struct enrol *e, struct request *r, const struct device *d,
                             bool *fresh, uint8_t *bytes, size_t *size)
{
    sm3_digest hash = install_code_hash(&d->code, ENROL_METER, &d->id);
    sm3_digest mark = code_mark(&hash);
    *fresh = false;
    enum ami_status status = resume(e, r, &d->id, &mark);
    if (status == AMI_NOT_FOUND) {
        uint8_t random[3][SM2_WIDE_BYTES];
        *fresh = true;
        do {
            secret_random(random, sizeof random);
            status =
                enrol_begin(&r->pending, &e->g->network, ENROL_METER, &d->id, (uint32_t)key_epoch,
                            &hash, (const uint8_t(*)[SM2_WIDE_BYTES])random);
        } while (status == AMI_BAD_CRYPTO);
        secret_wipe(random, sizeof random);
        if (status == AMI_OK) {
            memcpy(bytes, mark.b, SM3_BYTES);
            status = pending_file_encode(bytes + SM3_BYTES, size, &r->pending, NULL);
            *size += SM3_BYTES;
        }
    }
    secret_wipe(&hash, sizeof hash);
    return status;
}

/* The key epoch of a device's keys; 0: it has none. */
static enum ami_status epoch_here(struct enrol *e, const struct ami_id *id, uint32_t *epoch)
{
    uint8_t bytes[KEYFILE_BYTES_MAX];
    struct device_file file;
    size_t size;
    enum ami_status status = meter_store_keys(e->store, id, bytes, sizeof bytes, &size);
    *epoch = 0;
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    if (status == AMI_OK)
        status = device_file_parse(&file, &e->g->network, span_of(bytes, size), NULL);
    secret_wipe(bytes, sizeof bytes);
    if (status == AMI_OK)
        *epoch = file.keys.epoch;
    secret_wipe(&file, sizeof file);
    return status;
}

/* Whether there is nothing to do for a device. The keys that are here are replaced by those of the
 * next epoch, and sessions are made with the present ones only: a report that still waits under the
 * old ones would wait for ever. */
static enum ami_status is_enrolled(struct enrol *e, const struct ami_id *id, bool *enrolled)
{
    struct meter_backlog backlog;
    uint32_t epoch;
    AMI_TRY(epoch_here(e, id, &epoch));
    *enrolled = epoch >= (uint32_t)key_epoch;
    if (*enrolled || epoch == 0)
        return AMI_OK;
    if (epoch + 1 < (uint32_t)key_epoch)
        return why_set(e->why, AMI_WRONG_EPOCH,
                       "%s has keys of epoch %u here: the next ones are those of epoch %u",
                       id->text, (unsigned)epoch, (unsigned)epoch + 1);
    AMI_TRY(meter_store_backlog(e->store, id, epoch, &backlog));
    return backlog.reports == 0
               ? AMI_OK
               : why_set(e->why, AMI_IN_USE,
                         "%s has reports that are not acknowledged yet, under its keys of epoch "
                         "%u: let `ami-meter run` or `fleet` send them first, or, when that key "
                         "was revoked, enrol it in another directory",
                         id->text, (unsigned)epoch);
}

struct fresh_batch {
    size_t count;
    struct meter_op op[WINDOW_MAX];
    uint8_t bytes[WINDOW_MAX][PENDING_BYTES];
};

/* Fills the window; what is new becomes durable in one transaction. */
static enum ami_status fill_window(struct enrol *e)
{
    static struct fresh_batch batch;
    enum ami_status status = AMI_OK;
    batch.count = 0;
    while (status == AMI_OK && e->next < e->count && HASH_COUNT(e->requests) < WINDOW_MAX) {
        const struct device *d = &e->device[e->next];
        bool enrolled;
        status = is_enrolled(e, &d->id, &enrolled);
        if (status != AMI_OK)
            break;
        if (enrolled) {
            e->already++;
            e->next++;
            continue;
        }
        struct request *r = calloc(1, sizeof *r);
        bool fresh = false;
        size_t size = 0;
        if (r == NULL)
            status = AMI_NO_MEMORY;
        else
            status = begin(e, r, d, &fresh, batch.bytes[batch.count], &size);
        if (status != AMI_OK) {
            if (e->why->text[0] == '\0')
                why_set(e->why, status, "the enrolment of %s cannot begin: %s", d->id.text,
                        ami_status_text(status));
            free(r);
            break;
        }
        HASH_ADD(hh, e->requests, pending.name.text, sizeof r->pending.name.text, r);
        e->next++;
        if (fresh) {
            batch.op[batch.count] =
                (struct meter_op){.kind = METER_OP_PENDING,
                                  .name = &r->pending.name,
                                  .record = span_of(batch.bytes[batch.count], size)};
            batch.count++;
        }
    }
    if (status == AMI_OK && batch.count > 0)
        status = meter_store_apply(e->store, batch.op, batch.count, e->why);
    secret_wipe(&batch, sizeof batch);
    return status;
}

static void send_due(struct enrol *e)
{
    uint64_t now = clock_mono_us();
    struct request *r, *tmp;
    if (!e->welcomed)
        return;
    HASH_ITER(hh, e->requests, r, tmp)
    {
        if (r->answered || r->send_at_us > now)
            continue;
        uint8_t frame[2 + ENROL_REQUEST_BYTES_MAX];
        struct writer w = writer_on(frame, sizeof frame);
        frame_begin(&w, MSG_ENROL_REQUEST);
        write_raw(&w, r->pending.request, r->pending.request_size);
        AMI_CHECK(writer_ok(&w));
        if (link_send(e->links, e->link, writer_span(&w)) != AMI_OK)
            return; /* the tick tries again */
        r->send_at_us = now + REPLY_US;
    }
}

static void go_on(struct enrol *e)
{
    enum ami_status status = fill_window(e);
    if (status != AMI_OK) {
        stop(e, status);
        return;
    }
    if (HASH_COUNT(e->requests) == 0) {
        stop(e, AMI_OK);
        return;
    }
    send_due(e);
}

/* --- replies --------------------------------------------------------------------------------- */

/* A key epoch begins with report 1; all else goes on where the epoch before ended. */
static enum ami_status first_state(struct enrol *e, const struct request *r,
                                   struct meter_state *out)
{
    enum ami_status status =
        meter_store_state(e->store, &r->pending.name, r->pending.epoch - 1, out);
    if (status != AMI_OK)
        *out = (struct meter_state){0};
    out->next_sequence = 1;
    return status == AMI_NOT_FOUND ? AMI_OK : status;
}

/* The keys of all that were answered meanwhile become durable together. */
static enum ami_status keep_keys(struct enrol *e)
{
    static struct fresh_batch batch;
    struct request *r, *tmp;
    enum ami_status status = AMI_OK;
    batch.count = 0;
    HASH_ITER(hh, e->requests, r, tmp)
    {
        size_t size;
        struct meter_state state;
        if (!r->answered || status != AMI_OK)
            continue;
        status = first_state(e, r, &state);
        if (status != AMI_OK)
            continue;
        status =
            device_file_encode(batch.bytes[batch.count], &size, &e->g->network, &r->file, NULL);
        batch.op[batch.count] = (struct meter_op){.kind = METER_OP_KEYS,
                                                  .name = &r->pending.name,
                                                  .epoch = r->file.keys.epoch,
                                                  .record = span_of(batch.bytes[batch.count], size),
                                                  .state = state};
        batch.count++;
    }
    if (status == AMI_OK && batch.count > 0)
        status = meter_store_apply(e->store, batch.op, batch.count, e->why);
    secret_wipe(&batch, sizeof batch);
    if (status != AMI_OK)
        return status;
    HASH_ITER(hh, e->requests, r, tmp)
    {
        if (!r->answered)
            continue;
        e->enrolled++;
        drop_request(e, r);
    }
    e->answered = 0;
    progress_update(&e->progress, e->enrolled + e->already + e->refused, NULL);
    return AMI_OK;
}

static bool is_final(enum ami_status status)
{
    switch ((int)status) {
    case AMI_WRONG_CODE:
    case AMI_CODE_USED:
    case AMI_UNKNOWN_DEVICE:
    case AMI_ALREADY_ENROLLED:
    case AMI_REVOKED:
    case AMI_WRONG_CHAIN:
    case AMI_WRONG_SCHEME:
    case AMI_WRONG_EPOCH:
    case AMI_BAD_CRYPTO:
    case AMI_BAD_ENCODING:
    case AMI_BAD_ARGUMENT:
    case AMI_UNSUPPORTED:
        return true;
    default:
        return false;
    }
}

/* The pending record stays: a refusal is not authenticated, and a request that the MDMS has
 * answered once must be the one that is sent again. */
static void on_refusal(struct enrol *e, struct request *r, enum ami_status status)
{
    if (!is_final(status)) {
        r->last = status;
        r->send_at_us = clock_mono_us() + RETRY_US;
        return;
    }
    if (e->refused < REFUSALS_SHOWN) {
        e->refusal[e->refused].id = r->pending.name;
        e->refusal[e->refused].status = status;
    }
    e->refused++;
    e->good_us = clock_mono_us();
    drop_request(e, r);
}

static void on_reply(struct enrol *e, struct span body)
{
    struct enrol_reply reply;
    struct request *r = NULL;
    if (enrol_reply_parse(&reply, body) != AMI_OK)
        return;
    HASH_FIND(hh, e->requests, reply.device.text, sizeof reply.device.text, r);
    if (r == NULL || r->answered)
        return;
    enum ami_status status = enrol_finish(&r->file.keys, &r->pending, &e->g->network, &reply);
    if (reply.status != AMI_OK) {
        on_refusal(e, r, status);
        go_on(e);
        return;
    }
    if (status != AMI_OK)
        return; /* not from the MDMS: the right reply may still come */
    r->file.has_chain = true;
    r->file.chain = e->g->members.chain;
    r->answered = true;
    e->answered++;
    e->good_us = clock_mono_us();
    /* Half a window of answers shares one sync; the tick takes care of what is left. */
    if (e->answered * 2 >= HASH_COUNT(e->requests)) {
        status = keep_keys(e);
        if (status != AMI_OK)
            stop(e, status);
        else
            go_on(e);
    }
}

/* --- the link -------------------------------------------------------------------------------- */

static void on_open(void *ctx, env_link link, const char *remote)
{
    struct enrol *e = ctx;
    (void)remote;
    e->link = link;
    /* No chain: the link is for enrolments only. */
    struct meter_hello hello = {.scheme = e->g->network.scheme};
    uint8_t frame[64];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    AMI_CHECK(writer_ok(&w));
    if (link_send(e->links, link, writer_span(&w)) != AMI_OK)
        link_close(e->links, link);
}

static void on_welcome(struct enrol *e, struct span body)
{
    struct meter_welcome w;
    if (meter_welcome_parse(&w, body) != AMI_OK) {
        link_drop(e->links, e->link, LINK_DROP_GARBAGE);
        return;
    }
    if (w.status != AMI_OK) {
        enum ami_status status =
            w.status < AMI_STATUS_COUNT ? (enum ami_status)w.status : AMI_BAD_ENCODING;
        why_set(e->why, status, "%s refuses the link: %s", mdms_url != NULL ? mdms_url : dc_url,
                ami_status_text(status));
        stop(e, status);
        return;
    }
    e->welcomed = true;
    e->ever = true;
    e->good_us = clock_mono_us();
    struct request *r, *tmp;
    HASH_ITER(hh, e->requests, r, tmp)
    {
        r->send_at_us = 0;
    }
    go_on(e);
}

static void on_frame(void *ctx, env_link link, struct span frame)
{
    struct enrol *e = ctx;
    enum message_type type;
    struct span body;
    (void)link;
    if (frame_open(frame, &type, &body) != AMI_OK)
        link_drop(e->links, e->link, LINK_DROP_GARBAGE);
    else if (type == MSG_METER_WELCOME && !e->welcomed)
        on_welcome(e, body);
    else if (type == MSG_ENROL_REPLY)
        on_reply(e, body);
}

static void on_closed(void *ctx, env_link link, enum ami_status why)
{
    struct enrol *e = ctx;
    (void)link;
    (void)why;
    e->link = 0;
    e->welcomed = false;
}

static void on_writable(void *ctx, env_link link)
{
    (void)link;
    send_due(ctx);
}

static void give_up(struct enrol *e)
{
    const char *url = mdms_url != NULL ? mdms_url : dc_url;
    const struct request *r, *tmp;
    enum ami_status last = AMI_OK;
    HASH_ITER(hh, e->requests, r, tmp)
    {
        if (r->last != AMI_OK)
            last = r->last;
    }
    if (!e->ever)
        stop(e, why_set(e->why, AMI_UNREACHABLE, "%s cannot be reached", url));
    else
        stop(e, why_set(e->why, AMI_TIMEOUT,
                        "%s has answered nothing new for %" PRId64
                        " s%s%s; %zu of %zu devices are enrolled, run it again for the others",
                        url, timeout_ms / 1000, last != AMI_OK ? ", the last answer was: " : "",
                        last != AMI_OK ? ami_status_text(last) : "", e->enrolled + e->already,
                        e->count));
}

static void on_tick(void *arg)
{
    struct enrol *e = arg;
    uint64_t now = clock_mono_us();
    enum ami_status status = keep_keys(e);
    if (status != AMI_OK)
        stop(e, status);
    else if (now - e->good_us > (uint64_t)timeout_ms * 1000u)
        give_up(e);
    else
        go_on(e);
    loop_alarm_set(e->loop, &e->tick, now + TICK_US);
}

/* --- all of it ------------------------------------------------------------------------------- */

static void on_signal(void *arg)
{
    struct enrol *e = arg;
    stop(e, why_set(e->why, AMI_CLOSED,
                    "stopped; %zu of %zu devices are enrolled, run it again for the others",
                    e->enrolled + e->already, e->count));
}

static enum ami_status talk(struct enrol *e, struct why *why)
{
    const char *url = mdms_url != NULL ? mdms_url : dc_url;
    const struct link_limits limits = {.frame_bytes_max = AMI_FRAME_METER_BYTES_MAX,
                                       .queue_bytes_max = 1u << 20,
                                       .half_frame_ms = 30000};
    const struct link_events events = {.ctx = e,
                                       .on_open = on_open,
                                       .on_frame = on_frame,
                                       .on_closed = on_closed,
                                       .on_writable = on_writable};
    struct link_dialer *dialer;
    e->loop = loop_new();
    e->links = e->loop == NULL ? NULL : links_new(e->loop);
    if (e->links == NULL)
        return AMI_NO_MEMORY;
    if (!loop_catch_signals(e->loop, on_signal, e))
        return why_set(why, AMI_IO, "the system refuses to catch signals");
    e->tick = (struct loop_alarm){.fire = on_tick, .arg = e};
    AMI_TRY(link_dial(e->links, url, &limits, 1000, &events, &dialer, why));
    e->good_us = clock_mono_us();
    progress_begin(&e->progress, stderr, quiet || e->count == 1, "enrolment", "devices", e->count);
    loop_alarm_set(e->loop, &e->tick, e->good_us);
    loop_run(e->loop);
    progress_end(&e->progress, NULL);
    return e->result;
}

static enum ami_status enrol_all(struct enrol *e, struct why *why)
{
    AMI_TRY(read_devices(e, why));
    AMI_TRY(cli_genesis(&e->g, why));
    AMI_TRY(cli_store(&e->store, METER_STORE_CREATE, e->g, why));
    AMI_TRY(talk(e, why));
    if (e->refused == 0)
        return AMI_OK;
    if (e->count == 1)
        return why_set(why, e->refusal[0].status, "%s was refused: %s", e->refusal[0].id.text,
                       ami_status_text(e->refusal[0].status));
    for (size_t i = 0; i < e->refused && i < REFUSALS_SHOWN; i++)
        fprintf(stderr, PROGRAM ": %s was refused: %s\n", e->refusal[i].id.text,
                ami_status_text(e->refusal[i].status));
    return why_set(why, e->refusal[0].status,
                   "%zu of %zu devices were refused, the first is %s: %s", e->refused, e->count,
                   e->refusal[0].id.text, ami_status_text(e->refusal[0].status));
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {{0}};
    struct enrol e = {.why = &why};
    enum ami_status status = enrol_all(&e, &why);
    if (e.enrolled + e.already > 0)
        printf("enrolled %zu meters (%zu were enrolled already)\n", e.enrolled, e.already);
    links_free(e.links);
    loop_free(e.loop);
    struct request *r, *tmp;
    HASH_ITER(hh, e.requests, r, tmp)
    {
        drop_request(&e, r);
    }
    meter_store_close(e.store);
    if (e.device != NULL)
        secret_wipe(e.device, e.count * sizeof *e.device);
    free(e.device);
    free(e.g);
    /* A refusal is a failed check, whatever its status is called. */
    if (status != AMI_OK && e.refused > 0)
        return program_fail(PROGRAM, false, AMI_WRONG_CODE, &why);
    return status == AMI_OK ? EXIT_STATUS_OK : cli_fail(status, &why);
}

const struct command_spec COMMAND_ENROL = {
    .name = "enrol",
    .summary = "gets the keys of one meter or of thousands from the MDMS",
    .example = "ami-meter enrol --genesis genesis.json --dir fleet --mdms tcp://10.0.0.1:7400 "
               "--codes codes.csv\n"
               "ami-meter enrol --genesis genesis.json --dir meter --dc tcp://10.0.0.11:7201 --id "
               "meter-17 --code CODE",
    .options = options,
    .run = run,
};
