/* oracle-long: the SM2 engine against OpenSSL and libgcrypt, on every code path.
 *
 * Cases come in chunks. For each chunk the oracle computes all results once, in several threads;
 * then every path does the chunk in batches of changing size. What the oracle can only judge (a
 * signature with a hedged nonce) is judged for the first path, and the others have to repeat it.
 * Input goes in by the command line alone, results come out on standard output.
 */
#include "oracle_long.h"

#include "crypto/secret.h"
#include "crypto/sm2_path.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS_MAX      64
#define PATHS_MAX        8
#define SHOWN_MAX        3 /* mismatches of one operation that are printed in full */
#define PROGRESS_SECONDS 10

struct options {
    uint64_t cases, first, seed;
    unsigned threads;
    const char *path, *operation;
};

struct run {
    struct options options;
    const char *name[PATHS_MAX];
    const struct sm2_path *path[PATHS_MAX];
    size_t paths;
    struct oracle oracle[THREADS_MAX];
    struct material material;
    struct chunk chunk;
    uint64_t cases, good, mismatches;
};

_Noreturn void oracle_die(const char *why)
{
    fflush(stdout);
    fprintf(stderr, "oracle-long: %s\n", why);
    exit(1);
}

/* --- what is printed -------------------------------------------------------------------------- */

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool all_zero(const void *data, size_t size)
{
    const uint8_t *b = data;
    for (size_t i = 0; i < size; i++)
        if (b[i] != 0)
            return false;
    return true;
}

static void print_bytes(const char *name, const void *data, size_t size)
{
    char hex[2 * sizeof(struct input) + 1];
    if (all_zero(data, size))
        return;
    hex_encode(hex, data, size);
    printf("  %-10s %s\n", name, hex);
}

/* As big-endian numbers, the way they are written elsewhere. */
static void print_scalar(const char *name, const scalar *k)
{
    uint8_t b[SM2_SCALAR_BYTES];
    openssl_scalar_bytes(b, k);
    print_bytes(name, b, sizeof b);
}

static void print_point(const char *name, const point *p)
{
    uint8_t xy[SM2_XY_BYTES];
    openssl_xy(xy, p);
    print_bytes(name, xy, sizeof xy);
}

static void print_input(const struct chunk *c, size_t i)
{
    const struct input *in = &c->in[i];
    print_scalar("shared d", &c->d);
    print_point("shared P", &c->p);
    print_scalar("a", &in->a);
    print_scalar("b", &in->b);
    print_point("P", &in->p);
    print_point("Q", &in->q);
    print_point("R_A", &in->r_a);
    print_point("R_B", &in->r_b);
    print_bytes("e", &in->e, sizeof in->e);
    print_bytes("h", &in->h, sizeof in->h);
    print_bytes("r, s", &in->sig, sizeof in->sig);
    print_bytes("encoded", &in->encoded, sizeof in->encoded);
    print_bytes("random", in->random, sizeof in->random);
    printf("  initiator  %" PRIu64 "\n", in->initiator);
}

struct batch {
    const char *path;
    size_t at, size;
};

/* `expected` NULL: there is no one right result, but this is none of them. */
static void report(struct run *r, const struct operation *op, size_t i, const struct batch *batch,
                   const struct result *got, const struct result *expected)
{
    const uint64_t first = r->chunk.number * CHUNK;
    if (r->mismatches++ >= SHOWN_MAX)
        return;
    printf("MISMATCH %s, case %" PRIu64 ", path %s, place %zu in a batch of %zu\n", op->name,
           first + i, batch->path, i - batch->at, batch->size);
    printf("  again: oracle-long --seed %" PRIu64 " --operation %s --first %" PRIu64
           " --cases %zu\n",
           r->options.seed, op->name, first, r->chunk.count);
    print_input(&r->chunk, i);
    printf("  got        ok %" PRIu64 "\n", got->ok);
    print_bytes("got", got->bytes, sizeof got->bytes);
    if (expected != NULL) {
        printf("  expected   ok %" PRIu64 "\n", expected->ok);
        print_bytes("expected", expected->bytes, sizeof expected->bytes);
    }
    fflush(stdout);
}

/* --- the oracle's part ------------------------------------------------------------------------ */

struct work {
    struct oracle *oracle;
    const struct operation *op;
    struct chunk *chunk;
    bool *wrong; /* what op->judge refuses */
    size_t from, step;
};

static void *work(void *arg)
{
    struct work *w = arg;
    for (size_t i = w->from; i < w->chunk->count; i += w->step) {
        struct result *out = &w->chunk->expected[i];
        if (w->op->expect != NULL)
            w->op->expect(w->oracle, w->chunk, i, out);
        else
            w->wrong[i] = !w->op->judge(w->oracle, w->chunk, i, out);
    }
    return NULL;
}

