//! How the users of an institution can log in.

use roxmltree::Node;

use crate::eap_config::xml::{child, children, content};
use crate::realm::{Eap, Phase2};

/// The first method that a login can use. Institutions list them in their order of preference.
pub fn choose<'a, 'i>(provider: Node<'a, 'i>) -> Result<(Node<'a, 'i>, Eap, Phase2), String> {
    let mut names: Vec<String> = Vec::new();
    for method in children(provider, "AuthenticationMethods")
        .flat_map(|methods| children(methods, "AuthenticationMethod"))
    {
        let outer = Outer::of(method);
        let inner: Vec<Inner> = children(method, "InnerAuthenticationMethod")
            .flat_map(|inner| inner.children())
            .filter_map(Inner::of)
            .collect();
        if let Some((eap, phase2)) = inner.iter().find_map(|inner| supported(outer, *inner)) {
            return Ok((method, eap, phase2));
        }
        let name = match inner.first() {
            Some(inner) if outer.has_tunnel() => format!("{} with {}", outer.name(), inner.name()),
            _ => outer.name().to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match &names[..] {
        [] => Err("no AuthenticationMethod in it".into()),
        [tls] if *tls == Outer::Tls.name() => Err(
            "EAP-TLS only: its users log in by a certificate of their own, not by a password"
                .into(),
        ),
        _ => Err(format!(
            "no method that is supported; it has {}",
            names.join(", ")
        )),
    }
}

/// The method outside, by its number in the IANA's registry of EAP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outer {
    Tls,
    Ttls,
    Peap,
    Fast,
    Pwd,
    Other,
}

impl Outer {
    fn of(method: Node<'_, '_>) -> Outer {
        let number = child(method, "EAPMethod")
            .and_then(|method| child(method, "Type"))
            .map(content)
            .unwrap_or_default();
        match number.to_ascii_lowercase().as_str() {
            "13" | "tls" => Outer::Tls,
            "21" | "ttls" => Outer::Ttls,
            "25" | "peap" => Outer::Peap,
            "43" | "fast" => Outer::Fast,
            "52" | "pwd" => Outer::Pwd,
            _ => Outer::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Outer::Tls => "EAP-TLS",
            Outer::Ttls => "TTLS",
            Outer::Peap => "PEAP",
            Outer::Fast => "EAP-FAST",
            Outer::Pwd => "EAP-PWD",
            Outer::Other => "a method of another number",
        }
    }

    fn has_tunnel(self) -> bool {
        matches!(self, Outer::Ttls | Outer::Peap)
    }
}

/// The method inside. The two elements number differently: 3 is MSCHAPv2 in one, 26 in the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    /// `NonEAPAuthMethod` 1, 2 and 3.
    Pap,
    Mschap,
    Mschapv2,
    /// `EAPMethod` 26, and 25, by which old files mean the same in PEAP.
    EapMschapv2,
    Eap25,
    Other,
}

impl Inner {
    /// `None` where the element is no method.
    fn of(element: Node<'_, '_>) -> Option<Inner> {
        let is_eap = element.has_tag_name("EAPMethod");
        if !is_eap && !element.has_tag_name("NonEAPAuthMethod") {
            return None;
        }
        let number = child(element, "Type").map(content).unwrap_or_default();
        Some(match (is_eap, number.to_ascii_lowercase().as_str()) {
            (false, "1" | "pap") => Inner::Pap,
            (false, "2" | "mschap") => Inner::Mschap,
            (false, "3" | "mschapv2") => Inner::Mschapv2,
            (true, "26" | "mschapv2") => Inner::EapMschapv2,
            (true, "25") => Inner::Eap25,
            _ => Inner::Other,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Inner::Pap => "PAP",
            Inner::Mschap => "MSCHAP",
            Inner::Mschapv2 => "MSCHAPv2",
            Inner::EapMschapv2 => "EAP-MSCHAPv2",
            Inner::Eap25 | Inner::Other => "an inner method of another number",
        }
    }
}

/// How a realm's file spells a pair of methods; `None` where it cannot.
fn supported(outer: Outer, inner: Inner) -> Option<(Eap, Phase2)> {
    Some(match (outer, inner) {
        (Outer::Ttls, Inner::Pap) => (Eap::Ttls, Phase2::Pap),
        (Outer::Ttls, Inner::Mschapv2) => (Eap::Ttls, Phase2::Mschapv2),
        (Outer::Ttls, Inner::EapMschapv2) => (Eap::Ttls, Phase2::EapMschapv2),
        (Outer::Peap, Inner::EapMschapv2 | Inner::Eap25) => (Eap::Peap, Phase2::Mschapv2),
        _ => return None,
    })
}
