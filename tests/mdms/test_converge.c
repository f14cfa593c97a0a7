/* The MDMS's core and four whole DCs, with nothing between them but what a test lets through: lists
 * of revoked operators that know nothing of one another end as one with all that is on any. */
#include "channel/file.h"
#include "crypto/secret.h"
#include "tests/mdms/rig.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

#define DCS       RIG_DCS
#define WHO       24 /* operators there are */
#define SEEDS     12
#define STEPS     120
#define FOREVER_S INT64_C(4102444800)

struct both {
    struct rig r;
    struct net *net;
    struct net_peer *mdms[DCS]; /* the MDMS's end at each DC */
    uint64_t rng;
    uint64_t number;                   /* of the last list that anybody made */
    bool revoked[WHO];                 /* on a list that a DC or the MDMS went by */
    bool seen[DCS][WHO];               /* what a DC has gone by stays there */
    struct revoked_list folder, older; /* of the MDMS's; a copy from before */
    uint8_t bytes[AMI_REVOKED_BYTES_MAX];
};

static unsigned draw(struct both *b, unsigned below)
{
    b->rng ^= b->rng >> 12;
    b->rng ^= b->rng << 25;
    b->rng ^= b->rng >> 27;
    return (unsigned)((b->rng * 0x2545f4914f6cdd1dull) >> 40) % below;
}

static sm3_digest fingerprint(unsigned who)
{
    sm3_digest d = {{0}};
    store_be32(d.b, who * 0x01010101u);
    return d;
}

static void add(struct revoked_list *list, unsigned who)
{
    const struct revoked_entry e = {fingerprint(who), FOREVER_S + who};
    assert_ok(revoked_list_add(list, &e));
}

static struct span sign(struct both *b, const struct revoked_list *list)
{
    uint8_t random[SM2_WIDE_BYTES] = {1};
    store_be32(random, ++b->r.now_us & 0xffffffffu);
    return span_of(b->bytes,
                   revoked_list_encode(b->bytes, list, &b->r.keys.net, &b->r.keys.sign, random));
}

/* --- the MDMS has the network's keys of the DCs ------------------------------------------------
 */

static void keys_of(struct both *b)
{
    const struct fixture *f = net_fixture(b->net);
    uint8_t bytes[256];
    struct writer w = writer_on(bytes, sizeof bytes);
    b->r.keys.net = f->genesis.network;
    b->r.keys.x = f->p_pub.d;
    b->r.keys.sign = f->sign;
    b->r.keys.enrol = f->enrol;
    b->r.keys.readings = f->readings;
    const struct state_record state = mdms_state_initial(&b->r.keys.net);
    state_record_encode(&w, &state);
    rig_put(&b->r, TABLE_STATE, key_state(), writer_span(&w));
}

static struct both *begin(uint64_t seed)
{
    struct both *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->rng = seed * 0x9e3779b97f4a7c15ull + 1;
    b->number = 100;
    b->net = net_new(DCS, GATEWAY_LEADER, seed);
    rig_begin(&b->r, SCHEME_DEFAULT);
    keys_of(b);
    rig_genesis(&b->r);
    net_run_ms(b->net, 2000);
    return b;
}

static void end(struct both *b)
{
    rig_end(&b->r);
    net_free(b->net);
    free(b);
}

/* --- frames, one at a time ---------------------------------------------------------------------
 */

static bool is_list(struct span frame)
{
    enum message_type type;
    struct span body;
    return frame_open(frame, &type, &body) == AMI_OK &&
           (type == MSG_OPERATORS || type == MSG_OPERATORS_TAKEN);
}

/* The MDMS's next one to this DC arrives; false: there is none. */
static bool down(struct both *b, unsigned dc)
{
    struct rig *r = &b->r;
    for (size_t i = 0; i < r->frame_count; i++) {
        struct rig_frame f = r->frame[i];
        if (f.link != RIG_LINK_DC(dc) || !is_list(span_of(f.data, f.size)))
            continue;
        memmove(&r->frame[i], &r->frame[i + 1], (--r->frame_count - i) * sizeof f);
        net_send(b->mdms[dc], span_of(f.data, f.size));
        free(f.data);
        return true;
    }
    return false;
}

/* The DC's next one to the MDMS arrives. */
static bool up(struct both *b, unsigned dc)
{
    for (;;) {
        struct net_inbox *in = b->mdms[dc]->inbox;
        enum message_type type;
        struct span body;
        if (in == NULL)
            return false;
        b->mdms[dc]->inbox = in->next;
        const bool ours = is_list(span_of(in->bytes, in->size));
        if (ours) {
            assert_ok(frame_open(span_of(in->bytes, in->size), &type, &body));
            rig_send(&b->r, RIG_LINK_DC(dc), type, body);
            rig_settle(&b->r);
        }
        free(in);
        if (ours)
            return true;
    }
}

static void link_up(struct both *b, unsigned dc)
{
    b->mdms[dc] = net_dial_as_mdms(b->net, dc);
    rig_connect(&b->r, dc);
}

/* --- what is so at any time --------------------------------------------------------------------
 */

static bool goes_by(struct both *b, unsigned dc, unsigned who)
{
    const struct credential_identity id = {.role = CREDENTIAL_OPERATOR,
                                           .fingerprint = fingerprint(who)};
    return node_operator_revoked(net_node(b->net, dc), &id);
}

/* Nobody comes back anywhere, at any step. */
static void check_nobody_is_back(struct both *b)
{
    for (unsigned dc = 0; dc < DCS; dc++)
        for (unsigned who = 0; who < WHO; who++) {
            const bool now = goes_by(b, dc, who);
            assert_true(now || !b->seen[dc][who]);
            b->seen[dc][who] = now;
            b->revoked[who] = b->revoked[who] || now;
        }
}

