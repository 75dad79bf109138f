# build.ps1: the work inside Windows, between its installation and sysprep. build-guest-windows(8) describes it.
#
# needs:   audit mode, in which Windows' setup starts it as Administrator; recipe.json and oobe.xml beside it, as mkimg-torrent
#          answer-file writes them; files with the institution's installers beside its directory
# effects: updates itself no more, installs programs, switches off parts of Windows, hides devices, generalizes, shuts down
# undo:    none; the disk is thrown away
#
# Each step is a line of JSON on the first serial port, for the script that started the machine. The first that fails shuts down.
# Plain ASCII: PowerShell 5.1 reads a file without a byte-order mark in the system's code page.

$ErrorActionPreference = 'Stop'
$recipe = Get-Content -Raw -LiteralPath "$PSScriptRoot\recipe.json" | ConvertFrom-Json
$files = Join-Path (Split-Path -Parent $PSScriptRoot) 'files'
$own = "$env:ProgramFiles\labtools"
$sysprep = "$env:SystemRoot\System32\Sysprep"

$port = New-Object System.IO.Ports.SerialPort 'COM1', 115200
$port.Encoding = New-Object System.Text.UTF8Encoding $false
$port.Open()

function Send-Event($Event) {
    $port.WriteLine((ConvertTo-Json -Compress -InputObject $Event))
}

function Stop-Machine {
    $port.Close()
    & "$env:SystemRoot\System32\shutdown.exe" /s /f /t 0
    exit
}

function Invoke-Step([string]$Name, [scriptblock]$Work) {
    try {
        & $Work
    } catch {
        Send-Event @{ step = $Name; error = $_.Exception.Message }
        Stop-Machine
    }
    Send-Event @{ step = $Name }
}

# Installers use 3010 and 1641 to say that they are done and want a restart.
function Invoke-Program([string]$Program, [string]$Arguments, [int[]]$Done = @(0)) {
    $process = Start-Process -FilePath $Program -ArgumentList $Arguments -WindowStyle Hidden -Wait -PassThru
    if ($Done -notcontains $process.ExitCode) {
        throw "$Program $Arguments ended with $($process.ExitCode)"
    }
}

function Get-UsedBytes {
    $system = Get-CimInstance Win32_OperatingSystem
    $used = $system.TotalVisibleMemorySize - $system.FreePhysicalMemory
    [long]$used * 1024
}

$before = Get-UsedBytes

Invoke-Step 'settings' {
    Invoke-Program 'reg.exe' "import `"$PSScriptRoot\settings.reg`""
    Invoke-Program 'powercfg.exe' '/hibernate off'
    # The account has no password, which must not expire.
    Invoke-Program 'net.exe' 'accounts /maxpwage:unlimited'
}

# Chocolatey's own package installs it, and the others come from the same directory.
foreach ($package in $recipe.chocolatey) {
    Invoke-Step "chocolatey $($package.name) $($package.version)" {
        $source = "$files\chocolatey"
        if ($package.name -eq 'chocolatey') {
            $unpacked = "$env:TEMP\chocolatey"
            Copy-Item -LiteralPath "$source\chocolatey.$($package.version).nupkg" -Destination "$unpacked.zip"
            Expand-Archive -LiteralPath "$unpacked.zip" -DestinationPath $unpacked
            & "$unpacked\tools\chocolateyInstall.ps1"
        } else {
            $arguments = "install $($package.name) --version $($package.version) --source `"$source`" --yes --no-progress"
            Invoke-Program "$env:ProgramData\chocolatey\bin\choco.exe" $arguments @(0, 1641, 3010)
        }
    }
}

foreach ($package in $recipe.wpkg) {
    Invoke-Step "wpkg $package" {
        $arguments = "//B //NoLogo `"$files\wpkg\wpkg.js`" /base:`"$files\wpkg`" /install:$package /quiet /nonotify /noreboot"
        Invoke-Program 'cscript.exe' $arguments @(0, 1641, 3010)
    }
}

