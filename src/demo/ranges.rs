//! Parallel runs: a range list, a run for each range, and a merged report.

use super::stage::{DemoError, Expected, Stage};

const RANGES: usize = 3;

pub(super) fn run(stage: &mut Stage) -> Result<(), DemoError> {
    let (files, ranges) = (stage.tree.files(), stage.beside("ranges.json"));
    stage.print("\n\nThe same site, which several runs copy in parallel, for example on several machines.")?;
    stage.title("`ranges` splits the keys into ranges of about the same size")?;
    stage.show_output(&["ranges", "--count", &RANGES.to_string(), "-o", &ranges])?;
    stage.show_lines(&std::fs::read_to_string(&ranges)?)?;

    stage.title("A run for each range, in parallel")?;
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
    stage.run_parallel(&runs)?;
    stage.matches()?;

    stage.title("`report merge` adds the reports up")?;
    let words: Vec<&str> = ["report", "merge"].into_iter().chain(reports.iter().map(String::as_str)).collect();
    stage.program(&words.join(" "), &words, &[], &Expected { exit_code: 0, counts: &[("uploaded", files)] })?;

    stage
        .title("If a report is missing, the merged report is not a success and names the keys that no report covers")?;
    let words = [words.get(..3).unwrap_or_default(), words.get(4..).unwrap_or_default()].concat();
    stage.program(&words.join(" "), &words, &[], &Expected { exit_code: 1, counts: &[] }).map(|_| ())
}
