//! A pattern of a filter, and the patterns of a filter by how they are matched.

use std::collections::BTreeSet;
use std::ops::Bound;

/// What is wrong with a pattern, although DataSync accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error(
        "begins or ends with whitespace, or has a line break or another control character: remove it, or write \\ before \
         it if it belongs to the name"
    )]
    Whitespace,
    #[error(
        "matches nothing in the source: begin it with / (the source) or with *, and name no folder that is empty, . or .."
    )]
    MatchesNothing,
}

/// One pattern of a filter.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// The pattern as written.
    written: String,
    /// The text before, between and after the stars, without escapes: one piece more than there are stars.
    pieces: Vec<String>,
}

impl Pattern {
    pub(super) fn parse_all(filter: &str) -> Vec<Self> {
        let mut patterns = Vec::new();
        let mut current = Self::empty();
        let mut characters = filter.chars();
        while let Some(character) = characters.next() {
            match character {
                '|' => patterns.push(std::mem::replace(&mut current, Self::empty())),
                '*' => {
                    current.written.push('*');
                    current.pieces.push(String::new());
                }
                '\\' => {
                    current.written.push('\\');
                    if let Some(next) = characters.next() {
                        current.add(next);
                    }
                }
                other => current.add(other),
            }
        }
        patterns.push(current);
        patterns.retain(|pattern| !pattern.written.is_empty());
        for pattern in &mut patterns {
            pattern.drop_one_slash_at_the_end();
        }
        patterns
    }

    fn empty() -> Self {
        Self { written: String::new(), pieces: vec![String::new()] }
    }

    fn add(&mut self, character: char) {
        self.written.push(character);
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(character);
        }
    }

    fn drop_one_slash_at_the_end(&mut self) {
        if let Some(piece) = self.pieces.last_mut()
            && piece.ends_with('/')
        {
            piece.pop();
        }
    }

    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// Whether the pattern has a star that is not its last character.
    pub(super) fn has_inner_star(&self) -> bool {
        match self.pieces.as_slice() {
            [] | [_] => false,
            [_, last] => !last.is_empty() || !self.written.ends_with('*'),
            _ => true,
        }
    }

    pub(super) fn flaw(&self) -> Option<Flaw> {
        let text = self.without_escapes();
        let mut folders = text.strip_suffix('/').unwrap_or(&text).split('/').skip(1);
        if text != text.trim() || text.contains(char::is_control) {
            Some(Flaw::Whitespace)
        } else if self.matches_nothing() || folders.any(|folder| matches!(folder, "" | "." | "..")) {
            Some(Flaw::MatchesNothing)
        } else {
            None
        }
    }

    /// The pattern as written, with `_` for each escaped character: who escapes a character means it.
    fn without_escapes(&self) -> String {
        let mut text = String::with_capacity(self.written.len());
        let mut characters = self.written.chars();
        while let Some(character) = characters.next() {
            let is_escape = character == '\\';
            text.push(if is_escape { '_' } else { character });
            if is_escape {
                characters.next();
            }
        }
        text
    }

    /// Every path begins with `/`; the pattern `/` has an empty piece.
    fn matches_nothing(&self) -> bool {
        match self.pieces.as_slice() {
            [only] => !only.is_empty() && !only.starts_with('/') || only.is_empty() && !self.written.contains('/'),
            [first, ..] => !first.is_empty() && !first.starts_with('/'),
            [] => true,
        }
    }
}

/// The patterns of a filter, without their escapes and their order.
pub(super) fn all(filter: &str) -> BTreeSet<Vec<String>> {
    Pattern::parse_all(filter).into_iter().map(|pattern| pattern.pieces).collect()
}

/// The patterns of a filter, by how they are matched.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    /// Without a star: equal to the path, or to that of a folder above.
    whole: BTreeSet<String>,
    /// With one star, at the end: the beginning of a path. No beginning starts with another one.
    beginnings: BTreeSet<String>,
    /// The others, in pieces.
    pieces: Vec<Vec<String>>,
    /// Those with a flaw, as written.
    flawed: Vec<(String, Flaw)>,
}

impl Patterns {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        let mut all = Self::default();
        let mut beginnings = BTreeSet::new();
        for pattern in patterns {
            if let Some(flaw) = pattern.flaw() {
                all.flawed.push((pattern.written.clone(), flaw));
            }
            if pattern.matches_nothing() {
                continue;
            }
            match pattern.pieces.as_slice() {
                [whole] => {
                    all.whole.insert(whole.clone());
                }
                [beginning, end] if end.is_empty() => {
                    beginnings.insert(beginning.clone());
                }
                pieces => all.pieces.push(pieces.to_vec()),
            }
        }
        // In their order, a beginning comes directly before those that start with it.
        for beginning in beginnings {
            if !all.beginnings.last().is_some_and(|shorter| beginning.starts_with(shorter.as_str())) {
                all.beginnings.insert(beginning);
            }
        }
        all
    }

    pub(super) fn flawed(&self) -> impl Iterator<Item = (&str, Flaw)> {
        self.flawed.iter().map(|(pattern, flaw)| (pattern.as_str(), *flaw))
    }

    /// Whether a pattern matches `path` or a folder above it, including the root with its empty path.
    pub(super) fn match_path(&self, path: &str) -> bool {
        self.match_whole(path)
            || self.match_beginning(path)
            || self.pieces.iter().any(|pieces| match_pieces(pieces, path))
    }

    fn match_whole(&self, path: &str) -> bool {
        !self.whole.is_empty()
            && path
                .match_indices('/')
                .map(|(end, _)| end)
                .chain([path.len()])
                .filter_map(|end| path.get(..end))
                .any(|folder| self.whole.contains(folder))
    }

    fn match_beginning(&self, path: &str) -> bool {
        self.beginnings
            .range::<str, _>((Bound::Unbounded, Bound::Included(path)))
            .next_back()
            .is_some_and(|beginning| path.starts_with(beginning.as_str()))
    }

    /// Whether a pattern can match a path below the folder `path` without matching the folder itself. Only for patterns
    /// without a star before the end.
    pub(super) fn match_below(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        [&self.whole, &self.beginnings].into_iter().any(|patterns| {
            patterns
                .range::<str, _>((Bound::Included(folder.as_str()), Bound::Unbounded))
                .next()
                .is_some_and(|pattern| pattern.starts_with(&folder))
        })
    }
}

/// Whether the pieces, with any text between them, are `path` or a folder above it. Each piece is matched at its first
/// occurrence: no other one leaves more of the path for the later pieces, so no backtracking is needed.
fn match_pieces(pieces: &[String], path: &str) -> bool {
    let Some(((first, last), middle)) =
        pieces.split_first().and_then(|(first, rest)| rest.split_last().map(|(last, middle)| ((first, last), middle)))
    else {
        return false;
    };
    let Some(mut rest) = path.strip_prefix(first.as_str()) else {
        return false;
    };
    for piece in middle {
        let Some((_, after)) = rest.split_once(piece.as_str()) else {
            return false;
        };
        rest = after;
    }
    ends_at_a_folder(rest, last)
}

/// Whether `rest`, or a folder in it, ends with `last`.
fn ends_at_a_folder(rest: &str, last: &str) -> bool {
    if last.is_empty() || rest.ends_with(last) {
        return true;
    }
    rest.match_indices('/').filter_map(|(slash, _)| rest.get(..slash)).any(|folder| folder.ends_with(last))
}
