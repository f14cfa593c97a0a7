/* wire/table.h - the one table of structures and messages.
 *
 * AMI_TYPES lists the types in order of use; AMI_FIELDS_T lists the fields of T as
 * F(kind, name, a, b, meaning). Kinds:
 *
 *   u8 u16 u32 u64 i64   big-endian integers (i64 in two's complement)
 *   fixed(N)             N bytes
 *   digest point sig     32, 33 and 64 bytes (SM3; compressed SM2 point; r then s)
 *   id                   u8 size, then 1..32 characters of [A-Za-z0-9._-]
 *   bytes(MAX)           u32 size, then that many bytes
 *   type(T)              the fields of T
 *   opt(T)               u8 0, or u8 1 and the fields of T
 *   list(T, MAX)         u16 count, then so many T
 *   digests(MAX) sigs(MAX)  u16 count, then so many digests or signatures
 *
 * docs/wire-format.md carries this table in words; a test compares the two.
 */
#ifndef AMI_WIRE_TABLE_H
#define AMI_WIRE_TABLE_H

#define AMI_TYPES(X)                                                                               \
    X(block_header, "What a block's hash covers. Hash = SM3(\"amiledger block v1\" 00 encoding).") \
    X(vote, "A DC's prepare or commit vote for one block in one term.")                            \
    X(qc, "Quorum certificate: q votes of one kind for one block in one term.")                    \
    X(report_meter_part, "First part of a report transaction: what the meter signed.")             \
    X(report_gateway_part, "Second part of a report transaction: what the gateway DC adds.")       \
    X(meter_enrol, "First part of a meter enrolment transaction: the tuple U.")                    \
    X(dc_enrol, "First part of a DC enrolment transaction.")                                       \
    X(revoke, "First part of a revocation transaction.")                                           \
    X(mdms_part, "Second part of a transaction of the MDMS: its signature.")                       \
    X(skip_meter_part, "First part of a skip transaction: the meter settles numbers unused.")      \
    X(evidence,                                                                                    \
      "First part of an evidence transaction: signed statements that no honest DC makes.")         \
    X(member_entry, "What the other members and the meters know of a DC that joins.")              \
    X(membership, "First part of a membership transaction: who votes, from which epoch on.")       \
    X(retention, "First part of a retention transaction: below which height reports may go.")      \
    X(tx, "A transaction: kind and the encodings of its two parts.")                               \
    X(certified_block, "A committed block as it is stored and served.")                            \
    X(prevote, "A DC would vote for this candidate in this term.")                                 \
    X(prevote_cert, "q pre-votes for one candidate and term.")                                     \
    X(term_proof, "Shows that a term was reached: by its pre-votes, or by votes cast in it.")      \
    X(prevote_request, "A DC whose timer expired asks for pre-votes of the next term.")            \
    X(grant, "The vote of an election; one per DC and term, durable before it is sent.")           \
    X(grant_request, "A candidate with a pre-vote certificate asks for grants.")                   \
    X(election_cert, "q grants for one candidate and term: who may lead, and from what.")          \
    X(proposal_core, "A leader's signed proposal of a block in its term.")                         \
    X(proposal_head, "A proposal_core as it is signed: what follows the header as one hash.")      \
    X(proposal, "A proposal with the block's body.")                                               \
    X(heartbeat, "The leader is alive and leads.")                                                 \
    X(heartbeat_ack, "A follower follows; what the leader needs to know that it has a quorum.")    \
    X(qc_announce, "A certificate made, passed on.")                                               \
    X(fetch_blocks, "Asks for committed blocks.")                                                  \
    X(fetch_body, "Asks for the body of one block by hash, committed or not.")                     \
    X(body_reply, "The block asked for by hash.")                                                  \
    X(tx_entry, "One encoded transaction.")                                                        \
    X(tx_submit, "Transactions handed to a DC, to be put on the ledger.")                          \
    X(vote_record, "A DC's durable vote record; stored, never sent.")                              \
    X(ledger_closed, "How a DC left its ledger at a clean end; stored beside it, never sent.")     \
    X(link_hello, "First frame of either side of a link between DCs or with the MDMS.")            \
    X(link_proof, "Second frame: proves the identity named in the hello.")                         \
    X(meter_hello, "First frame of a meter link, from the meter's side.")                          \
    X(meter_welcome, "The DC's answer to meter_hello.")                                            \
    X(agree_flight1, "Key agreement, meter to DC.")                                                \
    X(agree_flight2, "Key agreement, DC to meter.")                                                \
    X(agree_flight3, "Key agreement, meter to DC: confirmation.")                                  \
    X(redirect, "Where else a meter should go.")                                                   \
    X(refused, "An agreement was refused, perhaps with a redirection.")                            \
    X(leads, "A DC tells its meters, under the policy leader, that it leads now.")                 \
    X(session_ended, "The DC does not hold this session (any more).")                              \
    X(session_data, "One message inside a session, in either direction, sealed.")                  \
    X(report_submit, "Inside a session, meter to DC: one signed report.")                          \
    X(report_ack, "Inside a session, DC to meter: the report is committed, with its proof.")       \
    X(report_nack, "Inside a session, DC to meter: the report was not accepted.")                  \
    X(block_proof, "Header and commit certificate of a block, once per link before its acks.")     \
    X(membership_proof, "A membership transaction, and that it is on the ledger.")                 \
    X(enrol_request, "A device asks the MDMS for its key material.")                               \
    X(enrol_request_inner, "What enrol_request carries under encryption.")                         \
    X(enrol_reply, "The MDMS's answer.")                                                           \
    X(enrol_reply_inner, "What enrol_reply carries under encryption.")                             \
    X(relay, "An enrolment frame passed between a device and the MDMS by a DC.")                   \
    X(operators_list, "The newest list of revoked operators that the sender knows.")               \
    X(operators_taken, "Which list of revoked operators a DC goes by.")                            \
    X(admin_request, "A question of dc-cli.")                                                      \
    X(admin_reply, "The answer.")

