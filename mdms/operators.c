/* mdms/operators.c - the list of operators that are let in no more, on its way to the DCs.
 *
 *   list of the shell  ->  OPERATORS to each DC, when it changes and when a link comes up
 *   OPERATORS_TAKEN    ->  TABLE_OPERATORS, for `ami-mdms operator list`
 *
 * DCs hand it on to one another, so one that the MDMS does not reach has it all the same
 * (node/operators.c).
 */
#include "channel/file.h"
#include "mdms/internal.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN_US (1u * 1000000u) /* a full link is tried again after so long */

enum ami_status mdms_operators(struct mdms *m, struct span list)
{
    struct revoked_list *parsed = calloc(1, sizeof *parsed);
    if (parsed == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status = revoked_list_parse(parsed, m->c.network, list);
    if (status == AMI_OK && parsed->number < m->operators_number)
        status = AMI_EXISTS;
    if (status == AMI_OK) {
        m->operators_number = parsed->number;
        m->operators_size = list.size;
        memcpy(m->operators, list.data, list.size);
        mdms_log(m, ENV_LOG_INFO, "operators_list", "number=%llu revoked=%u",
                 (unsigned long long)parsed->number, (unsigned)parsed->count);
    }
    free(parsed);
    mdms_on_time(m);
    return status;
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
    const bool older = t.number > m->operators_number;
    l->listed =
        (struct listed_record){l->name, t.number, t.status, m->env.clock_wall_ms(m->env.ctx)};
    l->listed_news = true;
    if (older)
        /* Our folder was put back from before: the next revocation has a number above it again. */
        mdms_log(m, ENV_LOG_WARN, "operators_behind", "dc=%s number=%llu ours=%llu", l->name.text,
                 (unsigned long long)t.number, (unsigned long long)m->operators_number);
    else if (t.status != AMI_OK || t.number != m->operators_number) {
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
