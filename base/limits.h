/* base/limits.h - every bound that more than one room must agree on. Units are in the names. */
#ifndef AMI_BASE_LIMITS_H
#define AMI_BASE_LIMITS_H

/* Data concentrators in one committee (network-profiles: 4 to 31 per region). */
#define AMI_MEMBERS_MAX 31
#define AMI_MEMBERS_MIN 4

/* Device, DC and network names: 1 to 32 bytes of [A-Za-z0-9._-]. */
#define AMI_ID_BYTES_MAX 32

/* "host:port" of a listening address. */
#define AMI_ADDRESS_BYTES_MAX 80

/* A scheme's opaque part of U, of an enrolment request and of an enrolment reply. */
#define AMI_SCHEME_PART_BYTES_MAX 96

/* A scheme's opaque part of one flight of the agreement. */
#define AMI_FLIGHT_BYTES_MAX 256

/* One encoded report m, before sealing. A day's profile of 96 intervals with two registers fits. */
#define AMI_REPORT_BYTES_MAX 4096
/* Register values in one report. */
#define AMI_REPORT_READINGS_MAX 512
/* Report plus salt and GCM tag. */
#define AMI_SEALED_BYTES_MAX (AMI_REPORT_BYTES_MAX + 16 + 16)

/* One encoded transaction. */
#define AMI_TX_BYTES_MAX (AMI_SEALED_BYTES_MAX + 512)

/* One signed statement in evidence: a grant with a certificate of 31 votes is the largest. */
#define AMI_STATEMENT_BYTES_MAX 2192

/* One block body. */
#define AMI_BLOCK_TXS_MAX   4096
#define AMI_BLOCK_BYTES_MAX (2u << 20)

/* One frame on a link, length prefix excluded: by who may send it. A peer's frame carries a block
 * with its certificates; 4 MiB leaves room for 31 grants with their certificates. */
#define AMI_FRAME_PEER_BYTES_MAX  (4u << 20)
#define AMI_FRAME_METER_BYTES_MAX (16u << 10)
#define AMI_FRAME_ADMIN_BYTES_MAX (4u << 20)

/* The MDMS's list of revoked operators (channel/file.h): entries, and its encoding. */
#define AMI_REVOKED_MAX       1000
#define AMI_REVOKED_BYTES_MAX (123 + 40 * AMI_REVOKED_MAX)

/* Sequence numbers above a meter's floor that may be open at once (protocol.md section 5). */
#define AMI_SEQ_WINDOW 64

#endif
