/* The event loop: order of tasks, posting from other threads, alarms, signals. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/loop.h"
#include "tests/harness.h"

#define POSTERS 4
#define POSTS   2000

struct recorder {
    struct loop *loop;
    int order[8];
    int count;
};

struct step {
    struct loop_task task;
    struct recorder *recorder;
    int number;
};

static void record(void *arg)
{
    struct step *s = (struct step *)arg;
    s->recorder->order[s->recorder->count++] = s->number;
}

static void tasks_run_in_order_and_once(void **state)
{
    (void)state;
    struct recorder r = {.loop = loop_new()};
    assert_non_null(r.loop);
    struct step s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = (struct step){.recorder = &r, .number = i};
        s[i].task = (struct loop_task){.run = record, .arg = &s[i]};
        loop_post(r.loop, &s[i].task);
    }
    loop_post(r.loop, &s[0].task); /* queued already */
    loop_cancel(r.loop, &s[1].task);
    assert_true(loop_step(r.loop, 0));
    assert_int_equal(r.count, 2);
    assert_int_equal(r.order[0], 0);
    assert_int_equal(r.order[1], 2);
    assert_false(loop_step(r.loop, 0));
    loop_post(r.loop, &s[0].task); /* it ran, so it may be queued again */
    assert_true(loop_step(r.loop, 0));
    assert_int_equal(r.count, 3);
    /* The last one taken back leaves a list that can be added to. */
    loop_post(r.loop, &s[0].task);
    loop_post(r.loop, &s[1].task);
    loop_cancel(r.loop, &s[1].task);
    loop_post(r.loop, &s[2].task);
    assert_true(loop_step(r.loop, 0));
    assert_int_equal(r.count, 5);
    assert_int_equal(r.order[4], 2);
    loop_free(r.loop);
}

struct canceller {
    struct loop *loop;
    struct loop_task task;
    struct loop_task *victim;
};

static void cancel_other(void *arg)
{
    struct canceller *c = (struct canceller *)arg;
    loop_cancel(c->loop, c->victim);
}

/* A task may take back one that stands behind it in the same round, and free its memory. */
static void a_task_of_the_same_round_can_be_cancelled(void **state)
{
    (void)state;
    struct recorder r = {.loop = loop_new()};
    struct step *victim = calloc(1, sizeof *victim);
    assert_non_null(victim);
    *victim = (struct step){.recorder = &r, .number = 7};
    victim->task = (struct loop_task){.run = record, .arg = victim};
    struct canceller c = {.loop = r.loop, .victim = &victim->task};
    c.task = (struct loop_task){.run = cancel_other, .arg = &c};
    loop_post(r.loop, &c.task);
    loop_post(r.loop, &victim->task);
    loop_step(r.loop, 0);
    free(victim);
    loop_step(r.loop, 0);
    assert_int_equal(r.count, 0);
    loop_free(r.loop);
}

struct poster {
    struct loop *loop;
    struct loop_task task[POSTS];
    int next_expected;
    int *total;
    bool in_order;
};

struct post_arg {
    struct poster *poster;
    int number;
};

static struct post_arg post_args[POSTERS][POSTS];

static void count_post(void *arg)
{
    struct post_arg *a = (struct post_arg *)arg;
    struct poster *p = a->poster;
    p->in_order = p->in_order && a->number == p->next_expected;
    p->next_expected = a->number + 1;
    if (++*p->total == POSTERS * POSTS)
        loop_stop(p->loop);
}

static void *post_all(void *arg)
{
    struct poster *p = (struct poster *)arg;
    for (int i = 0; i < POSTS; i++)
        loop_post(p->loop, &p->task[i]);
    return NULL;
}

