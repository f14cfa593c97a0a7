#include "meter/internal.h"

#include "crypto/secret.h"

#include <string.h>

#define HOPS_MAX      3        /* redirections in a row before it waits instead */
#define STARVED_RETRY 1000000u /* meter_on_writable comes earlier */

struct meter_timing meter_timing_default(void)
{
    return (struct meter_timing){.answer_ms = 2000,
                                 .answer_ms_max = 16000,
                                 .ack_ms = 4000,
                                 .ack_ms_max = 60000,
                                 .insist_ms = 4000,
                                 .backoff_ms_min = 100,
                                 .backoff_ms_max = 5000,
                                 .resend_ms = 500,
                                 .spread_ms = 50};
}

void meter_shared_init(struct meter_shared *s, const struct genesis *genesis,
                       struct headers *headers, const struct env *env)
{
    memset(s, 0, sizeof *s);
    s->genesis = genesis;
    s->headers = headers;
    s->env = env;
    s->timing = meter_timing_default();
    s->leader = METER_NO_MEMBER;
}

/* --- small things ---------------------------------------------------------------------------- */

uint64_t meter_now_us(const struct meter *m)
{
    return m->shared->env->clock_mono_us(m->ctx);
}

uint32_t meter_now_s(const struct meter *m)
{
    return (uint32_t)(meter_now_us(m) / 1000000u);
}

/* In [0, limit); the bias is of no interest for jitter. */
uint64_t meter_random_below(const struct meter *m, uint64_t limit)
{
    uint64_t v;
    m->shared->env->random(m->ctx, &v, sizeof v);
    return limit == 0 ? 0 : v % limit;
}

void meter_note(const struct meter *m, enum meter_note_kind kind, uint64_t value)
{
    if (m->shared->note != NULL)
        m->shared->note(m->ctx, kind, value);
}

/* DCs that have a place; some of them may have left. */
static uint8_t member_count(const struct meter *m)
{
    return m->shared->headers->dc_count;
}

static bool is_open(const struct meter *m, uint8_t member)
{
    return (m->shared->open >> member & 1u) != 0;
}

static env_link link_of(uint8_t member)
{
    return (env_link)member + 1;
}

static uint64_t spread_us(const struct meter *m)
{
    return meter_random_below(m, (uint64_t)m->shared->timing.spread_ms * 1000u);
}

/* Doubles with each attempt up to its limit; half of it is random. */
static uint64_t backoff_us(const struct meter *m)
{
    const struct meter_timing *t = &m->shared->timing;
    unsigned doublings = m->attempts < 16 ? m->attempts : 16;
    uint64_t ms = (uint64_t)t->backoff_ms_min << doublings;
    if (ms > t->backoff_ms_max)
        ms = t->backoff_ms_max;
    return ms * 500u + meter_random_below(m, ms * 500u);
}

uint64_t meter_patience_us(uint32_t least_ms, uint32_t most_ms, uint64_t usual_us,
                           unsigned doublings)
{
    uint64_t us = (uint64_t)least_ms * 1000u;
    if (us < 4 * usual_us)
        us = 4 * usual_us;
    us <<= doublings < 16 ? doublings : 16;
    uint64_t most = (uint64_t)most_ms * 1000u;
    return us < most ? us : most;
}

unsigned meter_rounds(const struct meter *m, unsigned asked)
{
    return asked / member_count(m);
}

void meter_learn_us(uint64_t *usual, uint64_t sample)
{
    if (sample > 60u * 1000000u)
        sample = 60u * 1000000u; /* the network was down, that is not how long it takes */
    *usual = *usual - *usual / 16 + sample / 16;
}

void meter_rearm(struct meter *m)
{
    uint64_t at = m->wake_us;
    if (m->phase == METER_IN_SESSION && m->resend_us < at)
        at = m->resend_us;
    if (m->settle_us < at)
        at = m->settle_us;
    m->shared->env->set_alarm(m->ctx, at);
}

/* --- choosing a DC --------------------------------------------------------------------------- */

static uint8_t preferred(const struct meter *m)
{
    const struct meter_shared *s = m->shared;
    if (s->genesis->parameters.gateway == GATEWAY_LEADER && s->leader < member_count(m))
        return s->leader;
    return m->home;
}

/* The next open member after `from`, round robin, that was not asked since the last success. When
 * all were, it begins anew: whatever some of them do, everyone is asked again and again. `from`
 * itself when no other is open. */
