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

/* What the network's operator asks for (consensus rule 13, protocol.md section 3), each with a
 * counter of what the ledger holds of it. */
#define SIM_CHANGES(X)                                                                             \
    X(JOIN, "join", "a new DC becomes a member")                                                   \
    X(REJOIN, "rejoin", "a DC that left becomes a member again, with its next key")                \
    X(LEAVE, "leave", "a member leaves and follows from then on")                                  \
    X(SWITCH_OFF, "switch_off", "a DC that left is switched off for good")                         \
    X(ROTATE, "rotate", "a member votes with its next key")                                        \
    X(ROTATE_LOST, "rotate_lost", "the same, of a DC that had lost its record")                    \
    X(RENEW, "renew", "a meter gets its next keys")                                                \
    X(MOVE, "move", "the same, and another home DC")                                               \
    X(REVOKE, "revoke", "a meter's key is revoked")                                                \
    X(RETAIN, "retain", "the DCs may prune below a height")

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
    X(TWIN, "twin", "two copies of one identity run at once")                                      \
    X(SHOW_OTHER_M, "show_other_m", "a leader shows members election certificates that differ")    \
    X(COLLUDE, "collude", "liars vote, grant and keep certificates for each other")                \
    X(OLD_EPOCH, "old_epoch", "shows certificates of an earlier epoch as proof of a term")

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
    X(BELIEVED_AGAIN, "believed_again", "a report's acknowledgement was lost and came again")      \
    X(EPOCH_OPEN_QC, "epoch_open_qc", "an epoch began while a member's old one had an open QC")    \
    X(EPOCH_BEHIND, "epoch_behind", "an epoch began while a member of it was blocks behind")       \
    X(JOINED_CUT, "joined_cut", "a DC became a member while it reached no other member")           \
    X(JOINED_DOWN, "joined_down", "a DC became a member while it was down")                        \
    X(LEADER_LEFT, "leader_left", "who led became no member, or its key did")                      \
    X(EMPTY_BLOCK, "empty_block", "a block without transactions, on the way to an epoch")          \
    X(RECORD_RENEWED, "record_renewed", "a DC that had lost its record voted with its next key")   \
    X(KEY_LATE, "key_late", "a DC was to vote with a key that it did not have yet")                \
    X(COMMITTEE_TOLD, "committee_told", "a fleet heard of a new committee and checked its proof")  \
    X(RELAYED, "relayed", "a meter's enrolment went through a DC")                                 \
    X(OUTCAST, "outcast", "a meter whose key was revoked was refused")                             \
    X(OTHER_M, "other_m", "two members acted on election certificates of a term whose M differ")   \
    X(PRUNED_FETCHED, "pruned_fetched", "a DC that was behind fetched a pruned block")

#define SIM_ENUM_FAULT(NAME, name, what)    SIM_FAULT_##NAME,
#define SIM_ENUM_MISCHIEF(NAME, name, what) SIM_MISCHIEF_##NAME,
#define SIM_ENUM_RARE(NAME, name, what)     SIM_RARE_##NAME,
#define SIM_ENUM_CHANGE(NAME, name, what)   SIM_CHANGE_##NAME,
enum sim_fault { SIM_FAULTS(SIM_ENUM_FAULT) SIM_FAULT_KINDS };
enum sim_mischief_kind { SIM_MISCHIEFS(SIM_ENUM_MISCHIEF) SIM_MISCHIEF_KINDS };
enum sim_rare { SIM_RARES(SIM_ENUM_RARE) SIM_RARE_KINDS };
enum sim_change { SIM_CHANGES(SIM_ENUM_CHANGE) SIM_CHANGE_KINDS };
const char *sim_fault_name(enum sim_fault f);
const char *sim_mischief_name(enum sim_mischief_kind m);
const char *sim_rare_name(enum sim_rare r);
const char *sim_change_name(enum sim_change c);

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
    uint64_t faults_max; /* no more than so many instants of faults and changes: for shortening */

    unsigned spares;                          /* DCs that are no members at first */
    bool spare_lies;                          /* the first of them */
    uint64_t change_every_us;                 /* mean; 0: nobody asks for a change */
    uint32_t change_weight[SIM_CHANGE_KINDS]; /* of those that are asked for */
    uint32_t early_ppm; /* a rotation is asked for before the DC has its key */
    enum {
        SIM_PICK_ANY,
        SIM_PICK_LAST,
        SIM_PICK_LEADER
    } change_pick;       /* whose membership changes */
    bool leave_early;    /* a DC that left is switched off at once */
    uint32_t struck_ppm; /* whose membership changes is cut off or dies just then */

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
