use super::*;

const MIB: usize = 1 << 20;

fn create(s3: &S3Server, key: &str, headers: Headers) -> String {
    let response = send(s3, "POST", &format!("/b/{key}?uploads"), headers, b"").unwrap();
    assert_eq!(response.status, 200);
    response.value("UploadId")
}

fn part(s3: &S3Server, key: &str, id: &str, number: usize, body: &[u8]) -> String {
    let response = put(s3, &format!("/b/{key}?partNumber={number}&uploadId={id}"), &[], body);
    assert_eq!(response.status, 200);
    response.header("etag").unwrap().to_owned()
}

fn complete(s3: &S3Server, key: &str, id: &str, parts: &[(usize, &str)], headers: Headers) -> Received {
    let part = |(number, etag): &(usize, &str)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", etag.replace('"', "&quot;"))
    };
    let parts: String = parts.iter().map(part).collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    send(s3, "POST", &format!("/b/{key}?uploadId={id}"), headers, document.as_bytes()).unwrap()
}

#[test]
fn parts_become_one_object_with_the_etag_of_their_md5s() {
    let s3 = server();
    let id = create(&s3, "k", &[("x-amz-meta-a", "1")]);
    let (one, two) = (vec![1; 5 * MIB], vec![2; 7]);
    let first = part(&s3, "k", &id, 1, &one);
    let second = part(&s3, "k", &id, 3, &two);
    let listed = get(&s3, &format!("/b/k?uploadId={id}&max-parts=1"));
    assert_eq!(listed.each("Part", "Size"), [(5 * MIB).to_string()]);
    assert_eq!(listed.value("IsTruncated"), "true");
    let response = complete(&s3, "k", &id, &[(1, &first), (3, &second)], &[]);
    assert_eq!(response.status, 200);
    let expected = object::multipart_etag([&md5(&one), &md5(&two)]);
    assert_eq!(response.value("ETag"), format!("\"{expected}\""));
    let object = s3.object("b", "k").unwrap();
    assert_eq!((object.etag, object.body.len()), (expected, 5 * MIB + 7));
    assert_eq!(object.part_sizes_bytes, [5 << 20, 7]);
    assert!(object.headers.contains_key("x-amz-meta-a"));
    assert!(s3.uploads().is_empty());
}

#[test]
fn last_modified_is_when_the_upload_was_initiated() {
    let s3 = server();
    s3.settings(|settings| settings.clock_offset_seconds = -3600);
    let id = create(&s3, "k", &[]);
    s3.settings(|settings| settings.clock_offset_seconds = 0);
    let etag = part(&s3, "k", &id, 1, b"x");
    complete(&s3, "k", &id, &[(1, &etag)], &[]);
    let age = s3.now().duration_since(s3.object("b", "k").unwrap().modified).unwrap();
    assert!(age > Duration::from_secs(3500));
}

#[test]
fn a_completion_that_s3_would_refuse_is_refused() {
    let s3 = server();
    s3.put("b", "k", "there", Seed::default());
    let id = create(&s3, "k", &[]);
    let one = part(&s3, "k", &id, 1, b"small");
    let two = part(&s3, "k", &id, 2, b"last");
    let code = |parts: &[(usize, &str)], headers: Headers| complete(&s3, "k", &id, parts, headers).code();
    assert_eq!(code(&[(1, &one), (2, &two)], &[]), "EntityTooSmall");
    assert_eq!(code(&[(2, &two), (1, &one)], &[]), "InvalidPartOrder");
    assert_eq!(code(&[(1, &two)], &[]), "InvalidPart");
    assert_eq!(code(&[(3, &one)], &[]), "InvalidPart");
    assert_eq!(code(&[], &[]), "MalformedXML");
    assert_eq!(code(&[(1, &one)], &[("If-None-Match", "*")]), "PreconditionFailed");
    assert_eq!(code(&[(1, &one)], &[("x-amz-mp-object-size", "6")]), "InvalidRequest");
    let wrong = ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=");
    assert_eq!(code(&[(1, &one)], &[wrong, ("x-amz-checksum-type", "FULL_OBJECT")]), "BadDigest");
    assert_eq!(complete(&s3, "other", &id, &[(1, &one)], &[]).code(), "NoSuchUpload");
    assert_eq!(s3.body("b", "k").unwrap(), "there");
    assert_eq!(s3.uploads()[0].parts, BTreeMap::from([(1, 5), (2, 4)]));
    assert_eq!(complete(&s3, "k", &id, &[(1, &one)], &[]).status, 200);
    assert_eq!(complete(&s3, "k", &id, &[(1, &one)], &[]).code(), "NoSuchUpload");
}

