/* What somebody on the wire, or with one stolen key, may try: each attack with its control, which
 * is the same run without the attack. */
#include "sim/lab/realm.h"

#include "crypto/secret.h"
#include "tests/harness.h"

#include <string.h>

static struct realm realm;
static struct credential dc_1, dc_2, alice, mallory;
static struct party i, r;
static struct frame a, b, c;

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    realm_credential(&realm, &dc_1, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&realm, &dc_2, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    realm_credential(&realm, &alice, CREDENTIAL_CFL, "alice", "1:", 0, 0);
    realm_credential(&realm, &mallory, CREDENTIAL_IMPLICIT, "mallory", "0:", 0, 0);
    return 0;
}

static int fresh(void **state)
{
    (void)state;
    party_make(&i, &realm, &dc_1);
    party_make(&r, &realm, &dc_2);
    return 0;
}

/* A frame is used up by who receives it. */
static struct frame copy_of(const struct frame *f)
{
    return *f;
}

/* The man in the middle, bit by bit: no byte of any flight can be altered. The last two flights are
 * also cut and lengthened at every place. */
static void no_bit_of_a_flight_can_be_altered(void **state)
{
    (void)state;
    static struct frame flight[4], bent;
    struct party i_at[4], r_at[4];
    unsigned believed = 0;
    pair_start(&i, &r, &realm, &flight[0]);
    for (int n = 0; n < 4; n++) {
        i_at[n] = i;
        r_at[n] = r;
        bent = flight[n];
        struct channel_result done = deliver(n % 2 == 0 ? &r : &i, &bent, &c);
        assert_int_not_equal(done.event, CHANNEL_FAILED); /* the control */
        if (n < 3)
            flight[n + 1] = c;
    }
    assert_int_equal(i.channel.state, CHANNEL_UP);
    for (int n = 0; n < 4; n++)
        for (size_t at = 0; at < flight[n].size; at++)
            for (int bit = at < 8 ? 0 : (int)(at % 8); bit < (at < 8 ? 8 : (int)(at % 8) + 1);
                 bit++) {
                i = i_at[n];
                r = r_at[n];
                i.trust.revoked_ctx = i.config.accept_ctx = &i;
                r.trust.revoked_ctx = r.config.accept_ctx = &r;
                bent = flight[n];
                bent.b[at] ^= (uint8_t)(1 << bit);
                struct channel_result result = deliver(n % 2 == 0 ? &r : &i, &bent, &c);
                if (n > 0) {
                    assert_int_equal(result.event, CHANNEL_FAILED);
                    continue;
                }
                /* A first flight is believed as it comes; the initiator sees that it was not its.
                 */
                if (result.event != CHANNEL_FAILED) {
                    assert_int_equal(deliver(&i, &c, &a).event, CHANNEL_FAILED);
                    believed++;
                }
            }
    assert_true(believed > 0);
    for (int n = 1; n < 4; n++)
        for (size_t size = 0; size < flight[n].size + 2; size++) {
            if (size == flight[n].size)
                continue;
            i = i_at[n];
            r = r_at[n];
            i.trust.revoked_ctx = i.config.accept_ctx = &i;
            r.trust.revoked_ctx = r.config.accept_ctx = &r;
            bent = flight[n];
            bent.size = size;
            assert_int_equal(deliver(n % 2 == 0 ? &r : &i, &bent, &c).event, CHANNEL_FAILED);
        }
}

/* Mallory in the middle with an own ephemeral key towards each side: she cannot sign, and with her
 * own valid credential she is herself. */
