#include "bench/city.h"

#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum ami_status city_make(struct city *c, size_t count)
{
    *c = (struct city){.count = count,
                       .name = calloc(count, sizeof *c->name),
                       .order = calloc(count, sizeof *c->order),
                       .random = 1};
    if (c->name == NULL || c->order == NULL)
        return AMI_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        char text[AMI_ID_BYTES_MAX];
        snprintf(text, sizeof text, "meter-%06zu", i);
        AMI_TRY(ami_id_from_text(&c->name[i], text));
        c->order[i] = (uint32_t)i;
    }
    return AMI_OK;
}

void city_free(struct city *c)
{
    free(c->name);
    free(c->order);
}

uint64_t city_draw(struct city *c, uint64_t below)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (c->random >> 33) % below;
}

void city_shuffle(struct city *c)
{
    for (size_t i = c->count; i > 1; i--) {
        const size_t k = city_draw(c, i);
        const uint32_t swapped = c->order[k];
        c->order[k] = c->order[i - 1];
        c->order[i - 1] = swapped;
    }
}

uint64_t written_bytes(void)
{
    char line[128];
    unsigned long long value = 0;
    FILE *f = fopen("/proc/self/io", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "wchar: %llu", &value) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return value;
}

double computed_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

enum ami_status in_folder(const char *parent, const char *program,
                          enum ami_status (*work)(void *ctx, const char *dir), void *ctx,
                          struct why *why)
{
    char dir[512], command[600];
    snprintf(dir, sizeof dir, "%.400s/%.40s-XXXXXX", parent, program);
    if (mkdtemp(dir) == NULL)
        return why_set(why, AMI_IO, "%s cannot be made", dir);
    enum ami_status status = work(ctx, dir);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "%s: %s could not be removed\n", program, dir);
    return status;
}

int store_bench(const struct command_spec *single, int argc, char **argv)
{
    const struct program_spec program = {
        .name = single->name, .summary = single->summary, .single = single};
    if (crypto_start() != AMI_OK) {
        fprintf(stderr, "%s: %s\n", single->name, crypto_start_why());
        return EXIT_STATUS_FAILED;
    }
    return program_main(&program, argc, argv, NULL);
}
