//! The oracle: what must hold after a run, by what the source held at each moment of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fake_aws::s3::{LoggedRequest, Object, Operation};

use super::scope::{INNER, Scope, Sizes};
use super::view::{Entry, Kind, Mode, View, is_at_or_below};
use crate::trial::FinishedRun;

const WRITES: [Operation; 3] = [Operation::PutObject, Operation::CompleteMultipartUpload, Operation::CopyObject];

pub(super) type Objects = BTreeMap<String, Object>;

/// Every content that a key ever had.
pub(super) type History = BTreeMap<String, BTreeSet<Arc<[u8]>>>;

/// A finished run, and everything that the oracle needs to judge it.
pub(super) struct Evidence<'a> {
    pub(super) scope: &'a Scope,
    /// What the source held: at the start, after each change during the run.
    pub(super) moments: &'a [View],
    pub(super) before: &'a Objects,
    pub(super) after: &'a Objects,
    pub(super) log: &'a [LoggedRequest],
    pub(super) history: &'a History,
    pub(super) run: &'a FinishedRun,
    /// Whether the run was asked to stop, or killed.
    pub(super) is_stopped: bool,
    /// Whether the tree was restructured during the run, and not only a file rewritten.
    pub(super) is_restructured: bool,
    /// Objects that DataSync deleted on behalf of another caller.
    pub(super) deleted_by_others: &'a BTreeSet<String>,
    /// Whether the run compared everything, so that exit code 0 proves something.
    pub(super) is_whole: bool,
}

