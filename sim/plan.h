/* sim/plan.h - what a run is: sizes, rules that are off, which faults and how strong. */
#ifndef AMI_SIM_PLAN_H
#define AMI_SIM_PLAN_H

#include "ledger/genesis.h"
#include "sim/medium.h"

#include <stdio.h>

/* Faults, each with a counter. */
#define SIM_FAULTS(X)                                                                              \
    X(LOSS, "loss", "a frame between DCs is lost")                                                 \
    X(REPEAT, "repeat", "a frame between DCs arrives twice")                                       \
    X(CLOG, "clog", "a link stands still and its queue fills")                                     \
    X(BREAK, "break", "a connection breaks")                                                       \
    X(PARTITION, "partition", "the DCs are split into two groups")                                 \
    X(ISOLATE, "isolate", "one DC is cut off")                                                     \
    X(BLACKOUT, "blackout", "nothing gets through between any two hosts")                          \
    X(ONE_WAY, "one_way", "one direction between two hosts is cut")                                \
    X(CRASH, "crash", "a DC dies")                                                                 \
    X(POWER, "power", "all DCs die at once")                                                       \
    X(CRASH_WRITE, "crash_write", "a DC dies while a write is under way")                          \
    X(WRITE_LOST, "write_lost", "a write under way was lost by a crash")                           \
    X(STRIKE, "strike", "a DC dies or is cut off in the middle of saying something that counts")   \
    X(PAUSE, "pause", "a process is stopped for a while")                                          \
    X(LOST_DISK, "lost_disk", "a DC comes back with an empty disk")                                \
    X(DISK_FULL, "disk_full", "writes of a DC fail for a while")                                   \
    X(READ_ERROR, "read_error", "reads of a DC fail for a while")                                  \
    X(CLOCK_STEP, "clock_step", "a wall clock steps")                                              \
    X(CLOCK_DRIFT, "clock_drift", "a monotonic clock runs fast or slow")                           \
    X(MDMS_AWAY, "mdms_away", "the MDMS is down for a while")                                      \
    X(FLEET_CRASH, "fleet_crash", "a fleet of meters dies and starts again")

/* What Byzantine DCs do, each with a counter. */
#define SIM_MISCHIEFS(X)                                                                           \
    X(EQUIVOCATE, "equivocate", "two proposals for one slot, to different voters")                 \
    X(VOTE_BOTH, "vote_both", "votes for two blocks of one slot")                                  \
    X(HOARD, "hoard", "keeps a prepare certificate until others have moved on")                    \
    X(TWO_FACED, "two_faced", "proposes a second block once the first is prepared")                \
    X(HIDE_HIGH, "hide_high", "grants that hide or age the highQC")                                \
    X(WITHHOLD_BODY, "withhold_body", "blocks and bodies are not handed out")                      \
    X(WITHHOLD_QC, "withhold_qc", "commit certificates are not announced")                         \
    X(SILENT, "silent", "says nothing at all")                                                     \
    X(SLOW, "slow", "says everything late")                                                        \
    X(TERM_STORM, "term_storm", "asks for elections all the time, grants everything")              \
    X(REPLAY, "replay", "old signed frames again, its own and others'")                            \
    X(WRONG_CHAIN, "wrong_chain", "votes for another chain or epoch")                              \
    X(WRONG_ROOT, "wrong_root", "proposals with a wrong root")                                     \
    X(WRONG_TIME, "wrong_time", "proposals from the future or the past")                           \
    X(CENSOR, "censor", "keeps one meter's reports out of its blocks")                             \
    X(HEARTBEAT_ONLY, "heartbeat_only", "leads without proposing")                                 \
    X(FALSE_ACK, "false_ack", "acknowledges what is not committed")                                \
    X(INVENT, "invent", "submits reports that no meter made")                                      \
    X(ALTER, "alter", "submits reports that a meter made, altered")                                \
    X(MUTATE, "mutate", "flips bits of its frames")                                                \
    X(FORGET, "forget", "loses its record and signs all the same")                                 \
    X(TWIN, "twin", "two copies of one identity run at once")

