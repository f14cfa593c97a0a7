/* sim/lab/table4.c - `ami-sim lab table4`: what one agreement costs a meter and a DC.
 *
 * Three ways side by side: operations counted while a real agreement runs (count.h), each with its
 * time measured here; the whole of each side's work timed at once; and what the published paper
 * reports. Other published schemes, of which there is no code here, get a cost model: their
 * published counts with our unit times. */
#include "base/check.h"
#include "crypto/sm2.h"
#include "sim/lab/count.h"
#include "sim/lab/election.h"
#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/lab/pair.h"
#include "sim/lab/quantile.h"
#include "sim/lab/unit.h"

#include <string.h>

enum side { METER, DC, SIDES };
static const char *const side_name[] = {"meter", "DC"};

/* --- columns --------------------------------------------------------------------------------- */

static const struct lab_column operation_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "side", .title = "side"},
    {.name = "operation", .title = "operation"},
    {.name = "count", .title = "count", .source = LAB_MEASURED},
    {.name = "unit_time",
     .title = "one",
     .unit = "us",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "total",
     .title = "all",
     .unit = "us",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

static const struct lab_column total_columns[] = {{.name = "scheme", .title = "scheme"},
                                                  {.name = "side", .title = "side"},
                                                  {.name = "operations",
                                                   .title = "operations x times",
                                                   .unit = "us",
                                                   .decimals = 1,
                                                   .source = LAB_MEASURED,
                                                   .clock = true},
                                                  {.name = "timed",
                                                   .title = "timed as a whole",
                                                   .unit = "us",
                                                   .decimals = 1,
                                                   .source = LAB_MEASURED,
                                                   .clock = true},
                                                  {.name = "batch",
                                                   .title = "in batches of 32",
                                                   .unit = "us",
                                                   .decimals = 1,
                                                   .source = LAB_MEASURED,
                                                   .clock = true},
                                                  {.name = "election",
                                                   .title = "T_el, median",
                                                   .unit = "ms",
                                                   .decimals = 0,
                                                   .source = LAB_SIMULATED},
                                                  {.name = "with_election",
                                                   .title = "with T_el",
                                                   .unit = "ms",
                                                   .decimals = 1,
                                                   .source = LAB_MODEL,
                                                   .clock = true},
                                                  {0}};

static const struct lab_column reported_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "meter_counts", .title = "meter"},
    {.name = "dc_counts", .title = "DC"},
    {.name = "third_counts", .title = "third party"},
    {.name = "meter", .title = "meter", .unit = "s", .decimals = 2, .source = LAB_REPORTED},
    {.name = "dc", .title = "DC", .unit = "s", .decimals = 2, .source = LAB_REPORTED},
    {0}};

static const struct lab_column unit_columns[] = {
    {.name = "unit", .title = "unit"},
    {.name = "what", .title = "what it is here"},
    {.name = "time",
     .title = "here",
     .unit = "us",
     .decimals = 3,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "least",
     .title = "least",
     .unit = "us",
     .decimals = 3,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "most",
     .title = "most",
     .unit = "us",
     .decimals = 3,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "reported", .title = "paper, as printed", .decimals = 4, .source = LAB_REPORTED},
    {0}};

static const struct lab_column model_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "meter",
     .title = "meter",
     .unit = "us",
     .decimals = 1,
     .source = LAB_MODEL,
     .clock = true},
    {.name = "dc", .title = "DC", .unit = "us", .decimals = 1, .source = LAB_MODEL, .clock = true},
    {.name = "third",
     .title = "third party",
     .unit = "us",
     .decimals = 1,
     .source = LAB_MODEL,
     .clock = true},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BARS,
     .name = "totals",
     .title = "One agreement, by side: this code on this machine",
     .table = "totals",
     .x = "scheme",
     .y = {"timed"},
     .series = "side"},
    {.kind = LAB_BARS,
     .name = "model",
     .title = "All schemes with our unit times (cost model; published counts)",
     .table = "model",
     .x = "scheme",
     .y = {"meter", "dc", "third"},
     .y_log = true},
    {.kind = LAB_BARS,
     .name = "reported",
     .title = "As the paper reports it",
     .table = "reported",
     .x = "scheme",
     .y = {"meter", "dc"}},
    {0}};

