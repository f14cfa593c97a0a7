/* tests/ledger/store_dir.h - a directory for the ledger of one test, and what tests of the store do
 * and ask again and again.
 */
#ifndef AMI_TESTS_LEDGER_STORE_DIR_H
#define AMI_TESTS_LEDGER_STORE_DIR_H

#include "tests/harness.h"

#include "tests/crypto_start.h"
#include "tests/ledger/store_made.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#define BUFFER_BYTES (AMI_BLOCK_BYTES_MAX + 8192)

extern char dir[256], why[600];
extern uint8_t buffer[BUFFER_BYTES]; /* what the store reads blocks into */

/* Of a test: makes the directory and a chain; removes it with all that a test may leave there. */
int set_up(void **state);
int tear_down(void **state);
#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

void write_file(const char *name, const void *bytes, size_t size); /* in the directory */
void remove_file(const char *name);                                /* if it is there */
off_t data_size(void);                                             /* of data.mdb */

struct store *open_store(enum store_mode mode, uint64_t map_bytes);
void make_ledger(unsigned blocks);
/* The store does not open, and the sentence says why. */
void assert_refuses(enum store_mode mode, enum ami_status expected, const char *sentence);
/* All of a block's indexes lead to it, and it is what was written. */
void assert_block(struct store *s, const struct made *b);

/* Children report through their exit status; they never return into the test. */
#define CHILD_CHECK(expr)                                                                          \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "child: %s:%d: %s (%s)\n", __FILE__, __LINE__, #expr, why);            \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

void assert_child_succeeds(pid_t child);
/* Through a pipe; false: its other end is closed. */
void put_byte(int fd);
bool take_byte(int fd);

#endif