static void man_in_the_middle_with_own_exchanges(void **state)
{
    (void)state;
    struct party to_i, to_r;
    party_make(&to_i, &realm, &mallory);
    party_make(&to_r, &realm, &mallory);
    i.welcome = id_of("dc-2");
    r.welcome = id_of("dc-1");
    assert_true(pair_handshake(&i, &r, &realm)); /* the control */
    assert_false(pair_handshake(&i, &to_i, &realm));
    assert_int_equal(channel_why(&i.channel), FAULT_UNEXPECTED);
    assert_false(pair_handshake(&to_r, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_UNEXPECTED);
    assert_string_equal(i.seen.name.text, "mallory");
    assert_string_equal(r.seen.name.text, "mallory");
    /* Under the DC's name, without its key. */
    memcpy(to_i.own.shown, dc_2.shown, dc_2.shown_size);
    to_i.own.shown_size = dc_2.shown_size;
    assert_false(pair_handshake(&i, &to_i, &realm));
    assert_int_equal(channel_why(&i.channel), FAULT_SIGNATURE);
}

/* Somebody takes the better suite, or a kind of credential, out of the first flight. Both sides
 * would accept the weaker choice, if both believed that it was the only one. */
static void downgrade_of_suites_and_credentials(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        pair_start(&i, &r, &realm, &a);
        assert_int_equal(a.b[2], CHANNEL_SUITES_ALL);
        assert_int_equal(a.b[3], CREDENTIAL_ALL_BITS);
        if (what == 1)
            a.b[2] = CHANNEL_SM4_CTR_HMAC;
        if (what == 2)
            a.b[3] = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT);
        struct channel_result answered = deliver(&r, &a, &b);
        assert_int_equal(answered.event, CHANNEL_NOTHING); /* it has no reason to refuse */
        if (what == 3)
            b.b[3] = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT); /* what the responder accepts */
        struct channel_result result = deliver(&i, &b, &a);
        if (what == 0) {
            assert_int_equal(result.event, CHANNEL_NOTHING); /* the control */
            continue;
        }
        assert_int_equal(result.event, CHANNEL_FAILED);
        assert_int_equal(channel_why(&i.channel), FAULT_ALTERED);
    }
    /* The answer's suite, which the sealed part does not name. */
    pair_start(&i, &r, &realm, &a);
    deliver(&r, &a, &b);
    b.b[2] = CHANNEL_SM4_CTR_HMAC;
    assert_int_equal(deliver(&i, &b, &a).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&i.channel), FAULT_ALTERED);
    /* A suite that was not offered, or no suite. */
    for (uint8_t suite = 0; suite < 8; suite++) {
        i.config.suites = CHANNEL_SM4_GCM;
        pair_start(&i, &r, &realm, &a);
        deliver(&r, &a, &b);
        b.b[2] = suite;
        struct channel_result result = deliver(&i, &b, &a);
        assert_int_equal(result.event, suite == CHANNEL_SM4_GCM ? CHANNEL_NOTHING : CHANNEL_FAILED);
    }
}

/* A recorded handshake, played again against the same responder. */
static void replayed_handshake(void **state)
{
    (void)state;
    struct frame first, finish;
    pair_start(&i, &r, &realm, &a);
    first = copy_of(&a);
    deliver(&r, &a, &b);
    deliver(&i, &b, &a);
    finish = copy_of(&a);
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_OPEN); /* the control */
    /* A record of the recorded run, for later. */
    assert_int_equal(deliver(&i, &b, &a).event, CHANNEL_OPEN);
    struct frame record = {.size = 0};
    record.size = channel_seal(&i.channel, record.b, SPAN_LITERAL("revoke dc-3"));

    struct frame ignored;
    pair_start(&i, &r, &realm, &ignored);
    assert_int_equal(deliver(&r, &first, &b).event, CHANNEL_NOTHING);
    assert_int_equal(deliver(&r, &finish, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_ALTERED);
    /* An honest channel takes no record of the recorded one. */
    assert_true(pair_handshake(&i, &r, &realm));
    assert_int_equal(deliver(&r, &record, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_RECORD);
    /* And the answer, played to an initiator. */
    struct frame answer;
    pair_start(&i, &r, &realm, &a);
    deliver(&r, &a, &answer);
    pair_start(&i, &r, &realm, &a);
    assert_int_equal(deliver(&i, &answer, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&i.channel), FAULT_ALTERED);
}

/* Everything that a side says comes back to it. */
static void reflected_messages(void **state)
{
    (void)state;
    pair_start(&i, &r, &realm, &a);
    assert_int_equal(deliver(&i, &a, &b).event, CHANNEL_FAILED); /* its own first flight */
    assert_int_equal(channel_why(&i.channel), FAULT_ENCODING);
    pair_start(&i, &r, &realm, &a);
    deliver(&r, &a, &b);
    assert_int_equal(deliver(&r, &b, &a).event, CHANNEL_FAILED); /* its own answer */
    /* The whole handshake with oneself as the other side: an initiator and a responder of one DC.
     */
    struct party self;
    party_make(&self, &realm, &dc_1);
    assert_false(pair_handshake(&i, &self, &realm));
    assert_int_equal(channel_why(&i.channel), FAULT_SELF);
    /* Records. */
    for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++) {
        i.config.suites = suite;
        assert_true(pair_handshake(&i, &r, &realm));
        a.size = channel_seal(&i.channel, a.b, SPAN_LITERAL("vote"));
        b = copy_of(&a);
        assert_int_equal(deliver(&i, &a, &c).event, CHANNEL_FAILED);
        assert_int_equal(channel_why(&i.channel), FAULT_RECORD);
        assert_int_equal(deliver(&r, &b, &c).event, CHANNEL_DATA); /* the control */
    }
}

