use proptest::prelude::*;

use super::*;

fn excluding(pattern: &str) -> Filter {
    Filter::new(None, Some(pattern)).unwrap()
}

fn including(pattern: &str) -> Filter {
    Filter::new(Some(pattern), None).unwrap()
}

/// The keys of `keys` that the filter admits.
fn admitted<'a>(filter: &Filter, keys: &[&'a str]) -> Vec<&'a str> {
    keys.iter().copied().filter(|key| filter.admits(key)).collect()
}

#[test]
fn without_patterns_all_is_admitted() {
    let filter = Filter::new(None, None).unwrap();
    assert!(filter.admits("a/b") && filter.admits("") && !filter.excludes_directory("a/"));
}

#[test]
fn the_examples_of_the_aws_page_hold() {
    let keys = ["temp/x", "a/temp/x", "a/temporary", "tmp", "a/b/tmp/c/d", "stamp"];
    assert_eq!(admitted(&excluding("*/temp|*/tmp"), &keys), ["a/temporary", "stamp"]);

    let keys = ["reports", "reports-2024/a", "reports/2024", "my/reports", "Reports"];
    assert_eq!(admitted(&including("/reports*"), &keys), ["reports", "reports-2024/a", "reports/2024"]);

    let keys = ["a.tmp", "b/c.temp", "d.tmpx", "x.tmp/file", "TMP"];
    assert_eq!(admitted(&excluding("*.tmp|*.temp"), &keys), ["d.tmpx", "TMP"]);

    let keys = ["folder", "folder/", "folder/a", "folder/a/b", "folder2/a", "x/folder/a"];
    assert_eq!(admitted(&excluding("/folder/*"), &keys), ["folder", "folder/", "folder2/a", "x/folder/a"]);

    let keys = ["a/f1.txt", "a/f2.txt", "a/f3.txt", "b/a/f1.txt", "a/f1.txt2"];
    assert_eq!(admitted(&including("/a/f1.txt|/a/f2.txt"), &keys), ["a/f1.txt", "a/f2.txt"]);
}

#[test]
fn a_folder_pattern_matches_everything_in_the_folder_with_or_without_a_slash_at_its_end() {
    let keys = ["dir", "dir/", "dir/a", "dir/a/b/c", "dir2", "dir.txt", "x/dir"];
    for pattern in ["/dir", "/dir/"] {
        assert_eq!(admitted(&including(pattern), &keys), ["dir", "dir/", "dir/a", "dir/a/b/c"]);
        assert_eq!(admitted(&excluding(pattern), &keys), ["dir2", "dir.txt", "x/dir"]);
    }
}

#[test]
fn the_slash_alone_and_the_star_alone_match_everything() {
    for pattern in ["/", "*", "/*"] {
        assert!(!excluding(pattern).admits("a/b"), "{pattern}");
        assert!(including(pattern).admits("a"), "{pattern}");
    }
}

#[test]
fn a_star_matches_slashes_and_nothing() {
    let filter = excluding("/a*z");
    assert_eq!(admitted(&filter, &["az", "a/b/z", "a/z/more", "azb", "a/zb", "b/az"]), ["azb", "a/zb", "b/az"]);
}

#[test]
fn upper_and_lower_case_differ() {
    assert!(excluding("/Dir").admits("dir/a"));
}

#[test]
fn escaped_characters_are_literal() {
    assert_eq!(admitted(&including(r"/a\*b"), &["a*b", "axb"]), ["a*b"]);
    assert_eq!(admitted(&including(r"/a\|b|/c"), &["a|b", "a", "b", "c"]), ["a|b", "c"]);
    assert_eq!(admitted(&including(r"/a\\b"), &[r"a\b", "ab"]), [r"a\b"]);
    assert_eq!(admitted(&including(r"/a\\\\b"), &[r"a\\b", r"a\b"]), [r"a\\b"]);
}

