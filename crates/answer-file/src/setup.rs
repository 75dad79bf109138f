//! The two answer files. The first installs Windows and lets it start in audit mode, where the
//! scripts work; the second is for the first start of a copy, after sysprep.
//!
//! Settings and their passes are those of Microsoft's reference of unattended setup;
//! testdata/answer-file/settings.txt records those that stand here.

use std::fmt;

use jsonpipe::sabotaged;

use crate::request::Windows;

/// The attributes of every component.
const AMD64: &str = r#"processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS""#;

const NAMESPACES: &str = r#"xmlns="urn:schemas-microsoft-com:unattend" xmlns:wcm="http://schemas.microsoft.com/WMIConfig/2002/State""#;

/// The command that begins the work in Windows. The medium has a label; its letter depends on the
/// machine. At most 259 characters.
const BUILD: &str = r"powershell.exe -NoProfile -ExecutionPolicy Bypass -Command & ([string](Get-Volume -FileSystemLabel LABTOOLS).DriveLetter + ':\labtools\build.ps1')";

/// `autounattend.xml`, which setup finds at the root of a medium.
///
/// One partition, active, so that a BIOS starts it, and so that it can grow with the disk.
pub fn installation(windows: &Windows) -> String {
    let edition = Text(&windows.edition);
    let language = Text(&windows.language);
    let keyboard = Text(&windows.keyboard);
    let time_zone = Text(&windows.time_zone);
    let build = Text(BUILD);
    let product_key = windows
        .product_key
        .as_deref()
        .map_or_else(String::new, |key| {
            format!(
                "
        <ProductKey>
          <Key>{}</Key>
          <WillShowUI>OnError</WillShowUI>
        </ProductKey>",
                Text(key)
            )
        });
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<unattend {NAMESPACES}>
  <settings pass="windowsPE">
    <component name="Microsoft-Windows-International-Core-WinPE" {AMD64}>
      <InputLocale>{keyboard}</InputLocale>
      <SetupUILanguage>
        <UILanguage>{language}</UILanguage>
      </SetupUILanguage>
      <SystemLocale>{language}</SystemLocale>
      <UILanguage>{language}</UILanguage>
      <UserLocale>{language}</UserLocale>
    </component>
    <component name="Microsoft-Windows-Setup" {AMD64}>
      <DiskConfiguration>
        <Disk wcm:action="add">
          <CreatePartitions>
            <CreatePartition wcm:action="add">
              <Extend>true</Extend>
              <Order>1</Order>
              <Type>Primary</Type>
            </CreatePartition>
          </CreatePartitions>
          <DiskID>0</DiskID>
          <ModifyPartitions>
            <ModifyPartition wcm:action="add">
              <Active>true</Active>
              <Format>NTFS</Format>
              <Label>Windows</Label>
              <Letter>C</Letter>
              <Order>1</Order>
              <PartitionID>1</PartitionID>
            </ModifyPartition>
          </ModifyPartitions>
          <WillWipeDisk>true</WillWipeDisk>
        </Disk>
        <WillShowUI>OnError</WillShowUI>
      </DiskConfiguration>
      <DynamicUpdate>
        <Enable>false</Enable>
      </DynamicUpdate>
      <ImageInstall>
        <OSImage>
          <InstallFrom>
            <MetaData wcm:action="add">
              <Key>/IMAGE/NAME</Key>
              <Value>{edition}</Value>
            </MetaData>
          </InstallFrom>
          <InstallTo>
            <DiskID>0</DiskID>
            <PartitionID>1</PartitionID>
          </InstallTo>
          <WillShowUI>OnError</WillShowUI>
        </OSImage>
      </ImageInstall>
      <UserData>
        <AcceptEula>true</AcceptEula>{product_key}
      </UserData>
    </component>
  </settings>
  <settings pass="specialize">
    <component name="Microsoft-Windows-Shell-Setup" {AMD64}>
      <ComputerName>*</ComputerName>
      <TimeZone>{time_zone}</TimeZone>
    </component>
  </settings>
  <settings pass="auditUser">
    <component name="Microsoft-Windows-Deployment" {AMD64}>
      <RunAsynchronous>
        <RunAsynchronousCommand wcm:action="add">
          <Order>1</Order>
          <Path>{build}</Path>
        </RunAsynchronousCommand>
      </RunAsynchronous>
    </component>
  </settings>
  <settings pass="oobeSystem">
    <component name="Microsoft-Windows-Deployment" {AMD64}>
      <Reseal>
        <Mode>Audit</Mode>
      </Reseal>
    </component>
  </settings>
</unattend>
"#
    )
}

/// `oobe.xml`, which sysprep leaves in the image: the first start of every copy answers the
/// questions of Windows, and logs the user on.
///
/// The host has authenticated the user, so the account has no password. Windows accepts an empty
/// one only at the machine itself, not over the network.
pub fn first_boot(windows: &Windows) -> String {
    let language = Text(&windows.language);
    let keyboard = Text(&windows.keyboard);
    let time_zone = Text(&windows.time_zone);
    let user = Text(&windows.user);
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<unattend {NAMESPACES}>
  <settings pass="generalize">
    <component name="Microsoft-Windows-PnpSysprep" {AMD64}>
      <PersistAllDeviceInstalls>true</PersistAllDeviceInstalls>
    </component>
  </settings>
  <settings pass="specialize">
    <component name="Microsoft-Windows-Shell-Setup" {AMD64}>
      <ComputerName>*</ComputerName>
      <TimeZone>{time_zone}</TimeZone>
    </component>
  </settings>
  <settings pass="oobeSystem">
    <component name="Microsoft-Windows-International-Core" {AMD64}>
      <InputLocale>{keyboard}</InputLocale>
      <SystemLocale>{language}</SystemLocale>
      <UILanguage>{language}</UILanguage>
      <UserLocale>{language}</UserLocale>
    </component>
    <component name="Microsoft-Windows-Shell-Setup" {AMD64}>
      <AutoLogon>
        <Enabled>true</Enabled>
        <LogonCount>9999</LogonCount>
        <Password>
          <PlainText>true</PlainText>
          <Value></Value>
        </Password>
        <Username>{user}</Username>
      </AutoLogon>
      <OOBE>
        <HideEULAPage>true</HideEULAPage>
        <HideOEMRegistrationScreen>true</HideOEMRegistrationScreen>
        <HideOnlineAccountScreens>true</HideOnlineAccountScreens>
        <HideWirelessSetupInOOBE>true</HideWirelessSetupInOOBE>
        <ProtectYourPC>3</ProtectYourPC>
      </OOBE>
      <UserAccounts>
        <LocalAccounts>
          <LocalAccount wcm:action="add">
            <Group>Administrators</Group>
            <Name>{user}</Name>
            <Password>
              <PlainText>true</PlainText>
              <Value></Value>
            </Password>
          </LocalAccount>
        </LocalAccounts>
      </UserAccounts>
    </component>
  </settings>
</unattend>
"#
    )
}

/// Text in XML.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if sabotaged("skip-escape") {
            return f.write_str(self.0);
        }
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            c => write!(f, "{c}"),
        })
    }
}