#define AMI_FIELDS_block_header(F)                                                                 \
    F(u8, version, _, _, "1")                                                                      \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(digest, members, _, _, "hash of the member list of that epoch")                              \
    F(u64, height, _, _, "1 for the first block; the genesis has height 0")                        \
    F(u64, term, _, _, "term in which the block was first proposed")                               \
    F(digest, previous, _, _, "hash of the block before; the chain id for height 1")               \
    F(digest, merkle_root, _, _, "Merkle root of the transactions")                                \
    F(digest, state_root, _, _, "root of the registry after this block")                           \
    F(i64, timestamp_ms, _, _, "UTC, milliseconds since 1970")                                     \
    F(u32, tx_count, _, _, "number of transactions")                                               \
    F(u8, proposer, _, _, "member index of the DC that made the block")

#define AMI_FIELDS_vote(F)                                                                         \
    F(u8, kind, _, _, "1 prepare, 2 commit")                                                       \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "term of the vote")                                                         \
    F(u64, height, _, _, "height of the block")                                                    \
    F(digest, block, _, _, "hash of the block")                                                    \
    F(u8, voter, _, _, "member index; the signature covers the fields before it")                  \
    F(sig, signature, _, _, "over \"amiledger vote v1\" 00 and the fields up to block")

#define AMI_FIELDS_qc(F)                                                                           \
    F(u8, kind, _, _, "1 prepare, 2 commit")                                                       \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "term of the votes")                                                        \
    F(u64, height, _, _, "height of the block")                                                    \
    F(digest, block, _, _, "hash of the block")                                                    \
    F(u32, signers, _, _, "bit i is set when member i signed")                                     \
    F(sigs, signatures, AMI_MEMBERS_MAX, _, "one per set bit, lowest first, as in vote")

#define AMI_FIELDS_report_meter_part(F)                                                            \
    F(id, meter, _, _, "ID_SM")                                                                    \
    F(u32, epoch, _, _, "the meter's key epoch")                                                   \
    F(u64, sequence, _, _, "from 1, once per report")                                              \
    F(digest, commitment, _, _, "c = SM3(salt || m)")                                              \
    F(sig, signature, _, _, "Sig_SM over \"amiledger report v1\" 00 chain and the fields before")

