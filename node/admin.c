/* node/admin.c - dc-cli's questions to a live node: status and events here, the rest in answer.c.
 */
#include "node/internal.h"

#include "channel/channel.h"
#include "node/access.h"
#include "node/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_PER_ANSWER 200
#define RATE_US           (2u * 1000000u)

static json_t *hex(const void *data, size_t size)
{
    char text[2 * SM3_BYTES + 1];
    AMI_CHECK(size <= SM3_BYTES);
    hex_encode(text, data, size);
    return json_string(text);
}

static const char *role_name(const struct node *n)
{
    if (!replica_may_sign(n->replica))
        return "observer";
    switch (replica_role(n->replica)) {
    case REPLICA_LEADER:
        return "leader";
    case REPLICA_CANDIDATE:
        return "candidate";
    case REPLICA_PRECANDIDATE:
        return "precandidate";
    case REPLICA_FOLLOWER:
        break;
    }
    return "follower";
}

static json_t *counters(const struct node *n)
{
    const struct node_counters *c = &n->counters;
    json_t *o = json_object();
#define PUT(name) json_object_set_new(o, #name, json_integer((json_int_t)c->name))
    PUT(frames_bad);
    PUT(links_refused);
    PUT(requests_denied);
    PUT(agreements);
    PUT(agreements_refused);
    PUT(reports);
    PUT(reports_refused);
    PUT(acks);
    PUT(acks_dropped);
    PUT(txs_handed_in);
    PUT(txs_refused);
    PUT(txs_not_taken);
    PUT(txs_committed);
    PUT(blocks_built);
    PUT(blocks_applied);
    PUT(blocks_refused);
    PUT(checked_ahead);
    PUT(elections_won);
    PUT(terms_seen);
    PUT(evidence_found);
    PUT(evidence_committed);
    PUT(writes_failed);
#undef PUT
    return o;
}

/* What newcomers' channels came to on one port. `refused` has the reasons that there were. */
static json_t *handshakes(const struct node_port_counters *c)
{
    json_t *refused = json_object();
    for (unsigned f = 0; f < CHANNEL_FAULTS; f++)
        if (c->faults[f] != 0)
            json_object_set_new(refused, channel_fault_name((enum channel_fault)f),
                                json_integer((json_int_t)c->faults[f]));
    return json_pack("{s:I, s:I, s:I, s:o, s:I, s:I}", "begun", (json_int_t)c->handshakes_begun,
                     "opened", (json_int_t)c->channels_opened, "turned_away",
                     (json_int_t)c->turned_away, "refused", refused, "budget_left",
                     (json_int_t)c->budget_left, "budget_most", (json_int_t)c->budget_most);
}

/* The channels with DCs and the MDMS. Who of the operators is connected, is for nobody to see. */
static json_t *channels(const struct node *n)
{
    json_t *list = json_array();
    for (const struct node_link *l = n->links; l != NULL; l = l->hh.next) {
        if (!l->identified || l->closing || l->who.role == CREDENTIAL_OPERATOR)
            continue;
        const char *port = l->port == NODE_PORT_DIALLED ? "dialled"
                           : l->port == NODE_PORT_PEER  ? "peers"
                                                        : "admin";
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "port", port, "role",
                            credential_role_name(l->who.role), "name", l->who.name.text,
                            "credential", credential_kind_name(l->who.kind), "suite",
                            channel_suite_name(l->suite), "ready", l->state == LINK_READY));
    }
    return list;
}

/* What strangers did on each port, and what became of them. */
static json_t *ports(struct node *n)
{
    static const char *const name[] = {
        [NODE_PORT_PEER] = "peers", [NODE_PORT_METER] = "meters", [NODE_PORT_ADMIN] = "admin"};
    json_t *o = json_object();
    for (enum node_port p = NODE_PORT_PEER; p <= NODE_PORT_ADMIN && n->c.port_counters != NULL;
         p++) {
        struct node_port_counters c = {0};
        n->c.port_counters(n->c.port_ctx, p, &c);
        json_t *dropped = json_object();
        for (size_t i = 0; i < c.reasons; i++)
            json_object_set_new(dropped, c.reason[i], json_integer((json_int_t)c.dropped[i]));
        json_t *port =
            json_pack("{s:I, s:I, s:I, s:o}", "open", (json_int_t)c.open_now, "opened",
                      (json_int_t)c.opened, "closed", (json_int_t)c.closed, "dropped", dropped);
        json_object_set_new(port, "bytes_in", json_integer((json_int_t)c.bytes_in));
        json_object_set_new(port, "bytes_out", json_integer((json_int_t)c.bytes_out));
        json_object_set_new(port, "frames_in", json_integer((json_int_t)c.frames_in));
        json_object_set_new(port, "frames_out", json_integer((json_int_t)c.frames_out));
        if (c.secured)
            json_object_set_new(port, "handshakes", handshakes(&c));
        json_object_set_new(o, name[p], port);
    }
    return o;
}

