/* sim/lab/links_crypto.c - `ami-sim lab links-crypto`: what our links cost beside OpenSSL's
 * TLS 1.2.
 *
 * Both sides in one process and one thread, without a network, mutual authentication, no
 * resumption; processor time, so that other work on the machine shows less. All that is compared
 * takes turns in one run: the ratios count, not the times. */
#include "sim/lab/links_crypto.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "sim/lab/figure.h"
#include "sim/lab/link_tls.h"
#include "sim/lab/unit.h"

#include <openssl/crypto.h>
#include <stdlib.h>

/* --- columns and figures --------------------------------------------------------------------- */

#define MEASURED_US(name_, title_)                                                                 \
    {                                                                                              \
        .name = name_, .title = title_, .unit = "us", .decimals = 1, .source = LAB_MEASURED,       \
        .clock = true                                                                              \
    }

static const struct lab_column link_columns[] = {{.name = "link", .title = "link"},
                                                 {.name = "suite", .title = "suite"},
                                                 MEASURED_US("client", "client"),
                                                 MEASURED_US("server", "server"),
                                                 MEASURED_US("total", "total"),
                                                 {.name = "least",
                                                  .title = "least",
                                                  .unit = "us",
                                                  .decimals = 1,
                                                  .source = LAB_MEASURED,
                                                  .clock = true},
                                                 {.name = "ecdsa",
                                                  .title = "ECDSA's total / this",
                                                  .decimals = 2,
                                                  .source = LAB_MEASURED,
                                                  .clock = true},
                                                 {.name = "rsa",
                                                  .title = "RSA's total / this",
                                                  .decimals = 2,
                                                  .source = LAB_MEASURED,
                                                  .clock = true},
                                                 {0}};

