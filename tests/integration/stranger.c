/* stranger.c - somebody who shows a credential that the programs themselves would not show, to a DC
 * or an MDMS that runs: tests/integration/refusals.sh.
 *
 *   stranger NETWORK.json dial HOST:PORT CREDENTIAL    once; says "open" (status 0) or "refused"
 * (3) stranger NETWORK.json listen HOST:PORT CREDENTIAL  says "ready", and then how each connection
 * ended
 *
 * CREDENTIAL is one of
 *
 *   file FILE                     an operator's, from `ami-mdms operator add`
 *   dc KEY [CFL]                  a DC's key file, and a CFL certificate over that key
 *   mdms KEY PASSPHRASE-FILE CFL  the MDMS's key file, and a CFL certificate
 *   x509 KEY CHAIN                of this network, or the script's foreign one (make_certificates)
 *   made KIND ROLE NAME WHOSE     made here: KIND implicit or cfl, ROLE dc, mdms or operator, WHOSE
 *                                 self (no issuer), forged (by another that says it is ours) or
 *                                 elsewhere (by another network's)
 *
 * Whatever it shows, it speaks of NETWORK.json's network, holds the credential's private key, and
 * takes whoever answers for good. It ends with status 1, and a sentence, when it could not try.
 */
#include "channel/cfl.h"
#include "channel/file.h"
#include "channel/x509.h"
#include "crypto/secret.h"
#include "keyagree/keyfile.h"
#include "ledger/genesis.h"
#include "net/file.h"
#include "net/link.h"
#include "net/trust.h"
#include "sim/lab/realm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSPHRASE_BYTES 256
#define FILE_BYTES_MAX   (1u << 20)
#define GIVE_UP_US       (30ull * 1000000u)

enum { OPEN = 0, FAILED = 1, REFUSED = 3 };

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("stranger: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(FAILED);
}

static void good(enum ami_status status, const char *what)
{
    if (status != AMI_OK)
        fail("%s: %s", what, ami_status_text(status));
}

/* What was read, until forget. */
static struct {
    uint8_t *data;
    size_t size;
} files[8];
static unsigned files_read;

static struct span contents(const char *path)
{
    struct why why = {""};
    const unsigned i = files_read++;
    if (i == sizeof files / sizeof files[0])
        fail("too many files");
    if (file_read(path, FILE_BYTES_MAX, &files[i].data, &files[i].size, &why) != AMI_OK)
        fail("%s", why.text);
    return span_of(files[i].data, files[i].size);
}

static void forget(void)
{
    for (unsigned i = 0; i < files_read; i++) {
        secret_wipe(files[i].data, files[i].size);
        free(files[i].data);
    }
}

/* --- credentials ------------------------------------------------------------------------------ */

static struct network net;

static void over(struct credential *out, const char *cfl, const sm2_private *key)
{
    struct cfl_certificate certificate;
    good(cfl_file_parse(&certificate, true, contents(cfl)), cfl);
    good(cfl_credential(out, &certificate, key), cfl);
}

static void of_file(struct credential *out, const char *path)
{
    struct network theirs;
    good(credential_file_parse(out, &theirs, contents(path)), path);
}

static void of_dc(struct credential *out, const char *path, const char *cfl)
{
    struct device_file f;
    good(device_file_parse(&f, &net, contents(path), NULL), path);
    if (cfl == NULL)
        good(credential_of_dc(out, &net, &f.keys.name, f.keys.epoch, &f.keys.sign), path);
    else
        over(out, cfl, &f.keys.sign.private_key);
}

static void of_mdms(struct credential *out, const char *path, const char *passphrase,
                    const char *cfl)
{
    char line[PASSPHRASE_BYTES] = "";
    struct mdms_keys keys;
    const struct span text = contents(passphrase);
    const size_t size = strcspn((const char *)text.data, "\n");
    if (size >= sizeof line)
        fail("%s: the passphrase is too long", passphrase);
    memcpy(line, text.data, size);
    good(mdms_file_parse(&keys, &net, contents(path), line), path);
    over(out, cfl, &keys.sign);
}

