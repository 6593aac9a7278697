use super::*;

fn with_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> S3Server {
    let s3 = server();
    for key in keys {
        s3.put("b", key, "x", Seed::default());
    }
    s3
}

fn list(s3: &S3Server, query: &str) -> Received {
    get(s3, &format!("/b?list-type=2{query}"))
}

/// Every page to the end, by token.
fn pages(s3: &S3Server, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(s3, &format!("{query}{token}"));
        pages.push(page.each("Contents", "Key"));
        if page.value("IsTruncated") != "true" {
            return pages;
        }
        let next = page.value("NextContinuationToken");
        assert!(!next.is_empty());
        token = format!("&continuation-token={}", next.replace('+', "%2B").replace('=', "%3D"));
    }
}

#[test]
fn pages_follow_each_other_in_byte_order_within_the_prefix() {
    let s3 = with_keys(["p/a/x", "p/a-", "p/a.", "p/é", "p/z", "q", "o"]);
    let expected = [vec!["p/a-", "p/a."], vec!["p/a/x", "p/z"], vec!["p/é"]];
    assert_eq!(pages(&s3, "&prefix=p/&max-keys=2"), expected);
    s3.settings(|settings| settings.page_size = 3);
    assert_eq!(pages(&s3, "&prefix=p/").len(), 2);
}

#[test]
fn a_page_says_what_a_client_needs_of_each_object() {
    let s3 = server();
    let seed = Seed::aged(Duration::from_mins(1)).header("x-amz-storage-class", "GLACIER_IR");
    s3.put("b", "k", "abc", seed);
    let page = list(&s3, "");
    let root = page.xml();
    let object = root.all("Contents").next().unwrap();
    assert_eq!(object.text_of("ETag"), Some("\"900150983cd24fb0d6963f7d28e17f72\""));
    assert_eq!(object.text_of("Size"), Some("3"));
    assert_eq!(object.text_of("StorageClass"), Some("GLACIER_IR"));
    let modified = s3.object("b", "k").unwrap().modified;
    assert_eq!(object.text_of("LastModified"), Some(&*clock::iso(modified)));
    assert_eq!(page.value("KeyCount"), "1");
}

#[test]
fn start_after_excludes_the_key_it_names() {
    let s3 = with_keys(["a", "b", "c"]);
    assert_eq!(list(&s3, "&start-after=b").each("Contents", "Key"), ["c"]);
    assert_eq!(list(&s3, "&start-after=z").each("Contents", "Key"), [""; 0]);
}

#[test]
fn no_keys_are_asked_for_and_none_are_given() {
    let s3 = with_keys(["a"]);
    let page = list(&s3, "&max-keys=0");
    assert_eq!((page.value("KeyCount"), page.value("IsTruncated")), ("0".into(), "false".into()));
}

#[test]
fn a_delimiter_rolls_keys_up_across_pages() {
    let s3 = with_keys(["a/1", "a/2", "b", "c/1", "c/2"]);
    let page = list(&s3, "&delimiter=/&max-keys=1");
    assert_eq!(page.each("CommonPrefixes", "Prefix"), ["a/"]);
    let token = page.value("NextContinuationToken").replace('=', "%3D");
    let page = list(&s3, &format!("&delimiter=/&continuation-token={token}"));
    assert_eq!(page.each("Contents", "Key"), ["b"]);
    assert_eq!(page.each("CommonPrefixes", "Prefix"), ["c/"]);
}

#[test]
fn each_dialect_writes_keys_in_its_own_way() {
    let s3 = with_keys(["a b+c%&é"]);
    for (dialect, key, says) in [
        (ListingDialect::S3, "a+b%2Bc%25%26%C3%A9", "url"),
        (ListingDialect::Percent, "a%20b%2Bc%25%26%C3%A9", "url"),
        (ListingDialect::Ignored, "a b+c%&é", ""),
    ] {
        s3.settings(|settings| settings.listing = dialect);
        let page = list(&s3, "&encoding-type=url");
        assert_eq!(page.each("Contents", "Key"), [key]);
        assert_eq!(page.value("EncodingType"), says);
        assert_eq!(list(&s3, "").each("Contents", "Key"), ["a b+c%&é"]);
    }
}

#[test]
fn a_control_character_makes_a_page_that_no_xml_parser_reads_unless_encoded() {
    let s3 = with_keys(["a\u{1}"]);
    assert!(list(&s3, "").text().contains("a&#1;"));
    assert_eq!(list(&s3, "&encoding-type=url").each("Contents", "Key"), ["a%01"]);
}

#[test]
fn a_server_on_directories_pages_and_starts_after_in_its_own_order() {
    let s3 = with_keys(["a!", "a-b/x", "a/x", "b"]);
    s3.settings(|settings| settings.list_order = ListOrder::DirectoriesFirst);
    assert_eq!(pages(&s3, "&max-keys=1").concat(), ["a/x", "a!", "a-b/x", "b"]);
    assert_eq!(list(&s3, "&start-after=a/x").each("Contents", "Key"), ["a!", "a-b/x", "b"]);
}

#[test]
fn what_s3_refuses_in_a_listing_is_refused() {
    let s3 = server();
    for (query, code) in [
        ("&max-keys=many", "InvalidArgument"),
        ("&encoding-type=base64", "InvalidArgument"),
        ("&continuation-token=mine", "InvalidArgument"),
    ] {
        assert_eq!(list(&s3, query).code(), code, "{query}");
    }
    let absent = get(&s3, "/absent?list-type=2");
    assert_eq!((absent.status, absent.code()), (404, "NoSuchBucket".into()));
}

#[test]
fn a_page_of_another_making_follows_the_last_key_it_shows() {
    let s3 = with_keys(["a", "b", "c", "d"]);
    let listing = || Rule::on(Operation::ListObjectsV2);
    s3.rule(listing().does(Fault::page(|_, _| (vec!["a".into(), "b".into()], true))));
    s3.rule(listing().does(Fault::page(|_, _| (Vec::new(), true))));
    let expected = [vec!["a", "b"], vec![], vec!["c", "d"]];
    assert_eq!(pages(&s3, ""), expected);
    let twice = |keys: Vec<String>, truncated| (keys.iter().chain(&keys).cloned().collect(), truncated);
    s3.rule(listing().does(Fault::page(twice)));
    assert_eq!(list(&s3, "").each("Contents", "Key").len(), 8);
    s3.rule(listing().does(Fault::page(|_, _| (vec!["unknown".into()], false))));
    assert_eq!(list(&s3, "").each("Contents", "Key"), ["unknown"]);
}
