/* mdms/cmd_codes.c - `ami-mdms codes`: install codes for one device or thousands.
 *
 * The list is written first and the codes stored after it, in one step: a list that nobody can
 * enrol with is harmless, a stored code that nobody knows is not. Works beside `serve`.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "mdms/codes.h"
#include "net/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CODES_MAX          1000000
#define IDS_FILE_BYTES_MAX (64u << 20)
#define IDS_LINE_BYTES_MAX (2 * AMI_ID_BYTES_MAX + 16)

static struct common_options common;
static bool for_dc, for_meter, replace;
static const char *one_id, *prefix, *ids_file, *home, *out_file;
static int64_t count, start = 1;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "dc", .kind = OPTION_FLAG, .value = &for_dc, .help = "codes for data concentrators"},
    {.name = "meter", .kind = OPTION_FLAG, .value = &for_meter, .help = "codes for meters"},
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &one_id,
     .argument = "ID",
     .help = "one device of this name"},
    {.name = "prefix",
     .kind = OPTION_TEXT,
     .value = &prefix,
     .argument = "P",
     .help = "with --count: devices P1, P2, .. with zeros in front to one width"},
    {.name = "count",
     .kind = OPTION_INT,
     .value = &count,
     .min = 1,
     .max = CODES_MAX,
     .argument = "N",
     .help = "number of devices"},
    {.name = "start",
     .kind = OPTION_INT,
     .value = &start,
     .min = 0,
     .max = 1000000000,
     .argument = "N",
     .help = "number of the first of them (default 1)"},
    {.name = "ids-file",
     .kind = OPTION_TEXT,
     .value = &ids_file,
     .argument = "FILE",
     .help = "devices by name, one a line, perhaps with a comma and the home DC; - is stdin"},
    {.name = "home",
     .kind = OPTION_TEXT,
     .value = &home,
     .argument = "DC",
     .help = "home DC of these meters (default: each in turn)"},
    {.name = "out",
     .kind = OPTION_TEXT,
     .value = &out_file,
     .argument = "FILE",
     .help = "where to write the list (default stdout); never overwrites"},
    {.name = "replace",
     .kind = OPTION_FLAG,
     .value = &replace,
     .help = "make a new code also where one waits unused (the old one is void)"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .value = &common.json,
     .help = "JSON instead of CSV (one document)"},
    {0},
};

struct entry {
    struct ami_id id, home;
    bool has_home;
    struct install_code code;
};

struct list {
    struct entry *entries;
    size_t size, capacity;
    uint8_t role;
    struct network net;
};

static void list_free(struct list *l)
{
    if (l->entries != NULL)
        secret_wipe(l->entries, l->capacity * sizeof *l->entries);
    free(l->entries);
}

static enum ami_status list_add(struct list *l, const char *id, const char *home_dc,
                                struct why *why)
{
    if (l->size == CODES_MAX)
        return why_set(why, AMI_TOO_LARGE, "more than %d devices in one list", CODES_MAX);
    if (l->size == l->capacity) {
        size_t capacity = l->capacity == 0 ? 64 : 2 * l->capacity;
        struct entry *entries = malloc(capacity * sizeof *entries);
        if (entries == NULL)
            return AMI_NO_MEMORY;
        if (l->size > 0) {
            /* Not realloc: it would leave the codes behind in freed memory. */
            memcpy(entries, l->entries, l->size * sizeof *entries);
            secret_wipe(l->entries, l->size * sizeof *entries);
        }
        free(l->entries);
        l->entries = entries;
        l->capacity = capacity;
    }
    struct entry *e = &l->entries[l->size];
    memset(e, 0, sizeof *e);
    AMI_TRY(cli_id(id, &e->id, why));
    if (home_dc != NULL) {
        if (l->role == DEVICE_DC)
            return why_set(why, AMI_BAD_ARGUMENT, "a DC has no home DC");
        AMI_TRY(cli_id(home_dc, &e->home, why));
        e->has_home = true;
    }
    secret_random(e->code.b, sizeof e->code.b);
    l->size++;
    return AMI_OK;
}

/* --- which devices ---------------------------------------------------------------------------- */

static enum ami_status from_prefix(struct list *l, struct why *why)
{
    char text[128];
    int width = snprintf(text, sizeof text, "%" PRId64, start + count - 1);
    for (int64_t i = 0; i < count; i++) {
        if (snprintf(text, sizeof text, "%s%0*" PRId64, prefix, width, start + i) >=
            (int)sizeof text)
            return why_set(why, AMI_BAD_ARGUMENT, "the prefix is too long");
        AMI_TRY(list_add(l, text, home, why));
    }
    return AMI_OK;
}

