/* node/cmd_enrol.c - `dc-node enrol`: this DC's keys from the MDMS, once per key epoch. */
#include "crypto/secret.h"
#include "net/file.h"
#include "net/link.h"
#include "node/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NAME       "dc-node"
#define PATH_BYTES 4096

static struct options {
    const char *network, *dir, *mdms, *id, *code;
    int64_t timeout_ms, epoch;
} opt = {.timeout_ms = 10000, .epoch = 1};

static const struct option_spec options[] = {
    {"network", 0, OPTION_TEXT, &opt.network, 0, 0, "FILE", "network.json of the MDMS", true},
    {"mdms", 0, OPTION_TEXT, &opt.mdms, 0, 0, "URL", "the MDMS's enrolment address", true},
    {"id", 0, OPTION_TEXT, &opt.id, 0, 0, "ID", "this DC's name", true},
    {"code", 0, OPTION_TEXT, &opt.code, 0, 0, "CODE", "its install code", true},
    {"dir", 0, OPTION_TEXT, &opt.dir, 0, 0, "DIR", "where the keys go", true},
    {"epoch", 0, OPTION_INT, &opt.epoch, 1, UINT32_MAX, "E", "key epoch (default 1)", false},
    {"timeout", 0, OPTION_DURATION, &opt.timeout_ms, 1, 600000, "TIME",
     "how long to wait for the MDMS (default 10s)", false},
    {0}};

static enum ami_status key_path(char out[PATH_BYTES], const char *name, struct why *why)
{
    return path_join(out, PATH_BYTES, opt.dir, name, why);
}

/* The request of an earlier try when there is one, so that a kill in between costs nothing. */
static enum ami_status pending_request(struct enrol_pending *out, const struct network *net,
                                       const struct ami_id *id, struct why *why)
{
    char path[PATH_BYTES];
    uint8_t *old;
    size_t size;
    AMI_TRY(key_path(path, "dc.enrolling", why));
    enum ami_status status = file_read(path, KEYFILE_BYTES_MAX, &old, &size, why);
    if (status == AMI_OK) {
        status = pending_file_parse(out, net, span_of(old, size), NULL);
        secret_wipe(old, size);
        free(old);
        if (status != AMI_OK)
            return why_set(why, status, "%.300s: %s", path, ami_status_text(status));
        if (!ami_id_equal(&out->name, id) || out->epoch != (uint32_t)opt.epoch)
            return why_set(why, AMI_FOREIGN_KEY,
                           "%.300s belongs to %s, epoch %u: finish its enrolment first", path,
                           out->name.text, (unsigned)out->epoch);
        return AMI_OK;
    }
    if (status != AMI_NOT_FOUND)
        return status;
    struct install_code code;
    if (install_code_parse(&code, opt.code) != AMI_OK)
        return why_set(why, AMI_WRONG_CODE,
                       "'%.40s' is no install code: expected seven groups of "
                       "four characters, perhaps one is mistyped",
                       opt.code);
    sm3_digest hash = install_code_hash(&code, ENROL_DC, id);
    uint8_t random[3][SM2_WIDE_BYTES];
    secret_random(random, sizeof random);
    status = enrol_begin(out, net, ENROL_DC, id, (uint32_t)opt.epoch, &hash,
                         (const uint8_t(*)[SM2_WIDE_BYTES])random);
    secret_wipe(random, sizeof random);
    secret_wipe(&hash, sizeof hash);
    secret_wipe(&code, sizeof code);
    if (status != AMI_OK)
        return why_set(why, status, "no request could be made: %s", ami_status_text(status));
    uint8_t data[KEYFILE_BYTES_MAX];
    status = pending_file_encode(data, &size, out, NULL);
    if (status == AMI_OK)
        status = file_write(path, span_of(data, size), FILE_MODE_SECRET, why);
    secret_wipe(data, sizeof data);
    return status;
}

static enum ami_status ask_mdms(struct enrol_reply *reply, uint8_t *buffer, size_t buffer_size,
                                const struct enrol_pending *pending, struct why *why)
{
    uint8_t frame[ENROL_REQUEST_BYTES_MAX + 2];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ENROL_REQUEST);
    write_raw(&w, pending->request, pending->request_size);
    size_t size;
    AMI_TRY(link_call(opt.mdms, NULL, writer_span(&w), (uint32_t)opt.timeout_ms, buffer,
                      buffer_size, &size, why));
    enum message_type type;
    struct span body;
    if (frame_open(span_of(buffer, size), &type, &body) != AMI_OK || type != MSG_ENROL_REPLY ||
        enrol_reply_parse(reply, body) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING, "the answer of %s is none of an MDMS", opt.mdms);
    return AMI_OK;
}

