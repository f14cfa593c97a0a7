#include "sim/hunt.h"

#include "base/check.h"
#include "net/file.h"
#include "net/loop.h"
#include "net/progress.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX        64
#define CHUNK_SEEDS     1000 /* of one job, between two notes in the file to resume from */
#define STATE_BYTES_MAX (1u << 20)

/* What a child says of one run. */
struct said {
    uint64_t seed;
    unsigned dcs, byzantine;
    struct sim_result result;
};

struct job {
    pid_t pid; /* 0: done */
    int fd;
    uint64_t next, last, step; /* seeds it has still to run */
    size_t got;
    struct said said;
};

static volatile sig_atomic_t stop_asked;

static void on_signal(int signal)
{
    (void)signal;
    stop_asked = 1;
}

void sim_hunt_plan(const struct sim_hunt *h, uint64_t seed, struct sim_plan *out)
{
    *out = (struct sim_plan){.dcs = h->dcs, .byzantine = h->byzantine};
    sim_plan_draw(out, seed);
    if (h->rule_off != NULL)
        sim_rule_off(h->rule_off, out);
    else if (h->shape != NULL)
        sim_rule_on(h->shape, out);
}

/* --- children -------------------------------------------------------------------------------- */

static bool write_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static void child_begins(void)
{
    /* The parent decides when to stop, and takes what was said so far. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
}

static pid_t start_child(int fd[2])
{
    if (pipe(fd) != 0)
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        close(fd[0]);
        close(fd[1]);
    }
    if (pid == 0) {
        close(fd[0]);
        child_begins();
    }
    if (pid > 0)
        close(fd[1]);
    return pid;
}

static bool start_job(const struct sim_hunt *h, struct job *j)
{
    int fd[2];
    pid_t pid = start_child(fd);
    if (pid < 0)
        return false;
    if (pid == 0) {
        for (uint64_t seed = j->next; seed <= j->last; seed += j->step) {
            struct sim_plan plan;
            struct said s = {.seed = seed};
            sim_hunt_plan(h, seed, &plan);
            s.dcs = plan.dcs;
            s.byzantine = plan.byzantine;
            sim_run(&s.result, &plan, NULL);
            if (!write_all(fd[1], &s, sizeof s))
                _exit(1);
        }
        _exit(0);
    }
    j->pid = pid;
    j->fd = fd[0];
    j->got = 0;
    return true;
}

static void say_crash(char out[256], int status)
{
    if (WIFSIGNALED(status))
        snprintf(out, 256, "crash: the run died of signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(out, 256, "crash: the run ended with status %d", WEXITSTATUS(status));
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

bool sim_run_apart(struct sim_result *out, const struct sim_plan *plan)
{
    int fd[2];
    pid_t pid = start_child(fd);
    if (pid < 0)
        return false;
    if (pid == 0) {
        sim_run(out, plan, NULL);
        _exit(write_all(fd[1], out, sizeof *out) ? 0 : 1);
    }
    size_t got = 0;
    while (got < sizeof *out) {
        ssize_t n = read(fd[0], (char *)out + got, sizeof *out - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    close(fd[0]);
    int status = wait_for(pid);
    if (got < sizeof *out) {
        memset(out, 0, sizeof *out);
        say_crash(out->violation, status);
    }
    return true;
}

/* --- results --------------------------------------------------------------------------------- */

static void add_counters(struct sim_counters *sum, const struct sim_counters *c)
{
    sum->events += c->events;
    sum->frames += c->frames;
    sum->frames_lost += c->frames_lost;
    sum->frames_repeated += c->frames_repeated;
    sum->commits += c->commits;
    sum->elections += c->elections;
    sum->attempts += c->attempts;
    sum->reports_made += c->reports_made;
    sum->reports_acknowledged += c->reports_acknowledged;
    for (int k = 0; k < SIM_FAULT_KINDS; k++)
        sum->fault[k] += c->fault[k];
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        sum->mischief[k] += c->mischief[k];
    for (int k = 0; k < SIM_RARE_KINDS; k++)
        sum->rare[k] += c->rare[k];
    for (int k = 0; k < SIM_CHANGE_KINDS; k++)
        sum->change[k] += c->change[k];
}

static void add_found(struct sim_hunt *h, uint64_t seed, const struct sim_result *r)
{
    h->violations++;
    size_t i = h->found_count;
    if (i == SIM_FOUND_MAX) {
        if (h->found[i - 1].seed < seed)
            return;
        i--;
    } else {
        h->found_count++;
    }
    for (; i > 0 && h->found[i - 1].seed > seed; i--)
        h->found[i] = h->found[i - 1];
    struct sim_found *f = &h->found[i];
    *f = (struct sim_found){.seed = seed,
                            .end_us = r->end_us,
                            .events = r->count.events,
                            .faults_needed = r->faults_used,
                            .faults_used = r->faults_used,
                            .mischief_needed = UINT32_MAX};
    memcpy(f->violation, r->violation, sizeof f->violation);
}

static void take(struct sim_hunt *h, uint64_t seed, const struct sim_result *r)
{
    h->seeds++;
    add_counters(&h->count, &r->count);
    h->virtual_s += (double)r->end_us / 1e6;
    if (r->violation[0] != 0) {
        add_found(h, seed, r);
        return;
    }
    if (r->recovered_us > h->recovered_max_us) {
        h->recovered_max_us = r->recovered_us;
        h->recovered_max_seed = seed;
    }
    if (r->complete_us > h->complete_max_us) {
        h->complete_max_us = r->complete_us;
        h->complete_max_seed = seed;
    }
}

/* One thing that a child said, or its end. False: the child cannot be replaced. */
static bool read_job(struct sim_hunt *h, struct job *j)
{
    ssize_t n = read(j->fd, (char *)&j->said + j->got, sizeof j->said - j->got);
    if (n < 0 && errno == EINTR)
        return true;
    if (n > 0) {
        j->got += (size_t)n;
        if (j->got < sizeof j->said)
            return true;
        j->got = 0;
        j->next = j->said.seed + j->step;
        take(h, j->said.seed, &j->said.result);
        return true;
    }
    close(j->fd);
    int status = wait_for(j->pid);
    j->pid = 0;
    if (j->next > j->last)
        return true;
    struct sim_result crashed = {.trace = 0};
    say_crash(crashed.violation, status);
    take(h, j->next, &crashed);
    j->next += j->step;
    return j->next > j->last || start_job(h, j);
}

static void stop_jobs(struct job *job, unsigned jobs)
{
    for (unsigned i = 0; i < jobs; i++) {
        if (job[i].pid == 0)
            continue;
        kill(job[i].pid, SIGKILL);
        close(job[i].fd);
        (void)wait_for(job[i].pid);
        job[i].pid = 0;
    }
}

static bool any_left(const struct job *job, unsigned jobs)
{
    for (unsigned i = 0; i < jobs; i++)
        if (job[i].pid != 0)
            return true;
    return false;
}

/* Seeds first..last. */
static enum ami_status run_chunk(struct sim_hunt *h, uint64_t first, uint64_t last,
                                 struct progress *progress)
{
    struct job job[JOBS_MAX];
    struct pollfd fds[JOBS_MAX];
    enum ami_status status = AMI_OK;
    memset(job, 0, sizeof job);
    for (unsigned i = 0; i < h->jobs && status == AMI_OK; i++) {
        job[i] = (struct job){.next = first + i, .last = last, .step = h->jobs};
        if (job[i].next <= last && !start_job(h, &job[i]))
            status = AMI_IO;
    }
    while (status == AMI_OK && any_left(job, h->jobs) && !stop_asked &&
           !(h->stop_at_first && h->violations > 0)) {
        for (unsigned i = 0; i < h->jobs; i++)
            fds[i] = (struct pollfd){.fd = job[i].pid != 0 ? job[i].fd : -1, .events = POLLIN};
        if (poll(fds, h->jobs, 1000) < 0 && errno != EINTR)
            status = AMI_IO;
        for (unsigned i = 0; i < h->jobs && status == AMI_OK; i++)
            if (job[i].pid != 0 && (fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
                !read_job(h, &job[i]))
                status = AMI_IO;
        progress_update(progress, h->seeds, NULL);
    }
    stop_jobs(job, h->jobs);
    return status;
}

/* --- the file to resume from ----------------------------------------------------------------- */

#define COUNTERS(X)                                                                                \
    X(events)                                                                                      \
    X(frames)                                                                                      \
    X(frames_lost)                                                                                 \
    X(frames_repeated) X(commits) X(elections) X(attempts) X(reports_made) X(reports_acknowledged)

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

/* What must be the same for two runs to add up. */
static void describe(const struct sim_hunt *h, char out[160])
{
    snprintf(out, 160, "seeds %llu..%llu nodes %u byzantine %d rule-off %s shape %s",
             (unsigned long long)h->first, (unsigned long long)h->last, h->dcs,
             h->byzantine == SIM_PLAN_ANY ? -1 : (int)h->byzantine,
             h->rule_off != NULL ? h->rule_off->name : "none",
             h->shape != NULL ? h->shape->name : "any");
}

static json_t *counts(const uint64_t *count, int kinds)
{
    json_t *a = json_array();
    for (int k = 0; k < kinds; k++)
        json_array_append_new(a, number(count[k]));
    return a;
}

static enum ami_status save(const struct sim_hunt *h, uint64_t next, struct why *why)
{
    char what[160];
    if (h->resume == NULL)
        return AMI_OK;
    describe(h, what);
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I}", "hunt", what,
                          "next", (json_int_t)next, "seeds", (json_int_t)h->seeds, "violations",
                          (json_int_t)h->violations, "virtual_s", h->virtual_s, "wall_s", h->wall_s,
                          "recovered_max_us", (json_int_t)h->recovered_max_us, "recovered_max_seed",
                          (json_int_t)h->recovered_max_seed, "complete_max_us",
                          (json_int_t)h->complete_max_us, "complete_max_seed",
                          (json_int_t)h->complete_max_seed);
    if (o == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
#define SAVE(name) json_object_set_new(o, #name, number(h->count.name));
    COUNTERS(SAVE)
#undef SAVE
    json_object_set_new(o, "fault", counts(h->count.fault, SIM_FAULT_KINDS));
    json_object_set_new(o, "mischief", counts(h->count.mischief, SIM_MISCHIEF_KINDS));
    json_object_set_new(o, "rare", counts(h->count.rare, SIM_RARE_KINDS));
    json_object_set_new(o, "change", counts(h->count.change, SIM_CHANGE_KINDS));
    json_t *found = json_array();
    for (size_t i = 0; i < h->found_count; i++)
        json_array_append_new(found, json_pack("{s:I, s:s}", "seed", (json_int_t)h->found[i].seed,
                                               "violation", h->found[i].violation));
    json_object_set_new(o, "found", found);
    char *text = json_dumps(o, JSON_INDENT(1));
    json_decref(o);
    if (text == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
    enum ami_status status =
        file_write(h->resume, span_of(text, strlen(text)), FILE_MODE_PUBLIC, why);
    free(text);
    return status;
}

static uint64_t get(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));
    return v < 0 ? 0 : (uint64_t)v;
}