/* Fills in the expected results, or judges those that are there. */
static void ask_oracle(struct run *r, const struct operation *op, bool wrong[CHUNK])
{
    pthread_t thread[THREADS_MAX];
    struct work w[THREADS_MAX];
    const unsigned threads = r->options.threads;
    for (unsigned i = 0; i < threads; i++) {
        w[i] = (struct work){&r->oracle[i], op, &r->chunk, wrong, i, threads};
        if (pthread_create(&thread[i], NULL, work, &w[i]) != 0)
            oracle_die("a thread cannot be started");
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
}

/* --- the library's part ----------------------------------------------------------------------- */

static void use_path(struct run *r, const struct operation *op, size_t path)
{
    const struct pairs *known = &r->material.known;
    sm2_signers_forget();
    if (!sm2_path_use(r->path[path]))
        oracle_die("out of memory");
    for (size_t i = 0; op->remember && i < known->count; i++)
        if (sm2_signer_remember(&known->p[i]) != AMI_OK)
            oracle_die("a signer cannot be remembered");
}

/* Batches of the usual sizes in any order, and now and then all the rest at once. */
static size_t next_size(struct seeded *s, size_t left)
{
    size_t at = seeded_below(s, BATCH_SIZES + 2);
    size_t size = at < BATCH_SIZES ? batch_sizes[at] : CHUNK;
    return size < left ? size : left;
}

/* With fill, results become the expected ones; else they are compared. */
static void run_chunk(struct run *r, const struct operation *op, size_t path, bool fill)
{
    static struct result got[CHUNK];
    struct chunk *c = &r->chunk;
    struct seeded s = {r->options.seed ^ c->number << 8 ^ path};
    for (size_t at = 0, size; at < c->count; at += size) {
        size = next_size(&s, c->count - at);
        /* Chunks of all kinds (see verify_make) in one piece, too. */
        size = c->number / 3 % 2 == 0 ? c->count : size;
        memset(got, 0, size * sizeof got[0]);
        op->run(c, c->in + at, got, size);
        const struct batch batch = {r->name[path], at, size};
        for (size_t i = 0; i < size; i++)
            if (fill)
                c->expected[at + i] = got[i];
            else if (memcmp(&got[i], &c->expected[at + i], sizeof got[i]) != 0)
                report(r, op, at + i, &batch, &got[i], &c->expected[at + i]);
    }
}

static void judge_first_path(struct run *r, const struct operation *op)
{
    bool wrong[CHUNK] = {false};
    const struct batch batch = {r->name[0], 0, r->chunk.count};
    use_path(r, op, 0);
    run_chunk(r, op, 0, true);
    ask_oracle(r, op, wrong);
    for (size_t i = 0; i < r->chunk.count; i++)
        if (wrong[i])
            report(r, op, i, &batch, &r->chunk.expected[i], NULL);
}

static void do_chunk(struct run *r, const struct operation *op)
{
    struct chunk *c = &r->chunk;
    chunk_make(c, op, &r->oracle[0], r->options.seed);
    memset(c->expected, 0, sizeof c->expected);
    if (op->judge != NULL)
        judge_first_path(r, op);
    else
        ask_oracle(r, op, NULL);
    /* A judged path runs again: in the same batches, with the same results. */
    for (size_t i = 0; i < r->paths; i++) {
        use_path(r, op, i);
        run_chunk(r, op, i, false);
    }
    r->cases += c->count;
    for (size_t i = 0; i < c->count; i++)
        r->good += c->expected[i].ok != 0;
}

/* True when all agree, and when both answers came where they have to. */
static bool do_operation(struct run *r, const struct operation *op)
{
    const double start = seconds_now();
    double shown = start;
    uint64_t left = r->options.cases;
    r->cases = r->good = r->mismatches = 0;
    r->chunk.material = &r->material;
    for (r->chunk.number = r->options.first / CHUNK; left > 0; r->chunk.number++) {
        r->chunk.count = left < CHUNK ? (size_t)left : CHUNK;
        do_chunk(r, op);
        left -= r->chunk.count;
        if (left > 0 && seconds_now() - shown > PROGRESS_SECONDS) {
            shown = seconds_now();
            printf("  %s: %" PRIu64 " of %" PRIu64 " cases, %" PRIu64 " mismatches, %.0f s\n",
                   op->name, r->cases, r->options.cases, r->mismatches, shown - start);
            fflush(stdout);
        }
    }
    printf("%-16s %8" PRIu64 " cases %8" PRIu64 " good %5" PRIu64 " mismatches %7.1f s\n", op->name,
           r->cases, r->good, r->mismatches, seconds_now() - start);
    fflush(stdout);
    if (op->answers && r->cases >= 4 * CHUNK && (r->good < r->cases / 4 || r->good == r->cases)) {
        printf("%s: both answers have to come, so these inputs test nothing\n", op->name);
        return false;
    }
    return r->mismatches == 0;
}

/* --- start ------------------------------------------------------------------------------------ */

static void usage(FILE *out)
{
    fprintf(out,
            "Usage: oracle-long [OPTION...]\n"
            "\n"
            "Compares the SM2 engine with OpenSSL and libgcrypt on random and edge inputs, on\n"
            "every code path that this processor has. Exits with 1 on a mismatch, whose inputs\n"
            "it prints in hex.\n"
            "\n"
            "  --cases N         cases of each operation (10000). The long run has 1000000 and\n"
            "                    takes about two hours: 10000 of everything take one core a\n"
            "                    minute, one and a half with sanitizers\n"
            "  --seed S          repeats a run (a random one, printed at the start)\n"
            "  --path P          one path only: portable, adx or ifma\n"
            "  --operation NAME  one operation only\n"
            "  --first I         starts with case I, rounded down to a multiple of %d\n"
            "  --threads T       threads that compute expected results (2)\n"
            "  --help            this text\n"
            "\n"
            "Operations:\n",
            CHUNK);
    for (size_t i = 0; i < operation_count; i++)
        fprintf(out, "  %-16s %s\n", operations[i].name, operations[i].text);
    fprintf(out, "\nExample:\n  oracle-long --cases 1000000 --operation verify_known\n");
}

static uint64_t number_of(const char *name, const char *text, uint64_t most)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != 0 || v > most) {
        fprintf(stderr, "oracle-long: --%s takes a number up to %" PRIu64 ", not %s\n", name, most,
                text);
        exit(2);
    }
    return v;
}

