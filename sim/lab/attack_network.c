/* sim/lab/attack_network.c - a whole network: power cuts, and DCs that lie. */
#include "sim/lab/stage.h"

#include "base/check.h"
#include "sim/rules.h"
#include "sim/run.h"

#include <stdio.h>
#include <string.h>

/* --- single points of failure ---------------------------------------------------------------- */

#define OUTAGE_US   (20 * SIM_SECOND)
#define PATIENCE_US (60 * SIM_SECOND)

static bool leader_crash(struct attack_context *c)
{
    struct sim_plan p;
    stage_calm(c, &p);
    struct sim_world *w = sim_world_new(&p, NULL);
    sim_world_run(w, STAGE_SETTLED_US);
    int leader = stage_leader(w);
    AMI_CHECK(leader >= 0);
    sim_host_crash(&w->host[leader]);
    if (c->control) /* so few are left that there is no quorum */
        sim_host_crash(&w->host[(leader + 1) % w->dcs]);
    uint64_t served = 0;
    while (served == 0 && w->now_us < STAGE_SETTLED_US + PATIENCE_US && w->violation[0] == 0) {
        sim_world_run(w, w->now_us + 100 * SIM_MS);
        served = stage_served_since(w, STAGE_SETTLED_US);
    }
    bool broken =
        served == 0
            ? attack_says(c, true, "dc-%d dies; %.0f s later no newer report is acknowledged %s",
                          leader + 1, seconds(PATIENCE_US), w->violation)
            : attack_says(
                  c, false,
                  "dc-%d, which leads, dies; %.3f s of virtual time later a newer report is "
                  "acknowledged",
                  leader + 1, seconds(served - STAGE_SETTLED_US));
    sim_world_free(w);
    return broken;
}

static bool mdms_outage(struct attack_context *c)
{
    struct sim_plan p;
    stage_calm(c, &p);
    struct sim_world *w = sim_world_new(&p, NULL);
    struct sim_host *mdms = &w->host[w->host_count - 1];
    uint64_t from = c->control ? 0 : STAGE_SETTLED_US;
    sim_world_run(w, from);
    sim_host_crash(mdms);
    sim_world_run(w, from + OUTAGE_US);
    uint64_t made = 0, acknowledged = 0, slowest = 0;
    for (size_t i = 0; i < w->host[w->dcs].as.fleet->count; i++) {
        const struct sim_book *m = sim_book(&w->host[w->dcs].as.fleet->meter[i]);
        for (size_t k = 0; k < m->reports; k++) {
            const struct sim_report *r = &m->report[k];
            if (r->made_us < from)
                continue;
            made++;
            if (r->acknowledged_us == 0)
                continue;
            acknowledged++;
            if (r->acknowledged_us - r->made_us > slowest)
                slowest = r->acknowledged_us - r->made_us;
        }
    }
    bool broken;
    if (acknowledged == 0) {
        broken = attack_says(c, true,
                             "of %llu reports made in %.0f s without the MDMS none is "
                             "acknowledged",
                             (unsigned long long)made, seconds(OUTAGE_US));
    } else {
        sim_host_start(mdms);
        uint64_t back = w->now_us;
        struct mdms_stats stats = {0};
        while (w->now_us < back + PATIENCE_US && w->violation[0] == 0 &&
               stats.state.height < sim_disk_height(w->host[0].as.dc->disk)) {
            sim_world_run(w, w->now_us + 50 * SIM_MS);
            mdms_stats(mdms->as.mdms->core, &stats);
        }
        broken =
            attack_says(c, w->now_us >= back + PATIENCE_US || w->violation[0] != 0,
                        "%llu of %llu reports made in %.0f s without the MDMS were acknowledged "
                        "in them, after %.3f s at most; it had caught up %.2f s after its return",
                        (unsigned long long)acknowledged, (unsigned long long)made,
                        seconds(OUTAGE_US), seconds(slowest), seconds(w->now_us - back));
    }
    sim_world_free(w);
    return broken;
}

/* --- Byzantine DCs --------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Runs of one rule's troubles, with the rule or without it, until one is violated. */
static bool hunt(struct attack_context *c, const char *rule, bool off, uint64_t first,
                 unsigned runs, struct sim_result *last, struct sim_counters *sum)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned i = 0; i < runs; i++) {
        struct sim_plan p = {.byzantine = SIM_PLAN_ANY};
        sim_plan_draw(&p, first + i + 1000 * (c->seed - 1));
        if (rule != NULL && off)
            sim_rule_off(sim_rule_find(rule), &p);
        else if (rule != NULL)
            sim_rule_on(sim_rule_find(rule), &p);
        else
            p.byzantine = members_f(p.dcs);
        p.scheme = c->scheme->number;
        sim_run(last, &p, NULL);
        for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
            sum->mischief[k] += last->count.mischief[k];
        sum->commits += last->count.commits;
        sum->reports_acknowledged += last->count.reports_acknowledged;
        if (last->violation[0] != 0)
            return true;
    }
    return false;
}

