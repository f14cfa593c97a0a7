/* net/config.h - configuration files: sections, `key = value`, comments behind # or ;.
 *
 * Strict: an unknown section or key, a key given twice, a value outside its range and a missing
 * required key are errors that name the file and the line. Kept by inih. Keys are lower-case words
 * with underscores.
 *
 *     [node]
 *     data = /var/lib/amiledger/dc-1
 *     peers_listen = 0.0.0.0:7101
 */
#ifndef AMI_NET_CONFIG_H
#define AMI_NET_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/why.h"

#define CONFIG_BYTES_MAX (256u << 10)
#define CONFIG_LINE_MAX  198 /* bytes */
#define CONFIG_KEYS_MAX  128 /* in one table */

enum config_kind {
    CONFIG_TEXT,     /* char [size] */
    CONFIG_INT,      /* int64_t: within [min, max] */
    CONFIG_REAL,     /* double: within [min, max] */
    CONFIG_BOOL,     /* bool: yes, no, true, false, on, off */
    CONFIG_DURATION, /* int64_t: milliseconds within [min, max]; "30s" as in options.h */
    CONFIG_EACH      /* calls each(ctx, value) for every line with this key; may be repeated */
};

struct config_key {
    const char *section; /* NULL ends the table */
    const char *key;
    enum config_kind kind;
    void *value;      /* holds the default; CONFIG_EACH: the ctx */
    size_t size;      /* CONFIG_TEXT: bytes at value, zero included */
    int64_t min, max; /* both 0: no bounds */
    bool required;
    /* CONFIG_EACH: any status but AMI_OK stops the reading; it may say why. */
    enum ami_status (*each)(void *ctx, const char *value, struct why *why);
};

/* Reads a file into the variables of the table. AMI_NOT_FOUND, AMI_BAD_ARGUMENT (or what `each`
 * said) with "FILE:LINE: ..." in `why`, AMI_TOO_LARGE, AMI_IO. On failure variables may have been
 * set. */
enum ami_status config_read(const char *path, const struct config_key *keys,
                            struct why *why) AMI_MUST_CHECK;

/* The same from memory; `name` stands for the path in sentences. */
enum ami_status config_parse(const char *name, const char *text, const struct config_key *keys,
                             struct why *why) AMI_MUST_CHECK;

#endif
