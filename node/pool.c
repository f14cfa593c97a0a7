#include "node/pool.h"

#include "base/check.h"
#include "base/table.h"
#include "ledger/evidence.h"

#include <stdlib.h>
#include <string.h>
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
    bool parked; /* in no list */
    bool timed;
    uint64_t timer_us;        /* when its timer began to run, with `timed` */
    uint64_t quota_us;        /* when it came into the quota: no leader restarts this */
    struct slot *prev, *next; /* order of arrival */
    struct slot *source_prev, *source_next; /* the same, within one source */
    UT_hash_handle by_id;
    UT_hash_handle by_report;
    UT_hash_handle by_number;
    uint8_t bytes[];
};

struct pool {
    struct pool_limits limits;
    size_t count, bytes;
    struct slot *order;
    struct slot *of_source[POOL_SOURCES];
    size_t count_of_source[POOL_SOURCES];
    size_t timed_of_source[POOL_SOURCES];
    struct slot *ids;
    struct slot *reports;
    struct slot *numbers; /* the MDMS's, parked or not */
    struct slot *evidence[AMI_MEMBERS_MAX][EVIDENCE_KIND_END];
    uint64_t last;        /* number on the ledger */
    uint64_t listed_last; /* numbers up to this one are not parked */
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
    struct slot *s, *tmp;
    p->last = UINT64_MAX; /* nothing is parked any more */
    HASH_ITER(by_id, p->ids, s, tmp)
    {
        pool_remove(p, &s->entry, 0);
    }
    HASH_ITER(by_report, p->reports, s, tmp)
    {
        pool_remove(p, &s->entry, 0);
    }
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

static struct slot *find_number(struct pool *p, uint64_t number)
{
    struct slot *s = NULL;
    HASH_FIND(by_number, p->numbers, &number, sizeof number, s);
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
        s->timer_us = s->quota_us = now_us;
        if (++p->timed_of_source[source] >= POOL_QUOTA)
            return;
    }
}

static bool is_evidence(const struct slot *s)
{
    return s->entry.view.tx.kind == TX_EVIDENCE;
}

static void list(struct pool *p, struct slot *s, uint64_t now_us)
{
    uint8_t source = s->entry.source;
    s->parked = false;
    DL_APPEND(p->order, s);
    if (is_evidence(s)) {
        s->timer_us = now_us;
        return;
    }
    DL_APPEND2(p->of_source[source], s, source_prev, source_next);
    start_timers(p, source, now_us);
}

static void unlist(struct pool *p, struct slot *s, uint64_t now_us)
{
    uint8_t source = s->entry.source;
    DL_DELETE(p->order, s);
    s->parked = true;
    if (is_evidence(s))
        return;
    DL_DELETE2(p->of_source[source], s, source_prev, source_next);
    if (s->timed)
        p->timed_of_source[source]--;
    s->timed = false;
    start_timers(p, source, now_us);
}

/* Lists the parked ones that have no gap before them any more. */
static void list_numbers(struct pool *p, uint64_t now_us)
{
    struct slot *s;
    while ((s = find_number(p, p->listed_last + 1)) != NULL) {
        list(p, s, now_us);
        p->listed_last++;
    }
}

static bool has_room(const struct pool *p, size_t size, uint8_t source, bool own)
{
    size_t of_source = p->count_of_source[source];
    if (of_source < POOL_QUOTA)
        return true; /* bounded by the number of sources */
    if (p->count >= p->limits.count_max || p->bytes >= p->limits.bytes_max ||
        size > p->limits.bytes_max - p->bytes)
        return false;
    return own || of_source < p->limits.count_max / POOL_FOREIGN_PART;
}

