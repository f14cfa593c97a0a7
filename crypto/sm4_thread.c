#include "crypto/sm4_thread.h"

#include "base/check.h"

#include <pthread.h>

static _Thread_local gcry_cipher_hd_t thread_handle[SM4_MODES];
static pthread_key_t thread_exit_key[SM4_MODES];
static pthread_once_t thread_exit_once = PTHREAD_ONCE_INIT;

static void close_handle(void *handle)
{
    gcry_cipher_close((gcry_cipher_hd_t)handle);
}

static void make_exit_keys(void)
{
    for (int i = 0; i < SM4_MODES; i++) {
        int error = pthread_key_create(&thread_exit_key[i], close_handle);
        AMI_CHECK(error == 0);
    }
}

static void set_key(gcry_cipher_hd_t handle, const sm4_key *key)
{
    gcry_error_t error = gcry_cipher_setkey(handle, key->b, sizeof key->b);
    AMI_CHECK(error == 0);
}

gcry_cipher_hd_t sm4_thread_begin(enum sm4_mode mode, const sm4_key *key)
{
    static const int number[SM4_MODES] = {
        [SM4_MODE_GCM] = GCRY_CIPHER_MODE_GCM,
        [SM4_MODE_CTR] = GCRY_CIPHER_MODE_CTR,
    };
    if (thread_handle[mode] == NULL) {
        pthread_once(&thread_exit_once, make_exit_keys);
        gcry_error_t error =
            gcry_cipher_open(&thread_handle[mode], GCRY_CIPHER_SM4, number[mode], 0);
        AMI_CHECK(error == 0);
        int kept = pthread_setspecific(thread_exit_key[mode], thread_handle[mode]);
        AMI_CHECK(kept == 0);
    }
    set_key(thread_handle[mode], key);
    return thread_handle[mode];
}

void sm4_thread_forget(gcry_cipher_hd_t handle)
{
    static const sm4_key zero;
    set_key(handle, &zero);
}
