//! Syncs to S3 servers of other projects: moto, Ceph's RADOS Gateway and SeaweedFS.
//!
//! After `tests/tools install servers`, `tests/real_s3/servers cargo nextest run --test real_s3` starts them and runs these tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod datasync;
#[path = "../support/name_lists.rs"]
mod name_lists;
mod site;

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use name_lists::{AWKWARD, ORDER};
use site::{Server, Site};

const WRITES: [&str; 7] =
    ["put", "copy", "create_multipart_upload", "upload_part", "complete_multipart_upload", "delete", "delete_objects"];
const READS: [&str; 4] = ["head", "get", "get_object_attributes", "get_object_tagging"];

fn everyday_flow(site: &Site) {
    for number in 0..40 {
        site.write(&format!("d{}/f{number:02}.txt", number % 4), number.to_string());
    }
    site.write("empty", "");
    let large: Vec<u8> =
        (0..12_000_000u32).map(|number| number.to_le_bytes()[usize::try_from(number % 3).unwrap()]).collect();
    site.write("large.bin", &large);
    symlink("large.bin", site.tree().join("link.bin")).unwrap();
    site.put("www/orphan", b"an orphan");
    site.put("www2/neighbour", b"a neighbour");

    let options = ["--delete", "--part-size", "5MiB", "--multipart-threshold", "6MiB"];
    let first = site.sync(&options).expect(0);
    assert_eq!((first.counted("uploaded"), first.counted("deleted")), (43, 1));
    assert!(first.sent(&["upload_part"]) >= 6, "two large files in parts");
    std::fs::remove_file(site.tree().join("link.bin")).unwrap();
    std::fs::write(site.tree().join("link.bin"), &large).unwrap();
    site.assert_same(true);
    assert_eq!(site.unfinished_uploads(), 0);

    Site::settle();
    let compared = site.sync(&options).expect(0);
    assert_eq!(
        compared.sent(&WRITES),
        0,
        "the file that replaced the link has equal content, although its object has parts"
    );

    site.write("d0/f00.txt", "changed");
    site.write("d1/f01.txt", "9");
    site.remove("d2/f02.txt");
    let second = site.sync(&options).expect(0);
    assert_eq!((second.counted("uploaded"), second.counted("deleted")), (2, 1));
    site.assert_same(true);

    Site::settle();
    let quiet = site.sync(&["--delete", "--exclude", "/link.bin"]).expect(0);
    assert_eq!(quiet.sent(&WRITES) + quiet.sent(&READS), 0, "nothing changed");
    assert_eq!(quiet.sent(&["list"]), 1);
}

/// A state in the bucket: the lease, the index, and an object that another writer replaced.
fn with_state(site: &Site) {
    for number in 0..20 {
        site.write(&format!("kept/f{number:02}.txt"), number.to_string());
    }
    Site::settle();
    let state = site.beside_the_site("state");
    let options = ["--delete", "--state", &state];
    site.sync(&options).expect(0);
    std::fs::rename(site.tree().join("kept"), site.tree().join("aside")).unwrap();
    std::fs::rename(site.tree().join("aside"), site.tree().join("kept")).unwrap();
    let quiet = site.sync(&options).expect(0);
    assert_eq!((quiet.sent(&["head"]), quiet.report["bytes"]["read_for_compare"].as_u64()), (0, Some(0)));
    site.put("www/kept/f00.txt", b"9");
    let repaired = site.sync(&options).expect(0);
    assert_eq!(repaired.counted("uploaded"), 1);
    site.assert_same(true);
}

