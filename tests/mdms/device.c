/* tests/mdms/device.c - devices that enrol over the network, for the test of the program.
 *
 *   mdms-device ADDRESS NETWORK.json dc|meter CODES.csv [EPOCH]
 *
 * Enrols every device of the list, one connection each, and prints "ID STATUS" a line. Exit status
 * 0 when every device got keys that fit its request.
 */
#include "keyagree/enrol.h"
#include "ledger/genesis.h"
#include "net/file.h"
#include "net/link.h"

#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum ami_status enrol(const char *address, const struct network *net, enum enrol_role role,
                             uint32_t epoch, const char *id, const char *code_text)
{
    struct ami_id name;
    struct install_code code;
    struct enrol_pending pending;
    struct device_keys keys;
    uint8_t random[3][SM2_WIDE_BYTES], frame[2048], answer[2048];
    AMI_TRY(ami_id_from_text(&name, id));
    AMI_TRY(install_code_parse(&code, code_text));
    sm3_digest hash = install_code_hash(&code, role, &name);
    secret_random(random, sizeof random);
    AMI_TRY(enrol_begin(&pending, net, role, &name, epoch, &hash,
                        (const uint8_t(*)[SM2_WIDE_BYTES])random));
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ENROL_REQUEST);
    write_raw(&w, pending.request, pending.request_size);
    size_t size;
    struct why why = {0};
    enum ami_status status =
        link_call(address, NULL, writer_span(&w), 10000, answer, sizeof answer, &size, &why);
    if (status != AMI_OK) {
        fprintf(stderr, "%s\n", why.text);
        return status;
    }
    enum message_type type;
    struct span body;
    struct enrol_reply reply;
    AMI_TRY(frame_open(span_of(answer, size), &type, &body));
    AMI_TRY(enrol_reply_parse(&reply, body));
    return enrol_finish(&keys, &pending, net, &reply);
}

int main(int argc, char **argv)
{
    struct network net;
    struct why why = {0};
    char reason[256], line[128];
    uint8_t *data;
    size_t size;
    if (argc < 5 || crypto_start() != AMI_OK)
        return 2;
    if (file_read(argv[2], 65536, &data, &size, &why) != AMI_OK ||
        network_parse(&net, span_of(data, size), reason, sizeof reason) != AMI_OK)
        return 2;
    free(data);
    enum enrol_role role = strcmp(argv[3], "dc") == 0 ? ENROL_DC : ENROL_METER;
    uint32_t epoch = argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 1;
    FILE *codes = fopen(argv[4], "re");
    if (codes == NULL || fgets(line, sizeof line, codes) == NULL)
        return 2;
    int result = 0;
    while (fgets(line, sizeof line, codes) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        char *comma = strchr(line, ',');
        if (comma == NULL)
            return 2;
        *comma = '\0';
        enum ami_status status = enrol(argv[1], &net, role, epoch, line, comma + 1);
        printf("%s %s\n", line, ami_status_name(status));
        if (status != AMI_OK)
            result = 1;
    }
    fclose(codes);
    return result;
}
