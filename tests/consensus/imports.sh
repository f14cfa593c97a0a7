#!/bin/sh
# consensus.md, "Shape of the code": consensus/ is pure. Its objects may import four functions of the
# C library, the check that ends the program, and of the rooms below what encodes, hashes, signs and
# checks; nothing that reads a clock, allocates, prints, draws random numbers or does I/O. The list
# says what is allowed, so that anything new is looked at by somebody.
#
# usage: imports.sh libami_consensus.a        (a second argument is a symbol to be taken as imported)
set -eu

allowed='^(memcpy|memset|memcmp|memmove|ami_check_failed'
allowed="$allowed"'|__popcountdi2|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_'
allowed="$allowed"'|__(asan|ubsan|sanitizer|sancov)_.*|__gcov_.*'
allowed="$allowed"'|sm3_equal|sm3_labelled|verify_key_check|sign_key_sign'
allowed="$allowed"'|members_f|members_quorum|vote_check|vote_sign|qc_check|qc_rank_compare|block_hash'
allowed="$allowed"'|span_equal|evidence_check|evidence_vote_of|proposal_head_of'
allowed="$allowed"'|frame_begin|(read|write)_[a-z0-9]+'
allowed="$allowed"'|(block_header|body_reply|certified_block|fetch_blocks|fetch_body|grant|grant_request'
allowed="$allowed"'|heartbeat|heartbeat_ack|prevote|prevote_request|proposal_core|proposal_head|qc|qc_announce'
allowed="$allowed"'|evidence|term_proof|vote|vote_record)_(encode|decode|parse))$'

defined=$(nm --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u)
needed=$( (nm --undefined-only "$1" | awk '$1 == "U" { print $2 }'
    echo "${2:-memcpy}") | sort -u)
if [ -z "$defined" ] || [ -z "$needed" ]; then
    echo "no symbols in $1"
    exit 1
fi

status=0
for symbol in $needed; do
    if printf '%s\n' "$defined" | grep -qx "$symbol"; then
        continue
    fi
    if ! printf '%s\n' "$symbol" | grep -qE "$allowed"; then
        echo "consensus imports $symbol"
        status=1
    fi
done
exit $status
