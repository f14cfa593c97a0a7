/* mdms/enrol.c - a device asks for its key material (protocol.md section 3).
 *
 *   loop   find the device, its code and what was issued before; the same request again gets the
 *          stored reply
 *   pool   open the code and the request, check the tag, issue
 *   loop   number, transaction, reply and used code into one write
 *   loop   when that is durable: the reply leaves
 *
 * What the store says about the device (code used, epoch taken) is decided on the loop but told
 * only to who knows the code: a stranger learns WRONG_CODE.
 */
#include "crypto/secret.h"
#include "mdms/codes.h"
#include "mdms/internal.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* A device's name in the table of enrolments under way; padding is zero. */
struct device_name {
    struct ami_id id;
    uint8_t role;
};

struct enrolment {
    struct job job;
    UT_hash_handle hh;
    struct enrolment *next; /* in ready or in_write */
    bool working;           /* in the pool */

    struct device_name name;
    uint32_t epoch;
    sm3_digest digest;
    env_link link; /* who gets the reply */
    bool relayed;
    uint64_t token;

    /* For the pool. */
    const struct network *net;
    const struct mdms_keys *keys;
    uint8_t request[ENROL_REQUEST_BYTES_MAX];
    size_t request_size;
    struct code_record code; /* its span points to sealed */
    uint8_t sealed[CODE_SEALED_BYTES];
    enum ami_status verdict; /* for who knows the code */
    struct ami_id home_dc;
    struct span home_part; /* in the genesis */
    uint8_t random[2][SM2_WIDE_BYTES];

    enum ami_status status;
    struct enrol_issued issued;
};

