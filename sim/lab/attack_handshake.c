/* sim/lab/attack_handshake.c - on the channel between nodes: its handshake, under each kind of
 * credential. */
#include "sim/lab/scene.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

#define READING "meter-7: 1042.0 kWh"
#define ORDER   "revoke dc-3"
#define TEXT    64

/* --- in the middle --------------------------------------------------------------------------- */

/* Mallory with an ephemeral key of her own towards each side. */
static bool middle(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_SIGNATURE);
    struct party to_i, to_r;
    struct frame wire;
    struct credential as_1, as_2;
    char why[4][24], text[TEXT], altered[TEXT] = "";
    bool broken = false;
    s->i.welcome = s->dc_2.who.name;
    s->r.welcome = s->dc_1.who.name;
    scene_impostor(&as_1, &s->dc_1, &s->mallory);
    scene_impostor(&as_2, &s->dc_2, &s->mallory);
    for (int n = 0; n < 2; n++) { /* under her own name, and under theirs */
        scene_party(s, &to_i, n == 0 ? &s->mallory : &as_2);
        scene_party(s, &to_r, n == 0 ? &s->mallory : &as_1);
        bool both = pair_handshake(&s->i, &to_i, &s->realm);
        both = pair_handshake(&to_r, &s->r, &s->realm) && both;
        snprintf(why[2 * n], sizeof why[0], "%s", scene_why(&s->i));
        snprintf(why[2 * n + 1], sizeof why[0], "%s", scene_why(&s->r));
        if (!both)
            continue;
        party_seal(&s->i, &wire, READING, strlen(READING));
        AMI_CHECK(scene_takes(&to_i, &wire, text, sizeof text));
        text[strlen(text) - 5] = '9';
        party_seal(&to_r, &wire, text, strlen(text));
        broken = scene_takes(&s->r, &wire, altered, sizeof altered);
    }
    broken = broken ? attack_says(c, true, "dc-1 sent \"%s\", dc-2 took \"%s\"", READING, altered)
                    : attack_says(c, false,
                                  "under her own name: %s to dc-1, %s to dc-2; under theirs, with "
                                  "her key: %s, %s",
                                  why[0], why[1], why[2], why[3]);
    scene_free(s);
    return broken;
}

/* This instead of frame n, and all that follows as it comes: do both open? */
static bool goes_through(struct scene *s, int n, struct frame *bent)
{
    struct frame reply;
    s->i = s->i_at[n];
    s->r = s->r_at[n];
    for (; n < SCENE_FLIGHTS; n++) {
        if (deliver(n % 2 == 0 ? &s->r : &s->i, bent, &reply).event == CHANNEL_FAILED)
            return false;
        frame_copy(bent, &reply);
    }
    return s->i.channel.state == CHANNEL_UP && s->r.channel.state == CHANNEL_UP;
}

static bool altered_flight(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_CLEAR_PARTS);
    struct frame bent;
    bool broken = false;
    scene_open(s);
    for (int n = 0; n < SCENE_FLIGHTS && !broken; n++) {
        const struct frame *f = &s->flight[n];
        for (size_t i = 0; i < 2 * f->size + 1 && !broken; i++) {
            const bool cut = i >= f->size; /* to each size below, and to one above */
            const size_t size = !cut ? f->size : i == 2 * f->size ? f->size + 1 : i - f->size;
            frame_copy(&bent, f);
            bent.size = size;
            if (cut)
                bent.b[f->size] = 0;
            else
                bent.b[i] ^= (uint8_t)(1u << (i % 8));
            broken = goes_through(s, n, &bent) &&
                     attack_says(c, true, "frame %d %s %zu, and both opened", n + 1,
                                 cut ? "cut to" : "changed at byte", cut ? size : i);
        }
    }
    if (!broken)
        attack_says(c, false,
                    "each byte of the four frames changed, each frame cut to every size and made "
                    "longer: never did both open");
    scene_free(s);
    return broken;
}

/* --- downgrades ------------------------------------------------------------------------------ */

