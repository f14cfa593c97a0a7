#include "meter/fleet_internal.h"

#include "keyagree/scheme.h"
#include "net/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* --- histograms ------------------------------------------------------------------------------ */

/* Values below 32 exactly; above, 32 steps per power of two. */
static size_t bucket_of(uint64_t value)
{
    if (value < 32)
        return (size_t)value;
    unsigned top = 63 - (unsigned)__builtin_clzll(value);
    return (size_t)(top - 4) * 32 + (size_t)((value >> (top - 5)) & 31);
}

/* The middle of a bucket. */
static uint64_t value_of(size_t bucket)
{
    if (bucket < 32)
        return bucket;
    unsigned top = (unsigned)(bucket / 32) + 4;
    uint64_t low = (uint64_t)(32 + bucket % 32) << (top - 5);
    return low + ((UINT64_C(1) << (top - 5)) >> 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->count[bucket_of(value)]++;
    h->total++;
}

uint64_t histogram_at(const struct histogram *h, double share)
{
    if (h->total == 0)
        return 0;
    uint64_t wanted = (uint64_t)((double)h->total * share);
    uint64_t seen = 0;
    size_t buckets = sizeof h->count / sizeof h->count[0];
    for (size_t i = 0; i < buckets; i++) {
        seen += h->count[i];
        if (seen > wanted || seen == h->total)
            return value_of(i);
    }
    return 0;
}

/* Those that are not empty: [value, count], ... So that others can tell what came between two
 * looks, and in several fleets together. */
static json_t *histogram_json(const struct histogram *h)
{
    json_t *all = json_array();
    for (size_t i = 0; i < sizeof h->count / sizeof h->count[0]; i++)
        if (h->count[i] != 0)
            json_array_append_new(
                all, json_pack("[I, I]", (json_int_t)value_of(i), (json_int_t)h->count[i]));
    return all;
}

/* --- what the cores tell --------------------------------------------------------------------- */

static void on_acknowledged(struct fleet *f, uint64_t us)
{
    uint64_t now = clock_mono_us();
    if (now - f->stats.last_ack_us > f->stats.max_gap_us)
        f->stats.max_gap_us = now - f->stats.last_ack_us;
    f->stats.last_ack_us = now;
    histogram_add(&f->stats.commit_us, us);
}

void fleet_note(void *ctx, enum meter_note_kind kind, uint64_t value)
{
    struct fleet_meter *m = ctx;
    struct fleet *f = m->fleet;
    struct fleet_stats *s = &f->stats;
    switch (kind) {
    case METER_NOTE_AGREED:
        s->agreements++;
        histogram_add(&s->agreement_us, value);
        break;
    case METER_NOTE_REDIRECTED:
        s->redirects++;
        break;
    case METER_NOTE_FELL_BACK:
        s->fallbacks++;
        break;
    case METER_NOTE_REFUSED:
        s->refusals++;
        break;
    case METER_NOTE_SENT:
        s->reports_sent_now++;
        break;
    case METER_NOTE_ACKNOWLEDGED:
        on_acknowledged(f, value);
        break;
    case METER_NOTE_BAD_ACK:
        s->bad_acks++;
        break;
    case METER_NOTE_NACK:
        s->nacks++;
        break;
    }
}

/* --- for tools and people -------------------------------------------------------------------- */

static void put(json_t *o, const char *name, uint64_t value)
{
    json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void put_ms(json_t *o, const char *name, uint64_t us)
{
    json_object_set_new(o, name, json_real((double)(us / 10) / 100.0));
}

void fleet_stats_begin(struct fleet *f)
{
    const uint64_t now = clock_mono_us();
    f->warm = true;
    memset(&f->stats, 0, sizeof f->stats);
    f->stats.since_us = f->stats.last_ack_us = now;
}

static const char *leader_name(const struct fleet *f)
{
    for (unsigned i = 0; i < f->lanes; i++) {
        uint8_t k = f->lane[i].shared.leader;
        if (k < f->headers->dc_count)
            return f->headers->dc[k].text;
    }
    return "-";
}

static json_t *stats_json(const struct fleet *f)
{
    const struct fleet_stats *s = &f->stats;
    const struct scheme *scheme = scheme_by_number(f->c.genesis->network.scheme);
    uint64_t reports = 0, readings = 0;
    for (size_t i = 0; i < f->count; i++) {
        reports += f->meter[i].state.reports;
        readings += f->meter[i].state.readings;
    }
    json_t *o = json_object();
    json_object_set_new(o, "mode", json_string(f->c.mode));
    json_object_set_new(o, "scheme", json_string(scheme == NULL ? "?" : scheme->name));
    put(o, "meters", f->count);
    put(o, "meters_in_session", f->in_session);
    put(o, "meters_refused", f->outcast_count);
    json_object_set_new(o, "leader", json_string(leader_name(f)));
    put(o, "agreements", s->agreements);
    put(o, "agreement_us_p50", histogram_at(&s->agreement_us, 0.5));
    put(o, "agreement_us_p99", histogram_at(&s->agreement_us, 0.99));
    put(o, "redirects", s->redirects);
    put(o, "fallbacks", s->fallbacks);
    put(o, "refusals", s->refusals);
    put(o, "leads_told", s->leads_told);
    put(o, "nacks", s->nacks);
    put(o, "bad_acks", s->bad_acks);
    put(o, "bad_frames", s->frames_bad);
    put(o, "blocks_verified", f->headers->checked - f->headers->refused);
    put(o, "bad_headers", f->headers->refused);
    /* Totals of the directory, over all its runs. */
    put(o, "reports_sent", reports);
    put(o, "reports_acknowledged", reports - f->outbox_reports);
    put(o, "reports_unacknowledged", f->outbox_reports);
    put(o, "readings_sent", readings);
    put(o, "readings_acknowledged", readings - f->outbox_readings);
    put(o, "readings_unacknowledged", f->outbox_readings);
    /* Of this run. */
    put(o, "run_reports_sent", s->reports_sent_now);
    put(o, "run_reports_acknowledged", s->reports_acknowledged_now);
    put(o, "run_readings_acknowledged", s->readings_acknowledged_now);
    put_ms(o, "commit_ms_p50", histogram_at(&s->commit_us, 0.5));
    put_ms(o, "commit_ms_p99", histogram_at(&s->commit_us, 0.99));
    put_ms(o, "commit_ms_p999", histogram_at(&s->commit_us, 0.999));
    json_object_set_new(o, "commit_us_counts", histogram_json(&s->commit_us));
    put_ms(o, "max_gap_ms", s->max_gap_us);
    /* The last time that meters lost their DC: how long until so many were in session again. */
    put_ms(o, "return_half_ms", f->back.half_us);
    put_ms(o, "return_most_ms", f->back.most_us);
    put_ms(o, "return_all_ms", f->back.all_us);
    put(o, "connections", f->lanes * f->headers->dc_count);
    put_ms(o, "run_ms", clock_mono_us() - s->since_us);
    json_object_set_new(o, "measuring", json_boolean(f->measuring));
    json_object_set_new(o, "done", json_boolean(f->over));
    json_object_set_new(o, "status", json_string(ami_status_name(f->result)));
    return o;
}

void fleet_stats_write(struct fleet *f)
{
    if (f->c.stats_path == NULL)
        return;
    json_t *o = stats_json(f);
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(o);
    struct why why;
    enum ami_status status = AMI_NO_MEMORY;
    if (text != NULL)
        status = file_write(f->c.stats_path, span_of(text, strlen(text)), FILE_MODE_PUBLIC, &why);
    free(text);
    if (status != AMI_OK)
        log_say(f->c.log, ENV_LOG_WARN, "statistics_not_written", "%s",
                status == AMI_NO_MEMORY ? ami_status_text(status) : why.text);
}

void fleet_progress(struct fleet *f)
{
    char note[160];
    snprintf(note, sizeof note, "%zu of %zu meters in session, leader %s, %llu reports waiting",
             f->in_session, f->count, leader_name(f), (unsigned long long)f->outbox_reports);
    progress_update(&f->progress, f->stats.readings_acknowledged_now, note);
}