/* Committed transactions per second since the last question that was long enough ago. */
static double rate(struct node *n)
{
    uint64_t now = node_now_us(n);
    if (now - n->rate_at_us >= RATE_US) {
        n->reports_per_s = (double)(n->counters.txs_committed - n->rate_reports) * 1e6 /
                           (double)(now - n->rate_at_us);
        n->rate_at_us = now;
        n->rate_reports = n->counters.txs_committed;
    }
    return n->reports_per_s;
}

json_t *admin_committee(const struct node *n)
{
    const struct members *m = &n->committee.members;
    json_t *committee = json_array();
    for (uint8_t i = 0; i < m->count; i++)
        json_array_append_new(committee, json_pack("{s:s, s:I, s:s}", "dc", m->member[i].name.text,
                                                   "key_epoch", (json_int_t)m->member[i].key_epoch,
                                                   "admin", n->committee.address[i].admin));
    return committee;
}

static json_t *seconds_left(int64_t left)
{
    return left == INT64_MAX ? json_null() : json_integer((json_int_t)left);
}

/* This DC's credential and what it judges others by, and how long they are good: null where no date
 * ends them. */
static void add_anchors(const struct node *n, json_t *o)
{
    struct node_anchors a;
    if (n->c.anchors == NULL)
        return;
    n->c.anchors(n->c.anchors_ctx, &a);
    const int64_t now_s = node_wall_ms(n) / 1000;
    json_object_set_new(o, "credential",
                        json_pack("{s:s, s:o}", "kind", credential_kind_name(a.own->who.kind),
                                  "expires_in_s",
                                  seconds_left(credential_own_left_s(a.own, now_s))));
    json_object_set_new(o, "trust_expires_in_s",
                        seconds_left(a.until_s == INT64_MAX ? INT64_MAX : a.until_s - now_s));
}

static void add_operators(const struct node *n, json_t *o)
{
    uint64_t number;
    unsigned count;
    const bool known = operators_known(n, &number, &count);
    json_object_set_new(
        o, "revoked_operators",
        known ? json_pack("{s:I, s:I}", "number", (json_int_t)number, "count", (json_int_t)count)
              : json_null());
}

static json_t *ask_status(struct node *n)
{
    const struct genesis *g = n->c.genesis;
    const struct members *m = &n->committee.members;
    json_t *peers = json_array();
    int connected = 0;
    for (uint8_t i = 0; i < m->count; i++) {
        if (i == n->self)
            continue;
        bool up = n->to_member[i] != 0;
        connected += up;
        json_array_append_new(
            peers, json_pack("{s:s, s:b}", "dc", m->member[i].name.text, "connected", up));
    }
    uint8_t leader;
    const char *leader_name =
        replica_leader(n->replica, &leader) ? m->member[leader].name.text : "-";
    sm3_digest tip = replica_tip(n->replica);
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:I, s:s, s:o, s:I, s:i, s:o, s:b, s:b}", "dc", n->c.key.agree->name.text,
        "role", role_name(n), "term", (json_int_t)replica_term(n->replica), "height",
        (json_int_t)replica_height(n->replica), "leader", leader_name, "tip",
        hex(tip.b, sizeof tip.b), "known_height", (json_int_t)replica_known_height(n->replica),
        "peers_connected", connected, "peers", peers, "mdms_connected", n->mdms != 0, "has_quorum",
        replica_has_quorum(n->replica));
    json_object_set_new(o, "chain", hex(g->members.chain.b, SM3_BYTES));
    json_object_set_new(o, "scheme", json_string(n->c.scheme->name));
    json_object_set_new(o, "gateway",
                        json_string(g->parameters.gateway == GATEWAY_HOME ? "home" : "leader"));
    json_object_set_new(o, "nodes", json_integer(m->count));
    json_object_set_new(o, "epoch", json_integer(m->epoch));
    json_object_set_new(o, "member", json_boolean(n->self != AMI_MEMBERS_MAX));
    json_object_set_new(o, "next_epoch_at",
                        n->has_next ? json_integer((json_int_t)n->next_committee.from)
                                    : json_null());
    json_object_set_new(o, "committee", admin_committee(n));
    json_object_set_new(o, "quorum", json_integer(replica_quorum(n->replica)));
    json_object_set_new(o, "contacts", json_integer(replica_contacts(n->replica)));
    json_object_set_new(o, "sessions", json_integer((json_int_t)n->sessions_open));
    json_object_set_new(o, "links", json_integer((json_int_t)n->link_count));
    json_object_set_new(o, "devices", json_integer((json_int_t)registry_size(n->c.registry)));
    json_object_set_new(o, "waiting_transactions", json_integer((json_int_t)pool_count(n->pool)));
    add_anchors(n, o);
    add_operators(n, o);
    uint64_t below, pruned;
    prune_state(n, &below, &pruned);
    json_object_set_new(o, "retention_below", json_integer((json_int_t)below));
    json_object_set_new(o, "pruned_below", json_integer((json_int_t)pruned));
    json_object_set_new(o, "read_only", json_boolean(chain_read_only(n)));
    json_object_set_new(o, "reports_per_s", json_real(rate(n)));
    json_object_set_new(o, "uptime_ms",
                        json_integer((json_int_t)((node_now_us(n) - n->started_us) / 1000)));
    json_object_set_new(o, "sm2_path", json_string(sm2_path_name()));
    json_object_set_new(o, "version", json_string(AMI_VERSION));
    json_object_set_new(o, "counters", counters(n));
    json_object_set_new(o, "ports", ports(n));
    json_object_set_new(o, "channels", channels(n));
    return o;
}

