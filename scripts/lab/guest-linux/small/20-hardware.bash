# 20-hardware.bash: a kernel for emulated machines alone.
# Need: a check of the parts of a guest that needs no time for its desktop.
# shellcheck shell=bash disable=SC2034

packages=(linux-image-cloud-amd64)
