/* The session: a key per message, in order and out of it, lost, repeated, altered and expired. */
#include "tests/keyagree/support.h"

#include "tests/crypto_start.h"
#include "tests/harness.h"

#include <string.h>

#define TEXT_BYTES 40

struct pair {
    struct session meter, dc;
};

struct message {
    struct session_data data;
    uint8_t bytes[TEXT_BYTES + GCM_TAG_BYTES];
    uint8_t plain[TEXT_BYTES];
};

static struct agree_terms terms_of(uint64_t session)
{
    return (struct agree_terms){
        .meter = name_of("meter-1"),
        .epoch = 2,
        .dc = name_of("dc-1"),
        .dc_epoch = 1,
        .session = session,
    };
}

static void pair_begin(struct pair *p, uint32_t messages_max, uint32_t seconds_max)
{
    uint8_t k[AGREE_KEY_BYTES];
    for (unsigned i = 0; i < sizeof k; i++)
        k[i] = (uint8_t)(i * 7);
    const struct agree_terms terms = terms_of(99);
    session_begin(&p->meter, true, k, &terms, messages_max, seconds_max, 1000);
    session_begin(&p->dc, false, k, &terms, messages_max, seconds_max, 5000);
}

static void message_make(struct message *m, struct session *from, unsigned number)
{
    for (unsigned i = 0; i < TEXT_BYTES; i++)
        m->plain[i] = (uint8_t)(number + i);
    assert_ok(session_seal(from, &m->data, m->bytes, 1, span_of(m->plain, TEXT_BYTES),
                           from->opened_s + 1));
}

static enum ami_status message_open(struct session *to, const struct message *m)
{
    uint8_t plain[TEXT_BYTES];
    size_t size = 0;
    enum ami_status status = session_open(to, plain, &size, &m->data, to->opened_s + 1);
    if (status == AMI_OK) {
        assert_int_equal(size, TEXT_BYTES);
        assert_memory_equal(plain, m->plain, TEXT_BYTES);
    }
    return status;
}

static void test_in_order_both_ways(void **unused)
{
    (void)unused;
    struct pair p;
    struct message m;
    pair_begin(&p, 1000, 1000);
    for (unsigned i = 0; i < 40; i++) {
        message_make(&m, &p.meter, i);
        assert_int_equal(m.data.count, i);
        assert_int_equal(m.data.session, 99);
        assert_memory_not_equal(m.bytes, m.plain, TEXT_BYTES);
        assert_ok(message_open(&p.dc, &m));
        assert_status(message_open(&p.dc, &m), AMI_REPLAYED);
        if (i % 3 == 0) {
            message_make(&m, &p.dc, 100 + i);
            assert_int_equal(m.data.count, i / 3);
            /* Not to be mistaken for a message of the other direction. */
            struct session echo = p.dc;
            echo.receive.next = m.data.count;
            assert_int_not_equal(message_open(&echo, &m), AMI_OK);
            assert_ok(message_open(&p.meter, &m));
        }
    }
    assert_memory_equal(p.meter.send.seed, p.dc.receive.seed, SM3_BYTES);
    assert_memory_not_equal(p.meter.send.seed, p.meter.receive.seed, SM3_BYTES);
}

static void test_in_place(void **unused)
{
    (void)unused;
    struct pair p;
    uint8_t buffer[TEXT_BYTES + GCM_TAG_BYTES];
    struct session_data data;
    size_t size;
    pair_begin(&p, 10, 10);
    memset(buffer, 0x5a, TEXT_BYTES);
    assert_ok(session_seal(&p.meter, &data, buffer, 1, span_of(buffer, TEXT_BYTES), 1001));
    assert_ok(session_open(&p.dc, buffer, &size, &data, 5001));
    assert_int_equal(size, TEXT_BYTES);
    for (unsigned i = 0; i < TEXT_BYTES; i++)
        assert_int_equal(buffer[i], 0x5a);
    /* An empty message is a message. */
    assert_ok(session_seal(&p.meter, &data, buffer, 2, span_of(NULL, 0), 1001));
    assert_ok(session_open(&p.dc, buffer, &size, &data, 5001));
    assert_int_equal(size, 0);
}

