//! `seedctl nets`: the networks of the campus, from campus.ini, so that scripts need not parse INI.

use campus::Campus;
use jsonpipe::{Answer, Common, Document};

use crate::report::{Net, Nets};

/// Lists the networks. Status 66 when there is no campus.ini, 78 when it is invalid.
pub fn nets(common: &Common) -> anyhow::Result<Answer> {
    let campus = Campus::read(common)?;
    let nets = campus.nets().map(|(cidr, net)| {
        let campus::Net {
            name,
            campus,
            building,
            room,
            role,
            segment: _,
        } = net.clone();
        Net {
            name,
            cidr: cidr.to_string(),
            campus,
            building,
            room,
            role,
        }
    });
    let mut document = Document::default();
    document.set(
        "nets",
        &Nets {
            changed: false,
            nets: nets.collect(),
        },
    )?;
    Ok(Answer::yes(document))
}
