# 40-locale.bash: the language, the keyboard and the time zone.
# Need: environment settings (thesis, 4.4); a site replaces this file with its own.
# shellcheck shell=bash disable=SC2154

configure() { "$distribution" locale "$root" en_US.UTF-8 us Etc/UTC; }
