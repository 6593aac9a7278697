//! The filter of a run: patterns of the user guide, matched by a plain recursion. It shares no code with the program.

/// An include and an exclude filter, as the options are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) include: Option<String>,
    pub(super) exclude: Option<String>,
}

impl Filter {
    /// Whether the filter lets this key take part. A `/` at its end makes no difference.
    pub(super) fn admits(&self, key: &str) -> bool {
        !self.excludes(key) && self.include.as_deref().is_none_or(|include| names_path(include, key))
    }

    /// Whether the directory `key` or anything below it can take part.
    pub(super) fn may_admit_below(&self, key: &str) -> bool {
        let below = format!("/{}/", key.trim_end_matches('/'));
        let leads_below = |include: &str| {
            include.split('|').any(|pattern| {
                let literal = pattern.split('*').next().unwrap();
                literal.starts_with(&below) || pattern.contains('*') && below.starts_with(literal)
            })
        };
        !self.excludes(key)
            && self.include.as_deref().is_none_or(|include| names_path(include, key) || leads_below(include))
    }

    fn excludes(&self, key: &str) -> bool {
        self.exclude.as_deref().is_some_and(|exclude| names_path(exclude, key))
    }
}

/// Escapes the characters of a name that have a meaning in a pattern, or that only an escape allows there.
pub(super) fn escaped(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '\\' | '*' | '|') || character.is_whitespace() || character.is_control() {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Whether one of the patterns matches the path of the key, or that of a folder above it.
fn names_path(patterns: &str, key: &str) -> bool {
    let path = format!("/{}", key.trim_end_matches('/'));
    let folders = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
    let mut parts = folders.chain([path.as_str()]);
    parts.any(|part| patterns.split('|').any(|pattern| is_match(pattern.as_bytes(), part.as_bytes())))
}

fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], rest) => rest.is_empty(),
        ([b'*', pattern @ ..], _) => (0..=text.len()).any(|skip| is_match(pattern, &text[skip..])),
        ([b'\\', literal, pattern @ ..] | [literal, pattern @ ..], [first, text @ ..]) => {
            literal == first && is_match(pattern, text)
        }
        (_, []) => false,
    }
}