static const struct lab_column record_columns[] = {
    {.name = "bytes", .title = "record", .unit = "bytes", .source = LAB_ASSUMED},
    {.name = "suite", .title = "suite"},
    MEASURED_US("client", "sealed"),
    MEASURED_US("server", "opened"),
    MEASURED_US("total", "total"),
    {.name = "rate",
     .title = "both sides on one core",
     .unit = "MB/s",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

static const struct lab_column reported_columns[] = {
    {.name = "link", .title = "link"},
    {.name = "total", .title = "client and server", .unit = "ms", .source = LAB_REPORTED},
    {.name = "ratio", .title = "this / SM2's", .decimals = 2, .source = LAB_MODEL},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BARS,
     .name = "handshakes",
     .title = "A handshake, by side",
     .table = "handshakes",
     .x = "link",
     .y = {"client", "server", "total"}},
    {.kind = LAB_BARS,
     .name = "transfers",
     .title = "A handshake and 1 MB in records of 16 KB, by side",
     .table = "transfers",
     .x = "link",
     .y = {"client", "server", "total"}},
    {.kind = LAB_BARS,
     .name = "reported_links",
     .title = "As the metering-link seed charts it",
     .table = "reported_links",
     .x = "link",
     .y = {"total"}},
    {.kind = LAB_LINES,
     .name = "records",
     .title = "Records sealed and opened, both sides on one core",
     .table = "records",
     .x = "bytes",
     .y = {"rate"},
     .series = "suite",
     .x_log = true,
     .y_log = true},
    {.kind = LAB_BARS,
     .name = "certificates",
     .title = "What proves an identity: signing and checking",
     .table = "certificates",
     .x = "way",
     .y = {"sign", "verify", "reported_sign", "reported_verify"},
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "packets",
     .title = "Packets with a cipher and an HMAC, sender",
     .table = "packets",
     .x = "bytes",
     .y = {"protect"},
     .series = "suite",
     .x_log = true,
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "reported_packets",
     .title = "AES with HMAC-SM3 as the seed reports its tunnel",
     .table = "reported_packets",
     .x = "bytes",
     .y = {"rate"}},
    {.kind = LAB_LINES,
     .name = "chunks",
     .title = "SM3 of one message by updates of different sizes",
     .table = "chunks",
     .x = "chunk",
     .y = {"ours", "openssl"},
     .x_log = true},
    {0}};

/* --- links ----------------------------------------------------------------------------------- */

#define OURS  4
#define LINKS 6
#define ECDSA 4
#define RSA   5

static const struct {
    const char *name;
    enum credential_kind kind;
    unsigned client; /* 3: members, whose keys the other side knows (link_ours.h) */
} our_links[OURS] = {{"SM2, implicit", CREDENTIAL_IMPLICIT, 1},
                     {"SM2, implicit, member", CREDENTIAL_IMPLICIT, 3},
                     {"SM2, CFL", CREDENTIAL_CFL, 1},
                     {"SM2, X.509", CREDENTIAL_X509, 1}};
static const char *const tls_name[] = {"ECDHE-ECDSA", "ECDHE-RSA"};
static const enum link_x509_kind tls_kind[] = {LINK_X509_P256, LINK_X509_RSA};

#define TRANSFER_RECORD ((size_t)16384)
#define TRANSFER_COUNT  ((size_t)64)
#define BATCH           64 /* records between two looks at the clock */

/* A link of ours or of OpenSSL, and what it carries. */
struct link {
    struct link_ours *ours;
    struct link_tls *tls;
    size_t record, count; /* bytes, and how many */
    bool opens;           /* a handshake first */
};
static uint8_t text[TRANSFER_RECORD];
static uint8_t wire[BATCH * (TRANSFER_RECORD + CHANNEL_OVERHEAD_BYTES_MAX)];
_Static_assert(TRANSFER_COUNT <= BATCH, "it lies in wire");

static bool run_link(void *with, double ns[2])
{
    const struct link *l = with;
    if (l->ours != NULL)
        return (!l->opens || link_ours_open(l->ours, ns)) &&
               (l->count == 0 || link_ours_send(l->ours, text, wire, l->record, l->count, ns));
    return (!l->opens || link_tls_open(l->tls, ns)) &&
           (l->count == 0 || link_tls_send(l->tls, text, l->record, l->count, ns));
}

static void put_links(struct lab_output *out, const char *name, const char *title,
                      struct link links[LINKS])
{
    struct lab_two_sided work[LINKS];
    for (size_t i = 0; i < LINKS; i++)
        work[i] = (struct lab_two_sided){.run = run_link, .with = &links[i], .size = 1};
    lab_time_two_sided(work, LINKS);
    struct lab_table *t = lab_table(out, name, title, link_columns);
    for (size_t i = 0; i < LINKS; i++) {
        const char *link = i < OURS ? our_links[i].name : tls_name[i - OURS];
        if (work[i].wrong)
            lab_fail(out, "%s: %s failed", name, link);
        lab_text(t, "%s", link);
        lab_text(t, "%s", i < OURS ? "SM2-SM4-GCM-SM3" : link_tls_suite(tls_kind[i - OURS]));
        lab_real(t, work[i].side[0].median_us);
        lab_real(t, work[i].side[1].median_us);
        lab_real(t, work[i].both.median_us);
        lab_real(t, work[i].both.min_us);
        lab_real(t, work[ECDSA].both.median_us / work[i].both.median_us);
        lab_real(t, work[RSA].both.median_us / work[i].both.median_us);
    }
}

static void handshakes_and_transfers(struct lab_output *out, struct link_issuers *s)
{
    struct link links[LINKS];
    for (size_t i = 0; i < LINKS; i++) {
        links[i] = (struct link){.opens = true};
        if (i < OURS)
            links[i].ours =
                link_ours_new(s, our_links[i].kind, our_links[i].client, CHANNEL_SM4_GCM);
        else
            links[i].tls = link_tls_new(tls_kind[i - OURS]);
    }
    put_links(out, "handshakes", "Handshakes, mutual authentication", links);
    for (size_t i = 0; i < LINKS; i++) {
        links[i].record = TRANSFER_RECORD;
        links[i].count = TRANSFER_COUNT;
    }
    put_links(out, "transfers", "A handshake, then 1 MB from the client in records of 16 KB",
              links);
    for (size_t i = 0; i < LINKS; i++) {
        if (links[i].ours != NULL)
            link_ours_free(links[i].ours);
        else
            link_tls_free(links[i].tls);
    }
}

/* --- records --------------------------------------------------------------------------------- */

#define RECORD_SUITES 3
static const char *const record_suites[RECORD_SUITES] = {"SM4-GCM", "SM4-CTR, HMAC-SM3",
                                                         "AES256-GCM (TLS)"};

static void records(struct lab_output *out, struct link_issuers *s)
{
    static const size_t sizes[] = {64, 256, 1024, 1420, 4096, TRANSFER_RECORD};
    struct link links[RECORD_SUITES] = {
        {.ours = link_ours_new(s, CREDENTIAL_IMPLICIT, 1, CHANNEL_SM4_GCM)},
        {.ours = link_ours_new(s, CREDENTIAL_IMPLICIT, 1, CHANNEL_SM4_CTR_HMAC)},
        {.tls = link_tls_new(LINK_X509_P256)}};
    struct lab_two_sided work[RECORD_SUITES];
    struct lab_table *t = lab_table(out, "records", "Records, one after another", record_columns);
    for (size_t i = 0; i < RECORD_SUITES; i++) {
        links[i].opens = true;
        if (!run_link(&links[i], (double[2]){0}))
            lab_fail(out, "records: %s: no link", record_suites[i]);
        links[i].opens = false;
        links[i].count = BATCH;
    }
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        for (size_t i = 0; i < RECORD_SUITES; i++) {
            links[i].record = sizes[n];
            work[i] = (struct lab_two_sided){.run = run_link, .with = &links[i], .size = BATCH};
        }
        lab_time_two_sided(work, RECORD_SUITES);
        for (size_t i = 0; i < RECORD_SUITES; i++) {
            if (work[i].wrong)
                lab_fail(out, "records: %s: one did not arrive as it was", record_suites[i]);
            lab_integer(t, (int64_t)sizes[n]);
            lab_text(t, "%s", record_suites[i]);
            lab_real(t, work[i].side[0].median_us);
            lab_real(t, work[i].side[1].median_us);
            lab_real(t, work[i].both.median_us);
            lab_real(t, (double)sizes[n] / work[i].both.median_us);
        }
    }
    link_ours_free(links[0].ours);
    link_ours_free(links[1].ours);
    link_tls_free(links[2].tls);
}

