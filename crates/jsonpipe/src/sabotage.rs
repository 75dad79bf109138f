//! Faults that the tests ask for, so that `scripts/check` sees them noticed.

/// Whether `LABTOOLS_SABOTAGE` names this fault. A release build has no faults to ask for.
pub fn sabotaged(fault: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var_os("LABTOOLS_SABOTAGE").is_some_and(|asked| asked == fault)
}
