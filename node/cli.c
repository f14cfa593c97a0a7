/* node/cli.c - dc-cli: look into a network and its ledger, live or on disk, and judge it.
 *
 * In: a command line. Out: tables for people, one JSON document with --json; exit status 0, 1 (a
 * check failed), 2 (bad usage), 3 (a node cannot be reached).
 */
#include "node/cli.h"

#include "crypto/secret.h"
#include "ledger/genesis.h"
#include "ledger/registry.h"
#include "ledger/store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_fail(const struct cli *c, enum ami_status status, const char *format, ...)
{
    struct why why;
    va_list args;
    va_start(args, format);
    vsnprintf(why.text, sizeof why.text, format, args);
    va_end(args);
    int exit_status = program_fail(CLI_NAME, c->json, status, &why);
    return status == AMI_BAD_ARGUMENT ? EXIT_STATUS_USAGE : exit_status;
}

int cli_print_json(json_t *document)
{
    if (document == NULL || json_dumpf(document, stdout, JSON_INDENT(2)) != 0) {
        fprintf(stderr, CLI_NAME ": the answer could not be printed\n");
        json_decref(document);
        return EXIT_STATUS_FAILED;
    }
    putchar('\n');
    json_decref(document);
    return EXIT_STATUS_OK; /* main sees whether it has arrived */
}

void cli_close(struct cli *c)
{
    operator_end_link(&c->operator_link);
    free(c->genesis);
    free(c->genesis_bytes);
}