static bool downgrade_suite(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_CLEAR_PARTS);
    struct frame wire, reply;
    char why[3][24];
    bool broken = false;
    for (int n = 0; n < 3 && !broken; n++) { /* in the offer, in the choice, in both */
        pair_start(&s->i, &s->r, &s->realm, &wire);
        if (n != 1)
            wire.b[2] = CHANNEL_SM4_CTR_HMAC;
        deliver(&s->r, &wire, &reply);
        if (n != 0)
            reply.b[2] = CHANNEL_SM4_CTR_HMAC;
        deliver(&s->i, &reply, &wire);
        snprintf(why[n], sizeof why[n], "%s", scene_why(&s->i));
        if (wire.size <= 1) /* a refusal */
            continue;
        deliver(&s->r, &wire, &reply);
        deliver(&s->i, &reply, &wire);
        broken = s->i.channel.state == CHANNEL_UP && s->r.channel.state == CHANNEL_UP &&
                 s->r.channel.suite != CHANNEL_SM4_GCM;
    }
    broken = broken ? attack_says(c, true, "both allow %s first, and have opened under %s",
                                  channel_suite_name(CHANNEL_SM4_GCM),
                                  channel_suite_name(s->r.channel.suite))
                    : attack_says(c, false,
                                  "%s taken out of the offer: %s; out of the choice: %s; both: %s",
                                  channel_suite_name(CHANNEL_SM4_GCM), why[0], why[1], why[2]);
    scene_free(s);
    return broken;
}

/* dc-1 is told to take credentials of one kind only. Mallory has the key of a credential of another
 * kind, which dc-2 had before. */
static bool downgrade_credential(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_KINDS);
    const enum credential_kind other =
        s->kind == CREDENTIAL_IMPLICIT ? CREDENTIAL_CFL : CREDENTIAL_IMPLICIT;
    struct credential old;
    struct party m;
    struct frame wire, reply;
    char text[TEXT], kinds[3][24];
    realm_credential(&s->realm, &old, other, "dc-2", NULL, 0, 0);
    scene_party(s, &m, &old);
    m.form = &channel_form_weak; /* hers need not ask what dc-1 allows */
    weak_channel_without(WITHOUT_KINDS);
    s->i.welcome = s->dc_2.who.name;
    s->i.trust.kinds = CREDENTIAL_BIT(s->kind);
    if (pair_handshake(&s->i, &m, &s->realm)) {
        party_seal(&s->i, &wire, READING, strlen(READING));
        AMI_CHECK(scene_takes(&m, &wire, text, sizeof text));
        attack_says(c, true,
                    "dc-1 takes %s alone, has opened with dc-2's old %s credential, and told "
                    "Mallory \"%s\"",
                    credential_kind_name(s->kind), credential_kind_name(other), text);
        scene_free(s);
        return true;
    }
    const char *own = scene_why(&s->i);
    /* And between the two: the sets, and the kind that is shown. */
    for (int n = 0; n < 3; n++) {
        pair_start(&s->i, &s->r, &s->realm, &wire);
        if (n == 0)
            wire.b[3] = CREDENTIAL_ALL_BITS;
        deliver(&s->r, &wire, &reply);
        if (n == 1)
            reply.b[3] ^= CREDENTIAL_BIT(other);
        if (n == 2)
            reply.b[4] = (uint8_t)other;
        deliver(&s->i, &reply, &wire);
        snprintf(kinds[n], sizeof kinds[n], "%s", scene_why(&s->i));
    }
    attack_says(c, false,
                "an old %s credential shown to dc-1, which takes %s alone: %s; dc-1's set changed: "
                "%s, dc-2's: %s, the kind shown: %s",
                credential_kind_name(other), credential_kind_name(s->kind), own, kinds[0], kinds[1],
                kinds[2]);
    scene_free(s);
    return false;
}

/* --- again, and back ------------------------------------------------------------------------- */