static char *trim(char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
        text[--n] = '\0';
    return text;
}

static enum ami_status from_stream(struct list *l, FILE *in, struct why *why)
{
    char line[IDS_LINE_BYTES_MAX];
    const char *name = in == stdin ? "standard input" : ids_file;
    for (unsigned number = 1; fgets(line, sizeof line, in) != NULL; number++) {
        if (strchr(line, '\n') == NULL && !feof(in))
            return why_set(why, AMI_BAD_ARGUMENT, "%s:%u: the line is longer than a name can be",
                           name, number);
        char *id = trim(line);
        if (id[0] == '\0' || id[0] == '#')
            continue;
        char *comma = strchr(id, ',');
        if (comma != NULL)
            *comma = '\0';
        struct why reason = {0};
        enum ami_status status =
            list_add(l, trim(id), comma != NULL ? trim(comma + 1) : home, &reason);
        if (status != AMI_OK)
            return why_set(why, status, "%s:%u: %s", name, number,
                           reason.text[0] != '\0' ? reason.text : ami_status_text(status));
    }
    if (ferror(in))
        return why_set(why, AMI_IO, "%s: %s", name, strerror(errno));
    return AMI_OK;
}

static enum ami_status from_file(struct list *l, struct why *why)
{
    if (strcmp(ids_file, "-") == 0)
        return from_stream(l, stdin, why);
    FILE *in = fopen(ids_file, "re");
    if (in == NULL)
        return why_set(why, why_status_of_errno(errno), "%s: %s", ids_file, strerror(errno));
    enum ami_status status = from_stream(l, in, why);
    fclose(in);
    return status;
}

static int by_id(const void *a, const void *b)
{
    return ami_id_compare(&((const struct entry *)a)->id, &((const struct entry *)b)->id);
}

static enum ami_status collect(struct list *l, struct why *why)
{
    int ways = (one_id != NULL) + (prefix != NULL) + (ids_file != NULL);
    if (for_dc == for_meter)
        return why_set(why, AMI_BAD_ARGUMENT, "say either --dc or --meter");
    if (ways != 1 || (prefix != NULL) != (count > 0))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "say which devices: --id ID, or --prefix P --count N, or --ids-file FILE");
    l->role = for_dc ? DEVICE_DC : DEVICE_METER;
    if (one_id != NULL)
        AMI_TRY(list_add(l, one_id, home, why));
    else if (prefix != NULL)
        AMI_TRY(from_prefix(l, why));
    else
        AMI_TRY(from_file(l, why));
    if (l->size == 0)
        return why_set(why, AMI_BAD_ARGUMENT, "%s names no device", ids_file);
    qsort(l->entries, l->size, sizeof *l->entries, by_id);
    for (size_t i = 1; i < l->size; i++) {
        if (ami_id_equal(&l->entries[i - 1].id, &l->entries[i].id))
            return why_set(why, AMI_EXISTS, "the device \"%s\" is named twice",
                           l->entries[i].id.text);
    }
    return AMI_OK;
}

/* --- storing ---------------------------------------------------------------------------------- */

static enum ami_status check_device(const struct list *l, const struct entry *e,
                                    struct mdms_update *u, struct why *why)
{
    struct span value;
    struct code_record old;
    struct mdms_key key = key_code(l->role, &e->id);
    enum ami_status status = mdms_update_get(u, TABLE_CODES, &key, &value);
    if (status == AMI_OK && code_record_parse(&old, value) != AMI_OK)
        return why_set(why, AMI_DAMAGED, "the stored code of \"%s\" is damaged", e->id.text);
    if (status == AMI_OK && old.served_epoch == 0 && !replace)
        return why_set(why, AMI_EXISTS,
                       "a code for \"%s\" waits unused already; --replace makes a new one and "
                       "voids the old one",
                       e->id.text);
    if (status != AMI_OK && status != AMI_NOT_FOUND)
        return status;
    if (!e->has_home)
        return AMI_OK;
    key = key_code(DEVICE_DC, &e->home);
    if (mdms_update_get(u, TABLE_CODES, &key, &value) != AMI_OK)
        return why_set(why, AMI_UNKNOWN_DEVICE,
                       "the home DC \"%s\" of \"%s\" is unknown: no code was ever made for it",
                       e->home.text, e->id.text);
    return AMI_OK;
}

struct change {
    const struct list *list;
    struct code_list codes;
    struct why *why;
};

