/* channel/x509.h - X.509 certificates with SM2 keys as credentials, through OpenSSL's libcrypto.
 *
 * Only SM2-with-SM3 signatures count, made over the ID 1234567812345678 (as GM/T 0009 has it, and
 * as `openssl ... -sigopt distid:1234567812345678` makes them). The identity stands in the subject
 * alternative name of the leaf, as exactly one URI of ours:
 *
 *   urn:amiledger:NETWORK:ROLE:NAME            NETWORK: the network id in hex; ROLE: dc or mdms
 *   urn:amiledger:NETWORK:operator:NAME:LABEL  LABEL as label_text writes it: 2:ledger+metering
 *
 * The leaf must not be an authority's, must have the key usage digitalSignature, and, when it has
 * an extended key usage, clientAuth (and serverAuth unless it is an operator's).
 *
 * Who vouches for machines does not thereby vouch for people: an operator counts only when an
 * authority that x509_trust_operators names stands in its chain, and up to the label given there.
 *
 * Revocation lists are signed with the *empty* ID, which is what OpenSSL 3.0's command line does
 * when it is told nothing, because 3.0 can check them with no other (X509_CRL_verify has no ID to
 * give). With lists, every authority of a chain needs one that is in force; without any, nothing is
 * asked.
 *
 * Caveat: what libcrypto does with certificates is not constant time. Private keys are only read by
 * it; signing is done by crypto/, but for a request's, once.
 */
#ifndef AMI_CHANNEL_X509_H
#define AMI_CHANNEL_X509_H

#include "channel/credential.h"

/* Certificates in one shown chain, root excluded. */
#define X509_CHAIN_MAX 4

struct x509_trust;

/* Roots and revocation lists as PEM; `crls` may be empty. NULL on failure, with a sentence in `why`
 * (why_size bytes). */
struct x509_trust *x509_trust_new(struct span roots, struct span crls, char *why, size_t why_size);
/* Authorities as PEM, each a root or one below: under them, and no others, operators are believed,
 * whose label `highest` has to dominate. Once. AMI_BAD_ENCODING: there is none. */
enum ami_status x509_trust_operators(struct x509_trust *trust, struct span authorities,
                                     struct label highest) AMI_MUST_CHECK;
/* When the first of its roots and lists runs out, in seconds since 1970. */
int64_t x509_trust_until_s(const struct x509_trust *trust);
void x509_trust_free(struct x509_trust *trust); /* NULL is allowed */

/* A private key from PEM (not encrypted). AMI_BAD_ENCODING: it is none, or not one of SM2. */
enum ami_status x509_key(sm2_private *out, struct span pem) AMI_MUST_CHECK;

/* From the private key and the chain in PEM, leaf first, with or without its root.
 * AMI_BAD_ENCODING (no PEM, no identity, too long), AMI_BAD_CRYPTO (the key is not the leaf's),
 * AMI_WRONG_CHAIN (another network), AMI_NO_MEMORY; `why` gets a sentence. */
enum ami_status x509_credential(struct credential *out, const struct network *net,
                                const sm2_private *key, struct span chain_pem, char *why,
                                size_t why_size) AMI_MUST_CHECK;

/* Who the first certificate in PEM says that it is for, with its fingerprint; not whether anybody
 * vouches for that. AMI_BAD_ENCODING: no certificate, or none of ours. */
enum ami_status x509_identity(struct credential_identity *out, struct span pem) AMI_MUST_CHECK;

/* Does this chain in PEM, leaf first, lead from an authority that is trusted to its leaf, which may
 * be what it says, at that time? */
enum channel_fault x509_chain_check(struct span chain_pem, const struct x509_trust *trust,
                                    int64_t at_s);

/* A request (PKCS #10, PEM) for a certificate over this key for this identity, signed over the ID
 * above, with the extensions that the certificate has to have. out has X509_REQUEST_BYTES_MAX
 * bytes; returns the size, 0 when out of memory. libcrypto sees the key: it signs. */
#define X509_REQUEST_BYTES_MAX 4096
size_t x509_request(char *out, const struct credential_identity *who, const sm2_private *key);

#endif
