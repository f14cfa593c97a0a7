/* sim/faults.c - what goes wrong outside the programs: when, where, for how long.
 *
 * Instants of faults come at exponential distances; at each, one of the kinds of this run happens
 * to somebody. The budget: what ends by itself may hit everybody at once (then nothing is committed
 * meanwhile, and nothing may be lost); a lost disk silences its DC until its key has been rotated
 * (rule 11), so no more than f members of a committee are Byzantine or have lost theirs
 * (changes.c). */
#include "sim/world.h"

#include "base/check.h"

static bool allowed(const struct sim_world *w)
{
    return !w->quiet && w->plan.fault_every_us != 0;
}

static void next_fault(struct sim_world *w)
{
    struct sim_event e = {.type = SIM_FAULT};
    e.at_us = w->now_us + sim_random_exponential(&w->faults, w->plan.fault_every_us);
    sim_events_push(&w->events, e);
}

/* A number in an event says what ends then. */
enum { END_NOTHING, END_CUT, END_DISK_FULL, END_READ_ERROR, END_POWER, END_PEACE };

static void end_later(struct sim_world *w, unsigned what, uint64_t who, uint64_t after_us)
{
    struct sim_event e = {.type = SIM_FAULT, .link = what, .u.number = who};
    e.at_us = w->now_us + after_us;
    sim_events_push(&w->events, e);
}

static struct sim_host *any_dc(struct sim_world *w)
{
    return &w->host[sim_random_below(&w->faults, w->dcs)];
}

static struct sim_host *any_host(struct sim_world *w)
{
    return &w->host[sim_random_below(&w->faults, w->host_count)];
}

static void start_later(struct sim_host *h)
{
    struct sim_world *w = h->world;
    struct sim_event e = {.type = SIM_START};
    e.host = h->index;
    e.at_us = w->now_us + sim_random_exponential(&w->faults, w->plan.down_mean_us);
    sim_events_push(&w->events, e);
}

static void crash(struct sim_host *h)
{
    if (!h->up)
        return;
    sim_host_crash(h);
    start_later(h);
}

/* --- kinds ----------------------------------------------------------------------------------- */

static uint64_t cut_us(struct sim_world *w)
{
    return sim_random_exponential(&w->faults, w->plan.cut_mean_us);
}

/* Whoever is on another side than `from`, both ways or one way. A later end heals whatever is cut
 * between these two then: partitions overlap and heal as they come. */
static void cut_pair(struct sim_world *w, uint16_t a, uint16_t b, uint64_t us)
{
    sim_net_cut(w, a, b, true);
    end_later(w, END_CUT, (uint64_t)a << 16 | b, us);
}

static void split(struct sim_world *w, uint64_t group)
{
    uint64_t us = cut_us(w);
    for (uint16_t a = 0; a < w->host_count; a++)
        for (uint16_t b = 0; b < w->host_count; b++)
            if ((group >> (a % 64) & 1) != (group >> (b % 64) & 1))
                cut_pair(w, a, b, us);
}

static void black_out(struct sim_world *w)
{
    uint64_t us = cut_us(w);
    for (uint16_t a = 0; a < w->host_count; a++)
        for (uint16_t b = 0; b < w->host_count; b++)
            if (a != b)
                cut_pair(w, a, b, us);
}

static void clog_links(struct sim_world *w)
{
    for (int i = 0; i < 8; i++) {
        struct sim_end *end = &w->end[1 + sim_random_below(&w->faults, w->ends)];
        if (end >= w->end + w->ends || !end->open)
            continue;
        end->clogged_until_us = w->now_us + cut_us(w);
        w->count.fault[SIM_FAULT_CLOG]++;
    }
}

static void lose_power(struct sim_world *w)
{
    sim_tell(w, NULL, "the power fails");
    for (uint16_t i = 0; i < w->dcs; i++)
        crash(&w->host[i]);
}

static bool lose_disk(struct sim_world *w, struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    /* If it signs again afterwards, nobody counts it among the f. */
    if (!w->plan.record_repaired && (!d->honest || d->retired || d->key_epoch == 0 ||
                                     d->key_lost == d->key_epoch || !sim_changes_lose(w, h)))
        return false;
    crash(h);
    sim_tell(w, h, "loses its disk");
    sim_disk_wipe(d->disk);
    d->wiped = true;
    if (d->key_epoch != 0 && d->starts[d->key_epoch - 1] != 0)
        d->key_lost = d->key_epoch;
    return true;
}

