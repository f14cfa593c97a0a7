/* knock.c - who knocks at a DC's port, for tests of what that may cost.
 *
 *   knock NETWORK HOST:PORT SOURCE KEEP CREDENTIAL [CHAIN]
 *
 * Whole handshakes from the address SOURCE, one after the other, as fast as they go, until SIGTERM.
 * Channels that come to be open are kept, KEEP of them at most, and made again when they end; 0:
 * each is left at once. CREDENTIAL is an operator's file, the folder of a DC, whose first key is
 * used, or with CHAIN an X.509 key. Then one JSON object says what came of it.
 */
#include "channel/file.h"
#include "channel/x509.h"
#include "crypto/secret.h"
#include "net/file.h"
#include "net/link.h"
#include "node/keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX  (1u << 20)
#define ANSWER_MS 5000
#define KEEP_MAX  1024

static struct network net;
static struct credential own;
static struct sockaddr_in to = {.sin_family = AF_INET}, from = {.sin_family = AF_INET};

static unsigned long long tried, answered, thirds, opened, refused, turned_away;

static volatile sig_atomic_t stopped;
static void on_term(int number)
{
    (void)number;
    stopped = 1;
}

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "knock: %s\n", what);
    exit(1);
}

/* --- one handshake ---------------------------------------------------------------------------- */

static enum channel_fault anybody(void *ctx, const struct credential_identity *who)
{
    (void)ctx;
    (void)who;
    return FAULT_NONE;
}

static const struct credential_trust trust = {.net = &net,
                                              .kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT)};
static const struct channel_config config = {
    .own = &own, .trust = &trust, .suites = CHANNEL_SUITES_ALL, .accept = anybody};

static bool send_frame(int fd, const uint8_t *bytes, size_t size)
{
    uint8_t frame[LINK_LENGTH_BYTES + CHANNEL_FLIGHT_BYTES_MAX];
    store_be32(frame, (uint32_t)size);
    memcpy(frame + LINK_LENGTH_BYTES, bytes, size);
    return send(fd, frame, LINK_LENGTH_BYTES + size, MSG_NOSIGNAL) ==
           (ssize_t)(LINK_LENGTH_BYTES + size);
}