impl Evidence<'_> {
    pub(super) fn check(&self) {
        let run = self.run;
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        assert!([0, 1, 3].contains(&run.code) || self.is_stopped, "exit {}: {}", run.code, run.stderr);
        self.contents_are_true();
        self.writes_are_in_scope();
        self.deletes_are_justified();
        if run.report.is_null() {
            assert!(self.is_stopped, "no report: {}", run.stderr);
            return;
        }
        assert_eq!(run.report["exit_code"], run.code);
        self.missing_mounts_are_missing();
        if [0, 3, 143].contains(&run.code) {
            run.assert_adds_up();
        }
        // A check of the source before DataSync starts leaves everything as it was.
        let is_refused = run.code == 3 && run.stderr.contains("started nothing");
        if self.is_whole && [0, 3].contains(&run.code) && !is_refused {
            self.success_is_equality();
        }
    }

    /// No object is torn, or of content that never existed under its key.
    fn contents_are_true(&self) {
        for (key, object) in self.after {
            let is_known = self.history.get(key).is_some_and(|contents| contents.contains(&*object.body));
            let bytes = object.body.len();
            assert!(
                is_known,
                "'{key}' holds {bytes} bytes that its file never had: {:?}: {}",
                &object.body[..bytes.min(32)],
                self.run.stderr
            );
        }
    }

    /// The run wrote only what the source held under that key, and nothing that the filters leave out.
    fn writes_are_in_scope(&self) {
        let written: BTreeSet<&str> = self.requested(&WRITES);
        for key in &written {
            assert!(!self.scope.rules.min_age, "'{key}' was written, although all files are too young");
            assert!(self.scope.covers(key), "'{key}' was written, although it is out of scope");
            // A rewrite of metadata reads no content.
            let is_copied = !self.requested(&WRITES[..2]).contains(key);
            let existed =
                |view: &View| view.entries.get(*key).is_some_and(|entry| is_copied || entry.content.is_some());
            assert!(self.moments.iter().any(existed), "'{key}' was written, although the source never held it");
            let is_hidden = |view: &View| self.scope.missing_mounts(view).iter().any(|top| is_at_or_below(key, top));
            assert!(!self.moments.iter().all(is_hidden), "'{key}' was written, although a mount is missing there");
        }
        for request in self.log.iter().filter(|request| is_delete(request.operation)) {
            let batch = String::from_utf8_lossy(&request.document).into_owned();
            let is_deleted =
                |key: &&&str| request.key == format!("www/{key}") || batch.contains(&format!("<Key>www/{key}</Key>"));
            assert_eq!(written.iter().find(is_deleted), None, "one run wrote and deleted a key");
        }
    }

    fn requested(&self, operations: &[Operation]) -> BTreeSet<&str> {
        let requests = self.log.iter().filter(|request| operations.contains(&request.operation));
        requests.filter_map(|request| request.key.strip_prefix("www/")).collect()
    }

    /// Each object that is gone was an orphan at some moment of the run, and no guard should have withheld its delete.
    fn deletes_are_justified(&self) {
        let sizes: Sizes = self.before.iter().map(|(key, object)| (key.clone(), object.size_bytes())).collect();
        let is_gone = |key: &&String| !self.after.contains_key(*key) && !self.deleted_by_others.contains(*key);
        let gone: Vec<&String> = self.before.keys().filter(is_gone).collect();
        for key in &gone {
            let kept: Vec<Option<&str>> =
                self.moments.iter().map(|view| self.scope.why_kept(key, view, &sizes)).collect();
            assert!(kept.contains(&None), "'{key}' was deleted, although {kept:?}: {}", self.run.stderr);
        }
        if gone.is_empty() {
            return;
        }
        assert_ne!(self.run.code, 1, "{gone:?} were deleted by a run that failed: {}", self.run.stderr);
        // An execution may have written objects before the run listed them.
        let written = self.requested(&WRITES);
        let of_execution = self.after.keys().filter(|key| !sizes.contains_key(*key) && !written.contains(key.as_str()));
        let in_scope = sizes.keys().chain(of_execution).filter(|key| self.scope.covers(key)).count();
        let allowed = match self.scope.rules.max_delete.strip_suffix('%') {
            Some(percent) => in_scope * percent.parse::<usize>().unwrap() / 100,
            None => self.scope.rules.max_delete.parse().unwrap(),
        };
        assert!(gone.len() <= allowed, "{gone:?} were deleted, and only {allowed} are allowed: {}", self.run.stderr);
        let failed = self.publishable_throughout().find(|key| !self.after.contains_key(*key));
        if let Some(failed) = failed.filter(|_| !self.is_stopped) {
            panic!("{gone:?} were deleted, although the new file '{failed}' was not stored: {}", self.run.stderr);
        }
    }

    /// The keys of new files that could be published at every moment.
    fn publishable_throughout(&self) -> impl Iterator<Item = &String> {
        let [first, others @ ..] = self.moments else { panic!("no moment") };
        let is_same = |key: &String, entry: &Entry| others.iter().all(|view| view.entries.get(key) == Some(entry));
        let files = first
            .entries
            .iter()
            .filter(move |(key, entry)| entry.kind == Kind::File && entry.content.is_some() && is_same(key, entry));
        let new = files.map(|(key, _)| key).filter(|key| self.scope.covers(key) && !self.before.contains_key(*key));
        let lost = self.maybe_missing();
        new.filter(move |key| !self.scope.rules.min_age && !lost.iter().any(|top| is_at_or_below(key, top)))
    }

    /// The mount points that may have been missing at some moment: those in the state, and those that this run saw.
    fn maybe_missing(&self) -> BTreeSet<&String> {
        let seen = self.moments.iter().flat_map(|view| view.mounts.union(&view.links));
        let seen =
            seen.filter(|key| self.is_restructured && !self.moments.iter().all(|view| view.mounts.contains(*key)));
        let remembered = self.moments.iter().flat_map(|view| self.scope.maybe_missing(view));
        remembered.chain(seen).collect()
    }

    /// The paths at which the report calls a mount missing.
    fn named_missing_mounts(&self) -> Vec<&str> {
        let failures = self.run.report["failures"].as_array().unwrap().iter();
        let failures = failures.filter(|failure| failure["kind"] == "missing_mount");
        let keys = failures.map(|failure| failure["key"].as_str().unwrap().strip_prefix("www/").unwrap());
        keys.map(|key| key.trim_end_matches('/')).collect()
    }

    fn missing_mounts_are_missing(&self) {
        let known = self.maybe_missing();
        for key in self.named_missing_mounts() {
            let is_known = known.iter().any(|top| is_at_or_below(key, top));
            assert!(is_known, "no mount is missing at '{key}': {}", self.run.stderr);
        }
    }

    /// After exit code 0 everything in scope is equal. After exit code 3 the report names what is not.
    fn success_is_equality(&self) {
        let run = self.run;
        let is_empty = self.moments.iter().all(|view| self.scope.is_empty(view));
        let has_objects = self.before.keys().any(|key| self.scope.covers(key) && !key.ends_with('/'));
        assert!(
            run.code == 3 || !is_empty || !has_objects || self.scope.rules.allow_empty || self.scope.named.is_some(),
            "exit 0, although the source is empty and the destination is not: {}",
            run.stderr
        );
        let excused = self.named();
        // One failure at a missing mount stands for everything below it.
        let hidden = if run.code == 3 { self.named_missing_mounts() } else { Vec::new() };
        // The directory itself, if it is empty, is not a loss.
        let bare = self.maybe_missing();
        let is_bare = |key: &str| {
            !self.after.contains_key(key) && key.strip_suffix('/').is_some_and(|key| bare.contains(&key.to_owned()))
        };
        let is_excused = |key: &str| {
            excused.contains(&format!("www/{key}")) || hidden.iter().any(|top| is_at_or_below(key, top)) || is_bare(key)
        };
        let wrong = self.wrong_keys().filter(|key| !is_excused(key)).map(|key| self.difference(key));
        let wrong: Vec<String> = wrong.collect();
        let why = if run.code == 0 { "exit 0" } else { "exit 3, and the report does not name these keys" };
        assert!(wrong.is_empty(), "{why}: differ from the source:\n{}\n{}", wrong.join("\n"), run.stderr);
    }

    /// The keys that the report names, and that may therefore be wrong.
    fn named(&self) -> BTreeSet<String> {
        let run = self.run;
        let mut named: BTreeSet<String> = BTreeSet::new();
        if run.code == 3 {
            named.extend(run.failed_keys());
        }
        for withheld in run.report["withheld_because"].as_array().unwrap() {
            let is_normal = match withheld["guard"].as_str().unwrap() {
                "still_gone" | "still_the_same" => self.is_restructured || self.moments.len() > 1,
                // A new file that vanishes during the run counts too.
                "may_be_renamed" => self.scope.rules.min_age || self.is_restructured,
                _ => false,
            };
            if run.code == 3 || is_normal {
                named.extend(withheld["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
            }
        }
        named
    }

    /// The keys whose objects are not what the source held at any moment.
    pub(super) fn wrong_keys(&self) -> impl Iterator<Item = &str> {
        let in_source = self.moments.iter().flat_map(|view| view.entries.keys());
        let keys: BTreeSet<&String> = in_source.chain(self.after.keys()).collect();
        let keys = keys.into_iter().map(String::as_str).filter(|key| self.scope.covers(key));
        let is_wrong = |key: &&str| !self.moments.iter().any(|view| self.is_as_in(key, view));
        keys.filter(is_wrong).filter(|key| !self.is_restructured || !self.has_changed(key))
    }

    /// What the source held at each moment, and what the object holds.
    fn difference(&self, key: &str) -> String {
        let short = |bytes: &[u8]| format!("{} bytes {:?}", bytes.len(), &bytes[..bytes.len().min(8)]);
        let entries = self.moments.iter().map(|view| match view.entries.get(key) {
            None => "absent".to_owned(),
            Some(entry) => {
                let content = entry.content.as_deref().map_or("unreadable".to_owned(), short);
                format!("{:?} of {content}, mtime {}, mode {:o}", entry.kind, entry.mtime_nanos, entry.mode)
            }
        });
        let object = |object: &Object| {
            let metadata: Vec<_> = object.headers.iter().filter(|(name, _)| name.contains("-meta-file-")).collect();
            format!("{}, written {:?}, {metadata:?}", short(&object.body), object.modified)
        };
        let entries: Vec<String> = entries.collect();
        format!("{key:?}: source: {entries:?}, object: {:?}", self.after.get(key).map(object))
    }

    fn has_failed(&self, key: &str) -> bool {
        self.run.failed_keys().contains(&format!("www/{key}"))
    }

    fn has_changed(&self, key: &str) -> bool {
        let mut entries = self.moments.iter().map(|view| view.entries.get(key));
        let first = entries.next();
        entries.any(|entry| Some(entry) != first)
    }

    fn is_as_in(&self, key: &str, view: &View) -> bool {
        match (view.entries.get(key), self.after.get(key)) {
            (Some(_), _) if self.scope.rules.min_age => true,
            (Some(Entry { content: None, .. }), Some(_)) | (None, None) => true,
            (Some(_), None) => false,
            (Some(entry), Some(object)) => {
                entry.content.as_deref() == Some(&*object.body)
                    && (self.scope.mode == Mode::Plain || has_metadata_of(object, entry))
            }
            (None, Some(_)) => {
                !self.scope.rules.delete
                    || self.scope.is_marker(key, view)
                    // The report names the directory, or the link that leads into one.
                    || self.run.code == 3 && view.unread.iter().any(|unread| is_at_or_below(key, unread))
                    || view.broken.iter().any(|link| is_at_or_below(key, link) && self.has_failed(link))
            }
        }
    }
}

fn is_delete(operation: Operation) -> bool {
    [Operation::DeleteObject, Operation::DeleteObjects].contains(&operation)
}

/// Whether the object's metadata is what DataSync stores of the file.
fn has_metadata_of(object: &Object, entry: &Entry) -> bool {
    let number = |name: &str| object.metadata(name).and_then(|text| text.parse::<u32>().ok());
    let mtime = object.metadata("file-mtime").and_then(|text| text.strip_suffix("ns")).map(str::parse);
    let mode = object.metadata("file-permissions").and_then(|text| u32::from_str_radix(text, 8).ok());
    mtime == Some(Ok(entry.mtime_nanos))
        && mode.is_some_and(|mode| mode & 0o7777 == entry.mode & 0o7777)
        && (number("file-owner"), number("file-group")) == (Some(entry.owner.0), Some(entry.owner.1))
}

/// Whether the key belongs to the inner destination.
pub(super) fn is_inner(key: &str) -> bool {
    key.starts_with(INNER)
}
