/* mdms/cmd_proof.c - `ami-mdms proof`: one reading, with what shows that it was recorded.
 *
 * The opening, salt and m, is ours; a DC gives the rest (client/proof.h).
 */
#include "client/proof.h"
#include "mdms/cli.h"
#include "net/file.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static struct common_options common;
static const char *genesis_file, *id_text, *node, *out_file, *credential_file;
static int64_t sequence_given, epoch_given, timeout_ms = 5000;
static bool allow_single;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "genesis",
     .letter = 'g',
     .kind = OPTION_TEXT,
     .value = &genesis_file,
     .argument = "FILE",
     .help = "the ledger's genesis (default DIR/genesis.json)"},
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &id_text,
     .argument = "ID",
     .help = "the meter",
     .required = true},
    {.name = "sequence",
     .letter = 's',
     .kind = OPTION_INT,
     .value = &sequence_given,
     .min = 1,
     .max = INT64_MAX,
     .argument = "N",
     .help = "number of the report",
     .required = true},
    {.name = "epoch",
     .kind = OPTION_INT,
     .value = &epoch_given,
     .min = 1,
     .max = UINT32_MAX,
     .argument = "N",
     .help = "the meter's key epoch (default the newest with that report)"},
    {.name = "node",
     .letter = 'n',
     .kind = OPTION_TEXT,
     .value = &node,
     .argument = "URL",
     .help = "admin address of a DC (default each member's in turn)"},
    {.name = "credential",
     .kind = OPTION_TEXT,
     .value = &credential_file,
     .argument = "FILE",
     .help = "an operator's credential (default: $AMI_CREDENTIAL)"},
    {.name = "timeout",
     .kind = OPTION_DURATION,
     .value = &timeout_ms,
     .min = 100,
     .max = 600000,
     .argument = "TIME",
     .help = "how long to wait for a DC (default 5s)"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = &out_file,
     .argument = "FILE",
     .help = "where to write it (default stdout)"},
    {.name = "allow-single",
     .kind = OPTION_FLAG,
     .value = &allow_single,
     .help = "for tests: accept a genesis with a single DC"},
    {0},
};

struct wanted {
    struct ami_id meter;
    uint32_t epoch;
    uint64_t sequence;
    uint8_t salt[16];
    uint8_t m[AMI_REPORT_BYTES_MAX];
    size_t m_size;
    struct committee committee;
};

static uint32_t newest_epoch(const struct mdms_kv *kv, const struct ami_id *meter)
{
    struct span value;
    uint32_t epoch = 0;
    struct mdms_key key = key_device(DEVICE_METER, meter, 1);
    while (epoch < UINT32_MAX && kv->get(kv->ctx, TABLE_DEVICES, key_span(&key), &value) == AMI_OK)
        key = key_device(DEVICE_METER, meter, ++epoch + 1);
    return epoch;
}

/* In the epoch given, or in the newest one that has such a report. */
static enum ami_status look(struct wanted *w, const struct mdms_kv *kv)
{
    uint32_t newest = newest_epoch(kv, &w->meter);
    uint32_t last = epoch_given != 0 ? (uint32_t)epoch_given : 1;
    for (uint32_t epoch = epoch_given != 0 ? last : newest; epoch >= last; epoch--) {
        struct span value;
        struct report_record r;
        struct mdms_key key = key_report(&w->meter, epoch, (uint64_t)sequence_given);
        enum ami_status status = kv->get(kv->ctx, TABLE_REPORTS, key_span(&key), &value);
        if (status == AMI_NOT_FOUND)
            continue;
        AMI_TRY(status);
        AMI_TRY(report_record_parse(&r, value));
        w->epoch = epoch;
        w->sequence = (uint64_t)sequence_given;
        memcpy(w->salt, r.salt, sizeof w->salt);
        memcpy(w->m, r.m.data, r.m.size);
        w->m_size = r.m.size;
        return AMI_OK;
    }
    return AMI_NOT_FOUND;
}

/* Whom to ask: the members now. */
static enum ami_status look_for_members(struct wanted *w, const struct mdms_kv *kv,
                                        const struct genesis *g)
{
    struct committee next;
    struct state_record state;
    bool has_next;
    AMI_TRY(mdms_state_load(kv, &state));
    return mdms_committee_load(kv, g, state.height, &w->committee, &next, &has_next);
}

static enum ami_status find(struct wanted *w, const struct genesis *g, struct why *why)
{
    struct mdms_store *store;
    AMI_TRY(cli_id(id_text, &w->meter, why));
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    struct mdms_kv kv = mdms_store_kv(store);
    enum ami_status status = look(w, &kv);
    if (status != AMI_OK && status != AMI_NOT_FOUND)
        why_set(why, status, "%s/store: the report cannot be read: %s", common.dir,
                ami_status_text(status));
    if (status == AMI_OK && (status = look_for_members(w, &kv, g)) != AMI_OK)
        why_set(why, status, "%s/store: the membership records: %s", common.dir,
                ami_status_text(status));
    mdms_store_close(store);
    if (status == AMI_NOT_FOUND)
        return why_set(why, status,
                       "there is no report %" PRId64 " of a meter \"%s\" here (see `ami-mdms "
                       "readings --id %s`)",
                       sequence_given, id_text, id_text);
    return status;
}

static enum ami_status make(char **text, struct why *why)
{
    struct network net;
    char path[PATH_MAX];
    AMI_TRY(cli_network(common.dir, &net, why));
    AMI_TRY(cli_genesis_path(common.dir, genesis_file, path, sizeof path, why));
    if (path[0] == '\0')
        return why_set(why, AMI_BAD_ARGUMENT, "give the ledger's genesis file with --genesis");
    struct genesis *g = calloc(1, sizeof *g);
    struct wanted *w = calloc(1, sizeof *w);
    enum ami_status status = g == NULL || w == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (status == AMI_OK)
        status = cli_genesis(path, &net, allow_single, g, why);
    if (status == AMI_OK)
        status = find(w, g, why);
    if (status == AMI_OK) {
        const struct proof_wanted wanted = {w->meter, w->epoch, w->sequence, w->salt,
                                            span_of(w->m, w->m_size)};
        const struct proof_source from = {&w->committee, node, credential_file,
                                          (uint32_t)timeout_ms, PROGRAM};
        status = proof_fetch(text, &wanted, g, &from, why);
    }
    free(w);
    free(g);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    char *text = NULL;
    enum ami_status status = make(&text, &why);
    if (status == AMI_OK && out_file != NULL)
        status = file_write(out_file, span_of(text, strlen(text)), FILE_MODE_PUBLIC, &why);
    if (status == AMI_OK && out_file == NULL) {
        fputs(text, stdout);
        status = cli_stdout_done(&why);
    }
    free(text);
    if (status != AMI_OK)
        return cli_fail(false, status, &why);
    if (out_file != NULL)
        printf("the proof of report %" PRId64 " of %s was checked and written to %s\n",
               sequence_given, id_text, out_file);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_PROOF = {
    .name = "proof",
    .summary = "one report with the proof that it was recorded, for its consumer",
    .example = "ami-mdms proof --dir mdms --id meter-17 --sequence 3 --out reading.json",
    .options = options,
    .run = run,
};
