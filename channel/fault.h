/* channel/fault.h - why a channel or a credential was refused.
 *
 * The reason stays with the side that refuses: its log, its counters. What the other side is told
 * is one byte that is always the same (channel.h).
 */
#ifndef AMI_CHANNEL_FAULT_H
#define AMI_CHANNEL_FAULT_H

#define CHANNEL_FAULT_TABLE(X)                                                                     \
    X(NONE, "none", "no fault")                                                                    \
    X(PLAINTEXT, "plaintext", "the peer speaks without a secure channel")                          \
    X(ENCODING, "encoding", "what came is no message of the handshake at this point")              \
    X(VERSION, "version", "the peer speaks another version of the channel")                        \
    X(OTHER_NETWORK, "other_network", "the peer or its credential belongs to another network")     \
    X(NO_SUITE, "no_suite", "the two sides allow no record suite in common")                       \
    X(NO_KIND, "no_kind", "the credential is of a kind that is not accepted here")                 \
    X(POINT, "point", "an ephemeral key is no point of the curve")                                 \
    X(ALTERED, "altered", "the handshake was altered, replayed or made under another key")         \
    X(MALFORMED, "malformed", "the credential is not well formed")                                 \
    X(EXPIRED, "expired", "the credential has expired")                                            \
    X(FUTURE, "future", "the credential is not valid yet")                                         \
    X(REVOKED, "revoked", "the credential has been revoked")                                       \
    X(USAGE, "usage", "the credential was issued for another use")                                 \
    X(SELF_SIGNED, "self_signed", "the certificate is signed by itself")                           \
    X(WRONG_CHAIN, "wrong_chain", "the credential does not lead to an issuer that is trusted")     \
    X(ISSUER, "issuer", "none of its authorities may make operators here")                         \
    X(LABEL, "label", "the operator's label exceeds what its authority may give here")             \
    X(NO_CRL, "no_crl", "there is no revocation list of the issuer that is in force")              \
    X(STALE, "stale", "the credential of this session is of another time")                         \
    X(SIGNATURE, "signature", "the peer lacks the key of its credential, or nobody issued it")     \
    X(SELF, "self", "the peer shows this side's own credential")                                   \
    X(UNEXPECTED, "unexpected", "the peer is not the one expected here")                           \
    X(REFUSED, "refused", "the peer refused and gave no reason; its log has it")                   \
    X(RECORD, "record", "a record was altered, repeated, reordered or left out")                   \
    X(TOO_LARGE, "too_large", "a record is larger than allowed")                                   \
    X(CUT, "cut", "the connection ended without a close")                                          \
    X(ERROR, "error", "the peer met an error and ended the channel")

enum channel_fault {
#define X(name, text, sentence) FAULT_##name,
    CHANNEL_FAULT_TABLE(X)
#undef X
        CHANNEL_FAULTS
};

const char *channel_fault_name(enum channel_fault fault); /* "wrong_chain"; never NULL */
const char *channel_fault_text(enum channel_fault fault); /* a sentence; never NULL */

#endif
