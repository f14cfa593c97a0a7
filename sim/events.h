/* sim/events.h - what is going to happen, in order of virtual time.
 *
 * Events of one instant happen in the order in which they were scheduled, so a run is the same
 * every time.
 */
#ifndef AMI_SIM_EVENTS_H
#define AMI_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_event_type {
    SIM_FRAME = 1,   /* a frame arrives at an end of a link */
    SIM_OPEN,        /* a link is open at this end */
    SIM_CLOSED,      /* a link is closed at this end */
    SIM_BREAK,       /* a link breaks: nothing came through for too long */
    SIM_WRITABLE,    /* a link has room again */
    SIM_DIAL,        /* a host tries to open a link */
    SIM_WORK,        /* a job is done */
    SIM_STORED,      /* a write is done */
    SIM_ALARM,       /* a host's alarm; number: the instant asked for */
    SIM_METER_ALARM, /* one meter's; link: its index in the fleet */
    SIM_MEASURE,     /* a meter makes a report; link: its index */
    SIM_START,       /* a host starts again */
    SIM_DIE,         /* a host dies */
    SIM_ENROL,       /* a meter asks for its next keys (again); link: its index */
    SIM_FAULT,       /* the fault injector's turn */
    SIM_CHANGE,      /* the operator's turn */
    SIM_MISCHIEF     /* a Byzantine DC's turn */
};

/* Bytes on their way. */
struct sim_frame {
    size_t size;
    uint8_t bytes[];
};

struct sim_event {
    uint64_t at_us, order;
    uint8_t type;
    uint16_t host;
    uint32_t life; /* of that host; an event of another life is void (0: of any) */
    uint64_t link; /* end of a link, or a number of the type's own */
    union {
        struct sim_frame *frame;
        struct {
            void (*run)(void *job);
            void *job;
        } work;
        void *write;
        uint64_t number;
    } u;
};

struct sim_events {
    struct sim_event *heap;
    size_t size, capacity;
    uint64_t order;
};

void sim_events_push(struct sim_events *q, struct sim_event e);
/* An event that was taken out happens later, still before those that were scheduled after it for
 * that instant. */
void sim_events_defer(struct sim_events *q, struct sim_event e, uint64_t at_us);
/* NULL: nothing is going to happen. */
const struct sim_event *sim_events_next(const struct sim_events *q);
struct sim_event sim_events_pop(struct sim_events *q);
void sim_events_free(struct sim_events *q);

#endif
