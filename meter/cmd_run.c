/* meter/cmd_run.c - meters that measure: `run`, `fleet`, `replay`, and what `replay` would send
 * (`ids`, `rows`). All three fill a fleet with a source (meter/source.h) and let it run.
 */
#include "base/check.h"
#include "meter/cli.h"
#include "meter/fleet.h"
#include "net/file.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct {
    int64_t meters, seconds, interval_ms, drain_s, batch, connections, keep, seed, backlog, warm_up;
    const char *stats, *log_level, *format, *speed;
    bool quiet, stdin_lines;
} o = {.interval_ms = 1000,
       .drain_s = 30,
       .batch = 1,
       .connections = 2,
       .keep = 1000000,
       .seed = 1,
       .log_level = "warn",
       .speed = "max"};

#define OPTION_STATS                                                                               \
    {                                                                                              \
        .name = "stats", .kind = OPTION_TEXT, .value = &o.stats, .argument = "FILE",               \
        .help = "statistics as JSON, rewritten every second"                                       \
    }
#define OPTION_DRAIN                                                                               \
    {                                                                                              \
        .name = "drain", .kind = OPTION_INT, .value = &o.drain_s, .min = 0, .max = 86400,          \
        .argument = "SECONDS",                                                                     \
        .help = "how long to wait for acknowledgements at the end (default 30)"                    \
    }
#define OPTION_CONNECTIONS                                                                         \
    {                                                                                              \
        .name = "connections", .kind = OPTION_INT, .value = &o.connections, .min = 1, .max = 16,   \
        .argument = "N", .help = "connections to each DC (default 2)"                              \
    }
#define OPTION_KEEP                                                                                \
    {                                                                                              \
        .name = "keep-reports", .kind = OPTION_INT, .value = &o.keep, .min = 1, .max = INT64_MAX,  \
        .argument = "N",                                                                           \
        .help = "acknowledged reports kept per meter, for exports and proofs (default 1000000)"    \
    }
#define OPTION_LOG                                                                                 \
    {                                                                                              \
        .name = "log-level", .kind = OPTION_TEXT, .value = &o.log_level, .argument = "LEVEL",      \
        .help = "debug, info, warn (default) or error"                                             \
    }
#define OPTION_QUIET                                                                               \
    {                                                                                              \
        .name = "quiet", .letter = 'q', .kind = OPTION_FLAG, .value = &o.quiet,                    \
        .help = "no progress on stderr"                                                            \
    }
#define OPTION_SECONDS                                                                             \
    {                                                                                              \
        .name = "seconds", .kind = OPTION_INT, .value = &o.seconds, .min = 0, .max = 1 << 30,      \
        .argument = "S", .help = "how long to measure (default: until Ctrl-C)"                     \
    }
#define OPTION_INTERVAL                                                                            \
    {                                                                                              \
        .name = "interval", .kind = OPTION_INT, .value = &o.interval_ms, .min = 1,                 \
        .max = 86400000, .argument = "MS",                                                         \
        .help = "time of the wall between two reports of a meter (default 1000)"                   \
    }
#define OPTION_SEED                                                                                \
    {                                                                                              \
        .name = "seed", .kind = OPTION_INT, .value = &o.seed, .min = 0, .max = INT64_MAX,          \
        .argument = "N", .help = "of the built-in profile (default 1)"                             \
    }

static const struct option_spec run_options[] = {
    CLI_OPTION_GENESIS,
    CLI_OPTION_DIR,
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &cli_common.id,
     .argument = "ID",
     .help = "the meter",
     .required = true},
    {.name = "stdin",
     .kind = OPTION_FLAG,
     .value = &o.stdin_lines,
     .help = "readings from standard input, TIME,VALUE[,OBIS[,UNIT[,INTERVAL_S]]] a line, instead "
             "of the built-in profile"},
    OPTION_INTERVAL,
    OPTION_SECONDS,
    OPTION_DRAIN,
    OPTION_SEED,
    OPTION_STATS,
    OPTION_KEEP,
    OPTION_LOG,
    OPTION_QUIET,
    CLI_OPTION_MAP,
    {0},
};