#[test]
fn a_backslash_before_anything_else_or_at_the_end_is_ignored() {
    assert_eq!(admitted(&including(r"/a\bc\"), &["abc", r"a\bc"]), ["abc"]);
    assert_eq!(admitted(&including(r"/dir\/"), &["dir/x"]), ["dir/x"]);
}

#[test]
fn an_exclude_wins() {
    let filter = Filter::new(Some("/a*"), Some("/a/private")).unwrap();
    assert_eq!(admitted(&filter, &["a/x", "a/private/x", "ab", "b"]), ["a/x", "ab"]);
}

#[test]
fn a_pattern_that_starts_with_neither_slash_nor_star_matches_nothing() {
    let filter = excluding("dir|/x|a*|");
    assert!(filter.admits("dir") && filter.admits("ab") && !filter.admits("x"));
    assert_eq!(filter.flawed().collect::<Vec<_>>(), [("dir", Flaw::MatchesNothing), ("a*", Flaw::MatchesNothing)]);
    assert!(!including("dir").admits("dir"));
}

#[test]
fn a_pattern_that_a_user_cannot_have_meant_is_refused() {
    let flaw = |pattern: &str| match check_written("exclude", pattern) {
        Ok(()) => None,
        Err(FilterError::Flawed { flaw, .. }) => Some(flaw),
        Err(other) => panic!("{other}"),
    };
    let spaced = ["/priv\n", "/priv ", " /priv", "/a | /b", "/a\t", "\u{feff}/a\r\n", "/a\n/b", "/a\u{a0}", "/b|/c\n"];
    for pattern in spaced {
        assert_eq!(flaw(pattern), Some(Flaw::Whitespace), "{pattern:?}");
    }
    let wrong = [
        "priv",
        "priv/*",
        "./priv",
        "\"/priv\"",
        "'*.tmp'",
        "//priv",
        "/a//b",
        "/a//",
        "/./a",
        "/a/..",
        "*/./x",
        "/a|b",
    ];
    for pattern in wrong {
        assert_eq!(flaw(pattern), Some(Flaw::MatchesNothing), "{pattern:?}");
    }
    let right =
        ["/priv", "/priv/", "*", "/", "*.tmp|/a b", "|/a||/b|", "/.*", "*..", "/a/.b", r"/a\/", r"/a\|b", "/..a/*"];
    for pattern in right {
        assert_eq!(flaw(pattern), None, "{pattern:?}");
    }
    // Who escapes a character means it.
    for pattern in ["/name\\ ", "/name\\\n", "/a\\/\\/b", r"/\."] {
        assert_eq!(flaw(pattern), None, "{pattern:?}");
    }
    assert!(!excluding("/name\\ ").admits("name "));
}

#[test]
fn an_empty_pattern_is_ignored() {
    assert_eq!(admitted(&excluding("|/a||/b|"), &["a", "b", "c", ""]), ["c", ""]);
}

#[test]
fn a_filter_that_datasync_refuses_is_refused() {
    for pattern in ["*.txt", "/a*b", "/a/*/b*", "/a|/b*/c", "/a**", "/a*/"] {
        let error = Filter::new(Some(pattern), None).unwrap_err();
        assert!(matches!(error, FilterError::StarInsideInclude { .. }), "{pattern}");
        assert!(error.to_string().contains("not its last character"));
        Filter::new(None, Some(pattern)).unwrap();
    }
    Filter::new(Some(r"/a\*b"), None).unwrap();
    for empty in ["", "|", "||"] {
        assert_eq!(Filter::new(None, Some(empty)).unwrap_err(), FilterError::Empty { which: "exclude" });
    }
    assert_eq!(Filter::new(Some("/a\0"), None).unwrap_err(), FilterError::Nul { which: "include" });
    let longest = format!("/{}", "é".repeat(MAX_FILTER_CHARACTERS - 1));
    Filter::new(Some(&longest), None).unwrap();
    let error = Filter::new(None, Some(&format!("{longest}a"))).unwrap_err();
    assert_eq!(error, FilterError::TooLong { which: "exclude", characters: MAX_FILTER_CHARACTERS + 1 });
}

#[test]
fn an_excluded_directory_need_not_be_read() {
    let filter = excluding("*/node_modules|/folder/*");
    assert!(filter.excludes_directory("a/node_modules/"));
    assert!(filter.excludes_directory("a/node_modules/x/"));
    assert!(!filter.excludes_directory("a/"));
    assert!(!filter.excludes_directory("folder/"));
    assert!(filter.excludes_directory("folder/sub/"));
}

#[test]
fn a_directory_without_an_include_match_is_read_only_if_one_may_be_below() {
    let filter = including("/a/b/c.txt|/x/y*|/d/*");
    for needed in ["a/", "a/b/", "x/", "x/y/", "x/yz/", "x/yz/deep/", "d/", "d/e/"] {
        assert!(!filter.excludes_directory(needed), "{needed}");
    }
    for not_needed in ["a/c/", "a/b2/", "a/b/c/", "x/z/", "b/", "a-b/", "dd/"] {
        assert!(filter.excludes_directory(not_needed), "{not_needed}");
    }
    assert!(!filter.admits("a/") && !filter.admits("x/") && !filter.admits("d/"));
}

#[test]
fn many_stars_and_many_patterns_are_quick() {
    let stars = excluding(&"*a".repeat(2_000));
    let key = "a".repeat(1_000) + "b";
    assert!(stars.admits(&key));
    let many = (0..10_000).map(|n| format!("/f{n}")).collect::<Vec<_>>().join("|");
    let filter = including(&many);
    assert_eq!((0..20_000).filter(|n| filter.admits(&format!("f{n}/x"))).count(), 10_000);
}

/// The model: try each folder, and each length for each star.
fn model_matches(pattern: &[char], path: &[char]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some(('*', rest)) => (0..=path.len()).any(|skipped| model_matches(rest, &path[skipped..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(head, tail)| head == first && model_matches(rest, tail))
        }
    }
}

fn model_admits(exclude: &str, key: &str) -> bool {
    let path: Vec<char> = format!("/{key}").chars().collect();
    let ends = (0..=path.len()).filter(|end| *end == path.len() || path[*end] == '/');
    let folders: Vec<&[char]> = ends.map(|end| &path[..end]).collect();
    !exclude.split('|').filter(|pattern| !pattern.is_empty()).any(|pattern| {
        let pattern: Vec<char> = pattern.strip_suffix('/').unwrap_or(pattern).chars().collect();
        folders.iter().any(|folder| model_matches(&pattern, folder))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn matching_agrees_with_the_model(exclude in "[ab/*|]{1,10}", key in "[ab](/?[ab]){0,6}") {
        if let Ok(filter) = Filter::new(None, Some(&exclude)) {
            prop_assert_eq!(filter.admits(&key), model_admits(&exclude, &key));
        }
    }

    #[test]
    fn a_directory_is_excluded_only_if_nothing_below_it_is_admitted(
        include in "/[ab/]{0,5}\\*?(\\|/[ab/]{0,5}\\*?)?",
        exclude in "[ab/*]{1,4}",
        directory in "[ab](/[ab]){0,3}",
        below in "[ab](/?[ab]){0,4}",
    ) {
        if let Ok(filter) = Filter::new(Some(&include), Some(&exclude))
            && filter.excludes_directory(&format!("{directory}/"))
        {
            let directory_admitted = filter.admits(&directory);
            let below_admitted = filter.admits(&format!("{directory}/{below}"));
            prop_assert!(!directory_admitted);
            prop_assert!(!below_admitted);
        }
    }
}
