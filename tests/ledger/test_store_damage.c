/* Directories that are none, files of others, and damage: each has its status and its sentence, and
 * a value that is not what was written is never returned. */
#include "tests/ledger/store_dir.h"

#include <fcntl.h>
#include <lmdb.h>
#include <string.h>

/* --- wrong directories ------------------------------------------------------------------------ */

static void directories_without_a_ledger(void **state)
{
    (void)state;
    assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no ledger");
    write_file("notes.txt", "x", 1);
    assert_refuses(STORE_READ_WRITE, AMI_EXISTS, "other files");
    remove_file("notes.txt");
    /* What a crash amid creation can leave is no obstacle. */
    write_file("data.mdb", "", 0);
    write_file("ledger.lock", "", 0);
    assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no ledger");
    make_ledger(1);
    /* A missing directory is made, a missing parent is not. */
    size_t end = strlen(dir);
    snprintf(dir + end, sizeof dir - end, "/new");
    assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no such directory");
    store_close(open_store(STORE_READ_WRITE, 0));
    remove_file("data.mdb");
    remove_file("lock.mdb");
    remove_file("ledger.lock");
    assert_int_equal(rmdir(dir), 0);
    snprintf(dir + end, sizeof dir - end, "/new/newer");
    assert_refuses(STORE_READ_WRITE, AMI_IO, "cannot create");
    /* A file where the directory should be. */
    snprintf(dir + end, sizeof dir - end, "/data.mdb");
    assert_refuses(STORE_READ_WRITE, AMI_IO, "not a directory");
    dir[end] = '\0';
}

static void another_chain_is_refused(void **state)
{
    (void)state;
    make_ledger(1);
    chain.b[31] ^= 1;
    assert_refuses(STORE_READ_WRITE, AMI_WRONG_CHAIN, "another chain");
    assert_refuses(STORE_READ_ONLY, AMI_WRONG_CHAIN, "another chain");
    chain.b[31] ^= 1;
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 1);
    store_close(s);
}

static void foreign_files_are_refused(void **state)
{
    (void)state;
    static uint8_t garbage[20000];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t size = 1; size <= sizeof garbage; size = size * 3 + 1) {
        write_file("data.mdb", garbage, size);
        assert_refuses(STORE_READ_WRITE, AMI_DAMAGED, "data.mdb");
        assert_refuses(STORE_READ_ONLY, AMI_DAMAGED, "data.mdb");
    }
    remove_file("data.mdb");
    remove_file("lock.mdb");
    /* LMDB, but somebody else's. */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    MDB_val k = {1, "k"}, v = {1, "v"};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &db), 0);
    assert_int_equal(mdb_put(txn, db, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_refuses(STORE_READ_WRITE, AMI_DAMAGED, "another program");
    assert_refuses(STORE_READ_ONLY, AMI_DAMAGED, "another program");
}

/* A file that was cut anywhere is refused by both kinds of openers, or (when only pages went that
 * no longer count) opened and complete: never a crash. */
static void a_cut_file_is_refused(void **state)
{
    (void)state;
    make_ledger(6);
    char path[512];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    off_t size = data_size();
    static uint8_t whole[4 << 20];
    assert_true(size < (off_t)sizeof whole);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, whole, sizeof whole), size);
    close(fd);
    unsigned refused = 0;
    for (off_t cut = size - 4096; cut > 0; cut -= cut > 40960 ? 40960 : 1000) {
        for (int mode = STORE_READ_ONLY; mode <= STORE_READ_WRITE; mode++) {
            /* Beyond the tolerance for pages that LMDB never wrote. */
            if (size - cut <= 17 * 4096)
                continue;
            struct store *s;
            write_file("data.mdb", whole, (size_t)cut);
            assert_status(store_open(&s, dir, &chain, (enum store_mode)mode, 0, why, sizeof why),
                          AMI_DAMAGED);
            assert_true(strstr(why, "data.mdb") != NULL);
            refused++;
        }
    }
    assert_true(refused > 20);
    /* Inside the tolerance who writes gets zeros in place of what is missing: a status at worst. */
    write_file("data.mdb", whole, (size_t)size - 8 * 4096);
    struct store *s;
    enum ami_status status = store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why);
    assert_true(status == AMI_OK || status == AMI_DAMAGED);
    for (uint64_t h = 1; status == AMI_OK && h <= 6; h++) {
        struct certified_block got;
        enum ami_status found = store_block(s, h, &got, buffer, sizeof buffer);
        assert_true(found == AMI_OK || found == AMI_DAMAGED);
    }
    store_close(s);
    write_file("data.mdb", whole, (size_t)size);
    s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 6);
    store_close(s);
}

