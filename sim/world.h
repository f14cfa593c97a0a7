/* sim/world.h - one simulated network: hosts, links, time. What the files of the simulator share.
 *
 *   random.c    chance            events.c   what happens next
 *   cast.c      keys, genesis     disk.c, kv.c  storage of DCs and of the MDMS
 *   world.c     hosts: clocks, starts, crashes, pauses; the loop
 *   net.c       links between hosts, with all that can go wrong on them
 *   dials.c     links to DCs that a fleet or the MDMS keeps open
 *   medium.c    the narrow medium that meters share, when a plan has one
 *   dc.c, fleet.c, mdms.c   the shells around the three cores: the objects of the processes
 *   enrol.c     a device gets keys while the network runs
 *   changes.c   what the operator asks for: DCs join, leave, rotate; meters renew, are revoked
 *   faults.c    what goes wrong and when, drawn from the seed
 *   byzantine.c what a lying DC does (liars.h)
 *   checks.c    the invariants (checks.h); they see frames that left, disks, what meters believe
 *   run.c       a whole run: safety phase, liveness phase, verdict
 *   hunt.c      many runs
 *
 * Everything that chance decides comes from streams of one seed; nothing depends on addresses,
 * the real time or the machine, so the same seed and program give the same run, bit for bit.
 */
#ifndef AMI_SIM_WORLD_H
#define AMI_SIM_WORLD_H

#include "base/env.h"
#include "base/table.h"
#include "mdms/core.h"
#include "meter/core.h"
#include "node/core.h"
#include "sim/cast.h"
#include "sim/disk.h"
#include "sim/events.h"
#include "sim/plan.h"
#include "sim/random.h"

#define SIM_MS       UINT64_C(1000)
#define SIM_SECOND   UINT64_C(1000000)
#define SIM_MEMBERS  AMI_MEMBERS_MAX
#define SIM_DCS_MAX  32 /* by name; those that are no members at first come last */
#define SIM_NOBODY   0xff
#define SIM_HELD     16
#define SIM_KEYS_MAX 6 /* key epochs of a device in one run */
_Static_assert(SIM_DCS_MAX <= METER_DCS, "a fleet never gives a place away");

enum sim_host_kind { SIM_DC = 1, SIM_FLEET, SIM_MDMS };

/* Names of streams. */
enum {
    SIM_STREAM_PLAN = 10,
    SIM_STREAM_NET,
    SIM_STREAM_FAULTS,
    SIM_STREAM_HOST,
    SIM_STREAM_MISCHIEF,
    SIM_STREAM_CHANGES
};

/* One process on a machine of its own. */
struct sim_host {
    struct sim_world *world;
    uint16_t index;
    enum sim_host_kind kind;
    bool up;
    uint32_t life;         /* of this start; events of other lives are void */
    uint64_t paused_until; /* 0: it runs */
    uint64_t alarm_us;     /* on the world's clock; UINT64_MAX: none */
    struct sim_random random;
    /* Its clocks: own = own_base + (now - base) * (1 + drift). */
    uint64_t clock_base_us, own_base_us;
    int32_t drift_ppm;
    int64_t wall_offset_ms;
    uint64_t disk_free_us; /* when the writes given so far are done */
    union {
        struct sim_dc *dc;
        struct sim_fleet *fleet;
        struct sim_mdms *mdms;
    } as;
};

/* One end of a link. */
struct sim_end {
    env_link other;
    uint16_t host;
    uint32_t life; /* of that host */
    bool open, starved, breaking;
    bool datagrams;  /* DC to DC: frames may be lost, repeated and overtake each other */
    uint8_t greeted; /* frames sent so far: the first ones are never lost, as TCP's would not be */
    uint8_t
        member;   /* whom the dialler wanted: a DC's number, a fleet's place, a slot of the MDMS */
    uint8_t port; /* at this end: enum node_port, or a number of the host's own */
    uint64_t queued; /* bytes sent from this end and not arrived */
    uint64_t last_us;
    uint64_t clogged_until_us;
};

struct sim_counters {
    uint64_t events, frames, frames_lost, frames_repeated, commits;
    uint64_t elections, attempts; /* leaders that led; DCs that asked for pre-votes */
    uint64_t reports_made, reports_acknowledged;
    uint64_t fault[SIM_FAULT_KINDS], mischief[SIM_MISCHIEF_KINDS], rare[SIM_RARE_KINDS];
    uint64_t change[SIM_CHANGE_KINDS];
};

struct sim_checks;
struct sim_changes;
struct sim_epoch;
struct sim_meter;
struct sim_world;

