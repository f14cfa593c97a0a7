/* bench/links_rows.h - what bench-links measures.
 *
 *   links_tls.c         OpenSSL's side: TLS 1.2 handshakes over memory BIOs
 *   links_handshakes.c  whole handshakes with each credential, and the two sides by themselves; CFL
 *                       certificates beside X.509 chains
 *   links_records.c     records of both suites, and AES and SM4 with HMACs
 *
 * Everything is mutual authentication, without resumption, in one process and one thread, so that
 * no network is in the figures.
 */
#ifndef AMI_BENCH_LINKS_ROWS_H
#define AMI_BENCH_LINKS_ROWS_H

#include "bench/report.h"

/* --- links_tls.c ------------------------------------------------------------------------------ */

enum tls_kind { TLS_ECDSA, TLS_RSA, TLS_KINDS };
struct tls;
/* ECDHE-ECDSA-AES256-GCM-SHA384 on P-256, or ECDHE-RSA-AES256-GCM-SHA384 with 2048 bits; both sides
 * have a certificate of one root. */
struct tls *tls_new(enum tls_kind kind);
void tls_free(struct tls *t);
/* One handshake; adds what each side took. */
void tls_handshake(struct tls *t, double *client_ns, double *server_ns);

/* --- the rows; `chosen` says which --------------------------------------------------------------
 */

struct links_run {
    struct bench_report *report;
    unsigned repetitions;
    bool (*chosen)(const char *row);
};
extern const char *const links_handshake_rows[], *const links_record_rows[]; /* NULL at the end */
void links_handshakes(const struct links_run *run);
void links_records(const struct links_run *run);

double links_now_ns(void); /* processor time of this thread: both sides share it */

#endif