/* The keys under which a transaction has rivals. */
static enum ami_status check_rivals(struct pool *p, struct slot *s)
{
    const struct tx_view *v = &s->entry.view;
    if (v->tx.kind == TX_REPORT) {
        const struct report_meter_part *m = &v->u.report.meter;
        s->report = report_key_of(&m->meter, m->epoch, m->sequence);
        return find_report(p, &s->report) != NULL ? AMI_EXISTS : AMI_OK;
    }
    if (find_id(p, &v->id) != NULL)
        return AMI_EXISTS;
    if (v->tx.kind == TX_EVIDENCE) {
        const struct evidence *e = &v->u.evidence;
        if (e->accused >= AMI_MEMBERS_MAX)
            return AMI_BAD_ARGUMENT;
        AMI_CHECK(e->kind < EVIDENCE_KIND_END); /* it was parsed */
        return p->evidence[e->accused][e->kind] != NULL ? AMI_EXISTS : AMI_OK;
    }
    uint64_t number = s->entry.number = tx_mdms_number(v);
    if (number == 0)
        return AMI_OK;
    if (number <= p->last)
        return AMI_SEQUENCE_SETTLED;
    return find_number(p, number) != NULL ? AMI_EXISTS : AMI_OK;
}

enum ami_status pool_add(struct pool *p, struct span encoded, uint8_t source, bool own,
                         uint64_t now_us, struct pool_entry **out)
{
    AMI_CHECK(source < POOL_SOURCES);
    if (!has_room(p, encoded.size, source, own))
        return AMI_AGAIN;
    struct slot *s = calloc(1, sizeof *s + encoded.size);
    if (s == NULL)
        return AMI_NO_MEMORY;
    memcpy(s->bytes, encoded.data, encoded.size);
    enum ami_status status = tx_view_decode(&s->entry.view, span_of(s->bytes, encoded.size));
    const bool report = status == AMI_OK && s->entry.view.tx.kind == TX_REPORT;
    /* A report is known by its place, and there are many of them: their ids are not computed. */
    if (status == AMI_OK && !report)
        tx_view_identify(&s->entry.view);
    if (status == AMI_OK)
        status = check_rivals(p, s);
    if (status != AMI_OK) {
        free(s);
        return status;
    }
    s->entry.source = source;
    s->entry.own = own;
    s->entry.arrived_us = now_us;
    if (report)
        HASH_ADD(by_report, p->reports, report, sizeof s->report, s);
    else
        HASH_ADD(by_id, p->ids, entry.view.id, sizeof(sm3_digest), s);
    if (is_evidence(s))
        p->evidence[s->entry.view.u.evidence.accused][s->entry.view.u.evidence.kind] = s;
    p->count++;
    p->bytes += encoded.size;
    p->count_of_source[source]++;
    s->parked = true;
    if (s->entry.number != 0) {
        HASH_ADD(by_number, p->numbers, entry.number, sizeof s->entry.number, s);
        list_numbers(p, now_us);
    } else {
        list(p, s, now_us);
    }
    if (out != NULL)
        *out = &s->entry;
    return AMI_OK;
}

/* Parks what stands behind `number`, which is about to go. */
static void park_behind(struct pool *p, uint64_t number, uint64_t now_us)
{
    for (uint64_t i = number + 1; i <= p->listed_last; i++) {
        struct slot *s = find_number(p, i);
        AMI_CHECK(s != NULL && !s->parked);
        unlist(p, s, now_us);
    }
    p->listed_last = number - 1;
}

void pool_remove(struct pool *p, struct pool_entry *e, uint64_t now_us)
{
    struct slot *s = (struct slot *)e;
    if (e->number > p->last && !s->parked)
        park_behind(p, e->number, now_us);
    if (!s->parked)
        unlist(p, s, now_us);
    if (e->view.tx.kind == TX_REPORT)
        HASH_DELETE(by_report, p->reports, s);
    else
        HASH_DELETE(by_id, p->ids, s);
    if (is_evidence(s))
        p->evidence[e->view.u.evidence.accused][e->view.u.evidence.kind] = NULL;
    if (e->number != 0)
        HASH_DELETE(by_number, p->numbers, s);
    AMI_CHECK(p->count > 0 && p->bytes >= e->view.encoded.size);
    p->count--;
    p->bytes -= e->view.encoded.size;
    p->count_of_source[e->source]--;
    free(s);
}

void pool_set_number(struct pool *p, uint64_t last, uint64_t now_us)
{
    if (last <= p->last)
        return;
    p->last = last;
    if (p->listed_last < last)
        p->listed_last = last;
    struct slot *s, *tmp;
    HASH_ITER(by_number, p->numbers, s, tmp)
    {
        if (s->entry.number <= last)
            pool_remove(p, &s->entry, now_us);
    }
    list_numbers(p, now_us);
}

