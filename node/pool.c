#include "node/pool.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/* What makes two reports rivals for one place on the ledger. Compared as memory: no padding. */
struct report_key {
    uint8_t name[AMI_ID_BYTES_MAX + 4];
    uint64_t sequence;
    uint32_t epoch;
    uint32_t zero;
};

struct slot {
    struct pool_entry entry; /* first: an entry's address is its slot's */
    struct report_key report;
    bool timed;
    uint64_t timer_us;                      /* when its timer began to run, with `timed` */
    struct slot *prev, *next;               /* order of arrival */
    struct slot *source_prev, *source_next; /* the same, within one source */
    UT_hash_handle by_id;
    UT_hash_handle by_report;
    uint8_t bytes[];
};

struct pool {
    struct pool_limits limits;
    size_t count, bytes;
    struct slot *order;
    struct slot *of_source[POOL_SOURCES];
    size_t timed_of_source[POOL_SOURCES];
    struct slot *ids;
    struct slot *reports;
};

struct pool *pool_new(struct pool_limits limits)
{
    struct pool *p = calloc(1, sizeof *p);
    if (p != NULL)
        p->limits = limits;
    return p;
}

void pool_free(struct pool *p)
{
    if (p == NULL)
        return;
    while (p->order != NULL)
        pool_remove(p, &p->order->entry, 0);
    free(p);
}

static struct report_key report_key_of(const struct ami_id *meter, uint32_t epoch,
                                       uint64_t sequence)
{
    struct report_key key = {.sequence = sequence, .epoch = epoch};
    key.name[0] = meter->size;
    memcpy(key.name + 1, meter->text, meter->size);
    return key;
}

static struct slot *find_report(struct pool *p, const struct report_key *key)
{
    struct slot *s = NULL;
    HASH_FIND(by_report, p->reports, key, sizeof *key, s);
    return s;
}

static struct slot *find_id(struct pool *p, const sm3_digest *id)
{
    struct slot *s = NULL;
    HASH_FIND(by_id, p->ids, id, sizeof *id, s);
    return s;
}

/* Starts the timer of the oldest transaction of this source that has none, while there is quota. */
static void start_timers(struct pool *p, uint8_t source, uint64_t now_us)
{
    if (p->timed_of_source[source] >= POOL_QUOTA)
        return;
    struct slot *s;
    DL_FOREACH2(p->of_source[source], s, source_next)
    {
        if (s->timed)
            continue;
        s->timed = true;
        s->timer_us = now_us;
        if (++p->timed_of_source[source] >= POOL_QUOTA)
            return;
    }
}

enum ami_status pool_add(struct pool *p, struct span encoded, uint8_t source, bool own,
                         uint64_t now_us, struct pool_entry **out)
{
    AMI_CHECK(source < POOL_SOURCES);
    if (p->count >= p->limits.count_max || encoded.size > p->limits.bytes_max - p->bytes)
        return AMI_AGAIN;
    struct slot *s = calloc(1, sizeof *s + encoded.size);
    if (s == NULL)
        return AMI_NO_MEMORY;
    memcpy(s->bytes, encoded.data, encoded.size);
    enum ami_status status = tx_view_parse(&s->entry.view, span_of(s->bytes, encoded.size));
    if (status == AMI_OK && find_id(p, &s->entry.view.id) != NULL)
        status = AMI_EXISTS;
    bool report = status == AMI_OK && s->entry.view.tx.kind == TX_REPORT;
    if (report) {
        const struct report_meter_part *m = &s->entry.view.u.report.meter;
        s->report = report_key_of(&m->meter, m->epoch, m->sequence);
        if (find_report(p, &s->report) != NULL)
            status = AMI_EXISTS;
    }
    if (status != AMI_OK) {
        free(s);
        return status;
    }
    s->entry.source = source;
    s->entry.own = own;
    s->entry.arrived_us = now_us;
    HASH_ADD(by_id, p->ids, entry.view.id, sizeof(sm3_digest), s);
    if (report)
        HASH_ADD(by_report, p->reports, report, sizeof s->report, s);
    DL_APPEND(p->order, s);
    DL_APPEND2(p->of_source[source], s, source_prev, source_next);
    p->count++;
    p->bytes += encoded.size;
    start_timers(p, source, now_us);
    if (out != NULL)
        *out = &s->entry;
    return AMI_OK;
}

void pool_remove(struct pool *p, struct pool_entry *e, uint64_t now_us)
{
    struct slot *s = (struct slot *)e;
    uint8_t source = e->source;
    HASH_DELETE(by_id, p->ids, s);
    if (e->view.tx.kind == TX_REPORT)
        HASH_DELETE(by_report, p->reports, s);
    DL_DELETE(p->order, s);
    DL_DELETE2(p->of_source[source], s, source_prev, source_next);
    AMI_CHECK(p->count > 0 && p->bytes >= e->view.encoded.size);
    p->count--;
    p->bytes -= e->view.encoded.size;
    if (s->timed)
        p->timed_of_source[source]--;
    free(s);
    start_timers(p, source, now_us);
}

struct pool_entry *pool_find(struct pool *p, const sm3_digest *id)
{
    struct slot *s = find_id(p, id);
    return s == NULL ? NULL : &s->entry;
}

struct pool_entry *pool_find_report(struct pool *p, const struct ami_id *meter, uint32_t epoch,
                                    uint64_t sequence)
{
    struct report_key key = report_key_of(meter, epoch, sequence);
    struct slot *s = find_report(p, &key);
    return s == NULL ? NULL : &s->entry;
}

struct pool_entry *pool_first(struct pool *p)
{
    return p->order == NULL ? NULL : &p->order->entry;
}

struct pool_entry *pool_next(struct pool_entry *e)
{
    struct slot *s = ((struct slot *)e)->next;
    return s == NULL ? NULL : &s->entry;
}

size_t pool_count(const struct pool *p)
{
    return p->count;
}

size_t pool_bytes(const struct pool *p)
{
    return p->bytes;
}

uint64_t pool_progress_deadline_us(const struct pool *p, uint64_t progress_timeout_us)
{
    uint64_t first = UINT64_MAX;
    for (unsigned source = 0; source < POOL_SOURCES; source++) {
        unsigned seen = 0;
        struct slot *s;
        DL_FOREACH2(p->of_source[source], s, source_next)
        {
            if (!s->timed || seen++ >= POOL_QUOTA)
                break;
            if (s->timer_us + progress_timeout_us < first)
                first = s->timer_us + progress_timeout_us;
        }
    }
    return first;
}

void pool_restart_timers(struct pool *p, uint64_t now_us)
{
    struct slot *s;
    DL_FOREACH(p->order, s)
    {
        if (s->timed)
            s->timer_us = now_us;
    }
}
