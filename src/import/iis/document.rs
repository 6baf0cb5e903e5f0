//! The bytes of an `applicationHost.config` as a tree of elements, within limits.
//!
//! The file comes from another machine, so nothing in it is trusted. A document type is refused before anything in it is read:
//! there are then no entities to expand and no other file to open. Depth, elements and attributes are counted, since the tree
//! takes far more memory than its text.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::base::text::escape;

/// How deep elements may lie in each other. IIS has a dozen levels.
const MAX_DEPTH: usize = 64;
/// How many attributes an element may have. Looking for one twice takes time with the square of this.
const MAX_ATTRIBUTES: usize = 128;
/// How many elements and attributes there may be: those of some thousand sites.
const MAX_NODES: usize = 500_000;

/// Why a file isn't a document that is read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The file has neither of the encodings that IIS and editors write.
    #[error("the file is neither UTF-8 nor UTF-16; save it as UTF-8")]
    Encoding,
    /// The file is not XML.
    #[error("line {line}, column {column}: not XML: {what}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The fault there, without characters that act on a terminal.
        what: String,
    },
    /// The file has a document type, which could define entities, and name other files.
    #[error("line {line}: the file has a document type (<!DOCTYPE), which IIS never writes")]
    DocumentType {
        /// The line, from 1.
        line: usize,
    },
    /// The tree would take more than the file is worth.
    #[error("line {line}: the file has {what}, which no configuration of IIS has")]
    TooMuch {
        /// The line, from 1.
        line: usize,
        /// The kind of thing of which there are too many.
        what: &'static str,
    },
}

/// An element with what is in it. Text is left out: IIS writes everything into attributes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The element's name.
    pub name: String,
    attributes: Vec<(String, String)>,
    /// The elements in it, in their order.
    pub children: Vec<Self>,
}

impl Element {
    /// The value of the attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let (_, value) = attributes.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// The elements in it that have this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element that this path of names leads to.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |element, name| element.all(name).next())
    }
}

/// Reads the outermost element.
///
/// # Errors
/// See [`DocumentError`].
pub fn parse(bytes: &[u8]) -> Result<Element, DocumentError> {
    let text = decode(bytes).ok_or(DocumentError::Encoding)?;
    let mut reader = Reader::from_str(&text);
    // What is open, the innermost element last; all are in the one that stands for the document.
    let mut open = vec![Element::default()];
    let mut nodes = 0;
    loop {
        let event = reader
            .read_event()
            .map_err(|error| malformed(&text, reader.error_position(), &error))?;
        let start = reader.buffer_position();
        match event {
            Event::Start(tag) => {
                if open.len() > MAX_DEPTH {
                    return Err(too_much(&text, start, "elements nested too deep"));
                }
                open.push(element(&text, start, &tag, &mut nodes)?);
            }
            Event::Empty(tag) => {
                let child = element(&text, start, &tag, &mut nodes)?;
                if let Some(parent) = open.last_mut() {
                    parent.children.push(child);
                }
            }
            // The reader has compared its name with that of the start.
            Event::End(_) => close(&mut open),
            Event::DocType(_) => {
                let (line, _) = place(&text, start);
                return Err(DocumentError::DocumentType { line });
            }
            Event::Eof => break,
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
    }
    let end = reader.buffer_position();
    let unfinished = |what: &str| malformed(&text, end, &what);
    if open.len() > 1 {
        return Err(unfinished("the file ends inside an element"));
    }
    let mut outermost = open.pop().unwrap_or_default().children.into_iter();
    match (outermost.next(), outermost.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(unfinished("there is no element")),
        (Some(_), Some(_)) => Err(unfinished("there is a second outermost element")),
    }
}

fn close(open: &mut Vec<Element>) {
    let closed = open.pop();
    if let (Some(parent), Some(closed)) = (open.last_mut(), closed) {
        parent.children.push(closed);
    }
}

fn element(
    text: &str,
    position: u64,
    tag: &BytesStart<'_>,
    nodes: &mut usize,
) -> Result<Element, DocumentError> {
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| malformed(text, position, &error))?;
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(too_much(
                text,
                position,
                "too many attributes at one element",
            ));
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| malformed(text, position, &error))?;
        attributes.push((attribute.key.into_inner().to_owned(), value.into_owned()));
    }
    *nodes += 1 + attributes.len();
    if *nodes > MAX_NODES {
        return Err(too_much(text, position, "too many elements and attributes"));
    }
    Ok(Element {
        name: tag.name().into_inner().to_owned(),
        attributes,
        children: Vec::new(),
    })
}

/// The text, decoded by the byte order mark, or, without one, by where the zero of an ASCII character in UTF-16 stands.
fn decode(bytes: &[u8]) -> Option<String> {
    let utf_16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|pair| unit(*pair));
        let text: Option<String> = char::decode_utf16(units).map(Result::ok).collect();
        text.filter(|_| rest.is_empty())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        [b'<', 0, ..] => utf_16(bytes, u16::from_le_bytes),
        [0, b'<', ..] => utf_16(bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes.to_vec()).ok(),
    }
}