static void get_counts(const json_t *o, const char *key, uint64_t *out, int kinds)
{
    const json_t *a = json_object_get(o, key);
    for (int k = 0; k < kinds; k++) {
        json_int_t v = json_integer_value(json_array_get(a, (size_t)k));
        out[k] = v < 0 ? 0 : (uint64_t)v;
    }
}

static void restore(struct sim_hunt *h, const json_t *o)
{
    h->seeds = get(o, "seeds");
    h->violations = get(o, "violations");
    h->virtual_s = json_number_value(json_object_get(o, "virtual_s"));
    h->wall_s = json_number_value(json_object_get(o, "wall_s"));
    h->recovered_max_us = get(o, "recovered_max_us");
    h->recovered_max_seed = get(o, "recovered_max_seed");
    h->complete_max_us = get(o, "complete_max_us");
    h->complete_max_seed = get(o, "complete_max_seed");
#define RESTORE(name) h->count.name = get(o, #name);
    COUNTERS(RESTORE)
#undef RESTORE
    get_counts(o, "fault", h->count.fault, SIM_FAULT_KINDS);
    get_counts(o, "mischief", h->count.mischief, SIM_MISCHIEF_KINDS);
    get_counts(o, "rare", h->count.rare, SIM_RARE_KINDS);
    get_counts(o, "change", h->count.change, SIM_CHANGE_KINDS);
    size_t i;
    json_t *f;
    json_array_foreach(json_object_get(o, "found"), i, f)
    {
        const char *text = json_string_value(json_object_get(f, "violation"));
        if (i >= SIM_FOUND_MAX || text == NULL)
            break;
        h->found[i] = (struct sim_found){.seed = get(f, "seed"), .mischief_needed = UINT32_MAX};
        snprintf(h->found[i].violation, sizeof h->found[i].violation, "%s", text);
        h->found_count = i + 1;
    }
}