/* A ledger whose tip and blocks disagree, as after files were mixed. */
static void a_tip_without_its_block_is_damage(void **state)
{
    (void)state;
    make_ledger(3);
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    uint8_t key[8];
    store_be64(key, 3);
    MDB_val k = {sizeof key, key};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "blocks", 0, &db), 0);
    assert_int_equal(mdb_del(txn, db, &k, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_refuses(STORE_READ_WRITE, AMI_DAMAGED, "last block");
    assert_refuses(STORE_READ_ONLY, AMI_DAMAGED, "last block");
}

/* --- damaged values --------------------------------------------------------------------------- */

/* Flips a bit of the data file wherever these bytes stand, in their middle. */
static void flip_in_file(struct span what)
{
    static uint8_t file[4 << 20];
    char path[512];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t size = read(fd, file, sizeof file);
    close(fd);
    assert_in_range(size, 1, sizeof file - 1);
    unsigned found = 0;
    uint8_t *at = file;
    while ((at = memmem(at, (size_t)(file + size - at), what.data, what.size)) != NULL) {
        at[what.size / 2] ^= 0x10;
        at += what.size;
        found++;
    }
    assert_true(found > 0);
    write_file("data.mdb", file, (size_t)size);
}

/* Looks at everything in steps of so many bytes; AMI_OK after a whole round. */
static enum ami_status patrol_round(struct store *s, size_t step, uint64_t *bytes)
{
    struct store_patrol p = {0};
    bool done = false;
    while (!done) {
        *bytes = p.bytes;
        AMI_TRY(store_patrol_on(s, &p, step, &done));
    }
    assert_true(p.db == 0 && p.key_size == 0 && p.seen == 0 && p.bytes == 0); /* it begins anew */
    return AMI_OK;
}

/* Whatever the steps, a round sees all; also while the ledger grows. */
static void a_patrol_sees_everything(void **state)
{
    (void)state;
    make_ledger(20);
    struct store *s = open_store(STORE_READ_ONLY, 0);
    uint64_t whole = 0, bytes = 0;
    assert_ok(patrol_round(s, SIZE_MAX, &bytes));
    assert_int_equal(bytes, 0); /* in one step */
    assert_ok(patrol_round(s, 1, &whole));
    assert_true(whole > 20 * 50 * 2000u);
    for (size_t step = 10; step < 3000000; step *= 7) {
        assert_ok(patrol_round(s, step, &bytes));
        assert_true(bytes <= whole);
    }
    store_close(s);
    s = open_store(STORE_READ_WRITE, 0);
    struct store_patrol p = {0};
    struct vote_record vote;
    uint8_t record[512];
    bool done = false;
    for (unsigned i = 0; !done; i++) {
        struct store_batch batch = {.vote_record = vote_of(record, i + 1, NULL)};
        assert_ok(store_write(s, &batch));
        assert_ok(store_patrol_on(s, &p, 5000, &done));
        assert_true(i < 100000);
    }
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    assert_false(store_damaged(s));
    store_close(s);
}

/* A value that is not what was written is never returned, whichever it is; and the store remembers.
 */
static void a_damaged_value_is_not_returned(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct made *b = make_block(&tip, 50, 2000), *second = make_block(&tip, 1, 100);
    struct made *kept = make_block(&tip, 3, 500);
    struct certified_block got;
    struct block_header header;
    struct qc commit;
    struct body_reply reply;
    struct vote_record vote;
    uint8_t record[512];
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct store_batch batch = commit_of(b), next = commit_of(second), keep = pending_of(kept);
    keep.vote_record = vote_of(record, 77, &kept->hash);
    assert_ok(store_write(s, &batch));
    assert_ok(store_write(s, &next));
    assert_ok(store_write(s, &keep));
    assert_false(store_damaged(s));
    store_close(s);

    flip_in_file(span_of(b->body + 20000, 64));
    s = open_store(STORE_READ_ONLY, 0);
    assert_status(store_block(s, 1, &got, buffer, sizeof buffer), AMI_DAMAGED);
    assert_status(store_body(s, &b->hash, &reply, buffer, sizeof buffer), AMI_DAMAGED);
    assert_true(store_damaged(s));
    uint64_t seen;
    assert_status(patrol_round(s, 100, &seen), AMI_DAMAGED);
    assert_status(patrol_round(s, 1000000, &seen), AMI_DAMAGED);
    assert_ok(store_header(s, 1, &header, &commit)); /* the front is whole */
    assert_ok(store_block(s, 2, &got, buffer, sizeof buffer));
    /* What finds transactions of the last blocks is made of them. */
    uint64_t height;
    uint32_t index;
    assert_status(store_find_tx(s, &second->first_tx, &height, &index), AMI_DAMAGED);
    assert_ok(store_body(s, &kept->hash, &reply, buffer, sizeof buffer));
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    store_close(s);

    flip_in_file(span_of(b->header_bytes + b->header_size - 32, 32)); /* its time is in there */
    s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_header(s, 1, &header, &commit), AMI_DAMAGED);
    assert_true(store_damaged(s));
    store_close(s);
    free_block(b);
    free_block(second);
    free_block(kept);
}

static void a_damaged_vote_record_is_not_returned(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct made *kept = make_block(&tip, 3, 500);
    struct body_reply reply;
    struct vote_record vote;
    uint8_t record[512];
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct store_batch keep = pending_of(kept);
    struct span encoded = keep.vote_record = vote_of(record, 77, &kept->hash);
    assert_ok(store_write(s, &keep));
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    store_close(s);
    flip_in_file(span_of(encoded.data + encoded.size / 2, 32));
    s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_vote_record(s, &vote, buffer, sizeof buffer), AMI_DAMAGED);
    assert_true(store_damaged(s));
    store_close(s);
    flip_in_file(span_of(kept->body + 500, 64));
    s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_body(s, &kept->hash, &reply, buffer, sizeof buffer), AMI_DAMAGED);
    store_close(s);
    free_block(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(directories_without_a_ledger),      ON_DISK(another_chain_is_refused),
        ON_DISK(foreign_files_are_refused),         ON_DISK(a_cut_file_is_refused),
        ON_DISK(a_tip_without_its_block_is_damage), ON_DISK(a_patrol_sees_everything),
        ON_DISK(a_damaged_value_is_not_returned),   ON_DISK(a_damaged_vote_record_is_not_returned),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