/* Paths that are seldom taken; counted so that one sees that they were. */
#define SIM_RARES(X)                                                                               \
    X(REPROPOSED, "reproposed", "a leader proposed an earlier term's block again")                 \
    X(EXTENDED_M, "extended_m", "a leader's first block extended M's with its certificate")        \
    X(EMPTY_M, "elected_without_m", "a leader was elected without any certificate")                \
    X(COMMIT_IN_GRANT, "commit_in_grant", "a grant carried a commit certificate")                  \
    X(CAUGHT_UP, "caught_up", "a DC that was behind fetched blocks")                               \
    X(BODY_FETCHED, "body_fetched", "a leader fetched the body of M's block")                      \
    X(TERM_PROOF, "term_proof", "a DC was told of a newer term")                                   \
    X(INSISTED, "insisted", "a meter insisted that a DC be its gateway")                           \
    X(FELL_BACK, "fell_back", "a meter left a DC that did not answer well")                        \
    X(BAD_ACK, "bad_ack", "a meter saw through an acknowledgement")                                \
    X(HANDED_OVER, "handed_over", "transactions were handed to another DC")                        \
    X(VOTED_APPLIED, "voted_applied", "a DC voted for a block that it had applied")                \
    X(STEPPED_DOWN, "stepped_down", "a leader stepped down")                                       \
    X(MUTE, "mute", "a DC without its record followed and signed nothing")                         \
    X(REDIRECTED, "redirected", "a meter was sent on to the leader")                               \
    X(EVIDENCE, "evidence", "an honest DC found evidence against a member")                        \
    X(EVIDENCE_COMMITTED, "evidence_committed", "a DC saw evidence on the ledger")                 \
    X(BELIEVED_AGAIN, "believed_again", "a report's acknowledgement was lost and came again")

#define SIM_ENUM_FAULT(NAME, name, what)    SIM_FAULT_##NAME,
#define SIM_ENUM_MISCHIEF(NAME, name, what) SIM_MISCHIEF_##NAME,
#define SIM_ENUM_RARE(NAME, name, what)     SIM_RARE_##NAME,
enum sim_fault { SIM_FAULTS(SIM_ENUM_FAULT) SIM_FAULT_KINDS };
enum sim_mischief_kind { SIM_MISCHIEFS(SIM_ENUM_MISCHIEF) SIM_MISCHIEF_KINDS };
enum sim_rare { SIM_RARES(SIM_ENUM_RARE) SIM_RARE_KINDS };
const char *sim_fault_name(enum sim_fault f);
const char *sim_mischief_name(enum sim_mischief_kind m);
const char *sim_rare_name(enum sim_rare r);

struct sim_plan {
    uint64_t seed;
    unsigned dcs, byzantine; /* members; how many of them lie */
    unsigned fleets, meters; /* meters in all */
    uint8_t scheme;
    enum gateway_policy gateway;
    uint32_t heartbeat_ms;    /* 0: default */
    uint32_t rules_off;       /* enum rule_off */
    bool meter_unchecked;     /* meters' signatures are not checked */
    bool ack_unchecked;       /* meters believe acknowledgements without proof */
    bool record_repaired;     /* a DC that lost its disk signs again */
    uint64_t report_every_us; /* of each meter */
    uint64_t reports_max;     /* of each meter; 0: no limit */
    uint64_t safety_us, liveness_us;

    uint64_t delay_mean_us; /* of a frame; exponential */
    uint64_t disk_mean_us, work_mean_us;
    uint32_t loss_ppm, repeat_ppm;
    uint32_t crash_write_ppm;         /* of a DC's writes */
    uint32_t strike_ppm;              /* of a DC's proposals, votes, grants, certificates sent */
    uint64_t fault_every_us;          /* mean; 0: none */
    uint32_t weight[SIM_FAULT_KINDS]; /* of the faults that happen at an instant */
    uint64_t down_mean_us, cut_mean_us, pause_mean_us;
    uint32_t mischief[SIM_MISCHIEF_KINDS]; /* per million, where it applies; 0: not in this run */
    uint64_t linger_us;  /* meters go on so long after all DCs have committed again */
    bool delay_late;     /* frames stay as slow after the last fault */
    uint64_t faults_max; /* no more than so many instants of faults: for shortening */

    /* What the laboratory varies; zero is what runs have otherwise. */
    struct sim_medium medium; /* between meters and DCs; rate_bps 0: as fast as the rest */
    /* struct meter_timing */
    uint32_t meter_spread_ms, meter_answer_ms, meter_answer_ms_max, meter_insist_ms;
    bool unjudged;                /* no invariants: what checks cost is not the network's */
    uint32_t block_txs_max;       /* with 1 KiB of block for each */
    uint32_t readings_per_report; /* at most SIM_READINGS_MAX */
};

#define SIM_PLAN_ANY     UINT32_MAX
#define SIM_READINGS_MAX 96

/* What a seed draws. p->dcs (0: any) and p->byzantine (SIM_PLAN_ANY) are kept when they are set. */
void sim_plan_draw(struct sim_plan *p, uint64_t seed);
/* The same network where nothing goes wrong. */
void sim_plan_calm(struct sim_plan *p, uint64_t seed);
/* Elections at their hardest: f of p->dcs members are silent, one-way delay is an exponential with
 * a mean of a thirtieth of the election time-out, and now and then nothing gets through anywhere,
 * so that all timers have run out when it does again. */
void sim_plan_elections(struct sim_plan *p, uint64_t seed);

#endif