/* A DC by its name, and the keys in its folder. Two copies that run at once share them. */
struct sim_name {
    struct ami_id name;
    bool liar;
    unsigned keys;                               /* key epochs 1 to `keys` */
    const struct device_keys *key[SIM_KEYS_MAX]; /* [epoch - 1] */
    struct enrol_pending *pending;               /* asks for the next one; NULL: does not */
    uint64_t deaf_until_us;                      /* answers to that are lost */
};

/* Somebody who looks on and changes nothing: the laboratory. Functions may be NULL. */
struct sim_watch {
    void *ctx;
    /* A frame leaves `from`, arrives at `to`. */
    void (*sent)(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame);
    void (*arrived)(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame);
    void (*noted)(void *ctx, struct sim_meter *m, enum meter_note_kind kind, uint64_t value);
    void (*said)(void *ctx, struct sim_host *dc, const char *event, const char *detail);
    /* From here on a DC's code runs; NULL: no more. */
    void (*turn)(void *ctx, struct sim_host *dc);
    /* A write is on a DC's disk; its height before. */
    void (*stored)(void *ctx, struct sim_host *dc, uint64_t before);
};

struct sim_world {
    struct sim_plan plan;
    const struct sim_cast *cast;
    struct sim_events events;
    uint64_t now_us;
    bool quiet; /* the liveness phase: no more faults */
    uint64_t quiet_since_us;

    /* DCs come first, in the order of their numbers, then the second copies of some, then fleets,
     * then the MDMS. */
    uint16_t host_count, dcs, fleets;
    unsigned names; /* DCs without the copies */
    struct sim_name name[SIM_DCS_MAX];
    struct sim_host *host;
    uint8_t *cut; /* [from * host_count + to]: nothing gets through */
    struct sim_end *end;
    size_t ends, ends_capacity;

    struct sim_random net, faults, mischief;
    struct sim_changes *changes;
    struct sim_counters count;
    struct sim_checks *checks;
    uint64_t trace;                /* hash of all that happened */
    FILE *trace_to;                /* NULL: no lines */
    const struct sim_watch *watch; /* NULL: nobody */
    char violation[16 + 240];      /* "name: what"; empty: none */
    /* With more than f liars a fork is what must come; the run goes on until the two sides have
     * met, to see whom they name for it. */
    char fork[16 + 240];
    struct qc held[SIM_HELD]; /* certificates at the hands of all liars that collude; a ring */
    size_t held_count;
    uint32_t convicted; /* DCs that honest ones have evidence against */
};

/* --- world.c --------------------------------------------------------------------------------- */

struct sim_world *sim_world_new(const struct sim_plan *plan, FILE *trace_to);
void sim_world_free(struct sim_world *w);
/* The next event, if it is due before `until_us`; otherwise time moves there. False: nothing was
 * due. */
bool sim_world_step(struct sim_world *w, uint64_t until_us);
void sim_world_run(struct sim_world *w, uint64_t until_us); /* or until a violation */
/* SIM_NOBODY: nobody is called so. */
uint8_t sim_number_of(const struct sim_world *w, const struct ami_id *dc);
/* Whom one reaches at that DC's address: either copy when two run. */
uint16_t sim_host_of(struct sim_world *w, uint8_t number);

void sim_host_start(struct sim_host *h);
/* What was not durable is lost; how much of what was under way is drawn. */
void sim_host_crash(struct sim_host *h);
void sim_host_on_event(struct sim_host *h, const struct sim_event *e); /* by its kind */
void sim_host_pause(struct sim_host *h, uint64_t until_us);
void sim_host_step_clock(struct sim_host *h, int64_t by_ms);
uint64_t sim_host_mono_us(const struct sim_host *h);
/* The first instant of the world at which the host's clock shows at least `own_us`. */
uint64_t sim_host_world_us(const struct sim_host *h, uint64_t own_us);
int64_t sim_host_wall_ms(const struct sim_host *h);
/* When a write of this host that is handed over now is done; writes are done in order. */
uint64_t sim_host_disk_us(struct sim_host *h);
/* The environment's functions that are the same for all; the rest is the kind's. */
struct env sim_host_env(struct sim_host *h);
void sim_push_for(struct sim_host *h, struct sim_event e, uint64_t at_us); /* of its present life */

