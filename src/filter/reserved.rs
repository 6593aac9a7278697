//! Reserved names: DataSync never copies and never deletes them (AWS DataSync user guide, "Filtering the data
//! transferred": paths that end in `.snapshot`, and its own `/.aws-datasync`, `/.awssync` and `/.zfs`).

/// Whether DataSync skips a file or directory of this name, with everything below it.
pub(crate) fn is_reserved_name(name: &str) -> bool {
    name.ends_with(".snapshot") || matches!(name, ".aws-datasync" | ".awssync" | ".zfs")
}

/// Whether a part of this key is a reserved name.
pub(crate) fn is_reserved(key: &str) -> bool {
    key.split('/').any(is_reserved_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_reserved_name_counts_at_any_depth() {
        for key in [".aws-datasync", ".aws-datasync/a", "a/.awssync/b", "a/.zfs/", "a/b.snapshot", ".snapshot/hourly/a"]
        {
            assert!(is_reserved(key), "{key}");
        }
        for key in ["aws-datasync", ".aws-datasync2/a", "a.zfs", "b.snapshots", "snapshot/a", ".awssyncs"] {
            assert!(!is_reserved(key), "{key}");
        }
    }
}
