#include "node/gateway_internal.h"

#include <sys/mman.h>

/* Sessions live for hours, and what is allocated between them only for a moment: in one heap they
 * would keep apart the holes that it leaves. So they lie in chunks that are mapped by themselves
 * and go back to the system when they are empty: most of them, when a DC leads no more. An id ends
 * with the number of its slot; the rest is random, so that nothing late ever finds another's
 * session. */

#define SLOT_BITS       24
#define SLOTS_PER_CHUNK 512
#define CHUNK_WORDS     (SLOTS_PER_CHUNK / 64)
#define METERS_MORE     1024 /* how many later keys the table of meters has room for */

struct session_chunk {
    size_t used;
    uint64_t mask[CHUNK_WORDS]; /* bit i: slot i is not free */
    struct gateway_session slot[SLOTS_PER_CHUNK];
};

static size_t slot_of(uint64_t id)
{
    return (size_t)(id & ((1u << SLOT_BITS) - 1));
}

/* The chunk at g->chunk_with_room, made when there is none; NULL: out of memory. */
static struct session_chunk *chunk_with_room(struct gateway *g)
{
    while (g->chunk_with_room < g->chunks && g->chunk[g->chunk_with_room] != NULL &&
           g->chunk[g->chunk_with_room]->used == SLOTS_PER_CHUNK)
        g->chunk_with_room++;
    if (g->chunk_with_room == g->chunks) {
        size_t more = g->chunks == 0 ? 8 : 2 * g->chunks;
        struct session_chunk **chunk = realloc(g->chunk, more * sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        memset(chunk + g->chunks, 0, (more - g->chunks) * sizeof *chunk);
        g->chunk = chunk;
        g->chunks = more;
    }
    struct session_chunk **at = &g->chunk[g->chunk_with_room];
    if (*at == NULL) {
        void *mapped = mmap(NULL, sizeof **at, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                            -1, 0); /* zeros */
        *at = mapped == MAP_FAILED ? NULL : mapped;
    }
    return *at;
}

struct gateway_session *gateway_reserve_session(struct node *n)
{
    struct gateway *g = n->gateway;
    struct session_chunk *c;
    if (g->sessions >= n->c.sessions_max || g->sessions >> SLOT_BITS != 0 ||
        (c = chunk_with_room(g)) == NULL)
        return NULL;
    size_t word = 0;
    while (c->mask[word] == UINT64_MAX)
        word++;
    unsigned bit = (unsigned)__builtin_ctzll(~c->mask[word]);
    size_t at = 64 * word + bit;
    uint64_t random;
    do
        node_random(n, &random, sizeof random);
    while (random >> SLOT_BITS == 0);
    c->mask[word] |= UINT64_C(1) << bit;
    c->used++;
    g->sessions++;
    struct gateway_session *s = &c->slot[at];
    s->state = SESSION_RESERVED;
    s->id = (random >> SLOT_BITS << SLOT_BITS) + SLOTS_PER_CHUNK * g->chunk_with_room + at;
    return s;
}

size_t gateway_mapped_bytes(const struct node *n)
{
    size_t chunks = 0;
    for (size_t i = 0; i < n->gateway->chunks; i++)
        chunks += n->gateway->chunk[i] != NULL;
    return chunks * sizeof(struct session_chunk);
}

static void unmap(struct session_chunk **c)
{
    if (*c != NULL)
        AMI_CHECK(munmap(*c, sizeof **c) == 0);
    *c = NULL;
}

static void free_slot(struct gateway *g, struct gateway_session *s)
{
    size_t slot = slot_of(s->id), of = slot / SLOTS_PER_CHUNK, at = slot % SLOTS_PER_CHUNK;
    struct session_chunk *c = g->chunk[of];
    AMI_CHECK(s == &c->slot[at]);
    secret_wipe(s, sizeof *s);
    c->mask[at / 64] &= ~(UINT64_C(1) << at % 64);
    c->used--;
    g->sessions--;
    if (of < g->chunk_with_room)
        g->chunk_with_room = of;
    if (c->used == 0)
        unmap(&g->chunk[of]);
}

void gateway_unreserve_session(struct node *n, struct gateway_session *s)
{
    AMI_CHECK(s->state == SESSION_RESERVED);
    free_slot(n->gateway, s);
}

struct gateway_session *gateway_find_session(const struct node *n, uint64_t id)
{
    const struct gateway *g = n->gateway;
    size_t slot = slot_of(id), of = slot / SLOTS_PER_CHUNK;
    if (of >= g->chunks || g->chunk[of] == NULL)
        return NULL;
    struct gateway_session *s = &g->chunk[of]->slot[slot % SLOTS_PER_CHUNK];
    return s->state > SESSION_RESERVED && s->id == id ? s : NULL;
}

struct gateway_session *gateway_next_session(const struct node *n, size_t *slot)
{
    const struct gateway *g = n->gateway;
    while (*slot < g->chunks * SLOTS_PER_CHUNK) {
        struct session_chunk *c = g->chunk[*slot / SLOTS_PER_CHUNK];
        size_t at = *slot % SLOTS_PER_CHUNK;
        uint64_t rest = c == NULL ? 0 : c->mask[at / 64] >> at % 64;
        if (rest == 0) {
            *slot += c == NULL ? SLOTS_PER_CHUNK - at : 64 - at % 64;
            continue;
        }
        at += (size_t)__builtin_ctzll(rest);
        *slot += at - *slot % SLOTS_PER_CHUNK + 1;
        if (c->slot[at].state > SESSION_RESERVED)
            return &c->slot[at];
    }
    return NULL;
}

void gateway_sessions_free(struct node *n)
{
    struct gateway *g = n->gateway;
    struct gateway_session *s;
    for (size_t slot = 0; (s = gateway_next_session(n, &slot)) != NULL;)
        gateway_drop_session(n, s);
    for (size_t i = 0; i < g->chunks; i++)
        unmap(&g->chunk[i]); /* reserved ones have no secrets */
    free(g->chunk);
    for (size_t i = 0; i < g->meters; i++)
        free(g->meter[i].peer);
    free(g->meter);
}

struct gateway_meter *gateway_meter_of(const struct node *n, uint64_t meter)
{
    return meter < n->gateway->meters ? &n->gateway->meter[meter] : NULL;
}

struct gateway_meter *gateway_make_meter(struct node *n, uint64_t meter)
{
    struct gateway *g = n->gateway;
    if (meter >= g->meters) {
        size_t size = (size_t)registry_size(n->c.registry) + METERS_MORE;
        struct gateway_meter *m = realloc(g->meter, size * sizeof *m);
        if (m == NULL)
            return NULL;
        memset(m + g->meters, 0, (size - g->meters) * sizeof *m);
        g->meter = m;
        g->meters = size;
    }
    return &g->meter[meter];
}

void gateway_open_session(struct gateway_meter *m, struct gateway_session *s)
{
    s->state = SESSION_OPENING;
    LL_APPEND2(m->opening, s, next_opening);
    m->openings++;
}

static void no_longer_opening(struct gateway_meter *m, struct gateway_session *s)
{
    LL_DELETE2(m->opening, s, next_opening);
    m->openings--;
}

void gateway_confirm_session(struct gateway_meter *m, struct gateway_session *s)
{
    no_longer_opening(m, s);
    s->state = SESSION_CONFIRMED;
    m->current = s;
}

bool gateway_set_link(struct node *n, struct gateway_session *s, env_link id)
{
    if (s->link != 0) {
        struct node_link *old = node_link_find(n, s->link);
        AMI_CHECK(old != NULL);
        DL_DELETE2(old->sessions, s, link_prev, link_next);
        s->link = 0;
    }
    struct node_link *l = id == 0 ? NULL : node_link_find(n, id);
    if (l == NULL)
        return false;
    DL_APPEND2(l->sessions, s, link_prev, link_next);
    s->link = id;
    return true;
}

void gateway_drop_session(struct node *n, struct gateway_session *s)
{
    struct gateway_meter *m = gateway_meter_of(n, s->meter);
    AMI_CHECK(m != NULL);
    gateway_set_link(n, s, 0);
    if (m->current == s)
        m->current = NULL;
    if (s->state == SESSION_OPENING)
        no_longer_opening(m, s);
    else
        n->sessions_open--;
    free_slot(n->gateway, s);
}

void gateway_say_ended(struct node *n, env_link link, uint64_t session, enum ami_status status)
{
    struct session_ended e = {.session = session, .status = (uint16_t)status};
    uint8_t leader;
    if (status == AMI_NOT_LEADER && gateway_other_leads(n, &leader)) {
        e.has_other = true;
        e.other.dc = n->committee.members.member[leader].name;
    }
    if (link == 0)
        return;
    struct writer w = node_frame(n, MSG_SESSION_ENDED);
    session_ended_encode(&w, &e);
    (void)node_send(n, link, writer_span(&w)); /* lost: the next message gets the same answer */
}

struct gateway_session *gateway_session_of(const struct node *n, uint64_t meter)
{
    const struct gateway_meter *m = gateway_meter_of(n, meter);
    return m == NULL ? NULL : m->current;
}
