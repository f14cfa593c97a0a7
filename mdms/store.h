/* mdms/store.h - the MDMS's store on disk: one LMDB environment under DIR/store.
 *
 * `serve` owns it, but the other commands work on it at the same time, from their own processes:
 * LMDB lets one write at a time and readers beside it. Caveats: never open it twice in one process;
 * a reader that stays open for long (an export) keeps the file from reusing space meanwhile.
 *
 * A table is a tree of LMDB's, but for TABLE_REPORTS (mdms/reports.h): its records are never
 * changed or deleted, the first one of a key stays. It can be read with the kv's get,
 * mdms_update_get and mdms_store_scan only.
 */
#ifndef AMI_MDMS_STORE_H
#define AMI_MDMS_STORE_H

#include "mdms/records.h"
#include "net/why.h"

/* Address space set aside; the file grows only as far as it is filled. */
#define MDMS_STORE_MAP_BYTES (64ull << 30)

struct mdms_store;

/* Makes DIR/store with its first state record. AMI_EXISTS when there is one. */
enum ami_status mdms_store_create(const char *dir, const struct state_record *state,
                                  struct why *why) AMI_MUST_CHECK;

/* map_bytes 0: MDMS_STORE_MAP_BYTES. AMI_NOT_FOUND: `ami-mdms init` was not run here.
 * AMI_BAD_VERSION: another version's. AMI_DAMAGED. */
enum ami_status mdms_store_open(struct mdms_store **out, const char *dir, uint64_t map_bytes,
                                struct why *why) AMI_MUST_CHECK;
void mdms_store_close(struct mdms_store *s);

/* For the core. Belongs to one thread; values are copied out, no transaction stays open. */
struct mdms_kv mdms_store_kv(struct mdms_store *s);

/* Makes a write durable. Any one thread. AMI_FULL, AMI_IO, AMI_DAMAGED: nothing was written. */
enum ami_status mdms_store_write(struct mdms_store *s, const struct mdms_write *w,
                                 struct why *why) AMI_MUST_CHECK;

/* Read, decide, write, as one step that no other process can come between. `change` looks things up
 * with mdms_update_get and adds to `write`; anything but AMI_OK from it leaves the store as it
 * was. */
struct mdms_update;
enum ami_status mdms_store_update(struct mdms_store *s,
                                  enum ami_status (*change)(void *ctx, struct mdms_update *u,
                                                            struct mdms_write *write),
                                  void *ctx, struct why *why) AMI_MUST_CHECK;
/* The value is valid during `change`. AMI_NOT_FOUND. */
enum ami_status mdms_update_get(struct mdms_update *u, enum mdms_table table,
                                const struct mdms_key *key, struct span *value) AMI_MUST_CHECK;
/* The last key of a table. AMI_NOT_FOUND when it is empty. */
enum ami_status mdms_update_last(struct mdms_update *u, enum mdms_table table,
                                 struct span *key) AMI_MUST_CHECK;

/* Calls `each` for every record from `from` on, in order of keys, all of one instant, until it
 * returns false. The bytes are valid during the call. */
enum ami_status mdms_store_scan(struct mdms_store *s, enum mdms_table table, struct span from,
                                bool (*each)(void *ctx, struct span key, struct span value),
                                void *ctx, struct why *why) AMI_MUST_CHECK;

/* Number of records in a table; of reports the state record has it. */
enum ami_status mdms_store_count(struct mdms_store *s, enum mdms_table table, uint64_t *count,
                                 struct why *why) AMI_MUST_CHECK;

#endif