#[test]
fn a_full_object_checksum_is_verified_and_kept() {
    let s3 = server();
    let headers: Headers = &[("x-amz-checksum-algorithm", "CRC64NVME"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let id = create(&s3, "k", headers);
    let etag = part(&s3, "k", &id, 1, b"123456789");
    let sum = ("x-amz-checksum-crc64nvme", "rosUhgp5mIg=");
    let response = complete(&s3, "k", &id, &[(1, &etag)], &[sum]);
    assert_eq!(response.value("ChecksumCRC64NVME"), "rosUhgp5mIg=");
    let checksums = s3.object("b", "k").unwrap().checksums;
    assert_eq!(checksums["x-amz-checksum-type"], "FULL_OBJECT");
}

#[test]
fn a_composite_checksum_is_that_of_the_parts_checksums() {
    let s3 = server();
    let id = create(&s3, "k", &[("x-amz-checksum-algorithm", "CRC32")]);
    let etag = part(&s3, "k", &id, 1, b"123456789");
    complete(&s3, "k", &id, &[(1, &etag)], &[]);
    let checksums = s3.object("b", "k").unwrap().checksums;
    // The CRC32 of the bytes cb f4 39 26.
    assert_eq!(checksums["x-amz-checksum-crc32"], "7kxlUA==-1");
    assert_eq!(checksums["x-amz-checksum-type"], "COMPOSITE");
}

#[test]
fn a_part_is_copied_from_a_range_of_another_object() {
    let s3 = server();
    s3.put("b", "src", "0123456789", Seed::default());
    let id = create(&s3, "k", &[]);
    let target = format!("/b/k?partNumber=1&uploadId={id}");
    let source = ("x-amz-copy-source", "b/src");
    let copied = put(&s3, &target, &[source, ("x-amz-copy-source-range", "bytes=2-4")], b"");
    let etag = copied.value("ETag");
    assert_eq!(complete(&s3, "k", &id, &[(1, &etag)], &[]).status, 200);
    assert_eq!(s3.body("b", "k").unwrap(), "234");
    assert_eq!(s3.count(Operation::UploadPartCopy), 1);
    let beyond = put(&s3, &target, &[source, ("x-amz-copy-source-range", "bytes=2-10")], b"");
    assert_eq!(beyond.status, 404);
}

#[test]
fn open_uploads_are_listed_in_pages_and_can_be_aborted() {
    let s3 = server();
    s3.seed_upload("b", "p/a b", Duration::from_hours(25));
    s3.seed_upload("b", "p/a b", Duration::ZERO);
    s3.seed_upload("b", "p/c", Duration::ZERO);
    s3.seed_upload("b", "q", Duration::ZERO);
    let all = get(&s3, "/b?uploads&prefix=p/&encoding-type=url");
    assert_eq!(all.each("Upload", "Key"), ["p/a+b", "p/a+b", "p/c"]);
    let page = get(&s3, "/b?uploads&prefix=p/&max-uploads=1");
    assert_eq!(page.value("IsTruncated"), "true");
    let (key, id) = (page.value("NextKeyMarker"), page.value("NextUploadIdMarker"));
    let key = key.replace(' ', "%20");
    let rest = get(&s3, &format!("/b?uploads&prefix=p/&key-marker={key}&upload-id-marker={id}"));
    assert_eq!(rest.each("Upload", "Key"), ["p/a b", "p/c"]);
    let target = format!("/b/{key}?uploadId={id}");
    assert_eq!(send(&s3, "DELETE", &target, &[], b"").unwrap().status, 204);
    assert_eq!(send(&s3, "DELETE", &target, &[], b"").unwrap().status, 404);
    assert_eq!(s3.uploads().len(), 3);
}

#[test]
fn a_completion_may_be_answered_with_an_empty_etag() {
    let s3 = server();
    s3.settings(|settings| settings.empty_complete_etag = true);
    let id = create(&s3, "k", &[]);
    let etag = part(&s3, "k", &id, 1, b"x");
    let response = complete(&s3, "k", &id, &[(1, &etag)], &[]);
    assert!(response.text().contains("<ETag></ETag>"));
    assert!(s3.object("b", "k").unwrap().etag.ends_with("-1"));
}
