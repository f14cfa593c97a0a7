/* sim/kv.h - the MDMS's store in memory: an ordered map from (table, key) to a record.
 *
 * What is in it is durable. A write of the core (struct mdms_write) is put in as a whole.
 */
#ifndef AMI_SIM_KV_H
#define AMI_SIM_KV_H

#include "mdms/records.h"

struct sim_kv;
struct sim_kv *sim_kv_new(void);
struct sim_kv *sim_kv_copy(const struct sim_kv *kv);
void sim_kv_free(struct sim_kv *kv);

void sim_kv_put(struct sim_kv *kv, enum mdms_table table, struct span key, struct span value);
void sim_kv_write(struct sim_kv *kv, const struct mdms_write *w);
/* The first record of `table` whose key is not before `from`; false: none. The spans stay valid
 * until the map changes. */
bool sim_kv_seek(const struct sim_kv *kv, enum mdms_table table, struct span from, struct span *key,
                 struct span *value);
size_t sim_kv_count(const struct sim_kv *kv, enum mdms_table table);
/* For mdms_config. */
struct mdms_kv sim_kv_reader(struct sim_kv *kv);

#endif
