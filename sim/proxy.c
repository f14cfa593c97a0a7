/* sim/proxy.c - sim-proxy: a TCP proxy that is as bad a network as it is told to be.
 *
 * In: a list of routes (an address to listen on, an address to connect to) and commands, one a
 * line, on a control port. Out: the same bytes on the other side, later, slower, or not at all. It
 * knows nothing of what travels. Where a kernel has no netem this is what stands between two
 * processes.
 *
 * What each fault means for a TCP connection:
 *   delay   every piece of it arrives so much later, never out of order
 *   loss    a piece is late by a retransmission's time (200 ms, 400 ms, ..), and all behind it too:
 *           this is how a lost segment looks to who reads a stream
 *   rate    so many bytes a second in each direction
 *   stall   everything stands still for a time and then goes on
 *   cut     nothing passes, nobody is told, new connections do not come about; afterwards it all
 * goes on. One direction may be cut alone half    one direction of the connections that are there
 * is dead for good, and nobody is told until "heal", which breaks them: a middle box that forgot a
 * connection reset   connections break now; refuse: and new ones are refused
 *
 * One thread around ppoll(2). Bounded: ROUTES_MAX, CONNECTIONS_MAX, WAY_BYTES_MAX in each
 * direction; a full direction is not read.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAME            "sim-proxy"
#define ROUTES_MAX      1200
#define CONNECTIONS_MAX 4096
#define CONTROLS_MAX    16
#define WAY_BYTES_MAX   (1u << 20)
#define PIECE_BYTES_MAX 16384
#define LINE_BYTES_MAX  512
#define WORDS_MAX       8
#define RTO_US          200000u /* the shortest time in which Linux sends a lost segment again */
#define RTO_DOUBLINGS   4
#define MS_MAX          3600000 /* longest time that a command may name */

enum { FORWARD, BACK, WAYS };              /* FORWARD: from who connected */
enum { END_NONE, END_CLOSED, END_BROKEN }; /* how a direction ended: FIN, or a reset */

struct conditions {
    uint64_t delay_us, jitter_us;
    uint64_t loss_permille;
    uint64_t bytes_per_s; /* 0: unlimited */
    uint64_t stalled_until_us;
    bool cut[WAYS];
    bool refuse;
};

struct route {
    char name[64];
    int listener;
    struct sockaddr_storage target;
    socklen_t target_size;
    struct conditions now;
    uint64_t opened, bytes[WAYS];
};

struct piece {
    struct piece *next;
    uint64_t due_us;
    size_t size, sent;
    uint8_t data[];
};

/* One direction of a connection: read from one socket, written to the other. */
struct way {
    struct piece *first, *last;
    size_t queued;
    uint64_t last_due_us; /* of what was queued last: order is kept */
    uint64_t free_at_us;  /* when the next byte may leave, at the route's rate */
    uint64_t end_due_us;
    int end; /* what was read at its end; nothing is read after it */
    bool end_delivered;
    bool dead; /* half, or nobody reads at its other side any more */
};

struct connection {
    struct connection *next;
    struct route *route;
    int fd[WAYS]; /* fd[w] is where direction w is read; it is written to the other */
    bool connecting, connected;
    bool halved; /* heal breaks it */
    struct way way[WAYS];
};

struct control {
    int fd; /* -1: free */
    size_t used;
    char line[LINE_BYTES_MAX];
};

static struct route routes[ROUTES_MAX];
static size_t route_count;
static struct connection *connections;
static size_t connection_count;
static struct control controls[CONTROLS_MAX];
static int control_listener = -1;
static uint64_t random_state = 88172645463325252u;
static volatile sig_atomic_t told_to_stop;

static void die(const char *what, const char *detail)
{
    fprintf(stderr, NAME ": %s: %s\n", what, detail);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* xorshift64: the same seed, the same faults for the same pieces. */
static uint64_t random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return limit == 0 ? 0 : random_state % limit;
}

/* --- sockets ------------------------------------------------------------------------------------
 */

