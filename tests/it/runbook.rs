//! The runbook and the reference name whatever an operator may meet: exit codes, guards that withhold deletes, verdicts on
//! DataSync.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use efs2s3::exit_code::ExitCode;

use crate::reference::{REFERENCE, section};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The words in the first cell of each row of a section's tables.
fn rows(document: &str, heading: &str) -> BTreeSet<String> {
    let text = section(document, heading);
    let cells = text.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').nth(1).unwrap());
    cells.flat_map(|cell| cell.split([',', '`', ' '])).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The texts behind `before` in the program's source.
fn named(path: &str, before: &[&str]) -> BTreeSet<String> {
    fn read(path: &Path) -> String {
        if path.is_file() {
            return fs::read_to_string(path).unwrap().split("#[cfg(test)]").next().unwrap().to_owned();
        }
        fs::read_dir(path).unwrap().map(|entry| read(&entry.unwrap().path())).collect()
    }
    let source: String =
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).split_whitespace().collect();
    let name = |rest: &str| rest.split('"').next().unwrap().to_owned();
    before.iter().flat_map(|before| source.split(before).skip(1).map(name)).collect()
}

#[test]
fn every_guard_is_in_it() {
    let guards =
        [&["Guard{name:\"", "object(\"", "withhold_all(\"", "letguard=matchpresence"][..2], &["withhold_all(\""]]
            .concat();
    let mut found = named("sync", &guards);
    found.extend(named("sync.rs", &guards));
    found.extend(named("command/run.rs", &guards));
    assert!(found.len() >= 13 && found.contains("limit") && found.contains("listing"), "{found:?}");
    for documented in [rows(RUNBOOK, "## Withheld deletes"), rows(REFERENCE, "## How deletes are guarded")] {
        assert!(found.is_subset(&documented), "{:?}", found.difference(&documented));
        assert_eq!(
            documented.difference(&found).filter(|word| *word != "guard").count(),
            0,
            "{documented:?} {found:?}"
        );
    }
}

#[test]
fn every_verdict_is_in_it() {
    let found: BTreeSet<String> = named("datasync/attempt/verdict.rs", &["=>\""])
        .into_iter()
        .filter(|name| !name.contains(|c: char| !c.is_ascii_lowercase() && c != '_'))
        .collect();
    assert!(found.len() >= 14, "{found:?}");
    let documented = rows(RUNBOOK, "## DataSync's verdicts");
    assert!(found.is_subset(&documented), "{:?}", found.difference(&documented));
    let in_reference: BTreeSet<String> =
        section(REFERENCE, "## DataSync first").split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(found.is_subset(&in_reference), "{:?}", found.difference(&in_reference));
}

#[test]
fn every_exit_code_is_in_it() {
    let documented = rows(RUNBOOK, "## Exit codes");
    for code in (0..=u8::MAX).filter_map(ExitCode::of_code) {
        assert!(documented.contains(&code.code().to_string()), "{code:?}");
    }
}