fn awkward_names(site: &Site, without: &str) {
    for name in ORDER.into_iter().chain(AWKWARD).filter(|name| *name != without) {
        site.write(name, name);
    }
    site.sync(&["--delete"]).expect(0);
    site.assert_same(true);
    Site::settle();
    let quiet = site.sync(&["--delete"]).expect(0);
    assert_eq!(quiet.sent(&WRITES) + quiet.sent(&READS), 0, "the listing returns the same names");
    for name in ["a b", "a%2Bb", "tab\there", "😀", "a!"] {
        site.remove(name);
    }
    let run = site.sync(&["--delete"]).expect(0);
    assert_eq!(run.counted("deleted"), 5);
    site.assert_same(false);
}

/// 1,500 objects are two pages; each page boundary has an orphan next to it.
fn pages_and_orphans(site: &Site) {
    for number in 0..1500 {
        site.write(&format!("f{number:05}"), "x");
    }
    site.sync(&["--delete"]).expect(0);
    for number in [0, 998, 999, 1000, 1001, 1499] {
        site.remove(&format!("f{number:05}"));
    }
    Site::settle();
    let run = site.sync(&["--delete"]).expect(0);
    assert_eq!((run.counted("deleted"), run.counted("uploaded")), (6, 0));
    site.assert_same(false);
}

/// The mode `datasync`: directories, links and metadata, and metadata rewrites by copy.
fn datasync_mode(site: &Site) {
    for name in ["index.html", "a b/c+d.txt", "a%2Bb", "ü/é.png", "d/e/f"] {
        site.write(name, name);
    }
    site.write("empty", "");
    site.write("large.bin", vec![7; 6 << 20]);
    std::fs::create_dir_all(site.tree().join("nothing/in/here")).unwrap();
    symlink("../index.html", site.tree().join("d/link")).unwrap();
    chown(site.tree().join("d/e"), Some(33), Some(44)).unwrap();
    chmod(site, "a%2Bb", 0o4711);
    let options = ["--delete", "--max-delete", "100%", "--part-size", "5MiB", "--multipart-threshold", "5MiB"];
    let first = site.sync_in("datasync", &options).expect(0);
    assert_eq!(first.counted("uploaded"), 7 + 1 + 7);
    site.assert_as_datasync();

    Site::settle();
    let quiet = site.sync_in("datasync", &options).expect(0);
    assert_eq!(quiet.sent(&WRITES) + quiet.sent(&READS), 0, "nothing changed");
    assert_eq!(quiet.sent(&["list"]), 1);

    chmod(site, "index.html", 0o600);
    chmod(site, "large.bin", 0o600);
    chmod(site, "nothing/in/here", 0o750);
    std::fs::File::open(site.tree().join("empty")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    site.write("d/e/f", "other");
    std::fs::remove_dir_all(site.tree().join("ü")).unwrap();
    let third = site.sync_in("datasync", &options).expect(0);
    assert_eq!((third.counted("metadata_rewritten"), third.counted("uploaded"), third.counted("deleted")), (4, 1, 2));
    assert_eq!((third.sent(&["copy"]), third.sent(&["put"])), (4, 1));
    site.assert_as_datasync();
    assert_eq!(site.stored("index.html").0, "text/html");

    Site::settle();
    let quiet = site.sync_in("datasync", &options).expect(0);
    assert_eq!(quiet.sent(&WRITES) + quiet.sent(&READS), 0, "nothing changed since");
    let checked = site.sync_in("datasync", &["--compare", "checksum"]).expect(0);
    assert_eq!(checked.sent(&WRITES), 0, "the ETag of a copy in parts shows that the content is equal");
}

fn chmod(site: &Site, name: &str, mode: u32) {
    std::fs::set_permissions(site.tree().join(name), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn moto_stores_what_datasync_would_write() {
    let Some(site) = Site::on(Server::Moto) else { return };
    datasync_mode(&site);
}

#[test]
fn ceph_stores_what_datasync_would_write() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    datasync_mode(&site);
}

#[test]
fn moto_keeps_the_state() {
    let Some(site) = Site::on(Server::Moto) else { return };
    with_state(&site);
}

#[test]
fn ceph_keeps_the_state() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    with_state(&site);
}

#[test]
fn moto_syncs_edits_and_orphans() {
    let Some(site) = Site::on(Server::Moto) else { return };
    everyday_flow(&site);
}

#[test]
fn ceph_syncs_edits_and_orphans() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    everyday_flow(&site);
}

