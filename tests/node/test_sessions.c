/* The gateway's table of sessions against a plain list of what is in it: slots, ids, order, bounds
 * and what it gives back. */
#include "tests/harness.h"

#include "node/gateway_internal.h"
#include "tests/crypto_start.h"
#include "tests/ledger/fixture.h"

#include <stdio.h>

enum { SESSIONS_MAX = 1500, METERS = 400, STEPS = 60000 };

static struct fixture *f;
static struct node n;

static void seeded(void *ctx, void *out, size_t size)
{
    fixture_bytes(&((struct fixture *)ctx)->rng, out, size);
}

static int set_up(void **state)
{
    (void)state;
    f = fixture_new(4, 1);
    memset(&n, 0, sizeof n);
    n.env = (struct env){.ctx = f, .random = seeded};
    n.c.sessions_max = SESSIONS_MAX;
    n.c.registry = f->registry;
    n.gateway = calloc(1, sizeof *n.gateway);
    return n.gateway == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    gateway_sessions_free(&n);
    free(n.gateway);
    fixture_free(f);
    return 0;
}

static struct gateway_session *reserved(void)
{
    struct gateway_session *s = gateway_reserve_session(&n);
    assert_non_null(s);
    assert_true(s->id != 0);
    assert_null(gateway_find_session(&n, s->id)); /* nobody was told of it yet */
    return s;
}

static struct gateway_session *opened(uint64_t meter)
{
    struct gateway_session *s = reserved();
    struct gateway_meter *m = gateway_make_meter(&n, meter);
    assert_non_null(m);
    s->meter = meter;
    gateway_open_session(m, s);
    return s;
}

static void confirm(struct gateway_session *s)
{
    gateway_confirm_session(gateway_meter_of(&n, s->meter), s);
    n.sessions_open++;
}

static void chunks_are_given_back(void)
{
    assert_int_equal(gateway_mapped_bytes(&n), 0);
    assert_int_equal(n.gateway->sessions, 0);
    assert_int_equal(n.sessions_open, 0);
}

static void an_id_finds_its_session_and_no_later_one(void **state)
{
    (void)state;
    struct gateway_session *s = opened(7);
    const uint64_t id = s->id;
    assert_ptr_equal(gateway_find_session(&n, id), s);
    assert_null(gateway_find_session(&n, 0));
    assert_null(gateway_find_session(&n, id ^ (UINT64_C(1) << 63)));
    assert_null(gateway_find_session(&n, id + 1));
    assert_null(gateway_find_session(&n, UINT64_MAX));
    gateway_drop_session(&n, s);
    chunks_are_given_back();
    assert_null(gateway_find_session(&n, id));
    struct gateway_session *again = opened(8); /* in the same slot */
    assert_int_equal(again->id & 0xffffff, id & 0xffffff);
    assert_null(gateway_find_session(&n, id));
    assert_ptr_equal(gateway_find_session(&n, again->id), again);
}

static void what_stayed_reserved_is_nobodys(void **state)
{
    (void)state;
    struct gateway_session *a = reserved(), *b = opened(1), *c = reserved();
    size_t slot = 0;
    assert_ptr_equal(gateway_next_session(&n, &slot), b);
    assert_null(gateway_next_session(&n, &slot));
    gateway_unreserve_session(&n, a);
    gateway_unreserve_session(&n, c);
    assert_null(gateway_session_of(&n, 1)); /* not confirmed */
    confirm(b);
    assert_ptr_equal(gateway_session_of(&n, 1), b);
    gateway_drop_session(&n, b);
    assert_null(gateway_session_of(&n, 1));
    chunks_are_given_back();
}

static void there_are_no_more_than_may_be(void **state)
{
    (void)state;
    struct gateway_session *s[SESSIONS_MAX];
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        s[i] = i % 3 == 0 ? reserved() : opened(i % METERS);
    assert_null(gateway_reserve_session(&n));
    gateway_drop_session(&n, s[1]);
    s[1] = opened(1);
    assert_null(gateway_reserve_session(&n));
}

/* Sessions come, are confirmed and go in any order; some are dropped while all are gone through. */
static void it_agrees_with_a_list(void **state)
{
    (void)state;
    struct {
        struct gateway_session *s;
        uint64_t id, meter;
        bool confirmed;
    } list[SESSIONS_MAX];
    size_t count = 0, open = 0, most = 0;
    for (size_t step = 0; step < STEPS; step++) {
        /* It fills up and empties, several times. */
        bool more = fixture_u64(&f->rng) % 100 < (step / 5000 % 2 == 0 ? 75 : 25);
        if (more && count < SESSIONS_MAX) {
            uint64_t meter = fixture_u64(&f->rng) % METERS;
            struct gateway_session *s = opened(meter);
            list[count].s = s;
            list[count].id = s->id;
            list[count].meter = meter;
            list[count++].confirmed = false;
            most = count > most ? count : most;
        } else if (!more && count > 0) {
            size_t i = fixture_u64(&f->rng) % count;
            if (!list[i].confirmed && gateway_session_of(&n, list[i].meter) == NULL) {
                confirm(list[i].s);
                list[i].confirmed = true;
                open++;
            } else {
                open -= list[i].confirmed;
                gateway_drop_session(&n, list[i].s);
                assert_null(gateway_find_session(&n, list[i].id));
                list[i] = list[--count];
            }
        }
        assert_int_equal(n.gateway->sessions, count);
        assert_int_equal(n.sessions_open, open);
        if (step % 1000 != 999)
            continue;
        for (size_t i = 0; i < count; i++) {
            assert_ptr_equal(gateway_find_session(&n, list[i].id), list[i].s);
            assert_int_equal(list[i].s->meter, list[i].meter);
            if (list[i].confirmed)
                assert_ptr_equal(gateway_session_of(&n, list[i].meter), list[i].s);
        }
        size_t found = 0;
        struct gateway_session *s;
        for (size_t slot = 0; (s = gateway_next_session(&n, &slot)) != NULL; found++) {
            size_t i = 0;
            while (i < count && list[i].s != s)
                i++;
            assert_true(i < count);
            if (fixture_u64(&f->rng) % 4 != 0)
                continue;
            open -= list[i].confirmed;
            gateway_drop_session(&n, s);
            list[i] = list[--count];
            found--;
        }
        assert_int_equal(found, count);
    }
    assert_true(most > 1024); /* several chunks */
    struct gateway_session *s;
    for (size_t slot = 0; (s = gateway_next_session(&n, &slot)) != NULL;)
        gateway_drop_session(&n, s);
    chunks_are_given_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_id_finds_its_session_and_no_later_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_stayed_reserved_is_nobodys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(there_are_no_more_than_may_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_agrees_with_a_list, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