static uint8_t next_member(struct meter *m, uint8_t from)
{
    uint8_t n = member_count(m);
    for (int round = 0; round < 2; round++) {
        for (uint8_t i = 1; i < n; i++) {
            uint8_t k = (uint8_t)((from + i) % n);
            if (is_open(m, k) && (m->tried >> k & 1u) == 0)
                return k;
        }
        m->tried = 0;
        m->failed_us = 0;
        m->ended = 0;
    }
    return from;
}

/* Whether to ask this DC to be the gateway although it may not lead, or is not the home DC. */
static bool must_insist(const struct meter *m)
{
    const struct meter_shared *s = m->shared;
    if (s->genesis->parameters.gateway == GATEWAY_HOME)
        return m->target != m->home;
    if (m->vain > 0 || m->failed_us != 0)
        return true;
    return m->waiting_us != 0 &&
           meter_now_us(m) > m->waiting_us + (uint64_t)s->timing.insist_ms * 1000u;
}

/* --- phases ---------------------------------------------------------------------------------- */

static void leave(struct meter *m)
{
    secret_wipe(&m->u, sizeof m->u);
    m->session_id = 0;
    m->resend_us = UINT64_MAX;
    m->starved = false;
    if (m->waiting_us == 0)
        m->waiting_us = meter_now_us(m);
}

/* Waits `delay_us`, then tries `target`. Who has waited for nobody before waits for somebody from
 * then on: the spread of a large city is no leader's fault. */
static void pause_for(struct meter *m, uint8_t target, uint64_t delay_us)
{
    const bool well = m->waiting_us == 0;
    leave(m);
    if (well)
        m->waiting_us += delay_us;
    m->phase = METER_PAUSE;
    m->target = target;
    m->wake_us = meter_now_us(m) + delay_us;
}

static void draw_flight1(struct meter *m)
{
    const struct env *env = m->shared->env;
    uint8_t wide[SM2_WIDE_BYTES];
    enum ami_status status;
    env->random(m->ctx, &m->tag, sizeof m->tag);
    do {
        env->random(m->ctx, wide, sizeof wide);
        status = agree_meter_start(&m->u.agree, &m->keys.agree, m->tag, must_insist(m), wide);
    } while (status != AMI_OK);
    secret_wipe(wide, sizeof wide);
}

/* A flight that found no room on the link is kept: it was never seen and costs a product to make.
 */
static enum ami_status send_flight1(struct meter *m)
{
    if (!m->u.agree.open)
        draw_flight1(m);
    struct agree_flight1 flight = agree_flight1_of(&m->u.agree, &m->keys.agree);
    uint8_t frame[512];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_AGREE_FLIGHT1);
    agree_flight1_encode(&w, &flight);
    AMI_CHECK(writer_ok(&w));
    enum ami_status status = m->shared->env->send(m->ctx, link_of(m->target), writer_span(&w));
    m->starved = status == AMI_AGAIN;
    if (status != AMI_OK && status != AMI_AGAIN)
        secret_wipe(&m->u, sizeof m->u);
    return status;
}

static void attempt(struct meter *m)
{
    uint64_t now = meter_now_us(m);
    m->phase = METER_PAUSE;
    if (!is_open(m, m->target)) {
        m->target = next_member(m, m->target);
        secret_wipe(&m->u, sizeof m->u);
    }
    if (!is_open(m, m->target)) {
        m->wake_us = UINT64_MAX; /* nobody is there: meter_on_open goes on */
        return;
    }
    if (send_flight1(m) != AMI_OK) {
        m->wake_us = now + STARVED_RETRY;
        return;
    }
    if (m->attempts < UINT8_MAX)
        m->attempts++;
    m->tried |= 1u << m->target;
    m->phase = METER_AGREEING;
    m->began_us = now;
    const struct meter_timing *t = &m->shared->timing;
    m->wake_us = now + meter_patience_us(t->answer_ms, t->answer_ms_max, m->shared->answer_us,
                                         meter_rounds(m, m->attempts - 1u));
}

void meter_slow_down(struct meter *m)
{
    m->window = m->window > 1 ? m->window / 2 : 1;
    if (m->busy < UINT8_MAX)
        m->busy++;
}

static void deem_failed(struct meter *m)
{
    m->failed_us |= 1u << m->target;
    if (m->shared->leader == m->target)
        m->shared->leader = METER_NO_MEMBER;
    if (m->vain < UINT8_MAX)
        m->vain++;
    meter_slow_down(m);
    meter_note(m, METER_NOTE_FELL_BACK, m->target);
}

