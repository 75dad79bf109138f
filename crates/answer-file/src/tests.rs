use std::collections::BTreeSet;

use jsonpipe::{Document, Exit};
use roxmltree::{Document as Xml, Node};

use super::*;

const EXAMPLE: &str = include_str!("../../../scripts/server/guest-windows/windows.ini");
const SETTINGS: &str = include_str!("../../../testdata/answer-file/settings.txt");

/// The example with a line in place of another, or beside it.
fn with(line: &str, other: &str) -> String {
    let key = line.split_once('=').unwrap().0;
    let found = EXAMPLE
        .lines()
        .find(|found| found.starts_with(&format!("{key}=")));
    EXAMPLE.replace(found.unwrap(), other)
}

fn take(text: &str) -> anyhow::Result<Installation> {
    Installation::take_from(&mut Document::parse(text, request::SECTION)?)
}

fn files(text: &str) -> Vec<String> {
    let files = take(text).unwrap().files().unwrap();
    files.into_iter().map(|(_, text)| text).collect()
}

/// Its elements without children: the pass, and the component with the path in it.
fn settings(xml: &str) -> Vec<(String, String)> {
    let xml = Xml::parse(xml).unwrap();
    let name = |node: Node<'_, '_>| match node.attribute("name") {
        Some(component) => component.to_owned(),
        None => node.tag_name().name().to_owned(),
    };
    let is_leaf =
        |node: &Node<'_, '_>| node.is_element() && !node.children().any(|child| child.is_element());
    xml.descendants()
        .filter(is_leaf)
        .map(|leaf| {
            let mut path: Vec<_> = leaf.ancestors().filter(|node| node.is_element()).collect();
            path.reverse();
            let names: Vec<String> = path[2..].iter().copied().map(name).collect();
            (
                path[1].attribute("pass").unwrap().to_owned(),
                names.join("/"),
            )
        })
        .collect()
}

fn text_of(xml: &str, element: &str) -> String {
    let xml = Xml::parse(xml).unwrap();
    let found = xml
        .descendants()
        .find(|node| node.has_tag_name(("urn:schemas-microsoft-com:unattend", element)));
    found.unwrap().text().unwrap_or_default().to_owned()
}

#[test]
fn answer_files_have_the_recorded_settings_each_in_a_valid_pass() {
    let text = with(
        "user=",
        "user=aluno\nproduct_key=ABCDE-12345-FGHIJ-67890-KLMNO",
    );
    let files = files(&text);
    let used: Vec<_> = files[..2].iter().flat_map(|file| settings(file)).collect();
    let recorded: Vec<(&str, Vec<&str>)> = SETTINGS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (setting, passes) = line.split_once(' ').unwrap();
            (setting, passes.split_whitespace().collect())
        })
        .collect();
    for (pass, setting) in &used {
        let valid = recorded.iter().find(|(recorded, _)| recorded == setting);
        assert!(
            valid.is_some_and(|(_, passes)| passes.contains(&pass.as_str())),
            "{pass} {setting}"
        );
    }
    let used: BTreeSet<&str> = used.iter().map(|(_, setting)| setting.as_str()).collect();
    let recorded: BTreeSet<&str> = recorded.iter().map(|(setting, _)| *setting).collect();
    assert_eq!(used, recorded);
}

#[test]
fn names_come_into_the_answer_files_as_they_are() {
    for name in ["N & <b> \"q\" 'a' ]]>", "&amp;", "Educação"] {
        let files = files(&with("edition=", &format!("edition={name}")));
        assert_eq!(text_of(&files[0], "Value"), name);
    }
    assert_eq!(
        text_of(&files(&with("user=", "user=Ana & João"))[1], "Username"),
        "Ana & João"
    );
}

#[test]
fn the_command_is_not_longer_than_setup_takes() {
    let path = text_of(&files(EXAMPLE)[0], "Path");
    assert!(
        path.starts_with("powershell.exe ") && path.len() < 260,
        "{path}"
    );
}

#[test]
fn the_product_key_is_only_in_the_first_file() {
    let key = "ABCDE-12345-FGHIJ-67890-KLMNO";
    let text = with("user=", &format!("user=aluno\nproduct_key={key}"));
    let holding: Vec<bool> = files(&text).iter().map(|file| file.contains(key)).collect();
    assert_eq!(holding, [true, false, false]);
    let report = take(&text).unwrap().report(true);
    assert!(!serde_json::to_string(&report).unwrap().contains(key));
}

#[test]
fn lists_keep_their_order_and_chocolatey_comes_first() {
    let text = EXAMPLE.replace(
        "chocolatey=0.10.15\n7zip=23.1.0\n",
        "zoom=1\n7zip=23.1.0\nchocolatey=0.10.15\n",
    );
    let recipe: serde_json::Value = serde_json::from_str(&files(&text)[2]).unwrap();
    let names: Vec<_> = recipe["chocolatey"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].clone())
        .collect();
    assert_eq!(names, ["chocolatey", "zoom", "7zip", "vlc"]);
    let files = take(&text).unwrap().report(false).files;
    assert_eq!(
        files[..2],
        [
            "chocolatey/chocolatey.0.10.15.nupkg",
            "chocolatey/zoom.1.nupkg"
        ]
    );
    assert_eq!(
        files[4..],
        ["wpkg/wpkg.js", "msi/LibreOffice_7.4.7_Win_x64.msi"]
    );
}

