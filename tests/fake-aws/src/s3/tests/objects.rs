use super::*;

const ABC: &str = "\"900150983cd24fb0d6963f7d28e17f72\"";

#[test]
fn an_object_is_read_as_it_was_written() {
    let s3 = server();
    let written = put(
        &s3,
        "/b/d%20e/f%2Bg+h%C3%A9?x-id=PutObject",
        &[("x-amz-meta-File-Mtime", "1ns"), ("content-type", "text/html"), ("x-other", "no")],
        b"abc",
    );
    assert_eq!((written.status, written.header("etag")), (200, Some(ABC)));
    assert!(written.header("x-amz-request-id").is_some());
    assert!(written.header("date").is_some());
    let object = s3.object("b", "d e/f+g+hé").unwrap();
    assert_eq!(object.metadata("file-mtime"), Some("1ns"));
    assert!(!object.headers.contains_key("x-other"));
    let target = "/b/d%20e/f%2Bg+h%C3%A9";
    let read = get(&s3, target);
    assert_eq!((read.status, read.text()), (200, "abc"));
    assert_eq!(read.header("x-amz-meta-file-mtime"), Some("1ns"));
    let head = send(&s3, "HEAD", target, &[], b"").unwrap();
    assert_eq!((head.header("content-length"), head.body.len()), (Some("3"), 0));
    assert_eq!(head.header("content-type"), Some("text/html"));
    let absent = send(&s3, "HEAD", "/b/absent", &[], b"").unwrap();
    assert_eq!((absent.status, absent.body.len()), (404, 0));
    assert_eq!(get(&s3, "/b/absent").code(), "NoSuchKey");
}

#[test]
fn conditions_on_a_write_hold_or_it_is_refused() {
    let s3 = server();
    let new: Headers = &[("If-None-Match", "*")];
    let same: Headers = &[("If-Match", ABC)];
    assert_eq!(put(&s3, "/b/k", same, b"").status, 404);
    assert_eq!(put(&s3, "/b/k", new, b"abc").status, 200);
    assert_eq!(put(&s3, "/b/k", new, b"").status, 412);
    assert_eq!(put(&s3, "/b/k", &[("If-Match", "\"other\"")], b"").status, 412);
    assert_eq!(put(&s3, "/b/k", same, b"abc").status, 200);
    s3.settings(|settings| settings.conditional_writes = ConditionalWrites::NotImplemented);
    assert_eq!(put(&s3, "/b/k", new, b"").status, 501);
    s3.settings(|settings| settings.conditional_writes = ConditionalWrites::Ignored);
    assert_eq!(put(&s3, "/b/k", new, b"").status, 200);
}

