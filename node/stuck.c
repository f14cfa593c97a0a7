/* node/stuck.c - what commits wait for, from whom, since when: dc-cli's why-stuck, at one node.
 *
 * In: the replica's stage, the members' links, the pool, the state of the disk. Out: a document
 * with a list of causes, each with a flag that tells whether it has lasted longer than it would in
 * a network that works. Field names are for programs and stay; dc-cli makes sentences of them.
 */
#include "node/internal.h"

static const char *name_of(const struct node *n, uint8_t member)
{
    const struct members *m = &n->committee.members;
    return member < m->count ? m->member[member].name.text : "?";
}

static uint64_t timeout_ms(const struct node *n)
{
    return n->c.genesis->parameters.election_timeout_ms;
}

static uint64_t age_ms(const struct node *n, uint64_t since_us)
{
    uint64_t now = node_now_us(n);
    return now > since_us ? (now - since_us) / 1000 : 0;
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *cause(const char *name, bool stuck, uint64_t for_ms)
{
    return json_pack("{s:s, s:b, s:o}", "cause", name, "stuck", stuck, "for_ms", number(for_ms));
}

/* --- members ---------------------------------------------------------------------------------- */

/* Neither a link to it nor a word of it within T. A follower hears its leader only, so that silence
 * on a link that is up says nothing there. */
static bool is_out_of_reach(const struct node *n, uint8_t member)
{
    uint64_t at_us;
    if (member == n->self)
        return false;
    if (n->to_member[member] == 0)
        return true;
    if (replica_role(n->replica) == REPLICA_FOLLOWER)
        return false;
    uint64_t since_us = n->link_since_us[member];
    if (replica_heard(n->replica, member, &at_us) && at_us > since_us)
        since_us = at_us;
    return age_ms(n, since_us) >= timeout_ms(n);
}

/* How long it has been out of reach. */
static uint64_t lost_ms(const struct node *n, uint8_t member)
{
    uint64_t at_us = n->link_since_us[member], heard_us;
    if (replica_heard(n->replica, member, &heard_us) &&
        (n->to_member[member] != 0 || heard_us < at_us))
        at_us = heard_us;
    return age_ms(n, at_us);
}

static json_t *member_document(const struct node *n, uint8_t member)
{
    uint64_t at_us;
    bool heard = replica_heard(n->replica, member, &at_us);
    return json_pack("{s:s, s:b, s:o, s:o}", "dc", name_of(n, member), "connected",
                     n->to_member[member] != 0, "link_for_ms",
                     number(age_ms(n, n->link_since_us[member])), "silent_ms",
                     heard ? number(age_ms(n, at_us)) : json_null());
}

static json_t *names(const struct node *n, uint32_t mask)
{
    json_t *list = json_array();
    for (uint8_t i = 0; i < n->committee.members.count; i++)
        if ((mask >> i & 1) != 0)
            json_array_append_new(list, json_string(name_of(n, i)));
    return list;
}

/* Adds who has voted, who has not, and how many it takes. */
static void add_votes(const struct node *n, json_t *out, uint32_t have)
{
    json_t *missing = json_array();
    for (uint8_t i = 0; i < n->committee.members.count; i++)
        if ((have >> i & 1) == 0 && i != n->self)
            json_array_append_new(missing, member_document(n, i));
    json_object_set_new(out, "have", names(n, have));
    json_object_set_new(out, "needed", json_integer(replica_quorum(n->replica)));
    json_object_set_new(out, "missing", missing);
}

/* --- causes ----------------------------------------------------------------------------------- */

static void leader_missing(const struct node *n, const struct replica_waiting *w, json_t *causes)
{
    uint8_t leader;
    bool asks = w->stage == REPLICA_STAGE_PREVOTES || w->stage == REPLICA_STAGE_GRANTS;
    if (!asks && w->stage != REPLICA_STAGE_NO_LEADER)
        return;
    /* An election takes about T and a few slots of T/4 from the leader's last word on. */
    uint64_t for_ms = age_ms(n, w->led_us);
    json_t *c = cause("no_leader", for_ms >= 2 * timeout_ms(n), for_ms);
    uint64_t term = replica_term(n->replica);
    json_object_set_new(c, "term", number(w->stage == REPLICA_STAGE_PREVOTES ? term + 1 : term));
    json_object_set_new(c, "stage",
                        json_string(w->stage == REPLICA_STAGE_PREVOTES ? "pre_votes"
                                    : w->stage == REPLICA_STAGE_GRANTS ? "grants"
                                                                       : "waits"));
    if (replica_leader(n->replica, &leader) && leader != n->self) {
        uint64_t at_us;
        bool heard = replica_heard(n->replica, leader, &at_us);
        json_object_set_new(c, "last_leader", json_string(name_of(n, leader)));
        json_object_set_new(c, "last_leader_silent_ms",
                            heard ? number(age_ms(n, at_us)) : json_null());
    }
    if (asks)
        add_votes(n, c, w->have);
    json_array_append_new(causes, c);
}

static void contacts_missing(const struct node *n, json_t *causes)
{
    const uint8_t count = n->committee.members.count;
    const unsigned quorum = replica_quorum(n->replica);
    uint64_t lost[AMI_MEMBERS_MAX];
    unsigned out_of_reach = 0;
    json_t *silent = json_array();
    for (uint8_t i = 0; i < count; i++) {
        if (!is_out_of_reach(n, i))
            continue;
        json_array_append_new(silent, member_document(n, i));
        /* The longest lost first: the one whose loss left too few says since when. */
        unsigned at = out_of_reach++;
        for (; at > 0 && lost[at - 1] < lost_ms(n, i); at--)
            lost[at] = lost[at - 1];
        lost[at] = lost_ms(n, i);
    }
    if (count - out_of_reach >= quorum) {
        json_decref(silent);
        return;
    }
    uint64_t for_ms = lost[count - quorum];
    json_t *c = cause("few_contacts", for_ms >= 2 * timeout_ms(n), for_ms);
    json_object_set_new(c, "reachable", json_integer(count - out_of_reach));
    json_object_set_new(c, "needed", json_integer(quorum));
    json_object_set_new(c, "silent", silent);
    json_array_append_new(causes, c);
}

static const char *stage_name(enum replica_stage stage)
{
    switch (stage) {
    case REPLICA_STAGE_RECOVER:
        return "recover";
    case REPLICA_STAGE_BUILD:
        return "build";
    case REPLICA_STAGE_OWN_WRITE:
        return "own_write";
    case REPLICA_STAGE_PREPARE:
        return "prepare_votes";
    case REPLICA_STAGE_COMMIT:
        return "commit_votes";
    case REPLICA_STAGE_CHECK:
        return "check";
    case REPLICA_STAGE_VOTED:
        return "voted";
    case REPLICA_STAGE_STORE:
        return "store";
    case REPLICA_STAGE_IDLE:
    case REPLICA_STAGE_NO_LEADER:
    case REPLICA_STAGE_PREVOTES:
    case REPLICA_STAGE_GRANTS:
        break;
    }
    return NULL;
}

static void block_open(const struct node *n, const struct replica_waiting *w, json_t *causes)
{
    uint8_t leader;
    if (stage_name(w->stage) == NULL)
        return;
    uint64_t for_ms = age_ms(n, w->since_us);
    json_t *c = cause("block_open", for_ms >= 2 * timeout_ms(n), for_ms);
    json_object_set_new(c, "height", number(w->height));
    json_object_set_new(c, "stage", json_string(stage_name(w->stage)));
    if (replica_leader(n->replica, &leader))
        json_object_set_new(c, "leader", json_string(name_of(n, leader)));
    if (w->stage == REPLICA_STAGE_PREPARE || w->stage == REPLICA_STAGE_COMMIT)
        add_votes(n, c, w->have);
    json_array_append_new(causes, c);
}

static void transactions_overdue(const struct node *n, json_t *causes)
{
    const struct pool_entry *oldest;
    uint64_t since_us;
    uint64_t wait_us = (uint64_t)n->c.genesis->parameters.progress_timeout_ms * 1000u;
    size_t count = pool_overdue(n->pool, wait_us, node_now_us(n), &oldest, &since_us);
    if (count == 0)
        return;
    json_t *c = cause("transactions_overdue", true, age_ms(n, since_us + wait_us));
    bool mdms = oldest->source == POOL_SOURCE_MDMS;
    json_object_set_new(c, "overdue", number(count));
    json_object_set_new(c, "waiting", number(pool_count(n->pool)));
    json_object_set_new(c, "oldest_ms", number(age_ms(n, since_us)));
    json_object_set_new(c, "oldest_gateway",
                        json_string(mdms ? "mdms" : name_of(n, oldest->source)));
    json_array_append_new(causes, c);
}

static void disk_refuses(const struct node *n, json_t *causes)
{
    uint64_t since_us;
    enum ami_status status = chain_disk(n, &since_us);
    if (status == AMI_OK)
        return;
    const char *name = status == AMI_FULL      ? "disk_full"
                       : status == AMI_TIMEOUT ? "disk_slow"
                                               : "disk_failing";
    json_t *c = cause(name, true, age_ms(n, since_us));
    json_object_set_new(c, "status", json_string(ami_status_name(status)));
    json_array_append_new(causes, c);
}

static void behind(const struct node *n, json_t *causes)
{
    uint8_t from;
    uint64_t since_us, height = replica_height(n->replica);
    uint64_t known = replica_known_height(n->replica);
    if (!replica_behind(n->replica, &from, &since_us))
        return;
    uint64_t for_ms = age_ms(n, since_us);
    /* One or two blocks behind for a moment is the usual state between commit and announcement. */
    if (known <= height + 2 && for_ms < timeout_ms(n))
        return;
    json_t *c = cause("behind", for_ms >= 2 * timeout_ms(n), for_ms);
    json_object_set_new(c, "height", number(height));
    json_object_set_new(c, "known_height", number(known));
    json_object_set_new(c, "from", from == n->self ? json_null() : json_string(name_of(n, from)));
    json_array_append_new(causes, c);
}

json_t *stuck_ask(const struct node *n)
{
    struct replica_waiting w;
    json_t *causes = json_array(), *c;
    uint8_t leader;
    size_t i;
    replica_waiting(n->replica, &w);
    leader_missing(n, &w, causes);
    contacts_missing(n, causes);
    block_open(n, &w, causes);
    transactions_overdue(n, causes);
    disk_refuses(n, causes);
    behind(n, causes);
    if (!replica_may_sign(n->replica))
        json_array_append_new(causes, cause("may_not_sign", false, age_ms(n, n->started_us)));
    bool stuck = false;
    json_array_foreach(causes, i, c) stuck |= json_is_true(json_object_get(c, "stuck"));
    json_t *o = json_pack(
        "{s:s, s:o, s:o, s:s, s:i, s:i, s:o, s:o, s:b, s:o}", "dc", n->c.key.agree->name.text,
        "term", number(replica_term(n->replica)), "height", number(replica_height(n->replica)),
        "leader",
        w.stage != REPLICA_STAGE_NO_LEADER && replica_leader(n->replica, &leader)
            ? name_of(n, leader)
            : "-",
        "nodes", (int)n->committee.members.count, "quorum", (int)replica_quorum(n->replica),
        "waiting_transactions", number(pool_count(n->pool)), "wall_ms",
        json_integer((json_int_t)node_wall_ms(n)), "stuck", stuck, "causes", causes);
    json_object_set_new(o, "epoch", json_integer(n->committee.members.epoch));
    json_object_set_new(o, "committee", admin_committee(n));
    return o;
}