/* Ten records: one altered, cut, left out, repeated or moved. What came before it was good; from it
 * on nothing is taken. */
static void records_in_any_other_way_than_sent(void **state)
{
    (void)state;
    static struct frame sent[10];
    for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++) {
        i.config.suites = suite;
        for (int attack = 0; attack < 6; attack++) {
            assert_true(pair_handshake(&i, &r, &realm));
            for (int n = 0; n < 10; n++)
                sent[n].size =
                    channel_seal(&i.channel, sent[n].b, span_of("0123456789", (size_t)n + 1));
            int order[11] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9}, count = 10;
            if (attack == 1)
                sent[5].b[3] ^= 0x10;
            if (attack == 2)
                sent[5].size--;
            if (attack == 3) { /* left out */
                memmove(order + 5, order + 6, 4 * sizeof order[0]);
                count = 9;
            }
            if (attack == 4) { /* repeated */
                memmove(order + 6, order + 5, 5 * sizeof order[0]);
                count = 11;
            }
            if (attack == 5) { /* exchanged */
                order[5] = 6;
                order[6] = 5;
            }
            int taken = 0;
            for (int n = 0; n < count; n++) {
                a = copy_of(&sent[order[n]]);
                taken += deliver(&r, &a, &b).event == CHANNEL_DATA;
            }
            assert_int_equal(taken, attack == 0 ? 10 : attack == 4 ? 6 : 5);
            assert_int_equal(channel_why(&r.channel), attack == 0 ? FAULT_NONE : FAULT_RECORD);
        }
    }
}

/* Whoever cuts the connection cannot pass it off as the peer's close. */
static void truncation(void **state)
{
    (void)state;
    assert_true(pair_handshake(&i, &r, &realm));
    assert_true(pair_say(&i, &r, "first half", 10));
    assert_int_equal(channel_cut(&r.channel), FAULT_CUT);
    assert_true(pair_handshake(&i, &r, &realm));
    assert_true(pair_say(&i, &r, "all", 3));
    a.size = channel_close(&i.channel, a.b);
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_CLOSED);
    assert_int_equal(channel_cut(&r.channel), FAULT_NONE); /* the control */
    /* In the clear, nobody can close or refuse an open channel. */
    assert_true(pair_handshake(&i, &r, &realm));
    a.size = 1;
    a.b[0] = CHANNEL_FRAME_ALERT;
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_RECORD);
}

/* Unknown key share: Mallory, with a credential of her own, relays between dc-1 and dc-2 so that
 * dc-2 takes dc-1's channel for hers. She can alter nothing that is under the tags, and has no key
 * of the exchange that she relays; so the two honest ones end with each other or with nothing. */
