/* The meter's state machine among DCs that lose, refuse, lie and fall silent; both schemes. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/meter/script.h"

#include <string.h>

/* Runs a test under every scheme. */
#define EACH_SCHEME(name)                                                                          \
    static void name##_under(const struct scheme *scheme);                                         \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        for (size_t i = 0; scheme_at(i) != NULL; i++)                                              \
            name##_under(scheme_at(i));                                                            \
    }                                                                                              \
    static void name##_under(const struct scheme *scheme)

/* What must hold at the end of every story: nothing left before it was durable, everything measured
 * was settled, and what is stored is what was sent. */
static void assert_good_end(const struct script *s, size_t reports)
{
    assert_int_equal(s->early, 0);
    assert_int_equal(s->report_count, reports);
    assert_int_equal(s->settled_count, reports);
    for (size_t i = 0; i < s->report_count; i++)
        assert_true(s->report[i].settled);
    assert_false(meter_unsettled(&s->meter));
}

EACH_SCHEME(delivers)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 40);
    assert_true(script_run_settled(s, 5000));
    assert_good_end(s, 40);
    assert_int_equal(s->dc[0].reports, 40); /* the home DC is the first guess */
    assert_int_equal(s->notes[METER_NOTE_AGREED], 1);
    assert_int_equal(s->notes[METER_NOTE_ACKNOWLEDGED], 40);
    assert_int_equal(s->notes[METER_NOTE_BAD_ACK], 0);
    script_free(s);
}

/* A report is durable before it is sent: while writes are held up nothing leaves. */
EACH_SCHEME(durable_before_sent)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    s->hold_writes = true;
    script_measure(s, 3);
    script_run(s, 3000);
    assert_int_equal(s->dc[0].sessions, 1);
    assert_int_equal(s->dc[0].reports, 0);
    s->hold_writes = false;
    assert_true(script_run_settled(s, 3000));
    assert_good_end(s, 3);
    script_free(s);
}

EACH_SCHEME(any_flight_may_be_lost)
{
    for (int which = 1; which <= 3; which++) {
        struct script *s = script_new(scheme, GATEWAY_LEADER);
        for (unsigned k = 0; k < SCRIPT_DCS; k++) {
            s->dc[k].lose_flight1 = which == 1 ? 2 : 0;
            s->dc[k].lose_flight2 = which == 2 ? 2 : 0;
            s->dc[k].lose_flight3 = which == 3 ? 2 : 0;
        }
        script_measure(s, 5);
        assert_true(script_run_settled(s, 120000));
        assert_good_end(s, 5);
        script_free(s);
    }
}

EACH_SCHEME(reports_and_acknowledgements_may_be_lost)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    s->dc[0].lose_data = 3;
    s->dc[1].lose_ack = 4;
    script_measure(s, 8);
    assert_true(script_run_settled(s, 120000));
    assert_good_end(s, 8);
    script_free(s);
}

EACH_SCHEME(follows_the_leader)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        if (k != 2) {
            s->dc[k].refuse = AMI_NOT_LEADER;
            s->dc[k].refer_to = 2;
            s->dc[k].demands_insist = true;
        }
    script_measure(s, 4);
    assert_true(script_run_settled(s, 1000));
    assert_good_end(s, 4);
    assert_int_equal(s->dc[2].reports, 4);
    assert_int_equal(s->dc[2].insisted, 0);
    assert_int_equal(s->notes[METER_NOTE_REDIRECTED], 1);
    /* The next meter of this process goes there at once. */
    assert_int_equal(s->shared.leader, 2);
    script_free(s);
}

EACH_SCHEME(session_ended_names_a_new_leader)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    struct session_ended e = {.session = s->meter.session_id,
                              .status = AMI_NOT_LEADER,
                              .has_other = true,
                              .other.dc = s->f->dc[3].name};
    uint8_t bytes[64];
    struct writer w = writer_on(bytes, sizeof bytes);
    session_ended_encode(&w, &e);
    /* Another DC's word about this session counts for nothing. */
    meter_on_frame(&s->meter, 2, MSG_SESSION_ENDED, writer_span(&w));
    assert_int_equal(s->meter.phase, METER_IN_SESSION);
    meter_on_frame(&s->meter, 1, MSG_SESSION_ENDED, writer_span(&w));
    script_measure(s, 2);
    assert_true(script_run_settled(s, 2000));
    assert_int_equal(s->dc[3].reports, 2);
    assert_int_equal(s->dc[3].insisted, 0);
    assert_good_end(s, 3);
    script_free(s);
}

