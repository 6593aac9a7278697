//! A tree and a bucket of a real S3 server, and runs of the program between them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::Value;
use tempfile::TempDir;

/// A server that `tests/real_s3/servers` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Moto,
    Ceph,
    SeaweedFs,
}

/// A fresh tree and a fresh bucket.
pub(crate) struct Site {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: String,
    bucket: String,
}

/// The result of a run that has ended.
pub(crate) struct FinishedRun {
    pub(crate) code: i32,
    pub(crate) stderr: String,
    pub(crate) report: Value,
}

/// The program, without the variables of these tests, which are not its options.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efs2s3"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EFS2S3_TEST_")) {
        command.env_remove(name);
    }
    command
}

impl Server {
    /// Returns the server's URL, or `None` if it does not run. With `CI=true` each server has to run.
    fn url(self) -> Option<String> {
        let name = match self {
            Self::Moto => "EFS2S3_TEST_MOTO",
            Self::Ceph => "EFS2S3_TEST_CEPH",
            Self::SeaweedFs => "EFS2S3_TEST_SEAWEEDFS",
        };
        let url = std::env::var(name).ok();
        assert!(
            url.is_some() || std::env::var_os("CI").is_none(),
            "{name} is not set: run `tests/tools install servers`, then these tests by tests/real_s3/servers"
        );
        if url.is_none() {
            eprintln!("skipped: {name} is not set; tests/real_s3/servers sets it if {self:?} is installed");
        }
        url
    }
}

impl Site {
    pub(crate) fn on(server: Server) -> Option<Self> {
        let url = server.url()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bucket = format!("site-{:012x}", fastrand::u64(..1 << 48));
        let client = runtime.block_on(async {
            let config = aws_config::defaults(aws_config::BehaviorVersion::latest()).endpoint_url(&url).load().await;
            let client = Client::from_conf(
                aws_sdk_s3::config::Builder::from(&config)
                    .force_path_style(true)
                    // moto responds with an invalid CRC64NVME.
                    .response_checksum_validation(aws_sdk_s3::config::ResponseChecksumValidation::WhenRequired)
                    .build(),
            );
            client.create_bucket().bucket(&bucket).send().await.unwrap();
            client
        });
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        Some(Self { folder, runtime, client, url, bucket })
    }