/* --- what the paper reports ------------------------------------------------------------------ */

/* vectors.md. Published counts of one run, by party. */
enum unit { PM, BP, RN, HF, HM, SE, SD, UNITS };
static const struct published {
    const char *scheme;
    const char *text[3];
    unsigned count[3][UNITS];
    double meter_s, dc_s;
} published[] = {
    {"published",
     {"pm + rn + 3 hf", "4 pm + rn + 4 hf + T_el", "-"},
     {{[PM] = 1, [RN] = 1, [HF] = 3}, {[PM] = 4, [RN] = 1, [HF] = 4}},
     3.46,
     13.77},
    {"NIKE+",
     {"pm + rn + 3 hf", "4 pm + rn + 4 hf", "-"},
     {{[PM] = 1, [RN] = 1, [HF] = 3}, {[PM] = 4, [RN] = 1, [HF] = 4}},
     3.46,
     13.76},
    {"Sha",
     {"5 hf", "3361 hf", "1766 hf"},
     {{[HF] = 5}, {[HF] = 3361}, {[HF] = 1766}},
     0.05,
     30.92},
    {"SKM+",
     {"3 pm + rn", "2 bp + pm + rn", "-"},
     {{[PM] = 3, [RN] = 1}, {[BP] = 2, [PM] = 1, [RN] = 1}},
     10.29,
     16.01},
    {"A-Mood",
     {"976 hf", "1629 hf", "662 hf"},
     {{[HF] = 976}, {[HF] = 1629}, {[HF] = 662}},
     8.98,
     14.99},
    {"LAKA",
     {"3 pm + 4 hf + 2 HM + 2 se", "3 pm + 5 hf + 2 HM + 2 sd", "-"},
     {{[PM] = 3, [HF] = 4, [HM] = 2, [SE] = 2}, {[PM] = 3, [HF] = 5, [HM] = 2, [SD] = 2}},
     10.37,
     10.38},
};
#define PUBLISHED (sizeof published / sizeof published[0])

/* Unit times as the paper prints them; its table mixes seconds and milliseconds. 0: not printed. */
static const struct {
    const char *name, *what;
    double reported;
    enum lab_op op; /* LAB_OP_KINDS: measured elsewhere */
} units[] = {
    [PM] = {"T_pm", "k P, secret k, any P", 3.43, LAB_OP_MUL},
    [BP] = {"T_bp", "", 6.292, LAB_OP_KINDS},
    [RN] = {"T_rn", "48 random bytes to a scalar", 0, LAB_OP_RANDOM},
    [HF] = {"T_hf", "SM3 of 64 bytes", 0.0092, LAB_OP_HASH},
    [HM] = {"T_HM", "HMAC-SM3 of 64 bytes", 0.0183, LAB_OP_HMAC},
    [SE] = {"T_se", "SM4-GCM, 64 bytes sealed", 0.0017, LAB_OP_SEAL},
    [SD] = {"T_sd", "SM4-GCM, 64 bytes opened", 0.0016, LAB_OP_OPEN},
};

/* --- our own schemes ------------------------------------------------------------------------- */

/* The flight that the answers belong to stays the same, so the meter's part can be repeated. */
static void meter_alone(void *with)
{
    struct lab_pair *p = with;
    struct agree_state kept = p->state;
    lab_pair_flight1(p);
    p->state = kept;
    lab_pair_flight3(p);
}

static void dc_alone(void *with)
{
    lab_pair_flight2(with);
}

static void dc_batch(void *with)
{
    lab_pair_flight2_batch(with);
}

static void add(struct lab_counts *to, const struct lab_counts *from)
{
    for (int op = 0; op < LAB_OP_KINDS; op++)
        to->count[op] += from->count[op];
}

/* One agreement from beginning to end, each step counted for its side. */
static void count_agreement(struct lab_pair *p, struct lab_counts side[SIDES])
{
    static void (*const step[])(struct lab_pair *) = {lab_pair_flight1, lab_pair_flight2,
                                                      lab_pair_flight3, lab_pair_confirm};
    memset(side, 0, SIDES * sizeof side[0]);
    for (size_t i = 0; i < 4; i++) {
        struct lab_counts c;
        lab_count_begin(&c, false);
        step[i](p);
        lab_count_end();
        add(&side[i % 2 == 0 ? METER : DC], &c);
    }
}

