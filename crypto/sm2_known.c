#include "crypto/sm2_known.h"

#include "base/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    struct known_table *table; /* NULL: free */
    uint64_t x0;               /* a limb of its point, so that a search reads the slots alone */
    atomic_ullong used;        /* the time of its last use, counted in uses of any slot */
};

static struct slot slots[SM2_SIGNERS_MAX];
static atomic_ullong uses;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

void sm2_known_begin(void)
{
    AMI_CHECK(pthread_rwlock_rdlock(&lock) == 0);
}

void sm2_known_end(void)
{
    AMI_CHECK(pthread_rwlock_unlock(&lock) == 0);
}

static struct slot *find(const point *p)
{
    for (size_t i = 0; i < SM2_SIGNERS_MAX && slots[i].table != NULL; i++)
        if (slots[i].x0 == p->x[0] && point_equal(&slots[i].table->p, p))
            return &slots[i];
    return NULL;
}

static void touch(struct slot *s)
{
    const unsigned long long now = atomic_fetch_add_explicit(&uses, 1, memory_order_relaxed);
    atomic_store_explicit(&s->used, now, memory_order_relaxed);
}

const struct known_table *sm2_known_find(const point *p)
{
    struct slot *s = find(p);
    if (s == NULL)
        return NULL;
    touch(s);
    return s->table;
}

/* Slots fill up from the front. */
static struct slot *slot_to_fill(void)
{
    struct slot *oldest = &slots[0];
    for (size_t i = 0; i < SM2_SIGNERS_MAX; i++) {
        if (slots[i].table == NULL)
            return &slots[i];
        if (atomic_load(&slots[i].used) < atomic_load(&oldest->used))
            oldest = &slots[i];
    }
    return oldest;
}

enum ami_status sm2_signer_remember(const point *p)
{
    if (point_is_infinity(p))
        return AMI_BAD_CRYPTO;
    sm2_known_begin();
    const bool have = sm2_known_find(p) != NULL;
    sm2_known_end();
    if (have)
        return AMI_OK;
    struct known_table *table = aligned_alloc(_Alignof(struct known_table), sizeof *table);
    if (table == NULL)
        return AMI_NO_MEMORY;
    sm2_path()->known_fill(table, p); /* outside the lock: verifications go on meanwhile */
    AMI_CHECK(pthread_rwlock_wrlock(&lock) == 0);
    if (find(p) == NULL) {
        struct slot *s = slot_to_fill();
        struct known_table *old = s->table;
        s->table = table;
        s->x0 = p->x[0];
        touch(s);
        table = old;
    }
    AMI_CHECK(pthread_rwlock_unlock(&lock) == 0);
    free(table); /* the one that made room, or ours when another thread was first */
    return AMI_OK;
}

void sm2_signers_forget(void)
{
    AMI_CHECK(pthread_rwlock_wrlock(&lock) == 0);
    for (size_t i = 0; i < SM2_SIGNERS_MAX; i++) {
        free(slots[i].table);
        slots[i].table = NULL;
    }
    AMI_CHECK(pthread_rwlock_unlock(&lock) == 0);
}
