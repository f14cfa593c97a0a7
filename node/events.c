/* node/events.c - the node's log, and what of it is kept for dc-cli.
 *
 * Two stores. What the node does itself goes through a ring. What others cause, as often as they
 * like, is limited by name and, where somebody has proven who it is, by who it was; and it has a
 * store of its own, which, when it is full, gives up the oldest of what there is most of. So a
 * flood pushes out itself: neither a stranger nor the lowest operator can make the log forget what
 * others did.
 */
#include "base/check.h"
#include "node/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct ami_id nobody;

static void fill(struct node *n, struct node_event *e, enum env_log_level level, const char *name,
                 const struct ami_id *who, const char *format, va_list args)
{
    e->number = ++n->event_count;
    e->wall_ms = node_wall_ms(n);
    e->name = name;
    e->who = *who;
    vsnprintf(e->text, sizeof e->text, format, args);
    n->env.log(n->env.ctx, level, name, e->text);
}

void node_event(struct node *n, enum env_log_level level, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(n, &n->events[n->events_kept++ % NODE_EVENTS_MAX], level, name, &nobody, format, args);
    va_end(args);
}

/* --- what others cause ------------------------------------------------------------------------ */

static bool alike(const struct node_event *e, const struct node_event *f)
{
    return strcmp(e->name, f->name) == 0 && ami_id_equal(&e->who, &f->who);
}

static unsigned kind_hash(const struct node_event *e)
{
    unsigned of_name, of_who;
    HASH_JEN(e->name, (unsigned)strlen(e->name), of_name);
    HASH_JEN(&e->who, (unsigned)sizeof e->who, of_who);
    return of_name ^ of_who;
}

/* A free place, or the oldest of the most frequent kind. Others cause this: one look at each event,
 * with their kinds found by hash, and not a look from each at each other. */
static struct node_event *caused_place(struct node *n)
{
    enum { SLOTS = 1024 };
    _Static_assert(SLOTS > 2 * NODE_CAUSED_MAX, "a search in the table ends soon");
    struct {
        struct node_event *oldest;
        size_t count;
    } kind[SLOTS] = {{NULL, 0}};
    size_t best = SLOTS;
    if (n->caused_kept < NODE_CAUSED_MAX)
        return &n->caused[n->caused_kept++];
    for (size_t i = 0; i < NODE_CAUSED_MAX; i++) {
        struct node_event *e = &n->caused[i];
        unsigned at = kind_hash(e) % SLOTS;
        while (kind[at].oldest != NULL && !alike(kind[at].oldest, e))
            at = (at + 1) % SLOTS;
        if (kind[at].oldest == NULL || e->number < kind[at].oldest->number)
            kind[at].oldest = e;
        kind[at].count++;
    }
    for (size_t at = 0; at < SLOTS; at++)
        if (kind[at].oldest != NULL && (best == SLOTS || kind[at].count > kind[best].count ||
                                        (kind[at].count == kind[best].count &&
                                         kind[at].oldest->number < kind[best].oldest->number)))
            best = at;
    return kind[best].oldest;
}

static void caused(struct node *n, enum env_log_level level, const char *name,
                   const struct ami_id *who, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void caused(struct node *n, enum env_log_level level, const char *name,
                   const struct ami_id *who, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(n, caused_place(n), level, name, who, format, args);
    va_end(args);
}

static void say_left_out(struct node *n, enum env_log_level level, struct node_often *o)
{
    if (o->left_out != 0)
        caused(n, level, o->name, &o->who, "and %llu more like it were not shown",
               (unsigned long long)o->left_out);
    o->left_out = 0;
}

/* The one of this name and asker, or a place for it: that of whoever was quiet longest. Names
 * alone, which are literals of this room, all have one. */
static struct node_often *often_of(struct node *n, enum env_log_level level, const char *name,
                                   const struct ami_id *who)
{
    struct node_often *quiet = NULL;
    for (size_t i = 0; i < NODE_OFTEN_MAX; i++) {
        struct node_often *o = &n->often[i];
        if (o->name == NULL) {
            quiet = o;
            break;
        }
        if (strcmp(o->name, name) == 0 && ami_id_equal(&o->who, who))
            return o;
        if (o->who.size != 0 && (quiet == NULL || o->since_us < quiet->since_us))
            quiet = o;
    }
    AMI_CHECK(quiet != NULL);
    if (quiet->name != NULL)
        say_left_out(n, level, quiet);
    *quiet = (struct node_often){.name = name, .who = *who};
    return quiet;
}

static void limited(struct node *n, enum env_log_level level, const char *name,
                    const struct ami_id *who, const char *format, va_list args)
{
    struct node_often *o = often_of(n, level, name, who);
    uint64_t now = node_now_us(n);
    if (o->shown == 0 || now - o->since_us >= NODE_OFTEN_US) {
        say_left_out(n, level, o);
        o->since_us = now;
        o->shown = 0;
    }
    if (o->shown == NODE_OFTEN_SHOWN) {
        o->left_out++;
        return;
    }
    o->shown++;
    fill(n, caused_place(n), level, name, who, format, args);
}

void node_event_often(struct node *n, enum env_log_level level, const char *name,
                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    limited(n, level, name, &nobody, format, args);
    va_end(args);
}

void node_event_of(struct node *n, enum env_log_level level, const char *name,
                   const struct ami_id *who, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    limited(n, level, name, who, format, args);
    va_end(args);
}

/* --- to read them ----------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const struct node_event *const *e = a, *const *f = b;
    return ((*e)->number > (*f)->number) - ((*e)->number < (*f)->number);
}

size_t node_events_after(const struct node *n, uint64_t after,
                         const struct node_event *out[NODE_EVENTS_MAX + NODE_CAUSED_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < NODE_EVENTS_MAX && i < n->events_kept; i++)
        if (n->events[i].number > after)
            out[count++] = &n->events[i];
    for (size_t i = 0; i < n->caused_kept; i++)
        if (n->caused[i].number > after)
            out[count++] = &n->caused[i];
    qsort(out, count, sizeof out[0], by_number);
    return count;
}
