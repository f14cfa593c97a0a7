/* meter/internal.h - what the files of the meter's core share. Nothing outside meter/ includes it.
 *
 *   core.c      phases: which DC, agreement, session, time-outs
 *   deliver.c   reports: made, loaded into slots, sent, acknowledged, settled
 *   headers.c   certified headers
 */
#ifndef AMI_METER_INTERNAL_H
#define AMI_METER_INTERNAL_H

#include "base/check.h"
#include "meter/core.h"

#define METER_WINDOW_FIRST 4

/* Flags of a slot. */
enum {
    SLOT_SENT = 1,   /* in this session */
    SLOT_BARRED = 2, /* refused in this session: not before resend_us, or not here at all */
    SLOT_SETTLED = 4 /* acknowledged; the store had no room to write that down, see settle_us */
};

uint64_t meter_now_us(const struct meter *m);
uint32_t meter_now_s(const struct meter *m);
uint64_t meter_random_below(const struct meter *m, uint64_t limit);
void meter_note(const struct meter *m, enum meter_note_kind kind, uint64_t value);

/* core.c */
/* How long to wait for something that usually takes usual_us. */
uint64_t meter_patience_us(uint32_t least_ms, uint32_t most_ms, uint64_t usual_us,
                           unsigned doublings);
/* How often all members were asked, when so many questions were in vain: patience with one DC is
 * not to grow because others were silent. */
unsigned meter_rounds(const struct meter *m, unsigned asked);
void meter_learn_us(uint64_t *usual, uint64_t sample);
void meter_slow_down(struct meter *m);
/* Something good came: a believed acknowledgement. */
void meter_success(struct meter *m);
/* Leaves the session: the DC did not do its part. */
void meter_fall_back(struct meter *m);
/* Leaves the session for another agreement, with the same DC or with `other`. A DC with which this
 * happens again and again while reports wait did not do its part. */
void meter_restart(struct meter *m, uint8_t other);
void meter_rearm(struct meter *m);

/* deliver.c */
void deliver_on_session(struct meter *m); /* a new session: everything is to be sent in it */
void deliver_pump(struct meter *m);       /* sends what may be sent */
void deliver_on_message(struct meter *m, uint8_t kind, struct span plain);
bool deliver_outstanding(const struct meter *m); /* sent in this session, no answer yet */
void deliver_on_resend(struct meter *m);
void deliver_settle_again(struct meter *m); /* what the store had no room for */

#endif
