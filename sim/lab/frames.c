#include "sim/lab/frames.h"

#include "base/check.h"
#include "wire/codec.h"

/* Fields of a message, counted in the table of the wire format. */
#define ONE(kind, name, a, b, meaning) +1
enum {
    FLIGHT1_FIELDS = 0 AMI_FIELDS_agree_flight1(ONE),
    FLIGHT2_FIELDS = 0 AMI_FIELDS_agree_flight2(ONE),
    FLIGHT3_FIELDS = 0 AMI_FIELDS_agree_flight3(ONE),
    REFUSED_FIELDS = 0 AMI_FIELDS_refused(ONE)
};

#define FRAME_ROOM 1024

static struct lab_frame_size size_of(const char *name, const char *from, unsigned fields,
                                     const struct writer *w, size_t scheme_bytes)
{
    AMI_CHECK(writer_ok(w));
    return (struct lab_frame_size){name, from, fields, w->size, scheme_bytes};
}

void lab_frames_measure(struct lab_frame_size out[LAB_FRAMES], struct lab_pair *p)
{
    uint8_t bytes[FRAME_ROOM];
    lab_pair_agree(p);

    struct agree_flight1 f1 = agree_flight1_of(&p->state, p->meter);
    struct writer w = writer_on(bytes, sizeof bytes);
    frame_begin(&w, MSG_AGREE_FLIGHT1);
    agree_flight1_encode(&w, &f1);
    out[LAB_FRAME_FLIGHT1] = size_of("flight 1", "meter", FLIGHT1_FIELDS, &w, f1.flight.size);

    struct refused r = {.meter = f1.meter,
                        .tag = f1.tag,
                        .status = AMI_NOT_LEADER,
                        .has_other = true,
                        .other.dc = p->dc->name};
    w = writer_on(bytes, sizeof bytes);
    frame_begin(&w, MSG_REFUSED);
    refused_encode(&w, &r);
    out[LAB_FRAME_REDIRECT] = size_of("redirection", "another DC", REFUSED_FIELDS, &w, 0);

    struct agree_flight2 f2 = agree_flight2_of(&p->request[0].terms, &p->answer[0]);
    w = writer_on(bytes, sizeof bytes);
    frame_begin(&w, MSG_AGREE_FLIGHT2);
    agree_flight2_encode(&w, &f2);
    out[LAB_FRAME_FLIGHT2] = size_of("flight 2", "leader", FLIGHT2_FIELDS, &w, f2.flight.size);

    struct agree_flight3 f3 = agree_flight3_of(&p->result);
    w = writer_on(bytes, sizeof bytes);
    frame_begin(&w, MSG_AGREE_FLIGHT3);
    agree_flight3_encode(&w, &f3);
    out[LAB_FRAME_FLIGHT3] = size_of("flight 3", "meter", FLIGHT3_FIELDS, &w, f3.flight.size);
}