#define AMI_FIELDS_report_gateway_part(F)                                                          \
    F(point, c1, _, _, "encapsulation to the MDMS readings key, shared by a batch")                \
    F(bytes, sealed, AMI_SEALED_BYTES_MAX, _, "En(salt || m), SM4-GCM with tag")                   \
    F(i64, timestamp_ms, _, _, "T_s, the gateway's clock when it made the transaction")            \
    F(id, dc, _, _, "ID_DC, the gateway")                                                          \
    F(u32, dc_epoch, _, _, "its key epoch")                                                        \
    F(sig, signature, _, _,                                                                        \
      "Sig_DC over \"amiledger gateway v1\" 00 chain, the meter part and the fields before")

#define AMI_FIELDS_meter_enrol(F)                                                                  \
    F(u64, number, _, _, "running number of the MDMS's transactions, from 1")                      \
    F(id, meter, _, _, "ID_SM")                                                                    \
    F(u32, epoch, _, _, "key epoch, from 1")                                                       \
    F(id, home_dc, _, _, "ID_DC of the home DC")                                                   \
    F(point, w_report, _, _, "W of the report-signing role")                                       \
    F(bytes, agree_part, AMI_SCHEME_PART_BYTES_MAX, _, "the scheme's part of U")

#define AMI_FIELDS_dc_enrol(F)                                                                     \
    F(u64, number, _, _, "running number of the MDMS's transactions")                              \
    F(id, dc, _, _, "ID_DC")                                                                       \
    F(u32, epoch, _, _, "key epoch, from 1")                                                       \
    F(point, w_sign, _, _, "W of the signing role")                                                \
    F(bytes, agree_part, AMI_SCHEME_PART_BYTES_MAX, _, "the scheme's part")

#define AMI_FIELDS_revoke(F)                                                                       \
    F(u64, number, _, _, "running number of the MDMS's transactions")                              \
    F(u8, role, _, _, "1 meter, 2 DC")                                                             \
    F(id, device, _, _, "whose key is revoked, from this block's height on")                       \
    F(u32, epoch, _, _, "which key epoch")                                                         \
    F(u8, reason, _, _, "0 unspecified, 1 key compromise, 2 withdrawn, 3 superseded")

#define AMI_FIELDS_mdms_part(F)                                                                    \
    F(sig, signature, _, _,                                                                        \
      "of the MDMS over \"amiledger mdms v1\" 00 chain, kind and the first part")

#define AMI_FIELDS_skip_meter_part(F)                                                              \
    F(id, meter, _, _, "ID_SM")                                                                    \
    F(u32, epoch, _, _, "the meter's key epoch")                                                   \
    F(u64, below, _, _, "every sequence number below this one is settled")                         \
    F(sig, signature, _, _, "Sig_SM over \"amiledger skip v1\" 00 chain and the fields before")

#define AMI_FIELDS_evidence(F)                                                                     \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch of the statements")                                      \
    F(u8, accused, _, _, "member index of the DC that signed them")                                \
    F(u8, kind, _, _,                                                                              \
      "1 votes, 2 proposals, 3 grants, 4 a hidden certificate, 5 a grant, 6 a proposal")           \
    F(bytes, first, AMI_STATEMENT_BYTES_MAX, _, "encoding of a vote, proposal_head or grant")      \
    F(bytes, second, AMI_STATEMENT_BYTES_MAX, _, "the same; a grant for kind 4; empty for 5 and 6")

#define AMI_FIELDS_member_entry(F)                                                                 \
    F(point, w_sign, _, _, "W of the signing role, as it was enrolled")                            \
    F(bytes, agree_part, AMI_SCHEME_PART_BYTES_MAX, _, "the scheme's part, as it was enrolled")    \
    F(bytes, peer, AMI_ADDRESS_BYTES_MAX, _, "tcp://HOST:PORT for DCs and the MDMS")               \
    F(bytes, meter, AMI_ADDRESS_BYTES_MAX, _, "the same for meters")                               \
    F(bytes, admin, AMI_ADDRESS_BYTES_MAX, _, "the same for dc-cli")