static const struct option_spec fleet_options[] = {
    CLI_OPTION_GENESIS,
    CLI_OPTION_DIR,
    {.name = "meters",
     .kind = OPTION_INT,
     .value = &o.meters,
     .min = 0,
     .max = 10000000,
     .argument = "N",
     .help = "only the first N enrolled meters (default all)"},
    OPTION_INTERVAL,
    {.name = "batch",
     .kind = OPTION_INT,
     .value = &o.batch,
     .min = 1,
     .max = AMI_REPORT_READINGS_MAX,
     .argument = "N",
     .help = "half hours in one report (default 1)"},
    {.name = "backlog",
     .kind = OPTION_INT,
     .value = &o.backlog,
     .min = 1,
     .max = 1000000,
     .argument = "N",
     .help = "a meter with N unacknowledged reports waits before it measures again (default: it "
             "never waits)"},
    {.name = "warm-up",
     .kind = OPTION_INT,
     .value = &o.warm_up,
     .min = 0,
     .max = 86400,
     .argument = "S",
     .help = "leave the first S seconds out of this run's statistics"},
    OPTION_SECONDS,
    OPTION_DRAIN,
    OPTION_SEED,
    OPTION_STATS,
    OPTION_CONNECTIONS,
    OPTION_KEEP,
    OPTION_LOG,
    OPTION_QUIET,
    CLI_OPTION_MAP,
    {0},
};

static int64_t replay_batch = 48;

#define OPTION_FORMAT                                                                              \
    {                                                                                              \
        .name = "format", .letter = 'f', .kind = OPTION_TEXT, .value = &o.format,                  \
        .argument = "NAME",                                                                        \
        .help = "layout of the files: london, uci, ausgrid or uk (default: by their header)"       \
    }
#define OPTION_FILE_ID                                                                             \
    {                                                                                              \
        .name = "id", .kind = OPTION_TEXT, .value = &cli_common.id, .argument = "ID",              \
        .help = "the meter of a file without an id column (default: the file's name)"              \
    }

static const struct option_spec replay_options[] = {
    CLI_OPTION_GENESIS,
    CLI_OPTION_DIR,
    OPTION_FORMAT,
    OPTION_FILE_ID,
    {.name = "speed",
     .kind = OPTION_TEXT,
     .value = &o.speed,
     .argument = "X",
     .help = "X times faster than real time; 0 or max: as fast as possible (default)"},
    {.name = "batch",
     .kind = OPTION_INT,
     .value = &replay_batch,
     .min = 1,
     .max = AMI_REPORT_READINGS_MAX,
     .argument = "N",
     .help = "rows in one report (default 48: a day of half hours)"},
    OPTION_DRAIN,
    OPTION_STATS,
    OPTION_CONNECTIONS,
    OPTION_KEEP,
    OPTION_LOG,
    OPTION_QUIET,
    CLI_OPTION_MAP,
    {0},
};

static const struct option_spec list_options[] = {
    OPTION_FORMAT,
    OPTION_FILE_ID,
    {0},
};

/* --- what all three share -------------------------------------------------------------------- */

struct setup {
    struct genesis *genesis;
    struct meter_store *store;
    struct fleet *fleet;
    struct log_sink *log;
};

static enum ami_status setup_open(struct setup *s, struct fleet_config *config, struct why *why)
{
    enum env_log_level level;
    if (log_level_parse(o.log_level, &level) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT, "--log-level %.40s: it is debug, info, warn or error",
                       o.log_level);
    s->log = log_open(stderr, level, 0);
    if (s->log == NULL)
        return AMI_NO_MEMORY;
    AMI_TRY(cli_genesis(&s->genesis, why));
    genesis_remember_signers(s->genesis);
    AMI_TRY(cli_store(&s->store, METER_STORE_WRITE, s->genesis, why));
    config->genesis = s->genesis;
    config->store = s->store;
    config->connections = (unsigned)o.connections;
    config->keep = (uint64_t)o.keep;
    config->backlog = (uint32_t)o.backlog;
    config->warm_up_ms = (uint64_t)o.warm_up * 1000u;
    config->measure_ms = (uint64_t)o.seconds * 1000u;
    config->drain_ms = (uint64_t)o.drain_s * 1000u;
    config->stats_path = o.stats;
    config->quiet = o.quiet;
    config->log = s->log;
    return fleet_new(&s->fleet, config, why);
}

static void setup_close(struct setup *s)
{
    fleet_free(s->fleet);
    meter_store_close(s->store);
    log_close(s->log);
    free(s->genesis);
}

static enum ami_status run_profile(struct setup *s, size_t batch, struct why *why)
{
    struct profile_source profile;
    size_t count = fleet_count(s->fleet);
    AMI_TRY(profile_source_init(&profile, count, (uint64_t)o.seed, (uint64_t)o.interval_ms * 1000u,
                                batch));
    uint64_t now = clock_mono_us();
    for (size_t i = 0; i < count; i++)
        profile_source_meter(&profile, i, fleet_name(s->fleet, i),
                             fleet_state(s->fleet, i)->profile_next, now);
    enum ami_status status = fleet_run(s->fleet, &profile.source, why);
    profile_source_free(&profile);
    return status;
}

