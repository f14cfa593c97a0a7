#include "sim/lab/scene.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void scene_x509_make(struct link_x509 *out)
{
    const int64_t now_s = SUITE_WALL_MS / 1000;
    link_x509_make(out, LINK_X509_SM2, now_s - 1000, now_s + 1000);
}

void scene_credential(struct scene *s, struct credential *out, const char *name, const char *label)
{
    if (s->kind == CREDENTIAL_X509)
        link_x509_credential(out, &s->x509, &s->realm.mdms.net, name, label);
    else
        realm_credential(&s->realm, out, s->kind, name, label, 0, 0);
}

void scene_party(const struct scene *s, struct party *p, const struct credential *own)
{
    party_make(p, &s->realm, own);
    p->form = s->form;
    p->trust.x509 = s->x509_trust;
}

struct scene *scene_new(const struct attack_context *c, unsigned without)
{
    struct scene *s = calloc(1, sizeof *s);
    AMI_CHECK(s != NULL);
    weak_channel_without(c->control ? without : 0);
    s->form = c->control ? &channel_form_weak : &channel_form_real;
    s->kind = c->kind;
    realm_make(&s->realm, "laboratory", c->seed);
    if (s->kind == CREDENTIAL_X509) {
        scene_x509_make(&s->x509);
        s->x509_trust = link_x509_trust(&s->x509);
    }
    scene_credential(s, &s->dc_1, "dc-1", NULL);
    scene_credential(s, &s->dc_2, "dc-2", NULL);
    scene_credential(s, &s->mallory, "mallory", "0:");
    scene_party(s, &s->i, &s->dc_1);
    scene_party(s, &s->r, &s->dc_2);
    return s;
}

void scene_free(struct scene *s)
{
    if (s->kind == CREDENTIAL_X509) {
        x509_trust_free(s->x509_trust);
        link_x509_free(&s->x509);
    }
    free(s);
}

void scene_impostor(struct credential *out, const struct credential *shown,
                    const struct credential *key)
{
    *out = *shown;
    out->key = key->key;
}

void scene_open(struct scene *s)
{
    struct frame wire, last;
    pair_start(&s->i, &s->r, &s->realm, &s->flight[0]);
    for (int n = 0; n < SCENE_FLIGHTS; n++) {
        s->i_at[n] = s->i;
        s->r_at[n] = s->r;
        frame_copy(&wire, &s->flight[n]);
        struct channel_result result = deliver(n % 2 == 0 ? &s->r : &s->i, &wire,
                                               n + 1 < SCENE_FLIGHTS ? &s->flight[n + 1] : &last);
        AMI_CHECK(result.event != CHANNEL_FAILED);
    }
    AMI_CHECK(s->i.channel.state == CHANNEL_UP && s->r.channel.state == CHANNEL_UP);
}

void scene_open_under(struct scene *s, uint8_t suite)
{
    s->i.config.suites = suite;
    scene_open(s);
    AMI_CHECK(s->r.channel.suite == suite);
}

bool scene_takes(struct party *p, const struct frame *f, char *text, size_t text_size)
{
    struct frame wire, reply;
    frame_copy(&wire, f);
    struct channel_result result = deliver(p, &wire, &reply);
    if (result.event != CHANNEL_DATA || result.data.size >= text_size)
        return false;
    memcpy(text, result.data.data, result.data.size);
    text[result.data.size] = 0;
    return true;
}

const char *scene_why(const struct party *p)
{
    return channel_fault_name(channel_why(&p->channel));
}
