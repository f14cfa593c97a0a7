/* node/cli_guard.c - reading ledgers in a process of its own.
 *
 * LMDB has no page checksums: a damaged page can crash whoever reads it, or make the reader walk in
 * circles. So all that dc-cli reads from a ledger on disk is read in a child process. What it finds
 * comes back through a pipe as messages: u32 size (of this machine, it never leaves it), u8 kind,
 * then a progress or the result as JSON text. A child that ends without a result has met damage,
 * and the parent says so in one sentence.
 */
#include "node/cli.h"

#include "net/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define CHILD_KEEPS_STDERR 1 /* for the sanitizer's report */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHILD_KEEPS_STDERR 1
#endif
#endif

/* Between two messages. The longest step is one block, seconds at most; the child that makes no
 * step for so long goes in circles. */
#define STALL_MS 60000

#define MESSAGE_BYTES_MAX (256u << 20)

enum message_kind { MESSAGE_PROGRESS = 1, MESSAGE_RESULT = 2 };

struct message_head {
    uint32_t size; /* of what follows */
    uint8_t kind;
};

struct progress_message {
    uint64_t done, total;
};

/* Memory that both processes see: what the child wrote here stays when it crashes. */
struct shared {
    char reading[256];
};

struct cli_child {
    int pipe;
    struct shared *shared;
};

static bool write_all(int fd, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static void tell(struct cli_child *child, enum message_kind kind, const void *data, size_t size)
{
    struct message_head head;
    memset(&head, 0, sizeof head);
    head.size = (uint32_t)size;
    head.kind = (uint8_t)kind;
    /* Nobody listens any more: then nobody is served by going on. */
    if (!write_all(child->pipe, &head, sizeof head) || !write_all(child->pipe, data, size))
        _exit(EXIT_STATUS_FAILED);
}

void cli_child_progress(struct cli_child *child, uint64_t done, uint64_t total)
{
    const struct progress_message m = {done, total};
    tell(child, MESSAGE_PROGRESS, &m, sizeof m);
}

void cli_child_reads(struct cli_child *child, const char *data)
{
    snprintf(child->shared->reading, sizeof child->shared->reading, "%s", data);
}

_Noreturn static void child_main(int fd, struct shared *shared, cli_child_work *work, void *ctx)
{
    /* What the parent does when it is stopped is not the child's to do, nor a crash the
     * sanitizer's. */
    static const int defaults[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE,
                                   SIGILL,  SIGINT, SIGTERM, SIGHUP};
    const struct rlimit no_core = {0, 0};
    struct cli_child child = {fd, shared};
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++)
        signal(defaults[i], SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#ifndef CHILD_KEEPS_STDERR
    /* LMDB prints its failed assertions; the parent has a sentence for people. */
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0)
        (void)dup2(null, STDERR_FILENO);
#endif
    json_t *result = work(&child, ctx);
    char *text = result == NULL ? NULL : json_dumps(result, JSON_COMPACT);
    if (text == NULL)
        text = strdup("{\"ok\":false,\"status\":\"NO_MEMORY\",\"error\":\"out of memory\"}");
    if (text != NULL)
        tell(&child, MESSAGE_RESULT, text, strlen(text));
    _exit(EXIT_STATUS_OK);
}

/* --- the parent's side ------------------------------------------------------------------------ */

enum heard { HEARD_ALL, HEARD_END, HEARD_NOTHING };

static enum heard read_all(int fd, void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        struct pollfd p = {fd, POLLIN, 0};
        int ready = poll(&p, 1, STALL_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return HEARD_NOTHING;
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return HEARD_END;
        at += n;
        size -= (size_t)n;
    }
    return HEARD_ALL;
}

/* Follows the child up to its result. */
static enum heard listen_to(int fd, struct progress *bar, struct cli_guard_end *end,
                            json_t **result)
{
    for (;;) {
        struct message_head head;
        enum heard h = read_all(fd, &head, sizeof head);
        if (h != HEARD_ALL)
            return h;
        if (head.kind == MESSAGE_PROGRESS) {
            struct progress_message m;
            h = read_all(fd, &m, sizeof m);
            if (h != HEARD_ALL)
                return h;
            end->done = m.done;
            bar->total = m.total;
            progress_update(bar, m.done, NULL);
            continue;
        }
        char *text = head.size <= MESSAGE_BYTES_MAX ? malloc(head.size) : NULL;
        if (text == NULL)
            return HEARD_END;
        h = read_all(fd, text, head.size);
        if (h == HEARD_ALL)
            *result = json_loadb(text, head.size, 0, NULL);
        free(text);
        return h;
    }
}

static void say_end(struct cli_guard_end *end, enum heard heard, const char *data)
{
    end->status = AMI_DAMAGED;
    snprintf(end->why, sizeof end->why, "the ledger in %.250s is damaged: reading it %s", data,
             heard == HEARD_NOTHING ? "does not come to an end" : "crashed");
}

static json_t *no_child(struct cli_guard_end *end, const char *what, int error)
{
    end->status = AMI_IO;
    snprintf(end->why, sizeof end->why, "%s: %s", what, strerror(error));
    return NULL;
}

/* The parent's side once the child runs. */
static json_t *follow(const struct cli *c, const char *what, const char *unit, pid_t pid, int fd,
                      const struct shared *shared, struct cli_guard_end *end)
{
    struct progress bar;
    json_t *result = NULL;
    progress_begin(&bar, stderr, c->json || what == NULL, what, unit, 0);
    enum heard heard = listen_to(fd, &bar, end, &result);
    if (heard != HEARD_ALL)
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (bar.total > 0)
        progress_end(&bar, NULL);
    if (result == NULL)
        say_end(end, heard, shared->reading);
    return result;
}

json_t *cli_guard(const struct cli *c, const char *what, const char *unit, cli_child_work *work,
                  void *ctx, struct cli_guard_end *end)
{
    int fds[2];
    memset(end, 0, sizeof *end);
    fflush(stdout);
    fflush(stderr);
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return no_child(end, "cannot share memory with a process", errno);
    if (pipe2(fds, O_CLOEXEC) != 0) {
        munmap(shared, sizeof *shared);
        return no_child(end, "cannot make a pipe", errno);
    }
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        close(fds[0]);
        child_main(fds[1], shared, work, ctx);
    }
    close(fds[1]);
    json_t *result = pid < 0 ? no_child(end, "cannot start a process", error)
                             : follow(c, what, unit, pid, fds[0], shared, end);
    close(fds[0]);
    munmap(shared, sizeof *shared);
    return result;
}
