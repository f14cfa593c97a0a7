/* tests/meter/enrolled.h - directories with enrolled meters, without a network. */
#ifndef AMI_TESTS_METER_ENROLLED_H
#define AMI_TESTS_METER_ENROLLED_H

#include "keyagree/keyfile.h"
#include "tests/ledger/fixture.h"

/* The key file of a new meter whose home is the fixture's first DC. Returns its size. */
size_t enrolled_key_file(struct fixture *f, const char *name, uint8_t out[KEYFILE_BYTES_MAX]);
/* Puts it into the store in `dir`, which is made when it is not there. */
void enrolled_store(struct fixture *f, const char *dir, const char *name, struct span file);

#endif