static void unknown_key_share(void **state)
{
    (void)state;
    struct party m;
    party_make(&m, &realm, &mallory);
    assert_true(pair_handshake(&i, &r, &realm));
    assert_string_equal(channel_peer(&r.channel)->name.text, "dc-1"); /* the control */
    /* Her credential in flight 3 instead of dc-1's: she would have to know S. What she can do is to
     * answer dc-2 from an exchange of her own, whose keys dc-1 does not have. */
    pair_start(&i, &r, &realm, &a);
    deliver(&r, &a, &b);
    struct frame answer = copy_of(&b), first;
    pair_start(&m, &r, &realm, &first);
    deliver(&r, &first, &b);
    assert_int_equal(deliver(&m, &b, &c).event, CHANNEL_NOTHING); /* her own flight 3 */
    struct frame hers = copy_of(&c);
    pair_start(&i, &r, &realm, &a);
    deliver(&r, &a, &b);
    assert_int_equal(deliver(&r, &hers, &c).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_ALTERED);
    assert_int_equal(deliver(&i, &answer, &c).event, CHANNEL_FAILED);
    /* Kinds named in the clear part of flight 3 are under the tag as well. */
    pair_start(&i, &r, &realm, &a);
    deliver(&r, &a, &b);
    deliver(&i, &b, &a);
    a.b[1] = CREDENTIAL_CFL;
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_ALTERED);
}

/* Everything recorded, and later both long-term keys and the whole state of an open channel are
 * taken: earlier records stay closed, because their keys came from seeds that are gone, and those
 * from ephemeral keys that are gone. */
static void later_compromise_opens_nothing_recorded(void **state)
{
    (void)state;
    for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++) {
        i.config.suites = suite;
        assert_true(pair_handshake(&i, &r, &realm));
        struct party before = r; /* the control: somebody who was inside in time */
        struct frame recorded = {.size = 0};
        recorded.size = channel_seal(&i.channel, recorded.b, SPAN_LITERAL("meter-7: 1234 kWh"));
        a = copy_of(&recorded);
        assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_DATA);
        a = copy_of(&recorded);
        assert_int_equal(deliver(&before, &a, &b).event, CHANNEL_DATA);
        /* The stolen state: no ephemeral secret, no S, and chains that have moved on. */
        const scalar no_secret = {{0}};
        const sm3_digest no_shared = {{0}};
        struct party stolen = r;
        assert_memory_equal(&stolen.channel.secret, &no_secret, sizeof no_secret);
        assert_memory_equal(&stolen.channel.shared, &no_shared, sizeof no_shared);
        assert_memory_equal(&i.channel.secret, &no_secret, sizeof no_secret);
        for (uint64_t next = 0; next < 4; next++) {
            stolen.channel = r.channel;
            stolen.channel.receive.next = next;
            a = copy_of(&recorded);
            assert_int_equal(deliver(&stolen, &a, &b).event, CHANNEL_FAILED);
        }
        /* It does open what comes later: the cure is a new handshake. */
        stolen.channel = r.channel;
        a.size = channel_seal(&i.channel, a.b, SPAN_LITERAL("later"));
        assert_int_equal(deliver(&stolen, &a, &b).event, CHANNEL_DATA);
    }
}

/* The ephemeral secrets are what forward secrecy hangs on: both sides' long-term keys and the
 * transcript do not give S. The control computes S from one side's ephemeral secret. */
static void long_term_keys_do_not_give_the_session(void **state)
{
    (void)state;
    pair_start(&i, &r, &realm, &a);
    scalar e_i = i.channel.secret;
    struct frame first = copy_of(&a);
    deliver(&r, &a, &b);
    const sm3_digest s = r.channel.shared, t1 = r.channel.transcript;
    point_bytes e_r_bytes;
    point e_r;
    memcpy(e_r_bytes.b, b.b + 5 + CREDENTIAL_NONCE_BYTES, sizeof e_r_bytes.b);
    assert_ok(point_decode(&e_r, &e_r_bytes));
    const scalar *known[] = {&dc_1.key.d, &dc_2.key.d, &e_i};
    for (int k = 0; k < 3; k++) {
        uint8_t xy[SM2_XY_BYTES];
        point v = point_mul(known[k], &e_r);
        point_xy(xy, &v);
        const struct span part = span_of(xy, sizeof xy);
        sm3_digest guess = hmac_sm3(span_of(t1.b, sizeof t1.b), &part, 1);
        assert_int_equal(sm3_equal(&guess, &s), k == 2);
    }
    assert_int_equal(first.size, CHANNEL_FIRST_BYTES);
}

