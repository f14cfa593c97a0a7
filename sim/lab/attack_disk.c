/* sim/lab/attack_disk.c - somebody edits a DC's ledger on its disk.
 *
 * The file is the real one, written by ledger/store.c. The adversary has the whole machine for a
 * while: it may write what it likes and recompute every check that needs no key. */
#include "sim/lab/attack.h"

#include "base/check.h"
#include "ledger/lmdb_file.h"
#include "ledger/store_check.h"
#include "net/why.h"
#include "sim/lab/bench.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAP_BYTES      (8u << 20)
#define FILE_BYTES_MAX (8u << 20)

static enum ami_status write_block(struct store *s, const struct bench_block *b)
{
    uint8_t header[512], commit[1024];
    struct writer h = writer_on(header, sizeof header), q = writer_on(commit, sizeof commit);
    block_header_encode(&h, &b->header);
    qc_encode(&q, &b->commit);
    AMI_CHECK(writer_ok(&h) && writer_ok(&q));
    const struct store_batch batch = {.commit = true,
                                      .block_header = writer_span(&h),
                                      .block_commit = writer_span(&q),
                                      .block_body = span_of(b->body, b->body_size),
                                      .records = span_of(b->records, b->records_size)};
    return store_write(s, &batch);
}

/* Every block of the ledger again, as dc-cli audit does it. With `signatures` off only what needs
 * no public key is looked at. */
static enum ami_status audit(struct store *s, const struct bench *b, bool signatures)
{
    struct registry *r = registry_new(b->genesis);
    struct block_parent tip = {0, b->genesis->members.chain, b->genesis->created_ms};
    size_t size = AMI_BLOCK_BYTES_MAX + 8192;
    uint8_t *buffer = malloc(size);
    enum ami_status status = AMI_OK;
    AMI_CHECK(r != NULL && buffer != NULL);
    for (uint64_t h = 1; h <= store_height(s) && status == AMI_OK; h++) {
        struct certified_block block;
        uint32_t bad;
        status = store_block(s, h, &block, buffer, size);
        if (status != AMI_OK)
            break;
        sm3_digest hash = block_hash(&block.header);
        status =
            block_check_header(&b->genesis->parameters, &b->genesis->members, &block.header, &tip);
        if (status == AMI_OK && !sm3_equal(&block.commit.block, &hash))
            status = AMI_BAD_CERTIFICATE;
        if (status == AMI_OK && signatures)
            status = qc_check(&b->genesis->members, &block.commit);
        if (status == AMI_OK && signatures)
            status = block_check_body(r, &block.header, block.body, &bad);
        if (status == AMI_OK)
            status = block_stage(r, &block.header, block.body, &bad);
        if (status == AMI_OK)
            registry_stage_commit(r);
        tip = (struct block_parent){h, hash, block.header.timestamp_ms};
    }
    free(buffer);
    registry_free(r);
    return status;
}

static void remove_dir(const char *dir)
{
    char path[256];
    DIR *d = opendir(dir);
    if (d == NULL)
        return;
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%.64s", dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)unlink(path);
    }
    (void)closedir(d);
    (void)rmdir(dir); /* what stays lies where such things may lie */
}

/* A ledger of these blocks in a folder of its own, left open. NULL: c says why. */
static struct store *make_ledger(struct attack_context *c, const struct bench *b,
                                 const sm3_digest *chain, char dir[64])
{
    const char *base = getenv("TMPDIR");
    char why[256] = "";
    struct store *s = NULL;
    snprintf(dir, 64, "%.40s/ami-lab-XXXXXX", base == NULL ? "/tmp" : base);
    if (mkdtemp(dir) == NULL) {
        attack_fails(c, why_status_of_errno(errno), "%s: %s", dir, strerror(errno));
        return NULL;
    }
    enum ami_status status =
        store_open(&s, dir, chain, STORE_READ_WRITE, MAP_BYTES, why, sizeof why);
    for (size_t i = 0; i < b->blocks && status == AMI_OK; i++)
        status = write_block(s, &b->block[i]);
    if (status == AMI_OK)
        return s;
    if (s != NULL)
        store_close(s);
    remove_dir(dir);
    attack_fails(c, status, "%s: %s", dir, why[0] != 0 ? why : ami_status_text(status));
    return NULL;
}

/* --- a byte in place ------------------------------------------------------------------------- */

