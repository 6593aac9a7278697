//! The demo's tree: the assets of a website, with awkward names and links.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const SECTIONS: [&str; 8] = ["home", "news", "news-archive", "news.old", "products", "a b", "über uns", "100%"];
const PAGES: usize = 60;
const IMAGES: usize = 150;
const DOCUMENTS: usize = 40;
const VIDEO_BYTES: usize = 40 << 20;
const AWKWARD: [&str; 9] = [
    "a+b.txt",
    "a%2Bb.txt",
    "a b.txt",
    "q?x=1&y#z.txt",
    "'quoted\".txt",
    "tab\there.txt",
    "back\\slash",
    "😀.png",
    ".htaccess",
];

/// The number of folders in the tree.
pub(super) const FOLDERS: usize = SECTIONS.len() * 3 + 2;

/// A tree in a folder.
#[derive(Debug)]
pub(super) struct AssetTree {
    root: PathBuf,
    random: fastrand::Rng,
}

/// The expected counts of a sync after a day of edits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    pub(super) uploads: i64,
    pub(super) deletes: i64,
}

impl AssetTree {
    /// Writes the tree. Its content is the same each time.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        let mut tree = Self { root: root.to_owned(), random: fastrand::Rng::with_seed(7) };
        for section in SECTIONS {
            for number in 0..PAGES {
                tree.write(&format!("{section}/page-{number:03}.html"), b"<!doctype html>", 2_000)?;
            }
            for number in 0..IMAGES {
                let (suffix, magic) = if number % 3 == 0 {
                    ("png", b"\x89PNG\r\n\x1a\n".as_slice())
                } else {
                    ("jpg", b"\xff\xd8\xff".as_slice())
                };
                tree.write(&format!("{section}/images/{number:03}.{suffix}"), magic, 8_000)?;
            }
            for number in 0..DOCUMENTS {
                tree.write(&format!("{section}/documents/{number:03}.pdf"), b"%PDF-1.7", 20_000)?;
            }
        }
        for name in AWKWARD {
            tree.write(&format!("awkward/{name}"), b"", 100)?;
        }
        tree.write("empty", b"", 0)?;
        tree.write("video/film.mp4", b"\0\0\0\x20ftypisom", VIDEO_BYTES)?;
        symlink("home/page-000.html", root.join("index.html"))?;
        symlink("news", root.join("latest"))?;
        fs::hard_link(root.join("home/page-001.html"), root.join("welcome.html"))?;
        Ok(tree)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The number of files in the tree for a sync that follows links.
    pub(super) fn files(&self) -> i64 {
        self.contents().map_or(0, |contents| i64::try_from(contents.len()).unwrap_or(i64::MAX))
    }

    /// The content of each file by path. Follows links.
    pub(super) fn contents(&self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut contents = BTreeMap::new();
        collect(&self.root, "", &mut contents)?;
        Ok(contents)
    }

    /// Changes pages, restores one with its old date, touches one, renames a folder and deletes images.
    pub(super) fn edit(&mut self) -> io::Result<Day> {
        for number in 0..3 {
            self.write(&format!("products/page-{number:03}.html"), b"<!doctype html><h1>New</h1>", 2_000)?;
        }
        // The same size and an older date with other content, like a restore or `cp -p`.
        let restored = self.root.join("products/page-010.html");
        let (content, modified) = (fs::read(&restored)?, fs::metadata(&restored)?.modified()?);
        fs::write(&restored, content.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>())?;
        File::options().write(true).open(&restored)?.set_modified(modified - Duration::from_hours(24))?;
        File::options().write(true).open(self.root.join("home/page-002.html"))?.set_modified(SystemTime::now())?;
        fs::rename(self.root.join("news.old/documents"), self.root.join("news.old/papers"))?;
        for number in 0..5 {
            fs::remove_file(
                self.root.join(format!("home/images/{number:03}.{}", if number % 3 == 0 { "png" } else { "jpg" })),
            )?;
        }
        let renamed = i64::try_from(DOCUMENTS).unwrap_or(i64::MAX);
        Ok(Day { uploads: 3 + 1 + renamed, deletes: 5 + renamed })
    }

    /// Deletes a file.
    pub(super) fn delete(&mut self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    /// Changes the modes of one section's pages and the dates of another's.
    pub(super) fn touch_all(&mut self) -> io::Result<()> {
        for number in 0..PAGES {
            let page = self.root.join(format!("home/page-{number:03}.html"));
            fs::set_permissions(&page, fs::Permissions::from_mode(0o640))?;
            let page = self.root.join(format!("news/page-{number:03}.html"));
            File::options().write(true).open(page)?.set_modified(SystemTime::now())?;
        }
        Ok(())
    }

    /// Moves the image folders out of the tree, and returns the number of their files.
    pub(super) fn lose_images(&mut self) -> io::Result<i64> {
        let before = self.files();
        let elsewhere = self.root.with_extension("elsewhere");
        fs::create_dir(&elsewhere)?;
        for section in SECTIONS {
            fs::rename(self.root.join(section).join("images"), elsewhere.join(section))?;
        }
        Ok(before - self.files())
    }

    /// Replaces the tree by an empty folder.
    pub(super) fn unmount(&mut self) -> io::Result<()> {
        fs::rename(&self.root, self.root.with_extension("unmounted"))?;
        fs::create_dir(&self.root)
    }

    fn write(&mut self, path: &str, begin: &[u8], bytes: usize) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut content = vec![0; bytes];
        self.random.fill(&mut content);
        content.iter_mut().zip(begin).for_each(|(byte, first)| *byte = *first);
        fs::write(path, content)
    }
}

fn collect(folder: &Path, prefix: &str, contents: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), contents)?;
        } else {
            contents.insert(name, fs::read(&path)?);
        }
    }
    Ok(())
}