static enum ami_status add_codes(void *ctx, struct mdms_update *u, struct mdms_write *write)
{
    struct change *c = ctx;
    for (size_t i = 0; i < c->list->size; i++) {
        const struct entry *e = &c->list->entries[i];
        AMI_TRY(check_device(c->list, e, u, c->why));
        uint8_t sealed[CODE_SEALED_BYTES], bytes[256];
        sm3_digest hash = install_code_hash(&e->code, (enum enrol_role)c->list->role, &e->id);
        code_seal(sealed, &c->codes, c->list->role, &e->id, &hash);
        secret_wipe(&hash, sizeof hash);
        struct code_record r = {.has_home = e->has_home,
                                .home = e->home,
                                .c1 = c->codes.c1,
                                .sealed = span_of(sealed, sizeof sealed)};
        struct writer w = writer_on(bytes, sizeof bytes);
        code_record_encode(&w, &r);
        AMI_CHECK(writer_ok(&w));
        struct mdms_key key = key_code(c->list->role, &e->id);
        mdms_write_put(write, TABLE_CODES, &key, writer_span(&w));
    }
    return AMI_OK;
}

/* --- the list for the installers -------------------------------------------------------------- */

static void print_csv(FILE *out, const struct list *l)
{
    fputs("id,code\n", out);
    for (size_t i = 0; i < l->size; i++) {
        char text[INSTALL_CODE_TEXT_BYTES + 1];
        install_code_text(text, &l->entries[i].code);
        fprintf(out, "%s,%s\n", l->entries[i].id.text, text);
        secret_wipe(text, sizeof text);
    }
}

static void print_json(FILE *out, const struct list *l)
{
    fprintf(out, "{\"ok\":true,\"role\":\"%s\",\"codes\":[", cli_role_name(l->role));
    for (size_t i = 0; i < l->size; i++) {
        char text[INSTALL_CODE_TEXT_BYTES + 1];
        install_code_text(text, &l->entries[i].code);
        fprintf(out, "%s{\"id\":\"%s\",\"code\":\"%s\"}", i == 0 ? "" : ",", l->entries[i].id.text,
                text);
        secret_wipe(text, sizeof text);
    }
    fputs("]}\n", out);
}

/* The whole list in memory; the caller wipes and frees it. */
static char *render(const struct list *l, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    if (out == NULL)
        return NULL;
    if (common.json)
        print_json(out, l);
    else
        print_csv(out, l);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static enum ami_status store_and_write(struct mdms_store *store, const struct list *l,
                                       struct why *why)
{
    struct change change = {.list = l, .why = why};
    uint8_t random[SM2_WIDE_BYTES];
    secret_random(random, sizeof random);
    enum ami_status begun = code_list_begin(&change.codes, &l->net, random);
    secret_wipe(random, sizeof random); /* it opens every code of the list */
    AMI_TRY(begun);
    size_t size = 0;
    char *text = render(l, &size);
    enum ami_status status = text == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (status == AMI_OK && out_file != NULL)
        status = file_write_new(out_file, span_of(text, size), FILE_MODE_SECRET, why);
    bool written = status == AMI_OK && out_file != NULL;
    if (status == AMI_OK)
        status = mdms_store_update(store, add_codes, &change, why);
    if (status != AMI_OK && written)
        (void)unlink(out_file);
    if (status == AMI_OK && out_file == NULL) {
        fwrite(text, 1, size, stdout);
        status = cli_stdout_done(why);
    }
    if (text != NULL)
        secret_wipe(text, size);
    free(text);
    secret_wipe(&change.codes, sizeof change.codes);
    return status;
}

static enum ami_status make(struct list *l, struct why *why)
{
    struct mdms_store *store;
    AMI_TRY(cli_network(common.dir, &l->net, why));
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    enum ami_status status = store_and_write(store, l, why);
    mdms_store_close(store);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct list l = {0};
    struct why why = {0};
    enum ami_status status = collect(&l, &why);
    if (status == AMI_OK)
        status = make(&l, &why);
    size_t size = l.size;
    list_free(&l);
    if (status != AMI_OK)
        return cli_fail(common.json, status, &why);
    if (out_file != NULL && !common.json)
        printf("%zu install code%s written to %s\n", size, size == 1 ? "" : "s", out_file);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_CODES = {
    .name = "codes",
    .summary = "make install codes, with which devices enrol once",
    .example = "ami-mdms codes --dir mdms --dc --prefix dc- --count 4 --out dc-codes.csv\n"
               "ami-mdms codes --dir mdms --meter --ids-file meters.txt --out meter-codes.csv",
    .options = options,
    .run = run,
};