#[test]
fn an_installation_without_programs_needs_no_files() {
    let text = EXAMPLE.split("# Packages of Chocolatey").next().unwrap();
    assert_eq!(
        take(text).unwrap().report(false).files,
        Vec::<String>::new()
    );
}

#[test]
fn values_that_could_become_other_commands_are_refused() {
    for (line, bad, key) in [
        ("edition=", "edition=", "windows.edition"),
        (
            "user=",
            "user=aluno\nproduct_key=abcde-12345-FGHIJ-67890-KLMNO",
            "windows.product_key",
        ),
        ("language=", "language=pt_BR", "windows.language"),
        ("keyboard=", "keyboard=abnt2", "windows.keyboard"),
        (
            "time_zone=",
            "time_zone=UTC</TimeZone>",
            "windows.time_zone",
        ),
        ("language=", "language=Portuguese", "windows.language"),
        ("language=", "language=pt", "windows.language"),
        (
            "time_zone=",
            "time_zone=America/Sao_Paulo",
            "windows.time_zone",
        ),
        (
            "time_zone=",
            "time_zone=E South America Standard Time",
            "windows.time_zone",
        ),
        ("user=", "user=Administrator", "windows.user"),
        ("user=", "user=Administrador", "windows.user"),
        ("user=", "user=USUÁRIOS", "windows.user"),
        ("user=", "user=None", "windows.user"),
        ("user=", "user=Local Service", "windows.user"),
        ("user=", "user=SERVIÇO DE REDE", "windows.user"),
        ("user=", "user=Operadores de cópia", "windows.user"),
        ("user=", "user=IIS_IUSRS", "windows.user"),
        ("user=", "user=...", "windows.user"),
        ("user=", "user=a:b", "windows.user"),
        ("user=", "user=abcdefghijklmnopqrstu", "windows.user"),
        (
            "disk_bytes=",
            "disk_bytes=34359738367",
            "windows.disk_bytes",
        ),
        (
            "disk_bytes=",
            "disk_bytes=85899345921",
            "windows.disk_bytes",
        ),
        ("DiagTrack=", "Diag'Track=disabled", "services"),
        ("DiagTrack=", "DiagTrack=automatic", "services.DiagTrack"),
        ("Microsoft.3DBuilder=", "Microsoft.*=removed", "apps"),
        (
            "Microsoft.3DBuilder=",
            "Microsoft.3DBuilder=disabled",
            "apps.Microsoft.3DBuilder",
        ),
        ("7zip=", "7zip=23 --source x", "chocolatey.7zip"),
        ("7zip=", "7zip & calc=23", "chocolatey"),
        ("chocolatey=", "# none", "chocolatey.chocolatey"),
        ("packages=", "packages=geogebra, a b", "wpkg.packages"),
        ("LibreOffice_7.4.7_Win_x64.msi=", "../x.msi=A=1", "msi"),
        ("LibreOffice_7.4.7_Win_x64.msi=", "x.exe=A=1", "msi"),
        (
            "LibreOffice_7.4.7_Win_x64.msi=",
            "x.msi=A=1 /x",
            "msi.x.msi",
        ),
        ("LibreOffice_7.4.7_Win_x64.msi=", "x.msi=A=\"1", "msi.x.msi"),
        (
            "LibreOffice_7.4.7_Win_x64.msi=",
            "x.msi=A=1 TRANSFORMS",
            "msi.x.msi",
        ),
        ("LibreOffice_7.4.7_Win_x64.msi=", "x.msi=A=é", "msi.x.msi"),
    ] {
        let error = take(&with(line, bad)).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Data, "{bad}");
        assert!(
            format!("{error:#}").starts_with(&format!("{key}: ")),
            "{bad}: {error:#}"
        );
    }
}

#[test]
fn a_misspelt_section_is_refused() {
    let error = take(&EXAMPLE.replace("[msi]", "[mis]")).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "[mis]: unknown section; known are image, windows, chocolatey, wpkg, msi, services, tasks, apps, programs"
    );
}

#[test]
fn languages_and_time_zones_are_those_of_windows() {
    for (line, good) in [
        ("language=", "language=es-419"),
        ("language=", "language=sr-Latn-RS"),
        ("time_zone=", "time_zone=UTC"),
        ("time_zone=", "time_zone=UTC-02"),
        ("time_zone=", "time_zone=Kamchatka Standard Time"),
        ("time_zone=", "time_zone=Mountain Standard Time (Mexico)"),
    ] {
        take(&with(line, good)).unwrap();
    }
}

#[test]
fn properties_may_have_spaces_in_quotes() {
    let line = "x.msi=A=1 INSTALLDIR=\"C:\\Program Files\\X /y\" B.C_D=";
    take(&with("LibreOffice_7.4.7_Win_x64.msi=", line)).unwrap();
    take(&with("LibreOffice_7.4.7_Win_x64.msi=", "x.msi=")).unwrap();
}

#[test]
fn a_path_of_a_task_begins_at_the_root() {
    let text = EXAMPLE.replace(
        "\\Microsoft\\XblGameSave\\XblGameSaveTask=",
        "XblGameSaveTask=",
    );
    let expected = "tasks: XblGameSaveTask: not a name there, which is a whole path";
    assert!(format!("{:#}", take(&text).unwrap_err()).starts_with(expected));
}