/* However long a meter spreads over: that is no time in which it was left waiting. */
EACH_SCHEME(its_own_spread_is_no_reason_to_insist)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    const struct session_ended e = {.session = s->meter.session_id, .status = AMI_NOT_LEADER};
    uint8_t bytes[64];
    struct writer w = writer_on(bytes, sizeof bytes);
    session_ended_encode(&w, &e);
    s->shared.timing.spread_ms = 1000000;
    const uint64_t before_us = s->now_us;
    meter_on_frame(&s->meter, 1, MSG_SESSION_ENDED, writer_span(&w));
    script_measure(s, 2);
    assert_true(script_run_settled(s, 1100000));
    assert_true(s->now_us - before_us > 2000u * s->shared.timing.insist_ms);
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        assert_int_equal(s->dc[k].insisted, 0);
    assert_good_end(s, 3);
    script_free(s);
}

/* Two DCs that send the meter to one another for ever. */
EACH_SCHEME(redirections_in_a_circle_end)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    for (unsigned k = 0; k < 2; k++) {
        s->dc[k].refuse = AMI_NOT_LEADER;
        s->dc[k].refer_to = 1 - (int)k;
        s->dc[k].demands_insist = true;
    }
    script_measure(s, 2);
    assert_true(script_run_settled(s, 20000));
    assert_good_end(s, 2);
    assert_true(s->dc[0].flights1 + s->dc[1].flights1 < 40);
    script_free(s);
}

/* Refuses whoever insists as well, and names one that has failed the meter already. */
EACH_SCHEME(who_refers_to_a_silent_one_for_ever_keeps_no_meter)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    s->dc[0].lose_flight1 = UINT32_MAX;
    s->dc[1].refuse = AMI_NOT_LEADER;
    s->dc[1].refer_to = 0;
    script_measure(s, 2);
    assert_true(script_run_settled(s, 20000));
    assert_good_end(s, 2);
    assert_in_range(s->dc[1].flights1, 1, 3);
    script_free(s);
}

/* The same when they serve nobody at all, however much it insists: somebody else is asked. */
EACH_SCHEME(two_that_refer_to_one_another_keep_no_meter)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    for (unsigned k = 0; k < 2; k++) {
        s->dc[k].refuse = AMI_NOT_LEADER;
        s->dc[k].refer_to = 1 - (int)k;
    }
    script_measure(s, 2);
    assert_true(script_run_settled(s, 20000));
    assert_good_end(s, 2);
    assert_true(s->dc[0].flights1 + s->dc[1].flights1 < 40);
    script_free(s);
}

/* protocol.md section 5: no leader can silence a meter. */
EACH_SCHEME(a_silent_leader_is_left)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    for (unsigned k = 1; k < SCRIPT_DCS; k++) {
        s->dc[k].refuse = AMI_NOT_LEADER;
        s->dc[k].refer_to = 0;
        s->dc[k].demands_insist = true;
    }
    s->dc[0].lose_flight1 = 1000000;
    script_measure(s, 3);
    /* One time-out; the next DC is told at once that the leader was waited for in vain. */
    assert_true(script_run_settled(s, s->shared.timing.answer_ms + 500));
    assert_good_end(s, 3);
    assert_true(s->dc[1].insisted > 0);
    assert_int_equal(s->dc[1].reports, 3);
    assert_true(s->notes[METER_NOTE_FELL_BACK] >= 1);
    script_free(s);
}

/* A leader that takes reports and never acknowledges; the other DC gets the very same bytes. */
EACH_SCHEME(no_acknowledgement_leads_elsewhere_with_the_same_bytes)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    for (unsigned k = 1; k < SCRIPT_DCS; k++) {
        s->dc[k].refuse = AMI_NOT_LEADER;
        s->dc[k].refer_to = 0;
        s->dc[k].demands_insist = true;
    }
    s->dc[0].ack = ACK_NONE;
    script_measure(s, 1);
    assert_true(script_run_settled(s, 20000));
    assert_good_end(s, 1);
    assert_int_equal(s->dc[0].reports, 1);
    assert_int_equal(s->dc[1].reports, 1);
    assert_int_equal(s->dc[0].last_size, s->dc[1].last_size);
    assert_memory_equal(s->dc[0].last_record, s->dc[1].last_record, s->dc[0].last_size);
    assert_memory_equal(s->dc[0].last_record, s->report[0].record, s->report[0].size);
    script_free(s);
}

