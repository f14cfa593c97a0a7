/* docs/model/consensus.pml - the voting rules of docs/consensus.md, for spin.
 *
 * One process, the adversary, is the network, the clock and the liars: it decides who does what
 * next and who has seen what. The state is what honest members have signed so far and what each of
 * them remembers. A statement, once made, may reach anybody at any time, or never; so loss, delay,
 * repetition and reordering need no queues. Liars have no state: in every quorum they count as
 * having said whatever helps, their grants carry any certificate that exists or none, and they lead
 * every term, showing each member the election certificate and the blocks of their choice. They
 * cannot make what others sign.
 *
 * Where the rules of docs/consensus.md are:
 *   rules 1, 2  grant()        enters a term once, saying the own highQC; terms may be skipped
 *   rule 3      may_propose()  M's block again, or a block on M's block with its commit certificate
 *   rule 4      may_propose()  a block on one that was committed in this term
 *   rule 5      prepare()      only rising (term, height), on the own tip
 *   rule 6      commit()       only in the own term, only rising, on the own tip
 *   rule 7      decide()       commit certificates: the property is checked here
 *   rule 10     apply()        whoever needs a tip can fetch it, once its certificate exists
 *   restarts                   all is kept but the election certificate that was seen; the model
 *                              remembers none at all: each vote may be given under another one
 *
 * The property: in all commit certificates that can be made there is one block for each height, and
 * they are one chain.
 *
 * Bounds: -DTERMS, -DHEIGHTS (1 or 2), -DVARIANTS (blocks that one leader makes for one place), -DN
 * and -DLIARS. -DLIARS=0: nobody lies, and leaders, too, keep to the rules. -DREDUCE merges states
 * that cannot differ in what follows. Each -DOFF_... takes one rule away; the names are those of
 * enum rule_off in consensus/replica.h, and OFF_TIP: votes for more than the next block on the tip.
 *
 * docs/model/README.md says what is left out, how to run this, and what was found.
 */
#ifndef TERMS
#define TERMS 2
#endif
#ifndef HEIGHTS
#define HEIGHTS 2
#endif
#ifndef N
#define N 4
#endif
#ifndef LIARS
#define LIARS 1
#endif
#ifndef VARIANTS
#define VARIANTS (LIARS + 1)
#endif

#define F ((N - 1) / 3)
#ifdef OFF_QUORUM
#define QUORUM (2 * F + 1)
#else
#define QUORUM ((N + F + 2) / 2) /* ceil((N + F + 1) / 2) */
#endif
#define HONEST (N - LIARS)
#define NEED (QUORUM - LIARS) /* so many honest members make a quorum */

#if defined(OFF_MONOTONE) || defined(OFF_PERSIST)
#define TWICE /* a member may vote in one slot twice: count it once for each block */
#endif
#if defined(REDUCE) && (defined(TWICE) || defined(OFF_COMMIT_TERM))
#error with this rule off, votes of old slots matter
#endif

/* Blocks are numbered. At height 1 there are VARIANTS for each term that made them; at height 2 as
 * many on each block of height 1. 0 is the genesis file. */
#define FIRSTS (TERMS * VARIANTS)
#if HEIGHTS == 1
#define BLOCKS FIRSTS
#else
#define BLOCKS (FIRSTS + FIRSTS * FIRSTS)
#endif
#define HEIGHT(b) ((b) <= FIRSTS -> 1 : 2)
#define PARENT(b) ((b) <= FIRSTS -> 0 : ((b) - FIRSTS - 1) / FIRSTS + 1)
#define MADE_IN(b) (((b) - 1) % FIRSTS / VARIANTS + 1)
#define VARIANT(b) (((b) - 1) % VARIANTS)
#define BLOCK(t, variant, parent) ((parent) * FIRSTS + ((t) - 1) * VARIANTS + (variant) + 1)

/* A certificate's rank; at equal term and height the one that commits is the higher. 0: none. */
#define RANK(t, h, final) ((((t) - 1) * HEIGHTS + (h) - 1) * 2 + (final) + 1)
#define SLOT(t, h) (((t) - 1) * HEIGHTS + (h))

