//! The parameters of a request: each at most once, and none that is not known, since a filter that is misspelt would filter
//! nothing.

use std::collections::BTreeMap;

/// The most that a list may be asked for.
const MAX_LIMIT: usize = 10_000;
/// How much of a list there is where nothing else is asked for.
const DEFAULT_LIMIT: usize = 1_000;

/// The parameters of one request.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads the query after the question mark.
    ///
    /// # Errors
    /// If there is one that is not `known`, or one twice: what is wrong, for people.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let known = match known {
                    [] => "there are none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                return Err(format!("unknown parameter {name:?}; {known}"));
            }
            // An empty variable of a script would choose what has no such name.
            if value.is_empty() {
                return Err(format!("parameter {name:?} is empty"));
            }
            if parameters
                .insert(name.to_string(), value.to_string())
                .is_some()
            {
                return Err(format!("parameter {name:?} is there twice"));
            }
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a parameter that has to be there.
    ///
    /// # Errors
    /// If it isn't: what is wrong, for people.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.get(name)
            .ok_or_else(|| format!("the parameter {name:?} is missing"))
    }

    /// The value of a parameter in another form, if it is there.
    ///
    /// # Errors
    /// If it isn't `what`: what is wrong, for people.
    pub fn parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, String> {
        let value = self.get(name);
        let parsed = value.map(|value| {
            let parsed = value.parse();
            parsed.map_err(|_| format!("{name}={value:?} isn't {what}"))
        });
        parsed.transpose()
    }

    /// How long a list may be.
    ///
    /// # Errors
    /// If `limit` isn't a number: what is wrong, for people.
    pub fn limit(&self) -> Result<usize, String> {
        let limit = self.parsed("limit", "a number")?;
        Ok(limit.map_or(DEFAULT_LIMIT, |limit: usize| limit.min(MAX_LIMIT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_percent_encoded() {
        let query = Query::parse(Some("user=a%26b%20c+d&limit=7"), &["user", "limit"]);
        let query = query.expect("known ones");
        assert_eq!(query.get("user"), Some("a&b c d"));
        assert_eq!(query.limit(), Ok(7));
        assert_eq!(query.get("site"), None);
    }

    #[test]
    fn what_is_misspelt_or_there_twice_is_an_error() {
        let parse = |text| Query::parse(Some(text), &["site", "limit"]);
        assert!(parse("sit=a").is_err_and(|error| error.contains("site, limit")));
        assert!(parse("site=").is_err_and(|error| error.contains("empty")));
        assert!(parse("site=a&site=b").is_err_and(|error| error.contains("twice")));
        let query = parse("limit=x").expect("a known one");
        assert!(query.limit().is_err());
        assert!(query.required("site").is_err());
        let all = parse("limit=1000000").expect("a known one").limit();
        assert_eq!(all, Ok(MAX_LIMIT));
    }
}
