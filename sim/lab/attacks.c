/* sim/lab/attacks.c - `ami-sim lab attacks`: every adversary against every scheme. */
#include "sim/lab/attack.h"
#include "sim/lab/figure.h"

#include "base/check.h"
#include "sim/lab/lab.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct attack *const subjects[] = {
    attacks_replay,  attacks_impersonation, attacks_middle, attacks_leak,  attacks_points,
    attacks_session, attacks_ledger,        attacks_disk,   attacks_links, attacks_network,
};

const struct attack *attack_at(size_t index)
{
    for (size_t s = 0; s < sizeof subjects / sizeof subjects[0]; s++)
        for (const struct attack *a = subjects[s]; a->name != NULL; a++)
            if (index-- == 0)
                return a;
    return NULL;
}

const struct scheme *attack_scheme(struct attack_context *c, unsigned without)
{
    (void)lab_weak(c->scheme, 0);
    if (!c->control)
        return c->scheme;
    const struct scheme *weak = lab_weak(c->scheme, without);
    c->no_control = weak == NULL;
    return weak;
}

bool attack_says(struct attack_context *c, bool broken, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->evidence, sizeof c->evidence, format, args);
    va_end(args);
    return broken;
}

bool attack_fails(struct attack_context *c, enum ami_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->evidence, sizeof c->evidence, format, args);
    va_end(args);
    c->failed = status;
    return false;
}

const char *attack_hex(const void *bytes, size_t size)
{
    static char text[4][65];
    static unsigned at;
    AMI_CHECK(size <= 32);
    char *out = text[at++ % 4];
    hex_encode(out, bytes, size);
    return out;
}

static void run_attack(struct attack_outcome *out, const struct attack *attack,
                       const struct scheme *scheme, uint64_t seed)
{
    struct attack_context c = {.scheme = scheme, .seed = seed};
    uint64_t before = lab_cpu_ns();
    memset(out, 0, sizeof *out);
    out->broken = attack->run(&c);
    out->failed = c.failed;
    memcpy(out->evidence, c.evidence, sizeof out->evidence);
    if (!out->broken && out->failed == AMI_OK) {
        struct attack_context control = {.scheme = scheme, .seed = seed, .control = true};
        bool succeeds = attack->run(&control);
        out->failed = control.failed;
        out->control = control.no_control ? CONTROL_MISSING
                       : succeeds         ? CONTROL_SUCCEEDS
                                          : CONTROL_FAILS;
        memcpy(out->control_evidence, control.evidence, sizeof out->control_evidence);
    }
    (void)lab_weak(scheme, 0);
    out->cpu_ns = lab_cpu_ns() - before;
}

const struct attack_outcome *attack_outcome(const struct attack *attack,
                                            const struct scheme *scheme, uint64_t seed)
{
    static struct kept {
        const struct attack *attack;
        const struct scheme *scheme;
        uint64_t seed;
        struct attack_outcome outcome;
        struct kept *next;
    } * all;
    for (const struct kept *k = all; k != NULL; k = k->next)
        if (k->attack == attack && k->scheme == scheme && k->seed == seed)
            return &k->outcome;
    struct kept *k = calloc(1, sizeof *k);
    AMI_CHECK(k != NULL);
    *k = (struct kept){.attack = attack, .scheme = scheme, .seed = seed, .next = all};
    run_attack(&k->outcome, attack, scheme, seed);
    all = k;
    return &k->outcome;
}

const char *attack_why(const struct attack_outcome *r)
{
    return r->control_evidence[0] != 0 ? r->control_evidence : r->evidence;
}

/* --- the experiment -------------------------------------------------------------------------- */

static bool wanted(const struct lab_options *o, const struct attack *a)
{
    bool found = o->items == 0;
    for (size_t i = 0; i < o->items; i++)
        found = found || strcmp(o->item[i], a->name) == 0;
    return found;
}

static enum ami_status check_items(const struct lab_options *o, struct why *why)
{
    for (size_t i = 0; i < o->items; i++) {
        size_t at = 0;
        while (attack_at(at) != NULL && strcmp(attack_at(at)->name, o->item[i]) != 0)
            at++;
        if (attack_at(at) == NULL)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "'%.40s' is no attack; `ami-sim lab attacks --list` has their names",
                           o->item[i]);
    }
    return AMI_OK;
}

static const struct lab_figure figures[] = {{.kind = LAB_TALLY,
                                             .name = "outcomes",
                                             .title = "Attacks by outcome",
                                             .table = "attacks",
                                             .x = "scheme",
                                             .series = "outcome"},
                                            {0}};

