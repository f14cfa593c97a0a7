/* node/shell_links.c - a DC's ports and dials, and the channels on them. */
#include "node/shell.h"

#include "crypto/secret.h"
#include "ledger/registry.h"

#include <stdlib.h>
#include <string.h>

#define QUIET_MS 60000

static void port_open(void *ctx, env_link link, const char *remote)
{
    struct port *p = ctx;
    (void)remote;
    const struct credential_identity *who = link_peer(p->shell->links, link);
    node_on_open(p->shell->node, link, p->port, NULL);
    if (who != NULL)
        node_on_identity(p->shell->node, link, who, link_suite(p->shell->links, link));
}

static void port_refused(void *ctx, const char *remote, enum channel_fault fault,
                         const struct credential_identity *who, enum channel_standing standing)
{
    struct port *p = ctx;
    node_on_refused(p->shell->node, p->port, remote, fault, who, standing);
}

/* Whom each port lets in; what it may do there, the core decides. */
static enum channel_fault port_accept(void *ctx, const struct credential_identity *who)
{
    const struct port *p = ctx;
    const enum credential_role meant =
        p->port == NODE_PORT_PEER ? CREDENTIAL_DC : CREDENTIAL_OPERATOR;
    return who->role == meant || who->role == CREDENTIAL_MDMS ? FAULT_NONE : FAULT_USAGE;
}

static void port_frame(void *ctx, env_link link, struct span frame)
{
    struct port *p = ctx;
    node_on_frame(p->shell->node, link, frame);
    if (node_link_known(p->shell->node, link))
        link_mark_known(p->shell->links, link);
}

static void port_closed(void *ctx, env_link link, enum ami_status why)
{
    (void)why;
    node_on_closed(((struct port *)ctx)->shell->node, link);
}

static void port_writable(void *ctx, env_link link)
{
    node_on_writable(((struct port *)ctx)->shell->node, link);
}

static void dial_open(void *ctx, env_link link, const char *remote)
{
    struct dial *d = ctx;
    (void)remote;
    const struct credential_identity *who = link_peer(d->shell->links, link);
    node_on_open(d->shell->node, link, NODE_PORT_DIALLED, &d->peer.name);
    if (who != NULL)
        node_on_identity(d->shell->node, link, who, link_suite(d->shell->links, link));
}

static void dial_refused(void *ctx, const char *remote, enum channel_fault fault,
                         const struct credential_identity *who, enum channel_standing standing)
{
    node_on_refused(((struct dial *)ctx)->shell->node, NODE_PORT_DIALLED, remote, fault, who,
                    standing);
}

static enum channel_fault dial_accept(void *ctx, const struct credential_identity *who)
{
    const struct dial *d = ctx;
    if (who->role != CREDENTIAL_DC)
        return FAULT_USAGE;
    return ami_id_equal(&who->name, &d->peer.name) ? FAULT_NONE : FAULT_UNEXPECTED;
}

static void dial_frame(void *ctx, env_link link, struct span frame)
{
    node_on_frame(((struct dial *)ctx)->shell->node, link, frame);
}

static void dial_closed(void *ctx, env_link link, enum ami_status why)
{
    (void)why;
    node_on_closed(((struct dial *)ctx)->shell->node, link);
}

/* What strangers get computed for them on one port: in all, and from one address. The unit is the
 * answer to a first flight, a tenth of a millisecond, and what else they may ask for is counted in
 * it (channel_cost), so this is a twentieth of a core. A DC that starts again has its 30 peers' and
 * the MDMS's first and third flights looked at at once even when all are under X.509. */
static const struct gate_rate gate_all = {1000, 500}, gate_one = {400, 200};