EACH_SCHEME(false_acknowledgements_are_not_believed)
{
    static const enum ack_mode lies[] = {ACK_WRONG_PATH,    ACK_WRONG_INDEX,  ACK_OTHER_LEAF,
                                         ACK_OTHER_CONTENT, ACK_OTHER_HEIGHT, ACK_BAD_CERT,
                                         ACK_FEW_VOTES,     ACK_PREPARE_CERT, ACK_NO_PROOF};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct script *s = script_new(scheme, GATEWAY_LEADER);
        for (unsigned k = 0; k < SCRIPT_DCS; k++)
            s->dc[k].ack = lies[i];
        script_measure(s, 2);
        assert_false(script_run_settled(s, 30000));
        assert_int_equal(s->settled_count, 0);
        assert_int_equal(s->notes[METER_NOTE_ACKNOWLEDGED], 0);
        assert_true(s->notes[METER_NOTE_BAD_ACK] >= 2);
        for (unsigned k = 0; k < SCRIPT_DCS; k++)
            assert_true(s->dc[k].reports > 0); /* it asked everybody */
        /* One honest DC is enough, and the report is still there. */
        s->dc[2].ack = ACK_GOOD;
        assert_true(script_run_settled(s, 120000));
        assert_good_end(s, 2);
        script_free(s);
    }
}

EACH_SCHEME(a_report_refused_for_the_moment_is_sent_again_in_the_session)
{
    static const enum ami_status again[] = {AMI_AGAIN, AMI_SEQUENCE_AHEAD, AMI_NO_QUORUM};
    for (size_t i = 0; i < sizeof again / sizeof again[0]; i++) {
        struct script *s = script_new(scheme, GATEWAY_LEADER);
        s->dc[0].nack = again[i];
        s->dc[0].nacks = 5;
        script_measure(s, 4);
        assert_true(script_run_settled(s, 4000));
        assert_good_end(s, 4);
        assert_int_equal(s->dc[0].sessions, 1);
        assert_int_equal(s->dc[0].reports, 9);
        script_free(s);
    }
}

/* "It is settled" without a proof is no reason to forget a report. */
EACH_SCHEME(settled_without_proof_is_asked_elsewhere)
{
    static const enum ami_status said[] = {AMI_SEQUENCE_SETTLED, AMI_BAD_SIGNATURE, AMI_REPLAYED};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct script *s = script_new(scheme, GATEWAY_LEADER);
        s->dc[0].nack = said[i];
        s->dc[0].nacks = 1000000;
        script_measure(s, 2);
        script_run(s, 1000);
        assert_int_equal(s->settled_count, 0);
        assert_true(meter_unsettled(&s->meter));
        assert_true(script_run_settled(s, 20000));
        assert_int_equal(s->dc[1].reports, 2);
        assert_good_end(s, 2);
        script_free(s);
    }
}

EACH_SCHEME(a_session_that_is_gone_is_agreed_anew)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    s->dc[0].confirmed = false; /* it was restarted */
    script_measure(s, 3);
    assert_true(script_run_settled(s, 5000));
    assert_int_equal(s->dc[0].sessions, 2);
    assert_good_end(s, 4);
    script_free(s);
}

/* Who agrees a key and ends each session, or takes no report in it, is left like who is silent. */
EACH_SCHEME(who_ends_every_session_keeps_no_meter)
{
    enum { ENDS, REFERS, NOT_LEADER, NO_SESSION, WAYS };
    for (int way = 0; way < WAYS; way++) {
        struct script *s = script_new(scheme, GATEWAY_LEADER);
        for (unsigned k = 0; k < 2; k++) {
            struct script_dc *dc = &s->dc[k];
            dc->ack = ACK_ENDS;
            dc->refer_to = way == REFERS ? 1 - (int)k : -1;
            dc->nack = way == NOT_LEADER ? AMI_NOT_LEADER : AMI_NO_SESSION;
            dc->nacks = way == NOT_LEADER || way == NO_SESSION ? UINT32_MAX : 0;
        }
        script_measure(s, 2);
        assert_true(script_run_settled(s, 30000));
        assert_good_end(s, 2);
        assert_in_range(s->dc[0].sessions + s->dc[1].sessions, 1, 6);
        script_free(s);
    }
}

