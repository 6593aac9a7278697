//! A copy of a tree as DataSync makes it: the reference that tests compare the direct sync with.
//!
//! It follows DataSync's documentation alone and shares no code with the direct sync.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::execution::EffectiveOptions;
use crate::s3::{Object, S3Server, Seed};

/// A copy of a tree to a bucket, with its options.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of DataSync")]
pub struct Copy<'a> {
    /// The root of the source.
    pub tree: &'a Path,
    /// The server that has the bucket.
    pub server: &'a S3Server,
    /// The bucket.
    pub bucket: &'a str,
    /// The start of all keys. Ends with `/`.
    pub prefix: &'a str,
    /// The include filter.
    pub include: Option<&'a str>,
    /// The exclude filter.
    pub exclude: Option<&'a str>,
    /// `PreserveDeletedFiles=REMOVE`
    pub remove: bool,
    /// `OverwriteMode=NEVER`
    pub never_overwrite: bool,
    /// The options that are `NONE`, among `Mtime`, `Atime`, `Uid`, `Gid` and `PosixPermissions`.
    pub none: &'a [&'a str],
    /// Store times in milliseconds and modes with six digits, instead of nanoseconds and seven digits.
    pub milliseconds: bool,
    /// The storage class of new objects.
    pub storage_class: &'a str,
}

/// The keys that a copy wrote or deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Objects whose content was copied.
    pub copied: Vec<String>,
    /// Objects whose metadata alone was rewritten.
    pub rewritten: Vec<String>,
    /// Objects that were deleted.
    pub deleted: Vec<String>,
    /// The number of files whose names cannot be keys.
    pub failed: usize,
    /// Devices, sockets and FIFOs, which are not copied. The documentation does not say whether DataSync deletes an
    /// object with such a name: this copy keeps it.
    pub special: Vec<String>,
}

impl Written {
    /// Whether the copy wrote and deleted nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.copied.is_empty() && self.rewritten.is_empty() && self.deleted.is_empty()
    }
}

/// The object that a path should have.
struct Wanted {
    body: Vec<u8>,
    metadata: BTreeMap<String, String>,
    mtime_nanos: i128,
}

impl<'a> Copy<'a> {
    /// A copy with DataSync's default options, except that it deletes objects without a file.
    #[must_use]
    pub fn new(tree: &'a Path, server: &'a S3Server, bucket: &'a str, prefix: &'a str) -> Self {
        Self {
            tree,
            server,
            bucket,
            prefix,
            include: None,
            exclude: None,
            remove: true,
            never_overwrite: false,
            none: &[],
            milliseconds: false,
            storage_class: "STANDARD",
        }
    }

    /// The same copy with the options and filters of an execution.
    #[must_use]
    pub fn with(self, options: &'a EffectiveOptions) -> Self {
        Self {
            include: options.include.as_deref(),
            exclude: options.exclude.as_deref(),
            remove: options.has("PreserveDeletedFiles", "REMOVE"),
            never_overwrite: options.has("OverwriteMode", "NEVER"),
            ..self
        }
    }

    /// Makes the copy.
    ///
    /// # Errors
    /// Returns an error if the tree cannot be read.
    pub fn run(&self) -> io::Result<Written> {
        let mut written = Written::default();
        let mut wanted = BTreeMap::new();
        self.collect(self.tree, "", &mut wanted, &mut written)?;
        for (path, want) in &wanted {
            let key = format!("{}{path}", self.prefix);
            match self.server.object(self.bucket, &key) {
                None => {
                    let headers = self.class_for(want.body.len()).into_iter();
                    self.put(&key, want, headers.collect());
                    written.copied.push(key);
                }
                Some(_) if self.never_overwrite => {}
                Some(object) if object.body.len() != want.body.len() || !self.same_mtime(&object, want) => {
                    self.put(&key, want, kept(&object));
                    written.copied.push(key);
                }
                Some(object) if !same_rest(&object, want) => {
                    self.put(
                        &key,
                        &Wanted { body: object.body.to_vec(), metadata: want.metadata.clone(), ..*want },
                        kept(&object),
                    );
                    written.rewritten.push(key);
                }
                Some(_) => {}
            }
        }
        if self.remove {
            for key in self.server.keys(self.bucket, self.prefix) {
                let path = key.strip_prefix(self.prefix).unwrap_or_default();
                let is_special = written.special.iter().any(|special| special == path);
                if !path.is_empty() && !wanted.contains_key(path) && !is_special && self.includes(path) {
                    self.server.remove(self.bucket, &key);
                    written.deleted.push(key);
                }
            }
        }
        Ok(written)
    }

