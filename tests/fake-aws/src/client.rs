//! A raw HTTP client for the tests of the servers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// Sends a request on a new connection.
pub(crate) fn send(
    server: SocketAddr,
    method: &str,
    target: &str,
    headers: Headers,
    body: &[u8],
) -> io::Result<Received> {
    let mut stream = TcpStream::connect(server)?;
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

fn parse(received: &[u8], method: &str) -> io::Result<Received> {
    let incomplete = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(incomplete)?;
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
        return Err(incomplete());
    }
    Ok(Received { status, headers, body })
}