/* No report waits: a session that ends is no failure, however often. */
EACH_SCHEME(a_session_that_ends_in_quiet_is_no_failure)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    for (unsigned i = 0; i < 5; i++) {
        struct session_ended e = {.session = s->meter.session_id, .status = AMI_NO_SESSION};
        uint8_t bytes[64];
        struct writer w = writer_on(bytes, sizeof bytes);
        session_ended_encode(&w, &e);
        meter_on_frame(&s->meter, 1, MSG_SESSION_ENDED, writer_span(&w));
        script_run(s, 10000);
        assert_int_equal(s->meter.phase, METER_IN_SESSION);
        assert_int_equal(s->meter.target, 0);
    }
    assert_int_equal(s->notes[METER_NOTE_FELL_BACK], 0);
    script_free(s);
}

EACH_SCHEME(a_session_at_its_limit_is_agreed_anew)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    s->f->genesis.parameters.session_messages_max = 7;
    script_measure(s, 30);
    assert_true(script_run_settled(s, 60000));
    assert_good_end(s, 30);
    assert_true(s->notes[METER_NOTE_AGREED] >= 5);
    script_free(s);
}

EACH_SCHEME(goes_on_from_the_outbox_after_a_crash)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        s->dc[k].ack = ACK_NONE;
    script_measure(s, 20);
    script_run(s, 2000);
    s->hold_writes = true;
    script_measure(s, 2); /* never durable: never happened */
    script_restart_meter(s);
    s->hold_writes = false;
    assert_int_equal(s->meter.next_sequence, 21);
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        s->dc[k].ack = ACK_GOOD;
    script_measure(s, 2); /* the numbers that were lost serve now */
    assert_true(script_run_settled(s, 10000));
    assert_good_end(s, 22);
    script_free(s);
}

/* A crash between the belief and the settling: sent again, acknowledged again, settled once. */
EACH_SCHEME(an_acknowledgement_that_was_not_stored_comes_again)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 3);
    script_run(s, 40);
    while (s->notes[METER_NOTE_ACKNOWLEDGED] == 0 && s->settled_count == 0) {
        s->hold_writes = true;
        script_run(s, 10);
    }
    s->hold_writes = true;
    script_run(s, 500);
    size_t settled = s->settled_count;
    script_restart_meter(s);
    s->hold_writes = false;
    assert_true(script_run_settled(s, 10000));
    assert_good_end(s, 3);
    assert_true(settled <= 3);
    script_free(s);
}

/* The store has no room for what is acknowledged: it is written later and asked for once; and when
 * a crash comes first it is in the outbox as before. */
EACH_SCHEME(an_acknowledgement_waits_for_room_in_the_store)
{
    for (int crash = 0; crash < 2; crash++) {
        struct script *s = script_new(scheme, GATEWAY_LEADER);
        s->no_settling = true;
        script_measure(s, 30);
        script_run(s, 60000);
        assert_int_equal(s->settled_count, 0);
        assert_int_equal(s->notes[METER_NOTE_ACKNOWLEDGED], METER_IN_FLIGHT_MAX);
        assert_int_equal(s->dc[0].reports, METER_IN_FLIGHT_MAX);
        assert_true(meter_unsettled(&s->meter));
        s->no_settling = false;
        if (crash)
            script_restart_meter(s);
        assert_true(script_run_settled(s, 10000));
        assert_good_end(s, 30);
        assert_int_equal(s->dc[0].reports, 30 + (crash ? METER_IN_FLIGHT_MAX : 0));
        script_free(s);
    }
}

/* In flight: never more than the window allows, also when the first of them is stuck. */
EACH_SCHEME(stays_inside_the_window)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    s->dc[0].nack = AMI_SEQUENCE_SETTLED;
    s->dc[0].nacks = 1; /* the first report is barred at this DC */
    script_measure(s, 120);
    script_run(s, 3000);
    assert_int_equal(s->meter.target, 0);
    assert_int_equal(s->settled_count, AMI_SEQ_WINDOW - 1); /* 2 to 64, not 65 */
    assert_false(s->report[0].settled);
    assert_true(script_run_settled(s, 60000));
    assert_good_end(s, 120);
    script_free(s);
}

