#include "net/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"

#define THREADS_MAX 256

struct pool_job {
    void (*run)(void *job);
    void *job;
};

struct work_pool {
    struct loop *loop;
    void (*on_done)(void *ctx, void *job);
    void *ctx;
    struct loop_task done_task;

    pthread_mutex_t lock;
    pthread_cond_t work_there;
    struct pool_job *ring; /* under lock: jobs_max places */
    size_t ring_first, ring_count;
    void **done; /* under lock: jobs_max places */
    size_t done_count;
    bool stopping; /* under lock */

    void **taken; /* the loop's thread: the completions of one round */
    size_t jobs_max;
    size_t out; /* the loop's thread: submitted and not back */
    unsigned threads;
    pthread_t thread[];
};

static void *worker(void *arg)
{
    struct work_pool *pool = (struct work_pool *)arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->ring_count == 0 && !pool->stopping)
            pthread_cond_wait(&pool->work_there, &pool->lock);
        if (pool->stopping)
            break;
        struct pool_job job = pool->ring[pool->ring_first];
        pool->ring_first = (pool->ring_first + 1) % pool->jobs_max;
        pool->ring_count--;
        pthread_mutex_unlock(&pool->lock);
        job.run(job.job);
        pthread_mutex_lock(&pool->lock);
        AMI_CHECK(pool->done_count < pool->jobs_max);
        pool->done[pool->done_count++] = job.job;
        if (pool->done_count == 1) /* else the task is queued already and will see this one */
            loop_post(pool->loop, &pool->done_task);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* In the loop's thread: gives back all that is done. on_done may submit again. */
static void give_back(void *arg)
{
    struct work_pool *pool = (struct work_pool *)arg;
    pthread_mutex_lock(&pool->lock);
    size_t count = pool->done_count;
    void **swap = pool->taken;
    pool->taken = pool->done;
    pool->done = swap;
    pool->done_count = 0;
    pthread_mutex_unlock(&pool->lock);
    AMI_CHECK(pool->out >= count);
    for (size_t i = 0; i < count; i++) {
        /* Counted out one by one: `taken` is not touched by what on_done submits. */
        pool->out--;
        pool->on_done(pool->ctx, pool->taken[i]);
    }
}

struct work_pool *work_pool_new(struct loop *loop, unsigned threads, size_t jobs_max,
                                void (*on_done)(void *ctx, void *job), void *ctx)
{
    AMI_CHECK(jobs_max > 0 && on_done != NULL);
    if (threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores > 0 ? (unsigned)cores : 1;
    }
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    struct work_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->thread[0]);
    if (pool == NULL)
        return NULL;
    pool->loop = loop;
    pool->on_done = on_done;
    pool->ctx = ctx;
    pool->done_task = (struct loop_task){.run = give_back, .arg = pool};
    pool->jobs_max = jobs_max;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work_there, NULL);
    pool->ring = calloc(jobs_max, sizeof *pool->ring);
    pool->done = calloc(jobs_max, sizeof *pool->done);
    pool->taken = calloc(jobs_max, sizeof *pool->taken);
    if (pool->ring != NULL && pool->done != NULL && pool->taken != NULL)
        while (pool->threads < threads &&
               pthread_create(&pool->thread[pool->threads], NULL, worker, pool) == 0)
            /* Tools that ask the system for a thread's computing time know it by this name. */
            (void)pthread_setname_np(pool->thread[pool->threads++], "ami-work");
    if (pool->threads == 0) {
        work_pool_free(pool);
        return NULL;
    }
    return pool;
}

void work_pool_free(struct work_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work_there);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads; i++)
        pthread_join(pool->thread[i], NULL);
    loop_cancel(pool->loop, &pool->done_task);
    pthread_cond_destroy(&pool->work_there);
    pthread_mutex_destroy(&pool->lock);
    free(pool->ring);
    free(pool->done);
    free(pool->taken);
    free(pool);
}

enum ami_status work_pool_submit(struct work_pool *pool, void (*run)(void *job), void *job)
{
    if (pool->out == pool->jobs_max)
        return AMI_AGAIN;
    pool->out++;
    pthread_mutex_lock(&pool->lock);
    AMI_CHECK(pool->ring_count < pool->jobs_max);
    size_t at = (pool->ring_first + pool->ring_count) % pool->jobs_max;
    pool->ring[at] = (struct pool_job){run, job};
    pool->ring_count++;
    pthread_cond_signal(&pool->work_there);
    pthread_mutex_unlock(&pool->lock);
    return AMI_OK;
}

unsigned work_pool_threads(const struct work_pool *pool)
{
    return pool->threads;
}
