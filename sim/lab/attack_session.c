/* sim/lab/attack_session.c - inside a session: the hash key generator. */
#include "sim/lab/attack.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

#define MESSAGES   8
#define TEXT_BYTES 24
#define KIND       1

/* Messages of the meter, as they travelled. */
struct recorded {
    struct session_data data;
    uint8_t sealed[TEXT_BYTES + GCM_TAG_BYTES];
    char text[TEXT_BYTES + 1];
};

static void say(struct session *meter, struct recorded *out, unsigned number)
{
    snprintf(out->text, sizeof out->text, "reading %u: %u.5 kWh", number, 100 + 7 * number);
    AMI_CHECK(session_seal(meter, &out->data, out->sealed, KIND,
                           span_of(out->text, strlen(out->text)), 0) == AMI_OK);
}

/* What a thief of the meter's session makes of it: somebody who receives. */
static struct session thief_of(const struct session *meter)
{
    struct session s = *meter;
    s.receive = meter->send;
    s.meter_side = false;
    return s;
}

static bool opens(struct session *s, const struct recorded *m, char text[TEXT_BYTES + 1])
{
    size_t size;
    uint8_t plain[TEXT_BYTES + GCM_TAG_BYTES];
    if (session_open(s, plain, &size, &m->data, 0) != AMI_OK || size > TEXT_BYTES)
        return false;
    memcpy(text, plain, size);
    text[size] = 0;
    return true;
}

static bool replay_message(struct attack_context *c)
{
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run r;
    struct recorded m[MESSAGES];
    char text[TEXT_BYTES + 1];
    unsigned twice = 0;
    arena_agree(a, &r, 0, 0);
    session_begin(&r.meter_session, true, r.result.k, &r.terms, 1000, 1000, 0);
    for (unsigned i = 0; i < MESSAGES; i++)
        say(&r.meter_session, &m[i], i);
    /* Two that others overtake, too: their keys are kept for a while. */
    static const unsigned order[] = {0, 1, 4, 2, 3, 7, 6, 5};
    for (unsigned i = 0; i < MESSAGES; i++) {
        const struct session before = r.dc_session;
        AMI_CHECK(opens(&r.dc_session, &m[order[i]], text));
        if (c->control)
            r.dc_session = before;
        for (unsigned k = 0; k <= i; k++)
            twice += opens(&r.dc_session, &m[order[k]], text);
    }
    bool broken =
        attack_says(c, twice > 0, "of messages sent again, at every point, the DC took %u", twice);
    arena_free(a);
    return broken;
}

/* The meter's session is stolen after half of the messages. */
enum stolen { EARLIER, LATER, NEXT };

static bool session_state(struct attack_context *c)
{
    const enum stolen which = (enum stolen)c->which;
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run r, next;
    struct recorded m[MESSAGES], after;
    char text[TEXT_BYTES + 1] = "";
    struct session loot = {0};
    unsigned open = 0;
    arena_agree(a, &r, 0, 0);
    session_begin(&r.meter_session, true, r.result.k, &r.terms, 1000, 1000, 0);
    for (unsigned i = 0; i < MESSAGES; i++) {
        uint8_t seed[SM3_BYTES];
        memcpy(seed, r.meter_session.send.seed, sizeof seed);
        if (i == MESSAGES / 2)
            loot = thief_of(&r.meter_session);
        say(&r.meter_session, &m[i], i);
        if (c->control && which == EARLIER) /* the seed stays as it is */
            memcpy(r.meter_session.send.seed, seed, sizeof seed);
    }
    arena_agree(a, &next, 0, 0);
    session_begin(&next.meter_session, true, next.result.k, &next.terms, 1000, 1000, 0);
    if (c->control && which == NEXT) /* it goes on where the old one was */
        next.meter_session.send = r.meter_session.send;
    say(&next.meter_session, &after, 100);
    if (which == EARLIER) {
        for (unsigned i = 0; i < MESSAGES / 2; i++) {
            struct session back = loot;
            back.receive.next = i;
            open += opens(&back, &m[i], text);
        }
    } else if (which == LATER) {
        for (unsigned i = MESSAGES / 2; i < MESSAGES; i++)
            open += opens(&loot, &m[i], text);
    } else {
        struct session there = loot;
        there.id = next.meter_session.id;
        there.parties = next.meter_session.parties;
        open += opens(&there, &after, text);
        if (open == 0) {
            there.receive.base = next.meter_session.send.base;
            there.receive.next = 0;
            open += opens(&there, &after, text);
        }
        if (open == 0) { /* moved on to where the old session ended */
            there = loot;
            while (there.receive.next < MESSAGES)
                open += opens(&there, &m[there.receive.next], text);
            there.id = next.meter_session.id;
            there.parties = next.meter_session.parties;
            open = opens(&there, &after, text);
        }
    }
    bool broken = open > 0 ? attack_says(c, true, "Seed %s... opens \"%s\"",
                                         attack_hex(loot.receive.seed, 8), text)
                           : attack_says(c, false, "Seed %s... opens none of them",
                                         attack_hex(loot.receive.seed, 8));
    arena_free(a);
    return broken;
}

