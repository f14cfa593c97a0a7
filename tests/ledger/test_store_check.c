/* The check of a ledger's file: a good ledger passes, however it came about; a damaged one is
 * found, or the damage touches nothing that anybody would ever read. What passes is opened with
 * LMDB in a process of its own, compared value by value, and written to. */
#include "ledger/store_check.h"
#include "ledger/store_value.h"
#include "tests/ledger/store_dir.h"

#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_BYTES_MAX (8u << 20)
#define PAGE           4096u
#define BLOCKS_MAX     64

static char path[300];
static uint8_t good[FILE_BYTES_MAX], older[FILE_BYTES_MAX], spoilt[FILE_BYTES_MAX];
static size_t good_size, older_size;

/* What the good ledger holds. */
static struct made *made[BLOCKS_MAX], *kept;
static unsigned made_count;
static uint64_t vote_term;

static uint64_t rng = 1;
static uint32_t draw(uint32_t below)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((rng >> 33) % below);
}

/* --- files ------------------------------------------------------------------------------------ */

static size_t load(uint8_t *out)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t size = read(fd, out, FILE_BYTES_MAX);
    close(fd);
    assert_in_range(size, PAGE, FILE_BYTES_MAX - 1);
    return (size_t)size;
}

static void save(const uint8_t *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static enum ami_status check(struct store_check_result *out)
{
    why[0] = '\0';
    return store_check_all(dir, &chain, NULL, NULL, out, why, sizeof why);
}

static void assert_passes(uint64_t height)
{
    struct store_check_result r;
    enum ami_status status = check(&r);
    if (status != AMI_OK)
        fail_msg("%s: %s", ami_status_name(status), why);
    assert_int_equal(r.height, height);
}

static int set_up_path(void **state)
{
    if (set_up(state) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    return 0;
}

static int free_made(void **state)
{
    for (unsigned i = 0; i < made_count; i++)
        free_block(made[i]);
    made_count = 0;
    if (kept != NULL)
        free_block(kept);
    kept = NULL;
    return tear_down(state);
}

/* --- ledgers ---------------------------------------------------------------------------------- */

/* The records of a few devices, which each block changes. */
static struct span some_records(uint8_t *out, size_t size, uint64_t height)
{
    struct writer w = writer_on(out, size);
    for (uint64_t i = 0; i < 3; i++) {
        struct record rec = {.kind = RECORD_METER,
                             .name = meter_name(),
                             .epoch = (uint32_t)i + 1,
                             .w.b = {2, (uint8_t)i},
                             .agree_part_size = 33,
                             .enrolled_at = 1};
        uint8_t encoded[RECORD_BYTES_MAX];
        struct writer r = writer_on(encoded, sizeof encoded);
        rec.floor = height;
        assert_ok(ami_id_from_text(&rec.home_dc, "dc0"));
        record_encode(&r, &rec);
        assert_true(writer_ok(&r));
        write_u64(&w, 10 + (height * 7 + i) % 40);
        write_bytes(&w, writer_span(&r));
    }
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

static void write_vote(struct store *s, uint64_t term)
{
    uint8_t vote[512];
    struct store_batch batch = {.vote_record = vote_of(vote, term, NULL)};
    assert_ok(store_write(s, &batch));
    vote_term = term;
}

static void write_block(struct store *s, struct tip *tip, uint32_t txs, size_t sealed_bytes)
{
    uint8_t vote[512], records[3 * (RECORD_BYTES_MAX + 16)];
    assert_true(made_count < BLOCKS_MAX);
    struct made *b = made[made_count++] = make_block(tip, txs, sealed_bytes);
    struct store_batch keep = pending_of(b), batch = commit_of(b);
    keep.vote_record = vote_of(vote, ++vote_term, &b->hash);
    assert_ok(store_write(s, &keep));
    batch.vote_record = vote_of(vote, ++vote_term, NULL);
    batch.records = some_records(records, sizeof records, b->header.height);
    assert_ok(store_write(s, &batch));
}

/* Leaves the ledger of `blocks` blocks in `good`, and in `older` what the file was one vote before.
 */
static void make_good(unsigned blocks)
{
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    vote_term = 0;
    for (unsigned i = 0; i < blocks; i++)
        write_block(s, &tip, draw(60), draw(1500) + 20);
    uint8_t vote[512];
    kept = make_block(&tip, 5, 900);
    struct store_batch keep = pending_of(kept);
    keep.vote_record = vote_of(vote, ++vote_term, &kept->hash);
    assert_ok(store_write(s, &keep));
    older_size = load(older);
    write_vote(s, vote_term + 1);
    store_close(s);
    good_size = load(good);
}

/* In the child: everything is as it was made, or the process ends with 1. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void compare_block(struct store *s, const struct made *b)
{
    struct certified_block got;
    uint64_t height = 0;
    uint32_t index = 99;
    MUST(store_block(s, b->header.height, &got, buffer, sizeof buffer) == AMI_OK);
    MUST(span_equal(got.body, span_of(b->body, b->body_size)));
    sm3_digest hash = block_hash(&got.header);
    MUST(sm3_equal(&hash, &b->hash));
    MUST(store_height_of(s, &b->hash, &height) == AMI_OK && height == b->header.height);
    struct body_reader it = body_reader_on(span_of(b->body, b->body_size));
    struct span encoded;
    struct ami_id meter = meter_name();
    for (uint32_t i = 0; body_next(&it, &encoded); i++) {
        struct tx_view view;
        MUST(tx_view_parse(&view, encoded) == AMI_OK);
        MUST(store_find_tx(s, &view.id, &height, &index) == AMI_OK && index == i &&
             height == b->header.height);
        MUST(store_find_report(s, &meter, 1, b->first_sequence + i, &height, &index) == AMI_OK &&
             index == i && height == b->header.height);
    }
}

/* With LMDB: reads all, then writes, so that its list of free pages is used. */
static _Noreturn void compare_all(void)
{
    struct store *s;
    struct vote_record vote;
    struct body_reply reply;
    struct certified_block got;
    alarm(60);
    enum ami_status status = store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why);
    if (status != AMI_OK)
        fprintf(stderr, "%s\n", why);
    MUST(status == AMI_OK && store_height(s) == made_count);
    for (unsigned i = 0; i < made_count; i++)
        compare_block(s, made[i]);
    MUST(store_vote_record(s, &vote, buffer, sizeof buffer) == AMI_OK && vote.term == vote_term);
    MUST(store_body(s, &kept->hash, &reply, buffer, sizeof buffer) == AMI_OK);
    struct tip tip = {made_count, made[made_count - 1]->hash, 100000};
    for (unsigned i = 0; i < 4; i++) {
        struct made *b = make_block(&tip, 20, 600);
        struct store_batch batch = commit_of(b);
        MUST(store_write(s, &batch) == AMI_OK);
        MUST(store_block(s, b->header.height, &got, buffer, sizeof buffer) == AMI_OK);
    }
    store_close(s);
    struct store_check_result r;
    MUST(check(&r) == AMI_OK && r.height == made_count + 4u);
    _exit(0);
}

/* A file that passed: it must hold what was written. */
static void assert_is_good(const char *what)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        compare_all();
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s passed the check and is not good: status %#x", what, (unsigned)status);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_good_ledger_passes_after_every_write(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    rng = 2;
    assert_passes(0);
    for (unsigned i = 0; i < 60; i++) {
        write_block(s, &tip, i % 7 == 0 ? 900 : draw(40), draw(700) + 20);
        assert_passes(i + 1);
        for (unsigned v = draw(4); v > 0; v--)
            write_vote(s, vote_term + 1);
        assert_passes(i + 1);
        if (i % 9 == 0) {
            store_close(s);
            assert_passes(i + 1);
            s = open_store(STORE_READ_WRITE, 0);
        }
    }
    store_close(s);
}

/* Blocks that are kept and swept, whose pages come and go. */
static void kept_blocks_come_and_go(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < STORE_PENDING_MAX + 40; i++) {
        struct tip there = tip;
        struct made *b = make_block(&there, 1 + i % 3, 900);
        b->header.term = i + 1;
        seal_block(b, VOTE_COMMIT);
        struct store_batch keep = pending_of(b);
        assert_ok(store_write(s, &keep));
        free_block(b);
        if (i % 16 == 0)
            assert_passes(0);
    }
    write_block(s, &tip, 10, 100);
    assert_passes(1);
    store_close(s);
}

