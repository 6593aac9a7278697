//! An execution of DataSync in a story: it reads the source, the source may change, and then it writes what it read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_aws::datasync::{DataSyncServer, EffectiveOptions};
use fake_aws::s3::{S3Server, Seed};

use super::filter::Filter;
use super::oracle::is_inner;
use super::scope::Scope;
use super::story::{End, Execution};
use super::view::{Entry, View, is_reserved};

/// How long an execution transfers: what it writes then is newer than an edit in between, the margin of the times included.
pub(super) const TRANSFER: Duration = Duration::from_millis(4500);
/// When the source changes during an execution.
pub(super) const CHANGE: Duration = Duration::from_millis(700);
const SHORT: Duration = Duration::from_millis(300);

/// The keys that DataSync itself deleted.
pub(super) type Deleted = Arc<Mutex<BTreeSet<String>>>;

/// Makes executions of the task do what the story says, with what the source holds now.
pub(super) fn prepare(
    datasync: &DataSyncServer,
    s3: &S3Server,
    scope: &Scope,
    execution: &Execution,
    read: &View,
) -> Deleted {
    let deleted = Deleted::default();
    let copy = Copy {
        s3: s3.clone(),
        entries: read.entries.clone(),
        filter: scope.filter.clone(),
        every: if execution.writes_half { 2 } else { 1 },
        deleted: Arc::clone(&deleted),
    };
    let time = if execution.during.is_empty() { SHORT } else { TRANSFER };
    datasync.change(|service| {
        service.include.clone_from(&scope.filter.include);
        service.exclude.clone_from(&scope.filter.exclude);
        let removes = |removes: bool| if removes { "REMOVE" } else { "PRESERVE" };
        service.options.insert("PreserveDeletedFiles", removes(scope.rules.delete).into());
        service.execution_options.insert("PreserveDeletedFiles", removes(execution.others_remove).into());
        service.ignores_override = execution.ignores_override;
        service.error = match execution.end {
            End::Cancelled => ("Cancelled".to_owned(), "The execution was cancelled.".to_owned()),
            End::Success | End::Stuck => (String::new(), String::new()),
            End::Error => ("FsS3Error".to_owned(), "The transfer of cancelled.html failed.".to_owned()),
        };
        service.counters_move = execution.end != End::Stuck;
        service.copies_before_error = true;
        service.on_success = None;
        service.script = match execution.end {
            End::Success => vec![("TRANSFERRING", time), ("SUCCESS", Duration::ZERO)],
            End::Error | End::Cancelled => vec![("TRANSFERRING", time), ("ERROR", Duration::ZERO)],
            End::Stuck => vec![("TRANSFERRING", Duration::from_hours(1))],
        };
        if execution.end != End::Cancelled {
            service.on_success = Some(Box::new(move |options| copy.write(options)));
        }
    });
    deleted
}

/// What an execution writes: what it has read.
struct Copy {
    s3: S3Server,
    entries: BTreeMap<String, Entry>,
    filter: Filter,
    /// Only every n-th key.
    every: usize,
    deleted: Deleted,
}

impl Copy {
    fn write(&self, options: &EffectiveOptions) {
        let readable = self.entries.iter().filter(|(key, entry)| self.filter.admits(key) && entry.content.is_some());
        for (key, entry) in readable.step_by(self.every) {
            let content = entry.content.as_deref().unwrap();
            let key = format!("www/{key}");
            let metadata = metadata(entry);
            let is_stored = self.s3.object("site", &key).is_some_and(|object| {
                &*object.body == content && metadata.iter().all(|(name, value)| object.headers.get(name) == Some(value))
            });
            if !is_stored {
                let seed = Seed { headers: metadata, ..Seed::default() };
                self.s3.put("site", &key, content.to_vec(), seed);
            }
        }
        if !options.has("PreserveDeletedFiles", "REMOVE") {
            return;
        }
        for key in self.s3.keys("site", "www/") {
            let name = &key["www/".len()..];
            if !self.entries.contains_key(name) && self.filter.admits(name) && !is_reserved(name) && !is_inner(name) {
                self.s3.remove("site", &key);
                self.deleted.lock().unwrap().insert(name.to_owned());
            }
        }
    }
}

/// What DataSync stores of a file.
fn metadata(entry: &Entry) -> BTreeMap<String, String> {
    let all = [
        ("user-agent", "aws-datasync".to_owned()),
        ("file-owner", entry.owner.0.to_string()),
        ("file-group", entry.owner.1.to_string()),
        ("file-permissions", format!("{:07o}", entry.mode)),
        ("file-mtime", format!("{}ns", entry.mtime_nanos)),
        ("file-atime", format!("{}ns", entry.mtime_nanos)),
    ];
    all.into_iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value)).collect()
}