static bool replay(struct attack_context *c)
{
    struct scene *s = scene_new(c, 0);
    struct frame wire, record, answer, finish, reply;
    char text[TEXT] = "";
    party_start(&s->i, true, &s->realm, &s->flight[0]);
    const uint64_t chance = s->realm.drawn;
    party_start(&s->r, false, &s->realm, NULL);
    frame_copy(&wire, &s->flight[0]);
    deliver(&s->r, &wire, &answer);
    frame_copy(&wire, &answer);
    deliver(&s->i, &wire, &finish);
    frame_copy(&wire, &finish);
    deliver(&s->r, &wire, &reply);
    deliver(&s->i, &reply, &wire);
    party_seal(&s->i, &record, ORDER, strlen(ORDER));
    AMI_CHECK(scene_takes(&s->r, &record, text, sizeof text));
    /* All that dc-1 said, to dc-2. */
    text[0] = 0;
    if (c->control)
        s->realm.drawn = chance;
    party_start(&s->r, false, &s->realm, NULL);
    frame_copy(&wire, &s->flight[0]);
    deliver(&s->r, &wire, &reply);
    frame_copy(&wire, &finish);
    deliver(&s->r, &wire, &reply);
    const char *to_r = scene_why(&s->r);
    if (scene_takes(&s->r, &record, text, sizeof text)) {
        attack_says(c, true, "dc-2 has taken \"%s\" a second time", text);
        scene_free(s);
        return true;
    }
    /* What dc-2 said, to dc-1; and the record, in a channel of today. */
    pair_start(&s->i, &s->r, &s->realm, &wire);
    deliver(&s->i, &answer, &wire);
    const char *to_i = scene_why(&s->i);
    scene_open(s);
    bool taken = scene_takes(&s->r, &record, text, sizeof text);
    bool broken =
        attack_says(c, taken,
                    "dc-1's flights to dc-2: %s; dc-2's to dc-1: %s; the record in another "
                    "channel: %s",
                    to_r, to_i, scene_why(&s->r));
    scene_free(s);
    return broken;
}

static bool reflect_handshake(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_SELF);
    struct party self;
    struct frame wire, reply;
    scene_party(s, &self, &s->dc_1);
    if (pair_handshake(&s->i, &self, &s->realm)) {
        attack_says(c, true, "dc-1 has an open channel with a peer that is %s",
                    channel_peer(&s->i.channel)->name.text);
        scene_free(s);
        return true;
    }
    const char *whole = scene_why(&s->i);
    pair_start(&s->i, &s->r, &s->realm, &wire);
    bool taken = deliver(&s->i, &wire, &reply).event != CHANNEL_FAILED;
    const char *first = scene_why(&s->i);
    pair_start(&s->i, &s->r, &s->realm, &wire);
    deliver(&s->r, &wire, &reply);
    taken = deliver(&s->r, &reply, &wire).event != CHANNEL_FAILED || taken;
    bool broken = attack_says(c, taken,
                              "dc-1's dialling side to its answering side: %s; its first flight "
                              "back: %s; dc-2's answer back: %s",
                              whole, first, scene_why(&s->r));
    scene_free(s);
    return broken;
}

/* --- whose channel --------------------------------------------------------------------------- */

