/* consensus/record.c - the durable record (rules 10 and 11): read at the start, written in every
 * step that changes it.
 *
 * There is one record and it is written whole. At most one write is in flight; what changes
 * meanwhile goes with the next one, whose ticket is known in advance: `next_ticket`. A message that
 * reveals a change waits in the outbox until its ticket is durable.
 */
#include "consensus/internal.h"

void record_changed(struct replica *r, uint64_t *ticket)
{
    r->dirty = true;
    *ticket = r->next_ticket;
}

/* --- start ----------------------------------------------------------------------------------- */

static bool vote_fits(const struct replica *r, const struct vote *v, enum vote_kind kind,
                      uint64_t term)
{
    return v->kind == (uint8_t)kind && cert_same_chain(r, &v->chain, v->epoch) &&
           v->voter == r->self && v->term <= term;
}

static enum ami_status check_record(const struct replica *r, const struct vote_record *v,
                                    const struct replica_config *c)
{
    if (!sm3_equal(&v->chain, &r->members->chain))
        return AMI_WRONG_CHAIN;
    if (v->epoch != r->members->epoch)
        return AMI_WRONG_EPOCH;
    bool ok = v->version == 1 && v->tip_height == c->tip_height && sm3_equal(&v->tip, &c->tip);
    ok = ok && (!v->has_term_cert || v->term_cert.term == v->term);
    ok = ok && (!v->has_granted || (v->granted.term == v->term && v->granted.voter == r->self));
    ok = ok && (!v->has_prepare || vote_fits(r, &v->prepare, VOTE_PREPARE, v->term));
    ok = ok && (!v->has_commit || vote_fits(r, &v->commit, VOTE_COMMIT, v->term));
    ok = ok && (!v->has_high || v->high.term <= v->term);
    return ok ? AMI_OK : AMI_DAMAGED;
}

enum ami_status record_load(struct replica *r, const struct replica_config *c)
{
    if ((c->tip_height != 0) != (c->tip_commit != NULL))
        return AMI_DAMAGED;
    r->tip_height = c->tip_height;
    r->tip = c->tip;
    r->tip_timestamp_ms = c->tip_timestamp_ms;
    r->next_ticket = 1;
    r->fetch.target = r->tip_height;
    if (c->may_sign && c->record != NULL && c->record->epoch >= r->members->epoch) {
        const struct vote_record *v = c->record;
        AMI_TRY(check_record(r, v, c));
        r->term = v->term;
        if ((r->has_term_cert = v->has_term_cert))
            r->term_cert = v->term_cert;
        if ((r->has_granted = v->has_granted))
            r->granted = v->granted;
        if ((r->has_prepare = v->has_prepare))
            r->prepare = v->prepare;
        if ((r->has_commit = v->has_commit))
            r->commit = v->commit;
        if ((r->has_high = v->has_high))
            r->high = v->high;
    }
    if (c->tip_commit != NULL) {
        const struct qc *qc = c->tip_commit;
        if (qc->height != c->tip_height || !sm3_equal(&qc->block, &c->tip))
            return AMI_DAMAGED;
        r->has_tip_commit = true;
        r->tip_commit = *qc;
        if (qc->epoch == r->members->epoch) /* rule 13: another epoch's counts for nothing */
            election_learn_qc(r, qc);
    }
    if (r->has_high && r->high.height == r->tip_height + 1)
        catchup_wish(r, &r->high.block, 0);
    if (r->has_high)
        commit_learn(r, &r->high, NOBODY); /* the node may have stopped just before the commit */
    r->dirty = true;                       /* the number of starts has changed */
    return AMI_OK;
}

/* --- writing --------------------------------------------------------------------------------- */

static void fill_record(struct replica *r, struct vote_record *v)
{
    bool votes = !rule_is_off(r, RULE_OFF_PERSIST_VOTES);
    v->version = 1;
    v->chain = r->members->chain;
    v->epoch = r->members->epoch;
    v->starts = r->starts;
    v->begun = r->begun;
    v->term = r->term;
    if ((v->has_term_cert = r->has_term_cert))
        v->term_cert = r->term_cert;
    if ((v->has_granted = r->has_granted))
        v->granted = r->granted;
    if ((v->has_prepare = r->has_prepare && votes))
        v->prepare = r->prepare;
    if ((v->has_commit = r->has_commit && votes))
        v->commit = r->commit;
    if ((v->has_high = r->has_high && votes))
        v->high = r->high;
    v->tip_height = r->committing != NULL ? r->committing->header.height : r->tip_height;
    v->tip = r->committing != NULL ? r->committing->hash : r->tip;
}

