# 70-programs.bash: one small program.
# Need: a manifest that lists a program.
# shellcheck shell=bash disable=SC2034

programs=(jq)
