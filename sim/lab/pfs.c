/* sim/lab/pfs.c - `ami-sim lab pfs`: a key for every message, by a public-key agreement each or by
 * the hash key generator (keyagree/session.h).
 *
 * As the seed paper does it: 1,000 messages of 1 KB. Both ways seal on the meter and open on the
 * DC; the first agrees anew before every message, the second once before all of them. Each way runs
 * twice: once plainly, for its time, and once with the clock read around every operation, for the
 * split. */
#include "base/check.h"
#include "keyagree/session.h"
#include "sim/lab/count.h"
#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/lab/pair.h"

#include <string.h>

#define MESSAGES      1000
#define MESSAGE_BYTES 1024
#define RUNS          5

static const struct lab_column columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "way", .title = "key per message"},
    {.name = "messages", .title = "messages", .source = LAB_ASSUMED},
    {.name = "time",
     .title = "time",
     .unit = "ms",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "per_message",
     .title = "a message",
     .unit = "us",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "factor",
     .title = "agreement / this",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "public_key",
     .title = "public key",
     .unit = "%",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "symmetric",
     .title = "SM4-GCM",
     .unit = "%",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "hash",
     .title = "SM3",
     .unit = "%",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "rest",
     .title = "rest",
     .unit = "%",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "products", .title = "A", .unit = "a message", .decimals = 3, .source = LAB_MEASURED},
    {.name = "hashes", .title = "H", .unit = "a message", .decimals = 3, .source = LAB_MEASURED},
    {.name = "ciphers", .title = "S", .unit = "a message", .decimals = 3, .source = LAB_MEASURED},
    {0}};

static const struct lab_column reported_columns[] = {
    {.name = "way", .title = "key per message"},
    {.name = "messages", .title = "messages", .source = LAB_REPORTED},
    {.name = "time", .title = "time", .unit = "ms", .decimals = 0, .source = LAB_REPORTED},
    {.name = "operations", .title = "operations a message"},
    {.name = "public_key",
     .title = "public key",
     .unit = "%",
     .decimals = 1,
     .source = LAB_REPORTED},
    {.name = "symmetric", .title = "symmetric", .unit = "%", .decimals = 1, .source = LAB_REPORTED},
    {.name = "hash", .title = "hash", .unit = "%", .decimals = 1, .source = LAB_REPORTED},
    {.name = "rest", .title = "rest", .unit = "%", .decimals = 1, .source = LAB_REPORTED},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BARS,
     .name = "time",
     .title = "1,000 messages of 1 KB, each with its own key",
     .table = "ways",
     .x = "scheme",
     .y = {"time"},
     .series = "way",
     .y_log = true},
    {.kind = LAB_BARS,
     .name = "agreement",
     .title = "Where the time goes: an agreement for every message",
     .table = "ways",
     .x = "scheme",
     .y = {"public_key", "symmetric", "hash", "rest"},
     .only = "way",
     .is = "agreement"},
    {.kind = LAB_BARS,
     .name = "generator",
     .title = "Where the time goes: the hash key generator",
     .table = "ways",
     .x = "scheme",
     .y = {"public_key", "symmetric", "hash", "rest"},
     .only = "way",
     .is = "generator"},
    {0}};

struct line {
    struct lab_pair *pair;
    size_t messages;
    bool agree_each;
    struct session meter, dc;
    uint8_t plain[MESSAGE_BYTES], opened[MESSAGE_BYTES], sealed[MESSAGE_BYTES + GCM_TAG_BYTES];
};

static void agree(struct line *l)
{
    struct lab_pair *p = l->pair;
    lab_pair_agree(p);
    session_begin(&l->meter, true, p->result.k, &p->result.terms, 100000, 86400, 0);
    session_begin(&l->dc, false, p->answer[0].pending.k, &p->request[0].terms, 100000, 86400, 0);
}

static void send_all(void *with)
{
    struct line *l = with;
    for (size_t i = 0; i < l->messages; i++) {
        struct session_data data;
        size_t size;
        if (i == 0 || l->agree_each)
            agree(l);
        l->plain[i % MESSAGE_BYTES]++;
        AMI_CHECK(session_seal(&l->meter, &data, l->sealed, 1, span_of(l->plain, MESSAGE_BYTES),
                               0) == AMI_OK);
        AMI_CHECK(session_open(&l->dc, l->opened, &size, &data, 0) == AMI_OK);
        AMI_CHECK(size == MESSAGE_BYTES && memcmp(l->opened, l->plain, size) == 0);
    }
}

