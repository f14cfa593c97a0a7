/* net/pool.h - the work pool: jobs of pure arithmetic, run by other threads.
 *
 * The loop's thread submits a job, one of the pool's threads runs it (it touches nothing but the
 * job), and the job comes back through on_done in the loop's thread, many at a time when many are
 * ready. Jobs finish in any order. This is `work` of base/env.h.
 */
#ifndef AMI_NET_POOL_H
#define AMI_NET_POOL_H

#include <stddef.h>

#include "base/status.h"
#include "net/loop.h"

struct work_pool;

/* threads: 0 for one per core, at least 1, at most 256. jobs_max bounds the jobs that were
 * submitted and are not back yet. NULL when there is no memory or no thread to be had. */
struct work_pool *work_pool_new(struct loop *loop, unsigned threads, size_t jobs_max,
                                void (*on_done)(void *ctx, void *job), void *ctx);

/* Waits for the jobs that run now; jobs that still wait are not run; on_done is called for none of
 * them, their memory is their owner's. NULL is allowed. */
void work_pool_free(struct work_pool *pool);

/* AMI_AGAIN when jobs_max jobs are out. */
enum ami_status work_pool_submit(struct work_pool *pool, void (*run)(void *job),
                                 void *job) AMI_MUST_CHECK;

unsigned work_pool_threads(const struct work_pool *pool);

#endif
