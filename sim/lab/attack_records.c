/* sim/lab/attack_records.c - on the channel between nodes: its records, under both suites. */
#include "sim/lab/scene.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

#define TEXT     32
#define MESSAGES 6

static const uint8_t suites[] = {CHANNEL_SM4_GCM, CHANNEL_SM4_CTR_HMAC};
#define SUITES (sizeof suites / sizeof suites[0])

/* dc-1 says so many things; each fits a TEXT. */
static void say(struct scene *s, struct frame *record, unsigned first, unsigned count)
{
    char text[TEXT];
    for (unsigned n = 0; n < count; n++) {
        int size = snprintf(text, sizeof text, "meter-%u: %u kWh", first + n, 1042 + first + n);
        party_seal(&s->i, &record[n], text, (size_t)size);
    }
}

/* One attack under one suite; `found` gets a sentence of at most FOUND bytes. */
#define FOUND 160
typedef bool under_suite(const struct attack_context *c, struct scene *s, char found[FOUND]);

/* --- on the line ----------------------------------------------------------------------------- */

static bool alter(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    struct frame record, bent;
    const struct party before = s->r;
    char text[TEXT];
    bool taken = false;
    (void)c;
    say(s, &record, 7, 1);
    const size_t bits = 8 * record.size;
    const size_t digit = 8 * strlen("meter-7: ") + 3; /* 1 becomes 9 */
    for (size_t n = 0; n < bits && !taken; n++) {
        const size_t bit = (n + digit) % bits;
        frame_copy(&bent, &record);
        bent.b[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        s->r = before;
        taken = scene_takes(&s->r, &bent, text, sizeof text);
    }
    for (size_t size = 0; size < record.size && !taken; size++) {
        frame_copy(&bent, &record);
        bent.size = size;
        s->r = before;
        taken = scene_takes(&s->r, &bent, text, sizeof text);
    }
    if (taken)
        snprintf(found, FOUND, "dc-2 took \"%s\"", text);
    else
        snprintf(found, FOUND, "each bit changed, each end cut off: %s", scene_why(&s->r));
    return taken;
}

static bool reorder(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    static const struct {
        const char *name;
        unsigned order[4], size;
    } ways[] = {
        {"left out", {0, 2, 3}, 3}, {"repeated", {0, 1, 1}, 3}, {"exchanged", {0, 2, 1}, 3}};
    struct frame record[4];
    const struct party before = s->r;
    char text[TEXT];
    unsigned taken = 0;
    int n = 0;
    say(s, record, 1, 4);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        unsigned good = 0;
        s->r = before;
        while (good < ways[w].size &&
               scene_takes(&s->r, &record[ways[w].order[good]], text, sizeof text))
            good++;
        taken += good == ways[w].size;
        n += snprintf(found + n, FOUND - (size_t)n, "%s%s: %s", w == 0 ? "" : ", ", ways[w].name,
                      good == ways[w].size ? "taken" : scene_why(&s->r));
    }
    return c->control ? taken == sizeof ways / sizeof ways[0] : taken > 0;
}

static bool reflect(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    struct frame record[MESSAGES];
    const struct party before = s->i;
    char text[TEXT];
    bool taken = false;
    (void)c;
    say(s, record, 1, MESSAGES);
    for (unsigned n = 0; n < MESSAGES && !taken; n++) {
        s->i = before;
        taken = scene_takes(&s->i, &record[n], text, sizeof text);
    }
    if (taken)
        snprintf(found, FOUND, "dc-1 took its own \"%s\" for dc-2's", text);
    else
        snprintf(found, FOUND, "%u records handed back to dc-1: %s", MESSAGES, scene_why(&s->i));
    return taken;
}

/* dc-1 says two things and closes; the second and the close do not arrive. */
static bool truncate_channel(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    struct frame record[2], last, wire, reply;
    char text[TEXT];
    unsigned closed = 0;
    say(s, record, 1, 2);
    last.size = s->i.form->close(&s->i.channel, last.b);
    AMI_CHECK(scene_takes(&s->r, &record[0], text, sizeof text));
    const struct party before = s->r;
    /* A close made of what there is: the good one too early, the alert of the handshake, nothing.
     */
    for (int n = 0; n < 3 && !c->control; n++) {
        frame_copy(&wire, &last);
        if (n > 0) {
            wire.b[0] = CHANNEL_FRAME_ALERT;
            wire.size = n == 1;
        }
        closed += deliver(&s->r, &wire, &reply).event == CHANNEL_CLOSED;
        s->r = before;
    }
    enum channel_fault end = s->r.form->cut(&s->r.channel);
    snprintf(found, FOUND,
             "dc-2 has \"%s\", takes %u closes that are none, and the end of the connection is %s",
             text, closed, end == FAULT_NONE ? "a close to it" : channel_fault_name(end));
    return closed > 0 || end == FAULT_NONE;
}

