/* tests/harness.h - what every cmocka test file includes, in the order that cmocka needs. */
#ifndef AMI_TESTS_HARNESS_H
#define AMI_TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

/* Compares two statuses and shows their names when they differ. */
#define assert_status(expr, expected)                                                              \
    assert_string_equal(ami_status_name(expr), ami_status_name(expected))
#define assert_ok(expr) assert_status(expr, AMI_OK)

#endif