/* Reports that stay unacknowledged are a failed check; 3 is for a network that nobody reached. */
static int finish(enum ami_status status, const struct why *why)
{
    if (status == AMI_TIMEOUT) {
        cli_fail(status, why);
        return EXIT_STATUS_FAILED;
    }
    return status == AMI_OK ? EXIT_STATUS_OK : cli_fail(status, why);
}

/* --- run ------------------------------------------------------------------------------------- */

/* A thread waits for lines, because a terminal or a pipe may keep it waiting for ever; the loop
 * takes one line at a time. */
struct line_reader {
    struct fleet *fleet;
    struct line_source source;
    struct loop_task task;
    pthread_mutex_t lock;
    pthread_cond_t taken;
    char *line;
    size_t capacity;
    ssize_t size; /* -1: the end */
    bool full;    /* a line waits for the loop */
    uint64_t number;
};

static void line_arrived(void *arg)
{
    struct line_reader *r = arg;
    if (r->source.has_line) {
        /* The one before has not found its way into the outbox yet. */
        fleet_poke(r->fleet);
        if (r->source.has_line) {
            loop_post(fleet_loop(r->fleet), &r->task);
            return;
        }
    }
    pthread_mutex_lock(&r->lock);
    struct why reason = {{0}}, why = {{0}};
    enum ami_status status = AMI_OK;
    bool ended = r->full && r->size < 0;
    bool got = r->full && r->size >= 0;
    if (got) {
        r->number++;
        size_t size = (size_t)r->size;
        while (size > 0 && (r->line[size - 1] == '\n' || r->line[size - 1] == '\r'))
            size--;
        status = line_source_parse(&r->source.reading, r->line, size, &reason);
    }
    r->full = false;
    pthread_cond_signal(&r->taken);
    pthread_mutex_unlock(&r->lock);
    if (status != AMI_OK) {
        why_set(&why, status, "stdin:%" PRIu64 ": %s; the lines before it were taken", r->number,
                reason.text);
        fleet_stop_measuring(r->fleet, &why);
        return;
    }
    r->source.has_line = got;
    r->source.ended = r->source.ended || ended;
    fleet_poke(r->fleet);
}

static void *read_lines(void *arg)
{
    struct line_reader *r = arg;
    char *line = NULL;
    size_t capacity = 0;
    for (;;) {
        ssize_t size = getline(&line, &capacity, stdin);
        pthread_mutex_lock(&r->lock);
        while (r->full)
            pthread_cond_wait(&r->taken, &r->lock);
        char *swap = r->line;
        r->line = line;
        line = swap;
        size_t swap_capacity = r->capacity;
        r->capacity = capacity;
        capacity = swap_capacity;
        r->size = size;
        r->full = true;
        pthread_mutex_unlock(&r->lock);
        loop_post(fleet_loop(r->fleet), &r->task);
        if (size < 0)
            break;
    }
    free(line);
    return NULL;
}

/* The thread may still wait for a line when the run is over: what it uses lives as long as the
 * process. */
static struct line_reader reader;

static enum ami_status run_lines(struct setup *s, struct why *why)
{
    pthread_t thread;
    reader.fleet = s->fleet;
    line_source_init(&reader.source);
    reader.task = (struct loop_task){.run = line_arrived, .arg = &reader};
    pthread_mutex_init(&reader.lock, NULL);
    pthread_cond_init(&reader.taken, NULL);
    if (pthread_create(&thread, NULL, read_lines, &reader) != 0)
        return why_set(why, AMI_NO_MEMORY, "no thread can be had to read standard input");
    pthread_detach(thread);
    return fleet_run(s->fleet, &reader.source.source, why);
}

static int run_run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {{0}};
    struct ami_id id;
    struct setup s = {0};
    struct fleet_config config = {.mode = "run", .names = &id, .name_count = 1};
    o.connections = 1;
    enum ami_status status = cli_id(&id, cli_common.id, &why);
    if (status == AMI_OK)
        status = setup_open(&s, &config, &why);
    if (status == AMI_OK)
        status = o.stdin_lines ? run_lines(&s, &why) : run_profile(&s, 1, &why);
    int code = finish(status, &why);
    if (o.stdin_lines && s.fleet != NULL)
        exit(code); /* the reading thread may hold on to the fleet's loop */
    setup_close(&s);
    return code;
}

