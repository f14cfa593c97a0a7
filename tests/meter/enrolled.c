#include "tests/meter/enrolled.h"

#include "base/check.h"
#include "meter/store.h"

#define OK(expr) AMI_CHECK((expr) == AMI_OK)

size_t enrolled_key_file(struct fixture *f, const char *name, uint8_t out[KEYFILE_BYTES_MAX])
{
    const struct scheme *scheme = scheme_by_number(f->genesis.network.scheme);
    const struct network *net = &f->genesis.network;
    struct ami_id id = fixture_id("%s", name);
    uint8_t wide[SM2_WIDE_BYTES];
    struct agree_enrolling begun;
    struct agree_secret secret;
    struct agree_part part;
    struct device_file d = {.has_chain = true, .chain = f->genesis.members.chain};
    d.keys.role = ENROL_METER;
    d.keys.name = id;
    d.keys.epoch = 1;
    d.keys.home_dc = f->dc[0].name;
    d.keys.sign = fixture_device(f, ROLE_METER_REPORT, id, 1).key;
    fixture_random(f, wide);
    scheme->device_begin(&begun, ROLE_METER_AGREE, wide);
    fixture_random(f, wide);
    OK(scheme->mdms_issue(&secret, &part, net, &f->p_pub.d, ROLE_METER_AGREE, &id, 1,
                          span_of(NULL, 0), agree_part_span(&begun.request), wide));
    OK(scheme->device_accept(&d.keys.agree, &begun, net, ROLE_METER_AGREE, &id, 1,
                             span_of(secret.b, secret.size), agree_part_span(&part)));
    size_t size;
    OK(device_file_encode(out, &size, net, &d, NULL));
    return size;
}

void enrolled_store(struct fixture *f, const char *dir, const char *name, struct span file)
{
    struct meter_store *s;
    struct ami_id id = fixture_id("%s", name);
    struct meter_op op = {.kind = METER_OP_KEYS,
                          .name = &id,
                          .epoch = 1,
                          .record = file,
                          .state = {.next_sequence = 1}};
    OK(meter_store_open(&s, dir, METER_STORE_CREATE, &f->genesis.network.id,
                        &f->genesis.members.chain, 0, NULL));
    OK(meter_store_apply(s, &op, 1, NULL));
    meter_store_close(s);
}