fn malformed(text: &str, position: u64, what: &impl ToString) -> DocumentError {
    let (line, column) = place(text, position);
    DocumentError::Malformed {
        line,
        column,
        what: escape(what.to_string().as_bytes()),
    }
}

fn too_much(text: &str, position: u64, what: &'static str) -> DocumentError {
    let (line, _) = place(text, position);
    DocumentError::TooMuch { line, what }
}

/// The line and the column of a byte.
fn place(text: &str, position: u64) -> (usize, usize) {
    let position = usize::try_from(position).unwrap_or(usize::MAX);
    let before = &text.as_bytes()[..position.min(text.len())];
    let mut lines = before.split(|byte| *byte == b'\n');
    let last = lines.next_back().unwrap_or_default();
    let column = String::from_utf8_lossy(last).chars().count() + 1;
    (lines.count() + 1, column)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const TEXT: &str = "<?xml version=\"1.0\"?>\n<!-- Grüße -->\n\
        <a x=\"1 &amp; &#x32;\">text<b/><c y='&lt;'><b z=\"ü\"/></c><![CDATA[<d/>]]></a>\n";

    fn utf_16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn error(text: &str) -> DocumentError {
        parse(text.as_bytes()).expect_err("not a document")
    }

    #[test]
    fn elements_are_found_by_their_path_and_attributes_by_their_name() {
        let root = parse(TEXT.as_bytes()).unwrap();
        assert_eq!(root.name, "a");
        assert_eq!(root.attribute("x"), Some("1 & 2"));
        assert_eq!(root.attribute("y"), None);
        assert_eq!(root.at(&["c", "b"]).unwrap().attribute("z"), Some("ü"));
        assert_eq!(root.at(&["c", "d"]), None);
        assert_eq!(root.all("b").count(), 1);
    }

    #[test]
    fn every_encoding_that_windows_writes_is_read() {
        let expected = parse(TEXT.as_bytes()).unwrap();
        let marked = format!("\u{feff}{TEXT}");
        for bytes in [
            marked.clone().into_bytes(),
            utf_16(&marked, u16::to_le_bytes),
            utf_16(&marked, u16::to_be_bytes),
            utf_16(TEXT, u16::to_le_bytes),
            utf_16(TEXT, u16::to_be_bytes),
        ] {
            assert_eq!(parse(&bytes).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn other_encodings_are_refused() {
        let odd = [utf_16(TEXT, u16::to_le_bytes), vec![0]].concat();
        let half = [0xff, 0xfe, 0x00, 0xd8];
        for bytes in [&b"<a b=\"\xfc\"/>"[..], &odd, &half] {
            assert_eq!(parse(bytes), Err(DocumentError::Encoding));
        }
    }

    #[test]
    fn what_is_not_xml_is_told_with_its_place() {
        for (text, place) in [
            ("", "line 1, column 1: "),
            ("\nPK\u{3}\u{4}", "line 2, column 5: "),
            ("<a>\n <b></a>", "line 2, column 5: "),
            ("<a>\n<b>", "line 2, column 4: "),
            ("<a/>\n<b/>", "line 2, column 5: "),
            ("<a>\n<b c=\"1\" c=\"2\"/></a>", "line 2, "),
            ("<a>\n<b c=\"&nbsp;\"/></a>", "line 2, "),
            ("<a>\n<b c=1/></a>", "line 2, "),
            ("<a>\n<b c=\"1\n", "line 2, "),
        ] {
            let error = error(text).to_string();
            assert!(error.starts_with(place), "{text:?}: {error}");
        }
        let hostile = error("<a b=\"&\u{1b}[2J;\"/>").to_string();
        assert!(hostile.contains("\\x1b"), "{hostile}");
    }

    #[test]
    fn a_document_type_is_refused_before_it_can_do_anything() {
        let mut laughs = String::from("<!DOCTYPE a [<!ENTITY l0 \"lol\">");
        for number in 1..64 {
            let before = format!("&l{};", number - 1).repeat(10);
            laughs.push_str(&format!("<!ENTITY l{number} \"{before}\">"));
        }
        laughs.push_str("]><a b=\"&l63;\"/>");
        let begin = Instant::now();
        for text in [
            laughs.as_str(),
            "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a b=\"&x;\"/>",
            "<!DOCTYPE a SYSTEM \"http://127.0.0.1/a.dtd\"><a/>",
        ] {
            assert_eq!(error(text), DocumentError::DocumentType { line: 1 });
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
        // Nor is there an entity without one.
        assert!(matches!(
            error("<a b=\"&x;\"/>"),
            DocumentError::Malformed { .. }
        ));
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let deep = "<a>".repeat(100_000);
        let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES));
        let attributes: String = (0..100_000)
            .map(|number| format!(" a{number}=''"))
            .collect();
        let broad = format!("<a{attributes}/>");
        for (text, what) in [
            (deep, "elements nested too deep"),
            (wide, "too many elements and attributes"),
            (broad, "too many attributes at one element"),
        ] {
            assert_eq!(error(&text), DocumentError::TooMuch { line: 1, what });
        }
        let closed = format!("{}{}", "<a>".repeat(MAX_DEPTH), "</a>".repeat(MAX_DEPTH));
        assert!(parse(closed.as_bytes()).is_ok());
    }
}