/* --- fleet ----------------------------------------------------------------------------------- */

static int run_fleet(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {{0}};
    struct setup s = {0};
    struct fleet_config config = {.mode = "fleet", .meters_max = (size_t)o.meters};
    enum ami_status status = setup_open(&s, &config, &why);
    if (status == AMI_OK)
        status = run_profile(&s, (size_t)o.batch, &why);
    setup_close(&s);
    return finish(status, &why);
}

/* --- files ----------------------------------------------------------------------------------- */

struct files {
    struct import **file;
    size_t count;
    size_t meters;
};

static void files_close(struct files *f)
{
    for (size_t i = 0; i < f->count; i++)
        import_free(f->file[i]);
    free(f->file);
}

/* Reads and checks every file before anything else happens. */
static enum ami_status files_open(struct files *f, int argc, char **argv, struct why *why)
{
    f->file = calloc((size_t)argc + 1, sizeof(struct import *));
    if (f->file == NULL)
        return AMI_NO_MEMORY;
    if (cli_common.id != NULL && argc > 1)
        return why_set(why, AMI_BAD_ARGUMENT, "--id names the meter of one file, not of %d", argc);
    for (int i = 0; i < argc; i++) {
        AMI_TRY(import_open(&f->file[f->count], argv[i], o.format, cli_common.id, why));
        f->meters += f->file[f->count]->meter_count;
        f->count++;
    }
    return AMI_OK;
}

/* One meter of one file. */
struct file_meter {
    struct ami_id id;
    size_t file, place;
};

static int by_id(const void *a, const void *b)
{
    const struct file_meter *x = a, *y = b;
    return ami_id_compare(&x->id, &y->id);
}

/* In order of names; *out is to be freed. AMI_BAD_ARGUMENT when two files name the same meter. */
static enum ami_status files_meters(const struct files *f, char **argv, struct file_meter **out,
                                    struct why *why)
{
    struct file_meter *list = calloc(f->meters + 1, sizeof *list);
    size_t n = 0;
    if (list == NULL)
        return AMI_NO_MEMORY;
    for (size_t i = 0; i < f->count; i++)
        for (size_t k = 0; k < f->file[i]->meter_count; k++)
            list[n++] = (struct file_meter){f->file[i]->meters[k].id, i, k};
    qsort(list, n, sizeof *list, by_id);
    for (size_t i = 1; i < n; i++)
        if (ami_id_equal(&list[i - 1].id, &list[i].id)) {
            enum ami_status status =
                why_set(why, AMI_BAD_ARGUMENT,
                        "%s and %s both hold rows of meter %s; replay them one after the other",
                        argv[list[i - 1].file], argv[list[i].file], list[i].id.text);
            free(list);
            return status;
        }
    *out = list;
    return AMI_OK;
}

static enum ami_status speed_parse(double *out, struct why *why)
{
    char *end;
    *out = 0;
    if (strcmp(o.speed, "max") == 0)
        return AMI_OK;
    errno = 0;
    *out = strtod(o.speed, &end);
    if (end == o.speed || *end != '\0' || errno != 0 || !(*out >= 0 && *out <= 1e9))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--speed %.40s: expected a number from 0 to 1e9, or max", o.speed);
    return AMI_OK;
}

static enum ami_status replay_fill(struct replay_source *source, const struct setup *s,
                                   const struct files *files, const struct file_meter *list,
                                   uint64_t *before, struct why *why)
{
    for (size_t i = 0; i < files->meters; i++) {
        /* Both lists are in order of names, and fleet_new has found every name. */
        AMI_CHECK(ami_id_equal(&list[i].id, fleet_name(s->fleet, i)));
        const struct import *file = files->file[list[i].file];
        uint64_t next;
        enum ami_status status = meter_store_source(s->store, &list[i].id, fleet_epoch(s->fleet, i),
                                                    &file->digest, &next);
        if (status != AMI_OK)
            return why_set(why, status, "%s: the position of meter %s cannot be read: %s",
                           cli_common.dir, list[i].id.text, ami_status_text(status));
        *before += next;
        replay_source_meter(source, i, file, list[i].place, (size_t)next);
    }
    replay_source_start(source, clock_mono_us());
    return AMI_OK;
}

