#include "tests/ledger/store_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

char dir[256], why[600];
uint8_t buffer[BUFFER_BYTES];

void write_file(const char *name, const void *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

void remove_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_true(unlink(path) == 0 || errno == ENOENT);
}

off_t data_size(void)
{
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

int set_up(void **state)
{
    (void)state;
    chain = made_chain();
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/ami-store-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(dir) == NULL;
}

int tear_down(void **state)
{
    (void)state;
    remove_file("data.mdb");
    remove_file("lock.mdb");
    remove_file("ledger.lock");
    remove_file("notes.txt");
    return rmdir(dir);
}

struct store *open_store(enum store_mode mode, uint64_t map_bytes)
{
    struct store *s;
    enum ami_status status = store_open(&s, dir, &chain, mode, map_bytes, why, sizeof why);
    if (status != AMI_OK)
        fail_msg("%s: %s", ami_status_name(status), why);
    return s;
}

void make_ledger(unsigned blocks)
{
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < blocks; i++) {
        struct made *b = make_block(&tip, 50, 2000);
        struct store_batch batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        free_block(b);
    }
    store_close(s);
}

void assert_refuses(enum store_mode mode, enum ami_status expected, const char *sentence)
{
    struct store *s;
    why[0] = '\0';
    assert_status(store_open(&s, dir, &chain, mode, 0, why, sizeof why), expected);
    assert_null(s);
    if (strstr(why, sentence) == NULL)
        fail_msg("expected a sentence with \"%s\", got \"%s\"", sentence, why);
}

void assert_block(struct store *s, const struct made *b)
{
    struct certified_block got;
    struct body_reply reply;
    struct block_header header;
    struct qc commit;
    uint64_t height = 0;
    uint32_t index = 99;
    assert_ok(store_block(s, b->header.height, &got, buffer, sizeof buffer));
    assert_true(span_equal(got.body, span_of(b->body, b->body_size)));
    sm3_digest hash = block_hash(&got.header);
    assert_memory_equal(hash.b, b->hash.b, SM3_BYTES);
    assert_int_equal(got.commit.signatures_count, 3);
    assert_ok(store_header(s, b->header.height, &header, &commit));
    hash = block_hash(&header);
    assert_memory_equal(hash.b, b->hash.b, SM3_BYTES);
    assert_memory_equal(commit.block.b, b->hash.b, SM3_BYTES);
    assert_ok(store_height_of(s, &b->hash, &height));
    assert_int_equal(height, b->header.height);
    assert_ok(store_body(s, &b->hash, &reply, buffer, sizeof buffer));
    assert_true(span_equal(reply.body, span_of(b->body, b->body_size)));
    assert_int_equal(reply.header.height, b->header.height);
    if (b->header.tx_count == 0)
        return;
    assert_ok(store_find_tx(s, &b->first_tx, &height, &index));
    assert_int_equal(height, b->header.height);
    assert_int_equal(index, 0);
    struct ami_id meter = meter_name();
    uint64_t last = b->first_sequence + b->header.tx_count - 1;
    assert_ok(store_find_report(s, &meter, 1, last, &height, &index));
    assert_int_equal(height, b->header.height);
    assert_int_equal(index, b->header.tx_count - 1);
}

void assert_child_succeeds(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

void put_byte(int fd)
{
    uint8_t b = 1;
    if (write(fd, &b, 1) != 1)
        abort();
}

bool take_byte(int fd)
{
    uint8_t b;
    return read(fd, &b, 1) == 1;
}
