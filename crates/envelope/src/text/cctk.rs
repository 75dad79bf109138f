//! The output format of Dell's cctk.

/// `[cctk]` and a line for each setting; read-only ones come after a semicolon.
pub fn settings(text: &str) -> Vec<(String, String)> {
    let setting = |line: &str| {
        let (name, value) = line.trim().trim_start_matches(';').split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        (is_name && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(setting).collect()
}

/// The status of the case switch in Dell's firmware. Writing `TripReset` resets it, which no tool
/// of ours does.
pub fn opened(status: &str) -> Option<bool> {
    let status: String = status
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect::<String>()
        .to_ascii_lowercase();
    match status.as_str() {
        "tripped" | "dooropen" => Some(true),
        "doorclosed" | "nottripped" | "tripreset" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cctk_settings_are_read_from_its_ini() {
        let text = "[cctk]\r\n;do not edit\r\n;svctag=ABC1234\r\nacpwrrcvry=last\r\nasset=\r\nboot order=x\r\nbroken\r\n =x\r\nx=a=b\r\n";
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            settings(text),
            [("svctag", "ABC1234"), ("acpwrrcvry", "last"), ("x", "a=b")].map(owned)
        );
        assert_eq!(settings(""), []);
    }

    #[test]
    fn intrusion_status_is_understood() {
        for (status, expected) in [
            ("Tripped", Some(true)),
            ("DoorOpen", Some(true)),
            ("door open", Some(true)),
            ("DoorClosed", Some(false)),
            ("TripReset", Some(false)),
            ("", None),
            ("Detected?", None),
        ] {
            assert_eq!(opened(status), expected, "{status}");
        }
    }
}
