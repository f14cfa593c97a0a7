/* crypto/sm2_known.h - tables for signers whose signatures are checked often.
 *
 * A table makes a verification an order of magnitude cheaper and takes 256 KB, so it is made for
 * the few keys that sign much: DCs, the MDMS, P_pub (sm2_signer_remember in crypto/sm2.h). There
 * are at most SM2_SIGNERS_MAX; one more takes the place of the one not used for longest. It is a
 * memory of the whole process, shared by its threads: results do not depend on it. Private to
 * crypto/.
 */
#ifndef AMI_CRYPTO_SM2_KNOWN_H
#define AMI_CRYPTO_SM2_KNOWN_H

#include "crypto/sm2.h"
#include "crypto/sm2_path.h"

/* Tables found between begin and end stay valid until end. Not to be nested. */
void sm2_known_begin(void);
const struct known_table *sm2_known_find(const point *p); /* NULL: there is none */
void sm2_known_end(void);

#endif