/* --- the world ---------------------------------------------------------------------------------
 */

/* From a life of the MDMS's that is forgotten. */
static void give(struct both *b, struct net_peer *before, const struct revoked_list *list)
{
    static uint8_t frame[AMI_REVOKED_BYTES_MAX + 16];
    struct writer w = writer_on(frame, sizeof frame);
    const struct operators_list message = {sign(b, list)};
    frame_begin(&w, MSG_OPERATORS);
    operators_list_encode(&w, &message);
    assert_true(writer_ok(&w));
    net_send(before, writer_span(&w));
}

/* Each at one DC; numbers may be the same. What no DC takes, because another's came first, is not
 * on any list. */
static void branches(struct both *b)
{
    for (unsigned dc = 0; dc < DCS; dc++) {
        struct revoked_list list = {.number = b->number + draw(b, 3)};
        if (draw(b, 4) == 0)
            continue;
        for (unsigned i = draw(b, 4); i-- > 0;)
            add(&list, draw(b, WHO));
        give(b, net_dial_as_mdms(b->net, dc), &list);
        net_run_us(b->net, draw(b, 2) * 200000);
        check_nobody_is_back(b);
    }
    net_run_ms(b->net, 500);
    check_nobody_is_back(b);
    b->number += 3;
}

/* `ami-mdms operator revoke`, on what the folder has or an older copy of it. */
static void revoke(struct both *b)
{
    uint64_t known;
    const struct span bytes = mdms_operators_known(b->r.m, &known);
    if (draw(b, 3) != 0 && known != 0) {
        b->older = b->folder;
        assert_ok(revoked_list_parse(&b->folder, &b->r.keys.net, bytes));
    } else
        b->folder = b->older; /* put back */
    const unsigned who = draw(b, WHO);
    add(&b->folder, who);
    b->revoked[who] = true;
    /* Of the clock's number, or where that has stepped back of one that is used. */
    const uint64_t last = b->folder.number;
    b->folder.number = draw(b, 2) == 0 ? last + 1 : last + 1 + draw(b, 200);
    /* EXISTS: of an older copy, and with nothing new. */
    const enum ami_status status = mdms_operators(b->r.m, sign(b, &b->folder));
    assert_true(status == AMI_OK || status == AMI_EXISTS);
    rig_settle(&b->r);
}

static void step(struct both *b)
{
    const unsigned dc = draw(b, DCS), what = draw(b, 16);
    if (what < 5)
        (void)(b->mdms[dc] != NULL && down(b, dc));
    else if (what < 10)
        (void)(b->mdms[dc] != NULL && up(b, dc));
    else if (what < 13)
        net_run_us(b->net, draw(b, 50000));
    else if (what < 14)
        revoke(b);
    else if (b->mdms[dc] == NULL)
        link_up(b, dc);
    else
        rig_advance(&b->r, draw(b, 2000));
    check_nobody_is_back(b);
}

/* Everything that is under way arrives. */
static void drain(struct both *b)
{
    for (unsigned round = 0; round < 8; round++) {
        bool any = true;
        for (unsigned i = 0; any && i < 1000; i++) {
            any = false;
            for (unsigned dc = 0; dc < DCS; dc++)
                any = down(b, dc) || any;
            net_run_ms(b->net, 200);
            for (unsigned dc = 0; dc < DCS; dc++)
                while (up(b, dc))
                    any = true;
            check_nobody_is_back(b);
        }
        assert_false(any); /* it comes to rest */
        rig_advance(&b->r, 70000);
    }
}

static void check_one_list(struct both *b)
{
    uint64_t number, at;
    unsigned count, all = 0;
    const struct span known = mdms_operators_known(b->r.m, &number);
    assert_ok(revoked_list_parse(&b->folder, &b->r.keys.net, known));
    for (unsigned who = 0; who < WHO; who++) {
        const sm3_digest d = fingerprint(who);
        all += b->revoked[who];
        assert_true((revoked_list_find(&b->folder, &d) != NULL) == b->revoked[who]);
    }
    for (unsigned dc = 0; dc < DCS; dc++) {
        assert_true(operators_known(net_node(b->net, dc), &at, &count));
        assert_int_equal(at, number);
        assert_int_equal(count, all);
        for (unsigned who = 0; who < WHO; who++)
            assert_true(goes_by(b, dc, who) == b->revoked[who]);
    }
}

static void any_interleaving_ends_at_the_union(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct both *b = begin(seed);
        branches(b);
        for (unsigned i = 0; i < STEPS; i++)
            step(b);
        for (unsigned dc = 0; dc < DCS; dc++)
            if (b->mdms[dc] == NULL)
                link_up(b, dc);
        revoke(b); /* so that there is something */
        drain(b);
        check_one_list(b);
        end(b);
    }
}

/* Two branches, each at one DC at first, heard of in either order. */
static void two_branches_in_either_order(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        struct both *b = begin(100);
        struct net_peer *before[2] = {net_dial_as_mdms(b->net, 0), net_dial_as_mdms(b->net, 3)};
        for (unsigned half = 0; half < 2; half++) {
            struct revoked_list list = {.number = half == 0 ? 7 : 9};
            add(&list, half);
            give(b, before[half], &list);
        }
        net_run_ms(b->net, 1000);
        check_nobody_is_back(b);
        assert_true(b->seen[0][0] && !b->seen[0][1] && b->seen[3][1] && !b->seen[3][0]);
        link_up(b, order == 0 ? 0 : 3);
        link_up(b, order == 0 ? 3 : 0);
        link_up(b, 1);
        link_up(b, 2);
        drain(b);
        check_one_list(b);
        end(b);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_branches_in_either_order),
        cmocka_unit_test(any_interleaving_ends_at_the_union),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