#define AMI_FIELDS_membership(F)                                                                   \
    F(u64, number, _, _, "running number of the MDMS's transactions")                              \
    F(u32, epoch, _, _, "the membership epoch that begins: one more than the present one")         \
    F(u8, change, _, _, "1 join, 2 leave, 3 rotate")                                               \
    F(id, dc, _, _, "whose membership changes")                                                    \
    F(u32, key_epoch, _, _, "the key that votes from then on; for a leave, the one that stops")    \
    F(u32, delay, _, _, "the epoch begins so many blocks above the one that holds this")           \
    F(opt, entry, member_entry, _, "for a join or a rotation")

#define AMI_FIELDS_retention(F)                                                                    \
    F(u64, number, _, _, "running number of the MDMS's transactions")                              \
    F(u64, below, _, _, "blocks below this height may be pruned")

#define AMI_FIELDS_tx(F)                                                                           \
    F(u8, kind, _, _,                                                                              \
      "1 report, 2 meter enrolment, 3 DC enrolment, 4 revocation, 5 skip, 6 evidence, "            \
      "7 membership, 8 retention; 129 a report in a pruned block")                                 \
    F(bytes, first, AMI_TX_BYTES_MAX, _, "encoding of the first part")                             \
    F(bytes, second, AMI_TX_BYTES_MAX, _,                                                          \
      "encoding of the second part; empty for 5 and 6; for 129 the second part's SM3")

#define AMI_FIELDS_certified_block(F)                                                              \
    F(type, header, block_header, _, "")                                                           \
    F(type, commit, qc, _, "commit certificate of the block")                                      \
    F(bytes, body, AMI_BLOCK_BYTES_MAX, _, "for each transaction: u32 size, encoding of tx")

#define AMI_FIELDS_prevote(F)                                                                      \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "the term that the candidate asks for")                                     \
    F(u8, candidate, _, _, "member index")                                                         \
    F(u8, voter, _, _, "member index; the signature covers the fields before it")                  \
    F(sig, signature, _, _, "over \"amiledger prevote v1\" 00 and the fields up to candidate")

#define AMI_FIELDS_prevote_cert(F)                                                                 \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "term")                                                                     \
    F(u8, candidate, _, _, "member index")                                                         \
    F(u32, signers, _, _, "bit i is set when member i signed")                                     \
    F(sigs, signatures, AMI_MEMBERS_MAX, _, "one per set bit, lowest first, as in prevote")

#define AMI_FIELDS_term_proof(F)                                                                   \
    F(opt, prevotes, prevote_cert, _, "pre-votes of the term")                                     \
    F(opt, votes, qc, _, "prepare or commit certificate of the term")

#define AMI_FIELDS_prevote_request(F)                                                              \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "the term asked for: one more than the proof's")                            \
    F(u8, candidate, _, _, "member index of the sender")                                           \
    F(type, proof, term_proof, _, "of the term before; empty for term 1")                          \
    F(sig, signature, _, _, "over \"amiledger prevote request v1\" 00 and the fields before")

#define AMI_FIELDS_grant(F)                                                                        \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "term")                                                                     \
    F(u8, candidate, _, _, "member index")                                                         \
    F(u8, voter, _, _, "member index")                                                             \
    F(opt, high, qc, _, "the voter's highQC, of a lower term")                                     \
    F(sig, signature, _, _, "over \"amiledger grant v1\" 00 and the fields before")

#define AMI_FIELDS_grant_request(F)                                                                \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "term")                                                                     \
    F(u8, candidate, _, _, "member index of the sender")                                           \
    F(type, cert, prevote_cert, _, "for this candidate and term")                                  \
    F(sig, signature, _, _, "over \"amiledger grant request v1\" 00 and the fields before")

#define AMI_FIELDS_election_cert(F)                                                                \
    F(type, prevotes, prevote_cert, _, "of the same candidate and term")                           \
    F(list, grants, grant, AMI_MEMBERS_MAX, "q grants of different voters, one candidate and term")

#define AMI_FIELDS_proposal_core(F)                                                                \
    F(u64, term, _, _, "the leader's term (the header may carry an older one)")                    \
    F(u8, leader, _, _, "member index of the sender")                                              \
    F(type, header, block_header, _, "the block")                                                  \
    F(opt, election, election_cert, _, "in the first proposal of a term (rule 3)")                 \
    F(opt, parent_commit, qc, _,                                                                   \
      "commit certificate of the parent, where rule 3 or 4 asks for it")                           \
    F(sig, signature, _, _, "the one of proposal_head")

