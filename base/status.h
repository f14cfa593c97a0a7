/* base/status.h - errors as values.
 *
 * Every fallible function of the project returns an `enum ami_status`. The table below is the one
 * place where a status gets its name (for logs, JSON and the wire) and its sentence (for people).
 * A function never prints, exits or logs for its caller; the shells turn a status into a sentence
 * and an exit status.
 */
#ifndef AMI_BASE_STATUS_H
#define AMI_BASE_STATUS_H

#define AMI_STATUS_TABLE(X)                                                                        \
    X(OK, "no error")                                                                              \
    X(AGAIN, "not now: the queue is full or the answer is not there yet, try again")               \
    X(BAD_ENCODING, "the bytes are not a valid encoding of what was expected")                     \
    X(BAD_VERSION, "the message has another wire version than this program speaks")                \
    X(TOO_LARGE, "larger than the limit for such an item")                                         \
    X(BAD_ARGUMENT, "a value is outside its allowed range")                                        \
    X(BAD_CRYPTO, "a cryptographic check failed")                                                  \
    X(BAD_SIGNATURE, "a signature does not verify")                                                \
    X(BAD_CERTIFICATE, "a certificate does not carry a quorum of valid votes")                     \
    X(BAD_PROOF, "an inclusion proof does not lead to the certified Merkle root")                  \
    X(BAD_MERKLE_ROOT, "the Merkle root of the transactions is not the one in the header")         \
    X(BAD_STATE_ROOT, "the registry after the block has another root than the header says")        \
    X(BAD_PARENT, "the block does not extend the block it should extend")                          \
    X(BAD_TIMESTAMP, "a timestamp lies outside the accepted window")                               \
    X(WRONG_CHAIN, "the item belongs to another chain (another genesis file)")                     \
    X(WRONG_EPOCH, "the item belongs to another membership or key epoch")                          \
    X(WRONG_SCHEME, "the item was made under another key-agreement scheme")                        \
    X(UNKNOWN_DEVICE, "no such device is enrolled")                                                \
    X(REVOKED, "the device's key has been revoked")                                                \
    X(ALREADY_ENROLLED, "the device is already enrolled in this epoch")                            \
    X(WRONG_CODE, "the install code is not the one bound to this device")                          \
    X(CODE_USED, "the install code has already served")                                            \
    X(SEQUENCE_SETTLED, "this sequence number is already settled")                                 \
    X(SEQUENCE_AHEAD, "the sequence number lies beyond the window of admissible ones")             \
    X(NO_SESSION, "there is no such session, agree a key first")                                   \
    X(SESSION_ENDED, "the session has reached its limit of messages or time")                      \
    X(REPLAYED, "the message was seen before")                                                     \
    X(NOT_LEADER, "this data concentrator does not lead now")                                      \
    X(NO_QUORUM, "too few data concentrators answer to commit anything")                           \
    X(NOT_FOUND, "no such item")                                                                   \
    X(EXISTS, "it exists already and will not be overwritten")                                     \
    X(FULL, "the storage is full")                                                                 \
    X(IO, "the operating system reported an input or output error")                                \
    X(DAMAGED, "stored data is damaged")                                                           \
    X(IN_USE, "another process is using it")                                                       \
    X(UNREACHABLE, "the peer cannot be reached")                                                   \
    X(CLOSED, "the connection was closed")                                                         \
    X(TIMEOUT, "no answer came in time")                                                           \
    X(WRONG_PASSPHRASE, "the passphrase does not open this file")                                  \
    X(FOREIGN_KEY, "the key file belongs to another device or another network")                    \
    X(NO_MEMORY, "out of memory")                                                                  \
    X(NO_RECORD, "the node's durable vote record is missing or stale; it must not sign")           \
    X(EQUIVOCATION, "two different signed statements for one slot")                                \
    X(UNSUPPORTED, "not supported by this build or configuration")                                 \
    X(TRUNCATED, "the file is cut short")                                                          \
    X(NOT_ALLOWED, "the credential does not allow this")

enum ami_status {
#define X(name, sentence) AMI_##name,
    AMI_STATUS_TABLE(X)
#undef X
        AMI_STATUS_COUNT
};

/* Name such as "BAD_PROOF"; never NULL, "UNKNOWN_STATUS" for a value outside the table. */
const char *ami_status_name(enum ami_status status);

/* Sentence without capital or full stop, to be embedded in a message; never NULL. */
const char *ami_status_text(enum ami_status status);

#define AMI_MUST_CHECK __attribute__((warn_unused_result))

/* Returns from the enclosing function when `expr` is not AMI_OK. */
#define AMI_TRY(expr)                                                                              \
    do {                                                                                           \
        enum ami_status ami_try_status_ = (expr);                                                  \
        if (ami_try_status_ != AMI_OK)                                                             \
            return ami_try_status_;                                                                \
    } while (0)

#endif