/* Every order of six messages: all are opened once, none twice. */
static void test_reordered(void **unused)
{
    (void)unused;
    enum { N = 6 };
    unsigned order[N] = {0, 1, 2, 3, 4, 5};
    for (unsigned permutation = 0; permutation < 720; permutation++) {
        unsigned rest = permutation, left[N] = {0, 1, 2, 3, 4, 5};
        for (unsigned i = 0; i < N; i++) {
            unsigned pick = rest % (N - i);
            rest /= N - i;
            order[i] = left[pick];
            memmove(&left[pick], &left[pick + 1], (N - 1 - pick) * sizeof left[0]);
        }
        struct pair p;
        struct message m[N];
        pair_begin(&p, 100, 100);
        for (unsigned i = 0; i < N; i++)
            message_make(&m[i], &p.meter, i);
        for (unsigned i = 0; i < N; i++) {
            assert_ok(message_open(&p.dc, &m[order[i]]));
            for (unsigned j = 0; j <= i; j++)
                assert_status(message_open(&p.dc, &m[order[j]]), AMI_REPLAYED);
        }
        assert_int_equal(p.dc.skipped_mask, 0);
    }
}

/* The window's edges, from the start and far from it: W messages may be skipped, their keys are
 * kept, one more is too many; a key kept for W newer messages is gone with the next. */
static void test_window(void **unused)
{
    (void)unused;
    enum { W = SESSION_WINDOW };
    for (unsigned start = 0; start < 20; start++) {
        struct pair p;
        struct message m[2 * W + 4];
        pair_begin(&p, 1000, 1000);
        for (unsigned i = 0; i < start; i++) {
            message_make(&m[0], &p.meter, i);
            assert_ok(message_open(&p.dc, &m[0]));
        }
        for (unsigned i = 0; i < 2 * W + 4; i++)
            message_make(&m[i], &p.meter, i);
        struct session before = p.dc;
        assert_status(message_open(&p.dc, &m[W + 1]), AMI_SEQUENCE_AHEAD);
        assert_memory_equal(&before, &p.dc, sizeof before);
        assert_ok(message_open(&p.dc, &m[W])); /* skips 0 .. W-1 */
        assert_int_equal(p.dc.skipped_mask, 0xff);
        assert_ok(message_open(&p.dc, &m[3]));
        assert_ok(message_open(&p.dc, &m[W + 2])); /* skips W+1; 0 and 1 fall out */
        assert_status(message_open(&p.dc, &m[0]), AMI_REPLAYED);
        assert_status(message_open(&p.dc, &m[1]), AMI_REPLAYED);
        assert_ok(message_open(&p.dc, &m[2]));
        assert_status(message_open(&p.dc, &m[3]), AMI_REPLAYED);
        assert_status(message_open(&p.dc, &m[W]), AMI_REPLAYED);
        assert_ok(message_open(&p.dc, &m[W + 1]));
        assert_ok(message_open(&p.dc, &m[2 * W + 3])); /* the farthest: W skipped again */
        for (unsigned i = 4; i < W; i++)
            assert_status(message_open(&p.dc, &m[i]), AMI_REPLAYED);
        for (unsigned i = W + 3; i < 2 * W + 3; i++)
            assert_ok(message_open(&p.dc, &m[i]));
        assert_int_equal(p.dc.skipped_mask, 0);
    }
}

/* Every byte of the sealed message, its count, kind and session: nothing is accepted and nothing
 * in the state changes, wherever in the window the message lies. */
static void test_tampered(void **unused)
{
    (void)unused;
    struct pair p;
    struct message m[4];
    pair_begin(&p, 1000, 1000);
    for (unsigned i = 0; i < 4; i++)
        message_make(&m[i], &p.meter, i);
    assert_ok(message_open(&p.dc, &m[1])); /* 0 is kept, 2 is next, 3 is ahead */
    const struct session before = p.dc;
    static const unsigned tried[] = {0, 2, 3};
    for (unsigned t = 0; t < 3; t++) {
        for (unsigned i = 0; i < TEXT_BYTES + GCM_TAG_BYTES; i++) {
            struct message bad = m[tried[t]];
            bad.data.sealed.data = bad.bytes;
            bad.bytes[i] ^= 0x10;
            assert_status(message_open(&p.dc, &bad), AMI_BAD_CRYPTO);
        }
        for (size_t size = 0; size < TEXT_BYTES + GCM_TAG_BYTES; size++) {
            struct message bad = m[tried[t]];
            bad.data.sealed = span_of(bad.bytes, size);
            assert_status(message_open(&p.dc, &bad), AMI_BAD_CRYPTO);
        }
        struct message bad = m[tried[t]];
        bad.data.kind = 2;
        assert_status(message_open(&p.dc, &bad), AMI_BAD_CRYPTO);
        bad = m[tried[t]];
        bad.data.count = tried[t] == 3 ? 2 : 3;
        assert_status(message_open(&p.dc, &bad), AMI_BAD_CRYPTO);
        bad = m[tried[t]];
        bad.data.session++;
        assert_status(message_open(&p.dc, &bad), AMI_NO_SESSION);
        bad.data.session--;
        bad.data.count = UINT64_MAX;
        assert_int_not_equal(message_open(&p.dc, &bad), AMI_OK);
        assert_memory_equal(&before, &p.dc, sizeof before);
    }
    for (unsigned t = 0; t < 3; t++)
        assert_ok(message_open(&p.dc, &m[tried[t]]));
}

