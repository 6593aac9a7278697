//! A reply: status, headers and body of a response, before the delivery sends it.

use bytes::Bytes;

use super::xml::Xml;

/// A response of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Header names and values. The server adds `Date`, `Content-Length` and `x-amz-request-id`.
    pub headers: Vec<(String, String)>,
    /// The body, which the server does not send in response to HEAD.
    pub body: Bytes,
}

impl Reply {
    /// A response without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A response with an XML document.
    #[must_use]
    pub fn xml(status: u16, document: String) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/xml".to_owned())],
            body: Bytes::from(document),
        }
    }

    /// An error response in S3's format.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str, key: &str) -> Self {
        let document = Xml::error(|xml| {
            xml.text("Code", code);
            xml.text("Message", message);
            xml.text("Key", key);
        });
        Self::xml(status, document)
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds headers.
    #[must_use]
    pub fn with_all<'a>(mut self, headers: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let owned = headers.into_iter().map(|(name, value)| (name.clone(), value.clone()));
        self.headers.extend(owned);
        self
    }

    /// The value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Replaces each `ETag` in the headers and the XML by a wrong one.
    pub(super) fn with_wrong_etag(mut self) -> Self {
        const WRONG: &str = "00000000000000000000000000000bad";
        for (name, value) in &mut self.headers {
            if name.eq_ignore_ascii_case("etag") {
                *value = format!("\"{WRONG}\"");
            }
        }
        self.replace_etags(&format!("<ETag>&quot;{WRONG}&quot;</ETag>"));
        self
    }

    /// Removes each `ETag` from the headers and the XML.
    pub(super) fn without_etag(mut self) -> Self {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("etag"));
        self.replace_etags("");
        self
    }

    /// Removes the end of a document: the last entry of a list and what follows, or the end of the root element.
    pub(super) fn cut_off(mut self) -> Self {
        let end = std::str::from_utf8(&self.body).ok().filter(|text| text.starts_with("<?xml")).and_then(|text| {
            let entries = ["<Contents>", "<Part>", "<Upload>", "<Deleted>"];
            entries.iter().filter_map(|entry| text.rfind(entry)).max().or_else(|| text.rfind("</"))
        });
        if let Some(end) = end {
            self.body.truncate(end);
        }
        self
    }

    fn replace_etags(&mut self, by: &str) {
        let Some(text) = std::str::from_utf8(&self.body).ok().filter(|text| text.starts_with("<?xml")) else {
            return;
        };
        let mut pieces = text.split("<ETag>");
        let mut changed = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            changed.push_str(by);
            changed.push_str(piece.split_once("</ETag>").map_or("", |(_, rest)| rest));
        }
        self.body = Bytes::from(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_etag_replaces_those_in_header_and_xml() {
        let document = Xml::document("R", |xml| {
            xml.etag("abc");
            xml.text("Size", "1");
        });
        let reply = Reply::xml(200, document).with("ETag", "\"abc\"").with_wrong_etag();
        assert!(!format!("{reply:?}").contains("abc"));
        assert!(String::from_utf8_lossy(&reply.body).ends_with("<Size>1</Size></R>"));
    }

    #[test]
    fn a_document_is_cut_between_its_entries() {
        let reply = |names: &[&str]| {
            let document = Xml::document("R", |xml| {
                for name in names {
                    xml.node("Contents", |xml| xml.text("Key", name));
                }
            });
            Reply::xml(200, document)
        };
        let text = |reply: Reply| String::from_utf8_lossy(&reply.cut_off().body).into_owned();
        assert!(text(reply(&["a", "b"])).ends_with("<Contents><Key>a</Key></Contents>"));
        let empty = text(reply(&[]));
        assert!(empty.contains("<R ") && !empty.contains("</R>"));
        assert_eq!(Reply::empty(204).cut_off(), Reply::empty(204));
    }

    #[test]
    fn no_etag_is_left_in_header_and_xml() {
        let document = Xml::document("R", |xml| {
            xml.etag("abc");
            xml.text("Size", "1");
        });
        let reply = Reply::xml(200, document).with("ETag", "\"abc\"").without_etag();
        assert_eq!((reply.header("etag"), format!("{reply:?}").contains("ETag")), (None, false));
        assert!(String::from_utf8_lossy(&reply.body).ends_with("<Size>1</Size></R>"));
    }
}
