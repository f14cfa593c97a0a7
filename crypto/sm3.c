/* SM3, HMAC-SM3 and the KDF over libgcrypt's one-shot hash, which allocates nothing and so cannot
 * fail at run time once crypto_start has seen the algorithm work. */
#include "crypto/sm3.h"

#include "base/check.h"
#include "crypto/ct.h"
#include "crypto/secret.h"
#include "crypto/sm2_path.h"
#include "crypto/sm3_lanes.h"

#include <gcrypt.h>
#include <string.h>

#define SM3_BLOCK_BYTES 64

sm3_digest sm3_parts(const struct span *parts, size_t count)
{
    AMI_CHECK(count <= SM3_PARTS_MAX);
    gcry_buffer_t iov[SM3_PARTS_MAX];
    for (size_t i = 0; i < count; i++)
        iov[i] = (gcry_buffer_t){.len = parts[i].size, .data = (void *)(uintptr_t)parts[i].data};
    sm3_digest out;
    gcry_error_t error = gcry_md_hash_buffers(GCRY_MD_SM3, 0, out.b, iov, (int)count);
    AMI_CHECK(error == 0);
    CT_DERIVED(out.b, sizeof out.b, parts, count);
    return out;
}

#ifdef AMI_SM2_X86_64
/* What a block in sixteen lanes costs, in blocks of libgcrypt's. Measured on Zen 4. */
#define LANES_BLOCK_COST 3

/* All lanes are busy until the messages run out, and then some until the longest ends. */
static bool lanes_are_faster(const struct sm3_message *in, size_t count)
{
    if (count < 2 || sm2_path() != &sm2_path_ifma)
        return false;
    size_t total = 0, longest = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        for (size_t j = 0; j < in[i].count; j++)
            size += in[i].parts[j].size;
        size_t blocks = size / SM3_BLOCK_BYTES + 1;
        total += blocks;
        longest = blocks > longest ? blocks : longest;
    }
    return (longest + total / SM3_LANES) * LANES_BLOCK_COST < total;
}
#endif

void sm3_batch(sm3_digest *out, const struct sm3_message *in, size_t count)
{
#ifdef AMI_SM2_X86_64
    if (lanes_are_faster(in, count)) {
        sm3_lanes(out, in, count);
        return;
    }
#endif
    for (size_t i = 0; i < count; i++)
        out[i] = sm3_parts(in[i].parts, in[i].count);
}

sm3_digest sm3(struct span message)
{
    return sm3_parts(&message, 1);
}

sm3_digest sm3_labelled(const char *label, const struct span *parts, size_t count)
{
    AMI_CHECK(count <= SM3_PARTS_MAX - 2);
    struct span all[SM3_PARTS_MAX];
    all[0] = span_of(label, strlen(label) + 1); /* with its terminating zero as the separator */
    for (size_t i = 0; i < count; i++)
        all[1 + i] = parts[i];
    return sm3_parts(all, count + 1);
}

enum ami_status sm3_stream_begin(struct sm3_stream *s)
{
    gcry_md_hd_t handle = NULL;
    s->handle = NULL;
    if (gcry_md_open(&handle, GCRY_MD_SM3, 0) != 0)
        return AMI_NO_MEMORY;
    s->handle = handle;
    return AMI_OK;
}

void sm3_stream_update(struct sm3_stream *s, struct span part)
{
    AMI_CHECK(s->handle != NULL);
    if (part.size > 0)
        gcry_md_write((gcry_md_hd_t)s->handle, part.data, part.size);
}

sm3_digest sm3_stream_final(struct sm3_stream *s)
{
    AMI_CHECK(s->handle != NULL);
    const unsigned char *read = gcry_md_read((gcry_md_hd_t)s->handle, GCRY_MD_SM3);
    AMI_CHECK(read != NULL);
    sm3_digest out;
    memcpy(out.b, read, sizeof out.b);
    sm3_stream_end(s);
    return out;
}

void sm3_stream_end(struct sm3_stream *s)
{
    gcry_md_close((gcry_md_hd_t)s->handle);
    s->handle = NULL;
}

