/* crypto/sm4_thread.h - SM4's cipher handles, one per thread and mode. Private to crypto/.
 *
 * Every message of the system has a key of its own, so opening a handle per message would cost more
 * than the encryption. Each thread keeps one handle per mode and re-keys it; the key of the last
 * message is overwritten before a call returns, because sessions promise that used keys are gone.
 */
#ifndef AMI_CRYPTO_SM4_THREAD_H
#define AMI_CRYPTO_SM4_THREAD_H

#include "crypto/sm4gcm.h"

#include <gcrypt.h>

enum sm4_mode { SM4_MODE_GCM, SM4_MODE_CTR, SM4_MODES };

/* The calling thread's handle, with this key. A thread's first message allocates it: about 1.5 KB,
 * so a failure means that the process cannot go on at all. */
gcry_cipher_hd_t sm4_thread_begin(enum sm4_mode mode, const sm4_key *key);
void sm4_thread_forget(gcry_cipher_hd_t handle);

#endif
