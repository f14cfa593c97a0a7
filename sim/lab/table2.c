/* sim/lab/table2.c - `ami-sim lab table2`: what each scheme resists, from attacks that were run,
 * beside what the paper claims in its Table 2 for itself and five others. */
#include "sim/lab/attack.h"
#include "sim/lab/figure.h"

#include "base/check.h"
#include "sim/lab/lab.h"

#include <stdio.h>
#include <string.h>

#define CLAIMS      6
#define SCHEMES_MAX 8
#define CELL_BYTES  512

/* As the paper has them: y is claimed, - is not. */
static const char *const claimed_by[CLAIMS] = {"nike_plus", "sha",  "skm_plus",
                                               "a_mood",    "laka", "paper"};
static const char *const claimed_title[CLAIMS] = {"NIKE+ *",  "Sha *",  "SKM+ *",
                                                  "A-Mood *", "LAKA *", "paper *"};
static const struct row {
    const char *name, *what;
    const char *claims; /* NULL: the paper has no such row */
} rows[ROW_COUNT] = {
    [ROW_REPLAY] = {"replay", "replay", "yyyyyy"},
    [ROW_IMPERSONATION] = {"impersonation", "impersonation", "yyyyyy"},
    [ROW_MITM] = {"man-in-the-middle", "man in the middle", "yyy-yy"},
    [ROW_DESYNC] = {"desynchronisation", "desynchronisation", "y-yy-y"},
    [ROW_SPOF] = {"single-point-of-failure", "single point of failure", "-----y"},
    [ROW_COLLUSION] = {"collusion", "collusion of a meter and a DC", "-----y"},
    [ROW_SECRECY] = {"later-compromise", "keys or state stolen later", NULL},
    [ROW_LEAK] = {"leaked-values", "a session's or ephemeral value leaks", NULL},
    [ROW_COMPROMISE] = {"key-compromise", "impersonation to whom the key was stolen from", NULL},
    [ROW_KEY_SHARE] = {"unknown-key-share", "unknown key share", NULL},
    [ROW_POINTS] = {"bad-points", "points that are none", NULL},
    [ROW_DC_LIES] = {"lying-dc", "a DC lies about reports", NULL},
    [ROW_LEDGER] = {"ledger", "f lying DCs, an edited ledger", NULL},
    [ROW_READINGS] = {"guessed-readings", "readings guessed", NULL},
    [ROW_FLOOD] = {"flood", "a flood of first flights", NULL},
};

/* Columns: row, six claims, one measured column for each scheme. They outlive the table. */
static const struct lab_column *columns_for(const struct lab_options *o)
{
    static struct lab_column all[1 + CLAIMS + SCHEMES_MAX + 1];
    size_t n = 0;
    memset(all, 0, sizeof all);
    all[n++] = (struct lab_column){.name = "property", .title = "resists"};
    for (size_t i = 0; i < CLAIMS; i++)
        all[n++] = (struct lab_column){
            .name = claimed_by[i], .title = claimed_title[i], .source = LAB_REPORTED};
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
        AMI_CHECK(n < 1 + CLAIMS + SCHEMES_MAX);
        all[n++] = (struct lab_column){.name = s->name, .title = s->name, .source = LAB_MEASURED};
    }
    return all;
}

/* What nobody resists is left out. */
static bool counts(const struct attack *a, int row)
{
    return a->on == ON_SCHEME && (int)a->row == row && a->nobody == NULL;
}

/* "yes, 4 attacks", or "no:" and the attacks that broke it. */
static enum ami_status measured_cell(struct lab_output *out, struct lab_table *t,
                                     enum attack_row row, const struct scheme *s, uint64_t seed,
                                     struct why *why)
{
    const struct attack_subject subject = {s->name, s, 0};
    char broken[CELL_BYTES] = "";
    size_t n = 0, count = 0;
    for (size_t i = 0; attack_at(i) != NULL; i++) {
        const struct attack *a = attack_at(i);
        if (!counts(a, (int)row))
            continue;
        const struct attack_outcome *r = attack_outcome(a, &subject, seed);
        if (r->failed != AMI_OK)
            return why_set(why, r->failed, "%s: %s", a->name, attack_why(r));
        attack_judge(out, a, &subject, r);
        count++;
        if (r->broken)
            n += (size_t)snprintf(broken + n, sizeof broken - n, "%s %s", n == 0 ? "" : ",",
                                  a->name);
        AMI_CHECK(n < sizeof broken);
    }
    if (count == 0)
        lab_none(t);
    else if (n == 0)
        lab_text(t, "yes (%zu)", count);
    else
        lab_text(t, "no:%s", broken);
    return AMI_OK;
}

