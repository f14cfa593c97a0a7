/* ledger/store_open.c - opening a ledger for one writer and any readers, or making an empty one. */
#include "ledger/store_lmdb.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char format_text[] = STORE_FORMAT;
#define LOCK_NAME "ledger.lock"
/* LMDB's table of readers; its size for the default number of them. */
#define READERS_NAME  "lock.mdb"
#define READERS_BYTES 8192

#define PAGE_ALIGN ((size_t)4095)

/* A file may lack its last pages when a transaction gave them back before it ended (LMDB does not
 * write those). More than so many missing pages are a cut. */
#define UNWRITTEN_PAGES_MAX 16

/* --- opening ---------------------------------------------------------------------------------
 *
 * What LMDB takes on trust in a data file (sizes in its first pages, pages that must exist) is
 * looked at before LMDB sees it, as far as that goes without reading the whole file.
 */

struct opening {
    struct store *s;
    const sm3_digest *chain; /* NULL: any */
    char *why;
    size_t why_size;
};

#define FAIL(o, status, ...) (store_say((o)->why, (o)->why_size, __VA_ARGS__), (status))

static enum ami_status fail_errno(const struct opening *o, const char *what, int error)
{
    return FAIL(o, store_status(error), "%s: %s: %s", o->s->dir, what, strerror(error));
}

/* True when the directory holds nothing but what an interrupted creation can leave behind. */
static bool dir_is_ours(const char *dir)
{
    DIR *d = opendir(dir);
    bool ours = d != NULL;
    for (struct dirent *e; ours && (e = readdir(d)) != NULL;)
        ours = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
               strcmp(e->d_name, DATA_NAME) == 0 || strcmp(e->d_name, READERS_NAME) == 0 ||
               strcmp(e->d_name, LOCK_NAME) == 0;
    if (d != NULL)
        closedir(d);
    return ours;
}

/* LMDB 0.9's first pages: page header 16 bytes, then u32 magic, u32 version, address, map size,
 * then the page size in the first field of the first database. In the machine's byte order. */
static bool meta_page_plausible(const uint8_t *page, uint32_t *page_size)
{
    uint32_t magic, version, size;
    memcpy(&magic, page + 16, 4);
    memcpy(&version, page + 20, 4);
    memcpy(&size, page + 40, 4);
    *page_size = size;
    return magic == 0xBEEFC0DE && version == 1 && size >= 512 && size <= 65536 &&
           (size & (size - 1)) == 0;
}

/* *exists: there is a data file that is more than empty. */
static enum ami_status look_at_data(const struct opening *o, bool *exists)
{
    char path[4096];
    uint8_t page[64];
    uint32_t page_size, second_size;
    struct stat st;
    snprintf(path, sizeof path, "%s/" DATA_NAME, o->s->dir);
    *exists = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? AMI_OK : fail_errno(o, "cannot open " DATA_NAME, errno);
    enum ami_status status = AMI_OK;
    if (fstat(fd, &st) != 0)
        status = fail_errno(o, "cannot look at " DATA_NAME, errno);
    else if (st.st_size == 0)
        *exists = false;
    else if (pread(fd, page, sizeof page, 0) != sizeof page ||
             !meta_page_plausible(page, &page_size) ||
             pread(fd, page, sizeof page, page_size) != sizeof page ||
             !meta_page_plausible(page, &second_size) || second_size != page_size ||
             st.st_size < 2 * (off_t)page_size)
        status = FAIL(o, AMI_DAMAGED, "%s: " DATA_NAME " is damaged or no ledger file", o->s->dir);
    else
        *exists = true;
    close(fd);
    return status;
}

static void sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        /* Some file systems refuse to sync a directory; LMDB's own syncs stand on their own. */
        (void)fsync(fd);
        close(fd);
    }
}

static enum ami_status make_dir(const struct opening *o)
{
    if (mkdir(o->s->dir, 0700) != 0)
        return fail_errno(o, "cannot create the directory", errno);
    char parent[4096];
    snprintf(parent, sizeof parent, "%s/..", o->s->dir);
    sync_dir(parent);
    return AMI_OK;
}