    fn collect(
        &self,
        folder: &Path,
        prefix: &str,
        wanted: &mut BTreeMap<String, Wanted>,
        written: &mut Written,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else {
                written.failed += 1;
                continue;
            };
            let meta = fs::symlink_metadata(&path)?;
            let kind = meta.file_type();
            let key = format!("{prefix}{name}");
            let want = |body: Vec<u8>| Wanted {
                body,
                metadata: self.metadata(&meta),
                mtime_nanos: nanos(meta.mtime(), meta.mtime_nsec()),
            };
            if kind.is_dir() {
                let key = format!("{key}/");
                self.collect(&path, &key, wanted, written)?;
                self.want(key, want(Vec::new()), wanted, written);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path)?.as_os_str().as_bytes().to_vec();
                self.want(key, want(target), wanted, written);
            } else if kind.is_file() {
                self.want(key, want(fs::read(&path)?), wanted, written);
            } else {
                written.special.push(key);
            }
        }
        Ok(())
    }

    fn want(&self, path: String, want: Wanted, wanted: &mut BTreeMap<String, Wanted>, written: &mut Written) {
        if !self.includes(&path) {
        } else if self.prefix.len() + path.len() > 1024 {
            written.failed += 1;
        } else {
            wanted.insert(path, want);
        }
    }

    /// Whether the copy includes this path, by its filters and the reserved names.
    fn includes(&self, path: &str) -> bool {
        let path = format!("/{}", path.trim_end_matches('/'));
        let is_reserved = path
            .split('/')
            .any(|name| name.ends_with(".snapshot") || name == ".aws-datasync" || name == ".awssync" || name == ".zfs");
        let is_matched = |filter: &str| {
            // The path itself and each folder above it.
            let folders = path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default());
            folders.chain([path.as_str()]).any(|part| {
                filter.split('|').any(|pattern| {
                    let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
                    !part.is_empty() && matches(pattern.as_bytes(), part.as_bytes())
                })
            })
        };
        !is_reserved && !self.exclude.is_some_and(is_matched) && self.include.is_none_or(is_matched)
    }

    fn metadata(&self, meta: &fs::Metadata) -> BTreeMap<String, String> {
        let time = |nanos: i128| {
            if self.milliseconds { nanos.div_euclid(1_000_000).to_string() } else { format!("{nanos}ns") }
        };
        let mode = if self.milliseconds { format!("{:06o}", meta.mode()) } else { format!("{:07o}", meta.mode()) };
        let all = [
            ("", "user-agent", "aws-datasync".to_owned()),
            ("Uid", "file-owner", meta.uid().to_string()),
            ("Gid", "file-group", meta.gid().to_string()),
            ("PosixPermissions", "file-permissions", mode),
            ("Mtime", "file-mtime", time(nanos(meta.mtime(), meta.mtime_nsec()))),
            ("Atime", "file-atime", time(nanos(meta.atime(), meta.atime_nsec()))),
        ];
        all.into_iter()
            .filter(|(option, ..)| !self.none.contains(option))
            .map(|(_, key, value)| (format!("x-amz-meta-{key}"), value))
            .collect()
    }

    /// Whether the stored mtime is that of the file, in nanoseconds or milliseconds.
    fn same_mtime(&self, object: &Object, want: &Wanted) -> bool {
        if self.none.contains(&"Mtime") {
            return true;
        }
        match object.metadata("file-mtime") {
            None => false,
            Some(text) => match text.strip_suffix("ns") {
                Some(nanos) => nanos.parse() == Ok(want.mtime_nanos),
                None => text.parse() == Ok(want.mtime_nanos.div_euclid(1_000_000)),
            },
        }
    }
}

/// Whether owner, group and mode are stored as wanted. An option that is `NONE` does not count.
fn same_rest(object: &Object, want: &Wanted) -> bool {
    let mode = |text: Option<&str>| u32::from_str_radix(text?, 8).ok();
    let wanted = |key: &str| want.metadata.get(&format!("x-amz-meta-{key}")).map(String::as_str);
    let same = |key: &str| wanted(key).is_none() || object.metadata(key) == wanted(key);
    let same_mode = wanted("file-permissions").is_none()
        || mode(object.metadata("file-permissions")) == mode(wanted("file-permissions"));
    same("file-owner") && same("file-group") && same_mode
}

impl Copy<'_> {
    /// Returns the storage class header of a new object of this size.
    fn class_for(&self, bytes: usize) -> Option<(String, String)> {
        let least = match self.storage_class {
            "STANDARD_IA" | "ONEZONE_IA" | "GLACIER_IR" => 128 * 1024,
            "GLACIER" | "DEEP_ARCHIVE" => 40 * 1024,
            _ => 0,
        };
        let class = (self.storage_class != "STANDARD" && bytes >= least).then(|| self.storage_class.to_owned());
        class.map(|class| ("x-amz-storage-class".to_owned(), class))
    }

    fn put(&self, key: &str, want: &Wanted, mut headers: BTreeMap<String, String>) {
        headers.extend(want.metadata.clone());
        self.server.put(self.bucket, key, want.body.clone(), Seed { headers, ..Seed::default() });
    }
}

/// Returns the headers that an object keeps when it is overwritten.
fn kept(object: &Object) -> BTreeMap<String, String> {
    let headers = object.headers.iter().filter(|(name, _)| !name.starts_with("x-amz-meta-"));
    headers.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn nanos(seconds: i64, nanos: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

/// Whether a text matches a pattern: `*` is any characters, and `\` escapes `*`, `|` and `\`. (No test uses `\|`.)
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], rest) => rest.is_empty(),
        ([b'*', pattern @ ..], _) => {
            (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|text| matches(pattern, text)))
        }
        ([b'\\', literal @ (b'*' | b'\\'), pattern @ ..] | [literal, pattern @ ..], [first, text @ ..]) => {
            literal == first && matches(pattern, text)
        }
        (_, []) => false,
    }
}