#define AMI_FIELDS_proposal_head(F)                                                                \
    F(u64, term, _, _, "as in proposal_core")                                                      \
    F(u8, leader, _, _, "as in proposal_core")                                                     \
    F(type, header, block_header, _, "as in proposal_core")                                        \
    F(digest, rest, _, _, "SM3 of the encodings of election and parent_commit")                    \
    F(sig, signature, _, _, "over \"amiledger proposal v1\" 00 and the fields before")

#define AMI_FIELDS_proposal(F)                                                                     \
    F(type, core, proposal_core, _, "")                                                            \
    F(bytes, body, AMI_BLOCK_BYTES_MAX, _, "as in certified_block")

#define AMI_FIELDS_heartbeat(F)                                                                    \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "term")                                                                     \
    F(u8, leader, _, _, "member index of the sender")                                              \
    F(u64, committed, _, _, "height of the last block that the leader has committed")              \
    F(u64, round, _, _, "running number, echoed in heartbeat_ack")                                 \
    F(opt, election, election_cert, _, "until the receiver has acknowledged this term")            \
    F(sig, signature, _, _, "over \"amiledger heartbeat v1\" 00 and the fields before")

#define AMI_FIELDS_heartbeat_ack(F)                                                                \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, term, _, _, "the sender's term")                                                        \
    F(u8, voter, _, _, "member index of the sender")                                               \
    F(u64, committed, _, _, "height of the last block that the sender has committed")              \
    F(u64, round, _, _, "of the heartbeat")                                                        \
    F(u8, elected, _, _, "1: the sender holds the election certificate of that term; else 0")      \
    F(sig, signature, _, _, "over \"amiledger heartbeat ack v1\" 00 and the fields before")

#define AMI_FIELDS_qc_announce(F) F(type, cert, qc, _, "prepare or commit certificate")

#define AMI_FIELDS_fetch_blocks(F)                                                                 \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u64, from_height, _, _, "first height wanted")                                               \
    F(u32, count_max, _, _, "at most so many; each comes as a certified_block of its own")

#define AMI_FIELDS_fetch_body(F)                                                                   \
    F(digest, chain, _, _, "chain id")                                                             \
    F(digest, block, _, _, "hash of the block")

#define AMI_FIELDS_body_reply(F)                                                                   \
    F(type, header, block_header, _, "")                                                           \
    F(bytes, body, AMI_BLOCK_BYTES_MAX, _, "as in certified_block")

#define AMI_FIELDS_tx_entry(F) F(bytes, encoded, AMI_TX_BYTES_MAX, _, "encoding of tx")

#define AMI_FIELDS_tx_submit(F)                                                                    \
    F(digest, chain, _, _, "chain id")                                                             \
    F(list, txs, tx_entry, 64, "")

#define AMI_FIELDS_vote_record(F)                                                                  \
    F(u8, version, _, _, "1")                                                                      \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u32, epoch, _, _, "membership epoch")                                                        \
    F(u64, starts, _, _, "how often the node was started; the key file holds the same number")     \
    F(u64, begun, _, _,                                                                            \
      "starts before this record was begun; keys that signed then had another one")                \
    F(u64, term, _, _, "highest term adopted")                                                     \
    F(opt, term_cert, prevote_cert, _, "what proves that term; none for term 0")                   \
    F(opt, granted, grant, _, "grant given in that term")                                          \
    F(opt, prepare, vote, _, "last prepare vote")                                                  \
    F(opt, commit, vote, _, "last commit vote")                                                    \
    F(opt, high, qc, _, "highQC: the prepare or commit certificate of highest rank")               \
    F(u64, tip_height, _, _, "height of the last committed block")                                 \
    F(digest, tip, _, _, "its hash; the chain id at height 0")

#define AMI_FIELDS_ledger_closed(F)                                                                \
    F(u8, version, _, _, "1")                                                                      \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u64, starts, _, _, "how often the node was started, as in the vote record and the key file") \
    F(u64, size, _, _, "of data.mdb in bytes")                                                     \
    F(u64, inode, _, _, "its number in the file system")                                           \
    F(u64, changed_ns, _, _, "when it was last written, in ns since 1970")                         \
    F(i64, checked_ms, _, _, "when it was last checked as a whole, in ms since 1970")              \
    F(bytes, record, 32000, _, "the vote record, empty when there is none")                        \
    F(digest, digest, _, _, "SM3(\"amiledger closed v1\" 00 || what stands before)")