/* One operator's key is stolen: with it Mallory is that operator and nobody else. */
static void a_stolen_operator_key_is_that_operators_only(void **state)
{
    (void)state;
    struct party thief;
    party_make(&thief, &realm, &alice);
    assert_true(pair_handshake(&thief, &r, &realm));
    assert_string_equal(r.seen.name.text, "alice");
    r.welcome = id_of("bob");
    assert_false(pair_handshake(&thief, &r, &realm));
    r.welcome.size = 0;
    r.revoked = alice.who.fingerprint;
    assert_false(pair_handshake(&thief, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_REVOKED);
}

static void plaintext_peers_and_garbage(void **state)
{
    (void)state;
    static const uint8_t hello[] = {1, 0x40, 1, 2, 3}; /* wire version, type, .. */
    pair_start(&i, &r, &realm, &a);
    memcpy(a.b, hello, sizeof hello);
    a.size = sizeof hello;
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_PLAINTEXT);
    pair_start(&i, &r, &realm, &a);
    a.b[1] = CHANNEL_VERSION + 1;
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_VERSION);
    /* Points that are none: infinity has no encoding, x beyond p, x without a y. */
    for (int bad = 0; bad < 3; bad++) {
        pair_start(&i, &r, &realm, &a);
        uint8_t *e = a.b + CHANNEL_FIRST_BYTES - SM2_POINT_BYTES;
        if (bad == 0)
            memset(e, 0, SM2_POINT_BYTES);
        if (bad == 1)
            memset(e + 1, 0xff, SM2_POINT_BYTES - 1);
        if (bad == 2) {
            point p;
            point_bytes encoded;
            do {
                e[32]++;
                memcpy(encoded.b, e, sizeof encoded.b);
            } while (point_decode(&p, &encoded) == AMI_OK);
        }
        assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
        assert_int_equal(channel_why(&r.channel), FAULT_POINT);
    }
    /* A channel that is down takes nothing and answers nothing. */
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(b.size, 0);
}

/* A source of randomness that repeats itself repeats nothing as long as the time moves on. */
static void nonces_are_hedged_with_the_time(void **state)
{
    (void)state;
    const uint8_t stuck[CHANNEL_RANDOM_BYTES] = {0};
    uint8_t one[CHANNEL_FIRST_BYTES], two[CHANNEL_FIRST_BYTES], three[CHANNEL_FIRST_BYTES];
    channel_start(&i.channel, &i.config, true, stuck, 1000);
    channel_first(&i.channel, one);
    channel_start(&i.channel, &i.config, true, stuck, 1001);
    channel_first(&i.channel, two);
    channel_start(&i.channel, &i.config, true, stuck, 1000);
    channel_first(&i.channel, three);
    const size_t head = 4 + SM3_BYTES;
    assert_memory_not_equal(one + head, two + head, CREDENTIAL_NONCE_BYTES);
    assert_memory_not_equal(one + head + 32, two + head + 32, SM2_POINT_BYTES);
    assert_memory_equal(one, three, sizeof one); /* the machine itself draws nothing */
    for (size_t at = 0; at < sizeof stuck; at += 48) {
        uint8_t random[CHANNEL_RANDOM_BYTES] = {0};
        random[at] = 1; /* and the time alone is never all */
        channel_start(&i.channel, &i.config, true, random, 1000);
        channel_first(&i.channel, two);
        assert_memory_not_equal(one + head, two + head, CREDENTIAL_NONCE_BYTES);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(no_bit_of_a_flight_can_be_altered, fresh),
        cmocka_unit_test_setup(man_in_the_middle_with_own_exchanges, fresh),
        cmocka_unit_test_setup(downgrade_of_suites_and_credentials, fresh),
        cmocka_unit_test_setup(replayed_handshake, fresh),
        cmocka_unit_test_setup(reflected_messages, fresh),
        cmocka_unit_test_setup(records_in_any_other_way_than_sent, fresh),
        cmocka_unit_test_setup(truncation, fresh),
        cmocka_unit_test_setup(unknown_key_share, fresh),
        cmocka_unit_test_setup(later_compromise_opens_nothing_recorded, fresh),
        cmocka_unit_test_setup(long_term_keys_do_not_give_the_session, fresh),
        cmocka_unit_test_setup(a_stolen_operator_key_is_that_operators_only, fresh),
        cmocka_unit_test_setup(plaintext_peers_and_garbage, fresh),
        cmocka_unit_test_setup(nonces_are_hedged_with_the_time, fresh),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