/* Those that the asker may see: the MDMS all of them. */
static bool may_see(const struct node_link *l, const struct node_event *e)
{
    return l->who.role == CREDENTIAL_MDMS ||
           label_may_read(l->who.label, access_event_label(e->name));
}

static json_t *ask_events(const struct node *n, const struct node_link *l, const json_t *question)
{
    const json_t *after_json = json_object_get(question, "after");
    json_int_t given = json_integer_value(after_json);
    uint64_t after = given > 0 ? (uint64_t)given : 0;
    const struct node_event *kept[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    const size_t count = node_events_after(n, after, kept);
    json_t *list = json_array();
    for (size_t i = 0; i < count && json_array_size(list) < EVENTS_PER_ANSWER; i++) {
        const struct node_event *e = kept[i];
        if (!may_see(l, e))
            continue;
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:s, s:s}", "number", (json_int_t)e->number, "wall_ms",
                            (json_int_t)e->wall_ms, "event", e->name, "detail", e->text));
    }
    return json_pack("{s:I, s:o}", "newest", (json_int_t)n->event_count, "events", list);
}

/* What only this node knows of a meter: its session here. */
static void add_session(struct node *n, const json_t *question, json_t *out)
{
    struct ami_id id;
    const char *text = json_string_value(json_object_get(question, "meter"));
    if (text == NULL || ami_id_from_text(&id, text) != AMI_OK)
        return;
    const struct record *r = registry_find(n->c.registry, RECORD_METER, &id, 0);
    const struct gateway_session *s =
        r == NULL ? NULL : gateway_session_of(n, registry_index_of(n->c.registry, r));
    if (s == NULL)
        return;
    json_object_set_new(
        out, "session",
        json_pack("{s:o, s:I, s:I, s:b}", "id", json_sprintf("%016llx", (unsigned long long)s->id),
                  "messages_received", (json_int_t)s->u.session.receive.next, "messages_sent",
                  (json_int_t)s->u.session.send.next, "insists", s->insist));
}

/* Who asks, for the log: "operator alice 2:ledger". */
static void asker_text(char *out, size_t size, const struct node_link *l)
{
    char label[LABEL_TEXT_BYTES];
    label_text(label, l->who.label);
    if (!l->identified)
        snprintf(out, size, "nobody");
    else if (l->who.role == CREDENTIAL_OPERATOR)
        snprintf(out, size, "operator %s %s", l->who.name.text, label);
    else
        snprintf(out, size, "%s %s", credential_role_name(l->who.role), l->who.name.text);
}

/* The credential that opened this connection has run out since: the MDMS's list need not have it
 * any more when it was revoked. */
static bool has_expired(const struct node *n, const struct node_link *l)
{
    return l->identified && credential_left_s(&l->who, node_wall_ms(n) / 1000) < 0;
}

/* A connection that was open when its operator was revoked, or its credential expired: it gets the
 * reason, and is closed. */