/* What honest members have said. Votes are counted up to NEED: then the certificate can be made,
 * and one more vote would only bind its voter. */
#define AT(t, b) (((t) - 1) * BLOCKS + (b) - 1)
byte prepares[TERMS * BLOCKS];
byte commits[TERMS * BLOCKS];
#define GRANT(i, t) ((i) * TERMS + (t) - 1)
byte grants[HONEST * TERMS]; /* 0: none; otherwise 1 + the rank of the highQC in it */
#ifdef TWICE
byte prepared_by[TERMS * BLOCKS]; /* masks of members */
byte committed_by[TERMS * BLOCKS];
#endif

/* What each honest member remembers. */
byte term[HONEST];
byte high[HONEST];         /* the rank of its highQC */
byte last_prepare[HONEST]; /* the slot of its last prepare vote */
byte last_commit[HONEST];
byte tip[HONEST]; /* 0, or the block of height 1 that it has applied */

byte chain[HEIGHTS]; /* what was committed */

#if LIARS == 0
byte leader_m[TERMS];           /* 0: no leader yet; otherwise 1 + the rank of its M */
byte proposed[TERMS * HEIGHTS]; /* an honest leader makes one proposal for each height */
#define PROPOSED(t, b) proposed[SLOT(t, HEIGHT(b)) - 1]
#endif

#define PREPARED(t, b) (prepares[AT(t, b)] >= NEED)
#ifdef OFF_ONE_PHASE
#define COMMITTED(t, b) (commits[AT(t, b)] >= NEED || PREPARED(t, b))
#define COMMIT_RANK(t, h) (RANK(t, h, 0))
#else
#define COMMITTED(t, b) (commits[AT(t, b)] >= NEED)
#define COMMIT_RANK(t, h) (RANK(t, h, 1))
#endif

/* Scratch: all 0 between steps. */
byte dc, tm, blk, each, old, m_rank, cert, count, ok, shown, moved;

inline pick(x, from, to)
{
    x = from;
    do
    :: x < to -> x++
    :: break
    od;
    skip /* no loop may end in front of a d_step */
}

/* --- rule 7 ---------------------------------------------------------------------------------- */

inline place(block)
{
    assert(chain[HEIGHT(block) - 1] == 0 || chain[HEIGHT(block) - 1] == block);
    chain[HEIGHT(block) - 1] = block
}

inline decide()
{
    printf("    block %d, height %d, is committed in term %d\n", blk, HEIGHT(blk), tm);
    if
    :: HEIGHT(blk) == 2 -> place(PARENT(blk)) /* its ancestors are committed with it */
    :: else
    fi;
    place(blk)
}

/* --- rules 1 and 2 --------------------------------------------------------------------------- */

/* A higher highQC in an honest grant than votes and tips made necessary does not help an adversary
 * with a liar, whose own grant may carry any. Without liars, or with -DRAISE, the member may have
 * seen any certificate before it grants. */
inline grant()
{
    if
    :: term[dc] < TERMS ->
        pick(tm, term[dc] + 1, TERMS);
        m_rank = high[dc];
#if LIARS == 0 || defined(RAISE)
        pick(m_rank, high[dc], RANK(tm - 1, HEIGHTS, 1));
#endif
        d_step {
            ok = m_rank == high[dc];
            if
            :: !ok -> /* is there a certificate of that rank? */
                for (blk : 1 .. BLOCKS) {
                    for (old : 1 .. tm - 1) {
                        ok = ok || (PREPARED(old, blk) && m_rank == RANK(old, HEIGHT(blk), 0)) ||
                             (COMMITTED(old, blk) && m_rank == COMMIT_RANK(old, HEIGHT(blk)))
                    }
                }
            :: else
            fi;
            if
            :: ok ->
                high[dc] = m_rank;
                term[dc] = tm;
#ifdef OFF_GRANT_HIGH
                m_rank = 0;
#endif
                grants[GRANT(dc, tm)] = 1 + m_rank;
                printf("dc%d grants term %d, highQC of rank %d\n", dc, tm, m_rank);
                last_prepare[dc] = 0;
#ifndef OFF_COMMIT_TERM
                last_commit[dc] = 0;
#endif
                moved = 1
            :: else
            fi
        }
    :: else
    fi
}

