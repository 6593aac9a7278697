//! A result place: where a command writes a result. It is outside the source, which is published, and it is neither an
//! input nor the place of another result of the same command.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::boundary::{Boundary, resolved};
use crate::descriptor::Descriptor;
use crate::device::{Device, DeviceError};

/// The path of a result.
#[derive(Clone, Debug)]
pub(crate) struct ResultPlace {
    given: PathBuf,
    resolved: PathBuf,
    device: Option<Device>,
    /// Whether a regular file is there, or nothing.
    is_file: bool,
    /// Whether the regular file there has a second hard link, which may be in the source.
    has_other_link: bool,
}

/// What a command reads and writes: each new place is compared with these.
#[derive(Debug)]
pub(crate) struct ResultPlaces {
    source: Option<PathBuf>,
    boundary: OnceCell<Boundary>,
    taken: Vec<(&'static str, PathBuf)>,
}

/// Why a result cannot be written to a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("{option} {path} is inside the source, where it would be published: name a path outside the source")]
    InsideSource { option: &'static str, path: String },
    #[error("{option} {path} is also the file of {other}: name another file")]
    Taken { option: &'static str, path: String, other: &'static str },
    #[error(
        "{option} {path} is a file with more than one hard link, and writing to it would change it at its other paths too, \
         which may be in the source: name a file without another link"
    )]
    HasOtherLink { option: &'static str, path: String },
    #[error("{option} {path} is a URL, and this option takes only a local path: write a local file, and copy it")]
    IsUrl { option: &'static str, path: String },
    #[error("{option} {path} {error}")]
    NotAFile { option: &'static str, path: String, error: DeviceError },
}

impl ResultPlaces {
    /// The places of a command that reads this source.
    pub(crate) fn outside(source: &Path) -> Self {
        Self { source: Some(source.to_owned()), boundary: OnceCell::new(), taken: Vec::new() }
    }

    /// The places of a command without a source.
    pub(crate) const fn anywhere() -> Self {
        Self { source: None, boundary: OnceCell::new(), taken: Vec::new() }
    }

    /// Keeps results from this file, which the command reads.
    pub(crate) fn reads(&mut self, what: &'static str, path: &Path) {
        self.taken.push((what, resolved(path)));
    }

    /// Returns the place of a result that is appended to the file at `path`.
    ///
    /// # Errors
    /// As for [`Self::result`], and returns an error if the file has another hard link.
    pub(crate) fn appended(&mut self, option: &'static str, path: &Path) -> Result<ResultPlace, PlaceError> {
        let place = self.result(option, path)?;
        if place.has_other_link {
            return Err(PlaceError::HasOtherLink { option, path: path.display().to_string() });
        }
        Ok(place)
    }

    /// Returns the place at `path`; `-` is stdout. A result that appears as a whole replaces the file there by a rename,
    /// and leaves its other hard links as they are.
    ///
    /// # Errors
    /// Returns an error if the path leads into the source, or to a file of the command, and if it is a descriptor of a file
    /// with another hard link.
    pub(crate) fn result(&mut self, option: &'static str, path: &Path) -> Result<ResultPlace, PlaceError> {
        let shown = || path.display().to_string();
        if path.to_str().is_some_and(|text| text.starts_with("s3://")) {
            return Err(PlaceError::IsUrl { option, path: shown() });
        }
        let place = ResultPlace::of(path).map_err(|error| PlaceError::NotAFile { option, path: shown(), error })?;
        let boundary = self.source.as_ref().map(|source| self.boundary.get_or_init(|| Boundary::of(source)));
        if boundary.is_some_and(|source| source.contains(&place.resolved)) {
            return Err(PlaceError::InsideSource { option, path: shown() });
        }
        if place.has_other_link && (place.is_stdout() || place.device.is_some()) {
            return Err(PlaceError::HasOtherLink { option, path: shown() });
        }
        if place.is_stdout() || !place.is_file {
            return Ok(place);
        }
        if let Some((other, _)) = self.taken.iter().find(|(_, taken)| is_same_file(taken, &place.resolved)) {
            return Err(PlaceError::Taken { option, path: shown(), other });
        }
        self.taken.push((option, place.resolved.clone()));
        Ok(place)
    }
}

impl ResultPlace {
    fn of(path: &Path) -> Result<Self, DeviceError> {
        let is_stdout = path == Path::new("-");
        let resolved = resolved(if is_stdout { Path::new("/proc/self/fd/1") } else { path });
        let kind = path.metadata().ok().filter(|_| !is_stdout).map(|there| there.file_type());
        let is_file = kind.is_none_or(|kind| kind.is_file());
        let device = match (kind, Descriptor::of(path)) {
            (Some(kind), _) if !is_file => Some(Device::open(path, kind)?),
            (Some(_), Some(descriptor)) => Some(Device::behind(descriptor)?),
            (_, _) => None,
        };
        let has_other_link = has_other_link(if is_stdout { Path::new("/proc/self/fd/1") } else { path });
        Ok(Self { given: path.to_owned(), resolved, device, is_file, has_other_link })
    }

    /// Any place, for a test.
    #[cfg(test)]
    pub(crate) fn anywhere(path: &Path) -> Self {
        Self::of(path).unwrap()
    }

    /// The path as given, for messages.
    pub(crate) fn given(&self) -> &Path {
        &self.given
    }

    /// Whether the place is stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        self.given == Path::new("-")
    }

    /// The open pipe, terminal, descriptor or other device, if one was there.
    pub(crate) const fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// The path of the file, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.resolved
    }
}

/// Whether a regular file is there that has a second hard link.
fn has_other_link(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|stat| stat.is_file() && stat.nlink() > 1)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|stat| (stat.dev(), stat.ino()));
    one == other || identity(one).is_some() && identity(one) == identity(other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_result_is_refused_inside_the_source_and_on_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("tree")).unwrap();
        fs::write(at("plan"), "x").unwrap();
        symlink("plan", at("link")).unwrap();
        fs::hard_link(at("plan"), at("hard")).unwrap();
        let mut places = ResultPlaces::outside(&at("tree"));
        places.reads("the plan", &at("plan"));
        assert!(matches!(places.result("--report", &at("tree/r")), Err(PlaceError::InsideSource { .. })));
        for name in ["plan", "link", "hard", "tree/../plan"] {
            assert!(matches!(places.result("--report", &at(name)), Err(PlaceError::Taken { .. })), "{name}");
        }
        places.result("--report", &at("r")).unwrap();
        let error = places.result("--changes", &at("r")).unwrap_err().to_string();
        assert!(error.contains("--changes") && error.contains("--report"), "{error}");
        assert!(matches!(places.result("--changes", folder.path()), Err(PlaceError::NotAFile { .. })));
        for _ in 0..2 {
            places.result("--changes", Path::new("/dev/null")).unwrap();
            places.result("--report", Path::new("-")).unwrap();
        }
    }
}
