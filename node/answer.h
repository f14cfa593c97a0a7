/* node/answer.h - questions about a ledger, answered from the ledger itself.
 *
 * A live node (node/admin.c) and dc-cli with --data give the same answers, because both come
 * through here: blocks, block, tx, meter, readings, proof. A question is a JSON object with "ask";
 * docs/wire-format.md lists them.
 */
#ifndef AMI_NODE_ANSWER_H
#define AMI_NODE_ANSWER_H

#include "node/disk.h"

#include <jansson.h>

struct answer_source {
    const struct genesis *genesis;
    struct registry *registry;
    const struct node_disk *disk;
    uint64_t height; /* of the last committed block */
};

#define ANSWER_BLOCKS_MAX 500         /* lines in one answer */
#define ANSWER_READ_BYTES (64u << 20) /* of blocks, read for one answer */

/* A new reference. On failure NULL, with the status and a sentence in `why`. AMI_UNSUPPORTED: not a
 * question about the ledger. */
json_t *answer(const struct answer_source *s, const json_t *question, enum ami_status *status,
               char *why, size_t why_size);

#endif