/* --- rules 3 and 4 --------------------------------------------------------------------------- */

/* ok: is there an election certificate of term tm whose M has the rank m_rank? The caller knows
 * that a certificate of that rank exists, so that a liar's grant may carry it. */
inline may_be_m()
{
    count = 0;
    ok = LIARS > 0;
    for (each : 0 .. HONEST - 1) {
        if
        :: grants[GRANT(each, tm)] > 0 && grants[GRANT(each, tm)] <= 1 + m_rank ->
            count++;
            ok = ok || grants[GRANT(each, tm)] == 1 + m_rank
        :: else
        fi
    }
    ok = ok && count >= NEED;
#if LIARS == 0
    /* The first voter of a term is its leader, whose own grant is in the certificate. */
    ok = ok && (leader_m[tm - 1] == 1 + m_rank ||
                (leader_m[tm - 1] == 0 && grants[GRANT(dc, tm)] <= 1 + m_rank));
#endif
}

/* m_rank: of the highest certificate of `block` from a lower term than tm; 0: none. */
inline highest_before(block)
{
    m_rank = 0;
    old = 1;
    do
    :: old < tm ->
        if
        :: COMMITTED(old, block) -> m_rank = COMMIT_RANK(old, HEIGHT(block))
        :: else ->
            if
            :: PREPARED(old, block) -> m_rank = RANK(old, HEIGHT(block), 0)
            :: else
            fi
        fi;
        old++
    :: else -> break
    od
}

/* cert: the rank of the lowest commit certificate of `block` from a term up to tm; 0: none. */
inline lowest_commit(block)
{
    cert = 0;
    old = tm;
    do
    :: old > 0 ->
        if
        :: COMMITTED(old, block) -> cert = COMMIT_RANK(old, HEIGHT(block))
        :: else
        fi;
        old--
    :: else -> break
    od
}

/* ok: may the leader of term tm show block blk to dc? cert: the rank of the parent's commit
 * certificate that it shows with it, or 0. */
inline may_propose()
{
    cert = 0;
    ok = false;
    highest_before(blk);
    if
    :: m_rank > 0 -> may_be_m() /* M's block again */
    :: else
    fi;
    if
    :: ok || MADE_IN(blk) != tm
    :: else ->
        m_rank = 0;
        if
        :: HEIGHT(blk) == 1 -> may_be_m() /* without M: a fresh block on the genesis file */
        :: else ->
            highest_before(PARENT(blk));
            if
            :: m_rank > 0 -> may_be_m() /* a fresh block on M's block */
            :: else
            fi;
#ifdef OFF_PARENT
            ok = true;
#endif
            lowest_commit(PARENT(blk));
#ifdef OFF_PARENT_COMMIT
            ok = ok || COMMITTED(tm, PARENT(blk));
#else
            ok = (ok && cert > 0) || COMMITTED(tm, PARENT(blk));
#endif
        fi;
#ifdef OFF_BOUND
        ok = true;
        cert = 0
#endif
    fi
}

/* --- rules 5 and 10 -------------------------------------------------------------------------- */

inline learn(rank)
{
    if
    :: rank > high[dc] -> high[dc] = rank
    :: else
    fi
}

/* ok: is blk the next block on the tip of dc, or its tip? A tip that is missing is fetched and
 * applied first, with the commit certificate of lowest rank. */
inline apply()
{
#ifdef OFF_TIP
    ok = true;
#else
    if
    :: HEIGHT(blk) == 1 -> ok = tip[dc] == 0 || tip[dc] == blk
    :: else ->
        ok = tip[dc] == PARENT(blk);
        if
        :: tip[dc] == 0 ->
            lowest_commit(PARENT(blk));
            ok = cert > 0;
            if
            :: ok ->
                tip[dc] = PARENT(blk);
                learn(cert)
            :: else
            fi
        :: else
        fi
    fi
#endif
}