static void nothing_is_no_ledger(void **state)
{
    (void)state;
    struct store_check_result r;
    assert_status(check(&r), AMI_NOT_FOUND);
    save(good, 0);
    assert_status(check(&r), AMI_NOT_FOUND);
    (void)unlink(path);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    store_close(s);
    assert_passes(0);
    sm3_digest mine = chain;
    chain.b[3] ^= 1;
    assert_status(check(&r), AMI_WRONG_CHAIN);
    chain = mine;
}

enum spoiling {
    BIT,
    GARBAGE,
    ZERO_PAGE,
    RANDOM_PAGE,
    OTHER_PAGE,
    SWAPPED_PAGES,
    OLD_PAGE,
    FIRST_PAGES,
    HEADS,
    CUT,
    SPOILINGS
};

/* Damages `spoilt` in one way; returns the new size. */
static size_t spoil(enum spoiling kind)
{
    size_t pages = good_size / PAGE, size = good_size;
    uint8_t *a = spoilt + (size_t)draw((uint32_t)pages) * PAGE;
    uint8_t *b = spoilt + (size_t)draw((uint32_t)pages) * PAGE;
    uint8_t hold[PAGE];
    switch (kind) {
    case BIT:
        spoilt[draw((uint32_t)size)] ^= (uint8_t)(1u << draw(8));
        break;
    case FIRST_PAGES: /* LMDB's meta pages */
        spoilt[draw(2) * PAGE + draw(160)] ^= (uint8_t)(1u << draw(8));
        break;
    case HEADS: /* where a page says what it is and where its nodes are */
        a[draw(32)] = (uint8_t)draw(256);
        break;
    case GARBAGE:
        for (size_t at = draw((uint32_t)size - 64), i = 0; i < 64; i++)
            spoilt[at + i] = (uint8_t)draw(256);
        break;
    case ZERO_PAGE:
        memset(a, 0, PAGE);
        break;
    case RANDOM_PAGE:
        for (size_t i = 0; i < PAGE; i++)
            a[i] = (uint8_t)draw(256);
        break;
    case OTHER_PAGE:
        memcpy(a, b, PAGE);
        break;
    case SWAPPED_PAGES:
        memcpy(hold, a, PAGE);
        memcpy(a, b, PAGE);
        memcpy(b, hold, PAGE);
        break;
    case OLD_PAGE: /* a write that the disk lost, but not as a whole: see a_lost_write_is_found */
        a = spoilt + (size_t)(2 + draw((uint32_t)(older_size / PAGE) - 2)) * PAGE;
        memcpy(a, older + (a - spoilt), PAGE);
        break;
    case CUT:
        size = draw((uint32_t)size);
        break;
    case SPOILINGS:
        break;
    }
    return size;
}