/* Mallory passes flights on, but for the third: that one is hers. */
static bool key_share(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_CONFIRMATION);
    struct party m;
    struct frame wire, hers, reply, ready;
    char text[TEXT], why[2][24];
    bool broken = false;
    scene_party(s, &m, &s->mallory);
    for (int n = 0; n < 2 && !broken; n++) {
        if (n == 0) { /* a proof of her own for their flights */
            pair_start(&s->i, &s->r, &s->realm, &s->flight[0]);
        } else { /* or one that was good, for flights of hers */
            pair_start(&m, &s->r, &s->realm, &wire);
            deliver(&s->r, &wire, &reply);
            deliver(&m, &reply, &hers);
            pair_start(&s->i, &s->r, &s->realm, &s->flight[0]);
        }
        frame_copy(&wire, &s->flight[0]);
        deliver(&s->r, &wire, &s->flight[1]);
        frame_copy(&wire, &s->flight[1]);
        deliver(&s->i, &wire, &s->flight[2]);
        if (n == 0)
            weak_channel_finish(&hers, &m.config, s->flight, realm_random(&s->realm));
        deliver(&s->r, &hers, &ready);
        snprintf(why[n], sizeof why[n], "%s", scene_why(&s->r));
        if (s->r.channel.state != CHANNEL_UP)
            continue;
        deliver(&s->i, &ready, &reply);
        if (s->i.channel.state != CHANNEL_UP)
            continue;
        party_seal(&s->i, &wire, READING, strlen(READING));
        broken = scene_takes(&s->r, &wire, text, sizeof text);
    }
    broken =
        broken
            ? attack_says(c, true, "dc-1 speaks with %s, which takes its \"%s\" for the word of %s",
                          channel_peer(&s->i.channel)->name.text, text,
                          channel_peer(&s->r.channel)->name.text)
            : attack_says(c, false, "her proof in the third flight: %s; one from a run of hers: %s",
                          why[0], why[1]);
    scene_free(s);
    return broken;
}

/* Whose key was stolen is told that somebody else is there. */
static bool key_compromise(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_SIGNATURE);
    struct credential forged;
    struct party m;
    struct frame wire;
    char text[TEXT];
    s->i.welcome = s->dc_2.who.name;
    scene_party(s, &m, &s->dc_1);
    bool itself = pair_handshake(&s->i, &m, &s->realm);
    const char *as_itself = scene_why(&s->i);
    scene_impostor(&forged, &s->dc_2, &s->dc_1);
    scene_party(s, &m, &forged);
    bool broken = pair_handshake(&s->i, &m, &s->realm);
    if (broken) {
        party_seal(&s->i, &wire, READING, strlen(READING));
        AMI_CHECK(scene_takes(&m, &wire, text, sizeof text));
        attack_says(c, true, "dc-1 took the thief for dc-2 and told it \"%s\"", text);
    } else {
        broken = attack_says(c, itself, "to dc-1 as dc-1: %s; as dc-2, with dc-1's key: %s",
                             as_itself, scene_why(&s->i));
    }
    scene_free(s);
    return broken;
}

/* --- operators ------------------------------------------------------------------------------- */

#define HIGH_LABEL "2:ledger+metering"

/* Z as whoever reads this certificate computes it: anybody may. */
static void set_z(const struct scene *s, struct credential *out)
{
    static const uint8_t nonce[CREDENTIAL_NONCE_BYTES];
    const struct credential_moment at = {SUITE_WALL_MS, nonce};
    struct credential_peer read;
    uint8_t shown[CREDENTIAL_BYTES_MAX];
    size_t size = credential_show(shown, out, &at);
    AMI_CHECK(credential_read(&read, s->kind, span_of(shown, size), &s->r.trust, &at) ==
              FAULT_NONE);
    out->z = read.z;
    out->who.label = read.who.label;
}

/* The operator's own certificate with another label in it. */
static void relabel(const struct scene *s, struct credential *out, const struct credential *bob)
{
    *out = *bob;
    if (s->kind == CREDENTIAL_X509) {
        const char own[] = "operator:bob:0:";
        uint8_t *at = memmem(out->shown, out->shown_size, own, strlen(own));
        AMI_CHECK(at != NULL);
        at[strlen(own) - 2] = '2';
    } else {
        struct writer w = writer_on(out->shown, sizeof out->shown);
        out->who.label = label_of(HIGH_LABEL);
        identity_write(&w, &out->who);
        AMI_CHECK(writer_ok(&w));
    }
    set_z(s, out);
    AMI_CHECK(out->who.label.level == 2);
}

