//! Machines with a confused identity: two under one id, or one board under two ids.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{self, Board};
use crate::known::Known;
use crate::report::{Duplicate, DuplicateKind};

/// All duplicates, by id.
pub fn duplicates(machines: &[Known]) -> Vec<Duplicate> {
    let mut found = Vec::new();
    let with_id = || {
        machines
            .iter()
            .filter_map(|known| Some((known.machine.id.as_deref()?, known)))
    };
    for (id, known) in with_id() {
        let boards = &known.summary.boards;
        let kind = match (known.summary.is_two, boards.len()) {
            (true, _) => DuplicateKind::OneIdTwoMachines,
            (false, 0..=1) => continue,
            (false, _) => DuplicateKind::BoardExchanged,
        };
        let boards = boards.iter().map(name).collect();
        found.push(Duplicate {
            kind,
            ids: vec![id.to_owned()],
            hosts: vec![known.machine.name.clone()],
            boards,
        });
    }
    for (board, owners) in
        history::shared(with_id().map(|(id, known)| (id, &*known.summary.boards)))
    {
        // Consecutive, not simultaneous: one had gone when the other came.
        let mut times: Vec<_> = owners
            .iter()
            .map(|(_, board)| (board.first, board.last))
            .collect();
        times.sort_unstable();
        let apart = times
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a.1 < b.0));
        let ids: BTreeSet<&str> = owners.iter().map(|(id, _)| *id).collect();
        let host = |id: &&str| {
            with_id()
                .find(|(known, _)| known == id)
                .map(|(_, known)| known.machine.name.clone())
        };
        found.push(Duplicate {
            kind: if apart {
                DuplicateKind::Reinstalled
            } else {
                DuplicateKind::OneBoardTwoIds
            },
            hosts: ids.iter().filter_map(host).collect(),
            ids: ids.into_iter().map(str::to_owned).collect(),
            boards: vec![board],
        });
    }
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, known) in
        with_id().filter(|(_, known)| known.machine.listed && known.machine.reports > 0)
    {
        names.entry(&known.machine.name).or_default().push(id);
    }
    for (name, ids) in names.into_iter().filter(|(_, ids)| ids.len() > 1) {
        let is_listed = found.iter().any(|duplicate: &Duplicate| {
            ids.iter()
                .all(|id| duplicate.ids.iter().any(|known| known == id))
        });
        if !is_listed {
            let ids = ids.into_iter().map(str::to_owned).collect();
            found.push(Duplicate {
                kind: DuplicateKind::OneNameTwoIds,
                ids,
                hosts: vec![name.to_owned()],
                boards: Vec::new(),
            });
        }
    }
    found
}

fn name(board: &Board) -> String {
    let system = &board.system;
    let parts = [("serial number", &system.serial), ("UUID", &system.uuid)];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(what, value)| value.as_ref().map(|value| format!("{what} {value}")))
        .collect();
    parts.join(", ")
}
