/* Rule 10 of consensus.md: who is behind gets what it lacks, whoever hinders it. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "ledger/block.h"
#include "tests/consensus/sound.h"

#include <stdlib.h>
#include <string.h>

static bool drop_fetches(struct world *w, void *ctx, const struct world_frame *f)
{
    (void)w;
    const uint32_t *silent = ctx;
    return f->type != MSG_FETCH_BLOCKS || (*silent >> f->to & 1) == 0;
}

/* A node that lacks thousands of blocks gets them from whoever answers, while the others go on;
 * also over links that lose and reorder. */
static void a_node_far_behind_catches_up(void **state)
{
    (void)state;
    static const unsigned loss[] = {0, 0, 10};
    static const uint32_t silent[] = {0, 0x6, 0};
    for (size_t k = 0; k < 3; k++) {
        struct world *w = world_new(&(struct world_options){.n = 4,
                                                            .seed = k + 1,
                                                            .submit_every_us = 100 * MS,
                                                            .loss_percent = loss[k],
                                                            .delay_mean_us = loss[k] * 500});
        uint64_t height = loss[k] != 0 ? 300 : 3000;
        for (unsigned i = 0; i < 3; i++)
            world_preload(w, i, height);
        uint32_t dumb = silent[k];
        world_set_filter(w, drop_fetches, &dumb);
        world_run(w, 60 * SECONDS);
        assert_sound(w);
        assert_true(world_height(w, 3) > height);
        assert_true(world_height(w, 3) + 5 > world_height(w, 0));
        assert_true(world_notes(w, 3, REPLICA_NOTE_CATCHING_UP) >= 1);
        assert_true(world_notes(w, 3, REPLICA_NOTE_CAUGHT_UP) >= 1);
        world_free(w);
    }
}

struct lost_block {
    uint8_t behind;
    size_t after; /* bytes of later blocks that arrived before it was let through */
};

static bool lose_block_2_once(struct world *w, void *ctx, const struct world_frame *f)
{
    struct lost_block *x = ctx;
    struct certified_block b;
    if (f->type != MSG_BLOCK || f->to != x->behind || world_height(w, x->behind) > 1 ||
        certified_block_parse(&b, span_of(f->frame.data + 2, f->frame.size - 2)) != AMI_OK)
        return true;
    if (b.header.height > 2)
        x->after += f->frame.size;
    return b.header.height != 2 || x->after > 128u << 10;
}

/* One block of a window is lost: it is asked for again, however much of what comes after it waits
 * for it. */
static void a_lost_block_is_asked_for_again(void **state)
{
    (void)state;
    struct world *w = world_new(&(struct world_options){.n = 31, .seed = 1, .preload_txs = 128});
    struct lost_block x = {.behind = 30};
    for (unsigned i = 0; i < 30; i++)
        world_preload(w, i, 100);
    world_set_filter(w, lose_block_2_once, &x);
    world_run(w, 20 * SECONDS);
    assert_sound(w);
    assert_true(x.after > 128u << 10);
    assert_true(world_height(w, 30) >= 100);
    world_free(w);
}

/* What a first run showed of the blocks, for a liar to show again with other bytes behind the true
 * header and certificate. */
#define SHOWN 200
struct flood {
    uint8_t liar, behind;
    bool on;
    struct {
        size_t size;
        uint8_t bytes[4096];
    } shown[SHOWN + 1];
    uint64_t next_us;
    unsigned sent;
};

