/* meter/profile.h - the built-in statistical household profile: what a meter without a file
 * measures.
 *
 * Half-hourly consumption with mean and spread by half hour of the day, kind of day and season.
 * The figures were derived from three London homes over fourteen months (Low Carbon London, UK
 * Power Networks, CC BY 4.0). Integer arithmetic from (seed, meter, interval) alone: the same on
 * every machine, and a meter that starts again goes on where it stopped without remembering
 * anything.
 */
#ifndef AMI_METER_PROFILE_H
#define AMI_METER_PROFILE_H

#include "wire/report.h"

#define PROFILE_INTERVAL_S 1800
/* 2024-01-01T00:00:00Z, where interval 0 starts. The profile's time is its own: a fleet sends its
 * half hours as fast as it is told to. */
#define PROFILE_START_S 1704067200

/* The reading of interval `index` (from 0) of this meter: kWh with three decimals, OBIS
 * 1-0:1.29.0*255. */
void profile_reading(struct reading *out, uint64_t seed, const struct ami_id *meter,
                     uint64_t index);

#endif