/* Under which name the new key goes into the folder: the first one, or one for the next epoch of
 * the DC whose first key is there. */
static enum ami_status choose_key_name(char out[KEY_NAME_BYTES], const struct network *net,
                                       const struct ami_id *id, struct why *why)
{
    struct device_file first;
    char path[PATH_BYTES];
    snprintf(out, KEY_NAME_BYTES, KEY_FIRST);
    enum ami_status status = key_load(&first, opt.dir, out, net, why);
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    AMI_TRY(status);
    const struct ami_id owner = first.keys.name;
    const uint32_t epoch = first.keys.epoch;
    secret_wipe(&first, sizeof first);
    AMI_TRY(key_path(path, out, why));
    if (!ami_id_equal(&owner, id))
        return why_set(why, AMI_FOREIGN_KEY, "%.300s is the key of %s", path, owner.text);
    if ((uint32_t)opt.epoch <= epoch)
        return why_set(why, AMI_EXISTS,
                       "%.300s is there already: %s is enrolled in key epoch %u; for its next key "
                       "name --epoch %u",
                       path, owner.text, (unsigned)epoch, (unsigned)epoch + 1);
    key_name(out, (uint32_t)opt.epoch);
    AMI_TRY(key_path(path, out, why));
    if (access(path, F_OK) == 0)
        return why_set(why, AMI_EXISTS, "%.300s is there already: that key is enrolled", path);
    return AMI_OK;
}

static enum ami_status enrol(char key[KEY_NAME_BYTES], struct why *why)
{
    char path[PATH_BYTES];
    struct network net;
    struct ami_id id;
    if (ami_id_from_text(&id, opt.id) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "'%.60s' is no name for a DC: 1 to 32 of A-Z a-z 0-9 "
                       ". _ -",
                       opt.id);
    AMI_TRY(key_network(&net, opt.network, why));
    AMI_TRY(directory_make(opt.dir, 0700, why));
    AMI_TRY(choose_key_name(key, &net, &id, why));
    struct device_file f = {0};
    struct enrol_pending pending;
    uint8_t buffer[ENROL_REPLY_BYTES_MAX + 16];
    struct enrol_reply reply;
    enum ami_status status = pending_request(&pending, &net, &id, why);
    if (status == AMI_OK)
        status = ask_mdms(&reply, buffer, sizeof buffer, &pending, why);
    if (status == AMI_OK) {
        status = enrol_finish(&f.keys, &pending, &net, &reply);
        if (status != AMI_OK)
            why_set(why, status, "the MDMS did not enrol %s: %s", id.text, ami_status_text(status));
        /* A refused code is forgotten, so that the right one can be tried. */
        if (status == AMI_WRONG_CODE && key_path(path, "dc.enrolling", why) == AMI_OK &&
            remove(path) == 0)
            why_set(why, status, "the MDMS did not enrol %s: %s", id.text, ami_status_text(status));
    }
    if (status == AMI_OK)
        status = key_save(&f, opt.dir, key, &net, why);
    if (status == AMI_OK && key_path(path, "dc.enrolling", why) == AMI_OK && remove(path) != 0)
        status = why_set(why, AMI_IO, "%.300s cannot be removed", path);
    secret_wipe(&pending, sizeof pending);
    secret_wipe(&f, sizeof f);
    return status;
}

static int run_enrol(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {""};
    char key[KEY_NAME_BYTES];
    enum ami_status status = enrol(key, &why);
    if (status != AMI_OK)
        return program_fail(NAME, false, status, &why);
    printf("%s is enrolled; its keys are in %s/%s\n", opt.id, opt.dir, key);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_ENROL = {
    "enrol",
    NULL,
    0,
    0,
    "get this DC's keys from the MDMS, once",
    "dc-node enrol --network network.json --mdms 127.0.0.1:7400 --id dc1 --code "
    "XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX --dir dc1",
    options,
    run_enrol};
