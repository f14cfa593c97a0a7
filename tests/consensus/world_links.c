#include "tests/consensus/world_internal.h"

#define SERVE_MAX 64

static void deliver_frame(struct world *w, uint8_t from, uint8_t to, struct frame *f,
                          uint64_t after_us)
{
    f->refs++;
    world_push(
        w, (struct world_event){
               .at_us = w->now + after_us, .type = EV_FRAME, .node = to, .from = from, .frame = f});
}

void world_release(struct frame *f)
{
    if (f != NULL && --f->refs == 0)
        free(f);
}

static struct frame *frame_of(struct span s)
{
    struct frame *f = must(malloc(sizeof *f + s.size));
    f->refs = 1;
    f->size = s.size;
    memcpy(f->data, s.data, s.size);
    return f;
}

static void send_one(struct world *w, uint8_t from, uint8_t to, struct frame *f)
{
    struct world_frame seen = {from, to, (enum message_type)f->data[1], span_of(f->data, f->size)};
    if (w->filter != NULL && !w->filter(w, w->filter_ctx, &seen))
        return;
    if (w->cut[from][to])
        return;
    unsigned copies = !w->quiet && world_chance(w, w->o.dup_percent, 100) ? 2 : 1;
    for (unsigned c = 0; c < copies; c++)
        if (w->quiet || !world_chance(w, w->o.loss_percent, 100))
            deliver_frame(w, from, to, f, world_delay(w, w->o.delay_mean_us, 1000));
}

void world_inject(struct world *w, uint8_t from, uint8_t to, struct span frame, uint64_t after_us)
{
    struct frame *f = frame_of(frame);
    deliver_frame(w, from, to, f, after_us);
    world_release(f);
}

void world_send_many(struct world *w, uint8_t from, uint32_t to, struct span frame)
{
    struct frame *f = frame_of(frame);
    world_add_to_trace(w, frame.data, frame.size);
    for (uint8_t i = 0; i < world_nodes(w); i++)
        if ((to >> world_member(w, i) & 1) != 0)
            send_one(w, from, i, f);
    world_release(f);
}

static void send_to(struct world *w, uint8_t from, uint8_t to, struct span frame)
{
    struct frame *f = frame_of(frame);
    world_add_to_trace(w, frame.data, frame.size);
    send_one(w, from, to, f);
    world_release(f);
}

static void serve_block(struct world *w, uint8_t from, uint8_t to, const struct stored *s)
{
    static uint8_t bytes[FRAME_BYTES_MAX];
    static struct certified_block b;
    b.header = s->header;
    AMI_CHECK(qc_parse(&b.commit, s->qc) == AMI_OK);
    b.body = s->body;
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_BLOCK);
    certified_block_encode(&out, &b);
    AMI_CHECK(writer_ok(&out));
    send_to(w, from, to, writer_span(&out));
}

void world_serve(struct world *w, uint8_t i, uint8_t from, enum message_type type, struct span body)
{
    struct node *n = &w->node[i];
    struct fetch_blocks f;
    struct fetch_body b;
    if (type == MSG_FETCH_BLOCKS && fetch_blocks_parse(&f, body) == AMI_OK) {
        for (uint64_t k = 0; k < f.count_max && k < SERVE_MAX; k++)
            if (f.from_height + k >= 1 && f.from_height + k <= n->height)
                serve_block(w, i, from, n->chain[f.from_height + k - 1]);
    } else if (type == MSG_FETCH_BODY && fetch_body_parse(&b, body) == AMI_OK) {
        static uint8_t bytes[FRAME_BYTES_MAX];
        const struct stored *s = world_find_kept(n, &b.block);
        if (s == NULL)
            return;
        struct body_reply reply = {.header = s->header, .body = s->body};
        struct writer out = writer_on(bytes, sizeof bytes);
        frame_begin(&out, MSG_BODY);
        body_reply_encode(&out, &reply);
        send_to(w, i, from, writer_span(&out));
    }
}

void world_cut(struct world *w, unsigned a, unsigned b, bool cut)
{
    w->cut[a][b] = cut;
}

void world_isolate(struct world *w, uint32_t group)
{
    for (unsigned a = 0; a < world_nodes(w); a++)
        for (unsigned b = 0; b < world_nodes(w); b++)
            w->cut[a][b] = (group >> a & 1) != (group >> b & 1);
}

void world_set_filter(struct world *w, world_filter filter, void *ctx)
{
    w->filter = filter;
    w->filter_ctx = ctx;
}
