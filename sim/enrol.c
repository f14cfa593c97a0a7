/* sim/enrol.c - a device gets keys while the network runs: protocol.md section 3.
 *
 * The operator has a code made in the MDMS's store, as `ami-mdms codes` does beside the running
 * MDMS; the device draws its keys and keeps what it drew, as on a disk; it asks until the MDMS,
 * which may be away, out of reach or restarted, has answered. A DC asks the MDMS itself, a meter
 * through a DC (fleet.c). Both sides are the production code. */
#include "sim/world.h"

#include "base/check.h"

#include <stdlib.h>

#define ASK_AGAIN_US (500 * SIM_MS)

struct enrol_pending *sim_enrol_begin(struct sim_world *w, enum enrol_role role,
                                      const struct ami_id *name, uint32_t epoch,
                                      const struct ami_id *home)
{
    const struct network *net = &w->cast->keys.net;
    struct sim_random r = sim_random_stream(w->plan.seed, SIM_STREAM_CHANGES, w->now_us);
    struct sim_host *mdms = &w->host[w->host_count - 1];
    struct install_code code;
    uint8_t random[4][SM2_WIDE_BYTES];
    struct enrol_pending *p = malloc(sizeof *p);
    AMI_CHECK(p != NULL);
    sim_random_bytes(&r, &code, sizeof code);
    sim_random_bytes(&r, random, sizeof random);
    sm3_digest hash = install_code_hash(&code, role, name);
    sim_code_put(mdms->as.mdms->kv, net, role, name, home, &hash, random[3]);
    AMI_CHECK(enrol_begin(p, net, role, name, epoch, &hash,
                          (const uint8_t(*)[SM2_WIDE_BYTES])random) == AMI_OK);
    return p;
}

struct device_keys *sim_enrol_finish(struct sim_world *w, const struct enrol_pending *pending,
                                     struct span body)
{
    struct enrol_reply reply;
    struct device_keys *keys = malloc(sizeof *keys);
    AMI_CHECK(keys != NULL);
    if (enrol_reply_parse(&reply, body) == AMI_OK &&
        enrol_finish(keys, pending, &w->cast->keys.net, &reply) == AMI_OK)
        return keys;
    free(keys);
    return NULL;
}

/* --- a DC ------------------------------------------------------------------------------------ */

static void dial_after(struct sim_host *h, uint64_t after_us)
{
    struct sim_dc *d = h->as.dc;
    if (!h->up || d->dialling_mdms || d->to_mdms != 0)
        return;
    d->dialling_mdms = true;
    sim_net_dial(h, (uint16_t)(h->world->host_count - 1), SIM_PORT_ENROL, SIM_NOBODY, after_us);
}

void sim_enrol_dial(struct sim_host *h)
{
    dial_after(h, 1);
}

void sim_enrol_on_open(struct sim_host *h, env_link link)
{
    struct sim_dc *d = h->as.dc;
    const struct enrol_pending *p = h->world->name[d->number].pending;
    uint8_t frame[ENROL_REQUEST_BYTES_MAX + 2];
    d->dialling_mdms = false;
    d->to_mdms = link;
    if (p == NULL) { /* the other copy has it */
        sim_net_close(h, link);
        return;
    }
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ENROL_REQUEST);
    write_raw(&w, p->request, p->request_size);
    AMI_CHECK(writer_ok(&w));
    (void)sim_net_send_raw(h, link, writer_span(&w), 0); /* lost: on_closed asks again */
}

void sim_enrol_on_frame(struct sim_host *h, env_link link, struct span frame)
{
    struct sim_world *w = h->world;
    struct sim_name *n = &w->name[h->as.dc->number];
    enum message_type type;
    struct span body;
    /* Whatever came, this link is done: a refusal is asked about again on the next one. */
    sim_net_close(h, link);
    if (n->pending == NULL || w->now_us < n->deaf_until_us ||
        frame_open(frame, &type, &body) != AMI_OK || type != MSG_ENROL_REPLY)
        return;
    struct device_keys *keys = sim_enrol_finish(w, n->pending, body);
    if (keys == NULL)
        return;
    AMI_CHECK(n->keys < SIM_KEYS_MAX && keys->epoch == n->keys + 1);
    n->key[n->keys++] = keys;
    free(n->pending);
    n->pending = NULL;
    sim_tell(w, h, "has its key of epoch %u", (unsigned)keys->epoch);
    sim_changes_on_key(w, h->as.dc->number);
}

void sim_enrol_on_closed(struct sim_host *h)
{
    h->as.dc->to_mdms = 0;
    if (h->world->name[h->as.dc->number].pending != NULL)
        dial_after(h, ASK_AGAIN_US);
}