static void threads_post_and_nothing_is_lost(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    static struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    int total = 0;
    for (int t = 0; t < POSTERS; t++) {
        struct poster *p = &posters[t];
        memset(p, 0, sizeof *p);
        p->loop = loop;
        p->total = &total;
        p->in_order = true;
        for (int i = 0; i < POSTS; i++) {
            post_args[t][i] = (struct post_arg){p, i};
            p->task[i] = (struct loop_task){.run = count_post, .arg = &post_args[t][i]};
        }
        assert_int_equal(pthread_create(&threads[t], NULL, post_all, p), 0);
    }
    loop_run(loop);
    for (int t = 0; t < POSTERS; t++) {
        pthread_join(threads[t], NULL);
        assert_true(posters[t].in_order);
        assert_int_equal(posters[t].next_expected, POSTS);
    }
    assert_int_equal(total, POSTERS * POSTS);
    loop_free(loop);
}

struct ring {
    struct loop *loop;
    struct loop_alarm alarm;
    uint64_t wanted_us, fired_us;
    int times, repeat;
};

static void rang(void *arg)
{
    struct ring *r = (struct ring *)arg;
    r->times++;
    r->fired_us = clock_mono_us();
    if (r->times < r->repeat)
        loop_alarm_set(r->loop, &r->alarm, r->fired_us + 1000);
}

static void alarms_fire_once_when_due(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct ring late = {.loop = loop}, early = {.loop = loop, .repeat = 3}, never = {.loop = loop};
    late.alarm = (struct loop_alarm){.fire = rang, .arg = &late};
    early.alarm = (struct loop_alarm){.fire = rang, .arg = &early};
    never.alarm = (struct loop_alarm){.fire = rang, .arg = &never};
    uint64_t start = clock_mono_us();
    late.wanted_us = start + 30000;
    early.wanted_us = start + 10000;
    loop_alarm_set(loop, &late.alarm, start + 90000000);
    loop_alarm_set(loop, &late.alarm, late.wanted_us); /* moved */
    loop_alarm_set(loop, &early.alarm, early.wanted_us);
    loop_alarm_set(loop, &never.alarm, start + 5000);
    loop_alarm_set(loop, &never.alarm, UINT64_MAX);
    while (late.times == 0)
        loop_step(loop, 1000000);
    assert_int_equal(late.times, 1);
    assert_int_equal(early.times, 3);
    assert_int_equal(never.times, 0);
    assert_true(late.fired_us >= late.wanted_us);
    assert_true(early.fired_us < late.fired_us);
    assert_false(loop_step(loop, 0));
    loop_free(loop);
}

static void steer(void *arg)
{
    ++*(int *)arg;
}

static void the_first_signal_is_told_in_the_loop(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    int told = 0;
    assert_true(loop_catch_signals(loop, steer, &told));
    assert_int_equal(loop_signal_caught(loop), 0);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(told, 0); /* not from the handler */
    assert_true(loop_step(loop, 0));
    assert_int_equal(told, 1);
    assert_int_equal(loop_signal_caught(loop), SIGTERM);
    loop_step(loop, 0);
    assert_int_equal(told, 1);
    loop_free(loop);

    /* The next loop starts afresh, and without a function a signal stops it. */
    loop = loop_new();
    assert_true(loop_catch_signals(loop, NULL, NULL));
    assert_int_equal(loop_signal_caught(loop), 0);
    assert_int_equal(raise(SIGINT), 0);
    loop_run(loop);
    assert_int_equal(loop_signal_caught(loop), SIGINT);
    loop_free(loop);
}

/* In a process of its own, since it ends there. No nng was used before this fork. */
static void the_second_signal_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct loop *loop = loop_new();
        if (loop == NULL || !loop_catch_signals(loop, NULL, NULL))
            _exit(1);
        raise(SIGINT);
        raise(SIGTERM); /* the loop never ran: it is busy, as far as the user can see */
        _exit(2);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + SIGTERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_signal_ends_the_process),
        cmocka_unit_test(tasks_run_in_order_and_once),
        cmocka_unit_test(a_task_of_the_same_round_can_be_cancelled),
        cmocka_unit_test(threads_post_and_nothing_is_lost),
        cmocka_unit_test(alarms_fire_once_when_due),
        cmocka_unit_test(the_first_signal_is_told_in_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
