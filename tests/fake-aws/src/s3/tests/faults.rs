use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::*;

fn on_put() -> When {
    Rule::on(Operation::PutObject)
}

fn on_get() -> When {
    Rule::on(Operation::GetObject)
}

fn try_put(s3: &S3Server) -> io::Result<Received> {
    send(s3, "PUT", "/b/k", &[], b"abc")
}

fn try_get(s3: &S3Server) -> io::Result<Received> {
    send(s3, "GET", "/b/k", &[], b"")
}

fn with_object() -> S3Server {
    let s3 = server();
    s3.put("b", "k", "0123456789", Seed::default());
    s3
}

#[test]
fn a_rule_meets_the_requests_it_is_for_after_those_it_skips() {
    let s3 = server();
    let slow = || Fault::status(503, "SlowDown");
    s3.rule(on_put().key_contains("x").skip(1).times(2).does(slow()));
    let statuses = |key: &str, count| -> Vec<u16> {
        (0..count).map(|_| put(&s3, &format!("/b/{key}"), &[], b"").status).collect()
    };
    assert_eq!(statuses("other", 2), [200, 200]);
    assert_eq!(statuses("x", 5), [200, 503, 503, 200, 200]);
    s3.rule(Rule::on(Operations::all()).key_matches(str::is_empty).always().does(slow()));
    assert_eq!((0..3).map(|_| get(&s3, "/b?list-type=2").status).collect::<Vec<_>>(), [503; 3]);
    assert_eq!(statuses("x", 1), [200]);
    s3.clear_rules();
    assert_eq!(get(&s3, "/b?list-type=2").status, 200);
}

#[test]
fn a_listing_is_met_by_its_prefix() {
    let s3 = server();
    let rule = Rule::on(Operation::ListObjectsV2).key_contains("p/");
    s3.rule(rule.does(Fault::status(503, "SlowDown")));
    assert_eq!(get(&s3, "/b?list-type=2&prefix=q/").status, 200);
    assert_eq!(get(&s3, "/b?list-type=2&prefix=p/").status, 503);
}

#[test]
fn a_status_comes_with_its_code_and_headers_and_no_effect() {
    let s3 = server();
    let fault = Fault::Status { status: 503, code: "SlowDown", headers: vec![("Retry-After", "1".into())] };
    s3.rule(on_put().does(fault));
    let response = try_put(&s3).unwrap();
    assert_eq!((response.status, response.code()), (503, "SlowDown".into()));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(s3.keys("b", "").is_empty());
    let log = s3.log();
    assert_eq!((log[0].status, log[0].faulted), (503, true));
}