static bool still_in(struct node *n, struct node_link *l, const struct access_rule *rule,
                     enum ami_status *status, char *why, size_t why_size)
{
    char asker[AMI_ID_BYTES_MAX + LABEL_TEXT_BYTES + 16], reason[40] = "expired";
    uint64_t number;
    unsigned count;
    const bool taken_back = l->identified && node_operator_revoked(n, &l->who);
    if (!taken_back && !has_expired(n, l))
        return true;
    (void)operators_known(n, &number, &count);
    asker_text(asker, sizeof asker, l);
    if (taken_back) {
        *status = AMI_REVOKED;
        snprintf(reason, sizeof reason, "revoked by list %llu", (unsigned long long)number);
        snprintf(why, why_size, "this credential is revoked (list %llu of the MDMS); you were %s",
                 (unsigned long long)number, asker);
    } else {
        *status = AMI_NOT_ALLOWED;
        snprintf(why, why_size, "this credential has expired; you were %s", asker);
    }
    n->counters.requests_denied++;
    node_event_of(n, ENV_LOG_WARN, "request_denied", &l->who.name, "who=\"%s\" ask=%s %s", asker,
                  rule->ask, reason);
    return false;
}

/* The question's rule against the asker's label; a refusal is written down. The MDMS reads what the
 * ledger holds anyway, and writes nothing here. */
static bool allowed(struct node *n, const struct node_link *l, const struct access_rule *rule,
                    char *why, size_t why_size)
{
    char needed[LABEL_TEXT_BYTES], asker[AMI_ID_BYTES_MAX + LABEL_TEXT_BYTES + 16];
    const bool mdms = l->identified && l->who.role == CREDENTIAL_MDMS;
    const bool is_operator = l->identified && l->who.role == CREDENTIAL_OPERATOR;
    if ((mdms && rule->mode == ACCESS_READ) || (is_operator && access_allowed(rule, l->who.label)))
        return true;
    label_text(needed, rule->object);
    asker_text(asker, sizeof asker, l);
    n->counters.requests_denied++;
    node_event_of(n, ENV_LOG_WARN, "request_denied", &l->who.name, "who=\"%s\" ask=%s needs=%s",
                  asker, rule->ask, needed);
    if (!l->identified)
        snprintf(why, why_size, "'%s' is answered to operators with a credential only", rule->ask);
    else if (rule->mode == ACCESS_WRITE)
        snprintf(why, why_size,
                 "'%s' (%s) writes to %s, which your label must not exceed; you are %s", rule->ask,
                 rule->about, needed, asker);
    else if (rule->mode == ACCESS_CHANGE)
        snprintf(why, why_size,
                 "'%s' (%s) is for those whose label is %s, no more and no less; "
                 "you are %s",
                 rule->ask, rule->about, needed, asker);
    else
        snprintf(why, why_size, "'%s' (%s) needs a label that covers %s; you are %s", rule->ask,
                 rule->about, needed, asker);
    return false;
}

/* A remark of an operator in the node's log. */
static json_t *ask_note(struct node *n, const struct node_link *l, const json_t *question,
                        enum ami_status *status, char *why, size_t why_size)
{
    char asker[AMI_ID_BYTES_MAX + LABEL_TEXT_BYTES + 16];
    const char *text = json_string_value(json_object_get(question, "text"));
    const size_t size = text == NULL ? 0 : strlen(text);
    bool printable = size > 0 && size <= NODE_NOTE_BYTES_MAX;
    for (size_t i = 0; printable && i < size; i++)
        printable = text[i] >= ' ' && text[i] <= '~' && text[i] != '"';
    if (!printable) {
        *status = AMI_BAD_ARGUMENT;
        snprintf(why, why_size, "a note has 1 to %d printable ASCII characters and no quotes",
                 NODE_NOTE_BYTES_MAX);
        return NULL;
    }
    asker_text(asker, sizeof asker, l);
    node_event_of(n, ENV_LOG_INFO, "note", &l->who.name, "who=\"%s\" text=\"%s\"", asker, text);
    return json_pack("{s:I}", "number", (json_int_t)n->event_count);
}

/* So often a DC steps down for operators: one who asks every leader that comes would leave the
 * network without one. */
#define STEP_DOWN_US (60u * 1000000u)