/* The least of some runs: whatever else the machine does only adds. */
static double plain_ns(struct line *l)
{
    double least = 0;
    for (int i = 0; i < RUNS; i++) {
        uint64_t from = lab_cpu_ns();
        send_all(l);
        double ns = (double)(lab_cpu_ns() - from);
        if (i == 0 || ns < least)
            least = ns;
    }
    return least;
}

static void put(struct lab_table *t, struct line *l, double agreement_ns, double *ns)
{
    struct lab_counts c;
    double group[LAB_GROUPS] = {0}, count[LAB_GROUPS] = {0}, products = 0;
    *ns = plain_ns(l);
    uint64_t from = lab_cpu_ns();
    lab_count_begin(&c, true);
    send_all(l);
    lab_count_end();
    double all = (double)(lab_cpu_ns() - from);
    for (int op = 0; op < LAB_OP_KINDS; op++) {
        group[lab_op_group((enum lab_op)op)] += (double)c.ns[op];
        count[lab_op_group((enum lab_op)op)] += (double)c.count[op];
    }
    /* A table product is two. */
    for (int op = 0; op < LAB_OP_DECODE; op++)
        products += (double)c.count[op] * (op == LAB_OP_TABLE ? 2 : 1);
    double messages = (double)l->messages, sum = 0;
    for (int g = 0; g < LAB_GROUPS; g++)
        sum += group[g];
    if (all < sum) /* two clocks */
        all = sum;
    lab_text(t, "%s", l->pair->scheme->name);
    lab_text(t, "%s", l->agree_each ? "agreement" : "generator");
    lab_integer(t, (int64_t)l->messages);
    lab_real(t, *ns / 1e6);
    lab_real(t, *ns / 1e3 / messages);
    lab_real(t, (agreement_ns > 0 ? agreement_ns : *ns) / *ns);
    lab_real(t, 100 * group[LAB_GROUP_PUBLIC_KEY] / all);
    lab_real(t, 100 * group[LAB_GROUP_SYMMETRIC] / all);
    lab_real(t, 100 * group[LAB_GROUP_HASH] / all);
    lab_real(t, 100 * (all - sum) / all);
    lab_real(t, products / messages);
    lab_real(t, count[LAB_GROUP_HASH] / messages);
    lab_real(t, count[LAB_GROUP_SYMMETRIC] / messages);
}

static void put_reported(struct lab_table *t)
{
    lab_text(t, "agreement");
    lab_integer(t, MESSAGES);
    lab_real(t, 5580);
    lab_text(t, "1 H + 2 A + 3 S");
    lab_real(t, 97);
    lab_none(t);
    lab_none(t);
    lab_real(t, 2);
    lab_text(t, "generator");
    lab_integer(t, MESSAGES);
    lab_real(t, 122);
    lab_text(t, "3 H + 1 S");
    lab_none(t);
    lab_real(t, 13.9);
    lab_real(t, 14.7);
    lab_real(t, 71);
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    static struct line l;
    struct lab_table *t =
        lab_table(out, "ways", "Messages of 1 KB, each with a key of its own", columns);
    struct lab_table *reported = lab_table(
        out, "reported", "As the seed \"hash key generator\" reports it", reported_columns);
    (void)why;
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
        double agreement_ns, generator_ns;
        memset(&l, 0, sizeof l);
        l.pair = lab_pair_new(s, o->seed);
        l.messages = lab_size(o, MESSAGES, 20);
        l.agree_each = true;
        put(t, &l, 0, &agreement_ns);
        l.agree_each = false;
        put(t, &l, agreement_ns, &generator_ns);
        lab_pair_free(l.pair);
    }
    secret_wipe(&l, sizeof l);
    put_reported(reported);
    lab_note(out,
             "Both sides on this machine: sealing and opening, and both parties' part of every "
             "agreement. A: products of points, H: hashes, S: sealing or opening, counted.");
    lab_note(out, "The seed prints about 55 times less time; its figures give 45.7. It charts 1 %% "
                  "for symmetric operations and hashes together under the first way.");
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_pfs = {
    .name = "pfs",
    .summary = "a key per message: an agreement each, or the hash key generator",
    .run = run};