#[test]
fn a_reset_before_has_no_effect_and_a_reset_after_has() {
    let s3 = server();
    s3.rule(on_put().does(Fault::ResetBefore));
    assert_eq!(try_put(&s3).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(s3.keys("b", "").is_empty());
    s3.rule(on_put().does(Fault::ResetAfter));
    assert_eq!(try_put(&s3).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(s3.keys("b", ""), ["k"]);
    assert_eq!(s3.log()[1].status, 0);
    assert_eq!(try_put(&s3).unwrap().status, 200);
}

#[test]
fn a_stall_is_silent_and_then_resets() {
    let s3 = server();
    let stall = Duration::from_millis(200);
    s3.rule(on_put().does(Fault::Stall(stall)));
    let start = Instant::now();
    assert_eq!(try_put(&s3).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(start.elapsed() >= stall);
    assert!(s3.keys("b", "").is_empty());
}

#[test]
fn a_delayed_request_is_answered_late_even_to_a_client_that_has_gone() {
    let s3 = server();
    let delay = Duration::from_millis(200);
    s3.rule(on_put().times(2).does(Fault::Delay(delay)));
    let start = Instant::now();
    assert_eq!(try_put(&s3).unwrap().status, 200);
    assert!(start.elapsed() >= delay);
    let mut stream = TcpStream::connect(s3.listener.address).unwrap();
    stream.write_all(b"PUT /b/late HTTP/1.1\r\nHost: s3\r\nContent-Length: 1\r\n\r\nx").unwrap();
    while s3.count(Operation::PutObject) < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    assert_eq!(s3.body("b", "late"), None);
    while s3.body("b", "late").is_none() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_success_may_carry_an_error_and_have_no_effect() {
    let s3 = server();
    s3.rule(on_put().does(Fault::ErrorInside200("InternalError")));
    let response = try_put(&s3).unwrap();
    assert_eq!((response.status, response.code()), (200, "InternalError".into()));
    assert!(s3.keys("b", "").is_empty());
}

#[test]
fn a_trickling_body_arrives_whole_and_late() {
    let s3 = with_object();
    let pause = Duration::from_millis(20);
    s3.rule(on_get().does(Fault::TrickleBody { piece_bytes: 2, pause }));
    let start = Instant::now();
    assert_eq!(try_get(&s3).unwrap().text(), "0123456789");
    assert!(start.elapsed() >= pause * 5);
}

#[test]
fn a_body_may_break_off_in_its_middle() {
    let s3 = with_object();
    s3.rule(on_get().does(Fault::TruncatedBody));
    assert_eq!(try_get(&s3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let stall = Duration::from_millis(200);
    s3.rule(on_get().does(Fault::StallMidBody(stall)));
    let start = Instant::now();
    assert_eq!(try_get(&s3).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(start.elapsed() >= stall);
    assert_eq!(try_get(&s3).unwrap().status, 200);
}

#[test]
fn half_of_a_body_that_breaks_off_does_arrive() {
    let s3 = with_object();
    s3.rule(on_get().does(Fault::TruncatedBody));
    let mut stream = TcpStream::connect(s3.listener.address).unwrap();
    stream.write_all(b"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n").unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let text = String::from_utf8(received).unwrap().to_ascii_lowercase();
    assert!(text.contains("content-length: 10\r\n"));
    assert!(text.ends_with("\r\n\r\n01234"));
}

#[test]
fn a_corrupted_body_is_a_bad_digest_or_a_wrong_etag() {
    let s3 = server();
    s3.rule(on_put().times(2).does(Fault::CorruptBody));
    let md5 = content_md5(b"abc");
    assert_eq!(put(&s3, "/b/k", &[("content-md5", &md5)], b"abc").code(), "BadDigest");
    assert_ne!(try_put(&s3).unwrap().header("etag"), Some("\"900150983cd24fb0d6963f7d28e17f72\""));
    assert_eq!(s3.body("b", "k").unwrap(), "abb");
}

#[test]
fn a_wrong_etag_is_in_the_answer_alone() {
    let s3 = server();
    s3.rule(Rule::on([Operation::PutObject, Operation::ListObjectsV2]).times(2).does(Fault::WrongEtag));
    let etag = try_put(&s3).unwrap().header("etag").unwrap().to_owned();
    let have = s3.object("b", "k").unwrap().etag;
    assert_eq!(have, "900150983cd24fb0d6963f7d28e17f72");
    assert!(!etag.contains(&have));
    assert_eq!(get(&s3, "/b?list-type=2").each("Contents", "ETag"), [etag]);
}

#[test]
fn hooks_run_before_or_after_the_effect_and_may_use_the_server() {
    let s3 = server();
    let seen = Arc::new(AtomicU64::new(0));
    let hook = || {
        let (s3, seen) = (s3.clone(), Arc::clone(&seen));
        move || {
            std::thread::sleep(Duration::from_millis(20));
            seen.store(10 + u64::from(s3.body("b", "k").is_some()), Ordering::SeqCst);
        }
    };
    s3.rule(on_put().does(Fault::before(hook())));
    assert_eq!(try_put(&s3).unwrap().status, 200);
    assert_eq!(seen.load(Ordering::SeqCst), 10);
    s3.remove("b", "k");
    s3.rule(on_put().does(Fault::after(hook())));
    assert_eq!(try_put(&s3).unwrap().status, 200);
    assert_eq!(seen.load(Ordering::SeqCst), 11);
}

#[test]
fn a_custom_answer_replaces_the_servers_or_leaves_it() {
    let s3 = server();
    s3.rule(on_put().times(2).does(Fault::custom(|request| {
        (request.body_bytes == 3).then(|| Reply::error(409, "ConditionalRequestConflict", "", &request.key))
    })));
    assert_eq!(try_put(&s3).unwrap().status, 409);
    let dated = Reply::empty(200).with("Date", "another day");
    s3.rule(on_get().does(Fault::custom(move |_| Some(dated.clone()))));
    assert_eq!(try_get(&s3).unwrap().header("date"), Some("another day"));
    assert_eq!(put(&s3, "/b/k", &[], b"four").status, 200);
}

#[test]
fn a_hook_that_panics_resets_its_connection_and_spoils_nothing_else() {
    let s3 = server();
    s3.rule(on_put().does(Fault::before(|| panic!("on purpose"))));
    assert!(try_put(&s3).is_err());
    assert_eq!(try_put(&s3).unwrap().status, 200);
}

#[test]
fn requests_are_held_until_enough_of_them_wait() {
    let s3 = with_object();
    s3.rule(on_get().always().does(Fault::hold_until(3)));
    let statuses = || s3.requests(Operation::GetObject).iter().map(|request| request.status).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let held = [(); 2].map(|()| scope.spawn(|| try_get(&s3).unwrap().status));
        while s3.count(Operation::GetObject) < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(statuses(), [0, 0]);
        assert_eq!(try_get(&s3).unwrap().status, 200);
        assert_eq!(held.map(|request| request.join().unwrap()), [200, 200]);
    });
    assert_eq!(try_get(&s3).unwrap().status, 200);
}

#[test]
fn a_held_request_fails_if_the_others_do_not_come_at_the_same_time() {
    let s3 = with_object();
    s3.rule(on_get().always().does(Fault::Hold(Arc::new(Gate::new(2, Duration::from_millis(100))))));
    for _ in 0..2 {
        let response = try_get(&s3).unwrap();
        assert_eq!((response.status, response.code()), (400, "HoldTimedOut".into()));
        assert!(response.value("Message").starts_with("At most 1 of 2 requests"));
    }
}

#[test]
fn a_rule_meets_requests_only_at_its_times() {
    let s3 = server();
    let never = on_put().always().during(|_| false);
    s3.rule(never.does(Fault::status(503, "SlowDown")));
    assert_eq!(put(&s3, "/b/k", &[], b"").status, 200);
    s3.rule(on_put().always().during(|time| time < Duration::from_mins(1)).does(Fault::status(503, "SlowDown")));
    assert_eq!(put(&s3, "/b/k", &[], b"").status, 503);
}