#[test]
fn a_body_that_is_not_what_its_headers_say_is_refused() {
    let s3 = server();
    // CRC32, CRC32C and CRC64NVME of `123456789`.
    let body = b"123456789";
    for (name, value) in [
        ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ("x-amz-checksum-crc32c", "4waSgw=="),
        ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
        ("content-md5", &content_md5(body)),
    ] {
        assert_eq!(put(&s3, "/b/k", &[(name, value)], body).status, 200, "{name}");
        let refused = put(&s3, "/b/k", &[(name, value)], b"12345678");
        assert_eq!((refused.status, refused.code()), (400, "BadDigest".into()), "{name}");
    }
    assert_eq!(put(&s3, "/b/k", &[("content-md5", "bm8=")], body).code(), "InvalidDigest");
    assert_eq!(put(&s3, "/b/k", &[("x-amz-checksum-crc32", "bm8=")], body).status, 400);
    let mode: Headers = &[("x-amz-checksum-mode", "ENABLED")];
    let head = send(&s3, "HEAD", "/b/k", mode, b"").unwrap();
    assert_eq!(head.header("x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
    assert_eq!(head.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
}

#[test]
fn a_framed_body_is_unframed_and_its_trailer_verified() {
    let s3 = server();
    let headers: Headers = &[
        ("content-encoding", "aws-chunked"),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "9"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let framed = |sum| format!("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n");
    assert_eq!(put(&s3, "/b/k", headers, framed("y/Q5Jg==").as_bytes()).status, 200);
    let object = s3.object("b", "k").unwrap();
    assert_eq!((object.body.as_ref(), object.headers.len()), (b"123456789".as_slice(), 0));
    assert_eq!(put(&s3, "/b/k", headers, framed("AAAAAA==").as_bytes()).code(), "BadDigest");
    assert_eq!(put(&s3, "/b/k", headers, b"9\r\n1234").code(), "IncompleteBody");
}

#[test]
fn a_body_of_unknown_length_is_refused() {
    let s3 = server();
    let chunked: Headers = &[("Transfer-Encoding", "chunked")];
    assert_eq!(put(&s3, "/b/k", chunked, b"1\r\na\r\n0\r\n\r\n").status, 501);
}

#[test]
fn limits_of_s3_are_kept() {
    let s3 = server();
    assert_eq!(put(&s3, &format!("/b/{}", "k".repeat(1024)), &[], b"").status, 200);
    assert_eq!(put(&s3, &format!("/b/{}", "k".repeat(1025)), &[], b"").code(), "KeyTooLongError");
    let large = "m".repeat(2048);
    assert_eq!(put(&s3, "/b/k", &[("x-amz-meta-m", &large)], b"").code(), "MetadataTooLarge");
    assert_eq!(put(&s3, "/b/%FF", &[], b"").code(), "InvalidURI");
    assert_eq!(put(&s3, "/absent/k", &[], b"").code(), "NoSuchBucket");
}

#[test]
fn a_read_may_ask_for_a_range_a_part_or_an_etag() {
    let s3 = server();
    s3.put("b", "k", "0123456789", Seed::default());
    s3.put("b", "parts", "0123456789", Seed::default().in_parts_of(4));
    s3.put("b", "empty", "", Seed::default());
    let ranged = |target, range| send(&s3, "GET", target, &[("Range", range)], b"").unwrap();
    for (range, text) in [("bytes=2-4", "234"), ("bytes=7-", "789"), ("bytes=-2", "89"), ("bytes=8-99", "89")] {
        let part = ranged("/b/k", range);
        assert_eq!((part.status, part.text()), (206, text), "{range}");
    }
    assert_eq!(ranged("/b/k", "bytes=2-4").header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(ranged("/b/k", "bytes=10-").code(), "InvalidRange");
    assert_eq!(ranged("/b/empty", "bytes=0-0").status, 416);
    assert_eq!(ranged("/b/k", "lines=1-2").status, 200);

    let part = get(&s3, "/b/parts?partNumber=2");
    assert_eq!((part.status, part.text()), (206, "4567"));
    assert_eq!(part.header("x-amz-mp-parts-count"), Some("3"));
    assert_eq!(get(&s3, "/b/parts?partNumber=3").text(), "89");
    assert_eq!(get(&s3, "/b/parts?partNumber=4").code(), "InvalidPartNumber");
    let first = send(&s3, "HEAD", "/b/k?partNumber=1", &[], b"").unwrap();
    assert_eq!((first.status, first.header("x-amz-mp-parts-count")), (206, None));
    s3.settings(|settings| settings.parts_count = false);
    let head = send(&s3, "HEAD", "/b/parts?partNumber=1", &[], b"").unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(head.header("x-amz-mp-parts-count"), None);

    assert_eq!(send(&s3, "GET", "/b/k", &[("If-Match", "\"x\"")], b"").unwrap().status, 412);
    let etag = format!("\"{}\"", s3.object("b", "k").unwrap().etag);
    assert_eq!(send(&s3, "GET", "/b/k", &[("If-Match", &etag)], b"").unwrap().status, 200);
    assert_eq!(send(&s3, "GET", "/b/k", &[("If-None-Match", &etag)], b"").unwrap().status, 304);
}

#[test]
fn a_copy_takes_what_its_directive_says_and_becomes_standard() {
    let s3 = server();
    let seed = Seed::aged(Duration::from_mins(1))
        .header("x-amz-meta-a", "1")
        .header("x-amz-storage-class", "STANDARD_IA")
        .in_parts_of(2);
    s3.put("b", "s rc", "abc", seed);
    let source = ("x-amz-copy-source", "b/s%20rc");
    let copied = put(&s3, "/b/copy", &[source], b"");
    assert_eq!((copied.status, copied.value("ETag").as_str()), (200, ABC));
    let copy = s3.object("b", "copy").unwrap();
    assert_eq!((copy.metadata("a"), copy.storage_class()), (Some("1"), "STANDARD"));
    let replace = ("x-amz-metadata-directive", "REPLACE");
    let class = ("x-amz-storage-class", "GLACIER");
    let itself: Headers = &[source, replace, class, ("x-amz-meta-b", "2")];
    assert_eq!(put(&s3, "/b/s%20rc", itself, b"").status, 200);
    let object = s3.object("b", "s rc").unwrap();
    assert_eq!((object.metadata("a"), object.metadata("b")), (None, Some("2")));
    assert_eq!(put(&s3, "/b/other", &[source], b"").code(), "InvalidObjectState");
    assert_eq!(get(&s3, "/b/s%20rc").code(), "InvalidObjectState");
    assert_eq!(send(&s3, "HEAD", "/b/s%20rc", &[], b"").unwrap().status, 200);
}

#[test]
fn a_copy_is_refused_without_change_source_or_matching_etag() {
    let s3 = server();
    s3.put("b", "k", "abc", Seed::default());
    let source = ("x-amz-copy-source", "/b/k");
    assert_eq!(put(&s3, "/b/k", &[source], b"").code(), "InvalidRequest");
    let other = ("x-amz-copy-source-if-match", "\"other\"");
    assert_eq!(put(&s3, "/b/to", &[source, other], b"").status, 412);
    assert_eq!(put(&s3, "/b/to", &[source, ("x-amz-copy-source-if-match", ABC)], b"").status, 200);
    assert_eq!(put(&s3, "/b/to", &[source, ("If-None-Match", "*")], b"").status, 412);
    assert_eq!(put(&s3, "/b/to", &[("x-amz-copy-source", "b/absent")], b"").code(), "NoSuchKey");
}

#[test]
fn attributes_are_those_that_were_asked_for() {
    let s3 = server();
    s3.put("b", "k", "abc", Seed::default().in_parts_of(1));
    let asked: Headers = &[("x-amz-object-attributes", "ETag,ObjectSize,ObjectParts")];
    let response = send(&s3, "GET", "/b/k?attributes", asked, b"").unwrap();
    assert!(response.value("ETag").ends_with("-3"));
    assert_eq!(response.value("ObjectSize"), "3");
    assert_eq!(response.each("ObjectParts", "PartsCount"), ["3"]);
    assert_eq!(response.value("StorageClass"), "");
}

#[test]
fn the_log_tells_each_request_and_its_answer() {
    let s3 = server();
    put(&s3, "/b/k%20?x-id=PutObject", &[("X-Amz-Meta-A", "1")], b"abc");
    get(&s3, "/b/absent");
    let log = s3.log();
    assert_eq!(log.len(), 2);
    assert_eq!((log[0].operation, log[0].key.as_str()), (Operation::PutObject, "k "));
    assert_eq!((log[0].body_bytes, log[0].status, log[0].faulted), (3, 200, false));
    assert_eq!(log[0].headers["x-amz-meta-a"], "1");
    assert_eq!(log[0].query["x-id"], "PutObject");
    assert_eq!(log[1].status, 404);
    assert_eq!(s3.count([Operation::PutObject, Operation::GetObject]), 2);
    s3.clear_log();
    assert_eq!(s3.count(Operations::all()), 0);
}
