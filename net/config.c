/* inih finds sections, keys and comments; its handler is not told the line, so the lines go through
 * read_line, which counts them, and which ends the reading at the first error. */
#include "net/config.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "net/file.h"
#include "net/options.h"

struct parse {
    const char *name;
    const char *at; /* what is not read yet */
    unsigned line;
    const struct config_key *keys;
    bool seen[CONFIG_KEYS_MAX];
    enum ami_status status;
    struct why *why;
};

/* One sentence with the place in front; the first error stays. */
static void fail(struct parse *p, enum ami_status status, const char *text)
{
    if (p->status != AMI_OK)
        return;
    p->status = why_set(p->why, status, "%s:%u: %s", p->name, p->line, text);
}

/* inih asks for the next line, as fgets would give it. */
static char *read_line(char *out, int size, void *stream)
{
    struct parse *p = (struct parse *)stream;
    if (p->status != AMI_OK || *p->at == 0)
        return NULL;
    p->line++;
    size_t length = strcspn(p->at, "\n");
    if (length > CONFIG_LINE_MAX || length + 2 > (size_t)size) {
        char text[64];
        snprintf(text, sizeof text, "a line may have %d bytes at most", CONFIG_LINE_MAX);
        fail(p, AMI_TOO_LARGE, text);
        return NULL;
    }
    /* An indented line would continue the value above it; here it is a line of its own. */
    const char *from = p->at;
    size_t blank = strspn(from, " \t");
    from += blank < length ? blank : length;
    size_t kept = (size_t)(p->at + length - from);
    memcpy(out, from, kept);
    out[kept] = '\n';
    out[kept + 1] = 0;
    p->at += length;
    p->at += *p->at == '\n';
    return out;
}

static void fail_value(struct parse *p, const struct config_key *k, const char *expected,
                       const char *found)
{
    char text[400];
    snprintf(text, sizeof text, "%s expects %s, not \"%.100s\"", k->key, expected, found);
    fail(p, AMI_BAD_ARGUMENT, text);
}

static void set_number(struct parse *p, const struct config_key *k, const char *value)
{
    bool duration = k->kind == CONFIG_DURATION;
    int64_t number = 0;
    enum ami_status status =
        duration ? duration_parse(value, &number) : integer_parse(value, &number);
    if (status != AMI_OK) {
        fail_value(p, k, duration ? "a duration such as 250ms, 30s or 5m" : "a whole number",
                   value);
        return;
    }
    if ((k->min != 0 || k->max != 0) && (number < k->min || number > k->max)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a value from %lld%s to %lld%s", (long long)k->min,
                 duration ? "ms" : "", (long long)k->max, duration ? "ms" : "");
        fail_value(p, k, expected, value);
        return;
    }
    *(int64_t *)k->value = number;
}

static void set_real(struct parse *p, const struct config_key *k, const char *value)
{
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    bool digit = value[0] == '-' || value[0] == '.' || (value[0] >= '0' && value[0] <= '9');
    if (!digit || errno != 0 || *end != 0 || end == value ||
        !(number >= -1e300 && number <= 1e300)) {
        fail_value(p, k, "a number", value);
        return;
    }
    if ((k->min != 0 || k->max != 0) && (number < (double)k->min || number > (double)k->max)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a value from %lld to %lld", (long long)k->min,
                 (long long)k->max);
        fail_value(p, k, expected, value);
        return;
    }
    *(double *)k->value = number;
}

static void set_bool(struct parse *p, const struct config_key *k, const char *value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"yes", true}, {"true", true},   {"on", true},
                 {"no", false}, {"false", false}, {"off", false}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(value, words[i].word) == 0) {
            *(bool *)k->value = words[i].value;
            return;
        }
    }
    fail_value(p, k, "yes or no", value);
}