static void enrolment_free(struct mdms *m, struct enrolment *e)
{
    HASH_DEL(m->enrolling, e);
    secret_wipe(e, sizeof *e);
    free(e);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* When the way back is closed or full nothing is lost: the device asks again and gets the same. */
static void send_reply(struct mdms *m, env_link link, bool relayed, uint64_t token,
                       struct span reply)
{
    struct writer w;
    if (relayed) {
        uint8_t inner[ENROL_REPLY_BYTES_MAX + 8];
        struct writer f = writer_on(inner, sizeof inner);
        frame_begin(&f, MSG_ENROL_REPLY);
        write_raw(&f, reply.data, reply.size);
        AMI_CHECK(writer_ok(&f));
        struct relay r = {.token = token, .frame = writer_span(&f)};
        w = mdms_frame(m, MSG_RELAY_REPLY);
        relay_encode(&w, &r);
    } else {
        w = mdms_frame(m, MSG_ENROL_REPLY);
        write_raw(&w, reply.data, reply.size);
    }
    (void)mdms_send(m, link, writer_span(&w));
}

#define REFUSALS_LOGGED_MAX 10 /* per second: a stranger must not fill the log */

static bool may_log(struct mdms *m)
{
    uint64_t second = mdms_now_us(m) / 1000000;
    if (second != m->refusals_second) {
        m->refusals_second = second;
        m->refusals_logged = 0;
    }
    return m->refusals_logged++ < REFUSALS_LOGGED_MAX;
}

static void refuse(struct mdms *m, env_link link, bool relayed, uint64_t token,
                   const struct ami_id *id, uint32_t epoch, enum ami_status status)
{
    uint8_t reply[ENROL_REPLY_BYTES_MAX];
    size_t size = enrol_refuse(reply, id, epoch, status);
    m->stats.refused++;
    if (may_log(m))
        mdms_log(m, ENV_LOG_WARN, "enrolment_refused", "device=%s epoch=%u status=%s", id->text,
                 (unsigned)epoch, ami_status_name(status));
    send_reply(m, link, relayed, token, span_of(reply, size));
}

/* --- before the pool -------------------------------------------------------------------------- */

static bool same_name(const struct mdms_key *prefix, struct span key)
{
    return key.size > prefix->size && memcmp(key.data, prefix->b, prefix->size) == 0;
}

/* Greatest epoch in which this device is enrolled; 0: none. */
static uint32_t newest_epoch(struct mdms *m, uint8_t role, const struct ami_id *id)
{
    uint32_t newest = 0;
    struct mdms_key prefix = key_code(role, id); /* a device's key without the epoch */
    struct mdms_key from = key_device(role, id, 1);
    struct span key, value;
    while (mdms_seek(m, TABLE_DEVICES, &from, &key, &value) == AMI_OK && same_name(&prefix, key)) {
        uint8_t r;
        struct ami_id i;
        if (key_device_parse(&r, &i, &newest, key) != AMI_OK) {
            (void)mdms_damaged(m, TABLE_DEVICES);
            break;
        }
        if (newest == UINT32_MAX)
            break;
        from = key_device(role, id, newest + 1);
    }
    return newest;
}

static enum ami_status verdict_on(struct mdms *m, const struct enrolment *e)
{
    uint32_t newest = newest_epoch(m, e->name.role, &e->name.id);
    if (e->code.served_epoch != 0)
        return AMI_CODE_USED;
    if (e->epoch <= newest)
        return AMI_ALREADY_ENROLLED;
    return e->epoch == newest + 1 ? AMI_OK : AMI_WRONG_EPOCH;
}

static bool member_is_revoked(struct mdms *m, const struct member *dc)
{
    struct mdms_key key = key_device(DEVICE_DC, &dc->name, dc->key_epoch);
    struct span value;
    return mdms_get(m, TABLE_REVOCATIONS, &key, &value) == AMI_OK;
}

/* The home DC that was asked for when the code was made, else the next member in turn. */
static enum ami_status choose_home(struct mdms *m, struct enrolment *e)
{
    if (e->name.role == DEVICE_DC) {
        e->home_dc = e->name.id;
        return AMI_OK;
    }
    if (m->c.genesis == NULL)
        return AMI_AGAIN; /* there is no ledger yet that a meter could be put on */
    const struct members *all = &m->committee.members;
    const struct member *home = NULL;
    for (unsigned i = 0; i < all->count && e->code.has_home; i++) {
        if (ami_id_equal(&all->member[i].name, &e->code.home))
            home = &all->member[i];
    }
    if (e->code.has_home && home == NULL && may_log(m))
        mdms_log(m, ENV_LOG_WARN, "home_unknown", "meter=%s home=%s", e->name.id.text,
                 e->code.home.text);
    for (unsigned i = 0; i < all->count && (home == NULL || member_is_revoked(m, home)); i++)
        home = &all->member[m->home_next++ % all->count];
    e->home_dc = home->name;
    e->home_part = span_of(home->agree_part, home->agree_part_size);
    return AMI_OK;
}

/* --- in the work pool ------------------------------------------------------------------------- */

static void run(void *arg)
{
    struct enrolment *e = arg;
    struct enrol_request request;
    struct enrol_opened opened;
    sm3_digest code_hash;
    e->status = enrol_request_parse(&request, span_of(e->request, e->request_size));
    if (e->status == AMI_OK && code_open(&code_hash, &e->keys->enrol, e->name.role, &e->name.id,
                                         &e->code.c1, e->code.sealed) != AMI_OK)
        e->status = AMI_DAMAGED;
    if (e->status == AMI_OK)
        e->status = enrol_open(&opened, e->net, &e->keys->enrol, &request, &code_hash);
    if (e->status == AMI_OK)
        e->status = e->verdict;
    if (e->status == AMI_OK)
        e->status = enrol_issue(&e->issued, e->net, &e->keys->x, &opened, &e->home_dc, e->home_part,
                                (const uint8_t(*)[SM2_WIDE_BYTES])e->random);
    secret_wipe(&opened, sizeof opened);
    secret_wipe(&code_hash, sizeof code_hash);
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* Answers from what is stored or under way. True when there is nothing left to do. */
static bool answer_known(struct mdms *m, const struct device_name *name,
                         const struct enrol_request *request, const sm3_digest *digest,
                         env_link link, bool relayed, uint64_t token)
{
    struct mdms_key key = key_device(name->role, &name->id, request->epoch);
    struct span value;
    struct device_record d;
    enum ami_status found = mdms_get(m, TABLE_DEVICES, &key, &value);
    if (found == AMI_OK && device_record_parse(&d, value) != AMI_OK)
        found = mdms_damaged(m, TABLE_DEVICES);
    if (found == AMI_OK && sm3_equal(&d.request, digest)) {
        m->stats.repeated++;
        send_reply(m, link, relayed, token, d.reply);
        return true;
    }
    struct enrolment *e;
    HASH_FIND(hh, m->enrolling, name, sizeof *name, e);
    if (e == NULL)
        return false;
    if (sm3_equal(&e->digest, digest)) {
        /* Asked again before the answer was ready: it goes where it was asked last. */
        e->link = link;
        e->relayed = relayed;
        e->token = token;
    } else {
        refuse(m, link, relayed, token, &name->id, request->epoch, AMI_AGAIN);
    }
    return true;
}

/* Everything that the pool needs. */
static enum ami_status prepare(struct mdms *m, struct enrolment *e, struct span body)
{
    struct span value;
    struct mdms_key key = key_code(e->name.role, &e->name.id);
    enum ami_status found = mdms_get(m, TABLE_CODES, &key, &value);
    if (found != AMI_OK)
        return found == AMI_NOT_FOUND ? AMI_UNKNOWN_DEVICE : AMI_AGAIN;
    if (code_record_parse(&e->code, value) != AMI_OK || e->code.sealed.size != sizeof e->sealed ||
        body.size > sizeof e->request)
        return AMI_DAMAGED;
    memcpy(e->sealed, e->code.sealed.data, sizeof e->sealed);
    e->code.sealed = span_of(e->sealed, sizeof e->sealed);
    e->verdict = verdict_on(m, e);
    AMI_TRY(choose_home(m, e));
    if (m->failed != AMI_OK)
        return AMI_AGAIN; /* the verdict may rest on what could not be read */
    e->net = m->c.network;
    e->keys = m->c.keys;
    memcpy(e->request, body.data, body.size);
    e->request_size = body.size;
    mdms_random(m, e->random, sizeof e->random);
    return AMI_OK;
}

void enrol_on_request(struct mdms *m, env_link link, bool relayed, uint64_t token, struct span body)
{
    struct enrol_request request;
    if (enrol_request_parse(&request, body) != AMI_OK) {
        m->stats.frames_bad++;
        if (!relayed)
            m->env.close(m->env.ctx, link);
        return;
    }
    struct device_name name;
    memset(&name, 0, sizeof name);
    name.id = request.device;
    name.role = request.role;
    sm3_digest digest = enrol_request_digest(&request);
    enum ami_status status = AMI_OK;
    if ((request.role != DEVICE_METER && request.role != DEVICE_DC) || request.epoch == 0)
        status = AMI_BAD_ARGUMENT;
    else if (!sm3_equal(&request.network, &m->c.network->id))
        status = AMI_WRONG_CHAIN;
    else if (answer_known(m, &name, &request, &digest, link, relayed, token))
        return;
    struct enrolment *e = NULL;
    if (status == AMI_OK && HASH_COUNT(m->enrolling) >= MDMS_ENROL_MAX)
        status = AMI_AGAIN;
    if (status == AMI_OK && (e = calloc(1, sizeof *e)) == NULL)
        status = AMI_NO_MEMORY;
    if (e != NULL) {
        e->job.kind = JOB_ENROL;
        e->name = name;
        e->epoch = request.epoch;
        e->digest = digest;
        e->link = link;
        e->relayed = relayed;
        e->token = token;
        HASH_ADD(hh, m->enrolling, name, sizeof e->name, e);
        status = prepare(m, e, body);
        e->working = status == AMI_OK;
        if (status == AMI_OK && (status = mdms_work(m, run, &e->job)) == AMI_OK)
            return;
        enrolment_free(m, e);
    }
    refuse(m, link, relayed, token, &request.device, request.epoch, status);
}

void enrol_on_work(struct mdms *m, struct enrolment *e)
{
    e->working = false;
    if (e->status == AMI_OK) {
        LL_APPEND(m->ready, e);
        return;
    }
    if (e->status == AMI_DAMAGED && may_log(m))
        mdms_log(m, ENV_LOG_ERROR, "code_damaged", "device=%s", e->name.id.text);
    refuse(m, e->link, e->relayed, e->token, &e->name.id, e->epoch, e->status);
    enrolment_free(m, e);
}

/* --- storing ---------------------------------------------------------------------------------- */

static void stage_tx(struct mdms *m, const struct enrolment *e, uint64_t number)
{
    uint8_t bytes[512];
    struct writer w = writer_on(bytes, sizeof bytes);
    if (e->name.role == DEVICE_METER) {
        struct meter_enrol u = {.number = number,
                                .meter = e->name.id,
                                .epoch = e->epoch,
                                .home_dc = e->home_dc,
                                .w_report = e->issued.w_sign,
                                .agree_part = agree_part_span(&e->issued.agree_part)};
        meter_enrol_encode(&w, &u);
    } else {
        struct dc_enrol u = {.number = number,
                             .dc = e->name.id,
                             .epoch = e->epoch,
                             .w_sign = e->issued.w_sign,
                             .agree_part = agree_part_span(&e->issued.agree_part)};
        dc_enrol_encode(&w, &u);
    }
    AMI_CHECK(writer_ok(&w));
    outbox_stage_tx(m, e->name.role == DEVICE_METER ? TX_METER_ENROL : TX_DC_ENROL,
                    writer_span(&w));
}

static void stage_enrolment(struct mdms *m, const struct enrolment *e)
{
    uint8_t bytes[MDMS_RECORD_BYTES_MAX];
    /* Without a genesis there is no ledger: it will name its first members itself. */
    uint64_t number = 0;
    if (m->c.genesis != NULL) {
        number = ++m->staged.last;
        stage_tx(m, e, number);
    }
    struct device_record d = {.request = e->digest,
                              .enrolled_ms = m->env.clock_wall_ms(m->env.ctx),
                              .number = number,
                              .home_dc = e->home_dc,
                              .w_sign = e->issued.w_sign,
                              .agree_part = agree_part_span(&e->issued.agree_part),
                              .reply = span_of(e->issued.reply, e->issued.reply_size)};
    struct writer w = writer_on(bytes, sizeof bytes);
    device_record_encode(&w, &d);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_device(e->name.role, &e->name.id, e->epoch);
    mdms_write_put(&m->write, TABLE_DEVICES, &key, writer_span(&w));

    struct code_record code = e->code;
    code.served_epoch = e->epoch;
    w = writer_on(bytes, sizeof bytes);
    code_record_encode(&w, &code);
    AMI_CHECK(writer_ok(&w));
    key = key_code(e->name.role, &e->name.id);
    mdms_write_put(&m->write, TABLE_CODES, &key, writer_span(&w));
    if (e->name.role == DEVICE_METER)
        m->staged.meters++;
    else
        m->staged.dcs++;
}

bool enrol_stage(struct mdms *m)
{
    AMI_CHECK(m->in_write == NULL);
    for (unsigned n = 0; m->ready != NULL && n < MDMS_WRITE_ENROLS_MAX; n++) {
        struct enrolment *e = m->ready;
        LL_DELETE(m->ready, e);
        stage_enrolment(m, e);
        LL_PREPEND(m->in_write, e);
    }
    return m->in_write != NULL;
}

void enrol_on_stored(struct mdms *m, enum ami_status status)
{
    while (m->in_write != NULL) {
        struct enrolment *e = m->in_write;
        LL_DELETE(m->in_write, e);
        if (status == AMI_OK) {
            m->stats.enrolled++;
            mdms_log(m, ENV_LOG_DEBUG, "enrolled", "device=%s epoch=%u", e->name.id.text,
                     (unsigned)e->epoch);
            send_reply(m, e->link, e->relayed, e->token,
                       span_of(e->issued.reply, e->issued.reply_size));
        } else if (m->failed == AMI_OK) {
            /* What was drawn for it was never shown to anyone; it may ask again. */
            refuse(m, e->link, e->relayed, e->token, &e->name.id, e->epoch, status);
        }
        enrolment_free(m, e);
    }
}

size_t enrol_count(const struct mdms *m)
{
    return HASH_COUNT(m->enrolling);
}

void enrol_free(struct mdms *m)
{
    while (m->enrolling != NULL)
        enrolment_free(m, m->enrolling);
    m->ready = m->in_write = NULL;
}
