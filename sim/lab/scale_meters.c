/* sim/lab/scale_meters.c - what grows with the number of meters: how long they take to be enrolled
 * and to agree, what each of them costs in memory, and how they come back when the leader dies. */
#include "base/check.h"
#include "node/internal.h"
#include "sim/lab/scale.h"
#include "sim/lab/service.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#define STORM_US (300 * SIM_SECOND)
#define STEP_US  (50 * SIM_MS)
#define DRAIN_US (300 * SIM_SECOND)

static const struct lab_column columns[] = {
    {.name = "meters", .title = "meters", .source = LAB_ASSUMED},
    {.name = "keys",
     .title = "keys, device and MDMS",
     .unit = "us a meter",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "enrolled",
     .title = "until all are on the ledger",
     .unit = "virtual s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "enrol_time",
     .title = "enrolment on the ledger",
     .unit = "us a meter and DC",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "in_session",
     .title = "then until 98 % are in session",
     .unit = "virtual s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "agree_time",
     .title = "agreement, processor of the leader",
     .unit = "us",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "with_leader",
     .title = "of them with the leader",
     .unit = "%",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "dc_memory",
     .title = "memory of the leader",
     .unit = "MB",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "meter_memory",
     .title = "one meter more, on the leader",
     .unit = "bytes",
     .decimals = 0,
     .source = LAB_MODEL,
     .clock = true},
    {.name = "sim_memory",
     .title = "memory of the whole simulation",
     .unit = "MB",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "sim_meter_memory",
     .title = "one meter more, whole simulation",
     .unit = "bytes",
     .decimals = 0,
     .source = LAB_MODEL,
     .clock = true},
    {.name = "leads",
     .title = "until another leads",
     .unit = "virtual s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "commits",
     .title = "until it commits",
     .unit = "virtual s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "half",
     .title = "until half are in session again",
     .unit = "virtual s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "nearly_all",
     .title = "until 99 %",
     .unit = "virtual s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "all",
     .title = "until all",
     .unit = "virtual s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "agreements", .title = "agreements for that", .source = LAB_SIMULATED},
    {.name = "storm_time",
     .title = "agreement again, new leader",
     .unit = "us",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "storm_core",
     .title = "all again, one core of the new leader",
     .unit = "s",
     .decimals = 2,
     .source = LAB_MODEL,
     .clock = true},
    {.name = "made", .title = "reports made", .source = LAB_SIMULATED},
    {.name = "lost", .title = "never acknowledged", .source = LAB_SIMULATED},
    {0}};

#define TABLE .table = "meters", .x = "meters", .x_log = true, .kind = LAB_LINES
const struct lab_figure scale_meters_figures[] = {
    {TABLE, .name = "meters_enrol",
     .title = "Until all meters are enrolled, and from there in session (virtual)",
     .y = {"enrolled", "in_session"}, .y_title = "time", .y_log = true},
    {TABLE, .name = "meters_enrol_time",
     .title = "Processor time for a meter: keys, enrolment, agreements",
     .y = {"keys", "enrol_time", "agree_time", "storm_time"},
     .y_title = "processor time, us a meter", .y_log = true},
    {TABLE, .name = "meters_memory", .title = "Memory of the leader, and of the whole simulation",
     .y = {"dc_memory", "sim_memory"}, .y_title = "memory", .y_log = true},
    {TABLE, .name = "meters_memory_each", .title = "Memory that one meter more takes, computed",
     .y = {"meter_memory", "sim_meter_memory"}, .y_title = "memory"},
    {TABLE, .name = "meters_storm",
     .title = "The leader dies: until the meters are in session again (virtual)",
     .y = {"leads", "half", "nearly_all", "all"}, .y_title = "time", .y_log = true},
    {TABLE, .name = "meters_storm_core",
     .title = "What all those agreements take of one core of the new leader, computed",
     .y = {"storm_core"}, .y_log = true},
    {0}};

struct lab_table *scale_meters_table(struct lab_output *out)
{
    return lab_table(out, "meters", "What grows with the number of meters", columns);
}

/* --- memory ---------------------------------------------------------------------------------- */

/* What is allocated in this process; 0: this allocator does not tell. */
static double allocated(void)
{
    struct mallinfo2 m = mallinfo2();
    return (double)m.uordblks + (double)m.hblkhd;
}

double scale_resident(void)
{
    unsigned long long all, resident;
    (void)malloc_trim(0);
    FILE *f = fopen("/proc/self/statm", "r");
    AMI_CHECK(f != NULL && fscanf(f, "%llu %llu", &all, &resident) == 2);
    (void)fclose(f); /* it was read only */
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* Takes the leader's power away; what it had in memory, its disk apart. */
static double kill_leader(struct sim_world *w, struct sim_host *leader)
{
    double before = allocated() + (double)gateway_mapped_bytes(leader->as.dc->node);
    size_t events = w->events.capacity;
    lab_kill_leader(leader);
    /* What happens next is not the leader's; a longer list of it was allocated meanwhile. */
    double more = (double)(w->events.capacity - events) * sizeof(struct sim_event);
    return before - (allocated() - more);
}

/* --- the leader dies ------------------------------------------------------------------------- */

struct storm {
    double leads_s, commits_s, half_s, nearly_all_s, all_s; /* below 0: it did not come to that */
    uint16_t leader;
};

static void note_time(double *at, bool done, const struct sim_world *w, uint64_t died_us)
{
    if (*at < 0 && done)
        *at = (double)(w->now_us - died_us) / 1e6;
}

static void watch_storm(struct storm *s, struct sim_world *w, uint64_t height)
{
    const uint64_t died_us = w->now_us;
    const size_t meters = w->plan.meters;
    *s = (struct storm){-1, -1, -1, -1, -1, 0};
    while (s->all_s < 0 && w->now_us < died_us + STORM_US && w->violation[0] == 0) {
        sim_world_run(w, w->now_us + STEP_US);
        const struct sim_host *leader = lab_leader(w);
        if (leader != NULL)
            s->leader = leader->index;
        note_time(&s->leads_s, leader != NULL, w, died_us);
        note_time(&s->commits_s, lab_height(w) > height, w, died_us);
        const size_t in = lab_count_meters(w, lab_in_session);
        note_time(&s->half_s, 2 * in >= meters, w, died_us);
        note_time(&s->nearly_all_s, in >= meters - meters / 100, w, died_us);
        note_time(&s->all_s, in == meters, w, died_us);
    }
}

/* No more reports are made, and those that were are acknowledged; how many are not. */
static uint64_t drain(struct sim_world *w)
{
    const uint64_t until_us = w->now_us + DRAIN_US;
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++)
        w->host[i].as.fleet->stopped = true;
    /* What meters are writing becomes a report within this. */
    sim_world_run(w, w->now_us + SIM_SECOND);
    while (w->count.reports_acknowledged < w->count.reports_made && w->now_us < until_us &&
           w->violation[0] == 0)
        sim_world_run(w, w->now_us + SIM_SECOND);
    return w->count.reports_made - w->count.reports_acknowledged;
}

/* --- a row ----------------------------------------------------------------------------------- */

static void put_time(struct lab_table *t, double s)
{
    if (s < 0)
        lab_none(t);
    else
        lab_real(t, s);
}

/* In all, and for each meter above those of the row before. */
static void put_memory(struct lab_table *t, double bytes, double before, unsigned meters,
                       unsigned meters_before)
{
    if (bytes <= 0) {
        lab_none(t);
        lab_none(t);
        return;
    }
    lab_real(t, bytes / 1e6);
    if (before <= 0 || meters <= meters_before)
        lab_none(t);
    else
        lab_real(t, (bytes - before) / (meters - meters_before));
}

static void put_share(struct lab_table *t, double whole, uint64_t count)
{
    if (count == 0)
        lab_none(t);
    else
        lab_real(t, whole / (double)count);
}

void scale_meters_row(struct lab_table *t, struct lab_output *out, const struct scale_case *c,
                      const struct scale_growth *g, struct scale_memory *last, struct sim_world *w,
                      struct scale_onlooker *o)
{
    struct sim_host *leader = lab_leader(w);
    struct storm s;
    if (leader == NULL) {
        lab_fail(out, "%u meters: nobody leads a calm network", c->meters);
        return;
    }
    struct scale_memory now = {c->meters, 0, scale_resident() - g->resident_before};
    scale_forget(o);
    const uint64_t height = lab_height(w);
    now.dc = kill_leader(w, leader);
    watch_storm(&s, w, height);
    const double storm_us = (double)o->dc_ns[s.leader] / 1e3;
    const uint64_t agreed = scale_agreed(o), with_new = o->agreed[s.leader], lost = drain(w);
    if (w->violation[0] != 0 || lost != 0 || s.all_s < 0)
        lab_fail(out, "%u meters, the leader is dead: %s", c->meters,
                 w->violation[0] != 0 ? w->violation
                 : lost != 0          ? "reports are never acknowledged"
                                      : "not all of them come back");
    lab_integer(t, c->meters);
    lab_real(t, g->keys_us / c->meters);
    lab_real(t, g->enrolled_s);
    lab_real(t, g->enrol_dc_us / c->meters / c->dcs);
    lab_real(t, g->in_session_s);
    put_share(t, g->agree_dc_us, g->agreed_leader);
    put_share(t, 100.0 * (double)g->agreed_leader, g->agreed);
    put_memory(t, now.dc, last->dc, now.meters, last->meters);
    put_memory(t, now.whole, last->whole, now.meters, last->meters);
    *last = now;
    put_time(t, s.leads_s);
    put_time(t, s.commits_s);
    put_time(t, s.half_s);
    put_time(t, s.nearly_all_s);
    put_time(t, s.all_s);
    lab_integer(t, (int64_t)agreed);
    put_share(t, storm_us, with_new);
    lab_real(t, storm_us / 1e6);
    lab_integer(t, (int64_t)w->count.reports_made);
    lab_integer(t, (int64_t)lost);
}