#define AMI_FIELDS_link_hello(F)                                                                   \
    F(u8, role, _, _, "2 DC, 3 MDMS, 5 reader (may only fetch blocks)")                            \
    F(digest, chain, _, _, "chain id")                                                             \
    F(id, name, _, _, "of the sender")                                                             \
    F(u32, epoch, _, _, "its key epoch")                                                           \
    F(fixed, nonce, 32, _, "random")

#define AMI_FIELDS_link_proof(F)                                                                   \
    F(sig, signature, _, _,                                                                        \
      "over \"amiledger link v1\" 00, the sender's hello, the receiver's hello (as encoded)")

#define AMI_FIELDS_meter_hello(F)                                                                  \
    F(digest, chain, _, _, "chain id; all zero when only an enrolment is wanted")                  \
    F(u8, scheme, _, _, "number of the key-agreement scheme")                                      \
    F(u32, epoch, _, _, "newest membership epoch that the sender knows of")

#define AMI_FIELDS_meter_welcome(F)                                                                \
    F(u16, status, _, _, "0, or why the link is closed now (wrong chain, scheme)")                 \
    F(id, dc, _, _, "name of the DC (of the network, when it is the MDMS)")                        \
    F(u8, gateway, _, _, "policy: 1 leader, 2 home")

#define AMI_FIELDS_agree_flight1(F)                                                                \
    F(id, meter, _, _, "ID_SM")                                                                    \
    F(u32, epoch, _, _, "the meter's key epoch")                                                   \
    F(u32, tag, _, _, "chosen by the meter, echoed in the answer")                                 \
    F(u8, insist, _, _,                                                                            \
      "1: waited in vain for the leader, asks this DC to be the gateway; else 0")                  \
    F(bytes, flight, AMI_FLIGHT_BYTES_MAX, _, "the scheme's part")

#define AMI_FIELDS_agree_flight2(F)                                                                \
    F(id, meter, _, _, "ID_SM, to find the meter behind a shared link")                            \
    F(u32, tag, _, _, "of flight 1")                                                               \
    F(digest, chain, _, _, "chain id")                                                             \
    F(u8, scheme, _, _, "number of the scheme")                                                    \
    F(u64, term, _, _, "the term that the DC knows")                                               \
    F(u64, session, _, _, "session id; which bits are random is up to the DC")                     \
    F(id, dc, _, _, "ID_DC of the answering DC")                                                   \
    F(u32, dc_epoch, _, _, "its key epoch")                                                        \
    F(bytes, flight, AMI_FLIGHT_BYTES_MAX, _, "the scheme's part")

#define AMI_FIELDS_agree_flight3(F)                                                                \
    F(u64, session, _, _, "session id")                                                            \
    F(bytes, flight, AMI_FLIGHT_BYTES_MAX, _, "the scheme's part")

#define AMI_FIELDS_redirect(F)                                                                     \
    F(id, dc, _, _, "its name; the genesis file or its membership says where it is")

#define AMI_FIELDS_refused(F)                                                                      \
    F(id, meter, _, _, "ID_SM")                                                                    \
    F(u32, tag, _, _, "of flight 1")                                                               \
    F(u16, status, _, _, "number of the status")                                                   \
    F(opt, other, redirect, _, "who leads, when the DC knows it and this was the reason")

#define AMI_FIELDS_leads(F)                                                                        \
    F(u64, term, _, _, "in which it leads")                                                        \
    F(u32, spread_ms, _, _, "over so long meters that come to it spread at random")

#define AMI_FIELDS_session_ended(F)                                                                \
    F(u64, session, _, _, "session id")                                                            \
    F(u16, status, _, _, "why")                                                                    \
    F(opt, other, redirect, _, "who leads, when that is the reason")

