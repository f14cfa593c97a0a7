/* tests/meter/store_support.h - a folder for a meters' store, and reports that tell who they are.
 */
#ifndef AMI_TESTS_METER_STORE_SUPPORT_H
#define AMI_TESTS_METER_STORE_SUPPORT_H

#include "tests/harness.h"

#include "meter/store.h"

#define RECORD_BYTES 64

extern char folder[64];
extern const sm3_digest network, chain, other_chain;
extern struct ami_id a, b; /* "m" and "m-2" */

/* Before main's tests. */
bool store_support_start(void);
int make_folder(void **state);
int drop_folder(void **state);

struct meter_store *opened(enum meter_store_mode mode, uint64_t map_bytes);
/* A clean end and another start. */
struct meter_store *reopened(struct meter_store *s);
/* The folder as it would be after a crash now, under another name, until `dropped`. Nothing may be
 * writing. */
struct meter_store *crashed(void);
void dropped(struct meter_store *s);
/* That folder after a clean end and another start. */
struct meter_store *crashed_again(struct meter_store *s);

/* The next report of a meter in key epoch 1; its record tells its number in the first byte, and as
 * a whole in bytes 8 to 15. */
struct meter_op report_op(const struct ami_id *name, uint64_t sequence,
                          uint8_t record[RECORD_BYTES]);
void put(struct meter_store *s, const struct ami_id *name, uint64_t sequence);
uint16_t settle(struct meter_store *s, const struct ami_id *name, uint64_t sequence, uint64_t keep);

/* All reports as text: "name/epoch/sequence ", with a + when it is settled. */
void assert_listed(struct meter_store *s, const char *expected);
/* The lowest report that waits, from `from` on; 0: none. */
uint64_t next_waiting(struct meter_store *s, const struct ami_id *name, uint64_t from);

#endif
