#include "ledger/runs.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* --- rows ------------------------------------------------------------------------------------- */

/* salt, what it is, an id or (meter, epoch, sequence) */
#define TEXT_BYTES_MAX (ROW_SALT_BYTES + 1 + 1 + AMI_ID_BYTES_MAX + 4 + 8)
enum { OF_TX = 1, OF_REPORT };
_Static_assert(SM3_BYTES <= 1 + AMI_ID_BYTES_MAX + 4 + 8, "the longer of the two");
#define ROWS_CHUNK 256

static struct span tx_text(uint8_t out[TEXT_BYTES_MAX], const uint8_t *salt, const sm3_digest *id)
{
    struct writer w = writer_on(out, TEXT_BYTES_MAX);
    write_raw(&w, salt, ROW_SALT_BYTES);
    write_u8(&w, OF_TX);
    write_raw(&w, id->b, SM3_BYTES);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

static struct span report_text(uint8_t out[TEXT_BYTES_MAX], const uint8_t *salt,
                               const struct ami_id *meter, uint32_t epoch, uint64_t sequence)
{
    struct writer w = writer_on(out, TEXT_BYTES_MAX);
    write_raw(&w, salt, ROW_SALT_BYTES);
    write_u8(&w, OF_REPORT);
    write_id(&w, meter);
    write_u32(&w, epoch);
    write_u64(&w, sequence);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

static struct row_key key_of(struct span text)
{
    struct row_key k;
    sm3_digest d = sm3(text);
    memcpy(k.b, d.b, sizeof k.b);
    return k;
}

struct row_key row_tx_key(const uint8_t salt[ROW_SALT_BYTES], const sm3_digest *id)
{
    uint8_t text[TEXT_BYTES_MAX];
    return key_of(tx_text(text, salt, id));
}

struct row_key row_report_key(const uint8_t salt[ROW_SALT_BYTES], const struct ami_id *meter,
                              uint32_t epoch, uint64_t sequence)
{
    uint8_t text[TEXT_BYTES_MAX];
    return key_of(report_text(text, salt, meter, epoch, sequence));
}

struct rows_list {
    const uint8_t *salt;
    uint64_t height;
    uint8_t *rows;
    size_t count, room;
    /* Of these transactions there are no rows yet: first those by id, then those of reports. */
    size_t txs, reports;
    uint32_t first; /* index of the first */
    struct tx tx[ROWS_CHUNK];
    sm3_digest id[ROWS_CHUNK];
    uint32_t index[2 * ROWS_CHUNK];
    uint8_t text[2 * ROWS_CHUNK][TEXT_BYTES_MAX];
    struct span part[2 * ROWS_CHUNK];
    struct sm3_message message[2 * ROWS_CHUNK];
    sm3_digest digest[2 * ROWS_CHUNK];
};

static enum ami_status append(struct rows_list *l, const uint32_t *index, size_t count)
{
    if (l->room - l->count < count) {
        size_t room = 2 * (l->room + ROWS_CHUNK);
        uint8_t *more = realloc(l->rows, room * ROW_BYTES);
        if (more == NULL)
            return AMI_NO_MEMORY;
        l->rows = more;
        l->room = room;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t *row = l->rows + ROW_BYTES * l->count++;
        memcpy(row, l->digest[i].b, ROW_KEY_BYTES);
        store_be64(row + ROW_KEY_BYTES, l->height);
        store_be32(row + ROW_KEY_BYTES + 8, index[i]);
    }
    return AMI_OK;
}

/* The reports' texts are there already, from ROWS_CHUNK on. */
static enum ami_status append_chunk(struct rows_list *l)
{
    AMI_TRY(tx_ids(l->id, l->tx, l->txs));
    for (size_t i = 0; i < l->txs; i++) {
        l->part[i] = tx_text(l->text[i], l->salt, &l->id[i]);
        l->message[i] = (struct sm3_message){&l->part[i], 1};
        l->index[i] = l->first + (uint32_t)i;
    }
    sm3_batch(l->digest, l->message, l->txs);
    AMI_TRY(append(l, l->index, l->txs));
    sm3_batch(l->digest, l->message + ROWS_CHUNK, l->reports);
    AMI_TRY(append(l, l->index + ROWS_CHUNK, l->reports));
    l->first += (uint32_t)l->txs;
    l->txs = l->reports = 0;
    return AMI_OK;
}

static enum ami_status list_block(struct rows_list *l, struct span body)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        AMI_TRY(tx_view_decode_kept(&tx, encoded));
        AMI_TRY(tx_parse(&l->tx[l->txs], encoded)); /* a pruned report as it is */
        if (tx.tx.kind == TX_REPORT) {
            const struct report_meter_part *m = &tx.u.report.meter;
            const size_t at = ROWS_CHUNK + l->reports++;
            l->part[at] = report_text(l->text[at], l->salt, &m->meter, m->epoch, m->sequence);
            l->message[at] = (struct sm3_message){&l->part[at], 1};
            l->index[at] = l->first + (uint32_t)l->txs;
        }
        if (++l->txs == ROWS_CHUNK)
            AMI_TRY(append_chunk(l));
    }
    AMI_TRY(append_chunk(l));
    return body_ok(&it) ? AMI_OK : AMI_BAD_ENCODING;
}