#define AMI_FIELDS_session_data(F)                                                                 \
    F(u64, session, _, _, "session id")                                                            \
    F(u64, count, _, _, "number of the message in its direction, from 0")                          \
    F(u8, kind, _, _, "1 report_submit, 2 report_ack, 3 report_nack")                              \
    F(bytes, sealed, AMI_FRAME_METER_BYTES_MAX, _, "SM4-GCM with tag")

#define AMI_FIELDS_report_submit(F)                                                                \
    F(u64, sequence, _, _, "from 1, once per report")                                              \
    F(fixed, salt, 16, _, "random, once per report")                                               \
    F(sig, signature, _, _, "Sig_SM as in report_meter_part")                                      \
    F(bytes, report, AMI_REPORT_BYTES_MAX, _, "m")

#define AMI_FIELDS_report_ack(F)                                                                   \
    F(u64, sequence, _, _, "of the report")                                                        \
    F(u64, height, _, _, "of the block; block_proof of it came before on this link")               \
    F(digest, block, _, _, "hash of the block")                                                    \
    F(u32, index, _, _, "of the transaction in the block")                                         \
    F(digest, second, _, _, "SM3 of the transaction's second part")                                \
    F(digests, path, 16, _, "inclusion proof, from the leaf's sibling upwards")

#define AMI_FIELDS_report_nack(F)                                                                  \
    F(u64, sequence, _, _, "of the report")                                                        \
    F(u16, status, _, _, "number of the status")                                                   \
    F(u64, floor, _, _, "the meter's floor in the registry, for SEQUENCE_AHEAD and _SETTLED")

#define AMI_FIELDS_block_proof(F)                                                                  \
    F(type, header, block_header, _, "")                                                           \
    F(type, commit, qc, _, "")

#define AMI_FIELDS_membership_proof(F)                                                             \
    F(type, header, block_header, _, "of the epoch before the one that it begins")                 \
    F(type, commit, qc, _, "commit certificate of that block")                                     \
    F(u32, index, _, _, "of the transaction in the block")                                         \
    F(digests, path, 16, _, "inclusion proof, from the leaf's sibling upwards")                    \
    F(bytes, tx, AMI_TX_BYTES_MAX, _, "encoding of the transaction")

#define AMI_FIELDS_enrol_request(F)                                                                \
    F(u8, role, _, _, "1 meter, 2 DC")                                                             \
    F(digest, network, _, _, "network id")                                                         \
    F(id, device, _, _, "name of the device")                                                      \
    F(u32, epoch, _, _, "key epoch wanted, from 1")                                                \
    F(point, ephemeral, _, _, "encapsulation to the MDMS enrolment key")                           \
    F(bytes, sealed, 512, _, "enrol_request_inner, SM4-GCM; the fields before are its aad")

#define AMI_FIELDS_enrol_request_inner(F)                                                          \
    F(u8, scheme, _, _, "number of the scheme")                                                    \
    F(point, u_sign, _, _, "U_A of the signing role")                                              \
    F(bytes, agree_part, AMI_SCHEME_PART_BYTES_MAX, _, "the scheme's request")                     \
    F(digest, tag, _, _, "HMAC-SM3 under the install code, see keyagree/enrol.h")

#define AMI_FIELDS_enrol_reply(F)                                                                  \
    F(id, device, _, _, "")                                                                        \
    F(u32, epoch, _, _, "")                                                                        \
    F(u16, status, _, _, "0, or why it was refused; then sealed is empty")                         \
    F(bytes, sealed, 512, _, "enrol_reply_inner, SM4-GCM under the request's exchange")

#define AMI_FIELDS_enrol_reply_inner(F)                                                            \
    F(id, home_dc, _, _, "home DC of a meter; the DC itself for a DC")                             \
    F(fixed, t_sign, 32, _, "t of the signing role")                                               \
    F(point, w_sign, _, _, "W of the signing role")                                                \
    F(bytes, agree_secret, AMI_SCHEME_PART_BYTES_MAX, _, "the scheme's secret reply")              \
    F(bytes, agree_part, AMI_SCHEME_PART_BYTES_MAX, _, "the scheme's part of U")

#define AMI_FIELDS_relay(F)                                                                        \
    F(u64, token, _, _, "chosen by the DC, echoed by the MDMS")                                    \
    F(bytes, frame, 2048, _, "the frame, ENROL_REQUEST or ENROL_REPLY")

