/* A DC that only speaks: for tests of dc-cli.
 *
 *   fake-dc credential FILE   writes an operator's credential of its network
 *   fake-dc serve DOCUMENT    listens, prints its address, and answers every question with what the
 *                             file holds; prints each question in a line of its own, until it is
 * killed
 */
#include "channel/file.h"
#include "crypto/secret.h"
#include "net/file.h"
#include "net/link.h"
#include "sim/lab/realm.h"
#include "wire/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct realm realm;
static struct links *links;
static uint8_t *document;
static size_t document_size;

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "fake-dc: %s\n", what);
    exit(1);
}

static void on_frame(void *ctx, env_link link, struct span frame)
{
    enum message_type type;
    struct span body;
    struct admin_request q;
    const struct admin_reply r = {AMI_OK, span_of(document, document_size)};
    (void)ctx;
    must(frame_open(frame, &type, &body) == AMI_OK && type == MSG_ADMIN_REQUEST &&
             admin_request_parse(&q, body) == AMI_OK,
         "what came is no question");
    printf("%.*s\n", (int)q.json.size, (const char *)q.json.data);
    fflush(stdout);
    uint8_t *out = malloc(document_size + 64);
    must(out != NULL, "out of memory");
    struct writer w = writer_on(out, document_size + 64);
    frame_begin(&w, MSG_ADMIN_REPLY);
    admin_reply_encode(&w, &r);
    must(writer_ok(&w) && link_send(links, link, writer_span(&w)) == AMI_OK, "no answer is sent");
    free(out);
}

static void serve(void)
{
    static struct party party;
    static struct link_security security;
    const struct link_limits limits = {.frame_bytes_max = 8192,
                                       .queue_bytes_max = AMI_FRAME_ADMIN_BYTES_MAX + 64,
                                       .connections_max = 8};
    const struct link_events events = {.on_frame = on_frame, .security = &security};
    struct link_listener *listener = NULL;
    struct credential own;
    struct why why = {""};
    struct loop *loop = loop_new();
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "dc1", NULL, 0, 0);
    party_make(&party, &realm, &own);
    security.config = party.config;
    links = loop == NULL ? NULL : links_new(loop);
    must(links != NULL, "out of memory");
    must(link_listen(links, "127.0.0.1:0", &limits, &events, &listener, &why) == AMI_OK, why.text);
    printf("%s\n", link_listener_address(listener));
    fflush(stdout);
    loop_run(loop);
}

int main(int argc, char **argv)
{
    struct why why = {""};
    must(argc == 3 && crypto_start() == AMI_OK, "usage: fake-dc credential|serve FILE");
    realm_make(&realm, "grid", 1);
    if (strcmp(argv[1], "serve") == 0) {
        must(file_read(argv[2], AMI_FRAME_ADMIN_BYTES_MAX, &document, &document_size, &why) ==
                 AMI_OK,
             why.text);
        serve();
        return 0;
    }
    struct credential own;
    uint8_t file[CREDENTIAL_FILE_BYTES_MAX];
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "tester", "2:operation+ledger+metering", 0,
                     0);
    size_t size = credential_file_encode(file, &realm.mdms.net, &own);
    must(file_write(argv[2], span_of(file, size), FILE_MODE_SECRET, &why) == AMI_OK, why.text);
    return 0;
}
