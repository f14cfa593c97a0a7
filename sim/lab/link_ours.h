/* sim/lab/link_ours.h - both ends of one channel (channel/), with each kind of credential, in one
 * process and without a wire: for links-crypto.
 *
 * Four DCs have all three kinds; 1 and 2 are strangers to each other, 3 and 4 are members, whose
 * signing keys have tables as in a DC (genesis_remember_signers).
 */
#ifndef AMI_SIM_LAB_LINK_OURS_H
#define AMI_SIM_LAB_LINK_OURS_H

#include "channel/cfl.h"
#include "channel/channel.h"
#include "sim/cast.h"
#include "sim/lab/link_x509.h"

/* Who issues, and what is trusted. */
struct link_issuers {
    const struct network *net;
    const struct sim_cast *cast;
    struct cfl_seed seed;
    struct cfl_public set;
    struct link_x509 x509;
    struct x509_trust *trust;
    uint64_t random; /* seed of what is drawn for keys; X.509's are libcrypto's */
};
struct link_issuers *link_issuers_new(uint64_t seed);
void link_issuers_free(struct link_issuers *s);
/* DC number 1 to 4. */
void link_credential(struct link_issuers *s, struct credential *out, enum credential_kind kind,
                     unsigned dc);
struct credential_trust link_trust(const struct link_issuers *s);

#define LINK_WALL_MS SIM_START_MS

struct link_end {
    struct credential own;
    struct credential_trust trust;
    struct channel_config config;
    struct channel channel;
};
struct link_ours {
    struct link_end client, server;
};
/* DCs `client` and the next, by this kind of credential, with this record suite. Free with
 * link_ours_free. */
struct link_ours *link_ours_new(struct link_issuers *s, enum credential_kind kind, unsigned client,
                                uint8_t suite);
void link_ours_free(struct link_ours *l);

/* A whole handshake, mutual; adds what each side took (processor time, nanoseconds). False when it
 * fails. */
bool link_ours_open(struct link_ours *l, double ns[2]);

/* The client sends `count` records of `size` bytes, then the server takes them: what each took is
 * added. `text` is what is sent; `wire` has count * (size + CHANNEL_OVERHEAD_BYTES_MAX) bytes.
 * False when one does not arrive as it was. */
bool link_ours_send(struct link_ours *l, const uint8_t *text, uint8_t *wire, size_t size,
                    size_t count, double ns[2]);

#endif