static enum ami_status replay(struct setup *s, struct files *files, const struct file_meter *list,
                              double speed, struct why *why)
{
    struct ami_id *names = calloc(files->meters + 1, sizeof *names);
    if (names == NULL)
        return AMI_NO_MEMORY;
    for (size_t i = 0; i < files->meters; i++)
        names[i] = list[i].id;
    struct fleet_config config = {.mode = "replay", .names = names, .name_count = files->meters};
    struct replay_source source = {0};
    uint64_t before = 0;
    enum ami_status status = setup_open(s, &config, why);
    if (status == AMI_OK)
        status = replay_source_init(&source, files->meters, speed, (size_t)replay_batch);
    if (status == AMI_OK)
        status = replay_fill(&source, s, files, list, &before, why);
    if (status == AMI_OK && before != 0 && !o.quiet)
        fprintf(stderr,
                PROGRAM ": %" PRIu64 " rows were taken by an earlier run; it goes on "
                        "behind them\n",
                before);
    if (status == AMI_OK)
        status = fleet_run(s->fleet, &source.source, why);
    replay_source_free(&source);
    free(names);
    return status;
}

static int run_replay(int argc, char **argv, void *ctx)
{
    (void)ctx;
    struct why why = {{0}};
    struct files files = {0};
    struct file_meter *list = NULL;
    struct setup s = {0};
    double speed = 0;
    enum ami_status status = speed_parse(&speed, &why);
    if (status == AMI_OK)
        status = files_open(&files, argc, argv, &why);
    if (status == AMI_OK)
        status = files_meters(&files, argv, &list, &why);
    if (status == AMI_OK)
        status = replay(&s, &files, list, speed, &why);
    setup_close(&s);
    files_close(&files);
    free(list);
    return finish(status, &why);
}

static int list_files(int argc, char **argv, bool rows)
{
    struct why why = {{0}};
    struct files files = {0};
    struct file_meter *list = NULL;
    enum ami_status status = files_open(&files, argc, argv, &why);
    if (status == AMI_OK)
        status = files_meters(&files, argv, &list, &why);
    for (size_t i = 0; status == AMI_OK && i < files.meters; i++) {
        const struct import *file = files.file[list[i].file];
        if (rows)
            printf("%s %zu\n", list[i].id.text,
                   file->meters[list[i].place].count * file->registers);
        else
            puts(list[i].id.text);
    }
    if (status == AMI_OK)
        status = cli_stdout_done(&why);
    files_close(&files);
    free(list);
    return finish(status, &why);
}

static int run_ids(int argc, char **argv, void *ctx)
{
    (void)ctx;
    return list_files(argc, argv, false);
}

static int run_rows(int argc, char **argv, void *ctx)
{
    (void)ctx;
    return list_files(argc, argv, true);
}

const struct command_spec COMMAND_RUN = {
    .name = "run",
    .summary = "one meter, on the built-in profile or on readings from standard input",
    .example = "ami-meter run --genesis genesis.json --dir meter --id meter-17 --interval 5000\n"
               "echo 2026-01-31T12:00:00Z,0.25 | ami-meter run --genesis genesis.json --dir meter "
               "--id meter-17 --stdin",
    .options = run_options,
    .run = run_run,
};

const struct command_spec COMMAND_FLEET = {
    .name = "fleet",
    .summary = "all meters of a directory in one process, on the built-in household profile",
    .example = "ami-meter fleet --genesis genesis.json --dir fleet --seconds 30 --stats fleet.json",
    .options = fleet_options,
    .run = run_fleet,
};

const struct command_spec COMMAND_REPLAY = {
    .name = "replay",
    .arguments = "FILE...",
    .arguments_min = 1,
    .arguments_max = 1000,
    .summary = "meters that measure what load profiles from files say",
    .example = "ami-meter replay london.csv --genesis genesis.json --dir fleet --speed 100000",
    .options = replay_options,
    .run = run_replay,
};

const struct command_spec COMMAND_IDS = {
    .name = "ids",
    .arguments = "FILE...",
    .arguments_min = 1,
    .arguments_max = 1000,
    .summary = "the meters of load profiles, one a line: to make install codes for",
    .example = "ami-meter ids london.csv | ami-mdms codes --dir mdms --meter --ids-file - --out "
               "codes.csv",
    .options = list_options,
    .run = run_ids,
};

const struct command_spec COMMAND_ROWS = {
    .name = "rows",
    .arguments = "FILE...",
    .arguments_min = 1,
    .arguments_max = 1000,
    .summary = "the meters of load profiles with the number of their readings",
    .example = "ami-meter rows london.csv",
    .options = list_options,
    .run = run_rows,
};
