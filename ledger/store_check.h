/* ledger/store_check.h - is a ledger's file whole, as a file and as a ledger?
 *
 * Reads all of data.mdb without LMDB (ledger/lmdb_file.h) and looks at every value: its check, its
 * form, and for the blocks the chain of their hashes from the genesis to the tip. A ledger that
 * passes cannot crash LMDB and holds nothing that was not written there; signatures and state roots
 * are an audit's business. It never writes. About as fast as SM3, or as the disk.
 *
 * The file must not be written meanwhile.
 */
#ifndef AMI_LEDGER_STORE_CHECK_H
#define AMI_LEDGER_STORE_CHECK_H

#include "base/bytes.h"
#include "base/status.h"
#include "crypto/sm3.h"

struct store_check_result {
    uint64_t height; /* of the tip */
    uint64_t entries, pages;
};

/* AMI_NOT_FOUND: there is no ledger in `dir` yet. AMI_WRONG_CHAIN. AMI_UNSUPPORTED: another
 * version's format. AMI_DAMAGED. AMI_IO (it cannot
 * be opened), AMI_NO_MEMORY. `why` receives one sentence on failure. progress may be NULL. */
enum ami_status store_check_all(const char *dir, const sm3_digest *chain,
                                void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                void *ctx, struct store_check_result *out, char *why,
                                size_t why_size) AMI_MUST_CHECK;

#endif