enum ami_status rows_of_block(uint8_t **rows, size_t *count, const uint8_t salt[ROW_SALT_BYTES],
                              uint64_t height, struct span body)
{
    struct rows_list *l = malloc(sizeof *l);
    *rows = NULL;
    *count = 0;
    if (l == NULL)
        return AMI_NO_MEMORY;
    l->salt = salt;
    l->height = height;
    l->rows = NULL;
    l->count = l->room = l->txs = l->reports = l->first = 0;
    enum ami_status status = list_block(l, body);
    if (status == AMI_OK) {
        rows_sort(l->rows, l->count);
        *rows = l->rows;
        *count = l->count;
    } else {
        free(l->rows);
    }
    free(l);
    return status;
}

static int compare_rows(const void *a, const void *b)
{
    return ROW_ORDER(a, b);
}

/* Keys are digests, so behind the bits that all of them share (those of one slice do) they fall
 * evenly into as many buckets as there are rows: a row is moved twice, and compared with one or two
 * others. */
#define BUCKET_ROWS_MAX 16 /* what fell unevenly is sorted as usual */

static void sort_bucket(uint8_t *rows, size_t count)
{
    uint8_t row[ROW_BYTES];
    if (count > BUCKET_ROWS_MAX) {
        qsort(rows, count, ROW_BYTES, compare_rows);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        size_t at = i;
        memcpy(row, rows + ROW_BYTES * i, ROW_BYTES);
        for (; at > 0 && ROW_ORDER(rows + ROW_BYTES * (at - 1), row) > 0; at--)
            memcpy(rows + ROW_BYTES * at, rows + ROW_BYTES * (at - 1), ROW_BYTES);
        memcpy(rows + ROW_BYTES * at, row, ROW_BYTES);
    }
}

/* How many leading bits all keys share, of the 44 that may go without the buckets' bits. */
static unsigned shared_bits(const uint8_t *rows, size_t count)
{
    uint64_t differ = 0;
    unsigned bits = 0;
    for (size_t i = 1; i < count; i++)
        differ |= load_be64(rows) ^ load_be64(rows + ROW_BYTES * i);
    while (bits < 44 && differ >> (63 - bits) == 0)
        bits++;
    return bits;
}

static size_t bucket_of(const uint8_t *row, unsigned shared, unsigned bits)
{
    return (size_t)(load_be64(row) << shared >> (64 - bits));
}

