//! Tests of the server over raw HTTP, by area.

mod deletes;
mod faults;
mod listing;
mod multipart;
mod objects;
mod settings;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use aws_smithy_types::base64;

use super::checksum::md5;
use super::xml::Element;
use super::*;
use crate::client::{self, Headers, Received};

impl Received {
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

fn send(s3: &S3Server, method: &str, target: &str, headers: Headers, body: &[u8]) -> io::Result<Received> {
    client::send(s3.listener.address, method, target, headers, body)
}

fn get(s3: &S3Server, target: &str) -> Received {
    send(s3, "GET", target, &[], b"").unwrap()
}

fn put(s3: &S3Server, target: &str, headers: Headers, body: &[u8]) -> Received {
    send(s3, "PUT", target, headers, body).unwrap()
}

fn content_md5(body: &[u8]) -> String {
    base64::encode(md5(body))
}