void meter_fall_back(struct meter *m)
{
    deem_failed(m);
    pause_for(m, next_member(m, m->target), m->attempts < 2 ? 0 : backoff_us(m));
}

static void restart(struct meter *m, uint8_t other)
{
    /* A session that held for a while shows that agreeing works; one that ends at once does not. */
    if (m->phase == METER_IN_SESSION &&
        meter_now_us(m) - m->began_us > (uint64_t)m->shared->timing.ack_ms * 1000u)
        m->attempts = 0;
    pause_for(m, other, m->attempts < 2 ? spread_us(m) : backoff_us(m));
}

void meter_restart(struct meter *m, uint8_t other)
{
    const uint32_t bit = UINT32_C(1) << m->target;
    if (m->phase == METER_IN_SESSION && deliver_outstanding(m)) {
        if ((m->ended & bit) != 0) {
            meter_fall_back(m);
            return;
        }
        m->ended |= bit;
    }
    restart(m, other);
}

void meter_success(struct meter *m)
{
    m->attempts = 0;
    m->vain = 0;
    m->busy = 0;
    if (m->window < METER_IN_FLIGHT_MAX)
        m->window++;
    m->hops = 0;
    m->tried = 0;
    m->came = 0;
    m->failed_us = 0;
    m->ended = 0;
    m->refused_by = 0;
    m->refusal = AMI_OK;
    m->settled_said = false;
    m->waiting_us = 0;
}

enum ami_status meter_outcast(const struct meter *m)
{
    if ((unsigned)__builtin_popcount(m->refused_by) >
        members_f(headers_committee(m->shared->headers)->members.count))
        return (enum ami_status)m->refusal;
    return AMI_OK;
}

/* --- what DCs say ---------------------------------------------------------------------------- */

/* The key is agreed: the last flight leaves and the session begins. */
static void begin_session(struct meter *m, struct agree_result *result)
{
    const struct genesis *g = m->shared->genesis;
    uint8_t frame[512];
    struct writer w = writer_on(frame, sizeof frame);
    struct agree_flight3 flight = agree_flight3_of(result);
    frame_begin(&w, MSG_AGREE_FLIGHT3);
    agree_flight3_encode(&w, &flight);
    AMI_CHECK(writer_ok(&w));
    if (m->shared->env->send(m->ctx, link_of(m->target), writer_span(&w)) != AMI_OK) {
        pause_for(m, m->target, backoff_us(m));
        return;
    }
    uint64_t now = meter_now_us(m);
    meter_note(m, METER_NOTE_AGREED, now - m->began_us);
    meter_learn_us(&m->shared->answer_us, now - m->began_us);
    session_begin(&m->u.session, true, result->k, &result->terms,
                  g->parameters.session_messages_max, g->parameters.session_seconds_max,
                  meter_now_s(m));
    m->phase = METER_IN_SESSION;
    m->session_id = result->terms.session;
    m->began_us = now;
    m->wake_us = UINT64_MAX;
    m->resend_us = UINT64_MAX;
    m->hops = 0;
    m->refused_by = 0;
    m->refusal = AMI_OK;
    if (!meter_unsettled(m))
        m->waiting_us = 0;
    deliver_on_session(m);
}

/* A wrong answer does not end the wait for the right one: whoever can send it could as well send
 * nothing. */
static bool is_awaited(const struct meter *m, const struct meter_answer *a,
                       struct agree_flight2 *in)
{
    return m->phase == METER_AGREEING && a->link == link_of(m->target) &&
           agree_flight2_parse(in, a->body) == AMI_OK &&
           ami_id_equal(&in->dc, &m->shared->headers->dc[m->target]);
}

void meter_on_flight2s(const struct meter_answer *list, size_t count)
{
    struct agree_flight2 flight[METER_ANSWERS_MAX];
    struct agree_meter_in in[METER_ANSWERS_MAX];
    struct agree_result result[METER_ANSWERS_MAX];
    enum ami_status status[METER_ANSWERS_MAX];
    struct meter *of[METER_ANSWERS_MAX];
    size_t good = 0;
    AMI_CHECK(count <= METER_ANSWERS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct meter *m = list[i].meter;
        if (!is_awaited(m, &list[i], &flight[good]))
            continue;
        in[good] = (struct agree_meter_in){&m->u.agree, &m->keys.agree, &flight[good]};
        of[good++] = m;
    }
    if (good == 0)
        return;
    const struct genesis *g = of[0]->shared->genesis;
    agree_meter_answer_batch(result, status, in, &g->network, &g->members.chain, good);
    for (size_t i = 0; i < good; i++) {
        /* Of two good answers to one flight the first counts. */
        if (status[i] == AMI_OK && of[i]->phase == METER_AGREEING)
            begin_session(of[i], &result[i]);
        meter_rearm(of[i]);
    }
    secret_wipe(result, good * sizeof result[0]);
}

