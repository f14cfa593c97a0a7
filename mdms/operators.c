/* mdms/operators.c - the list of operators that are let in no more, on its way to the DCs.
 *
 *   list of the shell  ->  OPERATORS to each DC, when it changes and when a link comes up
 *   OPERATORS_TAKEN    ->  TABLE_OPERATORS, for `ami-mdms operator list`
 *   OPERATORS of a DC  ->  list of the shell, when that is behind
 *
 * DCs hand it on to one another, so one that the MDMS does not reach has it all the same
 * (node/operators.c).
 *
 * A folder that was put back from an older copy has an older list. The DCs, who have the newest
 * one, show it when a link comes up, and it is taken over. If something was revoked in such a
 * folder before any DC was heard, there are two lists of which neither knows the other: no DC takes
 * one for the other, and what is on either goes into a new one.
 */
#include "channel/file.h"
#include "mdms/internal.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN_US (1u * 1000000u) /* a full link is tried again after so long */

static void adopt(struct mdms *m, const struct revoked_list *list, struct span bytes,
                  const char *from)
{
    m->operators_number = list->number;
    m->operators_previous = list->previous;
    m->operators_size = bytes.size;
    memcpy(m->operators, bytes.data, bytes.size);
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++)
        m->dc[i].operators_at_us = 0; /* what a DC did not take was another one */
    mdms_log(m, ENV_LOG_INFO, "operators_list", "number=%llu revoked=%u from=%s",
             (unsigned long long)list->number, (unsigned)list->count, from);
}

/* Two lists of which neither knows the other: a new one with all that is on either, in *a. What
 * has expired meanwhile leaves it when `ami-mdms operator` signs the next one. */
static enum ami_status join(struct mdms *m, struct revoked_list *a, const struct revoked_list *b)
{
    const int64_t now_ms = m->env.clock_wall_ms(m->env.ctx);
    for (size_t i = 0; i < b->count; i++) {
        if (revoked_list_has(a, &b->fingerprint[i]))
            continue;
        if (a->count == AMI_REVOKED_MAX)
            return AMI_FULL;
        a->fingerprint[a->count++] = b->fingerprint[i];
    }
    revoked_list_number_after(a, a->number > b->number ? a->number : b->number, now_ms);
    return AMI_OK;
}

static enum ami_status join_with(struct mdms *m, struct revoked_list *other, const char *from)
{
    uint8_t random[SM2_WIDE_BYTES], *bytes = malloc(AMI_REVOKED_BYTES_MAX);
    struct revoked_list *own = calloc(1, sizeof *own);
    enum ami_status status = own == NULL || bytes == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (status == AMI_OK)
        status = revoked_list_parse(own, m->c.network, span_of(m->operators, m->operators_size));
    const uint64_t known = own == NULL ? 0 : own->number;
    if (status == AMI_OK && (status = join(m, own, other)) == AMI_FULL)
        mdms_log(
            m, ENV_LOG_ERROR, "operators_not_joined",
            "more than %d credentials are on list %llu and list %llu of %s: no DC that has the "
            "one takes the other",
            AMI_REVOKED_MAX, (unsigned long long)known, (unsigned long long)other->number, from);
    if (status == AMI_OK) {
        mdms_log(m, ENV_LOG_WARN, "operators_joined",
                 "list %llu and list %llu of %s were made without knowing of each other",
                 (unsigned long long)known, (unsigned long long)other->number, from);
        mdms_random(m, random, sizeof random);
        const size_t size = revoked_list_encode(bytes, own, m->c.network, &m->c.keys->sign, random);
        adopt(m, own, span_of(bytes, size), "both");
    }
    free(own);
    free(bytes);
    return status;
}

/* AMI_OK also for the known one. What is older is not looked at any further. */
static enum ami_status take(struct mdms *m, struct span bytes, const char *from, bool dc)
{
    struct revoked_list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return AMI_NO_MEMORY;
    const bool none = m->operators_size == 0;
    enum ami_status status = revoked_list_numbers(list, bytes);
    const uint64_t number = list->number;
    if (status == AMI_OK && !none && number == m->operators_number) {
        free(list);
        return AMI_OK;
    }
    if (status == AMI_OK && !none && number <= m->operators_previous)
        status = AMI_EXISTS;
    if (status == AMI_OK)
        status = revoked_list_parse(list, m->c.network, bytes);
    const bool follows = none || list->previous >= m->operators_number;
    if (status == AMI_OK && follows && dc)
        mdms_log(m, ENV_LOG_WARN, "operators_behind", "dc=%s number=%llu ours=%llu", from,
                 (unsigned long long)number, (unsigned long long)m->operators_number);
    if (status == AMI_OK && follows)
        adopt(m, list, bytes, from);
    else if (status == AMI_OK)
        status = join_with(m, list, from);
    free(list);
    return status;
}

