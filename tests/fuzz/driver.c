/* tests/fuzz/driver.c - runs a fuzz target without libFuzzer.
 *
 *   fuzz-NAME [-seed=N] [-runs=N] [-max_total_time=SECONDS] [FILE...]
 *
 * With files: runs each once (to look at a saved input again). Otherwise it feeds the target its
 * own seeds, mutated seeds and random bytes from a seeded generator until either bound is reached:
 * the same seed gives the same inputs in the same order. An input that makes the target abort is
 * saved as crash-NAME in the directory of the program.
 */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INPUT_BYTES_MAX (1u << 20)

__attribute__((weak)) size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    (void)index;
    (void)out;
    (void)capacity;
    return 0;
}

/* In sanitizer builds only. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

/* The input at work: the target gets a copy in a block of exactly its size, so that
 * AddressSanitizer sees a read of one byte too many. */
static uint8_t *input;
static size_t input_size;
static char crash_path[4096];

/* Only calls that are safe in a signal handler. */
static void save_input(void)
{
    static const char said[] = "fuzz: the input was saved as ";
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, input, input_size) != (ssize_t)input_size ||
        write(STDERR_FILENO, said, sizeof said - 1) < 0 ||
        write(STDERR_FILENO, crash_path, strlen(crash_path)) < 0 ||
        write(STDERR_FILENO, "\n", 1) < 0)
        _exit(70);
    close(fd);
}

static void on_abort(int sig)
{
    save_input();
    signal(sig, SIG_DFL);
    raise(sig);
}

static uint64_t rng_state;

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return (size_t)(rng() % n);
}

/* One change of the kinds that break decoders: bits, borders of integers, lost and added bytes,
 * pieces moved about. Returns the new size. */
static size_t mutate(uint8_t *b, size_t size, size_t capacity)
{
    static const uint8_t borders[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff};
    size_t at = size == 0 ? 0 : below(size);
    size_t left = size - at;
    switch (below(7)) {
    case 0:
        if (size != 0)
            b[at] ^= (uint8_t)(1u << below(8));
        return size;
    case 1:
        if (size != 0)
            b[at] = borders[below(sizeof borders)];
        return size;
    case 2: /* a run of one border value: counts and lengths at their ends */
        if (size != 0)
            memset(b + at, borders[below(sizeof borders)], 1 + below(left < 8 ? left : 8));
        return size;
    case 3:
        return at; /* cut off */
    case 4: {      /* lose some */
        size_t lost = left == 0 ? 0 : 1 + below(left < 64 ? left : 64);
        memmove(b + at, b + at + lost, left - lost);
        return size - lost;
    }
    case 5: { /* add some */
        size_t added = 1 + below(64);
        if (added > capacity - size)
            return size;
        memmove(b + at + added, b + at, left);
        for (size_t i = 0; i < added; i++)
            b[at + i] = (uint8_t)rng();
        return size + added;
    }
    default: { /* repeat a piece elsewhere */
        size_t piece = left == 0 ? 0 : 1 + below(left < 64 ? left : 64);
        size_t to = size - piece == 0 ? 0 : below(size - piece);
        memmove(b + to, b + at, piece);
        return size;
    }
    }
}

static void run_one(void)
{
    uint8_t *exact = malloc(input_size == 0 ? 1 : input_size);
    if (exact == NULL)
        abort();
    memcpy(exact, input, input_size);
    if (LLVMFuzzerTestOneInput(exact, input_size) != 0)
        abort();
    free(exact);
}

static void make_input(uint64_t run)
{
    /* The first inputs are the seeds as they are; later every eighth is plain noise. */
    bool noise = run >= 256 && run % 8 == 0;
    input_size = noise ? 0 : fuzz_seed(run < 256 ? run : rng(), input, INPUT_BYTES_MAX);
    if (input_size == 0) {
        input_size = below(below(2) == 0 ? 16 : 600);
        for (size_t i = 0; i < input_size; i++)
            input[i] = (uint8_t)rng();
    } else if (run >= 256) {
        for (size_t changes = 1 + below(4); changes > 0; changes--)
            input_size = mutate(input, input_size, INPUT_BYTES_MAX);
    }
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    input_size = fread(input, 1, INPUT_BYTES_MAX, f);
    fclose(f);
    run_one();
    printf("%s: %zu bytes, no failure\n", path, input_size);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, runs_max = 200000;
    double seconds_max = 1.0;
    int files = 0, failed = 0;
    snprintf(crash_path, sizeof crash_path, "%s", argv[0]);
    char *slash = strrchr(crash_path, '/');
    char *name = slash == NULL ? crash_path : slash + 1;
    const char *program = strrchr(argv[0], '/');
    program = program == NULL ? argv[0] : program + 1;
    snprintf(name, sizeof crash_path - (size_t)(name - crash_path), "crash-%s", program);

    input = malloc(INPUT_BYTES_MAX);
    if (input == NULL)
        return 1;
    signal(SIGABRT, on_abort);
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(save_input);

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-seed=", 6) == 0) {
            seed = strtoull(argv[i] + 6, NULL, 10);
        } else if (strncmp(argv[i], "-runs=", 6) == 0) {
            runs_max = strtoull(argv[i] + 6, NULL, 10);
        } else if (strncmp(argv[i], "-max_total_time=", 16) == 0) {
            seconds_max = strtod(argv[i] + 16, NULL);
        } else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: %s [-seed=N] [-runs=N] [-max_total_time=SECONDS] [FILE...]\n",
                    program);
            free(input);
            return 2;
        } else {
            files++;
            failed |= run_file(argv[i]);
        }
    }
    uint64_t runs = 0;
    if (files == 0) {
        rng_state = seed;
        for (double end = now_s() + seconds_max; runs < runs_max && now_s() < end; runs++) {
            make_input(runs);
            run_one();
        }
        printf("%s: %llu inputs from seed %llu, no failure\n", program, (unsigned long long)runs,
               (unsigned long long)seed);
    }
    free(input);
    return failed != 0 || (files == 0 && runs == 0);
}