static void of_openssl(struct credential *out, const char *key_path, const char *chain)
{
    char why[300] = "";
    sm2_private key;
    struct network foreign = net;
    memset(&foreign.id, 0, sizeof foreign.id);
    good(x509_key(&key, contents(key_path)), key_path);
    enum ami_status status = x509_credential(out, &net, &key, contents(chain), why, sizeof why);
    if (status == AMI_WRONG_CHAIN)
        status = x509_credential(out, &foreign, &key, contents(chain), why, sizeof why);
    if (status != AMI_OK)
        fail("%s: %s", chain, why);
}

static void issue_cfl(struct credential *out, struct realm *r, enum credential_role role,
                      const char *name, bool self)
{
    static struct cfl_seed
        own_key; /* whose every sum is the holder's key: one row, equal columns */
    struct cfl_certificate certificate;
    sm2_private rask;
    uint8_t random[2][SM2_WIDE_BYTES];
    const int64_t now_s = clock_wall_ms() / 1000;
    const struct credential_identity who = {
        .role = role,
        .network = r->mdms.net.id,
        .name = id_of(name),
        .epoch = role == CREDENTIAL_MDMS ? 0 : 1,
        .label = label_of(role == CREDENTIAL_OPERATOR ? "1:ledger" : "0:"),
        .from_s = now_s - 3600,
        .until_s = now_s + 86400};
    secret_random(random, sizeof random);
    good(cfl_request(&certificate, &rask, &who, (const uint8_t(*)[SM2_WIDE_BYTES])random),
         "request");
    own_key = (struct cfl_seed){.rows = 1, .columns = 2, .key = {rask.d, rask.d}};
    good(cfl_issue(&certificate, self ? &own_key : &r->seed, realm_random(r)), "certificate");
    good(cfl_credential(out, &certificate, &rask), "certificate");
}

static void issue_implicit(struct credential *out, struct realm *r, enum credential_role role,
                           const char *name, bool self)
{
    if (role == CREDENTIAL_MDMS)
        good(credential_of_mdms(out, &r->mdms.net, &r->mdms.sign), "credential");
    else
        realm_credential(r, out, CREDENTIAL_IMPLICIT, name,
                         role == CREDENTIAL_OPERATOR ? "1:ledger" : NULL, 0, 0);
    if (!self)
        return;
    if (role == CREDENTIAL_MDMS)
        fail("an implicit credential of the MDMS has no issuer but the network file");
    /* W = dG, as if P_pub were nothing: the holder believes that P is W. */
    const point_bytes w = point_encode(&out->key.p);
    memcpy(out->shown + out->shown_size - sizeof w.b, w.b, sizeof w.b);
    out->w = out->key.p;
}

static void made(struct credential *out, const char *kind, const char *role_name, const char *name,
                 const char *whose)
{
    static struct realm realm; /* of keys that nobody else has, and everybody can compute */
    enum credential_role role = CREDENTIAL_DC;
    while (role <= CREDENTIAL_OPERATOR && strcmp(credential_role_name(role), role_name) != 0)
        role++;
    const bool self = strcmp(whose, "self") == 0, elsewhere = strcmp(whose, "elsewhere") == 0;
    if (role > CREDENTIAL_OPERATOR || (!self && !elsewhere && strcmp(whose, "forged") != 0))
        fail("no such role, or no such issuer: %s, %s", role_name, whose);
    realm_make(&realm, net.name.text, 1);
    if (!elsewhere)
        realm.mdms.net.id = net.id;
    if (strcmp(kind, "cfl") == 0)
        issue_cfl(out, &realm, role, name, self);
    else if (strcmp(kind, "implicit") == 0)
        issue_implicit(out, &realm, role, name, self);
    else
        fail("no such kind: %s", kind);
}

