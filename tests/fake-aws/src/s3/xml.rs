//! An XML document of the S3 API: a writer, and a reader that is as strict as S3's.

use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::events::Event;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A writer of a document.
#[derive(Debug)]
pub(super) struct Xml {
    out: String,
}

impl Xml {
    /// Writes a document with a root element in S3's namespace.
    pub(super) fn document(root: &str, fill: impl FnOnce(&mut Self)) -> String {
        let out = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">");
        Self::closed(out, root, fill)
    }

    /// Writes an error document, which has no namespace.
    pub(super) fn error(fill: impl FnOnce(&mut Self)) -> String {
        let out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        Self::closed(out, "Error", fill)
    }

    fn closed(out: String, root: &str, fill: impl FnOnce(&mut Self)) -> String {
        let mut xml = Self { out };
        fill(&mut xml);
        xml.tag("</", root);
        xml.out
    }

    /// Writes an element with children.
    pub(super) fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.tag("<", name);
        fill(self);
        self.tag("</", name);
    }

    /// Writes an element with escaped text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.tag("<", name);
        for c in value.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                // A parser replaces a raw carriage return by a newline. XML 1.0 excludes the other control characters: S3
                // writes them as references, which most parsers refuse.
                c if c < ' ' && c != '\n' && c != '\t' => {
                    let _ = write!(self.out, "&#{};", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.tag("</", name);
    }

    /// Writes an element with an `ETag` in quotes.
    pub(super) fn etag(&mut self, etag: &str) {
        self.text("ETag", &format!("\"{etag}\""));
    }

    fn tag(&mut self, open: &str, name: &str) {
        self.out.push_str(open);
        self.out.push_str(name);
        self.out.push('>');
    }
}

/// An element of a document.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// The name without a namespace prefix.
    pub(super) name: String,
    /// The text, with resolved references and normalised line ends.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// Parses a document and returns its root, or `None` if the document is not well-formed XML 1.0.
    pub(super) fn parse(document: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(document).ok()?;
        if !text.chars().all(legal) {
            return None;
        }
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        // The first element of the stack is the document itself.
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    open.push(Self { name: start.local_name().as_ref().to_owned(), ..Self::default() });
                }
                Event::End(_) => {
                    let done = open.pop()?;
                    open.last_mut()?.children.push(done);
                }
                Event::Text(piece) => open.last_mut()?.text.push_str(&piece.xml10_content()),
                Event::CData(piece) => open.last_mut()?.text.push_str(&piece.xml10_content()),
                Event::GeneralRef(reference) => {
                    let c = match reference.resolve_char_ref().ok()? {
                        Some(c) => c,
                        None => named(&reference)?,
                    };
                    open.last_mut()?.text.push(Some(c).filter(|c| legal(*c))?);
                }
                // S3 refuses document types, because they can declare entities.
                Event::DocType(_) => return None,
                Event::Eof => break,
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        let mut document = open.pop()?;
        let whole = open.is_empty() && document.text.trim().is_empty();
        let root = document.children.pop()?;
        (whole && document.children.is_empty()).then_some(root)
    }

    /// The children with this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child with this name.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }
}

/// Whether XML 1.0 allows a character (production 2, `Char`).
fn legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn named(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        let element = Element::parse(format!("<Object><Key>{text}</Key></Object>").as_bytes())?;
        element.text_of("Key").map(str::to_owned)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let name = "a & b <c> \"d\"\r\n é";
        let document = Xml::document("Object", |xml| xml.text("Key", name));
        let element = Element::parse(document.as_bytes()).unwrap();
        assert_eq!(element.text_of("Key"), Some(name));
    }

    #[test]
    fn a_raw_return_is_read_as_a_newline_but_a_reference_is_kept() {
        assert_eq!(key("a\rb\r\nc").as_deref(), Some("a\nb\nc"));
        assert_eq!(key("a&#13;b").as_deref(), Some("a\rb"));
    }

    #[test]
    fn a_character_that_xml_excludes_makes_the_document_invalid() {
        for text in ["\u{1}", "\u{FFFE}", "&#1;", "&#xFFFF;", "&unknown;", "&"] {
            assert_eq!(key(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_incomplete_document_is_refused() {
        for document in ["", "<a>", "<a></b>", "<a/><b/>", "<a/>text", "<!DOCTYPE a><a/>", "</a>"] {
            assert!(Element::parse(document.as_bytes()).is_none(), "{document}");
        }
    }
}
