/* SM3, HMAC-SM3, the KDF, SM4-GCM, wiping and sealed key files. */
#include "support.h"

#include "crypto/secret.h"
#include "crypto/sm4gcm.h"

#include <gcrypt.h>
#include <pthread.h>
#include <stdlib.h>

/* --- SM3 -------------------------------------------------------------------------------------- */

static void any_chunking_gives_one_digest(void **state)
{
    (void)state;
    struct seeded s = {1};
    uint8_t text[300];
    seeded_bytes(&s, text, sizeof text);
    for (size_t size = 0; size <= sizeof text; size += 1 + size / 8) {
        sm3_digest whole = sm3(span_of(text, size));
        for (size_t step = 1; step <= 130; step += 3) {
            struct sm3_stream stream;
            assert_ok(sm3_stream_begin(&stream));
            for (size_t at = 0; at < size; at += step)
                sm3_stream_update(&stream, span_of(text + at, size - at < step ? size - at : step));
            sm3_stream_update(&stream, span_of(NULL, 0));
            sm3_digest streamed = sm3_stream_final(&stream);
            assert_true(sm3_equal(&whole, &streamed));
        }
        /* In parts, with an empty one among them. */
        struct span parts[] = {span_of(text, size / 3), span_of(NULL, 0),
                               span_of(text + size / 3, size - size / 3)};
        sm3_digest joined = sm3_parts(parts, 3);
        assert_true(sm3_equal(&whole, &joined));
    }
}

static void a_stream_may_be_ended_early(void **state)
{
    (void)state;
    struct sm3_stream stream;
    assert_ok(sm3_stream_begin(&stream));
    sm3_stream_update(&stream, SPAN_LITERAL("abc"));
    sm3_stream_end(&stream);
    sm3_stream_end(&stream);
    assert_null(stream.handle);
}

static void labels_separate(void **state)
{
    (void)state;
    struct span ab = SPAN_LITERAL("ab"), b = SPAN_LITERAL("b");
    sm3_digest one = sm3_labelled("x", &ab, 1), other = sm3_labelled("xa", &b, 1);
    assert_false(sm3_equal(&one, &other));
    sm3_digest plain = sm3(span_of("x\0ab", 4));
    assert_true(sm3_equal(&one, &plain));
}

static void hmac_agrees_with_libgcrypt_for_every_key_length(void **state)
{
    (void)state;
    struct seeded s = {2};
    uint8_t key[200], text[100];
    seeded_bytes(&s, key, sizeof key);
    seeded_bytes(&s, text, sizeof text);
    for (size_t key_size = 0; key_size <= sizeof key; key_size++) {
        size_t text_size = key_size % sizeof text;
        struct span parts[] = {span_of(text, text_size / 2),
                               span_of(text + text_size / 2, text_size - text_size / 2)};
        sm3_digest ours = hmac_sm3(span_of(key, key_size), parts, 2);
        gcry_buffer_t iov[2] = {{.data = key, .len = key_size}, {.data = text, .len = text_size}};
        uint8_t theirs[SM3_BYTES];
        assert_int_equal(gcry_md_hash_buffers(GCRY_MD_SM3, GCRY_MD_FLAG_HMAC, theirs, iov, 2), 0);
        assert_memory_equal(ours.b, theirs, SM3_BYTES);
    }
}

/* GB/T 32918.4 clause 5.4.3: blocks SM3(Z || counter), counter from 1, the last one cut. */
static void kdf_is_the_concatenation_of_counted_blocks(void **state)
{
    (void)state;
    uint8_t expected[5 * SM3_BYTES], got[5 * SM3_BYTES + 1];
    for (uint32_t i = 0; i < 5; i++) {
        uint8_t counter_be[4];
        store_be32(counter_be, i + 1);
        struct span parts[] = {SPAN_LITERAL("shared"), span_of(counter_be, 4)};
        sm3_digest block = sm3_parts(parts, 2);
        memcpy(expected + i * SM3_BYTES, block.b, SM3_BYTES);
    }
    struct span parts[] = {SPAN_LITERAL("sha"), SPAN_LITERAL("red")};
    for (size_t size = 0; size <= sizeof expected; size++) {
        memset(got, 0xa5, sizeof got);
        sm2_kdf(got, size, parts, 2);
        assert_memory_equal(got, expected, size);
        assert_int_equal(got[size], 0xa5);
    }
}

/* --- SM4-GCM ---------------------------------------------------------------------------------- */

