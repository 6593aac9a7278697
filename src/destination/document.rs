//! A document: the XML in the body of a response.
//!
//! A proxy or a cache may send a part of a response with a length that fits. The part is then a valid beginning: a listing
//! with fewer keys, all of them in order. Only the end of the root element shows that a document is whole.

/// Proof that a document has its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct WholeDocument(());

impl WholeDocument {
    /// Reads the two ends of a body. Returns `None` if it is not XML, or if the end of the root element is missing.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let root = name_of_root(body)?;
        let mut rest = body;
        loop {
            let (before, tag) = rest.split_at(rest.iter().rposition(|&byte| byte == b'<')?);
            let text = tag.trim_ascii_end();
            // Comments and instructions may follow the root.
            let is_aside = (tag.starts_with(b"<!--") && text.ends_with(b"-->"))
                || (tag.starts_with(b"<?") && text.ends_with(b"?>"));
            if !is_aside {
                let name = if let Some(name) = text.strip_prefix(b"</") {
                    name.strip_suffix(b">")?.trim_ascii_end()
                } else {
                    // The root has no content.
                    let name = text.strip_prefix(b"<")?.strip_suffix(b"/>")?;
                    name.split(u8::is_ascii_whitespace).next()?
                };
                return (name == root).then_some(Self(()));
            }
            rest = before;
        }
    }

    #[cfg(test)]
    pub(super) const fn sample() -> Self {
        Self(())
    }
}

/// Returns the name of the root element.
fn name_of_root(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    loop {
        // S3 sends blanks while it completes an upload.
        rest = rest.trim_ascii_start();
        let end: &[u8] = if rest.starts_with(b"<!--") {
            b"-->"
        } else if rest.starts_with(b"<?") || rest.starts_with(b"<!") {
            b">"
        } else {
            break;
        };
        let at = rest.windows(end.len()).position(|window| window == end)?;
        rest = rest.get(at + end.len()..)?;
    }
    let tag = rest.strip_prefix(b"<")?;
    let length = tag.iter().position(|&byte| byte.is_ascii_whitespace() || byte == b'>' || byte == b'/')?;
    tag.get(..length).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_whole(text: &str) -> bool {
        WholeDocument::of(text.as_bytes()).is_some()
    }

    #[test]
    fn a_document_is_whole_only_with_the_end_of_its_root() {
        for whole in [
            "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3\"><Key>a</Key></ListBucketResult>",
            "\u{feff}<R><R>x</R><Rest/></R>\n",
            " \r\n<R ></R >",
            "<s3:R xmlns:s3=\"x\"><s3:Key>k</s3:Key></s3:R>",
            "<DeleteResult/>",
            "<?xml version=\"1.0\"?><DeleteResult xmlns=\"x\" />",
            "<!DOCTYPE R><!-- a > b --><R>x</R>",
        ] {
            assert!(is_whole(whole), "{whole}");
            assert!(is_whole(&format!("{whole}\n<!-- comment -->\n<?instruction?>")), "{whole}");
            // An element of the same name inside the root does not end it.
            let nested = whole.find("<Rest/>");
            for cut in (1..whole.trim_end().len()).filter(|cut| whole.is_char_boundary(*cut) && Some(*cut) != nested) {
                assert!(!is_whole(&whole[..cut]), "{cut} bytes of {whole}");
            }
        }
    }

    #[test]
    fn what_is_not_xml_is_not_a_document() {
        for text in ["", "  ", "{\"a\":1}", "ok", "plain <b>", "<", "<>", "<?xml version=\"1.0\"?>", "<!-- <R></R>"] {
            assert!(!is_whole(text), "{text}");
        }
    }
}
