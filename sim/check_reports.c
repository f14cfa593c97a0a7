/* sim/check_reports.c - reports, from their meter to the MDMS: see checks.h. */
#include "sim/checks.h"

#include "ledger/block.h"

/* --- meters ---------------------------------------------------------------------------------- */

void sim_check_made(struct sim_host *h, struct sim_meter *m, struct sim_report *r)
{
    sim_trace_number(h->world, (uint64_t)m->number << 32 | r->sequence);
}

/* Honest disks that hold this report. */
static unsigned holders(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                        const struct sim_report *r)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        uint64_t height;
        uint32_t index;
        if (sim_dc_counts(h) && sim_disk_find_report(h->as.dc->disk, &m->key[0]->name, epoch,
                                                     r->sequence, &height, &index))
            count++;
    }
    return count;
}

/* The block that has it, as somebody's disk says, or said before it was lost; NULL: none. */
static const sm3_digest *block_with(struct sim_world *w, const struct sim_meter *m,
                                    const struct sim_report *r, uint64_t *height)
{
    for (uint16_t i = 0; i < w->dcs; i++) {
        uint32_t index;
        const struct sim_disk *disk = w->host[i].as.dc->disk;
        if (sim_disk_find_report(disk, &m->key[0]->name, m->epoch, r->sequence, height, &index))
            return &sim_disk_block(disk, *height)->hash;
    }
    *height = r->height;
    return r->height == 0 ? NULL : &w->checks->agreed[r->height - 1];
}

/* The block itself may be committed on one disk only so far; but q members of its epoch have signed
 * to have it, so that q - f honest ones hold it, committed or kept. */
static unsigned keepers(struct sim_world *w, const struct sim_epoch *e, const sm3_digest *block)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < w->dcs; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        count +=
            d->honest && sim_index_in(e, d->number) != SIM_NOBODY && sim_disk_has(d->disk, block);
    }
    return count;
}

/* Members that lost their disk and may have held it. */
static unsigned wiped(const struct sim_world *w, const struct sim_epoch *e)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < w->dcs; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        count += d->honest && d->wiped && sim_index_in(e, d->number) != SIM_NOBODY;
    }
    return count;
}

void sim_check_acknowledged(struct sim_host *h, struct sim_meter *m, struct sim_report *r)
{
    struct sim_world *w = h->world;
    if (r->acknowledged_us != 0)
        w->count.rare[SIM_RARE_BELIEVED_AGAIN]++;
    if (r->acknowledged_us == 0) {
        r->acknowledged_us = w->now_us;
        w->count.reports_acknowledged++;
    }
    if (w->plan.unjudged)
        return;
    uint64_t height;
    const sm3_digest *block = block_with(w, m, r, &height);
    const struct sim_epoch *e = sim_epoch_at(w, block == NULL ? 1 : height);
    unsigned n = e->committee.members.count, f = members_f(n), need = members_quorum(n) - f;
    unsigned kept = block == NULL ? 0 : keepers(w, e, block) + wiped(w, e);
    if (w->plan.byzantine <= members_f(w->plan.dcs) && w->plan.rules_off == 0 && kept < need)
        sim_violate(w, "acknowledged",
                    "m-%zu believes report %llu acknowledged; %u honest DCs hold it, not %u",
                    m->number + 1, ull(r->sequence), kept, need);
}

/* --- the end --------------------------------------------------------------------------------- */

static bool mdms_has(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                     const struct sim_report *r, struct report_record *out)
{
    struct mdms_key at = key_report(&m->key[0]->name, epoch, r->sequence);
    struct span key, value;
    return sim_kv_seek(w->host[w->host_count - 1].as.mdms->kv, TABLE_REPORTS, key_span(&at), &key,
                       &value) &&
           span_equal(key, key_span(&at)) && report_record_parse(out, value) == AMI_OK;
}

/* Of a good key everything must get there; of a revoked one what was committed before. */
static bool all_settled(const struct sim_world *w)
{
    for (size_t k = 0; k < w->plan.meters; k++) {
        const struct sim_meter *m = w->checks->meter[k];
        for (uint32_t e = 0; e < m->epoch; e++)
            if (m->book[e].open != 0 && m->book[e].revoked_at == 0)
                return false;
    }
    return true;
}

bool sim_check_complete(struct sim_world *w)
{
    uint64_t height = w->checks->agreed_count;
    for (uint16_t i = 0; i < w->dcs; i++)
        if (sim_dc_counts(&w->host[i]) &&
            (!sim_dc_runs(&w->host[i]) || sim_disk_height(w->host[i].as.dc->disk) < height))
            return false;
    /* A liar's disk may be the first to have a block, and its meters are told so. */
    return all_settled(w) && sim_changes_done(w) &&
           w->checks->committed >= w->count.reports_acknowledged &&
           sim_kv_count(w->host[w->host_count - 1].as.mdms->kv, TABLE_REPORTS) >=
               w->checks->committed;
}

static void check_reading(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                          const struct sim_report *r)
{
    struct report_record record;
    if (!mdms_has(w, m, epoch, r, &record)) {
        if (m->book[epoch - 1].revoked_at == 0 || r->acknowledged_us != 0)
            sim_violate(w, "readings", "the MDMS has no report %llu of m-%zu, epoch %u",
                        ull(r->sequence), m->number + 1, (unsigned)epoch);
        return;
    }
    sm3_digest c = report_commitment(record.salt, record.m);
    if (!sm3_equal(&c, &r->commitment))
        sim_violate(w, "readings", "the MDMS has another report %llu of m-%zu", ull(r->sequence),
                    m->number + 1);
}

static void check_kept(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                       const struct sim_report *r)
{
    unsigned has = holders(w, m, epoch, r), all = 0;
    for (uint16_t d = 0; d < w->dcs; d++)
        all += sim_dc_counts(&w->host[d]);
    if (r->acknowledged_us != 0 && has < all)
        sim_violate(w, "kept", "report %llu of m-%zu was acknowledged; %u of %u DCs have it",
                    ull(r->sequence), m->number + 1, has, all);
}

static void each_report(struct sim_world *w,
                        void (*check)(struct sim_world *w, const struct sim_meter *m,
                                      uint32_t epoch, const struct sim_report *r))
{
    for (size_t k = 0; k < w->plan.meters; k++) {
        const struct sim_meter *m = w->checks->meter[k];
        for (uint32_t e = 1; e <= m->epoch; e++)
            for (size_t i = 0; i < m->book[e - 1].reports; i++)
                check(w, m, e, &m->book[e - 1].report[i]);
    }
}

void sim_check_end(struct sim_world *w)
{
    each_report(w, check_kept);
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        const struct sim_block *tip =
            sim_disk_block(h->as.dc->disk, sim_disk_height(h->as.dc->disk));
        if (!sim_dc_counts(h) || !h->up || tip == NULL)
            continue;
        struct registry *r = sim_disk_registry(h->as.dc->disk);
        sm3_digest root = registry_root(r);
        registry_free(r);
        if (!sm3_equal(&root, &tip->header.state_root))
            sim_violate(w, "state-root", "dc-%u: the registry on its disk is not block %llu's",
                        h->as.dc->number + 1u, ull(tip->header.height));
    }
    each_report(w, check_reading);
    size_t has = sim_kv_count(w->host[w->host_count - 1].as.mdms->kv, TABLE_REPORTS);
    if (has != w->checks->committed)
        sim_violate(w, "readings", "the MDMS has %zu reports, %llu were committed", has,
                    ull(w->checks->committed));
}