static void fill_disk(struct sim_world *w, struct sim_host *h)
{
    h->as.dc->disk_status = sim_random_chance(&w->faults, 500000) ? AMI_FULL : AMI_IO;
    sim_tell(w, h, "its disk says %s to writes", ami_status_name(h->as.dc->disk_status));
    end_later(w, END_DISK_FULL, h->index, cut_us(w));
}

static void fail_reads(struct sim_world *w, struct sim_host *h)
{
    (void)sim_disk_fail_reads(h->as.dc->disk, AMI_IO);
    sim_tell(w, h, "its disk fails to read");
    end_later(w, END_READ_ERROR, h->index, cut_us(w));
}

static void step_clock(struct sim_world *w)
{
    /* Within the window that the genesis file allows, so that the network stays able to commit;
     * docs/limits.md says what happens beyond. */
    struct sim_host *h = any_host(w);
    int64_t offset = (int64_t)sim_random_below(&w->faults, 24001) - 12000;
    sim_host_step_clock(h, offset - h->wall_offset_ms);
}

static void set_drift(struct sim_host *h, int32_t ppm)
{
    uint64_t own = sim_host_mono_us(h);
    h->clock_base_us = h->world->now_us;
    h->own_base_us = own;
    h->drift_ppm = ppm;
    sim_tell(h->world, h, "its clock runs %d ppm fast", ppm);
}

/* Without the operator a lost disk is for good. */
static uint32_t rarely(const struct sim_world *w)
{
    return w->plan.change_weight[SIM_CHANGE_ROTATE_LOST] != 0 ? 1000000 : 100000;
}

static void happen(struct sim_world *w, enum sim_fault kind)
{
    struct sim_host *h = any_dc(w);
    bool done = true;
    switch (kind) {
    case SIM_FAULT_CLOG:
        clog_links(w);
        return;
    case SIM_FAULT_PARTITION:
        split(w, sim_random_u64(&w->faults));
        break;
    case SIM_FAULT_ISOLATE:
        split(w, UINT64_C(1) << h->index % 64);
        break;
    case SIM_FAULT_BLACKOUT:
        black_out(w);
        break;
    case SIM_FAULT_ONE_WAY:
        cut_pair(w, any_host(w)->index, h->index, cut_us(w));
        break;
    case SIM_FAULT_CRASH:
        done = h->up;
        crash(h);
        break;
    case SIM_FAULT_POWER:
        lose_power(w);
        break;
    case SIM_FAULT_PAUSE:
        h = any_host(w);
        sim_host_pause(h, w->now_us + sim_random_exponential(&w->faults, w->plan.pause_mean_us));
        break;
    case SIM_FAULT_LOST_DISK:
        done = (w->plan.record_repaired || sim_random_chance(&w->faults, rarely(w))) &&
               lose_disk(w, h);
        break;
    case SIM_FAULT_DISK_FULL:
        fill_disk(w, h);
        break;
    case SIM_FAULT_READ_ERROR:
        fail_reads(w, h);
        break;
    case SIM_FAULT_CLOCK_STEP:
        step_clock(w);
        break;
    case SIM_FAULT_CLOCK_DRIFT:
        set_drift(any_host(w), (int32_t)sim_random_below(&w->faults, 100001) - 50000);
        break;
    case SIM_FAULT_MDMS_AWAY:
        crash(&w->host[w->host_count - 1]);
        break;
    case SIM_FAULT_FLEET_CRASH:
        crash(&w->host[w->dcs + sim_random_below(&w->faults, w->fleets)]);
        break;
    default:
        return; /* those that the network and the disk draw for themselves */
    }
    if (done)
        w->count.fault[kind]++;
}

void sim_faults_isolate_later(struct sim_world *w, uint16_t who, uint64_t after_us, uint64_t us)
{
    if (allowed(w))
        end_later(w, END_PEACE, us << 16 | who, after_us);
}

static void isolate(struct sim_world *w, uint16_t who, uint64_t us)
{
    w->count.fault[SIM_FAULT_ISOLATE]++;
    for (uint16_t i = 0; i < w->host_count; i++) {
        if (i == who)
            continue;
        cut_pair(w, who, i, us);
        cut_pair(w, i, who, us);
    }
}

