/* sim/lab/experiments.h - the experiments that measure; those that attack are in attacks.h. */
#ifndef AMI_SIM_LAB_EXPERIMENTS_H
#define AMI_SIM_LAB_EXPERIMENTS_H

#include "sim/lab/lab.h"

extern const struct lab_experiment lab_table4, lab_table5, lab_pfs, lab_election, lab_links,
    lab_gateways, lab_scale;

#endif
