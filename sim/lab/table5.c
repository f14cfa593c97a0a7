/* sim/lab/table5.c - `ami-sim lab table5`: messages and bits of one agreement on the wire.
 *
 * The frames are those of a real agreement, encoded by the codec that everybody uses; a test
 * compares their sizes with what travels in the simulator. */
#include "sim/lab/figure.h"
#include "sim/lab/frames.h"
#include "sim/lab/lab.h"

static const struct lab_column flight_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "message", .title = "message"},
    {.name = "from", .title = "from"},
    {.name = "fields", .title = "fields", .source = LAB_MEASURED},
    {.name = "bytes", .title = "frame", .unit = "bytes", .source = LAB_MEASURED},
    {.name = "bits", .title = "frame", .unit = "bits", .source = LAB_MEASURED},
    {.name = "scheme_bits", .title = "of the scheme", .unit = "bits", .source = LAB_MEASURED},
    {0}};

static const struct lab_column total_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "way", .title = "way"},
    {.name = "messages", .title = "messages", .source = LAB_MEASURED},
    {.name = "fields", .title = "fields", .source = LAB_MEASURED},
    {.name = "bits", .title = "on the wire", .unit = "bits", .source = LAB_MEASURED},
    {.name = "scheme_bits", .title = "of the scheme", .unit = "bits", .source = LAB_MEASURED},
    {0}};

static const struct lab_column reported_columns[] = {
    {.name = "scheme", .title = "scheme"},
    {.name = "messages", .title = "messages", .source = LAB_REPORTED},
    {.name = "fields", .title = "fields", .source = LAB_REPORTED},
    {.name = "bits", .title = "bits", .source = LAB_REPORTED},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BARS,
     .name = "totals",
     .title = "Bits of one agreement on the wire, counted",
     .table = "totals",
     .x = "scheme",
     .y = {"bits", "scheme_bits"},
     .only = "way",
     .is = "to the leader"},
    {.kind = LAB_BARS,
     .name = "reported",
     .title = "Bits of one agreement as the paper reports them",
     .table = "reported",
     .x = "scheme",
     .y = {"bits"}},
    {0}};

/* vectors.md, Table 5. */
static const struct {
    const char *scheme;
    int messages, fields, bits;
} reported[] = {{"published", 4, 8, 1184}, {"NIKE+", 3, 6, 992},    {"Sha", 8, 13, 3328},
                {"SKM+", 3, 4, 986},       {"A-Mood", 4, 16, 4096}, {"LAKA", 2, 12, 2368}};

static void put_total(struct lab_table *t, const char *scheme, const char *way,
                      const struct lab_frame_size f[LAB_FRAMES], bool redirected)
{
    int64_t messages = 0, fields = 0, bytes = 0, scheme_bytes = 0;
    for (int i = 0; i < LAB_FRAMES; i++) {
        /* A redirected meter sends its first flight twice. */
        int times = i == LAB_FRAME_REDIRECT  ? redirected
                    : i == LAB_FRAME_FLIGHT1 ? 1 + redirected
                                             : 1;
        messages += times;
        fields += times * (int64_t)f[i].fields;
        bytes += times * (int64_t)f[i].frame_bytes;
        scheme_bytes += times * (int64_t)f[i].scheme_bytes;
    }
    lab_text(t, "%s", scheme);
    lab_text(t, "%s", way);
    lab_integer(t, messages);
    lab_integer(t, fields);
    lab_integer(t, 8 * bytes);
    lab_integer(t, 8 * scheme_bytes);
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct lab_table *totals =
        lab_table(out, "totals", "One agreement on the wire, counted", total_columns);
    struct lab_table *flights =
        lab_table(out, "flights", "Its messages, one by one", flight_columns);
    struct lab_table *paper =
        lab_table(out, "reported", "Table 5 as the paper reports it", reported_columns);
    (void)why;
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
        struct lab_frame_size f[LAB_FRAMES];
        struct lab_pair *p = lab_pair_new(s, o->seed);
        lab_frames_measure(f, p);
        lab_pair_free(p);
        for (int i = 0; i < LAB_FRAMES; i++) {
            lab_text(flights, "%s", s->name);
            lab_text(flights, "%s", f[i].name);
            lab_text(flights, "%s", f[i].from);
            lab_integer(flights, f[i].fields);
            lab_integer(flights, (int64_t)f[i].frame_bytes);
            lab_integer(flights, 8 * (int64_t)f[i].frame_bytes);
            lab_integer(flights, 8 * (int64_t)f[i].scheme_bytes);
        }
        put_total(totals, s->name, "to the leader", f, false);
        put_total(totals, s->name, "by way of another DC", f, true);
    }
    for (size_t i = 0; i < sizeof reported / sizeof reported[0]; i++) {
        lab_text(paper, "%s", reported[i].scheme);
        lab_integer(paper, reported[i].messages);
        lab_integer(paper, reported[i].fields);
        lab_integer(paper, reported[i].bits);
    }
    lab_note(out, "Counted frames carry what the paper's do not: chain id, scheme, term, session, "
                  "key epochs, lengths, and a head of two bytes. The meter's name has 3 characters "
                  "here, the DC's 4.");
    lab_note(out,
             "The paper counts 32 bits for a random number, 160 for a hash or an identity; its "
             "printed formula leaves out one ID_SM and never counts y_DC. Points here have 264 "
             "bits, scalars and digests 256.");
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_table5 = {
    .name = "table5",
    .summary = "messages and bits of an agreement on the wire, the paper's beside",
    .run = run};
