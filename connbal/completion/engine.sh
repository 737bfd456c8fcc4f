# What may follow the words of a command: sub-commands, options (=: it takes a value), arguments.
_connbal_facts() {
    _connbal_subs='' _connbal_opts='' _connbal_args=''
    case "$1" in
@FACTS@
    esac
}

# The sections of a type in a UCI file: _connbal_sections FILE TYPE
_connbal_sections() {
    awk -v type="$2" '
        $1 == "config" || $1 == "c" {
            kind = $2; name = $3
            gsub(/["\047]/, "", kind); gsub(/["\047]/, "", name)
            if (kind != type) next
            if (name == "") print "@" type "[" (count + 0) "]"
            else if (name ~ /^[A-Za-z0-9_]+$/) print name
            count++
        }' "$1" 2>/dev/null
}

# The candidates that a fact stands for, one a line: _connbal_expand DIRECTORY FACT
_connbal_expand() {
    local rest="$2," one
    while [ -n "$rest" ]; do
        one="${rest%%,*}" rest="${rest#*,}"
        case "$one" in
        '' | -) ;;
        %file | %dir) printf '%s\n' "$one" ;;
        %*) one="${one#%}"; _connbal_sections "$1/${one%%.*}" "${one#*.}" ;;
        *) printf '%s\n' "$one" ;;
        esac
    done
}

# What may stand for the last word, one a line, whatever has been typed of it; %file or %dir: files, directories.
# _connbal_candidates DIRECTORY WORD...: the directory of the configuration, and the command line without connbal.
_connbal_candidates() {
    local directory="$1" command='' value='' arguments='' word fact nothing
    shift
    _connbal_facts ''
    while [ $# -gt 1 ]; do
        word="$1"
        shift
        if [ -n "$value" ]; then
            [ "$value" = --config-dir ] && directory="$word"
            value=''
            continue
        fi
        case "$word" in
        --config-dir=*) directory="${word#*=}" ;;
        --*=*) ;;
        -?*)
            case " $_connbal_opts " in
            *" $word="*) value="$word" ;;
            esac
            ;;
        *)
            case " $_connbal_subs " in
            *" $word "*) command="${command:+$command }$word"; _connbal_facts "$command" ;;
            *) arguments="x$arguments" ;;
            esac
            ;;
        esac
    done
    if [ -n "$value" ]; then
        fact=" $_connbal_opts" fact="${fact#* $value=}"
        _connbal_expand "$directory" "${fact%% *}"
        return
    fi
    case "$1" in
    --*=*)
        value="${1%%=*}"
        case " $_connbal_opts" in
        *" $value="*)
            fact=" $_connbal_opts" fact="${fact#* $value=}"
            _connbal_expand "$directory" "${fact%% *}" | while read -r word; do printf '%s\n' "$value=$word"; done
            ;;
        esac
        ;;
    -*)
        fact="$_connbal_opts "
        while [ -n "$fact" ]; do
            word="${fact%% *}" fact="${fact#* }"
            [ -n "$word" ] && printf '%s\n' "${word%%=*}"
        done
        ;;
    *)
        fact="$_connbal_subs "
        while [ "$fact" != ' ' ] && [ -n "$fact" ]; do
            printf '%s\n' "${fact%% *}"
            fact="${fact#* }"
        done
        fact="$_connbal_args"
        while [ -n "$arguments" ] && [ -n "$fact" ]; do
            arguments="${arguments#x}"
            case "${fact%% *}" in
            *+) arguments='' ;;
            *)
                nothing="${fact#* }"
                [ "$nothing" = "$fact" ] && nothing=''
                fact="$nothing"
                ;;
            esac
        done
        fact="${fact%% *}"
        [ -n "$fact" ] && _connbal_expand "$directory" "${fact%+}"
        ;;
    esac
    return 0
}
