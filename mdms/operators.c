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
 * folder before any DC was heard, or by a clock that is ahead, its list lacks somebody: no DC whose
 * list has that entry takes it, all that is on either goes into a new one, and that one all take.
 */
#include "channel/file.h"
#include "crypto/secret.h"
#include "mdms/internal.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN_US (1u * 1000000u) /* a full link is tried again after so long */

static void adopt(struct mdms *m, const struct revoked_list *list, struct span bytes,
                  const char *from)
{
    m->operators_number = list->number;
    m->operators_size = bytes.size;
    memcpy(m->operators, bytes.data, bytes.size);
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++)
        m->dc[i].operators_at_us = 0; /* what a DC did not take was another one */
    mdms_log(m, ENV_LOG_INFO, "operators_list", "number=%llu revoked=%u from=%s",
             (unsigned long long)list->number, (unsigned)list->count, from);
}

/* Of two lists of which neither has all of the other: a new one with all that is on either, in
 * *own. What has ended meanwhile leaves it when `ami-mdms operator` signs the next one. */
static enum ami_status join(struct mdms *m, struct revoked_list *own,
                            const struct revoked_list *other, const char *from)
{
    const uint64_t known = own->number;
    const uint64_t last = known > other->number ? known : other->number;
    if (revoked_list_join(own, other) != AMI_OK) {
        mdms_log(
            m, ENV_LOG_ERROR, "operators_not_joined",
            "more than %d credentials are on list %llu and list %llu of %s: no DC that has the "
            "one takes the other",
            AMI_REVOKED_MAX, (unsigned long long)known, (unsigned long long)other->number, from);
        return AMI_FULL;
    }
    uint8_t random[SM2_WIDE_BYTES], *bytes = malloc(AMI_REVOKED_BYTES_MAX);
    if (bytes == NULL)
        return AMI_NO_MEMORY;
    mdms_log(m, ENV_LOG_WARN, "operators_joined",
             "list %llu and list %llu of %s lack something of each other",
             (unsigned long long)known, (unsigned long long)other->number, from);
    own->number = revoked_list_number_after(last, m->env.clock_wall_ms(m->env.ctx));
    mdms_random(m, random, sizeof random);
    const size_t size = revoked_list_encode(bytes, own, m->c.network, &m->c.keys->sign, random);
    secret_wipe(random, sizeof random);
    adopt(m, own, span_of(bytes, size), "both");
    free(bytes);
    return AMI_OK;
}

/* AMI_EXISTS: it is older, and nothing of it is missing here. */
static enum ami_status judge(struct mdms *m, struct revoked_list *own,
                             const struct revoked_list *other, struct span bytes,
                             const struct dc_link *dc)
{
    const char *from = dc == NULL ? "folder" : dc->name.text;
    const int64_t now_s = m->env.clock_wall_ms(m->env.ctx) / 1000;
    const bool newer = other->number > own->number;
    /* A DC that has refused ours misses something, whatever this clock says. */
    const bool insists = dc != NULL && dc->operators_refused;
    const bool nothing_new = other->number < own->number &&
                             revoked_list_covers(own, other, insists ? REVOKED_ALWAYS : now_s);
    /* The folder's has to be ours in any case: it is put back over in silence only when it is. */
    if (!nothing_new || dc == NULL)
        AMI_TRY(revoked_list_verify(m->c.network, bytes));
    if (nothing_new)
        return AMI_EXISTS;
    /* `ami-mdms operator` has made the folder's from ours and left out what has ended. */
    if (!newer || !revoked_list_covers(other, own, dc == NULL ? now_s : REVOKED_ALWAYS))
        return join(m, own, other, from);
    if (dc != NULL)
        mdms_log(m, ENV_LOG_WARN, "operators_behind", "dc=%s number=%llu ours=%llu", from,
                 (unsigned long long)other->number, (unsigned long long)own->number);
    adopt(m, other, bytes, from);
    return AMI_OK;
}

/* AMI_OK also for the known one. A DC's that has nothing new costs no verification. dc: NULL for
 * the folder's. */
static enum ami_status take(struct mdms *m, struct span bytes, const struct dc_link *dc)
{
    const struct span known = span_of(m->operators, m->operators_size);
    if (known.size != 0 && bytes.size == known.size &&
        memcmp(bytes.data, known.data, known.size) == 0)
        return AMI_OK;
    struct revoked_list *lists = calloc(2, sizeof *lists);
    if (lists == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status = revoked_list_read(&lists[1], bytes);
    if (status == AMI_OK && known.size != 0)
        status = revoked_list_read(&lists[0], known);
    if (status == AMI_OK)
        status = judge(m, &lists[0], &lists[1], bytes, dc);
    free(lists);
    return status;
}

enum ami_status mdms_operators(struct mdms *m, struct span list)
{
    const enum ami_status status = take(m, list, NULL);
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
    struct dc_link *l = &m->dc[member];
    struct operators_list message;
    enum ami_status status = operators_list_parse(&message, body);
    if (status == AMI_OK)
        status = take(m, message.list, l);
    l->operators_refused = false;
    /* Of another version is who runs another program, which is no reason to part with a DC. */
    if (status == AMI_BAD_VERSION)
        mdms_log(
            m, ENV_LOG_WARN, "operators_refused",
            "the list of %s is of another version: the DC runs another version of this program",
            l->name.text);
    return status == AMI_OK || status == AMI_EXISTS || status == AMI_FULL ||
           status == AMI_NO_MEMORY || status == AMI_BAD_VERSION;
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
    l->operators_refused = t.status == AMI_EXISTS;
    if (l->operators_due > 0)
        return; /* that was about one before the last that was sent */
    if (t.status != AMI_OK || t.number != m->operators_number) {
        /* EXISTS: it goes by one of which ours lacks something, or a newer one, and shows it. */
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
