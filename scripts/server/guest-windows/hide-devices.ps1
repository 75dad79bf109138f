# hide-devices.ps1: the virtual disk and network card are not offered for removal in the notification area.
#
# needs:   SYSTEM; a scheduled task starts it with Windows
# effects: Capabilities of these devices, in the registry, without CM_DEVCAP_EJECTSUPPORTED (2) and CM_DEVCAP_REMOVABLE (4)
# undo:    remove the task labtools-hide-devices, and restart
#
# QEMU's slots can be hot-plugged, so Windows believes that a user may eject what is in them. A card that is ejected is gone until
# the guest starts again. Windows writes the values anew at each start; a second run changes nothing.

$ErrorActionPreference = 'Stop'
$removable = 2 -bor 4
$devices = 'HKLM:\SYSTEM\CurrentControlSet\Enum\PCI\VEN_1AF4*\*', 'HKLM:\SYSTEM\CurrentControlSet\Enum\SCSI\Disk&Ven_QEMU*\*'
foreach ($device in Get-Item -Path $devices -ErrorAction SilentlyContinue) {
    $capabilities = $device.GetValue('Capabilities')
    if ($null -ne $capabilities -and ($capabilities -band $removable)) {
        Set-ItemProperty -LiteralPath $device.PSPath -Name 'Capabilities' -Value ($capabilities -band -bnot $removable)
    }
}