static struct writer small_arena(struct effects *fx)
{
    return writer_on(fx->arena + fx->arena_used, sizeof fx->arena - fx->arena_used);
}

static struct span arena_keep(struct effects *fx, const struct writer *w)
{
    AMI_CHECK(writer_ok(w));
    fx->arena_used += w->size;
    return writer_span(w);
}

static struct span arena_header(struct effects *fx, const struct block_header *h)
{
    struct writer w = small_arena(fx);
    block_header_encode(&w, h);
    return arena_keep(fx, &w);
}

static void flush_blocks(struct replica *r, struct effects *fx)
{
    struct block_slot *s = r->keep;
    r->keep = NULL;
    if (s != NULL && s != r->committing && !s->stored && r->may_sign) {
        r->write.body = s;
        fx->persist.body_header = arena_header(fx, &s->header);
        fx->persist.body = span_of(s->body, s->body_size);
        fx->persist.body_hash = s->hash;
    }
    s = r->committing;
    if (s == NULL)
        return;
    AMI_CHECK(s->valid && s->header.height == r->tip_height + 1);
    r->write.commit = s;
    fx->persist.commit = true;
    fx->persist.header = &s->header;
    fx->persist.block = s->hash;
    fx->persist.block_header = arena_header(fx, &s->header);
    struct writer w = small_arena(fx);
    qc_encode(&w, &r->committing_qc);
    fx->persist.block_commit = arena_keep(fx, &w);
    fx->persist.block_body = span_of(s->body, s->body_size);
}

void record_flush(struct replica *r)
{
    if (r->write.active || r->now_us < r->write_retry_us)
        return;
    if (r->committing == NULL && !(r->may_sign && r->dirty))
        return;
    struct effects *fx = r->fx;
    size_t before = fx->arena_used;
    fx->has_persist = true;
    fx->persist.ticket = r->write.ticket = r->next_ticket++;
    r->write.active = true;
    r->write.body = r->write.commit = NULL;
    r->dirty = false;
    fx->persist.vote_record = span_of(NULL, 0);
    fx->persist.body_header = fx->persist.body = span_of(NULL, 0);
    fx->persist.block_header = fx->persist.block_commit = span_of(NULL, 0);
    fx->persist.block_body = span_of(NULL, 0);
    fx->persist.header = NULL;
    fx->persist.commit = false;
    if (r->may_sign) { /* rule 11: who may not sign must not look as if it had a record */
        fill_record(r, &r->scratch.record);
        struct writer w = small_arena(fx);
        vote_record_encode(&w, &r->scratch.record);
        fx->persist.vote_record = arena_keep(fx, &w);
    }
    flush_blocks(r, fx);
    AMI_CHECK(fx->arena_used - before <= EFFECTS_PERSIST_SMALL_BYTES_MAX);
}

static void write_failed(struct replica *r, enum ami_status status)
{
    replica_note(r, REPLICA_NOTE_WRITE_FAILED, NOBODY, r->tip_height, status);
    r->dirty = true;
    r->write_retry_us = r->now_us + (r->slot_us << (r->writes_failed < WRITE_RETRY_DOUBLED_MAX
                                                        ? r->writes_failed
                                                        : WRITE_RETRY_DOUBLED_MAX));
    r->writes_failed++;
    if (r->keep == NULL)
        r->keep = r->write.body;
    r->write.body = r->write.commit = NULL;
    if (leads(r))
        lead_stop(r, AMI_IO, true); /* rule 8 */
}

void record_on_persisted(struct replica *r, uint64_t ticket, enum ami_status status)
{
    if (!r->write.active || ticket != r->write.ticket)
        return;
    r->write.active = false;
    if (status != AMI_OK) {
        write_failed(r, status);
        return;
    }
    r->durable = ticket;
    r->writes_failed = 0;
    if (r->write.body != NULL)
        r->write.body->stored = true;
    if (r->write.commit != NULL)
        commit_stored(r);
    r->write.body = r->write.commit = NULL;
}

uint64_t record_deadline(const struct replica *r)
{
    bool waits = !r->write.active && (r->committing != NULL || (r->may_sign && r->dirty));
    return waits ? r->write_retry_us : UINT64_MAX;
}