static void damage_is_found_or_touches_nothing(void **state)
{
    (void)state;
    unsigned found[SPOILINGS] = {0}, harmless[SPOILINGS] = {0};
    const char *rounds_text = getenv("AMI_DAMAGE_ROUNDS");
    unsigned rounds = rounds_text == NULL ? 600 : (unsigned)atoi(rounds_text);
    rng = 3;
    make_good(40);
    save(good, good_size);
    assert_passes(40);
    assert_is_good("the good file");
    for (unsigned i = 0; i < rounds; i++) {
        enum spoiling kind = (enum spoiling)(i % SPOILINGS);
        struct store_check_result r;
        char what[64];
        memcpy(spoilt, good, good_size);
        size_t size = spoil(kind);
        save(spoilt, size);
        enum ami_status status = check(&r);
        snprintf(what, sizeof what, "damage %u of kind %d", i, kind);
        if (status == AMI_OK) {
            harmless[kind]++;
            assert_is_good(what);
            continue;
        }
        if (size != 0)
            assert_status(status, status == AMI_WRONG_CHAIN ? AMI_WRONG_CHAIN : AMI_DAMAGED);
        assert_true(strlen(why) > strlen(path) + 4);
        found[kind]++;
    }
    for (int kind = 0; kind < SPOILINGS; kind++) {
        print_message("kind %d: %u found, %u harmless\n", kind, found[kind], harmless[kind]);
        assert_true(found[kind] > 0 || kind == OLD_PAGE);
    }
}