/* The same K with another name, epoch or session id is another session. */
static void test_parties(void **unused)
{
    (void)unused;
    const uint8_t k[AGREE_KEY_BYTES] = {1, 2, 3};
    const struct agree_terms good = terms_of(7);
    for (unsigned what = 0; what < 6; what++) {
        struct agree_terms other = good;
        if (what == 0)
            other.meter = name_of("meter-2");
        else if (what == 1)
            other.dc = name_of("dc-2");
        else if (what == 2)
            other.epoch++;
        else if (what == 3)
            other.dc_epoch++;
        else if (what == 4)
            other.session++;
        struct session meter, dc;
        struct message m;
        session_begin(&meter, true, k, &good, 10, 10, 0);
        session_begin(&dc, false, k, &other, 10, 10, 0);
        message_make(&m, &meter, 0);
        m.data.session = other.session;
        assert_status(message_open(&dc, &m), what == 5 ? AMI_OK : AMI_BAD_CRYPTO);
    }
}

static void test_kept_keys_expire(void **unused)
{
    (void)unused;
    struct pair p;
    struct message m[3];
    uint8_t plain[TEXT_BYTES];
    size_t size;
    pair_begin(&p, 1000, 100000);
    for (unsigned i = 0; i < 3; i++)
        message_make(&m[i], &p.meter, i);
    assert_ok(session_open(&p.dc, plain, &size, &m[2].data, 5010));
    assert_ok(session_open(&p.dc, plain, &size, &m[0].data, 5010 + SESSION_SKIPPED_SECONDS - 1));
    session_expire(&p.dc, 5010 + SESSION_SKIPPED_SECONDS - 1);
    assert_int_not_equal(p.dc.skipped_mask, 0);
    assert_status(session_open(&p.dc, plain, &size, &m[1].data, 5010 + SESSION_SKIPPED_SECONDS),
                  AMI_REPLAYED);
    const struct session wiped = {0};
    assert_int_equal(p.dc.skipped_mask, 0);
    assert_memory_equal(p.dc.skipped, wiped.skipped, sizeof wiped.skipped);
}

/* What a captured device still holds does not open what went before: the seed has moved on, and
 * neither earlier seeds nor used keys are in the state. */
static bool contains(const void *state, size_t state_size, const void *what, size_t size)
{
    for (size_t i = 0; i + size <= state_size; i++)
        if (memcmp((const uint8_t *)state + i, what, size) == 0)
            return true;
    return false;
}

static void test_old_keys_are_erased(void **unused)
{
    (void)unused;
    struct pair p;
    struct message m;
    uint8_t seeds[12][SM3_BYTES], keys[12][SM3_BYTES];
    pair_begin(&p, 1000, 1000);
    for (unsigned i = 0; i < 12; i++) {
        uint8_t count[8];
        memcpy(seeds[i], p.meter.send.seed, SM3_BYTES);
        store_be64(count, p.meter.send.base + i);
        const struct span parts[] = {span_of(count, 8), span_of(seeds[i], SM3_BYTES)};
        sm3_digest key = sm3_parts(parts, 2);
        memcpy(keys[i], key.b, SM3_BYTES);
        message_make(&m, &p.meter, i);
        if (i % 4 != 2) /* some are skipped and come never */
            assert_ok(message_open(&p.dc, &m));
    }
    for (unsigned i = 0; i < 12; i++) {
        bool lost = i % 4 == 2 && i >= 12 - 1 - SESSION_WINDOW;
        assert_false(contains(&p.meter, sizeof p.meter, seeds[i], SM3_BYTES));
        assert_false(contains(&p.dc, sizeof p.dc, seeds[i], SM3_BYTES));
        assert_false(contains(&p.meter, sizeof p.meter, keys[i], SM4_KEY_BYTES));
        assert_int_equal(contains(&p.dc, sizeof p.dc, keys[i], SM4_KEY_BYTES), lost);
    }
}