static void gcm_round_trip_in_place_and_tampered(void **state)
{
    (void)state;
    struct seeded s = {3};
    for (size_t size = 0; size <= 70; size += size < 20 ? 1 : 17) {
        sm4_key key;
        gcm_nonce nonce;
        uint8_t text[70], aad[33], sealed[86], work[86], zero[86] = {0};
        size_t aad_size = size % sizeof aad;
        seeded_bytes(&s, &key, sizeof key);
        seeded_bytes(&s, &nonce, sizeof nonce);
        seeded_bytes(&s, text, sizeof text);
        seeded_bytes(&s, aad, sizeof aad);
        struct span a = span_of(aad, aad_size);
        sm4gcm_seal(sealed, &key, &nonce, a, span_of(text, size));
        memcpy(work, text, size);
        sm4gcm_seal(work, &key, &nonce, a, span_of(work, size));
        assert_memory_equal(work, sealed, size + GCM_TAG_BYTES);
        assert_ok(sm4gcm_open(work, &key, &nonce, a, span_of(work, size + GCM_TAG_BYTES)));
        assert_memory_equal(work, text, size);

        /* Any flipped bit of ciphertext, tag, data, nonce or key is refused, nothing is left. */
        for (size_t at = 0; at < size + GCM_TAG_BYTES; at++) {
            uint8_t out[86];
            memset(out, 0xa5, sizeof out);
            memcpy(work, sealed, sizeof work);
            work[at] ^= (uint8_t)(1 << at % 8);
            assert_status(sm4gcm_open(out, &key, &nonce, a, span_of(work, size + GCM_TAG_BYTES)),
                          AMI_BAD_CRYPTO);
            assert_memory_equal(out, zero, size);
        }
        struct span good = span_of(sealed, size + GCM_TAG_BYTES);
        if (aad_size > 0) {
            assert_status(sm4gcm_open(work, &key, &nonce, span_of(aad, aad_size - 1), good),
                          AMI_BAD_CRYPTO);
            aad[0] ^= 1;
            assert_status(sm4gcm_open(work, &key, &nonce, a, good), AMI_BAD_CRYPTO);
            aad[0] ^= 1;
        }
        nonce.b[11] ^= 1;
        assert_status(sm4gcm_open(work, &key, &nonce, a, good), AMI_BAD_CRYPTO);
        nonce.b[11] ^= 1;
        key.b[0] ^= 1;
        assert_status(sm4gcm_open(work, &key, &nonce, a, good), AMI_BAD_CRYPTO);
        key.b[0] ^= 1;
        /* Cut short by one byte, and to less than a tag. */
        assert_status(sm4gcm_open(work, &key, &nonce, a, span_of(sealed, good.size - 1)),
                      AMI_BAD_CRYPTO);
        assert_status(sm4gcm_open(work, &key, &nonce, a, span_of(sealed, GCM_TAG_BYTES - 1)),
                      AMI_BAD_CRYPTO);
        assert_ok(sm4gcm_open(work, &key, &nonce, a, good));
    }
}

struct thread_job {
    uint64_t seed;
    bool good;
};

static void *seal_in_thread(void *arg)
{
    struct thread_job *job = arg;
    struct seeded s = {job->seed};
    job->good = true;
    for (int i = 0; i < 200; i++) {
        sm4_key key;
        gcm_nonce nonce;
        uint8_t text[48], sealed[64], opened[48];
        seeded_bytes(&s, &key, sizeof key);
        seeded_bytes(&s, &nonce, sizeof nonce);
        seeded_bytes(&s, text, sizeof text);
        sm4gcm_seal(sealed, &key, &nonce, span_of(NULL, 0), span_of(text, sizeof text));
        job->good = job->good &&
                    sm4gcm_open(opened, &key, &nonce, span_of(NULL, 0),
                                span_of(sealed, sizeof sealed)) == AMI_OK &&
                    memcmp(opened, text, sizeof text) == 0;
    }
    return NULL;
}

