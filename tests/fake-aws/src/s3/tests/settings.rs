use super::*;

#[test]
fn under_kms_no_etag_is_an_md5_and_answers_say_so() {
    let s3 = server();
    s3.settings(|settings| settings.kms = true);
    let response = put(&s3, "/b/k", &[], b"abc");
    assert_eq!(response.header("x-amz-server-side-encryption"), Some("aws:kms"));
    let first = response.header("etag").unwrap().to_owned();
    assert_ne!(first, "\"900150983cd24fb0d6963f7d28e17f72\"");
    assert_ne!(put(&s3, "/b/k", &[], b"abc").header("etag"), Some(&*first));
    let head = send(&s3, "HEAD", "/b/k", &[], b"").unwrap();
    assert_eq!(head.header("x-amz-server-side-encryption"), Some("aws:kms"));
    s3.put("b", "parts", "abcd", Seed::default().in_parts_of(2));
    assert!(s3.object("b", "parts").unwrap().etag.ends_with("-2"));
}

#[test]
fn the_date_of_an_answer_is_by_the_servers_clock() {
    let s3 = server();
    s3.settings(|settings| settings.clock_offset_seconds = -86_400 * 365);
    s3.put("b", "k", "", Seed::default());
    let response = get(&s3, "/b/k");
    assert_eq!(response.header("date"), response.header("last-modified"));
    assert!(SystemTime::now().duration_since(s3.now()).unwrap() > Duration::from_hours(24));
}

#[test]
fn a_request_of_another_time_is_refused_where_the_clock_matters() {
    let s3 = server();
    s3.settings(|settings| settings.clock_tolerance = Some(Duration::from_mins(15)));
    let old: Headers = &[("x-amz-date", "20130524T000000Z")];
    let response = send(&s3, "GET", "/b?list-type=2", old, b"").unwrap();
    assert_eq!((response.status, response.code()), (403, "RequestTimeTooSkewed".into()));
    assert_eq!(get(&s3, "/b?list-type=2").status, 200);
}

#[test]
fn only_the_required_access_key_is_let_in() {
    let s3 = server();
    s3.settings(|settings| settings.required_access_key = Some("MINE".into()));
    let with = |key: &str| {
        let header = format!("AWS4-HMAC-SHA256 Credential={key}/20130524/us-east-1/s3/aws4_request, Signature=0");
        send(&s3, "GET", "/b?list-type=2", &[("Authorization", &header)], b"").unwrap()
    };
    assert_eq!(with("MINE").status, 200);
    assert_eq!(with("YOURS").code(), "InvalidAccessKeyId");
    assert_eq!(get(&s3, "/b?list-type=2").code(), "AccessDenied");
}

#[test]
fn another_bucket_owner_is_denied() {
    let s3 = server();
    s3.settings(|settings| settings.bucket_owner = Some("111122223333".into()));
    let owner = |owner| send(&s3, "HEAD", "/b", &[("x-amz-expected-bucket-owner", owner)], b"");
    assert_eq!(owner("111122223333").unwrap().status, 200);
    assert_eq!(owner("444455556666").unwrap().status, 403);
}

#[test]
fn a_bucket_of_another_region_redirects() {
    let s3 = server();
    s3.settings(|settings| settings.redirect_region = Some("eu-west-1".into()));
    let response = get(&s3, "/b?list-type=2");
    assert_eq!((response.status, response.code()), (301, "PermanentRedirect".into()));
    assert_eq!(response.header("x-amz-bucket-region"), Some("eu-west-1"));
}

#[test]
fn a_bucket_tells_its_region_and_can_be_created() {
    let s3 = server();
    s3.settings(|settings| settings.region = "eu-west-1".into());
    let head = send(&s3, "HEAD", "/b", &[], b"").unwrap();
    assert_eq!(head.header("x-amz-bucket-region"), Some("eu-west-1"));
    assert_eq!(get(&s3, "/b?location").xml().text, "eu-west-1");
    assert_eq!(send(&s3, "HEAD", "/new", &[], b"").unwrap().status, 404);
    assert_eq!(put(&s3, "/new", &[], b"").status, 200);
    assert_eq!(send(&s3, "HEAD", "/new", &[], b"").unwrap().status, 200);
}

#[test]
fn checksums_are_not_kept_where_the_server_keeps_none() {
    let s3 = server();
    s3.settings(|settings| settings.checksums = false);
    let response = put(&s3, "/b/k", &[("x-amz-checksum-crc32", "y/Q5Jg==")], b"123456789");
    assert_eq!(response.header("x-amz-checksum-crc32"), None);
    assert!(s3.object("b", "k").unwrap().checksums.is_empty());
    assert_eq!(put(&s3, "/b/k", &[("x-amz-checksum-crc32", "y/Q5Jg==")], b"").status, 400);
}

#[tokio::test]
async fn a_server_runs_on_the_current_runtime_until_its_last_handle_is_dropped() {
    let s3 = S3Server::start().await.unwrap();
    let address = s3.listener.address;
    let other = s3.clone();
    drop(s3);
    assert!(other.url().ends_with(&address.port().to_string()));
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    drop(other);
    for _ in 0..100 {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server is still there");
}

#[test]
fn a_listing_of_two_hundred_thousand_objects_reads_each_key_once() {
    let s3 = server();
    for number in 0..200_000 {
        s3.put("b", &format!("{:02}/{number:06}", number % 50), "", Seed::default());
    }
    let mut after = String::new();
    let mut seen = 0;
    loop {
        let page = get(&s3, &format!("/b?list-type=2&start-after={after}"));
        let text = page.text();
        seen += text.matches("<Key>").count();
        after = text.rsplit("<Key>").next().unwrap().split("</Key>").next().unwrap().to_owned();
        if text.contains("<IsTruncated>false") {
            break;
        }
    }
    assert_eq!((seen, s3.count(Operation::ListObjectsV2)), (200_000, 200));
}