/* RFC 2104 written out over the hash of a message in parts: libgcrypt's own HMAC allocates a handle
 * per call, which costs more than the hash of a short message and may fail. */
sm3_digest hmac_sm3(struct span key, const struct span *parts, size_t count)
{
    const struct sm3_message message = {parts, count};
    sm3_digest out;
    hmac_sm3_batch(&out, &key, &message, 1);
    return out;
}

#define HMAC_CHUNK 16

struct hmac_chunk {
    uint8_t pad[HMAC_CHUNK][SM3_BLOCK_BYTES];
    struct span part[HMAC_CHUNK][SM3_PARTS_MAX];
    struct sm3_message message[HMAC_CHUNK];
    sm3_digest inner[HMAC_CHUNK];
};

/* The key, padded with zeros or hashed, xor 36. */
static void hmac_inner_pad(uint8_t pad[SM3_BLOCK_BYTES], struct span key)
{
    memset(pad, 0, SM3_BLOCK_BYTES);
    if (key.size > SM3_BLOCK_BYTES) {
        sm3_digest short_key = sm3(key);
        memcpy(pad, short_key.b, sizeof short_key.b);
        secret_wipe(&short_key, sizeof short_key);
    } else if (key.size > 0) {
        memcpy(pad, key.data, key.size);
    }
    for (size_t i = 0; i < SM3_BLOCK_BYTES; i++)
        pad[i] ^= 0x36;
}

static void hmac_chunk(sm3_digest *out, struct hmac_chunk *c, const struct span *key,
                       const struct sm3_message *in, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        AMI_CHECK(in[i].count <= SM3_PARTS_MAX - 1);
        hmac_inner_pad(c->pad[i], key[i]);
        c->part[i][0] = span_of(c->pad[i], SM3_BLOCK_BYTES);
        for (size_t j = 0; j < in[i].count; j++)
            c->part[i][1 + j] = in[i].parts[j];
        c->message[i] = (struct sm3_message){c->part[i], in[i].count + 1};
    }
    sm3_batch(c->inner, c->message, size);
    for (size_t i = 0; i < size; i++) {
        for (size_t j = 0; j < SM3_BLOCK_BYTES; j++)
            c->pad[i][j] ^= 0x36 ^ 0x5c;
        c->part[i][1] = span_of(c->inner[i].b, SM3_BYTES);
        c->message[i].count = 2;
    }
    sm3_batch(out, c->message, size);
}

void hmac_sm3_batch(sm3_digest *out, const struct span *key, const struct sm3_message *in,
                    size_t count)
{
    struct hmac_chunk c;
    for (size_t done = 0; done < count; done += HMAC_CHUNK)
        hmac_chunk(out + done, &c, key + done, in + done,
                   count - done < HMAC_CHUNK ? count - done : HMAC_CHUNK);
    secret_wipe(c.pad, sizeof c.pad);
    secret_wipe(c.inner, sizeof c.inner);
}

void sm2_kdf(uint8_t *out, size_t size, const struct span *parts, size_t count)
{
    AMI_CHECK(count <= SM3_PARTS_MAX - 1);
    AMI_CHECK(size / SM3_BYTES < UINT32_MAX); /* the standard's bound on the counter */
    struct span all[SM3_PARTS_MAX];
    for (size_t i = 0; i < count; i++)
        all[i] = parts[i];
    uint8_t counter_be[4];
    all[count] = span_of(counter_be, sizeof counter_be);
    sm3_digest block;
    for (uint32_t counter = 1; size > 0; counter++) {
        store_be32(counter_be, counter);
        block = sm3_parts(all, count + 1);
        size_t take = size < sizeof block.b ? size : sizeof block.b;
        memcpy(out, block.b, take);
        out += take;
        size -= take;
    }
    secret_wipe(&block, sizeof block);
}

bool sm3_equal(const sm3_digest *a, const sm3_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool sm3_equal_secret(const sm3_digest *a, const sm3_digest *b)
{
    return secret_equal(a->b, b->b, sizeof a->b);
}