/* --- the experiment -------------------------------------------------------------------------- */

static void put_reported(struct lab_output *out)
{
    static const struct {
        const char *link;
        int ms;
    } reported[] = {
        {"SM2-SM4-SM3", 1439}, {"ECDSA-AES256-SHA384", 2576}, {"RSA-AES256-SHA384", 5796}};
    struct lab_table *t =
        lab_table(out, "reported_links", "As the metering-link seed charts it", reported_columns);
    for (size_t i = 0; i < sizeof reported / sizeof reported[0]; i++) {
        lab_text(t, "%s", reported[i].link);
        lab_integer(t, reported[i].ms);
        lab_real(t, (double)reported[i].ms / reported[0].ms);
    }
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    (void)why;
    lab_time_briefly(o->tiny);
    secret_random(text, sizeof text);
    struct link_issuers *s = link_issuers_new(o->seed);
    handshakes_and_transfers(out, s);
    put_reported(out);
    records(out, s);
    link_certificates(out, s);
    link_issuers_free(s);
    link_packets(out);
    link_chunks(out, o);
    lab_note(out,
             "Processor time of both sides in one thread; all that is compared took turns. %s, "
             "TLS 1.2, mutual authentication, no resumption; every X.509 chain is a leaf and an "
             "authority under a root that the other side has.",
             OpenSSL_version(OPENSSL_VERSION));
    lab_note(out, "\"member\": the other side has tables of the key, as DCs have of each other's; "
                  "the other implicit certificates are met for the first time.");
    lab_note(out, "The channel has a key of its own for every record, TLS one for all of them. "
                  "HMAC-SM3 by amiledger takes its key anew for every packet, OpenSSL's HMACs "
                  "have theirs prepared.");
    lab_note(out, "The seeds' figures come from other machines and libraries: their order and "
                  "ratios can be compared, their times cannot.");
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_links_crypto = {
    .name = "links-crypto",
    .summary = "links between nodes beside OpenSSL's TLS: handshakes, records, certificates, HMACs",
    .run = run};
