#include "meter/fleet_internal.h"

#include <stdlib.h>
#include <string.h>

/* Writes that come soon after one another make one group; the storage thread puts all groups that
 * wait into one transaction. So a thousand meters that report at once cost one sync. Who writes
 * after a pause does not wait. */

/* --- reports on their way -------------------------------------------------------------------- */

struct fleet_put *fleet_put_take(struct fleet *f)
{
    struct fleet_put *p = f->free_puts;
    if (p != NULL)
        f->free_puts = p->next_free;
    return p;
}

void fleet_put_give(struct fleet *f, struct fleet_put *p)
{
    p->next_free = f->free_puts;
    f->free_puts = p;
}

/* --- the loop's side ------------------------------------------------------------------------- */

static struct fleet_group *idle_group(struct fleet *f)
{
    for (int i = 0; i < FLEET_GROUPS; i++)
        if (!f->group[i].busy && f->group[i].count == 0)
            return &f->group[i];
    return NULL;
}

bool fleet_disk_room(const struct fleet *f, size_t writes)
{
    size_t room = f->filling == NULL ? 0 : FLEET_GROUP_WRITES - f->filling->count;
    for (int i = 0; i < FLEET_GROUPS && room < writes; i++)
        if (!f->group[i].busy && f->group[i].count == 0)
            room += FLEET_GROUP_WRITES;
    return room >= writes;
}

static void flush(void *arg)
{
    struct fleet *f = arg;
    struct fleet_group *g = f->filling;
    if (g == NULL)
        return;
    f->filling = NULL;
    g->busy = true;
    f->flushed_us = clock_mono_us();
    enum ami_status status = disk_writer_put(f->writer, g);
    AMI_CHECK(status == AMI_OK); /* it has room for as many groups as there are */
}

static enum ami_status put_write(struct fleet *f, struct fleet_meter *m, struct meter_write *write)
{
    if (f->filling != NULL && f->filling->count == FLEET_GROUP_WRITES)
        flush(f);
    if (f->filling == NULL) {
        f->filling = idle_group(f);
        if (f->filling == NULL)
            return AMI_AGAIN;
        const uint64_t now = clock_mono_us(), next = f->flushed_us + FLEET_STORE_US;
        loop_alarm_set(f->loop, &f->flush_alarm, next > now ? next : now);
    }
    struct fleet_group *g = f->filling;
    g->write[g->count] = write;
    g->owner[g->count] = m;
    g->count++;
    f->writes_out++;
    return AMI_OK;
}

enum ami_status fleet_env_store(void *ctx, void *write)
{
    struct fleet_meter *m = ctx;
    return put_write(m->fleet, m, write);
}

void fleet_put_epoch(struct fleet *f, uint32_t epoch, struct span proof)
{
    struct fleet_epoch *e = malloc(sizeof *e + proof.size);
    if (e == NULL)
        return;
    *e = (struct fleet_epoch){.write.kind = FLEET_WRITE_EPOCH, .epoch = epoch, .size = proof.size};
    memcpy(e->bytes, proof.data, proof.size);
    if (put_write(f, NULL, &e->write) != AMI_OK)
        free(e);
}

static void report_done(struct fleet *f, struct fleet_put *p, enum ami_status status)
{
    struct fleet_meter *m = p->owner;
    if (status != AMI_OK) {
        /* It was never made, as far as anybody will know. */
        f->outbox_reports--;
        f->outbox_readings -= p->readings;
        m->state.reports--;
        m->state.readings -= p->readings;
        m->unsettled--;
    }
    f->fresh = status == AMI_OK ? p : NULL;
    meter_on_stored(&m->core, &p->put.write, status);
    f->fresh = NULL;
    fleet_put_give(f, p);
}

static void settle_done(struct fleet *f, struct fleet_meter *m, struct meter_write *w,
                        uint16_t readings, enum ami_status status)
{
    if (status == AMI_OK) {
        f->outbox_reports--;
        f->outbox_readings -= readings;
        f->stats.reports_acknowledged_now++;
        f->stats.readings_acknowledged_now += readings;
        m->unsettled--;
    }
    meter_on_stored(&m->core, w, status);
    fleet_after_settle(m);
}