static void credential_of(struct credential *out, int count, char **word)
{
    const char *what = count == 0 ? "" : word[0];
    if (strcmp(what, "file") == 0 && count == 2)
        of_file(out, word[1]);
    else if (strcmp(what, "dc") == 0 && (count == 2 || count == 3))
        of_dc(out, word[1], count == 3 ? word[2] : NULL);
    else if (strcmp(what, "mdms") == 0 && count == 4)
        of_mdms(out, word[1], word[2], word[3]);
    else if (strcmp(what, "x509") == 0 && count == 3)
        of_openssl(out, word[1], word[2]);
    else if (strcmp(what, "made") == 0 && count == 5)
        made(out, word[1], word[2], word[3], word[4]);
    else
        fail("what credential? (the file's head lists them)");
}

/* --- links ------------------------------------------------------------------------------------ */

static struct loop *loop;
static bool dials;
static int result = FAILED;

static void say(int how, const char *word)
{
    puts(word);
    fflush(stdout);
    result = how;
    if (dials)
        loop_stop(loop);
}

static void on_open(void *ctx, env_link link, const char *remote)
{
    (void)ctx;
    (void)link;
    (void)remote;
    say(OPEN, "open");
}

static void on_refused(void *ctx, const char *remote, enum channel_fault fault,
                       const struct credential_identity *who, enum channel_standing standing)
{
    (void)ctx;
    (void)remote;
    (void)who;
    (void)standing;
    say(fault == FAULT_REFUSED ? REFUSED : FAILED,
        fault == FAULT_REFUSED ? "refused" : channel_fault_text(fault));
}

static void on_unreachable(void *ctx, const char *why)
{
    (void)ctx;
    say(FAILED, why);
}

static void give_up(void *arg)
{
    (void)arg;
    say(FAILED, "no answer in time");
}

static enum channel_fault anybody(void *ctx, const struct credential_identity *who)
{
    (void)ctx;
    (void)who;
    return FAULT_NONE;
}

int main(int argc, char **argv)
{
    static struct credential own;
    struct credential_trust trust = {.net = &net, .kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT)};
    struct link_security security = {
        .config = {.own = &own, .trust = &trust, .suites = CHANNEL_SUITES_ALL, .accept = anybody}};
    const struct link_events events = {.on_open = on_open,
                                       .on_refused = on_refused,
                                       .on_unreachable = on_unreachable,
                                       .security = &security};
    const struct link_limits limits = {.frame_bytes_max = AMI_FRAME_PEER_BYTES_MAX,
                                       .queue_bytes_max = 2 * AMI_FRAME_PEER_BYTES_MAX,
                                       .connections_max = 64,
                                       .stranger_ms = 10000};
    struct loop_alarm late = {.fire = give_up};
    struct link_listener *listener;
    struct link_dialer *dialer;
    struct why why = {""};
    char reason[200] = "";
    if (argc < 5)
        fail("expected NETWORK.json dial|listen HOST:PORT CREDENTIAL");
    good(crypto_start(), "crypto");
    good(network_parse(&net, contents(argv[1]), reason, sizeof reason), argv[1]);
    credential_of(&own, argc - 4, argv + 4);
    forget();
    dials = strcmp(argv[2], "dial") == 0;
    loop = loop_new();
    struct links *links = loop == NULL ? NULL : links_new(loop);
    if (links == NULL || !loop_catch_signals(loop, NULL, NULL))
        fail("no event loop");
    enum ami_status status = dials ? link_dial(links, argv[3], &limits, 0, &events, &dialer, &why)
                                   : link_listen(links, argv[3], &limits, &events, &listener, &why);
    if (status != AMI_OK)
        fail("%s", why.text);
    if (dials) {
        loop_alarm_set(loop, &late, clock_mono_us() + GIVE_UP_US);
    } else {
        puts("ready");
        fflush(stdout);
    }
    loop_run(loop);
    links_free(links);
    loop_free(loop);
    return dials ? result : OPEN;
}
