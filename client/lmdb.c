#include "client/lmdb.h"

#include <lmdb.h>

enum ami_status lmdb_status(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return AMI_OK;
    case MDB_NOTFOUND:
        return AMI_NOT_FOUND;
    case MDB_MAP_FULL:
        return AMI_FULL;
    case MDB_READERS_FULL:
        return AMI_IN_USE;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PANIC:
    case MDB_INCOMPATIBLE:
        return AMI_DAMAGED;
    default:
        return rc > 0 ? why_status_of_errno(rc) : AMI_IO;
    }
}

enum ami_status lmdb_fail(const char *path, int rc, struct why *why)
{
    const enum ami_status status = lmdb_status(rc);
    if (status == AMI_FULL)
        return why_set(why, status,
                       "%s: no room to write (%s); nothing was half-written: free space on this "
                       "file system (or raise --map-size), then start again",
                       path, mdb_strerror(rc));
    return why_set(why, status, "%s: %s", path, mdb_strerror(rc));
}