/* Each thread has a cipher handle of its own, which ends with it (seen by the leak checker). */
static void gcm_in_several_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct thread_job jobs[4];
    for (uint64_t i = 0; i < 4; i++) {
        jobs[i] = (struct thread_job){.seed = 100 + i};
        assert_int_equal(pthread_create(&threads[i], NULL, seal_in_thread, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(jobs[i].good);
    }
}

/* --- secrets ---------------------------------------------------------------------------------- */

static void start_is_idempotent(void **state)
{
    (void)state;
    assert_ok(crypto_start());
    assert_ok(crypto_start());
}

static void wiping_comparing_drawing(void **state)
{
    (void)state;
    uint8_t a[64], b[64], zero[64] = {0};
    secret_random(a, sizeof a);
    secret_random(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_false(secret_equal(a, b, sizeof a));
    assert_true(secret_equal(a, a, sizeof a));
    assert_true(secret_equal(a, b, 0));
    memcpy(b, a, sizeof b);
    b[63] ^= 0x80;
    assert_false(secret_equal(a, b, sizeof a));
    secret_wipe(a, sizeof a);
    assert_memory_equal(a, zero, sizeof a);
}

static void sealed_file_opens_with_its_passphrase_and_purpose_only(void **state)
{
    (void)state;
    uint8_t plain[40], sealed[SECRET_SEAL_OVERHEAD_BYTES + 40], again[sizeof sealed], out[41];
    const uint8_t zero[40] = {0};
    secret_random(plain, sizeof plain);
    struct span file = span_of(sealed, sizeof sealed);
    assert_ok(secret_seal(sealed, "correct horse", "meter key", span_of(plain, sizeof plain)));
    assert_ok(secret_seal(again, "correct horse", "meter key", span_of(plain, sizeof plain)));
    assert_memory_not_equal(sealed + 8, again + 8, sizeof sealed - 8); /* salted anew */

    assert_ok(secret_open(out, "correct horse", "meter key", file));
    assert_memory_equal(out, plain, sizeof plain);
    memset(out, 0xa5, sizeof out);
    assert_status(secret_open(out, "correct horsf", "meter key", file), AMI_WRONG_PASSPHRASE);
    assert_memory_equal(out, zero, sizeof zero);
    assert_int_equal(out[40], 0xa5);
    memset(out, 0xa5, sizeof out);
    assert_status(secret_open(out, "correct horse", "mdms key", file), AMI_WRONG_PASSPHRASE);
    assert_memory_equal(out, zero, sizeof zero);
    assert_status(secret_open(out, "", "meter key", file), AMI_WRONG_PASSPHRASE);

    /* One changed byte in the salt, the header, the content, the tag. */
    static const size_t places[] = {8, 24, 48, 60, sizeof sealed - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        sealed[places[i]] ^= 4;
        assert_status(secret_open(out, "correct horse", "meter key", file), AMI_WRONG_PASSPHRASE);
        sealed[places[i]] ^= 4;
    }
}

static void a_damaged_sealed_file_is_told_from_a_wrong_passphrase(void **state)
{
    (void)state;
    uint8_t sealed[SECRET_SEAL_OVERHEAD_BYTES + 3 + 1] = {0}, out[4];
    assert_ok(secret_seal(sealed, "p", "q", SPAN_LITERAL("abc")));
    size_t size = SECRET_SEAL_OVERHEAD_BYTES + 3;
    for (size_t cut = 0; cut < size; cut++)
        assert_status(secret_open(out, "p", "q", span_of(sealed, cut)), AMI_BAD_ENCODING);
    assert_status(secret_open(out, "p", "q", span_of(sealed, size + 1)), AMI_BAD_ENCODING);
    for (size_t at = 0; at < 8; at++) {
        sealed[at] ^= 1;
        assert_status(secret_open(out, "p", "q", span_of(sealed, size)), AMI_BAD_ENCODING);
        sealed[at] ^= 1;
    }
    assert_ok(secret_open(out, "p", "q", span_of(sealed, size)));
    assert_memory_equal(out, "abc", 3);
    /* Nothing is a content too. */
    assert_ok(secret_seal(sealed, "p", "q", span_of(NULL, 0)));
    assert_ok(secret_open(out, "p", "q", span_of(sealed, SECRET_SEAL_OVERHEAD_BYTES)));
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_chunking_gives_one_digest),
        cmocka_unit_test(a_stream_may_be_ended_early),
        cmocka_unit_test(labels_separate),
        cmocka_unit_test(hmac_agrees_with_libgcrypt_for_every_key_length),
        cmocka_unit_test(kdf_is_the_concatenation_of_counted_blocks),
        cmocka_unit_test(gcm_round_trip_in_place_and_tampered),
        cmocka_unit_test(gcm_in_several_threads),
        cmocka_unit_test(start_is_idempotent),
        cmocka_unit_test(wiping_comparing_drawing),
        cmocka_unit_test(sealed_file_opens_with_its_passphrase_and_purpose_only),
        cmocka_unit_test(a_damaged_sealed_file_is_told_from_a_wrong_passphrase),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
