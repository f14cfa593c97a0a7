/* node/cli_export.c - dc-cli compare and dc-cli export.
 *
 * compare: are ledgers prefixes of one another? export: a ledger as text for other tools; the JSON
 * lines hold every byte that an independent verifier needs (docs/ledger-format.md, "Export").
 */
#include "node/cli.h"

#include "ledger/committee.h"
#include "ledger/merkle.h"
#include "net/file.h"
#include "node/describe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *failure(enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static json_t *failure(enum ami_status status, const char *format, ...)
{
    char why[WHY_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return json_pack("{s:b, s:s, s:s}", "ok", 0, "status", ami_status_name(status), "error", why);
}

/* --- compare ---------------------------------------------------------------------------------- */

struct compare {
    const struct cli *c;
    struct cli_child *child;
    int count;
    char **data;
    struct store *store[AMI_MEMBERS_MAX];
    uint64_t height[AMI_MEMBERS_MAX];
    uint64_t highest;
};

/* All ledgers, of one chain. NULL when so, else the document that says what is wrong. */
static json_t *open_all(struct compare *p)
{
    for (int i = 0; i < p->count; i++) {
        enum ami_status status;
        char why[WHY_BYTES_MAX];
        const sm3_digest *chain = i > 0                   ? store_chain(p->store[0])
                                  : p->c->genesis != NULL ? &p->c->genesis->members.chain
                                                          : NULL;
        if (!cli_child_open(p->child, p->data[i], chain, &p->store[i], &status, why, sizeof why))
            return failure(status, "%s", why);
        p->height[i] = store_height(p->store[i]);
        if (p->height[i] > p->highest)
            p->highest = p->height[i];
    }
    return NULL;
}

static json_t *place(const char *data, const sm3_digest *hash)
{
    return json_pack("{s:s, s:o}", "data", data, "hash", describe_hex(hash->b, SM3_BYTES));
}

static json_t *difference_document(const struct compare *p, uint64_t h, int a,
                                   const sm3_digest *hash_a, int b, const sm3_digest *hash_b)
{
    char hex_a[2 * SM3_BYTES + 1], hex_b[2 * SM3_BYTES + 1], why[WHY_BYTES_MAX];
    hex_encode(hex_a, hash_a->b, SM3_BYTES);
    hex_encode(hex_b, hash_b->b, SM3_BYTES);
    snprintf(why, sizeof why, "the ledgers part at height %llu: %.120s has block %s, %.120s has %s",
             (unsigned long long)h, p->data[a], hex_a, p->data[b], hex_b);
    return json_pack("{s:b, s:s, s:s, s:{s:I, s:[o, o]}}", "ok", 0, "status", "BAD_PARENT", "error",
                     why, "difference", "height", (json_int_t)h, "blocks",
                     place(p->data[a], hash_a), place(p->data[b], hash_b));
}

/* One height in all ledgers that reach it. NULL: they agree. */
static json_t *compare_height(const struct compare *p, uint64_t h)
{
    sm3_digest first;
    int from = -1;
    for (int i = 0; i < p->count; i++) {
        struct block_header header;
        struct qc commit;
        if (p->height[i] < h)
            continue;
        cli_child_reads(p->child, p->data[i]);
        enum ami_status status = store_header(p->store[i], h, &header, &commit);
        if (status != AMI_OK)
            return failure(status, "%.200s: block %llu cannot be read: %s", p->data[i],
                           (unsigned long long)h, ami_status_text(status));
        sm3_digest hash = block_hash(&header);
        if (from >= 0 && !sm3_equal(&hash, &first))
            return difference_document(p, h, from, &first, i, &hash);
        if (from < 0) {
            first = hash;
            from = i;
        }
    }
    return NULL;
}

static json_t *equal_document(const struct compare *p)
{
    json_t *ledgers = json_array();
    uint64_t lowest = p->highest;
    for (int i = 0; i < p->count; i++) {
        json_array_append_new(ledgers, json_pack("{s:s, s:I}", "data", p->data[i], "height",
                                                 (json_int_t)p->height[i]));
        if (p->height[i] < lowest)
            lowest = p->height[i];
    }
    return json_pack("{s:b, s:o, s:I, s:I, s:o, s:n}", "ok", 1, "chain",
                     describe_hex(store_chain(p->store[0])->b, SM3_BYTES), "height_common",
                     (json_int_t)lowest, "height", (json_int_t)p->highest, "ledgers", ledgers,
                     "difference");
}

static json_t *compare_in_child(struct cli_child *child, void *ctx)
{
    struct compare *p = ctx;
    p->child = child;
    json_t *out = open_all(p);
    for (uint64_t h = 1; out == NULL && h <= p->highest; h++) {
        if (h % 100 == 1)
            cli_child_progress(child, h - 1, p->highest);
        out = compare_height(p, h);
    }
    if (out == NULL) {
        cli_child_progress(child, p->highest, p->highest);
        out = equal_document(p);
    }
    for (int i = 0; i < p->count; i++)
        store_close(p->store[i]);
    return out;
}

/* LMDB must not open one environment twice in a process. */
static bool same_folder(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static void print_compare(const json_t *d)
{
    size_t index;
    json_t *v;
    json_array_foreach(json_object_get(d, "ledgers"), index, v)
        printf("%-40s height %lld\n", json_string_value(json_object_get(v, "data")),
               (long long)json_integer_value(json_object_get(v, "height")));
    printf("ok: the ledgers are one up to height %lld\n",
           (long long)json_integer_value(json_object_get(d, "height_common")));
}

/* Prints a child's document that says what failed, or `end` when there is none. */
static int print_failure(const struct cli *c, json_t *d, const struct cli_guard_end *end)
{
    if (d == NULL)
        return cli_fail(c, end->status, "%s", end->why);
    if (c->json) {
        (void)cli_print_json(d);
        return EXIT_STATUS_FAILED;
    }
    int exit_status =
        cli_fail(c, cli_status_of(d), "%s", json_string_value(json_object_get(d, "error")));
    json_decref(d);
    return exit_status;
}

int cli_compare(int argc, char **argv, void *ctx)
{
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    struct compare p = {.c = c, .count = argc, .data = argv};
    struct cli_guard_end end;
    for (int i = 0; i < argc; i++)
        for (int j = 0; j < i; j++)
            if (same_folder(argv[i], argv[j]))
                return cli_usage("%s and %s are the same folder", argv[j], argv[i]);
    if (c->genesis_path != NULL && !cli_genesis(c, NULL, &exit_status))
        return exit_status;
    json_t *d = cli_guard(c, "compare", "heights", compare_in_child, &p, &end);
    if (!json_is_true(json_object_get(d, "ok")))
        return print_failure(c, d, &end);
    if (c->json)
        return cli_print_json(d);
    print_compare(d);
    json_decref(d);
    return EXIT_STATUS_OK;
}

/* --- export ----------------------------------------------------------------------------------- */

struct export
{
    const struct cli *c;
    struct cli_child *child;
    struct store *store;
    FILE *out;
    bool csv;
    uint64_t from, transactions;
    uint8_t *buffer;
    size_t buffer_size;
    struct committee committee; /* epoch 0: none yet */
};

static bool put_line(FILE *out, json_t *line)
{
    bool ok = line != NULL && json_dumpf(line, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
    json_decref(line);
    return ok;
}

/* The MDMS's word for what may be pruned; null: nothing. */
static json_t *retention_of(const struct export *x)
{
    struct store_retention r;
    if (store_retention(x->store, &r) != AMI_OK || r.tx_size == 0)
        return json_null();
    return describe_hex(r.tx, r.tx_size);
}

static bool put_genesis(const struct export *x)
{
    const struct genesis *g = x->c->genesis;
    return put_line(x->out,
                    json_pack("{s:s, s:i, s:o, s:s, s:o, s:i, s:i, s:I, s:o}", "kind", "genesis",
                              "version", 1, "chain", describe_hex(g->members.chain.b, SM3_BYTES),
                              "network", g->network.name.text, "network_id",
                              describe_hex(g->network.id.b, SM3_BYTES), "scheme",
                              (int)g->network.scheme, "members", (int)g->members.count, "from",
                              (json_int_t)x->from, "retention", retention_of(x)));
}

static bool put_block(const struct export *x, const struct certified_block *b)
{
    const struct block_header *h = &b->header;
    uint8_t header[512], commit[4096];
    struct writer hw = writer_on(header, sizeof header), cw = writer_on(commit, sizeof commit);
    block_header_encode(&hw, h);
    qc_encode(&cw, &b->commit);
    sm3_digest hash = block_hash(h);
    json_t *txs = json_array();
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    while (body_next(&it, &encoded))
        json_array_append_new(txs, describe_hex(encoded.data, encoded.size));
    json_t *line = json_pack(
        "{s:s, s:I, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:i, s:I, s:o, s:o, s:o}", "kind",
        "block", "height", (json_int_t)h->height, "hash", describe_hex(hash.b, SM3_BYTES), "epoch",
        (json_int_t)h->epoch, "term", (json_int_t)h->term, "members",
        describe_hex(h->members.b, SM3_BYTES), "previous", describe_hex(h->previous.b, SM3_BYTES),
        "merkle_root", describe_hex(h->merkle_root.b, SM3_BYTES), "state_root",
        describe_hex(h->state_root.b, SM3_BYTES), "timestamp_ms", (json_int_t)h->timestamp_ms,
        "proposer", (int)h->proposer, "tx_count", (json_int_t)h->tx_count, "header",
        describe_hex(header, hw.size), "commit", describe_hex(commit, cw.size), "transactions",
        txs);
    return put_line(x->out, line);
}

/* Membership transaction `index` of the block. */
static bool tx_at(const struct certified_block *b, uint32_t index, struct tx_view *tx)
{
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    for (uint32_t i = 0; body_next(&it, &encoded); i++)
        if (i == index)
            return tx_view_parse(tx, encoded) == AMI_OK && tx->tx.kind == TX_MEMBERSHIP;
    return false;
}

/* The members of an epoch, from the changes that led to it; they are kept for the blocks to come.
 */
static const struct members *members_of(struct export *x, uint32_t epoch)
{
    if (x->committee.members.epoch == 0 || x->committee.members.epoch > epoch)
        committee_first(&x->committee, x->c->genesis);
    uint8_t *buffer = malloc(x->buffer_size);
    enum ami_status status = buffer == NULL ? AMI_NO_MEMORY : AMI_OK;
    while (status == AMI_OK && x->committee.members.epoch < epoch) {
        struct certified_block b;
        struct tx_view tx;
        uint64_t height;
        uint32_t at;
        status = store_find_epoch(x->store, x->committee.members.epoch + 1, &height, &at);
        if (status == AMI_OK)
            status = store_block(x->store, height, &b, buffer, x->buffer_size);
        if (status == AMI_OK && !tx_at(&b, at, &tx))
            status = AMI_DAMAGED;
        if (status == AMI_OK)
            status =
                committee_change(&x->committee, &x->c->genesis->network, &tx.u.membership, height);
    }
    free(buffer);
    return status == AMI_OK ? &x->committee.members : NULL;
}

static bool put_csv(struct export *x, const struct certified_block *b)
{
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    bool ok = true;
    for (uint32_t index = 0; ok && body_next(&it, &encoded); index++) {
        struct tx_view tx;
        if (tx_view_parse_kept(&tx, encoded) != AMI_OK)
            return false;
        const struct members *m =
            tx.tx.kind == TX_EVIDENCE ? members_of(x, tx.u.evidence.epoch) : NULL;
        const struct tx_facts f = describe_tx_facts(m, &tx);
        char id[2 * SM3_BYTES + 1];
        hex_encode(id, tx.id.b, SM3_BYTES);
        long long time_ms = tx.tx.kind == TX_REPORT && !tx.pruned
                                ? tx.u.report.gateway.timestamp_ms
                                : (long long)b->header.timestamp_ms;
        ok = fprintf(x->out, "%llu,%u,%s,%s,%s,%u,%llu,%lld,%zu\n",
                     (unsigned long long)b->header.height, (unsigned)index, id,
                     describe_tx_kind(tx.tx.kind), f.device, (unsigned)f.epoch,
                     (unsigned long long)f.sequence, time_ms, tx.encoded.size) > 0;
    }
    return ok;
}

/* Tells the parent when the output is a pipe whose reader has gone. */
static json_t *with_reader(json_t *failed, int error)
{
    if (failed != NULL && error == EPIPE)
        json_object_set_new(failed, "reader_gone", json_true());
    return failed;
}

/* NULL when all went well. */
static json_t *export_blocks(struct export *x, uint64_t height)
{
    for (uint64_t h = x->from; h <= height; h++) {
        struct certified_block b;
        enum ami_status status = store_block(x->store, h, &b, x->buffer, x->buffer_size);
        if (status != AMI_OK)
            return failure(status, "%.200s: block %llu cannot be read: %s", x->c->data,
                           (unsigned long long)h, ami_status_text(status));
        errno = 0;
        if (!(x->csv ? put_csv(x, &b) : put_block(x, &b))) {
            int error = errno;
            return with_reader(
                failure(error == 0 ? AMI_DAMAGED : why_status_of_errno(error),
                        "block %llu cannot be exported%s%.200s: %s", (unsigned long long)h,
                        x->c->out != NULL ? " to " : "", x->c->out != NULL ? x->c->out : "",
                        error == 0 ? "its transactions cannot be read" : strerror(error)),
                error);
        }
        x->transactions += b.header.tx_count;
        cli_child_progress(x->child, h, height);
    }
    return NULL;
}

static json_t *export_all(struct export *x)
{
    uint64_t height = store_height(x->store);
    bool ok = x->csv ? fputs("height,index,id,kind,device,epoch,sequence,timestamp_ms,bytes\n",
                             x->out) != EOF
                     : put_genesis(x);
    json_t *out = ok ? export_blocks(x, height) : NULL;
    if (out != NULL)
        return out;
    /* The last line tells whoever reads the file that it is whole. The MDMS's word stands there
     * once more: the ledger may have been pruned further while it was exported. */
    if (ok && !x->csv)
        ok = put_line(x->out, json_pack("{s:s, s:I, s:I, s:o}", "kind", "end", "height",
                                        (json_int_t)height, "transactions",
                                        (json_int_t)x->transactions, "retention", retention_of(x)));
    if (!ok || fflush(x->out) != 0 || ferror(x->out) != 0) {
        int error = errno;
        return with_reader(failure(why_status_of_errno(error), "the export cannot be written: %s",
                                   strerror(error)),
                           error);
    }
    return json_pack("{s:b, s:I, s:I}", "ok", 1, "height", (json_int_t)height, "transactions",
                     (json_int_t)x->transactions);
}

static json_t *export_in_child(struct cli_child *child, void *ctx)
{
    struct export *x = ctx;
    enum ami_status status;
    char why[WHY_BYTES_MAX];
    x->child = child;
    x->buffer_size = AMI_BLOCK_BYTES_MAX + 8192;
    x->buffer = malloc(x->buffer_size);
    if (x->buffer == NULL)
        return NULL;
    json_t *out;
    if (cli_child_open(child, x->c->data, &x->c->genesis->members.chain, &x->store, &status, why,
                       sizeof why)) {
        out = export_all(x);
        store_close(x->store);
    } else {
        out = failure(status, "%s", why);
    }
    free(x->buffer);
    return out;
}

/* What is not whole when the program is stopped goes away with it. */
static char part_path[4096];

static void on_stop(int signal_number)
{
    unlink(part_path);
    _exit(128 + signal_number);
}

static void clean_up_when_stopped(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop;
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++)
        sigaction(stops[i], &action, NULL);
}

/* The export takes its name when it is whole, so that nobody takes a part for the whole. */
static enum ami_status finish_file(FILE *file, const char *part, const char *path, struct why *why)
{
    if (fsync(fileno(file)) != 0 || rename(part, path) != 0)
        return why_set(why, why_status_of_errno(errno), "%.200s: %s", path, strerror(errno));
    return AMI_OK;
}

static int export_to(struct cli *c, struct export *x, const char *part)
{
    struct cli_guard_end end;
    struct why why = {""};
    json_t *d = cli_guard(c, c->out == NULL ? NULL : "export", "blocks", export_in_child, x, &end);
    bool ok = json_is_true(json_object_get(d, "ok"));
    if (ok && part != NULL && finish_file(x->out, part, c->out, &why) != AMI_OK) {
        json_decref(d);
        unlink(part);
        return program_fail(CLI_NAME, c->json, why_status_of_errno(errno), &why);
    }
    if (!ok && part != NULL)
        unlink(part);
    /* Whoever read it through a pipe, such as head, has had enough: nothing to complain about. The
     * exit status is that of a program that SIGPIPE ends. */
    if (!ok && x->out == stdout && json_is_true(json_object_get(d, "reader_gone"))) {
        json_decref(d);
        return 128 + SIGPIPE;
    }
    if (!ok)
        return print_failure(c, d, &end);
    if (part != NULL && c->json)
        return cli_print_json(d);
    json_decref(d);
    return EXIT_STATUS_OK;
}

int cli_export(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    struct export x = {.c = c, .out = stdout, .from = c->from > 0 ? (uint64_t)c->from : 1};
    x.csv = strcmp(c->format, "csv") == 0;
    if (!x.csv && strcmp(c->format, "jsonl") != 0)
        return cli_usage("--format is jsonl or csv, not \"%s\"", c->format);
    if (cli_data(c, &exit_status) == NULL || !cli_genesis(c, c->data, &exit_status))
        return exit_status;
    if (c->out == NULL)
        return export_to(c, &x, NULL);
    if ((size_t)snprintf(part_path, sizeof part_path, "%s.part", c->out) >= sizeof part_path)
        return cli_usage("the name of --out is too long");
    x.out = fopen(part_path, "we");
    if (x.out == NULL)
        return cli_fail(c, why_status_of_errno(errno), "%.300s: %s", part_path, strerror(errno));
    clean_up_when_stopped();
    exit_status = export_to(c, &x, part_path);
    fclose(x.out);
    return exit_status;
}
