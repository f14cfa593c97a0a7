#include "ledger/lmdb_file.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The format (mdb.c of LMDB 0.9), integers in the machine's byte order:
 *
 *   page    u64 number, u16 unused, u16 flags, then u16 lower, u16 upper, u16 offset of each node;
 * or, for a value too long for a leaf, u32 number of pages, and the value behind these 16 bytes
 *   node    u16 lo, u16 hi, u16 flags, u16 key size, key, data; in a leaf lo and hi are the data's
 * size; in a branch lo, hi and flags are the number of the page below; even sizes, side by side
 *           from upper to the page's end
 *   tree    u32, u16 flags, u16 depth, u64 branch, leaf and overflow pages, u64 entries, u64 root
 *   meta    page 0 or 1: page header, u32 magic, u32 version, u64 address, u64 map size, tree of
 * free pages (its u32 is the page size), tree of the named trees, u64 last page, u64 txn
 *
 * A write of number N goes to meta page N mod 2, so that the other one holds the state before. The
 * tree of free pages lists, under N, the pages that N gave back: there are always some after the
 * first.
 */
#define MAGIC          0xBEEFC0DEu
#define VERSION        1u
#define PAGE_HEAD      16u
#define NODE_HEAD      8u
#define TREE_BYTES     48u
#define META_BYTES     152u
#define PAGE_BRANCH    0x01u
#define PAGE_LEAF      0x02u
#define PAGE_OVERFLOW  0x04u
#define PAGE_META      0x08u
#define NODE_BIG       0x01u /* the data is the number of the page where it begins */
#define NODE_TREE      0x02u /* the data is a tree */
#define INTEGER_KEYS   0x08u
#define NO_PAGE        UINT64_MAX
#define DEPTH_MAX      32u
#define KEY_BYTES_MAX  511u
#define PROGRESS_PAGES 4096u

struct tree {
    const char *name;
    uint16_t flags, depth;
    uint64_t branch, leaf, overflow, entries, root;
};

struct meta {
    uint32_t page_size;
    uint64_t map_size, last_page, txn;
    struct tree free, names;
};

struct file {
    int fd;
    const struct lmdb_walk *walk;
    struct meta meta;
    uint8_t *owned; /* a bit per page */
    uint8_t *value; /* the value on overflow pages that was read last */
    size_t value_size_max;
    uint64_t pages, entries;
    char *why;
    size_t why_size;
};

/* A tree while it is walked. */
struct visit {
    struct file *f;
    struct tree tree;
    uint64_t branch, leaf, overflow, entries; /* as found */
    uint8_t *level[DEPTH_MAX];                /* the page at each depth */
    enum ami_status (*on_entry)(struct visit *v, struct span key, struct span value, bool is_tree);
};

__attribute__((format(printf, 2, 3))) static enum ami_status bad(struct file *f, const char *format,
                                                                 ...)
{
    va_list args;
    va_start(args, format);
    if (f->why_size > 0)
        vsnprintf(f->why, f->why_size, format, args);
    va_end(args);
    return AMI_DAMAGED;
}

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static struct tree tree_at(const uint8_t *p, const char *name)
{
    return (struct tree){.name = name,
                         .flags = u16_at(p + 4),
                         .depth = u16_at(p + 6),
                         .branch = u64_at(p + 8),
                         .leaf = u64_at(p + 16),
                         .overflow = u64_at(p + 24),
                         .entries = u64_at(p + 32),
                         .root = u64_at(p + 40)};
}

