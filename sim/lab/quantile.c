#include "sim/lab/quantile.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void lab_sort(double *values, size_t count)
{
    qsort(values, count, sizeof values[0], compare);
}

double lab_quantile(const double *sorted, size_t count, double q)
{
    if (count == 0)
        return 0;
    double at = q * (double)(count - 1);
    size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}
