/* ledger/lmdb_file.h - an LMDB file walked without LMDB.
 *
 * LMDB trusts its file: a damaged page crashes it, sends it in circles, or makes it write where
 * live data is. This reads the file of LMDB 0.9 (64 bits, this machine's byte order) page by page,
 * believes nothing, and hands every entry to the caller in order of its key. It holds no more than
 * one page per level of a tree and one value.
 *
 * What it makes sure of: both meta pages are LMDB's, and their numbers those of two writes in a
 * row; every page of every tree says what it should, stands where it should, holds nodes that lie
 * within it side by side, with keys that rise and keep to what the page above says; the counts in a
 * tree's record are right; and no page belongs to two owners, where the list of free pages is an
 * owner, too. A file that passes holds nothing that LMDB could stumble over. It proves nothing
 * about the values: the caller does.
 */
#ifndef AMI_LEDGER_LMDB_FILE_H
#define AMI_LEDGER_LMDB_FILE_H

#include "base/bytes.h"
#include "base/status.h"

#define LMDB_FILE_VALUE_BYTES_MAX (64u << 20)

struct lmdb_walk {
    /* An entry of a named database. The spans are valid during the call. Anything but AMI_OK ends
     * the walk with that status; `why` may be filled. */
    enum ami_status (*entry)(void *ctx, const char *db, struct span key, struct span value,
                             char *why, size_t why_size);
    /* Whether to walk a database at all; NULL: all of them. */
    bool (*wanted)(void *ctx, const char *db);
    /* Pages looked at so far, of how many; may be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct lmdb_file_result {
    uint64_t txn;   /* number of the last write */
    uint64_t pages; /* of the trees and of the list of free pages */
    uint64_t entries;
};

/* AMI_NOT_FOUND: no such file, or an empty one. AMI_DAMAGED: also when the system cannot read a
 * part of it. AMI_IO, AMI_NO_MEMORY. `why` receives one sentence on failure. */
enum ami_status lmdb_file_walk(const char *path, const struct lmdb_walk *walk,
                               struct lmdb_file_result *out, char *why,
                               size_t why_size) AMI_MUST_CHECK;

#endif