    /// Uses the name of a missing bucket.
    pub(crate) fn use_missing_bucket(&mut self) {
        "no-such-bucket".clone_into(&mut self.bucket);
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.tree().join(name)).unwrap();
    }

    /// Waits until no file counts as recently changed: a run waits for such files or compares their content.
    pub(crate) fn settle() {
        std::thread::sleep(Duration::from_millis(3200));
    }

    /// Another prefix of the bucket.
    pub(crate) fn beside_the_site(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket)
    }

    /// Puts an object, as another tool would.
    pub(crate) fn put(&self, key: &str, content: &'static [u8]) {
        #[expect(clippy::disallowed_methods, reason = "another writer")]
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from_static(content));
        self.runtime.block_on(put.send()).unwrap();
    }

    pub(crate) fn sync(&self, options: &[&str]) -> FinishedRun {
        self.sync_in("plain", options)
    }

    pub(crate) fn sync_in(&self, mode: &str, options: &[&str]) -> FinishedRun {
        let report = self.folder.path().join("report.json");
        let _ = fs::remove_file(&report);
        let output = program()
            .arg("sync")
            .arg(self.tree())
            .arg(format!("s3://{}/www", self.bucket))
            .args(["--mode", mode, "--endpoint-url", &self.url, "--report"])
            .arg(&report)
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let report = fs::read_to_string(report).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        FinishedRun { code: output.status.code().unwrap_or(-1), stderr, report }
    }

    /// `efs2s3 run` with these options.
    pub(crate) fn run(&self, options: &[&str]) -> FinishedRun {
        let mut command = program();
        command.args(["run", "--endpoint-url", &self.url, "--source"]).arg(self.tree()).args(options);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        FinishedRun { code: output.status.code().unwrap_or(-1), stderr, report: Value::Null }
    }

    /// The keys below `www/` and the sizes of their objects, from a listing.
    pub(crate) fn sizes(&self) -> BTreeMap<String, i64> {
        self.runtime.block_on(async {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix("www/");
            let mut pages = request.encoding_type(aws_sdk_s3::types::EncodingType::Url).into_paginator().send();
            let mut sizes = BTreeMap::new();
            while let Some(page) = pages.next().await {
                let page = page.unwrap();
                let encoded = page.encoding_type().is_some();
                for object in page.contents() {
                    let key = object.key().unwrap();
                    let key = if encoded { decode(key) } else { key.to_owned() };
                    sizes.insert(key.strip_prefix("www/").unwrap().to_owned(), object.size().unwrap());
                }
            }
            sizes
        })
    }

    /// Asserts that the bucket holds exactly the tree's files. If `read` is set, also compares their contents.
    #[track_caller]
    pub(crate) fn assert_same(&self, read: bool) {
        let mut files = BTreeMap::new();
        collect(&self.tree(), "", &mut files);
        let expected: BTreeMap<String, i64> = files
            .iter()
            .map(|(name, path)| (name.clone(), i64::try_from(fs::metadata(path).unwrap().len()).unwrap()))
            .collect();
        let found = self.sizes();
        let missing: Vec<_> = expected.keys().filter(|name| !found.contains_key(*name)).take(5).collect();
        let extra: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
        assert_eq!(expected, found);
        for (name, path) in files.iter().filter(|_| read) {
            let get = self.client.get_object().bucket(&self.bucket).key(format!("www/{name}"));
            let body = self.runtime.block_on(async { get.send().await.unwrap().body.collect().await.unwrap() });
            assert!(body.into_bytes() == fs::read(path).unwrap(), "{name} has different content");
        }
    }

    /// Asserts that the bucket holds what DataSync writes: each file, directory and link, with its metadata.
    #[track_caller]
    pub(crate) fn assert_as_datasync(&self) {
        let mut expected = BTreeMap::new();
        for entry in walkdir::WalkDir::new(self.tree()).min_depth(1) {
            let entry = entry.unwrap();
            let (path, meta) = (entry.path(), fs::symlink_metadata(entry.path()).unwrap());
            let name = path.strip_prefix(self.tree()).unwrap().to_str().unwrap().to_owned();
            let (name, body) = match meta.file_type() {
                kind if kind.is_dir() => (name + "/", Vec::new()),
                kind if kind.is_symlink() => (name, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()),
                _ => (name, fs::read(path).unwrap()),
            };
            let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            let metadata = [
                ("user-agent", "aws-datasync".to_owned()),
                ("file-owner", meta.uid().to_string()),
                ("file-group", meta.gid().to_string()),
                ("file-permissions", format!("{:07o}", meta.mode())),
                ("file-mtime", format!("{mtime}ns")),
            ];
            expected.insert(name, (body, metadata));
        }
        assert_eq!(self.sizes().into_keys().collect::<Vec<_>>(), expected.keys().cloned().collect::<Vec<_>>());
        for (name, (body, metadata)) in expected {
            let get = self.client.get_object().bucket(&self.bucket).key(format!("www/{name}"));
            let object = self.runtime.block_on(get.send()).unwrap();
            for (key, value) in metadata {
                let found = object.metadata().and_then(|found| found.get(key));
                assert_eq!(found, Some(&value), "{name} {key}");
            }
            let found = self.runtime.block_on(object.body.collect()).unwrap().into_bytes();
            assert!(found == body, "{name} has different content");
        }
    }

    /// Content-Type and storage class of an object.
    pub(crate) fn stored(&self, name: &str) -> (String, Option<String>) {
        let head = self.client.head_object().bucket(&self.bucket).key(format!("www/{name}"));
        let head = self.runtime.block_on(head.send()).unwrap();
        (head.content_type().unwrap().to_owned(), head.storage_class().map(|class| class.as_str().to_owned()))
    }

    /// The number of unfinished multipart uploads.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        let list = self.client.list_multipart_uploads().bucket(&self.bucket);
        self.runtime.block_on(list.send()).unwrap().uploads().len()
    }
}

impl FinishedRun {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.stderr);
        self
    }

    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.report["counts"][name].as_u64().unwrap()
    }

    pub(crate) fn sent(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.report["requests"][name].as_u64().unwrap()).sum()
    }
}

fn decode(key: &str) -> String {
    percent_encoding::percent_decode_str(&key.replace('+', " ")).decode_utf8().unwrap().into_owned()
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, entry.path());
        }
    }
}