struct pool_entry *pool_find(struct pool *p, struct tx_view *tx)
{
    if (tx->tx.kind == TX_REPORT) {
        const struct report_meter_part *m = &tx->u.report.meter;
        return pool_find_report(p, &m->meter, m->epoch, m->sequence);
    }
    if (tx->tx.kind == TX_EVIDENCE)
        return pool_find_evidence(p, tx->u.evidence.accused, tx->u.evidence.kind);
    tx_view_identify(tx);
    struct slot *s = find_id(p, &tx->id);
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

struct pool_entry *pool_find_number(struct pool *p, uint64_t number)
{
    struct slot *s = find_number(p, number);
    return s == NULL ? NULL : &s->entry;
}

struct pool_entry *pool_find_evidence(struct pool *p, uint8_t accused, uint8_t kind)
{
    if (accused >= AMI_MEMBERS_MAX || kind >= EVIDENCE_KIND_END)
        return NULL;
    struct slot *s = p->evidence[accused][kind];
    return s == NULL ? NULL : &s->entry;
}

struct pool_entry *pool_first_of(struct pool *p, uint8_t source)
{
    AMI_CHECK(source < POOL_SOURCES);
    return p->of_source[source] == NULL ? NULL : &p->of_source[source]->entry;
}

struct pool_entry *pool_next_of(struct pool_entry *e)
{
    struct slot *s = ((struct slot *)e)->source_next;
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

/* The one whose timer has run for longest. */
static struct slot *first_timer(const struct pool *p)
{
    struct slot *first = NULL;
    for (unsigned source = 0; source < POOL_SOURCES; source++) {
        struct slot *s;
        DL_FOREACH2(p->of_source[source], s, source_next)
        {
            if (!s->timed)
                break; /* timers run from the oldest on */
            if (first == NULL || s->timer_us < first->timer_us)
                first = s;
        }
    }
    return first;
}

uint64_t pool_progress_deadline_us(const struct pool *p, uint64_t progress_timeout_us)
{
    const struct slot *s = first_timer(p);
    return s == NULL ? UINT64_MAX : s->timer_us + progress_timeout_us;
}

struct pool_entry *pool_expired(struct pool *p, uint64_t progress_timeout_us, uint64_t now_us)
{
    struct slot *s = first_timer(p);
    return s == NULL || s->timer_us + progress_timeout_us > now_us ? NULL : &s->entry;
}

size_t pool_overdue(const struct pool *p, uint64_t wait_us, uint64_t now_us,
                    const struct pool_entry **oldest, uint64_t *since_us)
{
    size_t count = 0;
    *oldest = NULL;
    *since_us = UINT64_MAX;
    for (unsigned source = 0; source < POOL_SOURCES; source++) {
        const struct slot *s;
        DL_FOREACH2(p->of_source[source], s, source_next)
        {
            if (!s->timed)
                break;
            if (s->quota_us + wait_us > now_us)
                continue;
            count++;
            if (s->quota_us >= *since_us)
                continue;
            *since_us = s->quota_us;
            *oldest = &s->entry;
        }
    }
    return count;
}

uint64_t pool_evidence_deadline_us(const struct pool *p, uint8_t accused,
                                   uint64_t progress_timeout_us)
{
    uint64_t at_us = UINT64_MAX;
    AMI_CHECK(accused < AMI_MEMBERS_MAX);
    for (unsigned kind = 0; kind < EVIDENCE_KIND_END; kind++) {
        const struct slot *s = p->evidence[accused][kind];
        if (s != NULL && s->timer_us + progress_timeout_us < at_us)
            at_us = s->timer_us + progress_timeout_us;
    }
    return at_us;
}

bool pool_timed(const struct pool_entry *e)
{
    return ((const struct slot *)e)->timed;
}

void pool_restart_timer(struct pool_entry *e, uint64_t now_us)
{
    struct slot *s = (struct slot *)e;
    s->timer_us = s->quota_us = now_us;
}

void pool_restart_timers(struct pool *p, uint64_t now_us)
{
    struct slot *s;
    DL_FOREACH(p->order, s)
    {
        if (s->timed || is_evidence(s))
            s->timer_us = now_us;
    }
}