static bool resolve(const char *address, struct sockaddr_storage *out, socklen_t *size)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return false;
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return false;
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *size = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static int listen_on(const char *address)
{
    struct sockaddr_storage a;
    socklen_t size;
    const int on = 1;
    if (!resolve(address, &a, &size))
        die("this is no address of the form 127.0.0.1:PORT", address);
    int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&a, size) != 0 || listen(fd, 256) != 0) {
        fprintf(stderr, NAME ": cannot listen on %s: %s\n", address, strerror(errno));
        exit(1);
    }
    return fd;
}

static void no_delay(int fd)
{
    const int on = 1;
    /* Only a matter of speed. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void close_with_reset(int fd)
{
    const struct linger at_once = {1, 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

/* --- connections --------------------------------------------------------------------------------
 */

static void way_drop(struct way *w)
{
    while (w->first != NULL) {
        struct piece *p = w->first;
        w->first = p->next;
        free(p);
    }
    w->last = NULL;
    w->queued = 0;
}

/* Takes the connection out of the list and frees it. */
static void connection_end(struct connection *c, bool with_reset)
{
    for (struct connection **at = &connections; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    for (int w = 0; w < WAYS; w++) {
        way_drop(&c->way[w]);
        if (c->fd[w] >= 0 && with_reset)
            close_with_reset(c->fd[w]);
        else if (c->fd[w] >= 0)
            close(c->fd[w]);
    }
    connection_count--;
    free(c);
}

static void connection_accept(struct route *r)
{
    int fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct connection *c = connection_count < CONNECTIONS_MAX ? calloc(1, sizeof *c) : NULL;
    if (c == NULL || r->now.refuse) {
        free(c);
        close_with_reset(fd);
        return;
    }
    no_delay(fd);
    c->route = r;
    c->fd[FORWARD] = fd;
    c->fd[BACK] = -1;
    c->next = connections;
    connections = c;
    connection_count++;
    r->opened++;
}

/* A cut of either direction keeps a handshake from succeeding. False: the connection is gone. */
static bool connection_dial(struct connection *c, uint64_t now)
{
    const struct conditions *n = &c->route->now;
    if (c->connecting || c->connected || n->cut[FORWARD] || n->cut[BACK] ||
        now < n->stalled_until_us)
        return true;
    int fd = socket(c->route->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        connection_end(c, true);
        return false;
    }
    no_delay(fd);
    c->fd[BACK] = fd;
    c->connecting = true;
    if (connect(fd, (const struct sockaddr *)&c->route->target, c->route->target_size) == 0) {
        c->connected = true;
    } else if (errno != EINPROGRESS) {
        connection_end(c, true);
        return false;
    }
    return true;
}

static bool connection_finish_dial(struct connection *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(c->fd[BACK], SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        connection_end(c, true);
        return false;
    }
    c->connected = true;
    return true;
}

static bool passes(const struct connection *c, int w, uint64_t now)
{
    const struct conditions *n = &c->route->now;
    return c->connected && !n->cut[w] && now >= n->stalled_until_us;
}

static bool reads(const struct connection *c, int w, uint64_t now)
{
    const struct way *way = &c->way[w];
    return passes(c, w, now) && !way->dead && way->end == END_NONE && way->queued < WAY_BYTES_MAX;
}

/* When direction w has something to deliver next; UINT64_MAX: not before something else happens. */
static uint64_t due(const struct connection *c, int w, uint64_t now)
{
    const struct way *way = &c->way[w];
    if (way->dead || !c->connected || c->route->now.cut[w])
        return UINT64_MAX;
    uint64_t at = UINT64_MAX;
    if (way->first != NULL)
        at = way->first->due_us > way->free_at_us ? way->first->due_us : way->free_at_us;
    else if (way->end != END_NONE && !way->end_delivered)
        at = way->end_due_us;
    if (at != UINT64_MAX && at < c->route->now.stalled_until_us)
        at = c->route->now.stalled_until_us;
    return at < now ? now : at;
}

/* When what was read now arrives. */
static uint64_t arrival(struct way *way, const struct conditions *n, uint64_t now)
{
    uint64_t at = now + n->delay_us + random_below(n->jitter_us + 1);
    uint64_t rto = RTO_US;
    for (int i = 0; i < RTO_DOUBLINGS && random_below(1000) < n->loss_permille; i++) {
        at += rto;
        rto *= 2;
    }
    if (at < way->last_due_us)
        at = way->last_due_us;
    way->last_due_us = at;
    return at;
}

static void way_read(struct connection *c, int w, uint64_t now)
{
    struct way *way = &c->way[w];
    struct piece *p = malloc(sizeof *p + PIECE_BYTES_MAX);
    if (p == NULL)
        die("out of memory", "a piece of a stream");
    ssize_t got = read(c->fd[w], p->data, PIECE_BYTES_MAX);
    if (got > 0) {
        p->next = NULL;
        p->size = (size_t)got;
        p->sent = 0;
        p->due_us = arrival(way, &c->route->now, now);
        if (way->last == NULL)
            way->first = p;
        else
            way->last->next = p;
        way->last = p;
        way->queued += p->size;
        c->route->bytes[w] += p->size;
        return;
    }
    free(p);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    way->end = got == 0 ? END_CLOSED : END_BROKEN;
    way->end_due_us = arrival(way, &c->route->now, now);
}

/* Delivers what is due. False: the connection is gone. */
static bool way_write(struct connection *c, int w, uint64_t now)
{
    struct way *way = &c->way[w];
    const uint64_t rate = c->route->now.bytes_per_s;
    while (way->first != NULL && due(c, w, now) <= now) {
        struct piece *p = way->first;
        size_t size = p->size - p->sent;
        /* A tenth of a second's worth at a time. */
        if (rate > 0 && size > rate / 10 + 1)
            size = (size_t)(rate / 10 + 1);
        ssize_t put = send(c->fd[!w], p->data + p->sent, size, MSG_NOSIGNAL);
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (put < 0) {
            /* Whether the sender learns of it is up to the other direction. */
            way_drop(way);
            way->dead = true;
            return true;
        }
        p->sent += (size_t)put;
        way->queued -= (size_t)put;
        if (rate > 0)
            way->free_at_us = now + (uint64_t)put * 1000000u / rate;
        if (p->sent == p->size) {
            way->first = p->next;
            if (way->first == NULL)
                way->last = NULL;
            free(p);
        }
    }
    if (way->first != NULL || way->end == END_NONE || way->end_delivered || due(c, w, now) > now)
        return true;
    way->end_delivered = true;
    if (way->end == END_BROKEN) {
        connection_end(c, true);
        return false;
    }
    (void)shutdown(c->fd[!w], SHUT_WR); /* fails only when that side is gone already */
    if (c->way[!w].end_delivered || c->way[!w].dead) {
        connection_end(c, false);
        return false;
    }
    return true;
}

/* --- commands -----------------------------------------------------------------------------------
 */

struct command {
    const char *pattern, *direction;
    uint64_t number[2];
    bool both, way[WAYS];
};

static size_t break_connections(const char *pattern, bool only_halved)
{
    size_t count = 0;
    for (struct connection *c = connections, *next; c != NULL; c = next) {
        next = c->next;
        if ((only_halved && !c->halved) || fnmatch(pattern, c->route->name, 0) != 0)
            continue;
        connection_end(c, true);
        count++;
    }
    return count;
}

static size_t halve_connections(const struct command *k)
{
    size_t count = 0;
    for (struct connection *c = connections; c != NULL; c = c->next) {
        if (!c->connected || fnmatch(k->pattern, c->route->name, 0) != 0)
            continue;
        c->halved = true;
        for (int w = 0; w < WAYS; w++)
            c->way[w].dead = c->way[w].dead || k->way[w];
        count++;
    }
    return count;
}

static void apply(struct conditions *n, const char *verb, const struct command *k, uint64_t now)
{
    if (strcmp(verb, "delay") == 0) {
        n->delay_us = k->number[0] * 1000u;
        n->jitter_us = k->number[1] * 1000u;
    } else if (strcmp(verb, "loss") == 0) {
        n->loss_permille = k->number[0];
    } else if (strcmp(verb, "rate") == 0) {
        n->bytes_per_s = k->number[0];
    } else if (strcmp(verb, "stall") == 0) {
        n->stalled_until_us = now + k->number[0] * 1000u;
    } else if (strcmp(verb, "cut") == 0) {
        for (int w = 0; w < WAYS; w++)
            n->cut[w] = n->cut[w] || k->way[w];
    } else if (strcmp(verb, "refuse") == 0) {
        n->refuse = true;
    } else if (strcmp(verb, "heal") == 0) {
        *n = (struct conditions){0};
    }
}

/* Arguments behind the pattern: at least one number and at most two, or a direction, or none. */
static const struct verb {
    const char *name;
    int numbers_min, numbers_max;
    bool direction;
} verbs[] = {{"delay", 1, 2, false}, {"loss", 1, 1, false},   {"rate", 1, 1, false},
             {"stall", 1, 1, false}, {"cut", 0, 0, true},     {"half", 0, 0, true},
             {"reset", 0, 0, false}, {"refuse", 0, 0, false}, {"heal", 0, 0, false},
             {"stats", 0, 0, false}};

static bool parse(struct command *k, const struct verb *v, char *word[], int words)
{
    *k = (struct command){.pattern = word[1], .way = {true, true}};
    const int given = words - 2;
    if (v->direction) {
        if (given > 1)
            return false;
        if (given == 1) {
            const char *d = word[2];
            if (strcmp(d, "forward") != 0 && strcmp(d, "back") != 0 && strcmp(d, "both") != 0)
                return false;
            k->way[FORWARD] = strcmp(d, "back") != 0;
            k->way[BACK] = strcmp(d, "forward") != 0;
        }
        return true;
    }
    if (given < v->numbers_min || given > v->numbers_max)
        return false;
    for (int i = 0; i < given; i++) {
        char *end;
        errno = 0;
        unsigned long long n = strtoull(word[2 + i], &end, 10);
        if (!isdigit((unsigned char)word[2 + i][0]) || *end != '\0' || errno != 0)
            return false;
        if (strcmp(v->name, "rate") != 0 && n > MS_MAX)
            return false;
        k->number[i] = n;
    }
    return true;
}

static void put_stats(char *answer, size_t size, const char *pattern)
{
    size_t open = 0;
    uint64_t opened = 0, bytes[WAYS] = {0};
    for (size_t i = 0; i < route_count; i++) {
        if (fnmatch(pattern, routes[i].name, 0) != 0)
            continue;
        opened += routes[i].opened;
        for (int w = 0; w < WAYS; w++)
            bytes[w] += routes[i].bytes[w];
    }
    for (const struct connection *c = connections; c != NULL; c = c->next)
        open += fnmatch(pattern, c->route->name, 0) == 0;
    snprintf(answer, size, "ok open=%zu opened=%llu forward_bytes=%llu back_bytes=%llu\n", open,
             (unsigned long long)opened, (unsigned long long)bytes[FORWARD],
             (unsigned long long)bytes[BACK]);
}

/* One line: VERB PATTERN [ARGUMENT...]. The answer is one line: "ok COUNT" or "error: SENTENCE". */
static void obey(char *line, char *answer, size_t size)
{
    char *word[WORDS_MAX], *rest = NULL;
    int words = 0;
    for (char *w = strtok_r(line, " \t\r", &rest); w != NULL && words < WORDS_MAX;
         w = strtok_r(NULL, " \t\r", &rest))
        word[words++] = w;
    const struct verb *v = NULL;
    for (size_t i = 0; words > 0 && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, word[0]) == 0)
            v = &verbs[i];
    struct command k;
    if (v == NULL || words < 2 || !parse(&k, v, word, words)) {
        snprintf(answer, size,
                 "error: expected delay|loss|rate|stall|cut|half|reset|refuse|heal|stats PATTERN "
                 "[NUMBERS | forward|back|both]\n");
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < route_count; i++) {
        if (fnmatch(k.pattern, routes[i].name, 0) != 0)
            continue;
        apply(&routes[i].now, v->name, &k, now_us());
        count++;
    }
    if (count == 0) {
        snprintf(answer, size, "error: no route is called like '%.60s'\n", k.pattern);
        return;
    }
    if (strcmp(v->name, "stats") == 0) {
        put_stats(answer, size, k.pattern);
        return;
    }
    if (strcmp(v->name, "reset") == 0 || strcmp(v->name, "refuse") == 0)
        count = break_connections(k.pattern, false);
    else if (strcmp(v->name, "half") == 0)
        count = halve_connections(&k);
    else if (strcmp(v->name, "heal") == 0)
        (void)break_connections(k.pattern, true);
    snprintf(answer, size, "ok %zu\n", count);
}

static void control_close(struct control *k)
{
    close(k->fd);
    k->fd = -1;
}

static void control_accept(void)
{
    int fd = accept4(control_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; i < CONTROLS_MAX; i++) {
        if (controls[i].fd < 0) {
            controls[i] = (struct control){.fd = fd};
            return;
        }
    }
    close(fd);
}

static void control_read(struct control *k)
{
    ssize_t got = read(k->fd, k->line + k->used, sizeof k->line - k->used);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        control_close(k);
        return;
    }
    k->used += (size_t)got;
    char *end;
    while ((end = memchr(k->line, '\n', k->used)) != NULL) {
        char answer[256];
        *end = '\0';
        obey(k->line, answer, sizeof answer);
        size_t taken = (size_t)(end - k->line) + 1;
        memmove(k->line, k->line + taken, k->used - taken);
        k->used -= taken;
        /* Who does not read a short answer is no longer interested. */
        if (send(k->fd, answer, strlen(answer), MSG_NOSIGNAL) < 0) {
            control_close(k);
            return;
        }
    }
    if (k->used == sizeof k->line)
        control_close(k);
}