void shell_port_counters(void *ctx, enum node_port port, struct node_port_counters *out)
{
    struct shell *s = ctx;
    _Static_assert((int)LINK_DROP_REASONS <= NODE_DROP_REASONS_MAX, "room for every reason");
    for (size_t i = 0; i < sizeof s->port / sizeof s->port[0]; i++) {
        if (s->port[i].port != port || s->port[i].listener == NULL)
            continue;
        const struct link_counters *c = link_listener_counters(s->port[i].listener);
        out->open_now = link_listener_open_now(s->port[i].listener);
        out->opened = c->opened;
        out->closed = c->closed;
        out->bytes_in = c->bytes_in;
        out->bytes_out = c->bytes_out;
        out->frames_in = c->frames_in;
        out->frames_out = c->frames_out;
        for (out->reasons = 0; out->reasons < LINK_DROP_REASONS; out->reasons++) {
            out->reason[out->reasons] = link_drop_name((enum link_drop_reason)out->reasons);
            out->dropped[out->reasons] = c->dropped[out->reasons];
        }
        out->secured = port != NODE_PORT_METER;
        if (!out->secured)
            continue;
        out->handshakes_begun = c->handshakes_begun;
        out->channels_opened = c->channels_opened;
        out->turned_away = c->turned_away;
        memcpy(out->faults, c->faults, sizeof out->faults);
        out->budget_left = gate_left(&s->port[i].gate, clock_mono_us());
        out->budget_most = gate_all.burst;
    }
}

/* --- where to --------------------------------------------------------------------------------- */

static bool same_peer(const struct node_peer *a, const struct node_peer *b)
{
    return ami_id_equal(&a->name, &b->name) && strcmp(a->address, b->address) == 0;
}

/* Where this node reaches that DC: as the ledger says, unless --peer names another way. */
static const char *peer_address(const struct shell *s, const struct node_peer *peer)
{
    const size_t size = peer->name.size;
    const char *address = peer->address;
    for (size_t k = 0; k < s->opt->peers.count; k++)
        if (strncmp(s->opt->peers.items[k], peer->name.text, size) == 0 &&
            s->opt->peers.items[k][size] == '=')
            address = s->opt->peers.items[k] + size + 1;
    return address;
}

static bool is_other_dc(const struct shell *s, const struct ami_id *id)
{
    bool known = false;
    for (uint64_t i = 0; i < registry_size(s->registry) && !known; i++) {
        const struct record *r = registry_at(s->registry, i);
        known = r->kind == RECORD_DC && ami_id_equal(&r->name, id);
    }
    return known && !ami_id_equal(id, &s->key[0].file.keys.name);
}

/* Every --peer names another DC, so that a mistyped one is not silently without effect. */
enum ami_status shell_check_peers(const struct shell *s, struct why *why)
{
    for (size_t k = 0; k < s->opt->peers.count; k++) {
        const char *given = s->opt->peers.items[k];
        const char *equals = strchr(given, '=');
        struct ami_id id;
        if (equals == NULL || ami_id_set(&id, given, (size_t)(equals - given)) != AMI_OK ||
            !is_other_dc(s, &id))
            return why_set(why, AMI_BAD_ARGUMENT,
                           "--peer %.100s: expected NAME=HOST:PORT with the name of another DC of "
                           "the genesis file or the ledger",
                           given);
    }
    return AMI_OK;
}

/* --- ports and dials -------------------------------------------------------------------------- */

/* A peer's frame may be a block, a stranger's there is a hello; a meter's is small. A stranger is
 * dropped, and counted, before the core gives up its handshake. Of one DC there is a link, and
 * another that may not have been noticed to be dead, and readers' (node/peers.c); a proven one may
 * be quiet as long as a slow line needs for what the system has taken of an answer. */
static const struct link_limits port_limits[3] = {
    {.frame_bytes_max = AMI_FRAME_PEER_BYTES_MAX,
     .queue_bytes_max = 16u << 20,
     .connections_max = 256,
     .stranger_ms = 8000,
     .half_frame_ms = 30000,
     .stranger_frame_bytes_max = 1024,
     .idle_ms = LINK_IDLE_MS,
     .silent_ms = LINK_SILENT_MS,
     .identity_max = 4,
     .quiet_ms = QUIET_MS},
    {.frame_bytes_max = AMI_FRAME_METER_BYTES_MAX,
     .queue_bytes_max = 4u << 20,
     .connections_max = 2048,
     .stranger_ms = 30000,
     .half_frame_ms = 30000,
     .stranger_frame_bytes_max = 2048},
    {.frame_bytes_max = 8192,
     .queue_bytes_max = AMI_FRAME_ADMIN_BYTES_MAX + 64,
     .connections_max = 64,
     .stranger_ms = 15000,
     .half_frame_ms = 10000,
     .identity_max = 8,
     .quiet_ms = QUIET_MS}};

