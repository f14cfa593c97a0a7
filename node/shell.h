/* node/shell.h - the process around a node: what dc-node's files share.
 *
 *   main.c          options, env of the core, start and end
 *   shell_ledger.c  own keys and the ledger, at the start and when the key changes
 *   shell_links.c   ports, dials, channels
 *
 * All of it is the loop's thread's but for what says otherwise.
 */
#ifndef AMI_NODE_SHELL_H
#define AMI_NODE_SHELL_H

#include "net/link.h"
#include "net/logline.h"
#include "net/loop.h"
#include "net/options.h"
#include "net/pool.h"
#include "net/writer.h"
#include "node/anchors.h"
#include "node/core.h"
#include "node/keys.h"
#include "node/recover.h"

#define PATH_BYTES 4096
#define KEYS_MAX   16 /* key epochs of this DC in its folder */

/* As given. */
struct shell_options {
    const char *genesis, *dir, *log_level;
    const char *listen_peers, *listen_meters, *listen_admin; /* NULL: as the ledger says */
    const char *suites;
    struct trust_files trust;
    struct text_list peers; /* NAME=ADDRESS */
    int64_t map_bytes, threads, patrol_ms;
};

/* One dialler, and whom it reaches. It stays in the list, stopped, until the end: its link may
 * still speak. */
struct dial {
    struct dial *next;
    struct shell *shell;
    struct node_peer peer;
    struct link_security security;
    struct link_dialer *dialer; /* NULL: stopped */
};

struct own_key {
    char name[KEY_NAME_BYTES];
    struct device_file file;
};

struct port {
    struct shell *shell;
    enum node_port port;
    struct link_security security; /* not of meters, which bring their own */
    struct gate gate;
    struct link_listener *listener;
};

struct shell {
    const struct shell_options *opt;
    struct genesis genesis;
    uint8_t *genesis_text;
    size_t genesis_size;
    struct own_key key[KEYS_MAX];
    size_t keys;
    struct own_key *used;           /* the one that the node began with */
    const struct own_key *speaking; /* the one that links are made under */
    struct credential credential;   /* under which this DC speaks with other DCs, MDMS, operators */
    uint8_t suites;                 /* of records on links */
    struct anchors anchors;
    struct loop_alarm anchors_alarm;
    struct registry *registry;
    struct store *store;
    struct point_table *p_pub;
    struct loop *loop;
    struct links *links;
    struct work_pool *work;
    struct disk_writer *writer;
    struct log_sink *log;
    struct loop_alarm alarm;
    struct node *node;
    struct dial *dials;
    struct port port[3];
    bool record_exists;
    struct vote_record record;
    uint8_t record_bytes[NODE_RECORD_BYTES_MAX];
    struct block_header tip_header;
    struct qc tip_commit;
    bool key_missing; /* the key that votes now is not in the folder */
    struct recover_mark mark;
    int64_t checked_ms; /* when the whole ledger was checked */
    int dir_lock;       /* -1: not locked */
    bool unmarked;      /* the last end's mark is gone: this end makes one */
    bool failed, disk_failed, damaged;
    struct recover_patrol patrol;
    /* The vote record that was written last, size 0 when this node may not sign. Of the storage
     * thread while there is one. */
    uint8_t last_record[NODE_RECORD_BYTES_MAX];
    size_t last_record_size;
};

/* --- own keys and the ledger: shell_ledger.c -------------------------------------------------- */

enum ami_status shell_load_genesis(struct shell *s, struct why *why) AMI_MUST_CHECK;
/* All of this DC's key files in its folder; AMI_FOREIGN_KEY, AMI_WRONG_CHAIN: not to be used here.
 */
enum ami_status shell_load_keys(struct shell *s, struct why *why) AMI_MUST_CHECK;
/* Has the ledger checked, opens it and loads what the node begins with. */
enum ami_status shell_open_ledger(struct shell *s, struct why *why) AMI_MUST_CHECK;
/* The key that votes on the next block; when there is none, the newest. */
enum ami_status shell_choose_key(struct shell *s, struct why *why) AMI_MUST_CHECK;

/* Consensus rule 11: the key file counts the starts, and so does the vote record. A record that is
 * missing or counts less is not the newest one. */
bool shell_may_sign(const struct shell *s, const struct own_key *k);
/* Counts this start in both. */
enum ami_status shell_count_start(struct shell *s, struct own_key *k,
                                  struct why *why) AMI_MUST_CHECK;
struct node_key shell_node_key(const struct shell *s, const struct own_key *k, bool sign);

/* Links are made under the key that votes, as hellos are, or under what the options name. ctx: the
 * shell. */
enum ami_status shell_use_credential(void *ctx, struct why *why) AMI_MUST_CHECK;
/* node_config.use_key; ctx: the shell. */
enum ami_status shell_use_key(void *ctx, uint32_t epoch, struct node_key *out) AMI_MUST_CHECK;

/* The mark of the last clean end goes: its record may be an older one from here on. */
enum ami_status shell_unmark(struct shell *s, struct why *why) AMI_MUST_CHECK;
/* The record that is on the disk, for the mark of a clean end. Storage thread. */
void shell_keep_record(struct shell *s, struct span record);
/* Closes the ledger, and marks how it was left. */
void shell_close_ledger(struct shell *s);

/* --- links: shell_links.c --------------------------------------------------------------------- */

/* Every --peer names another DC, so that a mistyped one is not silently without effect. */
enum ami_status shell_check_peers(const struct shell *s, struct why *why) AMI_MUST_CHECK;
/* Where this DC listens: as its options say, else as the genesis file or its membership does. */
enum ami_status shell_open_ports(struct shell *s, struct why *why) AMI_MUST_CHECK;
/* node_config.dial and .port_counters; ctx: the shell. */
void shell_dial(void *ctx, const struct node_peer *peer, size_t count);
void shell_port_counters(void *ctx, enum node_port port, struct node_port_counters *out);
/* Of the alarm for what is trusted; arg: the shell. */
void shell_look_at_anchors(void *arg);
/* trust.revoked; ctx: the shell. */
bool shell_operator_revoked(void *ctx, const struct credential_identity *who);

#endif