static void on_done(void *ctx, void *write, enum ami_status status)
{
    struct fleet *f = ctx;
    struct fleet_group *g = write;
    for (size_t i = 0; i < g->count; i++) {
        struct meter_write *w = g->write[i];
        struct fleet_meter *m = g->owner[i];
        f->writes_out--;
        if (m == NULL) {
            free(w); /* the first field of a fleet_epoch */
            continue;
        }
        if (w->kind == METER_WRITE_PUT)
            report_done(f, (struct fleet_put *)(void *)w, status);
        else
            settle_done(f, m, w, g->readings[i], status);
        fleet_touch(m);
    }
    g->count = 0;
    g->busy = false;
    if (status != AMI_OK)
        fleet_fail(f, status, "%s", f->disk_why.text);
    fleet_check_over(f);
}

enum ami_status fleet_disk_next(void *ctx, uint64_t from, uint8_t *buffer, size_t *size)
{
    const struct fleet_meter *m = ctx;
    const struct fleet_put *fresh = m->fleet->fresh;
    /* Most reports are asked for at once when they are durable. */
    if (fresh != NULL && fresh->owner == m && fresh->put.write.sequence == from) {
        memcpy(buffer, fresh->put.record, fresh->put.size);
        *size = fresh->put.size;
        return AMI_OK;
    }
    return meter_store_next(m->fleet->c.store, &m->core.keys.name, m->core.keys.epoch, from, buffer,
                            size);
}

/* --- the storage thread's side --------------------------------------------------------------- */

static void fill_op(const struct fleet *f, struct meter_op *op, const struct fleet_group *g,
                    size_t i)
{
    const struct meter_write *w = g->write[i];
    const struct fleet_meter *m = g->owner[i];
    if (m == NULL) {
        const struct fleet_epoch *e = (const struct fleet_epoch *)(const void *)w;
        *op = (struct meter_op){
            .kind = METER_OP_EPOCH, .epoch = e->epoch, .record = span_of(e->bytes, e->size)};
        return;
    }
    /* Of the meter only its keys are looked at here; they do not change. */
    *op = (struct meter_op){.kind = METER_OP_SETTLE,
                            .name = &m->core.keys.name,
                            .epoch = m->core.keys.epoch,
                            .sequence = w->sequence,
                            .keep = f->c.keep};
    if (w->kind == METER_WRITE_PUT) {
        const struct fleet_put *p = (const struct fleet_put *)(const void *)w;
        op->kind = METER_OP_REPORT;
        op->record = span_of(p->put.record, p->put.size);
        op->readings = p->readings;
        op->state = p->state;
        op->source = p->has_source ? &p->source : NULL;
        op->source_row = p->source_row;
    }
}

static void execute(void *ctx, void *const *writes, size_t count, enum ami_status *status)
{
    struct fleet *f = ctx;
    size_t ops = 0, at = 0;
    for (size_t k = 0; k < count; k++) {
        const struct fleet_group *g = writes[k];
        for (size_t i = 0; i < g->count; i++)
            fill_op(f, &f->ops[ops++], g, i);
    }
    /* Once a write failed none may follow: the numbers of reports must have no gap. */
    if (f->disk_status == AMI_OK)
        f->disk_status = meter_store_apply(f->c.store, f->ops, ops, &f->disk_why);
    for (size_t k = 0; k < count; k++) {
        struct fleet_group *g = writes[k];
        for (size_t i = 0; i < g->count; i++)
            g->readings[i] = f->ops[at++].readings;
        status[k] = f->disk_status;
    }
}

/* --- start and end --------------------------------------------------------------------------- */

bool fleet_disk_init(struct fleet *f)
{
    f->puts = calloc(FLEET_PUTS, sizeof *f->puts);
    f->group = calloc(FLEET_GROUPS, sizeof *f->group);
    f->ops = calloc((size_t)FLEET_GROUPS * FLEET_GROUP_WRITES, sizeof *f->ops);
    if (f->puts == NULL || f->group == NULL || f->ops == NULL)
        return false;
    for (size_t i = 0; i < FLEET_PUTS; i++)
        fleet_put_give(f, &f->puts[i]);
    f->flush_alarm = (struct loop_alarm){.fire = flush, .arg = f};
    struct disk_writer_config config = {
        .ctx = f, .execute = execute, .on_done = on_done, .writes_max = FLEET_GROUPS};
    f->writer = disk_writer_new(f->loop, &config);
    return f->writer != NULL;
}

void fleet_disk_end(struct fleet *f)
{
    if (f->writer == NULL)
        return;
    loop_alarm_set(f->loop, &f->flush_alarm, UINT64_MAX);
    flush(f);
    disk_writer_free(f->writer);
    f->writer = NULL;
}

void fleet_disk_free(struct fleet *f)
{
    free(f->puts);
    free(f->group);
    free(f->ops);
}
