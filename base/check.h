/* base/check.h - assertions on our own invariants, on in release builds too.
 *
 * What the outside world can send must never reach one of these: decode and validate first.
 */
#ifndef AMI_BASE_CHECK_H
#define AMI_BASE_CHECK_H

/* Prints the place and the expression to standard error and aborts. */
_Noreturn void ami_check_failed(const char *file, int line, const char *expr);

#define AMI_CHECK(expr) ((expr) ? (void)0 : ami_check_failed(__FILE__, __LINE__, #expr))

#endif
