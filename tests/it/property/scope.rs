//! The scope of a run: the keys that it may touch, and what it may do about them.

use std::collections::BTreeSet;

use super::filter::Filter;
use super::story::Rules;
use super::view::{Kind, Mode, View, is_at_or_below, is_reserved};

/// The destination of the inner source, relative to the outer one.
pub(super) const INNER: &str = "inner/";

#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) mode: Mode,
    pub(super) rules: Rules,
    pub(super) filter: Filter,
    /// The key range: after the first key, up to and including the second.
    pub(super) keys: (Option<String>, Option<String>),
    /// The keys that a manifest names.
    pub(super) named: Option<BTreeSet<String>>,
    /// The mount points that the state remembers: mounts that an earlier run saw, and followed links into mounts.
    pub(super) remembered_mounts: BTreeSet<String>,
    /// The followed links that an earlier run saw.
    pub(super) seen_links: BTreeSet<String>,
}

/// The names and sizes of the objects when a run started.
pub(super) type Sizes = std::collections::BTreeMap<String, u64>;

impl Scope {
    /// Whether the run may touch the object of this key.
    pub(super) fn covers(&self, key: &str) -> bool {
        self.filter.admits(key) && self.is_in_keys(key) && !self.is_foreign(key)
    }

    fn is_in_keys(&self, key: &str) -> bool {
        let (after, to) = &self.keys;
        after.as_deref().is_none_or(|after| key > after)
            && to.as_deref().is_none_or(|to| key <= to)
            && self.named.as_ref().is_none_or(|named| named.contains(key))
    }

    /// Whether the key belongs to DataSync itself, or to the inner destination.
    fn is_foreign(&self, key: &str) -> bool {
        self.mode == Mode::DataSync && is_reserved(key) || key.starts_with(INNER)
    }

    const fn is_part(&self) -> bool {
        self.keys.0.is_some() || self.keys.1.is_some() || self.named.is_some()
    }

    /// Returns why the run must keep an object without an entry at this moment, if it must.
    pub(super) fn why_kept(&self, key: &str, view: &View, before: &Sizes) -> Option<&'static str> {
        let is_unknown = |tops: &BTreeSet<String>| tops.iter().any(|top| is_at_or_below(key, top));
        // A directory in place of a file counts as gone, whatever it holds.
        let is_below = |tops: &BTreeSet<String>| tops.iter().any(|top| is_at_or_below(key, top) && key != top);
        let missing = self.missing_mounts(view);
        let whole = |unread: &String| !self.is_part() && self.filter.may_admit_below(unread);
        let checks = [
            (!self.rules.delete || self.named.is_some(), "the run does not delete"),
            (!self.covers(key), "it is out of scope"),
            (view.entries.contains_key(key), "its file exists"),
            (self.is_marker(key, view), "its directory exists"),
            (is_unknown(&view.broken), "it lies at or below a link that is broken or loops"),
            (is_below(&view.unread), "it lies below a directory that cannot be read"),
            (!self.rules.ignore_errors && view.unread.iter().any(whole), "a directory cannot be read"),
            (is_below(&missing), "it lies below a mount that is missing"),
            (self.is_empty(view) && !self.rules.allow_empty, "the source is empty"),
            (self.may_be_renamed(key, view, before), "its file may have a name that cannot be published"),
        ];
        checks.into_iter().find_map(|(applies, why)| applies.then_some(why))
    }

    /// The remembered mounts that are missing at this moment for certain. A link may lead into fewer mounts than before.
    pub(super) fn missing_mounts(&self, view: &View) -> BTreeSet<String> {
        let mut missing: BTreeSet<String> = BTreeSet::new();
        for key in self.maybe_missing(view).filter(|key| !view.links.contains(*key)) {
            let is_hidden = missing.iter().any(|top| is_at_or_below(key, top));
            if is_hidden || !self.is_removed_link(key, view) {
                missing.insert(key.clone());
            }
        }
        missing
    }

    /// Whether a link led to this mount that was removed from a directory that can be read, with nothing in its place.
    pub(super) fn is_removed_link(&self, key: &str, view: &View) -> bool {
        let is_gone = |link: &String| is_at_or_below(key, link) && view.proves_absent(link);
        self.mode == Mode::Plain && self.seen_links.iter().any(is_gone)
    }

    /// Whether a run whose deletes no guard withheld may forget this mount.
    pub(super) fn may_forget(&self, key: &str, moments: &[View]) -> bool {
        let is_whole = self.is_in_keys(key) && self.is_in_keys(&format!("{key}/{}", char::MAX));
        let is_removed = || moments.iter().any(|view| self.is_removed_link(key, view));
        let is_admitted = self.filter.include.is_none() && self.filter.exclude.is_none();
        let is_accepted = || self.rules.allow_missing_mounts || is_admitted && is_removed();
        self.named.is_none() && is_whole && self.rules.delete && is_accepted()
    }

    pub(super) fn maybe_missing(&self, view: &View) -> impl Iterator<Item = &String> {
        let remembered = self.remembered_mounts.iter().filter(|_| !self.rules.allow_missing_mounts);
        remembered.filter(|key| !view.mounts.contains(*key))
    }

    /// In plain mode, the object that a console makes for a directory.
    pub(super) fn is_marker(&self, key: &str, view: &View) -> bool {
        self.mode == Mode::Plain && key.strip_suffix('/').is_some_and(|key| view.directories.contains(key))
    }

    /// Whether nothing in the whole source takes part. A link that is not followed may count or not.
    pub(super) fn is_empty(&self, view: &View) -> bool {
        let is_content = |name: &str| !name.ends_with(".snapshot") && name != "lost+found";
        let is_part = |key: &str| self.filter.admits(key) && key.split('/').all(is_content);
        let has_entry = view.entries.iter().any(|(key, entry)| entry.kind != Kind::Directory && is_part(key));
        !has_entry && view.unpublishable.is_empty()
    }

    /// Whether a file of the object's size, under a new name, cannot be published.
    fn may_be_renamed(&self, key: &str, view: &View, before: &Sizes) -> bool {
        // A directory is not a renamed file.
        let size = before.get(key).filter(|_| !key.ends_with('/'));
        let hidden = view.unpublishable.iter().any(|file| {
            let in_scope = match &file.key {
                Some(key) => self.covers(key) && !before.contains_key(key),
                None => !self.is_part() && self.filter.include.is_none() && self.filter.admits(&file.parent),
            };
            in_scope && size == Some(&file.size)
        });
        let young = view.entries.iter().any(|(key, entry)| {
            let is_new = entry.kind == Kind::File && self.covers(key) && !before.contains_key(key);
            is_new && size == Some(&entry.size)
        });
        let missing = self.missing_mounts(view);
        let bare = view.entries.iter().any(|(key, entry)| {
            let is_new = entry.kind != Kind::Directory && self.covers(key) && !before.contains_key(key);
            is_new && size == Some(&entry.size) && missing.iter().any(|mount| is_at_or_below(key, mount))
        });
        hidden || bare || self.rules.min_age && young
    }
}
