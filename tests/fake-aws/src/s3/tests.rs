//! Tests of the server over raw HTTP, by area.

mod deletes;
mod faults;
mod listing;
mod multipart;
mod objects;
mod settings;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aws_smithy_types::base64;

use super::checksum::md5;
use super::xml::Element;
use super::*;

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn xml(&self) -> Element {
        Element::parse(&self.body).unwrap()
    }

    /// The text of the first element with this name.
    fn value(&self, name: &str) -> String {
        self.xml().text_of(name).unwrap_or_default().to_owned()
    }

    /// The `Key` (or another child) of each such element.
    fn each(&self, name: &str, child: &str) -> Vec<String> {
        let text = |element: &Element| element.text_of(child).unwrap_or_default().to_owned();
        self.xml().all(name).map(text).collect()
    }

    fn code(&self) -> String {
        self.value("Code")
    }
}

/// A server with an empty bucket `b`.
fn server() -> S3Server {
    let s3 = S3Server::start_blocking().unwrap();
    s3.create_bucket("b");
    s3
}

type Headers<'a> = &'a [(&'a str, &'a str)];

fn send(s3: &S3Server, method: &str, target: &str, headers: Headers, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(s3.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n").into_bytes();
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding")) {
        write!(request, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    parse(&received, method)
}

fn parse(received: &[u8], method: &str) -> io::Result<Answer> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(cut)?;
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body = received[end + 4..].to_vec();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    if method != "HEAD" && body.len() != length {
        return Err(cut());
    }
    Ok(Answer { status, headers, body })
}

fn get(s3: &S3Server, target: &str) -> Answer {
    send(s3, "GET", target, &[], b"").unwrap()
}

fn put(s3: &S3Server, target: &str, headers: Headers, body: &[u8]) -> Answer {
    send(s3, "PUT", target, headers, body).unwrap()
}

fn content_md5(body: &[u8]) -> String {
    base64::encode(md5(body))
}