/* --- the loop -----------------------------------------------------------------------------------
 */

struct waiting {
    struct pollfd *fds;
    size_t count;
    uint64_t wake_us;
};

static void want(struct waiting *p, int fd, short events)
{
    /* An entry without events would still report a hang-up, again and again. */
    p->fds[p->count++] = (struct pollfd){.fd = events == 0 ? -1 : fd, .events = events};
}

static void sooner(struct waiting *p, uint64_t at)
{
    if (at < p->wake_us)
        p->wake_us = at;
}

/* The same order as in `serve`. */
static void collect(struct waiting *p, uint64_t now)
{
    p->count = 0;
    p->wake_us = UINT64_MAX;
    want(p, control_listener, POLLIN);
    for (size_t i = 0; i < CONTROLS_MAX; i++)
        want(p, controls[i].fd, controls[i].fd < 0 ? 0 : POLLIN);
    for (size_t i = 0; i < route_count; i++)
        want(p, routes[i].listener, POLLIN);
    for (const struct connection *c = connections; c != NULL; c = c->next) {
        short events[WAYS] = {0};
        for (int w = 0; w < WAYS; w++) {
            if (reads(c, w, now))
                events[w] |= POLLIN;
            uint64_t at = due(c, w, now);
            if (at <= now)
                events[!w] |= POLLOUT;
            else
                sooner(p, at);
        }
        if (c->connecting && !c->connected)
            events[BACK] |= POLLOUT;
        if (now < c->route->now.stalled_until_us)
            sooner(p, c->route->now.stalled_until_us);
        want(p, c->fd[FORWARD], events[FORWARD]);
        want(p, c->fd[BACK], events[BACK]);
    }
}