/* blk: any block of height 1, or any on the tip of dc or on the one that it could fetch. */
inline pick_block()
{
    pick(blk, 1, tm * VARIANTS);
#if HEIGHTS > 1
    old = (tip[dc] -> tip[dc] : chain[0]);
#ifdef OFF_TIP
    pick(old, 0, FIRSTS);
#endif
    if
    :: blk = BLOCK(MADE_IN(blk), VARIANT(blk), old)
    :: skip
    fi
#endif
}

inline prepare()
{
    tm = term[dc];
    if
    :: tm > 0 ->
        pick_block();
        d_step {
            ok = !PREPARED(tm, blk);
            /* Variants of a new block are alike: the first one is the first one voted for. */
            ok = ok && (VARIANT(blk) == 0 || MADE_IN(blk) < tm || prepares[AT(tm, blk) - 1] > 0);
#ifdef TWICE
            ok = ok && (prepared_by[AT(tm, blk)] & (1 << dc)) == 0;
#endif
#ifndef OFF_MONOTONE
            ok = ok && last_prepare[dc] < SLOT(tm, HEIGHT(blk));
#endif
#if LIARS == 0
            ok = ok && (PROPOSED(tm, blk) == 0 || PROPOSED(tm, blk) == blk);
#endif
            if
            :: ok -> may_propose()
            :: else
            fi;
            if
            :: ok ->
                shown = cert;
                apply()
            :: else
            fi;
            if
            :: ok ->
                learn(shown);
                say_prepare()
            :: else
            fi
        }
    :: else
    fi
}

inline say_prepare()
{
    printf("dc%d votes to prepare in term %d block %d (height %d, on %d, made in term %d)\n",
        dc, tm, blk, HEIGHT(blk), PARENT(blk), MADE_IN(blk));
    last_prepare[dc] = SLOT(tm, HEIGHT(blk));
    prepares[AT(tm, blk)]++;
#ifdef TWICE
    prepared_by[AT(tm, blk)] = prepared_by[AT(tm, blk)] | (1 << dc);
#endif
#if LIARS == 0
    leader_m[tm - 1] = (leader_m[tm - 1] -> leader_m[tm - 1] : 1 + m_rank);
    PROPOSED(tm, blk) = blk;
#endif
#ifdef OFF_ONE_PHASE
    if
    :: PREPARED(tm, blk) -> decide()
    :: else
    fi;
#endif
    moved = 1
}

/* --- rule 6 ---------------------------------------------------------------------------------- */

inline commit()
{
    tm = term[dc];
#ifdef OFF_COMMIT_TERM
    pick(tm, (term[dc] -> 1 : 0), term[dc]);
#endif
    if
    :: tm > 0 ->
        pick_block();
        d_step {
            ok = PREPARED(tm, blk) && commits[AT(tm, blk)] < NEED;
#ifdef TWICE
            ok = ok && (committed_by[AT(tm, blk)] & (1 << dc)) == 0;
#endif
            ok = ok && last_commit[dc] < SLOT(tm, HEIGHT(blk));
            ok = ok && high[dc] <= RANK(tm, HEIGHT(blk), 0);
            if
            :: ok -> apply()
            :: else
            fi;
            if
            :: ok ->
                learn(RANK(tm, HEIGHT(blk), 0));
                say_commit()
            :: else
            fi
        }
    :: else
    fi
}

inline say_commit()
{
    printf("dc%d votes to commit in term %d block %d\n", dc, tm, blk);
    last_commit[dc] = SLOT(tm, HEIGHT(blk));
    commits[AT(tm, blk)]++;
#ifdef TWICE
    committed_by[AT(tm, blk)] = committed_by[AT(tm, blk)] | (1 << dc);
#endif
    if
    :: commits[AT(tm, blk)] == NEED -> decide()
    :: else
    fi;
    moved = 1
}