/* --- stolen ---------------------------------------------------------------------------------- */

/* Does this state open a record, as it is or as a thief may set it: at any number? */
static bool state_opens(const struct scene *s, const struct channel *loot,
                        const struct frame *record, char text[TEXT])
{
    struct party thief;
    scene_party(s, &thief, &s->dc_2);
    for (uint64_t next = 0; next <= MESSAGES; next++) {
        thief.channel = *loot;
        thief.channel.config = &thief.config;
        if (next < MESSAGES)
            thief.channel.receive.next = next;
        if (scene_takes(&thief, record, text, TEXT))
            return true;
    }
    return false;
}

static bool state_earlier(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    struct frame record[MESSAGES];
    char text[TEXT];
    unsigned open = 0;
    say(s, record, 1, MESSAGES);
    for (unsigned n = 0; n < MESSAGES; n++)
        AMI_CHECK(scene_takes(&s->r, &record[n], text, sizeof text));
    for (unsigned n = 0; n < MESSAGES; n++)
        open += state_opens(s, &s->r.channel, &record[n], text);
    /* And what the handshake's keys came from is gone. */
    static const scalar no_secret;
    static const sm3_digest no_shared;
    const bool gone = memcmp(&s->r.channel.secret, &no_secret, sizeof no_secret) == 0 &&
                      memcmp(&s->r.channel.shared, &no_shared, sizeof no_shared) == 0;
    snprintf(found, FOUND, "%u of %u earlier records open%s", open, MESSAGES,
             gone ? "" : ", and the state has the handshake's secrets");
    return c->control ? open == MESSAGES : open > 0 || !gone;
}

static bool state_later(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    struct frame record;
    char text[TEXT];
    (void)c;
    const struct channel loot = s->r.channel;
    say(s, &record, 7, 1);
    bool open = state_opens(s, &loot, &record, text);
    snprintf(found, FOUND, open ? "opens \"%s\"" : "opens nothing", text);
    return open;
}

static bool state_next(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    struct frame record[MESSAGES], after;
    char text[TEXT];
    bool open = false;
    struct channel loot = s->r.channel, ended;
    say(s, record, 1, MESSAGES);
    ended = loot; /* the thief follows, to where the channel ends */
    while (ended.receive.next < MESSAGES) {
        uint8_t material[KEY_CHAIN_MATERIAL_BYTES];
        key_chain_step(&ended.receive, material);
    }
    const struct key_chain last = s->i.channel.send;
    scene_open_under(s, loot.suite); /* the link is made anew */
    if (c->control)
        s->i.channel.send = last;
    say(s, &after, 7, 1);
    const struct channel *tried[] = {&loot, &ended};
    for (int n = 0; n < 2 && !open; n++)
        open = state_opens(s, tried[n], &after, text);
    snprintf(found, FOUND, open ? "opens \"%s\"" : "opens nothing", text);
    return open;
}

/* The key of one record leaks: M, from which all of that record's keys come. */
static bool record_key(const struct attack_context *c, struct scene *s, char found[FOUND])
{
    enum { LEAKED = 2 };
    struct frame record[MESSAGES];
    uint8_t material[KEY_CHAIN_MATERIAL_BYTES];
    char text[TEXT];
    unsigned open = 0;
    struct key_chain chain = s->r.channel.receive;
    for (unsigned n = 0; n <= (c->control ? 0 : LEAKED); n++)
        key_chain_step(&chain, material); /* in the control the first one is all there is */
    say(s, record, 1, MESSAGES);
    AMI_CHECK(weak_channel_open(text, sizeof text, &record[LEAKED], s->r.channel.suite, 1, LEAKED,
                                material));
    for (unsigned n = 0; n < MESSAGES; n++) {
        bool opens = false;
        for (uint64_t number = 0; number < MESSAGES && n != LEAKED && !opens; number++)
            opens = weak_channel_open(text, sizeof text, &record[n], s->r.channel.suite, 1, number,
                                      material);
        open += opens;
    }
    snprintf(found, FOUND, "M of record %d opens %u of %d others", LEAKED, open, MESSAGES - 1);
    return c->control ? open == MESSAGES - 1 : open > 0;
}