void rows_sort(uint8_t *rows, size_t count)
{
    if (count < 2)
        return; /* rows may be NULL */
    const unsigned shared = shared_bits(rows, count);
    unsigned bits = 1;
    while (bits < 20 && (size_t)1 << bits < count)
        bits++;
    const size_t buckets = (size_t)1 << bits;
    uint8_t *copy = malloc(count * ROW_BYTES);
    uint32_t *end = calloc(buckets + 1, sizeof *end);
    if (copy == NULL || end == NULL || count > UINT32_MAX) {
        qsort(rows, count, ROW_BYTES, compare_rows);
        free(copy);
        free(end);
        return;
    }
    memcpy(copy, rows, count * ROW_BYTES);
    for (size_t i = 0; i < count; i++)
        end[bucket_of(copy + ROW_BYTES * i, shared, bits) + 1]++;
    for (size_t i = 1; i <= buckets; i++)
        end[i] += end[i - 1];
    /* end[k] moves from the beginning of bucket k to its end. */
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = copy + ROW_BYTES * i;
        memcpy(rows + ROW_BYTES * (size_t)end[bucket_of(row, shared, bits)]++, row, ROW_BYTES);
    }
    for (size_t i = 0, at = 0; i < buckets; at = end[i], i++)
        sort_bucket(rows + ROW_BYTES * at, end[i] - at);
    free(copy);
    free(end);
}

void row_last(uint8_t row[ROW_BYTES], const struct row_key *key, uint64_t height_max)
{
    memcpy(row, key->b, ROW_KEY_BYTES);
    store_be64(row + ROW_KEY_BYTES, height_max);
    memset(row + ROW_KEY_BYTES + 8, 0xff, 4);
}