EACH_SCHEME(a_full_link_holds_reports_back)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    for (int i = 0; i < 30; i++) {
        /* Tried again and again: a count that was sealed and never left must not be used up. */
        s->dc[0].starved = true;
        script_measure(s, 1);
        for (int tries = 0; tries < 2 * SESSION_WINDOW; tries++)
            meter_on_writable(&s->meter, 1);
        s->dc[0].starved = false;
        meter_on_writable(&s->meter, 1);
        script_run(s, 10);
    }
    assert_true(script_run_settled(s, 1000));
    assert_good_end(s, 31);
    assert_int_equal(s->dc[0].sessions, 1);
    assert_int_equal(s->dc[0].data_refused, 0);
    script_free(s);
}

EACH_SCHEME(a_closed_link_leads_elsewhere)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 2);
    assert_true(script_run_settled(s, 1000));
    script_close(s, 0);
    script_measure(s, 2);
    assert_true(script_run_settled(s, 1000));
    assert_int_equal(s->dc[1].reports, 2);
    /* Nobody is there any more; then one comes back. */
    for (unsigned k = 1; k < SCRIPT_DCS; k++)
        script_close(s, k);
    script_measure(s, 2);
    script_run(s, 60000);
    assert_true(meter_unsettled(&s->meter));
    script_open(s, 3);
    assert_true(script_run_settled(s, 10000));
    assert_int_equal(s->dc[3].reports, 2);
    assert_good_end(s, 6);
    script_free(s);
}

/* The latest of some instants at which a meter that was told of a new leader would come. */
static uint64_t latest_us(struct script *s, uint32_t own_ms, uint64_t leader_us)
{
    uint64_t latest = 0;
    s->shared.timing.spread_ms = own_ms;
    for (int i = 0; i < 50; i++) {
        s->meter.came = 0;
        s->meter.wake_us = UINT64_MAX;
        meter_on_leads(&s->meter, 3, leader_us);
        assert_int_equal(s->meter.target, 2);
        uint64_t wait_us = s->meter.wake_us - s->now_us;
        latest = wait_us > latest ? wait_us : latest;
    }
    return latest;
}

/* A leader knows what it can serve, a meter's own time what its medium carries. */
EACH_SCHEME(meters_spread_over_the_longer_of_two_times)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        script_close(s, k);
    assert_int_equal(s->meter.phase, METER_PAUSE);
    assert_in_range(latest_us(s, 60000, 1000), 30000000, 60000000);
    assert_in_range(latest_us(s, 1, 60000000), 30000000, 60000000);
    assert_in_range(latest_us(s, 1, 1000), 0, 1000);
    script_free(s);
}

/* A DC that says that it leads can neither put meters to sleep nor keep them for itself. */
EACH_SCHEME(who_says_that_it_leads_is_believed_once)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        script_close(s, k);
    assert_int_equal(s->meter.phase, METER_PAUSE);
    assert_in_range(latest_us(s, 1, UINT64_MAX), 1, METER_SPREAD_US_MAX);
    /* It was about to try: nothing makes it wait. */
    s->meter.came = 0;
    s->meter.wake_us = s->now_us + 5;
    meter_on_leads(&s->meter, 3, METER_SPREAD_US_MAX);
    assert_int_equal(s->meter.wake_us, s->now_us + 5);
    /* It came there once and got nothing; said again, it changes nothing. */
    s->meter.target = 1;
    meter_on_leads(&s->meter, 3, 0);
    assert_int_equal(s->meter.target, 1);
    meter_on_leads(&s->meter, 4, 0);
    assert_int_equal(s->meter.target, 3);
    /* An acknowledgement shows that the network works: everybody is believed again. */
    script_open(s, 0);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 10000));
    assert_int_equal(s->meter.came, 0);
    script_free(s);
}

/* It answers each first flight with a refusal and the word that it leads: others are asked all the
 * same, and no meter sleeps for as long as it says. */
