//! Lists of names that programs and S3 servers get wrong.

/// Where byte order, locales and UTF-16 differ, and directories beside files with similar names.
pub(crate) const ORDER: [&str; 16] = [
    "A",
    "a!",
    "a-1",
    "a-b/x",
    "a.txt",
    "a/-",
    "a/.h",
    "a/x",
    "a0",
    "aB",
    "aa",
    "~",
    "é",
    "\u{e000}",
    "\u{10000}",
    "😀",
];

/// Characters with a meaning in encodings, shells, XML and URLs.
pub(crate) const AWKWARD: [&str; 17] = [
    "a b",
    "a+b",
    "a%2Bb",
    "a%20b",
    "a&b",
    "a=b",
    "a?b",
    "a#b",
    "'",
    "\"",
    "back\\slash",
    "*",
    "[x]",
    " lead",
    "trail ",
    "new\nline",
    "tab\there",
];