/* Both sockets of one connection; `ready` holds what poll said of each. */
static void serve_connection(struct connection *c, const short ready[WAYS], uint64_t now)
{
    if (!connection_dial(c, now))
        return;
    if (c->connecting && !c->connected) {
        if (ready[BACK] == 0 || !connection_finish_dial(c))
            return;
    }
    for (int w = 0; w < WAYS; w++)
        if (ready[w] != 0 && reads(c, w, now))
            way_read(c, w, now);
    for (int w = 0; w < WAYS; w++)
        if (!way_write(c, w, now))
            return;
}

static void serve(const struct waiting *p, uint64_t now)
{
    size_t at = 0;
    const bool newcomer = p->fds[at++].revents != 0;
    const size_t control_at = at;
    at += CONTROLS_MAX;
    const size_t route_at = at;
    at += route_count;
    for (struct connection *c = connections, *next; c != NULL; c = next) {
        next = c->next;
        const short ready[WAYS] = {p->fds[at].revents, p->fds[at + 1].revents};
        at += 2;
        serve_connection(c, ready, now);
    }
    for (size_t i = 0; i < route_count; i++)
        if (p->fds[route_at + i].revents != 0)
            connection_accept(&routes[i]);
    /* Last, as commands change the list of connections. */
    for (size_t i = 0; i < CONTROLS_MAX; i++)
        if (p->fds[control_at + i].revents != 0)
            control_read(&controls[i]);
    if (newcomer)
        control_accept();
}