/* A certificate for alice, by an issuer that Mallory has made. */
static void invent(struct scene *s, struct credential *out)
{
    static struct realm hers; /* large */
    if (s->kind == CREDENTIAL_X509) {
        struct link_x509 own;
        scene_x509_make(&own);
        link_x509_credential(out, &own, &s->realm.mdms.net, "alice", HIGH_LABEL);
        link_x509_free(&own);
        return;
    }
    realm_make(&hers, "laboratory", ~s->realm.number);
    hers.mdms.net.id = s->realm.mdms.net.id;
    realm_credential(&hers, out, s->kind, "alice", HIGH_LABEL, 0, 0);
    if (s->kind == CREDENTIAL_CFL)
        return;
    /* An implicit certificate is a point: hers is that of a key that she has. */
    const scalar d = scalar_from_wide(realm_random(&hers));
    AMI_CHECK(sm2_private_init(&out->key, &d) == AMI_OK);
    out->w = out->key.p;
    out->who.key = point_encode(&out->w);
    struct writer w = writer_on(out->shown, sizeof out->shown);
    identity_write(&w, &out->who);
    write_raw(&w, out->who.key.b, sizeof out->who.key.b);
    AMI_CHECK(writer_ok(&w) && w.size == out->shown_size);
    set_z(s, out);
}

/* Bob's key is stolen; his label is the lowest. */
static bool raise_label(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_ISSUER);
    struct credential bob, alice, tried[3];
    struct party m;
    char why[3][24], label[LABEL_TEXT_BYTES];
    bool broken = false;
    scene_credential(s, &bob, "bob", "0:");
    scene_credential(s, &alice, "alice", HIGH_LABEL);
    scene_impostor(&tried[0], &alice, &bob);
    relabel(s, &tried[1], &bob);
    invent(s, &tried[2]);
    for (int n = 0; n < 3 && !broken; n++) {
        scene_party(s, &m, &tried[n]);
        m.form = &channel_form_real; /* dc-2's certificate is a good one */
        broken = pair_handshake(&m, &s->r, &s->realm);
        snprintf(why[n], sizeof why[n], "%s", scene_why(&s->r));
    }
    if (broken) {
        const struct credential_identity *peer = channel_peer(&s->r.channel);
        label_text(label, peer->label);
        AMI_CHECK(peer->label.level == 2);
        attack_says(c, true, "dc-2 takes the thief for %s with the label %s", peer->name.text,
                    label);
    } else {
        attack_says(c, false,
                    "alice's certificate with bob's key: %s; bob's with a higher label: %s; one "
                    "that no issuer made: %s",
                    why[0], why[1], why[2]);
    }
    scene_free(s);
    return broken;
}

static bool revoked_operator(struct attack_context *c)
{
    struct scene *s = scene_new(c, 0);
    struct credential bob;
    struct party m;
    scene_credential(s, &bob, "bob", "1:operation");
    scene_party(s, &m, &bob);
    s->r.revoked = bob.who.fingerprint;
    if (c->control)
        s->r.trust.revoked = NULL;
    bool open = pair_handshake(&m, &s->r, &s->realm);
    bool broken = attack_says(c, open, "bob's key, after bob was revoked: %s",
                              open ? "dc-2 lets it in" : scene_why(&s->r));
    scene_free(s);
    return broken;
}

/* --- later ----------------------------------------------------------------------------------- */

/* The keys of both DCs and of the MDMS are stolen when the channel is long gone. */
static bool later_compromise(struct attack_context *c)
{
    struct scene *s = scene_new(c, WITHOUT_FRESH_KEYS);
    struct frame record;
    struct party thief;
    char text[TEXT];
    unsigned tried = 0;
    bool broken = false;
    scene_open(s);
    party_seal(&s->i, &record, READING, strlen(READING));
    const scalar *d_1 = &s->dc_1.key.d, *d_2 = &s->dc_2.key.d;
    const scalar known[] = {
        *d_1,
        *d_2,
        scalar_add(d_1, d_2),
        s->realm.mdms.x,
        weak_channel_ephemeral(d_1, weak_channel_nonce(&s->flight[0])),
        weak_channel_ephemeral(d_2, weak_channel_nonce(&s->flight[1])),
    };
    const point seen[] = {weak_channel_point(&s->flight[0]), weak_channel_point(&s->flight[1]),
                          s->dc_1.key.p, s->dc_2.key.p, s->realm.mdms.net.p_pub};
    scene_party(s, &thief, &s->dc_2);
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        for (size_t p = 0; p < sizeof seen / sizeof seen[0] && !broken; p++) {
            const point v = point_mul(&known[k], &seen[p]);
            weak_channel_of(&thief.channel, &thief.config, false, &v, s->flight);
            broken = scene_takes(&thief, &record, text, sizeof text);
            tried++;
        }
    broken = broken ? attack_says(c, true, "V number %u of those that the keys give opens \"%s\"",
                                  tried, text)
                    : attack_says(c, false,
                                  "%u values of V from the three keys and all points there are: "
                                  "none opens what was recorded",
                                  tried);
    scene_free(s);
    return broken;
}

