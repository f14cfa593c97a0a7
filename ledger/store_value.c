#include "ledger/store_value.h"

#include "base/check.h"

#define LABEL      "amiledger stored value v1"
#define LABEL_LONG "amiledger stored long value v1"
#define CHUNK      4096u
#define CHUNKS_MAX (STORE_LONG_BYTES_MAX / CHUNK + 1)
#define ROUND      64

/* The part of value || more from `at` on, at most a chunk of it, as one or two spans. */
static size_t cut(struct span part[2], struct span value, struct span more, size_t at)
{
    size_t count = 0, left = CHUNK;
    if (at < value.size) {
        part[0] = span_of(value.data + at, value.size - at < left ? value.size - at : left);
        left -= part[0].size;
        count = 1;
        at = value.size;
    }
    at -= value.size;
    if (left > 0 && at < more.size)
        part[count++] = span_of(more.data + at, more.size - at < left ? more.size - at : left);
    return count;
}

/* Digests of the chunks, many side by side: a block is hashed twice on its way to the disk. */
static size_t chunk_digests(sm3_digest *out, struct span value, struct span more)
{
    const size_t total = value.size + more.size, count = (total + CHUNK - 1) / CHUNK;
    struct span part[ROUND][2];
    struct sm3_message message[ROUND];
    AMI_CHECK(count <= CHUNKS_MAX);
    for (size_t done = 0; done < count; done += ROUND) {
        const size_t size = count - done < ROUND ? count - done : ROUND;
        for (size_t i = 0; i < size; i++)
            message[i] = (struct sm3_message){
                part[i], cut(part[i], value, more, (done + i) * (size_t)CHUNK)};
        sm3_batch(out + done, message, size);
    }
    return count;
}

void store_check(uint8_t out[STORE_CHECK_BYTES], const char *db, struct span key, struct span value,
                 struct span more)
{
    const size_t total = value.size + more.size;
    const uint8_t key_size[2] = {(uint8_t)(key.size >> 8), (uint8_t)key.size};
    const struct span name = span_of(db, strlen(db) + 1);
    sm3_digest d;
    if (total <= CHUNK || total > STORE_LONG_BYTES_MAX) {
        const struct span parts[5] = {name, span_of(key_size, sizeof key_size), key, value, more};
        d = sm3_labelled(LABEL, parts, 5);
    } else {
        sm3_digest chunk[CHUNKS_MAX];
        uint8_t size[4];
        store_be32(size, (uint32_t)total);
        const size_t count = chunk_digests(chunk, value, more);
        const struct span parts[5] = {name, span_of(key_size, sizeof key_size), key,
                                      span_of(size, sizeof size),
                                      span_of(chunk, count * sizeof chunk[0])};
        d = sm3_labelled(LABEL_LONG, parts, 5);
    }
    memcpy(out, d.b, STORE_CHECK_BYTES);
}

void store_checks(uint8_t (*out)[STORE_CHECK_BYTES], const char *db, const struct span *key,
                  const struct span *value, size_t count)
{
    struct span part[ROUND][5];
    uint8_t key_size[ROUND][2];
    struct sm3_message message[ROUND];
    sm3_digest d[ROUND];
    for (size_t done = 0; done < count; done += ROUND) {
        const size_t size = count - done < ROUND ? count - done : ROUND;
        for (size_t i = 0; i < size; i++) {
            const struct span k = key[done + i];
            AMI_CHECK(value[done + i].size <= CHUNK);
            key_size[i][0] = (uint8_t)(k.size >> 8);
            key_size[i][1] = (uint8_t)k.size;
            part[i][0] = span_of(LABEL, sizeof LABEL); /* with its zero byte, as everywhere */
            part[i][1] = span_of(db, strlen(db) + 1);
            part[i][2] = span_of(key_size[i], sizeof key_size[i]);
            part[i][3] = k;
            part[i][4] = value[done + i];
            message[i] = (struct sm3_message){part[i], 5};
        }
        sm3_batch(d, message, size);
        for (size_t i = 0; i < size; i++)
            memcpy(out[done + i], d[i].b, STORE_CHECK_BYTES);
    }
}