static void run(const sigset_t *open_mask)
{
    struct waiting p = {
        .fds = calloc(1 + CONTROLS_MAX + ROUTES_MAX + 2 * CONNECTIONS_MAX, sizeof *p.fds)};
    if (p.fds == NULL)
        die("out of memory", "at start");
    while (!told_to_stop) {
        uint64_t now = now_us();
        for (struct connection *c = connections, *next; c != NULL; c = next) {
            next = c->next;
            (void)connection_dial(c, now);
        }
        collect(&p, now);
        struct timespec wait = {0};
        if (p.wake_us != UINT64_MAX && p.wake_us > now) {
            wait.tv_sec = (time_t)((p.wake_us - now) / 1000000u);
            wait.tv_nsec = (long)((p.wake_us - now) % 1000000u) * 1000;
        }
        int ready = ppoll(p.fds, p.count, p.wake_us == UINT64_MAX ? NULL : &wait, open_mask);
        if (ready < 0 && errno != EINTR)
            die("ppoll", strerror(errno));
        if (ready >= 0)
            serve(&p, now_us());
    }
    while (connections != NULL)
        connection_end(connections, false);
    free(p.fds);
}

static void on_signal(int number)
{
    (void)number;
    told_to_stop = 1;
}

/* NAME=LISTEN,TARGET */
static void add_route(char *text)
{
    char *equals = strchr(text, '=');
    char *comma = equals == NULL ? NULL : strchr(equals, ',');
    if (comma == NULL || equals == text || (size_t)(equals - text) >= sizeof routes[0].name)
        die("a route is NAME=LISTEN,TARGET, not", text);
    if (route_count == ROUTES_MAX)
        die("too many routes, the first that is too many is", text);
    *equals = *comma = '\0';
    struct route *r = &routes[route_count++];
    memcpy(r->name, text, strlen(text) + 1);
    r->listener = listen_on(equals + 1);
    if (!resolve(comma + 1, &r->target, &r->target_size))
        die("this is no address of the form 127.0.0.1:PORT", comma + 1);
}

