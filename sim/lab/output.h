/* sim/lab/output.h - making and writing a lab_output: for those who run experiments, not for the
 * experiments themselves. */
#ifndef AMI_SIM_LAB_OUTPUT_H
#define AMI_SIM_LAB_OUTPUT_H

#include "sim/lab/lab.h"

struct lab_output *lab_output_new(void);
/* Runs an experiment into a new output (lab.c). NULL, with *status: it ended. */
struct lab_output *lab_output_of(const struct lab_experiment *e, const struct lab_options *o,
                                 enum ami_status *status, struct why *why);
void lab_output_free(struct lab_output *out);
bool lab_output_failed(const struct lab_output *out);
/* The document as it is now; belongs to `out`. */
json_t *lab_output_json(struct lab_output *out);
void lab_output_print(const struct lab_output *out, FILE *to);
/* DIR/NAME.json and DIR/NAME-TABLE.csv. AMI_NOT_FOUND, AMI_FULL, AMI_IO. */
enum ami_status lab_output_write(struct lab_output *out, const char *dir, const char *name,
                                 struct why *why) AMI_MUST_CHECK;

#endif
