/* Key files. The first byte picks the scheme and whether the digest is made right before the file
 * is read: without that, nothing behind the digest would ever be reached. A file that is accepted
 * is written again to the same bytes. Sealed files are left alone: each costs an argon2id. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "tests/keyagree/support.h"

#include <string.h>

static uint8_t seeds[2][3][KEYFILE_BYTES_MAX]; /* meter, DC, pending */
static size_t seed_sizes[2][3];

static void device_seed(struct world *w, unsigned index, bool meter)
{
    struct device_file f = {.keys = {.role = meter ? ENROL_METER : ENROL_DC, .epoch = 1}};
    const struct agree_key *agree = meter ? &w->meter[0] : &w->dc[0];
    f.keys.name = agree->name;
    f.keys.epoch = agree->epoch;
    f.keys.home_dc = w->dc[0].name;
    f.keys.agree = *agree;
    AMI_CHECK(sm2_private_init(&f.keys.sign.private_key, &w->dc[1].d) == AMI_OK);
    f.keys.sign.public_key.w = *point_generator();
    f.has_chain = !meter;
    f.chain = w->chain;
    f.starts = meter ? 0 : 12;
    unsigned at = meter ? 0 : 1;
    AMI_CHECK(device_file_encode(seeds[index][at], &seed_sizes[index][at], &w->mdms.net, &f,
                                 NULL) == AMI_OK);
}

static struct world *prepare(unsigned index)
{
    AMI_CHECK(crypto_start() == AMI_OK);
    struct world *w = world_of(scheme_at(index));
    if (seed_sizes[index][0] != 0)
        return w;
    device_seed(w, index, true);
    device_seed(w, index, false);
    struct enrol_pending pending;
    uint8_t random[3][SM2_WIDE_BYTES];
    struct ami_id name = name_of("x");
    const sm3_digest hash = {{1}};
    world_draw(w, random, sizeof random);
    AMI_CHECK(enrol_begin(&pending, &w->mdms.net, ENROL_METER, &name, 4, &hash, WIDE(random)) ==
              AMI_OK);
    AMI_CHECK(pending_file_encode(seeds[index][2], &seed_sizes[index][2], &pending, NULL) ==
              AMI_OK);
    return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[KEYFILE_BYTES_MAX], again[KEYFILE_BYTES_MAX];
    if (size == 0 || size - 1 > sizeof file)
        return 0;
    struct world *w = prepare(data[0] % 2);
    size--;
    memcpy(file, data + 1, size);
    if ((data[0] & 2) != 0 && size > 47 + SM3_BYTES) {
        store_be32(file + 43, (uint32_t)(size - 47 - SM3_BYTES));
        sm3_digest digest = sm3(span_of(file, size - SM3_BYTES));
        memcpy(file + size - SM3_BYTES, digest.b, SM3_BYTES);
    }
    struct keyfile_head head;
    const struct span in = span_of(file, size);
    if (keyfile_head_parse(&head, in) != AMI_OK || head.sealed)
        return 0;
    size_t again_size = 0;
    struct device_file device;
    struct enrol_pending pending;
    struct mdms_keys mdms;
    AMI_CHECK(mdms_file_parse(&mdms, NULL, in, NULL) != AMI_OK);
    if (device_file_parse(&device, &w->mdms.net, in, NULL) == AMI_OK) {
        AMI_CHECK(device_file_encode(again, &again_size, &w->mdms.net, &device, NULL) == AMI_OK);
        AMI_CHECK(span_equal(span_of(again, again_size), in));
        enum ami_status status = device_file_verify(&device, &w->mdms.net);
        AMI_CHECK(status == AMI_OK || status == AMI_FOREIGN_KEY);
    }
    if (pending_file_parse(&pending, &w->mdms.net, in, NULL) == AMI_OK) {
        AMI_CHECK(pending_file_encode(again, &again_size, &pending, NULL) == AMI_OK);
        AMI_CHECK(span_equal(span_of(again, again_size), in));
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    unsigned scheme = (unsigned)(index % 2), which = (unsigned)(index / 4 % 3);
    prepare(scheme);
    size_t size = seed_sizes[scheme][which];
    if (capacity < 1 + size)
        return 0;
    out[0] = (uint8_t)(index % 4);
    memcpy(out + 1, seeds[scheme][which], size);
    return 1 + size;
}