/* The right to write, kept until the file is closed (also by a crash). */
static enum ami_status lock_dir(const struct opening *o)
{
    char path[4096], pid[24] = "";
    snprintf(path, sizeof path, "%s/" LOCK_NAME, o->s->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(o, "cannot create " LOCK_NAME, errno);
    o->s->lock_fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return fail_errno(o, "cannot lock " LOCK_NAME, errno);
        ssize_t got = pread(fd, pid, sizeof pid - 1, 0);
        pid[got > 0 ? got : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        return FAIL(o, AMI_IN_USE, "%s: another process writes to this ledger (pid %s)", o->s->dir,
                    pid[0] == '\0' ? "unknown" : pid);
    }
    /* The number serves the message above only: a full disk must not keep a node from starting. */
    int size = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)size, 0) != size)
        (void)ftruncate(fd, 0);
    return AMI_OK;
}

/* A file that ends before its last page would raise SIGBUS in whoever reads there. */
static enum ami_status check_length(const struct opening *o)
{
    struct store *s = o->s;
    MDB_envinfo info;
    MDB_stat stat_db;
    struct stat st;
    int fd;
    mdb_env_info(s->env, &info);
    mdb_env_stat(s->env, &stat_db);
    if (mdb_env_get_fd(s->env, &fd) != MDB_SUCCESS || fstat(fd, &st) != 0)
        return fail_errno(o, "cannot look at " DATA_NAME, errno);
    uint64_t have = (uint64_t)st.st_size / stat_db.ms_psize, want = info.me_last_pgno + 1;
    if (have >= want)
        return AMI_OK;
    if (want - have > UNWRITTEN_PAGES_MAX)
        return FAIL(o, AMI_DAMAGED, "%s: " DATA_NAME " is cut off: %llu of %llu pages are there",
                    s->dir, (unsigned long long)have, (unsigned long long)want);
    if (s->mode == STORE_READ_WRITE && ftruncate(fd, (off_t)(want * stat_db.ms_psize)) != 0)
        return fail_errno(o, "cannot extend " DATA_NAME, errno);
    return AMI_OK;
}

/* LMDB maps its table of readers and writes to it as memory: on a full disk a page of that file
 * without room behind it would kill the process. Asks for the room first. Not while an environment
 * of this process is open (closing a file drops the process's locks on it). */
static enum ami_status reserve_readers(const struct opening *o)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/" READERS_NAME, o->s->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) /* a medium or directory that is read only: LMDB decides */
        return o->s->mode == STORE_READ_ONLY ? AMI_OK
                                             : fail_errno(o, "cannot create " READERS_NAME, errno);
    off_t bytes = fstat(fd, &st) == 0 && st.st_size > READERS_BYTES ? st.st_size : READERS_BYTES;
    int error = fallocate(fd, 0, 0, bytes) == 0 ? 0 : errno;
    close(fd);
    if (error == 0 || error == EOPNOTSUPP)
        return AMI_OK;
    return fail_errno(o, "no room for " READERS_NAME, error);
}

static enum ami_status open_env(const struct opening *o)
{
    struct store *s = o->s;
    /* Who reads a ledger from end to end wants the kernel to read ahead. A node reads here and
     * there in one that may be larger than memory, and each look would bring megabytes that push
     * out what is needed: it says itself what it will read (store_will_read). */
    unsigned flags = MDB_NOTLS | (s->mode == STORE_READ_ONLY ? MDB_RDONLY : MDB_NORDAHEAD);
    AMI_TRY(reserve_readers(o));
    int rc = mdb_env_create(&s->env);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxdbs(s->env, DB_COUNT);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(s->env, s->dir, flags, 0600);
    if (rc != MDB_SUCCESS)
        return FAIL(o, store_status(rc), "%s: cannot open the ledger: %s", s->dir,
                    mdb_strerror(rc));
    AMI_TRY(check_length(o));
    if (s->mode == STORE_READ_ONLY)
        return AMI_OK;
    /* Readers that were killed no longer keep old pages from being used again. */
    int stale = 0;
    (void)mdb_reader_check(s->env, &stale);
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    size_t bytes = info.me_mapsize > MAP_BYTES_FIRST ? info.me_mapsize : MAP_BYTES_FIRST;
    if (s->map_bytes_max != 0 && bytes > s->map_bytes_max)
        bytes = s->map_bytes_max; /* LMDB keeps what is in use */
    rc = mdb_env_set_mapsize(s->env, bytes);
    if (rc != MDB_SUCCESS)
        return FAIL(o, store_status(rc), "%s: cannot map %zu bytes: %s", s->dir, bytes,
                    mdb_strerror(rc));
    return AMI_OK;
}

