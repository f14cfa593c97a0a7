/* One round: take all posted tasks as one list, run them; run the alarms that are due; look for a
 * signal; wait on an eventfd until the next alarm, unless something was posted meanwhile.
 *
 * A poster writes to the eventfd only when the loop is about to sleep or sleeps (`asleep`), so a
 * busy loop costs its posters a mutex and no system call.
 */
#include "net/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

struct loop {
    pthread_mutex_t lock;
    struct loop_task *first; /* under lock: posted, not taken yet */
    struct loop_task *last;
    bool asleep; /* under lock: a poster must write to wake_fd */

    struct loop_task *batch; /* taken, not run yet; the loop's thread writes it under lock */
    struct loop_alarm *alarms;
    int wake_fd;
    atomic_bool stopping;

    bool catches_signals;
    bool signal_told;
    void (*on_signal)(void *arg);
    void *signal_arg;
    struct sigaction old_int, old_term, old_pipe;
};

/* What a signal handler may touch: the first signal's number and where to ring. */
static atomic_int caught_signal;
static atomic_int signal_wake_fd = -1;

uint64_t clock_mono_us(void)
{
    struct timespec t;
    AMI_CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int64_t clock_wall_ms(void)
{
    struct timespec t;
    AMI_CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void wake(int fd)
{
    const uint64_t one = 1;
    /* The counter can only fail by being full, and then the loop is awake anyway. */
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL)
        return NULL;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0 || pthread_mutex_init(&loop->lock, NULL) != 0) {
        if (loop->wake_fd >= 0)
            close(loop->wake_fd);
        free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    if (loop->catches_signals) {
        sigaction(SIGINT, &loop->old_int, NULL);
        sigaction(SIGTERM, &loop->old_term, NULL);
        sigaction(SIGPIPE, &loop->old_pipe, NULL);
        atomic_store(&signal_wake_fd, -1);
        atomic_store(&caught_signal, 0);
    }
    close(loop->wake_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    AMI_CHECK(task->run != NULL);
    bool ring = false;
    pthread_mutex_lock(&loop->lock);
    if (!task->queued) {
        task->queued = true;
        task->next = NULL;
        if (loop->last == NULL)
            loop->first = task;
        else
            loop->last->next = task;
        loop->last = task;
        ring = loop->asleep;
        loop->asleep = false;
    }
    pthread_mutex_unlock(&loop->lock);
    if (ring)
        wake(loop->wake_fd);
}

/* Takes `task` out of the list at *head; returns whether it was there and gives the one before it.
 */
static bool list_remove(struct loop_task **head, struct loop_task *task, struct loop_task **before)
{
    *before = NULL;
    for (struct loop_task **at = head; *at != NULL; at = &(*at)->next) {
        if (*at == task) {
            *at = task->next;
            return true;
        }
        *before = *at;
    }
    return false;
}

void loop_cancel(struct loop *loop, struct loop_task *task)
{
    struct loop_task *before;
    pthread_mutex_lock(&loop->lock);
    if (task->queued) {
        if (list_remove(&loop->first, task, &before)) {
            if (loop->last == task)
                loop->last = before;
        } else {
            AMI_CHECK(list_remove(&loop->batch, task, &before));
        }
        task->queued = false;
    }
    pthread_mutex_unlock(&loop->lock);
}

void loop_alarm_set(struct loop *loop, struct loop_alarm *alarm, uint64_t at_us)
{
    AMI_CHECK(alarm->fire != NULL);
    alarm->at_us = at_us;
    bool arm = at_us != UINT64_MAX;
    if (arm == alarm->armed)
        return;
    alarm->armed = arm;
    if (arm) {
        alarm->next = loop->alarms;
        loop->alarms = alarm;
        return;
    }
    for (struct loop_alarm **at = &loop->alarms; *at != NULL; at = &(*at)->next) {
        if (*at == alarm) {
            *at = alarm->next;
            return;
        }
    }
    AMI_CHECK(false);
}

static void signal_handler(int number)
{
    int saved = errno;
    int expected = 0;
    if (!atomic_compare_exchange_strong(&caught_signal, &expected, number))
        _exit(128 + number);
    int fd = atomic_load(&signal_wake_fd);
    if (fd >= 0)
        wake(fd);
    errno = saved;
}

bool loop_catch_signals(struct loop *loop, void (*on_signal)(void *arg), void *arg)
{
    AMI_CHECK(!loop->catches_signals && atomic_load(&signal_wake_fd) == -1);
    loop->on_signal = on_signal;
    loop->signal_arg = arg;
    atomic_store(&caught_signal, 0);
    atomic_store(&signal_wake_fd, loop->wake_fd);
    struct sigaction act = {.sa_handler = signal_handler, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&act.sa_mask);
    sigemptyset(&ignore.sa_mask);
    if (sigaction(SIGINT, &act, &loop->old_int) != 0 ||
        sigaction(SIGTERM, &act, &loop->old_term) != 0 ||
        sigaction(SIGPIPE, &ignore, &loop->old_pipe) != 0)
        return false;
    loop->catches_signals = true;
    return true;
}

int loop_signal_caught(const struct loop *loop)
{
    return loop->catches_signals ? atomic_load(&caught_signal) : 0;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    wake(loop->wake_fd);
}

/* Runs the tasks that were posted before this call; what they post waits for the next round, so
 * that alarms and signals are never starved. */
static bool run_tasks(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->batch = loop->first;
    loop->first = NULL;
    loop->last = NULL;
    bool any = loop->batch != NULL;
    while (loop->batch != NULL && !atomic_load(&loop->stopping)) {
        struct loop_task *task = loop->batch;
        loop->batch = task->next;
        task->queued = false;
        void (*run)(void *arg) = task->run;
        void *arg = task->arg;
        pthread_mutex_unlock(&loop->lock);
        run(arg);
        pthread_mutex_lock(&loop->lock);
    }
    if (loop->batch != NULL) {
        /* Stopped half-way: what is left goes back to the front, for a later run or loop_cancel. */
        struct loop_task *tail = loop->batch;
        while (tail->next != NULL)
            tail = tail->next;
        tail->next = loop->first;
        if (loop->last == NULL)
            loop->last = tail;
        loop->first = loop->batch;
        loop->batch = NULL;
    }
    pthread_mutex_unlock(&loop->lock);
    return any;
}

static struct loop_alarm *alarm_next(struct loop *loop)
{
    struct loop_alarm *first = NULL;
    for (struct loop_alarm *a = loop->alarms; a != NULL; a = a->next)
        if (first == NULL || a->at_us < first->at_us)
            first = a;
    return first;
}

/* Fires what is due at the instant of the call, earliest first. An alarm that re-arms itself for
 * the past fires again only in the next round. */
static bool run_alarms(struct loop *loop)
{
    bool any = false;
    uint64_t now = clock_mono_us();
    size_t due = 0;
    for (struct loop_alarm *a = loop->alarms; a != NULL; a = a->next)
        due += a->at_us <= now;
    for (; due > 0 && !atomic_load(&loop->stopping); due--) {
        struct loop_alarm *a = alarm_next(loop);
        if (a == NULL || a->at_us > now)
            break;
        loop_alarm_set(loop, a, UINT64_MAX);
        a->fire(a->arg);
        any = true;
    }
    return any;
}

static bool run_signal(struct loop *loop)
{
    if (!loop->catches_signals || loop->signal_told || atomic_load(&caught_signal) == 0)
        return false;
    loop->signal_told = true;
    if (loop->on_signal != NULL)
        loop->on_signal(loop->signal_arg);
    else
        loop_stop(loop);
    return true;
}

static void wait_for_work(struct loop *loop, uint64_t until_us)
{
    pthread_mutex_lock(&loop->lock);
    bool ready = loop->first != NULL;
    loop->asleep = !ready;
    pthread_mutex_unlock(&loop->lock);
    if (ready)
        return;

    uint64_t now = clock_mono_us();
    struct timespec wait, *timeout = NULL;
    if (until_us != UINT64_MAX) {
        uint64_t us = until_us > now ? until_us - now : 0;
        wait.tv_sec = (time_t)(us / 1000000u);
        wait.tv_nsec = (long)(us % 1000000u) * 1000;
        timeout = &wait;
    }
    struct pollfd fd = {.fd = loop->wake_fd, .events = POLLIN};
    int ready_fds = ppoll(&fd, 1, timeout, NULL);
    AMI_CHECK(ready_fds >= 0 || errno == EINTR);
    uint64_t count;
    ssize_t got = read(loop->wake_fd, &count, sizeof count);
    (void)got; /* nothing to read is as good: the loop looks at everything anyway */

    pthread_mutex_lock(&loop->lock);
    loop->asleep = false;
    pthread_mutex_unlock(&loop->lock);
}

bool loop_step(struct loop *loop, uint64_t wait_us)
{
    uint64_t until = UINT64_MAX;
    if (wait_us < UINT64_MAX)
        until = clock_mono_us() + wait_us;
    struct loop_alarm *next = alarm_next(loop);
    if (next != NULL && next->at_us < until)
        until = next->at_us;
    bool signal_waits = loop->catches_signals && !loop->signal_told && caught_signal != 0;
    if (!signal_waits && !atomic_load(&loop->stopping))
        wait_for_work(loop, until);
    bool any = run_signal(loop);
    any = run_tasks(loop) || any;
    return run_alarms(loop) || any;
}

void loop_run(struct loop *loop)
{
    while (!atomic_load(&loop->stopping))
        loop_step(loop, UINT64_MAX);
    atomic_store(&loop->stopping, false);
}
