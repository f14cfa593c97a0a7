/* net/link_url.h - addresses of links and what nng says, inside this room. */
#ifndef AMI_NET_LINK_URL_H
#define AMI_NET_LINK_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "net/link.h"

/* "host:port" or "tcp://host:port" to "tcp://host:port". AMI_BAD_ARGUMENT. */
enum ami_status link_url(const char *address, bool listening, char out[LINK_URL_BYTES],
                         struct why *why) AMI_MUST_CHECK;

/* The status for an nng error of a connection or of an attempt to make one. */
enum ami_status link_status_of_nng(int error);

/* How long to wait before dial number `attempt` (0, 1, ..) is repeated, in microseconds: between
 * half and all of min(100 ms << attempt, max), spread by `random`. */
uint64_t link_backoff_us(unsigned attempt, uint32_t max_ms, uint32_t random);

#endif