/* Where to go on: h->first, or what the file says. */
static enum ami_status load(struct sim_hunt *h, uint64_t *next, struct why *why)
{
    uint8_t *data;
    size_t size;
    char what[160];
    *next = h->first;
    if (h->resume == NULL)
        return AMI_OK;
    struct why missing;
    enum ami_status status = file_read(h->resume, STATE_BYTES_MAX, &data, &size, &missing);
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    if (status != AMI_OK)
        return why_set(why, status, "%s", missing.text);
    json_t *o = json_loadb((const char *)data, size, 0, NULL);
    free(data);
    describe(h, what);
    const char *said = json_string_value(json_object_get(o, "hunt"));
    if (said == NULL || strcmp(said, what) != 0) {
        status = why_set(why, AMI_BAD_ARGUMENT, "%s belongs to another hunt (%s), this one is %s",
                         h->resume, said == NULL ? "none that can be read" : said, what);
    } else {
        restore(h, o);
        *next = get(o, "next");
    }
    json_decref(o);
    return status;
}

enum ami_status sim_hunt_run(struct sim_hunt *h, struct why *why)
{
    uint64_t next;
    AMI_CHECK(h->jobs >= 1 && h->jobs <= JOBS_MAX);
    AMI_TRY(load(h, &next, why));
    struct sigaction act = {.sa_handler = on_signal}, old_int, old_term;
    sigaction(SIGINT, &act, &old_int);
    sigaction(SIGTERM, &act, &old_term);
    struct progress progress;
    progress_begin(&progress, stderr, h->quiet, "hunt", "seeds", h->last - h->first + 1);
    enum ami_status status = AMI_OK;
    while (status == AMI_OK && next <= h->last && !stop_asked &&
           !(h->stop_at_first && h->violations > 0)) {
        uint64_t size = (uint64_t)h->jobs * CHUNK_SEEDS, began = clock_mono_us();
        uint64_t last = h->last - next < size ? h->last : next + size - 1;
        struct sim_hunt before = *h;
        status = run_chunk(h, next, last, &progress);
        if (status != AMI_OK)
            why_set(why, status, "a child cannot be started: %s", strerror(errno));
        h->wall_s += (double)(clock_mono_us() - began) / 1e6;
        if (stop_asked && h->resume != NULL)
            *h = before; /* half a chunk is not counted: it will be run again */
        if (!stop_asked && status == AMI_OK)
            status = save(h, last + 1, why);
        next = last + 1;
    }
    h->stopped = stop_asked != 0;
    char note[64];
    snprintf(note, sizeof note, "%llu violations", (unsigned long long)h->violations);
    progress_end(&progress, note);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    return status;
}

