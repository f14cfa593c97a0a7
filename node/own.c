#include "node/own.h"

static enum ami_status implicit(struct credential *out, const struct network *net,
                                const struct device_keys *keys, struct why *why)
{
    enum ami_status status = credential_of_dc(out, net, &keys->name, keys->epoch, &keys->sign);
    return status == AMI_OK
               ? AMI_OK
               : why_set(why, AMI_FOREIGN_KEY, "the key of epoch %u is no signing key of %s",
                         (unsigned)keys->epoch, keys->name.text);
}

enum ami_status own_credential(struct credential *out, const struct network *net,
                               const struct trust_files *files, const struct trust *trust,
                               const struct device_keys *keys, struct log_sink *log,
                               struct why *why)
{
    const struct trust_owner owner = {.role = CREDENTIAL_DC,
                                      .name = keys->name,
                                      .epoch = keys->epoch,
                                      .key = &keys->sign.private_key};
    if (!trust_own_named(files))
        return implicit(out, net, keys, why);
    enum ami_status status = trust_own(out, net, files, &owner, trust, why);
    if (status == AMI_OK || files->cfl_certificate == NULL)
        return status;
    /* At the start a file that is plainly wrong is to be mended; nothing keeps a rotation up. */
    const bool starts = out->who.kind == 0, in_use = !starts && out->who.epoch == keys->epoch;
    if (in_use || (starts && status != AMI_BAD_CRYPTO))
        return status;
    log_say(log, ENV_LOG_WARN, "credential_not_read", "%s; the implicit one is shown instead",
            why->text);
    return implicit(out, net, keys, why);
}
