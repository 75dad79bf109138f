//! Faults that tests switch on, so that `scripts/check` can verify that the tests notice them.

/// Whether `LABTOOLS_SABOTAGE` names this fault. A release build has no faults.
pub fn sabotaged(fault: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var_os("LABTOOLS_SABOTAGE").is_some_and(|asked| asked == fault)
}
