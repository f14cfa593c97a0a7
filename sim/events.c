#include "sim/events.h"

#include "base/check.h"

#include <stdlib.h>

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void insert(struct sim_events *q, struct sim_event e)
{
    if (q->size == q->capacity) {
        q->capacity = q->capacity == 0 ? 1024 : 2 * q->capacity;
        q->heap = realloc(q->heap, q->capacity * sizeof *q->heap);
        AMI_CHECK(q->heap != NULL);
    }
    size_t i = q->size++;
    for (; i > 0 && before(&e, &q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = e;
}

void sim_events_push(struct sim_events *q, struct sim_event e)
{
    e.order = q->order++;
    insert(q, e);
}

void sim_events_defer(struct sim_events *q, struct sim_event e, uint64_t at_us)
{
    e.at_us = at_us;
    insert(q, e);
}

const struct sim_event *sim_events_next(const struct sim_events *q)
{
    return q->size == 0 ? NULL : &q->heap[0];
}

struct sim_event sim_events_pop(struct sim_events *q)
{
    AMI_CHECK(q->size > 0);
    struct sim_event top = q->heap[0], last = q->heap[--q->size];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= q->size)
            break;
        if (c + 1 < q->size && before(&q->heap[c + 1], &q->heap[c]))
            c++;
        if (!before(&q->heap[c], &last))
            break;
        q->heap[i] = q->heap[c];
        i = c;
    }
    if (q->size > 0)
        q->heap[i] = last;
    return top;
}

void sim_events_free(struct sim_events *q)
{
    free(q->heap);
    *q = (struct sim_events){0};
}
