//! Numbers in words.

/// Bytes, in powers of a thousand, with three digits: `12.3 kB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A rate in bits, as is usual for networks: `21.6 Gbit/s`.
pub fn bits(bytes_per_second: u64) -> String {
    scaled(
        bytes_per_second as f64 * 8.0,
        [
            "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s",
        ],
    )
}

fn scaled(mut value: f64, units: [&str; 7]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let number = format!("{value:.digits$}");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number} {}", units[unit])
}

/// A duration, to the second where that matters: `1 min 14 s`.
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// A duration in its largest unit alone: `2 hours`.
pub fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    counted(count, unit)
}

/// Hours, rounded: `61 h`.
pub fn hours(seconds: u64) -> String {
    format!("{} h", seconds.saturating_add(1800) / 3600)
}

/// `machine` for one, `machines` for any other number.
pub fn noun(count: u64, one: &str) -> String {
    if count == 1 {
        one.to_owned()
    } else {
        format!("{one}s")
    }
}

/// `2 machines`
pub fn counted(count: u64, one: &str) -> String {
    format!("{count} {}", noun(count, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(
            [0, 999, 1000, 12_345, 42_949_672_960].map(bytes),
            ["0 B", "999 B", "1 kB", "12.3 kB", "42.9 GB"]
        );
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(bits(2_700_000_000), "21.6 Gbit/s");
    }

    #[test]
    fn times_are_as_exact_as_their_use() {
        assert_eq!(
            [0, 74, 120, 3600, 7380].map(duration),
            ["0 s", "1 min 14 s", "2 min", "1 h", "2 h 3 min"]
        );
        assert_eq!(
            [1, 119, 120, 7200, 172_800].map(span),
            ["1 second", "119 seconds", "2 minutes", "2 hours", "2 days"]
        );
        assert_eq!(
            [0, 1799, 1800, 5400].map(hours),
            ["0 h", "0 h", "1 h", "2 h"]
        );
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "machine")),
            ["0 machines", "1 machine", "2 machines"]
        );
    }
}
