#include "net/ask.h"

#include <stdlib.h>
#include <string.h>

#include "net/link.h"
#include "wire/types.h"

#define QUESTION_BYTES_MAX 4096

/* Bytes of the control character at s, in UTF-8; 0: there is none. A line feed passes. */
static size_t control_size(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    if ((u[0] < ' ' && u[0] != '\n' && u[0] != '\0') || u[0] == 0x7f)
        return 1;
    return u[0] == 0xc2 && u[1] >= 0x80 && u[1] <= 0x9f ? 2 : 0;
}

static bool has_control(const char *s)
{
    while (*s != '\0' && control_size(s) == 0)
        s++;
    return *s != '\0';
}

static bool tame_string(json_t *string)
{
    if (!has_control(json_string_value(string)))
        return true;
    char *copy = strdup(json_string_value(string));
    for (char *s = copy; s != NULL && *s != '\0'; s++)
        for (size_t size = control_size(s), i = 0; i < size; i++)
            s[i] = '?';
    const bool good = copy != NULL && json_string_set(string, copy) == 0;
    free(copy);
    return good;
}

/* What a DC says is printed on people's terminals, which take control characters as commands: in
 * texts they become question marks. False: one is in a name, which no DC puts there, or out of
 * memory. */
static bool tame(json_t *json)
{
    const char *name;
    json_t *value;
    size_t index;
    bool good = true;
    if (json_is_string(json))
        return tame_string(json);
    if (json_is_array(json))
        json_array_foreach(json, index, value) good = good && tame(value);
    else
        json_object_foreach(json, name, value) good = good && !has_control(name) && tame(value);
    return good;
}

static json_t *read_answer(struct span frame, const char *address, enum ami_status *status,
                           struct why *why)
{
    enum message_type type;
    struct span body;
    struct admin_reply reply;
    json_t *json = NULL;
    if (frame_open(frame, &type, &body) == AMI_OK && type == MSG_ADMIN_REPLY &&
        admin_reply_parse(&reply, body) == AMI_OK)
        json = json_loadb((const char *)reply.json.data, reply.json.size, JSON_REJECT_DUPLICATES,
                          NULL);
    if (json == NULL || !tame(json)) {
        json_decref(json);
        *status =
            why_set(why, AMI_BAD_ENCODING, "%s: what answers there is no DC's admin port", address);
        return NULL;
    }
    if (reply.status == AMI_OK) {
        *status = AMI_OK;
        return json;
    }
    const char *error = json_string_value(json_object_get(json, "error"));
    *status = reply.status < AMI_STATUS_COUNT ? (enum ami_status)reply.status : AMI_BAD_ENCODING;
    why_set(why, *status, "%s", error != NULL ? error : ami_status_text(*status));
    json_decref(json);
    return NULL;
}

json_t *admin_ask(const char *address, const struct channel_config *security,
                  const json_t *question, uint32_t timeout_ms, enum ami_status *status,
                  struct why *why)
{
    json_t *answer = NULL;
    uint8_t frame[QUESTION_BYTES_MAX + 16];
    size_t size = 0;
    char *text = json_dumps(question, JSON_COMPACT);
    uint8_t *reply = malloc(AMI_FRAME_ADMIN_BYTES_MAX);
    if (text == NULL || reply == NULL) {
        *status = why_set(why, AMI_NO_MEMORY, "out of memory");
    } else if (strlen(text) > QUESTION_BYTES_MAX) {
        *status =
            why_set(why, AMI_TOO_LARGE, "the question is longer than %d bytes", QUESTION_BYTES_MAX);
    } else {
        struct admin_request request = {.json = span_of(text, strlen(text))};
        struct writer out = writer_on(frame, sizeof frame);
        frame_begin(&out, MSG_ADMIN_REQUEST);
        admin_request_encode(&out, &request);
        *status = link_call(address, security, writer_span(&out), timeout_ms, reply,
                            AMI_FRAME_ADMIN_BYTES_MAX, &size, why);
        if (*status == AMI_OK)
            answer = read_answer(span_of(reply, size), address, status, why);
    }
    free(text);
    free(reply);
    return answer;
}