static bool flood_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    struct flood *x = ctx;
    struct certified_block b;
    if (!x->on) {
        if (f->type == MSG_BLOCK &&
            certified_block_parse(&b, span_of(f->frame.data + 2, f->frame.size - 2)) == AMI_OK &&
            b.header.height <= SHOWN && f->frame.size <= sizeof x->shown[0].bytes) {
            assert_int_not_equal(b.body.size, 0);
            x->shown[b.header.height].size = f->frame.size;
            memcpy(x->shown[b.header.height].bytes, f->frame.data, f->frame.size);
        }
        return true;
    }
    uint64_t height = world_height(w, x->behind) + 1;
    if (world_now(w) >= x->next_us && height <= SHOWN) {
        uint8_t bytes[4096];
        size_t size = x->shown[height].size;
        memcpy(bytes, x->shown[height].bytes, size);
        bytes[size - 1] ^= 1; /* the body comes last */
        world_inject(w, x->liar, x->behind, span_of(bytes, size), 1);
        x->next_us = world_now(w) + 50 * MS;
        x->sent++;
    }
    /* Nor does it answer anything else. */
    return f->from != x->liar || f->type != MSG_BLOCK;
}

/* A certificate says nothing of the bytes that come with it: a liar that is always quicker than the
 * others, asked or not, holds up who is behind once. */
static void false_bodies_hold_nobody_back(void **state)
{
    (void)state;
    static struct flood x;
    for (unsigned run = 0; run < 2; run++) {
        struct world *w =
            world_new(&(struct world_options){.n = 4, .seed = 3, .submit_every_us = 100 * MS});
        for (unsigned i = 0; i < 3; i++)
            world_preload(w, i, SHOWN);
        x.on = run != 0;
        x.liar = 2;
        x.behind = 3;
        world_set_byzantine(w, x.on ? 1u << x.liar : 0);
        world_set_filter(w, flood_filter, &x);
        world_run(w, 20 * SECONDS);
        assert_sound(w);
        assert_true(world_height(w, 3) > SHOWN);
        assert_true(world_height(w, 3) + 5 > world_height(w, 0));
        for (unsigned h = 1; h <= SHOWN && run == 0; h++)
            assert_int_not_equal(x.shown[h].size, 0);
        world_free(w);
    }
    assert_true(x.sent > 0);
}

/* A certificate says that its block exists. Who has heard one asks until the block is here, even if
 * nobody answered for long and nobody says it again: an idle chain's followers hear nothing else.
 */
static void what_is_certified_is_asked_for_until_it_is_here(void **state)
{
    (void)state;
    static struct effects fx;
    int leader;
    struct world *w = running((struct world_options){.n = 4, .seed = 2}, &leader);
    struct parameters parameters = {
        .election_timeout_ms = 600, .heartbeat_ms = 100, .block_bytes_max = 512};
    struct replica_config c = {.members = world_members(w),
                               .parameters = &parameters,
                               .self = AMI_MEMBERS_MAX,
                               .first_height = 1,
                               .tip = world_members(w)->chain};
    void *memory = calloc(1, replica_size(&parameters));
    struct replica *r;
    assert_non_null(memory);
    assert_ok(replica_init(&r, memory, &c));
    uint8_t bytes[4096];
    struct qc_announce a = {.cert = *replica_tip_commit(world_replica(w, (unsigned)leader))};
    struct writer body = writer_on(bytes, sizeof bytes);
    qc_announce_encode(&body, &a);
    struct replica_event e = {.type = REPLICA_MESSAGE, .now_us = 1};
    e.u.message.from = 2;
    e.u.message.type = MSG_QC_ANNOUNCE;
    e.u.message.body = writer_span(&body);
    replica_step(r, &e, &fx);
    unsigned early = 0, late = 0;
    for (unsigned i = 0; i < 1000 && fx.deadline_us < 60 * SECONDS; i++) {
        e = (struct replica_event){.type = REPLICA_TIME, .now_us = fx.deadline_us};
        replica_step(r, &e, &fx);
        for (size_t k = 0; k < fx.send_count; k++)
            if (fx.send[k].type == MSG_FETCH_BLOCKS)
                *(e.now_us < 30 * SECONDS ? &early : &late) += 1;
    }
    assert_in_range(early, 10, 60);
    assert_in_range(late, 10, 60);
    free(memory);
    /* A claim that nobody can show is forgotten. */
    memory = calloc(1, replica_size(&parameters));
    assert_non_null(memory);
    assert_ok(replica_init(&r, memory, &c));
    e = (struct replica_event){.type = REPLICA_CLAIM, .now_us = 2, .u.height = 11};
    replica_step(r, &e, &fx);
    late = 0;
    for (unsigned i = 0; i < 1000 && fx.deadline_us < 60 * SECONDS; i++) {
        e = (struct replica_event){.type = REPLICA_TIME, .now_us = fx.deadline_us};
        replica_step(r, &e, &fx);
        late += e.now_us >= 30 * SECONDS;
    }
    assert_int_equal(late, 0);
    free(memory);
    world_free(w);
}

