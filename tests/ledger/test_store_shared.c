/* Several at the ledger at once: another process and another thread that read while it is written,
 * and a writer that is killed. */
#include "tests/ledger/store_dir.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* The parent writes in between; the child, which only reads, sees each commit, also those that no
 * longer fit its own map, and may not write. */
static void read_along(int go, int done)
{
    struct store *s, *writer;
    struct certified_block got;
    CHILD_CHECK(store_open(&writer, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why) ==
                AMI_IN_USE);
    CHILD_CHECK(strstr(why, "another process") != NULL);
    CHILD_CHECK(store_open(&s, dir, NULL, STORE_READ_ONLY, 0, why, sizeof why) == AMI_OK);
    CHILD_CHECK(memcmp(store_chain(s)->b, chain.b, SM3_BYTES) == 0);
    CHILD_CHECK(store_height(s) == 1);
    put_byte(done);
    for (uint64_t height = 2; take_byte(go); height++) {
        CHILD_CHECK(store_height(s) == height);
        CHILD_CHECK(store_block(s, height, &got, buffer, sizeof buffer) == AMI_OK);
        CHILD_CHECK(got.header.height == height);
        put_byte(done);
    }
    CHILD_CHECK(store_height(s) == 14);
    store_close(s);
    _exit(0);
}

static void another_process_reads_along_but_may_not_write(void **state)
{
    (void)state;
    int go[2], done[2];
    struct tip tip = tip_at_start();
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(done), 0);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct made *b = make_block(&tip, 1, 10);
    struct store_batch batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    free_block(b);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(go[1]);
        close(done[0]);
        read_along(go[0], done[1]);
    }
    close(go[0]);
    close(done[1]);
    assert_true(take_byte(done[0]));
    for (unsigned i = 0; i < 13; i++) {
        b = make_block(&tip, 480, 4000);
        batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        free_block(b);
        put_byte(go[1]);
        assert_true(take_byte(done[0]));
    }
    assert_true(data_size() > 20 << 20);
    close(go[1]);
    close(done[0]);
    assert_child_succeeds(child);
    store_close(s);
}

struct reading_thread {
    struct store *s;
    atomic_bool stop;
    atomic_uint rounds;
    unsigned wrong;
    uint8_t *room;
};

/* Whatever height is the last one must be there in full, while the map is being replaced too. */
static void *read_all_the_time(void *arg)
{
    struct reading_thread *t = arg;
    while (!atomic_load(&t->stop)) {
        struct certified_block got;
        struct body_reply reply;
        uint64_t height = store_height(t->s), at;
        if (store_block(t->s, height, &got, t->room, BUFFER_BYTES) != AMI_OK ||
            got.header.height != height) {
            t->wrong++;
        } else {
            sm3_digest hash = block_hash(&got.header);
            if (store_height_of(t->s, &hash, &at) != AMI_OK || at != height ||
                store_body(t->s, &hash, &reply, t->room, BUFFER_BYTES) != AMI_OK ||
                reply.header.height != height)
                t->wrong++;
        }
        atomic_fetch_add(&t->rounds, 1);
    }
    return NULL;
}

static void a_thread_reads_while_another_writes(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct reading_thread t = {.s = open_store(STORE_READ_WRITE, 0)};
    pthread_t thread;
    struct made *b = make_block(&tip, 1, 10);
    struct store_batch batch = commit_of(b);
    assert_ok(store_write(t.s, &batch));
    free_block(b);
    t.room = malloc(BUFFER_BYTES);
    assert_non_null(t.room);
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &t), 0);
    for (unsigned i = 0; i < 24; i++) {
        b = make_block(&tip, 240, 4000);
        batch = pending_of(b);
        assert_ok(store_write(t.s, &batch));
        batch = commit_of(b);
        assert_ok(store_write(t.s, &batch));
        free_block(b);
    }
    atomic_store(&t.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(t.wrong, 0);
    assert_true(atomic_load(&t.rounds) > 10);
    assert_true(data_size() > 20 << 20);
    store_close(t.s);
    free(t.room);
}

/* Commits one block after the other and tells each height once it is durable. */
static void write_until_killed(int told)
{
    struct store *s;
    struct tip tip = tip_at_start();
    CHILD_CHECK(store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why) == AMI_OK);
    for (;;) {
        uint8_t record[512];
        struct made *b = make_block(&tip, 20, 1000);
        struct store_batch batch = pending_of(b);
        batch.vote_record = vote_of(record, tip.height, &b->hash);
        CHILD_CHECK(store_write(s, &batch) == AMI_OK);
        batch = commit_of(b);
        CHILD_CHECK(store_write(s, &batch) == AMI_OK);
        free_block(b);
        put_byte(told);
    }
}

static void what_was_written_survives_sigkill(void **state)
{
    (void)state;
    for (unsigned blocks = 1; blocks <= 12; blocks += 1) {
        int told[2];
        assert_int_equal(pipe(told), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(told[0]);
            write_until_killed(told[1]);
        }
        close(told[1]);
        uint64_t durable = 0;
        while (durable < blocks && take_byte(told[0]))
            durable++;
        kill(child, SIGKILL);
        while (take_byte(told[0]))
            durable++;
        close(told[0]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));

        struct store *s = open_store(STORE_READ_WRITE, 0);
        uint64_t height = store_height(s);
        assert_in_range(height, durable, durable + 1);
        struct tip tip = tip_at_start();
        for (uint64_t h = 1; h <= height; h++) {
            struct made *b = make_block(&tip, 20, 1000);
            assert_block(s, b);
            free_block(b);
        }
        uint8_t room[2048];
        struct vote_record vote;
        assert_ok(store_vote_record(s, &vote, room, sizeof room));
        assert_in_range(vote.term, height, height + 1);
        struct made *next = make_block(&tip, 20, 1000);
        struct store_batch batch = commit_of(next);
        assert_ok(store_write(s, &batch));
        free_block(next);
        store_close(s);
        remove_file("data.mdb");
        remove_file("lock.mdb");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(another_process_reads_along_but_may_not_write),
        ON_DISK(a_thread_reads_while_another_writes),
        ON_DISK(what_was_written_survives_sigkill),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
