#include "node/recover.h"

#include "base/check.h"
#include "ledger/registry.h"
#include "ledger/store_check.h"
#include "net/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARK_NAME   "ledger.closed"
#define MARK_LABEL  "amiledger closed v1"
#define PATH_BYTES  4096
#define LOOK_MS     200 /* how often a signal is looked for */
#define SAY_MS      5000
#define ASIDE_TRIES 100

/* --- the mark ----------------------------------------------------------------------------------
 */

/* How a file is known again. False: there is none. */
static bool look_at(const char *ledger, struct ledger_closed *out)
{
    char path[PATH_BYTES];
    struct stat st;
    if (path_join(path, sizeof path, ledger, "data.mdb", NULL) != AMI_OK || stat(path, &st) != 0)
        return false;
    out->size = (uint64_t)st.st_size;
    out->inode = (uint64_t)st.st_ino;
    out->changed_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    return true;
}

static sm3_digest digest_of(struct span encoded)
{
    const struct span parts[1] = {span_of(encoded.data, encoded.size - SM3_BYTES)};
    return sm3_labelled(MARK_LABEL, parts, 1);
}

void recover_mark_read(struct recover_mark *out, const struct recover_where *w)
{
    char path[PATH_BYTES];
    uint8_t *data;
    size_t size;
    memset(out, 0, sizeof *out);
    if (path_join(path, sizeof path, w->dir, MARK_NAME, NULL) != AMI_OK ||
        file_read(path, sizeof out->bytes, &data, &size, NULL) != AMI_OK)
        return;
    memcpy(out->bytes, data, size);
    free(data);
    const struct span encoded = span_of(out->bytes, size);
    if (ledger_closed_parse(&out->closed, encoded) != AMI_OK || out->closed.version != 1)
        return;
    const sm3_digest d = digest_of(encoded);
    out->exists = sm3_equal(&d, &out->closed.digest) &&
                  sm3_equal(&out->closed.chain, &w->genesis->members.chain);
    out->has_record = out->exists && out->closed.record.size != 0 &&
                      vote_record_parse(&out->record, out->closed.record) == AMI_OK &&
                      out->record.starts == out->closed.starts;
}

enum ami_status recover_mark_remove(const struct recover_where *w, struct why *why)
{
    char path[PATH_BYTES];
    AMI_TRY(path_join(path, sizeof path, w->dir, MARK_NAME, why));
    if (unlink(path) != 0) {
        if (errno == ENOENT)
            return AMI_OK;
        return why_set(why, AMI_IO, "%.300s cannot be removed: %s", path, strerror(errno));
    }
    return directory_sync(w->dir, why);
}

enum ami_status recover_mark_write(const struct recover_where *w, uint64_t starts,
                                   struct span record, int64_t checked_ms, struct why *why)
{
    char path[PATH_BYTES];
    static uint8_t bytes[NODE_RECORD_BYTES_MAX];
    struct ledger_closed c = {.version = 1,
                              .chain = w->genesis->members.chain,
                              .starts = starts,
                              .checked_ms = checked_ms,
                              .record = record};
    AMI_TRY(path_join(path, sizeof path, w->dir, MARK_NAME, why));
    if (!look_at(w->ledger, &c))
        return why_set(why, AMI_NOT_FOUND, "%.300s has no data.mdb", w->ledger);
    struct writer out = writer_on(bytes, sizeof bytes);
    ledger_closed_encode(&out, &c);
    if (!writer_ok(&out))
        return why_set(why, AMI_TOO_LARGE, "the vote record is too large for %s", MARK_NAME);
    const sm3_digest d = digest_of(writer_span(&out));
    memcpy(bytes + out.size - SM3_BYTES, d.b, SM3_BYTES);
    return file_write(path, writer_span(&out), FILE_MODE_SECRET, why);
}

/* --- the process that checks -------------------------------------------------------------------
 */

