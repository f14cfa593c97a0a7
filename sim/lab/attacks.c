/* sim/lab/attacks.c - `ami-sim lab attacks`: every adversary against every scheme, or against the
 * channel between nodes under every kind of credential. */
#include "sim/lab/attack.h"
#include "sim/lab/figure.h"

#include "base/check.h"
#include "sim/lab/lab.h"
#include "sim/lab/weak_channel.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct attack *const subjects[] = {
    attacks_replay, attacks_impersonation, attacks_middle,    attacks_leak,
    attacks_points, attacks_session,       attacks_ledger,    attacks_disk,
    attacks_links,  attacks_network,       attacks_handshake, attacks_records,
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

bool attack_subject_next(struct attack_subject *s, const struct lab_options *o,
                         const struct attack *attack)
{
    if (attack->on == ON_SCHEME) {
        s->scheme = lab_scheme_next(o, s->scheme);
        if (s->scheme != NULL)
            s->name = s->scheme->name;
        return s->scheme != NULL;
    }
    if (o->scheme != NULL || (attack->on == ON_CHANNEL && s->name != NULL))
        return false;
    s->kind = s->name == NULL ? CREDENTIAL_IMPLICIT : s->kind + 1;
    s->name = attack->on == ON_CHANNEL ? "any" : credential_kind_name(s->kind);
    return s->kind < CREDENTIAL_KINDS;
}

/* Nothing is left out any more. */
static void make_whole(const struct attack_subject *s)
{
    if (s->scheme != NULL)
        (void)lab_weak(s->scheme, 0);
    weak_channel_without(0);
}

static void run_attack(struct attack_outcome *out, const struct attack *attack,
                       const struct attack_subject *s, uint64_t seed)
{
    struct attack_context c = {
        .scheme = s->scheme, .kind = s->kind, .which = attack->which, .seed = seed};
    uint64_t before = lab_cpu_ns();
    memset(out, 0, sizeof *out);
    out->broken = attack->run(&c);
    out->failed = c.failed;
    memcpy(out->evidence, c.evidence, sizeof out->evidence);
    if (!out->broken && out->failed == AMI_OK) {
        struct attack_context control = c;
        control.control = true;
        bool succeeds = attack->run(&control);
        out->failed = control.failed;
        out->control = control.no_control ? CONTROL_MISSING
                       : succeeds         ? CONTROL_SUCCEEDS
                                          : CONTROL_FAILS;
        memcpy(out->control_evidence, control.evidence, sizeof out->control_evidence);
    }
    make_whole(s);
    out->cpu_ns = lab_cpu_ns() - before;
}

const struct attack_outcome *attack_outcome(const struct attack *attack,
                                            const struct attack_subject *subject, uint64_t seed)
{
    static struct kept {
        const struct attack *attack;
        const struct scheme *scheme;
        enum credential_kind kind;
        uint64_t seed;
        struct attack_outcome outcome;
        struct kept *next;
    } * all;
    for (const struct kept *k = all; k != NULL; k = k->next)
        if (k->attack == attack && k->scheme == subject->scheme && k->kind == subject->kind &&
            k->seed == seed)
            return &k->outcome;
    struct kept *k = calloc(1, sizeof *k);
    AMI_CHECK(k != NULL);
    *k = (struct kept){.attack = attack,
                       .scheme = subject->scheme,
                       .kind = subject->kind,
                       .seed = seed,
                       .next = all};
    run_attack(&k->outcome, attack, subject, seed);
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
        if (o->scheme != NULL && attack_at(at)->on != ON_SCHEME)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "%s attacks the channel, which has no key-agreement scheme", o->item[i]);
    }
    return AMI_OK;
}

/* Two tables of the same columns, but for what is attacked. */
enum { SCHEMES, CHANNEL, TABLES };
static const struct table {
    const char *name, *title, *subject; /* subject: column and key */
    const char *list;                   /* in the document, beside the tables */
} tables[TABLES] = {
    [SCHEMES] = {"attacks", "Attacks, each run against the real code", "scheme", "attacks"},
    [CHANNEL] = {"channel", "Attacks on the channel between nodes, each run against the real code",
                 "credential", "channel_attacks"},
};

