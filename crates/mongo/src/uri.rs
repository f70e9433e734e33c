//! The connection string: a secret.

use std::fmt;

use mongodb::options::ConnectionString;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Longer ones are refused; a set of fifty members with long names stays far below.
const URI_BYTES_MAX: usize = 16 * 1024;
/// Options that tell a reader where and how, and can hold no secret. All others are left out when a URI is shown.
const OPTIONS_SHOWN: [&str; 12] = [
    "authmechanism",
    "authsource",
    "connecttimeoutms",
    "directconnection",
    "readpreference",
    "replicaset",
    "serverselectiontimeoutms",
    "ssl",
    "tls",
    "tlsallowinvalidcertificates",
    "tlscafile",
    "tlscertificatekeyfile",
];

const ENCODE: &str =
    "malformed; characters such as : / ? # [ ] @ in user name, password and options must be percent-encoded";

/// A connection string that is known to be well formed. Never shown whole: see [`Uri::display_redacted`].
#[derive(Clone, PartialEq, Eq)]
pub struct Uri(Zeroizing<String>);

impl Uri {
    /// Checks the form, and nothing over the network.
    ///
    /// # Errors
    /// [`Error::InvalidUri`], without quoting what may be a password.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > URI_BYTES_MAX {
            return Err(Error::InvalidUri(format!("longer than {URI_BYTES_MAX} bytes")));
        }
        if !text.starts_with("mongodb://") && !text.starts_with("mongodb+srv://") {
            return Err(Error::InvalidUri(
                "it begins neither with mongodb:// nor with mongodb+srv://".to_owned(),
            ));
        }
        // The driver's parser panics on a percent sign before a character of several bytes.
        if !percent_signs_are_whole(text) {
            return Err(Error::InvalidUri(
                "a % is not followed by two hexadecimal digits; write a plain % as %25".to_owned(),
            ));
        }
        // Either an unescaped ? in a password, which would then be taken for options and shown, or carelessness.
        if text.split_once('?').is_some_and(|(_, options)| options.contains('@')) {
            return Err(Error::InvalidUri(ENCODE.to_owned()));
        }
        ConnectionString::parse(text).map_err(|error| Error::InvalidUri(reason(text, &error)))?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The whole text, password included: for sealing and for connecting.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text without user, password, and options that may hold secrets.
    pub fn display_redacted(&self) -> String {
        let (before, options) = self.0.split_once('?').unwrap_or((&self.0, ""));
        let (scheme, rest) = before.split_once("://").unwrap_or(("mongodb", ""));
        let (user, rest) = match rest.rsplit_once('@') {
            Some((_, rest)) => ("***@", rest),
            None => ("", rest),
        };
        let shown = |option: &&str| {
            let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
            OPTIONS_SHOWN.contains(&name.as_str())
        };
        let options: Vec<&str> = options.split('&').filter(shown).collect();
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{scheme}://{user}{rest}{mark}{}", options.join("&"))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({})", self.display_redacted())
    }
}

fn percent_signs_are_whole(text: &str) -> bool {
    let digits = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(digits)
}

/// The parser's own words quote parts of the text, and with a `@` or `:` that should have been percent-encoded such a
/// part may be half of a password. So they are passed on only where they are the same without any user information.
fn reason(text: &str, error: &mongodb::error::Error) -> String {
    let words = |error: &mongodb::error::Error| match error.kind.as_ref() {
        mongodb::error::ErrorKind::InvalidArgument { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let Some((before, after)) = text.rsplit_once('@') else {
        return words(error);
    };
    let scheme = before.split_once("://").map_or("mongodb", |(scheme, _)| scheme);
    match ConnectionString::parse(format!("{scheme}://{after}")) {
        Err(same) if !after.to_ascii_lowercase().contains("password") => words(&same),
        _ => ENCODE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_where_and_never_who() {
        let text =
            "mongodb://ann:s3cret@h1:1,h2:2/admin?replicaSet=rs0&authMechanismProperties=TOKEN:x&tls=true";
        let uri = Uri::parse(text).unwrap();
        assert_eq!(uri.display_redacted(), "mongodb://***@h1:1,h2:2/admin?replicaSet=rs0&tls=true");
        assert_eq!(uri.expose(), text);
        assert!(!format!("{uri:?}").contains("s3cret") && !format!("{uri:?}").contains("ann"));
        assert_eq!(Uri::parse("mongodb://h").unwrap().display_redacted(), "mongodb://h");
    }

    #[test]
    fn errors_do_not_quote_passwords() {
        for text in [
            "mongodb://ann:s3c@ret:word@host:1/",
            "mongodb://ann:s3cret/x@host",
            "mongodb://ann:s3cret@host:port",
        ] {
            if let Err(error) = Uri::parse(text) {
                assert!(!error.to_string().contains("s3c"), "{error}");
            }
        }
        let text = "mongodb://ann:12?a=s3c@host";
        assert!(!Uri::parse(text).unwrap_err().to_string().contains("s3c"));
        // What is wrong elsewhere is told all the same.
        let error = Uri::parse("mongodb://ann:s3cret@host/?connectTimeoutMS=soon").unwrap_err().to_string();
        assert!(error.to_ascii_lowercase().contains("connecttimeoutms") && !error.contains("s3c"), "{error}");
        for text in ["mongodb://%ࠀ0@h", "mongodb://a%2@h", "mongodb://h/?appName=%"] {
            assert!(matches!(Uri::parse(text), Err(Error::InvalidUri(_))), "{text}");
        }
        for text in ["", "http://h", "mongodb://", "mongodb://h:x", "mongodb://h/?replicaSet"] {
            assert!(matches!(Uri::parse(text), Err(Error::InvalidUri(_))), "{text}");
        }
        assert!(Uri::parse(&format!("mongodb://{}", "h".repeat(20_000))).is_err());
    }

    proptest! {
        #[test]
        fn no_password_survives_redaction(user in "[a-z]{1,8}", password in "[A-Z0-9]{8,16}", option in "[A-Z]{8}") {
            let text = format!("mongodb://{user}:{password}@host:27017/?appName={option}");
            let uri = Uri::parse(&text).unwrap();
            prop_assert!(!uri.display_redacted().contains(&password));
            prop_assert!(!uri.display_redacted().contains(&option));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,80}") {
            let _ = Uri::parse(&text).map(|uri| uri.display_redacted());
            let _ = Uri::parse(&format!("mongodb://{text}")).map(|uri| uri.display_redacted());
        }
    }
}