EACH_SCHEME(who_refuses_and_says_that_it_leads_keeps_no_meter)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    uint64_t term = 0;
    unsigned heard = 0;
    s->dc[0].refuse = AMI_NO_QUORUM;
    for (unsigned k = 1; k < SCRIPT_DCS; k++)
        s->dc[k].lose_flight1 = 2;
    script_measure(s, 1);
    for (int ms = 0; ms < 60000 && meter_unsettled(&s->meter); ms += 10) {
        script_run(s, 10);
        for (int i = 0; i < 100; i++) /* as often as it likes, each time in another term */
            if (meter_shared_hears(&s->shared, 1, ++term, s->now_us)) {
                heard++;
                meter_on_leads(&s->meter, 1, UINT32_MAX * UINT64_C(1000));
            }
    }
    assert_good_end(s, 1);
    assert_in_range(heard, 2, 1 + s->now_us / METER_LEADS_US);
    script_free(s);
}

static void who_leads_is_heard_once_in_a_term(void **state)
{
    (void)state;
    struct script *s = script_new(scheme_by_number(SCHEME_DEFAULT), GATEWAY_LEADER);
    const uint64_t step = METER_LEADS_US;
    assert_true(meter_shared_hears(&s->shared, 2, 7, 1));
    assert_int_equal(s->shared.leader, 1);
    assert_false(meter_shared_hears(&s->shared, 2, 7, 1 + 10 * step));
    assert_false(meter_shared_hears(&s->shared, 2, 6, 1 + 10 * step));
    assert_true(meter_shared_hears(&s->shared, 4, 6, 2)); /* others have terms of their own */
    assert_false(meter_shared_hears(&s->shared, 2, 8, step));
    assert_int_equal(s->shared.leader, 3);
    assert_true(meter_shared_hears(&s->shared, 2, 8, 1 + step));
    assert_int_equal(s->shared.leader, 1);
    assert_true(meter_shared_hears(&s->shared, 2, UINT64_MAX, 1 + 2 * step));
    assert_false(meter_shared_hears(&s->shared, 2, UINT64_MAX, 1 + 9 * step));
    assert_true(meter_shared_hears(&s->shared, 4, 9, 1 + 2 * step));
    script_free(s);
}

EACH_SCHEME(home_policy_stays_at_home)
{
    struct script *s = script_new(scheme, GATEWAY_HOME);
    s->shared.leader = 2; /* whoever leads does not matter */
    script_measure(s, 5);
    assert_true(script_run_settled(s, 1000));
    assert_int_equal(s->dc[0].reports, 5);
    script_close(s, 0);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 1000));
    assert_int_equal(s->dc[1].reports, 1);
    assert_good_end(s, 6);
    script_free(s);
}

EACH_SCHEME(revocation_needs_more_than_one_voice)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    s->dc[0].refuse = AMI_REVOKED;
    for (unsigned k = 1; k < SCRIPT_DCS; k++)
        s->dc[k].lose_flight1 = 1000000;
    script_measure(s, 1);
    script_run(s, 120000);
    assert_true(s->dc[0].flights1 > 1);
    assert_status(meter_outcast(&s->meter), AMI_OK); /* one voice, however often */
    for (unsigned k = 1; k < SCRIPT_DCS; k++)
        s->dc[k].lose_flight1 = 0;
    assert_true(script_run_settled(s, 60000));
    for (unsigned k = 0; k < SCRIPT_DCS; k++) {
        s->dc[k].refuse = AMI_REVOKED;
        s->dc[k].confirmed = false;
    }
    script_measure(s, 1);
    assert_false(script_run_settled(s, 5000));
    assert_status(meter_outcast(&s->meter), AMI_REVOKED);
    assert_true(meter_unsettled(&s->meter)); /* and nothing is lost */
    script_free(s);
}

/* As script_run_settled, while all but one of the DCs say again and again that they lead. */
static bool run_among_shouters(struct script *s, unsigned honest, uint64_t ms)
{
    uint64_t term = 0;
    for (uint64_t end = s->now_us + ms * 1000; s->now_us < end;) {
        if (script_run_settled(s, 100))
            return true;
        term++;
        for (unsigned k = 0; k < SCRIPT_DCS; k++)
            if (k != honest && meter_shared_hears(&s->shared, k + 1, term, s->now_us))
                meter_on_leads(&s->meter, k + 1, UINT64_MAX);
    }
    return false;
}