/* --- shortening ------------------------------------------------------------------------------ */

static bool same_violation(const char *a, const char *b)
{
    size_t n = strcspn(a, ":");
    return n == strcspn(b, ":") && memcmp(a, b, n) == 0;
}

static bool still(const struct sim_hunt *h, struct sim_found *f, uint64_t faults, uint32_t mischief)
{
    struct sim_plan plan;
    struct sim_result r;
    sim_hunt_plan(h, f->seed, &plan);
    plan.faults_max = faults;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        if ((mischief >> k & 1) == 0)
            plan.mischief[k] = 0;
    if (!sim_run_apart(&r, &plan) || !same_violation(r.violation, f->violation))
        return false;
    memcpy(f->violation, r.violation, sizeof f->violation);
    f->end_us = r.end_us;
    f->events = r.count.events;
    f->faults_needed = faults;
    f->mischief_needed = mischief;
    return true;
}

void sim_shorten(const struct sim_hunt *h, struct sim_found *f)
{
    struct sim_plan plan;
    sim_hunt_plan(h, f->seed, &plan);
    uint32_t all = 0;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        all |= (plan.mischief[k] != 0 ? 1u : 0u) << k;
    if (!still(h, f, UINT64_MAX, all))
        return;
    uint64_t low = 0, high = f->faults_used;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (still(h, f, middle, all))
            high = middle;
        else
            low = middle + 1;
    }
    f->faults_needed = high;
    f->mischief_needed = all;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++) {
        uint32_t less = f->mischief_needed & ~(1u << k);
        /* Two copies of an identity change who is there: that would be another run. */
        if (less != f->mischief_needed && k != SIM_MISCHIEF_TWIN)
            (void)still(h, f, high, less);
    }
}