/* A part that the system cannot read is damaged, too: a disk says so of a bad sector. */
static enum ami_status read_at(struct file *f, uint8_t *out, size_t size, uint64_t at)
{
    while (size > 0) {
        ssize_t got = pread(f->fd, out, size, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return bad(f, "byte %llu cannot be read: %s", (unsigned long long)at, strerror(errno));
        if (got == 0)
            return bad(f, "the file ends at byte %llu, amid what it holds", (unsigned long long)at);
        out += got;
        size -= (size_t)got;
        at += (uint64_t)got;
    }
    return AMI_OK;
}

/* --- pages -------------------------------------------------------------------------------------
 */

/* Each page has one owner. */
static enum ami_status own(struct file *f, uint64_t page, const char *who)
{
    if (page < 2 || page > f->meta.last_page)
        return bad(f, "%s names page %llu, which there is not", who, (unsigned long long)page);
    uint8_t *byte = &f->owned[page / 8], bit = (uint8_t)(1u << page % 8);
    if ((*byte & bit) != 0)
        return bad(f, "page %llu belongs to %s and to something else", (unsigned long long)page,
                   who);
    *byte |= bit;
    f->pages++;
    if (f->walk->progress != NULL && f->pages % PROGRESS_PAGES == 0)
        f->walk->progress(f->walk->ctx, f->pages, f->meta.last_page + 1);
    return AMI_OK;
}

static enum ami_status read_page(struct visit *v, uint64_t page, uint8_t *out, unsigned flags)
{
    struct file *f = v->f;
    AMI_TRY(own(f, page, v->tree.name));
    AMI_TRY(read_at(f, out, f->meta.page_size, page * f->meta.page_size));
    if (u64_at(out) != page || u16_at(out + 10) != flags)
        return bad(f, "page %llu of %s is none of its kind", (unsigned long long)page,
                   v->tree.name);
    return AMI_OK;
}

/* A node of a page, whose offsets and sizes were looked at. */
struct node {
    struct span key;
    unsigned flags;
    const uint8_t *data;
    uint32_t data_size; /* of a leaf's */
    uint64_t below;     /* of a branch's */
    size_t size;        /* in the page */
};

static bool read_node(const struct visit *v, const uint8_t *page, unsigned index, bool leaf,
                      struct node *out)
{
    const size_t page_size = v->f->meta.page_size, upper = u16_at(page + 14);
    const size_t at = u16_at(page + PAGE_HEAD + 2 * index);
    if (at < upper || at % 2 != 0 || at + NODE_HEAD > page_size)
        return false;
    const uint8_t *n = page + at;
    const uint32_t low = u16_at(n) | (uint32_t)u16_at(n + 2) << 16;
    const size_t key_size = u16_at(n + 6);
    out->flags = leaf ? u16_at(n + 4) : 0;
    out->below = low | (uint64_t)u16_at(n + 4) << 32;
    out->data_size = leaf ? low : 0;
    size_t in_page = out->data_size;
    if (out->flags == NODE_BIG)
        in_page = 8;
    else if (out->flags != 0 && (out->flags != NODE_TREE || in_page != TREE_BYTES))
        return false;
    if (key_size > KEY_BYTES_MAX || in_page > page_size ||
        at + NODE_HEAD + key_size + in_page > page_size)
        return false;
    out->key = span_of(n + NODE_HEAD, key_size);
    out->data = n + NODE_HEAD + key_size;
    out->size = (NODE_HEAD + key_size + in_page + 1) & ~(size_t)1;
    return true;
}

/* The nodes' number; false: the page's head, or a node, is not what it can be. */
static bool check_nodes(const struct visit *v, const uint8_t *page, bool leaf, unsigned *count)
{
    const size_t lower = u16_at(page + 12), upper = u16_at(page + 14);
    size_t used = 0;
    struct node n;
    if (lower < PAGE_HEAD || lower % 2 != 0 || lower > upper || upper > v->f->meta.page_size)
        return false;
    *count = (unsigned)(lower - PAGE_HEAD) / 2;
    for (unsigned i = 0; i < *count; i++) {
        if (!read_node(v, page, i, leaf, &n))
            return false;
        used += n.size;
    }
    return used == v->f->meta.page_size - upper;
}

static int compare(const struct visit *v, struct span a, struct span b)
{
    if ((v->tree.flags & INTEGER_KEYS) != 0) {
        uint64_t x = u64_at(a.data), y = u64_at(b.data);
        return x < y ? -1 : x > y;
    }
    size_t size = a.size < b.size ? a.size : b.size;
    int c = size == 0 ? 0 : memcmp(a.data, b.data, size);
    return c != 0 ? c : a.size < b.size ? -1 : a.size > b.size;
}

/* --- trees -------------------------------------------------------------------------------------
 */

static enum ami_status read_value(struct visit *v, const struct node *n, struct span *out)
{
    struct file *f = v->f;
    if (n->flags != NODE_BIG) {
        *out = span_of(n->data, n->data_size);
        return AMI_OK;
    }
    uint8_t head[PAGE_HEAD];
    const uint64_t first = u64_at(n->data), page_size = f->meta.page_size;
    AMI_TRY(own(f, first, v->tree.name));
    AMI_TRY(read_at(f, head, sizeof head, first * page_size));
    const uint64_t pages = u32_at(head + 12);
    if (u64_at(head) != first || u16_at(head + 10) != PAGE_OVERFLOW || pages == 0 ||
        pages > f->meta.last_page || n->data_size > LMDB_FILE_VALUE_BYTES_MAX ||
        n->data_size + PAGE_HEAD > pages * page_size)
        return bad(f, "page %llu of %s does not hold the value that it should",
                   (unsigned long long)first, v->tree.name);
    for (uint64_t i = 1; i < pages; i++)
        AMI_TRY(own(f, first + i, v->tree.name));
    v->overflow += pages;
    if (n->data_size > f->value_size_max) {
        uint8_t *more = realloc(f->value, n->data_size);
        if (more == NULL)
            return AMI_NO_MEMORY;
        f->value = more;
        f->value_size_max = n->data_size;
    }
    AMI_TRY(read_at(f, f->value, n->data_size, first * page_size + PAGE_HEAD));
    *out = span_of(f->value, n->data_size);
    return AMI_OK;
}

static enum ami_status visit_leaf(struct visit *v, const uint8_t *page, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct node n;
        struct span value;
        AMI_CHECK(read_node(v, page, i, true, &n));
        v->entries++;
        v->f->entries++;
        AMI_TRY(read_value(v, &n, &value));
        AMI_TRY(v->on_entry(v, n.key, value, n.flags == NODE_TREE));
    }
    return AMI_OK;
}