enum ami_status mdms_operators(struct mdms *m, struct span list)
{
    const enum ami_status status = take(m, list, "folder", false);
    mdms_on_time(m);
    return status;
}

struct span mdms_operators_known(const struct mdms *m, uint64_t *number)
{
    *number = m->operators_number;
    return span_of(m->operators, m->operators_size);
}

bool dcs_operators_on_shown(struct mdms *m, uint8_t member, struct span body)
{
    const struct dc_link *l = &m->dc[member];
    struct operators_list message;
    enum ami_status status = operators_list_parse(&message, body);
    if (status == AMI_OK)
        status = take(m, message.list, l->name.text, true);
    return status == AMI_OK || status == AMI_EXISTS || status == AMI_FULL ||
           status == AMI_NO_MEMORY;
}

static void push(struct mdms *m, struct dc_link *l)
{
    const struct operators_list message = {span_of(m->operators, m->operators_size)};
    struct writer w = mdms_frame(m, MSG_OPERATORS);
    operators_list_encode(&w, &message);
    AMI_CHECK(writer_ok(&w));
    if (mdms_send(m, l->id, writer_span(&w)) == AMI_OK) {
        l->operators_sent = m->operators_number;
        l->operators_due++;
    } else
        l->operators_at_us = mdms_now_us(m) + AGAIN_US;
}

uint64_t dcs_operators_on_time(struct mdms *m)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        struct dc_link *l = &m->dc[i];
        if (l->state != DC_READY || l->unproven || m->operators_size == 0)
            continue;
        if (l->operators_sent != m->operators_number && mdms_now_us(m) >= l->operators_at_us)
            push(m, l);
        if (l->operators_sent != m->operators_number && l->operators_at_us < next)
            next = l->operators_at_us;
    }
    return next;
}

void dcs_operators_on_taken(struct mdms *m, uint8_t member, struct span body)
{
    struct dc_link *l = &m->dc[member];
    struct operators_taken t;
    /* What nobody asked for would cost a write and a line of the log each time. */
    if (operators_taken_parse(&t, body) != AMI_OK || l->operators_due == 0) {
        m->stats.frames_bad++;
        return;
    }
    l->operators_due--;
    l->listed =
        (struct listed_record){l->name, t.number, t.status, m->env.clock_wall_ms(m->env.ctx)};
    l->listed_news = true;
    if (l->operators_due > 0)
        return; /* that was about one before the last that was sent */
    if (t.status != AMI_OK || t.number != m->operators_number) {
        /* EXISTS: it goes by one that ours does not follow, and shows it. */
        mdms_log(m, ENV_LOG_WARN, "operators_not_taken", "dc=%s number=%llu status=%s",
                 l->name.text, (unsigned long long)t.number,
                 ami_status_name((enum ami_status)t.status));
        l->operators_sent = 0;
        l->operators_at_us = mdms_now_us(m) + (uint64_t)m->c.timing.distrust_ms * 1000;
    } else
        mdms_log(m, ENV_LOG_INFO, "operators_taken", "dc=%s number=%llu", l->name.text,
                 (unsigned long long)t.number);
}

bool dcs_operators_stage(struct mdms *m)
{
    bool any = false;
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        struct dc_link *l = &m->dc[i];
        l->listed_in_write = l->listed_news;
        if (!l->listed_news)
            continue;
        uint8_t bytes[MDMS_LISTED_BYTES_MAX];
        struct writer w = writer_on(bytes, sizeof bytes);
        listed_record_encode(&w, &l->listed);
        AMI_CHECK(writer_ok(&w));
        struct mdms_key key = key_listed(&l->listed.dc);
        mdms_write_put(&m->write, TABLE_OPERATORS, &key, writer_span(&w));
        l->listed_news = false;
        any = true;
    }
    return any;
}

void dcs_operators_on_stored(struct mdms *m, enum ami_status status)
{
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        struct dc_link *l = &m->dc[i];
        l->listed_news = l->listed_news || (l->listed_in_write && status != AMI_OK);
        l->listed_in_write = false;
    }
}