foreach ($installer in $recipe.msi) {
    Invoke-Step "msi $($installer.file)" {
        $arguments = "/i `"$files\msi\$($installer.file)`" /qn /norestart $($installer.properties)"
        Invoke-Program 'msiexec.exe' $arguments @(0, 1641, 3010)
    }
}

# The lists are for many versions of Windows. What a version lacks is skipped.
Invoke-Step 'services' {
    foreach ($service in $recipe.services) {
        if (Get-Service -Name $service.name -ErrorAction SilentlyContinue) {
            Set-Service -Name $service.name -StartupType $service.start
            if ($service.start -eq 'Disabled') {
                Stop-Service -Name $service.name -Force -ErrorAction SilentlyContinue
            }
        }
    }
}

Invoke-Step 'tasks' {
    foreach ($task in $recipe.tasks) {
        $name = Split-Path -Leaf $task
        $path = "$((Split-Path -Parent $task).TrimEnd('\'))\"
        Get-ScheduledTask -TaskPath $path -TaskName $name -ErrorAction SilentlyContinue | Disable-ScheduledTask | Out-Null
    }
}

# Sysprep refuses an app that one user has and that is not provisioned for all: so both go.
Invoke-Step 'apps' {
    foreach ($app in $recipe.apps) {
        Get-AppxProvisionedPackage -Online | Where-Object DisplayName -EQ $app | Remove-AppxProvisionedPackage -Online | Out-Null
        Get-AppxPackage -AllUsers -Name $app | Remove-AppxPackage -AllUsers
    }
}

Invoke-Step 'hide devices' {
    New-Item -ItemType Directory -Force -Path $own | Out-Null
    Copy-Item -LiteralPath "$PSScriptRoot\hide-devices.ps1" -Destination $own
    $arguments = "-NoProfile -ExecutionPolicy Bypass -File `"$own\hide-devices.ps1`""
    $action = New-ScheduledTaskAction -Execute 'powershell.exe' -Argument $arguments
    $trigger = New-ScheduledTaskTrigger -AtStartup
    Register-ScheduledTask -TaskName 'labtools-hide-devices' -Action $action -Trigger $trigger -User 'SYSTEM' -RunLevel Highest -Force | Out-Null
}

Invoke-Step 'programs' {
    $versions = @{}
    $keys = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\*', 'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\*'
    foreach ($program in Get-ItemProperty -Path $keys -ErrorAction SilentlyContinue) {
        if ($program.DisplayName -and $program.DisplayVersion) {
            $versions[$program.DisplayName] = [string]$program.DisplayVersion
        }
    }
    Send-Event @{ programs = $versions }
    Send-Event @{ memory = @{ before_bytes = $before; after_bytes = Get-UsedBytes } }
}

# Free blocks go back to the image. The answer file of the installation, which has the product key, goes.
Invoke-Step 'clean' {
    Remove-Item -Recurse -Force -Path "$env:TEMP\*", "$env:SystemRoot\Temp\*" -ErrorAction SilentlyContinue
    $answers = "$env:SystemRoot\Panther\unattend*.xml", "$env:SystemRoot\Panther\Unattend\*.xml"
    Remove-Item -Force -Path $answers -ErrorAction SilentlyContinue
    if ((Test-Path -Path $answers) -contains $true) { throw 'the answer file, which has the product key, cannot be removed' }
    Optimize-Volume -DriveLetter C -ReTrim
}

# Audit mode has opened sysprep's window, and a second sysprep would not start beside it.
Invoke-Step 'sysprep' {
    Get-Process -Name 'sysprep' -ErrorAction SilentlyContinue | Stop-Process -Force
    Remove-Item -Force -Path "$sysprep\Sysprep_succeeded.tag" -ErrorAction SilentlyContinue
    Copy-Item -LiteralPath "$PSScriptRoot\oobe.xml" -Destination "$own\oobe.xml"
    Invoke-Program "$sysprep\sysprep.exe" "/generalize /oobe /quit /quiet /unattend:`"$own\oobe.xml`""
    if (-not (Test-Path -LiteralPath "$sysprep\Sysprep_succeeded.tag")) {
        $log = Get-Content -LiteralPath "$sysprep\Panther\setuperr.log" -Tail 1 -ErrorAction SilentlyContinue
        throw "Windows could not be generalized: $log"
    }
}

Send-Event @{ finished = $true }
Stop-Machine