/* Every page that a disk could have left as it was before the last write: an older vote record
 * among them would be whole in itself. Not the meta pages: a write whose meta page is lost is lost
 * as a whole, and nothing in the file can tell. */
static void a_lost_write_is_found(void **state)
{
    (void)state;
    unsigned lost = 0;
    rng = 4;
    make_good(5);
    for (size_t at = 2 * PAGE; at + PAGE <= older_size && at + PAGE <= good_size; at += PAGE) {
        if (memcmp(good + at, older + at, PAGE) == 0)
            continue;
        struct store_check_result r;
        memcpy(spoilt, good, good_size);
        memcpy(spoilt + at, older + at, PAGE);
        save(spoilt, good_size);
        enum ami_status status = check(&r);
        if (status == AMI_OK)
            assert_is_good(
                "a lost write"); /* the page was given up by it, or is that of the write before */
        else
            lost++;
    }
    assert_true(lost >= 3);
}

/* Bits of the numbers in the meta pages that would bring back the state before the last write. */
static void the_newer_meta_page_counts(void **state)
{
    (void)state;
    rng = 5;
    for (unsigned votes = 1; votes <= 6; votes++) {
        free_made(NULL);
        assert_int_equal(set_up_path(NULL), 0);
        make_good(votes);
        for (unsigned page = 0; page < 2; page++)
            for (unsigned bit = 0; bit < 64; bit++) {
                struct store_check_result r;
                memcpy(spoilt, good, good_size);
                spoilt[page * PAGE + 144 + bit / 8] ^= (uint8_t)(1u << bit % 8);
                save(spoilt, good_size);
                assert_status(check(&r), AMI_DAMAGED);
            }
    }
}

#define ON_LEDGER(test) cmocka_unit_test_setup_teardown(test, set_up_path, free_made)

/* Wherever a long value is cut in two, and whichever byte of it changes, its check tells. */
static void checks_of_long_values(void **state)
{
    (void)state;
    static const size_t sizes[] = {4095, 4096, 4097, 8192, 300001};
    static uint8_t bytes[300001];
    const struct span key = SPAN_LITERAL("key"), none = span_of(NULL, 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 >> 3);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        const size_t size = sizes[k];
        uint8_t check[STORE_CHECK_BYTES], other[STORE_CHECK_BYTES];
        store_check(check, "db", key, span_of(bytes, size), none);
        for (size_t at = 0; at <= size; at += at < 8200 ? 1021 : 49999) {
            store_check(other, "db", key, span_of(bytes, at), span_of(bytes + at, size - at));
            assert_memory_equal(other, check, sizeof check);
            if (at == size)
                break;
            bytes[at] ^= 1;
            store_check(other, "db", key, span_of(bytes, size), none);
            assert_memory_not_equal(other, check, sizeof check);
            bytes[at] ^= 1;
        }
        store_check(other, "db", key, span_of(bytes, size - 1), none);
        assert_memory_not_equal(other, check, sizeof check);
    }
}

static void checks_of_many_values(void **state)
{
    (void)state;
    static uint8_t bytes[150], check[150][STORE_CHECK_BYTES];
    struct span key[150], value[150];
    for (size_t i = 0; i < 150; i++) {
        bytes[i] = (uint8_t)(i * 7);
        key[i] = span_of(bytes + i / 2, 1 + i / 3);
        value[i] = span_of(bytes, i);
    }
    store_checks(check, "hashes", key, value, 150);
    for (size_t i = 0; i < 150; i++) {
        uint8_t alone[STORE_CHECK_BYTES];
        store_check(alone, "hashes", key[i], value[i], span_of(NULL, 0));
        assert_memory_equal(check[i], alone, sizeof alone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_LEDGER(a_good_ledger_passes_after_every_write),
        ON_LEDGER(kept_blocks_come_and_go),
        ON_LEDGER(nothing_is_no_ledger),
        ON_LEDGER(damage_is_found_or_touches_nothing),
        ON_LEDGER(a_lost_write_is_found),
        ON_LEDGER(the_newer_meta_page_counts),
        cmocka_unit_test(checks_of_long_values),
        cmocka_unit_test(checks_of_many_values),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