/* The key of one message that never came lives for exactly W later ones. */
static void test_kept_key_is_erased_in_time(void **unused)
{
    (void)unused;
    enum { LOST = 2 };
    struct pair p;
    struct message m;
    uint8_t key[SM4_KEY_BYTES];
    pair_begin(&p, 1000, 1000);
    for (unsigned i = 0; i < LOST + SESSION_WINDOW + 4; i++) {
        message_make(&m, &p.meter, i);
        if (i == LOST)
            continue;
        assert_ok(message_open(&p.dc, &m));
        if (i == LOST + 1)
            memcpy(key, p.dc.skipped[LOST % SESSION_WINDOW], sizeof key);
        if (i > LOST)
            assert_int_equal(contains(&p.dc, sizeof p.dc, key, sizeof key),
                             i <= LOST + SESSION_WINDOW);
    }
}

static void test_limits(void **unused)
{
    (void)unused;
    struct pair p;
    struct message m[6];
    uint8_t buffer[TEXT_BYTES + GCM_TAG_BYTES];
    struct session_data data;
    pair_begin(&p, 5, 60);
    assert_int_equal(session_left(&p.meter), 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_ok(session_check(&p.meter, 1001));
        message_make(&m[i], &p.meter, i);
        assert_ok(message_open(&p.dc, &m[i]));
    }
    assert_int_equal(session_left(&p.meter), 0);
    assert_status(session_check(&p.meter, 1001), AMI_SESSION_ENDED);
    assert_status(session_check(&p.dc, 5001), AMI_SESSION_ENDED);
    assert_status(session_seal(&p.meter, &data, buffer, 1, span_of(NULL, 0), 1001),
                  AMI_SESSION_ENDED);
    m[5] = m[4];
    m[5].data.count = 5;
    assert_status(message_open(&p.dc, &m[5]), AMI_SESSION_ENDED);
    /* The other direction still has its own. */
    message_make(&m[0], &p.dc, 0);
    assert_ok(message_open(&p.meter, &m[0]));

    size_t size;
    pair_begin(&p, 5, 60);
    message_make(&m[0], &p.meter, 0);
    assert_ok(session_check(&p.dc, 5059));
    assert_status(session_check(&p.dc, 5060), AMI_SESSION_ENDED);
    assert_status(session_open(&p.dc, buffer, &size, &m[0].data, 5060), AMI_SESSION_ENDED);
    assert_status(session_seal(&p.meter, &data, buffer, 1, span_of(NULL, 0), 1060),
                  AMI_SESSION_ENDED);
    assert_ok(session_open(&p.dc, buffer, &size, &m[0].data, 5059));
    session_wipe(&p.dc);
    assert_status(session_open(&p.dc, buffer, &size, &m[0].data, 5059), AMI_NO_SESSION);
    assert_status(session_seal(&p.dc, &data, buffer, 1, span_of(NULL, 0), 5059), AMI_NO_SESSION);
    assert_status(session_check(&p.dc, 5059), AMI_NO_SESSION);

    static uint8_t large[SESSION_PLAIN_BYTES_MAX + 1 + GCM_TAG_BYTES];
    pair_begin(&p, 5, 60);
    assert_status(
        session_seal(&p.meter, &data, large, 1, span_of(large, SESSION_PLAIN_BYTES_MAX + 1), 1001),
        AMI_TOO_LARGE);
    assert_int_equal(p.meter.send.next, 0);
    assert_ok(
        session_seal(&p.meter, &data, large, 1, span_of(large, SESSION_PLAIN_BYTES_MAX), 1001));
    assert_ok(session_open(&p.dc, large, &size, &data, 5001));
}

/* From an agreement under each scheme to a message and its answer. */
static void test_after_agreement(void **unused)
{
    (void)unused;
    for (size_t i = 0; scheme_at(i) != NULL; i++) {
        struct world *w = world_of(scheme_at(i));
        struct agree_result result;
        struct agree_pending pending;
        struct pair p;
        struct message m;
        world_agree(w, 0, 1, &result, &pending);
        session_begin(&p.meter, true, result.k, &result.terms, 10, 10, 0);
        session_begin(&p.dc, false, pending.k, &result.terms, 10, 10, 0);
        message_make(&m, &p.meter, 1);
        assert_ok(message_open(&p.dc, &m));
        message_make(&m, &p.dc, 2);
        assert_ok(message_open(&p.meter, &m));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order_both_ways),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_reordered),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_parties),
        cmocka_unit_test(test_kept_keys_expire),
        cmocka_unit_test(test_old_keys_are_erased),
        cmocka_unit_test(test_kept_key_is_erased_in_time),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_after_agreement),
    };
    return cmocka_run_group_tests(tests, start_crypto, worlds_stop);
}
