//! The `aws-chunked` framing: chunks with a size line each, and a trailer that can contain a checksum.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::refusal::Refusal;

/// Whether a body with these headers is framed.
pub(super) fn is_framed(headers: &BTreeMap<String, String>) -> bool {
    let has = |name, part| headers.get(name).is_some_and(|value: &String| value.contains(part));
    has("content-encoding", "aws-chunked") || has("x-amz-content-sha256", "STREAMING-")
}

/// Removes the framing of a body, and adds the checksums of the trailer to the headers.
pub(super) fn decode(framed: &Bytes, headers: &mut BTreeMap<String, String>) -> Result<Bytes, Refusal> {
    let (body, trailer) = unframe(framed).ok_or_else(incomplete)?;
    let promised = headers.get("x-amz-decoded-content-length");
    if promised.is_some_and(|length| length.parse() != Ok(body.len())) {
        return Err(incomplete());
    }
    let trailer = String::from_utf8_lossy(&trailer);
    for line in trailer.split("\r\n") {
        if let Some((name, value)) = line.split_once(':') {
            let name = name.trim().to_ascii_lowercase();
            if name.starts_with("x-amz-checksum-") {
                headers.insert(name, value.trim().to_owned());
            }
        }
    }
    Ok(body)
}

fn unframe(framed: &Bytes) -> Option<(Bytes, Bytes)> {
    let mut rest = framed.clone();
    let mut body = BytesMut::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = rest.split_to(end);
        rest = rest.split_off(2);
        // `;chunk-signature=…` can follow the size. The server accepts any signature.
        let size = std::str::from_utf8(&line).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some((body.freeze(), rest));
        }
        if rest.len() < size.checked_add(2)? {
            return None;
        }
        body.extend_from_slice(&rest.split_to(size));
        if rest.split_to(2) != b"\r\n".as_slice() {
            return None;
        }
    }
}

fn incomplete() -> Refusal {
    let message = "The request body is not what its framing and length headers say";
    Refusal::new(400, "IncompleteBody", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(framed: &'static [u8], length: &str) -> Option<(Bytes, BTreeMap<String, String>)> {
        let name = "x-amz-decoded-content-length".to_owned();
        let mut headers = BTreeMap::from([(name, length.to_owned())]);
        let body = decode(&Bytes::from_static(framed), &mut headers).ok()?;
        Some((body, headers))
    }

    #[test]
    fn chunks_are_joined_and_the_trailing_checksum_becomes_a_header() {
        let framed = b"3;chunk-signature=0\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let (body, headers) = decoded(framed, "5").unwrap();
        assert_eq!(body, "abcde");
        assert_eq!(headers["x-amz-checksum-crc32"], "AAAAAA==");
    }

    #[test]
    fn a_body_that_breaks_off_or_has_another_length_is_refused() {
        assert!(decoded(b"3\r\nab", "3").is_none());
        assert!(decoded(b"3\r\nabcd\r\n0\r\n\r\n", "3").is_none());
        assert!(decoded(b"3\r\nabc\r\n0\r\n\r\n", "4").is_none());
        assert!(decoded(b"3\r\nabc\r\n0\r\n\r\n", "3").is_some());
    }
}
