#include "tests/consensus/world_internal.h"

#include <math.h>

static uint64_t next_random(struct world *w)
{
    uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t world_random(struct world *w, uint64_t below)
{
    return below == 0 ? 0 : next_random(w) % below;
}

bool world_chance(struct world *w, unsigned of, unsigned in)
{
    return of != 0 && world_random(w, in) < of;
}

uint64_t world_delay(struct world *w, uint64_t mean_us, uint64_t fixed_us)
{
    if (mean_us == 0)
        return fixed_us;
    double u = (double)(next_random(w) >> 11) / 9007199254740992.0;
    return 1 + (uint64_t)(-log(1.0 - u) * (double)mean_us);
}

void world_add_to_trace(struct world *w, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t h = w->trace ^ w->now;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    w->trace = h;
}

/* --- the queue of events: a binary heap by (time, order) -------------------------------------- */

static bool before(const struct world_event *a, const struct world_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void world_push(struct world *w, struct world_event e)
{
    if (w->heap_size == w->heap_capacity) {
        w->heap_capacity = w->heap_capacity == 0 ? 256 : 2 * w->heap_capacity;
        w->heap = must(realloc(w->heap, w->heap_capacity * sizeof *w->heap));
    }
    e.order = w->order++;
    size_t i = w->heap_size++;
    for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

struct world_event world_pop(struct world *w)
{
    struct world_event top = w->heap[0], last = w->heap[--w->heap_size];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= w->heap_size)
            break;
        if (c + 1 < w->heap_size && before(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!before(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    if (w->heap_size > 0)
        w->heap[i] = last;
    return top;
}

void world_push_for(struct world *w, unsigned node, enum world_event_type type, uint64_t after_us)
{
    world_push(w, (struct world_event){.at_us = w->now + after_us,
                                       .type = type,
                                       .node = (uint8_t)node,
                                       .life = w->node[node].life});
}
