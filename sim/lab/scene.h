/* sim/lab/scene.h - two DCs about to open a channel, and Mallory, for attacks on it.
 *
 * Credentials are of the attacked kind, from issuers that all trust. dc-1 dials. In a control the
 * two speak the weakened channel, without what scene_new was told; else the real one.
 */
#ifndef AMI_SIM_LAB_SCENE_H
#define AMI_SIM_LAB_SCENE_H

#include "sim/lab/attack.h"
#include "sim/lab/link_x509.h"
#include "sim/lab/realm.h"
#include "sim/lab/weak_channel.h"

#define SCENE_FLIGHTS 4 /* three, and READY */

struct scene {
    enum credential_kind kind;
    const struct channel_form *form; /* what honest sides speak */
    struct realm realm;
    struct link_x509 x509;                 /* under X.509 */
    struct x509_trust *x509_trust;         /* NULL but under X.509 */
    struct credential dc_1, dc_2, mallory; /* hers is an operator's, with the lowest label */
    struct party i, r;                     /* dc-1, dc-2 */
    /* Of scene_open: what travelled, and both sides as they were before each frame. */
    struct frame flight[SCENE_FLIGHTS];
    struct party i_at[SCENE_FLIGHTS], r_at[SCENE_FLIGHTS];
};

struct scene *scene_new(const struct attack_context *c, unsigned without);
void scene_free(struct scene *s);

/* A root of its own, valid around the scene's time. */
void scene_x509_make(struct link_x509 *out);
/* Of the attacked kind; `label` NULL: a DC's. */
void scene_credential(struct scene *s, struct credential *out, const char *name, const char *label);
/* Somebody who speaks what the two speak, and trusts whom they trust. */
void scene_party(const struct scene *s, struct party *p, const struct credential *own);
/* Shows the one's credential and signs with the other's key. */
void scene_impostor(struct credential *out, const struct credential *shown,
                    const struct credential *key);

/* An honest handshake of i and r. */
void scene_open(struct scene *s);
/* The same with this record suite alone. */
void scene_open_under(struct scene *s, uint8_t suite);
/* A frame that may be kept arrives. False: it was refused, or nothing to be read came of it. */
bool scene_takes(struct party *p, const struct frame *f, char *text, size_t text_size);
/* Why a side has refused: "signature". */
const char *scene_why(const struct party *p);

#endif