const struct attack attacks_handshake[] = {
    {.name = "channel-middle",
     .on = ON_CREDENTIALS,
     .knows = "the line; a good credential of its own, and copies of those of both DCs",
     .goal = "it reads and changes what dc-1 sends to dc-2",
     .protection = "a signature over the transcript by the key of the credential",
     .run = middle},
    {.name = "channel-altered-flight",
     .on = ON_CREDENTIALS,
     .knows = "the line",
     .goal = "both sides open although a byte of a frame was changed, or one was cut or lengthened",
     .protection = "the transcript has all that is in the clear (in the control only nonces and "
                   "ephemeral keys)",
     .run = altered_flight},
    {.name = "channel-downgrade-suite",
     .on = ON_CHANNEL,
     .knows = "the line between two that allow both record suites",
     .goal = "they open under the second one",
     .protection = "offer and choice are in the transcript",
     .run = downgrade_suite},
    {.name = "channel-downgrade-credential",
     .on = ON_CREDENTIALS,
     .knows = "the key of a credential of another kind, that dc-2 had before",
     .goal = "dc-1, which takes one kind alone, opens under the other",
     .protection = "a kind that is not allowed is not read; sets and kind are in the transcript",
     .run = downgrade_credential},
    {.name = "channel-replay-handshake",
     .on = ON_CREDENTIALS,
     .knows = "all frames of a channel: the handshake, and an order in it",
     .goal = "dc-2 takes the order a second time",
     .protection = "nonce and ephemeral key are drawn anew (in the control chance repeats itself)",
     .run = replay},
    {.name = "channel-reflected-handshake",
     .on = ON_CREDENTIALS,
     .knows = "the line; it hands a side its own frames",
     .goal = "a DC takes itself for a peer",
     .protection = "who is shown its own credential refuses",
     .run = reflect_handshake},
    {.name = "channel-unknown-key-share",
     .on = ON_CREDENTIALS,
     .knows = "the line; a good credential of its own",
     .goal = "dc-2 takes what dc-1 says in its channel for Mallory's word",
     .protection =
         "C_X, sealing, and keys from the whole transcript: who proves an identity knows S "
         "(in the control signatures alone)",
     .run = key_share},
    {.name = "channel-key-compromise",
     .on = ON_CREDENTIALS,
     .knows = "the key of dc-1",
     .goal = "dc-1 takes it for dc-2",
     .protection = "dc-2's signature",
     .run = key_compromise},
    {.name = "channel-operator-raises-label",
     .on = ON_CREDENTIALS,
     .knows = "the key and credential of an operator with the lowest label",
     .goal = "a DC takes it for an operator with a higher one",
     .protection =
         "the issuer's part in the certificate (in the control what is shown is believed)",
     .run = raise_label},
    {.name = "channel-operator-revoked",
     .on = ON_CREDENTIALS,
     .knows = "the key of an operator who has been revoked since",
     .goal = "a DC lets it in",
     .protection = "the list of revoked credentials",
     .run = revoked_operator},
    {.name = "channel-later-compromise",
     .on = ON_CREDENTIALS,
     .knows = "all that travelled, and later the keys of both DCs and x of the MDMS",
     .goal = "a record that was sent before",
     .protection = "ephemeral keys are drawn and forgotten (in the control they follow from the "
                   "long-term key and the nonce)",
     .run = later_compromise},
    {0}};
