//! The store: the buckets, their objects and the unfinished uploads.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use super::checksum::{self, Digests, hex};
use super::clock;
use super::multipart::Upload;
use super::object::{ENCRYPTION, Object, multipart_etag};
use super::refusal::Refusal;
use super::seed::Seed;
use super::settings::Settings;

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// The objects in S3's order, the order of their keys' UTF-8 bytes.
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) versioned: bool,
    pub(super) delete_markers: u64,
}

impl Bucket {
    /// Deletes a key. In a versioned bucket this adds a delete marker, even if the key does not exist.
    pub(super) fn delete(&mut self, key: &str) {
        self.objects.remove(key);
        if self.versioned {
            self.delete_markers += 1;
        }
    }
}

/// The contents and settings of a server.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) settings: Settings,
    pub(super) buckets: BTreeMap<String, Bucket>,
    /// The unfinished uploads by upload ID.
    pub(super) uploads: BTreeMap<String, Upload>,
    counter: u64,
}

impl Store {
    pub(super) fn now(&self) -> SystemTime {
        clock::now(self.settings.clock_offset_seconds)
    }

    pub(super) fn bucket(&self, name: &str) -> Result<&Bucket, Refusal> {
        self.buckets.get(name).ok_or_else(no_such_bucket)
    }

    pub(super) fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(name).ok_or_else(no_such_bucket)
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<&Object> {
        self.buckets.get(bucket)?.objects.get(key)
    }

    /// Returns a number that is unique in this store.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Adds the encryption of a bucket to the headers of a new object.
    pub(super) fn encrypted(&self, mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.settings.kms {
            headers.insert(ENCRYPTION.to_owned(), "aws:kms".to_owned());
        }
        headers
    }

    /// Returns `etag`, or an `ETag` that is not an MD5 if the object is encrypted with a KMS key.
    pub(super) fn etag(&mut self, headers: &BTreeMap<String, String>, etag: String) -> String {
        if !headers.get(ENCRYPTION).is_some_and(|kind| kind.starts_with("aws:kms")) {
            return etag;
        }
        let opaque = hex(&checksum::md5(format!("kms {}", self.next()).as_bytes()));
        match etag.rsplit_once('-') {
            Some((_, count)) => format!("{opaque}-{count}"),
            None => opaque,
        }
    }

    /// Returns the object for a body that was written in one request.
    pub(super) fn single(&mut self, body: Bytes, headers: BTreeMap<String, String>, digests: &Digests) -> Object {
        let headers = self.encrypted(headers);
        let etag = self.etag(&headers, hex(&digests.md5));
        let checksums = if self.settings.checksums { digests.headers() } else { BTreeMap::new() };
        Object { body, etag, modified: self.now(), headers, part_sizes_bytes: Vec::new(), checksums }
    }

    /// Returns the object that another writer wrote. It has no checksum.
    pub(super) fn seeded(&mut self, body: Bytes, seed: Seed) -> Object {
        let headers = self.encrypted(seed.headers);
        let now = self.now();
        let modified = now.checked_sub(seed.age).unwrap_or(now);
        let (plain, part_sizes_bytes) = match seed.part_size_bytes {
            None => (hex(&checksum::md5(&body)), Vec::new()),
            Some(size) => {
                let parts: Vec<&[u8]> = body.chunks(size.max(1)).collect();
                let digests: Vec<[u8; 16]> = parts.iter().map(|part| checksum::md5(part)).collect();
                let sizes = parts.iter().filter_map(|part| u64::try_from(part.len()).ok());
                (multipart_etag(&digests), sizes.collect())
            }
        };
        let etag = self.etag(&headers, plain);
        Object { body, etag, modified, headers, part_sizes_bytes, checksums: BTreeMap::new() }
    }
}

fn no_such_bucket() -> Refusal {
    Refusal::new(404, "NoSuchBucket", "The specified bucket does not exist")
}