/* A receiver that knows the next number alone, and two sides that never agree again. */
static bool strict_open(struct session *s, const struct recorded *m, char text[TEXT_BYTES + 1])
{
    return m->data.count == s->receive.next && opens(s, m, text);
}

static bool desync_messages(struct attack_context *c)
{
    struct arena *a = arena_new(c->scheme, c->seed);
    unsigned lost = 0, over = 0, anew = 0, most = 3 * SESSION_WINDOW;
    for (unsigned gap = 1; gap <= most && lost == 0; gap++) {
        struct arena_run r;
        struct recorded m;
        char text[TEXT_BYTES + 1];
        arena_agree(a, &r, 0, 0);
        session_begin(&r.meter_session, true, r.result.k, &r.terms, 1000, 1000, 0);
        for (unsigned i = 0; i <= gap; i++)
            say(&r.meter_session, &m, i); /* all but the last are lost */
        if (c->control ? strict_open(&r.dc_session, &m, text) : opens(&r.dc_session, &m, text)) {
            over++;
            continue;
        }
        if (c->control) {
            lost = gap;
            continue;
        }
        /* Too many: a new agreement, at any time. */
        arena_agree(a, &r, 0, 0);
        session_begin(&r.meter_session, true, r.result.k, &r.terms, 1000, 1000, 0);
        say(&r.meter_session, &m, 0);
        if (opens(&r.dc_session, &m, text))
            anew++;
        else
            lost = gap;
    }
    bool broken =
        lost > 0 ? attack_says(c, true,
                               "after %u lost messages the two never understand each other "
                               "again",
                               lost)
                 : attack_says(c, false,
                               "1 to %u messages in a row lost: %u times the session went on, %u "
                               "times a new agreement cured it",
                               most, over, anew);
    arena_free(a);
    return broken;
}

const struct attack attacks_session[] = {
    {.name = "replay-session-message",
     .row = ROW_REPLAY,
     .knows = "all that travelled in a session",
     .goal = "the DC takes a reading's message a second time",
     .protection = "the receiver moves on with every message (in the control it does not)",
     .run = replay_message},
    {.name = "session-state-earlier",
     .row = ROW_SECRECY,
     .knows = "recorded traffic, and then the meter's session: Count and Seed as they are now",
     .goal = "an earlier message of this session",
     .protection = "Seed becomes SM3(Seed) after every message (in the control it stays)",
     .run = session_state,
     .which = EARLIER},
    {.name = "session-state-later",
     .row = ROW_SECRECY,
     .knows = "the meter's session, and what travels afterwards",
     .goal = "a later message of this session",
     .protection = "none",
     .nobody = "a chain of hashes runs forward: its state gives all that follows, until the two "
               "agree on a new key",
     .run = session_state,
     .which = LATER},
    {.name = "session-state-next-session",
     .row = ROW_SECRECY,
     .knows = "the meter's session, and what travels after the next agreement",
     .goal = "a message of the next session",
     .protection = "the next session begins with a key that does not follow from this one (in the "
                   "control it goes on with the same chain)",
     .run = session_state,
     .which = NEXT},
    {.name = "desync-session-messages",
     .row = ROW_DESYNC,
     .knows = "nothing; it drops messages, one to three windows in a row",
     .goal = "meter and DC never understand each other again",
     .protection = "a receiver skips ahead, or the two agree anew (in the control neither)",
     .run = desync_messages},
    {0}};
