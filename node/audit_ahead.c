#include "node/audit_ahead.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS_MAX 64

struct place {
    struct audit_block b; /* first: a block's address is its place's */
    struct block_check *check;
    bool done; /* under lock */
};

/* A ring of places: taken out at `first`, checked from `next` on, put in behind the last one. */
struct audit_ahead {
    struct registry *registry;
    size_t size;
    struct place *place;
    size_t first, count; /* those in the ring */
    size_t waiting;      /* under lock: how many of the newest no thread has begun with */

    pthread_mutex_t lock;
    pthread_cond_t put, checked;
    bool stopping; /* under lock */
    unsigned threads;
    pthread_t thread[THREADS_MAX];
    size_t next; /* under lock: the oldest that no thread has begun with */
};

static void *worker(void *arg)
{
    struct audit_ahead *a = arg;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (a->waiting == 0 && !a->stopping)
            pthread_cond_wait(&a->put, &a->lock);
        if (a->stopping)
            break;
        struct place *p = &a->place[a->next];
        a->next = (a->next + 1) % a->size;
        a->waiting--;
        pthread_mutex_unlock(&a->lock);
        p->b.status = block_check_run(p->check, &p->b.bad_index);
        pthread_mutex_lock(&a->lock);
        p->done = true;
        pthread_cond_signal(&a->checked);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

struct audit_ahead *audit_ahead_new(struct registry *r, unsigned threads, size_t ctx_bytes)
{
    struct audit_ahead *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads == 0)
        threads = cores > 0 ? (unsigned)cores : 1;
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    a->registry = r;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->put, NULL);
    pthread_cond_init(&a->checked, NULL);
    a->place = calloc(2u * threads + 1, sizeof *a->place);
    bool ok = a->place != NULL;
    for (; ok && a->size < 2u * threads + 1; a->size++) {
        struct audit_block *b = &a->place[a->size].b;
        b->buffer = malloc(AUDIT_BUFFER_BYTES);
        b->ctx = calloc(1, ctx_bytes + 1);
        ok = b->buffer != NULL && b->ctx != NULL;
    }
    while (ok && a->threads < threads &&
           pthread_create(&a->thread[a->threads], NULL, worker, a) == 0)
        a->threads++;
    if (a->threads == 0) {
        audit_ahead_free(a);
        return NULL;
    }
    return a;
}

void audit_ahead_free(struct audit_ahead *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_cond_broadcast(&a->put);
    pthread_mutex_unlock(&a->lock);
    for (unsigned i = 0; i < a->threads; i++)
        pthread_join(a->thread[i], NULL);
    for (size_t i = 0; i < a->size; i++) {
        block_check_free(a->place[i].check);
        free(a->place[i].b.buffer);
        free(a->place[i].b.ctx);
    }
    pthread_cond_destroy(&a->checked);
    pthread_cond_destroy(&a->put);
    pthread_mutex_destroy(&a->lock);
    free(a->place);
    free(a);
}

struct audit_block *audit_ahead_place(struct audit_ahead *a)
{
    return a->count == a->size ? NULL : &a->place[(a->first + a->count) % a->size].b;
}

enum ami_status audit_ahead_put(struct audit_ahead *a, struct audit_block *b, uint32_t *bad_index)
{
    struct place *p = &a->place[(a->first + a->count) % a->size];
    AMI_CHECK(a->count < a->size && &p->b == b && p->check == NULL);
    p->done = false;
    AMI_TRY(
        block_check_prepare(a->registry, &b->block.header, b->block.body, &p->check, bad_index));
    a->count++;
    pthread_mutex_lock(&a->lock);
    a->waiting++;
    pthread_cond_signal(&a->put);
    pthread_mutex_unlock(&a->lock);
    return AMI_OK;
}

struct audit_block *audit_ahead_next(struct audit_ahead *a)
{
    if (a->count == 0)
        return NULL;
    struct place *p = &a->place[a->first];
    pthread_mutex_lock(&a->lock);
    while (!p->done)
        pthread_cond_wait(&a->checked, &a->lock);
    pthread_mutex_unlock(&a->lock);
    a->first = (a->first + 1) % a->size;
    a->count--;
    block_check_free(p->check);
    p->check = NULL;
    return &p->b;
}
