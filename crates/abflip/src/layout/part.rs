//! The partitions of a lab machine, and what is the same for each on every machine.

/// A partition, by its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The root of slot a.
    RootA,
    /// The root of slot b.
    RootB,
    /// The EFI system partition of slot a.
    EspA,
    /// The EFI system partition of slot b.
    EspB,
    /// What the installer writes once: keys and the machine's UUID.
    Persistent,
    /// Logs and the state of the tools.
    Log,
    /// The images of bases.
    Backing,
    /// The disks of users.
    User,
    /// The pool that holds both instead.
    Pool,
}

/// What is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A root: `abflip write` brings its file system with the image.
    Image,
    /// FAT, for firmware.
    Vfat,
    /// Mounted at a place. Few files are large ones there, or many are small.
    Ext4 {
        mount_point: &'static str,
        options: &'static str,
        has_large_files: bool,
    },
    /// A pool, which zpool makes.
    Zfs,
}

impl Part {
    /// Each one, in the order of the table. The roots come first, as in Figure 24 of the thesis,
    /// and with the EFI system partitions they fill the first 512-byte sector of it: so the marks
    /// of both slots are in one sector, whatever starts the machine.
    pub const ALL: [Part; 9] = [
        Part::RootA,
        Part::RootB,
        Part::EspA,
        Part::EspB,
        Part::Persistent,
        Part::Log,
        Part::Backing,
        Part::User,
        Part::Pool,
    ];

    /// Its name in the table, of its section, and the label of its file system.
    pub fn name(self) -> &'static str {
        match self {
            Part::RootA => "root_a",
            Part::RootB => "root_b",
            Part::EspA => "esp_a",
            Part::EspB => "esp_b",
            Part::Persistent => "persistent",
            Part::Log => "log",
            Part::Backing => "backing",
            Part::User => "user",
            Part::Pool => "pool",
        }
    }

    /// What is in it.
    pub fn content(self) -> Content {
        let ext4 = |mount_point, options, has_large_files| Content::Ext4 {
            mount_point,
            options,
            has_large_files,
        };
        match self {
            Part::RootA | Part::RootB => Content::Image,
            Part::EspA | Part::EspB => Content::Vfat,
            Part::Persistent => ext4("/persistent", "ro,nodev,nosuid,noexec", false),
            Part::Log => ext4("/var/log", "rw,nodev,nosuid,noexec", false),
            Part::Backing => ext4("/qcow2/backing", "rw,nodev,nosuid,noexec", true),
            Part::User => ext4("/qcow2/user", "rw,nodev,nosuid,noexec", true),
            Part::Pool => Content::Zfs,
        }
    }

    /// The GUID of its type.
    pub fn type_guid(self) -> &'static str {
        match self.content() {
            // Not the types of a root or of /var: systemd would mount those by itself.
            Content::Image | Content::Ext4 { .. } => "0fc63daf-8483-4772-8e79-3d69d8477de4",
            Content::Vfat => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            Content::Zfs => "6a898cc3-1dd2-11b2-99a6-080020736631",
        }
    }
}
