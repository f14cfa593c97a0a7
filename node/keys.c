#include "node/keys.h"

#include "crypto/secret.h"
#include "ledger/genesis.h"
#include "net/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define NETWORK_BYTES_MAX (1u << 20)

void key_name(char out[KEY_NAME_BYTES], uint32_t epoch)
{
    snprintf(out, KEY_NAME_BYTES, "dc-%u.key", (unsigned)epoch);
}

enum ami_status key_load(struct device_file *out, const char *dir, const char *name,
                         const struct network *net, struct why *why)
{
    char path[PATH_MAX];
    uint8_t *data;
    size_t size;
    AMI_TRY(path_join(path, sizeof path, dir, name, why));
    AMI_TRY(file_read(path, KEYFILE_BYTES_MAX, &data, &size, why));
    enum ami_status status = device_file_parse(out, net, span_of(data, size), NULL);
    secret_wipe(data, size);
    free(data);
    if (status == AMI_OK)
        status = device_file_verify(out, net);
    if (status != AMI_OK)
        return why_set(why, status, "key file %.300s: %s", path, ami_status_text(status));
    return AMI_OK;
}

enum ami_status key_save(const struct device_file *f, const char *dir, const char *name,
                         const struct network *net, struct why *why)
{
    char path[PATH_MAX];
    uint8_t data[KEYFILE_BYTES_MAX];
    size_t size;
    AMI_TRY(path_join(path, sizeof path, dir, name, why));
    enum ami_status status = device_file_encode(data, &size, net, f, NULL);
    if (status == AMI_OK)
        status = file_write(path, span_of(data, size), FILE_MODE_SECRET, why);
    else
        why_set(why, status, "the key file cannot be made: %s", ami_status_text(status));
    secret_wipe(data, sizeof data);
    return status;
}

enum ami_status key_network(struct network *out, const char *path, struct why *why)
{
    uint8_t *text;
    size_t size;
    char detail[WHY_BYTES_MAX - 200];
    AMI_TRY(file_read(path, NETWORK_BYTES_MAX, &text, &size, why));
    enum ami_status status = network_parse(out, span_of(text, size), detail, sizeof detail);
    free(text);
    return status == AMI_OK ? AMI_OK
                            : why_set(why, status, "%.150s is no network file: %s", path, detail);
}
