//! DESIGN.md agrees with the tree: the floors with the imports of `src/`, its names with headings and files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DESIGN: &str = include_str!("../../DESIGN.md");

/// A module by its path: `sync::survey::decide` is `["sync", "survey", "decide"]`.
type Module = Vec<String>;

/// The files below a folder that have this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let paths = WalkDir::new(Path::new(ROOT).join(folder)).into_iter().map(|entry| entry.unwrap().into_path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Each module of `src/` but those that are only tests, with its code before its tests, without comments.
fn modules() -> BTreeMap<Module, String> {
    let src = Path::new(ROOT).join("src");
    let modules = files("src", "rs").into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        let code = code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
        let module = path.strip_prefix(&src).unwrap().with_extension("");
        (module.to_str().unwrap().split('/').map(str::to_owned).collect::<Module>(), code)
    });
    modules.filter(|(module, _)| module != &["lib"] && !module.contains(&"tests".to_owned())).collect()
}

/// Every path in `a::{b, c::{d, e}}`.
fn expand(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let inner = rest.rsplit_once('}').unwrap().0;
    let mut depth = 0;
    let branches = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    branches.flat_map(expand).map(|branch| format!("{}{branch}", head.trim())).collect()
}

/// The paths that some code names: in `use`, and those that start with `crate::` or `super::` anywhere.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for statement in code.split(['{', '}', ';']).filter(|statement| statement.contains("::")) {
        for start in ["crate::", "super::", "efs2s3::"] {
            for (at, _) in statement.match_indices(start) {
                let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                if !statement.get(..at).unwrap().ends_with(is_path) {
                    paths.push(statement.get(at..).unwrap().split(|c| !is_path(c)).next().unwrap().to_owned());
                }
            }
        }
    }
    for (at, _) in code.match_indices("use ") {
        let before = code.get(..at).unwrap().rsplit('\n').next().unwrap().trim();
        if before.is_empty() || before.starts_with("pub") {
            paths.extend(expand(code.get(at + 4..).unwrap().split(';').next().unwrap()));
        }
    }
    paths
}

/// The module that a path of `from` leads to, if it is one of this crate's.
fn target(from: &Module, path: &str, modules: &BTreeMap<Module, String>) -> Option<Module> {
    let mut found = from.clone();
    for (position, name) in path.split("::").map(str::trim).enumerate() {
        match name {
            "crate" | "efs2s3" => found.clear(),
            "super" => drop(found.pop()),
            _ => {
                found.push(name.to_owned());
                if !modules.contains_key(&found) {
                    found.pop();
                    return Some(found).filter(|_| position > 0);
                }
            }
        }
    }
    Some(found)
}

/// The arrows of each room: which of its modules imports which other, and in which file. An arrow between a module and
/// what is below it belongs to no room.
fn arrows(modules: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeMap<(String, String), Module>> {
    let mut rooms: BTreeMap<Module, BTreeMap<(String, String), Module>> = BTreeMap::new();
    for (from, code) in modules {
        for to in paths(code).iter().filter_map(|path| target(from, path, modules)) {
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) {
                let room = rooms.entry(from.get(..shared).unwrap().to_vec()).or_default();
                room.insert((one.clone(), other.clone()), from.clone());
            }
        }
    }
    rooms
}

/// The floor of each module, as DESIGN.md shows them.
fn floors() -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    let (_, section) = DESIGN.split_once("\n## The floors\n").unwrap();
    for row in section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Ok(floor) = cells[1].split(' ').next().unwrap().parse() else {
            continue;
        };
        for module in cells[2].split('`').skip(1).step_by(2) {
            assert_eq!(floors.insert(module.to_owned(), floor), None, "{module} is on two floors");
        }
    }
    floors
}

/// The floor of each module inside `sync/`, as DESIGN.md lists them from the bottom.
fn floors_of_sync() -> BTreeMap<String, u32> {
    let (_, list) = DESIGN.split_once("Inside `sync/`, from the bottom:").unwrap();
    let groups = list.split("; and `sync.rs`").next().unwrap().split(';').zip(0..);
    let names = groups.flat_map(|(group, floor)| group.split('`').skip(1).step_by(2).map(move |name| (name, floor)));
    names.map(|(name, floor)| (name.to_owned(), floor)).collect()
}

#[test]
fn every_module_is_on_one_floor_and_imports_from_no_higher_one() {
    let modules = modules();
    let rooms = arrows(&modules);
    for (room, floors) in [(vec![], floors()), (vec!["sync".to_owned()], floors_of_sync())] {
        let inside =
            modules.keys().filter(|module| module.starts_with(&room)).filter_map(|module| module.get(room.len()));
        let found: BTreeSet<&String> = inside.collect();
        assert_eq!(found, floors.keys().collect(), "the modules of src/, and those of the floors in DESIGN.md");
        assert!(rooms[&room].len() > 50, "too few imports were found: {}", rooms[&room].len());
        for ((from, to), file) in &rooms[&room] {
            assert!(floors[from] >= floors[to], "{} imports {to}, which is on a higher floor", file.join("/"));
        }
    }
}

#[test]
fn no_room_has_a_circle_of_imports() {
    for (room, mut arrows) in arrows(&modules()) {
        loop {
            let (froms, tos): (BTreeSet<_>, BTreeSet<_>) = arrows.keys().cloned().unzip();
            let before = arrows.len();
            arrows.retain(|(from, to), _| tos.contains(from) && froms.contains(to));
            if arrows.len() == before {
                break;
            }
        }
        let circle: Vec<String> =
            arrows.iter().map(|((_, to), file)| format!("{} imports {to}", file.join("/"))).collect();
        assert!(circle.is_empty(), "src/{} has a circle of imports: {circle:#?}", room.join("/"));
    }
}

#[test]
fn every_cited_decision_is_a_heading() {
    let headings: BTreeSet<String> = DESIGN.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let mut texts = files("src", "rs");
    texts.extend(files("tests", "rs"));
    texts.extend(files("docs", "md"));
    texts.extend(["DESIGN.md", "README.md", "CONTRIBUTING.md"].map(|name| Path::new(ROOT).join(name)));
    let mut count = 0;
    for path in texts {
        let text = fs::read_to_string(&path).unwrap();
        let is_this_file = path.ends_with("tests/it/floors.rs");
        for cited in text.split("DESIGN.md#").skip(1).filter(|_| !is_this_file) {
            let name: String = cited.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
            assert!(headings.contains(&name), "{}: DESIGN.md has no #{name}", path.display());
            count += 1;
        }
    }
    assert!(count > 5, "too few citations were found: {count}");
}

/// The anchor that a heading has on a web page.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

#[test]
fn every_file_that_the_documents_name_exists() {
    let bases = ["", "src", "src/sync"].map(|base| Path::new(ROOT).join(base));
    let exists =
        |name: &str| bases.iter().any(|base| base.join(name).exists() || base.join(format!("{name}.rs")).exists());
    let texts = [DESIGN, include_str!("../../README.md"), include_str!("../../CONTRIBUTING.md")];
    for text in texts {
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).map(|link| link.split([')', '#']).next().unwrap());
        let is_path = |name: &&str| {
            !name.contains(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c)))
                && (name.contains('/') || [".rs", ".md", ".toml"].iter().any(|extension| name.ends_with(extension)))
                && !["a/", "a//b", "../x"].contains(name) // keys
        };
        for name in quoted.chain(linked).filter(is_path) {
            assert!(exists(name), "no file {name}");
        }
    }
    let pipeline = DESIGN.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    for module in pipeline.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(exists(module), "no module {module}");
    }
}
