/* sim/lab/quantile.h - figures in order. */
#ifndef AMI_SIM_LAB_QUANTILE_H
#define AMI_SIM_LAB_QUANTILE_H

#include <stddef.h>

/* Rising. */
void lab_sort(double *values, size_t count);
/* Of sorted values, between two of them in proportion; q from 0 (the least) to 1 (the greatest). 0
 * of none. */
double lab_quantile(const double *sorted, size_t count, double q);

#endif