/* Somebody wants another leader, to look after this one for instance. */
static json_t *ask_step_down(struct node *n, const struct node_link *l, enum ami_status *status,
                             char *why, size_t why_size)
{
    char asker[AMI_ID_BYTES_MAX + LABEL_TEXT_BYTES + 16];
    uint8_t leader;
    const unsigned long long term = replica_term(n->replica);
    if (replica_role(n->replica) != REPLICA_LEADER) {
        *status = AMI_NOT_LEADER;
        snprintf(why, why_size, "%s does not lead; %s", n->c.key.agree->name.text,
                 replica_leader(n->replica, &leader) ? n->committee.members.member[leader].name.text
                                                     : "nobody does that it knows of");
        return NULL;
    }
    if (n->step_down_us != 0 && node_now_us(n) - n->step_down_us < STEP_DOWN_US) {
        *status = AMI_AGAIN;
        snprintf(why, why_size, "%s has stepped down for an operator less than a minute ago",
                 n->c.key.agree->name.text);
        return NULL;
    }
    n->step_down_us = node_now_us(n);
    asker_text(asker, sizeof asker, l);
    node_event_of(n, ENV_LOG_WARN, "step_down_asked", &l->who.name, "who=\"%s\" term=%llu", asker,
                  term);
    chain_step_down(n);
    return json_pack("{s:s, s:I}", "dc", n->c.key.agree->name.text, "term", (json_int_t)term);
}

static json_t *ask(struct node *n, struct node_link *l, const json_t *question,
                   enum ami_status *status, char *why, size_t why_size)
{
    const char *name = json_string_value(json_object_get(question, "ask"));
    const struct access_rule *rule = name == NULL ? NULL : access_rule_of(name);
    *status = AMI_OK;
    if (rule == NULL) {
        *status = AMI_UNSUPPORTED;
        snprintf(why, why_size, "'%.80s' is no question that this node answers",
                 name == NULL ? "" : name);
        return NULL;
    }
    if (!still_in(n, l, rule, status, why, why_size))
        return NULL;
    if (!allowed(n, l, rule, why, why_size)) {
        *status = AMI_NOT_ALLOWED;
        return NULL;
    }
    if (strcmp(name, "note") == 0)
        return ask_note(n, l, question, status, why, why_size);
    if (strcmp(name, "step_down") == 0)
        return ask_step_down(n, l, status, why, why_size);
    if (strcmp(name, "status") == 0)
        return ask_status(n);
    if (strcmp(name, "events") == 0)
        return ask_events(n, l, question);
    if (strcmp(name, "why_stuck") == 0)
        return stuck_ask(n);
    const struct answer_source source = {n->c.genesis, n->c.registry, &n->c.disk,
                                         replica_height(n->replica)};
    json_t *out = answer(&source, question, status, why, why_size);
    if (out != NULL && strcmp(name, "meter") == 0)
        add_session(n, question, out);
    return out;
}

void admin_on_frame(struct node *n, struct node_link *l, enum message_type type, struct span body)
{
    struct admin_request q;
    if (type != MSG_ADMIN_REQUEST || admin_request_parse(&q, body) != AMI_OK) {
        n->counters.frames_bad++;
        node_close(n, l->id);
        return;
    }
    enum ami_status status;
    char why[512] = "";
    json_t *question =
        json_loadb((const char *)q.json.data, q.json.size, JSON_REJECT_DUPLICATES, NULL);
    json_t *out = NULL;
    if (!json_is_object(question)) {
        status = AMI_BAD_ENCODING;
        snprintf(why, sizeof why, "the question is no JSON object");
    } else {
        out = ask(n, l, question, &status, why, sizeof why);
    }
    const env_link id = l->id;
    const bool ends = status == AMI_REVOKED || has_expired(n, l);
    char *text = out == NULL ? NULL : json_dumps(out, JSON_COMPACT);
    if (out != NULL && text == NULL)
        status = AMI_NO_MEMORY;
    if (text != NULL && strlen(text) > AMI_FRAME_ADMIN_BYTES_MAX - 64) {
        free(text);
        text = NULL;
        status = AMI_TOO_LARGE;
        snprintf(why, sizeof why, "the answer is too large: ask for less at once");
    }
    if (text == NULL) {
        json_decref(out);
        out = why[0] == '\0' ? NULL : json_pack("{s:s}", "error", why);
        if (out == NULL) /* or the sentence was cut amid a letter of the asker's */
            out = json_pack("{s:s}", "error", ami_status_text(status));
        text = out == NULL ? NULL : json_dumps(out, JSON_COMPACT);
    }
    if (text != NULL) {
        struct admin_reply r = {(uint16_t)status, span_of(text, strlen(text))};
        struct writer w = node_frame(n, MSG_ADMIN_REPLY);
        admin_reply_encode(&w, &r);
        AMI_CHECK(writer_ok(&w));
        (void)node_send(n, id, writer_span(&w)); /* the asker's time-out tells */
    }
    if (ends)
        node_close(n, id);
    free(text);
    json_decref(out);
    json_decref(question);
}
