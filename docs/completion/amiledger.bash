# bash completion for dc-cli, dc-node, ami-mdms, ami-meter and ami-sim.
# shellcheck shell=bash
#
# Install: copy to /usr/share/bash-completion/completions/dc-cli (and link the other four names to
# it), or source it. It asks the programs themselves (their --help), so it knows what they know.

# The commands of a program, one per line.
_ami_commands() {
    "$1" --help 2>/dev/null | awk '/^Commands:/ { on = 1; next } on && NF == 0 { exit } on { print $1 }'
}

# The options of a command, one per line: "--name" or "--name ARGUMENT".
_ami_options() {
    "$1" "$2" --help 2>/dev/null |
        awk '/^Options:/ { on = 1; next }
             on && NF == 0 { exit }
             on { for (i = 1; i <= 2; i++)
                      if ($i ~ /^--/) { print $i, ($(i + 1) ~ /^[A-Z][A-Z|=:]*$/ ? $(i + 1) : "") } }'
}

# What the arguments of a command are, as in its usage line: "DIR DIR...", "FILE".
_ami_arguments() {
    "$1" "$2" --help 2>/dev/null | sed -n '1s/^Usage: .*\[OPTIONS\] *//p'
}

_ami_files() {
    compopt -o filenames 2>/dev/null
    local word
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen "$1" -- "$2")
}

# Offers those of some words that begin so.
_ami_words() {
    local word
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$1" -- "$2")
}

# Completes a value of the kind that the help calls so, such as DIR or FILE.
_ami_value() {
    case $1 in
    *DIR*) _ami_files -d "$2" ;;
    *FILE* | *CSV* | *REQUEST*) _ami_files -f "$2" ;;
    esac
}

# An experiment of the laboratory, or what one is made of.
_ami_experiment() {
    if [ "$COMP_CWORD" -eq 2 ]; then
        _ami_words "$("$1" lab --list 2>/dev/null | awk '{ print $1 }') all" "$2"
    else
        _ami_words "$("$1" lab "${COMP_WORDS[2]}" --list 2>/dev/null)" "$2"
    fi
}

_ami_complete() {
    local program=$1 word=$2 before=$3 command=${COMP_WORDS[1]:-} kind
    COMPREPLY=()
    if [ "$COMP_CWORD" -le 1 ]; then
        _ami_words "$(_ami_commands "$program") --help --version" "$word"
        return
    fi
    kind=$(_ami_options "$program" "$command" | awk -v name="$before" '$1 == name { print $2 }')
    case $kind:$before in
    :*) ;;
    *:--format)
        if [[ $command == @(replay|ids|rows) ]]; then
            _ami_words "london uci ausgrid uk" "$word"
        else
            _ami_words "csv jsonl" "$word"
        fi
        ;;
    *:--scheme)
        if [ "$command" = lab ]; then
            _ami_words "sm2kx liu2023 ecdh" "$word"
        else
            _ami_words "sm2kx liu2023" "$word"
        fi
        ;;
    *:--suites) _ami_words "sm4-gcm sm4-ctr-hmac-sm3" "$word" ;;
    *:--kind) _ami_words "implicit cfl" "$word" ;;
    *:--gateway) _ami_words "leader home" "$word" ;;
    *) _ami_value "$kind" "$word" ;;
    esac
    if [ -n "$kind" ]; then
        return
    fi
    if [ "$command" = lab ] && [[ $word != -* ]]; then
        _ami_experiment "$program" "$word"
    elif [[ $word == -* ]]; then
        _ami_words "$(_ami_options "$program" "$command" | awk '{ print $1 }')" "$word"
    else
        _ami_value "$(_ami_arguments "$program" "$command")" "$word"
    fi
}

complete -F _ami_complete dc-cli dc-node ami-mdms ami-meter ami-sim
