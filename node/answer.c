#include "node/answer.h"

#include "ledger/proof.h"
#include "node/describe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ask {
    const struct answer_source *s;
    const json_t *question;
    enum ami_status *status;
    char *why;
    size_t why_size;
    uint8_t *buffer; /* one block */
    size_t buffer_size;
};

static json_t *fail(const struct ask *a, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static json_t *fail(const struct ask *a, enum ami_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->why, a->why_size, format, args);
    va_end(args);
    *a->status = status;
    return NULL;
}

static const char *text_of(const struct ask *a, const char *key)
{
    return json_string_value(json_object_get(a->question, key));
}

/* A count, height or sequence; `otherwise` when it is absent. */
static bool number_of(const struct ask *a, const char *key, uint64_t otherwise, uint64_t *out)
{
    const json_t *v = json_object_get(a->question, key);
    if (v == NULL) {
        *out = otherwise;
        return true;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static enum ami_status read_block(const struct ask *a, uint64_t height, struct certified_block *b)
{
    if (height == 0 || height > a->s->height)
        return AMI_NOT_FOUND;
    return a->s->disk->block(a->s->disk->ctx, height, b, a->buffer, a->buffer_size);
}

static json_t *unreadable(const struct ask *a, enum ami_status status)
{
    return fail(a, status, "the ledger cannot be read there: %s", ami_status_text(status));
}

/* What is not there is one thing, what cannot be read another: says so, true. */
static bool is_unreadable(const struct ask *a, enum ami_status status)
{
    if (status == AMI_OK || status == AMI_NOT_FOUND)
        return false;
    (void)unreadable(a, status);
    return true;
}

/* A live node answers in its loop: it may not read for long. */
static json_t *too_much(const struct ask *a)
{
    return fail(a, AMI_TOO_LARGE, "that takes too much reading at once: ask for fewer");
}

static json_t *ask_blocks(const struct ask *a)
{
    uint64_t count, from;
    if (!number_of(a, "count", 20, &count) || !number_of(a, "from", 0, &from))
        return fail(a, AMI_BAD_ARGUMENT, "from and count must be whole numbers");
    if (count > ANSWER_BLOCKS_MAX)
        count = ANSWER_BLOCKS_MAX;
    if (from == 0)
        from = a->s->height > count ? a->s->height - count + 1 : 1;
    json_t *lines = json_array();
    uint64_t bytes = 0;
    for (uint64_t h = from; h <= a->s->height && h - from < count; h++) {
        struct certified_block b;
        enum ami_status status = bytes > ANSWER_READ_BYTES ? AMI_TOO_LARGE : read_block(a, h, &b);
        if (status != AMI_OK) {
            json_decref(lines);
            return status == AMI_TOO_LARGE ? too_much(a)
                                           : fail(a, status, "block %llu cannot be read: %s",
                                                  (unsigned long long)h, ami_status_text(status));
        }
        bytes += b.body.size;
        json_array_append_new(
            lines, describe_block_line(registry_members(a->s->registry, b.header.height), &b));
    }
    return json_pack("{s:I, s:o}", "height", (json_int_t)a->s->height, "blocks", lines);
}

static json_t *ask_block(const struct ask *a)
{
    uint64_t height = 0;
    const char *hash_text = text_of(a, "hash");
    if (hash_text != NULL) {
        sm3_digest hash;
        if (hex_decode(hash.b, sizeof hash.b, hash_text) != AMI_OK)
            return fail(a, AMI_BAD_ARGUMENT, "'%.80s' is no block hash of 64 hex digits",
                        hash_text);
        enum ami_status found = a->s->disk->height_of(a->s->disk->ctx, &hash, &height);
        if (is_unreadable(a, found))
            return NULL;
        if (found != AMI_OK)
            return fail(a, AMI_NOT_FOUND, "no committed block has the hash %s", hash_text);
    } else if (!number_of(a, "height", 0, &height)) {
        return fail(a, AMI_BAD_ARGUMENT, "height must be a whole number");
    }
    struct certified_block b;
    enum ami_status status = read_block(a, height, &b);
    if (is_unreadable(a, status))
        return NULL;
    if (status != AMI_OK)
        return fail(a, status, "there is no block %llu: the ledger's height is %llu",
                    (unsigned long long)height, (unsigned long long)a->s->height);
    return describe_block(registry_members(a->s->registry, b.header.height), &b);
}

/* Finds transaction `index` in the block; tx borrows b's body. */
static bool tx_at(const struct certified_block *b, uint32_t index, struct tx_view *tx)
{
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    for (uint32_t i = 0; body_next(&it, &encoded); i++)
        if (i == index)
            return tx_view_parse_kept(tx, encoded) == AMI_OK;
    return false;
}

/* Path of one leaf of a block's tree. */
static enum ami_status path_of(const struct certified_block *b, uint32_t index,
                               sm3_digest path[MERKLE_PATH_MAX], size_t *path_size)
{
    sm3_digest *leaves = calloc(b->header.tx_count + 1u, sizeof *leaves);
    size_t count = 0;
    if (leaves == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status = body_leaves(leaves, NULL, b->header.tx_count, &count, b->body);
    if (status == AMI_OK && (count != b->header.tx_count || index >= count))
        status = AMI_DAMAGED;
    if (status == AMI_OK)
        *path_size = merkle_path(path, leaves, count, index);
    free(leaves);
    return status;
}

static json_t *tx_answer(const struct ask *a, uint64_t height, uint32_t index)
{
    struct certified_block b;
    struct tx_view tx;
    sm3_digest path[MERKLE_PATH_MAX];
    size_t path_size = 0;
    enum ami_status status = read_block(a, height, &b);
    if (status == AMI_OK && !tx_at(&b, index, &tx))
        status = AMI_DAMAGED;
    if (status == AMI_OK)
        status = path_of(&b, index, path, &path_size);
    if (status != AMI_OK)
        return fail(a, status, "block %llu cannot be read: %s", (unsigned long long)height,
                    ami_status_text(status));
    json_t *path_json = json_array();
    for (size_t i = 0; i < path_size; i++)
        json_array_append_new(path_json, describe_hex(path[i].b, sizeof path[i].b));
    json_t *out = describe_tx(registry_members(a->s->registry, height), &tx);
    sm3_digest hash = block_hash(&b.header);
    json_object_set_new(out, "height", json_integer((json_int_t)height));
    json_object_set_new(out, "index", json_integer(index));
    json_object_set_new(out, "block", describe_hex(hash.b, sizeof hash.b));
    json_object_set_new(out, "path", path_json);
    json_object_set_new(out, "encoded", describe_hex(tx.encoded.data, tx.encoded.size));
    return out;
}

static json_t *ask_tx(const struct ask *a)
{
    const char *id_text = text_of(a, "id");
    sm3_digest id;
    uint64_t height;
    uint32_t index;
    if (id_text == NULL || hex_decode(id.b, sizeof id.b, id_text) != AMI_OK)
        return fail(a, AMI_BAD_ARGUMENT, "'%.80s' is no transaction id of 64 hex digits",
                    id_text == NULL ? "" : id_text);
    enum ami_status status = a->s->disk->find_tx(a->s->disk->ctx, &id, &height, &index);
    if (is_unreadable(a, status))
        return NULL;
    if (status != AMI_OK)
        return fail(a, AMI_NOT_FOUND, "no committed transaction has the id %s", id_text);
    return tx_answer(a, height, index);
}

/* The meter named in the question; epoch 0 is the newest. */
static const struct record *meter_of(const struct ask *a, struct ami_id *id, uint64_t *epoch)
{
    const char *text = text_of(a, "meter");
    if (text == NULL || ami_id_from_text(id, text) != AMI_OK) {
        fail(a, AMI_BAD_ARGUMENT, "'%.80s' is no device name", text == NULL ? "" : text);
        return NULL;
    }
    if (!number_of(a, "epoch", 0, epoch) || *epoch > UINT32_MAX) {
        fail(a, AMI_BAD_ARGUMENT, "epoch must be a whole number");
        return NULL;
    }
    const struct record *r = registry_find(a->s->registry, RECORD_METER, id, (uint32_t)*epoch);
    if (r == NULL)
        fail(a, AMI_UNKNOWN_DEVICE, "no meter '%s' is enrolled on this ledger", id->text);
    return r;
}

/* The greatest settled sequence of a record; 0: none. */
static uint64_t last_sequence(const struct record *r)
{
    uint64_t last = r->floor - 1;
    for (unsigned i = 1; i < AMI_SEQ_WINDOW; i++)
        if (r->window >> i & 1)
            last = r->floor + i;
    return last;
}

static json_t *ask_meter(const struct ask *a)
{
    struct ami_id id;
    uint64_t epoch;
    const struct record *newest = meter_of(a, &id, &epoch);
    if (newest == NULL)
        return NULL;
    json_t *epochs = json_array();
    for (uint32_t e = 1; e <= newest->epoch; e++) {
        const struct record *r = registry_find(a->s->registry, RECORD_METER, &id, e);
        if (r == NULL || (epoch != 0 && e != epoch))
            continue;
        json_t *line = describe_record(r);
        json_object_set_new(line, "last_sequence", json_integer((json_int_t)last_sequence(r)));
        json_array_append_new(epochs, line);
    }
    return json_pack("{s:s, s:o}", "meter", id.text, "epochs", epochs);
}

/* Of a pruned report neither gateway nor time is known any more. */
static json_t *reading_line(const struct tx_view *tx, uint64_t height, uint32_t index)
{
    const struct report_gateway_part *g = &tx->u.report.gateway;
    const json_int_t time_ms = (json_int_t)g->timestamp_ms;
    return json_pack("{s:I, s:I, s:I, s:o, s:b, s:s?, s:o, s:I}", "sequence",
                     (json_int_t)tx->u.report.meter.sequence, "height", (json_int_t)height, "index",
                     (json_int_t)index, "tx", describe_hex(tx->id.b, sizeof tx->id.b), "pruned",
                     (int)tx->pruned, "dc", tx->pruned ? NULL : g->dc.text, "timestamp_ms",
                     tx->pruned ? json_null() : json_integer(time_ms), "sealed_bytes",
                     (json_int_t)g->sealed.size);
}

static json_t *ask_readings(const struct ask *a)
{
    struct ami_id id;
    uint64_t epoch, from, count;
    const struct record *r = meter_of(a, &id, &epoch);
    if (r == NULL)
        return NULL;
    if (!number_of(a, "from", 1, &from) || !number_of(a, "count", 20, &count))
        return fail(a, AMI_BAD_ARGUMENT, "from and count must be whole numbers");
    if (count > ANSWER_BLOCKS_MAX)
        count = ANSWER_BLOCKS_MAX;
    json_t *lines = json_array();
    uint64_t last = last_sequence(r), loaded = 0, bytes = 0;
    struct certified_block b;
    for (uint64_t seq = from == 0 ? 1 : from; seq <= last && json_array_size(lines) < count;
         seq++) {
        uint64_t height;
        uint32_t index;
        struct tx_view tx;
        enum ami_status status =
            a->s->disk->find_report(a->s->disk->ctx, &id, r->epoch, seq, &height, &index);
        if (status == AMI_NOT_FOUND)
            continue; /* its meter has skipped it */
        if (status == AMI_OK && bytes > ANSWER_READ_BYTES)
            status = AMI_TOO_LARGE;
        if (status == AMI_OK && height != loaded) { /* successive reports may share a block */
            status = read_block(a, height, &b);
            loaded = height;
            bytes += status == AMI_OK ? b.body.size : 0;
        }
        if (status == AMI_NOT_FOUND || (status == AMI_OK && !tx_at(&b, index, &tx)))
            status = AMI_DAMAGED;
        if (status != AMI_OK) {
            json_decref(lines);
            return status == AMI_TOO_LARGE ? too_much(a) : unreadable(a, status);
        }
        json_array_append_new(lines, reading_line(&tx, height, index));
    }
    return json_pack("{s:s, s:I, s:I, s:o}", "meter", id.text, "epoch", (json_int_t)r->epoch,
                     "last_sequence", (json_int_t)last, "readings", lines);
}

/* Where the meter's enrolment stands. */
static enum ami_status find_enrolment(const struct certified_block *b, const struct record *r,
                                      uint32_t *index, struct tx_view *tx)
{
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    for (uint32_t i = 0; body_next(&it, &encoded); i++) {
        if (tx_view_parse_kept(tx, encoded) == AMI_OK && tx->tx.kind == TX_METER_ENROL &&
            ami_id_equal(&tx->u.meter_enrol.meter, &r->name) &&
            tx->u.meter_enrol.epoch == r->epoch) {
            *index = i;
            return AMI_OK;
        }
    }
    return AMI_DAMAGED;
}

/* Fills the enrolment's side of the proof; *copy keeps the bytes of its transaction. */
static enum ami_status prove_enrolment(const struct ask *a, const struct record *r, struct proof *p,
                                       uint8_t **copy)
{
    struct certified_block b;
    struct tx_view tx;
    AMI_TRY(read_block(a, r->enrolled_at, &b));
    AMI_TRY(find_enrolment(&b, r, &p->enrol_index, &tx));
    AMI_TRY(path_of(&b, p->enrol_index, p->enrol_path, &p->enrol_path_size));
    p->enrol_header = b.header;
    p->enrol_commit = b.commit;
    *copy = malloc(tx.encoded.size);
    if (*copy == NULL)
        return AMI_NO_MEMORY;
    memcpy(*copy, tx.encoded.data, tx.encoded.size);
    p->enrolment = span_of(*copy, tx.encoded.size);
    return AMI_OK;
}

static enum ami_status prove_report(const struct ask *a, uint64_t height, uint32_t index,
                                    struct proof *p)
{
    struct certified_block b;
    struct tx_view tx;
    AMI_TRY(read_block(a, height, &b));
    if (!tx_at(&b, index, &tx))
        return AMI_DAMAGED;
    p->header = b.header;
    p->commit = b.commit;
    p->index = index;
    p->tx = tx.encoded;
    return path_of(&b, index, p->path, &p->path_size);
}

/* The changes of members that lead from the genesis file to the report's block. */
static enum ami_status prove_changes(const struct ask *a, struct proof *p)
{
    const size_t count = p->header.epoch - 1;
    if (p->header.epoch == 0 || count > PROOF_CHANGES_MAX)
        return AMI_TOO_LARGE;
    p->changes = calloc(count + 1, sizeof *p->changes);
    if (p->changes == NULL)
        return AMI_NO_MEMORY;
    while (p->change_count < count) {
        struct membership_proof *m = &p->changes[p->change_count];
        AMI_TRY(
            epoch_prove(a->s->disk, (uint32_t)p->change_count + 2, a->buffer, a->buffer_size, m));
        uint8_t *tx = malloc(m->tx.size); /* the buffer serves the next one */
        if (tx == NULL)
            return AMI_NO_MEMORY;
        memcpy(tx, m->tx.data, m->tx.size);
        m->tx.data = tx;
        p->change_count++;
    }
    return AMI_OK;
}

static void free_changes(struct proof *p)
{
    for (size_t i = 0; p != NULL && i < p->change_count; i++)
        free((void *)(uintptr_t)p->changes[i].tx.data);
    if (p != NULL)
        free(p->changes);
}

static json_t *ask_proof(const struct ask *a)
{
    struct ami_id id;
    uint64_t epoch, sequence, height;
    uint32_t index;
    const char *tx_text = text_of(a, "tx");
    struct tx_view tx;
    struct certified_block b;
    const struct record *r = NULL;
    if (tx_text != NULL) {
        sm3_digest tx_hash;
        enum ami_status found = hex_decode(tx_hash.b, sizeof tx_hash.b, tx_text);
        if (found == AMI_OK && is_unreadable(a, found = a->s->disk->find_tx(
                                                    a->s->disk->ctx, &tx_hash, &height, &index)))
            return NULL;
        if (found != AMI_OK)
            return fail(a, AMI_NOT_FOUND, "no committed transaction has the id %.80s", tx_text);
        if (read_block(a, height, &b) != AMI_OK || !tx_at(&b, index, &tx))
            return fail(a, AMI_DAMAGED, "block %llu cannot be read", (unsigned long long)height);
        if (tx.tx.kind != TX_REPORT)
            return fail(a, AMI_BAD_ARGUMENT, "transaction %s is no report", tx_text);
        r = registry_find(a->s->registry, RECORD_METER, &tx.u.report.meter.meter,
                          tx.u.report.meter.epoch);
        if (r == NULL)
            return fail(a, AMI_DAMAGED, "the meter of transaction %s is unknown", tx_text);
    } else {
        r = meter_of(a, &id, &epoch);
        if (r == NULL)
            return NULL;
        if (!number_of(a, "sequence", 0, &sequence))
            return fail(a, AMI_BAD_ARGUMENT, "sequence must be a whole number");
        enum ami_status found =
            a->s->disk->find_report(a->s->disk->ctx, &id, r->epoch, sequence, &height, &index);
        if (is_unreadable(a, found))
            return NULL;
        if (found != AMI_OK)
            return fail(a, AMI_NOT_FOUND, "report %llu of meter '%s' is not on the ledger",
                        (unsigned long long)sequence, id.text);
    }
    struct proof *p = calloc(1, sizeof *p);
    uint8_t *copy = NULL;
    char *text = NULL;
    enum ami_status status = p == NULL ? AMI_NO_MEMORY : prove_enrolment(a, r, p, &copy);
    if (status == AMI_OK)
        status = read_block(a, height, &b);
    if (status == AMI_OK) {
        p->header.epoch = b.header.epoch;
        status = prove_changes(a, p);
    }
    if (status == AMI_OK) /* last: it borrows the buffer */
        status = prove_report(a, height, index, p);
    if (status == AMI_OK && (text = proof_print(p)) == NULL)
        status = AMI_NO_MEMORY;
    json_t *out = status == AMI_OK ? json_pack("{s:s}", "proof", text)
                                   : fail(a, status, "the proof cannot be put together: %s",
                                          ami_status_text(status));
    free(text);
    free(copy);
    free_changes(p);
    free(p);
    return out;
}

json_t *answer(const struct answer_source *s, const json_t *question, enum ami_status *status,
               char *why, size_t why_size)
{
    static const struct {
        const char *name;
        json_t *(*run)(const struct ask *a);
    } questions[] = {{"blocks", ask_blocks}, {"block", ask_block},       {"tx", ask_tx},
                     {"meter", ask_meter},   {"readings", ask_readings}, {"proof", ask_proof}};
    struct ask a = {s, question, status, why, why_size, NULL, AMI_BLOCK_BYTES_MAX + 8192};
    const char *name = text_of(&a, "ask");
    *status = AMI_OK;
    for (size_t i = 0; name != NULL && i < sizeof questions / sizeof questions[0]; i++) {
        if (strcmp(name, questions[i].name) != 0)
            continue;
        a.buffer = malloc(a.buffer_size);
        if (a.buffer == NULL)
            return fail(&a, AMI_NO_MEMORY, "out of memory");
        json_t *out = questions[i].run(&a);
        free(a.buffer);
        if (out == NULL && *status == AMI_OK)
            return fail(&a, AMI_NO_MEMORY, "out of memory");
        return out;
    }
    return fail(&a, AMI_UNSUPPORTED, "'%.80s' is no question that this node answers",
                name == NULL ? "" : name);
}
