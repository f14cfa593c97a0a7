/* Constant-time check of a channel's secret paths, to be run under valgrind's memcheck: private
 * keys, random bytes and everything computed from them are marked as undefined memory, and a branch
 * or an address that depends on one is reported. crypto/ is built with AMI_CT_CHECK, so what is
 * declared public there, or with secret_disclose, is. libgcrypt's own insides are left out by a
 * suppression (tests/channel/libgcrypt.supp); what it returns is still followed. */
#include "crypto/secret.h"
#include "sim/lab/realm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <valgrind/memcheck.h>

#define SECRET(object) ((void)VALGRIND_MAKE_MEM_UNDEFINED(&(object), sizeof(object)))
#define PUBLIC(object) ((void)VALGRIND_MAKE_MEM_DEFINED(&(object), sizeof(object)))
#define USE(object)    ((void)VALGRIND_CHECK_MEM_IS_DEFINED(&(object), sizeof(object)))

static int failures;

static void expect(const char *name, unsigned long before, bool reports)
{
    unsigned long count = (unsigned long)VALGRIND_COUNT_ERRORS - before;
    bool good = reports ? count > 0 : count == 0;
    printf("%s %s: %lu reports\n", good ? "ok  " : "FAIL", name, count);
    failures += !good;
}

#define CLEAN(name, ...)                                                                           \
    do {                                                                                           \
        unsigned long before_ = (unsigned long)VALGRIND_COUNT_ERRORS;                              \
        __VA_ARGS__;                                                                               \
        expect(name, before_, false);                                                              \
    } while (0)

static struct realm realm;

static void start(struct party *p, bool initiator)
{
    uint8_t random[CHANNEL_RANDOM_BYTES];
    secret_random(random, sizeof random);
    SECRET(random);
    SECRET(p->own.key.d);
    SECRET(p->own.key.inverse_1_plus_d);
    CLEAN("channel_start",
          channel_start(&p->channel, &p->config, initiator, random, SUITE_WALL_MS));
}

/* A frame on the wire is public. */
static struct channel_result hand_over(const char *name, struct party *to, struct frame *in,
                                       struct frame *out)
{
    struct channel_result result;
    PUBLIC(*in);
    CLEAN(name, result = deliver(to, in, out));
    PUBLIC(*out);
    if (result.event == CHANNEL_FAILED) {
        printf("FAIL %s: %s\n", name, channel_fault_name(channel_why(&to->channel)));
        failures++;
    }
    return result;
}

static void run(enum credential_kind kind, uint8_t suite)
{
    static struct frame a, b;
    static struct party i, r;
    struct credential one, two;
    realm_credential(&realm, &one, kind, "dc-1", NULL, 0, 0);
    realm_credential(&realm, &two, kind, "dc-2", NULL, 0, 0);
    party_make(&i, &realm, &one);
    party_make(&r, &realm, &two);
    i.config.suites = suite;
    printf("%s, %s\n", credential_kind_name(kind), channel_suite_name(suite));
    start(&i, true);
    start(&r, false);
    CLEAN("channel_first", channel_first(&i.channel, a.b));
    a.size = CHANNEL_FIRST_BYTES;
    (void)hand_over("first flight", &r, &a, &b);
    unsigned long before = (unsigned long)VALGRIND_COUNT_ERRORS;
    USE(r.channel.shared);
    expect("control: S is secret", before, true);
    (void)hand_over("answer", &i, &b, &a);
    (void)hand_over("finish", &r, &a, &b);
    (void)hand_over("ready", &i, &b, &a);
    before = (unsigned long)VALGRIND_COUNT_ERRORS;
    USE(i.channel.send.seed);
    expect("control: the chains are secret", before, true);
    CLEAN("channel_seal", a.size = channel_seal(&i.channel, a.b, SPAN_LITERAL("a vote")));
    (void)hand_over("record", &r, &a, &b);
    CLEAN("channel_close", a.size = channel_close(&i.channel, a.b));
    (void)hand_over("close", &r, &a, &b);
}

int main(void)
{
    if (!RUNNING_ON_VALGRIND) {
        fputs("this program checks nothing unless it runs under valgrind\n", stderr);
        return 2;
    }
    if (crypto_start() != AMI_OK)
        return 1;
    realm_make(&realm, "grid", 1);
    run(CREDENTIAL_IMPLICIT, CHANNEL_SM4_GCM);
    run(CREDENTIAL_CFL, CHANNEL_SM4_CTR_HMAC);
    printf("%d failures\n", failures);
    fflush(stdout);
    _exit(failures == 0 ? 0 : 1);
}