/* Signals that a damaged file raises in its reader. Any other end (somebody's kill, a lack of
 * memory) says nothing of the ledger. */
static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};

/* What it says before it ends. */
struct verdict {
    enum ami_status status;
    char why[WHY_BYTES_MAX];
};

struct checking {
    const struct recover_where *where;
    int64_t said_ms;
};

static void say_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct checking *c = ctx;
    if (clock_wall_ms() - c->said_ms < SAY_MS)
        return;
    c->said_ms = clock_wall_ms();
    log_say(c->where->log, ENV_LOG_INFO, "ledger_check", "%llu of %llu pages",
            (unsigned long long)done, (unsigned long long)total);
}

/* What the node will read at once, with LMDB: the state that the tip certifies. */
static enum ami_status read_state(const struct recover_where *w, char *why, size_t why_size)
{
    struct store *store;
    struct block_header header;
    struct qc commit;
    struct vote_record record;
    static uint8_t bytes[NODE_RECORD_BYTES_MAX];
    AMI_TRY(store_open(&store, w->ledger, &w->genesis->members.chain, STORE_READ_ONLY, 0, why,
                       why_size));
    struct registry *r = registry_new(w->genesis);
    const uint64_t height = store_height(store);
    enum ami_status status = r == NULL ? AMI_NO_MEMORY : store_load_registry(store, r);
    if (status == AMI_OK && height > 0) {
        status = store_header(store, height, &header, &commit);
        sm3_digest root = registry_root(r);
        if (status == AMI_OK && !sm3_equal(&root, &header.state_root))
            status = AMI_DAMAGED;
    }
    if (status == AMI_OK)
        status = store_vote_record(store, &record, bytes, sizeof bytes);
    if (status == AMI_NOT_FOUND)
        status = AMI_OK;
    if (status != AMI_OK)
        snprintf(why, why_size,
                 "its registry or its vote record is not what block %llu certifies: %s",
                 (unsigned long long)height, ami_status_text(status));
    registry_free(r);
    store_close(store);
    return status;
}

/* What a process that reads damaged files needs. */
static void become_reader(const struct recover_where *w)
{
    const struct rlimit no_core = {0, 0};
    close(w->lock_fd); /* this process must not hold the folder when its parent has died */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(SIGINT, SIG_IGN); /* the parent decides */
    (void)signal(SIGTERM, SIG_DFL);
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++)
        (void)signal(crashes[i], SIG_DFL); /* nor are they a sanitizer's to report */
}

static _Noreturn void check_and_end(const struct recover_where *w, bool whole, int out)
{
    static struct verdict v;
    struct checking c = {w, clock_wall_ms()};
    struct store_check_result result;
    become_reader(w);
    if (whole)
        v.status = store_check_all(w->ledger, &w->genesis->members.chain, say_progress, &c, &result,
                                   v.why, sizeof v.why);
    if (v.status == AMI_OK)
        v.status = read_state(w, v.why, sizeof v.why);
    ssize_t told = write(out, &v, sizeof v); /* less than a pipe holds: whole or not at all */
    _exit(told == (ssize_t)sizeof v ? 0 : 1);
}

/* Waits for the verdict, or for a signal to this process. */
static enum ami_status hear(const struct recover_where *w, int in, pid_t child, struct verdict *v,
                            struct why *why)
{
    struct pollfd p = {in, POLLIN, 0};
    int ready;
    do {
        ready = poll(&p, 1, LOOK_MS);
        if (loop_signal_caught(w->loop) != 0) {
            kill(child, SIGKILL);
            return why_set(why, AMI_CLOSED, "stopped by signal %d while the ledger was checked",
                           loop_signal_caught(w->loop));
        }
    } while (ready == 0 || (ready < 0 && errno == EINTR));
    return read(in, v, sizeof *v) == (ssize_t)sizeof *v ? AMI_OK : AMI_DAMAGED;
}

