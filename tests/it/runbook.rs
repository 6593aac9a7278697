//! The runbook and the reference name whatever an operator may meet: exit codes, guards that withhold deletes, verdicts on
//! DataSync.

use std::collections::BTreeSet;

use efs2s3::datasync::attempt::verdict::VerdictKind;
use efs2s3::exit_code::ExitCode;
use efs2s3::sync::guard::Guard;

use crate::reference::{REFERENCE, section};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The words in the first cell of each row of a section's tables.
fn rows(document: &str, heading: &str) -> BTreeSet<String> {
    let text = section(document, heading);
    let cells = text.lines().filter(|line| line.starts_with("| ")).map(|line| line.split('|').nth(1).unwrap());
    cells.flat_map(|cell| cell.split([',', '`', ' '])).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_guard_is_in_it() {
    let found: BTreeSet<String> = Guard::ALL.iter().map(|guard| guard.name().to_owned()).collect();
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
    let found: BTreeSet<String> = VerdictKind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    let documented = rows(RUNBOOK, "## DataSync's verdicts");
    assert!(found.is_subset(&documented), "{:?}", found.difference(&documented));
    let in_reference: BTreeSet<String> =
        section(REFERENCE, "## DataSync first").split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(found.is_subset(&in_reference), "{:?}", found.difference(&in_reference));
}

#[test]
fn every_exit_code_is_in_it() {
    let documented = rows(RUNBOOK, "## Exit codes");
    for code in (0..=u8::MAX).filter_map(ExitCode::from_code) {
        assert!(documented.contains(&code.code().to_string()), "{code:?}");
    }
}