#define AMI_FIELDS_operators_list(F)                                                               \
    F(bytes, list, AMI_REVOKED_BYTES_MAX, _, "signed by the MDMS; channel/file.h has its form")

#define AMI_FIELDS_operators_taken(F)                                                              \
    F(u16, status, _, _, "0, or why the list just sent was not taken or not kept")                 \
    F(u64, number, _, _, "of the list that the DC goes by now; 0: none")

#define AMI_FIELDS_admin_request(F)                                                                \
    F(bytes, json, 4096, _, "a JSON object: docs/wire-format.md lists the questions")

#define AMI_FIELDS_admin_reply(F)                                                                  \
    F(u16, status, _, _, "number of the status")                                                   \
    F(bytes, json, AMI_FRAME_ADMIN_BYTES_MAX, _, "a JSON object; with an error: {\"error\": text}")

/* M(number, NAME, body, direction). Numbers are never reused. */
#define AMI_MESSAGES(M)                                                                            \
    M(1, LINK_HELLO, link_hello, "peer link, both")                                                \
    M(2, LINK_PROOF, link_proof, "peer link, both")                                                \
    M(3, METER_HELLO, meter_hello, "meter to DC")                                                  \
    M(4, METER_WELCOME, meter_welcome, "DC to meter")                                              \
    M(16, PREVOTE_REQUEST, prevote_request, "DC to DC")                                            \
    M(17, PREVOTE, prevote, "DC to DC")                                                            \
    M(18, GRANT_REQUEST, grant_request, "DC to DC")                                                \
    M(19, GRANT, grant, "DC to DC")                                                                \
    M(20, PROPOSAL, proposal, "DC to DC")                                                          \
    M(21, VOTE, vote, "DC to DC")                                                                  \
    M(22, QC_ANNOUNCE, qc_announce, "DC to DC")                                                    \
    M(23, HEARTBEAT, heartbeat, "DC to DC")                                                        \
    M(24, HEARTBEAT_ACK, heartbeat_ack, "DC to DC")                                                \
    M(25, FETCH_BLOCKS, fetch_blocks, "DC or MDMS to DC")                                          \
    M(26, BLOCK, certified_block, "DC to DC or MDMS")                                              \
    M(27, FETCH_BODY, fetch_body, "DC to DC")                                                      \
    M(28, BODY, body_reply, "DC to DC")                                                            \
    M(29, TX_SUBMIT, tx_submit, "DC or MDMS to DC")                                                \
    M(30, TERM_PROOF, term_proof, "DC to DC: you are behind this term")                            \
    M(31, RETENTION, tx, "DC to DC or MDMS, before pruned blocks: they may be")                    \
    M(32, OPERATORS, operators_list, "MDMS or DC to DC, DC to MDMS")                               \
    M(33, OPERATORS_TAKEN, operators_taken, "DC to MDMS")                                          \
    M(48, AGREE_FLIGHT1, agree_flight1, "meter to DC")                                             \
    M(49, AGREE_FLIGHT2, agree_flight2, "DC to meter")                                             \
    M(50, AGREE_FLIGHT3, agree_flight3, "meter to DC")                                             \
    M(51, REFUSED, refused, "DC to meter")                                                         \
    M(52, SESSION_ENDED, session_ended, "DC to meter")                                             \
    M(53, SESSION_DATA, session_data, "both")                                                      \
    M(54, BLOCK_PROOF, block_proof, "DC to meter")                                                 \
    M(55, MEMBERSHIP, membership_proof, "DC to meter: what it does not know of yet, in order")     \
    M(56, LEADS, leads, "DC to meter")                                                             \
    M(64, ENROL_REQUEST, enrol_request, "device to MDMS, or to any DC")                            \
    M(65, ENROL_REPLY, enrol_reply, "the way back")                                                \
    M(66, RELAY_REQUEST, relay, "DC to MDMS")                                                      \
    M(67, RELAY_REPLY, relay, "MDMS to DC")                                                        \
    M(80, ADMIN_REQUEST, admin_request, "dc-cli to DC")                                            \
    M(81, ADMIN_REPLY, admin_reply, "DC to dc-cli")

#endif
