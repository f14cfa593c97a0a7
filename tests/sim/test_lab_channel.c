/* The laboratory's weakened channel: with nothing left out it is the real one, byte for byte and
 * refusal for refusal, under every kind of credential and each suite, so that a control shows the
 * one thing that it leaves out. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "sim/lab/scene.h"

#include <string.h>

#define RECORDS 3

/* All that travels in a channel: the handshake, records either way, the close. */
struct tape {
    struct frame frame[SCENE_FLIGHTS + 2 * RECORDS + 1];
    size_t count;
};

/* From this state of chance on. */
static void play(struct tape *t, struct scene *s, uint64_t chance, const struct channel_form *i,
                 const struct channel_form *r, uint8_t suite)
{
    char text[40];
    s->realm.drawn = chance;
    s->i.form = i;
    s->r.form = r;
    scene_open_under(s, suite);
    for (t->count = 0; t->count < SCENE_FLIGHTS; t->count++)
        frame_copy(&t->frame[t->count], &s->flight[t->count]);
    for (int n = 0; n < 2 * RECORDS; n++) {
        struct party *from = n % 3 == 0 ? &s->r : &s->i, *to = n % 3 == 0 ? &s->i : &s->r;
        struct frame *f = &t->frame[t->count++];
        party_seal(from, f, "0123456789012345678901234567890123456", (size_t)(7 * n));
        assert_true(scene_takes(to, f, text, sizeof text));
        assert_int_equal(strlen(text), 7 * n);
    }
    struct frame *close = &t->frame[t->count++], wire, reply;
    close->size = i->close(&s->i.channel, close->b);
    frame_copy(&wire, close);
    assert_int_equal(deliver(&s->r, &wire, &reply).event, CHANNEL_CLOSED);
    assert_int_equal(r->cut(&s->r.channel), FAULT_NONE);
}

static void with_nothing_left_out_it_is_the_real_one(void **state)
{
    (void)state;
    static struct tape real, weak;
    const struct channel_form *const forms[] = {&channel_form_real, &channel_form_weak};
    for (int kind = CREDENTIAL_IMPLICIT; kind < CREDENTIAL_KINDS; kind++)
        for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++) {
            const struct attack_context c = {.kind = (enum credential_kind)kind, .seed = 5};
            struct scene *s = scene_new(&c, 0);
            const uint64_t chance = s->realm.drawn;
            play(&real, s, chance, forms[0], forms[0], suite);
            for (int n = 1; n < 4; n++) {
                play(&weak, s, chance, forms[n % 2], forms[n / 2], suite);
                assert_int_equal(weak.count, real.count);
                for (size_t f = 0; f < real.count; f++) {
                    assert_int_equal(weak.frame[f].size, real.frame[f].size);
                    assert_memory_equal(weak.frame[f].b, real.frame[f].b, real.frame[f].size);
                }
            }
            scene_free(s);
        }
}

/* A changed frame is refused by both or by neither, and for the same reason where it is one of
 * cryptography. */
static void it_refuses_what_the_real_one_does(void **state)
{
    (void)state;
    const struct attack_context c = {.kind = CREDENTIAL_IMPLICIT, .seed = 6};
    struct scene *s = scene_new(&c, 0);
    struct frame bent, reply;
    scene_open(s);
    for (int n = 0; n < SCENE_FLIGHTS; n++)
        for (size_t at = 0; at < s->flight[n].size; at++) {
            enum channel_event event[2];
            enum channel_fault why[2];
            for (int form = 0; form < 2; form++) {
                struct party *to = n % 2 == 0 ? &s->r : &s->i;
                *to = n % 2 == 0 ? s->r_at[n] : s->i_at[n];
                to->form = form == 0 ? &channel_form_real : &channel_form_weak;
                frame_copy(&bent, &s->flight[n]);
                bent.b[at] ^= (uint8_t)(1u << (at % 8));
                event[form] = deliver(to, &bent, &reply).event;
                why[form] = channel_why(&to->channel);
            }
            assert_int_equal(event[0], event[1]);
            if (why[0] >= FAULT_POINT)
                assert_int_equal(why[0], why[1]);
        }
    scene_free(s);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_nothing_left_out_it_is_the_real_one),
        cmocka_unit_test(it_refuses_what_the_real_one_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