static const struct lab_column columns[] = {
    {.name = "attack", .title = "attack"},
    {.name = "scheme", .title = "scheme"},
    {.name = "outcome", .title = "outcome", .source = LAB_MEASURED},
    {.name = "control", .title = "control", .source = LAB_MEASURED},
    {.name = "evidence", .title = "evidence", .source = LAB_MEASURED},
    {.name = "knowledge", .title = "the adversary holds", .hidden = true},
    {.name = "goal", .title = "goal", .hidden = true},
    {.name = "protection", .title = "what the control takes away", .hidden = true},
    {.name = "control_evidence",
     .title = "evidence of the control",
     .source = LAB_MEASURED,
     .hidden = true},
    {.name = "unavoidable", .title = "why nobody resists", .hidden = true},
    {.name = "cpu",
     .title = "processor time",
     .unit = "ms",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

static const char *control_name(const struct attack_outcome *r)
{
    switch (r->control) {
    case CONTROL_NOT_NEEDED:
        return "-";
    case CONTROL_SUCCEEDS:
        return "succeeds";
    case CONTROL_FAILS:
        return "FAILS";
    case CONTROL_MISSING:
        return "missing";
    }
    return "-";
}

static void put_row(struct lab_table *t, const struct attack *a, const struct scheme *s,
                    const struct attack_outcome *r)
{
    lab_text(t, "%s", a->name);
    lab_text(t, "%s", s->name);
    lab_text(t, "%s", r->broken ? "broken" : "resisted");
    if (r->broken)
        lab_none(t);
    else
        lab_text(t, "%s", control_name(r));
    lab_text(t, "%s", r->evidence);
    lab_text(t, "%s", a->knows);
    lab_text(t, "%s", a->goal);
    lab_text(t, "%s", a->protection);
    if (r->broken)
        lab_none(t);
    else
        lab_text(t, "%s", r->control_evidence);
    if (a->nobody == NULL)
        lab_none(t);
    else
        lab_text(t, "%s", a->nobody);
    lab_real(t, (double)r->cpu_ns / 1e6);
}

static json_t *row_json(const struct attack *a, const struct scheme *s,
                        const struct attack_outcome *r)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:f}", "attack", a->name, "scheme",
                     s->name, "outcome", r->broken ? "broken" : "resisted", "evidence", r->evidence,
                     "knowledge", a->knows, "control", r->broken ? NULL : control_name(r),
                     "unavoidable", a->nobody, "ms", (double)r->cpu_ns / 1e6);
}

void attack_judge(struct lab_output *out, const struct attack *a, const struct scheme *s,
                  const struct attack_outcome *r)
{
    if (r->control == CONTROL_FAILS)
        lab_fail(out, "%s against %s: it fails even without what protects from it (%s): %s",
                 a->name, s->name, a->protection, r->control_evidence);
    if (r->control == CONTROL_MISSING)
        lab_note(out, "%s against %s: no control, the scheme has no weakened form", a->name,
                 s->name);
    if (!r->broken && a->nobody != NULL)
        lab_fail(out, "%s against %s: resisted, although nobody can: %s", a->name, s->name,
                 a->nobody);
}

/* Who asks for some attacks by name wants all of what they found. */
static void tell(struct lab_output *out, const struct attack *a, const struct scheme *s,
                 const struct attack_outcome *r)
{
    lab_note(out, "%s, %s: %s\n  the adversary holds: %s\n  it wants: %s\n  found: %s", a->name,
             s->name, r->broken ? "broken" : "resisted", a->knows, a->goal, r->evidence);
    if (!r->broken)
        lab_note(out, "  what stands in its way: %s\n  without that (control %s): %s",
                 a->protection, control_name(r), r->control_evidence);
    if (a->nobody != NULL)
        lab_note(out, "  why nobody resists: %s", a->nobody);
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct progress p;
    uint64_t total = 0, done = 0;
    AMI_TRY(check_items(o, why));
    for (size_t i = 0; attack_at(i) != NULL; i++)
        for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;)
            total += wanted(o, attack_at(i));
    struct lab_table *t =
        lab_table(out, "attacks", "Attacks, each run against the real code", columns);
    json_t *list = json_array();
    lab_progress(o, &p, "attacks", "attacks", total);
    for (size_t i = 0; attack_at(i) != NULL; i++) {
        const struct attack *a = attack_at(i);
        if (!wanted(o, a))
            continue;
        for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
            const struct attack_outcome *r = attack_outcome(a, s, o->seed);
            if (r->failed != AMI_OK) {
                json_decref(list);
                return why_set(why, r->failed, "%s: %s", a->name, attack_why(r));
            }
            put_row(t, a, s, r);
            AMI_CHECK(json_array_append_new(list, row_json(a, s, r)) == 0);
            attack_judge(out, a, s, r);
            if (o->items != 0)
                tell(out, a, s, r);
            progress_update(&p, ++done, a->name);
        }
    }
    progress_end(&p, NULL);
    lab_put(out, "attacks", list);
    lab_figures(out, figures);
    lab_note(out, "Machine: %s; SM2 path %s; times are processor time, controls included.",
             lab_machine(), sm2_path_name());
    return AMI_OK;
}

static void list(const struct lab_options *o, FILE *to)
{
    (void)o;
    for (size_t i = 0; attack_at(i) != NULL; i++)
        fprintf(to, "%s\n", attack_at(i)->name);
}

const struct lab_experiment lab_attacks = {
    .name = "attacks",
    .summary =
        "adversaries as code, each with what it holds, against the real code (Table 2, more)",
    .items = "ATTACK",
    .list = list,
    .run = run};
