/* tests/net/sides.h - two sides of secure links over loopback, in one loop: what the tests of links
 * with channels share.
 */
#ifndef AMI_TESTS_NET_SIDES_H
#define AMI_TESTS_NET_SIDES_H

#include "crypto/secret.h"
#include "net/link.h"
#include "sim/lab/realm.h"
#include "tests/harness.h"
#include "tests/net/turn.h"

extern struct loop *loop;
extern struct links *links;
extern struct realm realm; /* every side trusts its issuers */

/* One side, and what it was told. */
struct side {
    struct party party;
    struct link_security security;
    env_link link; /* the last one that was opened */
    int opened, closed, refused;
    size_t frames, bytes;
    uint8_t last[64];
    const uint8_t *last_at; /* where the last frame lay */
    enum ami_status why;
    enum channel_fault fault;
    enum channel_standing standing;
    char refused_name[AMI_ID_BYTES_MAX + 1], peer_name[AMI_ID_BYTES_MAX + 1];
    bool echo, mark_known;
    enum { END_NOT, END_CLOSE, END_CUT } end; /* at the first frame */
    size_t answer_size; /* with echo: so many bytes instead of what came; 0: what came */
};

extern const struct link_limits limits;

/* Sets up and tears down `loop` and `links`. */
int sides_set_up(void **state);
int sides_tear_down(void **state);

/* A DC of that realm, under its implicit certificate. */
void side_make(struct side *s, struct realm *r, const char *name);
/* Anybody, under any credential. */
void side_make_with(struct side *s, const struct credential *own);
struct link_events events_of(struct side *s);
struct link_listener *listen_as(struct side *s, const struct link_limits *l);
struct link_dialer *dial_as(struct side *s, const char *address, const struct link_limits *l);

/* A plain connection to a port of this machine. */
int socket_to(uint16_t port);
uint16_t port_of(const char *address);

#endif
