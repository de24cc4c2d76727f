//! The query of a request: names and values that are bytes, since keys are.

use groundswell::{Cursor, KvAuthor, KvFilter, KvKey, Name, Path};
use percent_encoding::percent_decode;

use crate::problem::Problem;

/// The fields of a query, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Takes a query apart as a form is: `&` between fields, `+` for a space, `%` and two digits for a byte.
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let fields = query.split('&').filter(|field| !field.is_empty());
        let parsed = fields.map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let name = String::from_utf8(decode(name)?).map_err(|_| Problem::bad("a field's name is not UTF-8"))?;
            Ok((name, decode(value)?))
        });
        Ok(Self(parsed.collect::<Result<_, Problem>>()?))
    }

    /// Refuses fields that mean nothing here, so that a misspelt one does not pass for one that was left out.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Problem::bad(format!("unknown field `{name}` in the query: it takes {}", known.join(", "))))
            }
        }
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// The one value of a field.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<&[u8]>, Problem> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Problem::bad(format!("`{name}` stands twice in the query: once is enough"))),
            (value, None) => Ok(value),
        }
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let text = self.bytes(name)?.map(std::str::from_utf8).transpose();
        text.map_err(|_| Problem::bad(format!("`{name}` is not UTF-8")))
    }

    /// The same, which has to be there.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Problem> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::bad(format!("`{name}` is to be a whole number, and is `{text}`")))
    }

    /// Yes or no; no where it is left out.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Problem::bad(format!("`{name}` is to be `true` or `false`, and is `{other}`"))),
        }
    }

    /// The key that is meant.
    pub(crate) fn key(&self) -> Result<KvKey, Problem> {
        let key = self.bytes("key")?.ok_or_else(|| missing("key"))?;
        KvKey::new(key).map_err(|error| groundswell::KvError::from(error).into())
    }

    /// The agent that is meant; `main` where none is named.
    pub(crate) fn agent(&self) -> Result<Name, Problem> {
        Ok(Name::new(self.text("agent")?.unwrap_or(crate::lakes::DEFAULT_AGENT))?)
    }

    /// The path that is meant.
    pub(crate) fn path(&self) -> Result<Path, Problem> {
        Ok(Path::new(self.needed("path")?)?)
    }

    /// The filter that the fields `key`, `prefix`, `start`, `end` and `author` say.
    pub(crate) fn filter(&self) -> Result<KvFilter, Problem> {
        use std::ops::Bound;
        let key_of = |bytes: &[u8]| KvKey::new(bytes).map_err(groundswell::KvError::from);
        let mut any = Vec::new();
        for key in self.all("key") {
            any.push(KvFilter::Key(key_of(key)?));
        }
        any.extend(self.all("prefix").map(KvFilter::prefix));
        let (start, end) = (self.bytes("start")?, self.bytes("end")?);
        if start.is_some() || end.is_some() {
            let start = start.map(key_of).transpose()?.map_or(Bound::Unbounded, Bound::Included);
            let end = end.map(key_of).transpose()?.map_or(Bound::Unbounded, Bound::Excluded);
            any.push(KvFilter::Range(start, end));
        }
        let by_key = if any.len() > 1 { Some(KvFilter::AnyOf(any)) } else { any.pop() };
        let author = match self.text("author")? {
            None => None,
            Some("machine") => Some(KvAuthor::Machine),
            Some("manager") => Some(KvAuthor::Manager),
            Some(other) => return Err(Problem::bad(format!("`author` is machine or manager, and not `{other}`"))),
        };
        Ok(match (by_key, author) {
            (None, None) => KvFilter::All,
            (Some(filter), None) => filter,
            (None, Some(author)) => KvFilter::Author(author),
            (Some(filter), Some(author)) => {
                KvFilter::predicate(move |entry| entry.author == author && filter.matches(entry))
            }
        })
    }
}

/// The fields of [`Query::filter`].
pub(crate) const FILTER_FIELDS: &[&str] = &["key", "prefix", "start", "end", "author"];

/// The cursor that a text stands for. One that is none stands for a place that no store has, so that its
/// reader is told to begin anew: a browser that was refused would not come back.
pub(crate) fn cursor(text: &str) -> Cursor {
    let nowhere = Cursor { epoch: groundswell::Epoch([0; 16]), aeon: groundswell::Aeon(1) };
    text.parse().unwrap_or(nowhere)
}

fn missing(name: &str) -> Problem {
    Problem::bad(format!("the query needs `{name}=`"))
}

fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    let escapes = spaced.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in escapes {
        if !spaced.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Problem::bad("a `%` in the query is not followed by two hexadecimal digits: write it as %25"));
        }
    }
    Ok(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_has_an_encoding_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let encoded: String = all.iter().map(|byte| format!("%{byte:02x}")).collect();
        let query = Query::parse(&format!("key={encoded}&other=")).unwrap();
        assert_eq!(query.bytes("key").unwrap(), Some(&*all));
        assert_eq!(query.bytes("other").unwrap(), Some(&[][..]), "an empty value is one");
        assert_eq!(query.bytes("none").unwrap(), None);
    }

    #[test]
    fn a_key_reads_as_browsers_and_curl_write_it() {
        for written in ["a%20b%2Fc%2B", "a+b/c%2B", "a%20b/c%2b"] {
            let query = Query::parse(&format!("key={written}")).unwrap();
            assert_eq!(query.key().unwrap().as_bytes(), b"a b/c+", "{written}");
        }
        for dots in [".", "..", "%2e%2E"] {
            assert!(Query::parse(&format!("key={dots}")).unwrap().key().is_ok());
        }
    }

    #[test]
    fn what_can_be_misunderstood_is_refused() {
        for broken in ["key=%", "key=%2", "key=%zz", "%ff=1"] {
            assert!(Query::parse(broken).is_err(), "{broken}");
        }
        let twice = Query::parse("key=a&key=b").unwrap();
        assert!(twice.key().is_err());
        assert_eq!(twice.all("key").count(), 2);
        assert!(twice.only(&["kay"]).unwrap_err().detail.contains("kay"));
        let long = format!("key={}", "a".repeat(1_025));
        assert!(Query::parse(&long).unwrap().key().is_err());
        assert!(Query::parse(&long[..long.len() - 1]).unwrap().key().is_ok());
        assert!(Query::parse("author=me").unwrap().filter().is_err());
    }

    #[test]
    fn filters_match_what_they_say() {
        let entry = |key: &str, author| groundswell::KvEntry {
            key: KvKey::new(key).unwrap(),
            value: bytes::Bytes::new(),
            author,
            timestamp: 0,
        };
        let filter = |query: &str| Query::parse(query).unwrap().filter().unwrap();
        let (ours, theirs) = (entry("slot/1", KvAuthor::Machine), entry("price/1", KvAuthor::Manager));
        assert!(filter("").matches(&ours));
        assert!(
            filter("prefix=slot/&key=price/1").matches(&ours) && filter("prefix=slot/&key=price/1").matches(&theirs)
        );
        assert!(!filter("prefix=slot/&author=manager").matches(&ours));
        assert!(filter("prefix=slot/&author=machine").matches(&ours));
        assert!(filter("start=price/1&end=price/2").matches(&theirs) && !filter("end=price/1").matches(&theirs));
    }
}