/* The names of the sub-databases are keys of the unnamed one; it is empty in a new file. */
static int count_dbs(MDB_txn *txn, size_t *count)
{
    MDB_dbi main_db;
    MDB_stat stat_db;
    int rc = mdb_dbi_open(txn, NULL, 0, &main_db);
    if (rc == MDB_SUCCESS)
        rc = mdb_stat(txn, main_db, &stat_db);
    if (rc == MDB_SUCCESS)
        *count = stat_db.ms_entries;
    return rc;
}

static int open_dbs(struct store *s, MDB_txn *txn, unsigned flags)
{
    int rc = MDB_SUCCESS;
    for (int i = 0; rc == MDB_SUCCESS && i < DB_COUNT; i++)
        rc = mdb_dbi_open(txn, store_db_names[i], flags, &s->db[i]);
    return rc;
}

/* In one transaction: a ledger has all of its parts or none. */
static int create_dbs(struct store *s, MDB_txn *txn)
{
    int rc = open_dbs(s, txn, MDB_CREATE);
    if (rc == MDB_SUCCESS)
        rc = store_put_value(s, txn, META, SPAN_LITERAL(KEY_FORMAT), SPAN_LITERAL(format_text),
                             span_of(NULL, 0), 0);
    if (rc == MDB_SUCCESS)
        rc = store_put_value(s, txn, META, SPAN_LITERAL(KEY_CHAIN), span_of(s->chain.b, SM3_BYTES),
                             span_of(NULL, 0), 0);
    secret_random(s->salt, sizeof s->salt);
    if (rc == MDB_SUCCESS)
        rc = store_put_value(s, txn, META, SPAN_LITERAL(KEY_SALT), span_of(s->salt, sizeof s->salt),
                             span_of(NULL, 0), 0);
    return rc;
}

static enum ami_status check_identity(const struct opening *o, MDB_txn *txn)
{
    struct store *s = o->s;
    struct span v = {0};
    int rc = open_dbs(s, txn, 0);
    if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
        return FAIL(o, AMI_DAMAGED, "%s: " DATA_NAME " belongs to another program", s->dir);
    if (rc != MDB_SUCCESS)
        return FAIL(o, store_status(rc), "%s: %s", s->dir, mdb_strerror(rc));
    MDB_val k = {sizeof KEY_FORMAT - 1, KEY_FORMAT}, raw;
    if (mdb_get(txn, s->db[META], &k, &raw) == MDB_SUCCESS &&
        store_format_is_other(span_of(raw.mv_data, raw.mv_size)))
        return FAIL(o, AMI_UNSUPPORTED,
                    "%s: the ledger is of another version's format; this program reads \"%s\"",
                    s->dir, format_text);
    if (store_get(s, txn, META, SPAN_LITERAL(KEY_FORMAT), &v) != MDB_SUCCESS ||
        !store_format_known(v))
        return FAIL(o, AMI_DAMAGED, "%s: the ledger's format is not \"%s\"", s->dir, format_text);
    if (store_get(s, txn, META, SPAN_LITERAL(KEY_CHAIN), &v) != MDB_SUCCESS || v.size != SM3_BYTES)
        return FAIL(o, AMI_DAMAGED, "%s: the ledger does not name its chain", s->dir);
    memcpy(s->chain.b, v.data, SM3_BYTES);
    if (store_get(s, txn, META, SPAN_LITERAL(KEY_SALT), &v) != MDB_SUCCESS ||
        v.size != sizeof s->salt)
        return FAIL(o, AMI_DAMAGED, "%s: the ledger does not have its indexes' salt", s->dir);
    memcpy(s->salt, v.data, sizeof s->salt);
    if (o->chain != NULL && memcmp(s->chain.b, o->chain->b, SM3_BYTES) != 0)
        return FAIL(o, AMI_WRONG_CHAIN,
                    "%s: the ledger is of another chain (of another genesis file)", s->dir);
    return AMI_OK;
}