/* After a process that gave no verdict: does its end speak against the ledger? */
static enum ami_status judge_end(int status, struct verdict *v, struct why *why)
{
    const int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++)
        if (by == crashes[i])
            v->status = AMI_DAMAGED;
    snprintf(v->why, sizeof v->why, "reading it crashed (signal %d)", by);
    return v->status == AMI_DAMAGED
               ? AMI_OK
               : why_set(why, AMI_IO,
                         "the process that checks the ledger came to an end (signal %d)", by);
}

/* AMI_OK with what the process found out. */
static enum ami_status check(const struct recover_where *w, bool whole, struct verdict *v,
                             struct why *why)
{
    int fds[2], status = 0;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return why_set(why, AMI_IO, "no pipe for checking the ledger: %s", strerror(errno));
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        close(fds[0]);
        close(fds[1]);
        return why_set(why, AMI_IO, "no process for checking the ledger: %s", strerror(errno));
    }
    if (child == 0) {
        close(fds[0]);
        check_and_end(w, whole, fds[1]);
    }
    close(fds[1]);
    enum ami_status heard = hear(w, fds[0], child, v, why);
    close(fds[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (heard == AMI_CLOSED)
        return heard;
    if (heard == AMI_OK)
        return AMI_OK;
    return judge_end(status, v, why);
}

/* --- setting aside -----------------------------------------------------------------------------
 */

static enum ami_status set_aside(const struct recover_where *w, const char *found, struct why *why)
{
    char stamp[32], name[PATH_BYTES];
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm utc;
    AMI_CHECK(gmtime_r(&now, &utc) != NULL);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
    for (unsigned i = 0; i < ASIDE_TRIES; i++) {
        int size = i == 0 ? snprintf(name, sizeof name, "%s.damaged-%s", w->ledger, stamp)
                          : snprintf(name, sizeof name, "%s.damaged-%s-%u", w->ledger, stamp, i);
        if (size >= (int)sizeof name)
            break;
        if (access(name, F_OK) == 0)
            continue; /* no other dc-node is at work in this folder */
        if (rename(w->ledger, name) != 0)
            return why_set(why, AMI_IO, "the damaged ledger %.200s cannot be set aside: %s",
                           w->ledger, strerror(errno));
        AMI_TRY(directory_sync(w->dir, why));
        log_say(w->log, ENV_LOG_ERROR, "ledger_damaged", "%.160s; set aside as %.100s", found,
                name);
        return AMI_OK;
    }
    return why_set(why, AMI_IO, "no name is free for the damaged ledger %.200s", w->ledger);
}

enum ami_status recover_check(const struct recover_where *w, const struct recover_mark *mark,
                              int64_t *checked_ms, struct why *why)
{
    static struct verdict v;
    struct ledger_closed now = {0};
    const int64_t age = clock_wall_ms() - mark->closed.checked_ms;
    *checked_ms = clock_wall_ms();
    if (!look_at(w->ledger, &now) || now.size == 0)
        return AMI_OK; /* a new one */
    bool untouched = mark->exists && mark->closed.size == now.size &&
                     mark->closed.inode == now.inode && mark->closed.changed_ns == now.changed_ns;
    bool whole = !untouched || age < 0 || age >= RECOVER_CHECKED_MS;
    if (!whole)
        *checked_ms = mark->closed.checked_ms;
    memset(&v, 0, sizeof v);
    AMI_TRY(check(w, whole, &v, why));
    if (v.status == AMI_DAMAGED &&
        !whole) { /* what crashed over a part must be found by the whole */
        memset(&v, 0, sizeof v);
        AMI_TRY(check(w, true, &v, why));
        *checked_ms = clock_wall_ms();
    }
    if (v.status == AMI_DAMAGED) {
        *checked_ms = clock_wall_ms();
        return set_aside(w, v.why, why);
    }
    /* Whatever else there is to say about it (another chain, no memory) is said by who opens it. */
    return v.status == AMI_IO || v.status == AMI_NO_MEMORY || v.status == AMI_UNSUPPORTED
               ? why_set(why, v.status, "the ledger cannot be checked: %s", v.why)
               : AMI_OK;
}

/* --- patrol ------------------------------------------------------------------------------------
 */

#define PATROL_STEP_BYTES (256u << 10)
#define PATROL_RETRY_MS   1000

static void sleep_until_ms(int64_t at_ms)
{
    int64_t ms = at_ms - (int64_t)(clock_mono_us() / 1000);
    if (ms <= 0)
        return;
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

/* One round, at the pace that fills round_ms. */
static enum ami_status patrol_round(const struct recover_where *w, struct store *store,
                                    struct store_patrol *p, int64_t round_ms)
{
    struct ledger_closed file = {0};
    const int64_t began = (int64_t)(clock_mono_us() / 1000);
    bool done = false;
    while (!done) {
        enum ami_status status = store_patrol_on(store, p, PATROL_STEP_BYTES, &done);
        if (status == AMI_DAMAGED)
            return status;
        if (status != AMI_OK)
            sleep_until_ms((int64_t)(clock_mono_us() / 1000) + PATROL_RETRY_MS);
        if (!done && look_at(w->ledger, &file) && file.size > p->bytes)
            sleep_until_ms(began +
                           (int64_t)((double)round_ms * (double)p->bytes / (double)file.size));
    }
    sleep_until_ms(began + round_ms);
    return AMI_OK;
}

static _Noreturn void patrol(const struct recover_where *w, int64_t round_ms, int out)
{
    static struct verdict v;
    static struct store_patrol p;
    struct store *store = NULL;
    become_reader(w);
    (void)setpriority(PRIO_PROCESS, 0, 19);
    /* The node opens the ledger, or makes it, meanwhile. */
    while (store_open(&store, w->ledger, &w->genesis->members.chain, STORE_READ_ONLY, 0, v.why,
                      sizeof v.why) != AMI_OK)
        sleep_until_ms((int64_t)(clock_mono_us() / 1000) + PATROL_RETRY_MS);
    do
        v.status = patrol_round(w, store, &p, round_ms);
    while (v.status == AMI_OK);
    snprintf(v.why, sizeof v.why, "a value is not what was written");
    _exit(write(out, &v, sizeof v) == (ssize_t)sizeof v ? 0 : 1);
}

enum ami_status recover_patrol_begin(struct recover_patrol *p, const struct recover_where *w,
                                     int64_t round_ms, void (*forget)(void *ctx), void *ctx,
                                     struct why *why)
{
    int fds[2];
    *p = (struct recover_patrol){0};
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return why_set(why, AMI_IO, "no pipe for the patrol of the ledger: %s", strerror(errno));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        forget(ctx);
        close(fds[0]);
        patrol(w, round_ms, fds[1]);
    }
    close(fds[1]);
    if (child < 0) {
        close(fds[0]);
        return why_set(why, AMI_IO, "no process for the patrol of the ledger: %s", strerror(errno));
    }
    *p = (struct recover_patrol){child, fds[0]};
    return AMI_OK;
}

enum ami_status recover_patrol_look(struct recover_patrol *p, struct why *why)
{
    static struct verdict v;
    int status = 0;
    if (p->pid == 0)
        return AMI_OK;
    ssize_t got = read(p->in, &v, sizeof v);
    if (got < 0)
        return AMI_OK; /* nothing yet */
    if (got != (ssize_t)sizeof v) {
        memset(&v, 0, sizeof v);
        while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
            ;
        p->pid = 0;
        close(p->in);
        AMI_TRY(judge_end(status, &v, why));
    }
    return why_set(why, AMI_DAMAGED, "%s", v.why);
}

void recover_patrol_end(struct recover_patrol *p)
{
    if (p->pid == 0)
        return;
    kill(p->pid, SIGKILL);
    while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(p->in);
    p->pid = 0;
}