/* Keys rise, and lie from `low` (NULL: no bound) to below `high`. The first of a branch stands for
 * all that is smaller than the second: its key does not count. */
static enum ami_status check_keys(struct visit *v, const uint8_t *page, unsigned count, bool leaf,
                                  const struct span *low, const struct span *high)
{
    struct node before = {0}, n;
    const bool integers = (v->tree.flags & INTEGER_KEYS) != 0;
    for (unsigned i = leaf ? 0 : 1; i < count; i++) {
        AMI_CHECK(read_node(v, page, i, leaf, &n));
        if (n.key.size == 0 || (integers && n.key.size != 8))
            return bad(v->f, "%s has a key of %zu bytes", v->tree.name, n.key.size);
        bool first = before.key.data == NULL;
        if ((!first && compare(v, before.key, n.key) >= 0) ||
            (first && low != NULL && compare(v, n.key, *low) < 0) ||
            (high != NULL && compare(v, n.key, *high) >= 0))
            return bad(v->f, "the keys of %s are in disorder on page %llu", v->tree.name,
                       (unsigned long long)u64_at(page));
        before = n;
    }
    return AMI_OK;
}

/* Depth is bounded by DEPTH_MAX, and every page is entered once. */
static enum ami_status visit_page(struct visit *v, uint64_t number, unsigned depth,
                                  const struct span *low, const struct span *high)
{
    const bool leaf = depth + 1 == v->tree.depth;
    uint8_t *page = v->level[depth];
    unsigned count;
    AMI_TRY(read_page(v, number, page, leaf ? PAGE_LEAF : PAGE_BRANCH));
    /* LMDB itself leaves a branch with one node in the tree of free pages only. */
    const unsigned least = leaf || (v->tree.flags & INTEGER_KEYS) != 0 ? 1 : 2;
    if (!check_nodes(v, page, leaf, &count) || count < least)
        return bad(v->f, "page %llu of %s has nodes that cannot be", (unsigned long long)number,
                   v->tree.name);
    AMI_TRY(check_keys(v, page, count, leaf, low, high));
    if (leaf) {
        v->leaf++;
        return visit_leaf(v, page, count);
    }
    v->branch++;
    for (unsigned i = 0; i < count; i++) {
        struct node n, next;
        AMI_CHECK(read_node(v, page, i, false, &n));
        if (i + 1 < count)
            AMI_CHECK(read_node(v, page, i + 1, false, &next));
        AMI_TRY(visit_page(v, n.below, depth + 1, i == 0 ? low : &n.key,
                           i + 1 < count ? &next.key : high));
    }
    return AMI_OK;
}

static enum ami_status visit_levels(struct visit *v)
{
    struct file *f = v->f;
    const struct tree *t = &v->tree;
    for (unsigned i = 0; i < t->depth; i++)
        if ((v->level[i] = malloc(f->meta.page_size)) == NULL)
            return AMI_NO_MEMORY;
    if (t->depth > 0)
        AMI_TRY(visit_page(v, t->root, 0, NULL, NULL));
    if (v->branch != t->branch || v->leaf != t->leaf || v->overflow != t->overflow ||
        v->entries != t->entries)
        return bad(f, "%s has %llu entries on %llu pages, and its record says %llu on %llu",
                   t->name, (unsigned long long)v->entries,
                   (unsigned long long)(v->branch + v->leaf + v->overflow),
                   (unsigned long long)t->entries,
                   (unsigned long long)(t->branch + t->leaf + t->overflow));
    return AMI_OK;
}