static uint64_t mischief(const struct sim_counters *s)
{
    uint64_t n = 0;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        n += s->mischief[k];
    return n;
}

#define HUNT_RUNS     4
#define HUNT_RUNS_OFF 400

static bool byzantine_f(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s, more;
    if (c->control) {
        bool found = hunt(c, "monotone", true, 20, HUNT_RUNS_OFF, &r, &s);
        return attack_says(c, found && begins(r.violation, "agreement"), "%.200s", r.violation);
    }
    bool found = hunt(c, "monotone", false, 20, HUNT_RUNS, &r, &s) ||
                 hunt(c, NULL, false, 1, HUNT_RUNS, &r, &more);
    if (found)
        return attack_says(c, true, "%.200s", r.violation);
    return attack_says(c, false,
                       "%d networks with f liars, who lied %llu times: %llu blocks, %llu reports "
                       "acknowledged, one history",
                       2 * HUNT_RUNS, (unsigned long long)(mischief(&s) + mischief(&more)),
                       (unsigned long long)(s.commits + more.commits),
                       (unsigned long long)(s.reports_acknowledged + more.reports_acknowledged));
}

static bool byzantine_more(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s;
    bool found = hunt(c, "f-liars", true, 1, 40, &r, &s);
    return attack_says(c, found, "two of four DCs run twice: %.240s", r.violation);
}

static bool false_acknowledgement(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s;
    bool found = hunt(c, "ack-proof", c->control, 1, c->control ? 40 : HUNT_RUNS, &r, &s);
    unsigned long long lies = (unsigned long long)s.mischief[SIM_MISCHIEF_FALSE_ACK];
    if (!found)
        return attack_says(c, lies == 0,
                           "%llu false acknowledgements in %d networks, none believed", lies,
                           HUNT_RUNS);
    return attack_says(c, !c->control || begins(r.violation, "acknowledged"), "%.200s",
                       r.violation);
}

static bool censoring_leader(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s;
    bool found = hunt(c, "progress", c->control, 1, c->control ? 40 : HUNT_RUNS, &r, &s);
    if (!found)
        return attack_says(c, false,
                           "%d networks whose liars lead and propose nothing: %llu reports "
                           "acknowledged, nothing left open",
                           HUNT_RUNS, (unsigned long long)s.reports_acknowledged);
    return attack_says(c, !c->control || begins(r.violation, "liveness"), "%.200s", r.violation);
}

const struct attack attacks_network[] = {
    {.name = "leader-crash",
     .row = ROW_SPOF,
     .knows = "which DC leads; it takes its power away",
     .goal = "no report made afterwards is acknowledged within 60 s",
     .protection = "others elect a leader (in the control fewer than a quorum are left)",
     .run = leader_crash},
    {.name = "mdms-outage",
     .row = ROW_SPOF,
     .knows = "where the MDMS is; it takes its power away for 20 s",
     .goal = "no report made meanwhile is acknowledged",
     .protection = "U is on the ledger (in the control the MDMS goes before it has put it there)",
     .run = mdms_outage},
    {.name = "byzantine-f",
     .row = ROW_LEDGER,
     .knows = "the keys of f of 3f+1 DCs, which lie in every way that the simulator has",
     .goal = "two histories, or anything acknowledged that is not on the ledger",
     .protection = "prepare votes only rise (consensus rule 5)",
     .run = byzantine_f},
    {.name = "byzantine-f-plus-1",
     .row = ROW_LEDGER,
     .knows = "the keys of f+1 of 3f+1 DCs, and which way the network falls apart",
     .goal = "two histories",
     .protection = "none",
     .nobody = "two quorums of 3f+1 have f+1 members in common; when all of those lie, nobody can "
               "tell. Evidence on the ledger names them",
     .run = byzantine_more},
    {.name = "acknowledgement-without-commit",
     .row = ROW_DC_LIES,
     .knows = "a DC's keys and sessions; it tells meters that their reports are on the ledger",
     .goal = "a meter forgets a report that is on no ledger",
     .protection = "a meter believes a certificate and an inclusion proof, nobody's word",
     .run = false_acknowledgement},
    {.name = "silent-leader",
     .row = ROW_SPOF,
     .knows = "the keys of f of 3f+1 DCs; where they lead they propose nothing",
     .goal = "reports are never acknowledged",
     .protection = "a leader that commits nothing is deposed (consensus rule 8)",
     .run = censoring_leader},

    {0}};
