#include "net/link_url.h"

#include <nng/nng.h>
#include <stdio.h>
#include <string.h>

#define BACKOFF_FIRST_MS 100

/* The port's digits and nothing else, 1..65535, for a listener also 0. */
static bool port_valid(const char *text, bool listening)
{
    unsigned port = 0;
    size_t size = strlen(text);
    if (size < 1 || size > 5)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= 65535 && (port > 0 || listening);
}

/* Characters of a name, a numeric address or, in brackets, of a numeric IPv6 address. What is left
 * out (slash, question mark, at, ..) would mean something else in a URL. */
static bool host_valid(const char *host, size_t size, bool listening)
{
    if (size == 1 && host[0] == '*')
        return listening;
    bool brackets = size > 2 && host[0] == '[' && host[size - 1] == ']';
    if (brackets) {
        host++;
        size -= 2;
    }
    const char *allowed = brackets ? "0123456789abcdefABCDEF:.%"
                                   : "0123456789abcdefghijklmnopqrstuvwxyz"
                                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_";
    if (size == 0)
        return false;
    for (size_t i = 0; i < size; i++)
        if (host[i] == 0 || strchr(allowed, host[i]) == NULL)
            return false;
    return true;
}

enum ami_status link_url(const char *address, bool listening, char out[LINK_URL_BYTES],
                         struct why *why)
{
    const char *rest = address;
    if (strncmp(rest, "tcp://", 6) == 0)
        rest += 6;
    const char *colon = strrchr(rest, ':');
    if (strlen(rest) > AMI_ADDRESS_BYTES_MAX || colon == NULL ||
        !host_valid(rest, (size_t)(colon - rest), listening) || !port_valid(colon + 1, listening))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "\"%.100s\" is not an address: expected host:port, such as 127.0.0.1:7101",
                       address);
    snprintf(out, LINK_URL_BYTES, "tcp://%s", rest);
    return AMI_OK;
}

enum ami_status link_status_of_nng(int error)
{
    switch (error) {
    case 0:
        return AMI_OK;
    case NNG_ENOMEM:
        return AMI_NO_MEMORY;
    case NNG_ETIMEDOUT:
        return AMI_TIMEOUT;
    case NNG_ECLOSED:
    case NNG_ECONNSHUT:
    case NNG_ECANCELED:
        return AMI_CLOSED;
    case NNG_EADDRINUSE:
        return AMI_IN_USE;
    case NNG_EINVAL:
        return AMI_BAD_ARGUMENT;
    default:
        return AMI_UNREACHABLE;
    }
}

uint64_t link_backoff_us(unsigned attempt, uint32_t max_ms, uint32_t random)
{
    uint64_t us = (uint64_t)max_ms * 1000;
    if (attempt < 16 && ((uint64_t)BACKOFF_FIRST_MS * 1000 << attempt) < us)
        us = (uint64_t)BACKOFF_FIRST_MS * 1000 << attempt;
    return us / 2 + us / 2 * random / UINT32_MAX;
}
