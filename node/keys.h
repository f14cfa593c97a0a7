/* node/keys.h - a DC's key files in its folder.
 *
 * The first key is dc.key, those of later epochs that follow it dc-EPOCH.key.
 */
#ifndef AMI_NODE_KEYS_H
#define AMI_NODE_KEYS_H

#include "keyagree/keyfile.h"
#include "net/options.h"
#include "net/why.h"

#define KEY_FIRST      "dc.key"
#define KEY_NAME_BYTES 24
void key_name(char out[KEY_NAME_BYTES], uint32_t epoch);

/* AMI_NOT_FOUND, and what device_file_parse and device_file_verify say; `why` names the file. */
enum ami_status key_load(struct device_file *out, const char *dir, const char *name,
                         const struct network *net, struct why *why) AMI_MUST_CHECK;
enum ami_status key_save(const struct device_file *f, const char *dir, const char *name,
                         const struct network *net, struct why *why) AMI_MUST_CHECK;

/* A network's public keys: `ami-mdms init` writes the file. */
enum ami_status key_network(struct network *out, const char *path, struct why *why) AMI_MUST_CHECK;

/* `dc-node enrol`: gets keys into the folder. `dc-node cfl-request`: asks, in a file, for a CFL
 * certificate over a key of the folder. */
extern const struct command_spec COMMAND_ENROL, COMMAND_CFL_REQUEST;

#endif
