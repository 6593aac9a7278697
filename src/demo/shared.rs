//! Many runs at once: the keys cut into ranges, a run for each, and one report of them all.

use super::stage::{DemoError, Expected, Stage};

const RANGES: usize = 3;

/// Tells it.
pub(super) fn tell(stage: &mut Stage) -> Result<(), DemoError> {
    let (files, ranges) = (stage.tree.files(), stage.beside("ranges.json"));
    stage.say("\n\nThe same site once more, done by several runs at once, as many machines would.")?;
    stage.title("The keys are cut into ranges of about the same size")?;
    stage.look(&["ranges", "--count", &RANGES.to_string(), "-o", &ranges])?;
    stage.show_lines(&std::fs::read_to_string(&ranges)?)?;

    stage.title("A run for each of them, side by side")?;
    let reports: Vec<String> = (0..RANGES).map(|index| stage.beside(&format!("part-{index}.json"))).collect();
    let runs: Vec<Vec<String>> = (0..RANGES)
        .zip(&reports)
        .map(|(index, report)| {
            let index = index.to_string();
            ["sync", "--delete", "--ranges", &ranges, "--range-index", &index, "--report", report]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    stage.side_by_side(&runs)?;
    stage.matches()?;

    stage.title("Their reports are added up: every key was in one of them")?;
    let words: Vec<&str> = ["report", "merge"].into_iter().chain(reports.iter().map(String::as_str)).collect();
    stage.program(&words.join(" "), &words, &[], &Expected { exit_code: 0, counts: &[("uploaded", files)] })?;

    stage.title("One report is missing: it is no success, and says which keys nobody knows about")?;
    let words = [words.get(..3).unwrap_or_default(), words.get(4..).unwrap_or_default()].concat();
    stage.program(&words.join(" "), &words, &[], &Expected { exit_code: 1, counts: &[] }).map(|_| ())
}
