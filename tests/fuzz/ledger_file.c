/* A ledger's file that was changed in a few places, as ledger/lmdb_file.c walks it. Whatever it
 * says, the walk comes to an end within the file; and when it passes and every value's check is
 * right, the file holds exactly what was written.
 *
 * The input chooses one of a few ledgers (u8) and changes it: u16 page, u16 place in it, u8 number
 * of bytes, the bytes. */
#include "crypto/secret.h"
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "ledger/lmdb_file.h"
#include "ledger/store.h"
#include "ledger/store_value.h"
#include "tests/ledger/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BASES      4
#define PAGE       4096u
#define FILE_BYTES (1u << 20)
#define PIECE_MAX  24u

/* What a file holds: the digest of all of it, and how many values have a wrong check. */
struct content {
    sm3_digest digest;
    unsigned wrong;
};

static struct base {
    uint8_t *bytes;
    size_t size;
    struct content content;
} base[BASES];
static uint8_t *changed;
static int fd;

static enum ami_status on_entry(void *ctx, const char *db, struct span key, struct span stored,
                                char *why, size_t why_size)
{
    struct content *c = ctx;
    struct span value;
    (void)why;
    (void)why_size;
    if (!store_check_open(db, key, stored, &value))
        c->wrong++;
    const struct span parts[4] = {span_of(c->digest.b, SM3_BYTES), span_of(db, strlen(db) + 1), key,
                                  stored};
    c->digest = sm3_labelled("content", parts, 4);
    return AMI_OK;
}

static enum ami_status walk(const uint8_t *bytes, size_t size, struct content *out)
{
    char path[64], why[256];
    struct lmdb_file_result result;
    memset(out, 0, sizeof *out);
    const struct lmdb_walk w = {.entry = on_entry, .ctx = out};
    AMI_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum ami_status status = lmdb_file_walk(path, &w, &result, why, sizeof why);
    AMI_CHECK(status == AMI_OK || why[0] != '\0');
    return status;
}

static void write_block(struct store *s, struct fixture *f, const struct fixture_body *body)
{
    uint8_t header[512], cert[4096];
    struct fixture_block *b = fixture_commit(f, body, 3);
    struct writer hw = writer_on(header, sizeof header), cw = writer_on(cert, sizeof cert);
    block_header_encode(&hw, &b->header);
    qc_encode(&cw, &b->commit);
    struct store_batch batch = {.commit = true,
                                .block_header = writer_span(&hw),
                                .block_commit = writer_span(&cw),
                                .block_body = b->body};
    AMI_CHECK(store_write(s, &batch) == AMI_OK);
    fixture_block_free(b);
}

static void write_vote(struct store *s, const struct fixture *f, uint64_t term)
{
    uint8_t bytes[1024];
    struct vote_record v = {
        .version = 1, .chain = f->genesis.members.chain, .epoch = 1, .term = term};
    struct writer w = writer_on(bytes, sizeof bytes);
    vote_record_encode(&w, &v);
    struct store_batch batch = {.vote_record = writer_span(&w)};
    AMI_CHECK(writer_ok(&w) && store_write(s, &batch) == AMI_OK);
}

/* The greater the number, the more is in it: the first is empty, the last has trees of three
 * levels. */
static void make_ledger(const char *dir, unsigned number)
{
    static const unsigned blocks[BASES] = {0, 2, 8, 30}, reports[BASES] = {0, 3, 20, 24};
    char why[256];
    struct store *s;
    struct fixture *f = fixture_new(4, 5);
    struct fixture_body *body = fixture_body();
    AMI_CHECK(store_open(&s, dir, &f->genesis.members.chain, STORE_READ_WRITE, 0, why,
                         sizeof why) == AMI_OK);
    struct fixture_device meter = fixture_meter(f, 1);
    for (unsigned i = 0; i < blocks[number]; i++) {
        fixture_clear(body);
        if (i == 0)
            fixture_meter_enrol(f, body, &meter, &f->dc[0].name);
        for (unsigned k = 0; i > 0 && k < reports[number]; k++)
            fixture_report(f, body, &meter, &f->dc[k % 4], 40);
        write_block(s, f, body);
        write_vote(s, f, i);
    }
    store_close(s);
    free(body);
    fixture_free(f);
}