struct slow_link {
    uint64_t free_us[3], took_us;
    unsigned sent, passed_over;
};

static bool slow_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    struct slow_link *x = ctx;
    if (f->to != 3 || f->type != MSG_BLOCK)
        return true;
    uint64_t now = world_now(w);
    if (x->free_us[f->from] > now + x->took_us) {
        x->passed_over++; /* as a DC does while its link is busy with blocks */
        return false;
    }
    if (x->free_us[f->from] < now)
        x->free_us[f->from] = now;
    x->free_us[f->from] += x->took_us;
    world_inject(w, f->from, 3, f->frame, x->free_us[f->from] - now);
    x->sent++;
    return false;
}

/* On links on which one block takes longer than an election time-out, what comes late is taken all
 * the same: who is behind comes forward. */
static void blocks_that_take_longer_than_a_timeout_arrive(void **state)
{
    (void)state;
    struct world *w = world_new(&(struct world_options){.n = 4, .seed = 5});
    struct slow_link x = {.took_us = 1500 * MS};
    for (unsigned i = 0; i < 3; i++)
        world_preload(w, i, 40);
    world_set_filter(w, slow_filter, &x);
    world_run(w, 120 * SECONDS);
    assert_sound(w);
    assert_true(world_height(w, 3) >= 40);
    world_free(w);
}

struct trickle {
    uint8_t from, to;
    uint64_t next_us;
    unsigned let, kept;
};

static bool trickle_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    struct trickle *x = ctx;
    if (f->type != MSG_BLOCK || f->from != x->from || f->to != x->to)
        return true;
    if (world_now(w) < x->next_us) {
        x->kept++;
        return false;
    }
    x->next_us = world_now(w) + 500 * MS;
    x->let++;
    return true;
}

/* Who gives a block now and then, always before it is given up, and is slower than the chain grows,
 * holds up who is behind for a while only. */
static void a_trickle_of_blocks_holds_nobody_back(void **state)
{
    (void)state;
    unsigned asked = 0;
    for (uint8_t slow = 0; slow < 3; slow++) {
        struct world *w =
            world_new(&(struct world_options){.n = 4, .seed = 4, .submit_every_us = 100 * MS});
        struct trickle x = {.from = slow, .to = 3};
        for (unsigned i = 0; i < 3; i++)
            world_preload(w, i, 300);
        world_set_filter(w, trickle_filter, &x);
        world_run(w, 60 * SECONDS);
        assert_sound(w);
        assert_true(world_height(w, 3) > 300);
        assert_true(world_height(w, 3) + 5 > world_height(w, 0));
        asked += x.kept > 0;
        world_free(w);
    }
    assert_true(asked > 0);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_far_behind_catches_up),
        cmocka_unit_test(a_lost_block_is_asked_for_again),
        cmocka_unit_test(false_bodies_hold_nobody_back),
        cmocka_unit_test(what_is_certified_is_asked_for_until_it_is_here),
        cmocka_unit_test(blocks_that_take_longer_than_a_timeout_arrive),
        cmocka_unit_test(a_trickle_of_blocks_holds_nobody_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