static const struct lab_column sum_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "held", .title = "properties that hold", .source = LAB_MEASURED},
    {.name = "broken", .title = "properties broken", .source = LAB_MEASURED},
    {0}};

static const struct lab_figure figures[] = {{.kind = LAB_BARS,
                                             .name = "properties",
                                             .title = "Rows of the table that hold, and do not",
                                             .table = "sums",
                                             .x = "scheme",
                                             .y = {"held", "broken"}},
                                            {0}};

/* How many rows hold, from outcomes that are there already. */
static void put_sums(struct lab_table *t, const struct scheme *s, uint64_t seed)
{
    const struct attack_subject subject = {s->name, s, 0};
    int64_t held = 0, broken = 0;
    for (int row = 0; row < ROW_COUNT; row++) {
        size_t asked = 0, fell = 0;
        for (size_t i = 0; attack_at(i) != NULL; i++) {
            if (!counts(attack_at(i), row))
                continue;
            asked++;
            fell += attack_outcome(attack_at(i), &subject, seed)->broken;
        }
        held += asked > 0 && fell == 0;
        broken += fell > 0;
    }
    lab_text(t, "%s", s->name);
    lab_integer(t, held);
    lab_integer(t, broken);
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct progress p;
    uint64_t total = 0, done = 0;
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;)
        total += ROW_COUNT;
    struct lab_table *t =
        lab_table(out, "table2", "Table 2: claimed, and from attacks that ran", columns_for(o));
    lab_progress(o, &p, "table2", "cells", total);
    for (int row = 0; row < ROW_COUNT; row++) {
        AMI_CHECK(rows[row].name != NULL);
        lab_text(t, "%s", rows[row].what);
        for (size_t i = 0; i < CLAIMS; i++) {
            if (rows[row].claims == NULL)
                lab_none(t);
            else
                lab_text(t, "%s", rows[row].claims[i] == 'y' ? "claimed" : "not claimed");
        }
        for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
            AMI_TRY(measured_cell(out, t, (enum attack_row)row, s, o->seed, why));
            progress_update(&p, ++done, s->name);
        }
    }
    progress_end(&p, NULL);
    struct lab_table *sums = lab_table(out, "sums", "How many rows hold", sum_columns);
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;)
        put_sums(sums, s, o->seed);
    lab_figures(out, figures);
    lab_note(out, "* as reported in the paper's Table 2, not checked here; \"paper\" is the scheme "
                  "that liu2023 implements. The paper has no rows below \"collusion\".");
    lab_note(out,
             "In a scheme's column: yes, with the number of attacks that it resisted and whose "
             "controls succeeded; or the attacks that broke it (`ami-sim lab attacks NAME`).");
    lab_note(out, "Rows from \"replay\" to \"bad points\" are about the agreement of keys and its "
                  "sessions; a leader's crash, the MDMS's absence, lying DCs, the ledger and the "
                  "readings are the same under every scheme, but for the published Sig_DC.");
    for (size_t i = 0; attack_at(i) != NULL; i++)
        if (attack_at(i)->on == ON_SCHEME && attack_at(i)->nobody != NULL)
            lab_note(out, "Left out, because nobody resists it: %s (%s).", attack_at(i)->name,
                     attack_at(i)->nobody);
    return AMI_OK;
}

const struct lab_experiment lab_table2 = {
    .name = "table2",
    .summary = "what each scheme resists, from the attacks, beside what the paper claims",
    .run = run};