#ifdef OFF_PERSIST
/* A restart that forgets votes and highQC; term, grant, tip and the tip's certificate are kept. */
inline restart()
{
    d_step {
        tm = TERMS;
        cert = 0;
        if
        :: tip[dc] != 0 -> lowest_commit(tip[dc])
        :: else
        fi;
        high[dc] = cert;
        last_prepare[dc] = 0;
        last_commit[dc] = 0;
        printf("dc%d restarts, its votes are forgotten\n", dc)
    }
}
#endif

/* --- -DREDUCE -------------------------------------------------------------------------------- */

/* What cannot matter any more is forgotten, so that states which differ in nothing else are one: a
 * vote that can no longer become part of a certificate, grants of a term that all have left, and in
 * the last term a highQC of a lower one. */
#define MAY_STILL(last) \
    (term[each] < tm || (term[each] == tm && last[each] < SLOT(tm, HEIGHT(blk))))
inline forget()
{
    for (tm : 1 .. TERMS) {
        for (blk : 1 .. BLOCKS) {
            if
            :: prepares[AT(tm, blk)] > 0 && prepares[AT(tm, blk)] < NEED ->
                count = prepares[AT(tm, blk)];
                for (each : 0 .. HONEST - 1) {
                    count = count + MAY_STILL(last_prepare)
                }
                if
                :: count < NEED -> prepares[AT(tm, blk)] = 0
                :: else
                fi
            :: else
            fi;
            if
            :: commits[AT(tm, blk)] > 0 && commits[AT(tm, blk)] < NEED ->
                count = commits[AT(tm, blk)];
                for (each : 0 .. HONEST - 1) {
                    count = count + MAY_STILL(last_commit)
                }
                if
                :: count < NEED -> commits[AT(tm, blk)] = 0
                :: else
                fi
            :: else
            fi
        }
        ok = 1;
        for (each : 0 .. HONEST - 1) {
            ok = ok && term[each] > tm
        }
        for (each : 0 .. HONEST - 1) {
            grants[GRANT(each, tm)] = (ok -> 0 : grants[GRANT(each, tm)])
        }
    }
    for (each : 0 .. HONEST - 1) {
        if
        :: term[each] == TERMS && high[each] < RANK(TERMS, 1, 0) -> high[each] = 0
        :: else
        fi
    }
}

/* Members are alike: of states that differ in their numbers only, one is kept. */
#define SWAP(a, x, y) count = a[x]; a[x] = a[y]; a[y] = count
#define COMPARE(a, x, y) ok = (ok || a[x] == a[y] -> ok : (a[x] < a[y] -> 1 : 2))
inline order(x, y)
{
    ok = 0; /* 1: in order, 2: the other way round */
    COMPARE(term, x, y);
    COMPARE(high, x, y);
    COMPARE(last_prepare, x, y);
    COMPARE(last_commit, x, y);
    COMPARE(tip, x, y);
    for (tm : 1 .. TERMS) {
        COMPARE(grants, GRANT(x, tm), GRANT(y, tm))
    }
    if
    :: ok == 2 ->
        SWAP(term, x, y);
        SWAP(high, x, y);
        SWAP(last_prepare, x, y);
        SWAP(last_commit, x, y);
        SWAP(tip, x, y);
        for (tm : 1 .. TERMS) {
            SWAP(grants, GRANT(x, tm), GRANT(y, tm))
        }
    :: else
    fi
}

inline sort()
{
    for (old : 1 .. HONEST - 1) { /* as often as one may have to move by one place */
        for (each : 0 .. HONEST - 2) {
            order(each, each + 1)
        }
    }
}

active proctype adversary()
{
    do
    :: atomic {
        pick(dc, 0, HONEST - 1);
        if
        :: grant()
        :: prepare()
        :: commit()
#ifdef OFF_PERSIST
        :: restart()
#endif
        fi;
        d_step {
#ifdef REDUCE
            if
            :: moved ->
                forget();
                sort()
            :: else
            fi;
#endif
            dc = 0;
            tm = 0;
            blk = 0;
            each = 0;
            old = 0;
            m_rank = 0;
            cert = 0;
            count = 0;
            ok = 0;
            shown = 0;
            moved = 0
        }
    }
    od
}