static void end_of(struct sim_world *w, const struct sim_event *e)
{
    uint64_t who = e->u.number;
    if (e->link == END_POWER && !w->quiet) {
        w->count.fault[SIM_FAULT_POWER]++;
        lose_power(w);
    }
    if (e->link == END_PEACE && !w->quiet)
        isolate(w, (uint16_t)who, who >> 16);
    if (e->link == END_CUT)
        sim_net_cut(w, (uint16_t)(who >> 16), (uint16_t)who, false);
    else if (e->link == END_DISK_FULL)
        w->host[who].as.dc->disk_status = AMI_OK;
    else if (e->link == END_READ_ERROR)
        (void)sim_disk_fail_reads(w->host[who].as.dc->disk, AMI_OK);
}

void sim_faults_on_event(struct sim_world *w, const struct sim_event *e)
{
    if (e->link != END_NOTHING) {
        end_of(w, e);
        return;
    }
    if (!allowed(w) || w->plan.faults_max == 0)
        return;
    w->plan.faults_max--;
    uint64_t sum = 0;
    for (int k = 0; k < SIM_FAULT_KINDS; k++)
        sum += w->plan.weight[k];
    uint64_t at = sim_random_below(&w->faults, sum);
    for (int k = 0; k < SIM_FAULT_KINDS; k++) {
        if (at < w->plan.weight[k]) {
            happen(w, (enum sim_fault)k);
            break;
        }
        at -= w->plan.weight[k];
    }
    next_fault(w);
}

void sim_faults_on_write(struct sim_host *h, uint64_t done_us)
{
    struct sim_world *w = h->world;
    if (!allowed(w) || !sim_random_chance(&w->faults, w->plan.crash_write_ppm))
        return;
    /* Not at once: the core is in the middle of a step. */
    struct sim_event e = {.type = SIM_DIE};
    uint64_t left = done_us - w->now_us;
    sim_push_for(h, e, w->now_us + 1 + sim_random_below(&w->faults, left));
}

void sim_faults_on_sent(struct sim_host *h, struct span frame)
{
    struct sim_world *w = h->world;
    enum message_type type;
    struct span body;
    if (!allowed(w) || w->plan.faults_max == 0 || w->plan.strike_ppm == 0 ||
        frame_open(frame, &type, &body) != AMI_OK ||
        (type != MSG_PROPOSAL && type != MSG_VOTE && type != MSG_GRANT &&
         type != MSG_QC_ANNOUNCE) ||
        !sim_random_chance(&w->faults, w->plan.strike_ppm))
        return;
    w->plan.faults_max--;
    w->count.fault[SIM_FAULT_STRIKE]++;
    uint64_t what = sim_random_below(&w->faults, 5), us = cut_us(w);
    uint64_t soon = w->now_us + 1 + sim_random_below(&w->faults, 3 * SIM_MS);
    sim_tell(w, h, "is struck while it sends a %s", message_name(type));
    if (what == 0) {
        sim_push_for(h, (struct sim_event){.type = SIM_DIE}, soon);
        return;
    }
    if (what == 4) {
        end_later(w, END_POWER, 0, soon - w->now_us);
        return;
    }
    for (uint16_t i = 0; i < w->host_count; i++) {
        if (i == h->index)
            continue;
        if (what != 1)
            cut_pair(w, h->index, i, us);
        if (what != 2)
            cut_pair(w, i, h->index, us);
    }
}

void sim_faults_on_die(struct sim_host *h)
{
    h->world->count.fault[SIM_FAULT_CRASH]++;
    crash(h);
}

void sim_faults_begin(struct sim_world *w)
{
    if (allowed(w))
        next_fault(w);
}

void sim_faults_end(struct sim_world *w)
{
    w->quiet = true;
    w->quiet_since_us = w->now_us;
    sim_net_heal(w);
    for (uint16_t i = 0; i < w->host_count; i++) {
        struct sim_host *h = &w->host[i];
        if (h->kind == SIM_DC) {
            h->as.dc->disk_status = AMI_OK;
            (void)sim_disk_fail_reads(h->as.dc->disk, AMI_OK);
        }
        if (h->wall_offset_ms != 0)
            sim_host_step_clock(h, -h->wall_offset_ms);
        if (!h->up && !(h->kind == SIM_DC && h->as.dc->retired))
            sim_host_start(h);
    }
    if (!w->plan.delay_late)
        w->plan.delay_mean_us = SIM_MS;
    w->plan.disk_mean_us = SIM_MS;
}