static enum ami_status visit_tree(struct file *f, const struct tree *t,
                                  enum ami_status (*on_entry)(struct visit *v, struct span key,
                                                              struct span value, bool is_tree))
{
    struct visit v = {.f = f, .tree = *t, .on_entry = on_entry};
    if (t->depth > DEPTH_MAX || (t->depth == 0) != (t->root == NO_PAGE))
        return bad(f, "the record of %s is none of a tree", t->name);
    enum ami_status status = visit_levels(&v);
    for (unsigned i = 0; i < t->depth && i < DEPTH_MAX; i++)
        free(v.level[i]);
    return status;
}

/* --- what the trees hold -----------------------------------------------------------------------
 */

/* u64 count, then page numbers that fall. */
static enum ami_status on_free(struct visit *v, struct span key, struct span value, bool is_tree)
{
    const uint64_t txn = u64_at(key.data); /* eight bytes: check_keys */
    uint64_t count = value.size >= 8 ? u64_at(value.data) : UINT64_MAX, before = UINT64_MAX;
    if (is_tree || count > value.size / 8 - 1 || txn == 0 || txn > v->f->meta.txn)
        return bad(v->f, "the list of free pages of write %llu is none", (unsigned long long)txn);
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = u64_at(value.data + 8 * i);
        if (page >= before)
            return bad(v->f, "the list of free pages of write %llu is in disorder",
                       (unsigned long long)txn);
        AMI_TRY(own(v->f, page, "the list of free pages"));
        before = page;
    }
    return AMI_OK;
}

static enum ami_status on_value(struct visit *v, struct span key, struct span value, bool is_tree)
{
    const struct lmdb_walk *w = v->f->walk;
    if (is_tree)
        return bad(v->f, "%s holds what is no value", v->tree.name);
    return w->entry(w->ctx, v->tree.name, key, value, v->f->why, v->f->why_size);
}

static enum ami_status on_named(struct visit *v, struct span key, struct span value, bool is_tree)
{
    char name[64];
    if (!is_tree || key.size >= sizeof name)
        return bad(v->f, "it holds something beside its databases");
    memcpy(name, key.data, key.size);
    name[key.size] = '\0';
    const struct lmdb_walk *w = v->f->walk;
    if (w->wanted != NULL && !w->wanted(w->ctx, name))
        return AMI_OK;
    struct tree t = tree_at(value.data, name);
    if (t.flags != 0)
        return bad(v->f, "database %s is of a kind that is not used here", name);
    return visit_tree(v->f, &t, on_value);
}

/* --- meta pages --------------------------------------------------------------------------------
 */

static enum ami_status read_meta(struct file *f, unsigned index, uint32_t page_size,
                                 struct meta *out)
{
    uint8_t p[META_BYTES];
    AMI_TRY(read_at(f, p, sizeof p, (uint64_t)index * page_size));
    *out = (struct meta){.page_size = u32_at(p + 40),
                         .map_size = u64_at(p + 32),
                         .free = tree_at(p + 40, "the list of free pages"),
                         .names = tree_at(p + 88, "the list of databases"),
                         .last_page = u64_at(p + 136),
                         .txn = u64_at(p + 144)};
    const uint32_t size = out->page_size;
    bool ok = u64_at(p) == index && u16_at(p + 10) == PAGE_META && u32_at(p + 16) == MAGIC &&
              u32_at(p + 20) == VERSION && size >= 512 && size <= 32768 && (size & (size - 1)) == 0;
    ok = ok && (page_size == 0 || size == page_size) && out->free.flags == INTEGER_KEYS &&
         out->names.flags == 0 && u32_at(p + 88) == 0;
    ok = ok && out->last_page >= 1 && out->last_page < INT64_MAX / 65536 &&
         out->map_size >= (out->last_page + 1) * size && out->map_size < (uint64_t)1 << 46;
    /* Number 0 is that of an empty file. */
    bool empty = out->free.root == NO_PAGE && out->names.root == NO_PAGE && out->last_page == 1;
    ok = ok && (out->txn == 0 ? empty : out->txn % 2 == index);
    return ok ? AMI_OK : bad(f, "its meta page %u is damaged, or it is no LMDB file", index);
}

