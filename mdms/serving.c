#include "mdms/serving.h"

#include "crypto/secret.h"
#include "mdms/seed.h"
#include "net/file.h"
#include "net/loop.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_SERVING  "serving.json"
#define FILE_SIZE_MAX 1024

static json_t *moment(int64_t s)
{
    return s == INT64_MAX ? json_null() : json_integer((json_int_t)s);
}

static enum ami_status serving_write(const struct serving *s, const char *dir, struct why *why)
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
    else
        *out = (struct serving){.until_s = INT64_MAX, .trust_until_s = INT64_MAX};
    json_decref(o);
    free(data);
    return good ? AMI_OK
                : why_set(why, AMI_DAMAGED, "%.300s is not what `ami-mdms serve` writes", path);
}

/* --- the credential --------------------------------------------------------------------------- */

/* Over the key that the network pins for its MDMS, whatever its kind. */
static enum ami_status renew(void *ctx, struct why *why)
{
    struct speaker *s = ctx;
    const struct network *net = &s->keys->net;
    const struct trust_owner owner = {
        .role = CREDENTIAL_MDMS, .name = net->name, .key = &s->keys->sign};
    if (trust_own_named(&s->files))
        return trust_own(&s->own, net, &s->files, &owner, &s->watch.trust, why);
    return credential_of_mdms(&s->own, net, &s->keys->sign) == AMI_OK
               ? AMI_OK
               : why_set(why, AMI_FOREIGN_KEY, "%s: no key of this network", s->dir);
}

/* The public seed set may be made while this runs. */
static void find_seed_set(struct speaker *s)
{
    s->files.cfl_public = access(s->seed_set, F_OK) == 0 ? s->seed_set : NULL;
}

/* For `status`. What cannot be written is not tried again before it changes; the log has it all. */
static void say(struct speaker *s)
{
    struct serving now;
    struct why why = {""};
    memset(&now, 0, sizeof now); /* two of them are compared byte by byte */
    snprintf(now.kind, sizeof now.kind, "%s", credential_kind_name(s->own.who.kind));
    now.until_s = credential_own_left_s(&s->own, 0);
    now.trust_until_s = trust_until_s(&s->watch.trust);
    if (memcmp(&now, &s->said, sizeof now) == 0)
        return;
    s->said = now;
    if (serving_write(&now, s->dir, &why) != AMI_OK)
        log_say(s->log, ENV_LOG_WARN, "serving_not_written", "%s", why.text);
}

enum ami_status speaker_start(struct speaker *s, struct why *why)
{
    AMI_TRY(seed_public_path(s->seed_set, sizeof s->seed_set, s->dir, why));
    find_seed_set(s);
    s->watch = (struct trust_watch){.net = &s->keys->net,
                                    .files = &s->files,
                                    .log = s->log,
                                    .own = &s->own,
                                    .renew = renew,
                                    .ctx = s};
    AMI_TRY(trust_watch_start(&s->watch, clock_mono_us(), clock_wall_ms(), why));
    say(s);
    return AMI_OK;
}

bool speaker_look(struct speaker *s)
{
    find_seed_set(s);
    const bool judge = trust_watch_look(&s->watch, clock_mono_us(), clock_wall_ms());
    say(s);
    return judge;
}

void speaker_end(struct speaker *s)
{
    trust_watch_end(&s->watch);
    secret_wipe(&s->own, sizeof s->own);
}
