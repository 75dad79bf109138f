//! The names of the metrics. Alert rules are written against them: renaming one is a change of the
//! interface.
//!
//! Every metric has the labels `campus`, `building`, `room` (of campus.ini, by the machine's
//! addresses; empty where unknown) and `host` (its hostname). Unknown values have no sample: a rule
//! that must not miss them uses `absent()`, or [`COLLECTED`].

use serde::Serialize;

/// The type in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only increases, and restarts at 0 with the machine.
    Counter,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name in Prometheus: `labtools_…`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels besides the four common ones.
    pub labels: &'static [&'static str],
    /// Its description.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident = $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $($(#[$doc])* pub const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order of the file.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    /// More than one `host` with the same non-empty `id`: two machines claim one identity.
    HOST = Gauge "labtools_host_info" ["id" "model" "serial" "firmware" "kernel"]
        "The identity of this machine; always 1.";
    /// Late: the machine is silent, or cron does not run there. For its clock use node_time_seconds
    /// of node_exporter, or this one in the received reports.
    COLLECTED = Gauge "labtools_collected_timestamp_seconds" [] "When these metrics were collected, by the machine's clock.";
    /// When it booted.
    BOOTED = Gauge "labtools_boot_timestamp_seconds" [] "When the machine booted.";
    /// 1: the battery on the board is weak.
    CLOCK = Gauge "labtools_clock_before_image" []
        "Whether the hardware clock said at boot that the running image was not built yet.";
    /// Which host image runs.
    IMAGE = Gauge "labtools_image_version" ["slot"] "The version of the host image that runs.";
    /// Which bases there are.
    BASE = Gauge "labtools_base_generation" ["base"] "The generation of a base that new sessions start from.";
    /// 1: it was opened since the switch was reset, or since that was accepted.
    CHASSIS = Gauge "labtools_chassis_opened" [] "Whether the case was opened, by its intrusion switch, and that was not accepted.";
    /// By part and action, as in the events.
    CHANGES = Gauge "labtools_changes" ["part" "action"]
        "How many changes since the baseline were reported and not accepted.";
    /// The sum of the modules.
    MEMORY = Gauge "labtools_memory_installed_bytes" [] "The installed memory.";
    /// Compare with `labtools_memory_installed_bytes`.
    MEMORY_BASELINE = Gauge "labtools_memory_baseline_bytes" [] "The memory at the accepted baseline.";
    /// Compare with `labtools_memory_installed_bytes`.
    MEMORY_EXPECTED = Gauge "labtools_memory_expected_bytes" []
        "The memory of this model when new, or less if that was accepted.";
    /// MemTotal.
    MEMORY_USABLE = Gauge "labtools_memory_usable_bytes" [] "The memory that the kernel can use.";
    /// MemAvailable.
    MEMORY_AVAILABLE = Gauge "labtools_memory_available_bytes" [] "The memory available to a new program.";
    /// The count of /proc/cpuinfo.
    PROCESSORS = Gauge "labtools_processors" [] "How many processors the kernel sees.";
    /// The hottest of its sensors.
    CPU_TEMPERATURE = Gauge "labtools_cpu_temperature_celsius" [] "The temperature of the processor, of the hottest sensor.";
    /// The lowest of its limits.
    CPU_CRITICAL = Gauge "labtools_cpu_temperature_critical_celsius" []
        "The temperature at which the processor protects itself.";
    /// All sensors.
    TEMPERATURE = Gauge "labtools_temperature_celsius" ["sensor"] "The temperature at a sensor.";
    /// `disk` is the serial number, otherwise the world-wide name or the name, and both where two
    /// disks share it; for a missing disk that shares its serial number with a present one, the
    /// number and its place. 0: the baseline has it, and it is missing; absent in the first two
    /// minutes after a boot.
    DISK = Gauge "labtools_disk_present" ["disk" "model"] "Whether a disk is there; 0 for one of the baseline that is not.";
    /// The capacity.
    DISK_SIZE = Gauge "labtools_disk_size_bytes" ["disk"] "The size of a disk.";
    /// 0: the disk predicts its failure, or a file system on it has faults.
    DISK_HEALTHY = Gauge "labtools_disk_healthy" ["disk"]
        "Whether neither a disk nor its file systems report faults that were not accepted.";
    /// For each file system on a disk or a server.
    FILESYSTEM_SIZE = Gauge "labtools_filesystem_size_bytes" ["path"] "The size of a file system.";
    /// The used part.
    FILESYSTEM_USED = Gauge "labtools_filesystem_used_bytes" ["path"] "The used part of a file system.";
    /// 1: full, or permanently read-only.
    FILESYSTEM_READ_ONLY = Gauge "labtools_filesystem_read_only" ["path"] "Whether a file system can only be read.";
    /// 1: a server that does not answer.
    FILESYSTEM_HANGING = Gauge "labtools_filesystem_hanging" ["path"] "Whether a file system did not answer within two seconds.";
    /// 0: a mount of /etc/fstab has failed.
    FILESYSTEM_MOUNTED = Gauge "labtools_filesystem_mounted" ["path"] "Whether a file system is mounted; 0 for one of /etc/fstab that is not.";
    /// `medium` is `wired` or `wireless`. Absent while the interface is switched off.
    LINK = Gauge "labtools_link_up" ["interface" "medium"] "Whether an interface has a link.";
    /// Only while there is a link.
    LINK_SPEED = Gauge "labtools_link_speed_bytes_per_second" ["interface" "medium"] "How fast a link is.";
    /// Degraded: `labtools_link_speed_bytes_per_second <
    /// labtools_link_best_speed_bytes_per_second`.
    LINK_BEST = Gauge "labtools_link_best_speed_bytes_per_second" ["interface" "medium"]
        "How fast a link could be: the best that both ends offer, or that it has been; or less that was accepted.";
    /// 1: half duplex. Only of built-in wired hardware, and 0 when that was accepted.
    LINK_HALF = Gauge "labtools_link_half_duplex" ["interface" "medium"] "Whether only one end of a link can send at a time.";
    /// 1: a wired interface has no link, and a wireless one has.
    WIRELESS_ONLY = Gauge "labtools_wireless_only" [] "Whether traffic goes by wireless alone although there is a wired interface.";
    /// The signal strength of the access point.
    SIGNAL = Gauge "labtools_wireless_signal_dbm" ["interface"] "How well a wireless interface hears its access point.";
    /// `rate(labtools_interface_receive_bytes_total[5m])` needs samples every minute: metrics may
    /// be written more often than reports.
    RECEIVED = Counter "labtools_interface_receive_bytes_total" ["interface"] "Bytes that an interface received.";
    /// The same, sent.
    SENT = Counter "labtools_interface_transmit_bytes_total" ["interface"] "Bytes that an interface sent.";
    /// A bad cable.
    RECEIVE_ERRORS = Counter "labtools_interface_receive_errors_total" ["interface"] "Frames that an interface received broken.";
    /// 0 when none runs, with an empty `base`. Absent without root, which the detection needs.
    GUEST = Gauge "labtools_guest_running" ["base"] "Whether a guest runs, and of which base.";
    /// `time() - labtools_guest_failure_timestamp_seconds{cause="memory"} < 1800`; `cause` is
    /// `memory`, `threads` or `died`.
    GUEST_FAILURE = Gauge "labtools_guest_failure_timestamp_seconds" ["cause"] "When a guest failed last, by cause.";
    /// Waiting reports in /var/lib/labtools/spool; absent, like those below, without root.
    SPOOL = Gauge "labtools_spool_bytes" [] "The size of the reports that wait to be sent.";
    /// Without those in `rejected`.
    SPOOL_REPORTS = Gauge "labtools_spool_reports" [] "How many reports wait to be sent.";
    /// Absent when none waits.
    SPOOL_OLDEST = Gauge "labtools_spool_oldest_timestamp_seconds" [] "When the oldest report that waits was made.";
    /// Reports in /var/lib/labtools/spool/rejected.
    SPOOL_REJECTED = Gauge "labtools_spool_rejected_reports" [] "How many reports the collector refused, or were damaged and cannot be made good.";
}

/// The section `metrics`.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Whether a file was written (in a dry run: would be); also true when only times changed.
    pub changed: bool,
    /// The file, as named on the command line.
    pub path: String,
    /// The number of its samples.
    pub samples: u64,
    /// The unknown values, which have no sample, and why.
    pub missing: Vec<jsonpipe::Missing>,
}