/* The last block is where and what the tip says, and nothing stands behind it. */
static enum ami_status check_tip(const struct opening *o, MDB_txn *txn)
{
    struct store *s = o->s;
    uint64_t height;
    sm3_digest tip;
    MDB_cursor *cursor;
    MDB_val k, v;
    enum ami_status status = store_get_tip(s, txn, &height, &tip);
    if (status == AMI_OK)
        status = store_status(mdb_cursor_open(txn, s->db[BLOCKS], &cursor));
    if (status == AMI_OK) {
        int rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
        if (rc == MDB_NOTFOUND && height == 0) {
            status = AMI_OK;
        } else if (rc == MDB_SUCCESS && k.mv_size == 8 && load_be64(k.mv_data) == height) {
            struct block_header header;
            struct qc commit;
            struct span value = {0};
            (void)store_open_value(s, BLOCKS, span_of(k.mv_data, 8), &v,
                                   &value); /* or an empty one */
            struct reader r = reader_on(value);
            status = store_read_front(&r, height, &header, &commit);
            sm3_digest hash = status == AMI_OK ? block_hash(&header) : tip;
            if (memcmp(hash.b, tip.b, sizeof tip.b) != 0)
                status = AMI_DAMAGED;
        } else {
            status = rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? AMI_DAMAGED : store_status(rc);
        }
        mdb_cursor_close(cursor);
    }
    if (status != AMI_OK)
        return FAIL(o, status, "%s: the ledger's last block: %s", s->dir, ami_status_text(status));
    atomic_store(&s->height, height);
    return AMI_OK;
}

/* Inside the first transaction: creates or checks. */
static enum ami_status create_or_check(const struct opening *o, MDB_txn *txn)
{
    struct store *s = o->s;
    size_t dbs = 0;
    int rc = count_dbs(txn, &dbs);
    if (rc == MDB_SUCCESS && dbs == 0 && s->mode == STORE_READ_ONLY)
        return FAIL(o, AMI_NOT_FOUND, "%s: there is no ledger here yet", s->dir);
    if (rc == MDB_SUCCESS && dbs == 0) {
        s->chain = *o->chain;
        rc = create_dbs(s, txn);
    }
    if (rc != MDB_SUCCESS)
        return FAIL(o, store_write_status(s, rc, MAP_BYTES_MIN), "%s: cannot open the ledger: %s",
                    s->dir, mdb_strerror(rc));
    if (dbs == 0)
        return AMI_OK;
    AMI_TRY(check_identity(o, txn));
    return check_tip(o, txn);
}

static enum ami_status open_ledger(const struct opening *o)
{
    struct store *s = o->s;
    MDB_txn *txn;
    enum ami_status status = store_begin(s, s->mode == STORE_READ_ONLY ? MDB_RDONLY : 0, &txn);
    if (status != AMI_OK)
        return FAIL(o, status, "%s: cannot open the ledger: %s", s->dir, ami_status_text(status));
    status = create_or_check(o, txn);
    if (status != AMI_OK) {
        store_end(s, txn);
        return status;
    }
    /* Only a commit keeps the handles of the sub-databases, also when nothing was written. */
    int rc = mdb_txn_commit(txn);
    pthread_rwlock_unlock(&s->map_lock);
    if (rc != MDB_SUCCESS)
        return FAIL(o, store_write_status(s, rc, MAP_BYTES_MIN), "%s: cannot create the ledger: %s",
                    s->dir, mdb_strerror(rc));
    return AMI_OK;
}

