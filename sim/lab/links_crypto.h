/* sim/lab/links_crypto.h - the parts of `ami-sim lab links-crypto`.
 *
 *   links_crypto.c       the experiment: handshakes, handshake and bulk, records
 *   link_certificates.c  what proves an identity: signing and checking with each credential
 *   link_packets.c       block ciphers with an HMAC, and SM3 in chunks
 *   link_ours.[ch], link_tls.[ch], link_x509.[ch]  what is compared
 *
 * Each part makes its tables and, where a result is wrong, says so with lab_fail. Their figures are
 * the experiment's.
 */
#ifndef AMI_SIM_LAB_LINKS_CRYPTO_H
#define AMI_SIM_LAB_LINKS_CRYPTO_H

#include "sim/lab/lab.h"
#include "sim/lab/link_ours.h"

void link_certificates(struct lab_output *out, struct link_issuers *s);
void link_packets(struct lab_output *out);
void link_chunks(struct lab_output *out, const struct lab_options *o);

#endif