/* A line of the trace, when somebody reads it. */
void sim_tell(struct sim_world *w, const struct sim_host *h, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void sim_trace_bytes(struct sim_world *w, const void *data, size_t size);
void sim_trace_number(struct sim_world *w, uint64_t number);
/* The first one counts. */
void sim_violate(struct sim_world *w, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *sim_host_name(const struct sim_host *h, char out[24]);

/* --- net.c ----------------------------------------------------------------------------------- */

enum sim_port { SIM_PORT_PEER = NODE_PORT_PEER, SIM_PORT_METER = NODE_PORT_METER, SIM_PORT_ENROL };

/* Opens a link to this host, at that port of it: tries again until it is open, or the host wants
 * it no more (sim_dc_dials, sim_dials_wants). */
void sim_net_dial(struct sim_host *from, uint16_t to, enum sim_port port, uint8_t member,
                  uint64_t after_us);
enum ami_status sim_net_send(struct sim_host *h, env_link link, struct span frame);
/* The same past the Byzantine DC that sits there, after some more time. */
enum ami_status sim_net_send_raw(struct sim_host *h, env_link link, struct span frame,
                                 uint64_t more_us);
void sim_net_close(struct sim_host *h, env_link link);
void sim_net_on_event(struct sim_world *w, const struct sim_event *e);
void sim_net_drop_host(struct sim_host *h); /* its links end: it crashed */
void sim_net_release(const struct sim_event *e);
void sim_net_cut(struct sim_world *w, uint16_t from, uint16_t to, bool cut);
bool sim_net_is_cut(const struct sim_world *w, uint16_t from, uint16_t to);
void sim_net_heal(struct sim_world *w);

/* --- dials.c --------------------------------------------------------------------------------- */

/* Links to DCs that a host keeps open, each at a place of its own. */
#define SIM_DIALS_MAX MDMS_DCS_MAX
struct sim_dials {
    enum sim_port port;
    uint8_t number[SIM_DIALS_MAX]; /* which DC is wanted there; SIM_NOBODY: none */
    bool under_way[SIM_DIALS_MAX];
    env_link link[SIM_DIALS_MAX]; /* 0: none */
};
void sim_dials_init(struct sim_dials *d, enum sim_port port); /* nobody is wanted */
/* Unless there is a link, or one under way. */
void sim_dials_dial(struct sim_host *h, struct sim_dials *d, uint8_t place, uint64_t after_us);
void sim_dials_again(struct sim_host *h, struct sim_dials *d, uint8_t place); /* in a while */
/* Its time has come: whether this one is still wanted there. Whoever else is gets dialled. */
bool sim_dials_wants(struct sim_host *h, struct sim_dials *d, uint16_t to, uint8_t place);
/* A link is open. False: to somebody who is not wanted any more; it has to be closed. */
bool sim_dials_opened(struct sim_host *h, struct sim_dials *d, env_link link);
/* False: it was not the one of its place. */
bool sim_dials_lost(struct sim_dials *d, uint8_t place, env_link link);

/* --- dc.c ------------------------------------------------------------------------------------ */

struct sim_dc {
    struct node *node; /* NULL while it is down */
    struct registry *registry;
    struct sim_disk *disk;
    uint8_t number;
    bool twin;                       /* second copy of a DC */
    bool honest;                     /* judged by the checks */
    bool muted;                      /* lost its vote record: rule 11 */
    bool key_missing;                /* it is to vote with a key that is not in its folder */
    bool retired;                    /* switched off for good */
    uint64_t leads_since_us;         /* 0: it does not lead */
    uint64_t commits_since_us;       /* as a leader; 0: it has committed nothing */
    bool wiped;                      /* lost its disk once */
    uint32_t key_epoch;              /* of the key that it uses */
    uint32_t key_lost;               /* with this one it lost its record; 0: never */
    uint64_t starts[SIM_KEYS_MAX];   /* in its key files */
    enum ami_status disk_status;     /* of writes */
    struct sim_byzantine *byzantine; /* NULL: an honest one */
    struct {
        struct node_write *write;
        uint64_t number;
    } write[8]; /* under way, in order */
    size_t writes;
    uint64_t write_number;
    struct vote_record loaded;
    struct qc tip_commit;
    env_link to_host[2 * SIM_DCS_MAX]; /* links that this DC dialled, by host; 0: none */
    uint64_t dialling;                 /* bit k: a link to host k is on its way */
    uint32_t wanted;                   /* bit k: the DC of this number is to be dialled */
    env_link to_mdms;                  /* while it enrols; 0: none */
    bool dialling_mdms;
};
void sim_dc_new(struct sim_host *h, uint8_t number, bool twin);
void sim_dc_free(struct sim_host *h);
void sim_dc_start(struct sim_host *h);
void sim_dc_crash(struct sim_host *h);
void sim_dc_on_event(struct sim_host *h, const struct sim_event *e);
/* A link to this host was to be opened: is it still? */
bool sim_dc_dials(struct sim_host *h, uint16_t to);
bool sim_dc_runs(const struct sim_host *h);
/* Honest, and to be up when faults have stopped. */
bool sim_dc_counts(const struct sim_host *h);

/* --- enrol.c --------------------------------------------------------------------------------- */

/* The operator has a code made, `home` (or NULL) being wanted as the meter's home DC, and the
 * device draws keys for this epoch. The caller frees what is returned. */
struct enrol_pending *sim_enrol_begin(struct sim_world *w, enum enrol_role role,
                                      const struct ami_id *name, uint32_t epoch,
                                      const struct ami_id *home);
/* A DC whose `pending` is set asks the MDMS until it has an answer. */
void sim_enrol_dial(struct sim_host *h);
void sim_enrol_on_open(struct sim_host *h, env_link link);
void sim_enrol_on_frame(struct sim_host *h, env_link link, struct span frame);
void sim_enrol_on_closed(struct sim_host *h);
/* The answer, if it is one: what the device has now; the caller frees it. NULL: it asks on. */
struct device_keys *sim_enrol_finish(struct sim_world *w, const struct enrol_pending *pending,
                                     struct span body);

/* --- fleet.c --------------------------------------------------------------------------------- */

/* A report that was made and is durable. */
struct sim_report {
    uint64_t sequence;
    uint64_t made_us, acknowledged_us; /* 0: not yet */
    uint64_t height; /* of the block in which an honest DC had it first; 0: in none yet */
    sm3_digest commitment;
    uint16_t size;
    bool settled; /* durably */
    uint8_t *record;
};
/* The reports made with one key. */
struct sim_book {
    struct sim_report *report; /* [sequence - 1] */
    size_t reports, reports_capacity;
    size_t settled_below; /* every report before this index is settled */
    size_t open;          /* made, not settled */
    uint64_t revoked_at;  /* height; 0: the key is good */
};
struct sim_meter {
    struct meter core;
    struct sim_host *host;
    size_t number; /* in the cast */
    uint64_t alarm_us;
    uint32_t epoch; /* of its key */
    const struct device_keys *key[SIM_KEYS_MAX];
    struct sim_book book[SIM_KEYS_MAX]; /* [epoch - 1] */
    bool renews;                        /* makes no reports until all are acknowledged, then asks
                                           for its next keys (as ami-meter enrol wants it) */
    struct ami_id home;                 /* the home DC to ask for; empty: none */
    bool to_revoke;                     /* the operator has asked that its key be revoked */
    struct enrol_pending *pending;      /* NULL: not asked yet */
    uint64_t routed;
    UT_hash_handle by_session, by_name;
};
static inline struct sim_book *sim_book(struct sim_meter *m)
{
    return &m->book[m->epoch - 1];
}
struct sim_fleet {
    size_t first, count;     /* meters of the cast */
    struct sim_meter *meter; /* [count] */
    struct sim_meter *by_session, *by_name;
    struct meter_shared shared;
    struct headers *headers;
    struct env env;
    struct sim_dials dials; /* by place in `headers` */
    bool welcomed[METER_DCS];
    /* Proofs of changes of the committee, in order: durable. */
    struct {
        size_t size;
        uint8_t *bytes;
    } * proof;
    size_t proofs;
    struct sim_meter_write *write; /* under way, in order */
    size_t writes, writes_capacity;
    struct sim_medium_state medium;
    bool stopped; /* no more reports are made */
};
void sim_fleet_new(struct sim_host *h, size_t first, size_t count);
void sim_fleet_free(struct sim_host *h);
void sim_fleet_start(struct sim_host *h);
void sim_fleet_crash(struct sim_host *h);
void sim_fleet_on_event(struct sim_host *h, const struct sim_event *e);
/* The meter is to get its next keys, with this home DC (NULL: any). */
void sim_fleet_renew(struct sim_meter *m, const struct ami_id *home);

/* --- mdms.c ---------------------------------------------------------------------------------- */

struct sim_mdms {
    struct mdms *core; /* NULL while it is down */
    struct sim_kv *kv;
    struct env env;
    struct mdms_write *write; /* under way */
    enum ami_status disk_status;
    struct sim_dials dials; /* by slot */
};
void sim_mdms_new(struct sim_host *h);
void sim_mdms_free(struct sim_host *h);
void sim_mdms_start(struct sim_host *h);
void sim_mdms_crash(struct sim_host *h);
void sim_mdms_on_event(struct sim_host *h, const struct sim_event *e);
uint64_t sim_followed(const struct sim_world *w); /* height up to which its store has the ledger */

/* --- changes.c ------------------------------------------------------------------------------- */

struct sim_changes *sim_changes_new(struct sim_world *w);
void sim_changes_free(struct sim_changes *c);
void sim_changes_begin(struct sim_world *w);
void sim_changes_on_event(struct sim_world *w, const struct sim_event *e);
/* A change is decided. */
void sim_changes_on_epoch(struct sim_world *w, const struct sim_epoch *next);
/* A DC has a new key in its folder. */
void sim_changes_on_key(struct sim_world *w, uint8_t number);
/* A DC says that it counts no more. */
void sim_changes_on_left(struct sim_host *h);
/* Everything that was asked for has come about. */
bool sim_changes_done(const struct sim_world *w);
uint64_t
sim_retained(const struct sim_world *w); /* the last watermark that was asked for; 0: none */
/* Whether this DC's record may be lost until its key is rotated: no committee that may still count
 * has more than f members that lie or sign nothing then. Notes that it is lost. */
bool sim_changes_lose(struct sim_world *w, const struct sim_host *h);
/* A block that nobody had before is on an honest disk. */
void sim_changes_on_height(struct sim_world *w, uint64_t height);

/* --- faults.c -------------------------------------------------------------------------------- */

void sim_faults_begin(struct sim_world *w);
void sim_faults_on_event(struct sim_world *w, const struct sim_event *e);
void sim_faults_end(struct sim_world *w); /* everything heals */
/* A DC hands a write to its disk: it may die before that is done. */
void sim_faults_on_write(struct sim_host *h, uint64_t done_us);
/* A DC is cut off after a while, for so long. */
void sim_faults_isolate_later(struct sim_world *w, uint16_t who, uint64_t after_us, uint64_t us);
void sim_faults_on_die(struct sim_host *h);
/* An honest DC has sent this to one of those who are to have it. */
void sim_faults_on_sent(struct sim_host *h, struct span frame);

/* --- byzantine.c ----------------------------------------------------------------------------- */

struct sim_byzantine *sim_byzantine_new(struct sim_host *h);
void sim_byzantine_free(struct sim_byzantine *b);
/* True: it has dealt with the frame. */
bool sim_byzantine_send(struct sim_host *h, env_link link, struct span frame);
/* False: the node does not get to see it. */
bool sim_byzantine_receive(struct sim_host *h, env_link link, struct span frame);
void sim_byzantine_start(struct sim_host *h);
void sim_byzantine_on_event(struct sim_host *h, const struct sim_event *e);

/* --- checks.c -------------------------------------------------------------------------------- */

/* A membership epoch, as the blocks on honest disks say. */
struct sim_epoch {
    struct committee committee;
    uint8_t number[SIM_MEMBERS]; /* the DCs, by index */
    uint8_t change;              /* enum member_change, that began it; 0: the genesis file did */
    uint8_t changed;             /* whose */
};

struct sim_checks *sim_checks_new(struct sim_world *w);
void sim_checks_free(struct sim_checks *c);
void sim_check_said(struct sim_host *h, const char *event, const char *detail); /* a DC's log */
void sim_check_sent(struct sim_host *h, struct span frame); /* a frame leaves a DC */
void sim_check_stored(struct sim_host *h, uint64_t before); /* a write is on a DC's disk; its
                                                               height before */
void sim_check_started(struct sim_host *h);                 /* a DC starts from its disk */
void sim_check_made(struct sim_host *h, struct sim_meter *m, struct sim_report *r);
void sim_check_acknowledged(struct sim_host *h, struct sim_meter *m, struct sim_report *r);
void sim_check_end(struct sim_world *w); /* of a run, when all is said to be well */
/* NULL: nobody has decided it yet. */
const struct sim_epoch *sim_epoch(const struct sim_world *w, uint32_t epoch);
uint32_t sim_epochs(const struct sim_world *w); /* the newest, perhaps still to begin */
/* That of a block of this height. */
const struct sim_epoch *sim_epoch_at(const struct sim_world *w, uint64_t height);
/* Its index in this epoch; SIM_NOBODY: it is no member of it. */
uint8_t sim_index_in(const struct sim_epoch *e, uint8_t number);
uint64_t sim_agreed(const struct sim_world *w); /* the greatest height on an honest disk */
/* Whether all that was made is acknowledged, on every healthy ledger and with the MDMS. */
bool sim_check_complete(struct sim_world *w);
void sim_check_list(FILE *to); /* the invariants, one a line */

#endif
