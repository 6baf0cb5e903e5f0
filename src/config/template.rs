//! The template for the user name that a backend gets.

use std::str::FromStr;

/// A template for the user name that a backend gets: literal text with `{user}` and `{host}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTemplate {
    /// In the order in which they are put together.
    pub parts: Vec<TemplatePart>,
}

/// A piece of a [`UserTemplate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text that is sent as it is.
    Literal(String),
    /// What the client gave as user, byte for byte.
    User,
    /// The host by which the client was routed; for a login that named none, the site's first host without a wildcard.
    Host,
}

/// Why a text isn't a [`UserTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template would send an empty user name.
    #[error("the template is empty")]
    Empty,
    /// Something else than `user` or `host` in braces.
    #[error("unknown placeholder `{{{0}}}`")]
    UnknownPlaceholder(String),
    /// `{` without `}`, or the other way round.
    #[error("a `{0}` without its counterpart")]
    UnmatchedBrace(char),
    /// A line end in a user name would be a second command; no server takes the other control characters.
    #[error("a control character in the template")]
    ControlCharacter,
}

impl UserTemplate {
    /// Puts the template together for one login. `user` goes in byte for byte, whatever it contains.
    pub fn render(&self, user: &[u8], host: &str) -> Vec<u8> {
        let mut rendered = Vec::with_capacity(user.len() + host.len() + 1);
        for part in &self.parts {
            rendered.extend_from_slice(match part {
                TemplatePart::Literal(text) => text.as_bytes(),
                TemplatePart::User => user,
                TemplatePart::Host => host.as_bytes(),
            });
        }
        rendered
    }

    /// Whether the template contains the host.
    pub fn names_host(&self) -> bool {
        self.parts.contains(&TemplatePart::Host)
    }
}

impl Default for UserTemplate {
    /// `{user}`
    fn default() -> Self {
        Self {
            parts: vec![TemplatePart::User],
        }
    }
}

impl FromStr for UserTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.contains(char::is_control) {
            return Err(TemplateError::ControlCharacter);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (literal, placeholder) = rest.split_at(brace);
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(literal.to_owned()));
            }
            let inside = placeholder
                .strip_prefix('{')
                .ok_or(TemplateError::UnmatchedBrace('}'))?;
            let (name, after) = inside
                .split_once('}')
                .ok_or(TemplateError::UnmatchedBrace('{'))?;
            parts.push(match name {
                "user" => TemplatePart::User,
                "host" => TemplatePart::Host,
                other => return Err(TemplateError::UnknownPlaceholder(other.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> Result<String, TemplateError> {
        let template: UserTemplate = template.parse()?;
        Ok(String::from_utf8(template.render(b"alice", "ftpb.lab")).expect("ASCII in, ASCII out"))
    }

    #[test]
    fn placeholders_and_text_come_out_in_order() {
        assert_eq!(rendered("{user}").as_deref(), Ok("alice"));
        assert_eq!(rendered("{host}|{user}").as_deref(), Ok("ftpb.lab|alice"));
        assert_eq!(
            rendered("CORP\\{user}@{host}!").as_deref(),
            Ok("CORP\\alice@ftpb.lab!")
        );
    }

    #[test]
    fn the_user_is_opaque() {
        let template: UserTemplate = "{host}|{user}".parse().expect("a template");
        assert_eq!(template.render(b"{host}\xff|\\@", "h"), b"h|{host}\xff|\\@");
    }

    #[test]
    fn what_is_no_template_is_named() {
        assert_eq!(rendered(""), Err(TemplateError::Empty));
        assert_eq!(
            rendered("{username}"),
            Err(TemplateError::UnknownPlaceholder("username".into()))
        );
        assert_eq!(rendered("{user"), Err(TemplateError::UnmatchedBrace('{')));
        assert_eq!(rendered("user}"), Err(TemplateError::UnmatchedBrace('}')));
        assert_eq!(
            rendered("{user}\r\nSITE EXEC"),
            Err(TemplateError::ControlCharacter)
        );
    }
}
