/* base/table.h - hash tables: uthash, with short chains.
 *
 * As it comes, uthash doubles its buckets when one of them has ten entries. Our tables have up to
 * hundreds of thousands of large entries, of which each one in a chain is a line of memory to wait
 * for: a DC's loop spent an eighth of its time in them. At four, most chains have one entry, for
 * some 32 bytes more of buckets an entry.
 */
#ifndef AMI_BASE_TABLE_H
#define AMI_BASE_TABLE_H

#include <uthash.h>

#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 4U

#endif
