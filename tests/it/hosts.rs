//! The hosts that requests go to. `tests/deploy/test_hosts.py` asks the library of the AWS CLI for each row of this file,
//! and fails if it would ask for another host.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use crate::trial::Trial;

const POINT: &str = "arn:aws:s3:us-east-1:123456789012:accesspoint/www-ap";
const POINT_IN_GOVCLOUD: &str = "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/www-ap";
const POINT_IN_CHINA: &str = "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/www-ap";
const POINT_ON_OUTPOST: &str =
    "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/www-ap";
const POINT_IN_REGIONS: &str = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap";
const ALIAS: &str = "www-ap-aws4dmbhwbg7u5ic5scztjkp4vnnouse1a-s3alias";

const PLAIN: [bool; 2] = [false, false];
const DUAL_STACK: [bool; 2] = [false, true];
const FIPS: [bool; 2] = [true, false];
const BOTH: [bool; 2] = [true, true];

/// The host of the first request of a run that reaches AWS through a proxy. `fips_and_dual`: which settings are on.
fn first_host(words: &[&str], region: &str, fips_and_dual: [bool; 2]) -> String {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let (seen, hosts) = channel();
    thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let _ = seen.send(line.split(' ').nth(1).unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let trial = Trial::new();
    trial.write("a", "1");
    let source = trial.tree().display().to_string();
    let words: Vec<&str> = words.iter().map(|word| if *word == "TREE" { source.as_str() } else { *word }).collect();
    let [fips, dual] = fips_and_dual.map(|on| if on { "true" } else { "" });
    let environment = [
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_REGION", region),
        ("AWS_USE_FIPS_ENDPOINT", fips),
        ("AWS_USE_DUALSTACK_ENDPOINT", dual),
        ("HTTPS_PROXY", &url),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
    ];
    let run = trial.start_words(&words, &environment);
    let host = hosts.recv_timeout(std::time::Duration::from_mins(1)).unwrap_or_default();
    run.signal("-KILL");
    drop(run.end());
    host.trim_end_matches(":443").to_owned()
}

fn of_s3(bucket: &str, region: &str, fips_and_dual: [bool; 2], addressing: &str) -> String {
    let url = format!("s3://{bucket}/www");
    first_host(&["sync", "TREE", &url, "--retries", "0", "--addressing", addressing], region, fips_and_dual)
}

/// Runs each row in a thread of a few.
fn check<R: Sync>(rows: &[(R, &str)], host: impl Fn(&R) -> String + Sync) {
    let wrong = std::sync::Mutex::new(Vec::new());
    let host = &host;
    for some in rows.chunks(4) {
        thread::scope(|scope| {
            for (row, expected) in some {
                let wrong = &wrong;
                scope.spawn(move || {
                    let found = host(row);
                    if found != *expected {
                        wrong.lock().unwrap().push(format!("{found}, not {expected}"));
                    }
                });
            }
        });
    }
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn hosts_of_s3_are_those_of_the_aws_cli() {
    let rows = [
        (("site", "us-east-1", PLAIN, "auto"), "site.s3.us-east-1.amazonaws.com"),
        (("site", "us-east-1", DUAL_STACK, "auto"), "site.s3.dualstack.us-east-1.amazonaws.com"),
        (("site", "us-east-1", FIPS, "auto"), "site.s3-fips.us-east-1.amazonaws.com"),
        (("site", "us-east-1", BOTH, "auto"), "site.s3-fips.dualstack.us-east-1.amazonaws.com"),
        (("site", "eu-west-1", PLAIN, "auto"), "site.s3.eu-west-1.amazonaws.com"),
        (("site", "eu-west-1", DUAL_STACK, "auto"), "site.s3.dualstack.eu-west-1.amazonaws.com"),
        (("site", "us-gov-west-1", PLAIN, "auto"), "site.s3.us-gov-west-1.amazonaws.com"),
        (("site", "us-gov-west-1", DUAL_STACK, "auto"), "site.s3.dualstack.us-gov-west-1.amazonaws.com"),
        (("site", "us-gov-west-1", FIPS, "auto"), "site.s3-fips.us-gov-west-1.amazonaws.com"),
        (("site", "us-gov-west-1", BOTH, "auto"), "site.s3-fips.dualstack.us-gov-west-1.amazonaws.com"),
        (("site", "us-gov-east-1", FIPS, "auto"), "site.s3-fips.us-gov-east-1.amazonaws.com"),
        (("site", "cn-north-1", PLAIN, "auto"), "site.s3.cn-north-1.amazonaws.com.cn"),
        (("site", "cn-north-1", DUAL_STACK, "auto"), "site.s3.dualstack.cn-north-1.amazonaws.com.cn"),
        (("my.site", "eu-west-1", PLAIN, "auto"), "s3.eu-west-1.amazonaws.com"),
        (("my.site", "us-gov-west-1", FIPS, "auto"), "s3-fips.us-gov-west-1.amazonaws.com"),
        (("Old_Bucket", "us-east-1", PLAIN, "auto"), "s3.us-east-1.amazonaws.com"),
        (("Old_Bucket", "us-east-1", BOTH, "auto"), "s3-fips.dualstack.us-east-1.amazonaws.com"),
        (("site", "us-east-1", PLAIN, "path"), "s3.us-east-1.amazonaws.com"),
        (("site", "eu-west-1", PLAIN, "virtual"), "site.s3.eu-west-1.amazonaws.com"),
        (("site", "eu-west-1", PLAIN, "path"), "s3.eu-west-1.amazonaws.com"),
        (("site", "eu-west-1", DUAL_STACK, "path"), "s3.dualstack.eu-west-1.amazonaws.com"),
        (("site", "us-gov-west-1", FIPS, "path"), "s3-fips.us-gov-west-1.amazonaws.com"),
        (("site", "us-gov-west-1", BOTH, "path"), "s3-fips.dualstack.us-gov-west-1.amazonaws.com"),
        (
            (ALIAS, "eu-west-1", PLAIN, "auto"),
            "www-ap-aws4dmbhwbg7u5ic5scztjkp4vnnouse1a-s3alias.s3.eu-west-1.amazonaws.com",
        ),
        (
            (ALIAS, "us-gov-west-1", FIPS, "auto"),
            "www-ap-aws4dmbhwbg7u5ic5scztjkp4vnnouse1a-s3alias.s3-fips.us-gov-west-1.amazonaws.com",
        ),
    ];
    check(&rows, |(bucket, region, settings, addressing)| of_s3(bucket, region, *settings, addressing));
}

#[test]
fn hosts_of_access_points_are_those_of_the_aws_cli() {
    let rows = [
        ((POINT, "us-east-1", PLAIN, "auto"), "www-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com"),
        ((POINT, "us-east-1", PLAIN, "path"), "www-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com"),
        ((POINT, "", PLAIN, "auto"), "www-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com"),
        ((POINT, "eu-west-1", PLAIN, "auto"), "www-ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com"),
        (
            (POINT, "us-east-1", DUAL_STACK, "auto"),
            "www-ap-123456789012.s3-accesspoint.dualstack.us-east-1.amazonaws.com",
        ),
        ((POINT, "us-east-1", FIPS, "auto"), "www-ap-123456789012.s3-accesspoint-fips.us-east-1.amazonaws.com"),
        (
            (POINT, "us-east-1", BOTH, "auto"),
            "www-ap-123456789012.s3-accesspoint-fips.dualstack.us-east-1.amazonaws.com",
        ),
        (
            (POINT_IN_GOVCLOUD, "us-gov-west-1", FIPS, "auto"),
            "www-ap-123456789012.s3-accesspoint-fips.us-gov-west-1.amazonaws.com",
        ),
        (
            (POINT_IN_GOVCLOUD, "us-gov-west-1", BOTH, "auto"),
            "www-ap-123456789012.s3-accesspoint-fips.dualstack.us-gov-west-1.amazonaws.com",
        ),
        (
            (POINT_IN_GOVCLOUD, "us-gov-west-1", PLAIN, "path"),
            "www-ap-123456789012.s3-accesspoint.us-gov-west-1.amazonaws.com",
        ),
        (
            (POINT_IN_CHINA, "cn-north-1", PLAIN, "auto"),
            "www-ap-123456789012.s3-accesspoint.cn-north-1.amazonaws.com.cn",
        ),
        (
            (POINT_ON_OUTPOST, "us-east-1", PLAIN, "auto"),
            "www-ap-123456789012.op-01ac5d28a6a232904.s3-outposts.us-west-2.amazonaws.com",
        ),
        ((POINT_IN_REGIONS, "us-east-1", PLAIN, "auto"), "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"),
    ];
    check(&rows, |(bucket, region, settings, addressing)| of_s3(bucket, region, *settings, addressing));
}

#[test]
fn hosts_of_datasync_are_those_of_the_aws_cli() {
    let rows = [
        (("aws", "us-east-1", PLAIN), "datasync.us-east-1.amazonaws.com"),
        (("aws", "us-east-1", DUAL_STACK), "datasync.us-east-1.api.aws"),
        (("aws", "ca-central-1", FIPS), "datasync-fips.ca-central-1.amazonaws.com"),
        (("aws", "us-east-1", BOTH), "datasync-fips.us-east-1.api.aws"),
        (("aws-us-gov", "us-gov-west-1", PLAIN), "datasync.us-gov-west-1.amazonaws.com"),
        (("aws-us-gov", "us-gov-west-1", FIPS), "datasync-fips.us-gov-west-1.amazonaws.com"),
        (("aws-us-gov", "us-gov-west-1", DUAL_STACK), "datasync.us-gov-west-1.api.aws"),
        (("aws-us-gov", "us-gov-west-1", BOTH), "datasync-fips.us-gov-west-1.api.aws"),
        (("aws-us-gov", "us-gov-east-1", FIPS), "datasync-fips.us-gov-east-1.amazonaws.com"),
        (("aws-cn", "cn-north-1", PLAIN), "datasync.cn-north-1.amazonaws.com.cn"),
        (("aws-cn", "cn-north-1", DUAL_STACK), "datasync.cn-north-1.api.amazonwebservices.com.cn"),
    ];
    check(&rows, |(partition, region, settings)| {
        let task = format!("arn:{partition}:datasync:{region}:123456789012:task/task-0123456789abcdef0");
        first_host(&["run", "--task-arn", &task, "--source", "TREE", "s3://site/www"], region, *settings)
    });
}