/* A leader named by a DC. Followed unless it failed us: then this very DC is asked insistently, and
 * when it was so already (or must not be), another one. */
static void follow(struct meter *m, uint8_t other)
{
    if (other >= member_count(m) || other == m->target) {
        pause_for(m, next_member(m, m->target), backoff_us(m));
        return;
    }
    if ((m->failed_us >> other & 1u) != 0) {
        const bool again = m->u.agree.insist == 0 && must_insist(m);
        pause_for(m, again ? m->target : next_member(m, m->target), backoff_us(m));
        return;
    }
    meter_note(m, METER_NOTE_REDIRECTED, other);
    m->shared->leader = other;
    if (m->hops >= HOPS_MAX) {
        /* Some may send it to one another for ever: somebody else is asked in between. */
        m->hops = 0;
        pause_for(m, next_member(m, m->target), backoff_us(m));
        return;
    }
    if (!is_open(m, other)) {
        m->hops = 0;
        pause_for(m, m->target, backoff_us(m));
        return;
    }
    m->hops++;
    pause_for(m, other, 0);
}

/* For good, as far as this DC's word goes. */
static void note_refusal(struct meter *m, enum ami_status status)
{
    if (status != AMI_REVOKED && status != AMI_UNKNOWN_DEVICE)
        return;
    if (m->refusal != status)
        m->refused_by = 0;
    m->refusal = (uint16_t)status;
    m->refused_by |= 1u << m->target;
}

static void on_refused(struct meter *m, struct span body)
{
    struct refused in;
    if (m->phase != METER_AGREEING || refused_parse(&in, body) != AMI_OK || in.tag != m->tag ||
        !ami_id_equal(&in.meter, &m->keys.name))
        return;
    meter_note(m, METER_NOTE_REFUSED, in.status);
    note_refusal(m, (enum ami_status)in.status);
    if (in.has_other)
        follow(m, headers_place(m->shared->headers, &in.other.dc));
    else
        pause_for(m, next_member(m, m->target), backoff_us(m));
}

static void on_session_ended(struct meter *m, struct span body)
{
    struct session_ended in;
    if (m->phase != METER_IN_SESSION || session_ended_parse(&in, body) != AMI_OK ||
        in.session != m->session_id)
        return;
    note_refusal(m, (enum ami_status)in.status);
    uint8_t other = m->target;
    uint8_t named =
        in.has_other ? headers_place(m->shared->headers, &in.other.dc) : METER_NO_MEMBER;
    if (named < member_count(m)) {
        other = named;
        m->shared->leader = other;
        if (other != m->target)
            meter_note(m, METER_NOTE_REDIRECTED, other);
    }
    meter_restart(m, other);
}

static void on_session_data(struct meter *m, struct span body)
{
    struct session_data in;
    uint8_t plain[1024]; /* an acknowledgement is at most 600 bytes */
    size_t size;
    if (m->phase != METER_IN_SESSION || session_data_parse(&in, body) != AMI_OK ||
        in.session != m->session_id || in.sealed.size > sizeof plain)
        return;
    enum ami_status status = session_open(&m->u.session, plain, &size, &in, meter_now_s(m));
    if (status == AMI_OK)
        deliver_on_message(m, in.kind, span_of(plain, size));
    else if (status == AMI_SEQUENCE_AHEAD || status == AMI_SESSION_ENDED)
        meter_restart(m, m->target);
}

/* --- events ---------------------------------------------------------------------------------- */

void meter_init(struct meter *m, struct meter_shared *shared, void *ctx,
                const struct device_keys *keys, uint64_t next_sequence, uint64_t load_from)
{
    AMI_CHECK(next_sequence >= 1 && load_from >= 1 && load_from <= next_sequence);
    memset(m, 0, sizeof *m);
    m->shared = shared;
    m->ctx = ctx;
    m->keys = *keys;
    m->next_sequence = next_sequence;
    m->durable_below = next_sequence;
    m->load_from = load_from;
    m->wake_us = UINT64_MAX;
    m->resend_us = UINT64_MAX;
    m->settle_us = UINT64_MAX;
    m->window = METER_WINDOW_FIRST;
    m->home = headers_place(shared->headers, &keys->home_dc);
    if (m->home == METER_DCS)
        m->home = 0; /* it left: any other will do */
    m->target = m->home;
}

