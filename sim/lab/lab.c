/* sim/lab/lab.c - the experiments, and running one. */
#include "sim/lab/lab.h"

#include "base/check.h"
#include "crypto/sm2_group.h"
#include "sim/lab/output.h"

#include <stdlib.h>
#include <string.h>

/* One line per experiment, in the order of `ami-sim lab all`. */
static const struct lab_experiment *const experiments[] = {
    &lab_attacks, &lab_table2,       &lab_table4,   &lab_table5, &lab_pfs, &lab_election,
    &lab_links,   &lab_links_crypto, &lab_gateways, &lab_scale,  NULL,
};

const struct lab_experiment *lab_experiment_at(size_t index)
{
    return experiments[index];
}

const struct lab_experiment *lab_experiment_find(const char *name)
{
    size_t i = 0;
    while (experiments[i] != NULL && strcmp(experiments[i]->name, name) != 0)
        i++;
    return experiments[i];
}

void lab_progress(const struct lab_options *o, struct progress *p, const char *what,
                  const char *unit, uint64_t total)
{
    progress_begin(p, stderr, o->json, what, unit, total);
}

/* What makes this document again. */
static json_t *command(const struct lab_experiment *e, const struct lab_options *o)
{
    char *text, *more;
    AMI_CHECK(asprintf(&text, "ami-sim lab %s", e->name) >= 0);
    for (size_t i = 0; i < o->items; i++) {
        AMI_CHECK(asprintf(&more, "%s %s", text, o->item[i]) >= 0);
        free(text);
        text = more;
    }
    json_t *all = json_sprintf("%s --seed %llu%s%s%s%s", text, (unsigned long long)o->seed,
                               o->scheme == NULL ? "" : " --scheme ",
                               o->scheme == NULL ? "" : o->scheme->name, o->tiny ? " --tiny" : "",
                               o->large ? " --large" : "");
    free(text);
    return all;
}

struct lab_output *lab_output_of(const struct lab_experiment *e, const struct lab_options *o,
                                 enum ami_status *status, struct why *why)
{
    struct lab_output *out = lab_output_new();
    lab_put(out, "experiment", json_string(e->name));
    lab_put(out, "summary", json_string(e->summary));
    lab_put(out, "command", command(e, o));
    lab_put(out, "seed", json_integer((json_int_t)o->seed));
    lab_put(out, "version", json_string(AMI_VERSION));
    lab_put(out, "machine", json_string(lab_machine()));
    lab_put(out, "sm2_path", json_string(sm2_path_name()));
    lab_put(out, "failed", json_null());
    *status = e->run(o, out, why);
    if (*status != AMI_OK) {
        lab_output_free(out);
        return NULL;
    }
    return out;
}
