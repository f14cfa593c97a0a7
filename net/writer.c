#include "net/writer.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"

struct done_write {
    void *write;
    enum ami_status status;
};

struct disk_writer {
    struct loop *loop;
    struct disk_writer_config config;
    struct loop_task done_task;

    pthread_mutex_t lock;
    pthread_cond_t write_there;
    void **ring; /* under lock: writes_max places */
    size_t ring_first, ring_count;
    struct done_write *done; /* under lock: writes_max places */
    size_t done_count;
    bool stopping; /* under lock */

    struct done_write *taken; /* the loop's thread */
    size_t out;               /* the loop's thread: put and not back */
    bool has_thread;
    pthread_t thread;
};

/* Under lock: moves up to DISK_WRITER_BATCH_MAX writes out of the ring. */
static size_t take_batch(struct disk_writer *w, void **batch)
{
    size_t count = 0;
    while (w->ring_count > 0 && count < DISK_WRITER_BATCH_MAX) {
        batch[count++] = w->ring[w->ring_first];
        w->ring_first = (w->ring_first + 1) % w->config.writes_max;
        w->ring_count--;
    }
    return count;
}

static void *storage_thread(void *arg)
{
    struct disk_writer *w = (struct disk_writer *)arg;
    void *batch[DISK_WRITER_BATCH_MAX];
    enum ami_status status[DISK_WRITER_BATCH_MAX];
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->ring_count == 0 && !w->stopping)
            pthread_cond_wait(&w->write_there, &w->lock);
        if (w->ring_count == 0)
            break; /* stopping, and everything that was put is carried out */
        size_t count = take_batch(w, batch);
        pthread_mutex_unlock(&w->lock);
        for (size_t i = 0; i < count; i++)
            status[i] = AMI_IO; /* a write that `execute` forgot is not durable */
        w->config.execute(w->config.ctx, batch, count, status);
        pthread_mutex_lock(&w->lock);
        bool ring = w->done_count == 0;
        for (size_t i = 0; i < count; i++) {
            AMI_CHECK(w->done_count < w->config.writes_max);
            w->done[w->done_count++] = (struct done_write){batch[i], status[i]};
        }
        if (ring) /* else the task is queued already and will see these */
            loop_post(w->loop, &w->done_task);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void give_back(void *arg)
{
    struct disk_writer *w = (struct disk_writer *)arg;
    pthread_mutex_lock(&w->lock);
    size_t count = w->done_count;
    struct done_write *swap = w->taken;
    w->taken = w->done;
    w->done = swap;
    w->done_count = 0;
    pthread_mutex_unlock(&w->lock);
    AMI_CHECK(w->out >= count);
    for (size_t i = 0; i < count; i++) {
        w->out--;
        w->config.on_done(w->config.ctx, w->taken[i].write, w->taken[i].status);
    }
}

struct disk_writer *disk_writer_new(struct loop *loop, const struct disk_writer_config *config)
{
    AMI_CHECK(config->writes_max > 0 && config->execute != NULL && config->on_done != NULL);
    struct disk_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->loop = loop;
    w->config = *config;
    w->done_task = (struct loop_task){.run = give_back, .arg = w};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->write_there, NULL);
    w->ring = calloc(config->writes_max, sizeof *w->ring);
    w->done = calloc(config->writes_max, sizeof *w->done);
    w->taken = calloc(config->writes_max, sizeof *w->taken);
    if (w->ring != NULL && w->done != NULL && w->taken != NULL)
        w->has_thread = pthread_create(&w->thread, NULL, storage_thread, w) == 0;
    if (w->has_thread)
        (void)pthread_setname_np(w->thread, "ami-store");
    if (!w->has_thread) {
        disk_writer_free(w);
        return NULL;
    }
    return w;
}

void disk_writer_free(struct disk_writer *w)
{
    if (w == NULL)
        return;
    if (w->has_thread) {
        pthread_mutex_lock(&w->lock);
        w->stopping = true;
        pthread_cond_signal(&w->write_there);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    loop_cancel(w->loop, &w->done_task);
    pthread_cond_destroy(&w->write_there);
    pthread_mutex_destroy(&w->lock);
    free(w->ring);
    free(w->done);
    free(w->taken);
    free(w);
}

enum ami_status disk_writer_put(struct disk_writer *w, void *write)
{
    if (w->out == w->config.writes_max)
        return AMI_AGAIN;
    w->out++;
    pthread_mutex_lock(&w->lock);
    AMI_CHECK(w->ring_count < w->config.writes_max);
    w->ring[(w->ring_first + w->ring_count) % w->config.writes_max] = write;
    w->ring_count++;
    pthread_cond_signal(&w->write_there);
    pthread_mutex_unlock(&w->lock);
    return AMI_OK;
}
