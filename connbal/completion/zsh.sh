#compdef connbal
# Completion of connbal for zsh, made by: connbal completion zsh

@ENGINE@

_connbal_zsh() {
    local candidate
    local -a found
    for candidate in "${(@f)$(_connbal_candidates "${CONNBAL_CONFIG_DIR:-/etc/config}" "${(@)words[2,CURRENT]}")}"; do
        case "$candidate" in
        '') ;;
        *=%file) compset -P '*='; _files ;;
        *=%dir) compset -P '*='; _files -/ ;;
        %file) _files ;;
        %dir) _files -/ ;;
        *) found+=("$candidate") ;;
        esac
    done
    (( ${#found} )) && compadd -a -- found
}

if [[ ${funcstack[1]-} == _connbal ]]; then
    _connbal_zsh "$@"
else
    compdef _connbal_zsh connbal
fi