static enum ami_status read_tail(const struct opening *o)
{
    enum ami_status status = store_tail_read(o->s);
    if (status == AMI_OK || status == AMI_DAMAGED) /* it is noted, and who looks there hears it */
        return AMI_OK;
    return FAIL(o, status, "%s: the ledger's last blocks cannot be read: %s", o->s->dir,
                ami_status_text(status));
}

static enum ami_status open_steps(const struct opening *o)
{
    struct store *s = o->s;
    struct stat st;
    bool exists;
    if (stat(s->dir, &st) != 0) {
        if (errno != ENOENT)
            return fail_errno(o, "cannot look at the directory", errno);
        if (s->mode == STORE_READ_ONLY)
            return FAIL(o, AMI_NOT_FOUND, "%s: there is no such directory", s->dir);
        AMI_TRY(make_dir(o));
    } else if (!S_ISDIR(st.st_mode)) {
        return FAIL(o, AMI_IO, "%s: not a directory", s->dir);
    }
    if (s->mode == STORE_READ_WRITE) {
        AMI_TRY(look_at_data(o, &exists));
        if (!exists && !dir_is_ours(s->dir))
            return FAIL(o, AMI_EXISTS,
                        "%s: the directory holds other files but no ledger; give an empty one",
                        s->dir);
        AMI_TRY(lock_dir(o));
    }
    /* For who writes: again, now that nobody else does. */
    AMI_TRY(look_at_data(o, &exists));
    if (!exists && s->mode == STORE_READ_ONLY)
        return FAIL(o, AMI_NOT_FOUND, "%s: there is no ledger here", s->dir);
    enum ami_status status = open_env(o);
    if (status == AMI_OK)
        status = open_ledger(o);
    if (status == AMI_OK && s->mode == STORE_READ_WRITE)
        status = read_tail(o);
    if (!exists && status == AMI_OK)
        sync_dir(s->dir);
    if (!exists && status != AMI_OK) { /* what was begun would look like damage */
        char path[4096];
        snprintf(path, sizeof path, "%s/" DATA_NAME, s->dir);
        (void)unlink(path);
    }
    return status;
}

enum ami_status store_open(struct store **out, const char *dir, const sm3_digest *chain,
                           enum store_mode mode, uint64_t map_bytes, char *why, size_t why_size)
{
    *out = NULL;
    AMI_CHECK(chain != NULL || mode == STORE_READ_ONLY);
    if ((map_bytes != 0 && map_bytes < MAP_BYTES_MIN) || map_bytes > SIZE_MAX / 2 ||
        strlen(dir) > 4000) {
        store_say(why, why_size, "%s: the greatest size must be at least %zu bytes", dir,
                  MAP_BYTES_MIN);
        return AMI_BAD_ARGUMENT;
    }
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL || (s->dir = strdup(dir)) == NULL || pthread_rwlock_init(&s->map_lock, NULL) ||
        pthread_mutex_init(&s->tail.lock, NULL)) {
        store_say(why, why_size, "%s: out of memory", dir);
        if (s != NULL)
            free(s->dir);
        free(s);
        return AMI_NO_MEMORY;
    }
    s->mode = mode;
    s->map_bytes_max = (size_t)map_bytes & ~PAGE_ALIGN;
    s->lock_fd = -1;
    const struct opening o = {s, chain, why, why_size};
    enum ami_status status = open_steps(&o);
    if (status != AMI_OK) {
        store_close(s);
        return status;
    }
    *out = s;
    return AMI_OK;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->env != NULL)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* and with it the lock */
    pthread_rwlock_destroy(&s->map_lock);
    pthread_mutex_destroy(&s->tail.lock);
    store_tail_clear(&s->tail);
    free(s->dir);
    free(s);
}