/// moto has no route for a key with a newline: 404.
#[test]
fn moto_keeps_awkward_names() {
    let Some(site) = Site::on(Server::Moto) else { return };
    awkward_names(&site, "new\nline");
}

#[test]
fn ceph_keeps_awkward_names() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    awkward_names(&site, "");
}

#[test]
fn moto_lists_in_pages() {
    let Some(site) = Site::on(Server::Moto) else { return };
    pages_and_orphans(&site);
}

#[test]
fn ceph_lists_in_pages() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    pages_and_orphans(&site);
}

/// `SeaweedFS` lists `a/x` before `a!` and `a-b/x`.
#[test]
fn seaweedfs_listing_is_refused_for_its_order() {
    let Some(site) = Site::on(Server::SeaweedFs) else {
        return;
    };
    for name in ["a!", "a-b/x", "a/x", "z"] {
        site.write(name, name);
    }
    let first = site.sync(&[]).expect(0);
    assert_eq!(first.counted("uploaded"), 4, "an empty listing is in order");
    site.remove("z");
    let run = site.sync(&["--delete", "--max-delete", "100%"]).expect(1);
    assert!(run.stderr.contains("byte order"), "{}", run.stderr);
    assert_eq!(run.counted("deleted"), 0);
    assert_eq!(site.sizes().len(), 4);
}

#[test]
fn missing_bucket_is_named() {
    for server in [Server::Moto, Server::Ceph, Server::SeaweedFs] {
        let Some(mut site) = Site::on(server) else { return };
        site.use_missing_bucket();
        site.write("a", "1");
        let run = site.sync(&["--delete"]).expect(1);
        assert!(run.stderr.contains("no-such-bucket"), "{server:?}: {}", run.stderr);
    }
}

/// 20,000 small files, and one directory with 100,000 entries.
#[test]
fn ceph_takes_a_hundred_and_twenty_thousand_files() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    for number in 0..20_000 {
        site.write(&format!("tree/{:02}/{:02}/f{number:05}", number % 50, number / 50 % 20), number.to_string());
    }
    for number in 0..100_000 {
        site.write(&format!("flat/f{number:06}"), "x");
    }
    let first = site.sync(&["--delete"]).expect(0);
    assert_eq!(first.counted("uploaded"), 120_000);
    site.assert_same(false);
    Site::settle();
    let quiet = site.sync(&["--delete"]).expect(0);
    assert_eq!(quiet.sent(&WRITES) + quiet.sent(&READS), 0);
    assert!((120..=138).contains(&quiet.sent(&["list"])), "{} LISTs for 120 pages", quiet.sent(&["list"]));
}

#[test]
fn ceph_takes_a_file_of_one_gibibyte() {
    let Some(site) = Site::on(Server::Ceph) else { return };
    let mut file = File::create(site.tree().join("large")).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..1024 {
        random.fill(&mut piece);
        file.write_all(&piece).unwrap();
    }
    let first = site.sync(&["--delete", "--memory", "64MiB"]).expect(0);
    assert_eq!(first.sent(&["upload_part"]), 128);
    assert_eq!(site.sizes()["large"], 1 << 30);
    let peak = first.report["peak_memory_bytes"].as_u64().unwrap();
    assert!(peak < 200 << 20, "{peak} bytes of memory for a budget of 64 MiB");
    Site::settle();
    let checked = site.sync(&["--delete", "--compare", "checksum"]).expect(0);
    assert_eq!(checked.sent(&WRITES), 0, "the ETag of the parts shows that the content is equal");
    assert_eq!(checked.report["bytes"]["read_for_compare"], 1 << 30);
}