struct costs {
    struct lab_counts count;
    double sum_us, timed_us, batch_us;
};

static void put_operations(struct lab_table *t, struct lab_pair *p, enum side side,
                           struct costs *costs)
{
    for (int op = 0; op < LAB_OP_KINDS; op++) {
        if (costs->count.count[op] == 0)
            continue;
        double us = lab_unit_time((enum lab_op)op, p, side == DC).median_us;
        double all = us * (double)costs->count.count[op];
        lab_text(t, "%s", p->scheme->name);
        lab_text(t, "%s", side_name[side]);
        lab_text(t, "%s", lab_op_what((enum lab_op)op));
        lab_integer(t, (int64_t)costs->count.count[op]);
        lab_real(t, us);
        lab_real(t, all);
        costs->sum_us += all;
    }
}

static void put_totals(struct lab_table *t, const char *scheme, enum side side,
                       const struct costs *c, double election_ms)
{
    lab_text(t, "%s", scheme);
    lab_text(t, "%s", side_name[side]);
    lab_real(t, c->sum_us);
    lab_real(t, c->timed_us);
    if (side == METER) {
        lab_none(t);
        lab_none(t);
        lab_none(t);
        return;
    }
    lab_real(t, c->batch_us);
    lab_real(t, election_ms);
    lab_real(t, election_ms + c->timed_us / 1000);
}

static void one_scheme(const struct scheme *scheme, const struct lab_options *o,
                       struct lab_table *operations, struct costs costs[SIDES])
{
    struct lab_pair *p = lab_pair_new(scheme, o->seed);
    struct lab_counts count[SIDES];
    memset(costs, 0, SIDES * sizeof costs[0]);
    /* A DC remembers P_pub from its start on; a meter has no memory for that. */
    sm2_signers_forget();
    count_agreement(p, count);
    for (int side = 0; side < SIDES; side++) {
        costs[side].count = count[side];
        put_operations(operations, p, (enum side)side, &costs[side]);
    }
    costs[METER].timed_us = lab_time_of(meter_alone, p, 1).median_us;
    AMI_CHECK(sm2_signer_remember(&p->arena->mdms.net.p_pub) == AMI_OK);
    costs[DC].timed_us = lab_time_of(dc_alone, p, 1).median_us;
    costs[DC].batch_us = lab_time_of(dc_batch, p, LAB_PAIR_BATCH).median_us;
    sm2_signers_forget();
    /* What was timed still agrees. */
    lab_pair_agree(p);
    lab_pair_free(p);
}

/* --- cost model ------------------------------------------------------------------------------ */

static void put_units(struct lab_table *t, struct lab_pair *p, double us[UNITS])
{
    struct lab_pairing pairing;
    for (int i = 0; i < UNITS; i++) {
        if (units[i].op == LAB_OP_KINDS)
            continue;
        struct lab_time time = lab_unit_time(units[i].op, p, false);
        us[i] = time.median_us;
        lab_text(t, "%s", units[i].name);
        lab_text(t, "%s", units[i].what);
        lab_real(t, time.median_us);
        lab_real(t, time.min_us);
        lab_real(t, time.max_us);
        if (units[i].reported > 0)
            lab_real(t, units[i].reported);
        else
            lab_none(t);
    }
    bool measured = lab_pairing_measure(&pairing);
    us[BP] = measured ? pairing.pairing_us : us[PM] * units[BP].reported / units[PM].reported;
    lab_text(t, "%s", units[BP].name);
    if (measured)
        lab_text(t, "reduced Tate pairing, 510-bit field, 160-bit group, by %s", pairing.version);
    else
        lab_text(t, "not measured (no gp of package pari-gp): T_pm x the reported T_bp / T_pm");
    lab_real(t, us[BP]);
    lab_none(t);
    lab_none(t);
    lab_real(t, units[BP].reported);
    if (!measured)
        return;
    lab_text(t, "T_pm of the pairing's curve");
    lab_text(t, "k P, 160-bit k, by %s: for comparison, not used", pairing.version);
    lab_real(t, pairing.mul_us);
    lab_none(t);
    lab_none(t);
    lab_none(t);
}

