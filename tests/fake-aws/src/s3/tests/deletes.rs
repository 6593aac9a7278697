use super::*;

fn batch(s3: &S3Server, document: &str) -> Received {
    let md5 = content_md5(document.as_bytes());
    send(s3, "POST", "/b?delete", &[("content-md5", &md5)], document.as_bytes()).unwrap()
}

fn with_keys(keys: &[&str]) -> S3Server {
    let s3 = server();
    for key in keys {
        s3.put("b", key, "x", Seed::default());
    }
    s3
}

#[test]
fn a_batch_deletes_each_key_and_absent_ones_too() {
    let s3 = with_keys(&["a&b", "c", "keep"]);
    let response = batch(
        &s3,
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b</Key></Object>\
         <Object><Key>c</Key></Object><Object><Key>absent</Key></Object></Delete>",
    );
    assert_eq!(response.each("Deleted", "Key"), ["a&b", "c", "absent"]);
    assert_eq!(s3.keys("b", ""), ["keep"]);
}

#[test]
fn a_quiet_batch_tells_failures_alone() {
    let s3 = with_keys(&["a", "held"]);
    s3.settings(|settings| settings.refuse_delete = vec!["held".into()]);
    let response =
        batch(&s3, "<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>held</Key></Object></Delete>");
    assert_eq!(response.each("Deleted", "Key"), [""; 0]);
    assert_eq!(response.each("Error", "Key"), ["held"]);
    assert_eq!(response.each("Error", "Code"), ["AccessDenied"]);
    let single = send(&s3, "DELETE", "/b/held", &[], b"").unwrap();
    assert_eq!((single.status, single.code()), (403, "AccessDenied".into()));
    assert_eq!(s3.keys("b", ""), ["held"]);
}

#[test]
fn one_key_that_xml_cannot_carry_spoils_the_whole_batch() {
    let s3 = with_keys(&["a"]);
    for bad in ["\u{1}", "&#1;", "\u{FFFE}", "&"] {
        let document = format!("<Delete><Object><Key>a</Key></Object><Object><Key>{bad}</Key></Object></Delete>");
        let response = batch(&s3, &document);
        assert_eq!((response.status, response.code()), (400, "MalformedXML".into()), "{bad:?}");
    }
    assert_eq!(s3.keys("b", ""), ["a"]);
}

#[test]
fn a_raw_return_in_a_key_is_read_as_a_newline() {
    let s3 = with_keys(&["a\rb", "a\nb"]);
    batch(&s3, "<Delete><Object><Key>a\rb</Key></Object></Delete>");
    assert_eq!(s3.keys("b", ""), ["a\rb"]);
    batch(&s3, "<Delete><Object><Key>a&#13;b</Key></Object></Delete>");
    assert!(s3.keys("b", "").is_empty());
}

#[test]
fn a_batch_has_between_one_and_a_thousand_keys() {
    let s3 = server();
    let document = |keys| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(keys));
    assert_eq!(batch(&s3, &document(1000)).status, 200);
    assert_eq!(batch(&s3, &document(1001)).code(), "MalformedXML");
    assert_eq!(batch(&s3, &document(0)).code(), "MalformedXML");
}

#[test]
fn a_batch_without_a_digest_or_with_a_wrong_one_is_refused() {
    let s3 = with_keys(&["k"]);
    let document = b"<Delete><Object><Key>k</Key></Object></Delete>";
    assert_eq!(send(&s3, "POST", "/b?delete", &[], document).unwrap().code(), "InvalidRequest");
    let other = content_md5(b"other");
    let wrong: Headers = &[("content-md5", &other)];
    assert_eq!(send(&s3, "POST", "/b?delete", wrong, document).unwrap().code(), "BadDigest");
    assert_eq!(s3.keys("b", ""), ["k"]);
}

#[test]
fn a_condition_on_a_delete_is_obeyed_unless_the_server_ignores_it() {
    let s3 = with_keys(&["one", "two"]);
    let other: Headers = &[("If-Match", "\"other\"")];
    assert_eq!(send(&s3, "DELETE", "/b/one", other, b"").unwrap().status, 412);
    assert_eq!(send(&s3, "DELETE", "/b/absent", other, b"").unwrap().status, 404);
    let entry = |key, etag: &str| format!("<Object><Key>{key}</Key><ETag>{etag}</ETag></Object>");
    let etag = s3.object("b", "two").unwrap().etag;
    let both = format!("<Delete>{}{}</Delete>", entry("one", "other"), entry("two", &etag));
    let response = batch(&s3, &both);
    assert_eq!(response.each("Error", "Code"), ["PreconditionFailed"]);
    assert_eq!(response.each("Deleted", "Key"), ["two"]);
    s3.settings(|settings| settings.conditional_delete = false);
    assert_eq!(send(&s3, "DELETE", "/b/one", other, b"").unwrap().status, 204);
    assert!(s3.keys("b", "").is_empty());
}

#[test]
fn a_server_may_not_know_batches() {
    let s3 = server();
    s3.settings(|settings| settings.delete_objects = false);
    let response = batch(&s3, "<Delete><Object><Key>k</Key></Object></Delete>");
    assert_eq!((response.status, response.code()), (501, "NotImplemented".into()));
}

#[test]
fn deletes_in_a_versioned_bucket_leave_markers() {
    let s3 = with_keys(&["a", "b"]);
    assert_eq!(get(&s3, "/b?versioning").value("Status"), "");
    s3.enable_versioning("b");
    assert_eq!(get(&s3, "/b?versioning").value("Status"), "Enabled");
    let single = send(&s3, "DELETE", "/b/a", &[], b"").unwrap();
    assert_eq!(single.header("x-amz-delete-marker"), Some("true"));
    batch(&s3, "<Delete><Object><Key>b</Key></Object></Delete>");
    assert_eq!(s3.delete_markers("b"), 2);
}
