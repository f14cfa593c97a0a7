/* A proof asked of DCs that answer all sorts of things: the first whole one of the right report is
 * taken, nothing else is. */
#include "tests/harness.h"

#include "channel/file.h"
#include "client/proof.h"
#include "crypto/secret.h"
#include "ledger/proof.h"
#include "net/file.h"
#include "net/link.h"
#include "sim/lab/realm.h"
#include "tests/ledger/fixture.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define M_BYTES 60
#define DCS     4

/* --- the ledger: two reports of one meter ------------------------------------------------------
 */

static struct fixture *f;
static struct fixture_device meter;
static struct fixture_block *enrolling, *reporting;
static uint8_t salt[16], m[M_BYTES];
static char *whole; /* of report 2, as it has to come out */

static char *proof_text(uint32_t index, bool opened)
{
    struct proof p = fixture_proof(reporting, index, enrolling, 0);
    p.has_opening = opened;
    if (opened) {
        memcpy(p.salt, salt, sizeof salt);
        p.m = span_of(m, sizeof m);
    }
    return proof_print(&p);
}

/* --- the DCs: each answers every question with one document, in the loop's thread ---------------
 */

static struct dc {
    json_t *document;
    struct party party;
    struct link_security security;
    char address[LINK_URL_BYTES];
    atomic_uint asked, turn; /* turn: how many questions had come in all when it was asked last */
    atomic_uint wrong;       /* questions that were not for the report wanted */
} dc[DCS];

static struct realm realm;
static struct loop *loop;
static struct links *links;
static pthread_t thread;
static atomic_uint questions;
static char credential[64];
static struct committee *members;
static uint64_t sequence_wanted = 2;

static bool is_right(struct span question)
{
    json_t *q = json_loadb((const char *)question.data, question.size, 0, NULL);
    const char *ask = json_string_value(json_object_get(q, "ask"));
    const char *name = json_string_value(json_object_get(q, "meter"));
    const bool right =
        ask != NULL && strcmp(ask, "proof") == 0 && name != NULL &&
        strcmp(name, meter.name.text) == 0 &&
        json_integer_value(json_object_get(q, "epoch")) == 1 &&
        json_integer_value(json_object_get(q, "sequence")) == (json_int_t)sequence_wanted;
    json_decref(q);
    return right;
}

static void on_frame(void *ctx, env_link link, struct span frame)
{
    struct dc *d = ctx;
    enum message_type type;
    struct span body;
    struct admin_request q;
    if (frame_open(frame, &type, &body) != AMI_OK || type != MSG_ADMIN_REQUEST ||
        admin_request_parse(&q, body) != AMI_OK || !is_right(q.json))
        d->wrong++;
    d->asked++;
    d->turn = ++questions;
    char *text = json_dumps(d->document, JSON_COMPACT);
    const struct admin_reply r = {AMI_OK, span_of(text, strlen(text))};
    const size_t room = strlen(text) + 64;
    uint8_t *out = malloc(room);
    struct writer w = writer_on(out, room);
    frame_begin(&w, MSG_ADMIN_REPLY);
    admin_reply_encode(&w, &r);
    if (!writer_ok(&w) || link_send(links, link, writer_span(&w)) != AMI_OK)
        d->wrong++;
    free(out);
    free(text);
}

static void *run_loop(void *arg)
{
    (void)arg;
    loop_run(loop);
    return NULL;
}

static bool listen_as(struct dc *d, const char *name, json_t *document)
{
    const struct link_limits limits = {.frame_bytes_max = 8192,
                                       .queue_bytes_max = AMI_FRAME_ADMIN_BYTES_MAX + 64,
                                       .connections_max = 8};
    const struct link_events events = {.ctx = d, .on_frame = on_frame, .security = &d->security};
    struct link_listener *listener = NULL;
    struct credential own;
    struct why why = {""};
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, name, NULL, 0, 0);
    party_make(&d->party, &realm, &own);
    d->security.config = d->party.config;
    d->document = document;
    if (document == NULL ||
        link_listen(links, "127.0.0.1:0", &limits, &events, &listener, &why) != AMI_OK)
        return false;
    snprintf(d->address, sizeof d->address, "%s", link_listener_address(listener));
    return true;
}

static bool make_credential(void)
{
    struct credential own;
    struct why why = {""};
    uint8_t file[CREDENTIAL_FILE_BYTES_MAX];
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "tester", "2:operation+ledger+metering", 0,
                     0);
    const size_t size = credential_file_encode(file, &realm.mdms.net, &own);
    snprintf(credential, sizeof credential, "/tmp/ami-credential-XXXXXX");
    const int fd = mkstemp(credential);
    if (fd < 0 || close(fd) != 0)
        return false;
    return file_write(credential, span_of(file, size), FILE_MODE_SECRET, &why) == AMI_OK;
}

/* --- what comes of it --------------------------------------------------------------------------
 */

