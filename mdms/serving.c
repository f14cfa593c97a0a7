#include "mdms/serving.h"

#include "net/file.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SERVING  "serving.json"
#define FILE_SIZE_MAX 1024

void serving_of(struct serving *out, const struct trust_watch *watch)
{
    memset(out, 0, sizeof *out); /* two of them are compared byte by byte */
    snprintf(out->kind, sizeof out->kind, "%s", credential_kind_name(watch->own->who.kind));
    out->until_s = credential_own_left_s(watch->own, 0);
    out->trust_until_s = trust_until_s(&watch->trust);
}

static json_t *moment(int64_t s)
{
    return s == INT64_MAX ? json_null() : json_integer((json_int_t)s);
}

enum ami_status serving_write(const struct serving *s, const char *dir, struct why *why)
{
    char path[PATH_MAX];
    AMI_TRY(path_join(path, sizeof path, dir, FILE_SERVING, why));
    json_t *o = json_pack("{s:s, s:o, s:o}", "credential", s->kind, "until", moment(s->until_s),
                          "trust_until", moment(s->trust_until_s));
    char *text = o == NULL ? NULL : json_dumps(o, JSON_COMPACT);
    json_decref(o);
    enum ami_status status =
        text == NULL ? AMI_NO_MEMORY
                     : file_write(path, span_of(text, strlen(text)), FILE_MODE_PUBLIC, why);
    free(text);
    return status;
}

static bool read_moment(int64_t *out, const json_t *o)
{
    *out = json_is_integer(o) ? (int64_t)json_integer_value(o) : INT64_MAX;
    return json_is_integer(o) || json_is_null(o);
}

enum ami_status serving_read(struct serving *out, const char *dir, struct why *why)
{
    char path[PATH_MAX];
    uint8_t *data = NULL;
    size_t size;
    *out = (struct serving){.until_s = INT64_MAX, .trust_until_s = INT64_MAX};
    AMI_TRY(path_join(path, sizeof path, dir, FILE_SERVING, why));
    enum ami_status status = file_read(path, FILE_SIZE_MAX, &data, &size, why);
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    AMI_TRY(status);
    json_t *o = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    const char *kind = json_string_value(json_object_get(o, "credential"));
    const bool good = kind != NULL && strlen(kind) < sizeof out->kind &&
                      read_moment(&out->until_s, json_object_get(o, "until")) &&
                      read_moment(&out->trust_until_s, json_object_get(o, "trust_until"));
    if (good)
        snprintf(out->kind, sizeof out->kind, "%s", kind);
    json_decref(o);
    free(data);
    return good ? AMI_OK
                : why_set(why, AMI_DAMAGED, "%.300s is not what `ami-mdms serve` writes", path);
}
