/* The work pool and the storage thread: everything comes back, in bulk, bounded, in order. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "net/pool.h"
#include "net/writer.h"
#include "tests/harness.h"

#define JOBS 3000
#define OUT  256

struct job {
    uint64_t in, out;
    int done;
};

struct bench {
    struct loop *loop;
    struct work_pool *pool;
    struct job jobs[JOBS];
    int submitted, back, refused;
    pthread_t loop_thread;
};

static struct bench bench;

static void square(void *arg)
{
    struct job *j = (struct job *)arg;
    j->out = j->in * j->in;
}

/* As a core does: submits until the pool is full, goes on when a job is back. */
static void submit_more(void)
{
    while (bench.submitted < JOBS) {
        enum ami_status status = work_pool_submit(bench.pool, square, &bench.jobs[bench.submitted]);
        if (status == AMI_AGAIN) {
            bench.refused++;
            return;
        }
        assert_ok(status);
        bench.submitted++;
    }
}

static void job_done(void *ctx, void *arg)
{
    struct job *j = (struct job *)arg;
    assert_ptr_equal(ctx, &bench);
    assert_true(pthread_equal(pthread_self(), bench.loop_thread));
    j->done++;
    bench.back++;
    submit_more();
}

static void all_jobs_come_back_once(void **state)
{
    (void)state;
    memset(&bench, 0, sizeof bench);
    bench.loop = loop_new();
    bench.loop_thread = pthread_self();
    bench.pool = work_pool_new(bench.loop, 3, OUT, job_done, &bench);
    assert_non_null(bench.pool);
    assert_int_equal(work_pool_threads(bench.pool), 3);
    for (int i = 0; i < JOBS; i++)
        bench.jobs[i].in = (uint64_t)i;
    submit_more();
    assert_true(bench.refused >= 1); /* the loop did not run yet, so OUT jobs were out */
    assert_int_equal(bench.submitted, OUT);
    while (bench.back < JOBS)
        loop_step(bench.loop, 1000000);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(bench.jobs[i].done, 1);
        assert_int_equal(bench.jobs[i].out, (uint64_t)i * (uint64_t)i);
    }
    work_pool_free(bench.pool);
    loop_free(bench.loop);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t open;
    bool is_open;
    atomic_int started;
};

static struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .open = PTHREAD_COND_INITIALIZER};

static void gate_wait(void)
{
    pthread_mutex_lock(&gate.lock);
    atomic_fetch_add(&gate.started, 1);
    while (!gate.is_open)
        pthread_cond_wait(&gate.open, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static void gate_set(bool is_open)
{
    pthread_mutex_lock(&gate.lock);
    gate.is_open = is_open;
    pthread_cond_broadcast(&gate.open);
    pthread_mutex_unlock(&gate.lock);
}

static void run_gated(void *arg)
{
    gate_wait();
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void not_expected(void *ctx, void *job)
{
    (void)ctx;
    (void)job;
    fail();
}

static void *free_pool(void *arg)
{
    work_pool_free((struct work_pool *)arg);
    return NULL;
}

/* Freed with jobs in it: the running one ends, the waiting ones never start, nothing is told. */
static void a_pool_can_be_freed_with_work_in_it(void **state)
{
    (void)state;
    atomic_int ran = 0;
    gate_set(false);
    atomic_store(&gate.started, 0);
    struct loop *loop = loop_new();
    struct work_pool *pool = work_pool_new(loop, 1, 8, not_expected, NULL);
    assert_non_null(pool);
    for (int i = 0; i < 8; i++)
        assert_ok(work_pool_submit(pool, run_gated, &ran));
    assert_status(work_pool_submit(pool, run_gated, &ran), AMI_AGAIN);
    while (atomic_load(&gate.started) == 0)
        sched_yield();
    pthread_t freeing;
    assert_int_equal(pthread_create(&freeing, NULL, free_pool, pool), 0);
    gate_set(true);
    pthread_join(freeing, NULL);
    assert_true(atomic_load(&ran) >= 1 && atomic_load(&ran) <= 8);
    loop_step(loop, 0);
    loop_free(loop);
}

struct written {
    int number;
    enum ami_status result;
};

struct disk {
    int executed[JOBS], executed_count;
    int told, batches;
    size_t batch_max;
    bool gated;
    struct written *last;
};

static void execute(void *ctx, void *const *writes, size_t count, enum ami_status *status)
{
    struct disk *d = (struct disk *)ctx;
    if (d->gated)
        gate_wait();
    assert_true(count >= 1 && count <= DISK_WRITER_BATCH_MAX);
    d->batches++;
    d->batch_max = count > d->batch_max ? count : d->batch_max;
    for (size_t i = 0; i < count; i++) {
        const struct written *w = (const struct written *)writes[i];
        d->executed[d->executed_count++] = w->number;
        status[i] = w->number == 77 ? AMI_FULL : AMI_OK;
    }
}

static void written(void *ctx, void *write, enum ami_status status)
{
    struct disk *d = (struct disk *)ctx;
    struct written *w = (struct written *)write;
    assert_int_equal(w->number, d->told);
    assert_status(status, w->number == 77 ? AMI_FULL : AMI_OK);
    d->told++;
}

static struct written writes[JOBS];

static void writes_are_carried_out_and_told_in_order(void **state)
{
    (void)state;
    static struct disk d;
    memset(&d, 0, sizeof d);
    struct loop *loop = loop_new();
    struct disk_writer_config config = {
        .ctx = &d, .execute = execute, .on_done = written, .writes_max = OUT};
    struct disk_writer *w = disk_writer_new(loop, &config);
    assert_non_null(w);
    int put = 0, refused = 0;
    while (d.told < JOBS) {
        while (put < JOBS) {
            writes[put].number = put;
            enum ami_status status = disk_writer_put(w, &writes[put]);
            if (status == AMI_AGAIN) {
                refused++;
                break;
            }
            assert_ok(status);
            put++;
        }
        loop_step(loop, 1000000);
    }
    assert_int_equal(d.executed_count, JOBS);
    assert_true(refused > 0);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(d.executed[i], i);
    disk_writer_free(w);
    loop_free(loop);
}

/* While one write is being synced the others gather, and go together; freeing loses none. */
static void waiting_writes_go_in_one_batch_and_freeing_carries_them_out(void **state)
{
    (void)state;
    static struct disk d;
    memset(&d, 0, sizeof d);
    d.gated = true;
    gate_set(false);
    atomic_store(&gate.started, 0);
    struct loop *loop = loop_new();
    struct disk_writer_config config = {
        .ctx = &d, .execute = execute, .on_done = written, .writes_max = OUT};
    struct disk_writer *w = disk_writer_new(loop, &config);
    writes[0].number = 0;
    assert_ok(disk_writer_put(w, &writes[0]));
    while (atomic_load(&gate.started) == 0)
        sched_yield();
    for (int i = 1; i <= 40; i++) {
        writes[i].number = i;
        assert_ok(disk_writer_put(w, &writes[i]));
    }
    gate_set(true);
    disk_writer_free(w);
    assert_int_equal(d.executed_count, 41);
    assert_int_equal(d.batches, 2);
    assert_int_equal(d.batch_max, 40);
    assert_int_equal(d.told, 0);
    loop_step(loop, 0);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_jobs_come_back_once),
        cmocka_unit_test(a_pool_can_be_freed_with_work_in_it),
        cmocka_unit_test(writes_are_carried_out_and_told_in_order),
        cmocka_unit_test(waiting_writes_go_in_one_batch_and_freeing_carries_them_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