static enum ami_status fetch(char **text, const char *node, struct why *why)
{
    const struct proof_wanted wanted = {meter.name, 1, sequence_wanted, salt, span_of(m, sizeof m)};
    const struct proof_source from = {members, node, credential, 20000, "test"};
    *why = (struct why){""};
    return proof_fetch(text, &wanted, &f->genesis, &from, why);
}

static void refused(const struct dc *d, enum ami_status expected, const char *sentence)
{
    char *text;
    struct why why;
    const unsigned before = questions;
    assert_status(fetch(&text, d->address, &why), expected);
    assert_null(text);
    assert_int_equal(questions, before + 1);
    assert_non_null(strstr(why.text, d->address));
    if (strstr(why.text, sentence) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why.text, sentence);
}

/* The last of the four gives it; the others were asked before it, each once, and passed over. */
static void members_are_asked_until_one_gives_it(void **state)
{
    (void)state;
    char *text;
    struct why why;
    const unsigned before = questions;
    assert_ok(fetch(&text, NULL, &why));
    assert_string_equal(text, whole);
    free(text);
    assert_int_equal(questions, before + DCS);
    for (unsigned i = 0; i < DCS; i++) {
        assert_int_equal(dc[i].turn, before + i + 1);
        assert_int_equal(dc[i].wrong, 0);
    }
}

static void one_dc_alone_may_be_named(void **state)
{
    (void)state;
    char *text;
    struct why why;
    assert_ok(fetch(&text, dc[3].address, &why));
    assert_string_equal(text, whole);
    free(text);
    refused(&dc[0], AMI_BAD_ENCODING, "no proof");
    refused(&dc[1], AMI_BAD_ENCODING, "none");
    refused(&dc[2], AMI_BAD_PROOF, "none"); /* the opening is not that of the report it proves */
}

/* The opening fits the proof, but it is not the report that was asked for. */
static void a_true_proof_of_another_report_is_refused(void **state)
{
    (void)state;
    sequence_wanted = 3;
    refused(&dc[3], AMI_BAD_PROOF, "not the one asked for");
    sequence_wanted = 2;
}

static void nobody_to_ask_and_no_credential(void **state)
{
    (void)state;
    char *text;
    struct why why;
    members->members.count = 0;
    assert_status(fetch(&text, NULL, &why), AMI_UNREACHABLE);
    assert_null(text);
    members->members.count = DCS;
    credential[0] ^= 1;
    assert_status(fetch(&text, NULL, &why), AMI_NOT_FOUND);
    assert_null(text);
    assert_non_null(strstr(why.text, credential));
    credential[0] ^= 1;
}

static int start(void **state)
{
    (void)state;
    if (crypto_start() != AMI_OK || unsetenv("AMI_X509_ROOTS") != 0)
        return -1;
    struct fixture_body *b = fixture_body();
    f = fixture_new(DCS, 11);
    meter = fixture_meter(f, 1);
    fixture_meter_enrol(f, b, &meter, &f->dc[0].name);
    enrolling = fixture_commit(f, b, 1);
    fixture_clear(b);
    fixture_report(f, b, &meter, &f->dc[0], M_BYTES);
    fixture_report(f, b, &meter, &f->dc[1], M_BYTES);
    reporting = fixture_commit(f, b, 1);
    fixture_opening(salt, m, M_BYTES, &meter, 2);
    free(b);
    whole = proof_text(1, true);
    char *first = proof_text(0, false), *second = proof_text(1, false);
    realm_make(&realm, "grid", 1);
    loop = loop_new();
    links = loop == NULL ? NULL : links_new(loop);
    members = calloc(1, sizeof *members);
    if (whole == NULL || first == NULL || second == NULL || links == NULL || members == NULL)
        return -1;
    if (!listen_as(&dc[0], "dc-1", json_pack("{s:i}", "height", 2)) ||
        !listen_as(&dc[1], "dc-2", json_pack("{s:s}", "proof", "trust me")) ||
        !listen_as(&dc[2], "dc-3", json_pack("{s:s}", "proof", first)) ||
        !listen_as(&dc[3], "dc-4", json_pack("{s:s}", "proof", second)))
        return -1;
    free(first);
    free(second);
    members->members.count = DCS;
    for (unsigned i = 0; i < DCS; i++)
        snprintf(members->address[i].admin, sizeof members->address[i].admin, "%s", dc[i].address);
    return make_credential() ? pthread_create(&thread, NULL, run_loop, NULL) : -1;
}

static int stop(void **state)
{
    (void)state;
    loop_stop(loop);
    pthread_join(thread, NULL);
    links_free(links);
    loop_free(loop);
    for (unsigned i = 0; i < DCS; i++)
        json_decref(dc[i].document);
    free(members);
    free(whole);
    fixture_block_free(enrolling);
    fixture_block_free(reporting);
    fixture_free(f);
    return unlink(credential);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_asked_until_one_gives_it),
        cmocka_unit_test(one_dc_alone_may_be_named),
        cmocka_unit_test(a_true_proof_of_another_report_is_refused),
        cmocka_unit_test(nobody_to_ask_and_no_credential),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