int main(int argc, char **argv)
{
    static struct cli c = {
        .timeout_ms = 5000, .count = 20, .interval_ms = 1000, .format = "jsonl", .days = 365};
    /* Each command has the options that mean something to it, and no others. */
    const struct option_spec common[] = {
        {"json", 0, OPTION_FLAG, &c.json, 0, 0, NULL, "print one JSON document", false}, {0}};
    const struct option_spec node = {
        "node",      'n',
        OPTION_TEXT, &c.node,
        0,           0,
        "URL",       "a DC's admin address, such as 127.0.0.1:7301 (default: $AMI_NODE)",
        false};
    const struct option_spec data = {
        "data", 'd', OPTION_TEXT, &c.data,
        0,      0,   "DIR",       "look at the ledger in this folder instead of a live node",
        false};
    const struct option_spec ledger = {
        "data", 'd', OPTION_TEXT, &c.data, 0, 0, "DIR", "folder of the ledger, such as dc1/ledger",
        false};
    const struct option_spec genesis = {
        "genesis",   'g',
        OPTION_TEXT, &c.genesis_path,
        0,           0,
        "FILE",      "the genesis file (default: genesis.json in the ledger's folder or above)",
        false};
    const struct option_spec network = {"genesis", 'g', OPTION_TEXT, &c.genesis_path,
                                        0,         0,   "FILE",      "the network's genesis file",
                                        false};
    const struct option_spec timeout = {
        "timeout", 0,       OPTION_DURATION, &c.timeout_ms,
        1,         3600000, "TIME",          "how long to wait for an answer (default 5s)",
        false};
    const struct option_spec credential = {
        "credential",
        0,
        OPTION_TEXT,
        &c.credential,
        0,
        0,
        "FILE",
        "your credential as an operator (default: $AMI_CREDENTIAL)",
        false};
    const struct option_spec roots = {
        "x509-roots",
        0,
        OPTION_TEXT,
        &c.x509_roots,
        0,
        0,
        "FILE",
        "believe DCs with X.509 certificates under these (default: $AMI_X509_ROOTS)",
        false};
    const struct option_spec set = {
        "cfl-public",
        0,
        OPTION_TEXT,
        &c.cfl_public,
        0,
        0,
        "FILE",
        "believe DCs with CFL certificates under this public seed set (default: $AMI_CFL_PUBLIC)",
        false};
    const struct option_spec keys = {
        "network",   0,
        OPTION_TEXT, &c.network,
        0,           0,
        "FILE",      "network.json, needed with an X.509 credential (default: $AMI_NETWORK)",
        false};
    const struct option_spec height = {
        "from",     0,
        OPTION_INT, &c.from,
        0,          INT64_MAX,
        "H",        "first height (default: so that the newest block is the last)",
        false};
    const struct option_spec number = {
        "from", 0, OPTION_INT, &c.from, 0, INT64_MAX, "N", "number of the first (default 1)",
        false};
    const struct option_spec count = {
        "count", 0, OPTION_INT, &c.count, 1, 1000000, "N", "how many at most (default 20)", false};
    const struct option_spec newest = {
        "count", 0,       OPTION_INT, &c.newest,
        1,       1000000, "N",        "the newest N only (default: all that it remembers)",
        false};
    const struct option_spec follow = {
        "follow", 'f', OPTION_FLAG, &c.follow, 0, 0, NULL, "go on with what comes, until Ctrl-C",
        false};
    const struct option_spec epoch = {
        "epoch", 0, OPTION_INT, &c.epoch, 0, UINT32_MAX, "E", "key epoch (default: the newest)",
        false};
    const struct option_spec out = {
        "out", 'o', OPTION_TEXT, &c.out, 0, 0, "FILE", "write it there (default: stdout)", false};
    const struct option_spec asked = {
        "node",      'n',
        OPTION_LIST, &c.nodes,
        0,           0,
        "URL",       "admin address of a DC to ask (default: $AMI_NODE, or all in --genesis)",
        false};
    const struct option_spec status_options[] = {
        {"links", 'l', OPTION_FLAG, &c.links, 0, 0, NULL,
         "each channel's credential and record suite, and what handshakes came to", false},
        asked,
        network,
        credential,
        roots,
        set,
        keys,
        timeout,
        {0}};
    const struct option_spec stuck[] = {asked, network, credential, roots, set, keys, timeout, {0}};
    const struct option_spec top[] = {
        {"frames", 'n', OPTION_INT, &c.frames, 0, INT64_MAX, "N",
         "end after so many (default 0: at Ctrl-C)", false},
        {"interval", 'i', OPTION_DURATION, &c.interval_ms, 250, 3600000, "TIME",
         "how often to ask, 250ms at least (default 1s)", false},
        {"node", 0, OPTION_LIST, &c.nodes, 0, 0, "URL",
         "admin address of a DC to ask (default: $AMI_NODE, or all in --genesis)", false},
        network,
        credential,
        roots,
        set,
        keys,
        timeout,
        {0}};
    const struct option_spec blocks[] = {height,     count, follow, node, data,    genesis,
                                         credential, roots, set,    keys, timeout, {0}};
    const struct option_spec one[] = {node, data, genesis, credential, roots,
                                      set,  keys, timeout, {0}};
    const struct option_spec meter[] = {epoch, node, data, genesis, credential,
                                        roots, set,  keys, timeout, {0}};
    const struct option_spec readings[] = {number,     count, epoch, node, data,    genesis,
                                           credential, roots, set,   keys, timeout, {0}};
    const struct option_spec note[] = {node, credential, roots, set, keys, timeout, {0}};
    const struct option_spec prove[] = {
        {"meter", 0, OPTION_TEXT, &c.meter, 0, 0, "ID", "with --sequence, instead of TX", false},
        {"sequence", 0, OPTION_INT, &c.sequence, 1, INT64_MAX, "N", "number of the report", false},
        epoch,
        out,
        node,
        data,
        genesis,
        credential,
        roots,
        set,
        keys,
        timeout,
        {0}};
    const struct option_spec verify[] = {network, {0}};
    const struct option_spec audit[] = {ledger, genesis, {0}};
    const struct option_spec copy[] = {
        ledger,
        {"out", 'o', OPTION_TEXT, &c.out, 0, 0, "DIR", "the new folder", false},
        genesis,
        {0}};
    const struct option_spec compare[] = {genesis, {0}};
    const struct option_spec export_options[] = {
        {"format", 0, OPTION_TEXT, &c.format, 0, 0, "NAME", "jsonl (default) or csv", false},
        {"from", 0, OPTION_INT, &c.from, 0, INT64_MAX, "H", "first height (default 1)", false},
        out,
        ledger,
        genesis,
        {0}};
    const struct option_spec events[] = {number, newest, follow, node,    credential,
                                         roots,  set,    keys,   timeout, {0}};
    const struct option_spec request[] = {
        {"label", 0, OPTION_TEXT, &c.label, 0, 0, "LABEL",
         "to ask for: level 0 to 3 and categories, such as 2:ledger+metering", true},
        {"kind", 0, OPTION_TEXT, &c.kind, 0, 0, "KIND", "implicit (default) or cfl", false},
        {"epoch", 0, OPTION_INT, &c.epoch, 1, UINT32_MAX, "E",
         "of your key: one more than the last one's (default 1)", false},
        {"days", 0, OPTION_INT, &c.days, 1, 3650, "N", "how long it is to be good (default 365)",
         false},
        {"out", 'o', OPTION_TEXT, &c.out, 0, 0, "FILE", "where the request goes", true},
        {"key", 0, OPTION_TEXT, &c.key, 0, 0, "FILE", "where your key goes, until `accept`", true},
        network,
        {"network", 0, OPTION_TEXT, &c.network, 0, 0, "FILE",
         "network.json instead of the genesis file (default: $AMI_NETWORK)", false},
        {0}};
    const struct option_spec accept[] = {
        {"key", 0, OPTION_TEXT, &c.key, 0, 0, "FILE",
         "what `request` wrote; removed when it is done", true},
        {"out", 'o', OPTION_TEXT, &c.out, 0, 0, "FILE", "where the credential goes", true},
        {"cfl-public", 0, OPTION_TEXT, &c.cfl_public, 0, 0, "FILE",
         "the public seed set, needed with --kind cfl (default: $AMI_CFL_PUBLIC)", false},
        {0}};
    const struct command_spec commands[] = {
        {"status", NULL, 0, 0, "every DC: role, term, height, peers, sessions",
         "dc-cli status --genesis genesis.json", status_options, cli_status},
        {"why-stuck", NULL, 0, 0, "what commits wait for, from whom, since when",
         "dc-cli why-stuck --genesis genesis.json", stuck, cli_why_stuck},
        {"top", NULL, 0, 0, "all DCs on one screen, again and again",
         "dc-cli top --genesis genesis.json", top, cli_top},
        {"blocks", NULL, 0, 0, "one line per block", "dc-cli blocks --node 127.0.0.1:7301 --follow",
         blocks, cli_blocks},
        {"block", "HEIGHT|HASH", 1, 1, "header, certificate and transactions of a block",
         "dc-cli block 7 --node 127.0.0.1:7301", one, cli_block},
        {"tx", "ID", 1, 1, "one transaction: every field, and where it stands",
         "dc-cli tx 9f86d081884c7d65... --data dc1/ledger", one, cli_tx},
        {"meter", "ID", 1, 1, "a meter's enrolment, home DC, session and last report",
         "dc-cli meter meter-17 --node 127.0.0.1:7301", meter, cli_meter},
        {"readings", "ID", 1, 1, "what the ledger holds of a meter's reports (sealed)",
         "dc-cli readings meter-17 --node 127.0.0.1:7301 --count 5", readings, cli_readings},
        {"proof", "[TX]", 0, 1, "inclusion proof of a report, without the reading itself",
         "dc-cli proof --meter meter-17 --sequence 3 --node 127.0.0.1:7301 --out proof.json", prove,
         cli_proof},
        {"verify-proof", "FILE", 1, 1, "check a proof offline and print its reading",
         "dc-cli verify-proof proof.json --genesis genesis.json", verify, cli_verify_proof},
        {"audit", NULL, 0, 0, "verify a whole ledger from its genesis on",
         "dc-cli audit --data dc1/ledger --genesis genesis.json", audit, cli_audit},
        {"compare", "DIR DIR...", 2, AMI_MEMBERS_MAX, "are ledgers prefixes of one another?",
         "dc-cli compare dc1/ledger dc2/ledger --genesis genesis.json", compare, cli_compare},
        {"copy", NULL, 0, 0, "copy a ledger, verified, for another DC to begin with",
         "dc-cli copy --data dc1/ledger --out dc5/ledger --genesis genesis.json", copy, cli_copy},
        {"export", NULL, 0, 0, "all transactions, one line each",
         "dc-cli export --data dc1/ledger --format jsonl --out ledger.jsonl", export_options,
         cli_export},
        {"events", NULL, 0, 0, "elections, refusals, connections, enrolments of a node",
         "dc-cli events --node 127.0.0.1:7301 --follow", events, cli_events},
        {"note", "TEXT", 1, 1, "leave a remark in the log of a node",
         "dc-cli note 'the disk is being exchanged' --node 127.0.0.1:7301", note, cli_note},
        {"step-down", NULL, 0, 0, "have another DC lead than this one, which does now",
         "dc-cli step-down --node 127.0.0.1:7301", note, cli_step_down},
        {"request", "NAME", 1, 1, "ask for an operator's credential, over a key of your own",
         "dc-cli request alice --label 2:ledger+metering --genesis genesis.json --out "
         "alice.request "
         "--key alice.key",
         request, cli_request},
        {"accept", "FILE", 1, 1, "make your credential of the MDMS's answer to your request",
         "dc-cli accept alice.answer --key alice.key --out alice.cred", accept, cli_accept},
        {0}};
    const struct program_spec program = {
        CLI_NAME, "inspect the data concentrators of an AMI network and their ledger", commands,
        NULL, common};
    enum ami_status status = crypto_start();
    if (status != AMI_OK) {
        struct why why = {""};
        (void)why_set(&why, status, "%s", crypto_start_why());
        return program_fail(CLI_NAME, false, status, &why);
    }
    int exit_status = program_main(&program, argc, argv, &c);
    if ((fflush(stdout) != 0 || ferror(stdout)) && exit_status == EXIT_STATUS_OK) {
        fprintf(stderr, CLI_NAME ": the output cannot be written: %s\n", strerror(errno));
        exit_status = EXIT_STATUS_FAILED;
    }
    cli_close(&c);
    return exit_status;
}
