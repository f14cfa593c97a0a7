/* crypto/sm3.h - SM3 (GB/T 32905), HMAC-SM3 and the SM2 key derivation function.
 *
 * A thin interface over libgcrypt; a microcontroller brings its own behind the same functions.
 * Messages are given in parts so that callers hash what they have where it lies, without copying.
 */
#ifndef AMI_CRYPTO_SM3_H
#define AMI_CRYPTO_SM3_H

#include "base/bytes.h"

#define SM3_BYTES 32

typedef struct sm3_digest {
    uint8_t b[SM3_BYTES];
} sm3_digest;

/* At most this many parts in one call; functions that put something of their own before or behind
 * the caller's parts say how many fewer. */
#define SM3_PARTS_MAX 20

sm3_digest sm3(struct span message);
sm3_digest sm3_parts(const struct span *parts, size_t count);

/* One message of a batch, given in parts (at most SM3_PARTS_MAX). */
struct sm3_message {
    const struct span *parts;
    size_t count;
};
/* The digests of `count` messages, which do not overlap them; the same as sm3_parts of each, faster
 * in bulk: sixteen at a time side by side where the processor has AVX-512 and SM2's code path
 * (crypto/sm2_group.h) is "ifma", one after another elsewhere. Constant time with regard to the
 * contents, not the lengths. */
void sm3_batch(sm3_digest *out, const struct sm3_message *in, size_t count);

/* Digest of label || 0x00 || parts...: every hash of ours that is not prescribed by a standard is
 * separated by such a label (at most SM3_PARTS_MAX - 2 parts). */
sm3_digest sm3_labelled(const char *label, const struct span *parts, size_t count);

/* init/update/final for long input; any chunking gives one digest. `sm3_stream_end` may be called
 * at any time to release it; sm3_stream_final ends it too. */
struct sm3_stream {
    void *handle;
};
enum ami_status sm3_stream_begin(struct sm3_stream *s) AMI_MUST_CHECK; /* AMI_NO_MEMORY */
void sm3_stream_update(struct sm3_stream *s, struct span part);
sm3_digest sm3_stream_final(struct sm3_stream *s);
void sm3_stream_end(struct sm3_stream *s);

/* HMAC-SM3 over the concatenation of the parts (at most SM3_PARTS_MAX - 1). Any key length. */
sm3_digest hmac_sm3(struct span key, const struct span *parts, size_t count);

/* The same for many: key[i] and in[i] belong together. */
void hmac_sm3_batch(sm3_digest *out, const struct span *key, const struct sm3_message *in,
                    size_t count);

/* KDF of GB/T 32918.4 clause 5.4.3: SM3(parts || counter_be32), counter from 1. `size` bytes out;
 * at most SM3_PARTS_MAX - 1 parts. */
void sm2_kdf(uint8_t *out, size_t size, const struct span *parts, size_t count);

bool sm3_equal(const sm3_digest *a, const sm3_digest *b);        /* public values */
bool sm3_equal_secret(const sm3_digest *a, const sm3_digest *b); /* tags: constant time */

#endif
