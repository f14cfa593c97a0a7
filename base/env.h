/* base/env.h - the environment interface: all that a core may ask of the world.
 *
 * A node, a meter and the MDMS are pure state machines. A process shell (nng, LMDB, threads) or the
 * deterministic simulator hands them this table and calls their event functions; the same object
 * code runs under both. A core never reads a clock, a socket, a file or a random source except
 * through it.
 *
 * Contract: every function returns at once and never calls back into the core before it returns.
 * Completions (a stored record, finished work, a frame, a deadline) arrive later as calls of the
 * core's event functions, from the one thread that owns the core.
 */
#ifndef AMI_BASE_ENV_H
#define AMI_BASE_ENV_H

#include "base/bytes.h"

enum env_log_level { ENV_LOG_DEBUG, ENV_LOG_INFO, ENV_LOG_WARN, ENV_LOG_ERROR };

/* A link to somebody, given out by the shell; 0 is nobody. Never reused within a process. */
typedef uint64_t env_link;

struct env {
    void *ctx;

    /* Microseconds since an arbitrary start, never goes back. For time-outs. */
    uint64_t (*clock_mono_us)(void *ctx);

    /* Milliseconds since 1970 UTC, may step either way. For timestamps only. */
    int64_t (*clock_wall_ms)(void *ctx);

    /* Asks for one call of the core's `..._on_time` at or soon after this instant of the monotonic
     * clock. A core has one alarm: a later call replaces an earlier one. UINT64_MAX: none. */
    void (*set_alarm)(void *ctx, uint64_t at_us);

    /* Queues one frame (type byte included, length prefix not). The bytes are copied.
     * AMI_AGAIN: this link's queue is full, nothing was queued, the core keeps the message and
     * tries again after `..._on_writable`. AMI_CLOSED: the link is gone. */
    enum ami_status (*send)(void *ctx, env_link link, struct span frame);

    /* Closes a link; its `..._on_closed` still comes. */
    void (*close)(void *ctx, env_link link);

    /* Cryptographically strong bytes in a process, seeded ones in a simulation. */
    void (*random)(void *ctx, void *out, size_t size);

    /* One line for people and tools: an event name in snake_case and key=value text. Never a
     * secret, never a reading. */
    void (*log)(void *ctx, enum env_log_level level, const char *event, const char *detail);

    /* Hands a job to the work pool (or runs it at a virtual instant). `run` touches nothing but
     * `job`; when it is done the core gets `..._on_work(job)`. AMI_AGAIN: the pool is full. */
    enum ami_status (*work)(void *ctx, void (*run)(void *job), void *job);

    /* Hands a write to the store. `write` belongs to the room that owns the store (a node's
     * batch of records, a meter's outbox entries); it stays untouched by the core until the
     * core gets `..._on_stored(write, status)`. Writes complete in the order given, and a write
     * whose completion says AMI_OK survives a crash. */
    enum ami_status (*store)(void *ctx, void *write);

    /* Bytes queued on a link that have not left yet; 0 for a link that is gone. For nodes; NULL
     * where nothing ever waits. */
    size_t (*queued)(void *ctx, env_link link);
};

#endif