/* Some are silent, some refuse, some lie, whatever the order: the honest one is found. */
EACH_SCHEME(one_honest_dc_is_found_among_any_others)
{
    enum { SILENT, REFUSES, REFERS, LIES, ENDS, PUTS_OFF, TAKES_AND_FORGETS, WAYS };
    for (unsigned mix = 0; mix < WAYS * WAYS * WAYS; mix++) {
        struct script *s = script_new(scheme, mix % 2 ? GATEWAY_LEADER : GATEWAY_HOME);
        unsigned honest = mix % SCRIPT_DCS, ways = mix;
        for (unsigned k = 0; k < SCRIPT_DCS; k++) {
            struct script_dc *dc = &s->dc[k];
            if (k == honest)
                continue;
            switch (ways % WAYS) {
            case SILENT:
                dc->lose_flight1 = 1000000;
                break;
            case REFUSES:
                dc->refuse = AMI_REVOKED;
                break;
            case REFERS:
                dc->refuse = AMI_NOT_LEADER;
                dc->refer_to = (int)((k + 1 + mix % 3) % SCRIPT_DCS);
                break;
            case LIES:
                dc->ack = ACK_WRONG_PATH;
                break;
            case ENDS:
                dc->ack = ACK_ENDS;
                break;
            case PUTS_OFF:
                dc->nack = AMI_AGAIN;
                dc->nacks = UINT32_MAX;
                break;
            default:
                dc->ack = ACK_NONE;
            }
            ways /= WAYS;
        }
        script_measure(s, 2);
        assert_true(run_among_shouters(s, honest, 240000));
        assert_good_end(s, 2);
        assert_true(s->dc[honest].reports >= 2);
        script_free(s);
    }
}

/* Numbers have no gap: after a write that failed no report is made any more. */
EACH_SCHEME(a_full_disk_stops_the_numbers)
{
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    script_measure(s, 2);
    s->store_fails = AMI_FULL;
    script_measure(s, 1);
    struct reading r = {.unit = UNIT_KWH, .interval_s = 1800};
    uint8_t m[64];
    struct writer w = writer_on(m, sizeof m);
    assert_ok(report_encode(&w, REPORT_READINGS, &r, 1));
    assert_status(meter_report(&s->meter, &s->put[9], writer_span(&w)), AMI_FULL);
    s->store_fails = AMI_OK;
    script_restart_meter(s);
    assert_int_equal(s->meter.next_sequence, 3);
    script_measure(s, 1);
    assert_true(script_run_settled(s, 5000));
    assert_good_end(s, 3);
    script_free(s);
}

/* Garbage in any frame, from any DC, changes nothing. */
EACH_SCHEME(garbage_is_ignored)
{
    static const enum message_type types[] = {MSG_AGREE_FLIGHT2, MSG_REFUSED, MSG_SESSION_ENDED,
                                              MSG_SESSION_DATA};
    struct script *s = script_new(scheme, GATEWAY_LEADER);
    uint64_t seed = 5;
    script_measure(s, 2);
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[300];
        fixture_bytes(&seed, bytes, sizeof bytes);
        size_t size = (size_t)fixture_u64(&seed) % sizeof bytes;
        enum message_type type = types[fixture_u64(&seed) % 4];
        /* Half of them name the session or the meter rightly. */
        if (i % 4 == 0)
            store_be64(bytes, s->meter.session_id);
        if (i % 4 == 1) {
            bytes[0] = s->keys.name.size;
            memcpy(bytes + 1, s->keys.name.text, s->keys.name.size);
        }
        if (type != MSG_SESSION_ENDED || i % 4 != 0)
            meter_on_frame(&s->meter, 1 + fixture_u64(&seed) % SCRIPT_DCS, type,
                           span_of(bytes, size));
        headers_add(&s->headers, span_of(bytes, size));
        if (i % 100 == 0)
            script_run(s, 5);
    }
    assert_true(script_run_settled(s, 5000));
    assert_good_end(s, 2);
    assert_int_equal(s->dc[0].sessions, 1);
    script_free(s);
}

static enum ami_status add_header(struct fixture *f, struct headers *h, uint64_t height,
                                  sm3_digest *hash)
{
    struct block_proof proof = {.header = {.version = 1,
                                           .chain = f->genesis.members.chain,
                                           .epoch = f->genesis.members.epoch,
                                           .members = f->genesis.members.hash,
                                           .height = height,
                                           .term = 7,
                                           .timestamp_ms = 1,
                                           .tx_count = 1}};
    uint8_t bytes[4096];
    *hash = block_hash(&proof.header);
    proof.commit = fixture_qc(f, VOTE_COMMIT, 7, height, hash, fixture_quorum(f));
    struct writer w = writer_on(bytes, sizeof bytes);
    block_proof_encode(&w, &proof);
    return headers_add(h, writer_span(&w));
}