size_t rows_upto(const uint8_t *rows, size_t count, const struct row_key *key, uint64_t height_max)
{
    size_t low = 0, high = count; /* rows below `low` are not above what is looked for */
    uint8_t last[ROW_BYTES];
    row_last(last, key, height_max);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ROW_ORDER(rows + ROW_BYTES * middle, last) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool rows_find(const uint8_t *rows, size_t count, const struct row_key *key, uint64_t height_max,
               uint64_t *height, uint32_t *index)
{
    const size_t upto = rows_upto(rows, count, key, height_max);
    if (upto == 0)
        return false;
    const uint8_t *row = rows + ROW_BYTES * (upto - 1);
    *height = load_be64(row + ROW_KEY_BYTES);
    *index = load_be32(row + ROW_KEY_BYTES + 8);
    return memcmp(row, key->b, ROW_KEY_BYTES) == 0;
}

/* --- the shape -------------------------------------------------------------------------------- */

void run_key_encode(uint8_t out[RUN_KEY_BYTES], unsigned level, uint64_t run, const uint8_t *row)
{
    out[0] = (uint8_t)level;
    store_be64(out + 1, run);
    memcpy(out + 9, row, ROW_BYTES);
}

bool run_key_parse(struct run_name *out, const uint8_t **row, struct span key)
{
    if (key.size != RUN_KEY_BYTES || key.data[0] < 1 || key.data[0] > RUNS_LEVELS)
        return false;
    *row = key.data + 9;
    *out =
        (struct run_name){key.data[0], load_be64(key.data + 1), runs_slice_of(key.data[0], *row)};
    return true;
}

void run_slice_begin(uint8_t row[ROW_BYTES], const struct run_name *n)
{
    memset(row, 0, ROW_BYTES);
    store_be64(row, (uint64_t)n->slice << (64 - 6 * n->level));
}

uint64_t runs_blocks(unsigned level)
{
    return UINT64_C(1) << 6 * level;
}

uint32_t runs_slice_of(unsigned level, const uint8_t *key)
{
    return (uint32_t)(load_be64(key) >> (64 - 6 * level));
}

/* Parts are made with blocks whose height leaves 8 level when divided by 64, so never two with one.
 * A level begins a run's parts when the level below, which began later than the one below that, has
 * made all of its own: the delays add up. */
static uint64_t delay(unsigned level)
{
    uint64_t blocks = 8 * level;
    for (unsigned i = 2; i < level; i++)
        blocks += runs_blocks(i);
    return blocks;
}

bool runs_part(uint64_t height, struct run_part *out)
{
    const unsigned level = (unsigned)(height % RUNS_FAN) / 8;
    if (height % 8 != 0 || level < 2 || level > RUNS_LEVELS ||
        height < delay(level) + runs_blocks(level))
        return false;
    const uint64_t since = height - delay(level);
    out->level = level;
    out->run = since / runs_blocks(level) - 1;
    out->part = (uint32_t)(since % runs_blocks(level) / RUNS_FAN);
    return true;
}

/* How many parts of this run there are; of level 1 there is one, the whole. */
static uint64_t parts(unsigned level, uint64_t run, uint64_t tip)
{
    const uint64_t all = runs_blocks(level - 1);
    const uint64_t first = (run + 1) * runs_blocks(level) + (level == 1 ? 0 : delay(level));
    if (tip < first)
        return 0;
    const uint64_t made = (tip - first) / RUNS_FAN + 1;
    return made < all ? made : all;
}

bool runs_has(const struct run_name *n, uint64_t tip)
{
    if (n->run >= tip / runs_blocks(n->level)) /* or the product below could overflow */
        return false;
    return n->slice / RUNS_FAN < parts(n->level, n->run, tip) &&
           (n->level == RUNS_LEVELS || n->slice >= parts(n->level + 1, n->run / RUNS_FAN, tip));
}

bool run_covers(const struct run_name *n, const uint8_t *row)
{
    const uint64_t height = load_be64(row + ROW_KEY_BYTES);
    return height != 0 && (height - 1) / runs_blocks(n->level) == n->run &&
           runs_slice_of(n->level, row) == n->slice;
}

bool run_piece_is_right(struct run_pieces *p, uint64_t tip, struct span key, struct span rows)
{
    struct run_name n;
    const uint8_t *first;
    if (!run_key_parse(&n, &first, key) || !runs_has(&n, tip) || rows.size == 0 ||
        rows.size % ROW_BYTES != 0 || rows.size > ROW_BYTES * RUN_PIECE_ROWS ||
        ROW_ORDER(first, rows.data) != 0)
        return false;
    const bool same = n.level == p->last.level && n.run == p->last.run;
    for (size_t at = 0; at < rows.size; at += ROW_BYTES) {
        const uint8_t *row = rows.data + at, *before = at == 0 ? p->last_row : row - ROW_BYTES;
        if (!run_covers(&n, row) || ((at != 0 || same) && ROW_ORDER(before, row) >= 0))
            return false;
    }
    p->last = n;
    memcpy(p->last_row, rows.data + rows.size - ROW_BYTES, ROW_BYTES);
    return true;
}

struct runs_walk runs_walk_on(uint64_t tip, const struct row_key *key)
{
    return (struct runs_walk){tip, tip - tip % RUNS_FAN, *key};
}

bool runs_walk_next(struct runs_walk *w, struct run_name *out)
{
    if (w->left == 0)
        return false;
    for (unsigned level = RUNS_LEVELS; level >= 1; level--) {
        if (w->left % runs_blocks(level) != 0)
            continue;
        *out = (struct run_name){level, w->left / runs_blocks(level) - 1,
                                 runs_slice_of(level, w->key.b)};
        if (runs_has(out, w->tip))
            break;
    }
    w->left -= runs_blocks(out->level);
    return true;
}

/* --- all rows at once ------------------------------------------------------------------------- */

#define SUM_CHUNK 64

void rows_sum_add(struct rows_sum *s, const uint8_t secret[ROWS_SECRET_BYTES], const uint8_t *rows,
                  size_t count)
{
    struct span part[SUM_CHUNK][2];
    struct sm3_message message[SUM_CHUNK];
    sm3_digest digest[SUM_CHUNK];
    for (size_t done = 0; done < count;) {
        const size_t n = count - done < SUM_CHUNK ? count - done : SUM_CHUNK;
        for (size_t i = 0; i < n; i++) {
            part[i][0] = span_of(secret, ROWS_SECRET_BYTES);
            part[i][1] = span_of(rows + ROW_BYTES * (done + i), ROW_BYTES);
            message[i] = (struct sm3_message){part[i], 2};
        }
        sm3_batch(digest, message, n);
        for (size_t i = 0; i < n; i++) {
            const uint64_t low = load_be64(digest[i].b);
            s->sum[0] += low;
            s->sum[1] += load_be64(digest[i].b + 8) + (s->sum[0] < low);
        }
        done += n;
    }
    s->rows += count;
}

bool rows_sum_equal(const struct rows_sum *a, const struct rows_sum *b)
{
    return a->rows == b->rows && a->sum[0] == b->sum[0] && a->sum[1] == b->sum[1];
}