void shell_look_at_anchors(void *arg)
{
    struct shell *s = arg;
    const uint64_t now = clock_mono_us();
    if (anchors_look(&s->anchors, now, clock_wall_ms()))
        link_judge(s->links, clock_wall_ms());
    loop_alarm_set(s->loop, &s->anchors_alarm, now + ANCHORS_LOOK_US);
}

bool shell_operator_revoked(void *ctx, const struct credential_identity *who)
{
    return node_operator_revoked(((struct shell *)ctx)->node, who);
}

static struct channel_config
channel_config_of(struct shell *s,
                  enum channel_fault (*accept)(void *ctx, const struct credential_identity *who),
                  void *ctx)
{
    return (struct channel_config){.own = &s->credential,
                                   .trust = &s->anchors.watch.trust.trust,
                                   .suites = s->suites,
                                   .accept = accept,
                                   .accept_ctx = ctx};
}

static void secure_port(struct shell *s, struct port *p)
{
    uint8_t key[16];
    secret_random(key, sizeof key);
    gate_init(&p->gate, gate_all, gate_one, key, clock_mono_us());
    p->security = (struct link_security){channel_config_of(s, port_accept, p), &p->gate};
}

static void dial_one(struct shell *s, const struct node_peer *peer)
{
    struct why why = {""};
    struct dial *d = calloc(1, sizeof *d);
    if (d == NULL) {
        log_say(s->log, ENV_LOG_ERROR, "not_dialled", "dc=%s: out of memory", peer->name.text);
        return;
    }
    *d = (struct dial){.next = s->dials, .shell = s, .peer = *peer};
    d->security.config = channel_config_of(s, dial_accept, d);
    s->dials = d;
    const struct link_events events = {.ctx = d,
                                       .on_open = dial_open,
                                       .on_frame = dial_frame,
                                       .on_closed = dial_closed,
                                       .on_refused = dial_refused,
                                       .security = &d->security};
    if (link_dial(s->links, peer_address(s, peer), &port_limits[0], 1000, &events, &d->dialer,
                  &why) != AMI_OK)
        log_say(s->log, ENV_LOG_ERROR, "not_dialled", "dc=%s: %s", peer->name.text, why.text);
}

void shell_dial(void *ctx, const struct node_peer *peer, size_t count)
{
    struct shell *s = ctx;
    bool known[AMI_MEMBERS_MAX] = {false};
    for (struct dial *d = s->dials; d != NULL; d = d->next) {
        bool wanted = false;
        for (size_t i = 0; d->dialer != NULL && i < count && !wanted; i++)
            known[i] |= wanted = same_peer(&d->peer, &peer[i]);
        if (d->dialer != NULL && !wanted) {
            link_dialer_stop(d->dialer);
            d->dialer = NULL;
        }
    }
    for (size_t i = 0; i < count; i++)
        if (!known[i])
            dial_one(s, &peer[i]);
}

/* Where this DC listens: as its options say, else as the genesis file or its membership does. */
enum ami_status shell_open_ports(struct shell *s, struct why *why)
{
    const struct member_address *known = node_address(s->node);
    const char *given[3] = {s->opt->listen_peers, s->opt->listen_meters, s->opt->listen_admin};
    const char *from[3] = {NULL, NULL, NULL};
    if (known != NULL) {
        from[0] = known->peer;
        from[1] = known->meter;
        from[2] = known->admin;
    }
    const enum node_port port[3] = {NODE_PORT_PEER, NODE_PORT_METER, NODE_PORT_ADMIN};
    for (int i = 0; i < 3; i++) {
        s->port[i] = (struct port){.shell = s, .port = port[i]};
        const bool secure = port[i] == NODE_PORT_PEER || port[i] == NODE_PORT_ADMIN;
        if (secure)
            secure_port(s, &s->port[i]);
        const struct link_events events = {.ctx = &s->port[i],
                                           .on_open = port_open,
                                           .on_frame = port_frame,
                                           .on_closed = port_closed,
                                           .on_writable = port_writable,
                                           .on_refused = port_refused,
                                           .security = secure ? &s->port[i].security : NULL};
        const char *address = given[i] != NULL ? given[i] : from[i];
        if (address == NULL)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "%s is no member yet, so the ledger does not say where it listens: "
                           "name --listen-peers, --listen-meters and --listen-admin ADDRESS",
                           s->used->file.keys.name.text);
        AMI_TRY(
            link_listen(s->links, address, &port_limits[i], &events, &s->port[i].listener, why));
    }
    return AMI_OK;
}
