# 20-hardware.bash: the kernel, with the drivers and the firmware of what the host hands over: graphics, USB, sound.
# Need: the image is compatible with the hardware of the labs (thesis, 1.3).
# shellcheck shell=bash disable=SC2034

packages=(@hardware)