/* --- both suites ----------------------------------------------------------------------------- */

enum {
    ALTERED,
    MOVED,
    REFLECTED,
    TRUNCATED,
    STOLEN_EARLIER,
    STOLEN_LATER,
    STOLEN_NEXT,
    RECORD_KEY
};
static const struct {
    under_suite *attack;
    unsigned without; /* in a control */
} attacks[] = {
    [ALTERED] = {alter, WITHOUT_TAGS},
    [MOVED] = {reorder, WITHOUT_NUMBERS},
    [REFLECTED] = {reflect, WITHOUT_DIRECTIONS},
    [TRUNCATED] = {truncate_channel, WITHOUT_CLOSE},
    [STOLEN_EARLIER] = {state_earlier, WITHOUT_HASHING},
    [STOLEN_LATER] = {state_later, 0},
    [STOLEN_NEXT] = {state_next, 0},
    [RECORD_KEY] = {record_key, WITHOUT_NEW_KEYS},
};

/* One suite after the other. The channel is broken when either falls; a control has to show both.
 */
static bool each_suite(struct attack_context *c)
{
    char found[SUITES][FOUND];
    unsigned broken = 0;
    for (size_t n = 0; n < SUITES; n++) {
        struct scene *s = scene_new(c, attacks[c->which].without);
        scene_open_under(s, suites[n]);
        broken += attacks[c->which].attack(c, s, found[n]);
        scene_free(s);
    }
    return attack_says(c, c->control ? broken == SUITES : broken > 0, "%s: %s; %s: %s",
                       channel_suite_name(suites[0]), found[0], channel_suite_name(suites[1]),
                       found[1]);
}

const struct attack attacks_records[] = {
    {.name = "channel-altered-record",
     .on = ON_CHANNEL,
     .knows = "the line, and what the plaintext is",
     .goal = "dc-2 takes a record with another reading, or a part of one",
     .protection = "each record's tag, checked first",
     .run = each_suite,
     .which = ALTERED},
    {.name = "channel-moved-records",
     .on = ON_CHANNEL,
     .knows = "the line",
     .goal = "records are taken although one was left out, repeated or exchanged with the next",
     .protection = "each record has its number and key (in the control the chain stands still)",
     .run = each_suite,
     .which = MOVED},
    {.name = "channel-reflected-record",
     .on = ON_CHANNEL,
     .knows = "the line; it hands dc-1's records back to dc-1",
     .goal = "dc-1 takes its own record for dc-2's",
     .protection = "each direction has its own chain, and its number in the tag",
     .run = each_suite,
     .which = REFLECTED},
    {.name = "channel-truncated",
     .on = ON_CHANNEL,
     .knows = "the line; it cuts the connection before the last record",
     .goal = "dc-2 believes that it has all that dc-1 said",
     .protection = "a close is a record (in the control the connection's end is a close)",
     .run = each_suite,
     .which = TRUNCATED},
    {.name = "channel-state-earlier",
     .on = ON_CHANNEL,
     .knows = "recorded traffic, and then all that dc-2 holds of the open channel",
     .goal = "an earlier record",
     .protection = "Seed becomes SM3(Seed) after every record (in the control it stays); S and the "
                   "ephemeral key are wiped",
     .run = each_suite,
     .which = STOLEN_EARLIER},
    {.name = "channel-state-later",
     .on = ON_CHANNEL,
     .knows = "all that dc-2 holds of the open channel, and what travels afterwards",
     .goal = "a later record",
     .protection = "none",
     .nobody =
         "a chain of hashes runs forward: its state gives all that follows, until the two make "
         "a new channel",
     .run = each_suite,
     .which = STOLEN_LATER},
    {.name = "channel-state-next-channel",
     .on = ON_CHANNEL,
     .knows = "all that dc-2 holds of the open channel, and what travels in the next one",
     .goal = "a record of the next channel",
     .protection =
         "a channel begins from ephemeral keys of its own (in the control it goes on with "
         "the same chain)",
     .run = each_suite,
     .which = STOLEN_NEXT},
    {.name = "channel-record-key",
     .on = ON_CHANNEL,
     .knows = "recorded traffic, and M of one record",
     .goal = "another record, before or after it",
     .protection = "each record has a key of its own (in the control all have the first one's)",
     .run = each_suite,
     .which = RECORD_KEY},
    {0}};