void meter_wipe(struct meter *m)
{
    secret_wipe(m, sizeof *m);
}

void meter_start(struct meter *m)
{
    AMI_CHECK(m->phase == METER_OFF);
    pause_for(m, preferred(m), spread_us(m));
    meter_rearm(m);
}

void meter_on_frame(struct meter *m, env_link link, enum message_type type, struct span body)
{
    if (m->phase == METER_OFF || link != link_of(m->target))
        return; /* not from whom we talk to now */
    switch ((int)type) {
    case MSG_AGREE_FLIGHT2: {
        const struct meter_answer one = {m, link, body};
        meter_on_flight2s(&one, 1);
        break;
    }
    case MSG_REFUSED:
        on_refused(m, body);
        break;
    case MSG_SESSION_ENDED:
        on_session_ended(m, body);
        break;
    case MSG_SESSION_DATA:
        on_session_data(m, body);
        break;
    default:
        break;
    }
    meter_rearm(m);
}

bool meter_shared_hears(struct meter_shared *s, env_link link, uint64_t term, uint64_t now_us)
{
    AMI_CHECK(link >= 1 && link <= METER_DCS);
    struct meter_led *led = &s->led[link - 1];
    if (led->at_us != 0 && (term <= led->term || now_us - led->at_us < METER_LEADS_US))
        return false;
    *led = (struct meter_led){term, now_us};
    s->leader = (uint8_t)(link - 1);
    return true;
}

void meter_on_leads(struct meter *m, env_link link, uint64_t spread_us)
{
    const uint8_t place = (uint8_t)(link - 1);
    /* Who waits comes; who is on the way to another DC is sent on from there, and who insists on
     * being served by another one has its reasons. */
    if (m->phase != METER_PAUSE || ((m->failed_us | m->came) >> place & 1u) != 0 ||
        m->shared->genesis->parameters.gateway != GATEWAY_LEADER)
        return;
    m->came |= 1u << place;
    if (m->target != place)
        secret_wipe(&m->u, sizeof m->u); /* a flight that found no room elsewhere */
    m->target = place;
    m->starved = false;
    /* The DC knows what it can serve, the meters' own time what their medium carries. Nobody's word
     * makes a meter wait for longer than it would have. */
    const uint64_t own_us = (uint64_t)m->shared->timing.spread_ms * 1000u;
    if (spread_us > METER_SPREAD_US_MAX)
        spread_us = METER_SPREAD_US_MAX;
    const uint64_t at =
        meter_now_us(m) + meter_random_below(m, spread_us > own_us ? spread_us : own_us);
    if (at < m->wake_us)
        m->wake_us = at;
    meter_rearm(m);
}

void meter_on_open(struct meter *m, env_link link)
{
    (void)link;
    if (m->phase == METER_PAUSE && m->wake_us == UINT64_MAX) {
        m->wake_us = meter_now_us(m) + spread_us(m);
        meter_rearm(m);
    }
}

void meter_on_closed(struct meter *m, env_link link)
{
    if (m->phase == METER_OFF || link != link_of(m->target))
        return;
    if (m->shared->leader == m->target)
        m->shared->leader = METER_NO_MEMBER;
    if (m->phase == METER_PAUSE)
        return; /* attempt() chooses another when the pause is over */
    uint8_t other = preferred(m);
    restart(m, other != m->target && is_open(m, other) ? other : next_member(m, m->target));
    meter_rearm(m);
}

void meter_on_writable(struct meter *m, env_link link)
{
    if (m->phase == METER_OFF || link != link_of(m->target) || !m->starved)
        return;
    m->starved = false;
    if (m->phase == METER_PAUSE)
        attempt(m);
    else if (m->phase == METER_IN_SESSION)
        deliver_pump(m);
    meter_rearm(m);
}

void meter_on_time(struct meter *m)
{
    uint64_t now = meter_now_us(m);
    if (now >= m->settle_us)
        deliver_settle_again(m);
    if (m->phase == METER_PAUSE && now >= m->wake_us) {
        attempt(m);
    } else if (m->phase == METER_AGREEING && now >= m->wake_us) {
        meter_fall_back(m);
    } else if (m->phase == METER_IN_SESSION) {
        session_expire(&m->u.session, meter_now_s(m));
        if (now >= m->wake_us)
            meter_fall_back(m);
        else if (now >= m->resend_us)
            deliver_on_resend(m);
    }
    meter_rearm(m);
}