static void load_base(const char *path, struct base *b)
{
    int in = open(path, O_RDONLY | O_CLOEXEC);
    b->bytes = malloc(FILE_BYTES);
    AMI_CHECK(in >= 0 && b->bytes != NULL);
    ssize_t size = read(in, b->bytes, FILE_BYTES);
    AMI_CHECK(size > 0 && size < (ssize_t)FILE_BYTES);
    b->size = (size_t)size;
    close(in);
    AMI_CHECK(walk(b->bytes, b->size, &b->content) == AMI_OK && b->content.wrong == 0);
}

static void start_once(void)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "ledger.lock"};
    char dir[200], path[300];
    if (changed != NULL)
        return;
    AMI_CHECK(crypto_start() == AMI_OK);
    changed = malloc(FILE_BYTES);
    fd = memfd_create("ledger", MFD_CLOEXEC);
    AMI_CHECK(changed != NULL && fd >= 0);
    const char *tmp = getenv("TMPDIR");
    for (unsigned i = 0; i < BASES; i++) {
        snprintf(dir, sizeof dir, "%.100s/ami-fuzz-XXXXXX", tmp == NULL ? "/tmp" : tmp);
        AMI_CHECK(mkdtemp(dir) != NULL);
        make_ledger(dir, i);
        snprintf(path, sizeof path, "%s/data.mdb", dir);
        load_base(path, &base[i]);
        for (size_t k = 0; k < 3; k++) {
            snprintf(path, sizeof path, "%s/%s", dir, names[k]);
            AMI_CHECK(unlink(path) == 0);
        }
        AMI_CHECK(rmdir(dir) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct content found;
    start_once();
    struct reader r = reader_on(span_of(data, size));
    const struct base *b = &base[read_u8(&r) % BASES];
    memcpy(changed, b->bytes, b->size);
    while (reader_left(&r) > 0 && !r.failed) {
        size_t at = read_u16(&r) % (b->size / PAGE) * PAGE;
        at += read_u16(&r) % PAGE;
        size_t count = read_u8(&r) % PIECE_MAX;
        if (count > b->size - at)
            count = b->size - at;
        read_raw(&r, changed + at, count);
    }
    bool same = memcmp(changed, b->bytes, b->size) == 0;
    enum ami_status status = walk(changed, b->size, &found);
    AMI_CHECK(!same || status == AMI_OK);
    if (status == AMI_OK && found.wrong == 0)
        AMI_CHECK(sm3_equal(&found.digest, &b->content.digest));
    return 0;
}

/* One or two changes; mostly where pages say what they are and where their nodes begin. */
size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    uint64_t rng = index;
    struct writer w = writer_on(out, capacity);
    start_once();
    write_u8(&w, (uint8_t)(fixture_u64(&rng) % BASES));
    for (uint64_t changes = 1 + fixture_u64(&rng) % 2; changes > 0; changes--) {
        uint8_t piece[PIECE_MAX];
        uint64_t place = fixture_u64(&rng);
        size_t count = 1 + fixture_u64(&rng) % 8;
        fixture_bytes(&rng, piece, count);
        if (fixture_u64(&rng) % 2 == 0)
            piece[0] = (uint8_t)(fixture_u64(&rng) % 40), count = 1; /* a small number */
        write_u16(&w, (uint16_t)fixture_u64(&rng));
        write_u16(&w, (uint16_t)(place % 4 == 0 ? place >> 8 : (place >> 8) % 160));
        write_u8(&w, (uint8_t)count);
        write_raw(&w, piece, count);
    }
    return writer_ok(&w) ? w.size : 0;
}