static bool receive_all(int fd, uint8_t *out, size_t size)
{
    for (size_t at = 0; at < size;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const ssize_t got =
            poll(&p, 1, ANSWER_MS) == 1 ? recv(fd, out + at, size - at, 0) : (ssize_t)-1;
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

/* 0: the other side ended the connection, or says nothing. */
static size_t receive_frame(int fd, uint8_t out[CHANNEL_FLIGHT_BYTES_MAX])
{
    uint8_t prefix[LINK_LENGTH_BYTES];
    if (!receive_all(fd, prefix, sizeof prefix))
        return 0;
    const size_t size = load_be32(prefix);
    return size <= CHANNEL_FLIGHT_BYTES_MAX && receive_all(fd, out, size) ? size : 0;
}

/* Whether a channel is open. */
static bool handshake(int fd)
{
    static struct channel c;
    uint8_t random[CHANNEL_RANDOM_BYTES], frame[CHANNEL_FLIGHT_BYTES_MAX],
        reply[CHANNEL_FLIGHT_BYTES_MAX];
    secret_random(random, sizeof random);
    channel_start(&c, &config, true, random, clock_wall_ms());
    channel_first(&c, frame);
    size_t size = send_frame(fd, frame, CHANNEL_FIRST_BYTES) ? receive_frame(fd, frame) : (size_t)0;
    if (size == 0) {
        turned_away++;
        return false;
    }
    answered++;
    struct channel_result result = channel_receive(&c, frame, size, reply, clock_wall_ms());
    must(result.event == CHANNEL_NOTHING && result.reply_size > 0,
         channel_fault_text(channel_why(&c)));
    size = send_frame(fd, reply, result.reply_size) ? receive_frame(fd, frame) : (size_t)0;
    thirds++;
    if (size == 0) {
        turned_away++;
        return false;
    }
    result = channel_receive(&c, frame, size, reply, clock_wall_ms());
    channel_wipe(&c);
    opened += result.event == CHANNEL_OPEN;
    refused += result.event != CHANNEL_OPEN;
    return result.event == CHANNEL_OPEN;
}

/* -1: no channel came of it. */
static int knock(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    must(fd >= 0 && bind(fd, (struct sockaddr *)&from, sizeof from) == 0, "no socket");
    tried++;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && handshake(fd))
        return fd;
    close(fd);
    return -1;
}

/* What comes is not read for what it says, only for its end. */
static bool has_ended(int fd)
{
    uint8_t bytes[4096];
    const ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
}

/* --- who knocks ------------------------------------------------------------------------------- */

/* Valid until the next call but one. */
static struct span file_of(const char *path)
{
    static uint8_t kept[2][FILE_MAX];
    static unsigned at;
    uint8_t *data = NULL, *out = kept[at++ % 2];
    size_t size = 0;
    struct why why = {""};
    must(file_read(path, FILE_MAX, &data, &size, &why) == AMI_OK, why.text);
    memcpy(out, data, size);
    free(data);
    return span_of(out, size);
}

static void read_own(const char *path, const char *chain)
{
    struct stat s;
    struct network of_file;
    struct device_file keys;
    struct why why = {""};
    sm2_private key;
    char reason[300] = "";
    must(stat(path, &s) == 0, "no such credential");
    if (chain != NULL) {
        must(x509_key(&key, file_of(path)) == AMI_OK, "no key");
        must(x509_credential(&own, &net, &key, file_of(chain), reason, sizeof reason) == AMI_OK,
             reason);
    } else if (S_ISDIR(s.st_mode)) {
        must(key_load(&keys, path, KEY_FIRST, &net, &why) == AMI_OK, why.text);
        must(credential_of_dc(&own, &net, &keys.keys.name, keys.keys.epoch, &keys.keys.sign) ==
                 AMI_OK,
             "no DC's key");
    } else {
        must(credential_file_parse(&own, &of_file, file_of(path)) == AMI_OK, "no credential");
    }
}

static void read_addresses(const char *address, const char *source)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    must(colon != NULL && (size_t)(colon - address) < sizeof host, "an address is HOST:PORT");
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    to.sin_port = htons((uint16_t)atoi(colon + 1));
    must(inet_pton(AF_INET, host, &to.sin_addr) == 1 &&
             inet_pton(AF_INET, source, &from.sin_addr) == 1,
         "addresses are numeric");
}

int main(int argc, char **argv)
{
    static int fd[KEEP_MAX];
    struct why why = {""};
    const struct sigaction act = {.sa_handler = on_term};
    must(argc == 6 || argc == 7,
         "usage: knock NETWORK HOST:PORT SOURCE KEEP CREDENTIAL|KEY [CHAIN]");
    const unsigned long keep = strtoul(argv[4], NULL, 10);
    must(crypto_start() == AMI_OK && keep <= KEEP_MAX, "it does not start");
    must(key_network(&net, argv[1], &why) == AMI_OK, why.text);
    read_addresses(argv[2], argv[3]);
    read_own(argv[5], argc == 7 ? argv[6] : NULL);
    must(sigaction(SIGTERM, &act, NULL) == 0, "no signals");
    for (unsigned long i = 0; i < keep; i++)
        fd[i] = -1;
    for (unsigned long at = 0; !stopped; at = keep == 0 ? 0 : (at + 1) % keep) {
        if (keep == 0) {
            const int once = knock();
            if (once >= 0)
                close(once);
        } else if (fd[at] < 0) {
            fd[at] = knock();
        } else if (has_ended(fd[at])) {
            close(fd[at]);
            fd[at] = -1;
        }
    }
    unsigned long held = 0;
    for (unsigned long i = 0; i < keep; i++)
        held += fd[i] >= 0 && !has_ended(fd[i]);
    printf("{\"tried\": %llu, \"answered\": %llu, \"thirds\": %llu, \"opened\": %llu, "
           "\"refused\": %llu, \"turned_away\": %llu, \"held\": %lu}\n",
           tried, answered, thirds, opened, refused, turned_away, held);
    return 0;
}
