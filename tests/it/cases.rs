//! Checks the tables of cases: each case names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const BEHAVIOURS: &str = include_str!("../cases.md");
const ATTACKS: &str = include_str!("../../docs/reliability.md");
const CASES: &str = "1 2 3 4 5 5a 5b 5c 6 7 8 9 10 11 12 20 21 22 23 24 25 26 27 28 29 29a 30 31 32 33 34 35 40 41 42 42a 43 44 45 \
    46 47 50 51 52 53 54 55 56 57 60 61 62 63 64 65 66 67 67a 67b 68 69 70 71 72 80 81 82 83 90 91 92 93 94 95 96 97 100 101 \
    102 103 104 105 106 107 108 109 110 111 112 113";

/// All source of the tests and of the program.
struct Sources {
    root: PathBuf,
    program: String,
    real: String,
}

impl Sources {
    fn new() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let (program, real) = (source(&root.join("src")), source(&root.join("tests/real_s3")));
        Self { root, program, real }
    }

    /// Whether a test of this name exists, as the tables write it.
    fn hold(&self, test: &str) -> bool {
        let path: Vec<&str> = test.split("::").collect();
        let has = |text: &str, name: &str| text.contains(&format!("fn {name}("));
        match path.as_slice() {
            ["it", module, name] => {
                let place = self.root.join("tests/it").join(module);
                has(&fs::read_to_string(place.with_extension("rs")).unwrap_or_default(), name)
                    || place.is_dir() && has(&source(&place), name)
            }
            ["real", name] => has(&self.real, name),
            [name] => has(&self.program, name),
            _ => false,
        }
    }
}

/// All Rust source below a folder, as one text.
fn source(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| {
        if path.is_dir() {
            source(&path)
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            fs::read_to_string(path).unwrap()
        } else {
            String::new()
        }
    });
    texts.collect()
}

/// The rows of a table: the first column, and the tests that the last one names.
fn rows(table: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    table.lines().filter(|line| line.starts_with("| ") && line.contains('`')).map(|line| {
        let tests = line.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        (line.split('|').nth(1).unwrap().trim(), tests.collect())
    })
}

#[test]
fn each_case_names_existing_tests() {
    let sources = Sources::new();
    let mut cases = BTreeSet::new();
    for (case, tests) in rows(BEHAVIOURS) {
        cases.insert(case);
        for test in tests {
            assert!(sources.hold(test), "the test `{test}` does not exist");
        }
    }
    let missing: Vec<&str> = CASES.split_whitespace().filter(|case| !cases.contains(case)).collect();
    assert!(missing.is_empty(), "no test covers {missing:?}");
}

#[test]
fn each_attack_names_existing_tests() {
    let sources = Sources::new();
    let attacks = ATTACKS.split("<!-- attacks -->").nth(1).unwrap();
    let mut count = 0;
    for (attack, tests) in rows(attacks) {
        count += 1;
        assert!(!tests.is_empty(), "no test covers: {attack}");
        for test in tests {
            assert!(sources.hold(test), "the test `{test}` of the row \"{attack}\" does not exist");
        }
    }
    assert!(count >= 25, "{count} rows");
}