/* The greatest key of a meta page's tree of free pages, without owning its pages. */
static enum ami_status last_free(struct file *f, const struct meta *m, uint64_t *key)
{
    struct visit v = {.f = f, .tree = m->free};
    uint64_t number = m->free.root;
    *key = 0;
    if (m->free.depth == 0)
        return AMI_OK;
    uint8_t *page = malloc(m->page_size);
    enum ami_status status = page == NULL ? AMI_NO_MEMORY : AMI_OK;
    for (unsigned depth = 0; status == AMI_OK && depth < m->free.depth; depth++) {
        const bool leaf = depth + 1 == m->free.depth;
        unsigned count = 0;
        struct node n;
        status = number < 2 || number > f->meta.last_page
                     ? AMI_DAMAGED
                     : read_at(f, page, m->page_size, number * m->page_size);
        if (status == AMI_OK && (u16_at(page + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH) ||
                                 !check_nodes(&v, page, leaf, &count) || count == 0 ||
                                 !read_node(&v, page, count - 1, leaf, &n)))
            status = AMI_DAMAGED;
        if (status == AMI_OK && leaf && n.key.size == 8)
            *key = u64_at(n.key.data);
        if (status == AMI_OK)
            number = n.below;
    }
    free(page);
    return status;
}

/* The newer of the two counts. LMDB finds it by the write's number alone: so that a damaged number
 * does not bring back an old state, both must be backed by their list of free pages. */
static enum ami_status choose_meta(struct file *f)
{
    struct meta m[2];
    uint64_t key;
    AMI_TRY(read_meta(f, 0, 0, &m[0]));
    AMI_TRY(read_meta(f, 1, m[0].page_size, &m[1]));
    const struct meta *newer = m[0].txn < m[1].txn ? &m[1] : &m[0];
    const struct meta *older = newer == &m[0] ? &m[1] : &m[0];
    if (newer->txn - older->txn > 1)
        return bad(f,
                   "its two meta pages are of writes %llu and %llu, which do not follow each other",
                   (unsigned long long)older->txn, (unsigned long long)newer->txn);
    f->meta = *newer;
    for (unsigned i = 0; i < 2; i++) {
        if (m[i].txn < 2)
            continue; /* the first write gives no page back */
        if (last_free(f, &m[i], &key) != AMI_OK || key != m[i].txn)
            return bad(f, "its meta page %u is not of write %llu, as it says", i,
                       (unsigned long long)m[i].txn);
    }
    return AMI_OK;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static enum ami_status walk_file(struct file *f, struct lmdb_file_result *out)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        (void)bad(f, "it cannot be looked at: %s", strerror(errno));
        return AMI_IO;
    }
    if (st.st_size == 0)
        return AMI_NOT_FOUND;
    AMI_TRY(choose_meta(f));
    /* No more than the file can hold, but for pages that LMDB gave back before it wrote them. */
    if (f->meta.last_page / 2 > (uint64_t)st.st_size / f->meta.page_size + 64)
        return bad(f, "the file is cut off: it has %lld bytes and should have %llu",
                   (long long)st.st_size,
                   (unsigned long long)((f->meta.last_page + 1) * f->meta.page_size));
    f->owned = calloc(f->meta.last_page / 8 + 1, 1);
    if (f->owned == NULL)
        return AMI_NO_MEMORY;
    (void)posix_fadvise(f->fd, 0, 0, POSIX_FADV_WILLNEED);
    AMI_TRY(visit_tree(f, &f->meta.free, on_free));
    AMI_TRY(visit_tree(f, &f->meta.names, on_named));
    *out = (struct lmdb_file_result){f->meta.txn, f->pages, f->entries};
    return AMI_OK;
}

enum ami_status lmdb_file_walk(const char *path, const struct lmdb_walk *walk,
                               struct lmdb_file_result *out, char *why, size_t why_size)
{
    struct file f = {.walk = walk, .why = why, .why_size = why_size};
    if (why_size > 0)
        why[0] = '\0';
    f.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f.fd < 0) {
        int error = errno;
        (void)bad(&f, "it cannot be opened: %s", strerror(error));
        return error == ENOENT ? AMI_NOT_FOUND : AMI_IO;
    }
    enum ami_status status = walk_file(&f, out);
    if (status != AMI_OK && why_size > 0 && why[0] == '\0')
        snprintf(why, why_size, "%s", ami_status_text(status));
    free(f.owned);
    free(f.value);
    close(f.fd);
    return status;
}