static const struct table *table_of(const struct attack *a)
{
    return &tables[a->on == ON_SCHEME ? SCHEMES : CHANNEL];
}

/* One figure for each. */
static const struct lab_figure figures[TABLES] = {
    [SCHEMES] = {.kind = LAB_TALLY,
                 .name = "outcomes",
                 .title = "Attacks by outcome",
                 .table = "attacks",
                 .x = "scheme",
                 .series = "outcome"},
    [CHANNEL] = {.kind = LAB_TALLY,
                 .name = "channel-outcomes",
                 .title = "Attacks on the channel by outcome",
                 .table = "channel",
                 .x = "credential",
                 .series = "outcome"},
};

#define SUBJECT_COLUMN 1
static const struct lab_column columns[] = {
    {.name = "attack", .title = "attack"},
    [SUBJECT_COLUMN] = {0}, /* of the table */
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

/* They outlive the table. */
static const struct lab_column *columns_of(const struct table *t)
{
    static struct lab_column all[TABLES][sizeof columns / sizeof columns[0]];
    struct lab_column *own = all[t - tables];
    memcpy(own, columns, sizeof columns);
    own[SUBJECT_COLUMN] = (struct lab_column){.name = t->subject, .title = t->subject};
    return own;
}

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

static void put_row(struct lab_table *t, const struct attack *a, const struct attack_subject *s,
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

static json_t *row_json(const struct attack *a, const struct attack_subject *s,
                        const struct attack_outcome *r)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:f}", "attack", a->name,
                     table_of(a)->subject, s->name, "outcome", r->broken ? "broken" : "resisted",
                     "evidence", r->evidence, "knowledge", a->knows, "control",
                     r->broken ? NULL : control_name(r), "unavoidable", a->nobody, "ms",
                     (double)r->cpu_ns / 1e6);
}

void attack_judge(struct lab_output *out, const struct attack *a, const struct attack_subject *s,
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
static void tell(struct lab_output *out, const struct attack *a, const struct attack_subject *s,
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
    uint64_t rows[TABLES] = {0}, done = 0;
    struct lab_table *t[TABLES];
    struct lab_figure shown[TABLES + 1] = {{0}};
    json_t *list[TABLES];
    enum ami_status status = AMI_OK;
    AMI_TRY(check_items(o, why));
    for (size_t i = 0; attack_at(i) != NULL; i++)
        for (struct attack_subject s = {0}; attack_subject_next(&s, o, attack_at(i));)
            rows[table_of(attack_at(i)) - tables] += wanted(o, attack_at(i));
    for (size_t k = 0, n = 0; k < TABLES; k++) {
        if (rows[k] == 0)
            continue;
        t[k] = lab_table(out, tables[k].name, tables[k].title, columns_of(&tables[k]));
        list[k] = json_array();
        lab_put(out, tables[k].list, list[k]);
        shown[n++] = figures[k];
    }
    lab_progress(o, &p, "attacks", "attacks", rows[SCHEMES] + rows[CHANNEL]);
    for (size_t i = 0; attack_at(i) != NULL && status == AMI_OK; i++) {
        const struct attack *a = attack_at(i);
        const size_t k = (size_t)(table_of(a) - tables);
        for (struct attack_subject s = {0};
             wanted(o, a) && status == AMI_OK && attack_subject_next(&s, o, a);) {
            const struct attack_outcome *r = attack_outcome(a, &s, o->seed);
            if (r->failed != AMI_OK) {
                status = why_set(why, r->failed, "%s: %s", a->name, attack_why(r));
                break;
            }
            put_row(t[k], a, &s, r);
            AMI_CHECK(json_array_append_new(list[k], row_json(a, &s, r)) == 0);
            attack_judge(out, a, &s, r);
            if (o->items != 0)
                tell(out, a, &s, r);
            progress_update(&p, ++done, a->name);
        }
    }
    progress_end(&p, NULL);
    AMI_TRY(status);
    lab_figures(out, shown);
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
