/* sim/lab/lab.h - the laboratory: experiments on the real code, each with a table and a document.
 *
 * `ami-sim lab NAME` runs one experiment; lab.c has the table of them. An experiment fills tables,
 * cell by cell; from one table come the text for people, the JSON and the CSV file, so that they
 * cannot differ. Everything that chance decides follows from the seed. Columns that a clock
 * measured say so (`clock`): two runs with one seed are equal in all other columns.
 *
 *   cmd_lab.c  the command line           lab.c     the experiments, and running them
 *   output.c   tables, JSON, CSV files    schemes.c the schemes that experiments go over
 *   arena.c    a small network with keys  attack*.c the adversaries
 *   scene.c    two ends of a channel      weak_*.c  what controls attack
 *
 * The document of an experiment:
 *
 *   {experiment, summary, command, seed, version, machine, sm2_path, failed: SENTENCE or null,
 *    notes: [SENTENCE], tables: {NAME: {title, columns: [{name, title, unit, source, clock,
 *                                                  decimals, hidden}],
 *                                       rows: [{COLUMN: value or null}]}},
 *    ... what else the experiment puts there}
 *
 * With --out DIR that is DIR/NAME.json, and each table is DIR/NAME-TABLE.csv.
 */
#ifndef AMI_SIM_LAB_LAB_H
#define AMI_SIM_LAB_LAB_H

#include "keyagree/scheme.h"
#include "net/progress.h"
#include "net/why.h"

#include <jansson.h>

struct lab_options {
    uint64_t seed;
    const struct scheme *scheme; /* the only one to look at; NULL: all (lab_scheme_next) */
    bool json;                   /* the document instead of text */
    const char *out;             /* directory for files; NULL: none */
    bool tiny;                   /* as little as shows that it works: for tests */
    bool large;                  /* sizes that take an hour and gigabytes, where there are such */
    char **item;                 /* the arguments behind the experiment's name, such as attacks */
    size_t items;
};

/* How much to do: `usual`, or `tiny` of it where that was asked for. */
static inline size_t lab_size(const struct lab_options *o, size_t usual, size_t tiny)
{
    return o->tiny ? tiny : usual;
}

struct lab_output;

struct lab_experiment {
    const char *name;    /* "attacks" */
    const char *summary; /* one line */
    const char *items;   /* what its arguments are called, "ATTACK"; NULL: it takes none */
    bool slow;           /* minutes rather than seconds */
    /* Names of what may be given as items, one a line; NULL when it takes none. */
    void (*list)(const struct lab_options *o, FILE *to);
    /* Fills `out`. AMI_OK also when a check failed (lab_fail): what was found is still shown, and
     * the exit status is 1. Any other status ends it, with `why`; AMI_BAD_ARGUMENT for an item that
     * there is not. */
    enum ami_status (*run)(const struct lab_options *o, struct lab_output *out, struct why *why);
};

/* lab.c has the table; NULL behind the last: indices rise from 0 and stop there. */
const struct lab_experiment *lab_experiment_at(size_t index);
const struct lab_experiment *lab_experiment_find(const char *name);

/* The schemes to look at, one after another: NULL gives the first, the last gives NULL. Those of
 * keyagree/scheme.c and the laboratory's own (schemes.c), or the one that was asked for. */
const struct scheme *lab_scheme_next(const struct lab_options *o, const struct scheme *after);
const struct scheme *lab_scheme_find(const char *name); /* NULL: there is none */

/* --- output ----------------------------------------------------------------------------------- */

/* Where the figures of a column come from. Text that names things has no source. */
enum lab_source {
    LAB_NO_SOURCE,
    LAB_MEASURED,  /* on this machine, by this run: executed, counted or timed */
    LAB_REPORTED,  /* as the paper or another publication prints it */
    LAB_MODEL,     /* computed from published counts and measured unit times */
    LAB_SIMULATED, /* virtual time, and what was counted in it: the same on every machine */
    LAB_ASSUMED    /* configuration, planning values: put in, not found out */
};

struct lab_column {
    const char *name;  /* in JSON and CSV: lower case, underscores */
    const char *title; /* for people */
    const char *unit;  /* "us"; NULL: none. Shown behind the title. */
    unsigned decimals; /* of a real, for people; JSON and CSV have all digits */
    enum lab_source source;
    bool clock;  /* measured by a clock, or as memory: differs from run to run */
    bool hidden; /* not in the text for people: too long */
};

struct lab_table;
/* `columns` ends with a NULL name and outlives the table, as `name` and `title` do. */
struct lab_table *lab_table(struct lab_output *out, const char *name, const char *title,
                            const struct lab_column *columns);
/* The next cell, row after row. */
void lab_text(struct lab_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lab_integer(struct lab_table *t, int64_t value);
void lab_real(struct lab_table *t, double value);
void lab_none(struct lab_table *t); /* there is no such figure: "-", null, empty */

/* A sentence under the tables. */
void lab_note(struct lab_output *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A check failed: a sentence under the tables, and exit status 1. The first one is `failed`. */
void lab_fail(struct lab_output *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Anything else for the document; takes the reference. */
void lab_put(struct lab_output *out, const char *key, json_t *value);

/* A progress line on stderr; says nothing with --json. Then net/progress.h. */
void lab_progress(const struct lab_options *o, struct progress *p, const char *what,
                  const char *unit, uint64_t total);

/* The processor's name, as the system tells it. */
const char *lab_machine(void);
/* Processor time of this thread, for columns with `clock`. */
uint64_t lab_cpu_ns(void);

/* --- the experiments -------------------------------------------------------------------------- */

/* Each has its line in lab.c. */
extern const struct lab_experiment lab_attacks, lab_table2;
extern const struct lab_experiment lab_table4, lab_table5, lab_pfs, lab_election, lab_links,
    lab_links_crypto, lab_gateways, lab_scale;

#endif