/* Anybody can send true headers of old blocks: they push out no newer one, which the
 * acknowledgements of honest DCs need, and are found themselves by a meter that was long away. */
static void old_headers_push_out_no_newer_ones(void **state)
{
    (void)state;
    struct script *s = script_new(scheme_by_number(SCHEME_DEFAULT), GATEWAY_LEADER);
    sm3_digest newest, old, older, replaced;
    const uint64_t top = 3 * METER_HEADERS + 5;
    assert_int_equal(add_header(s->f, &s->headers, top - 2 * METER_HEADERS, &replaced), AMI_OK);
    assert_int_equal(add_header(s->f, &s->headers, top, &newest), AMI_OK);
    assert_int_equal(add_header(s->f, &s->headers, top - METER_HEADERS, &old), AMI_OK);
    assert_non_null(headers_find(&s->headers, top, &newest));
    assert_non_null(headers_find(&s->headers, top - METER_HEADERS, &old));
    assert_int_equal(add_header(s->f, &s->headers, top - 3 * METER_HEADERS, &older), AMI_OK);
    assert_non_null(headers_find(&s->headers, top, &newest));
    assert_non_null(headers_find(&s->headers, top - 3 * METER_HEADERS, &older));
    /* Another hash or height finds nothing. */
    assert_null(headers_find(&s->headers, top, &old));
    assert_null(headers_find(&s->headers, top + METER_HEADERS, &newest));
    assert_null(headers_find(&s->headers, 0, &newest));
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_headers_push_out_no_newer_ones),
        cmocka_unit_test(delivers),
        cmocka_unit_test(durable_before_sent),
        cmocka_unit_test(any_flight_may_be_lost),
        cmocka_unit_test(reports_and_acknowledgements_may_be_lost),
        cmocka_unit_test(follows_the_leader),
        cmocka_unit_test(session_ended_names_a_new_leader),
        cmocka_unit_test(its_own_spread_is_no_reason_to_insist),
        cmocka_unit_test(redirections_in_a_circle_end),
        cmocka_unit_test(who_refers_to_a_silent_one_for_ever_keeps_no_meter),
        cmocka_unit_test(two_that_refer_to_one_another_keep_no_meter),
        cmocka_unit_test(a_silent_leader_is_left),
        cmocka_unit_test(no_acknowledgement_leads_elsewhere_with_the_same_bytes),
        cmocka_unit_test(false_acknowledgements_are_not_believed),
        cmocka_unit_test(a_report_refused_for_the_moment_is_sent_again_in_the_session),
        cmocka_unit_test(settled_without_proof_is_asked_elsewhere),
        cmocka_unit_test(a_session_that_is_gone_is_agreed_anew),
        cmocka_unit_test(who_ends_every_session_keeps_no_meter),
        cmocka_unit_test(a_session_that_ends_in_quiet_is_no_failure),
        cmocka_unit_test(a_session_at_its_limit_is_agreed_anew),
        cmocka_unit_test(goes_on_from_the_outbox_after_a_crash),
        cmocka_unit_test(an_acknowledgement_that_was_not_stored_comes_again),
        cmocka_unit_test(an_acknowledgement_waits_for_room_in_the_store),
        cmocka_unit_test(stays_inside_the_window),
        cmocka_unit_test(a_full_link_holds_reports_back),
        cmocka_unit_test(a_closed_link_leads_elsewhere),
        cmocka_unit_test(meters_spread_over_the_longer_of_two_times),
        cmocka_unit_test(who_says_that_it_leads_is_believed_once),
        cmocka_unit_test(who_refuses_and_says_that_it_leads_keeps_no_meter),
        cmocka_unit_test(who_leads_is_heard_once_in_a_term),
        cmocka_unit_test(home_policy_stays_at_home),
        cmocka_unit_test(revocation_needs_more_than_one_voice),
        cmocka_unit_test(one_honest_dc_is_found_among_any_others),
        cmocka_unit_test(a_full_disk_stops_the_numbers),
        cmocka_unit_test(garbage_is_ignored),
    };
    if (crypto_start() != AMI_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
