# Completion of connbal for bash, made by: connbal completion bash
# shellcheck shell=bash

@ENGINE@

_connbal_bash() {
    local line="${COMP_LINE:0:COMP_POINT}" typed="${COMP_WORDS[COMP_CWORD]}" candidate words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    local current="${words[${#words[@]} - 1]}"
    # bash breaks words at characters such as = and @, and replaces what stands behind the last of them.
    [[ ${#typed} -eq 1 && $COMP_WORDBREAKS == *"$typed"* ]] && typed=''
    local before="${current%"$typed"}"
    COMPREPLY=()
    while read -r candidate; do
        case "$candidate" in
        %file | *=%file)
            compopt -o filenames 2>/dev/null
            while read -r candidate; do COMPREPLY+=("$candidate"); done < <(compgen -f -- "$typed")
            ;;
        %dir | *=%dir)
            compopt -o filenames 2>/dev/null
            while read -r candidate; do COMPREPLY+=("$candidate"); done < <(compgen -d -- "$typed")
            ;;
        "$current"*) COMPREPLY+=("$(printf '%q' "${candidate#"$before"}")") ;;
        esac
    done < <(_connbal_candidates "${CONNBAL_CONFIG_DIR:-/etc/config}" "${words[@]:1}")
}

complete -F _connbal_bash connbal