/* Flips a bit of the sealed report wherever it lies in the file. */
static enum ami_status flip(const char *path, const struct bench_report *r)
{
    uint8_t *bytes = malloc(FILE_BYTES_MAX);
    FILE *f = fopen(path, "r+b");
    size_t size = f == NULL || bytes == NULL ? 0 : fread(bytes, 1, FILE_BYTES_MAX, f), hits = 0;
    bool good = size > sizeof r->sealed && ferror(f) == 0;
    for (size_t at = 0; good && at + sizeof r->sealed <= size; at++) {
        if (memcmp(bytes + at, r->sealed, sizeof r->sealed) != 0)
            continue;
        hits++;
        good = fseek(f, (long)at + 20, SEEK_SET) == 0 && fputc(bytes[at + 20] ^ 1, f) != EOF;
    }
    good = f != NULL && fclose(f) == 0 && good;
    free(bytes);
    AMI_CHECK(!good || hits > 0);
    return good ? AMI_OK : AMI_IO;
}

/* Looks at no value. */
static enum ami_status any_entry(void *ctx, const char *db, struct span key, struct span value,
                                 char *why, size_t why_size)
{
    (void)ctx, (void)db, (void)key, (void)value, (void)why, (void)why_size;
    return AMI_OK;
}

static bool edit_byte(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed);
    const sm3_digest *chain = &b->genesis->members.chain;
    struct bench_report r;
    char dir[64], path[96], why[256] = "";
    bool broken = false;
    bench_measure(b, &r, 0, 1, "1042.000 kWh");
    bench_gateway(b, &r, 0, &b->cast->dc[0].sign);
    bench_commit(b, &r.tx, 1);
    struct store *s = make_ledger(c, b, chain, dir);
    if (s != NULL) {
        store_close(s);
        snprintf(path, sizeof path, "%s/data.mdb", dir);
        enum ami_status status = flip(path, &r);
        if (status != AMI_OK) {
            attack_fails(c, status, "%s cannot be changed", path);
        } else {
            const struct lmdb_walk walk = {.entry = any_entry};
            struct lmdb_file_result walked;
            struct store_check_result checked;
            status = c->control
                         ? lmdb_file_walk(path, &walk, &walked, why, sizeof why)
                         : store_check_all(dir, chain, NULL, NULL, &checked, why, sizeof why);
            const char *sentence = strstr(why, ": ") == NULL ? why : strstr(why, ": ") + 2;
            broken =
                attack_says(c, status == AMI_OK, "one bit of a sealed report changed: %s%s%.160s",
                            ami_status_name(status), why[0] == 0 ? "" : ", ", sentence);
        }
        remove_dir(dir);
    }
    bench_free(b);
    return broken;
}

/* --- the whole block anew -------------------------------------------------------------------- */

/* Writes a ledger in which block 2 holds another report: with Merkle root, header, state root and
 * checks as they should be, and the old votes under the new hash. */
static bool rewrite_block(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed), *own = bench_new(c->scheme, c->seed);
    struct bench_report r, forged;
    char dir[64];
    bool broken = false;
    bench_measure(b, &r, 0, 1, "1042.000 kWh");
    bench_gateway(b, &r, 0, &b->cast->dc[0].sign);
    bench_commit(b, &r.tx, 1);
    forged = r;
    snprintf(forged.m, sizeof forged.m, "1.000 kWh");
    forged.meter.commitment = report_commitment(forged.salt, span_of(forged.m, sizeof forged.m));
    bench_gateway(own, &forged, 0, &b->cast->dc[0].sign);
    bench_commit(own, &forged.tx, 1);
    struct bench_block *block = &own->block[1];
    block->commit = b->block[1].commit; /* nobody votes for it */
    block->commit.block = block->hash;
    struct store *s = make_ledger(c, own, &b->genesis->members.chain, dir);
    if (s != NULL) {
        enum ami_status status = audit(s, b, !c->control);
        store_close(s);
        broken = attack_says(c, status == AMI_OK,
                             "block 2 rewritten to say %s, all checks without a key recomputed: %s",
                             forged.m, ami_status_name(status));
        remove_dir(dir);
    }
    bench_free(own);
    bench_free(b);
    return broken;
}

const struct attack attacks_disk[] = {
    {.name = "ledger-bit-flipped",
     .row = ROW_LEDGER,
     .knows = "a DC's disk",
     .goal = "a ledger with a changed report passes for whole",
     .protection =
         "a check over every value (in the control only LMDB's own structure is looked at)",
     .run = edit_byte},
    {.name = "ledger-block-rewritten",
     .row = ROW_LEDGER,
     .knows = "a DC's disk and its own keys; it recomputes every check that needs no other key",
     .goal = "an audit passes a ledger with another report in it",
     .protection = "an audit checks certificates and signatures",
     .run = rewrite_block},
    {0}};