static void help(void)
{
    puts(
        "Usage: sim-proxy --control ADDRESS [--seed N] NAME=LISTEN,TARGET...\n\n"
        "Passes TCP connections on, as well or as badly as it is told to. Commands, one a line on\n"
        "the control address, each about the routes whose names match a shell pattern:\n\n"
        "  delay PATTERN MS [JITTER_MS]   loss PATTERN PERMILLE   rate PATTERN BYTES_PER_S\n"
        "  stall PATTERN MS               cut PATTERN [forward|back|both]\n"
        "  half PATTERN [forward|back|both]   reset PATTERN   refuse PATTERN\n"
        "  heal PATTERN   stats PATTERN\n\n"
        "Example: sim-proxy --control 127.0.0.1:9000 'a>b=127.0.0.1:9001,127.0.0.1:7400'");
}

int main(int argc, char **argv)
{
    const char *control = NULL;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--help") == 0) {
            help();
            return 0;
        }
        if (at + 1 == argc)
            die("this option needs a value", argv[at]);
        if (strcmp(argv[at], "--control") == 0)
            control = argv[at + 1];
        else if (strcmp(argv[at], "--seed") == 0)
            random_state ^= strtoull(argv[at + 1], NULL, 10) * 0x9E3779B97F4A7C15u;
        else
            die("there is no option", argv[at]);
    }
    if (control == NULL || at == argc) {
        fprintf(stderr, NAME ": --control and at least one route are needed (try --help)\n");
        return 2;
    }
    if (random_state == 0)
        random_state = 1;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* with less it refuses connections earlier */
    }
    for (size_t i = 0; i < CONTROLS_MAX; i++)
        controls[i].fd = -1;
    sigset_t blocked, open_mask;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    const struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    control_listener = listen_on(control);
    for (; at < argc; at++)
        add_route(argv[at]);
    printf("ready: %zu routes, control %s\n", route_count, control);
    fflush(stdout);
    run(&open_mask);
    return 0;
}
