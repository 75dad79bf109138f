# 70-programs.bash: the programs that users ask for; the manifest of the base lists them with their versions.
# Need: the image has all programs that the institution needs (thesis, 1.3); a site adds its own beside this file.
# shellcheck shell=bash disable=SC2034

programs=(@programs)
