/* node/cli.h - what the files of dc-cli share.
 *
 *   cli.c          the tables of commands and options, main
 *   cli_source.c   where answers come from: a live node, or a ledger on disk
 *   cli_show.c     status, blocks, block, tx, meter, readings, events, note, step-down, proof
 *   cli_stuck.c    why-stuck
 *   cli_top.c      top
 *   cli_audit.c    audit: everything recomputed from the genesis on
 *   cli_export.c   compare, export
 *   cli_copy.c     copy
 *   cli_proof.c    verify-proof
 *   cli_request.c  request, accept
 *   cli_guard.c    ledgers are read in a process of its own, which damage may crash
 */
#ifndef AMI_NODE_CLI_H
#define AMI_NODE_CLI_H

#include "net/operator.h"
#include "net/options.h"
#include "node/answer.h"

#define CLI_NAME "dc-cli"

struct cli {
    /* Options. */
    bool json;
    const char *node;       /* --node */
    struct text_list nodes; /* --node of status and why-stuck */
    const char *data;
    const char *genesis_path;
    int64_t timeout_ms;
    int64_t from, count, sequence, epoch;
    int64_t newest;              /* of events; 0: all */
    int64_t frames, interval_ms; /* of top */
    bool follow, links;
    const char *meter, *format, *out;
    const char *label, *kind, *key; /* of request and accept */
    int64_t days;
    const char *credential, *x509_roots, *cfl_public,
        *network; /* how we ask, and who is believed */

    /* Read on demand by cli_ask_node, once. */
    bool has_operator;
    struct operator_link operator_link;

    /* Read on demand by cli_genesis. */
    struct genesis *genesis;
    uint8_t *genesis_bytes;
    size_t genesis_size;
};

/* Prints the failure (as JSON with --json) and returns the exit status. */
int cli_fail(const struct cli *c, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads --genesis, or genesis.json in the ledger's folder or in the one above. On failure it has
 * printed why and returns false, with *exit_status set. */
bool cli_genesis(struct cli *c, const char *data, int *exit_status);
/* The network's public keys, where they are known: of the genesis file, if it was read, of
 * --network or of AMI_NETWORK; *out is NULL when none names them. It may point to `room`. */
enum ami_status cli_find_network(const struct cli *c, struct network *room,
                                 const struct network **out, struct why *why) AMI_MUST_CHECK;
/* A usage error: says it and returns the exit status. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The folder of --data, or NULL and said so (*exit_status set). */
const char *cli_data(const struct cli *c, int *exit_status);
/* The node to ask: --node, or what AMI_NODE names. NULL, said why. */
const char *cli_node(const struct cli *c, int *exit_status);

/* --- reading a ledger in a child process ------------------------------------------------------ */

struct cli_child;
/* Runs in the child. Returns a document, which the parent gets; NULL: out of memory. */
typedef json_t *cli_child_work(struct cli_child *child, void *ctx);
/* Tells the parent how far it is; at least once a minute. */
void cli_child_progress(struct cli_child *child, uint64_t done, uint64_t total);
/* Notes which ledger is being read, for the parent to name when the child crashes. */
void cli_child_reads(struct cli_child *child, const char *data);

/* How a child ended that gave no document, and how far it had come. */
struct cli_guard_end {
    enum ami_status status; /* AMI_OK, or AMI_DAMAGED: it crashed or went in circles; AMI_IO */
    char why[WHY_BYTES_MAX];
    uint64_t done;
};
/* Runs `work` in a child process and shows its progress ("audit", "blocks"; what NULL: shows none).
 * The document, or NULL and *end. Not to be called once nng was used. */
json_t *cli_guard(const struct cli *c, const char *what, const char *unit, cli_child_work *work,
                  void *ctx, struct cli_guard_end *end);

/* Opens the ledger; in a child. On failure false, with a sentence in `why`. */
bool cli_child_open(struct cli_child *child, const char *data, const sm3_digest *chain,
                    struct store **store, enum ami_status *status, char *why, size_t why_size);

/* The status that a document names ("status": "BAD_PROOF"); AMI_BAD_ENCODING when it names none. */
enum ami_status cli_status_of(const json_t *document);

/* Asks one live node. NULL: said why. */
json_t *cli_ask_node(struct cli *c, const char *url, const json_t *question,
                     enum ami_status *status, char *why, size_t why_size);
/* Asks the same of every --node, of AMI_NODE, or of all members of --genesis
 * and those that joined later. A list with one
 * document each, which names its "node"; of one that did not answer it says "role": "unreachable"
 * and why. NULL: said why, *exit_status set. */
json_t *cli_ask_dcs(struct cli *c, const char *ask, int *exit_status);
bool cli_reached(const json_t *of_dc);
/* Asks --data or --node. NULL: said why, *exit_status set. Takes over `question`. */
json_t *cli_ask(struct cli *c, json_t *question, int *exit_status);

/* Audits this ledger in a child process: the document that `audit --json` prints. */
json_t *cli_audit_of(struct cli *c, const char *data);

void cli_close(struct cli *c);

/* Prints a document in the project's JSON form and takes it over. */
int cli_print_json(json_t *document);

int cli_status(int argc, char **argv, void *ctx);
int cli_top(int argc, char **argv, void *ctx);
int cli_why_stuck(int argc, char **argv, void *ctx);
int cli_blocks(int argc, char **argv, void *ctx);
int cli_block(int argc, char **argv, void *ctx);
int cli_tx(int argc, char **argv, void *ctx);
int cli_meter(int argc, char **argv, void *ctx);
int cli_readings(int argc, char **argv, void *ctx);
int cli_events(int argc, char **argv, void *ctx);
int cli_note(int argc, char **argv, void *ctx);
int cli_step_down(int argc, char **argv, void *ctx);
int cli_proof(int argc, char **argv, void *ctx);
int cli_verify_proof(int argc, char **argv, void *ctx);
int cli_audit(int argc, char **argv, void *ctx);
int cli_compare(int argc, char **argv, void *ctx);
int cli_copy(int argc, char **argv, void *ctx);
int cli_export(int argc, char **argv, void *ctx);
int cli_request(int argc, char **argv, void *ctx);
int cli_accept(int argc, char **argv, void *ctx);

#endif
