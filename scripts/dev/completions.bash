# shellcheck shell=bash
# Completion in bash for the seven tools: the subcommands and options that --help lists, so there is nothing to keep up to date.
# Install: /usr/share/bash-completion/completions/TOOL, once for each tool.
_labtools() {
    local word verbs=() help
    help=$("$1" --help 2>/dev/null) || return 0
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in -*) continue ;; esac
        [[ $help = *$'\nCommands:\n'* ]] || break # an operand
        verbs+=("$word")
        help=$("$1" "${verbs[@]}" --help 2>/dev/null) || return 0
    done
    case $2 in
        -*) word=$(grep -oE -- '(^|[ ,])--[a-z][a-z-]*' <<<"$help" | tr -d ' ,') ;;
        *)
            # Without commands, a file.
            word=$(sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' <<<"$help")
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$word" -- "$2")
}
complete -o default -F _labtools abflip cowvol invcollect mkimg-torrent nm-8021x-login seedctl vm-passthrough
