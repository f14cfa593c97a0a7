/* sim/medium.h - the narrow, lossy medium between meters and data concentrators.
 *
 * One medium is one wire or radio channel that all frames of a fleet share, both ways: whoever
 * sends occupies it (half-duplex), the others wait in line. A frame is cut into fragments; each is
 * sent over every hop and, if it is lost there, again, up to `tries` times; then the whole frame is
 * lost. Losses come in bursts (Gilbert-Elliott: in the bad state all is lost, in the good state
 * nothing; the state moves with each fragment sent). Latency of a hop is what a frame waits there
 * without occupying the medium. Figures of real networks are in sim/lab/links.c.
 */
#ifndef AMI_SIM_MEDIUM_H
#define AMI_SIM_MEDIUM_H

#include "sim/random.h"

struct sim_medium {
    uint32_t rate_bps;                       /* 0: no such medium */
    uint16_t fragment_bytes, overhead_bytes; /* payload of a fragment; what is sent around it */
    uint8_t hops;                            /* from 1 */
    uint8_t tries;                           /* of a fragment on one hop, from 1 */
    uint32_t hop_us_min, hop_us_max;
    uint32_t loss_ppm;        /* of fragments on one hop, in the long run; below a million */
    uint32_t burst_fragments; /* mean length of a burst, from 1 */
};

struct sim_medium_state {
    bool bad;
    uint64_t free_us; /* when what was handed over so far has been sent */
    uint64_t airtime_us, frames, frames_lost, bytes, fragments, fragments_repeated;
};

/* Airtime of one fragment with so much payload over one hop. */
uint64_t sim_medium_fragment_us(const struct sim_medium *m, size_t payload);
/* Airtime of a frame over all hops when nothing is lost. */
uint64_t sim_medium_frame_us(const struct sim_medium *m, size_t size);
/* Hands over a frame; when it arrives. `reliable`: sent until it gets through. False: it is lost
 * (the medium was occupied all the same). */
bool sim_medium_send(struct sim_medium_state *s, const struct sim_medium *m, struct sim_random *r,
                     uint64_t now_us, size_t size, bool reliable, uint64_t *at_us);

#endif