static struct options options_of(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"cases", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, 's'},
        {"path", required_argument, NULL, 'p'},  {"operation", required_argument, NULL, 'o'},
        {"first", required_argument, NULL, 'f'}, {"threads", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    struct options out = {.cases = 10000, .threads = 2};
    int option;
    secret_random(&out.seed, sizeof out.seed);
    while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
        switch (option) {
        case 'c':
            out.cases = number_of("cases", optarg, UINT64_C(1) << 40);
            break;
        case 's':
            out.seed = number_of("seed", optarg, UINT64_MAX);
            break;
        case 'p':
            out.path = optarg;
            break;
        case 'o':
            out.operation = optarg;
            break;
        case 'f':
            out.first = number_of("first", optarg, UINT64_C(1) << 40);
            break;
        case 't':
            out.threads = (unsigned)number_of("threads", optarg, THREADS_MAX);
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    if (optind < argc || out.threads == 0) {
        usage(stderr);
        exit(2);
    }
    return out;
}

static void find_paths(struct run *r)
{
    for (size_t i = 0; sm2_path_names[i] != NULL; i++) {
        const char *name = sm2_path_names[i];
        const struct sm2_path *path = sm2_path_named(name);
        if (r->options.path != NULL && strcmp(name, r->options.path) != 0)
            continue;
        printf("path %s%s\n", name, path == NULL ? ": skipped, this processor lacks it" : "");
        if (path == NULL)
            continue;
        if (r->paths == PATHS_MAX)
            oracle_die("there are too many paths");
        r->name[r->paths] = name;
        r->path[r->paths++] = path;
    }
    if (r->paths == 0)
        oracle_die("there is no such path");
}

static void start_oracles(struct run *r)
{
    for (unsigned i = 0; i < r->options.threads; i++) {
        openssl_group_start(&r->oracle[i].openssl);
        if (gcry_mpi_ec_new(&r->oracle[i].gcrypt, NULL, "sm2p256v1") != 0)
            oracle_die("libgcrypt has no sm2p256v1");
    }
}

static void end_oracles(struct run *r)
{
    for (unsigned i = 0; i < r->options.threads; i++) {
        openssl_group_end(&r->oracle[i].openssl);
        gcry_ctx_release(r->oracle[i].gcrypt);
    }
}

int main(int argc, char **argv)
{
    static struct run r;
    size_t done = 0, failed = 0;
    if (crypto_start() != AMI_OK)
        oracle_die("crypto_start fails");
    r.options = options_of(argc, argv);
    printf("seed %" PRIu64 "\n", r.options.seed);
    find_paths(&r);
    start_oracles(&r);
    material_make(&r.material, &r.oracle[0], r.options.seed);
    for (size_t i = 0; i < operation_count; i++)
        if (r.options.operation == NULL || strcmp(operations[i].name, r.options.operation) == 0) {
            done++;
            failed += !do_operation(&r, &operations[i]);
        }
    sm2_signers_forget();
    end_oracles(&r);
    if (done == 0)
        oracle_die("there is no such operation");
    if (failed > 0)
        printf("%zu of %zu operations FAILED\n", failed, done);
    else
        printf("%zu operations agree with the oracle\n", done);
    return failed > 0;
}
