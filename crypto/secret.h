/* crypto/secret.h - start-up, randomness, wiping and sealing of key files (libsodium).
 *
 * crypto_start must be called once by main (and by a test's main) before any other function of
 * crypto/; it is idempotent.
 */
#ifndef AMI_CRYPTO_SECRET_H
#define AMI_CRYPTO_SECRET_H

#include "base/bytes.h"

/* Checks libgcrypt's and libsodium's versions and self tests, and chooses SM2's code path
 * (AMI_SM2_PATH, see crypto/sm2_group.h). AMI_UNSUPPORTED when one fails or when the variable names
 * no path that this processor can run, AMI_NO_MEMORY when there is none for the path's tables. */
enum ami_status crypto_start(void) AMI_MUST_CHECK;
/* A sentence for people, when it failed. */
const char *crypto_start_why(void);

/* From the operating system, hedged with the UTC time and a counter: where the system's source
 * repeats itself (a virtual machine that was copied, a device without entropy at start), what is
 * drawn here does not. The time is never the only entropy: a good source's bytes stay as good as
 * they were. For shells only: cores take random bytes from their environment. After crypto_start.
 */
void secret_random(void *out, size_t size);

/* Numbers that nobody outside this process can foresee, for choices that change no result: the
 * weights of a combined check, say. Cheap, and safe in any thread; from a stream under a key drawn
 * at crypto_start, so that it needs no system call. Never for keys or nonces. */
void secret_unforeseen(void *out, size_t size);

/* Never optimised away. */
void secret_wipe(void *data, size_t size);

/* Constant-time comparison of two strings of the same length. */
bool secret_equal(const void *a, const void *b, size_t size);

/* Declares public what was computed from secrets: an ephemeral public key, a plaintext that is
 * about to be decoded. Does nothing but tell the constant-time check, and whoever reads. */
void secret_disclose(const void *data, size_t size);

/* A key file at rest: argon2id (interactive limits of libsodium) over the passphrase, then
 * secretstream over the content, with `purpose` bound in as associated data.
 * sealed.size = SECRET_SEAL_OVERHEAD_BYTES + plain.size.
 * AMI_NO_MEMORY when argon2id cannot get its memory. */
#define SECRET_SEAL_OVERHEAD_BYTES (8 + 16 + 24 + 17)
enum ami_status secret_seal(uint8_t *out, const char *passphrase, const char *purpose,
                            struct span plain) AMI_MUST_CHECK;

/* out receives sealed.size - SECRET_SEAL_OVERHEAD_BYTES bytes. AMI_BAD_ENCODING when it is no such
 * file or cut short, AMI_WRONG_PASSPHRASE when the tag does not verify; out is wiped then. */
enum ami_status secret_open(uint8_t *out, const char *passphrase, const char *purpose,
                            struct span sealed) AMI_MUST_CHECK;

#endif