static double model_us(const unsigned count[UNITS], const double us[UNITS])
{
    double sum = 0;
    for (int i = 0; i < UNITS; i++)
        sum += count[i] * us[i];
    return sum;
}

static void put_published(struct lab_table *reported, struct lab_table *model,
                          const double us[UNITS])
{
    for (size_t i = 0; i < PUBLISHED; i++) {
        const struct published *s = &published[i];
        lab_text(reported, "%s", s->scheme);
        for (size_t k = 0; k < 3; k++)
            lab_text(reported, "%s", s->text[k]);
        lab_real(reported, s->meter_s);
        lab_real(reported, s->dc_s);
        lab_text(model, "%s", s->scheme);
        lab_real(model, model_us(s->count[0], us));
        lab_real(model, model_us(s->count[1], us));
        double third = model_us(s->count[2], us);
        if (third > 0)
            lab_real(model, third);
        else
            lab_none(model);
    }
}

/* --- all of it ------------------------------------------------------------------------------- */

static bool measure_election(const struct lab_options *o, struct lab_output *out, double *median_ms)
{
    struct lab_elections e;
    const struct lab_election_case c = {.dcs = 4,
                                        .timeout_ms = 600,
                                        .delay_mean_us = 3000,
                                        .elections = lab_size(o, 100, 3),
                                        .seed = o->seed};
    lab_elections_run(&e, &c);
    *median_ms = lab_quantile(e.total_ms, e.count, 0.5);
    if (e.violation[0] != 0)
        lab_fail(out, "elections: %s", e.violation);
    lab_note(out,
             "T_el: %zu elections of 4 DCs in the simulator, T = 600 ms, fiber: %.0f to %.0f ms, "
             "of which the vote itself takes %.1f ms (median); the paper reports 10.5 to 520 ms.",
             e.count, lab_quantile(e.total_ms, e.count, 0), lab_quantile(e.total_ms, e.count, 1),
             lab_quantile(e.elect_ms, e.count, 0.5));
    bool good = e.violation[0] == 0;
    lab_elections_free(&e);
    return good;
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct lab_table *totals =
        lab_table(out, "totals", "One agreement, this code on this machine", total_columns);
    struct lab_table *operations =
        lab_table(out, "operations", "Operations counted in one agreement", operation_columns);
    struct lab_table *reported =
        lab_table(out, "reported", "Table 4 as the paper reports it", reported_columns);
    struct lab_table *unit = lab_table(out, "units", "Unit times of the cost model", unit_columns);
    struct lab_table *model = lab_table(
        out, "model", "Published counts with our unit times (a cost model)", model_columns);
    double us[UNITS] = {0}, election_ms = 0;
    (void)why;
    lab_time_briefly(o->tiny);
    (void)measure_election(o, out, &election_ms);
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
        struct costs costs[SIDES];
        one_scheme(s, o, operations, costs);
        for (int side = 0; side < SIDES; side++)
            put_totals(totals, s->name, (enum side)side, &costs[side], election_ms);
    }
    struct lab_pair *p = lab_pair_new(scheme_by_number(SCHEME_DEFAULT), o->seed);
    put_units(unit, p, us);
    lab_pair_free(p);
    put_published(reported, model, us);
    lab_note(out, "Times are processor time, medians of 11 repetitions; the meter's run on this "
                  "machine's path too (AMI_SM2_PATH=portable forces the portable one).");
    lab_note(out,
             "The published scheme's 4 pm of the DC are here 1 (k G) and 2 in one (a G + b P_pub): "
             "b (A G + h P_pub) = (b A) G + (b h) P_pub needs fixed bases only.");
    lab_note(out, "Reported seconds and unit times are the paper's own; its table mixes seconds "
                  "and milliseconds, so only their ratios compare.");
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_table4 = {
    .name = "table4",
    .summary = "cost of an agreement: operations counted, times measured, the paper's beside",
    .run = run};