static void set_text(struct parse *p, const struct config_key *k, const char *value)
{
    AMI_CHECK(k->size > 0);
    char expected[64];
    size_t size = strlen(value);
    if (size == 0) {
        fail_value(p, k, "a value", value);
    } else if (size >= k->size) {
        snprintf(expected, sizeof expected, "at most %zu bytes", k->size - 1);
        fail_value(p, k, expected, value);
    } else {
        memcpy(k->value, value, size + 1);
    }
}

static void set_each(struct parse *p, const struct config_key *k, const char *value)
{
    struct why why = {0};
    enum ami_status status = k->each(k->value, value, &why);
    if (status == AMI_OK)
        return;
    char text[400];
    snprintf(text, sizeof text, "%s: %.300s", k->key,
             why.text[0] == 0 ? ami_status_text(status) : why.text);
    fail(p, status, text);
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
    struct parse *p = (struct parse *)user;
    if (p->status != AMI_OK)
        return 0;
    bool section_known = false;
    for (size_t i = 0; p->keys[i].section != NULL; i++) {
        const struct config_key *k = &p->keys[i];
        AMI_CHECK(i < CONFIG_KEYS_MAX);
        if (strcmp(k->section, section) != 0)
            continue;
        section_known = true;
        if (strcmp(k->key, name) != 0)
            continue;
        if (p->seen[i] && k->kind != CONFIG_EACH) {
            char twice[96];
            snprintf(twice, sizeof twice, "%.60s is given a second time", name);
            fail(p, AMI_BAD_ARGUMENT, twice);
            return 0;
        }
        p->seen[i] = true;
        switch (k->kind) {
        case CONFIG_TEXT:
            set_text(p, k, value);
            break;
        case CONFIG_INT:
        case CONFIG_DURATION:
            set_number(p, k, value);
            break;
        case CONFIG_REAL:
            set_real(p, k, value);
            break;
        case CONFIG_BOOL:
            set_bool(p, k, value);
            break;
        case CONFIG_EACH:
            set_each(p, k, value);
            break;
        }
        return p->status == AMI_OK;
    }
    char text[300];
    if (section[0] == 0)
        snprintf(text, sizeof text, "\"%.60s\" stands before any [section]", name);
    else if (section_known)
        snprintf(text, sizeof text, "section [%.60s] has no key \"%.60s\"", section, name);
    else
        snprintf(text, sizeof text, "there is no section [%.60s]", section);
    fail(p, AMI_BAD_ARGUMENT, text);
    return 0;
}

enum ami_status config_parse(const char *name, const char *text, const struct config_key *keys,
                             struct why *why)
{
    struct parse p = {.name = name, .at = text, .keys = keys, .why = why};
    int bad_line = ini_parse_stream(read_line, &p, on_value, &p);
    if (p.status == AMI_OK && bad_line < 0)
        return why_set(why, AMI_NO_MEMORY, "no memory to read %s", name);
    /* A line that inih could not read comes before anything that we refused behind it. */
    if (bad_line > 0 && (p.status == AMI_OK || (unsigned)bad_line < p.line))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "%s:%d: expected \"[section]\", \"key = value\" or a comment", name,
                       bad_line);
    if (p.status != AMI_OK)
        return p.status;
    for (size_t i = 0; keys[i].section != NULL; i++)
        if (keys[i].required && !p.seen[i])
            return why_set(why, AMI_BAD_ARGUMENT, "%s: section [%s] lacks the key \"%s\"", name,
                           keys[i].section, keys[i].key);
    return AMI_OK;
}

enum ami_status config_read(const char *path, const struct config_key *keys, struct why *why)
{
    uint8_t *data;
    size_t size;
    AMI_TRY(file_read(path, CONFIG_BYTES_MAX, &data, &size, why));
    enum ami_status status;
    if (memchr(data, 0, size) != NULL)
        status = why_set(why, AMI_BAD_ARGUMENT, "%s is not a text file", path);
    else
        status = config_parse(path, (const char *)data, keys, why);
    free(data);
    return status;
}
