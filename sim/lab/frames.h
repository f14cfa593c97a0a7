/* sim/lab/frames.h - the frames of an agreement as they travel, for any scheme. */
#ifndef AMI_SIM_LAB_FRAMES_H
#define AMI_SIM_LAB_FRAMES_H

#include "sim/lab/pair.h"

enum lab_frame {
    LAB_FRAME_FLIGHT1,
    LAB_FRAME_REDIRECT, /* only when the meter asked a DC that does not lead */
    LAB_FRAME_FLIGHT2,
    LAB_FRAME_FLIGHT3,
    LAB_FRAMES
};

struct lab_frame_size {
    const char *name, *from;
    unsigned fields;     /* of the message in wire/table.h */
    size_t frame_bytes;  /* on the wire, with the frame's head */
    size_t scheme_bytes; /* of these the scheme's own values */
};

/* Runs one agreement and encodes its frames. */
void lab_frames_measure(struct lab_frame_size out[LAB_FRAMES], struct lab_pair *p);

#endif
